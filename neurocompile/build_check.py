"""Whether a folder is a build, and still what was built. Imports nothing slow: `deploy` needs no more of a build than this."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurocompile.ir.errors import InputError

_NEEDED_KEYS = ("format_version", "name", "target", "versions")
_NEEDED_FILES = ("network.json", "network.npz", "report.json")


def digest(content: bytes) -> str:
    """Digest of a file as manifests have it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def check_build(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return (manifest, report) of a build folder after checking the digest of every file (InputError NC703 if it is no build, NC704 if a
    file was changed)."""
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        files = dict(manifest["files"])
        lacking = [key for key in _NEEDED_KEYS if not manifest.get(key)] + [name for name in _NEEDED_FILES if name not in files]
        if lacking:
            raise ValueError(f"its manifest lacks '{lacking[0]}'")
        report = json.loads((path / "report.json").read_bytes())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError.of(
            "NC703", f"is not a build folder: {error}", file=str(path), help="make one with `neurocompile build NET --target T -o DIR`"
        ) from None
    for name, expected in files.items():
        try:
            content = (path / name).read_bytes()
        except OSError as error:
            raise InputError.of(
                "NC704", f"'{name}' is missing from the build: {error.strerror}", file=str(path), help="build it again"
            ) from None
        if digest(content) != expected:
            raise InputError.of(
                "NC704",
                f"'{name}' was changed after the build (its digest differs from the manifest's)",
                file=str(path),
                help="build it again",
            )
    for code in sorted(p for pattern in ("*.py", "*.so", "*.pth") for p in (path / "program").rglob(pattern)):
        name = code.relative_to(path).as_posix()
        if name not in files:  # it would run with the program, or in the place of a module that the program imports
            raise InputError.of("NC704", f"'{name}' was added after the build", file=str(path), help="remove it, or build again elsewhere")
    return manifest, report
