"""One self-contained HTML file: everything a reader needs, nothing that runs, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import datetime
from functools import cache
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tunery.core.errors import ResourceError
from tunery.core.figures import (
    count,
    counted,
    duration,
    metric_interval,
    metric_value,
    most_first,
    number,
    p_value,
    percent,
    points,
    subject_name,
    subject_phrase,
)
from tunery.core.splits import SPLITS
from tunery.report.histogram import histogram, lengths_in_words
from tunery.report.results import rule_as_written
from tunery.report.svg import meter
from tunery.report.text import clip, unbroken, units_small, visible
from tunery.store.whole_file import write_whole


def moment(at: datetime) -> str:
    """Return a time as a reader says it, with its zone."""
    zone = f" {at.tzname()}" if at.tzinfo else ""
    return f"{at.day} {at:%B %Y, %H:%M}{zone}"


_FILTERS: tuple[Callable[..., object], ...] = (
    clip,
    count,
    counted,
    duration,
    histogram,
    lengths_in_words,
    meter,
    metric_interval,
    metric_value,
    moment,
    most_first,
    number,
    p_value,
    percent,
    points,
    rule_as_written,
    subject_name,
    subject_phrase,
    unbroken,
    units_small,
)
"""How templates write what records hold; each by its own name."""


def render_page(template: str, **parts: object) -> str:
    """Return one of this folder's templates, filled in, as one HTML document.

    Pages hold text from users and models. All of it is escaped, and a content security policy forbids
    scripts, frames, forms and anything from outside; the one style sheet is allowed by its hash.

    Args:
        template: Name of the file.
        parts: What the template names; ``style`` and ``policy`` are added.

    Returns:
        HTML that needs no network and can be encoded as UTF-8 whatever the parts hold.
    """
    style = resources.files("tunery.report").joinpath("report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = (
        _environment()
        .get_template(template)
        .render(
            # Our own file, which holds no `</style`; escaping it would break its selectors.
            style=Markup(style),  # noqa: S704
            policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
            **parts,
        )
    )
    return visible(page)


@cache
def _environment() -> Environment:
    """Return what compiles templates, and keeps them compiled: that takes longer than to fill one in."""
    environment = Environment(
        loader=PackageLoader("tunery.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({written.__name__: written for written in _FILTERS})
    environment.globals["SPLITS"] = SPLITS
    return environment


def write_page(page: str, path: Path) -> None:
    """Write a page to ``path``, whole or not at all; folders are made as needed.

    Raises:
        ResourceError: The file cannot be written (disk full, no permission); says why.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(path) as stream:
            stream.write(page)
    except OSError as error:
        raise ResourceError(f"the page {path} cannot be written: {error.strerror}", hint="df -h") from None
