"""The published figures that the scenarios stand on, with their sources.

They ship as CSV files beside this module. `DOUBLE11_CURVE` is the curve fitted to them.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

from msgspec import Struct

from flashsale.rehearsal.curves import SurgeCurve

DOUBLE11_CURVE = SurgeCurve(
    peak_per_s=583_000,
    ramp_s=26,
    plateau_until_s=136,
    decay=0.78,
    source=(
        "shape: ten milestones of Double 11 2019's paid turnover (all within 11 %); height and "
        "moment of the peak: 583,000 orders/s at 00:00:26 in 2020; the linear ramp is assumed, "
        "and the creation of orders is sharper in reality than their payment"
    ),
)


class Milestone(Struct, frozen=True):
    """Double 11 2019: what had been paid by this second of the day, in bn yuan."""

    second: float
    turnover_bn_yuan: float
    source: str


class PeakYear(Struct, frozen=True):
    """The most orders created in one second of a year's Double 11."""

    year: int
    orders_per_s: float
    note: str
    source: str


class Drop(Struct, frozen=True):
    """A sale of few units to many. None where nothing was published."""

    event: str
    stock: int | None
    seconds_to_sell_out: float | None
    contenders: int | None
    contenders_meaning: str
    source: str

    @property
    def attempts_per_unit(self) -> float | None:
        """How many contended for one unit."""
        return self.contenders / self.stock if self.contenders and self.stock else None


@cache
def milestones() -> tuple[Milestone, ...]:
    """The ten milestones, in the order of time."""
    return tuple(
        Milestone(float(row["second"]), float(row["cumulative_gmv_bn_yuan"]), row["source"])
        for row in _rows("double11_2019_gmv.csv")
    )


@cache
def peak_years() -> tuple[PeakYear, ...]:
    """Peaks of the years, in the order of time."""
    return tuple(
        PeakYear(int(row["year"]), float(row["peak_orders_per_s"]), row["note"], row["source"])
        for row in _rows("double11_peak_orders.csv")
    )


@cache
def drops() -> tuple[Drop, ...]:
    """Published drops, flash sales and ticket rushes."""
    return tuple(
        Drop(
            row["event"],
            int(row["stock"]) if row["stock"] else None,
            float(row["seconds_to_sell_out"]) if row["seconds_to_sell_out"] else None,
            int(row["contenders"]) if row["contenders"] else None,
            row["contenders_meaning"],
            row["source"],
        )
        for row in _rows("drops.csv")
    )


def deviation(milestone: Milestone) -> float:
    """How far `DOUBLE11_CURVE` is from a milestone: 0.05 is five per cent too high.

    The curve counts orders and a milestone counts money. One factor joins them, yuan per
    order, the same for the whole day; it is the one free number of the comparison and is
    chosen so that the largest deviation is as small as it can be.
    """
    return (
        DOUBLE11_CURVE.total(milestone.second) * _bn_yuan_per_order() / milestone.turnover_bn_yuan
        - 1
    )


@cache
def _bn_yuan_per_order() -> float:
    ratios = [one.turnover_bn_yuan / DOUBLE11_CURVE.total(one.second) for one in milestones()]
    return 2 * min(ratios) * max(ratios) / (min(ratios) + max(ratios))


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files(__package__).joinpath("data", name).read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))
