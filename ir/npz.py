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
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from neurocompile.ir.errors import InputError

AnyArray = npt.NDArray[np.generic]
_PIECE = 1 << 24


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


def npz_bytes(arrays: Mapping[str, npt.ArrayLike]) -> bytes:
    """Return an .npz archive as bytes: same arrays, same bytes (keys in order, fixed time stamps, deflated but for large floats)."""
    buffer = io.BytesIO()
    _write_npz(buffer, arrays.items(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _write_npz(file: IO[bytes], arrays: Iterable[tuple[str, npt.ArrayLike]], compression: int) -> None:
    with zipfile.ZipFile(file, "w", compression) as archive:
        for key, values in arrays:
            entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            array = np.ascontiguousarray(values)
            large = array.dtype.kind == "f" and array.nbytes > _PIECE  # hardly shrink, and take most of the time
            entry.compress_type = zipfile.ZIP_STORED if large else compression
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)  # type: ignore[no-untyped-call]


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
    write_atomically(path, lambda file: _write_npz(file, arrays, zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED))


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
