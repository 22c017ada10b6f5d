"""mapping.npz: the arrays and back again; damaged files are refused, never read wrongly."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.ir.errors import MismatchError
from neurocompile.mapping import map_network
from neurocompile.mapping.export import Arrays, load_mapping, mapping_arrays
from neurocompile.mapping.verify import verify_mapping

Factory = Callable[..., Any]


def through_a_file(arrays: Arrays) -> Arrays:
    """As they come back from disk; object arrays would not."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as loaded:
        return dict(loaded)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    density=st.sampled_from([0.0, 0.1]),
    options=st.sampled_from(
        [{}, {"routing": "destination", "kind": "mesh"}, {"cores": 70, "width": 2, "height": 2}, {"cores": 3, "entries": 12, "width": 6}]
    ),
)
def test_round_trip(problem: Factory, machine: Factory, seed: int, density: float, options: dict[str, Any]) -> None:
    network = problem(seed=seed, sizes=(12, 60, 8), density=density, neurons=8)
    made = machine(**options)
    mapping = map_network(network, made)
    arrays = mapping_arrays(mapping)
    loaded = load_mapping(through_a_file(arrays))
    again = mapping_arrays(loaded)
    assert set(again) == set(arrays)
    for name, array in arrays.items():
        assert array.dtype == again[name].dtype, name
        assert np.array_equal(array, again[name]), name
    for mine, other in zip(mapping.routes, loaded.routes, strict=True):
        assert all(np.array_equal(getattr(mine, f.name), getattr(other, f.name)) for f in fields(mine))
    verify_mapping(network, loaded, made)


def test_arrays_per_neuron_say_where_it_is(problem: Factory, machine: Factory) -> None:
    network = problem()
    mapping = map_network(network, machine())
    arrays = mapping_arrays(mapping)
    for neuron in range(network.n_neurons):
        part = mapping.partition.part[neuron]
        assert arrays["chip"][neuron] == mapping.placement.chip[part]
        assert arrays["core"][neuron] == mapping.placement.core[part]
    assert (arrays["core"][network.external] == -1).all()


def test_equal_trees_are_stored_once(problem: Factory, machine: Factory) -> None:
    mapping = map_network(problem(sizes=(60,), external=(False,), density=1.0, neurons=5), machine(cores=5, reserved=0))
    arrays = mapping_arrays(mapping)
    assert len(mapping.routes) == 12
    assert len(arrays["tree_start"]) - 1 == len(np.unique(mapping.placement.chip)) == 3


@pytest.fixture(scope="module")
def arrays(problem: Factory, machine: Factory) -> Arrays:
    return mapping_arrays(map_network(problem(), machine(cores=3)))


REQUIRED = [
    "part", "part_chip", "part_core", "part_width", "part_external", "neuron_key", "has_key", "table_chip", "table_start", "table_key",
    "table_mask", "table_links", "table_cores", "unminimised", "axons", "exact", "route_source_part", "route_neuron_start", "route_neurons",
    "route_target_start", "route_targets", "route_tree", "tree_start", "tree_hops",
]  # fmt: skip


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_array(arrays: Arrays, name: str) -> None:
    with pytest.raises(MismatchError, match=rf"NC608.*array '{name}' is missing"):
        load_mapping({key: value for key, value in arrays.items() if key != name})


@pytest.mark.parametrize("name", [n for n in REQUIRED if n not in {"exact", "part", "axons", "neuron_key", "has_key"}])
def test_a_truncated_array(arrays: Arrays, name: str) -> None:
    """Arrays whose lengths depend on each other; those of one length a neuron are the verifier's (test_verify)."""
    with pytest.raises(MismatchError, match="NC608"):
        load_mapping({**arrays, name: arrays[name][:-1]})


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [("part", 0, 10_000), ("part", 0, -1), ("route_tree", 0, 10_000), ("route_tree", 0, -1), ("table_start", 0, 1), ("tree_start", 1, -5)],
)
def test_numbers_out_of_range(arrays: Arrays, name: str, at: int, value: int) -> None:
    changed = arrays[name].copy()
    changed[at] = value
    with pytest.raises(MismatchError, match=r"NC608[\s\S]*help: build again"):
        load_mapping({**arrays, name: changed})


def test_all_arrays_are_known_and_documented(root: Path, arrays: Arrays) -> None:
    assert set(REQUIRED) | {"chip", "core"} == set(arrays)
    text = (root / "docs" / "mapping.md").read_text("utf-8")
    table = text[text.index("## mapping.npz") : text.index("## Simple on purpose")]
    assert set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `")))) == set(arrays)
