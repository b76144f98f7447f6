"""Places that fall free go to the next in order, and nobody is passed over for somebody later."""

from __future__ import annotations

from typing import Any

import pytest

from flashsale import CueHandle, SaleHandle, draw, settling, verify
from support.cues import (
    Hand,
    Tap,
    awarded_by,
    enter_all,
    known_of,
    open_cue,
    seed_of,
    settled,
    settlement,
)
from support.lab import Lab


def in_order(handle: CueHandle, count: int) -> list[str]:
    """Buyers, and the order in which this cue's draw will have them if they enter one window."""
    sale, cue = handle.sale, handle.id
    salt, seed = known_of(handle).salt, seed_of(handle)

    def rank(buyer: str) -> bytes:
        return verify.rank_of(seed, sale, cue, draw.entrant_of(salt, sale, cue, buyer))

    return sorted((f"buyer-{at}" for at in range(count)), key=rank)


def wishing(buyers: list[str], units: list[int]) -> list[Tap]:
    """All of it or nothing."""
    return [Tap(buyer, {"red": qty}) for buyer, qty in zip(buyers, units, strict=True)]


def give_up(sale: SaleHandle, handle: CueHandle, *buyers: str) -> None:
    for buyer in buyers:
        sale.release(buyer, handle.cue().hold_id)


def verified(record: Any) -> bool:
    result = verify.verify(record)
    assert result.ok, [check for check in result.checks if not check.ok]
    return result.ok


def test_what_falls_free_goes_to_the_next_in_order_and_the_record_verifies(lab: Lab) -> None:
    sale = lab.open()
    handle = open_cue(lab, sale, reserve_ms=60_000)
    buyers = in_order(handle, 8)
    enter_all(lab, handle.cue(), wishing(buyers, [1] * 8))
    assert settled(lab, sale, handle).drawn == 3
    assert verified(handle.record())
    give_up(sale, handle, buyers[0], buyers[2])
    assert settled(lab, sale, handle).promoted == 2
    expected = [(buyer, "held", {"red": 1}) for buyer in buyers[:5]]
    assert awarded_by(handle, buyers) == expected
    assert handle.record()["returned"] == {"red": 2}
    assert verified(handle.record())


def test_who_was_passed_over_is_asked_again_before_anybody_later(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Units fall free between two scripts of one settlement."""
    monkeypatch.setattr(settling, "CHUNK", 2)
    sale = lab.open()
    handle = open_cue(lab, sale, reserve_ms=60_000)
    buyers = in_order(handle, 7)
    enter_all(lab, handle.cue(), wishing(buyers, [1, 1, 1, 2, 1, 1, 1]))
    settled(lab, sale, handle)
    give_up(sale, handle, buyers[0])

    hand = Hand(lab, settlement(handle.cue()))
    while verdicts(handle, buyers) == 3:
        assert hand.call()  # until the fifth takes what the fourth cannot use
    give_up(sale, handle, buyers[1], buyers[2])
    hand.finish()
    assert awarded_by(handle, buyers)[3:] == [
        (buyers[3], "held", {"red": 2}),
        (buyers[4], "held", {"red": 1}),
    ]
    assert verified(handle.record())


def test_what_is_of_no_use_to_the_first_goes_to_whoever_can_use_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are passed over: here more than one script takes."""
    monkeypatch.setattr(settling, "CHUNK", 2)
    sale = lab.open()
    handle = open_cue(lab, sale, reserve_ms=60_000)
    buyers = in_order(handle, 9)
    enter_all(lab, handle.cue(), wishing(buyers, [1, 1, 1, 2, 2, 2, 2, 1, 1]))
    settled(lab, sale, handle)
    give_up(sale, handle, buyers[0])
    assert settled(lab, sale, handle).promoted == 1
    assert awarded_by(handle, buyers)[3:] == [(buyers[7], "held", {"red": 1})]
    give_up(sale, handle, buyers[1], buyers[2])
    assert settled(lab, sale, handle).promoted == 2
    assert awarded_by(handle, buyers)[3] == (buyers[3], "held", {"red": 2})
    assert verified(handle.record())


def verdicts(handle: CueHandle, buyers: list[str]) -> int:
    return len(awarded_by(handle, buyers))
