"""Reward-based e-prop by its definition: every pair, every step, and the filtered gradient as the sum that it is, in plain NumPy.

Of the engine it is told only which actions were taken; rewards, temporal-difference errors, traces and weights are its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.ir import (
    ALIF,
    LIF,
    ActorCritic,
    AllToAll,
    Constant,
    EProp,
    Explicit,
    ExplicitFeedback,
    LeakyReadout,
    Network,
    Population,
    Projection,
    ProjectionFeedback,
    RandomFeedback,
    Reset,
    SpikeSource,
    SymmetricFeedback,
    Task,
)
from neurocompile.ir.realise import realise_feedback
from neurocompile.ir.signals import Signal
from neurocompile.ir.values import Normal
from tests.backends.reference.test_eprop_oracle import Plastic, psi_of

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
N_IN, N_HIDDEN, N_ACTIONS, STEPS = 4, 5, 3, 80
PAIRS = (("in", "hidden"), ("hidden", "hidden"), ("hidden", "out"), ("hidden", "critic"))
SIZES = {"in": N_IN, "hidden": N_HIDDEN, "out": N_ACTIONS, "critic": 1}


@dataclass
class Setup:
    network: Network
    masks: dict[str, Bools]
    weights: dict[str, Array]
    delays: dict[str, int]
    spikes: Bools
    """(steps, n_in)"""
    signal: Signal


@dataclass
class Result:
    weights: dict[str, Array]
    outputs: Array
    values: Array
    rewards: Array = field(default_factory=lambda: np.zeros(STEPS))
    td_errors: Array = field(default_factory=lambda: np.zeros(STEPS))
    """row t: of step t - 1"""


def make_setup(
    seed: int, rule: EProp, hidden: dict[str, Any], loss: ActorCritic, feedback: str, delays: tuple[int, int, int, int] = (1, 1, 1, 1)
) -> Setup:
    """Draw a network in -> hidden (recurrent) -> out and critic, its input, rewards of actions and of an environment."""
    rng = np.random.default_rng(seed)
    masks, weights, projections, delay_of = {}, {}, [], {}
    for (pre, post), delay in zip(PAIRS, delays, strict=True):
        name = f"{pre}->{post}"
        mask = rng.random((SIZES[pre], SIZES[post])) < 0.8
        weight = np.clip(rng.normal(0.3 if pre == "in" else 0.0, 0.4, mask.shape), *rule.weight_bounds)
        i, j = np.nonzero(mask)
        order = rng.permutation(len(i))
        connect = Explicit(pre=i[order], post=j[order], weight=weight[i[order], j[order]])
        projections.append(Projection(pre=pre, post=post, connect=connect, delay=Constant(value=delay), learning="eprop"))
        masks[name], weights[name], delay_of[name] = mask, weight, delay
    b = rng.normal(0, 1, (N_ACTIONS + 1, N_HIDDEN))
    k, j = np.nonzero(np.ones_like(b))
    kinds = {
        "explicit": ExplicitFeedback(connections=Explicit(pre=k, post=j, weight=b[k, j])),
        "random": RandomFeedback(weight=Normal(mean=0.0, std=1.0)),
        "symmetric": SymmetricFeedback(),
        "projection": ProjectionFeedback(projection="back"),
    }
    if feedback == "projection":
        projections.append(
            Projection(name="back", pre="out", post="hidden", connect=AllToAll(), weight=Normal(mean=0.0, std=1.0), delay=Constant(value=1))
        )
    taus = {"tau_mem": rng.uniform(0.005, 0.03, N_HIDDEN)}
    network = Network(
        name="reward",
        dt=1e-3,
        seed=seed,
        populations=(
            Population(name="in", size=N_IN, model=SpikeSource()),
            Population(name="critic", size=1, model=LeakyReadout(tau_mem=0.012, bias=0.005)),
            Population(name="hidden", size=N_HIDDEN, model=(ALIF if "adapt_beta" in hidden else LIF)(**hidden, **taus)),
            Population(name="out", size=N_ACTIONS, model=LeakyReadout(tau_mem=np.array([0.02, 0.01, 0.015]), bias=0.01)),
        ),
        projections=tuple(projections),
        rules=(replace(rule, feedback=kinds[feedback]),),
        task=Task(readout="out", loss=loss),
    )
    signal = Signal(
        target=rng.normal(0, 1, (STEPS, N_ACTIONS)),
        window=rng.random(STEPS) < 0.7,
        reward=rng.normal(0, 1, STEPS) * (rng.random(STEPS) < 0.2),
    )
    return Setup(network, masks, weights, delay_of, rng.random((STEPS, N_IN)) < rng.uniform(0.05, 0.4), signal)


class Rewarded(Plastic):
    """All pairs of a projection whose gradients are filtered and meet a third factor, by explicit sums over all past indices."""

    def __init__(self, *args: Any, discount: float) -> None:
        super().__init__(*args)
        self.discount, self.products = discount, list[Array]()

    def read_with(self, h: int, arrived: Bools, psi: Array, signal: Array, reg: Array, third: float) -> None:
        """Let history index h act on all pairs, in the order of the definition."""
        rule = self.rule
        cutoff = np.inf if rule.trace_cutoff_steps is None else rule.trace_cutoff_steps
        active = ((self.last >= 0) & (h - (self.last - 1) < cutoff))[:, None] & self.mask
        self.zbar = self.alpha * self.zbar + arrived[:, None]
        e = np.where(active, psi * (self.zbar - self.beta * self.eps), 0.0)
        self.eps = self.rho * self.eps + e
        self.ebar = rule.kappa * self.ebar + e
        self.ereg = rule.kappa_reg * self.ereg + (1 - rule.kappa_reg) * e
        product = np.where(active, signal * (self.zbar if self.readout else self.ebar), 0.0)
        if self.readout:  # the error of step h belongs to index h
            self.products.append(product)
            filtered = sum(self.discount**age * x for age, x in enumerate(reversed(self.products)))
            part = third * filtered
        else:  # L(h) is the error of step h + 1, which delta(h) knows nothing of
            filtered = sum(self.discount**age * x for age, x in enumerate(reversed(self.products)))
            part = third * filtered + reg * self.ereg
            self.products.append(product)
        part = np.where(active, part, 0.0)
        if rule.optimizer.each_step:
            self.optimize(active, h + 1, part)
        else:
            self.g += part


def dense(setup: Setup, actions: npt.NDArray[np.int32], learn: Bools, *, flush: bool = False) -> Result:
    """Run ``setup``; in step t the policy does ``actions[t]`` (-1: nothing) and synapses learn if ``learn[t]``."""
    net, rule, loss = setup.network, setup.network.rules[0], setup.network.actor_critic
    hid, out, critic = (net.population(name).model for name in ("hidden", "out", "critic"))
    assert isinstance(rule, EProp)
    assert isinstance(hid, LIF)
    assert isinstance(out, LeakyReadout)
    assert isinstance(critic, LeakyReadout)
    assert loss is not None
    one = np.ones(N_HIDDEN)
    decays = {n: np.exp(-net.dt / (m.tau_mem * np.ones(SIZES[n]))) for n, m in (("hidden", hid), ("out", out), ("critic", critic))}
    rho, beta = (np.exp(-net.dt / (hid.adapt_tau * one)), hid.adapt_beta * one) if isinstance(hid, ALIF) else (0 * one, 0 * one)
    plastic = {}
    for pre, post in PAIRS:
        name, zero = f"{pre}->{post}", np.zeros(SIZES[post])
        mine = (rho, beta, False) if post == "hidden" else (zero, zero, True)
        plastic[name] = Rewarded(setup.weights[name], setup.masks[name], rule, decays[post], *mine, discount=loss.discount)
    fixed = realise_feedback(net, rule, "hidden")
    v, y, value = hid.v_leak * one, out.v_leak * np.ones(N_ACTIONS), critic.v_leak * np.ones(1)
    adapt, rate, r, z = 0 * one, 0 * one, np.zeros(N_HIDDEN, int), np.zeros(N_HIDDEN, bool)
    refractory, dt_ms = round(float(hid.t_ref) / net.dt), net.dt * 1e3
    n_learning = int(learn.sum()) + 2
    psis, regs, signals = (np.zeros((n_learning, N_HIDDEN)) for _ in range(3))
    errors = {"out": np.zeros((n_learning, N_ACTIONS)), "critic": np.zeros((n_learning, 1))}
    thirds = np.zeros(n_learning)
    stamps = {name: np.zeros((n_learning, len(p.w)), bool) for name, p in plastic.items()}
    result = Result(weights={}, outputs=np.zeros((STEPS, N_ACTIONS)), values=np.zeros(STEPS))
    past_in, past = np.zeros((256, N_IN), bool), np.zeros((256, N_HIDDEN), bool)
    index = 0
    for t in range(STEPS + flush):
        arrived = {f"{a}->{b}": (past_in if a == "in" else past)[setup.delays[f"{a}->{b}"] - 1] for a, b in PAIRS}
        if t == STEPS or learn[t]:
            for (_, post), (name, p) in zip(PAIRS, plastic.items(), strict=True):
                if index >= 2:
                    h, hidden = index - 2, post == "hidden"
                    signal = signals[h] if hidden else errors[post][h]
                    p.read_with(h, stamps[name][h], psis[h] if hidden else 0 * signal, signal, regs[h] if hidden else 0 * signal, thirds[h])
                p.arrive(np.ones_like(arrived[name]) if t == STEPS else arrived[name], index)
                if t < STEPS:
                    stamps[name][index] = arrived[name]
                    p.last[arrived[name]] = index
        if t == STEPS:
            break
        into = {name: np.where(p.mask, p.w, 0).T @ arrived[name] for name, p in plastic.items()}
        free = r == 0
        r = np.maximum(r - 1, 0)
        drive = into["in->hidden"] + into["hidden->hidden"]
        moved = np.maximum(decays["hidden"] * v + (1 - decays["hidden"]) * hid.v_leak + hid.bias + drive, hid.v_min)
        v = np.where(free, moved, v) if hid.reset is Reset.TO_VALUE else moved
        adapt = rho * adapt + z
        x = v - hid.v_threshold - beta * adapt
        psi = np.where(r == 0, psi_of(rule.surrogate.kind, rule.surrogate.height, rule.surrogate.width, x), 0.0)
        z = (x >= 0) & (r == 0)
        v = np.where(z, hid.v_reset if hid.reset is Reset.TO_VALUE else v - (hid.v_threshold - hid.v_leak), v)
        r = np.where(z, refractory, r)
        y = decays["out"] * y + out.bias + into["hidden->out"]
        value = decays["critic"] * value + critic.bias + into["hidden->critic"]
        past, past_in = np.vstack([z[None], past[:-1]]), np.vstack([setup.spikes[t][None], past_in[:-1]])
        result.outputs[t], result.values[t] = y, value[0]
        then = t - loss.reward_delay_steps
        assert setup.signal.reward is not None
        earned = setup.signal.target[then, actions[then]] if then >= 0 and actions[then] >= 0 else 0.0
        result.rewards[t] = earned + setup.signal.reward[t]
        if t:
            result.td_errors[t] = result.rewards[t - 1] + loss.discount * result.values[t] - result.values[t - 1]
        if not learn[t]:
            continue
        rate = rule.kappa_reg * rate + (1 - rule.kappa_reg) * z / dt_ms
        psis[index] = psi
        if rule.regularization is not None:
            regs[index] = rule.regularization.strength * (rate - rule.regularization.rate / 1000 * dt_ms)
        if actions[t] >= 0:
            errors["out"][index] = np.exp(y) / np.exp(y).sum() - np.eye(N_ACTIONS)[actions[t]]
        errors["critic"][index] = -loss.critic_weight
        if t and learn[t - 1]:
            b = fixed
            if b is None:
                b = np.hstack([np.where(plastic[n].mask, plastic[n].w, 0) for n in ("hidden->out", "hidden->critic")]).T
            signals[index - 1] = b.T @ np.concatenate([errors["out"][index], errors["critic"][index]])
            thirds[index - 1] = result.td_errors[t]
        index += 1
    result.weights = {name: p.w for name, p in plastic.items()}
    return result
