"""Who comes and what they do: a crowd as a value, and every act of it laid out beforehand."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from itertools import accumulate
from typing import Literal, TypeAlias, cast

from msgspec import Struct, field

from flashsale.errors import InvalidRequest
from flashsale.models import HoldRequest, Sku

Late: TypeAlias = Literal["refuse", "retake"]

_TOLERANCE = 1e-9


class Fate(IntEnum):
    """What a buyer does with a hold."""

    PAY = 0
    PAY_SLOWLY = 1
    CANCEL = 2
    ABANDON = 3


class Crowd(Struct, frozen=True, kw_only=True):
    """The habits of a crowd. Shares are of 1, times are real seconds.

    pay, pay_slowly, cancel, abandon: what holders do; the four add up to 1. Who pays slowly
        extends the deadline by `extend_s` first. Whoever acts does so after a time that is
        exponential with the mean `think_s` and at most four times that.
    reply_lost: buyers whose first answer is thrown away, so that the same id is sent again
        after `retry_after_s` (and perhaps before the first is decided).
    press_same: buyers who press twice with the same id, `press_gap_s` apart.
    press_new: buyers who press twice with two ids, so that the second meets the limit.
    lines, quantities: shares of baskets with 1, 2, … lines, of lines with 1, 2, … units.
    taste: the n-th sku of the sale is wanted n^-taste as often as the first (Zipf).
    late: what a payment after the deadline asks for, as in `confirm`.
    sources: per field where its value comes from; a field that is not named is assumed.
    """

    pay: float
    pay_slowly: float = 0.0
    cancel: float = 0.0
    abandon: float = 0.0
    think_s: float = 1.0
    extend_s: float = 1.0
    reply_lost: float = 0.0
    retry_after_s: float = 0.2
    press_same: float = 0.0
    press_new: float = 0.0
    press_gap_s: float = 0.01
    lines: tuple[float, ...] = (1.0,)
    quantities: tuple[float, ...] = (1.0,)
    taste: float = 0.0
    late: Late = "refuse"
    sources: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fates = (self.pay, self.pay_slowly, self.cancel, self.abandon)
        _check_shares("pay, pay_slowly, cancel and abandon", fates, whole=True)
        quirks = (self.reply_lost, self.press_same, self.press_new)
        _check_shares("reply_lost, press_same and press_new", quirks, whole=False)
        _check_shares("lines", self.lines, whole=True)
        _check_shares("quantities", self.quantities, whole=True)
        for name in ("think_s", "extend_s", "retry_after_s", "press_gap_s", "taste"):
            if not 0 <= getattr(self, name) <= 1e6:
                raise InvalidRequest(name, "must be a number from 0 to 1,000,000")

    @property
    def attempts_per_buyer(self) -> float:
        """Attempts to hold that one arriving buyer makes on average."""
        return 1 + self.reply_lost + self.press_same + self.press_new


class Plan(Struct, frozen=True, kw_only=True, gc=False):
    """Everything a crowd will do, fixed before the run.

    An order is one (buyer, hold id); an attempt is one sending of it.

    requests, fates, think_s: per order what is asked, what its buyer will do with the hold,
        and how long after the answer, in seconds of the run.
    at_s, order, deaf: per attempt its intended time in seconds of the run (rising), its
        order, and 1 where the answer is to be thrown away.
    extend_ms, late: by how much who pays slowly moves the deadline; what a payment after it
        asks for.
    """

    requests: list[HoldRequest]
    fates: bytes
    think_s: array[float]
    at_s: array[float]
    order: array[int]
    deaf: bytes
    extend_ms: int = 1_000
    late: Late = "refuse"

    @property
    def offered(self) -> int:
        """Attempts laid out."""
        return len(self.at_s)

    def lines(self, order: int) -> Mapping[str, int]:
        """The basket of an order."""
        return cast("Mapping[str, int]", self.requests[order].basket)


def lay_out(
    crowd: Crowd,
    arrivals: Sequence[float],
    skus: Sequence[Sku],
    *,
    time_factor: float,
    seed: int | str,
) -> Plan:
    """Decide for every arriving buyer, from the seed alone, what to ask for and do.

    Times of the crowd are divided by `time_factor`, like the curve's. Attempts that would
    come after the last arrival are kept: they belong to buyers who came in time.
    """
    draw = random.Random(f"{seed}:crowd").random
    baskets = _baskets(crowd, skus, random.Random(f"{seed}:baskets"))
    fate_bounds = list(accumulate((crowd.pay, crowd.pay_slowly, crowd.cancel)))
    lost, same, new = accumulate((crowd.reply_lost, crowd.press_same, crowd.press_new))
    think = random.Random(f"{seed}:think").expovariate
    think_s = crowd.think_s / time_factor
    retry_s, gap_s = crowd.retry_after_s / time_factor, crowd.press_gap_s / time_factor
    requests: list[HoldRequest] = []
    fates = bytearray()
    thinks = array("d")
    attempts: list[tuple[float, int, int]] = []

    def order(buyer: str, basket: dict[str, int], hold_id: str) -> int:
        requests.append(HoldRequest(buyer, basket, hold_id))
        chance = draw()
        fates.append(sum(chance >= bound for bound in fate_bounds))
        thinks.append(min(think(1.0), 4.0) * think_s)
        return len(requests) - 1

    for number, at in enumerate(arrivals):
        buyer, basket = f"buyer-{number:09d}", next(baskets)
        first = order(buyer, basket, "order-1")
        quirk = draw()
        attempts.append((at, first, int(quirk < lost)))
        if quirk < lost:
            attempts.append((at + retry_s, first, 0))
        elif quirk < same:
            attempts.append((at + gap_s, first, 0))
        elif quirk < new:
            attempts.append((at + gap_s, order(buyer, basket, "order-2"), 0))
    attempts.sort()
    return Plan(
        requests=requests,
        fates=bytes(fates),
        think_s=thinks,
        at_s=array("d", [at for at, _, _ in attempts]),
        order=array("l", [of for _, of, _ in attempts]),
        deaf=bytes(deaf for _, _, deaf in attempts),
        extend_ms=max(1, round(crowd.extend_s * 1000 / time_factor)),
        late=crowd.late,
    )


def _baskets(crowd: Crowd, skus: Sequence[Sku], source: random.Random) -> Iterator[dict[str, int]]:
    """Baskets without end; equal ones are the same object, which saves memory."""
    ids = [sku.id for sku in skus]
    taste = list(accumulate((rank + 1) ** -crowd.taste for rank in range(len(ids))))
    sizes = range(1, len(crowd.lines) + 1)
    size_bounds = list(accumulate(crowd.lines))
    quantities = range(1, len(crowd.quantities) + 1)
    quantity_bounds = list(accumulate(crowd.quantities))
    known: dict[tuple[tuple[str, int], ...], dict[str, int]] = {}
    while True:
        size = min(source.choices(sizes, cum_weights=size_bounds)[0], len(ids))
        wanted: dict[str, int] = {}
        while len(wanted) < size:
            sku = source.choices(ids, cum_weights=taste)[0]
            wanted[sku] = source.choices(quantities, cum_weights=quantity_bounds)[0]
        yield known.setdefault(tuple(sorted(wanted.items())), wanted)


def _check_shares(name: str, shares: Sequence[float], *, whole: bool) -> None:
    if not all(0 <= share <= 1 for share in shares):
        raise InvalidRequest(name, f"must be shares from 0 to 1, not {shares}")
    total = sum(shares)
    if total > 1 + _TOLERANCE or (whole and total < 1 - _TOLERANCE):
        raise InvalidRequest(name, f"must add up to {'' if whole else 'at most '}1, not {total:g}")
