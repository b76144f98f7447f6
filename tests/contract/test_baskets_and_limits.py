"""Multi-quantity baskets, all or nothing, and what one buyer may have."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from flashsale import Answer, HoldRequest, InvalidRequest, Line, Outcome, SaleHandle
from support.lab import T0, Lab
from support.shells import connect


def outcomes(answers: list[object]) -> list[str]:
    return [answer.outcome.name for answer in answers if isinstance(answer, Answer)]


# --- baskets ------------------------------------------------------------------------------


def test_a_hold_takes_every_unit_of_every_line_at_once(lab: Lab) -> None:
    sale = lab.open({"red": 10, "blue": 10, "green": 10})
    with lab.watch(sale) as seen:
        sale.hold("ann", {"green": 10, "red": 7}, hold_id="h").unwrap()
    assert seen.effect == "red a-7 h+7; green a-10 h+10"
    assert seen.events == ["held red*7 green*10"]
    hold = sale.find("ann", "h")
    assert hold is not None
    assert (hold.lines, hold.sold, hold.refunds) == ({"red": 7, "green": 10}, {}, {})


@pytest.mark.parametrize("missing", [{"blue": 2}, {"green": 1}], ids=["too_many", "unknown_sku"])
def test_a_basket_of_which_one_line_cannot_be_had_takes_nothing(
    lab: Lab, missing: dict[str, int]
) -> None:
    sale = lab.open({"red": 10, "blue": 1})
    before = lab.dump(sale)
    answer = sale.hold("ann", {"red": 1} | missing, hold_id="h")
    assert answer.outcome is (Outcome.SKU_UNKNOWN if "green" in missing else Outcome.SOLD_OUT)
    assert lab.dump(sale) == before


def test_a_sku_named_twice_is_refused_and_not_counted_twice(lab: Lab) -> None:
    sale = lab.open()
    before = lab.dump(sale)
    with pytest.raises(InvalidRequest, match="names the sku 'red' twice"):
        sale.hold("ann", [Line("red", 1), Line("blue", 1), Line("red", 1)], hold_id="h")
    assert lab.dump(sale) == before


def test_the_largest_basket_has_32_lines_of_a_million_units(lab: Lab) -> None:
    skus = [f"sku-{n}" for n in range(33)]
    sale = lab.open(dict.fromkeys(skus, 10**12))
    basket = dict.fromkeys(skus[:32], 10**6)
    with pytest.raises(InvalidRequest, match="1 to 32 lines, not 33"):
        sale.hold("ann", dict.fromkeys(skus, 1), hold_id="h")
    sale.hold("ann", basket, hold_id="h").unwrap()
    view = sale.snapshot().skus
    assert all(view[sku].held == 10**6 for sku in basket)
    sale.confirm("ann", "h").unwrap()
    sale.refund("ann", "h", lines=basket, op_id="r").unwrap()
    assert sale.audit().ok


def test_counters_are_exact_up_to_the_largest_stock(lab: Lab) -> None:
    sale = lab.open({"red": 10**12, "blue": 10**12 - 1})
    sale.hold("ann", {"red": 999_999, "blue": 1}, hold_id="h").unwrap()
    sale.confirm("ann", "h").unwrap()
    view = sale.snapshot().skus
    assert (view["red"].available, view["red"].sold) == (10**12 - 999_999, 999_999)
    assert view["blue"].available == 10**12 - 2
    assert sale.audit().ok


def test_the_last_units_are_sold_and_not_one_more(lab: Lab) -> None:
    sale = lab.open({"red": 5})
    assert sale.hold("ann", {"red": 4}, hold_id="h").outcome is Outcome.HELD
    assert sale.hold("bob", {"red": 2}, hold_id="h").outcome is Outcome.SOLD_OUT
    assert sale.hold("bob", {"red": 1}, hold_id="h").outcome is Outcome.HELD
    assert sale.hold("cyd", {"red": 1}, hold_id="h").outcome is Outcome.SOLD_OUT


def test_sold_out_may_return_while_unpaid_holds_would_be_enough(lab: Lab) -> None:
    sale = lab.open({"red": 3, "blue": 3})
    sale.hold("ann", {"red": 3, "blue": 2}, hold_id="h").unwrap()

    def may_return(basket: dict[str, int]) -> bool:
        answer = sale.hold("bob", basket, hold_id="h")
        assert answer.outcome is Outcome.SOLD_OUT
        assert (answer.state, answer.deadline_ms) == (None, None)
        return answer.may_return

    assert may_return({"red": 3})
    assert may_return({"red": 3, "blue": 3})
    assert not may_return({"red": 4})
    assert not may_return({"red": 1, "blue": 4})
    sale.confirm("ann", "h", lines={"red": 2}).unwrap()
    assert not may_return({"red": 2})
    sale.hold("cyd", {"red": 1}, hold_id="h").unwrap()
    assert may_return({"red": 1})
    sale.confirm("cyd", "h").unwrap()
    assert not may_return({"red": 1})


@pytest.mark.parametrize("basket", [{"red": 2}, {"red": 2, "blue": 1}], ids=str)
def test_units_set_aside_are_not_sold_and_may_return(lab: Lab, basket: dict[str, int]) -> None:
    sale = lab.open({"red": 3, "blue": 3})
    lab.raw.hset(lab.keys(sale).stock, mapping={"0a": 1, "0x": 2})  # as if kept for a draw
    many = [HoldRequest(f"buyer-{n}", basket, "h") for n in range(3)]
    for answer in (*sale.hold_many(many), sale.hold("ann", basket, hold_id="h")):
        assert isinstance(answer, Answer)
        assert (answer.outcome, answer.may_return) == (Outcome.SOLD_OUT, True)
    view = sale.snapshot().skus["red"]
    assert (view.available, view.set_aside, view.held) == (1, 2, 0)


def test_threads_that_share_a_client_sell_every_unit_once(lab: Lab, server_url: str) -> None:
    sale = lab.open({"red": 50})
    with connect("sync", server_url) as shared, ThreadPoolExecutor(8) as threads:
        other = shared.sale(sale.id)

        def buy(n: int) -> str:
            return other.hold(f"buyer-{n}", {"red": 1}, hold_id="h").outcome.name

        got = list(threads.map(buy, range(200)))
    assert (got.count("HELD"), got.count("SOLD_OUT")) == (50, 150)
    assert sale.audit().ok


# --- limits -------------------------------------------------------------------------------

# How two units that reached a limit of two come back, and how many the buyer may then have.
WAYS_BACK: dict[str, tuple[Callable[[Lab, SaleHandle], object], int]] = {
    "release": (lambda lab, s: s.release("ann", "h"), 2),
    "expiry": (lambda lab, s: lab.set_time(s, T0 + 1_000), 2),
    "refund": (
        lambda lab, s: (s.confirm("ann", "h"), s.refund("ann", "h", lines={"red": 1}, op_id="r")),
        1,
    ),
    "whole refund": (
        lambda lab, s: (s.confirm("ann", "h"), s.refund("ann", "h", lines={"red": 2}, op_id="r")),
        2,
    ),
    "part confirm": (lambda lab, s: s.confirm("ann", "h", lines={"red": 1}), 1),
    "nothing": (lambda lab, s: None, 0),
    "confirm": (lambda lab, s: s.confirm("ann", "h"), 0),
    "refusal": (lambda lab, s: s.hold("ann", {"red": 1}, hold_id="x"), 0),
}


@pytest.mark.parametrize("rule", [{"limits": {"red": 2}}, {"limit": 2}], ids=["sku", "sale"])
@pytest.mark.parametrize("way", WAYS_BACK)
def test_a_limit_counts_held_plus_sold_and_is_given_back_with_the_units(
    lab: Lab, rule: dict[str, object], way: str
) -> None:
    sale = lab.open(**rule)  # type: ignore[arg-type]
    sale.hold("ann", {"red": 2}, hold_id="h").unwrap()
    assert sale.hold("ann", {"red": 1}, hold_id="h2").outcome is Outcome.LIMIT_REACHED
    do, again = WAYS_BACK[way]
    do(lab, sale)
    answer = sale.hold("ann", {"red": again + 1}, hold_id="h3")
    assert answer.outcome is Outcome.LIMIT_REACHED
    if again:
        assert sale.hold("ann", {"red": again}, hold_id="h4").outcome is Outcome.HELD
    assert sale.hold("bob", {"red": 2}, hold_id="h").outcome is Outcome.HELD
    assert sale.audit().ok


def test_the_limit_of_a_sku_is_for_that_sku_and_the_sales_for_all_together(lab: Lab) -> None:
    sale = lab.open(limits={"red": 2}, limit=4)
    assert sale.hold("ann", {"red": 3}, hold_id="1").outcome is Outcome.LIMIT_REACHED
    assert sale.hold("ann", {"blue": 5}, hold_id="2").outcome is Outcome.LIMIT_REACHED
    assert sale.hold("ann", {"red": 2, "blue": 3}, hold_id="3").outcome is Outcome.LIMIT_REACHED
    assert sale.hold("ann", {"red": 2, "blue": 1}, hold_id="4").outcome is Outcome.HELD
    assert sale.hold("ann", {"red": 1}, hold_id="5").outcome is Outcome.LIMIT_REACHED
    assert sale.hold("ann", {"blue": 1}, hold_id="6").outcome is Outcome.HELD
    assert sale.hold("ann", {"blue": 1}, hold_id="7").outcome is Outcome.LIMIT_REACHED


def test_a_limit_is_kept_inside_one_batch(lab: Lab) -> None:
    sale = lab.open(limits={"red": 2})
    requests = [HoldRequest("ann", {"red": 1}, f"h{n}") for n in range(4)]
    requests.insert(2, HoldRequest("bob", {"red": 2}, "h"))
    answers = sale.hold_many(requests)
    assert outcomes([*answers]) == ["HELD", "HELD", "HELD", "LIMIT_REACHED", "LIMIT_REACHED"]


def test_what_was_sold_in_part_counts_in_part_for_the_limit_of_the_sale(lab: Lab) -> None:
    sale = lab.open(limit=4)
    sale.hold("ann", {"red": 2, "blue": 2}, hold_id="h").unwrap()
    sale.confirm("ann", "h", lines={"red": 1, "blue": 1}).unwrap()
    assert sale.hold("ann", {"blue": 3}, hold_id="h2").outcome is Outcome.LIMIT_REACHED
    assert sale.hold("ann", {"blue": 2}, hold_id="h3").outcome is Outcome.HELD


# --- bounds of a record and of a shard ----------------------------------------------------


def test_the_ids_of_a_buyer_are_bounded_and_never_become_free(lab: Lab) -> None:
    sale = lab.open(holds_max=3)
    sale.hold("ann", {"red": 1}, hold_id="1").unwrap()
    sale.release("ann", "1").unwrap()
    sale.release("ann", "buried").unwrap()
    assert sale.hold("ann", {"red": 1}, hold_id="2").outcome is Outcome.HELD
    assert sale.hold("ann", {"red": 1}, hold_id="3").outcome is Outcome.TOO_MANY_HOLDS
    lab.set_time(sale, T0 + 5_000)
    sale.expire()
    assert sale.hold("ann", {"red": 1}, hold_id="3").outcome is Outcome.TOO_MANY_HOLDS
    assert sale.hold("ann", {"red": 1}, hold_id="2").replayed


def test_a_loop_that_holds_and_abandons_comes_to_an_end(lab: Lab) -> None:
    sale = lab.open({"red": 1}, holds_max=16)
    got = []
    for n in range(20):
        got.append(sale.hold("ann", {"red": 1}, hold_id=f"h{n}").outcome.name)
        sale.release("ann", f"h{n}")
    assert got == ["HELD"] * 16 + ["TOO_MANY_HOLDS"] * 4
    assert sale.hold("bob", {"red": 1}, hold_id="h").outcome is Outcome.HELD


def test_a_full_shard_takes_no_new_buyer_and_serves_those_it_knows(lab: Lab) -> None:
    sale = lab.open(buyers_max=2)
    requests = [HoldRequest(buyer, {"red": 1}, "h") for buyer in ("ann", "bob", "cyd", "ann")]
    answers = sale.hold_many(requests)
    assert outcomes([*answers]) == ["HELD", "HELD", "SHARD_FULL", "HELD"]
    assert sale.hold("cyd", {"red": 1}, hold_id="h").outcome is Outcome.SHARD_FULL
    assert sale.hold("ann", {"red": 1}, hold_id="h2").outcome is Outcome.HELD
    assert sale.snapshot().buyers == 2


def test_a_release_with_nowhere_to_put_its_tombstone_is_answered_and_writes_nothing(
    lab: Lab,
) -> None:
    sale = lab.open(buyers_max=1, holds_max=1)
    sale.release("ann", "h").unwrap()
    before = lab.dump(sale)
    assert sale.release("ann", "h2").outcome is Outcome.RELEASED
    assert sale.release("bob", "h").outcome is Outcome.RELEASED
    assert lab.dump(sale) == before
    assert sale.hold("ann", {"red": 1}, hold_id="h2").outcome is Outcome.TOO_MANY_HOLDS
    assert sale.hold("bob", {"red": 1}, hold_id="h").outcome is Outcome.SHARD_FULL
