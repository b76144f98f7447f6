"""Freezing as a step of its own, publishing the digest, and what is too late for a public seed."""

from __future__ import annotations

from typing import Any

import pytest

from flashsale import (
    Cue,
    CueHandle,
    CueState,
    InvalidRequest,
    Outcome,
    Rejected,
    Sale,
    SaleHandle,
    Sku,
    freezing,
)
from flashsale.draw import Randomness
from support.cues import (
    KEY,
    POSITION,
    Hand,
    Tap,
    Tower,
    close,
    contents,
    enter_all,
    load,
    open_cue,
    save,
    settled,
    settlement,
    tap,
)
from support.lab import T0, Lab
from support.shells import connect

CLOSE = T0 + 16_000
PLACE = "https://example.com/draws"
BUYERS = [f"b{n}" for n in range(8)]


def entered(lab: Lab, sale: SaleHandle, **rules: Any) -> CueHandle:
    handle = open_cue(lab, sale, **rules)
    enter_all(lab, handle.cue(), [Tap(buyer) for buyer in BUYERS])
    return handle


class Board:
    """Where digests are published."""

    def __init__(self, *, fails: int = 0) -> None:
        self.told: list[tuple[str, Cue]] = []
        self.fails = fails

    def __call__(self, digest: str, cue: Cue) -> None:
        self.told.append((digest, cue))
        if self.fails:
            self.fails -= 1
            raise OSError("the board is down")


# --- freezing -----------------------------------------------------------------------------


def test_a_freeze_tells_the_digest_and_nothing_of_the_result(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale)
    assert handle.freeze(wait=False).outcome is Outcome.NOT_CLOSED
    assert handle.freeze(wait=False).digest == ""
    close(lab, sale, handle)
    with lab.watch(sale) as seen:
        told = handle.freeze()
    assert (told.outcome, told.entrants, told.frozen_at_ms) == (Outcome.FROZEN, 8, CLOSE)
    assert (told.published_at_ms, told.freeze_by_ms, seen.effect) == (None, None, "")
    view = handle.view()
    assert (view.state, view.digest, view.awarded) == (CueState.FROZEN, told.digest, 0)
    assert tap(handle, "late").outcome is Outcome.TOO_LATE
    before = contents(lab, sale, "drop")
    assert handle.freeze().digest == told.digest
    assert contents(lab, sale, "drop") == before
    lab.set_time(sale, handle.cue().reveals_at_ms)
    assert handle.settle(wait=False).awarded == 3
    again = handle.freeze()
    assert (again.outcome, again.digest) == (Outcome.SETTLED, told.digest)


def test_whoever_freezes_gets_the_same_digest_without_the_draw_key(
    lab: Lab, server_url: str
) -> None:
    sale = lab.open()
    handle = entered(lab, sale)
    close(lab, sale, handle)
    for shell in ("sync", "async"):
        with connect(shell, server_url) as shop:
            told = shop.sale(sale.id).cue_handle("drop").freeze()
            assert (told.outcome, told.digest) == (Outcome.FROZEN, handle.view().digest)


def test_a_freeze_of_what_is_not_there_is_rejected(lab: Lab) -> None:
    with pytest.raises(Rejected) as refused:
        lab.open().cue_handle("none").freeze()
    assert refused.value.outcome is Outcome.CUE_UNKNOWN


def test_until_when_a_public_draw_is_frozen_is_told_from_the_opening_on(lab: Lab) -> None:
    sale, tower = lab.open(), Tower()
    handle = entered(lab, sale, entropy=tower)
    by = handle.cue().freeze_by_ms
    assert by == handle.view().cue.entropy_at_ms is not None
    assert handle.freeze(wait=False, entropy=tower).freeze_by_ms == by
    assert handle.settle(wait=False, entropy=tower).freeze_by_ms == by


@pytest.mark.parametrize("margin_ms", [5_000, 600_000])
def test_a_cue_says_how_much_time_there_is_to_freeze_it(lab: Lab, margin_ms: int) -> None:
    cue = open_cue(lab, lab.open(), entropy=Tower(), entropy_margin_ms=margin_ms).cue()
    assert cue.entropy_margin_ms == margin_ms
    assert cue.freeze_by_ms is not None
    assert margin_ms < cue.freeze_by_ms - cue.closes_at_ms <= margin_ms + 30_000


# --- a source that has spoken -------------------------------------------------------------


@pytest.mark.parametrize("verb", ["freeze", "settle"])
@pytest.mark.parametrize("now", [T0 + 1_000, CLOSE], ids=["before the close", "at the close"])
def test_a_value_that_is_there_voids_the_cue_whatever_the_servers_clock_says(
    lab: Lab, now: int, verb: str
) -> None:
    sale, tower = lab.open(), Tower()
    handle = entered(lab, sale, entropy=tower)
    tower.say(handle.cue())
    lab.set_time(sale, now)
    told = getattr(handle, verb)(wait=False, entropy=tower)
    assert told.outcome is Outcome.VOID
    view = handle.view()
    assert (view.reason, view.frozen_at_ms) == ("frozen after the public seed was known", now)
    assert (view.set_aside, view.entrants) == ({"red": 3}, 8)
    assert view.digest  # its record tells who had entered
    assert sale.audit().problems == ()


def test_a_value_that_comes_while_the_entries_are_read_voids_the_cue(lab: Lab) -> None:
    class Quick(Tower):
        def fetch(self, round_number: int) -> Randomness | None:
            self.asked.append(round_number)
            return Randomness(bytes(32)) if len(self.asked) > 1 else None

    sale, quick = lab.open(), Quick()
    handle = entered(lab, sale, entropy=quick)
    close(lab, sale, handle)
    assert handle.settle(wait=False, entropy=quick).outcome is Outcome.VOID
    assert handle.view().awarded == 0


def test_a_value_that_comes_after_the_digest_is_what_was_waited_for(lab: Lab) -> None:
    sale, tower = lab.open(), Tower()
    handle = entered(lab, sale, entropy=tower)
    close(lab, sale, handle)
    digest = handle.freeze(entropy=tower).digest
    tower.say(handle.cue())
    assert handle.freeze(entropy=tower).digest == digest
    assert handle.view().state is CueState.FROZEN


def test_what_a_source_raises_reaches_the_caller_and_freezes_nothing(lab: Lab) -> None:
    class Broken(Tower):
        def fetch(self, round_number: int) -> Randomness | None:
            raise OSError("no route to the beacon")

    sale, broken = lab.open(), Broken()
    handle = entered(lab, sale, entropy=broken)
    close(lab, sale, handle)
    before = contents(lab, sale, "drop")
    with pytest.raises(OSError, match="no route"):
        handle.freeze(entropy=broken)
    assert contents(lab, sale, "drop") == before
    assert handle.freeze(entropy=Tower()).outcome is Outcome.FROZEN


def test_a_public_draw_is_not_frozen_without_its_source(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale, entropy=Tower())
    close(lab, sale, handle)
    for other in (None, Tower("beacon")):
        with pytest.raises(InvalidRequest, match="entropy: must be the source named 'tower'"):
            handle.freeze(entropy=other)
    assert handle.view().state is CueState.OPEN


# --- publishing ---------------------------------------------------------------------------


def publishing(lab: Lab, sale: SaleHandle, wait_ms: int = 30_000, **rules: Any) -> CueHandle:
    return entered(lab, sale, publish=PLACE, publish_wait_ms=wait_ms, **rules)


def test_a_digest_is_published_before_anybody_is_awarded_anything(lab: Lab) -> None:
    sale, board = lab.open(), Board()
    handle = publishing(lab, sale)
    cue = handle.cue()
    assert (cue.publish, cue.publish_wait_ms) == (PLACE, 30_000)
    assert cue.reveals_at_ms == CLOSE + 30_000 + 2_000
    lab.set_time(sale, CLOSE + 10_000)
    told = handle.settle(wait=False, publish=board)
    assert told.outcome in (Outcome.FROZEN, Outcome.NOT_CLOSED)
    view = handle.view()
    assert board.told == [(view.digest, cue)]
    assert (view.published_at_ms, view.awarded) == (CLOSE + 10_000, 0)
    lab.set_time(sale, CLOSE + 39_999)
    assert handle.settle(wait=False, publish=board).outcome is Outcome.FROZEN
    assert handle.view().awarded == 0
    lab.set_time(sale, CLOSE + 40_000)
    told = handle.settle(wait=False)
    assert (told.outcome, told.awarded, len(board.told)) == (Outcome.SETTLED, 3, 1)
    assert sale.audit().problems == ()


def test_settling_waits_for_the_close_the_publication_and_the_announced_time(lab: Lab) -> None:
    """In real time."""
    sale, board = lab.shop.open(Sale(lab.new_id(), [Sku("red", 5)], hold_ttl_ms=60_000)), Board()
    rules: dict[str, Any] = {"window_ms": 2_000, "lag_cap_ms": 0, "grace_ms": 0, "proof": False}
    at_ms = sale.snapshot().at_ms
    handle = open_cue(lab, sale, cue_time_ms=at_ms, publish=PLACE, publish_wait_ms=100, **rules)
    assert handle.enter("ann", {"red": 1}, position_ms=POSITION).outcome is Outcome.ENTERED
    told = handle.settle(publish=board)
    view = handle.view()
    assert (told.outcome, told.awarded, len(board.told)) == (Outcome.SETTLED, 1, 1)
    assert view.frozen_at_ms is not None
    assert view.published_at_ms is not None
    assert view.revealed_at_ms is not None
    assert at_ms + 2_000 <= view.frozen_at_ms <= view.published_at_ms
    assert view.revealed_at_ms >= max(view.cue.reveals_at_ms, view.published_at_ms + 100)


def test_nobody_entered_and_still_nothing_is_revealed_before_the_digest_is_published(
    lab: Lab,
) -> None:
    sale, board = lab.open(), Board()
    handle = open_cue(lab, sale, publish=PLACE, publish_wait_ms=1_000)
    lab.set_time(sale, handle.cue().reveals_at_ms + 10_000)
    assert handle.settle(wait=False, publish=board).outcome is Outcome.FROZEN
    assert handle.view().state is CueState.FROZEN
    lab.set_time(sale, handle.cue().reveals_at_ms + 11_000)
    assert handle.settle(wait=False).outcome is Outcome.SETTLED


def test_without_a_publisher_such_a_cue_is_not_settled(lab: Lab) -> None:
    sale = lab.open()
    handle = publishing(lab, sale)
    close(lab, sale, handle)
    with pytest.raises(InvalidRequest, match=f"publish: must be given.*{PLACE}"):
        handle.settle(wait=False)
    assert handle.view().digest  # frozen it is
    lab.set_time(sale, handle.cue().reveals_at_ms + 99_000)
    dead = Hand(lab, settlement(handle.cue()))
    assert dead.finish().outcome is Outcome.FROZEN  # nor by whoever goes about it otherwise
    assert handle.view().awarded == 0


@pytest.mark.parametrize("publish", ["a text", 3])
def test_a_publisher_is_a_function(lab: Lab, publish: Any) -> None:
    sale = lab.open()
    handle = publishing(lab, sale)
    close(lab, sale, handle)
    with pytest.raises(InvalidRequest, match="publish: must be a function"):
        handle.settle(wait=False, publish=publish)


def test_where_nothing_is_to_be_published_a_publisher_is_refused(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale)
    close(lab, sale, handle)
    with pytest.raises(InvalidRequest, match="publish: must be None: the cue was opened without"):
        handle.settle(wait=False, publish=Board())


def test_what_a_publisher_raises_reaches_the_caller_and_nothing_is_noted(lab: Lab) -> None:
    sale, board = lab.open(), Board(fails=1)
    handle = publishing(lab, sale)
    close(lab, sale, handle)
    with pytest.raises(OSError, match="the board is down"):
        handle.settle(wait=False, publish=board)
    assert handle.view().published_at_ms is None
    lab.set_time(sale, CLOSE + 5)
    handle.settle(wait=False, publish=board)
    assert handle.view().published_at_ms == CLOSE + 5
    assert [digest for digest, _ in board.told] == [handle.view().digest] * 2


def test_an_asynchronous_publisher_is_awaited_or_refused(lab: Lab, server_url: str) -> None:
    sale, board = lab.open(), Board()
    handle = publishing(lab, sale)
    close(lab, sale, handle)

    async def publish(digest: str, cue: Cue) -> None:
        board(digest, cue)

    with (
        connect("sync", server_url, keys=[KEY]) as shop,
        pytest.raises(InvalidRequest, match="publish: must not be asynchronous"),
    ):
        shop.sale(sale.id).cue_handle("drop").settle(wait=False, publish=publish)
    assert (board.told, handle.view().published_at_ms) == ([], None)
    with connect("async", server_url, keys=[KEY]) as shop:
        shop.sale(sale.id).cue_handle("drop").settle(wait=False, publish=publish)
    assert len(board.told) == 1
    assert handle.view().published_at_ms == CLOSE


@pytest.mark.parametrize("late_ms", [-1, 0])
def test_a_digest_that_is_published_when_the_public_seed_is_known_voids_the_cue(
    lab: Lab, late_ms: int
) -> None:
    sale, tower, board = lab.open(), Tower(), Board()
    handle = publishing(lab, sale, 0, entropy=tower)
    close(lab, sale, handle)
    digest = handle.freeze(entropy=tower).digest
    at = handle.cue().entropy_at_ms
    assert at is not None
    lab.set_time(sale, at + late_ms)
    told = handle.settle(wait=False, entropy=tower, publish=board)
    view = handle.view()
    assert view.digest == digest
    if late_ms < 0:
        assert (told.outcome, view.published_at_ms) == (Outcome.FROZEN, at - 1)
        return
    assert (told.outcome, view.published_at_ms) == (Outcome.VOID, None)
    assert (view.reason, view.voided_at_ms) == ("published after the public seed was known", at)
    assert view.set_aside == {"red": 3}
    assert sale.audit().problems == ()


def test_a_digest_that_is_published_after_its_source_has_spoken_voids_the_cue(lab: Lab) -> None:
    """Whatever the server's clock says."""
    sale, tower, board = lab.open(), Tower(), Board()
    handle = publishing(lab, sale, 0, entropy=tower)
    close(lab, sale, handle)
    handle.freeze(entropy=tower)
    tower.say(handle.cue())
    assert handle.settle(wait=False, entropy=tower, publish=board).outcome is Outcome.VOID


BAD: list[tuple[dict[str, Any], str]] = [
    ({"publish": ""}, "publish: must name a place"),
    ({"publish": "x" * 257}, "publish: must be a str"),
    ({"publish": 3}, "publish: must be a str"),
    ({"publish_wait_ms": 1}, "publish_wait_ms: must be 0 without publish"),
    ({"publish": "x", "publish_wait_ms": -1}, "publish_wait_ms: must be "),
    ({"publish": "x", "publish_wait_ms": 86_400_001}, "publish_wait_ms: must be "),
    ({"publish": "x", "publish_wait_ms": 1.5}, "publish_wait_ms: must be "),
    ({"entropy_margin_ms": 4_999}, "entropy_margin_ms: must be "),
    ({"entropy_margin_ms": 86_400_001}, "entropy_margin_ms: must be "),
]


@pytest.mark.parametrize(("rules", "text"), BAD)
def test_what_is_asked_of_a_publication_is_checked(
    lab: Lab, rules: dict[str, Any], text: str
) -> None:
    sale = lab.open()
    with pytest.raises(InvalidRequest, match=text):
        open_cue(lab, sale, **rules)
    assert sale.cues() == []


def test_a_cue_published_otherwise_is_another_cue(lab: Lab) -> None:
    sale = lab.open()
    open_cue(lab, sale, publish=PLACE)
    open_cue(lab, sale, publish=PLACE)
    for rules in ({}, {"publish": "elsewhere"}, {"publish": PLACE, "publish_wait_ms": 1}):
        with pytest.raises(Rejected) as refused:
            open_cue(lab, sale, **rules)
        assert refused.value.outcome is Outcome.CONFLICT


# --- step by step -------------------------------------------------------------------------


def test_a_freeze_that_stops_at_any_step_is_gone_on_with_by_anybody(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale, publish=PLACE)
    close(lab, sale, handle)
    start = save(lab, sale, "drop")
    digests, calls = set(), 0

    def publish() -> Any:
        frozen = yield from freezing.freeze(sale.id, "drop")
        return (yield from freezing.published(frozen, None))

    while True:
        load(lab, start)
        hand = Hand(lab, publish())
        for _ in range(calls):
            hand.call()
        done = hand.done
        hand.drop()
        told = handle.freeze()
        assert told.outcome is Outcome.FROZEN
        digests.add(told.digest)
        if done:
            break
        calls += 1
    assert len(digests) == 1
    assert handle.view().published_at_ms == CLOSE


def test_a_cue_that_is_voided_before_its_digest_is_published_says_so(lab: Lab) -> None:
    sale, board = lab.open(), Board()
    handle = publishing(lab, sale)
    close(lab, sale, handle)
    handle.freeze()
    handle.void("it suits")
    assert handle.settle(wait=False, publish=board).outcome is Outcome.VOID
    assert (board.told, handle.view().published_at_ms) == ([], None)
    assert settled(lab, sale, handle).outcome is Outcome.VOID


class Scene:
    """A cue that publishes its digest, and what the script says of that in each state."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.sale = lab, lab.open()
        self.handle = publishing(lab, self.sale, 1_000)

    def publish(self) -> str:
        step = freezing.freeze(self.sale.id, "drop")
        known = freezing.Frozen(Outcome.FROZEN, self.lab.shop.perform(step).known, self.view())
        return self.lab.shop.perform(freezing.published(known, None)).outcome.name

    def view(self) -> Any:
        return self.handle.view()

    def open(self) -> None:
        pass

    def frozen(self) -> None:
        close(self.lab, self.sale, self.handle)
        self.handle.freeze()

    def published(self) -> None:
        self.frozen()
        self.handle.settle(wait=False, publish=Board())

    def revealed(self) -> None:
        self.published()
        self.lab.set_time(self.sale, self.handle.cue().reveals_at_ms)
        self.handle.settle(wait=False)

    def void(self) -> None:
        self.frozen()
        self.handle.void("it suits")


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("open", "NOT_CLOSED"),
        ("frozen", "FROZEN"),
        ("published", "FROZEN"),
        ("revealed", "SETTLED"),
        ("void", "VOID"),
    ],
)
def test_a_publication_is_noted_once_and_only_of_a_digest(
    lab: Lab, state: str, outcome: str
) -> None:
    scene = Scene(lab)
    getattr(scene, state)()
    before = contents(lab, scene.sale, "drop")
    assert scene.publish() == outcome
    assert (contents(lab, scene.sale, "drop") == before) == (state != "frozen")
    assert scene.sale.audit().problems == ()


def test_a_cue_without_a_place_notes_no_publication(lab: Lab) -> None:
    sale = lab.open()
    handle = entered(lab, sale)
    close(lab, sale, handle)
    handle.freeze()
    frozen = lab.shop.perform(freezing.freeze(sale.id, "drop"))
    assert lab.shop.perform(freezing.published(frozen, None)).outcome is Outcome.MALFORMED
    assert handle.view().published_at_ms is None
