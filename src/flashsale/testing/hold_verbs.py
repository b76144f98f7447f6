"""The oracle's verbs on holds that were made: confirm, release, extend, refund."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from flashsale import limits
from flashsale.errors import FlashSaleError, InvalidRequest
from flashsale.ledger import Event, EventKind
from flashsale.models import Answer, HoldState, Outcome
from flashsale.testing.model import Record
from flashsale.testing.requests import (
    check_late,
    lines_of,
    target_of,
)
from flashsale.testing.taking import Taking

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flashsale.models import Basket, Hold

Late: TypeAlias = Literal["refuse", "retake"]


class HoldVerbs(Taking):
    """What may become of a hold."""

    def confirm(
        self,
        buyer: str,
        hold_id: str,
        *,
        lines: Basket | None = None,
        late: Late = "refuse",
        now_ms: int,
    ) -> Answer:
        """Sell a hold, or some lines of it and let the rest go.

        late="retake": take the stock of an expired hold again, in any state of the sale.
        """
        buyer, hold_id = limits.check_hold_ids(buyer, hold_id)
        named = None if lines is None else lines_of("lines", lines)
        late = check_late(late)
        self._begin(now_ms)
        return self._confirm(buyer, hold_id, named, late)

    def confirm_many(
        self, holds: Sequence[Answer | Hold | str], *, late: Late = "refuse", now_ms: int
    ) -> list[Answer | FlashSaleError]:
        """Sell several holds in order, each whole."""
        late = check_late(late)
        self._begin(now_ms)
        return self._one_by_one(holds, lambda buyer, id_: self._confirm(buyer, id_, None, late))

    def _one_by_one(
        self, holds: Sequence[Answer | Hold | str], verb: Callable[[str, str], Answer]
    ) -> list[Answer | FlashSaleError]:
        answers: list[Answer | FlashSaleError] = []
        for hold in holds:
            try:
                target = target_of(self.sale.id, hold)
                answers.append(verb(target.buyer, target.hold_id))
            except InvalidRequest as error:
                answers.append(error)
        return answers

    def _confirm(
        self, buyer: str, hold_id: str, named: dict[str, int] | None, late: Late
    ) -> Answer:
        record = self._record_or_answer(buyer, hold_id)
        if isinstance(record, Answer):
            return record
        wanted = record.lines if named is None else named
        if record.state is HoldState.RELEASED:
            return self._answer_about(Outcome.RELEASED, record)
        if record.state in (HoldState.CONFIRMED, HoldState.REFUNDED):
            same = record.confirmed == wanted
            outcome = Outcome.CONFIRMED if same else Outcome.CONFLICT
            return self._answer_about(outcome, record, replayed=same)
        if record.state is HoldState.EXPIRED:
            if late == "refuse":
                return self._answer_about(Outcome.EXPIRED, record)
            return self._retake(record, wanted)
        if self._is_in_doubt(record):
            return self._answer_about(Outcome.CLOCK_JUMP, record)
        if not _covers(record.lines, wanted):
            return self._answer_about(Outcome.NOT_IN_HOLD, record)
        return self._sell(record, wanted, dropped=_minus(record.lines, wanted))

    def _retake(self, record: Record, wanted: dict[str, int]) -> Answer:
        if not _covers(record.lines, wanted):
            return self._answer_about(Outcome.NOT_IN_HOLD, record)
        if self.clock_ms is not None:
            return self._answer_about(Outcome.CLOCK_JUMP, record)
        refusal = self._why_not_taken(record.buyer, wanted)
        if refusal is not None:
            may_return = refusal is Outcome.SOLD_OUT and self._may_return(wanted)
            sku = self._refused_sku(refusal, record.buyer, wanted)
            return self._answer_about(refusal, record, may_return=may_return, sku=sku)
        self._write_hold(EventKind.RETAKEN, record, wanted)
        return self._sell(record, wanted, dropped={})

    def _sell(self, record: Record, wanted: dict[str, int], dropped: dict[str, int]) -> Answer:
        record.state = HoldState.CONFIRMED
        record.confirmed = dict(wanted)
        self._write_hold(EventKind.CONFIRMED, record, wanted)
        if dropped:
            self._write_hold(EventKind.DROPPED, record, dropped)
        return self._answer_about(Outcome.CONFIRMED, record)

    def release(self, buyer: str, hold_id: str, *, now_ms: int) -> Answer:
        """Give a hold up. An id never seen becomes a tombstone, so it cannot be held later."""
        buyer, hold_id = limits.check_hold_ids(buyer, hold_id)
        self._begin(now_ms)
        return self._release(buyer, hold_id)

    def release_many(
        self, holds: Sequence[Answer | Hold | str], *, now_ms: int
    ) -> list[Answer | FlashSaleError]:
        """Give several holds up, in order."""
        self._begin(now_ms)
        return self._one_by_one(holds, self._release)

    def _release(self, buyer: str, hold_id: str) -> Answer:
        record = self._record_or_answer(buyer, hold_id)
        if isinstance(record, Answer):
            is_winners = hold_id.startswith(limits.HOLD_PREFIX)
            if record.outcome is Outcome.UNKNOWN_HOLD and not is_winners:
                return self._release_unknown(buyer, hold_id)
            return record
        if record.state in (HoldState.CONFIRMED, HoldState.REFUNDED):
            return self._answer_about(Outcome.ALREADY_CONFIRMED, record)
        if record.state is HoldState.RELEASED:
            return self._answer_about(Outcome.RELEASED, record, replayed=True)
        if record.state is HoldState.EXPIRED:
            return self._answer_about(Outcome.EXPIRED, record)
        record.state = HoldState.RELEASED
        self._write_hold(EventKind.RELEASED, record, record.lines)
        return self._answer_about(Outcome.RELEASED, record)

    def _release_unknown(self, buyer: str, hold_id: str) -> Answer:
        tombstone = Record(buyer, hold_id, HoldState.RELEASED)
        if self._shard_is_full(buyer) or self._record_is_full(buyer):
            return self._answer_about(Outcome.RELEASED, tombstone)
        self._buyers.setdefault(buyer, {})[hold_id] = tombstone
        self._write_hold(EventKind.TOMBSTONE, tombstone, {})
        return self._answer_about(Outcome.RELEASED, tombstone)

    def extend(self, buyer: str, hold_id: str, *, deadline_ms: int, now_ms: int) -> Answer:
        """Set a hold's deadline later, at most `extend_max_ms` past the original one."""
        buyer, hold_id = limits.check_hold_ids(buyer, hold_id)
        deadline_ms = limits.check_time("deadline_ms", deadline_ms)
        self._begin(now_ms)
        record = self._record_or_answer(buyer, hold_id)
        if isinstance(record, Answer):
            return record
        if record.state in (HoldState.CONFIRMED, HoldState.REFUNDED):
            return self._answer_about(Outcome.ALREADY_CONFIRMED, record)
        if record.state is HoldState.RELEASED:
            return self._answer_about(Outcome.RELEASED, record)
        if record.state is HoldState.EXPIRED:
            return self._answer_about(Outcome.EXPIRED, record)
        if self._is_in_doubt(record):
            return self._answer_about(Outcome.CLOCK_JUMP, record)
        assert record.deadline_ms is not None
        assert record.original_deadline_ms is not None
        if deadline_ms <= record.deadline_ms:
            return self._answer_about(Outcome.EXTENDED, record, replayed=True)
        if deadline_ms > record.original_deadline_ms + self.sale.extend_max_ms:
            return self._answer_about(Outcome.DEADLINE_TOO_FAR, record)
        if record.extends >= limits.EXTENDS_MAX:
            return self._answer_about(Outcome.TOO_MANY_EXTENDS, record)
        record.extends += 1
        record.deadline_ms = deadline_ms
        self._write(Event(EventKind.EXTENDED, buyer, hold_id, dict(record.lines), deadline_ms))
        return self._answer_about(Outcome.EXTENDED, record)

    def refund(self, buyer: str, hold_id: str, *, lines: Basket, op_id: str, now_ms: int) -> Answer:
        """Take back paid units; they are available again."""
        buyer, hold_id = limits.check_hold_ids(buyer, hold_id)
        op_id = limits.check_id("op_id", op_id)
        wanted = lines_of("lines", lines)
        self._begin(now_ms)
        record = self._record_or_answer(buyer, hold_id)
        if isinstance(record, Answer):
            return record
        if op_id in record.refunds:
            same = record.refunds[op_id] == wanted
            outcome = Outcome.REFUNDED if same else Outcome.CONFLICT
            return self._answer_about(outcome, record, replayed=same)
        if record.state not in (HoldState.CONFIRMED, HoldState.REFUNDED):
            return self._answer_about(Outcome.NOT_CONFIRMED, record)
        if not _covers(record.sold(), wanted):
            return self._answer_about(Outcome.NOT_IN_HOLD, record)
        if len(record.refunds) >= limits.REFUNDS_MAX:
            return self._answer_about(Outcome.TOO_MANY_REFUNDS, record)
        record.refunds[op_id] = wanted
        if not record.sold():
            record.state = HoldState.REFUNDED
        self._write(Event(EventKind.REFUNDED, buyer, hold_id, wanted, op_id=op_id))
        return self._answer_about(Outcome.REFUNDED, record)


def _covers(have: Mapping[str, int], wanted: Mapping[str, int]) -> bool:
    return all(have.get(sku, 0) >= qty for sku, qty in wanted.items())


def _minus(have: Mapping[str, int], gone: Mapping[str, int]) -> dict[str, int]:
    rest = {sku: qty - gone.get(sku, 0) for sku, qty in have.items()}
    return {sku: qty for sku, qty in rest.items() if qty}
