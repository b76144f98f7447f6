"""What somebody who waits is told, worked out of a view of the waiting room, without I/O.

A ticket says the number; the view says how far the room has come; the rest is a subtraction.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from flashsale import forecast, limits, shuffle
from flashsale.errors import FlashSaleError, InvalidRequest
from flashsale.keyring import Key, Keyring
from flashsale.models import Answer, Outcome
from flashsale.rooms import PlaceAnswer, RoomView
from flashsale.tokens import Ticket, read_ticket, sign_ticket
from flashsale.waiting_room import Placed, Seen

_STANDING_STILL = (Outcome.PAUSED, Outcome.NOT_OPEN, Outcome.CLOCK_JUMP)

EARLY_MS = 1_000
"""How far ahead of this process's idea of the server's time a ticket may have been issued."""


def position(
    seen: Seen, keyring: Keyring, buyer: str, text: str, *, now: float, chance: float
) -> PlaceAnswer:
    """Where the bearer of a ticket stands; `now` by this process's own clock."""
    at_ms = seen.server_ms(now)
    ticket = check_ticket(seen, keyring, buyer, text, at_ms)
    if isinstance(ticket, PlaceAnswer):
        return ticket
    return place_in(
        seen.view, limits.plain_text(buyer), limits.plain_text(text), ticket, at_ms, chance
    )


def joined(seen: Seen, answer: Answer, key: Key, chance: float) -> PlaceAnswer:
    """What somebody who joined is told; their ticket is signed here."""
    if answer.outcome is not Outcome.JOINED or not isinstance(answer, Placed):
        return PlaceAnswer(answer.outcome, answer.sale, answer.buyer, at_ms=answer.at_ms)
    expires_ms = answer.at_ms + seen.view.room.ticket_ttl_ms
    ticket = Ticket(answer.number, answer.at_ms, expires_ms)
    text = sign_ticket(key, answer.sale, answer.buyer, ticket)
    told = place_in(seen.view, answer.buyer, text, ticket, answer.at_ms, chance)
    outcome = answer.outcome if told.outcome is Outcome.WAITING else told.outcome
    return msgspec.structs.replace(told, outcome=outcome, replayed=answer.replayed)


def joined_many(
    seen: Seen, answers: Sequence[Answer | FlashSaleError], key: Key
) -> list[PlaceAnswer | FlashSaleError]:
    """What many who joined are told, errors in their places."""
    return [
        answer if isinstance(answer, FlashSaleError) else joined(seen, answer, key, random.random())
        for answer in answers
    ]


def read_for(
    view: RoomView, keyring: Keyring, buyer: str, text: str | None
) -> Ticket | PlaceAnswer | None:
    """What the ticket of a buyer who is let in or leaves says, if there is one.

    Its times are for the script to judge.
    """
    buyer = limits.check_id("buyer", buyer)
    if text is None:
        if not view.room.one_place:
            raise InvalidRequest("ticket", "is needed in a room without one_place")
        return None
    ticket = read_ticket(keyring, view.sale, buyer, text)
    if isinstance(ticket, str):
        wrong = Outcome.WRONG_TICKET
        return PlaceAnswer(wrong, view.sale, buyer, rule=ticket, at_ms=view.at_ms)
    return ticket


def check_ticket(
    seen: Seen, keyring: Keyring, buyer: str, text: object, at_ms: int
) -> Ticket | PlaceAnswer:
    """What a ticket says, or what its bearer is told of it."""
    sale = seen.view.sale
    buyer = limits.check_id("buyer", buyer)
    keyring.newest()  # without any key every ticket would be wrong: say so instead
    ticket = read_ticket(keyring, sale, buyer, text)
    outcome, rule = Outcome.WRONG_TICKET, ""
    if isinstance(ticket, str):
        rule = ticket
    elif at_ms >= ticket.expires_ms:
        outcome, rule = Outcome.TICKET_EXPIRED, _expired(ticket, at_ms)
    elif ticket.issued_ms > at_ms + EARLY_MS:
        rule = _in_future(ticket, at_ms)
    elif ticket.number > seen.view.joined and ticket.issued_ms < seen.view.at_ms:
        rule = "must bear a number that was given"
    else:
        return ticket
    return PlaceAnswer(outcome, sale, buyer, rule=rule, at_ms=at_ms)


def place_in(
    view: RoomView, buyer: str, text: str, ticket: Ticket, at_ms: int, chance: float
) -> PlaceAnswer:
    """Where the bearer of a ticket stands, by a view of the room."""
    at_ms = max(at_ms, view.at_ms)
    place = shuffle.place_of(view.seed, view.present or 0, ticket.number) if view.drawn else None
    known = (view.sale, buyer, text, ticket.number, place)
    if view.closed in (Outcome.ENDED, Outcome.CLOSED):
        return PlaceAnswer(view.closed, *known, at_ms=at_ms)
    if place is not None and place <= view.serving:
        turn = forecast.turn_of(view, place, at_ms)
        if turn is None:
            return PlaceAnswer(Outcome.TURN_OVER, *known, at_ms=at_ms)
        outlook = forecast.outlook_of(view, 0)
        return PlaceAnswer(
            Outcome.CALLED, *known, ahead=0, outlook=outlook, turn_ends_ms=turn[1], at_ms=at_ms
        )
    ahead = None if place is None else place - view.serving - 1
    eta = forecast.eta_of(view, view.joined // 2 if ahead is None else ahead, at_ms)
    return PlaceAnswer(
        Outcome.WAITING,
        *known,
        ahead=ahead,
        eta=eta,
        outlook=forecast.outlook_of(view, ahead),
        poll_after_ms=forecast.poll_before(view, None if ahead is None else eta, chance),
        at_ms=at_ms,
    )


def admitted(
    view: RoomView, answer: Answer, text: str, ticket: Ticket | None, chance: float
) -> PlaceAnswer:
    """What somebody who was to be let in is told."""
    told = PlaceAnswer(
        answer.outcome,
        answer.sale,
        answer.buyer,
        ticket=text,
        turn_ends_ms=answer.deadline_ms,
        replayed=answer.replayed,
        at_ms=answer.at_ms,
    )
    if ticket is None:
        if answer.outcome is Outcome.WAITING or answer.outcome in _STANDING_STILL:
            soon = forecast.poll_after_ms(view, None, chance)
            return msgspec.structs.replace(told, poll_after_ms=soon)
        return told
    if answer.outcome in _STANDING_STILL:
        soon = forecast.poll_after_ms(view, None, chance)
        return msgspec.structs.replace(told, number=ticket.number, poll_after_ms=soon)
    if answer.outcome in (Outcome.WRONG_TICKET, Outcome.TICKET_EXPIRED):
        return msgspec.structs.replace(told, rule=_broken_rule(view, ticket, answer))
    if answer.outcome is Outcome.WAITING:
        waits = place_in(view, answer.buyer, text, ticket, answer.at_ms, chance)
        if waits.outcome is Outcome.WAITING:
            return waits
        # It was not called when the script looked, and is by the view: to be let in, ask again.
        soon = forecast.poll_after_ms(view, 0, chance)
        return msgspec.structs.replace(
            waits, outcome=Outcome.WAITING, turn_ends_ms=None, poll_after_ms=soon
        )
    return msgspec.structs.replace(told, number=ticket.number)


def _broken_rule(view: RoomView, ticket: Ticket, answer: Answer) -> str:
    """Why the script refused a ticket that was rightly signed."""
    if answer.outcome is Outcome.TICKET_EXPIRED:
        return _expired(ticket, answer.at_ms)
    if ticket.issued_ms > answer.at_ms:
        return _in_future(ticket, answer.at_ms)
    if not view.room.one_place:
        return "must bear a number that was given"
    return "must be the ticket of the place that the buyer has now"


def _expired(ticket: Ticket, at_ms: int) -> str:
    return f"expired at {ticket.expires_ms}, it is {at_ms}"


def _in_future(ticket: Ticket, at_ms: int) -> str:
    return f"must not be dated in the future: {ticket.issued_ms}, it is {at_ms}"


def left(answer: Answer) -> PlaceAnswer:
    """What somebody who left is told."""
    return PlaceAnswer(
        answer.outcome, answer.sale, answer.buyer, replayed=answer.replayed, at_ms=answer.at_ms
    )
