"""A recipe in the making: what was taken from the other configuration, and what of it has no counterpart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

Why = Literal["no counterpart", "not needed", "off", "to do", "unknown"]


class Left(NamedTuple):
    """A setting of the other configuration that is not in the recipe."""

    key: str
    value: Any
    kind: Why
    """``off``: it asks for nothing there. ``not needed``: what it is for happens by itself, or does not
    arise. ``to do``: a person has to see to it."""
    meaning: str
    """What it does there, or what to do here."""


class Taken(NamedTuple):
    """Settings of the other configuration and what they became."""

    keys: tuple[str, ...]
    setting: str
    """Of the recipe, dotted."""
    value: Any


@dataclass(frozen=True, slots=True)
class Tool:
    """A trainer whose configurations are read, as its file declares it in a constant named ``TOOL``."""

    title: str
    """What people call it."""
    read: Callable[[Path], dict[str, Any]]
    """Reads a configuration file; raises ConfigError."""
    translate: Callable[[Draft], None]
    """Takes what has a counterpart."""
    not_needed: Mapping[str, str]
    """Settings that a recipe does without, and why; a key that ends with ``*`` is the beginning of many."""
    without: Mapping[str, str]
    """Settings that change what is trained and that a recipe cannot express, and what they mean."""


_ON_MEANS_NOTHING: tuple[Any, ...] = (None, False, "", [], {}, "none", "None", "no")


@dataclass(slots=True)
class Draft:
    """Takes settings out of another tool's configuration, one after another, until each has been seen to."""

    values: dict[str, Any]
    recipe: dict[str, Any] = field(default_factory=dict)
    taken: list[Taken] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a setting, or the default where it is not there or null; it counts as seen to."""
        self.seen.add(key)
        value = self.values.get(key)
        return default if value is None else value

    def set(self, setting: str, value: Any, *keys: str) -> None:
        """Put a value into the recipe, made of these settings of the other configuration."""
        *groups, name = setting.split(".")
        place = self.recipe
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value
        given = tuple(key for key in keys if key in self.values)
        self.seen.update(keys)
        self.taken.append(Taken(given, setting, value))

    def move(self, key: str, setting: str, to: Callable[[Any], Any] = lambda value: value) -> None:
        """Take a setting as one of the recipe's, where it is there and not null."""
        value = self.get(key)
        if value is not None:
            self.set(setting, to(value), key)

    def note(self, key: str, kind: Why, meaning: str) -> None:
        """Note something of a setting that is taken all the same, or taken apart."""
        self.left.append(Left(key, self.values.get(key), kind, meaning))

    def leave(self, key: str, kind: Why, meaning: str) -> None:
        """Note a setting that is not taken, where it is there."""
        self.seen.add(key)
        if key in self.values:
            self.left.append(Left(key, self.values[key], kind, meaning))

    def finish(self, tool: Tool) -> None:
        """Name every setting of which nothing was said yet."""
        told = {key for one in self.taken for key in one.keys} | {one.key for one in self.left}
        for key, value in self.values.items():
            if key in told:
                continue
            asked = key in self.seen
            meaning = _find(tool.without, key)
            if value in _ON_MEANS_NOTHING:
                self.leave(key, "off", "it is switched off there")
            elif meaning is not None:
                self.leave(key, "no counterpart", meaning)
            elif (why := _find(tool.not_needed, key)) is not None:
                self.leave(key, "not needed", why)
            elif asked:
                self.leave(key, "not needed", "a recipe does so by default")
            else:
                self.leave(key, "unknown", f"not known of {tool.title}; look up what it does")


def _find(table: Mapping[str, str], key: str) -> str | None:
    starts = (start for start in table if start[-1] == "*" and key.startswith(start[:-1]))
    found = key if key in table else next(starts, None)
    return None if found is None else table[found]
