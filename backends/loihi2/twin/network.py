"""A whole emitted program in integers, step by step: the same spikes, states and weights as Lava, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.backends.loihi2.arithmetic import STATE_MAX, IntArray
from neurocompile.backends.loihi2.twin.cells import Cells, broadcast
from neurocompile.backends.loihi2.twin.engine import Plastic
from neurocompile.backends.loihi2.twin.synapses import Static
from neurocompile.ir._types import Int32Array
from neurocompile.ir.signals import Signal, Spikes

Arrays = Mapping[str, npt.NDArray[Any]]
_WEIGHT_SEED = 2
"""Lava rounds weights with this seed, whatever the rule's"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TwinResult:
    """spikes : population -> Spikes (sources too); u, v : population -> last state, integers; output : readout -> (n_steps, n) v;
    weights : projection -> integers in the program's order; tags : plastic projection -> (t, d)."""

    spikes: dict[str, Spikes]
    u: dict[str, IntArray]
    v: dict[str, IntArray]
    output: dict[str, IntArray]
    weights: dict[str, Int32Array] = field(default_factory=dict)
    tags: dict[str, tuple[Int32Array, Int32Array]] = field(default_factory=dict)


class _Draws:
    """Lava's random numbers: one of each kind a step, the same for all synapses and all plastic projections of a program."""

    def __init__(self, seed: int, *, done: int = 0) -> None:
        self.done = 0
        self._x, self._y = np.random.default_rng(seed), np.random.default_rng(seed + 2)
        self._weight = np.random.default_rng(_WEIGHT_SEED)
        for generator in (self._x, self._y, self._weight):
            generator.random()  # drawn at the start and not used
        if done:
            self.advance(done)

    def advance(self, steps: int) -> npt.NDArray[np.float64]:
        """Return the numbers of some steps, (steps, 3): for x traces, y traces, synaptic variables. Traces use every second."""
        self.done += steps
        return np.column_stack((self._x.random(2 * steps)[1::2], self._y.random(2 * steps)[1::2], self._weight.random(steps)))


class Twin:
    """A program (network.json, network.npz) that runs here.

    Parameters
    ----------
    learning
        Whether plastic projections are those that learn. False: all are static, as in the program's ``--no-learn``.

    Attributes
    ----------
    step : int
        Steps done.
    """

    def __init__(self, spec: Mapping[str, Any], arrays: Arrays, *, learning: bool = False) -> None:
        self.spec, self.arrays = spec, arrays
        self.populations, self.projections = spec["populations"], spec["projections"]
        self.learning = learning and spec["learning"]
        self.step = 0
        self.cells = {i: Cells(p, arrays) for i, p in enumerate(self.populations) if p["process"] != "SpikeInput"}
        self._arriving = {i: np.zeros(self.populations[i]["size"], np.int64) for i in self.cells}
        self.static: dict[int, Static] = {}
        self.plastic: dict[int, Plastic] = {}
        for number, projection in enumerate(self.projections):
            sizes = {f"n_{end}": self.populations[projection[end]]["size"] for end in ("pre", "post")}
            if self.learning and projection["rule"] is not None:
                self.plastic[number] = Plastic(projection, arrays, **sizes)
            else:
                self.static[number] = Static(projection, arrays, **sizes)
        self._feedback = [
            (f["readout"], f["post"], np.ascontiguousarray(arrays[f"{f['key']}.fixed"].T, np.int64)) for f in spec["feedback"]
        ]
        self._rewards = [(r["reward"], r["post"]) for r in spec.get("rewards", [])]
        self._rewarded = np.zeros(len(self.populations), np.int64)
        self._draws = _Draws(spec["seed"] % 2**32)
        self._poisson = self._poisson_generators()

    def reset(self) -> None:
        """Put neurons, traces, eligibility and what is on its way at rest. Weights with their low bits, the number of steps done and the
        random numbers go on."""
        self._rewarded[:] = 0
        for _, part in self._parts():
            part.reset()

    def weights(self) -> dict[str, Int32Array]:
        """Projection -> weights in the program's order, integers."""
        return {
            p["name"]: self.plastic[i].weights() if i in self.plastic else self.arrays[f"{p['key']}.weight.fixed"].astype(np.int32)
            for i, p in enumerate(self.projections)
        }

    def set_weights(self, weights: Mapping[str, IntArray]) -> None:
        """Set the weights of plastic projections, integers in the program's order, clipped to their range; their low bits stay."""
        for i, plastic in self.plastic.items():
            if self.projections[i]["name"] in weights:
                plastic.set_weights(weights[self.projections[i]["name"]])

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return all that changes, by name; :meth:`restore` of a twin of the same program goes on from it bit-identically."""
        found: dict[str, npt.NDArray[Any]] = {
            "counts": np.array([self.step, self._draws.done], np.int64),
            "rewarded": self._rewarded.copy(),
        }
        for where, part in self._parts():
            found |= {f"{where}:{name}": values.copy() for name, values in part.changing().items()}
        return found

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from what :meth:`state` returned.

        Raises
        ------
        ValueError
            If it is the state of another program.
        """
        own = self.state()
        if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in state.items()}:
            raise ValueError("the state belongs to another program")
        self.step, done = (int(n) for n in state["counts"])
        self._rewarded[:] = state["rewarded"]
        self._draws = _Draws(self.spec["seed"] % 2**32, done=done)
        self._poisson = self._poisson_generators()
        for i, generator in self._poisson.items():
            numbers = generator.bit_generator
            assert isinstance(numbers, np.random.PCG64)  # numpy's default
            numbers.advance(self.step * self.populations[i]["size"])
        for where, part in self._parts():
            for name, values in part.changing().items():
                values[...] = state[f"{where}:{name}"]

    def _parts(self) -> Iterator[tuple[str, Cells | Static | Plastic]]:
        yield from ((f"cells:{i}", cells) for i, cells in self.cells.items())
        yield from ((f"static:{i}", static) for i, static in self.static.items())
        yield from ((f"plastic:{i}", plastic) for i, plastic in self.plastic.items())

    def _poisson_generators(self) -> dict[int, np.random.Generator]:
        return {
            i: np.random.default_rng([self.spec["seed"], i]) for i, p in enumerate(self.populations) if f"{p['key']}.rate" in self.arrays
        }

    def run(
        self, steps: int, inputs: Mapping[str, Spikes], signals: Mapping[str, Signal] | None = None, *, learn: bool = True
    ) -> TwinResult:
        """Run ``steps`` steps.

        Parameters
        ----------
        inputs
            Population -> spikes, steps counted from the twin's first one. Sources without are Poisson if they have a rate, with the
            program's draws, else silent.
        signals
            Readout -> targets and window; row t belongs to the t-th step of this run.
        learn
            False: weights, traces and tags stay as they are in this run.

        Raises
        ------
        KeyError
            If an input names no population of the program.
        """
        learn = learn and self.learning
        by_name = {p["name"]: i for i, p in enumerate(self.populations)}
        begin = self.step
        given = {i: self._drawn(i, steps) for i in self._poisson}
        given |= {by_name[name]: spikes for name, spikes in inputs.items()}
        sources = {i: self._by_step(i, spikes, steps) for i, spikes in given.items()}
        targets = {by_name[name]: self._target(by_name[name], signal, steps) for name, signal in (signals or {}).items()} if learn else {}
        draws = self._draws.advance(steps) if learn else None
        outputs: dict[int, list[IntArray]] = {i: [] for i, p in enumerate(self.populations) if p["process"] == "Readout"}
        events: dict[int, list[IntArray]] = {i: [] for i in range(len(self.populations))}
        for now in range(steps):
            self._deliver()
            spiked: dict[int, IntArray] = {}
            heard = self._learning_signals() if learn else {}
            for i in range(len(self.populations)):
                if i in self.cells:
                    spiked[i] = self.cells[i].step(self._arriving[i], heard.get(i), learn=learn)
                    if i in outputs:
                        outputs[i].append(self.cells[i].v.copy())
                        if learn:
                            target, window = targets.get(i, (None, None))
                            nothing = target is None or window is None or now >= len(window)
                            self.cells[i].compare(
                                np.zeros_like(self.cells[i].v) if nothing else target[now],  # type: ignore[index]
                                0 if nothing else int(window[now]),  # type: ignore[index]
                            )
                else:
                    spiked[i] = sources[i][now] if i in sources else _NOBODY
                events[i].append(spiked[i])
            self._send(spiked, None if draws is None else draws[now])
            self.step += 1
        return self._result(begin, steps, events, outputs)

    def _deliver(self) -> None:
        for row in self._arriving.values():
            row[:] = 0
        for number, static in self.static.items():
            static.arrive(self.step, self._arriving[self.projections[number]["post"]])
        for number, plastic in self.plastic.items():
            self._arriving[self.projections[number]["post"]] += plastic.arriving

    def _learning_signals(self) -> dict[int, IntArray]:
        """Population -> what the errors, or the rewards, of the step before bring it."""
        heard: dict[int, IntArray] = {}
        for readout, post, weights in self._feedback:
            if post not in heard:
                heard[post] = np.zeros(weights.shape[1], np.int64)
            broadcast(self.cells[readout].error, weights, heard[post])
        for reward, post in self._rewards:
            heard[post] = np.full(self.populations[post]["size"], self._rewarded[reward])
        return heard

    def _send(self, spiked: Mapping[int, IntArray], draws: npt.NDArray[np.float64] | None) -> None:
        for reward, _ in self._rewards:
            self._rewarded[reward] = len(spiked[reward])
        for number, static in self.static.items():
            static.send(self.step, spiked[self.projections[number]["pre"]])
        for number, plastic in self.plastic.items():
            pre, post = self.projections[number]["pre"], self.projections[number]["post"]
            plastic.emit(spiked[pre])
            if draws is not None:
                plastic.learn(self.step, spiked[pre], spiked[post], self.cells[post].sent, draws)

    def _drawn(self, index: int, steps: int) -> Spikes:
        """Return the spikes that the program draws for a source with a rate."""
        population = self.populations[index]
        probability = np.minimum(self.arrays[f"{population['key']}.rate"] * self.spec["dt"], 1.0)
        step, neuron = np.nonzero(self._poisson[index].random((steps, population["size"])) < probability)
        return Spikes(neuron=neuron.astype(np.int32), step=step + self.step)

    def _by_step(self, index: int, spikes: Spikes, steps: int) -> list[IntArray]:
        """Return the neurons that spike in each of the next steps, each once, in order."""
        size = self.populations[index]["size"]
        first, last = np.searchsorted(spikes.step, (self.step, self.step + steps))
        key = np.unique((spikes.step[first:last].astype(np.int64) - self.step) * size + spikes.neuron[first:last])
        step, neuron = np.divmod(key, size)
        return np.split(neuron, np.searchsorted(step, np.arange(1, steps)))

    def _target(self, index: int, signal: Signal, steps: int) -> tuple[IntArray, npt.NDArray[np.bool_]]:
        population = self.populations[index]
        scaled = np.rint((signal.target[:steps].astype(np.float64) - population["offset"]) * population["scale"])
        return np.clip(scaled, -STATE_MAX, STATE_MAX).astype(np.int64), np.asarray(signal.window[:steps], np.bool_)

    def _result(self, begin: int, steps: int, events: Mapping[int, list[IntArray]], outputs: Mapping[int, list[IntArray]]) -> TwinResult:
        names = [p["name"] for p in self.populations]
        spikes = {}
        for i, name in enumerate(names):
            if i not in outputs:
                when = np.repeat(np.arange(begin, begin + steps), [len(ids) for ids in events[i]])
                neuron = np.concatenate([*events[i], _NOBODY])
                spikes[name] = Spikes(neuron=neuron.astype(np.int32), step=when.astype(np.int64))
        return TwinResult(
            spikes=spikes,
            u={names[i]: cells.u.copy() for i, cells in self.cells.items()},
            v={names[i]: cells.v.copy() for i, cells in self.cells.items()},
            output={names[i]: np.array(rows, np.int64).reshape(steps, self.populations[i]["size"]) for i, rows in outputs.items()},
            weights=self.weights(),
            tags={self.projections[i]["name"]: plastic.tags() for i, plastic in self.plastic.items()},
        )


_NOBODY = np.zeros(0, np.int64)


def run_twin(
    spec: Mapping[str, Any],
    arrays: Arrays,
    inputs: Mapping[str, Spikes],
    *,
    steps: int,
    signals: Mapping[str, Signal] | None = None,
    learn: bool = False,
) -> TwinResult:
    """Run a program for ``steps`` steps from its start (:meth:`Twin.run`)."""
    return Twin(spec, arrays, learning=learn).run(steps, inputs, signals)
