"""E-prop's gradient, as the engine applies it, beside BPTT with the same surrogate (an adjoint by hand, ``adjoint.py``).

E-prop is BPTT without two kinds of paths: through spikes from hidden to hidden neurons, and through resets (docs/gradients.md). Where a
network has none of the first, and for the soft reset of BPTT as it is usually done (the resetting spike is a constant), both are the
same numbers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurocompile.ir import Loss, Surrogate, SurrogateKind
from tests.backends.reference.adjoint import (
    BIASES,
    BPTT,
    EPROP,
    Problem,
    Route,
    Weights,
    adjoint,
    eprop,
    forward,
    make_problem,
    smooth_spike,
    tangent,
)

ALGORITHMS = ("loop", "anchored")
ROUTES = tuple(Route(reset=reset, recurrent=recurrent) for reset in ("full", "detached", "linear") for recurrent in (True, False))
FEATURES: dict[str, dict[str, Any]] = {
    "lif": {},
    "refractory": {"t_ref": 3},
    "same parameters": {"tau": 20.0, "threshold": 0.5},  # a kernel of its own
    "rest elsewhere": {"v_leak": 0.1, "v_reset": -0.2},
    "rate regularisation": {"strength": 3.0, "rate": 0.02},
    "alif": {"beta": 0.06, "tau_adapt": 150.0},
    "alif, refractory, regularised": {"beta": 0.06, "tau_adapt": 50.0, "t_ref": 2, "strength": 1.0},
    "cross-entropy": {"loss": Loss.CROSS_ENTROPY},
    "alif, cross-entropy": {"loss": Loss.CROSS_ENTROPY, "beta": 0.04},
    "readout of 200 ms": {"tau_out": 200.0},
    "delays": {"delays": {"in": 7, "rec": 5}},
}
CLAMPED: dict[str, dict[str, Any]] = {  # membranes that do not pass everything on: readout weights are exact, hidden ones not
    "soft, floor": {"v_min": -0.05, "t_ref": 2},
    "hard, floor": {"hard": True, "v_min": -0.05, "t_ref": 2},
    "hard": {"hard": True},
    "hard, refractory": {"hard": True, "t_ref": 3, "v_reset": -0.1},
    "hard, delays": {"hard": True, "delays": {"in": 3, "rec": 9, "out": 4}},
    "hard alif": {"hard": True, "beta": 0.06, "t_ref": 1, "v_leak": 0.05},
}


def random_direction(p: Problem, seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 1, w.shape) for name, w in p.weights.items()}


def along(gradient: Weights, direction: Weights) -> float:
    return float(sum(np.sum(gradient[name] * direction[name]) for name in gradient))


def assert_same(got: Weights, expected: Weights, p: Problem, names: tuple[str, ...] = ("in", "rec", "out")) -> None:
    """Elementwise to 1e-9; a sum of terms that cancel is compared with the largest gradient of its kind (9e-13 of it seen)."""
    for name in names:
        if p.masks[name].any():
            values = np.where(p.masks[name], expected[name], 0.0)
            assert np.abs(values).max() > 1e-4, name
            np.testing.assert_allclose(got[name], values, rtol=1e-9, atol=3e-12 * np.abs(values).max(), err_msg=name)


def distance(got: Weights, expected: Weights, p: Problem, name: str) -> float:
    values = np.where(p.masks[name], expected[name], 0.0)
    return float(np.abs(got[name] - values).max() / np.abs(values).max())


# The oracle itself


@pytest.mark.parametrize("kind", SurrogateKind)
@pytest.mark.parametrize("name", ["lif", "alif, refractory, regularised", "alif, cross-entropy", "hard, refractory", "soft, floor"])
def test_adjoint_is_the_gradient_of_the_smooth_network(kind: SurrogateKind, name: str) -> None:
    """With the surrogate's antiderivative for a spike the surrogate gradient is a true one: all weights by complex step, exact to rounding,
    and one direction by finite differences, which know nothing of dual numbers; they have an error of the order of h."""
    p = make_problem(
        3, layers=(4,), steps=40, recurrent=0.3, surrogate=Surrogate(kind=kind, height=0.8, width=0.5), **(FEATURES | CLAMPED)[name]
    )
    full = Route(reset="full")
    gradient = adjoint(p, forward(p, p.weights, smooth_spike, full), full)
    for matrix, w in p.weights.items():
        exact = np.zeros_like(w)
        for index in np.ndindex(*w.shape):
            unit = {other: np.zeros_like(x) for other, x in p.weights.items()}
            unit[matrix][index] = 1.0
            exact[index] = tangent(p, unit, smooth_spike, full)
        np.testing.assert_allclose(gradient[matrix], exact, rtol=1e-11, atol=1e-13 * np.abs(exact).max(), err_msg=matrix)
    direction, h = random_direction(p, 5), 1e-6
    ahead, behind = (forward(p, {n: w + s * h * direction[n] for n, w in p.weights.items()}, smooth_spike).energy.real for s in (1, -1))
    assert (ahead - behind) / (2 * h) == pytest.approx(along(gradient, direction), rel=1e-5)


@pytest.mark.parametrize("route", ROUTES, ids=str)
@pytest.mark.parametrize("change", [*FEATURES.values(), *CLAMPED.values()], ids=[*FEATURES, *CLAMPED])
def test_adjoint_is_the_transpose_of_the_tangent(change: dict[str, Any], route: Route) -> None:
    """The spiking network itself: forward mode and reverse mode agree along every route, also with feedback weights of their own."""
    p = make_problem(4, recurrent=0.3, **change)
    other = replace(p, feedback=np.random.default_rng(1).normal(0, 0.4, (3, 12)))
    for problem in (p, other):
        run = forward(problem, problem.weights, route=route)
        assert run.z.sum() > 50
        gradient = adjoint(problem, run, route)
        for seed in range(3):
            direction = random_direction(p, seed)
            # relative to the sum of absolute terms: a direction may happen to be flat
            scale = sum(float(np.sum(np.abs(gradient[n] * direction[n]))) for n in gradient)
            assert abs(tangent(problem, direction, route=route) - along(gradient, direction)) < 1e-12 * scale


def test_a_wrong_surrogate_is_seen() -> None:
    """The comparison with a true derivative is not empty: psi of another shape is no gradient of this network."""
    p = make_problem(3, layers=(4,), steps=40, recurrent=0.3)
    other = replace(p, surrogate=replace(p.surrogate, width=0.41))
    full, direction = Route(reset="full"), random_direction(p, 5)
    wrong = adjoint(other, forward(p, p.weights, smooth_spike, full), full)
    assert abs(tangent(p, direction, smooth_spike, full) / along(wrong, direction) - 1) > 1e-3


# Equal where theory says equal


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kind", SurrogateKind)
@pytest.mark.parametrize("change", FEATURES.values(), ids=FEATURES)
def test_eprop_is_bptt_without_recurrence(change: dict[str, Any], kind: SurrogateKind, algorithm: str) -> None:
    """A feed-forward hidden layer with heterogeneous time constants, kappa the readout's decay, symmetric feedback, soft reset (the
    resetting spike constant): input and readout weights."""
    p = make_problem(7, surrogate=Surrogate(kind=kind, height=0.8, width=0.5), **change)
    run = forward(p, p.weights)
    got, fired, y = eprop(p, algorithm)
    np.testing.assert_array_equal(fired, run.z)
    np.testing.assert_allclose(y, run.y, rtol=1e-12, atol=1e-13)
    assert fired.sum() > 60
    assert_same(got, adjoint(p, run, BPTT), p)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("change", [*FEATURES.values(), *CLAMPED.values()], ids=[*FEATURES, *CLAMPED])
def test_last_layers_are_exact(change: dict[str, Any], algorithm: str) -> None:
    """Readout weights are exact behind any recurrent network, soft or hard; of two feed-forward layers so are those between them, but not
    those into the first."""
    p = make_problem(8, recurrent=0.3, **change)
    run = forward(p, p.weights)
    got, fired, _ = eprop(p, algorithm)
    np.testing.assert_array_equal(fired, run.z)
    expected = adjoint(p, run, BPTT)
    assert_same(got, expected, p, ("out",))
    assert distance(got, expected, p, "rec") > 0.01
    if change in CLAMPED.values():
        return
    p = make_problem(8, layers=(7, 5), **change)
    expected = adjoint(p, forward(p, p.weights), BPTT)
    got, _, _ = eprop(p, algorithm)
    assert_same(got, expected, p, ("rec", "out"))
    assert distance(got, expected, p, "in") > 0.01


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    surrogate=st.builds(Surrogate, kind=st.sampled_from(SurrogateKind), height=st.floats(0.2, 2.0), width=st.floats(0.2, 2.0)),
    neuron=st.fixed_dictionaries(
        {
            "hard": st.booleans(),
            "t_ref": st.integers(0, 4),
            "v_leak": st.sampled_from([0.0, 0.1]),
            "v_reset": st.sampled_from([0.0, -0.2]),
            "v_min": st.sampled_from([-np.inf, -0.1]),
            "beta": st.sampled_from([0.0, 0.02, 0.08]),
            "tau_adapt": st.floats(20.0, 500.0),
            "tau_out": st.floats(5.0, 300.0),
        }
    ),
    loss=st.sampled_from(Loss),
    layers=st.sampled_from([(12,), (7, 5)]),
    recurrent=st.sampled_from([0.0, 0.3, 1.0]),
    delays=st.sampled_from([{}, {"in": 4, "rec": 12}]),
    strength=st.sampled_from([0.0, 2.0]),
    feedback=st.booleans(),
)
def test_eprop_is_bptt_on_its_own_paths(
    seed: int,
    surrogate: Surrogate,
    neuron: dict[str, Any],
    loss: Loss,
    layers: tuple[int, ...],
    recurrent: float,
    delays: dict[str, int],
    strength: float,
    feedback: bool,
) -> None:
    """Everything that e-prop leaves out, and nothing else, is the paths named above: cut in BPTT, the gradients are equal in recurrent and
    stacked networks, with hard resets and clamped membranes, and with any feedback weights in the place of the readout's."""
    p = make_problem(seed, layers=layers, recurrent=recurrent, surrogate=surrogate, loss=loss, strength=strength, delays=delays, **neuron)
    if feedback and len(layers) == 1:
        p = replace(p, feedback=np.random.default_rng(seed).normal(0, 0.5, (3, 12)))
    run = forward(p, p.weights, route=EPROP)
    expected = adjoint(p, run, EPROP)
    for algorithm in ALGORITHMS:
        got, fired, _ = eprop(p, algorithm)
        np.testing.assert_array_equal(fired, run.z)
        assert_same(got, expected, p)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("change", [{}, {"beta": 0.06}, {"loss": Loss.CROSS_ENTROPY}], ids=["lif", "alif", "cross-entropy"])
def test_updates_per_event_add_up_to_the_gradient(change: dict[str, Any], algorithm: str) -> None:
    """Weights that change at every event: the gradient in the limit of small learning rates, and the distance to it falls with eta.
    At 1e-11 a weight's change of about 1e-8 still has 7 digits."""
    p = make_problem(9, **change)
    expected = adjoint(p, forward(p, p.weights), BPTT)
    largest, smaller, limit = (eprop(p, algorithm, learning_rate=eta)[0] for eta in (1e-7, 1e-8, 1e-11))
    for name in ("in", "out"):
        assert distance(limit, expected, p, name) < 1e-6
        assert distance(largest, expected, p, name) == pytest.approx(10 * distance(smaller, expected, p, name), rel=0.1)


# The bias where they differ

# case: mean cosine from .. to, (geometric) mean norm from .. to; docs/gradients.md has the figures over 20 seeds
BOUNDS: dict[str, tuple[float, float, float, float]] = {
    "recurrent, weights 0.1/sqrt(n)": (0.85, 0.98, 0.75, 1.05),
    "recurrent, weights 0.2/sqrt(n)": (0.5, 0.9, 0.45, 0.95),
    "recurrent, weights 0.4/sqrt(n)": (-0.1, 0.5, 0.01, 0.5),
    "recurrent alif, weights 0.2/sqrt(n)": (0.85, 0.98, 0.75, 1.05),
    "two layers, both reach the readout": (0.1, 0.6, 0.15, 0.5),
    "last of two layers reaches the readout, chain": (0.98, 0.9995, 0.95, 1.35),
    "last of two layers reaches the readout, random chain": (-0.5, 0.5, 0.2, 2.0),
    "last of two layers reaches the readout, random": (-0.5, 0.5, 0.2, 2.0),
    "last of three layers reaches the readout, chain": (0.9, 0.9995, 0.95, 1.6),
    "last of three layers reaches the readout, random chain": (-0.6, 0.5, 0.1, 2.0),
    "last of three layers reaches the readout, random": (-0.6, 0.5, 0.2, 2.5),
    "random feedback": (-0.35, 0.35, 0.7, 1.5),
    "random feedback with the readout's signs": (0.5, 0.85, 0.7, 1.4),
    "hard reset, t_ref 0": (0.8, 0.95, 1.8, 3.8),
    "hard reset, t_ref 4": (0.8, 0.95, 1.6, 3.2),
    "soft reset, floor at rest": (0.9, 0.98, 1.1, 1.6),
    "soft reset, gradient through the reset": (0.94, 0.99, 2.8, 4.2),
    "kappa 0 for a decay of 0.951": (0.97, 0.998, 0.045, 0.065),
    "kappa 0.9 for a decay of 0.951": (0.99, 0.9998, 0.45, 0.6),
    "delays 1 .. 30 to the readout": (0.9, 0.999, 0.8, 1.2),
    "readouts of 10, 20 and 40 ms, kappa of 20 ms": (0.9, 0.99, 0.5, 1.1),
}


EXACT_ABOVE = {"two layers, both reach the readout", "last of two layers reaches the readout, chain"}


@pytest.mark.parametrize("case", BIASES)
def test_bias(case: str) -> None:
    """Cosine and relative length of e-prop's gradient lie where they are documented, and are not 1; readout weights are exact throughout,
    and so is the upper of two layers."""
    low, high, short, long = BOUNDS[case]
    for name, values in BIASES[case].measure(range(6)).items():
        cosine, norm = np.array(values).T
        if name == "out" or (name == "rec" and case in EXACT_ABOVE):
            np.testing.assert_allclose([cosine, norm], 1.0, atol=1e-11)
        else:
            assert low < cosine.mean() < high, name
            assert short < np.exp(np.log(norm).mean()) < long, name
            assert cosine.max() < 0.9999, name


def test_bias_grows_with_recurrence() -> None:
    """The paths that e-prop leaves out weigh more the stronger they are, and it is exact in the limit."""
    weak = replace(BIASES["recurrent, weights 0.1/sqrt(n)"], problem=lambda seed: make_problem(seed, layers=(40,), recurrent=1e-4))
    found = [weak, *(BIASES[f"recurrent, weights {w}/sqrt(n)"] for w in (0.1, 0.2, 0.4))]
    cosines = [np.mean([c for c, _ in case.measure(range(6))["in"]]) for case in found]
    assert cosines[0] > 0.9999
    assert np.all(np.diff(cosines) < -0.03)
