"""A rehearsal from beginning to end: server, sale, surge, check, report."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from contextlib import AsyncExitStack
from typing import Any

import redis
import redis.asyncio

from flashsale.aio import AsyncFlashSale
from flashsale.rehearsal.aftermath import CHECK_TIMEOUT_MS, clear_away, quiet, read_server
from flashsale.rehearsal.claims import claims_of
from flashsale.rehearsal.describing import SETTLE_S, notes_of, settle_s, setup_of
from flashsale.rehearsal.driver import CONNECTIONS_MAX, Driver, OnProgress, tell
from flashsale.rehearsal.facts import Facts
from flashsale.rehearsal.hosting import server_of, url_of
from flashsale.rehearsal.measures import cpu_spent, require_extra
from flashsale.rehearsal.report import Report, build_report
from flashsale.rehearsal.scenarios import Scenario, fresh_id, scenario_named
from flashsale.rehearsal.truth import judge
from flashsale.server_check import Durability


def run(
    scenario: str | Scenario = "double11",
    *,
    url: str | None = None,
    seconds: float | None = None,
    scale: float | None = None,
    time_factor: float | None = None,
    durability: Durability = "memory",
    seed: int | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Rehearse a scenario and say what came of it. Blocks; `rehearse` is the same for asyncio.

    scenario: its name or a value of your own.
    url: the server; None starts an embedded one, and stops it. The load is real: never name
        a server that serves others. The sale gets an id of its own, and is purged afterwards
        if everything was right.
    seconds: how long buyers arrive, above 0 and at most a day; None: the scenario's 10.
    scale: the divisor N of "rate 1/N" (`parse_scale` reads one); None: the smallest of
        1, 2, 5, 10, 20, 50 … that keeps the peak within 6,000 attempts a second.
    time_factor: seconds of the scenario in one second of the run; None: whatever fits the
        scenario's span into `seconds`.
    durability: as in `AsyncFlashSale`; the embedded server is set up accordingly.
    seed: for the same crowd again; None draws one, and the report names it.
    on_progress: called about four times a second, in the run's own thread: keep it short.

    Raises InvalidRequest, ConfigurationError (the extra is missing, the server does not suit)
    and StoreError (the server was gone when the books were to be checked).
    """
    return asyncio.run(
        rehearse(
            scenario,
            url=url,
            seconds=seconds,
            scale=scale,
            time_factor=time_factor,
            durability=durability,
            seed=seed,
            on_progress=on_progress,
        )
    )


async def rehearse(
    scenario: str | Scenario = "double11",
    *,
    url: str | None = None,
    seconds: float | None = None,
    scale: float | None = None,
    time_factor: float | None = None,
    durability: Durability = "memory",
    seed: int | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """As `run`, in a running event loop, which should have nothing else to do."""
    require_extra()
    started = time.perf_counter()
    if isinstance(scenario, str):
        scenario = scenario_named(scenario)
    size = scenario.sized(seconds=seconds, rate_divisor=scale, time_factor=time_factor)
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    tell(on_progress, "start", size.seconds)
    plan = scenario.plan(size, seed=seed)
    sale = scenario.sale_for(size, fresh_id(scenario.sale.id, secrets.token_hex(4)))
    async with AsyncExitStack() as stack:
        server_url = url_of(stack, url, durability)
        shop = await stack.enter_async_context(
            AsyncFlashSale.from_url(
                server_url, durability=durability, max_connections=CONNECTIONS_MAX
            )
        )
        handle = await shop.open(sale)
        driver = Driver(
            handle,
            plan,
            seconds=size.seconds,
            settle_s=settle_s(scenario, size),
            on_progress=on_progress,
        )
        facts, spent = await _drive(driver, server_url, size.seconds)
        wait_s = size.seconds + SETTLE_S[0] - facts.ended_s
        snapshot = await shop.perform(quiet(sale.id, wait_s=wait_s), CHECK_TIMEOUT_MS)
        tell(on_progress, "check", size.seconds)
        claims = claims_of(plan, facts, sale.hold_ttl_ms)
        told = await shop.perform(read_server(sale.id, snapshot), CHECK_TIMEOUT_MS)
        truth = judge(plan, sale, claims, told)
        server = await server_of(shop, server_url, embedded=url is None, cpu=spent)
        notes = notes_of(scenario, sale, snapshot, facts.left_over)
        if url is not None:
            notes.append(await shop.perform(clear_away(sale.id, keep=not truth.ok)))
    return build_report(
        setup=setup_of(scenario, size, sale, server, durability, seed),
        plan=plan,
        facts=facts,
        truth=truth,
        stock=list(snapshot.skus.values()),
        total_s=time.perf_counter() - started,
        notes=notes,
    )


async def _drive(driver: Driver, url: str, seconds: float) -> tuple[Facts, float | None]:
    """The run, and the server's CPU time while buyers arrived."""
    cpu = asyncio.create_task(_server_cpu(url, seconds))
    try:
        return await driver.run(), await cpu
    finally:
        cpu.cancel()


async def _server_cpu(url: str, seconds: float) -> float | None:
    """The server's CPU time while buyers arrive, as a share of one core; None if it hides it."""
    client: Any = redis.asyncio.Redis.from_url(url)
    try:
        async with client:
            before = await client.info("cpu")
            began = time.perf_counter()
            await asyncio.sleep(seconds)
            after = await client.info("cpu")
            wall = time.perf_counter() - began
    except redis.RedisError:
        return None
    return round(cpu_spent(before, after) / wall, 3)
