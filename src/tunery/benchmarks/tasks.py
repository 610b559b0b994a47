"""Tasks that run without a network: their prompts and scoring as YAML, their rows from files."""

from __future__ import annotations

import bz2
import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.errors import ConfigError
from tunery.core.ids import canonical_json, sha256_text
from tunery.evaluate.suites import shipped_rows

_HERE = Path(__file__).parent
SAMPLE = "_sample"
"""Ending of the names of tasks whose rows are the fixed samples that come with the package."""
_SHOTS = 5
_LAST_SENTENCE = re.compile(r"(?<=[.!?] )[a-z][^.!?]*$")
"""A sentence that the endings go on with; it stands in the published text in small letters."""
_LINES_PER_QUESTION = 6

Rows = dict[str, list[dict[str, Any]]]
"""Split to its rows."""


class LocalTask(NamedTuple):
    """A task with its rows at hand."""

    config: dict[str, Any]
    """As lm-eval takes it, its rows among it."""
    data: str
    """Checksum of the rows, ``sha256:…``."""


def main_metric(name: str) -> str:
    """Return the metric that a task is known by; of one of the hub its accuracy."""
    kind = name.removesuffix(SAMPLE)
    return str(_definition(kind)["metadata"]["main_metric"]) if kind in _READERS else "accuracy"


def local_task(name: str, folder: Path | None = None, *, limit: int | None = None) -> LocalTask | None:
    """Return a task whose rows are at hand; None where neither package nor folder has them.

    Args:
        name: ``mmlu_sample`` for the rows in the package, ``mmlu`` for those of ``folder``.
        folder: Holds a folder for each benchmark, with its published files in it.
        limit: First rows of the test split to take [count]; of MMLU of each subject.

    Raises:
        ConfigError: The folder lacks the benchmark's files.
    """
    kind = name.removesuffix(SAMPLE)
    if kind not in _READERS or (kind == name and folder is None):
        return None
    rows = _sample(kind) if kind != name else _READERS[kind](_found(folder or Path(), kind))
    test = [row for _, some in _by_subject(rows["test"]) for row in islice(some, limit)]
    rows = {**rows, "test": _with_shots(test, rows) if kind == "mmlu" else test}
    config = _definition(kind) | {
        "task": name,
        "dataset_path": name,
        "custom_dataset": lambda **_: _dataset(rows),
    }
    return LocalTask(config, f"sha256:{sha256_text(canonical_json(rows))}")


def read_mmlu(folder: Path) -> Rows:
    """Read ``dev/SUBJECT_dev.csv`` and ``test/SUBJECT_test.csv``, with a header or without."""
    rows: Rows = {}
    for split in ("dev", "test"):
        rows[split] = [
            {"id": f"{subject}/{number}", "subject": subject, **question}
            for path in sorted((folder / split).glob(f"*_{split}.csv"))
            for subject in [path.stem.removesuffix(f"_{split}")]
            for number, question in enumerate(_mmlu_questions(path))
        ]
    return rows


def read_hellaswag(folder: Path) -> Rows:
    """Read ``hellaswag_val_full.txt.bz2``: a question is six lines, the second its answer."""
    with bz2.open(folder / "hellaswag_val_full.txt.bz2", "rt", encoding="utf-8") as lines:
        blocks = iter(lambda: [line.rstrip("\n") for line in islice(lines, _LINES_PER_QUESTION)], [])
        rows = [
            {
                "id": str(number),
                "query": _without_markup(_LAST_SENTENCE.sub(_capitalised, beginning)),
                "choices": [_without_markup(ending) for ending in endings],
                "gold": int(gold),
            }
            for number, (beginning, gold, *endings) in enumerate(blocks)
        ]
    return {"test": rows}


def read_gsm8k(folder: Path) -> Rows:
    """Read ``train.jsonl`` and ``test.jsonl``."""
    return {
        split: [
            {"id": f"{split}/{number}", **json.loads(line)}
            for number, line in enumerate((folder / f"{split}.jsonl").read_text("utf-8").splitlines())
        ]
        for split in ("train", "test")
    }


_READERS: Mapping[str, Callable[[Path], Rows]] = {
    "gsm8k": read_gsm8k,
    "hellaswag": read_hellaswag,
    "mmlu": read_mmlu,
}
SAMPLES = tuple(f"{kind}{SAMPLE}" for kind in _READERS)
"""Tasks whose rows come with the package."""


def _definition(kind: str) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load((_HERE / "definitions" / f"{kind}.yaml").read_text("utf-8"))
    return found


def _sample(kind: str) -> Rows:
    rows: Rows = {}
    for row in shipped_rows(kind):
        rows.setdefault(row.pop("split"), []).append(row)
    return rows


def _found(folder: Path, kind: str) -> Path:
    found = folder / kind
    try:
        if _READERS[kind](found)["test"]:
            return found
        problem = "no test rows"
    except (OSError, ValueError, KeyError) as error:
        problem = str(error)
    raise ConfigError(
        f"{found}: not the files of {kind} ({problem})",
        hint=f"put its published files there, or run {kind}{SAMPLE}, whose rows come with the package",
        param="data",
    )


def _mmlu_questions(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as lines:
        for question, *choices, answer in csv.reader(lines):
            if answer in "ABCD":
                yield {"question": question, "choices": choices, "answer": "ABCD".index(answer)}
            elif answer.isdigit():
                yield {"question": question, "choices": choices, "answer": int(answer)}


def _by_subject(rows: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    subjects: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        subjects.setdefault(row.get("subject", ""), []).append(row)
    yield from subjects.items()


def _with_shots(test: list[dict[str, Any]], rows: Rows) -> list[dict[str, Any]]:
    """Put the subject's solved questions before each."""
    shots = {
        subject: f"The following are multiple choice questions (with answers) about {_spoken(subject)}.\n\n"
        + "".join(f"{_mmlu_text(row)} {'ABCD'[row['answer']]}\n\n" for row in some[:_SHOTS])
        for subject, some in _by_subject(rows["dev"])
    }
    return [{**row, "shots": shots[row["subject"]]} for row in test]


def _mmlu_text(row: Mapping[str, Any]) -> str:
    lettered = "".join(f"{letter}. {choice}\n" for letter, choice in zip("ABCD", row["choices"], strict=True))
    return f"{row['question'].strip()}\n{lettered}Answer:"


def _spoken(subject: str) -> str:
    return subject.replace("_", " ")


def _capitalised(found: re.Match[str]) -> str:
    return found.group().capitalize()


def _without_markup(text: str) -> str:
    """Return a text without WikiHow's brackets, as lm-eval's own task reads it."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


def _dataset(rows: Rows) -> Any:
    from datasets import Dataset, DatasetDict

    return DatasetDict({split: Dataset.from_list(some) for split, some in rows.items()})
