"""What the oracle's verbs share: the state of one sale, its time, and how answers are made."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from flashsale.ledger import Event, EventKind
from flashsale.models import Answer, Hold, HoldState, Outcome, Sale, SaleState
from flashsale.testing.books import Books

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flashsale.testing.room_model import RoomModel


@dataclass
class Record:
    """A hold as the model keeps it. A tombstone is a released one without lines."""

    buyer: str
    hold_id: str
    state: HoldState
    lines: dict[str, int] = field(default_factory=dict)
    deadline_ms: int | None = None
    original_deadline_ms: int | None = None
    extends: int = 0
    confirmed: dict[str, int] = field(default_factory=dict)
    refunds: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def is_tombstone(self) -> bool:
        """Left by a release that came before its hold."""
        return not self.lines

    def is_due(self, now_ms: int) -> bool:
        """Held, and its deadline has come."""
        return (
            self.state is HoldState.HELD
            and self.deadline_ms is not None
            and now_ms >= self.deadline_ms
        )

    def sold(self) -> dict[str, int]:
        """What is paid and not refunded."""
        left = Counter(self.confirmed)
        for lines in self.refunds.values():
            left.subtract(lines)
        return {sku: qty for sku, qty in left.items() if qty}

    def taken(self) -> dict[str, int]:
        """Held plus sold: what counts against the buyer's limits."""
        return self.lines if self.state is HoldState.HELD else self.sold()


class SaleModel:
    """One sale's holds and books, and the time of the verb that is being judged.

    clock_ms: what the server's clock says while it is not believed (more than a minute ahead of
    both the sale's last time and the caller's clock), else None. A test sets it.
    """

    def __init__(self, sale: Sale, *, now_ms: int) -> None:
        """Open the sale."""
        self.sale = sale
        self.state = SaleState.RUNNING
        self.purged = False
        self.last_ms = 0
        self.clock_ms: int | None = None
        self._books = Books(sale)
        self._buyers: dict[str, dict[str, Record]] = {}
        self._restocks: dict[str, dict[str, int]] = {}
        self._key_holds: Counter[str] = Counter()
        self._room: RoomModel | None = None
        self._begin(now_ms)
        definition = msgspec.json.encode(sale).decode()
        self._write(Event(EventKind.OPENED, text=definition))

    def _look(self, now_ms: int) -> None:
        """Start a call: its time, and a ledger entry of its own if it writes."""
        self._now = max(now_ms, self.last_ms)
        self._entry_is_open = False

    def _begin(self, now_ms: int) -> None:
        """Start a call that judges: first everything that is due expires."""
        self._look(now_ms)
        self._expire_due()

    def _expire_due(self, at_most: int | None = None) -> int:
        due = [record for record in self._records() if record.is_due(self._now)]
        due.sort(key=lambda record: record.deadline_ms or 0)
        for record in due[:at_most]:
            record.state = HoldState.EXPIRED
            self._write_hold(EventKind.EXPIRED, record, record.lines)
        return len(due[:at_most])

    def _write(self, event: Event) -> None:
        if not self._entry_is_open:
            self._books.open_entry(self._now)
            self._entry_is_open = True
        self.last_ms = self._now
        self._books.write(event)

    def _write_hold(self, kind: EventKind, record: Record, lines: Mapping[str, int]) -> None:
        self._write(Event(kind, record.buyer, record.hold_id, dict(lines)))

    def _why_closed(self) -> Outcome | None:
        """Why nobody may hold, or be let in, now."""
        if self.state is SaleState.ENDED:
            return Outcome.ENDED
        if self.state is SaleState.PAUSED:
            return Outcome.PAUSED
        opens, closes = self.sale.opens_at_ms, self.sale.closes_at_ms
        if opens is not None and self._now < opens and not self._is_doubtful(opens):
            return Outcome.NOT_OPEN
        if closes is not None and self._now >= closes:
            return Outcome.CLOSED
        return None if self.clock_ms is None else Outcome.CLOCK_JUMP

    def _is_doubtful(self, at_ms: int) -> bool:
        """Whether it has come by the server's clock, which is not believed, and by no other."""
        return self.clock_ms is not None and self._now < at_ms <= self.clock_ms

    def _is_in_doubt(self, record: Record) -> bool:
        """Whether the clocks disagree if the hold has expired."""
        return record.state is HoldState.HELD and self._is_doubtful(record.deadline_ms or 0)

    def _records(self) -> Iterator[Record]:
        for holds in self._buyers.values():
            yield from holds.values()

    def _known(self, buyer: str, hold_id: str) -> Record | None:
        return self._buyers.get(buyer, {}).get(hold_id)

    def _record_or_answer(self, buyer: str, hold_id: str) -> Record | Answer:
        """The hold a verb is about, or the answer if there is none."""
        if self.purged:
            return self._answer(Outcome.PURGED, buyer, hold_id)
        return self._known(buyer, hold_id) or self._answer(Outcome.UNKNOWN_HOLD, buyer, hold_id)

    def _answer(
        self,
        outcome: Outcome,
        buyer: str = "",
        hold_id: str = "",
        *,
        replayed: bool = False,
        may_return: bool = False,
        sku: str = "",
    ) -> Answer:
        """An answer where there is no hold."""
        return Answer(
            outcome=outcome,
            sale=self.sale.id,
            buyer=buyer,
            hold_id=hold_id,
            replayed=replayed,
            may_return=may_return,
            sku=sku,
            at_ms=self._now,
        )

    def _answer_about(
        self,
        outcome: Outcome,
        record: Record,
        *,
        replayed: bool = False,
        may_return: bool = False,
        sku: str = "",
    ) -> Answer:
        """An answer about a hold; it tells a deadline if that still matters to the caller."""
        deadline = record.deadline_ms if record.state is HoldState.HELD else None
        return Answer(
            outcome=outcome,
            sale=self.sale.id,
            buyer=record.buyer,
            hold_id=record.hold_id,
            state=record.state,
            deadline_ms=record.original_deadline_ms if outcome is Outcome.HELD else deadline,
            replayed=replayed,
            may_return=may_return,
            sku=sku,
            at_ms=self._now,
        )

    def _hold(self, record: Record, *, as_swept: bool) -> Hold:
        """A record as a `Hold`; `as_swept` shows a due one as expired."""
        expired = as_swept and record.is_due(self._now)
        return Hold(
            sale=self.sale.id,
            buyer=record.buyer,
            hold_id=record.hold_id,
            state=HoldState.EXPIRED if expired else record.state,
            lines=dict(record.lines),
            sold=record.sold(),
            deadline_ms=record.deadline_ms,
            original_deadline_ms=record.original_deadline_ms,
            refunds={op_id: dict(lines) for op_id, lines in record.refunds.items()},
        )
