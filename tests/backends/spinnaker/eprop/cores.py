"""What happens on a core, made up; the same events for the compiled twin, the C and a loop in floating point."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.backends.spinnaker.eprop import kernels
from neurocompile.backends.spinnaker.eprop.scales import ACCUMULATOR_BITS, Rule, Scales

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
BLOCKS = 8
SWEEP = (BLOCKS - 1) * 32
"""Steps in which every row is touched once"""


@dataclass(frozen=True, kw_only=True)
class Events:
    """psi, signal, reg : (ticks, n), integers of the scales; spikes : rows that spike, a list a tick; target : (rows, m)."""

    psi: Ints
    signal: Ints
    reg: Ints
    spikes: list[Ints]
    target: Ints
    weight: Ints
    low: int
    high: int


@dataclass(frozen=True, kw_only=True)
class Left:
    """What a run leaves: weight, e, r (rows, m), head (rows, 2), neuron (n, 8), sent : a sum over all weights sent, saturated."""

    weight: Ints
    e: Ints
    r: Ints
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
    return Events(
        psi=np.rint(psi * 2.0**scales.q_psi).astype(np.int64),
        signal=np.rint(signal / scales.signal_unit).astype(np.int64),
        reg=np.rint(reg / scales.signal_unit).astype(np.int64),
        spikes=[np.flatnonzero(row) for row in rng.random((ticks, rows)) < rate],
        target=target,
        weight=rng.integers(-20000, 20000, (rows, m)) << ACCUMULATOR_BITS,
        low=-(2**15) << ACCUMULATOR_BITS,
        high=(2**15 - 1) << ACCUMULATOR_BITS,
    )


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
    neuron, ring = kernels.fresh(n, BLOCKS)
    weight, e, r = events.weight.copy(), np.zeros((rows, m), np.int64), np.zeros((rows, m), np.int64)
    head, sent = np.zeros((rows, 2), np.int64), np.zeros(m, np.int64)
    total = saturated = 0
    for tick in range(ticks):
        kernels.fold(k, tick, events.psi[tick], events.signal[tick], events.reg[tick], neuron, ring)
        for spike, touched in ((True, events.spikes[tick]), (False, np.arange(tick % SWEEP, rows, SWEEP))):
            for i in touched:
                saturated += kernels.touch(
                    k, tick, spike, head[i], events.target[i], weight[i], e[i], r[i], events.low, events.high, neuron, ring, sent
                )
                if spike:
                    total += int((sent * (1 + (tick + np.arange(m)) % 7)).sum())
    return Left(weight=weight, e=e, r=r, head=head, neuron=neuron, ring=ring, sent=total, saturated=saturated)


def settled(scales: Scales, events: Events, left: Left) -> Floats:
    """Return the weights (rows, m) at the end of a run, accumulator units, all rows brought up to its last step."""
    k, found = kernels.constants(scales), np.zeros(events.target.shape)
    out = np.zeros(events.target.shape[1], np.int64)
    for i in range(len(found)):
        row = (left.head[i].copy(), events.target[i], left.weight[i].copy(), left.e[i].copy(), left.r[i].copy(), events.low, events.high)
        kernels.touch(k, len(events.psi) - 1, False, *row, left.neuron, left.ring, out)
        kernels.settled(k, *row, left.neuron, out)
        found[i] = out
    return found


@numba.njit
def exact(
    rule: tuple[float, float, float], psi: Floats, signal: Floats, reg: Floats, spiked: npt.NDArray[np.bool_], target: Ints
) -> Floats:
    """E-prop as docs/eprop.md has it, step by step: the sum over all indices of L ebar + R ebar_reg, (rows, m).

    spiked (ticks, rows): a spike of step t arrives in t + 1 and enters zbar there; signal, reg (ticks, n): row t is L and R of step t - 2.
    """
    alpha, kappa, kappa_reg = rule
    ticks, (rows, m) = len(psi), target.shape
    found = np.zeros((rows, m))
    for i in range(rows):
        for s in range(m):
            j, zbar, ebar, ereg = target[i, s], 0.0, 0.0, 0.0
            for t in range(ticks - 2):
                zbar = alpha * zbar + (1.0 if t > 0 and spiked[t - 1, i] else 0.0)
                e = psi[t, j] * zbar
                ebar = kappa * ebar + e
                ereg = kappa_reg * ereg + (1.0 - kappa_reg) * e
                found[i, s] += signal[t + 2, j] * ebar + reg[t + 2, j] * ereg
    return found


def rule(**changes: float) -> Rule:
    """Return a rule of ordinary numbers."""
    given = {"alpha": np.exp(-1 / 20), "kappa": 0.97, "kappa_reg": 0.97, "height": 0.3, "learning_rate": 1e-3}
    given |= {"weight_unit": 2.0**-14, "interval": 5.0, "signal": 1.0, "reg": 0.0}
    return Rule(**{**given, **changes})
