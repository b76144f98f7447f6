"""The waiting room under faults: lost replies, a killed server, many callers at once."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from faults.checks import MARGIN_S, SCRIPTS, books_are_right
from flashsale import (
    AsyncFlashSale,
    FlashSale,
    JoinRequest,
    Outcome,
    OutcomeUnknown,
    PlaceAnswer,
    Sale,
    Sku,
    StoreUnavailable,
    WaitingRoom,
)
from flashsale.embedded import EmbeddedServer
from flashsale.keys import ShardKeys
from flashsale.scripts import load_script, script_names
from support.cues import KEY
from support.proxy import FaultProxy

PATIENT_MS = 60_000
ROOM = WaitingRoom(rate_per_s=100_000, conversion=1, margin=0, places_max=10_000)

_number = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start() as server:
        yield server


@pytest.fixture
def proxy(server: EmbeddedServer) -> Iterator[FaultProxy]:
    with redis.Redis.from_url(server.url) as client:
        for name in script_names():
            client.script_load(load_script(name).source)
    with FaultProxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def operator(server: EmbeddedServer) -> Iterator[FlashSale]:
    with FlashSale.from_url(server.url, timeout_ms=20_000, keys=[KEY]) as shop:
        yield shop


def opened(shop: FlashSale, stock: int = 50, room: WaitingRoom = ROOM) -> Any:
    sale = shop.open(Sale(f"room-{next(_number)}", [Sku("red", stock)], admission=True))
    sale.queue.open(room)
    return sale


def sent_by(name: str) -> Callable[[Any], bool]:
    sha = load_script(f"waiting_room/{name}").sha.encode()
    return lambda words: words[1:2] == [sha]


VERBS: dict[str, Callable[[Any], PlaceAnswer]] = {
    "join": lambda sale: sale.queue.join("new"),
    "admit": lambda sale: sale.queue.admit("ann"),
    "leave": lambda sale: sale.queue.leave("ann"),
}
AFTER = {"join": (2, 0, 0), "admit": (1, 1, 0), "leave": (1, 0, 1)}
WAITING: dict[str, Callable[[Any], PlaceAnswer]] = {
    "leave": lambda sale: sale.queue.leave("waits"),
    "join": lambda sale: sale.queue.join("gone"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_dropped_reply_does_the_verb_once_and_gives_the_original_answer(
    verb: str, connect: Callable[..., FlashSale], operator: FlashSale, proxy: FaultProxy
) -> None:
    sales = [opened(operator) for _ in range(2)]
    for sale in sales:
        sale.queue.join("ann")
        sale.queue.view()
    undisturbed = VERBS[verb](sales[0])
    sale = connect(proxy.url, timeout_ms=10_000, keys=[KEY]).sale(sales[1].id)
    sale.queue.view()
    proxy.drop_replies(times=1, only=sent_by(verb))
    answer = VERBS[verb](sale)
    assert proxy.faults == 1
    assert (answer.outcome, answer.number) == (undisturbed.outcome, undisturbed.number)
    assert (undisturbed.replayed, answer.replayed) == (False, True)
    view = sales[1].queue.view()
    assert (view.joined, view.arrived, view.left) == AFTER[verb]


@pytest.mark.parametrize("verb", WAITING)
def test_a_dropped_reply_to_whoever_leaves_or_comes_back_counts_once(
    verb: str, connect: Callable[..., FlashSale], operator: FlashSale, proxy: FaultProxy
) -> None:
    looked_at = opened(operator)
    looked_at.queue.pause()
    looked_at.queue.join_many([JoinRequest("waits"), JoinRequest("gone")])
    looked_at.queue.leave("gone")
    sale = connect(proxy.url, timeout_ms=10_000, keys=[KEY]).sale(looked_at.id)
    sale.queue.view()
    proxy.drop_replies(times=1, only=sent_by(verb))
    answer = WAITING[verb](sale)
    assert (proxy.faults, answer.replayed) == (1, True)
    expected = 2 if verb == "leave" else 0
    view = looked_at.queue.resume()
    assert (view.left, view.vacant + view.passed) == (expected, expected)


def test_a_dropped_reply_to_a_bulk_join_gives_everybody_one_place(
    connect: Callable[..., FlashSale], operator: FlashSale, proxy: FaultProxy
) -> None:
    looked_at = opened(operator)
    sale = connect(proxy.url, timeout_ms=10_000, keys=[KEY]).sale(looked_at.id)
    sale.queue.view()
    proxy.drop_replies(times=1, only=sent_by("join"))
    answers = sale.queue.join_many([JoinRequest(f"b{n}") for n in range(600)])
    assert proxy.faults == 1
    assert sorted(answer.number for answer in answers) == list(range(1, 601))
    assert sum(answer.replayed for answer in answers) in (256, 600 - 2 * 256)
    assert looked_at.queue.view().joined == 600


@pytest.mark.parametrize("name", ["open", "steer", "reveal", "show"])
def test_a_dropped_reply_to_the_operator_is_made_good(
    name: str, connect: Callable[..., FlashSale], operator: FlashSale, proxy: FaultProxy
) -> None:
    looked_at = operator.open(Sale(f"room-{next(_number)}", [Sku("red", 5)]))
    opens_at_ms = time.time_ns() // 1_000_000 + 150
    room = WaitingRoom(rate_per_s=10, opens_at_ms=opens_at_ms)
    if name != "open":
        looked_at.queue.open(room)
        looked_at.queue.join("ann")
        time.sleep(0.2)
    sale = connect(proxy.url, timeout_ms=10_000, keys=[KEY]).sale(looked_at.id)
    sale.snapshot()
    proxy.drop_replies(times=1, only=sent_by(name))
    view = sale.queue.open(room) if name == "open" else sale.queue.set_rate(5)
    assert proxy.faults == 1
    assert view.rate_per_s == (10 if name == "open" else 5)
    assert view.drawn is (name != "open")


def test_with_every_reply_lost_the_outcome_is_unknown_in_time_and_found_later(
    connect: Callable[..., FlashSale], operator: FlashSale, proxy: FaultProxy
) -> None:
    looked_at = opened(operator)
    sale = connect(proxy.url, timeout_ms=400, keys=[KEY]).sale(looked_at.id)
    sale.queue.view()
    proxy.drop_replies(only=SCRIPTS)
    begun = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        sale.queue.join("ann")
    assert time.monotonic() - begun < 0.4 + MARGIN_S
    proxy.pass_through()
    answer = sale.queue.join("ann", timeout_ms=10_000)
    assert (answer.number, answer.replayed) == (1, True)


def test_a_view_that_cannot_be_had_is_bounded_by_each_callers_own_time(
    connect: Callable[..., FlashSale], operator: FlashSale, proxy: FaultProxy
) -> None:
    looked_at = opened(operator)
    ticket = looked_at.queue.join("ann").ticket
    sale = connect(proxy.url, timeout_ms=3_000, keys=[KEY]).sale(looked_at.id)
    sale.snapshot()
    proxy.drop_replies(then="hang", only=sent_by("show"))
    with pytest.raises((StoreUnavailable, OutcomeUnknown), match="within 300 ms"):
        sale.queue.position("ann", ticket, timeout_ms=300)
    proxy.pass_through()


def test_a_position_costs_no_call_while_the_view_is_fresh(
    connect: Callable[..., FlashSale], operator: FlashSale, proxy: FaultProxy
) -> None:
    looked_at = opened(operator)
    ticket = looked_at.queue.join("ann").ticket
    shop = connect(proxy.url, timeout_ms=10_000, keys=[KEY])
    queue = shop.sale(looked_at.id).queue
    queue.view()
    proxy.drop_requests(only=SCRIPTS)
    for _ in range(50):
        assert queue.position("ann", ticket).outcome is Outcome.CALLED
    assert proxy.faults == 0


# --- many at once -------------------------------------------------------------------------


def test_however_many_callers_join_for_them_buyers_have_one_place_each(
    server: EmbeddedServer, operator: FlashSale
) -> None:
    sale = opened(operator)
    buyers = [f"b{n}" for n in range(60)]

    def join_all(shift: int) -> list[tuple[str, int | None]]:
        with FlashSale.from_url(server.url, timeout_ms=PATIENT_MS, keys=[KEY]) as shop:
            queue = shop.sale(sale.id).queue
            return [(b, queue.join(b).number) for b in buyers[shift:] + buyers[:shift]]

    async def join_together() -> list[tuple[str, int | None]]:
        options: dict[str, Any] = {"timeout_ms": PATIENT_MS, "keys": [KEY]}
        async with AsyncFlashSale.from_url(server.url, **options) as shop:
            queue = shop.sale(sale.id).queue
            answers = await asyncio.gather(*(queue.join(buyer) for buyer in buyers * 3))
            return [(answer.buyer, answer.number) for answer in answers]

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(join_all, 15 * n) for n in range(3)]
        running.append(pool.submit(asyncio.run, join_together()))
        told = {pair for future in running for pair in future.result()}
    assert len(told) == 60
    assert sorted(number or 0 for _, number in told) == list(range(1, 61))
    assert sale.queue.view().joined == 60


def test_callers_at_once_share_one_reading_of_the_view(
    server: EmbeddedServer, operator: FlashSale
) -> None:
    sale = opened(operator)
    ticket = sale.queue.join("ann").ticket

    def reads() -> int:
        with redis.Redis.from_url(server.url) as client:
            stats: Any = client.info("commandstats")
            return sum(
                int(stats.get(f"cmdstat_{c}", {"calls": 0})["calls"]) for c in ("evalsha", "eval")
            )

    async def ask() -> list[PlaceAnswer]:
        async with AsyncFlashSale.from_url(server.url, keys=[KEY]) as shop:
            queue = shop.sale(sale.id).queue
            return await asyncio.gather(*(queue.position("ann", ticket) for _ in range(500)))

    before = reads()
    answers = asyncio.run(ask())
    assert Counter(answer.outcome for answer in answers) == {Outcome.CALLED: 500}
    assert reads() - before <= 2

    with FlashSale.from_url(server.url, keys=[KEY]) as shop, ThreadPoolExecutor(8) as pool:
        queue, gate = shop.sale(sale.id).queue, threading.Barrier(8)

        def ask_once(_: int) -> Outcome:
            gate.wait(60)
            return queue.position("ann", ticket).outcome

        before = reads()
        assert set(pool.map(ask_once, range(8))) == {Outcome.CALLED}
        assert reads() - before <= 2


# --- a killed server ----------------------------------------------------------------------


def test_a_killed_server_keeps_every_place_and_turn_that_was_acknowledged(long: bool) -> None:
    with (
        EmbeddedServer.start(durability="fsync") as server,
        FlashSale.from_url(
            server.url, timeout_ms=PATIENT_MS, durability="fsync", keys=[KEY]
        ) as shop,
    ):
        sale = opened(shop, stock=500)
        numbers: dict[str, int | None] = {}
        turns: dict[str, int | None] = {}
        held: list[str] = []
        for kill in range(6 if long else 2):
            for n in range(20):
                buyer = f"b{kill}-{n}"
                numbers[buyer] = sale.queue.join(buyer).number
                admitted = sale.queue.admit(buyer)
                if admitted.outcome is Outcome.ADMITTED:
                    turns[buyer] = admitted.turn_ends_ms
                    if sale.hold(buyer, {"red": 1}, hold_id="h").outcome is Outcome.HELD:
                        held.append(buyer)
            left = f"b{kill}-19"
            assert sale.queue.leave(left).outcome is Outcome.LEFT
            del numbers[left]
            turns.pop(left, None)
            server.kill()
            server.restart()
        assert len(turns) > 10
        assert len(held) > 10
        for buyer, number in numbers.items():
            again = sale.queue.join(buyer)
            assert (again.number, again.replayed) == (number, True)
        for buyer, ends in turns.items():
            again = sale.queue.admit(buyer)
            assert (again.turn_ends_ms, again.replayed) == (ends, True)
        view = sale.queue.view()
        assert view.joined == len(numbers) + view.left
        assert sum(row.done for row in view.turns) >= len(held)
        with redis.Redis.from_url(server.url) as raw:
            admitted_now: Any = raw.hgetall(ShardKeys.of(sale.id).admitted)
        assert set(admitted_now) == {buyer.encode() for buyer in turns}
        assert books_are_right(sale).skus["red"].held == len(held)
