"""What real playlists have that the timeline reads all the same, and how it says so."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flashsale import InvalidRequest
from flashsale.streamtime import HlsReading, HlsTimeline, Position, StreamClock, write_cue
from flashsale.streamtime.dates import format_date

T0 = 1_795_000_000_000
BREAK = "#EXT-X-DISCONTINUITY"
PART = '#EXT-X-PART:DURATION=0.5,URI="p"'


def date(ms: int) -> str:
    return f"#EXT-X-PROGRAM-DATE-TIME:{format_date(ms)}"


def segments(count: int, seconds: float = 2.0) -> list[str]:
    return [line for n in range(count) for line in (f"#EXTINF:{seconds},", f"{n}.ts")]


def read(*lines: str, timeline: HlsTimeline | None = None, now_ms: int = T0) -> HlsReading:
    text = "\n".join(("#EXTM3U", "#EXT-X-MEDIA-SEQUENCE:0", *lines))
    return (timeline or HlsTimeline()).read(text, now_ms)


# --- where a date may stand ---------------------------------------------------------------


@given(st.integers(0, 5), st.integers(0, 5), st.booleans(), st.booleans())
def test_a_date_counts_wherever_it_stands_before_its_segments_uri(
    before: int, behind: int, extinf_first: bool, complete: bool
) -> None:
    media = [*[PART] * before, date(T0), *[PART] * behind]
    if complete:
        media = [*segments(1)[:1], *media, "0.ts"] if extinf_first else [*media, *segments(1)]
    elif not before + behind:
        return
    there_ms = 2_000 if complete else 500 * (before + behind)
    assert read(*media).edge == Position(T0 + there_ms, 0)


def test_of_two_dates_the_one_before_the_parts_is_the_segments() -> None:
    reading = read(date(T0), PART, date(T0 + 500), PART)
    assert reading.edge == Position(T0 + 1_000, 0)
    assert "behind a part does not count" in reading.notes[0]


def test_a_discontinuity_behind_parts_counts_too() -> None:
    reading = read(date(T0), *segments(2), PART, BREAK, date(T0 + 60_000))
    assert reading.edge == Position(T0 + 60_500, 1)


# --- no date behind a discontinuity -------------------------------------------------------


@pytest.mark.parametrize("breaks", [1, 2, 3])
def test_each_discontinuity_without_a_date_adds_ten_seconds_of_doubt(breaks: int) -> None:
    reading = read(date(T0), *segments(1), *[BREAK, *segments(1)] * breaks)
    assert reading.edge == Position(T0 + 2_000 * (1 + breaks), breaks)
    assert reading.edge_doubt_ms == 10_000 * breaks
    assert [stretch.doubt_ms for stretch in reading.stretches] == [
        10_000 * n for n in range(breaks + 1)
    ]
    assert f"behind discontinuity {breaks}" in reading.notes[0]
    assert reading.events[-1].doubt_ms == 10_000 * breaks  # type: ignore[union-attr]


def test_the_doubt_is_part_of_what_the_clock_tells_until_a_date_comes() -> None:
    clock, timeline = StreamClock(), HlsTimeline()
    begin = [date(T0), *segments(5), BREAK]
    for count in range(1, 6):
        now_ms = T0 + 10_000 + count * 2_000
        reading = read(*begin, *segments(count), timeline=timeline, now_ms=now_ms)
        clock.take(reading.events)
    assert reading.edge is not None
    mapped = clock.server_time(reading.edge, now_ms=now_ms)
    assert mapped.server_ms == now_ms
    assert mapped.uncertainty_ms == 10_000 + 2_000 * 3 // 5
    one, other = Position(T0 + 12_000, 1), Position(T0 + 13_000, 1)
    assert clock.elapsed(one, other, now_ms=now_ms).uncertainty_ms == 10_000

    # The encoder had been away for 57 s: it is a relabelling, however large, of the same stretch.
    lines = [*begin, *segments(5), date(T0 + 20_000 + 57_000), *segments(1)]
    reading = read(*lines, timeline=timeline, now_ms=now_ms + 2_000)
    assert (reading.edge, reading.edge_doubt_ms) == (Position(T0 + 79_000, 1), 0)
    assert reading.shift_ms == 57_000
    clock.take(reading.events)
    mapped = clock.server_time(reading.edge, now_ms=now_ms + 2_000)
    assert mapped.server_ms == now_ms + 2_000
    assert mapped.uncertainty_ms >= 57_000  # players with the older playlist report old labels
    assert clock.elapsed(one, other, now_ms=now_ms).uncertainty_ms == 0


def test_what_was_continued_once_is_not_continued_anew_from_a_later_playlist() -> None:
    timeline = HlsTimeline()
    read(date(T0), *segments(3), BREAK, *segments(2), timeline=timeline)
    text = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:4\n#EXT-X-DISCONTINUITY-SEQUENCE:1\n"
    reading = timeline.read(text + "\n".join(segments(3)), T0)
    assert (reading.edge, reading.edge_doubt_ms) == (Position(T0 + 14_000, 1), 10_000)


# --- how late a sighting is ---------------------------------------------------------------


@given(
    st.integers(500, 10_000),
    st.integers(0, 10_000),
    st.lists(st.integers(100, 30_000), max_size=2),
    st.integers(0, 2_000),
)
@example(length_ms=500, phase_ms=267, waits_ms=[233, 13_234], doubt_ms=0)  # the best is left out
def test_the_first_readings_tell_how_far_off_they_may_be(
    length_ms: int, phase_ms: int, waits_ms: list[int], doubt_ms: int
) -> None:
    """However rarely it is read, and however long its segments are: each is listed at its end."""
    clock, timeline = StreamClock(doubt_ms=doubt_ms), HlsTimeline()
    now_ms = T0 + length_ms + phase_ms
    for wait_ms in [0, *waits_ms]:
        now_ms += wait_ms
        there = segments((now_ms - T0) // length_ms, length_ms / 1_000)
        reading = read(date(T0), *there, timeline=timeline, now_ms=now_ms)
        clock.take(reading.events)
        assert reading.edge is not None
        mapped = clock.server_time(reading.edge, now_ms=now_ms)
        assert abs(mapped.server_ms - reading.edge.ms) <= mapped.uncertainty_ms


def test_a_discontinuity_that_was_over_at_the_first_reading_gives_no_sample() -> None:
    clock, timeline = StreamClock(), HlsTimeline()
    lines = [date(T0 - 3_600_000), *segments(3), BREAK, date(T0), *segments(3)]
    clock.take(read(*lines, timeline=timeline, now_ms=T0 + 6_000).events)
    with pytest.raises(InvalidRequest, match=r"must be one the clock has samples of \(\[1\]\)"):
        clock.server_time(Position(T0 - 3_600_000, 0), now_ms=T0 + 6_000)
    lines += [BREAK, date(T0 + 60_000), *segments(1)]  # one that ends between two readings does
    clock.take(read(*lines, timeline=timeline, now_ms=T0 + 10_000).events)
    assert clock.server_time(Position(T0 + 60_000, 2), now_ms=T0 + 10_000).samples == 1


# --- dates that are odd -------------------------------------------------------------------


def test_a_date_without_a_zone_is_utc_and_noted() -> None:
    reading = read(date(T0)[:-1], *segments(2))
    assert reading.edge == Position(T0 + 4_000, 0)
    assert reading.notes == ("EXT-X-PROGRAM-DATE-TIME without a time zone is read as UTC",)
    assert read(date(T0), *segments(2)).notes == ()


def test_a_note_stays_as_long_as_the_segment_it_is_about() -> None:
    timeline = HlsTimeline()
    read(date(T0), *segments(1), date(T0 + 2_000)[:-1], *segments(3), timeline=timeline)
    lines = [*segments(3), date(T0 + 8_000), *segments(1)]
    for first, noted in ((1, True), (2, False)):
        text = f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:{first}\n"
        head = [date(T0 + 2_000)[:-1]] if noted else []
        assert bool(timeline.read(text + "\n".join([*head, *lines]), T0).notes) is noted


def test_a_date_that_is_none_is_noted_and_the_others_count() -> None:
    reading = read(date(T0), *segments(1), "#EXT-X-PROGRAM-DATE-TIME:noon", *segments(1))
    assert reading.edge == Position(T0 + 4_000, 0)
    assert reading.notes[0].endswith("not 'noon'")
    with pytest.raises(InvalidRequest, match="must have EXT-X-PROGRAM-DATE-TIME: .* not 'noon'"):
        read("#EXT-X-PROGRAM-DATE-TIME:noon", *segments(1))


# --- values that are not needed -----------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "#EXT-X-VERSION:seven",
        "#EXT-X-VERSION:",
        "#EXT-X-TARGETDURATION:4.0",
        "#EXT-X-PLAYLIST-TYPE:LIVE",
        "#EXT-X-BITRATE:fast",
        "#EXT-X-BYTERANGE:a@b",
        "#EXT-X-ALLOW-CACHE:MAYBE",
        '#EXT-X-KEY:METHOD=AES-128,URI="half',
        "#EXT-X-MAP:init.mp4",
        "#EXT-X-START:now",
        "#EXT-X-DEFINE:x",
        "#EXT-X-PART-INF:1.0",
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD",
        "#EXT-X-RENDITION-REPORT:low.m3u8",
        "#EXT-X-PRELOAD-HINT:TYPE",
        "#EXT-X-DATERANGE:x",
        '#EXT-X-DATERANGE:ID="x"',
        '#EXT-X-PART:DURATION=x,URI="p"',
        "#EXT-X-MEDIA-SEQUENCE:77",
        "#EXT-X-DISCONTINUITY-SEQUENCE:77",
        "#EXT-X-SKIP:SKIPPED-SEGMENTS=1",
    ],
)
def test_a_bad_value_that_the_timeline_does_not_need_is_noted(line: str) -> None:
    reading = read(date(T0), *segments(1), line, *segments(1))
    assert reading.edge == Position(T0 + 4_000, 0)
    assert len(reading.notes) == 1
    assert line[1:].partition(":")[0] in reading.notes[0]


@pytest.mark.parametrize(
    "line",
    ["#EXT-X-NEW:?", "#EXT-X-CUE:x", "#EXT-X-ENDLISTING", "#EXTGRP:", "#EXT", "# EXTINF"],
)
def test_tags_that_nobody_here_knows_are_passed_over(line: str) -> None:
    reading = read(date(T0), *segments(1), line, *segments(1))
    assert (reading.notes, reading.ended) == ((), False)


@given(st.text(max_size=20), st.sampled_from(["VERSION", "KEY", "MAP", "START", "BITRATE", "X"]))
def test_no_value_of_such_a_tag_stops_a_reading(value: str, name: str) -> None:
    line = f"#EXT-X-{name}:{value}".replace("\n", "")
    assert read(date(T0), *segments(1), line, *segments(1)).edge == Position(T0 + 4_000, 0)


# --- date ranges over several tags --------------------------------------------------------

NONCE = "00112233445566778899aabbccddeeff"


def test_a_range_split_over_tags_of_one_id_is_merged() -> None:
    """RFC 8216, 8.10: the tag that ends a splice has neither START-DATE nor what the first said."""
    out = '#EXT-X-DATERANGE:ID="s",START-DATE="2026-11-18T11:06:40Z",PLANNED-DURATION=60'
    back = '#EXT-X-DATERANGE:ID="s",DURATION=59.9,SCTE35-IN=0xFC'
    for lines in ([out, back], [back, out]):
        reading = read(date(T0), *segments(1), lines[0], *segments(1), lines[1])
        (one,) = reading.date_ranges
        assert (one.start_ms, one.duration_ms) == (T0, 59_900)
        assert one.others == {"PLANNED-DURATION": "60", "SCTE35-IN": "0xFC"}
        assert (reading.unread, reading.notes) == ((), ())


def test_a_cue_may_be_split_too_and_come_in_a_later_refresh() -> None:
    timeline = HlsTimeline()
    line = write_cue("c", position_ms=T0, nonce=NONCE, window_ms=3_000)
    nonce = f',X-NONCE="{NONCE}"'
    first, second = line.replace(nonce, ""), f'#EXT-X-DATERANGE:ID="c"{nonce}'
    reading = read(date(T0), *segments(1), first, *segments(1), timeline=timeline)
    assert (reading.cues, reading.unread) == ((), (first,))
    reading = read(date(T0), *segments(1), first, *segments(2), second, timeline=timeline)
    assert [cue.nonce for cue in reading.cues] == [NONCE]
    assert (reading.unread, reading.notes) == ((), ())


def test_a_tag_that_contradicts_an_earlier_one_of_its_id_is_left_out_and_noted() -> None:
    one = write_cue("c", position_ms=T0, nonce=NONCE, window_ms=3_000)
    other = write_cue("c", position_ms=T0, nonce=NONCE[::-1], window_ms=3_000)
    reading = read(date(T0), *segments(1), one, other)
    assert [cue.nonce for cue in reading.cues] == [NONCE]
    assert reading.unread == (other,)
    assert reading.notes == ("EXT-X-DATERANGE: 'c' has two values of X-NONCE",)


def test_a_range_whose_start_nobody_tells_is_unread_and_a_zoneless_one_is_utc() -> None:
    line = '#EXT-X-DATERANGE:ID="x",DURATION=1'
    assert read(date(T0), *segments(1), line).unread == (line,)
    zoneless = '#EXT-X-DATERANGE:ID="x",START-DATE="2026-11-18T11:06:40"'
    reading = read(date(T0), *segments(1), zoneless)
    assert [one.start_ms for one in reading.date_ranges] == [T0]
    assert reading.notes == ("EXT-X-DATERANGE: a START-DATE without a time zone is read as UTC",)
