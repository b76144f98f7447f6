"""The server after a run: sweeping, reading everything it has to say, clearing away."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import redis
import redis.asyncio

from flashsale import views
from flashsale.aio import AsyncFlashSale, AsyncSaleHandle
from flashsale.errors import FlashSaleError
from flashsale.models import Hold, Outcome, Snapshot
from flashsale.rehearsal.driver import SWEEP_HOLDS
from flashsale.rehearsal.truth import ServerSide

_SCAN_PAGE = 1_000
_CHECK_TIMEOUT_MS = 120_000
_SWEPT_WITHIN_S = 10.0


async def quiet(handle: AsyncSaleHandle, *, wait_s: float) -> Snapshot:
    """Sweep until nothing is held, or until the time is up and nothing is due."""
    until = time.perf_counter() + max(0.0, wait_s)
    while True:
        while await handle.expire(SWEEP_HOLDS):
            pass
        snapshot = await handle.snapshot()
        now = time.perf_counter()
        settled = not any(view.held for view in snapshot.skus.values())
        is_due = snapshot.due_at_ms is not None and snapshot.due_at_ms <= snapshot.at_ms
        if settled or (now > until and not is_due) or now > until + _SWEPT_WITHIN_S:
            return snapshot
        await asyncio.sleep(0.02)


async def read_server(
    shop: AsyncFlashSale, handle: AsyncSaleHandle, snapshot: Snapshot
) -> ServerSide:
    """Everything the server has to say about the sale, after that snapshot."""
    records: dict[str, list[Hold]] = {}
    cursor = ""
    while cursor != "0":
        scan = views.scan(handle.id, cursor or "0", _SCAN_PAGE)
        cursor, _, page = await shop.perform(scan)
        records |= page
    after = await handle.snapshot()
    audit = await handle.audit(timeout_ms=_CHECK_TIMEOUT_MS)
    return ServerSide(snapshot=snapshot, records=records, read_by_ms=after.at_ms, audit=audit)


async def server_cpu(url: str, seconds: float) -> float | None:
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
    fields = ("used_cpu_user", "used_cpu_sys")
    spent = sum(float(after[field]) - float(before[field]) for field in fields)
    return round(spent / wall, 3)


async def clear_away(handle: AsyncSaleHandle, *, keep: bool) -> str:
    """End and purge the sale unless it is to be kept; what became of it, for people."""
    if keep:
        return f"sale {handle.id!r} is left on the server, to be looked at"
    with suppress(FlashSaleError):
        await handle.end()
        if (await handle.purge()).outcome is Outcome.PURGED:
            return f"sale {handle.id!r} is purged from the server"
    return f"sale {handle.id!r} is left on the server: it could not be purged yet"
