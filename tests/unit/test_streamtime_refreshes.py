"""A refresh reads what is new and no more, and comes to the same as if all had been read."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import m3u8
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashsale import InvalidRequest
from flashsale.streamtime import HlsTimeline, Position, hls, playlists
from flashsale.streamtime.dates import format_date
from flashsale.streamtime.playlists import NOTES_MAX, ROWS_MAX, parse_playlist

T0 = 1_795_000_000_000


def event(count: int, first: int = 0, *tail: str) -> str:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:4", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for n in range(first, count):
        lines += [f"#EXT-X-PROGRAM-DATE-TIME:{format_date(T0 + n * 4_000)}"]
        lines += ["#EXTINF:4.0,", f"{n}.ts"]
    return "\n".join([*lines, *tail]) + "\n"


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sequence numbers of the segments whose lines were read."""
    read: list[int] = []
    plain = playlists._Reader._add_row

    def counting(reader: Any, available_us: int, *, complete: bool) -> None:
        read.append(reader.sequence)
        plain(reader, available_us, complete=complete)

    monkeypatch.setattr(playlists._Reader, "_add_row", counting)
    return read


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many segments were placed at a time."""
    counts: list[int] = []
    plain = hls.place_rows

    def counting(rows: Any, *rest: Any, **named: Any) -> Any:
        counts.append(len(rows))
        return plain(rows, *rest, **named)

    monkeypatch.setattr(hls, "place_rows", counting)
    monkeypatch.setattr("flashsale.streamtime.placing.place_rows", counting)
    return counts


@pytest.mark.parametrize("slides", [False, True], ids=["EVENT", "DVR"])
def test_of_4500_segments_the_first_and_the_new_ones_are_read(
    slides: bool, rows_read: list[int], placed: list[int]
) -> None:
    timeline = HlsTimeline()
    timeline.read(event(4_500), T0)
    for n in range(1, 9):
        rows_read.clear()
        placed.clear()
        first = n * slides
        reading = timeline.read(event(4_500 + n, first), T0 + n * 4_000)
        assert rows_read == [first, 4_499 + n]
        assert placed == [1]
        assert reading.edge == Position(T0 + (4_500 + n) * 4_000, 0)
        assert len(reading.places) == 4_500 + n - first


def test_parts_that_leave_old_segments_cost_those_segments_only(rows_read: list[int]) -> None:
    part = '#EXT-X-PART:DURATION=1.0,URI="p"'
    timeline = HlsTimeline()
    for n in range(8):
        rows_read.clear()
        lines = event(1_000 + n).splitlines()
        lines[-7:-7] = [part] * 4  # the last two segments have parts
        lines[-1:-1] = [part] * 4
        pending = [f"#EXT-X-PROGRAM-DATE-TIME:{format_date(T0 + (1_000 + n) * 4_000)}", part]
        reading = timeline.read("\n".join([*lines, *pending]), T0)
        assert reading.edge == Position(T0 + (1_000 + n) * 4_000 + 1_000, 0)
        if n:
            assert len(rows_read) <= 6


# --- the same as a whole reading ----------------------------------------------------------

HEAD = st.sampled_from(["#EXT-X-VERSION:9", "#EXT-X-DISCONTINUITY-SEQUENCE:3", ""])


@st.composite
def segment_lines(draw: st.DrawFn) -> list[str]:
    """What stands in front of a segment's URI, and its parts."""
    lines = [f"#EXTINF:{draw(st.sampled_from(['2.0', '2.002', '1.96']))},"]
    lines += draw(st.lists(st.sampled_from(MARKS), max_size=2))
    return lines


MARKS = [
    "#EXT-X-DISCONTINUITY",
    '#EXT-X-PART:DURATION=0.5,URI="p"',
    '#EXT-X-DATERANGE:ID="a",START-DATE="2026-11-18T11:06:40Z"',
    '#EXT-X-DATERANGE:ID="a",DURATION=3',
    '#EXT-X-DATERANGE:ID="b"',
    "#EXT-X-PROGRAM-DATE-TIME:2026-11-18T11:06:40Z",
    "#EXT-X-PROGRAM-DATE-TIME:2026-11-18T11:07:00",
    "#EXT-X-PROGRAM-DATE-TIME:soon",
    "#EXT-X-KEY:none",
    "#EXT-X-ENDLIST",
    "# nothing",
    "",
]


@settings(max_examples=200)
@given(
    st.lists(segment_lines(), min_size=2, max_size=14),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=8),
    HEAD,
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_refreshes_that_build_on_one_another_say_what_whole_readings_say(
    segments: list[list[str]],
    steps: list[tuple[int, int, bool]],
    head: str,
    ends: str,
    dated: bool,
) -> None:
    if dated:
        segments[0] = ["#EXT-X-PROGRAM-DATE-TIME:2026-11-18T11:06:40Z", *segments[0]]
    first, stop = 0, 2
    building, whole = HlsTimeline(), HlsTimeline()
    for gone, added, pending in [(0, 0, False), *steps]:
        first, stop = min(first + gone, stop - 1), min(stop + added, len(segments))
        lines = ["#EXTM3U", head, f"#EXT-X-MEDIA-SEQUENCE:{first}"]
        for n in range(first, stop):
            lines += [*segments[n], f"{n}.ts"]
        if pending:
            lines += ['#EXT-X-PART:DURATION=0.4,URI="q"']
        text = ends.join(lines) + ends * (not pending)
        # The other one has read as much, but builds its next reading on nothing that it read.
        if whole._playlist is not None:
            whole._playlist = parse_playlist(whole._playlist.text)
            whole._playlist.ends.clear()
        assert told(building, text) == told(whole, text)


def told(timeline: HlsTimeline, text: str) -> object:
    try:
        reading = timeline.read(text, T0)
    except InvalidRequest as error:
        return str(error)
    return [*(getattr(reading, name) for name in reading.__struct_fields__), reading.stretches]


@given(st.lists(segment_lines(), min_size=1, max_size=8), st.integers(0, 2**40))
def test_segments_are_those_that_m3u8_reads(segments: list[list[str]], first: int) -> None:
    good = [[line for line in lines if "TIME:soon" not in line] for lines in segments]
    plain = [[line for line in lines if "DATERANGE" not in line] for lines in good]
    lines = [line for n, lines in enumerate(plain) for line in (*lines, f"{n}.ts")]
    lines = [line for line in lines if "#EXT-X-KEY" not in line]
    text = "\n".join(["#EXTM3U", f"#EXT-X-MEDIA-SEQUENCE:{first}", *lines])
    expected = m3u8.loads(text)
    rows = parse_playlist(text).rows
    assert [row.sequence for row in rows] == [s.media_sequence for s in expected.segments]
    assert [row.available_us for row in rows] == [
        round(segment.duration * 1_000_000) for segment in expected.segments
    ]
    assert parse_playlist(text).ended == expected.is_endlist


def test_a_longer_name_is_not_taken_for_the_same_segment() -> None:
    timeline = HlsTimeline()
    timeline.read(event(3).rstrip("\n"), T0)  # "2.ts", and the text ends
    reading = timeline.read(event(3).replace("2.ts", "2.ts?again") + event(0), T0)
    assert reading.edge == Position(T0 + 12_000, 0)


# --- delta updates ------------------------------------------------------------------------


def delta(first: int, skipped: int, count: int, *tags: str) -> str:
    lines = event(first + count, first + skipped).splitlines()
    lines[2] = f"#EXT-X-MEDIA-SEQUENCE:{first}"
    lines[3:3] = [f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}{''.join(tags)}"]
    return "\n".join(lines) + "\n"


def test_delta_updates_of_delta_updates_cover_the_whole_playlist() -> None:
    timeline = HlsTimeline()
    timeline.read(event(100), T0)
    for n in range(1, 20):
        reading = timeline.read(delta(n, 94, 100), T0)
        (stretch,) = reading.stretches
        assert (stretch.first_ms, stretch.last_ms) == (T0 + n * 4_000, T0 + (100 + n) * 4_000)
    whole = timeline.read(event(120, 20), T0)
    assert len(whole.places) == 100


def test_a_delta_update_keeps_the_date_ranges_it_skips_less_those_it_says_are_gone() -> None:
    cues = [f'#EXT-X-DATERANGE:ID="{n}",START-DATE="2026-11-18T11:06:40Z"' for n in "ab"]
    lines = event(10).splitlines()
    lines[6:6] = cues
    timeline = HlsTimeline()
    timeline.read("\n".join(lines), T0)
    assert [one.id for one in timeline.read(delta(0, 8, 11), T0).date_ranges] == ["a", "b"]
    gone = timeline.read(delta(0, 8, 12, ',RECENTLY-REMOVED-DATERANGES="a"'), T0)
    assert [one.id for one in gone.date_ranges] == ["b"]


def test_a_delta_update_that_skips_what_is_only_there_in_part_is_refused() -> None:
    timeline = HlsTimeline()
    part = '#EXT-X-PART:DURATION=1.0,URI="p"'
    timeline.read(event(10, 0, part), T0)
    with pytest.raises(InvalidRequest, match="must be a whole one"):
        timeline.read(delta(0, 11, 12), T0)
    assert timeline.read(delta(0, 10, 12), T0).edge == Position(T0 + 48_000, 0)


def test_of_a_skip_only_the_count_is_needed() -> None:
    timeline = HlsTimeline()
    timeline.read(event(10), T0)
    reading = timeline.read(delta(0, 8, 11, ",RECENTLY-REMOVED-DATERANGES=a\tb"), T0)
    assert reading.edge == Position(T0 + 44_000, 0)
    assert "RECENTLY-REMOVED-DATERANGES" in reading.notes[0]


def test_a_date_that_a_packager_rounds_to_milliseconds_moves_no_label(placed: list[int]) -> None:
    """One date, on the first segment of each refresh, worked out from segments of 4.004004 s."""
    timeline, edges = HlsTimeline(), []
    for first in range(50):
        start_ms = round(T0 + first * 4_004.004)
        lines = [f"#EXT-X-MEDIA-SEQUENCE:{first}"]
        lines += [f"#EXT-X-PROGRAM-DATE-TIME:{format_date(start_ms)}"]
        lines += [line for n in range(6) for line in ("#EXTINF:4.004004,", f"{first + n}.ts")]
        reading = timeline.read("\n".join(["#EXTM3U", *lines]), T0)
        assert reading.shift_ms == 0
        assert reading.edge is not None
        edges.append(reading.edge.ms)
    assert placed == [6] + [1] * 49
    assert edges == [round(T0 + (first + 6) * 4_004.004) for first in range(50)]


# --- bounds -------------------------------------------------------------------------------


def test_there_is_a_bound_to_segments_and_to_notes() -> None:
    text = "#EXTM3U\n#EXT-X-PROGRAM-DATE-TIME:2026-11-18T11:06:40Z\n" + "#EXTINF:1,\na\n" * ROWS_MAX
    timeline = HlsTimeline()
    assert len(timeline.read(text, T0).places) == ROWS_MAX
    with pytest.raises(InvalidRequest, match=f"^playlist: must have at most {ROWS_MAX} segments"):
        timeline.read(text + "#EXTINF:1,\na\n", T0)
    odd = "".join(f"#EXT-X-BITRATE:x{n}\n" for n in range(100))
    assert len(HlsTimeline().read(event(3, 0, odd), T0).notes) == NOTES_MAX


@pytest.fixture
def reading_thread(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    plain = hls.parse_playlist

    def noting(*given: Any) -> Any:
        seen.append(threading.get_ident())
        return plain(*given)

    monkeypatch.setattr(hls, "parse_playlist", noting)
    return seen


async def test_a_large_playlist_can_be_read_off_the_loop(reading_thread: list[int]) -> None:
    timeline, turns = HlsTimeline(), 0
    text = event(30_000)
    reading = asyncio.create_task(timeline.read_in_thread(text, T0))
    while not reading.done():
        turns += 1
        await asyncio.sleep(0.001)
    assert (await reading).edge == Position(T0 + 30_000 * 4_000, 0)
    assert turns > 2
    assert reading_thread[0] != threading.get_ident()
