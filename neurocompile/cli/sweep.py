"""``sweep``: what each choice of a target's options costs in accuracy."""

from __future__ import annotations

from pathlib import Path

import click

from neurocompile import tasks
from neurocompile.cli.common import Output, common_options, network_argument, network_options, open_network, table
from neurocompile.cli.numerics import numerics_of, numerics_options
from neurocompile.cli.train import SAMPLES, given_synapses, percent
from neurocompile.ir.errors import InputError
from neurocompile.tasks.train import EXIT_INTERRUPTED


@click.command()
@network_argument
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="Folder for points, table and plot; goes on in it.")
@click.option("--vary", multiple=True, metavar="NAME=VALUES", help="An option of --set, or kappa, learning_rate, seed: V1,V2,... or A..B.")
@click.option("--learn", type=click.IntRange(0), default=0, metavar="SAMPLES", help="Learn from so many samples first; default: frozen.")
@click.option("--weights", type=click.Path(path_type=Path), help="Weights to measure or to begin with (npz: weight:NAME).")
@numerics_options
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the data set, instead of the description's.")
@click.option("--part", type=click.Choice(["test", "train"]), default="test", show_default=True, help="Held-out or training samples.")
@click.option("--limit-test", type=click.IntRange(1), help="Only the first N samples of that part.")
@network_options
@common_options
def sweep(
    net: Path,
    out: Path,
    vary: tuple[str, ...],
    learn: int,
    weights: Path | None,
    numerics: str | None,
    allow_approximation: bool,
    settings: tuple[str, ...],
    data: Path | None,
    part: str,
    limit_test: int | None,
    dt: str | None,
    seed: int | None,
    output: Output,
) -> int:
    """Measure NET in a target's integers with every combination of --vary; writes a table (JSON, CSV) and a plot (PNG).

    Each point is kept as it is done: the same command goes on after Ctrl-C, or when values are added.
    """
    integers = numerics_of(numerics, settings, allow_approximation=allow_approximation)
    if integers is None:
        raise InputError.of("NC160", "sweep varies the options of a target's integers and needs --numerics", help="--numerics loihi2")
    varied = tasks.parse_varied(vary)
    opened = open_network(net, dt=dt, seed=seed, output=output)
    result = tasks.sweep(
        opened.network,
        integers,
        varied,
        out=out,
        connections=given_synapses(opened, weights),
        learn=learn,
        limit_test=limit_test,
        data_path=None if data is None else str(data),
        part=part,
        progress=None if output.verbosity >= 0 else False,
    )
    how = f"after {learn} samples learnt" if learn else "weights frozen"
    rows = table(f"{result.name}: {result.n_test} {SAMPLES[part]} samples, {how}", *varied, "accuracy", "lost", "loss", "spikes a sample")
    blank = [""] * (len(varied) - 1)
    base = result.float64
    rows.add_row("float64", *blank, percent(base["accuracy"]), "", f"{base['loss']:.4g}", f"{base['spikes_per_sample']:.0f}")
    for point in result.points:
        if point.accuracy is None or point.loss is None:
            rows.add_row(*point.choice.values(), "refused", "", "", "")
            output.err.print(f"{point.choice}: {point.refused}", highlight=False)
            continue
        rows.add_row(
            *point.choice.values(), percent(point.accuracy), f"{100 * (result.lost(point) or 0.0):.2f}", f"{point.loss:.4g}",
            f"{point.spikes_per_sample:.0f}",
        )  # fmt: skip
    message = f"{len(result.points)} of {result.n_points} points done, {result.skipped} of them before; results in {result.out}"
    if result.interrupted:
        message += "; run the same command to go on"
    output.result("sweep", result.as_json(), rows, message)
    return EXIT_INTERRUPTED if result.interrupted else 0
