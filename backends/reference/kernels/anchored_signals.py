"""Learning signals of the anchored form: from readouts over matrices and synapses, and along chains of layers."""

from __future__ import annotations

from numba import njit

from neurocompile.backends.reference.kernels.anchored_tables import READOUT, AnchoredConstants, AnchoredState, Synapses, W
from neurocompile.backends.reference.kernels.tables import F8, Paths

_BLOCK = 2048
"""Sites at a time, whose signals stay in the first cache while one readout after the other is added."""


@njit(cache=True, nogil=True)
def signals(
    constants: AnchoredConstants,
    static_weight: F8,
    synapse: Synapses,
    error: F8,
    group: int,
    first: int,
    last: int,
    heard: bool,
    now: int,
    relay: F8,
    signal: F8,
) -> None:
    """Write the learning signals of the sites first .. last-1 of a group, as far as they come from the readout."""
    signal[first:last] = 0.0
    if not heard:
        return
    feedback, symmetric = constants.feedback, constants.symmetric
    matrix, row = feedback.matrix, constants.matrix_row[group]
    if row >= 0:
        row -= constants.groups.site[group, 0]
        for begin in range(first, last, _BLOCK):
            mine = signal[begin : min(begin + _BLOCK, last)]
            for k in range(feedback.neuron.size):
                err = error[feedback.neuron[k]]
                if err != 0.0:
                    weights = matrix[k, row + begin : row + begin + mine.size]
                    for i in range(mine.size):
                        mine[i] += weights[i] * err
    pointer, readouts, tables, index = symmetric.pointer, symmetric.readout, symmetric.table, symmetric.weight_index
    if readouts.size:
        for j in range(first, last):
            for item in range(pointer[j], pointer[j + 1]):
                weight = static_weight[index[item]] if tables[item] == 0 else float(synapse[index[item], W])
                signal[j] += weight * error[feedback.neuron[readouts[item]]]
    if constants.paths.n_levels and constants.paths.level[group] == 0:
        _follow(constants.paths, first, last, static_weight, synapse, error, now, relay, signal)


@njit(cache=True, nogil=True)
def _follow(paths: Paths, first: int, last: int, static_weight: F8, synapse: Synapses, error: F8, now: int, relay: F8, signal: F8) -> None:
    """Add what comes along paths to the learning signals of the sites first .. last-1."""
    pointer, targets, tables, index = paths.pointer, paths.target, paths.table, paths.weight_index
    offsets, kinds, powers = paths.offset, paths.decay, paths.decays**now
    for j in range(first, last):
        total = 0.0
        for item in range(pointer[j], pointer[j + 1]):
            table, k = tables[item], targets[item]
            if table == 0:
                weight = static_weight[index[item]]
            elif table == 1:
                weight = float(synapse[index[item], W])
            else:
                weight = 0.0
            if offsets.size:
                weight += offsets[item] * powers[kinds[item]]
            total += weight * (relay[1, k] if k >= 0 else error[~k])
        signal[j] += total


@njit(cache=True, nogil=True)
def chain(constants: AnchoredConstants, state: AnchoredState, static_weight: F8, error: F8, now: int, part: int, level: int) -> None:
    """Complete the learning signals of one level of one range, all lower levels of all ranges being complete, and what they pass on."""
    paths, groups, signal, relay = constants.paths, constants.groups, state.signal[now & 1], state.relay
    for group in range(groups.kind.size):
        first, last = groups.site[group, part], groups.site[group, part + 1]
        if groups.kind[group] == READOUT or max(paths.level[group], 0) != level:
            continue
        if level == 0:
            signals(constants, static_weight, state.synapse, error, group, first, last, True, now, relay, signal)
        else:
            signal[first:last] = 0.0
            _follow(paths, first, last, static_weight, state.synapse, error, now, relay, signal)
        if paths.relays[group]:
            for j in range(first, last):
                relay[1, j] = relay[0, j] * signal[j]
