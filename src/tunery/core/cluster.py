"""The Ray cluster that work is spread over."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tunery.core.errors import ConfigError


def connect(setting: str) -> Any:
    """Return the ``ray`` module, connected to the cluster that ``RAY_ADDRESS`` names, else to one of this
    machine.

    Args:
        setting: What asked for it, such as ``data.engine``.

    Raises:
        ConfigError: Ray is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise ConfigError(
            f"{setting} is ray, but Ray is not installed", hint="pip install 'tunery[ray]'", param=setting
        ) from None
    if not ray.is_initialized():
        with _own_signals():
            ray.init(
                address=os.environ.get("RAY_ADDRESS"),
                log_to_driver=False,
                include_dashboard=False,
                logging_level=logging.ERROR,
            )
    return ray


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's answers to Ctrl-C and SIGTERM, in whose place Ray would set some that end it."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    here = threading.current_thread() is threading.main_thread()  # signals are the main thread's
    before = {number: signal.getsignal(number) for number in numbers} if here else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
