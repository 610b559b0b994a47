"""Tasks whose rows are at hand: samples, files in a folder, and the harness's own prompts."""

from __future__ import annotations

import bz2
import json
from pathlib import Path
from typing import Any

import lm_eval.tasks
import pytest
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from tunery.benchmarks.tasks import SAMPLES, local_task, main_metric
from tunery.core.errors import ConfigError

ABOUT = "The following are multiple choice questions (with answers) about"
QUESTIONS = [(f"What is {n}?", ["a", "b", "c", "d"], n % 4) for n in range(7)]


def loaded(config: dict[str, Any]) -> Any:
    return TaskManager(include_defaults=False).load([config])["tasks"][config["task"]]


def mmlu_folder(folder: Path, *, header: bool = True) -> Path:
    for split, some in (("dev", QUESTIONS[:5]), ("test", QUESTIONS[5:])):
        (folder / "mmlu" / split).mkdir(parents=True)
        lines = ["question,choice0,choice1,choice2,choice3,answer"] if header else []
        lines += [f"{q},{','.join(choices)},{a if header else 'ABCD'[a]}" for q, choices, a in some]
        (folder / "mmlu" / split / f"high_school_{split}.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_come_with_the_package_and_load_in_the_harness(name: str) -> None:
    task = local_task(name, limit=2)
    assert task is not None
    again = local_task(name, limit=2)
    assert again is not None
    assert again.data == task.data
    built = loaded(task.config)
    docs = list(built.test_docs())
    assert len(docs) == (114 if name == "mmlu_sample" else 2)
    assert len({doc["id"] for doc in docs}) == len(docs)
    assert main_metric(name).startswith(("accuracy", "exact_match"))


@pytest.mark.parametrize("header", [True, False])
def test_prompts_of_mmlu_are_word_for_word_the_harness_own(tmp_path: Path, header: bool) -> None:
    from datasets import Dataset, DatasetDict

    task = local_task("mmlu", mmlu_folder(tmp_path, header=header))
    assert task is not None
    ours = loaded(task.config)
    rows = [{"question": q, "choices": c, "answer": a, "subject": "high_school"} for q, c, a in QUESTIONS]
    published = Path(lm_eval.tasks.__file__).parent / "mmlu" / "default" / "mmlu_anatomy.yaml"
    theirs = loaded(
        {
            **load_yaml(published),
            "description": f"{ABOUT} high school.\n\n",
            "custom_dataset": lambda **_: DatasetDict(
                {"dev": Dataset.from_list(rows[:5]), "test": Dataset.from_list(rows[5:])}
            ),
            "num_fewshot": 5,
        }
    )
    for built in (ours, theirs):
        built.build_all_requests(rank=0, world_size=1)
    assert [i.args for i in ours.instances] == [i.args for i in theirs.instances]
    assert ours.instances[0].args[0].count("Answer:") == 6


def test_hellaswag_is_read_from_its_published_lines(tmp_path: Path) -> None:
    lines = "Cleaning: A man kneels. the man [title] x\n2\nsits.\nruns.\nwipes [step] it.\nflies.\n"
    (tmp_path / "hellaswag").mkdir()
    with bz2.open(tmp_path / "hellaswag" / "hellaswag_val_full.txt.bz2", "wt") as file:
        file.write(lines)
    task = local_task("hellaswag", tmp_path)
    assert task is not None
    (doc,) = loaded(task.config).test_docs()
    assert doc["query"] == "Cleaning: A man kneels. The man. x"
    assert (doc["choices"][2], doc["gold"]) == ("wipes it.", 2)


def test_a_folder_without_the_files_is_refused_with_a_way_on(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "train.jsonl").write_text(json.dumps({"question": "1?", "answer": "#### 1"}) + "\n")
    with pytest.raises(ConfigError, match="not the files of gsm8k") as refused:
        local_task("gsm8k", tmp_path)
    assert "gsm8k_sample" in str(refused.value.hint)


def test_other_rows_are_another_checksum(tmp_path: Path) -> None:
    whole, part = local_task("hellaswag_sample"), local_task("hellaswag_sample", limit=5)
    assert whole is not None
    assert part is not None
    assert whole.data != part.data
