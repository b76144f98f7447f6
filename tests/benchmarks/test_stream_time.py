"""A refresh of a long playlist, by what it shares with the one before, and the clock behind it."""

from __future__ import annotations

from itertools import count

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from flashsale.streamtime import HlsTimeline, StreamClock
from flashsale.streamtime.dates import format_date

T0 = 1_795_000_000_000
SEGMENTS = 4_500
"""Five hours of 4 s."""


def playlist(first: int, stop: int) -> str:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:4", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for n in range(first, stop):
        lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{format_date(T0 + n * 4_000)}")
        lines += ["#EXTINF:4.000000,", f"https://cdn.example.com/live/1080p/segment-{n:08}.ts"]
    return "\n".join(lines) + "\n"


def test_read_a_long_playlist_for_the_first_time(benchmark: BenchmarkFixture) -> None:
    text = playlist(0, SEGMENTS)
    reading = benchmark(lambda: HlsTimeline().read(text, T0))
    assert len(reading.places) == SEGMENTS


@pytest.mark.parametrize("slides", [False, True], ids=["EVENT", "DVR"])
def test_refresh_a_long_playlist(benchmark: BenchmarkFixture, slides: bool) -> None:
    timeline, numbers = HlsTimeline(), count(1)
    timeline.read(playlist(0, SEGMENTS), T0)

    def refreshed() -> tuple[tuple[str, int], dict[str, object]]:
        n = next(numbers)
        return (playlist(n * slides, SEGMENTS + n), T0 + n * 4_000), {}

    reading = benchmark.pedantic(timeline.read, setup=refreshed, rounds=50)
    assert len(reading.events) == 1


def test_take_a_sample_and_map_a_position(benchmark: BenchmarkFixture) -> None:
    clock, numbers = StreamClock(), count(1)

    def sighted() -> int:
        now_ms = T0 + next(numbers) * 1_000
        clock.add(now_ms, now_ms)
        return clock.server_time(now_ms, now_ms=now_ms).server_ms

    assert benchmark(sighted) > T0
