"""Tasks in the integers of SpiNNaker's cores: frozen weights are those of a build, evaluation equals running the twin sample by sample."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocompile.backends.base import BuildOptions
from neurocompile.ir import Network
from neurocompile.ir.errors import InputError, UnsupportedError
from neurocompile.ir.realise import realise_all
from neurocompile.pipeline import CompileOptions, compile_network
from neurocompile.simulation.twin import TwinSimulator, find_twin
from neurocompile.tasks import Numerics, evaluate, sweep, train

FEW: dict[str, Any] = {"limit_test": 12, "baseline": False}
Make = Callable[..., Network]


def integers(**extra: str) -> Numerics:
    return Numerics(target=find_twin("spinnaker"), options=BuildOptions(extra=extra))


@pytest.fixture(scope="module")
def trained(tiny: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """weights.npz of a short training in float64."""
    folder = tmp_path_factory.mktemp("trained")
    train(tiny(), out=folder, epochs=2, limit_train=300, limit_test=1, baseline=False)
    return folder / "weights.npz"


@pytest.mark.parametrize("extra", [{}, {"source_rate": "2000", "rate": "200"}, {"eprop": "r_stdp"}])
def test_frozen_weights_are_those_of_the_build(tiny: Make, extra: dict[str, str]) -> None:
    """The build's floats in its own resolution, rounded, are what the simulation says that it holds."""
    network = tiny()
    synapses = realise_all(network)
    built = compile_network(network, CompileOptions(target="spinnaker", extra=extra, allow_approximation=True), connections=synapses)
    spec = json.loads(built.artifacts["program/network.json"])
    simulator = TwinSimulator(network, synapses, find_twin("spinnaker"), options=BuildOptions(extra=extra), learning=False)
    with np.load(io.BytesIO(built.artifacts["program/network.npz"])) as emitted:
        for projection in spec["projections"]:
            post = next(p for p in spec["populations"] if p["name"] == projection["post"])
            weight, scale = emitted[f"weight:{projection['key']}"].astype(np.float64), post["weight_scale"]
            unit = np.where(weight < 0, post["weight_resolution"][1], post["weight_resolution"][0])
            held = simulator.weights()[projection["name"]]
            np.testing.assert_array_equal(held, np.rint(weight * scale / unit) * unit / scale)


def test_evaluation_is_near_that_of_floats(tiny: Make, trained: Path) -> None:
    """The loss of both on the same samples; a sweep gives the figures of evaluations; a far higher assumed rate leaves less resolution."""
    network = tiny()
    floats, ours = evaluate(network, trained, **FEW), evaluate(network, trained, numerics=integers(), **FEW)
    assert abs(ours.loss - floats.loss) < 0.2 * floats.loss
    coarse = evaluate(network, trained, numerics=integers(source_rate="1000000", rate="1000000"), **FEW)
    assert coarse.loss != ours.loss


def test_a_sweep_has_the_figures_of_evaluations(tiny: Make, tmp_path: Path) -> None:
    network, varied = tiny(), {"source_rate": ["50", "1000000"]}
    found = sweep(network, integers(), varied, out=tmp_path / "s", limit_test=12)
    for point in found.points:
        assert point.loss == evaluate(network, numerics=integers(**point.choice), **FEW).loss
    assert found.points[0].loss != found.points[1].loss


def test_unknown_options_end_a_sweep_before_it_begins(tiny: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        sweep(tiny(), integers(), {"rat": ["1", "2"]}, out=tmp_path / "s", limit_test=4)
    (found,) = error.value.diagnostics
    assert (found.code, found.help) == ("NC320", "did you mean 'rate'?")
    assert not (tmp_path / "s").exists()


def test_eprop_is_learnt_in_integers_by_our_own_cores(tiny: Make, tmp_path: Path) -> None:
    """Near what is learnt in floats from the same samples: weight changes point the same way."""
    network, few = tiny(), {"epochs": 1, "limit_train": 60} | FEW
    train(network, out=tmp_path / "floats", **few)
    train(network, out=tmp_path / "ours", numerics=integers(), **few)
    first = {p.name: synapses.weight for p, synapses in zip(network.projections, realise_all(network).values(), strict=True)}
    with np.load(tmp_path / "floats" / "weights.npz") as floats, np.load(tmp_path / "ours" / "weights.npz") as ours:
        for name, weight in first.items():
            a, b = (found[f"weight:{name}"] - weight for found in (floats, ours))
            assert a @ b > 0.95 * np.linalg.norm(a) * np.linalg.norm(b)


def test_eprop_is_learnt_in_integers_by_no_released_program(tiny: Make, tmp_path: Path) -> None:
    """Without the flag a training in integers ends with the reason; with it, nothing but the rewards that nobody sends would teach."""
    with pytest.raises(UnsupportedError) as error:
        train(tiny(), out=tmp_path / "t", epochs=1, numerics=integers(eprop="r_stdp"), limit_train=5, **FEW)
    assert {d.code for d in error.value.diagnostics} >= {"NC325"}
