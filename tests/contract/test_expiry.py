"""Due holds go back to stock by a sweep, by any verb on its way, and before SOLD_OUT is said."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from flashsale import Answer, HoldRequest, Outcome, SaleHandle
from support.lab import T0, Lab

BASKETS = {"plain": {"red": 1}, "lines": {"red": 1, "blue": 1}}
"""One unit of the first sku has a path of its own in the scripts; both must do the same."""

ROOM = {"red": 10_000, "blue": 10_000}


def fill(
    sale: SaleHandle, count: int, basket: dict[str, int], *, prefix: str = "buyer-"
) -> list[Answer]:
    """Hold for so many buyers, 256 to a ledger entry."""
    requests = [HoldRequest(f"{prefix}{n}", basket, "h") for n in range(count)]
    answers = [answer for answer in sale.hold_many(requests) if isinstance(answer, Answer)]
    assert [answer.outcome for answer in answers] == [Outcome.HELD] * count
    return answers


def held(sale: SaleHandle) -> int:
    return sale.snapshot().skus["red"].held


# --- the sweep ----------------------------------------------------------------------------


@pytest.mark.parametrize("basket", BASKETS)
def test_a_sweep_expires_all_that_is_due_and_says_how_many(lab: Lab, basket: str) -> None:
    sale = lab.open(ROOM)
    fill(sale, 300, BASKETS[basket])
    lab.set_time(sale, T0 + 999)
    fill(sale, 5, BASKETS[basket], prefix="later-")
    assert sale.expire() == 0
    lab.set_time(sale, T0 + 1_000)
    assert sale.snapshot().due_at_ms == T0 + 1_000
    with lab.watch(sale) as seen:
        assert sale.expire() == 300
    assert set(seen.events) == {"expired " + " ".join(f"{sku}*1" for sku in BASKETS[basket])}
    assert len(seen.events) == 300
    assert held(sale) == 5
    assert sale.snapshot().due_at_ms == T0 + 1_999
    assert sale.expire() == 0
    assert sale.audit().problems == ()


def test_a_sweep_is_bounded_and_rounded_up_to_a_whole_ledger_entry(lab: Lab) -> None:
    sale = lab.open(ROOM)
    for n in range(20):
        sale.hold(f"single-{n}", {"red": 1}, hold_id="h").unwrap()
    fill(sale, 256, {"red": 1})
    lab.set_time(sale, T0 + 1_000)
    assert sale.expire(5) == 5
    assert sale.expire(15) == 15
    assert sale.expire(1) == 256
    assert sale.expire(1) == 0


def test_a_sweep_drops_deadlines_of_nothing_that_is_due_and_comes_to_its_end(lab: Lab) -> None:
    sale = lab.open(ROOM)
    for buyer in ("paid", "moved", "later"):
        sale.hold(buyer, {"red": 1}, hold_id="h").unwrap()
    sale.confirm("paid", "h").unwrap()
    sale.extend("moved", "h", deadline_ms=T0 + 1_500).unwrap()
    sale.extend("later", "h", deadline_ms=T0 + 9_000).unwrap()
    lab.set_time(sale, T0 + 900)
    sale.hold("plain", {"red": 1}, hold_id="h").unwrap()
    ghosts = [f"nobody-{n}|h" for n in range(300)]
    ghosts += ["paid|h", "plain|h", "later|h", "moved|other", "no bar", "|no-cue"]
    lab.raw.zadd(lab.keys(sale).deadlines, dict.fromkeys(ghosts, T0 + 1_000))
    lab.set_time(sale, T0 + 1_500)
    assert sum(sale.expire() for _ in range(6)) == 1
    left = lab.raw.zrange(lab.keys(sale).deadlines, 0, -1, withscores=True)
    assert left == [(b"later|h", T0 + 9_000)]  # put right: its hold is held still
    assert (held(sale), sale.snapshot().due_at_ms) == (2, T0 + 1_900)
    lab.set_time(sale, T0 + 9_000)
    assert (sale.expire(), held(sale)) == (2, 0)
    assert sale.audit().problems == ()


def test_a_deadline_that_a_sweep_drops_is_kept_if_the_same_call_gives_it(lab: Lab) -> None:
    sale = lab.open(ROOM)
    sale.hold("due", {"red": 1}, hold_id="h").unwrap()
    lab.set_time(sale, T0 + 500)
    sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    lab.raw.zadd(lab.keys(sale).deadlines, {"ann|h": T0 + 900})
    lab.set_time(sale, T0 + 1_000)
    sale.extend("ann", "h", deadline_ms=T0 + 1_700).unwrap()
    assert lab.raw.zscore(lab.keys(sale).deadlines, "ann|h") == T0 + 1_700
    assert sale.audit().problems == ()


def test_a_sweep_with_nothing_due_writes_nothing(lab: Lab) -> None:
    sale = lab.open()
    assert sale.expire() == 0
    sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    before = lab.dump(sale)
    assert sale.expire() == 0
    assert lab.dump(sale) == before


def test_a_sweep_walks_past_any_number_of_entries_without_due_holds(lab: Lab) -> None:
    sale = lab.open()
    for n in range(1, 151):
        (sale.pause if n % 2 else sale.resume)()
    sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    lab.set_time(sale, T0 + 1_000)
    assert sale.expire() == 1
    assert sale.audit().ok


def test_holds_expire_in_the_order_of_their_deadlines(lab: Lab) -> None:
    sale = lab.open()
    for n in range(5):
        lab.set_time(sale, T0 + n)
        sale.hold(f"buyer-{n}", {"red": 1}, hold_id="h").unwrap()
    lab.set_time(sale, T0 + 1_100)
    after = sale.snapshot().sequence
    for _ in range(5):
        assert sale.expire(1) == 1
    entries = sale.ledger.read(after=after).entries
    assert [entry.events[0].buyer for entry in entries] == [f"buyer-{n}" for n in range(5)]


def test_the_next_deadline_is_never_later_than_the_first_hold_to_fall_due(lab: Lab) -> None:
    sale = lab.open()
    assert sale.snapshot().due_at_ms is None
    sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    assert sale.snapshot().due_at_ms == T0 + 1_000
    lab.set_time(sale, T0 + 10)
    sale.hold("bob", {"red": 1}, hold_id="h").unwrap()
    assert sale.snapshot().due_at_ms == T0 + 1_000
    lab.set_time(sale, T0 + 1_000)
    sale.expire()
    assert sale.snapshot().due_at_ms == T0 + 1_010
    lab.set_time(sale, T0 + 1_010)
    sale.expire()
    due = sale.snapshot().due_at_ms
    assert due is None or due > T0 + 1_010


# --- moved deadlines ----------------------------------------------------------------------


@pytest.mark.parametrize("basket", BASKETS)
def test_an_extended_hold_is_swept_at_its_new_deadline_and_not_before(
    lab: Lab, basket: str
) -> None:
    sale = lab.open(ROOM)
    fill(sale, 3, BASKETS[basket])
    sale.extend("buyer-1", "h", deadline_ms=T0 + 3_000).unwrap()
    lab.set_time(sale, T0 + 1_000)
    assert sale.expire() == 2
    assert held(sale) == 1
    assert sale.snapshot().due_at_ms == T0 + 3_000
    lab.set_time(sale, T0 + 2_999)
    assert sale.expire() == 0
    lab.set_time(sale, T0 + 3_000)
    assert sale.expire() == 1
    assert held(sale) == 0
    assert lab.dump(sale)[lab.keys(sale).deadlines] is None
    due = sale.snapshot().due_at_ms
    assert due is None or due > T0 + 3_000
    assert sale.audit().ok


def test_many_extended_holds_are_swept_in_the_order_of_their_new_deadlines(lab: Lab) -> None:
    sale = lab.open(ROOM)
    fill(sale, 40, {"red": 1})
    for n in range(40):
        sale.extend(f"buyer-{n}", "h", deadline_ms=T0 + 3_000 - n).unwrap()
    lab.set_time(sale, T0 + 2_980)
    after = sale.snapshot().sequence
    assert sale.expire(10) == 10
    assert sale.expire() == 10
    entries = sale.ledger.read(after=after).entries
    order = [event.buyer for entry in entries for event in entry.events]
    assert order == [f"buyer-{n}" for n in range(39, 19, -1)]
    assert held(sale) == 20


ENDS: dict[str, Callable[[SaleHandle], Answer]] = {
    "confirm": lambda s: s.confirm("ann", "h"),
    "confirm in part": lambda s: s.confirm("ann", "h", lines={"red": 1}),
    "release": lambda s: s.release("ann", "h"),
}


@pytest.mark.parametrize("end", ENDS)
def test_an_extended_hold_that_ends_leaves_no_deadline_behind(lab: Lab, end: str) -> None:
    sale = lab.open()
    sale.hold("ann", {"red": 2}, hold_id="h").unwrap()
    sale.extend("ann", "h", deadline_ms=T0 + 3_000).unwrap()
    assert lab.dump(sale)[lab.keys(sale).deadlines] == [(b"ann|h", float(T0 + 3_000))]
    ENDS[end](sale).unwrap()
    assert lab.dump(sale)[lab.keys(sale).deadlines] is None


# --- by every verb on its way -------------------------------------------------------------

VERBS: dict[str, Callable[[SaleHandle], Answer]] = {
    "hold": lambda s: s.hold("ann", {"red": 1}, hold_id="h"),
    "another hold": lambda s: s.hold("ann", {"red": 1}, hold_id="h2"),
    "confirm": lambda s: s.confirm("ann", "h"),
    "retake": lambda s: s.confirm("ann", "h", late="retake"),
    "release": lambda s: s.release("ann", "h"),
    "extend": lambda s: s.extend("ann", "h", deadline_ms=T0 + 5_000),
    "refund": lambda s: s.refund("ann", "h", lines={"red": 1}, op_id="r"),
    "unknown hold": lambda s: s.confirm("ann", "another"),
}


@pytest.mark.parametrize("basket", BASKETS)
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_expires_the_touched_buyers_due_holds_however_many_wait_before_them(
    lab: Lab, verb: str, basket: str
) -> None:
    sale = lab.open(ROOM)
    fill(sale, 600, BASKETS[basket])
    sale.hold("ann", BASKETS[basket], hold_id="h").unwrap()
    lab.set_time(sale, T0 + 1_000)
    after = sale.snapshot().sequence
    VERBS[verb](sale)
    entries = sale.ledger.read(after=after).entries
    expired = {e.buyer for entry in entries for e in entry.events if e.kind.value == "expired"}
    assert "ann" in expired
    assert 128 < len(expired) <= 128 + 256
    assert sale.audit().problems == ()


ELSEWHERE: dict[str, Callable[[SaleHandle], Answer]] = {
    "hold": lambda s: s.hold("new", {"red": 1}, hold_id="h"),
    "confirm": lambda s: s.confirm("new", "h"),
    "release": lambda s: s.release("new", "h"),
    "extend": lambda s: s.extend("new", "h", deadline_ms=T0),
    "refund": lambda s: s.refund("new", "h", lines={"red": 1}, op_id="r"),
    "restock": lambda s: s.restock({"red": 1}, op_id="o"),
}


@pytest.mark.parametrize("basket", BASKETS)
@pytest.mark.parametrize("verb", ELSEWHERE)
def test_every_verb_sweeps_on_its_way_though_it_is_about_another_buyer(
    lab: Lab, verb: str, basket: str
) -> None:
    sale = lab.open(ROOM)
    fill(sale, 100, BASKETS[basket])
    lab.set_time(sale, T0 + 1_000)
    ELSEWHERE[verb](sale)
    assert held(sale) == (1 if verb == "hold" else 0)
    assert sale.audit().problems == ()


def test_due_holds_of_one_buyer_in_one_batch_expire_once(lab: Lab) -> None:
    sale = lab.open(limits={"red": 2})
    sale.hold("ann", {"red": 1}, hold_id="1").unwrap()
    sale.hold("ann", {"red": 1}, hold_id="2").unwrap()
    lab.set_time(sale, T0 + 1_000)
    with lab.watch(sale) as seen:
        answers = sale.hold_many([HoldRequest("ann", {"red": 1}, str(n)) for n in (1, 3, 4, 5)])
    got = [answer.outcome.name for answer in answers if isinstance(answer, Answer)]
    assert got == ["HELD", "HELD", "HELD", "LIMIT_REACHED"]
    assert seen.effect == ""
    assert sorted(seen.events) == ["expired red*1"] * 2 + ["held red*1"] * 2
    assert sale.audit().ok


# --- before SOLD_OUT ----------------------------------------------------------------------


@pytest.mark.parametrize("basket", BASKETS)
def test_sold_out_is_never_said_while_due_holds_wait(lab: Lab, basket: str) -> None:
    count = 2_000
    sale = lab.open({"red": count, "blue": count})
    fill(sale, count, BASKETS[basket])
    before = sale.hold("ann", {"red": 1}, hold_id="early")
    assert (before.outcome, before.may_return) == (Outcome.SOLD_OUT, True)
    lab.set_time(sale, T0 + 1_000)
    # All two thousand are wanted, so the hold must wait for the whole sweep.
    answer = sale.hold("ann", {"red": count}, hold_id="h", timeout_ms=20_000)
    assert answer.outcome is Outcome.HELD
    assert sale.hold("bob", {"red": 1}, hold_id="h").outcome is Outcome.SOLD_OUT
    assert sale.audit().problems == ()


def test_one_call_says_try_again_instead_of_sweeping_without_end(lab: Lab) -> None:
    sale = lab.open({"red": 1_000})
    fill(sale, 1_000, {"red": 1})
    lab.set_time(sale, T0 + 1_000)
    encode = msgspec.msgpack.encode
    wanted = [encode(["ann"]), encode(["h"]), encode([[["red", 1_000]]]), b""]
    codes = [lab.eval("inventory/hold", sale, *wanted)[3] for _ in range(4)]
    assert codes == [b"T", b"T", b"T", b"H"]


def test_a_retake_waits_for_the_sweep_as_well(lab: Lab) -> None:
    sale = lab.open({"red": 1_500})
    sale.hold("ann", {"red": 1_000}, hold_id="h").unwrap()
    lab.set_time(sale, T0 + 1_000)
    assert sale.expire() == 1
    fill(sale, 1_500, {"red": 1})
    lab.set_time(sale, T0 + 2_000)
    answer = sale.confirm("ann", "h", late="retake", timeout_ms=20_000)
    assert answer.outcome is Outcome.CONFIRMED
    assert sale.audit().ok


def test_taking_stock_away_waits_for_the_sweep_as_well(lab: Lab) -> None:
    sale = lab.open({"red": 3_000})
    fill(sale, 3_000, {"red": 1})
    assert sale.restock({"red": -1}, op_id="early").outcome is Outcome.BELOW_COMMITTED
    lab.set_time(sale, T0 + 1_000)
    answer = sale.restock({"red": -3_000}, op_id="o", timeout_ms=20_000)
    assert answer.outcome is Outcome.RESTOCKED
    assert sale.snapshot().skus["red"].allotment == 0
    assert sale.audit().ok
