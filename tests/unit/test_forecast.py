"""What is foretold to those who wait: pure functions of a view, with properties of their own."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashsale import (
    Eta,
    Outcome,
    Outlook,
    RoomState,
    RoomView,
    WaitingRoom,
    forecast,
    limits,
    places,
)
from flashsale.cli.queueing import queue_frame
from flashsale.rooms import POLL_MIN_MS, Turns
from flashsale.tokens import Ticket

CLOSED = (Outcome.PAUSED, Outcome.CLOSED, Outcome.ENDED, Outcome.CLOCK_JUMP)
FEWER = settings(max_examples=40)

T0 = 4_000_000_000_000
ROOM = WaitingRoom(rate_per_s=100, turn_ttl_ms=32_000)
VIEW = RoomView(
    sale="1111", room=ROOM, state=RoomState.RUNNING, at_ms=T0, rate_per_s=100.0, closed=None,
    joined=10_000, present=0, seed="", commitment="", key="k", serving=0, over=0, turns=(),
    outstanding=0, bound=100, conversion=0.5, arrived=0, no_shows=0, left=0, vacant=0, passed=0,
    units=0, available=1_000, set_aside=0, held=0, sold=0,
)  # fmt: skip


def view(**fields: Any) -> RoomView:
    return forecast.with_rate(msgspec.structs.replace(VIEW, **fields))


def called(per_slot: list[int], *, over: int = 0, part_ms: int = 999) -> RoomView:
    """A room that called so many in the slots up to the one that is running, of 1 s each."""
    turns, serving, first = [], over, T0 // 1_000
    for at, count in enumerate(per_slot):
        serving += count
        if count:
            turns.append(Turns(first + at, serving, 0, 0, 0))
    at_ms = T0 + 1_000 * (len(per_slot) - 1) + part_ms
    return view(turns=tuple(turns), serving=serving, over=over, at_ms=at_ms)


@st.composite
def views(draw: st.DrawFn) -> RoomView:
    """Any room that may come about."""
    turn_ttl_ms = draw(st.sampled_from([1, 3, 40, 1_000, 32_000, 120_000, 10**9]))
    room = WaitingRoom(
        rate_per_s=draw(st.floats(1e-6, 1e6)),
        turn_ttl_ms=turn_ttl_ms,
        poll_max_ms=draw(st.integers(1_000, 3_600_000)),
        opens_at_ms=draw(st.none() | st.integers(T0 - 10**6, T0 + 10**8)),
    )
    at_ms = T0 + draw(st.integers(0, 10**6))
    slot = at_ms // room.slot_ms
    ages = sorted(draw(st.sets(st.integers(0, 33), max_size=8)), reverse=True)
    over = serving = draw(st.integers(0, 10**6))
    turns = []
    for age in ages:
        serving += draw(st.integers(1, 10**5))
        turns.append(Turns(slot - age, serving, 0, 0, 0))
    units = st.integers(0, 3)
    return view(
        room=room,
        at_ms=at_ms,
        rate_per_s=room.rate_per_s,
        turns=tuple(turns),
        over=over,
        serving=serving,
        joined=serving + draw(st.integers(0, 10**7)),
        outstanding=draw(st.integers(0, 10**5)),
        conversion=draw(st.floats(1e-6, 1_000)),
        available=draw(units),
        set_aside=draw(units),
        held=draw(units),
        sold=draw(units),
        starts_at_ms=draw(st.just(0) | st.integers(T0 - 10**6, T0 + 10**8)),
    )


AHEAD = st.integers(0, 10**8)


# --- when ---------------------------------------------------------------------------------


@FEWER
@given(views(), AHEAD)
def test_an_estimate_lies_between_its_bounds_and_not_in_the_past(
    seen: RoomView, ahead: int
) -> None:
    eta = forecast.eta_of(seen, ahead)
    if eta is None:
        measured = forecast.admission_rate(seen)
        assert seen.serving > 0
        assert measured.mean == 0 if measured else not seen.turns
        return
    assert 0 <= eta.earliest_ms <= eta.expected_ms
    assert eta.latest_ms is None or eta.expected_ms <= eta.latest_ms
    if seen.starts_at_ms - seen.at_ms <= eta.expected_ms:
        assert eta.earliest_ms >= max(0, seen.starts_at_ms - seen.at_ms)


@FEWER
@given(views(), AHEAD, AHEAD)
def test_whoever_stands_further_behind_is_never_told_an_earlier_time(
    seen: RoomView, one: int, other: int
) -> None:
    near, far = (forecast.eta_of(seen, ahead) for ahead in sorted([one, other]))
    if near is None or far is None:
        assert near is far
        return
    assert near.earliest_ms <= far.earliest_ms
    assert near.expected_ms <= far.expected_ms
    if near.latest_ms is not None and far.latest_ms is not None:
        assert near.latest_ms <= far.latest_ms


@pytest.mark.parametrize("rate", [1, 7, 250])
def test_a_steady_rate_is_measured_as_it_is_with_an_error_that_shrinks(rate: int) -> None:
    widths = []
    for slots in (3, 9, 33):
        measured = forecast.admission_rate(called([rate] * slots))
        assert measured is not None
        assert measured.mean == pytest.approx(rate)
        widths.append(measured.error)
    assert widths == sorted(widths, reverse=True)
    assert measured.error / 2 == pytest.approx(
        math.sqrt(rate / 32)
    )  # that of a Poisson process, at least


def test_slots_in_which_nobody_was_called_count_and_a_bursty_rate_is_less_certain() -> None:
    steady = forecast.admission_rate(called([100] * 9))
    bursty = forecast.admission_rate(called([100, 400, 0, 0, 0, 400, 0, 0, 0]))
    assert steady is not None
    assert bursty is not None
    assert bursty.mean == pytest.approx(steady.mean)
    assert bursty.error > 2 * steady.error


def test_the_slot_that_runs_counts_for_the_part_of_it_that_has_passed() -> None:
    early = forecast.admission_rate(called([100, 100, 25], part_ms=249))
    assert early is not None
    assert early.mean == pytest.approx(100)


def test_places_whose_turns_have_ended_are_no_part_of_the_measure() -> None:
    assert forecast.admission_rate(called([10] * 4, over=10**6)) == forecast.admission_rate(
        called([10] * 4)
    )


def test_before_anybody_was_called_the_rooms_own_rate_is_told_without_a_latest_time() -> None:
    eta = forecast.eta_of(view(), 99)
    assert eta is not None
    assert (eta.expected_ms, eta.earliest_ms, eta.latest_ms) == (1_000, 0, None)
    eta = forecast.eta_of(view(starts_at_ms=T0 + 60_000, present=None), 99)
    assert eta is not None
    assert (eta.expected_ms, eta.earliest_ms, eta.latest_ms) == (61_000, 60_000, None)


def test_what_an_older_view_says_is_told_from_now_on() -> None:
    seen = called([100] * 5)
    ticket = Ticket(seen.serving + 100, T0, T0 + 10**6)
    told = [places.place_in(seen, "ann", "t", ticket, seen.at_ms + age, 0) for age in (0, 700)]
    then, now = (answer.eta for answer in told)
    assert then is not None
    assert now is not None
    assert (then.expected_ms - now.expected_ms, then.earliest_ms - now.earliest_ms) == (700, 700)
    much_later = forecast.eta_of(seen, 99, seen.at_ms + 10**6)
    assert much_later is not None
    assert (much_later.expected_ms, much_later.earliest_ms, much_later.latest_ms) == (0, 0, 0)
    before = forecast.eta_of(view(starts_at_ms=T0 + 5_000), 0, T0 + 700)
    assert before is not None
    assert before.earliest_ms == 4_300


def test_the_next_may_be_called_at_once_or_after_its_full_time() -> None:
    eta = forecast.eta_of(called([1] * 9), 0)
    assert eta is not None
    assert (eta.earliest_ms, eta.expected_ms) == (0, 1_000)


def test_places_passed_over_are_no_part_of_the_rate_and_of_those_ahead_who_left() -> None:
    plain = called([100] * 5)
    turns = tuple(
        msgspec.structs.replace(row, serving=row.serving + 50 * (n + 1), passed=50)
        for n, row in enumerate(plain.turns)
    )
    passed = view(turns=turns, serving=turns[-1].serving, at_ms=plain.at_ms)
    assert passed.measured_per_s == plain.measured_per_s
    # Half of those who wait have left, so that 200 places are 100 people; but they may come back.
    half = forecast.with_rate(msgspec.structs.replace(plain, vacant=(10_000 - 500) // 2))
    told, by_half = forecast.eta_of(plain, 99), forecast.eta_of(half, 198)
    assert told is not None
    assert by_half is not None
    assert by_half.expected_ms == told.expected_ms
    assert told.latest_ms is not None
    assert by_half.latest_ms == pytest.approx(1.99 * told.latest_ms, abs=2)


def test_a_rate_that_may_be_next_to_nothing_tells_no_latest_time() -> None:
    seen = called([4, 4, 4])
    for error, unsure in ((3.5, False), (3.7, True), (9.9, True)):
        eta = forecast.eta_of(msgspec.structs.replace(seen, measured_error_per_s=error), 3)
        assert eta is not None
        assert (eta.latest_ms is None) is unsure


def test_when_nobody_has_been_called_for_a_whole_turn_nothing_is_foretold() -> None:
    assert forecast.eta_of(view(serving=500, over=500), 3) is None


@pytest.mark.parametrize(
    "stop", [{"state": RoomState.PAUSED}, *({"closed": why} for why in CLOSED)]
)
def test_while_nobody_may_be_called_nothing_is_foretold(stop: dict[str, Any]) -> None:
    for seen in (VIEW, called([100] * 5)):
        assert forecast.eta_of(msgspec.structs.replace(seen, **stop), 3) is None


def test_a_sale_that_is_not_open_yet_does_not_hide_when_the_rooms_places_are_called() -> None:
    assert forecast.eta_of(view(closed=Outcome.NOT_OPEN), 3) is not None


def test_the_slot_in_which_calling_began_is_no_part_of_the_measure() -> None:
    measured = forecast.admission_rate(called([1, 100, 100]))
    assert measured is not None
    assert measured.mean == pytest.approx(100)


def test_until_a_whole_slot_was_seen_the_rooms_own_rate_is_told() -> None:
    early = called([3, 50], part_ms=498)
    assert forecast.admission_rate(early) is None
    assert forecast.eta_of(early, 99) == Eta(1_000, 0, None)


def test_while_the_stock_decides_how_many_are_called_no_latest_time_is_told() -> None:
    free = called([100] * 5)
    bound = msgspec.structs.replace(free, outstanding=free.bound)
    told = [forecast.eta_of(seen, 99) for seen in (free, bound)]
    assert [eta is not None and eta.latest_ms is None for eta in told] == [False, True]


def test_nor_to_whoever_stands_beyond_the_turns_that_the_stock_is_for() -> None:
    def has_latest(ahead: int, **fields: int) -> bool:
        eta = forecast.eta_of(msgspec.structs.replace(called([100] * 5), **fields), ahead)
        return eta is not None and eta.latest_ms is not None

    assert (has_latest(99, outstanding=0), has_latest(100, outstanding=0)) == (True, False)
    assert (has_latest(89, outstanding=10), has_latest(90, outstanding=10)) == (True, False)
    # Half of those who wait have left: twice as many places come before the stock decides.
    half = {"outstanding": 10, "vacant": 4_750}
    assert (has_latest(178, **half), has_latest(179, **half)) == (True, False)


def test_who_left_takes_no_time_and_no_stock_of_those_behind() -> None:
    waits, gone = view(), view(vacant=VIEW.joined // 2)
    assert forecast.eta_of(waits, 999) == Eta(10_000, 7_990, None)
    assert forecast.eta_of(gone, 1_000) == Eta(5_010, 3_000, None)
    assert forecast.outlook_of(waits, 2_000) is Outlook.UNLIKELY
    assert forecast.outlook_of(gone, 3_999) is Outlook.LIKELY
    assert forecast.outlook_of(gone, 4_000) is Outlook.UNLIKELY


def test_before_the_opening_people_ask_again_when_it_is_over_spread_over_a_while() -> None:
    soon = view(present=None, starts_at_ms=T0 + 5_000, joined=40_000)
    assert forecast.poll_after_ms(soon, None, 0.0) == 5_000
    assert forecast.poll_after_ms(soon, None, 1.0) == 7_000
    later = view(present=None, starts_at_ms=T0 + 600_000, joined=40_000)
    assert forecast.poll_after_ms(later, None, 0.0) == longest(later)
    assert forecast.poll_after_ms(later, None, 1.0) == longest(later) // 2


# --- whether ------------------------------------------------------------------------------


@FEWER
@given(views(), st.none() | AHEAD)
def test_hopeless_is_said_if_and_only_if_nothing_is_left_that_could_come_back(
    seen: RoomView, ahead: int | None
) -> None:
    gone = seen.available == seen.set_aside == seen.held == 0
    assert (forecast.outlook_of(seen, ahead) is Outlook.HOPELESS) is gone
    assert seen.gone is gone


@FEWER
@given(views(), AHEAD, AHEAD)
def test_whoever_stands_further_behind_never_has_the_better_outlook(
    seen: RoomView, one: int, other: int
) -> None:
    near, far = (forecast.outlook_of(seen, ahead) for ahead in sorted([one, other]))
    assert (near, far) != (Outlook.UNLIKELY, Outlook.LIKELY)


@pytest.mark.parametrize(
    ("available", "outstanding", "ahead", "outlook"),
    [
        (1_000, 0, 1_999, Outlook.LIKELY),
        (1_000, 0, 2_000, Outlook.UNLIKELY),  # a half of a unit each: exactly all of it
        (1_000, 1_000, 999, Outlook.LIKELY),
        (1_000, 1_000, 1_000, Outlook.UNLIKELY),
        (0, 0, 0, Outlook.UNLIKELY),
    ],
)
def test_likely_is_said_while_stock_exceeds_what_those_ahead_are_expected_to_take(
    available: int, outstanding: int, ahead: int, outlook: Outlook
) -> None:
    seen = view(available=available, outstanding=outstanding, held=1)
    assert forecast.outlook_of(seen, ahead) is outlook


@pytest.mark.parametrize(
    ("joined", "outlook"), [(3_999, Outlook.LIKELY), (4_000, Outlook.UNLIKELY)]
)
def test_before_the_draw_the_middle_place_stands_for_all(joined: int, outlook: Outlook) -> None:
    assert forecast.outlook_of(view(joined=joined, present=None), None) is outlook


# --- turns --------------------------------------------------------------------------------


@FEWER
@given(views(), st.data())
def test_a_called_place_has_the_turn_of_the_first_slot_that_reached_it(
    seen: RoomView, data: st.DataObject
) -> None:
    place = data.draw(st.integers(1, seen.serving + 5))
    found = forecast.turn_of(seen, place, seen.at_ms)
    before = seen.over
    for turns in seen.turns:
        ends = (turns.slot + 1) * seen.room.slot_ms + seen.room.turn_ttl_ms
        if before < place <= turns.serving:
            assert found == ((turns, ends) if seen.at_ms < ends else None)
            assert forecast.turn_of(seen, place, ends - 1) == (turns, ends)
            assert forecast.turn_of(seen, place, ends) is None
            return
        before = turns.serving
    assert found is None


# --- when to ask again --------------------------------------------------------------------

CHANCES = st.floats(0, 1)


def longest(seen: RoomView) -> int:
    return min(seen.room.poll_max_ms, max(1, seen.room.turn_ttl_ms // 4))


@FEWER
@given(views(), st.none() | AHEAD, CHANCES)
def test_the_time_to_the_next_poll_is_within_its_cap_and_a_quarter_of_a_turn(
    seen: RoomView, ahead: int | None, chance: float
) -> None:
    after = forecast.poll_after_ms(seen, ahead, chance)
    assert min(POLL_MIN_MS, longest(seen)) <= after <= longest(seen)
    assert after <= max(1, seen.room.turn_ttl_ms / 4)
    assert after >= 1


@FEWER
@given(views(), AHEAD, AHEAD, CHANCES)
def test_the_time_to_the_next_poll_grows_with_the_position(
    seen: RoomView, one: int, other: int, chance: float
) -> None:
    near, far = (forecast.poll_after_ms(seen, ahead, chance) for ahead in sorted([one, other]))
    assert near <= far


@FEWER
@given(views(), AHEAD, CHANCES, CHANCES)
def test_chance_spreads_the_polls_over_half_of_the_time_at_most(
    seen: RoomView, ahead: int, one: float, other: float
) -> None:
    sooner, later = (forecast.poll_after_ms(seen, ahead, c) for c in sorted([one, other])[::-1])
    assert sooner <= later
    assert later <= max(2 * sooner, POLL_MIN_MS)


def test_a_crowd_that_came_at_once_does_not_ask_at_once() -> None:
    seen = called([100] * 30)
    times = {forecast.poll_after_ms(seen, 9_000, chance / 1_000) for chance in range(1_000)}
    assert len(times) > 900
    assert (min(times), max(times)) == (4_004, 8_000)


def test_an_operator_sees_those_who_wait_and_when_the_last_of_them_is_called() -> None:
    seen = view(vacant=4_000, serving=100, passed=30, left=4_030)
    frame = queue_frame(seen)
    assert (frame.waiting, frame.called, frame.left) == (5_900, 70, 4_030)
    assert frame.eta_last == forecast.eta_of(seen, 9_899)


@pytest.mark.parametrize("starts_ms", [0, 1_500])
def test_before_a_rate_was_measured_whoever_stands_far_behind_asks_seldom(starts_ms: int) -> None:
    seen = view(joined=10**6, starts_at_ms=T0 + starts_ms)
    near, far = (forecast.poll_after_ms(seen, ahead, 0.0) for ahead in (10, 900_000))
    assert near <= POLL_MIN_MS * 1.5 < far == longest(seen)


def test_before_the_lot_is_drawn_a_huge_crowd_is_spread_over_all_the_time_there_is() -> None:
    seen = view(joined=10**7, present=None, starts_at_ms=T0 + 1_000)
    told = [forecast.poll_after_ms(seen, None, chance / 100) for chance in range(101)]
    assert (told[0], told[50], told[100]) == (1_000, (1_000 + longest(seen)) // 2, longest(seen))
    assert len(set(told)) == 101


def test_those_in_front_do_not_all_ask_after_the_same_time() -> None:
    told = {forecast.poll_after_ms(view(), 0, chance / 10) for chance in range(11)}
    assert (min(told), max(told), len(told)) == (1_000, 1_500, 11)


def test_nobody_polls_so_seldom_that_they_miss_their_turn() -> None:
    # Asked at the very moment before being called, and then as late as they were told to.
    for turn_ttl_ms in (4, 100, 4_000, 120_000):
        room = msgspec.structs.replace(ROOM, turn_ttl_ms=turn_ttl_ms, poll_max_ms=3_600_000)
        seen = view(room=room, serving=5, over=5)
        assert forecast.poll_after_ms(seen, 10**8, 0.0) <= turn_ttl_ms / 4


def test_however_many_wait_and_however_slowly_it_goes_the_times_told_are_exact_in_json() -> None:
    slow = msgspec.structs.replace(ROOM, rate_per_s=1e-6)
    eta = forecast.eta_of(view(room=slow, rate_per_s=1e-6, joined=10**8), 10**8)
    assert eta is not None
    assert 0 < eta.earliest_ms <= eta.expected_ms <= limits.TIME_MAX_MS
