"""All stages together: random problems on random machines against the brute-force checker; what does not fit; defects of a problem."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurocompile.ir.codes import CODES
from neurocompile.ir.errors import DoesNotFitError, ExitCode
from neurocompile.machine import list_machines, load_machine, machines_of_family
from neurocompile.mapping import MapOptions, check_problem, map_network
from neurocompile.mapping.export import mapping_arrays
from neurocompile.mapping.partition import partition
from neurocompile.mapping.partition.bounds import lower_bounds
from neurocompile.mapping.problem import MappingProblem, Resource, SetResource

Factory = Callable[..., Any]
NUMBER = re.compile(r"\d")


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of ``make_problem``: any limit may bind, down to one that a single neuron passes."""
    n_populations = draw(st.integers(1, 4))
    return {
        "seed": draw(st.integers(0, 2**32 - 1)),
        "sizes": tuple(draw(st.lists(st.integers(1, 25), min_size=n_populations, max_size=n_populations))),
        "external": tuple(draw(st.lists(st.booleans(), min_size=n_populations, max_size=n_populations))),
        "density": draw(st.sampled_from([0.0, 0.05, 0.3, 1.0])),
        "neurons": draw(st.sampled_from([1, 3, 8, 100])),
        "axons_in": draw(st.sampled_from([1e9, 30, 5])),
        "axons_out": draw(st.sampled_from([1e9, 60, 20])),
        "memory": draw(st.sampled_from([1e9, 1000, 333.3])),
        "profiles": draw(st.sampled_from([None, 1, 3])),
        "widths": tuple(draw(st.lists(st.sampled_from([1, 1, 2, 3]), min_size=n_populations, max_size=n_populations))),
        "chip_memory": draw(st.sampled_from([None, 1e9, 200.0])),
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    arguments=problems(),
    machine_seed=st.integers(0, 2**32 - 1),
    routing=st.sampled_from(["multicast_tcam", "multicast_tcam", "destination"]),
    entries=st.sampled_from([1000, 20, 4]),
    key_bits=st.sampled_from([32, 7, 5]),
)
def test_a_network_is_mapped_correctly_or_does_not_fit(
    problem: Factory,
    random_machine: Factory,
    oracle: Any,
    arguments: dict[str, Any],
    machine_seed: int,
    routing: str,
    entries: int,
    key_bits: int,
) -> None:
    network = problem(**arguments)
    machine = random_machine(np.random.default_rng(machine_seed), routing=routing, entries=entries, key_bits=key_bits)
    try:
        mapping = map_network(network, machine)
    except DoesNotFitError as error:
        for d in error.diagnostics:
            assert d.code in {"NC401", "NC402", "NC403", "NC404", "NC405", "NC406"}
            assert CODES[d.code].exit_code == ExitCode.DOES_NOT_FIT
            assert len(NUMBER.findall(d.message)) > 1, "an error without the limit and the number"
            assert d.help
        return
    oracle.check(network, mapping, machine)


@pytest.mark.parametrize("routing", ["multicast_tcam", "destination"])
@pytest.mark.parametrize("kind", ["mesh", "hex", "hex_torus"])
def test_ordinary_networks_fit(problem: Factory, machine: Factory, oracle: Any, kind: str, routing: str) -> None:
    """The property above would hold for a mapper that always refuses; these must succeed."""
    network = problem(sizes=(20, 200, 10), density=0.05, profiles=3, widths=(1, 2, 1), chip_memory=2000.0)
    made = machine(kind=kind, width=5, height=4, routing=routing, dead_chips=[7], dead_links=[(0, 0)], dead_cores=[(1, 2)])
    oracle.check(network, map_network(network, made), made)


@pytest.mark.parametrize("name", list_machines())
def test_machines_that_come_with_neurocompile(problem: Factory, oracle: Any, name: str) -> None:
    """Boards with holes, wrap-around links, and chips that differ in cores: spread thin over several chips."""
    made = load_machine(name)
    network = problem(sizes=(30, 500, 20), density=0.01, neurons=max(1, 560 // min(made.n_cores, 500) + 1))
    mapping = map_network(network, made)
    oracle.check(network, mapping, made)
    assert len(np.unique(mapping.placement.chip)) >= min(2, made.n_chips)


def test_same_seed_same_mapping_other_seed_another(problem: Factory, machine: Factory) -> None:
    network = problem(sizes=(20, 200, 10), density=0.05)
    made = machine()
    first, second, other = (mapping_arrays(map_network(network, made, MapOptions(seed=s))) for s in (1, 1, 2))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["part_chip"], other["part_chip"])


def test_stages_are_announced_in_order(problem: Factory, machine: Factory) -> None:
    said: list[str] = []
    map_network(problem(), machine(), progress=said.append)
    assert [stage for stage in said if not stage.startswith("partition: ")] == ["partition", "place", "route", "tabulate", "verify"]
    assert said[1] == "partition: graph"


def test_tables_too_long_let_more_packets_be_delivered_in_vain(
    problem: Factory, machine: Factory, oracle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every neuron has its own set of target parts: exact routes need an entry a neuron, what all of a chip shares one a chip."""
    monkeypatch.setattr("neurocompile.mapping.ENTRY_PRICE", 0.5)  # almost exact at first
    network = problem(sizes=(20, 160), external=(True, False), density=0.15, neurons=8)
    exact, easy = (map_network(network, machine(entries=1000), MapOptions(routes=routes)) for routes in ("exact", "auto"))
    assert exact.routes.exact
    assert "stray deliveries" not in {row["name"] for row in exact.usage}
    said: list[str] = []
    made = machine(entries=12)
    mapping = map_network(network, made, progress=said.append)
    assert not mapping.routes.exact
    assert any(stage.startswith("route: tables do not fit") for stage in said)
    assert mapping.traffic["sharing"]["price"] > easy.traffic["sharing"]["price"] == 0.5
    assert mapping.traffic["sharing"]["stray_deliveries"] > easy.traffic["sharing"]["stray_deliveries"]
    oracle.check(network, mapping, made)
    with pytest.raises(DoesNotFitError, match="NC404"):
        map_network(network, made, MapOptions(routes="exact"))
    row = next(row for row in mapping.usage if row["name"] == "stray deliveries")
    part = mapping.partition.part.tolist()
    own = sum(len(oracle.target_parts(network, part, n)) for n in range(network.n_neurons))
    assert row["used"] == sum(len(parts) for parts in oracle.wanted(network, mapping).values()) - own > 0


@pytest.mark.parametrize(
    ("options", "machine_options", "code", "says"),
    [
        ({"memory": 50}, {}, "NC401", r"neuron 0 of population 'p1' alone needs \d+ bit of memory; a core has 50 \(guess\)"),
        ({"axons_in": 2}, {}, "NC401", r"alone needs \d+ axon of axons_in; a core has 2 "),
        ({"axons_out": 3}, {}, "NC401", r"alone needs \d+ axon of axons_out, with its targets on \d+ cores; a core has 3 "),
        ({"chip_memory": 9.0}, {}, "NC401", r"alone needs \d+ byte of sdram; a chip has 9 "),
        ({"profiles": 0}, {}, "NC401", r"neuron \d+ of population 'p\d' needs one of profiles; a core has none"),
        ({"neurons": 1}, {"width": 2, "height": 2}, "NC402", r"needs 70 cores \(70 parts\), machine 'test' has 20 usable cores on 4 chips"),
        ({"widths": (1, 6, 1)}, {}, "NC403", r"population 'p1' needs parts of 6 cores on one chip, chips of 'test' have up to 5 usable"),
        (
            {"neurons": 1},
            {"entries": 3, "width": 9, "height": 9},
            "NC404",
            r"\d+ (routing entries|different routes).*, its router has 3 usable",
        ),
        ({"neurons": 4}, {"width": 5, "height": 1, "dead_links": [(1, 0)]}, "NC405", r"no way from chip \(\d, 0\) to chip \(\d, 0\)"),
        ({}, {"key_bits": 3}, "NC406", r"need \d+ keys .*packets have 3 key bits"),
    ],
)
def test_what_does_not_fit_names_limit_and_number(
    problem: Factory, machine: Factory, options: dict[str, Any], machine_options: dict[str, Any], code: str, says: str
) -> None:
    with pytest.raises(DoesNotFitError, match=says) as error:
        map_network(problem(**options), machine(**machine_options))
    assert [d.code for d in error.value.diagnostics] == [code]
    assert error.value.exit_code == ExitCode.DOES_NOT_FIT


def _neurons_a_core(sizes: int, per_core: int, width: int = 1) -> MappingProblem:
    """Unconnected neurons: only their number counts."""
    return MappingProblem(
        n_neurons=sizes,
        population=np.zeros(sizes, np.int32),
        population_names=("p",),
        external=np.zeros(sizes, bool),
        indptr=np.zeros(sizes + 1, np.int64),
        indices=np.zeros(0, np.int32),
        resources=(Resource(name="neurons", unit="neuron", limit=per_core, per_neuron=np.ones(sizes)),),
        core_width=np.array([width], np.int32),
    )


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize(("family", "small", "fits"), [("loihi2", 0, 1), ("loihi2", 0, 2), ("spinnaker1", 0, 1), ("spinnaker1", 1, 2)])
def test_the_smallest_machine_that_fits_is_named_and_fits(family: str, small: int, fits: int, width: int) -> None:
    """One part more than the next smaller machine holds (width 4: parts that leave gaps on chips are counted, not divided)."""
    machines = machines_of_family(family)
    room = [sum(len(m.topology.usable_cores(c)) // width for c in m.topology.chips.tolist()) for m in machines]
    network = _neurons_a_core(room[fits - 1] + 1, 1, width)
    with pytest.raises(DoesNotFitError, match="NC402") as error:
        map_network(network, machines[small])
    diagnostic = error.value.diagnostics[0]
    assert f"needs {width * network.n_neurons} cores" in diagnostic.message
    assert f"has {machines[small].n_cores} usable cores" in diagnostic.message
    assert f"smallest machine of the family '{family}' that fits is {machines[fits].name} " in str(diagnostic.help)
    assert map_network(network, machines[fits]).partition.n_parts == network.n_neurons
    with pytest.raises(DoesNotFitError, match="NC402"):
        map_network(network, machines[fits - 1])


def test_a_network_too_big_for_every_machine_says_so() -> None:
    network = _neurons_a_core(machines_of_family("spinnaker1")[-1].n_cores + 1, 1)
    with pytest.raises(DoesNotFitError, match="NC402") as error:
        map_network(network, load_machine("spin3"))
    assert "no machine of the family 'spinnaker1' is large enough" in str(error.value.diagnostics[0].help)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_parts_spent_on_traffic_are_given_back_where_there_is_no_room(problem: Factory, machine: Factory, oracle: Any, seed: int) -> None:
    """With slack the partition has more parts than the machine has cores; without, it fits."""
    network = problem(seed=seed, sizes=(60,), external=(False,), density=0.05, neurons=10)
    spent = partition(network, algorithm="streaming", slack=1.0)
    least = lower_bounds(network).cores
    assert spent.n_parts > least == 6
    made = machine(width=least, height=1, cores=2, reserved=1)
    mapping = map_network(network, made, MapOptions(partition="streaming", slack=1.0))
    oracle.check(network, mapping, made)
    assert mapping.partition.n_parts == least
    with pytest.raises(DoesNotFitError, match=r"NC402.*needs 6 cores .* has 5 usable cores on 5 chips: 1 too few"):
        map_network(network, machine(width=5, height=1, cores=2, reserved=1), MapOptions(partition="streaming", slack=1.0))


def test_a_machine_file_with_the_name_of_a_packaged_one_does_not_hide_it(machine: Factory) -> None:
    mine = replace(machine(cores=3, width=1, height=1), name="generic", family="generic", file="mine.yaml")
    with pytest.raises(DoesNotFitError, match=r"fits is generic \(--machine generic\)"):
        map_network(_neurons_a_core(240, 1), mine)


def test_memory_of_a_chip_counts_when_the_fitting_machine_is_sought() -> None:
    """Three parts fit on one chip by cores, but each takes half a chip's memory: more than spin3's four chips have for nine."""
    network = replace(
        _neurons_a_core(9, 1),
        chip_resources=(Resource(name="sdram", unit="byte", limit=100.0, per_neuron=np.full(9, 50.0)),),
    )
    with pytest.raises(DoesNotFitError, match=r"NC402.*sdram: 450 of 400 byte, 100 a chip[\s\S]*fits is spin5 "):
        map_network(network, load_machine("spin3"))
    placed = map_network(network, load_machine("spin5")).placement.chip
    assert np.bincount(placed).max() == 2


def _break(problem: MappingProblem, **changes: Any) -> MappingProblem:
    return replace(problem, **changes)


def _edit(array: Any, at: Any, value: Any) -> Any:
    copy = array.copy()
    copy[at] = value
    return copy


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: _break(p, indptr=p.indptr[:-1]), "indptr does not describe"),
        (lambda p: _break(p, indptr=_edit(p.indptr, 0, 1)), "indptr does not describe"),
        (lambda p: _break(p, indptr=_edit(p.indptr, 5, p.indptr[6] + 1)), "indptr does not describe"),
        (lambda p: _break(p, indices=p.indices[:-1]), "indptr does not describe"),
        (lambda p: _break(p, indices=_edit(p.indices, -1, p.n_neurons)), "a neuron that does not exist"),
        (lambda p: _break(p, indices=_edit(p.indices, 0, -1)), "a neuron that does not exist"),
        (lambda p: _break(p, indices=_edit(p.indices, 1, p.indices[0])), "sorted and distinct"),
        (lambda p: _break(p, indices=_edit(p.indices, 0, 3)), "external neuron"),
        (lambda p: _break(p, population=p.population[:-1]), "arrays of"),
        (lambda p: _break(p, external=p.external[:-1]), "shape|arrays of"),
        (lambda p: _break(p, population=_edit(p.population, 0, 3)), r"outside 0 \.\. 2"),
        (lambda p: _break(p, core_width=_edit(p.core_width, 0, 0)), "core widths >= 1"),
        (lambda p: _break(p, core_width=p.core_width[:-1]), "2 core widths"),
        (lambda p: _break(p, resources=(_bad(p, per_neuron=_edit(np.ones(90), 3, np.nan)),)), "'neurons' has costs"),
        (lambda p: _break(p, resources=(_bad(p, per_neuron=_edit(np.ones(90), 3, -1.0)),)), "'neurons' has costs"),
        (lambda p: _break(p, resources=(_bad(p, per_axon_in=-1.0),)), "'neurons' has costs"),
        (lambda p: _break(p, chip_resources=(_bad(p, limit=float("nan")),)), "'neurons' has costs"),
        (lambda p: _break(p, set_resources=(SetResource(name="s", limit=1, label=np.full(90, -2, np.int32)),)), "labels below -1"),
    ],
)
def test_a_problem_whose_arrays_do_not_belong_together(
    problem: Factory, machine: Factory, change: Callable[[MappingProblem], MappingProblem], says: str
) -> None:
    """A defect of a backend, so ValueError and no code; but never a wrong mapping."""
    whole = problem()
    check_problem(whole)
    with pytest.raises(ValueError, match=says):
        map_network(change(whole), machine())


def _bad(problem: MappingProblem, **changes: Any) -> Resource:
    return replace(problem.resources[0], **changes)


def test_mapping_changes_nothing_in_the_problem(problem: Factory, machine: Factory) -> None:
    network, again = problem(profiles=3), problem(profiles=3)
    map_network(network, machine())
    for field in fields(MappingProblem):
        value = getattr(network, field.name)
        if isinstance(value, np.ndarray):
            assert np.array_equal(value, getattr(again, field.name)), field.name
