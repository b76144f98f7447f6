"""The server's clock decides, a shard's time never goes back, a strange clock is not believed."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from flashsale import Outcome, Rejected, Sale, SaleHandle, Sku
from support.lab import T0, Lab

MINUTE = 60_000


def stored_time(lab: Lab, sale: SaleHandle) -> int:
    return int(lab.raw.hget(lab.keys(sale).sale, "now"))  # type: ignore[arg-type]


# --- opening and closing ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_ms", "outcome"),
    [
        (9, Outcome.NOT_OPEN),
        (10, Outcome.HELD),
        (19, Outcome.HELD),
        (20, Outcome.CLOSED),
        (10_000, Outcome.CLOSED),
    ],
)
def test_holds_are_taken_from_opening_up_to_but_not_at_closing(
    lab: Lab, at_ms: int, outcome: Outcome
) -> None:
    sale = lab.open(opens_at_ms=T0 + 10, closes_at_ms=T0 + 20)
    lab.set_time(sale, T0 + at_ms)
    before = lab.dump(sale)
    assert sale.hold("ann", {"red": 1}, hold_id="h").outcome is outcome
    assert (lab.dump(sale) == before) is (outcome is not Outcome.HELD)


def test_what_was_held_goes_on_after_closing(lab: Lab) -> None:
    sale = lab.open(closes_at_ms=T0 + 20)
    for hold_id in ("paid", "given-up", "late"):
        sale.hold("ann", {"red": 1}, hold_id=hold_id).unwrap()
    lab.set_time(sale, T0 + 500)
    assert sale.hold("ann", {"red": 1}, hold_id="new").outcome is Outcome.CLOSED
    assert sale.hold("ann", {"red": 1}, hold_id="paid").replayed
    assert sale.extend("ann", "late", deadline_ms=T0 + 2_000).outcome is Outcome.EXTENDED
    assert sale.confirm("ann", "paid").outcome is Outcome.CONFIRMED
    assert sale.release("ann", "given-up").outcome is Outcome.RELEASED


# --- deadlines ----------------------------------------------------------------------------


@pytest.mark.parametrize(("at_ms", "outcome"), [(999, Outcome.CONFIRMED), (1_000, Outcome.EXPIRED)])
def test_a_hold_is_never_confirmed_at_or_past_its_deadline(
    lab: Lab, at_ms: int, outcome: Outcome
) -> None:
    sale = lab.open()
    assert sale.hold("ann", {"red": 1}, hold_id="h").deadline_ms == T0 + 1_000
    lab.set_time(sale, T0 + at_ms)
    assert sale.confirm("ann", "h").outcome is outcome


def test_by_the_servers_own_clock_too(lab: Lab) -> None:
    sale = lab.shop.open(Sale(lab.new_id(), [Sku("red", 1)], hold_ttl_ms=30))
    before_ms = time.time_ns() // 1_000_000
    answer = sale.hold("ann", {"red": 1}, hold_id="h")
    after_ms = time.time_ns() // 1_000_000
    assert before_ms <= answer.at_ms <= after_ms
    assert answer.deadline_ms == answer.at_ms + 30
    time.sleep(0.05)
    assert sale.hold("bob", {"red": 1}, hold_id="h").outcome is Outcome.HELD
    assert sale.confirm("ann", "h").outcome is Outcome.EXPIRED
    assert sale.audit().ok


@pytest.mark.parametrize("at_ms", [T0 + 1_000, T0 + 6_000])
def test_an_extended_hold_lives_until_its_new_deadline(lab: Lab, at_ms: int) -> None:
    sale = lab.open(extend_max_ms=5_000)
    sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    sale.extend("ann", "h", deadline_ms=T0 + 6_000).unwrap()
    lab.set_time(sale, at_ms)
    outcome = Outcome.EXPIRED if at_ms == T0 + 6_000 else Outcome.CONFIRMED
    assert sale.confirm("ann", "h").outcome is outcome


def test_extending_again_and_again_does_not_pass_the_bound_of_the_original_deadline(
    lab: Lab,
) -> None:
    sale = lab.open(extend_max_ms=5_000)
    sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    for deadline in (T0 + 3_000, T0 + 5_999, T0 + 6_000):
        assert sale.extend("ann", "h", deadline_ms=deadline).deadline_ms == deadline
    too_far = sale.extend("ann", "h", deadline_ms=T0 + 6_001)
    assert (too_far.outcome, too_far.deadline_ms) == (Outcome.DEADLINE_TOO_FAR, T0 + 6_000)
    hold = sale.find("ann", "h")
    assert hold is not None
    assert (hold.deadline_ms, hold.original_deadline_ms) == (T0 + 6_000, T0 + 1_000)


def test_a_sale_with_an_extend_max_of_zero_extends_nothing(lab: Lab) -> None:
    sale = lab.open(extend_max_ms=0)
    sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    before = lab.dump(sale)
    assert sale.extend("ann", "h", deadline_ms=T0 + 1_001).outcome is Outcome.DEADLINE_TOO_FAR
    assert sale.extend("ann", "h", deadline_ms=T0 + 1_000).outcome is Outcome.EXTENDED
    assert lab.dump(sale) == before


def test_an_extended_hold_replays_with_its_original_deadline(lab: Lab) -> None:
    sale = lab.open()
    first = sale.hold("ann", {"red": 1}, hold_id="h")
    sale.extend("ann", "h", deadline_ms=T0 + 2_000).unwrap()
    again = sale.hold("ann", {"red": 1}, hold_id="h")
    assert (again.outcome, again.replayed, again.deadline_ms) == (
        Outcome.HELD,
        True,
        first.deadline_ms,
    )


# --- a clock that goes back ---------------------------------------------------------------


def test_when_the_servers_clock_goes_back_the_shards_time_stands_still(lab: Lab) -> None:
    sale = lab.open()  # its last time is far ahead of the server's clock
    times = [
        sale.hold("ann", {"red": 1}, hold_id="1").at_ms,
        sale.hold("ann", {"red": 1}, hold_id="2").at_ms,
        sale.confirm("ann", "1").at_ms,
        sale.snapshot().at_ms,
        stored_time(lab, sale),
    ]
    assert times == [T0] * 5
    assert all(entry.at_ms == T0 for entry in sale.ledger.read(after=1).entries)


def test_no_expired_hold_comes_back_when_the_servers_clock_goes_back(lab: Lab) -> None:
    sale = lab.open({"red": 1})
    sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    lab.set_time(sale, T0 + 1_000)
    assert sale.confirm("ann", "h").outcome is Outcome.EXPIRED
    assert stored_time(lab, sale) == T0 + 1_000
    assert sale.confirm("ann", "h").outcome is Outcome.EXPIRED
    assert sale.hold("bob", {"red": 1}, hold_id="h").deadline_ms == T0 + 2_000


def test_the_time_goes_on_with_the_servers_clock_and_is_stored_with_every_write(lab: Lab) -> None:
    sale = lab.open()
    earlier = time.time_ns() // 1_000_000 - 10_000
    lab.set_time(sale, earlier)
    answer = sale.hold("ann", {"red": 1}, hold_id="h")
    assert answer.at_ms > earlier + 9_000
    assert stored_time(lab, sale) == answer.at_ms
    refused = sale.hold("bob", {"red": 100}, hold_id="h")
    assert refused.at_ms >= answer.at_ms
    assert stored_time(lab, sale) == answer.at_ms


# --- a clock that jumps ahead -------------------------------------------------------------


@pytest.fixture
def callers_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how far the clients' clock is from the true time, in milliseconds."""

    def shift(by_ms: int) -> None:
        monkeypatch.setattr(
            "flashsale.connecting.now_ms", lambda: time.time_ns() // 1_000_000 + by_ms
        )

    return shift


def behind(lab: Lab, by_ms: int, **rules: object) -> tuple[SaleHandle, int]:
    """A sale whose last time is so far behind the server's clock."""
    sale = lab.open(**rules)  # type: ignore[arg-type]
    at_ms = time.time_ns() // 1_000_000 - by_ms
    lab.set_time(sale, at_ms)
    return sale, at_ms


@pytest.mark.parametrize(
    ("shard_ms", "caller_ms", "outcome"),
    [
        (MINUTE + 1_000, MINUTE + 1_000, Outcome.CLOCK_JUMP),
        (MINUTE + 1_000, MINUTE - 1_000, Outcome.HELD),
        (MINUTE - 1_000, MINUTE + 1_000, Outcome.HELD),
        (24 * 60 * MINUTE, -MINUTE, Outcome.HELD),
        (24 * 60 * MINUTE, 24 * 60 * MINUTE, Outcome.CLOCK_JUMP),
    ],
)
def test_a_clock_far_ahead_of_both_the_shard_and_the_caller_takes_no_new_hold(
    lab: Lab,
    callers_clock: Callable[[int], None],
    shard_ms: int,
    caller_ms: int,
    outcome: Outcome,
) -> None:
    sale, last = behind(lab, shard_ms)
    callers_clock(-caller_ms)
    before = lab.dump(sale)
    answer = sale.hold("ann", {"red": 1}, hold_id="h")
    assert answer.outcome is outcome
    if outcome is Outcome.CLOCK_JUMP:
        assert answer.at_ms == last
        assert lab.dump(sale) == before


def test_clock_jump_comes_after_closing_and_before_an_unknown_sku(
    lab: Lab, callers_clock: Callable[[int], None]
) -> None:
    sale, _ = behind(lab, 2 * MINUTE)
    closed, _ = behind(lab, 2 * MINUTE, closes_at_ms=10**12)
    callers_clock(-2 * MINUTE)
    assert sale.hold("ann", {"green": 1}, hold_id="h").outcome is Outcome.CLOCK_JUMP
    assert closed.hold("ann", {"green": 1}, hold_id="h").outcome is Outcome.CLOSED


def test_a_retake_waits_for_a_clock_that_can_be_believed(
    lab: Lab, callers_clock: Callable[[int], None]
) -> None:
    sale = lab.open()
    sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    lab.set_time(sale, T0 + 1_000)
    assert sale.expire() == 1
    last = time.time_ns() // 1_000_000 - 2 * MINUTE
    lab.set_time(sale, last)
    callers_clock(-2 * MINUTE)
    before = lab.dump(sale)
    assert sale.confirm("ann", "h").outcome is Outcome.EXPIRED
    retake = sale.confirm("ann", "h", late="retake")
    assert (retake.outcome, retake.at_ms) == (Outcome.CLOCK_JUMP, last)
    beyond = sale.confirm("ann", "h", lines={"red": 2}, late="retake")
    assert beyond.outcome is Outcome.NOT_IN_HOLD
    assert lab.dump(sale) == before
    callers_clock(0)
    assert sale.confirm("ann", "h", late="retake").outcome is Outcome.CONFIRMED


def test_a_sale_is_not_opened_by_a_clock_far_ahead_of_the_callers(
    lab: Lab, callers_clock: Callable[[int], None]
) -> None:
    sale = Sale(lab.new_id(), [Sku("red", 1)])
    callers_clock(-MINUTE - 1_000)
    with pytest.raises(Rejected) as rejected:
        lab.shop.open(sale)
    assert rejected.value.outcome is Outcome.CLOCK_JUMP
    assert set(lab.dump(lab.shop.sale(sale.id)).values()) == {None}
    callers_clock(-MINUTE + 1_000)
    lab.shop.open(sale)
