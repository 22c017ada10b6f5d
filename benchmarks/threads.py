"""Two threads beside one, and beside what the machine gives two threads that have nothing to do with each other. Prints JSON.

    python benchmarks/threads.py [--neurons 100000] [--steps 100] [--turns 15]

Three contestants take turns over the same steps from the same state: one thread; two threads; and *apart*, two simulators of one thread
each, at the same time. On virtual machines two processors may be two threads of one core, or share caches with others: what ``apart`` gains
over one after the other is what there is to gain. Network, input and learning are those of ``eprop.py``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

from eprop_setup import Point, input_spikes, network, signal, with_input_weight

from neurocompile.backends.reference import Simulator
from neurocompile.backends.reference.simulator import max_threads


class Contestant:
    """A simulator that runs the same steps again and again."""

    def __init__(self, point: Point, threads: int) -> None:
        self.point, self.spikes = point, input_spikes(point)
        self.simulator = Simulator(network(point), algorithm="anchored", threads=threads)
        self._run(point.warm_up)
        self.state = self.simulator.state()

    def _run(self, n_steps: int) -> float:
        signals = {"out": signal(self.simulator.step, n_steps)}
        return self.simulator.run(n_steps, spikes={"in": self.spikes}, signals=signals).wall_s

    def rewind(self) -> None:
        """Go back to where each turn begins."""
        self.simulator.restore(self.state)

    def turn(self) -> float:
        """Return the seconds that the steps take."""
        return self._run(self.point.steps)


def measure(point: Point, turns: int) -> dict[str, Any]:
    """Return ratios turn by turn: ``speed_up``, one thread's time over two threads'; ``apart``, two simulators' times one after the other
    over their time at once; ``share``, the first over the second."""
    one, other, two = (Contestant(point, threads) for threads in (1, 1, 2))
    walls: dict[str, list[float]] = {"one": [], "two": [], "apart": []}
    with ThreadPoolExecutor(2) as pool:

        def apart() -> float:
            return max(job.result() for job in [pool.submit(c.turn) for c in (one, other)])

        jobs: list[tuple[str, Callable[[], float]]] = [("one", one.turn), ("two", two.turn), ("apart", apart)]
        for number in range(turns):
            for name, job in jobs[number % 3 :] + jobs[: number % 3]:
                for contestant in (one, other, two):
                    contestant.rewind()
                walls[name].append(job())
    speed_up = [a / b for a, b in zip(walls["one"], walls["two"], strict=True)]
    there_is = [2.0 * a / b for a, b in zip(walls["one"], walls["apart"], strict=True)]
    return {
        "wall_s": {name: {"min": min(w), "median": median(w)} for name, w in walls.items()},
        "speed_up": {"median": median(speed_up), "of_minima": min(walls["one"]) / min(walls["two"]), "all": speed_up},
        "apart": {"median": median(there_is), "of_minima": 2.0 * min(walls["one"]) / min(walls["apart"]), "all": there_is},
        "share": median(a / b for a, b in zip(speed_up, there_is, strict=True)),
    }


def main() -> None:
    """Measure one size."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--neurons", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--turns", type=int, default=15)
    given = parser.parse_args()
    if max_threads() < 2:
        parser.error("this machine has one core")
    point = with_input_weight(Point(size=given.neurons, warm_up=200, steps=given.steps))
    print(json.dumps({"neurons": given.neurons, "steps": given.steps, "turns": given.turns, **measure(point, given.turns)}, indent=1))


if __name__ == "__main__":
    main()
