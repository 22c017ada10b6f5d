"""Keys: an aligned block for each chip, in it an aligned block for what takes the same way, in it one key a neuron."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurocompile.ir.errors import Diagnostic
from neurocompile.mapping.rows import distinct_rows
from neurocompile.mapping.shortfall import Shortfall, ShortfallError
from neurocompile.mapping.types import Int32Array, Int64Array, Routes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Keys:
    """Keys of all neurons.

    neuron_key : uint32 (n_neurons,); has_key : bool (n_neurons,), whether the neuron sends packets;
    block : int64 (n_routes,), number of each route's block: routes with one tree and the same targets share one, so one key and mask stand
    for all of their neurons; base, size : int64 (n_blocks,), first key and number of keys of each block; route : a route of each block.
    """

    neuron_key: npt.NDArray[np.uint32]
    has_key: npt.NDArray[np.bool_]
    block: Int64Array
    base: Int64Array
    size: Int64Array
    route: Int64Array


def allocate_keys(routes: Routes, part_chip: Int32Array, n_neurons: int, key_bits: int) -> Keys:
    """Give every neuron that sends packets a key.

    Blocks have powers of two as sizes and start at multiples of their size; largest first leaves no gaps. What one chip sends mostly takes
    the same ways, so the blocks of a chip lie in one aligned block of their own, and entries for them become one. Where keys are short,
    all blocks are allocated together, which needs the fewest.

    Parameters
    ----------
    part_chip
        Chip of each part.

    Raises
    ------
    DoesNotFitError
        NC406: more keys than ``key_bits`` allow.
    """
    block, first = distinct_rows(routes.tree, routes.target_start, routes.targets)
    lengths = np.diff(routes.neuron_start)
    size = _power(np.bincount(block, lengths, len(first)).astype(np.int64))
    base = _by_chip(size, part_chip[routes.source_part[first]])
    if int((base + size).max(initial=0)) > 1 << key_bits:
        need = int(size.sum())
        if need > 1 << key_bits:
            raise _too_few(need, key_bits)
        base = _largest_first(size)
    neuron_key, has_key = np.zeros(n_neurons, np.uint32), np.zeros(n_neurons, bool)
    neuron_block = np.repeat(block, lengths)
    order = np.argsort(neuron_block, kind="stable")  # neurons block by block, in the order of routes
    before = np.cumsum(np.bincount(neuron_block, minlength=len(first))) - np.bincount(neuron_block, minlength=len(first))
    within = np.arange(len(order)) - before[neuron_block[order]]
    neuron_key[routes.neurons[order]] = (base[neuron_block[order]] + within).astype(np.uint32)
    has_key[routes.neurons] = True
    return Keys(neuron_key=neuron_key, has_key=has_key, block=block, base=base, size=size, route=first)


def _by_chip(size: Int64Array, chip: Int32Array) -> Int64Array:
    """First key of each block, if those of a chip lie in one aligned block."""
    chips, chip_of = np.unique(chip, return_inverse=True)
    in_chip = np.bincount(chip_of, size, len(chips)).astype(np.int64)
    first = _largest_first(_power(in_chip))
    inner = np.lexsort((np.arange(len(size)), -size, chip_of))  # chip by chip, largest first
    before = np.cumsum(size[inner]) - size[inner]
    base = np.empty(len(size), np.int64)
    base[inner] = first[chip_of[inner]] + before - (np.cumsum(in_chip) - in_chip)[chip_of[inner]]
    return base


def _largest_first(size: Int64Array) -> Int64Array:
    """First key of each block, one behind the other."""
    order = np.lexsort((np.arange(len(size)), -size))
    base = np.empty(len(size), np.int64)
    base[order] = np.cumsum(size[order]) - size[order]
    return base


def _too_few(need: int, key_bits: int) -> ShortfallError:
    return ShortfallError(
        Diagnostic(
            code="NC406",
            message=f"the neurons that send packets need {need} keys with blocks aligned to powers of two, packets have {key_bits} key "
            f"bits: {need - (1 << key_bits)} keys too few",
            help=f"make the network smaller; packets with {(need - 1).bit_length()} key bits would have enough",
        ),
        Shortfall(resource="keys", unit="key", needed=float(need), available=float(1 << key_bits)),
    )


def _power(n: Int64Array) -> Int64Array:
    """The least powers of two >= n (n >= 1)."""
    found: Int64Array = np.int64(1) << np.ceil(np.log2(np.maximum(n, 1))).astype(np.int64)
    return found
