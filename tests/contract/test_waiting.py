"""Those who wait for the result of a draw: one asks for all, and nobody is forgotten."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from flashsale import (
    AsyncFlashSale,
    CueHandle,
    FlashSale,
    Outcome,
    Rejected,
    Sale,
    Sku,
    StoreError,
    UnfairWindowWarning,
    window,
)
from flashsale.aio.cues import AsyncCueHandle
from flashsale.embedded import EmbeddedServer
from support.cues import KEY

LATE_S = 3.0
"""How much later than announced the settlements of these tests are."""

WAIT_MS = 30_000


@pytest.fixture(autouse=True)
def told_at_the_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "SETTLING_MS", 0)


@pytest.fixture
def count_calls(raw: redis.Redis) -> Callable[[], int]:
    """How many script calls there have been since the test began."""

    def now() -> int:
        stats: Any = raw.info("commandstats")
        return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])

    begun = now()
    return lambda: now() - begun


@pytest.fixture
def sale_opened(server_url: str, sale_id: str) -> Iterator[FlashSale]:
    """A sale of ten red, and a client of its operator."""
    with FlashSale.from_url(server_url, keys=[KEY]) as shop:
        shop.open(Sale(sale_id, [Sku("red", 10)]))
        yield shop


def open_now(shop: FlashSale, sale_id: str, last_ms: int = 300, lag_cap_ms: int = 0) -> CueHandle:
    """A cue that closes soon, by the server's real time."""
    sale = shop.sale(sale_id)
    rules = {"window_ms": last_ms, "lag_cap_ms": lag_cap_ms, "grace_ms": 0, "proof": False}
    with pytest.warns(UnfairWindowWarning):
        return sale.cue(
            "drop", at=0, cue_time_ms=sale.snapshot().at_ms, stock={"red": 5},
            **rules,  # type: ignore[arg-type]
        )  # fmt: skip


def outcomes(answers: list[Any]) -> list[str]:
    return sorted({answer.outcome.name for answer in answers})


# --- how much it costs --------------------------------------------------------------------


async def test_two_thousand_tasks_wait_for_a_late_result_with_a_few_tens_of_calls(
    sale_opened: FlashSale, server_url: str, sale_id: str, count_calls: Callable[[], int]
) -> None:
    buyers = [f"b{n}" for n in range(2_000)]
    handle = await asyncio.to_thread(open_now, sale_opened, sale_id, 1_000, 3_000)
    async with AsyncFlashSale.from_url(server_url, timeout_ms=10_000, keys=[KEY]) as shop:
        mine = shop.sale(sale_id).cue_handle("drop")
        await mine.cue()
        entries = await asyncio.gather(
            *(mine.enter(buyer, {"red": 1}, position_ms=100) for buyer in buyers)
        )
        assert outcomes([*entries]) == ["ENTERED"]
        before = count_calls()
        waiters = [asyncio.create_task(entry.result(wait_ms=WAIT_MS)) for entry in entries]
        await asyncio.sleep(4 + LATE_S)
        assert count_calls() - before <= 30
        await asyncio.to_thread(handle.settle)
        settled = count_calls()
        answers = await asyncio.gather(*waiters)
        assert count_calls() - settled <= 30
    assert outcomes(answers) == ["HELD", "NOT_DRAWN"]
    assert sum(answer.outcome is Outcome.HELD for answer in answers) == 5


def test_two_hundred_threads_wait_for_a_late_result_with_a_few_tens_of_calls(
    sale_opened: FlashSale, server_url: str, sale_id: str, count_calls: Callable[[], int]
) -> None:
    handle = open_now(sale_opened, sale_id)
    with (
        FlashSale.from_url(server_url, timeout_ms=10_000, keys=[KEY]) as shop,
        ThreadPoolExecutor(200) as pool,
    ):
        mine = shop.sale(sale_id).cue_handle("drop")
        before = count_calls()
        waiting = [pool.submit(mine.result, f"b{n}", wait_ms=WAIT_MS) for n in range(200)]
        time.sleep(0.3 + LATE_S)
        assert count_calls() - before <= 40
        handle.settle()
        settled = count_calls()
        answers = [one.result(timeout=60) for one in waiting]
        assert count_calls() - settled <= 40
    assert outcomes(answers) == ["NOT_ENTERED"]


async def test_a_crowd_of_first_taps_reads_the_cue_once(
    sale_opened: FlashSale, server_url: str, sale_id: str, count_calls: Callable[[], int]
) -> None:
    await asyncio.to_thread(open_now, sale_opened, sale_id, 1_900)
    async with AsyncFlashSale.from_url(server_url, timeout_ms=10_000, keys=[KEY]) as shop:
        mine, before = shop.sale(sale_id).cue_handle("drop"), count_calls()
        taps = (mine.enter(f"b{n}", {"red": 1}, position_ms=0) for n in range(1_000))
        assert outcomes([*await asyncio.gather(*taps)]) == ["ENTERED"]
        assert count_calls() - before <= 20


def test_a_crowd_of_threads_reads_the_cue_once(
    sale_opened: FlashSale, server_url: str, sale_id: str, count_calls: Callable[[], int]
) -> None:
    open_now(sale_opened, sale_id, 1_900)
    with (
        FlashSale.from_url(server_url, timeout_ms=10_000, keys=[KEY]) as shop,
        ThreadPoolExecutor(100) as pool,
    ):
        mine, before = shop.sale(sale_id).cue_handle("drop"), count_calls()
        cues = list(pool.map(lambda _: mine.cue(), range(100)))
        assert len({cue.nonce for cue in cues}) == 1
        assert count_calls() - before <= 5


def test_a_cue_that_is_not_there_is_told_to_everybody_who_asks_at_once(
    sale_opened: FlashSale, server_url: str, sale_id: str
) -> None:
    with (
        FlashSale.from_url(server_url, timeout_ms=10_000, keys=[KEY]) as shop,
        ThreadPoolExecutor(20) as pool,
    ):
        mine = shop.sale(sale_id).cue_handle("none")
        for asked in [pool.submit(mine.cue) for _ in range(20)]:
            with pytest.raises(Rejected, match="cue_unknown"):
                asked.result(timeout=60)


# --- whoever leaves ------------------------------------------------------------------------


async def test_tasks_are_told_in_time_though_those_who_came_first_have_left(
    sale_opened: FlashSale, server_url: str, sale_id: str
) -> None:
    handle = await asyncio.to_thread(open_now, sale_opened, sale_id)
    async with AsyncFlashSale.from_url(server_url, keys=[KEY]) as shop:
        mine: AsyncCueHandle = shop.sale(sale_id).cue_handle("drop")
        leaving = [asyncio.create_task(mine.result(f"a{n}", wait_ms=WAIT_MS)) for n in range(3)]
        await asyncio.sleep(0.1)
        waits = [200, 500, WAIT_MS, WAIT_MS]
        waiters = [
            asyncio.create_task(mine.result(f"b{n}", wait_ms=ms)) for n, ms in enumerate(waits)
        ]
        await asyncio.sleep(0.1)
        for task in leaving:
            task.cancel()
        await asyncio.sleep(0.7)
        assert [task.done() for task in waiters] == [True, True, False, False]
        assert {task.result().outcome for task in waiters[:2]} == {Outcome.NOT_CLOSED}
        await asyncio.to_thread(handle.settle)
        answers = await asyncio.wait_for(asyncio.gather(*waiters[2:]), 5)
        assert outcomes(answers) == ["NOT_ENTERED"]
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in others if "Watch" in repr(task)]


async def test_when_nobody_waits_any_more_nobody_asks(
    sale_opened: FlashSale, server_url: str, sale_id: str, count_calls: Callable[[], int]
) -> None:
    await asyncio.to_thread(open_now, sale_opened, sale_id, 100)
    async with AsyncFlashSale.from_url(server_url, keys=[KEY]) as shop:
        mine = shop.sale(sale_id).cue_handle("drop")
        waiter = asyncio.create_task(mine.result("ann", wait_ms=WAIT_MS))
        await asyncio.sleep(0.3)
        waiter.cancel()
        await asyncio.sleep(0)
        before = count_calls()
        await asyncio.sleep(1)
        assert count_calls() == before


def test_threads_are_told_in_time_though_the_one_that_asked_has_left(
    sale_opened: FlashSale, server_url: str, sale_id: str
) -> None:
    handle = open_now(sale_opened, sale_id)
    with (
        FlashSale.from_url(server_url, keys=[KEY]) as shop,
        ThreadPoolExecutor(60) as pool,
    ):
        mine = shop.sale(sale_id).cue_handle("drop")
        first = pool.submit(mine.result, "first", wait_ms=150)
        time.sleep(0.05)
        soon = [pool.submit(mine.result, f"s{n}", wait_ms=200 + 10 * n) for n in range(30)]
        long = [pool.submit(mine.result, f"l{n}", wait_ms=WAIT_MS) for n in range(20)]
        told = [one.result(timeout=60) for one in [first, *soon]]
        assert outcomes(told) == ["NOT_CLOSED"]
        assert not any(one.done() for one in long)
        handle.settle()
        assert outcomes([one.result(timeout=60) for one in long]) == ["NOT_ENTERED"]


def test_a_thread_that_waits_alone_and_comes_again_is_told_too(
    sale_opened: FlashSale, sale_id: str
) -> None:
    handle = open_now(sale_opened, sale_id)
    assert handle.result("ann", wait_ms=50).outcome is Outcome.NOT_CLOSED
    assert handle.result("ann", wait_ms=400).outcome is Outcome.NOT_CLOSED
    handle.settle()
    assert handle.result("ann", wait_ms=400).outcome is Outcome.NOT_ENTERED


# --- trouble -------------------------------------------------------------------------------


def test_a_question_that_fails_is_told_to_all_threads_that_wait() -> None:
    with (
        EmbeddedServer.start() as server,
        FlashSale.from_url(server.url, timeout_ms=300, keys=[KEY]) as shop,
        ThreadPoolExecutor(20) as pool,
    ):
        shop.open(Sale("lost", [Sku("red", 10)]))
        handle = open_now(shop, "lost")
        waiting = [pool.submit(handle.result, f"b{n}", wait_ms=WAIT_MS) for n in range(20)]
        time.sleep(0.1)
        server.stop()
        errors = [one.exception(timeout=60) for one in waiting]
        assert all(isinstance(error, StoreError) for error in errors), errors
        assert threading.active_count() < 60


async def test_a_question_that_fails_is_told_to_all_tasks_that_wait() -> None:
    server = await asyncio.to_thread(EmbeddedServer.start)
    try:
        async with AsyncFlashSale.from_url(server.url, timeout_ms=300, keys=[KEY]) as shop:
            await shop.open(Sale("lost", [Sku("red", 10)]))
            with FlashSale.from_url(server.url, keys=[KEY]) as other:
                await asyncio.to_thread(open_now, other, "lost")
            handle = shop.sale("lost").cue_handle("drop")
            waiters = [
                asyncio.create_task(handle.result(f"b{n}", wait_ms=WAIT_MS)) for n in range(20)
            ]
            await asyncio.sleep(0.1)
            await asyncio.to_thread(server.stop)
            done = await asyncio.wait_for(asyncio.gather(*waiters, return_exceptions=True), 10)
            assert all(isinstance(error, StoreError) for error in done), done
    finally:
        await asyncio.to_thread(server.stop)
