"""The audit finds whatever disagrees, names it, and finds nothing where nothing is wrong."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Container
from typing import Any, TypeVar

import msgspec
import pytest

from flashsale import FlashSale, FlashSaleError, HoldRequest, SaleHandle, audit, repair
from flashsale.calls import Operation
from support.cues import Tap, drawn_by, enter_all, open_cue, settled
from support.lab import T0, Lab
from support.shells import connect


def busy(lab: Lab) -> SaleHandle:
    """A sale with a hold in every state; red is limited to 9 a buyer, the sale to 12."""
    sale = lab.open({"red": 50, "blue": 50}, limits={"red": 9}, limit=12)
    sale.hold("late", {"red": 1}, hold_id="h").unwrap()
    lab.set_time(sale, T0 + 1_000)
    sale.expire()
    for buyer in ("ann", "bob", "cyd", "dan"):
        sale.hold(buyer, {"red": 2, "blue": 1}, hold_id="h").unwrap()
    sale.extend("dan", "h", deadline_ms=T0 + 5_000).unwrap()
    sale.confirm("ann", "h").unwrap()
    sale.confirm("bob", "h", lines={"red": 1}).unwrap()
    sale.release("cyd", "h").unwrap()
    sale.release("eve", "unknown").unwrap()
    sale.refund("ann", "h", lines={"red": 1}, op_id="r").unwrap()
    sale.restock({"red": 5, "blue": -1}, op_id="o").unwrap()
    sale.pause()
    lab.set_time(sale, T0 + 1_500)
    sale.confirm("late", "h", late="retake").unwrap()
    sale.hold_many([HoldRequest(f"x{n}", {"blue": 1}, "h") for n in range(3)])
    sale.resume()
    sale.hold_many([HoldRequest(f"x{n}", {"red": 1}, "h") for n in range(3)])
    return sale


def test_nothing_is_wrong_with_a_sale_to_which_everything_has_happened(lab: Lab) -> None:
    sale = busy(lab)
    report = sale.audit()
    assert (report.ok, report.problems, report.truncated) == (True, (), False)
    assert (report.sale, report.epoch, report.sequence) == (sale.id, 1, sale.snapshot().sequence)
    assert (report.entries, report.checkpoint) == (report.sequence, 0)
    assert (report.buyers, report.holds) == (9, 9)
    assert report.events > report.entries


# --- corrupting the state -----------------------------------------------------------------


class Vandal:
    """Changes a sale behind the library's back."""

    def __init__(self, lab: Lab, sale: SaleHandle) -> None:
        self.raw: Any = lab.raw
        self.keys = lab.keys(sale)

    def add(self, counter: str, step: int) -> object:
        return self.raw.hincrby(self.keys.stock, counter, step)

    def move(self, source: str, target: str) -> None:
        self.add(source, -1)
        self.add(target, 1)

    def record(self, buyer: str, old: bytes, new: bytes) -> None:
        record = self.raw.hget(self.keys.buyers, buyer)
        assert record.count(old) == 1, record
        self.raw.hset(self.keys.buyers, buyer, record.replace(old, new))

    def add_record(self, buyer: str, text: str) -> object:
        return self.raw.hset(self.keys.buyers, buyer, text)

    def ledger(self, change: Callable[[list[Any]], list[Any]]) -> None:
        """Write the ledger again, changed; its entries are immutable."""
        entries = change(self.raw.xrange(self.keys.ledger))
        self.raw.delete(self.keys.ledger)
        for number, fields in entries:
            self.raw.xadd(self.keys.ledger, fields, id=number)

    def field(self, number: int, name: bytes, change: Callable[[Any], Any]) -> None:
        """Change a msgpack field of an entry."""

        def edit(entries: list[Any]) -> list[Any]:
            fields = entries[number][1]
            value = msgspec.msgpack.decode(fields[name])
            fields[name] = msgspec.msgpack.encode(change(value))
            return entries

        self.ledger(edit)

    def entry(self, letter: bytes) -> int:
        """The index of the first entry with this field."""
        entries = self.raw.xrange(self.keys.ledger)
        return next(n for n, (_, fields) in enumerate(entries) if letter in fields)

    def swap(self, one: int, other: int) -> None:
        def edit(entries: list[Any]) -> list[Any]:
            numbers = [number for number, _ in entries]
            bodies = [fields for _, fields in entries]
            bodies[one], bodies[other] = bodies[other], bodies[one]
            return list(zip(numbers, bodies, strict=True))

        self.ledger(edit)

    def time(self, number: int, at_ms: int) -> None:
        def edit(entries: list[Any]) -> list[Any]:
            entries[number][1][b"t"] = at_ms
            return entries

        self.ledger(edit)

    def epoch(self, number: int) -> None:
        self.ledger(
            lambda entries: [
                (b"2-" + name.partition(b"-")[2], fields) if n >= number else (name, fields)
                for n, (name, fields) in enumerate(entries)
            ]
        )


Act = Callable[[Vandal], object]
T = TypeVar("T")


def add_one(counter: str) -> Act:
    return lambda vandal: vandal.add(counter, 1)


# What is done to the sale, and what a problem of the report must say.
COUNTERS: dict[str, tuple[Act, str]] = {
    f"counter {counter}": (add_one(f"0{counter}"), rf"sku 'red': {name} is \d+, ")
    for counter, name in {
        "t": "allotment",
        "a": "available",
        "x": "set_aside",
        "h": "held",
        "s": "sold",
    }.items()
}
STOCK: dict[str, tuple[Act, str]] = {
    "conservation": (lambda v: v.add("1a", 1), "sku 'blue': allotment 49 is not available"),
    "a unit moved from available to sold": (lambda v: v.move("0a", "0s"), "sku 'red': sold is"),
    "a unit moved from held to available": (lambda v: v.move("0h", "0a"), "sku 'red': held is"),
    "a unit of another sku": (lambda v: v.move("0h", "1h"), "sku 'blue': held is"),
    "a negative counter": (lambda v: (v.add("0x", -1), v.add("0a", 1)), "set_aside is -1"),
    "limit of a sku": (lambda v: v.raw.hset(v.keys.stock, "0l", 10), "sku 'red': limit is 10"),
    "state of the sale": (
        lambda v: v.raw.hset(v.keys.sale, "state", "ended"),
        "the sale is ended, the ledger says running",
    ),
}
RECORDS: dict[str, tuple[Act, str]] = {
    "a missing record": (
        lambda v: v.raw.hdel(v.keys.buyers, "dan"),
        "hold 'h' of buyer 'dan' is in the ledger, not in the buyer's record",
    ),
    "a missing record of a tombstone": (
        lambda v: v.raw.hdel(v.keys.buyers, "eve"),
        "hold 'unknown' of buyer 'eve' is in the ledger, not in",
    ),
    "a missing hold": (
        lambda v: v.add_record("ann", "1r4000000002000other"),
        "hold 'h' of buyer 'ann' is in the ledger, not in",
    ),
    "an extra record": (
        lambda v: v.add_record("mallory", "1c4000000002000h"),
        "hold 'h' of buyer 'mallory' is in the record, not in the ledger",
    ),
    "an extra hold without units": (
        lambda v: v.record("ann", b"1c", b"1r4000000002000extra;c"),
        "hold 'extra' of buyer 'ann' is in the record, not in the ledger",
    ),
    "held made confirmed": (
        lambda v: v.record("dan", b"1h", b"1c"),
        "hold 'h' of buyer 'dan' is confirmed, the ledger says held",
    ),
    "confirmed made held": (
        lambda v: v.record("late", b"1c", b"1h"),
        # It is shown as expired, being overdue.
        "hold 'h' of buyer 'late' is expired, the ledger says confirmed",
    ),
    "released made expired": (
        lambda v: v.record("cyd", b"1r", b"1e"),
        "hold 'h' of buyer 'cyd' is expired, the ledger says released",
    ),
    "other lines": (
        lambda v: v.record("dan", b"0*2,1", b"0,1*2"),
        "hold 'h' of buyer 'dan' has other lines than the ledger says",
    ),
    "more units": (
        lambda v: v.record("dan", b"0*2", b"0*3"),
        "sku 'red': the buyers' records have 6 units held",
    ),
    "another part confirmed": (
        lambda v: v.record("bob", b"|k", b"|k1"),
        "hold 'h' of buyer 'bob' has other lines than the ledger says",
    ),
    "a refund forgotten": (
        lambda v: v.record("ann", b"|fr:", b""),
        "hold 'h' of buyer 'ann' has other lines than the ledger says",
    ),
    "a refund under another op_id": (
        lambda v: v.record("ann", b"|fr:", b"|fz:"),
        "hold 'h' of buyer 'ann' has other refunds than the ledger says",
    ),
    "another deadline": (
        lambda v: v.record("dan", b"1h4000000005000", b"1h4000000005001"),
        "hold 'h' of buyer 'dan' has another deadline than the ledger says",
    ),
    "another original deadline": (
        lambda v: v.record("dan", b"|o4000000002000", b"|o4000000001000"),
        "hold 'h' of buyer 'dan' has another deadline than the ledger says",
    ),
    "above the limit of a sku": (
        lambda v: v.record("ann", b"0*2", b"0*11"),
        "buyer 'ann' has 10 of 'red', the limit is 9",
    ),
    "above the limit of the sale": (
        lambda v: v.record("ann", b",1", b",1*12"),
        "buyer 'ann' has 13 units, the limit is 12",
    ),
    "records of two buyers swapped": (
        lambda v: (
            v.add_record("ann", v.raw.hget(v.keys.buyers, "bob")),
            v.add_record("bob", "1r4000000002000h|0*2,1"),
        ),
        "hold 'h' of buyer 'bob' is released, the ledger says confirmed",
    ),
}
LEDGER: dict[str, tuple[Act, str]] = {
    "a deleted entry": (
        lambda v: v.raw.xdel(v.keys.ledger, "1-5"),
        "ledger: entries 5 to 5 are missing",
    ),
    "several deleted entries": (
        lambda v: v.raw.xdel(v.keys.ledger, "1-7", "1-8", "1-9"),
        "ledger: entries 7 to 9 are missing",
    ),
    "the first entry deleted": (
        lambda v: v.raw.xdel(v.keys.ledger, "1-1"),
        "ledger: entries 1 to 1 are missing",
    ),
    "the last entry deleted": (
        lambda v: v.ledger(lambda entries: entries[:-1]),
        r"ledger: entries (\d+) to \1 are missing",
    ),
    "all entries deleted": (
        lambda v: v.raw.delete(v.keys.ledger),
        r"ledger: entries 1 to \d+ are missing",
    ),
    "a confirmation before its hold": (
        lambda v: v.swap(v.entry(b"cb"), 1),
        "ledger: confirmed of hold 'h' of buyer 'ann' before its hold",
    ),
    "time goes back": (
        lambda v: v.time(6, T0),
        "ledger: time goes back at entry 7",
    ),
    "an entry of another epoch": (
        lambda v: v.epoch(6),
        "ledger: entry 7 is of epoch 2",
    ),
    "lines of one event changed": (
        lambda v: v.field(v.entry(b"rb"), b"rl", lambda _: [["0,1*2"]]),
        "sku 'red': available is",
    ),
    "another buyer": (
        lambda v: v.field(v.entry(b"rb"), b"rb", lambda _: ["dan"]),
        "hold 'h' of buyer 'dan' is held, the ledger says released",
    ),
    "another hold id": (
        lambda v: v.field(v.entry(b"rb"), b"ri", lambda _: ["other"]),
        "hold 'other' of buyer 'cyd' is in the ledger, not in the buyer's record",
    ),
    "a hold told twice": (
        lambda v: v.field(v.entry(b"hb") + 3, b"hb", lambda _: ["ann"]),
        "ledger: hold 'h' of buyer 'ann' is held twice",
    ),
    "a restock of another size": (
        lambda v: v.field(v.entry(b"k"), b"k", lambda k: [k[0], [0, 6, 1, -1]]),
        "sku 'red': allotment is 55, the ledger says 56",
    ),
    "another extension": (
        lambda v: v.field(v.entry(b"xb"), b"xd", lambda _: [T0 + 4_000]),
        "hold 'h' of buyer 'dan' has another deadline than the ledger says",
    ),
    "another op_id of a refund": (
        lambda v: v.field(v.entry(b"fb"), b"fo", lambda _: ["z"]),
        "hold 'h' of buyer 'ann' has other refunds than the ledger says",
    ),
}
DAMAGE = COUNTERS | STOCK | RECORDS | LEDGER


@pytest.mark.parametrize("kind", DAMAGE)
def test_the_audit_finds_and_names(lab: Lab, kind: str) -> None:
    sale = busy(lab)
    act, says = DAMAGE[kind]
    act(Vandal(lab, sale))
    report = sale.audit()
    assert not report.ok
    assert any(re.search(says, problem) for problem in report.problems), report.problems


def test_a_report_lists_a_hundred_problems_and_says_that_there_are_more(lab: Lab) -> None:
    sale = lab.open({"red": 1_000})
    sale.hold_many([HoldRequest(f"b{n}", {"red": 1}, "h") for n in range(300)])
    lab.raw.delete(lab.keys(sale).buyers)
    report = sale.audit()
    assert (report.ok, len(report.problems), report.truncated) == (False, 100, True)


# --- cues ---------------------------------------------------------------------------------


def two_cues(lab: Lab) -> SaleHandle:
    """Each of two cues has some red set aside, one of them some blue."""
    sale = lab.open()
    open_cue(lab, sale, "one", stock={"red": 3, "blue": 1})
    open_cue(lab, sale, "two", stock={"red": 4})
    return sale


@pytest.mark.parametrize("trimmed", [False, True])
def test_a_unit_of_one_cue_that_is_anothers_is_found_and_both_are_named(
    lab: Lab, trimmed: bool
) -> None:
    sale = two_cues(lab)
    if trimmed:
        sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
        lab.set_time(sale, T0 + 1_000)
        sale.expire()
        assert sale.ledger.trim() > 2
    assert sale.audit().problems == ()
    lab.raw.hincrby(lab.keys(sale).stock, "0x:one", 1)
    lab.raw.hincrby(lab.keys(sale).stock, "0x:two", -1)
    assert sale.audit().problems == (
        "cue 'one': 4 of 'red' are set aside, the ledger says 3",
        "cue 'two': 3 of 'red' are set aside, the ledger says 4",
    )


def test_a_part_that_is_lost_or_of_a_cue_that_never_was_is_found(lab: Lab) -> None:
    sale = two_cues(lab)
    lab.raw.hdel(lab.keys(sale).stock, "1x:one")
    lab.raw.hset(lab.keys(sale).stock, mapping={"1x:three": 1, "7x:two": 2})
    assert sale.audit().problems == (
        "cue 'one': 0 of 'blue' are set aside, the ledger says 1",
        "cue 'three': 1 of 'blue' are set aside, the ledger says 0",
        "cue 'two': 2 of '#7' are set aside, the ledger says 0",
    )


def test_parts_add_up_over_settlements_reserves_and_voids_from_any_checkpoint(lab: Lab) -> None:
    sale = lab.open({"red": 20, "blue": 5}, hold_ttl_ms=1_000)
    first = open_cue(lab, sale, "one", stock={"red": 4, "blue": 2}, reserve_ms=9_000)
    open_cue(lab, sale, "two", stock={"red": 5}).void("the link was wrong")
    enter_all(lab, first.cue(), [Tap(f"b{n}") for n in range(6)])
    open_cue(lab, sale, "three", stock={"red": 2})
    settled(lab, sale, first)
    winner = drawn_by(first, [f"b{n}" for n in range(6)])[0][0]
    sale.release(winner, "cue~one").unwrap()  # its unit goes back to the cue
    assert sale.audit().problems == ()
    lab.set_time(sale, first.cue().reveals_at_ms + 1_000)
    sale.expire()
    sale.ledger.trim()
    assert sale.audit().problems == ()
    lab.set_time(sale, first.cue().reveals_at_ms + 10_000)
    sale.expire()
    assert first.view().set_aside == {"red": 0, "blue": 0}
    report = sale.audit()
    assert (report.problems, report.checkpoint > 1) == ((), True)


# --- after a trim -------------------------------------------------------------------------


def test_the_audit_adds_up_from_the_checkpoint(lab: Lab) -> None:
    sale = busy(lab)
    lab.set_time(sale, T0 + 10_000)
    sale.expire()
    sequence = sale.snapshot().sequence
    assert sale.ledger.trim() == sequence - 1
    sale.hold("zoe", {"red": 1}, hold_id="h").unwrap()
    report = sale.audit()
    assert (report.problems, report.checkpoint) == ((), sequence - 1)
    assert report.entries == 2
    Vandal(lab, sale).add("0s", 1)
    assert any("sold is" in problem for problem in sale.audit().problems)


AFTER_TRIM: dict[str, Callable[[SaleHandle], object]] = {
    "confirm": lambda s: s.confirm("dan", "h"),
    "confirm in part": lambda s: s.confirm("dan", "h", lines={"red": 1}),
    "release": lambda s: s.release("dan", "h"),
    "extend": lambda s: s.extend("dan", "h", deadline_ms=T0 + 20_000),
    "confirm and refund": lambda s: (
        s.confirm("dan", "h"),
        s.refund("dan", "h", lines={"red": 2, "blue": 1}, op_id="all"),
    ),
    "confirm and refund in part": lambda s: (
        s.confirm("dan", "h"),
        s.refund("dan", "h", lines={"red": 2}, op_id="some"),
    ),
    "refund": lambda s: s.refund("ann", "h", lines={"red": 1, "blue": 1}, op_id="rest"),
    "refund in part": lambda s: s.refund("ann", "h", lines={"red": 1}, op_id="some"),
    "retake": lambda s: s.confirm("x1", "h", late="retake"),
    "retake and refund": lambda s: (
        s.confirm("x1", "h", late="retake"),
        s.refund("x1", "h", lines={"red": 1}, op_id="all"),
    ),
    "another hold of the same buyer": lambda s: s.hold("ann", {"blue": 1}, hold_id="h2"),
}


@pytest.mark.parametrize("verb", AFTER_TRIM)
def test_a_hold_that_began_before_the_checkpoint_may_go_on_after_it(lab: Lab, verb: str) -> None:
    sale = busy(lab)
    sale.extend("dan", "h", deadline_ms=T0 + 15_000).unwrap()
    lab.set_time(sale, T0 + 10_000)
    sale.expire()
    sale.restock({"red": 1}, op_id="o2").unwrap()
    assert sale.ledger.trim() > 10
    AFTER_TRIM[verb](sale)
    assert sale.audit().problems == ()
    lab.set_time(sale, T0 + 30_000)
    sale.expire()
    assert sale.audit().problems == ()


# --- while the sale goes on ---------------------------------------------------------------


def with_interruption(
    operation: Operation[T], numbers: Container[int], interrupt: Callable[[], object]
) -> Operation[T]:
    """The operation, with something done by others before its steps of these numbers."""
    number = 0
    reply: Any = None
    error: FlashSaleError | None = None
    while True:
        try:
            step = operation.throw(error) if error else operation.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result
        number += 1
        if number in numbers:
            interrupt()
        try:
            reply, error = (yield step), None
        except FlashSaleError as caught:
            error = caught


@pytest.mark.parametrize("number", range(2, 6))
@pytest.mark.parametrize("verb", ["trim", "hold", "confirm", "release", "pause", "restock"])
def test_an_audit_is_right_whatever_happens_between_two_of_its_calls(
    lab: Lab, server_url: str, verb: str, number: int
) -> None:
    sale = busy(lab)
    sale.extend("dan", "h", deadline_ms=T0 + 15_000).unwrap()
    lab.set_time(sale, T0 + 10_000)
    sale.expire()
    with connect("sync", server_url) as others:
        other = others.sale(sale.id)
        meanwhile: dict[str, Callable[[], object]] = {
            "trim": other.ledger.trim,
            "hold": lambda: other.hold("zoe", {"red": 1}, hold_id="h").unwrap(),
            "confirm": lambda: other.confirm("dan", "h", lines={"red": 1}).unwrap(),
            "release": lambda: other.release("dan", "h").unwrap(),
            "pause": other.pause,
            "restock": lambda: other.restock({"red": 3}, op_id="new").unwrap(),
        }
        before = lab.dump(sale)
        operation = with_interruption(audit.audit(sale.id), [number], meanwhile[verb])
        assert lab.shop.perform(operation).problems == ()
        assert lab.dump(sale) != before
    assert sale.audit().problems == ()


@pytest.mark.parametrize("what", [audit.audit, audit.trim, repair.repair])
def test_nothing_is_wrong_with_a_sale_whose_ledger_others_trim_between_any_two_calls(
    lab: Lab, server_url: str, what: Callable[[str], Operation[Any]]
) -> None:
    sale = busy(lab)
    lab.set_time(sale, T0 + 10_000)
    sale.expire()
    checkpoints: list[int] = []
    with connect("sync", server_url) as others:
        other = others.sale(sale.id)

        def go_on() -> None:
            other.hold(f"new-{len(checkpoints)}", {"red": 1}, hold_id="h").unwrap()
            lab.set_time(sale, T0 + 20_000 + 10_000 * len(checkpoints))
            other.expire()
            checkpoints.append(other.ledger.trim())

        operation = with_interruption(what(sale.id), range(2, 60), go_on)
        result = lab.shop.perform(operation)
    assert checkpoints == sorted(set(checkpoints))
    assert len(checkpoints) > 1
    if what is audit.trim:
        assert result in checkpoints
    else:
        assert result.ok
    assert sale.audit().problems == ()


@pytest.mark.parametrize("number", range(2, 16))
def test_a_torn_entry_is_mended_while_others_trim(lab: Lab, server_url: str, number: int) -> None:
    sale = busy(lab)
    lab.set_time(sale, T0 + 10_000)
    sale.expire()
    sale.restock({"red": 1}, op_id="torn").unwrap()
    Vandal(lab, sale).raw.hincrby(lab.keys(sale).sale, "sequence", -1)
    with connect("sync", server_url) as others:
        trim = others.sale(sale.id).ledger.trim
        report = lab.shop.perform(with_interruption(repair.repair(sale.id), [number], trim))
    assert (report.problems, bool(report.entry)) == ((), True)
    assert sale.audit().problems == ()


@pytest.mark.parametrize("number", range(2, 16))
def test_two_repairs_at_the_same_time_mend_one_torn_entry(
    lab: Lab, server_url: str, number: int
) -> None:
    sale = busy(lab)
    sale.hold_many([HoldRequest(f"torn-{n}", {"blue": 1}, "h") for n in range(2)])
    lab.raw.hincrby(lab.keys(sale).sale, "sequence", -1)
    with connect("sync", server_url) as others:
        reports = []

        def mend() -> None:
            reports.append(others.sale(sale.id).repair())
            others.sale(sale.id).release("torn-0", "h").unwrap()

        operation = with_interruption(repair.repair(sale.id), [number], mend)
        reports.append(lab.shop.perform(operation))
    assert [report.problems for report in reports] == [()] * len(reports)
    assert [bool(report.entry) for report in reports].count(True) == 1
    assert sale.audit().problems == ()


@pytest.mark.parametrize(("lost", "number"), [(2, "2"), (5, "5"), (1_200, "1001 or more")])
def test_entries_behind_a_lost_sequence_are_counted_and_repair_changes_nothing(
    lab: Lab, lost: int, number: str
) -> None:
    sale = busy(lab)
    last = sale.snapshot().sequence
    with lab.raw.pipeline() as pipeline:
        for n in range(lost):
            fields: Any = {"t": T0 + 1_500, "s": "running"}
            pipeline.xadd(lab.keys(sale).ledger, fields, id=f"1-{last + 1 + n}")
        pipeline.execute()
    named = f"^ledger: {number} entries, 1-{last + 1} to 1-[0-9]+, are behind 1-{last}, the sale's"
    before = lab.dump(sale)
    (problem,) = sale.audit().problems
    assert re.match(named, problem), problem
    report = sale.repair()
    assert (report.ok, report.entry) == (False, f"1-{last + 1}")
    assert re.match(named, report.problems[0]), report.problems
    assert lab.dump(sale) == before


def trade(shop: FlashSale, sale_id: str, seed: int, stop: threading.Event) -> None:
    sale = shop.sale(sale_id)
    n = 0
    while not stop.is_set():
        n += 1
        buyer = f"buyer-{seed}-{n % 40}"
        hold_id = f"h{n // 40 % 50}"
        sale.hold(buyer, {"red": 1, "blue": 1} if n % 3 else {"red": 1}, hold_id=hold_id)
        match n % 5:
            case 0:
                sale.confirm(buyer, hold_id, lines={"red": 1})
            case 1:
                sale.confirm(buyer, hold_id)
                sale.refund(buyer, hold_id, lines={"red": 1}, op_id="r")
            case 2:
                sale.release(buyer, hold_id)
            case 3:
                later = sale.snapshot().at_ms + 30
                sale.extend(buyer, hold_id, deadline_ms=later)
        if n % 50 == 0:
            sale.restock({"red": 1, "blue": 2}, op_id=f"o-{seed}-{n}")


def test_an_audit_of_a_sale_that_is_being_changed_reports_no_false_problem(
    lab: Lab, server_url: str
) -> None:
    sale = lab.open({"red": 500, "blue": 500}, hold_ttl_ms=20, holds_max=64)
    lab.set_time(sale, 0)  # the server's own time
    stop = threading.Event()
    with connect("sync", server_url) as shop:
        traders = [
            threading.Thread(target=trade, args=(shop, sale.id, seed, stop)) for seed in range(2)
        ]
        for trader in traders:
            trader.start()
        try:
            reports = [sale.audit() for _ in range(12)]
        finally:
            stop.set()
            for trader in traders:
                trader.join()
    assert [report.problems for report in reports] == [()] * 12
    assert reports[-1].sequence > reports[0].sequence + 10
    assert sale.audit().problems == ()
