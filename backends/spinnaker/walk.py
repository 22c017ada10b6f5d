"""A packet tracer over routing tables (own code): sPyNNaker's as it left them, and ours in the same form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from neurocompile.ir.npz import AnyArray

OPPOSITE = (3, 4, 5, 0, 1, 2)
"""Link by which a packet leaves that no entry matches, by the link it came in: straight on (default routing)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Where the packets of a key go: cores (x, y, core) that they reach, links (x, y, link) that they cross, and those of the links
    (x, y, link) by which they leave a chip that has no entry for them."""

    cores: frozenset[tuple[int, int, int]]
    links: frozenset[tuple[int, int, int]]
    straight: frozenset[tuple[int, int, int]]


class Tracer:
    """Routing tables of a machine, and the way of packets through them.

    Parameters
    ----------
    entries
        int64 rows (x, y, key, mask, links, cores), in order of match on each chip; links and cores are bit masks.
    links
        int64 rows (x, y, link, next x, next y): the machine.
    """

    def __init__(self, entries: Iterable[Iterable[int]], links: Iterable[Iterable[int]]) -> None:
        self._tables: dict[tuple[int, int], list[tuple[int, int, int, int]]] = {}
        for x, y, key, mask, out, cores in entries:
            self._tables.setdefault((x, y), []).append((key, mask, out, cores))
        self._neighbour = {(x, y, link): (nx, ny) for x, y, link, nx, ny in links}

    def trace(self, x: int, y: int, key: int) -> Trace:
        """Follow a packet that a core of chip (x, y) sends: the first entry that matches wins, without one it goes straight on, and is
        dropped where it began. A loop ends where it closes."""
        cores: set[tuple[int, int, int]] = set()
        crossed: set[tuple[int, int, int]] = set()
        straight: set[tuple[int, int, int]] = set()
        seen: set[tuple[int, int, int]] = set()
        queue = [(x, y, -1)]
        while queue:
            x, y, came_in = queue.pop()
            if (x, y, came_in) in seen:
                continue
            seen.add((x, y, came_in))
            match = next(((out, c) for k, m, out, c in self._tables.get((x, y), ()) if key & m == k), None)
            if match is None and came_in >= 0:
                straight.add((x, y, OPPOSITE[came_in]))
            out, here = match if match is not None else (0, 0) if came_in < 0 else (1 << OPPOSITE[came_in], 0)
            for link in range(6):
                step = self._neighbour.get((x, y, link)) if out >> link & 1 else None
                if step is not None:
                    crossed.add((x, y, link))
                    queue.append((*step, OPPOSITE[link]))
            cores.update((x, y, core) for core in range(here.bit_length()) if here >> core & 1)
        return Trace(cores=frozenset(cores), links=frozenset(crossed), straight=frozenset(straight))


def walk_keys(mapping: Mapping[str, AnyArray]) -> dict[tuple[int, int], list[int]]:
    """Return, for each placed vertex with a key and each time for which its packets are held back (ticks), the placed vertices that those
    reach.

    Parameters
    ----------
    mapping
        ``placements`` (population, delays of population, first and last neuron, x, y, core, takes synapses), ``keys`` (placement row, key,
        mask), ``held`` (of each key: ticks that its packets are held back, bits of the colour; may be missing), ``entries`` and ``links``
        as in :class:`Tracer`.

    Notes
    -----
    A vertex's packets are those of ``key`` up to ``key | ~mask``; sPyNNaker's tables serve all of them alike, so the first is followed.
    """
    placements = np.asarray(mapping["placements"], np.int64)
    at = {(int(x), int(y), int(p)): row for row, (x, y, p) in enumerate(placements[:, 4:7])}
    tracer = Tracer(np.asarray(mapping["entries"], np.int64).tolist(), np.asarray(mapping["links"], np.int64).tolist())
    reached: dict[tuple[int, int], list[int]] = {}
    keys = np.asarray(mapping["keys"], np.int64)
    waits = mapping["held"][:, 0].tolist() if "held" in mapping else [0] * len(keys)
    for (row, key, _mask), wait in zip(keys.tolist(), waits, strict=True):
        found = tracer.trace(int(placements[row, 4]), int(placements[row, 5]), key).cores
        which = (row, int(wait))
        reached[which] = sorted(set(reached.get(which, ())) | {at[core] for core in found if core in at})
    return reached


def walk(mapping: Mapping[str, AnyArray]) -> dict[int, list[int]]:
    """Return, for each placed vertex with a key, the placed vertices that its packets reach, of all keys (:func:`walk_keys`)."""
    reached: dict[int, set[int]] = {}
    for (row, _), found in walk_keys(mapping).items():
        reached.setdefault(row, set()).update(found)
    return {row: sorted(found) for row, found in reached.items()}
