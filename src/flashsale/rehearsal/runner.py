"""A rehearsal from beginning to end: server, sale, surge, check, report."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from flashsale.aio import AsyncFlashSale
from flashsale.embedded import EmbeddedServer
from flashsale.errors import InvalidRequest
from flashsale.models import Sale, Snapshot
from flashsale.rehearsal.aftermath import clear_away, quiet, read_server, server_cpu
from flashsale.rehearsal.claims import claims_of
from flashsale.rehearsal.crowd import Crowd
from flashsale.rehearsal.driver import CONNECTIONS_MAX, Driver, Progress
from flashsale.rehearsal.facts import Facts
from flashsale.rehearsal.measures import require_extra
from flashsale.rehearsal.report import Report, Server, Setup, build_report
from flashsale.rehearsal.scenarios import Scenario, Size, fresh_id, scenario_named
from flashsale.rehearsal.truth import judge
from flashsale.server_check import Durability

OnProgress = Callable[[Progress], None]

SETTLE_S = (3.5, 60.0)
"""Seconds after the last arrival for payments under way and for holds to fall due, at least
and at most; in between, five times the mean time to think."""


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
    _tell(on_progress, "start", size)
    plan = scenario.plan(size, seed=seed)
    sale = scenario.sale_for(size, fresh_id(scenario.sale.id, secrets.token_hex(4)))
    async with AsyncExitStack() as stack:
        if url is None:
            embedded = stack.enter_context(EmbeddedServer.start(durability=durability))
        server_url = embedded.url if url is None else url
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
            settle_s=_settle_s(scenario, size),
            on_progress=on_progress,
        )
        facts, spent = await _drive(driver, server_url, size.seconds)
        snapshot = await quiet(handle, wait_s=size.seconds + SETTLE_S[0] - facts.ended_s)
        _tell(on_progress, "check", size)
        claims = claims_of(plan, facts, sale.hold_ttl_ms)
        truth = judge(plan, sale, claims, await read_server(shop, handle, snapshot))
        server = await _server(shop, server_url, embedded=url is None, cpu=spent)
        notes = _notes(scenario, sale, snapshot, facts.left_over)
        if url is not None:
            notes.append(await clear_away(handle, keep=not truth.ok))
    return build_report(
        setup=_setup(scenario, size, sale, server, durability, seed),
        plan=plan,
        facts=facts,
        truth=truth,
        stock=list(snapshot.skus.values()),
        total_s=time.perf_counter() - started,
        notes=notes,
    )


def _settle_s(scenario: Scenario, size: Size) -> float:
    least, most = SETTLE_S
    return min(most, max(least, 5 * scenario.crowd.think_s / size.time_factor))


async def _server(shop: AsyncFlashSale, url: str, *, embedded: bool, cpu: float | None) -> Server:
    told = await shop.server()
    return Server(
        name=told.name, version=told.version, embedded=embedded, address=_address(url), cpu=cpu
    )


async def _drive(driver: Driver, url: str, seconds: float) -> tuple[Facts, float | None]:
    """The run, and the server's CPU time while buyers arrived."""
    cpu = asyncio.create_task(server_cpu(url, seconds))
    try:
        return await driver.run(), await cpu
    finally:
        cpu.cancel()


def _notes(scenario: Scenario, sale: Sale, snapshot: Snapshot, left_over: int) -> list[str]:
    notes = []
    if scenario.attempts_per_unit is None:
        was = sum(sku.stock for sku in scenario.sale.skus)
        now = sum(sku.stock for sku in sale.skus)
        if was != now:
            notes.append(f"stock is scaled with the attempts: {now:,} units for {was:,}")
    if left_over:
        notes.append(f"{left_over:,} later steps were still to come when the run ended")
    if held := sum(view.held for view in snapshot.skus.values()):
        notes.append(f"{held:,} units are still held: their deadlines are later")
    return notes


def _setup(
    scenario: Scenario, size: Size, sale: Sale, server: Server, durability: str, seed: int | str
) -> Setup:
    peak = scenario.curve.peak(size.seconds * size.time_factor)
    crowd = scenario.crowd
    assumed = {
        field: str(getattr(crowd, field))
        for field in Crowd.__struct_fields__
        if field != "sources" and field not in crowd.sources
    }
    return Setup(
        scenario=scenario.name,
        about=scenario.about,
        curve=scenario.curve.source,
        sale=sale.id,
        scale=str(size),
        rate_divisor=size.rate_divisor,
        time_factor=size.time_factor,
        seconds=size.seconds,
        peak_per_s=round(peak / size.rate_divisor, 1),
        full_peak_per_s=peak,
        seed=seed,
        durability=durability,
        cores=os.cpu_count() or 1,
        server=server,
        crowd_sources=crowd.sources,
        assumed=assumed,
    )


def _address(url: str) -> str:
    """Host and port only: a URL may carry a password."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    try:
        return f"{parts.hostname}:{parts.port or 6379}"
    except ValueError:
        raise InvalidRequest("url", "must be redis://host:port") from None


def _tell(on_progress: OnProgress | None, phase: str, size: Size) -> None:
    if on_progress is not None:
        on_progress(Progress(phase=phase, elapsed_s=0.0, seconds=size.seconds))
