"""The network that all contestants of ``eprop.py`` run, its input, and the input weight that gives a wanted firing rate."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from neurocompile.backends.reference import Recording, Simulator
from neurocompile.ir import (
    LIF,
    AllToAll,
    EProp,
    FixedInDegree,
    GradientDescent,
    LeakyReadout,
    Network,
    Normal,
    Population,
    Projection,
    RandomFeedback,
    Regularization,
    SpikeSource,
    Surrogate,
    Task,
)
from neurocompile.ir.connectivity import Connect
from neurocompile.ir.signals import Signal, Spikes

DT = 1e-3
TAU_MEM = 0.03
THRESHOLD = 0.6
KAPPA = 0.97
LEARNING_RATE = 2e-8
"""Small enough that rates stay where they start."""
C_REG = 1e-3
INPUT_INDEGREE, READOUTS = 50, 10
INPUT_SPREAD = 0.2
"""Standard deviation of the input weights over their mean."""
RECURRENT_SPREAD = 0.1
"""Standard deviation of the recurrent weights times the root of the in-degree: the same fluctuation at any in-degree."""
_SEED = 7


@dataclass(frozen=True, kw_only=True)
class Point:
    """One configuration: ``size`` hidden neurons with ``indegree`` recurrent and 50 input synapses each, all plastic, 10 plastic readouts.

    ``rate``: wanted firing rate of the hidden neurons, Hz; ``input_rate``: of each source, Hz; ``input_weight``: mean; 0: to be chosen.
    ``warm_up`` steps are run before anything is timed, then ``repetitions`` times ``steps`` steps.
    """

    size: int = 1000
    indegree: int = 100
    rate: float = 5.0
    input_rate: float = 10.0
    input_weight: float = 0.0
    warm_up: int = 300
    steps: int = 500
    repetitions: int = 3

    @property
    def n_inputs(self) -> int:
        """1,000 sources; 10,000 from 100,000 neurons on, or every source would have thousands of targets."""
        return 10_000 if self.size >= 100_000 else 1000

    @property
    def n_synapses(self) -> int:
        return self.size * (self.indegree + INPUT_INDEGREE + READOUTS)

    @property
    def total_steps(self) -> int:
        return self.warm_up + self.steps * self.repetitions


def network(point: Point) -> Network:
    """Return the network of a point."""
    everybody = point.indegree == point.size - 1
    recurrent: Connect = AllToAll(allow_autapses=False) if everybody else FixedInDegree(degree=point.indegree, allow_autapses=False)
    drive = Normal(mean=point.input_weight, std=INPUT_SPREAD * point.input_weight)
    spread = RECURRENT_SPREAD / math.sqrt(max(point.indegree, 1))
    rule = EProp(
        surrogate=Surrogate(height=0.5, width=0.6),
        kappa=KAPPA,
        kappa_reg=KAPPA,
        regularization=Regularization(strength=C_REG, rate=point.rate),
        feedback=RandomFeedback(weight=Normal(mean=0.0, std=1.0)),
        optimizer=GradientDescent(learning_rate=LEARNING_RATE),
    )
    return Network(
        name="benchmark",
        dt=DT,
        seed=_SEED,
        populations=(
            Population(name="in", size=point.n_inputs, model=SpikeSource(rate=point.input_rate)),
            Population(name="hidden", size=point.size, model=LIF(tau_mem=TAU_MEM, v_threshold=THRESHOLD)),
            Population(name="out", size=READOUTS, model=LeakyReadout(tau_mem=TAU_MEM)),
        ),
        projections=(
            Projection(pre="in", post="hidden", connect=FixedInDegree(degree=INPUT_INDEGREE), weight=drive, learning="eprop"),
            Projection(pre="hidden", post="hidden", connect=recurrent, weight=Normal(mean=0.0, std=spread), learning="eprop"),
            Projection(
                pre="hidden",
                post="out",
                connect=AllToAll(),
                weight=Normal(mean=0.0, std=1.0 / math.sqrt(point.size)),
                learning="eprop",
            ),
        ),
        rules=(rule,),
        task=Task(readout="out"),
    )


def input_spikes(point: Point) -> Spikes:
    """Return Poisson spikes of all sources in all steps of a point, the same for every contestant; none in step 0,
    which NEST cannot give."""
    rng = np.random.default_rng(_SEED)
    steps, neurons = [], []
    for step in range(1, point.total_steps):
        fired = np.flatnonzero(rng.random(point.n_inputs) < point.input_rate * DT)
        neurons.append(fired)
        steps.append(np.full(len(fired), step))
    if not steps:
        return Spikes(neuron=np.zeros(0, np.int32), step=np.zeros(0, np.int64))
    return Spikes(neuron=np.concatenate(neurons).astype(np.int32), step=np.concatenate(steps).astype(np.int64))


def targets() -> npt.NDArray[np.float64]:
    """Return the constant target of each readout."""
    return np.random.default_rng(_SEED + 1).normal(0.0, 1.0, READOUTS)


def signal(first: int, n_steps: int) -> Signal:
    """Return the readouts' signal in steps first .. first + n_steps - 1; it begins in step 1, the first that NEST's generators reach."""
    return Signal(target=np.tile(targets(), (n_steps, 1)), window=np.arange(first, first + n_steps) >= 1)


def weight_for_rate(unit: Network, projection: str, rate: float) -> float:
    """Return the factor for the weights of a projection with which the population "hidden" fires at about ``rate`` Hz without learning:
    bisection, which needs a rate that rises with these weights."""
    simulator = Simulator(unit)
    drive, n_steps = simulator.weight(projection), 1500 if rate >= 2.0 else 4000
    low, high = 0.0, 8.0 * THRESHOLD
    for _ in range(16):
        middle = (low + high) / 2
        simulator.reset_dynamics()
        simulator.set_weights({projection: drive * middle})
        simulator.run(300, learn=False)
        spikes = simulator.run(n_steps, learn=False).n_spikes["hidden"]
        if spikes / (unit.population("hidden").size * n_steps * DT) < rate:
            low = middle
        else:
            high = middle
    return high


@functools.lru_cache
def _input_weight(rate: float, input_rate: float) -> float:
    # In-degrees are fixed and recurrent weights have mean 0, so a small network stands for all sizes.
    return weight_for_rate(network(Point(size=400, rate=rate, input_rate=input_rate, input_weight=1.0)), "in->hidden", rate)


def with_input_weight(point: Point) -> Point:
    """Return the point with the mean input weight that makes its hidden neurons fire at about ``rate``, found by bisection without
    learning; the rates that come out are measured and reported."""
    return point if point.input_weight > 0.0 else replace(point, input_weight=_input_weight(point.rate, point.input_rate))


class Replay:
    """A simulator past its warm-up that runs a point's steps again and again from the same state."""

    def __init__(self, point: Point, *, threads: int = 1, window_steps: int | None = None) -> None:
        self.point, self._spikes = point, input_spikes(point)
        self.simulator = Simulator(network(point), algorithm="anchored", threads=threads, window_steps=window_steps)
        self._run(point.warm_up)
        self.state = self.simulator.state()

    def _run(self, n_steps: int) -> Recording:
        signals = {"out": signal(self.simulator.step, n_steps)}
        return self.simulator.run(n_steps, spikes={"in": self._spikes}, signals=signals)

    def rewind(self) -> None:
        """Go back to the end of the warm-up."""
        self.simulator.restore(self.state)

    def turn(self) -> Recording:
        """Run the steps, from wherever the simulator is."""
        return self._run(self.point.steps)
