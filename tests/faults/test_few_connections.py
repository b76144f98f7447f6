"""More callers than connections: each has its turn, and none waits for what another one keeps."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

import pytest

from faults.checks import SCRIPTS, books_are_right
from flashsale import FlashSale, HoldRequest, Outcome, Sale, Sku
from flashsale.batches import CHUNK, WINDOW
from support.crowds import Ask, at_once, crowd, until
from support.proxy import FaultProxy


@pytest.fixture
def looked_at(operator: FlashSale) -> Any:
    return operator.open(Sale("crowded", [Sku("red", 1_000_000)]))


def requests_of(name: str, chunks: int) -> list[HoldRequest]:
    """A bulk call that takes so many script calls."""
    return [HoldRequest(f"{name}-{n}", {"red": 1}, "h") for n in range(chunks * CHUNK)]


def many(name: str, chunks: int, **options: Any) -> Ask:
    return lambda sale: sale.hold_many(requests_of(name, chunks), **options)


@pytest.mark.parametrize("connections", [1, 2, 3])
def test_a_bulk_call_gets_by_with_however_few_connections_there_are(
    connections: int, connect: Callable[..., FlashSale], proxy: FaultProxy, looked_at: Any
) -> None:
    shop = connect(proxy.url, max_connections=connections)
    answers = shop.sale(looked_at.id).hold_many(requests_of("b", 4 * WINDOW), timeout_ms=10_000)
    assert {getattr(answer, "outcome", answer) for answer in answers} == {Outcome.HELD}
    books_are_right(looked_at)


@pytest.mark.parametrize("lossy", [False, True])
def test_bulk_calls_made_at_once_do_not_wait_for_each_others_connections(
    lossy: bool, connect: Callable[..., FlashSale], proxy: FaultProxy, looked_at: Any
) -> None:
    """Also those that have to send again, because a reply was lost."""
    sale = connect(proxy.url, timeout_ms=12_000, max_connections=4).sale(looked_at.id)
    proxy.delay(reply_ms=3, only=SCRIPTS)
    if lossy:
        proxy.drop_replies(probability=0.1, seed=7, only=SCRIPTS)
    results = at_once(sale, [many(f"b{n}", 8) for n in range(5)])
    ends = [end for answers in results for end in answers]
    assert {getattr(end, "outcome", end) for end in ends} == {Outcome.HELD}
    books_are_right(looked_at)


def test_replies_lost_together_cost_a_bulk_call_one_attempt_and_not_one_after_the_other(
    connect: Callable[..., FlashSale], proxy: FaultProxy, looked_at: Any
) -> None:
    """What is begun has its own time from then on, though it is read later."""
    sale = connect(proxy.url, timeout_ms=6_000).sale(looked_at.id)
    sale.hold("first", {"red": 1}, hold_id="h").unwrap()
    proxy.drop_replies(times=WINDOW, then="hang", only=SCRIPTS)
    answers = sale.hold_many(requests_of("b", 2 * WINDOW))
    assert {getattr(answer, "outcome", answer) for answer in answers} == {Outcome.HELD}
    assert sum(answer.replayed for answer in answers) == WINDOW * CHUNK
    books_are_right(looked_at)


BULKS = 3


def bulk_calls(name: str, over: threading.Event) -> Ask:
    """One bulk call after the other."""
    requests = requests_of(name, 2 * WINDOW)

    def ask(sale: Any) -> Any:
        if inspect.iscoroutinefunction(sale.hold_many):
            return in_task(sale)
        while not over.is_set():
            sale.hold_many(requests)
        return None

    async def in_task(sale: Any) -> None:
        while not over.is_set():
            await sale.hold_many(requests)

    return ask


def test_a_single_call_has_its_turn_among_bulk_calls(
    connect: Callable[..., FlashSale], proxy: FaultProxy, looked_at: Any
) -> None:
    """Counted in script calls: those that arrive while it waits for the one connection."""
    shop = connect(proxy.url, timeout_ms=20_000, max_connections=1)
    sale = shop.sale(looked_at.id)
    sale.snapshot()
    arrived: list[str] = []

    def note(words: list[bytes]) -> bool:
        if words[0] == b"EVALSHA":
            arrived.append("single" if any(b"single" in word for word in words) else "bulk")
        return words[0] == b"EVALSHA"

    proxy.delay(reply_ms=5, only=note)
    over, before = threading.Event(), 0

    def single(n: int) -> Ask:
        def ask(sale: Any) -> Any:
            nonlocal before
            before = len(arrived)
            return sale.hold(f"single-{n}", {"red": 1}, hold_id="h", timeout_ms=6_000)

        return ask

    with crowd(sale, [bulk_calls(f"b{n}", over) for n in range(BULKS)]) as bulks:
        try:
            until(lambda: len(arrived) > BULKS * WINDOW, shop)
            for n in range(3):
                (answer,) = at_once(sale, [single(n)])
                assert getattr(answer, "outcome", answer) is Outcome.HELD
                # Whoever came before it goes first, and some may while it is asked for.
                assert arrived.index("single", before) - before <= 2 * BULKS * WINDOW
        finally:
            over.set()
        assert bulks() == [None] * BULKS
    books_are_right(looked_at)
