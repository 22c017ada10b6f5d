"""The stepping loop: deliver, update, compare, remember, record."""

from __future__ import annotations

import numpy as np
from numba import njit

from neurocompile.backends.reference.kernels import eprop, kappa, reward, stdp
from neurocompile.backends.reference.kernels.neurons import update
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
    THIRD,
    Constants,
    EpropState,
    Inputs,
    Probes,
    State,
    Synapses,
)


@njit(cache=True, nogil=True)
def deliver_static(table: Synapses, weight: F8, ring: F8, pending: I4, count: int, step: int) -> int:
    """Put the spikes of the last step into the ring; return how many synapses that were."""
    slots, events = ring.shape[0], 0
    for item in range(count):
        first, last = table.pointer[pending[item]], table.pointer[pending[item] + 1]
        for synapse in range(first, last):
            ring[(step - 1 + table.delay[synapse]) % slots, table.target[synapse]] += weight[synapse]
        events += last - first
    return events


@njit(cache=True, nogil=True)
def _deliver_eprop(constants: Constants, state: EpropState, now: F8, pending: I4, count: int, step: int, stamp: int, learn: bool) -> int:
    """Note the spikes of the last step and let those arrive at plastic synapses that have travelled long enough; the synapses change
    first. Return how many synapses that were."""
    table, sites, events = constants.eprop, constants.sites, 0
    log, slots = state.eprop_log, state.eprop_log_count.size
    pointer, target, neuron, weight = table.pointer, table.target, sites.neuron, state.eprop_weight
    log[(step - 1) % slots, :count] = pending[:count]
    state.eprop_log_count[(step - 1) % slots] = count
    for group in range(table.delay.size):
        slot = (step - table.delay[group]) % slots
        for item in range(state.eprop_log_count[slot]):
            source = log[slot, item]
            first, last = pointer[group, source], pointer[group, source + 1]
            if learn and last > first:
                eprop.visit(target, sites, constants.rules, constants.sign, constants.walk, state, first, last, stamp, eprop.ARRIVE)
            for synapse in range(first, last):
                now[neuron[target[synapse]]] += weight[synapse]
            events += last - first
    return events


@njit(cache=True, nogil=True)
def run(constants: Constants, state: State, inputs: Inputs, probes: Probes, n_steps: int, learn: bool) -> tuple[I4, I8]:
    """Run ``n_steps`` steps in place; return the neurons that spiked, and how many they were in each step."""
    neurons, sites, rules = state.neurons, constants.sites, constants.rules
    history, pending, ring = state.eprop.history, neurons.pending, neurons.ring
    has_stdp, rewarded = state.stdp.stdp_weight.size > 0, constants.reward.policy >= 0
    owns_kappa = state.eprop.site_kappa.size > 0
    n_neurons = neurons.v.size
    spikes = np.empty(1024 + n_neurons, np.int32)
    counts = np.empty(n_steps, np.int64)
    n_spikes = 0
    clock = state.clock
    for row in range(n_steps):
        step, index, count = clock[STEP], clock[LEARNING_STEP], clock[N_PENDING]
        if learn and index % (history.shape[1] // 2) == 0:
            n_synapses = state.eprop.position.size
            table, walk = constants.eprop, constants.walk
            eprop.visit(table.target, sites, rules, constants.sign, walk, state.eprop, 0, n_synapses, index, eprop.READ)
        now = ring[step % ring.shape[0]]
        clock[N_EVENTS] += deliver_static(constants.static, state.static_weight, ring, pending, count, step)
        clock[N_EVENTS] += _deliver_eprop(constants, state.eprop, now, pending, count, step, index, learn)
        if learn and owns_kappa:
            kappa.settle(sites, rules, state.eprop, index - 1)
        if has_stdp:
            clock[N_EVENTS] += stdp.deliver(
                constants.stdp, constants.stdp_rules, constants.dt_ms * 1e-3, state.stdp, now, pending, count, step, index, learn
            )
        if spikes.size < n_spikes + n_neurons:
            larger = np.empty(2 * (n_spikes + n_neurons), np.int32)
            larger[:n_spikes] = spikes[:n_spikes]
            spikes = larger
        count = update(constants.neurons, neurons, inputs, row, step, constants.seed, 0, n_neurons, pending)
        spikes[n_spikes : n_spikes + count] = pending[:count]
        n_spikes += count
        counts[row] = count
        clock[N_PENDING] = count
        if learn and has_stdp:
            stdp.potentiate(constants.stdp, constants.stdp_rules, constants.dt_ms * 1e-3, state.stdp, pending, count, index)
        eprop.errors(constants.readouts, neurons, inputs, row)
        if rewarded:
            goes_on = clock[LEARNED_LAST] != 0
            reward.act(
                constants.readouts, constants.reward, constants.seed, neurons, state.reward, inputs, probes.outcome, row, step, goes_on
            )
            if learn:
                state.eprop.third[(index - 1) & (history.shape[1] - 1)] = state.reward.reward_last[THIRD]
        if learn:
            eprop.remember(sites, rules, constants.dt_ms, neurons, state.eprop, index)
            if clock[LEARNED_LAST]:  # otherwise entry index-1 does not belong to the step before
                weights = state.eprop.eprop_weight
                stdp_weight, paths = state.stdp.stdp_weight, constants.paths
                slope = state.eprop.slope
                eprop.broadcast(
                    constants.feedback, paths, neurons.error, history, slope, state.static_weight, weights, stdp_weight, index - 1
                )
        record(sites, rules, constants.readouts, neurons, history[:, (index - 2) & (history.shape[1] - 1), 1], probes, row)
        clock[STEP] += 1
        clock[LEARNING_STEP] += learn
        clock[LEARNED_LAST] = learn
    return spikes[:n_spikes].copy(), counts
