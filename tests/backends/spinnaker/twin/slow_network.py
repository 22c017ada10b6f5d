"""A whole program, one synapse and one Python integer at a time, from the network and what lowering made of its numbers."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from neurocompile.backends.spinnaker.lowered import SpinnakerNetwork
from neurocompile.ir.signals import Spikes
from tests.backends.spinnaker.core_model import Core

FULL = 2**16 - 1


class SlowNetwork:
    """Static programs. ``spikes``: (population, tick, neuron); ``membranes``: (readout, tick) -> s16.15 of its neurons."""

    def __init__(self, lowered: SpinnakerNetwork) -> None:
        network = lowered.network
        self.lowered = lowered
        self.cores = {c.name: [Core(c, network.dt, i) for i in range(c.size)] for c in lowered.cells if c.cell != "source"}
        self.shift = {name: [round(np.log2(r)) + 15 for r in buffer.resolution] for name, buffer in lowered.buffers.items()}
        self.synapses = defaultdict(list)
        for p in network.synaptic_projections:
            c = lowered.connections[p.name]
            cell = next(cell for cell in lowered.cells if cell.name == p.post)
            scales = np.broadcast_to(cell.weight_scale, (cell.size,))
            for pre, post, weight, delay in zip(c.pre.tolist(), c.post.tolist(), c.weight.tolist(), c.delay.tolist(), strict=True):
                receptor = int(weight < 0)
                size = int(np.rint(abs(weight * scales[post]) * 2 ** (15 - self.shift[p.post][receptor])))
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
            for source in sent:
                for post, target, receptor, delay, size in self.synapses[source]:
                    slot = (tick + delay, post, target, receptor)
                    self.stored[slot] = min(self.stored[slot] + size, FULL)
