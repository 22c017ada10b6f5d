"""Random mapping problems, small machines, and a brute-force checker: plain loops over Python sets, nothing shared with the mapper."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from neurocompile.machine import LINK_STEPS, Machine, Quantity, Topology
from neurocompile.mapping.problem import MappingProblem, Resource, SetResource
from neurocompile.mapping.types import Mapping, RoutingTable

ProblemFactory = Callable[..., MappingProblem]
MachineFactory = Callable[..., Machine]


def make_problem(
    seed: int = 0,
    sizes: tuple[int, ...] = (20, 60, 10),
    external: tuple[bool, ...] = (True, False, False),
    density: float = 0.2,
    neurons: float = 16,
    axons_in: float = 1e9,
    axons_out: float = 1e9,
    memory: float = 1e9,
    profiles: int | None = None,
    widths: tuple[int, ...] | None = None,
    chip_memory: float | None = None,
) -> MappingProblem:
    """A random network: every neuron of a population that is not external is the target of any neuron with probability ``density``."""
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    population = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    outside = np.array(external)[population]
    edges = rng.random((n, n)) < density
    edges[:, outside] = False
    indptr = np.concatenate([[0], np.cumsum(edges.sum(axis=1))]).astype(np.int64)
    indices = np.nonzero(edges)[1].astype(np.int32)
    in_degree = edges.sum(axis=0).astype(np.float64)
    one = np.ones(n)
    chip_resources = (
        () if chip_memory is None else (Resource(name="sdram", unit="byte", limit=chip_memory, per_neuron=in_degree, per_axon_in=1.0),)
    )
    return MappingProblem(
        n_neurons=n,
        population=population,
        population_names=tuple(f"p{i}" for i in range(len(sizes))),
        external=outside,
        indptr=indptr,
        indices=indices,
        resources=(
            Resource(name="neurons", unit="neuron", limit=neurons, per_neuron=one),
            Resource(name="axons_in", unit="axon", limit=axons_in, per_neuron=0 * one, per_axon_in=1.0),
            Resource(name="axons_out", unit="axon", limit=axons_out, per_neuron=0 * one, per_axon_out=1.0),
            Resource(name="memory", unit="bit", limit=memory, per_neuron=8 * in_degree, per_axon_in=10.0),
        ),
        set_resources=()
        if profiles is None
        else (SetResource(name="profiles", limit=profiles, label=rng.integers(-1, 5, n).astype(np.int32)),),
        core_width=np.array(widths or (1,) * len(sizes), np.int32),
        chip_resources=chip_resources,
    )


def make_machine(
    kind: str = "hex",
    width: int = 4,
    height: int = 4,
    cores: int = 6,
    reserved: int = 1,
    routing: str = "multicast_tcam",
    entries: float = 1000,
    key_bits: float = 32,
    dead_chips: Iterable[int] = (),
    dead_links: Iterable[tuple[int, int]] = (),
    dead_cores: Iterable[tuple[int, int]] = (),
    io_chip: int = 0,
) -> Machine:
    """A machine with a rectangle of equal chips; ``dead_links`` names one direction, both die."""
    gone = set(dead_chips)
    chips = np.array([c for c in range(width * height) if c not in gone], np.int32)
    exists = np.isin(np.arange(width * height), chips)
    steps = LINK_STEPS[kind]
    links = set()
    for chip, link in dead_links:
        y, x = divmod(chip, width)
        x, y = x + steps[link][0], y + steps[link][1]
        if kind == "hex_torus":
            x, y = x % width, y % height
        links.add((chip, link))
        if 0 <= x < width and 0 <= y < height:
            links.add((y * width + x, (link + len(steps) // 2) % len(steps)))
    numbers = {"router.usable_entries": entries, "router.key_bits": key_bits, "chip.cores": cores, "chip.reserved_cores": reserved}
    return Machine(
        name="test",
        family="test",
        title="test",
        file="test.yaml",
        topology=Topology(
            kind=kind,
            width=width,
            height=height,
            chips=chips,
            n_cores=np.where(exists, cores, 0).astype(np.int32),
            n_reserved=np.where(exists, reserved, 0).astype(np.int32),
            io_chip=io_chip,
            dead_links=frozenset(links),
            dead_cores=frozenset(dead_cores),
        ),
        routing=routing,
        quantities=MappingProxyType(
            {key: Quantity(value=float(v), unit="1", source="test", confidence="measured") for key, v in numbers.items()}
        ),
    )


class BadPacketError(Exception):
    """A packet was lost, left the machine, or came to a chip twice."""


class Oracle:
    """What a mapping should do, worked out neuron by neuron."""

    @staticmethod
    @lru_cache(maxsize=100_000)
    def neighbour(topology: Topology, chip: int, link: int) -> int | None:
        """The chip behind a link, from the definition of the topology; None where there is none."""
        y, x = divmod(chip, topology.width)
        dx, dy = LINK_STEPS[topology.kind][link]
        x, y = x + dx, y + dy
        if topology.kind == "hex_torus":
            x, y = x % topology.width, y % topology.height
        other = y * topology.width + x
        inside = 0 <= x < topology.width and 0 <= y < topology.height
        return other if inside and other in topology.chips.tolist() and (chip, link) not in topology.dead_links else None

    @classmethod
    def bfs(cls, topology: Topology, start: int) -> dict[int, int]:
        """Links from ``start`` to each chip that can be reached."""
        distance, queue = {start: 0}, deque([start])
        while queue:
            here = queue.popleft()
            for link in range(len(LINK_STEPS[topology.kind])):
                there = cls.neighbour(topology, here, link)
                if there is not None and there not in distance:
                    distance[there] = distance[here] + 1
                    queue.append(there)
        return distance

    @staticmethod
    def targets(problem: MappingProblem, neuron: int) -> list[int]:
        return problem.indices[problem.indptr[neuron] : problem.indptr[neuron + 1]].tolist()

    @classmethod
    def target_parts(cls, problem: MappingProblem, part: list[int], neuron: int) -> set[int]:
        return {part[t] for t in cls.targets(problem, neuron)}

    @staticmethod
    @lru_cache(maxsize=10_000)
    def entries(table: RoutingTable) -> list[tuple[int, int, int, frozenset[int]]]:
        """(key, mask, links as bits, cores) of a table, in order of match."""
        words = [sum(word << 64 * i for i, word in enumerate(row)) for row in table.cores.tolist()]
        cores = [frozenset(c for c in range(w.bit_length()) if w >> c & 1) for w in words]
        return list(zip(table.key.tolist(), table.mask.tolist(), table.links.tolist(), cores, strict=True))

    @classmethod
    def lookup(cls, table: RoutingTable | None, key: int) -> tuple[int, frozenset[int]] | None:
        """(links as bits, cores) of the first entry that matches, None if none does."""
        matches = ((links, cores) for k, m, links, cores in (cls.entries(table) if table is not None else ()) if key & m == k)
        return next(matches, None)

    @classmethod
    def deliveries(cls, tables: dict[int, RoutingTable], topology: Topology, chip: int, key: int) -> set[tuple[int, int]]:
        """(chip, core) of all copies of a packet that starts at ``chip``."""
        n_links = len(LINK_STEPS[topology.kind])
        found: set[tuple[int, int]] = set()
        visited: set[int] = set()
        todo: list[tuple[int, int | None]] = [(chip, None)]
        while todo:
            here, came = todo.pop()
            if here in visited:
                raise BadPacketError(f"twice at chip {here}")
            visited.add(here)
            entry = cls.lookup(tables.get(here), key)
            if entry is None and came is None:
                raise BadPacketError(f"no entry at its own chip {here}")
            links, cores = entry if entry is not None else (1 << (came or 0), frozenset())
            found |= {(here, core) for core in cores}
            for link in range(32):
                if links >> link & 1:
                    there = cls.neighbour(topology, here, link) if link < n_links else None
                    if there is None:
                        raise BadPacketError(f"link {link} of chip {here} leads nowhere")
                    todo.append((there, link))
        return found

    @classmethod
    def cores_of(cls, mapping: Mapping, machine: Machine) -> dict[int, list[tuple[int, int]]]:
        """(chip, core) pairs of each part that is on cores."""
        found = {}
        for part in np.flatnonzero(~mapping.partition.external).tolist():
            chip = int(mapping.placement.chip[part])
            usable = machine.topology.usable_cores(chip)
            at = usable.index(int(mapping.placement.core[part]))
            cores = usable[at : at + int(mapping.placement.width[part])]
            assert len(cores) == mapping.placement.width[part]
            found[part] = [(chip, core) for core in cores]
        return found

    @classmethod
    def wanted(cls, problem: MappingProblem, mapping: Mapping) -> dict[int, set[int]]:
        """Parts that the packets of each neuron with targets must reach, and no others: its own; where routes are not exact, those that its
        route declares, with its own among them."""
        part = mapping.partition.part.tolist()
        own = {n: parts for n in range(problem.n_neurons) if (parts := cls.target_parts(problem, part, n))}
        if mapping.routes.exact:
            return own
        declared = {n: set(r.target_parts.tolist()) for r in mapping.routes for n in r.neurons.tolist()}
        assert declared.keys() == own.keys()
        assert all(parts <= declared[neuron] for neuron, parts in own.items())
        return declared

    @classmethod
    def wrong_neurons(cls, problem: MappingProblem, mapping: Mapping, machine: Machine) -> list[int]:
        """Neurons whose packets, walked one by one, do not reach exactly the cores they should."""
        cores, part = cls.cores_of(mapping, machine), mapping.partition.part
        wrong = []
        for neuron, parts in cls.wanted(problem, mapping).items():
            chip, key = int(mapping.placement.chip[part[neuron]]), int(mapping.tables.neuron_key[neuron])
            try:
                found = cls.deliveries(mapping.tables.tables, machine.topology, chip, key)
            except BadPacketError:
                found = {(-1, -1)}
            if found != {core for p in parts for core in cores[p]}:
                wrong.append(neuron)
        return wrong

    @classmethod
    def usage(cls, problem: MappingProblem, part: list[int]) -> dict[str, dict[int, float]]:
        """What each part uses of every limit: resource name -> part -> sum. Axons as Python sets."""
        members: dict[int, list[int]] = defaultdict(list)
        sources: dict[int, set[int]] = defaultdict(set)
        axons_out: dict[int, int] = defaultdict(int)
        for neuron, p in enumerate(part):
            members[p].append(neuron)
            for target in cls.targets(problem, neuron):
                sources[part[target]].add(neuron)
            axons_out[p] += len(cls.target_parts(problem, part, neuron))
        used: dict[str, dict[int, float]] = {}
        for r in (*problem.resources, *problem.chip_resources):
            used[r.name] = {
                p: sum(float(r.per_neuron[n]) for n in neurons) + r.per_axon_in * len(sources[p]) + r.per_axon_out * axons_out[p]
                for p, neurons in members.items()
                if not problem.external[neurons[0]]
            }
        for s in problem.set_resources:
            used[s.name] = {p: float(len({int(s.label[n]) for n in members[p]} - {-1})) for p in used[problem.resources[0].name]}
        return used

    @classmethod
    def check(cls, problem: MappingProblem, mapping: Mapping, machine: Machine) -> None:
        """Assert that a mapping keeps every limit and delivers every packet."""
        part = mapping.partition.part.tolist()
        assert len(part) == problem.n_neurons
        assert set(part) == set(range(mapping.partition.n_parts))
        for neuron, p in enumerate(part):
            assert mapping.partition.external[p] == problem.external[neuron]
            if not problem.external[neuron]:
                assert mapping.placement.width[p] == problem.core_width[problem.population[neuron]]
        used = cls.usage(problem, part)
        # 1e-9: the sums are taken in another order than the mapper's.
        for limited in (*problem.resources, *problem.set_resources):
            assert max(used[limited.name].values(), default=0.0) <= limited.limit * (1 + 1e-9), limited.name
        for chip_limit in problem.chip_resources:
            on_chip: dict[int, float] = defaultdict(float)
            for p, amount in used[chip_limit.name].items():
                on_chip[int(mapping.placement.chip[p])] += amount
            assert max(on_chip.values(), default=0.0) <= chip_limit.limit * (1 + 1e-9), chip_limit.name
        cores = cls.cores_of(mapping, machine)
        taken = [core for found in cores.values() for core in found]
        assert len(taken) == len(set(taken))
        assert {chip for chip, _ in taken} <= set(machine.topology.chips.tolist())
        for p in np.flatnonzero(mapping.partition.external).tolist():
            assert (mapping.placement.chip[p], mapping.placement.core[p]) == (machine.topology.io_chip, -1)
        if machine.routing == "destination":
            axons = [tuple(row) for row in mapping.tables.axons.tolist()]
            wanted = {(n, *cores[p][0]) for n, parts in cls.wanted(problem, mapping).items() for p in parts}
            assert len(axons) == len(set(axons))
            assert set(axons) == wanted
        else:
            assert all(len(t.key) <= machine.value("router.usable_entries") for t in mapping.tables.tables.values())
            keys = mapping.tables.neuron_key[mapping.tables.has_key].tolist()
            assert len(keys) == len(set(keys))
            assert max(keys, default=0) < 2 ** machine.value("router.key_bits")
            assert cls.wrong_neurons(problem, mapping, machine) == []


@pytest.fixture(scope="session")
def problem() -> ProblemFactory:
    """Factory of random problems (see ``make_problem``)."""
    return make_problem


@pytest.fixture(scope="session")
def one_population() -> ProblemFactory:
    """Factory of problems of one population by the targets of each neuron, and the resources of a core."""

    def make(rows: list[np.ndarray[Any, np.dtype[np.int64]]], *resources: Resource) -> MappingProblem:
        n = len(rows)
        return MappingProblem(
            n_neurons=n,
            population=np.zeros(n, np.int32),
            population_names=("p",),
            external=np.zeros(n, bool),
            indptr=np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64),
            indices=np.concatenate(rows).astype(np.int32),
            resources=resources,
            core_width=np.ones(1, np.int32),
        )

    return make


@pytest.fixture(scope="session")
def machine() -> MachineFactory:
    """Factory of small machines (see ``make_machine``)."""
    return make_machine


@pytest.fixture(scope="session")
def oracle() -> type[Oracle]:
    """The brute-force checker."""
    return Oracle


@pytest.fixture(scope="session")
def random_machine() -> Callable[..., Any]:
    """A machine of random kind, size and damage, drawn from a seeded generator."""

    def make(rng: np.random.Generator, **changes: Any) -> Machine:
        kind = str(rng.choice(["mesh", "hex", "hex_torus"]))
        width, height = (int(v) for v in rng.integers(1, 6, 2))
        n, n_links = width * height, len(LINK_STEPS[kind])
        damage = rng.random() * 0.15
        chips = set(np.flatnonzero(rng.random(n) < damage).tolist()) - {0}
        links = np.argwhere(rng.random((n, n_links)) < damage).tolist()
        options: dict[str, Any] = {
            "kind": kind,
            "width": width,
            "height": height,
            "cores": int(rng.integers(3, 80)) if rng.random() < 0.2 else int(rng.integers(3, 9)),
            "reserved": int(rng.integers(0, 2)),
            "dead_chips": chips,
            "dead_links": [(chip, link) for chip, link in links if chip not in chips],
        }
        made = make_machine(**{**options, **changes})
        dead = [(int(c), int(k)) for c in made.topology.chips for k in range(options["cores"]) if rng.random() < damage]
        return make_machine(**{**options, **changes, "dead_cores": dead})

    return make
