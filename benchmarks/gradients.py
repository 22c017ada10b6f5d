"""E-prop's gradient beside BPTT's: cosine and relative norm for every case in which they differ, as JSON (``--table``: as Markdown).

uv run python benchmarks/gradients.py [--seeds 20] [--table]
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "backends" / "reference"  # the adjoint is the tests' oracle


def summary(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    """Return mean and range; the mean of a ratio is the geometric one."""
    cosine, norm = np.array(pairs).T
    return {
        "cosine": {"mean": float(cosine.mean()), "min": float(cosine.min()), "max": float(cosine.max())},
        "norm": {"mean": float(np.exp(np.log(norm).mean())), "min": float(norm.min()), "max": float(norm.max())},
    }


def table(cases: dict[str, dict[str, Any]]) -> str:
    lines = ["| case | weights | cosine | norm, e-prop / BPTT |", "|---|---|---|---|"]
    for case, found in cases.items():
        for name in ("in", "rec"):
            if name in found:
                c, n = found[name]["cosine"], found[name]["norm"]
                cosine, norm = (f"{x['mean']:.3g} ({x['min']:.3g} .. {x['max']:.3g})" for x in (c, n))
                lines.append(f"| {case} | {name} | {cosine} | {norm} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the bias of e-prop's gradient.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--table", action="store_true", help="print a Markdown table of input and recurrent weights")
    options = parser.parse_args()
    sys.path.insert(0, str(FOLDER))
    biases = importlib.import_module("adjoint").BIASES
    cases = {
        name: {weights: summary(pairs) for weights, pairs in bias.measure(range(options.seeds)).items()} for name, bias in biases.items()
    }
    print(table(cases) if options.table else json.dumps({"seeds": options.seeds, "cases": cases}, indent=2))


if __name__ == "__main__":
    main()
