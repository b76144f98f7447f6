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
import sys
import time
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from flashsale import Answer, HoldRequest
from flashsale.keys import ShardKeys
from stateful.drawing import definitions, forms, parts, requests
from stateful.rules import SaleMachine
from stateful.together import hold_together
from support.lab import T0
from support.shells import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHORT = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    phases=[Phase.generate],  # looking for a smaller example takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
LONG = settings(SHORT, max_examples=2_000, stateful_step_count=60)
LONG_AND_SHRINK = settings(LONG, phases=tuple(Phase))


class HeldTimeMachine(SaleMachine):
    """The sale's time is far in the future and stands still until the machine moves it.

    So deadlines, opening and closing are met to the millisecond, and a failure repeats.
    """

    def start_ms(self) -> int:
        return T0

    @initialize(definition=definitions())
    def open(self, definition: dict[str, Any]) -> None:
        super().open(definition)
        self.move_to(T0)

    def move_to(self, at_ms: int) -> None:
        self.raw.hset(ShardKeys.of(self.sale.id).sale, "now", at_ms)
        self.at_ms = at_ms

    @rule(milliseconds=st.sampled_from([1, 10, 29, 30, 100, 70_000]))
    def move(self, milliseconds: int) -> None:
        if not self.model.purged:
            self.move_to(self.at_ms + milliseconds)

    @rule(before=st.sampled_from([0, 0, 1]))
    def move_to_next_deadline(self, before: int) -> None:
        if not self.model.purged:
            due_ms = self.model.snapshot(now_ms=self.at_ms).due_at_ms
            self.move_to(max(self.at_ms, (due_ms or 0) - before))

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


class _Runs:
    """A machine's run through one shell, with the settings asked for."""

    machine: ClassVar[type[SaleMachine]]
    shell: ClassVar[str]
    short: ClassVar[settings] = SHORT

    @pytest.fixture(autouse=True)
    def _connected(
        self,
        request: pytest.FixtureRequest,
        server_url: str,
        raw: redis.Redis,
        new_sale_id: Callable[[], str],
    ) -> Iterator[None]:
        type(self).settings = self.short
        if request.config.getoption("--long"):
            held = issubclass(self.machine, HeldTimeMachine)
            type(self).settings = LONG_AND_SHRINK if held else LONG
        self.machine.raw, self.machine.new_sale_id = raw, staticmethod(new_sale_id)
        with connect(self.shell, server_url) as self.machine.shop:
            yield
        if self.machine.disagreement:
            sys.stderr.write(f"the last disagreement, in sale {self.machine.disagreement}\n")


@pytest.mark.timeout(3_600)
class TestHeldTimeThroughTheSyncShell(_Runs, SyncHeldTime.TestCase):
    machine, shell = SyncHeldTime, "sync"


@pytest.mark.timeout(3_600)
class TestHeldTimeThroughTheAsyncShell(_Runs, AsyncHeldTime.TestCase):
    machine, shell = AsyncHeldTime, "async"


@pytest.mark.timeout(3_600)
class TestRealTimeThroughTheSyncShell(_Runs, SyncRealTime.TestCase):
    machine, shell = SyncRealTime, "sync"


@pytest.mark.timeout(3_600)
class TestRealTimeThroughTheAsyncShell(_Runs, AsyncRealTime.TestCase):
    machine, shell = AsyncRealTime, "async"
