"""The plastic synapses of a population: rows of one source and delay, how spikes and the background sweep touch them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.backends.spinnaker.eprop import kernels
from neurocompile.backends.spinnaker.eprop.cells import RING_MOST
from neurocompile.backends.spinnaker.eprop.formats import Ints
from neurocompile.backends.spinnaker.eprop.kernels import Constants
from neurocompile.backends.spinnaker.eprop.ranges import WINDOW
from neurocompile.ir._types import Int32Array, IntArray

BLOCKS = 8
"""Finished blocks that a neuron keeps (M)"""
SWEEP = (BLOCKS - 1) * WINDOW
"""Steps in which the sweep touches the rows of every source once: those of source s when step mod SWEEP = s mod SWEEP"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Rows of a projection, sorted by source, then delay, then sign where signs are kept.

    first (n_source + 1,) : rows of each source; begin (n_rows + 1,) : synapses of each row; delay, low, high (n_rows,) : steps, bounds of
    the row's weights (accumulator units); target (m,); order (m,) : the projection's number of each synapse.
    """

    first: Ints
    begin: Ints
    delay: Ints
    low: Ints
    high: Ints
    target: Int32Array
    order: IntArray


def make_rows(
    pre: Int32Array,
    post: Int32Array,
    delay: npt.NDArray[np.uint8],
    weight: Int32Array,
    n_source: int,
    low: int,
    high: int,
    *,
    keep_signs: bool,
) -> Rows:
    """Return the rows of a projection. weight (m,) : initial, accumulator units; keep_signs : a weight is bounded by 0 on its other side,
    so a source with weights of both signs has two rows."""
    keys: list[npt.NDArray[Any]] = [*([weight < 0] if keep_signs else []), delay, pre]
    order = np.lexsort([post, *keys])
    new = np.ones(len(order), np.bool_)
    new[1:] = False
    for key in keys:
        own = key[order]
        new[1:] |= own[1:] != own[:-1]
    heads = np.flatnonzero(new)
    first = order[heads]
    source, steps = pre[first], delay[first].astype(np.int64)
    sign = weight[first] < 0
    return Rows(
        first=np.searchsorted(source, np.arange(n_source + 1)).astype(np.int64),
        begin=np.append(heads, len(order)).astype(np.int64),
        delay=steps,
        low=np.where(sign, low, max(low, 0)) if keep_signs else np.full(len(steps), low, np.int64),
        high=np.where(sign, min(high, 0), high) if keep_signs else np.full(len(steps), high, np.int64),
        target=post[order],
        order=order,
    )


@numba.njit(cache=True, nogil=True, inline="always")
def _arrive(weight: int, target: int, excitatory: Ints, inhibitory: Ints) -> None:
    """Add a signed weight to the 16-bit ring buffer of its sign, which saturates."""
    if weight >= 0:
        excitatory[target] = min(excitatory[target] + weight, RING_MOST)
    else:
        inhibitory[target] = min(inhibitory[target] - weight, RING_MOST)


@numba.njit(cache=True, nogil=True)
def deliver(
    k: Constants,
    tick: int,
    spikes: IntArray,
    delay: int,
    first: Ints,
    begin: Ints,
    delays: Ints,
    low: Ints,
    high: Ints,
    target: Ints,
    head: Ints,
    acc: Ints,
    e: Ints,
    r: Ints,
    q: Ints,
    neuron: Ints,
    ring: Ints,
    excitatory: Ints,
    inhibitory: Ints,
    sent: Ints,
) -> int:
    """Let spikes, (count,) sources, reach the rows of one delay, and their weights the ring buffers of the next tick. Return how many
    states saturated."""
    saturated = 0
    for source in spikes:
        for row in range(first[source], first[source + 1]):
            if delays[row] != delay:
                continue
            s, t = begin[row], begin[row + 1]
            own = target[s:t]
            saturated += kernels.touch(
                k, tick, True, head[row], own, acc[s:t], e[s:t], r[s:t], q[s:t], low[row], high[row], neuron, ring, sent
            )
            for x in range(t - s):
                _arrive(sent[x], own[x], excitatory, inhibitory)
    return saturated


@numba.njit(cache=True, nogil=True)
def deliver_static(
    spikes: IntArray, delay: int, first: Ints, begin: Ints, delays: Ints, target: Ints, weight: Ints, excitatory: Ints, inhibitory: Ints
) -> None:
    """As :func:`deliver` with fixed 16-bit weights, (m,)."""
    for source in spikes:
        for row in range(first[source], first[source + 1]):
            if delays[row] == delay:
                for x in range(begin[row], begin[row + 1]):
                    _arrive(weight[x], target[x], excitatory, inhibitory)


@numba.njit(cache=True, nogil=True)
def sweep(
    k: Constants,
    tick: int,
    offset: int,
    stride: int,
    first: Ints,
    begin: Ints,
    low: Ints,
    high: Ints,
    target: Ints,
    head: Ints,
    acc: Ints,
    e: Ints,
    r: Ints,
    q: Ints,
    neuron: Ints,
    ring: Ints,
    sent: Ints,
) -> int:
    """Bring the rows of sources offset, offset + stride, .. up to the block of ``tick``. Return how many states saturated."""
    saturated = 0
    for source in range(offset, len(first) - 1, stride):
        for row in range(first[source], first[source + 1]):
            s, t = begin[row], begin[row + 1]
            saturated += kernels.touch(
                k, tick, False, head[row], target[s:t], acc[s:t], e[s:t], r[s:t], q[s:t], low[row], high[row], neuron, ring, sent
            )
    return saturated


@numba.njit(cache=True, nogil=True)
def settle(
    k: Constants,
    begin: Ints,
    low: Ints,
    high: Ints,
    target: Ints,
    head: Ints,
    acc: Ints,
    e: Ints,
    r: Ints,
    q: Ints,
    neuron: Ints,
    out: Ints,
) -> None:
    """out (m,) <- the weights that would be sent now, accumulator units; all rows must have been swept in this tick."""
    for row in range(len(begin) - 1):
        s, t = begin[row], begin[row + 1]
        kernels.settled(k, head[row], target[s:t], acc[s:t], e[s:t], r[s:t], q[s:t], low[row], high[row], neuron, out[s:t])


__all__ = ["BLOCKS", "SWEEP", "WINDOW", "Rows", "deliver", "deliver_static", "make_rows", "settle", "sweep"]
