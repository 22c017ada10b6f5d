"""Proves that a minimised routing table routes every key of another one in the same way. Shares no code with the minimiser.

Keys are compared in cubes (key, mask), not one by one: a cube that an entry catches only in part is cut in two at a bit that the entry
looks at and the cube leaves open, until in both tables the first entry that touches a cube catches all of it, or none touches it.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.ir.errors import MismatchError
from neurocompile.mapping.types import Int64Array

UInt32Array = npt.NDArray[np.uint32]

_MOST_CUBES = 50_000_000


def verify_table(
    where: str,
    key: UInt32Array,
    mask: UInt32Array,
    route: Int64Array,
    default: npt.NDArray[np.bool_],
    new_key: UInt32Array,
    new_mask: UInt32Array,
    new_route: Int64Array,
) -> None:
    """Compare two tables in which the first match wins, for every key that an entry of the first one matches.

    Parameters
    ----------
    where
        Name of the table, for messages.
    key, mask, route, default
        The table as it was; ``default``: what default routing does by itself, so no entry need match.
    new_key, new_mask, new_route
        The minimised table.

    Raises
    ------
    MismatchError
        NC609: a key is routed otherwise.
    """
    code, at = _compare(key, mask, route, default, new_key, new_mask, new_route, _MOST_CUBES)
    if code == 0:
        return
    found = {
        1: f"key {int(at):#010x} finds no entry after minimisation",
        2: f"key {int(at):#010x} is routed otherwise after minimisation",
        3: f"more than {_MOST_CUBES} cubes: entries overlap too much to be compared",
    }[code]
    raise MismatchError.of("NC609", f"{where}: {found}", help="this is a defect of the minimiser, not of the table: please report it")


@numba.njit(cache=True, nogil=True)
def _touching(key: np.uint32, mask: np.uint32, keys: UInt32Array, masks: UInt32Array) -> int:
    """The first entry that catches some key of a cube, -1 if there is none."""
    for e in range(len(keys)):
        if (key ^ keys[e]) & (mask & masks[e]) == 0:
            return e
    return -1


@numba.njit(cache=True, nogil=True)
def _compare(
    key: UInt32Array,
    mask: UInt32Array,
    route: Int64Array,
    default: npt.NDArray[np.bool_],
    new_key: UInt32Array,
    new_mask: UInt32Array,
    new_route: Int64Array,
    most: int,
) -> tuple[int, np.uint32]:
    stack_key, stack_mask = np.empty(64, np.uint32), np.empty(64, np.uint32)  # each cut fixes a bit: 33 deep at most
    n_cubes = 0
    for e in range(len(key)):
        stack_key[0], stack_mask[0] = key[e], mask[e]
        depth = 1
        while depth:
            depth -= 1
            k, m = stack_key[depth], stack_mask[depth]
            n_cubes += 1
            if n_cubes > most:
                return 3, k
            before = _touching(k, m, key, mask)
            open_bits = mask[before] & ~m
            after = -1
            if open_bits == 0:
                if before != e:
                    continue  # an earlier entry has these keys: they are compared with it
                after = _touching(k, m, new_key, new_mask)
                if after >= 0:
                    open_bits = new_mask[after] & ~m
            if open_bits:
                bit = np.uint32(open_bits & (~open_bits + np.uint32(1)))
                stack_key[depth], stack_mask[depth] = k, m | bit
                stack_key[depth + 1], stack_mask[depth + 1] = k | bit, m | bit
                depth += 2
                continue
            if after < 0:
                if not default[e]:
                    return 1, k
            elif new_route[after] != route[e]:
                return 2, k
    return 0, np.uint32(0)
