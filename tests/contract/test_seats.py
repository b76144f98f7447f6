"""A cue keeps a seat among the shard's buyers for every winner: no award finds the shard full."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from flashsale import HoldRequest, InvalidRequest, Outcome, Rejected, SaleHandle
from flashsale.baskets import encode
from support.cues import Tap, contents, enter_all, open_cue
from support.lab import T0, Lab


def fill(sale: SaleHandle, prefix: str = "x") -> int:
    """Let new buyers hold until the shard takes no more; how many it took."""
    for count in range(100):
        answer = sale.hold(f"{prefix}{count}", {"blue": 1}, hold_id="h")
        if answer.outcome is Outcome.SHARD_FULL:
            return count
        answer.unwrap()
    raise AssertionError("the shard is never full")


def seats(lab: Lab, sale: SaleHandle) -> int:
    kept: Any = lab.raw.hget(lab.keys(sale).sale, "seats")
    assert int(kept) == sum(sku.set_aside for sku in sale.snapshot().skus.values())
    return int(kept)


def announce(lab: Lab, sale: SaleHandle, handle: Any) -> Any:
    """Settle at the close and once more at the announced time."""
    for at_ms in (handle.cue().closes_at_ms, handle.cue().reveals_at_ms):
        lab.set_time(sale, max(at_ms, sale.snapshot().at_ms))
        told = handle.settle(wait=False)
    return told


def crowded(lab: Lab, **rules: Any) -> SaleHandle:
    return lab.open({"red": 20, "blue": 100}, hold_ttl_ms=900_000, **{"buyers_max": 8} | rules)


def test_who_fills_the_shard_takes_no_winners_seat(lab: Lab) -> None:
    sale = crowded(lab)
    handle = open_cue(lab, sale)
    enter_all(lab, handle.cue(), [Tap(f"b{n}") for n in range(5)])
    assert fill(sale) == 5
    assert sale.hold("x0", {"blue": 1}, hold_id="more").outcome is Outcome.HELD  # known already
    told = announce(lab, sale, handle)
    assert (told.drawn, told.awarded) == (3, 3)
    assert sale.snapshot().buyers == 8
    assert seats(lab, sale) == 0
    assert sale.hold("late", {"blue": 1}, hold_id="h").outcome is Outcome.SHARD_FULL
    assert sale.audit().problems == ()


WAYS: dict[str, list[HoldRequest]] = {
    "a plain batch": [HoldRequest(f"x{n}", {"blue": 1}, "h") for n in range(7)],
    "several baskets": [HoldRequest(f"x{n}", {"blue": 1 + n % 2}, "h") for n in range(7)],
    "buyers who come twice": [HoldRequest(f"x{n // 2}", {"blue": 1}, f"h{n}") for n in range(14)],
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_a_hold_leaves_the_seats_free(lab: Lab, way: str) -> None:
    sale = crowded(lab)
    open_cue(lab, sale)
    answers: list[Any] = sale.hold_many(WAYS[way])
    held = {answer.buyer for answer in answers if answer.outcome is Outcome.HELD}
    assert held == {f"x{n}" for n in range(5)}
    refused = {answer.outcome for answer in answers if answer.buyer not in held}
    assert refused == {Outcome.SHARD_FULL}


def test_a_cue_opens_only_where_there_are_seats_for_all_its_winners(lab: Lab) -> None:
    sale = crowded(lab)
    assert open_cue(lab, sale, "one").view().set_aside == {"red": 3}
    sale.hold("x", {"blue": 1}, hold_id="h").unwrap()
    before = contents(lab, sale, "two")
    with pytest.raises(Rejected) as error:
        open_cue(lab, sale, "two", stock={"red": 5})
    assert error.value.outcome is Outcome.SHARD_FULL
    assert contents(lab, sale, "two") == before
    open_cue(lab, sale, "two", stock={"red": 3, "blue": 1})
    for _ in range(2):  # the same again keeps no more
        open_cue(lab, sale, "two", stock={"red": 3, "blue": 1})
        assert seats(lab, sale) == 7
    assert sale.hold("y", {"blue": 1}, hold_id="h").outcome is Outcome.SHARD_FULL


def test_seats_are_given_back_when_nobody_can_win_them_any_more(lab: Lab) -> None:
    sale = crowded(lab)
    first, second = open_cue(lab, sale, "one"), open_cue(lab, sale, "two", stock={"red": 4})
    assert fill(sale) == 1
    enter_all(lab, first.cue(), [Tap("ann")])
    told = announce(lab, sale, first)
    assert told.awarded == 1
    assert seats(lab, sale) == 4  # ann has hers, two went back
    assert fill(sale, "y") == 2
    announce(lab, sale, second)
    assert seats(lab, sale) == 0
    assert fill(sale, "z") == 4
    assert sale.audit().problems == ()


def test_a_void_cue_keeps_its_seats_with_its_stock(lab: Lab) -> None:
    sale = crowded(lab)
    first = open_cue(lab, sale, "one", stock={"red": 6}, cue_time_ms=T0 + 900_000)
    assert first.void("the link was wrong").outcome is Outcome.VOID
    assert (seats(lab, sale), fill(sale)) == (6, 2)
    second = open_cue(lab, sale, "two", stock={"red": 4}, stock_of="one")
    assert seats(lab, sale) == 6
    enter_all(lab, second.cue(), [Tap(f"b{n}") for n in range(4)])
    assert announce(lab, sale, second).awarded == 4
    assert seats(lab, sale) == 2
    assert sale.hold("late", {"blue": 1}, hold_id="h").outcome is Outcome.SHARD_FULL
    assert first.give_back().outcome is Outcome.GIVEN_BACK
    assert (seats(lab, sale), fill(sale, "y")) == (0, 2)
    assert sale.audit().problems == ()


def test_a_place_that_falls_free_has_its_seat_until_it_is_taken(lab: Lab) -> None:
    """Winners who give up one after the other let nobody else in, and each next gets a hold."""
    sale = crowded(lab)
    handle = open_cue(lab, sale, reserve_ms=600_000)
    enter_all(lab, handle.cue(), [Tap(f"b{n}") for n in range(8)])
    announce(lab, sale, handle)
    assert fill(sale) == 5
    for promoted in range(1, 5):
        winner = next(b for b in range(8) if is_held(sale, f"b{b}"))
        sale.release(f"b{winner}", "cue~drop").unwrap()
        assert seats(lab, sale) == 1
        assert sale.hold("late", {"blue": 1}, hold_id="h").outcome is Outcome.SHARD_FULL
        told = handle.settle(wait=False)
        assert (told.promoted, seats(lab, sale)) == (promoted, 0)
    assert sale.snapshot().buyers == 12  # as many beyond the bound as took over a place
    assert sale.audit().problems == ()


def is_held(sale: SaleHandle, buyer: str) -> bool:
    hold = sale.find(buyer, "cue~drop")
    return hold is not None and hold.state.name == "HELD"


def test_a_tombstone_finds_room_whatever_seats_are_kept(lab: Lab) -> None:
    """The seats are given back one day: a hold that was given up must not be taken then."""
    sale = crowded(lab)
    handle = open_cue(lab, sale)
    fill(sale)
    sale.release("ann", "h").unwrap()
    announce(lab, sale, handle)
    assert sale.hold("ann", {"blue": 1}, hold_id="h").outcome is Outcome.RELEASED


# --- winners' ids -------------------------------------------------------------------------


def test_no_caller_takes_the_id_of_a_winners_hold(lab: Lab) -> None:
    sale = crowded(lab)
    handle = open_cue(lab, sale)
    enter_all(lab, handle.cue(), [Tap("ann")])
    assert sale.release("ann", "cue~drop").outcome is Outcome.UNKNOWN_HOLD
    assert sale.find("ann", "cue~drop") is None
    with pytest.raises(InvalidRequest, match='hold_id: must not begin with "cue~"'):
        sale.hold("ann", {"blue": 1}, hold_id="cue~drop")
    (told,) = sale.hold_many([HoldRequest("ann", {"blue": 1}, "cue~drop")])
    assert isinstance(told, InvalidRequest)
    assert sale.hold("ann", {"blue": 1}, hold_id="cue-drop").outcome is Outcome.HELD
    assert announce(lab, sale, handle).awarded == 1
    assert handle.result("ann", wait_ms=0).hold_id == "cue~drop"
    assert sale.release("ann", "cue~drop").outcome is Outcome.RELEASED
    assert quote("cue~drop", safe="") == "cue~drop"  # part of a URL as it is


BATCHES: dict[str, tuple[list[str], list[Any]]] = {
    "a plain batch": (["ann", "bob", "cyd"], [[["blue", 1]]]),
    "several baskets": (["ann", "bob", "cyd"], [[["blue", 1], ["blue", 2]], [1, 2, 1]]),
    "a buyer who comes twice": (["ann", "bob", "ann"], [[["blue", 1]]]),
}


@pytest.mark.parametrize("way", BATCHES)
@pytest.mark.parametrize("bad", ["cue~drop", "cue~", "cue~another"])
def test_the_script_refuses_a_winners_id_and_nothing_else(lab: Lab, way: str, bad: str) -> None:
    sale = crowded(lab)
    buyers, baskets = BATCHES[way]
    args = (encode(buyers), encode(["h-cue~x", bad, "h2"]), encode(baskets), b"", b"")
    assert lab.eval("inventory/hold", sale, *args)[3] == b"H!H"
    assert sale.find("bob", bad) is None
    assert sale.audit().problems == ()
