"""The work of the verifier grows with the record, whatever the record says.

Work is counted, not timed: lines of the module that are run, and comparisons of names.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from flashsale import verify
from support.draws import (
    Record,
    crowd,
    cue_of,
    digested,
    drawn_of,
    groups_of,
    record_of,
    sealed,
    seed_of,
)

SKUS = [f"sku-{at:02}" for at in range(32)]


def lines_run(work: Callable[[], object]) -> int:
    """How many lines of verify.py run."""
    count, path = 0, verify.__file__

    def trace(frame: FrameType, event: str, told: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename != path:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def drawn_again(cue: Any, entries: Any) -> Record:
    return record_of(drawn_of(cue, entries))


def next_in_order(record: Record) -> list[str]:
    """Whoever was not drawn, in the order of the draw."""
    cue, drawn = record["cue"], {who for who, _ in record["drawn"]}
    seed = bytes.fromhex(record["server_seed"])
    order = verify.order_of(seed, cue["sale"], cue["id"], groups_of(record))
    return [who for who in order if who not in drawn]


def moved_up(record: Record, lots: dict[str, list[list[Any]]]) -> Record:
    returned: dict[str, int] = {}
    for who, lot in lots.items():
        record["awarded"].append([who, "held", lot])
        for sku, units in lot:
            returned[sku] = returned.get(sku, 0) + units
    return sealed(record | {"returned": returned})


def many_moved_up_with_baskets_of_their_own(size: int) -> Record:
    """Each with another number of units; the last in the order moved up, so all are compared."""
    wishes = [(("lipstick", 10 * size, at + 1),) for at in range(size)]
    cue = cue_of(stock={"lipstick": 1}, reserve_ms=60_000)
    record = drawn_again(cue, [(f"buyer-{at}", 0, wish) for at, wish in enumerate(wishes)])
    later = next_in_order(record)[size // 2 :]
    return moved_up(record, {who: [["lipstick", at + 1]] for at, who in enumerate(later)})


def many_moved_up_with_two_skus_each(size: int) -> Record:
    """No basket has more of both than another one, and no wish is covered by any."""
    cue = cue_of(stock={"lipstick": 1, "mug": 1}, reserve_ms=60_000)
    frozen = drawn_of(cue, crowd(size)).frozen
    seed = seed_of()
    order = [frozen.buyers[who] for who in verify.order_of(seed, cue.sale, cue.id, frozen.groups)]
    half, entries, units = size // 2, [], 10**6
    for at, buyer in enumerate(order):
        nth, odd = at % half, at // half  # the first half wants one more of both
        least = (2 * nth + 3 - odd, 2 * (half - nth) + 3 - odd)
        entries.append((buyer, 0, (("lipstick", units, least[0]), ("mug", units, least[1]))))
    record = drawn_again(cue, entries)
    lots: dict[str, list[list[Any]]] = {}
    for nth, who in enumerate(next_in_order(record)[half:]):
        lots[who] = [["lipstick", 2 * nth + 2], ["mug", 2 * (half - nth) + 2]]
    return moved_up(record, lots)


def a_wide_wish_that_never_fits(size: int) -> Record:
    """Its last of 32 lines is what nothing is left of, after the first."""
    wish = tuple((sku, 1, 1) for sku in SKUS)
    stock = dict.fromkeys(SKUS, 10**6) | {SKUS[-1]: 1}
    return drawn_again(cue_of(stock=stock), crowd(size, wish=wish))


def each_in_a_group_of_its_own(size: int) -> Record:
    wishes = [(("lipstick", at + 1, 1),) for at in range(size)]
    return drawn_again(cue_of(), [(f"buyer-{at}", 0, wish) for at, wish in enumerate(wishes)])


def each_in_a_window_of_its_own(size: int) -> Record:
    entries = [(f"buyer-{at}", at, (("lipstick", 1, 1),)) for at in range(size)]
    return drawn_again(cue_of(windows=size), entries)


def everybody_was_drawn(size: int) -> Record:
    return drawn_again(cue_of(stock={"lipstick": size}), crowd(size))


def everybody_is_there_twice(size: int) -> Record:
    record = drawn_again(cue_of(), crowd(size))
    group = record["entrants"][0]
    record["entrants"] = [group, group | {"wish": [["lipstick", 2, 2]]}]
    return digested(record)


def everybody_was_awarded_twice(size: int) -> Record:
    record = everybody_was_drawn(size)
    return sealed(record | {"awarded": record["awarded"] * 2})


def everybody_moved_up_backwards(size: int) -> Record:
    record = drawn_again(cue_of(reserve_ms=60_000), crowd(size))
    lots: dict[str, list[list[Any]]] = {}
    for who in reversed(next_in_order(record)):
        lots[who] = [["lipstick", 1]]
    return moved_up(record, lots)


def awarded_skus_without_end(size: int) -> Record:
    record = everybody_was_drawn(size)
    for at, item in enumerate(record["awarded"]):
        item[2] = [[f"other-{at}", 1]]
    return sealed(record)


HOSTILE = [
    many_moved_up_with_baskets_of_their_own,
    many_moved_up_with_two_skus_each,
    a_wide_wish_that_never_fits,
    each_in_a_group_of_its_own,
    each_in_a_window_of_its_own,
    everybody_was_drawn,
    everybody_is_there_twice,
    everybody_was_awarded_twice,
    everybody_moved_up_backwards,
    awarded_skus_without_end,
]


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_twice_the_record_is_at_most_about_twice_the_work(make: Callable[[int], Record]) -> None:
    small, large = make(200), make(800)
    growth = len(json.dumps(large)) / len(json.dumps(small))
    work = [lines_run(lambda record=record: verify.verify(record)) for record in (small, large)]
    assert work[1] / work[0] < 1.3 * growth, (work, growth)


def test_with_too_many_different_baskets_it_stops_and_says_what_was_not_checked() -> None:
    result = verify.verify(many_moved_up_with_two_skus_each(1_000))
    unchecked = [check for check in result.checks if check.ok is None]
    assert [check.name for check in unchecked] == ["promoted"]
    assert "unchecked: who was passed over" in unchecked[0].message
    assert (result.verdict, result.ok) == ("unchecked", False)


def test_a_few_different_baskets_are_compared_with_every_wish() -> None:
    record = many_moved_up_with_two_skus_each(100)
    assert verify.verify(record).verdict == "verifies"
    given = record["awarded"][-1][2]
    first = next_in_order(record)[0]
    group = next(group for group in record["entrants"] if group["who"] == [first])
    group["wish"] = [[sku, 10**6, units] for sku, units in given]
    record["entrants"].sort(key=lambda group: verify.text_of(tuple(map(tuple, group["wish"]))))
    told = {check.name: check for check in verify.verify(digested(record)).checks}
    assert f"{first} was passed over" in told["promoted"].message


class Name(str):
    """A name that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_a_field_that_comes_twice_is_found_with_one_comparison_or_few() -> None:
    names = [Name(f"{at:x}") for at in range(4_000)]
    names.append(Name("f9f"))  # the last one again
    Name.compared = 0
    with pytest.raises(verify.InvalidRecord, match="a Name comes twice"):
        verify._object([(name, 0) for name in names])
    assert Name.compared < 40


@pytest.mark.parametrize("number", ["9" * 41, "-" + "9" * 40, "0." + "0" * 40, "1e" + "0" * 40])
def test_a_number_that_takes_long_to_read_is_refused(number: str) -> None:
    with pytest.raises(verify.InvalidRecord, match="numbers of at most 40 characters"):
        verify.load('{"a": [' + number + "]}")
    assert verify.load(number[:40] + "1" * number[:40].endswith("e")) is not None
