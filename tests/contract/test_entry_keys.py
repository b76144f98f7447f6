"""What counts of a buyer, by whose key, in how many bytes; and what the buyer is told of it."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from flashsale import InvalidRequest, Outcome, limits, window
from flashsale.baskets import encode
from flashsale.batches import run_all
from flashsale.keys import CueKeys
from flashsale.scripts import load_script
from support.cues import (
    POSITION,
    Tap,
    contents,
    kept_entries,
    known_of,
    name_of,
    named,
    open_cue,
    settled,
    tap,
    verified,
)
from support.lab import T0, Lab

W, LAG, GRACE = 3_000, 12_000, 1_000


# --- keys -----------------------------------------------------------------------------------


def test_of_a_buyers_taps_the_smallest_window_basket_and_key_counts_in_any_order(lab: Lab) -> None:
    taps = [
        (Tap("ann", {"red": 1}, after_ms=W), "a"),
        (Tap("ann", {"red": 2}), "a"),
        (Tap("ann", {"red": 1}), "phone-2"),
        (Tap("ann", {"red": 1}), "phone-1"),
    ]
    for order in itertools.permutations(taps):
        sale = lab.open({"red": 9}, key_holds_max=2)
        handle = open_cue(lab, sale, windows=2)
        lab.set_time(sale, T0 + 2 * W)
        for told, key in order:
            assert tap(handle, told, key=key).outcome is Outcome.ENTERED
        assert kept_entries(lab, handle) == {"ann": "0#phone-1"}


def test_a_key_is_needed_where_the_sale_counts_by_it_and_kept_nowhere_else(lab: Lab) -> None:
    sale = lab.open(key_holds_max=1)
    handle = open_cue(lab, sale)
    before = contents(lab, sale, "drop")
    for key in ("", None):
        with pytest.raises(InvalidRequest, match="key: must be given: the sale has key_holds_max"):
            tap(handle, "ann", **({} if key is None else {"key": key}))
    with pytest.raises(InvalidRequest, match="key: must be 1 to 64 characters"):
        tap(handle, "ann", key="a phone")
    assert contents(lab, sale, "drop") == before

    handle = open_cue(lab, lab.open())
    assert tap(handle, "ann", key="phone").outcome is Outcome.ENTERED
    assert kept_entries(lab, handle) == {"ann": "0"}


def test_where_only_the_best_are_kept_there_are_no_keys(lab: Lab) -> None:
    handle = open_cue(lab, lab.open(key_holds_max=1), keep="best")
    with pytest.raises(InvalidRequest, match='key: must not be given with keep="best"'):
        tap(handle, "ann", key="phone")
    assert tap(handle, "ann").outcome is Outcome.ENTERED


@pytest.mark.parametrize("turn", range(4))
def test_of_one_key_those_with_the_smallest_names_take_part_whoever_came_first(
    lab: Lab, turn: int
) -> None:
    """So a copied key cannot shut its owner out by being quick: it is as by lot."""
    sale = lab.open({"red": 20}, key_holds_max=2)
    handle = open_cue(lab, sale, stock={"red": 20})
    same, others = [f"same-{n}" for n in range(6)], [f"other-{n}" for n in range(3)]
    for buyer in same[turn:] + same[:turn]:
        assert tap(handle, buyer, key="phone").outcome is Outcome.ENTERED
    for buyer in others:
        tap(handle, buyer, key=buyer)
    settled(lab, sale, handle)
    record = verified(handle)
    ours = sorted(name_of(handle, buyer) for buyer in same)
    theirs = [name_of(handle, buyer) for buyer in others]
    (group,) = record["entrants"]
    assert group["who"] == sorted(ours[:2] + theirs)
    assert record["capped"] == ours[2:]
    who = named(handle, same)
    assert handle.result(who[ours[0]], wait_ms=0).outcome is Outcome.HELD
    assert handle.result(who[ours[2]], wait_ms=0).outcome is Outcome.NOT_DRAWN
    assert sale.audit().problems == ()


@pytest.mark.parametrize(
    ("cap_keys", "codes"),
    [
        (b"", b"!"),
        (encode(["a", "b"]), b"G"),
        (encode(["", "b"]), b"!G"),
        (encode(["a", "b#c"]), b"G!"),
        (encode(["a" * 65, "b"]), b"!G"),
        (encode([1, "b"]), b"!G"),
    ],
    ids=str,
)
def test_the_script_takes_no_key_that_is_none(lab: Lab, cap_keys: bytes, codes: bytes) -> None:
    sale = lab.open(key_holds_max=1)
    handle = open_cue(lab, sale)
    own = CueKeys.of(sale.id, "drop")
    keys = lab.keys(sale)
    reply: Any = lab.raw.eval(
        load_script("window/enter").source,
        5,
        *(keys.sale, keys.buyers, own.cue, own.entries, own.best),
        *(T0, encode(["ann", "bob"]), encode([POSITION, POSITION])),
        *(encode([[["red", 1, 1]]]), b"", cap_keys),
    )
    assert reply[3] == codes
    assert handle.view().entries == codes.count(b"G") * (2 if codes == b"G" else 1)


# --- what is told ---------------------------------------------------------------------------


def test_the_answer_says_which_window_and_basket_count(lab: Lab) -> None:
    sale = lab.open({"red": 9, "blue": 9})
    handle = open_cue(lab, sale, windows=3, stock={"red": 5, "blue": 5})
    lab.set_time(sale, T0 + 3 * W)
    answers = []
    for told in [
        Tap("ann", {"red": 2, "blue": 3}, after_ms=W, minimum={"red": 1}),
        Tap("ann", {"red": 1}, after_ms=2 * W),  # later: the first one counts
        Tap("ann", {"red": 2, "blue": 3}, after_ms=W, minimum={"red": 1}),
        Tap("ann", {"blue": 2}, after_ms=W),  # smaller: it counts
        Tap("ann", {"red": 1}),
        Tap("ann", {"red": 2}),
    ]:
        answer = tap(handle, told)
        answers.append((answer.window, answer.basket, answer.minimum))
    first = (1, {"red": 2, "blue": 3}, {"red": 1})
    assert answers == [first] * 3 + [(1, {"blue": 2}, {}), (0, {"red": 1}, {}), (0, {"red": 1}, {})]
    settled(lab, sale, handle)
    (group,) = verified(handle)["entrants"]
    assert (group["window"], group["wish"]) == (0, [["red", 1, 1]])


def test_what_was_told_to_count_is_what_the_record_has_and_no_key_is_told(lab: Lab) -> None:
    sale = lab.open({"red": 9, "blue": 9}, key_holds_max=3)
    handle = open_cue(lab, sale, windows=2, stock={"red": 3, "blue": 3})
    lab.set_time(sale, T0 + 2 * W)
    tap(handle, Tap("ann", {"red": 2}), key="phone")
    again = tap(handle, Tap("ann", {"blue": 2}, after_ms=W), key="a")
    assert (again.window, again.basket, again.replayed) == (0, {"red": 2}, True)
    assert "phone" not in str(again)
    late = tap(handle, Tap("bob", {"blue": 2}, after_ms=W, minimum={"blue": 1}), key="b")
    assert (late.window, late.basket, late.minimum) == (1, {"blue": 2}, {"blue": 1})
    settled(lab, sale, handle)
    found = {
        (group["window"], tuple(map(tuple, group["wish"]))): group["who"]
        for group in verified(handle)["entrants"]
    }
    assert found == {
        (0, (("red", 2, 2),)): [name_of(handle, "ann")],
        (1, (("blue", 2, 1),)): [name_of(handle, "bob")],
    }


@pytest.mark.parametrize("refused", [{"red": 99}, {"green": 1}])
def test_nothing_is_said_to_count_of_a_refused_tap_or_where_only_the_best_are_kept(
    lab: Lab, refused: dict[str, int]
) -> None:
    handle = open_cue(lab, lab.open(limit=9))
    tap(handle, "ann")
    answer = tap(handle, Tap("ann", refused))
    assert answer.outcome in (Outcome.SOLD_OUT, Outcome.SKU_UNKNOWN)
    assert (answer.window, answer.basket, answer.minimum) == (None, {}, {})
    handle = open_cue(lab, lab.open(), keep="best")
    for told in (Tap("ann"), Tap("ann", {"red": 2}, minimum={"red": 1})):
        answer = tap(handle, told)
        assert (answer.window, answer.basket, answer.replayed) == (None, {}, False)


# --- in how many bytes ----------------------------------------------------------------------


def test_entries_are_bounded_by_their_bytes_too(lab: Lab) -> None:
    """What is kept is counted to the byte, and what counted before counts when it is full."""
    skus = {f"sku-{n}": 900 for n in range(32)}
    sale = lab.open(skus)
    handle = open_cue(lab, sale, stock=skus, entries_max=200, windows=2)
    lab.set_time(sale, T0 + 2 * W)
    most = max(limits.ENTRIES_BYTES_LEAST, limits.ENTRY_BYTES * 200)
    large = dict.fromkeys(skus, 800)
    told = []
    for n in range(200):
        buyer = f"{n:03}".rjust(64, "b")
        least = dict.fromkeys(skus, 700)
        told.append(tap(handle, Tap(buyer, large, minimum=least, after_ms=W)).outcome)
    kept = kept_entries(lab, handle)
    used = sum(len(buyer) + len(text) for buyer, text in kept.items())
    size = used // len(kept)
    assert told == [Outcome.ENTERED] * len(kept) + [Outcome.ENTRIES_FULL] * (200 - len(kept))
    assert most - size < used <= most
    assert int(lab.raw.hget(CueKeys.of(sale.id, "drop").cue, "bytes")) == used

    some = next(iter(kept))
    again = tap(handle, Tap(some, {"sku-1": 1}))  # shorter: there is room
    assert (again.outcome, again.window, again.basket) == (Outcome.ENTERED, 0, {"sku-1": 1})
    used += len("0|1") - len(kept[some])
    assert int(lab.raw.hget(CueKeys.of(sale.id, "drop").cue, "bytes")) == used
    assert tap(handle, Tap("a", {"sku-0": 1})).outcome is Outcome.ENTERED


def test_a_tap_that_would_make_an_entry_longer_leaves_what_counts_where_there_is_no_room(
    lab: Lab,
) -> None:
    skus = {f"sku-{n}": 900 for n in range(32)}
    sale = lab.open(skus)
    handle = open_cue(lab, sale, stock=skus, windows=2)
    lab.set_time(sale, T0 + 2 * W)
    assert tap(handle, Tap("ann", {"sku-0": 1}, after_ms=W)).window == 1
    most = limits.ENTRY_BYTES * limits.BUYERS_MAX  # entries_max is that, if nobody says less
    lab.raw.hset(CueKeys.of(sale.id, "drop").cue, "bytes", most)
    longer = Tap("ann", dict.fromkeys(skus, 2))
    assert tap(handle, longer).outcome is Outcome.ENTRIES_FULL
    assert kept_entries(lab, handle) == {"ann": "1"}
    assert tap(handle, Tap("ann", {"sku-0": 1})).window == 0
    assert kept_entries(lab, handle) == {"ann": "0"}


# --- against an oracle ----------------------------------------------------------------------

SKUS = {"red": 0, "blue": 1}


def text_of(told: Tap) -> str:
    """A basket as the server keeps it."""
    least = dict(told.basket) | dict(told.minimum or {})
    lines = []
    for sku in sorted(told.basket, key=SKUS.__getitem__):
        qty = told.basket[sku]
        text = str(SKUS[sku]) + (f"*{qty}" if qty > 1 else "")
        lines.append(text + (f"~{least[sku]}" if least[sku] < qty else ""))
    joined = ",".join(lines)
    return "" if joined == str(SKUS[min(SKUS)]) else f"|{joined}"


@pytest.mark.parametrize("seed", range(12))
def test_any_taps_in_any_batches_are_kept_told_cut_and_counted_as_an_oracle_says(
    lab: Lab, seed: int
) -> None:
    chance = random.Random(seed)
    sale = lab.open({"red": 99, "blue": 99}, key_holds_max=chance.choice([None, 2]))
    handle = open_cue(lab, sale, stock={"red": 9, "blue": 9}, windows=3)
    known = known_of(handle)
    counts: dict[str, tuple[int, int, str, str]] = {}
    cut = 0
    for live in sorted(chance.sample(range(-LAG, LAG + 3 * W), 8)):
        lab.set_time(sale, T0 + live)
        taps, items = [], []
        for _ in range(chance.randrange(1, 12)):
            basket = {
                sku: chance.randrange(1, 4) for sku in chance.sample([*SKUS], chance.choice([1, 2]))
            }
            minimum = dict.fromkeys(basket, 1) if chance.random() < 0.3 else None
            shown = chance.randrange(-W, LAG + 4 * W)
            told, key = Tap(f"b{chance.randrange(5)}", basket, shown, minimum), chance.choice("xyz")
            at = POSITION + shown
            items.append(
                window.enter_item(known, told.buyer, told.basket, at, told.minimum, None, key)
            )
            taps.append((told, key if known.share else ""))
        some = run_all(window.enter_kind(sale.id, known), items, lambda item: item)
        answers: Any = lab.shop.perform(some)
        for (told, key), item, answer in zip(taps, items, answers, strict=True):
            outcome, number = judged(live, told.after_ms)
            seen = window.entry_answer(known, answer, item.lines)
            assert seen.outcome is outcome, (live, told)
            if outcome is not Outcome.ENTERED:
                continue
            cut += told.after_ms > max(live, 0)
            entry = (number, len(text_of(told)), text_of(told), key)
            assert seen.replayed is (told.buyer in counts)
            counts[told.buyer] = best = min(counts.get(told.buyer, entry), entry)
            wish = window.read_entry(known, f"{best[0]}{best[2]}")[1]
            assert seen.window == best[0]
            assert seen.basket == {sku: units for sku, units, _ in wish}
            assert seen.minimum == {sku: least for sku, units, least in wish if least < units}
    kept = {
        buyer: f"{number}{text}" + (f"#{key}" if key else "")
        for buyer, (number, _, text, key) in counts.items()
    }
    assert kept_entries(lab, handle) == kept
    stored: Any = lab.raw.hgetall(CueKeys.of(sale.id, "drop").cue)
    assert int(stored.get(b"bytes", 0)) == sum(len(b) + len(text) for b, text in kept.items())
    assert (handle.view().entries, handle.view().cut) == (len(kept), cut)


def judged(live: int, shown: int) -> tuple[Outcome, int]:
    """The rule of a tap, from its words: `live` and `shown` are milliseconds since the cue."""
    if live >= LAG + GRACE + 3 * W:
        return Outcome.TOO_LATE, 0
    if live < -LAG:
        return Outcome.TOO_EARLY, 0
    if shown - live > LAG:
        return Outcome.AHEAD_OF_LIVE, 0
    if shown > live:
        shown = max(live, min(shown, 0))
    elapsed = max(shown, live - (LAG + GRACE))
    if elapsed < 0:
        return Outcome.TOO_EARLY, 0
    return (Outcome.ENTERED, elapsed // W) if elapsed < 3 * W else (Outcome.TOO_LATE, 0)
