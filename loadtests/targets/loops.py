"""Event loops, and how often a second something is done."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from loadtests.targets.bench import settle
from loadtests.targets.figures import Sizes
from loadtests.targets.traffic import Order, orders

T = TypeVar("T")

LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]
Run: TypeAlias = Callable[[Sequence[Order]], float]
"""Does these orders and says how many seconds that took, its preparation left out."""


def loop_factories() -> dict[str, LoopFactory]:
    """The event loops at hand, the fastest first."""
    found: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop
    except ImportError:
        return found
    return {"uvloop": uvloop.new_event_loop, **found}


def run(factory: LoopFactory, work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


def rates(sizes: Sizes, runs: Mapping[str, Run], say: Callable[[str], None]) -> dict[str, float]:
    """Orders a second of each way, by turns: the medians of the rounds.

    A first small run of each warms up and says how many orders fill the time.
    """
    counts = {}
    for name, work in runs.items():
        say(f"{name}: warming up")
        first = work(orders(sizes.first))
        counts[name] = max(sizes.first, round(sizes.first / first * sizes.seconds))
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(sizes.rounds):
        for name, work in runs.items():
            say(name)
            who = orders(counts[name])
            settle()
            taken[name].append(len(who) / work(who))
    return {name: statistics.median(values) for name, values in taken.items()}
