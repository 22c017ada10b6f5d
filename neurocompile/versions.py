"""Versions that results depend on, and of our own formats."""

from __future__ import annotations

import importlib.metadata
import platform

import neurocompile

FORMAT_VERSION = "1.0"
"""Of manifest.json, report.json and ``--format json``."""

_DISTRIBUTIONS = ("numpy", "scipy", "numba", "lava-nc", "spynnaker", "nest-simulator", "nir")


def versions() -> dict[str, str | None]:
    """Return distribution -> version (None if not installed), neurocompile and Python first."""
    found: dict[str, str | None] = {"neurocompile": neurocompile.__version__, "python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
