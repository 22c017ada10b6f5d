"""``simulate --numerics TARGET``: the same door, in a target's integers instead of float64."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from neurocompile.backends.base import BuildOptions
from neurocompile.cli.check import network_numbers
from neurocompile.cli.common import Opened, Output, connect, printable, table
from neurocompile.ir import SpikeSource
from neurocompile.ir.errors import DoesNotFitError, InputError
from neurocompile.ir.npz import stream_npz
from neurocompile.ir.signals import Signal, Spikes
from neurocompile.simulation import memory
from neurocompile.simulation.twin import find_twin, simulate_twin
from neurocompile.tasks.progress import track


def refuse_options(given: Mapping[str, bool]) -> None:
    """Raise InputError NC160 for options that only the reference engine has. ``given``: option -> whether it was given."""
    useless = [name for name, there in given.items() if there]
    if useless:
        raise InputError.of(
            "NC160", f"{', '.join(useless)} has no effect together with --numerics", help="leave it out, or run the reference engine"
        )


def simulate_in_integers(
    opened: Opened,
    numerics: str,
    spikes: Mapping[str, Spikes],
    signals: Mapping[str, Signal],
    *,
    options: BuildOptions,
    steps: int,
    weights: Path | None,
    save: Path | None,
    no_learn: bool,
    output: Output,
) -> int:
    """Run a network in the integers of a target and print what happened; returns the exit code."""
    network, target = opened.network, find_twin(numerics)
    sources = ((p, p.model) for p in network.spike_sources if p.name not in spikes)
    poisson = sum(p.size for p, model in sources if isinstance(model, SpikeSource) and np.any(model.rate))
    needs = [
        memory.Need(what=f"outputs of {steps:,} steps", n_bytes=16.0 * steps * sum(r.size for r in network.readouts)),
        memory.Need(what=f"Poisson spikes of {steps:,} steps", n_bytes=9.0 * steps * poisson),
    ]
    memory.check_fits(f"simulating '{network.name}' (integers of {numerics})", needs)
    try:
        connections = connect(opened, weights) if weights is not None or opened.connections is not None else None
        with track(None if output.verbosity >= 0 else False) as bar:
            done = simulate_twin(
                network,
                connections,
                target,
                spikes,
                signals,
                n_steps=steps,
                options=options,
                learn=not no_learn,
                progress=lambda done, of: bar.update(f"step {done} of {of}", done, of),
            )
        if save is not None:
            stream_npz(save, done.arrays())
    except MemoryError as error:
        raise DoesNotFitError.of(
            "NC410", f"simulating '{network.name}' needs more memory than there is: {error}", help="make the network smaller"
        ) from None
    learning = done.simulator.learning
    approximations = done.simulator.lowered.approximations if learning else ()
    for a in approximations:
        output.err.print(f"approximation {a.code}: {printable(f'{a.where}: {a.what}; instead {a.instead}')}", highlight=False)
    notes = [str(note) for note in done.simulator.lowered.summary.get("notes", ())]
    for note in notes:
        output.err.print(f"note: {printable(note)}", highlight=False)
    n_spikes = {p.name: len(done.spikes[p.name].step) for p in network.populations if p.model.spikes}
    payload = {
        "name": network.name,
        "steps": steps,
        "numerics": numerics,
        "learning": learning,
        "approximations": [
            {"code": a.code, "where": a.where, "what": a.what, "instead": a.instead, "effect": a.effect} for a in approximations
        ],
        "seed": network.seed,
        **network_numbers(network, done.n_synapses),
        "n_spikes": n_spikes,
        "n_synaptic_events": done.n_synaptic_events,
        "notes": notes,
        "wall_s": done.run_s,
        "build_s": done.lower_s,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
        "save": None if save is None else str(save),
    }
    rows = table(f"{network.name}: {steps} steps of {network.dt * 1e3:g} ms", "population", "spikes", "Hz per neuron")
    for name, count in n_spikes.items():
        rows.add_row(name, str(count), f"{count / (network.population(name).size * steps * network.dt):.2f}")
    lines = [
        f"integers of {numerics}, {'weights learn' if learning else 'weights fixed'}",
        f"{payload['n_synaptic_events']} synaptic events in {done.run_s:.3f} s of stepping ({done.lower_s:.1f} s of building)",
    ]
    if save is not None:
        lines.append(f"wrote {save}")
    output.result("simulate", payload, rows, *lines)
    return 0
