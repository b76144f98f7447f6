"""The scripts' own checks: what no client of ours would send is MALFORMED or an error, and
nothing of it is written; its neighbours in the batch are decided as ever.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
import redis

from contract.hostile import IDENTIFIERS
from flashsale import FlashSale, Outcome, SaleHandle
from support.lab import T0, Lab

encode = msgspec.msgpack.encode

BAD_IDS: dict[str, Any] = {
    name: value for name, value in IDENTIFIERS.items() if name not in ("a lone surrogate", "None")
} | {"nil": None, "an array": ["ann"], "a map": {"ann": 1}, "32 and a bar": "a" * 31 + "|"}

BAD_QUANTITIES: dict[str, Any] = {
    "zero": 0,
    "minus one": -1,
    "a million and one": 10**6 + 1,
    "2^31": 2**31,
    "2^53+1": 2**53 + 1,
    "2^63": 2**63,
    "-2^63": -(2**63),
    "one and a half": 1.5,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "one as text": "1",
    "0x10 as text": "0x10",
    "1e3 as text": "1e3",
    "7 in blanks": " 7 ",
    "True": True,
    "nil": None,
    "an array": [1],
}


@pytest.fixture
def shop(_shops: dict[str, FlashSale]) -> FlashSale:
    """One shell is enough: what is sent here goes past it."""
    return _shops["sync"]


VALID_ID = re.compile(rb"[A-Za-z0-9._~@+=/-]{1,64}")


def send(lab: Lab, name: str, sale: SaleHandle, *args: Any) -> str | None:
    """The letters of the answer; None if the server answered with an error."""
    try:
        reply = lab.eval(f"inventory/{name}", sale, *args)
    except redis.ResponseError:
        return None
    codes: str = reply[3].decode()
    return codes


def unharmed(lab: Lab, sale: SaleHandle) -> None:
    """Whatever was sent, the books are right, can be read, and hold nothing strange."""
    assert sale.audit().problems == ()
    buyers: Any = lab.raw.hgetall(lab.keys(sale).buyers)
    assert all(VALID_ID.fullmatch(buyer) for buyer in buyers)
    for entry in sale.ledger.read(count=1_000).entries:
        for event in entry.events:
            for text in (event.buyer, event.hold_id, event.op_id, event.channel):
                assert isinstance(text, str)
                assert text == "" or VALID_ID.fullmatch(text.encode())
    assert sale.hold("afterwards", {"red": 1}, hold_id="h").outcome is Outcome.HELD


def refused_whole(lab: Lab, sale: SaleHandle, name: str, *args: Any) -> None:
    before = lab.dump(sale)
    codes = send(lab, name, sale, *args)
    assert codes is None or set(codes) == {"!"}
    assert lab.dump(sale) == before
    unharmed(lab, sale)


# --- one bad operation among good ones ----------------------------------------------------


def stocked(lab: Lab, state: str) -> SaleHandle:
    """Buyers a, b, c and d with a hold "h" each, fresh, held or confirmed."""
    sale = lab.open({"red": 1_000, "blue": 1_000})
    for buyer in "abcd":
        if state != "fresh":
            sale.hold(buyer, {"red": 1}, hold_id="h").unwrap()
        if state == "confirmed":
            sale.confirm(buyer, "h").unwrap()
    return sale


ONE = encode([[["red", 1]]])

# verb: the state it needs, its letter for a good operation, its arguments after buyers and ids
VERBS: dict[str, tuple[str, str, list[bytes | str]]] = {
    "hold": ("fresh", "H", [ONE, b""]),
    "confirm": ("held", "C", [b"", "refuse"]),
    "release": ("held", "R", []),
    "extend": ("held", "X", [encode([T0 + 2_000] * 3)]),
    "refund": ("confirmed", "F", [ONE, encode(["r"] * 3)]),
}


@pytest.mark.parametrize("bad", BAD_IDS)
@pytest.mark.parametrize("place", ["buyer", "id"])
@pytest.mark.parametrize("verb", VERBS)
def test_an_operation_with_a_bad_identifier_is_refused_and_its_neighbours_are_not(
    lab: Lab, verb: str, place: str, bad: str
) -> None:
    state, letter, rest = VERBS[verb]
    sale = stocked(lab, state)
    buyers: list[Any] = ["a", "b", "c"]
    ids: list[Any] = ["h", "h", "h"]
    (buyers if place == "buyer" else ids)[1] = BAD_IDS[bad]
    before = lab.dump(sale)
    codes = send(lab, verb, sale, encode(buyers), encode(ids), *rest)
    if codes is None:
        assert lab.dump(sale) == before
    else:
        assert codes == f"{letter}!{letter}"
    unharmed(lab, sale)


@pytest.mark.parametrize("bad", BAD_IDS)
def test_a_batch_of_nothing_but_a_bad_identifier_is_refused(lab: Lab, bad: str) -> None:
    for verb, (state, _, rest) in VERBS.items():
        sale = stocked(lab, state)
        rest = [encode([T0 + 2_000])] if verb == "extend" else rest
        rest = [ONE, encode(["r"])] if verb == "refund" else rest
        refused_whole(lab, sale, verb, encode([BAD_IDS[bad]]), encode(["h"]), *rest)
        sale = stocked(lab, state)
        refused_whole(lab, sale, verb, encode(["a"]), encode([BAD_IDS[bad]]), *rest)


def test_an_identifier_that_looks_like_a_part_of_a_record_cannot_pass_for_another_hold(
    lab: Lab,
) -> None:
    sale = lab.open({"red": 100, "blue": 100})
    sale.hold("a", {"red": 3, "blue": 1}, hold_id="h").unwrap()
    sale.hold("a", {"red": 1}, hold_id="h2").unwrap()
    sale.hold("b", {"red": 3, "blue": 1}, hold_id="h").unwrap()
    before = lab.dump(sale)
    for text in ("h|0*3,1", "h|0*3", "h|", "h|0*3,1;h", "h;h", "h2;", "|", ";"):
        for verb, (_, _, rest) in VERBS.items():
            rest = [encode([T0 + 2_000])] if verb == "extend" else rest
            rest = [ONE, encode(["r"])] if verb == "refund" else rest
            for buyer in ("a", "b"):
                codes = send(lab, verb, sale, encode([buyer]), encode([text]), *rest)
                assert codes in (None, "!"), (verb, buyer, text)
    assert lab.dump(sale) == before


@pytest.mark.parametrize("verb", VERBS)
def test_a_number_does_not_pass_for_the_identifier_that_is_written_like_it(
    lab: Lab, verb: str
) -> None:
    state, _, rest = VERBS[verb]
    rest = [encode([T0 + 2_000])] if verb == "extend" else rest
    rest = [ONE, encode(["r"])] if verb == "refund" else rest
    sale = stocked(lab, "fresh")
    if state != "fresh":
        sale.hold("7", {"red": 1}, hold_id="7").unwrap()
    if state == "confirmed":
        sale.confirm("7", "7").unwrap()
    refused_whole(lab, sale, verb, encode([7]), encode(["7"]), *rest)
    refused_whole(lab, sale, verb, encode(["7"]), encode([7]), *rest)


@pytest.mark.parametrize("bad", BAD_QUANTITIES)
@pytest.mark.parametrize("verb", ["hold", "confirm", "refund"])
def test_a_basket_with_a_bad_quantity_is_refused_and_others_are_not(
    lab: Lab, verb: str, bad: str
) -> None:
    state, letter, rest = VERBS[verb]
    for basket in (["red", BAD_QUANTITIES[bad]], ["blue", 1, "red", BAD_QUANTITIES[bad]]):
        sale = stocked(lab, state)
        blob = encode([[["red", 1], basket], [1, 2, 1]])
        last = encode(["r"] * 3) if verb == "refund" else rest[1]
        before = lab.dump(sale)
        codes = send(lab, verb, sale, encode(["a", "b", "c"]), encode(["h"] * 3), blob, last)
        if codes is None:
            assert lab.dump(sale) == before
        else:
            assert codes == f"{letter}!{letter}"
        unharmed(lab, sale)
        alone = [encode(["d"]), encode(["h"]), encode([[basket]])]
        refused_whole(lab, sale, verb, *alone, encode(["r"]) if verb == "refund" else rest[1])


BAD_BASKETS: dict[str, Any] = {
    "empty": [],
    "a sku twice": ["red", 1, "blue", 1, "red", 1],
    "33 lines": [x for n in range(33) for x in (f"sku-{n}", 1)],
    "10,000 lines": [x for n in range(10_000) for x in (f"sku-{n}", 1)],
    "a sku without quantity": ["red"],
    "two skus and one quantity": ["red", 1, "blue"],
    "a map": {"red": 1},
    "text": "red",
    "a number": 1,
    "nil": None,
    "a bad sku": ["a b", 1],
    "a numeric sku": [0, 1],
    "an array as sku": [["red"], 1],
}


@pytest.mark.parametrize("bad", BAD_BASKETS)
@pytest.mark.parametrize("verb", ["hold", "confirm", "refund"])
def test_a_basket_that_is_none_is_refused_and_others_are_not(lab: Lab, verb: str, bad: str) -> None:
    state, letter, rest = VERBS[verb]
    sale = stocked(lab, state)
    blob = encode([[["red", 1], BAD_BASKETS[bad]], [1, 2, 1]])
    last = encode(["r"] * 3) if verb == "refund" else rest[1]
    before = lab.dump(sale)
    codes = send(lab, verb, sale, encode(["a", "b", "c"]), encode(["h"] * 3), blob, last)
    if codes is None:
        assert lab.dump(sale) == before
    else:
        assert codes == f"{letter}!{letter}"
    unharmed(lab, sale)


# --- batches that are none ----------------------------------------------------------------

THREE = [encode(["a", "b", "c"]), encode(["h"] * 3)]
BATCHES: dict[str, tuple[list[Any], list[Any]]] = {
    "no operation": ([], []),
    "1,025 operations": ([f"n{n}" for n in range(1_025)], ["h"] * 1_025),
    "5,000 operations": ([f"n{n}" for n in range(5_000)], ["h"] * 5_000),
    "20,000 operations": ([f"n{n}" for n in range(20_000)], ["h"] * 20_000),
    "an id too few": (["a", "b", "c"], ["h", "h"]),
    "an id too many": (["a", "b", "c"], ["h"] * 4),
    "no ids": (["a", "b", "c"], []),
}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("verb", VERBS)
def test_a_batch_of_another_size_than_it_may_have_is_refused(
    lab: Lab, verb: str, batch: str
) -> None:
    state, _, rest = VERBS[verb]
    buyers, ids = BATCHES[batch]
    if verb == "extend":
        rest = [encode([T0 + 2_000] * len(buyers))]
    elif verb == "refund":
        rest = [ONE, encode(["r"] * len(buyers))]
    refused_whole(lab, stocked(lab, state), verb, encode(buyers), encode(ids), *rest)


SPLIT = [["red", 1], ["blue", 1]]
OTHER_LENGTHS: dict[str, tuple[str, list[Any]]] = {
    "deadlines": ("extend", [encode([T0 + 2_000] * 2)]),
    "op_ids": ("refund", [ONE, encode(["r", "r"])]),
    "no op_ids": ("refund", [ONE, encode([])]),
    "hold: which too short": ("hold", [encode([SPLIT, [2, 1]]), b""]),
    "hold: which too long": ("hold", [encode([SPLIT, [2, 1, 2, 1]]), b""]),
    "hold: no which": ("hold", [encode([SPLIT, []]), b""]),
    "confirm: which too short": ("confirm", [encode([SPLIT, [1]]), "refuse"]),
    "refund: which too short": ("refund", [encode([SPLIT, [1]]), encode(["r"] * 3)]),
    "marks too short": ("hold", [ONE, encode([["app"], ["n"]])]),
    "marks too long": ("hold", [ONE, encode([["app"] * 4, ["n"] * 4])]),
    "marks without notes": ("hold", [ONE, encode([["app"] * 3])]),
    "marks that are none": ("hold", [ONE, encode("app")]),
}


@pytest.mark.parametrize("what", OTHER_LENGTHS)
def test_lists_that_differ_in_length_are_refused(lab: Lab, what: str) -> None:
    verb, rest = OTHER_LENGTHS[what]
    refused_whole(lab, stocked(lab, VERBS[verb][0]), verb, *THREE, *rest)


@pytest.mark.parametrize("which", [0, 3, -1, 1.5, "1", True, None, [1], float("nan")], ids=repr)
@pytest.mark.parametrize("verb", ["hold", "refund", "confirm"])
def test_an_operation_that_names_a_basket_that_is_not_there_is_refused(
    lab: Lab, verb: str, which: Any
) -> None:
    if (verb, which) == ("confirm", 0):
        return  # it means the whole hold
    state, letter, rest = VERBS[verb]
    sale = stocked(lab, state)
    blob = encode([[["red", 1], ["blue", 1]], [1, which, 1]])
    last = encode(["r"] * 3) if verb == "refund" else rest[1]
    before = lab.dump(sale)
    codes = send(lab, verb, sale, *THREE, blob, last)
    if codes is None:
        assert lab.dump(sale) == before
    else:
        assert codes == f"{letter}!{letter}"
    unharmed(lab, sale)


def test_a_basket_that_no_operation_has_changes_nothing(lab: Lab) -> None:
    sale = lab.open({"red": 1_000, "blue": 1})
    before = lab.dump(sale)
    blob = encode([[["red", 1], ["blue", 2]], [2, 2, 2]])
    codes = send(lab, "hold", sale, *THREE, blob, b"")
    assert codes in (None, "SSS", "S")
    assert lab.dump(sale) == before
    unharmed(lab, sale)


GARBAGE: dict[str, bytes] = {
    "empty": b"",
    "text": b"ann",
    "never msgpack": b"\xc1",
    "cut short": encode(["ann", "bob"])[:-1],
    "bin": encode([b"ann"]),
    "a number": encode(7),
    "a word": encode("ann"),
    "nil": encode(None),
    "a map": encode({"a": "b"}),
    "nested without end": b"\x91" * 10_000,
}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("verb", VERBS)
def test_garbage_in_any_argument_is_refused(lab: Lab, verb: str, garbage: str) -> None:
    state, _, rest = VERBS[verb]
    good = [*THREE, *rest]
    for place, argument in enumerate(good):
        if argument in (b"", "refuse") or (verb == "confirm" and garbage == "empty"):
            continue  # "" has a meaning there
        bad = [*good]
        bad[place] = GARBAGE[garbage]
        refused_whole(lab, stocked(lab, state), verb, *bad)


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_argument_is_refused(lab: Lab, verb: str) -> None:
    state, _, rest = VERBS[verb]
    good = [*THREE, *rest]
    for count in range(len(good)):
        if verb == "confirm" and count >= 3:
            continue  # what is not "retake" is a refusal
        refused_whole(lab, stocked(lab, state), verb, *good[:count])


@pytest.mark.parametrize("caller_ms", ["", "x", "0x10", "nan", "inf", "-1", "1e3", "1.5", " 7 "])
def test_a_callers_time_that_is_none_is_refused(lab: Lab, caller_ms: str) -> None:
    for verb, (state, _, rest) in VERBS.items():
        sale = stocked(lab, state)
        before = lab.dump(sale)
        with pytest.raises(redis.ResponseError, match="FLASHSALE_MALFORMED the caller's time"):
            lab.eval(f"inventory/{verb}", sale, *THREE, *rest, caller_ms=caller_ms)
        assert lab.dump(sale) == before


# --- the other scripts --------------------------------------------------------------------


@pytest.mark.parametrize("bad", BAD_QUANTITIES)
def test_a_deadline_that_is_no_time_is_refused_and_others_are_not(lab: Lab, bad: str) -> None:
    if bad in ("zero", "a million and one", "2^31"):
        return  # times, if early ones
    sale = stocked(lab, "held")
    before = lab.dump(sale)
    wanted = encode([T0 + 2_000, BAD_QUANTITIES[bad], T0 + 2_000])
    codes = send(lab, "extend", sale, *THREE, wanted)
    if codes is None:
        assert lab.dump(sale) == before
    else:
        assert codes == "X!X"
    unharmed(lab, sale)


BAD_CHANGES: Mapping[str, Any] = {
    name: value
    for name, value in BAD_QUANTITIES.items()
    if name not in ("minus one", "a million and one", "2^31")
} | {"10^12+1": 10**12 + 1, "-10^12-1": -(10**12) - 1}


@pytest.mark.parametrize("bad", BAD_CHANGES)
def test_a_bad_change_of_stock_refuses_the_whole_restock(lab: Lab, bad: str) -> None:
    for changes in (["red", BAD_CHANGES[bad]], ["blue", 1, "red", BAD_CHANGES[bad]]):
        refused_whole(lab, stocked(lab, "held"), "restock", "o", encode(changes))


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["red"],
        ["red", 1, "red", 1],
        ["a b", 1],
        [0, 1],
        {"red": 1},
        "red",
        7,
        None,
        [x for n in range(1_001) for x in (f"s{n}", 1)],
    ],
    ids=lambda changes: repr(changes)[:20],
)
def test_changes_of_stock_that_are_none_are_refused(lab: Lab, changes: Any) -> None:
    refused_whole(lab, stocked(lab, "held"), "restock", "o", encode(changes))


@pytest.mark.parametrize("op_id", [v for v in IDENTIFIERS.values() if isinstance(v, str)][:-3])
def test_a_bad_op_id_of_a_restock_is_refused(lab: Lab, op_id: str) -> None:
    text = op_id.encode("utf-8", "surrogatepass")
    refused_whole(lab, stocked(lab, "held"), "restock", text, encode(["red", 1]))


@pytest.mark.parametrize("bad", BAD_IDS)
def test_a_bad_op_id_of_a_refund_is_refused_and_others_are_not(lab: Lab, bad: str) -> None:
    sale = stocked(lab, "confirmed")
    before = lab.dump(sale)
    codes = send(lab, "refund", sale, *THREE, ONE, encode(["r", BAD_IDS[bad], "r"]))
    if codes is None:
        assert lab.dump(sale) == before
    else:
        assert codes == "F!F"
    unharmed(lab, sale)


@pytest.mark.parametrize("state", ["", "Paused", "purged", "open", "\0", "running "])
def test_a_state_that_is_none_is_refused(lab: Lab, state: str) -> None:
    refused_whole(lab, stocked(lab, "held"), "set_state", state)


@pytest.mark.parametrize("budget", ["", "0", "-1", "1025", "1.5", "nan", "inf", "x", "1e9"])
def test_a_budget_that_is_none_is_refused(lab: Lab, budget: str) -> None:
    sale = stocked(lab, "held")
    lab.set_time(sale, T0 + 1_000)
    before = lab.dump(sale)
    with pytest.raises(redis.ResponseError, match="FLASHSALE_MALFORMED the budget must be"):
        lab.eval("inventory/expire", sale, budget)
    assert lab.dump(sale) == before


SEQUENCES = ["", "-1", "1.5", "nan", "-nan", "inf", "x", "99", str(2**53 + 1)]


@pytest.mark.parametrize("sequence", SEQUENCES)
@pytest.mark.parametrize("verb", ["ack", "register", "forget"])
def test_a_sequence_that_is_none_or_not_there_yet_is_refused(
    lab: Lab, verb: str, sequence: str
) -> None:
    sale = stocked(lab, "held")
    sale.ledger.register("sink")
    before = lab.dump(sale)
    assert lab.eval("ledger/reader", sale, verb, "sink", sequence)[3] == b"!"
    assert lab.dump(sale) == before


@pytest.mark.parametrize("verb", ["", "acknowledge", "REGISTER", "\0"])
@pytest.mark.parametrize("reader", ["sink", "new"])
def test_a_verb_that_readers_do_not_have_is_refused(lab: Lab, verb: str, reader: str) -> None:
    sale = stocked(lab, "held")
    sale.ledger.register("sink")
    before = lab.dump(sale)
    assert lab.eval("ledger/reader", sale, verb, reader, 1)[3] == b"!"
    assert lab.dump(sale) == before


@pytest.mark.parametrize("name", ["", "a b", "a" * 65, "}{", "a;b"])
def test_a_reader_of_a_bad_name_is_refused(lab: Lab, name: str) -> None:
    sale = stocked(lab, "held")
    before = lab.dump(sale)
    assert lab.eval("ledger/reader", sale, "register", name, 0)[3] == b"!"
    assert lab.dump(sale) == before


# --- opening ------------------------------------------------------------------------------

RULES = [900_000, False, False, False, 16, 3_600_000, 2_000_000, False, False]
BAD_SKUS: dict[str, Any] = {
    "none": [],
    "no limit": ["red", 1],
    "twice": ["red", 1, "", "red", 1, ""],
    "a thousand and one": [x for n in range(1_001) for x in (f"s{n}", 1, "")],
    "a map": {"red": 1},
    "a number": 7,
    **{f"id: {name}": [value, 1, ""] for name, value in BAD_IDS.items()},
    **{
        f"stock: {name}": ["red", value, ""]
        for name, value in BAD_CHANGES.items()
        if name != "zero"
    },
    "stock: minus one": ["red", -1, ""],
    **{f"limit: {name}": ["red", 1, value] for name, value in BAD_CHANGES.items()},
}
BAD_RULES: dict[str, Any] = {
    "none": [],
    "eight": RULES[:8],
    "ten": [*RULES, 1],
    "a map": {"ttl": 1},
    **{
        f"{field} {bad}": [*RULES[:place], BAD_CHANGES[bad], *RULES[place + 1 :]]
        for place, field in enumerate(
            [
                "ttl",
                "opens",
                "closes",
                "limit",
                "holds_max",
                "extend_max",
                "buyers_max",
                "admission",
                "key_holds_max",
            ]
        )
        for bad in ("one and a half", "NaN", "infinity", "one as text", "True", "-2^63", "2^63")
        if (field, bad) != ("admission", "True")
    },
}


def opening(lab: Lab, rules: Any, skus: Any) -> None:
    sale = lab.shop.sale(lab.new_id())
    codes = send(lab, "open", sale, "{}", encode(rules), encode(skus))
    assert codes in (None, "!")
    assert set(lab.dump(sale).values()) == {None}


def test_a_sale_with_such_rules_and_a_good_sku_is_opened(lab: Lab) -> None:
    sale = lab.shop.sale(lab.new_id())
    assert send(lab, "open", sale, "{}", encode(RULES), encode(["red", 1, ""])) == "o"


@pytest.mark.parametrize("bad", BAD_SKUS)
def test_a_sale_with_bad_skus_is_not_opened(lab: Lab, bad: str) -> None:
    opening(lab, RULES, BAD_SKUS[bad])


@pytest.mark.parametrize("bad", BAD_RULES)
def test_a_sale_with_bad_rules_is_not_opened(lab: Lab, bad: str) -> None:
    opening(lab, BAD_RULES[bad], ["red", 1, ""])


def test_an_opening_without_the_callers_time_is_refused(lab: Lab) -> None:
    sale = lab.shop.sale(lab.new_id())
    for caller_ms in ("", "x", "nan"):
        with pytest.raises(redis.ResponseError, match="FLASHSALE_MALFORMED the caller's time"):
            lab.eval(
                "inventory/open", sale, "{}", encode(RULES), encode(["red", 1, ""]),
                caller_ms=caller_ms,
            )  # fmt: skip
    assert set(lab.dump(sale).values()) == {None}
