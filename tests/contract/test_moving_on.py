"""Moving a room on: how many places are called when, and when turns have ended, to the
millisecond. The formulas are those of lua/README.md, "Moving on".
"""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from flashsale import Outcome, RoomView, forecast, limits, waiting_room
from flashsale.batches import run_all
from support.lab import T0, Lab
from support.queues import ENDS, SLOT, TTL, Hall

OPENING = T0 + 60_000
SLOT_OF_T0 = T0 // SLOT
FIELDS = "sadup"


def serving(hall: Hall, *times: int) -> list[int]:
    """The highest place called, at each of these times after T0."""
    return [hall.look(T0 + at_ms).serving for at_ms in times]


# --- the bucket ---------------------------------------------------------------------------


def test_places_are_called_at_the_rate_and_to_the_millisecond(lab: Lab) -> None:
    hall = Hall(lab, {"red": 1_000}, rate_per_s=4)
    hall.crowd(100)
    # One at first, and then one every 250 ms.
    assert serving(hall, 0, 1, 249, 250, 499, 500, 999, 1_000) == [1, 1, 1, 2, 2, 3, 4, 5]


def test_a_fractional_rate_loses_nothing_between_calls(lab: Lab) -> None:
    hall = Hall(lab, {"red": 1_000}, rate_per_s=1.5)
    hall.crowd(100)
    times = range(0, 10_001, 100)
    assert serving(hall, *times) == [1 + at_ms * 3 // 2_000 for at_ms in times]


@pytest.mark.parametrize("rate", [0.000001, 0.0003])
def test_the_slowest_rate_calls_however_often_somebody_asks(lab: Lab, rate: float) -> None:
    hall = Hall(lab, {"red": 1_000}, rate_per_s=rate, turn_ttl_ms=2_592_000_000)
    hall.crowd(3)
    next_ms = math.ceil(1_000 / rate)
    assert serving(hall, 0) == [1]
    # Each of these steps adds less than half a millionth of a place.
    assert serving(hall, *range(next_ms - 20, next_ms)) == [1] * 20
    assert serving(hall, next_ms) == [2]


def test_steering_a_slow_room_again_and_again_loses_nothing(lab: Lab) -> None:
    hall = Hall(lab, {"red": 1_000}, rate_per_s=0.0003)
    hall.crowd(3)
    next_ms = 3_333_334
    assert serving(hall, 0, next_ms - 20) == [1, 1]
    for at_ms in range(next_ms - 19, next_ms):
        hall.at(T0 + at_ms)
        assert hall.queue.resume().serving == 1
    assert serving(hall, next_ms) == [2]


@pytest.mark.parametrize(("rate", "burst"), [(0.01, 1), (0.5, 1), (0.9, 1), (1.0, 2), (10.0, 20)])
def test_two_seconds_of_the_rate_are_called_at_most_in_one_go_and_always_one(
    lab: Lab, rate: float, burst: int
) -> None:
    hall = Hall(lab, {"red": 1_000}, rate_per_s=rate)
    hall.crowd(100)
    assert serving(hall, 0) == [1]
    assert serving(hall, 500_000) == [1 + burst]
    assert serving(hall, 500_000, 500_001) == [1 + burst] * 2


def test_whoever_asks_moves_the_room_on_and_asking_often_calls_no_more(lab: Lab) -> None:
    often, seldom = (Hall(lab, {"red": 1_000}, rate_per_s=3) for _ in range(2))
    for hall in (often, seldom):
        hall.crowd(50)
        hall.look()
    for at_ms in range(0, 2_000, 7):
        often.at(T0 + at_ms)
        often.queue.admit("b50")
    assert serving(often, 2_000) == serving(seldom, 2_000)


def test_an_admission_alone_moves_the_room_on(lab: Lab) -> None:
    hall = Hall(lab)
    hall.join("ann")
    hall.at(T0 + 5)
    assert hall.queue.admit("ann").outcome is Outcome.ADMITTED
    assert hall.fields("serving") == [1]


def test_nobody_is_called_who_has_not_joined(lab: Lab) -> None:
    hall = Hall(lab)
    assert serving(hall, 0, 10) == [0, 0]
    hall.crowd(3)
    assert serving(hall, 10, 20) == [3, 3]


# --- the opening --------------------------------------------------------------------------


def test_at_the_opening_and_not_a_millisecond_before_numbers_are_fixed_and_drawn(
    lab: Lab,
) -> None:
    hall = Hall(lab, opens_at_ms=OPENING)
    hall.crowd(30)
    early = hall.look(OPENING - 1)
    assert (early.present, early.seed, early.serving, early.drawn) == (None, "", 0, False)
    view = hall.look(OPENING)
    assert (view.present, view.serving, view.drawn) == (30, 1, True)
    (late,) = hall.join("late")
    assert (late.number, late.place) == (31, 31)
    told = hall.crowd(30)
    places = [answer.place or 0 for answer in told]
    assert sorted(places) == list(range(1, 31))
    assert places == [hall.place_of(number) for number in range(1, 31)]
    assert places != list(range(1, 31))


def test_a_join_that_comes_first_after_the_opening_fixes_the_numbers_before_itself(
    lab: Lab,
) -> None:
    hall = Hall(lab, opens_at_ms=OPENING)
    hall.crowd(3)
    kept = dict(lab.shop._rooms)  # the client's own view is of before
    hall.at(OPENING)
    lab.shop._rooms.update(kept)
    answer = hall.queue.join("late")
    assert answer.number == 4
    assert hall.fields("present", "joined") == [3, 4]


def test_with_nobody_there_at_the_opening_no_seed_is_needed(lab: Lab) -> None:
    hall = Hall(lab, opens_at_ms=OPENING)
    view = hall.look(OPENING)
    assert (view.present, view.seed, view.drawn) == (0, "", True)
    hall.join("ann")
    assert serving(hall, 60_000) == [1]


def test_nobody_is_called_before_the_seed_is_revealed(lab: Lab) -> None:
    hall = Hall(lab, opens_at_ms=OPENING)
    hall.crowd(3)
    hall.at(OPENING)
    reply = lab.eval("waiting_room/show", hall.sale)
    assert hall.fields("present", "serving") == [3, 0]
    assert reply[6][0] == 0
    assert hall.look(OPENING).serving == 1


def test_a_room_opened_after_its_opening_time_takes_all_in_the_order_of_coming(lab: Lab) -> None:
    hall = Hall(lab, opens_at_ms=T0 - 5)
    assert [answer.place for answer in hall.crowd(5)] == [1, 2, 3, 4, 5]


# --- the bound ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stock", "conversion", "margin", "bound"),
    [
        (20, 1, 0, 20),
        (20, 0.5, 0, 40),
        (20, 0.5, 0.1, 36),
        (20, 3, 0, 6),
        (1, 3, 0, 1),
        (1, 1_000, 1, 1),
        (0, 0.5, 0, 0),
        (7, 0.3, 0.07, 21),
    ],
)
def test_turns_outstanding_never_exceed_what_the_stock_is_expected_to_be_for(
    lab: Lab, stock: int, conversion: float, margin: float, bound: int
) -> None:
    hall = Hall(lab, {"red": stock}, conversion=conversion, margin=margin)
    hall.crowd(100)
    hall.look()
    view = hall.look(T0 + 1)
    assert (view.bound, view.serving, view.outstanding) == (bound, bound, bound)
    assert view.conversion == conversion


def test_with_much_stock_and_a_tiny_conversion_the_bound_is_all_the_places_there_can_be(
    lab: Lab,
) -> None:
    """The quotient, 10^18 and more, is what no reply can tell: it came back as -2^63."""
    hall = Hall(lab, {"red": 10**12}, conversion=1e-6, margin=0)
    hall.crowd(3)
    hall.look()
    view = hall.look(T0 + 1)
    assert (view.bound, view.serving) == (limits.PLACES_MAX, 3)


def test_the_stock_of_all_skus_counts_and_only_what_is_available(lab: Lab) -> None:
    hall = Hall(lab, {"red": 4, "blue": 3}, sale={"admission": False})
    hall.crowd(50)
    hall.sale.hold("x", {"red": 2}, hold_id="h").unwrap()
    hall.sale.cue("drop", at=1, cue_time_ms=T0, stock={"blue": 1})
    view = hall.look(T0 + 1)
    assert (view.available, view.set_aside, view.held) == (4, 1, 2)
    assert view.serving == 4


def test_who_is_done_makes_room_for_the_next_as_long_as_there_is_stock(lab: Lab) -> None:
    hall = Hall(lab, {"red": 3})
    hall.crowd(10)
    assert serving(hall, 0, 1) == [1, 3]
    for n in (1, 2):
        hall.queue.admit(f"b{n}")
        hall.sale.hold(f"b{n}", {"red": 1}, hold_id="h").unwrap()
    view = hall.look(T0 + 2)  # one unit is available, and one turn is outstanding for it
    assert (view.outstanding, view.bound, view.serving) == (1, 1, 3)
    hall.sale.release("b1", "h")
    view = hall.look(T0 + 3)
    assert (view.outstanding, view.bound, view.serving) == (2, 2, 4)


def test_a_bound_that_sinks_below_the_turns_outstanding_calls_nobody_back(lab: Lab) -> None:
    hall = Hall(lab, {"red": 10})
    hall.crowd(20)
    assert serving(hall, 0, 1) == [1, 10]
    hall.sale.restock({"red": -8}, op_id="lost").unwrap()
    view = hall.look(T0 + 2)
    assert (view.serving, view.outstanding, view.bound) == (10, 10, 2)
    hall.sale.restock({"red": 9}, op_id="found").unwrap()
    assert hall.look(T0 + 3).serving == 11


# --- turns that end -----------------------------------------------------------------------


@pytest.mark.parametrize("called_at", [0, 1, SLOT - 1, SLOT, 3 * SLOT + 500])
def test_a_turn_lasts_its_full_time_after_its_slot_to_the_millisecond(
    lab: Lab, called_at: int
) -> None:
    hall = Hall(lab)
    hall.at(T0 + called_at)
    hall.join("ann")
    hall.look()
    ends = T0 + called_at // SLOT * SLOT + SLOT + TTL
    view = hall.look(ends - 1)
    assert (view.over, view.outstanding, len(view.turns)) == (0, 1, 1)
    assert hall.queue.admit("ann").turn_ends_ms == ends
    view = hall.look(ends)
    assert (view.over, view.outstanding, view.turns) == (1, 0, ())
    assert hall.queue.admit("ann").outcome is Outcome.TURN_OVER


@pytest.mark.parametrize("turn_ttl_ms", [1, 2, 31, 33, 1_000, 2_592_000_000])
def test_the_shortest_and_the_longest_turns_end_at_most_a_slot_later(
    lab: Lab, turn_ttl_ms: int
) -> None:
    hall = Hall(lab, turn_ttl_ms=turn_ttl_ms)
    hall.at(T0 + 7)
    hall.join("ann")
    hall.look()
    slot_ms = -(-turn_ttl_ms // 32)
    ends = ((T0 + 7) // slot_ms + 1) * slot_ms + turn_ttl_ms
    assert turn_ttl_ms < ends - (T0 + 7) <= turn_ttl_ms + slot_ms
    hall.at(ends - 1)
    told = hall.queue.admit("ann")
    assert (told.outcome, told.turn_ends_ms) == (Outcome.ADMITTED, ends)
    assert hall.sale.hold("ann", {"red": 1}, hold_id="h").outcome is Outcome.HELD
    hall.at(ends)
    assert hall.sale.hold("ann", {"red": 1}, hold_id="h2").outcome is Outcome.NOT_ADMITTED
    assert hall.look().over == 1


def test_slots_whose_turns_have_ended_are_folded_and_their_fields_removed(lab: Lab) -> None:
    hall = Hall(lab, {"red": 100})
    for slot in range(3):
        hall.at(T0 + slot * SLOT + 1)
        hall.crowd(4, first=4 * slot + 1)
        hall.look()
        hall.look(hall.now() + 1)
        for n in range(4 * slot + 1, 4 * slot + 1 + slot):
            hall.queue.admit(f"b{n}")
            hall.sale.hold(f"b{n}", {"red": 2}, hold_id="h").unwrap()
    slots = [SLOT_OF_T0, SLOT_OF_T0 + 1, SLOT_OF_T0 + 2]
    assert [hall.fields(*(f"{slot}{letter}" for letter in FIELDS)) for slot in slots] == [
        [4, 0, 0, 0, 0],
        [8, 1, 1, 2, 0],
        [12, 2, 2, 4, 0],
    ]
    folded = {0: (0, 0, 0), 1: (4, 0, 0), 2: (8, 2, 1), 3: (12, 6, 3)}
    for gone, (over, units, arrived) in folded.items():
        hall.look(ENDS + (gone - 1) * SLOT)
        assert hall.fields("over", "units", "arrived") == [over, units, arrived]
        left = {name[:-1] for name in lab.raw.hkeys(lab.keys(hall.sale).room) if name[:1] == b"4"}
        assert left == {str(slot).encode() for slot in slots[gone:]}


def test_all_slots_that_ended_while_nobody_asked_are_folded_at_once(lab: Lab) -> None:
    hall = Hall(lab, {"red": 100})
    for slot in range(20):
        hall.at(T0 + slot * SLOT)
        hall.crowd(1, first=slot + 1)
        hall.look()
    view = hall.look(T0 + 10**9)
    assert (view.over, view.turns, view.no_shows, view.outstanding) == (20, (), 20, 0)


def test_conversion_goes_from_what_is_assumed_to_what_is_measured(lab: Lab) -> None:
    hall = Hall(lab, {"red": 1_000}, conversion=0.5, margin=0.25)
    hall.crowd(30)
    assert serving(hall, 0, 1) == [1, 30]
    for n in range(1, 11):
        hall.queue.admit(f"b{n}")
        hall.sale.hold(f"b{n}", {"red": 3}, hold_id="h").unwrap()
    view = hall.look(ENDS - 1)
    assert view.conversion == 0.5  # nothing is known before turns have ended
    view = hall.look(ENDS)
    expected = (0.5 * 20 + 30) / (20 + 30)
    assert view.conversion == pytest.approx(expected, abs=1e-9)
    assert view.bound == int(970 / (expected * 1.25))
    assert (view.arrived, view.no_shows, view.units) == (10, 20, 30)


def test_with_no_shows_leavers_and_holds_that_expire_the_whole_stock_still_sells(lab: Lab) -> None:
    hall = Hall(lab, {"red": 6}, sale={"hold_ttl_ms": TTL // 2}, conversion=0.5, margin=0.1)
    hall.crowd(120)
    chance, now = random.Random(7), T0
    while now < T0 + 200 * TTL:
        before = hall.fields("serving")
        view = hall.look(now)
        if [view.serving] > before:  # whoever is called is called within the bound
            assert view.outstanding <= view.bound
        if view.gone:
            break
        for number in range(view.over + 1, view.serving + 1):
            buyer, luck = f"b{number}", chance.random()
            if luck < 0.2:
                hall.queue.leave(buyer)
            elif luck < 0.6 and hall.queue.admit(buyer).outcome is Outcome.ADMITTED:
                held = hall.sale.hold(buyer, {"red": 1}, hold_id="h")
                if held.outcome is Outcome.HELD and luck < 0.5:
                    hall.sale.confirm(held)
        now += TTL // 3
    assert view.gone
    assert view.serving < 120  # and not by calling everybody
    assert hall.sale.snapshot().skus["red"].sold == 6
    assert hall.sale.audit().problems == ()


# --- places that were left ----------------------------------------------------------------


def test_places_that_were_left_take_no_tokens_no_turns_and_no_stock(lab: Lab) -> None:
    hall = Hall(lab, {"red": 2}, rate_per_s=1)
    hall.queue.pause()
    hall.crowd(9)
    for n in (1, 2, 3, 5, 6, 9):
        hall.queue.leave(f"b{n}")
    view = hall.queue.resume()
    assert (view.serving, view.outstanding, view.waiting, view.vacant) == (4, 1, 2, 3)
    assert view.turns[0].passed == 3
    view = hall.look(T0 + 999)
    assert view.serving == 4  # what comes next is left, but it is not its time
    view = hall.look(T0 + 1_000)
    assert (view.serving, view.outstanding, view.waiting, view.vacant) == (7, 2, 1, 1)
    assert hall.look(T0 + 5_000).serving == 7  # there is no stock for more
    view = hall.look(ENDS + SLOT)
    assert (view.serving, view.vacant, view.passed, view.left) == (9, 0, 6, 6)
    assert (view.over, view.no_shows) == (7, 2)
    assert hall.fields("passed", "vacant", "over") == [5, 0, 7]


def test_places_that_were_left_do_not_count_for_what_a_turn_takes(lab: Lab) -> None:
    hall = Hall(lab, {"red": 100}, conversion=0.5)
    hall.crowd(30)
    for n in range(1, 21):
        hall.queue.leave(f"b{n}")
    hall.look()
    hall.look(T0 + 1)
    for n in range(21, 31):
        hall.queue.admit(f"b{n}")
        hall.sale.hold(f"b{n}", {"red": 2}, hold_id="h").unwrap()
    view = hall.look(ENDS)
    assert (view.over, view.passed, view.arrived, view.no_shows) == (30, 20, 10, 0)
    assert view.conversion == pytest.approx((0.5 * 20 + 20) / (20 + 10), abs=1e-9)


def test_one_call_looks_at_so_many_places_and_loses_nothing_by_it(lab: Lab) -> None:
    most = limits.LOOKS_MAX
    hall = Hall(lab, {"red": 1_000})
    hall.crowd(3 * most)
    hall.look()
    for n in range(2, 2 * most + 1):
        hall.queue.leave(f"b{n}")
    hall.at(T0 + 1)
    steps = []
    for _ in range(3):
        lab.eval("waiting_room/show", hall.sale)
        steps.append(hall.fields("serving", "vacant"))
    # The last of them has no vacant place left to look for, and calls the rest at once.
    assert steps == [[1 + most, most - 1], [3 * most, 0], [3 * most, 0]]


def test_one_look_goes_on_where_one_call_does_not_get_through(lab: Lab) -> None:
    most = limits.LOOKS_MAX * limits.GLANCES_MAX
    hall = Hall(lab, {"red": 1}, places_max=10_000)
    hall.queue.pause()
    hall.crowd(most + 39)
    hall.join("last")
    kind = waiting_room.leave_kind(hall.look())
    everybody = [waiting_room.leave_item(f"b{n}", None) for n in range(1, most + 40)]
    answers: Any = lab.shop.perform(run_all(kind, everybody, lambda item: item))
    assert {answer.outcome for answer in answers} == {Outcome.LEFT}
    assert hall.fields("left", "vacant") == [most + 39, most + 39]
    view = hall.queue.resume()
    assert (view.serving, view.vacant, view.outstanding) == (most, 39, 0)
    soon = forecast.poll_after_ms(view, 39, 1.0)
    assert soon == 1_000  # hardly anybody is ahead, so whoever waits asks again soon
    view = hall.look(T0 + 1_000)
    assert (view.serving, view.vacant, view.outstanding) == (most + 40, 0, 1)


def test_whoever_comes_back_in_time_is_called(lab: Lab) -> None:
    hall = Hall(lab, {"red": 2}, rate_per_s=1)
    hall.crowd(4)
    hall.look()
    for n in (2, 3):
        hall.queue.leave(f"b{n}")
    assert hall.join("b3")[0].number == 3
    view = hall.look(T0 + 1_000)
    assert (view.serving, view.turns[-1].passed) == (3, 1)
    assert hall.queue.admit("b3").outcome is Outcome.ADMITTED


# --- what stops it ------------------------------------------------------------------------


def test_a_paused_sale_calls_nobody_but_its_turns_go_on_and_end(lab: Lab) -> None:
    hall = Hall(lab, {"red": 2})
    hall.call("a", "b", "c")
    hall.queue.admit("a")
    hall.sale.pause()
    view = hall.look(ENDS)
    assert (view.serving, view.over, view.closed) == (2, 2, Outcome.PAUSED)
    hall.sale.resume()
    assert hall.look(ENDS + 1).serving == 3


@pytest.mark.parametrize("stop", ["end", "close", "not open"])
def test_a_sale_that_takes_no_holds_calls_nobody(lab: Lab, stop: str) -> None:
    rules: dict[str, Any] = {"close": {"closes_at_ms": T0 + 5}, "not open": {"opens_at_ms": ENDS}}
    hall = Hall(lab, sale=rules.get(stop, {}))
    hall.crowd(3)
    if stop == "end":
        hall.sale.end()
    assert hall.look(T0 + 10).serving == 0


def test_holds_that_fell_due_are_swept_by_show_and_more_are_called(lab: Lab) -> None:
    check_sweep(lab, lambda hall: hall.look(T0 + 1_000))


def test_holds_that_fell_due_are_swept_by_admit_and_more_are_called(lab: Lab) -> None:
    def admit(hall: Hall) -> RoomView:
        hall.at(T0 + 1_000)
        assert hall.queue.admit("b3").outcome is Outcome.ADMITTED
        return hall.look()

    check_sweep(lab, admit)


def check_sweep(lab: Lab, move: Any) -> None:
    hall = Hall(lab, {"red": 2}, sale={"hold_ttl_ms": 999})
    hall.crowd(5)
    assert serving(hall, 0, 1) == [1, 2]
    for n in (1, 2):
        hall.queue.admit(f"b{n}")
        hall.sale.hold(f"b{n}", {"red": 1}, hold_id="h").unwrap()
    assert hall.look(T0 + 999).serving == 2  # sold out: nobody is called in vain
    with lab.watch(hall.sale) as seen:
        view = move(hall)
    assert seen.effect == "red a+2 h-2"
    assert (view.available, view.held, view.serving) == (2, 0, 4)
    assert hall.sale.audit().problems == ()


def test_a_sale_with_a_thousand_skus_moves_on(lab: Lab) -> None:
    hall = Hall(lab, {f"sku-{n}": 1 for n in range(1_000)})
    hall.crowd(1_000)
    hall.look()
    view = hall.look(T0 + 1)
    assert (view.available, view.serving) == (1_000, 1_000)
