"""What a user holds in hand: a sale and its ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flashsale import audit, batches, books, inventory, ledger, limits, repair, views, window
from flashsale.cues import CueRequest, Keep, LagHistogram
from flashsale.draw import EntropySource
from flashsale.errors import FlashSaleError
from flashsale.models import (
    Answer,
    AuditReport,
    Basket,
    Hold,
    HoldRequest,
    Late,
    RepairReport,
    SaleState,
    Snapshot,
)
from flashsale.pickling import NotPickled
from flashsale.sync.cues import CueHandle
from flashsale.sync.queue import QueueHandle
from flashsale.window import Clock, Position

if TYPE_CHECKING:
    from flashsale.sync.client import FlashSale


class SaleHandle(NotPickled):
    """A sale as seen by an order service: its verbs, each one round trip.

    Every verb is atomic and safe to repeat with the same ids. A verb on a hold names it by
    buyer and hold id, or by an answer, a `Hold`, or a ref. Refusals are outcomes; raised are
    InvalidRequest and Overloaded (nothing sent), StoreUnavailable (not applied), OutcomeUnknown
    (may have been applied: repeat it), ConfigurationError and ProtocolError. `timeout_ms`
    overrides the client's. `created`: whether `open` made the sale with that very call; None if
    the handle is not from `open`.
    """

    _instead = "send the sale's id, and attach there with shop.sale(id)"

    def __init__(self, shop: FlashSale, sale_id: str, created: bool | None = None) -> None:
        self._shop = shop
        self.created = created
        self.id = limits.check_id("sale", sale_id)
        self.ledger = LedgerHandle(shop, self.id)
        self.queue = QueueHandle(shop, self.id)
        self._holding = inventory.hold_kind(self.id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>"

    def hold(
        self,
        buyer: str,
        basket: Basket,
        *,
        hold_id: str,
        channel: str = "",
        note: str = "",
        key: str = "",
        timeout_ms: int | None = None,
    ) -> Answer:
        """Take stock for a buyer until `deadline_ms`, the whole basket or nothing.

        basket: {sku: qty} or a sequence of Line, 1 to 32 skus, 1 to 1,000,000 units each.
        hold_id: unique per buyer; the same id and basket again give the original answer, and
        another basket CONFLICT. channel (an identifier) and note (at most 256 bytes) go to the
        ledger and do not count for identity. key (an identifier: a device, an account's age):
        whose holds are counted together, if the sale has a `key_holds_max`.
        """
        item = inventory.hold_item(buyer, basket, hold_id, channel, note, key)
        return self._shop._ask(self._holding, item, timeout_ms)

    def hold_many(
        self, requests: Sequence[HoldRequest], *, timeout_ms: int | None = None
    ) -> list[Answer | FlashSaleError]:
        """Many holds, 256 a script call, four calls on their way at a time.

        Answers come in the order of the requests, errors in place. `timeout_ms` is for all of
        them together.
        """
        return self._shop.perform(inventory.hold_many(self.id, requests), timeout_ms)

    def confirm(
        self,
        hold: str | Answer | Hold,
        hold_id: str | None = None,
        *,
        lines: Basket | None = None,
        late: Late = "refuse",
        timeout_ms: int | None = None,
    ) -> Answer:
        """Sell a paid hold; with `lines`, only those of its units, and the rest is given back.

        late: what to do after the deadline: "refuse" answers EXPIRED, "retake" takes the stock
        and the limit again if there is any, also after the sale's end. CLOCK_JUMP while the
        server's clock and the caller's disagree whether the deadline has passed: ask again.
        """
        target = batches.target_of(self.id, hold, hold_id)
        kind, item = inventory.confirm_kind(self.id, late), inventory.confirm_item(target, lines)
        return self._shop._ask(kind, item, timeout_ms)

    def confirm_many(
        self,
        holds: Sequence[Answer | Hold | str],
        *,
        late: Late = "refuse",
        timeout_ms: int | None = None,
    ) -> list[Answer | FlashSaleError]:
        """Sell many holds, each whole and named by an answer, a `Hold` or a ref; as hold_many."""
        return self._shop.perform(inventory.confirm_many(self.id, holds, late), timeout_ms)

    def release(
        self,
        hold: str | Answer | Hold,
        hold_id: str | None = None,
        *,
        timeout_ms: int | None = None,
    ) -> Answer:
        """Give a hold up. An id not known yet is remembered, so a delayed hold takes nothing."""
        target = batches.target_of(self.id, hold, hold_id)
        kind, item = inventory.release_kind(self.id), inventory.release_item(target)
        return self._shop._ask(kind, item, timeout_ms)

    def release_many(
        self, holds: Sequence[Answer | Hold | str], *, timeout_ms: int | None = None
    ) -> list[Answer | FlashSaleError]:
        """Give many holds up, each named by an answer, a `Hold` or a ref; as hold_many."""
        return self._shop.perform(inventory.release_many(self.id, holds), timeout_ms)

    def extend(
        self,
        hold: str | Answer | Hold,
        hold_id: str | None = None,
        *,
        deadline_ms: int,
        timeout_ms: int | None = None,
    ) -> Answer:
        """Set the deadline later, to a time (milliseconds since 1970); an earlier one does nothing.

        At most the sale's `extend_max_ms` past the original deadline: DEADLINE_TOO_FAR beyond.
        A hold's deadline is moved 64 times at most, then TOO_MANY_EXTENDS.
        """
        target = batches.target_of(self.id, hold, hold_id)
        kind, item = inventory.extend_kind(self.id), inventory.extend_item(target, deadline_ms)
        return self._shop._ask(kind, item, timeout_ms)

    def refund(
        self,
        hold: str | Answer | Hold,
        hold_id: str | None = None,
        *,
        lines: Basket,
        op_id: str,
        timeout_ms: int | None = None,
    ) -> Answer:
        """Take paid lines back into stock, once by `op_id`; at most 16 refunds a hold."""
        target = batches.target_of(self.id, hold, hold_id)
        kind, item = inventory.refund_kind(self.id), inventory.refund_item(target, lines, op_id)
        return self._shop._ask(kind, item, timeout_ms)

    def find(
        self,
        hold: str | Answer | Hold,
        hold_id: str | None = None,
        *,
        timeout_ms: int | None = None,
    ) -> Hold | None:
        """The hold as the server remembers it, or None.

        Rejected if there is no such sale; with CLOCK_JUMP while the clocks disagree whether it has
        expired.
        """
        target = batches.target_of(self.id, hold, hold_id)
        return self._shop.perform(views.find(self.id, target), timeout_ms)

    def holds_of(self, buyer: str, *, timeout_ms: int | None = None) -> list[Hold]:
        """Every hold of a buyer, oldest first. Rejected as by `find`, for any of them."""
        return self._shop.perform(views.holds_of(self.id, buyer), timeout_ms)

    def restock(
        self, changes: Mapping[str, int], *, op_id: str, timeout_ms: int | None = None
    ) -> Answer:
        """Change allotments up or down, all or none, once by `op_id`."""
        return self._shop.perform(inventory.restock(self.id, changes, op_id), timeout_ms)

    def pause(self, *, timeout_ms: int | None = None) -> Answer:
        """Refuse new holds until resumed; what is held goes on."""
        return self._shop.perform(inventory.set_state(self.id, SaleState.PAUSED), timeout_ms)

    def resume(self, *, timeout_ms: int | None = None) -> Answer:
        """Take holds again."""
        return self._shop.perform(inventory.set_state(self.id, SaleState.RUNNING), timeout_ms)

    def end(self, *, timeout_ms: int | None = None) -> Answer:
        """Refuse new holds for ever; what is held goes on."""
        return self._shop.perform(inventory.set_state(self.id, SaleState.ENDED), timeout_ms)

    def purge(self, *, timeout_ms: int | None = None) -> Answer:
        """Delete an ended sale's data once nothing is held and every reader has read it all."""
        return self._shop.perform(inventory.purge(self.id), timeout_ms)

    def expire(self, max_holds: int = 1_024, *, timeout_ms: int | None = None) -> int:
        """Sweep due holds back to stock, up to `max_holds` (1 to 1,024); how many they were.

        Not needed for correctness: every verb sweeps on its way.
        """
        return self._shop.perform(inventory.expire(self.id, max_holds), timeout_ms)

    def cue(
        self,
        cue_id: str,
        *,
        at: int | Position,
        clock: Clock | None = None,
        cue_time_ms: int | None = None,
        stock: Mapping[str, int] | None = None,
        window_ms: int = 3_000,
        windows: int = 1,
        lag_cap_ms: int = 12_000,
        grace_ms: int = 1_000,
        spread_ms: int = 0,
        reserve_ms: int | None = None,
        keep: Keep = "all",
        reserve: int | None = None,
        entropy: EntropySource | None = None,
        proof: bool = True,
        entries_max: int = 10_000_000,
        stock_of: str | None = None,
        entropy_margin_ms: int = 60_000,
        publish: str | None = None,
        publish_wait_ms: int = 0,
        timeout_ms: int | None = None,
    ) -> CueHandle:
        """Open a fairness window on the stream: the moment at which the link goes up.

        at: the cue's position on the media timeline, in milliseconds (or a `streamtime.Position`).
        clock: the `StreamClock` that says when that is; or give `cue_time_ms`, the server's time of
        it. stock: units to set aside by sku; None: all that is available of the sku named like the
        cue. stock_of: a void cue whose stock this one takes. Everything else is explained, with its
        bounds, in `flashsale.cues.CueRequest`; entropy makes the draw a public one. The
        same cue again is a no-op, whatever the clock says by then; another definition raises
        Rejected with CONFLICT. Needs a key. `window_ms` below 2,000 warns: see `flashsale.window`.
        """
        request = CueRequest(
            id=cue_id,
            position_ms=window.position_of(at),
            stock=stock,
            window_ms=window_ms,
            windows=windows,
            lag_cap_ms=lag_cap_ms,
            grace_ms=grace_ms,
            spread_ms=spread_ms,
            reserve_ms=reserve_ms,
            keep=keep,
            reserve=reserve,
            entropy=None if entropy is None else entropy.name,
            proof=proof,
            entries_max=entries_max,
            stock_of=stock_of,
            entropy_margin_ms=entropy_margin_ms,
            publish=publish,
            publish_wait_ms=publish_wait_ms,
        )
        key = self._shop._draw_keys.newest()
        operation = window.open_cue(
            self.id,
            request,
            key=key,
            at=at,
            clock=clock,
            cue_time_ms=cue_time_ms,
            entropy=entropy,
        )
        known = self._shop.perform(operation, timeout_ms)
        self._shop._remember_cue(known)
        return CueHandle(self._shop, self.id, cue_id)

    def cue_handle(self, cue_id: str) -> CueHandle:
        """Attach to a cue, without I/O: what a service does."""
        return CueHandle(self._shop, self.id, cue_id)

    def cues(self, *, timeout_ms: int | None = None) -> list[str]:
        """The ids of the sale's cues, in the order of their opening."""
        return self._shop.perform(views.cue_ids(self.id), timeout_ms)

    def report_lags(self, lags_ms: Sequence[int], *, timeout_ms: int | None = None) -> LagHistogram:
        """Add how far viewers' players say they lag, at most 100,000 reports a call.

        A sample of the viewers is enough, and nobody checks it: it chooses a cap, it decides about
        no entry. Returns the histogram of all reports of the sale.
        """
        return self._shop.perform(window.lags(self.id, lags_ms), timeout_ms)

    def lags(self, *, timeout_ms: int | None = None) -> LagHistogram:
        """The lags that were reported; its `cap_for(0.99)` is a `lag_cap_ms` for 99 % of them."""
        return self._shop.perform(window.lags(self.id, ()), timeout_ms)

    def snapshot(self, *, timeout_ms: int | None = None) -> Snapshot:
        """The sale at one moment. Rejected if there is no such sale."""
        return self._shop.perform(views.snapshot(self.id), timeout_ms)

    def audit(self, *, timeout_ms: int = 120_000) -> AuditReport:
        """Replay the ledger against the state and name what disagrees; also on a running sale."""
        return self._shop.perform(audit.audit(self.id), timeout_ms)

    def repair(self, *, timeout_ms: int = 120_000) -> RepairReport:
        """Apply the ledger's torn entry, which `audit` names, to records and counters.

        An operator's verb: goes forward only, may be repeated, and changes nothing if there is no
        such entry or if it cannot be told what of it was applied (then the report says of what).
        """
        return self._shop.perform(repair.repair(self.id), timeout_ms)


class LedgerHandle(NotPickled):
    """What happened to a sale's stock, for whoever must know."""

    _instead = "send the sale's id, and attach there with shop.sale(id)"

    def __init__(self, shop: FlashSale, sale_id: str) -> None:
        self._shop = shop
        self._sale_id = sale_id
        self._names: ledger.Names | None = None

    def read(
        self, *, after: int = 0, count: int = 100, timeout_ms: int | None = None
    ) -> ledger.Page:
        """Up to `count` (1 to 1,000) entries that follow sequence `after`."""
        span = self._shop._span(timeout_ms)
        if self._names is None:
            view = self._shop.perform(views.snapshot(self._sale_id), span.left_ms)
            self._names = books.names_of(view.sale)
        operation = ledger.read(self._sale_id, self._names, after, count)
        return self._shop.perform(operation, span.left_ms)

    def register(self, reader: str, *, timeout_ms: int | None = None) -> int:
        """Register a reader; nothing it has not finished is trimmed or purged.

        Returns the sequence to read after: where it left off, if it was registered before.
        """
        return self._shop.perform(ledger.register(self._sale_id, reader), timeout_ms)

    def ack(self, reader: str, sequence: int, *, timeout_ms: int | None = None) -> int:
        """Say that a reader has finished everything up to `sequence`; it never goes back."""
        operation = ledger.acknowledge(self._sale_id, reader, sequence)
        return self._shop.perform(operation, timeout_ms)

    def forget(self, reader: str, *, timeout_ms: int | None = None) -> int:
        """Remove a reader; returns the last sequence it had finished."""
        return self._shop.perform(ledger.forget(self._sale_id, reader), timeout_ms)

    def trim(self, *, timeout_ms: int = 120_000) -> int:
        """Trim what every reader has finished and no deadline needs; the new checkpoint."""
        return self._shop.perform(audit.trim(self._sale_id), timeout_ms)
