"""Settings of the embedded engine."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tunery.serve.engines import EngineSettings

_AHEAD = 8
"""Prompts that are enough to fill the next steps; those behind wait where keys get their shares [count]."""


class EmbeddedSettings(EngineSettings):
    """How the embedded engine spends memory and time."""

    kind: Literal["embedded"] = "embedded"
    """This engine; may be left out, being the default."""

    device: str = "auto"
    """Where it computes: ``auto`` (a CUDA GPU if there is one), ``cpu``, ``cuda``, or ``cuda:1`` for the
    second GPU it sees."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of weights and cache. ``float32`` equals PEFT to 1e-4; the others halve memory."""

    threads: int | None = Field(default=None, ge=1)
    """CPU threads for matrix products; when empty, as many as other processes leave cores for, looked at
    while it computes."""

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

    @property
    def identity(self) -> dict[str, Any]:
        """What answers depend on; memory, batch and device move no more than the last bits of logits."""
        return self.model_dump(mode="json", include={"kind", "dtype"})

    @property
    def window(self) -> int:
        """Longest prompt with its answer [tokens]."""
        return self.max_cache_tokens

    @property
    def slots(self) -> int:
        """Requests that it computes at the same time [count]."""
        return self.max_batch

    @property
    def ahead(self) -> int | None:
        """Requests without a token yet that it should hold at most [count]."""
        return _AHEAD

    @property
    def cache_bytes(self) -> int:
        """Memory of the prefix cache [bytes]."""
        return self.prefix_cache_bytes
