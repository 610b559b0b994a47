"""Suites that come with Tunery: what a tuned model must not lose while it learns; one file per suite.

A suite is a module here with a ``DECLARATION`` of what is measured on it and a function ``examples()``; the
module's name is what recipes write: ``evaluate.suites: {general: {builtin: general}}``. Its rows are fixed,
so that figures of one version of Tunery compare; ``data/LICENCES.txt`` says where they come from.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from types import ModuleType
from typing import Any, NamedTuple, cast

from tunery.core.example import Example, Message
from tunery.core.ids import canonical_json, sha256_text
from tunery.core.plugins import load_plugin, plugin_names


class SuiteDeclaration(NamedTuple):
    """What a suite is, said where its rows are made."""

    title: str
    """As a reader says it."""
    margins: Mapping[str, float]
    """What is measured, the first what decides, to the loss against the base that the gate rules out."""
    max_new_tokens: int
    """Tokens an answer may have at most [count]."""
    by_default: bool = False
    """Whether recipes that name no suites are held to it."""


class Suite(NamedTuple):
    """A built-in suite's rows."""

    declaration: SuiteDeclaration
    examples: tuple[Example, ...]
    sha256: str
    """Of all that the rows say."""


def suite_names() -> tuple[str, ...]:
    """Return the names of the suites that exist, sorted."""
    return plugin_names(__name__)


def suite_declaration(name: str) -> SuiteDeclaration:
    """Return what the suite called ``name`` says of itself.

    Raises:
        NotFoundError: There is no such suite; says the nearest.
    """
    return cast(SuiteDeclaration, load_plugin(__name__, "built-in suite", name).DECLARATION)


def builtin_suite(name: str) -> Suite:
    """Return the rows of the suite called ``name``.

    Raises:
        NotFoundError: There is no such suite; says the nearest.
    """
    return _read(load_plugin(__name__, "built-in suite", name))


@cache
def _read(suite: ModuleType) -> Suite:
    """Return the rows of a suite's file; kept, since one run asks for them again and again."""
    declaration, examples = cast(SuiteDeclaration, suite.DECLARATION), tuple(suite.examples())
    rows = [[e.id, [[m.role, m.content] for m in e.messages], dict(e.metadata)] for e in examples]
    return Suite(declaration, examples, sha256_text(canonical_json(rows)))


def shipped_rows(name: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file that comes with the package, as ``scripts/suites.py`` wrote them."""
    packed = files(__name__).joinpath("data", f"{name}.jsonl.gz").read_bytes()
    for line in gzip.decompress(packed).decode().splitlines():
        yield json.loads(line)


def example_of(row: Mapping[str, Any]) -> Example:
    """Return a row as an example: ``prompt`` and ``reference`` as turns, the rest as metadata.

    Its ``kind`` is its label, so that a draw of few rows keeps every kind; ``group`` is what it shares with
    others that are right or wrong together, by default nothing.
    """
    said = (
        Message(role="user", content=row["prompt"]),
        Message(role="assistant", content=row.get("reference", "")),
    )
    about = {key: value for key, value in row.items() if key not in ("prompt", "reference", "group")}
    return Example(
        id=row["id"], messages=said, group=row.get("group", row["id"]), label=row["kind"], metadata=about
    )
