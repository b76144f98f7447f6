"""The ways to bring orders to the server from one Python process: ours, and what else is usual.

Each is a `Run` of closed loops: a caller asks again as soon as it was answered. The server is
emptied, the sale opened and the connections made before the clock starts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import cast

import redis

from flashsale import Answer, AsyncFlashSale, FlashSaleError, Outcome
from loadtests.targets import peers
from loadtests.targets.bench import BASKET, TIMEOUT_MS, Machine
from loadtests.targets.loops import LoopFactory, Run, run
from loadtests.targets.traffic import Order, requests

MANY = 4_096
"""Requests of one `hold_many`."""


def async_shop(machine: Machine) -> AsyncFlashSale:
    return AsyncFlashSale.from_url(
        machine.server.url, timeout_ms=TIMEOUT_MS, durability=machine.durability
    )


def expect_held(answers: Sequence[Answer | FlashSaleError]) -> None:
    for answer in answers:
        if isinstance(answer, FlashSaleError) or answer.outcome is not Outcome.HELD:
            raise RuntimeError(f"not held: {answer!r}")


# --- asyncio ------------------------------------------------------------------------------


def awaited(machine: Machine, factory: LoopFactory, tasks: int) -> Run:
    """`await sale.hold(...)` by so many tasks."""

    async def work(who: Sequence[Order]) -> float:
        machine.empty()
        sale_id = machine.open()
        async with async_shop(machine) as shop:
            sale = shop.sale(sale_id)
            await sale.hold("warm-up", BASKET, hold_id="w")
            waiting = iter(who)

            async def caller() -> None:
                for buyer, hold_id in waiting:
                    answer = await sale.hold(buyer, BASKET, hold_id=hold_id)
                    assert answer.outcome is Outcome.HELD

            begun = time.perf_counter()
            await peers.together(tasks, caller)
            return time.perf_counter() - begun

    return lambda who: run(factory, work(who))


def many(machine: Machine, factory: LoopFactory) -> Run:
    """`await sale.hold_many(...)`, one call after the other."""

    async def work(who: Sequence[Order]) -> float:
        machine.empty()
        sale_id = machine.open()
        asked = requests(who)
        async with async_shop(machine) as shop:
            sale = shop.sale(sale_id)
            await sale.hold("warm-up", BASKET, hold_id="w")
            begun = time.perf_counter()
            for at in range(0, len(asked), MANY):
                expect_held(await sale.hold_many(asked[at : at + MANY]))
            return time.perf_counter() - begun

    return lambda who: run(factory, work(who))


def classic_awaited(machine: Machine, factory: LoopFactory) -> Run:
    """One EVALSHA an order, a connection for each caller."""
    sha = peers.load(machine, peers.HOLD)

    async def work(who: Sequence[Order]) -> float:
        machine.empty()
        peers.stock_up(machine, 10**9)
        async with peers.async_client(machine, peers.CONNECTIONS) as client:
            await peers.connect(client)
            waiting = iter(who)

            async def caller() -> None:
                for order in waiting:
                    await peers.one_by_one(client, sha, order)

            begun = time.perf_counter()
            await peers.together(peers.CONNECTIONS, caller)
            return time.perf_counter() - begun

    return lambda who: run(factory, work(who))


def classic_by_hand(machine: Machine, factory: LoopFactory) -> Run:
    """The classic script with 256 orders a call."""
    sha = peers.load(machine, peers.HOLD)

    async def work(who: Sequence[Order]) -> float:
        machine.empty()
        peers.stock_up(machine, 10**9)
        async with peers.async_client(machine, peers.HANDS) as client:
            await peers.connect(client)
            begun = time.perf_counter()
            await peers.by_hand(client, sha, who)
            return time.perf_counter() - begun

    return lambda who: run(factory, work(who))


# --- without asyncio ----------------------------------------------------------------------


def many_sync(machine: Machine) -> Run:
    """`sale.hold_many(...)`, one call after the other."""

    def work(who: Sequence[Order]) -> float:
        machine.empty()
        sale = machine.shop.sale(machine.open())
        asked = requests(who)
        begun = time.perf_counter()
        for at in range(0, len(asked), MANY):
            expect_held(sale.hold_many(asked[at : at + MANY]))
        return time.perf_counter() - begun

    return work


def threads(machine: Machine, count: int) -> Run:
    """`sale.hold(...)` by so many threads."""

    def work(who: Sequence[Order]) -> float:
        machine.empty()
        sale = machine.shop.sale(machine.open())

        def one(order: Order) -> None:
            answer = sale.hold(order[0], BASKET, hold_id=order[1])
            assert answer.outcome is Outcome.HELD

        return _in_threads(count, one, who)

    return work


def classic_threads(machine: Machine, count: int) -> Run:
    """One EVALSHA an order by so many threads, a connection for each."""
    sha = peers.load(machine, peers.HOLD)

    def work(who: Sequence[Order]) -> float:
        machine.empty()
        peers.stock_up(machine, 10**9)
        with redis.Redis.from_url(machine.server.url, max_connections=count) as client:

            def one(order: Order) -> None:
                keys = (peers.STOCK, peers.BUYERS, peers.ORDERS)
                assert cast("int", client.evalsha(sha, 3, *keys, *order)) == 1

            return _in_threads(count, one, who)

    return work


def _in_threads(count: int, one: Callable[[Order], None], who: Sequence[Order]) -> float:
    """Seconds for all orders; the first of each thread connects it before the clock starts."""
    parts = [who[number::count] for number in range(count)]
    gate = threading.Barrier(count + 1)
    failed: list[BaseException] = []

    def work(part: Sequence[Order]) -> None:
        try:
            for order in part[:1]:
                one(order)
            gate.wait()
            for order in part[1:]:
                one(order)
        except BaseException as error:  # raised again by the thread that waits for us
            failed.append(error)
            gate.abort()

    workers = [threading.Thread(target=work, args=(part,)) for part in parts]
    for worker in workers:
        worker.start()
    begun = time.perf_counter()
    try:
        gate.wait()
        begun = time.perf_counter()
    except threading.BrokenBarrierError:
        pass  # the reason is in `failed`
    for worker in workers:
        worker.join()
    if failed:
        raise failed[0]
    return (time.perf_counter() - begun) * len(who) / (len(who) - count)
