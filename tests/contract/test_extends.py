"""How often a deadline may be moved: every time is a ledger entry that every reader reads."""

from __future__ import annotations

import pytest

from flashsale import Outcome
from flashsale.limits import EXTENDS_MAX
from support.lab import T0, Lab


@pytest.mark.parametrize("basket", [{"red": 1}, {"red": 2, "blue": 1}], ids=["plain", "lines"])
def test_a_holds_deadline_is_moved_a_bounded_number_of_times(
    lab: Lab, basket: dict[str, int]
) -> None:
    sale = lab.open()
    sale.hold("ann", basket, hold_id="h").unwrap()
    last = T0 + 1_000
    for n in range(EXTENDS_MAX):
        answer = sale.extend("ann", "h", deadline_ms=last + 1)
        assert (answer.outcome, answer.deadline_ms) == (Outcome.EXTENDED, last + 1), n
        last += 1
    before = lab.dump(sale)
    answer = sale.extend("ann", "h", deadline_ms=last + 1)
    assert (answer.outcome, answer.deadline_ms) == (Outcome.TOO_MANY_EXTENDS, last)
    assert sale.extend("ann", "h", deadline_ms=last).replayed
    far = sale.extend("ann", "h", deadline_ms=T0 + 10**10)
    assert far.outcome is Outcome.DEADLINE_TOO_FAR
    assert lab.dump(sale) == before
    hold = sale.find("ann", "h")
    assert hold is not None
    assert (hold.deadline_ms, hold.original_deadline_ms) == (last, T0 + 1_000)
    assert sale.confirm("ann", "h", lines={"red": 1}).outcome is Outcome.CONFIRMED
    assert sale.audit().ok


def test_asking_for_the_deadline_that_a_hold_has_is_not_counted(lab: Lab) -> None:
    sale = lab.open()
    sale.hold("ann", {"red": 1}, hold_id="h").unwrap()
    for n in range(3 * EXTENDS_MAX):
        assert sale.extend("ann", "h", deadline_ms=T0 + 1_500).replayed is (n > 0)
    assert sale.extend("ann", "h", deadline_ms=T0 + 1_501).outcome is Outcome.EXTENDED
    assert sale.audit().ok
