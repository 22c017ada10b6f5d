"""Rewiring under a fixed number of synapses (DEEP R; docs/eprop.md, "Rewiring"): which synapses move where, and the engines' tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neurocompile.backends.reference.kernels import tables as t
from neurocompile.backends.reference.kernels.rewiring import SLOT_BITS, draw_pairs
from neurocompile.ir import EProp, Explicit, Network, OneToOne, PerInterval, Projection
from neurocompile.ir._types import Int32Array, IntArray
from neurocompile.ir.counter_rng import stream_key
from neurocompile.ir.value_draws import Weights


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moves:
    """Synapses of a projection that move: their canonical numbers, rising, and the pairs that they join."""

    slots: IntArray
    pre: Int32Array
    post: Int32Array


def allows_autapses(projection: Projection) -> bool:
    """Return whether synapses may join a neuron to itself: as the connect rule says; lists, if one of their synapses does."""
    if projection.pre != projection.post or isinstance(projection.connect, OneToOne):
        return True
    if isinstance(projection.connect, Explicit):
        return bool((projection.connect.pre == projection.connect.post).any())
    return projection.connect.allow_autapses


def make_walk(network: Network, rules: list[str], index_of: Mapping[str, IntArray], n_synapses: int) -> t.Walk:
    """Return the tables of rewiring at the start.

    Parameters
    ----------
    rules
        E-prop rules in their order.
    index_of
        Rewired projection, in their order -> place in the e-prop table of each of its synapses.
    n_synapses
        Of the e-prop table.
    """
    rewiring = [rule.rewiring if isinstance(rule := network.rule(name), EProp) else None for name in rules]
    m = n_synapses if index_of else 0
    tag = np.zeros(m, np.int64)
    for number, index in enumerate(index_of.values(), start=1):
        tag[index] = number << SLOT_BITS | np.arange(len(index))
    keys = [np.zeros(2, np.uint64), *(stream_key(network.seed, "rewiring noise", name) for name in index_of)]
    return t.Walk(
        on=np.array([r is not None for r in rewiring], np.uint8),
        l1=np.array([0.0 if r is None else r.l1 for r in rewiring]),
        noise=np.array([0.0 if r is None else r.noise for r in rewiring]),
        key=np.array(keys, np.uint64).reshape(len(keys), 2),
        tag=tag,
        since=np.full(m, -1, np.int32),
    )


def table_places(walk: t.Walk, number: int, n_synapses: int) -> IntArray:
    """Return the place in the table of each synapse of the rewired projection ``number`` (from 1)."""
    found = np.flatnonzero(walk.tag >> SLOT_BITS == number)
    result = np.empty(n_synapses, np.int64)
    result[walk.tag[found] & (1 << SLOT_BITS) - 1] = found
    return result


def draw(network: Network, projection: Projection, number: int, weight: Weights, pre: Int32Array, post: Int32Array) -> tuple[Moves, int]:
    """Return where the synapses of weight 0 of a projection go in the rewiring ``number`` (1, 2, ...), and how many have no free pair."""
    slots = np.flatnonzero(weight == 0.0)
    new_pre, new_post = pre.copy(), post.copy()
    n_pre, n_post = network.population(projection.pre).size, network.population(projection.post).size
    key = stream_key(network.seed, "rewiring", projection.name)
    moved = draw_pairs(key[0], key[1], number, slots, new_pre, new_post, n_pre, n_post, allows_autapses(projection)) != 0
    gone = slots[moved]
    return Moves(slots=gone, pre=new_pre[gone], post=new_post[gone]), int(len(slots) - len(gone))


def optimizer_steps(network: Network, projection: Projection, now: int) -> int:
    """Return the optimizer's step counter of a synapse that moves in learning step ``now``: as if it had had an event then."""
    rule = network.rule(projection.learning or "")
    assert isinstance(rule, EProp)
    batch = rule.update.steps if isinstance(rule.update, PerInterval) else 1
    return 1 + max(now - 1, 0) // batch
