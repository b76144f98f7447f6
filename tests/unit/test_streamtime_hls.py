"""Refreshes of playlists: what is refused, what is continued, what is counted."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashsale import InvalidRequest
from flashsale.streamtime import HlsTimeline, Position, Sample
from flashsale.streamtime.dates import format_date

T0 = 1_795_000_000_000


def playlist(*lines: str, first: int = 0, head: tuple[str, ...] = ()) -> str:
    return "\n".join(("#EXTM3U", f"#EXT-X-MEDIA-SEQUENCE:{first}", *head, *lines)) + "\n"


def date(ms: int) -> str:
    return f"#EXT-X-PROGRAM-DATE-TIME:{format_date(ms)}"


def segments(count: int, seconds: float = 2.0) -> list[str]:
    return [line for n in range(count) for line in (f"#EXTINF:{seconds},", f"{n}.ts")]


@given(
    st.lists(st.integers(1, 10_000), min_size=1, max_size=12),
    st.integers(0, 11),
    st.integers(0, 2**31),
)
def test_one_date_anywhere_dates_every_segment_of_its_discontinuity(
    lengths: list[int], dated: int, first: int
) -> None:
    dated %= len(lengths)
    lines: list[str] = []
    for index, length in enumerate(lengths):
        if index == dated:
            lines.append(date(T0 + sum(lengths[:dated])))
        lines += [f"#EXTINF:{length / 1_000},", f"{index}.ts"]
    reading = HlsTimeline().read(playlist(*lines, first=first), T0)
    (stretch,) = reading.stretches
    assert (stretch.first_ms, stretch.last_ms) == (T0, T0 + sum(lengths))
    assert reading.edge == Position(T0 + sum(lengths), 0)
    assert reading.events == (Sample(T0 + sum(lengths), T0, 0, T0, late_ms=lengths[-1]),)


def test_only_what_is_new_is_a_sample() -> None:
    timeline = HlsTimeline()
    one = playlist(date(T0), *segments(2))
    two = playlist(date(T0), *segments(3))
    assert len(timeline.read(one, T0 + 4_000).events) == 1
    assert timeline.read(one, T0 + 5_000).events == ()
    told = Sample(T0 + 6_000, T0 + 6_000, 0, T0, late_ms=1_000)
    assert timeline.read(two, T0 + 6_000).events == (told,)


def test_dates_that_left_the_playlist_are_remembered() -> None:
    timeline = HlsTimeline()
    timeline.read(playlist(date(T0), *segments(3)), T0)
    for first in range(1, 20):
        reading = timeline.read(playlist(*segments(3), first=first), T0)
        assert reading.edge == Position(T0 + 6_000 + first * 2_000, 0)
    with pytest.raises(InvalidRequest, match="must have EXT-X-PROGRAM-DATE-TIME: without it"):
        HlsTimeline().read(playlist(*segments(3), first=9), T0)


def test_a_delta_update_is_read_when_its_predecessor_was() -> None:
    timeline = HlsTimeline()
    timeline.read(playlist(date(T0), *segments(8)), T0)
    delta = playlist("#EXT-X-SKIP:SKIPPED-SEGMENTS=6", *segments(3), first=0)
    assert timeline.read(delta, T0).edge == Position(T0 + 18_000, 0)
    with pytest.raises(InvalidRequest, match="must be a whole one, not a delta update"):
        HlsTimeline().read(delta, T0)


def test_a_gap_between_two_readings_keeps_the_discontinuity_that_is_counted() -> None:
    timeline = HlsTimeline()
    head = ("#EXT-X-DISCONTINUITY-SEQUENCE:4",)
    timeline.read(playlist(date(T0), *segments(2), head=head), T0)
    later = playlist(date(T0 + 100_000), *segments(2), first=50, head=head)
    assert timeline.read(later, T0).edge == Position(T0 + 104_000, 4)


def test_a_stream_that_starts_over_is_a_new_discontinuity_from_its_first_reading_on() -> None:
    again = playlist(date(T0 + 3_600_000), *segments(5))
    for first in (0, 40):  # its numbers overlap with what is known, or lie before it
        timeline = HlsTimeline()
        timeline.read(playlist(date(T0), *segments(4), first=first), T0)
        reading = timeline.read(again, T0 + 3_610_000)
        assert reading.shift_ms == 0
        edge_ms = T0 + 3_610_000
        told = Sample(edge_ms, edge_ms, 1, T0 + 3_600_000, late_ms=2_000)
        assert reading.events == (told,)


def test_dates_are_not_continued_backwards_across_a_discontinuity() -> None:
    lines = [*segments(2), "#EXT-X-DISCONTINUITY", date(T0), *segments(1)]
    reading = HlsTimeline().read(playlist(*lines), T0)
    assert [stretch.discontinuity for stretch in reading.stretches] == [1]


def test_an_empty_or_ended_playlist_gives_no_sample() -> None:
    timeline = HlsTimeline()
    assert timeline.read(playlist(), T0).edge is None
    assert not timeline.read(playlist(), T0).stale
    ended = timeline.read(playlist(date(T0), *segments(2), "#EXT-X-ENDLIST"), T0)
    assert (ended.ended, ended.events, ended.edge) == (True, (), Position(T0 + 4_000, 0))


def test_windows_line_ends_and_a_byte_order_mark_are_read() -> None:
    text = "\ufeff" + playlist(date(T0), *segments(2)).replace("\n", "\r\n")
    assert HlsTimeline().read(text, T0).edge == Position(T0 + 4_000, 0)


def test_attributes_that_a_later_draft_adds_do_no_harm() -> None:
    parts = '#EXT-X-PART:DURATION=0.5,URI="a.0",X-NEW="1",INDEPENDENT=YES'
    hint = '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="a.1",BYTERANGE-START=5,X-NEW=1'
    control = "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,X-NEW=1"
    reading = HlsTimeline().read(playlist(control, date(T0), parts, hint, "#EXT-X-NEW:1"), T0)
    assert (reading.edge, reading.hint_uri) == (Position(T0 + 500, 0), "a.1")
    init = '#EXT-X-PRELOAD-HINT:TYPE=MAP,URI="init.mp4"'
    assert HlsTimeline().read(playlist(date(T0), parts, init), T0).hint_uri is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "playlist: must be the text of a playlist"),
        (None, "playlist: must be the text of a playlist"),
        ("<html>", "playlist: must be the text of a playlist"),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n", "must be a media playlist"),
        ("#EXTM3U\n#EXTINF:abc,\na.ts\n", "playlist: must have durations in seconds"),
        ("#EXTM3U\na.ts\n", "playlist: must have durations in seconds: EXTINF is missing"),
        ("#EXTM3U\n#EXT-X-DISCONTINUITY-SEQUENCE:-1\n", "must be a playlist of RFC 8216"),
        ("#EXTM3U\n#EXTINF:nan,\na.ts\n", "playlist: must have durations in seconds"),
        ("#EXTM3U\n#EXTINF:-1,\na.ts\n", "playlist: must have durations in seconds"),
        ('#EXTM3U\n#EXT-X-PART:URI="a"\n', "playlist: must have durations in seconds"),
        ("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:x\n", "playlist: must be a playlist of RFC 8216"),
        ("#EXTM3U\n#EXT-X-SKIP:SKIPPED-SEGMENTS=x\n", "playlist: must be a playlist of RFC 8216"),
        (
            playlist("#EXT-X-PROGRAM-DATE-TIME:today", *segments(1)),
            "use PTS .*; EXT-X-PROGRAM-DATE-TIME: must be a date and time of ISO 8601, .* 'today'",
        ),
        ("#EXTM3U" + "\n" * 5_000_000, "playlist: must have at most 4194304 characters"),
    ],
)
def test_what_cannot_be_read_is_told_why(text: str, rule: str) -> None:
    timeline = HlsTimeline()
    with pytest.raises(InvalidRequest, match=rule):
        timeline.read(text, T0)
    assert timeline.read(playlist(date(T0), *segments(1)), T0).edge == Position(T0 + 2_000, 0)


LINES = st.sampled_from(
    [
        "#EXT-X-DISCONTINUITY",
        "#EXT-X-DISCONTINUITY-SEQUENCE:3",
        "#EXT-X-MEDIA-SEQUENCE:7",
        "#EXT-X-MEDIA-SEQUENCE:2",
        date(T0),
        date(T0 + 5_000),
        date(T0 + 90_000),
        "#EXTINF:2.0,",
        "a.ts",
        '#EXT-X-PART:DURATION=0.5,URI="p"',
        '#EXT-X-DATERANGE:ID="x"',
        "#EXT-X-SKIP:SKIPPED-SEGMENTS=2",
        "#EXT-X-ENDLIST",
        "#EXT-X-GAP",
        "",
    ]
)


@given(st.lists(st.lists(LINES, max_size=14), max_size=5))
def test_any_refreshes_are_read_or_refused_with_a_rule(refreshes: list[list[str]]) -> None:
    timeline = HlsTimeline()
    fields: set[str] = set()
    for lines in refreshes:
        try:
            reading = timeline.read("\n".join(["#EXTM3U", *lines]), T0)
        except InvalidRequest as error:
            fields.add(error.field)
            continue
        for stretch in reading.stretches:
            assert stretch.first_ms <= stretch.last_ms
    assert fields <= {"playlist", "EXT-X-PROGRAM-DATE-TIME"}


def test_the_library_itself_does_not_import_stream_time() -> None:
    code = "import flashsale, sys; print([n for n in sys.modules if 'streamtime' in n])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
