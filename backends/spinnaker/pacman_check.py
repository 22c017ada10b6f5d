"""PACMAN's own checkers on our routing tables: ``python -m neurocompile.backends.spinnaker.pacman_check IN.npz OUT.json``.

A process of its own, because PACMAN keeps machine, graph and configuration in one global view.

``compare_tables`` proves that a minimised table sends every key as the table of the planned routes does. ``validate_routes`` walks the
packets of every source over a machine. Three things are made to fit it:

- It counts one key too many: a vertex of n keys from k on is refused where an entry of another vertex begins at k + n
  (``_locate_routing_entry``: ``last_atom = key + n_atoms`` in the branch of entries that do not match, ``- 1`` in the other). This is what
  fails on correct tables whose key ranges touch; sPyNNaker's own never do, because of their colour bits. Keys and masks are doubled here:
  no two then touch.
- It does not know that packets go straight on where nothing matches: those ways are written out as entries behind the others.
- It knows one source a core: each group of neurons that travel alike gets a core number of its own beyond those of the chip.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pacman.config_setup import unittest_setup
from pacman.data.pacman_data_writer import PacmanDataWriter
from pacman.exceptions import PacmanRoutingException
from pacman.model.graphs.application import ApplicationEdge, ApplicationVertex
from pacman.model.graphs.common import Slice
from pacman.model.graphs.machine import MachineVertex, SimpleMachineVertex
from pacman.model.partitioner_splitters import AbstractSplitterCommon
from pacman.model.placements import Placement, Placements
from pacman.model.resources import ConstantSDRAM
from pacman.model.routing_info import BaseKeyAndMask, MachineVertexRoutingInfo, RoutingInfo
from pacman.model.routing_tables import CompressedMulticastRoutingTable, MulticastRoutingTables
from pacman.operations.multi_cast_router_check_functionality.valid_routes_checker import validate_routes
from pacman.operations.router_compressors.routing_compression_checker import compare_tables
from pacman.utilities.utility_objs import ChipCounter
from spinn_machine import MulticastRoutingEntry, RoutingEntry
from spinn_machine.virtual_machine import virtual_machine_by_boards
from spinn_utilities.config_holder import set_config

PARTITION = "SPIKE"
FIRST_SOURCE = 1000
"""Core number of the first source: no core of a machine."""
IntArray = npt.NDArray[np.int64]


class _Vertex(ApplicationVertex[MachineVertex]):
    """A vertex of one core."""

    def __init__(self, label: str) -> None:
        super().__init__(label=label, splitter=_Whole())
        self.core = SimpleMachineVertex(ConstantSDRAM(0), label, self, Slice(0, 0))
        self.remember_machine_vertex(self.core)

    @property
    def n_atoms(self) -> int:
        return 1


class _Whole(AbstractSplitterCommon[_Vertex]):
    """Leaves a vertex of one core as it is."""

    def create_machine_vertices(self, chip_counter: ChipCounter) -> None:
        """Nothing to do."""

    def get_out_going_slices(self) -> list[Slice]:
        return [Slice(0, 0)]

    def get_in_coming_slices(self) -> list[Slice]:
        return [Slice(0, 0)]

    def get_out_going_vertices(self, partition_id: str) -> list[MachineVertex]:  # noqa: ARG002
        return [self.governed_app_vertex.core]

    def get_in_coming_vertices(self, partition_id: str) -> list[MachineVertex]:  # noqa: ARG002
        return [self.governed_app_vertex.core]

    def machine_vertices_for_recording(self, variable_to_record: str) -> list[MachineVertex]:  # noqa: ARG002
        return []

    def reset_called(self) -> None:
        """Nothing to do."""


def _bits(mask: int) -> list[int]:
    return [i for i in range(mask.bit_length()) if mask >> i & 1]


def _tables(rows: IntArray, double: bool) -> dict[tuple[int, int], CompressedMulticastRoutingTable]:
    """Return PACMAN's tables of rows (x, y, key, mask, links, cores) or (..., link by which the packets come in, -1 for none)."""
    found: dict[tuple[int, int], CompressedMulticastRoutingTable] = {}
    for x, y, key, mask, links, cores, *more in rows.tolist():
        table = found.setdefault((x, y), CompressedMulticastRoutingTable(x, y))
        came = more[0] if more and more[0] >= 0 and not cores else None  # what goes straight on needs no entry
        entry = RoutingEntry(processor_ids=_bits(cores), link_ids=_bits(links), incoming_link=came)
        table.add_multicast_routing_entry(MulticastRoutingEntry(key << int(double), mask << int(double), entry))
    return found


def check_tables(planned: IntArray, minimised: IntArray) -> str:
    """Return '' if every planned entry goes the same way in the minimised tables, else what PACMAN says."""
    ours = _tables(minimised, double=False)
    for chip, table in _tables(planned, double=False).items():
        try:
            compare_tables(table, ours.get(chip, CompressedMulticastRoutingTable(*chip)))
        except PacmanRoutingException as error:
            return f"chip {chip}: {error}"
    return ""


def check_routes(arrays: dict[str, Any], version: int, boards: int) -> str:
    """Return '' if PACMAN finds every target of every source, and no other core, else what it says.

    ``arrays``: ``sources`` (x, y, key), ``targets`` (x, y, core), ``pairs`` (source, target), ``entries`` and ``straight`` (entries).
    """
    unittest_setup()
    set_config("Machine", "version", str(version))
    writer = PacmanDataWriter.mock()
    writer.set_machine(virtual_machine_by_boards(boards))
    placements, infos = Placements(), RoutingInfo()
    targets = [_Vertex(f"target {i}") for i in range(len(arrays["targets"]))]
    for vertex, (x, y, core) in zip(targets, arrays["targets"].tolist(), strict=True):
        writer.add_vertex(vertex)
        placements.add_placement(Placement(vertex.core, x, y, core))
    sources = [_Vertex(f"source {i}") for i in range(len(arrays["sources"]))]
    for number, (vertex, (x, y, key)) in enumerate(zip(sources, arrays["sources"].tolist(), strict=True)):
        writer.add_vertex(vertex)
        placements.add_placement(Placement(vertex.core, x, y, FIRST_SOURCE + number))
        infos.add_routing_info(MachineVertexRoutingInfo(BaseKeyAndMask(key << 1, 0xFFFFFFFF), PARTITION, vertex.core, 0))
    for source, target in arrays["pairs"].tolist():
        writer.add_edge(ApplicationEdge(sources[source], targets[target]), PARTITION)
    writer.set_placements(placements)
    writer.set_routing_infos(infos)
    entries = np.concatenate([arrays["entries"], arrays["straight"]]).astype(np.int64)
    tables = MulticastRoutingTables(_tables(entries, double=True).values())
    try:
        validate_routes(tables)
    except Exception as error:  # PacmanRoutingException, PacmanConfigurationException
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return ""


def main(source: str, destination: str) -> None:
    """Check the arrays of a file and write what was found as JSON: ``tables``, ``routes``, '' where all is well."""
    with np.load(source, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    tables = check_tables(arrays["planned"], arrays["entries"])
    found = {"tables": tables, "routes": check_routes(arrays, int(arrays["version"]), int(arrays["boards"]))}
    Path(destination).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
