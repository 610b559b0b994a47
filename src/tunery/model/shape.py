"""A base model's shape, read from its configuration: all that a forecast needs to know of the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tunery.core.config import Record
from tunery.core.errors import ConfigError

_NAMES = {
    "layers": ("num_hidden_layers", "n_layer"),
    "hidden": ("hidden_size", "n_embd"),
    "heads": ("num_attention_heads", "n_head"),
    "vocabulary": ("vocab_size",),
}
"""Our word to the keys that models use for it."""


class BaseShape(Record):
    """Sizes of a decoder-only transformer with gated feed-forward layers."""

    parameters: int
    """All weights [count]."""
    layers: int
    hidden: int
    """Width of the residual stream [count]."""
    intermediate: int
    """Width inside the feed-forward layers [count]."""
    attention: int
    """Query heads times head width [count]."""
    key_value: int
    """Key heads times head width [count]."""
    vocabulary: int
    """Rows of the output layer [count]."""
    tied: bool
    """Whether the output layer is the embedding table."""

    @property
    def trunk(self) -> int:
        """Weights that every token passes through: all but embeddings and output layer [count]."""
        return max(0, self.parameters - self.vocabulary * self.hidden * (1 if self.tied else 2))

    @property
    def output(self) -> int:
        """Weights of the output layer [count]."""
        return self.vocabulary * self.hidden

    def adapter(
        self, rank: int, target_modules: Literal["all-linear"] | Sequence[str], *, magnitudes: bool = False
    ) -> int:
        """Return the weights that an adapter adds [count].

        Args:
            rank: LoRA adds ``rank x (in + out)`` to every adapted layer.
            target_modules: Which layers those are.
            magnitudes: Whether each has ``out`` magnitudes besides, as in DoRA.
        """
        sizes = {  # in, out
            "q_proj": (self.hidden, self.attention),
            "k_proj": (self.hidden, self.key_value),
            "v_proj": (self.hidden, self.key_value),
            "o_proj": (self.attention, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }
        # A name we do not know is taken for a square layer: the order of size is right.
        named = sizes if target_modules == "all-linear" else target_modules
        layers = [sizes.get(name, (self.hidden, self.hidden)) for name in named]
        return self.layers * sum(rank * (i + o) + (o if magnitudes else 0) for i, o in layers)


def read_shape(folder: Path, *, parameters: int) -> BaseShape:
    """Read ``config.json`` of a base model's folder; ``parameters`` counts the weights in its files.

    Raises:
        ConfigError: The file lacks sizes; names them.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    # Models that also see keep the sizes of their text part one level down.
    config = {**config, **(config.get("text_config") or {})}
    sizes = {ours: _size(config, names) for ours, names in _NAMES.items()}
    missing = [f"{_NAMES[ours][0]}: missing" for ours, size in sizes.items() if not size]
    if missing:
        raise ConfigError.of_problems(str(path), missing)
    hidden, heads = sizes["hidden"], sizes["heads"]
    head = _size(config, ("head_dim",)) or hidden // heads
    return BaseShape(
        parameters=parameters,
        layers=sizes["layers"],
        hidden=hidden,
        intermediate=_size(config, ("intermediate_size", "n_inner")) or 4 * hidden,
        attention=heads * head,
        key_value=(_size(config, ("num_key_value_heads",)) or heads) * head,
        vocabulary=sizes["vocabulary"],
        tied=bool(config.get("tie_word_embeddings", True)),
    )


def _size(config: Mapping[str, Any], names: Sequence[str]) -> int:
    found = next((config[name] for name in names if config.get(name)), 0)
    return found if isinstance(found, int) else 0
