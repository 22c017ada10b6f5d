"""Spikes at the plastic synapses of the anchored form (see ``anchored``), and what axons keep of them."""

from __future__ import annotations

from numba import njit, uint64

from neurocompile.backends.reference.kernels.anchored_rows import row_double, row_general, row_plain, row_plain_late, row_readout
from neurocompile.backends.reference.kernels.anchored_tables import (
    ALIF,
    ANCHOR,
    BEFORE,
    CURRENT,
    INPUT,
    LATE,
    READOUT,
    AnchoredConstants,
    AnchoredState,
    W,
)
from neurocompile.backends.reference.kernels.tables import F8, I8


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
                    row_general(constants, state, group, begin, end, z, rise, shrink, True, apply, now)
                elif kind == READOUT:
                    row_readout(begin, end, target, synapse, rows, before, late, z_before, z, rise, rate, shrink, low, high, keep)
                elif columns.ebar_reg >= 0:
                    row_double(
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
                    row_plain_late(begin, end, target, synapse, rows, before, z_before, e_decay, z, rise, rate, shrink, low, high, keep)
                else:
                    row_plain(begin, end, target, synapse, rows, z, rise, rate, shrink, low, high, keep)
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
                row_general(constants, state, group, begin, end, state.zbar[axon], 0.0, shrink, False, apply, now)
            if apply and state.last[axon] >= 0:
                state.done[axon] = max(state.done[axon], 1 + (now - 1) // batch)
