"""Which place each neuron has in sPyNNaker's own numbering, so that its equal slices are our parts, and the cores they lie on.

sPyNNaker cuts a population into slices of one size, only the last may be shorter; a core of a target tells the sender's neuron by
(number of its slice) x (size of a slice) + (neuron of the slice), so that slices of other sizes would be read wrongly. Our parts differ in
size. Each therefore gets a slice as long as the longest part; the places that are left have neurons without synapses that never fire.
The shortest part comes last and is not filled up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as MappingABC
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurocompile.backends.spinnaker.lowered import SpinnakerNetwork
from neurocompile.ir import Network
from neurocompile.ir.realise import Connections
from neurocompile.machine import Machine
from neurocompile.mapping.types import Mapping

SYNAPSE_TYPE_BITS = 1
"""Bits that tell excitatory from inhibitory input in a ring buffer's index."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """A population as sPyNNaker numbers it.

    per_core : neurons of a slice; n_slots : neurons of the PyNN population, those that only fill up a slice included;
    slot : int64 (n,), place of each neuron of the description; cores : for each slice (x, y, its cores on that chip), None without a
    mapping; delayed : its spikes pass delay cores, one a slice.
    """

    per_core: int
    n_slots: int
    slot: npt.NDArray[np.int64]
    cores: tuple[tuple[int, int, tuple[int, ...]], ...] | None
    delayed: bool = False

    @property
    def n_slices(self) -> int:
        """Number of slices."""
        return -(-self.n_slots // self.per_core)

    @property
    def moved(self) -> bool:
        """Whether any neuron has another number than in the description."""
        return self.n_slots != len(self.slot) or bool(np.any(self.slot != np.arange(len(self.slot))))


def layouts(lowered: SpinnakerNetwork, mapping: Mapping | None) -> list[Layout]:
    """Return the layout of every population, in order: after the mapping, else one that the limits of a core allow."""
    assert lowered.problem is not None
    population = lowered.problem.population
    if mapping is None:
        shares = np.max([r.per_neuron / r.limit for r in lowered.problem.resources], axis=0)
        most = [float(shares[population == i].max()) for i in range(len(lowered.cells))]
        sizes = [min(max(int(1.0 / share + 1e-9), 1), cell.size) for share, cell in zip(most, lowered.cells, strict=True)]
        found = [Layout(per_core=k, n_slots=c.size, slot=np.arange(c.size), cores=None) for k, c in zip(sizes, lowered.cells, strict=True)]
    else:
        found = [_follow(mapping, population == i, lowered.machine) for i in range(len(lowered.cells))]
    neurons = {c.name: f.per_core for c, f in zip(lowered.cells, found, strict=True)}
    held = {p.name for p in lowered.eprop.projections if p.learns} if lowered.eprop is not None else set()
    needed = delay_cores(lowered.network, lowered.connections, neurons, lowered.machine.value("core.ring_buffer_bits"), held)
    return [
        Layout(per_core=f.per_core, n_slots=f.n_slots, slot=f.slot, cores=f.cores, delayed=c.name in needed)
        for c, f in zip(lowered.cells, found, strict=True)
    ]


def _follow(mapping: Mapping, mine: npt.NDArray[np.bool_], machine: Machine) -> Layout:
    part = mapping.partition.part[mine]
    numbers, size = np.unique(part, return_counts=True)
    order = np.lexsort((numbers, -size))  # the longest first, ties in the mapper's order
    numbers, size = numbers[order], size[order]
    per_core = int(size[0])
    slot = np.empty(len(part), np.int64)
    for row, number in enumerate(numbers.tolist()):
        slot[part == number] = row * per_core + np.arange(size[row])
    cores = []
    for number in numbers.tolist():
        chip = int(mapping.placement.chip[number])
        usable = machine.topology.usable_cores(chip)
        first = usable.index(int(mapping.placement.core[number]))
        cores.append((*machine.topology.position(chip), usable[first : first + int(mapping.placement.width[number])]))
    return Layout(per_core=per_core, n_slots=(len(numbers) - 1) * per_core + int(size[-1]), slot=slot, cores=tuple(cores))


def delay_slots(neurons: int, ring_buffer_bits: float) -> int:
    """Return the steps of delay that a core's ring buffers hold for some neurons (``PopulationVertex.max_delay_steps``)."""
    atoms = max(1, math.ceil(math.log2(max(neurons, 1))))
    return int(2.0 ** (ring_buffer_bits - SYNAPSE_TYPE_BITS - atoms))


def delay_cores(
    network: Network,
    connections: MappingABC[str, Connections],
    neurons: MappingABC[str, int],
    ring_buffer_bits: float,
    held_back: AbstractSet[str] = frozenset(),
) -> set[str]:
    """Return the populations whose spikes need delay cores: a delay is longer than the ring buffers of its target hold.

    ``neurons``: neurons a core of each population; ``held_back``: projections whose spikes wait at their source.
    """
    return {
        p.pre
        for p in network.synaptic_projections
        if p.name not in held_back and int(connections[p.name].delay.max(initial=1)) > delay_slots(neurons[p.post], ring_buffer_bits)
    }
