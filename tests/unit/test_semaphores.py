"""The semaphore of the blocking client's connections: first come, first served, none is lost."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from flashsale.sync.semaphores import FairSemaphore
from support.tracing import Tracer, at_every_line

PATIENCE_S = 30.0


def waits_in(free: FairSemaphore, count: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while len(free._waiting) != count:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_who_waits_is_served_in_the_order_of_coming_and_passed_by_nobody() -> None:
    free = FairSemaphore(1)
    assert free.acquire("first")
    served: list[int] = []

    def wait(n: int) -> None:
        assert free.acquire(n, PATIENCE_S)
        served.append(n)
        free.release(n)

    with ThreadPoolExecutor(5) as pool:
        waiting = []
        for n in range(5):
            waiting.append(pool.submit(wait, n))
            waits_in(free, n + 1)
        assert not free.acquire("newcomer")
        free.release("first")
        assert free.acquire("first", PATIENCE_S)  # given back and taken at once: after all of them
        assert served == [0, 1, 2, 3, 4]
        for each in waiting:
            each.result()


def test_who_waits_no_longer_is_forgotten() -> None:
    free = FairSemaphore(1)
    assert free.acquire("ann")
    assert not free.acquire("bob", 0.01)
    free.release("ann")
    assert free.acquire("cyd")


def test_giving_back_twice_or_what_one_has_not_makes_none_more() -> None:
    free = FairSemaphore(1)
    assert free.acquire("ann")
    free.release("bob")
    assert not free.acquire("cyd")
    free.release("ann")
    free.release("ann")
    assert free.acquire("cyd")
    assert not free.acquire("dan")


def test_none_is_lost_and_none_is_lent_twice_however_short_the_waits_are() -> None:
    """Many a wait ends at the moment at which its turn comes."""
    free, lent, most = FairSemaphore(2), 0, 0
    counting = threading.Lock()

    def come_and_go(seed: int) -> None:
        nonlocal lent, most
        choose = random.Random(seed)
        for n in range(300):
            if free.acquire((seed, n), choose.choice([0.0, 0.0001, 0.001, 1.0])):
                with counting:
                    lent += 1
                    most = max(most, lent)
                time.sleep(choose.choice([0.0, 0.0001]))
                with counting:
                    lent -= 1
                free.release((seed, n))

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(come_and_go, seed) for seed in range(6)]:
            done.result(PATIENCE_S)
    assert most == 2
    assert [free.acquire(name) for name in "abc"] == [True, True, False]


@pytest.mark.parametrize("case", ["free", "served", "in vain"])
def test_an_exception_at_any_line_loses_none_and_leaves_the_lock_free(case: str) -> None:
    free = FairSemaphore(1)

    def give_back_when_somebody_waits(over: threading.Event) -> None:
        while not free._waiting and not over.wait(0.0005):
            pass
        free.release("first")

    def take_and_give_back() -> None:
        over = threading.Event()
        helped = pool.submit(give_back_when_somebody_waits, over) if case == "served" else None
        try:
            assert free.acquire("me", 0.001 if case == "in vain" else PATIENCE_S) != (
                case == "in vain"
            )
            free.release("me")
        except BaseException:
            free.release("me")  # as every caller does, who may hold what he was not told of
            raise
        finally:
            over.set()
            if helped is not None:
                helped.result(PATIENCE_S)

    def prepare() -> None:
        assert case == "free" or free.acquire("first")

    def check(tracer: Tracer) -> None:
        free.release("first")
        assert pool.submit(free.acquire, "other", PATIENCE_S).result(PATIENCE_S), tracer.where
        assert not free.acquire("one too many"), tracer.where
        free.release("other")
        assert (free.held, len(free._waiting)) == (0, 0), tracer.where

    with ThreadPoolExecutor(1) as pool:
        assert at_every_line(take_and_give_back, check, prepare) > 10
