"""The second eligibility state of adaptive neurons in integers: beside exact e-prop, beside the engine, and where it does not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neurocompile.backends.base import BuildOptions
from neurocompile.backends.spinnaker.eprop import plan
from neurocompile.backends.spinnaker.eprop.kernels import constants, inverse, rounded
from neurocompile.backends.spinnaker.eprop.ranges import Adaptation, psi_bits
from neurocompile.backends.spinnaker.eprop.scales import PIECES, WHOLE_BITS, Scales, choose_scales
from neurocompile.backends.spinnaker.target import TARGET
from neurocompile.ir import SurrogateKind
from neurocompile.ir.errors import UnsupportedError
from neurocompile.ir.realise import realise_all
from tests.backends.spinnaker.eprop.cores import adaptive_rule, assert_exact, changes, expected, left_out, random_events, rule
from tests.backends.spinnaker.eprop.networks import both, learner, lowered, planned


def random_rule(rng: np.random.Generator, share: float) -> tuple[float, float, dict[str, float]]:
    """Return (tau of the adaptation, share, the others): membranes of 15 to 40 steps, filters of 20 to 50, adaptation of 50 to 2,000."""
    return (
        float(np.exp(rng.uniform(np.log(50.0), np.log(2000.0)))),
        share,
        {
            "alpha": float(np.exp(-1.0 / rng.uniform(15, 40))),
            "kappa": float(np.exp(-1.0 / rng.uniform(20, 50))),
            "kappa_reg": float(np.exp(-1.0 / rng.uniform(20, 50))),
            "height": float(rng.uniform(0.2, 1.0)),
            "reg": float(rng.choice([0.0, 0.5])),
            "interval": float(rng.integers(2, 8)),
        },
    )


@pytest.mark.parametrize("smooth", [0.0, 0.97], ids=["white", "smooth"])
def test_weight_changes_are_those_of_exact_eprop(smooth: float) -> None:
    """20 random rules, adapt_beta psi of up to 0.005 .. 0.06, states of 16 bits, scales from the bounds: cosines of 0.999 or more to a
    dense sum in which every trace of every synapse exists in every step."""

    def scales_of(rng: np.random.Generator) -> Scales:
        tau, share, others = random_rule(rng, float(rng.uniform(0.005, 0.06)))
        return choose_scales(adaptive_rule(tau, share, **others))

    assert_exact(scales_of, smooth)


@pytest.mark.parametrize("reg", [0.0, 0.5])
def test_the_one_step_that_differs_is_all_that_differs(reg: float) -> None:
    """With 32-bit states and L(t-1) psi(t) rho / (rho - beta psi(t)) / (a k) of each spike put into the exact sum, rounding leaves below a
    thousandth, where adaptation is as strong as 32 bits allow; without the factor of adaptation more is left."""
    scales = choose_scales(adaptive_rule(100.0, 0.2, alpha=float(np.exp(-1 / 10)), kappa=0.9, reg=reg), state_bits=32)
    got, wanted, saturated = changes(np.random.default_rng(1), scales, smooth=0.0)
    events = random_events(np.random.default_rng(1), scales, n=16, rows=60, m=16, ticks=3000, rate=0.005)
    np.testing.assert_array_equal(expected(scales, events), wanted)
    size = np.linalg.norm(wanted)
    assert saturated == 0
    assert np.linalg.norm(got - wanted) > 0.01 * size
    print(np.linalg.norm(got - wanted) / size, np.linalg.norm(got - wanted - left_out(scales, events)) / size)
    assert np.linalg.norm(got - wanted - left_out(scales, events)) < 1e-3 * size


def test_weight_changes_are_those_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 recurrent networks of adaptive neurons, in half of them beta and tau of each neuron its own and some without, scales and widths of
    states chosen by the compiler: cosines of weight changes of at least 0.999, lengths within 2 %. With the eligibility of neurons that do
    not adapt, the approximation that stood here before, all are below 0.99."""
    rng = np.random.default_rng(0)
    before = 0
    for seed in range(20):
        n = 40
        beta = rng.uniform(0.02, 0.12) * rng.uniform(0.5, 1.0, n) * (rng.random(n) < 0.9)
        network = learner(
            seed,
            n_in=60,
            n=n,
            density=0.3,
            model="alif",
            adapt_beta=beta if seed % 2 else float(beta.max()),
            adapt_tau=np.exp(rng.uniform(np.log(0.1), np.log(2.0), n)) if seed % 2 else float(rng.uniform(0.1, 2.0)),
            kind=list(SurrogateKind)[seed % 4],
            strength=0.1 * (seed % 3 == 0),
            tau=float(rng.uniform(0.015, 0.04)),
            kappa=float(np.exp(-1.0 / rng.uniform(20.0, 50.0))),
            tau_out=float(rng.uniform(0.015, 0.04)),
            learning_rate=1e-8,
        )
        scales = planned(network).populations["hidden"].scales
        assert scales is not None
        assert (scales.adaptive, scales.state_bits) == (True, 32)
        n_spikes, _, found = both(network, seed)
        assert n_spikes > 300
        for name, (likeness, length) in found.items():
            assert likeness >= 0.999, (seed, name, likeness)
            assert 0.98 <= length <= 1.02, (seed, name, length)
        with monkeypatch.context() as without:
            without.setattr(plan, "adapting", lambda neurons, *_: (neurons, None))
            _, _, plain = both(network, seed)
        print(seed, n_spikes, {name: (round(found[name][0], 5), round(plain[name][0], 4)) for name in found})
        before += min(likeness for likeness, _ in plain.values()) < 0.99
    assert before == 20


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.floats(-2.0, 1.0).map(lambda x: float(10.0**x)),
    unit=st.sampled_from([2.0**-13, 2.0**-19, 2.0**-30]),
    share=st.floats(-4.0, -0.7).map(lambda x: float(10.0**x)),
    tau=st.sampled_from([30.0, 1e3, 1e6]),
)
def test_the_table_of_inverses_is_that_of_every_neuron(seed: int, height: float, unit: float, share: float, tau: float) -> None:
    """Whatever rho, beta (of each neuron its own) and psi: 1 / (rho - beta psi) lies in the table, and is right to 1e-5 of itself."""
    rng, n = np.random.default_rng(seed), 50
    decay = np.rint(np.exp(-1.0 / (tau * rng.uniform(0.9, 1.0, n))) * 2.0**31).astype(np.int64)
    step = np.minimum(np.rint(share / height / unit * rng.uniform(0.0, 1.0, n)), 2**31 - 1).astype(np.int64)
    step[0] = max(step[0], 1)
    adaptation = Adaptation.of(decay, step, unit, height)
    assume(adaptation.least >= 0.76)
    scales = choose_scales(replace(rule(height=height, learning_rate=1e-5), adaptation=adaptation), state_bits=32)
    k = constants(scales)
    most = round(height * 2.0 ** psi_bits(height))
    for psi in (0, 1, most // 3, most - 1, most):
        given_psi = (decay >> (31 - k.decay_bits)) - rounded(step * psi, k.rise)
        place = given_psi - k.decay_least
        assert place.min() >= 0
        assert place.max() < PIECES << k.piece
        found = np.array([inverse(k, int(rest)) for rest in given_psi]) * 2.0**-WHOLE_BITS
        exact = 1.0 / (decay * 2.0**-31 - step * unit * psi * 2.0 ** -psi_bits(height))
        assert np.abs(found / exact - 1.0).max() < 1e-5 + 2.0 ** (2 - k.decay_bits)


def test_adaptation_that_does_not_fit() -> None:
    """adapt_beta psi beyond what blocks of 32 steps undo is an approximation that is refused with its numbers; less of it needs states of
    32 bits; an adapt_beta of 0 is a neuron that does not adapt."""
    strong, middling = learner(0, model="alif", adapt_beta=2.0), learner(0, model="alif", adapt_beta=0.36)
    for network, said in ((strong, "rho - adapt_beta psi is as low as -0.0"), (middling, "--set state_bits=32")):
        extra = {"eprop": "cores", "state_bits": "16"}
        with pytest.raises(UnsupportedError) as caught:
            TARGET.lower(network, realise_all(network), None, BuildOptions(extra=extra))
        assert [d.code for d in caught.value.diagnostics] == ["NC325"]
        assert said in caught.value.diagnostics[0].message
        accepted = lowered(network, state_bits=16)
        assert [a.code for a in accepted.approximations] == ["NC325"]
        assert accepted.eprop is not None
        scales = accepted.eprop.populations["hidden"].scales
        assert scales is not None
        assert not scales.adaptive
    for network, extra, bits, adaptive in (
        (middling, {}, 32, True),
        (learner(0, model="alif", adapt_beta=0.0), {}, 16, False),
        (learner(0, model="alif"), {"state_bits": "16"}, 16, True),
    ):
        options = BuildOptions(extra={"eprop": "cores"} | extra)
        made = TARGET.lower(network, realise_all(network), None, options).eprop
        assert made is not None
        scales = made.populations["hidden"].scales
        assert scales is not None
        assert (scales.adaptive, scales.state_bits) == (adaptive, bits)
        assert ("q" in made.summary["hidden"]["fraction_bits"]) == adaptive
