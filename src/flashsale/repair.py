"""A torn ledger entry, applied: forward only, to records and counters, in bounded calls.

No script stops between its first write and its last by itself. Should one have been stopped all the
same, its ledger entry is there (a reader may have seen it) and some of what it tells is not. From
then on no script writes to that sale's stock, so each record and counter is as it was before the
entry or as it is after it. Whatever is neither is named, and then nothing is changed. What a key or
a turn was used for is not in the ledger: it may stay counted low, by one call's holds.
"""

from __future__ import annotations

import copy
from contextlib import suppress

from flashsale import limits, views
from flashsale.baskets import encode
from flashsale.books import (
    COUNTERS,
    Books,
    Replay,
    checkpoint_of,
    entries_behind,
    entries_name,
    hold_name,
    restarted,
)
from flashsale.calls import Call, Operation, computed, expect, outcome_of
from flashsale.errors import Rejected
from flashsale.keys import CueKeys, ShardKeys
from flashsale.ledger import Entry, EventKind
from flashsale.models import Outcome, RepairReport, Snapshot
from flashsale.scripts import load_script

ATTEMPTS = 4
"""How often a repair looks, at most, for what is torn, where others repair the sale as well."""

_LETTERS = dict(zip(COUNTERS, "taxhs", strict=True))


def repair(sale: str) -> Operation[RepairReport]:
    """Apply the torn entry of a sale's ledger, if there is one; safe to call at any time."""
    return (yield from computed(restarted(_repair, limits.check_id("sale", sale))))


class _Overtaken(Rejected):
    """The entry is not the torn one, or no longer: somebody else has repaired it."""


def _repair(sale: str) -> Operation[RepairReport]:
    for _ in range(ATTEMPTS - 1):
        with suppress(_Overtaken):
            return (yield from _repair_once(sale))
    return (yield from _repair_once(sale))


def _repair_once(sale: str) -> Operation[RepairReport]:
    now = yield from views.snapshot(sale)
    behind = yield from entries_behind(sale, now)
    if not behind:
        return RepairReport(sale)
    torn = behind[0]
    name = f"{torn.epoch}-{torn.sequence}"
    if len(behind) > 1:
        stored = f"{now.epoch}-{now.sequence}, the sale's stored sequence"
        why = f"ledger: {entries_name(behind)} are behind {stored}: none can be told to be the torn"
        return RepairReport(sale, name, (f"{why}, and nothing is changed",))
    if (torn.epoch, torn.sequence) != (now.epoch, now.sequence + 1):
        why = f"ledger: entry {name} does not follow {now.epoch}-{now.sequence}, the sale's last"
        return RepairReport(sale, name, (why,))
    replay = Replay(now.sale, (yield from checkpoint_of(sale, now)))
    yield from replay.to(now.sequence)
    before = copy.deepcopy(replay.books)
    replay.take(torn)
    problems = [*replay.books.problems, *_neither(before, replay.books, now, name)]
    wrong = yield from views.key_states(sale, sorted({e.cue for e in torn.events if e.cue}))
    unopened = _unopened(torn, before, wrong)
    problems += yield from _parts_neither(sale, before, replay, name)
    problems += yield from _buyers(sale, torn, "check")
    if problems:
        return RepairReport(sale, name, tuple(problems))
    yield from _buyers(sale, torn, "apply")
    values = _values(replay.books, torn, unopened)
    _, _, code, _, _ = yield from _step(sale, torn, "finish", 0, encode(values))
    _reject(sale, code)
    return RepairReport(sale, name, given_back=tuple(unopened))


def _step(
    sale: str, torn: Entry, verb: str, start: int, values: bytes = b""
) -> Operation[list[object]]:
    own, theirs = ShardKeys.of(sale), CueKeys.of(sale, torn.winners_of or _voided(torn))
    keys = (
        own.sale,
        own.skus,
        own.stock,
        own.buyers,
        own.ledger,
        own.deadlines,
        own.restocks,
        own.cues,
    )
    args = (torn.sequence, verb, start, values)
    call = Call(load_script("ledger/repair"), (*keys, theirs.cue, theirs.awarded), args)
    return expect((yield call), 5, "repair")


def _voided(torn: Entry) -> str:
    """The cue that the entry voids, or "": no entry voids two, or one that has winners."""
    return next((event.cue for event in torn.events if event.kind is EventKind.VOIDED), "")


def _reject(sale: str, code: object) -> None:
    if isinstance(code, bytes) and code:
        outcome = outcome_of(code.decode(), "repair")
        kind = _Overtaken if outcome is Outcome.CONFLICT else Rejected
        raise kind(outcome, f"sale {sale!r}")


def _neither(before: Books, after: Books, now: Snapshot, name: str) -> list[str]:
    """Counters that are neither what they were before the entry nor what they are after it."""
    return [
        f"sku {sku!r}: {counter} is {is_now}, before entry {name} it was "
        f"{before.balances[sku][counter]}, after it {after.balances[sku][counter]}"
        for sku, view in now.skus.items()
        for counter in COUNTERS
        for is_now in [getattr(view, counter)]
        if is_now not in (before.balances[sku][counter], after.balances[sku][counter])
    ]


def _parts_neither(sale: str, before: Books, replay: Replay, name: str) -> Operation[list[str]]:
    """The same of each cue's part of what is set aside."""
    skus = replay.names.skus
    parts: views.Parts = {}
    cursor = ""
    while cursor != "0":  # nothing changes meanwhile: see lua/ledger/repair.lua
        cursor, _, page = yield from views.parts(sale, skus, cursor or "0")
        for cue, own in page.items():
            parts.setdefault(cue, {}).update(own)
    return [
        f"cue {cue!r}: {is_now} of {sku!r} are set aside, neither what it was before entry {name} "
        "nor what it is after it"
        for cue in sorted(parts.keys() | replay.books.parts.keys())
        for sku in skus
        for is_now in [parts.get(cue, {}).get(sku, 0)]
        if is_now not in (before.parts[cue][sku], replay.books.parts[cue][sku])
    ]


def _buyers(sale: str, torn: Entry, verb: str) -> Operation[list[str]]:
    """Check the records of the entry's buyers, or apply what they lack, some of them a call."""
    problems, start = [], 1
    while start:
        step = yield from _step(sale, torn, verb, start)
        _, _, code, following, unsure = step
        _reject(sale, code)
        assert isinstance(following, int)
        assert isinstance(unsure, list)
        start = following
        problems += [
            f"{hold_name(unsure[at].decode(), unsure[at + 1].decode())} is neither what it was "
            f"before entry {torn.epoch}-{torn.sequence} nor what it is after it"
            for at in range(0, len(unsure), 2)
        ]
    return problems


def _unopened(torn: Entry, before: Books, wrong: dict[str, str]) -> list[str]:
    """Cues that the entry sets something aside for and that were never opened."""
    return [
        event.cue
        for event in torn.events
        if event.kind is EventKind.SET_ASIDE
        and not any(before.parts[event.cue].values())
        and any(qty > 0 for qty in event.lines.values())
        and wrong.get(f"cue:{event.cue}") == "missing"
    ]


def _source(torn: Entry) -> str | None:
    """The void cue that the entry takes stock from for another, or None.

    Nothing else in an opening's entry lessens what a cue sets aside, but the end of its reserve.
    """
    for event in torn.events:
        is_less = any(qty < 0 for qty in event.lines.values())
        if event.kind is EventKind.SET_ASIDE and is_less and event.cue not in torn.ended:
            return event.cue
    return None


def _values(books: Books, torn: Entry, unopened: list[str]) -> list[object]:
    """What the last step writes; see the script's header."""
    index = {sku.id: n for n, sku in enumerate(books.sale.skus)}
    given: list[list[str | int]] = []
    for cue in unopened:
        source = _source(torn)
        given += [[cue]] if source is None else [[cue], [source]]
        for sku, qty in books.parts[cue].items():
            given[0] += (index[sku], -qty)
            if source is not None:
                given[1] += (index[sku], qty)
                books.parts[source][sku] += qty
                continue
            books.balances[sku]["available"] += qty
            books.balances[sku]["set_aside"] -= qty
    over = [*torn.ended, *unopened]
    units: list[str | int] = []
    for sku in {sku for event in torn.events for sku in event.lines}:
        for counter, letter in _LETTERS.items():
            units += (f"{index[sku]}{letter}", books.balances[sku][counter])
    gone = [f"{letter}:{cue}" for cue in over for letter in "xy"]
    for cue in {event.cue for event in torn.events if event.cue}:
        for sku, qty in books.parts[cue].items():
            if cue in over:
                gone.append(f"{index[sku]}x:{cue}")
            else:
                units += (f"{index[sku]}x:{cue}", qty)
    seats = sum(balance["set_aside"] for balance in books.balances.values())
    return [units, gone, over, given, seats]
