"""What the processes of a Locust run tell each other, and what is made of it: no I/O."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from flashsale import Answer, HoldState, Outcome, OutcomeUnknown, Overloaded, StoreUnavailable
from flashsale.errors import FlashSaleError, ProtocolError, Rejected
from flashsale.rehearsal import FAILED, HOT_SKU, PASSED, VOID, Plan, Report
from flashsale.rehearsal.claims import claims_of
from flashsale.rehearsal.facts import Verb
from flashsale.rehearsal.measures import new_histogram, record_ms
from flashsale.rehearsal.report import build_report
from loadtests.surge.desk import Desk
from loadtests.surge.telling import (
    Order,
    Standing,
    Tally,
    Told,
    ToldAttempt,
    ToldStep,
    pack,
    read_order,
    share_of,
)
from loadtests.surge.verdict import Generator, add_generator
from support.surges import HandMade

ORDER = Order(
    scenario="hot_sku",
    size=HOT_SKU.sized(seconds=1, rate_divisor=1_000),
    seed=5,
    sale="s",
    url="redis://127.0.0.1",
    durability="memory",
    index=0,
    workers=2,
    in_flight=10,
    settle_s=1.0,
)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return ORDER.plan()


def histogram(*milliseconds: float) -> bytes:
    made = new_histogram()
    for value in milliseconds:
        record_ms(made, value)
    encoded: bytes = made.encode()
    return encoded


def tally(worker: int = 0, serial: int = 0, **changes: Any) -> bytes:
    settings: dict[str, Any] = {
        "standing": Standing.DONE,
        "attempts": [],
        "steps": [],
        "offered": 0,
        "dropped": 0,
        "held": 0,
        "confirmed": 0,
        "sweeps": 0,
        "left_over": 0,
        "cpu": 0.1,
    }
    times = dict.fromkeys(("latency", "later_latency", "schedule_lag"), histogram())
    return pack(Tally(worker=worker, serial=serial, **(settings | times | changes)))


def held(at_ms: int = 1_000) -> Told:
    return Told(Outcome.HELD.code, "", at_ms + 2_000, at_ms, False)


# --- shares ---------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_every_attempt_is_in_one_share_and_a_buyers_are_in_the_same(
    plan: Plan, workers: int
) -> None:
    shares = [share_of(plan, index, workers) for index in range(workers)]
    assert sorted(n for share in shares for n in share) == list(range(plan.offered))
    assert all(list(share) == sorted(share) for share in shares)
    of = {n: index for index, share in enumerate(shares) for n in share}
    by_buyer: dict[str, set[int]] = {}
    for attempt, order in enumerate(plan.order):
        by_buyer.setdefault(plan.requests[order].buyer, set()).add(of[attempt])
    assert all(len(found) == 1 for found in by_buyer.values())
    assert min(map(len, shares)) > 0.5 * plan.offered / workers


def test_every_process_lays_out_the_same_plan_from_an_order_sent_as_bytes(plan: Plan) -> None:
    again = read_order(pack(ORDER))
    assert again == ORDER
    assert again.plan().at_s == plan.at_s


# --- answers --------------------------------------------------------------------------------


def test_an_answer_comes_back_as_it_was_as_far_as_a_verdict_needs_it() -> None:
    answer = Answer(
        Outcome.HELD, "s", "b", "h", state=HoldState.HELD, deadline_ms=5, replayed=True, at_ms=3
    )
    assert Told.of(answer).result("s", "b", "h") == replace(answer, state=None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OutcomeUnknown("no reply: 2 s"), OutcomeUnknown),
        (StoreUnavailable("refused"), StoreUnavailable),
        (Overloaded("full"), Overloaded),
        (Rejected(Outcome.ENDED, "sale"), ProtocolError),
        (ProtocolError("unexpected ZeroDivisionError"), ProtocolError),
    ],
)
def test_an_error_stays_an_error(error: FlashSaleError, kind: type[FlashSaleError]) -> None:
    again = Told.of(error).result("s", "b", "h")
    assert type(again) is kind
    assert str(error)[:10] in str(again)


# --- the desk -------------------------------------------------------------------------------


def test_the_workers_reports_become_one_record(plan: Plan) -> None:
    desk = Desk(ORDER, plan)
    first, second = (share_of(plan, index, 2)[0] for index in (0, 1))
    row = ToldAttempt(first, 0.5, held())
    desk.take(tally(0, 0, standing=Standing.SURGE, attempts=[row], offered=1))
    assert (desk.done, desk.lost) == (set(), [0, 1])
    step = ToldStep(
        "confirm", plan.order[first], 0.6, 0.7, Told(Outcome.CONFIRMED.code, "", 0, 1_100, False)
    )
    desk.take(tally(0, 1, steps=[step], latency=histogram(1.0), offered=1, cpu=0.2))
    other = ToldAttempt(second, 0.9, Told(Outcome.SOLD_OUT.code, "", 0, 1_200, False))
    desk.take(tally(1, 0, attempts=[other], latency=histogram(3.0), offered=1, dropped=2, cpu=0.3))
    assert (desk.done, desk.lost, desk.cpus) == ({0, 1}, [], [0.2, 0.3])
    facts = desk.facts()
    told = {n: result.outcome for n, result in enumerate(facts.results) if result}
    assert told == {first: Outcome.HELD, second: Outcome.SOLD_OUT}
    assert [(s.verb, s.order) for s in facts.follow_ups] == [(Verb.CONFIRM, plan.order[first])]
    assert (facts.dropped, facts.generator_cpu, facts.ended_s) == (2, 0.3, 0.9)
    times = desk.timed().latency
    assert (times.p50, times.max) == (pytest.approx(1.0, 0.01), pytest.approx(3.0, 0.01))
    moment = desk.progress(1.0)
    assert (moment.phase, moment.offered, moment.completed) == ("settle", 2, 2)


@pytest.mark.parametrize("how", ["it never came", "one is missing", "it stopped"])
def test_what_a_lost_worker_knew_is_left_open_and_accuses_nobody(plan: Plan, how: str) -> None:
    desk = Desk(ORDER, plan)
    mine = share_of(plan, 0, 2)
    row = ToldAttempt(mine[0], 0.5, held())
    desk.take(tally(1, 0))
    if how == "one is missing":
        desk.take(tally(0, 0, attempts=[row]))
        desk.take(tally(0, 2))
    elif how == "it stopped":
        desk.take(tally(0, 0, standing=Standing.SURGE, attempts=[row]))
    assert desk.lost == [0]
    facts = desk.facts()
    unknown = {n for n, result in enumerate(facts.results) if isinstance(result, OutcomeUnknown)}
    told = set() if how == "it never came" else {mine[0]}
    assert unknown == set(mine) - told
    claims = claims_of(plan, facts, 2_000)
    assert claims.problems == []
    assert all(claim.unsure for claim in claims.held.values())
    assert len(claims.held) == len(told)


# --- the verdict ----------------------------------------------------------------------------

GENERATOR = Generator(
    workers=2, cpus=[0.2, 0.3], lost=[], cores=1, server_core=0, in_flight=10, locust="2"
)


def report_of(run: HandMade, **changes: Any) -> Report:
    scenario = replace(HOT_SKU, crowd=HOT_SKU.crowd)
    from flashsale.rehearsal.describing import setup_of
    from flashsale.rehearsal.report import Server

    server = Server(name="Valkey", version="9", embedded=True, address="127.0.0.1:7000")
    built = build_report(
        setup=setup_of(scenario, ORDER.size, run.sale, server, "memory", 5),
        plan=run.plan,
        facts=run.facts,
        truth=run.truth(),
        stock=[],
        total_s=1.0,
    )
    return replace(built, **changes)


def right_run() -> HandMade:
    run = HandMade({"red": 1})
    run.pay(run.hold("ann"))
    return run


def wrong_run() -> HandMade:
    run = HandMade({"red": 1})
    run.pay(run.hold("ann"))
    run.pay(run.hold("bob"))
    return run


@pytest.mark.parametrize(
    ("run", "generator", "objective", "code"),
    [
        (right_run(), GENERATOR, None, PASSED),
        (right_run(), GENERATOR, 1e6, PASSED),
        (right_run(), GENERATOR, 1e-6, FAILED),
        (right_run(), replace(GENERATOR, lost=[1]), None, VOID),
        (right_run(), replace(GENERATOR, lost=[1]), 1e-6, VOID),
        (right_run(), replace(GENERATOR, cpus=[0.5, 0.5]), None, VOID),
        (right_run(), replace(GENERATOR, cpus=[0.5, 0.5], cores=0), None, PASSED),
        (wrong_run(), GENERATOR, None, FAILED),
        (wrong_run(), replace(GENERATOR, lost=[1]), None, FAILED),
    ],
)
def test_wrong_books_fail_then_the_generator_voids_then_objectives_fail(
    run: HandMade, generator: Generator, objective: float | None, code: int
) -> None:
    report = add_generator(report_of(run), generator, batch_mean=2.0, objective_p99_ms=objective)
    assert (report.exit_code, report.passed) == (code, code == PASSED)
    assert bool(report.missed) == (objective is not None and objective < 1)
    assert (report.loopback, report.generator.pinned) == (True, True)


def test_a_rehearsals_void_reasons_are_kept() -> None:
    report = report_of(right_run(), void=["it was late"])
    report = add_generator(report, GENERATOR, batch_mean=None, objective_p99_ms=None)
    assert (report.void, report.exit_code) == (["it was late"], VOID)
