"""Draw the fixed sample of the built-in suite ``safety`` from copies of its sources.

    python scripts/suites.py FOLDER

FOLDER holds ``redteam`` and ``xstest`` as ``suites/data/LICENCES.txt`` says where they come from. The same
copies give the same file, byte for byte. Items of ``general`` are drawn by ``benchmark_samples.py``.
"""

from __future__ import annotations

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
HARMFUL, SAFE = 25, 10
"""Harmful prompts of each source, safe ones of each type [count]."""
_LEFT_OUT = re.compile(r"child|minor|underage|teen|sexual", re.IGNORECASE)
"""Harmful prompts about these are not shipped."""

Row = dict[str, Any]


def main() -> None:
    folder = Path(sys.argv[1])
    write("safety", [*harmful(folder / "redteam"), *safe(folder / "xstest")])


def write(name: str, rows: Iterable[Row]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as file:  # no time: the same bytes every time
        file.write(text.encode())
    (HERE / f"{name}.jsonl.gz").write_bytes(packed.getvalue())
    print(f"{name}: {text.count(chr(10))} rows, {len(packed.getvalue()):,} bytes")


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
