"""Taps: which of them count, to the millisecond, and what each is answered."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flashsale import (
    ConfigurationError,
    CueHandle,
    InvalidRequest,
    Key,
    Outcome,
    SaleHandle,
    StoreUnavailable,
    draw,
    window,
)
from flashsale.batches import read_answers
from flashsale.keys import CueKeys
from support.cues import (
    KEY,
    POSITION,
    Hand,
    Tap,
    close,
    contents,
    drawn_by,
    enter_all,
    kept_entries,
    known_of,
    load,
    name_of,
    open_cue,
    proof,
    receipt_of,
    save,
    settled,
    tap,
    verified,
)
from support.lab import T0, Lab
from support.shells import connect

W, LAG, GRACE = 3_000, 12_000, 1_000
"""The window, the lag cap and the grace of the tests' cues."""


# --- what a tap is answered ---------------------------------------------------------------


def test_a_tap_is_entered_and_told_its_receipt_and_when_the_result_comes(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale)
    lab.set_time(sale, T0 + 700)
    with lab.watch(sale) as seen:
        answer = tap(handle, "ann")
    assert (answer.outcome, answer.replayed, answer.at_ms) == (Outcome.ENTERED, False, T0 + 700)
    assert (answer.sale, answer.cue, answer.buyer) == (sale.id, "drop", "ann")
    assert answer.receipt == receipt_of(handle, "ann")
    assert answer.reveals_at_ms == handle.cue().reveals_at_ms
    assert answer.result(wait_ms=0).outcome is Outcome.NOT_CLOSED
    assert (seen.effect, seen.events) == ("", [])  # an entry is no matter of the stock
    assert handle.view().entries == 1
    assert sale.audit().problems == ()


def test_tapping_again_is_replayed_and_gains_nothing(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale)
    lab.set_time(sale, T0 + 500)
    tap(handle, "ann")
    before = contents(lab, sale, "drop")
    again = tap(handle, Tap("ann", after_ms=100))
    assert (again.outcome, again.replayed) == (Outcome.ENTERED, True)
    assert again.receipt == receipt_of(handle, "ann")
    assert contents(lab, sale, "drop") == before


@pytest.mark.parametrize("together", [True, False])
def test_the_smallest_window_and_basket_of_a_buyer_counts_in_any_order(
    lab: Lab, together: bool
) -> None:
    taps = [
        Tap("ann", {"red": 2}, after_ms=W + 1),
        Tap("ann", {"red": 3}, after_ms=10),
        Tap("ann", {"red": 2}, after_ms=20),
        Tap("ann", {"red": 2, "blue": 1}, after_ms=30),
        Tap("ann", {"red": 1}, after_ms=2 * W),
    ]
    for turn in range(5):
        sale = lab.open()
        handle = open_cue(lab, sale, windows=3, stock={"red": 3, "blue": 3})
        lab.set_time(sale, T0 + 2 * W)
        turned = taps[turn:] + taps[:turn]
        if together:
            answers: Any = enter_all(lab, handle.cue(), turned)
        else:
            answers = [tap(handle, told) for told in turned]
        assert [answer.outcome for answer in answers] == [Outcome.ENTERED] * 5
        assert [answer.replayed for answer in answers] == [False] + [True] * 4
        assert kept_entries(lab, handle) == {"ann": "0|0*2"}


def test_what_is_refused_of_a_batch_harms_no_other_tap(lab: Lab) -> None:
    sale = lab.open(limits={"red": 2})
    handle = open_cue(lab, sale)
    lab.set_time(sale, T0 + 1_000)
    taps = [
        Tap("ann"),
        Tap("bob", after_ms=-1),
        Tap("cyd", {"green": 1}),
        Tap("dan", {"red": 3}),
        Tap("eve", after_ms=LAG + 1_001),
        Tap("ann"),
        Tap("fay", {"red": 2}, after_ms=LAG + 1_000),
    ]
    answers = enter_all(lab, handle.cue(), taps)
    assert [(answer.outcome.name, answer.replayed) for answer in answers] == [
        ("ENTERED", False),
        ("TOO_EARLY", False),
        ("SKU_UNKNOWN", False),
        ("LIMIT_REACHED", False),
        ("AHEAD_OF_LIVE", False),
        ("ENTERED", True),
        ("ENTERED", False),
    ]
    assert set(kept_entries(lab, handle)) == {"ann", "fay"}


def test_a_basket_is_judged_by_the_cues_skus_its_limits_and_its_stock(lab: Lab) -> None:
    sale = lab.open({"red": 10, "blue": 10, "lime": 10}, limits={"red": 4}, limit=5)
    handle = open_cue(lab, sale, stock={"red": 3, "blue": 5})
    for basket, minimum, outcome in [
        ({"lime": 1}, None, Outcome.SKU_UNKNOWN),  # of the sale, not of the cue
        ({"red": 1, "lime": 1}, None, Outcome.SKU_UNKNOWN),
        ({"red": 5}, None, Outcome.LIMIT_REACHED),
        ({"red": 5}, {"red": 1}, Outcome.LIMIT_REACHED),
        ({"red": 3, "blue": 3}, None, Outcome.LIMIT_REACHED),
        ({"red": 4}, None, Outcome.SOLD_OUT),  # more than there is: it can never be had
        ({"red": 4}, {"red": 3}, Outcome.ENTERED),
        ({"red": 1, "blue": 4}, None, Outcome.ENTERED),
    ]:
        assert tap(handle, Tap("ann", basket, minimum=minimum)).outcome is outcome, basket


def test_a_cue_takes_as_many_buyers_as_it_may_keep_and_they_may_tap_again(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale, entries_max=2)
    taps = [Tap("ann"), Tap("ann"), Tap("bob"), Tap("cyd"), Tap("bob"), Tap("dan")]
    answers = enter_all(lab, handle.cue(), taps)
    assert [(answer.outcome.name, answer.replayed) for answer in answers] == [
        ("ENTERED", False),
        ("ENTERED", True),
        ("ENTERED", False),
        ("ENTRIES_FULL", False),
        ("ENTERED", True),
        ("ENTRIES_FULL", False),
    ]
    assert tap(handle, "eve").outcome is Outcome.ENTRIES_FULL
    assert tap(handle, "ann").replayed
    assert set(kept_entries(lab, handle)) == {"ann", "bob"}


def pause(lab: Lab, sale: SaleHandle, handle: CueHandle) -> None:
    sale.pause()


def end(lab: Lab, sale: SaleHandle, handle: CueHandle) -> None:
    sale.end()


def void(lab: Lab, sale: SaleHandle, handle: CueHandle) -> None:
    handle.void("the link was wrong")


def freeze(lab: Lab, sale: SaleHandle, handle: CueHandle) -> None:
    settled(lab, sale, handle)


def purge(lab: Lab, sale: SaleHandle, handle: CueHandle) -> None:
    handle.void("the link was wrong")
    lab.set_time(sale, handle.cue().reveals_at_ms)
    handle.give_back().unwrap()
    sale.end()
    sale.purge().unwrap()


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        (pause, Outcome.PAUSED),
        (end, Outcome.ENDED),
        (void, Outcome.VOID),
        (close, Outcome.TOO_LATE),
        (freeze, Outcome.TOO_LATE),
        (purge, Outcome.PURGED),
    ],
    ids=lambda value: value.name if isinstance(value, Outcome) else "",
)
def test_a_cue_that_takes_no_entries_says_why_and_keeps_none(
    lab: Lab, step: Callable[[Lab, SaleHandle, CueHandle], None], outcome: Outcome
) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale)
    handle.cue()
    step(lab, sale, handle)
    before = contents(lab, sale, "drop")
    answer = tap(handle, "ann")
    assert (answer.outcome, answer.receipt) == (outcome, "")
    assert contents(lab, sale, "drop") == before


def test_a_paused_sale_takes_entries_again_when_it_resumes(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale)
    sale.pause()
    assert tap(handle, "ann").outcome is Outcome.PAUSED
    sale.resume()
    assert tap(handle, "ann").outcome is Outcome.ENTERED


def test_a_clock_that_has_jumped_takes_no_entries(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale)
    known = lab.shop.perform(window.know(sale.id, "drop"))
    lab.raw.hset(lab.keys(sale).sale, "now", 1_000)
    item = window.enter_item(known, "ann", {"red": 1}, POSITION, None, None)

    def enter() -> Any:
        kind = window.enter_kind(sale.id, known)
        return read_answers(kind, [item], (yield kind.call([item])))

    (answer,) = Hand(lab, enter(), caller_ms=1_000).finish()
    assert answer.outcome is Outcome.CLOCK_JUMP
    assert kept_entries(lab, handle) == {}


def test_taps_of_many_threads_share_calls_and_each_is_answered_for_itself(
    lab: Lab, server_url: str
) -> None:
    sale = lab.open({"red": 100}, limits={"red": 3})
    open_cue(lab, sale, stock={"red": 50})
    buyers = [f"b{n}" for n in range(300)]
    with connect("sync", server_url, keys=[KEY]) as shop, ThreadPoolExecutor(16) as pool:
        handle = shop.sale(sale.id).cue_handle("drop")
        told = [Tap(b, {"red": 1 + n % 4}, after_ms=n) for n, b in enumerate(buyers)]
        answers = list(pool.map(lambda each: tap(handle, each), told))
    salt = known_of(lab.shop.sale(sale.id).cue_handle("drop")).salt
    for n, answer in enumerate(answers):
        refused = n % 4 == 3
        receipt = draw.opening_of(salt, sale.id, "drop", answer.buyer).hex()
        assert answer.buyer == f"b{n}"
        assert answer.outcome is (Outcome.LIMIT_REACHED if refused else Outcome.ENTERED)
        assert answer.receipt == ("" if refused else receipt)
    texts = ["0", "0|0*2", "0|0*3"]
    expected = {f"b{n}": texts[n % 4] for n in range(300) if n % 4 != 3}
    assert kept_entries(lab, handle) == expected
    assert settled(lab, sale, sale.cue_handle("drop")).entrants == 225


# --- proofs -------------------------------------------------------------------------------


def test_an_entry_without_a_proof_is_refused(lab: Lab) -> None:
    handle = open_cue(lab, lab.open())
    for nothing in (None, ""):
        answer = tap(handle, "ann", proof=nothing)
        assert (answer.outcome, answer.receipt) == (Outcome.NO_PROOF, "")
    assert handle.view().entries == 0


def test_a_proof_is_for_one_buyer_and_one_cue_and_whole(lab: Lab) -> None:
    sale = lab.open()
    handle, other = open_cue(lab, sale), open_cue(lab, sale, "other")
    cue, theirs = handle.cue(), other.cue()
    right = proof(cue, "ann")
    flipped = f"{int(right, 16) ^ 1:064x}"
    wrong: list[Any] = [
        proof(cue, "bob"),
        proof(theirs, "ann"),
        draw.proof_of(theirs.nonce, cue.sale, cue.id, "ann"),
        draw.proof_of(cue.nonce, "another-sale", cue.id, "ann"),
        flipped,
        right[:-1],
        right[:32],
        right + "0",
        right.upper() if right.upper() != right else "A" * 64,
        " " + right,
        cue.nonce,
        "é" * 64,
        "\ud800",
        bytes.fromhex(right),
        7,
    ]
    for text in wrong:
        assert tap(handle, "ann", proof=text).outcome is Outcome.WRONG_PROOF, text
    assert handle.view().entries == 0
    assert tap(handle, "ann", proof=right).outcome is Outcome.ENTERED


def test_parts_of_a_proof_cannot_be_shifted_into_one_another() -> None:
    nonce = "00" * 16
    assert draw.proof_of(nonce, "a", "bc", "d") != draw.proof_of(nonce, "ab", "c", "d")
    assert draw.proof_of(nonce, "a", "b", "cd") != draw.proof_of(nonce, "a", "bc", "d")


def test_a_proof_is_the_hmac_that_its_documentation_describes() -> None:
    message = b"\0\0\0\x04sale\0\0\0\x03cue\0\0\0\x03ann"
    told = hmac.new(bytes(range(16)), message, hashlib.sha256).hexdigest()
    assert draw.proof_of(bytes(range(16)).hex(), "sale", "cue", "ann") == told


def test_a_cue_may_do_without_proofs(lab: Lab) -> None:
    handle = open_cue(lab, lab.open(), proof=False)
    assert tap(handle, "ann", proof=None).outcome is Outcome.ENTERED


# --- time ---------------------------------------------------------------------------------


def enter_at(
    lab: Lab, sale: SaleHandle, handle: CueHandle, arrival_ms: int, after_ms: int
) -> Outcome:
    """What a tap is told that shows `after_ms` and arrives `arrival_ms` after the cue."""
    lab.set_time(sale, T0 + arrival_ms)
    outcome: Outcome = tap(handle, Tap("ann", after_ms=after_ms)).outcome
    return outcome


@pytest.mark.parametrize(
    ("arrival_ms", "after_ms", "outcome"),
    [
        # By the position alone, while the lag is within the cap.
        (5_000, -1, Outcome.TOO_EARLY),
        (5_000, 0, Outcome.ENTERED),
        (5_000, W - 1, Outcome.ENTERED),
        (5_000, W, Outcome.TOO_LATE),
        # A lag is granted up to the cap, the grace and the spread, and not a millisecond beyond.
        (LAG + GRACE + W - 1, 0, Outcome.ENTERED),
        (LAG + GRACE + W - 1, W - 1, Outcome.ENTERED),
        (LAG + GRACE + W, 0, Outcome.TOO_LATE),
        (LAG + GRACE + W, W - 1, Outcome.TOO_LATE),
        # Ahead of what the clock believes to be live: cut down to it, up to the cap.
        (0, W, Outcome.ENTERED),
        (0, LAG, Outcome.ENTERED),
        (0, LAG + 1, Outcome.AHEAD_OF_LIVE),
        (100, LAG + 100, Outcome.ENTERED),
        (100, LAG + 101, Outcome.AHEAD_OF_LIVE),
        (W - 1, LAG + W - 1, Outcome.ENTERED),
        (W, W, Outcome.TOO_LATE),
        (W, LAG + W, Outcome.TOO_LATE),
        # Before the time that the clock gives for the cue: who sees it has less lag than the clock.
        (-1_000, -1_000, Outcome.TOO_EARLY),
        (-1_000, -1, Outcome.TOO_EARLY),
        (-1_000, 0, Outcome.ENTERED),
        (-1_000, W, Outcome.ENTERED),
        (-LAG, 0, Outcome.ENTERED),
        (-LAG, 1, Outcome.AHEAD_OF_LIVE),
        (-LAG, -1, Outcome.TOO_EARLY),
        # Earlier than the cap before the cue nothing counts, whatever it shows.
        (-LAG - 1, -1, Outcome.TOO_EARLY),
        (-LAG - 1, 0, Outcome.TOO_EARLY),
        (-LAG - 1, 10**6, Outcome.TOO_EARLY),
    ],
)
def test_a_tap_counts_by_its_position_with_the_lag_that_is_granted(
    lab: Lab, arrival_ms: int, after_ms: int, outcome: Outcome
) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale)
    assert enter_at(lab, sale, handle, arrival_ms, after_ms) is outcome
    assert kept_entries(lab, handle) == ({"ann": "0"} if outcome is Outcome.ENTERED else {})


@pytest.mark.parametrize(
    ("arrival_ms", "after_ms", "counted"),
    [
        (40, 0, "0"),
        (2 * W, W - 1, "0"),
        (2 * W, W, "1"),
        (2 * W, 2 * W - 1, "1"),
        (2 * W, 2 * W, "2"),
        # What is claimed beyond the cap counts as reaction.
        (LAG + GRACE + 250 + W - 1, 0, "0"),
        (LAG + GRACE + 250 + W, 0, "1"),
        (LAG + GRACE + 250 + 2 * W - 1, 0, "1"),
        (LAG + GRACE + 250 + 2 * W, 0, "2"),
        (LAG + GRACE + 250 + W, 2 * W, "2"),  # never the earlier of the two
        (LAG + GRACE + 250 + 3 * W - 1, 0, "2"),
        # What lies ahead of live is cut down to it, and never below the cue's own position.
        (-1, 2 * W, "0"),
        (0, W, "0"),
        (W - 1, W, "0"),
        (W, 3 * W, "1"),
        (2 * W - 1, LAG + 2 * W - 1, "1"),
        (2 * W, LAG, "2"),
    ],
)
def test_windows_follow_one_another_to_the_millisecond(
    lab: Lab, arrival_ms: int, after_ms: int, counted: str
) -> None:
    sale = lab.open({"red": 10})
    handle = open_cue(lab, sale, windows=3, spread_ms=250)
    assert enter_at(lab, sale, handle, arrival_ms, after_ms) is Outcome.ENTERED
    assert kept_entries(lab, handle) == {"ann": counted}


def test_the_view_counts_the_taps_that_were_cut_down_to_live(lab: Lab) -> None:
    """Once they count; a clock that is late shows in it."""
    sale = lab.open()
    handle = open_cue(lab, sale, entries_max=3)
    lab.set_time(sale, T0 + 1_000)
    taps = [
        Tap("ann", after_ms=1_000),
        Tap("bob", after_ms=1_001),
        Tap("bob", after_ms=1_500),
        Tap("cyd", {"green": 1}, after_ms=1_500),
        Tap("dan", after_ms=LAG + 1_001),
        Tap("eve", after_ms=LAG + 1_000),
        Tap("fay", after_ms=1_001),  # no room is left
    ]
    enter_all(lab, handle.cue(), taps)
    assert (handle.view().cut, handle.view().entries) == (3, 3)
    assert tap(handle, Tap("ann", after_ms=999)).replayed
    assert handle.view().cut == 3


@pytest.mark.parametrize("keep", ["all", "best"])
def test_less_lag_than_the_clocks_reference_gains_and_loses_nothing_within_a_window(
    lab: Lab, keep: str
) -> None:
    """WebRTC beside HLS: whoever reacts within the window enters it, and so does a late viewer."""
    for clock_late_ms in (0, 500, 2_400, LAG):
        sale = lab.open()
        handle = open_cue(lab, sale, keep=keep)
        for lag_ms in (0, 300, clock_late_ms, LAG):
            for reaction_ms in (0, 650, W - 1):
                lab.set_time(sale, T0 - clock_late_ms + lag_ms + reaction_ms)
                told = Tap(f"v-{lag_ms}-{reaction_ms}", after_ms=reaction_ms)
                outcome = tap(handle, told).outcome
                assert outcome is Outcome.ENTERED, (clock_late_ms, lag_ms, reaction_ms)
        assert set(kept_entries(lab, handle).values()) == {"0"}


def test_after_the_last_window_it_is_too_late_for_everybody_alike(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale, windows=3, spread_ms=250)
    closes = LAG + GRACE + 250 + 3 * W
    assert handle.cue().closes_at_ms == T0 + closes
    for after_ms in (0, 3 * W - 1, -1, 10**6):
        assert enter_at(lab, sale, handle, closes, after_ms) is Outcome.TOO_LATE


def test_a_constant_offset_between_clock_and_timeline_cancels(lab: Lab) -> None:
    """Positions are compared with positions, times with times."""
    for position in (0, 90_000, T0, T0 + 10**9):
        sale = lab.open()
        handle = open_cue(lab, sale, at=position)
        lab.set_time(sale, T0 + 5_000)
        for after_ms, outcome in [(0, Outcome.ENTERED), (W, Outcome.TOO_LATE)]:
            assert tap(handle, "ann", position_ms=position + after_ms).outcome is outcome


# --- what is kept for the draw ------------------------------------------------------------


def test_baskets_are_kept_as_short_as_they_can_be(lab: Lab) -> None:
    sale = lab.open({"red": 10, "blue": 10})
    handle = open_cue(lab, sale, stock={"red": 5, "blue": 5})
    taps = [
        Tap("a", {"blue": 1}),
        Tap("b", {"red": 1}),
        Tap("c", {"red": 3, "blue": 2}, minimum={"red": 1}),
        Tap("d", {"blue": 2, "red": 3}, minimum={"blue": 2, "red": 3}),
        Tap("e", {"blue": 4}, minimum={"blue": 1}),
    ]
    enter_all(lab, handle.cue(), taps)
    assert kept_entries(lab, handle) == {
        "a": "0",  # the first of the cue's skus by name
        "b": "0|0",
        "c": "0|0*3~1,1*2",
        "d": "0|0*3,1*2",
        "e": "0|1*4~1",
    }
    settled(lab, sale, handle)
    groups = verified(handle)["entrants"]
    told = {name: group["wish"] for group in groups for name in group["who"]}
    assert told[name_of(handle, "a")] == [["blue", 1, 1]]
    assert told[name_of(handle, "c")] == [["blue", 2, 2], ["red", 3, 1]]
    assert told[name_of(handle, "e")] == [["blue", 4, 1]]


def test_a_buyers_name_is_not_in_the_record(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale)
    tap(handle, "ann-of-green-gables")
    settled(lab, sale, handle)
    assert "ann-of-green-gables" not in str(verified(handle))
    assert drawn_by(handle, ["ann-of-green-gables"]) == [("ann-of-green-gables", {"red": 1})]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"buyer": "a b"}, "buyer: must be 1 to 64 characters"),
    ({"buyer": 5}, "buyer: must be 1 to 64 characters"),
    ({"buyer": "\ud800"}, "buyer: must be 1 to 64 characters"),
    ({"basket": {}}, "basket: "),
    ({"basket": {"red": 0}}, "qty of 'red' in basket: must be from 1"),
    ({"basket": {f"s{n}": 1 for n in range(33)}}, "basket: "),
    ({"position_ms": -1}, "position_ms: must be from 0"),
    ({"position_ms": 1.0}, "position_ms: must be an int"),
    ({"position_ms": None}, "position_ms: must be an int"),
    ({"minimum": {"blue": 1}}, "minimum: names 'blue', which the basket does not"),
    ({"minimum": {"red": 0}}, "minimum of 'red': must be from 1 to 2"),
    ({"minimum": {"red": 3}}, "minimum of 'red': must be from 1 to 2"),
    ({"minimum": {"red": True}}, "minimum of 'red': must be an int"),
    ({"minimum": [("red", 1)]}, "minimum: must be a mapping"),
]


@pytest.mark.parametrize(("wrong", "text"), WRONG, ids=[text for _, text in WRONG])
def test_a_tap_that_breaks_a_rule_is_told_which_whatever_its_proof(
    lab: Lab, wrong: dict[str, Any], text: str
) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale)
    told: dict[str, Any] = {"buyer": "ann", "basket": {"red": 2}, "position_ms": POSITION}
    right = proof(handle.cue(), "ann")
    before = contents(lab, sale, "drop")
    for shown in (right, None, "wrong"):
        with pytest.raises(InvalidRequest, match=text):
            handle.enter(**told | {"proof": shown} | wrong)
    assert contents(lab, sale, "drop") == before


# --- keep="best" --------------------------------------------------------------------------


def test_only_the_best_are_kept_and_everybody_is_entered(lab: Lab) -> None:
    sale = lab.open({"red": 10})
    handle = open_cue(lab, sale, keep="best", reserve=2, proof=False)
    buyers = [f"b{n}" for n in range(40)]
    answers = enter_all(lab, handle.cue(), [Tap(buyer) for buyer in buyers])
    assert {answer.outcome for answer in answers} == {Outcome.ENTERED}
    assert len(kept_entries(lab, handle)) == handle.cue().kept == 5
    assert lab.raw.zcard(CueKeys.of(sale.id, "drop").best) == 5
    assert handle.view().entries == 5
    assert settled(lab, sale, handle).awarded == 3
    told = [handle.result(buyer, wait_ms=0).outcome for buyer in buyers]
    assert sorted(outcome.name for outcome in told) == ["HELD"] * 3 + ["NOT_DRAWN"] * 37


def test_where_only_the_best_are_kept_no_answer_tells_who_is_still_among_them(lab: Lab) -> None:
    sale = lab.open({"red": 20}, limits={"red": 2})
    handle = open_cue(lab, sale, keep="best", reserve=0, windows=2, proof=False)
    buyers = [f"b{n}" for n in range(12)]
    told = [Tap(buyer, after_ms=0) for buyer in buyers]
    first = enter_all(lab, handle.cue(), told)
    alike = {(answer.outcome, answer.replayed, answer.state) for answer in first}
    assert alike == {(Outcome.ENTERED, False, None)}
    for after_ms in (0, 1):  # the same again, and another tap of the same window
        again = enter_all(lab, handle.cue(), [Tap(buyer, after_ms=after_ms) for buyer in buyers])
        assert {(answer.outcome, answer.replayed, answer.state) for answer in again} == alike
    kept = kept_entries(lab, handle)
    assert len(kept) == 3 < len(buyers)
    for buyer in buyers:  # nor do refusals tell: they depend on what a buyer has, and on that alone
        sale.hold(buyer, {"red": 1}, hold_id="h").unwrap()
    over = enter_all(lab, handle.cue(), [Tap(b, {"red": 2}, 0, {"red": 1}) for b in buyers])
    assert {answer.outcome for answer in over} == {Outcome.LIMIT_REACHED}
    assert kept_entries(lab, handle) == kept


def test_an_earlier_window_is_better_than_any_rank(lab: Lab) -> None:
    sale = lab.open({"red": 10})
    handle = open_cue(lab, sale, keep="best", reserve=0, windows=2)
    lab.set_time(sale, T0 + W)
    enter_all(lab, handle.cue(), [Tap(f"late{n}", after_ms=W) for n in range(20)])
    early = [f"early{n}" for n in range(3)]
    enter_all(lab, handle.cue(), [Tap(buyer, after_ms=W - 1) for buyer in early])
    assert kept_entries(lab, handle) == dict.fromkeys(early, "0")
    lab.set_time(sale, T0 + W)
    tap(handle, Tap("early0", after_ms=W))  # taps again: the smallest counts
    assert kept_entries(lab, handle) == dict.fromkeys(early, "0")


def test_where_only_the_best_are_kept_limits_are_checked_with_the_tap(lab: Lab) -> None:
    sale = lab.open({"red": 10}, limits={"red": 2}, limit=3)
    handle = open_cue(lab, sale, keep="best")
    two = Tap("ann", {"red": 2}, minimum={"red": 1})
    sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    assert tap(handle, two).outcome is Outcome.LIMIT_REACHED
    lab.set_time(sale, T0 + 999)
    assert tap(handle, two).outcome is Outcome.LIMIT_REACHED
    lab.set_time(sale, T0 + 1_000)  # the hold is due: it counts no more
    assert tap(handle, two).outcome is Outcome.ENTERED
    assert kept_entries(lab, handle) == {"ann": "0|0*2~1"}


def test_where_only_the_best_are_kept_every_entry_is_content_with_one_unit(lab: Lab) -> None:
    handle = open_cue(lab, lab.open({"red": 10}), keep="best")
    with pytest.raises(InvalidRequest, match='minimum: must be 1 for every line with keep="best"'):
        tap(handle, Tap("ann", {"red": 2}))


def test_where_only_the_best_are_kept_entering_needs_the_key(lab: Lab, server_url: str) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale, keep="best")
    with connect("sync", server_url, keys=[Key("another", bytes(32))]) as shop:
        other = shop.sale(sale.id).cue_handle("drop")
        with pytest.raises(ConfigurationError, match="keys: the key 'test' is needed"):
            tap(other, "ann")
    assert handle.view().entries == 0


@pytest.mark.parametrize("keep", ["all", "best"])
@pytest.mark.parametrize("key", ["entries", "best", "buyers"])
def test_a_key_of_the_wrong_type_stops_a_tap_and_harms_nothing(
    lab: Lab, keep: str, key: str
) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale, keep=keep, reserve=0 if keep == "best" else None)
    handle.cue()
    if key == "buyers":
        sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
        name = lab.keys(sale).buyers
    else:
        name = getattr(CueKeys.of(sale.id, "drop"), key)
    kept = save(lab, sale, "drop")
    lab.raw.delete(name)
    lab.raw.set(name, "not what it was")
    before = contents(lab, sale, "drop")
    used = {"all": {"entries"}, "best": {"entries", "best", "buyers"}}[keep]
    if key in used:
        with pytest.raises(StoreUnavailable):
            tap(handle, "ann")
        assert contents(lab, sale, "drop") == before
    load(lab, kept)
    assert tap(handle, "ann").outcome is Outcome.ENTERED


def test_where_only_the_best_are_kept_another_secret_is_refused_before_it_ranks_anybody(
    lab: Lab, server_url: str
) -> None:
    """It would silently change who wins."""
    sale = lab.open()
    handle = open_cue(lab, sale, keep="best", reserve=2)
    tap(handle, "ann")
    before = contents(lab, sale, "drop")
    for shell in ("sync", "async"):
        other = Key(KEY.id, bytes(32))
        with connect(shell, server_url, keys=[KEY], draw_keys=[other]) as shop:
            theirs = shop.sale(sale.id).cue_handle("drop")
            with pytest.raises(ConfigurationError, match="draw_keys: 'test' is not the key"):
                tap(theirs, "bob")
    assert contents(lab, sale, "drop") == before


def test_a_cue_is_drawn_by_a_draw_key_and_entered_without_it(lab: Lab, server_url: str) -> None:
    """Processes that take entries need none; the key that signs tickets may be another."""
    own = Key("draws", bytes(range(1, 33)))
    sale = lab.open()
    for shell in ("sync", "async"):
        with connect(shell, server_url, keys=[KEY], draw_keys=[own]) as shop:
            handle = open_cue(lab, shop.sale(sale.id), f"drop-{shell}", stock={"red": 1})
            assert handle.cue().key == "draws"
        with connect(shell, server_url) as shop:
            theirs = shop.sale(sale.id).cue_handle(handle.id)
            assert tap(theirs, "ann").outcome is Outcome.ENTERED
        with (
            connect(shell, server_url, keys=[own], draw_keys=[KEY]) as shop,
            pytest.raises(ConfigurationError, match="draw_keys: the key 'draws' is needed"),
        ):
            shop.sale(sale.id).cue_handle(handle.id).settle(wait=False)
