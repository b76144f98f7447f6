"""Waiting rooms whose time the test holds, and a look at everything they consist of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashsale import JoinRequest, Outcome, PlaceAnswer, QueueHandle, RoomView, WaitingRoom, shuffle
from support.cues import KEY
from support.lab import T0, Lab, dump_key

TTL = 32_000
"""How long a turn of the tests' rooms lasts."""

SLOT = 1_000
"""Turns that begin in the same second end together; T0 is the beginning of one."""

ENDS = T0 + SLOT + TTL
"""When turns that began at T0 end."""

AT_ONCE = 1_000_000.0
"""A rate at which places are called as far as the stock allows."""


class Hall:
    """A sale with a waiting room, both at T0: ten units of red and ten of blue, places_max 1,000.

    A turn is expected to take one unit, without a margin, so as many are called as there are units.
    `sale` are rules of the sale, the others those of the room.
    """

    def __init__(
        self,
        lab: Lab,
        stock: Mapping[str, int] | None = None,
        *,
        sale: Mapping[str, Any] | None = None,
        **rules: Any,
    ) -> None:
        self.lab = lab
        self.sale = lab.open(
            stock, **{"admission": True, "hold_ttl_ms": 600_000} | dict(sale or {})
        )
        self.queue: QueueHandle = self.sale.queue
        named: dict[str, Any] = {
            "rate_per_s": AT_ONCE,
            "turn_ttl_ms": TTL,
            "conversion": 1,
            "margin": 0,
            "places_max": 1_000,
        }
        self.room = WaitingRoom(**named | rules)
        self.queue.open(self.room)

    def at(self, at_ms: int) -> None:
        """Let it be `at_ms`, and let this process know nothing of the room."""
        self.lab.set_time(self.sale, at_ms)
        self.lab.shop._rooms.clear()

    def look(self, at_ms: int | None = None) -> RoomView:
        """The room, moved on."""
        if at_ms is not None:
            self.at(at_ms)
        return self.queue.view()

    def join(self, *buyers: str, key: str = "") -> list[PlaceAnswer]:
        """Let these join, in this order; all get a place."""
        self.lab.shop._rooms.clear()
        answers: Any = self.queue.join_many([JoinRequest(buyer, key) for buyer in buyers])
        assert {answer.outcome for answer in answers} <= {Outcome.JOINED, Outcome.CALLED}, answers
        return answers

    def crowd(self, count: int, first: int = 1) -> list[PlaceAnswer]:
        """Let b1, b2 … join, as many as that."""
        return self.join(*(f"b{n}" for n in range(first, first + count)))

    def call(self, *buyers: str) -> list[PlaceAnswer]:
        """Let these join and, 1 ms later each, everybody be called as far as the stock allows."""
        answers = self.join(*buyers)
        self.look()
        self.look(self.now() + 1)
        return answers

    def let_in(self, *buyers: str) -> list[PlaceAnswer]:
        """Let these join, be called and be admitted."""
        self.call(*buyers)
        answers = [self.queue.admit(buyer) for buyer in buyers]
        assert [answer.outcome for answer in answers] == [Outcome.ADMITTED] * len(buyers), answers
        return answers

    def now(self) -> int:
        """What time it is in the sale."""
        return int(self.field("sale", "now"))

    def field(self, key: str, name: str) -> Any:
        """What a hash of the sale holds in a field."""
        return self.lab.raw.hget(getattr(self.lab.keys(self.sale), key), name)

    def fields(self, *names: str) -> list[int]:
        """Counters of the room; 0 if there is none."""
        return [int(self.field("room", name) or 0) for name in names]

    def everything(self) -> dict[bytes, Any]:
        """All that the sale's keys hold, those of places included."""
        return everything_of(self.lab, self.sale.id)

    def place_of(self, number: int) -> int:
        """The place that the permutation gives to a number."""
        seed = shuffle.make_seed(KEY.secret, self.sale.id)
        return shuffle.place_of(seed, int(self.field("room", "present")), number)


def everything_of(lab: Lab, sale_id: str) -> dict[bytes, Any]:
    """All keys of a sale with what they hold."""
    names = lab.raw.scan_iter(f"flashsale:{{{sale_id}#0}}:*", count=1_000)  # on all nodes
    return {name: dump_key(lab.raw, name) for name in sorted(names)}
