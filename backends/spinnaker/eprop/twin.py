"""A network that learns by e-prop on SpiNNaker's cores, in the integers of its cores: what templates/extension does, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numba
import numpy as np

from neurocompile.backends.base import TwinRun
from neurocompile.backends.spinnaker.eprop import cells, kernels, rows
from neurocompile.backends.spinnaker.eprop.formats import ONE, Ints
from neurocompile.backends.spinnaker.eprop.plan import EpropPlan, PlannedPopulation, PlannedProjection
from neurocompile.backends.spinnaker.eprop.rows import BLOCKS, SWEEP
from neurocompile.backends.spinnaker.eprop.scales import ACCUMULATOR_BITS, Rule, choose_readout_scales
from neurocompile.backends.reference.kernels.neurons import uniform
from neurocompile.ir import Network, SpikeSource
from neurocompile.ir._types import FloatArray, IntArray
from neurocompile.ir.neurons import expand
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.signals import Signal, Spikes


@numba.njit(cache=True, nogil=True)
def _draw(seed: int, first: int, step: int, probability: FloatArray, spikes: Ints) -> int:
    count = 0
    for i in range(len(probability)):
        if uniform(seed, first + i, step) < probability[i]:
            spikes[count] = i
            count += 1
    return count


class _Source:
    """Spikes of a source: those that are given, else those of its rate, drawn as the reference engine draws them."""

    def __init__(self, network: Network, name: str) -> None:
        sizes = {p.name: p.size for p in network.populations}
        self.size, self._seed = sizes[name], network.seed
        self._first = sum(size for _, size in list(sizes.items())[: list(sizes).index(name)])
        model = network.population(name).model
        assert isinstance(model, SpikeSource)
        self._probability = np.minimum(expand(model.rate, self.size) * network.dt, 1.0)
        self._buffer = np.zeros(self.size, np.int64)

    def steps(self, given: Spikes | None, begin: int, n_steps: int) -> list[IntArray]:
        """Return the neurons that spike in each of the steps, each once, ascending."""
        if given is None:
            return [
                self._buffer[: _draw(self._seed, self._first, begin + t, self._probability, self._buffer)].copy() for t in range(n_steps)
            ]
        first, last = np.searchsorted(given.step, (begin, begin + n_steps))
        key = np.unique((given.step[first:last].astype(np.int64) - begin) * self.size + given.neuron[first:last])
        step, neuron = np.divmod(key, self.size)
        return np.split(neuron, np.searchsorted(step, np.arange(1, n_steps)))


def _joined(pairs: list[tuple[int, IntArray]]) -> Spikes:
    if not pairs:
        return Spikes(neuron=np.zeros(0, np.int32), step=np.zeros(0, np.int64))
    step = np.repeat([t for t, _ in pairs], [len(who) for _, who in pairs])
    return Spikes(neuron=np.concatenate([who for _, who in pairs]).astype(np.int32), step=step.astype(np.int64))


_NOTHING = choose_readout_scales(
    Rule(alpha=0.9, kappa=0.9, kappa_reg=0.9, height=1.0, learning_rate=1.0, weight_unit=1.0, interval=1.0, signal=1.0)
)
"""Constants of populations whose synapses do not learn: never used"""


class _Population:
    """State of a population: neurons, coefficients of its synapses' change, input of the next tick."""

    def __init__(self, plan: PlannedPopulation) -> None:
        n = plan.size
        self.plan = plan
        self.constants = kernels.constants(plan.scales if plan.scales is not None else _NOTHING)
        self.learns = plan.scales is not None
        self.state, self.psi, self.reg, self.signal, self.heard = (np.zeros(s, np.int64) for s in ((n, 8), n, n, n, n))
        self.excitatory, self.inhibitory, self.y, self.error = (np.zeros(n, np.int64) for _ in range(4))
        self.neuron, self.ring = kernels.fresh(n if plan.scales is not None else 0, BLOCKS)
        self.buffer = np.zeros(n, np.int64)
        self.saturated = np.zeros(1, np.int64)
        self.reset()

    def arrays(self) -> dict[str, Ints]:
        """All that changes and that a later tick reads."""
        names = ("state", "heard", "excitatory", "inhibitory", "neuron", "ring", "saturated", "psi")
        return {name: getattr(self, name) for name in names}

    def reset(self) -> None:
        for array in (self.state, self.heard, self.excitatory, self.inhibitory, self.neuron, self.ring, self.psi):
            array[...] = 0
        self.state[:, cells.I] = self.plan.neurons.initial_current


class _Synapses:
    """State of a projection's rows."""

    def __init__(self, plan: PlannedProjection) -> None:
        self.plan = plan
        m, n_rows = len(plan.weight), len(plan.rows.delay)
        self.delays = [int(d) for d in np.unique(plan.rows.delay)]
        self.weight = plan.weight.copy()
        self.learns = plan.learns
        size = m if plan.learns else 0
        self.e, self.r, self.head = np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros((n_rows, 2), np.int64)
        self.sent = np.zeros(max(int(np.diff(plan.rows.begin).max(initial=0)), 1), np.int64)
        self.frozen = np.zeros(size, np.int64)

    def arrays(self) -> dict[str, Ints]:
        return {"weight": self.weight, "e": self.e, "r": self.r, "head": self.head} if self.learns else {}


class EpropTwin:
    """The program of a network that learns by e-prop (:class:`neurocompile.backends.base.Twin`).

    A tick: neurons of all populations with the input that has arrived; readouts' errors, which hidden neurons use in the next tick; then
    rows of the sources whose spikes are due, and the sweep. Without ``learn`` the clock of learning stands still.
    """

    def __init__(self, network: Network, plan: EpropPlan) -> None:
        self.network, self.plan = network, plan
        self._populations = {name: _Population(p) for name, p in plan.populations.items()}
        self._synapses = [_Synapses(p) for p in plan.projections]
        longest = max((max(s.delays, default=1) for s in self._synapses), default=1)
        self._under_way: list[dict[str, IntArray]] = [{} for _ in range(longest)]
        self._clock = np.zeros(2, np.int64)  # steps; steps that learned
        self._sources = {p.name: _Source(network, p.name) for p in network.populations if p.name not in plan.populations}

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self._clock[0])

    @property
    def saturated(self) -> int:
        """States that reached the end of their format so far."""
        return sum(int(p.saturated[0]) for p in self._populations.values())

    def run(self, n_steps: int, *, spikes: Mapping[str, Spikes], signals: Mapping[str, Signal], learn: bool = True) -> TwinRun:
        """See :class:`neurocompile.backends.base.Twin`."""
        begin = self.step
        learns = learn and any(s.learns for s in self._synapses)
        if not learns:
            self._freeze()
        sources = {name: source.steps(spikes.get(name), begin, n_steps) for name, source in self._sources.items()}
        targets = {name: self._target(name, signal) for name, signal in signals.items()}
        found: dict[str, list[tuple[int, IntArray]]] = {p.name: [] for p in self.network.populations}
        outputs = {name: np.zeros((n_steps, p.plan.size), np.int64) for name, p in self._populations.items() if p.plan.neurons.readout}
        for t in range(n_steps):
            fired = self._update(t, learns, targets, outputs)
            for name, given in sources.items():
                fired[name] = given[t]
            for name, who in fired.items():
                if len(who):
                    found[name].append((begin + t, who))
            self._deliver(fired, learns)
            self._clock += (1, int(learns))
        return TwinRun(
            spikes={name: _joined(pairs) for name, pairs in found.items()},
            outputs={name: y / (self._populations[name].plan.scale * ONE) for name, y in outputs.items()},
        )

    def _update(self, t: int, learns: bool, targets: Mapping[str, tuple[Ints, Any]], outputs: Mapping[str, Ints]) -> dict[str, IntArray]:
        """Update all neurons, and let their surrogates and signals enter their coefficients."""
        fired: dict[str, IntArray] = {}
        tick = int(self._clock[1])
        for name, p in self._populations.items():
            plan = p.plan
            if plan.neurons.readout:
                cells.update_readout(plan.cells, p.excitatory, p.inhibitory, p.state, p.y)
                outputs[name][t] = p.y
                continue
            count = cells.update(plan.cells, p.excitatory, p.inhibitory, p.state, p.psi, p.reg, p.buffer)
            fired[name] = p.buffer[:count].copy()
            if learns and p.learns:
                cells.signals(plan.cells, p.heard, p.signal)
                kernels.fold(p.constants, tick, p.psi, p.signal, p.reg, p.neuron, p.ring)
        if learns:
            for name, p in self._populations.items():
                if p.plan.neurons.readout:
                    self._err(name, p, t, tick, targets)
        return fired

    def _err(self, name: str, p: _Population, t: int, tick: int, targets: Mapping[str, tuple[Ints, Any]]) -> None:
        """Compare a readout with its target, tell those who listen, and let the error enter its own coefficients."""
        plan, given = p.plan, targets.get(name)
        p.error[:] = 0
        if given is not None and t < len(given[1]) and given[1][t]:
            softmax = self.plan.softmax and name == self.plan.readout
            (cells.softmax_errors if softmax else cells.squared_errors)(p.y, given[0][t], plan.error.mantissa, plan.error.shift, p.error)
            if name == self.plan.readout:
                for other in self._populations.values():
                    if other.plan.feedback is not None:
                        cells.hear(other.plan.feedback, p.error, other.heard)
        if p.learns:
            learn = plan.learn
            signal = (p.error * learn.mantissa + (1 << learn.shift >> 1)) >> learn.shift
            kernels.fold_readout(p.constants, tick, signal, p.neuron, p.ring)

    def _deliver(self, fired: dict[str, IntArray], learns: bool) -> None:
        self._under_way.insert(0, fired)
        self._under_way.pop()
        tick = int(self._clock[1])
        for s in self._synapses:
            p, made = self._populations[s.plan.post], s.plan.rows
            for delay in s.delays:
                spikes = self._under_way[delay - 1].get(s.plan.pre)
                if spikes is None or not len(spikes):
                    continue
                if s.learns and learns:
                    p.saturated += rows.deliver(
                        p.constants, tick, spikes, delay, made.first, made.begin, made.delay, made.low, made.high, made.target,
                        s.head, s.weight, s.e, s.r, p.neuron, p.ring, p.excitatory, p.inhibitory, s.sent,
                    )  # fmt: skip
                else:
                    weight = s.frozen if s.learns else s.weight
                    rows.deliver_static(spikes, delay, made.first, made.begin, made.delay, made.target, weight, p.excitatory, p.inhibitory)
            if s.learns and learns:
                self._sweep(s, p, tick, tick % SWEEP, SWEEP)

    def _sweep(self, s: _Synapses, p: _Population, tick: int, offset: int, stride: int) -> None:
        made = s.plan.rows
        p.saturated += rows.sweep(
            p.constants, tick, offset, stride, made.first, made.begin, made.low, made.high, made.target, s.head, s.weight, s.e, s.r,
            p.neuron, p.ring, s.sent,
        )  # fmt: skip

    def _settled(self, s: _Synapses) -> Ints:
        """Return the weights as they would be sent now, accumulator units; every row is swept."""
        p, made, out = self._populations[s.plan.post], s.plan.rows, np.zeros(len(s.weight), np.int64)
        tick = max(int(self._clock[1]) - 1, 0)
        self._sweep(s, p, tick, 0, 1)
        rows.settle(p.constants, made.begin, made.low, made.high, made.target, s.head, s.weight, s.e, s.r, p.neuron, out)
        return out

    def _freeze(self) -> None:
        for s in self._synapses:
            if s.learns:
                s.frozen = (self._settled(s) + (1 << (ACCUMULATOR_BITS - 1))) >> ACCUMULATOR_BITS

    def _target(self, name: str, signal: Signal) -> tuple[Ints, Any]:
        return np.rint(signal.target * self._populations[name].plan.target_unit).astype(np.int64), signal.window

    def reset(self) -> None:
        """See :class:`neurocompile.backends.base.Twin`."""
        for s in self._synapses:
            if s.learns:
                s.weight[:] = self._settled(s)
                s.e[:], s.r[:], s.head[:, 0] = 0, 0, 0
        for p in self._populations.values():
            p.reset()
        self._under_way = [{} for _ in self._under_way]

    def weights(self) -> dict[str, FloatArray]:
        """See :class:`neurocompile.backends.base.Twin`."""
        found = {}
        for s in self._synapses:
            unit = self._populations[s.plan.post].plan.weight_unit
            held = self._settled(s) * (unit * 2.0**-ACCUMULATOR_BITS) if s.learns else s.weight * unit
            found[s.plan.name] = np.empty_like(held)
            found[s.plan.name][s.plan.rows.order] = held
        return found

    def set_weights(self, weights: Mapping[str, FloatArray]) -> None:
        """See :class:`neurocompile.backends.base.Twin`."""
        for s in self._synapses:
            if s.learns and s.plan.name in weights:
                unit = self._populations[s.plan.post].plan.weight_unit * 2.0**-ACCUMULATOR_BITS
                wanted = np.rint(np.asarray(weights[s.plan.name], np.float64)[s.plan.rows.order] / unit).astype(np.int64)
                s.weight += wanted - self._settled(s)

    def state(self) -> dict[str, AnyArray]:
        """See :class:`neurocompile.backends.base.Twin`."""
        found: dict[str, AnyArray] = {"clock": self._clock.copy()}
        for name, p in self._populations.items():
            found |= {f"population:{name}:{key}": array.copy() for key, array in p.arrays().items()}
        for s in self._synapses:
            found |= {f"projection:{s.plan.name}:{key}": array.copy() for key, array in s.arrays().items()}
        for age, fired in enumerate(self._under_way):
            found |= {f"spikes:{age}:{name}": who.copy() for name, who in fired.items()}
        return found

    def restore(self, state: Mapping[str, AnyArray]) -> None:
        """See :class:`neurocompile.backends.base.Twin`."""
        own = {"clock": self._clock}
        for name, p in self._populations.items():
            own |= {f"population:{name}:{key}": array for key, array in p.arrays().items()}
        for s in self._synapses:
            own |= {f"projection:{s.plan.name}:{key}": array for key, array in s.arrays().items()}
        spikes = {key: value for key, value in state.items() if key.startswith("spikes:")}
        if own.keys() != state.keys() - spikes.keys() or any(own[key].shape != state[key].shape for key in own):
            raise ValueError("it holds other arrays")
        for key, array in own.items():
            array[...] = state[key]
        self._under_way = [{} for _ in self._under_way]
        for key, who in spikes.items():
            _, age, name = key.split(":", 2)
            self._under_way[int(age)][name] = np.asarray(who, np.int64)
