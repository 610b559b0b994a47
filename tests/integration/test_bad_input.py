"""Whatever is wrong with what a user brings: a clear message, the right exit code, nothing half-written."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures_cli import Called, Tunery, home, tunery
from tunery.store.workspace import Workspace

__all__ = ["home", "tunery"]

QUESTIONS = {
    "card arrival": "when will my card arrive",
    "exchange rate": "what is the exchange rate",
    "top up failed": "why did my top up fail",
}
RECIPE = """\
name: tiny
goal: {{metric: exact_match}}
base: {base}
data:
  sources:
    - path: {path}
      columns: {{input: text, output: category}}
  clean: {{near_duplicates: group, group_threshold: 1.0, near_threshold: 1.0}}
  split: {{test: 4, validation: 4}}
train: {{epochs: 1, threads: 1}}
evaluate: {{suites_off: not tested here}}
"""


def good_rows(each: int = 8) -> list[tuple[str, str]]:
    """Rows that would do."""
    return [(f"{text} {i}", label) for i in range(each) for label, text in QUESTIONS.items()]


def csv(rows: list[tuple[str, str]], *, header: str = "text,category", delimiter: str = ",") -> bytes:
    """Return rows as a CSV file's bytes."""
    lines = [header.replace(",", delimiter), *(delimiter.join(row) for row in rows)]
    return ("\n".join(lines) + "\n").encode()


class Project:
    """A folder with a recipe and its rows, and the command line in it."""

    def __init__(self, folder: Path, base: Path, call: Tunery, home: Path) -> None:
        self.folder = folder
        self.recipe = folder / "recipe.yaml"
        self.home = home
        self._call = call
        self.write(RECIPE.format(base=base, path="rows.csv"))
        self.rows(csv(good_rows()))

    def write(self, recipe: str) -> None:
        """Replace the recipe."""
        self.recipe.write_text(recipe, encoding="utf-8")

    def change(self, old: str, new: str) -> None:
        """Replace a part of the recipe."""
        text = self.recipe.read_text(encoding="utf-8")
        assert old in text
        self.write(text.replace(old, new))

    def rows(self, content: bytes) -> None:
        """Replace the rows."""
        (self.folder / "rows.csv").write_bytes(content)

    def run(self, *overrides: str) -> Called:
        """Run the recipe, for a person and for a program, which must agree."""
        as_json = self._call("run", self.recipe, *overrides, "--json")
        plain = self._call("run", self.recipe, *overrides)
        assert plain.code == as_json.code
        if plain.code:
            assert as_json.error["exit_code"] == plain.code
            assert as_json.error["message"] in plain.err
        return plain

    def refuse(self, code: int, *told: str, overrides: tuple[str, ...] = ()) -> None:
        """Expect the run to end with ``code``, having said all of ``told``, and to leave nothing behind."""
        called = self.run(*overrides)
        assert called.code == code, called
        for words in told:
            assert words in called.err
        assert "Traceback" not in called.err
        assert called.out == ""
        self.is_clean()

    def is_clean(self) -> None:
        """Expect that nothing is half-written and nothing is registered."""
        left = {p.relative_to(self.home).as_posix() for p in self.home.rglob("*") if p.is_dir()}
        assert not [name for name in left if name.endswith(".partial")]
        assert not left & {"adapters", "checkpoints", "reports", "evaluations"}
        if not self.home.exists():
            return
        workspace = Workspace.open(self.home)
        try:
            assert workspace.models.names() == []
            assert [d.id for d in workspace.datasets.list()] == workspace.artifacts.ids("datasets")
        finally:
            workspace.close()


@pytest.fixture
def project(tmp_path: Path, tiny_model: Path, tunery: Tunery, home: Path) -> Project:
    """A recipe over rows that would do, on the tiny model."""
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(folder, tiny_model, tunery, home)


def test_the_recipe_that_every_case_below_spoils_is_a_good_one(project: Project, tunery: Tunery) -> None:
    built = tunery("data", "run", project.recipe, "--json").json
    assert (built["rows_kept"], built["splits"]["test"]) == (24, 4)
    assert tunery("train", "preflight", project.recipe).code == 0


def test_a_missing_file_names_the_nearest(project: Project) -> None:
    project.change("rows.csv", "row.csv")
    project.refuse(2, "row.csv: no such file", "did you mean 'rows.csv'?")


def test_a_missing_recipe(project: Project) -> None:
    project.recipe = project.folder / "other.yaml"
    project.refuse(2, "other.yaml: no such file")
    assert not project.home.exists()


def test_an_empty_file(project: Project) -> None:
    project.rows(b"")
    project.refuse(2, "rows.csv: the file is empty")


def test_a_header_without_rows(project: Project) -> None:
    project.rows(b"text,category\n")
    project.refuse(2, "rows.csv: there is no row in the file")


def test_a_wrong_delimiter(project: Project) -> None:
    project.refuse(
        2,
        "with delimiter ';' there is one column",
        "text, category",
        overrides=("data.sources[0].delimiter=;",),
    )


def test_another_delimiter_is_found_by_itself(project: Project, tunery: Tunery) -> None:
    project.rows(csv(good_rows(), delimiter=";"))
    assert tunery("data", "run", project.recipe, "--json").json["rows_kept"] == 24


def test_a_missing_column_names_those_that_are_there(project: Project) -> None:
    project.rows(csv(good_rows(), header="txt,category"))
    project.refuse(2, "no column 'text'", "did you mean 'txt'?")


def test_a_column_of_nan(project: Project) -> None:
    project.rows(csv([(text, "NaN") for text, _ in good_rows()]))
    project.refuse(2, "column 'category' is empty in all 24 rows")


def test_three_rows(project: Project) -> None:
    project.rows(csv(good_rows(each=1)))
    project.refuse(2, "too few rows to split: 3")


def test_one_class_only(project: Project) -> None:
    project.rows(csv([(f"question {i}", "card arrival") for i in range(24)]))
    project.refuse(2, "there is one class only", "card arrival")


def test_bytes_that_are_not_utf8(project: Project) -> None:
    project.rows(csv(good_rows()) + "Wo ist meine Kärte,card arrival\n".encode("latin-1"))
    project.refuse(2, "rows.csv: not UTF-8", "line 26")


def test_a_single_row_of_50_megabytes(project: Project) -> None:
    project.rows(b"text,category\n" + b"x" * 50_000_000 + b",card arrival\n")
    project.refuse(2, "rows.csv: line 2 is longer than 1,048,576 bytes")


def test_a_key_given_twice(project: Project) -> None:
    project.change("train: {epochs: 1, threads: 1}\n", "train: {epochs: 1}\ntrain: {epochs: 2}\n")
    project.refuse(2, "key 'train' is given twice")
    assert not project.home.exists()


def test_unknown_keys_are_all_told_at_once_with_the_nearest_known(project: Project) -> None:
    project.change("threads: 1", "learning_rat: 1, rnk: 2")
    project.refuse(2, "2 problems", "did you mean 'learning_rate'?", "train.rnk", "did you mean 'rank'?")


def test_a_negative_learning_rate(project: Project) -> None:
    project.refuse(2, "train.learning_rate", "-0.1", overrides=("train.learning_rate=-0.1",))


@pytest.mark.parametrize("override", ["train.epochs", "data.sources[7].limit=1", "=3"])
def test_an_override_that_goes_nowhere(override: str, project: Project) -> None:
    project.refuse(2, "overrides", overrides=(override,))


def test_yaml_that_is_none(project: Project) -> None:
    project.write("name: [tiny\n")
    project.refuse(2, "recipe.yaml", "line")


def test_a_base_with_a_pickle(project: Project, tiny_model: Path) -> None:
    spoiled = project.folder / "spoiled"
    shutil.copytree(tiny_model, spoiled)
    (spoiled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    project.change(str(tiny_model), "spoiled")
    project.refuse(2, "pytorch_model.bin", "a pickle can run code")


def test_a_base_that_is_not_there(project: Project, tiny_model: Path) -> None:
    project.change(str(tiny_model), "no-such-base")
    project.refuse(3, "base 'no-such-base'")


def test_a_home_that_is_a_file(project: Project) -> None:
    project.home.write_text("", encoding="utf-8")
    called = project.run()
    assert called.code == 6
    assert "cannot be written" in called.err
    assert "TUNERY_HOME" in called.err


def test_a_port_that_somebody_has(project: Project, tunery: Tunery) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        called = tunery("serve", "--port", port, "--json")
    assert called.code == called.error["exit_code"] == 4
    assert str(port) in called.error["message"]
    assert "--port" in called.error["hint"]
    project.is_clean()


def test_a_server_setting_that_opens_the_door_is_refused(tunery: Tunery, home: Path) -> None:
    called = tunery("serve", "auth=false", "host=0.0.0.0")
    assert called.code == 2
    assert "auth is off" in called.err
    assert not home.exists()


def test_a_full_disk_keeps_nothing_of_what_was_being_written(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[[int], None] = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    called = project.run()
    assert called.code == 6
    assert "the disk is full" in called.err
    monkeypatch.setattr(os, "fsync", real)
    project.is_clean()


def test_a_test_file_that_is_not_there(project: Project, tunery: Tunery) -> None:
    called = tunery("evaluate", "run", project.recipe, "--model", "base", "--test", "nowhere.csv")
    assert called.code == 2
    assert "nowhere.csv: no such file" in called.err


def test_a_model_that_is_not_there(project: Project, tunery: Tunery) -> None:
    called = tunery("evaluate", "run", project.recipe, "--model", "tiny@1")
    assert called.code == 3
    assert "no model named 'tiny'" in called.err


def test_answers_that_do_not_belong_together(project: Project, tunery: Tunery) -> None:
    a, b = project.folder / "a.jsonl", project.folder / "b.jsonl"
    a.write_text('{"id": "1", "correct": true}\n', encoding="utf-8")
    b.write_text('{"id": "2", "correct": true}\n', encoding="utf-8")
    called = tunery("evaluate", "compare", a, b)
    assert called.code == 2
    assert "Traceback" not in called.err
