"""Peak memory that is planned against what a training takes, for each kind, method and size of forwards.

    python benchmarks/plan_memory.py [--tokens 512 1024] [--only lora dpo …]

Each training runs in a process of its own: SmolLM2-135M, one batch as one forward, two steps, one thread; the
peak is the resident memory's high-water mark (Linux) once the base is loaded, and while it is being loaded.
The last lines hold the state of LoRA's trained weights against that of full fine-tuning.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CASES: dict[str, dict[str, Any]] = {
    "lora": {},
    "rank 64": {"rank": 64},
    "dora": {"adapter": "dora"},
    "nf4": {"quantization": "nf4"},
    "full": {"adapter": "none"},
    "checkpointed": {"gradient_checkpointing": True},
    "dpo": {"method": "dpo"},
    "orpo": {"method": "orpo"},
    "simpo": {"method": "simpo"},
    "kto": {"method": "kto"},
}
LENGTH, SUPERVISED = 64, 8


def main() -> None:
    """Measure every case, or be one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(train(json.loads(options.case))))
        return
    print("case          tokens  planned MiB  measured MiB  planned / measured")
    for name in options.only:
        for tokens in options.tokens:
            case = json.dumps({**CASES[name], "tokens": tokens})
            ran = subprocess.run(
                [sys.executable, __file__, "--case", case],
                stdout=subprocess.PIPE,  # what a case that fails says stays readable
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                check=True,
            )
            found = json.loads(ran.stdout.splitlines()[-1])
            planned, measured = found["planned"] / 2**20, found["measured"] / 2**20
            print(
                f"{name:<13} {found['tokens']:>6}  {planned:>11,.0f}  {measured:>12,.0f}  "
                f"{planned / measured:>18.2f}",
                flush=True,
            )
    state()


def state() -> None:
    """Print how much smaller the trained state of an adapter is."""
    from tunery.model.memory import state_bytes
    from tunery.train.budget import training_of
    from tunery.train.methods.sft import SftConfig

    base, shape = smollm2()
    lora, whole = (
        state_bytes(training_of(SftConfig.model_validate({"adapter": kind}), shape, "cpu"))
        for kind in ("lora", "none")
    )
    print(
        f"trained state (weights, gradients, two moments) of {base.name}: LoRA r16 {lora / 2**20:.0f} MiB, "
        f"full {whole / 2**20:,.0f} MiB: {lora / whole:.3f}"
    )


def smollm2() -> tuple[Any, Any]:
    """Return the packaged base and its shape."""
    from tunery.model.bases import resolve_base
    from tunery.model.shape import read_shape
    from tunery.store.workspace import Workspace

    base = resolve_base("smollm2-135m-instruct", Workspace.open().root / "models")
    return base, read_shape(Path(base.path), parameters=base.parameters)


def train(case: dict[str, Any]) -> dict[str, int]:
    """Train in this process; return its peak and what was planned [bytes]."""
    import torch

    from tunery.core.progress import Silent
    from tunery.model.render import Rendered
    from tunery.plan.forecast import LIBRARIES_BYTES, RowCounts, Schedule, forecast
    from tunery.plan.machine import Machine
    from tunery.train import training as training_run
    from tunery.train.budget import training_of
    from tunery.train.methods.method import TrainingRow, TrainingRows
    from tunery.train.reporting import Reporting
    from tunery.train.section import training_methods

    torch.set_num_threads(1)
    tokens = case.pop("tokens")
    method = training_methods()[case.pop("method", "sft")]
    answers = 1 if method.takes == "answers" else 2
    each = LENGTH if answers == 1 else LENGTH + SUPERVISED  # a pair shares its prompt
    count = tokens // each
    config = method.config.model_validate(
        {
            "batch_size": count,
            "epochs": 2,
            "early_stopping": None,
            "device": "cpu",
            "threads": 1,
            "smoke": False,
            **case,
        }
    )
    drawn = random.Random(0)

    def some(length: int) -> tuple[int, ...]:
        return tuple(drawn.randrange(100, 40_000) for _ in range(length))

    mask = (0,) * (LENGTH - SUPERVISED) + (1,) * SUPERVISED

    def answered(prompt: tuple[int, ...]) -> tuple[Rendered, ...]:
        given = [prompt + some(SUPERVISED) for _ in range(answers)]
        return tuple(Rendered(ids, mask, LENGTH - SUPERVISED) for ids in given)

    rows = []
    for _ in range(count):
        prompt = some(LENGTH - SUPERVISED)
        row = TrainingRow(answered(prompt))
        if method.takes == "judged answers":
            row = row._replace(desirable=(True, False), beside=answered(prompt))
        rows.append(row)
    base, shape = smollm2()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "adapter"
        output.mkdir()
        training_run.train_adapter(
            base,
            TrainingRows(rows, []),
            config=config,
            folders=training_run.Folders(output, Path(folder) / "checkpoints"),
            reporting=Reporting(Silent()),
        )
    training = training_of(config, shape, "cpu")
    counts = dict.fromkeys(RowCounts.model_fields, 0) | {
        "train_rows": count,
        "forward_rows": count,
        "forward_tokens": count * each,
        "supervised_tokens": sum(row.loss_tokens for row in rows),
    }
    schedule = Schedule(
        epochs=1, batch_size=count, rank=config.rank, adapter_parameters=training.trained, validations=0,
        subjects=(), max_new_tokens=1, cache_bytes=0, weight_bytes=training.weight_bytes,
        kind=training.kind, quantized=training.quantized, checkpointing=training.checkpointing,
    )  # fmt: skip
    machine = Machine(device="cpu", flops=1.0, free_memory_bytes=0, free_disk_bytes=0)
    planned = forecast(RowCounts.model_validate(counts), schedule, shape, machine).memory_bytes
    assert planned > LIBRARIES_BYTES
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return {"tokens": count * each, "planned": planned, "measured": 1024 * peak}


if __name__ == "__main__":
    main()
