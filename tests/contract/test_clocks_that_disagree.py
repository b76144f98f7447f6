"""A caller's slow clock can refuse and never allow: what only one of two clocks holds for due.

The server's clock is more than a minute ahead of the sale's last time and of the caller's. What has
come by the sale's time has come, what has not come by the server's has not; in between is doubt.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from flashsale import (
    Answer,
    CueHandle,
    HoldRequest,
    HoldState,
    Outcome,
    Rejected,
    Sale,
    SaleHandle,
    Sku,
    WaitingRoom,
    freezing,
)
from flashsale.keys import CueKeys
from flashsale.refs import make_ref
from flashsale.testing import OracleSale
from support.cues import open_cue, settled, tap
from support.lab import T0, Lab
from support.queues import Hall

MINUTE = 60_000
HOUR = 60 * MINUTE
RULES: dict[str, Any] = {"hold_ttl_ms": 1, "extend_max_ms": 2 * HOUR, "limit": None}

Clock = Callable[[int], None]


def true_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Sets how far the clients' clock is behind the true time, in milliseconds."""

    def shift(by_ms: int) -> None:
        monkeypatch.setattr("flashsale.connecting.now_ms", lambda: true_ms() - by_ms)

    return shift


DOUBTFUL = ("doubt", "doubt-2", "doubt-3")


class Doubt:
    """Holds of two units: "over" has expired, "sure" has not by either clock, the rest is in doubt.

    Each has a buyer of its name. The oracle has been told the same.
    """

    def __init__(self, lab: Lab, slow: Clock) -> None:
        self.lab = lab
        rules = Sale(lab.new_id(), [Sku("red", 20)], hold_ttl_ms=1, extend_max_ms=2 * HOUR)
        self.sale = lab.shop.open(rules)
        self.oracle = OracleSale(rules, now_ms=self.sale.snapshot().at_ms)
        over = self.hold("over")
        while self.sale.expire() == 0:
            pass
        doubtful = self.hold(*DOUBTFUL)  # together: the next call would sweep them
        stored = lab.keys(self.sale).sale
        lab.raw.hset(stored, mapping={"due": "", "now": true_ms() + HOUR})  # so this one does not
        sure = self.hold("sure")
        self.last = true_ms() - 2 * MINUTE
        lab.raw.hset(stored, mapping={"due": doubtful[1], "now": self.last})
        while true_ms() <= doubtful[1]:
            time.sleep(0.001)
        for requests, due_ms in (over, sure, doubtful):
            self.oracle.last_ms = 0
            self.oracle.hold_many(requests, now_ms=due_ms - 1)
        self.oracle.last_ms, self.oracle.clock_ms = self.last, true_ms()
        slow(2 * MINUTE)

    def hold(self, *names: str) -> tuple[list[HoldRequest], int]:
        """What was asked for, and the holds' deadline."""
        requests = [HoldRequest(name, {"red": 2}, name) for name in names]
        answer = self.sale.hold_many(requests)[0]
        assert isinstance(answer, Answer)
        assert answer.unwrap().deadline_ms is not None
        return requests, answer.deadline_ms or 0

    def both(self, verb: str, name: str, **more: Any) -> Any:
        """The engine's answer to a verb on a hold; the oracle's is the same."""
        answer = getattr(self.sale, verb)(name, name, **more)
        told = getattr(self.oracle, verb)(name, name, **more, now_ms=answer.at_ms)
        assert told == answer
        return answer


@pytest.fixture
def doubt(lab: Lab, slow: Clock) -> Doubt:
    return Doubt(lab, slow)


def refusal(call: Callable[[], object]) -> Outcome:
    with pytest.raises(Rejected) as rejected:
        call()
    return rejected.value.outcome


def check_books(sale: SaleHandle) -> None:
    """Nothing is wrong but what these tests do to time."""
    assert [text for text in sale.audit().problems if "time goes back" not in text] == []


# --- holds --------------------------------------------------------------------------------

LATER = {"deadline_ms": T0}
VERBS: dict[str, tuple[str, dict[str, Any]]] = {
    "confirm": ("confirm", {}),
    "confirm some lines": ("confirm", {"lines": {"red": 1}}),
    "confirm too much": ("confirm", {"lines": {"red": 3}}),
    "confirm, retaking": ("confirm", {"late": "retake"}),
    "extend": ("extend", {"deadline_ms": true_ms() + HOUR + MINUTE}),
    "extend too far": ("extend", LATER),
    "extend not at all": ("extend", {"deadline_ms": 10**12}),
}
AGREED = {
    "confirm": "EXPIRED CONFIRMED",
    "confirm some lines": "EXPIRED CONFIRMED",
    "confirm too much": "EXPIRED NOT_IN_HOLD",
    "confirm, retaking": "CLOCK_JUMP CONFIRMED",
    "extend": "EXPIRED EXTENDED",
    "extend too far": "EXPIRED DEADLINE_TOO_FAR",
    "extend not at all": "EXPIRED EXTENDED",
}


@pytest.mark.parametrize("verb", VERBS)
def test_what_a_deadline_in_doubt_decides_waits_and_is_expired_once_the_clocks_agree(
    doubt: Doubt, slow: Clock, verb: str
) -> None:
    name, more = VERBS[verb]
    before = doubt.lab.dump(doubt.sale)
    answer = doubt.both(name, "doubt", **more)
    assert (answer.outcome, answer.at_ms) == (Outcome.CLOCK_JUMP, doubt.last)
    assert doubt.lab.dump(doubt.sale) == before
    slow(0)
    if verb != "confirm, retaking":
        assert getattr(doubt.sale, name)("doubt", "doubt", **more).outcome is Outcome.EXPIRED


@pytest.mark.parametrize("verb", VERBS)
def test_what_both_clocks_agree_on_is_judged_at_the_sales_last_time(
    doubt: Doubt, verb: str
) -> None:
    name, more = VERBS[verb]
    answers = [doubt.both(name, hold, **more) for hold in ("over", "sure")]
    assert " ".join(answer.outcome.name for answer in answers) == AGREED[verb]
    assert {answer.at_ms for answer in answers} == {doubt.last}
    check_books(doubt.sale)


@pytest.mark.parametrize("names", [DOUBTFUL, ("sure", *DOUBTFUL), ("over", "sure", *DOUBTFUL)])
def test_a_batch_is_judged_hold_by_hold_on_every_way_through_the_script(
    doubt: Doubt, names: tuple[str, ...]
) -> None:
    holds = [make_ref(doubt.sale.id, name, name) for name in names]
    answers = doubt.sale.confirm_many(holds)
    outcomes = {"over": Outcome.EXPIRED, "sure": Outcome.CONFIRMED}
    assert [getattr(answer, "outcome", None) for answer in answers] == [
        outcomes.get(name, Outcome.CLOCK_JUMP) for name in names
    ]
    assert doubt.oracle.confirm_many(holds, now_ms=doubt.last) == answers


def test_after_a_sweep_on_its_way_a_confirm_still_leaves_what_is_in_doubt(doubt: Doubt) -> None:
    """`due` may be too early: then the sweep finds nothing, and the short way is tried again."""
    doubt.lab.raw.hset(doubt.lab.keys(doubt.sale).sale, "due", doubt.last)
    answers = doubt.sale.confirm_many([make_ref(doubt.sale.id, name, name) for name in DOUBTFUL])
    assert {getattr(answer, "outcome", None) for answer in answers} == {Outcome.CLOCK_JUMP}


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_asked_in_whatever_order_the_engine_answers_as_the_oracle(
    doubt: Doubt, seed: int
) -> None:
    chance = random.Random(seed)
    verbs = [*VERBS.values(), ("release", {}), ("refund", {"lines": {"red": 1}, "op_id": "o"})]
    for _ in range(60):
        name = chance.choice(("over", "sure", "nobody", *DOUBTFUL))
        if chance.random() < 0.2:
            answer = doubt.sale.hold(name, {"red": 2}, hold_id=name)
            told = doubt.oracle.hold(name, {"red": 2}, hold_id=name, now_ms=answer.at_ms)
            assert told == answer
        else:
            verb, more = chance.choice(verbs)
            doubt.both(verb, name, **more)
    assert int(doubt.lab.raw.hget(doubt.lab.keys(doubt.sale).sale, "now") or 0) == doubt.last
    check_books(doubt.sale)
    doubt.oracle.check()


def test_what_no_deadline_decides_goes_on(doubt: Doubt) -> None:
    sale = doubt.sale
    assert sale.expire() == 0
    assert sale.hold("doubt", {"red": 2}, hold_id="doubt").replayed  # it was answered HELD once
    answers = [
        doubt.both("release", "doubt"),
        sale.restock({"red": 1}, op_id="o"),
        sale.pause(),
        sale.resume(),
    ]
    done = ["RELEASED", "RESTOCKED", "PAUSED", "RESUMED"]
    assert [answer.outcome.name for answer in answers] == done
    assert {answer.at_ms for answer in answers} == {doubt.last}
    assert int(doubt.lab.raw.hget(doubt.lab.keys(sale).sale, "now") or 0) == doubt.last
    check_books(sale)


def test_a_hold_in_doubt_is_not_shown_as_held_or_expired(doubt: Doubt, slow: Clock) -> None:
    sale, oracle = doubt.sale, doubt.oracle
    for name in DOUBTFUL:
        assert refusal(lambda name=name: sale.find(name, name)) is Outcome.CLOCK_JUMP  # type: ignore[misc]
        assert refusal(lambda name=name: sale.holds_of(name)) is Outcome.CLOCK_JUMP  # type: ignore[misc]
        told = refusal(lambda name=name: oracle.find(name, name, now_ms=doubt.last))  # type: ignore[misc]
        assert told is Outcome.CLOCK_JUMP
    for name in ("over", "sure", "nobody"):
        assert sale.find(name, name) == oracle.find(name, name, now_ms=doubt.last)
        assert sale.holds_of(name) == oracle.holds_of(name, now_ms=doubt.last)
    check_books(sale)
    slow(0)
    shown = sale.find("doubt", "doubt")
    assert shown is not None
    assert shown.state is HoldState.EXPIRED


@pytest.mark.parametrize(
    ("opens_ms", "outcome"), [(-MINUTE, Outcome.CLOCK_JUMP), (HOUR, Outcome.NOT_OPEN)]
)
def test_an_opening_in_doubt_is_asked_for_again_and_one_ahead_of_both_clocks_is_to_come(
    lab: Lab, slow: Clock, opens_ms: int, outcome: Outcome
) -> None:
    sale = lab.open(opens_at_ms=true_ms() + opens_ms)
    lab.set_time(sale, true_ms() - 2 * MINUTE)
    slow(2 * MINUTE)
    assert sale.hold("ann", {"red": 1}, hold_id="h").outcome is outcome


# --- cues and rooms -----------------------------------------------------------------------

AT, CLOSES, ENTROPY_AT, REVEALS = 1, 6, 7, 12
"""Where a cue's rules say so; see lua/lib/load_cue."""


def cue_of_now(lab: Lab, sale: SaleHandle, slow: Clock, rules: dict[int, int]) -> CueHandle:
    """A cue with an entry and these times, in a sale whose last time is two minutes ago."""
    handle = open_cue(lab, sale)
    tap(handle, "ann")
    key = CueKeys.of(sale.id, handle.id).cue
    stored = msgspec.msgpack.decode(lab.raw.hget(key, "rules") or b"")
    for place, value in rules.items():
        stored[place] = value
    lab.raw.hset(key, "rules", msgspec.msgpack.encode(stored))
    lab.set_time(sale, true_ms() - 2 * MINUTE)
    slow(2 * MINUTE)
    return handle


FREEZES: dict[str, tuple[dict[int, int], str, str]] = {
    "closed by both": ({CLOSES: -HOUR}, "FROZEN", "FROZEN"),
    "the close is in doubt": ({CLOSES: -MINUTE}, "CLOCK_JUMP", "FROZEN"),
    "open by both": ({CLOSES: HOUR}, "NOT_CLOSED", "NOT_CLOSED"),
    "the seed is to come": ({CLOSES: -HOUR, ENTROPY_AT: HOUR}, "FROZEN", "FROZEN"),
    "the seed's time is in doubt": ({CLOSES: -HOUR, ENTROPY_AT: -MINUTE}, "CLOCK_JUMP", "VOID"),
    "the seed was known by both": ({CLOSES: -HOUR, ENTROPY_AT: -HOUR}, "VOID", "VOID"),
}


@pytest.mark.parametrize("times", FREEZES)
def test_a_cue_is_frozen_when_both_clocks_agree_that_it_may_be(
    lab: Lab, slow: Clock, times: str
) -> None:
    rules, outcome, after = FREEZES[times]
    sale = lab.open()
    shifted = {place: true_ms() + by_ms for place, by_ms in rules.items()}
    handle = cue_of_now(lab, sale, slow, shifted)
    before = lab.raw.hgetall(CueKeys.of(sale.id, handle.id).cue)

    def freeze() -> str:
        return lab.shop.perform(freezing._freeze(sale.id, handle.id, "", 0))[0].name

    assert freeze() == outcome
    if outcome in ("CLOCK_JUMP", "NOT_CLOSED"):
        assert lab.raw.hgetall(CueKeys.of(sale.id, handle.id).cue) == before
    slow(0)
    assert freeze() == after


AWARDS: dict[str, tuple[int, str, str]] = {
    "the announced time has come by both": (-HOUR, "CLOCK_JUMP", "SETTLED"),
    "the announced time is in doubt": (-MINUTE, "CLOCK_JUMP", "SETTLED"),
    "the announced time is to come": (HOUR, "NOT_CLOSED", "NOT_CLOSED"),
}


@pytest.mark.parametrize("times", AWARDS)
def test_winners_are_awarded_when_both_clocks_agree_that_they_may_be(
    lab: Lab, slow: Clock, times: str
) -> None:
    reveals_ms, outcome, after = AWARDS[times]
    sale = lab.open()
    rules = {AT: -HOUR, CLOSES: -HOUR, REVEALS: reveals_ms}
    handle = cue_of_now(lab, sale, slow, {p: true_ms() + by_ms for p, by_ms in rules.items()})
    assert handle.settle(wait=False).outcome.name == outcome
    assert sale.find("ann", "cue~drop") is None
    slow(0)
    assert handle.settle(wait=False).outcome.name == after
    assert (sale.find("ann", "cue~drop") is not None) == (after == "SETTLED")


def test_a_publication_begins_its_wait_when_both_clocks_agree_on_the_time(
    lab: Lab, slow: Clock
) -> None:
    """Noted by the slow one, the wait would be over too early."""
    sale = lab.open()
    handle = open_cue(lab, sale, publish="the board", publish_wait_ms=60_000)
    lab.set_time(sale, handle.cue().closes_at_ms)
    handle.freeze()
    lab.set_time(sale, true_ms() - 2 * MINUTE)
    slow(2 * MINUTE)
    told: list[str] = []

    def settle() -> Outcome:
        return handle.settle(wait=False, publish=lambda digest, _: told.append(digest)).outcome

    assert settle() is Outcome.CLOCK_JUMP
    assert (len(told), handle.view().published_at_ms) == (1, None)
    slow(0)
    before = true_ms()
    settle()
    assert (handle.view().published_at_ms or 0) >= before


GIVEN: dict[str, tuple[dict[int, int], str, str]] = {
    "told by both": ({AT: -HOUR, REVEALS: -HOUR}, "GIVEN_BACK", "GIVEN_BACK"),
    "the announced time is in doubt": ({AT: -HOUR, REVEALS: -MINUTE}, "CLOCK_JUMP", "GIVEN_BACK"),
    "the cue's time is in doubt": ({AT: -MINUTE, REVEALS: HOUR}, "CLOCK_JUMP", "NOT_CLOSED"),
    "the cue is to come": ({AT: HOUR, REVEALS: 2 * HOUR}, "GIVEN_BACK", "GIVEN_BACK"),
}


@pytest.mark.parametrize("times", GIVEN)
def test_a_void_cues_stock_goes_elsewhere_when_both_clocks_agree_that_it_may(
    lab: Lab, slow: Clock, times: str
) -> None:
    rules, outcome, after = GIVEN[times]
    sale = lab.open()
    handle = cue_of_now(lab, sale, slow, {p: true_ms() + by_ms for p, by_ms in rules.items()})
    lab.raw.hset(CueKeys.of(sale.id, handle.id).cue, "entered", 0)  # as if nobody had entered
    handle.void("the link was wrong")
    frozen = handle.view().frozen_at_ms is not None
    assert frozen == (rules[AT] < 0)  # its time may have come: better one freeze too many
    assert handle.give_back().outcome.name == outcome
    slow(0)
    assert handle.give_back().outcome.name == after


def test_a_digest_that_was_published_in_time_stays(lab: Lab, slow: Clock) -> None:
    sale = lab.open()
    handle = cue_of_now(lab, sale, slow, {CLOSES: true_ms() - HOUR})
    key = CueKeys.of(sale.id, handle.id).cue
    lab.shop.perform(freezing._freeze(sale.id, handle.id, "ab" * 32, 1))
    stored = msgspec.msgpack.decode(lab.raw.hget(key, "rules") or b"")
    stored[ENTROPY_AT] = true_ms() - MINUTE
    lab.raw.hset(key, "rules", msgspec.msgpack.encode(stored))
    assert lab.shop.perform(freezing._freeze(sale.id, handle.id, "", 0))[0] is Outcome.FROZEN


def test_whether_a_reserve_has_ended_is_asked_again_while_it_is_in_doubt(
    lab: Lab, slow: Clock
) -> None:
    sale = lab.open(hold_ttl_ms=HOUR)
    handle = open_cue(lab, sale, stock={"red": 1}, reserve_ms=5_000)
    for buyer in ("ann", "bob"):
        tap(handle, buyer)
    settled(lab, sale, handle)
    winner = next(who for who in ("ann", "bob") if sale.find(who, "cue~drop"))
    sale.release(winner, "cue~drop").unwrap()
    keys = lab.keys(sale)
    ends_ms = true_ms() - MINUTE
    lab.raw.zadd(keys.deadlines, {"|drop": ends_ms})
    lab.raw.hset(keys.sale, mapping={"now": true_ms() - 2 * MINUTE, "due": ends_ms})
    slow(2 * MINUTE)
    with lab.watch(sale) as seen:
        told = handle.settle(wait=False)
    assert (told.outcome, told.promoted, seen.effect) == (Outcome.CLOCK_JUMP, 0, "")
    slow(0)
    assert handle.settle(wait=False).outcome is Outcome.SETTLED
    assert sale.snapshot().skus["red"].available == 10
    check_books(sale)


@pytest.mark.parametrize(("opens_ms", "code"), [(-HOUR, b""), (-MINUTE, b"J"), (HOUR, b"N")])
def test_a_rooms_seed_is_revealed_when_both_clocks_agree_that_it_has_opened(
    lab: Lab, slow: Clock, opens_ms: int, code: bytes
) -> None:
    sale = lab.open()
    now = true_ms()
    sale.queue.open(WaitingRoom(rate_per_s=1, opens_at_ms=T0 + HOUR))
    room = lab.keys(sale).room
    stored = msgspec.msgpack.decode(lab.raw.hget(room, "rules") or b"")
    stored[0] = now + opens_ms
    lab.raw.hset(room, "rules", msgspec.msgpack.encode(stored))
    lab.set_time(sale, now - 2 * MINUTE)
    reply = lab.eval("waiting_room/reveal", sale, "ab" * 32, caller_ms=now - 2 * MINUTE)
    assert reply[1:] == [now - 2 * MINUTE, code]


@pytest.mark.parametrize(
    ("opens_ms", "outcome"), [(-MINUTE, Outcome.CLOCK_JUMP), (HOUR, Outcome.NOT_OPEN)]
)
def test_nobody_is_admitted_at_an_opening_in_doubt(
    lab: Lab, slow: Clock, opens_ms: int, outcome: Outcome
) -> None:
    hall = Hall(lab, sale={"opens_at_ms": true_ms() + opens_ms})
    hall.join("ann")
    hall.at(true_ms() - 2 * MINUTE)
    slow(2 * MINUTE)
    assert hall.queue.admit("ann").outcome is outcome
    assert hall.fields("serving") == [0]
