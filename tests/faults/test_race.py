"""Many processes order at once while callers are killed, replies lost and connections cut.

Afterwards everything that any caller was told must be true, every unit must be sold that anyone
could buy, and the books must add up at every single step of the ledger.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults import race_worker
from faults.checks import books_are_right, events_of, kinds_of
from faults.told import SecondHand, what_callers_were_told_is_true
from flashsale import (
    EventKind,
    FlashSale,
    Outcome,
    Sale,
    Sku,
    Snapshot,
)
from flashsale.embedded import EmbeddedServer
from support.proxy import FaultProxy

WORKERS = 6
LIMIT = 4
TTL_MS = 250
SALE_LIMIT = 6
LIFE_BYTES = 1_500
"""What a caller has noted before it may be killed: some ten questions and answers."""


def environment() -> dict[str, str]:
    """Another process finds what this one has found."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


class Callers:
    """The worker processes; a killed one is replaced."""

    def __init__(self, url: str, sale: Sale, folder: Path) -> None:
        self._url, self._sale, self._folder = url, sale, folder
        self.killed = 0
        self._started = 0
        self._running = [self._start() for _ in range(WORKERS)]

    def _start(self) -> tuple[subprocess.Popen[bytes], Path]:
        """A process and its log."""
        self._started += 1
        number = self._started
        log = self._folder / f"worker-{number}.jsonl"
        kind = "async" if number % 3 == 0 else "sync"
        skus = [sku.id for sku in self._sale.skus]
        command = [sys.executable, race_worker.__file__, self._url, self._sale.id, str(log)]
        with (self._folder / "complaints").open("ab") as complaints:
            process = subprocess.Popen(
                [*command, str(number), kind, *skus],
                env=environment(),
                stderr=complaints,
            )
        return process, log

    def kill_one(self, chance: random.Random) -> None:
        """One that has asked for something: on a slow machine others would never come to it."""
        lived = [place for place in range(WORKERS) if self._size_of_log(place) > LIFE_BYTES]
        if not lived:
            return
        place = chance.choice(lived)
        process, _ = self._running[place]
        process.kill()
        process.wait()
        self.killed += 1
        self._running[place] = self._start()

    def _size_of_log(self, place: int) -> int:
        log = self._running[place][1]
        return log.stat().st_size if log.exists() else 0

    def stop(self) -> None:
        (self._folder / "stop").touch()
        for process, _ in self._running:
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        complaints = (self._folder / "complaints").read_text("utf-8")
        assert complaints == "", complaints

    def notes(self) -> list[dict[str, Any]]:
        """Everything any of them noted; the last line of a killed one may be torn."""
        notes = []
        for path in sorted(self._folder.glob("*.jsonl")):
            for line in path.read_text("utf-8").splitlines():
                if line.endswith("}"):
                    notes.append(json.loads(line))
        return notes


def disturb(proxy: FaultProxy, seed: int) -> None:
    """What the network does all the time."""
    proxy.drop_replies(probability=0.03, then="close", seed=seed)
    proxy.drop_replies(probability=0.02, then="reset", seed=seed + 1)
    proxy.drop_replies(probability=0.003, then="hang", seed=seed + 2)
    proxy.drop_requests(probability=0.02, then="reset", after_bytes=30, seed=seed + 3)
    proxy.delay(probability=0.05, reply_ms=15, seed=seed + 4)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("skus", [("red",), ("red", "blue")], ids=lambda skus: "+".join(skus))
def test_callers_killed_and_replies_lost_never_oversell_nor_lose_an_order(
    skus: tuple[str, ...],
    own_server: EmbeddedServer,
    proxy: FaultProxy,
    operator: FlashSale,
    tmp_path: Path,
    long: bool,
) -> None:
    seed = 7 + len(skus)
    stock = [Sku(sku, stock=90, limit=LIMIT) for sku in skus]
    definition = Sale("race", stock, hold_ttl_ms=TTL_MS, limit=SALE_LIMIT, holds_max=16)
    sale = operator.open(definition)
    callers = Callers(proxy.url, definition, tmp_path)
    try:
        race(callers, proxy, seed, sale, seconds=60 if long else 8)
    finally:
        callers.stop()

    notes = callers.notes()
    events = events_of(sale)
    books_are_right(sale)
    SecondHand(definition).replay(events)
    holds = {
        (hold.buyer, hold.hold_id): hold
        for n in range(race_worker.BUYERS)
        for hold in sale.holds_of(f"buyer-{n}")
    }
    what_callers_were_told_is_true(notes, events, holds)
    every_unit_is_sold(sale)


def race(callers: Callers, proxy: FaultProxy, seed: int, sale: Any, *, seconds: int) -> None:
    """Let them order, and disturb them, until everything has happened that can.

    What chance did not bring in `seconds` is brought about: a run proves nothing about that.
    """
    chance = random.Random(seed)
    begun, rounds = time.monotonic(), 0
    while rounds % 10 or time.monotonic() < begun + seconds or not is_proof(callers, proxy):
        assert time.monotonic() < begun + seconds + 200, Counter(map(kind_of, callers.notes()))
        if rounds % 8 == 4:
            proxy.drop_replies(then="hang")  # nobody hears anything any more
            time.sleep(0.4)
        if rounds % 8 in (0, 4):
            proxy.pass_through()
            disturb(proxy, seed + rounds)
        time.sleep(chance.uniform(0.05, 0.3))
        callers.kill_one(chance)
        if chance.random() < 0.5:
            proxy.cut(chance.choice(["close", "reset"]))
        rounds += 1
    bring_about_what_is_missing(sale)
    proxy.pass_through()


def bring_about_what_is_missing(sale: Any) -> None:
    end, number = time.monotonic() + 200, 0
    while missing := missing_in(sale):
        assert time.monotonic() < end, missing
        for kind in missing:
            number += 1
            bring_about(kind, sale, f"guest-{number}")


def missing_in(sale: Any) -> set[EventKind]:
    """What has not happened yet."""
    of_others = {EventKind.STATE, EventKind.SET_ASIDE, EventKind.VOIDED}
    return set(EventKind) - of_others - kinds_of(sale).keys()


def bring_about(kind: EventKind, sale: Any, buyer: str) -> None:
    """Make it happen, past the disturbed network, unless the callers or the ttl are faster."""
    sku = next(iter(sale.snapshot().skus))
    sale.restock({sku: 2}, op_id=buyer)
    if kind is EventKind.TOMBSTONE:
        sale.release(buyer, "h")
        return
    sale.hold(buyer, {sku: 2}, hold_id="h")
    match kind:
        case EventKind.DROPPED:
            sale.confirm(buyer, "h", lines={sku: 1})
        case EventKind.CONFIRMED | EventKind.REFUNDED:
            sale.confirm(buyer, "h")
            if kind is EventKind.REFUNDED:
                sale.refund(buyer, "h", lines={sku: 1}, op_id=buyer)
        case EventKind.RELEASED:
            sale.release(buyer, "h")
        case EventKind.EXTENDED:
            sale.extend(buyer, "h", deadline_ms=time.time_ns() // 1_000_000 + 2 * TTL_MS)
        case EventKind.RETAKEN | EventKind.EXPIRED:
            time.sleep(2 * TTL_MS / 1000)
            sale.confirm(buyer, "h", late="retake")


def is_proof(callers: Callers, proxy: FaultProxy) -> bool:
    """Whether the race has seen enough of everything that every run brings with it."""
    told = Counter(map(kind_of, callers.notes()))
    return (
        callers.killed > 5
        and proxy.faults > 20
        and told["hold", "held"] > 20
        and told["confirm", "confirmed"] > 5
        and told["replayed"] > 0
        and told["OutcomeUnknown"] > 0
    )


def kind_of(note: dict[str, Any]) -> Any:
    """What `is_proof` counts a caller's note as."""
    if note.get("replayed"):
        return "replayed"
    return note.get("error") or (note.get("told"), note.get("outcome"))


def test_whatever_can_happen_in_a_race_can_be_brought_about(operator: FlashSale) -> None:
    sale = operator.open(Sale("quiet", [Sku("red", 0)], hold_ttl_ms=TTL_MS))
    bring_about_what_is_missing(sale)
    assert not missing_in(sale)
    books_are_right(sale)


ONE_HOLD = """
import sys
from flashsale import FlashSale
FlashSale.from_url(sys.argv[1], timeout_ms=60_000).sale("left").hold("ann", {"red": 2}, hold_id="h")
"""


def test_the_hold_of_a_caller_killed_after_the_commit_is_found_again_by_its_id(
    proxy: FaultProxy, operator: FlashSale, connect: Callable[..., FlashSale]
) -> None:
    sale = operator.open(Sale("left", [Sku("red", 5)]))
    # The server has no such script yet and says so; then the script is sent in full and runs.
    proxy.drop_replies(then="hang", only="EVAL")
    caller = subprocess.Popen([sys.executable, "-c", ONE_HOLD, proxy.url], env=environment())
    try:
        end = time.monotonic() + 60
        while sale.find("ann", "h") is None:
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        caller.kill()
        caller.wait()
    found = sale.find("ann", "h")
    assert found is not None
    proxy.pass_through()
    elsewhere = connect(proxy.url, timeout_ms=20_000).sale("left")
    again = elsewhere.hold("ann", {"red": 2}, hold_id="h")
    assert (again.outcome, again.replayed) == (Outcome.HELD, True)
    assert again.deadline_ms == found.original_deadline_ms
    assert elsewhere.confirm(again).outcome is Outcome.CONFIRMED
    assert books_are_right(sale).skus["red"].sold == 2


def every_unit_is_sold(sale: Any) -> None:
    """New buyers take whatever comes back, until nothing is left."""
    end, n = time.monotonic() + 60, 0
    while True:
        view: Snapshot = sale.snapshot()
        left = {s.sku: s.allotment - s.sold for s in view.skus.values() if s.allotment > s.sold}
        if not left:
            break
        assert time.monotonic() < end, view
        for sku in left:
            n += 1
            answer = sale.hold(f"late-{n}", {sku: 1}, hold_id="h")
            if answer.outcome is Outcome.HELD:
                sale.confirm(answer).unwrap()
            else:
                assert (answer.outcome, answer.may_return) == (Outcome.SOLD_OUT, True)
                time.sleep(0.02)
    final = books_are_right(sale)
    for units in final.skus.values():
        assert units.sold == units.allotment
        assert (units.available, units.held, units.set_aside) == (0, 0, 0)
        refused = sale.hold("nobody", {units.sku: 1}, hold_id="h")
        assert (refused.outcome, refused.may_return) == (Outcome.SOLD_OUT, False)
