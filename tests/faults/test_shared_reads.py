"""Reads of one thing at one time are one call for all, and never older than the question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from faults.checks import SCRIPTS
from flashsale import (
    FlashSale,
    Key,
    OutcomeUnknown,
    Rejected,
    Sale,
    Sku,
    StoreUnavailable,
    WaitingRoom,
)
from support.crowds import Ask, at_once, crowd, until
from support.proxy import FaultProxy

KEYS = [Key("main", b"s" * 32)]
CALLERS = 60

READS: dict[str, Ask] = {
    "find": lambda sale: sale.find("ann", "h"),
    "holds_of": lambda sale: sale.holds_of("ann"),
    "snapshot": lambda sale: sale.snapshot(),
    "cues": lambda sale: sale.cues(),
    "cue view": lambda sale: sale.cue_handle("red").view(),
    "room view": lambda sale: sale.queue.view(),
    "position": lambda sale: sale.queue.position("ann", "no ticket"),
}


@pytest.fixture
def looked_at(own_server: Any) -> Any:
    with FlashSale.from_url(own_server.url, timeout_ms=20_000, keys=KEYS) as shop:
        sale = shop.open(Sale("s", [Sku("red", 1_000), Sku("blue", 10)]))
        sale.hold("ann", {"red": 2}, hold_id="h")
        sale.cue("red", at=7_000_000, cue_time_ms=4_000_000_000_000, stock={"red": 1})
        sale.queue.open(WaitingRoom(rate_per_s=1))
        yield sale


@pytest.mark.parametrize("name", READS)
def test_what_many_ask_at_once_is_a_few_calls_and_everybody_is_told(
    name: str, connect: Callable[..., FlashSale], proxy: FaultProxy, looked_at: Any
) -> None:
    sale = connect(proxy.url, timeout_ms=20_000, keys=KEYS).sale("s")
    sale.lags()
    proxy.delay(reply_ms=200, only=SCRIPTS)
    before = proxy.count(*SCRIPTS)
    told = at_once(sale, [READS[name]] * CALLERS)
    assert not [end for end in told if isinstance(end, BaseException)]
    assert proxy.count(*SCRIPTS) - before <= CALLERS / 4
    if name in ("holds_of", "snapshot"):
        assert len(set(map(id, told))) == CALLERS  # nobody is given what another one may change


def test_a_read_is_never_older_than_the_question(
    connect: Callable[..., FlashSale], proxy: FaultProxy, looked_at: Any
) -> None:
    """One is on its way back, as it was; whoever asks after a change is told the change."""
    sale = connect(proxy.url, timeout_ms=20_000, keys=KEYS).sale("s")
    sale.find("ann", "h")
    proxy.delay(reply_ms=1_500, times=1, only=SCRIPTS)
    before = proxy.faults
    with crowd(sale, [READS["find"]]) as first:
        until(lambda: proxy.faults > before)
        looked_at.release("ann", "h")
        later = at_once(sale, [READS["find"]] * 3)
        first()
    assert {hold.state.value for hold in later} == {"released"}


def test_a_shared_reads_failure_is_told_to_each_and_a_longer_time_out_goes_on(
    connect: Callable[..., FlashSale], proxy: FaultProxy, looked_at: Any
) -> None:
    sale = connect(proxy.url, timeout_ms=20_000, keys=KEYS).sale("s")
    sale.find("ann", "h")
    proxy.delay(reply_ms=1_000, only=SCRIPTS)
    short: Ask = lambda sale: sale.find("ann", "h", timeout_ms=300)  # noqa: E731
    told = at_once(sale, [short, short, READS["find"], READS["find"]])
    assert {type(end) for end in told[:2]} <= {StoreUnavailable, OutcomeUnknown}
    assert [end.hold_id for end in told[2:]] == ["h", "h"]
    proxy.pass_through()
    gone = connect(proxy.url, timeout_ms=20_000).sale("gone")
    refused = at_once(gone, [READS["snapshot"]] * 5)
    assert {type(end) for end in refused} == {Rejected}
    assert len(set(map(id, refused))) == 5
