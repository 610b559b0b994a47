"""``tunery train rewind`` as typed, on a training that finished and on one that diverged; hard rows found."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.integration.test_cli_loop import RECIPE, call, write_rows
from tests.unit.train.test_divergence import spoilt


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Path, Path, str]:
    """A recipe whose third row has a wrong answer, its home, and the adapter."""
    folder = tmp_path_factory.mktemp("rewind")
    write_rows(folder / "rows.csv", 20)
    rows = (folder / "rows.csv").read_text(encoding="utf-8").splitlines()
    rows[3] = "why did my top up fail 0,Zyx #!% qqqq"
    (folder / "rows.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    recipe = folder / "tiny.yaml"
    text = RECIPE.format(base=tiny_model).replace("epochs: 2", "epochs: 6, early_stopping: null")
    recipe.write_text(
        text.replace("{test: 9, validation: 6}", "{test: 0.05, validation: 0.05}"), encoding="utf-8"
    )
    done = call(folder / "home", "train", "run", recipe, "--json")
    assert done.code == 0, done.err
    return recipe, folder / "home", done.json["id"]


def test_the_steps_that_rose_and_the_rows_of_one(trained: tuple[Path, Path, str]) -> None:
    _, home, adapter = trained
    listed = call(home, "train", "rewind", adapter, "--json").json
    assert listed["adapter"] == adapter
    assert listed["spikes"]
    step = listed["spikes"][0]["step"]
    shown = call(home, "train", "rewind", adapter, "--step", step, "--json").json
    assert shown["step"] == step
    assert shown["loss"] == pytest.approx(sum(row["share"] for row in shown["rows"]), rel=1e-5)
    row = shown["rows"][0]
    assert row["id"].startswith("ex-")
    assert "of rows.csv" in row["where"]
    assert row["answer"]
    text = call(home, "train", "rewind", adapter, "--step", step)
    assert row["id"] in text.out
    assert row["prompt"] in text.out
    plain = call(home, "train", "rewind", adapter)
    assert f"try: tunery train rewind {adapter} --step {step}" in plain.out


def test_names_that_are_none_are_refused_with_the_next_command(trained: tuple[Path, Path, str]) -> None:
    _, home, adapter = trained
    wrong = call(home, "train", "rewind", adapter[:-1] + "x")
    assert wrong.code == 3
    assert "did you mean" in wrong.err
    assert call(home, "train", "rewind", "../../etc").code == 2
    assert call(home, "train", "rewind", adapter, "--step", "9999").code == 2


def test_a_row_that_stays_hard_is_a_finding(trained: tuple[Path, Path, str]) -> None:
    recipe, home, _ = trained
    findings = {f["kind"]: f for f in call(home, "data", "inspect", recipe, "--json").json["findings"]}
    assert "hard_row" in findings
    assert "Zyx" in findings["hard_row"]["evidence"][0]["detail"]
    assert "hard" in call(home, "data", "inspect", recipe).out
    # A later training of one pass says nothing of what stays hard; the one before still does.
    once = call(home, "train", "run", recipe, "train.epochs=1", "train.seed=1", "--json")
    assert once.code == 0, once.err
    again = call(home, "data", "inspect", recipe, "--json").json["findings"]
    assert "hard_row" in {finding["kind"] for finding in again}


def test_a_training_that_diverged_names_the_command_and_the_command_shows_the_rows(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "rows.csv", 12)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.format(base=tiny_model), encoding="utf-8")
    spoilt(monkeypatch, 5, math.nan)
    failed = call(tmp_path / "home", "run", recipe)
    assert failed.code == 6
    assert "the training loss became nan at step " in failed.err
    command = next(line for line in failed.err.splitlines() if "tunery train rewind" in line)
    arguments = command.partition("tunery ")[2].partition(" shows")[0].split()
    shown = call(tmp_path / "home", *arguments, "--json")
    assert shown.code == 0, shown.err
    assert shown.json["loss"] is None  # no number
    assert "of rows.csv" in shown.json["rows"][0]["where"]
    run = call(tmp_path / "home", "runs", "ls", "--json").json[0]
    assert (run["status"], run["adapter_id"]) == ("failed", None)
    assert call(tmp_path / "home", "train", "rewind", run["id"], *arguments[3:], "--json").json == shown.json
