"""A whole program of the target, tick by tick, in the integers of its cores (:class:`neurocompile.backends.base.Twin`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numba
import numpy as np

from neurocompile.backends.base import TwinRun
from neurocompile.backends.reference.kernels.neurons import uniform
from neurocompile.backends.spinnaker.lowered import SpinnakerNetwork
from neurocompile.backends.spinnaker.twin.cores import Cores, Packets
from neurocompile.backends.spinnaker.twin.population import StandardCores
from neurocompile.ir import Population, SpikeSource
from neurocompile.ir._types import FloatArray, IntArray
from neurocompile.ir.neurons import expand
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.signals import Signal, Spikes

Replacement = Callable[[SpinnakerNetwork, int], Cores]
"""Makes the cores of a population that is computed in another way, from the network and the population's index in ``cells``."""
_NOBODY = np.zeros(0, np.int64)
_NEVER = np.zeros(0)
_CLOCK = "clock"


@numba.njit(cache=True, nogil=True)
def _poisson(seed: int, first: int, step: int, probability: FloatArray, spiked: IntArray) -> int:
    """Write the neurons of a source that spike in a step; the reference engine's own numbers."""
    count = 0
    for i in range(len(probability)):
        if uniform(seed, first + i, step) < probability[i]:
            spiked[count] = i
            count += 1
    return count


class Twin:
    """A program that runs here.

    Parameters
    ----------
    learning
        False: plastic projections are static ones.
    replaced
        Population -> what makes its cores, for populations that are not computed as sPyNNaker's own cells.
    """

    def __init__(self, lowered: SpinnakerNetwork, *, learning: bool, replaced: Mapping[str, Replacement] | None = None) -> None:
        made = replaced or {}
        self.lowered = lowered
        self.cores: dict[str, Cores] = {}
        for index, cell in enumerate(lowered.cells):
            if cell.name in made:
                self.cores[cell.name] = made[cell.name](lowered, index)
            elif cell.cell != "source":
                self.cores[cell.name] = StandardCores(lowered, index, learning=learning)
        self._sources = [cell.name for cell in lowered.cells if cell.name not in self.cores]
        self._rates = {p.name: _probability(p, lowered.network.dt) for p in lowered.network.spike_sources}
        self._first = lowered.network.offsets
        self._readouts = {p.name: p.size for p in lowered.network.readouts}
        self._clock = np.zeros(2, np.int64)

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self._clock[0])

    def run(self, n_steps: int, *, spikes: Mapping[str, Spikes], signals: Mapping[str, Signal], learn: bool = True) -> TwinRun:
        """See :class:`neurocompile.backends.base.Twin`. Poisson sources have the reference engine's spikes: on the machine they depend on
        random numbers of the cores that sPyNNaker seeds when it loads the program.

        Raises
        ------
        KeyError
            If spikes or signals are given for a population that is not there.
        """
        for name in (*spikes, *signals):
            if name not in self.cores and name not in self._sources:
                raise KeyError(name)
        begin = self.step
        given = {name: _by_step(spikes[name], begin, n_steps) for name in spikes}
        events: dict[str, list[IntArray]] = {cell.name: [] for cell in self.lowered.cells}
        outputs = {name: np.zeros((n_steps, size)) for name, size in self._readouts.items()}
        for name, cores in self.cores.items():
            cores.begin(n_steps, signals.get(name), learn=learn)
        for row in range(n_steps):
            tick = begin + row - int(self._clock[1])
            spiked = {name: given[name][row] if name in given else self._drawn(name, begin + row) for name in self._sources}
            payload = {}
            for name, cores in self.cores.items():
                spiked[name] = cores.step(tick)
                if cores.payload is not None:
                    payload[name] = cores.payload
                if name in outputs:
                    outputs[name][row] = cores.membrane
            packets = Packets(spiked=spiked, payload=payload)
            for cores in self.cores.values():
                cores.receive(tick, packets)
            for name, neurons in spiked.items():
                events[name].append(neurons)
            self._clock[0] += 1
        spiking = {p.name for p in self.lowered.network.populations if p.model.spikes}
        return TwinRun(spikes={name: _joined(rows, begin) for name, rows in events.items() if name in spiking}, outputs=outputs)

    def _drawn(self, name: str, step: int) -> IntArray:
        """Return the spikes of a source that are not given: none, or those of its rate."""
        probability = self._rates.get(name, _NEVER)
        if not len(probability):
            return _NOBODY
        out = np.empty(len(probability), np.int64)
        return out[: _poisson(self.lowered.network.seed, self._first[name], step, probability, out)]

    def reset(self) -> None:
        """Put all cores at rest; the machine's own clock starts at 0 again, weights stay."""
        self._clock[1] = self._clock[0]
        for cores in self.cores.values():
            cores.reset()

    def weights(self) -> dict[str, FloatArray]:
        """Projection -> weights as held, in the description's units and order."""
        held = {name: values for cores in self.cores.values() for name, values in cores.weights().items()}
        return {p.name: held[p.name] for p in self.lowered.network.synaptic_projections}

    def set_weights(self, weights: Mapping[str, FloatArray]) -> None:
        """Set the weights of projections that learn."""
        for cores in self.cores.values():
            cores.set_weights(weights)

    def _changing(self) -> dict[str, AnyArray]:
        parts = {f"{name}:{kind}": values for name, cores in self.cores.items() for kind, values in cores.changing().items()}
        return {_CLOCK: self._clock, **parts}

    def state(self) -> dict[str, AnyArray]:
        """Return a copy of all that changes, by name."""
        return {name: values.copy() for name, values in self._changing().items()}

    def restore(self, state: Mapping[str, AnyArray]) -> None:
        """Go on bit-identically from a state.

        Raises
        ------
        ValueError
            If it is of another program, or no state that a program can be in.
        """
        own = self._changing()
        if {k: (v.shape, v.dtype) for k, v in own.items()} != {k: (v.shape, v.dtype) for k, v in state.items()}:
            raise ValueError("the state belongs to another program")
        step, start = (int(n) for n in state[_CLOCK])
        if not 0 <= start <= step:
            raise ValueError(f"{step} steps are done, the last reset was after {start}")
        for name, cores in self.cores.items():
            cores.check({kind: state[f"{name}:{kind}"] for kind in cores.changing()})
        for name, values in own.items():
            values[...] = state[name]


def _probability(source: Population, dt: float) -> FloatArray:
    """Return how likely each neuron of a source spikes in a step; nothing where none has a rate."""
    assert isinstance(source.model, SpikeSource)
    rate = expand(source.model.rate, source.size)
    return np.minimum(rate * dt, 1.0) if rate.any() else _NEVER


def _by_step(spikes: Spikes, begin: int, n_steps: int) -> list[IntArray]:
    """Return the neurons that spike in each of the next steps, each once, ascending."""
    first, last = np.searchsorted(spikes.step, (begin, begin + n_steps))
    step, neuron = spikes.step[first:last] - begin, spikes.neuron[first:last].astype(np.int64)
    once = np.ones(len(step), np.bool_)
    once[1:] = (np.diff(step) != 0) | (np.diff(neuron) != 0)
    return np.split(neuron[once], np.searchsorted(step[once], np.arange(1, n_steps)))


def _joined(rows: list[IntArray], begin: int) -> Spikes:
    step = np.repeat(np.arange(begin, begin + len(rows)), [len(neurons) for neurons in rows])
    return Spikes(neuron=np.concatenate([*rows, _NOBODY]).astype(np.int32), step=step.astype(np.int64))


__all__ = ["Replacement", "Twin"]
