"""``tunery data synthesise`` as typed: rows from a teacher, a kill in the middle, Ctrl-C, our own server."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures_cli import Tunery, home, tunery
from tests.forked import Forked, forked
from tests.integration.live_api import BASE, live
from tests.tiny.build import build_tiny
from tests.unit.synthesise.conftest import real_rows, teacher
from tests.unit.synthesise.teacher import KEY, Teacher
from tunery.api.config import ServerSettings
from tunery.store.dataset_files import read_examples
from tunery.store.workspace import Workspace
from tunery.synthesise.seeds import is_synthetic

__all__ = ["home", "teacher", "tunery"]

RECIPE = """\
name: tiny
description: Names what a customer of a bank wants.
goal: {{metric: exact_match}}
base: {base}
data:
  sources:
    - path: real.csv
      columns: {{input: text, output: category}}
  clean: {{near_duplicates: group, near_threshold: 0.97, group_threshold: 0.95}}
  split: {{test: 9, validation: 6}}
"""


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Path) -> Path:
    """A recipe with its rows."""
    (tmp_path / "real.csv").write_text(real_rows(), encoding="utf-8")
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(base=tiny_model), encoding="utf-8")
    return path


def typed(recipe: Path, url: str, out: Path, *more: object) -> list[str]:
    """Return the command line behind ``tunery``."""
    return [
        "data", "synthesise", str(recipe), "--method", "label", "--rows", "30", "--endpoint", url,
        "--model", "wise", "--api-key-env", "TEACHER_KEY", "--set", "rows_per_request=1",
        "--set", "teacher.concurrency=2",
        "--set", "teacher.max_tokens=200", "--out", str(out), *map(str, more),
    ]  # fmt: skip


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def messages_of(path: Path) -> list[Any]:
    """Return what rows teach, without their provenance."""
    return [row["messages"] for row in lines(path)]


def test_rows_are_written_reported_and_trained_on(
    tunery: Tunery, recipe: Path, teacher: Teacher, tmp_path: Path, home: Path
) -> None:
    out = tmp_path / "made.jsonl"
    called = tunery(
        *typed(recipe, teacher.url, out, "--price-prompt", 1, "--price-completion", 2, "--judge", 4, "--json")
    )
    assert called.code == 0, called.err
    made = called.json
    assert made["rows"] == 30
    assert made["tokens"] == teacher.tokens
    assert made["usd"] > 0
    assert KEY not in called.out + called.err
    shown = tunery(*typed(recipe, teacher.url, out, "--judge", 4))
    assert "30 of 30 requested" in shown.out
    assert "0 paid for now" in shown.out
    before = tunery("data", "run", recipe, "--json").json
    recipe.write_text(
        recipe.read_text().replace(
            "  clean:", "    - {path: made.jsonl, columns: {metadata: [metadata]}}\n  clean:"
        )
    )
    grown = tunery("data", "run", recipe, "--json").json
    assert grown["splits"] == {**before["splits"], "train": before["splits"]["train"] + 30}
    artifacts = Workspace.open(home).artifacts
    train = read_examples(artifacts.path("datasets", grown["id"]), "train")
    synthetic = [e for e in train if is_synthetic(e)]
    assert len(synthetic) == 30
    assert {e.metadata["metadata"]["teacher"] for e in synthetic} == {"wise"}, (
        "provenance can be carried along"
    )


def test_a_call_killed_in_the_middle_goes_on_and_pays_for_what_is_missing(
    recipe: Path, teacher: Teacher, tmp_path: Path, home: Path, tunery: Tunery
) -> None:
    whole = tunery(*typed(recipe, teacher.url, tmp_path / "whole.jsonl", "--json")).json
    teacher.bodies.clear()
    out = tmp_path / "made.jsonl"
    teacher.delay_s = lambda number: 0.1
    with forked(typed(recipe, teacher.url, out), tmp_path) as command:
        wait_for(lambda: len(teacher.bodies) >= 8, command)
        command.kill()
    assert not out.exists(), "a file is there whole or not at all"
    paid = sum("done" in line for line in lines_as_far_as_whole(tmp_path / "made.journal.jsonl"))
    assert paid >= 6
    teacher.delay_s = lambda number: 0.0
    called = tunery(*typed(recipe, teacher.url, out, "--json"))
    assert called.code == 0, called.err
    made = called.json
    assert messages_of(out) == messages_of(tmp_path / "whole.jsonl")
    assert made["bought"] == whole["bought"] - paid
    assert len(teacher.bodies) <= whole["bought"] + 2, "only the two in flight are paid for twice"
    assert made["tokens_unsure"] > 0, "and they count"
    texts = [row[0]["content"] for row in messages_of(out)]
    assert len(texts) == len(set(texts)) == 30


def test_ctrl_c_waits_for_what_is_in_flight_and_says_how_to_go_on(
    recipe: Path, teacher: Teacher, tmp_path: Path, home: Path, tunery: Tunery
) -> None:
    out = tmp_path / "made.jsonl"
    teacher.delay_s = lambda number: 0.2
    with forked(typed(recipe, teacher.url, out), tmp_path) as command:
        wait_for(lambda: len(teacher.bodies) >= 4, command)
        command.signal(signal.SIGINT)
        code, errors = command.end(timeout=30)
    assert code == 130, errors
    assert "Traceback" not in errors
    assert "made.journal.jsonl; type the same command again to go on" in errors
    teacher.delay_s = lambda number: 0.0
    made = tunery(*typed(recipe, teacher.url, out, "--json")).json
    assert (made["rows"], made["tokens_unsure"]) == (30, 0)
    assert made["tokens"] == teacher.tokens, "every answer was waited for and kept"


def test_a_second_ctrl_c_leaves_behind_what_is_in_flight(
    recipe: Path, teacher: Teacher, tmp_path: Path, home: Path, tunery: Tunery
) -> None:
    out = tmp_path / "made.jsonl"
    teacher.faults = ["hang", "hang"]
    with forked(typed(recipe, teacher.url, out), tmp_path) as command:
        wait_for(lambda: len(teacher.bodies) >= 2, command)
        command.signal(signal.SIGINT)
        wait_for(lambda: "once more leaves them behind" in command.text, command)
        command.signal(signal.SIGINT)
        code, errors = command.end(timeout=40)
    assert code == 130, errors
    assert "Traceback" not in errors
    made = tunery(*typed(recipe, teacher.url, out, "--json")).json
    assert made["rows"] == 30
    assert made["tokens"] == teacher.tokens + made["tokens_unsure"]
    assert made["tokens_unsure"] > 0


def test_a_spent_budget_ends_cleanly_and_a_bad_key_is_reported(
    recipe: Path, teacher: Teacher, tmp_path: Path, tunery: Tunery, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "made.jsonl"
    called = tunery(*typed(recipe, teacher.url, out, "--budget-tokens", 5000, "--json"))
    assert called.code == 0, called.err
    assert called.json["stopped"] == "budget"
    assert called.json["tokens"] == teacher.tokens <= 5000
    assert "the same command with a larger budget goes on from here" in called.err
    monkeypatch.setenv("TEACHER_KEY", "sk-wrong-98765")
    refused = tunery(*typed(recipe, teacher.url, tmp_path / "other.jsonl", "--json"))
    assert refused.code == 2
    assert "TEACHER_KEY" in refused.error["hint"]
    assert "sk-wrong" not in refused.err
    without = tunery(*typed(recipe, teacher.url, tmp_path / "other.jsonl", "--budget-usd", 1, "--json"))
    assert without.code == 2
    assert "price_prompt" in without.error["message"]


def test_our_own_server_is_a_teacher(
    recipe: Path, tmp_path: Path, tunery: Tunery, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = build_tiny(tmp_path / "roomy")
    for name, key in (
        ("config.json", "max_position_embeddings"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        settings = json.loads((base / name).read_text())
        (base / name).write_text(json.dumps({**settings, key: 4096}))
    with live(workspace, base, settings=ServerSettings(port=0, run_jobs=False, base=str(base))) as server:
        monkeypatch.setenv("TEACHER_KEY", server.secret)
        command = typed(
            recipe, f"{server.url}/v1", tmp_path / "made.jsonl", "--set", "max_requests=2", "--json"
        )
        command[command.index("wise")] = BASE
        called = tunery(*command)
    # Random weights write nonsense, but it is asked for, answered and counted as anybody's would be.
    assert called.code == 2, called.err
    assert "not one row of tiny-llama could be used" in called.error["message"]
    paid = [line for line in lines(tmp_path / "made.journal.jsonl") if "done" in line]
    assert len(paid) == 2
    assert all(line["metered"] and line["completion_tokens"] > 0 for line in paid)
    assert server.secret not in (tmp_path / "made.journal.jsonl").read_text()


def wait_for(condition: Callable[[], bool], process: Forked) -> None:
    """Wait until something is so, as long as the process lives."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lines_as_far_as_whole(path: Path) -> Iterator[dict[str, Any]]:
    """Yield a journal's entries; a kill may have torn the last."""
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)


def judged(recipe: Path, url: str, *more: object) -> list[str]:
    """Return the command line that has rows scored by a judge."""
    return [
        "data", "score", str(recipe), "--judge-endpoint", url, "--judge-model", "wise",
        "--api-key-env", "TEACHER_KEY", "--set", "judge.max_tokens=50", "--json", *map(str, more),
    ]  # fmt: skip


def test_a_judge_scores_rows_within_a_budget_and_is_paid_once(
    tunery: Tunery, recipe: Path, teacher: Teacher
) -> None:
    short = tunery(*judged(recipe, teacher.url, "--budget-tokens", "3500"))
    assert short.code == 6
    assert "of 60 rows" in short.error["message"]
    sent = len(teacher.bodies)
    assert 0 < sent < 12
    whole = tunery(*judged(recipe, teacher.url, "--budget-tokens", "100000"))
    assert whole.code == 0, whole.err
    assert len(teacher.bodies) == 12  # 60 rows, five a request, none sent twice
    assert sum(whole.json["judged"].values()) == 60
    assert all(body["temperature"] == 0 for body in teacher.bodies)
    again = tunery(*judged(recipe, teacher.url))
    assert again.json == whole.json
    assert len(teacher.bodies) == 12
    plain = tunery("data", "score", recipe, "--json")
    assert plain.json["quality"] != whole.json["quality"]
    assert plain.json["judged"] is None

    scores = f"inspect.scores={whole.json['quality']}"
    found = tunery("data", "inspect", recipe, scores, "--json").json["findings"]
    (wrong,) = [f for f in found if f["kind"] == "judged_wrong"]
    assert len(wrong["rows"]) == whole.json["judged"]["2"]
    fixed = tunery("data", "fix", recipe, scores, "--apply", "judged_wrong", "--json")
    assert fixed.code == 0, fixed.err


def test_rows_that_a_judge_failed_on_are_sent_again(tunery: Tunery, recipe: Path, teacher: Teacher) -> None:
    teacher.faults += [500]
    stubborn = judged(recipe, teacher.url, "--set", "judge.attempts=1", "--set", "judge.concurrency=1")
    missed = tunery(*stubborn)
    assert missed.code == 6
    assert "1 requests to the judge brought no answer; 55 of 60 rows" in missed.error["message"]
    assert sum(tunery(*stubborn).json["judged"].values()) == 60
    assert len(teacher.bodies) == 12


def test_a_judge_that_talks_nonsense_or_refuses_is_reported(
    tunery: Tunery, recipe: Path, teacher: Teacher
) -> None:
    refused = judged(recipe, teacher.url)
    refused[refused.index("TEACHER_KEY")] = "HOME"
    assert "Incorrect API key" in tunery(*refused).error["message"]
    teacher.say = lambda body: "these rows are all fine!"
    called = tunery(*judged(recipe, teacher.url))
    assert called.code == 2
    assert "could not be read" in called.error["message"]
    assert "needs an address" in tunery("data", "score", recipe, "--rubric", "x", "--json").error["message"]
