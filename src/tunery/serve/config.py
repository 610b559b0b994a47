"""Settings of serving."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tunery.core.config import Settings


class EngineSettings(Settings):
    """How the embedded engine spends memory and time."""

    device: str = "auto"
    """Where it computes: ``auto`` (a CUDA GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of weights and cache. ``float32`` equals PEFT to 1e-4; the others halve memory."""

    threads: int | None = Field(default=None, ge=1)
    """CPU threads for matrix products; PyTorch's own choice (all cores, or OMP_NUM_THREADS) when empty."""

    max_batch: int = Field(default=32, ge=1)
    """Requests computed at the same time. More wait. Higher: more tokens/s in total, each request slower."""

    max_cache_tokens: int = Field(default=32768, ge=64)
    """Bound on running rows × the longest of them [tokens]; about 46 kB a token for a 135M model in float32.
    A request longer than this does not fit, so it also bounds the context window."""

    prefix_cache_bytes: int = Field(default=512 * 2**20, ge=0)
    """Memory for keys and values of prompts that later prompts may begin with [bytes]; 0 turns that off."""

    prefill_chunk_tokens: int = Field(default=256, ge=1)
    """Prompt tokens computed per step. Lower: running completions stutter less while a long prompt comes in.
    Higher: long prompts are through sooner."""
