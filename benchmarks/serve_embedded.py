"""Measure the embedded engine against transformers and PEFT on the same weights, in the same run.

    python benchmarks/serve_embedded.py [--threads 2] [--rounds 3]

Prints, per claim, both rates and their ratio: tokens per second of eight concurrent requests (base alone, and
base with three adapters mixed) against ``generate`` of the same batch, and the time to the first token behind
a 500-token prefix with and without the prefix cache. Rounds alternate between the peers and the best of each
counts, because a shared machine disturbs one round, seldom all. Rates are also given per CPU-second, which a
busy neighbour disturbs less than the clock on the wall.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tunery.core.engine import GenerationRequest, Sampling
from tunery.serve.engines.embedded.engine import EmbeddedEngine
from tunery.serve.engines.embedded.settings import EmbeddedSettings

ROWS, PROMPT, NEW = 8, 40, 16
ADAPTERS = ("one", "two", "three")
ASSIGNED = [None, *ADAPTERS] * (ROWS // 4)


def default_base() -> Path:
    """Return the embedded base, converted on first use."""
    from tunery.model.bases import resolve_base

    home = Path(os.environ.get("TUNERY_HOME", "~/.tunery")).expanduser()
    return Path(resolve_base("smollm2-135m-instruct", home / "models").path)


def build_peer(base: Path, folder: Path) -> Any:
    """Return a PEFT model with three random adapters, each saved for the engine too."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    peer = get_peft_model(model, config, adapter_name=ADAPTERS[0])
    for name in ADAPTERS[1:]:
        peer.add_adapter(name, config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in peer.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.01
    peer.save_pretrained(folder, selected_adapters=list(ADAPTERS))
    return peer.eval()


class Taken(NamedTuple):
    """Time of one run."""

    wall_s: float
    cpu_s: float


def measure(work: Callable[[], Any]) -> Taken:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Taken(time.perf_counter() - wall, time.process_time() - cpu)


def best(works: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Taken]:
    """Return the best times of each, rounds alternating."""
    taken: dict[str, list[Taken]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(measure(work))
    return {name: Taken(*map(min, zip(*given, strict=True))) for name, given in taken.items()}


def compare_throughput(base: Path, folder: Path, threads: int, rounds: int) -> None:
    peer = build_peer(base, folder)
    engine = EmbeddedEngine(base, settings=EmbeddedSettings(threads=threads, prefix_cache_bytes=0))
    for name in ADAPTERS:
        engine.load_adapter(name, str(folder / name))
    source = torch.Generator().manual_seed(1)
    prompts = torch.randint(100, 40_000, (ROWS, PROMPT), generator=source)
    mask = torch.ones_like(prompts)
    options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}

    def ours(adapters: list[str | None]) -> list[list[int]]:
        sampling = Sampling(max_tokens=NEW)
        given = engine.generate(
            [
                GenerationRequest(tuple(ids), adapter=adapter, sampling=sampling)
                for ids, adapter in zip(prompts.tolist(), adapters, strict=True)
            ]
        )
        return [list(g.token_ids) for g in given]

    @torch.inference_mode()
    def theirs(adapters: list[str | None] | None) -> list[list[int]]:
        if adapters is None:
            with peer.disable_adapter():
                out = peer.generate(input_ids=prompts, attention_mask=mask, **options)
        else:
            names = [name or "__base__" for name in adapters]
            out = peer.generate(input_ids=prompts, attention_mask=mask, adapter_names=names, **options)
        return [row[PROMPT:] for row in out.tolist()]

    given, expected = ours(ASSIGNED), theirs(ASSIGNED)  # also warms both up
    same = sum(a == b[: len(a)] for a, b in zip(given, expected, strict=True))
    lengths = {"base": sum(map(len, ours([None] * ROWS))), "mixed": sum(map(len, given))}
    times = best(
        {
            "base, ours": lambda: ours([None] * ROWS),
            "base, generate": lambda: theirs(None),
            "mixed, ours": lambda: ours(ASSIGNED),
            "mixed, generate": lambda: theirs(ASSIGNED),
        },
        rounds,
    )
    engine.close()
    for kind in ("base", "mixed"):
        ours_took, theirs_took = times[f"{kind}, ours"], times[f"{kind}, generate"]
        for clock, our_s, their_s in zip(("s", "CPU-s"), ours_took, theirs_took, strict=True):
            our_rate, their_rate = lengths[kind] / our_s, ROWS * NEW / their_s
            print(
                f"{ROWS} concurrent, {kind}: {our_rate:.1f} tokens/{clock} against {their_rate:.1f} "
                f"of generate: ratio {our_rate / their_rate:.2f}"
            )
    print(f"mixed batch, greedy tokens equal to PEFT's: {same} of {ROWS} requests")


def compare_first_token(base: Path, threads: int, rounds: int) -> None:
    engine = EmbeddedEngine(base, settings=EmbeddedSettings(threads=threads))
    source = torch.Generator().manual_seed(2)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(100, 40_000, (length,), generator=source).tolist())

    def first_token_ms(prompt: tuple[int, ...]) -> float:
        return engine.generate([GenerationRequest(prompt, sampling=Sampling(max_tokens=1))])[0].ttft_ms

    shared = ids(500)
    first_token_ms(shared)
    cold = min(first_token_ms(ids(500) + ids(20)) for _ in range(rounds))
    warm = min(first_token_ms(shared + ids(20)) for _ in range(rounds))
    engine.close()
    print(f"first token behind 500 tokens: {cold:.0f} ms, cached {warm:.0f} ms: ratio {cold / warm:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, help="Hugging Face folder [the embedded base]")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    base = given.base or default_base()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers
    print(f"{base.name}, {given.threads} threads, torch {torch.__version__}, best of {given.rounds}")
    with tempfile.TemporaryDirectory() as folder:
        compare_throughput(base, Path(folder), given.threads, given.rounds)
    compare_first_token(base, given.threads, given.rounds)


if __name__ == "__main__":
    main()
