"""Routes that become one: a brute-force account of strays, links and entries as oracle; what auto, exact and core promise of each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.mapping import MODES, MapOptions, map_network
from neurocompile.mapping.partition import partition
from neurocompile.mapping.place import place
from neurocompile.mapping.route import merge, route
from neurocompile.mapping.route.groups import Groups, group_neurons
from neurocompile.mapping.rows import distinct_rows, take_rows, unite_rows
from neurocompile.mapping.types import Int32Array

Factory = Callable[..., Any]
EXAMPLES = settings(max_examples=60, deadline=None)


# --- rows ---------------------------------------------------------------------------------------------------------------------


def csr(rows: list[list[int]]) -> tuple[Any, Int32Array]:
    return np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64), np.array([v for r in rows for v in r], np.int32)


ROWS = st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=12)


@EXAMPLES
@given(rows=ROWS, labels=st.lists(st.integers(0, 2), min_size=12, max_size=12))
def test_distinct_rows_are_numbered_as_they_come(rows: list[list[int]], labels: list[int]) -> None:
    number, first = distinct_rows(np.array(labels[: len(rows)], np.int32), *csr(rows))
    known: dict[tuple[int, tuple[int, ...]], int] = {}
    expected = [known.setdefault((label, tuple(row)), len(known)) for label, row in zip(labels, rows, strict=False)]
    assert number.tolist() == expected
    assert first.tolist() == [expected.index(i) for i in range(len(known))]


@EXAMPLES
@given(rows=ROWS, data=st.data())
def test_unions_and_selections_of_rows(rows: list[list[int]], data: st.DataObject) -> None:
    numbers = st.lists(st.integers(0, len(rows) - 1), max_size=3) if rows else st.just([])
    members = data.draw(st.lists(numbers, max_size=5))
    start, united = unite_rows(*((a.astype(np.int64)) for a in csr(members)), *csr(rows), 6)
    found = [united[start[i] : start[i + 1]].tolist() for i in range(len(members))]
    assert found == [sorted(set().union(*(rows[m] for m in some))) for some in members]
    taken_start, taken = take_rows(np.array(list(itertools.chain(*members)), np.int64), *csr(rows))
    assert [taken[b:e].tolist() for b, e in itertools.pairwise(taken_start)] == [rows[m] for some in members for m in some]


# --- merging ------------------------------------------------------------------------------------------------------------------


@st.composite
def instances(draw: st.DrawFn) -> tuple[Groups, Int32Array, Any]:
    """Up to seven groups of the parts of two chips, with targets on up to five chips; rates of the neurons."""
    n_parts = draw(st.integers(2, 8))
    chip = np.array(draw(st.lists(st.integers(0, 4), min_size=n_parts, max_size=n_parts)), np.int32)
    row = st.tuples(st.integers(0, 1), st.integers(1, 4), st.frozensets(st.integers(0, n_parts - 1), min_size=1))
    rows = draw(st.lists(row, min_size=1, max_size=7, unique_by=lambda r: (r[0], r[2])))
    rows.sort(key=lambda row: row[0])
    sizes = [n for _, n, _ in rows]
    target_start, targets = csr([sorted(to) for _, _, to in rows])
    groups = Groups(
        source_part=np.array([part for part, _, _ in rows], np.int32),
        neuron_start=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        neurons=np.arange(sum(sizes), dtype=np.int32),
        target_start=target_start,
        targets=targets,
        exact=True,
    )
    rates = np.array(draw(st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=sum(sizes), max_size=sum(sizes))))
    return groups, chip, rates


def targets_of(groups: Groups) -> dict[int, frozenset[int]]:
    """Target parts of each neuron."""
    found = {}
    for g in range(len(groups)):
        to = frozenset(groups.targets[groups.target_start[g] : groups.target_start[g + 1]].tolist())
        found.update(dict.fromkeys(groups.neurons[groups.neuron_start[g] : groups.neuron_start[g + 1]].tolist(), to))
    return found


def part_of(groups: Groups) -> dict[int, int]:
    return dict(zip(groups.neurons.tolist(), np.repeat(groups.source_part, np.diff(groups.neuron_start)).tolist(), strict=True))


def cost(groups: Groups, merged: dict[int, frozenset[int]], chip: Int32Array, rates: Any, price: float) -> float:
    """What merge_groups lowers: deliveries, chips passed beside the source's, and entries at ``price``, one for each chip of each set of
    targets of a chip."""
    home = {n: int(chip[p]) for n, p in part_of(groups).items()}
    weight = rates / rates[groups.neurons].mean()
    total = 0.0
    for neuron, to in merged.items():
        away = {int(chip[t]) for t in to} - {home[neuron]}
        total += weight[neuron] * (len(to) + merge.HOP_PRICE * len(away))
    for here, to in {(home[n], to) for n, to in merged.items()}:
        total += price * (1 + len({int(chip[t]) for t in to} - {here}))
    return total


@EXAMPLES
@given(instance=instances(), price=st.sampled_from([0.0, 0.7, 3.0, 24.0, 1e9]))
def test_merging_loses_no_target_and_costs_no_more_than_exact_or_by_core(instance: tuple[Groups, Int32Array, Any], price: float) -> None:
    groups, chip, rates = instance
    found = merge.merge_groups(groups, chip, rates, price=price)
    before, after = targets_of(groups), targets_of(found)
    assert part_of(found) == part_of(groups)
    assert all(before[n] <= after[n] for n in before)
    assert found.exact is (before == after)
    rows = [
        (int(p), frozenset(found.targets[b:e].tolist()))
        for p, b, e in zip(found.source_part, found.target_start, found.target_start[1:], strict=False)
    ]
    assert len(rows) == len(set(rows))  # neurons of one part with the same targets are one group
    assert [p for p, _ in rows] == sorted(p for p, _ in rows)
    union: dict[int, frozenset[int]] = {}
    for neuron, p in part_of(groups).items():
        union[p] = union.get(p, frozenset()) | before[neuron]
    by_core = {n: union[p] for n, p in part_of(groups).items()}
    least = cost(groups, after, chip, rates, price)
    # Sums of floats in another order: 1e-9 relative.
    assert least <= min(cost(groups, other, chip, rates, price) for other in (before, by_core)) * (1 + 1e-9)
    if price == 0.0:
        assert after == before
    if price == 1e9:
        for c in set(chip[groups.source_part].tolist()):
            assert len({after[n] for n, p in part_of(groups).items() if chip[p] == c}) == 1


def partitions_of(things: list[int]) -> Iterator[list[list[int]]]:
    """All ways to put things into sets."""
    if not things:
        yield []
        return
    for rest in partitions_of(things[1:]):
        yield [[things[0]], *rest]
        for i in range(len(rest)):
            yield [*rest[:i], [things[0], *rest[i]], *rest[i + 1 :]]


@EXAMPLES
@given(instance=instances(), price=st.sampled_from([0.7, 3.0, 24.0]))
def test_merging_is_near_the_best_of_all_groupings(instance: tuple[Groups, Int32Array, Any], price: float) -> None:
    """Against every grouping of the groups of a chip: 99 % of 4,000 random instances are the best there is, the worst costs 1.11."""
    groups, chip, rates = instance
    own = targets_of(groups)
    members = [groups.neurons[b:e].tolist() for b, e in itertools.pairwise(groups.neuron_start.tolist())]
    best = float("inf")
    for sets in partitions_of(list(range(len(groups)))):
        if any(len({int(chip[groups.source_part[g]]) for g in some}) > 1 for some in sets):
            continue
        merged = {n: frozenset().union(*(own[members[h][0]] for h in some)) for some in sets for g in some for n in members[g]}
        best = min(best, cost(groups, merged, chip, rates, price))
    found = cost(groups, targets_of(merge.merge_groups(groups, chip, rates, price=price)), chip, rates, price)
    assert best * (1 - 1e-9) <= found <= 1.2 * best


def test_more_groups_than_are_looked_at_together(problem: Factory, machine: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    network, made = problem(sizes=(20, 100), external=(True, False), density=0.05, neurons=20), machine()
    parts = partition(network)
    chip = place(network, parts, made).chip
    groups = group_neurons(network, parts, exact=True)
    whole = merge.merge_groups(groups, chip, network.rates, price=2.0)
    monkeypatch.setattr(merge, "MOST_GROUPS", 3)
    pieces = merge.merge_groups(groups, chip, network.rates, price=2.0)
    own = targets_of(groups)
    assert len(whole) < len(pieces) < len(groups)
    assert all(own[n] <= to for n, to in targets_of(pieces).items())


def test_what_never_spikes_is_merged_freely(problem: Factory, machine: Factory) -> None:
    """Strays of silent neurons cost nothing, so all of a chip share their targets at any price."""
    network, made = problem(sizes=(60,), external=(False,), density=0.05, neurons=6), machine(cores=7)
    network = replace(network, rate=np.where(np.arange(60) < 30, 0.0, 1.0))
    parts = partition(network)
    placement = place(network, parts, made)
    routes = route(network, parts, placement, made, mode="auto", price=1e-6)
    silent: dict[int, set[tuple[int, ...]]] = {}
    for r in routes:
        if network.rate[r.neurons].sum() == 0.0:
            silent.setdefault(int(placement.chip[r.source_part]), set()).add(tuple(r.target_parts.tolist()))
    assert silent
    assert all(len(sets) == 1 for sets in silent.values())


# --- the whole mapper ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("routing", "kind"), [("multicast_tcam", "hex_torus"), ("destination", "mesh")])
@pytest.mark.parametrize("routes", MODES)
def test_every_mode_delivers_every_packet(problem: Factory, machine: Factory, oracle: Any, routes: str, routing: str, kind: str) -> None:
    network = problem(sizes=(15, 90, 20), density=0.05, neurons=7, widths=(1, 1, 2))
    made = machine(kind=kind, routing=routing, dead_chips=[5], dead_links=[(1, 0)])
    mapping = map_network(network, made, MapOptions(routes=routes))
    oracle.check(network, mapping, made)
    assert mapping.routes.exact is (routes == "exact" or (routes == "auto" and routing == "destination"))
    sharing: Any = mapping.traffic["sharing"]
    own = sum(len(oracle.target_parts(network, mapping.partition.part.tolist(), n)) for n in range(network.n_neurons))
    reached = sum(map(len, oracle.wanted(network, mapping).values()))
    assert (sharing["asked"], sharing["deliveries"], sharing["stray_deliveries"]) == (routes, own, reached - own)


def test_the_dearer_an_entry_the_fewer_entries_and_the_more_strays(problem: Factory, machine: Factory) -> None:
    network = problem(sizes=(20, 300), external=(True, False), density=0.02, neurons=12)
    made = machine(width=5, height=5)
    parts = partition(network)
    placement = place(network, parts, made)
    deliveries, entries = [], []
    for price in (0.0, 2.0, 8.0, 1e9):
        routes = route(network, parts, placement, made, mode="auto", price=price)
        deliveries.append(int((np.diff(routes.neuron_start) * np.diff(routes.target_start)).sum()))
        blocks = {(int(routes.tree[i]), r.target_parts.tobytes()): len(r.hops) + 1 for i, r in enumerate(routes)}
        entries.append(sum(blocks.values()))
    assert deliveries == sorted(set(deliveries))
    assert entries == sorted(set(entries), reverse=True)


def test_an_unknown_mode_is_an_error(problem: Factory, machine: Factory) -> None:
    network, made = problem(), machine()
    parts = partition(network)
    with pytest.raises(ValueError, match="no routes 'every'; there are auto, exact, core"):
        route(network, parts, place(network, parts, made), made, mode="every")
