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
from collections.abc import Set as AbstractSet

from flashsale import ledger, limits, views
from flashsale.books import (
    COUNTERS,
    EFFECTS,
    PAGE,
    Books,
    Replay,
    checkpoint_of,
    entries_behind,
    entries_name,
    hold_name,
    restarted,
)
from flashsale.calls import UNREADABLE, Operation, computed
from flashsale.errors import ProtocolError, StoreUnavailable
from flashsale.ledger import EventKind, Trimmed
from flashsale.models import AuditReport, Hold, HoldState, Sale, SkuView, Snapshot

PROBLEMS_MAX = 100
"""Problems that a report lists; `truncated` says that there are more."""

NEEDED = ("sale", "skus", "stock")
"""Keys without which nothing can be read; every sale has them, and a ledger, until its purge."""

READ = (*NEEDED, "buyers", "ledger", "readers")
"""Keys that an audit reads: it cannot go on if one of them is of another type."""

_WITNESS = {EventKind.RESTOCKED: "restocks", EventKind.SET_ASIDE: "cues"}
"""What happened proves that there is a key."""

# --- the audit ----------------------------------------------------------------------------


def audit(sale: str) -> Operation[AuditReport]:
    """Compare ledger and state; see the module's docstring.

    Whatever is lost, mistyped or unreadable is a problem of the report. Errors are for a sale that
    is not there (Rejected), one of another release's format, and a server that does not answer.
    """
    return (yield from computed(_audit(sale)))


def _audit(sale: str) -> Operation[AuditReport]:
    sale = limits.check_id("sale", sale)
    wrong = yield from views.key_states(sale)
    problems = [
        _wrong_key(name, state)
        for name, state in wrong.items()
        if state == "mistyped" or name in (*NEEDED, "ledger")
    ]
    if any(name in wrong for name in NEEDED) or any(wrong.get(n) == "mistyped" for n in READ):
        return _report(sale, problems)
    try:
        return (yield from restarted(lambda sale: _audit_once(sale, problems), sale))
    except StoreUnavailable as error:
        if not any(word in str(error) for word in ("FLASHSALE_DAMAGED", "WRONGTYPE")):
            raise
        return _report(sale, [*problems, str(error)])
    except ProtocolError as error:
        if "FLASHSALE_FORMAT" in str(error):
            raise
        return _report(sale, [*problems, str(error)])
    except UNREADABLE as error:
        return _report(sale, [*problems, f"the sale's data cannot be read: {error!r}"])


def _wrong_key(name: str, state: str) -> str:
    return f"key {name!r} is {'missing' if state == 'missing' else 'of another type'}"


def _report(sale: str, problems: list[str]) -> AuditReport:
    """What is said of a sale that cannot be audited."""
    return AuditReport(sale, 0, 0, 0, 0, 0, 0, 0, tuple(problems))


def _audit_once(sale: str, known: list[str]) -> Operation[AuditReport]:
    first = yield from views.snapshot(sale)
    trimmed = yield from checkpoint_of(sale, first)
    replay = Replay(first.sale, trimmed)
    yield from replay.to(first.sequence)
    replay.keep_recent = True
    records, read_at, unreadable = yield from _all_records(sale, replay)
    last = yield from views.snapshot(sale)
    yield from replay.to(last.sequence)
    problems = replay.books.problems  # the same list: replaying on adds to it
    problems[:0] = known
    problems += [f"the record of buyer {buyer!r} cannot be read" for buyer in unreadable]
    problems += yield from _find_torn(sale, last)
    problems += _compare_counters(replay.books, last)
    problems += _compare_sums(records, read_at, replay, last)
    problems += _compare_limits(first.sale, records)
    problems += yield from _compare_holds(sale, replay, records, unreadable)
    problems += yield from _compare_parts(sale, replay)
    problems += yield from _find_lost(sale, replay.books, records)
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


def _find_torn(sale: str, last: Snapshot) -> Operation[list[str]]:
    """Entries behind the sequence that the sale stores: what they tell may not be written."""
    behind = yield from entries_behind(sale, last)
    stored = f"{last.epoch}-{last.sequence}, the sale's"
    if len(behind) > 1:
        return [f"ledger: {entries_name(behind)} are behind {stored}: its sequence was lost"]
    return [
        f"ledger: entry {entry.epoch}-{entry.sequence} is torn: it is behind {stored}"
        for entry in behind
    ]


def _find_lost(sale: str, books: Books, records: Mapping[str, list[Hold]]) -> Operation[list[str]]:
    """Keys that must be there, by what has happened, and are not."""
    wrong = yield from views.key_states(sale)
    if wrong.get("cues") != "mistyped":
        wrong |= yield from views.key_states(sale, (yield from views.cue_ids(sale)))
    expected = {name for kind, name in _WITNESS.items() if kind in books.kinds}
    expected |= {"buyers"} if books.holds else set()
    lost = [name for name in wrong if name in expected or name.startswith("cue:")]
    if "deadlines" in wrong and (yield from _is_moved(sale, records)):
        lost.append("deadlines")
    return [_wrong_key(name, wrong[name]) for name in lost]


def _is_moved(sale: str, records: Mapping[str, list[Hold]]) -> Operation[bool]:
    """Whether the deadlines must have a hold's: one that was held and moved before and after."""
    for buyer, holds in records.items():
        before = [hold for hold in holds if _has_own_deadline(hold)]
        if before:
            wrong = yield from views.key_states(sale)
            _, _, after = yield from views.find_buyer(sale, buyer)
            same = {hold.hold_id for hold in after if _has_own_deadline(hold)}
            return "deadlines" in wrong and any(hold.hold_id in same for hold in before)
    return False


def _has_own_deadline(hold: Hold) -> bool:
    return hold.state is HoldState.HELD and hold.deadline_ms != hold.original_deadline_ms


def _all_records(
    sale: str, replay: Replay
) -> Operation[tuple[dict[str, list[Hold]], dict[str, int], set[str]]]:
    """Every buyer's holds, at which entry they were read, and whose record cannot be read."""
    records: dict[str, list[Hold]] = {}
    unreadable: set[str] = set()
    read_at: dict[str, int] = {}
    cursor = ""
    while cursor != "0":
        cursor, sequence, page = yield from views.scan(sale, cursor or "0", PAGE)
        records |= {buyer: holds for buyer, holds in page.items() if holds is not None}
        unreadable |= {buyer for buyer, holds in page.items() if holds is None}
        read_at |= dict.fromkeys(page, sequence)
        yield from replay.to(sequence)  # now: by the last page it may be trimmed
    return records, read_at, unreadable


def _compare_counters(books: Books, last: Snapshot) -> list[str]:
    problems = []
    skus = {sku.id for sku in last.sale.skus}
    problems += [f"sku {sku!r} is lost: key 'skus' or 'stock'" for sku in skus - last.skus.keys()]
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


def _compare_parts(sale: str, replay: Replay) -> Operation[list[str]]:
    """What is set aside, cue by cue: the counter alone would hide what went from one to another."""
    problems: set[str] = set()
    seen: set[tuple[str, str]] = set()
    begun: set[tuple[str, str]] | None = None
    cursor = ""
    while cursor != "0":
        cursor, sequence, parts = yield from views.parts(sale, replay.names.skus, cursor or "0")
        yield from replay.to(max(sequence, replay.sequence))
        if begun is None:  # what is there now must come on some page, unless it goes meanwhile
            begun = {(cue, sku) for cue, own in replay.books.parts.items() for sku in own}
        for cue, here in parts.items():
            if cue in replay.books.ended:
                problems.add(f"cue {cue!r}: the ledger says that its reserve has ended, it has not")
            for sku, is_now in here.items():
                seen.add((cue, sku))
                problems |= _compare_part(replay.books, cue, sku, is_now)
    for cue, sku in (begun or set()) - seen:
        problems |= _compare_part(replay.books, cue, sku, 0)
    return sorted(problems)


def _compare_part(books: Books, cue: str, sku: str, is_now: int) -> set[str]:
    told = books.parts[cue][sku]
    if told == is_now:
        return set()
    return {f"cue {cue!r}: {is_now} of {sku!r} are set aside, the ledger says {told}"}


def _held_lines(hold: Hold) -> Mapping[str, int]:
    return hold.lines if hold.state is HoldState.HELD else {}


def _compare_sums(
    records: Mapping[str, list[Hold]], read_at: Mapping[str, int], replay: Replay, last: Snapshot
) -> list[str]:
    sums: dict[str, Counter[str]] = {"held": Counter(), "sold": Counter()}
    for holds in records.values():
        for hold in holds:
            sums["held"].update(_held_lines(hold))
            sums["sold"].update(hold.sold)
    for sequence, event in replay.recent:
        if event.buyer and sequence > read_at.get(event.buyer, 0):
            for counter, sign in EFFECTS.get(event.kind, ()):
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
    sale: str, replay: Replay, records: Mapping[str, list[Hold]], unreadable: AbstractSet[str]
) -> Operation[list[str]]:
    """Compare each buyer's record with the events; a buyer who moved meanwhile is read again."""
    told: dict[str, set[str]] = defaultdict(set)
    for buyer, hold_id in replay.books.holds:
        told[buyer].add(hold_id)
    problems: list[str] = []
    for buyer in (records.keys() | told.keys()) - unreadable:
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
        problems.append(f"{hold_name(buyer, hold_id)} is in the ledger, not in the buyer's record")
    for hold_id, hold in by_id.items():
        folded = books.holds.get((buyer, hold_id))
        if folded is None:
            if books.from_start:
                problems.append(f"{hold_name(buyer, hold_id)} is in the record, not in the ledger")
            continue
        # A reader is shown a due hold as expired before any script has swept it.
        states = {folded.state, HoldState.EXPIRED if folded.state is HoldState.HELD else None}
        if folded.state is not None and hold.state not in states:
            problems.append(
                f"{hold_name(buyer, hold_id)} is {hold.state.value}, the ledger says "
                f"{folded.state.value}"
            )
        elif folded.known and (hold.lines != folded.lines or hold.sold != dict(folded.sold)):
            problems.append(f"{hold_name(buyer, hold_id)} has other lines than the ledger says")
        elif folded.known and hold.refunds != folded.refunds:
            problems.append(f"{hold_name(buyer, hold_id)} has other refunds than the ledger says")
        elif folded.known and (hold.deadline_ms, hold.original_deadline_ms) != (
            folded.deadline_ms,
            folded.original_deadline_ms,
        ):
            problems.append(
                f"{hold_name(buyer, hold_id)} has another deadline than the ledger says"
            )
    return problems


# --- trimming -----------------------------------------------------------------------------


def trim(sale: str) -> Operation[int]:
    """Trim the ledger behind every reader and the deadlines' cursor; the new checkpoint.

    The last entry stays. The checkpoint keeps the balances, so that an audit still adds up. If
    somebody else trims at the same time, this stops at their checkpoint.
    """
    return (yield from computed(_trim(sale)))


def _trim(sale: str) -> Operation[int]:
    try:
        return (yield from _trim_pieces(sale))
    except Trimmed as error:  # somebody else trims it as well
        return error.checkpoint


def _trim_pieces(sale: str) -> Operation[int]:
    now = yield from views.snapshot(sale)
    page = yield from checkpoint_of(sale, now)
    upto = min([page.cursor - 1, page.sequence - 1, *page.readers.values()])
    if upto <= page.checkpoint_sequence:
        return page.checkpoint_sequence
    replay, reached = Replay(now.sale, page), page.checkpoint_sequence
    while reached < upto:
        step = min(upto, reached + ledger.TRIM_MAX)
        yield from replay.to(step)
        before = reached
        reached = yield from ledger.trim_to(sale, before, step, replay.books.checkpoint())
        if reached != step:  # somebody else trims it as well
            break
    return reached
