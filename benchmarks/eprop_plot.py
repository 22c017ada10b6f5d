"""Draw the results of ``eprop.py``: wall time by size, cost of an event by rate and by in-degree, and where the time goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

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
    figure, axes = plt.subplots(2, 2, figsize=(10, 7.4), layout="constrained")
    by_size, by_rate, by_degree, shares = axes.ravel()
    sizes = [item for item in _of(result, "size") if item["point"]["indegree"] == 100]
    for name in LABELS:
        _curve(by_size, _series(sizes, name, "size", "wall_per_simulated_s"), name)
    by_size.set(xscale="log", yscale="log", xlabel="neurons (100 + 50 + 10 plastic synapses each)", ylabel="wall s per simulated s")
    by_size.axhline(1.0, color="0.8", linewidth=0.8, zorder=0)
    for name in ("anchored", "loop", "nest"):
        _curve(by_rate, _series(_of(result, "rate"), name, "rate", "ns_per_event"), name)
    _curve(
        by_rate,
        _series(_of(result, "rate"), "anchored", "rate", "ns_per_event_without_neurons"),
        "anchored",
        note=", without per-neuron cost",
        style="--",
    )
    by_rate.set(xscale="log", yscale="log", xlabel="firing rate of the hidden neurons, Hz", ylabel="ns per plastic event")
    for name in ("anchored", "loop", "nest"):
        _curve(by_degree, _series(_of(result, "indegree"), name, "indegree", "ns_per_event"), name)
    by_degree.set(xscale="log", yscale="log", xlabel="recurrent in-degree", ylabel="ns per plastic event")
    for panel in (by_size, by_rate, by_degree):
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=8)
        panel.grid(alpha=0.3, which="both")
    _shares(shares, result)
    machine = result["machine"]
    figure.suptitle(f"Event-driven e-prop, {result['threads']} thread(s), {machine['cpu']}; lower is better", fontsize=10)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def _shares(axes: Axes, result: Mapping[str, Any]) -> None:
    """Stack what each phase takes of an event's time, beside the time its bytes take at the memory's bandwidth."""
    profiles = result.get("profile", [])
    if not profiles:
        axes.set_axis_off()
        return
    names = list(dict.fromkeys(name for p in profiles for name in p["phases"]))
    labels = [f"{p['point']['size']:,}\n x {p['point']['indegree']}" for p in profiles]
    bottom = [0.0] * len(profiles)
    for index, name in enumerate(names):
        heights = [p["phases"].get(name, {}).get("ns_per_event", 0.0) for p in profiles]
        axes.bar(labels, heights, bottom=bottom, label=name, color=f"C{index}", width=0.6)
        bottom = [a + b for a, b in zip(bottom, heights, strict=True)]
    for index, p in enumerate(profiles):
        limit = p["distance"]["ns_at_bandwidth"]
        axes.plot(
            [index - 0.4, index + 0.4], [limit, limit], color="k", label="bytes of an event at triad bandwidth" if index == 0 else None
        )
    axes.set(xlabel="neurons x in-degree", ylabel="ns per plastic event")
    axes.legend(fontsize=7)
