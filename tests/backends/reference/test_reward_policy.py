"""Learning from reward as statistics: actions beside their policy, the direction beside the policy gradient, the critic beside returns."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from neurocompile.backends.reference import Simulator
from neurocompile.ir import (
    ActorCritic,
    AllToAll,
    Constant,
    EProp,
    GradientDescent,
    LeakyReadout,
    Network,
    Population,
    Projection,
    SpikeSource,
    Task,
    Values,
)
from neurocompile.ir.signals import Signal, Spikes
from tests.backends.reference.dense_reward import N_ACTIONS, Array
from tests.backends.reference.reward_networks import LAYERS, LOSS, RULE, drive, large


def chain(*words: int) -> float:
    """SplitMix64's finaliser over a chain of words (Steele, Lea, Flood 2014), in Python's integers."""
    mask, weyl = 2**64 - 1, 0x9E3779B97F4A7C15
    x = words[0]
    for word in words[1:]:
        x = (x + word * weyl + weyl) & mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        x ^= x >> 31
    return (x >> 11) * 2.0**-53


def test_actions_are_the_inverse_distribution_of_their_numbers() -> None:
    """Every action from the recorded policy and the number of (seed, first neuron of the policy, absolute step, 1)."""
    network = large(RULE, *LAYERS, seed=77)
    simulator = Simulator(network)
    first = network.offsets["out"]
    for start in (0, 150):
        result = simulator.run(150, **drive(150, start))
        window = drive(150, start)["signals"]["out"].window
        assert result.actions is not None
        for row in np.flatnonzero(window):
            y = result.outputs["out"][row]
            share = np.cumsum(np.exp(y - y.max())) / np.exp(y - y.max()).sum()
            assert result.actions[row] == np.searchsorted(share, chain(77, first, start + int(row), 1), side="right")
        assert (result.actions[~window] == -1).all()
        assert len(np.unique(result.actions[window])) == N_ACTIONS


def bandit(logits: Array, seed: int = 1, *, value: float = 0.0, loss: ActorCritic = LOSS, spikes: int = 1, rate: float = 1.0) -> Network:
    """Source neurons straight onto a policy and a critic that forget within a step: y = weights of the sources that spike."""
    rule = EProp(optimizer=GradientDescent(learning_rate=rate), weight_bounds=(-1e9, 1e9))
    n = logits.size
    tau = 1e-3 / math.log(2.0)  # decays by half in a step
    return Network(
        name="bandit",
        dt=1e-3,
        seed=seed,
        populations=(
            Population(name="in", size=spikes, model=SpikeSource()),
            Population(name="out", size=n, model=LeakyReadout(tau_mem=tau)),
            Population(name="critic", size=1, model=LeakyReadout(tau_mem=tau)),
        ),
        projections=(
            Projection(pre="in", post="out", connect=AllToAll(), weight=Values(values=np.repeat(logits, spikes)), learning="eprop"),
            Projection(pre="in", post="critic", connect=AllToAll(), weight=Constant(value=value), learning="eprop"),
        ),
        rules=(rule,),
        task=Task(readout="out", loss=loss),
    )


def test_actions_follow_the_softmax() -> None:
    """A constant policy for 20,000 steps: chi-square over the actions, and over pairs of successive ones (independence)."""
    y = np.array([0.0, 1.0, -0.5, 0.3])
    network = bandit(np.zeros(4))
    out = network.population("out")
    network = replace(
        network,
        populations=(network.populations[0], replace(out, model=LeakyReadout(tau_mem=out.model.tau_mem, v_leak=y)), network.populations[2]),  # type: ignore[attr-defined]
    )
    steps = 20_000
    result = Simulator(network).run(steps, signals={"out": Signal(target=np.zeros((steps, 4)), window=np.ones(steps, bool))})
    share = np.exp(y) / np.exp(y).sum()
    assert result.actions is not None
    assert stats.chisquare(np.bincount(result.actions, minlength=4), steps * share).pvalue > 1e-3
    pairs = np.bincount(4 * result.actions[:-1:2] + result.actions[1::2], minlength=16)
    assert stats.chisquare(pairs, steps / 2 * np.outer(share, share).ravel()).pvalue > 1e-3


@pytest.mark.parametrize("algorithm", ["loop", "anchored"])
@pytest.mark.parametrize("delay", [0, 4])
def test_expected_update_is_the_policy_gradient(algorithm: str, delay: int) -> None:
    """A readout-only network, where e-prop is exact: one spike, two steps of action, all nine pairs of actions with their probabilities.

    The mean of the update, over the learning rate, is the gradient of the expected discounted return from finite differences. A return is
    R = sum_s gamma^(s - s0) r(s); with V = 0 throughout (no critic weights, and its error switched off) delta(s) = r(s) and the update is
    sum_s r(s) sum_{s' <= s} gamma^(s - s') d log pi(s') / dw: the gradient of the sum over s' of returns from s' on, given the past.
    """
    logits, gamma = np.array([0.4, -0.3, 0.1]), 0.8
    loss = ActorCritic(critic="critic", discount=gamma, critic_weight=0.0, reward_delay_steps=delay)
    rng = np.random.default_rng(3)
    target = np.zeros((40, 3))
    target[2:4] = rng.normal(size=(2, 3))
    window = np.zeros(40, bool)
    window[2:4] = True
    spikes = Spikes(neuron=np.array([0, 0], np.int32), step=np.array([1, 20]))  # the second spike applies the gradient

    def policies(weights: Array) -> list[Array]:
        y = [weights * 0.5**age for age in (0, 1)]  # the spike arrives in step 2
        return [np.exp(x) / np.exp(x).sum() for x in y]

    found: dict[tuple[int, int], Array] = {}
    simulator = Simulator(bandit(logits, loss=loss), algorithm=algorithm)
    start = simulator.weights()
    before = start["in->out"]
    for _ in range(400):  # the numbers of the actions follow the absolute step
        simulator.reset_dynamics()
        simulator.set_weights(start)
        moved = Spikes(neuron=spikes.neuron, step=spikes.step + simulator.step)
        result = simulator.run(40, spikes={"in": moved}, signals={"out": Signal(target=target, window=window)})
        assert result.actions is not None
        pair = (int(result.actions[2]), int(result.actions[3]))
        update = simulator.weight("in->out") - before
        if pair in found:
            np.testing.assert_allclose(update, found[pair], rtol=1e-11, atol=1e-12)  # other anchors, other roundings
        found[pair] = update
    assert len(found) == 9, "every pair of actions has been seen"
    first, second = policies(logits)
    mean = sum(first[a] * second[b] * update for (a, b), update in found.items())

    def surrogate(weights: Array) -> float:
        """Sum over the steps of action of the expected return from then on; what came before is drawn from the fixed policy, and so is
        no function of the weights."""
        one, two = policies(weights)
        late = float(two @ target[3])
        early = float(one @ target[2]) + gamma * float(second @ target[3])
        return gamma**delay * (early + late)

    step = 1e-6
    gradient = np.array([(surrogate(logits + step * e) - surrogate(logits - step * e)) / (2 * step) for e in np.eye(3)])
    np.testing.assert_allclose(mean, gradient, rtol=0, atol=1e-8 * np.abs(gradient).max() + 1e-8)  # finite differences: 1e-9
    assert np.abs(gradient).max() > 0.05


def test_the_critic_learns_the_discounted_return() -> None:
    """A reward of 1 four steps after each cue, one cue every 60 steps: V in the step of the cue moves to gamma^4, the right value, without
    any policy; the sign of its error is that of a descent."""
    gamma = 0.9
    network = bandit(np.zeros(2), loss=ActorCritic(critic="critic", discount=gamma, critic_weight=1.0), rate=0.05)
    steps = 60 * 400
    reward = np.zeros(steps)
    reward[5::60] = 1.0  # the cue of step 0 arrives in step 1
    spikes = Spikes(neuron=np.zeros(400, np.int32), step=np.arange(0, steps, 60))
    quiet = Signal(target=np.zeros((steps, 2)), window=np.zeros(steps, bool), reward=reward)
    result = Simulator(network).run(steps, spikes={"in": spikes}, signals={"out": quiet})
    values = result.outputs["critic"][1::60, 0]
    assert values[0] == 0.0
    # V can only be a decaying exponential w 2^-(s - cue): least squares of TD(1) over the steps' errors, by the definition's fixed point
    ages = np.arange(59)
    returns = np.where(ages <= 4, gamma ** (4.0 - ages), 0.0)
    shape = 0.5**ages
    # sum_s delta(s) sum_{s'<=s} gamma^(s-s') shape(s') = sum_s' shape(s') (return(s') - V(s')) = 0
    fixed = float(shape @ returns) / float(shape @ shape)
    assert values[-1] == pytest.approx(fixed, rel=0.05)
