"""A course of calls about one sale, drawn from a seed: the same for every sale it is run on."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from flashsale import Answer, HoldRequest, Outcome, SaleHandle
from support.lab import T0

BUYERS = [f"buyer-{n}" for n in range(6)]
HOLD_IDS = [f"h{n}" for n in range(5)]
BASKETS = [{"red": 1}, {"red": 1}, {"red": 2}, {"blue": 1}, {"red": 2, "blue": 1}]

Step = tuple[str, tuple[Any, ...], dict[str, Any]]
"""A verb, its arguments and options; or "set_time" and the moment."""


def course(seed: int, steps: int) -> Iterator[Step]:
    """Every verb of a running sale in some order, in a time that the course sets itself."""
    chance, now = random.Random(seed), T0

    def target() -> tuple[str, str]:
        return chance.choice(BUYERS), chance.choice(HOLD_IDS)

    def request() -> HoldRequest:
        buyer, hold_id = target()
        channel = chance.choice(["", "", "app"])
        return HoldRequest(buyer, chance.choice(BASKETS), hold_id, channel)

    def some(make: Any) -> list[Any]:
        return [make() for _ in range(chance.randint(1, 4))]

    for number in range(steps):
        one, op_id = {chance.choice(["red", "blue"]): 1}, f"op-{number % 40}"
        match chance.choices(range(13), [18, 10, 12, 5, 5, 6, 8, 4, 8, 8, 5, 2, 14])[0]:
            case 0:
                made = request()
                yield "hold", (made.buyer, made.basket), {"hold_id": made.hold_id}
            case 1:
                yield "hold_many", (some(request),), {}
            case 2:
                yield "confirm", target(), {}
            case 3:
                yield "confirm", target(), {"lines": one}
            case 4:
                yield "confirm", target(), {"late": "retake"}
            case 5:
                yield "confirm_many", (some(target),), {}
            case 6:
                yield "release", target(), {}
            case 7:
                yield "release_many", (some(target),), {}
            case 8:
                yield "extend", target(), {"deadline_ms": now + chance.randint(1, 2_000)}
            case 9:
                yield "refund", target(), {"lines": one, "op_id": op_id}
            case 10:
                change = {"red": chance.choice([-1, 1, 2])}
                yield "restock", (change,), {"op_id": op_id}
            case 11:
                yield chance.choice(["pause", "resume", "resume", "expire"]), (), {}
            case _:
                now += chance.choice([1, 50, 400])
                yield "set_time", (now,), {}


def ask(sale: SaleHandle, step: Step) -> Any:
    """Take a step of the course; the answers with the sale's id left out."""
    verb, args, options = step
    if verb in ("confirm_many", "release_many"):
        args = ([Answer(Outcome.HELD, sale.id, *target).ref for target in args[0]],)
    result = getattr(sale, verb)(*args, **options)
    if isinstance(result, list):
        return [msgspec.structs.replace(answer, sale="") for answer in result]
    return msgspec.structs.replace(result, sale="") if isinstance(result, Answer) else result
