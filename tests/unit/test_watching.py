"""Threads that wait for a draw's result: one asks for all, whatever interrupts whom."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from flashsale import Outcome, StoreUnavailable
from flashsale.sync.waiting import Watch, Watches
from support.crowds import until
from support.tracing import Tracer, at_every_line

PATIENCE_S = 60.0


class Draw:
    """A draw that is revealed when a test says so; counts the questions."""

    def __init__(self) -> None:
        self.asked = 0
        self.revealed = threading.Event()

    def ask(self) -> Any:
        self.asked += 1
        outcome = Outcome.HELD if self.revealed.is_set() else Outcome.NOT_CLOSED
        return SimpleNamespace(outcome=outcome)

    def watch(self) -> Watch:
        return Watch(self.ask, itertools.repeat(0.001))


def test_one_asks_for_all_and_all_are_told_that_it_has_ended() -> None:
    draw = Draw()
    watch = draw.watch()
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(watch.wait, PATIENCE_S) for _ in range(20)]
        until(lambda: len(watch._waiting) == 20)
        draw.revealed.set()
        for each in waiting:
            each.result(PATIENCE_S)
    assert watch.ended


def test_when_the_one_that_asks_has_no_more_time_another_asks() -> None:
    draw = Draw()
    watch = draw.watch()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(watch.wait, 0.05)
        second = pool.submit(watch.wait, PATIENCE_S)
        first.result(PATIENCE_S)
        until(lambda: len(watch._waiting) == 1)
        before = draw.asked
        until(lambda: draw.asked > before)
        draw.revealed.set()
        second.result(PATIENCE_S)


def test_a_question_that_fails_ends_the_watch_for_all() -> None:
    def fail() -> Any:
        raise StoreUnavailable("gone")

    watch = Watch(fail, itertools.repeat(0.001))
    watch.wait(PATIENCE_S)
    assert watch.ended


@pytest.mark.parametrize("company", [False, True], ids=["alone", "with others"])
def test_an_exception_at_any_line_is_the_callers_own_and_the_others_are_told(company: bool) -> None:
    watches, draw, others = Watches(), Draw(), list[Future[None]]()

    def prepare() -> None:
        nonlocal draw, watches
        draw, watches = Draw(), Watches()

    def join() -> Watch:
        return watches.join("s", "c", draw.ask, iter([0.001] * 100_000))

    def wait() -> None:
        join().wait(PATIENCE_S)

    def work() -> None:
        watch = join()
        if company:
            others.extend(pool.submit(wait) for _ in range(2))
        threading.Timer(0.004, draw.revealed.set).start()
        watch.wait(PATIENCE_S)

    def check(tracer: Tracer) -> None:
        draw.revealed.set()
        for other in others:
            other.result(10)
        others.clear()
        pool.submit(wait).result(10)

    with ThreadPoolExecutor(3) as pool:
        # How often it looks is chance, so the lines are not counted to their end.
        assert at_every_line(work, check, prepare, most=120) > 20
