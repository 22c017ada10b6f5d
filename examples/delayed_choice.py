"""Learn a choice from memory by reward alone, in a closed loop with the simulator: examples/delayed_choice.yaml.

    python examples/delayed_choice.py                  # success rate of every 50 trials; half of it is chance
    python examples/delayed_choice.py --reward 0       # nothing is paid: nothing is learnt

A trial: a cue on one side (50 ms), a delay (200 ms), the question (20 ms), in every step of which the policy draws left or right. What it
drew more often is its choice. 30 ms after the question it is paid 1 if the choice was the side of the cue, and -1 if not. Nothing else
tells the network what it should have done.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurocompile.backends.reference import Simulator
from neurocompile.ir import Network
from neurocompile.ir.read import read_network
from neurocompile.ir.signals import Signal, Spikes

CUE, DELAY, QUESTION, WAIT, REST = 50, 200, 20, 30, 30
"""Steps of 1 ms."""
RATE = 0.1
"""Probability of a spike in a step of a neuron that is driven."""


@dataclass(frozen=True)
class Phase:
    """Which neurons of ``cue`` and ``ask`` are driven, and for how long; whether the policy acts."""

    steps: int
    cue: slice = slice(0, 0)
    ask: slice = slice(0, 0)
    acts: bool = False


def drive(rng: np.random.Generator, first: int, steps: int, driven: slice) -> Spikes:
    """Return Poisson spikes of some neurons from step ``first`` on."""
    step, neuron = np.nonzero(rng.random((steps, driven.stop - driven.start)) < RATE)
    return Spikes(neuron=neuron + driven.start, step=step + first)


def show(simulator: Simulator, rng: np.random.Generator, phase: Phase, reward: float = 0.0) -> npt.NDArray[np.int32]:
    """Run a phase, with a reward in its first step; return the actions."""
    n, first = phase.steps, simulator.step
    paid = np.zeros(n)
    paid[0] = reward
    spikes = {"cue": drive(rng, first, n, phase.cue), "ask": drive(rng, first, n, phase.ask)}
    signal = Signal(target=np.zeros((n, 2)), window=np.full(n, phase.acts), reward=paid)
    actions = simulator.run(n, spikes=spikes, signals={"policy": signal}).actions
    if actions is None:
        raise ValueError("the network has no policy: its loss must be actor_critic")
    return actions


def learn(network: Network, trials: int, *, reward: float = 1.0, seed: int = 1) -> npt.NDArray[np.bool_]:
    """Run trials in one simulator that learns; return whether each choice was right."""
    simulator, rng = Simulator(network), np.random.default_rng(seed)
    right = np.zeros(trials, bool)
    for trial in range(trials):
        side = int(rng.integers(2))
        show(simulator, rng, Phase(CUE, cue=slice(10 * side, 10 * side + 10)))
        show(simulator, rng, Phase(DELAY))
        actions = show(simulator, rng, Phase(QUESTION, ask=slice(0, 10), acts=True))
        right[trial] = np.bincount(actions, minlength=2).argmax() == side
        show(simulator, rng, Phase(WAIT))
        show(simulator, rng, Phase(REST), reward=reward if right[trial] else -reward)
        simulator.flush()  # weights whose source is silent learn from this trial as well
        simulator.reset_dynamics()
    return right


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--reward", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1, help="of cues and spikes")
    given = parser.parse_args()
    net = read_network(Path(__file__).resolve().with_suffix(".yaml"))
    outcome = learn(net, given.trials, reward=given.reward, seed=given.seed)
    for start in range(0, given.trials, 50):
        print(f"trials {start:4d} .. {min(start + 50, given.trials) - 1:4d}: {outcome[start : start + 50].mean():.0%} right")
