"""The ledger: everything that happened to a shard's stock, in order, at least once to any reader.

Every entry carries the epoch, a dense sequence number and its time; one entry may hold many
events, those of one batch. lua/ledger/ reads, registers readers and trims.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec
from msgspec import Struct

from flashsale import limits
from flashsale.batches import error_of
from flashsale.calls import Call, Operation, expect, outcome_of, reading
from flashsale.errors import InvalidRequest, ProtocolError, Rejected
from flashsale.keys import ShardKeys
from flashsale.models import Outcome, SaleState
from flashsale.scripts import load_script

TRIM_MAX = 1_000
"""Ledger entries trimmed by one call."""

COUNT_MAX = 1_000
"""Entries in one read."""


class EventKind(Enum):
    """What happened. `letter` is its field in a ledger entry."""

    letter: str

    def __new__(cls, value: str, letter: str) -> EventKind:
        """A member whose value is its name in words."""
        member = object.__new__(cls)
        member._value_ = value
        member.letter = letter
        return member

    OPENED = ("opened", "o")
    EXPIRED = ("expired", "e")
    TOMBSTONE = ("tombstone", "t")
    HELD = ("held", "h")
    RETAKEN = ("retaken", "a")
    CONFIRMED = ("confirmed", "c")
    DROPPED = ("dropped", "d")
    RELEASED = ("released", "r")
    EXTENDED = ("extended", "x")
    REFUNDED = ("refunded", "f")
    SET_ASIDE = ("set_aside", "v")
    RESTOCKED = ("restocked", "k")
    STATE = ("state", "s")
    VOIDED = ("voided", "z")


_HOLD_KINDS = tuple(
    kind
    for kind in EventKind
    if kind
    not in (
        EventKind.OPENED,
        EventKind.SET_ASIDE,
        EventKind.RESTOCKED,
        EventKind.STATE,
        EventKind.VOIDED,
    )
)


class Event(Struct, frozen=True):
    """One thing that happened.

    lines: the units concerned, by sku; signed changes for RESTOCKED and SET_ASIDE (positive: set
    aside for the cue; negative: no longer); empty for TOMBSTONE. cue: for SET_ASIDE and VOIDED.
    deadline_ms: for HELD and EXTENDED. op_id: for REFUNDED and RESTOCKED.
    text: the definition (JSON) for OPENED, the new state for STATE, the reason for VOIDED.
    """

    kind: EventKind
    buyer: str = ""
    hold_id: str = ""
    lines: Mapping[str, int] = {}
    deadline_ms: int | None = None
    op_id: str = ""
    channel: str = ""
    note: str = ""
    text: str = ""
    cue: str = ""


class Entry(Struct, frozen=True):
    """One ledger entry; (epoch, sequence, index of the event) names an event for ever.

    ended: cues whose set-aside ended with it. winners_of: the cue whose winners its new holds are.
    """

    epoch: int
    sequence: int
    at_ms: int
    events: tuple[Event, ...]
    ended: tuple[str, ...] = ()
    winners_of: str = ""


class Page(Struct, frozen=True):
    """Entries after some point, and what the shard said about its ledger at that moment.

    sequence: the last entry there is. checkpoint: balances at checkpoint_sequence (JSON, ""
    if nothing was trimmed). cursor: the first entry not yet swept for deadlines. readers: per
    registered reader the last sequence it has finished.
    """

    epoch: int
    sequence: int
    checkpoint_sequence: int
    checkpoint: str
    cursor: int
    readers: dict[str, int]
    entries: tuple[Entry, ...]

    @property
    def torn(self) -> Entry | None:
        """The first of `behind`."""
        return self.behind[0] if self.behind else None

    @property
    def behind(self) -> tuple[Entry, ...]:
        """Entries behind the sequence that the sale stores, of those that were read.

        What they tell was not, or not all, written: no script stops there, but something has; or
        the sequence that the sale stores was lost.
        """
        stored = (self.epoch, self.sequence)
        return tuple(each for each in self.entries if (each.epoch, each.sequence) > stored)


class Names(Struct, frozen=True):
    """What reading needs of a sale's definition: its skus in order, and its ttl."""

    skus: tuple[str, ...]
    hold_ttl_ms: int


class Trimmed(InvalidRequest):
    """What was to be read has been trimmed, up to and including sequence `checkpoint`."""

    def __init__(self, checkpoint: int) -> None:
        rule = f"must be at least {checkpoint}, up to where the ledger is trimmed"
        super().__init__("after", rule)
        self.checkpoint = checkpoint

    def __reduce__(self) -> Any:
        return (type(self), (self.checkpoint,))


# --- reading ------------------------------------------------------------------------------


def read(sale: str, names: Names, after: int, count: int) -> Operation[Page]:
    """Up to `count` entries that follow sequence `after`."""
    after = limits.check_int("after", after, 0, 2**53)
    count = limits.check_int("count", count, 1, COUNT_MAX)
    keys = ShardKeys.of(sale)
    own = (keys.sale, keys.ledger, keys.readers)
    reply = yield Call(load_script("ledger/read"), own, (after, count))
    epoch, _, sequence, code, trimmed, checkpoint, cursor, readers, raw = expect(reply, 9, "read")
    _reject(sale, code)
    entries = tuple(_entry(names, raw_id, fields) for raw_id, fields in raw)
    if trimmed > sequence:  # else, trimmed under its readers, they would begin again for ever
        text = f"the field checkpoint_sequence of the key sale is {trimmed}, ahead of {sequence}"
        raise ProtocolError(f"{text}, the sequence of sale {sale!r}")
    if after < trimmed:
        raise Trimmed(trimmed)
    return Page(
        epoch,
        sequence,
        trimmed,
        checkpoint.decode(errors="replace"),  # JSON, which whoever needs it reads
        cursor,
        dict(_finished(*readers[at : at + 2]) for at in range(0, len(readers), 2)),
        entries,
    )


def _finished(reader: bytes, sequence: bytes) -> tuple[str, int]:
    name = reader.decode(errors="backslashreplace")
    with reading("readers", name):
        return name, int(sequence)


def _entry(names: Names, raw_id: bytes, flat: Sequence[bytes]) -> Entry:
    epoch, _, sequence = raw_id.decode().partition("-")
    fields = {flat[at].decode(): flat[at + 1] for at in range(0, len(flat), 2)}
    try:
        at_ms = int(fields["t"])
        events = tuple(_events(names, at_ms, fields))
        ended = msgspec.msgpack.decode(fields.get("ve", b"\x90"), type=tuple[str, ...])
    except (KeyError, ValueError, IndexError, TypeError, msgspec.MsgspecError) as error:
        raise ProtocolError(f"ledger entry {raw_id.decode()} cannot be read: {error!r}") from error
    winners_of = fields.get("hw", b"").decode()
    return Entry(int(epoch), int(sequence), at_ms, events, ended, winners_of)


def _events(names: Names, at_ms: int, fields: Mapping[str, bytes]) -> Iterator[Event]:
    if "o" in fields:
        yield Event(EventKind.OPENED, text=fields["o"].decode())
    for kind in _HOLD_KINDS:
        if f"{kind.letter}b" in fields:
            yield from _hold_events(names, at_ms, kind, fields)
    for cue, *changes in msgspec.msgpack.decode(fields["v"]) if "v" in fields else ():
        yield Event(EventKind.SET_ASIDE, lines=_changes(names, changes), cue=cue)
    if "k" in fields:
        op_id, changes = msgspec.msgpack.decode(fields["k"])
        yield Event(EventKind.RESTOCKED, op_id=op_id, lines=_changes(names, changes))
    if "s" in fields:
        yield Event(EventKind.STATE, text=SaleState(fields["s"].decode()).value)
    if "z" in fields:
        cue, reason, _ = msgspec.msgpack.decode(fields["z"], type=tuple[str, str, int])
        yield Event(EventKind.VOIDED, text=reason, cue=cue)


def _hold_events(
    names: Names, at_ms: int, kind: EventKind, fields: Mapping[str, bytes]
) -> Iterator[Event]:
    decode = msgspec.msgpack.decode
    letter = kind.letter
    buyers, ids = decode(fields[f"{letter}b"]), decode(fields[f"{letter}i"])
    texts, which = [""], [1] * len(buyers)
    if packed := fields.get(f"{letter}l"):
        texts, *rest = decode(packed)
        which = rest[0] if rest else which
    lines = [_lines(names, text) for text in texts]
    if kind is EventKind.TOMBSTONE:
        lines = [{}]
    channels, notes = decode(fields["hm"]) if letter == "h" and "hm" in fields else ([], [])
    deadlines = decode(fields["xd"]) if letter == "x" else []
    op_ids = decode(fields["fo"]) if letter == "f" else []
    for n, (buyer, hold_id, number) in enumerate(zip(buyers, ids, which, strict=True)):
        deadline = at_ms + names.hold_ttl_ms if letter == "h" else None
        yield Event(
            kind,
            buyer,
            hold_id,
            lines[number - 1],
            deadlines[n] if deadlines else deadline,
            op_ids[n] if op_ids else "",
            channels[n] if channels else "",
            notes[n] if notes else "",
        )


def _changes(names: Names, flat: Sequence[int]) -> dict[str, int]:
    return {names.skus[flat[at]]: flat[at + 1] for at in range(0, len(flat), 2)}


def _lines(names: Names, text: str) -> dict[str, int]:
    """A basket's text: "" is one unit of the first sku, "3*2,5" two of sku 3 and one of sku 5."""
    if text == "":
        return {names.skus[0]: 1}
    lines = {}
    for line in text.split(","):
        index, _, qty = line.partition("*")
        lines[names.skus[int(index)]] = int(qty or 1)
    return lines


# --- readers and trimming -----------------------------------------------------------------


def _reader(sale: str, verb: str, reader: str, sequence: int) -> Operation[int]:
    reader = limits.check_id("reader", reader)
    sequence = limits.check_int("sequence", sequence, 0, 2**53)
    keys = ShardKeys.of(sale)
    call = Call(load_script("ledger/reader"), (keys.sale, keys.readers), (verb, reader, sequence))
    _, _, finished, code = expect((yield call), 4, "reader")
    if code == b"!":
        rules = {
            "ack": "must be registered, and sequence at most the ledger's last",
            "register": "is one too many: at most 64 readers",
        }
        raise InvalidRequest("reader", rules.get(verb, "cannot be changed so"))
    if code and (error := error_of(outcome_of(code.decode(), "reader"), "reader")):
        raise error
    _reject(sale, code)
    return int(finished)


def register(sale: str, reader: str) -> Operation[int]:
    """Register a reader; nothing it has not finished is trimmed. The sequence it starts after."""
    return (yield from _reader(sale, "register", reader, 0))


def acknowledge(sale: str, reader: str, sequence: int) -> Operation[int]:
    """Say that a reader has finished everything up to `sequence`; never goes back."""
    return (yield from _reader(sale, "ack", reader, sequence))


def forget(sale: str, reader: str) -> Operation[int]:
    """Remove a reader; the last sequence it had finished."""
    return (yield from _reader(sale, "forget", reader, 0))


def trim_to(sale: str, before: int, upto: int, checkpoint: str) -> Operation[int]:
    """Trim the ledger up to a sequence, keeping the balances there; the new checkpoint.

    `before` is the checkpoint as it is known, at most TRIM_MAX entries before.
    """
    keys = ShardKeys.of(sale)
    own = (keys.sale, keys.ledger, keys.readers)
    args = (before, upto, checkpoint)
    _, _, now_at, code = expect((yield Call(load_script("ledger/trim"), own, args)), 4, "trim")
    if code and outcome_of(code.decode(), "trim") not in (Outcome.CONFLICT, Outcome.READERS_BEHIND):
        _reject(sale, code)
    return int(now_at)


def _reject(sale: str, code: Any) -> None:
    if code:
        raise Rejected(outcome_of(code.decode(), "ledger"), f"sale {sale!r}")
