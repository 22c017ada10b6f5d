"""The generator against numpy's Philox, and its conversions to numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from neurocompile.ir.counter_rng import (
    below,
    high_product,
    philox,
    philox_word,
    stream_key,
    uniform_rows,
    unit_half_open,
    unit_low_open,
    unit_normal,
    unit_open,
)

WORDS = st.integers(0, 2**64 - 1)


def words(key: np.ndarray, block: int, row: int) -> np.ndarray:
    out = np.empty(4, np.uint64)
    philox(key, np.uint64(block), np.uint64(row), out)
    return out


@given(k0=WORDS, k1=WORDS, block=st.integers(1, 2**64 - 1), row=WORDS)
@settings(max_examples=100, deadline=None)
def test_equals_numpy(k0: int, k1: int, block: int, row: int) -> None:
    key = np.array([k0, k1], np.uint64)
    # numpy raises its counter before it draws, so it starts one block earlier
    oracle = np.random.Philox(counter=np.array([block - 1, row, 0, 0], np.uint64), key=key).random_raw(4)
    np.testing.assert_array_equal(words(key, block, row), oracle)


def test_published_known_answer() -> None:
    """Random123's kat_vectors: philox4x64 10 rounds, counter and key all zero."""
    expected = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert [int(w) for w in words(np.zeros(2, np.uint64), 0, 0)] == expected


@given(a=WORDS, b=WORDS)
@settings(max_examples=200, deadline=None)
def test_high_product(a: int, b: int) -> None:
    assert int(high_product(np.uint64(a), np.uint64(b))) == (a * b) >> 64


@pytest.mark.parametrize("word", [0, 1, 2**11, 2**12, 2**63, 2**64 - 1])
def test_unit_intervals(word: int) -> None:
    value = np.uint64(word)
    assert unit_half_open(value) == (word >> 11) / 2**53
    assert unit_low_open(value) == ((word >> 11) + 1) / 2**53
    assert 0.0 <= unit_half_open(value) < 1.0
    assert 0.0 < unit_low_open(value) <= 1.0
    assert 0.0 < unit_open(value) < 1.0


@pytest.mark.parametrize("bound", [1, 2, 7, 2**31])
def test_below(bound: int) -> None:
    assert below(np.uint64(0), bound) == 0
    assert below(np.uint64(2**64 - 1), bound) == bound - 1


def test_streams_differ_by_every_part() -> None:
    keys = [
        stream_key(1, "weight", "a"),
        stream_key(2, "weight", "a"),
        stream_key(1, "delay", "a"),
        stream_key(1, "weight", "b"),
        stream_key(1, "weight", "ab", "c"),
        stream_key(1, "weight", "a", "bc"),
        stream_key(1, "weighta"),
    ]
    assert len({k.tobytes() for k in keys}) == len(keys)
    np.testing.assert_array_equal(stream_key(1, "weight", "a"), keys[0])


def test_rows_are_independent_of_their_neighbours() -> None:
    key = stream_key(5, "weight", "p")
    counts = np.array([3, 0, 9, 1], np.int64)
    whole = uniform_rows(key, 10, counts)
    parts = [uniform_rows(key, 10 + i, counts[i : i + 1]) for i in range(4)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    np.testing.assert_array_equal(whole[3:6], uniform_rows(key, 12, np.array([3])))
    assert whole[0] == unit_open(words(key, 0, 10)[0])
    assert whole[3 + 5] == unit_open(words(key, 1, 12)[1])


@settings(deadline=None)
@given(k0=WORDS, k1=WORDS, block=WORDS, row=WORDS)
def test_one_word_without_an_array(k0: int, k1: int, block: int, row: int) -> None:
    key = np.array([k0, k1], np.uint64)
    assert int(philox_word(key[0], key[1], np.uint64(block), np.uint64(row))) == int(words(key, block, row)[0])


def test_normal_numbers() -> None:
    """SciPy's inverse distribution function to 2e-15 of the number (both claim 1e-15), also in the tails; and the same bits without a
    compiler, which fused or reordered operations would not give."""
    u = np.concatenate([np.random.default_rng(1).random(20_000), 10.0 ** -np.arange(1, 16), 1 - 10.0 ** -np.arange(1, 16), [2.0**-53]])
    found = np.array([unit_normal(x) for x in u])
    np.testing.assert_allclose(found, ndtri(u), rtol=2e-15, atol=1e-17)
    np.testing.assert_array_equal(found[:2000], [unit_normal.py_func(x) for x in u[:2000]])
    assert unit_normal(0.5) == 0.0
