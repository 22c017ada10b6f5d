"""Parts onto chips so that all limits hold: first fit along a curve, else in other orders."""

from __future__ import annotations

import numpy as np

from neurocompile.ir.errors import Diagnostic, DoesNotFitError
from neurocompile.machine import Machine, Topology, machines_of_family
from neurocompile.mapping.partition._kernels import target_parts
from neurocompile.mapping.problem import FloatArray, Int32Array, MappingProblem
from neurocompile.mapping.shortfall import Shortfall, ShortfallError
from neurocompile.mapping.types import Partition


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
    out_start, reached = target_parts(problem.indptr, problem.indices, partition.part, partition.n_parts)
    sources = np.bincount(reached, minlength=partition.n_parts)
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


def fixed_chips(problem: MappingProblem, partition: Partition, machine: Machine) -> Int32Array:
    """The chip on which each part must lie, int32 (n_parts,), -1: any.

    Raises
    ------
    DoesNotFitError
        NC402: the description names a chip that the machine does not have, or that is dead.
    """
    found = np.full(partition.n_parts, -1, np.int32)
    if problem.chip is None:
        return found
    bound = np.flatnonzero((problem.chip >= 0) & ~problem.external)
    t = machine.topology
    missing = bound[~np.isin(problem.chip[bound], t.chips)]
    if len(missing):
        name = problem.population_names[int(problem.population[missing[0]])]
        raise DoesNotFitError.of(
            "NC402",
            f"population '{name}' is to lie on chip {int(problem.chip[missing[0]])}, which does not exist on '{machine.name}' or is "
            f"dead; the machine has {t.width} x {t.height} positions, numbered y * width + x",
            help="name another chip, or another machine (--machine)",
        )
    found[partition.part[bound]] = problem.chip[bound]
    return found


def fill(
    problem: MappingProblem, partition: Partition, topology: Topology, width: Int32Array, cost: FloatArray, fixed: Int32Array
) -> Int32Array | None:
    """The chip of each part, or None where no order of packing finds room for all.

    First fit along the curve: parts in their order, which keeps neighbours near each other; if that fails, widest first, then by the
    largest fraction of a limit first (first-fit decreasing), which leaves fewer gaps. Parts with a chip of their own are placed before all.
    """
    inside = np.flatnonzero(~partition.external)
    limits = np.array([r.limit for r in problem.chip_resources], np.float64)
    fraction = (cost / np.maximum(limits, 1e-300)[:, None]).max(axis=0, initial=0.0)
    most = max(1, max((len(topology.usable_cores(c)) for c in topology.chips.tolist()), default=1))
    orders = (
        inside,
        inside[np.lexsort((-fraction[inside], -width[inside]))],
        inside[np.argsort(-np.maximum(fraction, width / most)[inside], kind="stable")],
    )
    for order in orders:
        bound = fixed[order] >= 0
        found = _first_fit(topology, np.concatenate([order[bound], order[~bound]]), partition.n_parts, width, cost, limits, fixed)
        if found is not None:
            return found
    return None


def _first_fit(
    topology: Topology, order: Int32Array, n_parts: int, width: Int32Array, cost: FloatArray, limits: FloatArray, fixed: Int32Array
) -> Int32Array | None:
    chips = chip_order(topology).tolist()
    place_of = {chip: at for at, chip in enumerate(chips)}
    free = [len(topology.usable_cores(chip)) for chip in chips]
    left = np.tile(limits, (len(chips), 1))
    chip_of = np.full(n_parts, topology.io_chip, np.int32)
    lowest: dict[tuple[float, ...], int] = {}  # first chip worth trying for parts of this shape
    for part in order.tolist():
        need, own = int(width[part]), int(fixed[part])
        shape = (need, *cost[:, part].tolist())
        tried = range(lowest.get(shape, 0), len(chips)) if own < 0 else (place_of[own],)
        for at in tried:
            if free[at] >= need and (cost[:, part] <= left[at]).all():
                break
        else:
            return None
        if own < 0:
            lowest[shape] = at
        free[at] -= need
        left[at] -= cost[:, part]
        chip_of[part] = chips[at]
    return chip_of


def too_big(
    problem: MappingProblem, partition: Partition, machine: Machine, width: Int32Array, cost: FloatArray, fixed: Int32Array
) -> ShortfallError:
    """What is short where ``fill`` found no place for all parts (NC402, NC403), and the smallest machine that has it."""
    n_parts, n_cores = int((~partition.external).sum()), int(width.sum())
    others = [m for m in machines_of_family(machine.family) if m.file != machine.file]
    fits = next((m.name for m in others if fill(problem, partition, m.topology, width, cost, fixed) is not None), None)
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
        members = np.flatnonzero(partition.part == widest).astype(np.int32)
        name = problem.population_names[int(problem.population[members[0]])]
        message = (
            f"population '{name}' needs parts of {width[widest]} cores on one chip, "
            f"chips of '{machine.name}' have up to {most} usable cores: {width[widest] - most} too few"
        )
        return ShortfallError(
            Diagnostic(code="NC403", message=message, help=way_out),
            Shortfall(
                resource="cores", unit="core", needed=float(width[widest]), available=float(most), neurons=members, partition=partition
            ),
        )
    quality = partition.quality
    resource = quality.bound_by if quality is not None else "cores"
    widths = f" of up to {width[widest]} cores on one chip" if width[widest] > 1 else ""
    over = f": {n_cores - machine.n_cores} too few" if n_cores > machine.n_cores else ""
    if over and quality is not None and quality.bound_by:
        over += f"; no partition has fewer than {quality.lower_bound} parts, which {quality.bound_by} enforces"
    chip_limits = ""
    for r, c in zip(problem.chip_resources, cost, strict=True):
        there = r.limit * machine.n_chips
        chip_limits += f"; {r.name}: {c.sum():g} of {there:g} {r.unit}, {r.limit:g} a chip"
        if c.sum() > there:
            chip_limits += f": {c.sum() - there:g} too few"
            resource = r.name if not over else resource
    message = (
        f"the network needs {n_cores} cores ({n_parts} parts{widths}), machine '{machine.name}' has {machine.n_cores} usable cores on "
        f"{machine.n_chips} chips{over}{chip_limits}"
    )
    return ShortfallError(
        Diagnostic(code="NC402", message=message, help=way_out),
        Shortfall(resource=resource, unit="core", needed=float(n_cores), available=float(machine.n_cores), partition=partition),
    )
