"""Small networks for the NEST target, and a run of both simulators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.base import BuildOptions, Check, sdk_version
from neurocompile.backends.nest import TARGET
from neurocompile.ir import (
    LIF,
    EProp,
    Explicit,
    LeakyReadout,
    Network,
    Normal,
    Population,
    Projection,
    RandomFeedback,
    SpikeSource,
    Task,
)
from neurocompile.ir.realise import realise_all

HIDDEN = LIF(tau_mem=0.03, v_threshold=0.6)


def _list(rng: np.random.Generator, n_pre: int, n_post: int, scale: float, share: float = 0.6) -> Explicit:
    """Random synapses in random order."""
    pre, post = np.nonzero(rng.random((n_pre, n_post)) < share)
    order = rng.permutation(pre.size)
    return Explicit(pre=pre[order].astype(np.int32), post=post[order].astype(np.int32), weight=rng.normal(0.0, scale, pre.size))


def make_network(hidden: Any = HIDDEN, rule: EProp | None = None, *, sizes: tuple[int, int, int] = (12, 10, 2), **changes: Any) -> Network:
    """in -> hidden -> out with recurrence, all plastic."""
    rng = np.random.default_rng(7)
    n_in, n_hidden, n_out = sizes
    if rule is None:
        rule = EProp(feedback=RandomFeedback(weight=Normal(mean=0.0, std=1.0)))
    arguments: dict[str, Any] = {
        "name": "small",
        "dt": 1e-3,
        "seed": 3,
        "populations": (
            Population(name="in", size=n_in, model=SpikeSource()),
            Population(name="hidden", size=n_hidden, model=hidden),
            Population(name="out", size=n_out, model=LeakyReadout(tau_mem=0.02)),
        ),
        "projections": (
            Projection(pre="in", post="hidden", connect=_list(rng, n_in, n_hidden, 0.5), learning=rule.name),
            Projection(pre="hidden", post="hidden", connect=_list(rng, n_hidden, n_hidden, 0.3), learning=rule.name),
            Projection(name="read", pre="hidden", post="out", connect=_list(rng, n_hidden, n_out, 0.3, 1.0), learning=rule.name),
        ),
        "rules": (rule,),
        "task": Task(readout="out"),
    }
    return Network(**{**arguments, **changes})


@pytest.fixture(scope="session")
def network() -> Callable[..., Network]:
    return make_network


@pytest.fixture(scope="session")
def explicit() -> Callable[..., Explicit]:
    return _list


@pytest.fixture
def built(tmp_path: Path) -> Callable[[Network], Path]:
    """Write the program of a network and return the build folder."""

    def write(net: Network, *, allow: bool = False) -> Path:
        options = BuildOptions(allow_approximation=allow)
        lowered = TARGET.lower(net, realise_all(net), None, options)
        for path, content in TARGET.emit(lowered, None, options).items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content)
        return tmp_path

    return write


@pytest.fixture
def side_by_side(built: Callable[..., Path]) -> Callable[..., dict[str, Check]]:
    """Validate a network and return the checks by name."""
    if sdk_version("nest-simulator") is None:
        pytest.skip("NEST is not installed")

    def run(net: Network, *, steps: int = 150, allow: bool = False) -> dict[str, Check]:
        checks = TARGET.validate(built(net, allow=allow), net, realise_all(net), steps=steps)
        return {check.name: check for check in checks}

    return run


__all__ = ["replace"]
