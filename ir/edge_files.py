"""Connectivity and arrays from files: .npz (1-D pre, post, weight, delay; or scipy sparse), CSV edge lists, and plain arrays.

The order of synapses in a file is kept. scipy sparse matrices (``scipy.sparse.save_npz``) have sources as rows and targets as columns;
their order is that of their stored values (``.tocoo()``). Nothing is unpickled.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurocompile.ir._types import FloatArray
from neurocompile.ir.connectivity import Explicit
from neurocompile.ir.errors import Diagnostic, InputError, SourceSpan, did_you_mean
from neurocompile.ir.npz import AnyArray, load_npz
from neurocompile.ir.units import NUMBER

CSV_SUFFIXES = (".csv", ".tsv", ".txt")
SUFFIXES = (".npz", *CSV_SUFFIXES)
_COLUMNS = ("pre", "post", "weight", "delay")
_MAX_FINDINGS = 5  # a file that is wrong in every line says so in five


class ArrayFiles:
    """Reads files once each; ``paths`` are those that were read, in order."""

    def __init__(self) -> None:
        self._npz: dict[Path, dict[str, AnyArray]] = {}
        self.paths: dict[str, None] = {}

    def npz(self, path: Path) -> dict[str, AnyArray]:
        """Return the arrays of an .npz file."""
        if path not in self._npz:
            self._npz[path] = load_npz(path)
        return self._npz[path]

    def array(self, path: Path, key: str | None) -> FloatArray:
        """Return one array of an .npz (``key``; optional if it holds one) or CSV file (``key`` = a column of its header), float64.

        Raises
        ------
        InputError
            NC105 .. NC107 unreadable or no such array, NC119 CSV, NC121 suffix.
        """
        self.paths[str(path)] = None
        if path.suffix.lower() in CSV_SUFFIXES:
            return _csv_array(path, key)
        if path.suffix.lower() != ".npz":
            raise _unknown_suffix(path)
        arrays = self.npz(path)
        if key is None and len(arrays) == 1:
            key = next(iter(arrays))
        if key is None or key not in arrays:
            names = ", ".join(arrays) or "none"
            wanted = "`key:` must say which array" if key is None else f"has no array '{key[:60]}'"
            raise InputError.of("NC107", f"{wanted} (it has: {names[:200]})", file=str(path), help=did_you_mean(key or "", arrays))
        return _floats(arrays[key], key, path)

    def edges(self, path: Path) -> Explicit:
        """Return the synapses of an edge file (see :func:`read_edges`)."""
        self.paths[str(path)] = None
        if path.suffix.lower() in CSV_SUFFIXES:
            return _csv_edges(path)
        if path.suffix.lower() != ".npz":
            raise _unknown_suffix(path)
        arrays = self.npz(path)
        del self._npz[path]  # large lists are not held twice
        return _sparse_edges(arrays, path) if "format" in arrays else _npz_edges(arrays, path)


def read_edges(path: str | Path) -> Explicit:
    """Read connectivity from a file.

    Parameters
    ----------
    path : str or Path
        ``.npz`` with 1-D ``pre``, ``post`` (integers), optional ``weight`` (membrane units) and ``delay`` (steps); ``.npz`` written by
        ``scipy.sparse.save_npz`` (rows = pre, columns = post, values = weight; stored zeros are synapses); or ``.csv`` / ``.tsv`` /
        ``.txt`` with rows ``pre,post[,weight[,delay]]``, with or without a header.

    Raises
    ------
    InputError
        NC105, NC106, NC107 (file), NC119 (a line of a CSV file, with its position), NC121 (suffix), NC202 .. NC204, NC209 (values).
    """
    return ArrayFiles().edges(Path(path))


def _unknown_suffix(path: Path) -> InputError:
    return InputError.of(  # type: ignore[return-value]
        "NC121", f"suffix '{path.suffix}' is not known", file=str(path), help=f"known: {', '.join(SUFFIXES)}"
    )


def _floats(values: AnyArray, name: str, path: Path) -> FloatArray:
    if not (np.issubdtype(values.dtype, np.integer) or np.issubdtype(values.dtype, np.floating)):
        raise InputError.of("NC202", f"'{name}' holds {values.dtype}, must hold numbers", file=str(path), help="save it as float64")
    return np.asarray(values, dtype=np.float64)


def pre_and_post(arrays: Mapping[str, AnyArray], path: Path, written_by: str) -> tuple[AnyArray, AnyArray]:
    """Return the ends of the edges of an .npz file; InputError NC107, whose help says what it is ``written_by``, without them."""
    for name in ("pre", "post"):
        if name not in arrays:
            raise InputError.of(
                "NC107",
                f"has no array '{name}' (it has: {', '.join(arrays)[:200] or 'none'})",
                file=str(path),
                help=f"save it with {written_by}",
            )
    return arrays["pre"], arrays["post"]


def _npz_edges(arrays: dict[str, AnyArray], path: Path) -> Explicit:
    pre, post = pre_and_post(arrays, path, "np.savez(path, pre=..., post=..., weight=...) or scipy.sparse.save_npz")
    unknown = [n for n in arrays if n not in _COLUMNS]
    if unknown:
        raise InputError.of(
            "NC107", f"array '{unknown[0][:60]}' has no meaning here", file=str(path), help=did_you_mean(unknown[0][:60], _COLUMNS)
        )
    weight = _floats(arrays["weight"], "weight", path) if "weight" in arrays else None
    delay = _floats(arrays["delay"], "delay", path) if "delay" in arrays else None
    return _explicit(pre, post, weight, delay, path)


def _explicit(pre: AnyArray, post: AnyArray, weight: AnyArray | None, delay: AnyArray | None, path: Path) -> Explicit:
    if delay is not None and not np.isfinite(np.asarray(delay, dtype=np.float64)).all():
        raise InputError.of("NC203", f"{path.name}: delay holds values that are not finite", file=str(path), help="delays are whole steps")
    return Explicit(pre=pre, post=post, weight=weight, delay=delay, source=path.name)  # type: ignore[arg-type]


def _sparse_edges(arrays: dict[str, AnyArray], path: Path) -> Explicit:
    """Edges of scipy's own .npz layout, read by scipy from the arrays that are already here (no second reading, no pickle)."""
    import scipy.sparse

    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # scipy reads files only
    buffer.seek(0)
    try:
        matrix = scipy.sparse.load_npz(buffer).tocoo()
        if matrix.data.size and (matrix.row.min() < 0 or matrix.col.min() < 0):
            raise ValueError("negative index")
    except Exception as error:  # scipy raises whatever its index arithmetic meets in a damaged file
        raise InputError.of(
            "NC106",
            f"is not a sparse matrix that scipy can read: {str(error)[:200]}",
            file=str(path),
            help="write it with scipy.sparse.save_npz",
        ) from None
    return _explicit(matrix.row, matrix.col, _floats(matrix.data, "data", path), None, path)


# --- text ------------------------------------------------------------------------------------------------------------------
def _csv_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError.of("NC105", "file does not exist", file=str(path)) from None
    except UnicodeDecodeError as error:
        raise InputError.of("NC102", f"byte {error.start} is not UTF-8", file=str(path), help="save the file as UTF-8") from None
    except (OSError, ValueError) as error:
        raise InputError.of("NC124", f"cannot be read: {error}", file=str(path), help="give a text file that you may read") from None


def _split(path: Path, line: str) -> list[str]:
    separator = "\t" if path.suffix.lower() == ".tsv" or ("\t" in line and "," not in line) else ","
    return [f.strip() for f in (line.split(separator) if separator in line else line.split() if separator == "\t" else [line])]


_CSV_NUMBER = re.compile(rf"{NUMBER}|[-+]?(?:inf|infinity|nan)", re.IGNORECASE)


def _is_number(text: str) -> bool:
    """Whether a cell is a number as other tools write it: Python's float() would also take '1_0' and digits of other scripts."""
    return _CSV_NUMBER.fullmatch(text) is not None


def _table(path: Path) -> tuple[list[str] | None, FloatArray, list[int]]:
    """Return the header (or None), the numbers (n_rows, n_columns) and the line number of each row."""
    lines = _csv_lines(path)
    rows = [(i, line) for i, line in enumerate(lines, start=1) if line.strip() and not line.lstrip().startswith("#")]
    header = None
    if rows and not any(_is_number(f) for f in _split(path, rows[0][1])):
        header = [f.strip().strip('"').lower() for f in _split(path, rows[0][1])]
        rows = rows[1:]
    if not rows:
        return header, np.zeros((0, len(header) if header else 0)), []
    width = len(header) if header else len(_split(path, rows[0][1]))
    try:  # NumPy's parser is twenty times as fast; it is right where it is content, and silent about where it is not
        separator = "\t" if path.suffix.lower() == ".tsv" or ("\t" in rows[0][1] and "," not in rows[0][1]) else ","
        table = np.loadtxt([line for _, line in rows], delimiter=separator, comments=None, ndmin=2)
        if table.shape[1] == width:
            return header, table, [i for i, _ in rows]
    except (ValueError, OverflowError):
        pass
    fields = [_split(path, line) for _, line in rows]
    if all(len(f) == width for f in fields) and all(map(_is_number, chain.from_iterable(fields))):
        return header, np.array(fields, dtype=np.float64), [i for i, _ in rows]
    found = []
    for (number, line), cells in zip(rows, fields, strict=True):
        if len(cells) != width:
            found.append(_line_finding(path, number, 1, line, f"{len(cells)} values, expected {width}", "give every row the same columns"))
        for index, cell in enumerate(cells):
            if not _is_number(cell):
                column = _column_of(line, cells, index)
                found.append(_line_finding(path, number, column, line, f"'{cell[:40]}' is not a number", "write numbers only"))
        if len(found) >= _MAX_FINDINGS:
            break
    raise InputError(found)


def _column_of(line: str, cells: list[str], index: int) -> int:
    start = 0
    for cell in cells[:index]:
        start = line.find(cell, start) + len(cell) + 1  # and the separator
    return max(line.find(cells[index], start), 0) + 1


def _line_finding(path: Path, number: int, column: int, line: str, message: str, fix: str) -> Diagnostic:
    span = SourceSpan(file=str(path), line=number, column=column, text=line.replace("\t", " "))
    return Diagnostic(code="NC119", message=message, span=span, help=fix)


def _csv_array(path: Path, key: str | None) -> FloatArray:
    header, table, _ = _table(path)
    if key is not None:
        if header is None or key.lower() not in header:
            raise InputError.of(
                "NC107", f"has no column '{key[:60]}'", file=str(path), help=did_you_mean(key[:60], header or ()) or "add a header line"
            )
        return np.ascontiguousarray(table[:, header.index(key.lower())])
    return table[:, 0] if table.shape[1] == 1 else table


def _csv_edges(path: Path) -> Explicit:
    header, table, line_numbers = _table(path)
    columns = list(_COLUMNS) if header is None else [_ALIASES.get(h, h) for h in header]
    unknown = [c for c in columns if c not in _COLUMNS]
    if unknown:
        raise InputError.of("NC119", f"unknown column '{unknown[0][:40]}'", file=str(path), help=did_you_mean(unknown[0][:40], _COLUMNS))
    n_columns = table.shape[1] if table.size or header else 2
    if not 2 <= n_columns <= 4 or (header is not None and not {"pre", "post"} <= set(columns)) or len(set(columns)) != len(columns):
        raise InputError.of(
            "NC119", f"expected the columns pre,post[,weight[,delay]], got {header or n_columns}", file=str(path), help="see docs/yaml.md"
        )
    by_name: dict[str, FloatArray] = {c: table[:, i] for i, c in enumerate(columns[:n_columns])} if table.size else {}
    empty = np.zeros(0)
    ids = {}
    lines = _csv_lines(path)
    for name in ("pre", "post"):
        values = by_name.get(name, empty)
        wrong = ~((values == np.floor(values)) & (values >= 0) & (values < 2**31))
        if np.any(wrong):
            bad = int(np.argmax(wrong))
            number = line_numbers[bad]
            cells = _split(path, lines[number - 1])
            column = _column_of(lines[number - 1], cells, columns.index(name))
            message = f"{name} is {values[bad]:g}, must be a whole number from 0"
            raise InputError(_line_finding(path, number, column, lines[number - 1], message, "neuron indices count from 0"))
        ids[name] = values.astype(np.int64)
    for name in ("weight", "delay"):
        values = by_name.get(name, empty)
        if not np.isfinite(values).all():
            number = line_numbers[int(np.argmax(~np.isfinite(values)))]
            line = lines[number - 1]
            column = _column_of(line, _split(path, line), columns.index(name))
            finding = _line_finding(path, number, column, line, f"{name} is not finite", "write a finite number")
            raise InputError(Diagnostic(code="NC203", message=finding.message, span=finding.span, help=finding.help))
    return _explicit(ids["pre"], ids["post"], by_name.get("weight"), by_name.get("delay"), path)


_ALIASES = {"source": "pre", "target": "post", "src": "pre", "dst": "post", "weights": "weight", "delay_steps": "delay"}


def positions_from_array(values: npt.ArrayLike) -> FloatArray:
    """Return positions as (n, d): a 1-D array is one coordinate per neuron."""
    array = np.asarray(values, dtype=np.float64)
    return array[:, None] if array.ndim == 1 else array
