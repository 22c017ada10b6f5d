"""``report``: show the report of a build folder again; optionally have its mapping counted by another simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from neurocompile.build_folder import read_build
from neurocompile.cli.common import Output, common_options, table
from neurocompile.report import render_text


@click.command()
@click.argument("build", type=click.Path(path_type=Path))
@click.option(
    "--crosscheck", type=click.Choice(["sanafe"]), help="Count spikes, events, packets and energy again in this tool (with --python)."
)
@click.option("--python", type=click.Path(path_type=Path), help="For --crosscheck: an interpreter in which the tool is installed.")
@click.option(
    "--spikes", type=click.Path(path_type=Path), help="For --crosscheck: a recording (npz of `simulate --save`); default: random."
)
@click.option("--steps", type=click.IntRange(1), default=100, show_default=True, help="For --crosscheck without --spikes.")
@common_options
def report(build: Path, crosscheck: str | None, python: Path | None, spikes: Path | None, steps: int, output: Output) -> None:
    """Show what a BUILD folder uses of its machine and what was approximated (digests are checked)."""
    if (crosscheck is None) != (python is None):
        raise click.UsageError("--crosscheck and --python go together")
    folder = read_build(build)
    page = build / "report.html"
    payload: dict[str, Any] = {"build": str(build), "report": folder.report, "html": str(page), "crosscheck": None}
    pieces: list[Any] = [*render_text(folder.report), f"as a page: {page}"]
    if python is not None:
        from neurocompile.report.crosscheck import crosscheck as run

        payload["crosscheck"] = found = run(folder, python, recording=spikes, steps=steps)
        rows = table(f"counted here and by SANA-FE, {found['steps']} steps, {found['constants']['source']}", "what", "here", "SANA-FE")
        for row in found["rows"]:
            rows.add_row(
                row["name"], *(f"{row[side]:,}" if isinstance(row[side], int) else f"{row[side]:.12g} J" for side in ("here", "there"))
            )
        pieces += [rows, "all equal (energies to 1e-9)"]
    output.result("report", payload, *pieces)
