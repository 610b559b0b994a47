"""Draw the fixed samples of the built-in suites from copies of their sources.

    python scripts/suites.py FOLDER

FOLDER holds ``hellaswag``, ``mmlu``, ``redteam`` and ``xstest`` as ``suites/data/LICENCES.txt`` says where
they come from. The same copies give the same files, byte for byte.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import random
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1] / "src" / "tunery" / "evaluate" / "suites" / "data"
HELLASWAG, MMLU, HARMFUL, SAFE = 200, 200, 25, 10
"""Items of each; of the harmful ones of each source, of the safe ones of each type [count]."""
LONGEST = 1_000
"""MMLU questions beyond it are left out, so that the sample is quick [characters]."""
LETTERS = "ABCD"
_LEFT_OUT = re.compile(r"child|minor|underage|teen|sexual", re.IGNORECASE)
"""Harmful prompts about these are not shipped."""

Row = dict[str, Any]


def main() -> None:
    folder = Path(sys.argv[1])
    write("general", [*hellaswag(folder / "hellaswag"), *mmlu(folder / "mmlu" / "test")])
    write("safety", [*harmful(folder / "redteam"), *safe(folder / "xstest")])


def write(name: str, rows: Iterable[Row]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as file:  # no time: the same bytes every time
        file.write(text.encode())
    (HERE / f"{name}.jsonl.gz").write_bytes(packed.getvalue())
    print(f"{name}: {text.count(chr(10))} rows, {len(packed.getvalue()):,} bytes")


def hellaswag(folder: Path) -> Iterator[Row]:
    lines = bz2.decompress((folder / "hellaswag_val_full.txt.bz2").read_bytes()).decode().splitlines()
    items = [lines[i : i + 6] for i in range(0, len(lines), 6)]
    for number in sorted(random.Random(0).sample(range(len(items)), HELLASWAG)):
        context, right, *endings = (line.strip() for line in items[number])
        yield {
            "id": f"hellaswag-{number}",
            "kind": "hellaswag",
            "prompt": context,
            "reference": endings[int(right)],
            "choices": endings,
        }


def mmlu(folder: Path) -> Iterator[Row]:
    subjects = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            numbered = list(enumerate(csv.DictReader(file)))
        short = [(n, row) for n, row in numbered if sum(map(len, row.values())) <= LONGEST]
        random.Random(path.stem).shuffle(short)
        subjects[path.stem.removesuffix("_test")] = short
    turn = 0
    drawn: list[tuple[str, int, dict[str, str]]] = []
    while len(drawn) < MMLU:
        drawn += [(name, *rows[turn]) for name, rows in subjects.items() if turn < len(rows)]
        turn += 1
    for name, number, row in sorted(drawn[:MMLU], key=lambda item: item[:2]):
        offered = "\n".join(f"{letter}. {row[f'choice{i}']}" for i, letter in enumerate(LETTERS))
        yield {
            "id": f"mmlu-{name}-{number}",
            "kind": "mmlu",
            "prompt": f"{row['question'].strip()}\n{offered}",
            "reference": LETTERS[int(row["answer"])],
            "choices": list(LETTERS),
        }


def harmful(folder: Path) -> Iterator[Row]:
    with (folder / "advbench_behaviors.csv").open(encoding="utf-8", newline="") as file:
        advbench = [row["Behavior"] for row in csv.DictReader(file)]
    with (folder / "harmbench_behaviors_text_val.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["FunctionalCategory"] == "standard"]
        harmbench = [row["Behavior"] for row in rows]
    with (folder / "strongreject_dataset.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "custom"]
        strongreject = [row["forbidden_prompt"] for row in rows if row["category"] != "Sexual content"]
    malicious = (folder / "malicious_instruct.txt").read_text(encoding="utf-8").splitlines()
    named = {
        "advbench": advbench,
        "harmbench": harmbench,
        "strongreject": strongreject,
        "maliciousinstruct": malicious,
    }
    for name, prompts in named.items():
        usable = [(n, p.strip()) for n, p in enumerate(prompts) if p.strip() and not _LEFT_OUT.search(p)]
        for number, prompt in sorted(random.Random(name).sample(usable, HARMFUL)):
            yield {"id": f"{name}-{number}", "kind": name, "expect": "harmful", "prompt": prompt}


def safe(folder: Path) -> Iterator[Row]:
    with (folder / "xstest_prompts.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] == "safe"]
    for kind in sorted({row["type"] for row in rows}):
        own = [row for row in rows if row["type"] == kind]
        for row in sorted(random.Random(kind).sample(own, SAFE), key=lambda row: int(row["id"])):
            yield {"id": f"xstest-{row['id']}", "kind": "xstest", "expect": "safe", "prompt": row["prompt"]}


if __name__ == "__main__":
    main()
