"""Tiny tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from neurocompile.ir import (
    LIF,
    AllToAll,
    Constant,
    DataSet,
    EProp,
    FixedProbability,
    GradientDescent,
    LeakyReadout,
    Network,
    Normal,
    Population,
    Projection,
    RandomFeedback,
    Regularization,
    SpikeSource,
    Surrogate,
    Task,
)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Network]:
    """Make a small network that learns digits (options of the data set and of the task by keyword)."""

    def make(
        kind: str = "digits", *, n_in: int = 64, n_out: int = 10, path: str | None = None, options: Any = None, seed: int = 3, **task: Any
    ) -> Network:
        rule = EProp(
            surrogate=Surrogate(height=0.5, width=0.6),
            feedback=RandomFeedback(weight=Normal(mean=0.0, std=1.0)),
            regularization=Regularization(strength=10.0, rate=20.0),
            kappa=0.95,
            kappa_reg=0.99,
            optimizer=GradientDescent(learning_rate=3e-5),
        )
        ends = [("in", "hidden", 0.2), ("hidden", "hidden", 0.05), ("hidden", "out", 0.02)]
        return Network(
            name="tiny",
            dt=1e-3,
            seed=seed,
            populations=(
                Population(name="in", size=n_in, model=SpikeSource()),
                Population(name="hidden", size=20, model=LIF(tau_mem=0.02, v_threshold=0.6)),
                Population(name="out", size=n_out, model=LeakyReadout(tau_mem=0.02)),
            ),
            projections=tuple(
                Projection(
                    pre=pre,
                    post=post,
                    connect=FixedProbability(probability=0.5) if post == "hidden" else AllToAll(),
                    weight=Normal(mean=0.0, std=std),
                    delay=Constant(value=1),
                    learning="eprop",
                )
                for pre, post, std in ends
            ),
            rules=(rule,),
            task=Task(**{"readout": "out", "sample_steps": 30, "data": DataSet(kind=kind, path=path, options=options or {})} | task),
        )

    return make
