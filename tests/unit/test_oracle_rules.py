"""The oracle's rules beside the state table: order, limits, times, the sale's verbs, views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flashsale import (
    Answer,
    EventKind,
    HoldRequest,
    HoldState,
    InvalidRequest,
    Line,
    Outcome,
    Sale,
    SaleState,
    Sku,
    SkuView,
    limits,
)
from flashsale.testing import OracleSale
from unit.oracle_holds import (
    BASKET,
    EXTEND_MAX,
    NOW,
    SALE,
    T0,
    TTL,
    confirm,
    confirm_too_much,
    events_of,
    expired,
    extend,
    extend_not_later,
    extend_too_far,
    held,
    hold_other,
    hold_same,
    opened,
    part_confirmed,
    refund,
    refunded,
    release,
    retake,
    tombstone,
)

if TYPE_CHECKING:
    from collections.abc import Callable

O = Outcome  # noqa: E741 -- the tests below are read across
HELD, CONFIRMED, RELEASED, EXPIRED, REFUNDED = HoldState

# Deadlines in answers.


def test_a_new_hold_falls_due_one_ttl_after_now() -> None:
    answer = opened().hold("ann", BASKET, hold_id="h", now_ms=NOW)
    assert answer.deadline_ms == NOW + TTL


def test_extend_answers_the_new_deadline_and_a_replayed_hold_the_original_one() -> None:
    oracle = opened()
    held(oracle)
    assert extend(oracle).deadline_ms == T0 + TTL + EXTEND_MAX
    assert extend_not_later(oracle).deadline_ms == T0 + TTL + EXTEND_MAX
    assert hold_same(oracle).deadline_ms == T0 + TTL


def test_a_hold_cannot_be_extended_further_by_extending_twice() -> None:
    oracle = opened()
    held(oracle)
    oracle.extend("ann", "h", deadline_ms=T0 + TTL + 1, now_ms=NOW)
    assert extend_too_far(oracle).outcome is O.DEADLINE_TOO_FAR
    assert extend_too_far(oracle).deadline_ms == T0 + TTL + 1


def test_only_held_and_a_hold_still_held_have_a_deadline_in_the_answer() -> None:
    oracle = opened()
    held(oracle)
    assert hold_other(oracle).deadline_ms == T0 + TTL
    assert confirm_too_much(oracle).deadline_ms == T0 + TTL
    assert refund(oracle).deadline_ms == T0 + TTL
    assert confirm(oracle).deadline_ms is None
    assert refund(oracle).deadline_ms is None
    assert hold_other(oracle).deadline_ms is None


def test_a_retake_leaves_the_deadlines_as_they_were() -> None:
    oracle = opened()
    expired(oracle)
    assert retake(oracle).deadline_ms is None
    hold = oracle.find("ann", "h", now_ms=NOW)
    assert hold is not None
    assert (hold.deadline_ms, hold.original_deadline_ms) == (NOW, NOW)


def test_an_answer_without_a_hold_and_one_about_a_tombstone_have_no_deadline() -> None:
    oracle = opened()
    assert confirm(oracle).deadline_ms is None
    tombstone(oracle)
    assert hold_same(oracle).deadline_ms is None
    assert release(oracle).deadline_ms is None


# Judging a hold: the first refusal in the stated order answers.

ORDER_SALE = Sale(
    "1111",
    skus=[Sku("red", 2, limit=1), Sku("blue", 10)],
    opens_at_ms=T0 + 10,
    closes_at_ms=T0 + 20,
    limit=3,
    holds_max=2,
    buyers_max=2,
)


def hold_at(oracle: OracleSale, now_ms: int, basket: dict[str, int], buyer: str = "ann") -> Answer:
    return oracle.hold(buyer, basket, hold_id="new", now_ms=now_ms)


def test_before_opening_at_opening_and_at_closing() -> None:
    oracle = opened(ORDER_SALE)
    assert hold_at(oracle, T0 + 9, {"red": 1}).outcome is O.NOT_OPEN
    assert hold_at(oracle, T0 + 10, {"red": 1}).outcome is O.HELD
    assert hold_at(oracle, T0 + 19, {"blue": 1}, "bob").outcome is O.HELD
    assert hold_at(oracle, T0 + 20, {"blue": 1}, "cyd").outcome is O.CLOSED


def test_the_state_of_the_sale_answers_before_its_times() -> None:
    oracle = opened(ORDER_SALE)
    oracle.pause(now_ms=T0)
    assert hold_at(oracle, T0, {"nothing": 1}).outcome is O.PAUSED
    oracle.end(now_ms=T0)
    assert hold_at(oracle, T0, {"nothing": 1}).outcome is O.ENDED


def test_times_before_sku_before_room_before_limits_before_stock() -> None:
    oracle = opened(ORDER_SALE)
    assert hold_at(oracle, T0, {"nothing": 99}).outcome is O.NOT_OPEN
    at = T0 + 10
    oracle.release("bob", "gone", now_ms=at)
    oracle.release("cyd", "gone", now_ms=at)
    assert hold_at(oracle, at, {"red": 99, "nothing": 1}).outcome is O.SKU_UNKNOWN
    assert hold_at(oracle, at, {"red": 99}).outcome is O.SHARD_FULL
    oracle.release("bob", "gone-too", now_ms=at)
    assert hold_at(oracle, at, {"red": 99}, "bob").outcome is O.TOO_MANY_HOLDS
    assert hold_at(oracle, at, {"red": 99}, "cyd").outcome is O.LIMIT_REACHED
    assert oracle.snapshot(now_ms=at).buyers == 2


def test_a_known_id_is_answered_from_the_table_whatever_the_sale_does() -> None:
    oracle = opened()
    held(oracle)
    oracle.end(now_ms=NOW)
    assert hold_same(oracle) == Answer(
        O.HELD, "1111", "ann", "h", HELD, T0 + TTL, replayed=True, at_ms=NOW
    )
    assert hold_other(oracle).outcome is O.CONFLICT


def test_a_limit_counts_held_and_sold_but_not_what_came_back() -> None:
    oracle = opened()
    oracle.hold("ann", {"red": 3}, hold_id="sold", now_ms=T0)
    oracle.confirm("ann", "sold", now_ms=T0)
    oracle.hold("ann", {"red": 5}, hold_id="held", now_ms=T0)
    assert hold_at(oracle, T0, {"red": 1}).outcome is O.LIMIT_REACHED
    oracle.refund("ann", "sold", lines={"red": 1}, op_id="r", now_ms=T0)
    assert hold_at(oracle, T0, {"red": 1}).outcome is O.HELD


def test_the_sale_limit_counts_all_skus_of_a_buyer() -> None:
    oracle = opened(Sale("1111", skus=[Sku("red", 9), Sku("blue", 9)], limit=3))
    oracle.hold("ann", {"red": 2}, hold_id="a", now_ms=T0)
    assert hold_at(oracle, T0, {"blue": 2}).outcome is O.LIMIT_REACHED
    assert hold_at(oracle, T0, {"blue": 1}).outcome is O.HELD


def test_sold_out_says_whether_every_line_could_still_come_back() -> None:
    oracle = opened(Sale("1111", skus=[Sku("red", 2), Sku("blue", 2)]))
    oracle.hold("bob", {"red": 2}, hold_id="h", now_ms=T0)
    oracle.hold("cyd", {"blue": 2}, hold_id="h", now_ms=T0)
    oracle.confirm("cyd", "h", now_ms=T0)
    red_only, both = hold_at(oracle, T0, {"red": 1}), hold_at(oracle, T0, {"red": 1, "blue": 1})
    assert (red_only.outcome, red_only.may_return) == (O.SOLD_OUT, True)
    assert (both.outcome, both.may_return) == (O.SOLD_OUT, False)


def test_a_basket_is_taken_whole_or_not_at_all() -> None:
    oracle = opened(Sale("1111", skus=[Sku("red", 2), Sku("blue", 0)]))
    assert hold_at(oracle, T0, {"red": 1, "blue": 1}).outcome is O.SOLD_OUT
    assert oracle.snapshot(now_ms=T0).skus["red"] == SkuView("red", 2, 2, 0, 0, 0)


def test_a_refusal_is_not_remembered() -> None:
    oracle = opened(Sale("1111", skus=[Sku("red", 0)]))
    assert hold_at(oracle, T0, {"red": 1}).outcome is O.SOLD_OUT
    oracle.restock({"red": 1}, op_id="truck", now_ms=T0)
    assert hold_at(oracle, T0, {"red": 1}).outcome is O.HELD


def test_stock_of_a_due_hold_is_available_to_the_next_buyer() -> None:
    oracle = opened(Sale("1111", skus=[Sku("red", 1)], hold_ttl_ms=TTL))
    oracle.hold("bob", {"red": 1}, hold_id="h", now_ms=T0)
    assert hold_at(oracle, T0 + TTL - 1, {"red": 1}).outcome is O.SOLD_OUT
    assert hold_at(oracle, T0 + TTL, {"red": 1}).outcome is O.HELD


def test_a_release_with_nowhere_to_put_its_tombstone_writes_nothing() -> None:
    oracle = opened(ORDER_SALE)
    for n in range(3):
        last = oracle.release("ann", f"gone-{n}", now_ms=T0)
    assert (last.outcome, last.state, last.replayed) == (O.RELEASED, RELEASED, False)
    oracle.release("bob", "gone", now_ms=T0)
    assert oracle.release("cyd", "gone", now_ms=T0).outcome is O.RELEASED
    assert [event.kind.value for event in events_of(oracle)] == ["opened"] + ["tombstone"] * 3
    assert oracle.find("cyd", "gone", now_ms=T0) is None


# Late payment, part confirmation, refunds.


@pytest.mark.parametrize("state", [SaleState.PAUSED, SaleState.ENDED])
def test_a_retake_works_in_any_state_of_the_sale_and_after_closing(state: SaleState) -> None:
    oracle = opened(Sale("1111", skus=[Sku("red", 1)], hold_ttl_ms=TTL, closes_at_ms=T0 + 1))
    oracle.hold("ann", {"red": 1}, hold_id="h", now_ms=T0)
    (oracle.pause if state is SaleState.PAUSED else oracle.end)(now_ms=T0)
    late = oracle.confirm("ann", "h", late="retake", now_ms=T0 + TTL)
    assert late.outcome is O.CONFIRMED
    oracle.check()


def test_a_retake_is_judged_by_lines_then_limit_then_stock_and_keeps_the_state() -> None:
    oracle = opened(Sale("1111", skus=[Sku("red", 2, limit=1)], hold_ttl_ms=TTL))
    oracle.hold("ann", {"red": 1}, hold_id="h", now_ms=T0)
    at = T0 + TTL
    oracle.hold("ann", {"red": 1}, hold_id="other", now_ms=at)
    oracle.hold("bob", {"red": 1}, hold_id="h", now_ms=at)
    wrong = oracle.confirm("ann", "h", lines={"red": 2}, late="retake", now_ms=at)
    limited = oracle.confirm("ann", "h", late="retake", now_ms=at)
    oracle.release("ann", "other", now_ms=at)
    oracle.hold("cyd", {"red": 1}, hold_id="h", now_ms=at)
    short = oracle.confirm("ann", "h", late="retake", now_ms=at)
    assert [(a.outcome, a.state, a.deadline_ms) for a in (wrong, limited, short)] == [
        (O.NOT_IN_HOLD, EXPIRED, None),
        (O.LIMIT_REACHED, EXPIRED, None),
        (O.SOLD_OUT, EXPIRED, None),
    ]
    assert short.may_return


def test_a_part_confirmed_hold_shows_what_was_held_and_what_is_sold() -> None:
    oracle = opened()
    part_confirmed(oracle)
    hold = oracle.find("ann", "h", now_ms=NOW)
    assert hold is not None
    assert (hold.lines, hold.sold) == (BASKET, {"red": 2})


def test_refunds_are_kept_by_op_id_and_the_last_one_makes_the_state_refunded() -> None:
    oracle = opened()
    refunded(oracle)
    hold = oracle.find("ann", "h", now_ms=NOW)
    assert hold is not None
    assert (hold.state, hold.sold) == (REFUNDED, {})
    assert hold.refunds == {"first": {"red": 1}, "rest": {"red": 2, "blue": 1}}


def test_a_hold_is_extended_sixty_four_times_at_most() -> None:
    oracle = opened(Sale("1111", skus=[Sku("red", 100)]))
    deadline = oracle.hold("ann", {"red": 1}, hold_id="h", now_ms=T0).deadline_ms
    assert deadline is not None
    outcomes = [
        oracle.extend("ann", "h", deadline_ms=deadline + n, now_ms=T0).outcome for n in range(1, 66)
    ]
    assert outcomes == [O.EXTENDED] * 64 + [O.TOO_MANY_EXTENDS]


def test_a_hold_has_sixteen_refunds_at_most() -> None:
    oracle = opened(Sale("1111", skus=[Sku("red", 100)]))
    oracle.hold("ann", {"red": 20}, hold_id="h", now_ms=T0)
    oracle.confirm("ann", "h", now_ms=T0)
    outcomes = [
        oracle.refund("ann", "h", lines={"red": 1}, op_id=f"r{n}", now_ms=T0).outcome
        for n in range(17)
    ]
    assert outcomes == [O.REFUNDED] * 16 + [O.TOO_MANY_REFUNDS]
    beyond = oracle.refund("ann", "h", lines={"red": 5}, op_id="r17", now_ms=T0)
    assert beyond.outcome is O.NOT_IN_HOLD


# The sale's own verbs.


def test_pause_resume_and_end_replay_and_an_ended_sale_stays_so() -> None:
    oracle = opened()
    verbs = [oracle.resume, oracle.pause, oracle.pause, oracle.resume]
    verbs += [oracle.end, oracle.end, oracle.pause, oracle.resume]
    answers = [verb(now_ms=NOW) for verb in verbs]
    assert [(answer.outcome, answer.replayed) for answer in answers] == [
        (O.RESUMED, True),
        (O.PAUSED, False),
        (O.PAUSED, True),
        (O.RESUMED, False),
        (O.ENDED, False),
        (O.ENDED, True),
        (O.ENDED, False),
        (O.ENDED, False),
    ]
    states = [event.text for event in events_of(oracle) if event.kind is EventKind.STATE]
    assert states == ["paused", "running", "ended"]


def test_opening_again_replays_the_same_definition_and_refuses_another() -> None:
    oracle = opened()
    other = Sale("1111", skus=[Sku("red", 11)])
    assert oracle.open(SALE, now_ms=NOW) == Answer(O.OPENED, "1111", replayed=True, at_ms=NOW)
    assert oracle.open(other, now_ms=NOW).outcome is O.CONFLICT


@pytest.mark.parametrize("switch", [OracleSale.resume, OracleSale.pause, OracleSale.end])
def test_restocking_changes_allotment_and_available_in_any_state(
    switch: Callable[..., Answer],
) -> None:
    oracle = opened()
    held(oracle)
    switch(oracle, now_ms=NOW)
    answer = oracle.restock({"red": -7, "blue": 5}, op_id="truck", now_ms=NOW)
    assert answer.outcome is O.RESTOCKED
    views = oracle.snapshot(now_ms=NOW).skus
    assert views["red"] == SkuView("red", 3, 0, 0, 3, 0, limit=8)
    assert views["blue"] == SkuView("blue", 15, 14, 0, 1, 0)
    oracle.check()


def test_a_restock_is_all_lines_or_none_and_the_first_sku_that_cannot_be_answers() -> None:
    oracle = opened()
    held(oracle)
    huge = limits.STOCK_MAX
    wanted: list[dict[str, int]] = [
        {"blue": 1, "nothing": -1},
        {"blue": huge, "red": -8},
        {"blue": -10, "red": huge},
        {"blue": huge - 9, "red": 1},
        {"blue": huge - 10, "red": 1},
    ]
    outcomes = [oracle.restock(c, op_id=f"r{n}", now_ms=NOW).outcome for n, c in enumerate(wanted)]
    assert outcomes == [
        O.SKU_UNKNOWN,
        O.BELOW_COMMITTED,
        O.STOCK_TOO_LARGE,
        O.STOCK_TOO_LARGE,
        O.RESTOCKED,
    ]
    assert oracle.snapshot(now_ms=NOW).skus["red"].allotment == 11


def test_an_op_id_of_a_restock_replays_or_conflicts() -> None:
    oracle = opened()
    oracle.restock({"red": 1, "blue": 2}, op_id="truck", now_ms=NOW)
    again = oracle.restock({"blue": 2, "red": 1}, op_id="truck", now_ms=NOW)
    other = oracle.restock({"red": 1}, op_id="truck", now_ms=NOW)
    assert (again.outcome, again.replayed) == (O.RESTOCKED, True)
    assert (other.outcome, other.replayed) == (O.CONFLICT, False)
    assert oracle.snapshot(now_ms=NOW).skus["red"].allotment == 11


def test_a_sale_has_ten_thousand_restocks_at_most() -> None:
    oracle = opened()
    for n in range(limits.RESTOCKS_MAX):
        oracle.restock({"red": 1}, op_id=f"r{n}", now_ms=NOW)
    assert oracle.restock({"red": 1}, op_id="last", now_ms=NOW).outcome is O.TOO_MANY_RESTOCKS
    assert oracle.restock({"red": 1}, op_id="r0", now_ms=NOW).replayed


def test_purge_wants_an_ended_sale_no_held_units_and_readers_that_finished() -> None:
    oracle = opened()
    held(oracle)
    first = oracle.purge(now_ms=NOW)
    oracle.end(now_ms=NOW)
    second = oracle.purge(now_ms=NOW)
    third = oracle.purge(now_ms=T0 + TTL, readers_behind=True)
    fourth, again = oracle.purge(now_ms=T0 + TTL), oracle.purge(now_ms=T0 + TTL)
    assert [(a.outcome, a.replayed) for a in (first, second, third, fourth, again)] == [
        (O.NOT_ENDED, False),
        (O.HOLDS_OUTSTANDING, False),
        (O.READERS_BEHIND, False),
        (O.PURGED, False),
        (O.PURGED, True),
    ]


# Sweeping, batches, views, time.


def test_expire_sweeps_what_is_due_up_to_its_bound_earliest_deadline_first() -> None:
    oracle = opened()
    for n in range(3):
        oracle.hold("ann", {"red": 1}, hold_id=f"h{n}", now_ms=T0 + n)
    oracle.extend("ann", "h0", deadline_ms=T0 + TTL + 5, now_ms=T0 + 3)
    assert oracle.expire(1, now_ms=T0 + TTL + 5) == 1
    assert oracle.expire(now_ms=T0 + TTL + 5) == 2
    assert oracle.expire(now_ms=T0 + TTL + 5) == 0
    swept = [event.hold_id for event in events_of(oracle) if event.kind is EventKind.EXPIRED]
    assert swept == ["h1", "h2", "h0"]


def test_a_batch_is_judged_in_order_and_a_bad_request_harms_no_neighbour() -> None:
    oracle = opened()
    sequence = len(oracle.entries)
    first, invalid, again, other, limited = oracle.hold_many(
        [
            HoldRequest("ann", {"red": 3}, "a"),
            HoldRequest("ann", {"red": 0}, "b"),
            HoldRequest("ann", [Line("red", 3)], "a", channel="partner"),
            HoldRequest("ann", {"red": 2}, "a"),
            HoldRequest("ann", {"red": 6}, "c"),
        ],
        now_ms=NOW,
    )
    assert isinstance(first, Answer)
    assert first.outcome is O.HELD
    assert isinstance(invalid, InvalidRequest)
    assert "'red'" in invalid.field
    assert isinstance(again, Answer)
    assert again.replayed
    assert isinstance(other, Answer)
    assert other.outcome is O.CONFLICT
    assert isinstance(limited, Answer)
    assert limited.outcome is O.LIMIT_REACHED
    assert len(oracle.entries) == sequence + 1


def test_views_write_nothing_and_show_a_due_hold_as_expired() -> None:
    oracle = opened()
    held(oracle)
    entries, at = oracle.entries, T0 + TTL
    (hold,) = oracle.holds_of("ann", now_ms=at)
    assert hold.state is EXPIRED
    assert oracle.entries == entries


def test_a_snapshot_shows_the_units_of_a_due_hold_as_held_until_a_verb_expires_it() -> None:
    oracle = opened()
    held(oracle)
    at = T0 + TTL
    before = oracle.snapshot(now_ms=at)
    oracle.resume(now_ms=at)
    after = oracle.snapshot(now_ms=at)
    assert before.skus["red"] == SkuView("red", 10, 7, 0, 3, 0, limit=8)
    assert (before.due_at_ms, before.at_ms, before.buyers, before.sequence) == (at, at, 1, 2)
    assert after.skus["red"] == SkuView("red", 10, 10, 0, 0, 0, limit=8)
    assert (after.due_at_ms, after.sequence) == (None, 3)


@pytest.mark.parametrize("verb", ["pause", "resume", "end", "restock", "purge"])
def test_every_verb_on_the_sale_sweeps_on_its_way(verb: str) -> None:
    oracle = opened()
    held(oracle)
    arguments: dict[str, Any] = {}
    if verb == "restock":
        arguments = {"changes": {"blue": 1}, "op_id": "truck"}
    getattr(oracle, verb)(**arguments, now_ms=T0 + TTL)
    assert oracle.snapshot(now_ms=T0 + TTL).skus["red"].held == 0


def test_bulk_calls_name_holds_by_answer_by_hold_or_by_ref() -> None:
    oracle = opened()
    answer = hold_same(oracle)
    hold = oracle.find("ann", "h", now_ms=NOW)
    assert hold is not None
    alien = Answer(O.HELD, "another-sale", "ann", "h")
    sold, again, unknown_, other, nonsense = oracle.confirm_many(
        [answer, hold, Answer(O.HELD, "1111", "bob", "h").ref, alien, "nonsense"], now_ms=NOW
    )
    assert [getattr(item, "outcome", None) for item in (sold, again, unknown_)] == [
        O.CONFIRMED,
        O.CONFIRMED,
        O.UNKNOWN_HOLD,
    ]
    assert isinstance(other, InvalidRequest)
    assert isinstance(nonsense, InvalidRequest)
    (paid,) = oracle.release_many([answer.ref], now_ms=NOW)
    assert isinstance(paid, Answer)
    assert paid.outcome is O.ALREADY_CONFIRMED


def test_a_tombstone_is_a_released_hold_without_lines_and_deadlines() -> None:
    oracle = opened()
    tombstone(oracle)
    (hold,) = oracle.holds_of("ann", now_ms=NOW)
    assert (hold.state, hold.lines, hold.sold) == (RELEASED, {}, {})
    assert (hold.deadline_ms, hold.original_deadline_ms, hold.refunds) == (None, None, {})


def test_a_clock_that_jumps_back_judges_at_the_time_of_the_last_write() -> None:
    oracle = opened()
    oracle.hold("ann", {"red": 1}, hold_id="a", now_ms=NOW)
    earlier = oracle.hold("ann", {"red": 1}, hold_id="b", now_ms=T0 - 5)
    assert (earlier.at_ms, earlier.deadline_ms) == (NOW, NOW + TTL)


def test_check_says_what_is_wrong_when_figures_and_holds_disagree() -> None:
    oracle = opened()
    held(oracle)
    record = oracle._known("ann", "h")
    assert record is not None
    record.state = RELEASED
    with pytest.raises(AssertionError, match=r"'red': 3 units held, but its holds have 0"):
        oracle.check()


def test_check_says_who_is_above_which_limit() -> None:
    oracle = opened()
    oracle.hold("ann", {"red": 8}, hold_id="h", now_ms=T0)
    oracle._books.sale = Sale("1111", skus=[Sku("red", 10, limit=7), Sku("blue", 10)])
    with pytest.raises(AssertionError, match=r"'ann' has 8 units of 'red', above its limit of 7"):
        oracle.check()
    oracle._books.sale = Sale("1111", skus=[Sku("red", 10), Sku("blue", 10)], limit=5)
    with pytest.raises(AssertionError, match=r"'ann' has 8 units, above the sale's limit of 5"):
        oracle.check()


def test_check_says_when_an_allotment_does_not_add_up() -> None:
    oracle = opened()
    oracle._books.units["red"].available -= 1
    with pytest.raises(AssertionError, match=r"'red': allotment 10 is not available 9"):
        oracle.check()
