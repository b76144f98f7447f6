"""A connection is used again only if every reply owed on it was read, whatever came in between."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
import redis.asyncio

from flashsale import AsyncFlashSale, FlashSale, HoldRequest, Outcome, Sale, Sku
from flashsale.embedded import EmbeddedServer
from support.shells import SHELLS, Blocking
from support.tracing import Foreign, Tracer, at_every_line

BUYERS = 5
"""Each has one hold, and each of these holds has another number of units."""


class Step:
    """Counts the boundaries that a connection passes, and raises at one of them.

    Before and after each of connecting, sending and reading; of the handshake, too.
    """

    def __init__(self) -> None:
        self.strike = self.passed = 0
        self.error: Callable[[], BaseException] = Foreign

    def arm(self, strike: int, error: Callable[[], BaseException] = Foreign) -> None:
        self.strike, self.passed, self.error = strike, 0, error

    def __call__(self) -> None:
        self.passed += 1
        if self.passed == self.strike:
            raise self.error()


STEP = Step()


class Interrupted(redis.Connection):
    def connect(self) -> Any:
        STEP()
        super().connect()
        STEP()

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        STEP()
        super().send_packed_command(command, check_health)
        STEP()

    def read_response(self, *args: Any, **options: Any) -> Any:
        STEP()
        reply = super().read_response(*args, **options)
        STEP()
        return reply


class AsyncInterrupted(redis.asyncio.Connection):
    async def connect(self) -> Any:
        STEP()
        await super().connect()
        STEP()

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        STEP()
        await super().send_packed_command(command, check_health)
        STEP()

    async def read_response(self, *args: Any, **options: Any) -> Any:
        STEP()
        reply = await super().read_response(*args, **options)
        STEP()
        return reply


@contextmanager
def interrupted_client(shell: str, url: str) -> Iterator[Any]:
    """One connection: whatever is left on it, the next call would meet."""
    STEP.arm(0)
    if shell == "sync":
        pool = redis.ConnectionPool.from_url(url, connection_class=Interrupted, max_connections=1)
        with FlashSale(redis.Redis.from_pool(pool), timeout_ms=20_000) as shop:
            yield shop
        return
    with asyncio.Runner() as runner:
        apool = redis.asyncio.ConnectionPool.from_url(
            url, connection_class=AsyncInterrupted, max_connections=1
        )

        async def make() -> AsyncFlashSale:
            return AsyncFlashSale(redis.asyncio.Redis(connection_pool=apool), timeout_ms=20_000)

        shop = runner.run(make())
        yield Blocking(shop, runner.run)
        runner.run(shop.aclose())


@pytest.fixture
def held(operator: FlashSale) -> Any:
    sale = operator.open(Sale("lines", [Sku("red", 10_000)]))
    sale.hold_many([HoldRequest(f"buyer-{n}", {"red": n + 1}, "h") for n in range(BUYERS)])
    return sale


def check_answers(sale: Any) -> None:
    for n in range(BUYERS):
        hold = sale.find(f"buyer-{n}", "h")
        assert hold is not None
        assert (hold.buyer, hold.lines) == (f"buyer-{n}", {"red": n + 1})


class Stopped(BaseException):
    """As KeyboardInterrupt, or a greenlet's end."""


@pytest.mark.parametrize("kind", [Foreign, Stopped])
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("shell", SHELLS)
def test_an_exception_at_any_step_reaches_its_caller_and_leaves_nobody_anothers_answer(
    shell: str, fresh: bool, kind: type[BaseException], own_server: EmbeddedServer, held: Any
) -> None:
    """Also in the middle of the handshake, of which each command has a reply of its own."""
    for strike in range(1, 1_000):
        with interrupted_client(shell, own_server.url) as shop:
            sale = shop.sale(held.id)
            if not fresh:
                check_answers(sale)
            STEP.arm(strike, kind)
            try:
                sale.find("buyer-0", "h")
            except kind:
                STEP.arm(0)
                check_answers(sale)
            else:
                assert 1 < strike > STEP.passed
                return


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # a socket redis-py just made
@pytest.mark.parametrize("fresh", [False, True])
def test_an_exception_at_any_line_leaves_nobody_anothers_answer_and_no_connection_lost(
    fresh: bool, own_server: EmbeddedServer, held: Any, long: bool
) -> None:
    """Lines of ours and of redis-py's; what is lent is back at the latest when its time is up."""
    if fresh and (not long or sys.version_info < (3, 12)):
        pytest.skip("very many lines: with --long, and CPython 3.11 trips over its own tracing")
    shop = FlashSale.from_url(own_server.url, timeout_ms=20_000, max_connections=1)
    sale = shop.sale(held.id)

    def prepare() -> None:
        if fresh:
            (node,) = shop._connections._nodes.values() or [shop._connections._node(None)]
            node.forget()
        else:
            sale.find("buyer-1", "h")

    def ask() -> None:
        hold = sale.find("buyer-0", "h", timeout_ms=100 if tracing else 20_000)
        assert hold is not None
        assert hold.lines == {"red": 1}

    def check(tracer: Tracer) -> None:
        hold = sale.find("buyer-2", "h")
        assert hold is not None, tracer.where
        assert hold.lines == {"red": 3}, tracer.where

    tracing = False
    with shop:
        ask()
        tracing = True
        assert at_every_line(ask, check, prepare) > 50


@pytest.mark.parametrize("fresh", [False, True])
async def test_a_cancellation_in_any_turn_of_the_loop_leaves_nobody_anothers_answer(
    fresh: bool, own_server: EmbeddedServer, held: Any
) -> None:
    """Of a call that is served, and of one that waits: those beside it get their own answers."""

    async def ask(sale: Any, n: int) -> None:
        hold = await sale.find(f"buyer-{n}", "h")
        assert (hold.buyer, hold.lines) == (f"buyer-{n}", {"red": n + 1})

    async def cancel_one(sale: Any, victim: int, turns: int) -> bool:
        tasks = [asyncio.create_task(ask(sale, n)) for n in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        there = tasks[victim].cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [end for end in ends if end is not None] in ([], [ends[victim]])
        assert there or ends[victim] is None
        await ask(sale, 4)
        return there

    for victim in range(3):
        for turns in range(1_000):
            shop = AsyncFlashSale.from_url(own_server.url, timeout_ms=20_000, max_connections=1)
            async with shop:
                sale = shop.sale(held.id)
                if not fresh:
                    await ask(sale, 3)
                there = await cancel_one(sale, victim, turns)
                (node,) = shop._connections._nodes.values()
                assert not node.pool._lent
                assert not node.pool._waiting
            if not there:
                break
        assert not there


class SoftLimit(Exception):
    """What a job runner raises in a signal handler."""


def test_a_signal_handlers_exception_while_a_reply_is_awaited_is_the_callers_alone(
    own_server: EmbeddedServer, held: Any
) -> None:
    def handler(*_: object) -> None:
        raise SoftLimit

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with FlashSale.from_url(own_server.url, timeout_ms=20_000, max_connections=1) as shop:
            sale = shop.sale(held.id)
            check_answers(sale)
            os.kill(own_server.pid, signal.SIGSTOP)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(SoftLimit):
                sale.find("buyer-0", "h")
            os.kill(own_server.pid, signal.SIGCONT)
            check_answers(sale)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("shell", SHELLS)
def test_an_error_reply_is_a_complete_reply_and_costs_no_connection(
    shell: str, own_server: EmbeddedServer, admin: redis.Redis, held: Any
) -> None:
    with interrupted_client(shell, own_server.url) as shop:
        sale = shop.sale(held.id)
        check_answers(sale)
        before = admin.info("stats")["total_connections_received"]
        for _ in range(3):
            admin.script_flush()  # NOSCRIPT
            check_answers(sale)
        assert admin.info("stats")["total_connections_received"] == before


@pytest.mark.parametrize("shell", SHELLS)
def test_an_argument_that_cannot_be_sent_costs_no_connection(
    shell: str, own_server: EmbeddedServer, admin: redis.Redis, held: Any
) -> None:
    """It never reaches the transport, so it is no lost connection either."""
    from flashsale.aio import lines as aio_lines
    from flashsale.sync import lines as sync_lines

    lines: Any = sync_lines if shell == "sync" else aio_lines
    lease = lines.Lease(time.monotonic() + 60, clean=True)
    with interrupted_client(shell, own_server.url) as shop:
        kind = Interrupted if shell == "sync" else AsyncInterrupted
        lease.connection = kind()
        with pytest.raises(UnicodeEncodeError):
            result = lines.send(lease, ("PING", "\ud800"))
            if asyncio.iscoroutine(result):
                shop._run(result)
        assert lease.clean


@pytest.mark.parametrize("shell", SHELLS)
def test_replies_that_were_sent_for_together_and_abandoned_are_never_anothers(
    shell: str, own_server: EmbeddedServer, held: Any
) -> None:
    """A bulk call has several on their way; an exception ends it in the middle."""
    with interrupted_client(shell, own_server.url) as shop:
        sale = shop.sale(held.id)
        many = [HoldRequest(f"b{n}", {"red": 1}, "h") for n in range(1_500)]
        for strike in (2, 3, 4, 5, 6, 7, 8):
            check_answers(sale)
            STEP.arm(strike)
            try:
                answers = sale.hold_many(many)
            except Foreign:
                pass
            else:
                assert STEP.passed < strike or any(
                    getattr(answer, "outcome", None) is not Outcome.HELD for answer in answers
                )
            STEP.arm(0)
            check_answers(sale)
