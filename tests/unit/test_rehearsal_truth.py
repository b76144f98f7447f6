from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashsale import HoldState, Outcome, OutcomeUnknown, Sale, Sku
from flashsale.rehearsal.claims import FOREVER, Claim, oversold
from flashsale.rehearsal.facts import Verb
from support.surges import TTL_MS, HandMade


def run_of_everything() -> HandMade:
    """Paid, given up, abandoned, still held, replayed, refused: all as it should be."""
    run = HandMade({"red": 10, "blue": 3}, limits={"red": 2})
    run.pay(run.hold("payer", red=2, blue=1))
    run.give_up(run.hold("canceller", blue=2))
    gone = run.hold("abandoner", -900)
    run.keep(gone, HoldState.EXPIRED, -900 + TTL_MS)
    run.hold("waiter", 400)
    twice = run.hold("retrier", 10)
    run.answer(twice, run.held(twice, 10, replayed=True))
    late = run.order("late", "o", {"blue": 3})
    run.answer(late, run.told(late, Outcome.SOLD_OUT, 200))
    return run


def test_a_right_run_is_found_right() -> None:
    truth = run_of_everything().truth()
    assert truth.ok
    assert truth.problems == ()
    assert (truth.checked, truth.replayed, truth.resent) == (5, 1, 1)


def test_an_acknowledged_hold_that_the_server_does_not_know_is_lost() -> None:
    run = run_of_everything()
    del run.records["waiter"]
    truth = run.truth()
    assert (truth.lost, truth.ok) == (1, False)
    assert "hold 'o' of buyer 'waiter' is lost" in truth.problems[0]


@pytest.mark.parametrize("state", [HoldState.HELD, HoldState.RELEASED, HoldState.EXPIRED])
def test_a_payment_that_the_server_forgot_is_lost(state: HoldState) -> None:
    run = run_of_everything()
    run.keep(0, state, TTL_MS)
    truth = run.truth()
    assert truth.lost == 1
    assert f"is {state.value} on the server, acknowledged confirmed" in truth.problems[0]


def test_a_payment_of_which_only_a_part_was_sold_is_lost() -> None:
    run = run_of_everything()
    run.keep(0, HoldState.CONFIRMED, TTL_MS, sold={"red": 2})
    assert run.truth().lost == 1


def test_a_hold_taken_away_before_its_deadline_is_lost() -> None:
    run = run_of_everything()
    run.keep(3, HoldState.EXPIRED, 400 + TTL_MS)
    assert run.truth().lost == 1


def test_a_hold_that_fell_due_while_the_server_was_read_is_not_lost() -> None:
    run = HandMade({"red": 1})
    order = run.hold("b")
    server = run.server
    run.keep(order, HoldState.EXPIRED, TTL_MS)
    run.counters["red"] = {"held": 1, "available": 0}
    run.read_after_ms = TTL_MS
    assert server.snapshot.skus == run.server.snapshot.skus
    assert run.truth().ok


def test_other_lines_than_were_acknowledged_are_a_problem() -> None:
    run = run_of_everything()
    run.keep(3, HoldState.HELD, 400 + TTL_MS, lines={"red": 2})
    run.counters["red"] = {"held": 2, "available": 6}
    assert any("has other lines" in problem for problem in run.truth().problems)


def test_units_given_up_and_still_held_are_a_problem_but_not_a_lost_order() -> None:
    run = run_of_everything()
    run.keep(1, HoldState.HELD, TTL_MS)
    truth = run.truth()
    assert (truth.ok, truth.lost) == (False, 0)


def test_a_hold_that_nobody_was_told_of_is_a_problem() -> None:
    run = run_of_everything()
    order = run.order("ghost", "o", {"red": 1})
    run.keep(order, HoldState.HELD, TTL_MS)
    problems = run.truth().problems
    assert any("buyer 'ghost'" in text and "never acknowledged" in text for text in problems)


def test_a_hold_whose_answer_was_lost_may_be_on_the_server_or_not() -> None:
    run = run_of_everything()
    order = run.order("unsure", "o", {"red": 1})
    run.answer(order, OutcomeUnknown("lost"))
    assert run.truth().ok
    run.keep(order, HoldState.HELD, TTL_MS)
    assert run.truth().ok


def test_a_payment_whose_answer_was_lost_may_have_happened_or_not() -> None:
    run = run_of_everything()
    order = run.hold("payer-2")
    run.step(order, Verb.CONFIRM, OutcomeUnknown("lost"), 100)
    assert run.truth().ok
    run.keep(order, HoldState.CONFIRMED, TTL_MS)
    assert run.truth().ok
    del run.records["payer-2"]
    assert run.truth().lost == 1


def test_one_id_taken_twice_is_a_problem() -> None:
    run = run_of_everything()
    run.answer(4, run.held(4, 10))
    assert "hold 'o' of buyer 'retrier' was taken 2 times" in run.truth().problems


def test_a_replay_with_another_deadline_is_a_problem() -> None:
    run = run_of_everything()
    run.answer(4, run.held(4, 90, replayed=True))
    assert "hold 'o' of buyer 'retrier' was answered with two deadlines" in run.truth().problems


def test_an_id_that_was_held_must_not_be_refused_later() -> None:
    run = run_of_everything()
    run.answer(4, run.told(4, Outcome.SOLD_OUT, 200))
    (problem,) = run.truth().problems
    assert problem == "hold 'o' of buyer 'retrier' was answered sold_out after it was held"


def test_an_id_that_was_refused_may_be_held_later() -> None:
    run = run_of_everything()
    run.answer(4, run.told(4, Outcome.SOLD_OUT, 5))
    assert run.truth().ok


@pytest.mark.parametrize(
    ("verb", "outcome"),
    [
        (Verb.CONFIRM, Outcome.UNKNOWN_HOLD),
        (Verb.CONFIRM, Outcome.RELEASED),
        (Verb.RELEASE, Outcome.ALREADY_CONFIRMED),
        (Verb.EXTEND, Outcome.UNKNOWN_HOLD),
    ],
)
def test_an_answer_that_does_not_fit_a_held_order_is_a_problem(
    verb: Verb, outcome: Outcome
) -> None:
    run = run_of_everything()
    run.step(3, verb, outcome, 450)
    assert any(f"{verb.value} was answered {outcome.value}" in p for p in run.truth().problems)


def test_calling_a_hold_expired_before_its_deadline_is_a_problem() -> None:
    run = run_of_everything()
    run.step(3, Verb.CONFIRM, Outcome.EXPIRED, 450)
    assert any("called expired before its deadline" in p for p in run.truth().problems)


def test_confirming_after_the_deadline_is_a_problem_unless_retaking_was_asked_for() -> None:
    for late, ok in (("refuse", False), ("retake", True)):
        run = HandMade({"red": 1}, late=late)
        run.now_ms = 3_000
        run.pay(run.hold("b"), at_ms=TTL_MS)
        assert run.truth().ok is ok


def test_an_extended_hold_lives_until_its_new_deadline() -> None:
    run = HandMade({"red": 1})
    order = run.hold("b")
    run.step(order, Verb.EXTEND, Outcome.EXTENDED, 100, deadline_ms=1_763_900_005_000)
    run.now_ms = 2_000
    assert run.truth().ok
    run.keep(order, HoldState.EXPIRED, TTL_MS)
    assert run.truth().lost == 1


def test_buyers_beyond_a_limit_are_found() -> None:
    run = run_of_everything()
    run.hold("payer", hold_id="o2", red=1)
    assert "buyer 'payer' has 3 of 'red', the limit is 2" in run.truth().problems
    run = HandMade({"red": 5, "blue": 5}, limit=2)
    run.hold("b", red=1, blue=2)
    assert run.truth().problems == ("buyer 'b' has 3 units, the limit is 2",)


def test_units_beyond_the_allotment_are_oversold() -> None:
    run = HandMade({"red": 2, "blue": 1})
    for buyer in ("a", "b", "c"):
        run.hold(buyer, red=1)
    run.counters["red"] = {"available": 0, "held": 2}  # the server hides it
    truth = run.truth()
    assert (truth.oversold, truth.conservation_ok) == (1, False)
    assert "sku 'red': 1 units oversold" in truth.problems


def test_units_beyond_the_allotment_for_a_moment_only_are_oversold() -> None:
    run = HandMade({"red": 1})
    first = run.hold("a", 0)
    run.give_up(first, 300)
    run.give_up(run.hold("b", 200), 400)
    assert run.truth().oversold == 1


def test_units_that_came_back_may_be_sold_again() -> None:
    run = HandMade({"red": 1})
    run.give_up(run.hold("a", 0), 300)
    run.give_up(run.hold("b", 300), 300)
    gone = run.hold("c", -TTL_MS)
    run.keep(gone, HoldState.EXPIRED, 0)
    run.hold("d", 300)
    assert run.truth().ok


@pytest.mark.parametrize(
    "counters",
    [
        {"available": 7},
        {"available": -1, "held": 9},
        {"allotment": 11, "available": 6},
        {"held": 3, "sold": 1},
    ],
)
def test_counters_that_do_not_add_up_break_conservation(counters: dict[str, int]) -> None:
    run = run_of_everything()
    run.counters["red"] = counters
    truth = run.truth()
    assert not truth.conservation_ok
    assert not truth.ok


def test_what_the_audit_finds_breaks_conservation() -> None:
    run = run_of_everything()
    run.audit_problems = ("ledger: entries 3 to 4 are missing",)
    truth = run.truth()
    assert not truth.conservation_ok
    assert truth.problems == ("audit: ledger: entries 3 to 4 are missing",)


def test_many_problems_are_counted_and_some_are_listed() -> None:
    run = HandMade({"red": 100})
    for number in range(50):
        run.hold(f"b{number}", server=False)
    truth = run.truth()
    assert truth.lost == 50
    assert truth.problem_count == 51  # and the sums
    assert len(truth.problems) == 20


spans = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 3))


@given(st.lists(spans, max_size=12), st.integers(0, 6))
def test_oversold_is_the_highest_overlap_beyond_the_stock(
    drawn: list[tuple[int, int, int]], stock: int
) -> None:
    claims = [
        Claim(
            order=number,
            buyer="b",
            hold_id="o",
            lines={"red": qty},
            state=HoldState.HELD,
            deadline_ms=0,
            out=[(begin, FOREVER if end == 12 else end)],
        )
        for number, (begin, end, qty) in enumerate(drawn)
    ]
    random.Random(len(drawn)).shuffle(claims)
    most = max(
        sum(c.lines["red"] for c in claims if c.out[0][0] <= at < c.out[0][1]) for at in range(14)
    )
    found = oversold(claims, Sale("s", [Sku("red", stock)]))
    assert found == ({"red": most - stock} if most > stock else {})
