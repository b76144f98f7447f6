"""The ledger replayed against the state: every unit accounted for, every disagreement named.

The audit starts from the checkpoint's balances (those of the opening if nothing was trimmed),
replays every later entry, and compares: the sequence is dense and time does not go back;
balances equal the counters; allotment = available + set aside + held + sold; each cue has the part
of what is set aside that the events gave it; every buyer's record is what the events say, its
units sum to the counters, and no limit is passed. It may run while the sale does: each page of
records says at which ledger entry it was read, and what happened later is taken into account
exactly.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from flashsale import ledger, views
from flashsale.calls import Operation
from flashsale.errors import InvalidRequest
from flashsale.ledger import Entry, Event, EventKind, Names, Page
from flashsale.models import AuditReport, Hold, HoldState, Sale, SaleState, SkuView, Snapshot

PROBLEMS_MAX = 100
"""Problems that a report lists; `truncated` says that there are more."""

RESTARTS = 3
"""How often an audit begins again because the ledger was trimmed under it."""

PAGE = 500
"""Ledger entries, and about as many buyers, in one read."""

_EFFECTS: dict[EventKind, tuple[tuple[str, int], ...]] = {
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

_STATE_AFTER = {
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
        if checkpoint:
            self.balances = msgspec.json.decode(checkpoint, type=dict[str, dict[str, int]])
            for name in [name for name in self.balances if name.startswith(_PART)]:
                self.parts[name.removeprefix(_PART)].update(self.balances.pop(name))
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
        for sku, qty in event.lines.items():
            for counter, sign in _EFFECTS.get(event.kind, ()):
                self.balances[sku][counter] += sign * qty
        if event.kind is EventKind.SET_ASIDE:
            self.parts[event.cue].update(event.lines)
        if event.kind is EventKind.STATE:
            self.state = SaleState(event.text)
        if event.buyer:
            self._apply_to_hold(event)

    def _apply_to_hold(self, event: Event) -> None:
        key = (event.buyer, event.hold_id)
        begins = event.kind in (EventKind.HELD, EventKind.TOMBSTONE)
        hold = self.holds.get(key)
        if hold is None:
            if not begins and self.from_start:
                self.problems.append(f"ledger: {event.kind.value} of {_name(*key)} before its hold")
            hold = self.holds[key] = FoldedHold(known=begins)
        elif begins:
            self.problems.append(f"ledger: {_name(*key)} is {event.kind.value} twice")
        hold.state = _STATE_AFTER.get(event.kind, hold.state)
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


class _Replay:
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
                self._take(entry)

    def _take(self, entry: Entry) -> None:
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


def names_of(sale: Sale) -> Names:
    """What reading the ledger needs of a definition."""
    return Names(tuple(sku.id for sku in sale.skus), sale.hold_ttl_ms)


def _name(buyer: str, hold_id: str) -> str:
    return f"hold {hold_id!r} of buyer {buyer!r}"


# --- the audit ----------------------------------------------------------------------------


def audit(sale: str) -> Operation[AuditReport]:
    """Compare ledger and state; see the module's docstring."""
    for _ in range(RESTARTS):
        try:
            return (yield from _audit_once(sale))
        except InvalidRequest as error:  # a reader trimmed what was still to be read
            if error.field != "after":
                raise
    return (yield from _audit_once(sale))


def _audit_once(sale: str) -> Operation[AuditReport]:
    first = yield from views.snapshot(sale)
    trimmed = yield from _checkpoint(sale, first)
    replay = _Replay(first.sale, trimmed)
    yield from replay.to(first.sequence)
    replay.keep_recent = True
    records, read_at = yield from _all_records(sale)
    last = yield from views.snapshot(sale)
    yield from replay.to(last.sequence)
    problems = replay.books.problems
    problems += _compare_counters(replay.books, last)
    problems += _compare_sums(records, read_at, replay, last)
    problems += _compare_limits(first.sale, records)
    problems += yield from _compare_holds(sale, replay, records)
    problems += yield from _compare_parts(sale, replay)
    return AuditReport(
        sale=sale,
        epoch=last.epoch,
        sequence=last.sequence,
        checkpoint=replay.start,
        entries=replay.entries,
        events=replay.books.events,
        buyers=len(records),
        holds=sum(map(len, records.values())),
        problems=tuple(problems[:PROBLEMS_MAX]),
        truncated=len(problems) > PROBLEMS_MAX,
    )


def _checkpoint(sale: str, snapshot: Snapshot) -> Operation[Page]:
    # Nothing follows the last sequence, so this reads no entry, and it cannot be trimmed away.
    return (yield from ledger.read(sale, names_of(snapshot.sale), snapshot.sequence, 1))


def _all_records(sale: str) -> Operation[tuple[dict[str, list[Hold]], dict[str, int]]]:
    records: dict[str, list[Hold]] = {}
    read_at: dict[str, int] = {}
    cursor = ""
    while cursor != "0":
        cursor, sequence, page = yield from views.scan(sale, cursor or "0", PAGE)
        records |= page
        read_at |= dict.fromkeys(page, sequence)
    return records, read_at


def _compare_counters(books: Books, last: Snapshot) -> list[str]:
    problems = []
    if books.state is not None and books.state is not last.state:
        problems.append(f"the sale is {last.state.value}, the ledger says {books.state.value}")
    limits = {sku.id: sku.limit for sku in last.sale.skus}
    for sku, view in last.skus.items():
        if view.limit != limits[sku]:
            text = f"sku {sku!r}: limit is {view.limit}, the definition says {limits[sku]}"
            problems.append(text)
        for counter in COUNTERS:
            told, is_now = books.balances[sku][counter], getattr(view, counter)
            if told != is_now:
                problems.append(f"sku {sku!r}: {counter} is {is_now}, the ledger says {told}")
        problems += _compare_conservation(sku, view)
    return problems


def _compare_conservation(sku: str, view: SkuView) -> list[str]:
    parts = (view.available, view.set_aside, view.held, view.sold)
    if sum(parts) == view.allotment and min(parts) >= 0:
        return []
    return [
        f"sku {sku!r}: allotment {view.allotment} is not available {view.available} + set aside "
        f"{view.set_aside} + held {view.held} + sold {view.sold}"
    ]


def _compare_parts(sale: str, replay: _Replay) -> Operation[list[str]]:
    """What is set aside, cue by cue: the counter alone would hide what went from one to another."""
    skus = replay.names.skus
    sequence, parts = yield from views.parts(sale, skus)
    yield from replay.to(max(sequence, replay.sequence))
    problems = []
    for cue in sorted(parts.keys() | replay.books.parts.keys()):
        here, books = parts.get(cue, {}), replay.books.parts[cue]
        for sku in dict.fromkeys((*skus, *here)):
            told, is_now = books[sku], here.get(sku, 0)
            if told != is_now:
                text = f"cue {cue!r}: {is_now} of {sku!r} are set aside, the ledger says {told}"
                problems.append(text)
    return problems


def _held_lines(hold: Hold) -> Mapping[str, int]:
    return hold.lines if hold.state is HoldState.HELD else {}


def _compare_sums(
    records: Mapping[str, list[Hold]], read_at: Mapping[str, int], replay: _Replay, last: Snapshot
) -> list[str]:
    sums: dict[str, Counter[str]] = {"held": Counter(), "sold": Counter()}
    for holds in records.values():
        for hold in holds:
            sums["held"].update(_held_lines(hold))
            sums["sold"].update(hold.sold)
    for sequence, event in replay.recent:
        if event.buyer and sequence > read_at.get(event.buyer, 0):
            for counter, sign in _EFFECTS.get(event.kind, ()):
                if counter in sums:
                    for sku, qty in event.lines.items():
                        sums[counter][sku] += sign * qty
    return [
        f"sku {sku!r}: the buyers' records have {sums[counter][sku]} units {counter}, "
        f"the counter says {getattr(view, counter)}"
        for sku, view in last.skus.items()
        for counter in sums
        if sums[counter][sku] != getattr(view, counter)
    ]


def _compare_limits(sale: Sale, records: Mapping[str, list[Hold]]) -> list[str]:
    problems = []
    limit_of = {sku.id: sku.limit for sku in sale.skus if sku.limit is not None}
    for buyer, holds in records.items():
        used: Counter[str] = Counter()
        for hold in holds:
            used.update(_held_lines(hold))
            used.update(hold.sold)
        for sku, limit in limit_of.items():
            if used[sku] > limit:
                problems.append(f"buyer {buyer!r} has {used[sku]} of {sku!r}, the limit is {limit}")
        if sale.limit is not None and used.total() > sale.limit:
            problems.append(f"buyer {buyer!r} has {used.total()} units, the limit is {sale.limit}")
    return problems


def _compare_holds(
    sale: str, replay: _Replay, records: Mapping[str, list[Hold]]
) -> Operation[list[str]]:
    """Compare each buyer's record with the events; a buyer who moved meanwhile is read again."""
    told: dict[str, set[str]] = defaultdict(set)
    for buyer, hold_id in replay.books.holds:
        told[buyer].add(hold_id)
    problems: list[str] = []
    for buyer in records.keys() | told.keys():
        if not _differences(replay.books, buyer, told[buyer], records.get(buyer, [])):
            continue
        sequence, _, holds = yield from views.find_buyer(sale, buyer)
        yield from replay.to(max(sequence, replay.sequence))
        ids = {hold_id for who, hold_id in replay.books.holds if who == buyer}
        problems += _differences(replay.books, buyer, ids, holds)
        if len(problems) > PROBLEMS_MAX:
            break
    return problems


def _differences(books: Books, buyer: str, told: set[str], holds: list[Hold]) -> list[str]:
    problems = []
    by_id = {hold.hold_id: hold for hold in holds}
    for hold_id in told - by_id.keys():
        problems.append(f"{_name(buyer, hold_id)} is in the ledger, not in the buyer's record")
    for hold_id, hold in by_id.items():
        folded = books.holds.get((buyer, hold_id))
        if folded is None:
            if books.from_start:
                problems.append(f"{_name(buyer, hold_id)} is in the record, not in the ledger")
            continue
        # A reader is shown a due hold as expired before any script has swept it.
        states = {folded.state, HoldState.EXPIRED if folded.state is HoldState.HELD else None}
        if folded.state is not None and hold.state not in states:
            problems.append(
                f"{_name(buyer, hold_id)} is {hold.state.value}, the ledger says "
                f"{folded.state.value}"
            )
        elif folded.known and (hold.lines != folded.lines or hold.sold != dict(folded.sold)):
            problems.append(f"{_name(buyer, hold_id)} has other lines than the ledger says")
        elif folded.known and hold.refunds != folded.refunds:
            problems.append(f"{_name(buyer, hold_id)} has other refunds than the ledger says")
        elif folded.known and (hold.deadline_ms, hold.original_deadline_ms) != (
            folded.deadline_ms,
            folded.original_deadline_ms,
        ):
            problems.append(f"{_name(buyer, hold_id)} has another deadline than the ledger says")
    return problems


# --- trimming -----------------------------------------------------------------------------


def trim(sale: str) -> Operation[int]:
    """Trim the ledger behind every reader and the deadlines' cursor; the new checkpoint.

    The last entry stays. The checkpoint keeps the balances, so that an audit still adds up.
    """
    now = yield from views.snapshot(sale)
    page = yield from _checkpoint(sale, now)
    upto = min([page.cursor - 1, page.sequence - 1, *page.readers.values()])
    if upto <= page.checkpoint_sequence:
        return page.checkpoint_sequence
    replay = _Replay(now.sale, page)
    yield from replay.to(upto)
    return (yield from ledger.trim_to(sale, page, upto, replay.books.checkpoint()))
