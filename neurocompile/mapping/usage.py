"""What a mapping uses of each limit: JSON-ready rows for the report."""

from __future__ import annotations

import numpy as np

from neurocompile.machine import Machine
from neurocompile.mapping.partition._kernels import target_parts
from neurocompile.mapping.partition.bounds import lower_bounds
from neurocompile.mapping.problem import FloatArray, MappingProblem, Resource
from neurocompile.mapping.types import Partition, Placement, Routes, RoutingTables


def measure_usage(
    problem: MappingProblem, partition: Partition, placement: Placement, routes: Routes, tables: RoutingTables, machine: Machine
) -> tuple[dict[str, object], ...]:
    """Return one row for each resource.

    Keys: ``name``, ``scope`` (core | chip | machine), ``used`` (worst core or chip), ``available``, ``mean`` (over the cores that use any
    of it, or the chips in use), ``unit``, ``confidence`` of the limit, ``worst`` (where), ``lower_bound``: cores that the
    limit alone enforces (``bounds_of``). "cores of a chip" is about the chip that is fullest in relation to its own usable cores.
    """
    rows: list[dict[str, object]] = []
    bounds = partition.quality.bounds if partition.quality is not None else lower_bounds(problem).by_limit
    inside = np.flatnonzero(~partition.external)
    out_start, reached = target_parts(problem.indptr, problem.indices, partition.part, partition.n_parts)
    axons_in = np.bincount(reached, minlength=partition.n_parts).astype(np.float64)
    axons_out = np.bincount(partition.part, np.diff(out_start).astype(np.float64), partition.n_parts)

    def place_name(part: int) -> str:
        x, y = machine.topology.position(int(placement.chip[part]))
        return f"chip ({x}, {y}) core {int(placement.core[part])}"

    def used_of(resource: Resource) -> FloatArray:
        own = np.bincount(partition.part, resource.per_neuron, partition.n_parts)
        total: FloatArray = own + resource.per_axon_in * axons_in + resource.per_axon_out * axons_out
        return total

    for resource in problem.resources:
        used = used_of(resource)[inside]
        rows.append(
            _row(resource.name, "core", used, resource.limit, resource.unit, resource.confidence)
            | {
                "mean": float(used[used > 0].mean()) if (used > 0).any() else 0.0,
                "worst": place_name(int(inside[np.argmax(used)])) if len(used) else "",
                "lower_bound": bounds[resource.name] if resource.limit > 0 else None,
            }
        )
    for labels in problem.set_resources:
        some = labels.label >= 0
        pairs = np.unique(np.stack([partition.part[some], labels.label[some]], axis=1), axis=0)
        different = np.bincount(pairs[:, 0], minlength=partition.n_parts)[inside].astype(np.float64)
        rows.append(
            _row(labels.name, "core", different, float(labels.limit), "label", labels.confidence)
            | {"worst": place_name(int(inside[np.argmax(different)])) if len(different) else ""}
        )
    chips, at = np.unique(placement.chip[inside], return_inverse=True)
    for resource in problem.chip_resources:
        on_chip = np.bincount(at, used_of(resource)[inside], len(chips)).astype(np.float64)
        rows.append(
            _row(resource.name, "chip", on_chip, resource.limit, resource.unit, resource.confidence)
            | {"worst": _chip(machine, chips, on_chip)}
        )
    taken = np.bincount(at, placement.width[inside].astype(np.float64), len(chips)).astype(np.float64)
    confidence = machine.quantity("chip.cores").confidence
    usable = np.array([len(machine.topology.usable_cores(int(chip))) for chip in chips], np.float64)  # chips differ
    fullest = int(np.argmax(taken / usable)) if len(chips) else None
    rows.append(
        _row("cores of a chip", "chip", taken, None, "core", confidence)
        | {
            "used": 0.0 if fullest is None else float(taken[fullest]),
            "available": float(usable[fullest]) if fullest is not None else _most_usable(machine),
            "worst": "" if fullest is None else _chip(machine, chips[fullest : fullest + 1], taken[fullest : fullest + 1]),
        }
    )
    rows.append(_row("cores", "machine", np.array([taken.sum()]), float(machine.n_cores), "core", confidence))
    rows.append(_row("chips", "machine", np.array([float(len(chips))]), float(machine.n_chips), "chip", confidence))
    if machine.routing == "multicast_tcam":
        limit = machine.quantity("router.usable_entries")
        lengths = np.array([float(len(t.key)) for t in tables.tables.values()])
        rows.append(
            _row("routing entries", "chip", lengths, limit.value, "entry", limit.confidence)
            | {"worst": _chip(machine, np.array(list(tables.tables)), lengths)}
        )
    if not routes.exact:
        strays = float(deliveries(problem, partition, routes)["stray_deliveries"])
        rows.append(_row("stray deliveries", "machine", np.array([strays]), None, "packet", "measured"))
    return tuple(rows)


def _most_usable(machine: Machine) -> float:
    return float(max(len(machine.topology.usable_cores(chip)) for chip in machine.topology.chips.tolist()))


def deliveries(problem: MappingProblem, partition: Partition, routes: Routes) -> dict[str, int]:
    """``deliveries``: (source neuron, part with a target of it) pairs, ``stray_deliveries``: pairs that packets reach without a target
    there; when every neuron spikes once."""
    start, _ = target_parts(problem.indptr, problem.indices, partition.part, partition.n_parts)
    wanted = int(start[-1])
    return {"deliveries": wanted, "stray_deliveries": int((np.diff(routes.neuron_start) * np.diff(routes.target_start)).sum()) - wanted}


def _row(name: str, scope: str, used: FloatArray, available: float | None, unit: str, confidence: str) -> dict[str, object]:
    return {
        "name": name,
        "scope": scope,
        "used": float(used.max(initial=0.0)),
        "available": available,
        "mean": float(used.mean()) if len(used) else 0.0,
        "unit": unit,
        "confidence": confidence,
    }


def _chip(machine: Machine, chips: np.ndarray[tuple[int, ...], np.dtype[np.int32]], used: FloatArray) -> str:
    return "chip ({}, {})".format(*machine.topology.position(int(chips[np.argmax(used)]))) if len(used) else ""
