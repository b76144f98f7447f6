"""Slow, cut and half-closed connections, a frozen server: never a hang, never a second order."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Literal

import pytest
import redis

from faults.checks import MARGIN_S, SCRIPTS, books_are_right, kinds_of
from flashsale import (
    Answer,
    EventKind,
    FlashSale,
    HoldRequest,
    Outcome,
    OutcomeUnknown,
    Sale,
    Sku,
    StoreError,
)
from flashsale.embedded import EmbeddedServer
from support.proxy import FaultProxy

SALE = Sale("slow", [Sku("red", 1_000)])


@pytest.fixture
def looked_at(operator: FlashSale) -> Any:
    return operator.open(SALE)


@pytest.fixture
def sale(connect: Callable[..., FlashSale], proxy: FaultProxy, looked_at: Any) -> Any:
    """The sale as seen through the proxy, by a client that has been used already."""
    sale = connect(proxy.url, timeout_ms=1_500).sale(looked_at.id)
    sale.hold("first", {"red": 1}, hold_id="h").unwrap()
    return sale


@contextmanager
def frozen(server: EmbeddedServer) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def assert_held_once(sale: Any, buyer: str, answer: Answer) -> None:
    assert answer.outcome is Outcome.HELD
    hold = sale.find(buyer, "h")
    assert hold is not None
    assert answer.deadline_ms == hold.original_deadline_ms
    books_are_right(sale)


def test_a_slow_network_only_takes_longer(sale: Any, proxy: FaultProxy, looked_at: Any) -> None:
    proxy.delay(request_ms=60, reply_ms=60)
    begun = time.monotonic()
    answer = sale.hold("ann", {"red": 1}, hold_id="h", timeout_ms=30_000)
    assert time.monotonic() - begun > 0.1
    assert not answer.replayed
    assert_held_once(looked_at, "ann", answer)


def test_replies_slower_than_the_patience_end_in_an_unknown_outcome_in_time(
    sale: Any, proxy: FaultProxy, looked_at: Any
) -> None:
    proxy.delay(reply_ms=3_000)
    begun = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        sale.hold("ann", {"red": 1}, hold_id="h", timeout_ms=300)
    assert time.monotonic() - begun < 0.3 + MARGIN_S
    proxy.pass_through()
    answer = sale.hold("ann", {"red": 1}, hold_id="h", timeout_ms=20_000)
    assert answer.replayed
    assert_held_once(looked_at, "ann", answer)
    assert kinds_of(looked_at)[EventKind.HELD] == 2


def test_a_late_reply_is_never_taken_for_the_next_calls(sale: Any, proxy: FaultProxy) -> None:
    proxy.delay(reply_ms=400, only=SCRIPTS)
    with pytest.raises(OutcomeUnknown):
        sale.hold("ann", {"red": 3}, hold_id="h", timeout_ms=90)
    proxy.pass_through()
    hold = sale.find("first", "h", timeout_ms=20_000)
    assert (hold.buyer, hold.lines) == ("first", {"red": 1})
    time.sleep(0.4)
    assert sale.holds_of("nobody", timeout_ms=20_000) == []


@pytest.mark.parametrize("towards", ["client", "server"])
def test_a_half_closed_connection_is_replaced(
    towards: Literal["client", "server"], sale: Any, proxy: FaultProxy, looked_at: Any
) -> None:
    proxy.half_close(towards)
    answer = sale.hold("ann", {"red": 1}, hold_id="h", timeout_ms=6_000)
    assert_held_once(looked_at, "ann", answer)


@pytest.mark.parametrize("then", ["close", "reset"])
def test_connections_cut_while_calls_are_under_way_cost_no_answer(
    then: Literal["close", "reset"], sale: Any, proxy: FaultProxy, looked_at: Any
) -> None:
    done = threading.Event()

    def cut_again_and_again() -> None:
        while not done.wait(0.02):
            proxy.cut(then)

    proxy.delay(reply_ms=4)  # so that most cuts fall between request and reply
    cutter = threading.Thread(target=cut_again_and_again)
    cutter.start()
    try:
        answers = [
            sale.hold(f"buyer-{n}", {"red": 1}, hold_id="h", timeout_ms=20_000) for n in range(40)
        ]
    finally:
        done.set()
        cutter.join()
    assert {answer.outcome for answer in answers} == {Outcome.HELD}
    assert kinds_of(looked_at)[EventKind.HELD] == 41
    assert books_are_right(looked_at).skus["red"].held == 41


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_reply_torn_in_the_middle_is_asked_for_again(
    ending: Any, sale: Any, proxy: FaultProxy, looked_at: Any
) -> None:
    proxy.drop_replies(times=1, after_bytes=7, then=ending)
    answer = sale.hold("ann", {"red": 1}, hold_id="h", timeout_ms=20_000)
    assert answer.replayed
    assert_held_once(looked_at, "ann", answer)


def test_a_frozen_server_costs_no_more_than_the_time_out_and_the_same_client_goes_on(
    connect: Callable[..., FlashSale], own_server: EmbeddedServer, looked_at: Any
) -> None:
    shop = connect(own_server.url, timeout_ms=5_000)
    sale = shop.sale(SALE.id)
    sale.hold("first", {"red": 1}, hold_id="h").unwrap()
    with frozen(own_server):
        for n in range(4):  # on an open connection first, then on new ones
            begun = time.monotonic()
            with pytest.raises(StoreError):
                sale.hold(f"buyer-{n}", {"red": 1}, hold_id="h", timeout_ms=300)
            assert time.monotonic() - begun < 0.3 + MARGIN_S

    answers = [
        sale.hold(f"buyer-{n}", {"red": 1}, hold_id="h", timeout_ms=20_000) for n in range(4)
    ]

    assert {answer.outcome for answer in answers} == {Outcome.HELD}
    assert kinds_of(looked_at)[EventKind.HELD] == 5
    assert books_are_right(looked_at).skus["red"].held == 5


class SmallBuffers(redis.Connection):
    """What does not fit waits in the program, as it does on a long way."""

    def _connect(self) -> Any:
        sock = super()._connect()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        return sock


def test_a_request_that_a_frozen_server_does_not_take_in_costs_no_more_than_its_own_time_out(
    own_server: EmbeddedServer,
) -> None:
    """On a connection that somebody with much more time has made."""
    skus = [f"sku-{n}-{'x' * 50}" for n in range(32)]
    requests = [
        HoldRequest(f"b{n}", {sku: 1 + n + m for m, sku in enumerate(skus)}, "h")
        for n in range(256)
    ]
    with (
        closing(
            redis.ConnectionPool.from_url(own_server.url, connection_class=SmallBuffers)
        ) as pool,
        FlashSale(redis.Redis(connection_pool=pool), timeout_ms=20_000) as shop,
    ):
        sale = shop.open(Sale("large", [Sku(sku, 1_000_000) for sku in skus]))
        start = time.monotonic()
        with frozen(own_server):
            answers = sale.hold_many(requests, timeout_ms=400)
        assert time.monotonic() - start < 0.4 + MARGIN_S
        told = {type(answer) for answer in answers}  # long orders go by a few a call
        assert OutcomeUnknown in told
        assert all(issubclass(kind, StoreError) for kind in told)
        again = sale.hold_many(requests)
        assert {answer.outcome for answer in again if isinstance(answer, Answer)} == {Outcome.HELD}
        books_are_right(sale)


def test_a_short_freeze_is_not_seen_by_a_patient_caller(
    connect: Callable[..., FlashSale], own_server: EmbeddedServer, looked_at: Any
) -> None:
    sale = connect(own_server.url, timeout_ms=30_000).sale(SALE.id)
    sale.snapshot()
    os.kill(own_server.pid, signal.SIGSTOP)
    thaw = threading.Timer(0.5, os.kill, (own_server.pid, signal.SIGCONT))
    thaw.start()
    begun = time.monotonic()
    try:
        answer = sale.hold("ann", {"red": 1}, hold_id="h")
    finally:
        thaw.join()
    assert time.monotonic() - begun > 0.3
    assert_held_once(looked_at, "ann", answer)
