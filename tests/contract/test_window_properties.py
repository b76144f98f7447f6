"""What makes a fairness window fair: who wins depends on who entered and on the seed alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from flashsale import CueHandle, FlashSale, Outcome, SaleHandle, draw, settling, verify, window
from support.cues import (
    KEY,
    Hand,
    Tap,
    awarded_by,
    drawn_by,
    enter_all,
    keys_of,
    load,
    name_of,
    named,
    open_cue,
    save,
    seed_of,
    settled,
    settlement,
    verified,
)
from support.lab import T0, Lab
from support.shells import connect

Group = verify.Group

W = 3_000
BUYERS = [f"b{n}" for n in range(12)]
STOCK = {"red": 6, "blue": 3}
INDEX = {"red": 0, "blue": 1}
LIMIT = 3
HAVE = {"b1": 2, "b2": 1, "b3": 3}
"""Units of red that entrants have beforehand: b2 has paid, the others hold them."""

CHI_SQUARE_9 = 27.88
"""What chance passes once in a thousand, with nine degrees of freedom."""


@pytest.fixture
def other(server_url: str) -> Iterator[FlashSale]:
    """A second client, as of another process."""
    with connect("sync", server_url, keys=[KEY]) as shop:
        yield shop


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "CHUNK", 3)


# --- an oracle: the draw in a few lines ---------------------------------------------------


def entry_text(told: Tap, first: str) -> str:
    """A basket's text, which decides between taps of one window."""
    least = dict(told.basket) | dict(told.minimum or {})
    parts = []
    for sku in sorted(told.basket, key=INDEX.__getitem__):
        qty = told.basket[sku]
        text = str(INDEX[sku]) + (f"*{qty}" if qty > 1 else "")
        parts.append(text + (f"~{least[sku]}" if least[sku] < qty else ""))
    joined = ",".join(parts)
    return "" if joined == str(INDEX[first]) else joined


def counted(handle: CueHandle, taps: Sequence[Tap]) -> list[Group]:
    """The entrants, each in a group of its own: of each buyer the smallest tap."""
    first = min(handle.cue().stock)
    best: dict[str, tuple[int, int, str, Tap]] = {}
    for told in taps:
        text = entry_text(told, first)
        key = (told.after_ms // W, len(text), text)
        if told.buyer not in best or key < best[told.buyer][:3]:
            best[told.buyer] = (*key, told)
    groups = []
    for buyer, (number, _, _, told) in best.items():
        least = dict(told.basket) | dict(told.minimum or {})
        wish = tuple((sku, qty, least[sku]) for sku, qty in sorted(told.basket.items()))
        groups.append(Group(number, wish, [name_of(handle, buyer)]))
    return groups


def told_drawn(handle: CueHandle, taps: Sequence[Tap]) -> list[Any]:
    """What the record must say was drawn."""
    seed = seed_of(handle)
    groups = counted(handle, taps)
    order = verify.order_of(seed, handle.sale, handle.id, groups)
    drawn = verify.walk(order, verify.wishes_of(groups), handle.cue().stock)
    return [[who, [list(line) for line in lines]] for who, lines in drawn]


# --- order, repetition, batching, crashes, and what else is sold --------------------------


class Story(Struct, frozen=True):
    """Another way of the same taps into the cue: how they come, what happens meanwhile."""

    seed: int
    repeated: int
    batches: int
    steps: tuple[str, ...]
    stops: tuple[int, ...]


ALL_BASKETS: list[tuple[Mapping[str, int], Mapping[str, int] | None]] = [
    ({"red": 1}, None),
    ({"red": 1}, None),
    ({"red": 2}, None),
    ({"red": 3}, {"red": 1}),
    ({"blue": 1}, None),
    ({"red": 1, "blue": 2}, None),
    ({"red": 2, "blue": 2}, {"blue": 1}),
]
BEST_BASKETS: list[tuple[Mapping[str, int], Mapping[str, int] | None]] = [
    ({"red": 1}, None),
    ({"red": 2}, {"red": 1}),
    ({"red": 3}, {"red": 1}),
]


def taps_of(baskets: list[tuple[Mapping[str, int], Mapping[str, int] | None]]) -> Any:
    one = st.builds(
        lambda buyer, basket, after_ms: Tap(buyer, basket[0], after_ms, basket[1]),
        st.sampled_from(BUYERS),
        st.sampled_from(baskets),
        st.sampled_from([0, 1, W - 1, W, 2 * W - 1]),
    )
    return st.lists(one, min_size=1, max_size=24)


STEPS = ["hold", "release", "restock", "pause", "resume", "time", "expire", "cue", "nothing"]
STORIES = st.builds(
    Story,
    st.integers(0, 2**32),
    st.integers(0, 12),
    st.integers(1, 6),
    st.lists(st.sampled_from(STEPS), max_size=8).map(tuple),
    st.lists(st.integers(0, 14), max_size=3).map(tuple),
)


class Stage:
    """A cue that is played again and again from its opening, in the same sale."""

    def __init__(self, lab: Lab, other: FlashSale, keep: str) -> None:
        self.lab, self.other = lab, other
        self.keep = keep
        self.sale: SaleHandle = lab.open(
            {"red": 16, "blue": 8}, limits={"red": LIMIT}, hold_ttl_ms=2_000, holds_max=2
        )
        rules: dict[str, Any] = {"windows": 2, "reserve_ms": 9_000, "stock": STOCK}
        if keep == "best":
            rules |= {"keep": "best", "reserve": 2, "stock": {"red": 3}}
        self.handle = open_cue(lab, self.sale, **rules)
        for hold_id in ("one", "two"):
            self.sale.release("b0", hold_id)  # b0 can win, but not be given a hold
        for buyer, units in HAVE.items():
            self.sale.hold(buyer, {"red": units}, hold_id="own").unwrap()
            self.sale.extend(buyer, "own", deadline_ms=T0 + 600_000).unwrap()
        self.sale.confirm("b2", "own").unwrap()
        lab.set_time(self.sale, T0 + 2 * W)
        self.start = save(lab, self.sale, "drop", "beside")
        self.now = 0
        self.count = 0

    def play(self, taps: Sequence[Tap]) -> Any:
        """The taps as they are, undisturbed."""
        load(self.lab, self.start)
        self._enter(taps, self.lab.shop)
        settled(self.lab, self.sale, self.handle)
        return self._record()

    def play_otherwise(self, taps: Sequence[Tap], story: Story) -> Any:
        """The same taps in another order, repeated, in batches, through two clients."""
        load(self.lab, self.start)
        self.now, self.count = T0 + 2 * W, 0
        chance = random.Random(story.seed)
        coming = [*taps, *(chance.choice(taps) for _ in range(story.repeated))]
        chance.shuffle(coming)
        steps = iter(story.steps)
        for batch in range(story.batches):
            self._step(next(steps, "nothing"))
            self.sale.resume()
            part = coming[batch :: story.batches]
            if part:
                shop = chance.choice([self.lab.shop, self.other])
                self._enter(part, shop)
        cue = self.other.sale(self.sale.id).cue_handle("drop")
        self.lab.set_time(self.sale, self.handle.cue().closes_at_ms)
        assert cue.settle(wait=False).outcome is Outcome.NOT_CLOSED
        self.now = self.handle.cue().reveals_at_ms
        self.lab.set_time(self.sale, self.now)
        for stop in story.stops:
            dead = Hand(self.lab, settlement(self.handle.cue()))
            for _ in range(stop):
                dead.call()
            dead.drop()
            self._step(next(steps, "nothing"), time_passes=False)
        assert cue.settle(wait=False).outcome is Outcome.SETTLED
        return self._record()

    def counts(self, told: Tap) -> bool:
        """Whether a tap counts: it may not ask for more than a limit leaves, whoever wins."""
        return self.keep == "all" or told.basket["red"] + HAVE.get(told.buyer, 0) <= LIMIT

    def _enter(self, taps: Sequence[Tap], shop: FlashSale) -> None:
        answers = enter_all(self.lab, self.handle.cue(), taps, shop=shop)
        for told, answer in zip(taps, answers, strict=True):
            right = Outcome.ENTERED if self.counts(told) else Outcome.LIMIT_REACHED
            assert answer.outcome is right, (told, answer)

    def _step(self, step: str, *, time_passes: bool = True) -> None:
        self.count += 1
        sale, name = self.sale, f"z{self.count}"
        if step == "hold":
            sale.hold(name, {"red": 1, "blue": 1}, hold_id="h")
        elif step == "release":
            sale.release(f"z{self.count - 1}", "h")
        elif step == "restock":
            sale.restock({"red": 1}, op_id=name)
        elif step == "pause":
            sale.pause()
        elif step == "resume":
            sale.resume()
        elif step == "time" and time_passes:
            self.now += 1_200
            self.lab.set_time(sale, self.now)
        elif step == "expire":
            sale.expire()
        elif step == "cue" and "beside" not in sale.cues():
            red = sale.snapshot().skus["red"].available
            if red:
                open_cue(self.lab, sale, "beside", stock={"red": red}, cue_time_ms=self.now)

    def _record(self) -> Any:
        assert self.sale.audit().problems == ()
        for view in self.sale.snapshot().skus.values():
            parts = (view.available, view.set_aside, view.held, view.sold)
            assert view.allotment == sum(parts)
            assert min(parts) >= 0
        return verified(self.handle)


TOGETHER = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize(
    ("keep", "baskets"), [("all", ALL_BASKETS), ("best", BEST_BASKETS)], ids=["all", "best"]
)
def test_the_record_is_a_function_of_the_entries_and_the_seed_and_of_nothing_else(
    lab: Lab,
    other: FlashSale,
    keep: str,
    baskets: list[tuple[Mapping[str, int], Mapping[str, int] | None]],
) -> None:
    stage = Stage(lab, other, keep)

    @TOGETHER
    @given(taps=taps_of(baskets), story=STORIES)
    def whatever_happens(taps: list[Tap], story: Story) -> None:
        record = stage.play(taps)
        assert record["drawn"] == told_drawn(stage.handle, [*filter(stage.counts, taps)])
        assert stage.play_otherwise(taps, story) == record

    whatever_happens()


def test_every_order_of_a_small_crowd_has_the_same_list_of_winners() -> None:
    crowd = [Group(n % 2, (("red", 1 + n % 3, 1),), [f"{n:032x}"]) for n in range(7)]
    wishes = verify.wishes_of(crowd)
    seed = bytes(32)
    orders = {
        str(verify.walk(verify.order_of(seed, "s", "c", shuffled), wishes, {"red": 5}))
        for shuffled in itertools.permutations(crowd)
    }
    assert len(orders) == 1


# --- only the best ------------------------------------------------------------------------


@pytest.mark.parametrize("crowd", [1, 4, 5, 6, 60])
def test_keeping_only_the_best_gives_the_winners_that_keeping_all_would_give(
    lab: Lab, crowd: int
) -> None:
    sale = lab.open({"red": 10})
    handle = open_cue(lab, sale, keep="best", reserve=2, windows=2)
    lab.set_time(sale, T0 + 2 * W)
    buyers = [f"b{n}" for n in range(crowd)]
    taps = [Tap(b, {"red": 1 + n % 2}, W * (n % 3 == 0), {"red": 1}) for n, b in enumerate(buyers)]
    enter_all(lab, handle.cue(), taps)
    settled(lab, sale, handle)
    record = verified(handle)
    everybody = counted(handle, taps)
    seed = seed_of(handle)
    order = verify.order_of(seed, sale.id, "drop", everybody)
    assert record["drawn"] == told_drawn(handle, taps)
    kept = [who for group in record["entrants"] for who in group["who"]]
    assert sorted(kept) == sorted(order[:5])
    assert record["entrants_complete"] == (crowd < 5)
    assert sale.audit().problems == ()


@pytest.mark.parametrize("crowd", [2, 6, 40, 300])
def test_keeping_the_best_and_keeping_all_have_the_same_winners_name_by_name(
    lab: Lab, crowd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same sale, cue and fresh bytes, and so the same seed, both ways through the server."""
    monkeypatch.setattr(window, "random_bytes", bytes)
    fixed = lab.new_id()
    same = Lab(lab.shop, lab.raw, lambda: fixed)
    buyers = [f"b{n}" for n in range(crowd)]
    chance = random.Random(crowd)
    baskets = [{"red": 1}, {"red": 2}, {"red": 3}]
    taps = [
        Tap(buyer, chance.choice(baskets), chance.randrange(2 * W), {"red": 1})
        for buyer in buyers + buyers[::2]
    ]
    told = {}
    for keep in ("all", "best"):
        sale = same.open({"red": 20})
        handle = open_cue(
            same, sale, stock={"red": 7}, windows=2, keep=keep, reserve_ms=9_000,
            reserve=4 if keep == "best" else None,
        )  # fmt: skip
        lab.set_time(sale, T0 + 2 * W)
        enter_all(same, handle.cue(), taps)
        settled(same, sale, handle)
        first = drawn_by(handle, buyers)
        for buyer, _ in first[:2]:  # and so have those who move up
            sale.release(buyer, "cue~drop").unwrap()
        handle.settle(wait=False)
        told[keep] = (first, awarded_by(handle, buyers))
        assert sale.audit().problems == ()
        lab.raw.delete(*keys_of(sale, "drop"))
    assert told["best"] == told["all"]


# --- time ---------------------------------------------------------------------------------

ENTRANTS = st.lists(
    st.tuples(st.integers(0, 2**64), st.integers(0, 3), st.integers(1, 3)),
    unique_by=lambda told: told[0],
    max_size=30,
)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(told=ENTRANTS, stock=st.integers(1, 20), seed=st.binary(min_size=32, max_size=32))
def test_windows_go_first_come_first_served(
    told: list[tuple[int, int, int]], stock: int, seed: bytes
) -> None:
    crowd = [Group(window, (("red", qty, 1),), [f"{name:032x}"]) for name, window, qty in told]
    order = verify.order_of(seed, "sale", "cue", crowd)
    window_of = {group.who[0]: group.window for group in crowd}
    windows = [window_of[who] for who in order]
    assert windows == sorted(windows)
    won = {who for who, _ in verify.walk(order, verify.wishes_of(crowd), {"red": stock})}
    lost = [window for who, window in window_of.items() if who not in won]
    # Whoever is content with one unit loses only to the own window and to earlier ones.
    if lost:
        assert all(window <= min(lost) for who, window in window_of.items() if who in won)


def chi_square(wins: Sequence[int], draws: int, crowd: int, winners: int) -> float:
    """How far tenths of a crowd are from equal shares, drawn without replacement."""
    expected = draws * winners / len(wins)
    spread = expected * (1 - winners / crowd) * crowd / (crowd - 1)
    return sum((got - expected) ** 2 for got in wins) / spread


def test_when_in_the_window_one_entered_does_not_tell_whether_one_wins() -> None:
    crowd, winners, draws = 100, 10, 500
    wins = [0] * 10
    for number in range(draws):
        cue = f"c{number}"
        seed = draw.server_seed(KEY, "sale", cue, bytes(32))
        names = [draw.entrant_of(bytes(32), "sale", cue, f"b{n}").hex() for n in range(crowd)]
        groups = [Group(0, (("red", 1, 1),), sorted(names))]
        tenth = {name: n // 10 for n, name in enumerate(names)}  # they came in this order
        order = verify.order_of(seed, "sale", cue, groups)
        for who, _ in verify.walk(order, verify.wishes_of(groups), {"red": winners}):
            wins[tenth[who]] += 1
    assert sum(wins) == draws * winners
    # Between the bounds that chance passes once in a thousand: neither skewed nor arranged.
    assert 1.15 < chi_square(wins, draws, crowd, winners) < CHI_SQUARE_9, wins


def test_the_same_through_the_server_with_the_fastest_first(
    lab: Lab, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: list[str] = request.getfixturevalue("_sale_ids")
    ids.append("test-entry-time-and-winning")  # names and secrets, and so a seed, that stay
    monkeypatch.setattr(window, "random_bytes", bytes)
    fixed = Lab(lab.shop, lab.raw, lambda: ids[-1])
    crowd, winners = 1_000, 300
    sale = fixed.open({"red": winners})
    handle = open_cue(fixed, sale, stock={"red": winners})
    buyers = [f"b{n}" for n in range(crowd)]
    for part in range(10):  # a tenth of the crowd in every tenth of the window
        fixed.set_time(sale, T0 + 300 * (part + 1))
        taps = [
            Tap(b, after_ms=3 * (100 * part + n)) for n, b in enumerate(buyers[100 * part :][:100])
        ]
        enter_all(fixed, handle.cue(), taps)
    assert settled(fixed, sale, handle).awarded == winners
    number = {buyer: n for n, buyer in enumerate(buyers)}
    wins = [0] * 10
    for buyer, _ in drawn_by(handle, buyers):
        wins[number[buyer] // 100] += 1
    assert 1.15 < chi_square(wins, 1, crowd, winners) < CHI_SQUARE_9, wins
    assert len(named(handle, buyers)) == crowd
    assert sale.audit().problems == ()
