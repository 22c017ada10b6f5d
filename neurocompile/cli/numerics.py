"""``--numerics TARGET``: the same doors, in a target's integers instead of float64."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from neurocompile.backends.base import BuildOptions
from neurocompile.cli.check import network_numbers
from neurocompile.cli.common import Opened, Output, connect, key_values, printable, table
from neurocompile.ir import SpikeSource
from neurocompile.ir.errors import DoesNotFitError, InputError
from neurocompile.ir.npz import stream_npz
from neurocompile.ir.signals import Signal, Spikes
from neurocompile.simulation import memory
from neurocompile.simulation.twin import find_twin, simulate_twin
from neurocompile.tasks.numerics import Lowering, Numerics, lowering_of
from neurocompile.tasks.progress import track


def numerics_options(command: Any) -> Any:
    """Add --numerics, --allow-approximation and --set."""
    for option in (
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="With --numerics: set a target option."),
        click.option("--allow-approximation", is_flag=True, help="With --numerics: accept what the target can only approximate."),
        click.option("--numerics", metavar="TARGET", help="Compute in this target's integers (loihi2), not in float64."),
    ):
        command = option(command)
    return command


def numerics_of(name: str | None, settings: tuple[str, ...], *, allow_approximation: bool) -> Numerics | None:
    """Return what --numerics and its companions ask for; InputError NC160 for companions alone, NC345 for targets without integers."""
    if name is None:
        if allow_approximation or settings:
            raise InputError.of("NC160", f"{'--allow-approximation' if allow_approximation else '--set'} has no effect without --numerics")
        return None
    options = BuildOptions(allow_approximation=allow_approximation, extra=key_values(settings, "--set"))
    return Numerics(target=find_twin(name), options=options)


def print_lowering(lowering: Lowering | None, output: Output) -> None:
    """Print approximations and notes on stderr."""
    if lowering is not None:
        for a in lowering.approximations:
            output.err.print(f"approximation {a.code}: {printable(f'{a.where}: {a.what}; instead {a.instead}')}", highlight=False)
        for note in lowering.notes:
            output.err.print(f"note: {printable(note)}", highlight=False)


def refuse_options(given: Mapping[str, bool]) -> None:
    """Raise InputError NC160 for options that only the reference engine has. ``given``: option -> whether it was given."""
    useless = [name for name, there in given.items() if there]
    if useless:
        raise InputError.of(
            "NC160", f"{', '.join(useless)} has no effect together with --numerics", help="leave it out, or run the reference engine"
        )


def simulate_in_integers(
    opened: Opened,
    numerics: Numerics,
    spikes: Mapping[str, Spikes],
    signals: Mapping[str, Signal],
    *,
    steps: int,
    weights: Path | None,
    save: Path | None,
    no_learn: bool,
    output: Output,
) -> int:
    """Run a network in the integers of a target and print what happened; returns the exit code."""
    network = opened.network
    sources = ((p, p.model) for p in network.spike_sources if p.name not in spikes)
    poisson = sum(p.size for p, model in sources if isinstance(model, SpikeSource) and np.any(model.rate))
    needs = [
        memory.Need(what=f"outputs of {steps:,} steps", n_bytes=16.0 * steps * sum(r.size for r in network.readouts)),
        memory.Need(what=f"Poisson spikes of {steps:,} steps", n_bytes=9.0 * steps * poisson),
    ]
    memory.check_fits(f"simulating '{network.name}' (integers of {numerics.target.name})", needs)
    try:
        connections = connect(opened, weights) if weights is not None or opened.connections is not None else None
        with track(None if output.verbosity >= 0 else False) as bar:
            done = simulate_twin(
                network,
                connections,
                numerics.target,
                spikes,
                signals,
                n_steps=steps,
                options=numerics.options,
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
    lowering = lowering_of(done.simulator)
    print_lowering(lowering, output)
    n_spikes = {p.name: len(done.spikes[p.name].step) for p in network.populations if p.model.spikes}
    payload = {
        "name": network.name,
        "steps": steps,
        **(lowering.as_json() if lowering is not None else {}),
        "learning": learning,
        "seed": network.seed,
        **network_numbers(network, done.n_synapses),
        "n_spikes": n_spikes,
        "n_synaptic_events": done.n_synaptic_events,
        "wall_s": done.run_s,
        "build_s": done.lower_s,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
        "save": None if save is None else str(save),
    }
    rows = table(f"{network.name}: {steps} steps of {network.dt * 1e3:g} ms", "population", "spikes", "Hz per neuron")
    for name, count in n_spikes.items():
        rows.add_row(name, str(count), f"{count / (network.population(name).size * steps * network.dt):.2f}")
    lines = [
        f"integers of {numerics.target.name}, {'weights learn' if learning else 'weights fixed'}",
        f"{payload['n_synaptic_events']} synaptic events in {done.run_s:.3f} s of stepping ({done.lower_s:.1f} s of building)",
    ]
    if save is not None:
        lines.append(f"wrote {save}")
    output.result("simulate", payload, rows, *lines)
    return 0
