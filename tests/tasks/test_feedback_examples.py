"""The examples of feedback: the chain trains the first of two layers, adaptive feedback aligns with the readout's weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurocompile.backends.reference import Simulator
from neurocompile.ir import AdaptiveFeedback, ChainFeedback, EProp, Network, SymmetricFeedback
from neurocompile.ir.read import read_network
from neurocompile.ir.realise import realise, realise_synapse_feedback
from neurocompile.ir.signals import Signal, Spikes

SECONDS, STEPS = 40, 1000
Array = npt.NDArray[np.float64]


def show(network: Network, root: Path) -> tuple[Simulator, Array]:
    """Show the second of the pattern again and again; return the losses of its repetitions."""
    once = Spikes.load(root / "examples" / "pattern_spikes.npz", size=100)
    signal = Signal.load(root / "examples" / "pattern_signal.npz", size=1)
    simulator, losses = Simulator(network), []
    for second in range(SECONDS):
        spikes = Spikes(neuron=once.neuron, step=once.step + second * STEPS)
        outputs = simulator.run(STEPS, spikes={"in": spikes}, signals={"out": signal}).outputs["out"]
        losses.append(0.5 * np.sum((outputs - signal.target) ** 2))
    return simulator, np.array(losses)


def rule_of(network: Network) -> EProp:
    (rule,) = network.rules
    assert isinstance(rule, EProp)
    return rule


def test_the_chain_trains_the_first_layer(root: Path) -> None:
    """Through the chain the loss falls to a twentieth (seen: 107 to 5.7); where the first layer hears nothing, to a half (51.6)."""
    network = read_network(root / "examples" / "deep.yaml")
    rule = rule_of(network)
    assert isinstance(rule.feedback, ChainFeedback)
    untrained = replace(network, rules=(replace(rule, feedback=SymmetricFeedback()),))
    first = network.projection("in->first")
    (chain, losses), (deaf, without) = show(network, root), show(untrained, root)
    np.testing.assert_array_equal(deaf.weight(first.name), realise(network, first).weight)
    assert np.abs(chain.weight(first.name) - realise(network, first).weight).max() > 1e-3
    assert losses[0] == without[0]  # before the first change
    assert losses[-1] < 0.1 * losses[0]
    assert losses[-1] < 0.2 * without[-1]


def test_adaptive_feedback_aligns(root: Path) -> None:
    """B = W + (B0 - W0) (1 - weight_decay)^t: from no angle in common (cosine -0.05) to 0.86, while the loss falls."""
    network = read_network(root / "examples" / "adaptive_feedback.yaml")
    rule, read = rule_of(network), network.projection("read")
    assert isinstance(rule.feedback, AdaptiveFeedback)
    start = realise(network, read).weight.astype(np.float64)
    drawn = realise_synapse_feedback(network, rule, rule.feedback, read, len(start))
    simulator, losses = show(network, root)
    weight = simulator.weight("read")
    feedback = weight + (drawn - start) * (1.0 - rule.weight_decay) ** (SECONDS * STEPS)

    def cosine(a: Array, b: Array) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    assert abs(cosine(drawn, start)) < 0.2
    assert cosine(feedback, weight) > 0.8
    assert losses[-1] < 0.3 * losses[0]
