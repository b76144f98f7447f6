"""A sweep counts what it looks at, not what comes of it: one call is short whatever was paid."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from flashsale import Answer, HoldRequest, HoldState, Outcome, SaleHandle, limits
from support.lab import T0, Lab

LOOKS = 1_024 + 2 * 64
"""Records that a verb's sweep may look at, rounded up to what it reads in one command."""


def take(sale: SaleHandle, count: int, *, prefix: str = "b", hold_id: str = "h") -> list[Answer]:
    """Hold for so many buyers, 256 to a ledger entry."""
    requests = [HoldRequest(f"{prefix}{n}", {"red": 1}, hold_id) for n in range(count)]
    return [answer.unwrap() for answer in sale.hold_many(requests) if isinstance(answer, Answer)]


def cursor(lab: Lab, sale: SaleHandle) -> tuple[int, int]:
    """The entry the sweep has got to, and how many of its holds it has looked at."""
    entry, _, looked = lab.raw.hget(lab.keys(sale).sale, "cursor").decode().partition(":")
    return int(entry), int(looked or 0)


def ask(lab: Lab, sale: SaleHandle, buyer: str, basket: list[Any]) -> bytes:
    """The code of one hold, in a call of its own."""
    encode = msgspec.msgpack.encode
    reply = lab.eval(
        "inventory/hold", sale, encode([buyer]), encode(["h"]), encode([[basket]]), b"", b""
    )
    return bytes(reply[3])


@pytest.mark.parametrize("rest", [0, 1, 100])
def test_a_call_looks_at_few_of_the_paid_holds_that_fall_due(lab: Lab, rest: int) -> None:
    """65 entries of 256 holds, all paid but `rest` of the last: none is swept in one call."""
    sale = lab.open({"red": 100_000})
    held = take(sale, 65 * 256)
    sale.confirm_many(held[: len(held) - rest])
    lab.set_time(sale, T0 + 1_000)
    calls, before = 0, (2, 0)
    while before < (67, 0):  # the holds' entries are the first 65 after the opening
        lab.eval("inventory/set_state", sale, "running")
        after = min(cursor(lab, sale), (67, 0))
        assert before < after
        assert 256 * (after[0] - before[0]) + after[1] - before[1] <= LOOKS
        calls, before = calls + 1, after
    assert calls >= 8
    assert sale.expire() == 0
    assert sale.snapshot().skus["red"].held == 0
    assert sale.snapshot().skus["red"].available == 100_000 - 65 * 256 + rest
    assert sale.audit().ok


def write_paid(lab: Lab, buyers: int, holds: int, lines: int) -> SaleHandle:
    """A sale in which so many buyers have so many paid holds each, all of which fall due."""
    sale = lab.open({f"sku-{n}": 10**9 for n in range(32)}, holds_max=64)
    keys, encode = lab.keys(sale), msgspec.msgpack.encode
    ids = [f"hhh{n:061}" for n in range(holds)]
    basket = ",".join(f"{n}*999983" for n in range(lines))
    record = "1" + ";".join(f"c{T0 + 1_000}{hold_id}|{basket}" for hold_id in ids)
    crowd = [f"b{n}" for n in range(buyers)]
    lab.raw.hset(keys.buyers, mapping=dict.fromkeys(crowd, record))
    for number, hold_id in enumerate(ids):
        fields: dict[Any, Any] = {"t": T0, "hb": encode(crowd), "hi": encode([hold_id] * buyers)}
        lab.raw.xadd(keys.ledger, fields, id=f"1-{2 + number}")
    lab.raw.hset(keys.sale, mapping={"sequence": 1 + holds, "due": T0 + 1_000, "cursor": 2})
    lab.set_time(sale, T0 + 1_000)
    return sale


@pytest.mark.parametrize(
    ("holds", "lines", "most"),
    [
        (64, 1, 512),
        (8, 1, 1_024),
        (8, 32, 256),  # records of 3 KiB: what is read counts by its bytes
        (60, 32, 64),  # records of 26 KiB: no more than one command reads
    ],
)
def test_holds_of_known_buyers_and_long_records_count_as_well(
    lab: Lab, holds: int, lines: int, most: int
) -> None:
    """256 buyers come in every entry; what a call looks at is bounded though it knows them all."""
    sale = write_paid(lab, 256, holds, lines)
    before, calls = (2, 0), 0
    while before < (2 + holds, 0) and calls < 4:
        lab.eval("inventory/set_state", sale, "running")
        after = min(cursor(lab, sale), (2 + holds, 0))
        assert 0 < 256 * (after[0] - before[0]) + after[1] - before[1] <= most
        before, calls = after, calls + 1


def test_one_record_longer_than_a_sweep_may_read_is_walked_over(lab: Lab) -> None:
    """What was read is looked at, however long it was: a sweep always gets on."""
    sale = write_paid(lab, 1, 2, 1)
    keys = lab.keys(sale)
    record = lab.raw.hget(keys.buyers, "b0").decode()
    longest = record + "".join(f";c{T0}{'o' * 60}|" for _ in range(60_000))
    lab.raw.hset(keys.buyers, "b0", longest)
    assert len(longest) // 1_024 > limits.SWEEP_PER_CALL * 8 + 128
    before = (2, 0)
    while before < (4, 0):
        lab.eval("inventory/set_state", sale, "running")
        after = min(cursor(lab, sale), (4, 0))
        assert after > before
        before = after


@pytest.mark.parametrize("place", [0, 1, 63])
def test_a_held_hold_is_found_wherever_it_is_in_a_record_of_paid_ones(lab: Lab, place: int) -> None:
    sale = lab.open({"red": 100}, holds_max=64)
    held = [sale.hold("ann", {"red": 1}, hold_id="h" * (1 + n)).unwrap() for n in range(64)]
    sale.confirm_many(held[:place] + held[place + 1 :])
    lab.set_time(sale, T0 + 1_000)
    assert sale.expire() == 1
    hold = sale.find("ann", "h" * (1 + place))
    assert hold is not None
    assert hold.state is HoldState.EXPIRED
    assert sale.snapshot().skus["red"].available == 37
    assert sale.audit().ok


def test_a_sweep_stops_and_goes_on_within_a_ledger_entry(lab: Lab) -> None:
    """Buyers with two holds each are not of the common kind: each is looked at by itself."""
    sale = lab.open({"red": 10_000})
    take(sale, 256, hold_id="1")
    take(sale, 256, hold_id="2")
    lab.set_time(sale, T0 + 1_000)
    after = sale.snapshot().sequence
    for n in range(1, 52):
        assert sale.expire(10) == 10
        if 10 * n < 256:
            assert cursor(lab, sale) == (2, 10 * n)
    assert sale.expire() == 2
    events = [
        e for entry in sale.ledger.read(after=after, count=1_000).entries for e in entry.events
    ]
    assert len({(e.buyer, e.hold_id) for e in events}) == len(events) == 512
    assert sale.snapshot().skus["red"].available == 10_000
    assert sale.audit().ok


def test_an_entry_that_is_looked_at_in_part_is_not_trimmed(lab: Lab) -> None:
    sale = lab.open({"red": 10_000})
    take(sale, 256, hold_id="1")
    take(sale, 256, hold_id="2")
    lab.set_time(sale, T0 + 1_000)
    sale.expire(10)
    assert sale.ledger.read().cursor == 2
    sale.ledger.trim()
    assert sale.ledger.read(after=1).entries[0].sequence == 2
    assert sale.expire(1_000) == 502
    assert sale.audit().ok


def test_nobody_waits_for_a_sweep_of_which_nothing_can_come(lab: Lab) -> None:
    """Sold out and paid: however much of the ledger is to be walked over, it is SOLD_OUT."""
    sale = lab.open({"red": 30 * 256, "blue": 5})
    sale.confirm_many(take(sale, 30 * 256))
    lab.set_time(sale, T0 + 1_000)
    assert [ask(lab, sale, f"new-{n}", ["red", 1]) for n in range(2)] == [b"S"] * 2
    assert cursor(lab, sale)[0] < 30  # the sweep has still to look at others
    assert ask(lab, sale, "many", ["blue", 6]) == b"S"
    assert sale.restock({"red": -1}, op_id="r").outcome is Outcome.BELOW_COMMITTED
    assert sale.audit().ok


def test_what_due_holds_could_give_back_is_waited_for(lab: Lab) -> None:
    sale = lab.open({"red": 40 * 256})
    held = take(sale, 40 * 256)
    sale.confirm_many(held[:-2])
    lab.set_time(sale, T0 + 1_000)
    assert ask(lab, sale, "new", ["red", 3]) == b"S"
    assert ask(lab, sale, "new", ["red", 2]) == b"T"
    assert sale.hold("new", {"red": 2}, hold_id="h").outcome is Outcome.HELD
    assert sale.audit().ok
