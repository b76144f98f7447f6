"""The semaphore of the blocking client's connections: first come, first served, none is lost."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from flashsale.sync.semaphores import FairSemaphore

PATIENCE_S = 30.0


def waits_in(free: FairSemaphore, count: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while len(free._waiting) != count:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_who_waits_is_served_in_the_order_of_coming_and_passed_by_nobody() -> None:
    free = FairSemaphore(1)
    assert free.acquire()
    served: list[int] = []

    def wait(n: int) -> None:
        assert free.acquire(PATIENCE_S)
        served.append(n)
        free.release()

    with ThreadPoolExecutor(5) as pool:
        waiting = []
        for n in range(5):
            waiting.append(pool.submit(wait, n))
            waits_in(free, n + 1)
        assert not free.acquire()
        free.release()
        assert free.acquire(PATIENCE_S)  # given back and taken at once: after all of them
        assert served == [0, 1, 2, 3, 4]
        for each in waiting:
            each.result()


def test_who_waits_no_longer_is_forgotten() -> None:
    free = FairSemaphore(1)
    assert free.acquire()
    assert not free.acquire(0.01)
    free.release()
    assert free.acquire()


def test_none_is_lost_and_none_is_lent_twice_however_short_the_waits_are() -> None:
    """Many a wait ends at the moment at which its turn comes."""
    free, lent, most = FairSemaphore(2), 0, 0
    counting = threading.Lock()

    def come_and_go(seed: int) -> None:
        nonlocal lent, most
        choose = random.Random(seed)
        for _ in range(300):
            if free.acquire(choose.choice([0.0, 0.0001, 0.001, 1.0])):
                with counting:
                    lent += 1
                    most = max(most, lent)
                time.sleep(choose.choice([0.0, 0.0001]))
                with counting:
                    lent -= 1
                free.release()

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(come_and_go, seed) for seed in range(6)]:
            done.result(PATIENCE_S)
    assert most == 2
    assert free.acquire()
    assert free.acquire()
    assert not free.acquire()
