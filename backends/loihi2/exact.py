"""What e-prop in float64 makes of the twin's own spikes: the measure of what the chip's arithmetic does to learning.

The recurrences of docs/eprop.md, one step at a time, with psi from the distance to the threshold that the integers have, the errors of
the integer readout, and the feedback and the learning rate of the description. Spikes are the twin's, so the difference to the twin's
weight change is the arithmetic of learning alone: traces, tags, third factors, rounding, and when a learning signal meets which tag.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numba
import numpy as np

from neurocompile.backends.loihi2.adaptive import Recording
from neurocompile.backends.loihi2.learning import surrogate_shape
from neurocompile.backends.loihi2.lowered import Loihi2Network, LoweredProjection
from neurocompile.backends.loihi2.twin import Twin
from neurocompile.ir import ALIF, LIF, EProp, LeakyReadout, Regularization
from neurocompile.ir._types import FloatArray, IntArray
from neurocompile.ir.neurons import decay, expand
from neurocompile.ir.signals import Signal, Spikes


@numba.njit(cache=True, nogil=True)
def _hidden(
    pre: IntArray,
    post: IntArray,
    spiked: FloatArray,
    alpha: FloatArray,
    psi: FloatArray,
    beta: FloatArray,
    rho: FloatArray,
    kappa: float,
    kappa_reg: float,
    signal: FloatArray,
    reg: FloatArray,
    state: FloatArray,
) -> None:
    """Advance zbar, eps, ebar, ebar_reg and g (the rows of ``state``) of each synapse by one step.

    spiked : sources that spiked in the step before; signal, reg : L and reg of the index before, by target.
    """
    for k in range(len(pre)):
        j = post[k]
        state[4, k] += signal[j] * state[2, k] + reg[j] * state[3, k]
        zbar = alpha[j] * state[0, k] + spiked[pre[k]]
        e = psi[j] * (zbar - beta[j] * state[1, k])
        state[0, k] = zbar
        state[1, k] = rho[j] * state[1, k] + e
        state[2, k] = kappa * state[2, k] + e
        state[3, k] = kappa_reg * state[3, k] + (1.0 - kappa_reg) * e


@numba.njit(cache=True, nogil=True)
def _readout(pre: IntArray, post: IntArray, spiked: FloatArray, alpha: FloatArray, error: FloatArray, state: FloatArray) -> None:
    for k in range(len(pre)):
        zbar = alpha[post[k]] * state[0, k] + spiked[pre[k]]
        state[0, k] = zbar
        state[4, k] += error[post[k]] * zbar


def surrogate(rule: EProp, distance: FloatArray) -> FloatArray:
    """Return psi at a distance to the threshold (membrane units)."""
    shape = surrogate_shape(rule.surrogate.kind, np.abs(distance) / rule.surrogate.width)
    return rule.surrogate.height * shape


class _Learner:
    """One plastic population."""

    def __init__(self, lowered: Loihi2Network, index: int, rule: EProp) -> None:
        network = lowered.network
        population = network.populations[index]
        model, n = population.model, population.size
        assert isinstance(model, LIF | LeakyReadout)
        self.index, self.rule, self.readout = index, rule, isinstance(model, LeakyReadout)
        self.alpha = decay(model.tau_mem, network.dt, model.integration, n)
        self.beta, self.rho = np.zeros(n), np.zeros(n)
        if isinstance(model, ALIF):
            self.beta, self.rho = expand(model.adapt_beta, n), decay(model.adapt_tau, network.dt, model.integration, n)
        self.rate, self.reg = np.zeros(n), np.zeros(n)
        off = Regularization(strength=0.0, rate=0.0)
        self.regularization = rule.regularization or off
        self.dt_ms = network.dt * 1e3

    def regularize(self, spiked: FloatArray) -> None:
        """Bring the filtered rate and reg up to this step."""
        kappa = self.rule.kappa_reg
        self.rate = kappa * self.rate + (1.0 - kappa) * spiked / self.dt_ms
        self.reg = self.regularization.strength * (self.rate - self.regularization.rate * 1e-3)


class ExactEprop:
    """E-prop in float64 beside a twin (same spikes): :meth:`advance` after each step of the twin, then :meth:`changes`.

    ``psi``: plastic spiking population -> surrogate gradients of the last step, 0 while refractory.
    """

    def __init__(self, lowered: Loihi2Network) -> None:
        network = lowered.network
        self._lowered = lowered
        self._learners: dict[int, _Learner] = {}
        self.synapses: list[tuple[LoweredProjection, IntArray, IntArray, FloatArray]] = []
        described = {p.name: p for p in network.synaptic_projections}
        for projection in lowered.projections:
            if not projection.eprop:
                continue
            name = described[projection.name].learning
            assert name is not None
            rule = network.rule(name)
            assert isinstance(rule, EProp)
            self._learners.setdefault(projection.post, _Learner(lowered, projection.post, rule))
            state = np.zeros((5, len(projection.pre_ids)))
            self.synapses.append((projection, projection.pre_ids.astype(np.int64), projection.post_ids.astype(np.int64), state))
        self._before = [np.zeros(p.size) for p in network.populations]
        self.psi: dict[int, FloatArray] = {}

    def advance(self, spiked: Mapping[int, FloatArray], distance: Mapping[int, FloatArray], error: Mapping[int, FloatArray]) -> None:
        """Take in one step.

        Parameters
        ----------
        spiked
            Population -> 1.0 for neurons that spike.
        distance
            Plastic spiking population -> membrane minus threshold before the reset, NaN while refractory (membrane units).
        error
            Readout -> y - y*, 0 outside the window.
        """
        signal: dict[int, FloatArray] = {}
        for feedback in self._lowered.feedback:
            values = feedback.real @ error[feedback.readout]
            signal[feedback.post] = signal[feedback.post] + values if feedback.post in signal else values
        psi = self.psi = {}
        reg: dict[int, FloatArray] = {}
        for index, learner in self._learners.items():
            if not learner.readout:
                psi[index] = np.nan_to_num(surrogate(learner.rule, distance[index]), nan=0.0)
                reg[index] = learner.reg
                learner.regularize(spiked[index])
        for projection, pre, post, state in self.synapses:
            learner, before = self._learners[projection.post], self._before[projection.pre]
            if learner.readout:
                _readout(pre, post, before, learner.alpha, error[projection.post], state)
                continue
            heard = signal.get(projection.post, np.zeros(len(learner.rate)))
            _hidden(
                pre, post, before, learner.alpha, psi[projection.post], learner.beta, learner.rho, learner.rule.kappa,
                learner.rule.kappa_reg, heard, reg[projection.post], state,
            )  # fmt: skip
        for index, values in spiked.items():
            self._before[index] = values

    def spiked(self, index: int) -> FloatArray:
        """Return 1.0 for the neurons of a population that spiked in the last step."""
        return self._before[index]

    def recordings(self, post: int, spikes: Mapping[int, FloatArray], psi: FloatArray) -> list[Recording]:
        """Return what the projections into a population saw, of (steps, n) spikes of each population and psi of this one."""
        learner = self._learners[post]
        return [
            Recording(
                pre=pre, post=own, spikes=spikes[p.pre], psi=psi, alpha=learner.alpha, beta=learner.beta, rho=learner.rho,
                kappa=learner.rule.kappa,
            )
            for p, pre, own, _ in self.synapses
            if p.post == post
        ]  # fmt: skip

    def changes(self) -> dict[str, FloatArray]:
        """Projection -> weight change of gradient descent without bounds (membrane units), in the program's order."""
        return {p.name: -self._learners[p.post].rule.optimizer.learning_rate * state[4] for p, _, _, state in self.synapses}


def run_beside(
    lowered: Loihi2Network,
    twin: Twin,
    inputs: Mapping[str, Spikes],
    signals: Mapping[str, Signal],
    *,
    steps: int,
    exact: ExactEprop | None = None,
    watch: Callable[[ExactEprop], None] | None = None,
) -> dict[str, FloatArray]:
    """Run a learning twin from its start and return what exact e-prop would have changed (:meth:`ExactEprop.changes`).

    exact : to advance, None: a fresh one; watch : called after each step, with what exact e-prop holds.
    """
    exact = exact or ExactEprop(lowered)
    numbers = {p["name"]: i for i, p in enumerate(twin.populations)}
    for step in range(steps):
        now = {name: Signal(target=s.target[step : step + 1], window=s.window[step : step + 1]) for name, s in signals.items()}
        result = twin.run(1, inputs, now)
        spiked: dict[int, FloatArray] = {}
        for name, spikes in result.spikes.items():
            spiked[numbers[name]] = np.zeros(twin.populations[numbers[name]]["size"])
            spiked[numbers[name]][spikes.neuron] = 1.0
        distance, error = {}, {}
        for i, cells in twin.cells.items():
            population = lowered.populations[i]
            if population.process == "Readout":
                error[i] = _error(cells.v / population.scale + population.offset, now.get(population.name))
            elif cells.learning is not None:
                distance[i] = np.where(cells.closed, np.nan, cells.distance / population.scale)
        exact.advance(spiked, distance, error)
        if watch is not None:
            watch(exact)
    return exact.changes()


def _error(output: FloatArray, signal: Signal | None) -> FloatArray:
    if signal is None or not len(signal.window) or not signal.window[0]:
        return np.zeros_like(output)
    difference: FloatArray = output - signal.target[0]
    return difference


__all__ = ["ExactEprop", "run_beside", "surrogate"]
