"""Stream time: where a live stream is, in server time.

A live stream has a time of its own, its media timeline; `StreamClock` maps positions on it to
server time. Sources turn what a stream says about itself into a clock's samples: `HlsTimeline`
(playlists), `PtsTimeline` (MPEG-TS), `RtpTimeline` (RTCP sender reports), or `StreamClock.add` for
pairs from anywhere else. `playing_date_ms` and `media_time_ms` read what players report.
`write_cue` and `read_cue` carry a cue and its nonce in the stream.

From the encoder's cue to the winners' holds (`fetch` gets the live playlist's text; in production
the clock is fed all the time, once a segment or part)::

    def link_up(sale, fetch):
        clock, timeline = StreamClock(), HlsTimeline()
        for _ in range(3):
            reading = timeline.read(fetch(), time.time_ns() // 1_000_000)
            clock.take(reading.events)
            time.sleep(0.5)
        live = reading.edge
        cue = sale.cue("lipstick", at=live, clock=clock, stock={"lipstick": 2})
        nonce = cue.cue().nonce  # goes into the playlist, where players find it
        return write_cue("lipstick", position_ms=live.ms, nonce=nonce, window_ms=3_000)

    def tap(sale, buyer, playlist, playing_date):  # what the player had, and what it showed
        (seen,) = HlsTimeline().read(playlist, time.time_ns() // 1_000_000).cues
        proof = proof_of(seen.nonce, sale.id, seen.id, buyer)
        cue, position_ms = sale.cue_handle(seen.id), playing_date_ms(playing_date)
        return cue.enter(buyer, {"lipstick": 1}, position_ms=position_ms, proof=proof)

    def winners(sale, buyers):
        sale.cue_handle("lipstick").settle()  # waits for the close
        answers = [sale.cue_handle("lipstick").result(buyer) for buyer in buyers]
        return [answer for answer in answers if answer.outcome is Outcome.HELD]

A tap behind a discontinuity lies on another timeline than the cue: pass the cue's position plus
`clock.elapsed(cue, tap, now_ms=now).ms`.

All times are whole milliseconds; nothing here does I/O or reads a clock.
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
from flashsale.streamtime.placing import Place
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
    "Place",
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
