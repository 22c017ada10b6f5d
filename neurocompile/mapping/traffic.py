"""What spikes cost between chips: packets, hops, load of links, fill of tables."""

from __future__ import annotations

import numba
import numpy as np

from neurocompile.machine import Machine
from neurocompile.mapping.problem import FloatArray, MappingProblem
from neurocompile.mapping.types import Int32Array, Int64Array, Placement, Routes, RoutingTables

_HEX_NAMES = ("E", "NE", "N", "W", "SW", "S")
LINK_NAMES = {"mesh": ("E", "N", "W", "S"), "hex": _HEX_NAMES, "hex_torus": _HEX_NAMES}


def route_rates(problem: MappingProblem, routes: Routes) -> FloatArray:
    """Packets per step of each route, float64 (n_routes,)."""
    route_of = np.repeat(np.arange(len(routes)), np.diff(routes.neuron_start))
    found: FloatArray = np.bincount(route_of, problem.rates[routes.neurons], len(routes)).astype(np.float64)
    return found


def link_loads(problem: MappingProblem, placement: Placement, routes: Routes, machine: Machine) -> FloatArray:
    """Packets per step over each link, float64 (width * height, n_links).

    Where packets carry their target (``destination``), each travels alone: a link of a tree counts once for every core behind it.
    """
    t = machine.topology
    rates = route_rates(problem, routes)
    if machine.routing == "destination":
        return _alone(
            routes.tree,
            routes.target_start,
            routes.targets,
            routes.tree_start,
            routes.hops,
            placement.chip,
            rates,
            t.width * t.height,
            t.n_links,
        )
    load = np.zeros(t.width * t.height * t.n_links)
    by_tree = np.bincount(routes.tree, rates, len(routes.tree_start) - 1)
    np.add.at(load, routes.hops[:, 0].astype(np.int64) * t.n_links + routes.hops[:, 1], np.repeat(by_tree, np.diff(routes.tree_start)))
    return load.reshape(-1, t.n_links)


@numba.njit(cache=True, nogil=True)
def _alone(
    tree: Int32Array,
    target_start: Int64Array,
    targets: Int32Array,
    tree_start: Int64Array,
    hops: Int32Array,
    part_chip: Int32Array,
    rates: FloatArray,
    n_chips: int,
    n_links: int,
) -> FloatArray:
    load = np.zeros((n_chips, n_links))
    entered = np.full(n_chips, -1, np.int64)  # the hop over which a chip is entered
    owner = np.full(n_chips, -1, np.int64)  # the route for which that holds
    for r in range(len(tree)):
        for h in range(tree_start[tree[r]], tree_start[tree[r] + 1]):
            entered[hops[h, 2]], owner[hops[h, 2]] = h, r
        for e in range(target_start[r], target_start[r + 1]):
            chip = part_chip[targets[e]]
            while owner[chip] == r:
                h = entered[chip]
                load[hops[h, 0], hops[h, 1]] += rates[r]
                chip = hops[h, 0]
    return load


def measure_traffic(
    problem: MappingProblem, placement: Placement, routes: Routes, tables: RoutingTables, machine: Machine
) -> dict[str, object]:
    """Return JSON-ready numbers, per step of the network's rates (``problem.rate``; one spike a neuron and step where they are unknown).

    ``rates_known``; ``packets_per_step``: sent by neurons that have targets (``destination``: one to each target core);
    ``hops_per_step``: packets x links; ``link_load``: ``max``, ``mean``, ``deciles`` (0 %, 10 %, ... 100 %) and ``histogram`` over all live
    links; ``busiest_link``: where the most is; ``table_fill``: the same for entries of the chips that have any, and ``limit`` (machines
    with tables). A histogram has ``upto``: 0 and ten equal steps to the largest, and ``count``: how many lie above the step before.
    """
    t = machine.topology
    load = link_loads(problem, placement, routes, machine)
    live = t.neighbours >= 0
    on_links = load[live]
    rates = route_rates(problem, routes)
    alone = machine.routing == "destination"
    packets = float((rates * np.diff(routes.target_start)).sum() if alone else rates.sum())
    found: dict[str, object] = {
        "rates_known": problem.rate is not None,
        "packets_per_step": packets,
        "hops_per_step": float(load.sum()),
        "link_load": _spread(on_links),
    }
    if on_links.size and load.max() > 0:
        chip, link = divmod(int(np.argmax(load)), t.n_links)
        x, y = t.position(chip)
        found["busiest_link"] = f"chip ({x}, {y}) link {LINK_NAMES[t.kind][link]}"
    if machine.routing == "multicast_tcam":
        lengths = np.array([len(tables.tables[chip].key) for chip in sorted(tables.tables)], np.float64)
        found["table_fill"] = {**_spread(lengths), "limit": machine.value("router.usable_entries")}
    return found


def _spread(values: FloatArray) -> dict[str, object]:
    if not len(values):
        return {"max": 0.0, "mean": 0.0, "deciles": [0.0] * 11, "histogram": {"upto": [0.0], "count": [0]}}
    deciles = np.percentile(values, np.arange(0, 101, 10), method="inverted_cdf")
    most = float(values.max())
    upto = np.linspace(0.0, most, 11) if most > 0 else np.zeros(1)
    count = np.bincount(np.searchsorted(upto, values), minlength=len(upto))
    return {
        "max": most,
        "mean": float(values.mean()),
        "deciles": [float(v) for v in deciles],
        "histogram": {"upto": upto.tolist(), "count": count.tolist()},
    }
