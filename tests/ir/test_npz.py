"""Archives: no pickle in, same bytes out, whole files only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neurocompile.ir.errors import InputError
from neurocompile.ir.npz import AnyArray, fill_from_npz, load_npz, npz_bytes, save_npz, stream_npz, write_atomically
from neurocompile.ir.signals import Signal, Spikes


def test_round_trip_and_same_bytes(tmp_path: Path) -> None:
    arrays = {"weight:a->b": np.arange(5.0), "x": np.array([[1, 2]], np.int32)}
    save_npz(tmp_path / "a.npz", arrays)
    back = load_npz(tmp_path / "a.npz")
    assert list(back) == list(arrays)
    for key, values in arrays.items():
        np.testing.assert_array_equal(back[key], values)
    assert npz_bytes(arrays) == npz_bytes(dict(arrays)) == (tmp_path / "a.npz").read_bytes()


def test_python_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(InputError) as caught:
        load_npz(tmp_path / "bad.npz")
    assert caught.value.diagnostics[0].code == "NC106"
    with pytest.raises(ValueError, match="allow_pickle"):
        npz_bytes({"a": np.array([{"x": 1}], dtype=object)})


@pytest.mark.parametrize(("content", "code"), [(b"", "NC106"), (b"not a zip", "NC106"), (b"PK\x03\x04broken", "NC106"), (None, "NC105")])
def test_unreadable_files(tmp_path: Path, content: bytes | None, code: str) -> None:
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_npz(path)
    assert caught.value.diagnostics[0].code == code
    assert "x.npz" in str(caught.value)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, b"old")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"NC701.*No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="NC701"):
        write_atomically(tmp_path / "no" / "a.bin", b"x")


def test_spikes_are_sorted_and_checked(tmp_path: Path) -> None:
    save_npz(tmp_path / "s.npz", {"neuron": np.array([3, 1, 2]), "step": np.array([5, 5, 0])})
    spikes = Spikes.load(tmp_path / "s.npz", size=4)
    assert spikes.step.tolist() == [0, 5, 5]
    assert spikes.neuron.tolist() == [2, 1, 3]
    with pytest.raises(InputError, match=r"NC204.*neuron 3 spikes, but the population has 3 neurons"):
        Spikes.load(tmp_path / "s.npz", size=3)


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"neuron": np.array([1])}, "NC107"),
        ({"neuron": np.array([1]), "step": np.array([1, 2])}, "NC202"),
        ({"neuron": np.array([1.5]), "step": np.array([1])}, "NC202"),
        ({"neuron": np.array([-1]), "step": np.array([1])}, "NC204"),
        ({"neuron": np.array([[1]]), "step": np.array([[1]])}, "NC202"),
    ],
)
def test_bad_spikes(tmp_path: Path, arrays: dict[str, np.ndarray], code: str) -> None:
    save_npz(tmp_path / "s.npz", arrays)
    with pytest.raises(InputError) as caught:
        Spikes.load(tmp_path / "s.npz", size=4)
    assert caught.value.diagnostics[0].code == code


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"window": np.ones(3)}, "NC107"),
        ({"target": np.zeros((3, 2)), "window": np.ones(4, bool)}, "NC202"),
        ({"target": np.zeros((3, 1)), "window": np.ones(3, bool)}, "NC202"),
        ({"target": np.full((3, 2), np.nan), "window": np.ones(3, bool)}, "NC203"),
        ({"target": np.array([["a", "b"]]), "window": np.ones(1, bool)}, "NC202"),
    ],
)
def test_bad_signals(tmp_path: Path, arrays: dict[str, np.ndarray], code: str) -> None:
    save_npz(tmp_path / "s.npz", arrays)
    with pytest.raises(InputError) as caught:
        Signal.load(tmp_path / "s.npz", size=2)
    assert caught.value.diagnostics[0].code == code


def test_a_signal_without_window_counts_everywhere(tmp_path: Path) -> None:
    save_npz(tmp_path / "s.npz", {"target": np.zeros((3, 2))})
    assert Signal.load(tmp_path / "s.npz", size=2).window.tolist() == [True] * 3


ARRAYS = {
    "state:a": np.arange(12.0).reshape(3, 4),
    "empty": np.zeros((0, 3), np.float32),
    "bytes": np.arange(5, dtype=np.uint8),
    "large": np.arange(2**21 + 3, dtype=np.float64),  # more than one piece, and not deflated
}


@pytest.mark.parametrize("compressed", [True, False])
def test_arrays_are_read_in_place(tmp_path: Path, compressed: bool) -> None:
    stream_npz(tmp_path / "a.npz", iter(ARRAYS.items()), compressed=compressed)
    into = {name: np.full_like(array, 77) for name, array in ARRAYS.items()}
    fill_from_npz(tmp_path / "a.npz", into)
    for name, array in load_npz(tmp_path / "a.npz").items():
        np.testing.assert_array_equal(into[name], array)
        np.testing.assert_array_equal(ARRAYS[name], array)
    if compressed:
        assert (tmp_path / "a.npz").read_bytes() == npz_bytes(ARRAYS)


@pytest.mark.parametrize(
    ("into", "words"),
    [
        ({"b": np.zeros(3)}, "b.npy"),
        ({"a": np.zeros((4, 3))}, "shape (3, 4), expected float64 of shape (4, 3)"),
        ({"a": np.zeros((3, 4), np.float32)}, "is float64 of shape (3, 4), expected float32"),
        ({"a": np.zeros((4, 3)).T}, "not contiguous"),
        ({"f": np.zeros((3, 4))}, "array 'f' is float64"),  # in Fortran's order
    ],
)
def test_arrays_that_do_not_fit_are_not_read_in_place(tmp_path: Path, into: dict[str, AnyArray], words: str) -> None:
    np.savez(tmp_path / "a.npz", a=np.arange(12.0).reshape(3, 4), f=np.asfortranarray(np.arange(12.0).reshape(3, 4)))
    with pytest.raises(InputError) as error:
        fill_from_npz(tmp_path / "a.npz", into)
    assert error.value.diagnostics[0].code == "NC106"
    assert words in error.value.diagnostics[0].message


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.9])
def test_a_damaged_file_is_not_read_in_place(tmp_path: Path, place: float) -> None:
    stream_npz(tmp_path / "a.npz", {"a": np.arange(500.0)}.items(), compressed=False)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[int(place * len(content))] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError) as error:
        fill_from_npz(tmp_path / "a.npz", {"a": np.zeros(500)})
    assert error.value.diagnostics[0].code == "NC106"
    (tmp_path / "a.npz").write_bytes(content[: int(place * len(content))])
    with pytest.raises(InputError):
        fill_from_npz(tmp_path / "a.npz", {"a": np.zeros(500)})


def test_a_write_that_fails_midway_leaves_the_old_file(tmp_path: Path) -> None:
    def arrays() -> Iterator[tuple[str, AnyArray]]:
        yield "a", np.ones(3)
        raise RuntimeError

    stream_npz(tmp_path / "a.npz", {"a": np.zeros(3)}.items())
    with pytest.raises(RuntimeError):
        stream_npz(tmp_path / "a.npz", arrays())
    np.testing.assert_array_equal(load_npz(tmp_path / "a.npz")["a"], np.zeros(3))
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
