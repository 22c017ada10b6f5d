"""The build folder: written whole or not at all, read back with its digests checked.

``manifest.json`` versions, seed, options, digests of every file (no time stamps: same input and seed, same bytes);
``report.json`` / ``report.html`` what is used, what was approximated; ``network.json`` + ``network.npz`` the description;
``weights.npz`` only when trained weights were given; ``mapping.npz`` where each neuron went; ``program/`` what runs.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.build_check import check_build, digest
from neurocompile.ir import Network
from neurocompile.ir.errors import InputError
from neurocompile.ir.npz import AnyArray, load_npz, npz_bytes
from neurocompile.ir.realise import Connections
from neurocompile.ir.serialise import pack_network, unpack_network
from neurocompile.ir.shards import IN_TURN, Shards
from neurocompile.mapping.export import mapping_arrays
from neurocompile.pipeline import Compiled, CompileOptions, load_connections
from neurocompile.report import build_report, render_html
from neurocompile.versions import FORMAT_VERSION, versions


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BuildFolder:
    """A build that was read back: ``path``, ``manifest`` and ``report`` (parsed JSON), the network and its connections."""

    path: Path
    manifest: Mapping[str, Any]
    report: Mapping[str, Any]
    network: Network
    connections: Mapping[str, Connections]

    @property
    def target(self) -> str:
        """Name of the target."""
        return str(self.manifest["target"])


def _json(value: object, *, sort: bool = True) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=sort, allow_nan=False) + "\n").encode()


def assemble(compiled: Compiled, options: CompileOptions, inputs: Mapping[str, bytes], *, shards: Shards = IN_TURN) -> dict[str, bytes]:
    """Return all files of the build folder, path -> content.

    Parameters
    ----------
    inputs
        Name -> content of the user's files (digests go into the manifest).
    shards
        Deflates the arrays; the bytes do not depend on it.
    """
    text, arrays = pack_network(compiled.network)
    origin = _provenance(compiled, options, inputs)
    report = build_report(compiled, origin)
    files: dict[str, bytes] = dict(compiled.artifacts)
    files["network.json"] = text.encode()
    files["network.npz"] = npz_bytes(arrays, shards=shards)
    if compiled.trained:
        files["weights.npz"] = npz_bytes(_weight_arrays(compiled.connections), shards=shards)
    if compiled.mapping is not None:
        files["mapping.npz"] = npz_bytes(mapping_arrays(compiled.mapping), shards=shards)
    else:
        offsets = np.cumsum([0] + [p.size for p in compiled.network.populations])
        files["mapping.npz"] = npz_bytes({"population_offset": offsets, "part": np.zeros(compiled.network.n_neurons, np.int32)})
    files["report.json"] = _json(report, sort=False)  # in the order of the description, as the page shows it
    files["report.html"] = render_html(report).encode()
    manifest = {
        "format_version": FORMAT_VERSION,
        "name": compiled.network.name,
        "target": options.target,
        "machine": compiled.machine.name if compiled.machine else None,
        **origin,
        "files": {name: digest(content) for name, content in sorted(files.items())},
    }
    files["manifest.json"] = _json(manifest)
    return files


def _provenance(compiled: Compiled, options: CompileOptions, inputs: Mapping[str, bytes]) -> dict[str, Any]:
    """What the build was made from; no times and no folders, so that the same build elsewhere has the same bytes."""
    return {
        "seed": compiled.network.seed,
        "options": {
            "allow_approximation": options.allow_approximation,
            "overrides": dict(options.overrides),
            "extra": dict(options.extra),
            "partition": options.partition,
            "routes": options.routes,
            "effort": options.effort,
        },
        "versions": versions(),
        "inputs": {name: digest(content) for name, content in sorted(inputs.items())},
    }


def _weight_arrays(connections: Mapping[str, Connections]) -> dict[str, AnyArray]:
    return {f"weight:{name}": c.weight for name, c in connections.items()}


def write_build(files: Mapping[str, bytes], destination: Path) -> None:
    """Write a build folder: into a hidden folder beside it, then renamed. An older build at the same place is replaced; a folder that
    holds anything else is refused (InputError NC702); a folder that cannot be written is InputError NC701."""
    shown, destination = str(destination), Path(os.path.abspath(destination))
    foreign = _foreign(destination)
    if foreign is not None:
        raise InputError.of(
            "NC702",
            f"{foreign}: nothing was written",
            file=shown,
            help="choose another folder with -o, or remove what is yours from this one",
        )
    parent = destination.parent
    staging: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _clean_leftovers(parent, destination.name)
        staging = Path(tempfile.mkdtemp(prefix=f".{destination.name}.{os.getpid()}.", dir=parent))
        for name, content in files.items():
            path = staging / "new" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if destination.exists():
            destination.rename(staging / "old")
        (staging / "new").rename(destination)
    except OSError as error:
        raise InputError.of(
            "NC701",
            f"cannot be written: {error.strerror or error}: nothing was changed",
            file=shown,
            help="choose a folder that you can write to with -o",
        ) from None
    finally:
        if staging is not None:
            if (staging / "old").exists() and not destination.exists():  # stopped between the two renames, whatever the reason
                (staging / "old").rename(destination)
            shutil.rmtree(staging, ignore_errors=True)


def _foreign(destination: Path) -> str | None:
    """Return why a folder may not be replaced: it is no build, or holds files of others (results of a run); None if it may."""
    if not destination.exists() and not destination.is_symlink():
        return None
    if not destination.is_dir() or destination.is_symlink():
        return "exists and is no folder"
    found = {str(p.relative_to(destination)) for p in destination.rglob("*") if not p.is_dir() and "__pycache__" not in p.parts}
    if not found:
        return None
    try:
        manifest = json.loads((destination / "manifest.json").read_bytes())
        own = {"manifest.json", *manifest["files"]} if manifest["target"] and manifest["format_version"] else set()
    except (OSError, ValueError, KeyError, TypeError):
        return "exists and is not a build of neurocompile"
    added = sorted(found - own)
    return f"holds '{added[0]}', which is not part of the build" if added else None


def _clean_leftovers(parent: Path, name: str) -> None:
    """Remove hidden folders that a killed build of the same destination left; bring back an older build it had moved aside."""
    for leftover in parent.glob(f".{glob.escape(name)}.*"):
        pid = leftover.name[len(name) + 2 :].partition(".")[0]
        if not leftover.is_dir() or not pid.isdigit() or _alive(int(pid)):
            continue
        if (leftover / "old").is_dir() and not (parent / name).exists():
            (leftover / "old").rename(parent / name)
        shutil.rmtree(leftover, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def read_build(path: Path) -> BuildFolder:
    """Read a build folder, checked (`check_build`)."""
    manifest, report = check_build(path)
    network = unpack_network((path / "network.json").read_text("utf-8"), load_npz(path / "network.npz"), file=str(path / "network.json"))
    connections = load_connections(network, path / "weights.npz" if "weights.npz" in manifest["files"] else None)
    return BuildFolder(path=path, manifest=manifest, report=report, network=network, connections=connections)
