"""What a long-running function says while it works; each face shows it in its own way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, Protocol

Level = Literal["info", "warn", "error"]


class ProgressBar(Protocol):
    """One bar."""

    def advance(self, steps: float = 1) -> None:
        """Move the bar forward by ``steps`` of its total."""
        ...


class Progress(Protocol):
    """Where work reports to. Implementations must be cheap to call from a training loop."""

    def task(self, description: str, total: float | None) -> AbstractContextManager[ProgressBar]:
        """Open a bar for the length of a ``with`` block; ``total`` None means unknown."""
        ...

    def event(self, message: str, *, level: Level = "info", data: Mapping[str, Any] | None = None) -> None:
        """Tell one thing that happened; ``data`` carries numbers such as ``step`` and ``train_loss``."""
        ...


class SilentBar:
    """Shows nothing."""

    def advance(self, steps: float = 1) -> None:
        """Do nothing."""


class Silent:
    """Says nothing."""

    @contextmanager
    def task(self, description: str, total: float | None) -> Iterator[ProgressBar]:
        """Open nothing."""
        yield SilentBar()

    def event(self, message: str, *, level: Level = "info", data: Mapping[str, Any] | None = None) -> None:
        """Drop the event."""
