"""Cues on a stage where time stands still, and a hand on every step of their settlement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from flashsale import (
    Answer,
    Cue,
    CueHandle,
    FlashSaleError,
    Key,
    SaleHandle,
    Settlement,
    draw,
    freezing,
    settling,
    verify,
    window,
)
from flashsale.batches import Item, run_all
from flashsale.calls import Call, Compute, Operation, Pause, Receive, Send
from flashsale.draw import Randomness
from flashsale.keys import CueKeys, ShardKeys
from support.lab import T0, Lab, dump_key

T = TypeVar("T")

KEY = Key("test", bytes(range(32)))
"""The draw key of the tests' shops."""

POSITION = 7_000_000
"""Where on the stream the tests' cues are; the server's time of that is T0."""

ONE: Mapping[str, int] = MappingProxyType({"red": 1})


class Tap(Struct, frozen=True):
    """A tap as a test tells it: how long after the cue its player showed what it showed."""

    buyer: str
    basket: Mapping[str, int] = ONE
    after_ms: int = 500
    minimum: Mapping[str, int] | None = None


class Tower:
    """A public source of randomness that says what a test tells it to."""

    def __init__(self, name: str = "tower", *, every_ms: int = 30_000) -> None:
        self.name, self.every_ms = name, every_ms
        self.values: dict[int, bytes] = {}
        self.asked: list[int] = []

    def round_after(self, at_ms: int) -> tuple[int, int]:
        number = at_ms // self.every_ms + 1
        return number, number * self.every_ms

    def fetch(self, round_number: int) -> Randomness | None:
        self.asked.append(round_number)
        value = self.values.get(round_number)
        return None if value is None else Randomness(value)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Let no round have come meanwhile."""
        values, self.values = self.values, {}
        yield
        self.values = values

    def say(self, cue: Cue, value: bytes = b"the value of the round") -> None:
        """Let the round of a cue have come."""
        assert cue.entropy_round is not None
        self.values[cue.entropy_round] = value


def open_cue(lab: Lab, sale: SaleHandle, cue_id: str = "drop", **rules: Any) -> CueHandle:
    """A cue at T0 with 3 red set aside and no reserve, unless the rules say otherwise; 16 s."""
    named: dict[str, Any] = {"at": POSITION, "cue_time_ms": T0, "stock": {"red": 3}}
    named["reserve_ms"] = 0
    return sale.cue(cue_id, **named | rules)


def proof(cue: Cue, buyer: str) -> str:
    return draw.proof_of(cue.nonce, cue.sale, cue.id, buyer)


def tap(handle: CueHandle, told: Tap | str, **more: Any) -> Any:
    """One tap through the public call."""
    told = Tap(told) if isinstance(told, str) else told
    options: dict[str, Any] = {
        "position_ms": POSITION + told.after_ms,
        "minimum": told.minimum,
        "proof": proof(handle.cue(), told.buyer),
    }
    return handle.enter(told.buyer, told.basket, **options | more)


def enter_all(lab: Lab, cue: Cue, taps: Sequence[Tap], *, shop: Any = None) -> list[Answer]:
    """Many taps, together in as few script calls as their order allows."""
    client = shop or lab.shop
    known = client.perform(window.know(cue.sale, cue.id))

    def check(told: Tap) -> Item:
        at = POSITION + told.after_ms
        return window.enter_item(known, told.buyer, told.basket, at, told.minimum, KEY)

    answers: list[Answer | FlashSaleError] = client.perform(
        run_all(window.enter_kind(cue.sale, known), taps, check)
    )
    assert all(isinstance(answer, Answer) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Answer)]


def close(lab: Lab, sale: SaleHandle, handle: CueHandle) -> None:
    """Let it be the moment at which the cue takes no more entries."""
    lab.set_time(sale, handle.cue().closes_at_ms)


def settled(lab: Lab, sale: SaleHandle, handle: CueHandle, **more: Any) -> Settlement:
    """Settle at the announced time, or later if it is later already, frozen at the close."""
    announce(lab, sale, handle, **more)
    return handle.settle(wait=False, **more)


def announce(lab: Lab, sale: SaleHandle, handle: CueHandle, **more: Any) -> None:
    """Freeze at the close, before a public seed comes; then let it be the announced time."""
    now, source = sale.snapshot().at_ms, more.get("entropy")
    lab.set_time(sale, max(now, handle.cue().closes_at_ms))
    with source.silent() if isinstance(source, Tower) else nullcontext():
        handle.freeze(wait=False, entropy=source)
    lab.set_time(sale, max(now, handle.cue().reveals_at_ms))


def name_of(handle: CueHandle, buyer: str) -> str:
    """The name in the record of a buyer, whether the buyer entered or not."""
    return draw.entrant_of(known_of(handle).salt, handle.sale, handle.id, buyer).hex()


def receipt_of(handle: CueHandle, buyer: str) -> str:
    """The opening of that name, which a buyer who enters is told."""
    return draw.opening_of(known_of(handle).salt, handle.sale, handle.id, buyer).hex()


def kept_entries(lab: Lab, handle: CueHandle) -> dict[str, str]:
    """What the server keeps of a cue's taps, by buyer: the entry that counts."""
    kept: Any = lab.raw.hgetall(CueKeys.of(handle.sale, handle.id).entries)
    return {buyer.decode(): text.decode() for buyer, text in kept.items()}


def known_of(handle: Any) -> window.Known:
    """All that a process knows of a cue, the secrets too; read once."""
    known: window.Known = handle._shop.perform(window.know(handle.sale, handle.id))
    return known


def seed_of(handle: CueHandle, key: Key = KEY) -> bytes:
    """By which a cue is drawn, unless the draw is a public one."""
    return window.seed_of(known_of(handle), key)


def named(handle: CueHandle, buyers: Sequence[str]) -> dict[str, str]:
    """Whose names these are."""
    salt, sale, cue = known_of(handle).salt, handle.sale, handle.id
    return {draw.entrant_of(salt, sale, cue, buyer).hex(): buyer for buyer in buyers}


def verified(handle: CueHandle) -> Any:
    """The record, which anybody can verify, also against the digest that was published."""
    record = handle.record()
    seen = handle.view()
    told = verify.verify(record, published_digest=seen.digest or None)
    assert told.ok, [check for check in told.checks if not check.ok]
    return record


def drawn_by(handle: CueHandle, buyers: Sequence[str]) -> list[tuple[str, dict[str, int]]]:
    """The winners that the record names, in order, by the names of their buyers."""
    who, record = named(handle, buyers), verified(handle)
    return [(who[name], dict(lines)) for name, lines in record["drawn"]]


def awarded_by(handle: CueHandle, buyers: Sequence[str]) -> list[tuple[str, str, dict[str, int]]]:
    """What the record says of those who were judged, in order."""
    who, record = named(handle, buyers), verified(handle)
    return [(who[name], outcome, dict(lines)) for name, outcome, lines in record["awarded"]]


# --- everything a sale and its cue consist of ---------------------------------------------


def keys_of(sale: SaleHandle, *cues: str) -> list[str]:
    """All keys of a sale and of these cues."""
    own = list(msgspec.structs.astuple(ShardKeys.of(sale.id)))
    for cue in cues:
        own += msgspec.structs.astuple(CueKeys.of(sale.id, cue))
    return own


def save(lab: Lab, sale: SaleHandle, *cues: str) -> dict[str, bytes | None]:
    """The keys' contents, to go back to."""
    return {key: lab.raw.dump(key) for key in keys_of(sale, *cues)}


def contents(lab: Lab, sale: SaleHandle, *cues: str) -> dict[str, Any]:
    """The same to be compared: equal hashes need not be stored in the same order."""
    return {key: dump_key(lab.raw, key) for key in keys_of(sale, *cues)}


def load(lab: Lab, saved: Mapping[str, bytes | None]) -> None:
    """Let everything be as it was."""
    lab.raw.delete(*saved)
    for key, content in saved.items():
        if content is not None:
            lab.raw.restore(key, 0, content)


# --- the settlement, step by step ---------------------------------------------------------


def settlement(cue: Cue, *, value: bytes | None = None, key: Key = KEY) -> Operation[Settlement]:
    """What a process does to settle a cue, in one operation."""
    source = Tower(cue.entropy_source) if cue.entropy_source else None
    frozen = yield from freezing.freeze(cue.sale, cue.id, source)
    found = None if value is None else Randomness(value)
    ready = yield from settling.prepare(frozen, key, found)
    return (yield from settling.finish(ready))


class Hand:
    """An operation run call by call: `calls` is how many it has made, `result` what came of it."""

    def __init__(self, lab: Lab, operation: Operation[Any], *, caller_ms: int = T0) -> None:
        self._lab, self._operation, self._caller_ms = lab, operation, caller_ms
        self.calls, self.done = 0, False
        self._replies: list[Any] = []
        self.result: Any = None
        self._step: Any = None
        self._go(None)

    def call(self) -> bool:
        """Make the next call; False if there is none."""
        if self.done:
            return False
        step = self._step
        self.calls += 1
        if isinstance(step, Send):
            self._replies.append(self._lab.run(step.call, caller_ms=self._caller_ms))
            self._go(len(self._replies) - 1)
        else:
            self._go(self._lab.run(step, caller_ms=self._caller_ms))
        return True

    def finish(self) -> Any:
        """Make all calls that are left."""
        while self.call():
            pass
        return self.result

    @property
    def next(self) -> Call | None:
        """The call that comes next."""
        step = None if self.done else self._step
        return step.call if isinstance(step, Send) else step

    def drop(self) -> None:
        """The process has died: nothing of it happens any more."""
        self._operation.close()
        self.done = True

    def _here(self, step: Any) -> Any:
        """What needs no server."""
        if isinstance(step, Receive):
            return self._replies[step.ticket]
        assert isinstance(step, (Compute, Pause)), step
        return step.function() if isinstance(step, Compute) else True

    def _go(self, reply: Any) -> None:
        try:
            self._step = self._operation.send(reply)
            while not isinstance(self._step, (Call, Send)):
                self._step = self._operation.send(self._here(self._step))
        except StopIteration as end:
            self.result, self.done = end.value, True
