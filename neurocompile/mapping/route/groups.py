"""Neurons that share a route: those of a part with the same targets, or all of a part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurocompile.mapping.partition._kernels import target_parts
from neurocompile.mapping.problem import Int32Array, MappingProblem
from neurocompile.mapping.rows import distinct_rows, starts_of, take_rows, unite_rows
from neurocompile.mapping.types import Int64Array, Partition


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Groups:
    """Neurons of a part that take one route each; groups of a part are adjacent.

    source_part : int32 (n_groups,); neuron_start, neurons : CSR of the neurons of each; target_start, targets : CSR of the sorted parts
    that their packets reach; exact : whether each neuron has targets on all of them.
    """

    source_part: Int32Array
    neuron_start: Int64Array
    neurons: Int32Array
    target_start: Int64Array
    targets: Int32Array
    exact: bool

    def __len__(self) -> int:
        return len(self.source_part)


def group_neurons(problem: MappingProblem, partition: Partition, *, exact: bool) -> Groups:
    """Group the neurons with targets by part and target parts (``exact``), or by part; groups of a part in the order of their first
    neurons."""
    start, found = target_parts(problem.indptr, problem.indices, partition.part, partition.n_parts)
    order = np.argsort(partition.part, kind="stable").astype(np.int32)
    order = order[np.diff(start)[order] > 0]
    part = partition.part[order]
    row_start, rows = take_rows(order.astype(np.int64), start, found)
    if exact:
        number, first = distinct_rows(part, row_start, rows)
    else:
        number, first = distinct_rows(part, np.zeros(len(order) + 1, np.int64), rows)
    members = np.argsort(number, kind="stable")
    neuron_start = starts_of(np.bincount(number, minlength=len(first)))
    if exact:
        target_start, targets = take_rows(first, row_start, rows)
    else:
        target_start, targets = unite_rows(neuron_start, members, row_start, rows, partition.n_parts)
    return Groups(
        source_part=part[first],
        neuron_start=neuron_start,
        neurons=order[members],
        target_start=target_start,
        targets=targets,
        exact=exact or int((np.diff(neuron_start) * np.diff(target_start)).sum()) == len(rows),
    )


__all__ = ["Groups", "group_neurons"]
