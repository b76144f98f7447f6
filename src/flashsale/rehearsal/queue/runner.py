"""A waiting room's rehearsal from beginning to end: server, sale, room, people, check, report."""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
import time
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import redis
import redis.asyncio

from flashsale.aio import AsyncFlashSale, AsyncSaleHandle
from flashsale.errors import StoreUnavailable
from flashsale.keyring import Key
from flashsale.rehearsal.aftermath import CHECK_TIMEOUT_MS, clear_away, quiet, read_server
from flashsale.rehearsal.driver import CONNECTIONS_MAX, OnProgress, tell
from flashsale.rehearsal.hosting import server_of, url_of
from flashsale.rehearsal.measures import cpu_spent, percentiles_of, require_extra
from flashsale.rehearsal.queue.building import Ran, build_queue_report
from flashsale.rehearsal.queue.driver import QueueDriver
from flashsale.rehearsal.queue.report import QueueReport
from flashsale.rehearsal.queue.scenario import WAITING_ROOM, QueueScenario
from flashsale.rehearsal.queue.visits import Visits
from flashsale.rehearsal.queue.watch import Watcher
from flashsale.rehearsal.scenarios import Size, fresh_id
from flashsale.server_check import Durability

LEAD_S = 0.3
"""Until the first may come."""

NEAR_PER_UNIT = 20
"""Of places up to so many times the stock, the times that people are told are kept."""

HOW = (
    "one process; one heap of what is due, not a timer a person; joins travel in batches of what "
    "is due (join_many), every other act is a call of its own"
)


def run_queue(
    scenario: QueueScenario = WAITING_ROOM,
    *,
    url: str | None = None,
    seconds: float | None = None,
    scale: float | None = None,
    durability: Durability = "memory",
    seed: int | None = None,
    on_progress: OnProgress | None = None,
) -> QueueReport:
    """Rehearse a waiting room and say what came of it. Blocks; `rehearse_queue` is it for asyncio.

    seconds: within which people come; None: the scenario's 30. Then it takes as long as the stock
        takes to sell for good. scale: the divisor N of "rate 1/N" for people and units; None: what
        two cores keep up with. The rest, and what it raises, is as in `flashsale.rehearsal.run`.
    """
    return asyncio.run(
        rehearse_queue(
            scenario,
            url=url,
            seconds=seconds,
            scale=scale,
            durability=durability,
            seed=seed,
            on_progress=on_progress,
        )
    )


async def rehearse_queue(
    scenario: QueueScenario = WAITING_ROOM,
    *,
    url: str | None = None,
    seconds: float | None = None,
    scale: float | None = None,
    durability: Durability = "memory",
    seed: int | None = None,
    on_progress: OnProgress | None = None,
) -> QueueReport:
    """As `run_queue`, in a running event loop, which should have nothing else to do."""
    require_extra()
    started = time.perf_counter()
    size = scenario.sized(seconds=seconds, rate_divisor=scale)
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    tell(on_progress, "start", size.seconds)
    plan = scenario.plan(size, seed=seed)
    sale = scenario.sale_for(size, fresh_id(scenario.name, secrets.token_hex(4)))
    visits = Visits(plan, range(plan.people), near=near_of(scenario, size))
    async with AsyncExitStack() as stack:
        server_url = url_of(stack, url, durability)
        shop, eye = [
            await stack.enter_async_context(
                AsyncFlashSale.from_url(
                    server_url,
                    durability=durability,
                    keys=[key_of(seed)],
                    max_connections=CONNECTIONS_MAX,
                )
            )
            for _ in range(2)
        ]
        handle = await shop.open(sale)
        start = await open_room(scenario, size, handle)
        watcher = Watcher(eye.sale(sale.id).queue, start)
        driver = QueueDriver(
            handle,
            visits,
            start=start,
            at_most_s=scenario.at_most_s(size),
            on_progress=on_progress,
        )
        meter = ServerMeter(server_url, start + plan.opens_s)
        await _drive(driver, watcher, meter)
        tell(on_progress, "check", size.seconds)
        if watcher.last is None:
            raise StoreUnavailable("the room could not be seen during the run")
        wait_s = scenario.hold_ttl_ms / 1000
        snapshot = await shop.perform(quiet(sale.id, wait_s=wait_s), CHECK_TIMEOUT_MS)
        told = await shop.perform(read_server(sale.id, snapshot), CHECK_TIMEOUT_MS)
        report = build_queue_report(
            Ran(
                scenario=scenario,
                size=size,
                sale=sale,
                seed=seed,
                durability=durability,
                server=await server_of(shop, server_url, embedded=url is None, cpu=meter.cpu),
                bots=plan.bots,
                people=plan.people,
                record=visits.record,
                samples=watcher.samples,
                room=watcher.last,
                told=told,
                latency_ms=visits.meters.latency_ms(),
                schedule_lag_ms=percentiles_of(visits.meters.lag),
                memory_bytes=meter.bytes_a_person(watcher.last.present),
                how=HOW,
                total_s=time.perf_counter() - started,
            )
        )
        if url is None:
            return report
        note = await shop.perform(clear_away(sale.id, keep=report.exit_code == 1))
        return msgspec.structs.replace(report, notes=[*report.notes, note])


def near_of(scenario: QueueScenario, size: Size) -> int:
    """The last place of which the times that people are told are kept."""
    return NEAR_PER_UNIT * scenario.units_of(size)


def key_of(seed: int | str) -> Key:
    """The room's signing key: the lot depends on it, and on the sale's id."""
    return Key("rehearsal", hashlib.sha256(f"{seed}:key".encode()).digest())


async def open_room(scenario: QueueScenario, size: Size, sale: AsyncSaleHandle) -> float:
    """Open the room, the opening of which is by the server's clock; when the run begins by ours."""
    before = time.perf_counter()
    server_ms = (await sale.snapshot()).at_ms
    middle = (before + time.perf_counter()) / 2
    start = time.perf_counter() + LEAD_S
    opens_ms = server_ms + round(1000 * (start - middle + scenario.opens_s(size)))
    await sale.queue.open(scenario.room_for(size, opens_at_ms=opens_ms))
    return start


async def _drive(driver: QueueDriver, watcher: Watcher, meter: ServerMeter) -> None:
    """The run, seen by the watcher and the meter."""
    watching = asyncio.create_task(watcher.run())
    metering = asyncio.create_task(meter.run())
    try:
        await driver.run()
    finally:
        watcher.stop()
        meter.stop()
        await asyncio.gather(watching, metering)
    await watcher.look()


class ServerMeter:
    """The server's CPU time over a run, and its memory from before it to the opening."""

    def __init__(self, url: str, opens_at: float) -> None:
        self._url = url
        self._opens_at = opens_at
        self._over = asyncio.Event()
        self._grown: int | None = None
        self.cpu: float | None = None

    def stop(self) -> None:
        """The run is over."""
        self._over.set()

    async def run(self) -> None:
        """Ask at the begin, at the opening and at the end; a server that hides it says nothing."""
        client: Any = redis.asyncio.Redis.from_url(self._url)
        try:
            async with client:
                before, began = await client.info("cpu"), time.perf_counter()
                empty = (await client.info("memory"))["used_memory"]
                await self._wait(self._opens_at - time.perf_counter())
                self._grown = (await client.info("memory"))["used_memory"] - empty
                await self._wait(None)
                after, wall = await client.info("cpu"), time.perf_counter() - began
                self.cpu = round(cpu_spent(before, after) / wall, 3)
        except (redis.RedisError, KeyError):
            return

    async def _wait(self, seconds: float | None) -> None:
        try:
            await asyncio.wait_for(
                self._over.wait(), None if seconds is None else max(0.0, seconds)
            )
        except TimeoutError:
            return

    def bytes_a_person(self, present: int | None) -> float | None:
        """What the server's memory grew for each who had joined by the opening."""
        return round(self._grown / present, 1) if self._grown is not None and present else None
