"""The twin's learning engine: its reading of rules against Lava's own parser, its arithmetic against one synapse at a time in Python
integers, and its state. Whole programs against Lava: test_lava.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.loihi2.emit import describe
from neurocompile.backends.loihi2.forms import Form
from neurocompile.backends.loihi2.halves import other_trace, split_rule
from neurocompile.backends.loihi2.lowered import Loihi2Network
from neurocompile.backends.loihi2.twin import Twin
from neurocompile.backends.loihi2.twin.engine import Plastic
from neurocompile.backends.loihi2.twin.fused import LAGGED, NONE, TRACE
from neurocompile.backends.loihi2.twin.rules import WIDTHS, Factor, Product, parse_rule
from neurocompile.backends.loihi2.validate import random_inputs, random_signals
from neurocompile.ir import Network

SYNAPTIC = ("w", "d", "t")
NOBODY = np.zeros(0, np.int64)


@st.composite
def factors(draw: Any, *, traces: tuple[str, ...] = ("x1", "y1", "y2", "y3")) -> str:
    kind = draw(st.sampled_from(["trace", "synaptic", "bracket", "sgn"]))
    if kind == "trace":
        return str(draw(st.sampled_from(traces)))
    variable = draw(st.sampled_from(SYNAPTIC))
    if kind == "synaptic":
        return str(variable)
    inside = f"{variable}{draw(st.sampled_from('+-'))}{draw(st.integers(1, 60))}"
    return f"sgn({inside})" if kind == "sgn" else f"({inside})"


@st.composite
def rules(draw: Any) -> str:
    products = []
    for number in range(draw(st.integers(1, 4))):
        sign = draw(st.sampled_from(["+", "-"])) if number else draw(st.sampled_from(["", "-"]))
        literals = draw(st.sampled_from(["", "3*", "2*", "2^-3*", "1*2^4*", "7*2^-7*", "12*2^1*", "2^2*2^3*"]))
        words = [draw(st.sampled_from(["u0", "x0", "y0"])), *draw(st.lists(factors(), max_size=3))]
        products.append(f"{sign}{literals}{'*'.join(words)}")
    return " ".join(products)


@settings(max_examples=150, deadline=None)
@given(text=rules())
def test_rules_are_read_as_lava_reads_them(text: str) -> None:
    from lava.magma.core.learning.learning_rule import Loihi3FLearningRule

    rule = Loihi3FLearningRule(dw=text, x1_impulse=16, x1_tau=10.0)
    theirs = rule.active_product_series["dw"].products
    ours = parse_rule("dw", text)
    assert len(ours) == len(theirs)
    for mine, lavas in zip(ours, theirs, strict=True):
        assert (mine.dependency, mine.mantissa, mine.exponent + 7) == (lavas.dependency, lavas.s_mantissa, lavas.s_exp)
        assert [(f.variable, f.const, f.sign) for f in mine.factors] == [(f.state_var, f.const or 0, f.is_sgn) for f in lavas.factors]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("u10*x1", "cannot read 'u10'"),  # Lava takes it for u1 times 0
        ("x1*y2", "no dependency"),
        ("9*u0*x1", "9 2^0"),
        ("2^-8*u0*x1", "1 2^-8"),
        ("u0*x1*q", "cannot read 'q'"),
        ("3^2*u0*x1", "no power of 2"),
        ("u0*x1 + u1*x1", "one period"),
        ("u0*sgn(x1+1)", "sgn is of w, d or t"),
        ("", "empty"),
        ("u0*x1/2", "cannot read 'x1/2'"),
        ("x0*u0*x1", "two dependencies"),
    ],
)
def test_what_the_engine_cannot_do_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("^", r"\^")):
        parse_rule("dw", text)


def rounded(value: float, draw: float) -> int:
    whole = math.floor(value)
    return whole + (1 if draw < value - whole else 0)


def product_value(p: Product, values: dict[str, int]) -> int:
    """One product on one synapse, in Python integers (docs/loihi2.md, 'Arithmetic' of the engine)."""
    result = p.mantissa * (1 if p.dependency == "u" else values[p.dependency])
    for f in p.factors:
        value = values[f.variable] + f.const
        value = (value > 0) - (value < 0) if f.sign else value
        result *= max(-(2 ** WIDTHS[f.variable]), min(2 ** WIDTHS[f.variable] - 1, value))
    result = (result >> max(0, p.bits - 15)) * 2 ** (p.exponent + 7)
    return max(-(2**15), min(2**15 - 1, result))


RANGES = {"dd": (0, 255), "dt": (-257, 255)}


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 10**6), bounds=st.sampled_from([(-256, 254), (0, 255), (-255, 0)]))
def test_engine_equals_one_synapse_at_a_time(data: st.DataObject, seed: int, bounds: tuple[int, int]) -> None:
    """Every grammar of rules, wide products too, over 12 steps of random spikes of both ends and third factors; y traces are what the
    targets send, or (two factors) traces of their spikes."""
    texts = {target: data.draw(st.one_of(st.none(), rules()), label=target) for target in ("dw", "dd", "dt")}
    rng = np.random.default_rng(seed)
    n_pre, n_post = 5, 4
    pre, post = np.nonzero(rng.random((n_pre, n_post)) < 0.6)
    weight = rng.integers(bounds[0], bounds[1] + 1, len(pre))
    arrays = {"s0.pre": pre, "s0.post": post, "s0.weight.fixed": weight}
    rule = {f"{target}_fixed": text for target, text in texts.items()}
    rule |= {"x1_impulse_fixed": 40, "x1_tau": 6.0, "tag_start": -3, "d_start": 20, "post_spikes": True}
    own = {"y1": (30, 9.0), "y2": (100, 0.5), "y3": (7, 80.0)}
    two = data.draw(st.booleans(), label="two factors")
    if two:
        rule |= {"factors": 2}
        rule |= {f"{trace}_impulse_fixed": impulse for trace, (impulse, _) in own.items()}
        rule |= {f"{trace}_tau": tau for trace, (_, tau) in own.items()}
    projection = {"key": "s0", "rule": rule, "weight_exp": 1, "weight_range": bounds}
    ours = Plastic(projection, arrays, n_pre=n_pre, n_post=n_post)
    parsed = {target: parse_rule(target, text) for target, text in texts.items() if text}
    state = {"w": weight.tolist(), "d": [20] * len(pre), "t": [-3] * len(pre)}
    x1 = [0] * n_pre
    trace = {number: [0] * n_post for number in (1, 2, 3)}
    for step in range(12):
        spiked = np.flatnonzero(rng.random(n_pre) < 0.4)
        fired = np.flatnonzero(rng.random(n_post) < 0.3)
        sent = {number: rng.integers(-127, 128, n_post).astype(np.int32) for number in (1, 2, 3)}
        draws = rng.random(3)
        x_draw, y_draw, draw = draws
        ours.emit(spiked)
        expected = np.zeros(n_post, np.int64)
        np.add.at(expected, post, np.array(state["w"]) * np.isin(pre, spiked))
        np.testing.assert_array_equal(ours.arriving, 2 * expected)
        ours.learn(step, spiked, fired, sent, draws)
        x1 = [min(127, rounded(math.exp(-1 / 6.0) * x, x_draw) + 40 * int(i in spiked)) for i, x in enumerate(x1)]
        y = {n: [rounded(math.exp(-1 / 65535.0) * int(v), y_draw) for v in values] for n, values in sent.items()}
        y = {n: [max(0, v) if j in fired else v for j, v in enumerate(values)] for n, values in y.items()}
        if two:
            for n, held in trace.items():
                impulse, tau = own[f"y{n}"]
                trace[n] = [min(127, rounded(math.exp(-1 / tau) * v, y_draw) + impulse * int(j in fired)) for j, v in enumerate(held)]
            y = trace
        after = {}
        for target, letter in (("dw", "w"), ("dd", "d"), ("dt", "t")):
            low, high = bounds if target == "dw" else RANGES[target]
            after[letter] = []
            for k in range(len(pre)):
                values = {s: state[s][k] for s in SYNAPTIC} | {"x0": int(pre[k] in spiked), "x1": x1[pre[k]]}
                values |= {f"y{n}": y[n][post[k]] for n in (1, 2, 3)} | {"y0": int(post[k] in fired)}
                total = state[letter][k] << 7
                for p in parsed.get(target, []):
                    total = max(-(2**15), min(2**15 - 1, total + product_value(p, values)))
                if target in parsed:
                    total = max(total, 0) if low >= 0 else min(total, 0) if high <= 0 else total
                after[letter].append(max(low, min(high, rounded(total / 128, draw))) if target in parsed else state[letter][k])
        state = after
        np.testing.assert_array_equal(ours.weights(), state["w"])
        np.testing.assert_array_equal(ours.tags(), (state["t"], state["d"]))


def test_a_product_of_factors_beyond_the_accumulator_has_its_width() -> None:
    """The shift of docs/loihi2.md: t y3 loses 5 bits, x1 y2 y3 10."""
    assert parse_rule("dw", "u0*t*y3")[0].bits - 15 == 5
    (wide,) = parse_rule("dw", "u0*x1*y2*y3")
    assert wide.bits - 15 == 10
    assert wide.factors[0] == Factor(variable="x1")


@pytest.fixture
def program(lower: Callable[..., Loihi2Network], learner: Callable[..., Network]) -> tuple[Network, Any, Any]:
    network = learner()
    return (network, *describe(lower(network)))


def test_pieces_of_a_run_are_the_run_and_a_restored_twin_goes_on(program: Any) -> None:
    network, spec, arrays = program
    inputs, signals = random_inputs(network, steps=200), random_signals(network, steps=200)
    whole = Twin(spec, arrays, learning=True).run(200, inputs, signals)
    pieces = Twin(spec, arrays, learning=True)
    first = pieces.run(80, inputs, {name: type(s)(target=s.target[:80], window=s.window[:80]) for name, s in signals.items()})
    other = Twin(spec, arrays, learning=True)
    other.restore(pieces.state())
    assert other.step == 80
    rest = {name: type(s)(target=s.target[80:], window=s.window[80:]) for name, s in signals.items()}
    for twin in (pieces, other):
        second = twin.run(120, inputs, rest)
        np.testing.assert_array_equal(np.concatenate((first.output["out"], second.output["out"])), whole.output["out"])
        for name in whole.weights:
            np.testing.assert_array_equal(second.weights[name], whole.weights[name])
            np.testing.assert_array_equal(second.tags[name], whole.tags[name])
    assert (whole.weights["in->h"] != arrays["s0.weight.fixed"]).any()
    with pytest.raises(ValueError, match="another program"):
        Twin(spec, arrays).restore(pieces.state())


def test_reset_forgets_everything_but_what_was_learnt(program: Any) -> None:
    network, spec, arrays = program
    inputs, signals = random_inputs(network, steps=60), random_signals(network, steps=60)
    twin = Twin(spec, arrays, learning=True)
    twin.run(60, inputs, signals)
    held = twin.weights()
    low_bits = twin.plastic[1].tags()[0], twin.plastic[0].tags()[1]
    twin.reset()
    silent = twin.run(5, {}, {}, learn=False)
    assert not any(len(s.step) for s in silent.spikes.values())
    assert not silent.output["out"].any()
    assert not twin.plastic[0].tags()[0].any()  # eligibility
    for name, weights in twin.weights().items():
        np.testing.assert_array_equal(weights, held[name])
    np.testing.assert_array_equal(twin.plastic[1].tags()[0], low_bits[0])
    np.testing.assert_array_equal(twin.plastic[0].tags()[1], low_bits[1])


def test_without_learning_a_twin_that_can_learn_is_one_that_cannot(program: Any) -> None:
    network, spec, arrays = program
    inputs = random_inputs(network, steps=100)
    still, able = Twin(spec, arrays).run(100, inputs), Twin(spec, arrays, learning=True).run(100, inputs, learn=False)
    np.testing.assert_array_equal(still.output["out"], able.output["out"])
    np.testing.assert_array_equal(still.spikes["h"].step, able.spikes["h"].step)
    assert len(still.spikes["h"].step) > 10
    for name, weights in able.weights.items():
        np.testing.assert_array_equal(weights, still.weights[name])


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 10**6), bounds=st.sampled_from([(-256, 254), (0, 255), (-255, 0)]), data=st.data())
def test_fused_loops_equal_the_loop_over_products(seed: int, bounds: tuple[int, int], data: st.DataObject) -> None:
    """Both rules that have a loop of their own, any coefficient, many steps with idle targets among them, from states of any value."""
    exponent = st.integers(-7, 8)
    a, b, c, d, e = (data.draw(exponent) for _ in range(5))
    if data.draw(st.booleans()):
        n, centre = data.draw(st.integers(1, 7)), data.draw(st.sampled_from([32, 128, 200]))
        texts = {
            "dw": f"-1*u0*(d-{centre})*y1",
            "dd": f"-1*2^{a}*u0*t*y3 - 1*2^{b}*u0*(d-{centre})*y1",
            "dt": f"1*2^{c}*u0*x1*y2 - 1*2^{d}*x0*y2 - {n}*2^{min(e, 5)}*u0*t",
        }
        kind, form = LAGGED, Form.LAGGED
    else:
        texts = {"dw": "-1*u0*t*y1", "dt": f"-1*2^{a}*u0*x1*y3 + 1*2^{b}*x0*y3 - 1*2^{c}*u0*t*y1"}
        kind, form = TRACE, None
    split = data.draw(st.booleans())
    carry = data.draw(st.sampled_from([0, 1, 2, 8, -1]))
    if split:
        strings = dict.fromkeys((f"{t}_{p}" for t in ("dw", "dd", "dt") for p in ("fixed", "real")), None)
        halves = split_rule(strings | {f"{target}_fixed": text for target, text in texts.items()}, form, abs(carry))
        texts = {target: halves[f"{target}_fixed"] for target in ("dw", "dd", "dt")}
    rng = np.random.default_rng(seed)
    n_pre, n_post = 9, 7
    pre, post = np.nonzero(rng.random((n_pre, n_post)) < 0.6)
    arrays = {"s0.pre": pre, "s0.post": post, "s0.weight.fixed": rng.integers(bounds[0], bounds[1] + 1, len(pre))}
    rule = {f"{target}_fixed": texts.get(target) for target in ("dw", "dd", "dt")}
    rule |= {"x1_impulse_fixed": 16, "x1_tau": 8.0, "tag_start": 0, "d_start": 0}
    projection = {"key": "s0", "rule": rule, "weight_exp": 0, "weight_range": bounds}
    quick, slow = (Plastic(projection, arrays, n_pre=n_pre, n_post=n_post, quick=q) for q in (True, False))
    assert (quick.kind, slow.kind) == (kind, NONE)
    for twin in (quick, slow):
        twin.state[1, twin.slot] = np.random.default_rng(seed).integers((0,), (256,), len(pre))
    for step in range(40):
        spiked = np.flatnonzero(rng.random(n_pre) < 0.3)
        idle = rng.random((2, n_post)) < 0.6
        sent = {number: np.where(idle[number % 2], 0, rng.integers(-127, 128, n_post)).astype(np.int32) for number in (2, 3)}
        sent[1] = np.full(n_post, carry if step != 20 else 4, np.int32)
        if split:
            other = other_trace(form)
            sent[3], sent[other] = np.maximum(sent[3], 0), np.maximum(-sent[3], 0)
        draws = rng.random(3)
        for twin in (quick, slow):
            twin.learn(step, spiked, NOBODY, sent, draws)
        np.testing.assert_array_equal((quick.weights(), *quick.tags()), (slow.weights(), *slow.tags()))
