"""The books: balances and holds, replayed from the ledger."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from flashsale import ledger
from flashsale.calls import Operation, reading
from flashsale.ledger import Entry, Event, EventKind, Names, Page, Trimmed
from flashsale.models import HoldState, Sale, SaleState, Snapshot

T = TypeVar("T")

PAGE = 500
"""Ledger entries, and about as many buyers, in one read."""

EFFECTS: dict[EventKind, tuple[tuple[str, int], ...]] = {
    EventKind.HELD: (("available", -1), ("held", 1)),
    EventKind.RETAKEN: (("available", -1), ("held", 1)),
    EventKind.CONFIRMED: (("held", -1), ("sold", 1)),
    EventKind.DROPPED: (("held", -1), ("available", 1)),
    EventKind.RELEASED: (("held", -1), ("available", 1)),
    EventKind.EXPIRED: (("held", -1), ("available", 1)),
    EventKind.REFUNDED: (("sold", -1), ("available", 1)),
    EventKind.SET_ASIDE: (("available", -1), ("set_aside", 1)),
    EventKind.RESTOCKED: (("allotment", 1), ("available", 1)),
}

STATE_AFTER = {
    EventKind.HELD: HoldState.HELD,
    EventKind.TOMBSTONE: HoldState.RELEASED,
    EventKind.CONFIRMED: HoldState.CONFIRMED,
    EventKind.RELEASED: HoldState.RELEASED,
    EventKind.EXPIRED: HoldState.EXPIRED,
}

_PART = "x:"
"""Before a cue's id in a checkpoint; no sku's id has a colon."""

COUNTERS = ("allotment", "available", "set_aside", "held", "sold")


class FoldedHold(Struct):
    """A hold as the events tell it. `known` is False if it began before the checkpoint."""

    known: bool
    state: HoldState | None = None
    lines: dict[str, int] = {}
    sold: Counter[str] = msgspec.field(default_factory=Counter)
    refunds: dict[str, dict[str, int]] = {}
    deadline_ms: int | None = None
    original_deadline_ms: int | None = None


class Books:
    """Balances and holds, replayed from the ledger."""

    def __init__(self, sale: Sale, checkpoint: str) -> None:
        self.sale = sale
        self.holds: dict[tuple[str, str], FoldedHold] = {}
        self.problems: list[str] = []
        self.from_start = not checkpoint
        self.state = None if checkpoint else SaleState.RUNNING
        self.parts: dict[str, Counter[str]] = defaultdict(Counter)  # by cue, of what is set aside
        self.ended: set[str] = set()  # cues whose reserve the ledger says has ended
        self.kinds: set[EventKind] = set()  # what has happened at all
        if checkpoint:
            with reading("sale", "checkpoint"):
                told = msgspec.json.decode(checkpoint, type=dict[str, dict[str, int]])
                self.balances = {
                    sku.id: {counter: told[sku.id][counter] for counter in COUNTERS}
                    for sku in sale.skus
                }
            for name in [name for name in told if name.startswith(_PART)]:
                self.parts[name.removeprefix(_PART)].update(told[name])
        else:
            self.balances = {
                sku.id: dict.fromkeys(COUNTERS, 0)
                | {"allotment": sku.stock, "available": sku.stock}
                for sku in sale.skus
            }
        self.events = 0

    def apply(self, event: Event) -> None:
        """Account for one event."""
        self.events += 1
        self.kinds.add(event.kind)
        for sku, qty in event.lines.items():
            for counter, sign in EFFECTS.get(event.kind, ()):
                self.balances[sku][counter] += sign * qty
        if event.kind is EventKind.SET_ASIDE:
            self._apply_to_cue(event)
        if event.kind is EventKind.STATE:
            self.state = SaleState(event.text)
        if event.buyer:
            self._apply_to_hold(event)

    def _apply_to_cue(self, event: Event) -> None:
        if event.cue in self.ended:
            self.problems.append(f"ledger: set_aside of cue {event.cue!r} after its reserve's end")
        self.parts[event.cue].update(event.lines)
        if not event.lines:
            self.ended.add(event.cue)

    def _apply_to_hold(self, event: Event) -> None:
        key = (event.buyer, event.hold_id)
        begins = event.kind in (EventKind.HELD, EventKind.TOMBSTONE)
        hold = self.holds.get(key)
        if hold is None:
            if not begins and self.from_start:
                told = f"{event.kind.value} of {hold_name(*key)}"
                self.problems.append(f"ledger: {told} before its hold")
            hold = self.holds[key] = FoldedHold(known=begins)
        elif begins:
            self.problems.append(f"ledger: {hold_name(*key)} is {event.kind.value} twice")
        hold.state = STATE_AFTER.get(event.kind, hold.state)
        if event.kind is EventKind.HELD:
            hold.lines = dict(event.lines)
            hold.deadline_ms = hold.original_deadline_ms = event.deadline_ms
        elif event.kind is EventKind.EXTENDED:
            hold.deadline_ms = event.deadline_ms
        elif event.kind is EventKind.CONFIRMED:
            hold.sold = Counter(event.lines)
        elif event.kind is EventKind.REFUNDED and hold.state is HoldState.CONFIRMED:
            hold.refunds[event.op_id] = dict(event.lines)
            hold.sold.subtract(event.lines)
            hold.sold = +hold.sold
            if not hold.sold:
                hold.state = HoldState.REFUNDED

    def checkpoint(self) -> str:
        """The balances and the cues' parts of what is set aside, for the next checkpoint."""
        parts = {_PART + cue: units for cue, units in self.parts.items() if any(units.values())}
        return msgspec.json.encode({**self.balances, **parts}).decode()


class Replay:
    """Reads the ledger forward into the books, checking that nothing is missing."""

    def __init__(self, sale: Sale, page: Page) -> None:
        self.names = names_of(sale)
        self.books = Books(sale, page.checkpoint)
        self.start = self.sequence = page.checkpoint_sequence
        self.epoch = page.epoch
        self.entries = 0
        self.last_ms = 0
        self.recent: list[tuple[int, Event]] = []
        self.keep_recent = False

    def to(self, target: int) -> Operation[None]:
        """Replay up to and including sequence `target`."""
        while self.sequence < target:
            page = yield from ledger.read(self.books.sale.id, self.names, self.sequence, PAGE)
            wanted = [entry for entry in page.entries if entry.sequence <= target]
            if not wanted:
                text = f"ledger: entries {self.sequence + 1} to {target} are missing"
                self.books.problems.append(text)
                self.sequence = target
            for entry in wanted:
                self.take(entry)

    def take(self, entry: Entry) -> None:
        """Account for the next entry."""
        problems = self.books.problems
        if entry.epoch != self.epoch:
            problems.append(f"ledger: entry {entry.sequence} is of epoch {entry.epoch}")
        if entry.sequence != self.sequence + 1:
            gap = f"{self.sequence + 1} to {entry.sequence - 1}"
            problems.append(f"ledger: entries {gap} are missing")
        if entry.at_ms < self.last_ms:
            problems.append(f"ledger: time goes back at entry {entry.sequence}")
        self.sequence, self.last_ms = entry.sequence, entry.at_ms
        self.entries += 1
        for event in entry.events:
            self.books.apply(event)
            if self.keep_recent:
                self.recent.append((entry.sequence, event))
        self.books.ended.update(entry.ended)


def names_of(sale: Sale) -> Names:
    """What reading the ledger needs of a definition."""
    return Names(tuple(sku.id for sku in sale.skus), sale.hold_ttl_ms)


def hold_name(buyer: str, hold_id: str) -> str:
    """What a problem calls a hold."""
    return f"hold {hold_id!r} of buyer {buyer!r}"


def checkpoint_of(sale: str, snapshot: Snapshot) -> Operation[Page]:
    """What the ledger was trimmed to, and what is behind the snapshot's sequence, one entry."""
    # Nothing follows the last sequence, so this reads no entry.
    return (yield from ledger.read(sale, names_of(snapshot.sale), snapshot.sequence, 1))


def entries_behind(sale: str, snapshot: Snapshot) -> Operation[list[Entry]]:
    """Entries behind the sequence that the sale stores, of very many about the first 1,000."""
    page = yield from checkpoint_of(sale, snapshot)
    found = list(page.behind)
    while page.behind and found[-1].epoch == page.epoch and len(found) < ledger.COUNT_MAX:
        names, after = names_of(snapshot.sale), found[-1].sequence
        page = yield from ledger.read(sale, names, after, ledger.COUNT_MAX)
        found += page.behind
    return found


def entries_name(entries: Sequence[Entry]) -> str:
    """What a problem calls two or more entries behind the sequence."""
    first, last = (f"{entry.epoch}-{entry.sequence}" for entry in (entries[0], entries[-1]))
    more = " or more" if len(entries) >= ledger.COUNT_MAX else ""
    return f"{len(entries)}{more} entries, {first} to {last},"


def restarted(operation: Callable[[str], Operation[T]], sale: str) -> Operation[T]:
    """An operation that only reads, begun again as often as the ledger is trimmed under it.

    Each time somebody else has got on, from a later checkpoint, so this ends when they do.
    """
    while True:
        try:
            return (yield from operation(sale))
        except Trimmed:
            continue
