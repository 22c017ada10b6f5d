"""Learning from reward: the policy's action, the reward that arrives, and the temporal-difference error (docs/eprop.md, "Reward")."""

from __future__ import annotations

import numpy as np
from numba import njit, uint64

from neurocompile.backends.reference.kernels.neurons import link
from neurocompile.backends.reference.kernels.tables import (
    ESTIMATE,
    F8,
    KNOWN,
    REWARD,
    THIRD,
    Inputs,
    NeuronState,
    Readouts,
    Reward,
    RewardState,
)

_ACTIONS = 1
"""The word that follows (seed, neuron, step) in the chain of an action's number; those of Poisson sources end before."""


@njit(cache=True, nogil=True)
def action_number(seed: int, neuron: int, step: int) -> float:
    """Return the number in [0, 1) that chooses the action of the policy whose first neuron is given."""
    return float(link(link(link(uint64(seed), neuron), step), _ACTIONS) >> uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True)
def act(
    readouts: Readouts,
    reward: Reward,
    seed: int,
    neurons: NeuronState,
    state: RewardState,
    inputs: Inputs,
    outcome: F8,
    row: int,
    step: int,
    learned_last: bool,
) -> None:
    """Draw the action of this step, take in the reward that arrives, and write the errors of policy and critic.

    ``state.reward_last`` becomes (V, reward) of this step, 1, and the third factor of the step before: its temporal-difference error, 0 if
    that was no learning step. ``outcome`` (T, 3): action, reward, and the temporal-difference error of the step before.
    """
    start, stop = readouts.start[reward.policy], readouts.stop[reward.policy]
    ring, last, v, error = state.reward_ring, state.reward_last, neurons.v, neurons.error
    slots, action = ring.size, -1
    error[start:stop] = 0.0
    if inputs.window[row, reward.policy] != 0.0:
        top, total, passed = -np.inf, 0.0, 0.0
        for n in range(start, stop):
            top = max(top, v[n])
        for n in range(start, stop):
            error[n] = np.exp(v[n] - top)
            total += error[n]
        number = action_number(seed, start, step) * total
        action = stop - start - 1
        for n in range(start, stop):
            passed += error[n]
            if number < passed:
                action = n - start
                break
        for n in range(start, stop):
            error[n] /= total
        error[start + action] -= 1.0
        ring[(step + slots - 1) % slots] += inputs.target[row, reward.column + action]
    error[reward.critic] = -reward.critic_weight
    arrived = ring[step % slots] + inputs.reward[row]
    ring[step % slots] = 0.0
    value = v[reward.critic]
    surprise = last[REWARD] + reward.discount * value - last[ESTIMATE] if last[KNOWN] != 0.0 else 0.0
    last[ESTIMATE], last[REWARD], last[KNOWN] = value, arrived, 1.0
    last[THIRD] = surprise if learned_last else 0.0
    outcome[row, 0], outcome[row, 1], outcome[row, 2] = action, arrived, surprise
