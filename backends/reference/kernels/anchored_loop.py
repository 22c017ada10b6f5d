"""The stepping loop of the anchored engine: as ``loop``, with every neuron and synapse owned by one range."""

from __future__ import annotations

import numpy as np
from numba import njit

from neurocompile.backends.reference.kernels import anchored, eprop, reward
from neurocompile.backends.reference.kernels.anchored_tables import (
    ANCHOR,
    DUE,
    WINDOW,
    AnchoredConstants,
    FullState,
    StaticBlocks,
)
from neurocompile.backends.reference.kernels.intrinsics import wait
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
    Inputs,
    Probes,
)


@njit(cache=True, nogil=True)
def _deliver_static(table: StaticBlocks, weight: F8, ring: F8, pending: I4, count: int, step: int, part: int) -> int:
    slots, events = ring.shape[0], 0
    pointer, target, delay = table.pointer, table.target, table.delay
    for item in range(count):
        first, last = pointer[part, pending[item]], pointer[part, pending[item] + 1]
        for synapse in range(first, last):
            ring[(step - 1 + delay[synapse]) % slots, target[synapse]] += weight[synapse]
        events += last - first
    return events


@njit(cache=True, nogil=True)
def _advance(
    constants: AnchoredConstants, state: FullState, inputs: Inputs, row: int, learn: bool, part: int, spikes: I4
) -> tuple[int, int]:
    """Deliver to one range and update its neurons; write its spikes to ``spikes`` from the range's first neuron on. Return how many spikes
    and synaptic events there were."""
    clock, neurons = state.clock, state.neurons
    step, now = clock[STEP], clock[LEARNING_STEP]
    ring = neurons.ring
    events = 0
    if state.static_weight.size:
        events += _deliver_static(constants.static, state.static_weight, ring, neurons.pending, clock[N_PENDING], step, part)
    events += anchored.deliver(constants, state.learning, clock, ring[step % ring.shape[0]], step, now, part, learn)
    begin, end = constants.range[part], constants.range[part + 1]
    count = update(constants.neurons, neurons, inputs, row, step, constants.seed, begin, end, spikes[begin:end])
    return count, events


@njit(cache=True, nogil=True)
def _hears(constants: AnchoredConstants, error: F8, learned_last: bool) -> bool:
    """Return whether any learning signal of this step differs from 0."""
    if learned_last:
        for n in constants.feedback.neuron:
            if error[n] != 0.0:
                return True
    return False


@njit(cache=True, nogil=True)
def _gather(constants: AnchoredConstants, state: FullState, found: I4, by_part: I8, spikes: I4, n_spikes: int) -> int:
    """Take in the spikes of all ranges: for the next step, for delays, and for the caller (from ``n_spikes`` on). Return their number."""
    pending, clock, learning = state.neurons.pending, state.clock, state.learning
    count = 0
    for part in range(by_part.shape[0]):
        begin, number = constants.range[part], by_part[part, 0]
        pending[count : count + number] = found[begin : begin + number]
        count += number
        clock[N_EVENTS] += by_part[part, 1]
    slot = clock[STEP] % learning.log_count.size
    learning.log[slot, :count] = pending[:count]
    learning.log_count[slot] = count
    spikes[n_spikes : n_spikes + count] = pending[:count]
    clock[N_PENDING] = count
    return count


@njit(cache=True, nogil=True)
def run(
    constants: AnchoredConstants,
    state: FullState,
    inputs: Inputs,
    probes: Probes,
    n_steps: int,
    learn: bool,
    thread: int,
    n_threads: int,
    arrivals: I8,
    found: I4,
    by_part: I8,
) -> tuple[I4, I8]:
    """Run ``n_steps`` steps in place, as one of ``n_threads`` threads that all call this with the same arguments.

    Thread i owns the ranges i, i + n_threads, ...; thread 0 also does what is not split. arrivals: see ``intrinsics.wait``; found (N,),
    by_part (R, 8): room for the spikes of a step and what each range reports. Thread 0 returns the neurons that spiked, and how many they
    were in each step.
    """
    clock, neurons, learning = state.clock, state.neurons, state.learning
    n_neurons, n_parts = neurons.v.size, constants.range.size - 1
    spikes = np.empty(1024 + n_neurons if thread == 0 else 0, np.int32)
    counts = np.zeros(n_steps if thread == 0 else 0, np.int64)
    n_spikes, rewarded = 0, constants.reward.policy >= 0
    for row in range(n_steps):
        step, now = clock[STEP], clock[LEARNING_STEP]
        if learn and (clock[DUE] != 0 or now - clock[ANCHOR] >= clock[WINDOW]):
            for part in range(thread, n_parts, n_threads):
                anchored.sweep(constants, learning, clock, now, part)
            wait(arrivals, thread, n_threads)
            if thread == 0:
                anchored.move_anchor(constants, learning, clock, now)
                clock[DUE] = 0
            wait(arrivals, thread, n_threads)
        for part in range(thread, n_parts, n_threads):
            by_part[part, 0], by_part[part, 1] = _advance(constants, state, inputs, row, learn, part, found)
        wait(arrivals, thread, n_threads)
        if thread == 0:
            if learn:
                anchored.mark_arrivals(constants, learning, clock, step, now)
            if spikes.size < n_spikes + n_neurons:
                larger = np.empty(2 * (n_spikes + n_neurons), np.int32)
                larger[:n_spikes] = spikes[:n_spikes]
                spikes = larger
            counts[row] = _gather(constants, state, found, by_part, spikes, n_spikes)
            n_spikes += counts[row]
            eprop.errors(constants.readouts, neurons, inputs, row)
            if rewarded:
                goes_on = clock[LEARNED_LAST] != 0
                past = state.reward
                reward.act(constants.readouts, constants.reward, constants.seed, neurons, past, inputs, probes.outcome, row, step, goes_on)
                if learn:
                    anchored.reach(constants.groups, learning.reach, past.reward_last[THIRD], now - clock[ANCHOR])
        wait(arrivals, thread, n_threads)
        if learn:
            heard = _hears(constants, neurons.error, clock[LEARNED_LAST] != 0)
            known = heard and constants.paths.n_levels > 1
            for level in range(constants.paths.n_levels if known else 0):
                for part in range(thread, n_parts, n_threads):
                    anchored.chain(constants, learning, state.static_weight, neurons.error, now, part, level)
                wait(arrivals, thread, n_threads)
            for part in range(thread, n_parts, n_threads):
                third = state.reward.reward_last[THIRD] if rewarded else 0.0
                by_part[part, 2] = anchored.absorb(constants, learning, neurons, state.static_weight, clock, now, part, heard, third, known)
            wait(arrivals, thread, n_threads)
        if thread == 0:
            if learn:
                for part in range(n_parts):
                    clock[DUE] |= by_part[part, 2]
            record(constants.sites, constants.rules, constants.readouts, neurons, learning.signal[(now - 1) & 1], probes, row)
            clock[STEP] += 1
            clock[LEARNING_STEP] += learn
            clock[LEARNED_LAST] = learn
        wait(arrivals, thread, n_threads)
    return spikes[:n_spikes].copy(), counts
