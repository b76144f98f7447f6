"""An exception from outside at every line of a call, ours and redis-py's, in the blocking client.

Other callers share the client. After each: the exception was the caller's own, the others have
their own answers, a new call is answered at once, every connection and place is back, no reply is
left unread, and in the end the books agree. Figures are printed (`pytest -s`); `--long` takes every
line, a plain run some of them.
"""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from faults.checks import books_are_right
from flashsale import (
    Answer,
    ConfigurationError,
    FlashSale,
    HoldRequest,
    Key,
    Outcome,
    Sale,
    Sku,
    WaitingRoom,
    batches,
)
from flashsale.embedded import EmbeddedServer
from support.crowds import until
from support.tracing import Foreign, Killed, Tracer, is_cpythons

TIMEOUT_MS = 20_000
AT_ONCE_S = 10.0
"""Much less than a time-out, and much more than a busy machine takes."""

Work = Callable[[Any, int], Any]


class Stage:
    """A client that others use, too, and what is looked at after each interruption."""

    def __init__(self, url: str, pool: ThreadPoolExecutor) -> None:
        self.url, self.pool = url, pool
        self.shop = self.connect()
        self.sale: Any = self.shop.open(Sale("s", skus=[Sku("red", 10_000_000)]))
        self.sale.queue.open(WaitingRoom(rate_per_s=1_000))
        self.sale.hold("known", {"red": 1}, hold_id="h")
        self.number = 0

    def connect(self) -> FlashSale:
        keys = [Key("main", b"s" * 32)]
        return FlashSale.from_url(self.url, timeout_ms=TIMEOUT_MS, max_connections=2, keys=keys)

    def renew(self) -> None:
        """A client that has no connection yet."""
        self.shop.close()
        self.shop = self.connect()
        self.sale = self.shop.sale("s")

    def hold(self, n: int, who: str, **options: Any) -> Answer:
        answer: Answer = self.sale.hold(f"{who}-{n}", {"red": 1}, hold_id=f"{n}", **options)
        return answer

    def is_right(self, n: int, who: str, answer: Answer) -> bool:
        told = (answer.outcome, answer.buyer, answer.hold_id)
        return told == (Outcome.HELD, f"{who}-{n}", f"{n}")

    def check(self, n: int, where: str) -> None:
        """Nothing is lost, nothing waits, and a new call is answered at once."""
        begun = time.monotonic()
        new = self.pool.submit(self.hold, n, "new").result(30)
        assert self.is_right(n, "new", new), where
        assert time.monotonic() - begun < AT_ONCE_S, where
        again = self.hold(n, "me")
        assert self.is_right(n, "me", again), where
        until(lambda: self.is_idle())
        assert not self.shop._performing, where  # closing would wait for it
        for node in self.shop._connections._nodes.values():
            held = node.pool
            assert not [*held._lent, *held._waiting, *held._connecting], where
            assert len(held._idle) <= 2, where
            assert not any(idle is None or idle.can_read(0) for idle in held._idle), where

    def is_idle(self) -> bool:
        policy = self.shop._gatherer.policy
        return policy.idle and not (policy.live or policy._lanes or len(self.shop._readings))


@pytest.fixture
def stage(own_server: EmbeddedServer) -> Iterator[Stage]:
    with ThreadPoolExecutor(8) as pool:
        stage = Stage(own_server.url, pool)
        yield stage
        books_are_right(stage.sale)
        stage.shop.close()


@contextmanager
def in_company(stage: Stage, n: int) -> Iterator[None]:
    """Two others wait, and go with the next one who comes, who has more time: he carries them."""
    policy = stage.shop._gatherer.policy
    may_go = policy._may_go
    policy._may_go = lambda lane: len(lane.waiting) >= 3 and may_go(lane)  # type: ignore[method-assign]
    others = [
        stage.pool.submit(stage.hold, n, who, timeout_ms=TIMEOUT_MS - 1_000)
        for who in ("ann", "bob")
    ]
    until(lambda: policy.waiting == 2)
    try:
        yield
    finally:
        policy._may_go = may_go  # type: ignore[method-assign]
    stage.check(n, "")  # in the same lane: whoever waits still goes with it
    for who, other in zip(("ann", "bob"), others, strict=True):
        assert stage.is_right(n, who, other.result(30))


@contextmanager
def beside_a_carrier(stage: Stage, n: int) -> Iterator[None]:
    """Somebody with more time carries; who is interrupted waits for the answer."""
    policy = stage.shop._gatherer.policy
    may_go = policy._may_go
    policy._may_go = lambda lane: len(lane.waiting) >= 2 and may_go(lane)  # type: ignore[method-assign]
    carrier = stage.pool.submit(stage.hold, n, "ann", timeout_ms=TIMEOUT_MS + 5_000)
    until(lambda: policy.waiting == 1)
    try:
        yield
    finally:
        policy._may_go = may_go  # type: ignore[method-assign]
    stage.check(n, "")
    assert stage.is_right(n, "ann", carrier.result(30))


@contextmanager
def alone(stage: Stage, n: int) -> Iterator[None]:
    yield


@contextmanager
def anew(stage: Stage, n: int) -> Iterator[None]:
    """The client has no connection, and knows nothing of its server."""
    stage.renew()
    yield


def hold_many(stage: Stage, n: int) -> None:
    requests = [HoldRequest(f"many-{n}-{m}", {"red": 1}, "h") for m in range(7)]
    answers = stage.sale.hold_many(requests)
    assert [(a.outcome, a.buyer) for a in answers] == [
        (Outcome.HELD, f"many-{n}-{m}") for m in range(7)
    ]


def find(stage: Stage, n: int) -> None:
    hold = stage.sale.find("known", "h")
    assert (hold.buyer, hold.lines) == ("known", {"red": 1})


def look(stage: Stage, n: int) -> None:
    stage.shop._rooms.clear()
    answer = stage.sale.queue.join(f"guest-{n}")
    assert answer.outcome in (Outcome.JOINED, Outcome.CALLED)


CASES: dict[str, tuple[Work, Any, int]] = {
    "hold, alone": (lambda stage, n: stage.hold(n, "me"), alone, 5),
    "hold, carrying others": (lambda stage, n: stage.hold(n, "me"), in_company, 5),
    "hold, carried": (lambda stage, n: stage.hold(n, "me"), beside_a_carrier, 5),
    "hold, connecting": (lambda stage, n: stage.hold(n, "me"), anew, 37),
    "hold_many": (hold_many, alone, 23),
    "find": (find, alone, 7),
    "join, looking at the room": (look, alone, 17),
}
"""What is done, in which company, and every which line a plain run takes."""


def told(tracer: Tracer, work: Work, stage: Stage, n: int) -> str:
    """Whether a call raised what was raised in it, or was answered."""
    try:
        with tracer:
            work(stage, n)
    except tracer.kind as error:
        return "raised" if tracer.where in str(error) else "raised something else"
    except TypeError as error:
        if not is_cpythons(error):
            raise
        return "raised something of CPython's own"
    return "answered"


# redis-py's sockets are closed by the garbage collector where it is interrupted while it connects.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_interrupted_at_any_line_a_call_harms_nobody(
    name: str,
    stage: Stage,
    long: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(batches, "CHUNK", 2)
    work, company, stride = CASES[name]
    outcomes: Counter[str] = Counter()
    strike = 1
    while True:
        n = stage.number = stage.number + 1
        tracer = Tracer(strike, kind=Killed if strike % 2 else Foreign)
        with company(stage, n):
            outcomes[told(tracer, work, stage, n)] += 1
        stage.check(n, tracer.where)
        if not tracer.where:
            break
        strike += 1 if long else stride
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: {tracer.lines} lines, tried: {dict(outcomes)}\n")
    assert outcomes["raised"] >= 0.9 * (outcomes.total() - 1)


# --- what nobody ends ---------------------------------------------------------------------


def test_a_batch_whose_carrier_is_gone_without_a_word_is_ended_at_its_deadline(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was interrupted, and again while it handed its batch on."""
    gatherer = stage.shop._gatherer
    leave, carried = gatherer._leave, gatherer._carry

    def vanish(batch: Any, caller: Any) -> None:
        monkeypatch.setattr(gatherer, "_leave", lambda caller: None)
        raise Killed

    monkeypatch.setattr(gatherer, "_carry", vanish)
    with pytest.raises(Killed):
        stage.hold(1, "gone", timeout_ms=1_100)
    monkeypatch.setattr(gatherer, "_leave", leave)
    monkeypatch.setattr(gatherer, "_carry", carried)
    (batch,) = gatherer.policy.flying
    behind = stage.pool.submit(stage.hold, 1, "behind", timeout_ms=2_000)  # of the same lane
    assert stage.is_right(1, "behind", behind.result(30))
    assert batch not in gatherer.policy.flying
    gatherer.policy.finished(batch)  # and once more, as by a carrier who comes back
    stage.check(1, "")


def test_a_signal_handler_that_uses_the_client_it_interrupted_is_told_so(stage: Stage) -> None:
    """Instead of waiting for ever for what it interrupted."""
    guard = stage.shop._gatherer._guard
    with pytest.raises(ConfigurationError, match="signal handler"):
        guard.run(lambda: stage.hold(1, "handler"))
    stage.check(1, "")


@pytest.mark.parametrize("kind", [Foreign, KeyboardInterrupt, SystemExit, MemoryError])
def test_a_signal_in_the_thread_that_carries_others_reaches_that_caller_alone(
    kind: type[BaseException], stage: Stage, own_server: EmbeddedServer
) -> None:
    def alarm(*_: object) -> None:
        raise kind

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        with in_company(stage, 1), redis.Redis.from_url(own_server.url) as raw:
            raw.client_pause(300)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(kind):
                stage.hold(1, "me")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
