"""Draw the fixed samples of published benchmarks in ``evaluate/suites/data`` from the published files.

    python scripts/benchmark_samples.py FOLDER

``FOLDER`` holds ``mmlu``, ``hellaswag`` and ``gsm8k`` as ``tunery evaluate benchmark --data`` reads them. Run
again, it writes the same bytes.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from suites import write

from tunery.benchmarks.tasks import read_gsm8k, read_hellaswag, read_mmlu

SEED, SOLVED, PER_SUBJECT, ENDINGS, PROBLEMS = 0, 5, 5, 300, 100

Row = dict[str, Any]


def main() -> None:
    """Write one file a benchmark."""
    folder = Path(sys.argv[1])
    mmlu = read_mmlu(folder / "mmlu")
    solved, asked = [], []
    for subject in dict.fromkeys(row["subject"] for row in mmlu["dev"]):
        solved += [row for row in mmlu["dev"] if row["subject"] == subject][:SOLVED]
        asked += _drawn([row for row in mmlu["test"] if row["subject"] == subject], PER_SUBJECT)
    _write("mmlu", dev=solved, test=asked)
    _write("hellaswag", test=_drawn(read_hellaswag(folder / "hellaswag")["test"], ENDINGS))
    gsm8k = read_gsm8k(folder / "gsm8k")
    _write("gsm8k", train=gsm8k["train"][:SOLVED], test=_drawn(gsm8k["test"], PROBLEMS))


def _drawn(rows: list[Row], count: int) -> list[Row]:
    chosen = set(random.Random(SEED).sample(range(len(rows)), count))
    return [row for number, row in enumerate(rows) if number in chosen]


def _write(name: str, **splits: Iterable[Row]) -> None:
    write(name, [{"split": split, **row} for split, rows in splits.items() for row in rows])


if __name__ == "__main__":
    main()
