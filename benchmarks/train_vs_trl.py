"""Training speed against TRL's SFTTrainer: same rows, base, LoRA, batch, order; same process, turn about.

    python benchmarks/train_vs_trl.py [--instruction 300] [--steps 6] [--rounds 3] [--threads 2]

Prints trained-on tokens (prompt and completion) per second of both, the median ratio with its range, the
largest difference of a per-step loss, and how far the arithmetic alone would take: four operations for each
frozen weight and computed token, and for each weight of the output layer and supervised token, at the speed
of matrix products measured in the same run. ``--instruction`` gives all rows a common instruction of so many
tokens. TRL is given its fastest setting on a CPU: pre-tokenised rows with a completion mask, gradient
checkpointing off (its default costs a second forward), no bf16.

Needs the peer: pip install -c constraints.txt -e ".[bench]"
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import TrainerCallback, set_seed

from tunery.core.example import Message
from tunery.core.progress import Silent
from tunery.model.bases import resolve_base
from tunery.model.load import load_for_packing
from tunery.model.render import Rendered, render
from tunery.model.shape import read_shape
from tunery.model.token_tree import computed_tokens
from tunery.model.tokenizer import load_tokenizer
from tunery.store.workspace import Workspace
from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingRow, TrainingRows
from tunery.train.methods.sft import SftConfig
from tunery.train.section import method_of
from tunery.train.trainer import PackedTrainer, training_arguments

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "recipes" / "data" / "banking77-train.csv"
SYSTEM = "Name the intent of the bank customer's message."
SKIPPED = 1  # first steps of a run: allocator and thread pools warm up
MORE = " Read it as a clerk would who knows every product of the bank, and name what the customer wants."


class Stepwise(NamedTuple):
    """One run."""

    losses: list[float]
    seconds: list[float]


class StepTimer(TrainerCallback):
    """Times optimizer steps and keeps their losses."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.started = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))


def main() -> None:
    """Run both, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--instruction", type=int, default=0)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")

    workspace = Workspace.open()
    base = resolve_base("smollm2-135m-instruct", workspace.root / "models", progress=Silent()).path
    config = SftConfig(
        epochs=1,
        batch_size=16,
        micro_batch_size=16,
        device="cpu",
        threads=options.threads,
        early_stopping=None,
    )
    steps = options.steps or (3 if options.instruction else 6)
    rows = banking_rows(base, steps * config.batch_size, instruction=options.instruction)
    peak = peak_flops()
    ours: list[Stepwise] = []
    theirs: list[Stepwise] = []
    for _ in range(options.rounds):
        ours.append(run_ours(base, rows, config))
        theirs.append(run_trl(base, rows, config))
    training = [TrainingRow((row,)) for row in rows]
    report(training, config, (ours, theirs), floor_seconds(base, training, config, peak))


def peak_flops(size: int = 2048) -> float:
    """Return the best speed of a matrix product in fp32 [FLOP/s]."""
    a = torch.rand(size, size)
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def floor_seconds(base: str, rows: list[TrainingRow], config: TrainConfig, peak: float) -> float:
    """Return what a mean step's products with frozen weights take at that speed [s]."""
    shape = read_shape(Path(base), parameters=0)
    layer = shape.hidden * (2 * shape.attention + 2 * shape.key_value + 3 * shape.intermediate)
    at_once = range(0, len(rows), config.batch_size)
    steps = [rows[at : at + config.batch_size] for at in at_once]
    computed = sum(computed_tokens([s.ids for row in step for s in row.sequences]) for step in steps)
    supervised = sum(row.loss_tokens for row in rows)
    output = shape.vocabulary * shape.hidden
    return 4 * (shape.layers * layer * computed + output * supervised) / peak / len(steps)


def banking_rows(base: str, count: int, *, instruction: int = 0) -> list[Rendered]:
    """Return rows in an order that mixes classes; every 31st of the file."""
    tokenizer = load_tokenizer(base)
    system = SYSTEM
    while instruction and len(tokenizer.hf(system)["input_ids"]) < instruction:
        system += MORE
    with DATA.open(encoding="utf-8", newline="") as stream:
        raw = list(csv.DictReader(stream))
    picked = [raw[(i * 31) % len(raw)] for i in range(count)]
    return [
        render(
            tokenizer,
            [
                Message(role="system", content=system),
                Message(role="user", content=r["text"]),
                Message(role="assistant", content=r["category"].replace("_", " ")),
            ],
        )[0]
        for r in picked
    ]


def lora_model(base: str, config: TrainConfig, *, packed: bool) -> Any:
    """Return the same adapter on the same base, for either trainer."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = (
        load_for_packing(base) if packed else AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    )
    set_seed(config.seed)
    lora = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, lora)


def run_ours(base: str, rows: list[Rendered], config: SftConfig) -> Stepwise:
    """Train with packed rows."""
    timer = StepTimer()
    with tempfile.TemporaryDirectory() as folder:
        ours = TrainingRows([TrainingRow((row,)) for row in rows], [])
        arguments = training_arguments(config, Path(folder), device=torch.device("cpu"), rows=ours)
        arguments.save_strategy = "no"
        objective = method_of(config).objective(config)
        model = lora_model(base, config, packed=True)
        trainer = PackedTrainer(model, objective, arguments, ours, [timer])
        trainer.train()
    return Stepwise(timer.losses, timer.seconds)


def run_trl(base: str, rows: list[Rendered], config: SftConfig) -> Stepwise:
    """Train the same rows with TRL."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    timer = StepTimer()
    dataset = Dataset.from_dict(
        {"input_ids": [list(r.ids) for r in rows], "completion_mask": [list(r.mask) for r in rows]}
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=config.batch_size,
            num_train_epochs=config.epochs,
            learning_rate=config.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=config.warmup_ratio,
            max_grad_norm=config.max_grad_norm,
            weight_decay=config.weight_decay,
            optim="adamw_torch",
            seed=config.seed,
            data_seed=config.seed,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            completion_only_loss=True,
            max_length=None,
            dataloader_pin_memory=False,
        )
        trainer = SFTTrainer(
            model=lora_model(base, config, packed=False),
            args=arguments,
            train_dataset=dataset,
            processing_class=load_tokenizer(base).hf,
            callbacks=[timer],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return Stepwise(timer.losses, timer.seconds)


def report(
    rows: list[TrainingRow], config: TrainConfig, runs: tuple[list[Stepwise], list[Stepwise]], floor: float
) -> None:
    """Print speeds, their ratio with its range, how far losses are apart, and the arithmetic alone."""
    ours, theirs = runs
    tokens = sum(r.tokens for r in rows) / (len(rows) / config.batch_size)  # mean of a step

    def step(run: Stepwise) -> float:
        return statistics.mean(run.seconds[SKIPPED:])

    ratios = [step(b) / step(a) for a, b in zip(ours, theirs, strict=True)]
    apart = max(
        abs(x - y) for a, b in zip(ours, theirs, strict=True) for x, y in zip(a.losses, b.losses, strict=True)
    )
    mine, peer = (statistics.median(map(step, some)) for some in runs)
    print(f"{len(rows)} rows, {len(ours[0].losses)} steps of {config.batch_size}, {tokens:.0f} tokens a step")
    print(f"tunery       {tokens / mine:8.1f} trained-on tokens/s, {mine:.2f} s a step")
    print(f"TRL {version('trl'):<8} {tokens / peer:8.1f} trained-on tokens/s, {peer:.2f} s a step")
    print(
        f"ratio        {statistics.median(ratios):8.2f} median of {len(ratios)} rounds, "
        f"{min(ratios):.2f} to {max(ratios):.2f}"
    )
    print(f"arithmetic   {floor:8.2f} s a step: tunery takes {mine / floor:.2f} times that")
    print(f"largest difference of a per-step loss: {apart:.2e}")


if __name__ == "__main__":
    main()
