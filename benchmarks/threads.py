"""Two threads beside one, and beside what the machine gives two threads that have nothing to do with each other. Prints JSON.

    python benchmarks/threads.py [--neurons 100000] [--steps 100] [--turns 15]

Three contestants take turns over the same steps from the same state: one thread; two threads; and *apart*, two simulators of one thread
each, at the same time. On virtual machines two processors may be two threads of one core, or share caches with others: what ``apart`` gains
over one after the other is what there is to gain. Network, input and learning are those of ``eprop.py``.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

from eprop_setup import Point, Replay, with_input_weight

from neurocompile.backends.reference.simulator import max_threads


def measure(point: Point, turns: int) -> dict[str, Any]:
    """Return ratios turn by turn: ``speed_up``, one thread's time over two threads'; ``apart``, two simulators' times one after the other
    over their time at once; ``share``, the first over the second."""
    one, other, two = (Replay(point, threads=threads) for threads in (1, 1, 2))
    walls: dict[str, list[float]] = {"one": [], "two": [], "apart": []}
    with ThreadPoolExecutor(2) as pool:

        def together(*replays: Replay) -> float:
            return max(job.result().wall_s for job in [pool.submit(replay.turn) for replay in replays])

        jobs = [("one", (one,)), ("two", (two,)), ("apart", (one, other))]
        for number in range(turns):
            for name, replays in jobs[number % 3 :] + jobs[: number % 3]:
                for replay in (one, other, two):
                    replay.rewind()
                walls[name].append(together(*replays))
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
