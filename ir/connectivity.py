"""Which neurons of two populations are connected: the rules as data. :mod:`neurocompile.ir.realise` turns them into synapses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from neurocompile.ir._types import FloatArray, Int32Array, IntArray, frozen_array
from neurocompile.ir.errors import InputError

MAX_DELAY_STEPS = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class AllToAll:
    """Every pair; ``allow_autapses`` = False leaves out a neuron's connection to itself (same population only)."""

    allow_autapses: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OneToOne:
    """Neuron i to neuron i; both populations have the same size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedProbability:
    """Each pair independently with ``probability`` in [0, 1]."""

    probability: float
    allow_autapses: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise InputError.of("NC201", f"fixed_probability is {self.probability:g}, must lie in [0, 1]", field=("probability",))


def _degree(kind: str, degree: int) -> None:
    if degree < 0:
        raise InputError.of("NC201", f"{kind} is {degree}, must be >= 0", field=("degree",))


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedInDegree:
    """Each target gets ``degree`` different sources (without replacement)."""

    degree: int
    allow_autapses: bool = True

    def __post_init__(self) -> None:
        _degree("fixed_indegree", self.degree)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedOutDegree:
    """Each source gets ``degree`` different targets (without replacement)."""

    degree: int
    allow_autapses: bool = True

    def __post_init__(self) -> None:
        _degree("fixed_outdegree", self.degree)


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceDependent:
    """Each pair with a probability that falls with the distance d of their positions, cut off beyond ``radius``.

    gaussian: ``probability * exp(-d^2 / (2 scale^2))``; exponential: ``probability * exp(-d / scale)``.

    Attributes
    ----------
    probability : float
        At distance 0, in [0, 1].
    scale : float
        Same unit as the positions, > 0.
    radius : float, optional
        No connection beyond; default 4 ``scale`` (gaussian) or 8 ``scale`` (exponential).
    periodic : tuple of float, optional
        Size of the torus in each dimension; None for open borders.
    """

    probability: float
    scale: float
    profile: Literal["gaussian", "exponential"] = "gaussian"
    radius: float | None = None
    periodic: tuple[float, ...] | None = None
    allow_autapses: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise InputError.of("NC201", f"probability is {self.probability:g}, must lie in [0, 1]", field=("probability",))
        if not self.scale > 0.0 or not np.isfinite(self.scale):
            raise InputError.of("NC201", f"scale is {self.scale:g}, must be > 0", field=("scale",))
        if self.radius is not None and not self.radius > 0.0:
            raise InputError.of("NC201", f"radius is {self.radius:g}, must be > 0", field=("radius",))
        if self.periodic is not None and not all(0.0 < length < np.inf for length in self.periodic):
            raise InputError.of("NC201", f"periodic is {list(self.periodic)}, lengths must be > 0 and finite", field=("periodic",))


def check_ends(pre: npt.NDArray[Any], post: npt.NDArray[Any], source: str) -> None:
    """Raise InputError unless two arrays can be the ends of synapses: NC202 (shape, kind of number), NC204 (range).

    ``source``: where they came from, for messages.
    """
    for name, given in (("pre", pre), ("post", post)):
        if given.ndim != 1:
            raise InputError.of("NC202", f"{source}: '{name}' has shape {given.shape}, must be 1-D", field=(name,))
        if given.size and not np.issubdtype(given.dtype, np.integer):
            raise InputError.of("NC202", f"{source}: '{name}' holds {given.dtype}, must hold integers", field=(name,))
        if given.size and (given.min() < 0 or given.max() > np.iinfo(np.int32).max):
            bad = int(np.argmax((given < 0) | (given > np.iinfo(np.int32).max)))
            raise InputError.of("NC204", f"{source}: {name}[{bad}] is {given[bad]}, outside 0 .. 2^31-1", field=(name,))
    if post.shape != pre.shape:
        raise InputError.of("NC202", f"{source}: 'post' has shape {post.shape}, 'pre' has {pre.shape}", field=("post",))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explicit:
    """A list of synapses, in an order that is kept.

    Attributes
    ----------
    pre, post : int32 arrays, shape (m,)
        Neuron indices within their populations.
    weight : float64 array, shape (m,), optional
        Membrane units; None: the projection's ``weight`` applies.
    delay : int array, shape (m,), optional
        Steps, 1 .. 255; None: the projection's ``delay`` applies.
    source : str
        Where it came from, for messages.
    """

    pre: Int32Array
    post: Int32Array
    weight: FloatArray | None = None
    delay: IntArray | None = None
    source: str = "python"

    def __post_init__(self) -> None:
        check_ends(np.asarray(self.pre), np.asarray(self.post), self.source)
        for name in ("pre", "post"):
            object.__setattr__(self, name, frozen_array(getattr(self, name), np.int32))
        n = len(self.pre)
        for name in ("weight", "delay"):
            values = getattr(self, name)
            if values is not None and np.shape(values) != (n,):
                raise InputError.of("NC202", f"{self.source}: '{name}' has shape {np.shape(values)}, 'pre' has ({n},)", field=(name,))
        if self.weight is not None:
            weight = frozen_array(self.weight, np.float64)
            if not np.isfinite(weight).all():
                bad = int(np.flatnonzero(~np.isfinite(weight))[0])
                raise InputError.of("NC203", f"{self.source}: weight[{bad}] is {weight[bad]}", field=("weight",))
            object.__setattr__(self, "weight", weight)
        if self.delay is not None:
            given = np.asarray(self.delay)
            if given.size and not np.all(given == np.floor(given)):
                raise InputError.of("NC209", f"{self.source}: delays are whole steps", field=("delay",))
            if given.size and (given.min() < 1 or given.max() > MAX_DELAY_STEPS):
                bad = int(np.argmax((given < 1) | (given > MAX_DELAY_STEPS)))
                raise InputError.of(
                    "NC209", f"{self.source}: delay[{bad}] is {given[bad]} steps, outside 1 .. {MAX_DELAY_STEPS}", field=("delay",)
                )
            object.__setattr__(self, "delay", frozen_array(given, np.int64))


Connect = AllToAll | OneToOne | FixedProbability | FixedInDegree | FixedOutDegree | DistanceDependent | Explicit
