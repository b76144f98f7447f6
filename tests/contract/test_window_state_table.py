"""Every cell of the windows' state table in lua/README.md: verb × state → outcome and effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from flashsale import Outcome, Rejected, draw, freezing, settling, window
from flashsale.batches import Item, Kind, read_answers, shard_call
from flashsale.calls import Call, Operation, outcome_of
from flashsale.keys import CueKeys
from flashsale.scripts import load_script
from support.cues import (
    Hand,
    Tap,
    close,
    contents,
    enter_all,
    open_cue,
    seed_of,
    settlement,
    tap,
)
from support.lab import T0, Lab

BUYERS = [f"b{n}" for n in range(6)]
OTHER_DIGEST = "ab" * 32


class Scene:
    """A cue with three units and six entrants, and what each verb's script says of it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.sale = lab.open({"red": 5}, limits={"red": 2})
        self.handle = open_cue(lab, self.sale, reserve_ms=9_000)
        enter_all(lab, self.handle.cue(), [Tap(buyer) for buyer in BUYERS])
        self.known = lab.shop.perform(window.know(self.sale.id, "drop"))
        cue = self.known.cue
        entries = [(buyer, 0, (("red", 1, 1),)) for buyer in BUYERS]
        frozen = draw.freeze(cue, self.known.salt, entries, at_ms=cue.closes_at_ms)
        self.drawn = draw.draw(frozen, seed_of(self.handle))
        self.order = [frozen.buyers[who] for who in self.drawn.order]

    # --- the states ---

    def settle_until(self, reached: Callable[[], bool]) -> None:
        hand = Hand(self.lab, settlement(self.handle.cue()))
        while not reached():
            assert hand.call()
        hand.drop()

    def open(self) -> None:
        pass

    def closed(self) -> None:
        close(self.lab, self.sale, self.handle)

    def bare(self) -> None:
        """Frozen, its digest not published."""
        self.closed()
        self.settle_until(lambda: self.handle.view().frozen_at_ms is not None)
        assert not self.handle.view().digest

    def frozen(self) -> None:
        self.closed()
        self.settle_until(lambda: self.handle.view().digest != "")

    def due(self) -> None:
        """Frozen, and the time has come that the result is announced for."""
        self.frozen()
        self.lab.set_time(self.sale, self.handle.cue().reveals_at_ms)

    def begun(self) -> None:
        self.due()
        self.award("drawn", slice(0, 2))

    def judged(self) -> None:
        self.due()
        self.award("drawn", slice(0, 3))

    def refused(self) -> None:
        """All who were drawn are judged, and one of them could not take the place."""
        self.due()
        self.sale.hold(self.order[2], {"red": 2}, hold_id="own").unwrap()
        self.award("drawn", slice(0, 3))

    def revealed(self) -> None:
        """And one of the winners has given up the place."""
        self.due()
        self.handle.settle(wait=False)
        self.sale.release(self.order[2], "cue~drop").unwrap()

    def over(self) -> None:
        """Revealed, and the reserve has ended."""
        self.due()
        self.handle.settle(wait=False)
        until = self.handle.view().reserve_until_ms
        assert until is not None
        for buyer in self.order[:3]:
            self.sale.confirm(buyer, "cue~drop").unwrap()
        self.lab.set_time(self.sale, until)
        self.sale.expire()

    def void(self) -> None:
        self.handle.void("the link was wrong")

    def void_told(self) -> None:
        """Void, and the time has come that its result was announced for."""
        self.void()
        self.lab.set_time(self.sale, self.handle.cue().reveals_at_ms)

    # --- the verbs ---

    def cue(self, **change: Any) -> str:
        try:
            open_cue(self.lab, self.sale, reserve_ms=9_000, **change)
        except Rejected as error:
            return error.outcome.name
        return "CUED"

    def cue_of(self) -> str:
        later = self.handle.cue().reveals_at_ms
        try:
            open_cue(self.lab, self.sale, "other", stock=None, stock_of="drop", cue_time_ms=later)
        except Rejected as error:
            return error.outcome.name
        return "CUED"

    def enter(self) -> str:
        name: str = tap(self.handle, "somebody").outcome.name
        return name

    def freeze(self, digest: str = "") -> str:
        told = self.lab.shop.perform(freezing._freeze(self.sale.id, "drop", digest, 6))
        return told[0].name

    def freeze_same(self) -> str:
        return self.freeze(self.handle.view().digest or OTHER_DIGEST)

    def award(
        self,
        phase: str,
        ranks: slice,
        *,
        least: int = 1,
        freed: int | None = None,
        seed: bytes | None = None,
    ) -> str:
        """The outcomes of those at these places in the order, or the one of the batch."""
        drawn = replace(self.drawn, server_seed=seed or self.drawn.server_seed)
        wishes = [(who, [("red", least, least)]) for who in drawn.order[ranks]]
        freed = self.handle.view().freed if freed is None else freed
        call = call_of(settling._award_some(self.known, drawn, phase, wishes, freed))
        reply = self.lab.run(call, caller_ms=T0)
        items = [Item(buyer, "cue~drop") for buyer in self.order[ranks]]
        answers = read_answers(Kind("award", self.sale.id), items, reply)
        return "/".join(dict.fromkeys(answer.outcome.name for answer in answers))

    def reveal(self, seed: bytes | None = None, freed: int | None = None) -> str:
        drawn = replace(self.drawn, server_seed=seed or self.drawn.server_seed)
        freed = self.handle.view().freed if freed is None else freed
        call = call_of(settling._reveal(self.known.cue, drawn, freed))
        return outcome_of(self.lab.run(call, caller_ms=T0)[2].decode(), "reveal").name

    def result(self, buyer: str) -> str:
        return self.handle.result(buyer, wait_ms=0).outcome.name

    def record(self) -> str:
        try:
            record: Any = self.handle.record()
        except Rejected as error:
            return error.outcome.name
        return "void" if record["void"] else f"{len(record['awarded'])}_awarded"


def call_of(operation: Operation[Any]) -> Call:
    call = next(operation)
    operation.close()
    assert isinstance(call, Call)
    return call


OTHER_SEED = bytes(32)

VERBS: dict[str, Callable[[Scene], str]] = {
    "cue": lambda s: s.cue(),
    "cue, otherwise": lambda s: s.cue(windows=2),
    "enter": lambda s: s.enter(),
    "freeze": lambda s: s.freeze(),
    "freeze with a digest": lambda s: s.freeze_same(),
    "freeze with another": lambda s: s.freeze(OTHER_DIGEST),
    "award drawn": lambda s: s.award("drawn", slice(0, 3)),
    "award drawn, others": lambda s: s.award("drawn", slice(3, 4)),
    "award drawn, other seeds": lambda s: s.award("drawn", slice(0, 3), seed=OTHER_SEED),
    "award next": lambda s: s.award("next", slice(3, 4)),
    "award next, too much": lambda s: s.award("next", slice(3, 4), least=2),
    "award next, other seeds": lambda s: s.award("next", slice(3, 4), seed=OTHER_SEED),
    "award next, out of date": lambda s: s.award("next", slice(3, 4), freed=7),
    "reveal": lambda s: s.reveal(),
    "reveal, out of date": lambda s: s.reveal(freed=7),
    "reveal, other seeds": lambda s: s.reveal(OTHER_SEED),
    "void": lambda s: s.handle.void("again").outcome.name,
    "give back": lambda s: s.handle.give_back().outcome.name,
    "cue, its stock": lambda s: s.cue_of(),
    "result of a winner": lambda s: s.result(s.order[0]),
    "result of another": lambda s: s.result(s.order[5]),
    "result of nobody": lambda s: s.result("nobody"),
    "record": lambda s: s.record(),
}

STATES = ["open", "closed", "bare", "frozen", "due", "begun", "judged", "refused"]
STATES += ["revealed", "over", "void", "void_told"]

TABLE = {
    "cue": "CUED*12",
    "cue, otherwise": "CONFLICT*12",
    "enter": "ENTERED TOO_LATE*9 VOID*2",
    "freeze": "NOT_CLOSED FROZEN*7 SETTLED*2 VOID*2",
    "freeze with a digest": "NOT_CLOSED FROZEN*7 SETTLED*2 VOID*2",
    "freeze with another": "NOT_CLOSED FROZEN*2 CONFLICT*5 SETTLED*2 CONFLICT*2",
    "award drawn": "NOT_CLOSED*4 HELD+3 HELD+1 HELD HELD/LIMIT_REACHED HELD*2 VOID*2",
    "award drawn, others": "NOT_CLOSED*4 HELD+1*2 SOLD_OUT HELD+1 SETTLED*2 VOID*2",
    "award drawn, other seeds": "NOT_CLOSED*4 HELD+3 TRY_AGAIN*5 VOID*2",
    "award next": "NOT_CLOSED*4 FROZEN*2 SOLD_OUT HELD+1*2 SETTLED VOID*2",
    "award next, too much": "NOT_CLOSED*4 FROZEN*2 SOLD_OUT*3 SETTLED VOID*2",
    "award next, other seeds": "NOT_CLOSED*4 FROZEN TRY_AGAIN*5 VOID*2",
    "award next, out of date": "NOT_CLOSED*4 FROZEN*2 TRY_AGAIN*3 SETTLED VOID*2",
    "reveal": "NOT_CLOSED*4 FROZEN*2 SETTLED*4 VOID*2",
    "reveal, out of date": "NOT_CLOSED*4 FROZEN*4 SETTLED*2 VOID*2",
    "reveal, other seeds": "NOT_CLOSED*4 FROZEN TRY_AGAIN*5 VOID*2",
    "void": "VOID*5 FROZEN*3 SETTLED*2 VOID*2",
    "give back": "NOT_CLOSED*2 FROZEN*6 SETTLED*2 NOT_CLOSED GIVEN_BACK+back",
    "cue, its stock": "NOT_CLOSED*2 FROZEN*6 SETTLED*2 NOT_CLOSED CUED",
    "result of a winner": "NOT_CLOSED*2 FROZEN*6 HELD*2 VOID*2",
    "result of another": "NOT_CLOSED*2 FROZEN*6 NOT_DRAWN*2 VOID*2",
    "result of nobody": "NOT_CLOSED*2 FROZEN*6 NOT_ENTERED*2 VOID*2",
    "record": "NOT_CLOSED*2 FROZEN*6 3_awarded*2 void*2",
}
"""Per verb the outcome in each of STATES, in their order; `*3` stands for three states alike, `+3`
for three units that go from the set-aside to holds, `+back` for all that go back on open sale."""


def cells_of(row: str) -> list[str]:
    cells = []
    for run in row.split():
        cell, _, times = run.partition("*")
        cells += [cell] * int(times or 1)
    return cells


CELLS = [
    (verb, state, cell)
    for verb, row in TABLE.items()
    for state, cell in zip(STATES, cells_of(row), strict=True)
]
CHANGES = {
    ("enter", "open"),
    ("freeze", "closed"),
    ("reveal", "judged"),
    ("reveal", "refused"),
    ("cue, its stock", "void_told"),
}
CHANGES |= {("void", state) for state in STATES[:5]}
CHANGES |= {
    (f"freeze with {what}", state) for what in ("a digest", "another") for state in STATES[1:3]
}
"""What changes something though no units move."""


def test_the_table_has_every_verb_and_state() -> None:
    assert list(TABLE) == list(VERBS)
    assert len(CELLS) == len(VERBS) * len(STATES)


@pytest.mark.parametrize(("verb", "state", "cell"), CELLS)
def test_a_verb_does_in_a_state_what_the_table_says(
    lab: Lab, verb: str, state: str, cell: str
) -> None:
    scene = Scene(lab)
    getattr(scene, state)()
    before = contents(lab, scene.sale, "drop")
    with lab.watch(scene.sale) as seen:
        told = VERBS[verb](scene)
    outcome, _, effect = cell.partition("+")
    assert told == outcome
    units = int(effect or 0) if effect != "back" else 0
    expected = f"red x-{units} h+{units}" if units else ""
    assert seen.effect == ("red a+3 x-3" if effect == "back" else expected)
    if not effect and (verb, state) not in CHANGES:
        assert contents(lab, scene.sale, "drop") == before
    if (verb, state) in CHANGES:
        assert contents(lab, scene.sale, "drop") != before
    assert scene.sale.audit().problems == ()


def test_a_verdict_of_before_is_told_as_replayed_with_its_deadline(lab: Lab) -> None:
    scene = Scene(lab)
    scene.revealed()
    wishes = [(who, [("red", 1, 1)]) for who in scene.drawn.order[:3]]
    call = call_of(settling._award_some(scene.known, scene.drawn, "drawn", wishes))
    reply = lab.run(call, caller_ms=T0)
    items = [Item(buyer, "cue~drop") for buyer in scene.order[:3]]
    for answer in read_answers(Kind("award", scene.sale.id), items, reply):
        assert (answer.outcome, answer.replayed) == (Outcome.HELD, True)
        told = scene.handle.result(answer.buyer, wait_ms=0)
        assert answer.deadline_ms == told.deadline_ms == scene.known.cue.reveals_at_ms + 1_000


@pytest.mark.parametrize("state", STATES)
def test_the_same_cue_again_is_told_as_replayed_in_every_state(lab: Lab, state: str) -> None:
    scene = Scene(lab)
    getattr(scene, state)()
    keys, own = lab.keys(scene.sale), CueKeys.of(scene.sale.id, "drop").cue
    definition: Any = lab.raw.hget(own, "definition")
    base = shard_call("expire", keys)
    again = Call(
        load_script("window/cue"), (*base.keys, keys.cues, own), ("drop", definition, b"", b"", b"")
    )
    reply = lab.run(again, caller_ms=T0)
    assert reply[3] == Outcome.CUED.code.encode()
    (answer,) = read_answers(Kind("cue", scene.sale.id), [Item("", "")], reply)
    assert answer.replayed
