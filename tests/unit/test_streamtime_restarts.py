"""Playlists that start over, and old copies that look the same by their numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashsale import InvalidRequest
from flashsale.streamtime import HlsReading, HlsTimeline, Position, StreamClock, write_cue
from flashsale.streamtime.dates import format_date

T0 = 1_795_000_000_000
HOUR_MS = 3_600_000


def show(start_ms: int, first: int, stop: int, *, end: bool = False, step_ms: int = 4_000) -> str:
    """Segments of a show that began at a time, each with its date."""
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:4", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for n in range(first, stop):
        lines += [f"#EXT-X-PROGRAM-DATE-TIME:{format_date(start_ms + n * step_ms)}"]
        lines += [f"#EXTINF:{step_ms / 1_000},", f"{n}.ts"]
    return "\n".join(lines + ["#EXT-X-ENDLIST"] * end) + "\n"


def read_at_its_end(timeline: HlsTimeline, start_ms: int, first: int, stop: int) -> HlsReading:
    return timeline.read(show(start_ms, first, stop), start_ms + stop * 4_000)


def test_an_event_that_starts_over_is_read_from_its_first_refresh_on() -> None:
    timeline, clock = HlsTimeline(), StreamClock()
    clock.take(read_at_its_end(timeline, T0, 0, 900).events)
    for count in range(1, 40):
        reading = read_at_its_end(timeline, T0 + 2 * HOUR_MS, 0, count)
        clock.take(reading.events)
        assert not reading.stale
        assert reading.edge == Position(T0 + 2 * HOUR_MS + count * 4_000, 1)
    now_ms = T0 + 2 * HOUR_MS + 39 * 4_000
    assert clock.server_time(now_ms, now_ms=now_ms).server_ms == now_ms


def test_the_next_show_after_an_end_is_read() -> None:
    timeline = HlsTimeline()
    assert timeline.read(show(T0, 0, 300, end=True), T0 + HOUR_MS).ended
    reading = read_at_its_end(timeline, T0 + 2 * HOUR_MS, 0, 3)
    assert (reading.stale, reading.ended, len(reading.events)) == (False, False, 1)


def test_a_stream_that_starts_over_when_it_was_young_is_read_too() -> None:
    timeline = HlsTimeline()
    read_at_its_end(timeline, T0, 0, 2)
    reading = read_at_its_end(timeline, T0 + 9_000, 0, 1)  # its labels moved by 9 s only
    assert reading.edge == Position(T0 + 13_000, 1)


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("first", [0, 500])
def test_old_copies_stay_stale_before_and_after_a_restart(first: int, end: bool) -> None:
    timeline = HlsTimeline()
    old = show(T0, first, 600, end=end)
    read_at_its_end(timeline, T0, 850, 900)
    for seen_ms in range(T0 + HOUR_MS, T0 + 3 * HOUR_MS, 300_000):
        assert timeline.read(old, seen_ms).stale
    restarted = T0 + 4 * HOUR_MS
    numbers = set()
    for count in range(1, 200):  # a cache answers every other time
        reading = read_at_its_end(timeline, restarted, 0, count)
        assert reading.edge is not None
        numbers.add(reading.edge.discontinuity)
        assert timeline.read(old, restarted + count * 4_000).stale
        assert timeline.read(show(T0, 850, 900), restarted + count * 4_000).stale
    assert numbers == {1}


def test_an_old_copy_is_stale_whatever_the_encoder_did_to_its_labels() -> None:
    timeline = HlsTimeline()
    read_at_its_end(timeline, T0, 0, 20)
    moved = timeline.read(show(T0 - 5_000, 1, 21), T0 + 84_000)
    assert moved.shift_ms == -5_000
    assert timeline.read(show(T0, 0, 20), T0 + 85_000).stale  # ends later than what is known


def test_parts_that_are_longer_than_their_segment_make_no_restart() -> None:
    timeline = HlsTimeline()
    text = show(T0, 0, 5)
    read_at_its_end(timeline, T0, 0, 6)
    date = f"#EXT-X-PROGRAM-DATE-TIME:{format_date(T0 + 20_000)}\n"
    parts = date + '#EXT-X-PART:DURATION=2.1,URI="p"\n' * 2
    assert timeline.read(text + parts, T0 + 24_000).stale


def test_a_restart_with_earlier_dates_is_believed_when_nothing_else_is_new_for_a_minute() -> None:
    timeline = HlsTimeline()
    read_at_its_end(timeline, T0, 0, 900)
    now_ms = T0 + 900 * 4_000
    readings = [
        timeline.read(show(T0 - HOUR_MS, 0, 1 + passed // 4), now_ms + passed * 1_000)
        for passed in range(0, 80, 4)
    ]
    assert [reading.stale for reading in readings] == [True] * 15 + [False] * 5
    assert readings[-1].edge == Position(T0 - HOUR_MS + 20 * 4_000, 1)


def test_a_copy_that_grows_is_no_restart_while_the_stream_goes_on() -> None:
    timeline = HlsTimeline()
    for passed in range(60):
        read_at_its_end(timeline, T0, 800 + passed, 850 + passed)
        assert read_at_its_end(timeline, T0, 700 + passed, 750 + passed).stale


def test_neither_the_end_nor_the_cues_of_an_old_copy_count() -> None:
    timeline = HlsTimeline()
    cue = write_cue("c", position_ms=T0, nonce="0" * 32, window_ms=3_000)
    old = show(T0, 0, 5, end=True) + cue
    assert len(timeline.read(old, T0 + HOUR_MS).cues) == 1
    read_at_its_end(timeline, T0 + 2 * HOUR_MS, 0, 3)
    stale = timeline.read(old, T0 + 2 * HOUR_MS + 13_000)
    assert (stale.stale, stale.ended, stale.cues, stale.date_ranges) == (True, False, (), ())


def test_a_stream_that_starts_over_without_dates_is_told_so_in_the_end() -> None:
    timeline = HlsTimeline()
    read_at_its_end(timeline, T0, 800, 900)
    undated = "#EXTM3U\n" + "#EXTINF:4,\na.ts\n"
    assert timeline.read(undated, T0 + HOUR_MS).stale
    with pytest.raises(InvalidRequest, match="must have EXT-X-PROGRAM-DATE-TIME"):
        timeline.read(undated + "#EXTINF:4,\nb.ts\n" * 16, T0 + HOUR_MS + 64_000)


def test_a_delta_update_of_a_stream_that_started_over_is_refused() -> None:
    timeline = HlsTimeline()
    read_at_its_end(timeline, T0, 0, 20)
    skips = "#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-SKIP:SKIPPED-SEGMENTS=5"
    text = show(T0 + HOUR_MS, 5, 10).replace("#EXT-X-MEDIA-SEQUENCE:5", skips)
    with pytest.raises(InvalidRequest, match="must be a whole one, not a delta update"):
        timeline.read(text, T0 + 2 * HOUR_MS)
    assert read_at_its_end(timeline, T0 + HOUR_MS, 0, 10).edge == Position(T0 + HOUR_MS + 40_000, 1)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), min_size=1, max_size=30))
def test_whichever_copies_a_cache_hands_out_the_edge_never_goes_back(
    fetches: list[tuple[int, int]],
) -> None:
    """Four shows after one another, each from sequence number 0; any copy of any of them."""
    timeline = HlsTimeline()
    newest = (-1, 0)
    for index, (number, count) in enumerate(fetches):
        start_ms = T0 + number * HOUR_MS
        text = show(start_ms, max(0, count - 8), count)
        reading = timeline.read(text, T0 + 4 * HOUR_MS + index * 1_000)
        goes_on = (number, count) >= newest
        assert reading.stale is not goes_on
        newest = max(newest, (number, count))
        if reading.edge is not None:
            assert reading.edge.ms == start_ms + count * 4_000
