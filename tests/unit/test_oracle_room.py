"""The oracle of a waiting room, used as somebody's own test would: without a server."""

from __future__ import annotations

import pytest

from flashsale import (
    InvalidRequest,
    JoinRequest,
    Key,
    Outcome,
    PlaceAnswer,
    Rejected,
    Sale,
    Sku,
    WaitingRoom,
)
from flashsale.testing import OracleRoom, OracleSale
from flashsale.tokens import Ticket

KEY = Key("test", bytes(32))
T0 = 1_763_900_000_000
TURN = 3_300


def opened(
    *, stock: int = 2, admission: bool = True, **room: object
) -> tuple[OracleSale, OracleRoom]:
    sale = OracleSale(Sale("1111", skus=[Sku("red", stock)], admission=admission), now_ms=T0)
    rules = {"rate_per_s": 1_000, "turn_ttl_ms": 3_200, "conversion": 1, "margin": 0} | room
    sale.queue.open(WaitingRoom(**rules), key=KEY, now_ms=T0)  # type: ignore[arg-type]
    return sale, sale.queue


def hold(sale: OracleSale, buyer: str, now_ms: int, hold_id: str = "h") -> Outcome:
    return sale.hold(buyer, {"red": 1}, hold_id=hold_id, now_ms=now_ms).outcome


def test_only_who_was_let_in_may_hold_until_the_turn_ends() -> None:
    sale, queue = opened()
    queue.join("ann", now_ms=T0)
    assert hold(sale, "ann", T0) is Outcome.NOT_ADMITTED
    turn = queue.admit("ann", now_ms=T0)
    assert turn.outcome is Outcome.ADMITTED
    assert turn.turn_ends_ms == T0 + TURN
    assert hold(sale, "ann", T0 + TURN - 1) is Outcome.HELD
    assert hold(sale, "ann", T0 + TURN, "h2") is Outcome.NOT_ADMITTED
    assert queue.admit("ann", now_ms=T0 + TURN).outcome is Outcome.TURN_OVER
    again = queue.join("ann", now_ms=T0 + TURN)
    assert (again.number, again.replayed) == (2, False)


def test_as_many_are_called_as_there_is_stock_for_and_a_hold_or_a_leaver_makes_room() -> None:
    _, queue = opened()
    queue.join_many([JoinRequest(buyer) for buyer in ("ann", "bob", "cyd", "dan")], now_ms=T0)
    queue.view(now_ms=T0)
    assert queue.view(now_ms=T0 + 2_000).serving == 2
    assert queue.admit("cyd", now_ms=T0 + 2_000).outcome is Outcome.WAITING
    assert queue.leave("ann", now_ms=T0 + 2_000).outcome is Outcome.LEFT
    assert queue.admit("cyd", now_ms=T0 + 2_000).outcome is Outcome.ADMITTED
    assert queue.admit("ann", now_ms=T0 + 2_000).outcome is Outcome.NOT_JOINED


def test_before_the_opening_nobody_has_a_place_and_then_everybody_has_one() -> None:
    _, queue = opened(opens_at_ms=T0 + 100)
    answers = [queue.join(f"b{n}", now_ms=T0) for n in range(5)]
    early = queue.view(now_ms=T0 + 99)
    assert queue.told(answers[0], seen=early).place is None
    seen = queue.view(now_ms=T0 + 100)
    assert sorted(queue.told(answer, seen=seen).place or 0 for answer in answers) == [1, 2, 3, 4, 5]


def test_tickets_are_held_against_the_place_and_the_time() -> None:
    _, queue = opened()
    number = queue.join("ann", now_ms=T0).number or 0
    told = {
        Outcome.ADMITTED: Ticket(number, T0, T0 + 1_000),
        Outcome.TICKET_EXPIRED: Ticket(number, T0 - 1, T0),
        Outcome.WRONG_TICKET: Ticket(number + 1, T0, T0 + 1_000),
    }
    for outcome, ticket in told.items():
        assert queue.admit("ann", ticket, now_ms=T0).outcome is outcome
    not_yet = Ticket(number, T0 + 1, T0 + 1_000)
    assert queue.admit("ann", not_yet, now_ms=T0).outcome is Outcome.WRONG_TICKET


def test_what_cannot_be_is_refused_as_the_clients_refuse_it() -> None:
    closed = OracleSale(Sale("1111", skus=[Sku("red", 1)], admission=True), now_ms=T0)
    with pytest.raises(Rejected, match="room_unknown"):
        closed.queue.join("ann", now_ms=T0)
    with pytest.raises(InvalidRequest, match="one_place"):
        closed.queue.open(WaitingRoom(rate_per_s=1, one_place=False), key=KEY, now_ms=T0)
    sale, queue = opened(admission=False, one_place=False)
    with pytest.raises(InvalidRequest, match="ticket"):
        queue.admit("ann", now_ms=T0)
    with pytest.raises(InvalidRequest, match="leave"):
        queue.leave("ann", now_ms=T0)
    with pytest.raises(Rejected, match="conflict"):
        queue.open(WaitingRoom(rate_per_s=2), key=KEY, now_ms=T0)
    refused, given = queue.join_many([JoinRequest("a b"), JoinRequest("ann")], now_ms=T0)
    assert isinstance(refused, InvalidRequest)
    assert isinstance(given, PlaceAnswer)
    sale.end(now_ms=T0)
    assert queue.join("bob", now_ms=T0).outcome is Outcome.ENDED
