"""STDP projections -> the arrays that the STDP kernels work on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurocompile.backends.reference.kernels import tables as t
from neurocompile.ir import RSTDP, STDP, Network
from neurocompile.ir._types import FloatArray, IntArray
from neurocompile.ir.realise import Connections


def stdp_rules(network: Network) -> tuple[STDP, ...]:
    """Return the STDP and reward-modulated rules that a synaptic projection uses, in the network's order."""
    used = {p.learning for p in network.synaptic_projections}
    return tuple(r for r in network.rules if isinstance(r, STDP) and r.name in used)


def lay_out_stdp(
    network: Network, connections: Mapping[str, Connections], names: list[str]
) -> tuple[t.StdpSynapses, t.StdpRules, FloatArray, dict[str, IntArray]]:
    """Return the synapses of some projections sorted by delay, then source; the rules; the weights; and where each projection's are."""
    rules = stdp_rules(network)
    number = {r.name: i for i, r in enumerate(rules)}
    empty = np.zeros(0, np.int64)
    source, target, rule, delay, weight = [empty], [empty], [empty], [empty], [np.zeros(0)]
    for name in names:
        projection, given = network.projection(name), connections[name]
        source.append(given.pre.astype(np.int64) + network.offsets[projection.pre])
        target.append(given.post.astype(np.int64) + network.offsets[projection.post])
        rule.append(np.full(len(given.pre), number[projection.learning or ""], np.int64))
        delay.append(given.delay.astype(np.int64))
        weight.append(given.weight.astype(np.float64))
    sources, targets, delays = np.concatenate(source), np.concatenate(target), np.concatenate(delay)
    order = np.lexsort((sources, delays))
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    index, taken = {}, 0
    for name in names:
        m = len(connections[name].pre)
        index[name] = position[taken : taken + m]
        taken += m
    groups = np.unique(delays)
    pointer = np.zeros((len(groups), network.n_neurons + 1), np.int64)
    for row, d in enumerate(groups):
        counts = np.bincount(sources[delays == d], minlength=network.n_neurons)
        pointer[row] = np.searchsorted(delays[order], d) + np.concatenate([[0], np.cumsum(counts)])
    incoming = np.argsort(targets[order], kind="stable")
    synapses = t.StdpSynapses(
        delay=groups,
        pointer=pointer,
        target=targets[order].astype(np.int32),
        rule=np.concatenate(rule)[order].astype(np.int32),
        in_pointer=np.concatenate([[0], np.cumsum(np.bincount(targets, minlength=network.n_neurons))]).astype(np.int64),
        in_synapse=incoming.astype(np.int64),
    )
    return synapses, _rules(network, rules), np.concatenate(weight)[order], index


def _rules(network: Network, rules: tuple[STDP, ...]) -> t.StdpRules:
    rewarded = [r if isinstance(r, RSTDP) else None for r in rules]
    starts = [0 if r is None else network.offsets[r.reward] for r in rewarded]
    sizes = [0 if r is None else network.population(r.reward).size for r in rewarded]

    def column(values: list[float]) -> FloatArray:
        return np.array(values, np.float64)

    return t.StdpRules(
        per_tau_plus=column([network.dt / r.tau_plus for r in rules]),
        per_tau_minus=column([network.dt / r.tau_minus for r in rules]),
        a_plus=column([r.a_plus for r in rules]),
        a_minus=column([r.a_minus for r in rules]),
        low=column([r.weight_bounds[0] for r in rules]),
        high=column([r.weight_bounds[1] for r in rules]),
        multiplicative=np.array([r.multiplicative for r in rules], np.uint8),
        rewarded=np.array([r is not None for r in rewarded], np.uint8),
        reward_start=np.array(starts, np.int64),
        reward_stop=np.array(starts, np.int64) + np.array(sizes, np.int64),
        reward_weight=column([0.0 if r is None else r.reward_weight for r in rewarded]),
        tau_c=column([1.0 if r is None else r.tau_c for r in rewarded]),
        tau_d=column([1.0 if r is None else r.tau_d for r in rewarded]),
    )
