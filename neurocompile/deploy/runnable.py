"""Whether a build can run on hardware at all, before a place is asked for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurocompile.ir.errors import SdkMissingError

BINARIES = "program/extension/binaries"
"""Of a build with e-prop cores for SpiNNaker: what its user has compiled, beside the files of the manifest."""


def check_runnable(files: Mapping[str, Path], where: str) -> None:
    """Raise SdkMissingError NC532 if a SpiNNaker program would end at once on any machine: without binaries that it needs, or as it is
    for a machine that can only be mapped for.

    files : path in the build -> file, whose digests were checked; where : the build, for the message.
    """
    document: dict[str, Any] = json.loads(files["program/network.json"].read_bytes())
    reason, populations = document.get("mapping_only"), [p["eprop"]["binary"] for p in document.get("populations", []) if "eprop" in p]
    if reason:
        raise SdkMissingError.of("NC532", str(reason), file=where, help="build for --machine spin5, or look at the mapping: validate")
    missing = [name for name in (f"{binary}.aplx" for binary in populations) if f"{BINARIES}/{name}" not in files]
    if missing:
        raise SdkMissingError.of(
            "NC532",
            f"its e-prop cores need {', '.join(missing)} in {BINARIES}",
            file=where,
            help="build them as program/extension/README.md says, or build the network without e-prop on the machine: --set eprop=r_stdp "
            "or eprop=static",
        )


__all__ = ["BINARIES", "check_runnable"]
