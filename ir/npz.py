"""NumPy archives, safely: no pickle in, the same bytes out for the same arrays, files appear whole or not at all."""

from __future__ import annotations

import io
import math
import os
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from neurocompile.ir.archive import Archive
from neurocompile.ir.errors import InputError
from neurocompile.ir.shards import IN_TURN, Shards

AnyArray = npt.NDArray[np.generic]
_PIECE = 1 << 24
_DEFLATED_PIECE = 1 << 20
"""Bytes that are deflated apart from the others, so that it can be done in parallel; the loss is below 0.1 %."""


def load_npz(path: str | Path) -> dict[str, AnyArray]:
    """Read all arrays of an .npz file; InputError NC106 if it cannot be read or holds Python objects."""
    try:
        with Path(path).open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):  # np.load gives the array itself for .npy
                raise ValueError("it holds a single array, not an .npz archive")
            with archive:
                _check_sizes(archive.zip)
                return {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise InputError.of("NC105", "file does not exist", file=str(path)) from None
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, OverflowError, SyntaxError) as error:
        # RuntimeError: encrypted or unknown compression; MemoryError: a shape far beyond the content; SyntaxError: a damaged header
        raise InputError.of("NC106", f"cannot be read as .npz: {_reason(error)}", file=str(path), help=_NPZ_HELP) from None
    except (zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, TypeError) as error:
        raise InputError.of("NC106", f"cannot be read as .npz: {_reason(error)}", file=str(path), help=_NPZ_HELP) from None


def _check_sizes(archive: zipfile.ZipFile) -> None:
    """Raise ValueError, before anything is decompressed, if the arrays cannot be what the headers say or would fill the memory."""
    total = 0
    for entry in archive.infolist():
        name = entry.filename.removesuffix(".npy")[:60]
        with archive.open(entry) as member:
            version = np.lib.format.read_magic(member)  # type: ignore[no-untyped-call]
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
            if read_header is None:  # 3.0 is for names of fields in Unicode
                raise ValueError(f"array '{name}' is no plain array (.npy version {version[0]}.{version[1]})")
            shape, _, dtype = read_header(member)  # type: ignore[no-untyped-call]
        claimed = math.prod(shape) * dtype.itemsize  # whole numbers of any size: nothing overflows
        if claimed > entry.file_size and not dtype.hasobject:  # objects are refused by NumPy
            raise ValueError(f"array '{name}' of shape {shape} needs {claimed} bytes, the file holds {entry.file_size}")
        total += entry.file_size
    if total > physical_memory():
        raise ValueError(f"its arrays need {total / 2**30:.1f} GiB, this machine has {physical_memory() / 2**30:.1f} GiB of memory")


def physical_memory() -> float:
    """Return the machine's memory in bytes; infinity where the system does not say (no check beforehand then)."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return float("inf")


_NPZ_HELP = "save plain arrays (no objects) with np.savez"


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def npz_bytes(arrays: Mapping[str, npt.ArrayLike], *, shards: Shards = IN_TURN) -> bytes:
    """Return an .npz archive as bytes: same arrays, same bytes (keys in order, fixed time stamps, deflated but for large floats).

    ``shards`` deflates pieces of the arrays; the bytes do not depend on it.
    """
    found = {key: np.ascontiguousarray(values) for key, values in arrays.items()}
    buffer = io.BytesIO()
    packed = shards.map(_deflated, (piece for array in found.values() if _shrinks(array) for piece in _pieces(array)))
    with Archive(buffer) as archive:
        for key, array in found.items():
            archive.add(f"{key}.npy", _views(array), islice(packed, _n_pieces(array)) if _shrinks(array) else None)
    return buffer.getvalue()


def _shrinks(array: AnyArray) -> bool:
    """Large floats hardly do, and take most of the time."""
    return array.dtype.kind != "f" or array.nbytes <= _PIECE


def _content(array: AnyArray) -> tuple[bytes, npt.NDArray[np.uint8]]:
    """Return an array in .npy form: the header and the rest."""
    if array.dtype.hasobject:
        raise ValueError("Object arrays cannot be saved when allow_pickle=False")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))  # type: ignore[no-untyped-call]
    return header.getvalue(), array.reshape(-1).view(np.uint8) if array.nbytes else np.empty(0, np.uint8)


def _views(array: AnyArray) -> tuple[bytes, memoryview]:
    header, raw = _content(array)
    return header, raw.data


def _n_pieces(array: AnyArray) -> int:
    return max(1, -(-array.nbytes // _DEFLATED_PIECE))


def _pieces(array: AnyArray) -> Iterator[tuple[bytes, npt.NDArray[np.uint8], bool]]:
    """Yield (header, bytes, whether they are the last) of an array's .npy form; the header comes with the first piece."""
    header, raw = _content(array)
    n = _n_pieces(array)
    for i in range(n):
        yield b"" if i else header, raw[i * _DEFLATED_PIECE : (i + 1) * _DEFLATED_PIECE], i == n - 1


def _deflated(header: bytes, raw: npt.NDArray[np.uint8], last: bool) -> bytes:
    """Return a part of a raw deflate stream that needs nothing of the parts before it."""
    packer = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(header) + packer.compress(raw.data) + packer.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)


def write_atomically(path: str | Path, content: bytes | Callable[[IO[bytes]], None]) -> None:
    """Write a file so that it appears whole or not at all (temporary file in the same folder, flushed, renamed).

    ``content``: the bytes, or what writes them to an open file (for more than should be in memory at once).
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise InputError.of(
            "NC701", f"cannot be written: {error.strerror}", file=str(path), help="choose a folder that you can write to"
        ) from None
    try:
        with os.fdopen(handle, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except OSError as error:
        raise InputError.of(
            "NC701", f"cannot be written: {error.strerror}", file=str(path), help="choose a folder that you can write to"
        ) from None
    finally:
        Path(name).unlink(missing_ok=True)


def save_npz(path: str | Path, arrays: Mapping[str, npt.ArrayLike]) -> None:
    """Write an .npz file atomically, deterministically (see :func:`npz_bytes`)."""
    stream_npz(path, arrays.items())


def stream_npz(path: str | Path, arrays: Iterable[tuple[str, npt.ArrayLike]], *, compressed: bool = True) -> None:
    """As :func:`save_npz`, from pairs of key and array, one at a time; ``compressed=False`` is fast and large."""

    def write(file: IO[bytes]) -> None:
        with Archive(file) as archive:
            for key, values in arrays:
                array = np.ascontiguousarray(values)
                packed = IN_TURN.map(_deflated, _pieces(array)) if compressed and _shrinks(array) else None
                archive.add(f"{key}.npy", _views(array), packed)

    write_atomically(path, write)


def fill_from_npz(path: str | Path, into: Mapping[str, AnyArray]) -> None:
    """Read arrays of an .npz file in place: each must be there with the shape and type that ``into`` has.

    Nothing beside the arrays is needed in memory. On an error some of them may have been filled.

    Raises
    ------
    InputError
        NC106: the file cannot be read, lacks an array, or has another shape or type of it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for key, array in into.items():
                with archive.open(f"{key}.npy") as member:
                    version = np.lib.format.read_magic(member)  # type: ignore[no-untyped-call]
                    if version != (1, 0):
                        raise ValueError(f"array '{key}' is no plain array")
                    shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)  # type: ignore[no-untyped-call]
                    if shape != array.shape or dtype != array.dtype or (fortran and array.ndim > 1):
                        raise ValueError(f"array '{key}' is {dtype} of shape {shape}, expected {array.dtype} of shape {array.shape}")
                    if not array.flags.c_contiguous:
                        raise ValueError(f"array '{key}' is not contiguous in memory")
                    flat, taken = array.reshape(-1).view(np.uint8), 0
                    while taken < flat.size:
                        piece = member.read(min(_PIECE, flat.size - taken))
                        if not piece:
                            raise EOFError(f"array '{key}' ends early")
                        flat[taken : taken + len(piece)] = np.frombuffer(piece, np.uint8)
                        taken += len(piece)
                    if member.read(1):  # also makes zipfile compare the checksum
                        raise ValueError(f"array '{key}' is longer than its header says")
    except FileNotFoundError:
        raise InputError.of("NC105", "file does not exist", file=str(path)) from None
    except (
        OSError, ValueError, EOFError, KeyError, RuntimeError, SyntaxError, TypeError,
        zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
    ) as error:  # fmt: skip
        raise InputError.of("NC106", f"cannot be read as .npz: {_reason(error)}", file=str(path), help=_NPZ_HELP) from None
