"""A call's own time-out, shorter or longer than the client's: one rule for every verb, both shells.

The server accepts connections and says nothing. All verbs are asked at once, each by a caller of
its own who looks at the clock.
"""

from __future__ import annotations

import inspect
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from faults.checks import SCRIPTS
from flashsale import (
    CueHandle,
    FlashSale,
    HoldRequest,
    JoinRequest,
    Key,
    QueueHandle,
    Sale,
    SaleHandle,
    Sku,
    StoreError,
    WaitingRoom,
)
from flashsale.refs import make_ref
from flashsale.sync import LedgerHandle
from support.crowds import Ask, at_once
from support.proxy import FaultProxy
from support.shells import Blocking

KEYS = [Key("main", b"s" * 32)]
REF = make_ref("s", "ann", "h")
SALE = Sale("s", skus=[Sku("a", stock=1)])
ROOM = WaitingRoom(rate_per_s=1)

SHOP: dict[str, Callable[[Any, int], Any]] = {
    "server": lambda shop, ms: shop.server(timeout_ms=ms),
    "open": lambda shop, ms: shop.open(SALE, timeout_ms=ms),
    "attach": lambda shop, ms: shop.attach("s", timeout_ms=ms),
}
OF_SALE: dict[str, Callable[[Any, int], Any]] = {
    "hold": lambda s, ms: s.hold("ann", {"a": 1}, hold_id="h", timeout_ms=ms),
    "hold_many": lambda s, ms: s.hold_many([HoldRequest("bob", {"a": 1}, "h")], timeout_ms=ms),
    "confirm": lambda s, ms: s.confirm("cyd", "h", timeout_ms=ms),
    "confirm_many": lambda s, ms: s.confirm_many([REF], timeout_ms=ms),
    "release": lambda s, ms: s.release("dan", "h", timeout_ms=ms),
    "release_many": lambda s, ms: s.release_many([REF], timeout_ms=ms),
    "extend": lambda s, ms: s.extend("eve", "h", deadline_ms=2**41, timeout_ms=ms),
    "refund": lambda s, ms: s.refund("fay", "h", lines={"a": 1}, op_id="r", timeout_ms=ms),
    "find": lambda s, ms: s.find("gil", "h", timeout_ms=ms),
    "holds_of": lambda s, ms: s.holds_of("hal", timeout_ms=ms),
    "restock": lambda s, ms: s.restock({"a": 1}, op_id="t", timeout_ms=ms),
    "pause": lambda s, ms: s.pause(timeout_ms=ms),
    "resume": lambda s, ms: s.resume(timeout_ms=ms),
    "end": lambda s, ms: s.end(timeout_ms=ms),
    "purge": lambda s, ms: s.purge(timeout_ms=ms),
    "expire": lambda s, ms: s.expire(timeout_ms=ms),
    "cue": lambda s, ms: s.cue("a", at=7_000_000, cue_time_ms=2**41, timeout_ms=ms),
    "cues": lambda s, ms: s.cues(timeout_ms=ms),
    "report_lags": lambda s, ms: s.report_lags([1_000], timeout_ms=ms),
    "lags": lambda s, ms: s.lags(timeout_ms=ms),
    "snapshot": lambda s, ms: s.snapshot(timeout_ms=ms),
    "audit": lambda s, ms: s.audit(timeout_ms=ms),
    "repair": lambda s, ms: s.repair(timeout_ms=ms),
}
OF_LEDGER: dict[str, Callable[[Any, int], Any]] = {
    "read": lambda s, ms: s.ledger.read(timeout_ms=ms),
    "register": lambda s, ms: s.ledger.register("sink", timeout_ms=ms),
    "ack": lambda s, ms: s.ledger.ack("sink", 1, timeout_ms=ms),
    "forget": lambda s, ms: s.ledger.forget("sink", timeout_ms=ms),
    "trim": lambda s, ms: s.ledger.trim(timeout_ms=ms),
}
OF_QUEUE: dict[str, Callable[[Any, int], Any]] = {
    "open": lambda s, ms: s.queue.open(ROOM, timeout_ms=ms),
    "join": lambda s, ms: s.queue.join("ann", timeout_ms=ms),
    "join_many": lambda s, ms: s.queue.join_many([JoinRequest("bob")], timeout_ms=ms),
    "position": lambda s, ms: s.queue.position("ann", "t", timeout_ms=ms),
    "admit": lambda s, ms: s.queue.admit("ann", timeout_ms=ms),
    "leave": lambda s, ms: s.queue.leave("ann", timeout_ms=ms),
    "view": lambda s, ms: s.queue.view(timeout_ms=ms),
    "pause": lambda s, ms: s.queue.pause(timeout_ms=ms),
    "resume": lambda s, ms: s.queue.resume(timeout_ms=ms),
    "set_rate": lambda s, ms: s.queue.set_rate(2, timeout_ms=ms),
}
OF_CUE: dict[str, Callable[[Any, int], Any]] = {
    "cue": lambda s, ms: s.cue_handle("a").cue(timeout_ms=ms),
    "view": lambda s, ms: s.cue_handle("a").view(timeout_ms=ms),
    "enter": lambda s, ms: s.cue_handle("a").enter("b", {"a": 1}, position_ms=1, timeout_ms=ms),
    "freeze": lambda s, ms: s.cue_handle("a").freeze(timeout_ms=ms),
    "settle": lambda s, ms: s.cue_handle("a").settle(timeout_ms=ms),
    "void": lambda s, ms: s.cue_handle("a").void("rain", timeout_ms=ms),
    "give_back": lambda s, ms: s.cue_handle("a").give_back(timeout_ms=ms),
    "record": lambda s, ms: s.cue_handle("a").record(timeout_ms=ms),
}
GROUPS = [
    (FlashSale, SHOP),
    (SaleHandle, OF_SALE),
    (LedgerHandle, OF_LEDGER),
    (QueueHandle, OF_QUEUE),
    (CueHandle, OF_CUE),
]


@pytest.mark.parametrize(("owner", "verbs"), GROUPS, ids=[o.__name__ for o, _ in GROUPS])
def test_every_verb_with_a_time_out_is_tried_here(owner: type, verbs: dict[str, Any]) -> None:
    found = {
        name
        for name, value in vars(owner).items()
        if not name.startswith("_")
        and inspect.isfunction(value)
        and "timeout_ms" in inspect.signature(value).parameters
        and name != "perform"
    }
    assert found == verbs.keys()


@pytest.fixture
def mute() -> Iterator[str]:
    """The URL of a server that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as door:
        taken: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    taken.append(door.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"redis://127.0.0.1:{door.getsockname()[1]}"
        door.shutdown(socket.SHUT_RDWR)
        thread.join()
        for end in taken:
            end.close()


def timed(verb: Callable[[Any, int], Any], on: Callable[[Any], Any], ms: int, both: bool) -> Ask:
    """Asks, and says after how many seconds it was told that there is no answer."""
    if both:

        async def in_task(sale: Any) -> float:
            begun = time.monotonic()
            with pytest.raises(StoreError, match="no answer within|no time"):
                await verb(on(sale), ms)
            return time.monotonic() - begun

        return in_task

    def in_thread(sale: Any) -> float:
        begun = time.monotonic()
        with pytest.raises(StoreError):
            verb(on(sale), ms)
        return time.monotonic() - begun

    return in_thread


@pytest.mark.parametrize(("of_client", "own"), [(200, 900), (60_000, 900)], ids=["long", "short"])
def test_a_calls_own_time_out_counts_whatever_the_clients_is(
    of_client: int, own: int, connect: Callable[..., FlashSale], mute: str
) -> None:
    """Long: it is waited for no less than that. Short: for much less than the client's."""
    shop = connect(mute, timeout_ms=of_client, keys=KEYS)
    sale = shop.sale("s")
    both = isinstance(sale, Blocking)
    target: Any = shop._target if both else shop
    asks, names = [], []
    for owner, verbs in GROUPS:
        for name, verb in verbs.items():
            if name in ("hold_many", "confirm_many", "release_many"):
                continue  # which answer item by item
            on = (lambda _: target) if owner is FlashSale else (lambda sale: sale)
            asks.append(timed(verb, on, own, both))
            names.append(f"{owner.__name__}.{name}")
    told = dict(zip(names, at_once(sale, asks), strict=True))
    wrong = {
        name: end
        for name, end in told.items()
        if not isinstance(end, float) or not own / 1000 - 0.02 <= end <= 25
    }
    assert not wrong


@pytest.mark.parametrize("name", ["hold_many", "confirm_many", "release_many"])
def test_a_bulk_calls_own_time_out_counts_too(
    name: str, connect: Callable[..., FlashSale], mute: str
) -> None:
    sale = connect(mute, timeout_ms=200, keys=KEYS).sale("s")
    begun = time.monotonic()
    (answer,) = OF_SALE[name](sale, 900)
    assert isinstance(answer, StoreError)
    assert time.monotonic() - begun >= 0.88


PARTS = {
    "join": OF_QUEUE["join"],
    "join_many": OF_QUEUE["join_many"],
    "admit": OF_QUEUE["admit"],
    "leave": OF_QUEUE["leave"],
    "enter": OF_CUE["enter"],
    "read": OF_LEDGER["read"],
    "open": OF_QUEUE["open"],
}


@pytest.mark.parametrize("name", PARTS)
def test_a_call_of_several_parts_has_its_time_once(
    name: str,
    connect: Callable[..., FlashSale],
    proxy: FaultProxy,
    admin: Any,
) -> None:
    """The first part takes most of the time, and the second gets no answer: told by its words."""
    with_keys = connect(proxy.url, timeout_ms=20_000, keys=KEYS)
    sale = with_keys.open(SALE)
    if name != "open":
        sale.queue.open(ROOM)
    if name == "enter":
        sale.cue("a", at=7_000_000, cue_time_ms=int(time.time() * 1000) + 60_000, proof=False)
    sale = connect(proxy.url, timeout_ms=20_000, keys=KEYS).sale("s")
    sale.snapshot()
    proxy.delay(reply_ms=700, times=1, only=SCRIPTS)
    seen = 0

    def of_the_last_part(words: list[bytes]) -> bool:
        nonlocal seen
        seen += words[0] == b"EVALSHA"
        return seen > {"open": 2, "enter": 2}.get(name, 1)

    proxy.delay(reply_ms=60_000, only=of_the_last_part)
    try:
        ends = PARTS[name](sale, 3_000)
        error = ends[0] if isinstance(ends, list) else None
    except StoreError as raised:
        error = raised
    found = re.search(r"no answer within (\d+) ms", str(error))
    assert found, error
    assert int(found[1]) <= 2_350
