"""The specification at work: random calls to a real server, each answer held against the oracle.

The engine is asked first. Its answer names the moment of the decision, the oracle is asked
for that very moment, and the two answers must be equal in every field. After every step all
figures, all holds and the ledger must be equal too, and the audit must find nothing.

Half of the machines hold the sale's time and half let it pass. A failure is told as it was
found. `--long` runs many more examples, and looks for a small one where time is held.
"""

from __future__ import annotations

import copy
import itertools
import time

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from flashsale import Answer, HoldRequest
from stateful.drawing import forms, parts, requests
from stateful.held_time import HeldTime
from stateful.rules import SaleMachine
from stateful.running import Runs
from stateful.together import hold_together


class HeldTimeMachine(HeldTime, SaleMachine):
    """Whoever pays exactly at the deadline, or later, after somebody else came."""

    @rule(
        request=requests,
        meanwhile=st.none() | requests,
        form=forms,
        part=parts,
        late=st.sampled_from(["retake", "retake", "refuse"]),
    )
    def pay_late(
        self,
        request: HoldRequest,
        meanwhile: HoldRequest | None,
        form: str,
        part: str,
        late: str,
    ) -> None:
        """Hold, let it expire, let somebody else come, and confirm."""
        self.hold(request)
        self.move_to_next_deadline(0)
        if meanwhile is not None:
            self.hold(meanwhile)
        hold = (request.buyer, request.hold_id)
        lines = self.lines(part, *hold)
        self.both("confirm", *hold, named=self.named(form, *hold), lines=lines, late=late)


class RealTimeMachine(SaleMachine):
    """Time passes, and calls are made at the same time."""

    def start_ms(self) -> int:
        return time.time_ns() // 1_000_000

    @rule(milliseconds=st.sampled_from([1, 5, 20, 35]))
    def wait(self, milliseconds: int) -> None:
        time.sleep(milliseconds / 1_000)

    @rule(items=st.lists(requests, min_size=2, max_size=4))
    def hold_together(self, items: list[HoldRequest]) -> None:
        """Concurrent calls are judged as if one had come after the other, in some order."""
        answers = hold_together(self.handle, items)
        in_time = sorted(range(len(items)), key=lambda n: answers[n].at_ms)
        for order in itertools.permutations(in_time):
            times = [answers[n].at_ms for n in order]
            if times == sorted(times) and self.explained_by(order, items, answers):
                return
        self.agree(False, "no order of these calls explains the answers", answers, items)

    def explained_by(
        self, order: tuple[int, ...], items: list[HoldRequest], answers: list[Answer]
    ) -> bool:
        trial = copy.deepcopy(self.model)
        for n in order:
            if trial.hold_many([items[n]], now_ms=answers[n].at_ms) != [answers[n]]:
                return False
        self.oracle = trial
        self.done.append(f"together, in the order {order}: {items}\n    {answers}")
        self.go_to(answers[order[-1]].at_ms)
        return True


class SyncHeldTime(HeldTimeMachine):
    pass


class AsyncHeldTime(HeldTimeMachine):
    pass


class SyncRealTime(RealTimeMachine):
    pass


class AsyncRealTime(RealTimeMachine):
    pass


@pytest.mark.timeout(3_600)
class TestHeldTimeThroughTheSyncShell(Runs, SyncHeldTime.TestCase):
    machine, shell = SyncHeldTime, "sync"


@pytest.mark.timeout(3_600)
class TestHeldTimeThroughTheAsyncShell(Runs, AsyncHeldTime.TestCase):
    machine, shell = AsyncHeldTime, "async"


@pytest.mark.timeout(3_600)
class TestRealTimeThroughTheSyncShell(Runs, SyncRealTime.TestCase):
    machine, shell = SyncRealTime, "sync"


@pytest.mark.timeout(3_600)
class TestRealTimeThroughTheAsyncShell(Runs, AsyncRealTime.TestCase):
    machine, shell = AsyncRealTime, "async"
