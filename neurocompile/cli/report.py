"""``report``: show the report of a build folder again."""

from __future__ import annotations

from pathlib import Path

import click

from neurocompile.build_folder import read_build
from neurocompile.cli.common import Output, common_options
from neurocompile.report import render_text


@click.command()
@click.argument("build", type=click.Path(path_type=Path))
@common_options
def report(build: Path, output: Output) -> None:
    """Show what a BUILD folder uses of its machine and what was approximated (digests are checked)."""
    folder = read_build(build)
    page = build / "report.html"
    output.result(
        "report", {"build": str(build), "report": folder.report, "html": str(page)}, *render_text(folder.report), f"as a page: {page}"
    )
