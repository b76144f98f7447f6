"""One caller of the race: a process that orders at random until it is told to stop, or killed.

    python race_worker.py URL SALE LOG SEED async|sync SKU…

It writes a line of JSON to its own log before every request and one after every answer, each
flushed: what is in the log when it is killed is what it was told.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from flashsale import Answer, AsyncFlashSale, FlashSale, HoldRequest, StoreError

BUYERS = 120
IDS = 10
CALL_MS = 500
TASKS = 3

Question = tuple[str, tuple[Any, ...], dict[str, Any]]


def basket_of(buyer: str, hold_id: str, skus: list[str]) -> dict[str, int]:
    """The same for everybody, so that callers who choose the same id mean the same."""
    number = int(buyer.split("-")[1]) * IDS + int(hold_id.split("-")[1])
    units = {skus[0]: number % 3 + 1}
    if len(skus) > 1 and number % 2:
        units[skus[1]] = number % 2 + 1
    return units


class Choosing:
    """What the worker asks next, and its notes about it."""

    def __init__(self, log: Path, seed: int, skus: list[str]) -> None:
        self.log = log.open("a", encoding="utf-8")
        self._stop = log.with_name("stop")
        self._chance, self._skus = random.Random(seed), skus
        self._seed, self._number = seed, 0

    def is_over(self) -> bool:
        return self._stop.exists()

    def note(self, **facts: Any) -> None:
        self.log.write(json.dumps(facts) + "\n")
        self.log.flush()

    def next(self) -> Question:
        """A verb, its arguments and options; noted before it is sent."""
        chance, (buyer, hold_id) = self._chance, self._target()
        self._number += 1
        basket = basket_of(buyer, hold_id, self._skus)
        one = {self._skus[0]: 1}
        op_id = f"op-{self._seed}-{self._number}"
        match chance.choices(range(9), [30, 18, 8, 5, 5, 8, 6, 2, 4])[0]:
            case 0:
                question: Question = ("hold", (buyer, basket), {"hold_id": hold_id})
            case 1:
                question = ("confirm", (buyer, hold_id), {})
            case 2:
                question = ("confirm", (buyer, hold_id), {"late": "retake"})
            case 3:
                question = ("confirm", (buyer, hold_id), {"lines": one})
            case 4:
                question = ("release", (buyer, hold_id), {})
            case 5:
                later = time.time_ns() // 1_000_000 + chance.randint(100, 900)
                question = ("extend", (buyer, hold_id), {"deadline_ms": later})
            case 6:
                question = ("refund", (buyer, hold_id), {"lines": one, "op_id": op_id})
            case 7:
                change = chance.choice([-2, -1, 1, 2])
                question = ("restock", ({self._skus[-1]: change},), {"op_id": op_id})
            case _:
                question = ("find", (buyer, hold_id), {})
        verb, args, options = question
        self.note(ask=verb, args=args, **options)
        return question

    def many(self) -> list[HoldRequest]:
        """Now and then a bulk call."""
        requests = []
        for buyer, hold_id in {self._target() for _ in range(6)}:
            basket = basket_of(buyer, hold_id, self._skus)
            self.note(ask="hold", args=[buyer, basket], hold_id=hold_id)
            requests.append(HoldRequest(buyer, basket, hold_id))
        return requests

    def is_bulk(self) -> bool:
        return self._chance.random() < 0.04

    def _target(self) -> tuple[str, str]:
        # Few buyers at a time, so that callers meet; the crowd moves on as time passes.
        first = int(time.time() * 6) % BUYERS
        buyer = (first + self._chance.randrange(12)) % BUYERS
        return f"buyer-{buyer}", f"h-{self._chance.randrange(IDS)}"

    def told(self, question: Question, result: Any) -> None:
        """Note an answer, or that there was none."""
        verb, args, options = question
        if isinstance(result, StoreError):
            self.note(lost=verb, error=type(result).__name__, why=str(result))
        elif isinstance(result, Answer):
            facts = {k: v for k, v in options.items() if k in ("op_id", "lines", "deadline_ms")}
            self.note(
                told=verb,
                outcome=result.outcome.value,
                buyer=result.buyer,
                hold_id=result.hold_id,
                deadline=result.deadline_ms,
                replayed=result.replayed,
                args=args,
                **facts,
            )
        elif result is not None:
            self.note(found=result.hold_id, buyer=result.buyer, state=result.state.value)


def order(sale: Any, choosing: Choosing) -> None:
    while not choosing.is_over():
        if choosing.is_bulk():
            for answer in sale.hold_many(choosing.many()):
                choosing.told(("hold", (), {}), answer)
            continue
        verb, args, options = question = choosing.next()
        try:
            choosing.told(question, getattr(sale, verb)(*args, **options))
        except StoreError as error:
            choosing.told(question, error)


async def order_async(sale: Any, choosing: Choosing) -> None:
    while not choosing.is_over():
        verb, args, options = question = choosing.next()
        try:
            choosing.told(question, await getattr(sale, verb)(*args, **options))
        except StoreError as error:
            choosing.told(question, error)


async def order_in_tasks(url: str, sale_id: str, choosing: Choosing) -> None:
    async with AsyncFlashSale.from_url(url, timeout_ms=CALL_MS) as shop:
        sale = shop.sale(sale_id)
        await asyncio.gather(*(order_async(sale, choosing) for _ in range(TASKS)))


def main(url: str, sale_id: str, log: str, seed: str, kind: str, *skus: str) -> None:
    choosing = Choosing(Path(log), int(seed), list(skus))
    with choosing.log:
        if kind == "async":
            asyncio.run(order_in_tasks(url, sale_id, choosing))
            return
        with FlashSale.from_url(url, timeout_ms=CALL_MS) as shop:
            order(shop.sale(sale_id), choosing)


if __name__ == "__main__":
    main(*sys.argv[1:])
