"""Simulated annealing of a placement: short ways, and no link with much more to carry than the others.

What falls is sum over pairs of parts of (packets per step x links between their chips) + price x sum over links of load^2, where the load
of a link is what it carried if every packet from part to part went alone over one shortest way. Ways alone are not enough: the shortest
placements fold a network so that its packets crowd on few links (largest load three times the mean and more). With the price, the second
term is ``PRICE`` times the first at the start. Proposals: a part goes beside one that it talks to, or anywhere, and what is in its place
comes back.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from neurocompile.machine import Topology
from neurocompile.mapping.partition._kernels import target_parts
from neurocompile.mapping.place._kernels import anneal_proposals, link_loads, part_traffic, ways
from neurocompile.mapping.problem import FloatArray, Int32Array, MappingProblem
from neurocompile.mapping.types import Int64Array, Partition

PROPOSALS_PER_PART = 8000
MOST_PROPOSALS = 2_000_000
MOST_WORK = 6e8
"""Links that all proposals may touch together, estimated; about 5 s."""
MOST_CHIPS = 4000
"""Positions of chips: a byte and a half-word for each pair of them stay below 50 MiB."""
PRICE = 8.0
HOT, COLD = 2.0, 0.02
"""Temperatures at the beginning and the end, in mean packets of a part. With 16 x 16 tiles of ``spatial``: 2 M proposals end at 0.93 of the
planted placement's multicast links; a tenth of the heat, or a price of 32, ends 3 % higher."""
EFFORT = {"fast": 0.02, "normal": 1.0, "high": 1.0}
"""Share of the proposals."""
_SLICES = 20
_PRIORITY = {kind: np.array(links, np.int64) for kind, links in {"mesh": (0, 2, 1, 3), "hex": (1, 4, 0, 3, 2, 5)}.items()}
_PRIORITY["hex_torus"] = _PRIORITY["hex"]
"""Links in the order in which a way takes them: along x, then along y; on hexagons the diagonal first."""


def anneal(
    problem: MappingProblem,
    partition: Partition,
    topology: Topology,
    width: Int32Array,
    cost: FloatArray,
    fixed: Int32Array,
    chip: Int32Array,
    seed: int,
    effort: str = "normal",
    progress: Callable[[float], None] | None = None,
) -> Int32Array:
    """Return a placement no worse than ``chip``.

    Parameters
    ----------
    width, cost
        Cores of each part; what it takes of each chip resource.
    fixed
        Chip of a part that must not move, else -1.
    effort
        ``fast``: 2 % of the proposals (on a shuffled torus 10 % more hops); ``high``: all of them also where parts talk to all others
        alike, and there is little to gain.
    progress
        Called with the fraction done, 20 times.
    """
    movable = np.flatnonzero(~partition.external & (fixed < 0)).astype(np.int32)
    n_positions = topology.width * topology.height
    if n_positions > MOST_CHIPS or len(topology.chips) < 2 or len(movable) < 1:
        return chip
    start, other, out, into = symmetric_traffic(problem, partition)
    weight = out + into
    if not weight.sum() > 0:
        return chip
    distance, link_to = ways(topology.neighbours, _PRIORITY[topology.kind])
    load = link_loads(chip, start, other, out, link_to, topology.neighbours)
    far = np.repeat(chip, np.diff(start))
    hops = float((out * distance[far, chip[other]]).sum())
    if hops == 0.0:
        return chip
    price = PRICE * hops / float((load**2).sum()) if load.any() else 0.0

    def energy(placed: Int32Array) -> float:
        loads = link_loads(placed, start, other, out, link_to, topology.neighbours)
        return float((out * distance[np.repeat(placed, np.diff(start)), placed[other]]).sum() + price * (loads**2).sum())

    # Cores are one more resource of a chip; external parts take nothing.
    limits = np.array([r.limit for r in problem.chip_resources], np.float64)
    n_usable = np.zeros(n_positions)
    n_usable[topology.chips] = [len(topology.usable_cores(c)) for c in topology.chips.tolist()]
    costs: FloatArray = np.concatenate([width[None, :].astype(np.float64), cost])
    limit: FloatArray = np.concatenate([n_usable[None, :], np.tile(limits[:, None], (1, n_positions))])
    used: FloatArray = np.stack([np.bincount(chip, row, n_positions).astype(np.float64) for row in costs])
    inside = np.flatnonzero(~partition.external)
    on_chip = np.full((n_positions, int(n_usable.max()) + 1), -1, np.int32)
    n_on_chip = np.zeros(n_positions, np.int32)
    for part in inside.tolist():
        on_chip[chip[part], n_on_chip[chip[part]]] = part
        n_on_chip[chip[part]] += 1
    open_chip = n_on_chip > 0  # no more chips than the fill needed
    work = 2.0 * float(np.diff(start)[movable].mean()) * max(1.0, hops / max(float(out.sum()), 1e-300))
    share = EFFORT[effort] * (1.0 if effort == "high" else _to_gain(weight, partition.n_parts))
    total = int(max(share * min(PROPOSALS_PER_PART * len(movable), MOST_PROPOSALS, MOST_WORK / max(work, 1.0)), 1000))
    typical = float(weight.sum()) / len(movable)
    placed = chip.copy()
    random = np.array([seed], np.uint64)
    for i in range(_SLICES):
        anneal_proposals(
            placed,
            movable,
            fixed >= 0,
            start,
            other,
            weight,
            out,
            into,
            distance,
            link_to,
            topology.neighbours,
            costs,
            used,
            limit,
            on_chip,
            n_on_chip,
            open_chip,
            random,
            load,
            price,
            HOT * typical,
            COLD * typical,
            i * total // _SLICES,
            (i + 1) * total // _SLICES,
            total,
        )
        if progress is not None:
            progress((i + 1) / _SLICES)
    return placed if energy(placed) < energy(chip) else chip


def _to_gain(weight: FloatArray, n_parts: int) -> float:
    """How different the traffic between pairs of parts is, 0.05 .. 1: its variance over the square of its mean, squared. Where all is
    alike, all placements are."""
    pairs = max(n_parts * (n_parts - 1), 1)
    mean = float(weight.sum()) / pairs
    return float(np.clip((float((weight**2).sum()) / pairs / mean**2 - 1.0) ** 2, 0.05, 1.0))


def symmetric_traffic(problem: MappingProblem, partition: Partition) -> tuple[Int64Array, Int32Array, FloatArray, FloatArray]:
    """CSR over parts of all others that each talks to or hears from: (start, other part, packets per step to it, packets from it)."""
    n = partition.n_parts
    start, found = target_parts(problem.indptr, problem.indices, partition.part, n)
    order = np.argsort(partition.part, kind="stable").astype(np.int32)
    row, to, packets = part_traffic(start, found, partition.part, problem.rates, n, order)
    pre = np.repeat(np.arange(n), np.diff(row))
    pair = np.concatenate([pre * n + to, to.astype(np.int64) * n + pre])
    keys, inverse = np.unique(pair, return_inverse=True)
    nothing = np.zeros(len(packets))
    out: FloatArray = np.bincount(inverse, np.concatenate([packets, nothing]), len(keys)).astype(np.float64)
    into: FloatArray = np.bincount(inverse, np.concatenate([nothing, packets]), len(keys)).astype(np.float64)
    begin: npt.NDArray[np.int64] = np.searchsorted(keys // n, np.arange(n + 1)).astype(np.int64)
    return begin, (keys % n).astype(np.int32), out, into


__all__ = ["anneal", "symmetric_traffic"]
