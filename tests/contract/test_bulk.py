"""hold_many, confirm_many, release_many: order kept, errors in place, the same as one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flashsale import Answer, HoldRequest, InvalidRequest, SaleHandle
from flashsale.keys import ShardKeys
from support.lab import T0, Lab, describe


def told(answers: list[Answer]) -> list[tuple[object, ...]]:
    """Answers without the sale they are about."""
    return [
        (a.buyer, a.hold_id, a.outcome, a.state, a.deadline_ms, a.replayed, a.may_return)
        for a in answers
    ]


def all_answers(items: Sequence[object]) -> list[Answer]:
    assert all(isinstance(item, Answer) for item in items), items
    return [item for item in items if isinstance(item, Answer)]


def test_a_bulk_larger_than_a_chunk_keeps_its_order(lab: Lab) -> None:
    sale = lab.open({"red": 600, "blue": 600})
    requests = [
        HoldRequest(f"buyer-{n % 500}", {"red": 1} if n % 7 else {"blue": 1}, f"h{n // 500}")
        for n in range(700)
    ]
    requests[300] = HoldRequest("buyer-0", {"blue": 1}, "h0")  # a repetition of the first
    answers = all_answers(sale.hold_many(requests))
    assert [(a.buyer, a.hold_id) for a in answers] == [(r.buyer, r.hold_id) for r in requests]
    assert {answer.outcome.name for answer in answers} == {"HELD"}
    assert [n for n, answer in enumerate(answers) if answer.replayed] == [300]
    view = sale.snapshot()
    assert view.skus["red"].held + view.skus["blue"].held == 699
    assert view.buyers == 499
    assert sale.audit().problems == ()


@pytest.mark.parametrize("stock", [1_000, 1], ids=["all served", "one served"])
def test_the_buyers_are_a_table_from_the_first_hold_on(lab: Lab, stock: int) -> None:
    """A small hash is a list, which a refused crowd of a million would search from end to end."""
    sale = lab.open({"red": stock})
    sale.hold_many([HoldRequest("a", {"red": 1}, "h"), HoldRequest("b", {"red": 1}, "h")])
    keys = ShardKeys.of(sale.id)
    assert lab.raw.object("encoding", keys.buyers) == b"hashtable"
    assert all(b" " not in record for record in lab.raw.hvals(keys.buyers))


def test_a_bulk_of_which_only_the_first_can_have_the_stock_serves_the_first(lab: Lab) -> None:
    sale = lab.open({"red": 300})
    requests = [HoldRequest(f"buyer-{n}", {"red": 1}, "h") for n in range(700)]
    got = [a.outcome.name for a in all_answers(sale.hold_many(requests))]
    assert got == ["HELD"] * 300 + ["SOLD_OUT"] * 400


def test_what_is_wrong_with_one_request_is_told_in_its_place_and_harms_no_other(lab: Lab) -> None:
    sale = lab.open()
    requests: list[object] = [
        HoldRequest("ann", {"red": 1}, "h"),
        HoldRequest("a b", {"red": 1}, "h"),
        HoldRequest("bob", {"red": 0}, "h"),
        HoldRequest("cyd", {"green": 1}, "h"),
        "not a request",
        HoldRequest("dan", {}, "h"),
        HoldRequest("eve", {"red": 1}, "h"),
    ]
    answers = sale.hold_many(requests)  # type: ignore[arg-type]
    got = [a.outcome.name if isinstance(a, Answer) else type(a).__name__ for a in answers]
    assert got == [
        "HELD",
        "InvalidRequest",
        "InvalidRequest",
        "SKU_UNKNOWN",
        "InvalidRequest",
        "InvalidRequest",
        "HELD",
    ]
    fields = [a.field for a in answers if isinstance(a, InvalidRequest)]
    assert fields == ["buyer", "qty of 'red' in basket", "requests", "basket"]
    assert sale.snapshot().skus["red"].held == 2


def test_an_empty_bulk_is_answered_by_an_empty_list_without_a_call(lab: Lab) -> None:
    sale = lab.shop.sale(lab.new_id())
    assert sale.hold_many([]) == sale.confirm_many([]) == sale.release_many([]) == []


def test_many_holds_are_confirmed_and_released_by_answer_hold_or_ref(lab: Lab) -> None:
    sale = lab.open({"red": 700})
    requests = [HoldRequest(f"buyer-{n}", {"red": 1}, "h") for n in range(600)]
    answers = all_answers(sale.hold_many(requests))
    hold = sale.find("buyer-1", "h")
    assert hold is not None
    mixed: list[object] = [answers[0], hold, answers[2].ref, "not a ref", *answers[3:300]]
    confirmed = sale.confirm_many(mixed)  # type: ignore[arg-type]
    assert isinstance(confirmed[3], InvalidRequest)
    assert confirmed[3].field == "ref"
    rest = all_answers(confirmed[:3] + confirmed[4:])
    assert [a.outcome.name for a in rest] == ["CONFIRMED"] * 300
    released = all_answers([*sale.release_many(answers)])
    assert [a.outcome.name for a in released] == ["ALREADY_CONFIRMED"] * 300 + ["RELEASED"] * 300
    view = sale.snapshot().skus["red"]
    assert (view.available, view.held, view.sold) == (400, 0, 300)
    assert sale.audit().problems == ()


@pytest.mark.parametrize("verb", ["confirm_many", "release_many"])
def test_a_hold_named_twice_in_one_bulk_is_replayed_the_second_time(lab: Lab, verb: str) -> None:
    sale = lab.open()
    answer = sale.hold("ann", {"red": 1}, hold_id="h")
    first, second = all_answers(getattr(sale, verb)([answer, answer]))
    assert first.outcome is second.outcome
    assert (first.replayed, second.replayed) == (False, True)
    assert sale.audit().ok


# --- together or one by one ---------------------------------------------------------------

BUYERS = st.sampled_from([f"b{n}" for n in range(6)])
BASKETS = st.sampled_from(
    [{"red": 1}, {"red": 1}, {"red": 2}, {"blue": 1}, {"red": 1, "blue": 2}, {"green": 1}]
)
REQUESTS = st.builds(
    HoldRequest,
    BUYERS,
    BASKETS,
    st.sampled_from(["h1", "h2", "h3"]),
    st.sampled_from(["", "app"]),
    st.sampled_from(["", "note"]),
)
# Whole batches of one basket and distinct buyers have a path of their own in the script.
FRESH = st.lists(BUYERS, min_size=1, max_size=6, unique=True).flatmap(
    lambda buyers: BASKETS.map(lambda basket: [HoldRequest(b, basket, "h1") for b in buyers])
)
RULES = st.fixed_dictionaries(
    {
        "stock": st.fixed_dictionaries({"red": st.integers(0, 8), "blue": st.integers(0, 8)}),
        "limit": st.none() | st.integers(1, 4),
        "limits": st.sampled_from([{}, {"red": 2}, {"blue": 1}]),
        "holds_max": st.integers(1, 3),
        "buyers_max": st.integers(1, 6),
    }
)
TIMES = st.lists(st.sampled_from([0, 400, 1_000]), min_size=3, max_size=3)


def one_by_one(sale: SaleHandle, requests: list[HoldRequest]) -> list[Answer]:
    return [
        sale.hold(r.buyer, r.basket, hold_id=r.hold_id, channel=r.channel, note=r.note)
        for r in requests
    ]


def all_at_once(sale: SaleHandle, requests: list[HoldRequest]) -> list[Answer]:
    return all_answers(sale.hold_many(requests))


def bulk(verb: str) -> Callable[[SaleHandle, list[HoldRequest]], list[Answer]]:
    def call(sale: SaleHandle, requests: list[HoldRequest]) -> list[Answer]:
        refs = [reference(sale, r) for r in requests]
        return all_answers(getattr(sale, verb)(refs))

    return call


def single(verb: str) -> Callable[[SaleHandle, list[HoldRequest]], list[Answer]]:
    def call(sale: SaleHandle, requests: list[HoldRequest]) -> list[Answer]:
        return [getattr(sale, verb)(r.buyer, r.hold_id) for r in requests]

    return call


def reference(sale: SaleHandle, request: HoldRequest) -> str:
    return f"{sale.id}__{request.buyer}__{request.hold_id}"


def whole_story(lab: Lab, sale: SaleHandle) -> tuple[object, ...]:
    """All that is known of a sale, but for how its events were put into entries."""
    view = sale.snapshot()
    holds = {
        buyer: [(h.hold_id, h.state, h.lines, h.sold, h.deadline_ms) for h in sale.holds_of(buyer)]
        for buyer in (f"b{n}" for n in range(6))
    }
    events = sorted(
        (event.buyer, event.hold_id, describe(event), event.channel, event.note, entry.at_ms)
        for entry in sale.ledger.read(after=1, count=1_000).entries
        for event in entry.events
    )
    assert sale.audit().problems == ()
    return view.skus, view.buyers, holds, events


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    rules=RULES,
    before=FRESH | st.lists(REQUESTS, max_size=4),
    batch=FRESH | st.lists(REQUESTS, min_size=1, max_size=12),
    settled=FRESH | st.lists(REQUESTS, min_size=1, max_size=6),
    verb=st.sampled_from(["confirm", "release"]),
    times=TIMES,
)
def test_a_batch_has_the_results_of_its_operations_one_by_one(
    lab: Lab,
    rules: dict[str, object],
    before: list[HoldRequest],
    batch: list[HoldRequest],
    settled: list[HoldRequest],
    verb: str,
    times: list[int],
) -> None:
    together, alone = lab.open(**rules), lab.open(**rules)  # type: ignore[arg-type]
    steps = [
        (all_at_once, one_by_one, before),
        (all_at_once, one_by_one, batch),
        (bulk(f"{verb}_many"), single(verb), settled),
    ]
    now = T0
    for (at_once, one_after_other, requests), step_ms in zip(steps, times, strict=True):
        now += step_ms
        for sale in (together, alone):
            lab.set_time(sale, now)
        assert told(at_once(together, requests)) == told(one_after_other(alone, requests))
    assert whole_story(lab, together) == whole_story(lab, alone)
