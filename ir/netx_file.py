"""lava-dl netx files (HDF5) as checked values: layers in their numeric order, whole numbers of known shape, nothing read that lies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neurocompile.ir._types import IntArray
from neurocompile.ir.convolution import MAX_ENTRIES
from neurocompile.ir.errors import InputError
from neurocompile.ir.memory import available_memory

_INT_MAX = 2**31 - 1
_DEFLATE = 1100
"""HDF5's deflate makes at most about this many bytes of one."""
_BYTES = 40.0
"""Memory that reading and checking a value takes."""
_LENGTH_MAX = 64
"""Characters of a type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of a file: ``number`` from 0, ``kind`` (its type), and the group that holds it (open while the file is)."""

    number: int
    kind: str
    group: Any

    @property
    def place(self) -> str:
        """How messages call it."""
        return f"layer {self.number} ({self.kind})"

    def has(self, key: str) -> bool:
        """Whether there is a data set or group of that name."""
        return self.group.get(key) is not None

    def text(self, key: str) -> str:
        """Return a data set of one text; NC132."""
        return text(self.group, key, self.place)

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a data set; NC132 if it is absent or holds no numbers."""
        return tuple(self._data(key).shape)

    def integers(self, key: str, low: int = -_INT_MAX, high: int = _INT_MAX) -> IntArray:
        """Return a data set of whole numbers in low .. high as int64; NC132, or NC146 if it is too large to be real."""
        data = self._data(key)
        n = math.prod(data.shape)
        if n > MAX_ENTRIES:
            raise InputError.of("NC146", f"{self.place}: '{key}' has {n:.3g} values")
        stored = data.id.get_storage_size()
        if n * data.dtype.itemsize > _DEFLATE * stored:
            raise InputError.of(
                "NC130",
                f"{self.place}: '{key}' says that it has {n} values, but the file holds {stored} bytes of it",
                help="export it again",
            )
        if _BYTES * n > available_memory():
            raise InputError.of("NC146", f"{self.place}: '{key}' has {n} values, which need {_BYTES * n:.2g} bytes", help="more memory")
        values = np.asarray(data[()])
        whole = np.asarray(np.rint(values.astype(np.float64)))
        bad = ~(values == whole) | (whole < low) | (whole > high)  # also what is not a number
        if bad.any():
            first = tuple(int(i) for i in np.argwhere(bad)[0])
            raise InputError.of(
                "NC132",
                f"{self.place}: {key}{list(first) if first else ''} is {values[first]:g}, must be a whole number in {low} .. {high}",
                help="export the network with quantised weights and delays: a netx file holds the integers of Loihi's registers",
            )
        found: IntArray = whole.astype(np.int64)
        return found

    def integer(self, key: str, low: int = -_INT_MAX, high: int = _INT_MAX) -> int:
        """Return a data set of one whole number; NC132."""
        values = self.integers(key, low, high)
        if values.size != 1:
            raise InputError.of("NC132", f"{self.place}: {key} has shape {values.shape}, must be one number")
        return int(values.reshape(-1)[0])

    def _data(self, key: str) -> Any:
        data = self.group.get(key)
        if not isinstance(data, h5py.Dataset):
            has = ", ".join(sorted(map(str, self.group))) or "nothing"
            raise InputError.of("NC132", f"{self.place} lacks '{key}'; it has {has}")
        if data.dtype.kind not in "iufb" or data.shape is None:
            raise InputError.of("NC132", f"{self.place}: '{key}' holds {data.dtype}, must hold numbers")
        return data


def text(group: Any, key: str, place: str) -> str:
    """Return a data set that holds one text (bytes or str, alone or in an array of one); InputError NC132 otherwise."""
    data = group.get(key)
    if not isinstance(data, h5py.Dataset):
        raise InputError.of("NC132", f"{place} lacks '{key}'")
    value = data[()] if math.prod(data.shape or ()) == 1 and data.dtype.kind in "SO" else None
    value = value.reshape(-1)[0] if isinstance(value, np.ndarray) else value
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if not isinstance(value, str) or len(value) > _LENGTH_MAX:
        raise InputError.of("NC132", f"{place}: '{key}' holds no text")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class NetxFile:
    """An open file: its layers in the order of their numbers, and the time step that it was trained with, ms (None: not said)."""

    layers: tuple[Layer, ...]
    step_ms: float | None


@contextmanager
def open_netx(path: Path) -> Iterator[NetxFile]:
    """Open a netx file.

    Raises
    ------
    InputError
        NC105: there is no such file; NC130: it is not HDF5, is damaged, or has no layers 0 .. n-1; NC132: a layer without a type.
    """
    if not path.is_file():
        raise InputError.of("NC105", "file does not exist")
    try:
        with h5py.File(path, "r") as file:
            yield NetxFile(layers=tuple(_layers(file)), step_ms=_step(file))
    except InputError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # h5py raises OSError, KeyError, TypeError, ValueError, RuntimeError ... for what a damaged file holds
        raise InputError.of("NC130", f"is not a netx file: {error}", help="netx files are HDF5 files written by export_hdf5") from None


def _layers(file: Any) -> Iterator[Layer]:
    """Yield the layers; HDF5 lists names lexically ("0", "1", "10", "2"), their order is that of the numbers."""
    group = file.get("layer")
    if not isinstance(group, h5py.Group):
        raise InputError.of("NC130", f"has no group 'layer' (it has: {', '.join(sorted(map(str, file))) or 'nothing'})")
    names = list(group)
    numbers = sorted(int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 10)
    if not names or numbers != list(range(len(names))):
        shown = ", ".join(sorted(map(str, names))[:20]) or "none"
        raise InputError.of("NC130", f"must have layers 0 .. n-1, has {shown}", help="export the network again")
    for number in numbers:
        entry = group.get(str(number))
        if not isinstance(entry, h5py.Group):
            raise InputError.of("NC130", f"layer {number} is not a group")
        yield Layer(number=number, kind=text(entry, "type", f"layer {number}"), group=entry)


def _step(file: Any) -> float | None:
    data = file.get("simulation/Ts")
    if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "iuf" or math.prod(data.shape or ()) != 1:
        return None
    value = float(np.asarray(data[()]).reshape(-1)[0])
    return value if np.isfinite(value) and value > 0 else None


__all__ = ["Layer", "NetxFile", "open_netx", "text"]
