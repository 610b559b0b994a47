"""SQL: the answer's query gives the reference's rows, both run on SQLite."""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from functools import lru_cache
from typing import Any

from tunery.core.example import Example
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions

DECLARATION = Declaration("queries right")
_SCHEMA = "sql_schema"
"""Of a row's metadata, and the setting: SQL that creates the tables and fills them."""
_LONGEST_S = 1.0
"""A query may take."""
_STEPS = 10_000
"""Of SQLite's machine between two looks at the clock [count]."""
_MOST_ROWS = 10_000
_MOST_BYTES = 1_000_000
"""Of one value or one query."""
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_FENCE = re.compile(r"\s*```(?:sql)?\s*\n(.*?)```\s*", re.DOTALL | re.IGNORECASE)
_TEXTS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_INNER = re.compile(r"\([^()]*\)")
_ORDERED = re.compile(r"\border\s+by\b", re.IGNORECASE)


class Sql:
    """1 when both queries give the same rows; their order counts where the reference has an outer ORDER BY.

    Names of columns do not count, how often a row occurs does; numbers are compared to nine digits. A query
    may do nothing but read the tables of a database in memory, for a second, with 10,000 rows at most. It may
    stand in a code fence.

    Source:
        Yu et al. (2018), EMNLP, 3911-3921 (Spider), execution accuracy.
    """

    def __init__(self, schema: str | None) -> None:
        self._schema = schema or ""

    def score(self, prediction: str, example: Example) -> float:
        """Return 1.0 or 0.0."""
        return float(self.correct(prediction, example))

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether the answer gives the reference's rows; false where either cannot be run."""
        schema = self._schema_of(example)
        try:
            wanted, given = _rows(schema, example.reference), _rows(schema, prediction)
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError):
            return False
        return given == wanted if _is_ordered(example.reference) else Counter(given) == Counter(wanted)

    def problem(self, example: Example) -> str | None:
        """Return why the reference cannot be run; None where it can."""
        try:
            _rows(self._schema_of(example), example.reference)
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
            return f"its reference does not run: {error} (tables: evaluate.sql_schema, or column {_SCHEMA})"
        return None

    def _schema_of(self, example: Example) -> str:
        return str(example.metadata.get(_SCHEMA) or self._schema)


@lru_cache(maxsize=8)
def _database(schema: str) -> sqlite3.Connection:
    """Return a database in memory that can only be read from now on.

    Raises:
        sqlite3.Error: The schema does not run.
    """
    database = sqlite3.connect(":memory:", check_same_thread=False)
    for limit, most in (
        (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
        (sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES),
        (sqlite3.SQLITE_LIMIT_SQL_LENGTH, _MOST_BYTES),
        (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 200),
        (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200),
    ):
        database.setlimit(limit, most)
    _stop_after(database, 10 * _LONGEST_S)
    database.executescript(schema)
    database.commit()
    database.set_authorizer(_only_reads)
    return database


def _only_reads(action: int, one: str | None, other: str | None, *where: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION and (other or "").lower() == "load_extension":
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _stop_after(database: sqlite3.Connection, seconds: float) -> None:
    end = time.monotonic() + seconds
    database.set_progress_handler(lambda: int(time.monotonic() > end), _STEPS)


def _rows(schema: str, query: str) -> list[tuple[Any, ...]]:
    """Return what a query gives.

    Raises:
        sqlite3.Error: It does not run, is not allowed or takes too long.
        ValueError: It is no text that SQLite takes, or gives too many rows.
    """
    fenced = _FENCE.fullmatch(query)
    database = _database(schema)
    _stop_after(database, _LONGEST_S)
    cursor = database.execute(fenced[1] if fenced else query)
    try:
        if cursor.description is None:
            raise ValueError("it is no query")
        rows = cursor.fetchmany(_MOST_ROWS + 1)
    finally:
        cursor.close()
    if len(rows) > _MOST_ROWS:
        raise ValueError(f"more than {_MOST_ROWS:,} rows")
    return [tuple(float(f"{v:.9g}") if isinstance(v, float) else v for v in row) for row in rows]


def _is_ordered(query: str) -> bool:
    """Return whether a query has an ORDER BY outside of every subquery."""
    before, text = "", _TEXTS.sub(" ", query)
    while before != text:
        before, text = text, _INNER.sub(" ", text)
    return _ORDERED.search(text) is not None


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer for the schema that is set; rows may bring their own."""
    return Sql(options.sql_schema)
