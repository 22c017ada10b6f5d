"""Fill chips along a Hilbert curve from the input chip, parts in their order; then exchange parts where that shortens the ways.

The curve keeps neighbours in the order of parts near each other, which helps where that order means something (layers, positions); the
exchanges (random pairs from a seeded generator, only gains are taken) help where it does not. Distances are those of the links.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurocompile.ir.errors import DoesNotFitError
from neurocompile.machine import Machine, Topology, machines_of_family
from neurocompile.mapping.partition._kernels import count_source_axons, target_parts, transpose
from neurocompile.mapping.place._kernels import swap_parts
from neurocompile.mapping.problem import FloatArray, Int32Array, MappingProblem
from neurocompile.mapping.types import Partition, Placement

_SWAPS_PER_PART = 200
_MAX_SWAPS = 400_000
_MAX_CHIPS_FOR_SWAPS = 2048  # a distance matrix of int16 over all chips stays below 8 MiB


def place(problem: MappingProblem, partition: Partition, machine: Machine, *, seed: int = 1) -> Placement:
    """Return a chip and core for each part.

    A part of width w takes w consecutive usable cores of its chip, from ``core`` on. External parts sit at the input chip without a core.

    Raises
    ------
    DoesNotFitError
        NC402: more cores than the machine has (with the smallest machine of the family that fits); NC403: a part is wider than any chip.
    """
    width = part_widths(problem, partition)
    cost = part_costs(problem, partition)
    chip = _fill(problem, partition, machine.topology, width, cost)
    if chip is None:
        raise _too_big(problem, partition, machine, width, cost)
    _refine(problem, partition, machine.topology, width, cost, chip, seed)
    core = _number_cores(machine.topology, partition, chip, width)
    for array in (chip, core, width):
        array.setflags(write=False)
    return Placement(chip=chip, core=core, width=width)


def part_widths(problem: MappingProblem, partition: Partition) -> Int32Array:
    """Cores that each part takes, int32 (n_parts,); 0 for external parts."""
    width = np.zeros(partition.n_parts, np.int32)
    np.maximum.at(width, partition.part, problem.core_width[problem.population].astype(np.int32))
    width[partition.external] = 0
    return width


def part_costs(problem: MappingProblem, partition: Partition) -> FloatArray:
    """What each part takes of each chip resource, float64 (n_chip_resources, n_parts)."""
    cost = np.zeros((len(problem.chip_resources), partition.n_parts))
    if not problem.chip_resources:
        return cost
    in_start, in_sources = transpose(problem.n_neurons, problem.indptr, problem.indices)
    order = np.argsort(partition.part, kind="stable").astype(np.int32)
    sources = count_source_axons(order, in_start, in_sources, partition.part, partition.n_parts)
    out_start, _ = target_parts(problem.indptr, problem.indices, partition.part, partition.n_parts)
    out = np.bincount(partition.part, np.diff(out_start).astype(np.float64), partition.n_parts)
    for r, resource in enumerate(problem.chip_resources):
        own = np.bincount(partition.part, resource.per_neuron, partition.n_parts)
        cost[r] = own + resource.per_axon_in * sources + resource.per_axon_out * out
    cost[:, partition.external] = 0.0
    return cost


def chip_order(topology: Topology) -> Int32Array:
    """The chips along a Hilbert curve that starts nearest to the input chip."""
    order = max(1, int(max(topology.width, topology.height) - 1).bit_length())
    io_x, io_y = topology.position(topology.io_chip)
    flip_x, flip_y = io_x > (topology.width - 1) / 2, io_y > (topology.height - 1) / 2
    ranked = []
    for chip in topology.chips.tolist():
        x, y = topology.position(chip)
        ranked.append((_hilbert(order, topology.width - 1 - x if flip_x else x, topology.height - 1 - y if flip_y else y), chip))
    return np.array([chip for _, chip in sorted(ranked)], np.int32)


def _hilbert(order: int, x: int, y: int) -> int:
    """Position of (x, y) on the Hilbert curve through 2^order x 2^order points, from (0, 0) on."""
    d = 0
    side = 1 << (order - 1)
    while side:
        rx, ry = int((x & side) > 0), int((y & side) > 0)
        d += side * side * ((3 * rx) ^ ry)
        if ry == 0:
            if rx == 1:
                x, y = (side - 1) - (x & (side - 1)), (side - 1) - (y & (side - 1))
            x, y = y, x
        side >>= 1
    return d


def _fill(problem: MappingProblem, partition: Partition, topology: Topology, width: Int32Array, cost: FloatArray) -> Int32Array | None:
    """First fit along the curve; the chip of each part, or None where a part finds no room."""
    chips = chip_order(topology).tolist()
    free = [len(topology.usable_cores(chip)) for chip in chips]
    limits = np.array([r.limit for r in problem.chip_resources])
    left = np.tile(limits, (len(chips), 1))
    chip_of = np.full(partition.n_parts, topology.io_chip, np.int32)
    lowest: dict[tuple[int, ...], int] = {}  # first chip worth trying for parts of this shape
    for part in np.flatnonzero(~partition.external).tolist():
        need = int(width[part])
        shape = (need, *cost[:, part].tolist())
        for at in range(lowest.get(shape, 0), len(chips)):
            if free[at] >= need and (cost[:, part] <= left[at]).all():
                break
        else:
            return None
        lowest[shape] = at
        free[at] -= need
        left[at] -= cost[:, part]
        chip_of[part] = chips[at]
    return chip_of


def _too_big(problem: MappingProblem, partition: Partition, machine: Machine, width: Int32Array, cost: FloatArray) -> DoesNotFitError:
    n_parts, n_cores = int((~partition.external).sum()), int(width.sum())
    others = [m for m in machines_of_family(machine.family) if m.file != machine.file]
    fits = next((m.name for m in others if _fill(problem, partition, m.topology, width, cost) is not None), None)
    way_out = (
        f"the smallest machine of the family '{machine.family}' that fits is {fits} (--machine {fits})"
        if fits
        else (
            f"no machine of the family '{machine.family}' is large enough; "
            "make the network smaller, or describe a larger machine in a file of your own"
        )
    )
    most = max(len(machine.topology.usable_cores(c)) for c in machine.topology.chips.tolist())
    widest = int(np.argmax(width))
    if width[widest] > most:
        name = problem.population_names[int(problem.population[np.argmax(partition.part == widest)])]
        code = "NC403"
        message = (
            f"population '{name}' needs parts of {width[widest]} cores on one chip, "
            f"chips of '{machine.name}' have up to {most} usable cores"
        )
    else:
        code = "NC402"
        widths = f" of up to {width[widest]} cores on one chip" if width[widest] > 1 else ""
        chip_limits = "".join(
            f"; {r.name}: {c.sum():g} of {r.limit * machine.n_chips:g} {r.unit}, {r.limit:g} a chip"
            for r, c in zip(problem.chip_resources, cost, strict=True)
        )
        message = (
            f"the network needs {n_cores} cores ({n_parts} parts{widths}), machine '{machine.name}' has {machine.n_cores} usable cores on "
            f"{machine.n_chips} chips{chip_limits}"
        )
    found = DoesNotFitError.of(code, message, help=way_out)
    assert isinstance(found, DoesNotFitError)
    return found


def distances(topology: Topology) -> npt.NDArray[np.int16]:
    """Links between each two chip numbers when no link is dead, int16 (width * height, width * height)."""
    number = np.arange(topology.width * topology.height)
    x, y = number % topology.width, number // topology.width
    dx, dy = x[None, :] - x[:, None], y[None, :] - y[:, None]
    if topology.kind == "mesh":
        manhattan: npt.NDArray[np.int16] = (np.abs(dx) + np.abs(dy)).astype(np.int16)
        return manhattan
    shifts = (-1, 0, 1) if topology.kind == "hex_torus" else (0,)
    best: npt.NDArray[np.int16] = np.full(dx.shape, np.iinfo(np.int16).max, np.int16)
    for sx in shifts:
        for sy in shifts:
            ux, uy = dx + sx * topology.width, dy + sy * topology.height
            best = np.minimum(best, np.where(ux * uy >= 0, np.maximum(np.abs(ux), np.abs(uy)), np.abs(ux) + np.abs(uy)).astype(np.int16))
    return best


def _refine(
    problem: MappingProblem, partition: Partition, topology: Topology, width: Int32Array, cost: FloatArray, chip: Int32Array, seed: int
) -> None:
    """Exchange parts in place (``chip`` is still private)."""
    if topology.width * topology.height > _MAX_CHIPS_FOR_SWAPS or len(np.unique(chip)) < 2:
        return
    start, found = target_parts(problem.indptr, problem.indices, partition.part, partition.n_parts)
    pre = np.repeat(partition.part, np.diff(start)).astype(np.int64)
    n = partition.n_parts
    pair = np.concatenate([pre * n + found, found.astype(np.int64) * n + pre])
    keys, counts = np.unique(pair, return_counts=True)
    a, b = keys // n, (keys % n).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(a, minlength=n))]).astype(np.int64)
    inside = np.flatnonzero(~partition.external)
    generator = np.random.default_rng(seed)
    n_swaps = min(_SWAPS_PER_PART * len(inside), _MAX_SWAPS)
    pairs = inside[generator.integers(0, len(inside), (2, n_swaps))].astype(np.int32)
    limits = np.array([r.limit for r in problem.chip_resources], np.float64)
    swap_parts(
        chip,
        width,
        partition.external,
        indptr,
        b,
        counts.astype(np.int32),
        distances(topology),
        cost,
        limits,
        pairs[0].copy(),
        pairs[1].copy(),
    )


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
