"""The oracle's waiting room: join, admit, leave, look, steer, and where somebody stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashsale import limits, shuffle
from flashsale.errors import FlashSaleError, InvalidRequest
from flashsale.models import Outcome, SaleState
from flashsale.rooms import JoinRequest, PlaceAnswer, RoomState, RoomView, WaitingRoom, check_rate
from flashsale.testing.room_model import RoomModel, Turn
from flashsale.testing.room_views import RoomViews

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashsale.keyring import Key
    from flashsale.tokens import Ticket


class OracleRoom(RoomViews):
    """The waiting room of an `OracleSale`, reached as its `queue`: what the engine must answer.

    Written from "Waiting room" in ``lua/README.md``. It answers with the library's own models, but
    with what the server decides alone: an answer to `join`, `admit` or `leave` has no ticket and
    nothing that a client works out of a view of the room, which `position` tells. So a client's
    answer to a `join` may say CALLED or TURN_OVER where the oracle says JOINED and `position` that.

    `now_ms` is as for `OracleSale`: ask the engine first, and the oracle for its `at_ms`.
    """

    # --- the operator's ---------------------------------------------------------------

    def open(self, room: WaitingRoom, *, key: Key, now_ms: int) -> RoomView:
        """Open the waiting room, once, with the key of the clients; Rejected if it is refused."""
        if not isinstance(room, WaitingRoom):
            raise InvalidRequest("room", f"must be a WaitingRoom, not {type(room).__name__}")
        sale = self._sale
        sale._look(now_ms)
        if sale.purged:
            raise self._rejected(Outcome.PURGED)
        if sale.sale.admission and not room.one_place:
            rule = "must be True: a sale with admission=True knows its buyers' places"
            raise InvalidRequest("one_place", rule)
        if sale._room is not None:
            if sale._room.room != room:
                raise self._rejected(Outcome.CONFLICT)
        elif sale.state is SaleState.ENDED:
            raise self._rejected(Outcome.ENDED)
        elif sale.clock_ms is not None:
            raise self._rejected(Outcome.CLOCK_JUMP)
        else:
            seed = shuffle.make_seed(key.secret, sale.sale.id)
            rate = _as_stored(room.rate_per_s)
            opened = RoomModel(room, key, seed, sale.sale.admission, rate_per_s=rate)
            opened.fix_present(sale._now)
            sale._room, sale.last_ms = opened, sale._now
        return self.view(now_ms=now_ms)

    def view(self, *, now_ms: int) -> RoomView:
        """The room at this moment, which moves it on, as `flashsale.waiting_room.look` does it."""
        room = self._known(now_ms)
        self._glance(room)
        if room.present and not room.is_drawn:
            self.reveal(room.own_seed, now_ms=now_ms)
            self._glance(room)
        return self.stored()

    def pause(self, *, now_ms: int) -> RoomView:
        """Call nobody until resumed."""
        return self._steer(RoomState.PAUSED, None, now_ms)

    def resume(self, *, now_ms: int) -> RoomView:
        """Call places again."""
        return self._steer(RoomState.RUNNING, None, now_ms)

    def set_rate(self, rate_per_s: float, *, now_ms: int) -> RoomView:
        """Call so many places a second from now on."""
        return self._steer(None, check_rate(rate_per_s), now_ms)

    def _steer(self, state: RoomState | None, rate: float | None, now_ms: int) -> RoomView:
        room = self._known(now_ms)
        room.forget_tokens(self._sale._now)
        room.state = state or room.state
        room.rate_per_s = room.rate_per_s if rate is None else _as_stored(rate)
        self._sale.last_ms = self._sale._now
        return self.view(now_ms=now_ms)

    def reveal(self, seed: str, *, now_ms: int) -> Outcome | None:
        """Reveal the seed that orders those who came before the opening: the first one stays.

        Why it is refused, or None.
        """
        room = self._known(now_ms)
        if len(seed) != 64 or not set(seed) <= set("0123456789abcdef"):
            return Outcome.MALFORMED
        room.fix_present(self._sale._now)
        if room.present is None:
            in_doubt = self._sale._is_doubtful(room.room.opens_at_ms or 0)
            return Outcome.CLOCK_JUMP if in_doubt else Outcome.NOT_OPEN
        if not room.seed:
            room.seed = seed
            self._sale.last_ms = self._sale._now
        return None

    # --- the buyer's ------------------------------------------------------------------

    def join(self, buyer: str, *, key: str = "", now_ms: int) -> PlaceAnswer:
        """Give a buyer a number, or the one they have: JOINED, or why not."""
        request = _check_join(JoinRequest(buyer, key))
        self._known(now_ms)
        return self._join(request)

    def join_many(
        self, requests: Sequence[JoinRequest], *, now_ms: int
    ) -> list[PlaceAnswer | FlashSaleError]:
        """Several joins in order; an invalid one is an error item."""
        self._known(now_ms)
        answers: list[PlaceAnswer | FlashSaleError] = []
        for request in requests:
            try:
                answers.append(self._join(request))
            except InvalidRequest as error:
                answers.append(error)
        return answers

    def _join(self, request: JoinRequest) -> PlaceAnswer:
        request = _check_join(request)
        sale, room, buyer = self._sale, self._room(), request.buyer
        closed = sale._why_closed()
        if closed in (Outcome.ENDED, Outcome.CLOSED):
            return self._answer(closed, buyer)
        if sale.sale.closes_at_ms is not None and sale._now >= sale.sale.closes_at_ms:
            return self._answer(Outcome.CLOSED, buyer)  # and paused
        if sale.clock_ms is not None:
            return self._answer(Outcome.CLOCK_JUMP, buyer)
        room.fix_present(sale._now)
        sale.last_ms = sale._now
        own = room.numbers.get(buyer)
        if own is not None and not room.is_over(own, sale._now):
            return self._answer(Outcome.JOINED, buyer, number=own, replayed=True)
        again = room.take_back(buyer)
        if again is not None:
            return self._answer(Outcome.JOINED, buyer, number=again)
        if room.joined >= room.room.places_max:
            return self._answer(Outcome.ROOM_FULL, buyer)
        most = room.room.key_places_max
        if request.key and most is not None and room.key_places[request.key] >= most:
            return self._answer(Outcome.KEY_LIMIT, buyer)
        number = room.give_number(buyer, request.key)
        return self._answer(Outcome.JOINED, buyer, number=number)

    def admit(self, buyer: str, ticket: Ticket | None = None, *, now_ms: int) -> PlaceAnswer:
        """Let a called buyer in for the rest of their turn, or say why not.

        ticket: what a well-signed one says. Without one place a buyer it is needed.
        """
        buyer = limits.check_id("buyer", buyer)
        room = self._known(now_ms)
        if ticket is None and not room.room.one_place:
            raise InvalidRequest("ticket", "is needed in a room without one_place")
        self._sale._expire_due()
        self._move_on(room)
        closed = self._sale._why_closed()
        if closed is not None:
            return self._answer(closed, buyer)
        number = self._number_of(room, buyer, ticket)
        if isinstance(number, Outcome):
            return self._answer(number, buyer)
        return self._let_in(room, buyer, number)

    def _number_of(self, room: RoomModel, buyer: str, ticket: Ticket | None) -> int | Outcome:
        now_ms = self._sale._now
        if ticket is not None and now_ms >= ticket.expires_ms:
            return Outcome.TICKET_EXPIRED
        if ticket is not None and ticket.issued_ms > now_ms:
            return Outcome.WRONG_TICKET
        if room.room.one_place:
            own = room.numbers.get(buyer)
            if own is None:
                return Outcome.NOT_JOINED
            return own if ticket is None or ticket.number == own else Outcome.WRONG_TICKET
        if ticket is None or not 1 <= ticket.number <= room.joined:
            return Outcome.WRONG_TICKET
        return ticket.number

    def _let_in(self, room: RoomModel, buyer: str, number: int) -> PlaceAnswer:
        turn = room.turn_of(number)
        if turn is None:
            return self._answer(Outcome.WAITING, buyer)
        if self._sale._now >= turn.ends_ms:
            return self._answer(Outcome.TURN_OVER, buyer)
        name = buyer if room.room.one_place else f":{number}"
        replayed = room.admitted.get(name, (0, None))[0] == number
        if not replayed:
            turn.arrivals += 1
            room.admitted[name] = number, turn
        return self._answer(Outcome.ADMITTED, buyer, turn=turn, replayed=replayed)

    def leave(self, buyer: str, *, now_ms: int) -> PlaceAnswer:
        """Give a buyer's place up, and with it a turn that runs.

        Who joins again before the place's turn is over has the same number, if it was not called.
        """
        buyer = limits.check_id("buyer", buyer)
        room, now_ms = self._known(now_ms), self._sale._now
        if not room.room.one_place:
            raise InvalidRequest(
                "leave", "needs a room with one_place: a ticket cannot be given up"
            )
        if not room.give_up(buyer, now_ms):
            return self._answer(Outcome.LEFT, buyer, replayed=True)
        self._sale.last_ms = now_ms
        return self._answer(Outcome.LEFT, buyer)

    # --- helpers ----------------------------------------------------------------------

    def _glance(self, room: RoomModel) -> None:
        self._sale._expire_due()
        for _ in range(limits.GLANCES_MAX):
            self._move_on(room)
            if not room.behind:
                break

    def _move_on(self, room: RoomModel) -> None:
        sale = self._sale
        available = sum(units.available for units in sale._books.units.values())
        if room.move_on(sale._now, available, may_call=sale._why_closed() is None):
            sale.last_ms = sale._now

    def _answer(
        self,
        outcome: Outcome,
        buyer: str,
        *,
        number: int | None = None,
        turn: Turn | None = None,
        replayed: bool = False,
    ) -> PlaceAnswer:
        return PlaceAnswer(
            outcome=outcome,
            sale=self._sale.sale.id,
            buyer=buyer,
            number=number,
            turn_ends_ms=None if turn is None else turn.ends_ms,
            replayed=replayed,
            at_ms=self._sale._now,
        )


def _check_join(request: JoinRequest) -> JoinRequest:
    if not isinstance(request, JoinRequest):
        raise InvalidRequest("requests", f"must be JoinRequests, not {type(request).__name__}")
    key = limits.check_optional_id("key", request.key)
    return JoinRequest(limits.check_id("buyer", request.buyer), key)


def _as_stored(rate_per_s: float) -> float:
    return float(f"{rate_per_s:.6f}")
