"""``build`` and ``plan``: compile a network, with and without writing the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from neurocompile.build_folder import assemble, write_build
from neurocompile.cli.common import Opened, Output, common_options, connect, key_values, network_argument, network_options, open_network
from neurocompile.cluster import open_shards
from neurocompile.ir.errors import InputError
from neurocompile.mapping import EFFORTS, MODES
from neurocompile.mapping.partition import ALGORITHMS
from neurocompile.pipeline import Compiled, CompileOptions, compile_network
from neurocompile.report import render_text


def _compile_options(command: Any) -> Any:
    for option in (
        click.option("--scheduler", metavar="ADDRESS", help="Run independent pieces on a Dask cluster: tcp://HOST:PORT."),
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override machine.QUANTITY, or set a target option."),
        click.option("--eprop-form", metavar="FORM", help="How the target expresses e-prop: --set eprop_form=FORM."),
        click.option(
            "--rates", type=click.Path(path_type=Path), help="Firing rates for the mapper: a recording (npz of `simulate --save`)."
        ),
        click.option("--effort", type=click.Choice(EFFORTS), default="normal", show_default=True, help="How long the mapper searches."),
        click.option(
            "--routes", type=click.Choice(MODES), default="auto", show_default=True, help="What shares a route and table entries."
        ),
        click.option("--partition", type=click.Choice(ALGORITHMS), default="auto", show_default=True, help="How neurons get cores."),
        click.option("--weights", type=click.Path(path_type=Path), help="Trained weights (weights.npz of `train`)."),
        click.option("--allow-approximation", is_flag=True, help="Accept what the target can only approximate; the report lists it."),
        click.option("--machine", "-m", metavar="NAME|FILE", help="Machine (see `targets`); default: the target's smallest."),
        click.option("--target", "-t", required=True, metavar="NAME", help="loihi2, spinnaker, nest, or one that a plugin brings."),
    ):
        command = option(command)
    return command


def _options(settings: tuple[str, ...], eprop_form: str | None, **given: Any) -> CompileOptions:
    """Options of a build: those ``given`` and what ``--set`` says."""
    overrides: dict[str, float] = {}
    extra: dict[str, str] = {} if eprop_form is None else {"eprop_form": eprop_form}
    for key, value in key_values(settings, "--set").items():
        if key.startswith("machine."):
            try:
                overrides[key.removeprefix("machine.")] = float(value)
            except ValueError:
                raise InputError.of("NC160", f"--set {key}={value}: the value of a machine quantity is a number") from None
        else:
            extra[key] = value
    return CompileOptions(overrides=overrides, extra=extra, **given)


def _compile(
    net: Path, options: CompileOptions, *, dt: str | None, seed: int | None, weights: Path | None, scheduler: str | None, output: Output
) -> tuple[Compiled, dict[str, bytes]]:
    opened = open_network(net, dt=dt, seed=seed, output=output)
    with open_shards(scheduler) as shards:
        given = None if weights is None and opened.connections is None else connect(opened, weights, shards=shards)
        compiled = compile_network(opened.network, options, connections=given, progress=output.progress, shards=shards)
        return compiled, assemble(compiled, options, _inputs(opened, compiled, options, weights), shards=shards)


def _inputs(opened: Opened, compiled: Compiled, options: CompileOptions, weights: Path | None) -> dict[str, bytes]:
    """Return the user's files, by how they were given."""
    inputs = dict(opened.inputs)
    if weights is not None:
        inputs[f"--weights {weights.name}"] = weights.read_bytes()
    if options.rates is not None:
        inputs[f"--rates {options.rates.name}"] = options.rates.read_bytes()
    if compiled.machine is not None and options.machine is not None and Path(compiled.machine.file) == Path(options.machine):
        inputs[f"--machine {Path(options.machine).name}"] = Path(options.machine).read_bytes()
    return inputs


@click.command()
@network_argument
@_compile_options
@network_options
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Build folder; default: build/NAME-TARGET.")
@common_options
def build(
    net: Path,
    target: str,
    machine: str | None,
    allow_approximation: bool,
    weights: Path | None,
    rates: Path | None,
    partition: str,
    routes: str,
    effort: str,
    settings: tuple[str, ...],
    eprop_form: str | None,
    scheduler: str | None,
    dt: str | None,
    seed: int | None,
    out: Path | None,
    output: Output,
) -> None:
    """Compile NET for a target and write a build folder (whole or not at all)."""
    options = _options(
        settings,
        eprop_form,
        target=target,
        machine=machine,
        allow_approximation=allow_approximation,
        rates=rates,
        partition=partition,
        routes=routes,
        effort=effort,
    )
    compiled, files = _compile(net, options, dt=dt, seed=seed, weights=weights, scheduler=scheduler, output=output)
    destination = out if out is not None else Path("build") / f"{compiled.network.name.replace(' ', '_')}-{target}"
    write_build(files, destination)
    summary = json.loads(files["report.json"])
    size = sum(len(content) for content in files.values())
    output.result(
        "build",
        {"build": str(destination), "files": sorted(files), "bytes": size, "report": summary},
        *render_text(summary),
        f"wrote {destination} ({len(files)} files, {size / 1024:.0f} KiB)",
    )


@click.command()
@network_argument
@_compile_options
@network_options
@common_options
def plan(
    net: Path,
    target: str,
    machine: str | None,
    allow_approximation: bool,
    weights: Path | None,
    rates: Path | None,
    partition: str,
    routes: str,
    effort: str,
    settings: tuple[str, ...],
    eprop_form: str | None,
    scheduler: str | None,
    dt: str | None,
    seed: int | None,
    output: Output,
) -> None:
    """Compile NET for a target and show the report; write nothing."""
    options = _options(
        settings,
        eprop_form,
        target=target,
        machine=machine,
        allow_approximation=allow_approximation,
        rates=rates,
        partition=partition,
        routes=routes,
        effort=effort,
    )
    _compiled, files = _compile(net, options, dt=dt, seed=seed, weights=weights, scheduler=scheduler, output=output)
    summary = json.loads(files["report.json"])
    output.result("plan", {"report": summary}, *render_text(summary))
