from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Sequence

import pytest

from flashsale import Answer, FlashSaleError, HoldRequest, HoldState, Outcome, OutcomeUnknown
from flashsale import ProtocolError as FlashSaleProtocolError
from flashsale.rehearsal import Driver, Plan, Progress
from flashsale.rehearsal.crowd import Fate
from flashsale.rehearsal.facts import NEVER, Facts, Verb

DEADLINE_MS = 1_763_900_000_000


class Scripted:
    """A sale that holds everything, and notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.until: Callable[[], bool] = lambda: True
        self.lose_confirms = 0
        self.busy = self.most_busy = 0

    async def hold_many(self, requests: Sequence[HoldRequest]) -> list[Answer | FlashSaleError]:
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        while not self.until():  # noqa: ASYNC110  (the driver has no event for it)
            await asyncio.sleep(0.01)
        self.busy -= 1
        self.asked += [("hold", one.buyer) for one in requests]
        return [
            Answer(Outcome.HELD, "s", one.buyer, one.hold_id, HoldState.HELD, DEADLINE_MS)
            for one in requests
        ]

    def _told(self, verb: str, outcome: Outcome, holds: Sequence[Answer]) -> list[Answer]:
        self.asked += [(verb, hold.buyer) for hold in holds]
        return [Answer(outcome, "s", hold.buyer, hold.hold_id) for hold in holds]

    async def confirm_many(
        self, holds: Sequence[Answer], *, late: str
    ) -> list[Answer | FlashSaleError]:
        if self.lose_confirms:
            self.lose_confirms -= 1
            raise OutcomeUnknown("lost")
        return [*self._told(f"confirm {late}", Outcome.CONFIRMED, holds)]

    async def release_many(self, holds: Sequence[Answer]) -> list[Answer | FlashSaleError]:
        return [*self._told("release", Outcome.RELEASED, holds)]

    async def extend(self, hold: Answer, *, deadline_ms: int) -> Answer:
        assert deadline_ms == DEADLINE_MS + 3_000
        return self._told("extend", Outcome.EXTENDED, [hold])[0]

    async def expire(self, max_holds: int) -> int:
        return 0


def plan_of(
    fates: Sequence[Fate], *, gap_s: float = 0.0, attempts: Sequence[tuple[int, int]] = ()
) -> Plan:
    """One order a fate; `attempts` are (order, deaf), by default one heard attempt each."""
    sent = attempts or [(order, 0) for order in range(len(fates))]
    return Plan(
        requests=[HoldRequest(f"b{n}", {"red": 1}, "o") for n in range(len(fates))],
        fates=bytes(fates),
        think_s=array("d", [0.01]) * len(fates),
        at_s=array("d", [gap_s * n for n in range(len(sent))]),
        order=array("l", [order for order, _ in sent]),
        deaf=bytes(deaf for _, deaf in sent),
        extend_ms=3_000,
        late="retake",
    )


async def drive(
    sale: Scripted, plan: Plan, *, settle_s: float = 2.0, answers_after_all: bool = False
) -> Facts:
    """`answers_after_all`: no hold is answered before every attempt was due."""
    driver = Driver(sale, plan, seconds=1, settle_s=settle_s)
    if answers_after_all:
        sale.until = lambda: driver._next == len(plan.at_s)
    return await driver.run()


async def test_holders_do_what_their_fate_is() -> None:
    sale = Scripted()
    facts = await drive(sale, plan_of([Fate.PAY, Fate.PAY_SLOWLY, Fate.CANCEL, Fate.ABANDON]))
    assert [who for who in sale.asked if who[1] == "b0"] == [
        ("hold", "b0"),
        ("confirm retake", "b0"),
    ]
    assert [who for who in sale.asked if who[1] == "b1"] == [
        ("hold", "b1"),
        ("extend", "b1"),
        ("confirm retake", "b1"),
    ]
    assert [who for who in sale.asked if who[1] == "b2"] == [("hold", "b2"), ("release", "b2")]
    assert [who for who in sale.asked if who[1] == "b3"] == [("hold", "b3")]
    assert sorted(step.verb.value for step in facts.follow_ups) == [
        "confirm",
        "confirm",
        "extend",
        "release",
    ]
    assert facts.left_over == 0


async def test_steps_come_after_their_time_to_think() -> None:
    facts = await drive(Scripted(), plan_of([Fate.PAY]))
    (step,) = facts.follow_ups
    assert step.due_s == pytest.approx(facts.answered_s[0] + 0.01)
    assert step.answered_s >= step.due_s


async def test_slow_answers_do_not_hold_up_the_attempts_that_follow() -> None:
    sale = Scripted()
    plan = plan_of([Fate.ABANDON] * 40, gap_s=0.005)
    facts = await drive(sale, plan, answers_after_all=True)
    assert max(facts.picked_s) <= min(facts.answered_s)
    assert facts.dropped == 0


async def test_what_is_due_while_all_workers_are_busy_counts_its_wait_as_latency() -> None:
    sale = Scripted()
    plan = plan_of([Fate.ABANDON] * 300, gap_s=0.001)
    facts = await drive(sale, plan, answers_after_all=True)
    assert sale.most_busy == 8
    assert max(facts.batches) > 50
    latency = [at - due for at, due in zip(facts.answered_s, plan.at_s, strict=True)]
    assert max(latency) > 0.25


async def test_attempts_beyond_the_bound_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flashsale.rehearsal.driver.IN_FLIGHT_MAX", 30)
    sale = Scripted()
    plan = plan_of([Fate.ABANDON] * 100, gap_s=0.001)
    facts = await drive(sale, plan, answers_after_all=True)
    assert facts.dropped == 70
    assert sum(result is None for result in facts.results) == 70
    assert sum(at == NEVER for at in facts.picked_s) == 70
    assert len(sale.asked) == 30


async def test_a_buyer_who_did_not_hear_acts_on_the_answer_to_the_retry() -> None:
    sale = Scripted()
    facts = await drive(sale, plan_of([Fate.PAY], gap_s=0.1, attempts=[(0, 1), (0, 0)]))
    assert sale.asked == [("hold", "b0"), ("hold", "b0"), ("confirm retake", "b0")]
    assert facts.follow_ups[0].due_s > 0.1


async def test_a_buyer_who_pressed_twice_pays_once() -> None:
    sale = Scripted()
    await drive(sale, plan_of([Fate.PAY], gap_s=0.01, attempts=[(0, 0), (0, 0)]))
    assert sale.asked.count(("confirm retake", "b0")) == 1


async def test_a_payment_whose_answer_was_lost_is_sent_again() -> None:
    sale = Scripted()
    sale.lose_confirms = 2
    facts = await drive(sale, plan_of([Fate.PAY]))
    assert sale.asked.count(("confirm retake", "b0")) == 1
    assert [type(step.result) for step in facts.follow_ups] == [
        OutcomeUnknown,
        OutcomeUnknown,
        Answer,
    ]


async def test_what_is_still_to_come_when_the_time_to_settle_is_over_is_counted() -> None:
    plan = plan_of([Fate.PAY, Fate.CANCEL])
    plan.think_s[0] = 60.0
    facts = await drive(Scripted(), plan, settle_s=0.1)
    assert facts.left_over == 1
    assert [step.verb for step in facts.follow_ups] == [Verb.RELEASE]


async def test_a_call_with_another_number_of_answers_is_an_error_of_that_call_alone() -> None:
    class OneTooMany(Scripted):
        async def hold_many(self, requests: Sequence[HoldRequest]) -> list[Answer | FlashSaleError]:
            answers = await super().hold_many(requests)
            return [*answers, answers[0]]

    facts = await drive(OneTooMany(), plan_of([Fate.PAY] * 3))
    assert [type(result) for result in facts.results] == [FlashSaleProtocolError] * 3


async def test_a_call_that_fails_as_a_whole_is_an_error_of_each_of_its_attempts() -> None:
    class Gone(Scripted):
        async def hold_many(self, requests: Sequence[HoldRequest]) -> list[Answer | FlashSaleError]:
            raise OutcomeUnknown("gone")

    facts = await drive(Gone(), plan_of([Fate.PAY] * 3))
    assert [type(result) for result in facts.results] == [OutcomeUnknown] * 3
    assert facts.follow_ups == []


async def test_a_mistake_in_the_engine_ends_the_run() -> None:
    class Broken(Scripted):
        async def hold_many(self, requests: Sequence[HoldRequest]) -> list[Answer | FlashSaleError]:
            raise KeyError("a bug")

    with pytest.raises(ExceptionGroup) as caught:
        await drive(Broken(), plan_of([Fate.PAY]))
    assert caught.group_contains(KeyError)


async def test_progress_is_told_while_it_runs() -> None:
    told: list[Progress] = []
    plan = plan_of([Fate.PAY] * 60, gap_s=0.05)
    facts = await Driver(Scripted(), plan, seconds=3, settle_s=1.0, on_progress=told.append).run()
    assert len(told) >= 2
    assert all(one.total == 60 for one in told)
    assert 0 < told[0].offered < 60
    assert facts.ended_s >= plan.at_s[-1]


async def test_the_generators_own_cpu_time_is_measured() -> None:
    class Burning(Scripted):
        async def hold_many(self, requests: Sequence[HoldRequest]) -> list[Answer | FlashSaleError]:
            sum(range(300_000))
            return await super().hold_many(requests)

    idle = await drive(Scripted(), plan_of([Fate.ABANDON] * 30, gap_s=0.01))
    busy = await drive(Burning(), plan_of([Fate.ABANDON] * 30, gap_s=0.01))
    assert 0 < idle.generator_cpu < busy.generator_cpu
