"""Feedback weights of e-prop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from neurocompile.ir import (
    LIF,
    AllToAll,
    Constant,
    EProp,
    Explicit,
    ExplicitFeedback,
    LeakyReadout,
    Network,
    Normal,
    Population,
    Projection,
    ProjectionFeedback,
    RandomFeedback,
    SymmetricFeedback,
    Task,
    Values,
)
from neurocompile.ir.errors import DoesNotFitError, InputError
from neurocompile.ir.realise import realise_all, realise_feedback

HIDDEN, READOUT = 40, 30


def network(
    feedback: Any, *, seed: int = 1, extra: tuple[Projection, ...] = (), names: tuple[str, ...] = ("h",), task: bool = True
) -> Network:
    populations = [Population(name=n, size=HIDDEN, model=LIF(tau_mem=0.02, v_threshold=1.0)) for n in names]
    populations.append(Population(name="out", size=READOUT, model=LeakyReadout(tau_mem=0.02)))
    learning = "eprop" if task else None
    recurrent = tuple(Projection(pre=n, post=n, connect=AllToAll(), learning=learning) for n in names)
    return Network(
        name="n",
        dt=1e-3,
        seed=seed,
        populations=tuple(populations),
        projections=(*recurrent, Projection(pre=names[0], post="out", connect=AllToAll()), *extra),
        rules=(EProp(name="eprop", feedback=feedback),),
        task=Task(readout="out") if task else None,
    )


def feedback_of(net: Network, hidden: str = "h") -> Any:
    rule = net.rules[0]
    assert isinstance(rule, EProp)
    return realise_feedback(net, rule, hidden)


def test_symmetric_is_the_engines() -> None:
    assert feedback_of(network(SymmetricFeedback())) is None


def test_random() -> None:
    feedback = RandomFeedback(weight=Normal(mean=1.0, std=2.0))
    b = feedback_of(network(feedback))
    assert b.shape == (READOUT, HIDDEN)
    assert not b.flags.writeable
    assert stats.kstest(b.ravel(), stats.norm(1.0, 2.0).cdf).pvalue > 1e-3
    np.testing.assert_array_equal(b, feedback_of(network(feedback)))
    assert not np.array_equal(b, feedback_of(network(feedback, seed=2)))
    two = network(feedback, names=("h", "g"))
    np.testing.assert_array_equal(feedback_of(two, "h"), b)
    assert not np.array_equal(feedback_of(two, "g"), b)


def test_random_with_values_and_constant() -> None:
    values = np.arange(float(READOUT * HIDDEN))
    b = feedback_of(network(RandomFeedback(weight=Values(values=values))))
    assert b[3, 5] == 5 * READOUT + 3  # by target (hidden), then by source (readout)
    assert (feedback_of(network(RandomFeedback(weight=Constant(value=0.5)))) == 0.5).all()
    with pytest.raises(InputError, match="NC202"):
        feedback_of(network(RandomFeedback(weight=Values(values=values[1:]))))


def test_explicit_adds_repeated_pairs() -> None:
    b = feedback_of(network(ExplicitFeedback(connections=Explicit(pre=[0, 2, 0], post=[1, 39, 1], weight=[1.0, 5.0, 2.5]))))
    assert b[0, 1] == 3.5
    assert b[2, 39] == 5.0
    assert np.count_nonzero(b) == 2


def test_projection() -> None:
    back = Projection(pre="out", post="h", name="back", connect=AllToAll(), weight=Normal(mean=0, std=1))
    net = network(ProjectionFeedback(projection="back"), extra=(back,), names=("h", "g"))
    b = feedback_of(net)
    assert "back" not in realise_all(net)
    assert np.count_nonzero(b) == READOUT * HIDDEN
    with pytest.raises(InputError, match=r"NC210.*leads to 'h', not to 'g'"):
        feedback_of(net, "g")


def test_without_a_task() -> None:
    with pytest.raises(InputError, match="NC207"):
        feedback_of(network(RandomFeedback(weight=Constant(value=1.0)), task=False))


@pytest.mark.parametrize(
    "feedback",
    [
        RandomFeedback(weight=Constant(value=1.0)),
        ExplicitFeedback(connections=Explicit(pre=np.array([0]), post=np.array([0]), weight=np.array([1.0]))),
    ],
)
def test_a_matrix_beyond_the_memory_is_refused_before_it_is_made(feedback: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the matrix is needed; a list of one entry makes a full matrix as well."""
    net, needed = network(feedback), 2 * 8 * READOUT * HIDDEN
    monkeypatch.setattr("neurocompile.ir.realise.available_memory", lambda: needed)
    assert realise_feedback(net, net.rules[0], "h") is not None  # type: ignore[arg-type]
    monkeypatch.setattr("neurocompile.ir.realise.available_memory", lambda: needed - 1)
    with pytest.raises(DoesNotFitError, match=r"NC230.*30 readouts for 40 neurons of 'h'"):
        realise_feedback(net, net.rules[0], "h")  # type: ignore[arg-type]
