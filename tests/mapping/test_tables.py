"""Keys, entries, default routing and minimisation; the HPSR 2016 benchmark tables and PACMAN's table comparison as oracles."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.ir.errors import DoesNotFitError, MismatchError
from neurocompile.machine import Machine
from neurocompile.mapping import MODES, MapOptions, map_network
from neurocompile.mapping.tables import minimise, minimise_ordered
from neurocompile.mapping.tables.files import read_tables
from neurocompile.mapping.tables.keys import allocate_keys
from neurocompile.mapping.types import Mapping, Route, Routes
from neurocompile.mapping.verify_table import verify_table

Factory = Callable[..., Any]
UInt32Array = npt.NDArray[np.uint32]
NO_HOPS = np.zeros((0, 3), np.int32)


def first_match(key: UInt32Array, mask: UInt32Array, wanted: UInt32Array) -> npt.NDArray[np.int64]:
    """Number of the first entry that each wanted key matches, -1 for none."""
    hits = np.pad(wanted[:, None] & mask[None, :] == key[None, :], ((0, 0), (0, 1)), constant_values=True)
    found = hits.argmax(axis=1)
    return np.where(found < len(key), found, -1)


def routes_of(*groups: tuple[int, int]) -> Routes:
    """Routes of (source part, number of neurons) groups; neurons numbered through."""
    at, found = 0, []
    for part, n in groups:
        neurons = np.arange(at, at + n, dtype=np.int32)
        found.append(Route(neurons=neurons, source_part=part, target_parts=np.zeros(1, np.int32), hops=NO_HOPS))
        at += n
    return Routes.of(sorted(found, key=lambda r: r.source_part), exact=True)


# --- keys ---------------------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(groups=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 40)), max_size=25))
def test_keys_are_distinct_and_each_block_is_one_key_and_mask(groups: list[tuple[int, int]]) -> None:
    routes = routes_of(*groups)
    n = sum(size for _, size in groups)
    chip = np.array([0, 1, 1, 0, 2, 1, 0], np.int32)  # of each part
    keys = allocate_keys(routes, chip, n + 3, 32)
    key, has_key, base, size = keys.neuron_key, keys.has_key, keys.base, keys.size
    assert keys.block.tolist() == keys.route.tolist() == list(range(len(routes)))  # each has a tree of its own
    assert has_key.tolist() == [True] * n + [False] * 3
    assert len(set(key[:n].tolist())) == n
    taken: set[int] = set()
    for r, first, block in zip(routes, base.tolist(), size.tolist(), strict=True):
        assert first % block == 0
        assert block == min(1 << b for b in range(7) if 1 << b >= len(r.neurons))
        assert {k & ~(block - 1) for k in key[r.neurons].tolist()} == {first}
        assert not taken & set(range(first, first + block))
        taken |= set(range(first, first + block))
    for here in {chip[p] for p, _ in groups}:
        # All blocks of a chip lie in one aligned block of the least power of two that holds them: one entry can stand for a chip.
        mine = [(b, s) for r, b, s in zip(routes, base.tolist(), size.tolist(), strict=True) if chip[r.source_part] == here]
        span = 1 << (sum(s for _, s in mine) - 1).bit_length()
        assert len({b // span for b, _ in mine}) == len({(b + s - 1) // span for b, s in mine}) == 1


def test_routes_with_one_tree_and_the_same_targets_share_a_block() -> None:
    """Two parts of a chip with 3 + 4 neurons: 8 keys, one after the other. Another tree, or other targets, means another block."""
    one, other = np.array([1], np.int32), np.array([1, 2], np.int32)
    rows = (((0, 3), 0, one), ((3, 7), 1, one), ((7, 8), 1, other), ((8, 9), 2, one))
    routes = Routes.of(
        (Route(neurons=np.arange(*span, dtype=np.int32), source_part=p, target_parts=to, hops=NO_HOPS) for span, p, to in rows), exact=False
    )
    routes = replace(routes, tree=np.array([0, 0, 0, 1], np.int32))
    keys = allocate_keys(routes, np.zeros(3, np.int32), 9, 32)
    assert keys.block.tolist() == [0, 0, 1, 2]
    assert keys.size.tolist() == [8, 1, 1]
    assert keys.neuron_key.tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9]


# Blocks of chips need [(0, 5), (1, 3)] -> 8 + 4; three chips with 3 + 3 + 2 need 8 together.
@pytest.mark.parametrize(("groups", "need"), [([(0, 5), (1, 3)], 12), ([(0, 1)], 1), ([(0, 8), (0, 1)], 9), ([(0, 2), (0, 1), (1, 1)], 4)])
def test_keys_run_out_exactly_where_the_blocks_do(groups: list[tuple[int, int]], need: int) -> None:
    bits = (need - 1).bit_length()
    n = sum(size for _, size in groups)
    routes, chip = routes_of(*groups), np.arange(2, dtype=np.int32)
    key = allocate_keys(routes, chip, n, bits).neuron_key
    assert key.max() < 1 << bits
    assert len(set(key.tolist())) == n
    if bits:
        with pytest.raises(DoesNotFitError, match=f"NC406.*need {need} keys .*packets have {bits - 1} key bits"):
            allocate_keys(routes, chip, n, bits - 1)


# --- minimisation -------------------------------------------------------------------------------------------------------------


@st.composite
def tables(draw: st.DrawFn) -> tuple[UInt32Array, UInt32Array, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Disjoint entries over 8-bit keys: aligned blocks of different sizes, few routes, some default-routed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_routes, p_default, p_entry = draw(st.integers(1, 6)), draw(st.sampled_from([0.0, 0.3, 1.0])), draw(st.sampled_from([0.2, 0.7, 1.0]))
    key, mask = [], []
    at = 0
    while at < 256:
        size = 1 << int(rng.integers(0, 4))
        size = min(size, at & -at or 256)
        if rng.random() < p_entry:
            key.append(at)
            mask.append(0xFFFFFFFF & ~(size - 1))
        at += size
    n = len(key)
    return np.array(key, np.uint32), np.array(mask, np.uint32), rng.integers(0, n_routes, n) * 7, rng.random(n) < p_default


@settings(max_examples=200, deadline=None)
@given(table=tables())
def test_a_minimised_table_routes_every_key_as_before(
    table: tuple[UInt32Array, UInt32Array, npt.NDArray[np.int64], npt.NDArray[np.bool_]],
) -> None:
    key, mask, route, default = table
    new_key, new_mask, new_route = minimise(key, mask, route, default)
    every = np.arange(256, dtype=np.uint32)
    before, after = first_match(key, mask, every), first_match(new_key, new_mask, every)
    for k in np.flatnonzero(before >= 0).tolist():
        if default[before[k]]:
            assert after[k] == -1, "a default-routed key is caught"
        else:
            assert after[k] >= 0
            assert new_route[after[k]] == route[before[k]]
    kept = int((~default).sum())
    assert len(np.unique(route[~default])) <= len(new_key) <= kept
    assert not (new_key & ~new_mask).any()


def test_minimisation_of_known_tables() -> None:
    full = 0xFFFFFFFF

    def run(rows: list[tuple[int, int, int]], default: list[bool] | None = None) -> set[tuple[int, int, int]]:
        k, m, r = (np.array(column) for column in zip(*rows, strict=True))
        found = minimise(k.astype(np.uint32), m.astype(np.uint32), r.astype(np.int64), np.array(default or [False] * len(rows)))
        return set(zip(*(column.tolist() for column in found), strict=True))

    assert run([(0, full, 5), (1, full, 5)]) == {(0, full - 1, 5)}
    assert run([(0, full, 5), (3, full, 5)]) == {(0, full - 3, 5)}  # 1 and 2 are nobody's keys
    # (0, 3) would catch 1, which goes elsewhere; the rarer route comes first and shields it.
    assert run([(0, full, 5), (3, full, 5), (1, full, 6)]) == {(1, full, 6), (0, full - 3, 5)}
    # The same, but 1 is default-routed: nothing can shield a key without an entry.
    assert run([(0, full, 5), (3, full, 5), (1, full, 6)], [False, False, True]) == {(0, full, 5), (3, full, 5)}
    assert run([(4, full, 5), (5, full, 6)], [True, True]) == set()


def test_target_length_rounds_and_time_limit_say_when_to_stop() -> None:
    """400 random keys of 40 routes: pair merges first, then rounds; the fewest entries come last, and each stop is honoured."""
    rng = np.random.default_rng(3)
    key = rng.choice(4096, 400, replace=False).astype(np.uint32)
    mask, route = np.full(400, 0xFFFFFFFF, np.uint32), rng.integers(0, 40, 400)
    none = np.zeros(400, bool)

    def length(**options: Any) -> int:
        new_key, new_mask, new_route = minimise(key, mask, route, none, **options)
        verify_table("random", key, mask, route, none, new_key, new_mask, new_route)
        return len(new_key)

    merged, shortest = length(rounds=0), length()
    assert shortest < 0.95 * merged  # moves gain 4 % on the public tables, more where routes are few
    assert length(time_limit=0.0) == merged
    assert length(target_length=400) == merged  # met before any round
    between = (merged + shortest) // 2
    assert shortest <= length(target_length=between) <= between < merged
    assert shortest <= length(rounds=1) < merged
    again = [minimise(key, mask, route, none) for _ in range(2)]
    assert all(np.array_equal(a, b) for a, b in zip(*again, strict=True))


@pytest.mark.parametrize(
    ("name", "uncompressed", "without_default", "espresso", "distinct"),
    [("gaussian", 155_918, 147_552, 130_324, 85_989), ("centroid", 164_873, 157_270, 140_683, 97_694)],
)
def test_benchmark_tables(shared: Path, name: str, uncompressed: int, without_default: int, espresso: int, distinct: int) -> None:
    """The public tables of Mundy, Heathcote and Garside (HPSR 2016): same routes for all keys, and fewer entries than published.

    Totals of the uncompressed tables, without default routes, by order-exploiting Espresso (the best published; 2 tables longer than
    1,023), and distinct routes: reference/mapping.md.
    """
    path = shared / "data" / "routing_tables" / f"{name}_12_12_xyp.bin.xz"
    if not path.is_file():
        pytest.skip(f"benchmark tables not found at {path}")
    total = dict.fromkeys(("all", "kept", "fitting", "shortest", "routes"), 0)
    for table in read_tables(path):
        default, route = table.default, table.route.astype(np.int64)
        for goal, target_length in (("fitting", 1023), ("shortest", 0)):
            new_key, new_mask, new_route = minimise(table.key, table.mask, route, default, target_length=target_length)
            verify_table("benchmark", table.key, table.mask, route, default, new_key, new_mask, new_route)
            # Once more without the verifier: masks only lose bits, so the lowest key of an entry stands for all its keys.
            after = first_match(new_key, new_mask, table.key)
            assert ((after < 0) == default).all()
            assert (new_route[after[~default]] == route[~default]).all()
            assert len(np.unique(route[~default])) <= len(new_key) <= 1023
            total[goal] += len(new_key)
        assert np.unique(table.mask).tolist() == [0xFFFFF800]
        total["all"] += len(table.key)
        total["kept"] += int((~default).sum())
        total["routes"] += len(np.unique(route))
    assert total["all"] == uncompressed
    assert total["kept"] == without_default
    assert total["routes"] == distinct
    assert total["fitting"] < espresso
    assert total["shortest"] < 0.96 * espresso  # measured 124,253 and 134,581


# --- tables in which entries overlap ------------------------------------------------------------------------------------------


@st.composite
def overlapping(draw: st.DrawFn) -> tuple[UInt32Array, UInt32Array, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Random cubes over 8-bit keys: they overlap, cover each other, repeat."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(0, 25))
    loose = rng.random((n, 8)) < draw(st.sampled_from([0.0, 0.2, 0.5, 0.9]))
    mask = (0xFFFFFF00 | ((~loose) << np.arange(8)).sum(axis=1)).astype(np.uint32)
    key = rng.integers(0, 256, n).astype(np.uint32) & mask
    return key, mask, rng.integers(0, draw(st.integers(1, 5)), n) * 3, rng.random(n) < draw(st.sampled_from([0.0, 0.3, 1.0]))


Table = tuple[UInt32Array, UInt32Array, npt.NDArray[np.int64], npt.NDArray[np.bool_]]


@settings(max_examples=300, deadline=None)
@given(table=overlapping())
def test_overlapping_tables_route_every_key_as_before(table: Table) -> None:
    key, mask, route, default = table
    new_key, new_mask, new_route, whole = minimise_ordered(key, mask, route, default)
    every = np.arange(256, dtype=np.uint32)
    before, after = first_match(key, mask, every), first_match(new_key, new_mask, every)
    for k in np.flatnonzero(before >= 0).tolist():
        if whole and default[before[k]]:
            assert after[k] == -1, "a default-routed key is caught"
        elif after[k] < 0:
            assert default[before[k]]
        else:
            assert new_route[after[k]] == route[before[k]]
    assert len(new_key) <= len(key)


@settings(max_examples=300, deadline=None)
@given(table=overlapping(), seed=st.integers(0, 2**32 - 1))
def test_the_verifier_of_tables_complains_if_and_only_if_a_key_is_routed_otherwise(table: Table, seed: int) -> None:
    """Random changes of random tables; every key alone, by brute force, says whether they do harm."""
    key, mask, route, default = table
    rng = np.random.default_rng(seed)
    new = [key.copy(), mask.copy(), route.copy()]
    if len(key):
        kind, i = rng.integers(0, 4), int(rng.integers(0, len(key)))
        if kind == 0:
            new = [np.delete(column, i) for column in new]
        elif kind == 1:
            new[1][i] &= ~np.uint32(1 << int(rng.integers(0, 8)))
            new[0] &= new[1]
        elif kind == 2:
            new[2][i] = rng.integers(0, 5) * 3
        else:
            order = rng.permutation(len(key))
            new = [column[order] for column in new]
    every = np.arange(256, dtype=np.uint32)
    before, after = first_match(key, mask, every), first_match(new[0], new[1], every)
    harm = False
    for k in np.flatnonzero(before >= 0).tolist():
        harm |= (not default[before[k]]) if after[k] < 0 else bool(new[2][after[k]] != route[before[k]])
    with pytest.raises(MismatchError, match="NC609") if harm else nullcontext():
        verify_table("random", key, mask, route, default, new[0], new[1], new[2])


def test_overlaps_beyond_the_bound_leave_the_table_as_it_was() -> None:
    """Pieces grow with every overlap in other bits; covered entries go all the same."""
    rng = np.random.default_rng(0)
    n = 300
    bits = np.array([rng.choice(32, 12, replace=False) for _ in range(n)])
    mask = np.zeros(n, np.uint32)
    np.bitwise_or.at(mask, np.repeat(np.arange(n), 12), (np.uint32(1) << bits.astype(np.uint32)).ravel())
    key = rng.integers(0, 2**32, n, dtype=np.uint32) & mask
    key, mask = np.append(key, key[7]), np.append(mask, mask[7])
    route, none = np.arange(n + 1), np.zeros(n + 1, bool)
    new_key, new_mask, new_route, whole = minimise_ordered(key, mask, route, none)
    assert not whole
    assert new_route.tolist() == list(range(n))
    assert np.array_equal(new_key, key[:-1])
    assert np.array_equal(new_mask, mask[:-1])


# --- entries ------------------------------------------------------------------------------------------------------------------


def unminimised(mapping: Mapping, machine: Machine, oracle: Any) -> dict[int, list[tuple[int, int, int, frozenset[int], int | None]]]:
    """Entries of each chip before minimisation, straight from the trees: (key, mask, links, cores, link over which packets arrive)."""
    keys = allocate_keys(mapping.routes, mapping.placement.chip, len(mapping.partition.part), int(machine.value("router.key_bits")))
    cores = oracle.cores_of(mapping, machine)
    found: dict[int, list[tuple[int, int, int, frozenset[int], int | None]]] = {}
    for r, number in zip(mapping.routes, keys.block.tolist(), strict=True):
        first, block = int(keys.base[number]), int(keys.size[number])
        links: dict[int, int] = {int(mapping.placement.chip[r.source_part]): 0}
        came: dict[int, int] = {}
        for chip, link, following in r.hops.tolist():
            links[chip] = links.get(chip, 0) | 1 << link
            links.setdefault(following, 0)
            came[following] = link
        local = {core for p in r.target_parts.tolist() for core in cores[p]}
        for chip, out in links.items():
            here = frozenset(core for c, core in local if c == chip)
            entry = (first, 0xFFFFFFFF & ~(block - 1), out, here, came.get(chip))
            if entry not in found.setdefault(chip, []):  # routes of several parts that share a block
                found[chip].append(entry)
    return found


@pytest.mark.parametrize("kind", ["mesh", "hex", "hex_torus"])
@pytest.mark.parametrize("routes", MODES)
def test_tables_equal_the_unminimised_ones_for_every_key(problem: Factory, machine: Factory, oracle: Any, kind: str, routes: str) -> None:
    network = problem(sizes=(20, 120, 20), density=0.04, neurons=6, widths=(1, 1, 2))
    made = machine(kind=kind, width=7, height=7, cores=3, entries=65)
    mapping = map_network(network, made, MapOptions(routes=routes))
    assert mapping.routes.exact is (routes == "exact")
    full = unminimised(mapping, made, oracle)
    assert {chip: len(rows) for chip, rows in full.items()} == mapping.tables.unminimised_entries
    n_default = 0
    for chip, rows in full.items():
        for key, mask, links, cores, came in rows:
            for k in range(key, key + (0xFFFFFFFF & ~mask) + 1):
                entry = oracle.lookup(mapping.tables.tables.get(chip), k)
                if entry is None:
                    assert came is not None, "a packet's own chip has no entry for it"
                    assert (links, cores) == (1 << came, frozenset())
                    n_default += 1
                else:
                    assert entry == (links, cores)
    assert n_default > 0, "no straight run: the test shows nothing about default routing"
    assert sum(map(len, full.values())) > sum(len(t.key) for t in mapping.tables.tables.values())


def test_cores_beyond_the_first_word(problem: Factory, machine: Factory, oracle: Any) -> None:
    """More than 64 cores a chip: masks of several words."""
    network = problem(sizes=(10, 280), external=(True, False), density=0.02, neurons=1)
    made = machine(width=2, height=1, cores=150, entries=10_000)
    mapping = map_network(network, made)
    assert {t.cores.shape[1] for t in mapping.tables.tables.values()} == {3}
    assert any(t.cores[:, 2].any() for t in mapping.tables.tables.values())
    oracle.check(network, mapping, made)


def test_axons_of_a_destination_machine_are_sorted_and_lead_to_first_cores(problem: Factory, machine: Factory, oracle: Any) -> None:
    network = problem(sizes=(20, 60, 10), widths=(1, 2, 1))
    made = machine(kind="mesh", routing="destination")
    mapping = map_network(network, made)
    rows = [tuple(row) for row in mapping.tables.axons.tolist()]
    part, cores = mapping.partition.part.tolist(), oracle.cores_of(mapping, made)
    assert rows == sorted({(n, *cores[p][0]) for n in range(network.n_neurons) for p in oracle.target_parts(network, part, n)})
    assert mapping.tables.tables == {}
    assert not mapping.tables.has_key.any()


# --- PACMAN -------------------------------------------------------------------------------------------------------------------


def _pacman_table(rows: list[tuple[int, int, int, frozenset[int], int | None]]) -> Any:
    from pacman.model.routing_tables import CompressedMulticastRoutingTable
    from spinn_machine import MulticastRoutingEntry, RoutingEntry

    def bits(word: int) -> list[int]:
        return [i for i in range(word.bit_length()) if word >> i & 1]

    return CompressedMulticastRoutingTable(
        0,
        0,
        [
            MulticastRoutingEntry(
                key, mask, RoutingEntry(processor_ids=cores, link_ids=bits(links), incoming_link=None if came is None else (came + 3) % 6)
            )
            for key, mask, links, cores, came in rows
        ],
    )


def _ours(mapping: Mapping, chip: int, oracle: Any) -> list[tuple[int, int, int, frozenset[int], int | None]]:
    table = mapping.tables.tables.get(chip)
    return [] if table is None else [(*entry, None) for entry in oracle.entries(table)]


@pytest.fixture(scope="module")
def pacman() -> Any:
    """PACMAN's checker of compressed tables, set up to run alone."""
    checker = pytest.importorskip("pacman.operations.router_compressors.routing_compression_checker", reason="PACMAN is not installed")
    from pacman.config_setup import unittest_setup
    from spinn_utilities.config_holder import set_config

    unittest_setup()
    set_config("Machine", "version", "5")
    return checker


def test_pacman_finds_our_tables_equal_to_the_unminimised_ones(pacman: Any, problem: Factory, machine: Factory, oracle: Any) -> None:
    from pacman.exceptions import PacmanRoutingException

    network = problem(sizes=(20, 160), external=(True, False), density=0.03, neurons=6)
    made = machine(kind="hex", width=5, height=4, cores=4)
    mapping = map_network(network, made, MapOptions(routes="exact"))
    full = unminimised(mapping, made, oracle)
    assert len(full) > 10
    n_refused = 0
    for chip, rows in full.items():
        ours = _ours(mapping, chip, oracle)
        pacman.compare_tables(_pacman_table(rows), _pacman_table(ours))
        if ours:  # PACMAN's comparison must be able to fail: the last entry sent elsewhere
            key, mask, links, cores, _ = ours[-1]
            with pytest.raises(PacmanRoutingException):
                pacman.compare_tables(_pacman_table(rows), _pacman_table([*ours[:-1], (key, mask, links ^ 1, cores, None)]))
            n_refused += 1
    assert n_refused > 10


def test_we_need_no_more_entries_than_pacmans_pair_compressor(pacman: Any, problem: Factory, machine: Factory, oracle: Any) -> None:
    """The same tables through PACMAN's compressor, which is a pair merge of the same kind (and keeps default routes)."""
    from pacman.operations.router_compressors.pair_compressor import _PairCompressor

    network = problem(sizes=(20, 160), external=(True, False), density=0.03, neurons=6)
    made = machine(kind="hex", width=5, height=4, cores=4)
    mapping = map_network(network, made, MapOptions(routes="exact"))
    theirs = ours = 0
    for chip, rows in unminimised(mapping, made, oracle).items():
        theirs += len(_PairCompressor().compress_table(_pacman_table(rows)))
        ours += len(_ours(mapping, chip, oracle))
    assert ours <= theirs
