"""A live room's rehearsal from beginning to end: server, sale, cues, taps, draws, check, report."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from contextlib import AsyncExitStack

import msgspec

from flashsale.aio import AsyncFlashSale, AsyncSaleHandle
from flashsale.keyring import Key
from flashsale.models import Answer, Outcome
from flashsale.rehearsal.aftermath import CHECK_TIMEOUT_MS, clear_away, quiet, read_server
from flashsale.rehearsal.driver import OnProgress, tell
from flashsale.rehearsal.hosting import server_of, url_of
from flashsale.rehearsal.measures import require_extra
from flashsale.rehearsal.room.driver import RoomDriver
from flashsale.rehearsal.room.report import RoomReport, build_room_report
from flashsale.rehearsal.room.scenario import LIVE_ROOM, LiveRoom
from flashsale.rehearsal.scenarios import fresh_id
from flashsale.server_check import Durability


def run_room(
    room: LiveRoom = LIVE_ROOM,
    *,
    url: str | None = None,
    seconds: float | None = None,
    scale: float | None = None,
    durability: Durability = "memory",
    seed: int | None = None,
    on_progress: OnProgress | None = None,
) -> RoomReport:
    """Rehearse a live room and say what came of it. Blocks; `rehearse_room` is it for asyncio.

    seconds: within which all skus are shown; None: the room's 6. Then it takes the lag cap, the
        window and the grace (16 s) until the last cue closes. scale: the divisor N of "rate 1/N"
        for viewers and units; None: what two cores keep up with. The rest, and what it raises, is
        as in `flashsale.rehearsal.run`.
    """
    return asyncio.run(
        rehearse_room(
            room,
            url=url,
            seconds=seconds,
            scale=scale,
            durability=durability,
            seed=seed,
            on_progress=on_progress,
        )
    )


async def rehearse_room(
    room: LiveRoom = LIVE_ROOM,
    *,
    url: str | None = None,
    seconds: float | None = None,
    scale: float | None = None,
    durability: Durability = "memory",
    seed: int | None = None,
    on_progress: OnProgress | None = None,
) -> RoomReport:
    """As `run_room`, in a running event loop, which should have nothing else to do."""
    require_extra()
    started = time.perf_counter()
    size = room.sized(seconds=seconds, rate_divisor=scale)
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    tell(on_progress, "start", size.seconds)
    plan = room.plan(size, seed=seed)
    sale = room.sale_for(size, fresh_id(room.name, secrets.token_hex(4)))
    async with AsyncExitStack() as stack:
        server_url = url_of(stack, url, durability)
        shop = await stack.enter_async_context(
            AsyncFlashSale.from_url(
                server_url, durability=durability, keys=[Key.random("rehearsal")]
            )
        )
        handle = await shop.open(sale)
        driver = RoomDriver(handle, room, plan, seconds=size.seconds, on_progress=on_progress)
        await driver.run()
        tell(on_progress, "check", size.seconds)
        snapshot = await shop.perform(quiet(sale.id, wait_s=0), CHECK_TIMEOUT_MS)
        told = await shop.perform(read_server(sale.id, snapshot), CHECK_TIMEOUT_MS)
        report = build_room_report(
            room=room,
            plan=plan,
            size=size,
            sale=sale,
            facts=driver.facts,
            settled=driver.settled,
            told=told,
            server=await server_of(shop, server_url, embedded=url is None),
            durability=durability,
            seed=seed,
            total_s=time.perf_counter() - started,
        )
        if url is None:
            return report
        right = report.exit_code != 1
        if right:
            results = (*driver.facts.results, *driver.settled.results.values())
            await _give_back(handle, [r for r in results if isinstance(r, Answer)])
        note = await shop.perform(clear_away(sale.id, keep=not right))
        return msgspec.structs.replace(report, notes=[*report.notes, note])


async def _give_back(sale: AsyncSaleHandle, answers: list[Answer]) -> None:
    """Release what was held, so that the sale can be purged."""
    await sale.release_many([answer for answer in answers if answer.outcome is Outcome.HELD])
