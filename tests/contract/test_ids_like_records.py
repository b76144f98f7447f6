"""An id may read like a piece of a record, or like a whole one: it is an id all the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flashsale import Answer, Outcome, SaleHandle
from support.lab import T0, Lab
from support.next_release import records_of

VERBS: dict[str, tuple[Callable[[SaleHandle, str], Answer], Outcome]] = {
    "hold": (lambda s, id_: s.hold("ann", {"red": 1}, hold_id=id_), Outcome.HELD),
    "confirm": (lambda s, id_: s.confirm("ann", id_), Outcome.UNKNOWN_HOLD),
    "release": (lambda s, id_: s.release("ann", id_), Outcome.RELEASED),
    "extend": (
        lambda s, id_: s.extend("ann", id_, deadline_ms=T0 + 9_000),
        Outcome.UNKNOWN_HOLD,
    ),
}


@pytest.mark.parametrize("cut", [0, 1, 2])
@pytest.mark.parametrize("verb", VERBS)
def test_an_id_that_reads_like_the_buyers_own_record_is_another_hold(
    verb: str, cut: int, lab: Lab
) -> None:
    sale = lab.open({"red": 5})
    sale.hold("ann", {"red": 1}, hold_id="it").unwrap()
    record = records_of(lab.raw, sale.id)["ann"]
    ask, outcome = VERBS[verb]
    answer = ask(sale, record[cut:])
    assert (answer.outcome, answer.replayed) == (outcome, False)
    assert sale.find("ann", "it").deadline_ms == T0 + 1_000
    units = sale.snapshot().skus["red"]
    assert (units.held, units.sold) == (2 if verb == "hold" else 1, 0)
    assert sale.audit().ok
