"""The map from positions to server time: exact, robust, following, and honest about its limits."""

from __future__ import annotations

import itertools
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashsale import InvalidRequest
from flashsale.streamtime import Position, Relabel, Sample, StreamClock
from flashsale.streamtime.clock import PIECES_MAX
from flashsale.streamtime.pieces import SAMPLES_MAX

T0 = 1_795_000_000_000

times = st.integers(10**12, 9 * 10**12)
positions = st.integers(0, 9 * 10**12)
steps_ms = st.lists(st.integers(200, 6_000), min_size=5, max_size=60)


def fed(pairs: list[tuple[int, int]], **options: object) -> StreamClock:
    clock = StreamClock(**options)  # type: ignore[arg-type]
    for position_ms, server_ms in pairs:
        clock.add(position_ms, server_ms)
    return clock


def newest(clock: StreamClock) -> int:
    return max(piece.line.newest_server_ms for piece in clock._pieces)


def steady(start_ms: int, offset_ms: int, steps: list[int]) -> list[tuple[int, int]]:
    """Sightings without any noise."""
    seen = [start_ms + passed for passed in itertools.accumulate(steps)]
    return [(server_ms - offset_ms, server_ms) for server_ms in seen]


# --- exactness ----------------------------------------------------------------------------


@given(times, st.integers(0, 10**12), steps_ms, st.integers(-30_000, 30_000))
def test_without_noise_the_map_is_exact_and_its_inverse_too(
    start_ms: int, offset_ms: int, steps: list[int], ahead_ms: int
) -> None:
    pairs = steady(start_ms, offset_ms, steps)
    for noise in ("late", "both"):
        clock = fed(pairs, noise=noise)
        position_ms, now_ms = pairs[-1]
        asked = position_ms + ahead_ms
        mapped = clock.server_time(asked, now_ms=now_ms)
        assert mapped.server_ms == asked + offset_ms
        assert mapped.position == Position(asked, 0)
        assert clock.position_at(mapped.server_ms).position_ms == asked
        assert mapped.age_ms == 0
        assert mapped.reach_ms == max(0, ahead_ms, pairs[0][0] - asked)


@given(
    st.lists(st.tuples(st.integers(0, 10**6), times), min_size=1, max_size=80),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)
def test_differences_within_a_piece_are_exact_whatever_the_samples(
    pairs: list[tuple[int, int]], one: int, other: int
) -> None:
    # Fewer than five cannot prove a step, so there is one piece.
    clock = fed(pairs[:4], max_age_ms=3_600_000)
    now_ms = newest(clock)
    first = clock.server_time(one, now_ms=now_ms)
    second = clock.server_time(other, now_ms=now_ms)
    assert second.server_ms - first.server_ms == other - one
    elapsed = clock.elapsed(one, other, now_ms=now_ms)
    assert (elapsed.ms, elapsed.uncertainty_ms) == (other - one, 0)


@given(st.lists(st.tuples(positions, times, st.integers(0, 3)), max_size=120))
def test_any_samples_at_all_give_the_same_answers_twice_or_a_named_rule(
    samples: list[tuple[int, int, int]],
) -> None:
    fields: set[str] = set()

    def story() -> list[object]:
        told: list[object] = []
        clock = StreamClock()
        for position_ms, server_ms, number in samples:
            try:
                clock.add(position_ms, server_ms, number)
                told.append(clock.server_time(position_ms, now_ms=server_ms))
            except InvalidRequest as error:
                told.append(str(error))
                fields.add(error.field)
        return told

    assert story() == story()
    assert fields <= {"discontinuity", "position", "clock", "now_ms"}


def test_constant_offsets_cancel_between_cue_and_tap() -> None:
    cue, tap = 7_000, 8_234
    for wrong_by in (-5_000, 0, 1_500, 2_500, 10**9):
        pairs = [(p + wrong_by, T0 + p) for p in range(0, 10_000, 500)]
        clock = fed(pairs)
        assert clock.elapsed(cue + wrong_by, tap + wrong_by, now_ms=T0 + 9_500).ms == 1_234


# --- robustness ---------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.sampled_from(["late", "both"]), st.integers(0, 10**12))
def test_a_third_of_wild_samples_moves_nothing(seed: int, noise: str, offset_ms: int) -> None:
    rng = random.Random(seed)
    pairs = steady(T0 + offset_ms, offset_ms, [1_000] * 45)
    wild = {3 * third + rng.randint(0, 2) for third in range(15)}
    noisy = [
        (p, s + rng.choice([-1, 1]) * rng.randint(3_000, 10**7)) if i in wild else (p, s)
        for i, (p, s) in enumerate(pairs)
    ]
    clock = fed(noisy, noise=noise)
    position_ms, now_ms = pairs[-1]
    mapped = clock.server_time(position_ms, now_ms=now_ms)
    assert mapped.server_ms == now_ms
    assert mapped.age_ms <= 3_000


@pytest.mark.parametrize("count", [1, 3, 10, 60])
@pytest.mark.parametrize("jitter_ms", [5, 100, 3_000])
@pytest.mark.parametrize("noise", ["late", "both"])
def test_the_stated_uncertainty_holds_in_at_least_97_of_100_cases(
    noise: str, jitter_ms: int, count: int
) -> None:
    rng = random.Random(f"{noise} {jitter_ms} {count}")
    true = steady(T0, T0, [1_000] * count)
    position_ms, now_ms = true[-1]
    errors, held = [], 0
    for _ in range(100):
        noisy = [
            (
                p,
                s
                + (
                    rng.randint(0, jitter_ms)
                    if noise == "late"
                    else round(rng.gauss(0, jitter_ms / 3))
                ),
            )
            for p, s in true
        ]
        mapped = fed(noisy, noise=noise, doubt_ms=jitter_ms).server_time(position_ms, now_ms=now_ms)
        errors.append(abs(mapped.server_ms - now_ms))
        held += errors[-1] <= mapped.uncertainty_ms
    assert held >= 97
    if count == 60:  # the lower envelope and the median, at work
        assert statistics.mean(errors) <= jitter_ms / 9 + 2


def test_uncertainty_falls_with_agreeing_samples_and_grows_with_distance() -> None:
    pairs = steady(T0, T0, [1_000] * 60)
    few, many = fed(pairs[:2]), fed(pairs)
    now_ms = pairs[-1][1]
    lone = few.server_time(pairs[1][0], now_ms=pairs[1][1]).uncertainty_ms
    at_edge = many.server_time(pairs[-1][0], now_ms=now_ms).uncertainty_ms
    beyond = many.server_time(pairs[-1][0] + 20_000, now_ms=now_ms).uncertainty_ms
    assert (lone, at_edge, beyond) == (1_000, 50, 90)


# --- following ----------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("noise", ["late", "both"])
def test_a_drift_of_5_8_seconds_in_96_minutes_is_followed_not_averaged_away(
    sign: int, noise: str
) -> None:
    clock = StreamClock(noise=noise)  # type: ignore[arg-type]
    total_ms, drift_ms = 96 * 60_000, 5_800 * sign
    worst = 0
    offsets = []
    for position_ms in range(0, total_ms, 2_000):
        server_ms = T0 + position_ms + drift_ms * position_ms // total_ms
        clock.add(position_ms, server_ms)
        offsets.append(server_ms - position_ms)
        if position_ms >= 30_000 and position_ms % 60_000 == 0:
            mapped = clock.server_time(position_ms, now_ms=server_ms)
            worst = max(worst, abs(mapped.server_ms - server_ms))
    averaged = sum(offsets) // len(offsets) - offsets[-1]
    assert abs(averaged) > 2_800  # what averaging would be off by at the end
    assert worst <= 2


def test_an_unmarked_step_is_believed_after_five_samples_and_the_past_keeps_its_map() -> None:
    before = [(p, T0 + p) for p in range(0, 30_000, 1_000)]
    after = [(p, T0 + p + 4_000) for p in range(30_000, 60_000, 1_000)]
    clock = fed(before + after[:4])
    assert clock.server_time(34_000, now_ms=T0 + 37_000).server_ms == T0 + 34_000
    clock.add(*after[4])
    assert clock.server_time(34_000, now_ms=T0 + 38_000).server_ms == T0 + 38_000
    assert clock.server_time(20_000, now_ms=T0 + 38_000).server_ms == T0 + 20_000
    across = clock.elapsed(Position(20_000, 0), Position(34_000, 0), now_ms=T0 + 38_000)
    assert across.ms == 18_000
    assert across.uncertainty_ms > 0


def test_late_samples_that_do_not_agree_are_a_stall_and_no_step() -> None:
    clock = fed([(p, T0 + p) for p in range(0, 30_000, 1_000)])
    for index, late_ms in enumerate([9_000, 7_000, 5_000, 3_000, 2_000, 1_000]):
        clock.add(30_000 + index * 1_000, T0 + 30_000 + index * 1_000 + late_ms)
    assert clock.server_time(36_000, now_ms=T0 + 37_000).server_ms == T0 + 36_000


@given(st.integers(-9_000, 9_000), st.integers(1, 40))
def test_relabelling_moves_positions_and_no_times(shift_ms: int, count: int) -> None:
    clock = fed(steady(T0, T0 - 20_000, [1_000] * count))
    now_ms = T0 + count * 1_000
    position_ms = now_ms - T0 + 20_000
    before = clock.server_time(position_ms, now_ms=now_ms)
    clock.take(Relabel(shift_ms, now_ms))
    after = clock.server_time(position_ms + shift_ms, now_ms=now_ms)
    assert after.server_ms == before.server_ms
    assert after.uncertainty_ms == before.uncertainty_ms + abs(shift_ms)


# --- discontinuities ----------------------------------------------------------------------


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 20_000))
def test_a_cue_before_and_a_tap_after_a_discontinuity_are_compared_by_server_time(
    first_offset: int, second_offset: int, gap_ms: int
) -> None:
    start = T0 + 10**12
    clock = StreamClock()
    for passed in range(0, 20_000, 1_000):
        clock.add(start + passed - first_offset, start + passed, 4)
    again = start + 20_000 + gap_ms
    for passed in range(0, 20_000, 1_000):
        clock.add(again + passed - second_offset, again + passed, 5)
    now_ms = again + 19_000
    cue = Position(start + 18_500 - first_offset, 4)
    tap = Position(again + 700 - second_offset, 5)
    assert clock.elapsed(cue, tap, now_ms=now_ms).ms == gap_ms + 2_200
    assert clock.elapsed(tap, cue, now_ms=now_ms).ms == -gap_ms - 2_200
    assert clock.lag_ms(tap, now_ms=now_ms) == 18_300


def test_within_one_named_discontinuity_neither_samples_nor_the_time_are_needed() -> None:
    assert StreamClock().elapsed(Position(5, 3), Position(1_005, 3)).ms == 1_000
    with pytest.raises(InvalidRequest, match="now_ms: must be the server time now"):
        StreamClock().elapsed(Position(5, 3), Position(1_005, 4))


def test_labels_of_two_discontinuities_that_overlap_and_disagree_must_be_named() -> None:
    clock = StreamClock()
    for passed in range(0, 10_000, 1_000):
        clock.add(50_000 + passed, T0 + passed, 0)
    for passed in range(0, 10_000, 1_000):  # the encoder came back with labels 8 s early
        clock.add(52_000 + passed, T0 + 10_000 + passed, 1)
    with pytest.raises(InvalidRequest, match=r"discontinuity: must be named: position 55000 lies"):
        clock.server_time(55_000, now_ms=T0 + 19_000)
    assert clock.server_time(Position(55_000, 0), now_ms=T0 + 19_000).server_ms == T0 + 5_000
    assert clock.server_time(Position(55_000, 1), now_ms=T0 + 19_000).server_ms == T0 + 13_000
    assert clock.server_time(51_000, now_ms=T0 + 19_000).discontinuity == 0
    assert clock.server_time(60_000, now_ms=T0 + 19_000).discontinuity == 1


def test_labels_that_overlap_and_agree_need_no_name() -> None:
    clock = StreamClock()
    for passed in range(0, 10_000, 1_000):
        clock.add(passed, T0 + passed, 0)
    for passed in range(9_000, 20_000, 1_000):
        clock.add(passed, T0 + passed, 1)
    assert clock.server_time(9_000, now_ms=T0 + 19_000).server_ms == T0 + 9_000


def test_discontinuities_do_not_go_back_and_unknown_ones_are_named() -> None:
    clock = fed([(0, T0)])
    clock.add(0, T0 + 1_000, 7)
    with pytest.raises(InvalidRequest, match="must not go back from 7 to 3"):
        clock.add(0, T0 + 2_000, 3)
    clock.add(1_000, T0 + 1_000, 0)  # still remembered
    with pytest.raises(InvalidRequest, match=r"must be one the clock has samples of \(\[0, 7\]\)"):
        clock.server_time(Position(0, 5), now_ms=T0)


# --- honesty and bounds -------------------------------------------------------------------


def test_an_old_clock_refuses_and_says_what_to_do() -> None:
    clock = fed([(0, T0), (1_000, T0 + 1_000)])
    assert clock.server_time(500, now_ms=T0 + 31_000).age_ms == 30_000
    rule = r"^clock: must have a sample of the last 30000 ms; the newest is 30001 ms old: the sou"
    with pytest.raises(InvalidRequest, match=rule):
        clock.server_time(500, now_ms=T0 + 31_001)
    with pytest.raises(InvalidRequest, match="^now_ms: must be by the clock that stamped"):
        clock.server_time(500, now_ms=T0 - 40_000)
    with pytest.raises(InvalidRequest, match="^clock: must have a sample: add one"):
        StreamClock().server_time(0, now_ms=T0)
    with pytest.raises(InvalidRequest, match="^clock: must have a sample: add one"):
        StreamClock().position_at(T0)


def test_positions_far_from_what_was_sampled_are_refused_on_both_sides() -> None:
    clock = fed([(p, T0 + p) for p in range(100_000, 120_000, 1_000)], max_age_ms=5_000)
    now_ms = T0 + 119_000
    assert clock.server_time(124_000, now_ms=now_ms).reach_ms == 5_000
    assert clock.server_time(95_000, now_ms=now_ms).reach_ms == 5_000
    for far in (124_001, 94_999):
        with pytest.raises(InvalidRequest, match=rf"^position: .*; {far} lies 5001 ms outside"):
            clock.server_time(far, now_ms=now_ms)
        with pytest.raises(InvalidRequest, match="5001 ms outside"):
            clock.position_at(T0 + far)


def test_a_wild_sample_neither_keeps_a_dead_clock_alive_nor_stretches_it() -> None:
    clock = fed([(p, T0 + p) for p in range(0, 20_000, 1_000)])
    clock.add(20_000, T0 + 900_000)
    clock.add(700_000, T0 + 21_000)
    assert clock.server_time(19_000, now_ms=T0 + 30_000).age_ms == 11_000
    with pytest.raises(InvalidRequest, match="lies 680999 ms outside|lies 681000 ms outside"):
        clock.server_time(700_000, now_ms=T0 + 30_000)


def test_memory_is_bounded() -> None:
    clock = StreamClock()
    for number in range(100):
        for passed in range(0, 100_000, 1_000):
            clock.add(passed, T0 + number * 100_000 + passed, number)
    assert len(clock._pieces) == PIECES_MAX
    assert max(len(piece._samples) for piece in clock._pieces) <= SAMPLES_MAX
    with pytest.raises(InvalidRequest, match="must be one the clock has samples of"):
        clock.server_time(Position(0, 83), now_ms=T0 + 10_000_000)


def test_only_the_window_counts() -> None:
    old = [(p, T0 + p) for p in range(0, 60_000, 1_000)]
    clock = fed(old, window_ms=10_000)
    line = clock.server_time(59_000, now_ms=T0 + 59_000)
    assert line.samples == 11


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda c: c.add(1.0, T0), "^position_ms: must be an int"),
        (lambda c: c.add(True, T0), "^position_ms: must be an int"),
        (lambda c: c.add(0, -1), "^server_ms: must be from 0"),
        (lambda c: c.add(0, T0, -1), "^discontinuity: must be from 0"),
        (lambda c: c.add(10**13, T0), "^position_ms: must be from"),
        (lambda c: c.server_time("5", now_ms=T0), "^position: must be an int"),
        (lambda c: c.server_time(5, now_ms=None), "^now_ms: must be an int"),
        (lambda c: c.position_at(1.5), "^server_ms: must be an int"),
        (lambda c: Position(1, -1), "^discontinuity: must be from 0"),
        (lambda c: Sample(5, T0, 0, 6), "^first_ms: must be from"),
        (lambda c: Relabel(1, -1), "^server_ms"),
        (lambda c: StreamClock(noise="odd"), "^noise: must be 'late'"),
        (lambda c: StreamClock(max_age_ms=0), "^max_age_ms: must be from 1"),
        (lambda c: StreamClock(window_ms=999), "^window_ms: must be from 1000"),
        (lambda c: StreamClock(doubt_ms=-1), "^doubt_ms: must be from 0"),
    ],
)
def test_wrong_values_are_named_with_their_rule(call: object, rule: str) -> None:
    clock = fed([(0, T0)])
    with pytest.raises(InvalidRequest, match=rule):
        call(clock)  # type: ignore[operator]


# --- what is told stands wild samples -----------------------------------------------------


@pytest.mark.parametrize("early_ms", [150, 552, 999, 5_000])
@pytest.mark.parametrize("when", [0, 3, 30, 59])
def test_one_early_sample_among_sixty_moves_nothing(early_ms: int, when: int) -> None:
    pairs = steady(T0, T0, [1_000] * 60)
    pairs[when] = (pairs[when][0], pairs[when][1] - early_ms)
    position_ms, now_ms = pairs[-1][0], T0 + 60_000
    mapped = fed(pairs).server_time(position_ms, now_ms=now_ms)
    assert mapped.server_ms == now_ms


@st.composite
def wild(draw: st.DrawFn) -> tuple[int, dict[int, int]]:
    """How many samples, and by how much a quarter of them, at most, is off: early or late.

    Never five in a row, which would be a step and not wild.
    """
    count = draw(st.integers(4, 64))
    least = draw(st.sampled_from([-5_000, -1_000, -300]))
    most = draw(st.sampled_from([-1, 1_000, 10**6]))
    places = draw(st.sets(st.integers(0, count - 1), max_size=count // 4))
    in_row = {n for n in places if {n - 1, n - 2, n - 3, n - 4} <= places}
    return count, {n: draw(st.integers(least, most)) for n in places - in_row}


@given(wild(), st.integers(0, 2**32))
def test_the_told_doubt_of_late_samples_stands_a_quarter_of_wild_ones(
    story: tuple[int, dict[int, int]], seed: int
) -> None:
    """Every good sample is late by up to the clock's doubt, and one of them is not late at all."""
    count, off = story
    rng, jitter_ms = random.Random(seed), 200
    pairs = steady(T0, T0, [1_000] * count)
    prompt = rng.choice([n for n in range(count) if n not in off])
    late = [0 if n == prompt else rng.randint(0, jitter_ms) for n in range(count)]
    noisy = [(p, s + off.get(n, late[n])) for n, (p, s) in enumerate(pairs)]
    clock = fed(noisy, doubt_ms=jitter_ms)
    position_ms, now_ms = pairs[-1]
    mapped = clock.server_time(position_ms, now_ms=now_ms)
    assert abs(mapped.server_ms - now_ms) <= mapped.uncertainty_ms


@given(wild(), st.integers(0, 2**32))
def test_the_told_doubt_of_samples_that_err_to_both_sides_stands_a_quarter_too(
    story: tuple[int, dict[int, int]], seed: int
) -> None:
    count, off = story
    rng, sigma_ms = random.Random(seed), 60
    pairs = steady(T0, T0, [1_000] * count)
    noisy = [
        (p, s + off.get(n, max(-180, min(180, round(rng.gauss(0, sigma_ms))))))
        for n, (p, s) in enumerate(pairs)
    ]
    clock = fed(noisy, noise="both", doubt_ms=200)
    position_ms, now_ms = pairs[-1]
    mapped = clock.server_time(position_ms, now_ms=now_ms)
    assert abs(mapped.server_ms - now_ms) <= mapped.uncertainty_ms
