"""What players report, as positions.

hls.js: `hls.playingDate` is a Date on the media timeline, that is the fragment's
EXT-X-PROGRAM-DATE-TIME plus the time played of it, or null as long as none is known; it is no
clock reading. AVPlayer (`currentDate()`), ExoPlayer and Shaka (`getPlayheadTimeAsDate()`) have the
same. A player's `latency` is no position and no lag: it is the distance from the end of the
playlist, not from glass to glass (see `StreamClock.lag_ms`).
https://github.com/video-dev/hls.js/blob/master/docs/API.md
"""

from __future__ import annotations

import math

from flashsale.errors import InvalidRequest
from flashsale.limits import TIME_MAX_MS, shown
from flashsale.streamtime.dates import parse_date_ms
from flashsale.streamtime.values import check_position

_MS_MIN = 100_000_000_000  # in 1973; a smaller number is one of seconds


def playing_date_ms(value: object) -> int:
    """The position a player reports as a date: `date.getTime()` or its ISO string.

    Numbers are milliseconds since the epoch (fractions are rounded), strings what JSON makes of a
    Date. InvalidRequest for null and NaN (no date is known: the stream lacks
    EXT-X-PROGRAM-DATE-TIME, or nothing is loaded), for seconds, and for anything else.
    """
    field = "playing date"
    if isinstance(value, str):
        return parse_date_ms(field, value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise InvalidRequest(
            field, "must be known: the player has no EXT-X-PROGRAM-DATE-TIME to tell it by"
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(
            field, f"must be milliseconds since the epoch or an ISO string, not {shown(value)}"
        )
    if not _MS_MIN <= value <= TIME_MAX_MS:
        rule = "must be milliseconds since the epoch (not seconds, not a media time)"
        raise InvalidRequest(field, f"{rule}, not {shown(value)}")
    return math.floor(value + 0.5)


def media_time_ms(
    media_time_s: float, *, fragment_start_s: float, fragment_position_ms: int
) -> int:
    """The position of a frame: `mediaTime` of `requestVideoFrameCallback`, in seconds.

    `fragment_start_s` and `fragment_position_ms` are `start` and `programDateTime` of the
    hls.js fragment that is playing: media time has its own origin, and only the fragment ties it
    to the stream. It is exact to the frame, where `playingDate` is read somewhere within one.
    """
    for field, value in (("media_time_s", media_time_s), ("fragment_start_s", fragment_start_s)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidRequest(field, f"must be a number of seconds, not {shown(value)}")
        if not -TIME_MAX_MS <= value <= TIME_MAX_MS:
            raise InvalidRequest(field, f"must be a finite number of seconds, not {shown(value)}")
    check_position("fragment_position_ms", fragment_position_ms)
    played_ms = math.floor((media_time_s - fragment_start_s) * 1_000 + 0.5)
    return check_position("position_ms", fragment_position_ms + played_ms)
