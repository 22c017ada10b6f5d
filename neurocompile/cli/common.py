"""What all commands share: options, output in text or JSON, reading NET arguments, and the way from an error to an exit code."""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from neurocompile.ir import Network
from neurocompile.ir.errors import ExitCode, InputError, NeurocompileError, did_you_mean
from neurocompile.ir.shards import IN_TURN, Shards
from neurocompile.ir.units import Dimension, parse_quantity
from neurocompile.versions import FORMAT_VERSION

if TYPE_CHECKING:
    from neurocompile.ir.realise import Connections

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where results go: JSON or text on stdout; progress and logs on stderr."""

    json: bool
    verbosity: int

    @property
    def err(self) -> Console:
        """Console for progress and logs (stderr; plain where it is no terminal or NO_COLOR is set)."""
        return Console(stderr=True, quiet=self.verbosity < 0, soft_wrap=True, markup=False, emoji=False)

    def result(self, command: str, payload: Mapping[str, Any], *renderables: Any) -> None:
        """Print a result: ``payload`` as JSON with ``format_version``, or ``renderables`` as text."""
        if self.json:
            found = {"format_version": FORMAT_VERSION, "command": command, **payload}
            write_result(json.dumps(finite(found), indent=2, allow_nan=False))
            return
        console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
        with console.capture() as captured:
            for item in renderables:
                console.print(printable(item)) if isinstance(item, str) else console.print(item)
        write_result(captured.get().rstrip("\n"))

    def progress(self, stage: str) -> None:
        """Say on stderr which stage begins."""
        logging.getLogger("neurocompile").info("%s", stage)


def common_options(command: F) -> F:
    """Add --format, -q and -v, and pass them on as ``output: Output``."""

    @click.option(
        "--format", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Form of the result on stdout."
    )
    @click.option("-q", "--quiet", count=True, help="No progress and no notes on stderr.")
    @click.option("-v", "--verbose", count=True, help="More on stderr; a traceback with internal errors.")
    @functools.wraps(command)
    def wrapped(*args: Any, format_: str, quiet: int, verbose: int, **kwargs: Any) -> Any:
        output = Output(json=format_ == "json", verbosity=verbose - quiet)
        _set_up_logging(output)
        return command(*args, output=output, **kwargs)

    return wrapped  # type: ignore[return-value]


def _set_up_logging(output: Output) -> None:
    logger = logging.getLogger("neurocompile")
    logger.handlers[:] = [RichHandler(console=output.err, show_time=False, show_path=False, show_level=output.verbosity > 0, markup=False)]
    logger.propagate = False
    logger.setLevel({-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(max(-1, min(output.verbosity, 2)), logging.DEBUG))


network_argument = click.argument("net", type=click.Path(path_type=Path))


def network_options(command: F) -> F:
    """Add the options that say how NET is read."""
    command = click.option("--dt", metavar="TIME", help="Time step of a .nir or .net file: '1 ms', or 1e-4 (seconds).")(command)
    return click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Instead of the description's seed.")(command)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opened:
    """A NET argument that was read: network, connections (None: not realised yet), and the user's files by
    their path from the folder of NET (so that it does not matter where that folder lies)."""

    network: Network
    connections: Mapping[str, Connections] | None
    inputs: Mapping[str, bytes]


def open_network(net: Path, *, dt: str | None, seed: int | None, output: Output) -> Opened:
    """Read a description (.yaml, .nir, .net) or a build folder."""
    from neurocompile.build_folder import read_build
    from neurocompile.ir.read import read_network

    if net.is_dir():
        build = read_build(net)
        if dt is not None or seed is not None:
            raise InputError.of(
                "NC704", "a build folder has its time step and seed already", file=str(net), help="leave out --dt and --seed"
            )
        trained = "weights.npz" in build.manifest["files"]  # else they follow from the description
        inputs = {"manifest.json": (net / "manifest.json").read_bytes()}  # its digests stand for all others
        return Opened(network=build.network, connections=build.connections if trained else None, inputs=inputs)
    network = read_network(net, dt=None if dt is None else parse_dt(dt), seed=seed)
    for note in network.notes:
        output.err.print(f"note: {printable(note)}", highlight=False)
    inputs = {os.path.relpath(name, net.parent).replace(os.sep, "/"): Path(name).read_bytes() for name in (str(net), *network.files)}
    return Opened(network=network, connections=None, inputs=inputs)


def connect(opened: Opened, weights: Path | None, *, shards: Shards = IN_TURN) -> Mapping[str, Connections]:
    """Return the realised connections, with the weights of a file if one is given."""
    from neurocompile.ir.realise import realise_all
    from neurocompile.pipeline import load_connections

    if weights is not None:
        return load_connections(opened.network, weights, shards=shards)
    return opened.connections if opened.connections is not None else realise_all(opened.network, shards=shards)


def parse_dt(text: str) -> float:
    """Return a time step in seconds from '1 ms', '0.1ms' or plain seconds; InputError NC160 unless it is > 0."""
    try:
        value = float(text)
    except ValueError:
        value = parse_quantity(text, Dimension.TIME).value
    if not (math.isfinite(value) and value > 0):
        raise InputError.of("NC160", f"--dt {text!r} must be > 0", help="for example --dt '1 ms'")
    return value


def named_files(values: tuple[str, ...], option: str, known: Mapping[str, Any]) -> dict[str, Path]:
    """Parse repeated NAME=FILE options; InputError NC160 for another form or an unknown name."""
    found: dict[str, Path] = {}
    for value in values:
        name, equals, file = value.rpartition("=")
        if not equals or not name or not file:
            raise InputError.of("NC160", f"{option} {value!r} is not of the form NAME=FILE")
        if name not in known:
            raise InputError.of("NC207", f"{option} {value!r}: there is no '{name}'", help=did_you_mean(name, known))
        if name in found:
            raise InputError.of("NC206", f"{option} names '{name}' twice")
        found[name] = Path(file)
    return found


def numbered(values: tuple[str, ...], names: Sequence[str]) -> tuple[str, ...]:
    """Return NAME=FILE options in which a number that is no name stands for the name at that place, counted from 0."""
    found = []
    for value in values:
        name, equals, file = value.rpartition("=")
        number = int(name) if name.isascii() and name.isdigit() and len(name) < 10 and name not in names else len(names)
        found.append(f"{names[number]}{equals}{file}" if number < len(names) else value)
    return tuple(found)


def key_values(values: tuple[str, ...], option: str) -> dict[str, str]:
    """Parse repeated KEY=VALUE options; InputError NC160 for another form."""
    found: dict[str, str] = {}
    for value in values:
        key, equals, rest = value.partition("=")
        if not equals or not key:
            raise InputError.of("NC160", f"{option} {value!r} is not of the form KEY=VALUE")
        found[key] = rest
    return found


def table(title: str, *columns: str) -> Table:
    """Return an empty table in the house style."""
    grid = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        grid.add_column(column, justify="left" if i == 0 else "right")
    return grid


def report_error(error: NeurocompileError, *, as_json: bool, exit_code: ExitCode | None = None) -> int:
    """Print an error (text on stderr; with JSON also as the result on stdout) and return its exit code."""
    code = int(error.exit_code if exit_code is None else exit_code)
    found = [d if d.help else replace(d, help=f"`neurocompile explain {d.code}` says more") for d in error.diagnostics]
    if as_json:
        findings = [d.as_json() for d in found]
        write_result(json.dumps({"format_version": FORMAT_VERSION, "errors": findings, "exit_code": code}, indent=2))
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    for finding in found:
        head, _, rest = finding.render().partition(":")
        console.print(head, style="bold red", end="")
        console.print(":" + printable(rest))
    if len(found) > 1:
        console.print(f"{len(found)} errors")
    return code


def finite(value: Any) -> Any:
    """Return the value with NaN and infinite numbers (the loss of a training that diverged) as None, which JSON can say."""
    if isinstance(value, Mapping):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def printable(text: str) -> str:
    """Return text without control characters, which a description can hold and a terminal would obey."""
    return "".join(c if c in "\n\t" or unicodedata.category(c)[0] != "C" else repr(c)[1:-1] for c in text)


def write_result(text: str) -> None:
    """Write to stdout. A reader that has gone (`| head`) is no error: the work goes on, and the exit code is the work's."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - Python flushes it at exit
