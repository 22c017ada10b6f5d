"""``minimise``: files of routing tables, made shorter."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from neurocompile.cli.common import Output, common_options, table
from neurocompile.ir.errors import DoesNotFitError
from neurocompile.mapping.tables.files import TableFile, read_tables, write_tables
from neurocompile.mapping.tables.ordered import minimise_ordered
from neurocompile.mapping.verify_table import verify_table


def minimise_table(found: TableFile, *, target_length: int, time_limit: float | None) -> tuple[TableFile, bool]:
    """Return the minimised table, verified, and whether its overlaps could be resolved.

    ``source`` of a merged entry is where packets of any of its entries come from (0, not known, if that is so for one of them).
    """
    default = found.default
    route = found.route.astype(np.int64)
    key, mask, new_route, whole = minimise_ordered(
        found.key, found.mask, route, default, target_length=target_length, time_limit=time_limit
    )
    verify_table(f"chip ({found.x}, {found.y})", found.key, found.mask, route, default, key, mask, new_route)
    source = np.zeros(len(key), np.uint32)
    for e in range(len(key)):
        touches = ((found.key ^ key[e]) & (found.mask & mask[e]) == 0) & (route == new_route[e])
        sources = found.source[touches]
        source[e] = np.bitwise_or.reduce(sources) if len(sources) and sources.all() else 0
    return TableFile(x=found.x, y=found.y, key=key, mask=mask, source=source, route=new_route.astype(np.uint32)), whole


def _load_kernels() -> None:
    """Compiled loops are loaded (or compiled, the first time) by a table of two entries, so that this is no table's time."""
    column = np.array([1, 2], np.uint32)
    minimise_table(TableFile(x=0, y=0, key=column, mask=column, source=column, route=column), target_length=0, time_limit=None)


@click.command()
@click.argument("tables", metavar="IN", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="File to write; compressed if it ends in .xz.")
@click.option(
    "--target-length",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Stop at so many entries a table, and fail (exit 4) if one stays longer; 0: as short as it gets.",
)
@click.option(
    "--time-limit", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="For each table; results then depend on the computer."
)
@common_options
def minimise(tables: Path, out: Path, target_length: int, time_limit: float | None, output: Output) -> None:
    """Make the routing tables of file IN shorter; every key keeps its route, which is verified."""
    before = read_tables(tables)
    after: list[TableFile] = []
    rows: list[dict[str, Any]] = []
    _load_kernels()
    output.progress(f"{len(before)} tables")
    for found in before:
        begin = time.perf_counter()
        made, whole = minimise_table(found, target_length=target_length, time_limit=time_limit)
        seconds = time.perf_counter() - begin
        after.append(made)
        rows.append(
            {"x": found.x, "y": found.y, "before": len(found.key), "after": len(made.key), "seconds": seconds, "overlaps_resolved": whole}
        )
    largest = max(rows, key=lambda r: int(r["after"]), default=None)
    if target_length and largest is not None and largest["after"] > target_length:
        over = sum(r["after"] > target_length for r in rows)
        raise DoesNotFitError.of(
            "NC404",
            f"{over} of {len(rows)} tables are longer than {target_length} entries; the largest, of chip ({largest['x']}, {largest['y']}), "
            f"has {largest['after']} ({largest['before']} before); nothing was written",
            file=str(tables),
            help="raise --target-length, or leave it out to write the shortest tables found",
        )
    write_tables(out, after)
    total = {name: sum(int(r[name]) for r in rows) for name in ("before", "after")}
    seconds_all = [float(r["seconds"]) for r in rows]
    payload = {
        "tables": len(rows),
        "entries_before": total["before"],
        "entries_after": total["after"],
        "largest_before": max((r["before"] for r in rows), default=0),
        "largest_after": largest["after"] if largest else 0,
        "seconds_per_table_mean": sum(seconds_all) / max(len(seconds_all), 1),
        "seconds_per_table_max": max(seconds_all, default=0.0),
        "verified": True,
        "by_table": rows,
        "out": str(out),
    }
    grid = table("", "", "before", "after")
    grid.add_row("entries", f"{total['before']}", f"{total['after']}")
    grid.add_row("largest table", f"{payload['largest_before']}", f"{payload['largest_after']}")
    kept = sum(not r["overlaps_resolved"] for r in rows)
    note = f"; {kept} kept as they were (entries overlap in too many ways, or nothing to gain)" if kept else ""
    output.result(
        "minimise",
        payload,
        grid,
        f"{len(rows)} tables, {payload['seconds_per_table_mean']:.4f} s a table (most {payload['seconds_per_table_max']:.4f}), "
        f"every key verified{note}: {out}",
    )
