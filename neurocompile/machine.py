"""Machines: chips, links, cores, and numbers that each say where they come from. Read from YAML (docs/machines.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from neurocompile.ir.errors import InputError, did_you_mean

CONFIDENCES = ("measured", "published", "inferred", "guess")
"""What a number may claim. ``override`` is added for numbers the user replaced."""

MESH_LINKS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Steps (dx, dy) of the links E, N, W, S of a mesh."""
HEX_LINKS = ((1, 0), (1, 1), (0, 1), (-1, 0), (-1, -1), (0, -1))
"""Steps (dx, dy) of SpiNNaker's links E, NE, N, W, SW, S (datasheet: bits 0-5 of a route)."""
LINK_STEPS: Mapping[str, tuple[tuple[int, int], ...]] = MappingProxyType({"mesh": MESH_LINKS, "hex": HEX_LINKS, "hex_torus": HEX_LINKS})
ROUTING_KINDS = ("destination", "multicast_tcam")
_WHOLE = frozenset({"chip.cores", "chip.reserved_cores", "router.usable_entries", "router.key_bits"})
_DIVISORS = frozenset({"core.synapse_block", "core.neurons_source"})
_MOST = MappingProxyType({"chip.cores": 65536, "chip.reserved_cores": 65536, "router.key_bits": 32})
"""Bounds of the compiler's own arrays (keys are uint32), not of any hardware; as are those of all ``_bits`` and of all numbers below."""
_MOST_BITS, _MOST_OF_ALL = 1000, 1e18


def quantity_need(key: str, value: float, unit: str) -> str | None:
    """Return what a quantity must be if ``value`` is not it, else None. Pure numbers (unit 1: exponents) may be negative."""
    whole, positive = key in _WHOLE, key in _DIVISORS or key.endswith("_per_second")
    most = _MOST.get(key, _MOST_BITS if key.endswith("_bits") else _MOST_OF_ALL)
    least_kept = value > 0 if positive else value >= 0 or unit == "1"
    if np.isfinite(value) and abs(value) <= most and least_kept and not (whole and value != int(value)):
        return None
    least = " > 0" if positive else "" if unit == "1" else " >= 0"
    return ("a whole number" if whole else "a number") + least + (" and" if least else "") + f" <= {most:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A number of the hardware. ``unit``: text such as ``bit``; ``confidence``: measured | published | inferred | guess | override."""

    value: float
    unit: str
    source: str
    confidence: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Topology:
    """Which chips there are and how they are linked.

    kind : ``mesh`` (links E, N, W, S), ``hex`` (SpiNNaker's E, NE, N, W, SW, S) or ``hex_torus`` (the same, wrapped around);
    width, height : chips; chip number = y * width + x;
    chips : int32, sorted numbers of the chips that exist and work;
    n_cores, n_reserved : int32 (width * height,), cores and how many of them (the lowest numbers) the system keeps; 0 where no chip is;
    io_chip : where packets of external neurons enter;
    dead_links : (chip, link) pairs, both directions; dead_cores : (chip, core) pairs.
    """

    kind: str
    width: int
    height: int
    chips: npt.NDArray[np.int32]
    n_cores: npt.NDArray[np.int32]
    n_reserved: npt.NDArray[np.int32]
    io_chip: int
    dead_links: frozenset[tuple[int, int]] = frozenset()
    dead_cores: frozenset[tuple[int, int]] = frozenset()
    _neighbours: npt.NDArray[np.int32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        steps = LINK_STEPS[self.kind]
        table = np.full((self.width * self.height, len(steps)), -1, np.int32)
        exists = np.zeros(self.width * self.height, bool)
        exists[self.chips] = True
        for chip in self.chips.tolist():
            y, x = divmod(chip, self.width)
            for link, (dx, dy) in enumerate(steps):
                nx, ny = x + dx, y + dy
                if self.kind == "hex_torus":
                    nx, ny = nx % self.width, ny % self.height
                if 0 <= nx < self.width and 0 <= ny < self.height and exists[ny * self.width + nx] and (chip, link) not in self.dead_links:
                    table[chip, link] = ny * self.width + nx
        for array in (table, self.chips, self.n_cores, self.n_reserved):
            array.setflags(write=False)
        object.__setattr__(self, "_neighbours", table)

    @property
    def neighbours(self) -> npt.NDArray[np.int32]:
        """int32 (width * height, n_links): chip behind each link, -1 where there is none or the link is dead. Read-only."""
        return self._neighbours

    @property
    def n_links(self) -> int:
        """4 (mesh) or 6 (hex)."""
        return len(LINK_STEPS[self.kind])

    def position(self, chip: int) -> tuple[int, int]:
        """(x, y) of a chip number."""
        return chip % self.width, chip // self.width

    def usable_cores(self, chip: int) -> tuple[int, ...]:
        """Numbers of the cores of a chip that a program may use, ascending."""
        first, last = int(self.n_reserved[chip]), int(self.n_cores[chip])
        return tuple(core for core in range(first, last) if (chip, core) not in self.dead_cores)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Machine:
    """A machine. ``routing``: ``destination`` (packets carry their target core) or ``multicast_tcam`` (keys and masks);
    ``file``: where it was read; ``quantities``: key such as ``core.neurons`` -> :class:`Quantity`, read-only."""

    name: str
    family: str
    title: str
    file: str
    topology: Topology
    routing: str
    quantities: Mapping[str, Quantity]

    def quantity(self, key: str) -> Quantity:
        """Return the quantity; InputError NC156 if the machine file does not state it."""
        found = self.quantities.get(key)
        if found is None:
            raise InputError.of(
                "NC156",
                f"machine '{self.name}' does not state '{key}'",
                file=self.file,
                help=did_you_mean(key, self.quantities) or f"add {key} to the machine file",
            )
        return found

    def value(self, key: str, default: float | None = None) -> float:
        """Return the number of a quantity; ``default`` (if not None) or InputError NC156 where the file does not state it."""
        if default is not None and key not in self.quantities:
            return default
        return self.quantity(key).value

    def has(self, key: str) -> bool:
        """Whether the machine file states the quantity."""
        return key in self.quantities

    @property
    def n_chips(self) -> int:
        """Chips that exist and work."""
        return len(self.topology.chips)

    @property
    def n_cores(self) -> int:
        """Cores that programs may use, on all chips."""
        t = self.topology
        return int((t.n_cores - t.n_reserved)[t.chips].sum()) - sum(core >= int(t.n_reserved[chip]) for chip, core in t.dead_cores)

    def with_overrides(self, overrides: Mapping[str, float]) -> Machine:
        """Return the machine with other numbers, marked ``override``; InputError NC157 for unknown keys and bad numbers.

        ``chip.cores`` and ``chip.reserved_cores`` cannot be overridden this way: chips differ; copy the file instead.
        """
        quantities = dict(self.quantities)
        for key, value in overrides.items():
            old = quantities.get(key)
            if old is None:
                raise InputError.of(
                    "NC157", f"machine '{self.name}' has no quantity '{key}' to override", help=did_you_mean(key, self.quantities)
                )
            if key in {"chip.cores", "chip.reserved_cores"}:
                raise InputError.of(
                    "NC157",
                    f"'{key}' cannot be overridden: chips differ in their cores",
                    help=f"copy {self.name}.yaml, change it there, and pass its path as the machine",
                )
            need = quantity_need(key, value, old.unit)
            if need is not None:
                raise InputError.of("NC157", f"'{key}' cannot be {value:g} {old.unit}: {need} is needed")
            quantities[key] = replace(old, value=float(value), source=f"user, instead of {old.value:g}", confidence="override")
        return replace(self, quantities=MappingProxyType(quantities))


def list_machines() -> tuple[str, ...]:
    """Names of the machines that come with neurocompile, sorted."""
    folder = resources.files("neurocompile.hw_configs")
    return tuple(sorted(entry.name[: -len(".yaml")] for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def load_machine(name_or_path: str | Path, overrides: Mapping[str, float] | None = None) -> Machine:
    """Return a machine by the name of a file that comes with neurocompile, or by the path of a YAML file.

    Parameters
    ----------
    overrides
        Quantity -> number that replaces the file's; such numbers have the confidence ``override`` in reports.

    Raises
    ------
    InputError
        NC150-NC155 what is wrong in the file, with positions; NC151 unknown name; NC157 bad override.
    """
    text = str(name_or_path)
    if text in list_machines():
        machine = _packaged(text)
    elif text.endswith((".yaml", ".yml")) or "/" in text:
        from neurocompile.machine_file import read_machine

        try:
            content = Path(text).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "not UTF-8 text"
            raise InputError.of("NC150", f"machine file cannot be read: {reason}", file=text) from None
        machine = read_machine(content, file=text)
    else:
        raise InputError.of("NC151", f"machine '{text}' does not exist", help=did_you_mean(text, list_machines()))
    return machine.with_overrides(overrides) if overrides else machine


@lru_cache(maxsize=32)
def _packaged(name: str) -> Machine:
    from neurocompile.machine_file import read_machine

    content = resources.files("neurocompile.hw_configs").joinpath(f"{name}.yaml").read_text("utf-8")
    return read_machine(content, file=f"hw_configs/{name}.yaml")


def machines_of_family(family: str) -> tuple[Machine, ...]:
    """The machines of a family that come with neurocompile, fewest usable cores first."""
    found = [machine for machine in map(_packaged, list_machines()) if machine.family == family]
    return tuple(sorted(found, key=lambda m: (m.n_cores, m.name)))


__all__ = ["CONFIDENCES", "Machine", "Quantity", "Topology", "list_machines", "load_machine", "machines_of_family"]
