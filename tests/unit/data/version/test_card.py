"""The data card: what it says is what the version's record says, and no text of a user breaks it."""

from __future__ import annotations

from datetime import UTC, datetime

import yaml

from tunery.core.dataset import DatasetVersion, SourceFile
from tunery.data.version.card import data_card


def version(**changes: object) -> DatasetVersion:
    fields: dict[str, object] = {
        "id": "ds-0123456789abcdef",
        "name": "bank",
        "content_sha256": "ab" * 32,
        "created_at": datetime(2026, 11, 23, tzinfo=UTC),
        "sources": (SourceFile(path="rows|1.csv", sha256="cd" * 32, rows=1200, shape="columns"),),
        "parents": ("ds-fedcba9876543210",),
        "config": {"sources": [{"path": "rows|1.csv", "license": "CC-BY-4.0"}], "clean": {"mask_pii": True}},
        "rows_read": 1200,
        "rows_kept": 1000,
        "dropped": {"exact_duplicate": 150, "contradiction": 50},
        "changed": {"review": 3},
        "masked": {"EMAIL_ADDRESS": 4},
        "splits": {"train": 800, "validation": 100, "test": 100},
        "labels": ("card", "a`b"),
        "system_prompt": "Say it.\n```\nnow",
        "warnings": ("class *x* has 3 rows",),
    }
    return DatasetVersion.model_validate({**fields, **changes})


def test_a_card_tells_sources_licences_counts_and_reasons() -> None:
    card = data_card(version())
    assert "# Dataset bank, version `ds-0123456789abcdef`" in card
    assert f"| `rows\\|1.csv` | 1,200 | columns | CC-BY-4.0 | `{'cd' * 32}` |" in card
    assert "| `exact_duplicate` | 150 | repeats another row" in card
    assert "| `contradiction` | 50 | an edit in the recipe took it out |" in card
    assert "| `review` | 3 |" in card
    assert "| `EMAIL_ADDRESS` | 4 |" in card
    assert "| test | 100 | 10.0 % |" in card
    assert "It grew from `ds-fedcba9876543210`." in card
    assert "2 classes: `card`, `a'b`." in card
    assert "- class \\*x\\* has 3 rows" in card


def test_a_system_prompt_cannot_end_its_block() -> None:
    assert "````text\nSay it.\n```\nnow\n````" in data_card(version())


def test_the_settings_in_it_are_those_that_made_the_version() -> None:
    card = data_card(version(system_prompt=None))
    block = card.split("```yaml\n")[1].split("\n```")[0]
    assert yaml.safe_load(block) == {"data": dict(version().config)}


def test_what_there_is_none_of_is_said() -> None:
    card = data_card(version(dropped={}, changed={}, masked={}, labels=None, warnings=(), system_prompt=None))
    for sentence in (
        "No row was left out.",
        "No text was replaced by an edit.",
        "None was found.",
        "The answers are open text.",
        "## Warnings\n\nNone.",
    ):
        assert sentence in card
    off = version(masked={}, config={"sources": [], "clean": {"mask_pii": False}})
    assert "was not looked for" in data_card(off)
