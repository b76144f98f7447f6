"""Counters that wrap, and the clocks behind them: PTS, RTP and NTP time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashsale import InvalidRequest
from flashsale.streamtime import PtsTimeline, RtpTimeline, StreamClock, ntp_ms, pts_between_ms
from flashsale.streamtime.wrapping import Unwrapped, ticks_between, to_ms

T0 = 1_795_000_000_000
PTS_TURN, RTP_TURN = 2**33, 2**32


def as_ntp(ms: int) -> int:
    """Milliseconds since 1970 as a 64-bit NTP timestamp of whatever era it falls into."""
    return (((ms + 2_208_988_800_000) << 32) // 1_000) % 2**64


# --- unwrapping ---------------------------------------------------------------------------


@given(
    st.sampled_from([32, 33]),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(-(10**6), 2**31 - 1), max_size=40),
)
def test_readings_less_than_half_a_turn_apart_are_continued_exactly(
    bits: int, start: int, steps: list[int]
) -> None:
    unwrapped, true = Unwrapped(bits), start
    assert unwrapped.follow(start) == start
    for step in steps:
        true += step
        assert unwrapped.near_last(true % 2**bits) == true
        assert unwrapped.follow(true % 2**bits) == true


@given(st.integers(0, PTS_TURN - 1), st.integers(-(2**32), 2**32 - 1))
def test_a_difference_modulo_a_turn_is_the_true_one(start: int, step: int) -> None:
    assert ticks_between(start, (start + step) % PTS_TURN, bits=33) == step


@given(st.integers(-(2**40), 2**40), st.integers(1_000, 192_000))
def test_ticks_are_rounded_to_the_nearest_millisecond(ticks: int, rate: int) -> None:
    assert abs(to_ms(ticks, rate) * rate - ticks * 1_000) * 2 <= rate
    assert to_ms(ticks + rate, rate) == to_ms(ticks, rate) + 1_000


# --- PTS ----------------------------------------------------------------------------------


def test_positions_go_on_across_the_wrap_and_b_frames_do_not_confuse_them() -> None:
    timeline = PtsTimeline()
    first = PTS_TURN - 2 * 3_600
    order = [0, 3, 1, 2, 6, 4, 5]  # decoding order: frames stand before those they show after
    seen = [timeline.sample((first + 3_600 * n) % PTS_TURN, T0).position_ms for n in order]
    assert [ms - seen[0] for ms in seen] == [40 * n for n in order]
    assert timeline.position_ms(0) - seen[0] == 80
    assert pts_between_ms(first, 3_600) == 120
    assert pts_between_ms(3_600, first) == -120


def test_each_discontinuity_starts_from_its_own_pts_and_none_comes_back() -> None:
    timeline = PtsTimeline()
    timeline.sample(PTS_TURN - 1, T0, 0)
    assert timeline.sample(900_000, T0, 3).position_ms == 10_000
    with pytest.raises(InvalidRequest, match="discontinuity: must be from 3"):
        timeline.sample(900_000, T0, 2)
    assert timeline.position_ms(900_000 - PTS_TURN) == 10_000  # as FFmpeg tells it near a wrap
    assert timeline.position_ms(900_000 + PTS_TURN) == 10_000
    for wrong in (2**63, None, 1.5):
        with pytest.raises(InvalidRequest, match="^pts: must be"):
            timeline.position_ms(wrong)  # type: ignore[arg-type]


# --- RTP ----------------------------------------------------------------------------------


@given(
    st.sampled_from([8_000, 48_000, 90_000]),
    st.integers(0, RTP_TURN - 1),
    st.integers(2, 30),
    st.integers(-(10**10), 10**10),
)
def test_sender_reports_map_rtp_time_to_server_time_across_wraps_and_foreign_clocks(
    rate: int, start: int, count: int, sfu_ahead_ms: int
) -> None:
    timeline, clock = RtpTimeline(rate), StreamClock()
    for index in range(count):
        sent_ms = T0 + index * 5_000
        ntp = as_ntp(sent_ms + sfu_ahead_ms)
        rtp = (start + index * 5 * rate) % RTP_TURN
        clock.take(timeline.sample(ntp, rtp, sent_ms + 20))
    tap = timeline.position_ms((start + (count - 1) * 5 * rate - rate) % RTP_TURN)
    now_ms = T0 + (count - 1) * 5_000 + 20
    assert clock.server_time(tap, now_ms=now_ms).server_ms == now_ms - 1_000


def test_a_believed_ntp_clock_gives_the_time_of_sending_and_a_foreign_one_is_refused() -> None:
    ours = RtpTimeline(90_000, ntp_clock="server")
    sample = ours.sample(as_ntp(T0), 0, T0 + 150)
    assert abs(sample.server_ms - T0) <= 1
    rule = "ntp: must be within 2000 ms of its arrival, not -59[89]"
    with pytest.raises(InvalidRequest, match=rule):
        ours.sample(as_ntp(T0 + 60_000), 90_000, T0 + 150)


def test_a_new_ssrc_is_a_new_discontinuity() -> None:
    timeline = RtpTimeline(90_000)
    assert timeline.sample(as_ntp(T0), 5, T0, ssrc=1).discontinuity == 0
    assert timeline.sample(as_ntp(T0), 6, T0, ssrc=1).discontinuity == 0
    after = timeline.sample(as_ntp(T0), RTP_TURN - 90_000, T0, ssrc=2)
    assert after.discontinuity == 1
    assert after.position_ms == to_ms(RTP_TURN - 90_000, 90_000)


@given(st.integers(0, 9_999_999_999_999 - 10**10), st.integers(-(10**10), 10**10))
def test_ntp_time_is_read_in_the_era_nearest_to_now(ms: int, apart_ms: int) -> None:
    near_ms = max(0, ms + apart_ms)
    assert abs(ntp_ms(as_ntp(ms), near_ms=near_ms) - ms) <= 1


def test_ntp_time_passes_february_2036() -> None:
    last_of_era = 2**32 * 1_000 - 2_208_988_800_000
    assert as_ntp(last_of_era) < as_ntp(last_of_era - 1_000)  # the counter did start over
    assert ntp_ms(as_ntp(last_of_era), near_ms=last_of_era - 1_000) == last_of_era


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"clock_rate": 10}, "^clock_rate: must be from 1000"),
        ({"clock_rate": 90_000, "ntp_clock": "mine"}, "^ntp_clock: must be"),
        ({"clock_rate": 90_000, "skew_max_ms": -1}, "^skew_max_ms: must be from 0"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], rule: str) -> None:
    with pytest.raises(InvalidRequest, match=rule):
        RtpTimeline(**options)  # type: ignore[arg-type]
