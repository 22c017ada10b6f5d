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
def uniform(seed: int, neuron: int, step: int) -> float:
    """Return a number in [0, 1) that depends on (seed, neuron, step) alone: SplitMix64's finaliser over a chain of the three words."""
    x = uint64(seed)
    for word in (uint64(neuron), uint64(step)):
        x = x + word * uint64(0x9E3779B97F4A7C15) + uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> uint64(27))) * uint64(0x94D049BB133111EB)
        x = x ^ (x >> uint64(31))
    return float(x >> uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True)
def update(neurons: Neurons, state: NeuronState, inputs: Inputs, row: int, step: int, seed: int, spikes: I4) -> int:
    """Advance all neurons by one step; write the neurons that spike to ``spikes`` in ascending order and return how many they are."""
    count = 0
    ring = state.ring[step % state.ring.shape[0]]
    given = inputs.pointer[row]
    for population in range(neurons.start.size):
        start, stop, kind = neurons.start[population], neurons.stop[population], neurons.kind[population]
        if kind == SOURCE:
            if inputs.source_mode[population] == POISSON:
                for n in range(start, stop):
                    fires = uniform(seed, n, step) < neurons.probability[n]
                    state.spiked[n] = fires
                    if fires:
                        spikes[count] = n
                        count += 1
            else:
                state.spiked[start:stop] = 0
                while given < inputs.pointer[row + 1] and inputs.neuron[given] < stop:
                    spikes[count] = inputs.neuron[given]
                    state.spiked[inputs.neuron[given]] = 1
                    count += 1
                    given += 1
        elif kind == READOUT:
            for n in range(start, stop):
                state.current[n] = neurons.current_decay[n] * state.current[n] + ring[n]
                ring[n] = 0.0
                v = neurons.decay[n] * state.v[n] + state.current[n] + neurons.constant[n]
                state.v[n] = max(v, neurons.v_min[n])
        else:
            count = _spiking(neurons, state, ring, start, stop, kind == SUBTRACT, neurons.adaptive[population] != 0, spikes, count)
    return count


@njit(cache=True, nogil=True)
def _spiking(
    neurons: Neurons, state: NeuronState, ring: F8, start: int, stop: int, subtract: bool, adaptive: bool, spikes: I4, count: int
) -> int:
    for n in range(start, stop):
        current = neurons.current_decay[n] * state.current[n] + ring[n]
        state.current[n] = current
        ring[n] = 0.0
        refractory = state.refractory[n]
        if subtract:
            if refractory > 0:
                refractory -= 1
            v = max(neurons.decay[n] * state.v[n] + current + neurons.constant[n], neurons.v_min[n])
        elif refractory == 0:
            v = max(neurons.decay[n] * state.v[n] + current + neurons.constant[n], neurons.v_min[n])
        else:
            refractory -= 1
            v = state.v[n]
        threshold = neurons.threshold[n]
        if adaptive:
            adaptation = neurons.adapt_decay[n] * state.adaptation[n] + state.spiked[n]
            state.adaptation[n] = adaptation
            threshold += neurons.adapt_beta[n] * adaptation
        state.distance[n] = v - threshold if refractory == 0 else np.inf
        fires = refractory == 0 and v >= threshold
        if fires:
            refractory = neurons.refractory[n]
            v = v - neurons.soft_reset[n] if subtract else neurons.v_reset[n]
            spikes[count] = n
            count += 1
        state.spiked[n] = fires
        state.v[n] = v
        state.refractory[n] = refractory
    return count
