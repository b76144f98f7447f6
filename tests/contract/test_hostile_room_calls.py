"""The waiting room's scripts check what they are sent, too: what no client of ours would send is
refused, nobody gains a place or a turn by it, and the room goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import pytest
import redis

from contract.test_hostile_calls import BAD_IDS, GARBAGE
from flashsale import FlashSale, Outcome
from support.lab import T0, Lab
from support.queues import SLOT, Hall

encode = msgspec.msgpack.encode
SLOT_OF_T0 = T0 // SLOT


@pytest.fixture
def shop(_shops: dict[str, FlashSale]) -> FlashSale:
    """One shell is enough: what is sent here goes past it."""
    return _shops["sync"]


@pytest.fixture
def hall(lab: Lab) -> Iterator[Hall]:
    """Eight who joined, of whom a … d are called and a, b are let in; a holds.

    Whatever was sent, the room and the sale are unharmed in the end.
    """
    hall = Hall(lab, {"red": 4}, places_max=2_000, key_places_max=3, sale={"key_holds_max": 3})
    hall.call("a", "b", "c", "d", "e", "f", "g", "h")
    for buyer in "ab":
        hall.queue.admit(buyer)
    hall.sale.hold("a", {"red": 1}, hold_id="h", key="phone").unwrap()
    hall.look()
    yield hall
    unharmed(hall)


def send(hall: Hall, name: str, *args: Any, **more: Any) -> str | None:
    """The letters of the answer; None if the server answered with an error."""
    try:
        reply = hall.lab.eval(f"waiting_room/{name}", hall.sale, *args, **more)
    except redis.ResponseError:
        return None
    code: bytes = reply[3] if len(reply) == 5 else reply[2]
    return code.decode()


def refused(hall: Hall, name: str, *args: Any, **more: Any) -> None:
    all_refused(hall, name, [args], **more)


def all_refused(hall: Hall, name: str, calls: Iterable[Sequence[Any]], **more: Any) -> None:
    """Each of them by itself, and all of them together have changed nothing."""
    before = hall.everything()
    for args in calls:
        code = send(hall, name, *args, **more)
        assert code in (None, "!"), (code, args)
    assert hall.everything() == before


def unharmed(hall: Hall) -> None:
    """Everybody has the place and the turn they had, and the next who come get theirs."""
    assert [hall.queue.admit(buyer).outcome for buyer in "ab"] == [Outcome.ADMITTED] * 2
    answer = hall.queue.join("afterwards")
    assert answer.outcome is Outcome.JOINED
    assert hall.queue.leave("afterwards").replayed is False
    assert hall.sale.audit().problems == ()


def places(name: str, count: int, told: int | None = None) -> bytes:
    """Where the places of so many buyers are, all in the one hash; or so many are told of."""
    told = count if told is None else told
    return encode([[count], list(range(1, told + 1))] if name == "join" else [1] * told)


NONE = encode([[0], [0], [0]])
GOOD: dict[str, list[Any]] = {
    "join": [encode(["x"]), places("join", 1), b""],
    "admit": [encode(["c"]), encode([1]), NONE],
    "leave": [encode(["c"]), encode([1]), encode([0])],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_batch_with_a_buyer_who_is_none_is_refused_as_a_whole(hall: Hall, name: str) -> None:
    three = places(name, 3)
    rest = {
        "join": [three, b""],
        "admit": [three, encode([[0] * 3] * 3)],
        "leave": [three, encode([0] * 3)],
    }[name]
    all_refused(hall, name, ([encode([bad]), *GOOD[name][1:]] for bad in BAD_IDS.values()))
    all_refused(hall, name, ([encode(["c", bad, "d"]), *rest] for bad in BAD_IDS.values()))


def test_a_key_that_is_none_is_refused(hall: Hall) -> None:
    bad = [encode([[bad], [1]]) for bad in BAD_IDS.values() if bad != ""]  # "": there is none
    all_refused(hall, "join", ([*GOOD["join"][:2], marks] for marks in bad))


WHERES = [0, 2, -1, 1.5, "1", True, None, [1], float("nan"), float("inf"), 2**53]


@pytest.mark.parametrize("name", GOOD)
def test_a_place_in_a_hash_that_was_not_given_is_refused(hall: Hall, name: str) -> None:
    good = GOOD[name]
    spots = ([[1], [where]] if name == "join" else [where] for where in WHERES)
    all_refused(hall, name, ([good[0], encode(spot), *good[2:]] for spot in spots))
    if name == "join":
        all_refused(hall, name, ([*good[:2], encode([["phone"], [where]])] for where in WHERES))
    refused(hall, name, *GOOD[name], hashes=0)


SIZES: dict[str, tuple[int, int]] = {
    "no operation": (0, 0),
    "a place too few": (3, 2),
    "a place too many": (3, 4),
    "no places": (3, 0),
    "1,025 operations": (1_025, 1_025),
    "20,000 operations": (20_000, 20_000),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", GOOD)
def test_a_batch_of_another_size_than_it_may_have_is_refused(
    hall: Hall, name: str, size: str
) -> None:
    count, told = SIZES[size]
    rest = {"join": [b""], "admit": [encode([[0] * count] * 3)], "leave": [encode([0] * count)]}[
        name
    ]
    refused(hall, name, encode([f"x{n}" for n in range(count)]), places(name, count, told), *rest)


@pytest.mark.parametrize("name", GOOD)
def test_the_largest_batch_is_taken(hall: Hall, name: str) -> None:
    count = 1_024
    rest = {
        "join": [encode([[f"k{n}" for n in range(count)], [1] * count])],
        "admit": [encode([[0] * count] * 3)],
        "leave": [encode([0] * count)],
    }[name]
    code = send(hall, name, encode([f"x{n}" for n in range(count)]), places(name, count), *rest)
    assert code == {"join": "1", "admit": "7" * count, "leave": "8"}[name]


@pytest.mark.parametrize(
    "marks",
    [[], [[]], [[], []], [["k"]], [["k"], []], [[], [1]], [["k", "k"], [1, 1]], "k", 7, {"k": 1}],
    ids=repr,
)
def test_marks_of_another_length_are_refused(hall: Hall, marks: Any) -> None:
    refused(hall, "join", *GOOD["join"][:2], encode(marks))


TICKETS = [-1, 1.5, float("nan"), float("inf"), float("-inf"), "1", True, None, [1], {"a": 1}]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_ticket_of_values_that_are_no_whole_numbers_is_refused(hall: Hall, place: int) -> None:
    for bad in TICKETS:
        ticket: list[list[Any]] = [[3], [T0], [T0 + 10**9]]
        ticket[place] = [bad]
        refused(hall, "admit", *GOOD["admit"][:2], encode(ticket))


def test_without_one_place_no_number_keeps_a_script_busy_or_lets_anybody_in(lab: Lab) -> None:
    hall = Hall(lab, {"red": 1}, sale={"admission": False}, one_place=False)
    hall.call("a", "b")
    for bad in [*TICKETS, 0, 3, 2**31, 2**53, 2**63, 1e300]:
        ticket = encode([[bad], [T0], [T0 + 10**9]])
        assert send(hall, "admit", encode(["a"]), encode([]), ticket) in (None, "!", "-")
    assert hall.queue.view().arrived == 0


def test_tickets_of_other_lengths_are_refused(hall: Hall) -> None:
    for tickets in ([[0], [0], []], [[0], [], [0]], [[], [0], [0]], [[0], [0]], [], [0, 0, 0]):
        refused(hall, "admit", *GOOD["admit"][:2], encode(tickets))


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_any_argument_is_refused(hall: Hall, garbage: str) -> None:
    for name, good in GOOD.items():
        all_refused(
            hall,
            name,
            (
                [*good[:place], GARBAGE[garbage], *good[place + 1 :]]
                for place, argument in enumerate(good)
                if argument != b"" or garbage not in ("empty", "nil")  # there are no marks
            ),
        )


def test_a_missing_argument_is_refused(hall: Hall) -> None:
    for name, good in GOOD.items():
        all_refused(hall, name, (good[:count] for count in range(len(good))))
    for name in ("reveal", "steer"):
        refused(hall, name)


@pytest.mark.parametrize("caller_ms", ["", "x", "0x10", "nan", "-1", "1e3", "1.5", " 7 "])
def test_a_callers_time_that_is_none_is_refused(hall: Hall, caller_ms: str) -> None:
    others = {"reveal": ["ab" * 32], "steer": ["paused", ""], "show": []}
    for name, args in (GOOD | others).items():
        refused(hall, name, *args, caller_ms=caller_ms)


BAD_RATES = (
    "0", "-1", "nan", "inf", "1e3", "0x10", "1.2.3", ".", "...", " 7 ", "1000001", "1000000.1",
    "x", "1,5", "\u0663",
)  # fmt: skip


def test_a_state_or_a_rate_that_is_none_is_refused(hall: Hall) -> None:
    all_refused(hall, "steer", ([state, ""] for state in ("stopped", "Paused", "running ", "\0")))
    all_refused(hall, "steer", (["", rate] for rate in BAD_RATES))


# --- opening ------------------------------------------------------------------------------

RULES: list[Any] = [0, 32_000, 1_000, 0.5, 0.1, 1_000, True, False, 1]
BAD_RULES: dict[str, Any] = {
    "none": [],
    "eight": RULES[:8],
    "ten": [*RULES, 1],
    "a map": {"ttl": 1},
    "a number": 7,
    "another slot": [*RULES[:2], 999, *RULES[3:]],
    "a cap on keys without one place": [*RULES[:6], False, 5, 1],
    **{
        f"{field} {bad!r}": [*RULES[:place], bad, *RULES[place + 1 :]]
        for place, field in enumerate(
            ["opens", "ttl", "slot", "conversion", "margin", "places_max", "one_place", "key_max",
             "hashes"]
        )
        for bad in (-1, 2**63, float("nan"), float("inf"), "1", None, [1])
    },
    **{
        f"{field} {bad!r}": [*RULES[:place], bad, *RULES[place + 1 :]]
        for place, field, bad in [
            (0, "opens", 0.5), (1, "ttl", 0), (1, "ttl", 1.5), (3, "conversion", 0),
            (3, "conversion", 1_001), (4, "margin", 1.1), (5, "places_max", 0),
            (5, "places_max", 10**8 + 1), (6, "one_place", 1), (7, "key_max", 0),
            (7, "key_max", True), (8, "hashes", 0), (8, "hashes", 401),
        ]
    },
}  # fmt: skip


def test_a_room_with_such_rules_is_opened(lab: Lab) -> None:
    assert opening(lab, RULES, "5.5") == "o"
    assert opening(lab, RULES, "1000000.000000") == "o"


def test_a_room_with_bad_rules_is_not_opened(lab: Lab) -> None:
    for bad, rules in BAD_RULES.items():
        assert opening(lab, rules, "5.5") in (None, "!"), bad


def test_a_room_with_a_bad_rate_is_not_opened(lab: Lab) -> None:
    for rate in ("", *BAD_RATES):
        assert opening(lab, RULES, rate) in (None, "!"), rate


def opening(lab: Lab, rules: Any, rate: str) -> str | None:
    sale = lab.open()
    before = lab.dump(sale)
    try:
        reply = lab.eval("waiting_room/open", sale, "{}", encode(rules), rate, "{}")
    except redis.ResponseError:
        reply = None
    if reply is None or reply[3] != b"o":
        assert lab.dump(sale) == before
    return None if reply is None else reply[3].decode()


# --- holds with turns and keys ------------------------------------------------------------

ONE = encode([[["red", 1]]])


def test_keys_of_holds_that_are_none_refuse_the_batch(hall: Hall) -> None:
    bad_lists: list[Any] = [[bad] for bad in BAD_IDS.values() if bad != ""]
    for keys in [*bad_lists, [], ["phone", "x"], {"a": 1}, 7, "phone"]:
        before = hall.everything()
        with pytest.raises(redis.ResponseError):
            hall.lab.eval(
                "inventory/hold", hall.sale, encode(["b"]), encode(["h"]), ONE, b"", encode(keys)
            )
        assert hall.everything() == before


def test_a_buyer_who_is_none_among_holds_with_turns_harms_no_neighbour(hall: Hall) -> None:
    for number, bad in enumerate(BAD_IDS.values()):
        before = hall.everything()
        buyers, ids = encode(["e", bad, "f"]), encode([f"h{number}"] * 3)
        try:
            reply = hall.lab.eval("inventory/hold", hall.sale, buyers, ids, ONE, b"", b"")
        except redis.ResponseError:
            reply = None
        assert reply is None or reply[3] == b"6!6"
        assert hall.everything() == before
    assert hall.sale.hold("b", {"red": 1}, hold_id="h").outcome is Outcome.HELD
