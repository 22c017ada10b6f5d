"""Layers of learning neurons in plain NumPy, every pair in every step: weight decay, feedback matrices, signals layer by layer.

Feedback weights that follow the forward ones are explicit matrices here, updated by Kolen and Pollack's own rule: the same change from the
gradient, the same decay in every step. (The engine knows the difference in closed form.) Learning signals go back as products of matrices.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from neurocompile.ir import (
    ALIF,
    LIF,
    AdaptiveFeedback,
    ChainFeedback,
    EProp,
    Explicit,
    LeakyReadout,
    Loss,
    Network,
    Population,
    Projection,
    RandomFeedback,
    Reset,
    SymmetricFeedback,
)
from neurocompile.ir.realise import realise_feedback, realise_synapse_feedback
from neurocompile.ir.signals import Signal
from tests.backends.reference.test_eprop_oracle import Plastic, psi_of

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Decaying(Plastic):
    """All pairs of a projection, as ``Plastic``, with weight decay, beside two matrices that decay in every step: the weight as it would be
    if it were always up to date, and for each rule with adaptive feedback its B."""

    def __init__(
        self, weight: Array, mask: Mask, rule: EProp, alpha: Array, rho: Array, beta: Array, readout: bool, followers: dict[str, Array]
    ) -> None:
        super().__init__(weight, mask, rule, alpha, rho, beta, readout)
        self.q = 1 - rule.weight_decay
        self.decayed, self.replayed = np.zeros(weight.shape, int), np.zeros(weight.shape, int)
        self.present, self.followers = weight.copy(), followers

    def b(self, rule: str) -> Array:
        """Return B as it is read now: as far ahead of its decay as the weight of the last event is."""
        return self.w + (self.followers[rule] - self.present)

    def tick(self) -> None:
        for matrix in (self.present, *self.followers.values()):
            np.multiply(matrix, self.q, out=matrix)

    def clip(self, where: Mask) -> None:
        w = np.clip(self.work, *self.rule.weight_bounds)
        if self.rule.sign_constraint:
            w = np.where(w * self.start < 0, 0.0, w)
        self.work = np.where(where & (self.q < 1), w, self.work)

    def optimize(self, where: Mask, index: int, g: Array) -> None:
        if self.rule.optimizer.each_step:
            self.work[where] *= self.q
            self.replayed[where] += 1
        super().optimize(where, index, g)
        self.clip(where)

    def arrive(self, sources: Mask, stamp: int) -> None:
        event = sources[:, None] & self.mask
        steps = stamp - self.decayed
        without = self.w * self.q**steps
        self.work = np.where(event, self.work * self.q ** (steps - self.replayed), self.work)
        if not self.rule.optimizer.each_step:
            again = event & (self.last >= 0)[:, None]
            super().optimize(again, stamp - 1, self.g)
            self.g[again] = 0.0
        self.clip(event)
        self.w = np.where(event, self.work, self.w)
        change = np.where(event, self.w - without, 0.0)
        for matrix in (self.present, *self.followers.values()):
            np.add(matrix, change, out=matrix)
        self.decayed[event], self.replayed[event] = stamp, 0
        np.testing.assert_allclose(self.present[event], self.w[event], rtol=1e-9, atol=1e-12)


@dataclass
class Hidden:
    """One population of lif or alif neurons."""

    population: Population
    dt: float
    v: Array = field(init=False)
    z: Mask = field(init=False)

    def __post_init__(self) -> None:
        model, n = self.population.model, self.population.size
        assert isinstance(model, LIF)
        self.model, self.one = model, np.ones(n)
        self.v, self.z, self.r, self.adapt = model.v_leak * self.one, np.zeros(n, bool), np.zeros(n, int), 0 * self.one
        self.a = np.exp(-self.dt / (model.tau_mem * self.one))
        self.rho = np.exp(-self.dt / (model.adapt_tau * self.one)) if isinstance(model, ALIF) else 0 * self.one
        self.beta = model.adapt_beta * self.one if isinstance(model, ALIF) else 0 * self.one

    def step(self, drive: Array) -> Array:
        """Advance; return the distance to the threshold, infinite while refractory."""
        m, free = self.model, self.r == 0
        self.r = np.maximum(self.r - 1, 0)
        moved = np.maximum(self.a * self.v + (1 - self.a) * m.v_leak + m.bias + drive, m.v_min)
        self.v = np.where(free, moved, self.v) if m.reset is Reset.TO_VALUE else moved
        self.adapt = self.rho * self.adapt + self.z
        x: Array = self.v - m.v_threshold - self.beta * self.adapt
        ready = self.r == 0
        self.z = (x >= 0) & ready
        self.v = np.where(self.z, m.v_reset if m.reset is Reset.TO_VALUE else self.v - (m.v_threshold - m.v_leak), self.v)
        self.r = np.where(self.z, round(float(m.t_ref) / self.dt), self.r)
        return np.where(ready, x, np.inf)


@dataclass(frozen=True)
class Outcome:
    """weights: (pre, post) matrices by projection; spikes: (steps, n) by population; signal: L of the last complete index by
    (population, rule); feedback: adaptive B (pre, post) as read at the end, by (rule, projection)."""

    weights: dict[str, Array]
    spikes: dict[str, Mask]
    signal: dict[tuple[str, str], Array]
    feedback: dict[tuple[str, str], Array]


def distances(network: Network) -> dict[str, int]:
    """Return the least number of projections to the readout, by relaxation."""
    assert network.task is not None
    far = {p.name: 10**6 for p in network.populations} | {network.task.readout: 0}
    for _ in network.populations:
        for p in network.synaptic_projections:
            far[p.pre] = min(far[p.pre], far[p.post] + 1)
    return far


def ends_of(projection: Projection) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], Array]:
    connect = projection.connect
    assert isinstance(connect, Explicit)
    assert connect.weight is not None
    return connect.pre, connect.post, connect.weight


def dense(network: Network, spikes: Mask, signal: Signal, learn: Mask, *, flush: bool) -> Outcome:
    """Run a network of one source "in", hidden populations and one readout "out" over explicit synapses, one a pair."""
    task, out = network.task, network.population("out")
    assert task is not None
    assert isinstance(out.model, LeakyReadout)
    dt, far, size = network.dt, distances(network), {p.name: p.size for p in network.populations}
    layers = {p.name: Hidden(p, dt) for p in network.populations if isinstance(p.model, LIF)}
    a_out, y = np.exp(-dt / (out.model.tau_mem * np.ones(out.size))), np.zeros(out.size)
    heard = [(p.post, p.learning) for p in network.projections if p.learning is not None]
    sites = [site for site in dict.fromkeys(heard) if site[0] != "out"]
    rules = {r.name: r for r in network.rules if isinstance(r, EProp)}
    steps, zero = len(spikes), np.zeros(out.size)
    psi, slope, reg, ell = ({s: np.zeros((steps + 2, size[s[0]])) for s in sites} for _ in range(4))
    rate, errs = {s: np.zeros(size[s[0]]) for s in sites}, np.zeros((steps + 2, out.size))

    plastic: dict[str, Decaying] = {}
    fixed: dict[str, Array] = {}  # random feedback along synapses, and static weights
    drawn: dict[tuple[str, str], Array] = {}
    for p in network.projections:
        pre, post, values = ends_of(p)
        matrix, mask = np.zeros((size[p.pre], size[p.post])), np.zeros((size[p.pre], size[p.post]), bool)
        matrix[pre, post], mask[pre, post] = values, True
        assert mask.sum() == len(pre)
        followers = {}
        for name, rule in rules.items():
            weights = rule.feedback.weights if isinstance(rule.feedback, ChainFeedback) else rule.feedback
            along = isinstance(rule.feedback, ChainFeedback | AdaptiveFeedback)
            if along and isinstance(weights, RandomFeedback | AdaptiveFeedback):
                b = np.zeros_like(matrix)
                b[pre, post] = realise_synapse_feedback(network, rule, weights, p, len(pre))
                drawn[name, p.name] = b
                if isinstance(weights, AdaptiveFeedback):
                    followers[name] = b
        if p.learning is None:
            fixed[p.name] = matrix
            continue
        layer = layers.get(p.post)
        traces = (a_out, zero, zero) if layer is None else (layer.a, layer.rho, layer.beta)
        plastic[p.name] = Decaying(matrix, mask, rules[p.learning], *traces, layer is None, followers)

    def weight(p: Projection) -> Array:
        return np.where(plastic[p.name].mask, plastic[p.name].w, 0.0) if p.name in plastic else fixed[p.name]

    def back(p: Projection, rule: EProp) -> Array:
        kind = rule.feedback.weights if isinstance(rule.feedback, ChainFeedback) else rule.feedback
        if isinstance(kind, SymmetricFeedback):
            return weight(p)
        return plastic[p.name].b(rule.name) if isinstance(kind, AdaptiveFeedback) else drawn[rule.name, p.name]

    def passed_on(name: str, index: int) -> Array:
        own = [s for s in sites if s[0] == name]
        site = next((s for s in own if isinstance(rules[s[1]].feedback, ChainFeedback)), own[0])
        product: Array = slope[site][index] * ell[site][index]
        return product

    def hear(index: int, error: Array) -> None:
        for site in sorted(sites, key=lambda s: far[s[0]]):
            name, rule = site[0], rules[site[1]]
            chain = isinstance(rule.feedback, ChainFeedback)
            if isinstance(rule.feedback, SymmetricFeedback | AdaptiveFeedback) or chain:
                ell[site][index] = 0.0
                for p in network.projections:
                    if p.pre == name and p.post == "out":
                        ell[site][index] += back(p, rule) @ error
                    elif chain and p.pre == name and far[p.post] == far[name] - 1:
                        ell[site][index] += back(p, rule) @ passed_on(p.post, index)
            else:
                b = realise_feedback(network, rule, name)
                assert b is not None
                ell[site][index] = error @ b

    stamps = {name: np.zeros((steps + 2, len(p.w)), bool) for name, p in plastic.items()}
    past = {p.name: np.zeros((256, p.size), bool) for p in network.populations if p.name != "out"}  # the newest first
    fired = {name: np.zeros((steps, layer.population.size), bool) for name, layer in layers.items()}
    i, learned_last = 0, False
    for t in range(steps + flush):
        arriving = {}
        for p in network.projections:
            delay = int(p.delay.value)  # type: ignore[union-attr]
            arriving[p.name] = past[p.pre][delay - 1]
        learning = t == steps or bool(learn[t])
        for name, pairs in plastic.items() if learning else ():
            p = network.projection(name)
            site = (p.post, p.learning or "")
            if i > 0:
                pairs.tick()
            if i >= 2:
                of = (zero, errs[i - 2], zero) if pairs.readout else (psi[site][i - 2], ell[site][i - 2], reg[site][i - 2])
                pairs.read(i - 2, stamps[name][i - 2], *of)
            pairs.arrive(np.ones_like(arriving[name]) if t == steps else arriving[name], i)
            stamps[name][i] = arriving[name]
            pairs.last[arriving[name]] = i
        if t == steps:
            break
        drive = {name: np.zeros(n) for name, n in size.items()}
        for p in network.projections:
            drive[p.post] += weight(p).T @ arriving[p.name]
        away = {name: layer.step(drive[name]) for name, layer in layers.items()}
        y = a_out * y + drive["out"]
        for name, rows in past.items():
            past[name] = np.vstack([(spikes[t] if name == "in" else layers[name].z)[None], rows[:-1]])
        for name, layer in layers.items():
            fired[name][t] = layer.z
        if learning:
            for site in sites:
                rule = rules[site[1]]
                rate[site] = rule.kappa_reg * rate[site] + (1 - rule.kappa_reg) * layers[site[0]].z / (dt * 1e3)
                s = rule.surrogate
                clamped, x = np.isinf(away[site[0]]), away[site[0]]
                psi[site][i] = np.where(clamped, 0.0, psi_of(s.kind, s.height, s.width, np.where(clamped, 0.0, x)))
                slope[site][i] = layers[site[0]].a * slope[site][i - 1] + psi[site][i]  # row -1 is 0 at the start
                if rule.regularization is not None:
                    reg[site][i] = rule.regularization.strength * (rate[site] - rule.regularization.rate * dt)
            shown = np.exp(y) / np.exp(y).sum() if task.loss is Loss.CROSS_ENTROPY else y
            errs[i] = (shown - signal.target[t]) * signal.window[t]
            if learned_last:
                hear(i - 1, errs[i])
            i += 1
        learned_last = learning
    last = {site: values[max(i - 2, 0)] for site, values in ell.items()}
    final = {(rule, name): pairs.b(rule) for name, pairs in plastic.items() for rule in pairs.followers}
    return Outcome({p.name: weight(p) for p in network.projections}, fired, last, final)
