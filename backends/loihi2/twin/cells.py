"""Neurons of an emitted program in integers, compiled: Lava's LIF, the emitted ``Neuron`` and ``Readout``, and what they send to learn.

Written from docs/loihi2.md; the emitted process models are the second implementation, Lava runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.backends.loihi2.arithmetic import ALIGN_SHIFT, DECAY_UNITY, STATE_MAX, TRACE_MAX, IntArray
from neurocompile.ir._types import Int32Array

_DECAY_SHIFT = 12
_FRACTION = 8
"""Fraction bits of the remainder of a third factor"""
_ADAPTATION_SHIFT = 12
_ADAPTATION_HALF = 1 << (_ADAPTATION_SHIFT - 1)
_REMAINDER_MAX = 8 * TRACE_MAX << _FRACTION
_ERROR_MAX = 2**15 - 1
_WRAP = STATE_MAX + 1
_PSI_BITS = 7
_NAMES = ("du", "dv", "bias", "v_min", "vth", "subtract", "v_subtract", "v_reset", "t_ref", "adapt_decay", "adapt_beta")
_DU, _DV, _BIAS, _V_MIN, _VTH, _SUBTRACT, _V_SUBTRACT, _V_RESET, _T_REF, _ADAPT_DECAY, _ADAPT_BETA = range(len(_NAMES))
_U, _V, _WAIT, _RISE, _LAST, _RATE, _REMAINDER, _SURROGATE, _DISTANCE, _CLOSED, _OWN, _REWARD, _LEAKED = range(13)
"""Rows of the state"""
_POST_BITS, _REWARD_BITS, _PULSE = 8, 16, 32
"""Of rewarded neurons: fraction bits of the trace of own spikes, of reward and leak; y2 and y3 are multiples of a pulse"""


@numba.njit(cache=True, nogil=True, inline="always")
def _decayed(state: int, decay: int) -> int:
    product = state * (DECAY_UNITY - decay)
    return product >> _DECAY_SHIFT if product >= 0 else -(-product >> _DECAY_SHIFT)


@numba.njit(cache=True, nogil=True, inline="always")
def _scaled(value: int, mantissa: int, shift: int) -> int:
    product = value * mantissa
    return (product + (1 << (shift - 1))) >> shift if shift > 0 else product << -shift


@numba.njit(cache=True, nogil=True, inline="always")
def _limited(value: int, low: int, high: int) -> int:
    return low if value < low else (high if value > high else value)


@numba.njit(cache=True, nogil=True)
def _lif(arriving: IntArray, p: IntArray, state: IntArray, spiked: IntArray) -> int:
    """Step Lava's own LIF; return how many spike, their numbers in ``spiked``."""
    count = 0
    for i in range(len(arriving)):
        u = _decayed(state[_U, i], p[_DU, i]) + (arriving[i] << ALIGN_SHIFT)
        if u > _WRAP:  # wraps as Lava's: once, and at 2^23 + 1
            u -= 2 * _WRAP
        elif u <= -_WRAP:
            u += 2 * _WRAP
        state[_U, i] = u
        v = _limited(_decayed(state[_V, i], p[_DV, i]) + u + p[_BIAS, i], -STATE_MAX, STATE_MAX)
        if v > p[_VTH, i] << ALIGN_SHIFT:
            spiked[count] = i
            count += 1
            v = 0
        state[_V, i] = v
    return count


@numba.njit(cache=True, nogil=True)
def _neuron(arriving: IntArray, p: IntArray, state: IntArray, spiked: IntArray, table: IntArray, table_shift: int) -> int:
    """Step the emitted neuron; with a surrogate table (not empty) also its psi, before the reset."""
    count = 0
    for i in range(len(arriving)):
        subtract, wait = p[_SUBTRACT, i] != 0, state[_WAIT, i]
        waiting = max(wait - 1, 0)
        held = not subtract and wait > 0
        blocked = held or (subtract and waiting > 0)
        rise = _decayed(state[_RISE, i], p[_ADAPT_DECAY, i]) + p[_ADAPT_BETA, i] * state[_LAST, i]
        u = _limited(_decayed(state[_U, i], p[_DU, i]) + (arriving[i] << ALIGN_SHIFT), -STATE_MAX, STATE_MAX)
        v = state[_V, i]
        if not held:
            v = _limited(_decayed(v, p[_DV, i]) + u + p[_BIAS, i], p[_V_MIN, i], STATE_MAX)
        distance = v - (p[_VTH, i] << ALIGN_SHIFT) - rise
        if len(table):
            state[_SURROGATE, i] = 0 if waiting > 0 else table[min(abs(distance) >> table_shift, len(table) - 1)]
            state[_DISTANCE, i], state[_CLOSED, i] = distance, 1 if waiting > 0 else 0
        fired = distance > 0 and not blocked
        if fired:
            v = v - p[_V_SUBTRACT, i] if subtract else p[_V_RESET, i]
            waiting = p[_T_REF, i]
            spiked[count] = i
            count += 1
        state[_U, i], state[_V, i], state[_WAIT, i], state[_RISE, i], state[_LAST, i] = u, v, waiting, rise, 1 if fired else 0
    return count


@numba.njit(cache=True, nogil=True)
def _third_factor(
    signal: IntArray,
    state: IntArray,
    mantissa: int,
    shift: int,
    rate: npt.NDArray[np.int64],
    psi: Int32Array,
    step: int,
    sent: Int32Array,
) -> None:
    """Set ``sent`` to y3 of hidden neurons. rate : decay, step, target, mantissa, shift of the firing-rate regularisation, or empty;
    psi : what the learning signal is multiplied with, or empty."""
    unit = step << _FRACTION
    for i in range(len(signal)):
        total = _scaled(signal[i], mantissa, shift)
        if len(rate):
            total += _scaled(state[_RATE, i] - rate[2], rate[3], rate[4])
            state[_RATE, i] = _decayed(state[_RATE, i], rate[0]) + rate[1] * state[_LAST, i]
        if len(psi):
            total = _scaled(total * psi[i], 1, _PSI_BITS)
        wanted = _limited(state[_REMAINDER, i] - total, -_REMAINDER_MAX, _REMAINDER_MAX)
        steps = _limited((wanted + unit // 2) // unit, -(TRACE_MAX // step), TRACE_MAX // step)
        sent[i] = steps * step
        state[_REMAINDER, i] = wanted - steps * unit


@numba.njit(cache=True, nogil=True)
def _follow_reward(spikes: IntArray, state: IntArray, g: IntArray, own: Int32Array, leak: Int32Array, third: Int32Array) -> None:
    """Set what rewarded neurons send: trace of their own spikes, pulses that tags lose, reward. g : post decay and impulse, leak rate,
    reward decay, mantissa and shift."""
    unit, most = _PULSE << _FRACTION, TRACE_MAX // _PULSE
    for i in range(len(spikes)):
        trace = _decayed(state[_OWN, i], g[0]) + (g[1] << _POST_BITS) * state[_LAST, i]
        state[_OWN, i] = trace
        own[i] = min((trace + (1 << (_POST_BITS - 1))) >> _POST_BITS, TRACE_MAX)
        leaked = state[_LEAKED, i] + g[2]
        leak[i] = min(leaked >> _REWARD_BITS, most) * _PULSE
        state[_LEAKED, i] = leaked & ((1 << _REWARD_BITS) - 1)
        reward = _decayed(state[_REWARD, i], g[3]) + (spikes[i] << _REWARD_BITS)
        state[_REWARD, i] = reward
        wanted = _limited(state[_REMAINDER, i] + _scaled(reward, g[4], g[5]), -_REMAINDER_MAX, _REMAINDER_MAX)
        steps = _limited((wanted + unit // 2) // unit, 0, most)
        third[i] = steps * _PULSE
        state[_REMAINDER, i] = wanted - steps * unit


@numba.njit(cache=True, nogil=True)
def _readout(arriving: IntArray, p: IntArray, state: IntArray) -> None:
    for i in range(len(arriving)):
        u = _limited(_decayed(state[_U, i], p[_DU, i]) + (arriving[i] << ALIGN_SHIFT), -STATE_MAX, STATE_MAX)
        state[_U, i] = u
        state[_V, i] = _limited(_decayed(state[_V, i], p[_DV, i]) + u + p[_BIAS, i], p[_V_MIN, i], STATE_MAX)


@numba.njit(cache=True, nogil=True)
def _error(
    state: IntArray,
    target: IntArray,
    window: int,
    error_shift: int,
    mantissa: int,
    shift: int,
    step: int,
    error: IntArray,
    sent: Int32Array,
) -> None:
    """Set ``error`` (graded spikes) and ``sent`` (y3) of a readout."""
    unit = step << _FRACTION
    for i in range(len(target)):
        error[i] = _limited(_scaled(state[_V, i] - target[i], 1, error_shift), -_ERROR_MAX, _ERROR_MAX) * window
        wanted = _limited(state[_REMAINDER, i] - _scaled(error[i], mantissa, shift), -_REMAINDER_MAX, _REMAINDER_MAX)
        steps = _limited((wanted + unit // 2) // unit, -(TRACE_MAX // step), TRACE_MAX // step)
        sent[i] = steps * step
        state[_REMAINDER, i] = wanted - steps * unit


@numba.njit(cache=True, nogil=True)
def broadcast(error: IntArray, weights: IntArray, heard: IntArray) -> None:
    """Add to ``heard`` (n,) what the errors (k,) of a readout bring over feedback weights (k, n)."""
    for k in range(len(error)):
        if error[k] != 0:
            row = weights[k]
            for i in range(len(heard)):
                heard[i] += row[i] * error[k]


_NONE, _NO_PSI = np.zeros(0, np.int64), np.zeros(0, np.int32)


class Cells:
    """One population that is no source. ``u``, ``v``: its state; ``sent``: number of a y -> what it sends to its plastic synapses."""

    def __init__(self, population: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        n, key = population["size"], population["key"]
        self.kind: str = population["process"]
        start = f"{key}.fixed."
        p = {name[len(start) :]: np.broadcast_to(value, (n,)).astype(np.int64) for name, value in arrays.items() if name.startswith(start)}
        if self.kind == "LIF":  # Lava's own: decay register with an offset of 1, bias as mantissa and exponent
            p |= {"du": p["du"] + 1, "bias": p["bias_mant"] << p["bias_exp"]}
        self.p = np.array([p.get(name, np.zeros(n, np.int64)) for name in _NAMES])
        self.start = (p["u"], p["v"])
        self.state = np.zeros((13, n), np.int64)
        self.spiked = np.zeros(n, np.int64)
        learning = population["learning"]
        self.learning: Mapping[str, Any] | None = learning
        self.table, self.table_shift, self.rate = _NONE, 0, _NONE
        self.error, self.silence, self.sent = np.zeros(n, np.int64), np.zeros(n, np.int64), {}
        self.psi = np.zeros((1, n), np.int64)
        self.reward: IntArray | None = None
        self.take: npt.NDArray[Any] | None = None
        if learning is not None:
            self.sent = {number: np.zeros(n, np.int32) for number in (1, 2, 3)}
            self.sent[1][:] = learning["carry"]
            if learning.get("kind") == "reward":
                names = ("post_decay", "post_impulse", "leak_rate", "reward_decay", "reward_mantissa", "reward_shift")
                self.reward = np.array([learning[name] for name in names], np.int64)
            elif self.kind == "Neuron":
                self.table = arrays[f"{key}.learning.surrogate_table"].astype(np.int64)
                self.table_shift = int(learning["surrogate_shift"])
                self.psi = np.zeros((1 + int(learning["psi_delay"]), n), np.int64)
                self.take = arrays.get(f"{key}.learning.adaptation_mantissa")
                if learning["regularized"]:
                    self.rate = np.array([learning[f"rate_{part}"] for part in ("decay", "step", "target", "mantissa", "shift")], np.int64)
        self.reset()

    @property
    def u(self) -> IntArray:
        """Synaptic current, (n,) integers."""
        row: IntArray = self.state[_U]
        return row

    @property
    def v(self) -> IntArray:
        """Membrane, (n,) integers."""
        row: IntArray = self.state[_V]
        return row

    @property
    def distance(self) -> IntArray:
        """Membrane minus threshold before the reset of the last step (state units), of populations that learn."""
        row: IntArray = self.state[_DISTANCE]
        return row

    @property
    def closed(self) -> npt.NDArray[np.bool_]:
        """Which neurons were refractory in the last step, of populations that learn."""
        row: npt.NDArray[np.bool_] = self.state[_CLOSED] != 0
        return row

    def reset(self) -> None:
        """Go back to the state before the first step."""
        self.state[:] = 0
        self.state[_U], self.state[_V] = self.start
        self.error[:], self.psi[:] = 0, 0

    def changing(self) -> dict[str, IntArray]:
        """The arrays that change, by name."""
        return {"state": self.state, "error": self.error, "psi": self.psi}

    def step(self, arriving: IntArray, signal: IntArray | None, *, learn: bool) -> IntArray:
        """Advance one step; return the neurons that spike. signal : what arrives as learning signal."""
        if self.kind == "Readout":
            _readout(arriving, self.p, self.state)
            return _NONE
        if self.kind == "LIF":
            return self.spiked[: _lif(arriving, self.p, self.state, self.spiked)].copy()
        learning = self.learning if learn else None
        count = _neuron(arriving, self.p, self.state, self.spiked, self.table if learning is not None else _NONE, self.table_shift)
        if self.reward is not None and learn:
            spikes = self.silence if signal is None else signal
            _follow_reward(spikes, self.state, self.reward, self.sent[1], self.sent[2], self.sent[3])
        elif learning is not None:
            self.psi[:-1] = self.psi[1:]
            self.psi[-1] = self.state[_SURROGATE]
            self.sent[2][:] = self.psi[0]
            if self.take is not None:
                self.sent[1][:] = np.minimum((self.psi[0] * self.take + _ADAPTATION_HALF) >> _ADAPTATION_SHIFT, TRACE_MAX)
            _third_factor(
                self.silence if signal is None else signal, self.state, learning["signal_mantissa"],
                learning["signal_shift"], self.rate, self.sent[2] if learning["product"] else _NO_PSI, learning["y3_step"], self.sent[3],
            )  # fmt: skip
            self._halve(learning["split"])
        return self.spiked[:count].copy()

    def compare(self, target: IntArray, window: int) -> None:
        """Set ``error`` and what is sent of a readout from its target in this step (state units); ``window`` 1 where errors count."""
        learning = self.learning
        assert learning is not None
        _error(
            self.state, target, window, learning["error_shift"], learning["signal_mantissa"], learning["signal_shift"],
            learning["y3_step"], self.error, self.sent[3],
        )  # fmt: skip
        self._halve(learning["split"])

    def _halve(self, other: int) -> None:
        """Send y3 as two non-negative halves, the negative one as the y of that number; 0: as it is."""
        if other:
            np.maximum(-self.sent[3], 0, out=self.sent[other])
            np.maximum(self.sent[3], 0, out=self.sent[3])
