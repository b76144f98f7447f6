"""A client that is made or used wrongly says what is wrong and what to do instead."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest
import redis
import redis.asyncio

from flashsale import (
    AsyncFlashSale,
    ConfigurationError,
    FlashSale,
    InvalidRequest,
    Outcome,
    Sale,
    Sku,
    StoreUnavailable,
    WaitingRoom,
)
from flashsale.embedded import free_port
from support.cues import KEY

# --- processes and event loops ------------------------------------------------------------

IN_CHILD = """
import asyncio, os, sys, traceback
from flashsale import (
    AsyncFlashSale, ConfigurationError, FlashSale, Key, Outcome, Sale, Sku, WaitingRoom
)

url = sys.argv[1]

def refused(call):
    try:
        call()
    except ConfigurationError as error:
        return "before a fork" in str(error) and "one per process" in str(error)
    return False

def in_child(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if work() else 2
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def in_child_loop(work):
    return in_child(lambda: refused(lambda: asyncio.run(work())))
"""

FORKS = (
    IN_CHILD
    + """
shop = FlashSale.from_url(url)
sale = shop.open(Sale("forked", [Sku("red", 5)]))
codes = [
    in_child(lambda: refused(lambda: sale.hold("ann", {"red": 1}, hold_id="h"))),
    in_child(lambda: refused(shop.server)),
    in_child(lambda: refused(shop.close)),
]

async def in_loop():
    shop = AsyncFlashSale.from_url(url)
    sale = shop.sale("forked")
    await sale.snapshot()
    return shop, sale

runner = asyncio.Runner()
async_shop, async_sale = runner.run(in_loop())

codes.append(in_child_loop(lambda: async_sale.find("ann", "h")))
codes.append(in_child_loop(async_shop.aclose))

def with_its_own():
    with FlashSale.from_url(url) as own:
        return own.sale("forked").hold("bob", {"red": 1}, hold_id="h").unwrap()

codes.append(in_child(with_its_own))
assert sale.find("ann", "h") is None
assert sale.find("bob", "h") is not None
runner.run(async_shop.aclose())
runner.close()
shop.close()
print(codes)
"""
)


FORKED_QUEUES = (
    IN_CHILD
    + """
KEYS = [Key("test", bytes(32))]
ROOM = WaitingRoom(rate_per_s=100_000, conversion=1, margin=0)

def misuses(queue, cue):
    return [
        lambda: queue.position("ann", ticket),
        lambda: queue.admit("ann", ticket),
        lambda: queue.leave("ann", ticket),
        lambda: queue.join("ann"),
        queue.view,
        queue.pause,
        cue.cue,
        lambda: cue.enter("ann", {"red": 1}, position_ms=100),
        lambda: cue.result("ann"),
    ]

shop = FlashSale.from_url(url, keys=KEYS)
sale = shop.open(Sale("forked", [Sku("red", 10)], admission=True))
sale.queue.open(ROOM)
ticket = sale.queue.join("ann").ticket
cue = sale.cue("drop", at=0, cue_time_ms=sale.snapshot().at_ms, stock={"red": 5}, proof=False)
cue.cue()
sale.queue.view()
codes = [in_child(lambda: refused(misuse)) for misuse in misuses(sale.queue, cue)]

async def in_loop():
    shop = AsyncFlashSale.from_url(url, keys=KEYS)
    queue, cue = shop.sale("forked").queue, shop.sale("forked").cue_handle("drop")
    await cue.cue()
    await queue.view()
    return shop, queue, cue

runner = asyncio.Runner()
async_shop, async_queue, async_cue = runner.run(in_loop())
codes += [in_child_loop(misuse) for misuse in misuses(async_queue, async_cue)]

def with_its_own():
    with FlashSale.from_url(url, keys=KEYS) as own:
        return own.sale("forked").queue.position("ann", ticket).outcome is Outcome.CALLED

codes.append(in_child(with_its_own))
assert sale.queue.admit("ann", ticket).outcome is Outcome.ADMITTED
runner.run(async_shop.aclose())
runner.close()
shop.close()
print(codes)
"""
)


@pytest.mark.parametrize(
    ("program", "children"), [(FORKS, 6), (FORKED_QUEUES, 19)], ids=["a sale", "a room and a cue"]
)
def test_a_client_used_after_a_fork_says_so_and_the_parents_goes_on(
    server_url: str, program: str, children: int
) -> None:
    # In a process of its own: this one has threads, and forking it would be a fault of ours.
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, server_url],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    with redis.Redis.from_url(server_url) as admin:
        admin.delete(*admin.keys("flashsale*:{forked#0}:*"))
    assert done.stdout.split("\n")[0] == str([0] * children), done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("option", ["queue_max", "queue_bytes_max", "max_connections"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "100", True, None, 10**13])
@pytest.mark.parametrize("shop", [FlashSale, AsyncFlashSale])
def test_a_bound_that_is_none_is_refused_when_the_client_is_made(
    shop: Any, option: str, value: object
) -> None:
    with pytest.raises(InvalidRequest, match=f"{option}.*must be"):
        shop.from_url("redis://127.0.0.1:1", **{option: value})


def test_a_client_used_from_another_event_loop_says_so(server_url: str) -> None:
    with asyncio.Runner() as first, asyncio.Runner() as second:

        async def begin() -> AsyncFlashSale:
            shop = AsyncFlashSale.from_url(server_url)
            await shop.server()
            return shop

        async def go_on(shop: AsyncFlashSale) -> None:
            await shop.sale("any").hold("ann", {"red": 1}, hold_id="h")

        async def enter(shop: AsyncFlashSale) -> None:
            async with shop:
                pass

        shop = first.run(begin())
        for misuse in (go_on, enter, AsyncFlashSale.aclose):
            with pytest.raises(ConfigurationError, match="another event loop: make one per loop"):
                second.run(misuse(shop))
        assert first.run(shop.sale("any").hold("ann", {"red": 1}, hold_id="h")).outcome is (
            Outcome.SALE_UNKNOWN
        )
        first.run(shop.aclose())


def test_a_closed_client_answers_nothing_out_of_what_it_keeps(
    server_url: str, sale_id: str
) -> None:
    with FlashSale.from_url(server_url, keys=[KEY]) as operator:
        sale = operator.open(Sale(sale_id, [Sku("red", 5)], admission=True))
        sale.queue.open(WaitingRoom(rate_per_s=100_000, conversion=1, margin=0))
        at_ms = sale.snapshot().at_ms
        sale.cue("drop", at=0, cue_time_ms=at_ms, stock={"red": 5}, proof=False)
        ticket = sale.queue.join("ann").ticket

    def kept(shop: Any) -> list[Any]:
        """What is answered without asking the server, once it was asked."""
        sale = shop.sale(sale_id)
        queue, cue = sale.queue, sale.cue_handle("drop")
        return [
            lambda: queue.position("ann", ticket),
            lambda: queue.admit("ann", "x"),
            lambda: queue.leave("ann", "x"),
            cue.cue,
        ]

    shop = FlashSale.from_url(server_url, keys=[KEY])
    for ask in kept(shop):
        ask()
    shop.close()
    for ask in kept(shop):
        with pytest.raises(ConfigurationError, match="this FlashSale is closed"):
            ask()

    async def in_a_loop() -> None:
        shop = AsyncFlashSale.from_url(server_url, keys=[KEY])
        for ask in kept(shop):
            await ask()
        await shop.aclose()
        for ask in kept(shop):
            with pytest.raises(ConfigurationError, match="this AsyncFlashSale is closed"):
                await ask()

    asyncio.run(in_a_loop())


# --- where the server is ------------------------------------------------------------------


@pytest.mark.parametrize("client", [FlashSale, AsyncFlashSale])
def test_without_a_url_the_environments_is_taken_and_none_is_an_error(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLASHSALE_URL", raising=False)
    for nothing in (None, ""):
        with pytest.raises(ConfigurationError, match=r"set FLASHSALE_URL.*\.embedded\(\)"):
            client.from_url(nothing)
    monkeypatch.setenv("FLASHSALE_URL", "")
    with pytest.raises(ConfigurationError, match="FLASHSALE_URL"):
        client.from_url()


@pytest.mark.parametrize("client", [FlashSale, AsyncFlashSale])
@pytest.mark.parametrize(
    "url", ["localhost:6379", "http://localhost", "redis://localhost:port", "redis://:s/cret@host"]
)
def test_a_url_that_cannot_be_read_is_refused_without_telling_the_password(
    client: Any, url: str
) -> None:
    with pytest.raises(ConfigurationError, match="the server.s URL: ") as raised:
        client.from_url(url)
    assert "cret" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_the_environments_url_is_used_and_an_explicit_one_goes_before_it(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASHSALE_URL", server_url)
    with FlashSale.from_url() as shop:
        assert shop.server().version
    monkeypatch.setenv("FLASHSALE_URL", f"redis://127.0.0.1:{free_port()}")
    with FlashSale.from_url(server_url) as shop:
        assert shop.server().version
    with FlashSale.from_url(timeout_ms=200) as shop, pytest.raises(StoreUnavailable):
        shop.server()


# --- which client -------------------------------------------------------------------------


def test_each_shell_takes_its_own_kind_of_client_only() -> None:
    with (
        redis.Redis() as client,
        pytest.raises(ConfigurationError, match=r"redis\.asyncio\.Redis.*, not redis\.client"),
    ):
        AsyncFlashSale(client)
    with pytest.raises(ConfigurationError, match=r"redis\.Redis.*, not redis\.asyncio"):
        FlashSale(redis.asyncio.Redis())  # type: ignore[arg-type]
    for kind in (FlashSale, AsyncFlashSale):
        for wrong in (None, "redis://localhost", redis.ConnectionPool()):
            with pytest.raises(ConfigurationError, match="client: must be"):
                kind(wrong)  # type: ignore[arg-type]


async def test_a_client_of_ones_own_gives_its_connection_settings(server_url: str) -> None:
    with (
        redis.Redis.from_url(server_url, client_name="mine", decode_responses=True) as client,
        FlashSale(client) as shop,
        redis.Redis.from_url(server_url) as admin,
    ):
        assert shop.sale("any").hold("a", {"red": 1}, hold_id="h").outcome is Outcome.SALE_UNKNOWN
        assert [c for c in admin.client_list() if c["name"] == "mine"]
        assert client.ping()  # it stays its owner's
    theirs = redis.asyncio.Redis.from_url(server_url, client_name="ours", decode_responses=True)
    async with theirs, AsyncFlashSale(theirs) as async_shop:
        answer = await async_shop.sale("any").hold("a", {"red": 1}, hold_id="h")
        assert answer.outcome is Outcome.SALE_UNKNOWN
        assert await theirs.ping()
