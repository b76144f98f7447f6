"""Cancelled tasks: the exception goes through, and no answer ever reaches the wrong caller."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from faults.checks import SCRIPTS, books_are_right
from flashsale import Answer, AsyncFlashSale, FlashSale, Hold, HoldRequest, Outcome, Sale, Sku
from support.proxy import FaultProxy

BUYERS = 60
"""Each has one hold, and each of these holds has another number of units."""


@pytest.fixture
def looked_at(operator: FlashSale) -> Any:
    sale = operator.open(Sale("cancelled", [Sku("red", 10_000)]))
    sale.hold_many([HoldRequest(f"buyer-{n}", {"red": n + 1}, "h") for n in range(BUYERS)])
    return sale


@pytest.fixture
async def one_connection(proxy: FaultProxy, looked_at: Any) -> AsyncIterator[AsyncFlashSale]:
    """A client with a single connection: whatever is left on it, the next call would meet."""
    shop = AsyncFlashSale.from_url(proxy.url, timeout_ms=20_000, max_connections=1)
    async with shop:
        await shop.sale(looked_at.id).snapshot()
        yield shop


async def test_a_cancelled_call_raises_and_the_next_one_gets_its_own_answer(
    one_connection: AsyncFlashSale, proxy: FaultProxy, looked_at: Any
) -> None:
    sale = one_connection.sale(looked_at.id)
    proxy.delay(reply_ms=300, times=1, only=SCRIPTS)
    call = asyncio.create_task(sale.hold("ann", {"red": 7}, hold_id="h"))
    await until(lambda: proxy.faults == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert call.cancelled()

    hold = await sale.find("buyer-3", "h")
    assert hold is not None
    assert hold.lines == {"red": 4}
    await asyncio.sleep(0.3)  # the reply to the cancelled call would be here by now
    hold = await sale.find("buyer-4", "h")
    assert hold is not None
    assert hold.lines == {"red": 5}


async def test_a_cancelled_call_may_have_been_applied_and_is_found_by_its_id(
    one_connection: AsyncFlashSale, proxy: FaultProxy, looked_at: Any
) -> None:
    sale = one_connection.sale(looked_at.id)
    proxy.delay(reply_ms=5_000, times=1, only=SCRIPTS)
    call = asyncio.create_task(sale.hold("ann", {"red": 7}, hold_id="h"))
    await until(lambda: proxy.faults == 1)
    await until(lambda: looked_at.find("ann", "h") is not None)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    answer = await sale.hold("ann", {"red": 7}, hold_id="h")
    assert (answer.outcome, answer.replayed) == (Outcome.HELD, True)


async def test_a_call_cancelled_while_it_connects_leaves_the_client_usable(
    proxy: FaultProxy, looked_at: Any
) -> None:
    shop = AsyncFlashSale.from_url(proxy.url, timeout_ms=20_000, max_connections=1)
    async with shop:
        sale = shop.sale(looked_at.id)
        proxy.delay(reply_ms=200, only=lambda words: True)  # the handshake, too
        call = asyncio.create_task(sale.find("buyer-1", "h"))
        await until(lambda: proxy.connections == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        proxy.pass_through()
        hold = await sale.find("buyer-2", "h")
        assert hold is not None
        assert hold.lines == {"red": 3}


@pytest.mark.parametrize("connections", [10, 100])
async def test_calls_cancelled_at_random_never_mix_up_answers(
    connections: int, proxy: FaultProxy, looked_at: Any, long: bool
) -> None:
    chance = random.Random(20)
    proxy.delay(reply_ms=3, probability=0.5, seed=1)
    proxy.drop_replies(probability=0.02, seed=2)
    shop = AsyncFlashSale.from_url(proxy.url, timeout_ms=30_000, max_connections=connections)
    cancelled = checked = 0
    async with shop:
        sale = shop.sale(looked_at.id)
        for _ in range(60 if long else 8):
            tasks = {n: asyncio.create_task(ask(sale, n)) for n in range(BUYERS)}
            victims = chance.sample(range(BUYERS), BUYERS // 3)
            for n in victims:
                await asyncio.sleep(chance.choice([0, 0, 0.001, 0.002]))
                tasks[n].cancel()
            for n, task in tasks.items():
                with suppress(asyncio.CancelledError):
                    check(n, await task)
                    checked += 1
                cancelled += task.cancelled()
    assert cancelled > BUYERS // 4  # how many depends on how fast the others are
    assert checked > BUYERS
    books_are_right(looked_at)


async def test_a_cancellation_is_never_swallowed(
    looked_at: Any, own_server: Any, long: bool
) -> None:
    """With a time-out of its own on the socket, redis-py swallowed one in every few rounds."""
    chance = random.Random(7)

    async def work() -> None:
        while True:
            await sale.hold("ann", {"red": 7}, hold_id="h")

    async with AsyncFlashSale.from_url(own_server.url) as shop:
        sale = shop.sale(looked_at.id)
        for _ in range(600 if long else 80):
            tasks = [asyncio.create_task(work()) for _ in range(9)]
            await asyncio.sleep(chance.random() * 0.02)
            for task in tasks:
                task.cancel()
            _, going_on = await asyncio.wait(tasks, timeout=20)
            assert not going_on


async def ask(sale: Any, n: int) -> Any:
    if n % 3 == 0:
        return await sale.find(f"buyer-{n}", "h")
    if n % 3 == 1:
        return await sale.hold(f"buyer-{n}", {"red": n + 1}, hold_id="h")
    return await sale.holds_of(f"buyer-{n}")


def check(n: int, result: Any) -> None:
    """The answer is the one to this very question: the units tell whose it is."""
    if isinstance(result, Answer):
        assert (result.outcome, result.replayed) == (Outcome.HELD, True)
        return
    (hold,) = [result] if isinstance(result, Hold) else result
    assert (hold.buyer, hold.lines) == (f"buyer-{n}", {"red": n + 1})


async def until(true: Any) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)
