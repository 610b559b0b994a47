"""What a look at a file finds is what a recipe on it would meet, and the recipe that it writes runs."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.fixtures_cli import Tunery, home, tunery

from tunery.core.errors import ConfigError
from tunery.core.progress import Silent
from tunery.pipeline.context import RunContext
from tunery.pipeline.doctor.diagnose import Diagnosis, diagnose
from tunery.pipeline.recipe import load_recipe
from tunery.pipeline.stages.data import make_dataset
from tunery.pipeline.stages.preflight import check_before_training
from tunery.store.workspace import Workspace

__all__ = ["home", "tunery"]

THINGS = [f"{kind} {n}" for n in range(6) for kind in ("card", "loan", "fee", "limit", "rate")]


def chat(thing: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": f"What of my {thing}?"},
            {"role": "assistant", "content": f"Your {thing} is fine."},
        ]
    }


def pair(thing: str) -> dict[str, Any]:
    return {"prompt": f"What of my {thing}?", "chosen": f"The {thing} is fine.", "rejected": "No."}


LAYOUTS: dict[str, tuple[str, str, list[Mapping[str, Any]]]] = {
    "OpenAI chat": ("chat", "sft", [chat(t) for t in THINGS]),
    "ShareGPT": (
        "chat",
        "sft",
        [
            {"conversations": [{"from": "human", "value": f"{t}?"}, {"from": "gpt", "value": f"{t}."}]}
            for t in THINGS
        ],
    ),
    "Alpaca": (
        "instruction",
        "sft",
        [{"instruction": "Name it.", "input": f"a {t}", "output": f"{t}."} for t in THINGS],
    ),
    "TRL": ("completion", "sft", [{"prompt": f"{t}?", "completion": f"{t}."} for t in THINGS]),
    "pairs": ("preference", "dpo", [pair(t) for t in THINGS]),
    "OpenAI pairs": (
        "preference",
        "dpo",
        [
            {
                "input": {"messages": chat(t)["messages"][:1]},
                "preferred_output": [{"role": "assistant", "content": f"{t} is fine."}],
                "non_preferred_output": [{"role": "assistant", "content": "no"}],
            }
            for t in THINGS
        ],
    ),
    "TRL's unpaired": (
        "completion",
        "kto",
        [
            {"prompt": f"{t}?", "completion": f"{t}." if liked else "No idea.", "label": liked}
            for t in THINGS
            for liked in (True, False)
        ],
    ),
    "chats with thumbs": ("chat", "kto", [chat(t) | {"kto_tag": i % 3 > 0} for i, t in enumerate(THINGS)]),
    "a table": ("columns", "sft", [{"text": f"my {t} is lost", "label": t.split()[0]} for t in THINGS]),
}


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def look(file: Path, base: Path) -> Diagnosis:
    return diagnose(file, base, base=str(base), recipe_dir=file.parent)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_recipe_it_writes_builds_and_passes_the_checks_that_it_foretold(
    name: str, tiny_model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    layout, method, rows = LAYOUTS[name]
    found = look(write(tmp_path / "Rows of mine.jsonl", rows), tiny_model)
    assert (found.layout, found.method, found.rows, found.problems) == (layout, method, len(rows), ())
    (tmp_path / "recipe.yaml").write_text(found.recipe, encoding="utf-8")
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert recipe.name == "rows-of-mine"
    context = RunContext(recipe, workspace, tmp_path, Silent())
    dataset = make_dataset(context)
    checked = check_before_training(context, dataset)
    assert checked.passed
    assert found.preflight is not None
    assert found.preflight.longest >= checked.longest  # which leaves out the test split
    assert (dataset.preference, dataset.unpaired) == (method == "dpo", method == "kto")
    assert not any("nothing reads" in w or "several answers" in w for w in found.warnings)
    assert found.usable >= dataset.rows_kept


def test_csv_and_parquet_of_the_same_rows_are_read_alike(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"question": f"What of {t}?", "answer": f"{t} is fine"} for t in THINGS]
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["question", "answer"])
        table.writeheader()
        table.writerows(rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")  # type: ignore[no-untyped-call]
    one, other = (look(tmp_path / name, tiny_model) for name in ("rows.csv", "rows.parquet"))
    assert one.columns == other.columns == {"input": "question", "output": "answer"}
    assert one.preflight == other.preflight
    assert (one.format, other.format) == ("csv", "parquet")


def test_answers_that_are_objects_are_learnt_as_json(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"text": f"about {t}", "key": {"what": t}} for t in THINGS]
    found = look(write(tmp_path / "rows.jsonl", rows), tiny_model)
    assert found.problems == ()
    assert "output_json: true" in found.recipe
    assert "metric: field_match" in found.recipe


def test_repeats_and_prompts_with_two_answers_are_named(tiny_model: Path, tmp_path: Path) -> None:
    rows = [chat(t) for t in THINGS]
    other = chat(THINGS[0])
    other["messages"][1]["content"] = "I do not know."
    found = look(write(tmp_path / "rows.jsonl", [*rows, rows[3], other]), tiny_model)
    assert found.repeats == 1
    assert any("rows 1 and 32" in warning for warning in found.warnings)
    assert found.problems == ()


def test_personal_data_and_keys_are_counted_and_never_shown(tiny_model: Path, tmp_path: Path) -> None:
    rows = [chat(t) for t in THINGS]
    rows[0]["messages"][0]["content"] += " Write to ada@example.org, key sk-proj-" + "a1B2c3D4" * 6
    found = look(write(tmp_path / "rows.jsonl", rows), tiny_model)
    assert found.personal_data["EMAIL_ADDRESS"] == 1
    assert sum(found.personal_data.values()) == 2
    assert "ada@example.org" not in found.model_dump_json()
    assert "a1B2c3D4" not in found.model_dump_json()


STOPS: dict[str, tuple[list[Mapping[str, Any]], str]] = {
    "too few rows": ([chat(t) for t in THINGS[:4]], "too few rows to split: 4"),
    "one class": ([{"input": t, "output": "yes"} for t in THINGS], "there is one class only"),
    "rows that are none": (
        [*[chat(t) for t in THINGS[:5]], *[{"messages": "hello"} for _ in THINGS[5:]]],
        "messages: 'hello'",
    ),
    "rows over the window": (
        [
            {"prompt": f"{t}?", "completion": f"{t} " * 600 if n % 3 else "short"}
            for n, t in enumerate(THINGS)
        ],
        "is too short for 20 rows of 30",
    ),
}


@pytest.mark.parametrize("name", STOPS)
def test_what_stops_training_is_a_problem_with_its_reason(
    name: str, tiny_model: Path, tmp_path: Path
) -> None:
    rows, reason = STOPS[name]
    found = look(write(tmp_path / "rows.jsonl", rows), tiny_model)
    assert any(reason in problem for problem in found.problems)
    with pytest.raises(ConfigError, match=r"rows\.jsonl"):
        found.require()


def test_a_few_rows_over_the_window_are_left_out_by_the_recipe(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"{t}?", "completion": f"{t}."} for t in THINGS]
    rows[7]["completion"] = "word " * 2000
    found = look(write(tmp_path / "rows.jsonl", rows), tiny_model)
    assert found.problems == ()
    assert f"max_tokens: {found.window}" in found.recipe
    assert any("row 8 (" in warning for warning in found.warnings)


def test_rows_that_the_template_refuses_are_named_in_its_words(tiny_model: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    template = (base / "chat_template.jinja").read_text(encoding="utf-8")
    guard = "{% for m in messages %}{% if 'loan' in m.content %}{{ raise_exception('no loans') }}{% endif %}"
    (base / "chat_template.jinja").write_text(guard + "{% endfor %}" + template, encoding="utf-8")
    found = look(write(tmp_path / "rows.jsonl", [chat(t) for t in THINGS]), base)
    assert any("6 rows of 30: row 2: no loans" in warning for warning in found.warnings)


def test_a_template_without_a_stop_token_is_a_problem(tiny_model: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    bare = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    (base / "chat_template.jinja").write_text(
        bare + "{% if add_generation_prompt %}assistant: {% endif %}", encoding="utf-8"
    )
    found = look(write(tmp_path / "rows.jsonl", [chat(t) for t in THINGS]), base)
    assert any("is not trained, so the model would never learn to stop" in p for p in found.problems)


def test_only_the_first_rows_of_a_large_file_are_looked_at(tiny_model: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [chat(f"{t} {n}") for n in range(2000) for t in THINGS])
    started = time.monotonic()
    found = diagnose(file, tiny_model, base=str(tiny_model), recipe_dir=tmp_path, most_rows=400)
    assert (found.rows, found.whole) == (400, False)
    assert time.monotonic() - started < 10


def test_the_command_writes_a_recipe_once_and_leaves_with_2_where_training_would_stop(
    tiny_model: Path, tunery: Tunery, tmp_path: Path
) -> None:
    good = write(tmp_path / "rows.jsonl", [chat(t) for t in THINGS])
    recipe = tmp_path / "recipe.yaml"
    called = tunery("doctor", good, "--base", tiny_model, "--write", recipe)
    assert called.code == 0, called.err
    assert "⟦Your card 0 is fine." in called.out
    assert load_recipe(recipe).data.sources[0].path == "rows.jsonl"
    again = tunery("doctor", good, "--base", tiny_model, "--write", recipe)
    assert again.code == 2
    assert "is there already" in again.err
    bad = write(tmp_path / "few.jsonl", [chat(t) for t in THINGS[:3]])
    refused = tunery("doctor", bad, "--base", tiny_model, "--json")
    assert refused.code == 2
    assert refused.json["passed"] is False
    assert "too few rows" in refused.error["message"]


def test_columns_that_no_name_tells_are_named_by_the_caller(
    tiny_model: Path, tunery: Tunery, tmp_path: Path
) -> None:
    file = write(tmp_path / "rows.jsonl", [{"v1": t, "v2": f"{t} it is", "v3": 1} for t in THINGS])
    lost = tunery("doctor", file, "--base", tiny_model, "--json")
    assert lost.error["hint"] == "tunery doctor FILE --input COLUMN --output COLUMN"
    named = tunery("doctor", file, "--base", tiny_model, "--json", "--input", "v1", "--output", "v2")
    assert named.code == 0
    assert named.json["columns"] == {"input": "v1", "output": "v2"}
