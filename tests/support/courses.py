"""A course of calls about one sale, drawn from a seed: the same for every sale it is run on."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from flashsale import Answer, HoldRequest, Outcome, SaleHandle
from support.lab import T0

HOLD_IDS = [f"h{n}" for n in range(5)]
BASKETS = [{"red": 1}, {"red": 1}, {"red": 2}, {"blue": 1}, {"red": 2, "blue": 1}]

Target = tuple[str, str]
"""A buyer and a hold id."""

Step = tuple[str, tuple[Any, ...], dict[str, Any]]
"""A verb, its arguments and options; or "set_time" and the moment."""


def course(seed: int, steps: int) -> Iterator[Step]:
    """Every verb of a running sale in some order, in a time that the course sets itself."""
    return _Drawing(seed).steps(steps)


class _Drawing:
    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._asked: list[Target] = []
        self._number = 0

    def _target(self) -> Target:
        """Few buyers at a time, so that calls meet; the crowd moves on, as ids are used up."""
        buyer = f"buyer-{self._number // 25 + self._chance.randrange(4)}"
        return buyer, self._chance.choice(HOLD_IDS)

    def _known(self) -> Target:
        """Mostly what was asked for lately."""
        if self._asked and self._chance.random() < 0.9:
            return self._chance.choice(self._asked[-10:])
        return self._target()

    def _request(self) -> HoldRequest:
        """Mostly the basket that this hold always has."""
        buyer, hold_id = target = self._target()
        self._asked.append(target)
        which = sum(map(ord, buyer + hold_id)) + (self._chance.random() < 0.1)
        channel = self._chance.choice(["", "", "app"])
        return HoldRequest(buyer, BASKETS[which % len(BASKETS)], hold_id, channel)

    def steps(self, count: int) -> Iterator[Step]:
        chance, now = self._chance, T0
        for self._number in range(count):
            several = range(chance.randint(1, 4))
            one, op_id = {chance.choice(["red", "blue"]): 1}, f"op-{self._number % 70}"
            match chance.choices(range(13), [16, 14, 8, 5, 8, 6, 3, 2, 9, 12, 5, 3, 15])[0]:
                case 0:
                    hold = self._request()
                    yield "hold", (hold.buyer, hold.basket), {"hold_id": hold.hold_id}
                case 1:
                    yield "hold_many", ([self._request() for _ in several],), {}
                case 2:
                    yield "confirm", self._known(), {}
                case 3:
                    yield "confirm", self._known(), {"lines": one}
                case 4:
                    yield "confirm", self._known(), {"late": "retake"}
                case 5:
                    yield "confirm_many", ([self._known() for _ in several],), {}
                case 6:
                    yield "release", self._known(), {}
                case 7:
                    yield "release_many", ([self._known() for _ in several],), {}
                case 8:
                    later = {"deadline_ms": now + chance.randint(500, 3_000)}
                    yield "extend", self._known(), later
                case 9:
                    yield "refund", self._known(), {"lines": one, "op_id": op_id}
                case 10:
                    change = {chance.choice(["red", "blue"]): chance.choice([-2, 1, 3, 5])}
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
