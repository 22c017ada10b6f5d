"""The rule strings of e-prop's forms, in fixed and in floating point, from the gains of forms.py, which has what the letters mean."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurocompile.backends.loihi2.adaptive import Adaptation, Share, Terms, share_terms
from neurocompile.backends.loihi2.forms import (
    DOT_SHIFT,
    EPS_CENTRE,
    TRACE_BITS,
    TRACE_SHIFT,
    Form,
    Gains,
    SecondState,
    leak_literal,
    least_exponent,
)
from neurocompile.backends.loihi2.literals import Literal
from neurocompile.ir import EProp


def hidden_rule(
    rule: EProp,
    gains: Gains,
    *,
    weight_exponent: int,
    alpha: float,
    second: SecondState | None,
    tag_bits: int = 0,
    coarse: int = 0,
    adaptation: Adaptation | None = None,
    share: Share | None = None,
    d_bits: int = 0,
) -> dict[str, Any]:
    """Return the rule strings of a plastic connection into a spiking population (fixed point and floating point).

    weight_exponent : of the unit in which weights move, 2^coarse of the weight's own; adaptation : of an alif population; share, d_bits :
    see :class:`Scale`.
    """
    assert gains.form is not None
    if gains.form is Form.PRE_TRACE:
        return readout_rule(gains, weight_exponent=weight_exponent, alpha=alpha, coarse=coarse)
    leak = leak_literal(rule.kappa)
    change = gains.change(weight_exponent, tag_bits)
    if gains.form is Form.TWO_TRACES:
        fast, slow = ("x1", "x2") if rule.kappa >= alpha else ("x2", "x1")
        return {
            "dt_fixed": f"{change.negative}*u0*{slow}*y3 + {change}*u0*{fast}*y3 - {gains.take}*u0*t*y1",
            "dd_fixed": None,
            "dw_fixed": f"{_move(coarse)}*u0*t*y1",
            "dt_real": None,
            "dd_real": None,
            "dw_real": f"u0*{slow}*y3 - u0*{fast}*y3",
            **_start(tag=-_half(gains), tag_is_weight=True),
            **_trace(alpha, gains),
            "x2_impulse_fixed": gains.impulse,
            "x2_impulse_real": 1,
            "x2_tau": _tau(rule.kappa),
        }
    grow = Literal(mantissa=1, exponent=gains.dt_exponent + tag_bits)
    if gains.form is Form.ALIGNED:
        later = Literal(mantissa=1, exponent=grow.exponent + DOT_SHIFT - TRACE_SHIFT)  # d y2 is shifted by two bits more than x1 y2
        whole = Literal(mantissa=1, exponent=int(np.log2(gains.impulse)))
        return {
            "dt_fixed": f"{later}*u0*d*y2 - {leak}*u0*t",
            "dd_fixed": f"u0*x1 - {whole}*x0 - u0*d",
            "dw_fixed": f"{change}*u0*t*y3",
            "dt_real": f"u0*d*y2 - {leak}*u0*t",
            "dd_real": "u0*x1 - x0 - u0*d",
            "dw_real": "u0*t*y3",
            **_start(d_bits=TRACE_BITS),
            **_trace(alpha, gains),
        }
    if gains.form is Form.ADAPTIVE:
        assert adaptation is not None
        return _adaptive_rule(gains, adaptation, leak, change, grow, gains.dd_exponent + d_bits, alpha)
    terms = Terms()
    if share is not None and adaptation is not None:
        beta, drive = float(adaptation.beta.mean()), gains.impulse * grow.value
        terms = share_terms(share, beta, height=rule.surrogate.height, drive=drive, alpha=alpha, tag_shift=DOT_SHIFT)
    fine = gains.fraction_bits is not None and second is not None
    low = "" if second is None else f"(d-{second.centre})*y1"
    return {
        "dt_fixed": f"{grow}*u0*x1*y2 - {_undo(grow, gains)}*x0*y2 - {leak}*u0*t{terms.fixed}",
        "dd_fixed": f"{change.negative}*u0*t*y3 - {gains.take}*u0*{low}" if fine else None,
        "dw_fixed": f"{_move(coarse)}*u0*{low}" if fine else f"{change}*u0*t*y3",
        "dt_real": f"u0*x1*y2 - x0*y2 - {leak}*u0*t{terms.real}",
        "dd_real": None,
        "dw_real": "u0*t*y3",
        **(_start(second=second.centre - _half(gains), d_bits=second.bits, d_is_weight=True) if fine and second is not None else _start()),
        **_trace(alpha, gains),
        **_second_trace(terms),
    }


def _adaptive_rule(
    gains: Gains, adaptation: Adaptation, leak: Literal, change: Literal, grow: Literal, dd_exponent: int, alpha: float
) -> dict[str, Any]:
    """Return the rule of ``adaptive``: the tag is ebar, d is eps around its centre, y1 = 2^k beta psi."""
    again = DOT_SHIFT - gains.beta_exponent  # exponent with which eps takes beta psi of itself
    dd_exponent = int(np.clip(dd_exponent, grow.exponent + again - 8, grow.exponent + again + 7))
    dd_exponent = max(dd_exponent, least_exponent(gains.impulse))
    eps, held = Literal(mantissa=1, exponent=dd_exponent), f"(d-{EPS_CENTRE})"
    take, forget = Literal(mantissa=1, exponent=again + grow.exponent - dd_exponent), leak_literal(adaptation.rho)
    lose = Literal(mantissa=1, exponent=again)
    return {
        "dt_fixed": f"{grow}*u0*x1*y2 - {_undo(grow, gains)}*x0*y2 - {leak}*u0*t - {take}*u0*{held}*y1",
        "dd_fixed": f"{eps}*u0*x1*y2 - {_undo(eps, gains)}*x0*y2 - {forget}*u0*{held} - {lose}*u0*{held}*y1",
        "dw_fixed": f"{change}*u0*t*y3",
        "dt_real": f"u0*x1*y2 - x0*y2 - {leak}*u0*t - u0*d*y1",
        "dd_real": f"u0*x1*y2 - x0*y2 - {forget}*u0*d - u0*d*y1",
        "dw_real": "u0*t*y3",
        **_start(second=EPS_CENTRE, d_bits=8),
        **_trace(alpha, gains),
    }


def _second_trace(terms: Terms) -> dict[str, Any]:
    if terms.impulse is None:
        return {}
    return {"x2_impulse_fixed": terms.impulse, "x2_impulse_real": terms.impulse_real, "x2_tau": _tau(terms.decay)}


def readout_rule(gains: Gains, *, weight_exponent: int, alpha: float, coarse: int = 0) -> dict[str, Any]:
    """Return the rule strings of a plastic connection into the readout, or of the form ``pre_trace``."""
    grow = gains.change(weight_exponent)
    return {
        "dt_fixed": f"{grow.negative}*u0*x1*y3 + {_undo(grow, gains)}*x0*y3 - {gains.take}*u0*t*y1",
        "dd_fixed": None,
        "dw_fixed": f"{_move(coarse)}*u0*t*y1",
        "dt_real": None,
        "dd_real": None,
        "dw_real": "u0*x1*y3 - x0*y3",
        **_start(tag=-_half(gains), tag_is_weight=True),
        **_trace(alpha, gains),
    }


def _move(coarse: int) -> str:
    """Return the coefficient with which whole units of low bits move to the weight."""
    return str(Literal(mantissa=-1, exponent=coarse)) if coarse else "-1"


def _undo(grow: Literal, gains: Gains) -> Literal:
    """Return the coefficient of x0 that takes impulse x0 out of x1 (the product of x1 is shifted by 3, that of x0 is not)."""
    return Literal(mantissa=1, exponent=grow.exponent - TRACE_SHIFT + int(np.log2(gains.impulse)))


def _half(gains: Gains) -> int:
    """Return half a weight unit in low bits: rounding down from there is rounding to the nearest."""
    return 2 ** (gains.fraction_bits - 1) if gains.fraction_bits else 0


def _start(*, tag: int = 0, tag_is_weight: bool = False, second: int = 0, d_bits: int = 0, d_is_weight: bool = False) -> dict[str, Any]:
    return {"tag_start": tag, "tag_is_weight": tag_is_weight, "d_start": second, "d_bits": d_bits, "d_is_weight": d_is_weight}


def _tau(factor: float) -> float:
    return 65535.0 if factor >= 1.0 else float(min(-1.0 / np.log(max(factor, 1e-6)), 65535.0))


def _trace(alpha: float, gains: Gains) -> dict[str, Any]:
    return {"x1_impulse_fixed": gains.impulse, "x1_impulse_real": 1, "x1_tau": _tau(alpha)}
