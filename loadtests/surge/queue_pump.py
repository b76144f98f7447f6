"""The pump of a waiting room: whatever the people of its share do next, each act its own call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
import msgspec
from gevent.pool import Pool

from flashsale import FlashSale, FlashSaleError, Outcome, Overloaded
from flashsale.errors import ProtocolError
from flashsale.rehearsal.queue import WAITING_ROOM, QueuePlan
from flashsale.rehearsal.queue.crowd import buyer_of
from flashsale.rehearsal.queue.driver import HOLD_ID, hostile_ticket
from flashsale.rehearsal.queue.record import Act, Result
from flashsale.rehearsal.queue.runner import near_of
from flashsale.rehearsal.queue.scenario import SKU
from flashsale.rehearsal.queue.visits import Due, Visits
from loadtests.surge.pump import TICK_S
from loadtests.surge.queue_telling import QueueTally
from loadtests.surge.telling import Order, Standing

OnAnswer = Callable[[str, Any, float], None]


class QueuePump:
    """One worker's share of a waiting room's people: every so-manieth of them."""

    def __init__(self, shop: FlashSale, order: Order, plan: QueuePlan, on_answer: OnAnswer) -> None:
        self._order = order
        mine = range(order.index, plan.people, order.workers)
        self._visits = Visits(plan, mine, near=near_of(WAITING_ROOM, order.size))
        self._sale = shop.sale(order.sale)
        self._on_answer = on_answer
        self._calls = Pool(order.in_flight)
        self._standing = Standing.SURGE
        self._begin = self._cpu = 0.0
        self._serial = self._told = 0

    def run(self, begin: float) -> None:
        """From that moment of `time.monotonic` on, until nobody has anything left to do."""
        self._begin = begin
        visits, last_s = self._visits, self._visits.plan.join_s[-1]
        until = self._order.size.seconds + self._order.settle_s
        gevent.sleep(max(0.0, -self._now()))
        cpu, wall = time.process_time(), time.monotonic()
        while (visits or len(self._calls)) and self._now() < until:
            for due in visits.due(self._now()):
                if self._calls.full():
                    visits.drop(due)
                else:
                    self._calls.spawn(self._act, due)
            if self._now() < last_s:
                self._cpu = (time.process_time() - cpu) / (time.monotonic() - wall)
            else:
                self._standing = Standing.SETTLE
            gevent.sleep(TICK_S)
        self._calls.join()
        visits.give_up()
        self._standing = Standing.DONE

    def tally(self) -> bytes:
        """A report of what happened since the last one."""
        visits, record = self._visits, self._visits.record
        changed, visits.changed = visits.changed, set()
        deeds, self._told = record.deeds[self._told :], len(record.deeds)
        tally = QueueTally(
            worker=self._order.index,
            serial=self._serial,
            standing=self._standing,
            visits=[record.visits[person] for person in changed],
            deeds=deeds,
            outcomes={act: dict(told) for act, told in record.outcomes.items()},
            errors=dict(record.errors),
            longest_poll_ms=record.longest_poll_ms,
            offered=record.offered,
            completed=record.completed,
            dropped=record.dropped,
            unserved=record.unserved,
            latency={verb: meter.encode() for verb, meter in visits.meters.verbs.items()},
            schedule_lag=visits.meters.lag.encode(),
            held=len(visits.held),
            paid=sum(deed.act is Act.PAY for deed in record.deeds),
            cpu=self._cpu,
        )
        self._serial += 1
        return msgspec.msgpack.encode(tally)

    def _now(self) -> float:
        return time.monotonic() - self._begin

    def _act(self, due: Due) -> None:
        result: Result
        try:
            result = self._asked(due)
        except Overloaded:
            self._visits.drop(due)
            return
        except FlashSaleError as error:
            result = error
        except Exception as error:  # whatever it is, it is told: nothing is lost in a greenlet
            result = ProtocolError(f"unexpected {type(error).__name__}: {error}")
        now = self._now()
        self._visits.answered(due, result, now)
        self._on_answer(due.act.value, result, (now - due.due_s) * 1000)

    def _asked(self, due: Due) -> Result:
        sale, visits, person, act = self._sale, self._visits, due.person, due.act
        buyer = buyer_of(person)
        if act in (Act.JOIN, Act.TAB):
            return sale.queue.join(buyer, key=visits.plan.key(person))
        if act is Act.ASK:
            return sale.queue.position(buyer, visits.tickets[person])
        if act is Act.COME:
            return sale.queue.admit(buyer, visits.tickets[person])
        if act in (Act.HOLD, Act.GRAB):
            return sale.hold(buyer, {SKU: 1}, hold_id=HOLD_ID)
        if act is Act.PAY:
            return sale.confirm(visits.held[person])
        if act is Act.CANCEL:
            return sale.release(visits.held[person])
        if act is Act.LEAVE:
            return sale.queue.leave(buyer)
        ticket = hostile_ticket(visits.tickets, visits.plan, person)
        told = sale.queue.position(buyer, ticket)
        wrong = told.outcome is Outcome.WRONG_TICKET
        return sale.queue.admit(buyer, ticket) if wrong else told
