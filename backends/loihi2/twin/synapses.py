"""Static synapses of an emitted program in integers, event-driven."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.backends.loihi2.arithmetic import IntArray
from neurocompile.ir._types import Int32Array


@numba.njit(cache=True, nogil=True)
def _deliver(spiked: IntArray, first: IntArray, post: Int32Array, delay: Int32Array, weight: Int32Array, step: int, ring: IntArray) -> None:
    """Add the weights of all synapses of some neurons to the rows of ``ring`` in which they arrive."""
    for neuron in spiked:
        for k in range(first[neuron], first[neuron + 1]):
            ring[(step + delay[k]) % len(ring), post[k]] += weight[k]


class Static:
    """Synapses of one projection, by source, with a ring of sums still to arrive.

    The exponent's shift applies to each sum that Lava forms: per step of emission, delay, and matrix (``part``). Where it removes nothing
    (not negative, or weights that are multiples of what it divides by) weights are shifted once. Else it rounds down, so sums of
    different matrices and delays are shifted apart.
    """

    def __init__(self, projection: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], *, n_pre: int, n_post: int) -> None:
        key, exponent = projection["key"], projection["weight_exp"]
        pre, part = arrays[f"{key}.pre"], arrays[f"{key}.part"]
        weight, delay = arrays[f"{key}.weight.fixed"].astype(np.int32), arrays[f"{key}.delay"].astype(np.int32)
        self.ring = np.zeros((int(delay.max(initial=0)) + 1, n_post), np.int64)
        self.shift = 0
        if exponent >= 0 or not (weight & ((1 << -exponent) - 1)).any():
            weight, part = weight << exponent if exponent >= 0 else weight >> -exponent, np.zeros_like(part)
        else:
            self.shift, self.sums = -exponent, np.zeros_like(self.ring)
        self.parts = []
        for number in range(int(part.max(initial=0)) + 1):
            chosen = np.flatnonzero(part == number)
            chosen = chosen[np.argsort(pre[chosen], kind="stable")]
            first = np.searchsorted(pre[chosen], np.arange(n_pre + 1)).astype(np.int64)
            self.parts.append((first, arrays[f"{key}.post"][chosen].astype(np.int32), delay[chosen], weight[chosen]))

    def reset(self) -> None:
        """Forget what is still to arrive."""
        self.ring[:] = 0

    def changing(self) -> dict[str, IntArray]:
        """The arrays that change, by name."""
        return {"ring": self.ring}

    def arrive(self, step: int, into: IntArray) -> None:
        """Add what arrives in this step to ``into`` and clear it."""
        row = self.ring[step % len(self.ring)]
        into += row
        row[:] = 0

    def send(self, step: int, spiked: IntArray) -> None:
        """Put the weights of all synapses of the neurons that spike (each named once) on their way."""
        if not len(spiked):
            return
        for first, post, delay, weight in self.parts:
            if self.shift == 0:
                _deliver(spiked, first, post, delay, weight, step, self.ring)
                continue
            self.sums[:] = 0
            _deliver(spiked, first, post, delay, weight, step, self.sums)
            self.ring += self.sums >> self.shift
