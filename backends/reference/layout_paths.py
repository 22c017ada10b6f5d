"""Learning signals that go back along single synapses: adaptive feedback, and feedback through the chain of layers (``t.Paths``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neurocompile.backends.reference.kernels import tables as t
from neurocompile.ir import (
    AdaptiveFeedback,
    ChainFeedback,
    EProp,
    LeakyReadout,
    Network,
    Projection,
    RandomFeedback,
    SymmetricFeedback,
)
from neurocompile.ir._types import FloatArray, Int32Array, IntArray
from neurocompile.ir.realise import realise_synapse_feedback
from neurocompile.ir.verify_learning import chain_projections, readout_distance


def follows_paths(network: Network, rule: EProp, population: str) -> bool:
    """Return whether a rule's learning signals reach a hidden population along paths (``t.Paths``): adaptive feedback, and the chain but
    for symmetric weights next to the readout, which are plain symmetric feedback."""
    if isinstance(rule.feedback, ChainFeedback):
        return not isinstance(rule.feedback.weights, SymmetricFeedback) or readout_distance(network).get(population, 1) > 1
    return isinstance(rule.feedback, AdaptiveFeedback)


class Carrier(NamedTuple):
    """Synapses of a projection as paths need them: their ends, table, places in the table, and weights at the start."""

    pre: Int32Array
    post: Int32Array
    table: int
    place: IntArray
    weight: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """A projection along which a rule's learning signals go back, from ``site`` (None: the readout) to ``first``, the first sites of its
    two populations."""

    rule: EProp
    projection: Projection
    weights: SymmetricFeedback | RandomFeedback | AdaptiveFeedback
    first: int
    site: int | None


def passing_site(network: Network, site_of: Mapping[tuple[str, str], int], population: str) -> int:
    """Return the first site of a population whose learning signals go on to the layer before: that of its first rule with feedback through
    the chain, in the order of projections, or else of its first e-prop rule."""
    own = [(rule, site) for (name, rule), site in site_of.items() if name == population]
    for rule_name, site in own:
        rule = network.rule(rule_name)
        if isinstance(rule, EProp) and isinstance(rule.feedback, ChainFeedback):
            return site
    return own[0][1]


def _ways(
    network: Network, site_of: Mapping[tuple[str, str], int], given: Mapping[tuple[str, str], FloatArray] | None
) -> Iterator[tuple[int, int, list[_Way]]]:
    """Yield (number of the group, level, its ways) of every (population, rule) whose signals come along paths."""
    distance = readout_distance(network)
    for group, ((population, name), first) in enumerate(site_of.items()):
        rule = network.rule(name)
        hidden = network.task is not None and not isinstance(network.population(population).model, LeakyReadout)
        if not hidden or not isinstance(rule, EProp) or (given is not None and (name, population) in given):
            continue
        if not follows_paths(network, rule, population):
            continue
        chain = isinstance(rule.feedback, ChainFeedback)
        weights = rule.feedback.weights if isinstance(rule.feedback, ChainFeedback) else rule.feedback
        assert isinstance(weights, SymmetricFeedback | RandomFeedback | AdaptiveFeedback)
        found = []
        for projection in chain_projections(network, population):
            to_readout = distance[projection.post] == 0
            if chain or to_readout:
                site = None if to_readout else passing_site(network, site_of, projection.post)
                found.append(_Way(rule=rule, projection=projection, weights=weights, first=first, site=site))
        yield group, distance[population] - 1 if chain else 0, found


def paths(
    network: Network,
    site_of: Mapping[tuple[str, str], int],
    given: Mapping[tuple[str, str], FloatArray] | None,
    carrier: Callable[[Projection], Carrier],
) -> t.Paths:
    """Return the synapses along which learning signals go back one by one.

    Parameters
    ----------
    given
        Feedback matrices, which replace paths.
    carrier
        Returns the synapses of a projection, placed.

    Raises
    ------
    InputError
        NC202: wrong number of feedback weights.
    """
    sizes = [network.population(population).size for population, _ in site_of]
    first = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
    level, relays = np.full(len(sizes), -1, np.int64), np.zeros(len(sizes), np.uint8)
    decays: list[float] = [1.0]
    kinds = (np.int64, np.int32, np.uint8, np.int64, np.float64, np.uint8)
    parts: list[tuple[npt.NDArray[np.generic], ...]] = [tuple(np.zeros(0, kind) for kind in kinds)]
    follows = True
    for group, its_level, ways in _ways(network, site_of, given):
        level[group] = its_level
        for way in ways:
            ends = carrier(way.projection)
            n = len(ends.pre)
            if way.site is None:
                target = ~(ends.post.astype(np.int32) + np.int32(network.offsets[way.projection.post]))
            else:
                target = ends.post.astype(np.int32) + np.int32(way.site)
                relays[np.searchsorted(first, way.site)] = 1
            table, offset, kind = ends.table, np.zeros(n), 0
            if not isinstance(way.weights, SymmetricFeedback):
                follows = False
                offset = realise_synapse_feedback(network, way.rule, way.weights, way.projection, n)
            if isinstance(way.weights, RandomFeedback):
                table = t.NOWHERE
            elif isinstance(way.weights, AdaptiveFeedback):
                offset = offset - ends.weight
                learnt = network.rule(way.projection.learning or "")
                shrink = 1.0 - learnt.weight_decay if isinstance(learnt, EProp) else 1.0
                if shrink not in decays:
                    decays.append(shrink)
                kind = decays.index(shrink)
            parts.append(
                (ends.pre.astype(np.int64) + way.first, target, np.full(n, table, np.uint8), ends.place, offset, np.full(n, kind, np.uint8))
            )
    site, target_, table_, index, offsets, classes = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(site, kind="stable")
    return t.Paths(
        pointer=np.concatenate([[0], np.cumsum(np.bincount(site, minlength=int(first[-1])))]).astype(np.int64),
        target=target_[order],
        table=table_[order],
        weight_index=index[order],
        offset=np.zeros(0) if follows else offsets[order],
        decay=np.zeros(0, np.uint8) if follows else classes[order],
        decays=np.array(decays),
        first=first,
        level=level,
        relays=relays,
        n_levels=int(level.max(initial=-1)) + 1,
    )
