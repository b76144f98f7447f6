"""purge deletes an ended sale behind its readers, and its id stays used for ever."""

from __future__ import annotations

import pytest

from flashsale import Outcome, Rejected, Sale, SaleHandle, Sku
from support.lab import T0, Lab


def ended(lab: Lab) -> SaleHandle:
    """An ended sale in which everything has happened and nothing is held."""
    sale = lab.open()
    sale.hold("ann", {"red": 2}, hold_id="h").unwrap()
    sale.extend("ann", "h", deadline_ms=T0 + 2_000).unwrap()
    sale.confirm("ann", "h").unwrap()
    sale.restock({"red": 1}, op_id="o").unwrap()
    sale.ledger.register("sink")
    sale.end()
    sale.ledger.ack("sink", sale.snapshot().sequence)
    return sale


def test_purge_deletes_every_key_but_the_tombstone(lab: Lab) -> None:
    sale = ended(lab)
    answer = sale.purge()
    assert (answer.outcome, answer.replayed) == (Outcome.PURGED, False)
    dump = lab.dump(sale)
    tombstone = dump.pop(lab.keys(sale).sale)
    assert tombstone == {b"format": b"1", b"state": b"purged", b"epoch": b"1"}
    assert set(dump.values()) == {None}


def test_purging_again_is_replayed(lab: Lab) -> None:
    sale = ended(lab)
    sale.purge()
    before = lab.dump(sale)
    answer = sale.purge()
    assert (answer.outcome, answer.replayed) == (Outcome.PURGED, True)
    assert lab.dump(sale) == before


def test_only_an_ended_sale_is_purged(lab: Lab) -> None:
    sale = lab.open()
    for verb in (sale.resume, sale.pause):
        verb()
        before = lab.dump(sale)
        assert sale.purge().outcome is Outcome.NOT_ENDED
        assert lab.dump(sale) == before


@pytest.mark.parametrize("sku", ["red", "blue"])
def test_a_sale_with_held_units_of_any_sku_is_not_purged(lab: Lab, sku: str) -> None:
    sale = lab.open()
    sale.hold("ann", {sku: 1}, hold_id="h").unwrap()
    sale.end()
    before = lab.dump(sale)
    assert sale.purge().outcome is Outcome.HOLDS_OUTSTANDING
    assert lab.dump(sale) == before
    lab.set_time(sale, T0 + 1_000)  # due now, and swept on the way
    assert sale.purge().outcome is Outcome.PURGED


def test_a_sale_is_not_purged_before_every_reader_has_read_all(lab: Lab) -> None:
    sale = lab.open()
    sale.ledger.register("fast")
    sale.ledger.register("slow")
    sale.end()
    last = sale.snapshot().sequence
    sale.ledger.ack("fast", last)
    sale.ledger.ack("slow", last - 1)
    before = lab.dump(sale)
    assert sale.purge().outcome is Outcome.READERS_BEHIND
    assert lab.dump(sale) == before
    sale.ledger.ack("slow", last)
    assert sale.purge().outcome is Outcome.PURGED


def test_a_forgotten_reader_does_not_hold_a_purge_up(lab: Lab) -> None:
    sale = lab.open()
    sale.ledger.register("gone")
    sale.end()
    assert sale.purge().outcome is Outcome.READERS_BEHIND
    sale.ledger.forget("gone")
    assert sale.purge().outcome is Outcome.PURGED


def test_not_ended_answers_before_holds_outstanding_and_that_before_readers_behind(
    lab: Lab,
) -> None:
    sale = lab.open()
    sale.ledger.register("sink")
    sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    assert sale.purge().outcome is Outcome.NOT_ENDED
    sale.end()
    assert sale.purge().outcome is Outcome.HOLDS_OUTSTANDING
    sale.release("ann", "h")
    assert sale.purge().outcome is Outcome.READERS_BEHIND


def test_the_id_of_a_purged_sale_is_never_used_again(lab: Lab) -> None:
    sale = ended(lab)
    definition = sale.snapshot().sale
    sale.purge()
    before = lab.dump(sale)
    for again in (definition, Sale(sale.id, [Sku("other", 1)])):
        with pytest.raises(Rejected) as rejected:
            lab.shop.open(again)
        assert rejected.value.outcome is Outcome.PURGED
    assert lab.dump(sale) == before


def test_a_purged_sale_can_no_longer_be_looked_at(lab: Lab) -> None:
    sale = ended(lab)
    sale.purge()
    for look in (
        sale.snapshot,
        sale.audit,
        sale.expire,
        sale.ledger.trim,
        lambda: sale.find("ann", "h"),
        lambda: sale.holds_of("ann"),
        lambda: sale.ledger.register("sink"),
        lambda: sale.ledger.ack("sink", 1),
        lambda: sale.ledger.forget("sink"),
    ):
        with pytest.raises(Rejected) as rejected:
            look()
        assert rejected.value.outcome is Outcome.PURGED
