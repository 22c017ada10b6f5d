"""``--numerics TARGET``: the same doors, in a target's integers instead of float64."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import numpy as np

import neurocompile
from neurocompile.backends.base import BuildOptions
from neurocompile.backends.reference import RecordOptions
from neurocompile.cli import INTERRUPTED
from neurocompile.cli.check import network_numbers
from neurocompile.cli.common import Opened, Output, connect, key_values, printable, table
from neurocompile.ir import SpikeSource
from neurocompile.ir.errors import DoesNotFitError, InputError
from neurocompile.ir.npz import AnyArray, stream_npz
from neurocompile.ir.signals import Signal, Spikes
from neurocompile.simulation import memory
from neurocompile.simulation.checkpoint import CheckpointFile
from neurocompile.simulation.engines import TwinEngine
from neurocompile.simulation.identity import identity_of
from neurocompile.simulation.run import Plan, Run
from neurocompile.simulation.twin import TwinSimulator, find_twin
from neurocompile.tasks.numerics import Lowering, Numerics, lowering_of
from neurocompile.tasks.progress import interruptible, track


def numerics_options(command: Any) -> Any:
    """Add --numerics, --allow-approximation and --set."""
    for option in (
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="With --numerics: set a target option."),
        click.option("--allow-approximation", is_flag=True, help="With --numerics: accept what the target can only approximate."),
        click.option("--numerics", metavar="TARGET", help="Compute in this target's integers (loihi2, spinnaker), not in float64."),
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
    file: CheckpointFile | None,
    every: int | None,
    resume: bool,
    output: Output,
) -> int:
    """Run a network in the integers of a target and print what happened; returns the exit code. every : see :meth:`Run.go`."""
    network = opened.network
    meta = file.read() if file is not None and resume else None
    sources = ((p, p.model) for p in network.spike_sources if p.name not in spikes)
    poisson = sum(p.size for p, model in sources if isinstance(model, SpikeSource) and np.any(model.rate))
    needs = []
    if save is not None:
        needs = [
            memory.Need(what=f"outputs of {steps:,} steps", n_bytes=16.0 * steps * sum(r.size for r in network.readouts)),
            memory.Need(what=f"Poisson spikes of {steps:,} steps", n_bytes=9.0 * steps * poisson),
        ]
    memory.check_fits(f"simulating '{network.name}' (integers of {numerics.target.name})", needs)
    plan = Plan(n_steps=steps, spikes=spikes, signals=signals, learn=not no_learn, record=RecordOptions(), kept=save is not None)
    try:
        connections = connect(opened, weights) if weights is not None or opened.connections is not None else None
        identity = {}
        if file is not None:
            options = {
                "--no-learn": "on" if no_learn else "off",
                "--numerics and --set": numerics.identity,
                "the version": neurocompile.__version__,
            }
            identity = identity_of(network, connections, plan, options)
            file.enter(meta, identity, steps)
        with track(None if output.verbosity >= 0 else False) as bar:
            began = time.perf_counter()
            simulator = TwinSimulator(network, connections, numerics.target, options=numerics.options, learning=not no_learn)
            build_s = time.perf_counter() - began
            engine = TwinEngine(simulator)
            run = Run(engine, plan, file, identity)
            if meta is not None:
                run.resume(meta)
            with interruptible() if file is not None else nullcontext(lambda: False) as stopped:
                finished = run.go(every, stopped, bar)
        if finished and save is not None:
            stream_npz(save, _result_arrays(run, simulator))
    except MemoryError as error:
        raise DoesNotFitError.of(
            "NC410", f"simulating '{network.name}' needs more memory than there is: {error}", help="make the network smaller"
        ) from None
    lowering = lowering_of(simulator)
    print_lowering(lowering, output)
    n_spikes = {p.name: run.n_spikes.get(p.name, 0) for p in network.populations if p.model.spikes}
    payload = {
        "name": network.name,
        "steps": steps,
        "steps_done": run.step,
        "interrupted": not finished,
        **(lowering.as_json() if lowering is not None else {}),
        "learning": simulator.learning,
        "seed": network.seed,
        **network_numbers(network, {name: len(synapses.pre) for name, synapses in simulator.lowered.connections.items()}),
        "n_spikes": n_spikes,
        "n_synaptic_events": engine.n_synaptic_events,
        "wall_s": run.wall_s,
        "build_s": build_s,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
        "save": str(save) if save is not None and finished else None,
        "checkpoint": None if file is None else str(file.path),
    }
    rows = table(f"{network.name}: {run.step} steps of {network.dt * 1e3:g} ms", "population", "spikes", "Hz per neuron")
    for name, count in n_spikes.items():
        rows.add_row(name, str(count), f"{count / (network.population(name).size * max(run.step, 1) * network.dt):.2f}")
    lines = [
        f"integers of {numerics.target.name}, {'weights learn' if simulator.learning else 'weights fixed'}",
        f"{engine.n_synaptic_events} synaptic events in {run.wall_s:.3f} s of stepping ({build_s:.1f} s of building)",
    ]
    if finished and save is not None:
        lines.append(f"wrote {save}")
    if not finished and file is not None:
        lines.append(f"interrupted after {run.step} of {steps} steps; run the same command with --resume to go on from {file.path}")
    output.result("simulate", payload, rows, *lines)
    return 0 if finished else INTERRUPTED


def _result_arrays(run: Run, simulator: TwinSimulator) -> Iterator[tuple[str, AnyArray]]:
    """Yield the arrays of out.npz, the keys of ``simulate --save``."""
    weights = simulator.weights()
    for name, synapses in simulator.lowered.connections.items():
        yield f"weight:{name}", weights[name]
        yield f"pre:{name}", synapses.pre
        yield f"post:{name}", synapses.post
    yield from run.arrays()
