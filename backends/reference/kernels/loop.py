"""The stepping loop: deliver, update, compare, remember, record."""

from __future__ import annotations

import numpy as np
from numba import njit

from neurocompile.backends.reference.kernels import eprop, stdp
from neurocompile.backends.reference.kernels.neurons import update
from neurocompile.backends.reference.kernels.tables import (
    I4,
    I8,
    LEARNED_LAST,
    LEARNING_STEP,
    N_EVENTS,
    N_PENDING,
    STEP,
    Constants,
    Inputs,
    Probes,
    State,
)


@njit(cache=True, nogil=True)
def _deliver(constants: Constants, state: State, learn: bool) -> None:
    """Deliver the spikes of the last step: static synapses, then plastic ones, source by source in ascending order."""
    step, stamp = state.clock[STEP], state.clock[LEARNING_STEP]
    slots = state.ring.shape[0]
    now = state.ring[step % slots]
    static, plastic = constants.static, constants.eprop
    events = 0
    for item in range(state.clock[N_PENDING]):
        source = state.pending[item]
        first, last = static.pointer[source], static.pointer[source + 1]
        for synapse in range(first, last):
            state.ring[(step - 1 + static.delay[synapse]) % slots, static.target[synapse]] += state.static_weight[synapse]
        events += last - first
        first, last = plastic.pointer[source], plastic.pointer[source + 1]
        if learn and last > first:
            eprop.visit(constants, state, first, last, stamp, eprop.ARRIVE)
        for synapse in range(first, last):
            now[constants.sites.neuron[plastic.target[synapse]]] += state.eprop_weight[synapse]
        events += last - first
    state.clock[N_EVENTS] += events


@njit(cache=True, nogil=True)
def _record(constants: Constants, state: State, probes: Probes, row: int) -> None:
    for item in range(probes.membrane_ids.size):
        probes.membrane[row, item] = state.v[probes.membrane_ids[item]]
    for item in range(probes.adaptation_ids.size):
        probes.adaptation[row, item] = state.adaptation[probes.adaptation_ids[item]]
    for item in range(probes.surrogate_ids.size):
        site = probes.surrogate_ids[item]
        rules, rule = constants.rules, constants.sites.rule[site]
        distance = state.distance[constants.sites.neuron[site]]
        probes.surrogate[row, item] = eprop.surrogate(rules.surrogate[rule], rules.height[rule], rules.width[rule], distance)
    slot = (state.clock[LEARNING_STEP] - 2) & (state.history.shape[1] - 1)
    for item in range(probes.signal_ids.size):
        site = probes.signal_ids[item]
        if constants.sites.is_readout[site]:
            probes.signal[row, item] = state.error[constants.sites.neuron[site]]
        else:
            probes.signal[row, item] = state.history[site, slot, 1] if state.clock[LEARNING_STEP] >= 2 else 0.0
    column = 0
    for readout in range(constants.readouts.start.size):
        for n in range(constants.readouts.start[readout], constants.readouts.stop[readout]):
            probes.output[row, column] = state.v[n]
            column += 1


@njit(cache=True, nogil=True)
def run(constants: Constants, state: State, inputs: Inputs, probes: Probes, n_steps: int, learn: bool) -> tuple[I4, I8]:
    """Run ``n_steps`` steps in place; return the neurons that spiked, and how many they were in each step."""
    n_neurons = state.v.size
    spikes = np.empty(1024 + n_neurons, np.int32)
    counts = np.empty(n_steps, np.int64)
    n_spikes = 0
    clock = state.clock
    for row in range(n_steps):
        index = clock[LEARNING_STEP]
        if learn and index % (state.history.shape[1] // 2) == 0:
            eprop.visit(constants, state, 0, state.position.size, index, eprop.READ)
        _deliver(constants, state, learn)
        if state.stdp_weight.size > 0:
            stdp.deliver(constants, state, learn)
        if spikes.size < n_spikes + n_neurons:
            larger = np.empty(2 * (n_spikes + n_neurons), np.int32)
            larger[:n_spikes] = spikes[:n_spikes]
            spikes = larger
        count = update(constants.neurons, state, inputs, row, clock[STEP], constants.seed, state.pending)
        spikes[n_spikes : n_spikes + count] = state.pending[:count]
        n_spikes += count
        counts[row] = count
        clock[N_PENDING] = count
        if learn and state.stdp_weight.size > 0:
            stdp.potentiate(constants, state, state.pending, count)
        eprop.errors(constants, state, inputs, row)
        if learn:
            eprop.remember(constants, state, index)
            if clock[LEARNED_LAST]:  # otherwise entry index-1 does not belong to the step before
                eprop.broadcast(constants, state, index - 1)
        _record(constants, state, probes, row)
        clock[STEP] += 1
        clock[LEARNING_STEP] += learn
        clock[LEARNED_LAST] = learn
    return spikes[:n_spikes].copy(), counts
