"""The results of ``eprop.py`` on their way: written whole after every point, and taken up again by ``--resume``."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eprop_setup import Point

FORMAT_VERSION = "1.1"
SAME = ("format_version", "preset", "threads", "machine")
"""What a run that is resumed must have in common with the one that resumes it."""


def key(point: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Return what tells points apart; the input weight is found when a point is measured."""
    return tuple(sorted((name, value) for name, value in point.items() if name != "input_weight"))


def failures(result: Mapping[str, Any]) -> list[str]:
    """Return what has failed, in words."""
    found = []
    for item in result["points"]:
        where = "{size} neurons x {indegree}, {rate:g} Hz".format(**item["point"])
        found += [f"{where}: {item['failed']}"] if "failed" in item else []
        found += [f"{where}, {label}: {r['failed']}" for label, r in item["contestants"].items() if "failed" in r]
    found += [f"profile of {p['point']['size']} neurons: {p['failed']}" for p in result.get("profile", []) if "failed" in p]
    found += [text] if (text := result.get("events_by_rate", {}).get("failed")) else []
    return found + [result[name] for name in ("bandwidth_failed", "plot_failed") if name in result]


def write_whole(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        os.chmod(name, 0o644)
        os.replace(name, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


class Results:
    """A document that grows.

    Parameters
    ----------
    head
        What stands before the measurements.
    out, png
        Files that are written after every step; None: nothing is written.
    """

    def __init__(self, head: Mapping[str, Any], out: Path | None, png: Path | None) -> None:
        self.document: dict[str, Any] = {**head, "points": [], "fit": {}}
        self._out, self._png = out, png

    def resume(self, file: Path) -> None:
        """Take over what an earlier run measured without a failure.

        Raises
        ------
        ValueError
            The file is no result of this benchmark, or was measured otherwise or elsewhere.
        """
        try:
            earlier = json.loads(file.read_text())
            differing = [name for name in SAME if earlier[name] != self.document[name]]
            kept = [p for p in earlier["points"] if not failures({"points": [p]})]
            profile = [p for p in earlier.get("profile", []) if "failed" not in p]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} is no result that can be resumed: {error!r}") from None
        if differing:
            raise ValueError(f"{file} was measured with another {', '.join(differing)}: choose another file, or leave out --resume")
        self.document["points"] = kept
        self.document["seconds_before"] = earlier.get("seconds_before", 0.0) + earlier.get("seconds", 0.0)
        if profile:
            self.document["profile"] = profile
        if "points" in earlier.get("events_by_rate", {}):
            self.document["events_by_rate"] = earlier["events_by_rate"]

    def has(self, point: Point, labels: list[str]) -> bool:
        """Whether a point is there with these contestants."""
        found = next((x for x in self.document["points"] if key(x["point"]) == key(asdict(point))), None)
        return found is not None and set(labels) <= set(found["contestants"])

    def has_profile(self, point: Point) -> bool:
        """Whether the profile of a point is there."""
        return any(key(p["point"]) == key(asdict(point)) for p in self.document.get("profile", []))

    def add(self, item: dict[str, Any]) -> None:
        """Add a point, in place of an earlier one with fewer contestants."""
        points = self.document["points"]
        points[:] = [x for x in points if key(x["point"]) != key(item["point"])] + [item]

    def save(self, **more: Any) -> None:
        """Write the files; a picture that cannot be drawn does not stop the benchmark."""
        self.document.update(more)
        if self._png is not None and self.document["points"]:
            try:
                from eprop_plot import draw

                draw(self.document, self._png)
                self.document.pop("plot_failed", None)
            except Exception as error:  # whatever a drawing library says
                self.document["plot_failed"] = f"plot: {error!r}"
                print(self.document["plot_failed"], file=sys.stderr, flush=True)
        if self._out is not None:
            write_whole(self._out, json.dumps(self.document, indent=1) + "\n")
