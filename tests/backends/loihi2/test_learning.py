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

from neurocompile.backends.loihi2 import forms
from neurocompile.backends.loihi2.adaptive import Adaptation, Share
from neurocompile.backends.loihi2.forms import SECOND_STATES, Form, Scale
from neurocompile.backends.loihi2.rule_strings import hidden_rule, readout_rule
from neurocompile.backends.loihi2.stimulus import cosine
from neurocompile.ir import EProp, GradientDescent, Surrogate
from neurocompile.ir.errors import InputError

ALPHA = 0.95


def rule_of(learning_rate: float, kappa: float = 0.95, height: float = 0.5) -> EProp:
    surrogate = Surrogate(height=height, width=0.6)
    return EProp(surrogate=surrogate, kappa=kappa, optimizer=GradientDescent(learning_rate=learning_rate))


def coefficients(text: str) -> list[tuple[int, int]]:
    return [(int(m), int(e)) for m, e in re.findall(r"(-?\d+)\*2\^(-?\d+)", text)]


relaxed = settings(max_examples=60, deadline=None)


@st.composite
def cases(draw: Any) -> tuple[EProp, forms.Gains, forms.Gains, list[tuple[int, dict[str, Any], dict[str, Any]]], float]:
    """Return a rule, gains of a hidden population and of a readout, (weight exponent, hidden rule, readout's rule) of up to three
    projections, and the scale: every form, every place for low bits, scales of any size, learning rates from 1e-14 to 1e4."""
    rule = rule_of(10.0 ** draw(st.floats(-14.0, 4.0)), draw(st.floats(0.0, 0.999)))
    form, second = draw(st.sampled_from(Form)), SECOND_STATES[draw(st.sampled_from(sorted(SECOND_STATES)))]
    if form is Form.TWO_TRACES and abs(rule.kappa - ALPHA) < 1e-3:
        rule = rule_of(rule.optimizer.learning_rate, 0.9)
    scale, reference = 10.0 ** draw(st.floats(2.0, 7.0)), draw(st.floats(0.01, 100.0))
    exponents = {f"p{i}": e for i, e in enumerate(draw(st.lists(st.integers(0, 7), min_size=1, max_size=3)))}
    bits = {name: draw(st.integers(0, 4)) if form.has_tag else 0 for name in exponents}
    choice = Scale(tag_bits=bits, top_bits=draw(st.integers(0, 4)))
    adaptation = Adaptation(beta=np.array([10.0 ** draw(st.floats(-6.0, 3.0))]), rho=draw(st.floats(0.0, 0.9999)))
    share = draw(st.none() | st.builds(Share, tag=st.floats(0, 9), trace=st.floats(0, 9), decay=st.floats(0, 0.999), most=st.floats(1, 50)))
    common: dict[str, Any] = {"scale": scale, "alpha": ALPHA, "reference": reference}
    hidden = forms.hidden_gains(rule, form, **common, weight_exponents=exponents, second=second, choice=choice, adaptation=adaptation)
    readout = forms.readout_gains(rule, **common, weight_exponents=list(exponents.values()))
    made = []
    for name, e in exponents.items():
        into = hidden_rule(
            rule, hidden, weight_exponent=e, alpha=ALPHA, second=second, tag_bits=bits[name], adaptation=adaptation, share=share,
            d_bits=draw(st.integers(0, 4)),
        )  # fmt: skip
        made.append((e, into, readout_rule(readout, weight_exponent=e, alpha=ALPHA)))
    return rule, hidden, readout, made, scale


@relaxed
@given(case=cases())
def test_the_engine_takes_every_rule(case):
    """Mantissas -8 .. 7, exponents -7 .. 8, and Lava's own parser agrees, whatever the form and the scales."""
    _, _, _, made, _ = case
    for rule in (one for _, *both in made for one in both):
        texts = {name: rule[f"{name}_fixed"] for name in ("dw", "dd", "dt")}
        for text in filter(None, texts.values()):
            assert all(-8 <= m <= 7 and -7 <= e <= 8 for m, e in coefficients(text)), text
        traces = {key: rule[key] for key in ("x1_tau", "x2_tau") if key in rule}
        parsed = Loihi3FLearningRule(**texts, t_epoch=1, x1_impulse=rule["x1_impulse_fixed"], **traces)
        assert len(parsed.dw.products) == 1
        assert 0 <= rule["d_start"] <= 255
        real = {name: rule[f"{name}_real"] for name in ("dw", "dd", "dt")}
        Loihi3FLearningRule(**real, t_epoch=1, x1_impulse=1, **traces)


@relaxed
@given(case=cases())
def test_gains_are_the_learning_rate(case):
    """y3 times eligibility times coefficient, all shifts counted, is -dw/eta in membrane units: exactly, whatever was chosen.

    From the rule strings themselves. Relative 1e-9: everything but the learning rate is a power of two or cancels.
    """
    rule, hidden, readout, made, scale = case
    height = rule.surrogate.height
    for exponent, into, out in made:
        unit = 2.0 ** (6 + exponent) / scale  # membrane units of one weight unit
        (_, change), *_ = coefficients(out["dt_fixed"])
        assert readout.signal * 16 * ALPHA / 2**3 * 2.0**change * unit / 2**readout.fraction_bits == pytest.approx(
            rule.optimizer.learning_rate, rel=1e-9
        )
        low_unit = unit / 2 ** (hidden.fraction_bits or 0)
        (_, first), *_ = coefficients(into["dt_fixed"])
        if hidden.form.has_tag:  # tag units per eligibility: x1 (or d) = 16 alpha zbar and y2 = 127 psi / height, shifted right
            tag = 16 * ALPHA * 127 / height / 2 ** (5 if hidden.form is Form.ALIGNED else 3) * 2.0**first
            (_, change), *_ = coefficients(into["dd_fixed"] if hidden.form is Form.LAGGED and into["dd_fixed"] else into["dw_fixed"])
            per_step = hidden.signal * tag / 2**5 * 2.0**change * low_unit
        else:  # y3 = psi L: psi has 127 / height, and the product is divided by 128
            low_pass = ALPHA * (1 - rule.kappa) if hidden.form is Form.PRE_TRACE else abs(rule.kappa - ALPHA)
            per_step = hidden.signal * 127 / 128 / height * 16 * low_pass / 2**3 * 2.0**first * low_unit
        assert per_step == pytest.approx(rule.optimizer.learning_rate, rel=1e-9)


@relaxed
@given(rate=st.floats(-14.0, 4.0), kappa=st.floats(0.0, 0.999), scale=st.floats(2.0, 7.0), low_bits=st.sampled_from(["d", "d6"]),
       exponents=st.lists(st.integers(0, 7), min_size=1, max_size=3), reference=st.floats(0.01, 100.0))  # fmt: skip
def test_low_bits_cannot_overflow_in_one_step(rate, kappa, scale, low_bits, exponents, reference):
    """Without measured scales: largest trace, tag and third factor at once, 127 * 120 >> 3 and 255 * 96 >> 5, beside the largest
    remainder 2^m - 1."""
    rule, common = rule_of(10.0**rate, kappa), {"scale": 10.0**scale, "alpha": ALPHA, "reference": reference}
    second = SECOND_STATES[low_bits]
    named = {f"p{i}": e for i, e in enumerate(exponents)}
    hidden = forms.hidden_gains(rule, Form.LAGGED, **common, weight_exponents=named, second=second, choice=Scale())
    readout = forms.readout_gains(rule, **common, weight_exponents=exponents)
    for gains, largest, room in ((readout, 127 * 120 >> 3, 255), (hidden, 255 * 96 >> 5, second.centre)):
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
    gains = forms.Gains(form=None, tag=1.0, signal=1.0, dw_exponent=-7, dt_exponent=0, y3_reference=1.0, fraction_bits=bits)
    synapse = model(plastic, readout_rule(gains, weight_exponent=0, alpha=0.9), pre=[0], post=[0], n_pre=1, n_post=1, weight=weight)
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
    gains = forms.Gains(form=None, tag=1.0, signal=1.0, dw_exponent=-12, dt_exponent=0, y3_reference=1.0, fraction_bits=5)
    fine = replay(plastic, readout_rule(gains, weight_exponent=0, alpha=alpha), gains.carry, alpha=alpha, y3=y3, spikes=spikes)
    direct = {
        **readout_rule(gains, weight_exponent=0, alpha=alpha),
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
    """The rules of a small network for worst cases, letter by letter: kappa 31/32, tau_mem 30 ms, low bits in d and readout's tag."""
    lowered = lower(learner(), tune="0")
    hidden, readout = (p.rule for p in lowered.projections)
    trace = {"x1_impulse_fixed": 16, "x1_impulse_real": 1, "x1_tau": pytest.approx(30.0)}
    assert hidden == {
        "dt_fixed": "1*2^-7*u0*x1*y2 - 1*2^-6*x0*y2 - 1*2^-5*u0*t",
        "dd_fixed": "-1*2^-3*u0*t*y3 - 1*2^3*u0*(d-128)*y1",
        "dw_fixed": "-1*u0*(d-128)*y1",
        "dt_real": "u0*x1*y2 - x0*y2 - 1*2^-5*u0*t",
        "dd_real": None,
        "dw_real": "u0*t*y3",
        "tag_start": 0,
        "tag_is_weight": False,
        "d_start": 124,
        "d_bits": 8,
        "d_is_weight": True,
        **trace,
    }
    assert readout == {
        "dt_fixed": "-1*2^-7*u0*x1*y3 + 1*2^-6*x0*y3 - 1*2^5*u0*t*y1",
        "dd_fixed": None,
        "dw_fixed": "-1*u0*t*y1",
        "dt_real": None,
        "dd_real": None,
        "dw_real": "u0*x1*y3 - x0*y3",
        "tag_start": -16,
        "tag_is_weight": True,
        "d_start": 0,
        "d_bits": 0,
        "d_is_weight": False,
        **trace,
    }
    assert lowered.populations[1].learning["carry"] == 2 ** (5 - 3)
    assert lowered.populations[2].learning["carry"] == 2 ** (5 - 5)


@pytest.mark.parametrize(
    ("form", "hidden"),
    [
        (
            Form.ALIGNED,
            {
                "dt_fixed": "1*2^-5*u0*d*y2 - 1*2^-5*u0*t",
                "dd_fixed": "u0*x1 - 1*2^4*x0 - u0*d",
                "dw_fixed": "1*2^-6*u0*t*y3",
                "dt_real": "u0*d*y2 - 1*2^-5*u0*t",
                "dd_real": "u0*x1 - x0 - u0*d",
                "dw_real": "u0*t*y3",
                "tag_start": 0,
            },
        ),
        (
            Form.PRE_TRACE,
            {
                "dt_fixed": "-1*2^-4*u0*x1*y3 + 1*2^-3*x0*y3 - 1*2^2*u0*t*y1",
                "dw_fixed": "-1*u0*t*y1",
                "dw_real": "u0*x1*y3 - x0*y3",
                "tag_start": -2,
            },
        ),
        (
            Form.TWO_TRACES,
            {
                "dt_fixed": "-1*2^-1*u0*x2*y3 + 1*2^-1*u0*x1*y3 - 1*2^0*u0*t*y1",
                "dw_fixed": "-1*u0*t*y1",
                "dw_real": "u0*x2*y3 - u0*x1*y3",
                "x2_impulse_fixed": 16,
                "x2_tau": pytest.approx(-1 / np.log(0.96875)),
            },
        ),
    ],
)
def test_golden_forms(lower, learner, form, hidden):
    lowered = lower(learner(), tune="0", eprop_form=form.value)
    rule, learning = lowered.projections[0].rule, lowered.populations[1].learning
    assert {key: rule[key] for key in hidden} == hidden
    assert learning["product"] == (form is not Form.ALIGNED)
    assert learning["psi_delay"] == {Form.ALIGNED: 1, Form.PRE_TRACE: 1, Form.TWO_TRACES: 2}[form]
    assert lowered.summary["learning"]["h"]["form"] == form.value


@pytest.mark.parametrize(("choice", "bits"), [("d", 8), ("d6", 6), ("none", 0)])
def test_d_can_be_left_alone(lower, learner, choice, bits):
    """On a chip d may be the synapse's delay, so low bits can be kept out of it; the memory of d is then not counted either."""
    direct = bits == 0
    lowered = lower(learner(), low_bits=choice)
    rule = lowered.projections[0].rule
    assert (rule["dd_fixed"] is None) == direct
    assert ("d" in rule["dw_fixed"].replace("dw", "")) != direct
    assert any("low_bits=none" in note for note in lowered.summary["notes"]) != direct
    memory = {r.name: r for r in lowered.problem.resources}["synapse_memory"].per_neuron[20:44]
    per_synapse = memory / np.bincount(lowered.projections[0].post_ids, minlength=24)
    assert np.allclose(per_synapse, 8 + 13 + 9 + 73 / 64 + bits)
    with pytest.raises(InputError, match="low_bits"):
        lower(learner(), low_bits="t")
