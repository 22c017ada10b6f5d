"""STDP and reward-modulated STDP as Loihi rules: rule strings, fixed-point scales, and what the neurons of a rewarded population send.

Reference (docs/eprop.md, "STDP"): a spike of step s arrives in s + 1. The trace x of arrivals is read at the target's spikes, the trace y
of those at arrivals, both without the step's own spikes. With x1 the trace of the source's spikes (impulse X), which holds the spike of
this very step, and y1 that of the target's (impulse Y, decay b a step):

    dd = u0 x1 - X x0 - u0 d          d is x1 - X x0 of the step before: X x of the reference at a spike of the target
    up = A y0 d                       A X = a_plus w_max
    down = B x0 y1                    B Y = a_minus w_max b: y1 now is y at the arrival, b later

Multiplicative: factors (high - w) and (w - low) in the place of w_max.

    stdp        dw = up - down                                  two factors: y1 is the engine's own trace of the target's spikes
      low bits  dt = down - up + 2^m q,   dw = q                q = -c u0 t sgn(d+1) >> 7, whole units out of the tag
    r_stdp      dt = up - down - 2^-k u0 t y2,  dw = g u0 t y3  three: the target sends y1, y2 = what the tag loses, y3 = |reward|
    without d   up = A y0 x1 - A X y0 x0                        a spike that arrives in the very step in which the target fires counts too

sgn(d + 1) is 1 (d >= 0). It makes the product 22 bits wide, so that the engine shifts it right by 7 and whole units move, as with e-prop's
low bits (forms.py), where a y trace does it; -c must be a mantissa that the engine leaves as it is (it halves -8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurocompile.backends.loihi2.arithmetic import DECAY_UNITY, TRACE_MAX, QuantisedWeights, decay_register, mantissa_shift
from neurocompile.backends.loihi2.learning import SIGNAL_FRACTION_BITS
from neurocompile.backends.loihi2.literals import Literal
from neurocompile.ir import RSTDP, STDP

FULL = {"MIXED": 254, "EXCITATORY": 255, "INHIBITORY": 255}
"""Weight units of the larger bound"""
_USUAL = 32
_IMPULSES = tuple(range(20, 41))
"""What a spike may add to a 7-bit trace"""
COARSEST = 16
"""Largest difference of traces: an impulse is two of them"""
_TERM_COST = 0.02
"""Relative error of an amplitude that is accepted where it spares a product (dd takes the impulse out again: a sum of literals)"""
_CARRIES = {6: 2, 5: 4, 4: 7}
"""Low bits m -> c: q = floor(-c t / 2^7) is what exceeds a whole unit of 2^m (m = 4: 18 in the place of 16)"""
_SMALLEST, _LARGEST = -7, 8
_UP_SHIFT, _DOWN_SHIFT = 7, 5
"""What the engine shifts d w and y1 w to the right by"""
_PAIR = 32.0
"""Tag units of one pair of spikes under reward: eight of them fit"""
_PULSE = 32
"""y2 and y3 are multiples of this: the engine's shift of t y by 5 bits loses nothing"""
_PULSES = 4.0
"""A reward is made of about so many pulses of y3: few large changes are rounded less often than many small ones"""
POST_FRACTION_BITS = 8
"""Fraction bits of the trace of its own spikes that a rewarded neuron keeps"""
REWARD_BITS = 16
_RECEIVED = float(np.exp(1.0 / 65535.0))
"""What undoes the decay that Lava lets a received y have once"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amplitude:
    """literal * impulse for a wanted amplitude; ``error`` is relative."""

    literal: Literal
    impulse: int
    error: float


def choose_amplitude(
    wanted: float, step: int = 1, impulses: tuple[int, ...] = _IMPULSES, *, taken_out: bool = False, undone: int | None = None
) -> Amplitude:
    """Return the literal and impulse whose product is nearest to ``wanted`` (of two as near, that with the impulse nearest to 32).

    step : smallest difference of traces, which impulses are divided by; taken_out : whether a product takes the impulse out again;
    undone : by how many bits the literals of such products are smaller (None: there are none), which must be legal too.
    Beyond what the engine has, the nearest end; for 0, which has no product, the smallest.
    """
    best: tuple[tuple[float, float], Amplitude] | None = None
    size = max(abs(wanted), 1e-300)
    for impulse in (i // step for i in impulses if i % step == 0):
        for exponent in range(_SMALLEST, _LARGEST + 1):
            for mantissa in range(1, 8):
                if undone is not None and not _legal(mantissa * impulse, exponent - undone):
                    continue
                value = mantissa * 2.0**exponent * impulse
                cost = _TERM_COST * (len(_literals(impulse)) - 1) if taken_out else 0.0
                key = (round(abs(np.log(value / size)) + cost, 6), abs(impulse * step - _USUAL))
                if best is None or key < best[0]:
                    literal = Literal(mantissa=mantissa if wanted >= 0 else -mantissa, exponent=exponent)
                    best = key, Amplitude(literal=literal, impulse=impulse, error=value / size - 1.0)
    assert best is not None
    return best[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRule:
    """A rule in the target's integers: strings (``rule``, as forms.hidden_rule), settings of rewarded neurons, and what was rounded."""

    rule: dict[str, Any]
    learning: dict[str, Any] | None
    report: dict[str, Any]


def unit_of(rule: STDP, sign_mode: str) -> float:
    """Return the weight unit at which the bound of the larger magnitude is the end of the 8 bits."""
    low, high = rule.weight_bounds
    return max(high / FULL[sign_mode], -low / (256 if sign_mode == "MIXED" else 255))


def sign_mode_of(rule: STDP) -> str:
    """Return the sign mode whose range the bounds lie in."""
    low, high = rule.weight_bounds
    return "EXCITATORY" if low >= 0 else "INHIBITORY" if high <= 0 else "MIXED"


def _product(literal: Literal, factors: str, sign: int) -> str:
    """Return `` + `` or `` - `` and a product."""
    negative = (literal.mantissa < 0) != (sign < 0)
    return f" {'-' if negative else '+'} {abs(literal.mantissa)}*2^{literal.exponent}*{factors}"


def _series(*products: str) -> str:
    text = "".join(products).strip()
    return text[2:] if text.startswith("+ ") else f"-{text[2:]}"


def _low_bits(largest: float) -> int:
    """Return the most low bits m for which the largest change of a step (weight units) leaves the tag room; 0: none."""
    fitting = [m for m, c in _CARRIES.items() if largest * 2**m <= 255 - np.ceil(128 / c)]
    return max(fitting, default=0)


def make_rule(rule: STDP, weights: QuantisedWeights, *, dt: float, step: int, tag: int = 1, use_tags: bool) -> PairRule | None:
    """Return the rule of one plastic projection; None if it changes nothing.

    step : smallest difference of traces, at most COARSEST; tag : what the usual scale of a tag that is eligibility is divided by;
    use_tags : whether low bits and the trace of the step before may be kept in t and d.
    """
    before, after = 1.0 if use_tags else float(np.exp(dt / rule.tau_plus)), float(np.exp(-dt / rule.tau_minus))
    low, high = (bound / weights.unit for bound in rule.weight_bounds)
    span = max(abs(low), abs(high)) if rule.multiplicative else 1.0
    moves = 2.0**weights.coarse
    up, down = (a * (1.0 if rule.multiplicative else high) / moves for a in (rule.a_plus, rule.a_minus))
    rewarded = isinstance(rule, RSTDP)
    bits = 0
    if use_tags and not rewarded:
        room = TRACE_MAX / (_USUAL // step)
        bits = _low_bits(max(abs(up), abs(down)) * span * room)
    pair = max(abs(up) * before, abs(down) * after) * span
    scale = 2.0 ** np.floor(np.log2(_PAIR / tag / pair)) if rewarded and pair > 0 else 2.0**bits
    if rewarded:
        scale = float(np.clip(scale, 2.0**-12, 2.0**12))
    units = scale if rewarded or bits else moves  # of what the pairs change, per unit in which weights move
    shifts = ((2.0**_UP_SHIFT if use_tags else 2.0**_DOWN_SHIFT), 2.0**_DOWN_SHIFT) if rule.multiplicative else (1.0, 1.0)
    rise = choose_amplitude(
        up * before * units * shifts[0],
        step,
        _IMPULSES if use_tags or not rule.multiplicative else (_USUAL,),
        taken_out=True,
        undone=None if use_tags else _undone(rule),
    )
    fall = choose_amplitude(down * after * units * shifts[1], step)
    sign = -1 if bits else 1
    pairs = _pairs(rule, rise, fall, (round(low), round(high)), sign, use_tags)
    whole = "".join(f" - {literal}*x0" for literal in _literals(rise.impulse))
    if not pairs:
        return None
    made: dict[str, Any] = {
        "factors": 3 if rewarded else 2,
        "post_spikes": True,
        "dd_fixed": f"u0*x1{whole} - u0*d" if use_tags and up else None,
        "dd_real": "u0*x1 - u0*x2 - u0*d" if up else None,
        "tag_start": 0,
        "tag_is_weight": not rewarded,
        "d_start": 0,
        "d_bits": 7 if use_tags and up else 0,
        "unit_real": weights.unit,
        "bounds_real": [low, high],
        "x1_tau": rule.tau_plus / dt,
        "x1_impulse_fixed": rise.impulse,
        "x1_impulse_real": up * moves,
        "x2_tau_fixed": 0.0,
        "x2_tau_real": 1e-3,  # nothing is left of it after a step
        "x2_impulse_fixed": 0,
        "x2_impulse_real": up * moves,
    }
    real = _real_pairs(rule, (round(low), round(high)))
    report: dict[str, Any] = {
        "a_plus_relative_error": rise.error if up else 0.0,
        "a_minus_relative_error": fall.error if down else 0.0,
        "fraction_bits": bits,
        "spikes_at_once": TRACE_MAX / max(rise.impulse, fall.impulse),
        "pairs": "exact" if use_tags else "with those in which the arrival makes the target fire",
    }
    if not isinstance(rule, RSTDP):
        c = _CARRIES.get(bits, 0)
        moved = Literal(mantissa=-c, exponent=weights.coarse)
        kept = _product(Literal(mantissa=-c, exponent=bits), "u0*t*sgn(d+1)", 1)
        made |= {
            "dw_fixed": _series(_product(moved, "u0*t*sgn(d+1)", 1)) if bits else _series(*pairs),
            "dt_fixed": _series(*pairs, kept) if bits else None,
            "dw_real": _series(*real),
            "dt_real": None,
            "tag_start": -round(64 / c) if bits else 0,
            "y1_tau": rule.tau_minus / dt,
            "y1_impulse_fixed": fall.impulse,
            "y1_impulse_real": down * moves * after,
        }
        return PairRule(rule=made, learning=None, report=report)
    return _rewarded(rule, made, pairs, fall, scale=scale / moves, dt=dt, down=down * moves * after, real=real, report=report)


def _literals(number: int) -> list[Literal]:
    """Return literals whose sum is a positive number."""
    found = []
    while number:
        low = (number & -number).bit_length() - 1
        part = number >> low & 7
        found.append(Literal(mantissa=part, exponent=low))
        number -= part << low
    return found


def _legal(number: int, exponent: int) -> bool:
    """Whether number * 2^exponent is a sum of the engine's literals."""
    return all(_SMALLEST <= part.exponent + exponent <= _LARGEST for part in _literals(number))


def _undone(rule: STDP) -> int:
    """Return by how many bits x1 w is shifted to the right and x0 w is not."""
    return _DOWN_SHIFT if rule.multiplicative else 0


def _pairs(rule: STDP, rise: Amplitude, fall: Amplitude, ends: tuple[int, int], sign: int, use_tags: bool) -> list[str]:
    """Return the products of pairs of spikes, first up and then down."""
    low, high = ends
    moves = rule.multiplicative or rule.weight_bounds[1] != 0
    found = []
    if rule.a_plus > 0 and moves:
        literal = rise.literal
        if rule.multiplicative:
            literal, factor = literal.negative, _weight_factor(high)
        else:
            factor = ""
        if use_tags:
            found.append(_product(literal, f"y0*d{factor}", sign))
        else:
            lower = literal.exponent - _undone(rule)
            found.append(_product(literal, f"y0*x1{factor}", sign))
            for part in _literals(abs(literal.mantissa) * rise.impulse):
                undo = Literal(mantissa=part.mantissa if literal.mantissa > 0 else -part.mantissa, exponent=part.exponent + lower)
                found.append(_product(undo, f"y0*x0{factor}", -sign))
    if rule.a_minus > 0 and moves:
        found.append(_product(fall.literal, f"x0*y1{_weight_factor(low) if rule.multiplicative else ''}", -sign))
    return found


def _weight_factor(end: int) -> str:
    return "*w" if end == 0 else f"*(w-{end})" if end > 0 else f"*(w+{-end})"


def _real_pairs(rule: STDP, ends: tuple[int, int]) -> list[str]:
    """Return the products of pairs in floating point, up and down; amplitudes are in the traces."""
    low, high = ends
    if rule.multiplicative:
        up, down = f" - y0*d{_weight_factor(high)}", f" - x0*y1{_weight_factor(low)}"
    else:
        up, down = " + y0*d", " - x0*y1"
    return [
        text for text, size in ((up, rule.a_plus), (down, rule.a_minus)) if size > 0 and (rule.multiplicative or rule.weight_bounds[1] != 0)
    ]


def _rewarded(
    rule: RSTDP,
    made: dict[str, Any],
    pairs: list[str],
    fall: Amplitude,
    *,
    scale: float,
    dt: float,
    down: float,
    real: list[str],
    report: dict[str, Any],
) -> PairRule:
    """Complete a rule whose tag is the eligibility c (``scale`` tag units per weight unit), and what its neurons send."""
    keep, hold = float(np.exp(-dt / rule.tau_c)), float(np.exp(-dt / rule.tau_d))
    leak = 1.0 - keep
    exponent = -int(np.clip(np.floor(-np.log2(leak)), 1, 4))  # a pulse takes 2^exponent of the tag
    every = -dt / rule.tau_c / np.log1p(-(2.0**exponent))
    speed = 1.0 / rule.tau_c + 1.0 / rule.tau_d
    share = -np.expm1(-dt * speed) / speed  # of c d in a step
    total = abs(rule.reward_weight) / speed / scale if rule.reward_weight else 1.0  # of a reward, per tag unit
    gain = int(np.clip(np.ceil(np.log2(total / _PULSES)), _SMALLEST, 0))
    release = _register(hold)
    lost = release / DECAY_UNITY / (1.0 - hold)  # a trace that decays faster than it should is made larger
    unit = abs(rule.reward_weight) * share * lost * _PULSE / scale / 2.0**gain
    mantissa, shift = mantissa_shift(unit * 2.0 ** (SIGNAL_FRACTION_BITS - REWARD_BITS))
    leave = Literal(mantissa=1, exponent=exponent)
    up, punished = [text for text in real if "y0" in text], rule.reward_weight < 0
    made |= {
        "dt_fixed": _series(*pairs, f" - {leave}*u0*t*y2"),
        "dw_fixed": f"{Literal(mantissa=-1 if punished else 1, exponent=gain)}*u0*t*y3",
        "dt_real": _series(*real, *(f"{_turned(text)}*y2" for text in up), " - u0*t*y2"),
        "dw_real": _series(*(f"{_turned(text) if punished else text}*y3" for text in (" + u0*t", *up))),
    }
    tau_d = -dt / np.log1p(-release / DECAY_UNITY) if release < DECAY_UNITY else 0.0
    learning = {
        "kind": "reward",
        "post_decay": _register(float(np.exp(-dt / rule.tau_minus))),
        "post_impulse": fall.impulse,
        "post_keep": float(np.exp(-dt / rule.tau_minus)),
        "post_size": down * _RECEIVED,
        "leak_rate": int(np.rint(every * 2**REWARD_BITS)),
        "leak": leak * _RECEIVED,
        "reward_decay": release,
        "reward_keep": hold,
        "reward_size": abs(rule.reward_weight) * share * _RECEIVED,
        "reward_mantissa": mantissa,
        "reward_shift": shift,
        "carry": 0,
    }
    report |= {
        "tag_units_per_weight_unit": scale,
        "y3_at_one_reward": unit,
        "tau_d_relative_error": tau_d / rule.tau_d - 1.0,
        "pulses_a_reward": total / 2.0**gain,
    }
    return PairRule(rule=made, learning=learning, report=report)


def _register(factor: float) -> int:
    """Return a decay's register, of a trace that is to decay at all."""
    return max(int(decay_register(np.array([factor]))[0]), 1)


def _turned(product: str) -> str:
    """Return a product with the other sign."""
    return (" - " if product.startswith(" + ") else " + ") + product[3:]


__all__ = ["Amplitude", "PairRule", "choose_amplitude", "make_rule", "sign_mode_of", "unit_of"]
