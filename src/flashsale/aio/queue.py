"""What a user holds of a sale's waiting room, with `await`."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flashsale import limits, places, waiting_room
from flashsale.errors import FlashSaleError
from flashsale.models import Outcome
from flashsale.pickling import NotPickled
from flashsale.rooms import (
    JoinRequest,
    PlaceAnswer,
    RoomState,
    RoomView,
    WaitingRoom,
    check_rate,
)
from flashsale.waiting_room import Seen

if TYPE_CHECKING:
    from flashsale.aio.client import AsyncFlashSale


class AsyncQueueHandle(NotPickled):
    """A sale's waiting room: buyers join, ask where they stand, and are let in when called.

    Attached without I/O. A view of the room is read once a second and shared by all callers of this
    process, so `position` costs the server next to nothing. Refusals are outcomes; a sale without a
    waiting room raises Rejected with ROOM_UNKNOWN. Tickets need a key (`keys=` of the client), the
    same in every process; to look, steer, leave and be let in by name none is needed, but until
    somebody who has the room's key has looked once after the opening, nobody is called.
    """

    _instead = "send the sale's id, and attach there with shop.sale(id)"

    def __init__(self, shop: AsyncFlashSale, sale_id: str) -> None:
        self._shop = shop
        self.sale = limits.check_id("sale", sale_id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.sale!r}>"

    async def open(self, room: WaitingRoom, *, timeout_ms: int | None = None) -> RoomView:
        """Open the waiting room: the operator's one-time step, before anybody joins.

        The same definition again is a no-op; another one raises Rejected with CONFLICT. The newest
        key fixes the lot: keep it until the room has opened (`Key`).
        """
        key = self._shop._keyring.newest()
        span = self._shop._span(timeout_ms)
        await self._shop.perform(waiting_room.open_room(self.sale, room, key), span.left_ms)
        return await self.view(timeout_ms=span.left_ms)

    async def join(
        self, buyer: str, *, key: str = "", timeout_ms: int | None = None
    ) -> PlaceAnswer:
        """Give a buyer a number and a ticket: JOINED, or why not.

        A buyer who has a place keeps it, however often and from wherever they join; one whose turn
        is over gets a new one, unless the places of their key are used up. key (an identifier: a
        device, an account's age): whose places are counted together, if the room has a
        `key_places_max`. Without `one_place` every join gives another ticket.
        """
        own = self._shop._keyring.newest()
        span = self._shop._span(timeout_ms)
        seen = await self._fresh(span.left_ms)
        kind, item = waiting_room.join_kind(seen.view), waiting_room.join_item(buyer, key)
        answer = await self._shop._ask(kind, item, span.left_ms)
        return places.joined(seen, answer, own, random.random())

    async def join_many(
        self, requests: Sequence[JoinRequest], *, timeout_ms: int | None = None
    ) -> list[PlaceAnswer | FlashSaleError]:
        """Many joins, 256 a script call; answers in the order of the requests, errors in place.

        Those of one call come at the same time: only within 256 do numbers follow the requests.
        """
        own = self._shop._keyring.newest()
        span = self._shop._span(timeout_ms)
        seen = await self._fresh(span.left_ms)
        operation = waiting_room.join_many(seen.view, requests)
        answers = await self._shop.perform(operation, span.left_ms)
        return places.joined_many(seen, answers, own)

    async def position(
        self, buyer: str, ticket: str, *, timeout_ms: int | None = None
    ) -> PlaceAnswer:
        """Where a buyer stands: WAITING, CALLED (`admit` them), TURN_OVER, or why not.

        Worked out here from a view at most a second old, which knows nothing of single buyers: a
        place that was left may be CALLED, and `admit` says NOT_JOINED. WRONG_TICKET and
        TICKET_EXPIRED say in `rule` what is wrong with the ticket.
        """
        seen = await self._fresh(timeout_ms)
        return places.position(
            seen,
            self._shop._keyring,
            buyer,
            ticket,
            now=time.monotonic(),
            chance=random.random(),
        )

    async def admit(
        self, buyer: str, ticket: str | None = None, *, timeout_ms: int | None = None
    ) -> PlaceAnswer:
        """Let a called buyer in until `turn_ends_ms`: ADMITTED, WAITING, TURN_OVER, or why not.

        In a sale with `admission` only this lets a buyer hold. The buyer's place decides; a ticket,
        if given, must be that place's. Without one place a buyer the ticket is needed. Again is
        harmless.
        """
        span = self._shop._span(timeout_ms)
        seen = await self._known(span.left_ms)
        if not seen.view.drawn:
            # Looking reveals the seed, and nobody is called before that.
            seen = await self._fresh(span.left_ms)
        checked = places.read_for(seen.view, self._shop._keyring, buyer, ticket)
        if isinstance(checked, PlaceAnswer):
            return checked
        kind, item = waiting_room.admit_kind(seen.view), waiting_room.admit_item(buyer, checked)
        answer = await self._shop._ask(kind, item, span.left_ms)
        if answer.outcome is Outcome.WAITING:
            seen = await self._fresh(span.left_ms)  # the forecast must not be of an old view
        return places.admitted(
            seen.view, answer, limits.plain_text(ticket or ""), checked, random.random()
        )

    async def leave(
        self, buyer: str, ticket: str | None = None, *, timeout_ms: int | None = None
    ) -> PlaceAnswer:
        """Give a buyer's place up: LEFT. A turn goes to somebody else at once.

        With a ticket only the place it is for: a call that comes late does no harm to a buyer who
        has another number meanwhile. Whoever left before the call and joins again has the same.
        """
        span = self._shop._span(timeout_ms)
        seen = await self._known(span.left_ms)
        kind = waiting_room.leave_kind(seen.view)
        checked = places.read_for(seen.view, self._shop._keyring, buyer, ticket)
        if isinstance(checked, PlaceAnswer):
            return checked
        item = waiting_room.leave_item(buyer, checked)
        return places.left(await self._shop._ask(kind, item, span.left_ms))

    async def view(self, *, timeout_ms: int | None = None) -> RoomView:
        """The room at this moment; this moves it on."""
        return (await self._look(timeout_ms)).view

    async def pause(self, *, timeout_ms: int | None = None) -> RoomView:
        """Call nobody until resumed; turns that have begun go on."""
        return await self._steer(RoomState.PAUSED, None, timeout_ms)

    async def resume(self, *, timeout_ms: int | None = None) -> RoomView:
        """Call places again."""
        return await self._steer(RoomState.RUNNING, None, timeout_ms)

    async def set_rate(self, rate_per_s: float, *, timeout_ms: int | None = None) -> RoomView:
        """Call so many places a second from now on: 0.000001 to 1,000,000."""
        return await self._steer(None, check_rate(rate_per_s), timeout_ms)

    # --- the shared view ------------------------------------------------------------------

    async def _steer(
        self, state: RoomState | None, rate_per_s: float | None, timeout_ms: int | None
    ) -> RoomView:
        keyring = self._shop._keyring
        operation = waiting_room.steer(self.sale, keyring, state, rate_per_s)
        seen = await self._shop.perform(operation, timeout_ms)
        self._shop._rooms.remember(seen)
        return seen.view

    async def _known(self, timeout_ms: int | None) -> Seen:
        """A view of any age: what is asked of it never changes."""
        self._shop._check_owner()
        return self._shop._rooms.get(self.sale) or await self._fresh(timeout_ms)

    async def _fresh(self, timeout_ms: int | None) -> Seen:
        """A view at most a second old: whoever needs one first reads it for all."""
        shop = self._shop
        shop._check_owner()  # a kept view must not answer where nothing can be asked
        seen = shop._rooms.get(self.sale)
        if seen is not None and seen.is_fresh(time.monotonic()):
            return seen
        return await shop._share(("room", self.sale), self._look, timeout_ms)

    async def _look(self, timeout_ms: int | None) -> Seen:
        operation = waiting_room.look(self.sale, self._shop._keyring)
        seen = await self._shop.perform(operation, timeout_ms)
        self._shop._rooms.remember(seen)
        return seen
