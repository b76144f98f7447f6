"""A key of another type in the place of one of ours: refused before anything is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flashsale import FlashSaleError, HoldRequest, ProtocolError, SaleHandle, StoreUnavailable
from support.lab import T0, Lab

FOREIGN = "something else"


def put_foreign(lab: Lab, sale: SaleHandle, name: str) -> None:
    """A string, the one type that no key of ours has."""
    key = getattr(lab.keys(sale), name)
    lab.raw.delete(key)
    lab.raw.set(key, FOREIGN)


def busy(lab: Lab) -> SaleHandle:
    """A sale with a held, an extended and a confirmed hold, and with due ones."""
    sale = lab.open({"red": 100, "blue": 100})
    for n in range(3):
        sale.hold(f"due-{n}", {"red": 1, "blue": n + 1}, hold_id="h").unwrap()
    sale.hold("extended", {"red": 1}, hold_id="h").unwrap()
    sale.extend("extended", "h", deadline_ms=T0 + 5_000).unwrap()
    sale.restock({"red": 1}, op_id="before").unwrap()
    sale.ledger.register("sink")
    lab.set_time(sale, T0 + 500)
    sale.hold("held", {"red": 1, "blue": 1}, hold_id="h").unwrap()
    sale.hold("paid", {"red": 1, "blue": 1}, hold_id="h").unwrap()
    sale.confirm("paid", "h").unwrap()
    return sale


VERBS: dict[str, Callable[[SaleHandle], object]] = {
    "hold": lambda s: s.hold("new", {"red": 1}, hold_id="h"),
    "hold, second": lambda s: s.hold("held", {"red": 1, "blue": 2}, hold_id="h2"),
    "hold_many": lambda s: s.hold_many(
        [HoldRequest(f"n{n}", {"red": 1, "blue": n}, "h") for n in (1, 2)]
    ),
    "confirm": lambda s: s.confirm("held", "h"),
    "confirm in part": lambda s: s.confirm("held", "h", lines={"red": 1}),
    "confirm an extended one": lambda s: s.confirm("extended", "h"),
    "release": lambda s: s.release("held", "h"),
    "release an extended one": lambda s: s.release("extended", "h"),
    "release an unknown one": lambda s: s.release("new", "h"),
    "extend": lambda s: s.extend("held", "h", deadline_ms=T0 + 3_000),
    "refund": lambda s: s.refund("paid", "h", lines={"red": 1}, op_id="r"),
    "restock": lambda s: s.restock({"red": 1}, op_id="o"),
    "pause": lambda s: s.pause(),
    "expire": lambda s: s.expire(),
    "ledger.register": lambda s: s.ledger.register("other"),
    "ledger.ack": lambda s: s.ledger.ack("sink", 1),
    "ledger.forget": lambda s: s.ledger.forget("sink"),
    "find": lambda s: s.find("held", "h"),
    "snapshot": lambda s: s.snapshot(),
    "audit": lambda s: s.audit(),
    "ledger.read": lambda s: s.ledger.read(),
    "ledger.trim": lambda s: s.ledger.trim(),
}

HOLD_VERBS = [name for name in VERBS if "." not in name and name not in ("pause", "restock")]

# The keys that a verb cannot do without. (A verb need not touch the others: it may then succeed.)
NEEDS: dict[str, list[str]] = {
    "hold": ["sale", "skus", "stock", "buyers", "ledger"],
    "hold, second": ["sale", "skus", "stock", "buyers", "ledger"],
    "hold_many": ["sale", "skus", "stock", "buyers", "ledger"],
    "confirm": ["sale", "stock", "buyers", "ledger"],
    "confirm in part": ["sale", "skus", "stock", "buyers", "ledger"],
    "confirm an extended one": ["sale", "stock", "buyers", "ledger", "deadlines"],
    "release": ["sale", "stock", "buyers", "ledger"],
    "release an extended one": ["sale", "stock", "buyers", "ledger", "deadlines"],
    "release an unknown one": ["sale", "buyers", "ledger"],
    "extend": ["sale", "buyers", "ledger", "deadlines"],
    "refund": ["sale", "skus", "stock", "buyers", "ledger"],
    "restock": ["sale", "skus", "stock", "ledger", "restocks"],
    "pause": ["sale", "ledger"],
    "expire": ["sale"],
    "ledger.register": ["sale", "readers"],
    "ledger.ack": ["sale", "readers"],
    "ledger.forget": ["sale", "readers"],
    "find": ["sale", "stock", "buyers"],
    "snapshot": ["sale", "stock", "buyers"],
    "ledger.read": ["sale", "ledger", "readers"],
    "ledger.trim": ["sale", "stock", "buyers", "ledger", "readers"],
}
DUE_NEEDS = ["sale", "stock", "buyers", "ledger", "deadlines"]
SWEEPING = [
    name for name in VERBS if "." not in name and name not in ("pause", "find", "snapshot", "audit")
]

CELLS = [(verb, key, False) for verb, keys in NEEDS.items() for key in keys] + [
    (verb, key, True) for verb in SWEEPING for key in sorted({*NEEDS[verb], *DUE_NEEDS})
]


@pytest.mark.parametrize(
    ("verb", "key", "due"), CELLS, ids=[f"{v}: {k}{', due' if d else ''}" for v, k, d in CELLS]
)
def test_a_verb_that_meets_a_foreign_key_is_refused_and_has_written_nothing(
    lab: Lab, verb: str, key: str, due: bool
) -> None:
    sale = busy(lab)
    if due:
        lab.set_time(sale, T0 + 1_000)  # the sweep comes first, and meets it too
    put_foreign(lab, sale, key)
    before = lab.dump(sale)
    result: object = None
    with pytest.raises(FlashSaleError) as caught:
        result = VERBS[verb](sale)
        if isinstance(result, list):  # in bulk the error is in each place
            assert len({str(item) for item in result}) == 1
            raise result[0]
    assert isinstance(caught.value, (StoreUnavailable, ProtocolError))
    assert "WRONGTYPE" in str(caught.value)
    assert isinstance(caught.value, StoreUnavailable), "certainly not applied"
    assert lab.dump(sale) == before


@pytest.mark.parametrize("key", ["restocks", "readers"])
@pytest.mark.parametrize("verb", HOLD_VERBS)
def test_a_verb_that_has_no_use_for_a_key_does_not_mind_what_lies_there(
    lab: Lab, verb: str, key: str
) -> None:
    sale = busy(lab)
    put_foreign(lab, sale, key)
    VERBS[verb](sale)
    assert lab.raw.get(getattr(lab.keys(sale), key)) == FOREIGN.encode()


@pytest.mark.parametrize("key", ["skus", "stock", "buyers", "ledger", "deadlines", "restocks"])
@pytest.mark.parametrize("key_type", ["string", "list", "hash"])
def test_a_sale_is_not_opened_where_a_foreign_key_lies(lab: Lab, key: str, key_type: str) -> None:
    sale = lab.open()
    definition = sale.snapshot().sale
    keys = lab.keys(sale)
    lab.raw.delete(keys.sale, keys.skus, keys.stock, keys.ledger)
    place = getattr(keys, key)
    match key_type:
        case "string":
            lab.raw.set(place, FOREIGN)
        case "list":
            lab.raw.rpush(place, FOREIGN)
        case "hash":
            lab.raw.hset(place, "some", "thing")
    before = lab.dump(sale)
    with pytest.raises(ProtocolError, match="FLASHSALE_REMAINS keys of this sale exist without"):
        lab.shop.open(definition)
    assert lab.dump(sale) == before


def test_a_sale_is_not_opened_over_a_foreign_key_in_its_own_place(lab: Lab) -> None:
    sale = lab.open()
    definition = sale.snapshot().sale
    put_foreign(lab, sale, "sale")
    before = lab.dump(sale)
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        lab.shop.open(definition)
    assert lab.dump(sale) == before


@pytest.mark.parametrize("key", ["sale", "skus", "stock", "readers"])
def test_a_purge_that_meets_a_foreign_key_deletes_nothing(lab: Lab, key: str) -> None:
    sale = lab.open()
    sale.end()
    put_foreign(lab, sale, key)
    before = lab.dump(sale)
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        sale.purge()
    assert lab.dump(sale) == before


# --- formats of another release -----------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_a_sale_in_an_unknown_format_is_refused(lab: Lab, verb: str) -> None:
    sale = busy(lab)
    lab.raw.hset(lab.keys(sale).sale, "format", "9")
    before = lab.dump(sale)
    result: object = None
    with pytest.raises(ProtocolError, match="FLASHSALE_FORMAT the sale is in format 9"):
        result = VERBS[verb](sale)
        if isinstance(result, list):
            raise result[0]
    assert lab.dump(sale) == before


@pytest.mark.parametrize(
    "verb", ["hold, second", "confirm", "confirm in part", "release", "extend", "find"]
)
def test_a_record_in_an_unknown_format_is_refused(lab: Lab, verb: str) -> None:
    sale = busy(lab)
    lab.raw.hset(lab.keys(sale).buyers, "held", "2h4000000001500h")
    before = lab.dump(sale)
    with pytest.raises(ProtocolError, match="FLASHSALE_FORMAT a buyer's record is in a format"):
        VERBS[verb](sale)
    assert lab.dump(sale) == before


def test_an_audit_names_whose_record_is_in_an_unknown_format(lab: Lab) -> None:
    sale = busy(lab)
    lab.raw.hset(lab.keys(sale).buyers, "held", "2h4000000001500h")
    assert "the record of buyer 'held' cannot be read" in sale.audit().problems


def test_a_ledger_whose_sequence_goes_back_stops_every_write(lab: Lab) -> None:
    sale = busy(lab)
    lab.raw.hincrby(lab.keys(sale).sale, "sequence", -2)
    before = lab.dump(sale)
    for verb in ("hold", "confirm", "release", "extend", "refund", "restock", "pause"):
        with pytest.raises(StoreUnavailable, match=r"not applied: .* repair .*equal or smaller"):
            VERBS[verb](sale)
    assert lab.dump(sale) == before
