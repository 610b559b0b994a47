"""What ``auto`` reaches beside simple constants, on four small tasks: the same rows, seeds and test rows.

    python benchmarks/auto_defaults.py DATA [--task intents …] [--seeds 0 1] [--threads 1]

DATA holds ``banking77/train.csv``, ``sroie.jsonl`` (the one of ``recipes/data``) and
``instruction-data-with-preference.json`` of rasbt/LLMs-from-scratch (ch07/04). For each task and seed the
learning rate, epochs, batch and rank are those of ``auto`` and those of each constant; the training that was
best by its validation loss is measured on the test split with the engine that serves. Printed: each metric
with its interval, and the paired difference of ``auto`` to each constant over all seeds' answers, one line
for each. A killed run goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.evaluation import Prediction
from tunery.core.progress import Silent
from tunery.evaluate.comparison import compare
from tunery.evaluate.metrics import PREFERENCE_ACCURACY
from tunery.pipeline.context import RunContext
from tunery.pipeline.loop import train_recipe
from tunery.pipeline.recipe import parse_recipe
from tunery.pipeline.stages import evaluate as ev
from tunery.store.workspace import Workspace

AUTO = "auto"
OPEN = dict.fromkeys(("learning_rate", "epochs", "batch_size", "rank"), AUTO)
CONSTANTS: Mapping[str, Mapping[str, float]] = {
    "tunery's defaults": {"learning_rate": 1e-3, "epochs": 3, "batch_size": 16, "rank": 16},
    "2e-4, as LoRA examples have it": {"learning_rate": 2e-4, "epochs": 3, "batch_size": 8, "rank": 16},
    "5e-4, five epochs, rank 32": {"learning_rate": 5e-4, "epochs": 5, "batch_size": 8, "rank": 32},
}
PREFERENCE_CONSTANTS: Mapping[str, Mapping[str, float]] = {
    "tunery's defaults": {"learning_rate": 1e-4, "epochs": 1, "batch_size": 16, "rank": 16},
    "5e-5, a tenth more often": {"learning_rate": 5e-5, "epochs": 2, "batch_size": 8, "rank": 16},
    "1e-3, once": {"learning_rate": 1e-3, "epochs": 1, "batch_size": 8, "rank": 16},
}


class Task(NamedTuple):
    """What is learnt."""

    metric: str
    data: Mapping[str, Any]
    train: Mapping[str, Any] = {}
    evaluate: Mapping[str, Any] = {}
    constants: Mapping[str, Mapping[str, float]] = CONSTANTS


def tasks(folder: Path) -> dict[str, Task]:
    """Return the tasks by name."""
    pairs = {
        "path": str(folder / "instruction-data-with-preference.json"),
        "columns": {"instruction": "instruction", "input": "input", "output": "chosen"},
        "limit": 560,
    }
    return {
        "intents": Task(
            "exact_match",
            {
                "sources": [
                    {
                        "path": str(folder / "banking77" / "train.csv"),
                        "columns": {"input": "text", "output": "category"},
                        "label_style": "words",
                        "limit_per_class": 5,
                    }
                ],
                "system_prompt": "Name the intent of the bank customer's message.",
                "split": {"test": 770, "validation": 77},
            },
            evaluate={"max_new_tokens": 16},
        ),
        "receipts": Task(
            "field_match",
            {
                "sources": [
                    {
                        "path": str(folder / "sroie.jsonl"),
                        "columns": {"input": "text", "output": "key", "metadata": ["id"]},
                        "output_json": True,
                        "limit": 200,
                    }
                ],
                "system_prompt": "Extract company, date, address and total from the receipt as JSON.",
                "clean": {"mask_pii": False},
                "split": {"test": 60, "validation": 16},
                "max_tokens": 1024,
            },
            evaluate={"max_new_tokens": 160},
        ),
        "instructions": Task(
            "perplexity",
            {"sources": [{**pairs, "shape": "instruction"}], "split": {"test": 150, "validation": 40}},
            evaluate={"max_new_tokens": 1},
        ),
        "preferences": Task(
            PREFERENCE_ACCURACY,
            {
                "sources": [{**pairs, "columns": {**pairs["columns"], "rejected": "rejected"}}],
                "split": {"test": 200, "validation": 16, "seed": 7},
            },
            {"method": "dpo", "start_from": {"method": "sft", "learning_rate": 2e-4, "epochs": 1}},
            {"max_new_tokens": 1},
            PREFERENCE_CONSTANTS,
        ),
    }


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", nargs="+", default=["intents", "receipts", "instructions", "preferences"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    known = tasks(options.data.resolve())
    workspace = Workspace.open()
    for name in options.task:
        task = known[name]
        found: dict[str, list[Prediction]] = {}
        for seed in options.seeds:
            for label, values in {AUTO: OPEN, **task.constants}.items():
                one = measured(workspace, name, task, {**values, "seed": seed}, options.threads, label)
                found.setdefault(label, []).extend(p.model_copy(update={"id": f"{seed}/{p.id}"}) for p in one)
        for label in task.constants:
            told(task, label, found[label], found[AUTO])


def measured(
    workspace: Workspace, name: str, task: Task, values: Mapping[str, Any], threads: int, label: str
) -> Sequence[Prediction]:
    """Train with some settings and return the answers to the test rows."""
    wanted: dict[str, Any] = {
        "name": f"auto-{name}",
        "goal": {"metric": task.metric, "target": 0.5},
        "base": "smollm2-135m-instruct",
        "data": task.data,
        "train": {"device": "cpu", "threads": threads, "smoke": False, **task.train, **values},
        "evaluate": {"metrics": [task.metric], **task.evaluate},
    }
    context = RunContext(parse_recipe(wanted, where=name), workspace, Path.cwd(), Silent())
    try:
        trained = train_recipe(context)
        judged = ev.measure(
            context,
            ev.test_task(context, trained.dataset),
            ev.tuned_subject(context, trained.adapter),
            trained.adapter,
        )
    finally:
        context.release_engine()
    metric, train = judged.evaluation.metrics[task.metric], context.recipe.train
    low, high = metric.ci95
    print(
        f"{name}, seed {train.seed}, {label} (rate {train.learning_rate:g}, {train.epochs:g} epochs, batch "
        f"{train.batch_size}, rank {train.rank}): {task.metric} {metric.value:.4f} ({low:.4f} to {high:.4f}, "
        f"n = {metric.n}), {trained.adapter.seconds:.0f} s",
        flush=True,
    )
    return judged.predictions


def told(task: Task, label: str, constant: Sequence[Prediction], auto: Sequence[Prediction]) -> None:
    """Print the paired difference of ``auto`` to a constant; above 0 ``auto`` is better."""
    found = compare(constant, auto, metric=task.metric, names=(label, AUTO))
    low, high = found.ci95
    print(
        f"  auto against {label}: {found.difference:+.4f} ({low:+.4f} to {high:+.4f}), "
        f"p = {found.p_value:.2g}",
        flush=True,
    )


if __name__ == "__main__":
    main()
