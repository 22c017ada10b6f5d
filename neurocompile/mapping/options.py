"""What the mapper can be told."""

from __future__ import annotations

from dataclasses import dataclass

EFFORTS = ("fast", "normal", "high")
"""How long partitioning and placing search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOptions:
    """How a network is to be mapped.

    seed : of everything random; the same problem, machine and options give the same mapping;
    partition, n_parts, slack : algorithm, most parts, and parts that may be spent to lower the traffic: see
    :func:`neurocompile.mapping.partition.partition`;
    routes : ``exact``, ``core`` or ``auto``: see :func:`neurocompile.mapping.route.route`;
    effort : one of :data:`EFFORTS`.
    """

    seed: int = 1
    partition: str = "auto"
    n_parts: int | None = None
    slack: float = 0.05
    routes: str = "auto"
    effort: str = "normal"


__all__ = ["EFFORTS", "MapOptions"]
