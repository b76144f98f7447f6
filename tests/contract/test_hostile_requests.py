"""Hostile input to the clients: InvalidRequest names field and rule, nothing is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from contract.hostile import BASKETS, IDENTIFIERS, NOTES, QUANTITIES
from flashsale import (
    Answer,
    FlashSale,
    HoldRequest,
    InvalidRequest,
    Line,
    Outcome,
    Sale,
    SaleHandle,
    Sku,
    parse_ref,
)
from support.lab import T0, Lab

ID_RULE = "must be 1 to 64 characters out of A-Z a-z 0-9 . _ ~ @ + = / -"
Verb = Callable[[SaleHandle, Any], object]


def busy(lab: Lab) -> SaleHandle:
    sale = lab.open()
    sale.hold("ann", {"red": 2}, hold_id="h").unwrap()
    sale.hold("bob", {"red": 2}, hold_id="h").unwrap()
    sale.confirm("bob", "h").unwrap()
    return sale


def refused(
    lab: Lab,
    act: Callable[[SaleHandle, Any], object],
    values: Mapping[str, Any],
    field: str,
    rule: str,
) -> None:
    """With each value the act raises InvalidRequest with this field and rule, in a short and
    printable text; nothing is written.
    """
    sale = busy(lab)
    before = lab.dump(sale)
    for name, value in values.items():
        with pytest.raises(InvalidRequest) as caught:
            act(sale, value)
        text = str(caught.value)
        assert caught.value.field == field, name
        assert rule in caught.value.rule, (name, caught.value.rule)
        assert text == f"{field}: {caught.value.rule}"
        assert text.isprintable(), name
        assert len(text) < 400, name
    assert lab.dump(sale) == before
    assert sale.audit().ok


def without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


# --- identifiers --------------------------------------------------------------------------

ID_FIELDS: dict[str, tuple[str, Verb]] = {
    "hold: buyer": ("buyer", lambda s, v: s.hold(v, {"red": 1}, hold_id="n")),
    "hold: hold_id": ("hold_id", lambda s, v: s.hold("ann", {"red": 1}, hold_id=v)),
    "hold: sku": ("sku in basket", lambda s, v: s.hold("ann", {v: 1}, hold_id="n")),
    "hold: sku of a line": ("sku", lambda s, v: s.hold("ann", [Line(v)], hold_id="n")),
    "hold: channel": (
        "channel",
        lambda s, v: s.hold("ann", {"red": 1}, hold_id="n", channel=v),
    ),
    "confirm: buyer": ("buyer", lambda s, v: s.confirm(v, "h")),
    "confirm: hold_id": ("hold_id", lambda s, v: s.confirm("ann", v)),
    "confirm: sku": ("sku in lines", lambda s, v: s.confirm("ann", "h", lines={v: 1})),
    "release: buyer": ("buyer", lambda s, v: s.release(v, "h")),
    "release: hold_id": ("hold_id", lambda s, v: s.release("ann", v)),
    "extend: buyer": ("buyer", lambda s, v: s.extend(v, "h", deadline_ms=T0)),
    "extend: hold_id": ("hold_id", lambda s, v: s.extend("ann", v, deadline_ms=T0)),
    "refund: buyer": ("buyer", lambda s, v: s.refund(v, "h", lines={"red": 1}, op_id="r")),
    "refund: hold_id": ("hold_id", lambda s, v: s.refund("bob", v, lines={"red": 1}, op_id="r")),
    "refund: sku": ("sku in lines", lambda s, v: s.refund("bob", "h", lines={v: 1}, op_id="r")),
    "refund: op_id": ("op_id", lambda s, v: s.refund("bob", "h", lines={"red": 1}, op_id=v)),
    "restock: op_id": ("op_id", lambda s, v: s.restock({"red": 1}, op_id=v)),
    "restock: sku": ("sku in changes", lambda s, v: s.restock({v: 1}, op_id="o")),
    "find: buyer": ("buyer", lambda s, v: s.find(v, "h")),
    "find: hold_id": ("hold_id", lambda s, v: s.find("ann", v)),
    "holds_of: buyer": ("buyer", lambda s, v: s.holds_of(v)),
    "ledger.register: reader": ("reader", lambda s, v: s.ledger.register(v)),
    "ledger.ack: reader": ("reader", lambda s, v: s.ledger.ack(v, 0)),
    "ledger.forget: reader": ("reader", lambda s, v: s.ledger.forget(v)),
}
# Left out, a hold id means that the first argument is a reference; an empty channel is none.
MEANT = {"channel": "empty", "hold_id": "None"}


@pytest.mark.parametrize("where", ID_FIELDS)
def test_what_is_no_identifier_is_refused(lab: Lab, where: str) -> None:
    field, verb = ID_FIELDS[where]
    refused(lab, verb, without(IDENTIFIERS, MEANT.get(field, "")), field, ID_RULE)


@pytest.mark.parametrize("value", IDENTIFIERS)
def test_what_is_no_identifier_is_refused_as_a_sale(shop: FlashSale, value: str) -> None:
    with pytest.raises(InvalidRequest, match="^sale: must be 1 to 64 characters"):
        shop.sale(IDENTIFIERS[value])
    with pytest.raises(InvalidRequest, match="^sale: must be 1 to 64 characters"):
        Sale(IDENTIFIERS[value], [Sku("red", 1)])
    with pytest.raises(InvalidRequest, match="^sku: must be 1 to 64 characters"):
        Sku(IDENTIFIERS[value], 1)


REF_VERBS: dict[str, Verb] = {
    "confirm": lambda s, v: s.confirm(v),
    "release": lambda s, v: s.release(v),
    "extend": lambda s, v: s.extend(v, deadline_ms=T0),
    "refund": lambda s, v: s.refund(v, lines={"red": 1}, op_id="r"),
    "find": lambda s, v: s.find(v),
}


@pytest.mark.parametrize("verb", REF_VERBS)
def test_what_is_no_reference_is_refused(lab: Lab, verb: str) -> None:
    refused(lab, REF_VERBS[verb], IDENTIFIERS, "ref", "must be the `ref` of an answer")


def test_an_answer_with_invented_parts_is_checked_like_any_other_name(lab: Lab) -> None:
    def named(sale: SaleHandle, buyer: Any, hold_id: Any) -> Answer:
        return Answer(Outcome.HELD, sale.id, buyer, hold_id)

    refused(lab, lambda s, v: s.confirm(named(s, v, "h")), IDENTIFIERS, "buyer", ID_RULE)
    refused(lab, lambda s, v: s.release(named(s, "ann", v)), IDENTIFIERS, "hold_id", ID_RULE)


# --- quantities ---------------------------------------------------------------------------

QTY_FIELDS: dict[str, tuple[str, Verb]] = {
    "hold": ("qty of 'red' in basket", lambda s, v: s.hold("ann", {"red": v}, hold_id="n")),
    "hold, second line": (
        "qty of 'red' in basket",
        lambda s, v: s.hold("ann", {"blue": 1, "red": v}, hold_id="n"),
    ),
    "hold, a line": ("qty of 'red'", lambda s, v: s.hold("ann", [Line("red", v)], hold_id="n")),
    "confirm": ("qty of 'red' in lines", lambda s, v: s.confirm("ann", "h", lines={"red": v})),
    "refund": (
        "qty of 'red' in lines",
        lambda s, v: s.refund("bob", "h", lines={"red": v}, op_id="r"),
    ),
}


@pytest.mark.parametrize("where", QTY_FIELDS)
def test_what_is_no_quantity_is_refused(lab: Lab, where: str) -> None:
    field, verb = QTY_FIELDS[where]
    values = QUANTITIES | {"a million and one": 10**6 + 1}
    refused(lab, verb, values, field, "from 1 to 1000000, not")


def test_what_is_no_change_of_stock_is_refused(lab: Lab) -> None:
    def restock(sale: SaleHandle, value: Any) -> object:
        return sale.restock({"blue": 1, "red": value}, op_id="o")

    too_large = {"10^12+1": 10**12 + 1, "-10^12-1": -(10**12) - 1}
    values = without(QUANTITIES, "zero", "minus one", "2^31") | too_large
    rule = "from -1000000000000 to 1000000000000, not"
    refused(lab, restock, values, "change of 'red'", rule)
    refused(lab, restock, {"zero": 0}, "change of 'red'", "must not be 0")


def test_what_is_no_time_is_refused_as_a_deadline(lab: Lab) -> None:
    def extend(sale: SaleHandle, value: Any) -> object:
        return sale.extend("ann", "h", deadline_ms=value)

    values = QUANTITIES | {"of fourteen digits": 10**13}
    refused(lab, extend, values, "deadline_ms", "from 1000000000000 to 9999999999999, not")


OTHER_NUMBERS: dict[str, tuple[str, Verb, list[str]]] = {
    "max_holds": ("from 1 to 1024", lambda s, v: s.expire(v), []),
    # None means the client's own.
    "timeout_ms": (
        "from 1 to 600000",
        lambda s, v: s.confirm("ann", "h", timeout_ms=v),
        ["None"],
    ),
    "count": ("from 1 to 1000", lambda s, v: s.ledger.read(count=v), []),
    "after": ("from 0 to", lambda s, v: s.ledger.read(after=v), ["zero", "2^31"]),
    "sequence": ("from 0 to", lambda s, v: s.ledger.ack("sink", v), ["zero", "2^31"]),
}


@pytest.mark.parametrize("field", OTHER_NUMBERS)
def test_what_is_no_number_in_its_bounds_is_refused(lab: Lab, field: str) -> None:
    rule, verb, meant = OTHER_NUMBERS[field]
    refused(lab, verb, without(QUANTITIES, *meant), field, rule)


# --- baskets, notes, words ----------------------------------------------------------------

BASKET_FIELDS: dict[str, tuple[str, Verb]] = {
    "hold": ("basket", lambda s, v: s.hold("ann", v, hold_id="n")),
    "confirm": ("lines", lambda s, v: s.confirm("ann", "h", lines=v)),
    "refund": ("lines", lambda s, v: s.refund("bob", "h", lines=v, op_id="r")),
}


@pytest.mark.parametrize("where", BASKET_FIELDS)
def test_what_is_no_basket_is_refused(lab: Lab, where: str) -> None:
    field, verb = BASKET_FIELDS[where]
    whole_hold = ["None"] if where == "confirm" else []
    refused(lab, verb, without(BASKETS, *whole_hold), field, "")


def test_a_basket_that_is_refused_is_told_why(lab: Lab) -> None:
    verb = BASKET_FIELDS["hold"][1]
    count = without(BASKETS, *(name for name in BASKETS if not re.search("empty|lines", name)))
    twice = {"twice": BASKETS["the same sku twice"]}
    refused(lab, verb, count, "basket", "must have 1 to 32 lines, not ")
    refused(lab, verb, twice, "basket", "names the sku 'red' twice")
    refused(lab, verb, {"text": "red"}, "basket", "must be a mapping of sku to qty, or a sequence")


def test_what_is_no_mapping_of_changes_is_refused(lab: Lab) -> None:
    def restock(sale: SaleHandle, value: Any) -> object:
        return sale.restock(value, op_id="o")

    too_many = {"too many": {f"s{n}": 1 for n in range(1_001)}}
    mappings: dict[str, Any] = {"empty mapping": {}} | too_many
    refused(lab, restock, without(BASKETS, *map(str, MAPPINGS)), "changes", "must be a mapping")
    refused(lab, restock, mappings, "changes", "must name 1 to 1000 skus")


MAPPINGS = [name for name, value in BASKETS.items() if isinstance(value, dict)]


def test_what_is_no_note_is_refused(lab: Lab) -> None:
    def hold(sale: SaleHandle, value: Any) -> object:
        return sale.hold("ann", {"red": 1}, hold_id="n", note=value)

    rule = "must be a str of at most 256 bytes in UTF-8, without NUL"
    refused(lab, hold, NOTES, "note", rule)


LATE = dict.fromkeys(["", "Retake", "retake ", True, None, b"retake", "x" * (1 << 20), 0])


def test_late_is_one_of_two_words(lab: Lab) -> None:
    words = {ascii(word)[:20]: word for word in LATE}
    rule = 'must be "refuse" or "retake", not '
    refused(lab, lambda s, v: s.confirm("ann", "h", late=v), words, "late", rule)
    refused(lab, lambda s, v: s.confirm_many([], late=v), words, "late", rule)


@pytest.mark.parametrize("sale", [None, "1111", {"id": "1111"}, Sku("red", 1)], ids=repr)
def test_only_a_sale_can_be_opened(shop: FlashSale, sale: Any) -> None:
    with pytest.raises(InvalidRequest, match="^sale: must be a Sale, not"):
        shop.open(sale)


# --- in bulk ------------------------------------------------------------------------------


def test_a_bulk_of_nothing_but_hostile_requests_writes_nothing(lab: Lab) -> None:
    sale = busy(lab)
    before = lab.dump(sale)
    requests = [
        *(HoldRequest(value, {"red": 1}, "n") for value in IDENTIFIERS.values()),
        *(HoldRequest("cyd", {"red": 1}, value) for value in IDENTIFIERS.values()),
        *(HoldRequest("cyd", {"red": value}, "n") for value in QUANTITIES.values()),
        *(HoldRequest("cyd", value, "n") for value in BASKETS.values()),
        *(HoldRequest("cyd", {"red": 1}, "n", "", value) for value in NOTES.values()),
    ]
    answers = sale.hold_many(requests)
    assert len(answers) == len(requests)
    assert {type(answer) for answer in answers} == {InvalidRequest}
    assert lab.dump(sale) == before


def test_good_requests_among_hostile_ones_are_decided_as_if_alone(lab: Lab) -> None:
    sale = lab.open({"red": 1_000})
    bad = [HoldRequest(value, {"red": 1}, "n") for value in IDENTIFIERS.values()]
    bad += [HoldRequest("cyd", {"red": value}, "n") for value in QUANTITIES.values()]
    requests = [
        item
        for n, request in enumerate(bad)
        for item in (request, HoldRequest(f"buyer-{n}", {"red": 1}, "h"))
    ]
    answers = sale.hold_many(requests)
    assert {type(answer) for answer in answers[::2]} == {InvalidRequest}
    good = [answer for answer in answers[1::2] if isinstance(answer, Answer)]
    assert [answer.outcome for answer in good] == [Outcome.HELD] * len(bad)
    assert [answer.buyer for answer in good] == [f"buyer-{n}" for n in range(len(bad))]
    assert sale.snapshot().skus["red"].held == len(bad)


@pytest.mark.parametrize("verb", ["hold_many", "confirm_many", "release_many"])
def test_a_bulk_is_a_list_or_a_tuple(lab: Lab, verb: str) -> None:
    field = "requests" if verb == "hold_many" else "holds"
    values: dict[str, Any] = {
        "None": None,
        "text": "ann",
        "bytes": b"ann",
        "a mapping": {"ann": "h"},
        "a set": {"ann"},
        "a generator": (name for name in ["ann"]),
        "an int": 1,
    }
    refused(lab, lambda s, v: getattr(s, verb)(v), values, field, "must be a sequence, not ")


@pytest.mark.parametrize("verb", ["confirm_many", "release_many"])
def test_hostile_names_in_bulk_are_told_in_their_places(lab: Lab, verb: str) -> None:
    sale = busy(lab)
    good = parse_ref(Answer(Outcome.HELD, sale.id, "ann", "h").ref)
    names = [*IDENTIFIERS.values(), Answer(Outcome.HELD, *good), None]
    answers = getattr(sale, verb)(names)
    assert {type(answer) for answer in answers[: len(IDENTIFIERS)]} == {InvalidRequest}
    assert isinstance(answers[-2], Answer)
    assert isinstance(answers[-1], InvalidRequest)
    assert sale.audit().ok
