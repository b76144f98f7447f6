"""Windows under faults: lost replies, and processes that are killed in the middle of settling."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import pytest
import redis

from faults.checks import books_are_right, kinds_of
from faults.window_worker import taps_of
from flashsale import CueHandle, EventKind, FlashSale, Outcome, SaleHandle, draw
from flashsale.embedded import EmbeddedServer
from flashsale.scripts import load_script, script_names
from support.cues import KEY, close, drawn_by, known_of, named, open_cue, seed_of, tap, verified
from support.lab import T0, Lab
from support.proxy import FaultProxy
from support.releases import environment

_number = itertools.count()
WORKER = Path(__file__).with_name("window_worker.py")
BUYERS = [f"b{n}" for n in range(6)]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start() as server:
        yield server


@pytest.fixture
def raw(server: EmbeddedServer) -> Iterator[redis.Redis]:
    """A plain client of a server that has every script, so that each call is one request."""
    with redis.Redis.from_url(server.url) as client:
        for name in script_names():
            client.script_load(load_script(name).source)
        yield client


@pytest.fixture
def lab(server: EmbeddedServer, raw: redis.Redis) -> Iterator[Lab]:
    with FlashSale.from_url(server.url, timeout_ms=20_000, keys=[KEY]) as shop:
        yield Lab(shop, raw, lambda: f"windows-{next(_number)}")


@pytest.fixture
def proxy(server: EmbeddedServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.port) as proxy:
        yield proxy


# --- lost replies --------------------------------------------------------------------------


def of(script: str) -> Callable[[list[bytes]], bool]:
    """Requests of this script."""
    sha = load_script(f"window/{script}").sha.encode()
    return lambda words: words[1:2] == [sha]


@pytest.fixture
def through(
    lab: Lab, connect: Callable[..., FlashSale], proxy: FaultProxy
) -> tuple[SaleHandle, SaleHandle]:
    """A sale as its operator sees it, and as a client sees it that is behind the proxy."""
    sale = lab.open({"red": 10})
    mine = connect(proxy.url, timeout_ms=10_000, keys=[KEY]).sale(sale.id)
    mine.snapshot()  # its connection is open and its server checked
    return sale, mine


@pytest.mark.parametrize("lost", ["cue", "enter", "freeze", "award", "reveal", "result", "entries"])
def test_a_dropped_reply_on_a_windows_way_is_made_good(
    lost: str, lab: Lab, through: tuple[SaleHandle, SaleHandle], proxy: FaultProxy
) -> None:
    sale, mine = through
    proxy.drop_replies(times=1, only=of(lost))

    handle = open_cue(lab, mine)
    entries = [tap(handle, buyer) for buyer in BUYERS]
    lab.set_time(sale, handle.cue().reveals_at_ms)
    settled = handle.settle(wait=False)
    told = [entry.result(wait_ms=0).outcome for entry in entries]

    assert proxy.faults == 1
    assert {entry.outcome for entry in entries} == {Outcome.ENTERED}
    assert [entry.replayed for entry in entries].count(True) == (lost == "enter")
    assert (settled.outcome, settled.entrants, settled.awarded) == (Outcome.SETTLED, 6, 3)
    assert sorted(outcome.name for outcome in told) == ["HELD"] * 3 + ["NOT_DRAWN"] * 3
    once = kinds_of(sale)
    assert (once[EventKind.HELD], once[EventKind.SET_ASIDE]) == (3, 3)
    assert [buyer for buyer, _ in drawn_by(handle, BUYERS)] == drawn_purely(handle, BUYERS)[:3]
    books_are_right(sale)


def test_a_dropped_reply_to_a_void_is_made_good(
    lab: Lab, through: tuple[SaleHandle, SaleHandle], proxy: FaultProxy
) -> None:
    sale, mine = through
    handle = open_cue(lab, mine)
    proxy.drop_replies(times=1, only=of("void"))
    answer = handle.void("the link was wrong")
    assert (answer.outcome, answer.replayed, proxy.faults) == (Outcome.VOID, True, 1)
    lab.set_time(sale, handle.cue().reveals_at_ms)
    proxy.drop_replies(times=1, only=of("give_back"))
    given = handle.give_back()
    assert (given.outcome, given.replayed, proxy.faults) == (Outcome.GIVEN_BACK, True, 2)
    assert (kinds_of(sale)[EventKind.SET_ASIDE], kinds_of(sale)[EventKind.VOIDED]) == (2, 1)
    assert books_are_right(sale).skus["red"].available == 10


def test_a_dropped_reply_to_a_publication_is_made_good_and_the_first_time_stays(
    lab: Lab, through: tuple[SaleHandle, SaleHandle], proxy: FaultProxy
) -> None:
    sale, mine = through
    told: list[str] = []
    handle = open_cue(lab, mine, publish="the board", publish_wait_ms=5_000)
    close(lab, sale, handle)
    proxy.drop_replies(times=1, only=of("publish"))
    handle.settle(wait=False, publish=lambda digest, _: told.append(digest))
    view = handle.view()
    assert (told, proxy.faults) == ([view.digest], 1)
    assert view.published_at_ms == handle.cue().closes_at_ms


def drawn_purely(handle: CueHandle, buyers: list[str]) -> list[str]:
    """The order of the draw, by the functions alone."""
    cue = handle.cue()
    salt, seed = known_of(handle).salt, seed_of(handle)
    entries = [(buyer, 0, (("red", 1, 1),)) for buyer in buyers]
    drawn = draw.draw(draw.freeze(cue, salt, entries, at_ms=cue.closes_at_ms), seed)
    return [drawn.frozen.buyers[who] for who in drawn.order]


# --- processes ----------------------------------------------------------------------------


class Process:
    """A worker, and the lines that it tells."""

    def __init__(self, url: str, sale: str, *words: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), url, sale, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        self._lines: IO[str] = self._process.stdout
        self._orders: IO[str] = self._process.stdin

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._lines.close()
        with suppress(BrokenPipeError):
            self._orders.close()

    def order(self, word: str) -> None:
        self._orders.write(f"{word}\n")
        self._orders.flush()

    def step_to(self, script: str, times: int) -> None:
        """Let it make its calls up to the one of this script that would be the `times`th."""
        while line := self._lines.readline().strip():
            times -= line == script
            if not times:
                return
            self.order("step")
        raise AssertionError(f"it ended before {script}")

    def end(self) -> str:
        """Wait for its end, and its last line."""
        last = [line.strip() for line in self._lines][-1]
        assert self._process.wait(timeout=60) == 0
        return last

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=60)


@pytest.mark.parametrize("killed", [1, 3], ids=["one of three", "all three"])
def test_processes_enter_one_cue_and_settle_it_though_some_are_killed_on_the_way(
    killed: int, lab: Lab, server: EmbeddedServer, closing: ExitStack
) -> None:
    """The winners are those of the pure function, whoever entered whom and whoever settled."""
    sale = lab.open({"red": 40})
    handle = open_cue(lab, sale, stock={"red": 24}, windows=2, proof=False)
    lab.set_time(sale, T0 + 6_000)

    def start(*words: str) -> Process:
        return closing.enter_context(Process(server.url, sale.id, *words))

    shares = [("sync", 0, 60), ("async", 30, 90), ("sync", 70, 120)]  # some are entered twice
    entering = [
        start("enter", shell, str(first), str(last), str(seed))
        for seed, (shell, first, last) in enumerate(shares)
    ]
    assert [process.end() for process in entering] == ["entered"] * 3

    lab.set_time(sale, handle.cue().reveals_at_ms)
    settling = [start("settle", shell) for shell in ("sync", "async", "sync")]
    for process in settling:
        process.step_to("window/award", 3)  # two have been made, and all are on their way
    for process in settling[:killed]:
        process.order("step")  # it is killed while the third is made, before or after
        process.kill()
    if killed == 3:
        assert handle.view().state.value == "frozen"
        assert 6 <= handle.view().awarded <= 9
        assert handle.settle(wait=False).awarded == 24
    else:
        for process in settling[killed:]:
            process.order("run")
        assert [process.end() for process in settling[killed:]] == ["settled 24"] * 2

    record: Any = verified(handle)
    buyers = [f"b{n}" for n in range(120)]
    assert drawn_by(handle, buyers) == winners_purely(handle, shares)
    assert [outcome for _, outcome, _ in record["awarded"]] == ["held"] * 24
    assert named(handle, buyers).keys() == {w for g in record["entrants"] for w in g["who"]}
    assert kinds_of(sale)[EventKind.HELD] == 24
    assert books_are_right(sale).skus["red"].held == 24


def winners_purely(
    handle: CueHandle, shares: list[tuple[str, int, int]]
) -> list[tuple[str, dict[str, int]]]:
    cue = handle.cue()
    salt, seed = known_of(handle).salt, seed_of(handle)
    taps = [told for _, first, last in shares for told in taps_of(first, last)]
    entries = [(buyer, after_ms // 3_000, (("red", 1, 1),)) for buyer, after_ms in taps]
    drawn = draw.draw(draw.freeze(cue, salt, entries, at_ms=cue.closes_at_ms), seed)
    return [(drawn.frozen.buyers[who], dict(lot)) for who, lot in drawn.winners]
