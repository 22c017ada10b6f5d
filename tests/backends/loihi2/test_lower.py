"""Lowering: integers, ranges, and everything that Loihi cannot express."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocompile.backends.loihi2.arithmetic import decayed, mantissa_shift, quantise_weights
from neurocompile.backends.loihi2.learning import leak_literal, surrogate_table
from neurocompile.ir import (
    ALIF,
    LIF,
    STDP,
    Adam,
    AllToAll,
    Constant,
    CubaLIF,
    EProp,
    GradientDescent,
    LeakyReadout,
    Loss,
    Network,
    OneToOne,
    PerInterval,
    Population,
    Projection,
    Reset,
    SpikeSource,
    Surrogate,
    SurrogateKind,
    SymmetricFeedback,
    Task,
)
from neurocompile.ir.codes import CODES
from neurocompile.ir.errors import InputError, UnsupportedError


def pair(model, weight=0.3, delay=1.0, **projection):
    return Network(
        name="pair",
        dt=1e-3,
        populations=(Population(name="in", size=4, model=SpikeSource()), Population(name="a", size=4, model=model)),
        projections=(
            Projection(pre="in", post="a", connect=OneToOne(), weight=Constant(value=weight), delay=Constant(value=delay), **projection),
        ),
    )


def hard(**changes):
    return LIF(**{"tau_mem": 0.02, "v_threshold": 1.0, "reset": Reset.TO_VALUE, **changes})


@pytest.mark.parametrize(
    ("model", "process"),
    [
        (hard(), "LIF"),
        (hard(v_leak=-0.5, v_reset=-0.5), "LIF"),  # the state is relative to v_leak
        (CubaLIF(tau_mem=0.02, tau_syn=0.005, v_threshold=1.0, reset=Reset.TO_VALUE), "LIF"),
        (hard(t_ref=0.002), "Neuron"),
        (hard(v_reset=0.1), "Neuron"),
        (hard(v_min=-1.0), "Neuron"),
        (hard(v_threshold=np.array([1.0, 1.0, 1.0, 2.0])), "Neuron"),
        (LIF(tau_mem=0.02, v_threshold=1.0), "Neuron"),
        (ALIF(tau_mem=0.02, v_threshold=1.0, reset=Reset.TO_VALUE, adapt_beta=0.1, adapt_tau=0.1), "Neuron"),
        (LeakyReadout(tau_mem=0.02), "Readout"),
    ],
)
def test_lavas_own_lif_wherever_it_has_the_model(lower, model, process):
    assert lower(pair(model)).populations[1].process == process


def test_registers_of_a_known_neuron(lower):
    """a = exp(-1/20): dv = round(4096 (1 - a)) = 200; the largest weight takes all 8 bits; threshold strictly below 1.0."""
    lowered = lower(pair(hard()))
    fixed, weights = lowered.populations[1].fixed, lowered.projections[0].quantised
    assert int(fixed["dv"]) == round(4096 * (1 - np.exp(-1 / 20))) == 200
    assert int(fixed["du"]) == 4095
    assert weights.sign_mode == "EXCITATORY"
    assert (weights.values == 254).all()
    scale = lowered.populations[1].scale
    assert int(fixed["vth"]) * 64 < scale * 1.0 <= (int(fixed["vth"]) + 1) * 64 * (1 + 1e-9)
    assert weights.values[0] * weights.unit == pytest.approx(0.3, rel=1e-12)


def test_a_membrane_that_reaches_the_threshold_exactly_fires(lower):
    """v >= v_threshold in the description, v > vth << 6 on the chip: two spikes of 0.5 without leak must do."""
    lowered = lower(pair(hard(tau_mem=np.inf), weight=0.5))
    quantised = lowered.projections[0].quantised
    assert 2 * (int(quantised.values[0]) << quantised.exponent) > int(lowered.populations[1].fixed["vth"])
    assert (int(quantised.values[0]) << quantised.exponent) <= int(lowered.populations[1].fixed["vth"])


@given(st.lists(st.floats(-2.0, 2.0), min_size=1, max_size=30), st.floats(1e3, 1e6), st.integers(0, 7))
def test_rounding_of_weights(weights, scale, exponent):
    """Every weight inside the range is within half a step (a whole one for mixed signs); others are clipped and counted."""
    exact = np.array(weights)
    q = quantise_weights(exact, scale, exponent)
    step = q.unit * (2 if q.sign_mode == "MIXED" else 1)
    inside = (exact >= q.low * q.unit) & (exact <= q.high * q.unit)
    assert np.all(np.abs(q.values * q.unit - exact)[inside] <= step / 2 * (1 + 1e-9))
    assert q.values.min() >= q.low
    assert q.values.max() <= q.high
    assert q.clipped >= int((np.abs(exact) > (q.high + 2) * q.unit).sum() * (q.sign_mode == "EXCITATORY"))
    if q.sign_mode == "MIXED":
        assert not (q.values % 2).any()


@given(st.integers(-(2**23) + 1, 2**23 - 1), st.integers(0, 4096))
def test_decay_rounds_towards_zero(state, decay):
    got = int(decayed(np.array([state]), decay)[0])
    exact = abs(state) * (4096 - decay) // 4096
    assert got == (exact if state >= 0 else -exact)


@given(st.floats(1e-6, 1e3))
def test_gain_as_mantissa_and_shift(gain):
    mantissa, shift = mantissa_shift(gain)
    assert mantissa / 2**shift == pytest.approx(gain, rel=2e-4)
    assert 0 <= shift <= 40


@pytest.mark.parametrize(("kappa", "kept"), [(0.0, 1.0), (0.5, 0.5), (0.97, 1 / 32), (0.99, 1 / 128), (0.95, 6 / 128)])
def test_tag_decay(kappa, kept):
    assert leak_literal(kappa).value == kept


@pytest.mark.parametrize("kind", list(SurrogateKind))
def test_surrogate_table_follows_the_formula(kind):
    rule = EProp(surrogate=Surrogate(kind=kind, height=2.0, width=0.1))
    table, shift = surrogate_table(rule, 1e6)
    assert table[0] >= 115  # the middle of the first entry, not the very peak
    assert (np.diff(table) <= 0).all()
    x = (np.arange(len(table)) + 0.5) * 2.0**shift / 1e5
    formula = {
        SurrogateKind.PIECEWISE_LINEAR: np.maximum(0, 1 - x),
        SurrogateKind.EXPONENTIAL: np.exp(-x),
        SurrogateKind.FAST_SIGMOID_DERIVATIVE: 1 / (1 + x) ** 2,
        SurrogateKind.ARCTAN_DERIVATIVE: 1 / (1 + x**2),
    }[kind]
    assert np.abs(table / 127 - formula).max() < 1.0 / 127


def codes(error):
    return {d.code for d in error.value.diagnostics}


@pytest.mark.parametrize(
    ("network", "code", "word"),
    [
        (pair(hard(v_threshold=0.0)), "NC310", "threshold"),
        (pair(hard(v_threshold=-1.0, v_leak=-0.5)), "NC310", "neuron 0"),
        (pair(hard(bias=1e4)), "NC310", "13-bit"),
        (pair(hard(), delay=64), "NC311", "64 steps"),
    ],
)
def test_what_cannot_be_expressed(lower, network, code, word):
    for allow in (False, True):  # no flag turns it on
        with pytest.raises(UnsupportedError, match=word) as error:
            lower(network, allow=allow)
        assert codes(error) == {code}
        assert all(d.help for d in error.value.diagnostics)


def test_plastic_delay_is_refused(lower):
    network = pair(hard(), delay=1)
    learning = Network(
        name="late",
        dt=1e-3,
        populations=(*network.populations, Population(name="out", size=1, model=LeakyReadout(tau_mem=0.02))),
        rules=(EProp(),),
        task=Task(readout="out"),
        projections=(
            Projection(pre="in", post="a", connect=AllToAll(), delay=Constant(value=2.0), learning="eprop"),
            Projection(pre="a", post="out", connect=AllToAll(), learning="eprop"),
        ),
    )
    with pytest.raises(UnsupportedError, match=r"'in->a' learns and its synapse 0 has a delay of 2 steps") as error:
        lower(learning, allow=True)
    assert codes(error) == {"NC311"}


def test_two_rules_into_one_population_are_refused(lower):
    network = pair(hard())
    plastic = Network(
        name="s",
        dt=1e-3,
        populations=network.populations,
        rules=(STDP(), STDP(name="other")),
        projections=tuple(
            Projection(name=rule, pre="in", post="a", connect=AllToAll(), weight=Constant(value=0.5), learning=rule)
            for rule in ("stdp", "other")
        ),
    )
    with pytest.raises(UnsupportedError, match="learns by two rules, 'stdp' and 'other'") as error:
        lower(plastic, allow=True)
    assert codes(error) == {"NC312"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"optimizer": Adam(learning_rate=1e-6)}, "NC313"),
        ({"task": Task(readout="out", loss=Loss.CROSS_ENTROPY)}, "NC314"),
        ({"feedback": SymmetricFeedback()}, "NC315"),
        ({"trace_cutoff_steps": 100}, "NC316"),
        ({"kappa": 0.998}, "NC316"),
        ({"hidden": ALIF(tau_mem=0.03, v_threshold=0.03, adapt_beta=0.01, adapt_tau=0.1)}, "NC316"),
        ({"update": PerInterval(steps=100)}, "NC317"),
        ({"weight_bounds": (-1e-3, 1e-3)}, "NC318"),
        ({"sign_constraint": True}, "NC318"),
        ({"optimizer": GradientDescent(learning_rate=1e-12)}, "NC319"),
    ],
)
def test_approximations_need_consent_and_are_reported(lower, learner, changes, code):
    network = learner(**changes)
    with pytest.raises(UnsupportedError, match="nearest thing") as error:
        lower(network)
    assert codes(error) == {code}
    assert {a.code for a in lower(network, allow=True).approximations} == {code}


def test_errors_and_approximations_come_in_one_go(lower, learner):
    network = learner(hidden=LIF(tau_mem=0.03, v_threshold=0.0), optimizer=Adam(learning_rate=1e-6), feedback=SymmetricFeedback())
    with pytest.raises(UnsupportedError) as error:
        lower(network)
    assert "NC310" in codes(error)


def test_plain_eprop_needs_no_consent(lower, learner):
    lowered = lower(learner())
    assert lowered.approximations == ()
    assert lowered.projections[0].rule is not None
    assert lowered.projections[0].rule["dt_fixed"].endswith("- 1*2^-5*u0*t")
    assert lowered.summary["learning"]["h"]["kappa"] == 0.96875
    assert len(lowered.feedback) == 1


def test_error_scale_must_be_a_number(lower, learner):
    with pytest.raises(InputError, match="error_scale"):
        lower(learner(), error_scale="big")
    assert lower(learner(), error_scale="10").summary["learning"]["h"]["reference_error"] == 10.0


def test_rounding_is_in_the_summary(lower):
    summary = lower(pair(hard(), weight=0.3)).summary
    row = summary["projections"]["in->a"]
    assert row["clipped"] == 0
    assert row["rms_relative_error"] < 1e-12
    assert summary["populations"]["a"]["decay_max_abs_error"] == pytest.approx(abs(1 - 200 / 4096 - np.exp(-1 / 20)), rel=1e-9)


def test_possible_overflow_is_said(lower):
    """300 mixed weights of which one is huge relative to the threshold: at full weights all together leave 24 bits."""
    network = Network(
        name="big",
        dt=1e-3,
        populations=(Population(name="in", size=40000, model=SpikeSource()), Population(name="a", size=1, model=hard(v_threshold=50.0))),
        projections=(Projection(pre="in", post="a", connect=AllToAll(), weight=Constant(value=1.0)),),
    )
    assert any("24 bits" in note for note in lower(network).summary["notes"])
    assert not lower(pair(hard())).summary["notes"]


def test_problem_counts_memory_as_published(lower, learner):
    """Bits per synapse: 8 weight + 13 index + 9 tag + 8 d (its low bits); header of 10 bits, 63 of padding for each block of 64."""
    lowered = lower(learner())
    problem = lowered.problem
    memory = {r.name: r for r in problem.resources}["synapse_memory"]
    fan_in = np.bincount(lowered.projections[0].post_ids, minlength=24)
    assert np.allclose(memory.per_neuron[20:44], fan_in * (8 + 13 + 9 + 8 + 73 / 64))
    assert memory.per_axon_in == 73
    assert problem.external.sum() == 20
    assert len(problem.indices) == sum(len(p.pre_ids) for p in lowered.projections)


def test_every_code_is_explained():
    assert {f"NC{n}" for n in [*range(310, 320), 613, 614]} <= set(CODES)
