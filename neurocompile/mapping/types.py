"""Results of the mapping stages. Each is made once by its stage and never edited."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionQuality:
    """What a partition is worth, for the report.

    algorithm : the one that won; cores : parts, external ones not counted; lower_bound : cores that no partition can do without, and
    bound_by : the limit that sets it; bounds : the same, limit by limit; km1 : (source neuron, other part with a target of it) pairs;
    weighted_km1 : the same, weighted with the spikes of the source per step: packets between parts per step; sequential_... : of
    sequential fill in the order of the description, None where that finds no partition; notes : what could not be tried, and why.
    """

    algorithm: str
    cores: int
    lower_bound: int
    bound_by: str
    bounds: dict[str, int]
    km1: int
    weighted_km1: float
    sequential_cores: int | None
    sequential_km1: int | None
    sequential_weighted_km1: float | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Partition:
    """Neuron -> part. A part is what one core holds (plus its helper cores where ``core_width`` > 1).

    ``part``: int32 (n_neurons,), 0 .. n_parts-1; external neurons form parts of their own (``external``: bool (n_parts,)).
    ``quality``: None where the partition was read from a file.
    """

    part: Int32Array
    n_parts: int
    external: npt.NDArray[np.bool_]
    quality: PartitionQuality | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placement:
    """Part -> chip and core.

    chip : int32 (n_parts,), chip number = y * width + x; core : int32 (n_parts,), first core on the chip, -1 for external parts;
    width : int32 (n_parts,), cores taken (0 for external parts): the ``width`` next usable cores of the chip from ``core`` on.
    """

    chip: Int32Array
    core: Int32Array
    width: Int32Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Route:
    """The way of one group of packets: all neurons of ``neurons`` take the same tree. A view of one row of :class:`Routes`.

    neurons : int32 array; source_part : int; target_parts : int32 array, sorted (parts reached);
    hops : int32 (n_hops, 3) rows (chip, link, next chip) of the tree, in an order in which a chip is entered before it is left.
    """

    neurons: Int32Array
    source_part: int
    target_parts: Int32Array
    hops: Int32Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Routes:
    """All routes, as rows of arrays (there may be one for each neuron).

    exact : every neuron's packets reach exactly the parts that hold its targets; False: also those that only other neurons of its part
    have targets on;
    source_part, tree : int32 (n_routes,), part of the route's neurons, number of its tree; routes of a part are adjacent;
    neuron_start, neurons : int64 (n_routes + 1,), int32: neurons of each route; target_start, targets : the same, parts it reaches, sorted;
    tree_start, hops : int64 (n_trees + 1,), int32 (n_hops, 3): the hops of each tree, as in :class:`Route`.
    """

    exact: bool
    source_part: Int32Array
    tree: Int32Array
    neuron_start: Int64Array
    neurons: Int32Array
    target_start: Int64Array
    targets: Int32Array
    tree_start: Int64Array
    hops: Int32Array

    def __len__(self) -> int:
        return len(self.source_part)

    def __getitem__(self, route: int) -> Route:
        tree = int(self.tree[route])
        return Route(
            neurons=self.neurons[self.neuron_start[route] : self.neuron_start[route + 1]],
            source_part=int(self.source_part[route]),
            target_parts=self.targets[self.target_start[route] : self.target_start[route + 1]],
            hops=self.hops[self.tree_start[tree] : self.tree_start[tree + 1]],
        )

    def __iter__(self) -> Iterator[Route]:
        return (self[route] for route in range(len(self)))

    @classmethod
    def of(cls, routes: Iterable[Route], *, exact: bool) -> Routes:
        """Return the arrays of some routes; each gets a tree of its own."""
        found = tuple(routes)
        return cls(
            exact=exact,
            source_part=np.array([r.source_part for r in found], np.int32),
            tree=np.arange(len(found), dtype=np.int32),
            neuron_start=_starts([len(r.neurons) for r in found]),
            neurons=np.concatenate([np.zeros(0, np.int32), *(r.neurons for r in found)]).astype(np.int32),
            target_start=_starts([len(r.target_parts) for r in found]),
            targets=np.concatenate([np.zeros(0, np.int32), *(r.target_parts for r in found)]).astype(np.int32),
            tree_start=_starts([len(r.hops) for r in found]),
            hops=np.concatenate([np.zeros((0, 3), np.int32), *(r.hops for r in found)]).astype(np.int32),
        )


def _starts(lengths: list[int]) -> Int64Array:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoutingTable:
    """Entries of one chip's router in order of match: first match wins. ``links``: bit mask of output links; ``cores``: bit mask of
    the chip's cores, uint64 (n_entries, n_words), core c is bit c % 64 of word c // 64. Other arrays: shape (n_entries,)."""

    key: npt.NDArray[np.uint32]
    mask: npt.NDArray[np.uint32]
    links: npt.NDArray[np.uint32]
    cores: npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoutingTables:
    """Keys of all neurons and the tables of all chips that have entries.

    neuron_key : uint32 (n_neurons,); has_key : bool (n_neurons,), False for neurons that send nothing;
    tables : chip number -> table; unminimised_entries : chip number -> entries before minimisation.
    On machines without router tables (``destination`` routing) ``tables`` is empty and ``axons`` lists (source neuron, chip, core) rows.
    """

    neuron_key: npt.NDArray[np.uint32]
    has_key: npt.NDArray[np.bool_]
    tables: dict[int, RoutingTable] = field(default_factory=dict)
    unminimised_entries: dict[int, int] = field(default_factory=dict)
    axons: Int32Array = field(default_factory=lambda: np.zeros((0, 3), np.int32))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mapping:
    """Everything the mapper decided, and what it uses: ``usage`` has one row a resource (mapping.usage), ``traffic`` is what
    mapping.traffic says about packets, links and tables."""

    partition: Partition
    placement: Placement
    routes: Routes
    tables: RoutingTables
    usage: tuple[dict[str, object], ...] = ()
    traffic: dict[str, object] = field(default_factory=dict)
