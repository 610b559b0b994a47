"""Training speed against TRL's SFTTrainer: same rows, base, LoRA, batch, order; same process, turn about.

    python benchmarks/train_vs_trl.py [--steps 12] [--rounds 2] [--threads 2]

Prints trained-on tokens (prompt and completion) per second of both, the ratio, and the largest difference of
a per-step loss. TRL is given its fastest setting on a CPU: pre-tokenised rows with a completion mask,
gradient checkpointing off (its default costs a second forward), no bf16.

Needs the peer: pip install -c constraints.txt -e ".[bench]"
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import TrainerCallback, set_seed

from tunery.core.example import Message
from tunery.core.progress import Silent
from tunery.model.bases import resolve_base
from tunery.model.load import load_for_packing
from tunery.model.render import Rendered, render
from tunery.model.tokenizer import load_tokenizer
from tunery.store.workspace import Workspace
from tunery.train.methods.method import TrainingRow, TrainingRows
from tunery.train.methods.sft import SftConfig
from tunery.train.section import method_of
from tunery.train.trainer import PackedTrainer, training_arguments

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "recipes" / "data" / "banking77-train.csv"
SYSTEM = "Name the intent of the bank customer's message."
SKIPPED = 2  # first steps of a run: allocator and thread pools warm up


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
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
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
    rows = banking_rows(base, options.steps * config.batch_size)
    ours: list[Stepwise] = []
    theirs: list[Stepwise] = []
    for _ in range(options.rounds):
        ours.append(run_ours(base, rows, config))
        theirs.append(run_trl(base, rows, config))
    report(rows, config, ours, theirs)


def banking_rows(base: str, count: int) -> list[Rendered]:
    """Return rows in an order that mixes classes; every 31st of the file."""
    tokenizer = load_tokenizer(base)
    with DATA.open(encoding="utf-8", newline="") as stream:
        raw = list(csv.DictReader(stream))
    picked = [raw[(i * 31) % len(raw)] for i in range(count)]
    return [
        render(
            tokenizer,
            [
                Message(role="system", content=SYSTEM),
                Message(role="user", content=r["text"]),
                Message(role="assistant", content=r["category"].replace("_", " ")),
            ],
        )[0]
        for r in picked
    ]


def lora_model(base: str, config: SftConfig, *, packed: bool) -> Any:
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


def report(rows: list[Rendered], config: SftConfig, ours: list[Stepwise], theirs: list[Stepwise]) -> None:
    """Print speeds, their ratio round by round, and how far losses are apart."""
    tokens = sum(len(r.ids) for r in rows) / (len(rows) / config.batch_size)  # mean of a step

    def speed(run: Stepwise) -> float:
        return tokens / statistics.mean(run.seconds[SKIPPED:])

    ratios = [speed(a) / speed(b) for a, b in zip(ours, theirs, strict=True)]
    apart = max(
        abs(x - y) for a, b in zip(ours, theirs, strict=True) for x, y in zip(a.losses, b.losses, strict=True)
    )
    print(f"{len(rows)} rows, {len(ours[0].losses)} steps of {config.batch_size}, {tokens:.0f} tokens a step")
    print(f"tunery   {statistics.median(map(speed, ours)):8.1f} trained-on tokens/s")
    print(f"TRL      {statistics.median(map(speed, theirs)):8.1f} trained-on tokens/s")
    print(f"ratio    {statistics.median(ratios):8.2f}   (rounds: {', '.join(f'{r:.2f}' for r in ratios)})")
    print(f"largest difference of a per-step loss: {apart:.2e}")


if __name__ == "__main__":
    main()
