"""What the mapper is told, from the description's section ``mapping`` and from recordings, as arrays of the mapping problem."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from neurocompile.ir import Network
from neurocompile.ir._types import FloatArray, Int32Array
from neurocompile.ir.errors import InputError
from neurocompile.ir.hints import apart_labels, chip_of_neurons, expected_rates, together_labels
from neurocompile.ir.npz import load_npz
from neurocompile.machine import Machine
from neurocompile.mapping.problem import MappingProblem, SetResource


def recorded_rates(network: Network, file: Path) -> FloatArray:
    """Return the spikes of each neuron per step in a recording, float64 (n_neurons,).

    Parameters
    ----------
    file
        What ``simulate --save`` writes: 1-D integers ``spike_neuron:POPULATION`` and ``spike_step:POPULATION``. Its steps are those up to
        the last spike of all; populations that are not in it are silent.

    Raises
    ------
    InputError
        NC106, NC107 (file), NC204 a neuron that does not exist.
    """
    arrays = load_npz(file)
    counts, last = np.zeros(network.n_neurons), -1
    found = False
    for population in network.populations:
        neurons = arrays.get(f"spike_neuron:{population.name}")
        if neurons is None:
            continue
        found = True
        if neurons.ndim != 1 or neurons.dtype.kind not in "iu":
            raise InputError.of("NC202", f"'spike_neuron:{population.name}' must be a 1-D array of integers", file=str(file))
        if neurons.size and not 0 <= int(neurons.min()) <= int(neurons.max()) < population.size:
            raise InputError.of(
                "NC204",
                f"'spike_neuron:{population.name}' holds neuron {int(neurons.max())}, the population has {population.size}",
                file=str(file),
                help="use a recording of this network",
            )
        start = network.offsets[population.name]
        counts[start : start + population.size] = np.bincount(neurons, minlength=population.size)
        steps = arrays.get(f"spike_step:{population.name}", np.zeros(0, np.int64))
        last = max(last, int(steps.max(initial=-1)))
    if not found:
        raise InputError.of(
            "NC107",
            "has no array 'spike_neuron:POPULATION'",
            file=str(file),
            help="use what `neurocompile simulate NET --save FILE` writes",
        )
    return counts / max(last + 1, 1)


def with_hints(problem: MappingProblem, network: Network, machine: Machine, rates: FloatArray | None = None) -> MappingProblem:
    """Return a problem with the description's wishes and with rates: those given, else the description's, else none.

    Neurons that the target has added have no wishes and the mean rate, or chip and rate of the neuron whose spikes they repeat. What must
    stay together for the target does so beside what the description wants.

    Raises
    ------
    InputError
        NC407: a wished chip is dead or does not exist.
    """
    t = machine.topology
    alive = set(t.chips.tolist())
    added = problem.n_neurons - network.n_neurons  # by the target, numbered after the network's
    chip = np.full(problem.n_neurons, -1, np.int32)
    for x, y, span in chip_of_neurons(network):
        number = y * t.width + x
        if not (x < t.width and y < t.height) or number not in alive:
            state = "is dead" if x < t.width and y < t.height else f"does not exist: it has {t.width} x {t.height}"
            raise InputError.of(
                "NC407",
                f"mapping: chip ({x}, {y}) of '{machine.name}' {state}",
                help="name another chip, or take another machine",
            )
        chip[span] = number
    if problem.repeats is not None:
        chip = np.where(problem.repeats >= 0, chip[problem.repeats], chip)
    chip[problem.external] = -1
    free = np.full(added, -1, np.int32)
    apart = tuple(
        SetResource(
            name="populations kept apart",
            limit=1,
            label=np.where(problem.external, -1, np.append(label, free)).astype(np.int32),
            confidence="wish",
        )
        for label in apart_labels(network)
    )
    rate = expected_rates(network) if rates is None else rates
    together = together_labels(network)
    wished = None if together is None else np.append(together, free).astype(np.int32)
    return replace(
        problem,
        rate=None if rate is None else _rates_of_all(problem, np.append(rate, np.full(added, rate.mean()))),
        together=_united(wished, problem.together),
        chip=chip if (chip >= 0).any() else None,
        set_resources=(*problem.set_resources, *apart),
    )


def _rates_of_all(problem: MappingProblem, rate: FloatArray) -> FloatArray:
    """Return the rates with those of the neurons whose spikes others repeat."""
    if problem.repeats is None:
        return rate
    found: FloatArray = np.where(problem.repeats >= 0, rate[problem.repeats], rate)
    return found


def _united(first: Int32Array | None, second: Int32Array | None) -> Int32Array | None:
    """Return labels by which all stay together that do so in either, (n,), -1: free."""
    if first is None or second is None:
        return first if second is None else second
    n = len(first)
    rows, columns = [], []
    for label in (first, second):
        mine = np.flatnonzero(label >= 0)
        _, at, inverse = np.unique(label[mine], return_index=True, return_inverse=True)
        rows.append(mine)
        columns.append(mine[at][inverse])
    pairs = (np.concatenate(rows), np.concatenate(columns))
    _, group = connected_components(coo_array((np.ones(len(pairs[0]), np.int8), pairs), shape=(n, n)), directed=False)
    found: Int32Array = np.where((first >= 0) | (second >= 0), group, -1).astype(np.int32)
    return found
