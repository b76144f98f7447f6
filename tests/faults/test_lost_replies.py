"""A lost reply: the operation was done once, and asking again gives the original answer."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from faults.checks import MARGIN_S, SCRIPTS, books_are_right, kinds_of
from faults.verbs import VERBS, Verb
from flashsale import (
    Answer,
    EventKind,
    FlashSale,
    HoldRequest,
    Outcome,
    OutcomeUnknown,
    Rejected,
    Sale,
    Sku,
    StoreUnavailable,
)
from flashsale.embedded import EmbeddedServer
from flashsale.scripts import load_script, script_names
from support.proxy import FaultProxy

_number = itertools.count()


def new_id() -> str:
    return f"lost-{next(_number)}"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start() as server:
        yield server


@pytest.fixture
def proxy(server: EmbeddedServer) -> Iterator[FaultProxy]:
    """The way to a server that has every script, so that each call is one request."""
    with redis.Redis.from_url(server.url) as client:
        for name in script_names():
            client.script_load(load_script(name).source)
    with FaultProxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def operator(server: EmbeddedServer) -> Iterator[FlashSale]:
    with FlashSale.from_url(server.url, timeout_ms=20_000) as shop:
        yield shop


def prepared(operator: FlashSale, verb: Verb) -> Any:
    sale = operator.open(verb.sale(new_id()))
    verb.prepare(sale)
    return sale


def told(result: Any) -> Any:
    """What a caller learns, but for who, when, and whether it was told before."""
    if isinstance(result, list):
        return [told(answer) for answer in result]
    if not isinstance(result, Answer):
        return result
    return (result.outcome, result.buyer, result.hold_id, result.state, result.may_return)


def is_replayed(result: Any) -> bool:
    answers = result if isinstance(result, list) else [result]
    return all(answer.replayed for answer in answers)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_a_dropped_reply_does_the_verb_once_and_gives_the_original_answer(
    verb: Verb, connect: Callable[..., FlashSale], operator: FlashSale, proxy: FaultProxy
) -> None:
    undisturbed = told(verb.call(prepared(operator, verb)))
    looked_at = prepared(operator, verb)
    before = kinds_of(looked_at)[verb.once]
    sale = connect(proxy.url, timeout_ms=10_000).sale(looked_at.id)
    sale.snapshot()  # its connection is open and its server checked
    writing = load_script(_script_of(verb)).sha.encode()
    proxy.drop_replies(times=1, only=lambda words: words[1:2] == [writing])

    result = verb.call(sale)

    assert proxy.faults == 1
    if verb.name == "expire":  # it says how many were expired by this very call
        assert result == 0
    else:
        assert told(result) == undisturbed
        assert is_replayed(result)
    if isinstance(result, Answer) and result.deadline_ms is not None:
        hold = looked_at.find(result)
        assert hold is not None
        assert result.deadline_ms == hold.deadline_ms
    again = 2 if verb.name == "hold_many" else 1
    assert kinds_of(looked_at)[verb.once] == before + again
    books_are_right(looked_at)


def _script_of(verb: Verb) -> str:
    name = verb.name.split("_")[0]
    return f"inventory/{'set_state' if name in ('pause', 'resume', 'end') else name}"


def test_a_dropped_reply_to_open_or_purge_is_made_good(
    connect: Callable[..., FlashSale], operator: FlashSale, proxy: FaultProxy
) -> None:
    shop = connect(proxy.url, timeout_ms=10_000)
    shop.server()
    definition = Sale(new_id(), [Sku("red", 5)])

    proxy.drop_replies(times=1, only=SCRIPTS)
    sale = shop.open(definition)
    looked_at = operator.sale(definition.id)
    assert kinds_of(looked_at)[EventKind.OPENED] == 1
    books_are_right(looked_at)

    looked_at.end()
    own = load_script("inventory/purge").sha.encode()
    proxy.drop_replies(times=1, only=lambda words: own in words)
    answer = sale.purge()
    assert (answer.outcome, answer.replayed) == (Outcome.PURGED, True)
    assert proxy.faults == 2
    with pytest.raises(Rejected):
        looked_at.snapshot()


def test_a_dropped_reply_to_a_reader_of_the_ledger_is_made_good(
    connect: Callable[..., FlashSale], operator: FlashSale, proxy: FaultProxy
) -> None:
    looked_at = operator.open(Sale(new_id(), [Sku("red", 5)], hold_ttl_ms=1))
    for n in range(3):
        looked_at.hold(f"buyer-{n}", {"red": 1}, hold_id="h").unwrap()
        time.sleep(0.005)
    looked_at.expire()  # so that the ledger may be trimmed
    last = looked_at.snapshot().sequence
    ledger = connect(proxy.url, timeout_ms=10_000).sale(looked_at.id).ledger
    assert ledger.read().sequence == last

    writing = [load_script(f"ledger/{name}").sha.encode() for name in ("reader", "trim")]
    calls: list[tuple[Callable[[], int], int]] = [
        (lambda: ledger.register("sink"), 0),
        (lambda: ledger.ack("sink", last - 1), last - 1),
        (lambda: ledger.trim(), last - 1),
        (lambda: ledger.forget("sink"), 0),  # nobody is registered any more
    ]
    for call, expected in calls:
        faults = proxy.faults
        proxy.drop_replies(times=1, only=lambda words: words[1] in writing)
        assert call() == expected
        assert proxy.faults == faults + 1
    assert ledger.read(after=last).checkpoint_sequence == last - 1
    books_are_right(looked_at)


def test_the_reply_to_a_script_sent_in_full_may_be_lost_too(
    connect: Callable[..., FlashSale],
    operator: FlashSale,
    proxy: FaultProxy,
    server: EmbeddedServer,
) -> None:
    looked_at = operator.open(Sale(new_id(), [Sku("red", 5)]))
    sale = connect(proxy.url, timeout_ms=10_000).sale(looked_at.id)
    sale.snapshot()
    with redis.Redis.from_url(server.url) as admin:
        admin.script_flush()
    proxy.drop_replies(times=1, only="EVAL")

    answer = sale.hold("ann", {"red": 1}, hold_id="h")

    assert proxy.faults == 1
    assert (answer.outcome, answer.replayed) == (Outcome.HELD, True)
    assert kinds_of(looked_at)[EventKind.HELD] == 1


@pytest.mark.parametrize("then", ["close", "reset", "hang"])
def test_with_every_reply_lost_the_outcome_is_unknown_in_time_and_found_later(
    then: Any, connect: Callable[..., FlashSale], operator: FlashSale, proxy: FaultProxy
) -> None:
    looked_at = operator.open(Sale(new_id(), [Sku("red", 5)]))
    sale = connect(proxy.url, timeout_ms=400).sale(looked_at.id)
    sale.snapshot()
    proxy.drop_replies(then=then, only=SCRIPTS)

    begun = time.monotonic()
    with pytest.raises(OutcomeUnknown, match="ask again with the same ids"):
        sale.hold("ann", {"red": 1}, hold_id="h")
    assert 0.3 < time.monotonic() - begun < 0.4 + MARGIN_S
    assert kinds_of(looked_at)[EventKind.HELD] == 1

    proxy.pass_through()
    later = sale.hold("ann", {"red": 1}, hold_id="h", timeout_ms=10_000)
    elsewhere = looked_at.hold("ann", {"red": 1}, hold_id="h")
    found = looked_at.find("ann", "h")
    assert found is not None
    for answer in (later, elsewhere):
        assert (answer.outcome, answer.replayed) == (Outcome.HELD, True)
        assert answer.deadline_ms == found.original_deadline_ms
    assert kinds_of(looked_at)[EventKind.HELD] == 1


def test_with_every_request_lost_nothing_is_done_and_a_later_call_decides_anew(
    connect: Callable[..., FlashSale], operator: FlashSale, proxy: FaultProxy
) -> None:
    looked_at = operator.open(Sale(new_id(), [Sku("red", 5)]))
    sale = connect(proxy.url, timeout_ms=400).sale(looked_at.id)
    sale.snapshot()
    proxy.drop_requests(only=SCRIPTS, after_bytes=40)

    with pytest.raises(OutcomeUnknown):
        sale.hold("ann", {"red": 1}, hold_id="h")
    assert looked_at.find("ann", "h") is None

    proxy.pass_through()
    answer = sale.hold("ann", {"red": 1}, hold_id="h", timeout_ms=10_000)
    assert (answer.outcome, answer.replayed) == (Outcome.HELD, False)


def test_a_bulk_call_tells_item_by_item_what_was_lost(
    connect: Callable[..., FlashSale], operator: FlashSale, proxy: FaultProxy
) -> None:
    looked_at = operator.open(Sale(new_id(), [Sku("red", 1_000)]))
    sale = connect(proxy.url, timeout_ms=600).sale(looked_at.id)
    sale.snapshot()
    requests = [HoldRequest(f"buyer-{n}", {"red": 1}, "h") for n in range(300)]
    last = b"buyer-299"
    proxy.drop_replies(only=lambda words: any(last in word for word in words))

    results: list[Any] = sale.hold_many(requests)

    assert [answer.outcome for answer in results[:256]] == [Outcome.HELD] * 256
    assert all(isinstance(result, OutcomeUnknown) for result in results[256:])
    proxy.pass_through()
    again: list[Any] = sale.hold_many(requests, timeout_ms=10_000)
    assert all(answer.outcome is Outcome.HELD and answer.replayed for answer in again)
    assert books_are_right(looked_at).skus["red"].held == 300


def test_a_refused_connection_is_unavailable_and_not_applied(
    connect: Callable[..., FlashSale], operator: FlashSale, proxy: FaultProxy
) -> None:
    looked_at = operator.open(Sale(new_id(), [Sku("red", 5)]))
    proxy.refuse_connections()
    sale = connect(proxy.url, timeout_ms=300).sale(looked_at.id)

    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match="not applied"):
        sale.hold("ann", {"red": 1}, hold_id="h")
    assert time.monotonic() - begun < 0.3 + MARGIN_S
    assert looked_at.find("ann", "h") is None

    proxy.accept_connections()
    answer = sale.hold("ann", {"red": 1}, hold_id="h", timeout_ms=10_000)
    assert (answer.outcome, answer.replayed) == (Outcome.HELD, False)


def test_an_attempt_that_may_have_arrived_is_not_forgotten_over_later_refusals(
    connect: Callable[..., FlashSale], operator: FlashSale, proxy: FaultProxy
) -> None:
    looked_at = operator.open(Sale(new_id(), [Sku("red", 5)]))
    sale = connect(proxy.url, timeout_ms=400).sale(looked_at.id)
    sale.snapshot()
    proxy.drop_replies(times=1, only=SCRIPTS)
    proxy.refuse_connections()

    with pytest.raises(OutcomeUnknown):
        sale.hold("ann", {"red": 1}, hold_id="h")
    assert looked_at.find("ann", "h") is not None
