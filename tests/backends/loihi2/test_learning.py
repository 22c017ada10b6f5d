"""E-prop as a Loihi rule: coefficients the engine takes, gains that are the learning rate, low bits against rounding noise."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("lava")

from lava.magma.core.learning.learning_rule import Loihi3FLearningRule

from neurocompile.backends.loihi2 import learning as eprop
from neurocompile.backends.loihi2.validate import cosine
from neurocompile.ir import EProp, GradientDescent, Surrogate
from neurocompile.ir.errors import InputError


def rule_of(learning_rate: float, kappa: float = 0.95, height: float = 0.5) -> EProp:
    surrogate = Surrogate(height=height, width=0.6)
    return EProp(surrogate=surrogate, kappa=kappa, optimizer=GradientDescent(learning_rate=learning_rate))


def coefficients(text: str) -> list[tuple[int, int]]:
    return [(int(m), int(e)) for m, e in re.findall(r"(-?\d+)\*2\^(-?\d+)", text)]


relaxed = settings(max_examples=60, deadline=None)
gains_given = {
    "rate": st.floats(-14.0, 4.0).map(lambda x: 10.0**x),
    "kappa": st.floats(0.0, 0.999),
    "scale": st.floats(2.0, 7.0).map(lambda x: 10.0**x),
    "exponents": st.lists(st.integers(0, 7), min_size=1, max_size=3),
    "reference": st.floats(0.01, 100.0),
    "low_bits": st.booleans(),
}


@relaxed
@given(**gains_given)
def test_the_engine_takes_every_rule(rate, kappa, scale, exponents, reference, low_bits):
    """Mantissas -8 .. 7, exponents -7 .. 8, and Lava's own parser agrees, from learning rates of 1e-14 to 1e4."""
    rule, common = rule_of(rate, kappa), {"scale": scale, "alpha": 0.95, "weight_exponents": exponents, "reference": reference}
    hidden, readout = eprop.hidden_gains(rule, **common, low_bits=low_bits), eprop.readout_gains(rule, **common)
    for exponent in exponents:
        for made in (
            eprop.hidden_rule(rule, hidden, weight_exponent=exponent, alpha=0.95),
            eprop.readout_rule(readout, weight_exponent=exponent, alpha=0.95),
        ):
            texts = {name: made[f"{name}_fixed"] for name in ("dw", "dd", "dt")}
            for text in filter(None, texts.values()):
                assert all(-8 <= m <= 7 and -7 <= e <= 8 for m, e in coefficients(text)), text
            parsed = Loihi3FLearningRule(**texts, t_epoch=1, x1_impulse=made["x1_impulse_fixed"], x1_tau=made["x1_tau"])
            assert len(parsed.dw.products) == 1
            assert 0 <= made["d_start"] <= 63  # 6 bits on chips


@relaxed
@given(**gains_given)
def test_gains_are_the_learning_rate(rate, kappa, scale, exponents, reference, low_bits):
    """y3 times eligibility times coefficient, all shifts counted, is -dw/eta in membrane units: exactly, whatever was chosen.

    Relative 1e-9: everything but the learning rate is a power of two or cancels.
    """
    rule, common = rule_of(rate, kappa), {"scale": scale, "alpha": 0.95, "weight_exponents": exponents, "reference": reference}
    hidden, readout = eprop.hidden_gains(rule, **common, low_bits=low_bits), eprop.readout_gains(rule, **common)
    for exponent in exponents:
        unit = 2.0 ** (6 + exponent) / scale  # membrane units of one weight unit
        for gains, shift in ((hidden, 5), (readout, 3)):
            low_unit = unit / 2 ** (gains.fraction_bits or 0)
            per_step = gains.signal * gains.tag / 2**shift * gains.change(exponent).value * low_unit
            assert per_step == pytest.approx(rate, rel=1e-9)
    # tag units per eligibility, from the rule's own coefficient: x1 = 16 alpha zbar and y2 = 127 psi / height, shifted right by 3
    (_, grow), *_ = coefficients(eprop.hidden_rule(rule, hidden, weight_exponent=exponents[0], alpha=0.95)["dt_fixed"])
    assert hidden.tag == pytest.approx(16 * 0.95 * 127 / 0.5 / 8 * 2.0**grow, rel=1e-9)


@relaxed
@given(**gains_given)
def test_low_bits_cannot_overflow_in_one_step(rate, kappa, scale, exponents, reference, low_bits):
    """Largest trace, tag and third factor at once: 127 * 120 >> 3 and 255 * 96 >> 5, beside the largest remainder 2^m - 1."""
    rule, common = rule_of(rate, kappa), {"scale": scale, "alpha": 0.95, "weight_exponents": exponents, "reference": reference}
    for gains, largest, room in (
        (eprop.readout_gains(rule, **common), 127 * 120 >> 3, 255),
        (eprop.hidden_gains(rule, **common), 255 * 96 >> 5, 31),
    ):
        bits = gains.fraction_bits
        assert gains.carry * 2**bits == 32
        for exponent in exponents:
            if bits > 0:  # m = 0 is left for learning rates that move weights by more than 16 units a step
                assert largest * gains.change(exponent).value <= room - (2**bits - 1)


def model(plastic: Any, made: dict[str, Any], *, pre: list[int], post: list[int], n_pre: int, n_post: int, weight: int = 0) -> Any:
    """A ``PlasticFixed`` without Lava's runtime: ``learn`` is all it is asked to do."""
    texts = {name: made[f"{name}_fixed"] for name in ("dw", "dd", "dt")}
    rule = Loihi3FLearningRule(**texts, t_epoch=1, rng_seed=1, x1_impulse=made["x1_impulse_fixed"], x1_tau=made["x1_tau"])
    found = plastic.PlasticFixed({
        "learning_rule": rule, "pre": np.array(pre), "post": np.array(post), "shape": (n_post, n_pre), "weight_exp": 0,
        "weight_range": (-256, 254), "steps": 1, "path": "",
    })  # fmt: skip
    n = len(pre)
    found.weights, found.tag, found.tag_2 = (np.full(n, x) for x in (weight, made["tag_start"], made["d_start"]))
    return found


def learn(model: Any, spiked: np.ndarray, y1: int, y2: np.ndarray, y3: np.ndarray) -> None:
    model.time_step = 1
    model.learn(spiked, {"y1": np.full(len(y3), y1), "y2": y2, "y3": y3})


@relaxed
@given(bits=st.integers(0, 5), state=st.integers(-255, 31), weight=st.integers(-100, -1))
def test_whole_units_move_from_the_low_bits_and_nothing_is_lost(plastic, bits, state, weight):
    """w + s' / 2^m (s' = -s) stays the same and the remainder ends in 0 .. 2^m - 1: integers, no randomness, from any state."""
    gains = eprop.Gains(tag=1.0, signal=1.0, dw_exponent=-7, dt_exponent=0, y3_reference=1.0, fraction_bits=bits)
    synapse = model(plastic, eprop.readout_rule(gains, weight_exponent=0, alpha=0.9), pre=[0], post=[0], n_pre=1, n_post=1, weight=weight)
    synapse.tag = np.array([state])
    for _ in range(3):
        learn(synapse, np.zeros(1, bool), gains.carry, np.zeros(1, int), np.zeros(1, int))
        assert int(synapse.weights[0]) * 2**bits - int(synapse.tag[0]) == weight * 2**bits - state
    assert 0 <= -int(synapse.tag[0]) < 2**bits


def replay(plastic: Any, made: dict[str, Any], carry: int, *, alpha: float, y3: np.ndarray, spikes: np.ndarray) -> np.ndarray:
    """Weights (pre major) of a readout's connection after given spikes and third factors."""
    n_pre, n_post = spikes.shape[1], y3.shape[1]
    pre, post = (grid.ravel().tolist() for grid in np.meshgrid(range(n_pre), range(n_post), indexing="ij"))
    synapses = model(plastic, made, pre=pre, post=post, n_pre=n_pre, n_post=n_post)
    for row, third in zip(spikes, y3, strict=True):
        learn(synapses, row, carry, np.zeros(n_post, int), third)
    return np.asarray(synapses.weights, float)


def test_low_bits_take_the_noise_out_of_the_readout(plastic):
    """300 steps, 60 neurons at 3 % a step, slowly alternating errors: against the exact sum of error times trace.

    What the direct rule (every step's change rounded into the weight) loses is the reason for the low bits. Measured: cosine .557
    without and .967 with them; .983 is what rounding the exact sum to whole units once, at the end, gives.
    """
    rng = np.random.default_rng(5)
    alpha, steps = np.exp(-1 / 20), 300
    spikes = rng.random((steps, 60)) < 0.03
    wave = np.sin(2 * np.pi * np.arange(steps)[:, np.newaxis] / rng.uniform(50, 200, 10) + rng.uniform(0, 6, 10))
    y3 = 8 * np.rint(100 * wave / 8).astype(int)
    trace, exact = np.zeros(60), np.zeros((60, 10))
    for row, third in zip(spikes, y3, strict=True):
        trace = alpha * trace
        exact += np.outer(trace, third) * 16 / 8 / 2**12  # coefficient 2^-12, the spike of this step is not in the trace yet
        trace += row
    gains = eprop.Gains(tag=1.0, signal=1.0, dw_exponent=-12, dt_exponent=0, y3_reference=1.0, fraction_bits=5)
    fine = replay(plastic, eprop.readout_rule(gains, weight_exponent=0, alpha=alpha), gains.carry, alpha=alpha, y3=y3, spikes=spikes)
    direct = {
        **eprop.readout_rule(gains, weight_exponent=0, alpha=alpha),
        "dw_fixed": "1*2^-7*u0*x1*y3 - 1*2^-6*x0*y3",
        "dt_fixed": None,
    }
    coarse_y3 = 8 * np.rint(np.cumsum(y3 / 32, axis=0) / 8).astype(int)  # 2^-12 needs y3 / 32 at 2^-7: multiples of 8, remainder carried
    coarse_y3 = np.diff(coarse_y3, axis=0, prepend=0)
    coarse = replay(plastic, direct, 0, alpha=alpha, y3=coarse_y3, spikes=spikes)
    best = cosine(np.rint(exact.ravel()), exact.ravel())
    assert cosine(fine, exact.ravel()) > best - 0.03
    assert cosine(coarse, exact.ravel()) < 0.7


def test_golden_rules(lower, learner):
    """The rules of a small network, letter by letter: kappa 31/32, tau_mem 30 ms, two low bits in d, five in the readout's tag."""
    lowered = lower(learner())
    hidden, readout = (p.rule for p in lowered.projections)
    trace = {"x1_impulse_fixed": 16, "x1_impulse_real": 1, "x1_tau": pytest.approx(30.0)}
    assert hidden == {
        "dt_fixed": "1*2^-7*u0*x1*y2 - 1*2^-6*x0*y2 - 1*2^-5*u0*t",
        "dd_fixed": "-1*2^-5*u0*t*y3 - 1*2^2*u0*(d-32)*y1",
        "dw_fixed": "-1*u0*(d-32)*y1",
        "dt_real": "u0*x1*y2 - x0*y2 - 1*2^-5*u0*t",
        "dw_real": "u0*t*y3",
        "tag_start": 0,
        "d_start": 30,
        **trace,
    }
    assert readout == {
        "dt_fixed": "-1*2^-7*u0*x1*y3 + 1*2^-6*x0*y3 - 1*2^5*u0*t*y1",
        "dd_fixed": None,
        "dw_fixed": "-1*u0*t*y1",
        "dt_real": None,
        "dw_real": "u0*x1*y3 - x0*y3",
        "tag_start": -16,
        "d_start": 0,
        **trace,
    }
    assert lowered.populations[1].learning["carry"] == 2 ** (5 - 2)
    assert lowered.populations[2].learning["carry"] == 2 ** (5 - 5)


@pytest.mark.parametrize(("choice", "direct"), [("d", False), ("none", True)])
def test_d_can_be_left_alone(lower, learner, choice, direct):
    """On a chip d may be the synapse's delay, so low bits can be kept out of it; the memory of d is then not counted either."""
    lowered = lower(learner(), low_bits=choice)
    rule = lowered.projections[0].rule
    assert (rule["dd_fixed"] is None) == direct
    assert ("d" in rule["dw_fixed"].replace("dw", "")) != direct
    assert any("low_bits=none" in note for note in lowered.summary["notes"]) != direct
    memory = {r.name: r for r in lowered.problem.resources}["synapse_memory"].per_neuron[20:44]
    per_synapse = memory / np.bincount(lowered.projections[0].post_ids, minlength=24)
    assert np.allclose(per_synapse, 8 + 13 + 9 + 73 / 64 + (0 if direct else 6))
    with pytest.raises(InputError, match="low_bits"):
        lower(learner(), low_bits="t")
