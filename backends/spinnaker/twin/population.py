"""The cores of a population as sPyNNaker 1!7.4.1 runs them: neurons, ring buffers, static rows, and what learns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurocompile.backends.spinnaker.lowered import SpinnakerNetwork
from neurocompile.backends.spinnaker.twin.cells import Neurons
from neurocompile.backends.spinnaker.twin.cores import Packets
from neurocompile.backends.spinnaker.twin.rows import Rows, Words, words
from neurocompile.ir import Projection
from neurocompile.ir._types import FloatArray, IntArray
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import Connections
from neurocompile.ir.signals import Signal


class Incoming:
    """The synapses of one projection: those of either sign are a PyNN projection of their own."""

    def __init__(self, projection: Projection, synapses: Connections, lowered: SpinnakerNetwork) -> None:
        self.name, self.pre = projection.name, projection.pre
        cell = next(c for c in lowered.cells if c.name == projection.post)
        sizes = {"n_pre": lowered.network.population(projection.pre).size, "n_post": cell.size}
        self._scale = np.broadcast_to(np.asarray(cell.weight_scale, np.float64), (cell.size,))[synapses.post]
        self._negative = np.asarray(synapses.weight < 0)
        self._resolution = np.where(self._negative, *lowered.buffers[cell.name].resolution[::-1])
        held = words(synapses.weight.astype(np.float64), self._scale, self._resolution)
        self.rows = Rows(synapses.pre, synapses.post, synapses.delay, self._negative, held, **sizes)

    def weights(self) -> FloatArray:
        """Return the weights in the description's units and order."""
        size = self.rows.in_order() * self._resolution / self._scale
        held: FloatArray = np.where(self._negative, -size, size)
        return held

    def set_weights(self, weights: FloatArray) -> None:
        """Set the weights; a synapse keeps its sign, so that one of the other sign becomes 0."""
        kept = np.where(self._negative == (weights < 0), weights, 0.0)
        self.rows.set_words(words(kept, self._scale, self._resolution))


class StandardCores:
    """A population of sPyNNaker's own cells (see :class:`.cores.Cores`)."""

    payload: IntArray | None = None

    def __init__(self, lowered: SpinnakerNetwork, index: int) -> None:
        self._cell = lowered.cells[index]
        name, n = self._cell.name, self._cell.size
        resolution = lowered.buffers[name].resolution
        shift = (15 + int(np.log2(resolution[0])), 15 + int(np.log2(resolution[1])))
        self.neurons = Neurons(self._cell, lowered.network.dt * 1e3, shift)
        into = [p for p in lowered.network.synaptic_projections if p.post == name]
        self._incoming = [Incoming(p, lowered.connections[p.name], lowered) for p in into]
        longest = max((int(i.rows.delay.max(initial=0)) for i in self._incoming), default=0)
        self.ring: Words = np.zeros((longest + 1, 2 * n), np.uint16)

    @property
    def membrane(self) -> FloatArray:
        return self.neurons.membrane / (2.0**15 * self._cell.voltage_scale)

    def begin(self, n_steps: int, signal: Signal | None, *, learn: bool) -> None:
        """Nothing to prepare."""

    def step(self, tick: int) -> IntArray:
        return self.neurons.step(self.ring[tick % len(self.ring)].reshape(2, -1))

    def receive(self, tick: int, packets: Packets) -> None:
        for incoming in self._incoming:
            incoming.rows.deliver(tick, packets.spiked[incoming.pre], self.ring)

    def reset(self) -> None:
        self.neurons.reset()
        self.ring[:] = 0

    def weights(self) -> Mapping[str, FloatArray]:
        return {incoming.name: incoming.weights() for incoming in self._incoming}

    def set_weights(self, weights: Mapping[str, FloatArray]) -> None:
        """No projection learns."""

    def changing(self) -> Mapping[str, AnyArray]:
        return {"neurons": self.neurons.state, "ring": self.ring}

    def check(self, state: Mapping[str, AnyArray]) -> None:
        self.neurons.check(state["neurons"])
