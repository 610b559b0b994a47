"""Model versions and aliases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import Field

from tunery.core.config import Record
from tunery.core.errors import ConfigError
from tunery.core.ids import check_name

_REFERENCE = re.compile(r"^(?P<name>[^@]+)(?:@(?P<selector>[^@]+))?$")


class ModelRef(NamedTuple):
    """``name@3`` or ``name@champion`` or ``name`` (champion, else the highest that passed)."""

    name: str
    version: int | None
    alias: str | None

    def __str__(self) -> str:
        selector = self.version if self.version is not None else self.alias
        return self.name if selector is None else f"{self.name}@{selector}"


def parse_ref(text: str) -> ModelRef:
    """Read ``name``, ``name@N`` or ``name@alias``.

    Raises:
        ConfigError: It is none of the three.

    >>> parse_ref("support-bot@7")
    ModelRef(name='support-bot', version=7, alias=None)
    """
    match = _REFERENCE.match(text)
    if not match:
        raise ConfigError(f"{text!r:.80} is no model version; write name@3 or name@champion")
    name, selector = check_name(match["name"], "model name"), match["selector"]
    if selector is None:
        return ModelRef(name, None, None)
    if selector.isdecimal() and int(selector) > 0:
        return ModelRef(name, int(selector), None)
    return ModelRef(name, None, check_name(selector, "alias"))


class Override(Record):
    """Somebody answers for a version that its gate refused."""

    by: str
    """Who does."""
    reason: str
    at: datetime

    @property
    def sentence(self) -> str:
        """All of it, as readers find it."""
        return f"The gate's refusal was overridden by {self.by} on {self.at:%d %b %Y}: {self.reason}"


class ModelVersion(Record):
    """A registered base + adapter with its evaluation and lineage."""

    name: str
    version: int
    """Counts from 1 within a name."""
    adapter_id: str
    base: str
    """``name@sha256:…``."""
    dataset_version: str
    evaluation_id: str
    """Of the tuned model on the test split."""
    gate_id: str
    gate_passed: bool
    run_id: str
    system_prompt: str | None
    labels: tuple[str, ...] | None = None
    config: Mapping[str, Any]
    """The whole recipe as run."""
    metrics: Mapping[str, float]
    """Tuned metrics by name."""
    created_at: datetime
    overrides: tuple[Override, ...] = Field(default=(), exclude_if=lambda overrides: not overrides)
    """Who answered for it although its gate refused it, oldest first."""

    @property
    def gate_word(self) -> str:
        """What its gate said, in a word or two."""
        if self.gate_passed:
            return "passed"
        return "refused, overridden" if self.overrides else "refused"

    @property
    def ref(self) -> str:
        """``name@N``."""
        return f"{self.name}@{self.version}"


class AliasMove(Record):
    """One move of an alias: who, when, on which evidence."""

    name: str
    alias: str
    version: int | None
    """Where it points after the move; None where it was taken away."""
    previous: int | None
    actor: str
    """Who moved it: a key's name, ``cli``, or ``canary``."""
    reason: str
    at: datetime
    rollback: bool = False
    """True where it takes back the newest move that was not taken back yet."""
