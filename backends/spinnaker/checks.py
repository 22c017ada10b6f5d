"""Comparisons of what sPyNNaker made of a program with the build: synapses, cells, cores, places, keys, memory, routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.backends.base import Check
from neurocompile.backends.spinnaker.comparison import places
from neurocompile.backends.spinnaker.eprop.formats import lower_neurons
from neurocompile.backends.spinnaker.eprop.image import CELL
from neurocompile.backends.spinnaker.eprop.late import Copies, groups
from neurocompile.backends.spinnaker.neurons import Findings, lower_population
from neurocompile.backends.spinnaker.walk import walk_keys
from neurocompile.ir import LIF, LeakyReadout, Network, Population
from neurocompile.ir.npz import AnyArray
from neurocompile.ir.realise import Connections

STATE = frozenset({"v_init", "isyn_exc", "isyn_inh"})
"""Entries of a cell's ``params`` that are initial values; sPyNNaker does not give them back as parameters."""
Slots = Mapping[str, npt.NDArray[np.int64]]


def numbering(document: Mapping[str, Any], arrays: Mapping[str, AnyArray]) -> dict[str, npt.NDArray[np.int64]]:
    """Return the place of each neuron in PyNN's population, population by population."""
    return {
        p["name"]: np.arange(p["size"]) if p["slot"] is None else np.asarray(arrays[p["slot"]["array"]], np.int64)
        for p in document["populations"]
    }


def check_synapses(
    name: str, expected: Connections, results: Mapping[str, AnyArray], document: Mapping[str, Any], arrays: Mapping[str, AnyArray]
) -> Check:
    """Compare pre, post, delay exactly and weights to one unit of the 16-bit format."""
    weight = np.asarray(results[f"weight:{name}"], np.float64)
    delay = np.asarray(results[f"delay:{name}"], np.int64)
    ends = np.array_equal(results[f"pre:{name}"], expected.pre) and np.array_equal(results[f"post:{name}"], expected.post)
    row = next(p for p in document["projections"] if p["name"] == name)
    post = next(p for p in document["populations"] if p["name"] == row["post"])
    # weight_scale is an array where neurons differ in tau_syn
    scale = arrays[post["weight_scale"]["array"]][expected.post] if isinstance(post["weight_scale"], dict) else post["weight_scale"]
    allowed = max(post["weight_resolution"]) / np.broadcast_to(np.asarray(scale, np.float64), expected.weight.shape)
    missing = int(np.count_nonzero(np.isnan(weight)))
    differs = np.abs(weight - expected.weight) if len(weight) == len(expected.weight) else np.full(len(expected.weight), np.inf)
    difference = float(np.nanmax(differs, initial=0.0))
    late = int(np.count_nonzero(delay != expected.delay)) if len(delay) == len(expected.delay) else len(expected.delay)
    # Half a unit from rounding, one more because float32 weights are scaled before they are rounded.
    ok = ends and missing == 0 and late == 0 and not np.any(differs > allowed)
    return Check(
        name=f"synapses of {name}",
        ok=bool(ok),
        detail=f"{len(expected.pre)} expected, {missing} missing, {late} with another delay, weights differ by at most {difference:.3g} "
        f"(16-bit resolution {float(np.max(allowed, initial=0.0)):.3g})",
    )


def check_cells(
    network: Network,
    connections: Mapping[str, Connections],
    document: Mapping[str, Any],
    arrays: Mapping[str, AnyArray],
    mapping: Mapping[str, AnyArray],
    summary: Mapping[str, Any],
) -> list[Check]:
    """Compare the neuron parameters that sPyNNaker holds with the description lowered again, and its weight format with the planned one."""
    checks = []
    for index, population in enumerate(network.populations):
        inputs = [connections[p.name].weight for p in network.synaptic_projections if p.post == population.name]
        largest = max((float(np.abs(w).max(initial=0.0)) for w in inputs), default=0.0)
        entry = document["populations"][index]
        if entry["cell"] == "eprop":
            checks.append(_check_eprop_cells(population, network.dt, entry, arrays, summary))
            continue
        cell = lower_population(population, network.dt, largest, Findings())
        if cell.cell == "source":
            continue
        wrong = []
        for name in sorted(set(cell.params) - STATE):
            got = mapping.get(f"param:{index}:{name}")
            # The same numbers went through JSON or npz and sPyNNaker's own storage, in double precision.
            if got is None or not np.allclose(np.asarray(got, np.float64), cell.params[name], rtol=1e-12, atol=0.0):
                wrong.append(name)
        planned, got_units = entry.get("weight_resolution"), summary["populations"][population.name].get("weight_resolution")
        ok = not wrong and planned == got_units and entry["cell"] == cell.cell
        checks.append(
            Check(
                name=f"cells of {population.name}",
                ok=ok,
                detail=f"{cell.cell}, {len(cell.params) - len(STATE & set(cell.params))} parameters, "
                + (f"other than the description's: {', '.join(wrong)}" if wrong else "as described")
                + f"; weight resolution planned {planned}, sPyNNaker {got_units}",
            )
        )
    return checks


def _check_eprop_cells(
    population: Population, dt: float, entry: Mapping[str, Any], arrays: Mapping[str, AnyArray], summary: Mapping[str, Any]
) -> Check:
    """Compare the integers of neurons on e-prop cores with the description lowered again; what sPyNNaker makes of them: numbers of P."""
    assert isinstance(population.model, LIF | LeakyReadout)
    again = lower_neurons(population.model, population.size, dt, entry["voltage_scale"], None)
    held = arrays[entry["eprop"]["cell"]["array"]]
    wrong = [name for row, name in zip(held, CELL, strict=True) if not np.array_equal(row, getattr(again, name))]
    planned, got = entry["weight_resolution"], summary["populations"][population.name].get("weight_resolution")
    return Check(
        name=f"cells of {population.name}",
        ok=not wrong and planned == got,
        detail=f"e-prop core, {len(CELL)} integers a neuron, "
        + (f"other than the description's: {', '.join(wrong)}" if wrong else "as described")
        + f"; weight resolution planned {planned}, sPyNNaker {got}",
    )


def check_cores(document: Mapping[str, Any], summary: Mapping[str, Any]) -> list[Check]:
    """Compare sPyNNaker's cores of each population with those the build planned."""
    checks = []
    for entry in document["populations"]:
        got = summary["populations"][entry["name"]]
        slices = -(-entry["n_slots"] // entry["neurons_per_core"])
        planned = slices * (1 + entry.get("n_synapse_cores", 0))
        delays = slices * int(entry["delay_cores"])
        filling = entry["n_slots"] - entry["size"]
        checks.append(
            Check(
                name=f"cores of {entry['name']}",
                ok=got["cores"] == planned and got["neuron_cores"] == slices and got["delay_cores"] == delays,
                detail=f"planned {planned} ({slices} with {entry['neurons_per_core']} neurons each, {filling} to fill up) and {delays} "
                f"for delays, sPyNNaker {got['cores']} ({got['neuron_cores']} with neurons) and {got['delay_cores']}",
            )
        )
    return checks


def check_places(document: Mapping[str, Any], summary: Mapping[str, Any], mapping: Mapping[str, AnyArray]) -> list[Check]:
    """Compare chip and core of every slice with the build's, the neurons on it, and that nothing else lies on a planned core."""
    placements = np.asarray(mapping["placements"], np.int64)
    checks = []
    for index, entry in enumerate(document["populations"]):
        if entry["cores"] is None:
            continue
        per_core, synapses = entry["neurons_per_core"], entry.get("n_synapse_cores", 0)
        wanted = set()
        for row, (x, y, cores) in enumerate(entry["cores"]):
            low, high = row * per_core, min((row + 1) * per_core, entry["n_slots"]) - 1
            for number, core in enumerate(cores[: synapses + 1 + int(entry["delay_cores"])]):
                takes = int(number < synapses or (synapses == 0 and number == 0 and entry["cell"] != "source"))
                wanted.add((low, high, x, y, core, takes, number > synapses))
        mine = placements[(placements[:, 0] == index) | (placements[:, 1] == index)]
        got = {(*row[2:8], row[1] == index) for row in mine.tolist()}
        other = len(wanted ^ got)
        checks.append(
            Check(
                name=f"places of {entry['name']}",
                ok=summary["placement"] == "build" and other == 0,
                detail=f"{len(wanted & got)} of {len(places(entry))} planned cores hold the planned neurons"
                + ("" if summary["placement"] == "build" else "; sPyNNaker chose its own"),
            )
        )
    return checks


def check_keys(document: Mapping[str, Any], mapping: Mapping[str, AnyArray]) -> Check:
    """Keys of sending cores: none shared, room for every neuron of the slice."""
    placements, keys = np.asarray(mapping["placements"], np.int64), np.asarray(mapping["keys"], np.int64)
    low, size = keys[:, 1], (~keys[:, 2] & 0xFFFFFFFF) + 1
    order = np.argsort(low)
    shared = int(np.count_nonzero(low[order][1:] < (low + size)[order][:-1]))
    neurons = placements[keys[:, 0], 3] - placements[keys[:, 0], 2] + 1
    short = int(np.count_nonzero(size < neurons))
    senders = {by for p in document["projections"] for by in ([s["by"] for s in p["sent"]] if "sent" in p else [p["pre"]])}
    senders |= {m["pre"] for m in document["modulations"]}
    silent = [p["name"] for i, p in enumerate(document["populations"]) if p["name"] in senders and i not in placements[keys[:, 0], 0]]
    return Check(
        name="keys",
        ok=shared == 0 and short == 0 and not silent,
        detail=f"{len(keys)} ranges, {shared} overlap, {short} too short for their neurons, {len(silent)} sending populations without",
    )


def check_memory(mapping: Mapping[str, AnyArray]) -> Check:
    """SDRAM that sPyNNaker asks for on each chip: its placer does not look at it where cores are fixed."""
    chips = np.asarray(mapping["chips"], np.int64)
    over = int(np.count_nonzero(chips[:, 4] > chips[:, 3]))
    worst = int(np.argmax(chips[:, 4] / chips[:, 3]))
    return Check(
        name="memory of chips",
        ok=over == 0,
        detail=f"{over} chips over; most on ({chips[worst, 0]}, {chips[worst, 1]}): {chips[worst, 4]:,} of {chips[worst, 3]:,} byte, "
        "without recordings",
    )


def check_tables(summary: Mapping[str, Any]) -> Check:
    """Routing tables must not be empty where anything is connected."""
    return Check(
        name="routing tables",
        ok=summary["routing_entries"] > 0 or summary["n_synapses"] == 0,
        detail=f"{summary['routing_entries']} entries on {summary['routing_tables']} chips, "
        f"at most {summary['max_routing_entries']} a chip",
    )


def check_routes(
    document: Mapping[str, Any],
    connections: Mapping[str, Connections],
    mapping: Mapping[str, AnyArray],
    slots: Slots,
    copies: Sequence[Copies] = (),
) -> list[Check]:
    """Walk the packets of every source core through sPyNNaker's tables to the cores that hold its targets; of plastic e-prop synapses those
    of each delay, under the keys of that delay. ``copies``: of the program."""
    reach = walk_keys(mapping)
    placements = np.asarray(mapping["placements"], np.int64)
    index = {p["name"]: i for i, p in enumerate(document["populations"])}
    delay_cores, sending = set(np.flatnonzero(placements[:, 1] >= 0).tolist()), {row for row, _ in reach}
    checks = []
    for projection in document["projections"]:
        synapses = connections[projection["name"]]
        post = index[projection["post"]]
        targets = np.flatnonzero((placements[:, 0] == post) & (placements[:, 7] == 1)).tolist()
        holders: dict[tuple[int, int], list[int]] = {}
        for t in targets:
            holders.setdefault((int(placements[t, 2]), int(placements[t, 3])), []).append(t)
        wanted = lost = 0
        for group in groups(projection["pre"], synapses, copies, learns="sent" in projection):
            held = group.delay - 1 if group.by == projection["pre"] else 0
            from_place = slots[group.by][group.pre]
            to_place = slots[projection["post"]][synapses.post[group.synapses]]
            sources = [r for r in np.flatnonzero(placements[:, 0] == index[group.by]).tolist() if r in sending]
            lost += not sources
            for source in sources:
                sent_to = np.unique(to_place[(from_place >= placements[source, 2]) & (from_place <= placements[source, 3])])
                reached = set(reach.get((source, held), ()))
                for extension in reached & delay_cores:  # a delay extension sends on under its own key
                    reached |= set(reach.get((extension, 0), ()))
                for low, high in sorted(holders):
                    if np.searchsorted(sent_to, high, side="right") > np.searchsorted(sent_to, low):
                        wanted += 1
                        lost += not any(t in reached for t in holders[low, high])
        ok = lost == 0 and (wanted > 0 or len(synapses.pre) == 0)
        checks.append(
            Check(
                name=f"routes of {projection['name']}",
                ok=ok,
                detail=f"{wanted} pairs of source and target core with synapses, {lost} not reached by the source's key",
            )
        )
    return checks
