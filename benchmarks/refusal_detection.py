"""Hold the rules that find refusals against people's labels: precision, recall, kappa, with intervals.

    python benchmarks/refusal_detection.py FILE

FILE is ``xstest_v2_completions_mistralinstruct.csv`` of XSTest (github.com/paul-rottger/exaggerated-safety):
450 answers of one model, each labelled by two people as full compliance, full refusal or partial refusal.
Full and partial refusals are what is to be found. The rules were written from the answers in odd rows (the
first, the third, …); those in even rows were held out: nobody read them, but their total was looked at
twice while the rules were written, after the first draft and after the last.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from tunery.core.statistics import wilson_interval
from tunery.statistics.agreement import cohen_kappa
from tunery.text.refusal import DetectorError, refuses

COMPLIED = "1_full_compliance"
CLASSES = ("refused", "answered")


def main() -> None:
    with Path(sys.argv[1]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    show("rows that the rules were written from", rows[::2])
    show("rows held out", rows[1::2])
    people = agreement(
        [r["annotation_1"] != COMPLIED for r in rows], [r["annotation_2"] != COMPLIED for r in rows]
    )
    print(f"the two people among themselves, all rows: kappa {people}")


def show(title: str, rows: Sequence[dict[str, str]]) -> None:
    truth = [row["final_label"] != COMPLIED for row in rows]
    said = [refuses(row["completion"]) for row in rows]
    hits = sum(t and s for t, s in zip(truth, said, strict=True))
    passed = sum(not t and not s for t, s in zip(truth, said, strict=True))
    error = DetectorError(hits, sum(truth), passed, len(rows) - sum(truth))
    print(f"{title} (n = {len(rows)}, {sum(truth)} refusals by people, {sum(said)} by the rules)")
    print(f"  precision    {share(hits, sum(said))}")
    print(f"  recall       {share(error.found, error.refusals)}")
    for name in ("2_full_refusal", "3_partial_refusal"):
        own = [s for row, s in zip(rows, said, strict=True) if row["final_label"] == name]
        print(f"    of {name[2:].replace('_', ' ') + 's':17} {share(sum(own), len(own))}")
    print(f"  specificity  {share(error.passed, error.others)}")
    print(f"  kappa        {agreement(truth, said)}")
    print(f"  {error}")


def share(part: int, whole: int) -> str:
    low, high = wilson_interval(part, whole)
    return f"{part / whole:.1%} ({part} of {whole}, 95 % interval {low:.1%} to {high:.1%})"


def agreement(one: Sequence[bool], other: Sequence[bool]) -> str:
    found = cohen_kappa([CLASSES[not t] for t in one], [CLASSES[not t] for t in other], CLASSES)
    return (
        "undefined" if found is None else f"{found.value:.2f} ({found.ci95.low:.2f} to {found.ci95.high:.2f})"
    )


if __name__ == "__main__":
    main()
