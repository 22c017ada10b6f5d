"""``validate``: run a build's program in the target's public emulator and compare."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from neurocompile.build_folder import read_build
from neurocompile.cli.common import Output, common_options, report_error, table
from neurocompile.ir.errors import Diagnostic, MismatchError
from neurocompile.ir.npz import write_atomically
from neurocompile.pipeline import find_target
from neurocompile.report import render_html


@click.command()
@click.argument("build", type=click.Path(path_type=Path))
@click.option("--steps", type=click.IntRange(1), default=200, show_default=True, help="Steps to run.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the report page with the comparisons to this file.")
@common_options
def validate(build: Path, steps: int, html: Path | None, output: Output) -> int:
    """Run the program of a BUILD folder in the target's emulator and compare it with the twin or the reference engine.

    Exit 6 if a comparison fails.
    """
    folder = read_build(build)
    checks = find_target(folder.target).validate(folder.path.resolve(), folder.network, folder.connections, steps=steps)
    rows = table(f"{folder.target}: {folder.network.name}, {steps} steps", "check", "result", "compared")
    rows.columns[2].justify = "left"
    for c in checks:
        rows.add_row(c.name, "ok" if c.ok else "DIFFERS", c.detail)
    if html is not None:
        page = render_html({**folder.report, "validation": {"steps": steps, "checks": [asdict(c) for c in checks]}}).encode()
        write_atomically(html, page)
    failed = [c for c in checks if not c.ok]
    error = MismatchError(Diagnostic(code="NC650", message=f"{c.name}: {c.detail}", file=str(build)) for c in failed) if failed else None
    payload = {
        "build": str(build),
        "target": folder.target,
        "steps": steps,
        "ok": error is None,
        "checks": [{"name": c.name, "ok": c.ok, "detail": c.detail, "pair": c.pair} for c in checks],
        "html": None if html is None else str(html),
        "errors": [] if error is None else [d.as_json() for d in error.diagnostics],
    }
    output.result("validate", payload, rows)
    return 0 if error is None else report_error(error, as_json=False)
