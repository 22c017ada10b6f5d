"""Run the emitted program in NEST and the reference engine on the same random input, and compare what comes out."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.backends.base import BuildOptions, Check
from neurocompile.backends.nest.lowered import NestNetwork
from neurocompile.backends.nest.lowering import counts_steps, lower
from neurocompile.backends.reference.simulator import Simulator
from neurocompile.ir import ALIF, EProp, Loss, Network, Reset
from neurocompile.ir._types import FloatArray
from neurocompile.ir.errors import MismatchError
from neurocompile.ir.npz import AnyArray, load_npz, save_npz
from neurocompile.ir.realise import Connections
from neurocompile.ir.signals import Signal, Spikes

TIMEOUT_S = 3600
RATE = 0.05
"""Spikes of each source neuron per step."""
TOLERANCE = 1e-9
"""Of weights, relative to the largest weight or weight change of the projection; of outputs, relative to the largest output. Both sides
compute in doubles in different orders: 1e-16 an operation, some 1e5 operations."""


def validate(build: Path, network: Network, connections: Mapping[str, Connections], *, steps: int) -> list[Check]:
    """Compare spikes exactly, weights and outputs to :data:`TOLERANCE`, in a run with learning.

    Raises
    ------
    MismatchError
        NC630: the program failed; NC631: it did not print its summary; NC632: its results lack an array.
    """
    lowered = lower(network, connections, BuildOptions(allow_approximation=True))
    spikes, signals = random_input(network, steps)
    # The engine has no clock that is one step ahead: what that approximation changes is not compared (see counts_steps).
    learn = not (lowered.spikes_at_once and any(isinstance(r, EProp) and counts_steps(r) for r in network.rules))
    with tempfile.TemporaryDirectory() as folder:
        options = () if learn else ("--no-learn",)
        results, summary = run_program(build / "program", steps, Path(folder), spikes, signals, *options)
    expected = run_engine(lowered, steps, spikes, signals, learn=learn)
    offset, wanted = summary.get("offset_steps"), int(lowered.spikes_at_once)
    detail = f"NEST's steps are ours + {offset}, expected + {wanted}"
    if not learn:
        detail += "; compared without learning, because adam or update intervals count one step more there"
    return [*compare(network, connections, results, expected), Check(name="clock", ok=offset == wanted, detail=detail)]


def random_input(network: Network, steps: int, *, first: int = 1) -> tuple[dict[str, Spikes], dict[str, Signal]]:
    """Return random spikes of all sources (from step ``first`` on) and a random signal for every readout."""
    rng = np.random.default_rng(network.seed)
    spikes, signals = {}, {}
    for population in network.spike_sources:
        step, neuron = np.nonzero(rng.random((steps, population.size)) < RATE)
        late = step >= first
        spikes[population.name] = Spikes(neuron=neuron[late].astype(np.int32), step=step[late])
    for population in network.readouts:
        signals[population.name] = Signal(target=rng.normal(size=(steps, population.size)), window=rng.random(steps) < 0.9)
    return spikes, signals


def run_program(
    program: Path, steps: int, folder: Path, spikes: Mapping[str, Spikes], signals: Mapping[str, Signal], *options: str
) -> tuple[dict[str, AnyArray], dict[str, Any]]:
    """Run ``run.py`` in a process of its own; return its results and its summary (errors as in :func:`validate`)."""
    command = [sys.executable, str(program.resolve() / "run.py"), "--steps", str(steps), "--out", str(folder / "out.npz"), *options]
    for i, (name, given) in enumerate(spikes.items()):
        save_npz(folder / f"spikes{i}.npz", {"neuron": given.neuron, "step": given.step})
        command += ["--input", f"{name}={folder / f'spikes{i}.npz'}"]
    for i, (name, signal) in enumerate(signals.items()):
        save_npz(folder / f"signal{i}.npz", {"target": signal.target, "window": signal.window})
        command += ["--signal", f"{name}={folder / f'signal{i}.npz'}"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise MismatchError.of("NC630", f"run.py did not end within {TIMEOUT_S} s", file=str(program / "run.py")) from None
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise MismatchError.of(
            "NC630", f"run.py ended with status {done.returncode}: {last}", file=str(program / "run.py"), help="run it by hand"
        )
    try:
        summary: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise MismatchError.of(
            "NC631", f"run.py printed no JSON summary but {done.stdout[:80]!r}", file=str(program / "run.py"), help="run it by hand"
        ) from None
    return load_npz(folder / "out.npz"), summary


def twin(lowered: NestNetwork) -> tuple[Network, dict[tuple[str, str], FloatArray]]:
    """Return the network as NEST has it, every approximation carried out, and its feedback matrices for the engine."""
    network = lowered.network
    populations = tuple(
        replace(p, model=replace(p.model, t_ref=0.0))
        if isinstance(p.model, ALIF) and p.model.reset is Reset.TO_VALUE and np.any(np.asarray(p.model.adapt_beta) > 0)
        else p
        for p in network.populations
    )
    task = None if network.task is None else replace(network.task, loss=Loss.MEAN_SQUARED_ERROR)
    feedback = {}
    for item in lowered.feedback:
        hidden, readout = network.populations[item.post_population], network.populations[item.pre_population]
        matrix = np.zeros((readout.size, hidden.size))
        matrix[item.pre, item.post] = item.weight
        for projection in network.synaptic_projections:
            if projection.post == hidden.name and projection.learning is not None:
                feedback[projection.learning, hidden.name] = matrix
    return replace(network, populations=populations, task=task), feedback


def run_engine(
    lowered: NestNetwork, steps: int, spikes: Mapping[str, Spikes], signals: Mapping[str, Signal], *, learn: bool = True
) -> dict[str, AnyArray]:
    """Return the engine's results under the keys of the program's results."""
    network, feedback = twin(lowered)
    simulator = Simulator(network, dict(lowered.connections), feedback=feedback)
    record = simulator.run(steps, spikes=spikes, signals=signals, learn=learn)
    found: dict[str, AnyArray] = {f"weight:{name}": weight for name, weight in simulator.weights().items()}
    for name, given in record.spikes.items():
        found |= {f"spike_step:{name}": given.step, f"spike_neuron:{name}": given.neuron}
    return found | {f"output:{name}": values for name, values in record.outputs.items()}


def compare(
    network: Network, connections: Mapping[str, Connections], results: Mapping[str, AnyArray], expected: Mapping[str, AnyArray]
) -> list[Check]:
    """Return one check for the spikes of each population, each readout's output and each projection's weights."""
    ends = {f"{end}:{p.name}": getattr(connections[p.name], end) for p in network.synaptic_projections for end in ("pre", "post")}
    missing = sorted((set(expected) | set(ends)) - set(results))
    if missing:
        raise MismatchError.of("NC632", f"the results of run.py lack '{missing[0]}'", help="build it again")
    checks = []
    for population in network.populations:
        if population.model.spikes:
            checks.append(_spikes(population.name, results, expected))
        else:
            checks.append(
                _close(f"output of {population.name}", results[f"output:{population.name}"], expected[f"output:{population.name}"])
            )
    for projection in network.synaptic_projections:
        start = connections[projection.name].weight.astype(np.float64)
        same = [np.array_equal(results[f"{end}:{projection.name}"], ends[f"{end}:{projection.name}"]) for end in ("pre", "post")]
        if not all(same):
            checks.append(Check(name=f"synapses of {projection.name}", ok=False, detail="pre or post differ from the description"))
        key = f"weight:{projection.name}"
        checks.append(_close(f"weights of {projection.name}", results[key], expected[key], start))
    return checks


def _spikes(name: str, results: Mapping[str, AnyArray], expected: Mapping[str, AnyArray]) -> Check:
    got, wanted = (np.stack([r[f"spike_step:{name}"], r[f"spike_neuron:{name}"]]).astype(np.int64) for r in (results, expected))
    same = np.array_equal(got, wanted)
    detail = f"{got.shape[1]} in NEST, {wanted.shape[1]} in the engine, " + ("all equal" if same else "they differ")
    if not same:
        step = min(set(map(tuple, got.T.tolist())) ^ set(map(tuple, wanted.T.tolist())), default=(-1, -1))
        detail += f" first in step {step[0]}, neuron {step[1]}"
    return Check(name=f"spikes of {name}", ok=same, detail=detail)


def _close(name: str, got: AnyArray, expected: AnyArray, start: AnyArray | None = None) -> Check:
    a, b = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if a.shape != b.shape:
        return Check(name=name, ok=False, detail=f"shape {a.shape} in NEST, {b.shape} in the engine")
    difference = float(np.abs(a - b).max(initial=0.0)) if np.isfinite(a).all() else float(np.inf)
    scale = float(np.abs(b).max(initial=0.0))
    detail = f"largest difference {difference:.3g}, largest value {scale:.3g}"
    ok = difference <= TOLERANCE * scale
    if start is not None:
        change = float(np.abs(b - np.asarray(start, np.float64)).max(initial=0.0))
        # A change far below the weight itself is rounded with the weight: 1e-9 of it cannot be less than some last bits.
        ok = ok and difference <= max(TOLERANCE * change, 64 * float(np.finfo(np.float64).eps) * scale)
        detail += f", largest change {change:.3g}"
    return Check(name=name, ok=bool(ok), detail=detail)
