"""One call of a script does a bounded amount of work, and its client sends what is left of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import redis

from flashsale import Answer, HoldRequest, Outcome, SaleHandle, limits
from support.lab import T0, Lab

encode = msgspec.msgpack.encode


def heavy(count: int, state: str, deadline: int, basket: str) -> str:
    """A buyer's record of so many holds."""
    return "1" + ";".join(f"{state}{deadline}h{n}|{basket}" for n in range(count))


def judged(codes: bytes) -> int:
    """How many of a batch's operations were judged: all that come before the first that was not."""
    done = len(codes.rstrip(b"."))
    assert b"." not in codes[:done]
    return done


def wide(lab: Lab, holds: int, buyers: int, state: str = "h") -> SaleHandle:
    """A sale of 32 skus, in which buyers have holds of 32 lines each."""
    sale = lab.open({f"sku-{n}": 10**6 for n in range(32)}, holds_max=64, limit=10**9)
    basket = ",".join(f"{n}*2" for n in range(32))
    record = heavy(holds, state, T0 + 1_000, basket)
    keys = lab.keys(sale)
    lab.raw.hset(keys.buyers, mapping={f"b{n}": record for n in range(buyers)})
    letter = "h" if state == "h" else "s"
    for n in range(32):
        lab.raw.hincrby(keys.stock, f"{n}a", -2 * holds * buyers)
        lab.raw.hincrby(keys.stock, f"{n}{letter}", 2 * holds * buyers)
    return sale


def unswept(lab: Lab, sale: SaleHandle) -> None:
    """Let 20,000 holds of others be due before all others: no one call walks over them."""
    keys, sequence = lab.keys(sale), sale.snapshot().sequence
    for number in range(20):
        others = [f"other-{number}-{n}" for n in range(1_000)]
        fields: dict[Any, Any] = {"t": T0, "hb": encode(others), "hi": encode(["h"] * 1_000)}
        lab.raw.xadd(keys.ledger, fields, id=f"1-{sequence + 1 + number}")
    lab.raw.hset(keys.sale, mapping={"sequence": sequence + 20, "due": T0 + 1_000})
    lab.set_time(sale, T0 + 1_000)


CALLS: dict[str, tuple[str, Callable[[list[str]], list[Any]]]] = {
    "hold": ("h", lambda ids: [encode([[["sku-0", 1]]]), b"", b""]),
    "confirm": ("h", lambda ids: [b"", "refuse"]),
    "release": ("h", lambda ids: []),
    "extend": ("h", lambda ids: [encode([T0 + 2_000] * len(ids))]),
    "refund": ("c", lambda ids: [encode([[["sku-0", 1]]]), encode(["r"] * len(ids))]),
}
DONE = {"hold": b"H", "confirm": b"C", "release": b"R", "extend": b"X", "refund": b"F"}


@pytest.mark.parametrize("verb", CALLS)
def test_a_call_leaves_what_is_too_much_for_it_and_a_later_one_goes_on(lab: Lab, verb: str) -> None:
    """256 buyers with 60 holds of 32 lines each: nearly half a million lines."""
    state, more = CALLS[verb]
    sale = wide(lab, 60, 256, state)
    ids = ["new" if verb == "hold" else "h7"] * 256
    buyers = [f"b{n}" for n in range(256)]
    calls = 0
    while buyers:
        args = more(ids[: len(buyers)])
        codes = lab.eval(
            f"inventory/{verb}", sale, encode(buyers), encode(ids[: len(buyers)]), *args
        )[3]
        done = len(buyers) if len(codes) == 1 else judged(codes)
        assert codes.strip(b".") in (DONE[verb], DONE[verb] * done)
        assert 0 < done <= min(len(buyers), 255)
        buyers, calls = buyers[done:], calls + 1
    assert 2 < calls < 256


@pytest.mark.parametrize("verb", ["confirm", "release", "extend"])
def test_a_call_is_short_though_all_of_its_buyers_holds_are_due(lab: Lab, verb: str) -> None:
    sale = wide(lab, 60, 64)
    keys = lab.keys(sale)
    unswept(lab, sale)
    buyers, ids = [f"b{n}" for n in range(64)], ["h7"] * 64
    before = int(lab.raw.hget(keys.stock, "0h"))
    codes = lab.eval(f"inventory/{verb}", sale, encode(buyers), encode(ids), *CALLS[verb][1](ids))[
        3
    ]
    done = judged(codes)
    assert codes[:done] == b"E" * done
    assert 0 < done < 16
    assert before - int(lab.raw.hget(keys.stock, "0h")) == 2 * 60 * done


def test_an_exact_loop_judges_at_most_256_operations_in_a_call(lab: Lab) -> None:
    sale = lab.open({"red": 1_000})
    sale.hold("b0", {"red": 1}, hold_id="other").unwrap()
    buyers = [f"b{n}" for n in range(1_000)]
    codes = lab.eval(
        "inventory/hold",
        sale,
        encode(buyers),
        encode(["h"] * 1_000),
        encode([[["red", 1]]]),
        b"",
        b"",
    )[3]
    assert codes == b"H" * limits.LOOP_MAX + b"." * (1_000 - limits.LOOP_MAX)
    assert sale.snapshot().skus["red"].held == 1 + limits.LOOP_MAX
    assert sale.audit().ok


def test_more_lines_than_a_call_reads_are_left(lab: Lab) -> None:
    """A client that does not cut its batches: no such is of ours."""
    sale = lab.open({f"sku-{n}": 10**6 for n in range(32)})
    buyers = [f"b{n}" for n in range(200)]
    baskets = [[v for n in range(32) for v in (f"sku-{n}", 1 + b)] for b in range(200)]
    which = list(range(1, 201))
    codes = lab.eval(
        "inventory/hold",
        sale,
        encode(buyers),
        encode(["h"] * 200),
        encode([baskets, which]),
        b"",
        b"",
    )[3]
    done = judged(codes)
    assert codes[:done] == b"H" * done
    assert 0 < done <= limits.CALL_LINES_MAX // 32
    assert sale.audit().ok


def test_a_bulk_of_which_one_call_judges_a_part_is_answered_in_full_and_in_order(lab: Lab) -> None:
    sale = wide(lab, 60, 100)
    requests = [
        HoldRequest(f"b{n}", {"sku-1": 1}, f"new-{k}") for k in range(2) for n in range(100)
    ]
    answers = sale.hold_many(requests)
    assert [answer.buyer for answer in answers if isinstance(answer, Answer)] == [
        request.buyer for request in requests
    ]
    assert {answer.outcome for answer in answers if isinstance(answer, Answer)} == {Outcome.HELD}
    events = [e for entry in sale.ledger.read(count=1_000).entries for e in entry.events]
    of_one: dict[str, list[str]] = {}
    for event in events[1:]:
        of_one.setdefault(event.buyer, []).append(event.hold_id)
    assert of_one == {f"b{n}": ["new-0", "new-1"] for n in range(100)}


# --- pages --------------------------------------------------------------------------------


def pages(lab: Lab, sale: SaleHandle, count: int) -> list[dict[str, Any]]:
    """What each page of a scan shows."""
    found, cursor = [], b"0"
    while cursor != b"0" or not found:
        *_, cursor, packed = lab.eval("inventory/scan", sale, cursor, count)
        flat = msgspec.msgpack.decode(packed)
        found.append(dict(zip(flat[::2], flat[1::2], strict=True)))
    return found


def test_a_page_of_long_records_is_short_and_no_buyer_is_left_out(lab: Lab) -> None:
    sale = wide(lab, 60, 300)
    sale.hold("table", {"sku-0": 1}, hold_id="h").unwrap()
    found = pages(lab, sale, 500)
    assert max(len(page) for page in found) < 10
    assert {buyer for page in found for buyer in page} == {"table", *(f"b{n}" for n in range(300))}
    assert all(len(page[buyer]) == 60 for page in found for buyer in page if buyer != "table")


def test_a_page_ends_before_the_record_that_would_be_too_much(lab: Lab) -> None:
    """Lines of refunds are short to store and long to show: such a record has a page to itself."""
    sale = lab.open({f"sku-{n}": 10**6 for n in range(32)}, holds_max=64)
    keys, units = lab.keys(sale), ",".join(str(n) for n in range(32))
    refunds = "".join(f"|f{k}:{units}" for k in range(8))
    record = heavy(40, "c", T0, units.replace(",", "*99,") + refunds)
    lab.raw.hset(keys.buyers, mapping={f"b{n}": record for n in range(5)})
    found = pages(lab, sale, 500)
    assert [len(page) for page in found] == [1] * 5
    assert {buyer for page in found for buyer in page} == {f"b{n}" for n in range(5)}


def test_a_page_of_short_records_has_as_many_as_were_asked_for(lab: Lab) -> None:
    sale = lab.open({"red": 10_000})
    sale.hold_many([HoldRequest(f"b{n}", {"red": 1}, "h") for n in range(1_000)])
    found = pages(lab, sale, 200)
    assert 200 <= len(found[0]) < 300
    assert len({buyer for page in found for buyer in page}) == 1_000


@pytest.mark.parametrize("cursor", ["", "x", "-1", "|", "1e3"])
def test_a_cursor_that_no_page_ended_with_is_refused(lab: Lab, cursor: str) -> None:
    with pytest.raises(redis.ResponseError):
        lab.eval("inventory/scan", lab.open(), cursor, 10)


def test_a_page_of_large_ledger_entries_is_short_and_a_reader_misses_none(lab: Lab) -> None:
    sale = lab.open({"red": 10_000})
    for k in range(30):
        requests = [
            HoldRequest(f"b{k}-{n}", {"red": 1}, "h", note="n" * limits.NOTE_MAX)
            for n in range(256)
        ]
        sale.hold_many(requests)
    sequences: list[int] = []
    while not sequences or sequences[-1] < sale.snapshot().sequence:
        page = sale.ledger.read(after=sequences[-1] if sequences else 0, count=1_000)
        assert 0 < len(page.entries) < 20
        sequences += [entry.sequence for entry in page.entries]
    assert sequences == list(range(1, 32))


def test_a_long_ledger_is_trimmed_piece_by_piece(lab: Lab) -> None:
    sale = lab.open({"red": 10_000})
    sale.hold("b0", {"red": 1}, hold_id="h").unwrap()
    for number in range(1_250):
        (sale.pause if number % 2 else sale.resume)()
        (sale.resume if number % 2 else sale.pause)()
    lab.set_time(sale, T0 + 1_000)
    sale.expire()
    last = sale.snapshot().sequence
    assert lab.eval("ledger/trim", sale, 0, 1_001, "{}")[3] == b"!"
    assert sale.ledger.trim() == last - 1
    assert [entry.sequence for entry in sale.ledger.read(after=last - 1).entries] == [last]
    assert sale.audit().ok


def test_a_hold_of_a_long_record_takes_one_refund(lab: Lab) -> None:
    sale = lab.open({"red": 10})
    sale.hold("ann", {"red": 3}, hold_id="h").unwrap()
    sale.confirm("ann", "h").unwrap()
    keys = lab.keys(sale)
    record = lab.raw.hget(keys.buyers, "ann").decode()
    others = "".join(f";r{T0}o{n:060}" for n in range(limits.RECORD_MAX // 75))
    lab.raw.hset(keys.buyers, "ann", record + others)
    codes = [sale.refund("ann", "h", lines={"red": 1}, op_id=f"r{n}").outcome for n in range(2)]
    assert codes == [Outcome.REFUNDED, Outcome.TOO_MANY_REFUNDS]
    assert sale.refund("ann", "h", lines={"red": 1}, op_id="r0").replayed
