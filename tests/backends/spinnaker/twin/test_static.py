"""Static programs: the twin beside a second implementation, one Python integer at a time, and beside the engine."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from neurocompile.backends.reference import Simulator
from neurocompile.backends.spinnaker import TARGET, accum
from neurocompile.backends.spinnaker.twin import Twin
from neurocompile.ir import LIF, Explicit, LeakyReadout, Network, Population, Projection, SpikeSource
from neurocompile.ir.errors import UnsupportedError
from neurocompile.ir.neurons import Reset
from tests.backends.spinnaker.core_model import encode, exponential
from tests.backends.spinnaker.twin.networks import lowered_of, spikes_of, static_networks
from tests.backends.spinnaker.twin.slow_network import SlowNetwork

MANY = int(os.environ.get("NEUROCOMPILE_RANDOM_PROGRAMS", "0"))
"""How many random networks; 0: as many as fit into an ordinary run"""
STEPS = 150


def expected_spikes(run: Any, sources: tuple[str, ...] = ()) -> set[tuple[str, int, int]]:
    found = set()
    for name, s in run.spikes.items():
        if name not in sources:
            found |= {(name, int(t), int(i)) for t, i in zip(s.step, s.neuron, strict=True)}
    return found


@settings(max_examples=MANY or 40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(static_networks(), st.integers(0, 99), st.sampled_from([0.02, 0.3]), st.sampled_from(["30", "0.01"]))
def test_random_networks_equal_plain_integers(network: Network, seed: int, rate: float, planned: str) -> None:
    """Spikes of all populations and every membrane of the readout; with rates planned far too low, ring buffers saturate."""
    try:
        lowered = lowered_of(network, rate=planned, source_rate=planned)
    except UnsupportedError:
        assume(False)
    given_spikes = {"in": spikes_of(seed, network.populations[0].size, STEPS, rate)}
    slow = SlowNetwork(lowered)
    slow.run(STEPS, given_spikes)
    run = Twin(lowered, learning=False).run(STEPS, spikes=given_spikes, signals={})
    assert expected_spikes(run) == slow.spikes
    scale = lowered.cells[3].voltage_scale
    np.testing.assert_array_equal(run.outputs["out"], [np.array(slow.membranes["out", t]) / 2**15 / scale for t in range(STEPS)])


def test_ring_buffers_saturate() -> None:
    """32 sources at once, planned for 0.01 Hz: 65535 units arrive, not the sum."""
    n = 32
    network = Network(
        name="full",
        dt=1e-3,
        populations=(
            Population(name="in", size=n, model=SpikeSource()),
            Population(name="out", size=1, model=LeakyReadout(tau_mem=0.02)),
        ),
        projections=(
            Projection(
                pre="in",
                post="out",
                connect=Explicit(pre=np.arange(n), post=np.zeros(n, int), weight=np.full(n, 0.9), delay=np.full(n, 2)),
            ),
        ),
    )
    lowered = lowered_of(network, source_rate="0.01")
    run = Twin(lowered, learning=False).run(4, spikes={"in": spikes_of(0, n, 1, 2.0)}, signals={})
    full = 65535 * lowered.buffers["out"].resolution[0] / lowered.cells[1].voltage_scale
    assert full < 0.1 * n * 0.9 * 10
    assert run.outputs["out"][2, 0] == pytest.approx(full, rel=1e-3)
    assert (run.outputs["out"][:2] == 0.0).all()


def test_spikes_are_nearly_those_of_the_engine() -> None:
    """Two layers of 60 neurons with hard reset, 2 s at 1 ms: rounding moves few spikes."""
    rng = np.random.default_rng(5)

    def layer(n_pre: int, n_post: int, mean: float) -> Explicit:
        pre, post = np.nonzero(rng.random((n_pre, n_post)) < 0.3)
        return Explicit(pre=pre, post=post, weight=rng.normal(mean, 0.05, len(pre)), delay=rng.integers(1, 6, len(pre)))

    cells = LIF(tau_mem=0.02, v_threshold=0.5, reset=Reset.TO_VALUE, t_ref=2e-3)
    network = Network(
        name="two layers",
        dt=1e-3,
        populations=(
            Population(name="in", size=40, model=SpikeSource()),
            Population(name="a", size=60, model=cells),
            Population(name="b", size=60, model=cells),
        ),
        projections=(
            Projection(pre="in", post="a", connect=layer(40, 60, 0.08)),
            Projection(pre="a", post="b", connect=layer(60, 60, 0.05)),
        ),
    )
    spikes = {"in": spikes_of(3, 40, 2000, 0.02)}
    engine = Simulator(network).run(2000, spikes=spikes).spikes
    run = Twin(lowered_of(network), learning=False).run(2000, spikes=spikes, signals={}).spikes
    for name in ("a", "b"):
        ours = set(zip(run[name].step.tolist(), run[name].neuron.tolist(), strict=True))
        theirs = set(zip(engine[name].step.tolist(), engine[name].neuron.tolist(), strict=True))
        assert len(theirs) > 1000
        assert len(ours ^ theirs) < 0.03 * len(theirs)


def test_numbers_are_those_that_spynnakers_host_writes() -> None:
    data_type = pytest.importorskip("spinn_front_end_common.interface.ds.data_type")
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 10.0**k, 50) for k in range(-4, 5)] + [(np.arange(-8, 9) + 0.5) / 2**15, np.arange(-5.0, 6.0)])
    values = values[np.abs(values) < 65535]
    expected = [data_type.DataType.S1615.encode_as_int(float(v)) for v in values]
    np.testing.assert_array_equal(accum.encode(values), expected)
    assert [encode(v) for v in values] == expected


@given(st.integers(-345000, 0))
@settings(max_examples=500, derandomize=True)
def test_exponentials_equal_plain_integers(x: int) -> None:
    assert int(accum.exponential(x)) == exponential(x) >> 17
    if x:
        assert int(accum.exponential_fraction(x)) == exponential(x)


def test_target_has_a_twin_of_its_own_networks_alone() -> None:
    with pytest.raises(TypeError, match="SpinnakerNetwork"):
        TARGET.twin(object(), learning=False)  # type: ignore[arg-type]
