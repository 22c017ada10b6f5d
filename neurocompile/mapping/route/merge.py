"""Route groups that become one where few packets are delivered in vain: fewer entries of tables, for a price.

A group costs one entry at its own chip and about one at every other chip with a target of it. Two groups of a chip that become one send
their packets to the targets of both: the entries at chips that both need are saved, packets come to cores that drop them (*strays*), and
take ways that they would not have taken. Two become one if an entry, worth ``price`` strays, outweighs that; the pair that gains most goes
first, first among the groups of a part, then among what is left on a chip. As joining half of a part may cost more than joining all of it
saves, the whole part as one group is tried as well, and the cheaper answer taken.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from neurocompile.mapping.problem import FloatArray, Int32Array
from neurocompile.mapping.route.groups import Groups
from neurocompile.mapping.rows import distinct_rows, starts_of, take_rows, unite_rows
from neurocompile.mapping.types import Int64Array

ENTRY_PRICE = 24.0
"""Strays, each of a neuron that spikes once, that an entry is worth. At 10 Hz and 1 us for a packet that a core drops, a whole table
of 1,023 entries saved costs 0.25 of a core, 1.5 % of a chip of 16."""
HOP_PRICE = 1.0
"""Strays that a link passed by one more packet is worth."""
MOST_GROUPS = 1000
"""Groups looked at together (time is quadratic); more are taken in pieces of this size, in their order."""

UInt64Array = npt.NDArray[np.uint64]


def merge_groups(groups: Groups, part_chip: Int32Array, rates: FloatArray, *, price: float = ENTRY_PRICE) -> Groups:
    """Return groups of which several send to the targets of all of them.

    Groups of one part become one group; groups of other parts of the same chip keep their neurons and get the same targets.

    Parameters
    ----------
    part_chip
        Chip of each part.
    rates
        Spikes of each neuron per step. Strays count in relation to the mean of the neurons that send.
    price
        Strays that an entry is worth.
    """
    n = len(groups)
    if n < 2:
        return groups
    sending = rates[groups.neurons]
    mean = float(sending.mean())
    group_of = np.repeat(np.arange(n), np.diff(groups.neuron_start))
    weight: FloatArray = np.bincount(group_of, sending / mean if mean > 0 else np.ones(len(sending)), n).astype(np.float64)
    cluster = np.arange(n)
    chip = part_chip[groups.source_part]
    where, start, targets = groups.source_part, groups.target_start, groups.targets
    for level in range(2):
        order = np.argsort(where, kind="stable")
        leader = _merge_level(order, where[order], chip, weight, start, targets, part_chip, price, HOP_PRICE, MOST_GROUPS)
        leaders, number = np.unique(leader, return_inverse=True)
        members = np.argsort(number, kind="stable")
        start, targets = unite_rows(starts_of(np.bincount(number)), members, start, targets, len(part_chip))
        weight = np.bincount(number, weight, len(leaders)).astype(np.float64)
        cluster, chip = number[cluster], chip[leaders]
        if level == 0:
            where = chip
    return _with_targets(groups, cluster, start, targets)


def _with_targets(groups: Groups, cluster: Int64Array, start: Int64Array, targets: Int32Array) -> Groups:
    """Groups of one part and one cluster joined, with the cluster's targets."""
    number, first = distinct_rows(groups.source_part, np.arange(len(groups) + 1), cluster.astype(np.int32))
    neuron_number = np.repeat(number, np.diff(groups.neuron_start))
    target_start, found = take_rows(cluster[first], start, targets)
    neuron_start = starts_of(np.bincount(neuron_number, minlength=len(first)))
    deliveries = int((np.diff(neuron_start) * np.diff(target_start)).sum())
    return Groups(
        source_part=groups.source_part[first],
        neuron_start=neuron_start,
        neurons=groups.neurons[np.argsort(neuron_number, kind="stable")],
        target_start=target_start,
        targets=found,
        exact=groups.exact and deliveries == int((np.diff(groups.neuron_start) * np.diff(groups.target_start)).sum()),
    )


@numba.njit(cache=True, nogil=True)
def _merge_level(
    order: Int64Array,
    where: Int32Array,
    home: Int32Array,
    weight: FloatArray,
    start: Int64Array,
    targets: Int32Array,
    part_chip: Int32Array,
    price: float,
    hop_price: float,
    most: int,
) -> Int64Array:
    """Leader (a group's number) of each group after merging those with the same ``where``; ``home``: chip of each group."""
    found = np.arange(len(order))
    first = 0
    while first < len(order):
        last = first
        while last < len(order) and where[last] == where[first] and last - first < most:
            last += 1
        members = order[first:last]
        if last - first > 1:
            bits, chip_bits = _bits(members, home[members[0]], start, targets, part_chip)
            leader = _merge_pairs(bits, chip_bits, weight[members], price, hop_price)
            for i in range(last - first):
                found[members[i]] = members[leader[i]]
        first = last
    return found


@numba.njit(cache=True, nogil=True)
def _bits(members: Int64Array, home: int, start: Int64Array, targets: Int32Array, part_chip: Int32Array) -> tuple[UInt64Array, UInt64Array]:
    """Target parts, and their chips but ``home``, of each group as bits; numbered among those of these groups."""
    parts = np.full(len(part_chip), -1, np.int64)
    chips = np.full(int(part_chip.max()) + 1, -1, np.int64)
    n_parts, n_chips = 0, 0
    for g in members:
        for e in range(start[g], start[g + 1]):
            if parts[targets[e]] < 0:
                parts[targets[e]] = n_parts
                n_parts += 1
                chip = part_chip[targets[e]]
                if chip != home and chips[chip] < 0:
                    chips[chip] = n_chips
                    n_chips += 1
    bits = np.zeros((len(members), n_parts // 64 + 1), np.uint64)
    chip_bits = np.zeros((len(members), n_chips // 64 + 1), np.uint64)
    for i in range(len(members)):
        for e in range(start[members[i]], start[members[i] + 1]):
            p, c = parts[targets[e]], chips[part_chip[targets[e]]]
            bits[i, p // 64] |= np.uint64(1) << np.uint64(p % 64)
            if c >= 0:
                chip_bits[i, c // 64] |= np.uint64(1) << np.uint64(c % 64)
    return bits, chip_bits


@numba.njit(cache=True, nogil=True, inline="always")
def _ones(bits: np.uint64) -> int:
    """Bits that are set."""
    pairs = bits - ((bits >> np.uint64(1)) & np.uint64(0x5555555555555555))
    fours = (pairs & np.uint64(0x3333333333333333)) + ((pairs >> np.uint64(2)) & np.uint64(0x3333333333333333))
    eights = (fours + (fours >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return int((eights * np.uint64(0x0101010101010101)) >> np.uint64(56))


@numba.njit(cache=True, nogil=True)
def _gain(bits: UInt64Array, chip_bits: UInt64Array, weight: FloatArray, i: int, j: int, price: float, hop_price: float) -> float:
    """What is saved if groups i and j become one, in strays."""
    more_i, more_j, saved = 0.0, 0.0, 1.0
    for w in range(bits.shape[1]):
        more_i += _ones(bits[j, w] & ~bits[i, w])
        more_j += _ones(bits[i, w] & ~bits[j, w])
    for w in range(chip_bits.shape[1]):
        more_i += hop_price * _ones(chip_bits[j, w] & ~chip_bits[i, w])
        more_j += hop_price * _ones(chip_bits[i, w] & ~chip_bits[j, w])
        saved += _ones(chip_bits[i, w] & chip_bits[j, w])
    return float(price * saved - weight[i] * more_i - weight[j] * more_j)


@numba.njit(cache=True, nogil=True)
def _merge_pairs(bits: UInt64Array, chip_bits: UInt64Array, weight: FloatArray, price: float, hop_price: float) -> Int64Array:
    """Leader of each group: the pair that gains most becomes one, until none gains; or all become one, if that gains more."""
    n = len(weight)
    whole = _gain_of_all(bits, chip_bits, weight, price, hop_price)
    leader = np.arange(n)
    alive = np.ones(n, np.bool_)
    weight = weight.copy()
    best, value = np.full(n, -1, np.int64), np.full(n, -np.inf)  # best partner behind each group, and what it gains
    for i in range(n):
        for j in range(i + 1, n):
            v = _gain(bits, chip_bits, weight, i, j, price, hop_price)
            if v > value[i]:
                best[i], value[i] = j, v
    total = 0.0
    while True:
        i = int(np.argmax(value))
        if not value[i] > 0.0:
            break
        j = best[i]
        total += value[i]
        for w in range(bits.shape[1]):
            bits[i, w] |= bits[j, w]
        for w in range(chip_bits.shape[1]):
            chip_bits[i, w] |= chip_bits[j, w]
        weight[i] += weight[j]
        alive[j], value[j] = False, -np.inf
        leader[j] = i
        for k in range(n):
            if not alive[k]:
                continue
            if k == i or best[k] == i or best[k] == j:
                best[k], value[k] = -1, -np.inf
                for o in range(k + 1, n):
                    if alive[o]:
                        v = _gain(bits, chip_bits, weight, k, o, price, hop_price)
                        if v > value[k]:
                            best[k], value[k] = o, v
            elif k < i:
                v = _gain(bits, chip_bits, weight, k, i, price, hop_price)
                if v > value[k]:
                    best[k], value[k] = i, v
    if whole > total:
        leader[:] = 0
        return leader
    for k in range(n):
        while leader[leader[k]] != leader[k]:
            leader[k] = leader[leader[k]]
    return leader


@numba.njit(cache=True, nogil=True)
def _gain_of_all(bits: UInt64Array, chip_bits: UInt64Array, weight: FloatArray, price: float, hop_price: float) -> float:
    """What is saved if all groups become one, in strays."""
    all_bits, all_chips = np.zeros(bits.shape[1], np.uint64), np.zeros(chip_bits.shape[1], np.uint64)
    for i in range(len(weight)):
        all_bits |= bits[i]
        all_chips |= chip_bits[i]
    entries = 1
    for w in range(len(all_chips)):
        entries += _ones(all_chips[w])
    gain = -price * entries
    for i in range(len(weight)):
        more, own = 0.0, 1
        for w in range(len(all_bits)):
            more += _ones(all_bits[w] & ~bits[i, w])
        for w in range(len(all_chips)):
            more += hop_price * _ones(all_chips[w] & ~chip_bits[i, w])
            own += _ones(chip_bits[i, w])
        gain += price * own - weight[i] * more
    return gain


__all__ = ["ENTRY_PRICE", "merge_groups"]
