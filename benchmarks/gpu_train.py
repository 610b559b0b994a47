"""LoRA and QLoRA on one GPU, random weights in the shapes of published models, beside TRL.

    python benchmarks/gpu_train.py [--shape llama-3-8b qwen3-0.6b] [--kind lora qlora]
        [--rows long instruction] [--steps 6] [--rounds 3]

Prints tokens/s, peak memory and MFU. No weights and no data are loaded: time does not depend on them.
``long`` is one row of 4,096 tokens a step, ``instruction`` 64 rows of 26 tokens behind 300 that all have; the
loss is over a row's last tokens (``long``: over all). Rank 16 on all linear layers, bf16. MFU counts four
operations for each of a model's weights and each token, against the bf16 products measured in the same run.
TRL gets its fastest plain setting: tokenised rows, no gradient checkpointing, PyTorch's attention; Liger's
kernels where they are installed. ``--shape tiny --device cpu`` shows on any machine that it runs.

Needs the peer: pip install -c constraints.txt -e ".[bench,qlora]"
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import tempfile
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface, AutoModelForCausalLM, LlamaConfig, Qwen3Config, set_seed

from train_vs_trl import SKIPPED, StepTimer, Stepwise
from tunery.model.render import Rendered
from tunery.model.tree_attention import ATTENTION, tree_attention
from tunery.train.methods.method import TrainingRow, TrainingRows
from tunery.train.methods.sft import SftConfig
from tunery.train.section import method_of
from tunery.train.trainer import PackedTrainer, training_arguments

SHAPES: dict[str, Any] = {
    "llama-3-8b": LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        rope_theta=500_000.0,
    ),
    "qwen3-0.6b": Qwen3Config(
        vocab_size=151_936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40_960,
        tie_word_embeddings=True,
    ),
    "tiny": LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    ),
}


class Measured(NamedTuple):
    """A trainer's median over the rounds."""

    tokens_per_s: float
    spread: tuple[float, float]
    peak_bytes: int
    loss: float


def main() -> None:
    """Measure every combination asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=["llama-3-8b", "qwen3-0.6b"])
    parser.add_argument("--kind", nargs="+", choices=["lora", "qlora"], default=["lora", "qlora"])
    parser.add_argument("--rows", nargs="+", choices=["long", "instruction"], default=["long", "instruction"])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    device = torch.device(options.device)
    peak = peak_flops(device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, PyTorch {torch.__version__}, products in bf16 at {peak / 1e12:.0f} TFLOP/s", flush=True)
    for shape in options.shape:
        for kind in options.kind:
            for data in options.rows:
                compare(shape, kind, data, options, peak, device)


def compare(
    shape: str, kind: str, data: str, options: argparse.Namespace, peak: float, device: torch.device
) -> None:
    """Train by both, print a line for each."""
    rows = made_rows(data, SHAPES[shape].vocab_size, options.steps)
    tokens = sum(len(row.ids) for row in rows) / options.steps
    weights = count_weights(shape)
    found: dict[str, Measured] = {}
    for who, run in (("tunery", run_ours), (f"TRL {version('trl')}", run_trl)):
        try:
            runs = []
            for _ in range(options.rounds):
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                model = made_model(shape, kind, device, ours=who == "tunery")
                runs.append(run(model, rows, len(rows) // options.steps, device))
                del model
                gc.collect()
                if device.type == "cuda":
                    torch.cuda.empty_cache()
            found[who] = measured(runs, tokens, device)
        except torch.OutOfMemoryError as error:
            print(f"{shape} {kind} {data} {who}: {str(error).splitlines()[0]}", flush=True)
            gc.collect()
            torch.cuda.empty_cache()
    for who, one in found.items():
        mfu = 4 * weights * one.tokens_per_s / peak
        print(
            f"{shape} {kind} {data}: {who:<11} {one.tokens_per_s:9,.0f} tokens/s ({one.spread[0]:,.0f} to "
            f"{one.spread[1]:,.0f}), {4 * weights * one.tokens_per_s / 1e12:6.1f} TFLOP/s, MFU {mfu:.3f}, "
            f"peak {one.peak_bytes / 2**30:.1f} GiB, last loss {one.loss:.4f}",
            flush=True,
        )
    if len(found) == 2:
        ours, theirs = found.values()
        print(f"{shape} {kind} {data}: ratio {ours.tokens_per_s / theirs.tokens_per_s:.2f}", flush=True)


def measured(runs: list[Stepwise], tokens: float, device: torch.device) -> Measured:
    """Join rounds to their median."""
    speeds = [tokens / statistics.median(run.seconds[SKIPPED:]) for run in runs]
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return Measured(statistics.median(speeds), (min(speeds), max(speeds)), peak, runs[-1].losses[-1])


def peak_flops(device: torch.device, size: int = 8192) -> float:
    """Return the best speed of a bf16 product [FLOP/s]."""
    if device.type != "cuda":
        size = 512
    a = torch.rand(size, size, device=device).to(torch.bfloat16)
    timer, best = StepTimer(), float("inf")
    for _ in range(8):
        synchronise(device)
        timer.on_step_begin(None, None, None)
        a @ a
        synchronise(device)
        timer.on_step_end(None, None, None)
        best = min(best, timer.seconds[-1])
    return 2 * size**3 / best


def synchronise(device: torch.device) -> None:
    """Wait for what was queued on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class GpuTimer(StepTimer):
    """Times steps to the end of their computation."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        synchronise(self.device)
        super().on_step_begin(args, state, control, **kwargs)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        synchronise(self.device)
        super().on_step_end(args, state, control, **kwargs)


def made_rows(data: str, vocabulary: int, steps: int) -> list[Rendered]:
    """Return rows of random tokens for so many steps."""
    drawn = random.Random(0)

    def some(count: int) -> tuple[int, ...]:
        return tuple(drawn.randrange(3, vocabulary) for _ in range(count))

    if data == "long":
        return [Rendered(some(4096), (0,) + (1,) * 4095, 1) for _ in range(steps)]
    instruction = some(300)
    return [Rendered(instruction + some(26), (0,) * 321 + (1,) * 5, 321) for _ in range(64 * steps)]


def count_weights(shape: str) -> int:
    """Return how many weights a model of this shape has."""
    with torch.device("meta"):
        return sum(p.numel() for p in AutoModelForCausalLM.from_config(SHAPES[shape]).parameters())


def made_model(shape: str, kind: str, device: torch.device, *, ours: bool) -> Any:
    """Return a random base with an adapter of rank 16 on all its linear layers."""
    from peft import LoraConfig, get_peft_model

    AttentionInterface.register(ATTENTION, tree_attention)
    half = torch.bfloat16 if device.type == "cuda" else torch.float32
    set_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(
            SHAPES[shape], attn_implementation=ATTENTION if ours else "sdpa", dtype=half
        )
        if kind == "qlora":
            quantise(model, half, device)
        lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        return get_peft_model(model, lora)


def quantise(model: torch.nn.Module, compute: torch.dtype, device: torch.device) -> None:
    """Hold every linear layer but the output one in NF4 with double quantisation."""
    import bitsandbytes as bnb

    linear = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"]
    for name in linear:
        parent, _, child = name.rpartition(".")
        old = model.get_submodule(name)
        new = bnb.nn.Linear4bit(
            old.in_features,
            old.out_features,
            bias=False,
            compute_dtype=compute,
            quant_type="nf4",
            device="meta",
        )
        new.weight = bnb.nn.Params4bit(
            old.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4", module=new
        )
        setattr(model.get_submodule(parent), child, new.to(device))
    model.is_loaded_in_4bit = True


def run_ours(model: Any, rows: list[Rendered], batch: int, device: torch.device) -> Stepwise:
    """Train with packed rows."""
    timer = GpuTimer(device)
    config = SftConfig(
        epochs=1, batch_size=batch, micro_batch_tokens=8192, device=device.type, early_stopping=None
    )
    with tempfile.TemporaryDirectory() as folder:
        training = TrainingRows([TrainingRow((row,)) for row in rows], [])
        arguments = training_arguments(config, Path(folder), device=device, rows=training)
        arguments.save_strategy = "no"
        objective = method_of(config).objective(config)
        PackedTrainer(model, objective, arguments, training, [timer]).train()
    return Stepwise(timer.losses, timer.seconds)


def any_tokenizer() -> Any:
    """Return a tokenizer, which TRL asks for though rows are tokens already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")


def run_trl(model: Any, rows: list[Rendered], batch: int, device: torch.device) -> Stepwise:
    """Train the same rows with TRL."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    timer = GpuTimer(device)
    dataset = Dataset.from_dict(
        {"input_ids": [list(r.ids) for r in rows], "completion_mask": [list(r.mask) for r in rows]}
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=batch,
            num_train_epochs=1,
            learning_rate=1e-3,
            lr_scheduler_type="cosine",
            warmup_steps=0.05,
            optim="adamw_torch_fused" if device.type == "cuda" else "adamw_torch",
            seed=0,
            data_seed=0,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=device.type == "cpu",
            bf16=False,  # the base is in bf16 and the adapter in fp32, as with ours
            gradient_checkpointing=False,
            use_liger_kernel=find_spec("liger_kernel") is not None,
            completion_only_loss=True,
            max_length=None,
        )
        trainer = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=dataset,
            processing_class=any_tokenizer(),
            callbacks=[timer],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return Stepwise(timer.losses, timer.seconds)


if __name__ == "__main__":
    main()
