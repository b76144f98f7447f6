"""Real HLS, encoded by FFmpeg: positions of real frames map to when they were shown."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import av
import pytest

from flashsale.streamtime import (
    HlsTimeline,
    Position,
    PtsTimeline,
    StreamClock,
    StreamCue,
    playing_date_ms,
    pts_between_ms,
    write_cue,
)
from flashsale.streamtime.dates import format_date
from support.streams import PTS_WRAP, T0, Kind, Run, Stream, make_stream, write_hls

NONCE = "c0ffee00c0ffee00c0ffee00c0ffee00"
RESTART_MS = T0 + 20_000
WRAPS_IN = PTS_WRAP // 3_600 - 5 * 25  # frames: the PTS wrap about five seconds in
RUNS = [
    Run(10, server_ms=T0, first_frame=WRAPS_IN),
    Run(10, server_ms=RESTART_MS, label_ms=RESTART_MS - 3_500, first_frame=0),
]
SHOWN_MS = T0 + 8_000  # when the host gave the cue


@pytest.fixture(scope="module", params=["ts", "fmp4"])
def stream(request: pytest.FixtureRequest) -> Stream:
    """Ten seconds, a break of ten, ten more seconds whose labels are 3.5 s early; one cue."""
    kind: Kind = request.param
    runs = RUNS if kind == "ts" else [replace(run, first_frame=0) for run in RUNS]
    made = replace(make_stream(runs, kind), delay_ms=300)
    line = write_cue("lipstick", position_ms=made.label_at(SHOWN_MS), nonce=NONCE, window_ms=3_000)
    return replace(made, cues=((SHOWN_MS, line),))


def follow(
    stream: Stream, until_ms: int, *, every_ms: int = 250
) -> tuple[StreamClock, HlsTimeline]:
    """A clock that has followed a stream's playlist from the start."""
    clock, timeline = StreamClock(), HlsTimeline()
    for now_ms in range(T0 + 1_300, until_ms + 1, every_ms):
        clock.take(timeline.read(stream.playlist(now_ms), now_ms).events)
    return clock, timeline


def test_every_frame_of_both_runs_maps_to_when_it_was_shown(stream: Stream) -> None:
    checked = 0
    for until_ms, run in ((T0 + 10_300, 0), (stream.end_ms, 1)):
        clock, _ = follow(stream, until_ms)
        for segment in stream.segments[run * 10 + 5 : run * 10 + 10]:
            pts = segment.read_pts()
            for value in pts:
                into_ms = pts_between_ms(pts[0], value)
                position = Position(segment.label_ms + into_ms, run)
                mapped = clock.server_time(position, now_ms=until_ms)
                # What the clock sees is the packager's list: 0.3 s after the frame.
                assert mapped.server_ms == segment.server_ms + into_ms + 300
                assert mapped.uncertainty_ms <= 600
                checked += 1
    assert checked == 2 * 5 * 25


def test_the_cue_line_is_found_and_a_tap_after_the_discontinuity_is_placed(stream: Stream) -> None:
    now_ms = stream.end_ms - 5_000
    clock, timeline = follow(stream, now_ms)
    reading = timeline.read(stream.playlist(now_ms), now_ms)
    cue_position = stream.label_at(SHOWN_MS)
    assert reading.cues == (StreamCue("lipstick", cue_position, NONCE, 3_000),)
    assert reading.unread == ()
    tapped_ms = RESTART_MS + 1_234
    reported = format_date(stream.label_at(tapped_ms))  # JSON.stringify(hls.playingDate)
    cue, tap = Position(cue_position, 0), Position(playing_date_ms(reported), 1)
    elapsed = clock.elapsed(cue, tap, now_ms=now_ms)
    assert elapsed.ms == tapped_ms - SHOWN_MS
    naive = tap.ms - cue.ms  # labels compared across the discontinuity
    assert naive == elapsed.ms - 3_500
    assert clock.lag_ms(tap, now_ms=now_ms) == now_ms - tapped_ms - 300


def test_the_labels_agree_with_the_frames_own_pts_across_the_wrap(stream: Stream) -> None:
    timeline = PtsTimeline()
    raw = []
    for segment in stream.segments[:10]:
        for pts in segment.read_pts():
            raw.append(pts % PTS_WRAP)
            sample = timeline.sample(pts, segment.server_ms)
            if len(raw) == 1:
                start_ms = sample.position_ms
            assert sample.position_ms - start_ms == (len(raw) - 1) * 40
    assert len(raw) == 250
    if stream.segments[0].uri.endswith(".ts"):
        assert min(raw) < 3_600 < PTS_WRAP - 3_600 < max(raw)  # it did wrap


@pytest.mark.parametrize("kind", ["ts", "fmp4"])
def test_a_clock_fed_with_the_pts_of_real_packets(kind: Kind) -> None:
    made = make_stream([replace(RUNS[0], first_frame=WRAPS_IN if kind == "ts" else 0)], kind)
    clock, timeline = StreamClock(noise="both"), PtsTimeline()
    for segment in made.segments:
        first = segment.read_pts()[0]
        clock.take(timeline.sample(first, segment.server_ms))
    last = made.segments[-1]
    for index, pts in enumerate(last.read_pts()):
        position_ms = timeline.position_ms(pts)
        mapped = clock.server_time(position_ms, now_ms=last.server_ms)
        assert mapped.server_ms == last.server_ms + index * 40


def test_low_latency_parts_bring_the_edge_nearer_and_hints_do_not_count(stream: Stream) -> None:
    parts = replace(stream, parts=4, delay_ms=50)
    whole = replace(stream, delay_ms=50)
    for now_ms in range(T0 + 1_100, T0 + 10_000, 125):
        near = HlsTimeline().read(parts.playlist(now_ms), now_ms)
        far = HlsTimeline().read(whole.playlist(now_ms), now_ms)
        assert near.edge is not None
        assert far.edge is not None
        assert T0 + (now_ms - 50 - T0) // 250 * 250 == near.edge.ms
        assert T0 + (now_ms - 50 - T0) // 1_000 * 1_000 == far.edge.ms
        assert near.hint_uri is not None
    clock, _ = follow(parts, parts.end_ms)
    mapped = clock.server_time(Position(stream.segments[-1].label_ms, 1), now_ms=parts.end_ms)
    assert mapped.server_ms == stream.segments[-1].server_ms + 50


@pytest.mark.parametrize("parts", [0, 5])
def test_a_discontinuity_is_seen_in_the_first_part_behind_it(stream: Stream, parts: int) -> None:
    live = replace(stream, parts=parts)
    timeline = HlsTimeline()
    seen = {}
    for now_ms in range(T0 + 1_300, stream.end_ms, 100):
        edge = timeline.read(live.playlist(now_ms), now_ms).edge
        assert edge is not None
        seen.setdefault(edge.discontinuity, now_ms)
    assert seen == {0: T0 + 1_300, 1: RESTART_MS + (200 if parts else 1_000) + 300}


@pytest.mark.parametrize("kind", ["ts", "fmp4"])
def test_ffmpegs_own_playlist_is_read(tmp_path: Path, kind: Kind) -> None:
    playlist = write_hls(tmp_path, Run(4), kind)
    live = playlist.read_text("utf-8").replace("#EXT-X-ENDLIST\n", "")
    assert live.count("#EXT-X-PROGRAM-DATE-TIME") == 4
    reading = HlsTimeline().read(live, T0)
    (stretch,) = reading.stretches
    assert stretch.last_ms - stretch.first_ms == 4_000
    assert [event.position_ms for event in reading.events] == [stretch.last_ms]  # type: ignore[union-attr]
    ended = HlsTimeline().read(playlist.read_text("utf-8"), T0)
    assert ended.ended
    assert ended.events == ()


def test_what_was_encoded_is_video(stream: Stream) -> None:
    """Guards the maker: each segment decodes by itself to the frames that the playlist says."""
    segment = stream.segments[3]
    with av.open(io.BytesIO(segment.init + segment.data)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 25
