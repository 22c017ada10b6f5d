"""The cores of a population as sPyNNaker 1!7.4.1 runs them: neurons, ring buffers, static rows, and what learns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from neurocompile.backends.spinnaker.learning import REWARD_ONE, Modulation
from neurocompile.backends.spinnaker.lowered import SpinnakerNetwork
from neurocompile.backends.spinnaker.neurons import Cell
from neurocompile.backends.spinnaker.twin.cells import Neurons
from neurocompile.backends.spinnaker.twin.cores import Packets
from neurocompile.backends.spinnaker.twin.events import Histories, add_rewards, add_spikes
from neurocompile.backends.spinnaker.twin.plastic import PlasticRows, Rule, rule_numbers
from neurocompile.backends.spinnaker.twin.rows import Rows, Words, words
from neurocompile.ir import Projection
from neurocompile.ir._types import BoolArray, FloatArray, IntArray
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import Connections
from neurocompile.ir.signals import Signal


def step_ms(network_dt: float) -> float:
    """Return the time step in ms that sPyNNaker computes with: whole microseconds."""
    return round(network_dt * 1e6) / 1000.0


class Incoming:
    """The synapses of one projection. Those of either sign are a PyNN projection of their own; where it learns, those of weight >= 0 do."""

    def __init__(
        self, projection: Projection, synapses: Connections, cell: Cell, resolution: tuple[float, float], n_pre: int, *, learns: bool
    ) -> None:
        self.name, self.pre, self.learns = projection.name, projection.pre, learns
        self._scale = np.broadcast_to(np.asarray(cell.weight_scale, np.float64), (cell.size,))[synapses.post]
        self._negative: BoolArray = np.asarray(synapses.weight < 0)
        self._unit = np.where(self._negative, resolution[1], resolution[0])
        held = words(synapses.weight.astype(np.float64), self._scale, self._unit)
        plastic = ~self._negative if learns else np.zeros(len(held), np.bool_)
        self._parts: list[tuple[IntArray, Rows]] = []
        for mask in (~plastic, plastic):
            ids = np.flatnonzero(mask)
            pre, post, delay = synapses.pre[ids], synapses.post[ids], synapses.delay[ids]
            rows = Rows(pre, post, delay, self._negative[ids], held[ids], n_pre=n_pre, n_post=cell.size)
            self._parts.append((ids, rows))

    @property
    def static(self) -> Rows:
        """What does not learn."""
        return self._parts[0][1]

    @property
    def plastic(self) -> Rows:
        """What learns."""
        return self._parts[1][1]

    @property
    def longest(self) -> int:
        """The longest delay, 0 without synapses."""
        return max(int(rows.delay.max(initial=0)) for _, rows in self._parts)

    def weights(self) -> FloatArray:
        """Return the weights in the description's units and order."""
        held = np.empty(len(self._scale), np.int64)
        for ids, rows in self._parts:
            held[ids] = rows.in_order()
        size = held * self._unit / self._scale
        return np.where(self._negative, -size, size)

    def set_weights(self, weights: FloatArray) -> None:
        """Set the weights; a synapse keeps its sign, so that one of the other sign becomes 0."""
        held = words(np.where(self._negative == (weights < 0), weights, 0.0), self._scale, self._unit)
        for ids, rows in self._parts:
            rows.set_words(held[ids])


class Learner:
    """What learns of a population: plastic rows by projection, the histories they look back on, and the rewards that enter these."""

    def __init__(self, rule: Rule, modulations: tuple[Modulation, ...], incoming: list[Incoming], n: int, shift: IntArray) -> None:
        self._rule = rule
        self._rows = {i.name: (i.pre, PlasticRows(i.plastic, rule, shift)) for i in incoming if i.learns}
        self._histories = Histories(n)
        self._rewards = [
            (m.pre, round(abs(m.weight) * REWARD_ONE) * (1 if m.receptor == "reward" else -1)) for m in modulations
        ]  # fmt: skip

    def receive(self, tick: int, own: IntArray, packets: Packets, ring: Words) -> None:
        """Take a tick's packets: first the population's own spikes, then rewards, then what its sources send."""
        rule, held = self._rule, self._histories.arrays
        if len(own):
            add_spikes(held, own, tick, rule.tau_minus, rule.tau_d)
        for source, amount in self._rewards:
            for _ in packets.spiked[source]:
                add_rewards(held, amount, tick, rule.tau_minus, rule.tau_d)
        for pre, rows in self._rows.values():
            spiked = packets.spiked[pre]
            if len(spiked):
                rows.receive(tick, spiked, held, ring)

    def reset(self) -> None:
        """Forget events, traces and eligibility; weights stay."""
        self._histories.reset()
        for _, rows in self._rows.values():
            rows.reset()

    def changing(self) -> dict[str, AnyArray]:
        """All arrays that change, by name."""
        rows = {f"{kind} {name}": values for name, (_, r) in self._rows.items() for kind, values in r.changing().items()}
        return self._histories.changing() | rows

    def check(self, state: Mapping[str, AnyArray]) -> None:
        """Raise ValueError for a state that these cannot be in."""
        self._histories.check(state)


class StandardCores:
    """A population of sPyNNaker's own cells (see :class:`.cores.Cores`)."""

    payload: IntArray | None = None

    def __init__(self, lowered: SpinnakerNetwork, index: int, *, learning: bool) -> None:
        self._cell = cell = lowered.cells[index]
        resolution = lowered.buffers[cell.name].resolution
        shift = np.array([15 + round(float(np.log2(unit))) for unit in resolution])
        dt_ms = step_ms(lowered.network.dt)
        self._neurons = Neurons(cell, dt_ms, shift)
        plan = lowered.learning
        self._incoming = [
            Incoming(
                p,
                lowered.connections[p.name],
                cell,
                resolution,
                lowered.network.population(p.pre).size,
                learns=learning and p.name in plan.plastic,
            )
            for p in lowered.network.synaptic_projections
            if p.post == cell.name
        ]
        self._ring: Words = np.zeros((max((i.longest for i in self._incoming), default=0) + 1, 2 * cell.size), np.uint16)
        rule = next((plan.rules[plan.plastic[i.name]] for i in self._incoming if i.learns), None)
        self._learner = None
        if rule is not None:
            gates = tuple(m for m in plan.modulations if m.post == cell.name)
            numbers = rule_numbers(rule, gates[0] if gates else None, dt_ms)
            self._learner = Learner(numbers, gates, self._incoming, cell.size, shift)
        self._learn = False
        self._spiked = np.zeros(0, np.int64)

    @property
    def membrane(self) -> FloatArray:
        return self._neurons.membrane / (2.0**15 * self._cell.voltage_scale)

    def begin(self, n_steps: int, signal: Signal | None, *, learn: bool) -> None:  # noqa: ARG002 - nothing compares here
        self._learn = learn

    def step(self, tick: int) -> IntArray:
        self._spiked = self._neurons.step(self._ring[tick % len(self._ring)].reshape(2, -1))
        return self._spiked

    def receive(self, tick: int, packets: Packets) -> None:
        for rows, spiked in self._fixed(packets):
            if len(spiked):
                rows.deliver(tick, spiked, self._ring)
        if self._learner is not None and self._learn:
            self._learner.receive(tick, self._spiked, packets, self._ring)

    def _fixed(self, packets: Packets) -> Iterator[tuple[Rows, IntArray]]:
        """Yield the rows that do not change in this run, with the sources that spike."""
        for incoming in self._incoming:
            yield incoming.static, packets.spiked[incoming.pre]
            if not self._learn:
                yield incoming.plastic, packets.spiked[incoming.pre]

    def reset(self) -> None:
        self._neurons.reset()
        self._ring[:] = 0
        if self._learner is not None:
            self._learner.reset()

    def weights(self) -> Mapping[str, FloatArray]:
        return {incoming.name: incoming.weights() for incoming in self._incoming}

    def set_weights(self, weights: Mapping[str, FloatArray]) -> None:
        for incoming in self._incoming:
            if incoming.learns and incoming.name in weights:
                incoming.set_weights(weights[incoming.name])

    def changing(self) -> Mapping[str, AnyArray]:
        own: dict[str, AnyArray] = {"neurons": self._neurons.state, "ring": self._ring}
        # The negative synapses of a projection that learns stay, but for set_weights.
        own |= {f"static {i.name}": i.static.weight for i in self._incoming if i.learns}
        return own | (self._learner.changing() if self._learner is not None else {})

    def check(self, state: Mapping[str, AnyArray]) -> None:
        self._neurons.check(state["neurons"])
        if self._learner is not None:
            self._learner.check(state)
