"""Results of the mapping stages. Each is made once by its stage and never edited."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Partition:
    """Neuron -> part. A part is what one core holds (plus its helper cores where ``core_width`` > 1).

    ``part``: int32 (n_neurons,), 0 .. n_parts-1; external neurons form parts of their own (``external``: bool (n_parts,)).
    """

    part: Int32Array
    n_parts: int
    external: npt.NDArray[np.bool_]


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
    """The way of one group of packets: all neurons of ``neurons`` take the same tree.

    neurons : int32 array; source_part : int; target_parts : int32 array, sorted (parts reached);
    hops : int32 (n_hops, 3) rows (chip, link, next chip) of the tree, in an order in which a chip is entered before it is left.
    """

    neurons: Int32Array
    source_part: int
    target_parts: Int32Array
    hops: Int32Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Routes:
    """All routes. ``exact``: every neuron's packets reach exactly the parts that hold its targets; False: also those that only
    other neurons of its part have targets on."""

    routes: tuple[Route, ...]
    exact: bool


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
    """Everything the mapper decided, and what it uses: ``usage`` has one row a resource (see mapping.usage)."""

    partition: Partition
    placement: Placement
    routes: Routes
    tables: RoutingTables
    usage: tuple[dict[str, object], ...] = ()
