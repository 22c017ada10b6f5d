"""Draw the results of ``eprop.py``: wall time by size, cost of an event by rate and by in-degree, and where the time goes.

    python benchmarks/eprop_plot.py results.json plot.png

The picture is made for a width of 900 px, at twice as many. Results may be incomplete: what is missing is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

LABELS = {
    "anchored": ("this engine", "C0", "o"),
    "anchored_float32": ("this engine, float32", "C9", "v"),
    "loop": ("loop over histories", "C2", "s"),
    "nest": ("NEST 3.10", "C3", "^"),
    "nest_cutoff": ("NEST 3.10, cutoff 100 ms", "C1", "x"),
    "dense": ("dense NumPy", "C7", "d"),
}


def _curve(axes: Axes, points: list[tuple[float, float]], contestant: str, *, note: str = "", style: str = "-") -> None:
    if points:
        label, color, marker = LABELS[contestant]
        xs, ys = zip(*sorted(points), strict=True)
        axes.plot(xs, ys, style, color=color, marker=marker, markersize=4, label=label + note)


def _of(result: Mapping[str, Any], sweep: str) -> list[Mapping[str, Any]]:
    return [item for item in result["points"] if sweep in item["sweeps"]]


def _cost(item: Mapping[str, Any], contestant: str, key: str) -> float | None:
    found = item["contestants"].get(contestant, {}).get(key)
    return None if found is None else float(found["min"])


def _series(items: list[Mapping[str, Any]], contestant: str, x: str, key: str) -> list[tuple[float, float]]:
    found = ((float(item["point"][x]), _cost(item, contestant, key)) for item in items)
    return [(a, b) for a, b in found if b is not None and b > 0.0]


def draw(result: Mapping[str, Any], file: Path) -> None:
    """Write the picture."""
    with plt.rc_context({"font.size": 9, "axes.titlesize": 10, "legend.fontsize": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
        by_size, by_rate, by_degree, shares = axes.ravel()
        _by_size(by_size, result)
        _by_rate(by_rate, result)
        _by_degree(by_degree, result)
        for panel in (by_size, by_rate, by_degree):
            if panel.get_legend_handles_labels()[0]:
                panel.legend(**({"loc": "upper left", "ncols": 2} if panel is by_size else {}))
                panel.grid(alpha=0.25, which="major")
                _ticks(panel)
            else:
                panel.set_axis_off()
        _shares(shares, result)
        machine, threads = result["machine"], result["threads"]
        figure.suptitle(
            f"Event-driven e-prop, {threads} thread{'s' * (threads > 1)} of {machine['cpu']}; lower is better", fontsize=10, wrap=True
        )
        # appears whole: a benchmark draws again after every point
        partial = file.with_name(f".{file.name}.partial")
        figure.savefig(partial, dpi=200, format=file.suffix.removeprefix(".") or "png")
        partial.replace(file)
        plt.close(figure)


def _ticks(axes: Axes) -> None:
    """Mark the measured places with plain numbers."""
    places = sorted({float(x) for line in axes.get_lines() if line.get_marker() != "None" for x in np.asarray(line.get_xdata())})
    axes.set_xticks(places, [f"{x:,g}" for x in places])
    axes.minorticks_off()


def _by_size(axes: Axes, result: Mapping[str, Any]) -> None:
    """Plot wall time of a simulated second by the number of neurons."""
    sizes = [item for item in _of(result, "size") if item["point"]["indegree"] == 100]
    sizes = sizes or _of(result, "size")
    for name in LABELS:
        _curve(axes, _series(sizes, name, "size", "wall_per_simulated_s"), name)
    axes.set(xscale="log", yscale="log", xlabel="neurons", ylabel="wall s per simulated s", title="By size")
    axes.axhline(1.0, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    axes.set_ylim(top=30.0 * axes.get_ylim()[1])  # the legend stands above


def _by_rate(axes: Axes, result: Mapping[str, Any]) -> None:
    """Plot the cost of an event by firing rate."""
    items = _of(result, "rate")
    for name in ("anchored", "loop", "nest"):
        _curve(axes, _series(items, name, "rate", "ns_per_event"), name)
    net = [(p["rate"], p["ns_per_event"]) for p in result.get("events_by_rate", {}).get("points", [])]
    _curve(axes, net, "anchored", note=", without per-neuron cost", style="--")
    axes.set(xscale="log", yscale="log", xlabel="firing rate, Hz", ylabel="ns per plastic event", title="By firing rate")


def _by_degree(axes: Axes, result: Mapping[str, Any]) -> None:
    """Plot the cost of an event by in-degree."""
    for name in ("anchored", "loop", "nest"):
        _curve(axes, _series(_of(result, "indegree"), name, "indegree", "ns_per_event"), name)
    axes.set(xscale="log", yscale="log", xlabel="recurrent synapses a neuron", ylabel="ns per plastic event", title="By in-degree")


def _shares(axes: Axes, result: Mapping[str, Any]) -> None:
    """Stack what each phase takes of an event's time, beside the time its bytes take at the memory's bandwidth."""
    profiles = [p for p in result.get("profile", []) if "failed" not in p]
    if not profiles:
        axes.set_axis_off()
        return
    names = list(dict.fromkeys(name for p in profiles for name in p["phases"]))
    places = list(range(len(profiles)))
    bottom = [0.0] * len(profiles)
    for index, name in enumerate(names):
        heights = [p["phases"].get(name, {}).get("ns_per_event", 0.0) for p in profiles]
        axes.bar(places, heights, bottom=bottom, label=name, color=f"C{index}", width=0.6)
        bottom = [a + b for a, b in zip(bottom, heights, strict=True)]
    for index, p in enumerate(profiles):
        limit = p["distance"]["ns_at_bandwidth"]
        label = "bytes of an event at the memory's speed" if index == 0 else None
        axes.plot([index - 0.4, index + 0.4], [limit, limit], color="k", label=label)
    axes.set_xticks(places, [f"{p['point']['size']:,}\nx {p['point']['indegree']}" for p in profiles])
    axes.set(xlabel="neurons x recurrent synapses", ylabel="ns per plastic event", title="Where the time goes")
    axes.set_xlim(-0.6, max(len(profiles) - 0.4, 1.6))
    axes.set_ylim(0.0, 1.7 * max(bottom))  # the legend stands above
    axes.legend()


def main(words: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="JSON of eprop.py")
    parser.add_argument("picture", type=Path, help=".png, .svg or .pdf")
    given = parser.parse_args(words)
    try:
        result = json.loads(given.results.read_text())
        draw(result, given.picture)
    except (OSError, ValueError, KeyError, TypeError) as error:
        parser.error(f"{given.results} cannot be drawn: {error!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
