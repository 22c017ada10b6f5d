"""Archives: no pickle in, same bytes out, whole files only."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from neurocompile.ir.errors import InputError
from neurocompile.ir.npz import load_npz, npz_bytes, save_npz, write_atomically
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
