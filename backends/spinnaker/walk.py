"""A packet tracer over routing tables as sPyNNaker left them (own code: PACMAN's ``validate_routes`` fails on correct networks)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurocompile.ir.npz import AnyArray

OPPOSITE = (3, 4, 5, 0, 1, 2)
"""Link by which a packet leaves that no entry matches, by the link it came in: straight on (default routing)."""


def walk(mapping: Mapping[str, AnyArray]) -> dict[int, list[int]]:
    """Return, for each placed vertex with a key, the placed vertices that its packets reach.

    Parameters
    ----------
    mapping
        ``placements`` (population, delays of population, first and last neuron, x, y, core, takes synapses), ``keys`` (placement row, key,
        mask), ``entries`` (x, y, key, mask, links, cores) in order of match, ``links`` (x, y, link, next x, next y).

    Notes
    -----
    A vertex's packets are those of ``key`` up to ``key | ~mask``; sPyNNaker's tables serve all of them alike, so the first is followed.
    """
    placements, entries = np.asarray(mapping["placements"], np.int64), np.asarray(mapping["entries"], np.int64)
    at = {(int(x), int(y), int(p)): row for row, (x, y, p) in enumerate(placements[:, 4:7])}
    tables: dict[tuple[int, int], list[tuple[int, int, int, int]]] = {}
    for x, y, key, mask, links, cores in entries.tolist():
        tables.setdefault((x, y), []).append((key, mask, links, cores))
    neighbour = {(x, y, link): (nx, ny) for x, y, link, nx, ny in np.asarray(mapping["links"], np.int64).tolist()}
    reached: dict[int, list[int]] = {}
    for row, key, _mask in np.asarray(mapping["keys"], np.int64).tolist():
        found: set[int] = set()
        seen: set[tuple[int, int, int]] = set()
        queue = [(int(placements[row, 4]), int(placements[row, 5]), -1)]
        while queue:
            x, y, came_in = queue.pop()
            if (x, y, came_in) in seen:
                continue
            seen.add((x, y, came_in))
            match = next(((links, cores) for k, m, links, cores in tables.get((x, y), ()) if key & m == k), None)
            if match is None:  # dropped at its own chip, straight on elsewhere
                match = (0, 0) if came_in < 0 else (1 << OPPOSITE[came_in], 0)
            for link in range(6):
                step = neighbour.get((x, y, link)) if match[0] >> link & 1 else None
                if step is not None:
                    queue.append((*step, OPPOSITE[link]))
            found.update(at[x, y, core] for core in range(64) if match[1] >> core & 1 and (x, y, core) in at)
        reached[row] = sorted(set(reached.get(row, ())) | found)
    return reached
