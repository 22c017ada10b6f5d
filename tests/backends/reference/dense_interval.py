"""The original formulation of e-prop by its definition: every trace of every pair, in every step, in plain NumPy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from neurocompile.ir import (
    ALIF,
    LIF,
    Adam,
    EProp,
    Explicit,
    Interval2020,
    LeakyReadout,
    Loss,
    Network,
    Projection,
    SpikeSource,
    SurrogateKind,
)
from neurocompile.ir.neurons import decay, expand
from neurocompile.ir.realise import realise_feedback

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass
class Result:
    """weights, zbar, ebar : by projection, in the order of its synapses; output : (steps, readout); spikes : by population (steps, n);
    psi, signal : by hidden population (steps, n), the signal of a step being that of the entry two steps before."""

    weights: dict[str, Array]
    output: Array
    spikes: dict[str, Bools]
    psi: dict[str, Array]
    signal: dict[str, Array]
    zbar: dict[str, Array] = field(default_factory=dict)
    ebar: dict[str, Array] = field(default_factory=dict)


def psi_of(kind: SurrogateKind, height: float, width: float, x: Array) -> Array:
    r = np.abs(x) / width
    return {
        SurrogateKind.PIECEWISE_LINEAR: height * np.maximum(0, 1 - r),
        SurrogateKind.EXPONENTIAL: height * np.exp(-r),
        SurrogateKind.FAST_SIGMOID_DERIVATIVE: height * (1 + r) ** -2.0,
        SurrogateKind.ARCTAN_DERIVATIVE: height / (1 + r**2),
    }[kind]


class Group:
    """Neurons of a population, hidden or readouts, whose intervals begin ``lag`` steps after the sources'."""

    def __init__(self, network: Network, name: str, update: Interval2020) -> None:
        population = network.population(name)
        model, n, dt = population.model, population.size, network.dt
        assert isinstance(model, LIF | LeakyReadout)
        self.model, self.n, self.update, self.readout = model, n, update, isinstance(model, LeakyReadout)
        self.lag = 2 if self.readout else 1
        self.alpha = decay(model.tau_mem, dt, model.integration, n)
        self.gain = np.ones(n) if update.regular_spike_arrival else 1 - self.alpha
        self.rho = decay(model.adapt_tau, dt, model.integration, n) if isinstance(model, ALIF) else np.zeros(n)
        self.beta = expand(model.adapt_beta, n) if isinstance(model, ALIF) else np.zeros(n)
        self.rest, self.bias, self.floor = expand(model.v_leak, n), expand(model.bias, n), expand(model.v_min, n)
        self.v = self.rest.copy()
        self.z, self.a, self.r, self.count, self.reg, self.x = (
            np.zeros(n),
            np.zeros(n),
            np.zeros(n, int),
            np.zeros(n),
            np.zeros(n),
            np.zeros(n),
        )
        if isinstance(model, LIF):
            self.threshold, self.refractory = expand(model.v_threshold, n), np.rint(expand(model.t_ref, n) / dt).astype(int)

    def step_in_interval(self, t: int) -> int:
        """Return the step of the group's interval, -1 before its first one."""
        return (t - self.lag) % self.update.interval_steps if t >= self.lag else -1

    def advance(self, t: int, drive: Array) -> None:
        if self.step_in_interval(t) == 0 and self.update.reset_neurons:
            self.v, self.z, self.a, self.r = self.rest.copy(), np.zeros(self.n), np.zeros(self.n), np.zeros(self.n, int)
        v = self.alpha * self.v + (1 - self.alpha) * self.rest + self.bias + self.gain * drive
        if self.readout:
            self.v = np.maximum(v, self.floor)
            return
        self.r = np.maximum(self.r - 1, 0)
        self.v = np.maximum(v - (self.threshold - self.rest) * self.z, self.floor)
        self.a = self.rho * self.a + self.z
        self.x = self.v - self.threshold - self.beta * self.a
        self.z = ((self.x >= 0) & (self.r == 0)).astype(float)
        self.psi_counts = self.r == 0
        self.r = np.where(self.z > 0, self.refractory, self.r)


class Pairs:
    """A plastic projection, all pairs of it: traces by their definition, one optimizer a pair."""

    def __init__(self, projection: Projection, rule: EProp, n_pre: int, post: Group) -> None:
        connect = projection.connect
        assert isinstance(connect, Explicit)
        assert connect.weight is not None
        assert isinstance(rule.update, Interval2020)
        shape = (n_pre, post.n)
        self.rule, self.update, self.post, self.ends = rule, rule.update, post, (connect.pre, connect.post)
        self.mask, self.w = np.zeros(shape, bool), np.zeros(shape)
        self.mask[self.ends], self.w[self.ends] = True, connect.weight
        self.side = np.where(self.w < 0, -1.0, 1.0)
        self.zbar, self.eps, self.ebar, self.sum_e, self.g, self.last = (np.zeros(shape) for _ in range(6))
        self.ready, self.m, self.v, self.collected = (np.zeros(shape) for _ in range(4))
        self.updated, self.done = np.zeros(n_pre, int), np.ones(n_pre, int)

    def arrive(self, sources: Bools, t: int, number: int) -> Bools:
        """Let due updates happen; return the sources whose spikes are learned from."""
        step, learned = self.post.step_in_interval(t), sources.copy()
        for i in np.flatnonzero(sources):
            if step < 0 or (step == 0 and not self.post.readout):
                learned[i] = False
            elif self.post.readout and step == 0 and number == self.updated[i] + 1:
                learned[i] = False  # an update needs a spike behind the interval's end, and this one is in neither interval
            elif number > self.updated[i]:
                self.apply(int(i), number)
        return learned

    def apply(self, i: int, number: int) -> None:
        self.collected[i] += self.ready[i]
        self.ready[i], self.updated[i] = 0.0, number
        due, optimizer = 1 + number // self.update.batch_size, self.rule.optimizer
        if self.done[i] >= due:
            return
        g = self.collected[i] / self.update.batch_size
        if isinstance(optimizer, Adam):
            for n in range(self.done[i], due):
                b1, b2 = optimizer.beta_1, optimizer.beta_2
                self.m[i], self.v[i] = b1 * self.m[i] + (1 - b1) * g, b2 * self.v[i] + (1 - b2) * g**2
                rate = optimizer.learning_rate * np.sqrt(1 - b2**n) / (1 - b1**n)
                self.w[i] -= rate * self.m[i] / (np.sqrt(self.v[i]) + optimizer.epsilon)
                g = 0 * g
        else:
            self.w[i] -= optimizer.learning_rate * g
        self.w[i] = np.clip(self.w[i], *self.rule.weight_bounds)
        if self.rule.sign_constraint:
            self.w[i] = np.where(self.w[i] * self.side[i] < 0, 0.0, self.w[i])
        self.collected[i], self.done[i] = 0.0, due

    def hear(self, signal: Array, last_entry: bool) -> None:
        """Hidden targets: the learning signal of the entry before this step."""
        part = signal * self.ebar
        self.g += part
        if last_entry:
            self.last = part

    def integrate(self, t: int, entering: Bools, psi: Array, error: Array) -> None:
        step = self.post.step_in_interval(t)
        if step < 0:
            return
        if step == 0:
            self.zbar, self.eps, self.ebar = 0 * self.zbar, 0 * self.eps, 0 * self.ebar
        self.zbar = self.post.alpha * self.zbar + self.post.gain * entering[:, None]
        if self.post.readout:
            self.g += error * self.zbar
            return
        e = psi * (self.zbar - self.post.beta * self.eps)
        self.eps = self.post.rho * self.eps + e
        self.ebar = self.rule.kappa * self.ebar + (1 - self.rule.kappa) * e
        self.sum_e += e

    def end(self, just: Bools) -> None:
        """End an interval. ``just``: sources that spike in this step; when their spikes arrive the last signal is still on its way."""
        g = self.g if self.post.readout else self.g + self.post.reg * self.sum_e - just[:, None] * self.last
        self.ready += g / (self.update.window_steps if self.update.average_gradient else 1)


def dense(network: Network, raster: Bools, target: Array, window: Bools, *, learn: Bools | None = None, flush: bool = False) -> Result:
    """Run a network with one spike source, whose spikes ``raster`` are, a task, and one learning rule for each population."""
    update = network.interval_2020
    assert update is not None
    assert network.task is not None
    steps, length = len(raster), update.interval_steps
    learn = np.ones(steps, bool) if learn is None else learn
    source = network.spike_sources[0].name
    groups = {p.name: Group(network, p.name, update) for p in network.populations if not isinstance(p.model, SpikeSource)}
    out = groups[network.task.readout]
    hidden = {name: g for name, g in groups.items() if not g.readout}
    sizes = {p.name: p.size for p in network.populations}
    pairs, static, rule_of = {}, {}, {}
    for p in network.synaptic_projections:
        connect = p.connect
        assert isinstance(connect, Explicit)
        if p.learning is None:
            static[p.name] = connect
            continue
        rule = network.rule(p.learning)
        assert isinstance(rule, EProp)
        rule_of[p.post] = rule
        pairs[p.name] = Pairs(p, rule, sizes[p.pre], groups[p.post])
    fed = {name: realise_feedback(network, rule_of[name], name) for name in hidden if name in rule_of}
    spikes = {name: np.zeros((steps + 1, n), bool) for name, n in sizes.items()}
    spikes[source][:steps] = raster
    result = Result({}, np.zeros((steps, out.n)), spikes, {}, {})
    result.psi, result.signal = ({name: np.zeros((steps + 2, g.n)) for name, g in hidden.items()} for _ in range(2))
    number = 0
    for t in range(steps):
        drive = {name: np.zeros(g.n) for name, g in groups.items()}
        entering: dict[str, Bools] = {}
        for p in network.synaptic_projections:
            if p.name in static:
                connect = static[p.name]
                delay = np.ones(len(connect.pre), int) if connect.delay is None else connect.delay.astype(int)
                assert connect.weight is not None
                for i, j, w, d in zip(connect.pre, connect.post, connect.weight, delay, strict=True):
                    drive[p.post][j] += w * (t >= d and spikes[p.pre][t - d, i])
                continue
            pair, arriving = pairs[p.name], spikes[p.pre][t - 1] if t else np.zeros(sizes[p.pre], bool)
            entering[p.name] = pair.arrive(arriving, t, number) if learn[t] else 0 * arriving
            if pair.post.readout or pair.post.step_in_interval(t) != 0:
                drive[p.post] += np.where(pair.mask, pair.w, 0.0).T @ arriving
        for group in groups.values():
            group.advance(t, drive[group_name(groups, group)])
        result.output[t] = out.v
        phase = out.step_in_interval(t)
        shown = np.exp(out.v) / np.exp(out.v).sum() if network.task.loss is Loss.CROSS_ENTROPY else out.v
        error = (shown - target[t]) * window[t] * (phase >= length - update.window_steps) * learn[t]
        for name, back in fed.items():
            if back is None:
                ways = [q.name for q in network.synaptic_projections if (q.pre, q.post) == (name, network.task.readout)]
                forth = sum((current(pairs, static, way, sizes[name], out.n) for way in ways), np.zeros((sizes[name], out.n)))
            signal = error @ (back if back is not None else forth.T) * (t > 0 and learn[t - 1])
            result.signal[name][t + 1] = signal
            for p in network.synaptic_projections:
                if p.post == name and p.name in pairs:
                    pairs[p.name].hear(signal, phase == length - 1)
        for name, group in hidden.items():
            spikes[name][t] = group.z > 0
            if name in rule_of:
                s = rule_of[name].surrogate
                result.psi[name][t] = np.where(group.psi_counts, psi_of(s.kind, s.height, s.width, group.x), 0.0)
            group.count += group.z * learn[t]
        now = {p.name: result.psi[p.post][t] * learn[t] if p.post in result.psi else np.zeros(out.n) for p in network.synaptic_projections}
        for name, pair in pairs.items():
            if pair.post.readout:
                pair.integrate(t, entering[name], np.zeros(out.n), error)
        result.zbar = {name: (pair.zbar * (phase < length - 1))[pair.ends] for name, pair in pairs.items()}
        result.ebar = {name: (pair.ebar * (phase < length - 1))[pair.ends] for name, pair in pairs.items()}
        if phase == length - 1:
            start = t - length - 1
            learned = bool(learn[start : start + length].any())
            for p in network.synaptic_projections:
                if p.name in pairs:
                    if learned:
                        pairs[p.name].end(spikes[p.pre][t])
                    pairs[p.name].g[:], pairs[p.name].sum_e[:] = 0.0, 0.0
            number += learned
        for name, pair in pairs.items():
            if not pair.post.readout:
                pair.integrate(t, entering[name], now[name], error)
        for name, group in hidden.items():
            if group.step_in_interval(t) == length - 1:
                reg = rule_of[name].regularization if name in rule_of else None
                group.reg = (
                    np.zeros(group.n)
                    if reg is None
                    else reg.strength * (group.count / length - reg.rate / 1000 * network.dt * 1e3) / length
                )
                group.count = np.zeros(group.n)
    if flush:
        for pair in pairs.values():
            for i in np.flatnonzero(number > pair.updated):
                pair.apply(int(i), number)
    result.weights = {name: pair.w[pair.ends] for name, pair in pairs.items()}
    result.spikes = {name: s[:steps] for name, s in spikes.items()}
    result.psi, result.signal = ({name: x[:steps] for name, x in part.items()} for part in (result.psi, result.signal))
    return result


def group_name(groups: dict[str, Group], group: Group) -> str:
    return next(name for name, g in groups.items() if g is group)


def current(pairs: dict[str, Pairs], static: dict[str, Explicit], name: str, n_pre: int, n_post: int) -> Array:
    """Return the weights of a projection as a matrix (0 where there is no synapse)."""
    if name in pairs:
        return np.where(pairs[name].mask, pairs[name].w, 0.0)
    matrix = np.zeros((n_pre, n_post))
    np.add.at(matrix, (static[name].pre, static[name].post), static[name].weight)
    return matrix
