"""E-prop by its definition, clock-driven: the eligibility trace and gradient of every pair of neurons in every step, vectorised in NumPy.

Nothing here depends on when neurons spike, so its cost does not depend on rates. It computes what the engine computes (docs/eprop.md) for
networks like the benchmark's: one hidden population of lif neurons with soft reset that share their parameters, kappa_reg = kappa,
gradient descent at every event. The factor zbar of a pair belongs to its source alone, which this form makes use of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from neurocompile.ir import LIF, EProp, GradientDescent, LeakyReadout, Network, Reset, SurrogateKind
from neurocompile.ir.realise import Connections

Array = npt.NDArray[np.float64]
_BLOCK_BYTES = 2**18
"""Rows are handled in blocks of this size, which stay in the second-level cache between the passes over them."""


def needed_bytes(n_sources: int, n_hidden: int) -> int:
    """Return the memory of the three float64 matrices and the mask."""
    return n_sources * n_hidden * 25


class DenseForm:
    """Networks "in" -> "hidden" -> "hidden" -> "out"; the sources of a hidden neuron are the inputs, then the hidden neurons.

    weight, ebar, gradient : (n_in + n_hidden, n_hidden); mask: which pairs are connected; the others keep weight 0.
    """

    def __init__(self, network: Network, connections: Mapping[str, Connections], feedback: Array) -> None:
        hidden, out = network.population("hidden"), network.population("out")
        rule = network.rules[0]
        assert isinstance(hidden.model, LIF)
        assert isinstance(out.model, LeakyReadout)
        assert isinstance(rule, EProp)
        assert isinstance(rule.optimizer, GradientDescent)
        if rule.kappa != rule.kappa_reg or hidden.model.reset is not Reset.SUBTRACT or hidden.model.t_ref:
            raise ValueError("the dense form computes soft reset without refractoriness and kappa_reg = kappa only")
        if rule.surrogate.kind is not SurrogateKind.PIECEWISE_LINEAR or rule.regularization is None:
            raise ValueError("the dense form computes the piecewise linear surrogate with regularisation only")
        self.rule, self.optimizer, self.regularization, self.feedback = rule, rule.optimizer, rule.regularization, feedback
        self.n_in, self.n = network.population("in").size, hidden.size
        self.dt_ms = network.dt * 1e3
        self.threshold = float(hidden.model.v_threshold)
        self.alpha, self.alpha_out = math.exp(-network.dt / float(hidden.model.tau_mem)), math.exp(-network.dt / float(out.model.tau_mem))
        shape = (self.n_in + self.n, self.n)
        self.weight, self.ebar, self.gradient, self.mask = np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape, bool)
        self.places = {}
        for name, first in (("in->hidden", 0), ("hidden->hidden", self.n_in)):
            c = connections[name]
            self.places[name] = (c.pre + first, c.post)
            self.weight[self.places[name]] = c.weight
            self.mask[self.places[name]] = True
        c = connections["hidden->out"]
        self.places["hidden->out"] = (c.pre, c.post)
        self.weight_out, self.gradient_out = np.zeros((self.n, out.size)), np.zeros((self.n, out.size))
        self.weight_out[self.places["hidden->out"]] = c.weight
        if len(c) != self.weight_out.size:
            raise ValueError("the dense form needs all readout synapses")
        self.zbar, self.zbar_out = np.zeros(shape[0]), np.zeros(self.n)
        self.v, self.y, self.spiked = np.zeros(self.n), np.zeros(out.size), np.zeros(shape[0], bool)
        self.rate, self.step, self.n_spikes = np.zeros(self.n), 0, 0
        # what the gradient still has to see, by step modulo 3
        self.psi, self.drive, self.reg = (np.zeros((3, self.n)) for _ in range(3))
        self.error, self.arrived = np.zeros((3, out.size)), np.zeros((3, shape[0]), bool)
        self.rows = max(1, _BLOCK_BYTES // (8 * self.n))
        self.scratch = np.empty((self.rows, self.n))

    def weights(self, name: str) -> Array:
        """Return the weights of a projection in canonical order."""
        found: Array = (self.weight_out if name == "hidden->out" else self.weight)[self.places[name]]
        return found

    def run(self, inputs: list[npt.NDArray[np.int64]], target: Array, window: npt.NDArray[np.bool_]) -> None:
        """Run one step for each entry of ``inputs``: the sources that spike in it. ``target`` (n_out,), ``window`` one flag a step."""
        for sources, counts in zip(inputs, window, strict=True):
            self._step(sources, target, bool(counts))

    def _read(self, index: int) -> None:
        """Let one index enter the traces and gradients of all pairs."""
        psi, drive, kappa = self.psi[index], self.drive[index], self.rule.kappa
        self.zbar *= self.alpha
        self.zbar += self.arrived[index]
        for begin in range(0, len(self.zbar), self.rows):
            ebar, gradient = self.ebar[begin : begin + self.rows], self.gradient[begin : begin + self.rows]
            scratch = self.scratch[: len(ebar)]
            np.multiply(self.zbar[begin : begin + self.rows, None], psi, out=scratch)
            ebar *= kappa
            ebar += scratch
            np.multiply(ebar, drive, out=scratch)
            gradient += scratch
        self.zbar_out *= self.alpha_out
        self.zbar_out += self.arrived[index, self.n_in :]
        self.gradient_out += self.zbar_out[:, None] * self.error[index]

    def _step(self, sources: npt.NDArray[np.int64], target: Array, counts: bool) -> None:
        t, rule, (low, high) = self.step, self.rule, self.rule.weight_bounds
        if t >= 2:
            self._read((t - 2) % 3)
        now = t % 3
        self.arrived[now] = self.spiked
        arriving = np.flatnonzero(self.spiked)
        rows = self.weight[arriving] - self.optimizer.learning_rate * self.gradient[arriving]
        rows = np.clip(rows, low, high, out=rows) * self.mask[arriving]
        self.weight[arriving], self.gradient[arriving] = rows, 0.0
        hidden = arriving[np.searchsorted(arriving, self.n_in) :] - self.n_in
        out_rows = np.clip(self.weight_out[hidden] - self.optimizer.learning_rate * self.gradient_out[hidden], low, high)
        self.weight_out[hidden], self.gradient_out[hidden] = out_rows, 0.0
        self.v = self.alpha * self.v + rows.sum(axis=0)
        distance = self.v - self.threshold
        self.psi[now] = rule.surrogate.height * np.maximum(0.0, 1.0 - np.abs(distance) / rule.surrogate.width)
        fires = distance >= 0.0
        self.v -= self.threshold * fires
        self.n_spikes += int(fires.sum())
        self.spiked[:] = False
        self.spiked[sources] = True
        self.spiked[self.n_in :] = fires
        self.y = self.alpha_out * self.y + out_rows.sum(axis=0)
        self.error[now] = (self.y - target) * counts
        self.rate = rule.kappa_reg * self.rate + (1.0 - rule.kappa_reg) * fires / self.dt_ms
        self.reg[now] = self.regularization.strength * (self.rate - self.regularization.rate / 1e3 * self.dt_ms)
        if t:
            before = (t - 1) % 3  # the error of this step completes the entry before
            self.drive[before] = self.error[now] @ self.feedback + (1.0 - rule.kappa_reg) * self.reg[before]
        self.step += 1
