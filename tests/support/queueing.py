"""A waiting room on a stage where time stands still, and its buyers, many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, settings

from flashsale import (
    Answer,
    FlashSale,
    HoldRequest,
    JoinRequest,
    Outcome,
    PlaceAnswer,
    RoomView,
    WaitingRoom,
    waiting_room,
)
from flashsale.batches import run_all
from flashsale.keys import places_key
from support.cues import keys_of
from support.lab import T0, Dump, Lab, dump_key

TURN_MS = 3_300
"""A turn of the tests' rooms, at its longest."""

TOGETHER = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # looking for a smaller example takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Stage:
    """A sale that lets in only who was admitted, with red to sell, and its waiting room.

    `room` are the rules of the room, which calls a thousand places a second at once, for turns of
    3.2 s; `sale` those of the sale.
    """

    def __init__(
        self, lab: Lab, *, stock: int = 10, sale: dict[str, Any] | None = None, **room: Any
    ) -> None:
        self.lab, self.now = lab, T0
        rules = {"admission": True, "hold_ttl_ms": 3_600_000} | (sale or {})
        self.sale = lab.open({"red": stock}, **rules)
        named = {"rate_per_s": 1_000, "turn_ttl_ms": 3_200, "conversion": 1, "margin": 0} | room
        self.room = WaitingRoom(**named)
        self.sale.queue.open(self.room)

    def pass_ms(self, milliseconds: int) -> None:
        """Let so much time pass."""
        self.now += milliseconds
        self.lab.set_time(self.sale, self.now)

    def view(self) -> RoomView:
        """The room now; it moves on."""
        return self.sale.queue.view()

    def let_everybody_be_called(self, buyers: Sequence[str]) -> RoomView:
        """They join, and some time later all of them are called, if there is stock for them."""
        self.join(buyers)
        self.view()
        self.pass_ms(2_000)
        return self.view()

    def join(self, buyers: Sequence[str], shop: FlashSale | None = None) -> list[PlaceAnswer]:
        """In this order, in one bulk call."""
        queue = (shop or self.lab.shop).sale(self.sale.id).queue
        answers = queue.join_many([JoinRequest(buyer) for buyer in buyers])
        assert all(isinstance(answer, PlaceAnswer) for answer in answers), answers
        return [answer for answer in answers if isinstance(answer, PlaceAnswer)]

    def admit(self, buyers: Sequence[str], shop: FlashSale | None = None) -> list[Answer]:
        """In one script call, as the gatherer would make it of calls at the same time."""
        if not buyers:
            return []
        kind = waiting_room.admit_kind(self.sale.queue.view())
        answers = (shop or self.lab.shop).perform(
            run_all(kind, buyers, lambda buyer: waiting_room.admit_item(buyer, None))
        )
        assert all(isinstance(answer, Answer) for answer in answers), answers
        return [answer for answer in answers if isinstance(answer, Answer)]

    def admitted(self, buyers: Sequence[str]) -> list[str]:
        """Those of them who are let in, or were."""
        told = zip(buyers, self.admit(buyers), strict=True)
        return [buyer for buyer, answer in told if answer.outcome is Outcome.ADMITTED]

    def hold(self, buyers: Iterable[str], *, hold_id: str = "h", qty: int = 1) -> list[Outcome]:
        """What each is answered, in one bulk call."""
        asked = [HoldRequest(buyer, {"red": qty}, hold_id) for buyer in buyers]
        answers = self.sale.hold_many(asked)
        assert all(isinstance(answer, Answer) for answer in answers), answers
        return [answer.outcome for answer in answers if isinstance(answer, Answer)]

    def keys(self) -> list[str]:
        """Every key of the sale and its room."""
        places = [places_key(self.sale.id, number) for number in range(self.room.hashes)]
        return [*keys_of(self.sale), *places]

    def contents(self) -> Dump:
        """Everything that the sale and its room consist of."""
        return {key: dump_key(self.lab.raw, key) for key in self.keys()}

    def save(self) -> dict[str, bytes | None]:
        """The same, to go back to with `support.cues.load`."""
        return {key: self.lab.raw.dump(key) for key in self.keys()}
