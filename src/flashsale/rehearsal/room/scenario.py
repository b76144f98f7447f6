"""A live room as a frozen value, and everything its viewers will do, laid out from a seed.

Skus are shown one after the other. The host counts three, two, one, and the link goes up: that is
the cue. Every viewer sees it as late as their stream runs, and taps when they see it.
"""

from __future__ import annotations

import random
from array import array
from itertools import accumulate
from math import exp

from msgspec import Struct

from flashsale.errors import InvalidRequest
from flashsale.limits import HOLD_PREFIX, HOLDS_MAX
from flashsale.models import HoldRequest, Sale, Sku
from flashsale.rehearsal.crowd import Fate, Plan
from flashsale.rehearsal.scenarios import LIVE_ROOM_NAME, SECONDS_MAX, Size, round_up

PEAK_PER_S = 12_000
"""Attempts a second unless a scale is given, if all cohorts tapped at once; they do not, so that
about 60 % of it come at the peak: what two cores keep up with, the server's among them."""

HOLD_TTL_MS = 600_000
"""Nothing falls due while a room is rehearsed: who has won is then a matter of the draws alone."""

START_MS = 1_000_000
"""The media timeline's position where a run starts. Any would do: only differences count."""


class Cohort(Struct, frozen=True):
    """Viewers on one kind of path: log-normal lag with this median, and their share of all."""

    lag_s: float
    sigma: float
    share: float


class LiveRoom(Struct, frozen=True, kw_only=True):
    """A room at full size. Times are real seconds and stay so: nothing of a viewer is compressed.

    skus are shown within a run's `seconds`, so that their cues overlap where an evening has
    minutes between them. `viewers` tap each sku once, of which there are `units`. A viewer's lag
    is the same all evening; a reaction is Normal(reaction_s, reaction_sd_s) + Exponential(tail_s);
    the way to the server is log-normal around `uplink_s`; a player's position is off by a Normal
    of `position_sd_s`. `eager` viewers also tap at one of the host's three counts, `count_s` apart.
    """

    name: str = LIVE_ROOM_NAME
    about: str
    cohorts: tuple[Cohort, ...]
    skus: int = 36
    viewers: int = 100_000
    units: int = 10_000
    seconds: float = 6.0
    count_s: float = 0.5
    eager: float = 0.03
    reaction_s: float = 0.40
    reaction_sd_s: float = 0.08
    tail_s: float = 0.35
    uplink_s: float = 0.040
    uplink_sigma: float = 0.5
    position_sd_s: float = 0.05
    window_ms: int = 3_000
    lag_cap_ms: int = 12_000
    grace_ms: int = 1_000

    def sized(
        self,
        *,
        seconds: float | None = None,
        rate_divisor: float | None = None,
        peak_per_s: float = PEAK_PER_S,
    ) -> Size:
        """The size of a run; what is not given follows from the room."""
        seconds = self.seconds if seconds is None else seconds
        if not 0 < seconds <= SECONDS_MAX:
            raise InvalidRequest("seconds", f"must be above 0 and at most {SECONDS_MAX:,}")
        if rate_divisor is None:
            rate_divisor = round_up(2 * self.skus * self.viewers / seconds / peak_per_s)
        size = Size(seconds=seconds, rate_divisor=rate_divisor, time_factor=1.0)
        if self.viewers / rate_divisor < 2 * len(self.cohorts):
            raise InvalidRequest("scale", f"leaves fewer than {2 * len(self.cohorts)} viewers")
        return size

    def sale_for(self, size: Size, sale_id: str) -> Sale:
        """Every sku twice: one for the windows, its twin for first come, first served."""
        units = max(1, round(self.units / size.rate_divisor))
        skus = [Sku(name, units) for sku in self.sku_ids for name in (sku, twin_of(sku))]
        # First come, first served, one viewer may win every sku: no other rule may end that.
        return Sale(sale_id, skus, hold_ttl_ms=HOLD_TTL_MS, holds_max=HOLDS_MAX)

    @property
    def sku_ids(self) -> list[str]:
        """The skus in the order in which they are shown."""
        return [f"sku-{number:02d}" for number in range(1, self.skus + 1)]

    def cues_at_s(self, size: Size) -> list[float]:
        """When each link goes up, in seconds of the run."""
        return [3 * self.count_s + number * size.seconds / self.skus for number in range(self.skus)]

    def closes_after_s(self) -> float:
        """From a cue to the close of its entries."""
        return (self.lag_cap_ms + self.window_ms + self.grace_ms) / 1000

    def plan(self, size: Size, *, seed: int | str) -> RoomPlan:
        """Every tap of a run, from the seed alone."""
        return _lay_out(self, size, seed)


class RoomPlan(Struct, frozen=True, kw_only=True, gc=False):
    """What the viewers of a run will do.

    plan: its attempts. Order 2·n is viewer n % viewers' entry for cue n // viewers, order 2·n + 1
    the same tap as a plain hold on the twin sku. An entry's attempts may be several (who is eager).
    offset_ms: per attempt the player's position at the tap, from the cue's own position.
    cohort: per viewer. cues_at_s: when each link goes up.
    """

    plan: Plan
    viewers: int
    cohort: bytes
    offset_ms: array[int]
    cues_at_s: list[float]

    def cue_of(self, order: int) -> int:
        """Which cue an order is about."""
        return order // 2 // self.viewers

    def cohort_of(self, order: int) -> int:
        """Which cohort its viewer is of."""
        return self.cohort[order // 2 % self.viewers]

    def position_ms(self, attempt: int) -> int:
        """What the player showed at a tap."""
        cue = self.cue_of(self.plan.order[attempt])
        return position_ms(self.cues_at_s[cue]) + self.offset_ms[attempt]


def twin_of(sku: str) -> str:
    """The sku that is sold first come, first served."""
    return f"{sku}.first"


def position_ms(at_s: float) -> int:
    """The media timeline's position at a second of the run."""
    return START_MS + round(at_s * 1000)


def is_entry(order: int) -> bool:
    """Whether an order is an entry into a draw, and not a plain hold."""
    return order % 2 == 0


def _lay_out(room: LiveRoom, size: Size, seed: int | str) -> RoomPlan:
    source = random.Random(f"{seed}:room")
    viewers = round(room.viewers / size.rate_divisor)
    bounds = [share * viewers for share in accumulate(one.share for one in room.cohorts)]
    last = len(bounds) - 1
    cohort = bytes(min(last, sum(n + 0.5 >= edge for edge in bounds)) for n in range(viewers))
    lag_s = [
        room.cohorts[which].lag_s * exp(source.gauss(0.0, room.cohorts[which].sigma))
        for which in cohort
    ]
    cues_at_s = room.cues_at_s(size)
    requests: list[HoldRequest] = []
    attempts: list[tuple[float, int, int]] = []
    for sku, at_s in zip(room.sku_ids, cues_at_s, strict=True):
        wanted, twin = {sku: 1}, {twin_of(sku): 1}
        for viewer in range(viewers):
            buyer, order = f"viewer-{viewer:06d}", len(requests)
            requests += (
                HoldRequest(buyer, wanted, HOLD_PREFIX + sku),
                HoldRequest(buyer, twin, sku),
            )
            seen_s = at_s + lag_s[viewer]
            reaction_s = _reaction(room, source)
            uplink_s = room.uplink_s * exp(source.gauss(0.0, room.uplink_sigma))
            shown_ms = max(0, round(1000 * (reaction_s + source.gauss(0.0, room.position_sd_s))))
            due_s = seen_s + reaction_s + uplink_s
            attempts += ((due_s, order, shown_ms), (due_s, order + 1, shown_ms))
            if source.random() < room.eager:
                early_s = room.count_s * source.randint(1, 3)
                attempts.append((seen_s - early_s + uplink_s, order, -round(1000 * early_s)))
    attempts.sort()
    plan = Plan(
        requests=requests,
        fates=bytes([Fate.ABANDON]) * len(requests),
        think_s=array("d", [0.0]) * len(requests),
        at_s=array("d", (at for at, _, _ in attempts)),
        order=array("l", (order for _, order, _ in attempts)),
        deaf=bytes(len(attempts)),
    )
    return RoomPlan(
        plan=plan,
        viewers=viewers,
        cohort=cohort,
        offset_ms=array("l", (offset for _, _, offset in attempts)),
        cues_at_s=cues_at_s,
    )


def _reaction(room: LiveRoom, source: random.Random) -> float:
    reaction = source.gauss(room.reaction_s, room.reaction_sd_s)
    return max(0.0, reaction + source.expovariate(1 / room.tail_s))


LIVE_ROOM = LiveRoom(
    about="36 skus in a live room, one link after the other; viewers who see each 1 to 15 s late",
    cohorts=(
        Cohort(1.4, 0.12, 0.3),
        Cohort(3.5, 0.20, 0.3),
        Cohort(6.5, 0.20, 0.3),
        Cohort(10.5, 0.15, 0.1),
    ),
)
