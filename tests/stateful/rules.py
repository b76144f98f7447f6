"""Every verb of a sale as a rule of the machine."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from flashsale import Answer, HoldRequest, HoldState, InvalidRequest, Outcome, Rejected, Sale, Sku
from flashsale.testing import hostile_identifiers
from stateful.comparing import ComparingMachine
from stateful.drawing import (
    as_sent,
    changes,
    forms,
    hostile_requests,
    lateness,
    parts,
    requests,
    targets,
    unpaid,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class SaleMachine(ComparingMachine):
    """Every verb of a sale."""

    # --- holds ------------------------------------------------------------------------

    @rule(request=requests)
    def hold(self, request: HoldRequest) -> None:
        self.both(
            "hold",
            request.buyer,
            request.basket,
            hold_id=request.hold_id,
            channel=request.channel,
            note=request.note,
        )

    @rule(items=st.lists(requests | requests | requests | hostile_requests, min_size=1, max_size=8))
    def hold_many(self, items: list[HoldRequest]) -> None:
        self.both_many("hold_many", items)

    @rule(request=requests, times=st.integers(1, 3), others=st.lists(requests, max_size=3))
    def hold_the_same_in_a_batch(
        self, request: HoldRequest, times: int, others: list[HoldRequest]
    ) -> None:
        self.both_many("hold_many", [request] * times + others + [request])

    @rule(request=requests, form=forms, part=parts)
    def buy(self, request: HoldRequest, form: str, part: str) -> None:
        """Hold and confirm at once."""
        self.hold(request)
        hold = (request.buyer, request.hold_id)
        lines = self.lines(part, *hold)
        self.both("confirm", *hold, named=self.named(form, *hold), lines=lines)

    @rule(number=targets, state=unpaid, form=forms, part=parts, late=lateness)
    def confirm(self, number: int, state: HoldState, form: str, part: str, late: str) -> None:
        hold = self.target(number, state)
        lines = self.lines(part, *hold)
        self.both("confirm", *hold, named=self.named(form, *hold), lines=lines, late=late)

    @rule(numbers=st.lists(targets, min_size=1, max_size=4), late=lateness)
    def confirm_many(self, numbers: list[int], late: str) -> None:
        self.both_many("confirm_many", self.refs(numbers), late=late)

    @rule(number=targets, form=forms)
    def release(self, number: int, form: str) -> None:
        hold = self.target(number, HoldState.HELD)
        self.both("release", *hold, named=self.named(form, *hold))

    @rule(numbers=st.lists(targets, min_size=1, max_size=2))
    def release_many(self, numbers: list[int]) -> None:
        self.both_many("release_many", self.refs(numbers))

    def refs(self, numbers: list[int]) -> list[str]:
        holds = [self.target(number, HoldState.HELD) for number in numbers]
        return [Answer(Outcome.HELD, self.sale.id, *hold).ref for hold in holds]

    @rule(
        number=targets,
        form=forms,
        later_ms=st.sampled_from([-10, 0, 1, 20, 50, 51, 1_000, 3_600_000, 3_600_001]),
    )
    def extend(self, number: int, form: str, later_ms: int) -> None:
        hold = self.target(number, HoldState.HELD)
        known = None if self.model.purged else self.model.find(*hold, now_ms=self.at_ms)
        base = (known and known.original_deadline_ms) or self.at_ms
        deadline_ms = base + later_ms
        self.both("extend", *hold, named=self.named(form, *hold), deadline_ms=deadline_ms)

    @rule(
        number=targets,
        form=forms,
        part=parts,
        other=as_sent,
        op_id=st.sampled_from(["r1", "r2", "r3"]),
    )
    def refund(self, number: int, form: str, part: str, other: Any, op_id: str) -> None:
        hold = self.target(number, HoldState.CONFIRMED)
        lines = self.lines(part, *hold) or other
        self.both("refund", *hold, named=self.named(form, *hold), lines=lines, op_id=op_id)

    # --- the sale ---------------------------------------------------------------------

    @rule(changes=changes, op_id=st.sampled_from([f"truck-{n}" for n in range(8)]))
    def restock(self, changes: dict[str, int], op_id: str) -> None:
        self.both("restock", changes, op_id=op_id)

    @rule(verb=st.sampled_from(["resume"] * 6 + ["pause"] * 3 + ["end"]))
    def switch(self, verb: str) -> None:
        self.both(verb)

    @rule()
    def purge(self) -> None:
        answer = self.handle.purge()
        self.done.append(f"purge, with readers at {self.readers} of {self.sequence}\n    {answer}")
        self.go_to(answer.at_ms)
        last = self.sequence + self.something_is_due()
        behind = any(finished < last for finished in self.readers.values())
        self.equal("purge", answer, self.model.purge(now_ms=self.at_ms, readers_behind=behind))

    def something_is_due(self) -> bool:
        """Whether the call writes an entry of its own, because it sweeps on its way."""
        if self.model.purged:
            return False
        due_ms = self.model.snapshot(now_ms=self.at_ms).due_at_ms
        return due_ms is not None and due_ms <= self.at_ms

    @rule(other=st.booleans())
    def open_again(self, other: bool) -> None:
        sale = Sale(self.sale.id, skus=[Sku("red", 99)]) if other else self.sale
        expected = copy.deepcopy(self.model).open(sale, now_ms=self.at_ms).outcome
        if expected is Outcome.OPENED:
            assert self.shop.open(sale).id == self.sale.id
            return
        with pytest.raises(Rejected) as rejected:
            self.shop.open(sale)
        assert rejected.value.outcome is expected

    @rule()
    def expire(self) -> None:
        """`expire` does not say when it looked; its ledger entry does."""
        if self.model.purged:
            with pytest.raises(Rejected, match="purged"):
                self.handle.expire()
            return
        swept = self.handle.expire()
        for entry in self.handle.ledger.read(after=self.sequence).entries:
            self.go_to(entry.at_ms)
        self.done.append(f"expire {swept}")
        modelled = self.model.expire(now_ms=self.at_ms)
        self.agree(swept == modelled, "expire", swept, modelled)

    # --- the ledger's readers ---------------------------------------------------------

    @rule(reader=st.sampled_from(["sink", "mail"]), behind=st.sampled_from([0, 0, 1, 3, None]))
    def read_or_forget(self, reader: str, behind: int | None) -> None:
        if self.model.purged:
            return
        if behind is None:
            self.handle.ledger.forget(reader)
            self.readers.pop(reader, None)
            return
        start = self.handle.ledger.register(reader)
        assert start == self.readers.get(reader, self.trimmed)
        finished = max(start, self.sequence - behind)
        self.readers[reader] = self.handle.ledger.ack(reader, finished)
        assert self.readers[reader] == finished

    @rule()
    def trim(self) -> None:
        if not self.model.purged:
            trimmed = self.handle.ledger.trim()
            assert self.trimmed <= trimmed < self.sequence
            assert all(trimmed <= max(self.trimmed, done) for done in self.readers.values())
            self.trimmed = trimmed
            self.done.append(f"trim {trimmed}, with readers at {self.readers}")

    # --- what must be refused before it is sent ---------------------------------------

    @rule(request=hostile_requests, bad=hostile_identifiers(), good=st.sampled_from(["ann", "h1"]))
    def refuse(self, request: HoldRequest, bad: Any, good: str) -> None:
        changes = {bad: 1} if isinstance(bad, str) else bad
        verbs: list[Callable[[], object]] = [
            lambda: self.handle.hold(request.buyer, request.basket, hold_id=request.hold_id),
            lambda: self.handle.confirm(good, bad),
            lambda: self.handle.release(good, bad),
            lambda: self.handle.extend(good, bad, deadline_ms=self.at_ms),
            lambda: self.handle.refund(good, good, lines={"red": 1}, op_id=bad),
            lambda: self.handle.restock({"red": 1}, op_id=bad),
            lambda: self.handle.restock(changes, op_id=good),
            lambda: self.handle.holds_of(bad),
        ]
        for verb in verbs:
            with pytest.raises(InvalidRequest):
                verb()
