"""The race's judge: the ledger replayed by a second hand, and what callers were told."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from flashsale import Event, EventKind, Hold, HoldState, Outcome, Sale

Key = tuple[str, str]


class SecondHand:
    """Replays a sale's events one by one and asserts after each that nothing is wrong.

    No event takes what is not there, none ends what had not begun, and no buyer is above a
    limit at any time.
    """

    def __init__(self, definition: Sale) -> None:
        self._definition = definition
        self._available = {sku.id: sku.stock for sku in definition.skus}
        self._held: dict[Key, Counter[str]] = defaultdict(Counter)
        self._sold: dict[Key, Counter[str]] = defaultdict(Counter)
        self._ids: dict[str, set[Key]] = defaultdict(set)

    def replay(self, events: list[Event]) -> None:
        for event in events:
            self._apply(event, (event.buyer, event.hold_id), Counter(event.lines))

    def _apply(self, event: Event, key: Key, lines: Counter[str]) -> None:
        match event.kind:
            case EventKind.HELD | EventKind.TOMBSTONE | EventKind.RETAKEN:
                assert (event.kind is EventKind.RETAKEN) == (key in self._ids[event.buyer]), event
                self._ids[event.buyer].add(key)
                self._held[key] += lines
                self._add_to_available(lines, -1, event)
                self._check_limits(event)
            case EventKind.CONFIRMED:
                self._take_from(self._held[key], lines, event)
                self._sold[key] += lines
            case EventKind.DROPPED | EventKind.RELEASED | EventKind.EXPIRED:
                self._take_from(self._held[key], lines, event)
                self._add_to_available(lines, 1, event)
            case EventKind.REFUNDED:
                self._take_from(self._sold[key], lines, event)
                self._add_to_available(lines, 1, event)
            case EventKind.RESTOCKED:
                self._add_to_available(lines, 1, event)

    def _add_to_available(self, lines: Counter[str], sign: int, event: Event) -> None:
        for sku, qty in lines.items():
            self._available[sku] += sign * qty
            assert self._available[sku] >= 0, f"oversold: {event}"

    @staticmethod
    def _take_from(source: Counter[str], lines: Counter[str], event: Event) -> None:
        source.subtract(lines)
        assert all(qty >= 0 for qty in source.values()), event

    def _check_limits(self, event: Event) -> None:
        total: Counter[str] = Counter()
        for key in self._ids[event.buyer]:
            total += self._held[key] + self._sold[key]
        for sku in self._definition.skus:
            assert sku.limit is None or total[sku.id] <= sku.limit, (event, total)
        limit = self._definition.limit
        assert limit is None or total.total() <= limit, (event, total)


def what_callers_were_told_is_true(
    notes: list[dict[str, Any]], events: list[Event], holds: dict[Key, Hold]
) -> None:
    by_hold: dict[Key, list[Event]] = defaultdict(list)
    for event in events:
        by_hold[event.buyer, event.hold_id].append(event)
    restocks = Counter(e.op_id for e in events if e.kind is EventKind.RESTOCKED)
    for note in notes:
        if "told" in note:
            key = (note["buyer"], note["hold_id"])
            if note["told"] == "restock":
                if note["outcome"] == Outcome.RESTOCKED.value:
                    assert restocks[note["op_id"]] == 1, note
            else:
                is_true(note, holds.get(key), by_hold[key])
        elif "found" in note:
            assert (note["buyer"], note["found"]) in holds, note


def is_true(note: dict[str, Any], hold: Hold | None, events: list[Event]) -> None:
    happened = Counter(event.kind for event in events)
    match note["told"], note["outcome"]:
        case "hold", "held":
            assert hold is not None, note
            assert happened[EventKind.HELD] == 1, note
            assert hold.original_deadline_ms == note["deadline"], (note, hold)
        case "confirm", "confirmed":
            assert hold is not None, note
            assert hold.state in (HoldState.CONFIRMED, HoldState.REFUNDED), (note, hold)
            assert happened[EventKind.CONFIRMED] == 1, note
            (sold,) = [event.lines for event in events if event.kind is EventKind.CONFIRMED]
            assert sold == (note.get("lines") or hold.lines), (note, hold)
        case "release", "released":
            assert hold is not None, note
            assert hold.state is HoldState.RELEASED, (note, hold)
            assert happened[EventKind.CONFIRMED] == 0, note
        case "extend", "extended":
            deadlines = {event.deadline_ms for event in events if event.deadline_ms is not None}
            assert note["deadline"] in deadlines, (note, events)
        case "refund", "refunded":
            assert hold is not None, note
            assert hold.refunds[note["op_id"]] == note["lines"], (note, hold)
            refunds = [event.op_id for event in events if event.kind is EventKind.REFUNDED]
            assert refunds.count(note["op_id"]) == 1, note
        case _, "unknown_hold" | "sold_out" | "limit_reached" | "expired" | "conflict":
            pass  # was true when it was said
        case _, "already_confirmed" | "not_confirmed" | "not_in_hold" | "deadline_too_far":
            pass
        case _, "released" | "too_many_refunds" | "too_many_holds" | "try_again":
            pass
        case _:
            raise AssertionError(f"no caller should be told this: {note}")
