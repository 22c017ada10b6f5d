"""The verifier finds what it guards: mappings broken on purpose, one thing at a time; and random mutations against walked packets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.ir.errors import ExitCode, MismatchError
from neurocompile.machine import Machine
from neurocompile.mapping import MapOptions, map_network
from neurocompile.mapping.problem import MappingProblem, Resource, SetResource
from neurocompile.mapping.types import Mapping, Partition, Placement, Route, Routes, RoutingTable, RoutingTables
from neurocompile.mapping.verify import verify_mapping, verify_partition

Factory = Callable[..., Any]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A mapping that is right, and what it was made from. ``with_*`` return a copy in which one array is replaced."""

    problem: MappingProblem
    machine: Machine
    mapping: Mapping

    def with_partition(self, **changes: Any) -> Case:
        return replace(self, mapping=replace(self.mapping, partition=replace(self.mapping.partition, **changes)))

    def with_placement(self, **changes: Any) -> Case:
        return replace(self, mapping=replace(self.mapping, placement=replace(self.mapping.placement, **changes)))

    def with_tables(self, **changes: Any) -> Case:
        return replace(self, mapping=replace(self.mapping, tables=replace(self.mapping.tables, **changes)))

    def with_table(self, chip: int, **changes: Any) -> Case:
        tables = self.mapping.tables.tables
        return self.with_tables(tables={**tables, chip: replace(tables[chip], **changes)})

    def with_route(self, number: int, **changes: Any) -> Case:
        routes = list(self.mapping.routes)
        routes[number] = replace(routes[number], **changes)
        return self.with_routes(tuple(routes))

    def with_routes(self, routes: tuple[Route, ...]) -> Case:
        return replace(self, mapping=replace(self.mapping, routes=Routes.of(routes, exact=self.mapping.routes.exact)))

    def verify(self) -> None:
        verify_mapping(self.problem, self.mapping, self.machine)

    def fails(self, code: str, says: str) -> None:
        """The verifier must find this and name it; a defect of the mapper is exit 6."""
        with pytest.raises(MismatchError, match=says) as error:
            self.verify()
        assert [d.code for d in error.value.diagnostics] == [code]
        assert error.value.exit_code == ExitCode.MISMATCH
        assert "defect of the mapper" in str(error.value.diagnostics[0].help)

    @property
    def partition(self) -> Partition:
        return self.mapping.partition

    @property
    def placement(self) -> Placement:
        return self.mapping.placement

    @property
    def tables(self) -> RoutingTables:
        return self.mapping.tables


def edited(array: Array, at: Any, value: Any) -> Array:
    copy = array.copy()
    copy[at] = value
    return copy


def make_case(problem: Factory, made: Machine, **options: Any) -> Case:
    routes = options.pop("routes", "exact")
    network = problem(
        **{"sizes": (12, 60, 16), "density": 0.06, "neurons": 6, "widths": (1, 1, 2), "profiles": 5, "chip_memory": 1e4, **options}
    )
    case = Case(network, made, map_network(network, made, MapOptions(routes=routes)))
    case.verify()
    return case


@pytest.fixture(scope="module")
def case(problem: Factory, machine: Factory) -> Case:
    """Exact routes over a 4 x 4 hexagonal mesh with two-core parts, an external population, chip and label limits."""
    return make_case(problem, machine(cores=4, dead_cores=[(5, 2)], dead_links=[(0, 1)]))


@pytest.fixture(scope="module")
def by_core(problem: Factory, machine: Factory) -> Case:
    """Routes by core: packets reach also parts that only other neurons of the part have targets on."""
    found = make_case(problem, machine(cores=4), density=0.12, routes="core")
    assert not found.mapping.routes.exact
    return found


@pytest.fixture(scope="module")
def axons(problem: Factory, machine: Factory) -> Case:
    return make_case(problem, machine(kind="mesh", cores=4, routing="destination"), widths=(1, 1, 1))


# --- NC601: a neuron without a legal place --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.with_partition(part=c.partition.part[:-1]), "87 neurons in the partition, 88 in the network"),
        (lambda c: c.with_partition(external=c.partition.external[:-1]), "neurons in the partition"),
        (lambda c: c.with_partition(part=edited(c.partition.part, 20, -1)), "neuron 20 is in part -1"),
        (lambda c: c.with_partition(part=edited(c.partition.part, 20, c.partition.n_parts)), r"neuron 20 is in part (\d+) of \1"),
        (lambda c: c.with_partition(part=edited(c.partition.part, 20, 0)), "neuron 20 and its part 0 differ in whether"),
        (lambda c: c.with_partition(part=edited(c.partition.part, 0, 1)), "neuron 0 and its part 1 differ in whether"),
        (lambda c: c.with_partition(part=edited(c.partition.part, 71, c.partition.part[72])), "different numbers of cores"),
    ],
)
def test_partition_without_legal_parts(case: Case, change: Callable[[Case], Case], says: str) -> None:
    change(case).fails("NC601", says)
    with pytest.raises(MismatchError, match="NC601"):
        verify_partition(case.problem, change(case).partition)


def _places(case: Case) -> list[tuple[int, int, int]]:
    p = case.placement
    return list(zip(p.chip.tolist(), p.core.tolist(), p.width.tolist(), strict=True))


def _part_of_width(case: Case, width: int) -> int:
    return int(np.flatnonzero(case.placement.width == width)[0])


def _move(case: Case, part: int, chip: int, core: int) -> Case:
    return case.with_placement(chip=edited(case.placement.chip, part, chip), core=edited(case.placement.core, part, core))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.with_placement(chip=c.placement.chip[:-1]), r"\d+ parts, but the placement has \[\d+, \d+\]"),
        (lambda c: _move(c, 1, 16, 1), "part 1 is on chip 16, which does not exist"),
        (lambda c: _move(c, 1, -1, 1), "part 1 is on chip -1, which does not exist"),
        (lambda c: _move(c, 0, 1, -1), "external part 0 is at chip 1"),
        (lambda c: _move(c, 0, 0, 1), "external part 0 is at chip 0 core 1"),
        (lambda c: _move(c, 1, 5, 0), "part 1 is on core 0 of chip 5, which is reserved or dead"),
        (lambda c: _move(c, 1, 5, 2), "part 1 is on core 2 of chip 5, which is reserved or dead"),
        (lambda c: _move(c, 1, 5, 4), "part 1 needs core 4 of chip 5, which has cores 0 .. 3"),
        (lambda c: _move(c, 1, 5, -1), "part 1 needs core -1"),
        (lambda c: _move(c, 2, *_places(c)[1][:2]), "parts 1 and 2 are both on core"),
        (
            lambda c: _move(c, 1, _places(c)[_part_of_width(c, 2)][0], _places(c)[_part_of_width(c, 2)][1] + 1),
            "are both on core",  # the second core of a part of two
        ),
        (lambda c: c.with_placement(width=edited(c.placement.width, 1, 2)), "part 1 has 2 cores, needs 1"),
        (lambda c: c.with_placement(width=edited(c.placement.width, _part_of_width(c, 2), 1)), "has 1 cores, needs 2"),
    ],
)
def test_illegal_placements(case: Case, change: Callable[[Case], Case], says: str) -> None:
    change(case).fails("NC601", says)


def test_a_dead_chip(case: Case, machine: Factory) -> None:
    """The same mapping on a machine in which a chip in use has died."""
    chip = int(case.placement.chip[-1])
    replace(case, machine=machine(cores=4, dead_cores=[(5, 2)], dead_chips=[chip])).fails(
        "NC601", f"on chip {chip}, which does not exist or is dead"
    )


def test_a_part_may_step_over_a_dead_core_but_not_start_on_one(problem: Factory, machine: Factory) -> None:
    """A part of two cores from core 1 on, over the dead core 2."""
    made = machine(width=1, height=1, cores=4, dead_cores=[(0, 2)])
    alone = make_case(problem, made, sizes=(5,), external=(False,), widths=(2,))
    assert _places(alone) == [(0, 1, 2)]
    _move(alone, 0, 0, 2).fails("NC601", "part 0 is on core 2 of chip 0, which is reserved or dead")
    _move(alone, 0, 0, 3).fails("NC601", r"part 0 needs core 4 of chip 0, which has cores 0 \.\. 3")


# --- NC602: a core or chip over a limit -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["neurons", "axons_in", "axons_out", "memory"])
def test_a_core_over_a_limit(case: Case, oracle: Any, name: str) -> None:
    """The limit at what the worst part uses is kept; just below it is not. The worst use is counted with sets."""
    worst = max(oracle.usage(case.problem, case.partition.part.tolist())[name].values())
    for limit, legal in ((worst, True), (worst - 0.5, False)):
        resources = tuple(replace(r, limit=limit) if r.name == name else r for r in case.problem.resources)
        broken = replace(case, problem=replace(case.problem, resources=resources))
        if legal:
            broken.verify()
        else:
            broken.fails("NC602", rf"part \d+ needs {worst:g} \w+ of {name}, limit {limit:g}")


def test_a_limit_that_is_not_a_number_is_not_kept(case: Case) -> None:
    resource = Resource(name="x", unit="1", limit=1.0, per_neuron=edited(np.zeros(88), 30, np.nan))
    replace(case, problem=replace(case.problem, resources=(resource,))).fails("NC602", "needs nan 1 of x")


def test_a_core_with_too_many_labels(case: Case, oracle: Any) -> None:
    worst = int(max(oracle.usage(case.problem, case.partition.part.tolist())["profiles"].values()))
    labels = case.problem.set_resources[0]
    for limit in (worst, worst - 1):
        broken = replace(case, problem=replace(case.problem, set_resources=(replace(labels, limit=limit),)))
        if limit == worst:
            broken.verify()
        else:
            broken.fails("NC602", rf"has {worst} different profiles, limit {limit}")


def test_neurons_without_a_label_need_none(case: Case) -> None:
    nothing = SetResource(name="nothing", limit=0, label=np.full(88, -1, np.int32))
    replace(case, problem=replace(case.problem, set_resources=(nothing,))).verify()


def test_a_chip_over_a_limit(case: Case, oracle: Any) -> None:
    used = oracle.usage(case.problem, case.partition.part.tolist())["sdram"]
    on_chip = np.zeros(16)
    for part, amount in used.items():
        on_chip[case.placement.chip[part]] += amount
    for limit in (on_chip.max(), on_chip.max() - 0.5):
        broken = replace(case, problem=replace(case.problem, chip_resources=(replace(case.problem.chip_resources[0], limit=limit),)))
        if limit == on_chip.max():
            broken.verify()
        else:
            x, y = case.machine.topology.position(int(on_chip.argmax()))
            broken.fails("NC602", rf"chip \({x}, {y}\) needs {on_chip.max():g} byte of sdram, limit {limit:g}")


# --- NC603-NC605: routes --------------------------------------------------------------------------------------------------------


def _route(case: Case, least_hops: int = 2, least_parts: int = 2) -> int:
    """A route with so many hops and target parts on more than one chip."""
    for number, r in enumerate(case.mapping.routes):
        if len(r.hops) >= least_hops and len(np.unique(case.placement.chip[r.target_parts])) >= least_parts:
            return number
    raise AssertionError("no such route in the test network")


def test_a_route_too_few(case: Case) -> None:
    case.with_routes(tuple(case.mapping.routes)[1:]).fails("NC603", "and 0 routes")


def test_a_neuron_on_two_routes(case: Case) -> None:
    routes = case.mapping.routes
    case.with_routes((*routes, routes[0])).fails("NC603", "and 2 routes")


def test_a_route_of_a_neuron_without_targets(problem: Factory, machine: Factory) -> None:
    sparse = make_case(problem, machine(), density=0.01)
    silent = int(np.flatnonzero(np.diff(sparse.problem.indptr) == 0)[0])
    route = Route(
        neurons=np.array([silent], np.int32),
        source_part=int(sparse.partition.part[silent]),
        target_parts=np.zeros(0, np.int32),
        hops=np.zeros((0, 3), np.int32),
    )
    broken = sparse.with_routes((*sparse.mapping.routes, route))
    broken.fails("NC603", f"neuron {silent} has targets in 0 parts and 1 routes")


def test_a_route_from_another_part(case: Case) -> None:
    number = _route(case)
    r = case.mapping.routes[number]
    stranger = next(q.neurons[0] for q in case.mapping.routes if q.source_part != r.source_part)
    case.with_route(number, neurons=np.append(r.neurons, stranger)).fails("NC603", rf"neuron {stranger} does not lead to all")


def test_a_route_that_forgets_a_part(case: Case) -> None:
    number = _route(case)
    case.with_route(number, target_parts=case.mapping.routes[number].target_parts[1:]).fails("NC603", "does not lead to all parts")


def test_a_route_to_a_part_without_targets(case: Case) -> None:
    """A part more, on a chip that the tree reaches anyway."""

    def neighbours(r: Route) -> Array:
        near = np.isin(case.placement.chip, case.placement.chip[r.target_parts]) & ~case.partition.external
        return np.union1d(r.target_parts, np.flatnonzero(near)).astype(np.int32)

    routes = case.mapping.routes
    number = next(i for i, r in enumerate(routes) if len(neighbours(r)) > len(r.target_parts))
    more, own = neighbours(routes[number]), len(routes[number].target_parts)
    case.with_route(number, target_parts=more).fails("NC604", rf"leads to {len(more)} parts, it has targets in {own}")


def test_a_tree_that_misses_a_chip(case: Case) -> None:
    number = _route(case)
    case.with_route(number, hops=case.mapping.routes[number].hops[:-1]).fails("NC603", "does not reach chip")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda hops: hops[::-1].copy(), id="a chip is left before it is entered"),
        pytest.param(lambda hops: np.concatenate([hops, hops[:1]]), id="a chip is entered twice"),
        pytest.param(lambda hops: edited(hops, (0, 1), (hops[0, 1] + 1) % 6), id="the link leads elsewhere"),
        pytest.param(lambda hops: np.concatenate([hops, [[hops[0, 2], (hops[0, 1] + 3) % 6, hops[0, 0]]]]).astype(np.int32), id="a loop"),
    ],
)
def test_hops_that_are_no_tree(case: Case, change: Callable[[Array], Array]) -> None:
    number = _route(case)
    case.with_route(number, hops=change(case.mapping.routes[number].hops)).fails("NC605", "is no step of a tree")


def test_a_tree_over_a_dead_link(case: Case, machine: Factory) -> None:
    """The same mapping on a machine in which a link in use has died."""
    chip, link, _ = case.mapping.routes[_route(case)].hops[0].tolist()
    dead = machine(cores=4, dead_cores=[(5, 2)], dead_links=[(0, 1), (chip, link)])
    replace(case, machine=dead).fails("NC605", f"chip {chip} link {link} to chip")


# --- NC603-NC607: tables --------------------------------------------------------------------------------------------------------


def _entry(case: Case, *, at_end: bool) -> tuple[int, int]:
    """(chip, entry) that packets of some neuron use: at their own chip, which they leave, or at a chip where a branch ends."""
    r = next(r for r in case.mapping.routes if len(r.hops))
    chip = int(r.hops[-1, 2]) if at_end else int(case.placement.chip[r.source_part])
    table = case.tables.tables[chip]
    return chip, int(np.argmax(case.tables.neuron_key[r.neurons[0]] & table.mask == table.key))


def test_a_delivery_too_few(case: Case) -> None:
    chip, entry = _entry(case, at_end=True)
    case.with_table(chip, cores=edited(case.tables.tables[chip].cores, entry, 0)).fails(
        "NC603", r"packets of neuron \d+ \(key 0x\w+\) do not reach part"
    )


def test_a_delivery_to_one_core_of_a_part_of_two(case: Case) -> None:
    part = _part_of_width(case, 2)
    chip, second = int(case.placement.chip[part]), int(case.placement.core[part]) + 1
    cores = case.tables.tables[chip].cores
    bit = np.uint64(1 << second)
    assert (cores & bit).any()
    case.with_table(chip, cores=cores & ~bit).fails("NC603", f"do not reach part {part}, which holds a target")


def test_a_stray_delivery_to_another_part(case: Case) -> None:
    """Every entry of a chip also delivers to a core of it that holds a part: some neuron has no target there."""
    chip, _ = _entry(case, at_end=False)
    part = int(np.flatnonzero((case.placement.chip == chip) & ~case.partition.external)[0])
    cores = case.tables.tables[chip].cores | np.uint64(1 << int(case.placement.core[part]))
    case.with_table(chip, cores=cores).fails("NC604", f"reach part {part} where it has no target")


@pytest.mark.parametrize("core", [0, 63])
def test_a_stray_delivery_to_a_free_core(case: Case, core: int) -> None:
    """Core 0 is reserved, core 63 does not exist."""
    chip, entry = _entry(case, at_end=False)
    cores = case.tables.tables[chip].cores
    x, y = case.machine.topology.position(chip)
    broken = case.with_table(chip, cores=edited(cores, entry, cores[entry] | np.uint64(1 << core)))
    broken.fails("NC604", rf"reach a free core of chip \({x}, {y}\)")


def test_a_stray_link(case: Case) -> None:
    """A copy sent over one more link is default-routed straight on to the edge of the machine and lost."""
    chip, entry = _entry(case, at_end=True)
    link = int(np.flatnonzero(case.machine.topology.neighbours[chip] >= 0)[0])
    links = edited(case.tables.tables[chip].links, entry, 1 << link)
    with pytest.raises(MismatchError, match=r"NC60[45]"):
        case.with_table(chip, links=links).verify()


@pytest.mark.parametrize("link", [6, 31])
def test_a_link_that_no_chip_has(case: Case, link: int) -> None:
    chip, entry = _entry(case, at_end=True)
    case.with_table(chip, links=edited(case.tables.tables[chip].links, entry, 1 << link)).fails("NC605", "lost or run in a loop at chip")


def test_a_packet_that_runs_in_a_loop(case: Case) -> None:
    """The chip behind a link sends everything back."""
    chip, entry = _entry(case, at_end=False)
    out = int(case.tables.tables[chip].links[entry])
    link = (out & -out).bit_length() - 1
    there = int(case.machine.topology.neighbours[chip, link])
    back = RoutingTable(
        key=np.zeros(1, np.uint32),
        mask=np.zeros(1, np.uint32),
        links=np.array([1 << (link + 3) % 6], np.uint32),
        cores=np.zeros((1, 1), np.uint64),
    )
    case.with_tables(tables={**case.tables.tables, there: back}).fails("NC605", "lost or run in a loop")


def test_default_routing_where_an_entry_is_needed(case: Case) -> None:
    """Without its table, a chip sends packets straight on; at their own chip there is no straight on, and they are lost."""
    chip, _ = _entry(case, at_end=False)
    tables = {c: t for c, t in case.tables.tables.items() if c != chip}
    x, y = case.machine.topology.position(chip)
    case.with_tables(tables=tables).fails("NC605", rf"are lost or run in a loop at chip \({x}, {y}\)")


def test_an_entry_that_catches_default_routed_packets(case: Case, oracle: Any) -> None:
    """A chip that some packets cross without an entry gets a last entry that matches everything and drops it."""
    for neuron in np.flatnonzero(case.tables.has_key).tolist():
        key = int(case.tables.neuron_key[neuron])
        r = next(r for r in case.mapping.routes if neuron in r.neurons)
        crossed = [c for c in r.hops[:, 2].tolist() if oracle.lookup(case.tables.tables.get(c), key) is None]
        if crossed:
            break
    table = case.tables.tables.get(crossed[0])
    zero, none = np.zeros(1, np.uint32), np.zeros((1, 1), np.uint64)
    columns = [zero, zero, zero, none]
    if table is not None:
        columns = [np.concatenate(pair) for pair in zip((table.key, table.mask, table.links, table.cores), columns, strict=True)]
    names = ("key", "mask", "links", "cores")
    tables = {**case.tables.tables, crossed[0]: RoutingTable(**dict(zip(names, columns, strict=True)))}
    case.with_tables(tables=tables).fails("NC603", "do not reach part")


def test_a_neuron_without_a_key(case: Case) -> None:
    sender = int(np.flatnonzero(case.tables.has_key)[3])
    case.with_tables(has_key=edited(case.tables.has_key, sender, False)).fails("NC606", f"neuron {sender} has targets but no key")


def test_two_neurons_with_one_key(case: Case) -> None:
    a, b = np.flatnonzero(case.tables.has_key)[:2].tolist()
    key = case.tables.neuron_key
    case.with_tables(neuron_key=edited(key, a, key[b])).fails("NC606", f"key {int(key[b]):#010x} belongs to 2 neurons")


def test_a_key_that_packets_cannot_hold(case: Case, machine: Factory) -> None:
    most = int(case.tables.neuron_key.max())
    bits = most.bit_length() - 1
    narrow = machine(cores=4, dead_cores=[(5, 2)], dead_links=[(0, 1)], key_bits=bits)
    replace(case, machine=narrow).fails("NC606", f"key {most:#010x} has more than {bits} bits")


def test_a_table_that_is_too_long(case: Case, machine: Factory) -> None:
    longest = max(len(t.key) for t in case.tables.tables.values())
    for entries in (longest, longest - 1):
        made = replace(case, machine=machine(cores=4, dead_cores=[(5, 2)], dead_links=[(0, 1)], entries=entries))
        if entries == longest:
            made.verify()
        else:
            made.fails("NC607", rf"has {longest} entries, the router {entries}")


def test_routes_by_core_must_not_miss_what_other_neurons_of_the_part_need(by_core: Case) -> None:
    """By core, packets go to the union of the part; each neuron's own targets alone are not what the tables promise."""
    case = by_core
    chip, entry = _entry(case, at_end=False)
    case.with_table(chip, links=edited(case.tables.tables[chip].links, entry, 0)).fails("NC603", "do not reach part")


def test_routes_by_core_declared_exact(by_core: Case) -> None:
    """What is a promise kept for routes by core is a stray delivery for exact ones."""
    mapping = replace(by_core.mapping, routes=replace(by_core.mapping.routes, exact=True))
    replace(by_core, mapping=mapping).fails("NC604", r"leads to \d+ parts, it has targets in \d+")


# --- axons ----------------------------------------------------------------------------------------------------------------------


def test_axons_missing_stray_and_double(axons: Case) -> None:
    rows = axons.tables.axons
    neuron, chip, core = rows[5].tolist()
    axons.with_tables(axons=np.delete(rows, 5, axis=0)).fails("NC603", f"neuron {neuron} has no axon to chip {chip} core {core}")
    stray = np.concatenate([rows, [[neuron, chip, 0]]]).astype(np.int32)
    axons.with_tables(axons=stray).fails("NC604", f"neuron {neuron} has an axon to chip {chip} core 0, where it has no target")
    axons.with_tables(axons=np.concatenate([rows, rows[5:6]])).fails("NC606", "listed twice")


# --- NC608: arrays that do not belong together -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.with_tables(neuron_key=c.tables.neuron_key[:-1]), "87 keys and 88 marks for 88 neurons"),
        (lambda c: c.with_tables(has_key=c.tables.has_key[:-1]), "88 keys and 87 marks"),
        (lambda c: c.with_route(0, neurons=np.array([88], np.int32)), "there is no neuron 88"),
        (lambda c: c.with_route(0, target_parts=np.array([-1], np.int32)), "there is no part -1"),
        (lambda c: c.with_route(0, source_part=999), "there is no part 999"),
        (lambda c: c.with_route(_route(c), hops=edited(c.mapping.routes[_route(c)].hops, (0, 1), 6)), "there is no link 6"),
        (lambda c: c.with_route(_route(c), hops=edited(c.mapping.routes[_route(c)].hops, (0, 1), -1)), "there is no link -1"),
        (lambda c: c.with_tables(tables={**c.tables.tables, 16: next(iter(c.tables.tables.values()))}), "the table of chip 16"),
        (lambda c: c.with_table(next(iter(c.tables.tables)), links=np.zeros(1, np.uint32)), r"columns of \[1, \d+\] entries"),
    ],
)
def test_arrays_that_do_not_belong_together(case: Case, change: Callable[[Case], Case], says: str) -> None:
    change(case).fails("NC608", says)


# --- random mutations -----------------------------------------------------------------------------------------------------------

MUTATIONS = ("key bit", "mask bit", "link bit", "core bit", "swap", "delete", "double", "neuron key bit", "core of a part")
OFTEN_HARMLESS = {"mask bit", "swap", "double"}


def mutate(case: Case, rng: np.random.Generator, kind: str) -> Case:
    """One random change of one table entry, key or place."""
    tables = case.tables.tables
    chip = int(rng.choice([chip for chip, table in tables.items() if len(table.key)]))
    table = tables[chip]
    n = len(table.key)
    at = int(rng.integers(n))
    columns = {"key": table.key, "mask": table.mask, "links": table.links, "cores": table.cores}
    if kind == "neuron key bit":
        neuron = int(rng.choice(np.flatnonzero(case.tables.has_key)))
        key = case.tables.neuron_key
        return case.with_tables(neuron_key=edited(key, neuron, key[neuron] ^ np.uint32(1 << rng.integers(10))))
    if kind == "core of a part":
        part = int(rng.choice(np.flatnonzero(~case.partition.external)))
        return _move(case, part, int(rng.choice(case.machine.topology.chips)), int(rng.integers(4)))
    if kind in {"swap", "delete", "double"}:
        order = np.arange(n)
        if kind == "swap":
            other = int(rng.integers(n))
            order[[at, other]] = order[[other, at]]
        order = np.delete(order, at) if kind == "delete" else np.insert(order, int(rng.integers(n)), at) if kind == "double" else order
        return case.with_table(chip, **{name: column[order] for name, column in columns.items()})
    name, n_bits, one = {
        "key bit": ("key", 10, np.uint32),
        "mask bit": ("mask", 10, np.uint32),
        "link bit": ("links", 7, np.uint32),
        "core bit": ("cores", 5, np.uint64),
    }[kind]
    column = columns[name]
    return case.with_table(chip, **{name: edited(column, at, column[at] ^ one(1 << int(rng.integers(n_bits))))})


def harmless(case: Case, oracle: Any) -> bool:
    """By brute force: legal cores, distinct keys, and every packet, walked alone, at exactly its cores."""
    usable = {(int(c), k) for c in case.machine.topology.chips for k in case.machine.topology.usable_cores(int(c))}
    places = [(c, k) for c, k, w in _places(case) if w]
    if not set(places) <= usable:
        return False
    try:
        cores = [core for found in oracle.cores_of(case.mapping, case.machine).values() for core in found]
    except AssertionError:
        return False
    keys = case.tables.neuron_key[case.tables.has_key].tolist()
    if len(set(cores)) < len(cores) or len(set(keys)) < len(keys):
        return False
    return oracle.wrong_neurons(case.problem, case.mapping, case.machine) == []


def found(case: Case) -> str | None:
    """The code of what the verifier finds, None for nothing."""
    try:
        case.verify()
    except MismatchError as error:
        return error.diagnostics[0].code
    return None


@pytest.mark.parametrize("which", ["case", "by_core"])
@pytest.mark.parametrize("kind", MUTATIONS)
def test_single_mutations_are_found_if_and_only_if_they_do_harm(request: pytest.FixtureRequest, oracle: Any, kind: str, which: str) -> None:
    """Both directions. Places are also held to the trees: a moved part is a defect (NC603) even if its packets happen to arrive."""
    base = request.getfixturevalue(which)
    rng = np.random.default_rng(11)
    verdicts = []
    for _ in range(50):
        broken = mutate(base, rng, kind)
        fine, code = harmless(broken, oracle), found(broken)
        assert fine == (code is None) or (kind == "core of a part" and code == "NC603")
        verdicts.append(fine)
    assert False in verdicts, "no harmful mutation was drawn"
    assert True in verdicts or kind not in OFTEN_HARMLESS, "no harmless mutation was drawn"


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kinds=st.lists(st.sampled_from(MUTATIONS[:7]), min_size=2, max_size=4))
def test_several_mutations_at_once(case: Case, oracle: Any, seed: int, kinds: list[str]) -> None:
    rng = np.random.default_rng(seed)
    broken = case
    for kind in kinds:
        broken = mutate(broken, rng, kind)
    assert harmless(broken, oracle) == (found(broken) is None)
