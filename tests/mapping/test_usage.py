"""What the report says is used, against sums over Python sets; overridden numbers show as such."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.ir.read import read_network
from neurocompile.mapping import MapOptions, map_network
from neurocompile.mapping.partition.bounds import lower_bounds
from neurocompile.pipeline import CompileOptions, compile_network
from neurocompile.report import build_report

Factory = Callable[..., Any]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), density=st.sampled_from([0.0, 0.05, 0.3]), neurons=st.sampled_from([4, 9]))
def test_usage_equals_sums_over_sets(problem: Factory, machine: Factory, oracle: Any, seed: int, density: float, neurons: int) -> None:
    network = problem(seed=seed, sizes=(10, 40, 20), density=density, neurons=neurons, profiles=4, widths=(1, 1, 2), chip_memory=1e4)
    made = machine(width=5)
    mapping = map_network(network, made, MapOptions(routes="exact"))
    rows = {row["name"]: row for row in mapping.usage}
    assert len(rows) == len(mapping.usage)
    assert json.loads(json.dumps(mapping.usage)) == list(mapping.usage)
    used = oracle.usage(network, mapping.partition.part.tolist())
    cores = oracle.cores_of(mapping, made)
    for limited in (*network.resources, *network.set_resources):
        row, parts = rows[limited.name], used[limited.name]
        # Sums of whole numbers: exact. Means are quotients: 1e-12 relative.
        assert (row["scope"], row["used"], row["available"]) == ("core", max(parts.values()), limited.limit)
        some = [amount for amount in parts.values() if amount or limited in network.set_resources]
        assert row["mean"] == pytest.approx(sum(some) / max(len(some), 1), rel=1e-12)
        worst = {f"chip {made.topology.position(chip)} core {core}" for p, (first, *_) in cores.items() for chip, core in [first]
                 if parts[p] == row["used"]}  # fmt: skip
        assert row["worst"] in worst
        assert row["confidence"] == limited.confidence
    on_chip: dict[int, float] = defaultdict(float)
    taken: dict[int, int] = defaultdict(int)
    for p, amount in used["sdram"].items():
        on_chip[cores[p][0][0]] += amount
        taken[cores[p][0][0]] += len(cores[p])
    assert (rows["sdram"]["scope"], rows["sdram"]["used"]) == ("chip", max(on_chip.values()))
    assert rows["sdram"]["mean"] == pytest.approx(sum(on_chip.values()) / len(on_chip), rel=1e-12)
    assert (rows["cores of a chip"]["used"], rows["cores of a chip"]["available"]) == (max(taken.values()), 5)
    assert (rows["cores"]["used"], rows["cores"]["available"]) == (sum(taken.values()), made.n_cores)
    assert (rows["chips"]["used"], rows["chips"]["available"]) == (len(on_chip), 20)
    lengths = [len(t.key) for t in mapping.tables.tables.values()]
    assert (rows["routing entries"]["used"], rows["routing entries"]["available"]) == (max(lengths, default=0), 1000)
    assert "stray deliveries" not in rows


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    neurons=st.sampled_from([3, 10]),
    axons_in=st.sampled_from([20, 60]),
    memory=st.sampled_from([900, 4000]),
)
def test_the_lower_bound_is_one(problem: Factory, machine: Factory, seed: int, neurons: int, axons_in: int, memory: int) -> None:
    """No partition has fewer parts than the bound of any resource; with unconnected neurons sequential fill meets it."""
    network = problem(seed=seed, sizes=(8, 50), external=(True, False), density=0.1, neurons=neurons, axons_in=axons_in, memory=memory)
    mapping = map_network(network, machine(width=9, height=9))
    n_parts = int((~mapping.partition.external).sum())
    bounds = {row["name"]: row["lower_bound"] for row in mapping.usage if "lower_bound" in row}
    assert set(bounds) == {r.name for r in network.resources}
    assert max(bounds.values()) <= n_parts
    assert bounds["neurons"] == -(-50 // neurons)
    alone = map_network(problem(sizes=(50,), external=(False,), density=0.0, neurons=neurons), machine())
    assert alone.usage[0]["lower_bound"] == alone.partition.n_parts


@pytest.mark.parametrize(
    ("limits", "name", "others"),
    [
        ({"neurons": 4}, "neurons", {"memory": 1}),
        ({"memory": 32.0}, "memory", {"neurons": 3}),
        ({"axons_in": 2}, "axons_in", {"neurons": 3}),
    ],
)
def test_each_limit_has_its_own_bound(problem: Factory, limits: dict[str, float], name: str, others: dict[str, int]) -> None:
    """40 neurons in a ring, each the target of the one before: 8 bit for its synapse and 10 for its source."""
    made = problem(sizes=(40,), external=(False,), density=0.0, **limits)
    ring = replace(
        made,
        indptr=np.arange(41, dtype=np.int64),
        indices=((np.arange(40) + 1) % 40).astype(np.int32),
        resources=tuple(replace(r, per_neuron=np.full(40, 8.0)) if r.name == "memory" else r for r in made.resources),
    )
    bounds = lower_bounds(ring)
    assert (bounds.name, bounds.cores) == (name, {"neurons": 10, "memory": 23, "axons_in": 20}[name])
    for other, cores in others.items():
        assert bounds.by_limit[other] == cores


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dead=st.frozensets(st.tuples(st.integers(0, 15), st.integers(1, 5)), max_size=40),
    neurons=st.sampled_from([2, 5]),
)
def test_cores_of_a_chip_are_the_chips_own(
    problem: Factory, machine: Factory, oracle: Any, seed: int, dead: frozenset[tuple[int, int]], neurons: int
) -> None:
    """Chips with dead cores have fewer: the row is about the chip that is fullest in relation to what it has."""
    made = machine(dead_cores=dead)
    mapping = map_network(problem(seed=seed, sizes=(10, 40), density=0.05, neurons=neurons), made)
    usable = {chip: {core for core in range(1, 6) if (chip, core) not in dead} for chip in range(16)}
    taken: dict[int, set[int]] = defaultdict(set)
    for places in oracle.cores_of(mapping, made).values():
        for chip, core in places:
            taken[chip].add(core)
    assert all(cores <= usable[chip] for chip, cores in taken.items())
    row = next(r for r in mapping.usage if r["name"] == "cores of a chip")
    fill = {f"chip {made.topology.position(chip)}": len(cores) / len(usable[chip]) for chip, cores in taken.items()}
    assert row["used"] / row["available"] == max(fill.values()) == fill[row["worst"]]


def test_a_network_without_cores_in_use(problem: Factory, machine: Factory) -> None:
    """Only host inputs: nothing is used, nothing fails."""
    mapping = map_network(problem(sizes=(5,), external=(True,)), machine())
    assert {row["name"]: row["used"] for row in mapping.usage} == dict.fromkeys(
        ["neurons", "axons_in", "axons_out", "memory", "cores of a chip", "cores", "chips", "routing entries"], 0.0
    )


NET = """\
name: small
dt: 1 ms
populations:
  in:     {model: spike_source, size: 8}
  hidden: {model: lif, size: 12, params: {tau_mem: 20 ms, v_threshold: 0.5, reset: to_value}}
projections:
  - {pre: in, post: hidden, connect: {fixed_probability: 0.5}, weight: 0.2, delay: 1 ms}
"""


@pytest.mark.parametrize(
    ("target", "key", "value", "row"),
    [
        ("loihi2", "core.neurons", 5.0, "neurons"),
        ("spinnaker", "core.neurons", 4.0, "neurons"),
        ("spinnaker", "chip.sdram", 1e6, "sdram"),
        ("spinnaker", "router.usable_entries", 77.0, "routing entries"),
    ],
)
def test_an_overridden_limit_acts_and_shows_in_the_report(tmp_path: Path, target: str, key: str, value: float, row: str) -> None:
    (tmp_path / "net.yaml").write_text(NET)

    def report(overrides: dict[str, float]) -> dict[str, Any]:
        options = CompileOptions(target=target, allow_approximation=True, overrides=overrides)
        return build_report(compile_network(read_network(tmp_path / "net.yaml"), options), {})

    plain, changed = report({}), report({key: value})
    found = next(r for r in changed["usage"] if row in r["name"].lower())
    before = next(r for r in plain["usage"] if row in r["name"].lower())
    assert (found["available"], found["confidence"]) == (value, "override")
    assert before["available"] != value
    assert before["confidence"] != "override"
    assert found["used"] <= value
    quantity = next(q for q in changed["machine"]["quantities"] if q["name"] == key)
    assert (quantity["value"], quantity["confidence"]) == (value, "override")
    assert quantity["source"].startswith("user, instead of")
    assert changed["machine"]["overrides"] == [key]
    assert plain["machine"]["overrides"] == []
