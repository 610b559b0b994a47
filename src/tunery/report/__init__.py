"""The report of a run, with the verdict and what it stands on: for people, programs and pull requests."""

from collections.abc import Callable, Mapping

from tunery.report.as_json import render_json
from tunery.report.inputs import ReportInputs
from tunery.report.junit import render_junit
from tunery.report.markdown import render_markdown
from tunery.report.render import render_report, write_report

FORMATS: Mapping[str, Callable[[ReportInputs], str]] = {
    "html": render_report,
    "json": render_json,
    "junit": render_junit,
    "markdown": render_markdown,
}
"""What a report may be written as."""

__all__ = ["FORMATS", "ReportInputs", "render_report", "write_report"]
