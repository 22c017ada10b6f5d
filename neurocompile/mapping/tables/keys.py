"""Keys: an aligned block for each part, in it an aligned block for each route group, in it one key a neuron."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurocompile.ir.errors import Diagnostic
from neurocompile.mapping.shortfall import Shortfall, ShortfallError
from neurocompile.mapping.types import Int64Array, Routes


def allocate_keys(
    routes: Routes, n_neurons: int, key_bits: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_], Int64Array, Int64Array]:
    """Return (neuron_key, has_key, key of each route, size of each route's block).

    Blocks have powers of two as sizes and start at multiples of their size: largest first leaves no gaps, so one key and mask stand for all
    neurons of a route.

    Raises
    ------
    DoesNotFitError
        NC406: more keys than ``key_bits`` allow.
    """
    lengths = np.diff(routes.neuron_start)
    size = _power(lengths)
    parts, part_of = np.unique(routes.source_part, return_inverse=True)
    in_part = np.bincount(part_of, size, len(parts)).astype(np.int64)
    block = _power(in_part)
    largest_first = np.lexsort((np.arange(len(parts)), -block))
    first = np.empty(len(parts), np.int64)
    first[largest_first] = np.cumsum(block[largest_first]) - block[largest_first]
    need = int(block.sum())
    if need > 1 << key_bits:
        raise ShortfallError(
            Diagnostic(
                code="NC406",
                message=f"the neurons that send packets need {need} keys with blocks aligned to powers of two, packets have {key_bits} key "
                f"bits: {need - (1 << key_bits)} keys too few",
                help=f"make the network smaller; packets with {(need - 1).bit_length()} key bits would have enough",
            ),
            Shortfall(resource="keys", unit="key", needed=float(need), available=float(1 << key_bits)),
        )
    inner = np.lexsort((np.arange(len(size)), -size, part_of))  # part by part, largest first
    before = np.cumsum(size[inner]) - size[inner]
    base = np.empty(len(size), np.int64)
    base[inner] = first[part_of[inner]] + before - (np.cumsum(in_part) - in_part)[part_of[inner]]
    neuron_key = np.zeros(n_neurons, np.uint32)
    has_key = np.zeros(n_neurons, bool)
    within = np.arange(len(routes.neurons)) - np.repeat(routes.neuron_start[:-1], lengths)
    neuron_key[routes.neurons] = (np.repeat(base, lengths) + within).astype(np.uint32)
    has_key[routes.neurons] = True
    return neuron_key, has_key, base, size


def _power(n: Int64Array) -> Int64Array:
    """The least powers of two >= n (n >= 1)."""
    found: Int64Array = np.int64(1) << np.ceil(np.log2(np.maximum(n, 1))).astype(np.int64)
    return found
