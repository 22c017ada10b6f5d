"""Event-driven e-prop without a history: constant time per synaptic event, whatever the interval (docs/eprop.md, "Anchored form").

Between two spikes of its source the state of a synapse (zbar, epsilon, ebar, ebar_reg, g) changes linearly, by coefficients that depend
on the target alone. Every target therefore keeps the response of each to a unit state at a common step, the anchor b; a synapse keeps its
state extrapolated back to b, and its state at any later step is one dot product. With n = steps since the anchor:

    zbar     = z~ a^n                          eps = q~ m + z~ Aq
    ebar     = e~ k^n  + z~ A + q~ Ae          ebar_reg = r~ kr^n + z~ B + q~ Be
    gradient = g~ + e~ C + r~ D + z~ E + q~ Eq

The gradient lags one step behind the traces: the error of step t completes L(t-1). A spike that arrives in step t meets the traces after
index t-1 and the gradient after index t-2, which is where the update of step t stops reading. Since the traces are continuous there,
nothing needs to be corrected when index t-1 enters the gradient. zbar alone jumps (the spike enters at index t: a^-(n+1) at the anchor);
what that does to the other traces is taken back: JUMP, JUMP_REG, JUMP_EPS of the target's row. A readout's gradient reads zbar itself, so
its JUMP takes back err(t-1) / a.

Learning from reward filters gradients with the discount gamma before the temporal-difference error delta acts on them. The filtered
gradient G is one more linear state, which lags as the gradient does. What a G of 1 at the anchor has added to g is X, the same for all
targets of a group (``reach``):

    G = gamma^n G~ + e~ P + z~ Q + q~ Qe                    g = g~ + ... + G~ X
    at the end of step t:  X += delta gamma^n    C += delta P    E += delta Q    Eq += delta Qe    (delta of step t-1, known since t)
                           P <- gamma P + L k^n    Q <- gamma Q + L A    Qe <- gamma Qe + L Ae

A spike leaves G where it was: its JUMP is -(dz Q + de P + dq Qe) gamma^-n. A readout's index enters G before delta acts: first
Q <- gamma Q + err a^n, then E += delta Q, X += delta gamma^(n+1); and since G reads zbar itself, its JUMP also takes back
err(t-1) / a gamma^-(n+1).

Powers of 1/a and 1/k grow with n, so synapses are moved to a new anchor from time to time (``sweep``), or sooner where adaptive neurons
make m small. Most of them are not moved then but when their source spikes next (LATE): the coefficients of the window before are kept for
one window, and only what no spike has touched for all of it is moved by the next sweep. Groups with more state than the plain one are moved
at once. Synapses whose source has been silent for so long that their traces are below the precision are finished and not visited again.
"""

from __future__ import annotations

from numba import njit, uint64

from neurocompile.backends.reference.kernels.anchored_tables import (
    ALIF,
    ANCHOR,
    BEFORE,
    CURRENT,
    EBAR,
    GRADIENT,
    INPUT,
    JUMP,
    LATE,
    LIF,
    READOUT,
    SILENT_AFTER,
    AnchoredConstants,
    AnchoredState,
    C,
    E,
    Groups,
    Synapses,
    W,
)
from neurocompile.backends.reference.kernels.eprop import surrogate
from neurocompile.backends.reference.kernels.intrinsics import prefetch
from neurocompile.backends.reference.kernels.rewiring import steps_optimizer, walked
from neurocompile.backends.reference.kernels.tables import F8, I4, I8, U1, NeuronState, Paths

_BLOCK = 2048
AHEAD = 16
"""Synapses ahead whose targets' rows are asked for: a third off the cost of an event at a million neurons. The table has so many more."""
SMALL_RESPONSE, LARGE_RESPONSE = 0.03, 30.0
"""An adaptive neuron asks for a new anchor when |m| leaves this interval: m is what epsilon is divided by, so it costs these digits."""


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
def _row_readout(
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
def _row_plain(
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
def _row_plain_late(
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
def _row_double(
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
def _row_general(
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


@njit(cache=True, nogil=True)
def _applies(last: int, done: int, batch: int, index: int) -> bool:
    """Return whether an optimizer that has done ``done`` steps steps at ``index``; at a first spike (last < 0) there is nothing to do."""
    return batch == 1 or (last >= 0 and done < 1 + index // batch)


@njit(cache=True, nogil=True)
def deliver(constants: AnchoredConstants, state: AnchoredState, clock: I8, ring: F8, step: int, now: int, part: int, learn: bool) -> int:
    """Let spikes arrive at the plastic synapses of one range, which change first; return how many synapses that were."""
    bundles, groups, rules, columns, rows = constants.bundles, constants.groups, constants.rules, constants.columns, state.row
    pointer, target, synapse = bundles.pointer, constants.target, state.synapse
    log, zbars, lasts, dones, alive, before = state.log, state.zbar, state.last, state.done, state.alive, state.before
    decayed = state.decayed
    slots, events, n = state.log_count.size, 0, now - clock[ANCHOR]
    neuron = constants.sites.neuron
    bundle = 0
    for group in range(groups.kind.size):
        first, last = groups.site[group, part], groups.site[group, part + 1]
        while bundle < bundles.group.size and bundles.group[bundle] == group:
            emitted = step - bundles.delay[bundle]
            at, source_first, axon_first = bundles.row[bundle, part], bundles.first_source[bundle], bundles.axon[bundle]
            n_sources = bundles.n_sources[bundle]
            rule, alpha, kind = groups.rule[group], groups.alpha[group], groups.kind[group]
            batch = rules.batch[rule]
            rate, low, high, keep = rules.learning_rate[rule], rules.low[rule], rules.high[rule], rules.keep_sign[rule] != 0
            left, shrink = rules.shrink[rule], 1.0
            shared = groups.shared[group] != 0
            general = kind == ALIF or batch > 1 or not shared or groups.discount[group] >= 0.0
            rise = alpha ** (-(n + 1)) if shared else 0.0
            z_decay, e_decay = alpha ** clock[BEFORE], rules.kappa[rule] ** clock[BEFORE]
            slot = emitted % slots
            count = state.log_count[slot] if emitted >= 0 else 0
            for item in range(count):
                source = log[slot, item] - source_first
                if source < 0 or source >= n_sources:
                    continue
                begin, end = pointer[at + source], pointer[at + source + 1]
                if begin == end:
                    continue
                events += end - begin
                if not learn:
                    for s in range(begin, end):
                        j = target[s]
                        rows[j ^ (j >> 31), INPUT] += synapse[s, W]
                    continue
                axon = axon_first + source
                z_before = zbars[axon]
                late = alive[axon] == LATE
                z = z_before * z_decay if late else z_before
                if left != 1.0:
                    shrink = left ** (now - decayed[axon])
                if general:
                    apply = _applies(lasts[axon], dones[axon], batch, now - 1)
                    _row_general(constants, state, group, begin, end, z, rise, shrink, True, apply, now)
                elif kind == READOUT:
                    _row_readout(begin, end, target, synapse, rows, before, late, z_before, z, rise, rate, shrink, low, high, keep)
                elif columns.ebar_reg >= 0:
                    _row_double(
                        begin,
                        end,
                        target,
                        synapse,
                        rows,
                        z,
                        rise,
                        rate,
                        shrink,
                        low,
                        high,
                        keep,
                        columns.ebar_reg,
                        columns.d,
                        columns.jump_reg,
                    )
                elif late:
                    _row_plain_late(begin, end, target, synapse, rows, before, z_before, e_decay, z, rise, rate, shrink, low, high, keep)
                else:
                    _row_plain(begin, end, target, synapse, rows, z, rise, rate, shrink, low, high, keep)
            bundle += 1
        shift = neuron[first] - first if last > first else 0
        for index in range(first, last):
            j = uint64(index)
            ring[uint64(index + shift)] += rows[j, INPUT]
            rows[j, INPUT] = 0.0
    return events


@njit(cache=True, nogil=True)
def mark_arrivals(constants: AnchoredConstants, state: AnchoredState, clock: I8, step: int, now: int) -> None:
    """Let the spikes that have just been delivered enter the traces that all synapses of an axon share."""
    bundles, groups = constants.bundles, constants.groups
    slots, n = state.log_count.size, now - clock[ANCHOR]
    for bundle in range(bundles.group.size):
        emitted = step - bundles.delay[bundle]
        if emitted < 0:
            continue
        group = bundles.group[bundle]
        batch = constants.rules.batch[groups.rule[group]]
        rise = groups.alpha[group] ** (-(n + 1)) if groups.shared[group] else 0.0
        z_decay = groups.alpha[group] ** clock[BEFORE]
        first, n_sources, axon_first = bundles.first_source[bundle], bundles.n_sources[bundle], bundles.axon[bundle]
        for item in range(state.log_count[emitted % slots]):
            source = state.log[emitted % slots, item] - first
            if 0 <= source < n_sources:
                axon = axon_first + source
                if state.alive[axon] == LATE:
                    state.zbar[axon] *= z_decay
                state.zbar[axon] += rise
                if state.last[axon] >= 0 and _applies(state.last[axon], state.done[axon], batch, now - 1):
                    state.done[axon] = max(state.done[axon], 1 + (now - 1) // batch)
                state.last[axon] = now
                state.alive[axon] = CURRENT
                if state.decayed.size:
                    state.decayed[axon] = now


@njit(cache=True, nogil=True)
def flush(constants: AnchoredConstants, state: AnchoredState, now: int) -> None:
    """Apply the gradient of every plastic synapse, as if its source's spike arrived now; no trace sees a spike."""
    bundles, groups = constants.bundles, constants.groups
    for bundle in range(bundles.group.size):
        group = bundles.group[bundle]
        batch, left, shrink = constants.rules.batch[groups.rule[group]], constants.rules.shrink[groups.rule[group]], 1.0
        for source in range(bundles.n_sources[bundle]):
            axon = bundles.axon[bundle] + source
            if state.last[axon] < 0 and left == 1.0 and not constants.walk.on[groups.rule[group]]:
                continue
            if left != 1.0:
                shrink = left ** (now - state.decayed[axon])
                state.decayed[axon] = now
            apply = _applies(state.last[axon], state.done[axon], batch, now - 1)
            for part in range(bundles.row.shape[1]):
                at = bundles.row[bundle, part] + source
                begin, end = bundles.pointer[at], bundles.pointer[at + 1]
                _row_general(constants, state, group, begin, end, state.zbar[axon], 0.0, shrink, False, apply, now)
            if apply and state.last[axon] >= 0:
                state.done[axon] = max(state.done[axon], 1 + (now - 1) // batch)


@njit(cache=True, nogil=True)
def _lazy(constants: AnchoredConstants, group: int) -> bool:
    """Return whether a group's synapses are moved to a new anchor when their source spikes, not before."""
    groups = constants.groups
    plain = groups.kind[group] == READOUT or (groups.kind[group] == LIF and constants.columns.ebar_reg < 0)
    plain = plain and groups.discount[group] < 0.0
    return plain and groups.shared[group] != 0 and constants.rules.batch[groups.rule[group]] == 1


@njit(cache=True, nogil=True)
def _move_late(constants: AnchoredConstants, state: AnchoredState, clock: I8, now: int, bundle: int, part: int, onward: bool) -> None:
    """Move the synapses of a lazy group that are still anchored where the window before began: to where the present one began, and with
    ``onward`` from there to ``now``."""
    bundles, groups = constants.bundles, constants.groups
    target, synapse, rows, before, trace = constants.target, state.synapse, state.row, state.before, state.trace
    pointer, alive, lasts, zbars = bundles.pointer, state.alive, state.last, state.zbar
    group, at = bundles.group[bundle], bundles.row[bundle, part]
    kappa, alpha, readout = constants.rules.kappa[groups.rule[group]], groups.alpha[group], groups.kind[group] == READOUT
    n, silent = now - clock[ANCHOR], clock[SILENT_AFTER]
    early, late, z_early = kappa ** clock[BEFORE], kappa**n, alpha ** clock[BEFORE]
    for source in range(bundles.n_sources[bundle]):
        axon = bundles.axon[bundle] + source
        if alive[axon] != LATE:
            continue
        z_before = zbars[axon]
        z = z_before * z_early
        finish = onward and now - lasts[axon] > silent
        for s in range(pointer[at + source], pointer[at + source + 1]):
            j = target[s]
            j ^= j >> 31
            if readout:
                gradient = z_before * before[j, E]
                if onward:
                    gradient += z * rows[j, E]
            else:
                ebar = float(synapse[s, EBAR])
                gradient = ebar * before[j, C] + z_before * before[j, E]
                ebar = ebar * early + z_before * before[j, JUMP]
                if onward:
                    gradient += ebar * rows[j, C] + z * rows[j, E]
                    ebar = 0.0 if finish else ebar * late + z * trace[j, 0]
                synapse[s, EBAR] = ebar
            synapse[s, GRADIENT] += gradient


@njit(cache=True, nogil=True)
def settle(constants: AnchoredConstants, state: AnchoredState, clock: I8, now: int) -> None:
    """Move what is late to the present anchor (for those who look at synapses from outside)."""
    bundles = constants.bundles
    for bundle in range(bundles.group.size):
        group = bundles.group[bundle]
        if not _lazy(constants, group):
            continue
        for part in range(bundles.row.shape[1]):
            _move_late(constants, state, clock, now, bundle, part, False)
        decay = constants.groups.alpha[group] ** clock[BEFORE]
        for axon in range(bundles.axon[bundle], bundles.axon[bundle] + bundles.n_sources[bundle]):
            if state.alive[axon] == LATE:
                state.zbar[axon] *= decay
                state.alive[axon] = CURRENT


@njit(cache=True, nogil=True)
def sweep(constants: AnchoredConstants, state: AnchoredState, clock: I8, now: int, part: int) -> None:
    """Move the synapses and targets of one range to a new anchor, ``now``."""
    bundles, groups, rules, columns = constants.bundles, constants.groups, constants.rules, constants.columns
    target, synapse, rows, trace, pointer = constants.target, state.synapse, state.row, state.trace, bundles.pointer
    ir, iq, iz, idd, ieq = columns.ebar_reg, columns.epsilon, columns.zbar, columns.d, columns.eq
    alive, lasts, zbars, rises, before = state.alive, state.last, state.zbar, state.rise, state.before
    i_filtered, i_jump_filtered, filters = columns.filtered, columns.jump_filtered, state.filter
    n, silent = now - clock[ANCHOR], clock[SILENT_AFTER]
    for bundle in range(bundles.group.size):
        group, at = bundles.group[bundle], bundles.row[bundle, part]
        if _lazy(constants, group):
            _move_late(constants, state, clock, now, bundle, part, True)
            continue
        rule, kind = groups.rule[group], groups.kind[group]
        shared, hidden = groups.shared[group] != 0, kind != READOUT
        decay, decay_reg = rules.kappa[rule] ** n, rules.kappa_reg[rule] ** n
        rewarded, reached = groups.discount[group] >= 0.0, state.reach[group]
        decay_filtered = groups.discount[group] ** n if rewarded else 0.0
        for source in range(bundles.n_sources[bundle]):
            axon = bundles.axon[bundle] + source
            if not alive[axon]:
                continue
            finish = now - lasts[axon] > silent
            z = zbars[axon]
            for s in range(pointer[at + source], pointer[at + source + 1]):
                j = target[s]
                j ^= j >> 31
                if not shared:
                    z = float(synapse[s, iz])
                    synapse[s, iz] = 0.0 if finish else z * rises[j]
                gradient = z * rows[j, E]
                if rewarded:
                    filtered = float(synapse[s, i_filtered])
                    gradient += filtered * reached
                    filtered = filtered * decay_filtered + z * filters[j, 1]
                    if hidden:
                        filtered += synapse[s, EBAR] * filters[j, 0]
                    if kind == ALIF:
                        filtered += synapse[s, iq] * filters[j, 2]
                    synapse[s, i_filtered] = 0.0 if finish else filtered
                if hidden:
                    ebar = float(synapse[s, EBAR])
                    gradient += ebar * rows[j, C]
                    ebar = ebar * decay + z * trace[j, 0]
                    if ir >= 0:
                        reg = float(synapse[s, ir])
                        gradient += reg * rows[j, idd]
                        reg = reg * decay_reg + z * trace[j, 1]
                        if kind == ALIF:
                            reg += synapse[s, iq] * trace[j, 4]
                        synapse[s, ir] = 0.0 if finish else reg
                    if kind == ALIF:
                        eps = float(synapse[s, iq])
                        gradient += eps * rows[j, ieq]
                        ebar += eps * trace[j, 3]
                        synapse[s, iq] = 0.0 if finish else eps * trace[j, 5] + z * trace[j, 2]
                    synapse[s, EBAR] = 0.0 if finish else ebar
                synapse[s, GRADIENT] += gradient
    for group in range(groups.kind.size):
        lazy, discount = _lazy(constants, group), groups.discount[group]
        for j in range(groups.site[group, part], groups.site[group, part + 1]):
            if discount >= 0.0:
                filters[j, :] = 0.0
                rows[j, i_jump_filtered] = 0.0
                if groups.kind[group] == READOUT:  # its last error enters after the next spike
                    rows[j, i_jump_filtered] = -state.reg[j] / (constants.sites.alpha[j] * discount)
            if lazy:
                before[j, C], before[j, E], before[j, JUMP] = rows[j, C], rows[j, E], trace[j, 0]
            rows[j, C] = rows[j, E] = 0.0
            if idd >= 0:
                rows[j, idd] = 0.0
            if ieq >= 0:
                rows[j, ieq] = 0.0
            trace[j, :5] = 0.0
            trace[j, 5] = 1.0
            rises[j] = 1.0
            if groups.kind[group] != READOUT:  # a readout's jump does not depend on the anchor
                rows[j, JUMP] = 0.0
                if columns.jump_reg >= 0:
                    rows[j, columns.jump_reg] = 0.0
                if columns.jump_eps >= 0:
                    rows[j, columns.jump_eps] = 0.0
            if columns.rise >= 0:
                rows[j, columns.rise] = 1.0 / constants.sites.alpha[j]


@njit(cache=True, nogil=True)
def move_anchor(constants: AnchoredConstants, state: AnchoredState, clock: I8, now: int) -> None:
    """Finish a sweep of all ranges: what axons share."""
    bundles, groups = constants.bundles, constants.groups
    n = now - clock[ANCHOR]
    for bundle in range(bundles.group.size):
        group = bundles.group[bundle]
        lazy = _lazy(constants, group)
        decay = groups.alpha[group] ** n if groups.shared[group] else 0.0
        if lazy:
            decay *= groups.alpha[group] ** clock[BEFORE]
        for axon in range(bundles.axon[bundle], bundles.axon[bundle] + bundles.n_sources[bundle]):
            if state.alive[axon] == 0:
                continue
            if lazy and state.alive[axon] == CURRENT:
                state.alive[axon] = LATE
            elif now - state.last[axon] > clock[SILENT_AFTER]:
                state.alive[axon] = 0
                state.zbar[axon] = 0.0
            else:
                state.zbar[axon] *= decay
                state.alive[axon] = CURRENT
    state.reach[:] = 0.0
    clock[BEFORE] = n
    clock[ANCHOR] = now


@njit(cache=True, nogil=True)
def _signals(
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
            _signals(constants, static_weight, state.synapse, error, group, first, last, True, now, relay, signal)
        else:
            signal[first:last] = 0.0
            _follow(paths, first, last, static_weight, state.synapse, error, now, relay, signal)
        if paths.relays[group]:
            for j in range(first, last):
                relay[1, j] = relay[0, j] * signal[j]


@njit(cache=True, nogil=True)
def _remember_slopes(constants: AnchoredConstants, distances: F8, group: int, first: int, last: int, slope: F8) -> None:
    """Keep psi, filtered by the membrane, of this index until its learning signals are complete, one step later."""
    rules, neuron, alpha, rule = constants.rules, constants.sites.neuron, constants.sites.alpha, constants.groups.rule[group]
    kind, height, per_width = rules.surrogate[rule], rules.height[rule], rules.per_width[rule]
    for j in range(first, last):
        slope[j] = alpha[j] * slope[j] + surrogate(kind, height, per_width, distances[neuron[j]])


@njit(cache=True, nogil=True)
def _absorb_readout(
    first: int,
    last: int,
    neuron: I4,
    alphas: F8,
    error: F8,
    alpha: float,
    shared: bool,
    n: int,
    rises: F8,
    held: F8,
    rows: F8,
    i_rise: int,
) -> None:
    power, back = (alpha**n, 1.0 / alpha) if shared else (0.0, 0.0)
    for j in range(first, last):
        if not shared:
            power, back = rises[j], 1.0 / alphas[j]
            rises[j] *= alphas[j]
            rows[j, i_rise] = 1.0 / (rises[j] * alphas[j])
        err = error[neuron[j]]
        rows[j, E] += held[j] * power
        rows[j, JUMP] = -err * back
        held[j] = err


@njit(cache=True, nogil=True)
def _absorb_rewarded_readout(
    constants: AnchoredConstants, state: AnchoredState, error: F8, group: int, n: int, first: int, last: int, third: float
) -> None:
    alphas, neuron, rises, held, rows, filters = (
        constants.sites.alpha,
        constants.sites.neuron,
        state.rise,
        state.reg,
        state.row,
        state.filter,
    )
    i_rise, i_jump, discount = constants.columns.rise, constants.columns.jump_filtered, constants.groups.discount[group]
    shared, alpha = constants.groups.shared[group] != 0, constants.groups.alpha[group]
    power, rise = (alpha**n, alpha ** (-(n + 2))) if shared else (0.0, 0.0)
    back = discount ** (-(n + 1))
    for j in range(first, last):
        if not shared:
            alpha, power = alphas[j], rises[j]
            rises[j] *= alpha
            rise = 1.0 / (rises[j] * alpha)
            rows[j, i_rise] = rise
        response = discount * filters[j, 1] + held[j] * power
        filters[j, 1] = response
        rows[j, E] += third * response
        err = error[neuron[j]]
        held[j] = err
        rows[j, i_jump] = -(rise * response + err / (alpha * discount)) * back


@njit(cache=True, nogil=True)
def _absorb_plain(
    first: int,
    last: int,
    offset: int,
    alpha: float,
    kappa: float,
    kappa_reg: float,
    strength: float,
    wanted: float,
    kind: int,
    height: float,
    per_width: float,
    n: int,
    per_dt: float,
    distances: F8,
    spiked: U1,
    signal: F8,
    regs: F8,
    rates: F8,
    trace: F8,
    rows: F8,
) -> None:
    """Targets without adaptation that share alpha, kappa_reg = kappa; site j is neuron j + offset."""
    gain_reg = 1.0 - kappa_reg
    power, power_alpha = kappa**n, alpha ** (n + 1)
    jump = -(alpha ** (-(n + 2))) * kappa ** (-(n + 1))
    for index in range(first, last):
        j, i = uint64(index), uint64(index + offset)
        both = signal[j] + gain_reg * regs[j]
        response = trace[j, 0]
        rows[j, C] += both * power
        rows[j, E] += both * response
        rate = kappa_reg * rates[j] + gain_reg * (spiked[i] * per_dt)
        rates[j] = rate
        regs[j] = strength * (rate - wanted)
        response = kappa * response + surrogate(kind, height, per_width, distances[i]) * power_alpha
        trace[j, 0] = response
        rows[j, JUMP] = jump * response


@njit(cache=True, nogil=True)
def _absorb_general(
    constants: AnchoredConstants,
    state: AnchoredState,
    neurons: NeuronState,
    group: int,
    n: int,
    first: int,
    last: int,
    signal: F8,
    third: float,
) -> bool:
    # Locals: reading a field of a named tuple inside a loop costs reference counting.
    groups, rules, columns, rows, trace = constants.groups, constants.rules, constants.columns, state.row, state.trace
    neuron, alphas, rhos, betas = constants.sites.neuron, constants.sites.alpha, constants.sites.rho, constants.sites.beta
    rises, regs, rates = state.rise, state.reg, state.rate
    spikes, distances = neurons.spiked, neurons.distance
    idd, iq, i_rise, i_jump_reg, i_jump_eps = columns.d, columns.eq, columns.rise, columns.jump_reg, columns.jump_eps
    rule, kind, alpha, per_dt = groups.rule[group], groups.kind[group], groups.alpha[group], 1.0 / constants.dt_ms
    kappa, kappa_reg = rules.kappa[rule], rules.kappa_reg[rule]
    gain_reg, strength, wanted = 1.0 - kappa_reg, rules.strength[rule], rules.rate[rule]
    kind_psi, height, per_width = rules.surrogate[rule], rules.height[rule], rules.per_width[rule]
    shared, adaptive, double = groups.shared[group] != 0, kind == ALIF, idd >= 0
    power, power_reg, power_alpha = kappa**n, kappa_reg**n, alpha ** (n + 1) if shared else 0.0
    next_rise = alpha ** (-(n + 2)) if shared else 0.0
    next_k, next_kr = kappa ** (-(n + 1)), kappa_reg ** (-(n + 1))
    filters, i_jump_filtered, discount = state.filter, columns.jump_filtered, groups.discount[group]
    rewarded = discount >= 0.0
    next_g = discount ** (-(n + 1)) if rewarded else 0.0
    asks = False
    for j in range(first, last):
        i = neuron[j]
        a_response = trace[j, 0]
        # the index before enters the gradient, with the traces after it; with reward it enters the filter, and the gradient reads that
        direct = signal[j]
        if rewarded:
            rows[j, C] += third * filters[j, 0]
            rows[j, E] += third * filters[j, 1]
            filters[j, 0] = discount * filters[j, 0] + direct * power
            filters[j, 1] = discount * filters[j, 1] + direct * a_response
            if adaptive:
                rows[j, iq] += third * filters[j, 2]
                filters[j, 2] = discount * filters[j, 2] + direct * trace[j, 3]
            direct = 0.0
        if double:
            reg = regs[j]
            rows[j, C] += direct * power
            rows[j, idd] += reg * power_reg
            rows[j, E] += direct * a_response + reg * trace[j, 1]
            if adaptive:
                rows[j, iq] += direct * trace[j, 3] + reg * trace[j, 4]
        else:
            both = direct + gain_reg * regs[j]
            rows[j, C] += both * power
            rows[j, E] += both * a_response
            if adaptive:
                rows[j, iq] += both * trace[j, 3]
        # this index enters the traces
        rate = kappa_reg * rates[j] + gain_reg * (spikes[i] * per_dt)
        rates[j] = rate
        regs[j] = strength * (rate - wanted)
        psi = surrogate(kind_psi, height, per_width, distances[i])
        if not shared:
            power_alpha = rises[j] * alphas[j]
            rises[j] = power_alpha
            next_rise = 1.0 / (power_alpha * alphas[j])
            rows[j, i_rise] = next_rise
        if adaptive:
            rho, beta, m = rhos[j], betas[j], trace[j, 5]
            ez = psi * (power_alpha - beta * trace[j, 2])
            eq = -beta * psi * m
            trace[j, 2] = rho * trace[j, 2] + ez
            m = rho * m + eq
            trace[j, 5] = m
            trace[j, 3] = kappa * trace[j, 3] + eq
            trace[j, 0] = kappa * a_response + ez
            if double:
                trace[j, 1] = kappa_reg * trace[j, 1] + gain_reg * ez
                trace[j, 4] = kappa_reg * trace[j, 4] + gain_reg * eq
            if abs(m) < SMALL_RESPONSE or abs(m) > LARGE_RESPONSE:
                asks = True
                if m == 0.0:
                    continue  # the jumps will be those of the new anchor, 0
            jump_eps = -next_rise * trace[j, 2] / m
            rows[j, i_jump_eps] = jump_eps
            rows[j, JUMP] = -(next_rise * trace[j, 0] + jump_eps * trace[j, 3]) * next_k
            if double:
                rows[j, i_jump_reg] = -(next_rise * trace[j, 1] + jump_eps * trace[j, 4]) * next_kr
            if rewarded:
                moved = next_rise * filters[j, 1] + rows[j, JUMP] * filters[j, 0] + jump_eps * filters[j, 2]
                rows[j, i_jump_filtered] = -moved * next_g
        else:
            e = psi * power_alpha
            trace[j, 0] = kappa * a_response + e
            rows[j, JUMP] = -next_rise * trace[j, 0] * next_k
            if double:
                trace[j, 1] = kappa_reg * trace[j, 1] + gain_reg * e
                rows[j, i_jump_reg] = -next_rise * trace[j, 1] * next_kr
            if rewarded:
                rows[j, i_jump_filtered] = -(next_rise * filters[j, 1] + rows[j, JUMP] * filters[j, 0]) * next_g
    return asks


@njit(cache=True, nogil=True)
def reach(groups: Groups, reached: F8, third: float, n: int) -> None:
    """Let the third factor of the step before, ``n`` steps behind the anchor now, act on what the filtered gradients were at the anchor."""
    for group in range(groups.kind.size):
        discount = groups.discount[group]
        if discount >= 0.0:
            reached[group] += third * discount ** (n + 1 if groups.kind[group] == READOUT else n)


@njit(cache=True, nogil=True)
def absorb(
    constants: AnchoredConstants,
    state: AnchoredState,
    neurons: NeuronState,
    static_weight: F8,
    clock: I8,
    now: int,
    part: int,
    heard: bool,
    third: float,
    known: bool,
) -> bool:
    """Let index now-1 enter the gradients of one range's targets and index now their traces; return whether a new anchor is asked for.

    ``heard``: some error is not 0, and the step before was a learning one. ``third``: factor of index now-1 (learning from reward).
    ``known``: the learning signals are complete (``chain``).
    """
    groups, rules, columns = constants.groups, constants.rules, constants.columns
    n, signal, asks = now - clock[ANCHOR], state.signal[now & 1], False
    for group in range(groups.kind.size):
        first, last = groups.site[group, part], groups.site[group, part + 1]
        if first == last:
            continue
        rule, kind, alpha = groups.rule[group], groups.kind[group], groups.alpha[group]
        if kind == READOUT and groups.discount[group] >= 0.0:
            _absorb_rewarded_readout(constants, state, neurons.error, group, n, first, last, third)
            continue
        if kind == READOUT:
            _absorb_readout(
                first,
                last,
                constants.sites.neuron,
                constants.sites.alpha,
                neurons.error,
                alpha,
                groups.shared[group] != 0,
                n,
                state.rise,
                state.reg,
                state.row,
                columns.rise,
            )
            continue
        if not known:
            _signals(constants, static_weight, state.synapse, neurons.error, group, first, last, heard, now, state.relay, signal)
        if state.relay.size and constants.paths.relays[group]:
            _remember_slopes(constants, neurons.distance, group, first, last, state.relay[0])
        if kind == LIF and groups.shared[group] and columns.d < 0 and groups.discount[group] < 0.0:
            _absorb_plain(
                first,
                last,
                constants.sites.neuron[first] - first,
                alpha,
                rules.kappa[rule],
                rules.kappa_reg[rule],
                rules.strength[rule],
                rules.rate[rule],
                rules.surrogate[rule],
                rules.height[rule],
                rules.per_width[rule],
                n,
                1.0 / constants.dt_ms,
                neurons.distance,
                neurons.spiked,
                signal,
                state.reg,
                state.rate,
                state.trace,
                state.row,
            )
        else:
            asks |= _absorb_general(constants, state, neurons, group, n, first, last, signal, third)
    return asks
