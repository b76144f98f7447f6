"""A key of another type in the place of one of the waiting room's: refused before anything is
written, whether holds are due or not; or it is of no concern to the verb.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flashsale import FlashSaleError, JoinRequest, StoreUnavailable, limits
from flashsale.keys import places_key
from support.lab import T0, Lab
from support.queues import ENDS, Hall

Verb = Callable[[Hall], Any]
VERBS: dict[str, Verb] = {
    "open": lambda hall: hall.queue.open(hall.room),
    "join": lambda hall: hall.queue.join("new", key="phone"),
    "join_many": lambda hall: hall.queue.join_many([JoinRequest("x"), JoinRequest("y")]),
    "admit": lambda hall: hall.queue.admit("bob"),
    "join, back": lambda hall: hall.queue.join("dan"),
    "leave": lambda hall: hall.queue.leave("bob"),
    "leave, waiting": lambda hall: hall.queue.leave("cyd"),
    "leave, let in": lambda hall: hall.queue.leave("ann"),
    "view": lambda hall: hall.queue.view(),
    "pause": lambda hall: hall.queue.pause(),
    "set_rate": lambda hall: hall.queue.set_rate(3),
    "hold": lambda hall: hall.sale.hold("ann", {"red": 1}, hold_id="h2", key="phone"),
    "hold, refused": lambda hall: hall.sale.hold("bob", {"red": 1}, hold_id="h2", key="phone"),
}
SHOW = ["sale", "skus", "stock", "room", "vacant"]
NEEDS: dict[str, list[str]] = {
    "open": ["sale", "room"],
    "join": ["sale", "room", "places"],
    "join_many": ["sale", "room", "places"],
    "admit": [*SHOW, "admitted", "places"],
    "join, back": ["sale", "room", "vacant", "places"],
    "leave": ["sale", "room", "admitted", "vacant", "places"],
    "leave, waiting": ["sale", "room", "admitted", "vacant", "places"],
    "leave, let in": ["sale", "room", "admitted", "vacant", "places"],
    "view": SHOW,
    "pause": ["sale", "room"],
    "set_rate": ["sale", "room"],
    "hold": ["sale", "skus", "stock", "buyers", "ledger", "room", "admitted", "caps"],
    "hold, refused": ["sale", "admitted", "caps"],
}
SWEEPS = ["ledger", "deadlines", "buyers", "stock"]
CELLS = [(verb, key, False) for verb, keys in NEEDS.items() for key in keys] + [
    (verb, key, True)
    for verb in ("admit", "view", "hold")
    for key in sorted({*NEEDS[verb], *SWEEPS})
]


def busy(lab: Lab, due: bool) -> Hall:
    """Ann is let in and holds, Bob is called, Cyd waits, Dan left; another hold is extended."""
    rules = {"hold_ttl_ms": 1_000, "key_holds_max": 5}
    hall = Hall(lab, {"red": 4, "blue": 4}, key_places_max=5, conversion=4, sale=rules)
    hall.let_in("ann")
    hall.sale.hold("ann", {"red": 1}, hold_id="h", key="phone").unwrap()
    hall.sale.hold("ann", {"blue": 1}, hold_id="moved").unwrap()
    hall.sale.extend("ann", "moved", deadline_ms=hall.now() + 1_001).unwrap()
    hall.call("bob", "cyd", "dan")
    hall.queue.leave("dan")
    hall.look(T0 + 500)
    if due:  # and this process knows the room, so that its first call is the verb's own
        lab.set_time(hall.sale, T0 + 5_000)
    return hall


def key_of(hall: Hall, name: str) -> str:
    if name == "places":
        return places_key(hall.sale.id, 0)
    return str(getattr(hall.lab.keys(hall.sale), name))


@pytest.mark.parametrize(
    ("verb", "key", "due"), CELLS, ids=[f"{v}: {k}{', due' if d else ''}" for v, k, d in CELLS]
)
def test_a_verb_that_meets_a_foreign_key_is_refused_and_has_written_nothing(
    lab: Lab, verb: str, key: str, due: bool
) -> None:
    hall = busy(lab, due)
    name = key_of(hall, key)
    saved: Any = lab.raw.dump(name)
    lab.raw.delete(name)
    lab.raw.rpush(name, "something else")
    before = hall.everything()
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        result = VERBS[verb](hall)
        if isinstance(result, list):
            raise result[0]
    assert hall.everything() == before
    lab.raw.delete(name)
    lab.raw.restore(name, 0, saved)
    told = VERBS[verb](hall)
    assert not isinstance(told, FlashSaleError)
    assert hall.sale.audit().problems == ()


def test_a_foreign_key_in_one_of_the_places_harms_none_of_the_others(lab: Lab) -> None:
    hall = Hall(lab, places_max=3 * limits.PLACES_PER_HASH)
    answers = hall.join(*(f"b{n}" for n in range(30)))
    lab.raw.delete(places_key(hall.sale.id, 1))
    lab.raw.set(places_key(hall.sale.id, 1), "something else")
    told = []
    for answer in answers:
        try:
            told.append(hall.queue.join(answer.buyer).number == answer.number)
        except StoreUnavailable:
            told.append(False)
    assert 3 < sum(told) < 28
    assert hall.look(ENDS).joined == 30


def test_a_purge_that_meets_a_foreign_room_deletes_nothing(lab: Lab) -> None:
    sale = lab.open()
    sale.end()
    lab.raw.set(lab.keys(sale).room, "something else")
    before = lab.dump(sale)
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        sale.purge()
    assert lab.dump(sale) == before
