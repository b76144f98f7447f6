"""What many need at once is read once; whoever reads and is ended takes nobody along."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from flashsale import OutcomeUnknown, StoreUnavailable, WaitingRoom, waiting_room
from flashsale.sync.sharing import Readings
from flashsale.waiting_room import Rooms, Seen

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


class Crowd:
    """One thread that reads until `end` says how, and others that wait for it meanwhile."""

    def __init__(self, others: int, limit_ms: int = PATIENT_MS) -> None:
        self.readings, self.limits = Readings(), [limit_ms] * others
        self.begun, self.ended = threading.Event(), threading.Event()
        self.left_ms: list[int] = []

    def first(self, end: Callable[[], str]) -> str:
        def read(_: int) -> str:
            self.begun.set()
            self.ended.wait(60)
            return end()

        return self.readings.share("x", read, PATIENT_MS)

    def other(self, limit_ms: int) -> str:
        def read(left_ms: int) -> str:
            self.left_ms.append(left_ms)
            return "anew"

        assert self.begun.wait(60)
        return self.readings.share("x", read, limit_ms)

    def run(self, end: Callable[[], str], *, after_s: float = 0.2) -> list[str | BaseException]:
        """What each was told, the reader first."""

        def told(work: Callable[[], str]) -> str | BaseException:
            try:
                return work()
            except BaseException as error:
                return error

        with ThreadPoolExecutor(1 + len(self.limits)) as pool:
            reader = pool.submit(told, lambda: self.first(end))
            waiting = [pool.submit(told, lambda ms=ms: self.other(ms)) for ms in self.limits]
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
    assert crowd.readings.share("x", lambda _: "later", PATIENT_MS) == "later"


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), OutcomeUnknown("lost")], ids=repr)
def test_after_a_reading_that_failed_somebody_else_reads(error: BaseException) -> None:
    crowd = Crowd(5)
    assert crowd.run(fail(error)) == [error, *["anew"] * 5]


def test_all_are_told_what_one_reads() -> None:
    crowd = Crowd(5)
    assert crowd.run(lambda: "read") == ["read"] * 6
    assert crowd.left_ms == []


def test_whoever_takes_over_reads_with_the_time_that_is_left() -> None:
    crowd = Crowd(1, limit_ms=1_000)
    assert crowd.run(fail(StoreUnavailable("gone")), after_s=0.5)[1] == "anew"
    assert 0 < crowd.left_ms[0] <= 520


def test_whoever_has_no_time_left_does_not_read() -> None:
    crowd = Crowd(1, limit_ms=100)
    (_, told) = crowd.run(fail(StoreUnavailable("gone")), after_s=0.4)
    assert isinstance(told, StoreUnavailable)
    assert "no answer within 100 ms" in str(told)
    assert crowd.left_ms == []


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
