"""What GGUF calls an architecture: which of transformers' models it holds, and how their weights are laid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tunery.core.errors import ConfigError


class _Known(NamedTuple):
    arch: str
    interleaved: bool = False
    """Whether rotary embeddings turn neighbouring rows of a head, where transformers turns its halves."""
    norm_offset: float = 0.0
    """What transformers adds to the weights of a norm when it computes."""


_KNOWN = {
    "LlamaForCausalLM": _Known("llama", interleaved=True),
    "MistralForCausalLM": _Known("llama", interleaved=True),
    "Qwen2ForCausalLM": _Known("qwen2"),
    "Qwen3ForCausalLM": _Known("qwen3"),
    "GemmaForCausalLM": _Known("gemma", norm_offset=1.0),
    "Gemma2ForCausalLM": _Known("gemma2", norm_offset=1.0),
    "Gemma3ForCausalLM": _Known("gemma3", norm_offset=1.0),
}
_PERIODS = {"gemma2": 2, "gemma3": 6}
"""One layer of so many attends to all tokens, the others to a window; llama.cpp takes no other pattern."""
_GEMMA3_LOCAL_THETA = 10_000.0


class Architecture:
    """How one base's configuration and weights are written.

    Args:
        folder: Hugging Face folder.

    Raises:
        ConfigError: llama.cpp computes this model otherwise than transformers, or it is not known here; every
            reason at once.

    Source:
        llama.cpp's ``conversion`` package: names of keys, the order of rows in ``attn_q`` and ``attn_k``.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoConfig

        self._config: Any = AutoConfig.from_pretrained(str(folder), local_files_only=True)
        named = (self._config.architectures or ["none"])[0]
        if named not in _KNOWN:
            raise ConfigError(
                f"base {folder.name}: {named} cannot be written as GGUF here; "
                f"{', '.join(sorted(_KNOWN))} can",
                hint="tunery registry export --format merged, and llama.cpp's own converter on that folder",
            )
        self._known = _KNOWN[named]
        problems = list(self._problems())
        if problems:
            raise ConfigError.of_problems(f"base {folder.name} cannot be written as GGUF", problems)

    @property
    def name(self) -> str:
        """``general.architecture``."""
        return self._known.arch

    @property
    def layers(self) -> int:
        """Transformer blocks [count]."""
        return int(self._config.num_hidden_layers)

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding table [count]."""
        return int(self._config.vocab_size)

    @property
    def tied(self) -> bool:
        """Whether the output layer is the embedding table."""
        return bool(self._config.tie_word_embeddings)

    @property
    def context_length(self) -> int:
        """Longest sequence that is computed as transformers computes it [tokens]."""
        config, window = self._config, self._window
        looks_back = self._known.arch not in ("gemma2", "gemma3") and window
        longest = int(config.max_position_embeddings)
        return min(longest, window or longest) if looks_back else longest

    @property
    def _window(self) -> int | None:
        config = self._config
        if getattr(config, "use_sliding_window", True) is False:
            return None
        return getattr(config, "sliding_window", None)

    @property
    def _head(self) -> int:
        config = self._config
        return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)

    def _rope(self) -> Mapping[str, Any]:
        rope = getattr(self._config, "rope_parameters", None) or {}
        found: Mapping[str, Any] = rope.get("full_attention", rope)
        return found

    def _problems(self) -> list[str]:
        config, rope = self._config, self._rope()
        problems = []
        kind = rope.get("rope_type", "default")
        if kind not in ("default", "linear", "llama3"):
            problems.append(f"RoPE of type {kind} are not written, default, linear and llama3 are")
        scalar = getattr(config, "query_pre_attn_scalar", None)
        if scalar is not None and scalar != self._head:
            problems.append(f"query_pre_attn_scalar={scalar} is not the width of a head, {self._head}")
        if (period := _PERIODS.get(self.name)) is not None:
            full = [i for i, kind in enumerate(config.layer_types) if kind == "full_attention"]
            if full != list(range(period - 1, self.layers, period)):
                problems.append(f"every {period}th layer attends to all tokens in llama.cpp's {self.name}")
        if self.name == "gemma3":
            local = (config.rope_parameters or {}).get("sliding_attention", {}).get("rope_theta")
            if local not in (None, _GEMMA3_LOCAL_THETA):
                problems.append(f"rope_theta={local} of sliding layers is not {_GEMMA3_LOCAL_THETA:.0f}")
        if getattr(config, "quantization_config", None):
            problems.append("its weights are quantised already")
        return problems

    def write_parameters(self, writer: Any) -> None:
        """Write the configuration into a ``gguf.GGUFWriter``."""
        config, rope = self._config, self._rope()
        writer.add_context_length(self.context_length)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(self.layers)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_key_length(self._head)
        writer.add_value_length(self._head)
        writer.add_vocab_size(self.vocabulary)
        writer.add_rope_dimension_count(self._head)
        writer.add_rope_freq_base(float(rope.get("rope_theta", 10_000.0)))
        if rope.get("rope_type") == "linear":
            from gguf import RopeScalingType

            writer.add_rope_scaling_type(RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(float(rope["factor"]))
        if self.name in ("gemma2", "gemma3") and self._window:
            writer.add_sliding_window(self._window)
        if (cap := getattr(config, "attn_logit_softcapping", None)) is not None:
            writer.add_attn_logit_softcapping(cap)
        if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
            writer.add_final_logit_softcapping(cap)

    def namer(self) -> Callable[[str], str | None]:
        """Return what gives transformers' name of a tensor GGUF's; None for a name that it has none for."""
        import gguf

        by_name = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
        names = gguf.get_tensor_name_map(by_name[self.name], self.layers)

        def named(name: str) -> str | None:
            found: str | None = names.get_name(name, try_suffixes=(".weight", ".bias"))
            return found

        return named

    def left_out(self, name: str) -> bool:
        """Whether a tensor of the folder has no place: the output layer where it is the embedding table."""
        return name == "lm_head.weight" and (self.tied or self.name.startswith("gemma"))

    def laid(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """Return a tensor as llama.cpp computes with it."""
        if self._known.norm_offset and name.endswith("norm.weight"):
            return weight + self._known.norm_offset
        return self.rows_of(name.rpartition(".")[0], weight)

    def rows_of(self, layer: str, weight: torch.Tensor) -> torch.Tensor:
        """Return a linear layer's weights, bias or ``B`` with its rows in llama.cpp's order.

        Rotary embeddings turn pairs of rows: those of two halves of a head in transformers, neighbouring ones
        in GGUF's ``llama``.

        Args:
            layer: Name of the linear layer.
            weight: Shape ``(out_features, ...)``.
        """
        heads = {
            "q_proj": self._config.num_attention_heads,
            "k_proj": self._config.num_key_value_heads,
        }.get(layer.rpartition(".")[2])
        if not self._known.interleaved or heads is None:
            return weight
        halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
        return halves.transpose(1, 2).reshape(weight.shape)

    def frequencies(self) -> torch.Tensor | None:
        """Return what each rotary frequency is divided by, shape ``(head / 2,)``; None where nothing is.

        Source:
            Llama 3.1's scaling, as ``transformers.modeling_rope_utils`` computes it.
        """
        rope = self._rope()
        if rope.get("rope_type") != "llama3":
            return None
        base = 1.0 / rope["rope_theta"] ** (torch.arange(0, self._head, 2, dtype=torch.float32) / self._head)
        before, factor = rope["original_max_position_embeddings"], rope["factor"]
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        waves = 2 * math.pi / base
        mix = ((before / waves - low) / (high - low)).clamp(0.0, 1.0)
        divisors: torch.Tensor = 1.0 / ((1 - mix) / factor + mix)
        return divisors
