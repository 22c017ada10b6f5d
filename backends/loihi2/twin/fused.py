"""The two rules that programs mostly have, each in one loop over the synapses of a row instead of one a product.

``LAGGED`` is the form of that name with low bits in d, ``TRACE`` the readout's (and ``pre_trace``); see backends/loihi2/forms.py. Any other
table runs in ``engine.learn``, which these equal bit for bit (tested on random states).

Two versions of each: where a row's third factors are small enough that no product alone exceeds the accumulator's 16 bits, all is done in
16-bit integers that saturate as the accumulator does, 16 synapses a vector; else in 32-bit integers, product for product.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.backends.loihi2.arithmetic import IntArray
from neurocompile.backends.loihi2.twin.bits import add, larger, multiply, saturating_add, shift_left, shift_right, smaller, subtract
from neurocompile.backends.loihi2.twin.rules import ACCUMULATOR_BITS, EVERY_STEP, STATE_SHIFT, TARGETS, VARIABLES, RuleTable
from neurocompile.ir._types import Int32Array

Int16Array = npt.NDArray[np.int16]
Place = np.uint64
"""Of a synapse; unsigned, as numba checks signed indices for being negative and then makes no vectors"""

NONE, LAGGED, TRACE = 0, 1, 2
"""Kinds of tables"""
ROW = 16
"""Rows that the loops run over are padded to a multiple of this, so that vectors leave no rest"""
_W, _D, _T = TARGETS["dw"], TARGETS["dd"], TARGETS["dt"]
_LOWEST, _HIGHEST = np.int32(-(2**ACCUMULATOR_BITS)), np.int32(2**ACCUMULATOR_BITS - 1)
_ZERO, _STATE, _FRACTION = np.int32(0), np.int32(STATE_SHIFT), np.int32(2**STATE_SHIFT - 1)
_DOT, _PRODUCT = np.int32(5), np.int32(3)
"""What the engine shifts t y and d y, and x1 y, to the right by"""
TRACE_LIMIT = 127
"""Largest x trace"""
_FLAG = np.int32(8)
_SPIKED = 1 << 8
"""Where a source's x0 stands beside its x1"""
_TAG_LEAST = -256
"""What no evaluation goes below, as the accumulator saturates. A tag of -257 can only be set; the loops are not for such."""
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
    return larger(smaller(value, high), low)


@numba.njit(cache=True, nogil=True, inline="always")
def _received(y: Any) -> Any:
    """Clip a third factor as a product does."""
    return min(max(y, -128), 127)


@numba.njit(cache=True, nogil=True, inline="always")
def _sum(total: Any, part: Any) -> Any:
    """Add a product to the accumulator; both saturate."""
    return _limited(np.int32(total + _limited(np.int32(part), _LOWEST, _HIGHEST)), _LOWEST, _HIGHEST)


@numba.njit(cache=True, nogil=True, inline="always")
def _fits(factor: Any, largest: Any, right: Any, left: Any) -> Any:
    """Whether a product of a row's factor with values up to ``largest``, shifted both ways, stays within 16 bits."""
    product = abs(factor) * largest
    return product <= _HIGHEST and ((product >> right) + 1) << left <= _HIGHEST


@numba.njit(cache=True, nogil=True, inline="always")
def _weights_16(
    a: Place,
    b: Place,
    w: Int16Array,
    d: Int16Array,
    t: Int16Array,
    y1: int,
    y3: int,
    c: Int32Array,
    up: int,
    low: Int32Array,
    high: Int32Array,
) -> None:
    """Change w and d of a LAGGED row."""
    centre, carry, signal, ups = np.int16(c[0]), np.int16(y1), np.int16(-y3), np.int16(up)
    w_least, w_most, d_least, d_most = np.int16(low[0]), np.int16(high[0]), np.int16(low[1]), np.int16(high[1])
    for j in range(a, b):
        whole = shift_right(multiply(subtract(centre, d[j]), carry), _DOT)
        fine = saturating_add(shift_left(d[j], _STATE), shift_left(shift_right(multiply(t[j], signal), _DOT), c[1]))
        fine = saturating_add(saturating_add(fine, shift_left(whole, c[2])), ups)
        w[j] = _limited(add(w[j], whole), w_least, w_most)
        d[j] = _limited(shift_right(fine, _STATE), d_least, d_most)


@numba.njit(cache=True, nogil=True, inline="always")
def _idle_16(a: Place, b: Place, w: Int16Array, d: Int16Array, y1: int, c: Int32Array, up: int, low: Int32Array, high: Int32Array) -> bool:
    """Change w and d of a LAGGED row whose y3 is 0; return whether anything changed or had to be rounded."""
    centre, carry, ups, moved = np.int16(c[0]), np.int16(y1), np.int16(up), np.int16(0)
    part = np.int16(_FRACTION)
    w_least, w_most, d_least, d_most = np.int16(low[0]), np.int16(high[0]), np.int16(low[1]), np.int16(high[1])
    for j in range(a, b):
        whole = shift_right(multiply(subtract(centre, d[j]), carry), _DOT)
        fine = saturating_add(shift_left(d[j], _STATE), shift_left(whole, c[2]))
        weight = _limited(add(w[j], whole), w_least, w_most)
        moved = np.int16(moved | (fine & part))
        fine = _limited(shift_right(saturating_add(fine, ups), _STATE), d_least, d_most)
        moved = np.int16(moved | (weight ^ w[j]) | (fine ^ d[j]))
        w[j], d[j] = weight, fine
    return bool(moved != 0)


@numba.njit(cache=True, nogil=True)
def _weights_32(
    a: Place,
    b: Place,
    w: Int16Array,
    d: Int16Array,
    t: Int16Array,
    y1: int,
    y3: int,
    c: Int32Array,
    up: int,
    low: Int32Array,
    high: Int32Array,
) -> bool:
    """As both, for any third factors."""
    w_floor, w_ceiling = (_ZERO if low[0] >= 0 else _LOWEST), (_ZERO if high[0] <= 0 else _HIGHEST)
    moved = 0
    for j in range(a, b):
        whole = shift_right(np.int32((c[0] - d[j]) * y1), _DOT)
        weight = _sum(np.int32(w[j] << STATE_SHIFT), shift_left(whole, _STATE))
        weight = _limited(weight, w_floor, w_ceiling)
        fine = _sum(np.int32(d[j] << STATE_SHIFT), shift_left(shift_right(np.int32(-t[j] * y3), _DOT), c[1]))
        fine = _limited(_sum(fine, shift_left(whole, c[2])), _ZERO, _HIGHEST)
        moved |= (weight | fine) & _FRACTION
        weight = min(max((weight + up) >> STATE_SHIFT, low[0]), high[0])
        fine = min(max((fine + up) >> STATE_SHIFT, low[1]), high[1])
        moved |= (weight ^ w[j]) | (fine ^ d[j])
        w[j], d[j] = weight, fine
    return moved != 0


@numba.njit(cache=True, nogil=True, inline="always")
def _tags_16(a: Place, b: Place, t: Int16Array, x: Int16Array, y2: int, c: Int32Array, up: int, low: int, high: int) -> None:
    """Change t of a LAGGED row. x : of each synapse, see ``packed``."""
    psi, undone, leak, ups, trace = np.int16(y2), np.int16(-y2 << c[4]), np.int16(-c[5]), np.int16(up), np.int16(TRACE_LIMIT)
    least, most = np.int16(low), np.int16(high)
    for j in range(a, b):
        total = saturating_add(shift_left(t[j], _STATE), shift_left(shift_right(multiply(np.int16(x[j - a] & trace), psi), _PRODUCT), c[3]))
        total = saturating_add(total, multiply(shift_right(x[j - a], _FLAG), undone))
        total = saturating_add(total, shift_left(multiply(t[j], leak), c[6]))
        t[j] = _limited(shift_right(saturating_add(total, ups), _STATE), least, most)


@numba.njit(cache=True, nogil=True, inline="always")
def _leak_16(a: Place, b: Place, t: Int16Array, c: Int32Array, up: int, low: int, high: int) -> bool:
    """Change t of a LAGGED row whose y2 is 0; return whether anything changed or had to be rounded."""
    leak, ups, moved = np.int16(-c[5]), np.int16(up), np.int16(0)
    part = np.int16(_FRACTION)
    least, most = np.int16(low), np.int16(high)
    for j in range(a, b):
        total = saturating_add(shift_left(t[j], _STATE), shift_left(multiply(t[j], leak), c[6]))
        moved = np.int16(moved | (total & part))
        total = _limited(shift_right(saturating_add(total, ups), _STATE), least, most)
        moved = np.int16(moved | (total ^ t[j]))
        t[j] = total
    return bool(moved != 0)


@numba.njit(cache=True, nogil=True)
def _tags_32(a: Place, b: Place, t: Int16Array, x: Int16Array, y2: int, c: Int32Array, up: int, low: int, high: int) -> bool:
    """As both, for any third factor and leak."""
    moved = 0
    for j in range(a, b):
        total = _sum(np.int32(t[j] << STATE_SHIFT), shift_left(shift_right(np.int32((x[j - a] & TRACE_LIMIT) * y2), _PRODUCT), c[3]))
        total = _sum(total, shift_left(np.int32(-(x[j - a] >> _FLAG) * y2), c[4]))
        total = _sum(total, shift_left(np.int32(-c[5] * t[j]), c[6]))
        moved |= total & _FRACTION
        total = min(max((total + up) >> STATE_SHIFT, low), high)
        moved |= total ^ t[j]
        t[j] = total
    return moved != 0


@numba.njit(cache=True, nogil=True)
def packed(trace: Int32Array, spiked: IntArray, x: Int16Array) -> None:
    """Set ``x`` to x1 of each source plus _SPIKED where x0 is 1."""
    for i in range(len(trace)):
        x[i] = trace[i]
    for i in spiked:
        x[i] += _SPIKED


@numba.njit(cache=True, nogil=True, inline="always")
def _gather(a: Place, b: Place, x: Int16Array, pre: npt.NDArray[np.uint32], drive: Int16Array) -> None:
    for j in range(a, b):
        drive[j - a] = x[pre[j]]


@numba.njit(cache=True, nogil=True)
def _moving(y: Int32Array, settled: Int32Array, active: Int32Array) -> int:
    """List in ``active`` the rows of a LAGGED table in which anything may change; return how many. Without a branch: most are idle, and
    which are is hard to predict."""
    count = 0
    for row in range(len(active)):
        active[count] = row
        signal = (settled[1, row] == 0) & (y[3, row] != 0)
        carry = min(max(y[1, row], -128), 127) + _KEY != settled[0, row]
        count += int(signal | carry | (y[2, row] != 0) | (settled[1, row] == 0))
    return count


@numba.njit(cache=True, nogil=True)
def learn_lagged(
    first: IntArray,
    pre: npt.NDArray[np.uint32],
    state: Int16Array,
    coefficient: Int32Array,
    x: Int16Array,
    y: Int32Array,
    up: int,
    low: Int32Array,
    high: Int32Array,
    settled: Int32Array,
    drive: Int16Array,
    active: Int32Array,
) -> None:
    """Change w, d and t as ``engine.learn`` does for a LAGGED table.

    settled (2, rows) : y1 + _KEY under which w and d stay as they are while t y3 is 0; whether t is 0 and stays so while y2 is 0;
    x : of each source, see ``packed``; drive : scratch for those of a row, gathered apart so that the other loop works on vectors;
    active : scratch, a number a row.
    """
    c, w, d, t = coefficient, state[0], state[1], state[2]
    farthest, leaks = max(c[0], high[1] - c[0]), _fits(c[5], -_TAG_LEAST, 0, c[6])
    for row in active[: _moving(y, settled, active)]:
        a, b = Place(first[row]), Place(first[row + 1])
        y1, y2 = _received(y[1, row]), _received(y[2, row])
        y3 = 0 if settled[1, row] else _received(y[3, row])  # t that its leak leaves as it is is 0, and t y3 too
        if y3 != 0 or settled[0, row] != y1 + _KEY:
            small = _fits(y1, farthest, _DOT, max(c[2], STATE_SHIFT)) and _fits(y3, -_TAG_LEAST, _DOT, c[1])
            moved = True
            if not small:
                moved = _weights_32(a, b, w, d, t, y1, y3, c, up, low, high)
            elif y3 != 0:
                _weights_16(a, b, w, d, t, y1, y3, c, up, low, high)
            else:
                moved = _idle_16(a, b, w, d, y1, c, up, low, high)
            settled[0, row] = y1 + _KEY if y3 == 0 and not moved else 0
        if y2 != 0 or not settled[1, row]:
            small = leaks and _fits(y2, TRACE_LIMIT, _PRODUCT, c[3]) and _fits(y2, 1, 0, c[4])
            moved = True
            if small and y2 == 0:
                moved = _leak_16(a, b, t, c, up, low[2], high[2])
            else:
                _gather(a, b, x, pre, drive)
                if small:
                    _tags_16(a, b, t, drive, y2, c, up, low[2], high[2])
                else:
                    moved = _tags_32(a, b, t, drive, y2, c, up, low[2], high[2])
            settled[1, row] = 1 if y2 == 0 and not moved else 0


@numba.njit(cache=True, nogil=True)
def _trace_16(
    a: Place,
    b: Place,
    w: Int16Array,
    t: Int16Array,
    x: Int16Array,
    y1: int,
    y3: int,
    c: Int32Array,
    up: int,
    low: Int32Array,
    high: Int32Array,
) -> None:
    """Change w and t of a TRACE row. x : of each synapse, see ``packed``."""
    carry, signal, undone, ups, trace = np.int16(-y1), np.int16(-y3), np.int16(y3 << c[1]), np.int16(up), np.int16(TRACE_LIMIT)
    take = np.int32(c[2] - 1)  # |t y1| 2^-5 2^c[2] may be 2^15, which saturates
    w_least, w_most, t_least, t_most = np.int16(low[0]), np.int16(high[0]), np.int16(low[2]), np.int16(high[2])
    for j in range(a, b):
        whole = shift_right(multiply(t[j], carry), _DOT)
        fine = saturating_add(
            shift_left(t[j], _STATE), shift_left(shift_right(multiply(np.int16(x[j - a] & trace), signal), _PRODUCT), c[0])
        )
        fine = saturating_add(fine, multiply(shift_right(x[j - a], _FLAG), undone))
        half = shift_left(whole, take)
        fine = saturating_add(saturating_add(fine, saturating_add(half, half)), ups)
        w[j] = _limited(add(w[j], whole), w_least, w_most)
        t[j] = _limited(shift_right(fine, _STATE), t_least, t_most)


@numba.njit(cache=True, nogil=True)
def _trace_32(
    a: Place,
    b: Place,
    w: Int16Array,
    t: Int16Array,
    x: Int16Array,
    y1: int,
    y3: int,
    c: Int32Array,
    up: int,
    low: Int32Array,
    high: Int32Array,
) -> bool:
    """As that, for any third factors; return whether anything changed or had to be rounded."""
    w_floor, w_ceiling = (_ZERO if low[0] >= 0 else _LOWEST), (_ZERO if high[0] <= 0 else _HIGHEST)
    moved = 0
    for j in range(a, b):
        whole = shift_right(np.int32(-t[j] * y1), _DOT)
        weight = _limited(_sum(np.int32(w[j] << STATE_SHIFT), shift_left(whole, _STATE)), w_floor, w_ceiling)
        fine = _sum(np.int32(t[j] << STATE_SHIFT), shift_left(shift_right(np.int32(-(x[j - a] & TRACE_LIMIT) * y3), _PRODUCT), c[0]))
        fine = _sum(_sum(fine, shift_left(np.int32((x[j - a] >> _FLAG) * y3), c[1])), shift_left(whole, c[2]))
        moved |= (weight | fine) & _FRACTION
        weight = min(max((weight + up) >> STATE_SHIFT, low[0]), high[0])
        fine = min(max((fine + up) >> STATE_SHIFT, low[2]), high[2])
        moved |= (weight ^ w[j]) | (fine ^ t[j])
        w[j], t[j] = weight, fine
    return moved != 0


@numba.njit(cache=True, nogil=True)
def learn_trace(
    first: IntArray,
    pre: npt.NDArray[np.uint32],
    state: Int16Array,
    coefficient: Int32Array,
    x: Int16Array,
    y: Int32Array,
    up: int,
    low: Int32Array,
    high: Int32Array,
    settled: Int32Array,
    drive: Int16Array,
) -> None:
    """Change w and t as ``engine.learn`` does for a TRACE table. settled (2, rows) : y1 + _KEY under which both stay as they
    are while y3 is 0, and nothing; drive : as there."""
    c, w, t = coefficient, state[0], state[2]
    for row in range(len(first) - 1):
        a, b = Place(first[row]), Place(first[row + 1])
        y1, y3 = _received(y[1, row]), _received(y[3, row])
        if y3 == 0 and settled[0, row] == y1 + _KEY:
            continue
        small = c[2] > 0 and _fits(y1, -_TAG_LEAST, _DOT, max(c[2] - 1, STATE_SHIFT))
        small = small and _fits(y3, TRACE_LIMIT, _PRODUCT, c[0]) and _fits(y3, 1, 0, c[1])
        _gather(a, b, x, pre, drive)
        if y3 != 0 and small:
            _trace_16(a, b, w, t, drive, y1, y3, c, up, low, high)
            settled[0, row] = 0
        else:
            moved = _trace_32(a, b, w, t, drive, y1, y3, c, up, low, high)
            settled[0, row] = y1 + _KEY if y3 == 0 and not moved else 0
