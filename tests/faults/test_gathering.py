"""Calls made at the same time, on a bad network: none is lost, and none gets another's answer."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from faults.checks import SCRIPTS, books_are_right, kinds_of
from flashsale import (
    Answer,
    ConfigurationError,
    EventKind,
    FlashSale,
    HoldRequest,
    HoldState,
    Outcome,
    OutcomeUnknown,
    Overloaded,
    Sale,
    Sku,
    StoreUnavailable,
)
from flashsale.embedded import EmbeddedServer
from support.crowds import Ask, at_once, crowd, policy_of, until
from support.proxy import FaultProxy
from support.shells import Blocking

CALLERS = 120


@pytest.fixture
def looked_at(operator: FlashSale) -> Any:
    return operator.open(Sale("gathered", [Sku("red", 1_000_000)]))


def holding(n: int, **options: Any) -> Ask:
    """Buyer n holds n + 1 units, so that no answer can be taken for another's."""
    return lambda sale: sale.hold(f"b{n}", {"red": n + 1}, hold_id=f"h{n}", **options)


def releasing(n: int) -> Ask:
    return lambda sale: sale.release(f"b{n}", f"h{n}")


def is_its_own(n: int, answer: Any, looked_at: Any) -> None:
    assert isinstance(answer, Answer), answer
    assert (answer.outcome, answer.buyer, answer.hold_id) == (Outcome.HELD, f"b{n}", f"h{n}")
    hold = looked_at.find(f"b{n}", f"h{n}")
    assert hold.lines == {"red": n + 1}
    assert hold.original_deadline_ms == answer.deadline_ms


def tell_the_truth(results: list[Any], looked_at: Any) -> None:
    """What callers were told agrees with what is there."""
    for n, result in enumerate(results):
        if isinstance(result, (StoreUnavailable, Overloaded)):
            assert looked_at.find(f"b{n}", f"h{n}") is None, (n, result)
        elif not isinstance(result, OutcomeUnknown):
            is_its_own(n, result, looked_at)


# --- everybody gets an answer of his own --------------------------------------------------


def test_calls_made_at_once_share_script_calls_and_each_has_its_own_answer(
    connect: Callable[..., FlashSale], proxy: FaultProxy, looked_at: Any
) -> None:
    sale = connect(proxy.url, timeout_ms=20_000).sale(looked_at.id)
    sale.snapshot()
    proxy.delay(reply_ms=20, only=SCRIPTS)  # so that threads, too, come while one is on its way
    before = proxy.count(*SCRIPTS)
    results = at_once(sale, [holding(n) for n in range(CALLERS)])
    assert proxy.count(*SCRIPTS) - before <= CALLERS / 4
    for n, result in enumerate(results):
        is_its_own(n, result, looked_at)
    assert kinds_of(looked_at) == {EventKind.OPENED: 1, EventKind.HELD: CALLERS}
    books_are_right(looked_at)


@pytest.mark.parametrize("seed", [1, 2])
def test_lost_and_late_replies_cost_no_caller_its_answer(
    seed: int, connect: Callable[..., FlashSale], proxy: FaultProxy, looked_at: Any
) -> None:
    shop = connect(proxy.url, timeout_ms=20_000)
    sale = shop.sale(looked_at.id)
    policy_of(shop).batch_max = 7  # many batches, several on their way
    proxy.delay(reply_ms=4, probability=0.5, seed=seed)
    proxy.drop_replies(probability=0.1, seed=seed, only=SCRIPTS)
    proxy.drop_requests(probability=0.1, seed=seed, only=SCRIPTS, then="reset")
    for n, result in enumerate(at_once(sale, [holding(n) for n in range(CALLERS)])):
        is_its_own(n, result, looked_at)
    assert proxy.faults
    assert kinds_of(looked_at)[EventKind.HELD] == CALLERS
    books_are_right(looked_at)


def test_what_a_buyer_asks_goes_in_its_order_without_waiting_for_answers(
    connect: Callable[..., FlashSale], proxy: FaultProxy, looked_at: Any
) -> None:
    """A release that overtook its hold would leave a tombstone, and the hold would fail."""
    shop = connect(proxy.url, timeout_ms=20_000)
    sale = shop.sale(looked_at.id)
    policy_of(shop).batch_max = 7
    sale.snapshot()
    proxy.delay(reply_ms=30, only=SCRIPTS)
    proxy.drop_replies(probability=0.1, seed=3, only=SCRIPTS)
    buyers = range(40)
    with crowd(sale, [holding(n) for n in buyers]) as holds:
        until(lambda: len(policy_of(shop)._sales["gathered"].last_of) == 40, shop)
        with crowd(sale, [releasing(n) for n in buyers]) as releases:
            assert {answer.outcome for answer in holds()} == {Outcome.HELD}
            assert {answer.outcome for answer in releases()} == {Outcome.RELEASED}
    happened = kinds_of(looked_at)
    assert happened[EventKind.HELD] == happened[EventKind.RELEASED] == 40
    assert happened[EventKind.TOMBSTONE] == 0
    assert {looked_at.find(f"b{n}", f"h{n}").state for n in buyers} == {HoldState.RELEASED}


def test_bulk_calls_and_single_ones_go_beside_each_other(
    connect: Callable[..., FlashSale], proxy: FaultProxy, looked_at: Any
) -> None:
    sale = connect(proxy.url, timeout_ms=20_000).sale(looked_at.id)
    proxy.delay(reply_ms=5, probability=0.5, seed=5)

    def many(first: int) -> Ask:
        requests = [HoldRequest(f"m{n}", {"red": 1}, "h") for n in range(first, first + 300)]
        return lambda sale: sale.hold_many(requests)

    results = at_once(sale, [many(0), *(holding(n) for n in range(40)), many(300)])
    for n, result in enumerate(results[1:-1]):
        is_its_own(n, result, looked_at)
    for first, answers in ((0, results[0]), (300, results[-1])):
        assert [answer.buyer for answer in answers] == [f"m{first + n}" for n in range(300)]
        assert {answer.outcome for answer in answers} == {Outcome.HELD}
    books_are_right(looked_at)


# --- time-outs and failures ---------------------------------------------------------------


def test_callers_with_little_time_leave_and_the_others_get_their_answers(
    connect: Callable[..., FlashSale], proxy: FaultProxy, looked_at: Any
) -> None:
    sale = connect(proxy.url, timeout_ms=20_000).sale(looked_at.id)
    sale.snapshot()
    proxy.delay(reply_ms=700, only=SCRIPTS, times=8)
    results = at_once(sale, [holding(n, timeout_ms=60 if n % 3 else 20_000) for n in range(30)])
    assert {type(results[n]) for n in range(30) if n % 3} <= {OutcomeUnknown, StoreUnavailable}
    for n in range(0, 30, 3):
        is_its_own(n, results[n], looked_at)
    tell_the_truth(results, looked_at)
    for n, result in enumerate(at_once(sale, [holding(n) for n in range(30)])):
        is_its_own(n, result, looked_at)  # the same ids again
    assert kinds_of(looked_at)[EventKind.HELD] == 30


@pytest.mark.parametrize("back_after_s", [0.55, 0.65, 0.75])
def test_whoever_was_told_that_nothing_was_applied_is_not_sent_with_the_others_later(
    back_after_s: float, connect: Callable[..., FlashSale], proxy: FaultProxy, looked_at: Any
) -> None:
    """A batch of callers who came at different times, and a server that comes back between."""
    shop = connect(proxy.url, timeout_ms=500)
    sale = shop.sale(looked_at.id)
    sale.snapshot()
    proxy.refuse_connections()
    proxy.cut()
    back = threading.Timer(back_after_s, proxy.accept_connections)
    back.start()
    with (
        crowd(sale, [holding(0)]) as first,
        crowd(sale, [waiting_first(0.03 * n, holding(n), sale) for n in range(1, 15)]) as later,
    ):
        results = first() + later()
    back.join()
    assert {type(result) for result in results} <= {Answer, StoreUnavailable, OutcomeUnknown}
    tell_the_truth(results, looked_at)


def waiting_first(seconds: float, ask: Ask, sale: Any) -> Ask:
    if not isinstance(sale, Blocking):

        def in_thread(sale: Any) -> Any:
            time.sleep(seconds)
            return ask(sale)

        return in_thread

    async def in_task(sale: Any) -> Any:
        await asyncio.sleep(seconds)
        return await ask(sale)

    return in_task


@pytest.mark.parametrize("applied", [False, True])
def test_a_batchs_failure_is_told_item_by_item(
    applied: bool, connect: Callable[..., FlashSale], proxy: FaultProxy, looked_at: Any
) -> None:
    shop = connect(proxy.url, timeout_ms=400)
    sale = shop.sale(looked_at.id)
    if applied:
        sale.snapshot()
        proxy.drop_replies(only=SCRIPTS)
    else:
        proxy.refuse_connections()
    results = at_once(sale, [holding(n) for n in range(20)])
    kinds = Counter(type(result) for result in results)
    assert kinds.keys() <= ({OutcomeUnknown, StoreUnavailable} if applied else {StoreUnavailable})
    assert not applied or kinds[OutcomeUnknown]
    assert len({id(result) for result in results}) == 20
    assert len({id(result.__traceback__) for result in results}) == 20
    tell_the_truth(results, looked_at)
    proxy.pass_through()
    again = at_once(sale, [holding(n, timeout_ms=20_000) for n in range(20)])
    for n, result in enumerate(again):
        is_its_own(n, result, looked_at)
    assert policy_of(shop).idle


@contextmanager
def frozen(server: EmbeddedServer) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def count_offers(shop: Any) -> Counter[str]:
    """How many operations a client lets in and refuses from now on."""
    counts: Counter[str] = Counter()
    policy = policy_of(shop)
    offer = policy.offer

    def counted(*args: Any, **kwargs: Any) -> Any:
        try:
            pending = offer(*args, **kwargs)
        except Overloaded:
            counts["refused"] += 1
            raise
        counts["let in"] += 1
        return pending

    policy.offer = counted
    return counts


def test_too_many_calls_are_refused_at_once_and_the_client_recovers(
    connect: Callable[..., FlashSale], own_server: EmbeddedServer, looked_at: Any
) -> None:
    shop = connect(own_server.url, timeout_ms=20_000, queue_max=8)
    sale = shop.sale(looked_at.id)
    sale.snapshot()
    counts = count_offers(shop)
    with frozen(own_server), crowd(sale, [holding(n) for n in range(60)]) as results:
        until(lambda: counts.total() == 60, shop)  # nobody waits to be refused
        assert policy_of(shop).waiting <= 8
        assert 4 <= counts["let in"] <= 8
        os.kill(own_server.pid, signal.SIGCONT)
        told = results()
    kinds = Counter(type(result) for result in told)
    assert kinds == {Answer: counts["let in"], Overloaded: counts["refused"]}
    tell_the_truth(told, looked_at)
    for n in range(3):
        (answer,) = at_once(sale, [holding(n)])
        is_its_own(n, answer, looked_at)
    assert policy_of(shop).idle


# --- fairness -----------------------------------------------------------------------------


def test_a_quiet_sales_calls_pass_a_noisy_ones_thousands(
    connect: Callable[..., FlashSale], proxy: FaultProxy, operator: FlashSale, looked_at: Any
) -> None:
    """Counted in batches: those of the noisy sale that arrive between two of the quiet one's."""
    quiet_one = operator.open(Sale("quiet", [Sku("red", 100)]))
    shop = connect(proxy.url, timeout_ms=60_000)
    noisy, quiet = shop.sale(looked_at.id), shop.sale(quiet_one.id)
    noisy.snapshot()
    arrived: list[str] = []

    def note(words: list[bytes]) -> bool:
        if words[0] == b"EVALSHA":
            arrived.append("quiet" if b"{quiet#" in words[3] else "noisy")
        return words[0] == b"EVALSHA"

    proxy.delay(reply_ms=15, only=note)
    callers, batch_max = (4_000, 64) if isinstance(shop, Blocking) else (160, 4)
    policy = policy_of(shop)
    policy.batch_max = batch_max
    with crowd(noisy, [holding(n) for n in range(callers)]) as noise:
        until(lambda: len(policy.flying) == policy.lane_in_flight_max, shop)
        for n in range(3):
            before = len(arrived)
            (answer,) = at_once(quiet, [holding(n)])
            assert answer.outcome is Outcome.HELD
            assert policy.waiting > batch_max, "the noise was over too soon to prove anything"
            assert arrived.index("quiet", before) - before <= 2 * policy.lane_in_flight_max
        assert {type(result) for result in noise()} == {Answer}
    books_are_right(quiet_one)
    books_are_right(looked_at)


# --- closing ------------------------------------------------------------------------------


def closing(shop: Any, **options: Any) -> Any:
    if isinstance(shop, Blocking):
        return shop._run(shop._target.aclose(**options))
    return shop.close(**options)


def test_closing_waits_for_what_was_accepted_and_refuses_the_rest(
    connect: Callable[..., FlashSale], proxy: FaultProxy, looked_at: Any
) -> None:
    shop = connect(proxy.url, timeout_ms=20_000)
    sale = shop.sale(looked_at.id)
    policy_of(shop).batch_max = 8
    sale.snapshot()
    requests = [HoldRequest(f"m{n}", {"red": 1}, "h") for n in range(300)]
    proxy.delay(reply_ms=120, only=SCRIPTS)
    counts = count_offers(shop)
    many: Ask = lambda sale: sale.hold_many(requests)  # noqa: E731
    with crowd(sale, [many, *(holding(n) for n in range(60))]) as results:
        until(lambda: counts.total() == 60, shop)
        closing(shop)
        told = results()
    assert {answer.outcome for answer in told[0]} == {Outcome.HELD}
    for n, result in enumerate(told[1:]):
        is_its_own(n, result, looked_at)
    with pytest.raises(ConfigurationError, match="closed"):
        sale.hold("late", {"red": 1}, hold_id="h")
    until(lambda: proxy.connections == 0)


def test_closing_a_client_of_a_frozen_server_ends_every_call_and_says_what_is_known(
    connect: Callable[..., FlashSale], own_server: EmbeddedServer, looked_at: Any
) -> None:
    shop = connect(own_server.url, timeout_ms=60_000)
    sale = shop.sale(looked_at.id)
    policy_of(shop).batch_max = 8
    sale.snapshot()
    counts = count_offers(shop)
    requests = [HoldRequest(f"m{n}", {"red": 1}, "h") for n in range(300)]
    many: Ask = lambda sale: sale.hold_many(requests)  # noqa: E731
    with frozen(own_server), crowd(sale, [*(holding(n) for n in range(60)), many]) as results:
        until(lambda: counts.total() == 60, shop)
        closing(shop, drain_ms=100)
        *told, bulk = results()  # long before their own time-outs
    assert {type(result) for result in told} <= {StoreUnavailable, OutcomeUnknown}
    assert StoreUnavailable in map(type, told)  # those that were waiting still
    assert OutcomeUnknown in map(type, [*told, *bulk])  # the one connection there was had sent
    assert all("client was closed" in str(result) for result in told)
    assert {type(end) for end in bulk} <= {StoreUnavailable, OutcomeUnknown}
    tell_the_truth(told, looked_at)
    if isinstance(shop, Blocking):
        assert not asyncio.all_tasks(shop._target._loop)
    books_are_right(looked_at)
