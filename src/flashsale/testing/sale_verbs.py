"""The oracle's verbs on the sale itself, and its views."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashsale import limits
from flashsale.errors import Rejected
from flashsale.ledger import Event, EventKind
from flashsale.models import Answer, Hold, HoldState, Outcome, Sale, SaleState, Snapshot
from flashsale.testing.model import Record, SaleModel
from flashsale.testing.requests import changes_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_SWITCHED = {
    SaleState.RUNNING: Outcome.RESUMED,
    SaleState.PAUSED: Outcome.PAUSED,
    SaleState.ENDED: Outcome.ENDED,
}


class SaleVerbs(SaleModel):
    """Opening, pausing, restocking, sweeping, purging, looking."""

    def open(self, sale: Sale, *, now_ms: int) -> Answer:
        """Open it again: replayed with the same definition, CONFLICT with another; no sweep."""
        self._look(now_ms)
        if self.purged:
            return self._answer(Outcome.PURGED)
        if sale != self.sale:
            return self._answer(Outcome.CONFLICT)
        return self._answer(Outcome.OPENED, replayed=True)

    def pause(self, *, now_ms: int) -> Answer:
        """Refuse new holds until `resume`."""
        return self._switch(SaleState.PAUSED, now_ms)

    def resume(self, *, now_ms: int) -> Answer:
        """Take holds again."""
        return self._switch(SaleState.RUNNING, now_ms)

    def end(self, *, now_ms: int) -> Answer:
        """Refuse new holds for good."""
        return self._switch(SaleState.ENDED, now_ms)

    def _switch(self, state: SaleState, now_ms: int) -> Answer:
        self._begin(now_ms)
        if self.purged:
            return self._answer(Outcome.PURGED)
        if self.state is state:
            return self._answer(_SWITCHED[state], replayed=True)
        if self.state is SaleState.ENDED:
            return self._answer(Outcome.ENDED)
        self.state = state
        self._write(Event(EventKind.STATE, text=state.value))
        return self._answer(_SWITCHED[state])

    def restock(self, changes: Mapping[str, int], *, op_id: str, now_ms: int) -> Answer:
        """Change allotments up or down, all lines or none.

        Of several lines that cannot be, the first in the order of the sale's skus answers.
        """
        op_id = limits.check_id("op_id", op_id)
        wanted = changes_of(changes)
        self._begin(now_ms)
        if self.purged:
            return self._answer(Outcome.PURGED)
        if op_id in self._restocks:
            if self._restocks[op_id] != wanted:
                return self._answer(Outcome.CONFLICT)
            return self._answer(Outcome.RESTOCKED, replayed=True)
        refusal = self._why_no_restock(wanted)
        if refusal is not None:
            return self._answer(refusal)
        self._restocks[op_id] = wanted
        self._write(Event(EventKind.RESTOCKED, lines=wanted, op_id=op_id))
        return self._answer(Outcome.RESTOCKED)

    def _why_no_restock(self, changes: dict[str, int]) -> Outcome | None:
        units = self._books.units
        if any(sku not in units for sku in changes):
            return Outcome.SKU_UNKNOWN
        for sku in self.sale.skus:
            change = changes.get(sku.id, 0)
            if units[sku.id].available + change < 0:
                return Outcome.BELOW_COMMITTED
            if units[sku.id].allotment + change > limits.STOCK_MAX:
                return Outcome.STOCK_TOO_LARGE
        if len(self._restocks) >= limits.RESTOCKS_MAX:
            return Outcome.TOO_MANY_RESTOCKS
        return None

    def expire(self, max_holds: int = limits.SWEEP_MAX, *, now_ms: int) -> int:
        """Sweep holds that are due, in the order of their deadlines; returns how many.

        The engine sweeps by ledger entries and may go beyond `max_holds` to finish one.
        """
        max_holds = limits.check_int("max_holds", max_holds, 1, limits.SWEEP_MAX)
        self._look(now_ms)
        if self.purged:
            raise Rejected(Outcome.PURGED, f"sale {self.sale.id!r}")
        return self._expire_due(max_holds)

    def purge(self, *, now_ms: int, readers_behind: bool = False) -> Answer:
        """Forget the sale's data; its id stays used.

        readers_behind: whether a registered reader of the ledger has not finished it. The
        model knows no readers.
        """
        self._begin(now_ms)
        if self.purged:
            return self._answer(Outcome.PURGED, replayed=True)
        if self.state is not SaleState.ENDED:
            return self._answer(Outcome.NOT_ENDED)
        if any(units.held for units in self._books.units.values()):
            return self._answer(Outcome.HOLDS_OUTSTANDING)
        if readers_behind:
            return self._answer(Outcome.READERS_BEHIND)
        self.purged = True
        self.last_ms = 0
        return self._answer(Outcome.PURGED)

    # Views: nothing is written, and a due hold is shown as expired all the same.

    def find(self, buyer: str, hold_id: str, *, now_ms: int) -> Hold | None:
        """The hold as it is at `now_ms`, None if the buyer has none of this id.

        Rejected (CLOCK_JUMP) if the clocks disagree whether it has expired.
        """
        buyer, hold_id = limits.check_hold_ids(buyer, hold_id)
        self._look_at_sale(now_ms)
        record = self._known(buyer, hold_id)
        return None if record is None else self._shown(record)

    def holds_of(self, buyer: str, *, now_ms: int) -> list[Hold]:
        """All holds of a buyer, tombstones included, in the order of their making."""
        buyer = limits.check_id("buyer", buyer)
        self._look_at_sale(now_ms)
        records = self._buyers.get(buyer, {}).values()
        return [self._shown(record) for record in records]

    def _shown(self, record: Record) -> Hold:
        if self._is_in_doubt(record):
            raise Rejected(Outcome.CLOCK_JUMP, f"hold {record.hold_id!r} of {record.buyer!r}")
        return self._hold(record, as_swept=True)

    def snapshot(self, *, now_ms: int) -> Snapshot:
        """All figures as they stand: a due hold counts as held until a verb expires it.

        `due_at_ms` is the earliest deadline of a held hold (the engine may name an earlier
        time). `epoch` is always 1. `sequence` counts one entry for every call that wrote.
        """
        self._look_at_sale(now_ms)
        deadlines = [
            record.deadline_ms
            for record in self._records()
            if record.state is HoldState.HELD and record.deadline_ms is not None
        ]
        return Snapshot(
            sale=self.sale,
            state=self.state,
            at_ms=self._now,
            epoch=1,
            sequence=len(self._books.entries),
            buyers=len(self._buyers),
            due_at_ms=min(deadlines, default=None),
            skus=self._books.views(),
        )

    def _look_at_sale(self, now_ms: int) -> None:
        self._look(now_ms)
        if self.purged:
            raise Rejected(Outcome.PURGED, f"sale {self.sale.id!r}")
