"""The scenarios, as frozen values. The command line and load generators use the same ones.

A scenario is written at full size and in real seconds. `Scenario.sized` says what a run of
so many seconds makes of it, and `Scenario.plan` lays out every attempt of that run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import count
from math import ceil

from msgspec import Struct
from msgspec.structs import replace

from flashsale.errors import InvalidRequest
from flashsale.limits import DURATION_MAX_MS, check_id
from flashsale.models import Sale, Sku
from flashsale.rehearsal.arrivals import intended_times
from flashsale.rehearsal.crowd import Crowd, Plan, lay_out
from flashsale.rehearsal.curves import Curve, RushCurve
from flashsale.rehearsal.published import DOUBLE11_CURVE

PEAK_PER_S = 6_000
"""Attempts a second at the peak unless a scale is given: what two cores keep up with, one
for the server and one for this Python process, even if they have other things to do."""

SECONDS_MAX = 86_400
"""The longest run."""


class Size(Struct, frozen=True, kw_only=True):
    """How a run stands to the scenario.

    seconds: how long buyers arrive. rate_divisor: the run's rate is the curve's divided by
    this. time_factor: one second of the run stands for so many of the curve, and the
    crowd's times and the sale's deadlines shrink alike. Stock shrinks with the number of
    attempts, by both.
    """

    seconds: float
    rate_divisor: float
    time_factor: float

    def __post_init__(self) -> None:
        for name, high in (("seconds", SECONDS_MAX), ("rate_divisor", 1e9), ("time_factor", 1e6)):
            if not 0 < getattr(self, name) <= high:
                raise InvalidRequest(name, f"must be above 0 and at most {high:,.0f}")

    @property
    def fewer(self) -> float:
        """By what the number of attempts, and the stock, is divided."""
        return self.rate_divisor * self.time_factor

    def __str__(self) -> str:
        rate = (
            f"1/{self.rate_divisor:g}" if self.rate_divisor >= 1 else f"×{1 / self.rate_divisor:g}"
        )
        return f"rate {rate}, time ×{self.time_factor:g}"


class Scenario(Struct, frozen=True, kw_only=True):
    """A surge: who comes when, what they want, and what there is.

    sale: its skus, limits and times, at full size. A run gets an id of its own.
    attempts_per_unit: if given, the stock follows from the attempts that are to be expected
        (spread evenly over the skus), and the sale's own stock figures do not count.
    span_s: how much of the curve a run goes through, whatever its length, so that time
        shrinks or stretches; None: real time.
    """

    name: str
    about: str
    curve: Curve
    crowd: Crowd
    sale: Sale
    attempts_per_unit: float | None = None
    span_s: float | None = None
    seconds: float = 10.0

    def with_sale(self, sale: Sale) -> Scenario:
        """The same surge on a sale of your own, with the stock that it states.

        Its opening and closing times do not count: a rehearsal is open while it runs.
        """
        sale = replace(sale, opens_at_ms=None, closes_at_ms=None)
        return replace(self, sale=sale, attempts_per_unit=None)

    def with_curve(self, curve: Curve) -> Scenario:
        """The same crowd and sale along another curve, all of it."""
        return replace(self, curve=curve, span_s=curve.ends_s)

    def sized(
        self,
        *,
        seconds: float | None = None,
        rate_divisor: float | None = None,
        time_factor: float | None = None,
        peak_per_s: float = PEAK_PER_S,
    ) -> Size:
        """The size of a run; what is not given follows from the scenario.

        seconds: the scenario's own (10). time_factor: what fits `span_s` into the seconds.
        rate_divisor: the smallest of 1, 2, 5, 10, 20, 50 … that keeps the peak within
            `peak_per_s`, attempts a second.
        """
        seconds = self.seconds if seconds is None else seconds
        if not 0 < seconds <= SECONDS_MAX:
            raise InvalidRequest("seconds", f"must be above 0 and at most {SECONDS_MAX:,}")
        if time_factor is None:
            time_factor = 1.0 if self.span_s is None else self.span_s / seconds
        if rate_divisor is None:
            rate_divisor = round_up(self.curve.peak(seconds * time_factor) / peak_per_s)
        return Size(seconds=seconds, rate_divisor=rate_divisor, time_factor=time_factor)

    def plan(self, size: Size, *, seed: int | str) -> Plan:
        """Every attempt of a run, from the seed alone.

        The curve counts attempts, of which a buyer may make several; so fewer buyers arrive.
        """
        arrivals = intended_times(
            self.curve,
            seconds=size.seconds,
            time_factor=size.time_factor,
            rate_divisor=size.rate_divisor * self.crowd.attempts_per_buyer,
            seed=seed,
        )
        return lay_out(
            self.crowd, arrivals, self.sale.skus, time_factor=size.time_factor, seed=seed
        )

    def sale_for(self, size: Size, sale_id: str) -> Sale:
        """The sale of a run: under that id, with stock and times to scale."""
        return replace(
            self.sale,
            id=sale_id,
            skus=[replace(sku, stock=self._stock(sku, size)) for sku in self.sale.skus],
            hold_ttl_ms=_shrunk(self.sale.hold_ttl_ms, size, least=1),
            extend_max_ms=_shrunk(self.sale.extend_max_ms, size, least=0),
        )

    def _stock(self, sku: Sku, size: Size) -> int:
        if self.attempts_per_unit is None:
            return ceil(sku.stock / size.fewer)
        attempts = self.curve.total(size.seconds * size.time_factor) / size.fewer
        return max(1, round(attempts / self.attempts_per_unit / len(self.sale.skus)))


def parse_scale(text: str) -> float:
    """Read a scale, ``1/24`` (or ``1``), as the divisor of the rate; InvalidRequest."""
    found = re.fullmatch(r"1(?:/([0-9]{1,9}(?:\.[0-9]{1,6})?))?", text.strip(), re.ASCII)
    divisor = float(found[1] or 1) if found else math.nan
    if not divisor > 0:
        raise InvalidRequest("scale", f"must be 1/N with N above 0, such as 1/24, not {text!r}")
    return divisor


def fresh_id(stem: str, tail: str) -> str:
    """A sale id for one run: the stem, cut if need be, and the tail."""
    return check_id("sale", f"{stem[: 63 - len(tail)]}.{tail}")


def round_up(divisor: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50 …"""
    steps: Iterator[int] = (step * 10**power for power in count() for step in (1, 2, 5))
    return next(step for step in steps if step >= divisor)


def _shrunk(milliseconds: int, size: Size, *, least: int) -> int:
    return min(DURATION_MAX_MS, max(least, round(milliseconds / size.time_factor)))


_PAYING = "payments peaked at 256,000/s against orders at 325,000/s, Double 11 2017"

_SOURCES = {"pay": _PAYING, "pay_slowly": f"with pay: {_PAYING}"}

DOUBLE11 = Scenario(
    name="double11",
    about="the first five minutes of a Double 11, a hundred skus of which the first ones run out",
    curve=DOUBLE11_CURVE,
    span_s=300,
    crowd=Crowd(
        pay=0.74,
        pay_slowly=0.05,
        cancel=0.06,
        abandon=0.15,
        think_s=18,
        extend_s=60,
        reply_lost=0.02,
        retry_after_s=5,
        press_same=0.03,
        press_new=0.02,
        press_gap_s=0.3,
        lines=(0.85, 0.12, 0.03),
        quantities=(0.92, 0.08),
        taste=0.7,
        sources=_SOURCES,
    ),
    # A minute instead of the usual 15 minutes: abandoned units come back while buyers still come.
    sale=Sale(
        "double11", [Sku(f"sku-{n:03d}", stock=0, limit=2) for n in range(100)], hold_ttl_ms=60_000
    ),
    attempts_per_unit=1,
)

HOT_SKU = Scenario(
    name="hot_sku",
    about="one sku, a thousand attempts a unit (a new-year ticket rush had 956 visits a ticket)",
    curve=RushCurve(
        peak_per_s=583_000,
        rise_s=2,
        source="assumed: a whole Double 11's peak (583,000/s in 2020) on one sku, there in seconds",
    ),
    crowd=Crowd(
        pay=0.74,
        pay_slowly=0.05,
        cancel=0.06,
        abandon=0.15,
        think_s=0.6,
        extend_s=1.5,
        reply_lost=0.02,
        retry_after_s=0.2,
        press_same=0.05,
        press_new=0.05,
        press_gap_s=0.01,
        late="retake",
        sources=_SOURCES,
    ),
    sale=Sale("hot_sku", [Sku("lipstick", stock=0, limit=1)], hold_ttl_ms=2_000),
    attempts_per_unit=1_000,
)

SCENARIOS: dict[str, Scenario] = {one.name: one for one in (DOUBLE11, HOT_SKU)}
"""Every scenario by its name."""


LIVE_ROOM_NAME = "live_room"
"""A scenario that is more than a curve and a crowd: `flashsale.rehearsal.room`."""

WAITING_ROOM_NAME = "waiting_room"
"""Another one: `flashsale.rehearsal.queue`."""


def scenario_named(name: str) -> Scenario:
    """The scenario of that name; InvalidRequest names those there are."""
    try:
        return SCENARIOS[name]
    except KeyError:
        known = ", ".join((*SCENARIOS, LIVE_ROOM_NAME, WAITING_ROOM_NAME))
        raise InvalidRequest("scenario", f"must be one of {known}, not {name!r}") from None
