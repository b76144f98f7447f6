"""Cues in a playlist, attribute lists, dates, and what players report."""

from __future__ import annotations

import math

import m3u8
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashsale import InvalidRequest
from flashsale.streamtime import (
    CUE_CLASS,
    StreamCue,
    media_time_ms,
    nonce_text,
    playing_date_ms,
    read_cue,
    read_date_range,
    write_cue,
)
from flashsale.streamtime.attributes import parse_attributes, quoted
from flashsale.streamtime.dates import format_date, parse_date_ms

NONCE = "00112233445566778899aabbccddeeff"
AT = 1_795_000_000_123
IDS = st.text("ABCxyz019._~@+=/-", min_size=1, max_size=64)
NONCES = st.binary(min_size=16, max_size=16).map(bytes.hex)


@given(IDS, st.integers(0, 9_999_999_999_999), NONCES, st.integers(1, 30 * 86_400_000))
def test_a_cue_is_read_back_as_it_was_written(
    cue_id: str, position_ms: int, nonce: str, window_ms: int
) -> None:
    line = write_cue(cue_id, position_ms=position_ms, nonce=nonce, window_ms=window_ms)
    assert line.isprintable()
    assert read_cue(line) == StreamCue(cue_id, position_ms, nonce, window_ms)


def test_the_line_is_what_rfc_8216_says_and_m3u8_reads_it_too() -> None:
    line = write_cue("lip,1=a".replace(",", "-"), position_ms=AT, nonce=NONCE, window_ms=3_000)
    assert line == (
        '#EXT-X-DATERANGE:ID="lip-1=a",CLASS="flashsale.cue",'
        f'START-DATE="2026-11-18T11:06:40.123Z",DURATION=3.000,X-NONCE="{NONCE}"'
    )
    text = f"#EXTM3U\n{line}\n#EXTINF:1.0,\na.ts\n"
    (read,) = m3u8.loads(text).segments[0].dateranges
    assert (read.id, read.class_, read.duration) == ("lip-1=a", CUE_CLASS, 3.0)


@pytest.mark.parametrize("written", [f"0x{NONCE.upper()}", f"0X{NONCE}", f'"{NONCE.upper()}"'])
def test_a_nonce_may_come_as_a_hexadecimal_sequence(written: str) -> None:
    line = write_cue("c", position_ms=AT, nonce=NONCE, window_ms=1).replace(f'"{NONCE}"', written)
    cue = read_cue(line)
    assert cue is not None
    assert cue.nonce == NONCE


def test_a_start_date_without_a_zone_is_utc() -> None:
    line = write_cue("c", position_ms=AT, nonce=NONCE, window_ms=1)
    assert read_cue(line.replace("123Z", "123")) == read_cue(line)


def test_other_lines_are_no_cues() -> None:
    assert read_cue("#EXTINF:4.0,") is None
    assert read_cue('#EXT-X-DATERANGE:ID="ad",START-DATE="2026-11-18T11:06:40Z"') is None
    assert read_cue('#EXT-X-DATERANGE:ID="a",CLASS="x",START-DATE="2026-11-18T11:06:40Z"') is None


GOOD = f'ID="c",CLASS="flashsale.cue",START-DATE="2026-11-18T11:06:40Z",DURATION=3,X-NONCE={NONCE}'


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ('ID="c",', "", "EXT-X-DATERANGE: must have ID"),
        (',START-DATE="2026-11-18T11:06:40Z"', "", "EXT-X-DATERANGE: must have START-DATE"),
        (",DURATION=3", "", "EXT-X-DATERANGE: must have DURATION"),
        ("DURATION=3", "DURATION=-3", "DURATION: must be seconds from 0"),
        ("DURATION=3", "DURATION=NaN", "DURATION: must be seconds from 0"),
        ("DURATION=3", "DURATION=1e99", "DURATION: must be seconds from 0"),
        ("DURATION=3", "DURATION=0", "window_ms: must be from 1"),
        (NONCE, "abc", "nonce: must be 32 hexadecimal digits"),
        (f",X-NONCE={NONCE}", "", "nonce: must be 32 hexadecimal digits"),
        ("40Z", "40X", "START-DATE: must be a date and time of ISO 8601, such as"),
        ('ID="c"', 'ID="c",ID="d"', "must name ID once"),
        ('ID="c"', 'ID="c', "must be a list NAME=value"),
        ('ID="c"', 'ID="c d"', "cue id: must be 1 to 64 characters"),
        ("DURATION=3", "DURATION", "must be a list NAME=value"),
    ],
)
def test_a_broken_cue_is_told_what_it_lacks(old: str, new: str, rule: str) -> None:
    assert read_cue(f"#EXT-X-DATERANGE:{GOOD}") is not None
    with pytest.raises(InvalidRequest, match=rule):
        read_cue(f"#EXT-X-DATERANGE:{GOOD.replace(old, new)}")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"cue_id": 'a"b'}, "cue id: must be"),
        ({"cue_id": "a\nb"}, "cue id: must be"),
        ({"position_ms": -1}, "position_ms: must be from 0"),
        ({"nonce": NONCE.upper()}, "nonce: must be 32"),
        ({"nonce": None}, "nonce: must be 32"),
        ({"window_ms": 0}, "window_ms: must be from 1"),
    ],
)
def test_nothing_that_breaks_a_line_is_written(change: dict[str, object], rule: str) -> None:
    good: dict[str, object] = {"cue_id": "c", "position_ms": 1, "nonce": NONCE, "window_ms": 1}
    with pytest.raises(InvalidRequest, match=rule):
        write_cue(**(good | change))  # type: ignore[arg-type]


@given(
    st.dictionaries(
        st.text("ABCXYZ019-", min_size=1),
        st.text(st.characters(exclude_characters='"\r\n', exclude_categories=["Cs"])),
    )
)
def test_quoted_strings_may_hold_anything_but_quotes_and_line_breaks(
    attributes: dict[str, str],
) -> None:
    text = ",".join(f"{name}={quoted(name, value)}" for name, value in attributes.items())
    assert parse_attributes("list", text) == attributes


@pytest.mark.parametrize("value", ['a"b', "a\nb", "a\rb"])
def test_there_is_no_escape_for_quotes_and_line_breaks(value: str) -> None:
    with pytest.raises(InvalidRequest, match="^note: must have no quote"):
        quoted("note", value)


def test_any_date_range_can_be_read() -> None:
    one = read_date_range(
        '#EXT-X-DATERANGE:ID="splice-1", START-DATE="2014-03-05T11:15:00Z",'
        "DURATION=59.993,SCTE35-OUT=0xFC002F0000000000FF,X-AD=2.5"
    )
    assert (one.id, one.class_name, one.duration_ms) == ("splice-1", None, 59_993)
    assert one.start_ms == 1_394_018_100_000
    assert one.others == {"SCTE35-OUT": "0xFC002F0000000000FF", "X-AD": "2.5"}
    with pytest.raises(InvalidRequest, match="must begin with #EXT-X-DATERANGE:"):
        read_date_range("#EXTINF:1,")


def test_the_text_for_id3_and_sei() -> None:
    assert nonce_text("lipstick", NONCE) == f"lipstick {NONCE}"
    with pytest.raises(InvalidRequest, match="nonce: must be 32"):
        nonce_text("lipstick", "no")


# --- dates and players --------------------------------------------------------------------


@given(st.integers(0, 9_999_999_999_999))
def test_dates_are_exact_to_the_millisecond_and_players_report_them_back(ms: int) -> None:
    assert parse_date_ms("date", format_date(ms)) == ms
    assert playing_date_ms(format_date(ms)) == ms


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-18T11:06:40.123Z",
        "2026-11-18T12:06:40.123+01:00",
        "2026-11-18T11:06:40.123+0000",
        "2026-11-18T11:06:40.1229999Z",
        "2026-11-18T11:06:40.122500Z",
        " 2026-11-18T11:06:40.123Z ",
    ],
)
def test_dates_in_the_forms_packagers_write(text: str) -> None:
    assert parse_date_ms("date", text) == AT


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-18T11:06:40.123",
        "2026-11-18",
        "",
        "yesterday",
        "1795000000",
        "1900-01-01T00:00:00Z",
    ],
)
def test_dates_that_each_viewer_would_read_in_another_way_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="^date: must be"):
        parse_date_ms("date", text)


def test_what_players_report_as_a_date() -> None:
    assert playing_date_ms(AT) == AT
    assert playing_date_ms(AT + 0.5) == AT + 1
    assert playing_date_ms("2026-11-18T11:06:40.123Z") == AT


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (None, "must be known: the player has no EXT-X-PROGRAM-DATE-TIME"),
        (math.nan, "must be known"),
        (AT / 1_000, "not seconds, not a media time"),
        (12.5, "not seconds, not a media time"),
        (math.inf, "not seconds, not a media time"),
        (-AT, "not seconds, not a media time"),
        (True, "must be milliseconds since the epoch or an ISO string"),
        ([AT], "must be milliseconds since the epoch or an ISO string"),
        ("Wed Nov 18 2026", "must be a date and time of ISO 8601"),
    ],
)
def test_what_is_no_playing_date_is_told_so(value: object, rule: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^playing date: .*{rule}"):
        playing_date_ms(value)


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_a_frames_media_time_is_tied_to_the_stream_by_its_fragment(start: int, into: int) -> None:
    told = media_time_ms(
        (start + into) / 1_000, fragment_start_s=start / 1_000, fragment_position_ms=AT
    )
    assert told == AT + into


@pytest.mark.parametrize("value", [math.nan, math.inf, True, "3"])
def test_a_media_time_is_a_finite_number(value: object) -> None:
    with pytest.raises(InvalidRequest, match="^media_time_s: must be a"):
        media_time_ms(value, fragment_start_s=0, fragment_position_ms=AT)  # type: ignore[arg-type]
