"""Our mapping beside sPyNNaker's: our routing tables before PACMAN's checkers and our tracer, and the same counts of both."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping as MappingABC
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.backends.base import Check
from neurocompile.backends.spinnaker.eprop.late import Copies, groups, late_senders
from neurocompile.backends.spinnaker.walk import Trace, Tracer
from neurocompile.ir.errors import MismatchError
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import Connections
from neurocompile.mapping.types import Mapping, Route

IntArray = npt.NDArray[np.int64]
Document = MappingABC[str, Any]
PACMAN_TIMEOUT_S = 1800
MOST_PAIRS = 1_000_000
"""Pairs of source and core that PACMAN is given: its checkers are Python loops, 25 s for 600,000."""
ROUTERS = {"pacman": "PACMAN", "program": "the program, where PACMAN's router fails"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OurTables:
    """Our routing tables and who uses them, as plain arrays (int64).

    entries : (x, y, key, mask, links, cores) rows in order of match; planned : the same of the planned routes, one for each group and chip,
    then the link by which the packets come in (-1 where they begin), and the group; groups : (x, y, key, neurons, route) rows, neurons that
    no table tells apart; wanted : bool (n_groups, n_parts), parts that hold a target of any of its neurons; reached : the same, where the
    planned route leads; cores : of each part, (x, y, core) each: our tables address all cores of a part;
    keyless : synapses whose source has no key.
    """

    entries: IntArray
    planned: IntArray
    groups: IntArray
    wanted: npt.NDArray[np.bool_]
    reached: npt.NDArray[np.bool_]
    cores: tuple[tuple[tuple[int, int, int], ...], ...]
    keyless: int


def our_tables(mapping: Mapping, document: Document, connections: MappingABC[str, Connections], copies: Sequence[Copies] = ()) -> OurTables:
    """Return our tables and the groups of neurons that travel alike."""
    width = int(document["grid"][0])
    tables, routes, part = mapping.tables, mapping.routes, mapping.partition.part
    entries = [
        (chip % width, chip // width, int(k), int(m), int(links), sum(int(w) << 64 * i for i, w in enumerate(words)))
        for chip, table in sorted(tables.tables.items())
        for k, m, links, words in zip(table.key, table.mask, table.links, table.cores.reshape(len(table.key), -1), strict=True)
    ]
    taken = {(x, y, of[0]): tuple((x, y, core) for core in of) for p in document["populations"] for x, y, of in p["cores"]}
    place = np.column_stack([mapping.placement.chip % width, mapping.placement.chip // width, mapping.placement.core]).astype(np.int64)
    cores = tuple(taken[tuple(where)] for where in place.tolist())
    looked_at = int(np.bitwise_or.reduce([np.uint32(e[3]) for e in entries])) if entries else 0
    route_of = np.full(len(part), -1, np.int64)
    route_of[routes.neurons] = np.repeat(np.arange(len(routes)), np.diff(routes.neuron_start))
    sends = np.flatnonzero(tables.has_key & (route_of >= 0))
    key = tables.neuron_key[sends].astype(np.int64) & looked_at
    kinds, first, group = np.unique(np.column_stack([route_of[sends], key]), axis=0, return_index=True, return_inverse=True)
    neurons = np.bincount(group.ravel(), minlength=len(kinds))
    chip = place[part[sends[first]]]
    groups = np.column_stack([chip[:, 0], chip[:, 1], tables.neuron_key[sends[first]].astype(np.int64), neurons, kinds[:, 0]])
    reached = np.zeros((len(kinds), mapping.partition.n_parts), np.bool_)
    planned = []
    for row, (route, code) in enumerate(kinds.tolist()):
        tree = routes[route]
        reached[row, tree.target_parts] = True
        for (x, y), (links, taken_here, came) in _chips_of_tree(tree, cores, width).items():
            planned.append((x, y, code, looked_at, links, taken_here, came, row))
    group_of = np.full(len(part), -1, np.int64)
    group_of[sends] = group.ravel()
    wanted, keyless = np.zeros_like(reached), 0
    for pre, post in _pairs(document, connections, copies):
        has = group_of[pre] >= 0
        keyless += int(np.count_nonzero(~has))
        wanted[group_of[pre[has]], part[post[has]]] = True
    return OurTables(
        entries=np.asarray(entries, np.int64).reshape(-1, 6),
        planned=np.asarray(planned, np.int64).reshape(-1, 8),
        groups=groups.reshape(-1, 5),
        wanted=wanted,
        reached=reached,
        cores=cores,
        keyless=keyless,
    )


def _chips_of_tree(
    tree: Route, cores: tuple[tuple[tuple[int, int, int], ...], ...], width: int
) -> dict[tuple[int, int], tuple[int, int, int]]:
    """Chip -> (links, cores, link by which packets come in) of a route."""
    x, y, _ = cores[tree.source_part][0]
    found = {(x, y): [0, 0, -1]}
    for chip, link, beside in tree.hops.tolist():
        found.setdefault((chip % width, chip // width), [0, 0, -1])[0] |= 1 << link
        found.setdefault((beside % width, beside // width), [0, 0, -1])[2] = (link + 3) % 6
    for part in tree.target_parts.tolist():
        for x, y, core in cores[part]:
            found.setdefault((x, y), [0, 0, -1])[1] |= 1 << core
    return {chip: (links, here, came) for chip, (links, here, came) in found.items() if links or here}


def _pairs(document: Document, connections: MappingABC[str, Connections], copies: Sequence[Copies]) -> list[tuple[IntArray, IntArray]]:
    """(source, target) neurons of all projections and rewards, numbered through all populations of the program and, behind them, the
    senders that stand for the keys of plastic delays (eprop/late.py)."""
    names = [p["name"] for p in document["populations"]]
    own = [p["name"] for p in document["populations"] if p["cell"] == "eprop"]
    senders = late_senders(own, [(p["pre"], connections[p["name"]]) for p in document["projections"] if "sent" in p], names)
    sizes = {p["name"]: int(p["size"]) for p in document["populations"]} | {c.name: len(c.neuron) for c in senders}
    offset = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    found = []
    for p in document["projections"]:
        synapses = connections[p["name"]]
        for group in groups(p["pre"], synapses, (*copies, *senders), learns="sent" in p):
            found.append((group.pre + np.int64(offset[group.by]), synapses.post[group.synapses] + np.int64(offset[p["post"]])))
    for m in document["modulations"]:
        pre, post = np.divmod(np.arange(sizes[m["pre"]] * sizes[m["post"]], dtype=np.int64), sizes[m["post"]])
        found.append((pre + offset[m["pre"]], post + offset[m["post"]]))
    return found


def trace_ours(ours: OurTables, links: AnyArray) -> list[Trace]:
    """Follow the packets of every group through our tables over sPyNNaker's machine."""
    tracer = Tracer(ours.entries.tolist(), np.asarray(links, np.int64).tolist())
    return [tracer.trace(x, y, key) for x, y, key, _, _ in ours.groups.tolist()]


def check_ours(ours: OurTables, traces: list[Trace]) -> Check:
    """Every packet reaches all parts that hold a target, and only the parts of its planned route."""
    missed = strayed = 0
    for row, trace in enumerate(traces):
        wanted, planned = ({core for part in np.flatnonzero(of[row]) for core in ours.cores[part]} for of in (ours.wanted, ours.reached))
        missed += len(wanted - trace.cores)
        strayed += len(trace.cores - planned)
    n_wanted = int(ours.wanted.sum())
    return Check(
        name="our tables, our tracer",
        ok=missed == 0 and strayed == 0 and ours.keyless == 0,
        detail=f"{len(traces)} groups of neurons that travel alike, {n_wanted} parts with targets of them: {missed} cores missed, "
        f"{strayed} cores reached that no route leads to; {ours.keyless} synapses without a key",
    )


def check_pacman(ours: OurTables, traces: list[Trace], document: Document, folder: Path, most_pairs: int = MOST_PAIRS) -> list[Check]:
    """Give our tables to PACMAN's own checkers (``pacman_check``): all groups, or evenly chosen ones where there are more pairs.

    Raises
    ------
    MismatchError
        NC620: PACMAN did not run to its end.
    """
    straight = {
        (x, y, key, 0xFFFFFFFF, 1 << link, 0)
        for (_, _, key, _, _), trace in zip(ours.groups.tolist(), traces, strict=True)
        for x, y, link in trace.straight
    }
    targets = [core for part in ours.cores for core in part]
    number = {core: i for i, core in enumerate(targets)}
    width = np.asarray([len(of) for of in ours.cores], np.int64)
    every = max(1, -(-int((ours.reached @ width).sum()) // most_pairs))
    chosen = np.arange(0, len(ours.groups), every)
    pairs = [(int(g), number[core]) for g, part in zip(*np.nonzero(ours.reached[chosen]), strict=True) for core in ours.cores[part]]
    planned = ours.planned[np.isin(ours.planned[:, 7], chosen)]
    source, found = folder / "tables.npz", folder / "pacman.json"
    np.savez(
        source,
        entries=ours.entries,
        planned=planned,
        straight=np.asarray(sorted(straight), np.int64).reshape(-1, 6),
        sources=ours.groups[chosen, :3],
        targets=np.asarray(targets, np.int64).reshape(-1, 3),
        pairs=np.asarray(pairs, np.int64).reshape(-1, 2),
        version=np.asarray(document["machine_version"]),
        boards=np.asarray(document["n_boards"]),
    )
    command = [sys.executable, "-m", "neurocompile.backends.spinnaker.pacman_check", str(source), str(found)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PACMAN_TIMEOUT_S, check=False)
        reason = "" if done.returncode == 0 else " | ".join(done.stderr.strip().splitlines()[-2:])
    except subprocess.TimeoutExpired:
        reason = f"did not end within {PACMAN_TIMEOUT_S} s"
    if reason:
        raise MismatchError.of("NC620", f"PACMAN's check of our tables failed: {reason}", help="report it with the build")
    share = "" if every == 1 else f" (one of {every} of the {len(ours.groups)} groups of neurons)"
    said = json.loads(found.read_text(encoding="utf-8"))
    return [
        Check(
            name="our tables, PACMAN compare_tables",
            ok=not said["tables"],
            detail=said["tables"]
            or f"{len(planned)} entries of planned routes go the same way in {len(ours.entries)} minimised ones{share}",
        ),
        Check(
            name="our tables, PACMAN validate_routes",
            ok=not said["routes"],
            detail=said["routes"] or f"{len(chosen)} sources reach {len(pairs)} cores and no other{share}",
        ),
    ]


def side_by_side(
    ours: OurTables,
    traces: list[Trace],
    tree_links: int,
    document: Document,
    slots: MappingABC[str, IntArray],
    summary: MappingABC[str, Any],
    mapping: MappingABC[str, AnyArray],
) -> list[Check]:
    """Return the same counts of our mapping and of sPyNNaker's.

    Parameters
    ----------
    tree_links
        Links that packets cross by our planned routes when every neuron spikes once.
    slots
        Place of each neuron in PyNN's populations.
    """
    planned = [core for entry in document["populations"] for core in places(entry)]
    used = [tuple(row[4:7]) for row in np.asarray(mapping["placements"], np.int64).tolist() if row[0] >= 0 or row[1] >= 0]
    chips = len({core[:2] for core in planned}), len({core[:2] for core in used})
    follows = summary["placement"] == "build"
    found = [
        _pair("cores", not follows or len(planned) == len(used), len(planned), len(used), "with synapse and delay cores, without monitors"),
        _pair("chips", not follows or chips[0] == chips[1], *chips, "that hold any of them"),
    ]
    mine = np.unique(ours.entries[:, :2], axis=0, return_counts=True)[1]
    theirs = np.unique(np.asarray(mapping["compressed"], np.int64)[:, :2], axis=0, return_counts=True)[1]
    room = int(np.asarray(mapping["chips"], np.int64)[:, 5].min())
    by = f"routes by {ROUTERS[summary['routes']]}; {summary['routing_entries']} before its pair compressor"
    found.append(_pair("table entries", int(theirs.sum()) <= summary["routing_entries"], int(mine.sum()), int(theirs.sum()), by))
    fullest = int(mine.max(initial=0)), int(theirs.max(initial=0))
    by = f"{summary['max_routing_entries']} before its pair compressor; a router has room for {room}"
    found.append(_pair("entries of the fullest chip", max(fullest) <= room, *fullest, by))
    crossed = sum(len(trace.links) * n for (_, _, _, n, _), trace in zip(ours.groups.tolist(), traces, strict=True))
    by = f"when every neuron spikes once; delay cores send again; {tree_links} by our planned routes"
    found.append(_pair("packets x links", crossed == tree_links, crossed, _their_crossings(document, slots, mapping), by))
    return found


def _pair(what: str, ok: bool, ours: int, theirs: int, note: str) -> Check:
    return Check(
        name=f"side by side: {what}", ok=ok, detail=f"ours {ours:,}, sPyNNaker {theirs:,} ({note})", pair=(f"{ours:,}", f"{theirs:,}")
    )


def places(entry: Document) -> list[tuple[int, int, int]]:
    """Return the cores (x, y, core) that the build planned for a population and uses: a core kept for delays may not be needed."""
    needed = 1 + int(entry.get("n_synapse_cores", 0)) + int(entry["delay_cores"])
    return [(x, y, core) for x, y, cores in entry["cores"] or () for core in cores[:needed]]


def _their_crossings(document: Document, slots: MappingABC[str, IntArray], mapping: MappingABC[str, AnyArray]) -> int:
    tracer = Tracer(np.asarray(mapping["entries"], np.int64).tolist(), np.asarray(mapping["links"], np.int64).tolist())
    placements = np.asarray(mapping["placements"], np.int64).tolist()
    found = 0
    for row, key, _ in np.asarray(mapping["keys"], np.int64).tolist():
        population, delays_of, low, high, x, y, _, _ = placements[row]
        slot = slots[document["populations"][max(population, delays_of)]["name"]]
        found += len(tracer.trace(x, y, key).links) * int(np.count_nonzero((slot >= low) & (slot <= high)))
    return found


def tree_crossings(mapping: Mapping) -> int:
    """Return the links that packets cross by the planned routes when every neuron spikes once."""
    routes = mapping.routes
    return int((np.diff(routes.neuron_start) * np.diff(routes.tree_start)[routes.tree]).sum())
