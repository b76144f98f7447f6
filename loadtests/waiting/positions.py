"""Asking where one stands: how often a second one process answers, and what the server notices."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any, cast

from flashsale import AsyncFlashSale, Outcome, PlaceAnswer
from flashsale.aio import AsyncQueueHandle
from loadtests.targets import peers
from loadtests.targets.bench import BATCH, TIMEOUT_MS, settle
from loadtests.targets.figures import Figure
from loadtests.targets.figures import peers as beside
from loadtests.targets.loops import loop_factories, run
from loadtests.waiting import queues
from loadtests.waiting.people import HOUR_MS, KEY, Hall, names, requests

SUBJECT = "position"
Asked = list[tuple[str, str]]
"""Buyers with their tickets."""


def measure(hall: Hall) -> list[Figure]:
    """Queries before the opening, after it, and with tickets of others; beside ranks and JWTs."""
    name, factory = next(iter(loop_factories().items()))
    count = hall.crowd.share(200)
    hall.say(f"positions: {count:,}")
    before, after, wrong, calls = run(factory, _ask_all(hall, count))
    rates = _peers(hall, count)
    what = f"{name}, tickets verified; {count:,} queries"
    return [
        _line("positions after the opening, by lot", after, rates, f"{what}; places computed"),
        _line("positions before the opening", before, rates, what),
        _line("positions refused: tickets of others", wrong, rates, what),
        Figure(
            subject=SUBJECT, name="server commands per 1,000 positions", value=calls, unit="",
            peers=beside({"ZRANK": 1_000, "JWT verified, no position": 0}),
            note="a view of the room at most once a second",
        ),
    ]  # fmt: skip


def _line(name: str, value: float, rates: dict[str, float], note: str) -> Figure:
    return Figure(
        subject=SUBJECT, name=name, value=value, unit="/s", peers=beside(rates), note=note
    )


# --- ours ---------------------------------------------------------------------------------


async def _ask_all(hall: Hall, count: int) -> tuple[float, float, float, float]:
    """Positions a second, in the three cases, and commands per 1,000 of the second."""
    hall.machine.empty()
    url, who = hall.machine.server.url, names(count)
    async with AsyncFlashSale.from_url(url, keys=[KEY], timeout_ms=TIMEOUT_MS) as shop:
        closed = shop.sale(hall.open(opens_at_ms=_now_ms() + HOUR_MS).sale).queue
        before, _ = await _rate(hall, closed, await _join(closed, who), Outcome.WAITING)
        opens_ms = _now_ms() + 1_500 + count // 5  # by when all have joined
        queue = shop.sale(hall.open(opens_at_ms=opens_ms, rate_per_s=1).sale).queue
        asked = await _join(queue, who)
        await asyncio.sleep(max(0, opens_ms - _now_ms()) / 1000 + 0.1)
        view = await queue.view()
        if not view.drawn or view.present != count:
            raise RuntimeError("the places were not drawn for all")
        after, calls = await _rate(hall, queue, asked, Outcome.WAITING)
        others = zip(who, [text for _, text in asked[1:] + asked[:1]], strict=True)
        wrong, _ = await _rate(hall, queue, list(others), Outcome.WRONG_TICKET)
    return before, after, wrong, calls


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _join(queue: AsyncQueueHandle, who: list[str]) -> Asked:
    answers = await queue.join_many(requests(who))
    return [(answer.buyer, answer.ticket) for answer in answers if isinstance(answer, PlaceAnswer)]


async def _rate(
    hall: Hall, queue: AsyncQueueHandle, asked: Asked, expected: Outcome
) -> tuple[float, float]:
    """Positions a second, one awaited after the other, and server commands per 1,000."""
    settle()
    outcomes: Counter[Outcome] = Counter()
    commands, begun = _commands(hall), time.perf_counter()
    for buyer, ticket in asked:
        outcomes[(await queue.position(buyer, ticket)).outcome] += 1
    seconds = time.perf_counter() - begun
    commands = _commands(hall) - commands - 1  # the asking itself
    if outcomes[expected] < 0.99 * len(asked):  # a few may be called meanwhile
        raise RuntimeError(f"expected {expected}, told {outcomes}")
    return len(asked) / seconds, 1000 * commands / len(asked)


def _commands(hall: Hall) -> int:
    """Commands that clients ever sent; what a script calls is its own business."""
    info = cast("dict[str, Any]", hall.machine.client.info("commandstats"))
    sent = ("cmdstat_evalsha", "cmdstat_info", "cmdstat_zrank")
    return sum(int(info[name]["calls"]) for name in sent if name in info)


# --- beside it ----------------------------------------------------------------------------


def _peers(hall: Hall, count: int) -> dict[str, float]:
    """Ranks asked of a sorted set of as many, and JWTs verified."""
    hall.machine.empty()
    who, factory = names(count), next(iter(loop_factories().values()))
    hall.say("ranks and JWTs")
    queues.cost(hall.machine, count, queues.zset_joins)
    pipelined = queues.cost(hall.machine, count, lambda some, _: queues.zset_ranks(some))
    one_by_one = run(factory, queues.awaited(hall.machine, who, queues.rank))
    tokens = [queues.token("sale-000001", buyer, 1, _now_ms() // 1000) for buyer in who]
    begun = time.perf_counter()
    for buyer, text in zip(who, tokens, strict=True):
        queues.check("sale-000001", buyer, text)
    return {
        f"ZRANK, {peers.CONNECTIONS} connections": count / one_by_one,
        f"ZRANK, {BATCH} in flight": pipelined.per_s,
        "JWT verified, no position": count / (time.perf_counter() - begun),
    }
