"""STDP and reward-modulated STDP: rule strings, amplitudes, bounds; the twin's weight changes against the reference engine's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.loihi2.arithmetic import ALIGN_SHIFT, quantise_weights
from neurocompile.backends.loihi2.emit import describe
from neurocompile.backends.loihi2.exact_pairs import exact_pairs, measured_pairs, rows_of
from neurocompile.backends.loihi2.lowered import Loihi2Network
from neurocompile.backends.loihi2.stdp import choose_amplitude, make_rule, sign_mode_of, unit_of
from neurocompile.backends.loihi2.stimulus import cosine
from neurocompile.backends.loihi2.twin import Twin
from neurocompile.backends.loihi2.twin.rules import parse_rule, parse_rules
from neurocompile.backends.reference import Simulator
from neurocompile.ir import RSTDP, STDP, Network
from neurocompile.ir.errors import UnsupportedError
from neurocompile.ir.read import read_network
from neurocompile.ir.realise import realise_all
from neurocompile.ir.signals import Spikes

Pairing = Callable[..., tuple[Network, dict[str, Spikes]]]
Lower = Callable[..., Loihi2Network]
PAIRS = STDP(a_plus=0.01, a_minus=0.012, weight_bounds=(0.0, 0.1))
REWARDED = RSTDP(reward="reward", a_plus=0.1, a_minus=0.12, weight_bounds=(0.0, 0.1), tau_c=0.3, tau_d=0.1, reward_weight=1.5)


@settings(max_examples=60, deadline=None)
@given(wanted=st.floats(1e-3, 500.0), step=st.sampled_from([1, 2, 4, 8]), taken_out=st.booleans())
def test_amplitudes_are_the_nearest(wanted: float, step: int, taken_out: bool) -> None:
    """Against all that there are: the error is what it says, and no other is nearer (by 2 % a product that is spared)."""
    found = choose_amplitude(wanted, step, taken_out=taken_out)
    value = found.literal.value * found.impulse
    assert value / wanted - 1 == pytest.approx(found.error)
    impulses = [impulse // step for impulse in range(20, 41) if impulse % step == 0]
    assert found.impulse in impulses
    every = np.array([m * 2.0**e * i for m, e, i in product(range(1, 8), range(-7, 9), impulses)])
    least = np.abs(np.log(every / wanted)).min()
    assert abs(np.log(value / wanted)) <= least + (0.04 if taken_out else 1e-6)


@settings(max_examples=300, deadline=None)
@given(
    rule=st.builds(
        replace,
        st.sampled_from([PAIRS, REWARDED]),
        a_plus=st.floats(0.0, 1.0),
        a_minus=st.floats(0.0, 1.0),
        multiplicative=st.booleans(),
        weight_bounds=st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (-2.0, 0.0), (0.0, 1e-3)]),
    ),
    bits=st.integers(1, 8),
    step=st.sampled_from([1, 2, 4, 8, 16]),
    tag=st.sampled_from([1, 2, 4, 8]),
    use_tags=st.booleans(),
)
def test_every_rule_is_legal(rule: STDP, bits: int, step: int, tag: int, use_tags: bool) -> None:
    """Whatever amplitudes, bounds and choices: all literals are the engine's, mantissa -8 .. 7 and exponent -7 .. 8."""
    mode = sign_mode_of(rule)
    start = np.full(3, 0.5 * sum(rule.weight_bounds))
    weights = quantise_weights(start, 2.0**ALIGN_SHIFT / unit_of(rule, mode), 0, sign_mode=mode, bits=bits)
    made = make_rule(rule, weights, dt=1e-3, step=step, tag=tag, use_tags=use_tags)
    if made is not None:
        parse_rules({target: made.rule[f"{target}_fixed"] for target in ("dw", "dt", "dd")})


def test_golden_rules(lower: Lower, pairing: Pairing) -> None:
    """a_plus: 2.55 weight units a pair are 40.8 in units of 1/16, 5 2^-2 32 = 40; a_minus: 3.06 exp(-1/20) 16 = 46.57, 6 2^-2 31 = 46.5."""
    network, _ = pairing(PAIRS)
    rule = lower(network).projections[0].rule
    assert rule is not None
    assert {target: rule[f"{target}_fixed"] for target in ("dw", "dt", "dd")} == {
        "dw": "-7*2^0*u0*t*sgn(d+1)",
        "dt": "-5*2^-2*y0*d + 6*2^-2*x0*y1 - 7*2^4*u0*t*sgn(d+1)",
        "dd": "u0*x1 - 1*2^5*x0 - u0*d",
    }
    assert (rule["x1_impulse_fixed"], rule["y1_impulse_fixed"], rule["tag_start"]) == (32, 31, -9)
    plain = lower(network, low_bits="none").projections[0].rule
    assert plain is not None
    assert plain["dw_fixed"] == "6*2^-6*y0*x1 - 5*2^-3*y0*x0 - 1*2^1*y0*x0 - 6*2^-6*x0*y1"
    assert plain["dt_fixed"] is plain["dd_fixed"] is None
    rewarded = lower(pairing(REWARDED)[0])
    rule = rewarded.projections[0].rule
    assert rule is not None
    assert {target: rule[f"{target}_fixed"] for target in ("dw", "dt")} == {
        "dw": "1*2^-5*u0*t*y3",
        "dt": "5*2^-3*y0*d - 4*2^-2*x0*y1 - 1*2^-4*u0*t*y2",
    }
    assert rewarded.rewards == ((2, 3),)
    multiplicative = lower(pairing(replace(PAIRS, multiplicative=True, weight_bounds=(-0.1, 0.1)))[0]).projections[0].rule
    assert multiplicative is not None
    assert "*y0*d*(w-254)" in multiplicative["dt_fixed"]
    assert "*x0*y1*(w+254)" in multiplicative["dt_fixed"]


@pytest.mark.parametrize(
    "rule",
    [PAIRS, REWARDED, replace(PAIRS, multiplicative=True), replace(REWARDED, multiplicative=True), replace(PAIRS, a_minus=0.0)],
    ids=["stdp", "r_stdp", "stdp, multiplicative", "r_stdp, multiplicative", "no depression"],
)
@pytest.mark.parametrize("low_bits", ["d", "none"])
def test_rules_are_those_that_lava_reads(lower: Lower, pairing: Pairing, rule: STDP, low_bits: str) -> None:
    """Lava's own parser takes them, in both precisions, and ours reads the same products."""
    from lava.magma.core.learning.learning_rule import Loihi3FLearningRule

    made = lower(pairing(rule)[0], low_bits=low_bits, allow=True).projections[0].rule
    assert made is not None
    for precision in ("fixed", "real"):
        texts = {target: made[f"{target}_{precision}"] for target in ("dw", "dt", "dd")}
        theirs = Loihi3FLearningRule(**texts, x1_impulse=16, x1_tau=10.0).active_product_series
        for target, text in texts.items():
            if text is not None:
                ours = [(p.dependency, p.mantissa, p.exponent + 7) for p in parse_rule(target, text)]
                assert ours == [(p.dependency, p.s_mantissa, p.s_exp) for p in theirs[target].products]


def changes(lowered: Loihi2Network, network: Network, inputs: dict[str, Spikes], steps: int) -> list[tuple[Any, Any]]:
    """Weight changes of the twin and of the engine (membrane units) of all plastic projections."""
    twin = Twin(*describe(lowered), learning=True).run(steps, inputs)
    engine = Simulator(network, realise_all(network))
    engine.run(steps, spikes=inputs)
    engine.flush()
    weights = engine.weights()
    return [
        ((twin.weights[p.name] - p.quantised.values.astype(np.float64)) * p.quantised.unit, weights[p.name] - p.weight)
        for p in lowered.projections
        if p.rule is not None
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "least"),
    [(PAIRS, 0.98), (REWARDED, 0.98), (replace(PAIRS, multiplicative=True), 0.98), (replace(REWARDED, multiplicative=True), 0.98)],
    ids=["stdp", "r_stdp", "stdp, multiplicative", "r_stdp, multiplicative"],
)
def test_fixed_point_follows_the_engine(lower: Lower, pairing: Pairing, rule: STDP, least: float) -> None:
    """Twenty random networks, 1,000 steps: median cosine of all weight changes, and their size within 10 %."""
    values, sizes = [], []
    for seed in range(20):
        network, inputs = pairing(rule, seed=seed)
        pairs = changes(lower(network), network, inputs, 1000)
        ours, theirs = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        values.append(cosine(ours, theirs))
        sizes.append(np.linalg.norm(ours) / np.linalg.norm(theirs))
    assert np.median(values) > least
    assert 0.9 < np.median(sizes) < 1.1


@pytest.mark.parametrize(
    "rule",
    [
        PAIRS,
        replace(PAIRS, multiplicative=True),
        REWARDED,
        replace(REWARDED, a_plus=0.5, a_minus=0.6),
        replace(REWARDED, multiplicative=True),
    ],
    ids=["stdp", "stdp, multiplicative", "r_stdp", "r_stdp at its bounds", "r_stdp, multiplicative"],
)
def test_the_measure_is_the_engine(pairing: Pairing, rule: STDP) -> None:
    """The dense recurrences that measuring compares with, on the engine's spikes: its weights, to rounding (1,000 steps of 1e-16 each)."""
    network, inputs = pairing(rule)
    connections = realise_all(network)
    engine = Simulator(network, connections)
    spikes = engine.run(1000, spikes=inputs).spikes
    engine.flush()
    rewards = rows_of(inputs["reward"], 2, 1000, later=1).sum(axis=1) if isinstance(rule, RSTDP) else np.zeros(1000, np.int64)
    for name, pre, n_pre in (("in->h", "in", 30), ("loop", "h", 20)):
        synapses = connections[name]
        weights = exact_pairs(
            rule,
            dt=network.dt,
            pre=synapses.pre.astype(np.int64),
            post=synapses.post.astype(np.int64),
            weight=np.asarray(synapses.weight, np.float64),
            arrivals=rows_of(spikes[pre], n_pre, 1000, later=1),
            fired=rows_of(spikes["h"], 20, 1000),
            rewards=rewards,
        )
        np.testing.assert_allclose(weights, engine.weights()[name], rtol=0, atol=1e-13)
        assert np.abs(weights - synapses.weight).max() > 0.005


@pytest.mark.parametrize("rule", [PAIRS, REWARDED], ids=["stdp", "r_stdp"])
def test_what_the_arithmetic_does_is_measured(lower: Lower, pairing: Pairing, rule: STDP) -> None:
    """Cosine and error in the report are those of the twin's change, and a rule beyond its traces says so."""
    network, _ = pairing(rule)
    row = lower(network, tune="200").summary["learning"]["h"]["pairs"]["in->h"]["measured"]
    assert 0.97 < row["cosine"] <= 1.0
    assert row["relative_error"] < 0.3
    assert 32 <= row["largest_trace"] <= 127
    assert "measured" not in lower(network).summary["learning"]["h"]["pairs"]["in->h"]


def test_impulses_are_smaller_where_traces_would_saturate(lower: Lower, pairing: Pairing) -> None:
    """A trace that lasts 0.3 s holds more spikes; what does not fit even then is said. The fit does better than what it starts from."""
    network, _ = pairing(replace(PAIRS, tau_plus=0.3, tau_minus=0.3))
    first, fitted = lower(network), lower(network, tune="200")
    pairs = fitted.summary["learning"]["h"]["pairs"]["in->h"]
    for before, after in zip(first.projections[:2], fitted.projections[:2], strict=True):
        assert before.rule is not None
        assert after.rule is not None
        assert after.rule["x1_impulse_fixed"] <= before.rule["x1_impulse_fixed"] / 2
    assert pairs["spikes_at_once"] > 6
    measured = measured_pairs(first, {p.name: network.rules[0] for p in first.projections[:2]}, 200)
    before = measured.network.summary["learning"]["h"]["pairs"]["in->h"]["measured"]
    assert measured.saturated == (True, False)
    assert pairs["measured"]["cosine"] > before["cosine"]
    assert pairs["measured"]["largest_trace"] < 127 or any("reached their end" in note for note in fitted.summary["notes"])


def test_tags_are_smaller_where_they_would_saturate(lower: Lower, pairing: Pairing) -> None:
    """Eligibility of 2 s that nothing takes away, at 50 spikes a second."""
    network, _ = pairing(replace(REWARDED, tau_c=2.0, a_minus=0.0))
    first, fitted = (lower(network, tune=steps).summary["learning"]["h"]["pairs"]["in->h"] for steps in ("0", "200"))
    assert fitted["tag_units_per_weight_unit"] < first["tag_units_per_weight_unit"]
    assert fitted["measured"]["cosine"] > 0.95


def test_weights_saturate_at_their_bounds(lower: Lower, pairing: Pairing) -> None:
    """Strong additive STDP drives weights to the bounds, and those are the ends of the 8 bits."""
    network, inputs = pairing(replace(PAIRS, a_plus=0.1, a_minus=0.11))
    lowered = lower(network)
    twin = Twin(*describe(lowered), learning=True).run(1000, inputs)
    for projection in lowered.projections[:2]:
        assert projection.quantised.unit == pytest.approx(0.1 / 255)
        held = twin.weights[projection.name]
        assert held.min() == 0
        assert held.max() == 255


@pytest.mark.parametrize(
    ("changed", "code", "message"),
    [
        ({"weight_bounds": (0.02, 0.1)}, "NC318", r"weight_bounds \[0.02, 0.1\] are not the ends of 8 bits"),
        ({"weight_bounds": (-0.02, 0.1)}, "NC318", "not the ends"),
        ({"a_plus": 1e-6}, "NC319", "a_plus 1e-06"),
        ({"a_minus": 1e-6, "reward": "reward", "tau_d": 30.0, "a_plus": 1e-6}, "NC316", "tau_d 30 s"),
    ],
)
def test_what_eight_bits_do_not_hold_is_said(lower: Lower, pairing: Pairing, changed: dict[str, Any], code: str, message: str) -> None:
    rule = replace(REWARDED if "reward" in changed else PAIRS, **changed)
    network, _ = pairing(rule)
    with pytest.raises(UnsupportedError, match=message) as error:
        lower(network)
    assert code in {d.code for d in error.value.diagnostics}
    lower(network, allow=True)


def test_a_rule_without_amplitude_is_static(lower: Lower, pairing: Pairing) -> None:
    """Additive changes are multiples of the upper bound."""
    lowered = lower(pairing(replace(PAIRS, weight_bounds=(-0.1, 0.0)))[0])
    assert [p.rule for p in lowered.projections] == [None] * 3
    assert any("changes nothing" in note for note in lowered.summary["notes"])


@pytest.mark.parametrize("rule", [PAIRS, REWARDED], ids=["stdp", "r_stdp"])
def test_pieces_of_a_run_are_the_run(lower: Lower, pairing: Pairing, rule: STDP) -> None:
    """Traces, tags, rewards on their way and pulses are part of the state."""
    network, inputs = pairing(rule, steps=600)
    program = describe(lower(network))
    whole = Twin(*program, learning=True).run(600, inputs)
    first = Twin(*program, learning=True)
    first.run(301, inputs)
    second = Twin(*program, learning=True)
    second.restore(first.state())
    rest = second.run(299, inputs)
    for name, weights in whole.weights.items():
        np.testing.assert_array_equal(rest.weights[name], weights)
    for name, tags in whole.tags.items():
        np.testing.assert_array_equal(rest.tags[name], tags)


@pytest.mark.slow
def test_the_example_finds_its_correlated_inputs_in_integers(lower: Lower, root: Path) -> None:
    """examples/stdp.yaml: .0074 and .0027 of .008 after 30,000 steps."""
    network = read_network(root / "examples" / "stdp.yaml")
    lowered = lower(network)
    weights = Twin(*describe(lowered), learning=True).run(30_000, {}).weights
    unit = {p.name: p.quantised.unit for p in lowered.projections}
    shared, alone = (float(weights[name].mean() * unit[name]) for name in ("shared", "alone"))
    assert shared > 0.005
    assert alone < 0.004
