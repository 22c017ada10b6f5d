"""From one anchor to the next (see ``anchored``)."""

from __future__ import annotations

from numba import njit

from neurocompile.backends.reference.kernels.anchored_tables import (
    ALIF,
    ANCHOR,
    BEFORE,
    CURRENT,
    EBAR,
    GRADIENT,
    JUMP,
    LATE,
    LIF,
    READOUT,
    SILENT_AFTER,
    AnchoredConstants,
    AnchoredState,
    C,
    E,
)
from neurocompile.backends.reference.kernels.tables import I8


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
