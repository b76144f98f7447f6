"""From the encoder's cue to the winners' holds: a fairness window on a real HLS stream."""

from __future__ import annotations

import functools
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from flashsale import FlashSale, Outcome, Sale, Sku, streamtime, verify
from flashsale.draw import proof_of
from flashsale.streamtime import HlsTimeline, Position, StreamClock, read_cue, write_cue
from flashsale.streamtime.dates import format_date
from support.lab import T0, Lab
from support.streams import Kind, Run, Stream, make_stream

LAGS_MS = (1_400, 3_500, 6_500, 10_500)
VIEWERS = 24
"""In each cohort."""

CUE_AT = T0 + 5_000
PIECES = [Run(9, server_ms=T0, label_ms=T0 - 2_300), Run(10, server_ms=T0 + 9_000)]
"""An encoder that stamped its dates 2.3 s late, and after a restart stamps them right."""


def watched(stream: Stream, server_ms: int) -> tuple[StreamClock, HlsTimeline]:
    """What the operator's process knows by then: it fetches the playlist five times a second."""
    clock, timeline = StreamClock(doubt_ms=200), HlsTimeline()
    for now in range(T0 + 1_000, server_ms + 1, 200):
        clock.take(timeline.read(stream.playlist(now), now).events)
    return clock, timeline


@pytest.mark.parametrize("kind", ["ts", "fmp4"])
def test_everybody_who_saw_the_cue_on_the_stream_has_the_same_chance(lab: Lab, kind: Kind) -> None:
    stream = make_stream(PIECES, kind)
    sale = lab.open({"red": 20}, hold_ttl_ms=60_000)
    lab.set_time(sale, CUE_AT)
    clock, timeline = watched(stream, CUE_AT)
    position = Position(stream.label_at(CUE_AT), 0)
    cue = sale.cue("red", at=position, clock=clock, window_ms=3_000)
    fixed = cue.cue()
    assert abs(fixed.cue_time_ms - CUE_AT) <= 700

    # The packager puts the cue with its nonce into the playlist, where players find it.
    line = write_cue("red", position_ms=position.ms, nonce=fixed.nonce, window_ms=3_000)
    live = replace(stream, cues=((CUE_AT, line),))
    chance = Random(1)
    taps = []
    for lag_ms in LAGS_MS:
        for n in range(VIEWERS):
            reaction_ms = round(400 + chance.expovariate(1 / 350)) % 2_900
            shown_ms = CUE_AT + reaction_ms  # the frame on the screen, by the time it was encoded
            taps.append((shown_ms + lag_ms + 40, f"lag-{lag_ms}-{n}", shown_ms))
    told: Counter[Outcome] = Counter()
    for arrival_ms, buyer, shown_ms in sorted(taps):
        player = HlsTimeline()
        clock.take(timeline.read(live.playlist(arrival_ms), arrival_ms).events)
        (seen,) = player.read(live.playlist(arrival_ms), arrival_ms).cues
        second = shown_ms >= PIECES[1].server_ms
        at = Position(stream.label_at(shown_ms), int(second))
        elapsed = clock.elapsed(position, at, now_ms=arrival_ms).ms
        proof = proof_of(seen.nonce, sale.id, seen.id, buyer)
        lab.set_time(sale, arrival_ms)
        entry = cue.enter(buyer, {"red": 1}, position_ms=position.ms + elapsed, proof=proof)
        told[entry.outcome] += 1
    assert told == {Outcome.ENTERED: len(taps)}

    lab.set_time(sale, fixed.reveals_at_ms)
    settled = cue.settle(wait=False)
    assert (settled.entrants, settled.drawn, settled.awarded) == (len(taps), 20, 20)
    won: Counter[str] = Counter()
    for _, buyer, _ in taps:
        answer: Any = cue.result(buyer, wait_ms=0)
        if answer.outcome is Outcome.HELD:
            won[buyer.split("-")[1]] += 1
            sale.confirm(answer).unwrap()
    assert won.total() == 20
    # First come, first served would give all twenty to the fastest; at random each cohort gets
    # five, and more than fourteen for one of them has a probability of 4e-7 (hypergeometric).
    assert max(won.values()) < 15
    assert verify.verify(cue.record()).ok
    assert sale.snapshot().skus["red"].sold == 20
    assert sale.audit().problems == ()


def test_the_example_sells_to_those_who_saw_the_cue(own_shop: FlashSale) -> None:
    """The example in the package's docstring, on a stream that runs while it does."""
    code = textwrap.dedent(streamtime.__doc__.split("::\n", 1)[1].split("A tap behind", 1)[0])
    names: dict[str, Any] = {**vars(streamtime), "time": time, "Outcome": Outcome}
    names["proof_of"] = proof_of
    exec(compile(code, "the example", "exec"), names)
    stream = make_stream([Run(8, server_ms=time.time_ns() // 1_000_000 - 3_000)])

    def playlist(*cues: tuple[int, str]) -> str:
        return replace(stream, cues=cues).playlist(time.time_ns() // 1_000_000)

    sale = own_shop.open(Sale("1111", [Sku("lipstick", 2)]))
    quick = functools.partial(sale.cue, lag_cap_ms=0, grace_ms=200)
    line = names["link_up"](SimpleNamespace(cue=quick), playlist)
    position_ms = read_cue(line).position_ms
    buyers = ["ann", "bob", "cyd", "dan"]
    for number, buyer in enumerate(buyers):
        shown = format_date(position_ms + 100 * number)
        entry = names["tap"](sale, buyer, playlist((0, line)), shown)
        assert entry.outcome is Outcome.ENTERED
    assert len(names["winners"](sale, buyers)) == 2
    assert sale.snapshot().skus["lipstick"].held == 2


@pytest.fixture
def own_shop() -> Iterator[FlashSale]:
    with FlashSale.embedded() as shop:
        yield shop
