"""Routes to routing tables: keys, entries, default routing, minimisation; or, where packets carry their target, lists of axons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurocompile.ir.errors import Diagnostic
from neurocompile.machine import Machine, Topology
from neurocompile.mapping.rows import take_rows
from neurocompile.mapping.shortfall import Shortfall, ShortfallError
from neurocompile.mapping.tables._entries import block_entries
from neurocompile.mapping.tables.keys import Keys, allocate_keys
from neurocompile.mapping.tables.minimise import minimise
from neurocompile.mapping.types import Int32Array, Int64Array, Partition, Placement, Routes, RoutingTable, RoutingTables


def tabulate(n_neurons: int, partition: Partition, placement: Placement, routes: Routes, machine: Machine) -> RoutingTables:
    """Return the tables (``multicast_tcam`` machines) or axons (``destination`` machines).

    Raises
    ------
    DoesNotFitError
        NC404: a minimised table is longer than the router's; NC406: keys exhausted.
    """
    if machine.routing == "destination":
        return RoutingTables(neuron_key=np.zeros(n_neurons, np.uint32), has_key=np.zeros(n_neurons, bool), axons=_axons(placement, routes))
    made = unminimised(n_neurons, partition, placement, routes, machine)
    limit = int(machine.value("router.usable_entries"))
    _room_for_routes(made, limit, machine, partition)
    tables: dict[int, RoutingTable] = {}
    before: dict[int, int] = {}
    for here, rows in made.by_chip():
        short_key, short_mask, short_route = minimise(
            made.key[rows], made.mask[rows], made.route[rows], made.default[rows], target_length=limit
        )
        before[here] = len(rows)
        if len(short_key) > limit:
            x, y = machine.topology.position(here)
            what = f"chip ({x}, {y}) of '{machine.name}' needs {len(short_key)} routing entries after minimisation ({len(rows)} before)"
            raise _too_long(machine, what, len(short_key), limit, partition)
        if len(short_key):
            found = made.outputs[short_route]
            table = RoutingTable(
                key=short_key, mask=short_mask, links=found[:, 0].astype(np.uint32), cores=np.ascontiguousarray(found[:, 1:])
            )
            for array in (table.key, table.mask, table.links, table.cores):
                array.setflags(write=False)
            tables[here] = table
    return RoutingTables(neuron_key=made.keys.neuron_key, has_key=made.keys.has_key, tables=tables, unminimised_entries=before)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entries:
    """Entries of all chips before minimisation, one for each block of keys at each chip that it passes.

    keys : the blocks; chip : int64 (n_entries,); key, mask : uint32 (n_entries,); route : int64 (n_entries,), row of ``outputs``;
    default : bool (n_entries,), whether default routing does the same; outputs : uint64 (n_outputs, 1 + n_words), links and cores as bits.
    """

    keys: Keys
    chip: Int64Array
    key: npt.NDArray[np.uint32]
    mask: npt.NDArray[np.uint32]
    route: Int64Array
    default: npt.NDArray[np.bool_]
    outputs: npt.NDArray[np.uint64]

    def by_chip(self) -> Iterator[tuple[int, Int64Array]]:
        """Every chip that has entries, with their numbers."""
        order = np.argsort(self.chip, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(self.chip[order])) + 1) if len(order) else []:
            yield int(self.chip[rows[0]]), rows


def unminimised(n_neurons: int, partition: Partition, placement: Placement, routes: Routes, machine: Machine) -> Entries:
    """Return the entries that the routes need. Raises DoesNotFitError NC406: keys exhausted."""
    keys = allocate_keys(routes, placement.chip, n_neurons, int(machine.value("router.key_bits")))
    topology = machine.topology
    target_start, targets = take_rows(keys.route, routes.target_start, routes.targets)
    chip, block, default, words = block_entries(
        routes.source_part[keys.route],
        routes.tree[keys.route],
        target_start,
        targets,
        routes.tree_start,
        routes.hops,
        placement.chip,
        _core_bits(partition, placement, topology),
        topology.width * topology.height,
    )
    outputs, route = np.unique(words, axis=0, return_inverse=True)
    return Entries(
        keys=keys,
        chip=chip,
        key=keys.base[block].astype(np.uint32),
        mask=(~(keys.size[block] - 1)).astype(np.uint32),
        route=route.reshape(-1).astype(np.int64),
        default=default,
        outputs=outputs,
    )


def _room_for_routes(made: Entries, limit: int, machine: Machine, partition: Partition) -> None:
    """Raise NC404 at once where a chip has more different routes than its router entries: no minimisation can help."""
    pairs = np.unique(made.chip[~made.default] * len(made.outputs) + made.route[~made.default])
    chips, counts = np.unique(pairs // max(len(made.outputs), 1), return_counts=True)
    if counts.max(initial=0) > limit:
        x, y = machine.topology.position(int(chips[np.argmax(counts)]))
        what = f"chip ({x}, {y}) of '{machine.name}' has {counts.max()} different routes"
        raise _too_long(machine, what, int(counts.max()), limit, partition)


def _too_long(machine: Machine, what: str, needed: int, limit: int, partition: Partition) -> ShortfallError:
    confidence = machine.quantity("router.usable_entries").confidence
    return ShortfallError(
        Diagnostic(
            code="NC404",
            message=f"{what}, its router has {limit} usable entries ({confidence}): {needed - limit} too few",
            help="lower the number of connections between cores, or take a machine whose routers have more entries",
        ),
        Shortfall(resource="routing entries", unit="entry", needed=float(needed), available=float(limit), partition=partition),
    )


def _axons(placement: Placement, routes: Routes) -> Int32Array:
    """(source neuron, chip, core) rows, sorted."""
    n_neurons, n_targets = np.diff(routes.neuron_start), np.diff(routes.target_start)
    route_of = np.repeat(np.arange(len(routes)), n_neurons)
    repeats = n_targets[route_of]
    neuron = np.repeat(routes.neurons, repeats)
    within = np.arange(len(neuron)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    part = routes.targets[np.repeat(routes.target_start[:-1][route_of], repeats) + within]
    rows = np.stack([neuron, placement.chip[part], placement.core[part]], axis=1).astype(np.int32)
    ordered: Int32Array = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    return ordered


def _core_bits(partition: Partition, placement: Placement, topology: Topology) -> npt.NDArray[np.uint64]:
    """Cores of each part as bits, uint64 (n_parts, n_words): packets go to all of them, the synapse cores of a part share the work."""
    n_words = max(1, -(-int(topology.n_cores.max()) // 64))
    core_bits = np.zeros((partition.n_parts, n_words), np.uint64)
    usable = {int(c): topology.usable_cores(int(c)) for c in np.unique(placement.chip)}
    for part in np.flatnonzero(~partition.external).tolist():
        cores = usable[int(placement.chip[part])]
        at = cores.index(int(placement.core[part]))
        for core in cores[at : at + int(placement.width[part])]:
            core_bits[part, core // 64] |= np.uint64(1 << (core % 64))
    return core_bits
