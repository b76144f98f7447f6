"""The asynchronous client's audit leaves its event loop to others, however large the sale."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from flashsale import AsyncFlashSale, HoldRequest, Sale, Sku, audit, books, ledger, views


@pytest.mark.parametrize("verb", ["audit", "trim"])
async def test_none_of_an_audits_own_work_is_done_in_the_loops_thread(
    server_url: str, new_sale_id: Callable[[], str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    threads: set[int] = set()

    def note(module: object, name: str) -> None:
        own = getattr(module, name)

        def noted(*args: object) -> object:
            threads.add(threading.get_ident())
            return own(*args)

        monkeypatch.setattr(module, name, noted)

    note(books.Books, "apply")
    note(books, "hold_name")
    note(ledger, "_entry")
    note(views, "read_holds")
    for name in ("_compare_counters", "_compare_sums", "_compare_limits", "_differences"):
        note(audit, name)
    async with AsyncFlashSale.from_url(server_url) as shop:
        sale = await shop.open(Sale(new_sale_id(), [Sku("red", 10)], hold_ttl_ms=1))
        await sale.hold_many([HoldRequest(f"b{n}", {"red": 1}, "h") for n in range(9)])
        for _ in range(3):
            await sale.expire()
        await sale.release("nobody", "h")
        if verb == "audit":
            assert (await sale.audit()).ok
        else:
            assert await sale.ledger.trim() > 0
    assert threads
    assert threading.get_ident() not in threads


async def test_an_audit_that_is_cancelled_in_its_work_ends_at_once_and_quietly(
    server_url: str, new_sale_id: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on, own = threading.Event(), threading.Event(), books.Books.apply

    def slow(self: books.Books, event: ledger.Event) -> None:
        began.set()
        go_on.wait(30)
        own(self, event)

    monkeypatch.setattr(books.Books, "apply", slow)
    async with AsyncFlashSale.from_url(server_url) as shop:
        sale = await shop.open(Sale(new_sale_id(), [Sku("red", 10)]))
        task = asyncio.create_task(sale.audit())
        await asyncio.to_thread(began.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        monkeypatch.undo()
        assert (await sale.audit()).ok
