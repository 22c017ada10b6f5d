"""One spike on a row of synapses, or a flush of it: by kind of target (see ``anchored``)."""

from __future__ import annotations

from numba import njit

from neurocompile.backends.reference.kernels.anchored_tables import (
    ALIF,
    EBAR,
    GRADIENT,
    INPUT,
    JUMP,
    READOUT,
    AnchoredConstants,
    AnchoredState,
    C,
    E,
    Synapses,
    W,
)
from neurocompile.backends.reference.kernels.intrinsics import prefetch
from neurocompile.backends.reference.kernels.rewiring import steps_optimizer, walked
from neurocompile.backends.reference.kernels.tables import F8, I4

AHEAD = 16
"""Synapses ahead whose targets' rows are asked for: a third off the cost of an event at a million neurons. The table has so many more."""


@njit(cache=True, nogil=True)
def _clipped(weight: float, target: int, keep: bool, low: float, high: float) -> float:
    """Return a weight within its bounds, with ``keep`` on its side of 0: a negative ``target`` (~site) is that of a negative one."""
    if keep:
        if target < 0:
            high = min(high, 0.0)
        else:
            low = max(low, 0.0)
    return min(max(weight, low), high)


@njit(cache=True, nogil=True)
def row_readout(
    begin: int,
    end: int,
    target: I4,
    synapse: Synapses,
    rows: F8,
    before: F8,
    late: bool,
    z_before: float,
    z: float,
    rise: float,
    rate: float,
    shrink: float,
    low: float,
    high: float,
    keep: bool,
) -> None:
    """Spike on readout synapses that share z~."""
    z_new = z + rise
    for s in range(begin, end):
        k = target[s]
        j = k ^ (k >> 31)
        e, gradient = rows[j, E], float(synapse[s, GRADIENT])
        if late:
            gradient += z_before * before[j, E]
        w = _clipped(synapse[s, W] * shrink - rate * (gradient + z * e), k, keep, low, high)
        synapse[s, GRADIENT] = rows[j, JUMP] - z_new * e
        synapse[s, W] = w
        rows[j, INPUT] += synapse[s, W]


@njit(cache=True, nogil=True)
def row_plain(
    begin: int,
    end: int,
    target: I4,
    synapse: Synapses,
    rows: F8,
    z: float,
    rise: float,
    rate: float,
    shrink: float,
    low: float,
    high: float,
    keep: bool,
) -> None:
    """Spike on synapses to neurons without adaptation that share z~, kappa_reg = kappa."""
    z_new, flat = z + rise, rows.reshape(-1)
    width = rows.shape[1]
    for s in range(begin, end):
        ahead = target[s + AHEAD]
        prefetch(flat, (ahead ^ (ahead >> 31)) * width)
        k = target[s]
        j = k ^ (k >> 31)
        c, e, ebar = rows[j, C], rows[j, E], synapse[s, EBAR]
        w = _clipped(synapse[s, W] * shrink - rate * (synapse[s, GRADIENT] + ebar * c + z * e), k, keep, low, high)
        ebar += rows[j, JUMP]
        synapse[s, EBAR] = ebar
        synapse[s, GRADIENT] = -(ebar * c + z_new * e)
        synapse[s, W] = w
        rows[j, INPUT] += synapse[s, W]


@njit(cache=True, nogil=True)
def row_plain_late(
    begin: int,
    end: int,
    target: I4,
    synapse: Synapses,
    rows: F8,
    before: F8,
    z_before: float,
    decay: float,
    z: float,
    rise: float,
    rate: float,
    shrink: float,
    low: float,
    high: float,
    keep: bool,
) -> None:
    """The same on synapses that are still anchored where the window before began: they are moved on the way. decay: kappa over it."""
    z_new = z + rise
    for s in range(begin, end):
        k = target[s]
        j = k ^ (k >> 31)
        c, e, ebar = rows[j, C], rows[j, E], float(synapse[s, EBAR])
        gradient = synapse[s, GRADIENT] + ebar * before[j, C] + z_before * before[j, E]
        ebar = ebar * decay + z_before * before[j, JUMP]
        w = _clipped(synapse[s, W] * shrink - rate * (gradient + ebar * c + z * e), k, keep, low, high)
        ebar += rows[j, JUMP]
        synapse[s, EBAR] = ebar
        synapse[s, GRADIENT] = -(ebar * c + z_new * e)
        synapse[s, W] = w
        rows[j, INPUT] += synapse[s, W]


@njit(cache=True, nogil=True)
def row_double(
    begin: int,
    end: int,
    target: I4,
    synapse: Synapses,
    rows: F8,
    z: float,
    rise: float,
    rate: float,
    shrink: float,
    low: float,
    high: float,
    keep: bool,
    ir: int,
    id_: int,
    iy: int,
) -> None:
    """The same with a filter of its own for the regularisation."""
    z_new = z + rise
    for s in range(begin, end):
        k = target[s]
        j = k ^ (k >> 31)
        c, e, d, ebar, reg = rows[j, C], rows[j, E], rows[j, id_], synapse[s, EBAR], synapse[s, ir]
        w = _clipped(synapse[s, W] * shrink - rate * (synapse[s, GRADIENT] + ebar * c + reg * d + z * e), k, keep, low, high)
        ebar += rows[j, JUMP]
        reg += rows[j, iy]
        synapse[s, EBAR] = ebar
        synapse[s, ir] = reg
        synapse[s, GRADIENT] = -(ebar * c + reg * d + z_new * e)
        synapse[s, W] = w
        rows[j, INPUT] += synapse[s, W]


@njit(cache=True, nogil=True)
def row_general(
    constants: AnchoredConstants,
    state: AnchoredState,
    group: int,
    begin: int,
    end: int,
    z: float,
    rise: float,
    shrink: float,
    arrive: bool,
    apply: bool,
    now: int,
) -> None:
    """Spike (``arrive``) or flush on synapses of any kind. ``apply``: the update interval has ended, the optimizer steps (with rewiring,
    that is each synapse's own affair). shrink: what is left of the weights since their last event."""
    rules, columns, target, rows, synapse = constants.rules, constants.columns, constants.target, state.row, state.synapse
    rule, kind = constants.groups.rule[group], constants.groups.kind[group]
    shared = constants.groups.shared[group] != 0
    low, high, keep, batch = rules.low[rule], rules.high[rule], rules.keep_sign[rule] != 0, rules.batch[rule]
    rate = rules.learning_rate[rule]
    ir, iq, iz, ic = columns.ebar_reg, columns.epsilon, columns.zbar, columns.collected
    hidden, adaptive = kind != READOUT, kind == ALIF
    rewarded, i_filtered, reached = constants.groups.discount[group] >= 0.0, columns.filtered, state.reach[group]
    walk = constants.walk
    rewired, l1, noise = walk.on[rule] != 0, walk.l1[rule], walk.noise[rule]
    since, tags, keys = walk.since, walk.tag, walk.key
    for s in range(begin, end):
        k = target[s]
        j = k ^ (k >> 31)
        if rewired:
            apply = steps_optimizer(since[s], now, batch)
        if not shared:
            z, rise = float(synapse[s, iz]), rows[j, columns.rise]
        z_new = z + rise if arrive else z
        e = rows[j, E]
        held, offset = z * e, z_new * e
        if hidden:
            held += synapse[s, EBAR] * rows[j, C]
            ebar = synapse[s, EBAR] + rows[j, JUMP] if arrive else synapse[s, EBAR]
            synapse[s, EBAR] = ebar
            offset += ebar * rows[j, C]
            if ir >= 0:
                held += synapse[s, ir] * rows[j, columns.d]
                reg = synapse[s, ir] + rows[j, columns.jump_reg] if arrive else synapse[s, ir]
                synapse[s, ir] = reg
                offset += reg * rows[j, columns.d]
            if adaptive:
                held += synapse[s, iq] * rows[j, columns.eq]
                eps = synapse[s, iq] + rows[j, columns.jump_eps] if arrive else synapse[s, iq]
                synapse[s, iq] = eps
                offset += eps * rows[j, columns.eq]
        elif arrive:
            offset -= rows[j, JUMP]
        if rewarded:
            held += synapse[s, i_filtered] * reached
            filtered = synapse[s, i_filtered] + rows[j, columns.jump_filtered] if arrive else synapse[s, i_filtered]
            synapse[s, i_filtered] = filtered
            offset += filtered * reached
        if not shared:
            synapse[s, iz] = z_new
        gradient = synapse[s, GRADIENT] + held
        if batch > 1:
            gradient += synapse[s, ic]
            synapse[s, ic] = 0.0 if apply else gradient
        if apply:
            weight = synapse[s, W] * shrink - rate * (gradient / batch)
            if rewired:
                weight = walked(weight, k < 0, since[s], now, l1, noise, keys, tags[s])
                since[s] = now if since[s] >= 0 else ~now
            synapse[s, W] = _clipped(weight, k, keep, low, high)
        elif shrink != 1.0:
            synapse[s, W] = _clipped(synapse[s, W] * shrink, k, keep, low, high)
        if rewired and arrive and since[s] < 0:
            since[s] = ~since[s]
        synapse[s, GRADIENT] = -offset
        if arrive:
            rows[j, INPUT] += synapse[s, W]
