"""A tick of e-prop's neurons on a core, in integers, compiled: what templates/extension/eprop_neurons.h does, bit for bit."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from neurocompile.backends.spinnaker.eprop.formats import DECAY_BITS, ERROR_MOST, NEAR, PER_OCTAVE, TABLE, WORD, Ints
from neurocompile.backends.spinnaker.eprop.kernels import limited, rounded

V, CURRENT, REFRACTORY, ADAPTATION, SPIKED, RATE, HELD_1, HELD_2 = range(8)
"""Columns of a neuron's state: membrane, current, refractory steps left, threshold's rise, spiked in the last step, filtered rate
(30 fraction bits of a spike a step), regularisation terms of the last step and of the one before"""
RATE_BITS = 30
RING_MOST = 65535
_EXP_BITS = 16
_EXP_TABLE = np.rint(2.0 ** (_EXP_BITS - np.arange(257) / 256.0)).astype(np.int64)
"""2^-x, x = 0 .. 1 in 256 pieces"""


class Cells(NamedTuple):
    """Integers of :class:`~.formats.Neurons` and of the population's rule, for kernels; factors as mantissa and shift."""

    decay: Ints
    current_decay: Ints
    adapt_decay: Ints
    bias: Ints
    v_min: Ints
    threshold: Ints
    v_reset: Ints
    adapt_step: Ints
    leak: Ints
    refractory: Ints
    table: Ints
    subtract: bool
    reach: int
    position: int
    position_shift: int
    input_shift: int
    rate_decay: int
    rate_step: int
    rate_target: int
    hold: int
    hold_shift: int
    signal: int
    signal_shift: int


@numba.njit(cache=True, nogil=True, inline="always")
def _word(value: int) -> int:
    return limited(value, WORD)


@numba.njit(cache=True, nogil=True)
def _surrogate(table: Ints, place: int) -> int:
    """psi at a place: linear between the table's corners, which are evenly spaced up to a width and within each octave beyond."""
    whole = place >> 8
    at, bits = whole, 8
    if whole >= NEAR:
        octave = 0
        while whole >> octave >= 2 * NEAR:
            octave += 1
        bits = 9 + octave
        at = NEAR + PER_OCTAVE * (octave - 1) + (whole >> (octave + 1))
    at = min(at, TABLE - 1)
    below: int = table[at]
    return below + rounded((table[at + 1] - below) * (place & ((1 << bits) - 1)), bits)


@numba.njit(cache=True, nogil=True)
def update(cells: Cells, excitatory: Ints, inhibitory: Ints, state: Ints, psi: Ints, reg: Ints, spikes: Ints) -> int:
    """Update all neurons of a population with the input that arrives in this tick; return how many spike.

    excitatory, inhibitory (n,) : ring buffers, read and emptied; psi (n,) : surrogate of this step, set; reg (n,) : set to the
    regularisation term of two steps ago; spikes : filled with the neurons that spike.
    """
    count = 0
    for j in range(len(psi)):
        row = state[j]
        arrived = (excitatory[j] - inhibitory[j]) << cells.input_shift
        excitatory[j] = inhibitory[j] = 0
        row[CURRENT] = current = _word(rounded(row[CURRENT] * cells.current_decay[j], DECAY_BITS) + arrived)
        refractory, v = row[REFRACTORY], row[V]
        if cells.subtract or refractory == 0:
            v = _word(rounded(v * cells.decay[j], DECAY_BITS) + current + cells.bias[j])
            v = max(v, cells.v_min[j])
        if refractory > 0:
            refractory -= 1
        adaptation = _word(rounded(row[ADAPTATION] * cells.adapt_decay[j], DECAY_BITS) + row[SPIKED] * cells.adapt_step[j])
        threshold = _word(cells.threshold[j] + adaptation)
        row[ADAPTATION] = adaptation
        psi[j] = 0
        fires = False
        if refractory == 0:
            distance = v - threshold
            fires = distance >= 0
            distance = abs(distance)
            if distance < cells.reach:
                psi[j] = _surrogate(cells.table, rounded(distance * cells.position, cells.position_shift))
        if fires:
            refractory = cells.refractory[j]
            v = v - cells.threshold[j] if cells.subtract else cells.v_reset[j]
            spikes[count] = j
            count += 1
        row[V], row[REFRACTORY], row[SPIKED] = v, refractory, fires
        if cells.hold:
            row[RATE] = rounded(row[RATE] * cells.rate_decay, DECAY_BITS) + (cells.rate_step if fires else 0)
            reg[j] = row[HELD_2]
            row[HELD_2] = row[HELD_1]
            row[HELD_1] = _word(rounded((row[RATE] - cells.rate_target) * cells.hold, cells.hold_shift))
    return count


@numba.njit(cache=True, nogil=True)
def update_readout(cells: Cells, excitatory: Ints, inhibitory: Ints, state: Ints, y: Ints) -> None:
    """Update the readouts; y (n,) : set to their membranes, s16.15 of S membrane units, v_leak included."""
    for j in range(len(y)):
        row = state[j]
        arrived = (excitatory[j] - inhibitory[j]) << cells.input_shift
        excitatory[j] = inhibitory[j] = 0
        row[CURRENT] = current = _word(rounded(row[CURRENT] * cells.current_decay[j], DECAY_BITS) + arrived)
        v = max(_word(rounded(row[V] * cells.decay[j], DECAY_BITS) + current + cells.bias[j]), cells.v_min[j])
        row[V] = v
        y[j] = _word(v + cells.leak[j])


@numba.njit(cache=True, nogil=True)
def squared_errors(y: Ints, target: Ints, factor: int, shift: int, error: Ints) -> None:
    """error <- y - target, both in s16.15, in units of the packet's error; clipped to 16 bits."""
    for j in range(len(y)):
        error[j] = limited(rounded((y[j] - target[j]) * factor, shift), ERROR_MOST)


@numba.njit(cache=True, nogil=True)
def softmax_errors(y: Ints, target: Ints, factor: int, shift: int, error: Ints) -> None:
    """error <- softmax(y) - target, target and error in 1/32767. factor, shift : distance of membranes -> log2, 16 fraction bits."""
    n = len(y)
    most = y.max()
    total = 0
    for j in range(n):
        x = rounded((most - y[j]) * factor, shift)
        whole, place = x >> 16, (x >> 8) & 255
        value = 0
        if whole < _EXP_BITS + 1:
            above = _EXP_TABLE[place]
            value = (above + rounded((_EXP_TABLE[place + 1] - above) * (x & 255), 8)) >> whole
        error[j] = value
        total += value
    for j in range(n):
        error[j] = error[j] * ERROR_MOST // total - target[j]


@numba.njit(cache=True, nogil=True)
def hear(feedback: Ints, error: Ints, heard: Ints) -> None:
    """Add the errors of all readouts, (m,), to what the neurons of a population have heard in this tick. feedback (m, n)."""
    for k in range(len(error)):
        if error[k]:
            for j in range(len(heard)):
                heard[j] += feedback[k, j] * error[k]


@numba.njit(cache=True, nogil=True)
def scaled(values: Ints, mantissa: int, shift: int, out: Ints) -> None:
    """out <- values mantissa 2^-shift, rounded."""
    for j in range(len(values)):
        out[j] = _word(rounded(values[j] * mantissa, shift))


@numba.njit(cache=True, nogil=True)
def signals(cells: Cells, heard: Ints, signal: Ints) -> None:
    """signal <- what was heard, in units of the rule's learning signal; what was heard is forgotten."""
    for j in range(len(heard)):
        signal[j] = _word(rounded(heard[j] * cells.signal, cells.signal_shift))
        heard[j] = 0


__all__ = ["Cells", "hear", "scaled", "signals", "softmax_errors", "squared_errors", "update", "update_readout"]
