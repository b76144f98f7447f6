"""The oracle's verb hold: who gets stock, who does not, and why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from flashsale.errors import FlashSaleError, InvalidRequest
from flashsale.ledger import Event, EventKind
from flashsale.models import Answer, HoldRequest, HoldState, Outcome
from flashsale.testing.model import Record, SaleModel
from flashsale.testing.requests import check_hold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flashsale.models import Basket
    from flashsale.testing.room_model import Turn


class Taking(SaleModel):
    """Taking a hold."""

    def hold(
        self,
        buyer: str,
        basket: Basket,
        *,
        hold_id: str,
        channel: str = "",
        note: str = "",
        key: str = "",
        now_ms: int,
    ) -> Answer:
        """Deduct a basket from what is available, until `now + ttl`."""
        request = HoldRequest(buyer, basket, hold_id, channel, note, key)
        request, _ = check_hold(request)
        self._begin(now_ms)
        return self._take(request)

    def hold_many(
        self, requests: Sequence[HoldRequest], *, now_ms: int
    ) -> list[Answer | FlashSaleError]:
        """Several holds in order, each judged by itself; an invalid one is an error item."""
        self._begin(now_ms)
        answers: list[Answer | FlashSaleError] = []
        for request in requests:
            try:
                answers.append(self._take(request))
            except InvalidRequest as error:
                answers.append(error)
        return answers

    def _take(self, request: HoldRequest) -> Answer:
        request, lines = check_hold(request)
        buyer, hold_id = request.buyer, request.hold_id
        if self.purged:
            return self._answer(Outcome.PURGED, buyer, hold_id)
        known = self._known(buyer, hold_id)
        if known is not None:
            return self._take_again(known, lines)
        turn = None if self._room is None else self._room.running(buyer, self._now)
        refusal = self._why_no_hold(request, lines, may_hold=turn is not None)
        if self._room is not None and turn is not None and self.sale.admission:
            self._count(turn, self._room.counted(sum(lines.values())), lines, refusal)
        if refusal is not None:
            may_return = refusal is Outcome.SOLD_OUT and self._may_return(lines)
            sku = self._refused_sku(refusal, buyer, lines)
            return self._answer(refusal, buyer, hold_id, may_return=may_return, sku=sku)
        self._key_holds[request.key] += 1
        return self._write_held(request, lines)

    def _count(self, turn: Turn, units: int, lines: dict[str, int], why: Outcome | None) -> None:
        """What a turn took, or wanted in vain of what the sale ever had."""
        if why is None:
            turn.take(units)
        elif why is Outcome.SOLD_OUT and all(
            qty <= self._books.units[sku].allotment for sku, qty in lines.items()
        ):
            turn.want(units)

    def _write_held(self, request: HoldRequest, lines: dict[str, int]) -> Answer:
        buyer, hold_id = request.buyer, request.hold_id
        deadline = self._now + self.sale.hold_ttl_ms
        record = Record(buyer, hold_id, HoldState.HELD, lines, deadline, deadline)
        self._buyers.setdefault(buyer, {})[hold_id] = record
        self._write(
            Event(
                EventKind.HELD,
                buyer,
                hold_id,
                lines,
                deadline_ms=deadline,
                channel=request.channel,
                note=request.note,
            )
        )
        return self._answer_about(Outcome.HELD, record)

    def _take_again(self, known: Record, lines: dict[str, int]) -> Answer:
        if known.is_tombstone:
            return self._answer_about(Outcome.RELEASED, known)
        same = known.lines == lines
        answer = Outcome.HELD if same else Outcome.CONFLICT
        return self._answer_about(answer, known, replayed=same)

    def _why_no_hold(
        self, request: HoldRequest, lines: dict[str, int], *, may_hold: bool
    ) -> Outcome | None:
        buyer = request.buyer
        closed = self._why_closed()
        if closed is not None:
            return closed
        if self.sale.admission and not may_hold:
            return Outcome.NOT_ADMITTED
        if any(sku not in self._books.units for sku in lines):
            return Outcome.SKU_UNKNOWN
        if self._shard_is_full(buyer):
            return Outcome.SHARD_FULL
        if self._record_is_full(buyer):
            return Outcome.TOO_MANY_HOLDS
        if self._key_is_used_up(request.key):
            return Outcome.KEY_LIMIT
        return self._why_not_taken(buyer, lines)

    def _key_is_used_up(self, key: str) -> bool:
        most = self.sale.key_holds_max
        return key != "" and most is not None and self._key_holds[key] >= most

    def _shard_is_full(self, buyer: str) -> bool:
        return buyer not in self._buyers and len(self._buyers) >= self.sale.buyers_max

    def _record_is_full(self, buyer: str) -> bool:
        return len(self._buyers.get(buyer, {})) >= self.sale.holds_max

    def _why_not_taken(self, buyer: str, lines: dict[str, int]) -> Outcome | None:
        """Limits and stock: the part a hold and a retake have in common."""
        taken = Counter(lines)
        for record in self._buyers.get(buyer, {}).values():
            taken.update(record.taken())
        for sku in self.sale.skus:
            if sku.id in lines and sku.limit is not None and taken[sku.id] > sku.limit:
                return Outcome.LIMIT_REACHED
        if self.sale.limit is not None and taken.total() > self.sale.limit:
            return Outcome.LIMIT_REACHED
        if any(self._books.units[sku].available < qty for sku, qty in lines.items()):
            return Outcome.SOLD_OUT
        return None

    def _refused_sku(self, why: Outcome, buyer: str, lines: dict[str, int]) -> str:
        """The first line that cannot be had, in the order of the sale's skus."""
        if why not in (Outcome.SKU_UNKNOWN, Outcome.LIMIT_REACHED, Outcome.SOLD_OUT):
            return ""
        if len(lines) == 1:
            return next(iter(lines))
        if why is Outcome.SKU_UNKNOWN:
            return next(sku for sku in lines if sku not in self._books.units)
        taken = Counter(lines)
        for record in self._buyers.get(buyer, {}).values():
            taken.update(record.taken())
        for sku in self.sale.skus:
            if sku.id not in lines:
                continue
            beyond = sku.limit is not None and taken[sku.id] > sku.limit
            lacking = self._books.units[sku.id].available < lines[sku.id]
            if beyond if why is Outcome.LIMIT_REACHED else lacking:
                return sku.id
        return ""

    def _may_return(self, lines: dict[str, int]) -> bool:
        """Whether everything unpaid, coming back, would be enough for the basket."""
        units = self._books.units
        return all(
            units[sku].available + units[sku].held + units[sku].set_aside >= qty
            for sku, qty in lines.items()
        )
