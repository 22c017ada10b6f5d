"""Whether a network has anything to find for a partitioner: do neurons with a common source share more sources than any two neurons?"""

from __future__ import annotations

import numpy as np

from neurocompile.mapping.partition.units import Units
from neurocompile.mapping.types import Int64Array

_SAMPLES = 150
_MOST_SOURCES = 5000  # sources of a unit that are looked at: the first ones, for all alike
_MORE = 1.5
_ODDS = 0.05  # common sources a pair by which chance may be passed


def is_structured(units: Units, *, seed: int = 1) -> bool:
    """Whether two targets of one source share clearly more other sources (1.5 times as many) than two units of the same class drawn alike.

    Without that, sources reach most parts whatever a part holds, and no search gains much. 150 pairs are drawn.
    """
    net = units.net
    rng = np.random.default_rng([seed, 4])
    senders = np.flatnonzero(np.diff(net.out_start) >= 2)
    if not len(senders):
        return False
    by_class = np.argsort(net.unit_class, kind="stable")
    ordered = net.unit_class[by_class]

    def sources(unit: int) -> Int64Array:
        first = int(net.in_start[unit])
        found: Int64Array = net.in_sources[first : min(first + _MOST_SOURCES, int(net.in_start[unit + 1]))].astype(np.int64)
        return found

    together = by_chance = 0
    for source in rng.choice(senders, _SAMPLES).tolist():
        targets = net.out_units[net.out_start[source] : net.out_start[source + 1]]
        one = int(rng.choice(targets))
        others = targets[(net.unit_class[targets] == net.unit_class[one]) & (targets != one)]
        first, last = np.searchsorted(ordered, [net.unit_class[one], net.unit_class[one] + 1])
        stranger = int(by_class[rng.integers(first, last)])
        if len(others) and stranger != one:
            own = sources(one)
            together += len(np.intersect1d(own, sources(int(rng.choice(others))))) - 1
            by_chance += len(np.intersect1d(own, sources(stranger)))
    return together > _MORE * by_chance + _ODDS * _SAMPLES


__all__ = ["is_structured"]
