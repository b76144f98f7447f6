"""Many callers at the same time, through either shell: tasks of one event loop, or threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from support.shells import Blocking

Ask = Callable[[Any], Any]
"""What one caller does with the sale: ``lambda sale: sale.hold(...)``, also for coroutines."""

PATIENCE_S = 90.0


def at_once(sale: Any, asks: Sequence[Ask]) -> list[Any]:
    """What came of each: its result, or its exception."""
    with crowd(sale, asks) as results:
        return results()


@contextmanager
def crowd(sale: Any, asks: Sequence[Ask]) -> Iterator[Callable[[], list[Any]]]:
    """Callers who are at it; calling what is given waits for them all."""
    if isinstance(sale, Blocking):
        target, run = sale._target, sale._run

        async def begin() -> list[asyncio.Task[Any]]:
            tasks = [asyncio.create_task(ask(target)) for ask in asks]
            await asyncio.sleep(0.01)
            return tasks

        async def finish(tasks: list[asyncio.Task[Any]]) -> list[Any]:
            return await asyncio.wait_for(
                asyncio.gather(*tasks, return_exceptions=True), PATIENCE_S
            )

        tasks = run(begin())
        yield lambda: run(finish(tasks))
        run(finish(tasks))
        return
    with ThreadPoolExecutor(len(asks)) as pool:
        futures: list[Future[Any]] = [pool.submit(ask, sale) for ask in asks]
        yield lambda: [future.exception(PATIENCE_S) or future.result() for future in futures]


def policy_of(shop: Any) -> Any:
    """What a client has waiting, and on its way."""
    target = shop._target if isinstance(shop, Blocking) else shop
    return target._gatherer.policy


def until(true: Callable[[], bool], shop: Any = None) -> None:
    """Wait for something; a shell of an event loop goes on meanwhile."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        if isinstance(shop, Blocking):
            shop._run(asyncio.sleep(0.002))
        else:
            time.sleep(0.002)
