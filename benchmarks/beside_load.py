"""Training and serving beside a process that keeps a whole core busy, and on an otherwise idle machine.

    python benchmarks/beside_load.py [--rounds 3] [--burners 1] [--seconds 15] [--what train serve]

Each measurement is a process of its own, in turn: ours as it comes, and the peer, which is PyTorch as it
comes (all cores, its OpenMP's own way of waiting). Prints tokens per second, how much of its own idle speed
each keeps beside the burners, and what ours costs on the idle machine. Run it with nothing else at work.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ARMS = ("ours", "as it comes")
STATES = ("idle", "beside")
WARM_UP = 3
"""Steps before the clock starts: pools are filled, and the machine was looked at [count]."""


def main() -> None:
    """Measure in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--burners", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--what", nargs="+", default=["train", "serve"], choices=["train", "serve"])
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "ARM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        what, arm = options.one
        sys.stdout.write(json.dumps(measure(what, arm, options.seconds)) + "\n")
        return
    for what in options.what:
        found: dict[tuple[str, str], list[float]] = {(a, s): [] for a in ARMS for s in STATES}
        for _ in range(options.rounds):
            for arm in ARMS:
                for state in STATES:
                    with burning(options.burners if state == "beside" else 0):
                        found[arm, state].append(apart(what, arm, options.seconds))
                    print(f"{what}, {arm}, {state}: {found[arm, state][-1]:.0f} tokens/s", flush=True)
        report(what, found)


def report(what: str, found: Mapping[tuple[str, str], list[float]]) -> None:
    """Print medians with their ranges."""
    print(f"\n{what} [tokens/s]: median (range)")
    middle = {key: statistics.median(values) for key, values in found.items()}
    for arm in ARMS:
        cells = [
            f"{state} {middle[arm, state]:.0f} ({min(found[arm, state]):.0f} to {max(found[arm, state]):.0f})"
            for state in STATES
        ]
        kept = middle[arm, "beside"] / middle[arm, "idle"]
        print(f"  {arm:12} {', '.join(cells)}: keeps {kept:.0%}")
    ratio = middle["ours", "idle"] / middle["as it comes", "idle"]
    print(f"  idle, ours against as it comes: {ratio:.3f}")


@contextmanager
def burning(count: int) -> Iterator[None]:
    """Keep some cores busy meanwhile."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def apart(what: str, arm: str, seconds: float) -> float:
    """Measure in a process of its own, because the way of waiting is chosen when PyTorch is loaded."""
    chosen = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "MKL_CBWR", "OMP_NUM_THREADS"}
    environment = {name: value for name, value in os.environ.items() if name not in chosen}
    command = [sys.executable, __file__, "--one", what, arm, "--seconds", str(seconds)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def measure(what: str, arm: str, seconds: float) -> float:
    """Return tokens per second."""
    from tunery.core.cores import prepare_threads, usable_cores

    if arm == "ours":
        prepare_threads()
    threads = None if arm == "ours" else usable_cores()
    return (train if what == "train" else serve)(threads, seconds)


def train(threads: int | None, seconds: float) -> float:
    """Train LoRA on SmolLM2 for a while."""
    import torch
    from transformers import TrainerCallback

    from train_vs_trl import banking_rows, lora_model
    from tunery.model.threads import Threads
    from tunery.train.methods.method import TrainingRow, TrainingRows
    from tunery.train.methods.sft import SftConfig
    from tunery.train.section import method_of
    from tunery.train.trainer import PackedTrainer, ThreadKeeper, training_arguments

    class Clock(TrainerCallback):  # type: ignore[misc]
        steps, started = 0, 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == WARM_UP:
                self.started = time.perf_counter()
            elif state.global_step > WARM_UP:
                self.steps, self.took = state.global_step - WARM_UP, time.perf_counter() - self.started
                control.should_training_stop = self.took > seconds

    config = SftConfig(epochs=1, batch_size=8, device="cpu", early_stopping=None)
    rows = banking_rows(base_folder(), 1600)
    packed = TrainingRows([TrainingRow((row,)) for row in rows], [])
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(config, Path(folder), device=torch.device("cpu"), rows=packed)
        arguments.save_strategy = "no"
        keeper = ThreadKeeper(Threads(threads, exact=True))
        model = lora_model(base_folder(), config, packed=True)
        objective = method_of(config).objective(config)
        PackedTrainer(model, objective, arguments, packed, [clock, keeper]).train()
    tokens = statistics.mean(len(row.ids) for row in rows) * config.batch_size
    return float(tokens * clock.steps / clock.took)


def serve(threads: int | None, seconds: float) -> float:
    """Answer eight requests at once for a while."""
    from tunery.core.engine import GenerationRequest, Sampling
    from tunery.serve.engines.embedded.engine import EmbeddedEngine
    from tunery.serve.engines.embedded.settings import EmbeddedSettings

    engine = EmbeddedEngine(Path(base_folder()), settings=EmbeddedSettings(device="cpu", threads=threads))
    prompt = tuple(engine.tokenizer.encode("The history of banking begins with"))
    eight = [GenerationRequest(prompt, sampling=Sampling(max_tokens=16)) for _ in range(8)]
    try:
        for _ in range(WARM_UP):
            engine.generate(eight)
        started, tokens = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            tokens += sum(len(completion.token_ids) for completion in engine.generate(eight))
        return tokens / (time.perf_counter() - started)
    finally:
        engine.close()


def base_folder() -> str:
    """Return the packaged base's folder."""
    from tunery.core.progress import Silent
    from tunery.model.bases import resolve_base
    from tunery.store.workspace import Workspace

    workspace = Workspace.open()
    try:
        return resolve_base("smollm2-135m-instruct", workspace.root / "models", progress=Silent()).path
    finally:
        workspace.close()


if __name__ == "__main__":
    main()
