"""Synaptic rows and ring buffers: 16-bit weights, added with saturation to the slot of the tick at which they arrive."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.backends.spinnaker.accum import WEIGHT_MAX
from neurocompile.ir._types import FloatArray, Int32Array, IntArray

Words = npt.NDArray[np.uint16]


def words(weight: FloatArray, scale: FloatArray | float, resolution: FloatArray | float) -> IntArray:
    """Return sizes of weights as 16-bit words (``numpy.rint`` of the scaled weight). weight : description's units; scale : PyNN weight of
    a weight of 1; resolution : PyNN weight of a unit, a power of two."""
    sizes = np.rint(np.abs(weight * scale) / resolution)
    held: IntArray = np.minimum(sizes, WEIGHT_MAX).astype(np.int64)
    return held


@numba.njit(cache=True, nogil=True)
def deliver(
    tick: int, spiked: IntArray, first: IntArray, place: Int32Array, delay: npt.NDArray[np.uint8], weight: Words, ring: Words
) -> None:
    """Add the rows of some sources to a ring buffer (slots, receptors x neurons). first : start of each source's row; place : receptor and
    neuron, a column of the ring."""
    slots = ring.shape[0]
    for source in spiked:
        for k in range(first[source], first[source + 1]):
            slot = (tick + delay[k]) % slots
            ring[slot, place[k]] = min(np.int64(ring[slot, place[k]]) + weight[k], 65535)


class Rows:
    """Rows of one projection, by source. ``order``: where in the projection each stored synapse comes from.

    Parameters
    ----------
    pre, post, delay
        Of each synapse.
    inhibitory
        Whether it goes to the inhibitory receptor.
    weight
        16-bit words.
    n_pre, n_post
        Sizes.
    """

    def __init__(
        self,
        pre: Int32Array,
        post: Int32Array,
        delay: npt.NDArray[np.uint8],
        inhibitory: npt.NDArray[np.bool_],
        weight: IntArray,
        *,
        n_pre: int,
        n_post: int,
    ) -> None:
        self.order = np.lexsort((post, pre))
        self.first = np.concatenate(([0], np.cumsum(np.bincount(pre, minlength=n_pre)))).astype(np.int64)
        self.place = (post + inhibitory * np.int32(n_post))[self.order].astype(np.int32)
        self.delay = delay[self.order].astype(np.uint8)
        self.weight: Words = weight[self.order].astype(np.uint16)

    def __len__(self) -> int:
        return len(self.order)

    def deliver(self, tick: int, spiked: IntArray, ring: Words) -> None:
        """Store what these sources send in a tick."""
        deliver(tick, spiked, self.first, self.place, self.delay, self.weight, ring)

    def in_order(self) -> IntArray:
        """Return the words in the projection's order."""
        held = np.empty(len(self.order), np.int64)
        held[self.order] = self.weight
        return held

    def set_words(self, weight: IntArray) -> None:
        """Set all words, given in the projection's order."""
        self.weight[:] = weight[self.order]
