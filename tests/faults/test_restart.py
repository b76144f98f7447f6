"""Scripts flushed, the server killed, its file torn: what was acknowledged is still there."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from faults.checks import books_are_right, books_of, entries_of, events_of
from flashsale import (
    Answer,
    AsyncFlashSale,
    EventKind,
    FlashSale,
    Hold,
    HoldRequest,
    HoldState,
    Outcome,
    Sale,
    Sku,
    WaitingRoom,
)
from flashsale.embedded import EmbeddedServer
from support.cues import KEY

SALE = Sale("restarted", [Sku("red", 1_000_000)])
THREADS = 3
PATIENT_MS = 60_000


class Ordering:
    """Callers of both kinds that go on ordering until told to stop, and note every answer."""

    def __init__(self, url: str, **options: Any) -> None:
        self.held: list[Answer] = []
        self.confirmed: list[Answer] = []
        self._url, self._options = url, options
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(THREADS + 1)
        self._running = [self._pool.submit(self._order, n) for n in range(THREADS)]
        self._running.append(self._pool.submit(asyncio.run, self._order_async()))

    def stop(self) -> None:
        """Stop, and raise what any caller met instead of an answer."""
        self._stop.set()
        self._pool.shutdown()
        for running in self._running:
            running.result()

    def _order(self, thread: int) -> None:
        with FlashSale.from_url(self._url, timeout_ms=PATIENT_MS, **self._options) as shop:
            sale = shop.sale(SALE.id)
            for n in range(1_000_000):
                if self._stop.is_set():
                    return
                held = sale.hold(f"buyer-{thread}-{n}", {"red": 1}, hold_id="h").unwrap()
                self.held.append(held)
                if n % 2:
                    self.confirmed.append(sale.confirm(held).unwrap())

    async def _order_async(self) -> None:
        shop = AsyncFlashSale.from_url(self._url, timeout_ms=PATIENT_MS, **self._options)
        async with shop:
            await asyncio.gather(*(self._order_in_task(shop, task) for task in range(THREADS)))

    async def _order_in_task(self, shop: AsyncFlashSale, task: int) -> None:
        sale, n = shop.sale(SALE.id), 0
        while not self._stop.is_set():
            n += 1
            held = (await sale.hold(f"task-{task}-{n}", {"red": 1}, hold_id="h")).unwrap()
            self.held.append(held)
            if n % 2:
                self.confirmed.append((await sale.confirm(held)).unwrap())


def nothing_is_lost(sale: Any, ordering: Ordering) -> None:
    """Every acknowledged hold is in the ledger once and found by its id, every sale sold."""
    view = books_are_right(sale)
    told = [e for e in events_of(sale) if e.kind is EventKind.HELD]
    ids = {(event.buyer, event.hold_id): event for event in told}
    assert len(ids) == len(told)
    paid = {(answer.buyer, answer.hold_id) for answer in ordering.confirmed}
    for answer in ordering.held:
        assert ids[answer.buyer, answer.hold_id].deadline_ms == answer.deadline_ms
    for buyer, hold_id in paid:
        hold = sale.find(buyer, hold_id)
        assert isinstance(hold, Hold)
        assert hold.state is HoldState.CONFIRMED
    assert len(ordering.held) == len({(a.buyer, a.hold_id) for a in ordering.held})
    # The last order of each caller may have been made and not paid; no more than that differs.
    units = view.skus["red"]
    assert units.held + units.sold == len(ordering.held)
    assert units.sold == len(paid)


def wait_for_more(ordering: Ordering, orders: int) -> None:
    goal, end = len(ordering.held) + orders, time.monotonic() + 60
    while len(ordering.held) < goal:
        assert time.monotonic() < end, "nobody orders any more"
        time.sleep(0.005)


def test_flushed_scripts_are_not_noticed(own_server: EmbeddedServer, operator: FlashSale) -> None:
    sale = operator.open(SALE)
    with redis.Redis.from_url(own_server.url) as admin:
        ordering = Ordering(own_server.url)
        try:
            for _ in range(30):
                wait_for_more(ordering, 20)
                admin.script_flush()
        finally:
            ordering.stop()
    assert len(ordering.held) >= 600
    nothing_is_lost(sale, ordering)


def test_flushed_scripts_are_not_noticed_by_any_verb(
    connect: Callable[..., FlashSale], own_server: EmbeddedServer
) -> None:
    shop = connect(own_server.url, timeout_ms=PATIENT_MS, keys=[KEY])
    with redis.Redis.from_url(own_server.url) as admin:

        def flushed(call: Callable[[], Any]) -> Any:
            admin.script_flush()
            return call()

        sale = flushed(lambda: shop.open(SALE))
        held = flushed(lambda: sale.hold("ann", {"red": 2}, hold_id="h"))
        assert flushed(lambda: sale.find(held)).lines == {"red": 2}
        deadline = held.deadline_ms + 1_000
        extended = flushed(lambda: sale.extend(held, deadline_ms=deadline))
        assert extended.outcome is Outcome.EXTENDED
        assert flushed(lambda: sale.confirm(held)).outcome is Outcome.CONFIRMED
        refunded = flushed(lambda: sale.refund(held, lines={"red": 1}, op_id="r"))
        assert refunded.outcome is Outcome.REFUNDED
        assert flushed(lambda: sale.release("bob", "h")).outcome is Outcome.RELEASED
        assert flushed(lambda: sale.restock({"red": 1}, op_id="t")).outcome is Outcome.RESTOCKED
        assert flushed(sale.pause).outcome is Outcome.PAUSED
        assert flushed(sale.expire) == 0
        assert flushed(lambda: sale.ledger.register("sink")) == 0
        assert flushed(lambda: sale.ledger.ack("sink", 3)) == 3
        assert flushed(sale.ledger.trim) == 0
        room = WaitingRoom(rate_per_s=1_000)
        assert flushed(lambda: sale.queue.open(room)).room == room
        ticket = flushed(lambda: sale.queue.join("ann")).ticket
        assert flushed(sale.queue.view).joined == 1
        assert flushed(lambda: sale.queue.set_rate(5)).rate_per_s == 5
        waits = flushed(lambda: sale.queue.position("ann", ticket))
        assert waits.outcome is Outcome.WAITING  # the sale is paused
        assert flushed(lambda: sale.queue.admit("ann", ticket)).outcome is Outcome.PAUSED
        sale.resume()
        assert flushed(lambda: sale.queue.admit("ann", ticket)).outcome is Outcome.ADMITTED
        assert flushed(lambda: sale.queue.leave("ann")).outcome is Outcome.LEFT
        assert flushed(sale.audit).ok
        assert flushed(sale.end).outcome is Outcome.ENDED
        assert flushed(lambda: sale.ledger.forget("sink")) == 3
        assert flushed(sale.purge).outcome is Outcome.PURGED


def test_a_server_killed_again_and_again_loses_nothing_that_was_acknowledged(long: bool) -> None:
    with (
        EmbeddedServer.start(durability="fsync") as server,
        FlashSale.from_url(server.url, timeout_ms=PATIENT_MS) as shop,
    ):
        sale = shop.open(SALE)
        ordering = Ordering(server.url, durability="fsync")
        try:
            for _ in range(20 if long else 4):
                wait_for_more(ordering, 100)
                server.kill()
                server.restart()
            wait_for_more(ordering, 100)
        finally:
            ordering.stop()
        nothing_is_lost(sale, ordering)


# --- a torn file --------------------------------------------------------------------------


@pytest.fixture
def torn_from(tmp_path: Path) -> tuple[Path, int, int]:
    """A server's folder after a batch of 40 orders, how long its file was before, and is."""
    folder = tmp_path / "original"
    with (
        EmbeddedServer.start(durability="fsync", directory=folder) as server,
        FlashSale.from_url(server.url, timeout_ms=PATIENT_MS, durability="fsync") as shop,
    ):
        sale = shop.open(SALE)
        sale.hold_many([HoldRequest(f"early-{n}", {"red": 1}, "h") for n in range(5)])
        before = aof_of(folder).stat().st_size
        # Different baskets take the longer path through the script: more writes to tear.
        orders = [HoldRequest(f"late-{n}", {"red": n + 1}, "h") for n in range(40)]
        sale.hold_many(orders)
        server.kill()
    return folder, before, aof_of(folder).stat().st_size


def aof_of(folder: Path) -> Path:
    (path,) = folder.glob("appendonlydir/*.incr.aof")
    return path


def test_a_torn_file_holds_a_whole_batch_or_nothing_of_it(
    torn_from: tuple[Path, int, int], tmp_path: Path
) -> None:
    original, before, after = torn_from
    lengths = [after, after - 1, after - 30, (before + after) // 2, before + 30, before + 1]
    for number, length in enumerate(lengths):
        folder = tmp_path / f"copy-{number}"
        shutil.copytree(original, folder)
        with aof_of(folder).open("r+b") as file:
            file.truncate(length)
        with EmbeddedServer.start(durability="fsync", directory=folder) as server:
            view = books_of(server.url, SALE.id)
            with FlashSale.from_url(server.url, timeout_ms=PATIENT_MS) as shop:
                sale = shop.sale(SALE.id)
                whole = length == after
                assert view.buyers == (45 if whole else 5)
                assert view.skus["red"].held == (5 + 40 * 41 // 2 if whole else 5)
                assert len(entries_of(sale)) == (3 if whole else 2)
                # Asked again with the same ids, the lost ones are decided anew, the others told.
                late = sale.hold("late-0", {"red": 1}, hold_id="h")
                assert (late.outcome, late.replayed) == (Outcome.HELD, whole)
                early = sale.hold("early-0", {"red": 1}, hold_id="h")
                assert (early.outcome, early.replayed) == (Outcome.HELD, True)
                books_are_right(sale)
