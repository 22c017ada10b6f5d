"""Placement and routing of the planted instance: 256 tiles of a torus of 316 x 316 neurons, one a chip, on a 16 x 16 mesh. JSON on stdout.

    python benchmarks/mapping_place.py [--seeds 3]

100,000 neurons, Gaussian connections (sigma 8), labels of the tiles shuffled. ``links``: links that one packet takes for each remote core
that it reaches, over all packets; ``peak``: largest load of a link over the mean. The planted placement is routed in dimension order, as in
the figures that it is compared with, and with balanced trees.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from neurocompile.machine import Machine, Topology
from neurocompile.mapping.place import place
from neurocompile.mapping.problem import MappingProblem, Resource
from neurocompile.mapping.route import route
from neurocompile.mapping.traffic import link_loads
from neurocompile.mapping.types import Partition, Placement

SIDE, TILES, SIGMA, DEGREE = 316, 16, 8.0, 94


def spatial() -> MappingProblem:
    """The network."""
    rng, n = np.random.default_rng(1), SIDE * SIDE
    pre = np.repeat(np.arange(n), DEGREE)
    dx, dy = (np.rint(rng.normal(0, SIGMA, len(pre))).astype(np.int64) for _ in range(2))
    pairs = np.unique(pre * n + (pre // SIDE + dy) % SIDE * SIDE + (pre % SIDE + dx) % SIDE)
    pairs = pairs[pairs // n != pairs % n]
    return MappingProblem(
        n_neurons=n,
        population=np.zeros(n, np.int32),
        population_names=("p",),
        external=np.zeros(n, bool),
        indptr=np.searchsorted(pairs // n, np.arange(n + 1)).astype(np.int64),
        indices=(pairs % n).astype(np.int32),
        resources=(Resource(name="neurons", unit="neuron", limit=1e9, per_neuron=np.ones(n)),),
        core_width=np.ones(1, np.int32),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    problem, n = spatial(), TILES * TILES
    one = np.ones(n, np.int32)
    topology = Topology(
        kind="mesh", width=TILES, height=TILES, chips=np.arange(n, dtype=np.int32), n_cores=one.copy(), n_reserved=0 * one, io_chip=0
    )
    tables = Machine(
        name="mesh", family="mesh", title="", file="", topology=topology, routing="multicast_tcam", quantities=MappingProxyType({})
    )
    column = np.arange(SIDE) * TILES // SIDE
    tile = (column[:, None] * TILES + column).ravel()

    def measure(parts: Partition, placement: Placement, routing: str) -> dict[str, float]:
        routes = route(problem, parts, placement, replace(tables, routing=routing))
        load = link_loads(problem, placement, routes, tables)[topology.neighbours >= 0]
        own = sum(len(r.neurons) for r in routes if r.source_part in r.target_parts)
        pairs = int((np.diff(routes.neuron_start) * np.diff(routes.target_start)).sum()) - own
        return {"links": float(load.sum()) / pairs, "peak": float(load.max() / load.mean()), "routes": len(routes)}

    found: dict[str, Any] = {}
    for seed in range(1, args.seeds + 1):
        label = np.random.default_rng(seed).permutation(n)
        parts = Partition(part=label[tile].astype(np.int32), n_parts=n, external=np.zeros(n, bool))
        if seed == 1:
            planted = Placement(chip=np.argsort(label).astype(np.int32), core=0 * one, width=one)
            found["planted, dimension order"] = measure(parts, planted, "destination")
            found["planted, balanced trees"] = measure(parts, planted, "multicast_tcam")
            place(problem, parts, tables, seed=0)  # loads the compiled loops
        begin = time.process_time()
        placement = place(problem, parts, tables, seed=seed)
        seconds = time.process_time() - begin
        found[f"shuffled, seed {seed}"] = {**measure(parts, placement, "multicast_tcam"), "cpu_s": seconds}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
