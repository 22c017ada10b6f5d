"""``train`` and ``evaluate``: learn a task in the reference engine, and measure it on data never seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neurocompile import tasks
from neurocompile.cli.common import Opened, Output, common_options, connect, network_argument, network_options, open_network, table
from neurocompile.pipeline import load_kappas
from neurocompile.tasks.train import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from neurocompile.ir.realise import Connections


def _data_options(command: Any) -> Any:
    for option in (
        click.option("--data", type=click.Path(path_type=Path), help="Folder of the data set, instead of the description's."),
        click.option("--limit-train", type=click.IntRange(1), help="Only the first N training samples."),
        click.option("--limit-test", type=click.IntRange(1), help="Only the first N held-out samples."),
        click.option("--no-baseline", is_flag=True, help="Do not train the linear classifier for comparison."),
    ):
        command = option(command)
    return command


def _given(opened: Opened, weights: Path | None) -> Mapping[str, Connections] | None:
    """Return the synapses where weights are given; else the task draws them, when it knows that it has the memory."""
    return None if weights is None and opened.connections is None else connect(opened, weights)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


@click.command()
@network_argument
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Folder for weights, curve and checkpoints; default: runs/NAME.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs in all; default: the task's.")
@click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint, bit-identically.")
@click.option("--overwrite", is_flag=True, help="Begin anew although the folder holds a training.")
@click.option("--checkpoint-every", type=click.IntRange(1), metavar="SAMPLES", help="Default: every 30 s.")
@click.option("--weights", type=click.Path(path_type=Path), help="Start from these weights (npz: weight:NAME).")
@_data_options
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
    data: Path | None,
    limit_train: int | None,
    limit_test: int | None,
    no_baseline: bool,
    dt: str | None,
    seed: int | None,
    output: Output,
) -> int:
    """Train NET on its task's data; writes weights.npz, a learning curve (CSV, PNG) and checkpoints.

    Ctrl-C writes a checkpoint and ends with exit code 130; --resume goes on from it.
    """
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
        connections=_given(opened, weights),
        kappas=load_kappas(opened.network, weights),
        baseline=not no_baseline,
    )
    rows = table(f"{opened.network.name}: seed {result.seed}", "epoch", "train", "held out", "spikes per sample")
    for row in result.history:
        rows.add_row(str(row.epoch), _percent(row.train_accuracy), _percent(row.test_accuracy), f"{row.spikes_per_sample:.0f}")
    lines = [
        f"held-out accuracy {_percent(result.test_accuracy)} of {result.n_test} samples "
        f"(linear classifier on event counts {_percent(result.baseline_accuracy)}), {result.n_train} training samples, "
        f"{result.wall_s:.1f} s",
        result.message,
    ]
    output.result("train", result.as_json(), rows, *lines)
    return EXIT_INTERRUPTED if result.interrupted else 0


@click.command()
@network_argument
@click.option("--weights", type=click.Path(path_type=Path), help="Trained weights (npz: weight:NAME); default: the description's.")
@_data_options
@network_options
@common_options
def evaluate(
    net: Path,
    weights: Path | None,
    data: Path | None,
    limit_train: int | None,
    limit_test: int | None,
    no_baseline: bool,
    dt: str | None,
    seed: int | None,
    output: Output,
) -> None:
    """Measure NET on the held-out samples of its task, without learning."""
    opened = open_network(net, dt=dt, seed=seed, output=output)
    result = tasks.evaluate(
        opened.network,
        connections=_given(opened, weights),
        data_path=None if data is None else str(data),
        limit_train=limit_train,
        limit_test=limit_test,
        baseline=not no_baseline,
        progress=None if output.verbosity >= 0 else False,
    )
    confusion = table("confusion (rows: true class)", "", *(str(i) for i in range(len(result.confusion))))
    for label, counts in enumerate(result.confusion):
        confusion.add_row(str(label), *(str(n) if n else "." for n in counts))
    summary = (
        f"held-out accuracy {_percent(result.accuracy)} of {result.n_test} samples "
        f"(linear classifier on event counts {_percent(result.baseline_accuracy)}), {result.spikes_per_sample:.0f} spikes and "
        f"{result.synaptic_events_per_sample:.0f} synaptic events a sample"
    )
    output.result("evaluate", result.as_json(), confusion, summary)
