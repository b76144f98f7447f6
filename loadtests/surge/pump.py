"""The pump: one worker's share of a run, every attempt at its intended time, each its own call.

Runs under gevent, and every attempt is a greenlet that calls the synchronous client as a
service's request would. The pump never waits for an answer; what cannot be started because too
many are unanswered is dropped, and counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import gevent
from gevent.pool import Pool

from flashsale import Answer, FlashSale, FlashSaleError, Outcome, Overloaded, SaleHandle, StoreError
from flashsale.errors import ProtocolError
from flashsale.rehearsal import Plan
from flashsale.rehearsal.driver import SWEEP_EVERY_S, SWEEP_HOLDS
from flashsale.rehearsal.facts import Facts, Result, Verb
from flashsale.rehearsal.later import Step, Steps
from flashsale.rehearsal.measures import new_histogram, record_ms
from loadtests.surge.telling import (
    Order,
    Standing,
    Tally,
    Told,
    ToldAttempt,
    ToldStep,
    pack,
    share_of,
)

TICK_S = 0.002
"""The pump looks this often for what is due: half of it is the lag of an idle generator."""

STEPS_MAX = 64
"""Later steps that one worker has under way; others wait, which counts as their latency."""

OnAnswer = Callable[[str, Result, float], None]
"""Told of every answer: the verb, the answer or error, milliseconds from the intended time."""


class Pump:
    """One worker's share of a run."""

    def __init__(self, shop: FlashSale, order: Order, plan: Plan, on_answer: OnAnswer) -> None:
        self._order = order
        self._plan = plan
        self._mine = share_of(plan, order.index, order.workers)
        self._sale: SaleHandle = shop.sale(order.sale)
        self._on_answer = on_answer
        self._steps = Steps(plan, Facts.of(plan))
        self._calls = Pool(order.in_flight)
        self._step_calls = Pool(STEPS_MAX)
        self._latency, self._later_latency, self._lag = (new_histogram() for _ in range(3))
        self._told: list[ToldAttempt] = []
        self._told_steps: list[ToldStep] = []
        self._standing = Standing.SURGE
        self._begin = 0.0
        self._next = self._dropped = self._sweeps = self._serial = self._left_over = 0
        self._cpu = 0.0

    def run(self, begin: float) -> None:
        """Send the share from that moment of `time.monotonic` on; returns when all is done."""
        self._begin = begin
        sweeper = gevent.spawn(self._sweep)
        try:
            self._surge()
            self._standing = Standing.SETTLE
            self._settle()
            self._standing = Standing.DONE
        finally:
            sweeper.kill()

    def tally(self) -> bytes:
        """A report of what happened since the last one."""
        attempts, self._told = self._told, []
        steps, self._told_steps = self._told_steps, []
        tally = Tally(
            worker=self._order.index,
            serial=self._serial,
            standing=self._standing,
            attempts=attempts,
            steps=steps,
            latency=self._latency.encode(),
            later_latency=self._later_latency.encode(),
            schedule_lag=self._lag.encode(),
            offered=self._next,
            dropped=self._dropped,
            held=self._steps.held,
            confirmed=self._steps.confirmed,
            sweeps=self._sweeps,
            left_over=self._left_over,
            cpu=self._cpu,
        )
        self._serial += 1
        return pack(tally)

    def _now(self) -> float:
        return time.monotonic() - self._begin

    def _surge(self) -> None:
        gevent.sleep(max(0.0, -self._now()))
        cpu, wall = time.process_time(), time.monotonic()
        mine, times = self._mine, self._plan.at_s
        while self._next < len(mine):
            self._take_up()
            upcoming = times[mine[self._next]] if self._next < len(mine) else 0.0
            gevent.sleep(max(TICK_S, min(upcoming - self._now(), 0.05)))
            self._cpu = (time.process_time() - cpu) / (time.monotonic() - wall)

    def _settle(self) -> None:
        steps, until = self._steps, self._now() + self._order.settle_s
        while len(steps) or steps.is_due() or len(self._calls) or len(self._step_calls):
            if self._now() < until:
                self._take_up()
            elif not (len(self._calls) or len(self._step_calls)):
                break
            gevent.sleep(TICK_S)
        self._left_over = len(steps) + sum(map(len, steps.due.values()))

    def _take_up(self) -> None:
        """Start what is due; drop the attempts that find no room."""
        now, mine, times = self._now(), self._mine, self._plan.at_s
        while self._next < len(mine) and times[mine[self._next]] <= now:
            attempt = mine[self._next]
            self._next += 1
            if self._calls.full():
                self._dropped += 1
            else:
                self._calls.spawn(self._hold, attempt)
        self._steps.take_up(now)
        for steps in self._steps.due.values():
            while steps and not self._step_calls.full():
                self._step_calls.spawn(self._take_step, steps.popleft())

    def _hold(self, attempt: int) -> None:
        due_s = self._plan.at_s[attempt]
        record_ms(self._lag, (self._now() - due_s) * 1000)
        result: Result
        try:
            result = self._attempt(attempt)
        except Overloaded:  # not sent, by the client's own bound
            self._dropped += 1
            return
        except Exception as error:  # whatever it is, it is told: nothing is lost in a greenlet
            result = _failure(error)
        now = self._now()
        self._told.append(ToldAttempt(attempt, now, Told.of(result)))
        record_ms(self._latency, (now - due_s) * 1000)
        self._on_answer(self._verb(attempt), result, (now - due_s) * 1000)
        if isinstance(result, Answer) and result.outcome is Outcome.HELD:
            self._steps.heard(attempt, result, now)

    def _attempt(self, attempt: int) -> Answer:
        request = self._plan.requests[self._plan.order[attempt]]
        return self._sale.hold(request.buyer, request.basket, hold_id=request.hold_id)

    def _verb(self, attempt: int) -> str:
        """What Locust's statistics call an attempt."""
        return "hold"

    def _take_step(self, step: Step) -> None:
        result: Result
        try:
            result = self._ask(step)
        except Exception as error:
            result = _failure(error)
        now = self._now()
        told = ToldStep(step.verb.value, step.order, step.due_s, now, Told.of(result))
        self._told_steps.append(told)
        record_ms(self._later_latency, (now - step.due_s) * 1000)
        self._on_answer(step.verb.value, result, (now - step.due_s) * 1000)
        self._steps.answered(step, result, now)

    def _ask(self, step: Step) -> Answer:
        held = self._steps.handles[step.order]
        if step.verb is Verb.CONFIRM:
            return self._sale.confirm(held, late=self._plan.late)
        if step.verb is Verb.RELEASE:
            return self._sale.release(held)
        return self._sale.extend(held, deadline_ms=self._steps.deadline_ms(held))

    def _sweep(self) -> None:
        """Expire due holds, as a service would; all workers together as often as one alone."""
        while True:
            gevent.sleep(SWEEP_EVERY_S * self._order.workers)
            with suppress(StoreError, Overloaded):
                self._sweeps += 1
                self._sale.expire(SWEEP_HOLDS)


def _failure(error: Exception) -> FlashSaleError:
    """An error that is not the library's is a defect; for the verdict, an answer that is lost."""
    if isinstance(error, FlashSaleError):
        return error
    return ProtocolError(f"unexpected {type(error).__name__}: {error}")
