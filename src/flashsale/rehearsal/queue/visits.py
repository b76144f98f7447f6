"""What everybody does next: a state machine over all people, without I/O.

A driver takes what is due, asks the engine, and hands the answers back. Joins have their times from
the plan; everything later follows from an answer, and has its intended time from that moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from math import inf
from typing import NamedTuple

from flashsale.errors import FlashSaleError
from flashsale.models import Answer, Outcome
from flashsale.rehearsal.measures import record_ms
from flashsale.rehearsal.queue.crowd import Fate, QueuePlan
from flashsale.rehearsal.queue.record import TIMED, Act, Deed, End, Meters, Record, Result, Visit
from flashsale.rooms import Outlook, PlaceAnswer

RETRY_S = 1.0
RETRIES_MAX = 5
"""Somebody who gets no answer asks again so much later and so often."""

PRESS_S = 1.0
"""Who finds nothing, but is told that some may return, presses again after this."""

CHEATS_S = (0.5, 3.0)
"""A bot comes again so long after the opening."""

_KEPT = {Act.COME, Act.HOLD, Act.PAY, Act.CANCEL, Act.FORGE, Act.GRAB}


class Due(NamedTuple):
    """Something that somebody does at a time; of the same time, the lower number is first."""

    due_s: float
    number: int
    act: Act
    person: int
    tries: int


class Visits:
    """The visits of some of a plan's people: all, or those of one process.

    near: places up to this one have the times that they are told kept.
    """

    def __init__(self, plan: QueuePlan, mine: Iterable[int], *, near: int) -> None:
        self.plan = plan
        self.record = Record()
        self.meters = Meters()
        self.tickets: dict[int, str] = {}
        self.held: dict[int, Answer] = {}
        self.changed: set[int] = set()
        self._near = near
        self._queue: list[Due] = []
        self._numbered = 0
        for person in mine:
            self._lay_out(person)
        heapify(self._queue)

    def __len__(self) -> int:
        """How much is still to come."""
        return len(self._queue)

    @property
    def next_s(self) -> float:
        """When the next of it is due."""
        return self._queue[0].due_s if self._queue else inf

    def due(self, now: float) -> list[Due]:
        """What is due by now, taken out; how late that is goes to the meter."""
        found, queue = [], self._queue
        while queue and queue[0].due_s <= now:
            due = heappop(queue)
            if due.act is Act.TAB and self._visit(due.person).end is not None:
                continue  # who has gone does not open another tab
            found.append(due)
            record_ms(self.meters.lag, (now - due.due_s) * 1000)
        self.record.offered += len(found)
        return found

    def drop(self, due: Due) -> None:
        """It could not be sent: its visit ends here."""
        self.record.dropped += 1
        self._end(self._visit(due.person), End.LOST)

    def answered(self, due: Due, result: Result, now: float) -> None:
        """Note an answer, and what its person does next."""
        self.record.count(due.act, result)
        if due.act in TIMED:
            record_ms(self.meters.verbs[TIMED[due.act]], (now - due.due_s) * 1000)
        if due.act in _KEPT:
            deed = Deed.of(due.act, due.person, due.due_s, now, result)
            self.record.deeds.append(deed)
        visit = self._visit(due.person)
        self.changed.add(due.person)
        if isinstance(result, FlashSaleError):
            self._unanswered(visit, due, now)
        elif isinstance(result, Answer):
            self._decided(visit, due, result, now)
        elif due.act in (Act.JOIN, Act.TAB, Act.ASK):
            self._told(visit, due, result, now)
        elif due.act is Act.COME:
            self._came(visit, result, now)

    def give_up(self) -> None:
        """The run ends with people still waiting, whose visits stay without an end."""
        self.record.unserved = len({due.person for due in self._queue})
        self._queue.clear()

    # --- laying out -----------------------------------------------------------------------

    def _lay_out(self, person: int) -> None:
        plan = self.plan
        at = plan.join_s[person]
        if plan.fate[person] == Fate.BOT:
            for when in (at, *(max(at, plan.opens_s) + later for later in CHEATS_S)):
                self._queue += (
                    self._made(when, Act.FORGE, person),
                    self._made(when, Act.GRAB, person),
                )
            return
        self._queue.append(self._made(at, Act.JOIN, person))
        if plan.tab_s[person] != inf:
            self._queue.append(self._made(plan.tab_s[person], Act.TAB, person))

    def _made(self, due_s: float, act: Act, person: int, tries: int = 0) -> Due:
        self._numbered += 1
        return Due(due_s, self._numbered, act, person, tries)

    def _add(self, due_s: float, act: Act, person: int, tries: int = 0) -> None:
        heappush(self._queue, self._made(due_s, act, person, tries))

    def _visit(self, person: int) -> Visit:
        visit = self.record.visits.get(person)
        if visit is None:
            visit = self.record.visits[person] = Visit(person)
            if self.plan.fate[person] == Fate.BOT:
                visit.end = End.BOT
        return visit

    def _end(self, visit: Visit, end: End) -> None:
        visit.end = visit.end or end
        self.changed.add(visit.person)

    # --- what answers mean ----------------------------------------------------------------

    def _unanswered(self, visit: Visit, due: Due, now: float) -> None:
        if due.act in (Act.FORGE, Act.GRAB, Act.TAB):
            return
        if due.tries < RETRIES_MAX:
            self._add(now + RETRY_S, due.act, due.person, due.tries + 1)
        else:
            self._end(visit, End.LOST)

    def _told(self, visit: Visit, due: Due, answer: PlaceAnswer, now: float) -> None:
        """Where they stand, by a join or a position."""
        if due.act is Act.TAB:
            visit.tab_number = answer.number or 0
            return  # the first tab goes on asking
        if due.act is Act.ASK:
            visit.polls += 1
        elif answer.number is not None:
            visit.number, visit.joined_ms = answer.number, answer.at_ms
            self.tickets[visit.person] = answer.ticket
        if visit.end is not None:
            return
        self._note(visit, answer)
        if answer.outcome in (Outcome.JOINED, Outcome.WAITING):
            self._waits(visit, answer, now)
        elif answer.outcome is Outcome.CALLED:
            self._called(visit, answer, now)
        else:
            over = answer.outcome is Outcome.TURN_OVER
            self._end(visit, End.MISSED if over else End.REFUSED)

    def _note(self, visit: Visit, answer: PlaceAnswer) -> None:
        visit.place = answer.place or visit.place
        if answer.outlook is None:
            return
        if answer.outlook is Outlook.HOPELESS:
            visit.gone_ms = visit.gone_ms or answer.at_ms
            return
        visit.hope_ms = answer.at_ms
        if answer.outcome is Outcome.CALLED:
            return
        word = answer.outlook.value
        if not visit.outlooks or visit.outlooks[-1] != word:
            visit.outlooks += (answer.at_ms, word)
        if answer.eta is not None and 0 < visit.place <= self._near:
            eta = answer.eta
            latest = -1 if eta.latest_ms is None else eta.latest_ms
            visit.etas += (answer.at_ms, eta.expected_ms, eta.earliest_ms, latest)

    def _waits(self, visit: Visit, answer: PlaceAnswer, now: float) -> None:
        plan, person = self.plan, visit.person
        if answer.outlook is Outlook.HOPELESS:
            self._end(visit, End.GONE)
            return
        visit.impatient = now > plan.join_s[person] + plan.patience_s[person]
        is_known = answer.place is not None and answer.outlook is Outlook.UNLIKELY
        if visit.impatient or (is_known and plan.realist[person]):
            self._end(visit, End.WALKED if plan.silent[person] else End.LEFT)
            if not plan.silent[person]:
                self._add(now, Act.LEAVE, person)
            return
        wait_ms = answer.poll_after_ms or 0
        self.record.longest_poll_ms = max(self.record.longest_poll_ms, wait_ms)
        self._add(now + wait_ms / 1000, Act.ASK, person)

    def _called(self, visit: Visit, answer: PlaceAnswer, now: float) -> None:
        visit.called_ms = answer.at_ms
        if answer.outlook is Outlook.HOPELESS:
            visit.vain = True
            self._end(visit, End.IN_VAIN)
        elif self.plan.fate[visit.person] == Fate.NO_SHOW:
            self._end(visit, End.NO_SHOW)
        else:
            self._add(now + self.plan.react_s[visit.person], Act.COME, visit.person)

    def _came(self, visit: Visit, answer: PlaceAnswer, now: float) -> None:
        person, plan = visit.person, self.plan
        if answer.outcome is Outcome.ADMITTED:
            visit.admitted_ms = visit.admitted_ms or answer.at_ms
            visit.turn_ends_ms = answer.turn_ends_ms or 0
            looks = plan.fate[person] == Fate.LOOK
            if looks:
                self._end(visit, End.LOOKED)
            if not looks or not plan.silent[person]:
                act = Act.LEAVE if looks else Act.HOLD
                self._add(now + plan.choose_s[person], act, person)
        elif answer.outcome is Outcome.WAITING:
            self._add(now + RETRY_S, Act.ASK, person)
        else:
            self._end(visit, End.MISSED)

    def _decided(self, visit: Visit, due: Due, answer: Answer, now: float) -> None:
        """What became of a hold, or of a step after it."""
        person, plan = visit.person, self.plan
        if due.act is Act.HOLD and answer.outcome is Outcome.HELD:
            visit.held_ms = answer.at_ms
            self.held[person] = answer
            fate = Fate(plan.fate[person])
            if fate is Fate.ABANDON:
                self._end(visit, End.ABANDONED)
            else:
                act = Act.PAY if fate is Fate.PAY else Act.CANCEL
                self._add(now + plan.pay_s[person], act, person)
        elif due.act is Act.HOLD:
            again = answer.may_return or answer.outcome is Outcome.TRY_AGAIN
            if again and answer.at_ms + 1000 * PRESS_S < visit.turn_ends_ms:
                self._add(now + PRESS_S, Act.HOLD, person)
            else:
                nothing = answer.outcome in (Outcome.SOLD_OUT, Outcome.TRY_AGAIN)
                self._end(visit, End.IN_VAIN if nothing else End.MISSED)
        elif due.act is Act.PAY:
            paid = answer.outcome is Outcome.CONFIRMED
            self._end(visit, End.SERVED if paid else End.EXPIRED)
        elif due.act is Act.CANCEL:
            self._end(visit, End.CANCELLED)
