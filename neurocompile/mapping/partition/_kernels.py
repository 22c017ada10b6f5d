"""Compiled loops of the partitioners. Stamp arrays count distinct things without clearing: ``stamp[x] == part`` means x was counted."""

from __future__ import annotations

import numba
import numpy as np

from neurocompile.mapping.problem import FloatArray, Int32Array
from neurocompile.mapping.types import Int64Array


@numba.njit(cache=True)
def transpose(n_targets: int, indptr: Int64Array, indices: Int32Array) -> tuple[Int64Array, Int32Array]:
    """CSR by source -> CSR by target."""
    start = np.zeros(n_targets + 1, np.int64)
    for target in indices:
        start[target + 1] += 1
    for i in range(n_targets):
        start[i + 1] += start[i]
    fill = start[:-1].copy()
    sources = np.empty(len(indices), np.int32)
    for source in range(len(indptr) - 1):
        for e in range(indptr[source], indptr[source + 1]):
            target = indices[e]
            sources[fill[target]] = source
            fill[target] += 1
    return start, sources


@numba.njit(cache=True)
def contract(indptr: Int64Array, indices: Int32Array, unit_of: Int32Array, n_units: int) -> tuple[Int64Array, Int32Array]:
    """CSR by source of the distinct units of its targets, sorted."""
    n = len(indptr) - 1
    start = np.zeros(n + 1, np.int64)
    units = np.empty(len(indices), np.int32)
    stamp = np.full(n_units, -1, np.int32)
    at = 0
    for source in range(n):
        for e in range(indptr[source], indptr[source + 1]):
            unit = unit_of[indices[e]]
            if stamp[unit] != source:
                stamp[unit] = source
                units[at] = unit
                at += 1
        units[start[source] : at].sort()
        start[source + 1] = at
    return start, units[:at].copy()


@numba.njit(cache=True)
def fill(
    order: Int32Array,
    first_part: int,
    unit_class: Int32Array,
    in_start: Int64Array,
    in_sources: Int32Array,
    cost: FloatArray,
    axon_in: FloatArray,
    limits: FloatArray,
    label_start: Int64Array,
    labels: Int32Array,
    label_set: Int32Array,
    set_limits: Int64Array,
    source_stamp: Int32Array,
    label_stamp: Int32Array,
    part: Int32Array,
) -> tuple[int, int]:
    """Put the units of ``order`` one by one into the current part; open the next part when any limit would be passed.

    Units of different classes never share a part. Returns (number of the part after the last, -1), or (part, unit) for a unit that does
    not fit into an empty part. Writes ``part``; the stamps must not hold numbers >= ``first_part``.
    """
    used = np.zeros(len(limits))
    n_labels = np.zeros(len(set_limits), np.int64)
    new_labels = np.zeros(len(set_limits), np.int64)
    current = first_part
    empty = True
    for position in range(len(order)):
        unit = order[position]
        if not empty and unit_class[unit] != unit_class[order[position - 1]]:
            current += 1
            used[:] = 0.0
            n_labels[:] = 0
            empty = True
        while True:
            new_sources = 0
            for e in range(in_start[unit], in_start[unit + 1]):
                if source_stamp[in_sources[e]] != current:
                    new_sources += 1
            fits = True
            for r in range(len(limits)):
                if used[r] + cost[unit, r] + axon_in[r] * new_sources > limits[r]:
                    fits = False
            new_labels[:] = 0
            for e in range(label_start[unit], label_start[unit + 1]):
                if label_stamp[labels[e]] != current:
                    new_labels[label_set[labels[e]]] += 1
            for s in range(len(set_limits)):
                if n_labels[s] + new_labels[s] > set_limits[s]:
                    fits = False
            if fits:
                break
            if empty:
                return current, unit
            current += 1
            used[:] = 0.0
            n_labels[:] = 0
            empty = True
        part[unit] = current
        empty = False
        for e in range(in_start[unit], in_start[unit + 1]):
            source_stamp[in_sources[e]] = current
        for r in range(len(limits)):
            used[r] += cost[unit, r] + axon_in[r] * new_sources
        for e in range(label_start[unit], label_start[unit + 1]):
            label_stamp[labels[e]] = current
        n_labels += new_labels
    return current + (0 if empty else 1), -1


@numba.njit(cache=True)
def count_target_parts(indptr: Int64Array, indices: Int32Array, part: Int32Array, n_parts: int) -> Int32Array:
    """Number of different parts that hold targets of each neuron."""
    n = len(indptr) - 1
    stamp = np.full(n_parts, -1, np.int32)
    counts = np.zeros(n, np.int32)
    for source in range(n):
        for e in range(indptr[source], indptr[source + 1]):
            p = part[indices[e]]
            if stamp[p] != source:
                stamp[p] = source
                counts[source] += 1
    return counts


@numba.njit(cache=True)
def count_source_axons(
    n_sources: int, order: Int32Array, in_start: Int64Array, in_sources: Int32Array, part: Int32Array, n_parts: int
) -> Int64Array:
    """Distinct sources of each part; ``order`` lists the targets part by part."""
    stamp = np.full(n_sources, -1, np.int32)
    counts = np.zeros(n_parts, np.int64)
    for neuron in order:
        p = part[neuron]
        for e in range(in_start[neuron], in_start[neuron + 1]):
            source = in_sources[e]
            if stamp[source] != p:
                stamp[source] = p
                counts[p] += 1
    return counts


@numba.njit(cache=True)
def target_parts(indptr: Int64Array, indices: Int32Array, part: Int32Array, n_parts: int) -> tuple[Int64Array, Int32Array]:
    """CSR by source neuron of the different parts that hold its targets, sorted."""
    counts = count_target_parts(indptr, indices, part, n_parts)
    n = len(counts)
    start = np.zeros(n + 1, np.int64)
    for i in range(n):
        start[i + 1] = start[i] + counts[i]
    found = np.empty(start[n], np.int32)
    stamp = np.full(n_parts, -1, np.int32)
    for source in range(n):
        at = start[source]
        for e in range(indptr[source], indptr[source + 1]):
            p = part[indices[e]]
            if stamp[p] != source:
                stamp[p] = source
                found[at] = p
                at += 1
        found[start[source] : at].sort()
    return start, found


@numba.njit(cache=True)
def symmetrise(
    vertices: Int32Array,
    n_inside: int,
    vertex_of: Int32Array,
    out_start: Int64Array,
    out_units: Int32Array,
    in_start: Int64Array,
    in_sources: Int32Array,
    unit_of: Int32Array,
    member_start: Int64Array,
    members: Int32Array,
    weight: Int64Array,
) -> tuple[Int64Array, Int32Array, Int32Array]:
    """CSR of the undirected graph: (start, neighbours, weights). ``vertices``: units, of which the first ``n_inside`` may be targets;
    ``vertex_of``: back, -1 for units that are none. Weights of both directions and of all neurons of a unit add up (at most 2^31 - 1)."""
    n = len(vertices)
    longest = 0
    for u in vertices:
        row = in_start[u + 1] - in_start[u]
        for m in range(member_start[u], member_start[u + 1]):
            row += out_start[members[m] + 1] - out_start[members[m]]
        longest = max(longest, row)
    # Arcs of one vertex as they are found: both directions, repeated.
    ends, pushes = np.empty(longest, np.int32), np.empty(longest, np.int64)
    start = np.zeros(n + 1, np.int64)
    most = len(out_units) + len(in_sources)  # pages that are not written to take no memory
    neighbours, weights = np.empty(most, np.int32), np.empty(most, np.int32)
    place = np.full(n, -1, np.int64)  # of a vertex in the row that had it last
    at = 0
    for v in range(n):
        u, row = vertices[v], at
        n_found = 0
        for m in range(member_start[u], member_start[u + 1]):
            s = members[m]
            for e in range(out_start[s], out_start[s + 1]):
                other = vertex_of[out_units[e]]
                if other < n_inside:
                    ends[n_found], pushes[n_found] = other, weight[s]
                    n_found += 1
        if v < n_inside:
            for e in range(in_start[u], in_start[u + 1]):
                s = in_sources[e]
                ends[n_found], pushes[n_found] = vertex_of[unit_of[s]], weight[s]
                n_found += 1
        for i in range(n_found):
            other = ends[i]
            if other < 0 or other == v:
                continue
            if place[other] < row:
                place[other] = at
                neighbours[at], weights[at] = other, 0
                at += 1
            weights[place[other]] = min(weights[place[other]] + pushes[i], 2**31 - 1)
        start[v + 1] = at
    return start, neighbours[:at], weights[:at]


@numba.njit(cache=True)
def with_home(out_start: Int64Array, out_units: Int32Array, unit_of: Int32Array, vertex_of: Int32Array) -> tuple[Int64Array, Int32Array]:
    """CSR by source of its targets and its own unit, those with a vertex number; without targets that have one, a source is alone."""
    n = len(unit_of)
    start = np.zeros(n + 1, np.int64)
    pins = np.empty(len(out_units) + n, np.int32)
    at = 0
    for s in range(n):
        home = vertex_of[unit_of[s]]
        for e in range(out_start[s], out_start[s + 1]):
            v = vertex_of[out_units[e]]
            if v == home:
                home = -1
            if v >= 0:
                pins[at] = v
                at += 1
        if home >= 0:
            pins[at] = home
            at += 1
        start[s + 1] = at
    return start, pins[:at].copy()


__all__ = ["contract", "count_source_axons", "count_target_parts", "fill", "symmetrise", "target_parts", "transpose", "with_home"]
