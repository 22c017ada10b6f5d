"""``explain``: what an error code means."""

from __future__ import annotations

import click

from neurocompile.cli.common import Output, common_options
from neurocompile.ir.codes import CODES
from neurocompile.ir.errors import InputError, did_you_mean


@click.command()
@click.argument("code", required=False)
@common_options
def explain(code: str | None, output: Output) -> None:
    """Explain an error CODE such as NC204; without CODE, list them all."""
    if code is None:
        listing = {"codes": {c: {"title": i.title, "exit_code": int(i.exit_code)} for c, i in sorted(CODES.items())}}
        output.result("explain", listing, "\n".join(f"{c}  {i.title} (exit {int(i.exit_code)})" for c, i in sorted(CODES.items())))
        return
    found = CODES.get(code.upper())
    if found is None:
        raise InputError.of("NC162", f"there is no error code {code!r}", help=did_you_mean(code.upper(), CODES))
    payload = {"code": code.upper(), "title": found.title, "explanation": found.explanation, "exit_code": int(found.exit_code)}
    output.result("explain", payload, f"{code.upper()}: {found.title} (exit {int(found.exit_code)})\n\n{found.explanation}")
