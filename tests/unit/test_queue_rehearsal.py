"""A waiting room's rehearsal without a server: its crowd, its arithmetic, its verdict, its text."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from flashsale import Answer, InvalidRequest, Outcome
from flashsale.cli.picture import save_svg
from flashsale.models import HoldState
from flashsale.rehearsal import WAITING_ROOM, QueueReport, render_queue, scenario_named
from flashsale.rehearsal.claims import Claim, Claims
from flashsale.rehearsal.measures import percentiles
from flashsale.rehearsal.queue import Habits, QueuePlan
from flashsale.rehearsal.queue.books import Stock, gone_ms
from flashsale.rehearsal.queue.building import picture_of
from flashsale.rehearsal.queue.crowd import Fate, lay_out
from flashsale.rehearsal.queue.driver import hostile_ticket
from flashsale.rehearsal.queue.forecasts import calibrate, eta_error, found_stock, outlook_at
from flashsale.rehearsal.queue.judging import Seen, problems_of, said_after_ms, void_reasons
from flashsale.rehearsal.queue.picture import Panel, Part, time_axis
from flashsale.rehearsal.queue.record import Act, Deed, End, Record, Visit
from flashsale.rehearsal.queue.report import QueuePicture
from flashsale.rehearsal.queue.visits import Visits
from flashsale.rehearsal.queue.watch import Course, Sample
from flashsale.rooms import Outlook, PlaceAnswer, WaitingRoom

SIZE = WAITING_ROOM.sized(rate_divisor=20)


@pytest.fixture(scope="module")
def plan() -> QueuePlan:
    return WAITING_ROOM.plan(SIZE, seed=7)


# --- the crowd ----------------------------------------------------------------------------------


def test_at_full_size_it_is_the_ratio_of_12306_and_a_scale_keeps_it() -> None:
    full = WAITING_ROOM.sized(rate_divisor=1)
    assert (WAITING_ROOM.units_of(full), WAITING_ROOM.plan(full, seed=1).people) == (100, 95_600)
    assert WAITING_ROOM.plan(SIZE, seed=1).people == 956 * WAITING_ROOM.units_of(SIZE) == 4_780
    with pytest.raises(InvalidRequest, match="scale: leaves less than one unit"):
        WAITING_ROOM.sized(rate_divisor=101)
    with pytest.raises(InvalidRequest, match="must be one of .*live_room, waiting_room"):
        scenario_named("queue")


def test_the_same_seed_lays_out_the_same_people(plan: QueuePlan) -> None:
    again, other = WAITING_ROOM.plan(SIZE, seed=7), WAITING_ROOM.plan(SIZE, seed=8)
    assert msgspec.structs.astuple(again) == msgspec.structs.astuple(plan)
    assert other.join_s != plan.join_s


def test_most_come_before_the_opening_and_all_within_the_seconds(plan: QueuePlan) -> None:
    assert list(plan.join_s) == sorted(plan.join_s)
    assert 0 <= plan.join_s[0] < plan.join_s[-1] <= SIZE.seconds
    early = sum(at < plan.opens_s for at in plan.join_s)
    assert early == round(0.8 * plan.people)


def test_the_habits_are_met(plan: QueuePlan) -> None:
    habits = WAITING_ROOM.habits
    shares = {
        "bots": plan.bots,
        "two_tabs": sum(at != inf for at in plan.tab_s),
        "shared": sum(device > 0 for device in plan.device),
        "realists": sum(plan.realist),
        "silent": sum(plan.silent),
    }
    for name, count in shares.items():
        assert count / plan.people == pytest.approx(getattr(habits, name), rel=0.25)
    people = plan.people - plan.bots
    wants = sum(fate in (Fate.PAY, Fate.CANCEL, Fate.ABANDON) for fate in plan.fate)
    assert wants / people == pytest.approx(habits.conversion, rel=0.03)
    largest = max(plan.device.count(device) for device in set(plan.device) - {0})
    assert largest == habits.device_people > WAITING_ROOM.key_places_max
    assert {plan.key(person) for person in range(20)} <= {"", "device-1"}


def test_shares_beyond_one_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="no_show: must be a share"):
        Habits(no_show=1.5)
    with pytest.raises(InvalidRequest, match="abandon: must be at most 1 with cancel"):
        Habits(cancel=0.6, abandon=0.6)


def test_hostile_tickets_are_another_buyers_a_changed_and_an_invented_one(plan: QueuePlan) -> None:
    tickets = {person: f"ticket{person}" for person in range(plan.people)}
    stolen, changed, invented = (hostile_ticket(tickets, plan, person) for person in (0, 1, 2))
    assert stolen in tickets.values()
    assert changed not in tickets.values()
    assert invented == hostile_ticket({}, plan, 0)


# --- what somebody does next --------------------------------------------------------------------


def told(outcome: Outcome, **fields: Any) -> PlaceAnswer:
    return PlaceAnswer(
        outcome, "sale", "buyer", **{"number": 1, "ticket": "t", "at_ms": 5} | fields
    )


def one_person(**habits: float) -> Visits:
    nobody_else = {"bots": 0, "two_tabs": 0, "shared": 0, "no_show": 0, "look": 0, "realists": 0}
    plan = lay_out(
        Habits(**nobody_else | {"patience_s": 1e6, "early": 0.0} | habits),
        1,
        seconds=1.0,
        opens_s=0.0,
        seed=1,
    )
    return Visits(plan, [0], near=10)


def step(visits: Visits, result: Any, now: float = 10.0) -> Act:
    (due,) = visits.due(now)
    visits.answered(due, result, now)
    return due.act


def test_who_waits_asks_again_when_told_to() -> None:
    visits = one_person()
    assert (
        step(visits, told(Outcome.JOINED, outlook=Outlook.LIKELY, poll_after_ms=2_500)) is Act.JOIN
    )
    assert visits.next_s == 12.5
    waits = {"outlook": Outlook.UNLIKELY, "poll_after_ms": 4_000, "place": 3, "at_ms": 9}
    waiting = told(Outcome.WAITING, **waits)
    assert step(visits, waiting, 13.0) is Act.ASK
    visit = visits.record.visits[0]
    assert visit.outlooks == [5, "likely", 9, "unlikely"]
    assert (visit.polls, visit.hope_ms, visits.record.longest_poll_ms) == (1, 9, 4_000)
    assert visits.record.offered == visits.record.completed == 2


def test_who_is_told_hopeless_goes() -> None:
    visits = one_person()
    step(visits, told(Outcome.JOINED, outlook=Outlook.HOPELESS, poll_after_ms=2_500))
    assert (len(visits), visits.record.visits[0].end) == (0, End.GONE)
    assert visits.record.visits[0].gone_ms == 5


def test_a_realist_leaves_once_the_place_is_known_and_unlikely() -> None:
    visits = one_person(realists=1.0, silent=0.0)
    unlikely = told(Outcome.WAITING, outlook=Outlook.UNLIKELY, poll_after_ms=1_000)
    step(visits, unlikely)
    assert visits.record.visits[0].end is None
    step(visits, msgspec.structs.replace(unlikely, place=900), 20.0)
    assert visits.record.visits[0].end is End.LEFT
    assert step(visits, told(Outcome.LEFT), 20.0) is Act.LEAVE
    assert len(visits) == 0


def test_who_is_called_comes_holds_and_pays() -> None:
    visits = one_person(cancel=0, abandon=0)
    assert step(visits, told(Outcome.CALLED, outlook=Outlook.LIKELY, place=1)) is Act.JOIN
    ends = told(Outcome.ADMITTED, turn_ends_ms=90_000, at_ms=7)
    assert step(visits, ends, 1e3) is Act.COME
    held = Outcome.HELD
    answer = _answer(held, deadline_ms=80_000, at_ms=8)
    assert step(visits, answer, 2e3) is Act.HOLD
    assert step(visits, _answer(Outcome.CONFIRMED, at_ms=9), 3e3) is Act.PAY
    visit = visits.record.visits[0]
    assert (visit.admitted_ms, visit.held_ms, visit.end) == (7, 8, End.SERVED)
    assert [deed.act for deed in visits.record.deeds] == [Act.COME, Act.HOLD, Act.PAY]


def test_who_finds_nothing_presses_again_only_while_something_may_return() -> None:
    visits = one_person()
    step(visits, told(Outcome.CALLED, outlook=Outlook.LIKELY, place=1))
    step(visits, told(Outcome.ADMITTED, turn_ends_ms=90_000), 1e3)
    step(visits, _answer(Outcome.SOLD_OUT, may_return=True, at_ms=10), 2e3)
    assert visits.record.visits[0].end is None
    step(visits, _answer(Outcome.SOLD_OUT, at_ms=11), 3e3)
    assert visits.record.visits[0].end is End.IN_VAIN


def _answer(outcome: Outcome, **fields: Any) -> Any:
    return Answer(outcome, "sale", "buyer", "order", **fields)


# --- arithmetic ---------------------------------------------------------------------------------


def sample(at_ms: int, serving: int = 0, **fields: Any) -> Sample:
    zeros = dict.fromkeys(Sample.__struct_fields__, 0)
    return Sample(
        **zeros
        | {"at_s": at_ms / 1000, "at_ms": at_ms, "open": True, "serving": serving}
        | {"conversion": 0.5, "joined": 10, "available": 5}
        | fields
    )


COURSE = Course([sample(0), sample(100, 2), sample(200, 2), sample(300, 5)])


def test_a_place_is_called_between_the_last_sample_without_and_the_first_with_it() -> None:
    assert COURSE.called_between_ms(1) == (0, 100)
    assert COURSE.called_between_ms(3) == (200, 300)
    assert (COURSE.called_ms(5), COURSE.called_ms(6)) == (300, None)


def claim(begin: int, end: int, state: HoldState = HoldState.CONFIRMED, person: int = 0) -> Claim:
    return Claim(person, f"buyer-{person:06d}", "order", {"berth": 1}, state, end, [(begin, end)])


def test_stock_by_the_answers() -> None:
    stock = Stock(Claims({0: claim(10, 50), 1: claim(20, 1 << 62)}, set(), []), units=2)
    assert [stock.available(at) for at in (9, 10, 20, 49, 50, 99)] == [2, 1, 0, 0, 1, 1]
    assert (stock.most(21, 49), stock.most(21, 50), stock.most(0, 15)) == (0, 1, 2)


def test_nothing_is_left_from_the_last_payment_on() -> None:
    claims = Claims({0: claim(1, 1 << 62), 1: claim(2, 1 << 62, person=1)}, set(), [])
    paid = [Deed(Act.PAY, n, 0, 0, "C", at_ms=at) for n, at in ((0, 30), (1, 70))]
    record = Record(deeds=paid)
    assert gone_ms(record, claims, 2) == (70, 70)
    assert gone_ms(record, claims, 3) is None
    paid[1].replayed = True  # when it was first paid nobody knows
    assert gone_ms(record, claims, 2) == (30, 70)


def test_a_forecast_counts_as_it_was_two_seconds_before() -> None:
    visit = Visit(0, outlooks=[1_000, "likely", 5_000, "unlikely"])
    assert [outlook_at(visit, at) for at in (999, 1_000, 4_999, 5_000)] == [
        "",
        "likely",
        "likely",
        "unlikely",
    ]


def test_calibration_asks_who_held_and_what_was_there_for_the_others() -> None:
    course = Course([sample(0), sample(9_000, 3)])
    stock = Stock(Claims({}, set(), []), units=1)
    visits = [
        Visit(0, number=1, outlooks=[1, "likely"], held_ms=9_500),
        Visit(1, number=2, outlooks=[1, "likely"]),  # asked, and got nothing
        Visit(2, number=3, outlooks=[1, "likely"]),  # did not ask: one was there
        Visit(3, number=4, outlooks=[1, "unlikely"]),  # never called
        Visit(4, number=5, outlooks=[8_999, "unlikely"]),  # told too late to count
    ]
    places = {visit.person: visit.number for visit in visits}
    asked = [Deed(Act.HOLD, person, 0, 0, "H") for person in (0, 1)]
    found = found_stock(Record(deeds=asked), course, stock, places)
    told = calibrate(visits, places, course, found, over_ms=10_000)
    assert (told["likely"].told, told["likely"].found, told["likely"].share) == (3, 2, 2 / 3)
    assert (told["unlikely"].told, told["unlikely"].share) == (1, 0.0)
    assert calibrate([], {}, course, found, over_ms=0)["likely"].share is None


def test_the_error_of_a_time_is_from_when_it_was_told() -> None:
    course = Course([sample(0), sample(10_000, 1)])
    visit = Visit(0, etas=[4_000, 9_000, 5_000, 20_000, 8_000, 3_000, 2_500, -1])
    error = eta_error([visit], {0: 1}, course)
    assert (error.told, error.unbounded, error.inside) == (2, 1, 1.0)
    assert error.median_s == pytest.approx((3.0 + 1.0) / 2)
    assert eta_error([visit], {0: 2}, course).told == 0


# --- the verdict --------------------------------------------------------------------------------


def seen(
    visits: Iterable[Visit] = (),
    deeds: Iterable[Deed] = (),
    *,
    samples: list[Sample] | None = None,
    gone: tuple[int, int] | None = (1_000, 1_000),
    places: dict[int, int] | None = None,
    **fields: Any,
) -> Seen:
    record = Record(visits={v.person: v for v in visits}, deeds=list(deeds), **fields)
    numbers = {v.number for v in record.visits.values()} | {
        v.tab_number for v in record.visits.values()
    }
    given = len(numbers - {0})
    samples = samples or [sample(500, joined=given), sample(1_010, 0, joined=given, available=0,
                                                            sold=5)]  # fmt: skip
    return Seen(
        record=record,
        room=WaitingRoom(rate_per_s=1, conversion=0.5, margin=0.0),
        samples=samples,
        course=Course(samples),
        stock=Stock(Claims({}, set(), []), units=5),
        places=places or {},
        gone=gone,
        units=5,
        poll_cap_ms=5_000,
    )


def test_a_right_run_has_no_problems() -> None:
    visit = Visit(0, number=1, joined_ms=10, gone_ms=1_200, hope_ms=900, end=End.GONE)
    assert problems_of(seen([visit])) == []


def test_a_hold_without_a_turn() -> None:
    held = Deed(Act.GRAB, 3, 0, 0, "H", at_ms=50)
    assert problems_of(seen(deeds=[held])) == ["buyer-000003 held without a turn"]
    turn = Deed(Act.COME, 3, 0, 0, "4", at_ms=40, deadline_ms=60)
    assert problems_of(seen(deeds=[turn, held])) == []
    turn.deadline_ms = 50
    assert problems_of(seen(deeds=[turn, held])) == ["buyer-000003 held without a turn"]
    unsure = Deed(Act.COME, 3, 0, 0, "", "OutcomeUnknown")
    assert problems_of(seen(deeds=[turn, unsure, held])) == []


def test_somebody_let_in_before_their_place_was_called() -> None:
    samples = [sample(500, joined=1), sample(1_010, 1, joined=1, available=0, sold=5)]
    for admitted_ms, right in ((499, False), (600, True)):
        visit = Visit(0, number=1, admitted_ms=admitted_ms, joined_ms=9)
        found = problems_of(seen([visit], samples=samples, places={0: 1}))
        assert found == ([] if right else ["buyer-000000 was let in before their place was called"])


def test_two_places_of_a_buyer_and_two_buyers_of_a_place() -> None:
    two = Visit(0, number=1, tab_number=2)
    assert problems_of(seen([two])) == ["buyer-000000 has two places, 1 and 2"]
    both = [Visit(0, number=1), Visit(1, number=1)]
    assert any("1 numbers were given to two buyers" in text for text in problems_of(seen(both)))


def test_more_turns_than_the_stock_is_for() -> None:
    samples = [sample(0), sample(100, 10, outstanding=10), sample(200, 11, outstanding=11)]
    samples.append(sample(1_010, 11, available=0, sold=5))
    found = [t for t in problems_of(seen(samples=samples)) if "outstanding" in t]
    assert found == ["11 turns were outstanding 0.2 s into the run, the bound was 10"]


def test_hopeless_before_the_last_unit_was_paid() -> None:
    early = Visit(0, number=1, gone_ms=400)
    assert problems_of(seen([early])) == [
        "hopeless was said to 1 people up to 0.6 s before the last unit was paid"
    ]
    left = [sample(500, joined=1, sold=4)]
    assert problems_of(seen([early], gone=None, samples=left))[0] == (
        "hopeless was said to 1 people though something was left to the end"
    )


def test_a_shared_state_that_says_it_late_and_people_who_are_not_told() -> None:
    samples = [sample(500, joined=1), sample(2_500, joined=1, available=0, sold=5)]
    visit = Visit(0, number=1, joined_ms=1, hope_ms=2_400, gone_ms=2_600, end=End.GONE)
    late = seen([visit], samples=samples)
    assert said_after_ms(late) == 1_500
    assert problems_of(late) == [
        "the shared state said 1,500 ms after the fact that nothing is left, not within 1,000 ms",
        "1 people were not told that nothing is left, up to 1.4 s after the fact",
    ]
    slow = Visit(0, number=1, joined_ms=1, hope_ms=900, gone_ms=9_000, end=End.GONE)
    assert problems_of(seen([slow])) == [
        "somebody who waited heard only after 8,000 ms that nothing is left"
    ]
    assert problems_of(seen(unserved=2)) == ["2 people still waited when the run ended"]


def test_polls_beyond_the_cap_hostile_tickets_and_stock_left() -> None:
    assert problems_of(seen(longest_poll_ms=5_001)) == [
        "somebody was told to ask again after 5,001 ms, beyond 5,000 ms"
    ]
    taken = [Deed(Act.FORGE, 0, 0, 0, "4"), Deed(Act.FORGE, 1, 0, 0, "-")]
    assert problems_of(seen(deeds=taken)) == [
        "1 tickets of others, changed or invented, were not refused as such"
    ]
    tired = Visit(0, number=1, impatient=True, end=End.WALKED)
    samples = [sample(500, joined=1, sold=3)]
    assert problems_of(seen([tired], gone=None, samples=samples)) == [
        "2 units were left unsold, though 1 people waited"
    ]


def test_a_run_that_was_not_sent_as_planned_is_void() -> None:
    record = Record(dropped=2, generator_cpu=0.95, offered=100)
    record.errors["StoreUnavailable"] = 2
    reasons = void_reasons(record, percentiles([11.0]))
    assert [reason.partition(" ")[0] for reason in reasons] == ["the", "2", "the", "2"]
    assert void_reasons(Record(offered=1), percentiles([9.0])) == []


# --- what is shown ------------------------------------------------------------------------------


def example() -> QueueReport:
    path = Path(__file__).parent.parent / "data" / "waiting_room.json"
    return msgspec.json.decode(path.read_bytes(), type=QueueReport)


def test_the_report_tells_turns_forecasts_and_the_verdict() -> None:
    for ascii_only in (False, True):
        console = Console(width=100, file=io.StringIO(), color_system=None)
        console.print(render_queue(example(), ascii_only=ascii_only))
        shown = console.file.getvalue()
        for text in (
            "Rehearsal of waiting_room",
            "rate 1/",
            "no-shows",
            "in vain",
            "likely",
            "within range",
            "memory a person",
            "p99.99",
            "admit",
            "0 units oversold",
            "opens",
            "join_many",
        ):
            assert text in shown
        assert "…" not in shown, "a column is too narrow"
        assert max(map(len, shown.splitlines())) <= 100


def test_the_picture_is_an_svg_with_every_layer_in_its_colour(tmp_path: Path) -> None:
    path = tmp_path / "queue.svg"
    save_svg(render_queue(example()), path, title="flashsale rehearse waiting_room")
    ET.parse(path)
    text = path.read_text("utf-8")
    for colour in ("#3a7ca5", "#6a8f3a", "#e0b040", "#b5524a"):
        assert colour in text


def test_layers_stand_on_each_other_and_what_is_not_zero_is_seen() -> None:
    parts = [Part("a", "red", "#", [0, 1, 50, 99]), Part("b", "blue", ".", [0, 0, 50, 1])]
    panel = Panel("panel", parts, 100)
    assert panel.columns() == [[], [0], [0] * 4 + [1] * 4, [0] * 7 + [1]]


def test_the_axis_says_when_the_room_opened() -> None:
    zeros = [0] * 40
    shown = QueuePicture(
        step_s=1.0,
        waiting=zeros,
        told=zeros,
        left=zeros,
        serving=zeros,
        outstanding=zeros,
        no_shows=zeros,
        available=zeros,
        held=zeros,
        sold=zeros,
    )
    axis = time_axis(shown, 15.0)
    assert axis.index("opens") - 12 in range(12, 16)
    assert axis.rstrip().endswith("40 s")


def test_a_picture_has_the_last_sample_of_each_part() -> None:
    samples = [sample(at, at // 100) for at in range(0, 8_000, 100)]
    told = Visit(0, gone_ms=4_000, end=End.GONE)
    shown = picture_of(samples, Record(visits={0: told}))
    assert (shown.told[0], shown.told[-1]) == (0, 1)
    assert len(shown.serving) == 78
    assert shown.serving[-1] == 79
    assert sorted(shown.serving) == shown.serving
