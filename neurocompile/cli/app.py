"""The group of verbs, and the way from what happens in one to an exit code."""

from __future__ import annotations

import importlib
import json
import traceback
from collections.abc import Sequence
from typing import Any

import click

from neurocompile.cli import INTERRUPTED
from neurocompile.cli.common import report_error, write_result
from neurocompile.ir.errors import Diagnostic, ExitCode, NeurocompileError
from neurocompile.versions import FORMAT_VERSION


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from neurocompile.versions import versions

        for name, version in versions().items():
            click.echo(f"{name} {version or '(not installed)'}")
        ctx.exit()


VERBS = {
    "build": ("build", "Compile NET for a target and write a build folder."),
    "plan": ("build", "Compile NET for a target and show the report; write nothing."),
    "check": ("check", "Read and verify NET; show its populations and projections."),
    "simulate": ("simulate", "Run NET in the reference engine."),
    "train": ("train", "Train NET on its task's data."),
    "evaluate": ("train", "Measure NET on the held-out samples of its task."),
    "sweep": ("sweep", "Measure what each choice of a target's options costs in accuracy."),
    "validate": ("validate", "Run a build's program in the target's emulator and compare."),
    "deploy": ("deploy", "Run a build's program on a host with hardware and fetch its results."),
    "report": ("report", "Show what a build uses and what was approximated."),
    "map": ("map_cores", "Assign the neurons of NET (a description or a graph) to cores and chips."),
    "minimise": ("minimise", "Make the routing tables of a file shorter."),
    "targets": ("targets", "List the targets and their machines."),
    "explain": ("explain", "Explain an error code."),
    "schema": ("schema", "Print the JSON Schema of the YAML format."),
}
"""Verb -> module of this package, summary. A verb is imported when it is used, so that `--help` and `explain` answer at once."""


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"neurocompile.cli.{VERBS[cmd_name][0]}")
        found: click.Command = getattr(module, "map_cores" if cmd_name == "map" else cmd_name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(verb, summary) for verb, (_module, summary) in VERBS.items()])


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the versions of neurocompile and SDKs.",
)
def cli() -> None:
    """Compile learning spiking networks (event-driven e-prop) for neuromorphic hardware.

    NET is a description (.yaml, .nir, .net) or a build folder. Exit codes: 0 ok, 1 internal error, 2 usage, 3 bad input, 4 does not fit,
    5 SDK, hardware, cluster or host missing, 6 verification mismatch.
    """


def execute(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code; the only exception that it lets through is a second Ctrl-C."""
    as_json = any(a == "--format=json" or (a == "--format" and b == "json") for a, b in zip(arguments, [*arguments[1:], ""], strict=True))
    try:
        result: Any = cli.main(args=list(arguments), prog_name="neurocompile", standalone_mode=False)
        return result if isinstance(result, int) else int(ExitCode.OK)
    except NeurocompileError as error:
        return report_error(error, as_json=as_json)
    except click.ClickException as error:
        if as_json:
            usage = NeurocompileError(Diagnostic(code="NC001", message=error.format_message(), help="neurocompile COMMAND --help"))
            report_error(usage, as_json=True, exit_code=ExitCode.USAGE)
        else:
            error.show()
        return int(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        if as_json:
            write_result(
                json.dumps({"format_version": FORMAT_VERSION, "errors": [], "interrupted": True, "exit_code": INTERRUPTED}, indent=2)
            )
        click.echo("interrupted: nothing half-written is left behind", err=True)
        return INTERRUPTED
    except SystemExit:  # click's answer to a reader of --help or --version that has gone
        return int(ExitCode.OK)
    except Exception as error:
        if any(a in {"-v", "--verbose", "-vv"} for a in arguments):
            traceback.print_exc()
        fault = NeurocompileError.of(
            "NC901", f"{type(error).__name__}: {error}", help="run again with -v and report it with the text it prints"
        )
        return report_error(fault, as_json=as_json)
