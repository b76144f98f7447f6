"""What many need at once is read once; whoever reads and is ended takes nobody along."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from flashsale import (
    Outcome,
    OutcomeUnknown,
    Rejected,
    StoreUnavailable,
    WaitingRoom,
    waiting_room,
)
from flashsale.aio.sharing import Readings as AsyncReadings
from flashsale.readings import TooLate
from flashsale.sync.sharing import Readings
from flashsale.waiting_room import Rooms, Seen
from support.crowds import until
from support.tracing import Tracer, at_every_line

PATIENT_MS = 20_000

VIEW = waiting_room._read_room(
    "1111",
    1_000,
    "",
    [
        *(b"definition", msgspec.json.encode(WaitingRoom(rate_per_s=1))),
        *(b"state", b"running", b"rate", b"1", b"present", b"", b"seed", b""),
        *(b"fixed", b'{"key":"k","commitment":""}'),
    ],
    [1, 0, 0, 0],
    [0, 1, b"0.5", 0, 0],
)


def within(limit_ms: int) -> float:
    return time.monotonic() + limit_ms / 1000


class Crowd:
    """One thread that reads until `end` says how, and others that wait for it meanwhile."""

    def __init__(self, others: int, limit_ms: int = PATIENT_MS, *, any_age: bool = True) -> None:
        self.readings, self.limits = Readings(), [limit_ms] * others
        self.begun, self.ended = threading.Event(), threading.Event()
        self.any_age = any_age
        self.joined = self.anew = 0
        join = self.readings._table.join

        def counted(*args: Any) -> Any:
            self.joined += 1
            return join(*args)

        self.readings._table.join = counted  # type: ignore[method-assign]

    def first(self, end: Callable[[], str]) -> str:
        def read() -> str:
            self.begun.set()
            self.ended.wait(60)
            return end()

        return self.readings.share("x", read, within(PATIENT_MS))

    def other(self, limit_ms: int) -> str:
        def read() -> str:
            self.anew += 1
            return "anew"

        assert self.begun.wait(60)
        return self.readings.share("x", read, within(limit_ms), any_age=self.any_age)

    def run(self, end: Callable[[], str], *, after_s: float = 0.0) -> list[Any]:
        """What each was told, the reader first."""

        def told(work: Callable[[], str]) -> str | BaseException:
            try:
                return work()
            except BaseException as error:
                return error

        with ThreadPoolExecutor(1 + len(self.limits)) as pool:
            reader = pool.submit(told, lambda: self.first(end))
            waiting = [pool.submit(told, lambda ms=ms: self.other(ms)) for ms in self.limits]
            until(lambda: self.joined > len(self.limits))
            time.sleep(after_s)
            self.ended.set()
            return [asked.result(20) for asked in (reader, *waiting)]


def fail(error: BaseException) -> Callable[[], str]:
    def end() -> str:
        raise error

    return end


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt(), RuntimeError()], ids=repr)
def test_what_ends_the_reader_is_the_readers_own_and_somebody_else_reads(
    error: BaseException,
) -> None:
    crowd = Crowd(5)
    assert crowd.run(fail(error)) == [error, *["anew"] * 5]
    assert crowd.readings.share("x", lambda: "later", within(PATIENT_MS)) == "later"
    assert len(crowd.readings) == 0


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), OutcomeUnknown("lost")], ids=repr)
def test_after_a_reading_that_failed_somebody_else_reads(error: BaseException) -> None:
    crowd = Crowd(5)
    assert crowd.run(fail(error)) == [error, *["anew"] * 5]


def test_all_are_told_what_one_reads() -> None:
    crowd = Crowd(5)
    assert crowd.run(lambda: "read") == ["read"] * 6
    assert crowd.anew == 0


def test_who_must_not_be_told_what_is_older_than_the_question_waits_for_one_more_reading() -> None:
    crowd = Crowd(5, any_age=False)
    assert crowd.run(lambda: "read") == ["read", *["anew"] * 5]
    assert crowd.anew == 1
    assert len(crowd.readings) == 0


def test_a_refusal_is_told_to_all_who_asked_each_by_an_exception_of_their_own() -> None:
    crowd = Crowd(5)
    refused = crowd.run(fail(Rejected(Outcome.SALE_UNKNOWN, "sale")))
    assert [str(error) for error in refused] == [str(refused[0])] * 6
    assert len(set(map(id, refused))) == 6
    assert crowd.anew == 0


def test_whoever_has_no_time_left_does_not_read() -> None:
    crowd = Crowd(1, limit_ms=100)
    (_, told) = crowd.run(fail(StoreUnavailable("gone")), after_s=0.4)
    assert isinstance(told, TooLate)
    assert crowd.anew == 0


@pytest.mark.parametrize("any_age", [False, True])
@pytest.mark.parametrize("role", ["reads", "waits"])
def test_an_exception_at_any_line_is_the_callers_own_and_keeps_nobody_waiting(
    role: str, any_age: bool
) -> None:
    """The one who is interrupted reads, with somebody who waits, or waits for somebody."""
    readings, patient = Readings(), within(100_000)

    def share(read: Callable[[], str]) -> str:
        return readings.share("x", read, patient, any_age=any_age)

    def work() -> None:
        begun, over = threading.Event(), threading.Event()

        def read_slowly() -> str:
            begun.set()
            over.wait(10)
            return "read"

        def read_in_company() -> str:
            others.append(pool.submit(share, lambda: "theirs"))
            return "read"

        try:
            if role == "reads":
                share(read_in_company)
            else:
                others.append(pool.submit(share, read_slowly))
                begun.wait(10)
                threading.Timer(0.002, over.set).start()
                share(lambda: "mine")
        finally:
            over.set()

    def check(tracer: Tracer) -> None:
        for other in others:
            assert other.result(10) in ("read", "theirs"), tracer.where
        others.clear()
        assert pool.submit(share, lambda: "later").result(10) == "later", tracer.where
        assert len(readings) == 0, tracer.where

    others: list[Future[str]] = []
    with ThreadPoolExecutor(3) as pool:
        assert at_every_line(work, check) > 20


@pytest.mark.parametrize("cancelled", ["reader", "waiting"])
async def test_a_task_cancelled_at_any_await_takes_nobody_along(cancelled: str) -> None:
    readings, patient = AsyncReadings(), within(100_000)

    async def read() -> str:
        for _ in range(3):
            await asyncio.sleep(0)
        return "read"

    for steps in range(12):
        tasks = [asyncio.create_task(readings.share("x", read, patient)) for _ in range(4)]
        for _ in range(steps):
            await asyncio.sleep(0)
        victim = tasks[0 if cancelled == "reader" else 2]
        done = victim.done()
        victim.cancel()
        ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        others = [end for task, end in zip(tasks, ends, strict=True) if task is not victim]
        assert others == ["read"] * 3
        assert victim.cancelled() != done
        assert len(readings) == 0


# --- views that overtake each other -----------------------------------------------------------


def seen(at_ms: int, asked_at: float, sale: str = "1111") -> Seen:
    return Seen(msgspec.structs.replace(VIEW, sale=sale, at_ms=at_ms), asked_at)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (seen(1_000, 5.0), seen(1_001, 5.1)),
        (seen(1_000, 5.1), seen(1_001, 5.0)),  # it was asked for later, and answered sooner
        (seen(1_000, 5.0), seen(1_000, 5.1)),  # as after pausing, within the millisecond
        (seen(1_000, 5.0), seen(900, 6.0)),  # from a server that took over with an earlier clock
    ],
    ids=["later", "overtaken", "same millisecond", "another clock"],
)
def test_of_two_views_the_newer_is_kept_whichever_comes_last(older: Seen, newer: Seen) -> None:
    for order in ((older, newer), (newer, older)):
        rooms = Rooms()
        for view in order:
            rooms.remember(view)
        assert rooms == {"1111": newer}


def test_views_of_other_rooms_are_kept_beside_it_up_to_a_bound() -> None:
    rooms = Rooms()
    for number in range(waiting_room.ROOMS_MAX):
        rooms.remember(seen(1_000, 5.0, f"{number}"))
    assert len(rooms) == waiting_room.ROOMS_MAX
    rooms.remember(seen(1_000, 5.0, "more"))
    assert list(rooms) == ["more"]
