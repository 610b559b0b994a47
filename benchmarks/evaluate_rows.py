"""Evaluate many rows with the tiny model: time and memory as rows grow, and the same figures after kills.

    python benchmarks/evaluate_rows.py [--rows 1000,10000] [--kills 5]

Each size runs in a process of its own, on the embedded engine with two threads. The last table kills the
evaluation of the largest size by SIGKILL at random moments until it ends, and compares with the undisturbed
run: answers must be equal, metrics but for the last bits of likelihoods, which caches round in their ways.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def evaluate_once(base: Path, rows: int, kept: Path | None) -> dict[str, Any]:
    """Evaluate so many rows; return figures and what it took."""
    from tests.tiny.build import build_tiny

    from tunery.core.example import Example, Message
    from tunery.evaluate.config import EvaluateConfig
    from tunery.evaluate.kept import KeptAnswers
    from tunery.evaluate.prompting import Subject
    from tunery.evaluate.run import evaluate
    from tunery.evaluate.task import make_task
    from tunery.model.tokenizer import load_tokenizer
    from tunery.serve.engines import engine_settings, open_engine

    if not base.exists():
        build_tiny(base)
    draw = random.Random(0)
    words = "red blue green car door hat cup pen the a of to in is it on".split()  # noqa: SIM905
    examples = []
    for number in range(rows):
        text = " ".join(draw.choices(words, k=draw.randint(20, 60)))
        turns = (Message(role="user", content=text), Message(role="assistant", content=draw.choice(words)))
        examples.append(Example(id=f"ex-{number:016x}", messages=turns, group=f"ex-{number:016x}"))
    task = make_task(
        examples, data="rows", config=EvaluateConfig(max_new_tokens=8), main_metric="exact_match"
    )
    engine = open_engine(base, engine_settings({"device": "cpu", "threads": 2, "prefix_cache_bytes": 2**26}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    with KeptAnswers(kept, "rows") as answers:
        result = evaluate(
            engine, load_tokenizer(str(base)), task, subject=Subject("tiny", "tiny"), kept=answers
        )
    taken = time.monotonic() - started
    engine.close()
    return {
        "rows": rows,
        "seconds": taken,
        "before_mib": before / 1024,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "metrics": {name: [m.value, *m.ci95] for name, m in result.evaluation.metrics.items()},
        "answers": hash(tuple(p.prediction for p in result.predictions)),
    }


def run(
    base: Path, rows: int, kept: Path | None, kill_after: float | None = None
) -> dict[str, object] | None:
    """Evaluate in a process of its own; None where it was killed."""
    command = [sys.executable, __file__, "--child", str(base), str(rows), str(kept or "")]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        try:
            out, _ = child.communicate(timeout=kill_after)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.communicate()
            return None
    return json.loads(out.splitlines()[-1])


def main() -> int:
    """Print both tables; return 1 where a killed evaluation gave other figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="1000,10000")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--child", nargs=3)
    given = parser.parse_args()
    if given.child:
        base, rows, kept = given.child
        print(json.dumps(evaluate_once(Path(base), int(rows), Path(kept) if kept else None)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "tiny"
        whole = None
        for rows in map(int, given.rows.split(",")):
            whole = run(base, rows, None)
            assert whole is not None
            each = 1000 * whole["seconds"] / rows
            print(f"{rows:7,} rows: {whole['seconds']:.1f} s, {each:.2f} ms a row, ", end="")
            print(f"peak {whole['peak_mib']:.0f} MiB ({whole['before_mib']:.0f} before)", flush=True)
        assert whole is not None
        draw = random.Random(1)
        kept, kills = Path(folder) / "answers.jsonl", 0
        while True:
            after = draw.uniform(6, 6 + whole["seconds"] / 2) if kills < given.kills else None
            again = run(base, whole["rows"], kept, after)
            if again is not None:
                break
            kills += 1
        same = again["answers"] == whole["answers"] and all(
            math.isclose(one, other, rel_tol=1e-6)
            for name, figures in whole["metrics"].items()
            for one, other in zip(figures, again["metrics"][name], strict=True)
        )
        print(f"killed {kills} times: {'the same figures and answers' if same else 'OTHER figures'}")
        return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
