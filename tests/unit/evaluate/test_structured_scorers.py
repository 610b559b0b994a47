"""Scorers of queries, calls, patterns and nested answers."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.evaluate.scripted import example
from tunery.core.errors import ConfigError
from tunery.core.example import Example, Message
from tunery.core.judging import ScorerModels
from tunery.core.tool_text import call_of, describe, write_answer
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.scorers import ScorerOptions, make_scorer
from tunery.evaluate.task import make_task

SCHEMA = "CREATE TABLE t (a INT, b TEXT); INSERT INTO t VALUES (1,'x'),(2,'y'),(2,'y'),(3,NULL);"
SQL = ScorerOptions(sql_schema=SCHEMA)


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("SELECT b, a FROM t", "SELECT b, a FROM t ORDER BY a", True),
        ("SELECT a FROM t ORDER BY a DESC", "SELECT a FROM t ORDER BY a", False),
        ("SELECT a FROM t ORDER BY a DESC", "SELECT a FROM t", True),
        ("SELECT a FROM t", "SELECT a FROM (SELECT a FROM t ORDER BY a DESC) -- order by", True),
        ("SELECT DISTINCT a FROM t", "SELECT a FROM t", False),
        ("SELECT 1.0", "SELECT 1", True),
        ("SELECT 0.1 + 0.2", "SELECT 0.3", True),
        ("```sql\nSELECT COUNT(*) FROM t\n```", "SELECT 4", True),
        ("SELEC a FROM t", "SELECT a FROM t", False),
        ("", "SELECT a FROM t", False),
        ("SELECT a FROM t; DROP TABLE t", "SELECT a FROM t", False),
    ],
)
def test_a_query_is_right_when_it_gives_the_same_rows(answer: str, reference: str, right: bool) -> None:
    assert make_scorer("sql", SQL).correct(answer, example("q", reference)) is right


@pytest.mark.parametrize(
    "hostile",
    [
        "ATTACH '/tmp/stolen.db' AS x",
        "DELETE FROM t",
        "PRAGMA writable_schema=ON",
        "SELECT load_extension('x')",
        "CREATE TABLE u (a)",
        "VACUUM INTO '/tmp/stolen.db'",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "SELECT zeroblob(900000000)",
        "SELECT printf('%900000000d', 1)",
        "SELECT " + "(" * 5000 + "1" + ")" * 5000,
        "SELECT '\ud800'",
        "SELECT 1\x00",
    ],
)
def test_a_hostile_query_is_wrong_soon_and_leaves_the_tables_as_they_are(hostile: str) -> None:
    scorer, started = make_scorer("sql", SQL), time.monotonic()
    assert not scorer.correct(hostile, example("q", "SELECT COUNT(*) FROM t"))
    assert time.monotonic() - started < 10
    assert not Path("/tmp/stolen.db").exists()
    assert scorer.correct("SELECT COUNT(*) FROM t", example("q", "SELECT 4"))


def test_a_reference_that_does_not_run_is_refused_with_its_row() -> None:
    config = EvaluateConfig(metrics=("sql",), sql_schema=SCHEMA)
    rows = [example("q", "SELECT a FROM t"), example("r", "SELECT a FROM nowhere")]
    with pytest.raises(ConfigError, match="no such table: nowhere"):
        make_task(rows, data="d", config=config, main_metric="sql")
    own = rows[1].with_(metadata={"sql_schema": "CREATE TABLE nowhere (a)"})
    assert make_task([rows[0], own], data="d", config=config, main_metric="sql").parts == ()


BFCL = Path("/work/shared/data/bfcl")
FUNCTION = {
    "name": "book",
    "parameters": {
        "type": "dict",
        "properties": {
            "city": {"type": "string"},
            "nights": {"type": "integer"},
            "price": {"type": "float"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["city"],
    },
}


def calling(possible: Any, functions: list[dict[str, Any]]) -> Example:
    turns = (
        Message(role="system", content=describe(functions)),
        Message(role="user", content="q"),
        Message(role="assistant", content="-"),
    )
    return Example(id="x", group="x", messages=turns, metadata={"possible_answer": possible})


def calls(*made: tuple[str, dict[str, Any]]) -> str:
    return write_answer("", [call_of(name, arguments) for name, arguments in made])


WANTED = [
    {
        "book": {
            "city": ["New York", "NYC"],
            "nights": [2, ""],
            "price": [9.5, 10.0, ""],
            "tags": [["a b"], ""],
        }
    }
]


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        ({"city": "new-york", "nights": 2}, True),
        ({"city": "NYC"}, True),
        ({"city": "NYC", "price": 10}, True),
        ({"city": "NYC", "tags": ["A_B"]}, True),
        ({"city": "NYC", "tags": ["a b", "c"]}, False),
        ({"nights": 2}, False),
        ({"city": "Boston"}, False),
        ({"city": "NYC", "nights": "2"}, False),
        ({"city": "NYC", "nights": 2.0}, False),
        ({"city": "NYC", "nights": True}, False),
        ({"city": "NYC", "smoker": False}, False),
    ],
)
def test_a_call_is_right_by_bfcls_rules(arguments: dict[str, Any], right: bool) -> None:
    row = calling(WANTED, [FUNCTION])
    assert make_scorer("tool_call").correct(calls(("book", arguments)), row) is right


def test_parallel_calls_come_in_any_order_and_none_may_be_missing_or_added() -> None:
    row, scorer = (
        calling([{"book": {"city": ["A"]}}, {"book": {"city": ["B"]}}], [FUNCTION]),
        make_scorer("tool_call"),
    )
    one, two = ("book", {"city": "A"}), ("book", {"city": "B"})
    assert scorer.correct(calls(two, one), row)
    assert not any(scorer.correct(calls(*made), row) for made in ([one], [one, one], [one, two, two], []))
    assert scorer.correct("No function fits.", calling([], [FUNCTION]))
    assert not scorer.correct(calls(one), calling([], [FUNCTION]))


def test_without_possible_answers_the_reference_calls_are_wanted() -> None:
    row = example("q", calls(("now", {"zone": "Europe/Berlin", "at": {"x": [1, 2]}})))
    scorer = make_scorer("tool_call")
    assert scorer.correct(calls(("now", {"at": {"x": [1, 2]}, "zone": "europe berlin"})), row)
    assert not scorer.correct(calls(("now", {"zone": "Europe/Berlin", "at": {"x": [2, 1]}})), row)
    assert scorer.problem(row) is None  # type: ignore[attr-defined]
    assert scorer.problem(calling("[[", [FUNCTION])) is not None  # type: ignore[attr-defined]


@pytest.mark.skipif(not BFCL.exists(), reason="BFCL's data is not here")
def test_on_bfcls_own_rows_its_answers_are_right_and_changed_ones_are_wrong() -> None:
    def read(path: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text().splitlines()]

    answers = {
        row["id"]: row["ground_truth"] for row in read(BFCL / "possible_answer/BFCL_v4_simple_python.json")
    }
    scorer, right, wrong = make_scorer("tool_call"), 0, 0
    rows = read(BFCL / "BFCL_v4_simple_python.json")
    for row in rows:
        example_ = calling(answers[row["id"]], row["function"])
        (name, allowed), *_ = answers[row["id"]][0].items()
        required = row["function"][0]["parameters"]["required"]
        given = {key: [v for v in values if v != ""][:1] for key, values in allowed.items()}
        made = {
            key: _bare(v[0]) for key, v in given.items() if v and (key in required or "" not in allowed[key])
        }
        right += scorer.correct(calls((name, made)), example_)
        wrong += scorer.correct(calls((name, {**made, "no_such_argument": 1})), example_)
        wrong += scorer.correct(calls((f"{name}_", made)), example_)
        wrong += scorer.correct("I cannot.", example_)
    assert (right, wrong) == (len(rows), 0) == (400, 0)


def _bare(value: Any) -> Any:
    """Return an allowed value as a model would write it: within objects the first of each list."""
    if isinstance(value, list):
        return [_bare(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    return {key: _bare(inner[0]) for key, inner in value.items() if inner[0] != ""}


def test_a_pattern_is_matched_by_the_whole_answer_and_none_hangs() -> None:
    scorer = make_scorer("regex", ScorerOptions(pattern="[A-Z]{2}[0-9]+"))
    assert [scorer.score(text, example("q", "r")) for text in ("AB12", "xAB12", "")] == [1, 0, 0]
    hostile, started = make_scorer("regex", ScorerOptions(pattern=r"(?:(a+)+)+\1b")), time.monotonic()
    assert hostile.score("a" * 5000, example("q", "r")) == 0
    assert time.monotonic() - started < 3
    with pytest.raises(ConfigError, match="none is set"):
        make_scorer("regex")
    with pytest.raises(ConfigError, match=r"evaluate\.pattern"):
        make_scorer("regex", ScorerOptions(pattern="("))


@pytest.mark.parametrize(
    ("answer", "f1"),
    [
        ('{"a": {"b": 1.0, "c": "X"}, "l": [2, 1], "n": null}', 1.0),
        ('{"a": {"b": 1}, "l": [1, 2]}', 2 * 3 / 7),
        ('{"a": {"b": true, "c": "x"}, "l": [1, 2]}', 2 * 3 / 8),
        ('{"a": {"b": 1, "c": "x"}, "l": [1, 2, 2]}', 2 * 4 / 9),
        ('{"l": {"b": 1}}', 0.0),
        ("[" * 100_000, 0.0),
        ("no", 0.0),
    ],
)
def test_nested_fields_are_compared_with_their_paths(answer: str, f1: float) -> None:
    row = example("q", '{"a": {"b": 1, "c": "x"}, "l": [1, 2]}')
    assert make_scorer("nested_match").score(answer, row) == pytest.approx(f1)


def test_similarity_is_the_cosine_of_the_embeddings() -> None:
    import numpy as np

    vectors = {"a": [1.0, 0.0], "b": [0.6, 0.8], "c": [-1.0, 0.0]}
    models = ScorerModels(encoder=lambda texts: np.array([vectors[text] for text in texts]))
    scorer = make_scorer("similarity", ScorerOptions(models=models))
    assert [scorer.score(text, example("q", "a")) for text in ("a", "b", "c", " ")] == [1, 0.6, 0, 0]
    with pytest.raises(ConfigError, match="embedding model"):
        make_scorer("similarity")
