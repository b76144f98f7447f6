"""Settling a cue: freeze, draw, award, reveal, pass on; and what everybody is told of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flashsale import (
    ConfigurationError,
    CueHandle,
    CueState,
    HoldRequest,
    InvalidRequest,
    Key,
    Outcome,
    Rejected,
    Sale,
    SaleHandle,
    Sku,
    StoreUnavailable,
    UnfairWindowWarning,
    freezing,
    verify,
    window,
)
from flashsale.batches import run_all
from flashsale.draw import Randomness
from flashsale.keys import CueKeys
from support.cues import (
    KEY,
    POSITION,
    Hand,
    Tap,
    Tower,
    announce,
    awarded_by,
    close,
    contents,
    drawn_by,
    enter_all,
    load,
    name_of,
    named,
    open_cue,
    save,
    seed_of,
    settled,
    settlement,
    tap,
    verified,
)
from support.lab import T0, Lab
from support.shells import connect

CLOSE = T0 + 16_000
TTL = 1_000
TOLD = CLOSE + window.SETTLING_MS
"""When the result is announced for: the winners' time to pay runs from then, and the reserve."""
BUYERS = [f"b{n}" for n in range(8)]


def entered(lab: Lab, sale: SaleHandle, taps: list[Tap] | None = None, **rules: Any) -> CueHandle:
    """A cue into which people have entered."""
    handle = open_cue(lab, sale, **rules)
    told = [Tap(buyer) for buyer in BUYERS] if taps is None else taps
    answers = enter_all(lab, handle.cue(), told)
    assert {answer.outcome for answer in answers} <= {Outcome.ENTERED}
    return handle


def in_order(handle: CueHandle, buyers: list[str], value: bytes | None = None) -> list[str]:
    """The buyers in the order of the draw, if all are in the first window."""
    seed = seed_of(handle)
    seed = seed if value is None else verify.public_seed(seed, value)
    who = named(handle, buyers)
    groups = [verify.Group(0, (("red", 1, 1),), sorted(who))]
    return [who[name] for name in verify.order_of(seed, handle.sale, handle.id, groups)]


def results(handle: CueHandle, buyers: list[str]) -> dict[str, str]:
    return {buyer: handle.result(buyer, wait_ms=0).outcome.name for buyer in buyers}


# --- the committed draw -------------------------------------------------------------------


def test_the_first_in_the_order_of_the_committed_seed_get_holds(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale)
    order = in_order(handle, BUYERS)
    announce(lab, sale, handle)
    with lab.watch(sale) as seen:
        told = handle.settle(wait=False)
    assert (told.outcome, told.entrants, told.drawn, told.awarded, told.promoted) == (
        Outcome.SETTLED,
        8,
        3,
        3,
        0,
    )
    assert (told.reserve_until_ms, told.at_ms) == (None, TOLD)
    assert seen.effect == "red x-3 h+3"
    assert drawn_by(handle, BUYERS) == [(buyer, {"red": 1}) for buyer in order[:3]]
    assert awarded_by(handle, BUYERS) == [(buyer, "held", {"red": 1}) for buyer in order[:3]]
    assert results(handle, BUYERS) == dict.fromkeys(order[:3], "HELD") | dict.fromkeys(
        order[3:], "NOT_DRAWN"
    )
    assert sale.audit().problems == ()


def test_a_winners_hold_is_a_hold_like_any_other(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale)
    settled(lab, sale, handle)
    first, second, third = in_order(handle, BUYERS)[:3]
    answer = handle.result(first, wait_ms=0)
    assert (answer.hold_id, answer.deadline_ms) == ("cue~drop", TOLD + TTL)
    hold = sale.find(first, "cue~drop")
    assert hold is not None
    assert (dict(hold.lines), hold.deadline_ms) == ({"red": 1}, TOLD + TTL)
    assert sale.confirm(answer).outcome is Outcome.CONFIRMED
    assert sale.refund(answer, lines={"red": 1}, op_id="o").outcome is Outcome.REFUNDED
    assert sale.extend(second, "cue~drop", deadline_ms=CLOSE + 5_000).outcome is Outcome.EXTENDED
    assert sale.release(third, "cue~drop").outcome is Outcome.RELEASED
    assert sale.confirm(second, "cue~drop").outcome is Outcome.CONFIRMED
    red = sale.snapshot().skus["red"]
    assert (red.available, red.set_aside, red.held, red.sold) == (9, 0, 0, 1)
    assert sale.audit().problems == ()


@pytest.mark.parametrize("at_ms", [CLOSE, TOLD - 1])
def test_nothing_of_a_draw_but_its_digest_is_written_before_the_announced_time(
    lab: Lab, at_ms: int
) -> None:
    """A hold shows, counts for limits, and can be released: so nobody has one yet."""
    sale = lab.open({"red": 10}, limits={"red": 1})
    handle = entered(lab, sale, reserve_ms=9_000)
    order = in_order(handle, BUYERS)
    lab.set_time(sale, CLOSE)
    handle.settle(wait=False)
    lab.set_time(sale, at_ms)
    before = contents(lab, sale, "drop")
    for _ in range(2):
        told = handle.settle(wait=False)
        assert (told.outcome, told.entrants, told.drawn) == (Outcome.NOT_CLOSED, 8, 0)
        assert contents(lab, sale, "drop") == before
    assert results(handle, order) == dict.fromkeys(order, "FROZEN")
    for buyer in order:
        assert sale.holds_of(buyer) == []
        assert sale.find(buyer, "cue~drop") is None
        assert sale.release(buyer, "cue~drop").outcome is Outcome.UNKNOWN_HOLD
    assert contents(lab, sale, "drop") == before
    direct = sale.hold(order[0], {"red": 1}, hold_id="h")
    assert direct.outcome is Outcome.HELD  # and not LIMIT_REACHED, which would mean: drawn
    sale.release(order[0], "h").unwrap()
    lab.set_time(sale, TOLD)
    assert handle.settle(wait=False).awarded == 3


def test_who_is_drawn_after_the_announced_time_has_a_whole_time_to_pay(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale)
    lab.set_time(sale, TOLD + 5_000)
    settled(lab, sale, handle)
    winner = in_order(handle, BUYERS)[0]
    assert handle.result(winner, wait_ms=0).deadline_ms == TOLD + 5_000 + TTL
    hold = sale.find(winner, "cue~drop")
    assert hold is not None
    assert hold.deadline_ms == hold.original_deadline_ms == TOLD + 5_000 + TTL
    assert lab.raw.zcard(lab.keys(sale).deadlines) == 0  # a deadline like any other
    lab.set_time(sale, TOLD + 5_000 + TTL)
    sale.expire()
    assert sale.snapshot().skus["red"].held == 0
    assert sale.audit().problems == ()


def test_the_record_has_the_seed_the_entrants_and_their_digest(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale)
    settled(lab, sale, handle)
    record = verified(handle)
    seed = bytes.fromhex(record["server_seed"])
    assert seed == seed_of(handle)
    (group,) = record["entrants"]
    assert group == {"window": 0, "wish": [["red", 1, 1]], "who": sorted(named(handle, BUYERS))}
    assert record["frozen"] == {
        "at_ms": CLOSE,
        "entrants": 8,
        "digest": handle.view().digest,
        "published_at_ms": None,
    }
    assert (record["entropy"], record["void"], record["format"]) == (None, None, verify.FORMAT)
    view = handle.view()
    assert (view.state, view.server_seed) == (CueState.REVEALED, seed.hex())
    assert (view.frozen_at_ms, view.revealed_at_ms, view.entrants) == (CLOSE, TOLD, 8)


def test_a_cue_into_which_nobody_entered_gives_everything_back(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale)
    told = settled(lab, sale, handle)
    assert (told.outcome, told.entrants, told.drawn) == (Outcome.SETTLED, 0, 0)
    assert sale.snapshot().skus["red"].available == 10
    record = verified(handle)
    assert (record["entrants"], record["drawn"], record["awarded"]) == ([], [], [])
    assert results(handle, ["ann"]) == {"ann": "NOT_ENTERED"}
    assert sale.audit().problems == ()


def test_fewer_entrants_than_units_all_win_and_the_rest_is_on_open_sale(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale, [Tap("ann"), Tap("bob")])
    settled(lab, sale, handle)
    assert results(handle, ["ann", "bob"]) == {"ann": "HELD", "bob": "HELD"}
    red = sale.snapshot().skus["red"]
    assert (red.available, red.set_aside, red.held) == (8, 0, 2)
    assert sale.audit().problems == ()


def test_more_winners_than_one_call_takes_all_get_their_holds(lab: Lab) -> None:
    sale = lab.open({"red": 1_000})
    buyers = [f"b{n}" for n in range(1_200)]
    handle = entered(lab, sale, [Tap(buyer) for buyer in buyers], stock={"red": 700})
    told = settled(lab, sale, handle)
    assert (told.entrants, told.drawn, told.awarded) == (1_200, 700, 700)
    order = in_order(handle, buyers)
    assert [buyer for buyer, _ in drawn_by(handle, buyers)] == order[:700]
    assert [buyer for buyer, _, _ in awarded_by(handle, buyers)] == order[:700]
    assert sale.audit().problems == ()


def test_pages_of_entries_leave_nobody_out(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezing, "PAGE", 7)
    sale = lab.open({"red": 10})
    buyers = [f"b{n}" for n in range(600)]
    handle = entered(lab, sale, [Tap(buyer) for buyer in buyers])
    assert settled(lab, sale, handle).entrants == 600
    assert drawn_by(handle, buyers) == [(b, {"red": 1}) for b in in_order(handle, buyers)[:3]]


# --- when ---------------------------------------------------------------------------------


def test_nothing_is_settled_before_the_close(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale)
    lab.set_time(sale, CLOSE - 1)
    before = contents(lab, sale, "drop")
    assert handle.settle(wait=False).outcome is Outcome.NOT_CLOSED
    assert contents(lab, sale, "drop") == before
    assert results(handle, ["b0", "nobody"]) == {"b0": "NOT_CLOSED", "nobody": "NOT_CLOSED"}
    with pytest.raises(Rejected) as error:
        handle.record()
    assert error.value.outcome is Outcome.NOT_CLOSED
    lab.set_time(sale, CLOSE)
    assert handle.settle(wait=False).outcome is Outcome.NOT_CLOSED
    assert handle.view().state is CueState.FROZEN


def test_settling_waits_for_the_close_and_a_result_for_the_settlement(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "SETTLING_MS", 100)
    sale_id = lab.new_id()
    lab.shop.open(Sale(sale_id, [Sku("red", 2)]))
    sale = lab.shop.sale(sale_id)
    now = sale.snapshot().at_ms
    with pytest.warns(UnfairWindowWarning):
        handle = sale.cue(
            "drop", at=0, cue_time_ms=now, stock={"red": 1}, window_ms=300, lag_cap_ms=0,
            grace_ms=0, proof=False,
        )  # fmt: skip
    entry = handle.enter("ann", {"red": 1}, position_ms=0)
    assert entry.outcome is Outcome.ENTERED
    url = lab.raw.connection_pool.connection_kwargs
    with (
        connect("sync", f"redis://{url['host']}:{url['port']}", keys=[KEY]) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        settling_now = pool.submit(other.sale(sale_id).cue_handle("drop").settle)
        answer = handle.result("ann", wait_ms=10_000)
        told = settling_now.result(timeout=60)
    assert (told.outcome, told.awarded) == (Outcome.SETTLED, 1)
    assert told.at_ms >= now + 300
    assert answer.outcome is Outcome.HELD


def test_a_result_is_not_told_while_the_entries_are_only_frozen(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale, entropy=Tower())
    settled(lab, sale, handle, entropy=Tower())
    assert results(handle, ["b0", "nobody"]) == {"b0": "FROZEN", "nobody": "FROZEN"}
    with pytest.raises(Rejected) as error:
        handle.record()
    assert error.value.outcome is Outcome.FROZEN


@pytest.mark.parametrize("wait_ms", [-1, 3_600_001, 1.5])
def test_a_wait_has_bounds(lab: Lab, wait_ms: Any) -> None:
    handle = open_cue(lab, lab.open())
    with pytest.raises(InvalidRequest, match="wait_ms: must be"):
        handle.result("ann", wait_ms=wait_ms)


@pytest.mark.parametrize("state", ["pause", "end"])
def test_a_cue_is_settled_while_the_sale_is_paused_and_after_its_end(lab: Lab, state: str) -> None:
    sale = lab.open()
    handle = entered(lab, sale, reserve_ms=5_000)
    getattr(sale, state)()
    assert settled(lab, sale, handle).awarded == 3
    order = in_order(handle, BUYERS)
    assert sale.confirm(order[0], "cue~drop").outcome is Outcome.CONFIRMED
    lab.set_time(sale, TOLD + TTL)
    assert handle.settle(wait=False).promoted == 2
    assert results(handle, order)[order[4]] == "HELD"
    assert sale.audit().problems == ()


def test_a_clock_that_has_jumped_settles_nothing(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale)
    cue = handle.cue()
    announce(lab, sale, handle)
    hand = Hand(lab, settlement(cue))
    while hand.next and hand.next.script.name != "window/award":
        hand.call()
    lab.raw.hset(lab.keys(sale).sale, "now", 1_000)
    hand._caller_ms = 1_000
    assert hand.finish().outcome is Outcome.NOT_CLOSED
    lab.set_time(sale, TOLD)
    assert handle.settle(wait=False).outcome is Outcome.SETTLED
    assert sale.audit().problems == ()


def test_a_result_stays_what_it_is_until_the_sale_is_purged(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale)
    entry = tap(handle, "b0")
    settled(lab, sale, handle)
    told = results(handle, [*BUYERS, "nobody"])
    assert told["nobody"] == "NOT_ENTERED"
    assert entry.result(wait_ms=0).outcome.name == told["b0"]
    won, lost = in_order(handle, BUYERS)[0], in_order(handle, BUYERS)[7]
    lab.set_time(sale, TOLD + TTL)
    assert sale.expire() == 3
    sale.end()
    assert results(handle, [*BUYERS, "nobody"]) == told  # though the hold has fallen due
    answer = handle.result(won, wait_ms=0)
    assert (answer.outcome, answer.deadline_ms) == (Outcome.HELD, TOLD + TTL)
    assert sale.confirm(answer).outcome is Outcome.EXPIRED
    assert handle.result(lost, wait_ms=0).outcome is Outcome.NOT_DRAWN
    sale.purge()
    assert handle.result(won, wait_ms=0).outcome is Outcome.PURGED
    nowhere = lab.shop.sale(lab.new_id()).cue_handle("drop")
    assert nowhere.result(won, wait_ms=0).outcome is Outcome.SALE_UNKNOWN


def test_many_who_ask_together_are_told_what_each_would_be_told_alone(lab: Lab) -> None:
    sale = lab.open(limits={"red": 2})
    handle = entered(lab, sale)
    order = in_order(handle, BUYERS)
    takes_limit(sale, order[1])
    sale.confirm(order[1], "h").unwrap()
    settled(lab, sale, handle)
    alone = results(handle, [*BUYERS, "nobody"])
    kind = window.result_kind(sale.id, "drop")
    answers = lab.shop.perform(
        run_all(kind, [*BUYERS, "nobody"], lambda buyer: window.result_item("drop", buyer))
    )
    got = {answer.buyer: answer.outcome.name for answer in answers}  # type: ignore[union-attr]
    assert got == alone


# --- the public draw ----------------------------------------------------------------------


def test_a_public_draw_is_ordered_by_both_seeds_together(lab: Lab) -> None:
    sale, tower = lab.open(), Tower()
    handle = entered(lab, sale, entropy=tower)
    cue = handle.cue()
    tower.say(cue, b"0123456789abcdef")
    told = settled(lab, sale, handle, entropy=tower)
    assert (told.outcome, told.awarded) == (Outcome.SETTLED, 3)
    order = in_order(handle, BUYERS, b"0123456789abcdef")
    assert [buyer for buyer, _ in drawn_by(handle, BUYERS)] == order[:3]
    record = verified(handle)
    assert record["entropy"] == {
        "source": "tower",
        "round": cue.entropy_round,
        "value": b"0123456789abcdef".hex(),
        "signature": None,
    }
    assert set(tower.asked) == {cue.entropy_round}
    assert sale.audit().problems == ()


def test_the_entries_are_frozen_before_the_public_seed_comes_and_nothing_falls_back(
    lab: Lab,
) -> None:
    sale, tower = lab.open(), Tower()
    handle = entered(lab, sale, entropy=tower)
    for _ in range(2):
        told = settled(lab, sale, handle, entropy=tower)
        assert (told.outcome, told.entrants, told.drawn) == (Outcome.FROZEN, 8, 0)
    view = handle.view()
    assert (view.state, view.entrants, view.awarded) == (CueState.FROZEN, 8, 0)
    assert view.digest
    assert (view.server_seed, view.entropy) == ("", "")
    assert tap(handle, "late").outcome is Outcome.TOO_LATE
    at = handle.cue().entropy_at_ms
    assert at is not None
    lab.set_time(sale, at + 100_000)  # frozen in time, so it may come as late as it likes
    assert settled(lab, sale, handle, entropy=tower).outcome is Outcome.FROZEN
    tower.say(handle.cue())
    assert settled(lab, sale, handle, entropy=tower).outcome is Outcome.SETTLED
    record = verified(handle)
    assert record["frozen"]["digest"] == view.digest


def test_settling_waits_for_the_public_seed(lab: Lab) -> None:
    class Slow(Tower):
        def fetch(self, round_number: int) -> Randomness | None:
            self.asked.append(round_number)
            return Randomness(bytes(32)) if len(self.asked) == 5 else None

    sale, slow = lab.open(), Slow()
    handle = entered(lab, sale, entropy=slow)
    announce(lab, sale, handle, entropy=slow)
    assert handle.settle(entropy=slow).outcome is Outcome.SETTLED
    assert len(slow.asked) == 5  # twice or more while the entries were frozen


@pytest.mark.parametrize("late_ms", [-1, 0])
def test_entries_frozen_when_the_public_seed_was_known_void_the_cue(lab: Lab, late_ms: int) -> None:
    sale, tower = lab.open(), Tower()
    handle = entered(lab, sale, entropy=tower)
    at = handle.cue().entropy_at_ms
    assert at is not None
    tower.say(handle.cue())
    lab.set_time(sale, at + late_ms)
    told = settled(lab, sale, handle, entropy=tower)
    if late_ms < 0:
        assert told.outcome is Outcome.SETTLED
        return
    assert told.outcome is Outcome.VOID
    view = handle.view()
    assert (view.state, view.reason) == (CueState.VOID, "frozen after the public seed was known")
    assert sale.snapshot().skus["red"].set_aside == 3
    assert results(handle, ["b0"]) == {"b0": "VOID"}
    record = verified(handle)
    assert record["void"] == {"reason": view.reason, "at_ms": view.voided_at_ms}
    assert record["frozen"]["at_ms"] == view.frozen_at_ms
    assert record["server_seed"] == seed_of(handle).hex()
    assert handle.settle(wait=False, entropy=tower).outcome is Outcome.VOID
    assert sale.audit().problems == ()


def test_entries_whose_digest_was_not_published_in_time_void_the_cue(lab: Lab) -> None:
    sale, tower = lab.open(), Tower()
    handle = entered(lab, sale, entropy=tower)
    lab.set_time(sale, CLOSE)
    dead = Hand(lab, settlement(handle.cue()))
    while handle.view().state is CueState.OPEN:
        dead.call()
    dead.drop()
    assert not handle.view().digest
    at = handle.cue().entropy_at_ms
    assert at is not None
    lab.set_time(sale, at)
    assert handle.settle(wait=False, entropy=tower).outcome is Outcome.VOID
    assert sale.audit().problems == ()


def test_a_public_draw_takes_no_other_source_and_no_odd_value(lab: Lab) -> None:
    sale, tower = lab.open(), Tower()
    handle = entered(lab, sale, entropy=tower)
    close(lab, sale, handle)
    for wrong, text in [(None, "not None"), (Tower("beacon"), "not 'beacon'")]:
        with pytest.raises(InvalidRequest, match=f"entropy: must be the source .*{text}"):
            handle.settle(wait=False, entropy=wrong)
    handle.freeze(wait=False, entropy=tower)
    for value in (b"", bytes(15), bytes(1_025), "x" * 32):
        tower.say(handle.cue(), value)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequest, match="value of entropy: must be 16 to 1024 bytes"):
            handle.settle(wait=False, entropy=tower)
    assert handle.view().awarded == 0
    tower.say(handle.cue())
    assert settled(lab, sale, handle, entropy=tower).outcome is Outcome.SETTLED


def test_what_a_source_says_later_changes_nothing(lab: Lab) -> None:
    sale, tower = lab.open(), Tower()
    handle = entered(lab, sale, entropy=tower, reserve_ms=20_000)
    tower.say(handle.cue(), b"the first value it gave")
    settled(lab, sale, handle, entropy=tower)
    order = in_order(handle, BUYERS, b"the first value it gave")
    sale.release(order[0], "cue~drop")
    tower.say(handle.cue(), b"another value that it gives")
    assert handle.settle(wait=False, entropy=tower).promoted == 1
    assert results(handle, order)[order[3]] == "HELD"
    sale.release(order[1], "cue~drop")
    assert handle.settle(wait=False).promoted == 2  # the source need not even be there
    assert results(handle, order)[order[4]] == "HELD"
    verified(handle)


def test_a_frozen_cue_without_awards_can_be_voided(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale, entropy=Tower())
    settled(lab, sale, handle, entropy=Tower())
    assert handle.void("the tower is silent").outcome is Outcome.VOID
    assert sale.snapshot().skus["red"].set_aside == 3
    assert sale.audit().problems == ()


@pytest.mark.parametrize("key", ["ledger"])
def test_a_late_freeze_voids_wholly_or_not_at_all(lab: Lab, key: str) -> None:
    sale, tower = lab.open(), Tower()
    handle = entered(lab, sale, entropy=tower)
    at = handle.cue().entropy_at_ms
    assert at is not None
    lab.set_time(sale, at)
    name = getattr(lab.keys(sale), key)
    kept = save(lab, sale, "drop")
    lab.raw.delete(name)
    lab.raw.set(name, "not what it was")
    before = contents(lab, sale, "drop")
    with pytest.raises(StoreUnavailable):
        handle.settle(wait=False, entropy=tower)
    assert contents(lab, sale, "drop") == before
    load(lab, kept)
    assert handle.settle(wait=False, entropy=tower).outcome is Outcome.VOID
    assert sale.audit().problems == ()


# --- baskets ------------------------------------------------------------------------------


def test_what_no_longer_fits_is_cut_down_to_the_minimum_or_passed_over(lab: Lab) -> None:
    """Whatever the order turns out to be, the draw is the walk that the documentation tells."""
    sale = lab.open({"red": 20, "blue": 20})
    taps = [
        Tap("a", {"red": 3, "blue": 1}),
        Tap("b", {"red": 3}, minimum={"red": 1}),
        Tap("c", {"blue": 4}),
        Tap("d", {"blue": 4, "red": 2}, minimum={"blue": 2, "red": 1}),
        Tap("e", {"red": 2}),
        Tap("f", {"blue": 2}, minimum={"blue": 1}),
        Tap("g", {"red": 1, "blue": 1}),
    ]
    handle = entered(lab, sale, taps, stock={"red": 5, "blue": 5})
    settled(lab, sale, handle)
    by_name = {told.buyer: told for told in taps}
    left, expected = {"red": 5, "blue": 5}, []
    for buyer in in_order(handle, list(by_name)):
        told = by_name[buyer]
        least = dict(told.basket) | dict(told.minimum or {})
        got = {sku: min(qty, left[sku]) for sku, qty in told.basket.items()}
        if all(got[sku] >= least[sku] for sku in got):
            expected.append((buyer, got))
            left = {sku: left[sku] - got.get(sku, 0) for sku in left}
    assert drawn_by(handle, list(by_name)) == expected
    assert [(b, lines) for b, _, lines in awarded_by(handle, list(by_name))] == expected
    for buyer, got in expected:
        hold = sale.find(buyer, "cue~drop")
        assert hold is not None
        assert dict(hold.lines) == got
    assert sum(sum(got.values()) for _, got in expected) + sum(left.values()) == 10
    assert sale.audit().problems == ()


def one_first(lab: Lab, taps: dict[str, Tap], first: str, **rules: Any) -> tuple[Any, CueHandle]:
    """A cue in which one buyer comes first: that buyer taps a window earlier."""
    sale = lab.open({"red": 20, "blue": 20})
    handle = open_cue(lab, sale, windows=2, **rules)
    lab.set_time(sale, T0 + 3_000)
    told = [
        Tap(b, t.basket, 0 if b == first else 3_000, minimum=t.minimum) for b, t in taps.items()
    ]
    enter_all(lab, handle.cue(), told)
    settled(lab, sale, handle)
    return sale, handle


def test_who_wants_all_or_nothing_is_passed_over_and_the_next_served(lab: Lab) -> None:
    taps = {"a": Tap("a", {"red": 2}), "b": Tap("b", {"red": 2}), "c": Tap("c", {"red": 1})}
    sale, handle = one_first(lab, {k: taps[k] for k in "ab"}, "a", stock={"red": 3})
    assert drawn_by(handle, ["a", "b"]) == [("a", {"red": 2})]
    assert sale.snapshot().skus["red"].available == 18
    taps["b"] = Tap("b", {"red": 2}, minimum={"red": 1})
    sale, handle = one_first(lab, {k: taps[k] for k in "ab"}, "a", stock={"red": 3})
    assert drawn_by(handle, ["a", "b"]) == [("a", {"red": 2}), ("b", {"red": 1})]
    assert handle.result("b", wait_ms=0).outcome is Outcome.HELD
    assert sale.audit().problems == ()


def test_a_basket_is_awarded_whole_even_if_one_line_would_fit(lab: Lab) -> None:
    taps = {"a": Tap("a", {"red": 2}), "b": Tap("b", {"red": 1, "blue": 1})}
    sale, handle = one_first(lab, taps, "a", stock={"red": 2, "blue": 2})
    assert drawn_by(handle, ["a", "b"]) == [("a", {"red": 2})]
    assert sale.snapshot().skus["blue"].available == 20


# --- winners who are refused --------------------------------------------------------------


def takes_limit(sale: SaleHandle, buyer: str) -> None:
    sale.hold(buyer, {"red": 2}, hold_id="h").unwrap()


def uses_all_ids(sale: SaleHandle, buyer: str) -> None:
    for n in range(2):
        sale.release(buyer, f"h{n}")


REFUSED: list[tuple[Callable[[SaleHandle, str], None], Outcome]] = [
    (takes_limit, Outcome.LIMIT_REACHED),
    (uses_all_ids, Outcome.TOO_MANY_HOLDS),
]


@pytest.mark.parametrize(("spoil", "outcome"), REFUSED, ids=[o.name for _, o in REFUSED])
@pytest.mark.parametrize("reserve_ms", [0, 5_000])
def test_a_winner_who_is_refused_is_told_why_and_the_place_goes_to_the_next(
    lab: Lab, spoil: Callable[[SaleHandle, str], None], outcome: Outcome, reserve_ms: int
) -> None:
    sale = lab.open(limits={"red": 2}, holds_max=2)
    handle = entered(lab, sale, reserve_ms=reserve_ms)
    order = in_order(handle, BUYERS)
    announce(lab, sale, handle)
    spoil(sale, order[1])
    told = settled(lab, sale, handle)
    assert (told.drawn, told.awarded, told.promoted) == (3, 2, 1)
    assert told.reserve_until_ms == (TOLD + TTL + 5_000 if reserve_ms else None)
    expected = [
        (order[0], "held", {"red": 1}),
        (order[1], outcome.value, {}),
        (order[2], "held", {"red": 1}),
        (order[3], "held", {"red": 1}),
    ]
    assert awarded_by(handle, BUYERS) == expected
    assert [buyer for buyer, _ in drawn_by(handle, BUYERS)] == order[:3]
    got = results(handle, BUYERS)
    assert (got[order[1]], got[order[3]]) == (outcome.name, "HELD")
    assert sale.snapshot().skus["red"].set_aside == 0
    before = contents(lab, sale, "drop")
    assert settled(lab, sale, handle).awarded == 2
    assert contents(lab, sale, "drop") == before
    assert sale.audit().problems == ()


def test_the_sales_limit_holds_for_winners_too(lab: Lab) -> None:
    sale = lab.open({"red": 10, "blue": 10}, limit=2)
    handle = entered(lab, sale, [Tap("a", {"red": 2}), Tap("b"), Tap("c")], stock={"red": 8})
    lab.set_time(sale, TOLD)
    sale.hold("a", {"blue": 1}, hold_id="h2").unwrap()
    told = settled(lab, sale, handle)
    assert (told.drawn, told.awarded) == (3, 2)
    assert results(handle, ["a", "b", "c"]) == {"a": "LIMIT_REACHED", "b": "HELD", "c": "HELD"}
    assert sale.audit().problems == ()


def test_a_next_in_order_who_is_refused_is_passed_over_and_not_counted(lab: Lab) -> None:
    sale = lab.open(limits={"red": 2})
    handle = entered(lab, sale, reserve_ms=5_000)
    order = in_order(handle, BUYERS)
    announce(lab, sale, handle)
    for buyer in (order[0], order[3], order[4]):
        takes_limit(sale, buyer)
    told = settled(lab, sale, handle)
    assert (told.drawn, told.awarded, told.promoted) == (3, 2, 1)
    got = results(handle, BUYERS)
    assert [got[buyer] for buyer in order[:7]] == [
        "LIMIT_REACHED",
        "HELD",
        "HELD",
        "LIMIT_REACHED",
        "LIMIT_REACHED",
        "HELD",
        "NOT_DRAWN",
    ]
    assert sale.audit().problems == ()


# --- the reserve --------------------------------------------------------------------------

FALLS_FREE: dict[str, Callable[[Lab, SaleHandle, str], object]] = {
    "released": lambda lab, sale, buyer: sale.release(buyer, "cue~drop").unwrap(),
    "unpaid": lambda lab, sale, buyer: lab.set_time(sale, TOLD + TTL),
}


def test_a_released_place_goes_back_to_the_set_aside_and_to_the_next_in_order(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale, reserve_ms=5_000)
    settled(lab, sale, handle)
    order = in_order(handle, BUYERS)
    with lab.watch(sale) as seen:
        sale.release(order[1], "cue~drop")
    assert seen.effect == "red x+1 h-1"
    assert seen.events == ["released red*1", "set_aside red*1"]
    assert sale.hold("x", {"red": 8}, hold_id="h").outcome is Outcome.SOLD_OUT
    told = handle.settle(wait=False)
    assert (told.drawn, told.awarded, told.promoted) == (3, 3, 1)
    assert results(handle, order)[order[3]] == "HELD"
    assert sale.find(order[1], "cue~drop").state.name == "RELEASED"  # type: ignore[union-attr]
    assert sale.audit().problems == ()


def test_unpaid_places_go_to_the_next_though_nobody_calls_but_the_settlement(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale, reserve_ms=1_500)
    told = settled(lab, sale, handle)
    order = in_order(handle, BUYERS)
    assert told.reserve_until_ms == TOLD + 2_500
    sale.confirm(order[2], "cue~drop").unwrap()
    lab.set_time(sale, TOLD + TTL)
    told = handle.settle(wait=False)
    assert (told.awarded, told.promoted, told.reserve_until_ms) == (3, 2, TOLD + 2_500)
    assert [b for b, o, _ in awarded_by(handle, BUYERS) if o == "held"] == order[:5]
    lab.set_time(sale, TOLD + 2 * TTL)
    assert handle.settle(wait=False).promoted == 4
    lab.set_time(sale, TOLD + 3 * TTL)  # the reserve has ended: open sale
    told = handle.settle(wait=False)
    assert (told.promoted, told.reserve_until_ms) == (4, None)
    sale.expire()
    red = sale.snapshot().skus["red"]
    assert (red.available, red.set_aside, red.held, red.sold) == (9, 0, 0, 1)
    assert results(handle, order)[order[7]] == "NOT_DRAWN"
    assert sale.audit().problems == ()


@pytest.mark.parametrize("way", FALLS_FREE)
def test_units_of_a_winner_go_to_open_sale_once_there_is_no_reserve(lab: Lab, way: str) -> None:
    sale = lab.open()
    handle = entered(lab, sale)
    settled(lab, sale, handle)
    FALLS_FREE[way](lab, sale, in_order(handle, BUYERS)[0])
    sale.expire()
    red = sale.snapshot().skus["red"]
    assert (red.set_aside, red.available + red.held) == (0, 10)
    assert handle.settle(wait=False).promoted == 0
    assert sale.audit().problems == ()


def test_an_extended_hold_of_a_winner_falls_free_at_its_new_deadline(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale, reserve_ms=9_000)
    settled(lab, sale, handle)
    order = in_order(handle, BUYERS)
    sale.extend(order[0], "cue~drop", deadline_ms=TOLD + 4_000).unwrap()
    for buyer in order[1:3]:
        sale.confirm(buyer, "cue~drop").unwrap()
    lab.set_time(sale, TOLD + 3_999)
    assert handle.settle(wait=False).promoted == 0
    lab.set_time(sale, TOLD + 4_000)
    assert handle.settle(wait=False).promoted == 1
    assert results(handle, order)[order[3]] == "HELD"
    assert sale.audit().problems == ()


def test_lines_that_a_winner_does_not_pay_for_fall_free_too(lab: Lab) -> None:
    sale = lab.open()
    taps = {"a": Tap("a", {"red": 2, "blue": 1}), "b": Tap("b", {"red": 1})}
    sale, handle = one_first(lab, taps, "a", stock={"red": 2, "blue": 1}, reserve_ms=5_000)
    with lab.watch(sale) as seen:
        sale.confirm("a", "cue~drop", lines={"blue": 1}).unwrap()
    assert seen.effect == "red x+2 h-2; blue h-1 s+1"
    assert handle.settle(wait=False).promoted == 1
    assert handle.result("b", wait_ms=0).outcome is Outcome.HELD
    assert sale.snapshot().skus["red"].set_aside == 1
    assert sale.audit().problems == ()


def test_a_late_payment_takes_from_open_sale_and_not_from_the_next_in_order(lab: Lab) -> None:
    sale = lab.open({"red": 3})
    handle = entered(lab, sale, reserve_ms=5_000)
    settled(lab, sale, handle)
    order = in_order(handle, BUYERS)
    lab.set_time(sale, TOLD + TTL)
    late = sale.confirm(order[0], "cue~drop", late="retake")
    assert (late.outcome, late.may_return) == (Outcome.SOLD_OUT, True)
    assert handle.settle(wait=False).promoted == 3
    sale.restock({"red": 1}, op_id="o").unwrap()
    assert sale.confirm(order[0], "cue~drop", late="retake").outcome is Outcome.CONFIRMED
    assert sale.audit().problems == ()


SWEEPS: dict[str, Callable[[Lab, SaleHandle], object]] = {
    "hold": lambda lab, sale: sale.hold("z", {"red": 1}, hold_id="h"),
    "hold of two lines": lambda lab, sale: sale.hold("z", {"red": 1, "blue": 1}, hold_id="h"),
    "hold_many": lambda lab, sale: sale.hold_many([HoldRequest("z", {"red": 1}, "h")]),
    "confirm": lambda lab, sale: sale.confirm("k", "h"),
    "confirm of lines": lambda lab, sale: sale.confirm("k", "h", lines={"blue": 1}),
    "release": lambda lab, sale: sale.release("k", "h"),
    "release of nothing": lambda lab, sale: sale.release("z", "h"),
    "extend": lambda lab, sale: sale.extend("k", "h", deadline_ms=CLOSE + 9_000),
    "refund": lambda lab, sale: sale.refund(f"{sale.id}__p__h", lines={"blue": 1}, op_id="o"),
    "restock": lambda lab, sale: sale.restock({"blue": 1}, op_id="o"),
    "pause": lambda lab, sale: sale.pause(),
    "end": lambda lab, sale: sale.end(),
    "purge": lambda lab, sale: sale.purge(),
    "expire": lambda lab, sale: sale.expire(),
    "another cue": lambda lab, sale: open_cue(
        lab, sale, "next", stock={"blue": 1}, cue_time_ms=CLOSE
    ),
}


@pytest.mark.parametrize("verb", SWEEPS)
@pytest.mark.parametrize("left", [0, 1], ids=["nothing left", "a unit left"])
def test_any_verb_on_its_way_ends_a_reserve_that_has_run_out(
    lab: Lab, verb: str, left: int
) -> None:
    sale = lab.open({"red": 3, "blue": 10})
    handle = entered(lab, sale, reserve_ms=1_000)
    lab.set_time(sale, CLOSE)
    sale.hold("p", {"blue": 1}, hold_id="h").unwrap()
    sale.confirm("p", "h").unwrap()
    settled(lab, sale, handle)
    winners = in_order(handle, BUYERS)[:3]
    for winner in winners[left:]:
        sale.confirm(winner, "cue~drop").unwrap()
    for winner in winners[:left]:
        sale.release(winner, "cue~drop").unwrap()
    lab.set_time(sale, TOLD + 1_500)
    sale.hold("k", {"blue": 1}, hold_id="h").unwrap()
    assert sale.snapshot().skus["red"].set_aside == left
    lab.set_time(sale, TOLD + 1_999)
    assert lab.raw.zcard(lab.keys(sale).deadlines) == 1
    SWEEPS["hold"](lab, sale)
    assert sale.snapshot().skus["red"].set_aside == left  # not a millisecond early
    lab.set_time(sale, TOLD + 2_000)
    SWEEPS[verb](lab, sale)
    after = sale.snapshot().skus
    assert after["red"].set_aside == 0
    assert not lab.raw.hexists(lab.keys(sale).stock, "x:drop")
    assert lab.raw.zscore(lab.keys(sale).deadlines, "|drop") is None
    events = [
        event
        for entry in sale.ledger.read(after=0, count=1_000).entries
        for event in entry.events
        if event.cue == "drop"
    ]
    assert events[-1].lines == ({"red": -left} if left else {})  # told even if nothing was left
    assert sum(event.lines.get("red", 0) for event in events) == 0
    assert sale.audit().problems == ()
    assert handle.settle(wait=False).outcome is Outcome.SETTLED


def test_a_place_that_falls_free_after_the_reserve_is_on_open_sale(lab: Lab) -> None:
    sale = lab.open({"red": 3})
    handle = entered(lab, sale, reserve_ms=500)
    settled(lab, sale, handle)
    lab.set_time(sale, TOLD + TTL + 500)  # the reserve and the holds end in one sweep
    assert sale.hold("z", {"red": 3}, hold_id="h").outcome is Outcome.HELD
    assert handle.settle(wait=False).promoted == 0
    assert sale.audit().problems == ()


def test_a_reserve_ends_in_time_though_everything_else_falls_due_later(lab: Lab) -> None:
    sale = lab.open({"red": 3}, hold_ttl_ms=60_000)
    handle = entered(lab, sale, reserve_ms=2_000)
    settled(lab, sale, handle)
    for winner in in_order(handle, BUYERS)[:2]:
        sale.release(winner, "cue~drop").unwrap()
    lab.set_time(sale, TOLD + 61_999)
    assert sale.hold("z", {"red": 2}, hold_id="h").outcome is Outcome.SOLD_OUT
    lab.set_time(sale, TOLD + 62_000)
    assert sale.hold("z", {"red": 2}, hold_id="h").outcome is Outcome.HELD
    assert sale.audit().problems == ()


def test_reserve_and_holds_that_fall_due_together_end_on_open_sale(lab: Lab) -> None:
    sale = lab.open({"red": 3})
    handle = entered(lab, sale, reserve_ms=TTL)
    settled(lab, sale, handle)
    lab.set_time(sale, TOLD + 2 * TTL)
    sale.expire()
    red = sale.snapshot().skus["red"]
    assert (red.available, red.set_aside, red.held) == (3, 0, 0)
    assert sale.audit().problems == ()


def test_places_go_back_to_the_cue_they_came_from(lab: Lab) -> None:
    sale = lab.open()
    first = entered(lab, sale, cue_id="one", reserve_ms=9_000)
    second = entered(lab, sale, cue_id="two", reserve_ms=9_000)
    settled(lab, sale, first)
    settled(lab, sale, second)
    mine, theirs = in_order(first, BUYERS), in_order(second, BUYERS)
    sale.release(mine[0], "cue~one").unwrap()
    sale.release(theirs[0], "cue~two").unwrap()
    sale.release(theirs[1], "cue~two").unwrap()
    assert first.view().set_aside == {"red": 1}
    assert second.view().set_aside == {"red": 2}
    assert first.settle(wait=False).promoted == 1
    assert second.view().set_aside == {"red": 2}
    assert second.settle(wait=False).promoted == 2
    assert sale.audit().problems == ()


def test_many_unpaid_winners_make_room_for_as_many_others(lab: Lab) -> None:
    sale = lab.open({"red": 600})
    buyers = [f"b{n}" for n in range(1_300)]
    handle = entered(lab, sale, [Tap(b) for b in buyers], stock={"red": 600}, reserve_ms=9_000)
    settled(lab, sale, handle)
    lab.set_time(sale, TOLD + TTL)
    assert handle.settle(wait=False).promoted == 600
    assert [b for b, _, _ in awarded_by(handle, buyers)] == in_order(handle, buyers)[:1_200]
    assert sale.audit().problems == ()


# --- again --------------------------------------------------------------------------------


@pytest.mark.parametrize("reserve_ms", [0, 5_000])
def test_settling_again_changes_nothing(lab: Lab, reserve_ms: int) -> None:
    sale = lab.open()
    handle = entered(lab, sale, reserve_ms=reserve_ms)
    first = settled(lab, sale, handle)
    before, record = contents(lab, sale, "drop"), handle.record()
    for _ in range(2):
        assert handle.settle(wait=False) == first
    assert contents(lab, sale, "drop") == before
    assert handle.record() == record


def test_another_key_of_the_same_name_is_found_out_before_anything_is_awarded(
    lab: Lab, server_url: str
) -> None:
    sale = lab.open()
    handle = entered(lab, sale)
    lab.set_time(sale, TOLD)
    with (
        connect("sync", server_url, keys=[Key(KEY.id, bytes(32))]) as shop,
        pytest.raises(ConfigurationError, match="'test' is not the key"),
    ):
        shop.sale(sale.id).cue_handle("drop").settle(wait=False)
    assert handle.view().awarded == 0
    assert handle.settle(wait=False).awarded == 3


def test_a_cue_with_awards_cannot_be_voided(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale)
    lab.set_time(sale, TOLD)
    hand = Hand(lab, settlement(handle.cue()))
    while not handle.view().awarded:
        assert hand.call()
    hand.drop()
    assert handle.void("too late").outcome is Outcome.FROZEN
    assert results(handle, ["b0"]) == {"b0": "FROZEN"}
    assert handle.settle(wait=False).awarded == 3


def test_only_the_best_are_settled_as_all_would_be(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale, keep="best", reserve=2, reserve_ms=9_000)
    told = settled(lab, sale, handle)
    assert (told.entrants, told.drawn, told.awarded) == (5, 3, 3)
    order = in_order(handle, BUYERS)
    assert [buyer for buyer, _ in drawn_by(handle, BUYERS)] == order[:3]
    lab.set_time(sale, TOLD + TTL)
    assert handle.settle(wait=False).promoted == 2
    assert sale.snapshot().skus["red"].set_aside == 1  # nobody is left to take it
    assert results(handle, [order[4], order[5]]) == {order[4]: "HELD", order[5]: "NOT_DRAWN"}
    assert len(lab.raw.hgetall(CueKeys.of(sale.id, "drop").entries)) == 5
    assert name_of(handle, order[5]) not in str(handle.record())
    assert sale.audit().problems == ()


def test_positions_decide_between_windows(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale, windows=2, at=POSITION)
    lab.set_time(sale, T0 + 4_000)
    taps = [Tap(f"late{n}", after_ms=3_000) for n in range(5)]
    taps += [Tap(f"early{n}", after_ms=2_999) for n in range(2)]
    enter_all(lab, handle.cue(), taps)
    settled(lab, sale, handle)
    drawn = [buyer for buyer, _ in drawn_by(handle, [told.buyer for told in taps])]
    assert set(drawn[:2]) == {"early0", "early1"}
    assert drawn[2].startswith("late")


def test_a_fingerprint_caps_awards_in_the_order_of_the_draw(lab: Lab) -> None:
    """Holds taken directly count, and nobody gets a unit because others were asked first."""
    sale = lab.open(key_holds_max=2)
    handle = open_cue(lab, sale, proof=False)
    for n, buyer in enumerate(BUYERS):
        told = handle.enter(buyer, {"red": 1}, position_ms=POSITION + 500, key=f"device-{n // 2}")
        assert told.outcome is Outcome.ENTERED
    order = in_order(handle, BUYERS)
    announce(lab, sale, handle)
    first = BUYERS.index(order[0]) // 2
    sale.hold("x", {"blue": 1}, hold_id="h", key=f"device-{first}").unwrap()
    sale.hold("y", {"blue": 1}, hold_id="h", key=f"device-{first}").unwrap()
    told = settled(lab, sale, handle)
    shut_out = set(BUYERS[2 * first : 2 * first + 2])
    winners = [buyer for buyer in order if buyer not in shut_out][:3]
    assert (told.outcome, told.awarded + told.promoted) == (Outcome.SETTLED, 3)
    got = results(handle, BUYERS)
    assert [buyer for buyer in order if got[buyer] == "HELD"] == winners
    assert got[order[0]] == "KEY_LIMIT"
    own = next(f"device-{BUYERS.index(buyer) // 2}" for buyer in winners)
    counted = [int(lab.raw.hget(lab.keys(sale).caps, f"device-{n}") or 0) for n in range(4)]
    assert sum(counted) == 2 + 3
    assert counted[int(own[-1])] >= 1
    assert verified(handle)


def test_a_place_given_up_before_the_reveal_goes_to_the_next_though_there_is_no_reserve(
    lab: Lab,
) -> None:
    """Even between the last question and the reveal: else it would be whoever's is fastest."""
    sale = lab.open()
    handle = entered(lab, sale)
    order = in_order(handle, BUYERS)
    announce(lab, sale, handle)
    hand = Hand(lab, settlement(handle.cue()))
    while hand.next and hand.next.script.name != "window/reveal":
        hand.call()
    sale.release(order[1], "cue~drop").unwrap()
    told = hand.finish()
    assert (told.outcome, told.awarded, told.promoted) == (Outcome.SETTLED, 3, 1)
    assert sale.find(order[3], "cue~drop")
    red = sale.snapshot().skus["red"]
    assert (red.available, red.set_aside, red.held) == (7, 0, 3)
    assert verified(handle)["returned"] == {"red": 1}


def test_by_default_unpaid_places_go_to_the_next_for_as_long_as_a_hold_lives(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale, reserve_ms=None)
    assert handle.cue().reserve_ms == TTL
    told = settled(lab, sale, handle)
    assert told.reserve_until_ms == TOLD + 2 * TTL
    lab.set_time(sale, TOLD + TTL)
    assert sale.hold("fast", {"red": 8}, hold_id="h").outcome is Outcome.SOLD_OUT
    assert handle.settle(wait=False).promoted == 3
    lab.set_time(sale, TOLD + 2 * TTL)
    assert handle.settle(wait=False).promoted == 3
    sale.expire()
    assert sale.snapshot().skus["red"].available == 10
    assert open_cue(lab, sale, reserve_ms=None).cue() == handle.cue()  # the same again


def test_nothing_is_kept_in_reserve_where_nobody_is_left_to_take_it(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale, [Tap("ann"), Tap("bob")], reserve_ms=9_000)
    told = settled(lab, sale, handle)
    assert (told.awarded, told.reserve_until_ms) == (2, None)
    red = sale.snapshot().skus["red"]
    assert (red.available, red.set_aside, red.held) == (8, 0, 2)
    assert verified(handle)["final_at_ms"] == TOLD


def test_a_lost_number_of_entrants_is_named_and_nothing_is_revealed(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale)
    tap(handle, "ann")
    announce(lab, sale, handle)
    lab.raw.hdel(CueKeys.of(sale.id, "drop").cue, "entrants")
    with pytest.raises(StoreUnavailable, match="DAMAGED the field entrants of the cue drop"):
        handle.settle(wait=False)
    assert handle.view().state is CueState.FROZEN
    lab.raw.hset(CueKeys.of(sale.id, "drop").cue, "entrants", 1)
    assert handle.settle(wait=False).outcome is Outcome.SETTLED
