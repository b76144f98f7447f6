"""Stream time: where a live stream is, in server time.

A live stream has a time of its own, its media timeline; `StreamClock` maps positions on it to
server time. Sources turn what a stream says about itself into a clock's samples: `HlsTimeline`
(playlists), `PtsTimeline` (MPEG-TS), `RtpTimeline` (RTCP sender reports), or `StreamClock.add` for
pairs from anywhere else. `playing_date_ms` and `media_time_ms` read what players report.
`write_cue` and `read_cue` carry a cue and its nonce in the stream.

::

    clock, timeline = StreamClock(), HlsTimeline()
    clock.take(timeline.read(text, server_ms=now).events)         # once a segment or part
    mapped = clock.server_time(position, now_ms=now)              # a cue's server time
    ms = clock.elapsed(cue, Position(playing_date_ms(told), 4), now_ms=now).ms

All times are whole milliseconds; nothing here does I/O or reads a clock.
Playlists need the extra `stream`: ``pip install 'flashsale[stream]'`` (m3u8).
"""

from flashsale.streamtime.clock import StreamClock
from flashsale.streamtime.daterange import (
    CUE_CLASS,
    SEI_UUID,
    DateRange,
    StreamCue,
    nonce_text,
    read_cue,
    read_date_range,
    write_cue,
)
from flashsale.streamtime.hls import HlsReading, HlsTimeline, Stretch
from flashsale.streamtime.players import media_time_ms, playing_date_ms
from flashsale.streamtime.pts import PtsTimeline, pts_between_ms
from flashsale.streamtime.rtp import RtpTimeline, ntp_ms
from flashsale.streamtime.values import Elapsed, Mapped, Position, Relabel, Sample

__all__ = [
    "CUE_CLASS",
    "SEI_UUID",
    "DateRange",
    "Elapsed",
    "HlsReading",
    "HlsTimeline",
    "Mapped",
    "Position",
    "PtsTimeline",
    "Relabel",
    "RtpTimeline",
    "Sample",
    "StreamClock",
    "StreamCue",
    "Stretch",
    "media_time_ms",
    "nonce_text",
    "ntp_ms",
    "playing_date_ms",
    "pts_between_ms",
    "read_cue",
    "read_date_range",
    "write_cue",
]
