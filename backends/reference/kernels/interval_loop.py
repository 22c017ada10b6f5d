"""The stepping loop of the original formulation: deliver, restart, update, compare, remember, end intervals, record.

Sources, hidden neurons and readouts begin their k-th interval in steps kT, kT+1 and kT+2: a spike needs a step from each to the next.
``phase`` is the step within the readouts' interval; the hidden neurons are one ahead.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neurocompile.backends.reference.kernels import eprop, interval
from neurocompile.backends.reference.kernels import interval_neurons as neuron_kernels
from neurocompile.backends.reference.kernels.interval_tables import INTERVAL, LEARNED, LEARNED_BEFORE, FullState, Interval, IntervalState
from neurocompile.backends.reference.kernels.loop import deliver_static
from neurocompile.backends.reference.kernels.record import record
from neurocompile.backends.reference.kernels.tables import (
    F8,
    I4,
    I8,
    LEARNED_LAST,
    LEARNING_STEP,
    N_EVENTS,
    N_PENDING,
    STEP,
    Constants,
    Inputs,
    NeuronState,
    Probes,
    Readouts,
    Rules,
    Sites,
    Synapses,
)


@njit(cache=True, nogil=True)
def _deliver_plastic(
    constants: Constants,
    table: Synapses,
    steps: Interval,
    state: IntervalState,
    now: F8,
    pending: I4,
    count: int,
    step: int,
    number: int,
    learn: bool,
) -> int:
    """Let the spikes of the last step arrive at plastic synapses, which change first; return how many transmitted. What arrives in the
    hidden neurons' first step of an interval is lost."""
    sites, events = constants.sites, 0
    pointer, target, neuron, is_readout, weight = table.pointer, table.target, sites.neuron, sites.is_readout, state.eprop_weight
    hidden_lost = (step - 1) % steps.steps == 0
    for item in range(count):
        source = pending[item]
        first, last = pointer[source], pointer[source + 1]
        if learn and last > first and step >= 2:
            phase = (step - 2) % steps.steps
            interval.arrive(table, sites, constants.rules, constants.sign, steps, state, source, phase, number)
        for synapse in range(first, last):
            site = target[synapse]
            if not hidden_lost or is_readout[site]:
                now[neuron[site]] += weight[synapse]
                events += 1
    return events


@njit(cache=True, nogil=True)
def _compare(readouts: Readouts, steps: Interval, neurons: NeuronState, inputs: Inputs, row: int, step: int) -> None:
    """Compute the readouts' errors; outside the learning window they are 0."""
    eprop.errors(readouts, neurons, inputs, row)
    if step < 2 or (step - 2) % steps.steps < steps.steps - steps.window:
        for readout in range(readouts.start.size):
            neurons.error[readouts.start[readout] : readouts.stop[readout]] = 0.0


@njit(cache=True, nogil=True)
def _remember(sites: Sites, rules: Rules, steps: Interval, neurons: NeuronState, state: IntervalState, step: int, learn: bool) -> None:
    """Keep psi of this step and count spikes; at the end of the hidden neurons' interval regularise."""
    column = (step - 1) % steps.steps
    for site in range(sites.neuron.size):
        if sites.is_readout[site]:
            continue
        n, rule = sites.neuron[site], sites.rule[site]
        psi = 0.0
        if learn:
            psi = eprop.surrogate(rules.surrogate[rule], rules.height[rule], rules.per_width[rule], neurons.distance[n])
            state.n_spikes[site] += neurons.spiked[n]
        if step >= 1:
            state.psi[site, column] = psi
            if column == steps.steps - 1:
                state.reg[site] = rules.strength[rule] * (state.n_spikes[site] / steps.steps - rules.rate[rule]) / steps.steps
                state.n_spikes[site] = 0


@njit(cache=True, nogil=True)
def run(
    constants: Constants,
    plastic: Synapses,
    steps: Interval,
    state: FullState,
    inputs: Inputs,
    probes: Probes,
    n_steps: int,
    learn: bool,
) -> tuple[I4, I8]:
    """Run ``n_steps`` steps in place; return the neurons that spiked, and how many they were in each step. ``plastic``: the e-prop
    synapses by source."""
    clock, neurons, learning, sites, rules = state.clock, state.neurons, state.learning, constants.sites, constants.rules
    pending, ring, n_neurons = neurons.pending, neurons.ring, neurons.v.size
    spikes = np.empty(1024 + n_neurons, np.int32)
    counts = np.empty(n_steps, np.int64)
    n_spikes = 0
    for row in range(n_steps):
        step, count = clock[STEP], clock[N_PENDING]
        phase = (step - 2) % steps.steps
        if step % steps.steps == 0:
            clock[LEARNED_BEFORE], clock[LEARNED] = clock[LEARNED], 0
        if learn:
            clock[LEARNED] = 1
        now = ring[step % ring.shape[0]]
        clock[N_EVENTS] += deliver_static(constants.static, state.static_weight, ring, pending, count, step)
        clock[N_EVENTS] += _deliver_plastic(constants, plastic, steps, learning, now, pending, count, step, clock[INTERVAL], learn)
        if steps.reset and step % steps.steps == 1:
            neuron_kernels.restart(constants.neurons, steps, neurons, False)
        if steps.reset and step >= 2 and phase == 0:
            neuron_kernels.restart(constants.neurons, steps, neurons, True)
        if spikes.size < n_spikes + n_neurons:
            larger = np.empty(2 * (n_spikes + n_neurons), np.int32)
            larger[:n_spikes] = spikes[:n_spikes]
            spikes = larger
        count = neuron_kernels.update(constants.neurons, steps, neurons, inputs, row, step, constants.seed, pending)
        spikes[n_spikes : n_spikes + count] = pending[:count]
        n_spikes += count
        counts[row] = count
        clock[N_PENDING] = count
        _compare(constants.readouts, steps, neurons, inputs, row, step)
        heard = learning.heard
        heard[0] = heard[1]
        heard[1] = 0.0
        if learn:
            if clock[LEARNED_LAST]:  # otherwise the hidden neurons' entry of the last step was not learned
                interval.hear(constants.feedback, neurons.error, heard[1], state.static_weight, learning.eprop_weight)
            for site in range(sites.neuron.size):
                if sites.is_readout[site]:
                    heard[1, site] = neurons.error[sites.neuron[site]]
        if step >= 2:
            learning.signal[:, phase] = heard[1]
            if phase == steps.steps - 1:
                if clock[LEARNED_BEFORE]:
                    interval.differentiate(sites, rules, steps, learning)
                    interval.collect(plastic, sites, steps, learning, pending, count)
                    clock[INTERVAL] += 1
                else:
                    learning.arrivals[:] = 0
                    learning.unlearned[:] = 0
        _remember(sites, rules, steps, neurons, learning, step, learn)
        record(sites, rules, constants.readouts, neurons, heard[0], probes, row)
        clock[STEP] += 1
        clock[LEARNING_STEP] += learn
        clock[LEARNED_LAST] = learn
    return spikes[:n_spikes].copy(), counts
