"""What one caller alone waits and costs, and what an open load waits at half of capacity."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import redis.asyncio
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]
from msgspec import Struct

from flashsale import Outcome
from flashsale.server_check import Durability
from loadtests.targets import peers
from loadtests.targets.bench import BASKET, Bench, Command, Machine, expect_codes, settle
from loadtests.targets.client_rate import capacity
from loadtests.targets.figures import Figure
from loadtests.targets.figures import peers as beside
from loadtests.targets.loops import LoopFactory, loop_factories, run
from loadtests.targets.traffic import Order, holds, orders
from loadtests.targets.ways import async_shop

SUBJECT = "latency"
BARE_SAME = "bare EVALSHA, same payload"


def measure(bench: Bench) -> list[Figure]:
    """The single call, then the open load of both durability levels."""
    bench.say("a single call")
    return [*_single_cost(bench), *_round_trips(bench), *_open(bench)]


# --- one call at a time -------------------------------------------------------------------


def _single_cost(bench: Bench) -> list[Figure]:
    machine, who = bench.machine(), orders(bench.sizes.singles)

    def once() -> dict[str, float]:
        machine.empty()
        commands = holds(machine.open(), who, batch=1)
        spent, replies = machine.send(machine.pack(commands, depth=1))
        expect_codes(replies, b"H")
        bare, _ = machine.send(machine.pack(_bare(machine, commands), depth=1))
        ping, _ = machine.send(machine.pack([("PING",)] * len(commands), depth=1))
        return {"ours": spent / len(who), "bare": bare / len(who), "ping": ping / len(who)}

    found = bench.rounds(once)
    values = {BARE_SAME: found["bare"], "PING": found["ping"]}
    return [
        Figure(
            subject=SUBJECT, name="single call, server CPU", value=found["ours"], unit="µs",
            peers=beside(values),
        ),
        Figure(
            subject=SUBJECT, name="single call, server CPU ÷ bare EVALSHA",
            value=found["ours"] / found["bare"], unit="×", bound=1.6,
        ),
    ]  # fmt: skip


def _bare(machine: Machine, commands: Sequence[Command]) -> list[Command]:
    sha = peers.load(machine, peers.NOTHING)
    return [(command[0], sha, *command[2:]) for command in commands]


def _round_trips(bench: Bench) -> list[Figure]:
    factories = loop_factories()
    fastest = next(iter(factories))
    ways: dict[str, Callable[[], tuple[float, float]]] = {
        "FlashSale": lambda: _sync_trips(bench),
        f"AsyncFlashSale, {fastest}": lambda: run(factories[fastest], _async_trips(bench)),
    }
    figures = []
    for name, way in ways.items():
        ours, bare = way()
        values = {BARE_SAME: bare * 1e6}
        figures += [
            Figure(
                subject=SUBJECT, name=f"single call, round trip, {name}", value=ours * 1e6,
                unit="µs", peers=beside(values),
            ),
            Figure(
                subject=SUBJECT, name=f"single call, round trip ÷ bare EVALSHA, {name}",
                value=ours / bare, unit="×", bound=1.3,
            ),
        ]  # fmt: skip
    return figures


def _sync_trips(bench: Bench) -> tuple[float, float]:
    """Medians of our call and of redis-py's, by turns, in seconds."""
    machine, who = bench.machine(), orders(bench.sizes.singles)
    machine.empty()
    bare_client: Any = machine.client
    sale_id = machine.open()
    sale, bares = machine.shop.sale(sale_id), _bare(machine, holds(sale_id, who, batch=1))
    times: tuple[list[float], list[float]] = ([], [])
    settle()
    for (buyer, hold_id), bare in zip(who, bares, strict=True):
        at = time.perf_counter()
        answer = sale.hold(buyer, BASKET, hold_id=hold_id)
        between = time.perf_counter()
        bare_client.execute_command(*bare)
        times[1].append(time.perf_counter() - between)
        times[0].append(between - at)
        assert answer.outcome is Outcome.HELD
    return statistics.median(times[0]), statistics.median(times[1])


async def _async_trips(bench: Bench) -> tuple[float, float]:
    machine, who = bench.machine(), orders(bench.sizes.singles)
    machine.empty()
    sale_id = machine.open()
    bares = _bare(machine, holds(sale_id, who, batch=1))
    times: tuple[list[float], list[float]] = ([], [])
    bare_client: Any = peers.async_client(machine, 1)
    async with async_shop(machine) as shop, bare_client:
        sale = shop.sale(sale_id)
        settle()
        for (buyer, hold_id), bare in zip(who, bares, strict=True):
            at = time.perf_counter()
            answer = await sale.hold(buyer, BASKET, hold_id=hold_id)
            between = time.perf_counter()
            await bare_client.execute_command(*bare)
            times[1].append(time.perf_counter() - between)
            times[0].append(between - at)
            assert answer.outcome is Outcome.HELD
    return statistics.median(times[0]), statistics.median(times[1])


# --- open load ----------------------------------------------------------------------------


class Waited(Struct, frozen=True):
    """Milliseconds from the intended time to the answer, and how late the generator was."""

    p50: float
    p99: float
    p99_9: float
    longest: float
    lag_p99: float


def _open(bench: Bench) -> list[Figure]:
    fastest, factory = next(iter(loop_factories().items()))
    figures = []
    levels: tuple[tuple[Durability, float], ...] = (("memory", 5), ("fsync", 15))
    for durability, bound in levels:
        found = capacity(bench, durability)
        machine = bench.machine(durability)
        rate, classic_rate = found["ours"] / 2, found[peers.ONE] / 2
        bench.say(f"open load, {durability}: {rate:,.0f}/s")
        waited = _open_ours(bench, machine, factory, rate)
        bench.say(f"open load, {durability}: {peers.ONE}, {classic_rate:,.0f}/s")
        classic = _open_classic(bench, machine, factory, classic_rate)
        figures.append(
            Figure(
                subject=SUBJECT, name=f"open load at half of capacity, p99, {durability}",
                value=waited.p99, unit="ms", bound=bound,
                peers=beside({f"{peers.ONE}, at {classic_rate:,.0f}/s": classic.p99}),
                note=f"{fastest}, {rate:,.0f}/s; p50 {waited.p50:.2f}, p99.9 {waited.p99_9:.2f}, "
                f"longest {waited.longest:.2f}; generator's lag p99 {waited.lag_p99:.2f}",
            )
        )  # fmt: skip
    return figures


def _open_ours(bench: Bench, machine: Machine, factory: LoopFactory, rate: float) -> Waited:
    async def work() -> Waited:
        machine.empty()
        sale_id = machine.open()
        async with async_shop(machine) as shop:
            sale = shop.sale(sale_id)
            await sale.hold("warm-up", BASKET, hold_id="w")

            async def one(order: Order) -> None:
                answer = await sale.hold(order[0], BASKET, hold_id=order[1])
                assert answer.outcome is Outcome.HELD

            return await _open_load(one, rate, bench.sizes.seconds * 2)

    return run(factory, work())


def _open_classic(bench: Bench, machine: Machine, factory: LoopFactory, rate: float) -> Waited:
    sha = peers.load(machine, peers.HOLD)

    async def work() -> Waited:
        machine.empty()
        peers.stock_up(machine, 10**9)
        client: redis.asyncio.Redis
        async with peers.async_client(machine, peers.CONNECTIONS) as client:
            await peers.connect(client)
            free = asyncio.Semaphore(peers.CONNECTIONS)

            async def one(order: Order) -> None:
                async with free:
                    await peers.one_by_one(client, sha, order)

            return await _open_load(one, rate, bench.sizes.seconds * 2)

    return run(factory, work())


async def _open_load(
    one: Callable[[Order], Awaitable[None]], rate: float, seconds: float
) -> Waited:
    """Poisson arrivals, fixed beforehand; nobody waits for an answer before the next is sent."""
    who = orders(max(100, round(rate * seconds)))
    draw = random.Random(1)
    due = list(accumulate(draw.expovariate(rate) for _ in who))
    waited: list[float] = []
    lags: list[float] = []
    settle()
    begun = time.perf_counter() + 0.01

    async def arrival(order: Order, intended: float) -> None:
        await one(order)
        waited.append(time.perf_counter() - intended)

    async with asyncio.TaskGroup() as group:
        arrivals: Iterator[tuple[Order, float]] = zip(who, due, strict=True)
        order, at = next(arrivals)
        while True:
            now = time.perf_counter() - begun
            try:
                while at <= now:
                    group.create_task(arrival(order, begun + at))
                    lags.append(now - at)
                    order, at = next(arrivals)
            except StopIteration:
                break
            # Timers are in whole milliseconds: what is due sooner is waited for awake.
            await asyncio.sleep(at - now - 0.002 if at - now > 0.003 else 0)
    return _waited(waited, lags)


def _waited(waited: Sequence[float], lags: Sequence[float]) -> Waited:
    times, late = _histogram(waited), _histogram(lags)
    at = [times.get_value_at_percentile(percent) / 1000 for percent in (50, 99, 99.9, 100)]
    return Waited(at[0], at[1], at[2], at[3], late.get_value_at_percentile(99) / 1000)


def _histogram(seconds: Sequence[float]) -> Any:
    """Microseconds up to a minute, three significant figures."""
    histogram = HdrHistogram(1, 60_000_000, 3)
    for value in seconds:
        histogram.record_value(min(60_000_000, max(1, round(value * 1e6))))
    return histogram
