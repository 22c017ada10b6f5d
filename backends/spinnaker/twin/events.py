"""Histories of what happened at target neurons, which plastic rows look back on when their source spikes: the last 15 events of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.ir._types import IntArray
from neurocompile.ir.npz import AnyArray

EVENTS = 16
"""Entries of a history (MAX_POST_SYNAPTIC_EVENTS); the first stands for the beginning, at time 0."""
ONE_BITS = 11
ONE = 1 << ONE_BITS
"""Fixed-point 1 of traces and decay tables."""
Traces = npt.NDArray[np.int16]


class Table(NamedTuple):
    """Decays exp(-t / tau) in units of 2^-11, one for every 2^shift ticks."""

    shift: int
    values: IntArray


def decay_table(dt_ms: float, tau_ms: float, shift: int = 0) -> Table:
    """Return the table that sPyNNaker writes (``get_exp_lut_array``): as long as it is above 0, an even number of entries, rounded down."""
    rate = dt_ms / float(tau_ms)
    pairs, rest = divmod(np.log(ONE) / rate / (1 << shift), 2)
    size = (int(pairs) + int(rest > 0)) * 2
    return Table(shift, np.floor(np.exp((np.arange(size) << shift) * -rate) * ONE).astype(np.int64))


@numba.njit(cache=True, nogil=True)
def decay(table: Table, ticks: int) -> int:
    """Return the decay over some ticks, 0 beyond the table's end."""
    place = (ticks & 0xFFFFFFFF) >> table.shift
    return int(table.values[place]) if place < len(table.values) else 0


@numba.njit(cache=True, nogil=True)
def decayed(trace: int, table: Table, ticks: int) -> int:
    """Return a 16-bit trace after some ticks, rounded down."""
    return (trace * decay(table, ticks)) >> 11


@numba.njit(cache=True, nogil=True)
def half_word(value: int) -> int:
    """Return what 16 bits with a sign hold of an integer."""
    return int(np.int16(value & 0xFFFF))


class Arrays(NamedTuple):
    """Of n neurons. time, post, reward : (n, 16) ticks and traces of events; gated : (n, 16), 1 for events that are rewards; last : (n,)
    place of the newest event."""

    time: IntArray
    post: Traces
    reward: Traces
    gated: npt.NDArray[np.uint8]
    last: IntArray


@numba.njit(cache=True, nogil=True)
def append(held: Arrays, i: int, tick: int, post: int, reward: int, gated: int) -> None:
    """Add an event; the oldest but the first is forgotten where there is no room."""
    if held.last[i] < 15:
        held.last[i] += 1
    else:
        for e in range(2, 16):
            held.time[i, e - 1] = held.time[i, e]
            held.post[i, e - 1] = held.post[i, e]
            held.reward[i, e - 1] = held.reward[i, e]
            held.gated[i, e - 1] = held.gated[i, e]
    e = held.last[i]
    held.time[i, e] = tick
    held.post[i, e] = post
    held.reward[i, e] = reward
    held.gated[i, e] = gated


@numba.njit(cache=True, nogil=True)
def before(held: Arrays, i: int, begin: int) -> int:
    """Return the place of the newest event that is not after ``begin``, 0 if all are."""
    e = held.last[i]
    while e > 0 and held.time[i, e] > begin:
        e -= 1
    return int(e)


@numba.njit(cache=True, nogil=True)
def add_spikes(held: Arrays, spiked: IntArray, tick: int, minus: Table, dopamine: Table) -> None:
    """Add the spikes of some neurons."""
    for i in spiked:
        e = held.last[i]
        gone = tick - held.time[i, e]
        post = half_word(half_word(decayed(held.post[i, e], minus, gone)) + 2048)
        append(held, i, tick, post, half_word(decayed(held.reward[i, e], dopamine, gone)), 0)


@numba.njit(cache=True, nogil=True)
def add_rewards(held: Arrays, amount: int, tick: int, minus: Table, dopamine: Table) -> None:
    """Add a reward (a punishment: a negative amount) to every neuron."""
    for i in range(len(held.last)):
        e = held.last[i]
        gone = tick - held.time[i, e]
        reward = half_word(decayed(held.reward[i, e], dopamine, gone) + amount)
        append(held, i, tick, half_word(decayed(held.post[i, e], minus, gone)), reward, 1)


class Histories:
    """Of the neurons of one population."""

    def __init__(self, n: int) -> None:
        shape = (n, EVENTS)
        self.arrays = Arrays(
            time=np.zeros(shape, np.int64),
            post=np.zeros(shape, np.int16),
            reward=np.zeros(shape, np.int16),
            gated=np.zeros(shape, np.uint8),
            last=np.zeros(n, np.int64),
        )

    def reset(self) -> None:
        """Forget all events."""
        for values in self.arrays:
            values[:] = 0

    def changing(self) -> dict[str, AnyArray]:
        """All arrays, by name."""
        return {f"events {name}": values for name, values in self.arrays._asdict().items()}

    @staticmethod
    def check(state: Mapping[str, AnyArray]) -> None:
        """Raise ValueError for places that a history has not."""
        last = state["events last"]
        if last.size and not (last.min() >= 0 and last.max() < EVENTS):
            raise ValueError(f"a history of events ends at {last.max()}, it has {EVENTS} entries")
