"""A few lines of SVG: escaped elements, and scales that put data where it belongs.

Positions across are in percent and text is in pixels, so that a chart fills a phone and a sheet of
paper alike and its words keep their size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from markupsafe import Markup, escape


def element(name: str, attributes: Mapping[str, object], *children: str) -> Markup:
    """Return one element; attribute values and plain-text children are escaped, Markup is kept.

    >>> element("text", {"x": "5%"}, "a < b")
    Markup('<text x="5%">a &lt; b</text>')
    """
    written = "".join(f' {key}="{escape(_plain(value))}"' for key, value in attributes.items())
    inner = "".join(str(escape(child)) for child in children)
    # Every part was escaped just above; the element's name is a word of ours.
    return Markup(f"<{name}{written}>{inner}</{name}>")  # noqa: S704


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def chart(key: str, title: str, description: str, height: int, *children: str) -> Markup:
    """Return a whole drawing that says in words what it shows.

    Args:
        key: Unique within the page; names the title and description for assistive technology.
        title: What is drawn.
        description: What is to be seen in it, with the numbers.
        height: Pixels.
        children: Elements.
    """
    return element(
        "svg",
        {
            "class": "chart",
            "role": "img",
            "aria-labelledby": f"{key}-title {key}-desc",
            "width": "100%",
            "height": height,
            "xmlns": "http://www.w3.org/2000/svg",
        },
        element("title", {"id": f"{key}-title"}, title),
        element("desc", {"id": f"{key}-desc"}, description),
        *children,
    )


def line(kind: str, x1: object, y1: object, x2: object, y2: object) -> Markup:
    """Return a straight line of a style class; places are pixels, or shares such as ``5%``."""
    return element("line", {"class": kind, "x1": x1, "x2": x2, "y1": y1, "y2": y2})


def label(kind: str, x: object, y: object, words: str, anchor: str = "start") -> Markup:
    """Return words of a style class that begin, end or have their middle at a place."""
    return element("text", {"class": kind, "x": x, "y": y, "text-anchor": anchor}, words)


def anchor_at(share: float, margin: float) -> str:
    """Return how words at a share of the width hang there, so that they do not leave the drawing.

    Args:
        share: Of the width, in [0, 1].
        margin: Share of the width at either end in which centred words would leave it.
    """
    return "start" if share < margin else "end" if share > 1 - margin else "middle"


def unread(*children: str) -> Markup:
    """Return what a screen reader passes over, because the drawing's description says it."""
    return element("g", {"aria-hidden": "true"}, *children)


def across(share: float) -> str:
    """Return a share of the width as SVG wants it."""
    return f"{_plain(float(share) * 100)}%"


def meter(share: float, kind: str = "meter") -> Markup:
    """Return a thin bar for a table cell that already says its number; hidden from assistive technology."""
    filled = min(1.0, max(0.0, share)) if math.isfinite(share) else 0.0
    return element(
        "svg",
        {"class": kind, "aria-hidden": "true", "width": "100%", "height": 6},
        element("rect", {"class": "rail", "width": "100%", "height": 6, "rx": 3}),
        element("rect", {"class": "fill", "width": across(filled), "height": 6, "rx": 3}),
    )


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Return round numbers from within ``[low, high]``, about ``wanted`` of them.

    >>> ticks(0.0, 1.0), ticks(0.3, 4.1)
    ([0.0, 0.25, 0.5, 0.75, 1.0], [1.0, 2.0, 3.0, 4.0])
    """
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return []
    rough = (high - low) / wanted
    size = 10.0 ** math.floor(math.log10(rough))
    step = min((size * m for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(math.log(s / rough)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]
