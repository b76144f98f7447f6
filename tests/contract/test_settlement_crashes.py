"""A settlement that stops anywhere, or that several processes run, ends in the same record."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from flashsale import (
    ConfigurationError,
    CueHandle,
    CueState,
    Outcome,
    SaleHandle,
    freezing,
    settling,
)
from flashsale.baskets import encode
from flashsale.calls import Call
from flashsale.keys import CueKeys
from flashsale.scripts import load_script
from support.cues import (
    Hand,
    Tap,
    Tower,
    announce,
    contents,
    enter_all,
    load,
    open_cue,
    save,
    seed_of,
    settlement,
    verified,
)
from support.lab import T0, Lab, dump_key
from support.shells import connect

CLOSE = T0 + 16_000
TTL = 1_000
VALUE = b"what the tower said"

BUYERS = [f"b{n}" for n in range(14)]


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few entrants are settled in as many calls as many would be."""
    monkeypatch.setattr(settling, "CHUNK", 3)
    monkeypatch.setattr(freezing, "PAGE", 5)


class Scene:
    """A closed cue whose draw has baskets, a winner who is refused, and a reserve."""

    def __init__(self, lab: Lab, *, public: bool = False, reserve_ms: int = 20_000) -> None:
        self.lab, self.value = lab, VALUE if public else None
        self.tower = Tower() if public else None
        self.sale: SaleHandle = lab.open({"red": 10, "blue": 10}, limits={"red": 3}, holds_max=2)
        self.handle: CueHandle = open_cue(
            lab, self.sale, stock={"red": 9, "blue": 4}, reserve_ms=reserve_ms, windows=2,
            entropy=self.tower,
        )  # fmt: skip
        if self.tower:
            self.tower.say(self.handle.cue(), VALUE)
        lab.set_time(self.sale, T0 + 3_000)
        baskets = [{"red": 1}, {"red": 2}, {"red": 2, "blue": 1}, {"blue": 2}]
        taps = [
            Tap(buyer, baskets[n % 4], 3_000 * (n % 2), {next(iter(baskets[n % 4])): 1})
            for n, buyer in enumerate(BUYERS)
        ]
        enter_all(lab, self.handle.cue(), taps)
        for buyer in BUYERS[:6:2]:
            for hold_id in ("one", "two"):
                self.sale.release(buyer, hold_id)  # leaves no room in the buyer's record
        if public:  # frozen before the tower spoke
            announce(lab, self.sale, self.handle, entropy=self.tower)
        lab.set_time(self.sale, self.handle.cue().reveals_at_ms)
        self.start = save(lab, self.sale, "drop")

    def process(self) -> Hand:
        return Hand(self.lab, settlement(self.handle.cue(), value=self.value))

    def freeze(self) -> None:
        """Before the tower speaks."""
        if self.tower:
            with self.tower.silent():
                self.handle.freeze(wait=False, entropy=self.tower)

    def settle(self) -> Any:
        self.freeze()
        return self.handle.settle(wait=False, entropy=self.tower)

    def again(self) -> None:
        load(self.lab, self.start)

    def end(self) -> tuple[Any, dict[str, Any]]:
        """The record, and everything there is."""
        assert self.sale.audit().problems == ()
        return verified(self.handle), {key: dump_key(self.lab.raw, key) for key in self.start}


@pytest.fixture(params=["committed", "public", "without a reserve"])
def scene(lab: Lab, request: pytest.FixtureRequest) -> Scene:
    reserve_ms = 0 if request.param == "without a reserve" else 20_000
    return Scene(lab, public=request.param == "public", reserve_ms=reserve_ms)


def stops(scene: Scene) -> Iterator[tuple[int, Hand]]:
    """A process that has stopped after n calls, for every n; each time from the same start."""
    scene.again()
    whole = scene.process()
    whole.finish()
    assert whole.calls > 9
    for n in range(whole.calls + 1):
        scene.again()
        hand = scene.process()
        for _ in range(n):
            assert hand.call()
        assert hand.done == (n == whole.calls)
        yield n, hand


def test_the_scene_has_everything_that_can_happen(scene: Scene) -> None:
    told = scene.settle()
    assert told.outcome is Outcome.SETTLED
    assert told.promoted > 0
    outcomes = [outcome for _, outcome, _ in scene.end()[0]["awarded"]]
    assert {"held", "too_many_holds"} <= set(outcomes)
    assert told.awarded < told.drawn


def test_stopped_after_any_call_it_is_finished_by_another_process(scene: Scene) -> None:
    expected_told = scene.settle()
    expected = scene.end()
    for n, dead in stops(scene):
        dead.drop()
        assert scene.settle() == expected_told, n
        assert scene.end() == expected, n


def test_stopped_again_and_again_it_ends_all_the_same(scene: Scene) -> None:
    scene.settle()
    expected = scene.end()
    for step in (1, 2, 5):
        scene.again()
        calls, done = 0, False
        while not done:
            calls += step
            hand = scene.process()
            for _ in range(calls):
                hand.call()
            done = hand.done
            hand.drop()
        assert scene.end() == expected


def test_one_that_was_only_slow_goes_on_after_another_has_finished(scene: Scene) -> None:
    expected_told = scene.settle()
    expected = scene.end()
    for n, slow in stops(scene):
        assert scene.settle() == expected_told, n
        assert slow.finish() == expected_told, n
        assert scene.end() == expected, n


def test_two_at_once_end_in_the_same_record_whatever_their_turns(scene: Scene) -> None:
    expected_told = scene.settle()
    expected = scene.end()
    for seed in range(20):
        scene.again()
        turns = random.Random(seed)
        both = [scene.process(), scene.process()]
        while not all(hand.done for hand in both):
            turns.choice(both).call()
        assert [hand.result for hand in both] == [expected_told] * 2, seed
        assert scene.end() == expected, seed


def test_a_call_out_of_its_turn_harms_nothing(lab: Lab) -> None:
    """Whatever a broken or a very slow process sends, and whenever: the record is the same."""
    scene = Scene(lab)
    expected_told = scene.settle()
    expected = scene.end()[0]
    scene.again()
    whole, calls = scene.process(), list[Call]()
    while call := whole.next:
        if "show" not in call.script.name and "entries" not in call.script.name:
            calls.append(call)
        whole.call()
    told = {call.script.name for call in calls}
    # The next in order are asked in their order, by whomever: a slow process has asked the first.
    following = [call for call in calls if "next" in call.args]
    turned = [call for call in reversed(calls) if call not in following] + following
    assert {"window/freeze", "window/award", "window/reveal"} <= told
    for n, dead in stops(scene):
        dead.drop()
        for call in calls if n % 2 else turned:
            lab.run(call, caller_ms=T0)
        assert scene.settle() == expected_told, n
        assert scene.end()[0] == expected, n
        scene.again()
        for call in calls[n::-1]:
            lab.run(call, caller_ms=T0)
        assert scene.settle() == expected_told, n
        assert scene.end()[0] == expected, n


def test_once_it_is_revealed_nobody_is_drawn_any_more(lab: Lab) -> None:
    scene = Scene(lab)
    hand = scene.process()
    while hand.next and hand.next.args[:1] != ("next",):
        hand.call()
    call = hand.next
    assert call
    hand.drop()
    scene.settle()
    buyer = next(b for b in BUYERS if scene.handle.result(b, wait_ms=0).outcome.name == "NOT_DRAWN")
    before = contents(lab, scene.sale, "drop")
    for phase, outcome in [("drawn", Outcome.SETTLED), ("odd", Outcome.MALFORMED)]:
        args = (phase, encode([buyer]), encode([[[0, 1, 1]], [1]]), *call.args[3:])
        told = lab.run(Call(call.script, call.keys, args), caller_ms=T0)
        assert told[3] == outcome.code.encode()
    assert contents(lab, scene.sale, "drop") == before


def test_what_happens_in_between_changes_nothing_of_the_draw(lab: Lab) -> None:
    """Sales beside it, a pause, the end: at any point of the settlement."""
    scene = Scene(lab)
    scene.settle()
    expected = scene.end()[0]
    for n, hand in stops(scene):
        scene.sale.hold("z", {"blue": 2}, hold_id="h")
        scene.sale.restock({"red": 1}, op_id="o")
        scene.sale.pause()
        for _ in range(2):
            hand.call()
        scene.sale.release("z", "h")
        scene.sale.end()
        hand.finish()
        assert scene.end()[0] == expected, n


def test_those_who_fell_due_while_nobody_settled_are_not_drawn_again(lab: Lab) -> None:
    scene = Scene(lab)
    scene.settle()
    expected = scene.end()[0]
    drawn = len(expected["drawn"])
    now = scene.handle.cue().reveals_at_ms
    for n, dead in stops(scene):
        dead.drop()
        lab.set_time(scene.sale, now + 2 * TTL)
        scene.settle()
        record = scene.end()[0]
        assert record["drawn"] == expected["drawn"], n
        assert record["awarded"][:drawn] == expected["awarded"][:drawn], n
        names = [who for who, _, _ in record["awarded"]]
        assert len(set(names)) == len(names), n


def test_voided_between_two_calls_it_stops_or_the_void_comes_too_late(lab: Lab) -> None:
    scene = Scene(lab)
    scene.settle()
    expected = scene.end()[0]
    seen = set()
    for n, hand in stops(scene):
        voided = scene.handle.void("the link was wrong").outcome
        told = hand.finish()
        seen.add((voided.name, told.outcome.name))
        if voided is Outcome.VOID:
            assert scene.end()[0]["awarded"] == [], n
            assert scene.sale.snapshot().skus["red"].set_aside == 9, n
        else:
            assert scene.end()[0] == expected, n
    assert seen == {("VOID", "VOID"), ("FROZEN", "SETTLED"), ("SETTLED", "SETTLED")}


def begun(scene: Scene) -> Hand:
    """A process that has given some winners their holds, and not all."""
    hand = scene.process()
    while not scene.handle.view().awarded:
        hand.call()
    assert scene.handle.view().state is CueState.FROZEN
    return hand


def test_a_source_that_says_something_else_after_a_crash_changes_nothing(lab: Lab) -> None:
    """Nobody may be drawn by two values of the source, and the record must tell the one used."""
    scene = Scene(lab, public=True)
    told = scene.settle()
    expected = scene.end()
    assert scene.tower
    for n, dead in stops(scene):
        dead.drop()
        bound = scene.handle.view().awarded > 0
        scene.tower.say(scene.handle.cue(), b"something else this time")
        again = scene.settle()
        assert again.outcome is Outcome.SETTLED, n
        if bound:
            assert (again, scene.end()) == (told, expected), n
        else:
            assert scene.end()[0]["entropy"]["value"] == b"something else this time".hex(), n
        scene.tower.say(scene.handle.cue(), VALUE)


def test_two_at_once_who_were_told_different_values_use_the_one_that_came_first(lab: Lab) -> None:
    scene = Scene(lab, public=True)
    values = [VALUE, b"something else this time"]
    used = set()
    for seed in range(20):
        scene.again()
        turns = random.Random(seed)
        cue = scene.handle.cue()
        both = [Hand(lab, settlement(cue, value=value)) for value in values]
        while not all(hand.done for hand in both):
            turns.choice(both).call()
        assert both[0].result == both[1].result, seed
        used.add(scene.end()[0]["entropy"]["value"])
    assert used == {value.hex() for value in values}


def test_the_seeds_of_the_first_award_are_kept_and_shown_to_nobody_before_the_reveal(
    scene: Scene,
) -> None:
    begun(scene).drop()
    view = scene.handle.view()
    assert (view.server_seed, view.entropy) == ("", "")
    cue = scene.handle.cue()
    seed = seed_of(scene.handle).hex()
    keys = (scene.lab.keys(scene.sale), CueKeys.of(cue.sale, cue.id))
    show = Call(
        load_script("window/show"),
        (keys[0].sale, keys[0].stock, keys[1].cue),
        (),
    )
    assert seed not in str(scene.lab.run(show, caller_ms=T0))
    assert VALUE.hex() not in str(scene.lab.run(show, caller_ms=T0))
    scene.settle()
    assert scene.handle.view().server_seed == seed
    assert scene.handle.view().entropy == (scene.value or b"").hex()


def test_a_key_that_is_lost_once_the_first_has_got_a_hold_is_needed_no_more(
    scene: Scene, server_url: str
) -> None:
    scene.settle()
    expected = scene.end()
    scene.again()
    scene.freeze()
    with connect("sync", server_url) as keyless:
        handle = keyless.sale(scene.sale.id).cue_handle("drop")
        with pytest.raises(ConfigurationError, match="the key 'test' is needed"):
            handle.settle(wait=False, entropy=scene.tower)
        begun(scene).drop()
        assert handle.settle(wait=False, entropy=scene.tower).outcome is Outcome.SETTLED
        assert scene.end() == expected


def test_a_place_that_falls_free_between_two_calls_goes_to_the_first_who_waits(lab: Lab) -> None:
    """Not to whoever is next in the list of those who are being asked."""
    sale = lab.open({"red": 10})
    handle = open_cue(lab, sale, stock={"red": 4}, reserve_ms=20_000, windows=2)
    lab.set_time(sale, T0 + 3_000)
    taps = [Tap("w1", {"red": 3}), Tap("w2", {"red": 1})]
    taps += [Tap(buyer, {"red": 2}, 3_000) for buyer in BUYERS]
    enter_all(lab, handle.cue(), taps)
    lab.set_time(sale, handle.cue().reveals_at_ms)
    assert handle.settle(wait=False).awarded == 2
    sale.confirm("w1", "cue~drop", lines={"red": 2}).unwrap()  # one falls free: two are wanted
    start = save(lab, sale, "drop")
    whole = Hand(lab, settlement(handle.cue()))
    whole.finish()
    assert whole.calls > 9
    promoted = set()
    for n in range(whole.calls):
        load(lab, start)
        hand = Hand(lab, settlement(handle.cue()))
        for _ in range(n):
            hand.call()
        sale.release("w2", "cue~drop").unwrap()
        hand.finish()
        handle.settle(wait=False)
        promoted.add(str(verified(handle)["awarded"][2:]))
        assert sale.audit().problems == ()
    assert len(promoted) == 1
