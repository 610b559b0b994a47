"""SIGTERM as an exception."""

from __future__ import annotations


class Terminated(KeyboardInterrupt):
    """SIGTERM; whoever cleans up after a Ctrl-C cleans up after it too."""
