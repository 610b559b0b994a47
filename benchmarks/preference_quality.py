"""Whether preference training puts held-out pairs into order: supervised, then DPO, on `rasbt_instruct`.

    python benchmarks/preference_quality.py FILE [--rows 560] [--test 200] [--learning-rate 5e-4 …]

FILE is ``instruction-data-with-preference.json`` of rasbt/LLMs-from-scratch (ch07/04). Both trainings see the
same pairs. Printed with 95 % intervals, all over the same test pairs and on the engine that serves: for the
base, the supervised model and each DPO, on how many pairs the preferred answer is likelier than the
rejected one (ranking accuracy), McNemar's test of DPO against the supervised model, and on how many pairs
the preferred answer gained more over the supervised model than the rejected one did (TRL's
``rewards/accuracies``: the order of implicit rewards).
A killed run goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tunery.core.evaluation import Evaluation, Metric
from tunery.core.progress import Silent
from tunery.core.run import START, TUNED, Run
from tunery.core.statistics import wilson_interval
from tunery.evaluate.comparison import compare
from tunery.evaluate.metrics import PREFERENCE_ACCURACY, PREFERENCE_MARGIN
from tunery.pipeline.context import RunContext
from tunery.pipeline.loop import run_recipe
from tunery.pipeline.recipe import Recipe, parse_recipe
from tunery.pipeline.stages.evaluate import predictions_of
from tunery.store.workspace import Workspace

_ONCE = {"batch_size": 8, "epochs": 1, "keep": "last", "early_stopping": None, "validation_every": 1000}


def main() -> None:
    """Train, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=560)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, nargs="+", default=[5e-4])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    workspace = Workspace.open()
    for rate in options.learning_rate:
        wanted = recipe(options, rate)
        run = run_recipe(RunContext(wanted, workspace, Path.cwd(), Silent()))
        if run.status not in ("succeeded", "refused"):
            raise SystemExit(f"{run.id}: {run.status}: {run.error}")
        told(workspace, run, rate)


def recipe(options: argparse.Namespace, rate: float) -> Recipe:
    """Return the recipe of both trainings."""
    columns = {"instruction": "instruction", "input": "input", "output": "chosen", "rejected": "rejected"}
    source = {"path": str(options.file.resolve()), "columns": columns, "limit": options.rows}
    common = {**_ONCE, "threads": options.threads, "device": "cpu", "smoke": False}
    values: dict[str, Any] = {
        "name": "polite",
        "goal": {"metric": PREFERENCE_ACCURACY, "target": 0.8},
        "base": "smollm2-135m-instruct",
        "data": {"sources": [source], "split": {"test": options.test, "validation": 16}},
        "train": {
            **common,
            "method": "dpo",
            "learning_rate": rate,
            "start_from": {**common, "method": "sft", "learning_rate": 2e-4},
        },
        "evaluate": {
            "suites_off": "not measured here",
            "metrics": [PREFERENCE_ACCURACY],
            "max_new_tokens": 1,
            "baseline": {"few_shot": False, "constrained": False},
        },
        "gate": {"rules": [{"metric": PREFERENCE_ACCURACY, "gain_over": START, "significant": True}]},
    }
    return parse_recipe(values, where="recipe")


def told(workspace: Workspace, run: Run, rate: float) -> None:
    """Print what one DPO came to, beside what it began with."""
    found: dict[str, Evaluation] = {n: workspace.evaluations.get(i) for n, i in run.evaluations.items()}
    print(f"DPO at {rate:g} ({run.adapter_id})")
    for name, evaluation in found.items():
        print(f"  {name:10} preferred answer likelier {shown(evaluation.metrics[PREFERENCE_ACCURACY])}")
    start, tuned = (predictions_of(workspace, run.evaluations[name]) for name in (START, TUNED))
    compared = compare(start, tuned, metric=PREFERENCE_ACCURACY)
    low, high = (100 * end for end in compared.ci95)
    print(
        f"  gain over the supervised model {100 * compared.difference:+.1f} points "
        f"({low:.1f} to {high:.1f}), p = {compared.p_value:.2g}, {compared.fixed} pairs put into order, "
        f"{compared.broken} out of it"
    )
    before = {p.id: p.scores[PREFERENCE_MARGIN] for p in start if PREFERENCE_MARGIN in p.scores}
    moved = [p.scores[PREFERENCE_MARGIN] > before[p.id] for p in tuned if p.id in before]
    low, high = (100 * end for end in wilson_interval(sum(moved), len(moved)))
    print(f"  implicit reward in order {100 * sum(moved) / len(moved):.1f} % ({low:.1f} to {high:.1f})")


def shown(metric: Metric) -> str:
    """Return a share with its interval."""
    low, high = (100 * end for end in metric.ci95)
    return f"{100 * metric.value:.1f} % ({low:.1f} to {high:.1f}, n = {metric.n})"


if __name__ == "__main__":
    main()
