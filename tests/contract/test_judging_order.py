"""Of several reasons to refuse a hold, the first of the documented order answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flashsale import HoldRequest, Outcome, SaleHandle
from support.lab import T0, Lab


class Bad:
    """A sale in which every reason to refuse can be switched on by itself."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.rules: dict[str, object] = {}
        self.after: list[Callable[[SaleHandle], object]] = []
        self.basket = {"red": 2}

    def known_with_other_lines(self) -> None:
        self.after.insert(0, lambda sale: sale.hold("ann", {"blue": 1}, hold_id="h").unwrap())

    def ended(self) -> None:
        self.after.append(lambda sale: sale.end())

    def paused(self) -> None:
        self.after.append(lambda sale: sale.pause())

    def not_open(self) -> None:
        self.rules["opens_at_ms"] = T0 + 2_000_000

    def closed(self) -> None:
        self.rules["closes_at_ms"] = T0 + 1

    def sku_unknown(self) -> None:
        self.basket["green"] = 1

    def shard_full(self) -> None:
        self.rules["buyers_max"] = 1
        self.after.append(lambda sale: sale.release("someone", "else"))

    def too_many_holds(self) -> None:
        self.rules["holds_max"] = 1
        self.after.append(lambda sale: sale.release("ann", "another"))

    def limit_reached(self) -> None:
        self.rules["limits"] = {"red": 1}

    def sold_out(self) -> None:
        self.rules["stock"] = {"red": 1, "blue": 1}

    def outcome(self) -> Outcome:
        sale = self.lab.open(**self.rules)  # type: ignore[arg-type]
        for step in self.after:
            step(sale)
        self.lab.set_time(sale, T0 + 1)
        before = self.lab.dump(sale)
        answer = sale.hold("ann", self.basket, hold_id="h")
        # The same by the path of larger batches.
        many = sale.hold_many([HoldRequest("ann", self.basket, "h")] * 3)
        assert [item.outcome for item in many] == [answer.outcome] * 3  # type: ignore[union-attr]
        assert self.lab.dump(sale) == before
        return answer.outcome


ORDER = {
    "known_with_other_lines": Outcome.CONFLICT,
    "ended": Outcome.ENDED,
    "paused": Outcome.PAUSED,
    "not_open": Outcome.NOT_OPEN,
    "closed": Outcome.CLOSED,
    "sku_unknown": Outcome.SKU_UNKNOWN,
    "shard_full": Outcome.SHARD_FULL,
    "too_many_holds": Outcome.TOO_MANY_HOLDS,
    "limit_reached": Outcome.LIMIT_REACHED,
    "sold_out": Outcome.SOLD_OUT,
}

# Two reasons that cannot both be true: no hold is known in a sale that has not opened, a sale
# is paused or ended, and a shard that knows the buyer has room for the buyer.
IMPOSSIBLE = {
    ("known_with_other_lines", "not_open"),
    ("known_with_other_lines", "shard_full"),
    ("ended", "paused"),
    ("not_open", "closed"),
    ("shard_full", "too_many_holds"),
}
PAIRS = [
    (first, second)
    for n, first in enumerate(ORDER)
    for second in list(ORDER)[n + 1 :]
    if (first, second) not in IMPOSSIBLE
]


@pytest.mark.parametrize("reason", ORDER)
def test_each_reason_alone_refuses_the_hold_with_its_outcome(lab: Lab, reason: str) -> None:
    bad = Bad(lab)
    getattr(bad, reason)()
    assert bad.outcome() is ORDER[reason]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_of_two_reasons_the_earlier_in_the_order_answers(lab: Lab, first: str, second: str) -> None:
    bad = Bad(lab)
    getattr(bad, second)()
    getattr(bad, first)()
    assert bad.outcome() is ORDER[first]
