"""Integers beside exact e-prop in floating point: directions and sizes of weight changes, and what the bounds promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neurocompile.backends.spinnaker.eprop.kernels import AE, EQ, INVERSE, A, B, C, D, E, M, X
from neurocompile.backends.spinnaker.eprop.ranges import ACCUMULATOR_BITS, Rule
from neurocompile.backends.spinnaker.eprop.scales import POWER_BITS, SHIFTS, WHOLE_BITS, choose_readout_scales, choose_scales
from tests.backends.spinnaker.eprop.cores import (
    Events,
    adapting,
    adaptive_rule,
    assert_exact,
    expected,
    left_out,
    random_events,
    rule,
    run_twin,
    settled,
)


def random_rule(rng: np.random.Generator) -> Rule:
    """Membranes of 15 to 40 steps, filters of 20 to 50, with and without regularisation."""
    return rule(
        alpha=float(np.exp(-1.0 / rng.uniform(15, 40))),
        kappa=float(np.exp(-1.0 / rng.uniform(20, 50))),
        kappa_reg=float(np.exp(-1.0 / rng.uniform(20, 50))),
        height=float(rng.uniform(0.2, 1.0)),
        reg=float(rng.choice([0.0, 0.5])),
        interval=float(rng.integers(2, 8)),
    )


@pytest.mark.parametrize("smooth", [0.0, 0.97], ids=["white", "smooth"])
def test_weight_changes_are_those_of_exact_eprop(smooth: float) -> None:
    """20 random rules and cores, scales from the bounds, 16-bit states: a cosine of 0.999 or more each, and the size is right.

    What is left is one index a spike: the learning signal of the step before a spike meets an eligibility without psi / (alpha kappa) of
    that spike's step (docs/spinnaker-eprop.md): 1 to 3 % of a white signal's change.
    """
    assert_exact(lambda rng: choose_scales(random_rule(rng)), smooth)


def test_the_one_step_that_differs_is_all_that_differs() -> None:
    """With 32-bit states and that one index put into the exact sum, rounding leaves 1.3e-4 of the change."""
    rng = np.random.default_rng(1)
    scales = choose_scales(rule(alpha=np.exp(-1 / 10), kappa=0.9), state_bits=32)
    events = random_events(rng, scales, n=8, rows=40, m=8, ticks=2000, rate=0.01)
    left = run_twin(scales, events)
    got = (settled(scales, events, left) - events.weight) * scales.rule.weight_unit * 2.0**-ACCUMULATOR_BITS
    wanted = expected(scales, events)
    missing = left_out(scales, events)
    assert np.linalg.norm(got - wanted) > 0.01 * np.linalg.norm(wanted)
    assert np.linalg.norm(got - wanted - missing) < 3e-4 * np.linalg.norm(wanted)


def any_rule(tau: float, share: float, **changes: float) -> Rule:
    """Return a rule of neurons that adapt, or with a share of 0 of such that do not."""
    return adaptive_rule(tau, share, **changes) if share else rule(**changes)


rules = st.builds(
    any_rule,
    tau=st.sampled_from([20.0, 200.0, 5000.0]),
    share=st.sampled_from([0.0, 1e-3, 0.03, 0.17]),
    alpha=st.floats(0.88, 0.995),
    kappa=st.floats(0.88, 0.995),
    kappa_reg=st.floats(0.88, 0.995),
    height=st.floats(0.05, 2.0),
    learning_rate=st.floats(1e-6, 1e-2),
    interval=st.integers(1, 20).map(float),
    signal=st.floats(0.01, 10.0),
    reg=st.sampled_from([0.0, 0.1, 3.0]),
)


@settings(max_examples=60, deadline=None)
@given(
    rule=rules,
    bits=st.sampled_from([16, 32]),
    sign=st.sampled_from([1, -1]),
    pattern=st.sampled_from(["all", "first", "last", "random"]),
)
def test_nothing_overflows_at_the_worst(rule: Rule, bits: int, sign: int, pattern: str) -> None:
    """psi at its height in every step, in each second stretch of 80 or now and then, signals beyond their limit, sources as fast as they
    may be: every number fits its word, and no state reaches the end of its range. Adaptation that needs states of 32 bits is refused
    with 16, by its own message or, where a step's signal moves a weight by more than ten units, because sums have no room."""
    try:
        scales = choose_scales(rule, state_bits=bits)
    except ValueError as error:
        moved = rule.learning_rate * max(rule.signal, rule.reg) / rule.weight_unit
        assume("state_bits=32" not in str(error) and not (rule.adaptation and bits == 16 and moved > 10.0))
        raise
    ticks, n, rows = 260, 2, 3
    high = np.full((ticks, n), round(rule.height * 2**scales.q_psi), np.int64)
    if pattern == "random":
        high[np.random.default_rng(0).random(high.shape) < 0.5] = 0
    elif pattern != "all":
        high[np.arange(ticks) // 80 % 2 == (pattern == "first")] = 0
    adapt_decay, adapt_step = adapting(rule, n)
    events = Events(
        psi=high,
        signal=np.full((ticks, n), 2 * sign * scales.signal_max + sign, np.int64),
        reg=np.full((ticks, n), 2 * scales.reg_max, np.int64),
        spikes=[np.arange(rows) if tick % int(rule.interval) == 0 else np.zeros(0, np.int64) for tick in range(ticks)],
        target=np.tile(np.arange(n), (rows, 1)),
        weight=np.zeros((rows, n), np.int64),
        low=-(2**15) << ACCUMULATOR_BITS,
        high=(2**15 - 1) << ACCUMULATOR_BITS,
        adapt_decay=adapt_decay,
        adapt_step=adapt_step,
    )
    left = run_twin(scales, events)
    assert left.saturated == 0
    assert np.abs(left.neuron).max() < 2**31
    assert np.abs(left.ring).max() < 2**31
    assert np.abs(left.head[:, 0]).max() < 2**31
    limit, unit, q_sum = scales.bounds, (2.0**scales.q_total, 2.0**scales.q_a), scales.q_sum - scales.q_q
    assert (
        np.abs(left.ring[..., 4]).max() <= (limit.total * 1.001 + 64) * unit[0]
    )  # 64: half a unit of rounding for each of two terms a step
    assert np.abs(left.neuron[:, A]).max() <= limit.a * 1.001 * unit[1] + 32
    if scales.adaptive:
        found = [(X, limit.x, scales.q_x), (INVERSE, limit.inverse, scales.q_inverse), (AE, 1.0, scales.q_mix), (EQ, limit.total_q, q_sum)]
        for column, most, bits_of in found:
            reached = int(np.abs(left.neuron[:, column]).max())
            assert pattern != "all" or reached > 0
            assert reached <= most * 1.001 * 2.0**bits_of + 64
        assert np.abs(left.q).max() <= limit.q * 1.001 * 2.0**scales.q_q + 64
        assert np.abs(left.neuron[:, M]).max() <= 2**WHOLE_BITS
    assert len({A, B, C, D, E}) == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"alpha": 0.5}, "alpha kappa is 0.485"),
        ({"alpha": -0.5}, "alpha"),
        ({"kappa": 1.0}, "kappa"),
        ({"height": 0.0}, "height"),
        ({"interval": 0.0}, "interval"),
        ({"reg": -1.0}, "reg"),
    ],
)
def test_what_has_no_fixed_point_form_is_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rule(**change)


def test_a_rate_beyond_32_bits_is_refused_with_numbers() -> None:
    with pytest.raises(ValueError, match="too much for 32 bits"):
        choose_scales(rule(learning_rate=1e3, signal=100.0))
    with pytest.raises(ValueError, match="too much for 32 bits"):  # a sum without a fraction bit: shifts of the C are of a bit at least
        choose_scales(rule(alpha=0.9921875, kappa=0.9921875, kappa_reg=0.95, learning_rate=0.1, interval=1.0))


@settings(max_examples=300, deadline=None)
@given(
    alpha=st.floats(0.88, 0.999),
    kappa=st.floats(0.88, 0.999),
    rate=st.floats(-15.0, 0.0),
    height=st.floats(-6.0, 1.5),
    reg=st.sampled_from([0.0, 1.0]),
    bits=st.sampled_from([16, 32]),
)
def test_every_shift_rounds(alpha: float, kappa: float, rate: float, height: float, reg: float, bits: int) -> None:
    """Scales of any rule that has some, a readout's too, have shifts of 1 to 62 bits; small learning rates and surrogates always have."""
    given_rule = rule(alpha=alpha, kappa=kappa, kappa_reg=0.95, learning_rate=10.0**rate, height=10.0**height, reg=reg)
    for choose in (lambda: choose_scales(given_rule, state_bits=bits), lambda: choose_readout_scales(given_rule)):
        if 10.0 ** (rate + max(height, 0.0)) > 1e-3:
            try:
                found = choose()
            except ValueError:  # too much for 32 bits: said above
                continue
        else:
            found = choose()
        assert all(1 <= found.constants()[name] <= 62 for name in SHIFTS)
        assert found.constants()["psi_to_b"] > POWER_BITS
