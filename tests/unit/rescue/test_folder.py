"""What a rescue keeps: read as written, and refused where it is not."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tunery.core.errors import ConfigError, DamagedError, NotFoundError
from tunery.rescue.folder import RescueFolder
from tunery.rescue.records import Inventory, Recording, Scope

NOW = datetime(2026, 11, 27, tzinfo=UTC)


def test_inventory_comes_back_as_written(tmp_path: Path) -> None:
    folder = RescueFolder(tmp_path, "openai")
    with pytest.raises(NotFoundError, match="tunery rescue inventory"):
        folder.inventory()
    inventory = Inventory(read_at=NOW, scopes=(Scope(organization="org-1"),))
    folder.write("inventory.json", inventory)
    assert folder.inventory() == inventory


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "a" * 60])
def test_name_that_is_no_folder_of_its_own_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        RescueFolder(tmp_path, name)


@pytest.mark.parametrize("id", ["../../etc/passwd", "", ".", "file/1", "file\0"])
def test_id_of_the_source_is_never_a_path(tmp_path: Path, id: str) -> None:
    folder = RescueFolder(tmp_path, "openai")
    for place in (folder.file, folder.job):
        with pytest.raises(ConfigError):
            place(id)


def test_models_whose_names_look_alike_have_folders_of_their_own(tmp_path: Path) -> None:
    folder = RescueFolder(tmp_path, "openai")
    names = ["ft:gpt-4o-mini:org::Ab1", "ft:gpt-4o-mini:org::aB1", "ft:gpt-4o-mini:org:-:ab1"]
    assert len({folder.of_model(name) for name in names}) == len(names)


def test_torn_recording_is_named_by_its_line(tmp_path: Path) -> None:
    folder = RescueFolder(tmp_path, "openai")
    recording = Recording(
        id="1", portion="train", origin="log", messages=({"role": "user", "content": "hi"},),
        model="ft:m", answer="hello", at=NOW,
    )  # fmt: skip
    place = folder.of_model("ft:m")
    assert list(folder.recordings("ft:m")) == []
    place.mkdir(parents=True)
    line = recording.model_dump_json()
    (place / "recordings.jsonl").write_text(f"{line}\n{line[:-9]}\n")
    found = folder.recordings("ft:m")
    assert next(found) == recording
    with pytest.raises(DamagedError, match="line 2"):
        next(found)
    for torn in (line[:-9], "[]", "1", ""):
        (place / "recordings.jsonl").write_text(f"{torn}\n")
        with pytest.raises(DamagedError, match="line 1"):
            next(folder.answers("ft:m"))


def test_answers_are_recordings_without_their_log_probabilities(tmp_path: Path) -> None:
    folder = RescueFolder(tmp_path, "openai")
    one = Recording(
        id="1", portion="train", origin="log", messages=({"role": "user", "content": "hi\u2028\r\n"},),
        model="ft:m", answer="hello", at=NOW, logprobs=({"token": "hello", "logprob": -0.1},),
    )  # fmt: skip
    without = one.with_(id="2", logprobs=())
    folder.write_lines(folder.of_model("ft:m") / "recordings.jsonl", [one, without])
    assert list(folder.recordings("ft:m")) == [one, without]
    assert list(folder.answers("ft:m")) == [one.with_(logprobs=()), without]
