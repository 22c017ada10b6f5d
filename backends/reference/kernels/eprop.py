"""Event-driven e-prop: the loop over the history of the target (NEST's algorithm; docs/eprop.md has the recurrences and their timing).

A synapse is touched when its source spikes. It then reads the target's history from where it stopped last time, accumulates its gradient,
steps its optimizer, and the spike travels with the new weight. Between spikes it costs nothing, except that a synapse whose position is
about to fall out of the history ring is advanced (mode READ), which changes no result: no weight, and the sums in the same order.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neurocompile.backends.reference.kernels import kappa as learnt
from neurocompile.backends.reference.kernels.rewiring import walked
from neurocompile.backends.reference.kernels.tables import (
    F8,
    I4,
    NO_SPIKE,
    EpropState,
    Feedback,
    Inputs,
    NeuronState,
    Paths,
    Readouts,
    Rules,
    Sites,
    Walk,
)

ARRIVE, APPLY, READ = 0, 1, 2  # modes of visit
PIECEWISE_LINEAR, EXPONENTIAL, FAST_SIGMOID_DERIVATIVE, ARCTAN_DERIVATIVE = 0, 1, 2, 3


@njit(cache=True, nogil=True)
def surrogate(kind: int, height: float, per_width: float, distance: float) -> float:
    """Return psi at ``distance`` = v - threshold (0 at an infinite distance)."""
    x = abs(distance) * per_width
    if kind == PIECEWISE_LINEAR:
        return height * max(0.0, 1.0 - x)
    if kind == EXPONENTIAL:
        return float(height * np.exp(-x))
    if kind == FAST_SIGMOID_DERIVATIVE:
        return height / ((1.0 + x) * (1.0 + x))
    return height / (1.0 + x * x)


@njit(cache=True, nogil=True)
def optimize(
    adam: bool,
    rate: float,
    beta_1: float,
    beta_2: float,
    small: float,
    batch: int,
    low: float,
    high: float,
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
    due = 1 + index // batch if batch > 1 else 1 + index
    if done >= due:
        return weight, collected, done, first, second
    collected /= batch
    if adam:
        power_1, power_2 = beta_1 ** (done - 1), beta_2 ** (done - 1)
        for _ in range(done, due):  # idle steps are replayed; the gradient is consumed by the first of them
            power_1 *= beta_1
            power_2 *= beta_2
            first = beta_1 * first + (1.0 - beta_1) * collected
            second = beta_2 * second + (1.0 - beta_2) * collected * collected
            weight -= rate * np.sqrt(1.0 - power_2) / (1.0 - power_1) * first / (np.sqrt(second) + small)
            collected = 0.0
    else:
        weight -= rate * collected
    return min(max(weight, low), high), 0.0, due, first, second


@njit(cache=True, nogil=True)
def visit(
    target: I4,
    sites: Sites,
    rules: Rules,
    signs: F8,
    walk: Walk,
    state: EpropState,
    begin: int,
    end: int,
    stamp: int,
    mode: int,
) -> None:
    """Bring the synapses begin .. end-1 to learning step ``stamp``: read their targets' histories up to index stamp-2, within the cutoff.

    mode ARRIVE: a spike arrives, weights change and the spike starts a new interval. APPLY: weights change, and nothing else (flush).
    READ: neither; only synapses whose position would fall out of the history ring before the next sweep, half a ring later.
    """
    # Locals: reading a field of the named tuples inside the loop costs reference counting.
    history = state.history
    site_rule, is_readout = sites.rule, sites.is_readout
    site_alpha, site_rho, site_beta = sites.alpha, sites.rho, sites.beta
    last_spike, position, arrivals = state.last_spike, state.position, state.arriving
    zbars, epsilons, ebars, ebars_reg, gradients = state.zbar, state.epsilon, state.ebar, state.ebar_reg, state.gradient
    discounts, filtereds, thirds = sites.discount, state.filtered, state.third
    weights, working, collecteds = state.eprop_weight, state.working_weight, state.collected
    optimized, firsts, seconds = state.optimized, state.first_moment, state.second_moment
    decayed, decays = state.decayed, state.decayed.size > 0 and mode != READ
    mask = history.shape[1] - 1
    oldest = stamp - history.shape[1] // 2
    since, tags, keys = walk.since, walk.tag, walk.key
    rewired, l1, noise = False, 0.0, 0.0
    known_rule = -1
    kappa = kappa_reg = gain_reg = rate = beta_1 = beta_2 = small = rule_low = rule_high = 0.0
    shrink = 1.0
    adam = each_step = keep_sign = False
    batch = cutoff = 1
    per = 0
    for synapse in range(begin, end):
        last = int(last_spike[synapse])
        t = int(position[synapse])
        begins = last == NO_SPIKE
        if (begins and ((since.size == 0 and not decays) or mode == READ)) or (mode == READ and t >= oldest):
            if mode == ARRIVE:
                last_spike[synapse] = stamp
                position[synapse] = stamp - 1
            continue
        site = target[synapse]
        rule = int(site_rule[site])
        if rule != known_rule:
            kappa, kappa_reg, cutoff = rules.kappa[rule], rules.kappa_reg[rule], rules.cutoff[rule]
            gain_reg = 1.0 - kappa_reg
            adam, rate, batch = rules.adam[rule] != 0, rules.learning_rate[rule], rules.batch[rule]
            beta_1, beta_2, small = rules.beta_1[rule], rules.beta_2[rule], rules.epsilon[rule]
            rule_low, rule_high = rules.low[rule], rules.high[rule]
            each_step, keep_sign = rules.each_step[rule] != 0, rules.keep_sign[rule] != 0
            per = int(rules.kappa_per[rule])
            rewired, l1, noise = walk.on[rule] != 0, walk.l1[rule], walk.noise[rule]
            shrink = rules.shrink[rule]
            known_rule = rule
        low, high = rule_low, rule_high
        if keep_sign:
            if signs[synapse] > 0.0:
                low = max(low, 0.0)
            else:
                high = min(high, 0.0)
        if begins:  # nothing to be read; the weight has decayed and walked all the same
            if decays:
                if shrink != 1.0:
                    working[synapse] = min(max(working[synapse] * shrink ** (stamp - decayed[synapse]), low), high)
                    weights[synapse] = working[synapse]
                decayed[synapse] = stamp
            if rewired and batch == 1:
                weight = walked(working[synapse], signs[synapse] < 0.0, since[synapse], stamp, l1, noise, keys, tags[synapse])
                weights[synapse] = working[synapse] = min(max(weight, low), high)
                since[synapse] = ~stamp
            if mode == ARRIVE:
                last_spike[synapse] = stamp
                position[synapse] = stamp - 1
                if rewired:
                    since[synapse] = ~since[synapse]
            continue
        first = last - 1
        stop = min(stamp - 1, first + cutoff)
        alpha = site_alpha[site]
        rho, beta = site_rho[site], site_beta[site]
        if per and t < stop and not is_readout[site]:
            learnt.replay(state, synapse, site, per, alpha, rho, beta, kappa_reg, first, t, stop)
        elif t < stop:
            zbar, epsilon, ebar, ebar_reg = zbars[synapse], epsilons[synapse], ebars[synapse], ebars_reg[synapse]
            gradient, arriving = gradients[synapse], float(arrivals[synapse])
            readout = is_readout[site] != 0
            discount = discounts[site]
            rewarded = discount >= 0.0
            filtered = filtereds[synapse] if rewarded else 0.0
            for index in range(t, stop):
                slot = index & mask
                zbar = alpha * zbar + arriving
                arriving = 1.0 if index == first else 0.0  # the spike itself enters zbar at the index after `first`
                if readout:
                    part = history[site, slot, 1] * zbar
                    if rewarded:
                        filtered = discount * filtered + part
                        part = thirds[slot] * filtered
                else:
                    e = history[site, slot, 0] * (zbar - beta * epsilon)
                    epsilon = rho * epsilon + e
                    ebar = kappa * ebar + e
                    ebar_reg = kappa_reg * ebar_reg + gain_reg * e
                    if rewarded:  # the error behind L comes one step after psi, so the filter still ends with the one of this step
                        part = thirds[slot] * filtered + history[site, slot, 2] * ebar_reg
                        filtered = discount * filtered + history[site, slot, 1] * ebar
                    else:
                        part = history[site, slot, 1] * ebar + history[site, slot, 2] * ebar_reg
                if each_step:
                    working[synapse] *= shrink
                    working[synapse], collecteds[synapse], optimized[synapse], firsts[synapse], seconds[synapse] = optimize(
                        adam,
                        rate,
                        beta_1,
                        beta_2,
                        small,
                        batch,
                        low,
                        high,
                        index + 1,
                        part,
                        working[synapse],
                        collecteds[synapse],
                        int(optimized[synapse]),
                        firsts[synapse],
                        seconds[synapse],
                    )
                    if shrink != 1.0:
                        working[synapse] = min(max(working[synapse], low), high)
                else:
                    gradient += part
            zbars[synapse], epsilons[synapse], ebars[synapse], ebars_reg[synapse] = zbar, epsilon, ebar, ebar_reg
            gradients[synapse], arrivals[synapse] = gradient, np.uint8(arriving)
            if rewarded:
                filtereds[synapse] = filtered
        position[synapse] = max(t, stamp - 1)
        if mode == READ:
            continue
        if decays and shrink != 1.0:
            steps = stamp - decayed[synapse]
            if each_step:
                steps -= max(0, stop - decayed[synapse] + 1)  # those were replayed
            working[synapse] *= shrink**steps
        if not each_step:
            total, done = collecteds[synapse] + gradients[synapse], int(optimized[synapse])
            working[synapse], collecteds[synapse], optimized[synapse], firsts[synapse], seconds[synapse] = optimize(
                adam,
                rate,
                beta_1,
                beta_2,
                small,
                batch,
                -np.inf if rewired else low,
                np.inf if rewired else high,
                stamp - 1,
                gradients[synapse],
                working[synapse],
                collecteds[synapse],
                done,
                firsts[synapse],
                seconds[synapse],
            )
            gradients[synapse] = 0.0
            if rewired and optimized[synapse] != done:
                weight = walked(working[synapse], signs[synapse] < 0.0, since[synapse], stamp, l1, noise, keys, tags[synapse])
                working[synapse] = min(max(weight, low), high)
                since[synapse] = stamp
            if per and not is_readout[site]:
                stepped, at_bound = optimized[synapse] != done, not low < working[synapse] < high
                learnt.adapt(state, rules, synapse, site, rule, total / batch, stepped, at_bound)
        if decays:
            decayed[synapse] = stamp
            if shrink != 1.0:
                working[synapse] = min(max(working[synapse], low), high)
        weights[synapse] = working[synapse]
        if mode == ARRIVE:
            skipped = stamp - last - cutoff
            if skipped > 0:
                zbars[synapse] *= alpha**skipped
                ebars[synapse] *= kappa**skipped
                ebars_reg[synapse] *= kappa_reg**skipped
                epsilons[synapse] *= rho**skipped
                if discounts[site] >= 0.0:
                    filtereds[synapse] *= discounts[site] ** skipped
            last_spike[synapse] = stamp
            position[synapse] = stamp - 1


@njit(cache=True, nogil=True)
def errors(readouts: Readouts, state: NeuronState, inputs: Inputs, row: int) -> None:
    """Compute the error of every readout neuron in this step: (y - y*) or (softmax(y) - y*), times the window."""
    column = 0
    for readout in range(readouts.start.size):
        start, stop = readouts.start[readout], readouts.stop[readout]
        window = inputs.window[row, readout]
        top, total = -np.inf, 0.0
        if readouts.cross_entropy[readout]:
            for n in range(start, stop):
                top = max(top, state.v[n])
            for n in range(start, stop):
                total += np.exp(state.v[n] - top)
        for n in range(start, stop):
            y = np.exp(state.v[n] - top) / total if readouts.cross_entropy[readout] else state.v[n]
            state.error[n] = (y - inputs.target[row, column]) * window
            column += 1


@njit(cache=True, nogil=True)
def remember(sites: Sites, rules: Rules, dt_ms: float, neurons: NeuronState, state: EpropState, index: int) -> None:
    """Append entry ``index`` to every site's history: (psi, 0, reg) or a readout's (0, error, 0)."""
    slot = index & (state.history.shape[1] - 1)
    for site in range(sites.neuron.size):
        entry = state.history[site, slot]
        n, rule = sites.neuron[site], sites.rule[site]
        if sites.is_readout[site]:
            entry[1] = neurons.error[n]
        else:
            rate = rules.kappa_reg[rule] * state.rate[site] + (1.0 - rules.kappa_reg[rule]) * (neurons.spiked[n] / dt_ms)
            state.rate[site] = rate
            entry[0] = surrogate(rules.surrogate[rule], rules.height[rule], rules.per_width[rule], neurons.distance[n])
            entry[1] = 0.0
            entry[2] = rules.strength[rule] * (rate - rules.rate[rule])
    slope = state.slope
    for site in range(slope.shape[1]):
        slope[index & 1, site] = sites.alpha[site] * slope[(index - 1) & 1, site] + state.history[site, slot, 0]


@njit(cache=True, nogil=True)
def broadcast(
    feedback: Feedback,
    paths: Paths,
    error: F8,
    history: F8,
    slope: F8,
    static_weight: F8,
    eprop_weight: F8,
    stdp_weight: F8,
    index: int,
) -> None:
    """Add B_jk err_k of this step, index + 1, to the learning signals of entry ``index``; B that follows weights reads them as they are
    now."""
    readout, silent = feedback.neuron, True
    for k in range(readout.size):
        if error[readout[k]] != 0.0:
            silent = False
    if silent:
        return
    slot = index & (history.shape[1] - 1)
    for row in range(feedback.site.size):
        total = 0.0
        for k in range(readout.size):
            total += feedback.matrix[row, k] * error[readout[k]]
        history[feedback.site[row], slot, 1] += total
    for item in range(feedback.symmetric_site.size):
        table, position = feedback.symmetric_table[item], feedback.symmetric_index[item]
        if table == 0:
            weight = static_weight[position]
        elif table == 1:
            weight = eprop_weight[position]
        else:
            weight = stdp_weight[position]
        history[feedback.symmetric_site[item], slot, 1] += weight * error[readout[feedback.symmetric_readout[item]]]
    for level in range(paths.n_levels):
        for group in range(paths.level.size):
            if paths.level[group] == level:
                first, last = paths.first[group], paths.first[group + 1]
                signal = history[:, slot, 1]
                _follow(paths, first, last, error, signal, slope[index & 1], static_weight, eprop_weight, stdp_weight, index + 1)


@njit(cache=True, nogil=True)
def _follow(
    paths: Paths,
    first: int,
    last: int,
    error: F8,
    signal: F8,
    slope: F8,
    static_weight: F8,
    eprop_weight: F8,
    stdp_weight: F8,
    now: int,
) -> None:
    """Add what comes along paths to the learning signals of the sites first .. last-1. slope (S,): filtered psi of the same index."""
    pointer, targets, tables, index = paths.pointer, paths.target, paths.table, paths.weight_index
    offsets, kinds, powers = paths.offset, paths.decay, paths.decays**now
    for site in range(first, last):
        total = 0.0
        for item in range(pointer[site], pointer[site + 1]):
            table, k = tables[item], targets[item]
            if table == 0:
                weight = static_weight[index[item]]
            elif table == 1:
                weight = eprop_weight[index[item]]
            elif table == 2:
                weight = stdp_weight[index[item]]
            else:
                weight = 0.0
            if offsets.size:
                weight += offsets[item] * powers[kinds[item]]
            total += weight * (slope[k] * signal[k] if k >= 0 else error[~k])
        signal[site] += total
