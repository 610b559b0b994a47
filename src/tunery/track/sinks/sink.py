"""What a sink declares, and what a run hands to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from tunery.core.config import Settings

Parameter = str | int | float | bool | None
Status = Literal["finished", "failed", "stopped"]
"""``finished`` whatever the gate said; ``stopped`` where somebody ended it."""


class TrackedRun(NamedTuple):
    """What is known of a run before its first metric."""

    id: str
    """The same whenever the run goes on, so that a sink can go on with what it has."""
    name: str
    """Of the recipe."""
    parameters: Mapping[str, Parameter]
    """Settings by dotted path, without secrets."""
    tags: Mapping[str, str]
    """``dataset_version``, ``base`` and the like."""
    folder: Path
    """Existing folder of this run's own, for sinks that write files."""


class Sink(Protocol):
    """One run in one tracker; called from one thread of its own, and free to raise anything."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write numbers of one training step; of step 0 those that no step has."""
        ...

    def tag(self, tags: Mapping[str, str]) -> None:
        """Write words that became known while the run went on."""
        ...

    def file(self, path: Path) -> None:
        """Keep a file, or a folder's files, with the run."""
        ...

    def close(self, status: Status) -> None:
        """End the run; nothing follows."""
        ...


class SinkKind(NamedTuple):
    """A sink as its file declares it, in a constant named ``SINK``."""

    title: str
    """As people call the tracker."""
    settings: type[Settings]
    """What a recipe may set for it; all of it has defaults."""
    open: Callable[[Any, TrackedRun], Sink]
    """Opens it for a run with settings of its class."""
    extra: str
    """What to install for it: ``pip install "tunery[…]"``."""
