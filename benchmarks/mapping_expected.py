"""Cores that random networks need with near certainty: a first-moment bound over the generators ``uniform`` and ``modular``.

    python benchmarks/mapping_expected.py [--axons 4096] [--surely 1e-9]

For ``spatial`` there is no such sum over all sets of places; what geometry alone would need is printed instead (:func:`disc`).

A core has at most u = ``--axons`` distinct sources. What is printed: the largest K such that the expected number of ways to put all neurons
on at most K cores is below ``--surely``; with at least that certainty a network of the generator needs K + 1 cores. It is no certificate
for one network, as the bounds of the mapper are, but far closer where there is no structure that a certificate could use.

Proof. A way is a labelled assignment with m_1 .. m_K neurons, sum n. For one way, let c_i be the targets that a source has in part i and
N_i the sources with c_i >= 1. Sources are independent, and P(all N_i <= u) <= E exp(sum_i t_i (u - N_i)) for any t_i >= 0. The generating
function of one source's draws is a product over parts, P_i(x) = 1 + exp(-t_i) (A_i(x) - 1), with A_i(x) = (1 + x)^m_i where d of n targets
are drawn without repetition, and exp(x p_i) where each of d draws falls into part i with probability p_i. Its d-th coefficient is
x^-d times the mean over the circle of prod_i P_i(x e^(i a)) e^(-i d a), so by Hoelder's inequality, with weights w_i that sum to 1
(m_i / n), at most x^-d prod_i P_i(x) G_i, G_i = (mean of |P_i(x e^(i a)) / P_i(x)|^(1/w_i))^w_i. In ``modular``, draws in the own community
and outside have a variable and a circle each, with weights j_i / size and m_i / n; how many draws are outside is taken as it is, so that
ways are not counted for networks that have fewer of them. All is now a product over parts, and
the sum over all m is n! times the coefficient of z^n in F(z)^K, at most n! z^-n F(z)^K. No part need be empty (one of several neurons can
be split, and keeps its limits), so each way is counted K! times. Every t, x, z > 0 gives a valid bound; good ones are looked for. Parts of
``cap`` neurons or more are left out of F after the same argument for single sets: a part has all sources of each of its subsets, so if no
set of ``cap`` neurons has at most u sources, no larger one has.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import erf, gammaln, logsumexp

from neurocompile.machine import load_machine

Floats = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]
Turn = Callable[[Complex, Complex], Complex]
_CIRCLE = 64  # points of the mean over the circle: the integrands are smooth and periodic, twice as many change nothing


@dataclass(frozen=True)
class Ways:
    """Expected ways to put ``n`` neurons on K cores. ``sizes``: of parts; ``tries``: (ln of the terms of F by size, ln of what is left),
    for each x; ``cap``: least size that no part has, but with probability ``surely`` / e at most."""

    n: int
    sizes: npt.NDArray[np.int64]
    tries: tuple[tuple[Floats, float], ...]
    cap: int
    surely: float

    def log_expected(self, k: int) -> float:
        """ln of a number that is not below the expected number of ways onto ``k`` cores."""
        best = np.inf
        for terms, rest in self.tries:

            def of(v: float, terms: Floats = terms, rest: float = rest) -> float:
                return float(rest - self.n * v + k * logsumexp(terms + self.sizes * v) - gammaln(k + 1))

            slope = float((terms[-1] - terms[0]) / max(len(terms) - 1, 1))
            best = min(best, of(_least(of, -slope - 200.0, -slope + 200.0)))
        return best

    def cores(self) -> int:
        """Cores that are needed, with probability 1 - ``surely`` at least."""
        low, high = 0, self.n
        while high - low > 1:
            k = (low + high) // 2
            low, high = (k, high) if self.log_expected(k) < np.log(self.surely) - 1 else (low, k)
        return low + 1


def _least(of: Callable[[float], float], low: float, high: float) -> float:
    return float(minimize_scalar(of, bounds=(low, high), method="bounded", options={"xatol": 1e-5 * (high - low)}).x)


def _log_factor(log_a: Floats, t: float, first: Floats, second: Floats, turn: Turn) -> Floats:
    """ln P + ln G of parts; ``log_a``: ln A; ``turn``: ln A, arguments turned by two angles (parts down, points of the torus along);
    ``first``, ``second``: weights for the two angles (0: parts that the first angle does not turn).

    Only points with the second angle in 0 .. pi are looked at: the others are their conjugates."""
    log_p = np.logaddexp(np.log1p(-np.exp(-t)) if t > 0 else -np.inf, log_a - t)
    points = np.meshgrid(np.arange(_CIRCLE), np.arange(_CIRCLE // 2 + 1), indexing="ij")
    z, v = (np.exp(2j * np.pi * a.ravel() / _CIRCLE)[None, :] for a in points)
    size = np.abs((1 - np.exp(-t)) * np.exp(-log_p)[:, None] + np.exp(turn(z, v) - t - log_p[:, None]))
    log_size = np.log(np.maximum(size, 1e-300)).reshape(len(log_a), *points[0].shape)
    share = np.where((points[1][0] == 0) | (points[1][0] == _CIRCLE // 2), 1.0, 2.0) / _CIRCLE
    inner = second[:, None] * np.minimum(logsumexp(log_size / second[:, None, None], axis=2, b=share), 0.0)
    some = np.where(first > 0, first, 1.0)
    outer = np.where(first > 0, some * (logsumexp(inner / some[:, None], axis=1) - np.log(_CIRCLE)), inner.max(axis=1))
    found: Floats = log_p + outer
    return found


def uniform(n: int = 10_000, degree: int = 100, axons: int = 4096, surely: float = 1e-9) -> Ways:
    """Every neuron has ``degree`` distinct targets at random."""

    def one_set(m: int) -> float:
        hit = -np.expm1(gammaln(n - m + 1) - gammaln(n - m - degree + 1) - gammaln(n + 1) + gammaln(n - degree + 1))
        a, b = axons / n, min(float(hit), 1 - 1e-12)
        ways = float(gammaln(n + 1) - gammaln(m + 1) - gammaln(n - m + 1))
        return ways if b <= a else ways - n * (a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b)))

    cap = _cap(one_set, n - degree, n, axons, surely)
    sizes = np.arange(1, cap)

    def terms(x: float) -> Floats:
        found = np.empty(len(sizes))
        for i, m in enumerate(sizes.tolist()):
            log_a = m * np.log1p(x)
            hit, wanted = min(-np.expm1(-log_a), 1 - 1e-12), min(axons / n, 1 - 1e-12)
            t = float(np.log(hit * (1 - wanted) / (wanted * (1 - hit)))) if hit > wanted else 0.0  # best for a binomial N

            def turn(_: Complex, z: Complex, m: int = m) -> Complex:
                return m * np.log1p(x * z)

            found[i] = axons * t + n * _log_factor(np.array([log_a]), t, np.zeros(1), np.array([m / n]), turn)[0] - gammaln(m + 1)
        return found

    choices = gammaln(n + 1) - gammaln(degree + 1) - gammaln(n - degree + 1)
    xs = degree / (n - degree) * np.linspace(1.3, 1.9, 13)
    tries = tuple((terms(x), float(gammaln(n + 1) - n * (degree * np.log(x) + choices))) for x in xs.tolist())
    return Ways(n, sizes, tries, cap, surely)


def modular(
    communities: int = 256, size: int = 250, degree: int = 100, inside: float = 0.8, axons: int = 4096, surely: float = 1e-9
) -> Ways:
    """``degree`` draws, each with probability ``inside`` in the own community, else anywhere; a draw of oneself is dropped."""
    n = communities * size
    own = inside / size + (1 - inside) / n  # a draw of oneself
    j = np.arange(size + 1)
    choose = gammaln(size + 1) - gammaln(j + 1) - gammaln(size - j + 1)

    def probability(m: int) -> Floats:
        """Of a draw into a part of m neurons, by how many of them are of the source's community."""
        found: Floats = inside * j / size + (1 - inside) * m / n
        return found

    def spread(logs: Floats, m: int) -> float:
        """ln of the sum over all compositions of m of prod exp(logs[j_c]), from above: y^-m (sum_j exp(logs[j]) y^j)^communities."""
        few, count = logs[: m + 1], j[: min(m, size) + 1]

        def of(v: float) -> float:
            return float(communities * logsumexp(few + count * v) - m * v)

        steepest = float(((few[1:] - few[0]) / count[1:]).max())
        return of(_least(of, -steepest - 20.0, -steepest + 5.0))

    def one_set(m: int) -> float:
        p = probability(m)
        hit, home = (-np.expm1(degree * np.log1p(-np.clip(q, 0.0, 1 - 1e-12))) for q in (p, p - own))

        def log_expected(t: float) -> float:
            return axons * t + spread(choose + (size - j) * np.log1p(hit * np.expm1(-t)) + j * np.log1p(home * np.expm1(-t)), m)

        return log_expected(_least(log_expected, 0.0, 6.0))

    cap = _cap(one_set, n // 4, n, axons, surely)
    sizes = np.arange(1, cap)

    def of_community(m: int, x: float, y: float, t: float, *, exact: bool) -> Floats:
        """ln of what the sources of a community contribute to a part of m neurons, j of them of the community; ``exact``: with G. At home,
        a draw of oneself goes nowhere: a factor exp(x / size + y / n), whose mean over the circles is left out (it is below 1)."""
        inner, outer = x * j / size, np.full(size + 1, y * m / n)
        rest, weights = np.maximum(x * (j - 1) / size, 0.0), (j / size, np.full(size + 1, m / n))
        if exact:
            away = _log_factor(inner + outer, t, *weights, lambda z, v: inner[:, None] * z + outer[:, None] * v)
            home = _log_factor(rest + outer - y / n, t, *weights, lambda z, v: rest[:, None] * z + (outer[:, None] - y / n) * v)
        else:
            away, home = (np.logaddexp(np.log1p(-np.exp(-t)), q - t) for q in (inner + outer, rest + outer - y / n))
        found: Floats = (size - j) * away + j * (home + x / size + y / n) - gammaln(j + 1)
        return found

    def terms(x: float, y: float) -> Floats:
        found = np.empty(len(sizes))
        for i, m in enumerate(sizes.tolist()):

            def of(t: float, m: int = m) -> float:
                return axons * t + spread(of_community(m, x, y, t, exact=False), m)

            t = _least(of, 1e-6, 6.0)
            found[i] = axons * t + spread(of_community(m, x, y, t, exact=True), m)
        return found

    def rest(x: float, y: float) -> float:
        """What does not depend on the parts; draws out of the community are taken as they are, a sum that is passed with probability
        ``surely`` / e at most (Bernstein's inequality)."""
        out = np.arange(degree + 1)
        probability_of = np.exp(gammaln(degree + 1) - gammaln(out + 1) - gammaln(degree - out + 1)) * (1 - inside) ** out
        probability_of = probability_of * inside ** (degree - out)
        value = gammaln(out + 1) + gammaln(degree - out + 1) - out * np.log(y) - (degree - out) * np.log(x)
        mean = float(probability_of @ value)
        variance, largest, nats = float(probability_of @ (value - mean) ** 2), float(value.max() - mean), 1 - np.log(surely)
        beyond = largest * nats / 3
        return float(communities * gammaln(size + 1) + n * mean + beyond + np.sqrt(beyond**2 + 2 * n * variance * nats))

    xs = [(degree * inside * f, degree * (1 - inside) * g) for f, g in FACTORS]
    return Ways(n, sizes, tuple((terms(x, y), rest(x, y)) for x, y in xs), cap, surely)


def disc_sources(n: int, side: int, sigma: float, degree: int) -> float:
    """Mean number of distinct sources of the ``n`` places of a torus that are nearest to one of them, for ``spatial``.

    Each of a source's ``degree`` draws falls into the set with probability q, the sum of its Gaussian over the set; a draw of oneself goes
    nowhere. But for the grid, a disc has the fewest in the mean of all sets of its size: 1 - (1 - q)^degree is concave, so its sum is
    least where q is most in few places, and no set has it more so than a disc (Riesz's rearrangement inequality)."""
    step = np.minimum(np.arange(side), side - np.arange(side))
    distance = step[:, None] ** 2 + step[None, :] ** 2
    inside = np.zeros(side * side)
    inside[np.argsort(distance, axis=None, kind="stable")[:n]] = 1.0
    one = (erf((step + 0.5) / (sigma * np.sqrt(2))) - erf((step - 0.5) / (sigma * np.sqrt(2)))) / 2
    spectrum = np.fft.rfft2(np.outer(one, one))
    q = np.fft.irfft2(np.fft.rfft2(inside.reshape(side, side)) * spectrum, (side, side)) - inside.reshape(side, side) * one[0] ** 2
    return float(-np.expm1(degree * np.log1p(-np.clip(q, 0.0, 1 - 1e-12))).sum())


def disc(side: int = 316, sigma: float = 8.0, degree: int = 100) -> int:
    """Neurons of the largest disc of ``spatial`` for which the synapse memory of a core of hala-point has room, costs as in
    ``backends/loihi2/problem.py``."""
    core = load_machine("hala-point").value
    per_source = core("core.synapse_block_header") + core("core.synapse_word") - 1
    per_synapse = core("core.weight_bits") + core("core.index_bits") + per_source / core("core.synapse_block")
    per_neuron = per_synapse * disc_sources(1, side, sigma, degree)
    low, high = 1, side * side // 4
    while high - low > 1:
        n = (low + high) // 2
        used = n * per_neuron + per_source * disc_sources(n, side, sigma, degree)
        low, high = (n, high) if used <= core("core.synapse_memory") else (low, n)
    return low


FACTORS = ((1.0, 2.4),)
"""Of the mean numbers of draws inside and outside: x and y that give a good bound (301 cores; 273 with y = 1.3, 300 with x = 0.97)."""


def _cap(one_set: Callable[[int], float], most: int, n: int, axons: int, surely: float) -> int:
    """Least size of which there is no set with few enough sources, by bisection; any size for which ``one_set`` says so is valid."""
    if axons >= n or one_set(most) >= np.log(surely) - 1:
        return n + 1
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if one_set(middle) < np.log(surely) - 1 else (middle, high)
    return high


def main(words: list[str] | None = None) -> int:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axons", type=int, default=4096, help="axons-in of a core")
    parser.add_argument("--surely", type=float, default=1e-9, help="probability that fewer cores are enough, at most")
    args = parser.parse_args(words)
    for make in (uniform, modular):
        ways = make(axons=args.axons, surely=args.surely)
        print(f"{make.__name__}: at least {ways.cores()} cores; no core holds {ways.cap} neurons", flush=True)
    n = disc()
    print(f"spatial: the largest disc on a core of hala-point has {n} neurons; if discs could cover the torus, {316**2 / n:.1f} cores")
    return 0


if __name__ == "__main__":
    sys.exit(main())
