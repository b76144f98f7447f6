"""What one Python process reaches through the public clients, and the same work done otherwise.

Callers are closed loops: each asks again as soon as it was answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import cast

import redis

from flashsale import Answer, AsyncFlashSale, FlashSaleError, Outcome
from flashsale.server_check import Durability
from loadtests.targets import peers
from loadtests.targets.bench import BASKET, TIMEOUT_MS, Bench, Machine
from loadtests.targets.figures import Figure
from loadtests.targets.figures import peers as beside
from loadtests.targets.loops import LoopFactory, Run, loop_factories, rates, run
from loadtests.targets.postgres import postgres_rate
from loadtests.targets.traffic import Order, orders, requests

SUBJECT = "client"
MANY = 4_096
"""Requests of one `hold_many`."""


def measure(bench: Bench) -> list[Figure]:
    """Awaited holds, `hold_many`, threads, and the awaited holds of the fsync level."""
    return [*_awaited(bench), *_many(bench), *_threads(bench), *_fsync(bench)]


def capacity(bench: Bench, durability: Durability) -> dict[str, float]:
    """Orders a second of awaited holds and of one EVALSHA an order, on the fastest loop."""
    if durability not in bench.capacities:
        machine = bench.machine(durability)
        factory = next(iter(loop_factories().values()))
        ways = {
            "ours": _awaited_run(bench, machine, factory),
            peers.ONE: _classic_run(machine, factory),
            peers.BY_HAND: _by_hand_run(machine, factory),
        }
        bench.capacities[durability] = rates(bench.sizes, ways, _say(bench, durability))
    return bench.capacities[durability]


def _say(bench: Bench, durability: str = "memory") -> Callable[[str], None]:
    return lambda name: bench.say(f"one process, {durability}: {name}")


# --- asyncio ------------------------------------------------------------------------------


def _awaited(bench: Bench) -> list[Figure]:
    machine = bench.machine()
    fastest = next(iter(loop_factories()))
    found = capacity(bench, "memory")
    others = {peers.ONE: found[peers.ONE], peers.BY_HAND: found[peers.BY_HAND]}
    figures = [
        Figure(
            subject=SUBJECT, name=f"awaited hold, {fastest}", value=found["ours"], unit="/s",
            bound=400_000, at_least=True, peers=beside(others), note="583,000 is the moonshot",
        ),
        Figure(
            subject=SUBJECT, name="awaited hold ÷ classic script, one EVALSHA an order",
            value=found["ours"] / found[peers.ONE], unit="×", bound=15, at_least=True,
            peers=beside({"÷ classic script, 256 by hand": found["ours"] / found[peers.BY_HAND]}),
        ),
    ]  # fmt: skip
    for name, factory in list(loop_factories().items())[1:]:
        ways = {
            "ours": _awaited_run(bench, machine, factory), peers.ONE: _classic_run(machine, factory)
        }  # fmt: skip
        plain = rates(bench.sizes, ways, _say(bench))
        figures.append(
            Figure(
                subject=SUBJECT, name=f"awaited hold, {name}", value=plain["ours"], unit="/s",
                peers=beside({peers.ONE: plain[peers.ONE]}),
            )
        )  # fmt: skip
    return figures


def _awaited_run(bench: Bench, machine: Machine, factory: LoopFactory) -> Run:
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
            await peers.together(bench.sizes.tasks, caller)
            return time.perf_counter() - begun

    return lambda who: run(factory, work(who))


def async_shop(machine: Machine) -> AsyncFlashSale:
    return AsyncFlashSale.from_url(
        machine.server.url, timeout_ms=TIMEOUT_MS, durability=machine.durability
    )


def _classic_run(machine: Machine, factory: LoopFactory) -> Run:
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


def _by_hand_run(machine: Machine, factory: LoopFactory) -> Run:
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


# --- bulk calls and threads ---------------------------------------------------------------


def _many(bench: Bench) -> list[Figure]:
    machine = bench.machine()
    factory = next(iter(loop_factories().values()))

    def sync_run(who: Sequence[Order]) -> float:
        machine.empty()
        sale = machine.shop.sale(machine.open())
        asked = requests(who)
        begun = time.perf_counter()
        for at in range(0, len(asked), MANY):
            _expect_held(sale.hold_many(asked[at : at + MANY]))
        return time.perf_counter() - begun

    async def work(who: Sequence[Order]) -> float:
        machine.empty()
        sale_id = machine.open()
        asked = requests(who)
        async with async_shop(machine) as shop:
            sale = shop.sale(sale_id)
            await sale.hold("warm-up", BASKET, hold_id="w")
            begun = time.perf_counter()
            for at in range(0, len(asked), MANY):
                _expect_held(await sale.hold_many(asked[at : at + MANY]))
            return time.perf_counter() - begun

    hand, plain = "classic script, 256 by hand", "hold_many, FlashSale"
    ways = {
        "hold_many": lambda who: run(factory, work(who)),
        plain: sync_run,
        hand: _by_hand_run(machine, factory),
    }
    found = rates(bench.sizes, ways, _say(bench))
    return [
        Figure(
            subject=SUBJECT, name=f"hold_many, {MANY:,} a call", value=found["hold_many"],
            unit="/s", bound=700_000, at_least=True,
            peers=beside({plain: found[plain], hand: found[hand]}),
        )
    ]  # fmt: skip


def _expect_held(answers: Sequence[Answer | FlashSaleError]) -> None:
    if any(
        isinstance(answer, FlashSaleError) or answer.outcome is not Outcome.HELD
        for answer in answers
    ):
        raise RuntimeError("not every order was held")


def _threads(bench: Bench) -> list[Figure]:
    machine, count = bench.machine(), bench.sizes.threads

    def ours(who: Sequence[Order]) -> float:
        machine.empty()
        sale = machine.shop.sale(machine.open())

        def one(order: Order) -> None:
            answer = sale.hold(order[0], BASKET, hold_id=order[1])
            assert answer.outcome is Outcome.HELD

        return in_threads(count, one, who)

    sha = peers.load(machine, peers.HOLD)

    def classic(who: Sequence[Order]) -> float:
        machine.empty()
        peers.stock_up(machine, 10**9)
        with redis.Redis.from_url(machine.server.url, max_connections=count) as client:

            def one(order: Order) -> None:
                keys = (peers.STOCK, peers.BUYERS, peers.ORDERS)
                assert cast("int", client.evalsha(sha, 3, *keys, *order)) == 1

            return in_threads(count, one, who)

    found = rates(bench.sizes, {"ours": ours, peers.ONE: classic}, _say(bench))
    return [
        Figure(
            subject=SUBJECT, name=f"FlashSale, {count} threads", value=found["ours"], unit="/s",
            peers=beside({peers.ONE: found[peers.ONE]}),
        ),
        Figure(
            subject=SUBJECT, name=f"{count} threads ÷ classic script, one EVALSHA an order",
            value=found["ours"] / found[peers.ONE], unit="×", bound=8, at_least=True,
        ),
    ]  # fmt: skip


def in_threads(count: int, one: Callable[[Order], None], who: Sequence[Order]) -> float:
    """Seconds until so many threads have done them all; the first order of each is a warm-up."""
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
        except BaseException as error:  # told by the thread that waits for us
            failed.append(error)
            gate.abort()

    threads = [threading.Thread(target=work, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    try:
        gate.wait()
        begun = time.perf_counter()
    except threading.BrokenBarrierError:
        begun = 0.0
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return (time.perf_counter() - begun) * len(who) / max(1, len(who) - count)


# --- on disk before it is acknowledged ----------------------------------------------------


def _fsync(bench: Bench) -> list[Figure]:
    memory, fsync = capacity(bench, "memory")["ours"], capacity(bench, "fsync")
    others = {
        "memory level": memory, peers.ONE: fsync[peers.ONE], peers.BY_HAND: fsync[peers.BY_HAND]
    }  # fmt: skip
    postgres = None
    if bench.postgres is not None:
        bench.say("PostgreSQL, 100 orders a statement by hand")
        count = round(20_000 * bench.sizes.seconds)
        postgres = postgres_rate(bench.postgres, orders(max(1_000, count)))
        others["PostgreSQL, 100 by hand"] = postgres
    figures = [
        Figure(
            subject=SUBJECT, name="awaited hold, fsync level", value=fsync["ours"], unit="/s",
            peers=beside(others),
        ),
        Figure(
            subject=SUBJECT, name="fsync level ÷ memory level", value=fsync["ours"] / memory,
            unit="×", bound=0.5, at_least=True,
            peers=beside({"classic script, 256 by hand": _by_hand_ratio(bench)}),
        ),
    ]  # fmt: skip
    if postgres is not None:
        figures.append(
            Figure(
                subject=SUBJECT, name="fsync level ÷ PostgreSQL, 100 by hand, fsync",
                value=fsync["ours"] / postgres, unit="×", bound=3, at_least=True,
            )
        )  # fmt: skip
    return figures


def _by_hand_ratio(bench: Bench) -> float:
    return capacity(bench, "fsync")[peers.BY_HAND] / capacity(bench, "memory")[peers.BY_HAND]
