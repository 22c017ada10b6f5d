"""One update step of all neurons in the original formulation: a spike's reset acts one step later, and each interval starts anew."""

from __future__ import annotations

import numpy as np
from numba import njit

from neurocompile.backends.reference.kernels import neurons as plain
from neurocompile.backends.reference.kernels.interval_tables import Interval
from neurocompile.backends.reference.kernels.tables import I4, READOUT, SOURCE, Inputs, Neurons, NeuronState


@njit(cache=True, nogil=True)
def restart(neurons: Neurons, interval: Interval, state: NeuronState, readouts: bool) -> None:
    """Bring the readouts, or all other neurons that are no sources, to rest."""
    for population in range(neurons.start.size):
        kind = neurons.kind[population]
        if kind == SOURCE or (kind == READOUT) != readouts:
            continue
        start, stop = neurons.start[population], neurons.stop[population]
        state.v[start:stop] = interval.rest[start:stop]
        state.adaptation[start:stop] = 0.0
        state.refractory[start:stop] = 0
        state.spiked[start:stop] = 0


@njit(cache=True, nogil=True)
def update(neurons: Neurons, interval: Interval, state: NeuronState, inputs: Inputs, row: int, step: int, seed: int, spikes: I4) -> int:
    """Advance all neurons by one step; write those that spike to ``spikes`` in ascending order and return how many."""
    count = 0
    ring = state.ring[step % state.ring.shape[0]]
    for population in range(neurons.start.size):
        kind, start, stop = neurons.kind[population], neurons.start[population], neurons.stop[population]
        if kind == SOURCE:
            count += plain.update(neurons, state, inputs, row, step, seed, start, stop, spikes[count:])
            continue
        adaptive = neurons.adaptive[population] != 0
        for n in range(start, stop):
            v = interval.gain[n] * ring[n] + neurons.decay[n] * state.v[n] + neurons.constant[n]
            ring[n] = 0.0
            if kind == READOUT:
                state.v[n] = max(v, neurons.v_min[n])
                continue
            if state.refractory[n] > 0:
                state.refractory[n] -= 1
            v = max(v - neurons.soft_reset[n] * state.spiked[n], neurons.v_min[n])
            threshold = neurons.threshold[n]
            if adaptive:
                state.adaptation[n] = neurons.adapt_decay[n] * state.adaptation[n] + state.spiked[n]
                threshold += neurons.adapt_beta[n] * state.adaptation[n]
            ready = state.refractory[n] == 0
            state.distance[n] = v - threshold if ready else np.inf
            state.spiked[n] = ready and v >= threshold
            state.v[n] = v
            if state.spiked[n]:
                state.refractory[n] = neurons.refractory[n]
                spikes[count] = n
                count += 1
    return count
