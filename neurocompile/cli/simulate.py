"""``simulate``: run a network in the reference engine on given spikes and signals."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import click
import numpy as np

from neurocompile.backends.reference import Recording, RecordOptions, Simulator
from neurocompile.cli.check import network_numbers
from neurocompile.cli.common import Output, common_options, connect, named_files, network_argument, network_options, open_network, table
from neurocompile.ir.errors import InputError
from neurocompile.ir.npz import AnyArray, save_npz
from neurocompile.ir.realise import Connections
from neurocompile.ir.signals import Signal, Spikes

RECORDABLE = ("membrane", "adaptation", "surrogate", "learning_signal", "traces", "weights")


def result_arrays(recording: Recording, simulator: Simulator, connections: dict[str, Connections]) -> dict[str, AnyArray]:
    """Return the arrays of out.npz: ``weight:``, ``pre:``, ``post:`` per projection, ``spike_step:``, ``spike_neuron:`` per population,
    ``output:`` per readout, and what else was recorded."""
    arrays: dict[str, AnyArray] = {}
    weights = simulator.weights()
    for name, c in connections.items():
        arrays[f"weight:{name}"], arrays[f"pre:{name}"], arrays[f"post:{name}"] = weights[name], c.pre, c.post
    for name, spikes in recording.spikes.items():
        arrays[f"spike_step:{name}"], arrays[f"spike_neuron:{name}"] = spikes.step, spikes.neuron
    for name, values in recording.outputs.items():
        arrays[f"output:{name}"] = values
    for kind in RECORDABLE:
        recorded: dict[str, Any] = getattr(recording, kind)
        for name, values in recorded.items():
            for key, array in values.items() if isinstance(values, dict) else [("", values)]:
                # final weights have the plain key; snapshots of weights are a history
                arrays[f"{'weights_history' if kind == 'weights' else kind}:{name}" + (f":{key}" if key else "")] = np.asarray(array)
    if len(recording.snapshot_steps):
        arrays["snapshot_step"] = recording.snapshot_steps
    return arrays


def _record_options(values: tuple[str, ...], every: int, populations: set[str], projections: set[str]) -> RecordOptions:
    asked: dict[str, dict[str, None]] = {}
    for value in values:
        kind, colon, name = value.partition(":")
        if not colon or kind not in RECORDABLE:
            raise InputError.of("NC160", f"--record {value!r} is not of the form KIND:NAME", help=f"kinds: {', '.join(RECORDABLE)}")
        known = projections if kind in {"traces", "weights"} else populations
        if name not in known:
            raise InputError.of("NC207", f"--record {value!r}: there is no '{name}'", help=f"known: {', '.join(sorted(known))}")
        asked.setdefault(kind, {})[name] = None
    chosen = {kind: tuple(names) if kind in {"traces", "weights"} else names for kind, names in asked.items()}
    return RecordOptions(every=every, **chosen)  # type: ignore[arg-type]


@click.command()
@network_argument
@click.option("--steps", required=True, type=click.IntRange(1), help="Update steps 0 .. N-1.")
@click.option("--input", "inputs", multiple=True, metavar="POP=FILE", help="Spikes of a source (npz: neuron, step).")
@click.option("--signal", "signals", multiple=True, metavar="READOUT=FILE", help="Target of a readout (npz: target, window).")
@click.option("--weights", type=click.Path(path_type=Path), help="Start from these weights (npz: weight:NAME).")
@click.option("--save", type=click.Path(path_type=Path), help="Write spikes, outputs and final weights (npz).")
@click.option("--record", multiple=True, metavar="KIND:NAME", help=f"Record more into --save; kinds: {', '.join(RECORDABLE)}.")
@click.option("--no-learn", is_flag=True, help="Keep all weights as they are.")
@click.option("--record-every", type=click.IntRange(1), default=1, show_default=True, help="Steps between recorded traces and weights.")
@click.option("--flush", is_flag=True, help="Apply gradients that wait for their source's next spike at the end.")
@network_options
@common_options
def simulate(
    net: Path,
    steps: int,
    inputs: tuple[str, ...],
    signals: tuple[str, ...],
    weights: Path | None,
    save: Path | None,
    record: tuple[str, ...],
    record_every: int,
    no_learn: bool,
    flush: bool,
    dt: str | None,
    seed: int | None,
    output: Output,
) -> None:
    """Run NET in the reference engine (float64).

    A spike at step s reaches a target behind delay d in update step s+d. Row t of a signal is compared with the readout in update step
    t. A weight changes when its source spikes, and the spike travels with the new weight.
    """
    opened = open_network(net, dt=dt, seed=seed, output=output)
    network = opened.network
    sources = {p.name: p.size for p in network.spike_sources}
    readouts = {p.name: p.size for p in network.readouts}
    spikes = {name: Spikes.load(file, size=sources[name]) for name, file in named_files(inputs, "--input", sources).items()}
    targets = {name: Signal.load(file, size=readouts[name]) for name, file in named_files(signals, "--signal", readouts).items()}
    options = _record_options(record, record_every, {p.name for p in network.populations}, {p.name for p in network.synaptic_projections})
    if record and save is None:
        raise InputError.of("NC160", "--record has no effect without --save")
    connections = dict(connect(opened, weights))
    simulator = Simulator(network, connections)
    recording = simulator.run(steps, spikes=spikes, signals=targets, learn=not no_learn, record=options)
    if flush:
        simulator.flush()
    if save is not None:
        save_npz(save, result_arrays(recording, simulator, connections))
    n_spikes = {p.name: int(recording.n_spikes.get(p.name, 0)) for p in network.populations if p.model.spikes}
    payload = {
        "name": network.name,
        "steps": steps,
        "learning": not no_learn,
        "seed": network.seed,
        **network_numbers(network, connections),
        "n_spikes": n_spikes,
        "n_synaptic_events": int(recording.n_synaptic_events),
        "wall_s": recording.wall_s,
        "compile_s": simulator.compile_s,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
        "save": None if save is None else str(save),
    }
    rows = table(f"{network.name}: {steps} steps of {network.dt * 1e3:g} ms", "population", "spikes", "Hz per neuron")
    for name, count in n_spikes.items():
        rows.add_row(name, str(count), f"{count / (network.population(name).size * steps * network.dt):.2f}")
    output.result(
        "simulate",
        payload,
        rows,
        f"{recording.n_synaptic_events} synaptic events in {recording.wall_s:.3f} s of stepping ({simulator.compile_s:.1f} s of compiling)",
        *([f"wrote {save}"] if save is not None else []),
    )
