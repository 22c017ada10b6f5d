"""The two rules that programs mostly have, each in one loop over the synapses of a row instead of one a product.

``LAGGED`` is the form of that name with low bits in d, ``TRACE`` the readout's (and ``pre_trace``); see backends/loihi2/forms.py. Any other
table runs in ``engine.learn``, which these equal bit for bit (tested on random states).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.backends.loihi2.arithmetic import IntArray
from neurocompile.backends.loihi2.twin.bits import shift_left, shift_right
from neurocompile.backends.loihi2.twin.rules import ACCUMULATOR_BITS, EVERY_STEP, STATE_SHIFT, TARGETS, VARIABLES, RuleTable
from neurocompile.ir._types import Int32Array

NONE, LAGGED, TRACE = 0, 1, 2
"""Kinds of tables"""
_W, _D, _T = TARGETS["dw"], TARGETS["dd"], TARGETS["dt"]
_LOWEST, _HIGHEST = np.int32(-(2**ACCUMULATOR_BITS)), np.int32(2**ACCUMULATOR_BITS - 1)
_ZERO, _STATE, _FRACTION = np.int32(0), np.int32(STATE_SHIFT), np.int32(2**STATE_SHIFT - 1)
_DOT, _PRODUCT = np.int32(5), np.int32(3)
"""What the engine shifts t y and d y, and x1 y, to the right by"""
_KEY = 1000
"""Added to a y1 that is kept, so that 0 is none"""
_LAGGED = [(_W, "u", "d y1"), (_D, "u", "t y3"), (_D, "u", "d y1"), (_T, "u", "x1 y2"), (_T, "x0", "y2"), (_T, "u", "t")]
_TRACE = [(_W, "u", "t y1"), (_T, "u", "x1 y3"), (_T, "x0", "y3"), (_T, "u", "t y1")]
_ONES = {LAGGED: (-1, -1, -1, 1, -1), TRACE: (-1, -1, 1, -1)}
"""Mantissas that the loops have built in"""


def fused(table: RuleTable) -> tuple[int, Int32Array]:
    """Return (kind, coefficients) of a rule that one of the loops computes; (NONE, empty) of all others.

    Coefficients of LAGGED: centre of d, left shifts of t y3, of (d - centre) y1 into d, of x1 y2, of x0 y2, mantissa and left shift of the
    leak; of TRACE: left shifts of x1 y3, of x0 y3, of t y1 into t.
    """
    names = {number: name for name, number in VARIABLES.items()}
    found, constants = [], []
    for target, dependency, *_, begin, end in table.product.tolist():
        factors = table.factor[begin:end].tolist()
        if any(sign or (const and names[variable] != "d") for variable, const, sign, *_ in factors):
            return NONE, np.zeros(0, np.int32)
        constants += [const for variable, const, *_ in factors if names[variable] == "d"]
        found.append((target, "u" if dependency == EVERY_STEP else names[dependency], " ".join(names[f[0]] for f in factors)))
    mantissas, left = table.product[:, 2].tolist(), table.product[:, 4].tolist()
    if table.period != 1 or table.wide:
        return NONE, np.zeros(0, np.int32)
    lagged = found == _LAGGED and tuple(mantissas[:5]) == _ONES[LAGGED] and mantissas[5] < 0
    if lagged and left[0] == STATE_SHIFT and len(set(constants)) == 1 and -256 <= constants[0] <= 0:
        return LAGGED, np.array([-constants[0], left[1], left[2], left[3], left[4], -mantissas[5], left[5]], np.int32)
    if found == _TRACE and tuple(mantissas) == _ONES[TRACE] and left[0] == STATE_SHIFT:
        return TRACE, np.array([left[1], left[2], left[3]], np.int32)
    return NONE, np.zeros(0, np.int32)


@numba.njit(cache=True, nogil=True, inline="always")
def _limited(value: Any, low: Any, high: Any) -> Any:
    value = low if value < low else value
    return high if value > high else value


@numba.njit(cache=True, nogil=True, inline="always")
def _received(y: Any) -> Any:
    """Clip a third factor as a product does."""
    return _limited(np.int32(y), np.int32(-128), np.int32(127))


@numba.njit(cache=True, nogil=True, inline="always")
def _sum(total: Any, part: Any) -> Any:
    """Add a product to the accumulator; both saturate."""
    return _limited(np.int32(total + _limited(part, _LOWEST, _HIGHEST)), _LOWEST, _HIGHEST)


@numba.njit(cache=True, nogil=True)
def learn_lagged(
    first: IntArray,
    pre: npt.NDArray[np.uint32],
    state: Int32Array,
    coefficient: Int32Array,
    x0: npt.NDArray[np.int8],
    x1: Int32Array,
    y: Int32Array,
    up: int,
    low: Int32Array,
    high: Int32Array,
    settled: IntArray,
    drive: Int32Array,
) -> None:
    """Change w, d and t as ``engine.learn`` does for a LAGGED table.

    settled (rows, ..) : [0, 0] y1 + _KEY under which w and d stay as they are while y3 is 0, [0, 1] whether t does while y2 is 0;
    drive : scratch for the traces of a row, gathered apart so that the other loop works on vectors.
    """
    centre, dot, take, grow, undo, leak, leave = coefficient
    add = np.int32(up)
    w_least, w_most, d_least, d_most, t_least, t_most = low[0], high[0], low[1], high[1], low[2], high[2]
    w_floor, w_ceiling = (_ZERO if w_least >= 0 else _LOWEST), (_ZERO if w_most <= 0 else _HIGHEST)
    for row in range(len(first) - 1):
        a, b = first[row], first[row + 1]
        y1, y2, y3 = _received(y[1, row]), _received(y[2, row]), _received(y[3, row])
        w, d, t = state[0, a:b], state[1, a:b], state[2, a:b]
        if y3 != 0 or settled[row, 0, 0] != y1 + _KEY:
            moved = _ZERO
            for j in range(b - a):
                whole = shift_right(np.int32(np.int32(centre - d[j]) * y1), _DOT)
                weight = _sum(shift_left(w[j], _STATE), shift_left(whole, _STATE))
                weight = _limited(weight, w_floor, w_ceiling)
                fine = _sum(shift_left(d[j], _STATE), shift_left(shift_right(np.int32(np.int32(-t[j]) * y3), _DOT), dot))
                fine = _limited(_sum(fine, shift_left(whole, take)), _ZERO, _HIGHEST)
                moved |= (weight | fine) & _FRACTION
                weight = _limited(shift_right(np.int32(weight + add), _STATE), w_least, w_most)
                fine = _limited(shift_right(np.int32(fine + add), _STATE), d_least, d_most)
                moved |= (weight ^ w[j]) | (fine ^ d[j])
                w[j], d[j] = weight, fine
            settled[row, 0, 0] = y1 + _KEY if y3 == 0 and moved == 0 else 0
        if y2 != 0:
            flags, sources = x0[a:b], pre[a:b]
            for j in range(b - a):
                drive[j] = x1[sources[j]]
            for j in range(b - a):
                total = _sum(shift_left(t[j], _STATE), shift_left(shift_right(np.int32(drive[j] * y2), _PRODUCT), grow))
                total = _sum(total, shift_left(np.int32(np.int32(-flags[j]) * y2), undo))
                total = _sum(total, shift_left(np.int32(np.int32(-leak) * t[j]), leave))
                t[j] = _limited(shift_right(np.int32(total + add), _STATE), t_least, t_most)
            settled[row, 0, 1] = 0
        elif settled[row, 0, 1] == 0:
            moved = _ZERO
            for j in range(b - a):
                total = _sum(shift_left(t[j], _STATE), shift_left(np.int32(np.int32(-leak) * t[j]), leave))
                moved |= total & _FRACTION
                total = _limited(shift_right(np.int32(total + add), _STATE), t_least, t_most)
                moved |= total ^ t[j]
                t[j] = total
            settled[row, 0, 1] = 1 if moved == 0 else 0


@numba.njit(cache=True, nogil=True)
def learn_trace(
    first: IntArray,
    pre: npt.NDArray[np.uint32],
    state: Int32Array,
    coefficient: Int32Array,
    x0: npt.NDArray[np.int8],
    x1: Int32Array,
    y: Int32Array,
    up: int,
    low: Int32Array,
    high: Int32Array,
    settled: IntArray,
    drive: Int32Array,
) -> None:
    """Change w and t as ``engine.learn`` does for a TRACE table. settled (rows, ..): [0, 0] y1 + _KEY under which both stay as
    they are while y3 is 0; drive : as there."""
    grow, undo, take = coefficient
    add = np.int32(up)
    w_least, w_most, t_least, t_most = low[0], high[0], low[2], high[2]
    w_floor, w_ceiling = (_ZERO if w_least >= 0 else _LOWEST), (_ZERO if w_most <= 0 else _HIGHEST)
    for row in range(len(first) - 1):
        a, b = first[row], first[row + 1]
        y1, y3 = _received(y[1, row]), _received(y[3, row])
        if y3 == 0 and settled[row, 0, 0] == y1 + _KEY:
            continue
        w, t, flags, sources = state[0, a:b], state[2, a:b], x0[a:b], pre[a:b]
        moved = _ZERO
        if y3 != 0:
            for j in range(b - a):
                drive[j] = x1[sources[j]]
        for j in range(b - a):
            whole = shift_right(np.int32(np.int32(-t[j]) * y1), _DOT)
            weight = _limited(_sum(shift_left(w[j], _STATE), shift_left(whole, _STATE)), w_floor, w_ceiling)
            fine = _sum(shift_left(t[j], _STATE), shift_left(shift_right(np.int32(np.int32(-drive[j]) * y3), _PRODUCT), grow))
            fine = _sum(fine, shift_left(np.int32(flags[j] * y3), undo))
            fine = _sum(fine, shift_left(whole, take))
            moved |= (weight | fine) & _FRACTION
            weight = _limited(shift_right(np.int32(weight + add), _STATE), w_least, w_most)
            fine = _limited(shift_right(np.int32(fine + add), _STATE), t_least, t_most)
            moved |= (weight ^ w[j]) | (fine ^ t[j])
            w[j], t[j] = weight, fine
        settled[row, 0, 0] = y1 + _KEY if y3 == 0 and moved == 0 else 0
