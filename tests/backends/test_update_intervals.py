"""Every target refuses the original formulation of e-prop, and says what comes nearest."""

from __future__ import annotations

import pytest

from neurocompile.backends.base import BuildOptions, load_targets
from neurocompile.ir import LIF, EProp, Interval2020, LeakyReadout, Network, Population, Projection, SpikeSource, Task
from neurocompile.ir.connectivity import AllToAll
from neurocompile.ir.errors import UnsupportedError
from neurocompile.ir.realise import realise_all
from neurocompile.machine import load_machine

NETWORK = Network(
    name="n",
    dt=1e-3,
    populations=(
        Population(name="in", size=4, model=SpikeSource()),
        Population(name="hidden", size=3, model=LIF(tau_mem=0.02, v_threshold=0.5)),
        Population(name="out", size=2, model=LeakyReadout(tau_mem=0.02)),
    ),
    projections=(
        Projection(pre="in", post="hidden", connect=AllToAll(), learning="rule"),
        Projection(pre="hidden", post="out", connect=AllToAll(), learning="rule"),
    ),
    rules=(EProp(name="rule", update=Interval2020(interval_steps=20)),),
    task=Task(readout="out"),
)


@pytest.mark.parametrize("name", ["loihi2", "nest", "spinnaker"])
@pytest.mark.parametrize("allow", [False, True])
def test_every_target_refuses_it(name: str, allow: bool) -> None:
    target = load_targets()[name]
    machine = None if target.default_machine is None else load_machine(target.default_machine)
    with pytest.raises(UnsupportedError, match=f"target '{name}' has no e-prop with update intervals") as caught:
        target.lower(NETWORK, realise_all(NETWORK), machine, BuildOptions(allow_approximation=allow))
    (found,) = caught.value.diagnostics
    assert found.code == "NC344"
    assert found.help is not None
    assert "per_event" in found.help
