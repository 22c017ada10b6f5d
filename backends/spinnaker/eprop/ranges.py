"""How large the numbers of fixed-point e-prop can become, from a rule's parameters (docs/spinnaker-eprop.md, "Formats")."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

WINDOW = 32
"""Steps of a block (W)"""
LEVELS = 3
"""Totals are kept of 1, 2 and 4 blocks"""
LONGEST = WINDOW << (LEVELS - 1)
ACCUMULATOR_BITS = 14
"""Fraction bits that a weight has beyond the 16 that are sent; 2 bits are left for what a block has not settled yet"""
_FASTEST = 0.76
"""Least alpha kappa, and rho - beta psi: their power -W is then below 2^13"""
_INTS = npt.NDArray[np.int64]


def psi_bits(height: float) -> int:
    """Return the fraction bits of psi: it fits 16 bits."""
    return 15 - max(math.floor(math.log2(height)) + 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """What the scales of adaptive neurons follow from: the numbers that the cores hold, so that nothing lies outside of them.

    unit : of an integer of adapt_beta, membrane units; decay : largest rho; least : smallest rho - beta psi; share : largest beta psi;
    settle : largest 1 / (1 - rho + beta psi), what eps comes to under psi = 1 and zbar = 1.
    """

    unit: float
    decay: float
    least: float
    share: float
    settle: float

    @classmethod
    def of(cls, adapt_decay: _INTS, adapt_step: _INTS, unit: float, height: float) -> Adaptation:
        """adapt_decay : 31 fraction bits; adapt_step : units of ``unit``; both (n,). height : largest psi."""
        most = round(height * 2.0 ** psi_bits(height)) * 2.0 ** -psi_bits(height)
        rho, share = adapt_decay * 2.0**-31, adapt_step * (unit * most)
        return cls(
            unit=unit,
            decay=float(rho.max()),
            least=float((rho - share).min()),
            share=float(share.max()),
            settle=float((1.0 / (1.0 - rho + share)).max()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What scales follow from.

    alpha : membrane decay a step; kappa, kappa_reg : filters of the eligibility, a step; height : largest psi (1 / membrane unit);
    learning_rate : as in the description; weight_unit : of the 16-bit weight, membrane units; interval : fewest steps between two spikes
    of a source (>= 1); signal, reg : largest |L| and |regularisation term| (membrane units; reg 0: there is none), clipped beyond;
    adaptation : None for neurons that do not adapt.

    Raises ValueError for numbers that have no fixed-point form (decays that are too fast, sizes that are not positive).
    """

    alpha: float
    kappa: float
    kappa_reg: float
    height: float
    learning_rate: float
    weight_unit: float
    interval: float
    signal: float
    reg: float = 0.0
    adaptation: Adaptation | None = None

    def __post_init__(self) -> None:
        for name in ("alpha", "kappa", "kappa_reg"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name):g}, must lie between 0 and 1")
        fastest = self.alpha * min(self.kappa, self.kappa_reg)
        if fastest < _FASTEST:
            raise ValueError(f"alpha kappa is {fastest:g} a step; blocks of {WINDOW} steps need {_FASTEST} or more")
        for name in ("height", "learning_rate", "weight_unit", "signal"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} is {getattr(self, name):g}, must be above 0")
        if self.interval < 1.0 or self.reg < 0.0:
            raise ValueError("interval must be at least 1 step, reg at least 0")
        if self.adaptation is not None and self.adaptation.least < _FASTEST:
            least, share = self.adaptation.least, self.adaptation.share
            raise ValueError(
                f"rho - adapt_beta psi is as low as {least:.3g} a step (adapt_beta psi up to {share:.3g}, psi up to {self.height:g}); "
                f"blocks of {WINDOW} steps need {_FASTEST} or more: a smaller adapt_beta or height of the surrogate"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Largest absolute values: z~, e~, r~, and of up to four blocks A, B, and C, D, E in accumulator units. Of adaptive neurons also q~, X
    and 1/m, Eq (0 without); Aq is below a, Ae below 1."""

    z: float
    e: float
    r: float
    a: float
    b: float
    c: float
    d: float
    total: float
    q: float = 0.0
    x: float = 0.0
    inverse: float = 1.0
    total_q: float = 0.0


def bounds(rule: Rule) -> Bounds:
    """Return the largest values that psi <= height, the fewest steps between spikes and clipped signals allow."""
    a, k, kr, n = rule.alpha, rule.kappa, rule.kappa_reg, np.arange(LONGEST + 1)
    zbar, block = 1.0 / (1.0 - a**rule.interval), n[: WINDOW + 1]
    adaptation = rule.adaptation
    share, settle = (adaptation.share, adaptation.settle) if adaptation is not None else (0.0, 0.0)
    ahead = adaptation.decay / adaptation.least if adaptation is not None else 1.0
    big_a, big_b, undone, undone_reg = (
        _response(rule, k, 1.0),
        _response(rule, kr, 1.0 - kr),
        _undone(rule, k, 1.0),
        _undone(rule, kr, 1.0 - kr),
    )
    less = rule.height * zbar * min(share * settle, 1.0)  # eps takes so much from e
    e = max(rule.height * zbar / (1.0 - k), less / (1.0 - k) + float((zbar * undone * (a * k) ** -block).max()))
    r = max(rule.height * zbar, less + float((zbar * undone_reg * (a * kr) ** -block).max()))
    before_a, before_b = rule.height * ahead / (a * k), rule.height * ahead * (1.0 - kr) / (a * kr)
    unit = rule.weight_unit * 2.0**-ACCUMULATOR_BITS
    signal, reg = rule.learning_rate * rule.signal / unit, rule.learning_rate * rule.reg / unit
    c, d = signal * float((k ** (n[:-1] - 1.0)).sum()), reg * float((kr ** (n[:-1] - 1.0)).sum())
    total = signal * (before_a + float(big_a[:-1].sum())) + reg * (before_b + float(big_b[:-1].sum()))
    found = Bounds(
        z=zbar * a**-WINDOW,
        e=e,
        r=r,
        a=max(before_a, float(big_a.max()), float((undone + big_a[block]).max())) if share else max(before_a, float(big_a.max())),
        b=max(before_b, float(big_b.max()), float((undone_reg + big_b[block]).max())) if share else max(before_b, float(big_b.max())),
        c=c,
        d=d,
        total=total,
    )
    if adaptation is None:
        return found
    x = rule.height * float((a ** block[:-1] * adaptation.least ** -(block[:-1] + 1.0)).sum())
    before, before_reg = share / (k * adaptation.least), (1.0 - kr) * share / (kr * adaptation.least)
    return replace(
        found,
        a=max(found.a, float(_eps(rule).max())),
        q=max(rule.height * zbar * settle, zbar * a**-WINDOW * x),
        x=x,
        inverse=adaptation.least**-WINDOW,
        total_q=signal * (before + float(_lost(rule, k, 1.0).sum())) + reg * (before_reg + float(_lost(rule, kr, 1.0 - kr).sum())),
    )


def _response(rule: Rule, decay: float, gain: float) -> npt.NDArray[np.float64]:
    """Return the largest A (or B) after 0 .. 4 W indices: psi at its height in each, and what eps takes from it at most beside (both: so
    parts of a sum stay below it too)."""
    found, less = np.zeros(LONGEST + 1), np.zeros(LONGEST + 1)
    share, eps = rule.adaptation.share if rule.adaptation is not None else 0.0, _eps(rule)
    for i in range(LONGEST):
        found[i + 1] = decay * found[i] + gain * rule.height * rule.alpha**i
        less[i + 1] = decay * less[i] + gain * share * eps[i]
    total: npt.NDArray[np.float64] = found + less
    return total


def _eps(rule: Rule) -> npt.NDArray[np.float64]:
    """Return the largest Aq after 0 .. 4 W indices; 0 without adaptation."""
    found = np.zeros(LONGEST + 1)
    if rule.adaptation is not None:
        for i in range(LONGEST):
            more = rule.adaptation.decay * found[i] + rule.height * rule.alpha**i
            found[i + 1] = min(more, rule.height * rule.adaptation.settle)
    return found


def _undone(rule: Rule, decay: float, gain: float) -> npt.NDArray[np.float64]:
    """Return the largest A - Aq Ae / m (or B - Aq Be / m) after 0 .. W indices, what a spike undoes: with psi at its height in each step,
    Y <- k Y + psi a^i (1 - Ae / m) grows fastest."""
    found, lost = np.zeros(WINDOW + 1), 0.0
    for i in range(WINDOW):
        if rule.adaptation is not None:
            lost = (decay * lost + gain * rule.adaptation.share) / rule.adaptation.least
        found[i + 1] = decay * found[i] + rule.height * rule.alpha**i * (gain + lost)
    return found


def _lost(rule: Rule, decay: float, gain: float) -> npt.NDArray[np.float64]:
    """Return the largest |Ae| (or |Be|) after 0 .. 4 W - 1 indices: beta psi m is what m loses beyond rho m, so the sum is below 1."""
    found = np.zeros(LONGEST)
    assert rule.adaptation is not None
    for i in range(LONGEST - 1):
        found[i + 1] = min(decay * found[i] + gain * rule.adaptation.share * rule.adaptation.decay**i, gain)
    return found
