"""Personal data: found, and masked, replaced or told."""

from tunery.data.pii.detect import detect
from tunery.data.pii.mask import Masked, apply_policy, mask, mask_spans
from tunery.data.pii.spans import Span

__all__ = ["Masked", "Span", "apply_policy", "detect", "mask", "mask_spans"]
