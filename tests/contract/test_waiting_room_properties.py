"""What a waiting room promises, whatever those who wait do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from flashsale import (
    FlashSale,
    HoldRequest,
    Outcome,
    Outlook,
    inventory,
    shuffle,
)
from support.crowds import at_once, crowd
from support.cues import KEY, open_cue
from support.lab import T0, Lab
from support.queueing import TOGETHER, TURN_MS, Stage
from support.shells import connect

BUYERS = [f"b{n}" for n in range(12)]


@pytest.fixture
def other(server_url: str) -> Iterator[FlashSale]:
    """A second client, as of another process."""
    with connect("sync", server_url, keys=[KEY]) as shop:
        yield shop


# --- one place a buyer --------------------------------------------------------------------


class Wave(Struct, frozen=True):
    """Some who come together, and how."""

    way: str
    buyers: list[str]
    by_other: list[str]


WAVES = st.lists(
    st.builds(
        Wave,
        st.sampled_from(["one by one", "bulk", "at once", "interleaved"]),
        st.lists(st.sampled_from(BUYERS), min_size=1, max_size=8),
        st.lists(st.sampled_from(BUYERS), min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=5,
)


def joining(buyer: str) -> Callable[[Any], Any]:
    return lambda sale: sale.queue.join(buyer)


def come(stage: Stage, other: FlashSale, wave: Wave) -> list[Any]:
    """The answers to a wave; the last two ways are not in any order."""
    if wave.way == "one by one":
        return [stage.sale.queue.join(buyer) for buyer in wave.buyers]
    if wave.way == "bulk":
        return stage.join(wave.buyers)
    asks = [joining(buyer) for buyer in wave.buyers]
    if wave.way == "at once":
        return at_once(stage.sale, asks)
    with crowd(stage.sale, asks) as results:
        others = stage.join(wave.by_other, other)
        return [*others, *results()]


@pytest.mark.parametrize("opens_at_ms", [None, T0 + 60_000], ids=["open", "before the opening"])
def test_a_buyer_has_one_place_however_often_and_from_wherever_they_join(
    lab: Lab, other: FlashSale, opens_at_ms: int | None
) -> None:
    @TOGETHER
    @given(waves=WAVES)
    def whoever_comes(waves: list[Wave]) -> None:
        stage = Stage(lab, opens_at_ms=opens_at_ms)
        numbers: dict[str, int] = {}
        answers = [answer for wave in waves for answer in come(stage, other, wave)]
        for answer in answers:
            assert answer.outcome in (Outcome.JOINED, Outcome.CALLED), answer
            assert numbers.setdefault(answer.buyer, answer.number) == answer.number
        assert sum(not answer.replayed for answer in answers) == len(numbers)
        # As many numbers as buyers, none twice, none left out.
        assert sorted(numbers.values()) == list(range(1, len(numbers) + 1))
        assert stage.view().joined == len(numbers)

    whoever_comes()


# --- the order ----------------------------------------------------------------------------


def test_after_the_opening_first_come_first_served(lab: Lab, other: FlashSale) -> None:
    @TOGETHER
    @given(waves=WAVES, steps=st.lists(st.integers(1, 1_500), min_size=1, max_size=6))
    def whenever_they_come(waves: list[Wave], steps: list[int]) -> None:
        stage = Stage(lab, rate_per_s=2)
        came: list[str] = []
        for wave in waves:
            given_now = {answer.number: answer.buyer for answer in come(stage, other, wave)}
            fresh = [buyer for _, buyer in sorted(given_now.items()) if buyer not in came]
            asked = list(dict.fromkeys(wave.buyers))
            if wave.way in ("one by one", "bulk"):
                assert fresh == [buyer for buyer in asked if buyer not in came]
            came += fresh
        for step in steps:
            stage.pass_ms(step)
            serving = stage.view().serving
            if stage.now - T0 < stage.room.turn_ttl_ms:
                told = [answer.outcome for answer in stage.admit(came)]
                waiting = len(came) - serving
                assert told == [Outcome.ADMITTED] * serving + [Outcome.WAITING] * waiting

    whenever_they_come()


def test_before_the_opening_every_place_is_given_once(lab: Lab) -> None:
    @TOGETHER
    @given(present=st.integers(1, 40), late=st.integers(0, 5))
    def to_however_many(present: int, late: int) -> None:
        stage = Stage(lab, stock=100, rate_per_s=1, opens_at_ms=T0 + 1, turn_ttl_ms=60_000)
        early = [f"b{n}" for n in range(present)]
        answers = stage.join(early)
        stage.pass_ms(1)
        assert stage.view().present == present
        answers += stage.join([f"late{n}" for n in range(late)])
        places = {
            answer.buyer: stage.sale.queue.position(answer.buyer, answer.ticket).place
            for answer in answers
        }
        called: list[str] = []
        for place in range(1, present + late + 1):  # the server's own order, one a second
            (buyer,) = set(stage.admitted(list(places))) - set(called)
            assert places[buyer] == place
            called.append(buyer)
            stage.pass_ms(1_000)
        assert sorted(called[:present]) == sorted(early)

    to_however_many()


def chi_square(counts: Sequence[int], expected: float) -> float:
    return sum((count - expected) ** 2 for count in counts) / expected


@pytest.mark.parametrize(
    ("present", "least", "most"),
    # Between the bounds that chance passes once in a thousand, (n - 1)² degrees of freedom.
    [(2, 0.0, 10.83), (5, 3.94, 39.25), (10, 45.8, 126.1), (12, 76.8, 174.6)],
)
def test_before_the_opening_when_one_comes_does_not_tell_ones_place(
    present: int, least: float, most: float
) -> None:
    seeds = 4_000
    table: Counter[tuple[int, int]] = Counter()
    for number in range(seeds):
        seed = shuffle.make_seed(number.to_bytes(32, "big"), "sale")
        table.update((n, shuffle.place_of(seed, present, n)) for n in range(1, present + 1))
    cells = [table[n, place] for n in range(1, present + 1) for place in range(1, present + 1)]
    assert least <= chi_square(cells, seeds / present) < most, table


def test_before_the_opening_any_two_are_in_either_order_equally_often() -> None:
    seeds, present = 2_000, 9
    ahead: Counter[tuple[int, int]] = Counter()
    for number in range(seeds):
        seed = shuffle.make_seed(number.to_bytes(32, "big"), "sale")
        places = [shuffle.place_of(seed, present, n) for n in range(1, present + 1)]
        pairs = [(a, b) for a in range(present) for b in range(a)]
        ahead.update(pair for pair in pairs if places[pair[0]] < places[pair[1]])
    # 4.06 standard deviations: what chance passes once in a thousand among 36 pairs.
    assert all(abs(count - seeds / 2) < 4.06 * math.sqrt(seeds / 4) for count in ahead.values())
    assert len(ahead) == 36


def test_the_same_through_the_server_with_the_most_eager_first(
    lab: Lab, request: pytest.FixtureRequest
) -> None:
    ids: list[str] = request.getfixturevalue("_sale_ids")
    ids.append("test-coming-early-and-being-called")  # a name, and so a seed, that stays
    fixed = Lab(lab.shop, lab.raw, lambda: ids[-1])
    crowd_size, called = 1_000, 300
    stage = Stage(fixed, stock=called, opens_at_ms=T0 + 10_000)
    buyers = [f"b{n}" for n in range(crowd_size)]
    for tenth in range(10):
        stage.join(buyers[100 * tenth :][:100])
        stage.pass_ms(1_000)
    stage.view()
    stage.pass_ms(2_000)
    assert stage.view().serving == called
    counts = [0] * 10
    for buyer in stage.admitted(buyers):
        counts[int(buyer[1:]) // 100] += 1
    assert sum(counts) == called
    # Drawn without replacement; the bounds are those of nine degrees of freedom.
    share = called / 10
    spread = share * (1 - called / crowd_size) * crowd_size / (crowd_size - 1)
    assert 1.15 < sum((got - share) ** 2 for got in counts) / spread < 27.88, counts


# --- nobody holds without a turn ----------------------------------------------------------


def attempts(stage: Stage, other: FlashSale, buyer: str, mate: str) -> list[Any]:
    """Every way to a hold there is; `mate` is somebody in the same batches."""
    sale, items = stage.sale, []
    requests = [HoldRequest(name, {"red": 1}, f"x{n}") for n, name in enumerate([mate, buyer])]
    told: list[Any] = [
        sale.hold(buyer, {"red": 1}, hold_id="x1"),
        sale.hold(buyer, {"red": 1}, hold_id="x1", key="tv", channel="app"),
        other.sale(sale.id).hold(buyer, {"red": 1}, hold_id="x1"),
        sale.hold_many(requests)[1],
        sale.hold_many(requests * 2)[3],
        at_once(sale, [lambda sale: sale.hold(buyer, {"red": 1}, hold_id="x1")] * 3)[2],
    ]
    for key in ("", "tv"):
        items = [inventory.hold_item(name, {"red": 1}, "x1", "", "", key) for name in (mate, buyer)]
        call = inventory.hold_kind(sale.id).call(items)
        for caller_ms in (0, stage.now, T0 * 2):  # whatever a client's clock says
            told.append(stage.lab.run(call, caller_ms=caller_ms)[3][-1:])
    return told


def test_nobody_holds_without_a_turn_through_any_client(lab: Lab, other: FlashSale) -> None:
    stage = Stage(lab, stock=4, turn_ttl_ms=3_200)
    stage.let_everybody_be_called(["over", "ann", "left", "called", "waiting"])
    assert stage.admitted(["over"]) == ["over"]
    assert stage.hold(["over"], hold_id="in-time") == [Outcome.HELD]
    stage.pass_ms(TURN_MS)
    stage.let_everybody_be_called(["ann", "left", "called", "waiting"])
    assert stage.admitted(["ann", "left"]) == ["ann", "left"]
    stage.sale.queue.leave("left")
    outside = ["over", "left", "called", "waiting", "stranger"]
    assert stage.view().serving >= 4

    before = stage.sale.snapshot().skus
    for buyer in outside:
        refused = attempts(stage, other, buyer, "stranger")
        assert all(
            told == b"6" or getattr(told, "outcome", None) is Outcome.NOT_ADMITTED
            for told in refused
        ), (buyer, refused)
        mixed = stage.hold([buyer, "ann", buyer])
        assert mixed == [Outcome.NOT_ADMITTED, Outcome.HELD, Outcome.NOT_ADMITTED]
    after = stage.sale.snapshot().skus
    assert after["red"].held - before["red"].held == 1  # ann's
    # What was held in time stays, and only that: the same id again takes nothing.
    assert stage.hold(["over"], hold_id="in-time") == [Outcome.HELD]
    assert stage.sale.snapshot().skus == after
    assert stage.sale.audit().problems == ()


def test_a_turn_lets_hold_until_its_last_millisecond_and_not_after(lab: Lab) -> None:
    @TOGETHER
    @given(begins=st.integers(0, 6_400), ttl=st.sampled_from([31, 100, 3_200, 7_001]))
    def whenever_it_begins(begins: int, ttl: int) -> None:
        stage = Stage(lab, turn_ttl_ms=ttl)
        stage.pass_ms(begins)
        stage.join(["ann"])
        ends_ms = stage.sale.queue.admit("ann").turn_ends_ms
        assert ends_ms is not None
        assert ttl <= ends_ms - stage.now <= ttl + stage.room.slot_ms
        stage.pass_ms(ends_ms - stage.now - 1)
        assert stage.hold(["ann"], hold_id="first") == [Outcome.HELD]
        stage.pass_ms(1)
        assert stage.hold(["ann"], hold_id="second") == [Outcome.NOT_ADMITTED]
        assert stage.admit(["ann"])[0].outcome is Outcome.TURN_OVER

    whenever_it_begins()


def test_no_ticket_works_for_another_buyer_or_sale_or_after_its_turn(
    lab: Lab, other: FlashSale
) -> None:
    here, there = Stage(lab), Stage(lab)
    for stage in (here, there):
        stage.let_everybody_be_called(["ann", "bob"])
    tickets = {answer.buyer: answer.ticket for answer in here.join(["ann", "bob"])}
    queues = [shop.sale(here.sale.id).queue for shop in (lab.shop, other)]
    strange = [
        *[(queue, "bob", tickets["ann"]) for queue in queues],
        (there.sale.queue, "ann", tickets["ann"]),
        *[(queues[0], buyer, tickets["ann"]) for buyer in ("Ann", "an", "ann-", "stranger")],
    ]
    for queue, buyer, ticket in strange:
        for told in (queue.admit(buyer, ticket), queue.position(buyer, ticket)):
            assert told.outcome is Outcome.WRONG_TICKET
            assert told.rule.startswith("must be this buyer's own, for this sale")
    assert here.hold(["ann", "bob"]) == [Outcome.NOT_ADMITTED] * 2
    assert here.sale.queue.admit("ann", tickets["ann"]).outcome is Outcome.ADMITTED

    here.pass_ms(TURN_MS)
    assert here.sale.queue.admit("ann", tickets["ann"]).outcome is Outcome.TURN_OVER
    here.view()
    assert here.sale.queue.position("ann", tickets["ann"]).outcome is Outcome.TURN_OVER
    again = here.sale.queue.join("ann")
    assert (again.outcome, again.replayed) == (Outcome.JOINED, False)
    here.view()
    old = here.sale.queue.admit("ann", tickets["ann"])
    assert old.outcome is Outcome.WRONG_TICKET
    assert here.sale.queue.admit("ann", again.ticket).outcome is Outcome.ADMITTED


# --- hopeless -----------------------------------------------------------------------------

FATES = st.lists(
    st.sampled_from(
        ["hold", "hold", "release", "confirm", "confirm", "time", "more", "less", "cue", "void"]
    ),
    max_size=20,
)


def test_hopeless_is_said_exactly_while_nothing_is_left_that_could_come_back(lab: Lab) -> None:
    @settings(TOGETHER, max_examples=40)
    @given(fates=FATES, stock=st.integers(0, 3))
    def whatever_happens_to_the_stock(fates: list[str], stock: int) -> None:
        stage = Stage(lab, stock=stock, sale={"admission": False, "hold_ttl_ms": 1_000})
        ticket = stage.sale.queue.join("ann").ticket
        left, cue = stock, None  # all that was ever there, but what was paid
        for n, fate in enumerate(fates):
            sale, red = stage.sale, stage.sale.snapshot().skus["red"]
            if fate == "hold":
                sale.hold(f"z{n}", {"red": 1}, hold_id="h")
            elif fate in ("release", "confirm"):
                for told in [getattr(sale, fate)(f"z{n - back}", "h") for back in (1, 2)]:
                    left -= told.outcome is Outcome.CONFIRMED and not told.replayed
            elif fate in ("more", "less"):
                told = sale.restock({"red": 1 if fate == "more" else -1}, op_id=f"r{n}")
                changed = told.outcome is Outcome.RESTOCKED
                left += (1 if fate == "more" else -1) if changed else 0
            elif fate == "time":
                stage.pass_ms(1_000)
            elif fate == "cue" and cue is None and red.available:
                cue = open_cue(lab, sale, stock={"red": red.available}, cue_time_ms=stage.now)
            elif fate == "void" and cue is not None:
                cue.void("rain")
            view = stage.view()
            outlook = sale.queue.position("ann", ticket).outlook
            assert (outlook is Outlook.HOPELESS) == (left == 0), (fate, left, view)
            assert view.gone == (view.available + view.set_aside + view.held == 0) == (left == 0)

    whatever_happens_to_the_stock()
