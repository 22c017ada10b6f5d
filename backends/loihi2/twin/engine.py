"""The learning engine of Lava's fixed-point models on stored synapses, compiled: traces, products, tags, stochastic rounding.

Order of a step and every rounding as in the emitted ``Plastic`` process, which equals Lava's ``LearningDense`` (docs/loihi2.md). A row
holds the synapses of one target neuron, whose y are then the same for the whole row: a product with a y of 0 costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.backends.loihi2.arithmetic import IntArray
from neurocompile.backends.loihi2.twin.bits import shift_left, shift_right
from neurocompile.backends.loihi2.twin.fused import LAGGED, NONE, ROW, TRACE_LIMIT, fused, learn_lagged, learn_trace, packed
from neurocompile.backends.loihi2.twin.rules import (
    ACCUMULATOR_BITS,
    EVERY_STEP,
    FIRST_POST,
    FIRST_PRE,
    STATE_SHIFT,
    parse_rules,
    signed,
    tabulate,
)
from neurocompile.ir._types import Int32Array

_RANGES = {"d": (0, 255), "t": (-257, 255)}
"""As Lava clips the second tag and the tag"""
_ROUND = 2**STATE_SHIFT
_LOWEST, _HIGHEST = np.int32(-(2**ACCUMULATOR_BITS)), np.int32(2**ACCUMULATOR_BITS - 1)
_X0, _X1 = FIRST_PRE, FIRST_PRE + 1
_NOBODY = np.zeros(0, np.int64)
_SMALL = 254
"""A constant of this size added to a weight or a tag stays within nine bits and a sign"""
_RECEIVED = float(np.exp(-1 / 65535.0))
"""Lava decays a y trace that a neuron sends once, with the time constant 2^16 - 1"""


@numba.njit(cache=True, nogil=True)
def send(
    spiked: IntArray, first: IntArray, position: Int32Array, post: Int32Array, weight: Int32Array, exponent: int, sums: IntArray
) -> None:
    """Set ``sums`` to the weights of all synapses of some neurons, each at its target, shifted by the exponent. position, post : place
    in ``weight`` and target of each source's synapses."""
    sums[:] = 0
    for neuron in spiked:
        for k in range(first[neuron], first[neuron + 1]):
            sums[post[k]] += weight[position[k]]
    if exponent:
        for i in range(len(sums)):
            sums[i] = sums[i] << exponent if exponent > 0 else sums[i] >> -exponent


@numba.njit(cache=True, nogil=True)
def mark(spiked: IntArray, first: IntArray, position: Int32Array, value: int, x0: npt.NDArray[np.int8]) -> None:
    """Set x0, one number a synapse, of all synapses of some neurons."""
    for neuron in spiked:
        for k in range(first[neuron], first[neuron + 1]):
            x0[position[k]] = value


@numba.njit(cache=True, nogil=True)
def advance(trace: Int32Array, decay: float, impulse: int, draw: float, spiked: IntArray) -> None:
    """Let a trace of spikes decay, rounded stochastically (up where ``draw`` < fraction), and add an impulse per spike."""
    for i in range(len(trace)):
        exact = decay * trace[i]
        whole = np.floor(exact)
        trace[i] = min(int(whole) + (1 if draw < exact - whole else 0), TRACE_LIMIT)
    for i in spiked:
        trace[i] = min(trace[i] + impulse, TRACE_LIMIT)


@numba.njit(cache=True, nogil=True)
def receive(sent: Int32Array, decay: float, draw: float, y: Int32Array) -> None:
    """Set ``y`` to what Lava makes of a third factor that a neuron sends: it decays once and is rounded stochastically."""
    for i in range(len(sent)):
        exact = decay * sent[i]
        whole = np.floor(exact)
        y[i] = int(whole) + (1 if draw < exact - whole else 0)


@numba.njit(cache=True, nogil=True)
def _multiply(
    part: npt.NDArray[Any],
    scale: int,
    gate: npt.NDArray[np.int8],
    factor: Int32Array,
    state: Int32Array,
    x: Int32Array,
    pre: npt.NDArray[np.uint32],
    x0: npt.NDArray[np.int8],
) -> None:
    """Set ``part`` to a product on the synapses of a row: ``scale`` (all that the target has) times the other factors. gate : x0 where the
    product depends on it, else empty."""
    n = len(pre)
    zero, same = part.dtype.type(0), part.dtype.type(scale)
    begun = False
    if len(gate):
        begun = True
        for j in range(n):
            part[j] = same if gate[j] else zero
    for f in range(len(factor)):
        variable, const, sign = factor[f, 0], factor[f, 1], factor[f, 2]
        least, most = factor[f, 3], factor[f, 4]
        if variable >= FIRST_POST:
            continue
        if not begun and (sign or variable == _X0):
            for j in range(n):
                part[j] = same
            begun = True
        if variable >= _X1:  # 0 .. 127 without a constant needs no clipping
            trace = x[variable - _X1]
            if not begun and const == 0:
                for j in range(n):
                    part[j] = same * trace[pre[j]]
            else:
                if not begun:
                    for j in range(n):
                        part[j] = same
                for j in range(n):
                    value = np.int32(trace[pre[j]] + const)
                    value = least if value < least else value
                    value = most if value > most else value
                    part[j] *= value
        elif variable == _X0:
            for j in range(n):
                value = np.int32(x0[j] + const)
                value = least if value < least else value
                value = most if value > most else value
                part[j] *= value
        elif sign:
            values = state[variable]
            for j in range(n):
                value = np.int32(values[j] + const)
                part[j] = part[j] if value > 0 else (-part[j] if value < 0 else zero)
        elif -_SMALL <= const <= _SMALL:  # w, d and t are within +-257: nothing to clip
            values = state[variable]
            if begun:
                for j in range(n):
                    part[j] *= np.int32(values[j] + const)
            else:
                for j in range(n):
                    part[j] = same * np.int32(values[j] + const)
        else:
            values = state[variable]
            if not begun:
                for j in range(n):
                    part[j] = same
            for j in range(n):
                value = np.int32(values[j] + const)
                value = least if value < least else value
                value = most if value > most else value
                part[j] *= value
        begun = True
    if not begun:
        for j in range(n):
            part[j] = same


@numba.njit(cache=True, nogil=True)
def _accumulate(part: npt.NDArray[Any], right: int, left: int, held: Int32Array, total: Int32Array, begin: bool) -> None:
    """Shift a product to the accumulator's width and add it; ``begin``: to the variable as it is, else to what is there."""
    n = len(held)
    lowest, highest = part.dtype.type(_LOWEST), part.dtype.type(_HIGHEST)
    if begin:
        for j in range(n):
            total[j] = shift_left(held[j], np.int32(STATE_SHIFT))
    for j in range(n):
        p = shift_left(shift_right(part[j], right), left)
        p = lowest if p < lowest else p
        p = highest if p > highest else p
        s = np.int32(total[j] + np.int32(p))
        s = _LOWEST if s < _LOWEST else s
        s = _HIGHEST if s > _HIGHEST else s
        total[j] = s


@numba.njit(cache=True, nogil=True)
def _settle(total: Int32Array, held: Int32Array, least: int, most: int, add: int) -> bool:
    """Round the accumulator into the variable; return whether it changed or anything had to be rounded."""
    moved, ups = np.int32(0), np.int32(add)
    signed = least < 0 < most
    for j in range(len(held)):
        value = total[j]
        if not signed:
            value = np.int32(0) if (least >= 0 and value < 0) or (most <= 0 and value > 0) else value
        moved |= value & np.int32(_ROUND - 1)
        value = shift_right(np.int32(value + ups), np.int32(STATE_SHIFT))
        value = least if value < least else value
        value = most if value > most else value
        moved |= value ^ held[j]
        held[j] = value
    return bool(moved != 0)


@numba.njit(cache=True, nogil=True)
def learn(
    first: IntArray,
    pre: npt.NDArray[np.uint32],
    state: Int32Array,
    product: Int32Array,
    factor: Int32Array,
    x0: npt.NDArray[np.int8],
    x: Int32Array,
    y: Int32Array,
    every: bool,
    up: int,
    low: Int32Array,
    high: Int32Array,
    fresh: Int32Array,
    part: npt.NDArray[Any],
    settled: IntArray,
) -> None:
    """Change w, d and t (the rows of ``state``) by the products of a rule, all from the values before.

    first : row pointers of the targets; pre, x0 : source, and whether it spikes, of each synapse; x : traces x1, x2 of sources;
    y : y0 .. y3 of targets; every : whether the products of u act; up : what stochastic rounding adds before it rounds down;
    low, high : of w, d, t; fresh (3, longest row), part (longest row,) : scratch, ``part`` as wide as products are;
    settled (rows, 3, 2) : per row and variable, the factors of the target (as one number, 0: none) under which an evaluation changed
    nothing and left nothing to round, and the variables that it depended on. Where nothing of that has changed it need not be repeated.
    """
    ours = np.zeros((3, 2), np.int64)
    scales = np.zeros(len(product), np.int64)
    for row in range(len(first) - 1):
        a, n = first[row], first[row + 1] - first[row]
        if n == 0:
            continue
        ours[:] = 0
        moving = 0
        for number in range(len(product)):
            target, dependency, mantissa, _, _, begin, end = product[number]
            scale = mantissa
            needs = 1 << target
            sources = dependency == _X0
            if dependency == EVERY_STEP:
                scale = scale if every else 0
            elif dependency >= FIRST_POST:
                scale *= y[dependency - FIRST_POST, row]
            for f in range(begin, end):
                variable, const, _, least, most = factor[f]
                if variable >= FIRST_POST:
                    scale *= min(max(y[variable - FIRST_POST, row] + const, least), most)
                elif variable >= FIRST_PRE:
                    sources = True
                else:
                    needs |= 1 << variable
            scales[number] = scale
            if scale != 0:
                moving |= (1 << target) if sources else 0
                ours[target, 0] = (ours[target, 0] + scale + (number + 1) * 2654435761) * 6364136223846793005
                ours[target, 1] |= needs
        touched = 0
        for target in range(3):
            same = ours[target, 0] == settled[row, target, 0] or ours[target, 1] == 0
            if ours[target, 1] != 0 and (moving >> target & 1 or not same):
                touched |= 1 << target
        if touched == 0:
            continue
        for number in range(len(product)):
            target, dependency, _, right, left, begin, end = product[number]
            scale = scales[number]
            if scale == 0 or not touched >> target & 1:
                continue
            _multiply(
                part, scale, x0[a : a + n] if dependency == _X0 else x0[:0], factor[begin:end], state[:, a : a + n], x, pre[a : a + n],
                x0[a : a + n],
            )  # fmt: skip
            total = fresh[target]
            _accumulate(part, right, left, state[target, a : a + n], total, touched >> (3 + target) & 1 == 0)
            touched |= 8 << target
        changed = 0
        for target in range(3):
            if touched >> target & 1 and _settle(fresh[target], state[target, a : a + n], low[target], high[target], up):
                changed |= 1 << target
        for target in range(3):
            if touched >> target & 1:
                settled[row, target] = ours[target]
                if moving >> target & 1:
                    settled[row, target, 0] = 0
            if settled[row, target, 1] & changed:
                settled[row, target, 0] = 0


@numba.njit(cache=True, nogil=True, inline="always")
def _begin(
    spiked: IntArray,
    decays: npt.NDArray[np.float64],
    impulses: IntArray,
    sent_1: Int32Array,
    sent_2: Int32Array,
    sent_3: Int32Array,
    draws: npt.NDArray[np.float64],
    x: Int32Array,
    y: Int32Array,
) -> int:
    """Advance traces and receive third factors; return what is added before synaptic variables are rounded.

    decays : of x1, x2, 0 where there is none; draws : for x traces, y traces, synaptic variables.
    """
    for number in range(2):
        if decays[number] > 0.0:
            advance(x[number], decays[number], impulses[number], draws[0], spiked)
    receive(sent_1, _RECEIVED, draws[1], y[1])
    receive(sent_2, _RECEIVED, draws[1], y[2])
    receive(sent_3, _RECEIVED, draws[1], y[3])
    up: int = _ROUND - 1 - int(np.floor(draws[2] * _ROUND))
    return up


@numba.njit(cache=True, nogil=True)
def _hear(
    fired: IntArray, own: bool, decays: npt.NDArray[np.float64], impulses: IntArray, held: Int32Array, draw: float, y: Int32Array
) -> None:
    """Set y0 to the targets that spike; with ``own`` y1 .. y3 are traces of these spikes (``held``; decays, impulses : from the third on),
    else what was received, with an impulse of 0 added where a target spikes, which clips."""
    y[0] = 0
    for i in fired:
        y[0, i] = 1
    for number in range(3):
        if own:
            if decays[2 + number] > 0.0:
                advance(held[number], decays[2 + number], impulses[2 + number], draw, fired)
            y[1 + number] = held[number]
        else:
            for i in fired:
                y[1 + number, i] = min(max(y[1 + number, i], 0), TRACE_LIMIT)


@numba.njit(cache=True, nogil=True)
def step_engine(
    spiked: IntArray,
    fired: IntArray,
    own: bool,
    held: Int32Array,
    first_of_pre: IntArray,
    position: Int32Array,
    decays: npt.NDArray[np.float64],
    impulses: IntArray,
    sent_1: Int32Array,
    sent_2: Int32Array,
    sent_3: Int32Array,
    draws: npt.NDArray[np.float64],
    first: IntArray,
    pre: npt.NDArray[np.uint32],
    state: Int32Array,
    product: Int32Array,
    factor: Int32Array,
    x0: npt.NDArray[np.int8],
    x: Int32Array,
    y: Int32Array,
    every: bool,
    limits: Int32Array,
    fresh: Int32Array,
    part: npt.NDArray[Any],
    settled: IntArray,
) -> None:
    """Do all that a step changes, by any table: one call a step. limits : rows low, high; the others : see the parts."""
    up = _begin(spiked, decays, impulses, sent_1, sent_2, sent_3, draws, x, y)
    _hear(fired, own, decays, impulses, held, draws[1], y)
    mark(spiked, first_of_pre, position, 1, x0)
    learn(first, pre, state, product, factor, x0, x, y, every, up, limits[0], limits[1], fresh, part, settled)
    mark(spiked, first_of_pre, position, 0, x0)


@numba.njit(cache=True, nogil=True)
def step_fused(
    spiked: IntArray,
    decays: npt.NDArray[np.float64],
    impulses: IntArray,
    sent_1: Int32Array,
    sent_2: Int32Array,
    sent_3: Int32Array,
    draws: npt.NDArray[np.float64],
    first: IntArray,
    pre: npt.NDArray[np.uint32],
    state: npt.NDArray[np.int16],
    x: Int32Array,
    y: Int32Array,
    limits: Int32Array,
    drive: npt.NDArray[np.int16],
    settled: Int32Array,
    kind: int,
    coefficient: Int32Array,
    sources: npt.NDArray[np.int16],
    active: Int32Array,
    other: int,
    carry: int,
) -> None:
    """As ``step_engine``, by a table of some kind that has a loop of its own. other, carry : see ``rules.signed``."""
    up = _begin(spiked, decays, impulses, sent_1, sent_2, sent_3, draws, x, y)
    if other:
        for i in range(len(sent_3)):
            y[3, i] -= y[other, i]
    if other == 1:
        y[1] = carry
    packed(x[0], spiked, sources)
    if kind == LAGGED:
        learn_lagged(first, pre, state, coefficient, sources, y, up, limits[0], limits[1], settled, drive, active)
    else:
        learn_trace(first, pre, state, coefficient, sources, y, up, limits[0], limits[1], settled, drive)


class Plastic:
    """A plastic projection: its synapses sorted by target, traces and tags, and what arrives next.

    Weights and tags in the order of the program: :meth:`weights`, :meth:`tags`. ``quick`` False: by ``learn`` whatever the table.
    """

    def __init__(
        self, projection: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], *, n_pre: int, n_post: int, quick: bool = True
    ) -> None:
        key, rule = projection["key"], projection["rule"]
        products = parse_rules({target: rule[f"{target}_fixed"] for target in ("dw", "dd", "dt")})
        self.table = tabulate(products)
        joined, self.other, self.carry = signed(products)
        if self.other == 1 and rule.get("x2_tau"):  # no constant
            joined, self.other = products, 0
        self.kind, self.coefficient = fused(tabulate(joined))
        if not quick or int(rule["tag_start"]) <= _RANGES["t"][0]:
            self.kind = NONE
        self.start = (int(rule["d_start"]), int(rule["tag_start"]))
        ranges = (tuple(projection["weight_range"]), _RANGES["d"], _RANGES["t"])
        self.limits = np.array(ranges, np.int32).T.copy()
        self._lay_out(arrays[f"{key}.pre"].astype(np.int64), arrays[f"{key}.post"].astype(np.int64), n_pre, n_post)
        self.exponent = int(projection["weight_exp"])
        self.own, self.hears = rule.get("factors", 3) == 2, bool(rule.get("post_spikes", False))
        traces = ("x1", "x2", "y1", "y2", "y3") if self.own else ("x1", "x2")
        taus = [float(rule.get(f"{trace}_tau_fixed", rule.get(f"{trace}_tau", 0.0))) for trace in traces]
        self.decays = np.array([np.exp(-1 / tau) if tau else 0.0 for tau in taus])
        self.impulses = np.array(
            [int(rule[f"{trace}_impulse_fixed"]) if tau else 0 for trace, tau in zip(traces, taus, strict=True)], np.int64
        )
        self.held, self.silent = np.zeros((3, n_post), np.int32), np.zeros(n_post, np.int32)
        self.settled: npt.NDArray[Any] = np.zeros((n_post, 3, 2), np.int64) if self.kind == NONE else np.zeros((2, n_post), np.int32)
        self.active = np.zeros(n_post, np.int32)
        self.state[0, self.slot] = arrays[f"{key}.weight.fixed"]
        self.keeps_tag, self.keeps_d = bool(rule.get("tag_is_weight", False)), bool(rule.get("d_is_weight", True))
        self.state[1], self.state[2] = self.start
        self.x, self.y = np.zeros((2, n_pre), np.int32), np.zeros((4, n_post), np.int32)
        self.arriving = np.zeros(n_post, np.int64)

    def _lay_out(self, pre: IntArray, post: IntArray, n_pre: int, n_post: int) -> None:
        """Sort synapses by target. The loops of ``fused`` have rows padded to whole vectors of 16-bit integers: places that are no synapse
        change as others do and are never read."""
        self.target = post.astype(np.int32)
        """Of each synapse, in the program's order"""
        order = np.lexsort((pre, post))
        count = np.bincount(post, minlength=n_post)
        quick = self.kind != NONE
        padded = -(-count // ROW) * ROW if quick else count
        self.first = np.concatenate(([0], np.cumsum(padded))).astype(np.int64)
        self.slot = np.empty(len(pre), np.int64)
        """Synapse, in the program's order -> its place"""
        self.slot[order] = np.arange(len(pre)) + np.repeat(self.first[:-1] - np.concatenate(([0], np.cumsum(count)))[:-1], count)
        places = int(self.first[-1])
        self.pre = np.zeros(places, np.uint32)
        self.pre[self.slot] = pre
        by_pre = np.lexsort((post, pre))
        self.position, self.post = self.slot[by_pre].astype(np.int32), post[by_pre].astype(np.int32)
        self.first_of_pre = np.searchsorted(pre[by_pre], np.arange(n_pre + 1)).astype(np.int64)
        longest = int(padded.max(initial=0))
        self.state: npt.NDArray[Any] = np.zeros((3, places), np.int16 if quick else np.int32)
        self.fresh: npt.NDArray[Any] = np.zeros((3, longest), self.state.dtype)
        self.part = np.zeros(longest, np.int64 if self.table.wide else np.int32)
        self.x0, self.sources = np.zeros(places, np.int8), np.zeros(n_pre, np.int16)

    def reset(self) -> None:
        """Put traces and eligibility at rest; weights and their low bits stay."""
        self.x[:], self.y[:], self.held[:], self.arriving[:] = 0, 0, 0, 0
        if not self.keeps_d:
            self.state[1] = self.start[0]
        if not self.keeps_tag:
            self.state[2] = self.start[1]
        self.settled[:] = 0

    def changing(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that change, by name."""
        return {"state": self.state, "x": self.x, "held": self.held, "arriving": self.arriving, "settled": self.settled}

    def emit(self, spiked: IntArray) -> None:
        """Sum up what some spikes bring to the targets in the next step."""
        send(spiked, self.first_of_pre, self.position, self.post, self.state[0], self.exponent, self.arriving)

    def learn(self, step: int, spiked: IntArray, fired: IntArray, sent: Mapping[int, Int32Array], draws: npt.NDArray[np.float64]) -> None:
        """Advance traces and change weights in step ``step`` (0 ..). spiked, fired : sources and targets that spike (these count only where
        the rule has post_spikes); sent : number 1 .. 3 of a y -> what the targets send as it; draws : random numbers for x traces, y traces
        and synaptic variables."""
        if self.kind != NONE:
            step_fused(
                spiked, self.decays, self.impulses, sent[1], sent[2], sent[3], draws, self.first, self.pre, self.state, self.x, self.y,
                self.limits, self.fresh[0], self.settled, self.kind, self.coefficient, self.sources,
                self.active, self.other, self.carry,
            )  # fmt: skip
            return
        y1, y2, y3 = (sent.get(number, self.silent) for number in (1, 2, 3))
        step_engine(
            spiked, fired if self.hears else _NOBODY, self.own, self.held, self.first_of_pre, self.position, self.decays, self.impulses,
            y1, y2, y3, draws, self.first, self.pre, self.state, self.table.product, self.table.factor,
            self.x0, self.x, self.y, (step + 1) % self.table.period == 0, self.limits, self.fresh, self.part, self.settled,
        )  # fmt: skip

    def weights(self) -> Int32Array:
        """Weights in the program's order, integers."""
        return self._in_order(0)

    def set_weights(self, weights: IntArray) -> None:
        """Set the weights, in the program's order; what lies outside their range is clipped."""
        self.settled[:] = 0
        self.state[0, self.slot] = np.clip(weights, self.limits[0, 0], self.limits[1, 0])

    def tags(self) -> tuple[Int32Array, Int32Array]:
        """(t, d) in the program's order."""
        return self._in_order(2), self._in_order(1)

    def third(self) -> Int32Array:
        """|y3| of each target as the last step received it, also where it came as two halves."""
        largest: Int32Array = np.maximum(np.abs(self.y[3]), self.y[self.other] if self.other else 0)
        return largest

    def _in_order(self, variable: int) -> Int32Array:
        values: Int32Array = self.state[variable, self.slot].astype(np.int32)
        return values
