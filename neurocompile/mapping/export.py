"""A mapping as plain arrays for ``mapping.npz``, and back. The arrays are listed in docs/mapping.md."""

from __future__ import annotations

from collections.abc import Mapping as MappingABC
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocompile.ir.errors import MismatchError
from neurocompile.mapping.types import Mapping, Partition, Placement, Routes, RoutingTable, RoutingTables

Arrays = dict[str, npt.NDArray[Any]]


def mapping_arrays(mapping: Mapping) -> Arrays:
    """Return the mapping as arrays (without ``usage``, which is in the report)."""
    part, placement, tables, routes = mapping.partition.part, mapping.placement, mapping.tables, mapping.routes
    chips = sorted(tables.tables)
    found = [tables.tables[c] for c in chips]
    before = sorted(tables.unminimised_entries.items())
    return {
        "part": part,
        "chip": placement.chip[part],
        "core": placement.core[part],
        "part_chip": placement.chip,
        "part_core": placement.core,
        "part_width": placement.width,
        "part_external": mapping.partition.external,
        "neuron_key": tables.neuron_key,
        "has_key": tables.has_key,
        "table_chip": np.array(chips, np.int32),
        "table_start": _starts([len(t.key) for t in found]),
        "table_key": _joined([t.key for t in found], np.zeros(0, np.uint32)),
        "table_mask": _joined([t.mask for t in found], np.zeros(0, np.uint32)),
        "table_links": _joined([t.links for t in found], np.zeros(0, np.uint32)),
        "table_cores": _joined([t.cores for t in found], np.zeros((0, 1), np.uint64)),
        "unminimised": np.array(before, np.int32).reshape(-1, 2),
        "axons": tables.axons,
        "exact": np.array(routes.exact),
        "route_source_part": routes.source_part,
        "route_neuron_start": routes.neuron_start,
        "route_neurons": routes.neurons,
        "route_target_start": routes.target_start,
        "route_targets": routes.targets,
        "route_tree": routes.tree,
        "tree_start": routes.tree_start,
        "tree_hops": routes.hops,
    }


def load_mapping(arrays: MappingABC[str, npt.NDArray[Any]]) -> Mapping:
    """Return the mapping that :func:`mapping_arrays` took apart (``usage`` is empty).

    Raises
    ------
    MismatchError
        NC608: an array is missing or the arrays do not belong together.
    """
    try:
        return _load(arrays)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        reason = f"array {error} is missing" if isinstance(error, KeyError) else str(error)
        raise MismatchError.of("NC608", f"mapping.npz cannot be read: {reason}", help="build again") from None


def _load(a: MappingABC[str, npt.NDArray[Any]]) -> Mapping:
    n_parts = len(a["part_chip"])
    if {len(a[name]) for name in ("part_core", "part_width", "part_external")} != {n_parts}:
        raise ValueError("the part_ arrays differ in length")
    _below(n_parts, part=a["part"])
    _below(len(a["tree_start"]) - 1, tree=a["route_tree"])
    if not set(a["table_chip"].tolist()) <= set(a["unminimised"][:, 0].tolist()):
        raise ValueError("a chip has a table, but no number of entries before minimisation")
    for values, starts in (("tree_hops", "tree_start"), ("route_neurons", "route_neuron_start"), ("route_targets", "route_target_start")):
        _check_starts(a[values], a[starts])
    if {len(a["route_source_part"]), len(a["route_neuron_start"]) - 1, len(a["route_target_start"]) - 1} != {len(a["route_tree"])}:
        raise ValueError("the route_ arrays differ in length")
    if a["tree_hops"].ndim != 2 or a["tree_hops"].shape[1] != 3:
        raise ValueError("tree_hops has not three columns")
    routes = Routes(
        exact=bool(a["exact"]),
        source_part=a["route_source_part"],
        tree=a["route_tree"],
        neuron_start=a["route_neuron_start"],
        neurons=a["route_neurons"],
        target_start=a["route_target_start"],
        targets=a["route_targets"],
        tree_start=a["tree_start"],
        hops=a["tree_hops"],
    )
    columns = [_split(a[f"table_{name}"], a["table_start"]) for name in ("key", "mask", "links", "cores")]
    tables = {
        int(chip): RoutingTable(key=k, mask=m, links=li, cores=c) for chip, k, m, li, c in zip(a["table_chip"], *columns, strict=True)
    }
    return Mapping(
        partition=Partition(part=a["part"], n_parts=n_parts, external=a["part_external"]),
        placement=Placement(chip=a["part_chip"], core=a["part_core"], width=a["part_width"]),
        routes=routes,
        tables=RoutingTables(
            neuron_key=a["neuron_key"],
            has_key=a["has_key"],
            tables=tables,
            unminimised_entries={int(chip): int(n) for chip, n in a["unminimised"]},
            axons=a["axons"],
        ),
    )


def _below(n: int, **values: npt.NDArray[Any]) -> None:
    for name, array in values.items():
        if len(array) and not (array.min() >= 0 and array.max() < n):
            raise ValueError(f"{name} {int(array[(array < 0) | (array >= n)][0])} of {n}")


def _starts(lengths: list[int]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _joined(arrays: list[npt.NDArray[Any]], empty: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.concatenate(arrays) if arrays else empty


def _check_starts(values: npt.NDArray[Any], starts: npt.NDArray[np.int64]) -> None:
    if len(starts) < 1 or starts[0] != 0 or starts[-1] != len(values) or (np.diff(starts) < 0).any():
        raise ValueError("starts and values do not belong together")


def _split(values: npt.NDArray[Any], starts: npt.NDArray[np.int64]) -> list[npt.NDArray[Any]]:
    _check_starts(values, starts)
    return [values[b:e] for b, e in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]
