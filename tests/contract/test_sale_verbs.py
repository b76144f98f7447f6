"""open, pause, resume, end: verb × state of the sale → outcome, effect, events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from flashsale import Answer, InvalidRequest, Outcome, Rejected, Sale, SaleHandle, SaleState, Sku
from support.lab import T0, Lab

VERBS: dict[str, Callable[[SaleHandle], Answer]] = {
    "pause": lambda s: s.pause(),
    "resume": lambda s: s.resume(),
    "end": lambda s: s.end(),
}

# verb, state before, outcome, replayed, state after, events
TABLE = [
    ("pause", "running", "PAUSED", False, "paused", ["state"]),
    ("pause", "paused", "PAUSED", True, "paused", []),
    ("pause", "ended", "ENDED", False, "ended", []),
    ("resume", "running", "RESUMED", True, "running", []),
    ("resume", "paused", "RESUMED", False, "running", ["state"]),
    ("resume", "ended", "ENDED", False, "ended", []),
    ("end", "running", "ENDED", False, "ended", ["state"]),
    ("end", "paused", "ENDED", False, "ended", ["state"]),
    ("end", "ended", "ENDED", True, "ended", []),
]


def bring_to(sale: SaleHandle, state: str) -> None:
    if state != "running":
        VERBS[{"paused": "pause", "ended": "end"}[state]](sale)


@pytest.mark.parametrize(("verb", "before", "outcome", "replayed", "after", "events"), TABLE)
def test_a_verb_on_the_sale_has_the_outcome_and_the_event_of_the_table(
    lab: Lab, verb: str, before: str, outcome: str, replayed: bool, after: str, events: list[str]
) -> None:
    sale = lab.open()
    bring_to(sale, before)
    with lab.watch(sale) as seen:
        answer = VERBS[verb](sale)
    assert (answer.outcome.name, answer.replayed) == (outcome, replayed)
    assert (answer.buyer, answer.hold_id, answer.state, answer.deadline_ms) == ("", "", None, None)
    assert sale.snapshot().state is SaleState(after)
    assert (seen.effect, seen.events) == ("", events)
    assert sale.audit().ok


def test_a_state_event_says_the_new_state(lab: Lab) -> None:
    sale = lab.open()
    sale.pause()
    sale.resume()
    sale.end()
    events = [event for entry in sale.ledger.read(after=1).entries for event in entry.events]
    assert [event.text for event in events] == ["paused", "running", "ended"]


@pytest.mark.parametrize("state", ["paused", "ended"])
def test_a_paused_or_ended_sale_refuses_new_holds_and_everything_else_goes_on(
    lab: Lab, state: str
) -> None:
    sale = lab.open()
    for hold_id in ("paid", "given-up", "late"):
        sale.hold("ann", {"red": 1}, hold_id=hold_id).unwrap()
    bring_to(sale, state)
    before = lab.dump(sale)
    assert sale.hold("bob", {"red": 1}, hold_id="h").outcome.name == state.upper()
    assert lab.dump(sale) == before
    assert sale.hold("ann", {"red": 1}, hold_id="paid").replayed
    assert sale.extend("ann", "late", deadline_ms=T0 + 2_000).outcome is Outcome.EXTENDED
    assert sale.confirm("ann", "paid").outcome is Outcome.CONFIRMED
    assert sale.release("ann", "given-up").outcome is Outcome.RELEASED
    assert sale.refund("ann", "paid", lines={"red": 1}, op_id="r").outcome is Outcome.REFUNDED
    assert sale.restock({"red": 1}, op_id="o").outcome is Outcome.RESTOCKED
    lab.set_time(sale, T0 + 2_000)
    assert sale.expire() == 1
    assert sale.confirm("ann", "late", late="retake").outcome is Outcome.CONFIRMED
    assert sale.audit().ok


def test_a_resumed_sale_takes_holds_again(lab: Lab) -> None:
    sale = lab.open()
    sale.pause()
    sale.resume()
    assert sale.hold("ann", {"red": 1}, hold_id="h").outcome is Outcome.HELD


# --- open ---------------------------------------------------------------------------------


def test_opening_gives_the_stock_the_rules_and_one_opened_event(lab: Lab) -> None:
    sale = Sale(
        lab.new_id(),
        [Sku("red", 10**12, 2), Sku("blue", 0)],
        hold_ttl_ms=1,
        limit=7,
        opens_at_ms=1_000_000_000_000,
        closes_at_ms=9_999_999_999_999,
        holds_max=64,
        extend_max_ms=0,
        buyers_max=1,
    )
    handle = lab.shop.open(sale)
    view = handle.snapshot()
    assert view.sale == sale
    assert (view.state, view.epoch, view.sequence, view.buyers) == (SaleState.RUNNING, 1, 1, 0)
    assert view.due_at_ms is None
    red, blue = view.skus.values()
    assert (red.sku, red.allotment, red.available, red.limit) == ("red", 10**12, 10**12, 2)
    assert (blue.sku, blue.allotment, blue.available, blue.limit) == ("blue", 0, 0, None)
    assert red.held == red.sold == red.set_aside == blue.held == blue.sold == blue.set_aside == 0
    (entry,) = handle.ledger.read().entries
    assert (entry.epoch, entry.sequence) == (1, 1)
    assert [event.kind.value for event in entry.events] == ["opened"]
    assert handle.audit().ok


def test_opening_the_same_definition_again_changes_nothing_whatever_has_happened_since(
    lab: Lab,
) -> None:
    sale = Sale(lab.new_id(), [Sku("red", 5)])
    handle = lab.shop.open(sale)
    handle.hold("ann", {"red": 5}, hold_id="h").unwrap()
    handle.pause()
    before = lab.dump(handle)
    lab.shop.open(sale)
    assert lab.dump(handle) == before


DIFFERENT = {
    "stock": {"skus": [Sku("red", 6)]},
    "limit of a sku": {"skus": [Sku("red", 5, 1)]},
    "another sku": {"skus": [Sku("red", 5), Sku("blue", 1)]},
    "ttl": {"hold_ttl_ms": 1},
    "limit": {"limit": 1},
    "opens": {"opens_at_ms": T0},
    "closes": {"closes_at_ms": T0},
    "holds_max": {"holds_max": 1},
    "extend_max": {"extend_max_ms": 1},
    "buyers_max": {"buyers_max": 1},
}


@pytest.mark.parametrize("changes", DIFFERENT.values(), ids=DIFFERENT)
def test_opening_with_another_definition_is_a_conflict_and_changes_nothing(
    lab: Lab, changes: dict[str, object]
) -> None:
    first: dict[str, object] = {"skus": [Sku("red", 5)]}
    sale_id = lab.new_id()
    handle = lab.shop.open(Sale(sale_id, **first))  # type: ignore[arg-type]
    before = lab.dump(handle)
    with pytest.raises(Rejected, match="conflict") as rejected:
        lab.shop.open(Sale(sale_id, **first | changes))  # type: ignore[arg-type]
    assert rejected.value.outcome is Outcome.CONFLICT
    assert lab.dump(handle) == before


@pytest.mark.parametrize("field", ["skus", "stock", "buyers", "ledger", "deadlines", "restocks"])
def test_a_sale_is_not_opened_over_the_remains_of_a_lost_one(lab: Lab, field: str) -> None:
    sale = Sale(lab.new_id(), [Sku("red", 5)])
    handle = lab.shop.open(sale)
    handle.hold("ann", {"red": 1}, hold_id="h")
    handle.extend("ann", "h", deadline_ms=handle.snapshot().at_ms + 1_000_000)
    handle.restock({"red": 1}, op_id="o")
    keys = lab.keys(handle)
    others = {"skus", "stock", "buyers", "ledger", "deadlines", "restocks", "sale"} - {field}
    lab.raw.delete(*(getattr(keys, name) for name in others))
    before = lab.dump(handle)
    with pytest.raises(Exception, match="FLASHSALE_REMAINS keys of this sale exist without"):
        lab.shop.open(sale)
    assert lab.dump(handle) == before


def test_two_sales_on_one_server_do_not_touch_each_other(lab: Lab) -> None:
    one, other = lab.open({"red": 1}), lab.open({"red": 1})
    before = lab.dump(other)
    assert one.hold("ann", {"red": 1}, hold_id="h").outcome is Outcome.HELD
    assert lab.dump(other) == before
    assert other.hold("ann", {"red": 1}, hold_id="h").outcome is Outcome.HELD


def test_a_look_at_a_sale_that_is_not_there_is_rejected(lab: Lab) -> None:
    sale = lab.shop.sale(lab.new_id())
    looks: list[Callable[[], object]] = [
        sale.snapshot,
        sale.audit,
        sale.expire,
        lambda: sale.find("ann", "h"),
        lambda: sale.holds_of("ann"),
        sale.ledger.read,
        lambda: sale.ledger.register("sink"),
        lambda: sale.ledger.ack("sink", 1),
        lambda: sale.ledger.forget("sink"),
        sale.ledger.trim,
    ]
    for look in looks:
        with pytest.raises(Rejected) as rejected:
            look()
        assert rejected.value.outcome is Outcome.SALE_UNKNOWN


# --- opening and attaching ----------------------------------------------------------------


def test_opening_says_whether_the_sale_is_new(lab: Lab) -> None:
    sale = Sale(lab.new_id(), [Sku("red", 5)])
    assert lab.shop.open(sale).created is True
    assert lab.shop.open(sale).created is False
    assert lab.shop.sale(sale.id).created is None
    assert lab.shop.attach(sale.id).created is None


def test_attaching_takes_an_id_or_the_definition_and_changes_nothing(lab: Lab) -> None:
    sale = Sale(lab.new_id(), [Sku("red", 5, 2)], opens_at_ms=T0)
    before = lab.dump(lab.shop.open(sale))
    for handle in (lab.shop.attach(sale.id), lab.shop.attach(sale)):
        assert handle.id == sale.id
        assert lab.dump(handle) == before


def refusal_to_attach(lab: Lab, sale: Sale | str) -> Outcome:
    with pytest.raises(Rejected) as error:
        lab.shop.attach(sale)
    return error.value.outcome


def test_a_sale_that_was_lost_is_not_created_by_attaching_but_by_opening_which_says_so(
    lab: Lab,
) -> None:
    sale = Sale(lab.new_id(), [Sku("red", 5)])
    handle = lab.shop.open(sale)
    handle.hold("ann", {"red": 5}, hold_id="h").unwrap()
    lab.raw.delete(*[key for key, value in lab.dump(handle).items() if value is not None])
    for name in (sale, sale.id):
        assert refusal_to_attach(lab, name) is Outcome.SALE_UNKNOWN
    assert not any(lab.dump(handle).values())
    assert lab.shop.open(sale).created is True


@pytest.mark.parametrize("difference", DIFFERENT)
def test_attaching_to_another_definition_is_a_conflict(lab: Lab, difference: str) -> None:
    sale = Sale(lab.new_id(), [Sku("red", 5)])
    lab.shop.open(sale)
    other = msgspec.structs.replace(sale, **DIFFERENT[difference])
    assert refusal_to_attach(lab, other) is Outcome.CONFLICT
    assert lab.shop.attach(sale).id == sale.id


def test_attaching_to_a_purged_sale_is_refused(lab: Lab) -> None:
    sale = lab.open()
    sale.end()
    sale.purge().unwrap()
    assert refusal_to_attach(lab, sale.id) is Outcome.PURGED


@pytest.mark.parametrize("name", [7, None, b"1111", "a b", ["1111"]])
def test_what_is_no_sale_cannot_be_attached_to(lab: Lab, name: Any) -> None:
    with pytest.raises(InvalidRequest, match="^sale: must be 1 to 64 characters"):
        lab.shop.attach(name)
