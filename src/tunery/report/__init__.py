"""The report of a run: one HTML file with the verdict and everything it stands on."""

from tunery.report.inputs import ReportInputs
from tunery.report.render import render_report, write_report

__all__ = ["ReportInputs", "render_report", "write_report"]
