"""Parts to chips and cores: packing (``fill``), then annealing of ways and link loads (``anneal``)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neurocompile.machine import Machine, Topology
from neurocompile.mapping.place.anneal import anneal
from neurocompile.mapping.place.fill import fill, fixed_chips, part_costs, part_widths, too_big
from neurocompile.mapping.problem import Int32Array, MappingProblem
from neurocompile.mapping.types import Partition, Placement


def place(
    problem: MappingProblem,
    partition: Partition,
    machine: Machine,
    *,
    seed: int = 1,
    effort: str = "normal",
    progress: Callable[[float], None] | None = None,
) -> Placement:
    """Return a chip and core for each part.

    A part of width w takes w consecutive usable cores of its chip, from ``core`` on. External parts sit at the input chip without a core.
    Parts with neurons that have a chip of their own (``problem.chip``) lie there. ``effort``: ``fast``
    anneals 2 % as long, ``high`` also where little is to be gained. ``progress`` gets the fraction of the annealing done.

    Raises
    ------
    DoesNotFitError
        NC402: more cores than the machine has (with the smallest machine of the family that fits); NC403: a part is wider than any chip.
    """
    width = part_widths(problem, partition)
    cost = part_costs(problem, partition)
    fixed = fixed_chips(problem, partition, machine)
    chip = fill(problem, partition, machine.topology, width, cost, fixed)
    if chip is None:
        raise too_big(problem, partition, machine, width, cost, fixed)
    chip = anneal(problem, partition, machine.topology, width, cost, fixed, chip, seed, effort, progress)
    core = _number_cores(machine.topology, partition, chip, width)
    for array in (chip, core, width):
        array.setflags(write=False)
    return Placement(chip=chip, core=core, width=width)


def found_room(problem: MappingProblem, partition: Partition, machine: Machine) -> bool:
    """Whether ``place`` finds a place for every part."""
    width, cost = part_widths(problem, partition), part_costs(problem, partition)
    return fill(problem, partition, machine.topology, width, cost, fixed_chips(problem, partition, machine)) is not None


def _number_cores(topology: Topology, partition: Partition, chip: Int32Array, width: Int32Array) -> Int32Array:
    core = np.full(partition.n_parts, -1, np.int32)
    taken: dict[int, int] = {}
    usable = {int(c): topology.usable_cores(int(c)) for c in np.unique(chip)}
    for part in np.flatnonzero(~partition.external).tolist():
        here = int(chip[part])
        at = taken.get(here, 0)
        core[part] = usable[here][at]
        taken[here] = at + int(width[part])
    return core


__all__ = ["found_room", "place"]
