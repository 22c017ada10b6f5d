"""What a user tells the mapper: expected rates, neurons that stay together or apart, neurons with a chip of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurocompile.ir._types import FloatArray, Int32Array
from neurocompile.ir.errors import Diagnostic, InputError, did_you_mean
from neurocompile.ir.neurons import SpikeSource

if TYPE_CHECKING:
    from neurocompile.ir.network import Network, Population


@dataclass(frozen=True, slots=True, kw_only=True)
class Neurons:
    """Neurons ``first`` .. ``first + size - 1`` of a population; ``size`` None: to its end."""

    population: str
    first: int = 0
    size: int | None = None

    def __post_init__(self) -> None:
        if self.first < 0:
            raise InputError.of("NC201", f"first is {self.first}, must be >= 0", field=("first",))
        if self.size is not None and self.size < 1:
            raise InputError.of("NC201", f"size is {self.size}, must be >= 1", field=("size",))


@dataclass(frozen=True, slots=True, kw_only=True)
class OnChip:
    """Neurons and the chip (x, y) on which they must lie."""

    neurons: Neurons
    x: int
    y: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingHints:
    """Section ``mapping`` of a description.

    Attributes
    ----------
    rates : tuple of (population, Hz)
        Expected firing rates, by which traffic is weighted; populations that are not named have the mean of those that are.
    together : tuple of groups
        Neurons of one group share a core.
    apart : tuple of groups
        No core holds neurons of two members of a group.
    chips : tuple of OnChip
    """

    rates: tuple[tuple[str, float], ...] = ()
    together: tuple[tuple[Neurons, ...], ...] = ()
    apart: tuple[tuple[Neurons, ...], ...] = ()
    chips: tuple[OnChip, ...] = ()

    def __post_init__(self) -> None:
        for name, rate in self.rates:
            if not (np.isfinite(rate) and rate >= 0):
                raise InputError.of("NC201", f"mapping: the rate of '{name}' is {rate:g} Hz, must be >= 0", field=("rates",))


def _span(network: Network, neurons: Neurons) -> slice:
    """Return the neurons as numbered through (``Network.offsets``)."""
    start = network.offsets[neurons.population] + neurons.first
    size = network.population(neurons.population).size - neurons.first if neurons.size is None else neurons.size
    return slice(start, start + size)


def expected_rates(network: Network) -> FloatArray | None:
    """Return the expected spikes of each neuron per step, float64 (n_neurons,); None where the description names no rate.

    Spike sources with a ``rate`` have it unless ``mapping: rates`` names them.
    """
    hints = network.mapping
    if hints is None or not hints.rates:
        return None
    named = dict(hints.rates)
    mean = float(np.mean([rate for _, rate in hints.rates]))
    found = np.full(network.n_neurons, mean)
    for population in network.populations:
        mine = slice(network.offsets[population.name], network.offsets[population.name] + population.size)
        if population.name in named:
            found[mine] = named[population.name]
        elif isinstance(population.model, SpikeSource) and np.any(np.asarray(population.model.rate) > 0):
            found[mine] = population.model.rate
    return found * network.dt


def together_labels(network: Network) -> Int32Array | None:
    """Return the group of each neuron that shares a core with others, int32 (n_neurons,), -1: none; groups with a common neuron are one."""
    if network.mapping is None or not network.mapping.together:
        return None
    label = np.full(network.n_neurons, -1, np.int32)
    for number, group in enumerate(network.mapping.together):
        spans = [_span(network, neurons) for neurons in group]
        for old in {int(x) for span in spans for x in np.unique(label[span])} - {-1}:
            label[label == old] = number
        for span in spans:
            label[span] = number
    return label


def apart_labels(network: Network) -> tuple[Int32Array, ...]:
    """Return for each ``apart`` group the member of each neuron, int32 (n_neurons,), -1: none."""
    found = []
    for group in network.mapping.apart if network.mapping is not None else ():
        label = np.full(network.n_neurons, -1, np.int32)
        for member, neurons in enumerate(group):
            label[_span(network, neurons)] = member
        found.append(label)
    return tuple(found)


def chip_of_neurons(network: Network) -> tuple[tuple[int, int, slice], ...]:
    """Return (x, y, neurons numbered through) of the neurons that have a chip of their own."""
    hints = network.mapping
    return () if hints is None else tuple((c.x, c.y, _span(network, c.neurons)) for c in hints.chips)


def verify_hints(network: Network, populations: Mapping[str, Population]) -> Iterator[Diagnostic]:
    """Yield what is wrong with the section ``mapping``: unknown populations, neurons that do not exist, contradictions."""
    hints = network.mapping
    if hints is None:
        return
    unknown = False
    spans = [("together", n) for g in hints.together for n in g] + [("apart", n) for g in hints.apart for n in g]
    spans += [("chips", c.neurons) for c in hints.chips]
    for key, name in [("rates", name) for name, _ in hints.rates] + [(key, n.population) for key, n in spans]:
        if name not in populations:
            unknown = True
            yield Diagnostic(
                code="NC207",
                message=f"mapping: population '{name}' does not exist",
                help=did_you_mean(name, populations),
                field=("mapping", key),
            )
    if unknown:
        return
    outside = False
    for key, neurons in spans:
        size = populations[neurons.population].size
        if neurons.first + (neurons.size or 1) > size:
            outside = True
            yield Diagnostic(
                code="NC204",
                message=f"mapping: neurons {neurons.first} .. {neurons.first + (neurons.size or 1) - 1} of '{neurons.population}', "
                f"which has {size}",
                help=f"neurons count from 0 to {size - 1}",
                field=("mapping", key),
            )
    if not outside:
        yield from _contradictions(network)


def _contradictions(network: Network) -> Iterator[Diagnostic]:
    label = together_labels(network)
    chip = np.full(network.n_neurons, -1, np.int64)
    for x, y, span in chip_of_neurons(network):
        number = x << 32 | y
        if ((chip[span] >= 0) & (chip[span] != number)).any():
            yield Diagnostic(
                code="NC210", message=f"mapping: neurons are to lie on chip ({x}, {y}) and on another one", field=("mapping", "chips")
            )
        chip[span] = number
    labels = [("apart", member) for member in apart_labels(network)] + [("chips", chip)]
    for group in np.unique(label[label >= 0]).tolist() if label is not None else []:
        for key, member in labels:
            different = np.unique(member[(label == group) & (member >= 0)])
            if len(different) > 1:
                what = "be kept apart" if key == "apart" else "lie on different chips"
                yield Diagnostic(
                    code="NC210",
                    message=f"mapping: neurons of group {group} under 'together' are to {what}",
                    help="remove one of the two wishes",
                    field=("mapping", key),
                )
    for number, group in enumerate(network.mapping.apart if network.mapping is not None else ()):
        total = np.zeros(network.n_neurons, np.int64)
        for neurons in group:
            total[_span(network, neurons)] += 1
        if (total > 1).any():
            yield Diagnostic(
                code="NC210",
                message=f"mapping: a neuron is in two members of group {number} under 'apart'",
                help="a neuron cannot be kept apart from itself",
                field=("mapping", "apart"),
            )
