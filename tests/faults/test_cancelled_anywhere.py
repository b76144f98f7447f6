"""A cancellation, or an exception from outside, at every await of the asyncio client.

As `test_interrupted` for the blocking one: after each, the others have their own answers, a new
call is answered at once, every connection and place is back, and no reply is left unread.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from faults.checks import books_are_right
from flashsale import (
    Answer,
    AsyncFlashSale,
    FlashSale,
    HoldRequest,
    Key,
    Outcome,
    OutcomeUnknown,
    Sale,
    Sku,
    StoreUnavailable,
    WaitingRoom,
    batches,
)
from flashsale.aio.lines import _is_idle
from flashsale.embedded import EmbeddedServer
from support.tracing import Foreign

TIMEOUT_MS = 20_000
AT_ONCE_S = 10.0
KEYS = [Key("main", b"s" * 32)]

Work = Callable[[Any, int], Coroutine[Any, Any, Any]]


class Stepped:
    """Runs a coroutine; at one of its awaits `strike` is called, and what it returns is raised."""

    def __init__(
        self, work: Coroutine[Any, Any, Any], at: int, strike: Callable[[], BaseException | None]
    ) -> None:
        self._work, self._at, self._strike = work, at, strike
        self.steps = 0

    def __await__(self) -> Iterator[Any]:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                awaited = self._work.send(value) if error is None else self._work.throw(error)
            except StopIteration as end:
                return end.value
            error, self.steps = None, self.steps + 1
            if self.steps == self._at and (error := self._strike()) is not None:
                continue
            try:
                value = yield awaited
            except BaseException as raised:
                error = raised

    async def run(self) -> Any:
        return await self


class Stage:
    """A client that others use, too, and what is looked at after each strike."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.shop, self.sale = self.connect()

    def connect(self) -> tuple[AsyncFlashSale, Any]:
        shop = AsyncFlashSale.from_url(
            self.url, timeout_ms=TIMEOUT_MS, max_connections=2, keys=KEYS
        )
        return shop, shop.sale("s")

    async def renew(self) -> None:
        await self.shop.aclose()
        self.shop, self.sale = self.connect()

    async def hold(self, n: int, who: str) -> Answer:
        answer: Answer = await self.sale.hold(f"{who}-{n}", {"red": 1}, hold_id=f"{n}")
        return answer

    def is_right(self, n: int, who: str, answer: Any) -> bool:
        told = (answer.outcome, answer.buyer, answer.hold_id)
        return bool(told == (Outcome.HELD, f"{who}-{n}", f"{n}"))

    async def check(self, n: int) -> None:
        begun = time.monotonic()
        for who in ("new", "me"):
            assert self.is_right(n, who, await self.hold(n, who)), n
        assert time.monotonic() - begun < AT_ONCE_S, n
        policy = self.shop._gatherer.policy
        async with asyncio.timeout(AT_ONCE_S):
            while not policy.idle:  # noqa: ASYNC110 - nothing tells that it is
                await asyncio.sleep(0.001)
        assert not policy.live
        assert not policy._lanes
        assert not len(self.shop._readings)
        for node in self.shop._connections._nodes.values():
            pool = node.pool
            assert not [*pool._lent, *pool._waiting, *pool._connecting], n
            assert len(pool._idle) <= 2
            assert all([await _is_idle(idle) for idle in pool._idle]), n


@pytest.fixture
async def stage(own_server: EmbeddedServer, operator: FlashSale) -> Any:
    sale = operator.open(Sale("s", skus=[Sku("red", 10_000_000)]))
    sale.hold("known", {"red": 1}, hold_id="h")
    async with AsyncFlashSale.from_url(own_server.url, keys=KEYS) as shop:
        await shop.sale("s").queue.open(WaitingRoom(rate_per_s=1_000))
    stage = Stage(own_server.url)
    yield stage
    await stage.shop.aclose()
    books_are_right(sale)


async def find(stage: Stage, n: int) -> None:
    hold = await stage.sale.find("known", "h")
    assert (hold.buyer, hold.lines) == ("known", {"red": 1})


async def hold_many(stage: Stage, n: int) -> None:
    requests = [HoldRequest(f"many-{n}-{m}", {"red": 1}, "h") for m in range(7)]
    answers = await stage.sale.hold_many(requests)
    told = [(a.outcome, a.buyer) for a in answers]
    assert told == [(Outcome.HELD, f"many-{n}-{m}") for m in range(7)]


async def join(stage: Stage, n: int) -> None:
    stage.shop._rooms.clear()
    answer = await stage.sale.queue.join(f"guest-{n}")
    assert answer.outcome in (Outcome.JOINED, Outcome.CALLED)


async def find_anew(stage: Stage, n: int) -> None:
    await find(stage, n)


CASES: dict[str, tuple[Work, bool]] = {
    "hold": (lambda stage, n: stage.hold(n, "me"), False),
    "find": (find, False),
    "find, connecting": (find, True),
    "hold_many": (hold_many, False),
    "hold_many, connecting": (hold_many, True),
    "join, looking at the room": (join, False),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CASES)
async def test_cancelled_at_any_await_a_call_harms_nobody(
    name: str,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(batches, "CHUNK", 2)
    work, anew = CASES[name]
    outcomes: Counter[str] = Counter()
    for at in range(1, 10_000):
        if anew:
            await stage.renew()
        task, steps = await cancelled_at(at, stage, work)
        outcomes["cancelled" if task.cancelled() else "answered"] += 1
        if not task.cancelled():
            task.result()
        await stage.check(at)
        if steps < at:
            break
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: {steps} awaits, tried: {dict(outcomes)}\n")
    assert outcomes["cancelled"] >= steps - 1


async def cancelled_at(at: int, stage: Stage, work: Work) -> tuple[asyncio.Task[Any], int]:
    """The call, cancelled at one of its awaits, and how many it had; others are at it, too."""

    def cancel() -> None:
        asyncio.get_running_loop().call_soon(task.cancel)

    stepped = Stepped(work(stage, at), at, cancel)
    task: asyncio.Task[Any] = asyncio.ensure_future(stepped.run())
    ann = asyncio.ensure_future(stage.hold(at, "ann"))
    finding = asyncio.ensure_future(find(stage, at))
    bob = asyncio.ensure_future(stage.hold(at, "bob"))
    await asyncio.wait([task])
    await finding
    assert stage.is_right(at, "ann", await ann)
    assert stage.is_right(at, "bob", await bob)
    return task, stepped.steps


def strike_first_batch(stage: Stage, at: int, how: str, whose: str) -> list[Stepped]:
    """Strike the task of the next batch, or that of its call, and no later one, at an await."""
    target: Any = stage.shop._gatherer if whose == "the batch" else stage.shop._connections
    name, struck = "_run" if whose == "the batch" else "send", list[Stepped]()
    run = getattr(target, name)

    def strike() -> BaseException | None:
        if how != "cancelled":
            return Foreign()
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)
        return None

    def stepping(*args: Any) -> Any:
        if struck:
            return run(*args)
        struck.append(Stepped(run(*args), at, strike))
        return struck[0].run()

    setattr(target, name, stepping)
    return struck


@pytest.mark.timeout(600)
@pytest.mark.parametrize("connecting", [False, True], ids=["connected", "connecting"])
@pytest.mark.parametrize("whose", ["the batch", "its call"])
@pytest.mark.parametrize("how", ["cancelled", "an exception from outside"])
async def test_a_batchs_task_struck_at_any_await_ends_in_answers_or_true_errors(
    how: str, whose: str, connecting: bool, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own: an exception from outside goes to the loop, and the callers have their answers."""
    outcomes: Counter[str] = Counter()
    loop, strays = asyncio.get_running_loop(), list[Any]()
    loop.set_exception_handler(lambda _, context: strays.append(context["exception"]))
    for at in range(1, 10_000):
        if connecting:
            await stage.renew()
        stepped = strike_first_batch(stage, at, how, whose)
        who = ("ann", "bob", "me")
        told = await asyncio.gather(*(stage.hold(at, w) for w in who), return_exceptions=True)
        vars(stage.shop._gatherer).pop("_run", None)
        vars(stage.shop._connections).pop("send", None)
        for name, end in zip(who, told, strict=True):
            outcomes[type(end).__name__] += 1
            found = await stage.sale.find(f"{name}-{at}", f"{at}")
            if isinstance(end, StoreUnavailable):
                assert found is None
            elif not isinstance(end, OutcomeUnknown):
                assert stage.is_right(at, name, end)
                assert found is not None
        await stage.check(at)
        if stepped[0].steps < at:
            break
    with capsys.disabled():
        sys.stdout.write(f"\n{how}, {whose}: {stepped[0].steps} awaits, told: {dict(outcomes)}\n")
    if how == "cancelled":
        assert outcomes.keys() <= {"Answer", "StoreUnavailable", "OutcomeUnknown"}
    else:
        assert outcomes.keys() == {"Answer"}
        # The loop is told of a task's exception when the task goes: of the last one later, perhaps.
        assert {type(stray) for stray in strays} <= {Foreign}


async def test_who_is_struck_after_every_decision_is_told_that_it_may_have_been_applied(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
    send = stage.shop._connections.send

    async def struck(*args: Any) -> None:
        await send(*args)
        raise Foreign

    with monkeypatch.context() as patching:
        patching.setattr(stage.shop._connections, "send", struck)
        holds = [stage.hold(1, who) for who in ("ann", "bob")]
        told = await asyncio.gather(*holds, return_exceptions=True)
    assert {type(end) for end in told} == {OutcomeUnknown}
    for who in ("ann", "bob"):
        assert await stage.sale.find(f"{who}-1", "1") is not None
    await stage.check(1)
