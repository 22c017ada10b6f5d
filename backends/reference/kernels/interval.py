"""The original formulation of e-prop: one gradient a synapse and interval (docs/eprop.md has the recurrences and their timing).

Within an interval everything is linear in the presynaptic spikes, and no weight changes by what the interval itself has shown. So the
gradient of synapse i -> j is a sum over the spikes of i of a function of j alone, dE/dz of a spike that arrives in step s:

    F(t) = (1-kappa) L(t) + kappa F(t+1)        lambda(t) = F(t) + reg + A(t+1)        A(t) = rho A(t+1) - beta psi(t) lambda(t)
    D(s) = alpha D(s+1) + psi(s) lambda(s)      g_ij = gain sum_s D_j(s)               (readout: D(s) = alpha D(s+1) + err(s))

that is the adjoint of zbar, eps and ebar. It runs backwards over an interval once for each neuron, grows nowhere (all factors are decays),
and leaves one addition for each spike and synapse. Kept are psi and L of one interval for each neuron, and one bit a step for each source.
"""

from __future__ import annotations

import numpy as np
from numba import njit, uint64

from neurocompile.backends.reference.kernels.eprop import optimize
from neurocompile.backends.reference.kernels.interval_tables import HIDDEN, READOUT, WORD, Interval, IntervalState
from neurocompile.backends.reference.kernels.tables import F8, I4, Feedback, Rules, Sites, Synapses


@njit(cache=True, nogil=True)
def differentiate(sites: Sites, rules: Rules, interval: Interval, state: IntervalState) -> None:
    """Turn an interval's histories into derivatives by a spike that arrives in each step: ``psi`` holds them afterwards, ``signal`` of
    hidden sites the same without the last step's L."""
    for site in range(sites.neuron.size):
        psi, signal = state.psi[site], state.signal[site]
        alpha, gain = sites.alpha[site], interval.gain[sites.neuron[site]] * interval.scale
        derivative = late = 0.0
        if sites.is_readout[site]:
            for step in range(interval.steps - 1, -1, -1):
                derivative = signal[step] + alpha * derivative
                psi[step] = gain * derivative
            continue
        rho, beta, reg, kappa = sites.rho[site], sites.beta[site], state.reg[site], rules.kappa[sites.rule[site]]
        follows = late_follows = adapts = late_adapts = 0.0
        for step in range(interval.steps - 1, -1, -1):
            heard = (1.0 - kappa) * signal[step]
            follows = heard + kappa * follows
            late_follows = (heard if step < interval.steps - 1 else 0.0) + kappa * late_follows
            part, late_part = psi[step] * (follows + reg + adapts), psi[step] * (late_follows + reg + late_adapts)
            adapts, late_adapts = rho * adapts - beta * part, rho * late_adapts - beta * late_part
            derivative, late = part + alpha * derivative, late_part + alpha * late
            psi[step], signal[step] = gain * derivative, gain * late


@njit(cache=True, nogil=True)
def collect(table: Synapses, sites: Sites, interval: Interval, state: IntervalState, just: I4, n_just: int) -> None:
    """Add the derivatives to the gradients of all synapses whose source has spiked in the interval, and forget the spikes.

    ``just``: sources that spiked in this step. Their synapses change in the next one, when the last step's learning signal is still on its
    way in NEST, whose readouts take one step to compare.
    """
    # Locals: reading a field of a named tuple inside the loop costs reference counting.
    pointer, target, is_readout, gradient = table.pointer, table.target, sites.is_readout, state.gradient
    on_time, short_of_last = state.psi, state.signal
    found = np.empty(interval.steps, np.int64)
    late = np.zeros(state.unlearned.size, np.uint8)
    for item in range(n_just):
        late[just[item]] = 1
    for source in range(state.unlearned.size):
        n_found = 0
        for word in range(state.arrivals.shape[1]):
            bits = state.arrivals[source, word]
            state.arrivals[source, word] = uint64(0)
            step = word * WORD
            while bits != uint64(0):
                if bits & uint64(1):
                    found[n_found] = step
                    n_found += 1
                bits = bits >> uint64(1)
                step += 1
        skipped = int(state.unlearned[source])
        state.unlearned[source] = 0
        if n_found == 0:
            continue
        n_hidden = n_found - (found[n_found - 1] == interval.steps - 1)  # in the last of these steps nothing arrives at hidden neurons
        table_of_hidden = short_of_last if late[source] else on_time
        for synapse in range(pointer[source], pointer[source + 1]):
            site = target[synapse]
            total = 0.0
            if is_readout[site]:
                for item in range(skipped, n_found):
                    total += on_time[site, found[item]]
            else:
                for item in range(n_hidden):
                    total += table_of_hidden[site, found[item] + 1]
            gradient[synapse] += total


@njit(cache=True, nogil=True)
def apply(
    table: Synapses, sites: Sites, rules: Rules, signs: F8, interval: Interval, state: IntervalState, source: int, kind: int, number: int
) -> None:
    """Hand the gradients of a source's synapses to hidden neurons or readouts to their optimizers, in update interval ``number``."""
    done = 1 + int(state.updated[source, kind]) // interval.batch
    state.updated[source, kind] = number
    has_moments, waits = state.first_moment.size > 0, state.collected.size > 0
    for synapse in range(table.pointer[source], table.pointer[source + 1]):
        site = table.target[synapse]
        if (sites.is_readout[site] != 0) != (kind == READOUT):
            continue
        rule = sites.rule[site]
        low, high = rules.low[rule], rules.high[rule]
        if rules.keep_sign[rule]:
            if signs[synapse] > 0.0:
                low = max(low, 0.0)
            else:
                high = min(high, 0.0)
        weight, collected, _, first, second = optimize(
            rules.adam[rule] != 0,
            rules.learning_rate[rule],
            rules.beta_1[rule],
            rules.beta_2[rule],
            rules.epsilon[rule],
            interval.batch,
            low,
            high,
            number,
            state.gradient[synapse],
            state.eprop_weight[synapse],
            state.collected[synapse] if waits else 0.0,
            done,
            state.first_moment[synapse] if has_moments else 0.0,
            state.second_moment[synapse] if has_moments else 0.0,
        )
        state.eprop_weight[synapse], state.gradient[synapse] = weight, 0.0
        if waits:
            state.collected[synapse] = collected
        if has_moments:
            state.first_moment[synapse], state.second_moment[synapse] = first, second


@njit(cache=True, nogil=True)
def arrive(
    table: Synapses,
    sites: Sites,
    rules: Rules,
    signs: F8,
    interval: Interval,
    state: IntervalState,
    source: int,
    phase: int,
    number: int,
) -> None:
    """Let a spike arrive at a source's synapses in step ``phase`` of the readouts' interval ``number``: due updates happen, and the
    spike is noted."""
    if phase < interval.steps - 1 and number > state.updated[source, HIDDEN]:  # in the hidden neurons' first step nothing arrives
        apply(table, sites, rules, signs, interval, state, source, HIDDEN, number)
    if number > state.updated[source, READOUT]:
        if phase == 0 and number == state.updated[source, READOUT] + 1:  # NEST's condition for an update is t > the interval's end
            state.unlearned[source] = 1
        else:
            apply(table, sites, rules, signs, interval, state, source, READOUT, number)
    state.arrivals[source, phase // WORD] |= uint64(1) << uint64(phase % WORD)


@njit(cache=True, nogil=True)
def hear(feedback: Feedback, error: F8, heard: F8, static_weight: F8, eprop_weight: F8) -> None:
    """Write the learning signals B_jk err_k of this step to ``heard``, (S,); symmetric B reads the weights as they are now."""
    heard[:] = 0.0
    readout = feedback.neuron
    for row in range(feedback.site.size):
        total = 0.0
        for k in range(readout.size):
            total += feedback.matrix[row, k] * error[readout[k]]
        heard[feedback.site[row]] = total
    for item in range(feedback.symmetric_site.size):
        position = feedback.symmetric_index[item]
        weight = static_weight[position] if feedback.symmetric_table[item] == 0 else eprop_weight[position]
        heard[feedback.symmetric_site[item]] += weight * error[readout[feedback.symmetric_readout[item]]]


@njit(cache=True, nogil=True)
def apply_all(table: Synapses, sites: Sites, rules: Rules, signs: F8, interval: Interval, state: IntervalState, number: int) -> None:
    """Apply the gradients of all complete intervals."""
    for source in range(state.unlearned.size):
        for kind in (HIDDEN, READOUT):
            if number > state.updated[source, kind]:
                apply(table, sites, rules, signs, interval, state, source, kind, number)
