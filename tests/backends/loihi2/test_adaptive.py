"""Eligibility of adaptive neurons: coefficients by brute force, shares of eps against least squares written out, when it is chosen."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.loihi2 import forms
from neurocompile.backends.loihi2.adaptive import Adaptation, Recording, Share, fit_shares, share_terms
from neurocompile.backends.loihi2.emit import describe
from neurocompile.backends.loihi2.forms import Form, Scale
from neurocompile.backends.loihi2.literals import nearest_literal
from neurocompile.backends.loihi2.rule_strings import hidden_rule
from neurocompile.backends.loihi2.stimulus import random_inputs, random_signals
from neurocompile.backends.loihi2.twin import Twin
from neurocompile.ir import ALIF, EProp, GradientDescent, Surrogate
from neurocompile.ir.errors import InputError, UnsupportedError

ADAPTIVE = ALIF(tau_mem=0.03, v_threshold=0.03, adapt_beta=0.003, adapt_tau=0.05)


@settings(max_examples=200, deadline=None)
@given(value=st.floats(1e-4, 1000.0))
def test_nearest_literal_is_the_nearest(value: float) -> None:
    legal = [0.0] + [m * 2.0**e for m in range(1, 8) for e in range(-7, 9)]
    found = nearest_literal(value)
    assert abs((0.0 if found is None else found.value) - value) == min(abs(x - value) for x in legal)


def traces(r: Recording, decay: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(steps, synapses) ebar, eps and x2 as psi(t) meets them, and psi: docs/eprop.md, written out."""
    steps, n = len(r.psi), len(r.pre)
    ebar, eps, x2 = np.zeros((steps + 1, n)), np.zeros((steps + 1, n)), np.zeros((steps, n))
    zbar, slow = np.zeros(n), np.zeros(n)
    for t in range(steps):
        zbar = r.alpha[r.post] * zbar + (r.spikes[t - 1][r.pre] if t else 0.0)
        slow = decay * slow + r.spikes[t][r.pre]
        x2[t] = slow
        e = r.psi[t][r.post] * (zbar - r.beta[r.post] * eps[t])
        eps[t + 1] = r.rho[r.post] * eps[t] + e
        ebar[t + 1] = r.kappa * ebar[t] + e
    return ebar[:-1], eps[:-1], x2, r.psi[:, r.post]


def recording(seed: int) -> Recording:
    rng = np.random.default_rng(seed)
    pre, post = np.nonzero(rng.random((6, 5)) < 0.7)
    return Recording(
        pre=pre, post=post, spikes=(rng.random((80, 6)) < 0.1).astype(float), psi=rng.random((80, 5)) * (rng.random((80, 5)) < 0.6),
        alpha=rng.uniform(0.8, 0.95, 5), beta=rng.uniform(0.0, 0.3, 5), rho=rng.uniform(0.9, 0.99, 5), kappa=0.9,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_shares_are_the_least_squares_fit(seed: int) -> None:
    """Two projections into one population, NumPy's solver on the whole table of synapses and steps: to 1e-9, relative."""
    both = [recording(seed), recording(seed + 100)]
    decay = np.mean([np.mean(r.rho - r.beta * r.psi.mean()) for r in both])
    columns, wanted, most = [], [], 0.0
    for r in both:
        ebar, eps, x2, psi = traces(r, decay)
        columns.append(np.stack([(psi * ebar).ravel(), (psi * x2).ravel()], axis=1))
        wanted.append((psi * eps).ravel())
        most = max(most, x2.max())
    table, target = np.concatenate(columns), np.concatenate(wanted)
    shares = fit_shares(both)
    assert shares[0] == Share(tag=pytest.approx(float(np.linalg.lstsq(table[:, :1], target, rcond=None)[0][0]), rel=1e-9))
    tag, trace = np.linalg.lstsq(table, target, rcond=None)[0]
    assert len(shares) == (2 if trace > 0 else 1)
    if trace > 0:
        assert tag > 0
        assert shares[1] == Share(
            tag=pytest.approx(tag, rel=1e-9), trace=pytest.approx(trace, rel=1e-9), decay=pytest.approx(decay), most=pytest.approx(most)
        )


def test_neurons_that_never_come_near_their_threshold_have_no_share() -> None:
    silent = recording(0)
    assert fit_shares([Recording(**{f: getattr(silent, f) for f in silent.__slots__} | {"psi": np.zeros_like(silent.psi)})]) == []


@settings(max_examples=100, deadline=None)
@given(
    beta=st.floats(0.01, 1.0), height=st.floats(0.1, 1.0), tag=st.floats(0.3, 3.0), trace=st.floats(0.1, 3.0),
    drive=st.integers(-3, 4), most=st.floats(1.0, 30.0),
)  # fmt: skip
def test_terms_take_what_the_share_says(beta: float, height: float, tag: float, trace: float, drive: int, most: float) -> None:
    """Of the tag: beta tag psi t with y2 = 127 psi / height and the engine's shift by 5, to the nearest coefficient. Of the trace:
    mantissa, exponent and impulse together to a third (the smallest mantissas are far apart), and it never saturates."""
    terms = share_terms(Share(tag=tag, trace=trace, decay=0.98, most=most), beta, height=height, drive=2.0**drive, alpha=0.9, tag_shift=5)
    exact = beta * tag * height / 127 * 32
    found = re.search(r" - (\d)\*2\^(-?\d+)\*u0\*t\*y2", terms.fixed)
    assert (found is None) == (nearest_literal(exact) is None)
    if found is not None:
        assert int(found[1]) * 2.0 ** int(found[2]) == pytest.approx(exact, abs=max(2.0**-8, exact / 8))
    found = re.search(r" - (\d)\*2\^(-?\d+)\*u0\*x2\*y2", terms.fixed)
    if found is not None:
        assert terms.impulse in range(1, 17)
        assert terms.impulse * most <= 127
        assert int(found[1]) * 2.0 ** int(found[2]) * terms.impulse == pytest.approx(
            2.0**drive * 0.9 * beta * trace, rel=1 / 3 + 1e-9, abs=2.0**-7
        )
        assert terms.real.endswith("1*2^-4*u0*x2*y2")
        assert terms.impulse_real / 16 == pytest.approx(0.9 * beta * trace)


@settings(max_examples=100, deadline=None)
@given(beta=st.floats(1e-3, 1.0), rho=st.floats(0.5, 0.99), kappa=st.floats(0.5, 0.98), bits=st.tuples(*[st.integers(0, 4)] * 2))
def test_both_states_take_beta_psi_eps_in_their_own_units(beta: float, rho: float, kappa: float, bits: tuple[int, int]) -> None:
    """Rule ``adaptive``: with eps = (d - 128) / unit, (d - 128) y1 shifted right by 5 is beta psi eps in d's unit and in the tag's."""
    rule = EProp(surrogate=Surrogate(height=0.4, width=0.6), kappa=kappa, optimizer=GradientDescent(learning_rate=1e-4))
    adaptation = Adaptation(beta=np.array([beta, beta / 2]), rho=rho)
    common = {"scale": 1e4, "alpha": 0.95, "weight_exponents": {"p": 0}, "reference": 1.0, "second": None}
    gains = forms.hidden_gains(rule, Form.ADAPTIVE, **common, choice=Scale(), adaptation=adaptation)
    made = hidden_rule(rule, gains, weight_exponent=0, alpha=0.95, second=None, tag_bits=bits[0], d_bits=bits[1], adaptation=adaptation)
    pattern = r"1\*2\^(-?\d+)\*u0\*x1\*y2 .* (\d)\*2\^(-?\d+)\*u0\*\(d-128\)\*y1"
    tag, eps = (re.fullmatch(pattern, made[key]) for key in ("dt_fixed", "dd_fixed"))
    assert tag is not None
    assert eps is not None
    factor = 2.0**gains.beta_exponent  # y1 per beta psi
    assert factor * beta * 0.4 <= 127.0
    assert factor * 2 * beta * 0.4 > 127.0 or gains.beta_exponent == 12
    assert factor / 32 * 2.0 ** int(eps[3]) == 1.0
    assert factor / 32 * 2.0 ** int(tag[3]) == 2.0 ** (int(tag[1]) - int(eps[1]))


def test_y1_is_beta_psi(lower, learner) -> None:
    """Of each neuron's own beta, in the twin: rounded to the nearest, relative to psi in 7 bits."""
    beta = np.linspace(0.001, 0.004, 24)
    network = learner(hidden=ALIF(tau_mem=0.03, v_threshold=0.03, adapt_beta=beta, adapt_tau=0.032))
    made = lower(network, allow=True, eprop_form="adaptive")
    twin = Twin(*describe(made), learning=True)
    seen = 0
    for step in range(60):
        part = {name: s.part(step, step + 1) for name, s in random_signals(network, steps=60).items()}
        twin.run(1, random_inputs(network, steps=60), part)
        psi, y1 = twin.cells[1].sent[2], twin.cells[1].sent[1]
        exponent = np.floor(np.log2(127 / (beta.max() * 10.0)))
        np.testing.assert_allclose(y1, psi / 127 * 10.0 * beta * 2**exponent, atol=0.5 + 127 / 2**13)
        seen += int((y1 > 0).sum())
    assert seen > 100


def test_eligibility_in_d_is_put_at_rest(lower, learner) -> None:
    """reset() forgets d where it is an eligibility, and keeps it where it is a part of the weight."""
    for form, rests in (("adaptive", True), ("lagged", False)):
        network = learner(hidden=ADAPTIVE, optimizer=GradientDescent(learning_rate=1e-3))
        twin = Twin(*describe(lower(network, allow=True, eprop_form=form)), learning=True)
        twin.run(100, random_inputs(network, steps=100), random_signals(network, steps=100))
        start = twin.plastic[0].start[0]
        assert (twin.plastic[0].state[1] != start).any()
        twin.reset()
        assert (twin.plastic[0].state[1] == start).all() == rests


def test_choice_is_measured_and_reported(lower, learner) -> None:
    """auto keeps what measures best of nothing, tag, trace and the exact form, and the report has all of them."""
    network = learner(hidden=ADAPTIVE, optimizer=GradientDescent(learning_rate=1e-4))
    made = lower(network, allow=True, tune="100")
    of = made.summary["learning"]["h"]
    scores = of["adaptation"]["mean_cosine"]
    assert set(scores) >= {"none", "tag", "exact"}
    if of["form"] in {"lagged", "adaptive"}:
        best = max(scores, key=scores.get)
        assert of["adaptation"]["kind"] == best or scores[best] == scores[of["adaptation"]["kind"]]
        assert np.mean([v for k, v in of["measured"]["in->h"].items() if "cosine" in k]) == pytest.approx(scores[best])
    none = lower(network, allow=True, tune="100", adaptation="none", eprop_form="lagged").summary["learning"]["h"]
    assert none["adaptation"] == {"kind": "none"}
    forced = lower(network, allow=True, tune="100", adaptation="tag", eprop_form="lagged")
    assert forced.summary["learning"]["h"]["adaptation"]["kind"] == "tag"
    assert forced.projections[0].rule["dt_fixed"].count("*t*y2") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"adaptation": "tag"}, "tune is 0"),
        ({"adaptation": "trace", "third_factors": "split", "tune": "50"}, "second presynaptic trace"),
        ({"eprop_form": "adaptive", "third_factors": "split"}, "all three third factors"),
    ],
)
def test_what_cannot_be_had_together(lower, learner, options: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        lower(learner(hidden=ADAPTIVE), allow=True, **options)
    assert [d.code for d in refused.value.diagnostics] == ["NC201"]


def test_split_third_factors_leave_the_tag_alone_to_tell(lower, learner) -> None:
    network = learner(hidden=ADAPTIVE, optimizer=GradientDescent(learning_rate=1e-4))
    made = lower(network, allow=True, tune="50", third_factors="split").summary["learning"]["h"]
    assert set(made["adaptation"]["mean_cosine"]) == {"none", "tag"}


@pytest.mark.parametrize(("adapt_tau", "refused"), [(0.032, False), (1.0, True)])
def test_what_the_exact_form_approximates(lower, learner, adapt_tau: float, refused: bool) -> None:
    """1 - rho is n/128: near 1/32 that is a note, 1/1000 needs --allow-approximation."""
    network = learner(hidden=ALIF(tau_mem=0.03, v_threshold=0.03, adapt_beta=0.003, adapt_tau=adapt_tau))
    if refused:
        with pytest.raises(UnsupportedError, match=r"adaptation decays by 0\.0009995"):
            lower(network, eprop_form="adaptive")
        return
    made = lower(network, eprop_form="adaptive")
    assert made.approximations == ()
    assert any("in the eligibility by 0.03125" in note for note in made.summary["notes"])
