"""One self-contained HTML file: everything a reader needs, nothing that runs, nothing fetched."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from datetime import datetime
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tunery.core.errors import ResourceError
from tunery.pipeline.report.classes import class_table, confusion_rows
from tunery.pipeline.report.inputs import ReportInputs
from tunery.pipeline.report.lineage import environment_of, lineage_of, settings_text
from tunery.pipeline.report.paired import cards_of, pairs_of
from tunery.pipeline.report.results import bars_of, metric_table, rules_of, tiles_of
from tunery.pipeline.report.rows import data_of
from tunery.pipeline.report.stages import stages_of
from tunery.pipeline.report.svg import meter
from tunery.pipeline.report.text import unbroken, units_small, visible
from tunery.pipeline.report.training import training_of
from tunery.pipeline.report.verdict import verdict_of
from tunery.registry.figures import count, counted, duration


def render_report(inputs: ReportInputs) -> str:
    """Return the report as one HTML document.

    The page holds text from users and models. All of it is escaped, and a content security policy
    forbids scripts, frames, forms and anything from outside; the one style sheet is allowed by its hash.

    Args:
        inputs: The run's records. Only ``run`` must be there; a section whose stage did not run is left
            out, and the page says where the run stopped.

    Returns:
        HTML that needs no network and can be encoded as UTF-8 whatever the inputs hold.
    """
    style = resources.files("tunery.pipeline.report").joinpath("report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader("tunery.pipeline.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        unbroken=unbroken, units_small=units_small, duration=duration, count=count, counted=counted
    )
    page = environment.get_template("report.html.j2").render(
        run=inputs.run,
        started=_moment(inputs.run.created_at),
        dataset=inputs.dataset,
        # Our own file, which holds no `</style`; escaping it would break its selectors.
        style=Markup(style),  # noqa: S704
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        verdict=verdict_of(inputs),
        tiles=tiles_of(inputs),
        table=metric_table(inputs),
        bars=bars_of(inputs),
        pairs=pairs_of(inputs),
        rules=rules_of(inputs),
        training=training_of(inputs),
        classes=class_table(inputs),
        confusions=confusion_rows(inputs),
        cards=cards_of(inputs),
        data=data_of(inputs),
        lineage=lineage_of(inputs),
        settings=settings_text(inputs.run.recipe),
        stages=stages_of(inputs),
        longest=max(inputs.run.seconds.values(), default=0.0) or 1.0,
        meter=meter,
        environment=environment_of(inputs.environment),
    )
    return visible(page)


def _moment(at: datetime) -> str:
    zone = f" {at.tzname()}" if at.tzinfo else ""
    return f"{at.day} {at:%B %Y, %H:%M}{zone}"


def write_report(inputs: ReportInputs, path: Path) -> None:
    """Write the report to ``path``, whole or not at all; folders are made as needed.

    Raises:
        ResourceError: The file cannot be written (disk full, no permission); says why.
    """
    page = render_report(inputs).encode("utf-8")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            stream.write(page)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise ResourceError(f"the report {path} cannot be written: {error.strerror}", hint="df -h") from None
