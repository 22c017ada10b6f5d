"""Keys: an aligned block for each part, in it an aligned block for each route group, in it one key a neuron."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurocompile.ir.errors import DoesNotFitError
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
    groups = routes.routes
    size = np.array([_power(len(r.neurons)) for r in groups], np.int64)
    by_part: dict[int, list[int]] = {}
    for number, r in enumerate(groups):
        by_part.setdefault(r.source_part, []).append(number)
    blocks = sorted(((-_power(int(size[members].sum())), part) for part, members in by_part.items()))
    base = np.zeros(len(groups), np.int64)
    at = 0
    for negative, part in blocks:
        inner = at
        for number in sorted(by_part[part], key=lambda g: (-int(size[g]), g)):
            base[number] = inner
            inner += int(size[number])
        at -= negative
    if at > 1 << key_bits:
        raise DoesNotFitError.of(
            "NC406",
            f"the neurons that send packets need {at} keys with blocks aligned to powers of two, packets have {key_bits} key bits",
            help="make the network smaller",
        )
    neuron_key = np.zeros(n_neurons, np.uint32)
    has_key = np.zeros(n_neurons, bool)
    for r, first in zip(groups, base.tolist(), strict=True):
        neuron_key[r.neurons] = np.arange(first, first + len(r.neurons), dtype=np.int64).astype(np.uint32)
        has_key[r.neurons] = True
    return neuron_key, has_key, base, size


def _power(n: int) -> int:
    """The least power of two >= n."""
    return 1 << (n - 1).bit_length()
