"""Distinct targets of each source, against sets."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.mapping.targets import distinct_targets


@settings(deadline=None)  # kernels are compiled
@given(seed=st.integers(0, 2**32 - 1), sizes=st.lists(st.integers(1, 6), min_size=1, max_size=3), wide=st.booleans())
def test_each_source_has_its_distinct_targets_in_order(seed: int, sizes: list[int], wide: bool) -> None:
    """Lists of several populations, shuffled, with repeated pairs and rows without any."""
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    n = int(starts[-1])
    wanted: list[set[int]] = [set() for _ in range(n)]
    synapses = []
    for _ in range(rng.integers(0, 4)):
        a, b = rng.integers(0, len(sizes), 2).tolist()
        m = int(rng.integers(0, 12))
        pre, post = (
            rng.integers(0, sizes[a], m).astype(np.int64 if wide else np.int32),
            rng.integers(0, sizes[b], m).astype(np.int64 if wide else np.int32),
        )
        pre.setflags(write=False)
        for i, j in zip(pre.tolist(), post.tolist(), strict=True):
            wanted[int(starts[a]) + i].add(int(starts[b]) + j)
        synapses.append((pre, post, int(starts[a]), int(starts[b])))
    indptr, indices = distinct_targets(n, synapses)
    assert (indptr.dtype, indices.dtype) == (np.int64, np.int32)
    assert [indices[a:b].tolist() for a, b in pairwise(indptr)] == [sorted(w) for w in wanted]


def test_no_neurons_and_no_synapses() -> None:
    assert [a.tolist() for a in distinct_targets(0, [])] == [[0], []]
    assert [a.tolist() for a in distinct_targets(2, [])] == [[0, 0, 0], []]
