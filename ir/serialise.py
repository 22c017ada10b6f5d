"""A network as two files of plain data, and back: ``network.json`` (structure) and ``network.npz`` (arrays).

A build folder carries them, so that it can be validated, simulated and deployed without the files it was made from.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.ir import connectivity, feedback, hints, learning, network, neurons, task, values
from neurocompile.ir.errors import InputError
from neurocompile.ir.network import Network
from neurocompile.ir.npz import AnyArray

FORMAT = "neurocompile-network/1"

_CLASSES: dict[str, type[Any]] = {
    cls.__name__: cls
    for module in (connectivity, feedback, hints, learning, network, neurons, task, values)
    for cls in vars(module).values()
    if isinstance(cls, type) and cls.__module__ == module.__name__ and (dataclasses.is_dataclass(cls) or issubclass(cls, Enum))
}


def _pack(value: object, arrays: dict[str, AnyArray], place: str) -> object:
    if isinstance(value, np.ndarray):
        arrays[place] = value
        return {"$array": place}
    if isinstance(value, Enum):
        return {"$enum": type(value).__name__, "value": value.value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _pack(getattr(value, f.name), arrays, f"{place}.{f.name}") for f in dataclasses.fields(value)}
        return {"$class": type(value).__name__, **fields}
    if isinstance(value, tuple):
        return {"$tuple": [_pack(v, arrays, f"{place}.{i}") for i, v in enumerate(value)]}
    if isinstance(value, Mapping):
        return {"$dict": {str(k): _pack(v, arrays, f"{place}.{k}") for k, v in value.items()}}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{place}: cannot store a {type(value).__name__}")


def _unpack(value: Any, arrays: Mapping[str, AnyArray]) -> Any:
    if not isinstance(value, dict):
        return value
    if "$array" in value:
        return arrays[value["$array"]]
    if "$enum" in value:
        return _CLASSES[value["$enum"]](value["value"])
    if "$tuple" in value:
        return tuple(_unpack(v, arrays) for v in value["$tuple"])
    if "$dict" in value:
        return {k: _unpack(v, arrays) for k, v in value["$dict"].items()}
    if "$float" in value:
        return float(value["$float"])
    return _CLASSES[value["$class"]](**{k: _unpack(v, arrays) for k, v in value.items() if k != "$class"})


def pack_network(net: Network) -> tuple[str, dict[str, AnyArray]]:
    """Return (JSON text, arrays) of a network; the same network gives the same text and arrays.

    Where its files lie is left out (their digests belong to the build): a data set's folder is given again by ``--data``.
    """
    arrays: dict[str, AnyArray] = {}
    here = dataclasses.replace(net, source=Path(net.source).name, files=())
    if here.task is not None and here.task.data is not None and here.task.data.path is not None:
        data = dataclasses.replace(here.task.data, path=None)
        here = dataclasses.replace(here, task=dataclasses.replace(here.task, data=data))
    tree = _pack(here, arrays, "network")
    return json.dumps({"format": FORMAT, "network": tree}, indent=1, sort_keys=True) + "\n", arrays


def unpack_network(text: str, arrays: Mapping[str, AnyArray], *, file: str) -> Network:
    """Return the network of :func:`pack_network`; InputError NC161 if the files are damaged or of another version."""
    try:
        tree = json.loads(text)
        if tree["format"] != FORMAT:
            raise ValueError(f"format is {tree['format']!r}, this version reads {FORMAT!r}")
        net = _unpack(tree["network"], arrays)
    except InputError as error:
        raise InputError(d if d.span or d.file else dataclasses.replace(d, file=file) for d in error.diagnostics) from None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise InputError.of("NC161", f"is not a stored network: {error}", file=file, help="build it again") from None
    if not isinstance(net, Network):
        raise InputError.of("NC161", "does not hold a network", file=file, help="build it again")
    return net
