"""What reaches stdout: JSON that every parser takes, tables that keep what users wrote."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from tunery.cli.output import answer, facts, plain, table
from tunery.core.registry import AliasMove


class Pair(NamedTuple):
    """Two values."""

    low: float
    high: float


def test_every_value_of_ours_becomes_json() -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    move = AliasMove(name="bot", alias="champion", version=1, previous=None, actor="x", reason="y", at=at)
    value = {"move": move, "pair": Pair(0.0, math.nan), "path": Path("/tmp/x"), 3: (at, {"a"}), "none": None}
    found = json.loads(json.dumps(plain(value), allow_nan=False))
    assert found["move"]["version"] == 1
    assert found["pair"] == {"low": 0.0, "high": None}
    assert found["path"] == "/tmp/x"
    assert found["3"] == [at.isoformat(), ["a"]]


@pytest.mark.parametrize("text", ["[bold]not markup[/bold]", "ünï → 漢字", "tab\tand ⏎", 'quote " and \\'])
def test_json_on_stdout_gives_back_the_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer({"text": text}, lambda: [], as_json=True)
    assert json.loads(capsys.readouterr().out) == {"text": text}


def test_a_table_shows_what_users_wrote_and_cuts_nothing_in_a_pipe(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "x" * 500
    answer(None, lambda: [table(["a", ">b"], [("[red]a[/red]", 1), (long, 22)])], as_json=False)
    header, rule, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["a", "b"]
    assert set(rule) <= {"─", "-"}
    assert first.split() == ["[red]a[/red]", "1"]
    assert second.split() == [long, "22"]
    assert len(first) == len(second)  # b is flush right


def test_a_table_without_rows_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    answer([], lambda: [table(["a"], [])], as_json=False)
    assert capsys.readouterr().out == "none yet\n"


def test_facts_without_value_are_left_out_and_values_stand_under_each_other() -> None:
    assert facts([("a", 1), ("long name", "x"), ("gone", None)]) == "a          1\nlong name  x\n"
