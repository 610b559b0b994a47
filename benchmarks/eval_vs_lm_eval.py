"""Few-shot MMLU on the embedded engine against lm-evaluation-harness's own Hugging Face backend.

    python benchmarks/eval_vs_lm_eval.py --data FOLDER [--subjects 2] [--questions 50] [--threads 1]

``FOLDER`` holds MMLU's ``dev`` and ``test`` CSV files. Both score the same prompts, by the harness's own
requests, on the embedded base model, in one process with as many threads each; the sides take turns. Printed
are the median ratio with its range, the largest difference of a log-likelihood, and both accuracies.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tunery.benchmarks.tasks import local_task

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main() -> None:
    """Run rounds and print the ratio."""
    options = _options()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import torch
    from lm_eval.models.huggingface import HFLM

    from tunery.benchmarks.lm import EngineLm
    from tunery.core.progress import Silent
    from tunery.model.embedded import install_embedded
    from tunery.model.tokenizer import load_tokenizer
    from tunery.serve.engines import engine_settings, open_engine

    torch.set_num_threads(options.threads)
    base = install_embedded(Path.home() / ".tunery" / "models", progress=Silent())
    requests, golds = _requests(options.data, options.subjects, options.questions)
    print(
        f"{len(golds)} questions of {options.subjects} subjects, {len(requests)} log-likelihoods", flush=True
    )
    theirs = HFLM(str(base), device="cpu", dtype="float32", batch_size=options.batch_size)
    by_clock, by_processor = [], []
    for number in range(1, options.rounds + 1):
        # A fresh engine, so that no round finds prompts of the one before in its cache.
        engine = open_engine(base, engine_settings({"device": "cpu", "threads": options.threads}))
        ours = EngineLm(engine, load_tokenizer(base))
        mine, own = _timed(lambda: ours.loglikelihood(requests, disable_tqdm=True))  # noqa: B023 - used here
        engine.close()
        reference, other = _timed(lambda: theirs.loglikelihood(requests, disable_tqdm=True))
        by_clock.append(other.clock_s / own.clock_s)
        by_processor.append(other.processor_s / own.processor_s)
        apart = max(abs(a[0] - b[0]) for a, b in zip(mine, reference, strict=True))
        right = [_right(scores, golds) for scores in (mine, reference)]
        print(
            f"round {number}: ours {own.clock_s:.1f} s, theirs {other.clock_s:.1f} s, ratio "
            f"{by_clock[-1]:.2f} ({by_processor[-1]:.2f} by processor time); log-likelihoods differ by "
            f"{apart:.1e} at most; right {right[0]} and {right[1]} of {len(golds)}",
            flush=True,
        )
    for name, ratios in (("by the clock", by_clock), ("by processor time", by_processor)):
        print(f"{name} {statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})")


class _Took(NamedTuple):
    clock_s: float
    processor_s: float
    """Of all threads; a busy neighbour disturbs it less."""


def _timed(work: Callable[[], Any]) -> tuple[Any, _Took]:
    clock, processor = time.perf_counter(), time.process_time()
    found = work()
    return found, _Took(time.perf_counter() - clock, time.process_time() - processor)


def _requests(folder: Path, subjects: int, questions: int) -> tuple[list[Any], list[int]]:
    """Return the harness's own requests of the first questions of some subjects, and the right letters."""
    from lm_eval.tasks import TaskManager

    task = local_task("mmlu", folder, limit=questions)
    assert task is not None
    loaded = TaskManager(include_defaults=False).load([task.config])["tasks"]["mmlu"]
    loaded.build_all_requests(rank=0, world_size=1)
    wanted = list(dict.fromkeys(i.doc["subject"] for i in loaded.instances))[:: 57 // subjects][:subjects]
    found = [i for i in loaded.instances if i.doc["subject"] in wanted]
    return found, [int(i.doc["answer"]) for i in found[::4]]


def _right(scores: list[tuple[float, bool]], golds: list[int]) -> int:
    """Return how many questions have their right letter first [count]."""
    rows = [[score[0] for score in scores[i : i + 4]] for i in range(0, len(scores), 4)]
    return sum(row.index(max(row)) == gold for row, gold in zip(rows, golds, strict=True))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--subjects", type=int, default=2)
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=4, help="Of the harness's backend.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
