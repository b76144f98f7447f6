"""The policy of gathering, without I/O: what travels together, when, and what is refused."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from msgspec import Struct

from flashsale import Overloaded, batching, limits
from flashsale.batches import Item, Kind
from flashsale.batching import BUYER_MAX as BUYER_WAITING_MAX
from flashsale.batching import (
    SUSPECTS_MAX,
    Batch,
    Gathering,
    Pending,
)
from support.tracing import Foreign, Tracer, at_every_line

BATCH_MAX, QUEUE_MAX, BYTES_MAX = 3, 10, 5_000
BUYER_MAX, IN_FLIGHT_MAX, LANE_IN_FLIGHT_MAX = 3, 4, 2

KINDS = [
    Kind("hold", "red"),
    Kind("hold", "blue"),
    Kind("confirm", "red", ("refuse",)),
    Kind("confirm", "red", ("retake",)),
    Kind("release", "blue"),
]
BUYERS = ["ann", "bob", "cyd", "dan"]


class Caller:
    gone = False

    def done(self) -> bool:
        return self.gone


class Asked(Struct, eq=False):
    """One accepted operation, as the machine knows it."""

    number: int
    pending: Pending
    caller: Caller
    kind: Kind
    buyer: str
    limit_ms: int
    flown: bool = False
    settled: bool = False

    @property
    def waits(self) -> bool:
        """Somebody waits for it and it was not sent."""
        return not self.flown and not self.caller.gone

    @property
    def same_buyer(self) -> tuple[str, str]:
        return self.kind.sale, self.buyer


class GatheringMachine(RuleBasedStateMachine):
    """Callers come, wait, lose patience; batches are taken, answered, lost: in any order."""

    taken = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.policy = Gathering(
            batch_max=BATCH_MAX,
            queue_max=QUEUE_MAX,
            bytes_max=BYTES_MAX,
            buyer_max=BUYER_MAX,
            in_flight_max=IN_FLIGHT_MAX,
            lane_in_flight_max=LANE_IN_FLIGHT_MAX,
            server_of=lambda sale: self.servers[sale],
        )
        self.servers = {"red": 1, "blue": 1}
        self.asked: dict[str, Asked] = {}
        self.suspects: set[tuple[str, str]] = set()

    # --- what the machine knows -------------------------------------------------------

    def waiting(self, sale: str | None = None) -> list[Asked]:
        return [a for a in self.asked.values() if a.waits and sale in (None, a.kind.sale)]

    def flying(self) -> list[Batch]:
        return list(self.policy.flying)

    def of(self, pending: Pending) -> Asked:
        return self.asked[pending.item.hold_id]

    def has_room(self, sale: str, size: int, before: int) -> bool:
        """One is always let in; else a sale may have as much waiting as is left free.

        before: how many of the buyer have no answer yet, all but the first of them behind others.
        """
        everything, own = self.waiting(), self.waiting(sale)
        if not everything:
            return True
        if before - 1 >= BUYER_MAX:
            return False
        free = BYTES_MAX - sum(a.pending.size for a in everything)
        return (
            len(own) < QUEUE_MAX - len(everything)
            and sum(a.pending.size for a in own) + size <= free
        )

    # --- callers ----------------------------------------------------------------------

    @rule(
        kind=st.sampled_from(KINDS),
        buyer=st.sampled_from(BUYERS),
        limit_ms=st.sampled_from([2_000, 2_000, 1_999, 50]),
        note=st.sampled_from([0, 0, 0, 100, 256]),
    )
    def ask(self, kind: Kind, buyer: str, limit_ms: int, note: int) -> None:
        number = len(self.asked)
        item = Item(buyer, f"h{number}", second="n" * note)
        caller = Caller()
        whose = (kind.sale, buyer)
        before = [a for a in self.asked.values() if a.same_buyer == whose and not a.settled]
        there = [a for a in before if a.waits or a.flown]
        if not self.has_room(kind.sale, size_of(item), len(there)):
            with pytest.raises(Overloaded, match="nothing was sent"):
                self.policy.offer(kind, item, caller, deadline=number, limit_ms=limit_ms)
            return
        pending = self.policy.offer(kind, item, caller, deadline=number, limit_ms=limit_ms)
        self.asked[item.hold_id] = Asked(number, pending, caller, kind, buyer, limit_ms)
        assert (pending.lane.kind, pending.limit_ms) == (kind, limit_ms)
        self.check_suspicion(pending, before)

    def check_suspicion(self, pending: Pending, before: list[Asked]) -> None:
        """A hold suggests a retry if its buyer's last operation is on its way or unanswered."""
        whose = (pending.lane.kind.sale, pending.item.buyer)
        if pending.lane.kind.name != "hold":
            assert not pending.lane.suspect
        elif any(a.flown or a.waits for a in before):
            assert pending.lane.suspect
        elif not before:
            assert pending.lane.suspect == (whose in self.suspects)
            self.suspects.discard(whose)
        else:
            # Its last one's caller has gone: that one may be forgotten already, or not yet.
            self.suspects.discard(whose)
            self.policy._suspects.discard(whose)

    @rule(data=st.data())
    def a_caller_goes(self, data: st.DataObject) -> None:
        there = [a for a in self.asked.values() if not a.settled and not a.caller.gone]
        if there:
            data.draw(st.sampled_from(there)).caller.gone = True

    @rule()
    def forget_who_has_gone(self) -> None:
        self.policy.drop_gone()
        known = {
            self.of(pending).number for pending, batch in self.policy.unanswered() if not batch
        }
        assert known == {a.number for a in self.waiting()}

    @rule()
    def something_was_interrupted(self) -> None:
        """Whatever was half done is put together anew: nothing changes but that the gone go."""
        before = [(self.of(pending).number, batch) for pending, batch in self.policy.unanswered()]
        self.policy.mend()
        after = [(self.of(pending).number, batch) for pending, batch in self.policy.unanswered()]
        waiting = {a.number for a in self.waiting()}
        assert {n for n, batch in after if batch is None} == waiting
        assert {n for n, batch in before if batch} == {n for n, batch in after if batch}

    @rule(sale=st.sampled_from(["red", "blue"]), server=st.sampled_from([1, 2]))
    def a_sale_moves(self, sale: str, server: int) -> None:
        self.servers[sale] = server

    # --- batches ----------------------------------------------------------------------

    @rule(target=taken)
    def take(self) -> Batch | None:
        batch = self.policy.take()
        if batch is not None:
            self.check_batch(batch)
        else:
            self.nothing_may_go()
        return batch

    def check_batch(self, batch: Batch) -> None:
        lane = batch.lane
        assert 1 <= len(batch.pending) <= BATCH_MAX
        beside = sum(other.server is batch.server for other in self.policy.flying)
        assert beside == batch.server.in_flight <= IN_FLIGHT_MAX
        together = sum(other.lane is lane for other in self.policy.flying)
        assert together <= LANE_IN_FLIGHT_MAX
        assert together == 1 or len(batch.pending) == BATCH_MAX or self.had_gone
        last = max(batch.pending, key=lambda pending: pending.deadline)
        assert (batch.attempts.deadline, batch.attempts.limit_ms) == (last.deadline, last.limit_ms)
        limits_ms = [pending.limit_ms for pending in batch.pending]
        assert max(limits_ms) < 2 * min(limits_ms)
        assert batch.items == [pending.item for pending in batch.pending]
        for pending in batch.pending:
            asked = self.of(pending)
            assert asked.pending is pending
            assert not asked.flown, "sent twice"
            assert not asked.settled
            assert not asked.caller.gone, "sent for nobody"
            assert pending.lane is lane
            asked.flown = True
            for other in self.asked.values():
                if other.same_buyer == asked.same_buyer and other.number < asked.number:
                    assert other.settled or (not other.flown and other.caller.gone), "overtaken"

    @property
    def had_gone(self) -> bool:
        return any(a.caller.gone and not a.flown for a in self.asked.values())

    def nothing_may_go(self) -> None:
        """What finds nothing of its lane on its way goes at once, if its server has room."""
        for server in self.policy._servers.values():
            # More than that, if batches were on their way when their sale moved to it.
            assert not server.ready or server.in_flight >= IN_FLIGHT_MAX
        held_up = {sale.id for server in self.policy._servers.values() for sale in server.ready}
        unsettled = [a for a in self.asked.values() if a.waits or (a.flown and not a.settled)]
        for asked in self.waiting():
            behind = any(
                other.same_buyer == asked.same_buyer and other.number < asked.number
                for other in unsettled
            )
            flies = any(batch.lane is asked.pending.lane for batch in self.policy.flying)
            held_up_with_others = asked.kind.sale in held_up
            assert behind or flies or held_up_with_others or self.had_gone, "left behind"

    @rule(batch=taken, unanswered=st.booleans(), data=st.data())
    def answer_one(self, batch: Batch | None, unanswered: bool, data: st.DataObject) -> None:
        if batch is None or batch not in self.policy.flying:
            return
        pending = data.draw(st.sampled_from(batch.pending))
        self.settle(pending, unanswered)

    def settle(self, pending: Pending, unanswered: bool) -> None:
        asked = self.of(pending)
        self.policy.settled(pending, unanswered=unanswered)
        if not asked.settled and unanswered:
            self.suspects.add(asked.same_buyer)
        asked.settled = asked.caller.gone = True

    @rule(batch=consumes(taken), answered=st.booleans())
    def end_batch(self, batch: Batch | None, answered: bool) -> None:
        """A batch ends: all answered, or its carrier is lost and some are not settled."""
        if batch is None:
            return
        for pending in batch.pending:
            if answered:
                self.settle(pending, False)
            elif not (asked := self.of(pending)).settled:
                self.suspects.add(asked.same_buyer)
                asked.settled = asked.caller.gone = True
        self.policy.finished(batch)
        assert all(pending.over for pending in batch.pending)

    # --- always -----------------------------------------------------------------------

    @invariant()
    def nothing_is_lost_and_the_bounds_hold(self) -> None:
        unsent = [pending for pending, batch in self.policy.unanswered() if batch is None]
        numbers = [self.of(pending).number for pending in unsent]
        assert len(numbers) == len(set(numbers))
        assert not any(self.of(pending).flown for pending in unsent)
        assert {a.number for a in self.waiting()} <= set(numbers)
        assert self.policy.waiting == len(unsent) <= QUEUE_MAX
        assert self.policy.bytes == sum(p.size for p in unsent) <= BYTES_MAX
        sales = self.policy._sales
        assert sum(sale.waiting for sale in sales.values()) == len(unsent)
        assert sum(sale.bytes for sale in sales.values()) == self.policy.bytes
        assert self.policy.idle == (not unsent and not self.policy.flying)

    def teardown(self) -> None:
        """In the end everything was sent or its caller had gone, and nothing is remembered."""
        while True:
            while (batch := self.policy.take()) is not None:
                self.check_batch(batch)
            if not self.policy.flying:
                break
            for flying in self.flying():
                self.end_batch_of(flying)
        assert all(a.settled or a.caller.gone for a in self.asked.values())
        assert self.policy.idle
        assert is_empty(self.policy)

    def end_batch_of(self, batch: Batch) -> None:
        for pending in batch.pending:
            self.settle(pending, False)
        self.policy.finished(batch)


def size_of(item: Item) -> int:
    """What an operation is said to take."""
    return 256 + 32 * len(item.lines) + 4 * len(item.second)


def is_empty(policy: Gathering) -> bool:
    """Whether nothing is remembered but who is suspected."""
    return policy.idle and not (
        policy.bytes or policy._sales or policy._lanes or policy._servers or policy._behind
    )


class TestGathering(GatheringMachine.TestCase):
    settings = settings(max_examples=120, stateful_step_count=60, deadline=None)


# --- interrupted --------------------------------------------------------------------------


def a_full_life(policy: Gathering, callers: list[Caller]) -> None:
    """Every method, with lanes that fill up, buyers who ask twice, and callers who go."""
    for n in range(8):
        callers.append(Caller())
        item = Item(BUYERS[n % 3], f"h{n}")
        policy.offer(KINDS[n % 2], item, callers[-1], deadline=n, limit_ms=2_000)
    callers[6].gone = True
    first = policy.take()
    assert first is not None
    policy.settled(first.pending[0], unanswered=True)
    policy.drop_gone()
    callers[4].gone = True
    policy.finished(first)
    second = policy.take()
    assert second is not None
    policy.finished(second)


@pytest.mark.parametrize("twice", [False, True], ids=["once", "while mending"])
def test_interrupted_at_any_line_nobody_is_forgotten_and_no_lane_stays_blocked(twice: bool) -> None:
    """What was on its way is ended by its shell; everybody else who is there is sent, once."""

    def check(tracer: Tracer) -> None:
        if twice and tracer.where:
            with suppress(Foreign), Tracer(1 + tracer.strike * 7 % 40):
                policy.mend()
        policy.mend()
        there = [p for p in policy.live if not p.caller.done()]
        sent = {id(pending) for batch in policy.flying for pending in batch.pending}
        for batch in list(policy.flying):
            policy.finished(batch)
            policy.finished(batch)  # again, as by whoever finds it past its deadline
        while (batch := policy.take()) is not None:
            assert not any(id(pending) in sent for pending in batch.pending), tracer.where
            sent.update(map(id, batch.pending))
            policy.finished(batch)
        assert {id(pending) for pending in there} <= sent, tracer.where
        assert is_empty(policy), tracer.where
        assert not policy.live, tracer.where

    def prepare() -> None:
        nonlocal policy, callers
        policy, callers = Gathering(batch_max=BATCH_MAX), []

    policy, callers = Gathering(), list[Caller]()
    places = (batching.__file__,)
    lines = at_every_line(lambda: a_full_life(policy, callers), check, prepare, places)
    assert lines > 300


# --- one rule at a time -------------------------------------------------------------------


def offer(policy: Gathering, sale: str, buyer: str, *, note: str = "") -> Pending:
    item = Item(buyer, "h", second=note)
    return policy.offer(Kind("hold", sale), item, Caller(), deadline=1.0, limit_ms=2_000)


def fill(policy: Gathering, sale: str, *, note: str = "") -> int:
    """Offer until there is no room; how many were let in."""
    for count in itertools.count():
        try:
            offer(policy, sale, f"{sale}-{count}", note=note)
        except Overloaded:
            return count
    raise AssertionError


def finish(policy: Gathering, batch: Batch) -> None:
    for pending in batch.pending:
        policy.settled(pending)
    policy.finished(batch)


def rounds(policy: Gathering) -> Iterator[Batch]:
    """One batch after the other, each answered before the next is taken."""
    while (batch := policy.take()) is not None:
        yield batch
        finish(policy, batch)


def test_an_operation_that_finds_its_lane_free_goes_at_once() -> None:
    policy = Gathering()
    offer(policy, "s", "ann")
    batch = policy.take()
    assert batch is not None
    assert [item.buyer for item in batch.items] == ["ann"]
    assert policy.take() is None


def test_what_waits_when_a_reply_comes_back_goes_next_and_a_full_batch_does_not_wait() -> None:
    policy = Gathering(batch_max=3, lane_in_flight_max=2)
    offer(policy, "s", "first")
    first = policy.take()
    assert first is not None
    for n in range(2):
        offer(policy, "s", f"b{n}")
    assert policy.take() is None  # two wait for the reply
    offer(policy, "s", "b2")
    full = policy.take()
    assert full is not None
    assert len(full.pending) == 3
    for n in range(3, 7):
        offer(policy, "s", f"b{n}")
    assert policy.take() is None  # the lane has as many on their way as it may
    finish(policy, first)
    third = policy.take()
    assert third is not None
    assert len(third.pending) == 3
    finish(policy, full)
    finish(policy, third)
    last = policy.take()
    assert last is not None
    assert [item.buyer for item in last.items] == ["b6"]


@given(queue_max=st.integers(1, 60), sales=st.integers(1, 5))
def test_no_sale_fills_the_queue_alone_and_a_newcomer_finds_room(
    queue_max: int, sales: int
) -> None:
    """Each greedy sale gets what is then left for the others: a half, a quarter, …"""
    policy = Gathering(queue_max=queue_max)
    for n in range(sales):
        room = queue_max - policy.waiting
        assert fill(policy, f"sale-{n}") == math.ceil(room / 2)
    assert policy.waiting <= queue_max


@given(greedy=st.integers(0, 256), modest=st.integers(0, 256))
def test_no_sale_fills_the_bytes_alone_however_large_its_operations_are(
    greedy: int, modest: int
) -> None:
    policy = Gathering(bytes_max=20_000)
    fill(policy, "noisy", note="x" * greedy)
    assert policy.bytes <= 10_000 + 4 * greedy + 256
    for n in range(3):
        offer(policy, "quiet", f"b{n}", note="y" * modest)


def test_one_operation_is_let_in_whatever_the_bounds_when_nothing_waits() -> None:
    policy = Gathering(queue_max=1, bytes_max=1)
    offer(policy, "s", "ann")
    with pytest.raises(Overloaded, match=r"1 operations \(256 bytes\) wait.*1 of them"):
        offer(policy, "s", "bob")
    assert policy.take() is not None
    offer(policy, "s", "bob")


def test_refusals_leave_nothing_behind() -> None:
    policy = Gathering(queue_max=1)
    offer(policy, "s", "ann")
    for n in range(1_000):
        with pytest.raises(Overloaded):
            offer(policy, f"sale-{n}", "bob")
    assert len(policy._sales) == len(policy._lanes) == 1


@given(
    noisy=st.integers(1, 12),
    waiting=st.integers(1, 40),
    quiet=st.integers(1, 8),
    batch=st.integers(1, 8),
)
def test_a_quiet_sale_waits_for_at_most_one_batch_of_each_other(
    noisy: int, waiting: int, quiet: int, batch: int
) -> None:
    policy = Gathering(batch_max=batch, in_flight_max=1)
    for n in range(waiting):
        for sale in range(noisy):
            offer(policy, f"noisy-{sale}", f"b{n}")
    turns = rounds(policy)
    next(turns)
    for n in range(quiet):
        offer(policy, "quiet", f"q{n}")
    order = [batch.lane.kind.sale for batch in turns]
    assert order.count("quiet") == math.ceil(quiet / batch)
    assert order.index("quiet") <= noisy
    for sale in set(order):
        places = [n for n, taken in enumerate(order) if taken == sale]
        assert all(later - sooner <= noisy + 1 for sooner, later in itertools.pairwise(places))
        assert places[0] <= noisy


def test_a_sale_with_many_verbs_and_time_limits_has_no_more_turns_than_one_with_few() -> None:
    policy = Gathering(batch_max=4, in_flight_max=1)
    for n in range(400):
        kind = Kind(("hold", "confirm", "release", "extend")[n % 4], "noisy")
        limit_ms = 1 << (n % 20)
        policy.offer(kind, Item(f"b{n}", "h"), Caller(), deadline=1.0, limit_ms=limit_ms)
    turns = rounds(policy)
    next(turns)
    for n in range(8):
        offer(policy, "quiet", f"q{n}")
    order = [batch.lane.kind.sale for batch in turns]
    assert order[:4] == ["noisy", "quiet", "noisy", "quiet"]


def test_callers_who_each_have_another_time_left_share_batches() -> None:
    policy = Gathering(in_flight_max=1)
    for n in range(1_000):
        item = Item(f"b{n}", "h")
        policy.offer(Kind("hold", "s"), item, Caller(), deadline=n, limit_ms=1_000 + n)
    assert len(list(rounds(policy))) <= math.ceil(1_000 / policy.batch_max) + 1


def test_a_thousand_waiting_of_a_noisy_sale_cost_a_quiet_one_a_single_batch() -> None:
    """With the real bounds: as many batches on their way as may be, and a full share waiting."""
    policy = Gathering()
    assert fill(policy, "noisy") == policy.queue_max // 2
    flying = []
    while (batch := policy.take()) is not None:
        flying.append(batch)
    assert len(flying) == policy.lane_in_flight_max < policy.in_flight_max
    offer(policy, "quiet", "ann")
    batch = policy.take()  # its lane is free, so it goes at once, beside the noisy ones
    assert batch is not None
    assert batch.lane.kind.sale == "quiet"


def test_batches_on_their_way_to_a_silent_server_hold_up_no_sale_of_another() -> None:
    policy = Gathering(in_flight_max=2, server_of=lambda sale: sale[0])
    for n in range(5):
        offer(policy, f"a{n}", "ann")
    silent = [policy.take(), policy.take()]
    assert policy.take() is None
    for n in range(2):
        offer(policy, f"b{n}", "bob")
        batch = policy.take()
        assert batch is not None
        assert batch.lane.kind.sale == f"b{n}"
    offer(policy, "b2", "bob")
    assert policy.take() is None  # this server, too, has as many on their way as it may
    assert silent[0] is not None
    finish(policy, silent[0])
    batch = policy.take()
    assert batch is not None
    assert batch.lane.kind.sale == "a2"


def test_a_sale_that_has_moved_takes_its_next_turns_at_its_new_server() -> None:
    """Once: it may have been waiting in the line of the old one."""
    servers = {"moving": "old", "staying": "old"}
    policy = Gathering(batch_max=1, in_flight_max=1, server_of=lambda sale: servers[sale])
    offer(policy, "staying", "ann")
    silent = policy.take()
    servers["moving"] = "new"
    for n in range(3):
        offer(policy, "moving", f"b{n}")
    assert [batch.lane.kind.sale for batch in rounds(policy)] == ["moving"] * 3
    assert silent is not None
    finish(policy, silent)
    assert policy.take() is None
    assert is_empty(policy)


def test_whoever_has_gone_frees_room_also_behind_others_of_the_same_buyer() -> None:
    policy = Gathering(queue_max=8)
    first = offer(policy, "s", "ann")
    assert policy.take() is not None
    chain = [offer(policy, "s", "ann") for _ in range(4)]
    with pytest.raises(Overloaded):
        offer(policy, "s", "bob")
    for pending in chain[:2] + chain[3:]:
        pending.caller.gone = True
    for n in range(3):
        offer(policy, "s", f"b{n}")
    assert policy.waiting == 4
    policy.settled(first)
    chain[2].caller.gone = False
    later = offer(policy, "t", "ann")
    assert later.preceding is None
    assert chain[2] in chain[2].lane.waiting


def test_who_comes_after_one_that_has_gone_still_waits_for_the_one_before() -> None:
    policy = Gathering()
    first = offer(policy, "s", "ann")
    assert policy.take() is not None
    offer(policy, "s", "ann").caller.gone = True
    policy.drop_gone()
    offer(policy, "s", "ann")
    assert policy.take() is None
    policy.settled(first)
    assert policy.take() is not None


def test_an_operation_without_an_answer_does_not_hold_up_its_buyer_for_ever() -> None:
    policy = Gathering()
    offer(policy, "s", "ann")
    batch = policy.take()
    assert batch is not None
    offer(policy, "s", "ann")
    assert policy.take() is None
    policy.finished(batch)  # by a carrier that could not say what became of it
    batch = policy.take()
    assert batch is not None
    assert batch.lane.suspect
    finish(policy, batch)
    assert policy.take() is None
    assert is_empty(policy)


def test_the_next_hold_after_an_unanswered_one_is_suspected_once() -> None:
    policy = Gathering()
    for expected in (False, True, False):
        pending = offer(policy, "s", "ann")
        other_sale = offer(policy, "t", "ann")
        assert (pending.lane.suspect, other_sale.lane.suspect) == (expected, False)
        while (batch := policy.take()) is not None:
            for each in batch.pending:
                policy.settled(each, unanswered=each is pending and not expected)
            policy.finished(batch)
        if expected:
            break
    assert not policy._suspects


def test_suspects_are_bounded() -> None:
    policy = Gathering()
    for n in range(SUSPECTS_MAX + 10):
        pending = offer(policy, "s", f"b{n}")
        batch = policy.take()
        assert batch is not None
        policy.settled(pending, unanswered=True)
        policy.finished(batch)
    assert 0 < len(policy._suspects) <= SUSPECTS_MAX


def test_ten_thousand_sales_come_and_go_and_nothing_is_remembered() -> None:
    policy = Gathering()
    for n in range(10_000):
        for buyer in ("ann", "ann", "bob"):
            offer(policy, f"sale-{n}", buyer)
        if n % 3 == 0:
            offer(policy, f"sale-{n}", "cyd").caller.gone = True
            policy.drop_gone()
        for _ in rounds(policy):
            pass
    assert is_empty(policy)


def test_one_buyers_waiting_operations_leave_room_for_others() -> None:
    policy = Gathering(batch_max=BATCH_MAX)
    for _ in range(1 + BUYER_WAITING_MAX):
        offer(policy, "s", "eager")
    with pytest.raises(Overloaded, match=f"{BUYER_WAITING_MAX} behind others of the same buyer"):
        offer(policy, "s", "eager")
    offer(policy, "s", "ann")
    offer(policy, "other", "eager")  # bounded in each sale
    batch = policy.take()
    assert batch is not None
    policy.finished(batch)
    offer(policy, "s", "eager")


def test_a_batch_is_cut_by_the_lines_of_its_baskets_too() -> None:
    policy, basket = Gathering(), tuple(v for n in range(32) for v in (f"sku-{n}", 1))
    for n in range(100):
        item = Item(f"buyer-{n}", "h", basket)
        policy.offer(Kind("hold", "1111"), item, Caller(), deadline=1.0, limit_ms=2_000)
    sizes = [len(batch.pending) for batch in rounds(policy)]
    assert sum(sizes) == 100
    assert max(sizes) == limits.CALL_LINES_MAX // 32


def test_what_looks_like_retries_travels_in_batches_that_an_exact_loop_judges_at_once() -> None:
    """Also where batches are large because each costs a write to the disk."""
    policy = Gathering(batch_max=1_024)
    for n in range(600):
        offer(policy, "1111", f"buyer-{n}")
    while (first := policy.take()) is not None:
        for pending in first.pending:
            policy.settled(pending, unanswered=True)
        policy.finished(first)
    for n in range(600):
        offer(policy, "1111", f"buyer-{n}")
    sizes = [len(batch.pending) for batch in rounds(policy)]
    assert sum(sizes) == 600
    assert max(sizes) == limits.LOOP_MAX
