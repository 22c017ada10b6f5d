"""Event-driven e-prop: the loop over the history of the target (NEST's algorithm; docs/eprop.md has the recurrences and their timing).

A synapse is touched when its source spikes. It then reads the target's history from where it stopped last time, accumulates its gradient,
steps its optimizer, and the spike travels with the new weight. Between spikes it costs nothing, except that a synapse whose position is
about to fall out of the history ring is advanced by :func:`sweep`, which changes no result (no weight, and the sums in the same order).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neurocompile.backends.reference.kernels.tables import F8, NO_SPIKE, Constants, Inputs, Rules, State

PIECEWISE_LINEAR, EXPONENTIAL, FAST_SIGMOID_DERIVATIVE, ARCTAN_DERIVATIVE = 0, 1, 2, 3


@njit(cache=True, nogil=True)
def surrogate(kind: int, height: float, width: float, distance: float) -> float:
    """Return psi at ``distance`` = v - threshold (0 at an infinite distance)."""
    x = abs(distance) / width
    if kind == PIECEWISE_LINEAR:
        return height * max(0.0, 1.0 - x)
    if kind == EXPONENTIAL:
        return height * np.exp(-x)
    if kind == FAST_SIGMOID_DERIVATIVE:
        return height / ((1.0 + x) * (1.0 + x))
    return height / (1.0 + x * x)


@njit(cache=True, nogil=True)
def optimize(
    rules: Rules,
    rule: int,
    sign: float,
    index: int,
    gradient: float,
    weight: float,
    collected: float,
    done: int,
    first: float,
    second: float,
) -> tuple[float, float, int, float, float]:
    """Hand ``gradient`` of step ``index`` to a synapse's optimizer, which steps at the ends of its batches (nest-eprop.md, 1.5).

    Returns (weight, collected gradient, steps done, first moment, second moment).
    """
    collected += gradient
    due = 1 + index // rules.batch[rule]
    if done >= due:
        return weight, collected, done, first, second
    collected /= rules.batch[rule]
    rate = rules.learning_rate[rule]
    if rules.adam[rule]:
        beta_1, beta_2 = rules.beta_1[rule], rules.beta_2[rule]
        power_1, power_2 = beta_1 ** (done - 1), beta_2 ** (done - 1)
        for _ in range(done, due):  # idle steps are replayed; the gradient is consumed by the first of them
            power_1 *= beta_1
            power_2 *= beta_2
            first = beta_1 * first + (1.0 - beta_1) * collected
            second = beta_2 * second + (1.0 - beta_2) * collected * collected
            weight -= rate * np.sqrt(1.0 - power_2) / (1.0 - power_1) * first / (np.sqrt(second) + rules.epsilon[rule])
            collected = 0.0
    else:
        weight -= rate * collected
    low, high = rules.low[rule], rules.high[rule]
    if rules.keep_sign[rule]:
        if sign > 0.0:
            low = max(low, 0.0)
        else:
            high = min(high, 0.0)
    return min(max(weight, low), high), 0.0, due, first, second


@njit(cache=True, nogil=True)
def replay_hidden(
    history: F8,
    site: int,
    t: int,
    stop: int,
    first: int,
    arriving: float,
    alpha: float,
    rho: float,
    beta: float,
    kappa: float,
    kappa_reg: float,
    zbar: float,
    epsilon: float,
    ebar: float,
    ebar_reg: float,
) -> tuple[float, float, float, float, float, float]:
    """Loop over the history of a hidden neuron; return (gradient, arriving, zbar, epsilon, ebar, ebar_reg)."""
    mask = history.shape[1] - 1
    gain_reg, gradient = 1.0 - kappa_reg, 0.0
    for index in range(t, stop):
        slot = index & mask
        zbar = alpha * zbar + arriving
        arriving = 1.0 if index == first else 0.0  # the spike itself enters zbar at the index after `first`
        e = history[site, slot, 0] * (zbar - beta * epsilon)
        epsilon = rho * epsilon + e
        ebar = kappa * ebar + e
        ebar_reg = kappa_reg * ebar_reg + gain_reg * e
        gradient += history[site, slot, 1] * ebar + history[site, slot, 2] * ebar_reg
    return gradient, arriving, zbar, epsilon, ebar, ebar_reg


@njit(cache=True, nogil=True)
def replay_readout(
    history: F8, site: int, t: int, stop: int, first: int, arriving: float, alpha: float, zbar: float
) -> tuple[float, float, float]:
    """Loop over the history of a readout neuron; return (gradient, arriving, zbar)."""
    mask = history.shape[1] - 1
    gradient = 0.0
    for index in range(t, stop):
        zbar = alpha * zbar + arriving
        arriving = 1.0 if index == first else 0.0
        gradient += history[site, index & mask, 1] * zbar
    return gradient, arriving, zbar


@njit(inline="always")
def _replay(constants: Constants, state: State, synapse: int, site: int, rule: int, t: int, stop: int) -> float:
    """Advance a synapse's traces over history indices t .. stop-1 and return the gradient of that stretch."""
    sites, rules = constants.sites, constants.rules
    first = np.int64(state.last_spike[synapse]) - 1
    if sites.is_readout[site]:
        gradient, arriving, state.zbar[synapse] = replay_readout(
            state.history, site, t, stop, first, float(state.arriving[synapse]), sites.alpha[site], state.zbar[synapse]
        )
    else:
        gradient, arriving, state.zbar[synapse], state.epsilon[synapse], state.ebar[synapse], state.ebar_reg[synapse] = replay_hidden(
            state.history,
            site,
            t,
            stop,
            first,
            float(state.arriving[synapse]),
            sites.alpha[site],
            sites.rho[site],
            sites.beta[site],
            rules.kappa[rule],
            rules.kappa_reg[rule],
            state.zbar[synapse],
            state.epsilon[synapse],
            state.ebar[synapse],
            state.ebar_reg[synapse],
        )
    state.arriving[synapse] = np.uint8(arriving)
    return gradient


@njit(inline="always")
def _optimize(constants: Constants, state: State, synapse: int, rule: int, index: int, gradient: float) -> None:
    weight, collected, done, first, second = optimize(
        constants.rules,
        rule,
        constants.sign[synapse],
        index,
        gradient,
        state.working_weight[synapse],
        state.collected[synapse],
        np.int64(state.optimized[synapse]),
        state.first_moment[synapse],
        state.second_moment[synapse],
    )
    state.working_weight[synapse] = weight
    state.collected[synapse] = collected
    state.optimized[synapse] = done
    state.first_moment[synapse] = first
    state.second_moment[synapse] = second


@njit(inline="always")
def _advance(constants: Constants, state: State, synapse: int, end: int) -> None:
    """Read the history of a synapse's target from its position up to index ``end`` (excluded), within the cutoff."""
    site = constants.eprop.target[synapse]
    rule = constants.sites.rule[site]
    t = np.int64(state.position[synapse])
    stop = min(end, np.int64(state.last_spike[synapse]) - 1 + constants.rules.cutoff[rule])
    if t < stop:
        if constants.rules.each_step[rule]:
            for index in range(t, stop):
                part = _replay(constants, state, synapse, site, rule, index, index + 1)
                _optimize(constants, state, synapse, rule, index + 1, part)
        else:
            state.gradient[synapse] += _replay(constants, state, synapse, site, rule, t, stop)
    if end > t:
        state.position[synapse] = end


@njit(inline="always")
def _apply(constants: Constants, state: State, synapse: int, stamp: int) -> None:
    """Bring a synapse to ``stamp`` and change its weight as a spike that arrives in learning step ``stamp`` does."""
    _advance(constants, state, synapse, stamp - 1)
    rule = constants.sites.rule[constants.eprop.target[synapse]]
    if not constants.rules.each_step[rule]:
        gradient = state.gradient[synapse]
        state.gradient[synapse] = 0.0
        _optimize(constants, state, synapse, rule, stamp - 1, gradient)
    state.eprop_weight[synapse] = state.working_weight[synapse]


@njit(cache=True, nogil=True)
def arrive(constants: Constants, state: State, source: int, stamp: int) -> None:
    """Let a spike of ``source`` arrive at its plastic synapses in learning step ``stamp``."""
    sites, rules = constants.sites, constants.rules
    for synapse in range(constants.eprop.pointer[source], constants.eprop.pointer[source + 1]):
        last = state.last_spike[synapse]
        if last != NO_SPIKE:
            _apply(constants, state, synapse, stamp)
            site = constants.eprop.target[synapse]
            rule = sites.rule[site]
            skipped = stamp - last - rules.cutoff[rule]
            if skipped > 0:
                state.zbar[synapse] *= sites.alpha[site] ** skipped
                state.ebar[synapse] *= rules.kappa[rule] ** skipped
                state.ebar_reg[synapse] *= rules.kappa_reg[rule] ** skipped
                state.epsilon[synapse] *= sites.rho[site] ** skipped
        state.last_spike[synapse] = stamp
        state.position[synapse] = stamp - 1


@njit(cache=True, nogil=True)
def sweep(constants: Constants, state: State, now: int) -> None:
    """Advance the synapses that would lose their place in the history ring before the next sweep, half a ring later."""
    oldest = now - state.history.shape[1] // 2
    for synapse in range(state.position.size):
        if state.last_spike[synapse] != NO_SPIKE and state.position[synapse] < oldest:
            _advance(constants, state, synapse, now - 1)


@njit(cache=True, nogil=True)
def flush(constants: Constants, state: State) -> None:
    """Apply the pending gradients of all synapses, as if every source's spike arrived now; nothing is delivered."""
    now = state.clock[1]
    for synapse in range(state.position.size):
        if state.last_spike[synapse] != NO_SPIKE and now > state.last_spike[synapse]:
            _apply(constants, state, synapse, now)


@njit(cache=True, nogil=True)
def errors(constants: Constants, state: State, inputs: Inputs, row: int) -> None:
    """Compute the error of every readout neuron in this step: (y - y*) or (softmax(y) - y*), times the window."""
    readouts = constants.readouts
    column = 0
    for readout in range(readouts.start.size):
        start, stop = readouts.start[readout], readouts.stop[readout]
        window = inputs.window[row, readout]
        if window == 0.0:
            state.error[start:stop] = 0.0
        elif readouts.cross_entropy[readout]:
            top = state.v[start:stop].max()
            total = np.exp(state.v[start:stop] - top).sum()
            for n in range(start, stop):
                probability = np.exp(state.v[n] - top) / total
                state.error[n] = (probability - inputs.target[row, column + n - start]) * window
        else:
            for n in range(start, stop):
                state.error[n] = (state.v[n] - inputs.target[row, column + n - start]) * window
        column += stop - start


@njit(cache=True, nogil=True)
def remember(constants: Constants, state: State, index: int) -> None:
    """Append entry ``index`` to every site's history: (psi, 0, reg) or a readout's (0, error, 0)."""
    sites, rules = constants.sites, constants.rules
    slot = index & (state.history.shape[1] - 1)
    for site in range(sites.neuron.size):
        entry = state.history[site, slot]
        n, rule = sites.neuron[site], sites.rule[site]
        if sites.is_readout[site]:
            entry[1] = state.error[n]
        else:
            rate = rules.kappa_reg[rule] * state.rate[site] + (1.0 - rules.kappa_reg[rule]) * (state.spiked[n] / constants.dt_ms)
            state.rate[site] = rate
            entry[0] = surrogate(rules.surrogate[rule], rules.height[rule], rules.width[rule], state.distance[n])
            entry[1] = 0.0
            entry[2] = rules.strength[rule] * (rate - rules.rate[rule])


@njit(cache=True, nogil=True)
def broadcast(constants: Constants, state: State, index: int) -> None:
    """Add B_jk err_k of this step to the learning signals of entry ``index``; symmetric B reads the weights as they are now."""
    feedback = constants.feedback
    if feedback.n == 0:
        return
    silent = True
    for k in range(feedback.n):
        if state.error[feedback.first + k] != 0.0:
            silent = False
    if silent:
        return
    slot = index & (state.history.shape[1] - 1)
    for row in range(feedback.site.size):
        total = 0.0
        for k in range(feedback.n):
            total += feedback.matrix[row, k] * state.error[feedback.first + k]
        state.history[feedback.site[row], slot, 1] += total
    for item in range(feedback.symmetric_site.size):
        table, position = feedback.symmetric_table[item], feedback.symmetric_index[item]
        if table == 0:
            weight = state.static_weight[position]
        elif table == 1:
            weight = state.eprop_weight[position]
        else:
            weight = state.stdp_weight[position]
        state.history[feedback.symmetric_site[item], slot, 1] += weight * state.error[feedback.first + feedback.symmetric_readout[item]]
