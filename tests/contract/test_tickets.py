"""Hostile tickets, shown to `position` and to `admit` of both shells: refused, with their rule."""

from __future__ import annotations

from typing import Any

import pytest

from flashsale import InvalidRequest, Key, Outcome, PlaceAnswer, places, waiting_room
from flashsale.keyring import Keyring
from flashsale.tokens import Ticket, read_ticket, sign_ticket
from support.cues import KEY
from support.lab import T0, Lab
from support.queues import Hall
from support.shells import connect

RING = Keyring([KEY])
WRONG, EXPIRED = Outcome.WRONG_TICKET, Outcome.TICKET_EXPIRED
OWN = "must be this buyer's own, for this sale, unchanged"


def both(hall: Hall, buyer: str, ticket: Any) -> tuple[PlaceAnswer, PlaceAnswer]:
    """What both verbs say of a ticket; neither lets anybody in who was not."""
    hall.lab.shop._rooms.clear()
    before = hall.lab.raw.hgetall(hall.lab.keys(hall.sale).admitted)
    told = hall.queue.position(buyer, ticket), hall.queue.admit(buyer, ticket)
    if told[1].outcome is not Outcome.ADMITTED:
        assert hall.lab.raw.hgetall(hall.lab.keys(hall.sale).admitted) == before
    return told


def refused(hall: Hall, buyer: str, ticket: Any, rule: str, outcome: Outcome = WRONG) -> None:
    for answer in both(hall, buyer, ticket):
        assert (answer.outcome, answer.rule) == (outcome, rule), answer
        assert (answer.sale, answer.buyer) == (hall.sale.id, buyer)
        assert (answer.number, answer.place, answer.turn_ends_ms) == (None, None, None)


def test_another_buyers_and_another_sales_ticket_are_refused(lab: Lab) -> None:
    hall, other = Hall(lab), Hall(lab)
    (ann, bob) = hall.call("ann", "bob")
    (elsewhere,) = other.call("ann")
    refused(hall, "ann", bob.ticket, OWN)
    refused(hall, "ann", elsewhere.ticket, OWN)
    refused(hall, "Ann", ann.ticket, OWN)
    told = both(hall, "ann", ann.ticket)
    assert [answer.outcome for answer in told] == [Outcome.CALLED, Outcome.ADMITTED]


def test_a_changed_a_cut_and_a_forged_ticket_are_refused(lab: Lab) -> None:
    hall = Hall(lab)
    (ann,) = hall.call("ann")
    text = ann.ticket
    ticket: Any = read_ticket(RING, hall.sale.id, "ann", text)
    assert ticket == Ticket(1, T0, T0 + hall.room.ticket_ttl_ms)
    other = "A" if text[30] != "A" else "B"
    for wrong in (text[:30] + other + text[31:], text[:-2], text[:10], text + "=", f" {text}", "x"):
        (position, admit) = both(hall, "ann", wrong)
        rule = read_ticket(RING, hall.sale.id, "ann", wrong)
        assert isinstance(rule, str)
        assert (position.outcome, position.rule) == (admit.outcome, admit.rule) == (WRONG, rule)
    forged = sign_ticket(Key(KEY.id, bytes(32)), hall.sale.id, "ann", ticket)
    refused(hall, "ann", forged, OWN)


@pytest.mark.parametrize("wrong", ["", "A" * 193, "\u0663" * 40, b"bytes", 7, ["x"]], ids=repr)
def test_what_is_no_ticket_at_all_is_refused_with_its_rule(lab: Lab, wrong: Any) -> None:
    hall = Hall(lab)
    hall.call("ann")
    rule = read_ticket(RING, hall.sale.id, "ann", wrong)
    assert isinstance(rule, str)
    refused(hall, "ann", wrong, rule)


def test_a_ticket_is_worth_nothing_from_its_expiry_on_to_the_millisecond(lab: Lab) -> None:
    hall = Hall(lab, ticket_ttl_ms=5_000, rate_per_s=0.001)
    (_, bob) = hall.join("ann", "bob")
    hall.at(T0 + 4_999)
    assert hall.queue.admit("bob", bob.ticket).outcome is Outcome.WAITING
    seen = lab.shop.perform(waiting_room.look(hall.sale.id, RING))
    for at_ms, outcome in ((T0 + 4_999, Outcome.WAITING), (T0 + 5_000, EXPIRED)):
        hall.at(at_ms)
        seen = lab.shop.perform(waiting_room.look(hall.sale.id, RING))
        told = places.position(seen, RING, "bob", bob.ticket, now=seen.asked_at, chance=0.0)
        assert told.outcome is outcome
    refused_now = both(hall, "bob", bob.ticket)
    for answer in refused_now:
        assert answer.outcome is EXPIRED
        assert answer.rule == f"expired at {T0 + 5_000}, it is {answer.at_ms}"
    (anew,) = hall.join("bob")  # joining again gives a fresh ticket for the same place
    assert (anew.number, anew.replayed) == (2, True)
    assert both(hall, "bob", anew.ticket)[1].outcome is Outcome.WAITING


def test_a_ticket_dated_in_the_future_is_refused(lab: Lab) -> None:
    hall = Hall(lab)
    hall.call("ann")
    at_ms = hall.now() + 1_000_000
    future = sign_ticket(KEY, hall.sale.id, "ann", Ticket(1, at_ms, at_ms + 9_000_000))
    for answer in both(hall, "ann", future):
        assert answer.outcome is WRONG
        assert answer.rule == f"must not be dated in the future: {at_ms}, it is {answer.at_ms}"
    soon = hall.now() + 1
    future = sign_ticket(KEY, hall.sale.id, "ann", Ticket(1, soon, soon + 9_000_000))
    assert hall.queue.admit("ann", future).outcome is WRONG  # the script knows the time exactly


def test_a_number_that_was_never_given_is_refused(lab: Lab) -> None:
    hall = Hall(lab)
    hall.call("ann")
    forged = sign_ticket(KEY, hall.sale.id, "ann", Ticket(9, T0 - 5, T0 + 9_000_000))
    (position, admit) = both(hall, "ann", forged)
    assert (position.outcome, position.rule) == (WRONG, "must bear a number that was given")
    assert admit.outcome is WRONG
    assert admit.rule == "must be the ticket of the place that the buyer has now"
    tickets = Hall(lab, sale={"admission": False}, one_place=False)
    tickets.call("ann")
    for number in (0, 9):
        forged = sign_ticket(KEY, tickets.sale.id, "ann", Ticket(number, T0 - 5, T0 + 9_000_000))
        admit = tickets.queue.admit("ann", forged)
        assert (admit.outcome, admit.rule) == (WRONG, "must bear a number that was given")


def test_a_retired_key_verifies_as_long_as_it_is_in_the_list(
    lab: Lab, server_url: str, request: pytest.FixtureRequest
) -> None:
    hall = Hall(lab)
    (ann,) = hall.call("ann")
    shell = request.node.callspec.params["shop"]
    newest = Key("newest", bytes(range(3, 35)))
    with connect(shell, server_url, keys=[newest, KEY]) as shop:
        queue = shop.sale(hall.sale.id).queue
        assert queue.position("ann", ann.ticket).outcome is Outcome.CALLED
        assert queue.admit("ann", ann.ticket).outcome is Outcome.ADMITTED
        again = queue.join("ann")
        assert (again.number, again.ticket != ann.ticket) == (1, True)
    refused(hall, "ann", again.ticket, "must be signed with a key that is known here")
    with connect(shell, server_url, keys=[newest]) as shop:
        queue = shop.sale(hall.sale.id).queue
        for answer in (queue.position("ann", ann.ticket), queue.admit("ann", ann.ticket)):
            assert answer.rule == "must be signed with a key that is known here"
        assert queue.position("ann", again.ticket).outcome is Outcome.CALLED


def test_a_replayed_ticket_is_harmless(lab: Lab) -> None:
    hall = Hall(lab)
    (ann,) = hall.call("ann")
    told = [hall.queue.admit("ann", ann.ticket) for _ in range(3)]
    assert [answer.replayed for answer in told] == [False, True, True]
    assert {answer.outcome for answer in told} == {Outcome.ADMITTED}
    assert len({answer.turn_ends_ms for answer in told}) == 1
    assert hall.look().arrived == 1
    hall.queue.leave("ann")
    assert hall.queue.admit("ann", ann.ticket).outcome is Outcome.NOT_JOINED
    assert hall.sale.hold("ann", {"red": 1}, hold_id="h").outcome is Outcome.NOT_ADMITTED


def test_without_one_place_a_ticket_is_good_for_its_buyer_and_its_turn(lab: Lab) -> None:
    hall = Hall(lab, {"red": 1}, sale={"admission": False}, one_place=False)
    (first, second) = hall.call("ann", "bob")
    assert hall.queue.admit("ann", second.ticket).outcome is WRONG
    assert hall.queue.admit("bob", second.ticket).outcome is Outcome.WAITING
    assert hall.queue.admit("ann", first.ticket).outcome is Outcome.ADMITTED
    assert hall.queue.admit("ann", first.ticket).replayed


@pytest.mark.parametrize("buyer", ["", "a b", "a" * 65, 7, None, b"ann"], ids=repr)
def test_a_buyer_who_is_none_is_an_invalid_request_whatever_the_ticket(
    lab: Lab, buyer: Any
) -> None:
    hall = Hall(lab)
    (ann,) = hall.call("ann")
    for call in (
        lambda: hall.queue.position(buyer, ann.ticket),
        lambda: hall.queue.admit(buyer, ann.ticket),
        lambda: hall.queue.admit(buyer),
        lambda: hall.queue.leave(buyer),
        lambda: hall.queue.join(buyer),
    ):
        with pytest.raises(InvalidRequest, match="buyer"):
            call()


def test_an_answer_to_waiting_forecasts_from_now_and_not_from_an_old_view(lab: Lab) -> None:
    hall = Hall(lab, {"red": 5}, rate_per_s=1)
    (*_, last) = hall.crowd(4)
    hall.at(T0)
    first = hall.queue.admit("b4", last.ticket)
    assert (first.outcome, first.ahead) == (Outcome.WAITING, 2)
    lab.shop._rooms[hall.sale.id] = waiting_room.Seen(
        lab.shop._rooms[hall.sale.id].view, lab.shop._rooms[hall.sale.id].asked_at - 60
    )
    lab.set_time(hall.sale, T0 + 1_000)
    later = hall.queue.admit("b4", last.ticket)
    assert (later.outcome, later.ahead) == (Outcome.WAITING, 1)
    assert later.poll_after_ms is not None
