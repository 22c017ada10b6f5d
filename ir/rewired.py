"""Projections whose synapses move (rewiring): which they are, and their synapses from a file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurocompile.ir.errors import InputError
from neurocompile.ir.learning import EProp, Rewiring
from neurocompile.ir.network import Network, Projection
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import Connections


def rewiring_of(network: Network, projection: Projection) -> Rewiring | None:
    """Return how a projection's rule rewires, None if it does not."""
    rule = None if projection.learning is None else network.rule(projection.learning)
    return rule.rewiring if isinstance(rule, EProp) else None


def rewired_projections(network: Network) -> tuple[Projection, ...]:
    """Return the projections whose synapses move, in the network's order."""
    return tuple(p for p in network.synaptic_projections if rewiring_of(network, p) is not None)


def moved_synapses(network: Network, name: str, described: Connections, arrays: Mapping[str, AnyArray], *, file: str) -> Connections:
    """Return the synapses of a rewired projection with the ends that a file gives them (``pre:NAME``, ``post:NAME``), or as described if
    it gives none.

    Raises
    ------
    InputError
        NC107 one of both is missing, NC202 their number, NC203 they are no whole numbers, NC204 a neuron that does not exist.
    """
    projection, ends = network.projection(name), {}
    given = [end for end in ("pre", "post") if f"{end}:{name}" in arrays]
    if not given:
        return described
    for end in ("pre", "post"):
        key, size = f"{end}:{name}", network.population(getattr(projection, end)).size
        if end not in given:
            raise InputError.of("NC107", f"has '{given[0]}:{name}' but not '{key}'", file=file, help="a synapse that moves has two ends")
        values = arrays[key]
        if values.shape != described.pre.shape:
            raise InputError.of("NC202", f"'{key}' has shape {values.shape}, the projection has {len(described)} synapses", file=file)
        if not np.issubdtype(values.dtype, np.integer):
            raise InputError.of("NC203", f"'{key}' holds {values.dtype}, must hold integers", file=file)
        neurons = values.astype(np.int64)
        bad = np.flatnonzero((neurons < 0) | (neurons >= size))
        if bad.size:
            message = f"'{key}'[{bad[0]}] is {neurons[bad[0]]}, population '{getattr(projection, end)}' has {size} neurons"
            raise InputError.of("NC204", message, file=file)
        ends[end] = neurons.astype(np.int32)
    return Connections(**ends, weight=described.weight, delay=described.delay)
