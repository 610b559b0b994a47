"""Settings of limits: what holds where no rule was set, what models cost, and what if nobody can count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from tunery.core.config import Settings
from tunery.core.limits import EACH, Limits, Scope
from tunery.core.prices import Prices


class LimitSettings(Settings):
    """What callers may use where `tunery limits set` says nothing else; what has no limit is not bounded."""

    project: Limits = Limits()
    """Of each project, all its keys together."""
    key: Limits = Limits()
    """Of each API key, an admin's too."""
    user: Limits = Limits()
    """Of each user that clients name by `safety_identifier` or `user`, each project's own."""
    model: Limits = Limits()
    """Of each model, all its versions together, whoever asks."""
    stored_bytes: int | None = Field(default=None, ge=0)
    """Size of the files that one project may keep, all together [bytes]; None bounds nothing."""
    open_jobs: int | None = Field(default=None, ge=0)
    """Fine-tuning jobs of one project that may be queued, paused or running [count]; None bounds nothing."""
    prices: Mapping[str, Prices] = {}
    """Name of a model or base to what it costs; `*` stands for every other. Usage and budgets in money count
    by it."""
    when_unreachable: Literal["answer", "refuse"] = "answer"
    """While Redis or the database that counts cannot be reached: answer, each gateway counting for itself
    from nothing, and book what was used once it is back; or refuse calls with 503."""
    lease_s: float = Field(default=30.0, ge=2)
    """Time after which what a gateway reserved is given back when it was killed [s]."""

    def defaults(self) -> Iterator[tuple[Scope, Limits]]:
        """Yield the scopes that these settings bound."""
        yield Scope(project=EACH), self.project
        yield Scope(key=EACH), self.key
        yield Scope(project=EACH, user=EACH), self.user
        yield Scope(model=EACH), self.model

    def priced(self, model: str) -> tuple[str, Prices] | None:
        """Return what a model costs and under which name that is set; None where no price is known."""
        name = model if model in self.prices else EACH
        return (name, self.prices[name]) if name in self.prices else None
