"""Rewiring by its definition, synapse by synapse and step by step, without events: traces of every synapse move in every step."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from neurocompile.ir import ALIF, LIF, EProp, Explicit, LeakyReadout, Network, PerInterval, Projection, SymmetricFeedback
from neurocompile.ir.counter_rng import stream_key
from neurocompile.ir.realise import realise, realise_feedback
from neurocompile.ir.signals import Signal

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def first_word(key: npt.NDArray[np.uint64], block: int, row: int) -> int:
    """Word 0 of a counter, from NumPy's generator (which raises its counter before it draws)."""
    counter = np.array([(block - 1) % 2**64, row - (block == 0), 0, 0], np.uint64)
    return int(np.random.Philox(key=key, counter=counter).random_raw())


def normal(network: Network, projection: str, slot: int, step: int) -> float:
    word = first_word(stream_key(network.seed, "rewiring noise", projection), step, slot)
    return float(ndtri(((word >> 12) + 0.5) * 2.0**-52))


def allowed_pairs(network: Network, projection: Projection) -> list[tuple[int, int]]:
    n_pre, n_post = (network.population(end).size for end in (projection.pre, projection.post))
    connect, same = projection.connect, projection.pre == projection.post
    listed = isinstance(connect, Explicit) and bool((connect.pre == connect.post).any())
    autapses = listed or getattr(connect, "allow_autapses", False)
    return [(i, j) for i in range(n_pre) for j in range(n_post) if not same or autapses or i != j]


def move(network: Network, projection: Projection, number: int, pairs: list[tuple[int, int]], slots: list[int]) -> int:
    """Move synapses one by one; return how many found no free pair."""
    key, every, stuck = stream_key(network.seed, "rewiring", projection.name), allowed_pairs(network, projection), 0
    for slot in slots:
        taken = set(pairs)
        if not set(every) - taken:
            stuck += 1
            continue
        for attempt in range(1024):
            new = every[first_word(key, number * 2**16 + attempt, slot) * len(every) >> 64]
            if new not in taken:
                break
        else:
            free = [pair for pair in every if pair not in taken]
            new = free[first_word(key, number * 2**16 + 1024, slot) * len(free) >> 64]
        pairs[slot] = new
    return stuck


@dataclass
class Slots:
    """Synapses of one projection."""

    network: Network
    projection: Projection
    pre: Ints
    post: Ints
    delay: Ints
    w: Array
    negative: Bools
    traces: Array = field(init=False)  # zbar, eps, ebar, ereg, g, total
    arrivals: Bools = field(init=False)  # spikes with the stamps t-2 and t-1, before those of t arrive
    virgin: Bools = field(init=False)
    since: Ints = field(init=False)
    moved: int = 0
    stuck: int = 0

    def __post_init__(self) -> None:
        m = len(self.w)
        self.traces, self.arrivals = np.zeros((6, m)), np.zeros((2, m), bool)
        self.virgin, self.since = np.ones(m, bool), np.zeros(m, int)
        found = self.network.rule(self.projection.learning or "")
        assert isinstance(found, EProp)
        self.rule = found

    def rewire(self, t: int) -> None:
        rewiring = self.rule.rewiring
        assert rewiring is not None
        if t == 0 or t % rewiring.every_steps:
            return
        pairs, old = list(zip(self.pre.tolist(), self.post.tolist(), strict=True)), list(zip(self.pre, self.post, strict=True))
        zero = np.flatnonzero(self.w == 0.0).tolist()
        self.stuck += move(self.network, self.projection, t // rewiring.every_steps, pairs, zero)
        gone = np.array([a != b for a, b in zip(pairs, old, strict=True)], bool)
        self.moved += int(gone.sum())
        self.pre, self.post = np.array(pairs, int).reshape(-1, 2).T
        self.traces[:, gone], self.arrivals[:, gone], self.virgin[gone], self.since[gone] = 0.0, False, True, t

    def read(self, alpha: Array, rho: Array, beta: Array, psi: Array, signal: Array, reg: Array, readout: bool) -> None:
        """Let the entry two steps ago act; the arguments are those of the targets."""
        j, (zbar, eps, ebar, ereg, g, total), rule = self.post, self.traces, self.rule
        active = ~self.virgin
        zbar = alpha[j] * zbar + self.arrivals[0]
        e = np.where(active, psi[j] * (zbar - beta[j] * eps), 0.0)
        eps = rho[j] * eps + e
        ebar, ereg = rule.kappa * ebar + e, rule.kappa_reg * ereg + (1 - rule.kappa_reg) * e
        g = g + np.where(active, signal[j] * zbar if readout else signal[j] * ebar + reg[j] * ereg, 0.0)
        self.traces[:] = zbar, eps, ebar, ereg, g, total

    def update(self, where: Bools, t: int) -> None:
        """A spike arrives, or a flush, at the synapses ``where``."""
        rule, rewiring = self.rule, self.rule.rewiring
        assert rewiring is not None
        batch = rule.update.steps if isinstance(rule.update, PerInterval) else 1
        for s in np.flatnonzero(where).tolist():
            if not self.virgin[s]:
                self.traces[5, s] += self.traces[4, s]
                self.traces[4, s] = 0.0
            due = batch == 1 or (not self.virgin[s] and max(self.since[s] - 1, 0) // batch < (t - 1) // batch)
            if not due:
                continue
            n = t - self.since[s]
            w = self.w[s] - rule.optimizer.learning_rate * self.traces[5, s] / batch
            if n > 0:
                w += (1 if self.negative[s] else -1) * rewiring.l1 * n
                if rewiring.noise:
                    w += rewiring.noise * np.sqrt(n) * normal(self.network, self.projection.name, s, t)
            low, high = rule.weight_bounds
            low, high = (low, min(high, 0.0)) if self.negative[s] else (max(low, 0.0), high)
            self.w[s], self.traces[5, s], self.since[s] = np.clip(w, low, high), 0.0, t

    def arrive(self, spiked: Bools, t: int) -> None:
        self.update(spiked, t)
        self.virgin &= ~spiked
        self.arrivals = np.vstack([self.arrivals[1:], spiked[None]])


def dense(network: Network, spikes: Bools, signal: Signal, *, flush: bool) -> tuple[dict[str, Slots], Array, Bools]:
    """Run in -> hidden -> out with recurrent synapses in hidden, all plastic; return the synapses, outputs and hidden spikes."""
    hid, out = network.population("hidden").model, network.population("out").model
    assert isinstance(hid, LIF)
    assert isinstance(out, LeakyReadout)
    n, k, dt_ms = network.population("hidden").size, network.population("out").size, network.dt * 1e3
    one, zero = np.ones(n), np.zeros(k)
    a, a_out = np.exp(-network.dt / (hid.tau_mem * one)), np.exp(-network.dt / (out.tau_mem * np.ones(k)))
    rho, beta = (np.exp(-network.dt / (hid.adapt_tau * one)), hid.adapt_beta * one) if isinstance(hid, ALIF) else (0 * one, 0 * one)
    plastic = {}
    for p in network.projections:
        c = realise(network, p)
        ends = (c.pre.astype(int), c.post.astype(int), c.delay.astype(int))
        plastic[p.name] = Slots(network, p, *ends, c.weight.astype(float), np.signbit(c.weight))
    rule = network.rules[0]
    assert isinstance(rule, EProp)
    b = None if isinstance(rule.feedback, SymmetricFeedback) else realise_feedback(network, rule, "hidden")
    steps = len(spikes)
    v, adapt, r, y, rate = hid.v_leak * one, 0 * one, np.zeros(n, int), out.v_leak * np.ones(k), 0 * one
    psis, regs, signals, errs = (np.zeros((steps + 2, m)) for m in (n, n, n, k))
    outputs, hidden = np.zeros((steps, k)), np.zeros((steps, n), bool)
    for t in range(steps + flush):
        into = {"hidden": 0 * one, "out": 0 * zero}
        for p in plastic.values():
            if t < steps:
                p.rewire(t)
            readout, fired = p.projection.post == "out", spikes if p.projection.pre == "in" else hidden
            if t >= 2:
                h = t - 2
                args = (a_out, zero, zero, zero, errs[h], zero) if readout else (a, rho, beta, psis[h], signals[h], regs[h])
                p.read(*args, readout)
            if t == steps:
                p.update(np.ones(len(p.w), bool), t)
                continue
            emitted = t - p.delay
            arrived = np.where(emitted >= 0, fired[np.maximum(emitted, 0), p.pre], False)
            p.arrive(arrived, t)
            np.add.at(into[p.projection.post], p.post[arrived], p.w[arrived])
        if t == steps:
            break
        r = np.maximum(r - 1, 0)
        v = np.maximum(a * v + (1 - a) * hid.v_leak + hid.bias + into["hidden"], hid.v_min)
        adapt = rho * adapt + (hidden[t - 1] if t else 0)
        x = v - hid.v_threshold - beta * adapt
        psis[t] = np.where(r == 0, rule.surrogate.height * np.maximum(0, 1 - np.abs(x) / rule.surrogate.width), 0.0)
        hidden[t] = (x >= 0) & (r == 0)
        v = np.where(hidden[t], v - (hid.v_threshold - hid.v_leak), v)
        r = np.where(hidden[t], round(float(hid.t_ref) / network.dt), r)
        y = a_out * y + (1 - a_out) * out.v_leak + out.bias + into["out"]
        outputs[t] = y
        rate = rule.kappa_reg * rate + (1 - rule.kappa_reg) * hidden[t] / dt_ms
        if rule.regularization is not None:
            regs[t] = rule.regularization.strength * (rate - rule.regularization.rate / 1000 * dt_ms)
        errs[t] = (y - signal.target[t]) * signal.window[t]
        if t:
            if b is not None:
                signals[t - 1] = b.T @ errs[t]
            else:
                back = plastic["hidden->out"]
                np.add.at(signals[t - 1], back.pre, back.w * errs[t][back.post])
    return plastic, outputs, hidden
