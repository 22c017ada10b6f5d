"""Spike pairs and rewards as sPyNNaker's cores compute them, one event and one Python integer at a time.

Written from the release's rules as prose, beside the twin's kernels: a history is a plain list that never forgets more than it must.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from neurocompile.backends.spinnaker.learning import Modulation, PlasticRule
from tests.backends.spinnaker.core_model import encode, product, word

UNIT = 2048


def table(dt_ms: float, tau: float, every: int = 1) -> list[int]:
    """exp(-t / tau) in 1/2048 for t = 0, every, 2 every, .. steps, until it is below 1/2048; an even number of entries."""
    size = 2 * math.ceil(math.log(UNIT) * tau / dt_ms / every / 2)
    return [math.floor(math.exp(-k * every * dt_ms / tau) * UNIT) for k in range(size)]


def look(entries: list[int], ticks: int, every: int = 1) -> int:
    place = ticks // every
    return entries[place] if place < len(entries) else 0


def half(value: int) -> int:
    return (value + 2**15) % 2**16 - 2**15


@dataclass
class Event:
    tick: int
    post: int
    reward: int
    gated: bool


@dataclass
class Target:
    """A neuron's history; at most 15 events are remembered."""

    events: list[Event] = field(default_factory=list)


@dataclass
class Synapse:
    weight: int
    eligibility: int = 0


@dataclass
class Source:
    """A row's memory of its source."""

    tick: int = 0
    trace: int = 0


class Learner:
    """The rule of one population."""

    def __init__(self, rule: PlasticRule, modulation: Modulation | None, dt_ms: float, shift: int, n: int) -> None:
        self.rule, self.gated, self.shift = rule, modulation is not None, shift
        self.plus, self.minus = table(dt_ms, rule.tau_plus), table(dt_ms, rule.tau_minus)
        self.low, self.high = encode(rule.w_min), encode(rule.w_max)
        self.up, self.down = encode(rule.a_plus), encode(rule.a_minus)
        if modulation is not None:
            self.c, self.d = table(dt_ms, modulation.tau_c, 16), table(dt_ms, modulation.tau_d, 4)
            self.gate = encode(1 / -(1.0 / modulation.tau_c + 1.0 / modulation.tau_d))
            self.floor, self.ceiling = encode(modulation.w_min), encode(modulation.w_max)
        self.targets = [Target() for _ in range(n)]

    def _last(self, i: int) -> Event:
        events = self.targets[i].events
        return events[-1] if events else Event(0, 0, 0, False)

    def _add(self, i: int, event: Event) -> None:
        self.targets[i].events = [*self.targets[i].events, event][-15:]

    def _reward_now(self, last: Event, tick: int) -> int:
        return last.reward * look(self.d, tick - last.tick, 4) // UNIT if self.gated else 0

    def spike(self, i: int, tick: int) -> None:
        last = self._last(i)
        post = half(half(last.post * look(self.minus, tick - last.tick) // UNIT) + UNIT)
        self._add(i, Event(tick, post, half(self._reward_now(last, tick)), False))

    def reward(self, i: int, tick: int, amount: int) -> None:
        last = self._last(i)
        post = half(last.post * look(self.minus, tick - last.tick) // UNIT)
        self._add(i, Event(tick, post, half(self._reward_now(last, tick) + amount), True))

    def stronger(self, w: int, trace: int) -> int:
        if self.rule.multiplicative:
            return word(w + product(product(word(self.high - w), self.up), trace * 16))
        return min(word(w + product(self.up, trace * 16)), self.high)

    def weaker(self, w: int, trace: int) -> int:
        if self.rule.multiplicative:
            return word(w - product(product(word(w - self.low), self.down), trace * 16))
        return max(word(w - product(self.down, trace * 16)), self.low)

    def effect(self, eligibility: int, reward: int, ticks: int) -> int:
        both = half(look(self.c, ticks, 16) * look(self.d, ticks, 4) // UNIT - UNIT)
        return product(product(product(eligibility, self.gate), reward * 16), both * 16)

    def sent(self, source: Source, tick: int) -> Source:
        trace = half(source.trace * look(self.plus, tick - source.tick) // UNIT + UNIT)
        return Source(tick, trace)

    def pairs(self, i: int, synapse: Synapse, source: Source, tick: int) -> None:
        w = synapse.weight << self.shift
        for event in self.targets[i].events:
            if event.tick > source.tick:
                w = self.stronger(w, source.trace * look(self.plus, event.tick - source.tick) // UNIT)
        if self.targets[i].events:
            last = self._last(i)
            w = self.weaker(w, last.post * look(self.minus, tick - last.tick) // UNIT)
        synapse.weight = (w >> self.shift) % 2**16

    def rewarded(self, i: int, synapse: Synapse, source: Source, tick: int) -> None:
        w, c = synapse.weight << self.shift, synapse.eligibility << self.shift
        events = self.targets[i].events
        past = [e for e in events if e.tick <= source.tick]
        d = half(self._reward_now(past[-1], source.tick)) if past else 0
        now = source.tick

        def advance(then: int) -> None:
            nonlocal w, c, now
            if d:
                w = word(w + self.effect(c, d, then - now))
            c = product(c, look(self.c, then - now, 16) * 16)
            now = then

        for event in events:
            if event.tick > source.tick:
                advance(event.tick)
                if not event.gated:
                    c = self.stronger(c, source.trace * look(self.plus, event.tick - source.tick) // UNIT)
                d = event.reward
        if events:
            advance(tick)
            last = events[-1]
            c = self.weaker(c, last.post * look(self.minus, tick - last.tick) // UNIT)
        w = min(max(w, self.floor), self.ceiling)
        synapse.weight, synapse.eligibility = (w >> self.shift) % 2**16, (c >> self.shift) % 2**16
