"""Our mapping and PACMAN's of the same networks on the same virtual machines (the same monitor cores reserved): JSON on stdout.

    python benchmarks/mapping_pacman.py [--network digits|spatial|microcircuit] [--machine spin5|spin5x18] [--neurons-per-core 16]
                                        [--effort fast|normal|high] [--routes auto|exact|core]

Both get the compiled network with the same neurons a core. PACMAN runs inside sPyNNaker's virtual mode; its stages are timed where they are
called. ``hops``: packets x links when every neuron with targets spikes once, followed through each side's tables before minimisation.
Deliveries are (neuron, core that its packets reach) pairs; strays those without a target there. Entries are counted before
minimisation, and after minimising as far as possible: PACMAN's pair compressor on its tables, ours on ours. Our seconds hold partitioning,
placing, routing, tables and their verification, with the processes that libraries start (the compiled loops are loaded before), PACMAN's
its stages without compression.
PACMAN gives no tables in which default routes are left out before compression; what its entries would lose by that is counted by our
minimiser on PACMAN's tables (``entries_by_our_minimiser``).
"""

from __future__ import annotations

import argparse
import json
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mapping_networks import CELL, describe_microcircuit

from neurocompile.build_folder import assemble, write_build
from neurocompile.ir.read import read_network
from neurocompile.ir.realise import realise_all
from neurocompile.mapping import EFFORTS, MODES, MapOptions, map_network
from neurocompile.mapping.problem import MappingProblem
from neurocompile.mapping.tables import minimise, minimise_ordered
from neurocompile.mapping.tables.build import unminimised
from neurocompile.mapping.traffic import link_loads
from neurocompile.mapping.usage import deliveries
from neurocompile.pipeline import Compiled, CompileOptions, compile_network

ROOT = Path(__file__).resolve().parents[1]


def describe(name: str, folder: Path) -> Path:
    """Write the description of a network and return its path."""
    if name == "digits":
        return ROOT / "examples" / "digits.yaml"
    path = folder / f"{name}.yaml"
    if name == "spatial":
        side, degree, sigma = 64, 40, 4.0
        rng = np.random.default_rng(1)
        pre = np.repeat(np.arange(side * side), degree)
        dx, dy = np.rint(rng.normal(0, sigma, (2, len(pre)))).astype(np.int64)
        post = (pre // side + dy) % side * side + (pre % side + dx) % side
        pair = np.unique(pre * side * side + post)
        shuffled = rng.permutation(side * side)  # no order to profit from
        ends = shuffled[pair // side**2], shuffled[pair % side**2]
        np.savez(folder / "edges.npz", pre=ends[0], post=ends[1], weight=np.full(len(pair), 0.01))
        cell = CELL % side**2
        text = f"name: spatial\ndt: 1 ms\nseed: 1\npopulations:\n  grid: {cell}\n"
        text += "projections:\n  - {pre: grid, post: grid, connect: {file: edges.npz}, delay: 1 ms}\n"
    else:
        text = describe_microcircuit()
    path.write_text(text, "utf-8")
    return path


def cpu_seconds() -> float:
    """Processor time of this process and of the processes that it has started."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def compiled_network(net: Path, machine: str, program: Path, per_core: int) -> Compiled:
    """Compile with little effort (which also loads the compiled loops) and write the program."""
    options = CompileOptions(
        target="spinnaker", machine=machine, allow_approximation=True, overrides={"core.neurons": float(per_core)}, effort="fast"
    )
    compiled = compile_network(read_network(net), options)
    write_build(assemble(compiled, options, {}), program)
    return compiled


def ours(compiled: Compiled, effort: str, routes: str) -> dict[str, Any]:
    """Measure our mapping."""
    problem, made = compiled.problem, compiled.machine
    assert problem is not None
    assert made is not None
    options = MapOptions(effort=effort, routes=routes)
    if effort != "fast":
        map_network(_small(problem), made, options)  # loads the loops that a higher effort needs
    wall, cpu = time.perf_counter(), cpu_seconds()
    found = map_network(problem, made, options)
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    load = link_loads(problem, found.placement, found.routes, made)
    entries = unminimised(problem.n_neurons, found.partition, found.placement, found.routes, made)
    lengths = [
        len(minimise(entries.key[rows], entries.mask[rows], entries.route[rows], entries.default[rows])[0]) for _, rows in entries.by_chip()
    ]
    live = load[made.topology.neighbours >= 0]
    return {
        "n_neurons": problem.n_neurons,
        "n_edges": len(problem.indices),
        "effort": effort,
        "routes": routes,
        "cores": int(found.placement.width.sum()),
        "exact_routes": found.routes.exact,
        **deliveries(problem, found.partition, found.routes),
        "hops": float(load.sum()),
        "largest_link": float(live.max()),
        "mean_link": float(live.mean()),
        "entries": len(entries.chip),
        "entries_minimised": sum(lengths),
        "largest_table": max(lengths, default=0),
        "seconds": {"wall": wall, "cpu": cpu},
    }


def _small(problem: MappingProblem) -> MappingProblem:
    """The same problem without most of its synapses."""
    some = np.diff(problem.indptr) * (np.arange(problem.n_neurons) % 50 == 0)
    keep = np.repeat(some > 0, np.diff(problem.indptr))
    return replace(problem, indptr=np.concatenate([[0], np.cumsum(some)]).astype(np.int64), indices=problem.indices[keep])


TIMED = (
    "splitter_partitioner",
    "place_application_graph",
    "route_application_graph",
    "global_allocate",
    "flexible_allocate",
    "basic_routing_table_generator",
    "merged_routing_table_generator",
)


def run_timed(arguments: list[str]) -> None:
    """In a process of its own: run the emitted program with PACMAN's stages timed; the times go to the file named first."""
    from spinn_front_end_common.interface import abstract_spinnaker_base as base

    spent: dict[str, float] = defaultdict(float)

    def timed(name: str) -> None:
        stage = getattr(base, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            begin = time.process_time()
            try:
                return stage(*args, **kwargs)
            finally:
                spent[name] += time.process_time() - begin

        setattr(base, name, wrapped)

    for name in TIMED:
        timed(name)
    times, program, *rest = arguments
    sys.argv = [program, *rest]
    try:
        runpy.run_path(program, run_name="__main__")
    finally:
        Path(times).write_text(json.dumps(spent), "utf-8")


def pacmans(program: Path, folder: Path, sending: dict[tuple[int, int], int]) -> dict[str, Any]:
    """Map the emitted program in sPyNNaker's virtual mode and measure PACMAN's mapping.

    ``sending``: (population, neuron) -> 1 where the neuron has targets.
    """
    times, mapping = folder / "times.json", folder / "pacman.npz"
    command = [sys.executable, __file__, "--run-timed", str(times), str(program / "program" / "run.py"), "--virtual", "--steps", "1"]
    begin = time.perf_counter()
    done = subprocess.run([*command, "--mapping", str(mapping)], cwd=folder, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - begin
    if done.returncode != 0:
        raise SystemExit(f"sPyNNaker failed: {done.stderr[-2000:]}")
    with np.load(mapping) as loaded:
        placements, keys, entries, links = (np.asarray(loaded[n], np.int64) for n in ("placements", "keys", "entries", "links"))
    tables: dict[tuple[int, int], list[tuple[int, int, int, int]]] = defaultdict(list)
    for x, y, key, mask, out, cores in entries.tolist():
        tables[x, y].append((key, mask, out, cores))
    neighbour = {(x, y, link): (nx, ny) for x, y, link, nx, ny in links.tolist()}
    load: dict[tuple[int, int, int], int] = dict.fromkeys(neighbour, 0)
    delivered = 0
    for row, key, _mask in keys.tolist():
        population, _, low, high, x, y, *_ = placements[row].tolist()
        packets = sum(sending.get((population, n), 0) for n in range(low, high + 1))
        todo = [(x, y, -1)]
        while todo:
            x, y, came = todo.pop()
            found = next((e for e in tables[x, y] if key & e[1] == e[0]), None)
            if found is None and came < 0:
                continue
            out = found[2] if found is not None else 1 << (came + 3) % 6
            delivered += packets * (found[3].bit_count() if found is not None else 0)
            for link in range(6):
                if out >> link & 1:
                    load[x, y, link] += packets
                    todo.append((*neighbour[x, y, link], (link + 3) % 6))
    loads = np.array(list(load.values()))
    compressed, by_ours = compress(tables)
    return {
        "cores": int((placements[:, 0] >= 0).sum()),
        "deliveries_with_strays": delivered,
        "hops": int(loads.sum()),
        "largest_link": int(loads.max()),
        "mean_link": float(loads.mean()),
        "entries": len(entries),
        "entries_minimised": sum(compressed),
        "largest_table": max(compressed, default=0),
        "entries_by_our_minimiser": sum(by_ours),
        "seconds": {"cpu": sum(json.loads(times.read_text("utf-8")).values()), "whole_run_wall": wall},
        "stages": json.loads(times.read_text("utf-8")),
    }


def compress(tables: dict[tuple[int, int], list[tuple[int, int, int, int]]]) -> tuple[list[int], list[int]]:
    """Lengths of the tables by PACMAN's pair compressor, and by our minimiser."""
    from pacman.config_setup import unittest_setup
    from pacman.model.routing_tables import CompressedMulticastRoutingTable
    from pacman.operations.router_compressors.pair_compressor import _PairCompressor
    from spinn_machine import MulticastRoutingEntry, RoutingEntry
    from spinn_utilities.config_holder import set_config

    unittest_setup()
    set_config("Machine", "version", "5")

    def bits(word: int) -> list[int]:
        return [i for i in range(word.bit_length()) if word >> i & 1]

    theirs, by_ours = [], []
    for rows in tables.values():
        entries = [MulticastRoutingEntry(k, m, RoutingEntry(processor_ids=bits(c), link_ids=bits(out))) for k, m, out, c in rows]
        theirs.append(len(_PairCompressor().compress_table(CompressedMulticastRoutingTable(0, 0, entries))))
        key, mask = (np.array([r[i] for r in rows], np.uint32) for i in (0, 1))
        route = np.array([r[2] | r[3] << 6 for r in rows], np.int64)
        by_ours.append(len(minimise_ordered(key, mask, route, np.zeros(len(rows), bool))[0]))
    return theirs, by_ours


def compare(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Both mappings of one network."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        net = describe(name, folder)
        compiled = compiled_network(net, args.machine, folder / "build", args.neurons_per_core)
        mine = [ours(compiled, effort, routes) for effort in args.effort or EFFORTS[:2] for routes in args.routes or ("auto",)]
        network = read_network(net)
        index = {p.name: i for i, p in enumerate(network.populations)}
        connections = realise_all(network)
        sending = {(index[p.pre], int(n)): 1 for p in network.synaptic_projections for n in np.unique(connections[p.name].pre)}
        theirs = pacmans(folder / "build", folder, sending)
    return {"network": name, "machine": args.machine, "neurons_per_core": args.neurons_per_core, "neurocompile": mine, "pacman": theirs}


def main() -> None:
    if sys.argv[1:2] == ["--run-timed"]:
        run_timed(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("digits", "spatial", "microcircuit")
    parser.add_argument("--network", choices=names, action="append", help="default: all")
    parser.add_argument("--machine", choices=("spin5", "spin5x18"), default="spin5")
    parser.add_argument("--neurons-per-core", type=int, default=16, help="small, so that a few thousand neurons fill many chips")
    parser.add_argument("--effort", choices=EFFORTS, action="append", help="default: fast and normal")
    parser.add_argument("--routes", choices=MODES, action="append", help="default: auto")
    args = parser.parse_args()
    print(json.dumps([compare(name, args) for name in args.network or names], indent=2))


if __name__ == "__main__":
    main()
