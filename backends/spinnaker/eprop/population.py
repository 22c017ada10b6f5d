"""The cores of a population in a network that learns by e-prop, in their integers: what templates/extension does, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurocompile.backends.spinnaker.eprop import cells, kernels, rows
from neurocompile.backends.spinnaker.eprop.formats import ONE, Ints
from neurocompile.backends.spinnaker.eprop.plan import EpropPlan, PlannedProjection
from neurocompile.backends.spinnaker.eprop.ranges import ACCUMULATOR_BITS
from neurocompile.backends.spinnaker.eprop.rows import BLOCKS, SWEEP
from neurocompile.backends.spinnaker.eprop.scales import silent_scales
from neurocompile.backends.spinnaker.twin.cores import Packets
from neurocompile.ir._types import BoolArray, FloatArray, IntArray
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.signals import Signal

_NOBODY = np.zeros(0, np.int64)


class _Synapses:
    """State of a projection's rows. A spike is held back until its row is due: ``held`` (longest delay - 1, n_pre), flags."""

    def __init__(self, plan: PlannedProjection, *, adaptive: bool) -> None:
        self.plan = plan
        made, m = plan.rows, len(plan.weight)
        self.delays = [int(d) for d in np.unique(made.delay)]
        self.weight, self.target = plan.weight.astype(np.int64), made.target.astype(np.int64)
        size = m if plan.learns else 0
        self.e, self.r = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self.q = np.zeros(size if adaptive else 0, np.int64)
        self.head = np.zeros((len(made.delay) if plan.learns else 0, 2), np.int64)
        self.held = np.zeros((max(self.delays, default=1) - 1, len(made.first) - 1), np.bool_)
        self.sent = np.zeros(max(int(np.diff(made.begin).max(initial=0)), 1), np.int64)
        self.frozen = np.zeros(size, np.int64)

    def due(self, spiked: IntArray) -> list[tuple[int, IntArray]]:
        """Return (delay, sources) of the rows that are touched in this tick, and hold back the spikes of this tick."""
        found = [(d, spiked if d == 1 else np.flatnonzero(self.held[d - 2])) for d in self.delays]
        if len(self.held):
            self.held[1:] = self.held[:-1]
            self.held[0] = False
            self.held[0, spiked] = True
        return found

    def arrays(self) -> dict[str, AnyArray]:
        """What changes."""
        learning = {"weight": self.weight, "e": self.e, "r": self.r, "head": self.head} if self.plan.learns else {}
        second = {"q": self.q} if len(self.q) else {}
        return {**learning, **second, "held": self.held}


class EpropCores:
    """The cores of a population (:class:`neurocompile.backends.spinnaker.twin.Cores`).

    A tick: the neurons with the input that has arrived; a readout's errors, which hidden neurons use in the next tick; then rows of the
    sources whose spikes are due, and the sweep. While nothing may learn, the clock of learning stands still.
    """

    def __init__(self, plan: EpropPlan, name: str) -> None:
        self.plan, self._own = plan, plan.populations[name]
        own, n = self._own, self._own.size
        self._learns = own.scales is not None
        self._constants = kernels.constants(own.scales if own.scales is not None else silent_scales())
        self._state, self._heard, self._psi = np.zeros((n, 8), np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
        self._reg, self._signal, self._y, self._error, self._buffer = (np.zeros(n, np.int64) for _ in range(5))
        self._excitatory, self._inhibitory = np.zeros(n, np.int64), np.zeros(n, np.int64)
        adaptive = bool(self._constants.adaptive)
        self._neuron, self._ring = kernels.fresh(n if self._learns else 0, BLOCKS, adaptive=adaptive)
        self._counts = np.zeros(2, np.int64)  # steps that learned; states that saturated
        self._synapses = [_Synapses(p, adaptive=adaptive) for p in plan.projections if p.post == name]
        self._learning = False
        self._target: Ints = np.zeros((0, n), np.int64)
        self._window: BoolArray = np.zeros(0, np.bool_)
        self._row = 0
        self.reset()

    @property
    def saturated(self) -> int:
        """How often a state has reached the end of its format."""
        return int(self._counts[1])

    @property
    def payload(self) -> IntArray | None:
        """The errors of the task's readout."""
        return self._error if self._own.name == self.plan.readout and self._error.any() else None

    @property
    def membrane(self) -> FloatArray:
        """See :class:`neurocompile.backends.spinnaker.twin.Cores`."""
        v = self._y if self._own.neurons.readout else self._state[:, cells.V] + self._own.neurons.leak
        found: FloatArray = v / (self._own.scale * ONE)
        return found

    def begin(self, n_steps: int, signal: Signal | None, *, learn: bool) -> None:
        """See :class:`neurocompile.backends.spinnaker.twin.Cores`."""
        self._learning, self._row = learn and self.plan.learns, 0
        if signal is None:
            self._window = np.zeros(0, np.bool_)
        else:
            scaled = np.clip(signal.target[:n_steps] * self._own.target_unit, *self.plan.target_range(self._own.name))
            self._target = np.rint(scaled).astype(np.int64)
            self._window = np.asarray(signal.window[:n_steps])
        if not self._learning:
            for s in self._synapses:
                if s.plan.learns:
                    s.frozen[:] = (self._settled(s) + (1 << (ACCUMULATOR_BITS - 1))) >> ACCUMULATOR_BITS

    def step(self, tick: int) -> IntArray:  # noqa: ARG002
        """See :class:`neurocompile.backends.spinnaker.twin.Cores`."""
        own, clock = self._own, int(self._counts[0])
        self._row += 1
        if own.neurons.readout:
            cells.update_readout(own.cells, self._excitatory, self._inhibitory, self._state, self._y)
            self._error[:] = 0
            if self._learning:
                self._err(clock)
            return _NOBODY
        count = cells.update(own.cells, self._excitatory, self._inhibitory, self._state, self._psi, self._reg, self._buffer)
        if self._learning and self._learns:
            cells.signals(own.cells, self._heard, self._signal)
            rho, beta = own.cells.adapt_decay, own.cells.adapt_step
            kernels.fold(self._constants, clock, self._psi, self._signal, self._reg, rho, beta, self._neuron, self._ring)
        return self._buffer[:count].copy()

    def _err(self, clock: int) -> None:
        """Compare the readout with its target, and let the errors enter its own coefficients."""
        own, row = self._own, self._row - 1
        if row < len(self._window) and self._window[row]:
            softmax = self.plan.softmax and own.name == self.plan.readout
            err = cells.softmax_errors if softmax else cells.squared_errors
            err(self._y, self._target[row], own.error.mantissa, own.error.shift, self._error)
        if self._learns:
            cells.scaled(self._error, own.learn.mantissa, own.learn.shift, self._signal)
            kernels.fold_readout(self._constants, clock, self._signal, self._neuron, self._ring)

    def receive(self, tick: int, packets: Packets) -> None:  # noqa: ARG002
        """See :class:`neurocompile.backends.spinnaker.twin.Cores`."""
        own, clock = self._own, int(self._counts[0])
        errors = packets.payload.get(self.plan.readout or "")
        if own.feedback is not None and errors is not None:
            cells.hear(own.feedback, errors, self._heard)
        for s in self._synapses:
            made, learning = s.plan.rows, s.plan.learns and self._learning
            for delay, spikes in s.due(packets.spiked[s.plan.pre]):
                if not len(spikes):
                    continue
                if learning:
                    self._counts[1] += rows.deliver(
                        self._constants, clock, spikes, delay, made.first, made.begin, made.delay, made.low, made.high, s.target,
                        s.head, s.weight, s.e, s.r, s.q, self._neuron, self._ring, self._excitatory, self._inhibitory, s.sent,
                    )  # fmt: skip
                else:
                    weight = s.frozen if s.plan.learns else s.weight
                    rows.deliver_static(
                        spikes, delay, made.first, made.begin, made.delay, s.target, weight, self._excitatory, self._inhibitory
                    )
            if learning:
                self._sweep(s, clock, clock % SWEEP, SWEEP)
        self._counts[0] += self._learning

    def _sweep(self, s: _Synapses, clock: int, offset: int, stride: int) -> None:
        made = s.plan.rows
        self._counts[1] += rows.sweep(
            self._constants, clock, offset, stride, made.first, made.begin, made.low, made.high, s.target, s.head, s.weight, s.e, s.r,
            s.q, self._neuron, self._ring, s.sent,
        )  # fmt: skip

    def _settled(self, s: _Synapses) -> Ints:
        """Return the weights as they would be sent now, accumulator units; every row is swept."""
        made, out = s.plan.rows, np.zeros(len(s.weight), np.int64)
        self._sweep(s, max(int(self._counts[0]) - 1, 0), 0, 1)
        rows.settle(self._constants, made.begin, made.low, made.high, s.target, s.head, s.weight, s.e, s.r, s.q, self._neuron, out)
        return out

    def reset(self) -> None:
        """See :class:`neurocompile.backends.spinnaker.twin.Cores`."""
        for s in self._synapses:
            if s.plan.learns:
                s.weight[:] = self._settled(s)
                s.e[:], s.r[:], s.q[:], s.head[:, 0] = 0, 0, 0, 0
            s.held[:] = False
        for array in (self._state, self._heard, self._psi, self._error, self._excitatory, self._inhibitory, self._neuron, self._ring):
            array[...] = 0
        self._state[:, cells.CURRENT] = self._own.neurons.initial_current
        self._y[:] = self._own.neurons.leak

    def weights(self) -> dict[str, FloatArray]:
        """See :class:`neurocompile.backends.spinnaker.twin.Cores`."""
        found = {}
        for s in self._synapses:
            unit = self._own.weight_unit
            held = self._settled(s) * (unit * 2.0**-ACCUMULATOR_BITS) if s.plan.learns else s.weight * unit
            found[s.plan.name] = np.empty_like(held)
            found[s.plan.name][s.plan.rows.order] = held
        return found

    def set_weights(self, weights: Mapping[str, FloatArray]) -> None:
        """See :class:`neurocompile.backends.spinnaker.twin.Cores`."""
        unit = self._own.weight_unit * 2.0**-ACCUMULATOR_BITS
        for s in self._synapses:
            if s.plan.learns and s.plan.name in weights:
                made = s.plan.rows
                wanted = np.rint(np.asarray(weights[s.plan.name], np.float64)[made.order] / unit).astype(np.int64)
                size = np.diff(made.begin)
                s.weight += np.clip(wanted, np.repeat(made.low, size), np.repeat(made.high, size)) - self._settled(s)

    def changing(self) -> dict[str, AnyArray]:
        """See :class:`neurocompile.backends.spinnaker.twin.Cores`."""
        found: dict[str, AnyArray] = {
            "state": self._state,
            "heard": self._heard,
            "psi": self._psi,
            "error": self._error,
            "y": self._y,
            "excitatory": self._excitatory,
            "inhibitory": self._inhibitory,
            "neuron": self._neuron,
            "ring": self._ring,
            "counts": self._counts,
        }
        for s in self._synapses:
            found |= {f"{s.plan.name}:{key}": array for key, array in s.arrays().items()}
        return found

    def check(self, state: Mapping[str, AnyArray]) -> None:
        """Raise ValueError for a state that these cores cannot be in: numbers beyond their words, rows of blocks to come."""
        for name, values in state.items():
            if values.dtype != np.bool_ and name != "counts" and values.size and int(np.abs(values).max()) > 2**31 - 1:
                raise ValueError(f"'{name}' holds {int(np.abs(values).max())}, more than 32 bits")
        clock = int(state["counts"][0])
        for s in self._synapses:
            blocks = state[f"{s.plan.name}:head"][:, 1] if s.plan.learns else np.zeros(0, np.int64)
            if clock < 0 or (blocks.size and not 0 <= int(blocks.min()) <= int(blocks.max()) <= clock // rows.WINDOW):
                raise ValueError(f"'{s.plan.name}': rows of blocks beyond step {clock}")


__all__ = ["EpropCores"]
