"""What a waiting room does of itself: it calls as many as there is stock for, until all is sold."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from flashsale import (
    HoldRequest,
    JoinRequest,
    Outcome,
    RoomState,
    inventory,
    waiting_room,
)
from flashsale.batches import Item, Kind, run_all
from flashsale.calls import Operation
from flashsale.keyring import Keyring
from support.cues import KEY, Hand, load
from support.lab import T0, Lab
from support.queueing import TOGETHER, TURN_MS, Stage

BUYERS = [f"b{n}" for n in range(12)]

# --- how many are called ------------------------------------------------------------------

STEPS = ["join", "come", "hold", "want", "leave", "release", "less", "more", "wait", "turn", "look"]
STORIES = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2**16)), max_size=25)


class Life:
    """A crowd that does what a story says."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.count = stage, 0
        self.inside: list[str] = []

    def live(self, step: str, number: int) -> None:
        stage, chance = self.stage, random.Random(number)
        self.count += 1
        buyers = [f"b{n}" for n in range(30)]
        some = chance.sample(buyers, 8)
        if step == "join":
            stage.join(some)
        elif step == "come":
            self.inside = stage.admitted(buyers)
        elif step in ("hold", "want"):
            qty = 1 if step == "hold" else 40
            stage.hold(self.inside[: 1 + number % 4], hold_id=f"h{self.count}", qty=qty)
        elif step == "leave":
            stage.sale.queue.leave(some[0])
        elif step == "release":
            stage.sale.release(some[0], f"h{1 + number % self.count}")
        elif step in ("less", "more"):
            change = -(number % 8) - 1 if step == "less" else number % 8 + 1
            stage.sale.restock({"red": change}, op_id=f"r{self.count}")
        elif step in ("wait", "turn"):
            stage.pass_ms(number % 1_000 if step == "wait" else TURN_MS)


def test_nobody_is_called_beyond_what_the_stock_is_expected_to_be_for(lab: Lab) -> None:
    @TOGETHER
    @given(
        story=STORIES,
        stock=st.integers(0, 20),
        conversion=st.sampled_from([0.3, 1, 2.5]),
        margin=st.sampled_from([0, 0.1, 1]),
    )
    def at_any_step(
        story: list[tuple[str, int]], stock: int, conversion: float, margin: float
    ) -> None:
        stage = Stage(lab, stock=stock, conversion=conversion, margin=margin)
        life, before = Life(stage), stage.view()
        for step, number in story:
            life.live(step, number)
            view = stage.view()
            taken = view.outstanding * view.conversion * (1 + margin)
            if view.serving > before.serving:
                # What was called is called for stock that is there.
                assert view.available > 0
                assert view.outstanding == 1 or taken <= view.available + 1e-6, (step, view)
                assert view.outstanding <= view.bound
            done = sum(row.done for row in view.turns)
            assert view.outstanding == view.serving - view.over - done
            assert view.outstanding >= 0
            before = view

    at_any_step()


class Habits(Struct, frozen=True):
    """What share of a crowd does not show up, leaves at some time, or only looks when inside.

    One in twenty buys at the least.
    """

    seed: int
    no_shows: float
    leavers: float
    lookers: float


HABITS = st.builds(
    Habits,
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.3, 0.8]),
    st.sampled_from([0.0, 0.5]),
    st.sampled_from([0.0, 0.5]),
)

TURNS_MAX = 120
"""Turn lengths within which these tests' stock is sold, whatever those who wait do.

The worst is a single unit, many who take none, and a high conversion assumed: as long as that is
not refuted there is one turn at a time.
"""


def everybody(count: int) -> list[str]:
    return [f"b{n}" for n in range(count)]


def sell(stage: Stage, crowd_size: int, habits: Habits) -> int:
    """Let a crowd come and go until nothing is available; how many turn lengths that took."""
    chance = random.Random(habits.seed)
    numbers = {answer.buyer: answer.number for answer in stage.join(everybody(crowd_size))}
    waiting = list(numbers)
    no_shows = {buyer for buyer in waiting if chance.random() < habits.no_shows}
    lookers = {buyer for buyer in waiting if chance.random() < habits.lookers}
    leavers = [buyer for buyer in waiting if chance.random() < habits.leavers]
    leaves = {buyer: chance.randrange(40) for buyer in leavers}
    for quarter in range(4 * TURNS_MAX):
        serving, available = (view := stage.view()).serving, view.available
        if available == 0:
            return quarter // 4
        for buyer in [buyer for buyer in waiting if leaves.get(buyer) == quarter]:
            stage.sale.queue.leave(buyer)
            waiting.remove(buyer)
        called = {buyer for buyer in waiting if numbers[buyer] <= serving}
        waiting = [buyer for buyer in waiting if buyer not in called]
        if inside := stage.admitted(sorted(called - no_shows)):
            stage.hold([buyer for buyer in inside if buyer not in lookers])
        stage.pass_ms(TURN_MS // 4 + 1)
    raise AssertionError(f"not sold within {TURNS_MAX} turn lengths: {stage.view()}")


def test_the_whole_stock_sells_whoever_does_not_show_up_or_leaves(lab: Lab) -> None:
    @settings(TOGETHER, max_examples=12)
    @given(habits=HABITS, stock=st.integers(1, 12), conversion=st.sampled_from([0.5, 1, 2]))
    def with_such_habits(habits: Habits, stock: int, conversion: float) -> None:
        stage = Stage(lab, stock=stock, conversion=conversion, margin=0.1)
        sell(stage, 600, habits)
        assert stage.view().available == 0
        assert stage.sale.snapshot().skus["red"].held == stock
        assert stage.sale.audit().problems == ()

    with_such_habits()


def test_the_room_moves_on_whoever_asks_and_whatever(lab: Lab) -> None:
    for present in (0, 3):
        stage = Stage(lab, stock=3, opens_at_ms=T0 + 1)
        stage.join(["ann", "bob", "cyd"][:present])
        stage.pass_ms(1)
        stage.join(["ann", "bob", "cyd"])
        lab.shop._rooms[stage.sale.id] = old_view(lab, stage)
        for _ in range(3):  # nobody asks for anything but to be let in
            stage.pass_ms(1_000)
            told = [stage.sale.queue.admit(buyer).outcome for buyer in ("ann", "bob", "cyd")]
        assert told == [Outcome.ADMITTED] * 3


def old_view(lab: Lab, stage: Stage) -> Any:
    """A view as it was read before the opening, some time ago."""
    seen = lab.shop._rooms[stage.sale.id]
    return type(seen)(seen.view, seen.asked_at - waiting_room.VIEW_MS)


# --- lost replies and dead processes ------------------------------------------------------

DEEDS = [
    "look", "join", "join", "join", "admit", "admit", "hold", "hold", "leave", "steer", "rate",
    "time", "turn", "want",
]  # fmt: skip
Deed = tuple[str, int, int, int]
HISTORIES = st.lists(
    st.tuples(st.sampled_from(DEEDS), st.integers(0, 2**16), st.integers(0, 3), st.integers(1, 3)),
    max_size=15,
)


def deed_of(stage: Stage, deed: str, number: int) -> Operation[Any] | None:
    """What a process does; None if only time passes."""
    sale = stage.sale.id
    buyers = random.Random(number).sample(BUYERS, 4)
    keyring, seen = Keyring([KEY]), stage.lab.shop._rooms[sale].view
    if deed == "look":
        return waiting_room.look(sale, keyring)
    if deed == "join":
        requests = [JoinRequest(b, "tv" if number % 3 else "") for b in buyers]
        return waiting_room.join_many(seen, requests)
    if deed == "admit":
        return _all(
            waiting_room.admit_kind(seen), [waiting_room.admit_item(b, None) for b in BUYERS]
        )
    if deed == "leave":
        return _all(waiting_room.leave_kind(seen), [waiting_room.leave_item(buyers[0], None)])
    if deed in ("hold", "want"):
        lines = {"red": 1 if deed == "hold" else 50}
        return inventory.hold_many(
            sale, [HoldRequest(b, lines, f"h{number % 5}", key="tv") for b in buyers]
        )
    if deed == "steer":
        state = RoomState.PAUSED if number % 3 == 0 else RoomState.RUNNING
        return waiting_room.steer(sale, keyring, state, None)
    if deed == "rate":
        return waiting_room.steer(sale, keyring, None, 1 + number % 1_000)
    stage.pass_ms(number % 1_000 if deed == "time" else TURN_MS)
    return None


def _all(kind: Kind, items: list[Item]) -> Operation[Any]:
    return run_all(kind, items, lambda item: item)


def history(stage: Stage, deeds: Sequence[Deed], *, disturbed: bool) -> Any:
    """Everything at the end of the deeds: each done once, or dropped half way and sent again."""
    stage.now = T0
    for deed, number, stop, times in deeds:
        operation = deed_of(stage, deed, number)
        if operation is None:
            continue
        if disturbed:
            dead = Hand(stage.lab, operation)
            for _ in range(stop):
                dead.call()
            dead.drop()
        for _ in range(times if disturbed else 1):
            again = deed_of(stage, deed, number)
            assert again is not None
            Hand(stage.lab, again).finish()
    return stage.contents()


def test_what_is_dropped_half_way_and_sent_again_changes_nothing(lab: Lab) -> None:
    stage = Stage(
        lab,
        stock=6,
        opens_at_ms=T0 + 500,
        key_places_max=9,
        sale={"key_holds_max": 5, "hold_ttl_ms": 5_000},
    )
    start = stage.save()

    @settings(TOGETHER, max_examples=40)
    @given(deeds=HISTORIES)
    def however_it_went(deeds: list[Deed]) -> None:
        load(lab, start)
        once = history(stage, deeds, disturbed=False)
        load(lab, start)
        assert history(stage, deeds, disturbed=True) == once

    however_it_went()
