"""``schema``: the JSON Schema of the YAML format, for editors."""

from __future__ import annotations

import json

import click

from neurocompile.cli.common import Output, common_options
from neurocompile.ir.schema import json_schema


@click.command()
@common_options
def schema(output: Output) -> None:
    """Print the JSON Schema (draft-07) of the YAML format (with --format json under the key "schema")."""
    found = json_schema()
    output.result("schema", {"schema": found}, json.dumps(found, indent=2))
