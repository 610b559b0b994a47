"""Another file read by a recipe's mapping."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunery.core.errors import ConfigError, NotFoundError
from tunery.data.config import ColumnsConfig, DataConfig, SourceConfig
from tunery.data.read_file import read_file
from tunery.store.dataset_files import read_examples

SOURCE = SourceConfig(
    path="train.csv",
    columns=ColumnsConfig(input="text", output="category"),
    label_style="words",
    limit_per_class=1,
    limit=1,
)
CONFIG = DataConfig(sources=(SOURCE,), system_prompt="Name it.")


def test_every_row_comes_with_the_recipes_mapping_and_a_unique_id(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text(
        "text,category\n" + "Where\u00a0is it? ,card_arrival\n" * 3 + "Mail a@b.org,lost_card\n" * 3
    )
    found = read_file(path, SOURCE, CONFIG)
    assert len(found) == 6
    assert [m.content for m in found[0].messages] == ["Name it.", "Where is it?", "card arrival"]
    assert found[3].messages[1].content == "Mail <EMAIL_ADDRESS>"
    assert found[0].label == "card arrival"
    assert [e.metadata["row"] for e in found] == [1, 2, 3, 4, 5, 6]
    assert len({e.id for e in found}) == 6
    assert found[1].id == f"{found[0].id}-2"
    assert found[2].id == f"{found[0].id}-3"


def test_a_file_of_another_format_is_told_by_its_ending(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text('{"text": "a", "category": "b_c"}\n')
    explicit = SOURCE.model_copy(update={"format": "csv"})
    (example,) = read_file(path, explicit, CONFIG)
    assert example.reference == "b c"
    assert example.label is None


def test_rows_without_prompt_or_answer_are_refused_not_skipped(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text("text,category\na,b\n,c\nd,\n")
    with pytest.raises(ConfigError, match="2 problems") as caught:
        read_file(path, SOURCE, CONFIG)
    assert "row 2: text: no value" in str(caught.value)
    assert "row 3: category: no value" in str(caught.value)


def test_a_folder_without_a_dataset_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="holds no dataset version"):
        read_examples(tmp_path, "test")
