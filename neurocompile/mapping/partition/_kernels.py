"""Compiled loops of the partitioners. Stamp arrays count distinct things without clearing: ``stamp[x] == part`` means x was counted."""

from __future__ import annotations

import numba
import numpy as np

from neurocompile.mapping.problem import FloatArray, Int32Array
from neurocompile.mapping.types import Int64Array


@numba.njit(cache=True)
def transpose(n_neurons: int, indptr: Int64Array, indices: Int32Array) -> tuple[Int64Array, Int32Array]:
    """CSR by source -> CSR by target."""
    start = np.zeros(n_neurons + 1, np.int64)
    for target in indices:
        start[target + 1] += 1
    for i in range(n_neurons):
        start[i + 1] += start[i]
    fill = start[:-1].copy()
    sources = np.empty(len(indices), np.int32)
    for source in range(n_neurons):
        for e in range(indptr[source], indptr[source + 1]):
            target = indices[e]
            sources[fill[target]] = source
            fill[target] += 1
    return start, sources


@numba.njit(cache=True)
def fill(
    order: Int32Array,
    first_part: int,
    block: Int32Array,
    in_start: Int64Array,
    in_sources: Int32Array,
    per_neuron: FloatArray,
    axon_in: FloatArray,
    limits: FloatArray,
    labels: Int32Array,
    label_limits: Int64Array,
    source_stamp: Int32Array,
    label_stamp: Int32Array,
    part: Int32Array,
) -> tuple[int, int]:
    """Put the neurons of ``order`` one by one into the current part; open the next part when any limit would be passed.

    ``block``: neurons of different blocks never share a part. Returns (number of the part after the last, -1), or (part, neuron) for a
    neuron that does not fit into an empty part. Writes ``part``; the stamps must not hold numbers >= ``first_part``.
    """
    n_resources, n_sets = len(limits), len(label_limits)
    used = np.zeros(n_resources)
    n_labels = np.zeros(n_sets, np.int64)
    current = first_part
    empty = True
    for position in range(len(order)):
        neuron = order[position]
        if not empty and block[neuron] != block[order[position - 1]]:
            current += 1
            used[:] = 0.0
            n_labels[:] = 0
            empty = True
        while True:
            new_sources = 0
            for e in range(in_start[neuron], in_start[neuron + 1]):
                if source_stamp[in_sources[e]] != current:
                    new_sources += 1
            fits = True
            for r in range(n_resources):
                if used[r] + per_neuron[r, neuron] + axon_in[r] * new_sources > limits[r]:
                    fits = False
            for s in range(n_sets):
                label = labels[s, neuron]
                if label >= 0 and label_stamp[s, label] != current and n_labels[s] + 1 > label_limits[s]:
                    fits = False
            if fits:
                break
            if empty:
                return current, neuron
            current += 1
            used[:] = 0.0
            n_labels[:] = 0
            empty = True
        part[neuron] = current
        empty = False
        for e in range(in_start[neuron], in_start[neuron + 1]):
            source_stamp[in_sources[e]] = current
        for r in range(n_resources):
            used[r] += per_neuron[r, neuron] + axon_in[r] * new_sources
        for s in range(n_sets):
            label = labels[s, neuron]
            if label >= 0 and label_stamp[s, label] != current:
                label_stamp[s, label] = current
                n_labels[s] += 1
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
def count_source_axons(order: Int32Array, in_start: Int64Array, in_sources: Int32Array, part: Int32Array, n_parts: int) -> Int64Array:
    """Distinct sources of each part; ``order`` lists the neurons part by part."""
    stamp = np.full(len(in_start) - 1, -1, np.int32)
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


__all__ = ["count_source_axons", "count_target_parts", "fill", "target_parts", "transpose"]
