"""Personal data: found, and masked, or replaced."""

from tunery.text.pii.detect import detect
from tunery.text.pii.mask import Masked, mask, mask_spans
from tunery.text.pii.types import Span

__all__ = ["Masked", "Span", "detect", "mask", "mask_spans"]
