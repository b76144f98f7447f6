"""The pump of a live room: every tap an entry into its cue's draw, and a plain hold beside it."""

from __future__ import annotations

from flashsale import Answer, CueHandle, FlashSale
from flashsale.draw import proof_of
from flashsale.rehearsal import LIVE_ROOM
from flashsale.rehearsal.room import RoomPlan
from flashsale.rehearsal.room.scenario import is_entry
from loadtests.surge.pump import OnAnswer, Pump
from loadtests.surge.telling import Order


class RoomPump(Pump):
    """One worker's share of a live room's taps. The master opens the cues and settles them."""

    def __init__(self, shop: FlashSale, order: Order, room: RoomPlan, on_answer: OnAnswer) -> None:
        super().__init__(shop, order, room.plan, on_answer)
        self._room = room
        self._cues: list[CueHandle] = []
        self._nonces: list[str] = []

    def run(self, begin: float) -> None:
        """Learn the nonces, as a player does from the stream, then send the share."""
        self._cues = [self._sale.cue_handle(sku) for sku in LIVE_ROOM.sku_ids]
        self._nonces = [cue.cue().nonce for cue in self._cues]
        super().run(begin)

    def _attempt(self, attempt: int) -> Answer:
        order = self._plan.order[attempt]
        if not is_entry(order):
            return super()._attempt(attempt)
        request, number = self._plan.requests[order], self._room.cue_of(order)
        cue = self._cues[number]
        told = cue.enter(
            request.buyer,
            request.basket,
            position_ms=self._room.position_ms(attempt),
            proof=proof_of(self._nonces[number], cue.sale, cue.id, request.buyer),
        )
        return Answer(
            told.outcome,
            told.sale,
            told.buyer,
            request.hold_id,
            at_ms=told.at_ms,
            replayed=told.replayed,
        )

    def _verb(self, attempt: int) -> str:
        return "enter" if is_entry(self._plan.order[attempt]) else "hold"
