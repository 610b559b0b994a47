"""The report of a run: one HTML file with the verdict and everything it stands on."""

from tunery.pipeline.report.inputs import ReportInputs
from tunery.pipeline.report.render import render_report, write_report

__all__ = ["ReportInputs", "render_report", "write_report"]
