"""The mapper's numbers of a network on e-prop cores: its neurons, sources that repeat spikes, and who sends spikes later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurocompile.backends.spinnaker.eprop.late import Copies, late_senders
from neurocompile.backends.spinnaker.eprop.load import Heard, heard_synapses
from neurocompile.backends.spinnaker.eprop.plan import EpropPlan
from neurocompile.ir import Network
from neurocompile.ir.realise import Connections


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Numbered:
    """The mapper's neurons. sizes, offset : of populations by name; repeating : populations that repeat the spikes of others; per neuron:
    population; label : the population whose core it is on; source : of spikes; sends_only : stands for keys; repeats : whose spikes, or -1;
    together : what shares a part, -1: free."""

    sizes: dict[str, int]
    offset: dict[str, int]
    repeating: tuple[Copies, ...]
    population: npt.NDArray[np.int32]
    label: npt.NDArray[np.int32]
    source: npt.NDArray[np.bool_]
    sends_only: npt.NDArray[np.bool_]
    repeats: npt.NDArray[np.int32]
    together: npt.NDArray[np.int32]


def number(network: Network, connections: Mapping[str, Connections], plan: EpropPlan, copies: Sequence[Copies]) -> Numbered:
    """Return the mapper's numbering: the network's populations, sources that repeat spikes, and senders of spikes that are held back."""
    names = [p.name for p in network.populations] + [c.name for c in copies]
    senders = late_senders(plan.populations, [(p.pre, connections[p.name]) for p in plan.projections if p.learns], names)
    repeating = (*copies, *senders)
    sizes = {p.name: p.size for p in network.populations} | {c.name: len(c.neuron) for c in repeating}
    every, host = list(sizes), {c.name: c.of for c in senders}
    offset = dict(zip(every, np.cumsum([0, *list(sizes.values())[:-1]]).tolist(), strict=True))
    population = np.repeat(np.arange(len(every), dtype=np.int32), list(sizes.values()))
    sends_only = np.array([name in host for name in every])[population]
    repeats = np.full(len(population), -1, np.int32)
    for c in repeating:
        repeats[offset[c.name] : offset[c.name] + len(c.neuron)] = offset[c.of] + c.neuron
    together = np.where(sends_only, repeats, -1).astype(np.int32)
    together[repeats[sends_only]] = repeats[sends_only]
    for name in (k for k, own in plan.populations.items() if own.neurons.readout):
        # targets lie in a core's memory as rows of all readouts, a softmax needs all membranes, and listeners one range of keys
        together[offset[name] : offset[name] + sizes[name]] = offset[name]
    return Numbered(
        sizes=sizes,
        offset=offset,
        repeating=repeating,
        population=population,
        label=np.array([every.index(host.get(name, name)) for name in every], np.int32)[population],
        source=np.array([name not in plan.populations for name in every])[population] & ~sends_only,
        sends_only=sends_only,
        repeats=repeats,
        together=together,
    )


def senders(
    network: Network, connections: Mapping[str, Connections], plan: EpropPlan, copies: Sequence[Copies]
) -> tuple[list[Heard], dict[str, npt.NDArray[np.int64]]]:
    """Return all synapses by who sends their packets, and the numbers of each population of neurons, as the mapper has them."""
    all_of = number(network, connections, plan, copies)
    first = {name: all_of.offset[name] + np.arange(all_of.sizes[name]) for name in plan.populations}
    return heard_synapses(plan, connections, all_of.repeating, all_of.offset), first


__all__ = ["Numbered", "number", "senders"]
