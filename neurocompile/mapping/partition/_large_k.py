"""Mt-KaHyPar's preset LARGE_K in a process of its own, bound to one processor: only so does it give the same answer each time.

    python _large_k.py PROBLEM.npz RESULT.npy

Its generators belong to processors and keep their state between calls, whatever the seed. ``PROBLEM.npz``: ``k``, ``epsilon``, ``start``
and ``pins`` (CSR of nets), ``weights`` of nets, ``own`` weights of vertices. Imports nothing of the package: it is run as a file.
"""

from __future__ import annotations

import os
import sys
from itertools import pairwise


def main(problem: str, result: str) -> None:
    """Partition and write the block of each vertex."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import mtkahypar
    import numpy as np

    with np.load(problem, allow_pickle=False) as data:
        pins, start = data["pins"].tolist(), data["start"].tolist()
        nets = [pins[a:b] for a, b in pairwise(start)]
        del pins
        engine = mtkahypar.initialize(1, False)
        context = engine.context_from_preset(mtkahypar.PresetType.LARGE_K)
        context.logging = False
        context.set_partitioning_parameters(int(data["k"]), float(data["epsilon"]), mtkahypar.Objective.KM1)
        graph = engine.create_hypergraph(context, len(data["own"]), len(nets), nets, data["own"].tolist(), data["weights"].tolist())
        del nets
    np.save(result, np.array(graph.partition(context).get_partition(), np.int32))


if __name__ == "__main__":
    main(*sys.argv[1:])
