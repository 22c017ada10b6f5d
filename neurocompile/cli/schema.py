"""``schema``: the JSON Schema of the YAML format, for editors."""

from __future__ import annotations

import json

import click

from neurocompile.ir.schema import json_schema


@click.command()
def schema() -> None:
    """Print the JSON Schema (draft-07) of the YAML format."""
    click.echo(json.dumps(json_schema(), indent=2))
