"""Marks that mean something: no row goes as a repeat and no answer counts as a contradiction for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tunery.core.config import parse_settings
from tunery.core.finding import Finding
from tunery.core.progress import Silent
from tunery.data.config import DataConfig
from tunery.data.curate import curate
from tunery.data.readers.source import locate
from tunery.inspect.config import InspectConfig
from tunery.inspect.inspect import inspect_columns

Rows = Sequence[tuple[str, str]]
PHRASES = (
    "Great",
    "Nice one",
    "Thanks a lot",
    "Well done",
    "Good luck",
    "Monday again",
    "My new phone is here today",
)
SYNTAX = (
    "flag|!flag|items[0]|items(0)|items{0}|a != b|a = b|f(x)|f[x]|'a'|\"a\"|a; b|a: b|x?|x!|(a]|(a)|[a)|"
    "{a}|<a>|*a|&a|~a|$a|a++|++a|a--|a->b|a.b|a,b|a/b|a\\b|a|@a|#a|5%|5|-5|+5|.5|5.|5'|5\"|x²|x2|x^2"
)
SETS: dict[str, Rows] = {
    "factorials": [
        (f"{verb} {n}{mark}", f"{n * 3 if mark else n}")
        for verb in ("Compute", "What is the value of")
        for n in range(2, 12)
        for mark in ("!", "")
    ],
    "smileys": [
        (f"{text} {face}", mood)
        for text in PHRASES
        for face, mood in ((":)", "positive"), (":(", "negative"), (":-(", "negative"), ("", "neutral"))
    ],
    "syntax": [(f"Parse {code}", "ok" if i % 2 else "bad") for i, code in enumerate(SYNTAX.split("|"))],
    "languages": [
        (f"Is {name} older than the others in this list?", name.upper())
        for name in ("C", "C++", "C#", "F", "F#", "F*", ".NET", "NET")
    ],
    "units": [
        (f"How long does it take to send 5 {unit}", unit) for unit in ("MB", "Mb", "mb", "kB", "kb", "KB")
    ],
}


def curated(folder: Path, rows: Rows, labels: str) -> tuple[dict[str, int], list[str], list[Finding]]:
    lines = [json.dumps({"input": q, "output": a}) for q, a in rows]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    settings = {"sources": [{"path": "rows.jsonl"}], "labels": labels, "split": {"test": 0, "validation": 0}}
    config = parse_settings(DataConfig, settings, where="data")
    source = locate(config.sources[0], folder)
    scratch = folder / "scratch"
    with curate(
        [source], config, tokenizer=None, max_tokens=None, scratch=scratch, progress=Silent()
    ) as found:
        findings = inspect_columns(found.columns(), InspectConfig())
        return dict(found.dropped_counts()), found.warnings, findings


@pytest.mark.parametrize("labels", ["closed", "open"])
@pytest.mark.parametrize("rows", SETS.values(), ids=SETS)
def test_every_row_stays_and_none_contradicts_another(tmp_path: Path, rows: Rows, labels: str) -> None:
    dropped, warnings, findings = curated(tmp_path, rows, labels)

    assert dropped == {}
    assert not [warning for warning in warnings if "different answers" in warning]
    kinds = {finding.kind for finding in findings}
    assert not kinds & {"contradiction", "near_contradiction", "several_answers"}
    assert not kinds & {"exact_duplicate", "near_duplicate", "leak"}


def test_what_a_person_takes_for_a_repeat_or_a_contradiction_still_is(tmp_path: Path) -> None:
    rows = [
        *[("Where is my card?", "arrival"), ("where is my card", "arrival"), ("WHERE IS MY CARD", "fee")],
        *[("I cannot log in, help me please!", "login"), ("I cannot log in help me please", "login")],
        *[("Fees of the ATM in my street.", "fee"), ("fees of the atm in my street", "fee")],
    ]
    dropped, warnings, _ = curated(tmp_path, rows, "closed")

    assert dropped == {"exact_duplicate": 3}
    assert [warning for warning in warnings if "1 prompt has different answers" in warning]


def test_answers_that_differ_in_a_sign_contradict_each_other(tmp_path: Path) -> None:
    rows = [
        ("What is the limit?", "-5"),
        ("what is the limit", "5"),
        ("Which language?", "C"),
        ("Which language", "C#"),
    ]
    _, _, findings = curated(tmp_path, [*rows, *rows], "open")

    (found,) = [finding for finding in findings if finding.kind == "contradiction"]
    assert found.numbers["prompts"] == 2
