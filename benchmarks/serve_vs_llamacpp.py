"""Measure the embedded engine against llama.cpp on the same base, adapters and requests, in the same run.

    python benchmarks/serve_vs_llamacpp.py --python /tmp/llama/bin/python [--formats q8_0 f16 f32]

32 concurrent requests, three adapters mixed, and one request alone. The embedded engine computes in fp32;
llama.cpp in each format that is named, as its package comes from the registry. Prints the rates of both, by
the clock and by a second of processor time (which a busy neighbour disturbs less), and ours over theirs:
the median of the rounds with its range. Rounds alternate between the two. Both use as many threads as
``--threads`` says; unset ``OMP_NUM_THREADS`` or give it the same number.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from tunery.core.engine import Engine, GenerationRequest, Sampling
from tunery.serve.engines import engine_settings, open_engine

ADAPTERS = ("one", "two", "three")
WINDOW = 512


class Rate(NamedTuple):
    """Generated tokens of one round."""

    per_s: float
    """By the clock [tokens/s]."""
    per_cpu_s: float
    """By processor time of whatever computes [tokens/s]."""


def main() -> None:
    """Print the comparison."""
    options = parsed()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_adapters(options.base, folder)
        ours = open_engine(options.base, engine_settings({"device": "cpu", "threads": options.threads}))
        try:
            load(ours, folder)
            for form in options.formats:
                compare(options, form, ours, folder)
        finally:
            ours.close()


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", required=True, help="interpreter that has xllamacpp")
    parser.add_argument("--base", type=Path, default=None, help="Hugging Face folder [the embedded base]")
    parser.add_argument("--formats", nargs="+", default=["q8_0", "f16", "f32"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=48, help="tokens of a prompt")
    parser.add_argument("--new", type=int, default=48, help="tokens of an answer")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.base is None:
        from serve_embedded import default_base

        options.base = default_base()
    return options


def build_adapters(base: Path, folder: Path) -> None:
    """Write three adapters of rank 16 on every linear layer, small random numbers in ``B``."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config, adapter_name=ADAPTERS[0])
    for name in ADAPTERS[1:]:
        model.add_adapter(name, config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.01
    model.save_pretrained(folder, selected_adapters=list(ADAPTERS))


def load(engine: Engine, folder: Path) -> None:
    """Load the adapters."""
    for name in ADAPTERS:
        engine.load_adapter(name, str(folder / name))


def compare(options: argparse.Namespace, form: str, ours: Engine, folder: Path) -> None:
    """Measure one format of llama.cpp beside the embedded engine and print both."""
    settings: dict[str, Any] = {"kind": "llamacpp", "python": options.python, "quantise": form}
    settings |= {"threads": options.threads, "max_batch": options.requests, "context_window": WINDOW}
    theirs = open_engine(options.base, engine_settings({**settings, "cache_mib": 0, "first_token_s": 900}))
    try:
        load(theirs, folder)
        time.sleep(2)  # the servers with fewer adapters have ended
        for count in (options.requests, 1):
            requests = made(options, count)
            for engine in (ours, theirs):
                engine.generate(made(options, count, new=2))
            pairs = [
                (rate(ours, requests, own_seconds), rate(theirs, requests, child_seconds))
                for _ in range(options.rounds)
            ]
            report(f"{count} at once, 3 adapters" if count > 1 else "one alone", form, pairs)
    finally:
        theirs.close()


def made(options: argparse.Namespace, count: int, *, new: int | None = None) -> list[GenerationRequest]:
    """Return requests of equal length whose prompts begin differently, so that no cache helps."""
    generator = torch.Generator().manual_seed(count)
    prompts = torch.randint(1000, 40_000, (count, options.prompt), generator=generator).tolist()
    sampling = Sampling(max_tokens=new or options.new, ignore_eos=True)
    return [
        GenerationRequest(tuple(prompt), ADAPTERS[n % len(ADAPTERS)], sampling)
        for n, prompt in enumerate(prompts)
    ]


def rate(engine: Engine, requests: list[GenerationRequest], seconds: Callable[[], float]) -> Rate:
    """Answer all requests at once and return the rate of generated tokens."""
    began, used = time.perf_counter(), seconds()
    answers = engine.generate(requests)
    took, used = time.perf_counter() - began, seconds() - used
    tokens = sum(
        min(answer.completion_tokens, r.sampling.max_tokens)
        for answer, r in zip(answers, requests, strict=True)
    )
    return Rate(tokens / took, tokens / used)


def own_seconds() -> float:
    """Return this process's time on processors [s]."""
    return time.process_time()


def child_seconds() -> float:
    """Return the time that llama.cpp's process has had on processors [s]."""
    children = psutil.Process().children(recursive=True)
    return sum(sum(child.cpu_times()[:2]) for child in children)


def report(what: str, form: str, pairs: list[tuple[Rate, Rate]]) -> None:
    """Print medians and ratios of the rounds."""
    print(f"\n{what}: embedded fp32 against llama.cpp {form}")
    for unit, at in (("tokens/s", 0), ("tokens a second of processor time", 1)):
        mine, theirs = [a[at] for a, _ in pairs], [b[at] for _, b in pairs]
        ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
        print(
            f"  {unit}: {statistics.median(mine):.1f} and {statistics.median(theirs):.1f}, ratio "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
