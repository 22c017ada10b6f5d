"""Eligibility of adaptive (alif) neurons: e-prop wants a second state a synapse, eps, beside the low-passed eligibility ebar:

    e = psi (zbar - beta eps)         eps <- rho eps + e         ebar <- kappa ebar + e

Form ``adaptive`` holds both, eps in d: exact, but no state is left for the low bits of weights. Form ``lagged`` has its tag alone; there
eps is told from what the engine has anyway: ebar itself, the same e with another decay, and a second presynaptic trace that decays
about as eps does (:class:`Share`). Both are products with psi in the tag's rule (docs/loihi2.md has what each of them loses).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.backends.loihi2.arithmetic import TRACE_MAX, FloatArray, IntArray
from neurocompile.backends.loihi2.literals import Literal, nearest_literal
from neurocompile.ir import ALIF, Population
from neurocompile.ir.neurons import decay, expand

TRACE_IMPULSES = range(16, 0, -1)
"""What a spike may add to the second trace, the finest first"""
_NEAR = 0.05
"""Relative error of a coefficient that is accepted for a finer trace"""
_REAL_EXPONENT = -4
"""Of the second trace's coefficient in floating point, where the impulse has any size"""
_SYNAPSES = 50_000
"""As many of a projection are looked at"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Adaptation:
    """beta of each neuron, and the decay of eps in a step (their mean, a connection has one rule)."""

    beta: FloatArray
    rho: float


def adaptation_of(population: Population, dt: float) -> Adaptation | None:
    """Return the adaptation of an alif population, None of others."""
    model, n = population.model, population.size
    if not isinstance(model, ALIF):
        return None
    return Adaptation(beta=expand(model.adapt_beta, n), rho=float(decay(model.adapt_tau, dt, model.integration, n).mean()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """eps as a sum: ``tag`` ebar + ``trace`` x2, x2 the presynaptic trace of impulse 1 and this ``decay``, which reaches ``most``."""

    tag: float
    trace: float = 0.0
    decay: float = 0.0
    most: float = 0.0

    @property
    def kind(self) -> str:
        return "trace" if self.trace > 0.0 else "tag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Products that :class:`Share` adds to the rule of the tag, and the second trace (impulses None: there is none)."""

    fixed: str = ""
    real: str = ""
    impulse: int | None = None
    impulse_real: float = 0.0
    decay: float = 0.0


def share_terms(share: Share, beta: float, *, height: float, drive: float, alpha: float, tag_shift: int) -> Terms:
    """Return the products of psi with the tag and the second trace.

    height : of psi, which is 127 in the engine; drive : impulse of x1 times its coefficient in the tag's rule;
    tag_shift : the engine's of t y2.
    """
    fixed = real = ""
    slow = nearest_literal(beta * share.tag * height / TRACE_MAX * 2.0**tag_shift)
    if slow is not None:
        fixed = f" - {slow}*u0*t*y2"
    exact = nearest_literal(beta * share.tag)
    if exact is not None:
        real = f" - {exact}*u0*t*y2"
    if share.trace <= 0.0:
        return Terms(fixed=fixed, real=real)
    wanted = drive * alpha * beta * share.trace
    best: tuple[float, int, Literal] | None = None
    for impulse in TRACE_IMPULSES:
        literal = nearest_literal(wanted / impulse)
        if literal is None or impulse * share.most > TRACE_MAX:
            continue
        error = abs(literal.value * impulse / wanted - 1.0)
        if best is None or error < best[0]:
            best = (error, impulse, literal)
        if error <= _NEAR:
            break
    if best is None:
        return Terms(fixed=fixed, real=real)
    _, impulse, literal = best
    return Terms(
        fixed=f"{fixed} - {literal}*u0*x2*y2",
        real=f"{real} - {Literal(mantissa=1, exponent=_REAL_EXPONENT)}*u0*x2*y2",
        impulse=impulse,
        impulse_real=alpha * beta * share.trace * 2.0**-_REAL_EXPONENT,
        decay=share.decay,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """What a projection saw: its synapses, (steps, n_pre) spikes and (steps, n_post) psi, 0 while refractory; decays by target."""

    pre: IntArray
    post: IntArray
    spikes: FloatArray
    psi: FloatArray
    alpha: FloatArray
    beta: FloatArray
    rho: FloatArray
    kappa: float


def fit_shares(recordings: Iterable[Recording]) -> list[Share]:
    """Return the best share of the tag alone, and of tag and trace, for the projections into a population: least squares over synapses and
    steps, weighted as e counts them, with psi^2. None if eps never moved."""
    recordings = list(recordings)
    decay_ = float(np.mean([np.mean(r.rho - r.beta * r.psi.mean()) for r in recordings]))
    sums, most = np.zeros(5), 0.0
    for r in recordings:
        some = slice(None, None, max(1, len(r.pre) // _SYNAPSES))
        spikes, psi = np.ascontiguousarray(r.spikes.T), np.ascontiguousarray(r.psi.T)
        most = max(most, _sum_up(r.pre[some], r.post[some], spikes, psi, r.alpha, r.beta, r.rho, r.kappa, decay_, sums))
    tag_tag, tag_trace, trace_trace, tag_eps, trace_eps = sums
    if tag_eps <= 0.0:
        return []
    found = [Share(tag=float(tag_eps / tag_tag))]
    determinant = tag_tag * trace_trace - tag_trace**2
    if determinant > 1e-9 * tag_tag * trace_trace:
        tag = float((tag_eps * trace_trace - trace_eps * tag_trace) / determinant)
        trace = float((trace_eps * tag_tag - tag_eps * tag_trace) / determinant)
        if tag < 0.0:
            tag, trace = 0.0, float(trace_eps / trace_trace)
        if trace > 0.0:
            found.append(Share(tag=tag, trace=trace, decay=decay_, most=most))
    return found


@numba.njit(cache=True, nogil=True)
def _sum_up(
    pre: IntArray,
    post: IntArray,
    spikes: FloatArray,
    psi: FloatArray,
    alpha: FloatArray,
    beta: FloatArray,
    rho: FloatArray,
    kappa: float,
    slow: float,
    sums: npt.NDArray[np.float64],
) -> float:
    """Add psi^2 times ebar ebar, ebar x2, x2 x2, ebar eps, x2 eps to ``sums``; return the largest x2. spikes, psi : a row a neuron."""
    most = 0.0
    for k in range(len(pre)):
        i, j = pre[k], post[k]
        zbar = eps = ebar = x2 = before = 0.0
        for t in range(spikes.shape[1]):
            zbar = alpha[j] * zbar + before
            before = spikes[i, t]
            x2 = slow * x2 + before
            most = max(most, x2)
            weight = psi[j, t] * psi[j, t]
            sums[0] += weight * ebar * ebar
            sums[1] += weight * ebar * x2
            sums[2] += weight * x2 * x2
            sums[3] += weight * ebar * eps
            sums[4] += weight * x2 * eps
            e = psi[j, t] * (zbar - beta[j] * eps)
            eps = rho[j] * eps + e
            ebar = kappa * ebar + e
    return most


__all__ = [
    "Adaptation",
    "Recording",
    "Share",
    "Terms",
    "adaptation_of",
    "fit_shares",
    "share_terms",
]
