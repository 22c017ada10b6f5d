"""Spikes that are held back: who sends under which keys, and the sources that repeat others' spikes later (docs/spinnaker-eprop.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.backends.spinnaker.eprop.formats import Ints
from neurocompile.backends.spinnaker.eprop.plan import EpropPlan
from neurocompile.ir import Network
from neurocompile.ir._types import Int32Array
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import Connections


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Copies:
    """A population whose neurons repeat the spikes of another's: one for each neuron and delay above a step that it has plastic synapses
    of. Of a spike source it is one, because sPyNNaker's sources hold nothing back; of neurons it stands for their keys in the mapping.

    name; of : the other's name; neuron, wait (n,) : of the other, and steps later; sorted by neuron, then wait.
    """

    name: str
    of: str
    neuron: Ints
    wait: Ints

    def numbers(self, neuron: npt.NDArray[Any], wait: int) -> Ints:
        """Return the copies of some neurons, (m,), that wait so long; they must be there."""
        width = int(self.wait.max(initial=0)) + 1
        found: Ints = np.searchsorted(self.neuron * width + self.wait, np.asarray(neuron, np.int64) * width + wait).astype(np.int64)
        return found


def delays_sent(plan: EpropPlan, name: str) -> tuple[int, ...]:
    """Return the delays under whose keys a population's spikes are sent, ascending: those of its plastic synapses; 1 for static ones too,
    which wait in the ring buffers of their targets."""
    from_it = [p for p in plan.projections if p.pre == name]
    return tuple(sorted({int(d) if p.learns else 1 for p in from_it for d in np.unique(p.rows.delay)}))


def longest_wait(plan: EpropPlan, name: str) -> int:
    """Return for how many ticks the cores of a population keep its spikes."""
    return max(delays_sent(plan, name), default=1) - 1


def ring_slots(plan: EpropPlan, name: str) -> int:
    """Return the slots that the ring buffers of a population have: a power of two above its longest static delay (``patch_plastic_delays``
    of the program); what plastic synapses bring arrives in the next tick."""
    longest = max((int(p.rows.delay.max(initial=1)) for p in plan.projections if p.post == name and not p.learns), default=1)
    return 1 << longest.bit_length()


def source_copies(network: Network, plan: EpropPlan, connections: Mapping[str, Connections]) -> tuple[Copies, ...]:
    """Return the sources to add, in the order of those whose spikes they repeat."""
    learning = [(p.pre, connections[p.name]) for p in plan.projections if p.learns]
    names = [p.name for p in network.populations]
    return late_senders([p.name for p in network.spike_sources], learning, names)


def late_senders(those: Iterable[str], learning: Iterable[tuple[str, Connections]], taken: Iterable[str]) -> tuple[Copies, ...]:
    """Return a sender for each neuron of some populations and each delay above a step that it has plastic synapses of, a population each.

    learning : source and synapses of each projection that learns; taken : names that are given away.
    """
    found, given, used = [], list(learning), set(taken)
    for of in those:
        codes = np.unique(np.concatenate([np.zeros(0, np.int64), *(_late_codes(s) for pre, s in given if pre == of)]))
        if len(codes):
            name = f"{of}, held back"
            while name in used:
                name += "_"
            used.add(name)
            found.append(Copies(name=name, of=of, neuron=codes // _CODES, wait=codes % _CODES))
    return tuple(found)


_CODES = 256
"""Above every delay in steps; a pair of neuron and wait is neuron * _CODES + wait"""


def _late_codes(synapses: Connections) -> Ints:
    late = np.flatnonzero(synapses.delay > 1)
    codes: Ints = np.unique(synapses.pre[late].astype(np.int64) * _CODES + (synapses.delay[late].astype(np.int64) - 1))
    return codes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Synapses of a projection that the packets of one key reach. delay : steps, of which delay - 1 are held back; by : the population that
    sends; synapses (m,) : of the projection; pre (m,) : the senders' numbers."""

    delay: int
    by: str
    synapses: Ints
    pre: Int32Array


def groups(pre: str, synapses: Connections, copies: Iterable[Copies], *, learns: bool) -> list[Group]:
    """Return the groups of a projection from a population, by delay; one with delay 1 where it does not learn."""
    if not learns:
        return [Group(delay=1, by=pre, synapses=np.arange(len(synapses.pre)), pre=synapses.pre)]
    own = next((c for c in copies if c.of == pre), None)
    found = []
    for d in np.unique(synapses.delay).tolist():
        mine = np.flatnonzero(synapses.delay == d)
        senders = synapses.pre[mine]
        if d > 1 and own is not None:
            senders = own.numbers(senders, d - 1).astype(np.int32)
        found.append(Group(delay=d, by=own.name if d > 1 and own is not None else pre, synapses=mine, pre=senders))
    return found


def copies_of(document: Mapping[str, Any], arrays: Mapping[str, AnyArray]) -> tuple[Copies, ...]:
    """Return the copies of a program, from network.json and network.npz."""
    given = [(p["name"], p["copies"]) for p in document["populations"] if "copies" in p]
    made = []
    for name, row in given:
        neuron, wait = (np.asarray(arrays[row[key]["array"]], np.int64) for key in ("neuron", "wait"))
        made.append(Copies(name=name, of=row["of"], neuron=neuron, wait=wait))
    return tuple(made)


__all__ = ["Copies", "Group", "copies_of", "delays_sent", "groups", "late_senders", "longest_wait", "ring_slots", "source_copies"]
