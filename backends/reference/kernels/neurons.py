"""One update step of all neurons (docs/eprop.md, section "Neurons")."""

from __future__ import annotations

import numpy as np
from numba import njit, uint64

from neurocompile.backends.reference.kernels.tables import (
    F8,
    I4,
    POISSON,
    READOUT,
    SOURCE,
    SUBTRACT,
    Inputs,
    Neurons,
    NeuronState,
)


@njit(cache=True, nogil=True)
def link(x: np.uint64, word: int) -> np.uint64:
    """Return the next word of a chain: SplitMix64's finaliser of x and ``word``."""
    x = x + uint64(word) * uint64(0x9E3779B97F4A7C15) + uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> uint64(27))) * uint64(0x94D049BB133111EB)
    return x ^ (x >> uint64(31))


@njit(cache=True, nogil=True)
def uniform(seed: int, neuron: int, step: int) -> float:
    """Return a number in [0, 1) that depends on (seed, neuron, step) alone: a chain of the three words."""
    return float(link(link(uint64(seed), neuron), step) >> uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True)
def update(neurons: Neurons, state: NeuronState, inputs: Inputs, row: int, step: int, seed: int, begin: int, end: int, spikes: I4) -> int:
    """Advance the neurons begin .. end-1 by one step; write those that spike to ``spikes`` in ascending order and return how many."""
    count = 0
    ring = state.ring[step % state.ring.shape[0]]
    probabilities, spiked = neurons.probability, state.spiked
    given = inputs.pointer[row]
    while given < inputs.pointer[row + 1] and inputs.neuron[given] < begin:
        given += 1
    for population in range(neurons.start.size):
        start, stop = max(neurons.start[population], begin), min(neurons.stop[population], end)
        if start >= stop:
            continue
        kind = neurons.kind[population]
        if kind == SOURCE:
            if inputs.source_mode[population] == POISSON:
                for n in range(start, stop):
                    fires = uniform(seed, n, step) < probabilities[n]
                    spiked[n] = fires
                    if fires:
                        spikes[count] = n
                        count += 1
            else:
                spiked[start:stop] = 0
                while given < inputs.pointer[row + 1] and inputs.neuron[given] < stop:
                    spikes[count] = inputs.neuron[given]
                    spiked[inputs.neuron[given]] = 1
                    count += 1
                    given += 1
        elif kind == READOUT:
            for n in range(start, stop):
                state.current[n] = neurons.current_decay[n] * state.current[n] + ring[n]
                ring[n] = 0.0
                v = neurons.decay[n] * state.v[n] + state.current[n] + neurons.constant[n]
                state.v[n] = max(v, neurons.v_min[n])
        elif neurons.uniform[population]:
            count = _uniform(neurons, state, ring, start, stop, kind == SUBTRACT, spikes, count)
        else:
            count = _spiking(neurons, state, ring, start, stop, kind == SUBTRACT, neurons.adaptive[population] != 0, spikes, count)
    return count


@njit(cache=True, nogil=True)
def _spiking(
    neurons: Neurons, state: NeuronState, ring: F8, start: int, stop: int, subtract: bool, adaptive: bool, spikes: I4, count: int
) -> int:
    # Locals: reading a field of a named tuple inside the loop costs reference counting.
    decays, constants, thresholds, floors, steps = neurons.decay, neurons.constant, neurons.threshold, neurons.v_min, neurons.refractory
    current_decays, soft_resets, resets = neurons.current_decay, neurons.soft_reset, neurons.v_reset
    betas, adapt_decays = neurons.adapt_beta, neurons.adapt_decay
    vs, currents, refractories, adaptations = state.v, state.current, state.refractory, state.adaptation
    spiked, distances = state.spiked, state.distance
    for n in range(start, stop):
        current = current_decays[n] * currents[n] + ring[n]
        currents[n] = current
        ring[n] = 0.0
        refractory = refractories[n]
        if subtract:
            if refractory > 0:
                refractory -= 1
            v = max(decays[n] * vs[n] + current + constants[n], floors[n])
        elif refractory == 0:
            v = max(decays[n] * vs[n] + current + constants[n], floors[n])
        else:
            refractory -= 1
            v = vs[n]
        threshold = thresholds[n]
        if adaptive:
            adaptation = adapt_decays[n] * adaptations[n] + spiked[n]
            adaptations[n] = adaptation
            threshold += betas[n] * adaptation
        distances[n] = v - threshold if refractory == 0 else np.inf
        fires = refractory == 0 and v >= threshold
        if fires:
            refractory = steps[n]
            v = v - soft_resets[n] if subtract else resets[n]
            spikes[count] = n
            count += 1
        spiked[n] = fires
        vs[n] = v
        refractories[n] = refractory
    return count


@njit(cache=True, nogil=True)
def _uniform(neurons: Neurons, state: NeuronState, ring: F8, begin: int, end: int, subtract: bool, spikes: I4, count: int) -> int:
    """As ``_spiking``, for delta input, no adaptation and the same parameters for all: a third of the memory traffic."""
    decay, constant, threshold, floor = neurons.decay[begin], neurons.constant[begin], neurons.threshold[begin], neurons.v_min[begin]
    steps, soft_reset, reset = neurons.refractory[begin], neurons.soft_reset[begin], neurons.v_reset[begin]
    vs, refractories, spiked, distances = state.v, state.refractory, state.spiked, state.distance
    for index in range(begin, end):
        n = uint64(index)
        arrived, v = ring[n], vs[n]
        ring[n] = 0.0
        refractory = refractories[n]
        if subtract:
            if refractory > 0:
                refractory -= 1
            v = max(decay * v + arrived + constant, floor)
        elif refractory == 0:
            v = max(decay * v + arrived + constant, floor)
        else:
            refractory -= 1
        distances[n] = v - threshold if refractory == 0 else np.inf
        fires = refractory == 0 and v >= threshold
        if fires:
            refractory = steps
            v = v - soft_reset if subtract else reset
            spikes[count] = index
            count += 1
        spiked[n] = fires
        vs[n] = v
        refractories[n] = refractory
    return count
