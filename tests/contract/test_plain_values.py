"""A text that is more than a text (an enum, a framework's safe string) works like its text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import msgspec
import pytest

from flashsale import (
    FlashSale,
    HoldRequest,
    InvalidRequest,
    JoinRequest,
    Key,
    Line,
    Outcome,
    Sale,
    SaleHandle,
    Sku,
    WaitingRoom,
    inventory,
)
from flashsale.batches import Item, Kind, run_batch
from flashsale.draw import proof_of
from flashsale.streamtime import write_cue
from flashsale.testing import OracleSale
from support.cues import POSITION
from support.lab import T0, Lab


class Lying(str):
    """Prints, encodes, compares and hashes as something else than it holds."""

    __slots__ = ()

    def __str__(self) -> str:
        return "lie"

    def __format__(self, spec: str) -> str:
        return "lie"

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 7

    def encode(self, *_: object, **__: object) -> bytes:
        return b"lie"


def member(text: str) -> str:
    return Enum("Names", {"MEMBER": text}, type=str).MEMBER  # type: ignore[return-value,attr-defined]


Wrap = Callable[[str], Any]
WRAPS: dict[str, Wrap] = {"a lying subclass": Lying, "an enum": member}

Verb = Callable[[SaleHandle, Wrap], Any]
VERBS: dict[str, Verb] = {
    "hold": lambda s, w: s.hold(
        w("new"), {w("red"): 1}, hold_id=w("n"), channel=w("app"), note=w("€"), key=w("device")
    ),
    "hold nothing but what must be": lambda s, w: s.hold(
        w("new"), [Line(w("red"), 2), Line(w("blue"))], hold_id=w("n"), channel=w(""), note=w("")
    ),
    "hold_many": lambda s, w: s.hold_many(
        [HoldRequest("one", {"red": 1}, "n"), HoldRequest(w("two"), {w("red"): 1}, w("n"))]
    ),
    "confirm": lambda s, w: s.confirm(w("ann"), w("h"), lines={w("red"): 1}, late=w("retake")),
    "confirm by ref": lambda s, w: s.confirm(w(f"{s.id}__ann__h")),
    "confirm_many": lambda s, w: s.confirm_many([w(f"{s.id}__ann__h")], late=w("refuse")),
    "release": lambda s, w: s.release(w("ann"), w("h")),
    "release_many": lambda s, w: s.release_many([w(f"{s.id}__ann__h")]),
    "extend": lambda s, w: s.extend(w("ann"), w("h"), deadline_ms=T0 + 2_000),
    "refund": lambda s, w: s.refund(w("bob"), w("h"), lines={w("red"): 1}, op_id=w("r")),
    "restock": lambda s, w: s.restock({w("red"): 5, w("blue"): -1}, op_id=w("truck")),
    "find": lambda s, w: s.find(w("ann"), w("h")),
    "holds_of": lambda s, w: s.holds_of(w("ann")),
    "ledger.register": lambda s, w: s.ledger.register(w("sink")),
    "ledger.ack": lambda s, w: [s.ledger.register("sink"), s.ledger.ack(w("sink"), 1)],
    "ledger.forget": lambda s, w: [s.ledger.register("sink"), s.ledger.forget(w("sink"))],
}


def told(value: object, sale: SaleHandle) -> str:
    """Whatever was answered, without the sale's name in it."""
    return repr(msgspec.to_builtins(value, enc_hook=repr)).replace(sale.id, "SALE")


def prepared(lab: Lab) -> SaleHandle:
    sale = lab.open(key_holds_max=5)
    sale.hold("ann", {"red": 2}, hold_id="h").unwrap()
    sale.hold("bob", {"red": 2}, hold_id="h").unwrap()
    sale.confirm("bob", "h").unwrap()
    return sale


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("verb", VERBS)
def test_it_does_what_its_text_does_and_leaves_the_same_data(
    lab: Lab, verb: str, wrap: str
) -> None:
    plain, other = prepared(lab), prepared(lab)
    answers = [VERBS[verb](plain, str), VERBS[verb](other, WRAPS[wrap])]
    assert told(answers[1], other) == told(answers[0], plain)
    dumps = [repr(lab.dump(sale)).replace(sale.id, "SALE") for sale in (plain, other)]
    opened_at = re.compile(r"b't': b'1\d{12}'")  # their time stands still only after the opening
    assert opened_at.sub("", dumps[1]) == opened_at.sub("", dumps[0])


@pytest.mark.parametrize("wrap", WRAPS)
def test_it_names_the_same_sale_in_every_call_and_definition(lab: Lab, wrap: str) -> None:
    w = WRAPS[wrap]
    sale = lab.open()
    other = lab.shop.sale(w(sale.id))
    assert type(other.id) is str
    other.hold("ann", {"red": 1}, hold_id="h").unwrap()
    assert sale.snapshot().skus["red"].held == 1
    again = Sale(w(sale.id), [Sku(w("red"), 10), Sku(w("blue"), 10)], hold_ttl_ms=1_000)
    assert lab.shop.open(again).snapshot().skus["red"].held == 1
    with pytest.raises(InvalidRequest, match="appears twice"):
        Sale("s", [Sku("red", 1), Sku(w("red"), 1)])


def test_a_sku_with_further_fields_makes_no_other_definition(lab: Lab) -> None:
    class Priced(Sku, frozen=True):
        cents: int = 0

    sale = lab.open()
    skus = [Priced("red", 10, cents=5), Priced("blue", 10, cents=7)]
    assert lab.shop.open(Sale(sale.id, skus, hold_ttl_ms=1_000)).id == sale.id


TWICE: dict[str, tuple[str, Verb]] = {
    "hold": ("basket", lambda s, w: s.hold("new", {"red": 1, w("red"): 2}, hold_id="n")),
    "restock": ("changes", lambda s, w: s.restock({"red": 1, w("red"): 2}, op_id="o")),
    "enter": (
        "minimum",
        lambda s, w: s.cue("drop", at=1, cue_time_ms=T0, stock={"red": 1}).enter(
            "ann", {"red": 2}, position_ms=1, minimum={"red": 1, w("red"): 2}
        ),
    ),
    "cue": (
        "stock",
        lambda s, w: s.cue("drop", at=1, cue_time_ms=T0, stock={"red": 1, w("red"): 2}),
    ),
}


@pytest.mark.parametrize("verb", TWICE)
def test_two_keys_of_a_mapping_that_are_one_sku_are_refused(lab: Lab, verb: str) -> None:
    field, call = TWICE[verb]
    with pytest.raises(InvalidRequest, match=f"^{field}: names (the sku )?'red',? twice"):
        call(lab.open(), Lying)


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_cue_is_opened_entered_and_asked_about_by_it(lab: Lab, wrap: str) -> None:
    w = WRAPS[wrap]
    sale = lab.open()
    cue = sale.cue(
        w("drop"), at=POSITION, cue_time_ms=T0, stock={w("red"): 3}, keep=w("all"), proof=True
    )
    nonce = cue.cue().nonce
    handle = sale.cue_handle(w("drop"))
    entered = handle.enter(
        w("ann"),
        {w("red"): 2},
        position_ms=POSITION + 1,
        minimum={w("red"): 1},
        proof=w(proof_of(nonce, sale.id, "drop", "ann")),
    )
    assert (entered.outcome, entered.buyer, type(entered.buyer)) == (Outcome.ENTERED, "ann", str)
    assert handle.result(w("ann"), wait_ms=0).outcome is Outcome.NOT_CLOSED
    assert handle.void(w("no reason")).outcome is Outcome.VOID
    assert handle.view().reason == "no reason"
    assert sale.cues() == ["drop"]


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_place_in_the_waiting_room_is_found_by_it(lab: Lab, wrap: str) -> None:
    w = WRAPS[wrap]
    sale = lab.open(admission=True)
    sale.queue.open(WaitingRoom(rate_per_s=1_000, key_places_max=2))
    joined = sale.queue.join(w("ann"), key=w("device"))
    (again,) = sale.queue.join_many([JoinRequest(w("ann"), w("device"))])
    assert isinstance(again, type(joined))
    assert (joined.outcome, joined.number) == (Outcome.JOINED, again.number)
    assert type(joined.buyer) is str
    lab.set_time(sale, T0 + 1)
    sale.queue.view()
    position = sale.queue.position(w("ann"), w(joined.ticket))
    admitted = sale.queue.admit(w("ann"), w(joined.ticket))
    assert position.outcome is Outcome.CALLED
    assert admitted.outcome is Outcome.ADMITTED
    for answer in (position, admitted):
        assert (answer.ticket, type(answer.ticket)) == (joined.ticket, str)
    assert sale.queue.leave(w("ann"), w(joined.ticket)).outcome is Outcome.LEFT


@pytest.mark.parametrize("wrap", WRAPS)
def test_keys_durability_and_the_stream_take_its_text(server_url: str, wrap: str) -> None:
    w = WRAPS[wrap]
    key = Key(w("main"), bytearray(32) and bytes(32))
    assert (type(key.id), type(key.secret)) == (str, bytes)
    with FlashSale.from_url(server_url, durability=w("memory")) as shop:
        assert type(shop.durability) is str
    line = write_cue(w("drop"), position_ms=T0, nonce=w("ab" * 16), window_ms=1)
    assert 'ID="drop"' in line
    assert 'X-NONCE="' + "ab" * 16 in line


@pytest.mark.parametrize("wrap", WRAPS)
def test_the_oracle_takes_its_text_too(wrap: str) -> None:
    w = WRAPS[wrap]
    model = OracleSale(Sale("s", [Sku("red", 5)]), now_ms=T0)
    model.hold(w("ann"), {w("red"): 1}, hold_id=w("h"), now_ms=T0).unwrap()
    held = model.find("ann", "h", now_ms=T0)
    assert held is not None
    assert held.lines == {"red": 1}


# --- what fails while a call is built hits one item ------------------------------------------


class Broken(Mapping[str, int]):
    """A basket whose own code fails, as one that is read late from a database may."""

    def __getitem__(self, sku: str) -> int:
        raise OSError("the database is gone")

    def __iter__(self) -> Any:
        raise OSError("the database is gone")

    def __len__(self) -> int:
        return 1


def test_a_request_whose_own_code_fails_is_an_error_in_its_place(lab: Lab) -> None:
    sale = lab.open()
    requests = [
        HoldRequest("one", {"red": 1}, "h"),
        HoldRequest("two", Broken(), "h"),
        HoldRequest("three", {"red": 1}, "h"),
    ]
    one, two, three = sale.hold_many(requests)
    assert isinstance(two, InvalidRequest)
    assert isinstance(two.__cause__, OSError)
    assert [getattr(item, "outcome", None) for item in (one, three)] == [Outcome.HELD] * 2


def test_a_list_that_changes_while_it_is_sent_was_read_at_the_beginning(lab: Lab) -> None:
    sale = lab.open({"red": 1_000})
    requests = [HoldRequest(f"b{n}", {"red": 1}, "h") for n in range(600)]
    operation = inventory.hold_many(sale.id, requests)

    def emptied() -> Any:
        step = next(operation)
        requests.clear()
        while True:
            reply = yield step
            try:
                step = operation.send(reply)
            except StopIteration as end:
                return end.value

    answers = lab.shop.perform(emptied())
    assert [answer.outcome for answer in answers] == [Outcome.HELD] * 600


def test_what_fits_into_no_call_is_refused_alone(lab: Lab) -> None:
    sale = lab.open()
    kind: Kind = inventory.hold_kind(sale.id)
    items = [Item(f"b{n}", "h", ("red", 1)) for n in range(5)]
    items[3] = Item("b3", "h", ("red", 1), "", "\ud800")  # as if a check had let it through
    ends: dict[int, Any] = {}

    def tell(numbers: Any, results: Any) -> None:
        ends.update(zip(numbers, results, strict=True))

    lab.shop.perform(run_batch(kind, items, tell))
    assert isinstance(ends.pop(3), InvalidRequest)
    assert {number: end.outcome for number, end in ends.items()} == dict.fromkeys(
        (0, 1, 2, 4), Outcome.HELD
    )
    assert sale.snapshot().skus["red"].held == 4
