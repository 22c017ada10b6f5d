"""Integer arithmetic, value by value: emitted program and twin against Lava's own models and against plain Python integers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("lava")

from lava.magma.core.learning.learning_rule import Loihi3FLearningRule
from lava.magma.core.learning.learning_rule_applier import LearningRuleApplierBitApprox
from lava.proc.lif.models import PyLifModelBitAcc
from lava.utils.weightutils import SignMode, clip_weights, truncate_weights

from neurocompile.backends.loihi2.arithmetic import STATE_MAX, WEIGHT_RANGES, quantise_weights
from neurocompile.backends.loihi2.twin.cells import Cells
from neurocompile.backends.loihi2.twin.synapses import Static

EDGES = [0, 1, -1, 63, 64, -64, 4095, 4096, -4096, STATE_MAX, -STATE_MAX, STATE_MAX - 1, 2**22]
states = st.one_of(st.sampled_from(EDGES), st.integers(-STATE_MAX, STATE_MAX))
decays = st.one_of(st.sampled_from([0, 1, 4095]), st.integers(0, 4095))


def towards_zero(state: int, decay: int) -> int:
    return int(np.sign(state)) * (abs(state) * (4096 - decay) // 4096)


def nearest(value: int, mantissa: int, shift: int) -> int:
    """round(value mantissa / 2^shift), halves up."""
    return (2 * value * mantissa + 2**shift) // 2 ** (shift + 1)


def array(value: int) -> np.ndarray:
    return np.array([value], np.int64)


@given(
    state=states,
    decay=st.integers(0, 4096),
    low=st.integers(-STATE_MAX, 0),
    value=states,
    mantissa=st.integers(0, 2**15),
    shift=st.integers(0, 40),
)
def test_emitted_arithmetic(emitted, state, decay, low, value, mantissa, shift):
    assert emitted.decayed(array(state), decay).tolist() == [towards_zero(state, decay)]
    assert emitted.saturated(array(4 * state), low).tolist() == [max(min(4 * state, STATE_MAX), low)]
    assert emitted.scaled(array(value), mantissa, shift).tolist() == [nearest(value, mantissa, shift)]


@pytest.mark.parametrize("step", [8, 32])
@given(wanted=st.lists(st.integers(-3000, 3000), min_size=1, max_size=200))
def test_third_factors_lose_nothing(emitted, step, wanted):
    """Multiples of ``step`` within 7 bits whose sum is what was wanted, but for a remainder of at most half a step once it fits.

    |wanted| <= 3000 / 256 < 12 a step: less than the largest third factor, so nothing saturates.
    """
    remainder, total = np.zeros(1, np.int64), 0
    for value in wanted:
        third, remainder = emitted.diffused(array(value), remainder, step)
        assert third[0] % step == 0
        assert abs(third[0]) <= 127
        total += int(third[0])
    assert total * 256 + int(remainder[0]) == sum(wanted)
    assert abs(int(remainder[0])) <= step * 256 // 2


def test_third_factors_saturate_and_catch_up(emitted):
    """One signal of 300 in 7 bits comes out as 120 + 120 + 56 + ..: late, not lost."""
    remainder, sent = np.zeros(1, np.int64), []
    for value in [300 << 8, 0, 0, 0]:
        third, remainder = emitted.diffused(array(value), remainder, 8)
        sent.append(int(third[0]))
    assert sent == [120, 120, 64, 0]  # 300 rounds to 304 in steps of 8
    assert int(remainder[0]) == (300 - 304) * 256


@settings(max_examples=300, deadline=None)
@given(
    u=states, v=states, du=decays, dv=decays, vth=st.integers(0, 2**17 - 1), mantissa=st.integers(-4095, 4095), exponent=st.integers(0, 7),
    arriving=st.one_of(st.integers(-(2**17), 2**17), st.integers(-400, 400)),
)  # fmt: skip
def test_twin_has_lavas_lif(u, v, du, dv, vth, mantissa, exponent, arriving):
    """One update of Lava's fixed-point LIF itself (u wraps, v saturates, the spike clears v), called as it stands without a process.

    Arriving sums go up to 2^17 (2^23 after alignment), so that wrapping is met.
    """
    lava = SimpleNamespace(
        u=np.array([u], np.int32), v=np.array([v], np.int32), du=du, dv=dv, ds_offset=1, dm_offset=0, max_uv_val=2**23, decay_shift=12,
        decay_unity=4096, vth_shift=6, act_shift=6, effective_bias=np.array([mantissa << exponent], np.int32),
        effective_vth=np.array([vth << 6], np.int32), vth=np.array([vth]),
    )  # fmt: skip
    PyLifModelBitAcc.subthr_dynamics(lava, np.array([arriving], np.int32))
    fired = PyLifModelBitAcc.spiking_activation(lava)
    PyLifModelBitAcc.reset_voltage(lava, fired)
    parameters = {"du": du, "dv": dv, "vth": vth, "bias_mant": mantissa, "bias_exp": exponent, "u": u, "v": v}
    population = {"key": "n0", "size": 1, "process": "LIF", "learning": None}
    cells = Cells(population, {f"n0.fixed.{k}": np.array(x) for k, x in parameters.items()})
    assert cells.step(array(arriving), None, learn=False).tolist() == np.flatnonzero(fired).tolist()
    assert (int(cells.u[0]), int(cells.v[0])) == (int(lava.u[0]), int(lava.v[0]))


@given(st.lists(st.floats(-2.0, 2.0), min_size=1, max_size=20), st.floats(1e3, 1e6), st.integers(0, 7), st.sampled_from([None, "MIXED"]))
def test_lava_takes_emitted_weights_as_they_are(weights, scale, exponent, mode):
    """Lava clips weights and clears low bits (3 -> 2, -3 -> -4) when a connection starts; what is emitted survives that unchanged."""
    q = quantise_weights(np.array(weights), scale, exponent, sign_mode=mode)
    sign = SignMode[q.sign_mode]
    values = q.values.astype(np.int32)
    kept = truncate_weights(clip_weights(values.copy(), sign, num_bits=8), sign, num_weight_bits=8)
    assert np.array_equal(kept, values)


@given(
    weights=st.lists(st.floats(-2.0, 2.0), min_size=1, max_size=20),
    scale=st.floats(1e3, 1e5),
    exponent=st.integers(0, 7),
    mode=st.sampled_from(["MIXED", "EXCITATORY", "INHIBITORY"]),
    bits=st.integers(1, 8),
)
def test_fewer_bits_are_a_coarser_lattice_in_the_same_range(weights, scale, exponent, mode, bits):
    """2^bits values, and each weight takes the nearest one."""
    if mode != "MIXED":
        weights = [abs(w) if mode == "EXCITATORY" else -abs(w) for w in weights]
    q = quantise_weights(np.array(weights), scale, exponent, sign_mode=mode, bits=bits)
    step = 2 ** (8 - bits + (mode == "MIXED"))
    low, high = WEIGHT_RANGES[mode]
    lattice = [v for v in range(-256, 257) if v % step == 0 and low <= v <= high]
    assert len(lattice) == 2**bits
    assert (q.low, q.high) == (lattice[0], lattice[-1])
    for weight, value in zip(weights, q.values.tolist(), strict=True):
        assert value in lattice
        assert abs(value - weight / q.unit) <= min(abs(v - weight / q.unit) for v in lattice) + 1e-6


@settings(deadline=None)  # compiles
@given(exponent=st.integers(-3, 7), data=st.data())
def test_twins_synapses_are_a_loop_over_spikes(exponent, data):
    """Delays, doubled synapses and the shift of each sum (arithmetic, after summing) against one addition at a time."""
    m = data.draw(st.integers(1, 12))
    column = lambda low, high: np.array(data.draw(st.lists(st.integers(low, high), min_size=m, max_size=m)))  # noqa: E731
    pre, post, weight, delay = column(0, 2), column(0, 2), column(-256, 254), column(1, 6)
    part = np.array([sum((pre[j], post[j]) == (pre[k], post[k]) for j in range(k)) for k in range(m)])
    arrays = {"s0.pre": pre, "s0.post": post, "s0.weight.fixed": weight, "s0.delay": delay, "s0.part": part}
    twin = Static({"key": "s0", "weight_exp": exponent}, arrays, n_pre=3, n_post=3)
    spiked = data.draw(st.lists(st.sets(st.integers(0, 2)), min_size=1, max_size=10))
    sums: dict[tuple[int, int, int, int], int] = {}  # (arrival, target, step of emission, part) -> sum
    for step, neurons in enumerate(spiked):
        for k in range(m):
            if pre[k] in neurons:
                key = (step + int(delay[k]), int(post[k]), step, int(part[k]))
                sums[key] = sums.get(key, 0) + int(weight[k])
    for step in range(len(spiked) + 7):
        expected = [0, 0, 0]
        for (arrival, target, _, _), total in sums.items():
            if arrival == step:
                expected[target] += total * 2**exponent if exponent >= 0 else total // 2**-exponent
        arrived = np.zeros(3, np.int64)
        twin.arrive(step, arrived)
        assert arrived.tolist() == expected
        twin.send(step, np.array(sorted(spiked[step]) if step < len(spiked) else [], np.int64))


def product_in_python(state: int, terms: list[tuple[int, int, list[tuple[int, int]]]]) -> int:
    """(state << 7) plus mantissa * factors >> max(0, bits + 4 - 15) << (exponent + 7), limited to 16 bits after every product."""
    total = state << 7
    for mantissa, exponent, factors in terms:
        product, bits = mantissa, 4
        for value, width in factors:
            product *= min(max(value, -(2**width)), 2**width - 1)
            bits += width
        product = (product >> max(0, bits - 15)) << (exponent + 7)
        total = min(max(total + min(max(product, -(2**15) - 1), 2**15 - 1), -(2**15) - 1), 2**15 - 1)
    return total


@given(
    x1=st.integers(0, 127),
    x0=st.booleans(),
    y1=st.sampled_from([1, 2, 4, 8, 16, 32]),
    y3=st.integers(-127, 127),
    t=st.integers(-257, 255),
    d=st.integers(0, 255),
)
def test_lavas_learning_engine_is_what_the_gains_count_on(x1, x0, y1, y3, t, d):
    """The hidden shifts (x1 y3 by 3, t y1 and (d-32) y1 by 5, x0 y3 by none), on Lava's own rule applier."""
    rule = Loihi3FLearningRule(
        dt="-1*2^-6*u0*x1*y3 + 1*2^-5*x0*y3 - 1*2^5*u0*t*y1", dw="-1*u0*(d-32)*y1",
        dd="-1*2^-5*u0*t*y3 - 1*2^3*u0*(d-32)*y1", x1_impulse=16, x1_tau=20, t_epoch=1,
    )  # fmt: skip
    values: dict[str, Any] = {
        "shape": (1, 1), "x0": np.array([[x0]]), "u": 1, "tag_1": np.array([[t]]), "tag_2": np.array([[d]]),
        **{f"{name}_{dep}": np.array([[value]]) for name, value in (("x1", x1), ("y1", y1), ("y3", y3)) for dep in ("x0", "u")},
    }  # fmt: skip
    expected = {
        "dt": (t, [(-1, -6, [(x1, 7), (y3, 7)]), (int(x0), -5, [(y3, 7)]), (-1, 5, [(t, 9), (y1, 7)])]),
        "dw": (10, [(-1, 0, [(d - 32, 9), (y1, 7)])]),
        "dd": (d, [(-1, -5, [(t, 9), (y3, 7)]), (-1, 3, [(d - 32, 9), (y1, 7)])]),
    }
    for name, (state, terms) in expected.items():
        found = LearningRuleApplierBitApprox(getattr(rule, name)).apply(np.array([[state << 7]]), **values)
        assert int(found[0, 0]) == product_in_python(state, terms), name
