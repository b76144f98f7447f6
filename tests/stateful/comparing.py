"""Asking the engine and the oracle the same, and holding everything against everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import pytest
import redis
from hypothesis import event
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

from flashsale import (
    Answer,
    FlashSale,
    HoldState,
    InvalidRequest,
    Outcome,
    Rejected,
    Sale,
    SaleHandle,
)
from flashsale.testing import OracleSale
from stateful.drawing import BUYERS, HOLD_IDS, definitions, from_now

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flashsale import Entry, Event, Hold


class ComparingMachine(RuleBasedStateMachine):
    """One sale of a real server and its model, moment by moment.

    `at_ms` is the time of the engine's last answer, `sequence` its last ledger entry.
    """

    shop: ClassVar[FlashSale]
    raw: ClassVar[redis.Redis]
    new_sale_id: ClassVar[Callable[[], str]]
    disagreement: ClassVar[str] = ""

    sale: Sale
    handle: SaleHandle
    oracle: OracleSale | None = None
    at_ms: int
    sequence: int

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []
        self.trimmed = 0
        self.readers: dict[str, int] = {}

    @initialize(definition=definitions())
    def open(self, definition: dict[str, Any]) -> None:
        self.sale = from_now(type(self).new_sale_id(), definition, self.start_ms())
        self.handle = self.shop.open(self.sale)
        (opened,) = self.handle.ledger.read().entries
        self.at_ms, self.sequence = opened.at_ms, opened.sequence
        self.oracle = OracleSale(self.sale, now_ms=opened.at_ms)

    def start_ms(self) -> int:
        """The time around which the sale opens and closes."""
        raise NotImplementedError

    # --- asking both ------------------------------------------------------------------

    @property
    def model(self) -> OracleSale:
        assert self.oracle is not None
        return self.oracle

    def both(self, verb: str, *args: Any, named: tuple[Any, ...] | None = None, **kw: Any) -> None:
        """Ask the engine, then the oracle for the same moment.

        named: what the engine is given in place of `args`.
        """
        answer = getattr(self.handle, verb)(*(args if named is None else named), **kw)
        self.done.append(f"{verb} {args} {kw}\n    {answer}")
        self.go_to(answer.at_ms)
        self.equal(verb, answer, getattr(self.model, verb)(*args, **kw, now_ms=self.at_ms))

    def both_many(self, verb: str, items: Sequence[Any], **kw: Any) -> None:
        """A bulk call: one batch, one moment, every item in its place."""
        answers = getattr(self.handle, verb)(items, **kw)
        self.done.append("\n    ".join([f"{verb} {items} {kw}", *map(repr, answers)]))
        moments = {answer.at_ms for answer in answers if isinstance(answer, Answer)}
        assert len(moments) <= 1
        if moments:
            self.go_to(moments.pop())
            expected = getattr(self.model, verb)(items, **kw, now_ms=self.at_ms)
            for real, modelled in zip(answers, expected, strict=True):
                self.equal(verb, real, modelled)
        else:
            assert all(isinstance(answer, InvalidRequest) for answer in answers), answers

    def go_to(self, at_ms: int) -> None:
        """The shard's time never goes back, until a purge leaves none to keep."""
        assert at_ms >= self.at_ms or self.model.purged, (self.at_ms, at_ms)
        self.at_ms = at_ms

    def equal(self, verb: str, real: Any, modelled: Any) -> None:
        if isinstance(real, Answer):
            event(f"{verb}: {real.outcome.value}{' replayed' if real.replayed else ''}")
            self.agree(real == modelled, verb, real, modelled)
        else:
            same = (type(real), real.args) == (type(modelled), modelled.args)
            self.agree(same, verb, real, modelled)

    def agree(self, they_do: bool, what: str, real: object, modelled: object) -> None:
        """Raise if they do not, and keep what led to it: a run in real time may not repeat."""
        if they_do:
            return
        text = f"{what}\n  engine: {real}\n  oracle: {modelled}"
        type(self).disagreement = "\n".join([self.sale.id, *self.done, "", text])
        raise AssertionError(text)

    # --- naming holds and lines -------------------------------------------------------

    def target(self, number: int, state: HoldState) -> tuple[str, str]:
        """Mostly a hold in this state, sometimes another one, sometimes an unknown id."""
        holds: list[Hold] = []
        if not self.model.purged:
            for buyer in BUYERS:
                holds += self.model.holds_of(buyer, now_ms=self.at_ms)
        if number < 12:
            holds = [hold for hold in holds if hold.lines and hold.state is state] or holds
        if holds and number < 18:
            hold = holds[number % len(holds)]
            return hold.buyer, hold.hold_id
        return BUYERS[number % len(BUYERS)], HOLD_IDS[number % len(HOLD_IDS)]

    def named(self, form: str, buyer: str, hold_id: str) -> tuple[Any, ...]:
        """The arguments with which a caller names a hold."""
        answer = Answer(Outcome.HELD, self.sale.id, buyer, hold_id)
        if form == "hold" and not self.model.purged:
            hold = self.handle.find(buyer, hold_id)
            return (buyer, hold_id) if hold is None else (hold,)
        return {"ref": (answer.ref,), "answer": (answer,)}.get(form, (buyer, hold_id))

    def lines(self, part: str, buyer: str, hold_id: str) -> dict[str, int] | None:
        """Some lines of a hold; "whole" says none, which means all of it."""
        hold = None
        if not self.model.purged:
            hold = self.model.find(buyer, hold_id, now_ms=self.at_ms)
        lines = dict(hold.lines) if hold else {}
        if part == "whole":
            return None
        if part == "alien" or not lines:
            return {"green": 1, "grey": 1}
        first = min(lines)
        if part == "all lines":
            return lines
        if part == "one unit":
            return {first: 1}
        if part == "too much":
            return {**lines, first: lines[first] + 1}
        lines[first] -= 1
        return {sku: qty for sku, qty in lines.items() if qty} or {first: 1}

    # --- after every step -------------------------------------------------------------

    @invariant()
    def everything_is_equal_and_the_books_are_right(self) -> None:
        if self.oracle is None:
            return
        self.oracle.check()
        if self.oracle.purged:
            with pytest.raises(Rejected, match="purged"):
                self.handle.snapshot()
            return
        earliest = self.snapshot_is_equal()
        holds = {buyer: self.handle.holds_of(buyer) for buyer in BUYERS}
        latest = self.snapshot_is_equal()
        for buyer in BUYERS:
            self.holds_are_equal(buyer, holds[buyer], earliest, latest)
        self.ledger_is_equal()
        report = self.handle.audit()
        self.agree(report.ok, "audit", report.problems, "nothing to complain of")

    def snapshot_is_equal(self) -> int:
        real = self.handle.snapshot()
        assert real.at_ms >= self.at_ms
        modelled = self.model.snapshot(now_ms=real.at_ms)
        if modelled.due_at_ms is not None:
            assert real.due_at_ms is not None
            assert real.due_at_ms <= modelled.due_at_ms
        modelled = msgspec.structs.replace(
            modelled, due_at_ms=real.due_at_ms, sequence=real.sequence
        )
        self.agree(real == modelled, "snapshot", real, modelled)
        self.sequence = real.sequence
        return real.at_ms

    def holds_are_equal(self, buyer: str, real: list[Hold], earliest: int, latest: int) -> None:
        """Each hold as it was at some moment between two: it may have fallen due meanwhile."""
        first = self.model.holds_of(buyer, now_ms=earliest)
        last = self.model.holds_of(buyer, now_ms=latest)
        self.agree(len(real) == len(first), "holds_of", real, first)
        for ours, at_first, at_last in zip(real, first, last, strict=True):
            self.agree(ours in (at_first, at_last), "holds_of", ours, at_last)

    def ledger_is_equal(self) -> None:
        entries = self.handle.ledger.read(after=self.trimmed, count=1_000).entries
        numbers = list(range(self.trimmed + 1, self.sequence + 1))
        assert [entry.sequence for entry in entries] == numbers
        assert all(entry.epoch == 1 and entry.events for entry in entries)
        if not self.trimmed:
            modelled = self.model.entries
        else:
            # What shares a moment with a trimmed entry may be trimmed or not.
            start_ms = entries[0].at_ms
            entries = tuple(entry for entry in entries if entry.at_ms > start_ms)
            modelled = tuple(entry for entry in self.model.entries if entry.at_ms > start_ms)
        ours, theirs = _by_moment(entries), _by_moment(modelled)
        self.agree(ours == theirs, "ledger", ours, theirs)


def _by_moment(entries: Sequence[Entry]) -> dict[int, list[Event]]:
    """The events of each moment in one order.

    Calls made together may or may not share an entry, and an entry tells its events kind by
    kind.
    """
    moments: dict[int, list[Event]] = {}
    for entry in entries:
        moments.setdefault(entry.at_ms, []).extend(entry.events)
    for events in moments.values():
        events.sort(key=lambda e: (e.kind.value, e.buyer, e.hold_id, e.op_id, e.text))
    return moments
