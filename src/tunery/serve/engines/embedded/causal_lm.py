"""The base model as the engine runs it: packed tokens in, logits of wanted positions out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tunery.core.errors import ConfigError
from tunery.model.load import load_causal_lm
from tunery.model.tokenizer import context_window
from tunery.serve.engines.embedded.attention import ATTENTION, PackedBatch, RowSpan, attend
from tunery.serve.engines.embedded.blocked_linear import block_linears
from tunery.serve.engines.embedded.kv_arena import KvArena, KvShape
from tunery.serve.engines.embedded.lora import AdapterBank, Run

_UNLIMITED = 1_000_000  # tokens, where a configuration names no limit


class CausalLm:
    """A Hugging Face causal language model that attends over a :class:`KvArena`.

    Args:
        folder: Hugging Face folder with safetensors weights.
        device: Where it runs.
        dtype: Of weights and of keys and values.

    Raises:
        ConfigError: There are no safetensors, or the architecture cannot be served; says why.
        ResourceError: Not enough memory.
    """

    def __init__(self, folder: Path, *, device: torch.device, dtype: torch.dtype) -> None:
        model = (
            load_causal_lm(folder, attention=ATTENTION, function=attend, dtype=dtype)
            .to(device)
            .eval()
            .requires_grad_(False)
        )
        config = model.config.get_text_config()
        problems = _architecture_problems(model, config)
        if problems:
            raise ConfigError.of_problems(f"base {folder.name}", problems)
        heads = config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        self.device = device
        self.dtype = dtype
        self.vocab_size = int(model.get_input_embeddings().weight.shape[0])
        self.context_window = context_window(config) or _UNLIMITED
        self.shape = KvShape(
            layers=config.num_hidden_layers,
            kv_heads=kv_heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        )
        self._groups = heads // kv_heads
        head = _head_name(model)
        block_linears(model)
        self._model = model
        self.adapters = AdapterBank(model, head)
        self._probe(folder)

    def arena(self, *, max_tokens: int, max_rows: int) -> KvArena:
        """Return empty storage for this model's keys and values; see :class:`KvArena`."""
        return KvArena(
            self.shape, dtype=self.dtype, device=self.device, max_tokens=max_tokens, max_rows=max_rows
        )

    def batch(self, arena: KvArena, *, decoding: int, spans: Sequence[RowSpan]) -> PackedBatch:
        """Lay out one step; see :class:`PackedBatch`."""
        return PackedBatch(arena, decoding=decoding, spans=spans, groups=self._groups)

    @torch.inference_mode()
    def forward(
        self,
        ids: Sequence[int],
        batch: PackedBatch,
        *,
        wanted: Sequence[int],
        body: list[Run],
        head: list[Run],
    ) -> torch.Tensor:
        """Run one step.

        Args:
            ids: Token ids in packed order.
            batch: Their rows.
            wanted: Packed positions whose logits are needed; the output layer runs for these only.
            body: Adapters over packed tokens.
            head: Adapters over wanted positions.

        Returns:
            Logits, shape ``(len(wanted), vocabulary)``.
        """
        board = self.adapters.board
        board.body, board.head = body, head
        logits: torch.Tensor = self._model(
            input_ids=torch.tensor([ids], device=self.device),
            position_ids=batch.positions[None],
            use_cache=False,
            logits_to_keep=torch.tensor(wanted, dtype=torch.long, device=self.device),
            packed=batch,
        ).logits[0]
        return logits

    def _probe(self, folder: Path) -> None:
        """Run two tokens, because a model that ignored our attention would answer wrongly, not fail."""
        arena = self.arena(max_tokens=2, max_rows=1)
        arena.reserve(1, 2)
        batch = self.batch(arena, decoding=0, spans=[RowSpan(slot=0, past=0, size=2)])
        try:
            logits = self.forward([0, 0], batch, wanted=[1], body=[], head=[])
        except (RuntimeError, TypeError, AttributeError, IndexError) as error:
            raise ConfigError(f"base {folder.name}: its architecture cannot be served ({error})") from error
        if batch.layers_seen != self.shape.layers or logits.shape[0] != 1:
            raise ConfigError(
                f"base {folder.name}: {batch.layers_seen} of its {self.shape.layers} layers use an attention "
                "that this engine can replace"
            )


def _head_name(model: Any) -> str:
    head = model.get_output_embeddings()
    return next((name for name, module in model.named_modules() if module is head), "lm_head")


def _architecture_problems(model: Any, config: Any) -> list[str]:
    problems = []
    if not getattr(model, "_supports_attention_backend", False):
        problems.append(f"{type(model).__name__} does not take its attention by name")
    served = {"full_attention", "sliding_attention"}
    others = sorted(set(getattr(config, "layer_types", None) or ()) - served)
    if others:
        problems.append(f"layers of type {', '.join(others)} are not served, only full and sliding attention")
    return problems
