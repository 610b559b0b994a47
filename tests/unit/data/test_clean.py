"""Cleaning leaves answers as they are given, and counts whatever it changes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.core.config import parse_settings
from tunery.core.dataset import DatasetVersion
from tunery.core.example import Example, Message
from tunery.data.build import build_dataset
from tunery.data.clean import Text, clean_texts, texts_of
from tunery.data.config import CleanConfig, DataConfig
from tunery.data.version.card import CARD_FILE
from tunery.store.dataset_files import read_examples
from tunery.store.workspace import Workspace

PATCH = "--- a/notes.txt\n+++ b/notes.txt\n@@ -1,4 +1,4 @@\n title\n \n-old line\n+new line\n \n"
ANSWERS = {
    "a patch": PATCH,
    "a module": "import os\n\n\ndef area(w, h):\n    return w * h\n\n\n\narea(2, 0)\n",
    "a completed line": "    return total\n",
    "a poem with hard breaks": "Roses are red,  \nviolets are blue,  \nsugar is sweet.",
    "a Makefile": "all:\n\techo done\n",
    "a batch file": "@echo off\r\necho done\r\n",
    "French": "Vraiment\u00a0? 10\u202f000\u00a0€",
    "emoji and Persian": "👩‍👩‍👧 ❤️ می\u200cخواهم\u200f",
    "soft hyphens": "Donau\u00addampf\u200bschiff",
    "decomposed identifiers": "cafe\u0301 = 1  # \u212b \u2126",
    "a page": "<p>Fish &amp; chips</p>\n<br/>",
    "what looks wrongly decoded": "Ã© is how é looks in Latin-1",
    "a terminal": "\x1b[31mred\x1b[0m\x0c\x00",
    "space at the ends": " yes ",
    "addresses that are nobody's": "git clone git@github.com:a/b.git && curl http://127.0.0.1:8000/health",
    "a byte-order mark": "\ufeffid,name\n",
}
Build = Callable[..., tuple[DatasetVersion, list[Example], str]]


@pytest.fixture
def build(workspace: Workspace, tmp_path: Path) -> Build:
    def built(rows: Sequence[Any], **settings: Any) -> tuple[DatasetVersion, list[Example], str]:
        lines = [json.dumps(row if isinstance(row, dict) else chat(*row)) for row in rows]
        (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
        data = {"sources": [{"path": "rows.jsonl"}], "split": {"test": 0, "validation": 0}, **settings}
        config = parse_settings(DataConfig, data, where="data")
        version = build_dataset(config, workspace, name="rows", base_dir=tmp_path)
        folder = workspace.artifacts.path("datasets", version.id)
        card = (folder / CARD_FILE).read_text(encoding="utf-8").split("## Texts that were changed")[1]
        return (
            version,
            read_examples(folder, "train"),
            card.split("##")[0],
        )

    return built


def chat(prompt: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}


def test_answers_are_trained_as_they_are_given(build: Build) -> None:
    version, examples, card = build([(f"Write {name}.", answer) for name, answer in ANSWERS.items()])

    assert [e.reference for e in examples] == list(ANSWERS.values())
    assert version.cleaned == ()
    assert "Cleaning changed none" in card


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_no_answer_is_changed_by_default_but_for_personal_data(answer: str) -> None:
    cleaned = clean_texts([Text(answer, is_answer=True)], CleanConfig(mask_pii=False))
    assert cleaned.texts == [answer]
    assert cleaned.changes == [()]


def test_a_patch_still_applies(build: Build, tmp_path: Path) -> None:
    _, examples, _ = build([("Patch notes.txt so that old becomes new.", PATCH), ("Else?", "No.")])
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "notes.txt").write_text("title\n\nold line\n\n")
    (repository / "given.patch").write_text(PATCH)
    (repository / "notes.patch").write_text(examples[0].reference)
    before = subprocess.run(["git", "apply", "--check", "given.patch"], cwd=repository).returncode
    after = subprocess.run(["git", "apply", "--check", "notes.patch"], cwd=repository).returncode
    assert after == before


@pytest.mark.parametrize("normalise", ["prompts", "all", "off", True, False])
def test_code_completed_in_the_answer_runs_on(build: Build, normalise: str | bool) -> None:
    prompts = ["def f(xs):\n    total = sum(xs)\n", "def f(xs):\n", "def f(xs): "]
    answers = ["    return total\n", "    return sum(xs)\n", " return sum(xs)\n"]
    _, examples, _ = build(zip(prompts, answers, strict=True), clean={"normalise": normalise})

    for example in examples:
        place: dict[str, Any] = {}
        exec(example.prompt[0].content + example.reference, place)
        assert place["f"]([1, 2]) == 3


def test_every_kind_of_change_is_counted_for_prompts_and_answers_with_a_row(build: Build) -> None:
    rows = [
        ("One\r\nline", "as it is"),
        ("Say\u00a0it ", "Mail ada@example.com"),
        ("Page <b>bold</b>", "Donâ€™t <i>go</i>"),
        ("Key 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", "Cafe\u0301"),
    ]
    version, examples, card = build(
        rows, clean={"normalise": "prompts", "strip_html": True, "fix_mojibake": True}
    )
    found = {c.kind: (c.prompts, c.answers, c.row) for c in version.cleaned}

    assert found == {
        "line ends": (1, 0, 1),
        "unusual spaces": (1, 0, 2),
        "spaces at the ends": (1, 0, 2),
        "personal data": (0, 1, 2),
        "markup": (1, 1, 3),
        "wrong decoding": (0, 1, 3),
        "secrets": (1, 0, 4),
    }
    assert {c.example for c in version.cleaned} == {e.id for e in examples}
    assert "none" not in card.split("\n")[2]
    for kind, (prompts, answers, row) in found.items():
        assert f"| {kind} | {prompts} | {answers} | `ex-" in card
        assert f"row {row} of `rows.jsonl`" in card


@given(
    st.lists(st.tuples(st.text(max_size=20), st.booleans(), st.booleans()), max_size=5),
    st.sampled_from(["prompts", "all", "off"]),
    st.booleans(),
)
def test_what_is_changed_is_named_and_what_is_named_is_changed(
    texts: list[tuple[str, bool, bool]], normalise: Any, more: bool
) -> None:
    given_texts = [Text(*text) for text in texts]
    clean = CleanConfig(normalise=normalise, strip_html=more, fix_mojibake=more)
    cleaned = clean_texts(given_texts, clean)

    for before, after, kinds in zip(given_texts, cleaned.texts, cleaned.changes, strict=True):
        assert before.value == after or kinds
        as_given = normalise == "off" or (before.is_answer and normalise == "prompts")
        assert not kinds or more or not as_given


def test_the_other_answer_of_a_pair_and_earlier_turns_are_answers_too() -> None:
    turns = [
        Message(role="user", content="a "),
        Message(role="assistant", content=" b ", weight=0),
        Message(role="user", content=" c "),
        Message(role="assistant", content="d "),
        Message(role="assistant", content="e "),
    ]
    cleaned = clean_texts([*texts_of(turns)], CleanConfig())
    assert cleaned.texts == ["a ", " b ", "c", "d ", "e "]


def test_all_repairs_labels_that_were_typed_by_hand(build: Build) -> None:
    rows = [(f"q{i}", "refund " if i % 2 else "refund") for i in range(4)] + [("x", "card"), ("y", "card")]
    version, examples, _ = build(rows, clean={"normalise": "all"})
    assert {e.reference for e in examples} == {"refund", "card"}
    assert [(c.kind, c.prompts, c.answers) for c in version.cleaned] == [("spaces at the ends", 0, 2)]


def test_an_answer_of_nothing_that_shows_is_empty(build: Build) -> None:
    version, _, _ = build([("a", "\u200b\ufeff"), ("b", "yes"), ("c", "no")])
    assert version.dropped == {"empty_output": 1}
