"""``tunery train tune``: trials on the recipe's own data, then the command that trains with what was best."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fixtures_cli import Tunery, home, tunery
from tests.integration.test_preferences import recipe

__all__ = ["home", "tunery"]


def test_a_search_for_settings_ends_with_the_command_that_uses_them(
    tunery: Tunery, tiny_model: Path, tmp_path: Path
) -> None:
    written = recipe(tiny_model, tmp_path, method="dpo", epochs=1).model_dump(mode="json")
    (tmp_path / "recipe.yaml").write_text(json.dumps(written), encoding="utf-8")
    tune = ("train", "tune", str(tmp_path / "recipe.yaml"), "--search", "learning_rate=0.001:0.02")
    first = tunery(*tune, "--trials", "2", "--json")
    assert first.code == 0, first.err
    rates = [trial["values"]["learning_rate"] for trial in first.json["trials"]]
    assert rates[0] == 0.01
    assert len(rates) == 2
    again = tunery(*tune, "--trials", "2")
    assert again.code == 0, again.err
    assert "try: tunery run" in again.out
    assert "train.learning_rate=" in again.out
