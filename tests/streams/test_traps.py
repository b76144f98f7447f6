"""What streams do to their timestamps in practice, and what would go wrong without the remedy.

Each test shows the naive figure beside ours: the naive one is off by what the trap is known for.
"""

from __future__ import annotations

from dataclasses import replace

import m3u8
import pytest

from flashsale import InvalidRequest
from flashsale.streamtime import (
    HlsTimeline,
    Position,
    PtsTimeline,
    Relabel,
    RtpTimeline,
    Sample,
    StreamClock,
    media_time_ms,
    pts_between_ms,
)
from support.streams import PTS_WRAP, T0, Run, Segment, Stream, make_stream


@pytest.fixture(scope="module")
def plain() -> Stream:
    """Twenty seconds without any trap, listed 0.2 s after the frames."""
    return replace(make_stream([Run(20)]), delay_ms=200)


def drive(
    stream: Stream, clock: StreamClock, timeline: HlsTimeline, *, upto_ms: int, since_ms: int = T0
) -> None:
    for now_ms in range(since_ms + 1_200, upto_ms + 1, 500):
        clock.take(timeline.read(stream.playlist(now_ms), now_ms).events)


# --- EXT-X-PROGRAM-DATE-TIME --------------------------------------------------------------


@pytest.mark.parametrize("wrong_by_ms", [-2_500, 1_500, 2_500])
@pytest.mark.parametrize("dates", ["every", "first", "once"])
def test_dates_stamped_once_at_start_are_a_constant_offset_that_cancels(
    plain: Stream, wrong_by_ms: int, dates: str
) -> None:
    labelled = tuple(replace(s, label_ms=s.label_ms + wrong_by_ms) for s in plain.segments)
    stream = replace(plain, segments=labelled, dates=dates, listed=4)  # type: ignore[arg-type]
    clock, timeline = StreamClock(), HlsTimeline()
    drive(stream, clock, timeline, upto_ms=T0 + 18_200)
    cue, tap = stream.label_at(T0 + 15_000), stream.label_at(T0 + 16_700)
    now_ms = T0 + 18_200
    assert clock.server_time(cue, now_ms=now_ms).server_ms == T0 + 15_200
    assert clock.elapsed(cue, tap, now_ms=now_ms).ms == 1_700
    # Believing the label would be wrong by all of it.
    assert cue - (T0 + 15_000) == wrong_by_ms


def test_dates_that_change_between_refreshes_are_followed_at_once(plain: Stream) -> None:
    clock, timeline = StreamClock(), HlsTimeline()
    drive(plain, clock, timeline, upto_ms=T0 + 12_200)
    stamped_anew = replace(plain, label_shift_ms=1_800)
    now_ms = T0 + 12_300
    reading = timeline.read(stamped_anew.playlist(now_ms), now_ms)
    assert reading.shift_ms == 1_800
    assert reading.events == (Relabel(1_800, now_ms, 0),)
    naive = clock.server_time(stamped_anew.label_at(T0 + 11_000), now_ms=now_ms).server_ms
    assert naive == T0 + 11_200 + 1_800
    clock.take(reading.events)
    mapped = clock.server_time(stamped_anew.label_at(T0 + 11_000), now_ms=now_ms)
    assert mapped.server_ms == T0 + 11_200
    assert mapped.uncertainty_ms >= 1_800  # viewers with the older playlist report old labels


def test_labels_that_jump_without_a_discontinuity_tag_are_followed(plain: Stream) -> None:
    jumped = tuple(
        replace(s, label_ms=s.label_ms + (30_000 if s.sequence >= 8 else 0)) for s in plain.segments
    )
    stream = replace(plain, segments=jumped)
    clock = StreamClock()
    drive(stream, clock, HlsTimeline(), upto_ms=stream.end_ms)
    now_ms = stream.end_ms
    cue, tap = stream.label_at(T0 + 7_000), stream.label_at(T0 + 15_000)
    assert tap - cue == 38_000
    assert clock.elapsed(cue, tap, now_ms=now_ms).ms == 8_000


def test_across_a_discontinuity_dates_are_continued_only_if_it_has_none_and_in_doubt() -> None:
    runs = [Run(6), Run(6, server_ms=T0 + 60_000)]
    stream = replace(make_stream(runs), dates="first", listed=8)
    now_ms = T0 + 63_000
    text = stream.playlist(now_ms)
    reading = HlsTimeline().read(text, now_ms)
    assert [(s.discontinuity, s.first_ms, s.last_ms) for s in reading.stretches] == [
        (0, T0 + 1_000, T0 + 6_000),
        (1, T0 + 60_000, T0 + 63_000),
    ]
    undated = text.replace(
        "#EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME", "#EXT-X-DISCONTINUITY\n#X"
    )
    reading = HlsTimeline().read(undated, now_ms)
    assert [(s.discontinuity, s.doubt_ms) for s in reading.stretches] == [(0, 0), (1, 10_000)]
    # Players and m3u8 continue it too, here 54 s early, and none of them says that it is in doubt.
    assert reading.edge == Position(T0 + 9_000, 1)
    naive = m3u8.loads(undated).segments[-1].current_program_date_time
    assert round(naive.timestamp() * 1_000) == T0 + 8_000
    assert reading.edge_doubt_ms == 10_000


def test_numbers_of_discontinuities_hold_when_the_packager_does_not_count_them() -> None:
    runs = [Run(3, server_ms=T0 + 5_000 * n, label_ms=T0 + 1_000_000 * (3 - n)) for n in range(4)]
    stream = replace(make_stream(runs), counts_breaks=False, listed=3)
    clock, timeline = StreamClock(), HlsTimeline()
    numbers = []
    for now_ms in range(T0 + 1_000, stream.end_ms + 1, 500):
        reading = timeline.read(stream.playlist(now_ms), now_ms)
        clock.take(reading.events)
        assert reading.edge is not None
        numbers.append(reading.edge.discontinuity)
    assert sorted(set(numbers)) == [0, 1, 2, 3]
    assert numbers == sorted(numbers)
    last = stream.segments[-1]
    mapped = clock.server_time(last.label_ms, now_ms=stream.end_ms)
    assert (mapped.discontinuity, mapped.server_ms) == (3, last.server_ms)
    fresh = HlsTimeline().read(stream.playlist(stream.end_ms), stream.end_ms)
    assert fresh.edge is not None
    assert fresh.edge.discontinuity == 0  # what the playlist alone would say


def test_an_encoder_that_starts_over_gets_new_numbers() -> None:
    first, again = make_stream([Run(8)]), make_stream([Run(8, server_ms=T0 + 30_000)])
    clock, timeline = StreamClock(), HlsTimeline()
    drive(first, clock, timeline, upto_ms=T0 + 8_000)
    for now_ms in range(T0 + 31_000, T0 + 36_000, 500):
        reading = timeline.read(again.playlist(now_ms), now_ms)
        clock.take(reading.events)
    assert reading.edge == Position(T0 + 35_000, 1)
    assert clock.server_time(T0 + 34_000, now_ms=now_ms).server_ms == T0 + 34_000


def test_a_stale_playlist_from_a_cache_tells_nothing(plain: Stream) -> None:
    clock, timeline = StreamClock(), HlsTimeline()
    drive(plain, clock, timeline, upto_ms=T0 + 12_200)
    reading = timeline.read(plain.playlist(T0 + 9_200), T0 + 12_400)
    assert reading.stale
    assert reading.events == ()
    again = timeline.read(plain.playlist(T0 + 12_400), T0 + 12_400)
    assert (again.stale, again.events) == (False, ())  # nothing new either, and no late sample


def test_a_date_in_a_segment_with_parts_counts_once(plain: Stream) -> None:
    stream = replace(plain, parts=4, dates="first", listed=10)
    now_ms = T0 + 9_700
    text = stream.playlist(now_ms)
    edge = HlsTimeline().read(text, now_ms).edge
    assert edge == Position(T0 + 9_500, 0)
    naive = m3u8.loads(text).segments[-1].parts[-1].program_date_time
    assert round(naive.timestamp() * 1_000) - (T0 + 9_250) == 2_000  # both last segments twice


def test_date_ranges_behind_the_last_segment_are_found(plain: Stream) -> None:
    line = '#EXT-X-DATERANGE:ID="ad",START-DATE="2026-11-18T11:06:40Z"'
    broken = '#EXT-X-DATERANGE:ID="x"'
    stream = replace(plain, cues=((T0, line), (T0, broken)))
    text = stream.playlist(T0 + 5_200)
    assert [s.dateranges for s in m3u8.loads(text).segments] == [[]] * 5
    reading = HlsTimeline().read(text, T0 + 5_200)
    assert [one.id for one in reading.date_ranges] == ["ad"]
    assert reading.unread == (broken,)


# --- EXTINF sums --------------------------------------------------------------------------


def long_stream(minutes: int, error_ms: float) -> Stream:
    """Segments of 6 s without media, whose EXTINF are off by `error_ms` each."""
    made = [
        Segment(n, 0, f"{n}.ts", b"", b"", T0 + n * 6_000, T0 + n * 6_000, 6_000, n == 0)
        for n in range(minutes * 10)
    ]
    return Stream(tuple(made), dates="once", extinf_error_ms=error_ms, listed=5)


def test_extinf_sums_that_drift_5_8_s_in_96_minutes_are_followed() -> None:
    stream = long_stream(96, 5_800 / 960)
    clock, timeline = StreamClock(), HlsTimeline()
    worst = 0
    for now_ms in range(T0 + 6_000, stream.end_ms + 1, 6_000):
        reading = timeline.read(stream.playlist(now_ms), now_ms)
        clock.take(reading.events)
        assert reading.edge is not None
        if now_ms > T0 + 60_000:
            mapped = clock.server_time(reading.edge, now_ms=now_ms)
            worst = max(worst, abs(mapped.server_ms - now_ms))
            assert worst <= mapped.uncertainty_ms
    assert reading.edge.ms - stream.end_ms == 5_800  # what summing EXTINF says
    assert worst <= 3


# --- PTS ----------------------------------------------------------------------------------


def test_pts_that_wrap_between_cue_and_tap() -> None:
    stream = make_stream([Run(6, first_frame=PTS_WRAP // 3_600 - 3 * 25)])
    timeline, clock = PtsTimeline(), StreamClock(noise="both")
    raw = [s.read_pts()[0] % PTS_WRAP for s in stream.segments]
    positions = []
    for segment, pts in zip(stream.segments, raw, strict=True):
        sample = timeline.sample(pts, segment.server_ms)
        positions.append(sample.position_ms)
        clock.take(sample)
    assert raw[-1] - raw[0] < -(10**9)  # the naive difference: minus 26.5 hours
    assert pts_between_ms(raw[0], raw[-1]) == 5_000
    elapsed = clock.elapsed(positions[0], positions[-1], now_ms=T0 + 6_000)
    assert elapsed.ms == 5_000


# --- RTCP ---------------------------------------------------------------------------------


def test_an_sfu_that_reports_its_own_clock() -> None:
    ahead_ms = 45_000
    clock, timeline = StreamClock(), RtpTimeline(90_000)
    believing = RtpTimeline(90_000, ntp_clock="server")
    for passed in range(0, 60_000, 5_000):
        sent_ms = T0 + passed
        ntp = ((sent_ms + ahead_ms + 2_208_988_800_000) << 32) // 1_000
        rtp = (2**32 - 90_000 + passed * 90) % 2**32
        sample = timeline.sample(ntp, rtp, sent_ms + 30)
        assert isinstance(sample, Sample)
        clock.take(sample)
        with pytest.raises(InvalidRequest, match="the report carries a clock of its own"):
            believing.sample(ntp, rtp, sent_ms + 30)
    now_ms = T0 + 55_030
    position_ms = timeline.position_ms((2**32 - 90_000 + 54_000 * 90) % 2**32)
    assert clock.server_time(position_ms, now_ms=now_ms).server_ms == T0 + 54_030


# --- players ------------------------------------------------------------------------------


def test_a_players_latency_is_not_its_lag() -> None:
    stream = replace(make_stream([Run(20)]), delay_ms=2_000)
    clock = StreamClock(noise="both")
    for segment in stream.segments:  # the encoder says when it showed each
        clock.add(segment.label_ms, segment.server_ms)
    watching = stream.label_at(T0 + 10_000)
    for now_ms, latency_ms in ((T0 + 18_000, 6_000), (T0 + 18_900, 6_000), (T0 + 19_000, 7_000)):
        edge = HlsTimeline().read(stream.playlist(now_ms), now_ms).edge
        assert edge is not None
        assert edge.ms - watching == latency_ms  # what hls.js calls latency, at best
        assert clock.lag_ms(watching, now_ms=now_ms) == now_ms - (T0 + 10_000)


def test_media_time_has_an_origin_of_its_own(plain: Stream) -> None:
    segment = plain.segments[7]
    # hls.js put the fragment at 3.2 s of its media element: the viewer came late.
    told = media_time_ms(3.72, fragment_start_s=3.2, fragment_position_ms=segment.label_ms)
    assert told == plain.label_at(segment.server_ms + 520)
    assert told != T0 + 3_720
