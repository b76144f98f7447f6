"""The ledger: dense, in order, complete; its readers; trimming behind them."""

from __future__ import annotations

import pytest

from flashsale import Entry, HoldRequest, InvalidRequest, Rejected, SaleHandle
from support.lab import T0, Lab, describe


def busy(lab: Lab) -> SaleHandle:
    """A sale to which one of everything has happened."""
    sale = lab.open()
    for n, hold_id in enumerate(("paid", "part", "given-up", "late", "longer")):
        lab.set_time(sale, T0 + n)
        sale.hold("ann", {"red": 1, "blue": 1}, hold_id=hold_id).unwrap()
    sale.confirm("ann", "paid").unwrap()
    sale.confirm("ann", "part", lines={"red": 1}).unwrap()
    sale.release("ann", "given-up").unwrap()
    sale.release("ann", "unknown").unwrap()
    sale.extend("ann", "longer", deadline_ms=T0 + 3_000).unwrap()
    sale.refund("ann", "paid", lines={"blue": 1}, op_id="back").unwrap()
    sale.restock({"red": 5, "blue": -1}, op_id="truck").unwrap()
    sale.pause()
    lab.set_time(sale, T0 + 1_010)
    sale.confirm("ann", "late", late="retake").unwrap()
    sale.end()
    return sale


WHAT_HAPPENED = """
opened
held red*1 blue*1
held red*1 blue*1
held red*1 blue*1
held red*1 blue*1
held red*1 blue*1
confirmed red*1 blue*1
confirmed red*1
dropped blue*1
released red*1 blue*1
tombstone
extended red*1 blue*1
refunded blue*1 back
restocked red*5 blue*-1 truck
state
expired red*1 blue*1
retaken red*1 blue*1
confirmed red*1 blue*1
state
""".strip().splitlines()


def test_everything_that_happened_is_in_the_ledger_once_and_in_order(lab: Lab) -> None:
    sale = busy(lab)
    entries = sale.ledger.read(count=1_000).entries
    assert [describe(event) for entry in entries for event in entry.events] == WHAT_HAPPENED


def test_every_entry_carries_the_epoch_a_dense_sequence_and_a_time_that_never_goes_back(
    lab: Lab,
) -> None:
    sale = busy(lab)  # far in the future: the server's clock says much less than its last time
    page = sale.ledger.read(count=1_000)
    assert [entry.sequence for entry in page.entries] == list(range(1, page.sequence + 1))
    assert {entry.epoch for entry in page.entries} == {page.epoch} == {1}
    times = [entry.at_ms for entry in page.entries]
    assert times == sorted(times)
    assert times[-1] == T0 + 1_010


def test_events_of_a_hold_name_it_and_carry_what_a_reader_needs(lab: Lab) -> None:
    sale = lab.open()
    after = sale.snapshot().sequence
    sale.hold("ann", {"red": 2}, hold_id="h", channel="app", note="19.90 €\r\n|;,").unwrap()
    sale.extend("ann", "h", deadline_ms=T0 + 2_000).unwrap()
    sale.confirm("ann", "h").unwrap()
    sale.refund("ann", "h", lines={"red": 1}, op_id="r").unwrap()
    held, extended, confirmed, refunded = (
        entry.events[0] for entry in sale.ledger.read(after=after).entries
    )
    for event in (held, extended, confirmed, refunded):
        assert (event.buyer, event.hold_id) == ("ann", "h")
    assert (held.channel, held.note, held.deadline_ms) == ("app", "19.90 €\r\n|;,", T0 + 1_000)
    assert (extended.deadline_ms, extended.lines) == (T0 + 2_000, {"red": 2})
    assert (refunded.op_id, refunded.lines) == ("r", {"red": 1})


@pytest.mark.parametrize("lines", [{"red": 1}, {"red": 2, "blue": 1}], ids=["plain", "lines"])
@pytest.mark.parametrize("repeat", [False, True], ids=["fresh", "repeated"])
def test_channel_and_note_go_with_their_own_hold_in_a_batch(
    lab: Lab, lines: dict[str, int], repeat: bool
) -> None:
    sale = lab.open({"red": 99, "blue": 99})
    after = sale.snapshot().sequence
    requests = [
        HoldRequest(f"buyer-{n}", lines, "h", f"c{n}" if n % 3 else "", f"n{n}" if n % 2 else "")
        for n in range(10)
    ]
    if repeat:  # the same buyer twice: not the path of fresh buyers
        requests.append(HoldRequest("buyer-0", lines, "again", "c", "n"))
        requests.append(HoldRequest("buyer-1", lines, "h", "not", "kept"))
    sale.hold_many(requests)
    (entry,) = sale.ledger.read(after=after).entries
    expected = [(r.buyer, r.hold_id, r.channel, r.note) for r in requests[: 11 if repeat else 10]]
    assert [(e.buyer, e.hold_id, e.channel, e.note) for e in entry.events] == expected


def test_the_events_of_one_batch_share_one_entry(lab: Lab) -> None:
    sale = lab.open()
    with lab.watch(sale) as seen:
        sale.hold_many([HoldRequest(f"b{n}", {"red": n + 1, "blue": 1}, "h") for n in range(3)])
    assert seen.entries == 1
    assert seen.events == [f"held red*{n + 1} blue*1" for n in range(3)]


def test_a_refusal_is_not_in_the_ledger(lab: Lab) -> None:
    sale = lab.open({"red": 1})
    with lab.watch(sale) as seen:
        sale.hold("ann", {"red": 2}, hold_id="h")
        sale.confirm("ann", "h")
        sale.restock({"red": -2}, op_id="o")
        sale.resume()
        sale.purge()
    assert (seen.entries, seen.events) == (0, [])


# --- reading ------------------------------------------------------------------------------


def test_a_reader_gets_every_entry_once_by_asking_for_what_follows(lab: Lab) -> None:
    sale = busy(lab)
    whole = sale.ledger.read(count=1_000).entries
    got: list[Entry] = []
    after = 0
    while page := sale.ledger.read(after=after, count=3).entries:
        assert len(page) <= 3
        got += page
        after = page[-1].sequence
    assert tuple(got) == whole
    assert sale.ledger.read(after=10**6).entries == ()


def test_reading_writes_nothing(lab: Lab) -> None:
    sale = busy(lab)
    before = lab.dump(sale)
    sale.ledger.read()
    sale.snapshot()
    assert sale.audit().ok
    assert lab.dump(sale) == before


# --- readers ------------------------------------------------------------------------------


def readers(sale: SaleHandle) -> dict[str, int]:
    return sale.ledger.read(count=1).readers


def test_a_reader_starts_at_the_beginning_and_moves_forward_only(lab: Lab) -> None:
    sale = busy(lab)
    assert sale.ledger.register("sink") == 0
    assert sale.ledger.ack("sink", 5) == 5
    assert sale.ledger.ack("sink", 3) == 5
    assert sale.ledger.ack("sink", 5) == 5
    assert readers(sale) == {"sink": 5}


def test_a_reader_that_registers_again_goes_on_where_it_was(lab: Lab) -> None:
    sale = busy(lab)
    sale.ledger.register("sink")
    sale.ledger.ack("sink", 5)
    before = lab.dump(sale)
    assert sale.ledger.register("sink") == 5
    assert lab.dump(sale) == before


def test_a_forgotten_reader_is_gone_and_forgetting_again_does_nothing(lab: Lab) -> None:
    sale = busy(lab)
    sale.ledger.register("sink")
    sale.ledger.ack("sink", 5)
    assert sale.ledger.forget("sink") == 5
    assert sale.ledger.forget("sink") == 0
    assert readers(sale) == {}


@pytest.mark.parametrize("who", ["unknown", "beyond"])
def test_a_reader_that_is_not_registered_or_ahead_of_the_ledger_cannot_acknowledge(
    lab: Lab, who: str
) -> None:
    sale = busy(lab)
    sale.ledger.register("beyond")
    last = sale.snapshot().sequence
    before = lab.dump(sale)
    with pytest.raises(InvalidRequest, match="must be registered, and sequence at most"):
        sale.ledger.ack(who, last + 1 if who == "beyond" else 1)
    assert lab.dump(sale) == before


def test_a_sale_has_at_most_64_readers(lab: Lab) -> None:
    sale = lab.open()
    for n in range(64):
        sale.ledger.register(f"reader-{n}")
    before = lab.dump(sale)
    with pytest.raises(InvalidRequest, match="at most 64 readers"):
        sale.ledger.register("one-more")
    assert lab.dump(sale) == before
    assert sale.ledger.register("reader-0") == 0
    sale.ledger.forget("reader-0")
    assert sale.ledger.register("one-more") == 0


# --- trimming -----------------------------------------------------------------------------


def swept(lab: Lab) -> SaleHandle:
    """A busy sale whose deadlines are all behind it."""
    sale = busy(lab)
    lab.set_time(sale, T0 + 10_000)
    assert sale.expire() == 1
    return sale


def first_sequence(sale: SaleHandle) -> int:
    after = sale.ledger.trim()
    return sale.ledger.read(after=after, count=1).entries[0].sequence


def test_a_trim_leaves_the_last_entry_and_what_is_not_swept(lab: Lab) -> None:
    sale = lab.open()
    sale.hold("ann", {"red": 1}, hold_id="1").unwrap()
    sale.confirm("ann", "1").unwrap()
    lab.set_time(sale, T0 + 500)
    sale.hold("ann", {"red": 1}, hold_id="2").unwrap()
    assert sale.ledger.trim() == 0
    lab.set_time(sale, T0 + 1_000)
    sale.expire()
    assert sale.ledger.trim() == 3  # up to the hold that is still to fall due
    lab.set_time(sale, T0 + 1_500)
    assert sale.expire() == 1
    lab.set_time(sale, T0 + 9_000)
    sale.release("bob", "t")
    assert sale.ledger.trim() == sale.snapshot().sequence - 2
    lab.set_time(sale, T0 + 20_000)
    sale.hold("bob", {"red": 1}, hold_id="h")
    sale.ledger.trim()
    assert sale.ledger.read(after=sale.ledger.trim()).entries[-1].sequence == 7
    assert sale.audit().problems == ()


def test_a_trim_never_passes_a_registered_reader(lab: Lab) -> None:
    sale = swept(lab)
    sale.ledger.register("fast")
    sale.ledger.register("slow")
    sale.ledger.ack("fast", 9)
    sale.ledger.ack("slow", 4)
    assert sale.ledger.trim() == 4
    assert sale.ledger.read(after=4).entries[0].sequence == 5
    sale.ledger.ack("slow", 6)
    assert sale.ledger.trim() == 6
    sale.ledger.forget("slow")
    assert sale.ledger.trim() == 9
    assert sale.audit().problems == ()


def test_a_reader_that_comes_after_a_trim_starts_behind_the_checkpoint(lab: Lab) -> None:
    sale = swept(lab)
    checkpoint = sale.ledger.trim()
    assert checkpoint > 5
    assert sale.ledger.register("late") == checkpoint
    rule = f"^after: must be at least {checkpoint}"
    with pytest.raises(InvalidRequest, match=rule):
        sale.ledger.read(after=checkpoint - 1)
    assert sale.ledger.read(after=checkpoint).entries[0].sequence == checkpoint + 1


def test_a_trim_with_nothing_to_trim_changes_nothing(lab: Lab) -> None:
    sale = swept(lab)
    checkpoint = sale.ledger.trim()
    before = lab.dump(sale)
    assert sale.ledger.trim() == checkpoint
    assert lab.dump(sale) == before


def test_the_script_trims_no_further_than_it_may_whatever_it_is_told(lab: Lab) -> None:
    sale = swept(lab)
    sale.ledger.register("sink")
    sale.ledger.ack("sink", 5)
    last = sale.snapshot().sequence
    before = lab.dump(sale)
    for ahead, upto, code in [
        (0, 6, b"d"),
        (0, last, b"d"),
        (0, 10**15, b"d"),
        (1, 5, b"Q"),
        (0, 0, b"!"),
        (0, -1, b"!"),
        (0, "x", b"!"),
        ("x", 5, b"!"),
    ]:
        reply = lab.eval("ledger/trim", sale, ahead, upto, "{}")
        assert (reply[2], reply[3]) == (0, code)
    assert lab.dump(sale) == before


def test_the_script_does_not_trim_what_is_still_to_fall_due(lab: Lab) -> None:
    sale = busy(lab)
    lab.set_time(sale, T0 + 1_001)
    assert sale.expire() == 0
    page = sale.ledger.read(count=1)
    before = lab.dump(sale)
    for upto in (page.cursor, page.cursor + 1):
        assert lab.eval("ledger/trim", sale, 0, upto, "{}")[3] == b"d"
    assert lab.dump(sale) == before
    assert lab.eval("ledger/trim", sale, 0, page.cursor - 1, "{}")[3] == b""


def test_a_sale_goes_on_after_a_trim(lab: Lab) -> None:
    sale = swept(lab)
    sale.ledger.trim()
    assert sale.refund("ann", "paid", lines={"red": 1}, op_id="rest").unwrap()
    assert sale.hold("ann", {"red": 1, "blue": 1}, hold_id="paid").replayed
    assert sale.audit().problems == ()
    sale.ledger.trim()
    assert sale.audit().problems == ()


def test_the_ledger_of_an_unknown_sale_is_rejected_not_empty(lab: Lab) -> None:
    with pytest.raises(Rejected):
        lab.shop.sale(lab.new_id()).ledger.read()
