"""With its memory full a server takes no holds, and what ends them goes on: by scripts' twins."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import redis
from msgspec import Struct

from faults.checks import books_are_right, everything
from flashsale import (
    Answer,
    CueState,
    FlashSale,
    HoldRequest,
    HoldState,
    Outcome,
    OutcomeUnknown,
    Sale,
    Sku,
    StoreUnavailable,
    WaitingRoom,
)
from flashsale.embedded import EmbeddedServer
from flashsale.keys import ShardKeys
from flashsale.refs import make_ref
from flashsale.scripts import load_script, script_names
from support.cues import KEY
from support.proxy import FaultProxy

SOON_MS = 25
TOLD = {"confirm": "CONFIRMED", "release": "RELEASED"}


class Full(Struct):
    """A server whose memory is full, a sale of before, and a client that no fault concerns."""

    shop: FlashSale
    operator: FlashSale
    admin: redis.Redis
    sale: Any

    def fill(self) -> None:
        self.admin.config_set("maxmemory", 1)

    def free(self) -> None:
        self.admin.config_set("maxmemory", 0)

    def known(self, buyer: str) -> str:
        return make_ref(self.sale.id, buyer, "h")


@pytest.fixture
def full(
    connect: Callable[..., FlashSale],
    own_server: EmbeddedServer,
    operator: FlashSale,
    admin: redis.Redis,
) -> Full:
    """Ann, bob, cyd and dan hold two red and a blue each; eve has a red that has expired."""
    shop = connect(own_server.url, timeout_ms=10_000, keys=[KEY])
    rules = Sale("full", [Sku("red", 100), Sku("blue", 100)])
    operator.open(rules)
    sale = shop.sale(rules.id)
    basket = {"red": 2, "blue": 1}
    for buyer in ("ann", "bob", "cyd", "dan"):
        sale.hold(buyer, basket, hold_id="h").unwrap()
    return Full(shop, operator, admin, sale)


def expired(full: Full) -> Any:
    """A sale whose one hold is over, and was not swept."""
    sale = full.operator.open(Sale("over", [Sku("red", 9)], hold_ttl_ms=SOON_MS))
    held = sale.hold("eve", {"red": 1}, hold_id="h").unwrap()
    while (full.operator.sale("over").snapshot().due_at_ms or 0) > time.time_ns() // 1_000_000:
        time.sleep(0.005)
    assert held.deadline_ms is not None
    return full.shop.sale("over")


def cue(full: Full, *, in_ms: int = 0) -> Any:
    at_ms = time.time_ns() // 1_000_000 + in_ms
    return full.sale.cue("drop", at=1, cue_time_ms=at_ms, stock={"red": 3})


# --- verb by verb -------------------------------------------------------------------------

GOES_ON: dict[str, tuple[Callable[[Any], Any], str]] = {
    "confirm": (lambda s: s.confirm("ann", "h"), "CONFIRMED"),
    "confirm some lines": (lambda s: s.confirm("ann", "h", lines={"red": 1}), "CONFIRMED"),
    "confirm, retaking if late": (lambda s: s.confirm("ann", "h", late="retake"), "CONFIRMED"),
    "confirm what is not known": (lambda s: s.confirm("new", "h"), "UNKNOWN_HOLD"),
    "release": (lambda s: s.release("ann", "h"), "RELEASED"),
    "pause": (lambda s: s.pause(), "PAUSED"),
    "end": (lambda s: s.end(), "ENDED"),
}


@pytest.mark.parametrize("verb", GOES_ON)
def test_what_ends_a_hold_or_a_sale_goes_on_and_is_replayed(full: Full, verb: str) -> None:
    call, outcome = GOES_ON[verb]
    full.fill()
    assert call(full.sale).outcome.name == outcome
    again = call(full.sale)
    assert (again.outcome.name, again.replayed) == (outcome, outcome != "UNKNOWN_HOLD")
    full.free()
    books_are_right(full.operator.sale("full"))


REFUSED: dict[str, Callable[[Any], Any]] = {
    "hold": lambda s: s.hold("new", {"red": 1}, hold_id="h"),
    "hold, replayed": lambda s: s.hold("ann", {"red": 2, "blue": 1}, hold_id="h"),
    "release what is not known": lambda s: s.release("new", "h"),
    "release another id": lambda s: s.release("ann", "other"),
    "extend": lambda s: s.extend("ann", "h", deadline_ms=time.time_ns() // 1_000_000 + 10**6),
    "refund": lambda s: s.refund("ann", "h", lines={"red": 1}, op_id="o"),
    "restock": lambda s: s.restock({"red": 1}, op_id="o"),
    "register": lambda s: s.ledger.register("new"),
}


@pytest.mark.parametrize("verb", REFUSED)
def test_what_would_add_something_is_refused_and_writes_nothing(full: Full, verb: str) -> None:
    before = everything(full.admin)
    full.fill()
    with pytest.raises(StoreUnavailable, match="not applied: OOM"):
        REFUSED[verb](full.sale)
    assert everything(full.admin) == before
    full.free()
    assert full.sale.hold("new", {"red": 1}, hold_id="h").outcome is Outcome.HELD


def test_a_paused_sale_is_not_resumed_so_that_pausing_cannot_fill_the_ledger(full: Full) -> None:
    full.fill()
    assert full.sale.pause().outcome is Outcome.PAUSED
    before = everything(full.admin)
    with pytest.raises(StoreUnavailable, match="not applied: OOM"):
        full.sale.resume()
    assert everything(full.admin) == before
    full.free()
    assert full.sale.resume().outcome is Outcome.RESUMED


@pytest.mark.parametrize("verb", TOLD)
@pytest.mark.parametrize("strangers", [0, 1])
def test_a_batch_is_judged_item_by_item(full: Full, verb: str, strangers: int) -> None:
    """On the short way if all are held, else in the loop; who is not known leaves no trace."""
    buyers = ["ann", "bob", *["new"] * strangers, "cyd"]
    full.fill()
    answers = getattr(full.sale, f"{verb}_many")([full.known(buyer) for buyer in buyers])
    for buyer, answer in zip(buyers, answers, strict=True):
        if buyer != "new":
            assert answer.outcome.name == TOLD[verb]
        elif verb == "confirm":
            assert answer.outcome is Outcome.UNKNOWN_HOLD
        else:
            assert isinstance(answer, StoreUnavailable)
            assert "not applied: OOM" in str(answer)
    full.free()
    assert full.sale.holds_of("new") == []
    books_are_right(full.operator.sale("full"))


def test_a_sweep_frees_what_is_due_and_nothing_is_retaken(full: Full) -> None:
    sale = expired(full)
    full.fill()
    assert sale.expire() == 1
    assert sale.confirm("eve", "h").outcome is Outcome.EXPIRED
    before = sale.snapshot()
    with pytest.raises(StoreUnavailable, match="not applied: OOM"):
        sale.confirm("eve", "h", late="retake")
    after = sale.snapshot()
    assert (after.skus, after.sequence) == (before.skus, before.sequence)
    full.free()
    assert sale.confirm("eve", "h", late="retake").outcome is Outcome.CONFIRMED
    books_are_right(full.operator.sale("over"))


def test_any_verb_that_goes_on_sweeps_what_is_due_on_its_way(full: Full) -> None:
    sale = expired(full)
    full.fill()
    assert sale.pause().outcome is Outcome.PAUSED
    assert sale.snapshot().skus["red"].available == 9


# --- ledger, purge ------------------------------------------------------------------------


def test_readers_go_on_and_the_ledger_is_trimmed(full: Full) -> None:
    full.sale.ledger.register("sink")
    last = full.sale.snapshot().sequence
    full.fill()
    assert full.sale.ledger.ack("sink", last) == last
    assert full.sale.ledger.register("sink") == last  # it goes on where it was
    for buyer in ("ann", "bob", "cyd", "dan"):
        full.sale.release(buyer, "h").unwrap()
    assert full.sale.expire() == 0
    full.sale.ledger.trim()
    assert full.sale.ledger.forget("sink") == last
    full.free()
    books_are_right(full.operator.sale("full"))


@pytest.mark.parametrize("room", [False, True])
def test_an_ended_sale_is_purged_with_its_cues_and_its_waiting_room(full: Full, room: bool) -> None:
    full.operator.open(Sale("done", [Sku("red", 9)]))
    done = full.shop.sale("done")
    if room:
        done.queue.open(WaitingRoom(rate_per_s=1, places_max=10))
        done.queue.join("ann")
        at_ms = time.time_ns() // 1_000_000 + 60_000
        handle = done.cue("drop", at=1, cue_time_ms=at_ms, stock={"red": 3})
    full.fill()
    if room:
        assert handle.void("no memory").outcome is Outcome.VOID
        assert handle.give_back().outcome is Outcome.GIVEN_BACK
    assert done.end().outcome is Outcome.ENDED
    assert done.purge().outcome is Outcome.PURGED
    assert [key for key in full.admin.keys("*done#0*") if not key.endswith(b":sale")] == []


# --- cues and waiting rooms ---------------------------------------------------------------


def test_a_cue_is_voided_and_its_stock_is_on_sale_again(full: Full) -> None:
    handle = cue(full, in_ms=60_000)
    full.fill()
    assert handle.void("no memory").outcome is Outcome.VOID
    assert handle.void("no memory").replayed
    assert handle.give_back().outcome is Outcome.GIVEN_BACK
    full.free()
    assert full.sale.snapshot().skus["red"].set_aside == 0
    assert handle.view().reason == "no memory"
    books_are_right(full.operator.sale("full"))


def test_a_cue_is_frozen_in_time_and_settled_when_there_is_memory(full: Full) -> None:
    """Frozen after the public seed's time it would be void."""
    handle = cue(full)
    closes_ms = handle.cue().closes_at_ms
    full.admin.hset(ShardKeys.of("full").sale, "now", closes_ms)
    full.fill()
    with pytest.raises(StoreUnavailable, match="not applied: OOM"):
        handle.settle(wait=False)
    seen = handle.view()
    assert (seen.state, seen.frozen_at_ms) == (CueState.FROZEN, closes_ms)
    assert seen.digest
    full.free()
    full.admin.hset(ShardKeys.of("full").sale, "now", handle.cue().reveals_at_ms)
    assert handle.settle(wait=False).outcome is Outcome.SETTLED


def test_a_digest_is_published_in_time(full: Full) -> None:
    at_ms = time.time_ns() // 1_000_000
    handle = full.sale.cue("drop", at=1, cue_time_ms=at_ms, stock={"red": 3}, publish="the board")
    closes_ms = handle.cue().closes_at_ms
    full.admin.hset(ShardKeys.of("full").sale, "now", closes_ms)
    full.fill()
    told: list[str] = []
    with suppress(StoreUnavailable):  # awards are refused
        handle.settle(wait=False, publish=lambda digest, cue: told.append(digest))
    assert told == [handle.view().digest]
    assert handle.view().published_at_ms == closes_ms
    assert handle.void("no memory").outcome is Outcome.VOID
    full.free()
    books_are_right(full.operator.sale("full"))


def test_whatever_only_reads_goes_on(full: Full) -> None:
    handle = cue(full)
    full.fill()
    assert full.sale.find("ann", "h").state is HoldState.HELD
    assert len(full.sale.holds_of("ann")) == 1
    assert full.sale.snapshot().skus["red"].held == 8
    assert full.sale.audit().problems == ()
    assert len(full.sale.ledger.read(after=0).entries) > 1
    assert handle.view().state is CueState.OPEN


def test_a_waiting_room_is_seen_and_steered_and_nobody_is_called(full: Full) -> None:
    queue = full.sale.queue
    queue.open(WaitingRoom(rate_per_s=1_000_000, places_max=10))
    queue.join("ann")
    full.fill()
    before = queue.view()
    assert (before.joined, before.serving) == (1, 0)
    assert queue.pause().state.name == "PAUSED"
    assert queue.resume().state.name == "RUNNING"
    assert queue.set_rate(7).rate_per_s == 7
    with pytest.raises(StoreUnavailable, match="not applied: OOM"):
        queue.join("bob")
    assert queue.view().serving == 0
    full.free()
    queue.set_rate(1_000_000)
    time.sleep(0.01)
    assert full.operator.sale("full").queue.view().joined == 1


# --- how it is done -----------------------------------------------------------------------


def test_the_twin_is_asked_only_after_the_script_was_refused(full: Full) -> None:
    twin = load_script("inventory/confirm").when_full
    assert twin is not None
    assert full.sale.confirm("ann", "h").outcome is Outcome.CONFIRMED
    assert full.admin.script_exists(twin.sha) == [False]
    full.fill()
    assert full.sale.confirm("bob", "h").outcome is Outcome.CONFIRMED
    assert full.admin.script_exists(twin.sha) == [True]
    full.free()
    calls = full.admin.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert full.sale.confirm("cyd", "h").outcome is Outcome.CONFIRMED
    assert full.admin.info("commandstats")["cmdstat_evalsha"]["calls"] == calls + 1


@pytest.mark.parametrize("verb", TOLD)
def test_after_a_lost_reply_nothing_is_told_as_not_applied_and_asking_again_helps(
    full: Full, connect: Callable[..., FlashSale], proxy: FaultProxy, verb: str
) -> None:
    """What a twin refuses of a batch may have been done by the attempt whose reply was lost."""
    sale = connect(proxy.url, timeout_ms=3_000).sale("full")
    sale.snapshot()

    def lose_and_fill(words: Any) -> bool:
        if words[0].upper() != b"EVALSHA":
            return False
        full.operator.sale("full").release("new", "h")  # as by the attempt whose reply is lost
        full.fill()
        return True

    proxy.drop_replies(times=1, only=lose_and_fill)
    refs = [full.known(buyer) for buyer in ("ann", "new")]
    told = getattr(sale, f"{verb}_many")(refs)
    assert [type(answer) for answer in told] == [OutcomeUnknown] * 2
    told = getattr(sale, f"{verb}_many")(refs)
    assert [answer.outcome.name for answer in told] == [TOLD[verb], "RELEASED"]


def test_no_amount_of_calls_fills_the_memory_by_twins(full: Full) -> None:
    """Each hold ends once, a sale pauses once: what is repeated writes nothing."""

    def call_all() -> None:
        for call, _ in GOES_ON.values():
            call(full.sale)
        for buyer in ("ann", "bob", "cyd", "dan"):
            full.sale.release(buyer, "h")
        full.sale.expire()
        full.sale.confirm_many([full.known(f"n{n}") for n in range(50)])
        full.sale.release_many([full.known(f"n{n}") for n in range(50)])

    full.fill()
    call_all()
    before = everything(full.admin)
    for _ in range(3):
        call_all()
    assert everything(full.admin) == before


def test_only_scripts_that_touch_what_exists_have_a_twin() -> None:
    twins = {name for name in script_names() if load_script(name).when_full}
    assert twins == {
        "inventory/confirm",
        "inventory/expire",
        "inventory/purge",
        "inventory/release",
        "inventory/set_state",
        "ledger/reader",
        "ledger/trim",
        "waiting_room/reveal",
        "waiting_room/show",
        "waiting_room/steer",
        "window/freeze",
        "window/give_back",
        "window/publish",
        "window/void",
    }


def test_a_bulk_call_of_many_chunks_goes_on(full: Full) -> None:
    requests = [HoldRequest(f"b{n}", {"red": 1}, "h") for n in range(90)]
    held = full.sale.hold_many(requests)
    full.fill()
    answers = full.sale.confirm_many([answer for answer in held if isinstance(answer, Answer)])
    assert {getattr(answer, "outcome", answer) for answer in answers} == {Outcome.CONFIRMED}
