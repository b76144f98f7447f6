"""Holding with a turn: nobody without one in a sale with admission, and what a turn is counted
for; and the caps on the holds of one key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flashsale import HoldRequest, Outcome, SaleHandle
from support.lab import T0, Lab
from support.queues import ENDS, SLOT, Hall

ONE = {"red": 1}
SLOT_OF_T0 = T0 // SLOT
REFUSED = Outcome.NOT_ADMITTED


def hold(hall: Hall, buyer: str, basket: Any = ONE, hold_id: str = "h", **more: Any) -> Any:
    return hall.sale.hold(buyer, basket, hold_id=hold_id, **more)


def used(hall: Hall, buyer: str) -> str:
    """How far a buyer's turn is used."""
    text: bytes = hall.field("admitted", buyer)
    return text.decode().rpartition(":")[2]


def counted(hall: Hall) -> list[int]:
    """Of the turns that began at T0: who arrived, who is done, units taken or wanted."""
    return hall.fields(*(f"{SLOT_OF_T0}{letter}" for letter in "adu"))


# --- who may hold -------------------------------------------------------------------------


def test_only_who_was_let_in_may_hold_and_only_until_the_turn_ends(lab: Lab) -> None:
    hall = Hall(lab, {"red": 2})
    with lab.watch(hall.sale) as seen:
        assert hold(hall, "ann").outcome is REFUSED  # never joined
        hall.call("ann", "bob", "cyd")
        assert hold(hall, "ann").outcome is REFUSED  # called, and not let in yet
        assert hold(hall, "cyd").outcome is REFUSED  # not called
    assert (seen.effect, seen.events) == ("", [])
    hall.queue.admit("ann")
    hall.queue.admit("bob")
    hall.at(ENDS - 1)
    assert hold(hall, "ann").outcome is Outcome.HELD
    hall.at(ENDS)
    assert hold(hall, "bob").outcome is REFUSED
    assert hold(hall, "ann", hold_id="h2").outcome is REFUSED
    assert hall.sale.audit().problems == ()


@pytest.mark.parametrize("count", [1, 2, 300])
def test_a_batch_is_judged_buyer_by_buyer(lab: Lab, count: int) -> None:
    hall = Hall(lab, {"red": 1_000})
    hall.let_in("ann")
    crowd = [HoldRequest(f"x{n}", ONE, "h") for n in range(count)]
    answers: Any = hall.sale.hold_many([*crowd, HoldRequest("ann", ONE, "h"), *crowd])
    outcomes = [answer.outcome for answer in answers]
    assert outcomes == [REFUSED] * count + [Outcome.HELD] + [REFUSED] * count
    assert hall.sale.snapshot().buyers == 1


def test_a_sale_without_admission_asks_nobody_for_a_turn(lab: Lab) -> None:
    hall = Hall(lab, sale={"admission": False})
    hall.crowd(3)
    assert hold(hall, "somebody").outcome is Outcome.HELD
    assert hold(hall, "b1").outcome is Outcome.HELD
    assert counted(hall) == [0, 0, 0]


def test_a_sale_with_admission_and_without_a_room_lets_nobody_hold(lab: Lab) -> None:
    sale = lab.open(admission=True)
    assert sale.hold("ann", ONE, hold_id="h").outcome is REFUSED
    assert sale.queue.open(Hall(lab).room).joined == 0


def test_what_was_held_is_told_confirmed_and_released_without_a_turn(lab: Lab) -> None:
    hall = Hall(lab)
    hall.let_in("ann", "bob")
    held = [hold(hall, buyer).unwrap() for buyer in ("ann", "bob")]
    hall.sale.release("dan", "h")  # a tombstone
    hall.at(ENDS + 1)
    again = hold(hall, "ann")
    assert (again.outcome, again.replayed) == (Outcome.HELD, True)
    assert again.deadline_ms == held[0].deadline_ms
    assert hold(hall, "ann", {"red": 2}).outcome is Outcome.CONFLICT
    assert hold(hall, "dan").outcome is Outcome.RELEASED
    hall.at(T0 + 100)
    assert (
        hall.sale.extend(held[0], deadline_ms=held[0].deadline_ms + 5).outcome.value == "extended"
    )
    assert hall.sale.confirm(held[0]).outcome is Outcome.CONFIRMED
    assert hall.sale.release(held[1]).outcome is Outcome.RELEASED
    assert hall.sale.refund("ann", "h", lines=ONE, op_id="r").outcome is Outcome.REFUNDED


def test_a_late_payment_takes_its_stock_again_without_a_turn_and_is_not_counted(lab: Lab) -> None:
    hall = Hall(lab, sale={"hold_ttl_ms": 1_000})
    hall.let_in("ann")
    hold(hall, "ann").unwrap()
    before = counted(hall)
    hall.at(T0 + 2_000)
    assert hall.sale.expire() == 1
    hall.queue.leave("ann")
    assert hall.sale.confirm("ann", "h", late="retake").outcome is Outcome.CONFIRMED
    assert counted(hall)[2] == before[2]


def test_the_winners_of_a_window_need_no_turn_and_are_not_counted(lab: Lab) -> None:
    hall = Hall(lab)
    hall.look()
    rules: dict[str, Any] = {"at": 1_000, "cue_time_ms": T0, "proof": False, "stock": {"red": 2}}
    cue = hall.sale.cue("drop", **rules)
    for buyer in ("ann", "bob", "cyd"):
        assert cue.enter(buyer, ONE, position_ms=1_500).outcome is Outcome.ENTERED
    hall.at(cue.cue().reveals_at_ms)
    assert cue.settle(wait=False).awarded == 2
    results = [cue.result(buyer) for buyer in ("ann", "bob", "cyd")]
    assert sorted(answer.outcome.value for answer in results) == ["held", "held", "not_drawn"]
    assert hold(hall, "ann", hold_id="other").outcome is REFUSED
    winner = next(answer for answer in results if answer.outcome is Outcome.HELD)
    assert hall.sale.confirm(winner).outcome is Outcome.CONFIRMED
    assert counted(hall) == [0, 0, 0]
    assert hall.sale.audit().problems == ()


# --- the order of judging -----------------------------------------------------------------


class Bad:
    """A hold of somebody without a turn, or of a key that is used up; reasons can be added."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.rules: dict[str, Any] = {"limits": {}}
        self.stock = {"red": 5, "blue": 5}
        self.basket: dict[str, int] = {"red": 2}
        self.before: list[Callable[[SaleHandle], object]] = []
        self.after: list[Callable[[SaleHandle], object]] = []
        self.admitted, self.key = True, ""

    def conflict(self) -> None:
        self.before.append(lambda sale: sale.hold("ann", {"blue": 1}, hold_id="h").unwrap())

    def ended(self) -> None:
        self.after.append(lambda sale: sale.end())

    def paused(self) -> None:
        self.after.append(lambda sale: sale.pause())

    def closed(self) -> None:
        self.rules["closes_at_ms"] = T0 + 500

    def not_admitted(self) -> None:
        self.admitted = False

    def sku_unknown(self) -> None:
        self.basket["green"] = 1

    def shard_full(self) -> None:
        self.rules["buyers_max"] = 1
        self.before.append(lambda sale: sale.release("someone", "else"))

    def too_many_holds(self) -> None:
        self.rules["holds_max"] = 1
        self.before.append(lambda sale: sale.release("ann", "another"))

    def key_limit(self) -> None:
        self.rules["key_holds_max"] = 1
        self.key = "phone"
        self.after.insert(0, lambda sale: self.lab.raw.hset(self.lab.keys(sale).caps, "phone", 1))

    def limit_reached(self) -> None:
        self.rules["limits"] = {"red": 1}

    def sold_out(self) -> None:
        self.stock["red"] = 1

    def outcome(self) -> Outcome:
        hall = Hall(self.lab, self.stock, sale=self.rules)
        hall.let_in("ann")
        for step in [*self.before, *self.after]:
            step(hall.sale)
        if not self.admitted:
            self.lab.raw.hdel(self.lab.keys(hall.sale).admitted, "ann")
        hall.at(T0 + 500)
        before = hall.everything()
        answer = hold(hall, "ann", self.basket, key=self.key)
        many: Any = hall.sale.hold_many([HoldRequest("ann", self.basket, "h", key=self.key)] * 2)
        assert [item.outcome for item in many] == [answer.outcome] * 2
        after = hall.everything()
        if answer.outcome is not Outcome.SOLD_OUT:  # that is counted, see below
            assert after == before
        return answer.outcome


ORDER = {
    "conflict": Outcome.CONFLICT,
    "ended": Outcome.ENDED,
    "paused": Outcome.PAUSED,
    "closed": Outcome.CLOSED,
    "not_admitted": REFUSED,
    "sku_unknown": Outcome.SKU_UNKNOWN,
    "shard_full": Outcome.SHARD_FULL,
    "too_many_holds": Outcome.TOO_MANY_HOLDS,
    "key_limit": Outcome.KEY_LIMIT,
    "limit_reached": Outcome.LIMIT_REACHED,
    "sold_out": Outcome.SOLD_OUT,
}
PAIRS = [
    (first, second)
    for at, first in enumerate(ORDER)
    for second in list(ORDER)[at + 1 :]
    if "not_admitted" in (first, second) or "key_limit" in (first, second)
]


@pytest.mark.parametrize("reason", ["not_admitted", "key_limit"])
def test_no_turn_or_a_key_used_up_refuses_a_hold_by_itself(lab: Lab, reason: str) -> None:
    bad = Bad(lab)
    getattr(bad, reason)()
    assert bad.outcome() is ORDER[reason]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_of_two_reasons_the_earlier_in_the_order_answers(lab: Lab, first: str, second: str) -> None:
    bad = Bad(lab)
    getattr(bad, first)()
    getattr(bad, second)()
    assert bad.outcome() is ORDER[first]


# --- what a turn is counted for -----------------------------------------------------------


def test_the_first_hold_ends_a_turns_claim_and_alone_adds_its_units(lab: Lab) -> None:
    hall = Hall(lab)
    hall.let_in("ann", "bob")
    assert counted(hall) == [2, 0, 0]
    hold(hall, "ann", {"red": 2, "blue": 1}).unwrap()
    assert (counted(hall), used(hall, "ann"), used(hall, "bob")) == ([2, 1, 3], "1", "0")
    hold(hall, "ann", {"blue": 4}, "h2").unwrap()
    assert counted(hall) == [2, 1, 3]
    assert hold(hall, "ann", {"blue": 4}, "h2").replayed
    hall.sale.release("ann", "h")  # what comes back is not taken off
    assert counted(hall) == [2, 1, 3]
    assert hall.look().outstanding == 1


def test_a_sold_out_is_counted_once_a_turn_and_the_first_hold_after_it_not_again(lab: Lab) -> None:
    hall = Hall(lab, {"red": 2, "blue": 8})
    hall.let_in("zoe", "ann")
    hold(hall, "zoe", {"red": 1}).unwrap()
    for hold_id in ("h1", "h2"):
        answer = hold(hall, "ann", {"red": 2, "blue": 7}, hold_id)
        assert answer.outcome is Outcome.SOLD_OUT
    assert (counted(hall), used(hall, "ann")) == ([2, 1, 10], "w")
    assert hall.look().outstanding == 1  # the turn is not done
    hold(hall, "ann", {"blue": 3}, "h3").unwrap()
    assert (counted(hall), used(hall, "ann")) == ([2, 2, 10], "1")
    hold(hall, "ann", {"blue": 2}, "h4").unwrap()
    assert hold(hall, "ann", {"blue": 8}, "h5").outcome is Outcome.SOLD_OUT
    assert counted(hall) == [2, 2, 10]  # a turn is counted once


@pytest.mark.parametrize(("where", "wish", "units"), [
    ("available", {"red": 6}, 0), ("available", {"red": 10**6}, 0),
    ("held", {"red": 5}, 5), ("sold", {"red": 5}, 5), ("sold", {"red": 6}, 0),
    ("set aside", {"red": 5}, 5), ("set aside", {"red": 6}, 0),
    ("held", {"red": 5, "blue": 6}, 0), ("held", {"blue": 5, "red": 6}, 0),
])  # fmt: skip
def test_a_wish_counts_if_the_sale_ever_had_as_much(
    lab: Lab, where: str, wish: dict[str, int], units: int
) -> None:
    hall = Hall(lab, {"red": 5, "blue": 5})
    hall.let_in("zoe", "ann")
    if where == "set aside":
        hall.sale.cue("drop", at=1, cue_time_ms=T0, stock={"red": 1})
    elif where != "available":
        held = hold(hall, "zoe", {"red": 1}).unwrap()
        if where == "sold":
            hall.sale.confirm(held).unwrap()
    before = counted(hall)[2]
    assert hold(hall, "ann", wish).outcome is Outcome.SOLD_OUT
    assert (counted(hall)[2] - before, used(hall, "ann")) == (units, "w" if units else "0")
    hold(hall, "ann", {"blue": 2}, "h2").unwrap()  # counted if the wish was not
    assert (counted(hall)[2] - before, used(hall, "ann")) == (units or 2, "1")


@pytest.mark.parametrize(
    ("conversion", "most"), [(0.013, 10), (1, 10), (1.55, 15), (2.5, 25), (40, 400)]
)
def test_one_turn_counts_ten_times_the_assumed_conversion_at_most(
    lab: Lab, conversion: float, most: int
) -> None:
    hall = Hall(lab, {"red": 10_000}, conversion=conversion)
    hall.let_in("ann", "bob", "cyd")
    hold(hall, "ann", {"red": most}).unwrap()
    assert counted(hall)[2] == most
    hold(hall, "bob", {"red": most + 1}).unwrap()
    assert counted(hall)[2] == 2 * most
    assert hold(hall, "cyd", {"red": 10_000}).outcome is Outcome.SOLD_OUT
    assert counted(hall)[2] == 3 * most


def bound_after_a_crowd(lab: Lab, deed: Callable[[Hall], object]) -> int:
    """The bound after 100 turns of which half took a unit, and the last one's buyer did that."""
    hall = Hall(lab, {"red": 5_000}, conversion=0.5)
    buyers = [f"b{n}" for n in range(100)]
    hall.let_in(*buyers)
    hall.sale.hold_many([HoldRequest(buyer, ONE, "h") for buyer in buyers[:50]])
    deed(hall)
    view = hall.look(ENDS)
    assert view.over == 100
    return view.bound


def take_and_give_back(hall: Hall) -> None:
    for n in range(8):
        hold(hall, "b99", {"red": 1_000}, f"big-{n}").unwrap()
        hall.sale.release("b99", f"big-{n}").unwrap()


@pytest.mark.parametrize("hostile", [
    lambda hall: hold(hall, "b99", {"red": 10**6}),
    lambda hall: hold(hall, "b99", {"red": 5_000}),
    take_and_give_back,
])  # fmt: skip
def test_one_buyer_with_hostile_baskets_does_not_stop_a_sale(
    lab: Lab, hostile: Callable[[Hall], object]
) -> None:
    usual = bound_after_a_crowd(lab, lambda hall: None)
    assert usual == 9_900
    assert bound_after_a_crowd(lab, hostile) >= 0.85 * usual


def test_a_sold_out_with_may_return_is_counted_too_and_other_refusals_are_not(lab: Lab) -> None:
    hall = Hall(lab, {"red": 2}, sale={"limits": {"red": 2}})
    hall.let_in("ann", "bob")
    hold(hall, "ann", {"red": 2}).unwrap()
    assert hold(hall, "bob", {"red": 3}).outcome is Outcome.LIMIT_REACHED
    assert hold(hall, "bob", {"green": 1}).outcome is Outcome.SKU_UNKNOWN
    assert counted(hall) == [2, 1, 2]
    answer = hold(hall, "bob", {"red": 2})
    assert (answer.outcome, answer.may_return) == (Outcome.SOLD_OUT, True)
    assert counted(hall) == [2, 1, 4]


def test_two_holds_of_one_turn_in_a_batch_are_counted_like_one_after_the_other(lab: Lab) -> None:
    hall = Hall(lab)
    hall.let_in("ann", "bob")
    requests = [HoldRequest(buyer, {"red": 2}, f"h{n}") for n in (1, 2) for buyer in ("ann", "bob")]
    answers: Any = hall.sale.hold_many(requests)
    assert {answer.outcome for answer in answers} == {Outcome.HELD}
    assert counted(hall) == [2, 2, 4]


def test_holds_of_turns_that_began_in_different_slots_are_counted_in_their_own(lab: Lab) -> None:
    hall = Hall(lab)
    hall.let_in("ann")
    hall.at(T0 + SLOT)
    hall.let_in("bob")
    answers: Any = hall.sale.hold_many(
        [HoldRequest("ann", {"red": 1}, "h"), HoldRequest("bob", {"red": 3}, "h")]
    )
    assert {answer.outcome for answer in answers} == {Outcome.HELD}
    assert counted(hall) == [1, 1, 1]
    assert hall.fields(*(f"{SLOT_OF_T0 + 1}{letter}" for letter in "adu")) == [1, 1, 3]


def test_the_books_are_right_after_holds_with_turns(lab: Lab) -> None:
    hall = Hall(lab, {"red": 50})
    buyers = [f"b{n}" for n in range(1, 31)]
    hall.let_in(*buyers)
    answers: Any = hall.sale.hold_many(
        [HoldRequest(buyer, ONE, "h", "app", "note") for buyer in buyers]
    )
    assert {answer.outcome for answer in answers} == {Outcome.HELD}
    hall.sale.confirm_many(answers[:20])
    hall.sale.release_many(answers[20:])
    assert hall.sale.audit().problems == ()
    events = [event for entry in hall.sale.ledger.read().entries for event in entry.events]
    assert sum(event.channel == "app" for event in events) == 30


# --- caps on the holds of one key ---------------------------------------------------------


@pytest.mark.parametrize("admission", [True, False])
def test_a_key_has_so_many_holds_and_they_are_never_counted_back(lab: Lab, admission: bool) -> None:
    hall = Hall(lab, sale={"key_holds_max": 2, "admission": admission})
    if admission:
        hall.let_in("a", "b", "c", "d")
    assert hold(hall, "a", key="phone").outcome is Outcome.HELD
    again = hold(hall, "a", key="phone")
    assert (again.outcome, again.replayed) == (Outcome.HELD, True)
    hall.sale.release("a", "h")
    assert hold(hall, "b", key="phone").outcome is Outcome.HELD
    assert hold(hall, "c", key="phone").outcome is Outcome.KEY_LIMIT
    assert hold(hall, "c", key="other").outcome is Outcome.HELD
    assert hold(hall, "d").outcome is Outcome.HELD  # without a key nothing is counted
    assert lab.raw.hgetall(lab.keys(hall.sale).caps) == {b"phone": b"2", b"other": b"1"}


def test_the_holds_of_a_key_are_counted_within_a_batch(lab: Lab) -> None:
    sale = lab.open(key_holds_max=2)
    requests = [HoldRequest(f"b{n}", ONE, "h", key="phone" if n % 2 else "") for n in range(8)]
    answers: Any = sale.hold_many(requests)
    held, limit = Outcome.HELD, Outcome.KEY_LIMIT
    assert [answer.outcome for answer in answers] == [
        held, held, held, held, held, limit, held, limit,
    ]  # fmt: skip
    assert sale.audit().problems == ()


def test_keys_are_neither_counted_nor_kept_in_a_sale_that_does_not_say_so(lab: Lab) -> None:
    sale = lab.open()
    for n in range(3):
        assert sale.hold(f"b{n}", ONE, hold_id="h", key="phone").outcome is Outcome.HELD
    assert lab.raw.exists(lab.keys(sale).caps) == 0


def test_a_refused_hold_is_not_counted_for_its_key(lab: Lab) -> None:
    sale = lab.open({"red": 1}, key_holds_max=1)
    assert sale.hold("a", {"red": 2}, hold_id="h", key="phone").outcome is Outcome.SOLD_OUT
    assert sale.hold("a", {"red": 1}, hold_id="h", key="phone").outcome is Outcome.HELD
