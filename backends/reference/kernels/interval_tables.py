"""What the kernels of the original formulation of e-prop work on, beside ``tables``: T steps an interval, N neurons, S learning sites,
M plastic synapses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neurocompile.backends.reference.kernels.tables import F8, I4, U1, NeuronState

U8 = npt.NDArray[np.uint64]

# kinds of target, whose intervals begin one step apart
HIDDEN, READOUT = 0, 1
# slots of IntervalState.clock behind those of ``tables``: complete intervals that were learned from; whether a step of the sources'
# present and of their last interval was
INTERVAL, LEARNED, LEARNED_BEFORE = 5, 6, 7
WORD = 64


class Interval(NamedTuple):
    """Constants: T, the learning window, resets, what gradients are multiplied by, and of every neuron (N,) what its input is multiplied
    by and where it rests."""

    steps: int
    window: int
    reset: bool
    scale: float
    batch: int
    gain: F8
    rest: F8


class IntervalState(NamedTuple):
    """What changes in plastic synapses (M,), sites (S,) and sources (N,).

    gradient: of the last complete interval that the source spiked in, not yet handed to the optimizer; collected: handed over, waiting for
    its batch (empty for batches of one); moments: empty without Adam.
    """

    eprop_weight: F8
    gradient: F8
    collected: F8
    first_moment: F8
    second_moment: F8
    psi: F8  # (S, T)
    signal: F8  # (S, T) L, of readouts the error
    heard: F8  # (2, S) the last two entries of signal
    n_spikes: I4  # (S,) of the hidden neurons' present interval
    reg: F8  # (S,) firing-rate regularisation of the last interval
    arrivals: U8  # (N, words) steps of the present interval in which a source's spike arrived
    unlearned: U1  # (N,) whether the arrival in the readouts' first step is not learned from
    updated: I4  # (N, 2) interval of the last update, by kind of target


class FullState(NamedTuple):
    """Everything that changes; ``Simulator.state`` saves exactly these arrays."""

    clock: npt.NDArray[np.int64]
    neurons: NeuronState
    static_weight: F8
    learning: IntervalState
