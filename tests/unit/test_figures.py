"""What is printed of a figure says as much as its verdict needs."""

from __future__ import annotations

import pytest

from loadtests.targets import report
from loadtests.targets.figures import Figure


def cells(value: float, bound: float) -> list[str]:
    """Measured, bound and verdict, as a README shows them."""
    figure = Figure(subject="s", name="n", value=value, unit="", bound=bound)
    return [cell.strip() for cell in report.as_markdown({}, [figure]).splitlines()[-1].split("|")]


def test_a_small_figure_is_not_rounded_to_where_its_verdict_looks_wrong() -> None:
    assert cells(0.00716, 0.00823)[2:5] == ["0.00716", "<= 0.00823", "PASS"]
    assert cells(0.00829, 0.00823)[2:5] == ["0.00829", "<= 0.00823", "MISS"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.00"),
        (0.0062512, "0.00625"),
        (0.63, "0.630"),
        (1.0, "1.00"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (47.26, "47.3"),
        (100.4, "100"),
        (269_169.4, "269,169"),
        (-9.684, "-9.68"),
    ],
)
def test_a_figure_has_three_significant_digits_or_all_before_the_point(
    value: float, shown: str
) -> None:
    assert cells(value, 1)[2] == shown
