"""Voids: a cue that does not count keeps its stock until somebody says where it goes."""

from __future__ import annotations

from typing import Any

import pytest

from flashsale import (
    CueHandle,
    CueState,
    EventKind,
    InvalidRequest,
    Outcome,
    Rejected,
    SaleHandle,
    StoreUnavailable,
)
from support.cues import (
    POSITION,
    Hand,
    Tap,
    Tower,
    close,
    contents,
    enter_all,
    load,
    open_cue,
    save,
    settled,
    settlement,
    tap,
    verified,
)
from support.lab import T0, Lab

LATER = T0 + 60_000
"""The time of a cue that has not come."""


def void(lab: Lab, sale: SaleHandle, cue_id: str = "drop", **rules: Any) -> CueHandle:
    """A cue that is void."""
    handle = open_cue(lab, sale, cue_id, **rules)
    handle.void("the link was wrong")
    return handle


def refusal(lab: Lab, sale: SaleHandle, cue_id: str, **rules: Any) -> Outcome:
    """Why such a cue is not opened."""
    with pytest.raises(Rejected) as refused:
        open_cue(lab, sale, cue_id, **rules)
    return refused.value.outcome


def aside(handle: CueHandle) -> dict[str, int]:
    return dict(handle.view().set_aside)


# --- voiding ------------------------------------------------------------------------------


def test_a_void_cue_keeps_its_stock_and_says_why(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale, stock={"red": 3, "blue": 2})
    tap(handle, "ann")
    with lab.watch(sale) as seen:
        answer = handle.void("the link was wrong")
    assert (answer.outcome, answer.replayed, seen.effect) == (Outcome.VOID, False, "")
    (event,) = sale.ledger.read(after=sale.snapshot().sequence - 1).entries[0].events
    assert (event.kind, event.cue, event.text) == (EventKind.VOIDED, "drop", "the link was wrong")
    view = handle.view()
    assert (view.state, view.reason) == (CueState.VOID, "the link was wrong")
    assert view.set_aside == {"red": 3, "blue": 2}
    before = contents(lab, sale, "drop")
    again = handle.void("another reason")
    assert (again.outcome, again.replayed) == (Outcome.VOID, True)
    assert contents(lab, sale, "drop") == before
    assert sale.audit().problems == ()


def test_a_void_cue_takes_nothing_gives_nothing_and_has_a_record(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale)
    tap(handle, "ann")
    handle.void("the link was wrong")
    assert tap(handle, "bob").outcome is Outcome.VOID
    assert handle.result("ann", wait_ms=0).outcome is Outcome.VOID
    assert settled(lab, sale, handle).outcome is Outcome.VOID
    record = verified(handle)
    assert (record["drawn"], record["awarded"]) == ([], [])
    assert sale.hold("ann", {"red": 8}, hold_id="h").outcome is Outcome.SOLD_OUT
    assert sale.snapshot().skus["red"].set_aside == 3


def test_a_late_freeze_keeps_the_stock_as_every_void_does(lab: Lab) -> None:
    sale, tower = lab.open(), Tower()
    handle = open_cue(lab, sale, entropy=tower)
    at = handle.cue().entropy_at_ms
    assert at is not None
    lab.set_time(sale, at)
    assert handle.settle(wait=False, entropy=tower).outcome is Outcome.VOID
    assert (handle.view().state, aside(handle)) == (CueState.VOID, {"red": 3})
    assert [e.kind for e in sale.ledger.read(after=2).entries[-1].events] == [EventKind.VOIDED]
    assert sale.audit().problems == ()


@pytest.mark.parametrize(("now", "frozen"), [(T0 - 1, None), (T0, T0), (T0 + 900, T0 + 900)])
def test_once_its_time_has_come_a_void_says_when_the_entries_ended(
    lab: Lab, now: int, frozen: int | None
) -> None:
    sale = lab.open()
    lab.set_time(sale, T0 - 5_000)
    handle = open_cue(lab, sale)
    lab.set_time(sale, now)
    handle.void("the link was wrong")
    assert handle.view().frozen_at_ms == frozen


def test_a_void_before_the_cues_time_that_finds_entries_is_one_after_it(lab: Lab) -> None:
    """Who has less lag than the clock's reference enters before the cue's time by the server."""
    sale = lab.open()
    lab.set_time(sale, T0 - 5_000)
    handle = open_cue(lab, sale)
    assert tap(handle, "ann", position_ms=POSITION).outcome is Outcome.ENTERED
    handle.void("the link was wrong")
    view = handle.view()
    assert (view.frozen_at_ms, view.entrants) == (T0 - 5_000, 1)
    assert view.digest
    assert verified(handle)["frozen"]["digest"] == view.digest
    assert handle.give_back().outcome is Outcome.NOT_CLOSED
    lab.set_time(sale, handle.cue().reveals_at_ms)
    assert handle.give_back().outcome is Outcome.GIVEN_BACK


def test_a_void_after_the_freeze_keeps_its_time_and_digest(lab: Lab) -> None:
    sale, tower = lab.open(), Tower()
    handle = open_cue(lab, sale, entropy=tower)
    tap(handle, "ann")
    settled(lab, sale, handle, entropy=tower)
    before = handle.view()
    lab.set_time(sale, before.at_ms + 10)
    handle.void("it suits")
    after = handle.view()
    assert before.digest
    assert (after.frozen_at_ms, after.digest, after.entrants) == (
        before.frozen_at_ms,
        before.digest,
        1,
    )


# --- to open sale -------------------------------------------------------------------------


@pytest.mark.parametrize("now", [T0, T0 + 16_000, T0 + 17_999])
def test_from_the_cues_time_on_nothing_is_given_back_before_the_announced_time(
    lab: Lab, now: int
) -> None:
    sale = lab.open()
    handle = void(lab, sale)
    assert handle.cue().reveals_at_ms == T0 + 18_000
    lab.set_time(sale, now)
    before = contents(lab, sale, "drop")
    assert handle.give_back().outcome is Outcome.NOT_CLOSED
    later = T0 + 20_000
    of = {"stock": None, "stock_of": "drop", "cue_time_ms": later}
    assert refusal(lab, sale, "next", **of) is Outcome.NOT_CLOSED
    assert contents(lab, sale, "drop") == before
    lab.set_time(sale, T0 + 18_000)
    with lab.watch(sale) as seen:
        answer = handle.give_back()
    assert (answer.outcome, answer.replayed, seen.effect) == (
        Outcome.GIVEN_BACK,
        False,
        "red a+3 x-3",
    )
    assert handle.give_back().replayed
    assert sale.hold("ann", {"red": 10}, hold_id="h").outcome is Outcome.HELD
    assert sale.audit().problems == ()


def test_before_the_cues_time_it_is_given_back_at_once(lab: Lab) -> None:
    sale = lab.open()
    handle = void(lab, sale, cue_time_ms=LATER, stock={"red": 3, "blue": 2})
    with lab.watch(sale) as seen:
        assert handle.give_back().outcome is Outcome.GIVEN_BACK
    assert seen.effect == "red a+3 x-3; blue a+2 x-2"


def test_what_a_cue_that_counts_keeps_is_not_given_back(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale, reserve_ms=9_000)
    for buyer in ("ann", "bob", "cyd", "dan"):
        tap(handle, buyer)
    assert handle.give_back().outcome is Outcome.NOT_CLOSED
    close(lab, sale, handle)
    hand = Hand(lab, settlement(handle.cue()))
    while not handle.view().digest:
        hand.call()
    assert handle.give_back().outcome is Outcome.FROZEN
    hand.finish()
    lab.set_time(sale, handle.cue().reveals_at_ms)
    handle.settle(wait=False)
    winner = next(b for b in ("ann", "bob") if sale.find(b, "cue~drop"))
    sale.release(winner, "cue~drop").unwrap()
    assert handle.give_back().outcome is Outcome.SETTLED
    assert aside(handle) == {"red": 1}
    assert sale.cue_handle("none").give_back().outcome is Outcome.CUE_UNKNOWN


@pytest.mark.parametrize("verb", ["void", "give_back"])
@pytest.mark.parametrize("key", ["ledger", "stock"])
def test_nothing_of_a_void_happens_by_halves(lab: Lab, key: str, verb: str) -> None:
    """A wrong type stops the call before its first write."""
    sale = lab.open()
    handle = open_cue(lab, sale, cue_time_ms=LATER)
    if verb == "give_back":
        handle.void("the link was wrong")
    act = handle.give_back if verb == "give_back" else lambda: handle.void("the link was wrong")
    name = getattr(lab.keys(sale), key)
    kept = save(lab, sale, "drop")
    lab.raw.delete(name)
    lab.raw.set(name, "not what it was")
    before = contents(lab, sale, "drop")
    if (verb, key) == ("void", "stock"):
        act()  # it moves no units
    else:
        with pytest.raises(StoreUnavailable):
            act()
        assert contents(lab, sale, "drop") == before
    load(lab, kept)
    assert act().outcome in (Outcome.VOID, Outcome.GIVEN_BACK)
    assert sale.audit().problems == ()


# --- to another cue -----------------------------------------------------------------------


def test_a_cue_takes_what_a_void_one_has_kept_and_nobody_gets_between(lab: Lab) -> None:
    sale = lab.open({"red": 5, "blue": 4})
    first = void(lab, sale, stock={"red": 5, "blue": 4}, cue_time_ms=LATER)
    with lab.watch(sale) as seen:
        second = open_cue(lab, sale, "again", stock=None, stock_of="drop", cue_time_ms=LATER)
    assert seen.effect == ""  # it stays set aside throughout
    assert second.cue().stock == {"red": 5, "blue": 4}
    assert (aside(first), aside(second)) == ({"red": 0, "blue": 0}, {"red": 5, "blue": 4})
    assert sale.audit().problems == ()
    assert first.give_back().outcome is Outcome.GIVEN_BACK  # of nothing
    again = open_cue(lab, sale, "again", stock=None, stock_of="drop", cue_time_ms=LATER)
    assert again.cue() == second.cue()
    lab.set_time(sale, LATER)
    enter_all(lab, second.cue(), [Tap(f"b{n}") for n in range(7)])
    assert settled(lab, sale, second).awarded == 5
    verified(second)
    assert sale.audit().problems == ()


def test_a_cue_may_take_a_part_and_the_rest_stays_set_aside(lab: Lab) -> None:
    sale = lab.open({"red": 9, "blue": 4})
    first = void(lab, sale, stock={"red": 5, "blue": 4}, cue_time_ms=LATER)
    of: dict[str, Any] = {"stock_of": "drop", "cue_time_ms": LATER}
    open_cue(lab, sale, "one", stock={"red": 2}, keep="best", **of)
    assert aside(first) == {"red": 3, "blue": 4}
    assert refusal(lab, sale, "two", stock={"red": 4}, **of) is Outcome.SOLD_OUT  # 4 are available
    assert refusal(lab, sale, "two", stock={"green": 1}, **of) is Outcome.SKU_UNKNOWN
    open_cue(lab, sale, "two", stock={"red": 3}, **of)
    with lab.watch(sale) as seen:
        first.give_back().unwrap()
    assert seen.effect == "blue a+4 x-4"
    assert refusal(lab, sale, "three", stock=None, **of) is Outcome.SOLD_OUT
    sale.ledger.trim()
    assert sale.audit().problems == ()


def test_only_a_void_cues_stock_goes_to_another(lab: Lab) -> None:
    sale = lab.open()
    of: dict[str, Any] = {"stock": None, "stock_of": "drop", "cue_time_ms": LATER}
    assert refusal(lab, sale, "next", **of) is Outcome.CUE_UNKNOWN
    handle = open_cue(lab, sale)
    assert refusal(lab, sale, "next", **of) is Outcome.NOT_CLOSED
    tap(handle, "ann")
    settled(lab, sale, handle)
    assert refusal(lab, sale, "next", **of) is Outcome.SETTLED


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"stock_of": "drop"}, "stock_of: must be another cue"),
        ({"stock_of": "a b"}, "stock_of: "),
        ({"stock_of": 3}, "stock_of: "),
        ({"stock_of": "x" * 61}, "stock_of: must have at most 60"),
        ({"stock_of": "other", "stock": None, "keep": "best"}, "stock: must be given"),
    ],
)
def test_what_stock_of_says_is_checked(lab: Lab, rules: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        open_cue(lab, lab.open(), **rules)


# --- damage -------------------------------------------------------------------------------


def test_a_cue_whose_set_aside_is_lost_is_not_said_to_be_settled(lab: Lab) -> None:
    """Award answers SETTLED where no set-aside is left, whether or not the result is revealed."""
    sale = lab.open()
    handle = open_cue(lab, sale)
    tap(handle, "ann")
    close(lab, sale, handle)
    handle.freeze()
    lab.set_time(sale, handle.cue().reveals_at_ms)
    lab.raw.hdel(lab.keys(sale).stock, "x:drop")
    assert handle.settle(wait=False).outcome is not Outcome.SETTLED
    assert handle.view().state is CueState.FROZEN
