"""What happens on a core, made up; the same events for the compiled twin, the C and a loop in floating point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.backends.spinnaker.eprop import kernels
from neurocompile.backends.spinnaker.eprop.ranges import ACCUMULATOR_BITS, Adaptation, Rule, psi_bits
from neurocompile.backends.spinnaker.eprop.scales import Scales

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
BLOCKS = 8
SWEEP = (BLOCKS - 1) * 32
"""Steps in which every row is touched once"""


@dataclass(frozen=True, kw_only=True)
class Events:
    """psi, signal, reg : (ticks, n), integers of the scales; spikes : rows that spike, a list a tick; target : (rows, m); adapt_decay,
    adapt_step : (n,)."""

    psi: Ints
    signal: Ints
    reg: Ints
    spikes: list[Ints]
    target: Ints
    weight: Ints
    low: int
    high: int
    adapt_decay: Ints
    adapt_step: Ints


@dataclass(frozen=True, kw_only=True)
class Left:
    """What a run leaves: weight, e, r, q (rows, m; q: none without adaptation), head (rows, 2), neuron (n, 8 or 19), sent : a sum over all
    weights sent, saturated."""

    weight: Ints
    e: Ints
    r: Ints
    q: Ints
    head: Ints
    neuron: Ints
    ring: Ints
    sent: int
    saturated: int


def random_events(
    rng: np.random.Generator, scales: Scales, *, n: int, rows: int, m: int, ticks: int, rate: float, smooth: float = 0.0
) -> Events:
    """Make up events: membranes and signals are filtered noise, sources spike at ``rate`` a step. smooth : correlation of L a step."""
    rule = scales.rule
    membrane = filtered(rng.normal(size=(ticks, n)), 0.9)
    psi = np.maximum(0.0, 1.0 - np.abs(membrane - 1.0)) * rule.height
    signal = filtered(rng.normal(size=(ticks, n)), smooth) * rule.signal / 4.0
    reg = filtered(rng.normal(size=(ticks, n)), 0.99) * rule.reg / 4.0
    target = np.array([rng.permutation(n)[:m] for _ in range(rows)], np.int64)
    adapt_decay, adapt_step = adapting(rule, n)
    return Events(
        psi=np.rint(psi * 2.0**scales.q_psi).astype(np.int64),
        signal=np.rint(signal / scales.signal_unit).astype(np.int64),
        reg=np.rint(reg / scales.signal_unit).astype(np.int64),
        spikes=[np.flatnonzero(row) for row in rng.random((ticks, rows)) < rate],
        target=target,
        weight=rng.integers(-20000, 20000, (rows, m)) << ACCUMULATOR_BITS,
        low=-(2**15) << ACCUMULATOR_BITS,
        high=(2**15 - 1) << ACCUMULATOR_BITS,
        adapt_decay=adapt_decay,
        adapt_step=adapt_step,
    )


def adapting(rule: Rule, n: int) -> tuple[Ints, Ints]:
    """Return rho and beta of n neurons as integers: the first is the one with the largest rho and beta, the others have less of both."""
    if rule.adaptation is None:
        return np.zeros(n, np.int64), np.zeros(n, np.int64)
    rho, beta = largest(rule)
    least = rule.adaptation.least + rule.adaptation.share
    part = np.linspace(1.0, 0.0, n)
    return np.rint((least + (rho - least) * part) * 2.0**31).astype(np.int64), np.rint(beta * (0.5 + 0.5 * part)).astype(np.int64)


def largest(rule: Rule) -> tuple[float, float]:
    """Return the largest rho, and the largest beta in integers."""
    assert rule.adaptation is not None
    psi = round(rule.height * 2.0 ** psi_bits(rule.height)) * 2.0 ** -psi_bits(rule.height)
    return rule.adaptation.decay, rule.adaptation.share / psi / rule.adaptation.unit


def filtered(noise: Floats, decay: float) -> Floats:
    """Low-pass noise of variance 1, of variance 1."""
    found = noise.copy()
    for t in range(1, len(found)):
        found[t] = decay * found[t - 1] + np.sqrt(1.0 - decay * decay) * noise[t]
    return found


def run_twin(scales: Scales, events: Events) -> Left:
    """Run events in the integer twin, with the sweep that ``core.c`` has."""
    k = kernels.constants(scales)
    (ticks, n), (rows, m) = events.psi.shape, events.target.shape
    neuron, ring = kernels.fresh(n, BLOCKS, adaptive=scales.adaptive)
    weight, e, r = events.weight.copy(), np.zeros((rows, m), np.int64), np.zeros((rows, m), np.int64)
    q = np.zeros((rows, m if scales.adaptive else 0), np.int64)
    head, sent = np.zeros((rows, 2), np.int64), np.zeros(m, np.int64)
    total = saturated = 0
    for tick in range(ticks):
        given = (events.psi[tick], events.signal[tick], events.reg[tick], events.adapt_decay, events.adapt_step)
        kernels.fold(k, tick, *given, neuron, ring)
        for spike, touched in ((True, events.spikes[tick]), (False, np.arange(tick % SWEEP, rows, SWEEP))):
            for i in touched:
                saturated += kernels.touch(
                    k, tick, spike, head[i], events.target[i], weight[i], e[i], r[i], q[i], events.low, events.high, neuron, ring, sent
                )
                if spike:
                    total += int((sent * (1 + (tick + np.arange(m)) % 7)).sum())
    return Left(weight=weight, e=e, r=r, q=q, head=head, neuron=neuron, ring=ring, sent=total, saturated=saturated)


def settled(scales: Scales, events: Events, left: Left) -> Floats:
    """Return the weights (rows, m) at the end of a run, accumulator units, all rows brought up to its last step."""
    k, found = kernels.constants(scales), np.zeros(events.target.shape)
    out = np.zeros(events.target.shape[1], np.int64)
    for i in range(len(found)):
        states = (left.weight[i].copy(), left.e[i].copy(), left.r[i].copy(), left.q[i].copy())
        row = (left.head[i].copy(), events.target[i], *states, events.low, events.high)
        kernels.touch(k, len(events.psi) - 1, False, *row, left.neuron, left.ring, out)
        kernels.settled(k, *row, left.neuron, out)
        found[i] = out
    return found


@numba.njit
def exact(
    rule: tuple[float, float, float],
    rho: Floats,
    beta: Floats,
    psi: Floats,
    signal: Floats,
    reg: Floats,
    spiked: npt.NDArray[np.bool_],
    target: Ints,
) -> Floats:
    """E-prop as docs/eprop.md has it, step by step: the sum over all indices of L ebar + R ebar_reg, (rows, m).

    rho, beta (n,): of the neurons' adaptation; spiked (ticks, rows): a spike of step t arrives in t + 1 and enters zbar there; signal, reg
    (ticks, n): row t is L and R of step t - 2.
    """
    alpha, kappa, kappa_reg = rule
    ticks, (rows, m) = len(psi), target.shape
    found = np.zeros((rows, m))
    for i in range(rows):
        for s in range(m):
            j, zbar, eps, ebar, ereg = target[i, s], 0.0, 0.0, 0.0, 0.0
            for t in range(ticks - 2):
                zbar = alpha * zbar + (1.0 if t > 0 and spiked[t - 1, i] else 0.0)
                e = psi[t, j] * (zbar - beta[j] * eps)
                eps = rho[j] * eps + e
                ebar = kappa * ebar + e
                ereg = kappa_reg * ereg + (1.0 - kappa_reg) * e
                found[i, s] += signal[t + 2, j] * ebar + reg[t + 2, j] * ereg
    return found


def rule(**changes: float) -> Rule:
    """Return a rule of ordinary numbers."""
    given = {"alpha": np.exp(-1 / 20), "kappa": 0.97, "kappa_reg": 0.97, "height": 0.3, "learning_rate": 1e-3}
    given |= {"weight_unit": 2.0**-14, "interval": 5.0, "signal": 1.0, "reg": 0.0}
    return Rule(**{**given, **changes})


UNIT = 2.0**-19
"""Membrane units of an integer of beta: those of a threshold of 1"""


def adaptive_rule(tau: float, share: float, **changes: float) -> Rule:
    """Return a rule of neurons that adapt. tau : steps; share : beta times the surrogate's height."""
    plain = rule(**changes)
    step = np.array([round(share / plain.height / UNIT)])
    return replace(
        plain, adaptation=Adaptation.of(np.rint(np.exp(-1.0 / np.array([tau])) * 2.0**31).astype(np.int64), step, UNIT, plain.height)
    )


def changes(rng: np.random.Generator, scales: Scales, *, smooth: float, ticks: int = 3000) -> tuple[Floats, Floats, int]:
    """Weight changes of 16 neurons and 60 sources at 5 Hz (integers, exact), in the description's units, and how many states saturated."""
    events = random_events(rng, scales, n=16, rows=60, m=16, ticks=ticks, rate=0.005, smooth=smooth)
    left = run_twin(scales, events)
    got = (settled(scales, events, left) - events.weight) * scales.rule.weight_unit * 2.0**-ACCUMULATOR_BITS
    return got, expected(scales, events), left.saturated


def assert_exact(scales_of: Callable[[np.random.Generator], Scales], smooth: float) -> None:
    """20 random rules: no state saturates, weight changes are those of exact e-prop (cosine 0.999 or more, length within 0.5 %)."""
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        got, wanted, saturated = changes(rng, scales_of(rng), smooth=smooth)
        assert saturated == 0
        found.append((cosine(got, wanted), np.linalg.norm(got) / np.linalg.norm(wanted)))
    cosines, sizes = np.array(found).T
    print(np.round(np.sort(cosines), 5), np.round(np.sort(sizes), 4))
    assert cosines.min() >= 0.999
    assert np.abs(sizes - 1.0).max() < 0.005


def expected(scales: Scales, events: Events) -> Floats:
    r, ticks = scales.rule, len(events.psi)
    spiked = np.zeros((ticks, len(events.target)), bool)
    for tick, rows in enumerate(events.spikes):
        spiked[tick, rows] = True
    limits = ((events.signal, scales.signal_max), (events.reg, scales.reg_max))
    signal, reg = (np.clip(x, -most, most) * scales.signal_unit for x, most in limits)
    rho, beta = events.adapt_decay * 2.0**-31, events.adapt_step * UNIT
    found = exact((r.alpha, r.kappa, r.kappa_reg), rho, beta, events.psi * 2.0**-scales.q_psi, signal, reg, spiked, events.target)
    return -r.learning_rate * found


def left_out(scales: Scales, events: Events) -> Floats:
    """Return what the integers leave out of exact e-prop (docs/spinnaker-eprop.md, "What is not exact"), (rows, m): for each spike, of step
    t, eta psi(t) rho / (rho - beta psi(t)) (L(t-1) / (a k) + (1 - kr) R(t-1) / (a kr))."""
    r, found = scales.rule, np.zeros(events.target.shape)
    psi = events.psi * 2.0**-scales.q_psi
    rho, share = events.adapt_decay * 2.0**-31, events.adapt_step * UNIT * psi
    ahead = rho / (rho - share) if scales.adaptive else np.ones_like(psi)
    limits = ((events.signal, scales.signal_max), (events.reg, scales.reg_max))
    signal, reg = (np.clip(x, -most, most) * scales.signal_unit for x, most in limits)
    for tick, rows in enumerate(events.spikes[:-1]):
        both = signal[tick + 1] / (r.alpha * r.kappa) + reg[tick + 1] * (1.0 - r.kappa_reg) / (r.alpha * r.kappa_reg)
        for i in rows:
            found[i] += (both * psi[tick] * ahead[tick])[events.target[i]]
    return r.learning_rate * found


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
