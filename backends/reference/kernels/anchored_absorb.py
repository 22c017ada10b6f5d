"""A step enters what the targets keep (see ``anchored``): learning signals the gradients, surrogate gradients the traces."""

from __future__ import annotations

from numba import njit, uint64

from neurocompile.backends.reference.kernels.anchored_signals import signals
from neurocompile.backends.reference.kernels.anchored_tables import (
    ALIF,
    ANCHOR,
    JUMP,
    LIF,
    READOUT,
    AnchoredConstants,
    AnchoredState,
    C,
    E,
    Groups,
)
from neurocompile.backends.reference.kernels.eprop import surrogate
from neurocompile.backends.reference.kernels.tables import F8, I4, I8, U1, NeuronState

SMALL_RESPONSE, LARGE_RESPONSE = 0.03, 30.0
"""An adaptive neuron asks for a new anchor when |m| leaves this interval: m is what epsilon is divided by, so it costs these digits."""


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
            signals(constants, static_weight, state.synapse, neurons.error, group, first, last, heard, now, state.relay, signal)
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
