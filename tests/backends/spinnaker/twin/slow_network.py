"""A whole program, one synapse and one Python integer at a time, from the network and what lowering made of its numbers."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from neurocompile.backends.spinnaker.lowered import SpinnakerNetwork
from neurocompile.ir.signals import Spikes
from tests.backends.spinnaker.core_model import Core
from tests.backends.spinnaker.twin.slow_learning import Learner, Source, Synapse

FULL = 2**16 - 1


class SlowNetwork:
    """``spikes``: (population, tick, neuron); ``membranes``: (readout, tick) -> s16.15 of its neurons; ``plastic``: projection -> its
    synapses that learn, by their place."""

    def __init__(self, lowered: SpinnakerNetwork, *, learning: bool = False) -> None:
        network = lowered.network
        self.lowered = lowered
        self.cores = {c.name: [Core(c, network.dt, i) for i in range(c.size)] for c in lowered.cells if c.cell != "source"}
        self.shift = {name: [round(np.log2(r)) + 15 for r in buffer.resolution] for name, buffer in lowered.buffers.items()}
        self.synapses = defaultdict(list)
        self.learners: dict[str, Learner] = {}
        self.sources: dict[tuple[str, int], Source] = defaultdict(Source)
        self.plastic: dict[str, dict[int, Synapse]] = defaultdict(dict)
        self.rows: dict[tuple[str, int], list[tuple[str, str, int, int, Synapse]]] = defaultdict(list)
        for rule in lowered.learning.rules if learning else ():
            gate = next((m for m in lowered.learning.modulations if m.post == rule.post), None)
            n = len(self.cores[rule.post])
            self.learners[rule.post] = Learner(rule, gate, network.dt * 1e3, self.shift[rule.post][0], n)
        for p in network.synaptic_projections:
            c = lowered.connections[p.name]
            cell = next(cell for cell in lowered.cells if cell.name == p.post)
            scales = np.broadcast_to(cell.weight_scale, (cell.size,))
            rows = zip(c.pre.tolist(), c.post.tolist(), c.weight.tolist(), c.delay.tolist(), strict=True)
            for k, (pre, post, weight, delay) in enumerate(rows):
                receptor = int(weight < 0)
                size = int(np.rint(abs(weight * scales[post]) * 2 ** (15 - self.shift[p.post][receptor])))
                if learning and p.name in lowered.learning.plastic and not receptor:
                    self.plastic[p.name][k] = Synapse(size)
                    self.rows[p.pre, pre].append((p.name, p.post, post, delay, self.plastic[p.name][k]))
                else:
                    self.synapses[p.pre, pre].append((p.post, post, receptor, delay, size))
        self.stored: dict[tuple[int, str, int, int], int] = defaultdict(int)
        self.spikes: set[tuple[str, int, int]] = set()
        self.membranes: dict[tuple[str, int], list[int]] = {}

    def run(self, n_steps: int, given: dict[str, Spikes]) -> None:
        for tick in range(n_steps):
            sent = [(name, int(i)) for name, s in given.items() for i in s.neuron[s.step == tick]]
            for name, cores in self.cores.items():
                for i, core in enumerate(cores):
                    arrived = [self.stored.pop((tick, name, i, r), 0) << self.shift[name][r] for r in (0, 1)]
                    if core.update((arrived[0], arrived[1])):
                        sent.append((name, i))
                self.membranes[name, tick] = [core.v for core in cores]
            self.spikes |= {(name, tick, i) for name, i in sent}
            self._learn(tick, sent)
            for source in sent:
                for post, target, receptor, delay, size in self.synapses[source]:
                    slot = (tick + delay, post, target, receptor)
                    self.stored[slot] = min(self.stored[slot] + size, FULL)

    def _learn(self, tick: int, sent: list[tuple[str, int]]) -> None:
        for name, i in sent:
            if name in self.learners:
                self.learners[name].spike(i, tick)
        for m in self.lowered.learning.modulations if self.learners else ():
            for _ in [i for name, i in sent if name == m.pre]:
                learner = self.learners[m.post]
                for i in range(len(learner.targets)):
                    learner.reward(i, tick, round(m.weight * 2048) * (1 if m.receptor == "reward" else -1))
        for source in sent:
            before = {name: self.sources[name, source[1]] for name, *_ in self.rows[source]}
            for name, post, target, delay, synapse in self.rows[source]:
                learner = self.learners[post]
                change = learner.rewarded if learner.gated else learner.pairs
                change(target, synapse, before[name], tick)
                slot = (tick + delay, post, target, 0)
                self.stored[slot] = min(self.stored[slot] + synapse.weight, FULL)
                self.sources[name, source[1]] = learner.sent(before[name], tick)
