"""The twin against a second implementation: one neuron, one synapse and one Python integer at a time, on random networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurocompile.backends.loihi2.emit import describe
from neurocompile.backends.loihi2.lowered import Loihi2Network
from neurocompile.backends.loihi2.twin import run_twin
from neurocompile.ir import ALIF, LIF, CubaLIF, Explicit, LeakyReadout, Network, Population, Projection, Reset, SpikeSource
from neurocompile.ir.signals import Spikes

LIMIT = 2**23 - 1


def dec(state: int, decay: int) -> int:
    size = abs(state) * (4096 - decay) >> 12
    return size if state >= 0 else -size


class Scalar:
    """One neuron of docs/loihi2.md, 'Arithmetic', in Python integers."""

    def __init__(self, kind: str, p: dict[str, int]) -> None:
        self.kind, self.p = kind, p
        self.u, self.v, self.b, self.wait, self.spiked = p["u"], p["v"], 0, 0, False

    def step(self, a: int) -> bool:
        p, own = self.p, self.kind != "LIF"
        self.u = dec(self.u, p["du"] + (0 if own else 1)) + a * 64
        if own:
            self.u = max(-LIMIT, min(LIMIT, self.u))
        elif self.u > 2**23:
            self.u -= 2**24
        elif self.u <= -(2**23):
            self.u += 2**24
        bias = p["bias"] if own else p["bias_mant"] * 2 ** p["bias_exp"]
        v = max(p["v_min"] if own else -LIMIT, min(LIMIT, dec(self.v, p["dv"]) + self.u + bias))
        if self.kind == "Readout":
            self.v = v
            return False
        if not own:
            spike = v > p["vth"] * 64
            self.v = 0 if spike else v
            return spike
        self.b = dec(self.b, p["adapt_decay"]) + (p["adapt_beta"] if self.spiked else 0)
        if p["subtract"]:  # integrates while refractory
            self.wait = max(0, self.wait - 1)
            able = self.wait == 0
            self.v = v
        else:  # stays where it was reset to
            able = self.wait == 0
            self.wait = max(0, self.wait - 1)
            self.v = v if able else self.v
        self.spiked = able and self.v > p["vth"] * 64 + self.b
        if self.spiked:
            self.v = self.v - p["v_subtract"] if p["subtract"] else p["v_reset"]
            self.wait = p["t_ref"]
        return self.spiked


def brute_force(spec: dict[str, Any], arrays: dict[str, Any], inputs: dict[str, Spikes], steps: int) -> tuple[set[Any], dict[Any, int]]:
    """Return ({(population, step, neuron)}, {(population, neuron): last v})."""
    cells: dict[tuple[int, int], Scalar] = {}
    for i, population in enumerate(spec["populations"]):
        start = f"{population['key']}.fixed."
        for n in range(population["size"]):
            if population["process"] != "SpikeInput":
                p = {k[len(start) :]: int(x if x.ndim == 0 else x[n]) for k, x in arrays.items() if k.startswith(start)}
                cells[i, n] = Scalar(population["process"], p)
    given = {(i, int(s), int(n)) for i, p in enumerate(spec["populations"]) for s, n in zip(*_pairs(inputs, p["name"]), strict=True)}
    spikes, arriving = set(), {}
    for step in range(steps):
        fired = {(i, n) for (i, n), cell in cells.items() if cell.step(arriving.get((step, i, n), 0))}
        fired |= {(i, n) for i, s, n in given if s == step}
        spikes |= {(spec["populations"][i]["name"], step, n) for i, n in fired}
        for projection in spec["projections"]:
            key, shift = projection["key"], projection["weight_exp"]
            sums: dict[tuple[Any, int], int] = {}  # what one matrix sends to one neuron over one delay is shifted at once
            for k in range(len(arrays[f"{key}.pre"])):
                if (projection["pre"], int(arrays[f"{key}.pre"][k])) in fired:
                    to = (step + int(arrays[f"{key}.delay"][k]), projection["post"], int(arrays[f"{key}.post"][k]))
                    of = (to, int(arrays[f"{key}.part"][k]))
                    sums[of] = sums.get(of, 0) + int(arrays[f"{key}.weight.fixed"][k])
            for (to, _), total in sums.items():
                arriving[to] = arriving.get(to, 0) + math.floor(total * Fraction(2) ** shift)
    return spikes, {(spec["populations"][i]["name"], n): cell.v for (i, n), cell in cells.items()}


def _pairs(inputs: dict[str, Spikes], name: str) -> tuple[list[int], list[int]]:
    return (inputs[name].step.tolist(), inputs[name].neuron.tolist()) if name in inputs else ([], [])


@st.composite
def neuron_models(draw: Any, n: int = 3) -> Any:
    """Any neuron, with scalar or per-neuron parameters."""

    def value(low: float, high: float) -> Any:
        one = st.floats(low, high)
        return draw(st.one_of(one, st.lists(one, min_size=n, max_size=n).map(np.array)))

    kind = draw(st.sampled_from(["lif", "plain", "cuba", "alif", "readout"]))
    common = {"tau_mem": value(2e-3, 0.2), "v_leak": value(-0.2, 0.0), "bias": value(-0.02, 0.05)}
    if kind == "readout":
        return LeakyReadout(**common, tau_syn=draw(st.sampled_from([0.0, 0.005])), i_init=draw(st.sampled_from([0.0, -5.0])))
    common |= {"v_threshold": value(0.2, 1.5)}
    if kind == "plain":  # Lava's own LIF, if the parameters allow it
        return LIF(tau_mem=0.01, v_threshold=common["v_threshold"], reset=Reset.TO_VALUE, bias=common["bias"])
    reset = draw(st.sampled_from(Reset))
    common |= {"reset": reset, "t_ref": draw(st.integers(0, 4)) * 1e-3, "v_min": draw(st.sampled_from([-np.inf, -0.3]))}
    if reset is Reset.TO_VALUE:
        common["v_reset"] = draw(st.floats(-0.2, 0.1))
    if kind == "cuba":
        return CubaLIF(**common, tau_syn=value(1e-3, 0.02), i_init=value(-0.1, 0.2))
    return ALIF(**common, adapt_beta=value(0.0, 0.5), adapt_tau=value(5e-3, 0.2)) if kind == "alif" else LIF(**common)


@st.composite
def networks(draw: Any) -> Network:
    """A source and two populations of three, with recurrence, delays up to 63 and several synapses between the same two neurons.

    The first weight of a projection is at least 0.01: where all are far below the bias, 13-bit biases do not suffice (NC310).
    """

    def synapses() -> Explicit:
        m = draw(st.integers(1, 12))
        column = lambda values: draw(st.lists(values, min_size=m, max_size=m))  # noqa: E731
        return Explicit(
            pre=column(st.integers(0, 2)),
            post=column(st.integers(0, 2)),
            weight=[draw(st.floats(0.01, 1.5)), *column(st.one_of(st.floats(-1.0, 1.5), st.sampled_from([0.0, 1e-4, -1e-6, 1e-300])))[1:]],
            delay=column(st.one_of(st.integers(1, 4), st.just(63))),
        )

    models = {"in": SpikeSource(), "a": draw(neuron_models()), "b": draw(neuron_models())}
    ends = [("in", "a"), ("in", "b")]
    ends += [(pre, post) for pre in "ab" for post in "ab" if not isinstance(models[pre], LeakyReadout) and draw(st.booleans())]
    return Network(
        name="random",
        dt=1e-3,
        populations=tuple(Population(name=name, size=3, model=model) for name, model in models.items()),
        projections=tuple(Projection(pre=pre, post=post, connect=synapses()) for pre, post in ends),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    network=networks(),
    spiked=st.sets(st.tuples(st.integers(0, 59), st.integers(0, 2)), max_size=80),
    down=st.sampled_from([0, 0, 8, 9, 12]),
)
def test_twin_equals_a_scalar_loop(lower: Callable[..., Loihi2Network], network: Network, spiked: set[tuple[int, int]], down: int) -> None:
    """``down`` lowers the exponents of the weights, also below 0, where sums are rounded down."""
    spec, arrays = describe(lower(network))
    for projection in spec["projections"]:
        projection["weight_exp"] -= down
    step, neuron = zip(*sorted(spiked), strict=True) if spiked else ((), ())
    inputs = {"in": Spikes(neuron=np.array(neuron, np.int32), step=np.array(step, np.int64))}
    twin = run_twin(spec, arrays, inputs, steps=70)
    spikes, last = brute_force(spec, arrays, inputs, 70)
    found = {(name, int(s), int(n)) for name, s_ in twin.spikes.items() for s, n in zip(s_.step, s_.neuron, strict=True)}
    assert found == spikes
    assert {key: int(twin.v[key[0]][key[1]]) for key in last} == last


def test_inputs_must_name_a_population(lower: Callable[..., Loihi2Network], learner: Callable[..., Network]) -> None:
    spec, arrays = describe(lower(learner()))
    with pytest.raises(KeyError):
        run_twin(spec, arrays, {"nobody": Spikes(neuron=np.zeros(0, np.int32), step=np.zeros(0, np.int64))}, steps=1)


WIDTHS = {
    "du": (0, 4096), "dv": (0, 4096), "adapt_decay": (0, 4096), "vth": (0, 2**17 - 1), "bias": (-(4095 << 7), 4095 << 7),
    "bias_mant": (-4095, 4095), "bias_exp": (0, 7), "u": (-LIMIT, LIMIT), "v": (-LIMIT, LIMIT), "v_min": (-LIMIT, LIMIT),
    "v_reset": (-LIMIT, LIMIT), "v_subtract": (-LIMIT, LIMIT), "adapt_beta": (0, LIMIT), "subtract": (0, 1), "t_ref": (0, 2**16),
}  # fmt: skip
RANGES = {"MIXED": (-256, 254), "EXCITATORY": (0, 255), "INHIBITORY": (-255, 0)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(network=networks())
def test_every_emitted_integer_has_its_width(lower: Callable[..., Loihi2Network], network: Network) -> None:
    lowered = lower(network)
    spec, arrays = describe(lowered)
    for population, made in zip(spec["populations"], lowered.populations, strict=True):
        start = f"{population['key']}.fixed."
        fixed = {key[len(start) :]: value for key, value in arrays.items() if key.startswith(start)}
        for name, value in fixed.items():
            low, high = WIDTHS[name]
            assert value.dtype.kind == "i"
            assert low <= value.min(), name
            assert value.max() <= high, name
            assert value.shape in {(), (population["size"],)}, name
        if "vth" in fixed:  # four times the threshold fits the membrane, to the rounding of one threshold unit
            assert 4 * (int(fixed["vth"].max()) << 6) <= LIMIT + 4 * 64
        model = network.population(population["name"]).model
        if isinstance(model, LIF | LeakyReadout):  # decays to half of 1/4096, neuron by neuron
            register = fixed["dv"] + 0
            exact = np.exp(-network.dt / np.asarray(model.tau_mem))
            assert np.all(np.abs(1 - register / 4096 - exact) <= 0.5 / 4096 + (1 / 4096 if made.process == "LIF" else 0))
            assert (np.ptp(register) > 0) <= (np.ptp(exact) > 0)
    for projection in spec["projections"]:
        key = projection["key"]
        values, part = arrays[f"{key}.weight.fixed"], arrays[f"{key}.part"]
        low, high = RANGES[projection["sign_mode"]]
        assert [low, high] == projection["weight_range"]
        assert low <= values.min() <= values.max() <= high
        assert 0 <= projection["weight_exp"] <= 7
        assert 1 <= arrays[f"{key}.delay"].min() <= arrays[f"{key}.delay"].max() <= 63
        # a matrix holds one synapse a pair, and the k-th of a pair goes to the k-th matrix, in order
        pairs = list(zip(arrays[f"{key}.pre"].tolist(), arrays[f"{key}.post"].tolist(), strict=True))
        assert part.tolist() == [pairs[:k].count(pair) for k, pair in enumerate(pairs)]
        assert projection["parts"] == int(part.max()) + 1
