"""Checkpoints of a training: everything that a bit-identical continuation needs, in one .npz that appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.ir import Network
from neurocompile.ir.errors import InputError
from neurocompile.ir.npz import AnyArray, load_npz, save_npz
from neurocompile.ir.realise import Connections
from neurocompile.ir.serialise import pack_network
from neurocompile.tasks.curve import EpochRecord
from neurocompile.tasks.numerics import Numerics
from neurocompile.tasks.present import Tally

FORMAT = "neurocompile-checkpoint/1"
NAME = "checkpoint.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A point in a training.

    Attributes
    ----------
    digest : str
        Of the description, the data and the limits: a checkpoint continues the training that it was written by, no other.
    epoch : int
        Epochs finished.
    position : int
        Samples of the next epoch that were already shown. The order of samples and their spikes are functions of (seed, epoch), so
        this is also the position of the random numbers.
    tally : Tally
        Sums over those samples.
    history : tuple of EpochRecord
    state : dict of arrays
        The engine's.
    """

    digest: str
    epoch: int
    position: int
    tally: Tally
    history: tuple[EpochRecord, ...]
    state: dict[str, AnyArray]


def digest_of(
    network: Network,
    identity: str,
    limits: Mapping[str, int | None],
    connections: Mapping[str, Connections] | None,
    kappas: Mapping[str, AnyArray] | None = None,
    numerics: Numerics | None = None,
) -> str:
    """Return the SHA-256 of what a training depends on. The number of epochs is left out: more of them may follow."""
    digest = hashlib.sha256(f"{FORMAT}\n{identity}\n{json.dumps(dict(limits), sort_keys=True)}\n".encode())
    digest.update(f"{network_digest(network)}\n{connections_digest(connections or {})}".encode())
    if kappas:
        digest.update(arrays_digest(kappas, "kappas").encode())
    if numerics is not None:
        digest.update(f"numerics {numerics.identity}".encode())
    return digest.hexdigest()


def network_digest(network: Network) -> str:
    """Return the SHA-256 of a description, its arrays included; notes and the number of epochs are left out."""
    task = network.task
    plain = replace(network, notes=(), task=replace(task, epochs=1) if task is not None else None)
    text, arrays = pack_network(plain)
    return arrays_digest(arrays, text)


def connections_digest(connections: Mapping[str, Connections]) -> str:
    """Return the SHA-256 of all synapses."""
    arrays = {f"{name}:{end}": getattr(c, end) for name, c in connections.items() for end in ("pre", "post", "weight", "delay")}
    return arrays_digest(arrays)


def arrays_digest(arrays: Mapping[str, AnyArray], text: str = "") -> str:
    """Return the SHA-256 of a text and of arrays: names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256(f"{text}\n".encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint.npz`` atomically (InputError NC701 if it cannot be written)."""
    meta = {
        "format": FORMAT,
        "digest": checkpoint.digest,
        "epoch": checkpoint.epoch,
        "position": checkpoint.position,
        "tally": asdict(checkpoint.tally),
        "history": [asdict(row) for row in checkpoint.history],
    }
    text = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    save_npz(folder / NAME, {"meta": text, **{f"state:{name}": array for name, array in checkpoint.state.items()}})


def load_checkpoint(folder: Path, digest: str) -> Checkpoint:
    """Read ``checkpoint.npz`` of a folder.

    Raises
    ------
    InputError
        NC710 there is none, NC711 it belongs to another training, NC712 it cannot be read.
    """
    path = folder / NAME
    if not path.is_file():
        raise InputError.of("NC710", "there is no checkpoint to resume from", file=str(path), help="leave out --resume to begin a training")
    try:
        arrays = load_npz(path)
        meta: dict[str, Any] = json.loads(arrays["meta"].tobytes().decode())
        if meta["format"] != FORMAT:
            raise ValueError(f"its format is {meta['format']!r}, this version reads {FORMAT!r}")
        found = Checkpoint(
            digest=str(meta["digest"]),
            epoch=int(meta["epoch"]),
            position=int(meta["position"]),
            tally=Tally(**meta["tally"]),
            history=tuple(EpochRecord(**row) for row in meta["history"]),
            state={key.removeprefix("state:"): array for key, array in arrays.items() if key.startswith("state:")},
        )
    except (InputError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.diagnostics[0].message if isinstance(error, InputError) else str(error)
        raise InputError.of(
            "NC712", f"is no readable checkpoint: {reason}", file=str(path), help="begin the training anew in another folder"
        ) from None
    if found.digest != digest:
        raise InputError.of(
            "NC711",
            "the checkpoint belongs to another training: the description, its seed, the data or the limits have changed since",
            file=str(path),
            help="resume with what it was begun with, or begin anew in another folder",
        )
    return found
