"""Joining through the public clients, from one Python process; and what a ticket costs to make."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from flashsale import AsyncFlashSale, FlashSaleError, Outcome, PlaceAnswer, waiting_room
from flashsale.keyring import Keyring
from flashsale.tokens import Ticket, read_ticket, sign_ticket
from loadtests.targets import peers
from loadtests.targets.bench import BATCH, TIMEOUT_MS, settle
from loadtests.targets.figures import Figure
from loadtests.targets.figures import peers as beside
from loadtests.targets.loops import loop_factories, run
from loadtests.targets.ways import MANY
from loadtests.waiting import queues
from loadtests.waiting.people import HOUR_MS, KEY, Hall, names, parts, requests

T = TypeVar("T")

SUBJECT = "client"
TASKS = 2_048


def measure(hall: Hall) -> list[Figure]:
    """`join_many` with and without tickets, awaited `join`, and the cost of a ticket."""
    return [*_many(hall), *_awaited(hall), *_tickets(hall)]


# --- many at once -------------------------------------------------------------------------


def _many(hall: Hall) -> list[Figure]:
    count = hall.crowd.share(10)
    hall.say(f"join_many: {count:,}")
    signed = count / _seconds_many(hall, count, signed=True)
    unsigned = count / _seconds_many(hall, count, signed=False)
    hall.machine.empty()
    fewer = hall.crowd.share(50)
    hall.say("INCR and a JWT, pipelined")
    by_jwt = fewer / _seconds_jwt(hall, fewer)
    values = {"the same without tickets": unsigned, f"{queues.JWT}, {BATCH} in flight": by_jwt}
    return [
        Figure(
            subject=SUBJECT, name=f"join_many, {MANY:,} a call, tickets signed", value=signed,
            unit="/s", peers=beside(values), note=f"FlashSale; {count:,} people, JWT {fewer:,}",
        )
    ]  # fmt: skip


def _seconds_many(hall: Hall, count: int, *, signed: bool) -> float:
    hall.machine.empty()
    view = hall.open()
    queue, seconds = hall.shop.sale(view.sale).queue, 0.0
    for who in parts(count):
        asked = requests(who)
        settle()
        begun = time.perf_counter()
        for at in range(0, len(asked), MANY):
            some = asked[at : at + MANY]
            if signed:
                _expect(queue.join_many(some))
            else:
                hall.shop.perform(waiting_room.join_many(view, some))
        seconds += time.perf_counter() - begun
    return seconds


def _expect(answers: Sequence[PlaceAnswer | FlashSaleError]) -> None:
    for answer in answers:
        if isinstance(answer, FlashSaleError) or answer.outcome is not Outcome.JOINED:
            raise RuntimeError(f"not joined: {answer!r}")


def _seconds_jwt(hall: Hall, count: int) -> float:
    """The same by hand: 256 counted in one pipeline, then a token for each."""
    client, seconds = hall.machine.client, 0.0
    for who in parts(count):
        begun = time.perf_counter()
        for at in range(0, len(who), BATCH):
            some = who[at : at + BATCH]
            pipe = client.pipeline(transaction=False)
            for _ in some:
                pipe.incr(queues.COUNTER)
            now_s = int(time.time())
            for buyer, number in zip(some, pipe.execute(), strict=True):
                queues.token("sale-000001", buyer, number, now_s)
        seconds += time.perf_counter() - begun
    return seconds


# --- one at a time ------------------------------------------------------------------------


def _awaited(hall: Hall) -> list[Figure]:
    count, fewer = hall.crowd.share(50), hall.crowd.share(200)
    name, factory = next(iter(loop_factories().items()))
    hall.say(f"awaited joins: {count:,}")
    ours = count / run(factory, _join_each(hall, count))
    rates = {}
    for peer, one in ((queues.ZSET, queues.join_zset), (queues.JWT, queues.join_jwt)):
        hall.machine.empty()
        rates[f"{peer}, {peers.CONNECTIONS} connections"] = fewer / run(
            factory, queues.awaited(hall.machine, names(fewer), one)
        )
    note = f"{TASKS:,} tasks, tickets signed; {count:,} people, the others {fewer:,}"
    return [
        Figure(
            subject=SUBJECT, name=f"awaited join, {name}", value=ours, unit="/s",
            peers=beside(rates), note=note,
        )
    ]  # fmt: skip


async def _join_each(hall: Hall, count: int) -> float:
    hall.machine.empty()
    view = hall.open()
    url = hall.machine.server.url
    async with AsyncFlashSale.from_url(url, keys=[KEY], timeout_ms=TIMEOUT_MS) as shop:
        queue = shop.sale(view.sale).queue
        await queue.join("warm-up")
        waiting = iter(names(count))
        settle()

        async def caller() -> None:
            for buyer in waiting:
                answer = await queue.join(buyer)
                assert answer.outcome is Outcome.JOINED

        begun = time.perf_counter()
        await peers.together(TASKS, caller)
        return time.perf_counter() - begun


# --- a ticket -----------------------------------------------------------------------------


def _tickets(hall: Hall) -> list[Figure]:
    count = hall.crowd.share(200)
    now_ms = time.time_ns() // 1_000_000
    sale, who, ring = "sale-000001", names(count), Keyring([KEY])
    hall.say("tickets and tokens")

    def sign(buyer: str) -> str:
        return sign_ticket(KEY, sale, buyer, Ticket(7_000_000, now_ms, now_ms + HOUR_MS))

    def token(buyer: str) -> str:
        return queues.token(sale, buyer, 7_000_000, now_ms // 1000)

    tickets, tokens = [sign(buyer) for buyer in who], [token(buyer) for buyer in who]
    pairs = iter(zip(who, tickets, strict=True))
    jwts = iter(zip(who, tokens, strict=True))
    return [
        _line("signing a ticket", _each(sign, who), _each(token, who)),
        _line(
            "verifying a ticket",
            _each(lambda pair: read_ticket(ring, sale, *pair), list(pairs)),
            _each(lambda pair: queues.check(sale, *pair), list(jwts)),
        ),
        Figure(
            subject=SUBJECT, name="a ticket, bytes", value=len(tickets[0]), unit="B",
            peers=beside({"HS256 JWT": len(tokens[0])}), note="client",
        ),
    ]  # fmt: skip


def _line(name: str, ours: float, theirs: float) -> Figure:
    return Figure(
        subject=SUBJECT, name=name, value=ours, unit="µs", peers=beside({"HS256 JWT": theirs}),
        note="client",
    )  # fmt: skip


def _each(work: Callable[[T], object], many: Sequence[T]) -> float:
    """µs of this process's CPU each."""
    begun = time.process_time()
    for one in many:
        work(one)
    return (time.process_time() - begun) / len(many) * 1e6
