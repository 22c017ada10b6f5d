"""``train`` and ``evaluate``: learn a task, and measure it on data never seen, in the reference engine or in a target's integers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from neurocompile import tasks
from neurocompile.cli.common import Opened, Output, common_options, connect, network_argument, network_options, open_network, table
from neurocompile.cli.numerics import numerics_of, numerics_options, print_lowering
from neurocompile.pipeline import load_kappas
from neurocompile.tasks.train import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from neurocompile.ir.realise import Connections


def data_options(command: Any) -> Any:
    for option in (
        click.option("--data", type=click.Path(path_type=Path), help="Folder of the data set, instead of the description's."),
        click.option("--limit-train", type=click.IntRange(1), help="Only the first N training samples."),
        click.option("--limit-test", type=click.IntRange(1), help="Only the first N held-out samples."),
        click.option("--no-baseline", is_flag=True, help="Do not train the linear classifier for comparison."),
    ):
        command = option(command)
    return command


def given_synapses(opened: Opened, weights: Path | None) -> Mapping[str, Connections] | None:
    """Return the synapses where weights are given; else the task draws them, when it knows that it has the memory."""
    return None if weights is None and opened.connections is None else connect(opened, weights)


SAMPLES = {"test": "held-out", "train": "training"}


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


@click.command()
@network_argument
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Folder for weights, curve and checkpoints; default: runs/NAME.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs in all; default: the task's.")
@click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint, bit-identically.")
@click.option("--overwrite", is_flag=True, help="Begin anew although the folder holds a training.")
@click.option("--checkpoint-every", type=click.IntRange(1), metavar="SAMPLES", help="Default: every 30 s.")
@click.option("--weights", type=click.Path(path_type=Path), help="Start from these weights (npz: weight:NAME).")
@numerics_options
@data_options
@network_options
@common_options
def train(
    net: Path,
    out: Path | None,
    epochs: int | None,
    resume: bool,
    overwrite: bool,
    checkpoint_every: int | None,
    weights: Path | None,
    numerics: str | None,
    allow_approximation: bool,
    settings: tuple[str, ...],
    data: Path | None,
    limit_train: int | None,
    limit_test: int | None,
    no_baseline: bool,
    dt: str | None,
    seed: int | None,
    output: Output,
) -> int:
    """Train NET on its task's data; writes weights.npz, a learning curve (CSV, PNG) and checkpoints.

    With --numerics it learns as the target's program does, in its integers.

    Ctrl-C writes a checkpoint and ends with exit code 130; --resume goes on from it.
    """
    integers = numerics_of(numerics, settings, allow_approximation=allow_approximation)
    opened = open_network(net, dt=dt, seed=seed, output=output)
    folder = out if out is not None else Path("runs") / opened.network.name.replace(" ", "_")
    result = tasks.train(
        opened.network,
        out=folder,
        epochs=epochs,
        resume=resume,
        overwrite=overwrite,
        checkpoint_every=checkpoint_every,
        progress=None if output.verbosity >= 0 else False,
        limit_train=limit_train,
        limit_test=limit_test,
        data_path=None if data is None else str(data),
        connections=given_synapses(opened, weights),
        kappas=load_kappas(opened.network, weights),
        baseline=not no_baseline,
        numerics=integers,
    )
    print_lowering(result.lowering, output)
    rows = table(f"{opened.network.name}: seed {result.seed}", "epoch", "train", "held out", "spikes per sample")
    for row in result.history:
        rows.add_row(str(row.epoch), percent(row.train_accuracy), percent(row.test_accuracy), f"{row.spikes_per_sample:.0f}")
    lines = [
        f"held-out accuracy {percent(result.test_accuracy)} of {result.n_test} samples "
        f"(linear classifier on event counts {percent(result.baseline_accuracy)}), {result.n_train} training samples, "
        f"{result.wall_s:.1f} s",
        result.message,
    ]
    output.result("train", result.as_json(), rows, *lines)
    return EXIT_INTERRUPTED if result.interrupted else 0


@click.command()
@network_argument
@click.option("--weights", type=click.Path(path_type=Path), help="Trained weights (npz: weight:NAME); default: the description's.")
@click.option("--part", type=click.Choice(["test", "train"]), default="test", show_default=True, help="Held-out or training samples.")
@numerics_options
@data_options
@network_options
@common_options
def evaluate(
    net: Path,
    weights: Path | None,
    part: str,
    numerics: str | None,
    allow_approximation: bool,
    settings: tuple[str, ...],
    data: Path | None,
    limit_train: int | None,
    limit_test: int | None,
    no_baseline: bool,
    dt: str | None,
    seed: int | None,
    output: Output,
) -> None:
    """Measure NET on the held-out samples of its task (or with --part train on the training samples), without learning.

    With --numerics in the target's integers, beside float64. What the target only approximates in learning does not matter here.
    """
    integers = numerics_of(numerics, settings, allow_approximation=allow_approximation)
    opened = open_network(net, dt=dt, seed=seed, output=output)
    given: dict[str, Any] = {
        "connections": given_synapses(opened, weights),
        "data_path": None if data is None else str(data),
        "limit_train": limit_train,
        "limit_test": limit_test,
        "baseline": not no_baseline,
        "part": part,
        "progress": None if output.verbosity >= 0 else False,
    }
    if integers is None:
        result = tasks.evaluate(opened.network, **given)
        output.result("evaluate", result.as_json(), _confusion(result), _summary(result))
        return
    both = tasks.compare(opened.network, integers, **given)
    print_lowering(both.integers.lowering, output)
    rows = table(
        f"{opened.network.name}: {both.integers.n_test} {SAMPLES[part]} samples, weights frozen", "", "accuracy", "loss", "spikes a sample"
    )
    for name, found in (("float64", both.float64), (integers.target.name, both.integers)):
        rows.add_row(name, percent(found.accuracy), f"{found.loss:.4g}", f"{found.spikes_per_sample:.0f}")
    differ = f"{both.n_decisions_differ} of {both.integers.n_test} decisions differ"
    output.result("evaluate", both.as_json(), rows, differ, _confusion(both.integers), _summary(both.integers))


def _confusion(result: tasks.EvalResult) -> Table:
    grid = table("confusion (rows: true class)", "", *(str(i) for i in range(len(result.confusion))))
    for label, counts in enumerate(result.confusion):
        grid.add_row(str(label), *(str(n) if n else "." for n in counts))
    return grid


def _summary(result: tasks.EvalResult) -> str:
    return (
        f"{SAMPLES[result.part]} accuracy {percent(result.accuracy)} of {result.n_test} samples "
        f"(linear classifier on event counts {percent(result.baseline_accuracy)}), {result.spikes_per_sample:.0f} spikes and "
        f"{result.synaptic_events_per_sample:.0f} synaptic events a sample"
    )
