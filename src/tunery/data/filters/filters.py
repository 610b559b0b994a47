"""The filters there are, found by walking this package, and what each must declare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, cast

from pydantic import Field, create_model

from tunery.core.config import Settings
from tunery.core.engine import Tokenizer
from tunery.core.example import Drop, Example
from tunery.core.plugins import load_plugin, plugin_names
from tunery.text.pii.types import PiiType

_PACKAGE = "tunery.data.filters"


class FilterContext(NamedTuple):
    """What filters may need that is settled elsewhere than in their own settings."""

    pii_dropped: tuple[PiiType, ...] = ()
    """Kinds of personal data that cost a row its place."""
    tokenizer: Tokenizer | None = None
    """Counts tokens; None where no length is to be counted."""
    max_tokens: int | None = None
    """Longest example that training takes [tokens]."""


class Filter(Protocol):
    """Keeps examples or drops them; one class in a file of its own, pickled on its way to the workers."""

    reasons: ClassVar[Mapping[str, str]]
    """Every reason it drops for, with a sentence for people."""
    settings: ClassVar[type[Settings] | None]
    """What a recipe may set under ``data.filters.<file name>``; None for nothing."""
    cost: ClassVar[int]
    """Cheaper filters look first: 0 looks at lengths, 1 at texts, 2 at tokens."""

    @classmethod
    def build(cls, settings: Any, context: FilterContext) -> Filter | None:
        """Return the filter with settings of its own class, or None where there is nothing for it to do."""
        ...

    def judge(self, examples: Sequence[Example]) -> list[Drop | None]:
        """Return for each example why it goes, or None to keep it; no example depends on the others."""
        ...


def filter_kinds() -> dict[str, type[Filter]]:
    """Return every filter's class by the name of its file, cheapest first.

    Raises:
        TypeError: A file of this package declares no filter.
    """
    found = {name: _declared(name) for name in plugin_names(_PACKAGE)}
    return dict(sorted(found.items(), key=lambda item: (item[1].cost, item[0])))


def _declared(name: str) -> type[Filter]:
    module = load_plugin(_PACKAGE, "filter", name)
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == module.__name__ and hasattr(value, "judge"):
            return cast(type[Filter], value)
    raise TypeError(f"{module.__name__} declares no filter: a class with reasons, settings, cost and judge")


def settings_of_filters(module: str) -> type[Settings]:
    """Return the group of settings that holds those of each filter.

    Args:
        module: Where the class is to be found by its name, ``FiltersConfig``.
    """
    groups: dict[str, Any] = {
        name: (kind.settings, Field(default=kind.settings(), description=kind.settings.__doc__))
        for name, kind in sorted(filter_kinds().items())
        if kind.settings is not None
    }
    about = "Which rows are removed, by one filter each; every removed row is kept with its reason."
    return create_model("FiltersConfig", __base__=Settings, __module__=module, __doc__=about, **groups)


def build_filters(settings: Settings, context: FilterContext) -> tuple[Filter, ...]:
    """Return the filters that there is something to do for, cheapest first.

    Args:
        settings: What :func:`settings_of_filters` holds.
        context: What else they go by.
    """
    built = (kind.build(getattr(settings, name, None), context) for name, kind in filter_kinds().items())
    return tuple(one for one in built if one is not None)


def filter_reasons() -> dict[str, str]:
    """Return the sentence of every reason that a filter drops for."""
    return {reason: says for kind in filter_kinds().values() for reason, says in kind.reasons.items()}
