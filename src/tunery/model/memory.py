"""What a training holds in memory, term by term, from a base's shape; no weight is read.

Per computed token and layer a forward keeps for its backward the inputs and results of both norms (4 h),
queries, keys, values and what attention makes of them (2 a + 2 k), the gate, its activation, the other half
and their product (4 i). An adapter adds its narrow middle in seven places (7 r), DoRA the results of all
adapted layers twice more (2 o, with o = 2 a + 2 k + h + 2 i over all), full fine-tuning the normed inputs
again (2 h).

Beside that come results that a forward needs for a moment only. glibc's aligned allocations do not fill the
holes that those leave (bug 14581), so they are held, too: about 2.2 o with an adapter, whose product is added
to that of the layer it adapts, and 0.75 o without.

Source:
    Counted from autograd's saved tensors and from the resident memory of SmolLM2-135M on a CPU (lab log).
"""

from __future__ import annotations

from typing import NamedTuple

from tunery.model.shape import BaseShape

_FLOAT = 4
_ADAPTED = 7
"""Linear layers of a block [count]."""
_HOLES = {"none": 0.75}
_HOLES_OF_ADAPTERS = 2.2
_FOUR_BITS = 0.516
"""Bytes of a weight in NF4 with its doubly quantised scales: 4 bits, and 8 + 32 / 256 for each 64 weights."""


class Training(NamedTuple):
    """What of a base is trained, and how it is held."""

    kind: str
    """``lora``, ``rslora``, ``dora`` or ``none``."""
    rank: int
    trained: int
    """Weights that are trained [count]."""
    weight_bytes: int
    """Of one frozen weight or activation: 4 in fp32, 2 in bf16 [bytes]."""
    quantized: bool = False
    """Whether the linear layers are held in four bits."""
    checkpointing: bool = False
    """Whether a layer's activations are computed again going backward."""


def frozen_bytes(shape: BaseShape, training: Training) -> int:
    """Return what weights that are not trained take [bytes]."""
    if training.kind == "none":
        return 0
    if not training.quantized:
        return training.weight_bytes * shape.parameters
    return round(_FOUR_BITS * shape.trunk + training.weight_bytes * (shape.parameters - shape.trunk))


def state_bytes(training: Training) -> int:
    """Return what trained weights take with their gradients and both of Adam's moments [bytes]."""
    return 4 * _FLOAT * training.trained


def bytes_a_token(shape: BaseShape, training: Training) -> int:
    """Return what a forward holds for each computed token until its backward is through [bytes]."""
    h, a, k, i = shape.hidden, shape.attention, shape.key_value, shape.intermediate
    results = 2 * a + 2 * k + h + 2 * i
    kept = 4 * h + 2 * a + 2 * k + 4 * i
    if training.kind == "none":
        kept += 2 * h
    else:
        kept += _ADAPTED * training.rank + (2 * results if training.kind == "dora" else 0)
    held = kept + _HOLES.get(training.kind, _HOLES_OF_ADAPTERS) * results
    # Checkpointed, each layer keeps its input, and one layer at a time the rest.
    layers = h * shape.layers + held if training.checkpointing else held * shape.layers
    return round(training.weight_bytes * layers)


def bytes_a_supervised_token(shape: BaseShape) -> int:
    """Return what the logits of a token in the loss take: log-probabilities and their gradient [bytes]."""
    return 2 * _FLOAT * shape.vocabulary
