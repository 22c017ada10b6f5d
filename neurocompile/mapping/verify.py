"""The independent verifier: proves that a mapping delivers every spike and keeps every limit. Shares no code with what it checks.

Limits are recounted from sorted lists of unique (source, part) pairs, where the partitioner counts with stamp arrays. Packets are walked:
from the source's chip, first match in the chip's table, over the links of the machine, straight on where nothing matches; cores at which
they arrive are looked up in the placement. Neurons of one chip whose keys differ only in bits that no table looks at travel identically and
are walked once; what they must reach is still compared neuron by neuron.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.ir.errors import MismatchError
from neurocompile.machine import Machine
from neurocompile.mapping.problem import FloatArray, MappingProblem, Resource
from neurocompile.mapping.types import Int32Array, Int64Array, Mapping, Partition, Placement, RoutingTables

_ROUNDING = 1e-9  # relative: sums of float costs in another order than the partitioner's
_BLOCK = 4_000_000  # synapses looked at together


def _fail(code: str, message: str) -> MismatchError:
    found = MismatchError.of(code, message, help="this is a defect of the mapper, not of the description: please report it")
    assert isinstance(found, MismatchError)
    return found


def _pairs(problem: MappingProblem, part: Int32Array, n_parts: int) -> tuple[Int64Array, Int64Array]:
    """Unique (source neuron, part with a target of it), sorted. Sources in blocks: there are never 64-bit codes of all synapses."""
    found: list[Int64Array] = [np.zeros(0, np.int64)]
    a = 0
    while a < problem.n_neurons:
        b = max(a + 1, int(np.searchsorted(problem.indptr, problem.indptr[a] + _BLOCK, side="right")) - 1)
        b = min(b, problem.n_neurons)
        source = np.repeat(np.arange(a, b, dtype=np.int64), np.diff(problem.indptr[a : b + 1]))
        found.append(np.unique(source * n_parts + part[problem.indices[problem.indptr[a] : problem.indptr[b]]]))
        a = b
    code = np.concatenate(found)
    return code // n_parts, code % n_parts


def verify_partition(problem: MappingProblem, partition: Partition) -> None:
    """Raise MismatchError NC601 for a neuron without a legal part, NC602 for a part over a limit of a core."""
    part, n_parts = partition.part, partition.n_parts
    if len(part) != problem.n_neurons or len(partition.external) != n_parts:
        raise _fail("NC601", f"{len(part)} neurons in the partition, {problem.n_neurons} in the network")
    bad = np.flatnonzero((part < 0) | (part >= n_parts))
    if len(bad):
        raise _fail("NC601", f"neuron {bad[0]} is in part {part[bad[0]]} of {n_parts}")
    if not n_parts:
        return
    bad = np.flatnonzero(partition.external[part] != problem.external)
    if len(bad):
        raise _fail("NC601", f"neuron {bad[0]} and its part {part[bad[0]]} differ in whether they are external")
    widths = np.unique(np.stack([part, problem.core_width[problem.population]], axis=1)[~problem.external], axis=0)
    if len(widths) != len(np.unique(widths[:, 0])):
        raise _fail("NC601", "a part holds populations that need different numbers of cores")
    if problem.together is not None:
        grouped = problem.together >= 0
        pairs = np.unique(np.stack([problem.together, part], axis=1)[grouped], axis=0)
        if len(pairs) != len(np.unique(pairs[:, 0])):
            label = int(pairs[1:, 0][np.diff(pairs[:, 0]) == 0][0])
            raise _fail("NC601", f"neurons of group {label}, which must stay together, lie in different parts")
    source, target = _pairs(problem, part, n_parts)
    for resource in problem.resources:
        used = _use(resource, part, n_parts, source, target)
        used[partition.external] = 0.0
        _limit(f"part {int(np.argmax(used))}", resource, float(used.max(initial=0.0)))
    for labels in problem.set_resources:
        different = np.unique(
            part[labels.label >= 0].astype(np.int64) * (labels.label.max(initial=0) + 1) + labels.label[labels.label >= 0]
        )
        counts = np.bincount(different // (labels.label.max(initial=0) + 1), minlength=n_parts)
        counts[partition.external] = 0
        if counts.max(initial=0) > labels.limit:
            raise _fail("NC602", f"part {np.argmax(counts)} has {counts.max()} different {labels.name}, limit {labels.limit}")


def _use(resource: Resource, part: Int32Array, n_parts: int, source: Int64Array, target: Int64Array) -> FloatArray:
    used = np.zeros(n_parts)
    np.add.at(used, part, resource.per_neuron)
    np.add.at(used, target, resource.per_axon_in)
    np.add.at(used, part[source], resource.per_axon_out)
    return used


def _limit(where: str, resource: Resource, used: float) -> None:
    if not used <= resource.limit * (1.0 + _ROUNDING):
        raise _fail("NC602", f"{where} needs {used:.17g} {resource.unit} of {resource.name}, limit {resource.limit:g}")


def verify_placement(problem: MappingProblem, partition: Partition, placement: Placement, machine: Machine) -> None:
    """Raise MismatchError NC601 for an illegal or doubly used core, NC602 for a chip over a limit."""
    owners(problem, partition, placement, machine)
    if problem.chip is not None:
        bad = np.flatnonzero((problem.chip >= 0) & (placement.chip[partition.part] != problem.chip))
        if len(bad):
            raise _fail(
                "NC601", f"neuron {bad[0]} lies on chip {placement.chip[partition.part[bad[0]]]}, must lie on chip {problem.chip[bad[0]]}"
            )
    source, target = _pairs(problem, partition.part, partition.n_parts)
    for resource in problem.chip_resources:
        used = _use(resource, partition.part, partition.n_parts, source, target)
        on_chip = np.zeros(machine.topology.width * machine.topology.height)
        np.add.at(on_chip, placement.chip[~partition.external], used[~partition.external])
        _limit(f"chip {machine.topology.position(int(np.argmax(on_chip)))}", resource, float(on_chip.max(initial=0.0)))


def owners(problem: MappingProblem, partition: Partition, placement: Placement, machine: Machine) -> Int32Array:
    """Return the part on each core, int32 (width * height, most cores), -1 for free ones; raise MismatchError NC601 if illegal."""
    t = machine.topology
    lengths = {len(placement.chip), len(placement.core), len(placement.width)}
    if lengths != {partition.n_parts}:
        raise _fail("NC601", f"{partition.n_parts} parts, but the placement has {sorted(lengths)}")
    owner = np.full((t.width * t.height, max(1, int(t.n_cores.max()))), -1, np.int32)
    exists = set(t.chips.tolist())
    need = dict(zip(partition.part.tolist(), problem.core_width[problem.population].tolist(), strict=True))
    for part in range(partition.n_parts):
        chip, core, width = int(placement.chip[part]), int(placement.core[part]), int(placement.width[part])
        if chip not in exists:
            raise _fail("NC601", f"part {part} is on chip {chip}, which does not exist or is dead")
        if partition.external[part]:
            if chip != t.io_chip or core != -1 or width != 0:
                raise _fail("NC601", f"external part {part} is at chip {chip} core {core}, not at the input chip")
            continue
        if width != need.get(part):
            raise _fail("NC601", f"part {part} has {width} cores, needs {need.get(part)}")
        left = width
        while left:
            if core < 0 or core >= t.n_cores[chip]:
                raise _fail("NC601", f"part {part} needs core {core} of chip {chip}, which has cores 0 .. {int(t.n_cores[chip]) - 1}")
            if (chip, core) in t.dead_cores and left < width:
                core += 1
                continue
            if core < t.n_reserved[chip] or (chip, core) in t.dead_cores:
                raise _fail("NC601", f"part {part} is on core {core} of chip {chip}, which is reserved or dead")
            if owner[chip, core] >= 0:
                raise _fail("NC601", f"parts {owner[chip, core]} and {part} are both on core {core} of chip {chip}")
            owner[chip, core] = part
            core, left = core + 1, left - 1
    return owner


def verify_mapping(problem: MappingProblem, mapping: Mapping, machine: Machine) -> None:
    """Prove a whole mapping.

    Raises
    ------
    MismatchError
        NC601, NC602 as above; NC603 a target is not reached; NC604 a core is reached that should not be; NC605 a packet is lost or
        runs in a loop; NC606 keys; NC607 a table is too long; NC608 arrays that do not belong together.
    """
    verify_partition(problem, mapping.partition)
    verify_placement(problem, mapping.partition, mapping.placement, machine)
    _verify_shapes(problem, mapping, machine)
    owner = owners(problem, mapping.partition, mapping.placement, machine)
    source, target = _pairs(problem, mapping.partition.part, mapping.partition.n_parts)
    _verify_routes(problem, mapping, machine, source, target)
    if not mapping.routes.exact:
        # Every neuron reaches all parts that its route declares; that its own are among them has been seen.
        r = mapping.routes
        route = np.repeat(np.arange(len(r)), np.diff(r.neuron_start))
        count = np.diff(r.target_start)[route]
        offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        source, target = (
            np.repeat(r.neurons, count).astype(np.int64),
            r.targets[np.repeat(r.target_start[route], count) + offset].astype(np.int64),
        )
        order = np.lexsort((target, source))
        source, target = source[order], target[order]
    if machine.routing == "destination":
        _verify_axons(mapping, source, target)
    else:
        _verify_tables(mapping, machine, owner, source, target)


def _verify_shapes(problem: MappingProblem, mapping: Mapping, machine: Machine) -> None:
    """No array names a neuron, part or chip that does not exist: what follows may index with them."""
    n_parts, t, tables = mapping.partition.n_parts, machine.topology, mapping.tables
    if not len(tables.neuron_key) == len(tables.has_key) == problem.n_neurons:
        raise _fail("NC608", f"{len(tables.neuron_key)} keys and {len(tables.has_key)} marks for {problem.n_neurons} neurons")
    r = mapping.routes
    starts = ((r.neuron_start, len(r), r.neurons), (r.target_start, len(r), r.targets), (r.tree_start, len(r.tree_start) - 1, r.hops))
    for start, n, values in starts:
        if len(start) != n + 1 or start[0] != 0 or start[-1] != len(values) or (np.diff(start) < 0).any() or len(r.tree) != len(r):
            raise _fail("NC608", f"the arrays of {len(r)} routes do not belong together")
    for what, values, n in (
        ("neuron", r.neurons, problem.n_neurons),
        ("part", r.targets, n_parts),
        ("part", r.source_part, n_parts),
        ("tree", r.tree, len(r.tree_start) - 1),
        ("link", r.hops[:, 1], t.n_links),
        ("chip", r.hops[:, 0], t.width * t.height),
        ("chip", r.hops[:, 2], t.width * t.height),
    ):
        bad = np.flatnonzero((values < 0) | (values >= n))
        if len(bad):
            raise _fail("NC608", f"routes: there is no {what} {values[bad[0]]}")
    words = {table.cores.shape[1:] for table in tables.tables.values()}
    for chip, table in tables.tables.items():
        lengths = {len(table.key), len(table.mask), len(table.links), len(table.cores)}
        if chip not in t.chips or len(lengths) > 1 or len(words) > 1:
            raise _fail("NC608", f"the table of chip {chip} has columns of {sorted(lengths)} entries, or no such chip exists")


def _verify_routes(problem: MappingProblem, mapping: Mapping, machine: Machine, source: Int64Array, target: Int64Array) -> None:
    """Each tree runs over live links, from its source's chip to the chips of all its parts; every sending neuron has one route."""
    start = np.searchsorted(source, np.arange(problem.n_neurons + 1)).astype(np.int64)
    r, chip = mapping.routes, mapping.placement.chip
    code, route, what, more = _walk_routes(
        r.source_part,
        r.tree,
        r.neuron_start,
        r.neurons,
        r.target_start,
        r.targets,
        r.tree_start,
        r.hops,
        chip,
        mapping.partition.part,
        machine.topology.neighbours,
        start,
        target,
        r.exact,
    )
    if code:
        part = int(r.source_part[route])
        here, link, following = r.hops[what].tolist() if code == 1 else (0, 0, 0)
        found = {
            1: ("NC605", f"route of part {part}: chip {here} link {link} to chip {following} is no step of a tree"),
            2: ("NC603", f"the tree of part {part} does not reach chip {what}"),
            3: ("NC603", f"the route of neuron {what} does not lead to all parts with its targets"),
            4: ("NC604", f"the route of neuron {what} leads to {more} parts, it has targets in {start[what + 1] - start[what]}"),
        }[code]
        raise _fail(*found)
    seen = np.bincount(r.neurons, minlength=problem.n_neurons)
    bad = np.flatnonzero(seen != (np.diff(start) > 0))
    if len(bad):
        raise _fail("NC603", f"neuron {bad[0]} has targets in {start[bad[0] + 1] - start[bad[0]]} parts and {seen[bad[0]]} routes")


@numba.njit(cache=True)
def _walk_routes(
    source_part: Int32Array,
    tree: Int32Array,
    neuron_start: Int64Array,
    neurons: Int32Array,
    target_start: Int64Array,
    targets: Int32Array,
    tree_start: Int64Array,
    hops: Int32Array,
    chip: Int32Array,
    part: Int32Array,
    neighbours: Int32Array,
    wanted_start: Int64Array,
    wanted: Int64Array,
    exact: bool,
) -> tuple[int, int, int, int]:
    """(0, ...) or what is wrong: (1, route, hop, 0) no step of a tree; (2, route, chip, 0) not reached; (3, route, neuron, 0) a part is
    missing; (4, route, neuron, parts) too many parts."""
    reached = np.full(neighbours.shape[0], -1, np.int64)
    leads_to = np.full(len(chip), -1, np.int64)
    for r in range(len(source_part)):
        reached[chip[source_part[r]]] = r
        for h in range(tree_start[tree[r]], tree_start[tree[r] + 1]):
            here, link, following = hops[h]
            if reached[here] != r or neighbours[here, link] != following or reached[following] == r:
                return 1, r, h, 0
            reached[following] = r
        n_parts = 0
        for t in range(target_start[r], target_start[r + 1]):
            if reached[chip[targets[t]]] != r:
                return 2, r, chip[targets[t]], 0
            if leads_to[targets[t]] != r:
                leads_to[targets[t]] = r
                n_parts += 1
        for i in range(neuron_start[r], neuron_start[r + 1]):
            neuron = neurons[i]
            if part[neuron] != source_part[r]:
                return 3, r, neuron, 0
            for w in range(wanted_start[neuron], wanted_start[neuron + 1]):
                if leads_to[wanted[w]] != r:
                    return 3, r, neuron, 0
            if exact and n_parts != wanted_start[neuron + 1] - wanted_start[neuron]:
                return 4, r, neuron, n_parts
    return 0, -1, -1, -1


def _verify_axons(mapping: Mapping, source: Int64Array, target: Int64Array) -> None:
    wanted = np.stack([source, mapping.placement.chip[target], mapping.placement.core[target]], axis=1)
    found = mapping.tables.axons.astype(np.int64).reshape(-1, 3)
    nowhere = ((found < 0) | (found > wanted.max(axis=0, initial=0))).any(axis=1)
    if nowhere.any():
        raise _fail("NC604", "neuron {} has an axon to chip {} core {}, where it has no target".format(*found[np.argmax(nowhere)].tolist()))
    base = wanted.max(axis=0, initial=0) + 1
    wanted_code, code = (np.sort((rows[:, 0] * base[1] + rows[:, 1]) * base[2] + rows[:, 2]) for rows in (wanted, found))

    def row(value: int) -> tuple[int, ...]:
        return int(value // base[2] // base[1]), int(value // base[2] % base[1]), int(value % base[2])

    if (np.diff(code) == 0).any():
        raise _fail("NC606", "an axon (source neuron, chip, core) is listed twice")
    missing, stray = (np.setdiff1d(a, b, assume_unique=True) for a, b in ((wanted_code, code), (code, wanted_code)))
    if len(missing):
        raise _fail("NC603", "neuron {} has no axon to chip {} core {}".format(*row(missing[0])))
    if len(stray):
        raise _fail("NC604", "neuron {} has an axon to chip {} core {}, where it has no target".format(*row(stray[0])))


def _verify_tables(mapping: Mapping, machine: Machine, owner: Int32Array, source: Int64Array, target: Int64Array) -> None:
    tables, t = mapping.tables, machine.topology
    sends = np.unique(source)
    if not tables.has_key[sends].all():
        raise _fail("NC606", f"neuron {sends[~tables.has_key[sends]][0]} has targets but no key")
    keys, counts = np.unique(tables.neuron_key[tables.has_key], return_counts=True)
    if (counts > 1).any():
        raise _fail("NC606", f"key {int(keys[np.argmax(counts)]):#010x} belongs to {counts.max()} neurons")
    key_bits = machine.value("router.key_bits")
    if len(keys) and int(keys[-1]) >= 2**key_bits:
        raise _fail("NC606", f"key {int(keys[-1]):#010x} has more than {key_bits:g} bits")
    limit = machine.value("router.usable_entries")
    for chip, table in tables.tables.items():
        if len(table.key) > limit:
            raise _fail("NC607", f"the table of chip {t.position(chip)} has {len(table.key)} entries, the router {limit:g}")
    start, key, mask, links, cores = _flatten(tables, t.width * t.height)
    chip_of = mapping.placement.chip[mapping.partition.part[sends]].astype(np.int64)
    looked_at = np.bitwise_or.reduce(mask) if len(mask) else np.uint32(0)
    alike = chip_of << 32 | (tables.neuron_key[sends] & looked_at).astype(np.int64)
    order = np.argsort(alike, kind="stable")
    first = np.searchsorted(source, sends)
    last = np.searchsorted(source, sends, side="right")
    code, neuron, chip, part = _walk_all(
        sends[order],
        alike[order],
        chip_of[order],
        tables.neuron_key[sends][order],
        first[order],
        last[order],
        target,
        start,
        key,
        mask,
        links,
        cores,
        t.neighbours,
        owner,
        mapping.placement.width,
    )
    if code:
        where = f"neuron {neuron} (key {int(tables.neuron_key[neuron]):#010x})"
        at = f"chip {t.position(int(chip))}" if chip >= 0 else ""
        message = {
            603: f"packets of {where} do not reach part {part}, which holds a target",
            604: f"packets of {where} reach part {part} where it has no target"
            if part >= 0
            else f"packets of {where} reach a free core of {at}",
            605: f"packets of {where} are lost or run in a loop at {at}",
        }[int(code)]
        raise _fail(f"NC{code}", message)


def _flatten(
    tables: RoutingTables, n_chips: int
) -> tuple[Int64Array, npt.NDArray[np.uint32], npt.NDArray[np.uint32], npt.NDArray[np.uint32], npt.NDArray[np.uint64]]:
    some = sorted(tables.tables)
    sizes = np.zeros(n_chips + 1, np.int64)
    for chip in some:
        sizes[chip + 1] = len(tables.tables[chip].key)
    found = [tables.tables[chip] for chip in some]
    words = found[0].cores.shape[1] if found else 1

    def joined(name: str) -> npt.NDArray[np.uint32]:
        return np.concatenate([getattr(table, name) for table in found]) if found else np.zeros(0, np.uint32)

    cores = np.concatenate([table.cores for table in found]) if found else np.zeros((0, words), np.uint64)
    return np.cumsum(sizes), joined("key"), joined("mask"), joined("links"), cores


@numba.njit(cache=True)
def _walk_all(
    neurons: Int64Array,
    alike: Int64Array,
    chips: Int64Array,
    keys: npt.NDArray[np.uint32],
    first: Int64Array,
    last: Int64Array,
    target: Int64Array,
    start: Int64Array,
    key: npt.NDArray[np.uint32],
    mask: npt.NDArray[np.uint32],
    links: npt.NDArray[np.uint32],
    cores: npt.NDArray[np.uint64],
    neighbours: Int32Array,
    owner: Int32Array,
    width: Int32Array,
) -> tuple[int, int, int, int]:
    """(0, ...) or (code, neuron, chip, part) of the first difference."""
    n_chips, n_links = neighbours.shape
    seen = np.full(n_chips, -1, np.int64)
    hits = np.zeros(len(width), np.int64)
    reached = np.empty(len(width), np.int64)
    wanted = np.full(len(width), -1, np.int64)
    stack_chip = np.empty(n_chips + 1, np.int64)
    stack_link = np.empty(n_chips + 1, np.int64)
    n_reached = 0
    for i in range(len(neurons)):
        if i == 0 or alike[i] != alike[i - 1]:
            for r in range(n_reached):
                hits[reached[r]] = 0
            n_reached = 0
            stack_chip[0], stack_link[0] = chips[i], -1
            seen[chips[i]] = i
            depth = 1
            while depth:
                depth -= 1
                chip, came = stack_chip[depth], stack_link[depth]
                out = np.uint32(0)
                matched = False
                for e in range(start[chip], start[chip + 1]):
                    if keys[i] & mask[e] == key[e]:
                        matched = True
                        out = links[e]
                        for word in range(cores.shape[1]):
                            bits = cores[e, word]
                            for b in range(64):
                                if bits >> np.uint64(b) & np.uint64(1):
                                    core = 64 * word + b
                                    part = owner[chip, core] if core < owner.shape[1] else -1
                                    if part < 0:
                                        return 604, neurons[i], chip, -1
                                    if hits[part] == 0:
                                        reached[n_reached] = part
                                        n_reached += 1
                                    hits[part] += 1
                        break
                if not matched:
                    if came < 0:
                        return 605, neurons[i], chip, -1
                    out = np.uint32(1) << np.uint32(came)
                for link in range(32):
                    if out >> np.uint32(link) & np.uint32(1):
                        following = neighbours[chip, link] if link < n_links else -1
                        if following < 0 or seen[following] == i:
                            return 605, neurons[i], chip, -1
                        seen[following] = i
                        stack_chip[depth], stack_link[depth] = following, link
                        depth += 1
        for w in range(first[i], last[i]):
            part = target[w]
            wanted[part] = i
            if hits[part] != width[part]:
                return 603, neurons[i], -1, part
        if n_reached != last[i] - first[i]:
            for r in range(n_reached):
                if wanted[reached[r]] != i:
                    return 604, neurons[i], -1, reached[r]
    return 0, -1, -1, -1
