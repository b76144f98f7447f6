"""RTCP sender reports: pairs of NTP time and RTP time (RFC 3550, 6.4.1).

RTP timestamps are 32 bits wide at the payload's clock rate (90,000 for video: a wrap every 13.3
hours; 48,000 for Opus) and start at a random value; NTP timestamps are 64 bits, seconds since 1900
and a fraction, and start over in February 2036.

A selective forwarding unit (SFU) writes sender reports of its own, by its own clock, which need
not be the server's: a pair then says how RTP time runs, and nothing about server time. So the
server time of a sample is the report's arrival unless the caller knows better.
"""

from __future__ import annotations

from typing import Literal

from flashsale.errors import InvalidRequest
from flashsale.limits import TIME_MAX_MS, check_int
from flashsale.streamtime.values import Sample
from flashsale.streamtime.wrapping import Unwrapped, to_ms

RTP_BITS = 32
RTP_MAX = 2**RTP_BITS - 1
NTP_MAX = 2**64 - 1

_NTP_UNIX_S = 2_208_988_800  # from 1900 to 1970
_NTP_ERA_MS = 2**32 * 1_000


def ntp_ms(ntp: int, *, near_ms: int) -> int:
    """A 64-bit NTP timestamp as milliseconds since 1970, in the era nearest to `near_ms`.

    RFC 5905, 6: the seconds are 32 bits and their era is not in the timestamp.
    """
    check_int("ntp", ntp, 0, NTP_MAX)
    check_int("near_ms", near_ms, 0, TIME_MAX_MS)
    milliseconds = (ntp * 1_000 + (1 << 31)) >> 32
    first_era_ms = milliseconds - _NTP_UNIX_S * 1_000
    return first_era_ms + round((near_ms - first_era_ms) / _NTP_ERA_MS) * _NTP_ERA_MS


class RtpTimeline:
    """Turns sender reports of one stream into samples for `StreamClock.take`.

    `clock_rate`: of the payload type, in Hz (1,000 to 192,000). `ntp_clock`: whose clock the NTP
    half is. "foreign" (the default) takes the time of arrival as server time: right for any SFU,
    late by the report's way, so use it with `StreamClock(noise="late")`. "server" believes the NTP
    half, for senders synchronised with the server, and refuses reports that differ from their
    arrival by more than `skew_max_ms` (default 2,000): those carry another clock after all.

    A new `ssrc` is a new random start of the RTP clock, and so a new discontinuity. A report about
    a wrong moment (a wrap missed for 6 hours) cannot be told from a right one.
    """

    def __init__(
        self,
        clock_rate: int,
        *,
        ntp_clock: Literal["foreign", "server"] = "foreign",
        skew_max_ms: int = 2_000,
    ) -> None:
        self.clock_rate = check_int("clock_rate", clock_rate, 1_000, 192_000)
        if ntp_clock not in ("foreign", "server"):
            raise InvalidRequest("ntp_clock", 'must be "foreign" or "server"')
        self.ntp_clock = ntp_clock
        self.skew_max_ms = check_int("skew_max_ms", skew_max_ms, 0, 3_600_000)
        self.discontinuity = 0
        self._ssrc: int | None = None
        self._ticks = Unwrapped(RTP_BITS)

    def sample(self, ntp: int, rtp: int, received_ms: int, ssrc: int = 0) -> Sample:
        """What a sender report says. `received_ms` is the server time at which it arrived."""
        check_int("received_ms", received_ms, 0, TIME_MAX_MS)
        check_int("rtp", rtp, 0, RTP_MAX)
        check_int("ssrc", ssrc, 0, RTP_MAX)
        sent_ms = ntp_ms(ntp, near_ms=received_ms)
        skew_ms = received_ms - sent_ms
        if self.ntp_clock == "server" and abs(skew_ms) > self.skew_max_ms:
            raise InvalidRequest(
                "ntp",
                f"must be within {self.skew_max_ms} ms of its arrival, not {skew_ms} ms away: the "
                'report carries a clock of its own (an SFU\'s), use ntp_clock="foreign"',
            )
        if ssrc != self._ssrc:
            self.discontinuity += self._ssrc is not None
            self._ssrc, self._ticks = ssrc, Unwrapped(RTP_BITS)
        position_ms = to_ms(self._ticks.follow(rtp), self.clock_rate)
        server_ms = sent_ms if self.ntp_clock == "server" else received_ms
        return Sample(position_ms, server_ms, self.discontinuity)

    def position_ms(self, rtp: int) -> int:
        """The position of an RTP timestamp of the current ssrc, within half a wrap of the last."""
        check_int("rtp", rtp, 0, RTP_MAX)
        return to_ms(self._ticks.near_last(rtp), self.clock_rate)
