"""Personal data: found, and masked, or replaced.

``detect`` and ``mask`` are for use on their own too; they need no workspace and no recipe. ``detect`` was
``tunery.data.pii.detect`` before.

>>> from tunery.text.pii import detect, mask
>>> [(s.type, s.start, s.end) for s in detect(["I am Anna Schmidt, my card is 4111 1111 1111 1111."])[0]]
[('PERSON', 5, 17), ('CREDIT_CARD', 30, 49)]
>>> mask(["write to ada@example.org"]).texts
['write to <EMAIL_ADDRESS>']
"""

from tunery.text.pii.detect import detect
from tunery.text.pii.mask import Masked, mask, mask_spans
from tunery.text.pii.types import Span

__all__ = ["Masked", "Span", "detect", "mask", "mask_spans"]
