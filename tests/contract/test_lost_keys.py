"""A key that is lost, of another type or full of something else: named, never taken for data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from contract.test_wrong_types import VERBS, busy
from flashsale import FlashSaleError, Outcome, ProtocolError, Rejected, SaleHandle, StoreUnavailable
from flashsale.keys import CueKeys, ShardKeys
from support.cues import Tap, enter_all, open_cue, settled
from support.lab import T0, Lab

NAMES = ShardKeys.__struct_fields__


def rich(lab: Lab) -> SaleHandle:
    """A sale that has needed all of its keys but those of a waiting room, caps and lags."""
    sale = busy(lab)
    open_cue(lab, sale, stock={"red": 3})
    return sale


# --- the audit ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["a string", "a list", "a hash or a set"])
@pytest.mark.parametrize("name", NAMES)
def test_the_audit_names_a_key_of_another_type_and_never_raises(
    lab: Lab, name: str, kind: str
) -> None:
    sale = rich(lab)
    key = getattr(lab.keys(sale), name)
    lab.raw.delete(key)
    if kind == "a list" or (kind == "a string" and name == "vacant"):
        lab.raw.rpush(key, "x")
    elif kind == "a string":
        lab.raw.set(key, "x")
    elif name in ("ledger", "deadlines", "vacant"):
        lab.raw.hset(key, "x", "y")
    else:
        lab.raw.sadd(key, "x")
    assert f"key '{name}' is of another type" in sale.audit().problems


@pytest.mark.parametrize("name", ["sale", "skus", "stock", "buyers", "ledger", "deadlines",
                                  "restocks", "cues", "cue:drop"])  # fmt: skip
def test_the_audit_names_a_key_that_must_be_there_and_is_not(lab: Lab, name: str) -> None:
    sale = rich(lab)
    own = msgspec.structs.asdict(lab.keys(sale)) | {"cue:drop": CueKeys.of(sale.id, "drop").cue}
    assert sale.audit().ok
    lab.raw.delete(own[name])
    report = sale.audit()
    assert f"key '{name}' is missing" in report.problems
    assert len([problem for problem in report.problems if problem.startswith("key ")]) == 1


def test_a_key_that_need_not_be_there_is_not_missed(lab: Lab) -> None:
    assert lab.open().audit().ok


def test_an_audit_of_no_sale_and_of_a_tombstone_is_rejected(lab: Lab) -> None:
    with pytest.raises(Rejected) as caught:
        lab.shop.sale(lab.new_id()).audit()
    assert caught.value.outcome is Outcome.SALE_UNKNOWN
    sale = lab.open()
    sale.end()
    sale.purge()
    with pytest.raises(Rejected) as caught:
        sale.audit()
    assert caught.value.outcome is Outcome.PURGED


GARBLED: dict[str, Callable[[Any, ShardKeys], object]] = {
    "definition": lambda raw, keys: raw.hset(keys.sale, "definition", "{"),
    "no definition": lambda raw, keys: raw.hdel(keys.sale, "definition"),
    "rules": lambda raw, keys: raw.hset(keys.sale, "rules", "x"),
    "no sequence": lambda raw, keys: raw.hdel(keys.sale, "sequence"),
    "state": lambda raw, keys: raw.hset(keys.sale, "state", "asleep"),
    "checkpoint": lambda raw, keys: raw.hset(keys.sale, "checkpoint", "[1]"),
    "a sku's name": lambda raw, keys: raw.hdel(keys.stock, "0n"),
    "a sku's index": lambda raw, keys: raw.hdel(keys.skus, "red"),
    "a counter": lambda raw, keys: raw.hset(keys.stock, "0a", "many"),
    "a lost counter": lambda raw, keys: raw.hdel(keys.stock, "1x"),
    "a reader": lambda raw, keys: raw.hset(keys.readers, "sink", "soon"),
    "a cue's sequence": lambda raw, keys: raw.hset(keys.cues, "drop", "soon"),
    "a cue's part": lambda raw, keys: raw.hset(keys.stock, "0x:drop", "some"),
    "a record": lambda raw, keys: raw.hset(keys.buyers, "held", "1h40000x"),
    "a record's letter": lambda raw, keys: raw.hset(keys.buyers, "held", "1z4000000001500h"),
    "an entry": lambda raw, keys: raw.xadd(keys.ledger, {"t": "soon"}, id="1-99999"),
    "an entry's holds": lambda raw, keys: raw.xadd(
        keys.ledger, {"t": T0, "hb": b"\xc1", "hi": b"\xc1"}, id="1-99999"
    ),
}


@pytest.mark.parametrize("what", GARBLED)
def test_the_audit_says_what_it_cannot_read_and_never_raises(lab: Lab, what: str) -> None:
    sale = rich(lab)
    GARBLED[what](lab.raw, lab.keys(sale))
    assert not sale.audit().ok


# Of each field: what it is set to (None: it is lost), and which of the sale's readers need it.
READERS = ["snapshot", "trim", "repair", "audit"]
FIELDS: list[tuple[str, str, str | None, list[str]]] = [
    *(("sale", "definition", value, READERS) for value in (None, "{", "-3")),
    *(("sale", "state", value, ["snapshot", "audit"]) for value in (None, "asleep", "-3")),
    *(("stock", f"0{letter}", "junk", READERS) for letter in "tlaxhs"),
    ("stock", "0n", "junk", READERS),
    ("sale", "checkpoint", None, READERS[1:]),
    *(("sale", "checkpoint", value, ["trim", "audit"]) for value in ("junk", "-3", "{}")),
    *(("sale", "checkpoint_sequence", value, READERS[1:]) for value in (None, "soon", "-3")),
    ("readers", "sink", "soon", READERS[1:]),
    ("stock", "0x:drop", "some", ["audit"]),
    ("cues", "drop", "soon", ["audit", "purge"]),
]


@pytest.mark.parametrize(("key", "field", "value", "readers"), FIELDS)
def test_whoever_reads_a_field_that_is_lost_or_unreadable_names_it(
    lab: Lab, key: str, field: str, value: str | None, readers: list[str]
) -> None:
    sale = rich(lab)
    sale.ledger.register("sink")
    sale.ledger.ack("sink", 3)
    lab.set_time(sale, T0 + 100_000)
    sale.expire()
    name = getattr(lab.keys(sale), key)
    if value is None:
        lab.raw.hdel(name, field)
    else:
        lab.raw.hset(name, field, value)
    read: dict[str, Callable[[], object]] = {
        "snapshot": sale.snapshot,
        "trim": sale.ledger.trim,
        "repair": sale.repair,
        "purge": sale.purge,
    }
    named = f"FLASHSALE_DAMAGED the field {field} of the key {key} of this sale"
    for reader in readers:
        if reader == "audit":
            assert named in sale.audit().problems[-1]
            continue
        with pytest.raises(StoreUnavailable, match=named):
            read[reader]()


@pytest.mark.parametrize("record", ["junk", "-3", "1h40000x", "1z4000000001500h"])
def test_the_audit_names_whose_record_cannot_be_read_and_goes_on(lab: Lab, record: str) -> None:
    sale = rich(lab)
    lab.raw.hset(lab.keys(sale).buyers, "held", record)
    lab.raw.hincrby(lab.keys(sale).stock, "0a", 1)
    problems = sale.audit().problems
    assert "the record of buyer 'held' cannot be read" in problems
    assert any("available is" in problem for problem in problems)


# --- verbs --------------------------------------------------------------------------------

LOST_SKUS = ["hold", "hold, second", "hold_many", "confirm in part", "refund", "restock",
             "snapshot"]  # fmt: skip
LOST_STOCK = [*LOST_SKUS, "confirm", "confirm an extended one", "release",
              "release an extended one", "find"]  # fmt: skip
CELLS = [("skus", verb) for verb in LOST_SKUS] + [("stock", verb) for verb in LOST_STOCK]


@pytest.mark.parametrize(("key", "verb"), CELLS)
def test_a_verb_that_needs_a_lost_key_says_so_and_writes_nothing(
    lab: Lab, key: str, verb: str
) -> None:
    sale = busy(lab)
    lab.raw.delete(getattr(lab.keys(sale), key))
    before = lab.dump(sale)
    result: object = None
    with pytest.raises(
        StoreUnavailable, match=f"FLASHSALE_DAMAGED .* key {key} of this sale"
    ) as raised:
        result = VERBS[verb](sale)
        if isinstance(result, list):
            raise result[0]
    assert str(raised.value).endswith("is lost or unreadable")  # not with a script's line
    assert lab.dump(sale) == before


@pytest.mark.parametrize("verb", [v for v in LOST_STOCK if v != "snapshot"])
@pytest.mark.parametrize("letter", "anxhstl")
def test_a_lost_field_of_the_stock_never_tears_a_call(lab: Lab, verb: str, letter: str) -> None:
    # What is not read by a verb it does not need; what it reads it checks before it writes.
    sale = busy(lab)
    lab.raw.hdel(lab.keys(sale).stock, f"0{letter}", f"1{letter}")
    before = lab.dump(sale)
    try:
        result = VERBS[verb](sale)
        error = result[0] if isinstance(result, list) else None
    except FlashSaleError as caught:
        error = caught
    if isinstance(error, FlashSaleError):
        assert "FLASHSALE_DAMAGED" in str(error)
        assert lab.dump(sale) == before
    entries = lab.raw.xrange(lab.keys(sale).ledger)
    assert int(lab.raw.hget(lab.keys(sale).sale, "sequence")) == len(entries)


def test_a_sweep_of_a_sale_whose_stock_is_lost_writes_nothing(lab: Lab) -> None:
    sale = busy(lab)
    lab.raw.delete(lab.keys(sale).stock)
    lab.set_time(sale, T0 + 1_000)
    before = lab.dump(sale)
    for verb in ("expire", "pause", "extend"):
        with pytest.raises(StoreUnavailable, match="FLASHSALE_DAMAGED"):
            VERBS[verb](sale)
    assert lab.dump(sale) == before


@pytest.mark.parametrize("text", [None, "none"])
@pytest.mark.parametrize("verb", ["hold", "hold, second", "hold_many"])
def test_a_lost_limit_is_not_the_lack_of_one(lab: Lab, verb: str, text: str | None) -> None:
    sale = busy(lab)
    for field in ("0l", "1l"):
        assert lab.raw.hget(lab.keys(sale).stock, field) == b""
        lab.raw.hdel(lab.keys(sale).stock, field)
        if text is not None:
            lab.raw.hset(lab.keys(sale).stock, field, text)
    before = lab.dump(sale)
    with pytest.raises(StoreUnavailable, match="FLASHSALE_DAMAGED the field [01]l of the key"):
        result = VERBS[verb](sale)
        raise result[0] if isinstance(result, list) else AssertionError(result)
    assert lab.dump(sale) == before


UNREADABLE: dict[str, tuple[str, ...]] = {
    "state": ("asleep", ""),
    "rules": (),
    "due": ("soon", "-3", "1.5"),
} | dict.fromkeys(("epoch", "sequence", "now", "cursor", "seats"), ("soon", "-3", ""))
"""Of every field that each call reads of the `sale` hash: what it cannot be."""


@pytest.mark.parametrize("due", [False, True], ids=["", "due"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_field_of_the_sale_that_is_lost_or_unreadable_stops_every_verb_before_it_writes(
    lab: Lab, verb: str, due: bool
) -> None:
    sale = busy(lab)
    lab.set_time(sale, T0 + (1_000 if due else 500))
    key = lab.keys(sale).sale
    for field, texts in UNREADABLE.items():
        whole = lab.raw.hget(key, field)
        for text in [None, *texts]:
            lab.raw.hdel(key, field) if text is None else lab.raw.hset(key, field, text)
            before = lab.dump(sale)
            try:
                result = VERBS[verb](sale)
                said = result[0] if isinstance(result, list) else result
            except StoreUnavailable as error:
                said = error
            assert f"FLASHSALE_DAMAGED the field {field} of the key sale" in str(said), text
            assert lab.dump(sale) == before, (field, text)
        lab.raw.hset(key, field, whole)
    assert sale.audit().ok


# --- the end of a reserve, and a torn entry -----------------------------------------------


def test_who_is_refused_a_cues_units_does_not_end_its_reserve_in_the_ledger(lab: Lab) -> None:
    sale = lab.open({"red": 10}, limits={"red": 2})
    cue = open_cue(lab, sale, stock={"red": 3}, reserve_ms=60_000)
    enter_all(lab, cue.cue(), [Tap("ann"), Tap("bob")])
    sale.hold("ann", {"red": 2}, hold_id="h").unwrap()  # ann is at her limit when she is drawn
    settled(lab, sale, cue)
    entries = sale.ledger.read(count=1_000).entries
    moves = [event for entry in entries for event in entry.events if event.cue == "drop"]
    assert all(event.lines for event in moves), moves
    assert sale.audit().ok


def test_the_audit_sees_a_reserve_that_ended_in_the_ledger_alone(lab: Lab) -> None:
    sale = lab.open()
    open_cue(lab, sale, stock={"red": 3})
    sequence = sale.snapshot().sequence + 1
    fields = {"t": T0, "v": msgspec.msgpack.encode([["drop"]])}
    lab.raw.xadd(lab.keys(sale).ledger, fields, id=f"1-{sequence}")
    lab.raw.hset(lab.keys(sale).sale, "sequence", sequence)
    assert sale.audit().problems == (
        "cue 'drop': the ledger says that its reserve has ended, it has not",
    )


def test_the_audit_names_an_entry_behind_the_sequence_and_every_writing_verb_says_so(
    lab: Lab,
) -> None:
    sale = busy(lab)
    keys = lab.keys(sale)
    sequence = sale.snapshot().sequence
    lab.raw.xadd(keys.ledger, {"t": T0, "s": "paused"}, id=f"1-{sequence + 1}")
    (problem,) = sale.audit().problems
    assert problem.startswith(f"ledger: entry 1-{sequence + 1} is torn")
    for verb in ("hold", "confirm", "release", "extend", "refund", "restock", "pause"):
        with pytest.raises(StoreUnavailable, match="not applied: .* torn .* audit says"):
            VERBS[verb](sale)


def test_a_sale_that_is_not_damaged_keeps_its_own_refusals(lab: Lab) -> None:
    sale = busy(lab)
    assert sale.hold("new", {"green": 1}, hold_id="h").outcome is Outcome.SKU_UNKNOWN
    assert sale.restock({"green": 1}, op_id="o").outcome is Outcome.SKU_UNKNOWN
    lab.raw.hset(lab.keys(sale).sale, "format", "9")
    with pytest.raises(ProtocolError, match="FLASHSALE_FORMAT"):
        sale.audit()
