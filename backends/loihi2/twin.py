"""NumPy twin of an emitted program without learning, in fixed point: the same spikes, u and v as Lava, bit for bit.

Written from Lava's equations (docs/loihi2.md), not from its classes; it reads what is emitted (network.json, network.npz), so that an
error of emission shows as a difference too. One whole network at a time, event-driven in the synapses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.backends.loihi2.arithmetic import ALIGN_SHIFT, STATE_MAX, IntArray, decayed
from neurocompile.ir._types import Int32Array
from neurocompile.ir.signals import Spikes

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TwinResult:
    """spikes : population -> Spikes (sources too); u, v : population -> last state, integers; output : readout -> (n_steps, n) v."""

    spikes: dict[str, Spikes]
    u: dict[str, IntArray]
    v: dict[str, IntArray]
    output: dict[str, IntArray]


def run_twin(spec: Mapping[str, Any], arrays: Arrays, inputs: Mapping[str, Spikes], *, steps: int) -> TwinResult:
    """Run the network of a program for ``steps`` steps; sources without input are Poisson if they have a rate, with the program's draws,
    else silent.

    Raises
    ------
    KeyError
        If an input names no population of the program.
    """
    populations, projections = spec["populations"], spec["projections"]
    by_name = {p["name"]: i for i, p in enumerate(populations)}
    given = {i: drawn for i, p in enumerate(populations) if (drawn := _poisson(i, p, spec, arrays, steps)) is not None}
    given |= {by_name[name]: spikes for name, spikes in inputs.items()}
    starts = {i: np.searchsorted(spikes.step, np.arange(steps + 1)) for i, spikes in given.items()}
    neurons = {i: _Cells(p, arrays) for i, p in enumerate(populations) if p["process"] != "SpikeInput"}
    synapses = [_Synapses(p, arrays, populations) for p in projections]
    outputs: dict[int, list[IntArray]] = {i: [] for i, p in enumerate(populations) if p["process"] == "Readout"}
    events: dict[int, list[tuple[int, npt.NDArray[np.int64]]]] = {i: [] for i in range(len(populations))}
    for step in range(steps):
        arriving = {i: np.zeros(populations[i]["size"], np.int64) for i in neurons}
        for projection, group in zip(projections, synapses, strict=True):
            arriving[projection["post"]] += group.arrive(step)
        spiked: dict[int, npt.NDArray[np.int64]] = {}
        for i in range(len(populations)):
            if i in neurons:
                spiked[i] = neurons[i].step(arriving[i])
                if i in outputs:
                    outputs[i].append(neurons[i].v.copy())
            else:
                source = given.get(i)
                now = slice(0) if source is None else slice(starts[i][step], starts[i][step + 1])
                spiked[i] = np.zeros(0, np.int64) if source is None else np.unique(source.neuron[now]).astype(np.int64)
            if len(spiked[i]):
                events[i].append((step, spiked[i]))
        for projection, group in zip(projections, synapses, strict=True):
            group.send(step, spiked[projection["pre"]])
    spikes = {}
    for i, population in enumerate(populations):
        if i not in outputs:
            neuron = np.concatenate([ids for _, ids in events[i]] or [np.zeros(0, np.int64)])
            when = np.concatenate([np.full(len(ids), step) for step, ids in events[i]] or [np.zeros(0, np.int64)])
            spikes[population["name"]] = Spikes(neuron=neuron.astype(np.int32), step=when.astype(np.int64))
    return TwinResult(
        spikes=spikes,
        u={populations[i]["name"]: cells.u for i, cells in neurons.items()},
        v={populations[i]["name"]: cells.v for i, cells in neurons.items()},
        output={populations[i]["name"]: np.array(rows, np.int64).reshape(steps, -1) for i, rows in outputs.items()},
    )


def _poisson(index: int, population: Mapping[str, Any], spec: Mapping[str, Any], arrays: Arrays, steps: int) -> Spikes | None:
    """Return the spikes that the program draws for a source with a rate."""
    rate = arrays.get(f"{population['key']}.rate")
    if rate is None:
        return None
    probability = np.minimum(rate * spec["dt"], 1.0)
    drawn = np.random.default_rng([spec["seed"], index]).random((steps, population["size"])) < probability
    step, neuron = np.nonzero(drawn)
    return Spikes(neuron=neuron.astype(np.int32), step=step)


class _Cells:
    """Neurons of one population in integers."""

    def __init__(self, population: Mapping[str, Any], arrays: Arrays) -> None:
        n = population["size"]
        start = f"{population['key']}.fixed."
        self.kind = population["process"]
        p = {key[len(start) :]: np.broadcast_to(value, (n,)).astype(np.int64) for key, value in arrays.items() if key.startswith(start)}
        if self.kind == "LIF":  # Lava's own: decay register with an offset of 1, bias as mantissa and exponent, reset to 0
            p |= {"du": p["du"] + 1, "bias": p["bias_mant"] << p["bias_exp"], "v_min": np.full(n, -STATE_MAX)}
        self.p = p
        self.u, self.v = p["u"].copy(), p["v"].copy()
        self.wait, self.rise, self.last = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, bool)

    def step(self, arriving: IntArray) -> npt.NDArray[np.int64]:
        """Advance one step; return the neurons that spike."""
        p = self.p
        u = decayed(self.u, p["du"]) + (arriving << ALIGN_SHIFT)
        if self.kind == "LIF":  # wraps as Lava's: once, and at 2^23 + 1
            u = np.where(u > STATE_MAX + 1, u - 2 * (STATE_MAX + 1), np.where(u <= -(STATE_MAX + 1), u + 2 * (STATE_MAX + 1), u))
        else:
            u = np.clip(u, -STATE_MAX, STATE_MAX)
        self.u = u
        v = np.clip(decayed(self.v, p["dv"]) + u + p["bias"], p["v_min"], STATE_MAX)
        if self.kind == "Readout":
            self.v = v
            return np.zeros(0, np.int64)
        if self.kind == "LIF":
            fired = v > (p["vth"] << ALIGN_SHIFT)
            self.v = np.where(fired, 0, v)
            return np.flatnonzero(fired)
        clamped = (self.wait > 0) & (p["subtract"] == 0)
        waiting = np.maximum(self.wait - 1, 0)
        blocked = clamped | ((p["subtract"] != 0) & (waiting > 0))
        v = np.where(clamped, self.v, v)
        self.rise = decayed(self.rise, p["adapt_decay"]) + p["adapt_beta"] * self.last
        fired = (v > (p["vth"] << ALIGN_SHIFT) + self.rise) & ~blocked
        self.v = np.where(fired, np.where(p["subtract"] != 0, v - p["v_subtract"], p["v_reset"]), v)
        self.wait = np.where(fired, p["t_ref"], waiting)
        self.last = fired
        return np.flatnonzero(fired)


@numba.njit(cache=True, nogil=True)
def _deliver(spiked: IntArray, first: IntArray, post: Int32Array, delay: Int32Array, weight: Int32Array, step: int, ring: IntArray) -> None:
    """Add the weights of all synapses of some neurons to the rows of ``ring`` in which they arrive."""
    for neuron in spiked:
        for k in range(first[neuron], first[neuron + 1]):
            ring[(step + delay[k]) % len(ring), post[k]] += weight[k]


class _Synapses:
    """Synapses of one projection, by source, with a ring of sums still to arrive.

    The exponent's shift applies to each sum that Lava forms: per step of emission, delay, and matrix (``part``). Where it removes nothing
    (not negative, or weights that are multiples of what it divides by) weights are shifted once. Else it rounds down, so sums of
    different matrices and delays are shifted apart.
    """

    def __init__(self, projection: Mapping[str, Any], arrays: Arrays, populations: Any) -> None:
        key, exponent = projection["key"], projection["weight_exp"]
        pre, part = arrays[f"{key}.pre"], arrays[f"{key}.part"]
        n_post, n_pre = populations[projection["post"]]["size"], populations[projection["pre"]]["size"]
        weight, delay = arrays[f"{key}.weight.fixed"].astype(np.int32), arrays[f"{key}.delay"].astype(np.int32)
        self.ring = np.zeros((int(delay.max(initial=0)) + 1, n_post), np.int64)
        self.shift = 0
        if exponent >= 0 or not (weight & ((1 << -exponent) - 1)).any():
            weight, part = weight << exponent if exponent >= 0 else weight >> -exponent, np.zeros_like(part)
        else:
            self.shift, self.sums = -exponent, np.zeros_like(self.ring)
        self.parts = []
        for number in range(int(part.max(initial=0)) + 1):
            chosen = np.flatnonzero(part == number)
            chosen = chosen[np.argsort(pre[chosen], kind="stable")]
            first = np.searchsorted(pre[chosen], np.arange(n_pre + 1)).astype(np.int64)
            self.parts.append((first, arrays[f"{key}.post"][chosen].astype(np.int32), delay[chosen], weight[chosen]))

    def arrive(self, step: int) -> IntArray:
        """Return and clear what arrives in this step."""
        row = self.ring[step % len(self.ring)]
        values: IntArray = row.copy()
        row[:] = 0
        return values

    def send(self, step: int, spiked: npt.NDArray[np.int64]) -> None:
        """Put the weights of all synapses of the neurons that spike (each named once) on their way."""
        if not len(spiked):
            return
        for first, post, delay, weight in self.parts:
            if self.shift == 0:
                _deliver(spiked, first, post, delay, weight, step, self.ring)
                continue
            self.sums[:] = 0
            _deliver(spiked, first, post, delay, weight, step, self.sums)
            self.ring += self.sums >> self.shift
