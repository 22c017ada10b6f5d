"""The report of a build: what is used of the machine, what was approximated, what is a guess. As data, as text, as one HTML page."""

from neurocompile.report.data import build_report
from neurocompile.report.page import render_html
from neurocompile.report.text import render_text

__all__ = ["build_report", "render_html", "render_text"]
