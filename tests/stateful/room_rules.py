"""Every verb of a waiting room as a rule, beside the verbs of the sale that it depends on."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from flashsale import (
    HoldRequest,
    HoldState,
    InvalidRequest,
    JoinRequest,
    Outcome,
    Outlook,
    PlaceAnswer,
    RoomView,
    WaitingRoom,
    waiting_room,
)
from flashsale.keyring import Keyring
from flashsale.keys import ShardKeys
from flashsale.testing import OracleSale
from flashsale.tokens import Ticket, read_ticket, sign_ticket
from stateful.drawing import HOLD_IDS, targets
from stateful.held_time import HeldTime
from stateful.room_drawing import (
    CROWD,
    Move,
    guarded_sales,
    hostile_joins,
    joins,
    members,
    rooms,
    takes,
    which_ticket,
)
from support.crowds import at_once
from support.cues import KEY
from support.lab import T0

KEYRING = Keyring([KEY])


class RoomMachine(HeldTime):
    """A sale with a waiting room.

    `seen` is the view that the client has: what it tells is worked out of that, however old it is,
    until it forgets it.
    """

    seen: RoomView | None

    @initialize(definition=guarded_sales(), room=rooms(), one_place=st.sampled_from([1, 1, 1, 0]))
    def open(self, definition: dict[str, Any], room: dict[str, Any], one_place: int) -> None:
        super().open(definition)
        if room["opens_at_ms"] is not None:
            room = room | {"opens_at_ms": T0 + room["opens_at_ms"]}
        if not one_place and not self.sale.admission:
            room = room | {"one_place": False, "key_places_max": None}
        self.tickets: dict[str, list[tuple[str, Ticket]]] = {buyer: [] for buyer in CROWD}
        self.room = WaitingRoom(**room)
        self.looks("open", self.queue.open(self.room), room=self.room, key=KEY)

    @property
    def queue(self) -> Any:
        return self.handle.queue

    # --- looking ----------------------------------------------------------------------

    def looks(self, verb: str, real: RoomView, **said: Any) -> None:
        """What the client sees at the end of a verb is what the oracle shows."""
        self.done.append(f"room: {verb} {said}\n    {real}")
        self.go_to(real.at_ms)
        self.seen = getattr(self.model.queue, verb)(**said, now_ms=real.at_ms)
        self.agree(real == self.seen, verb, real, self.seen)

    def needs_view(self) -> RoomView:
        """The client's view; if it has none it looks first."""
        if self.seen is None:
            self.seen = self.model.queue.view(now_ms=self.at_ms)
        return self.seen

    @rule()
    def look(self) -> None:
        self.looks("view", self.queue.view())

    @rule()
    def forget_view(self) -> None:
        self.shop._rooms.clear()
        self.seen = None

    @rule(verb=st.sampled_from(["pause", "resume", "resume", "resume"]))
    def steer(self, verb: str) -> None:
        self.looks(verb, getattr(self.queue, verb)())

    @rule(rate=st.sampled_from([1_000, 2.5, 0.000001]))
    def set_rate(self, rate: float) -> None:
        self.looks("set_rate", self.queue.set_rate(rate), rate_per_s=rate)

    # --- joining and leaving ----------------------------------------------------------

    @rule(request=joins)
    def join(self, request: JoinRequest) -> None:
        seen = self.needs_view()
        real = self.queue.join(request.buyer, key=request.key)
        modelled = self.model.queue.join(request.buyer, key=request.key, now_ms=self.at_ms)
        self.placed("join", seen, real, modelled)

    @rule(items=st.lists(joins | joins | joins | hostile_joins, min_size=1, max_size=8))
    def join_many(self, items: list[JoinRequest]) -> None:
        seen = self.needs_view()
        answers = self.queue.join_many(items)
        expected = self.model.queue.join_many(items, now_ms=self.at_ms)
        for real, modelled in zip(answers, expected, strict=True):
            if isinstance(modelled, PlaceAnswer):
                self.placed("join_many", seen, real, modelled)
            else:
                self.equal("join_many", real, modelled)

    def placed(self, verb: str, seen: RoomView, real: PlaceAnswer, modelled: PlaceAnswer) -> None:
        """Whoever joined is told where they stand by the client's view, and given a ticket."""
        expected = modelled
        if modelled.outcome is Outcome.JOINED:
            expected = self.model.queue.told(modelled, seen=seen)
            if expected.outcome is Outcome.WAITING:
                expected = msgspec.structs.replace(expected, outcome=Outcome.JOINED)
            ticket = self.keep_ticket(real)
            self.agree(ticket.number == modelled.number, "number of a ticket", ticket, modelled)
        self.answers_agree(verb, real, expected)
        self.forecasts_are_right(seen, real)

    def keep_ticket(self, real: PlaceAnswer) -> Ticket:
        ticket = read_ticket(KEYRING, self.sale.id, real.buyer, real.ticket)
        assert isinstance(ticket, Ticket), ticket
        assert ticket.issued_ms == real.at_ms
        assert ticket.expires_ms == real.at_ms + self.room.ticket_ttl_ms
        self.tickets[real.buyer].append((real.ticket, ticket))
        return ticket

    def answers_agree(self, verb: str, real: PlaceAnswer, expected: PlaceAnswer) -> None:
        """All that is not forecast; a ticket has been looked at, a rule is for people."""
        event(f"{verb}: {real.outcome.value}{' replayed' if real.replayed else ''}")
        self.done.append(f"room: {verb}\n    {real}")
        told = {name: getattr(expected, name) for name in ("eta", "outlook", "poll_after_ms")}
        told |= {"ticket": "", "rule": ""}
        self.agree(msgspec.structs.replace(real, **told) == expected, verb, real, expected)

    def forecasts_are_right(self, seen: RoomView, real: PlaceAnswer) -> None:
        """Hopeless is a fact; who waits is told when to ask again."""
        if real.outlook is not None:
            assert (real.outlook is Outlook.HOPELESS) == seen.gone
        if real.outcome in (Outcome.JOINED, Outcome.WAITING):
            assert real.poll_after_ms is not None
            assert 1 <= real.poll_after_ms <= max(1, self.room.turn_ttl_ms // 4)

    @rule(buyer=members)
    def leave(self, buyer: str) -> None:
        self.needs_view()
        if not self.room.one_place:
            self.both_refuse(
                lambda: self.queue.leave(buyer),
                lambda: self.model.queue.leave(buyer, now_ms=self.at_ms),
            )
            return
        real = self.queue.leave(buyer)
        self.answers_agree("leave", real, self.model.queue.leave(buyer, now_ms=self.at_ms))

    def both_refuse(self, *verbs: Callable[[], object]) -> None:
        refusals = []
        for verb in verbs:
            try:
                verb()
            except InvalidRequest as refusal:
                refusals.append(refusal.args)
        assert len(refusals) == 2
        assert refusals[0] == refusals[1]

    # --- standing and being let in ----------------------------------------------------

    @rule(buyer=members, which=which_ticket)
    def position(self, buyer: str, which: str) -> None:
        text, ticket = self.a_ticket(buyer, which)
        if ticket is None:
            return
        seen = self.needs_view()
        real = self.queue.position(buyer, text)
        modelled = self.model.queue.position(buyer, ticket, seen=seen, now_ms=real.at_ms)
        self.answers_agree("position", real, modelled)
        self.forecasts_are_right(seen, real)

    @rule(buyer=members, which=which_ticket)
    def admit(self, buyer: str, which: str) -> None:
        self.needs_view()
        text, ticket = self.a_ticket(buyer, which)
        if ticket is None and not self.room.one_place:
            self.both_refuse(
                lambda: self.queue.admit(buyer),
                lambda: self.model.queue.admit(buyer, now_ms=self.at_ms),
            )
            return
        real = self.queue.admit(buyer, text)
        modelled = self.model.queue.admit(buyer, ticket, now_ms=self.at_ms)
        # Where somebody stands is told by `position`; here it is the client's own addition.
        plain = msgspec.structs.replace(real, number=None, place=None, ahead=None)
        self.answers_agree("admit", plain, modelled)

    def a_ticket(self, buyer: str, which: str) -> tuple[str | None, Ticket | None]:
        """A well-signed ticket of a buyer, true or not."""
        known = self.tickets[buyer]
        if which == "none" or not known:
            return None, None
        if which in ("newest", "oldest"):
            return known[-1 if which == "newest" else 0]
        number, now_ms = known[-1][1].number, self.at_ms
        ticket = {
            "a number ahead": Ticket(number + 1, now_ms, now_ms + 1_000),
            "not issued yet": Ticket(number, now_ms + 1, now_ms + 1_000),
            "expired": Ticket(number, now_ms - 1_000, now_ms),
        }[which]
        return sign_ticket(KEY, self.sale.id, buyer, ticket), ticket

    # --- holding ----------------------------------------------------------------------

    @rule(request=takes)
    def hold(self, request: HoldRequest) -> None:
        self.both("hold", request.buyer, request.basket, hold_id=request.hold_id, key=request.key)

    @rule(items=st.lists(takes, min_size=1, max_size=6))
    def hold_many(self, items: list[HoldRequest]) -> None:
        self.both_many("hold_many", items)

    @rule(crowd=st.lists(members, min_size=1, max_size=6, unique=True), take=takes)
    def come_and_buy(self, crowd: list[str], take: HoldRequest) -> None:
        """The whole way of a crowd, as far as each of them gets."""
        self.join_many([JoinRequest(buyer) for buyer in crowd])
        self.move_to_the_opening(0)
        self.move_to(self.at_ms + 30)
        self.look()
        for buyer in crowd:
            self.admit(buyer, "newest")
        self.hold_many([msgspec.structs.replace(take, buyer=buyer) for buyer in crowd])

    @rule(
        moves=st.lists(
            st.builds(
                Move,
                st.sampled_from(["join", "join", "admit", "admit", "leave", "hold"]),
                st.sampled_from(CROWD[:2]),
                st.sampled_from(HOLD_IDS),
            ),
            min_size=2,
            max_size=4,
        )
    )
    def all_at_once(self, moves: list[Move]) -> None:
        """Concurrent calls are judged as if one had come after the other, in some order."""
        if not self.room.one_place:
            return
        seen = self.needs_view()
        answers = at_once(self.handle, [move.ask for move in moves])
        for order in itertools.permutations(range(len(moves))):
            trial = copy.deepcopy(self.model)
            expected = {n: moves[n].model(trial, self.at_ms) for n in order}
            told = [self.core(self.as_told(trial, seen, expected[n])) for n in range(len(moves))]
            # Orders that give the same answers may still leave different rooms.
            if told == [self.core(answer) for answer in answers] and self.is_stored(trial):
                self.oracle = trial
                self.done.append(f"at once, in the order {order}: {moves}\n    {answers}")
                return
        self.agree(False, "no order of these calls explains the answers", answers, moves)

    def as_told(self, trial: OracleSale, seen: RoomView, modelled: Any) -> Any:
        if modelled.outcome is not Outcome.JOINED:
            return modelled
        told = trial.queue.told(modelled, seen=seen)
        waits = told.outcome is Outcome.WAITING
        return msgspec.structs.replace(told, outcome=Outcome.JOINED) if waits else told

    def core(self, answer: Any) -> Any:
        """An answer without what it may be told beside."""
        assert not isinstance(answer, BaseException), answer
        if isinstance(answer, PlaceAnswer):
            return (answer.outcome, answer.number, answer.turn_ends_ms, answer.replayed)
        return answer

    # --- the sale ---------------------------------------------------------------------

    @rule(number=targets, verb=st.sampled_from(["release", "release", "confirm"]))
    def end_hold(self, number: int, verb: str) -> None:
        self.both(verb, *self.target(number, HoldState.HELD))

    @rule(change=st.sampled_from([-2, -1, 1, 3, 20]), op_id=st.sampled_from("abcdefgh"))
    def restock(self, change: int, op_id: str) -> None:
        self.both("restock", {"red": change}, op_id=op_id)

    @rule(verb=st.sampled_from(["resume"] * 26 + ["pause"] * 3 + ["end"]))
    def switch(self, verb: str) -> None:
        self.both(verb)

    # --- time -------------------------------------------------------------------------

    @rule(milliseconds=st.sampled_from([1, 10, 30, 100, 100, 1_000, 1_000, 3_300, 70_000]))
    def move(self, milliseconds: int) -> None:
        self.move_to(self.at_ms + milliseconds)

    @rule(before=st.sampled_from([0, 0, 1]))
    def move_to_the_next_end_of_a_turn(self, before: int) -> None:
        ends = [row.slot for row in self.model.queue.stored().turns]
        if ends:
            ends_ms = (ends[0] + 1) * self.room.slot_ms + self.room.turn_ttl_ms
            self.move_to(max(self.at_ms, ends_ms - before))

    @rule(before=st.sampled_from([0, 0, 1]))
    def move_to_the_opening(self, before: int) -> None:
        self.move_to(max(self.at_ms, (self.room.opens_at_ms or 0) - before))

    # --- after every step -------------------------------------------------------------

    @invariant()
    def the_room_is_equal(self) -> None:
        if self.oracle is not None:
            modelled = self.model.queue.stored()
            real = self.stored_as(modelled)
            self.agree(real == modelled, "the room as stored", real, modelled)

    def is_stored(self, trial: OracleSale) -> bool:
        modelled = trial.queue.stored()
        return self.stored_as(modelled) == modelled and self.handle.snapshot().skus == (
            trial.snapshot(now_ms=self.at_ms).skus
        )

    def stored_as(self, modelled: RoomView) -> RoomView:
        """The room as it is stored: looking through the client would move it on."""
        stored: dict[bytes, bytes] = self.raw.hgetall(ShardKeys.of(self.sale.id).room)
        return waiting_room._read_room(
            self.sale.id,
            modelled.at_ms,
            modelled.closed.code if modelled.closed else "",
            [part for pair in stored.items() for part in pair],
            [modelled.available, modelled.set_aside, modelled.held, modelled.sold],
            [
                modelled.outstanding,
                modelled.bound,
                f"{modelled.conversion:.9f}".encode(),
                modelled.starts_at_ms,
                0,
            ],
        )
