"""Routes to routing tables: keys, entries, default routing, minimisation; or, where packets carry their target, lists of axons."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurocompile.ir.errors import Diagnostic
from neurocompile.machine import Machine
from neurocompile.mapping.shortfall import Shortfall, ShortfallError
from neurocompile.mapping.tables._entries import route_entries
from neurocompile.mapping.tables.keys import allocate_keys
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
    neuron_key, has_key, base, size = allocate_keys(routes, n_neurons, int(machine.value("router.key_bits")))
    chip, entries, outputs = _entries(partition, placement, routes, machine)
    n_words = outputs.shape[1] - 1
    distinct, route = np.unique(outputs, axis=0, return_inverse=True)
    route = route.reshape(-1).astype(np.int64)
    key = base.astype(np.uint32)
    mask = (~(size - 1).astype(np.uint32)).astype(np.uint32)
    tables: dict[int, RoutingTable] = {}
    before: dict[int, int] = {}
    limit = int(machine.value("router.usable_entries"))
    _room_for_routes(chip, route, entries[:, 1] > 0, limit, machine, partition)
    order = np.argsort(chip, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(chip[order])) + 1) if len(order) else []:
        here = int(chip[rows[0]])
        group, default = entries[rows, 0], entries[rows, 1].astype(bool)
        short_key, short_mask, short_route = minimise(key[group], mask[group], route[rows], default, target_length=limit)
        before[here] = len(rows)
        if len(short_key) > limit:
            x, y = machine.topology.position(here)
            what = f"chip ({x}, {y}) of '{machine.name}' needs {len(short_key)} routing entries after minimisation ({len(rows)} before)"
            raise _too_long(machine, what, len(short_key), limit, partition)
        if len(short_key):
            found = distinct[short_route]
            table = RoutingTable(
                key=short_key, mask=short_mask, links=found[:, 0].astype(np.uint32), cores=np.ascontiguousarray(found[:, 1 : 1 + n_words])
            )
            for array in (table.key, table.mask, table.links, table.cores):
                array.setflags(write=False)
            tables[here] = table
    return RoutingTables(neuron_key=neuron_key, has_key=has_key, tables=tables, unminimised_entries=before)


def _room_for_routes(
    chip: Int64Array, route: Int64Array, default: npt.NDArray[np.bool_], limit: int, machine: Machine, partition: Partition
) -> None:
    """Raise NC404 at once where a chip has more different routes than its router entries: no minimisation can help."""
    pairs = np.unique(chip[~default] * (int(route.max(initial=0)) + 1) + route[~default])
    chips, counts = np.unique(pairs // (int(route.max(initial=0)) + 1), return_counts=True)
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


def _entries(
    partition: Partition, placement: Placement, routes: Routes, machine: Machine
) -> tuple[Int64Array, Int64Array, npt.NDArray[np.uint64]]:
    """Chip, (route, default-routed) and output words (links, cores 0-63, cores 64-127, ...) of every entry."""
    topology = machine.topology
    n_words = max(1, -(-int(topology.n_cores.max()) // 64))
    core_bits = np.zeros((partition.n_parts, n_words), np.uint64)
    usable = {int(c): topology.usable_cores(int(c)) for c in np.unique(placement.chip)}
    for part in np.flatnonzero(~partition.external).tolist():
        cores = usable[int(placement.chip[part])]
        at = cores.index(int(placement.core[part]))
        # Packets go to all cores of the part: where there are several, its synapse cores share the work.
        for core in cores[at : at + int(placement.width[part])]:
            core_bits[part, core // 64] |= np.uint64(1 << (core % 64))
    chip, route, default, words = route_entries(
        routes.source_part,
        routes.tree,
        routes.target_start,
        routes.targets,
        routes.tree_start,
        routes.hops,
        placement.chip,
        core_bits,
        topology.width * topology.height,
    )
    return chip, np.stack([route, default], axis=1), words
