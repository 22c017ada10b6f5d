"""Annealing: units move at random, the better a part the likelier, while the temperature falls; every limit holds all the time.

Where gains alone end in the next local optimum, as on networks without any structure, this goes on. Heat bath (Geman and Geman 1984) over
the parts that a unit has something to do with, exact gains, exchanges with units that want to come the other way.
"""

from __future__ import annotations

import numba
import numpy as np

from neurocompile.mapping import _random
from neurocompile.mapping._random import gumbel, uniform
from neurocompile.mapping.partition._moves import fits, move, scan, try_swap
from neurocompile.mapping.partition._state import Scratch, State, new_scratch, new_state, weighted_km1
from neurocompile.mapping.partition.improve import WISHES, compress, refine, room_of, with_axons_out
from neurocompile.mapping.partition.units import Net, Units
from neurocompile.mapping.problem import Int32Array

_HOT, _COLD = 2.0, 0.2  # first and last temperature, in mean spikes of a source
_WORK = 100_000_000  # pins to look at in all rounds together
FEWEST_ROUNDS, MOST_ROUNDS = 10, 40


def anneal(units: Units, part: Int32Array, *, seed: int = 1, most_rounds: int = MOST_ROUNDS) -> Int32Array:
    """Return a partition of units with no more rate-weighted km1, and no more parts, than ``part``, which keeps every limit."""
    net = units.net
    n_parts = int(part.max(initial=-1)) + 1
    weight = net.weight[np.diff(net.out_start) > 0]
    mean = float(weight.mean()) if len(weight) else 0.0
    if n_parts < 2 or mean <= 0.0:
        return part
    rng = np.random.default_rng([seed, 3])
    random = np.array([seed], np.uint64)
    wish, wish_part = np.full(WISHES, -1, np.int32), np.full(WISHES, -1, np.int32)
    scratch = new_scratch(net, n_parts)
    before = weighted_km1(net, new_state(net, part, n_parts, room_of(net)))
    found = part
    rounds = int(np.clip(_WORK // max(len(net.out_units), 1), FEWEST_ROUNDS, most_rounds))
    for i in range(rounds):
        temperature = mean * _HOT * (_COLD / _HOT) ** (i / (rounds - 1))
        state = new_state(net, found, n_parts, room_of(net))
        order = rng.permutation(units.order)
        order = order[np.argsort(rng.permutation(n_parts)[found[order]], kind="stable")]  # neighbours share sources: they are in the cache
        _shake(net, state, scratch, order, wish, wish_part, with_axons_out(net), temperature, random)
        found = state.part
    found = refine(units, compress(found), rng)
    after = weighted_km1(net, new_state(net, found, n_parts, room_of(net)))
    return found if after < before else part


@numba.njit(cache=True, nogil=True)
def _shake(
    net: Net,
    st: State,
    sc: Scratch,
    order: Int32Array,
    wish: Int32Array,
    wish_part: Int32Array,
    with_out: bool,
    temperature: float,
    random: _random.State,
) -> None:
    """One round over ``order``: each unit draws a part, and goes there if it fits, or in exchange for a unit that wants to come back.

    ``wish``, ``wish_part``: memory of (unit, where it wants to go) between rounds, -1 at first.
    """
    n_parts = len(st.size)
    for at in range(len(order)):
        u = order[at]
        a = st.part[u]
        n, base, _ = scan(net, st, sc, u)
        best = -1
        best_value = temperature * gumbel(random)
        for i in range(n):
            p = sc.touched[i]
            gain = base + sc.score[p]
            # What would come once in exp(8) times is not drawn for.
            if p != a and gain > -8.0 * temperature and st.part_class[p] == net.unit_class[u]:
                value = gain + temperature * gumbel(random)
                if value > best_value:
                    best, best_value = p, value
        if best < 0:
            continue
        if fits(net, st, sc, u, best, with_out):
            move(net, st, u, best)
            continue
        slot = (np.int64(best) * n_parts + a) % len(wish)
        v = wish[slot]
        if v >= 0 and v != u and st.part[v] == best and wish_part[slot] == a:
            least = temperature * np.log(uniform(random) + 1e-17)
            if try_swap(net, st, sc, u, v, base + sc.score[best], with_out, least):
                wish[slot] = -1
                continue
        slot = (np.int64(a) * n_parts + best) % len(wish)
        wish[slot] = u
        wish_part[slot] = best


__all__ = ["anneal"]
