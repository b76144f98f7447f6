"""What is seen of the oracle's waiting room: the room itself, and where somebody stands in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from flashsale import shuffle
from flashsale.errors import Rejected
from flashsale.models import Outcome
from flashsale.places import EARLY_MS
from flashsale.rooms import PlaceAnswer, RoomView

if TYPE_CHECKING:
    from flashsale.testing.model import SaleModel
    from flashsale.testing.room_model import RoomModel
    from flashsale.tokens import Ticket


class RoomViews:
    """Views of a sale's waiting room."""

    def __init__(self, sale: SaleModel) -> None:
        """Attach to a sale's model; the room lives in it."""
        self._sale = sale

    def stored(self) -> RoomView:
        """The room as it stands, without moving it on."""
        room, units = self._room(), self._sale._books.units.values()
        available = sum(sku.available for sku in units)
        measured, error = room.measured_rate(self._sale._now)
        arrivals_over = sum(turn.arrivals for turn in room.turns[: room.over])
        return RoomView(
            sale=self._sale.sale.id,
            room=room.room,
            state=room.state,
            at_ms=self._sale._now,
            rate_per_s=room.rate_per_s,
            closed=self._sale._why_closed(),
            joined=room.joined,
            present=room.present,
            seed=room.seed,
            commitment=shuffle.commitment_of(room.own_seed, self._sale.sale.id),
            key=room.key.id,
            serving=len(room.turns),
            over=room.over,
            turns=room.rows(),
            outstanding=room.outstanding,
            bound=room.bound(available),
            conversion=float(f"{room.conversion:.9f}"),
            arrived=sum(turn.arrivals for turn in room.turns),
            no_shows=max(0, room.over - room.passed - arrivals_over),
            left=room.left,
            vacant=len(room.vacant),
            passed=sum(turn.passed for turn in room.turns),
            units=room.units,
            available=available,
            set_aside=sum(sku.set_aside for sku in units),
            held=sum(sku.held for sku in units),
            sold=sum(sku.sold for sku in units),
            measured_per_s=measured,
            measured_error_per_s=error,
            starts_at_ms=max(room.room.opens_at_ms or 0, self._sale.sale.opens_at_ms or 0),
        )

    def position(self, buyer: str, ticket: Ticket, *, seen: RoomView, now_ms: int) -> PlaceAnswer:
        """Where the bearer of a ticket stands by a view of the room.

        Without eta, outlook and time to ask again: those are forecasts. now_ms: the client's idea
        of the server's time, the `at_ms` of its answer.
        """
        told = PlaceAnswer(Outcome.WAITING, seen.sale, buyer, at_ms=now_ms)
        if now_ms >= ticket.expires_ms:
            return msgspec.structs.replace(told, outcome=Outcome.TICKET_EXPIRED)
        early = ticket.issued_ms > now_ms + EARLY_MS
        if early or (ticket.number > seen.joined and ticket.issued_ms < seen.at_ms):
            return msgspec.structs.replace(told, outcome=Outcome.WRONG_TICKET)
        return self.told(msgspec.structs.replace(told, number=ticket.number), seen=seen)

    def told(self, answer: PlaceAnswer, *, seen: RoomView) -> PlaceAnswer:
        """Where a number stands by a view of the room, at the time of the answer."""
        assert answer.number is not None
        place = None
        if seen.drawn:
            place = shuffle.place_of(seen.seed, seen.present or 0, answer.number)
        told = msgspec.structs.replace(answer, outcome=Outcome.WAITING, place=place)
        if seen.closed in (Outcome.ENDED, Outcome.CLOSED):
            return msgspec.structs.replace(told, outcome=seen.closed)
        if place is None:
            return told
        if place > seen.serving:
            return msgspec.structs.replace(told, ahead=place - seen.serving - 1)
        turns = [row for row in seen.turns if place <= row.serving and place > seen.over]
        ends_ms = (turns[0].slot + 1) * seen.room.slot_ms + seen.room.turn_ttl_ms if turns else 0
        if answer.at_ms >= ends_ms:
            return msgspec.structs.replace(told, outcome=Outcome.TURN_OVER)
        return msgspec.structs.replace(told, outcome=Outcome.CALLED, ahead=0, turn_ends_ms=ends_ms)

    def _known(self, now_ms: int) -> RoomModel:
        self._sale._look(now_ms)
        if self._sale.purged:
            raise self._rejected(Outcome.PURGED)
        return self._room()

    def _room(self) -> RoomModel:
        if self._sale._room is None:
            raise self._rejected(Outcome.ROOM_UNKNOWN)
        return self._sale._room

    def _rejected(self, outcome: Outcome) -> Rejected:
        return Rejected(outcome, f"sale {self._sale.sale.id!r}")
