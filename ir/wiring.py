"""Who is connected with whom: the sources of consecutive targets, by every rule but Explicit (docs/connectivity.md defines the streams)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from neurocompile.ir._types import FloatArray, Int32Array, IntArray
from neurocompile.ir.connectivity import AllToAll, DistanceDependent, FixedInDegree, FixedOutDegree, FixedProbability, OneToOne
from neurocompile.ir.counter_rng import stream_key
from neurocompile.ir.errors import InputError
from neurocompile.ir.network import Network, Projection
from neurocompile.ir.sampling import (
    cell_lists,
    distance_rows,
    fixed_indegree_rows,
    fixed_outdegree_counts,
    fixed_outdegree_rows,
    fixed_probability_rows,
)

NO_LIMIT = 2**62


def leaves_out_self(projection: Projection) -> bool:
    """Whether no neuron may be its own source."""
    return projection.pre == projection.post and not getattr(projection.connect, "allow_autapses", True)


def draw_rows(network: Network, projection: Projection, start: int, stop: int, limit: int) -> tuple[Int32Array, IntArray]:
    """Return (sources, counts) of the targets from ``start`` on, until ``stop`` or ``limit`` synapses."""
    pre, post = network.population(projection.pre), network.population(projection.post)
    connect, no_self = projection.connect, leaves_out_self(projection)
    key = stream_key(network.seed, "connectivity", projection.name)
    empty: tuple[Int32Array, IntArray] = np.empty(0, np.int32), np.zeros(stop - start, np.int64)
    if start == stop:
        return empty
    if isinstance(connect, FixedProbability) and 0.0 < connect.probability < 1.0:
        return fixed_probability_rows(key, start, stop, limit, pre.size, connect.probability, no_self)
    if isinstance(connect, AllToAll) or (isinstance(connect, FixedProbability) and connect.probability > 0.0):
        stop = min(stop, start + max(1, limit // pre.size))
        rows = np.arange(start, stop)
        sources = np.tile(np.arange(pre.size, dtype=np.int32), stop - start)
        if not no_self:
            return sources, np.full(stop - start, pre.size, dtype=np.int64)
        return np.delete(sources, (rows - start) * pre.size + rows), np.full(stop - start, pre.size - 1, dtype=np.int64)
    if isinstance(connect, OneToOne):
        stop = min(stop, start + limit)
        return np.arange(start, stop, dtype=np.int32), np.ones(stop - start, dtype=np.int64)
    if isinstance(connect, FixedInDegree) and connect.degree:
        stop = min(stop, start + max(1, limit // connect.degree))
        sources = fixed_indegree_rows(key, start, stop, pre.size, connect.degree, no_self)
        return sources, np.full(stop - start, connect.degree, dtype=np.int64)
    if isinstance(connect, FixedOutDegree) and connect.degree:
        counts = fixed_outdegree_counts(key, start, stop, pre.size, post.size, connect.degree, no_self)
        kept = max(1, int(np.searchsorted(np.cumsum(counts), limit, side="right")))
        counts = counts[:kept]
        return fixed_outdegree_rows(key, start, counts, pre.size, post.size, connect.degree, no_self), counts
    if isinstance(connect, DistanceDependent) and connect.probability > 0.0:
        if pre.positions is None or post.positions is None:  # Network has verified this (NC202)
            raise InputError.of("NC202", f"projection '{projection.name}': distance_dependent needs positions")
        return _distance_rows(key, start, stop, limit, pre.positions, post.positions, connect, no_self)
    return empty


def _distance_rows(
    key: npt.NDArray[np.uint64],
    start: int,
    stop: int,
    limit: int,
    pre: FloatArray,
    post: FloatArray,
    connect: DistanceDependent,
    no_self: bool,
) -> tuple[Int32Array, IntArray]:
    return _distance_sampler(key, pre, post, connect, no_self)(start, stop, limit)


def sources_of(network: Network, projection: Projection, targets: IntArray) -> Iterator[Int32Array]:
    """Yield the sources of some targets of a distance_dependent projection; the cells are made once."""
    pre, post, connect = network.population(projection.pre), network.population(projection.post), projection.connect
    if not isinstance(connect, DistanceDependent) or pre.positions is None or post.positions is None or not connect.probability:
        return
    key = stream_key(network.seed, "connectivity", projection.name)
    draw = _distance_sampler(key, pre.positions, post.positions, connect, leaves_out_self(projection))
    for target in targets.tolist():
        yield draw(target, target + 1, NO_LIMIT)[0]


def _distance_sampler(
    key: npt.NDArray[np.uint64], pre: FloatArray, post: FloatArray, connect: DistanceDependent, no_self: bool
) -> Callable[[int, int, int], tuple[Int32Array, IntArray]]:
    """Sort the sources into cells at least one radius wide; return what draws the pairs of neighbouring cells (start, stop, limit)."""
    dimensions = pre.shape[1]
    gaussian = connect.profile == "gaussian"
    radius = connect.radius if connect.radius is not None else (4.0 if gaussian else 8.0) * connect.scale
    period, origin, width = np.zeros(3), np.zeros(3), np.ones(3)
    n_cells = np.ones(3, dtype=np.int64)
    at, to = np.zeros((len(pre), 3)), np.zeros((len(post), 3))
    at[:, :dimensions], to[:, :dimensions] = pre, post
    most = int(np.ceil((4.0 * len(pre)) ** (1.0 / dimensions)))  # no more than about 4 cells a source, however small the radius
    for d in range(dimensions):
        if connect.periodic is not None:
            period[d] = connect.periodic[d]
            at[:, d] %= period[d]
            to[:, d] %= period[d]
            extent = period[d]
        else:
            origin[d] = at[:, d].min()
            extent = at[:, d].max() - origin[d]
        # 1e-9 wider than the radius, so that rounding never puts a pair within the radius two cells apart
        n_cells[d] = int(min(float(most), max(1.0, np.floor(extent / (radius * (1.0 + 1e-9))))))
        width[d] = extent / n_cells[d] if extent > 0.0 else 1.0
        if n_cells[d] == 1:
            width[d] = max(extent, radius) * (1.0 + 1e-9)
    index = np.clip(np.floor((at - origin) / width).astype(np.int64), 0, n_cells - 1)
    cell_of = (index[:, 0] * n_cells[1] + index[:, 1]) * n_cells[2] + index[:, 2]
    pointers, members = cell_lists(cell_of, int(n_cells.prod()))

    def draw(start: int, stop: int, limit: int) -> tuple[Int32Array, IntArray]:
        sources, counts = distance_rows(
            key, start, stop, limit, at, to, period, origin, width, n_cells, pointers, members,
            connect.probability, connect.scale, gaussian, radius, no_self,
        )  # fmt: skip
        return sources, counts

    return draw


__all__ = ["NO_LIMIT", "draw_rows", "leaves_out_self", "sources_of"]
