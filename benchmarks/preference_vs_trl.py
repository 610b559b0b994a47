"""Speed of preference training against TRL's DPOTrainer: same pairs, base, LoRA and batch; turn about.

    python benchmarks/preference_vs_trl.py rasbt|hh|four --data FOLDER [--batch 8] [--steps 3] [--rounds 3] …

``rasbt`` and ``hh`` are pairs of ``rasbt_instruct`` and ``hh_rlhf`` under ``--data``. ``four`` has the
former's prompts with four answers each, in three pairs: an answer of its own is preferred to the rejected one
and to those of two other prompts. Both sides have the reference's log-probabilities computed before the first
step, which is not timed; TRL by ``precompute_ref_log_probs``, and without gradient checkpointing.

Prints the median ratio of seconds a step with its range, and how far the arithmetic alone would take.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from train_vs_trl import StepTimer, Stepwise, floor_seconds, lora_model, peak_flops, report
from tunery.core.example import Message
from tunery.core.progress import Silent
from tunery.model.bases import resolve_base
from tunery.model.render import render
from tunery.model.tokenizer import load_tokenizer
from tunery.store.workspace import Workspace
from tunery.train.fitting import Fitting
from tunery.train.methods.dpo import DpoConfig
from tunery.train.methods.method import TrainingRow, TrainingRows
from tunery.train.reference import with_reference
from tunery.train.section import method_of
from tunery.train.trainer import PackedTrainer, training_arguments

Pair = tuple[list[dict[str, str]], str, str]
LONGEST = 512


def main() -> None:
    """Run both, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pairs", choices=["rasbt", "hh", "four"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch", type=int, help="Pairs a step; 12 of four, 4 of hh, else 8.")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")

    workspace = Workspace.open()
    base = resolve_base("smollm2-135m-instruct", workspace.root / "models", progress=Silent()).path
    batch = options.batch or {"four": 12, "hh": 4}.get(options.pairs, 8)
    config = DpoConfig(epochs=1, batch_size=batch, device="cpu", threads=options.threads, early_stopping=None)
    pairs, rows = chosen_pairs(base, options.pairs, options.data, options.steps * batch)
    peak = peak_flops()
    ours: list[Stepwise] = []
    theirs: list[Stepwise] = []
    for _ in range(options.rounds):
        ours.append(run_ours(base, rows, config))
        theirs.append(run_trl(base, pairs, config))
    report(rows, config, (ours, theirs), floor_seconds(base, rows, config, peak))


def chosen_pairs(base: str, kind: str, data: Path, count: int) -> tuple[list[Pair], list[TrainingRow]]:
    """Return the first pairs that are not too long, as text and tokenised."""
    tokenizer = load_tokenizer(base)
    pairs: list[Pair] = []
    rows: list[TrainingRow] = []
    for prompt, chosen, rejected in pairs_of(kind, data):
        turns = [Message.model_validate(turn) for turn in prompt]
        both = [[*turns, Message(role="assistant", content=text)] for text in (chosen, rejected)]
        row = TrainingRow(tuple(render(tokenizer, one, loss_on="last_completion")[-1] for one in both))
        if max(len(s.ids) for s in row.sequences) <= LONGEST:
            pairs.append((prompt, chosen, rejected))
            rows.append(row)
        if len(rows) == count:
            break
    return pairs, rows


def pairs_of(kind: str, data: Path) -> list[Pair]:
    """Return prompts with a preferred and a rejected answer."""
    if kind == "hh":
        lines = gzip.decompress((data / "hh_rlhf" / "test.jsonl.gz").read_bytes()).decode().splitlines()
        return [pair for line in lines if (pair := conversation(json.loads(line)))]
    path = data / "rasbt_instruct" / "instruction-data-with-preference.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    found: list[Pair] = []
    for at, row in enumerate(raw):
        prompt = [{"role": "user", "content": f"{row['instruction']}\n{row['input']}".strip()}]
        rejected = [row["rejected"]]
        if kind == "four":  # answers to other prompts are answers, too
            rejected += [raw[(at + step) % len(raw)]["rejected"] for step in (1, 2)]
        found += [(prompt, row["chosen"], text) for text in rejected]
    return found


def conversation(row: dict[str, str]) -> Pair | None:
    """Split a conversation of HH-RLHF into turns; None where both do not share all but the last."""
    (prompt, _, chosen), (other, _, rejected) = (
        row[key].rpartition("\n\nAssistant:") for key in ("chosen", "rejected")
    )
    if prompt != other or not chosen.strip() or not rejected.strip():
        return None
    turns = []
    for part in prompt.split("\n\nHuman:")[1:]:
        asked, *answers = part.split("\n\nAssistant:")
        turns.append({"role": "user", "content": asked.strip()})
        turns += [{"role": "assistant", "content": answer.strip()} for answer in answers]
    return turns, chosen.strip(), rejected.strip()


def run_ours(base: str, rows: list[TrainingRow], config: DpoConfig) -> Stepwise:
    """Train with packed pairs."""
    timer = StepTimer()
    with tempfile.TemporaryDirectory() as folder:
        model = lora_model(base, config, packed=True)
        known = with_reference(
            model,
            TrainingRows(rows, []),
            fitting=Fitting(config, Silent()),
            folder=Path(folder),
            progress=Silent(),
        )
        arguments = training_arguments(config, Path(folder), device=torch.device("cpu"), rows=known)
        arguments.save_strategy = "no"
        objective = method_of(config).objective(config)
        PackedTrainer(model, objective, arguments, known, [timer]).train()
    return Stepwise(timer.losses, timer.seconds)


def run_trl(base: str, pairs: list[Pair], config: DpoConfig) -> Stepwise:
    """Train the same pairs with TRL."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import DPOConfig, DPOTrainer

    timer = StepTimer()
    dataset = Dataset.from_list(
        [{"prompt": prompt, "chosen": answer(c), "rejected": answer(r)} for prompt, c, r in pairs]
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            output_dir=folder,
            per_device_train_batch_size=config.batch_size,
            precompute_ref_log_probs=True,
            num_train_epochs=config.epochs,
            learning_rate=config.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=config.warmup_ratio,
            max_grad_norm=config.max_grad_norm,
            optim="adamw_torch",
            seed=config.seed,
            data_seed=config.seed,
            beta=config.beta,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            max_length=None,
            dataloader_pin_memory=False,
        )
        trainer = DPOTrainer(
            model=lora_model(base, config, packed=False),
            args=arguments,
            train_dataset=dataset,
            processing_class=load_tokenizer(base).hf,
            callbacks=[timer],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return Stepwise(timer.losses, timer.seconds)


def answer(text: str) -> list[dict[str, Any]]:
    """Return a completion as TRL takes it."""
    return [{"role": "assistant", "content": text}]


if __name__ == "__main__":
    main()
