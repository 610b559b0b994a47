"""The report of a run as a page."""

from __future__ import annotations

from pathlib import Path

from tunery.report.classes import class_table, confusions_of
from tunery.report.inputs import ReportInputs
from tunery.report.page import render_page, write_page
from tunery.report.paired import cards_of, checkpoint_rows, pairs_of, slice_rows
from tunery.report.results import bars_of, effort_of, metric_table, ordered_evaluations, tiles_of
from tunery.report.rows import data_story
from tunery.report.settings import environment_of, settings_text
from tunery.report.stages import stages_of
from tunery.report.training import training_of
from tunery.report.verdict import verdict_of


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
    return render_page(
        "report.html.j2",
        inputs=inputs,
        verdict=verdict_of(inputs),
        tiles=tiles_of(inputs),
        worth=inputs.worth,
        prompts=[(s, e.sample_prompt) for s, e in ordered_evaluations(inputs) if e.sample_prompt],
        effort=effort_of(inputs),
        slices=slice_rows(inputs.run.slices),
        checkpoints=checkpoint_rows(inputs.run.checkpoints),
        table=metric_table(inputs),
        bars=bars_of(inputs),
        pairs=pairs_of(inputs),
        training=training_of(inputs),
        classes=class_table(inputs),
        confusions=confusions_of(inputs),
        cards=cards_of(inputs),
        data=data_story(inputs.dataset, inputs.dropped_examples) if inputs.dataset else None,
        settings=settings_text(inputs.run.recipe),
        stages=stages_of(inputs),
        environment=environment_of(inputs.environment),
    )


def write_report(inputs: ReportInputs, path: Path) -> None:
    """Write the report to ``path``, whole or not at all; folders are made as needed.

    Raises:
        ResourceError: The file cannot be written (disk full, no permission); says why.
    """
    write_page(render_report(inputs), path)
