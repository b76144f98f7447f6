"""A rush on few units through a waiting room, as a frozen value: how many, how long, which rules.

Nothing of a person is compressed. What is shorter than in service are the rules' own times, a turn
and a hold, so that a rehearsal takes minutes and not hours.
"""

from __future__ import annotations

from msgspec import Struct

from flashsale.errors import InvalidRequest
from flashsale.models import Sale, Sku
from flashsale.rehearsal.queue.crowd import Habits, QueuePlan, lay_out
from flashsale.rehearsal.scenarios import SECONDS_MAX, WAITING_ROOM_NAME, Size, round_up
from flashsale.rooms import WaitingRoom

PEAK_PER_S = 2_700
"""Positions a second unless a scale is given, if all people wait at once: what one Python process
asks for, beside the server, on two cores that have other things to do. One costs it 60 to 120 µs,
and everybody asks every few seconds."""

SKU = "berth"


class QueueScenario(Struct, frozen=True, kw_only=True):
    """A crowd of `people` for `units`, and the waiting room between them, at full size.

    seconds: within which people come. opens_after: the share of them after which the room opens;
    who came before gets a place by lot. rate_per_unit_s: places called a second, per unit of stock.
    turns_max: so many turns after the last arrival the stock must have sold, or a run gives up.
    The others are fields of `Sale` and `WaitingRoom`.
    """

    name: str = WAITING_ROOM_NAME
    about: str
    habits: Habits
    people: int = 95_600
    units: int = 100
    seconds: float = 30.0
    opens_after: float = 0.5
    rate_per_unit_s: float = 0.1
    turn_ttl_ms: int = 20_000
    poll_max_ms: int = 5_000
    hold_ttl_ms: int = 12_000
    conversion: float = 0.7
    margin: float = 0.1
    key_places_max: int = 5
    turns_max: int = 10

    @property
    def people_per_unit(self) -> float:
        """The ratio, which a scale does not change."""
        return self.people / self.units

    def sized(
        self,
        *,
        seconds: float | None = None,
        rate_divisor: float | None = None,
        peak_per_s: float = PEAK_PER_S,
    ) -> Size:
        """The size of a run; what is not given follows from the scenario."""
        seconds = self.seconds if seconds is None else seconds
        if not 0 < seconds <= SECONDS_MAX:
            raise InvalidRequest("seconds", f"must be above 0 and at most {SECONDS_MAX:,}")
        if rate_divisor is None:
            between_s = 0.75 * self.poll_cap_ms / 1000
            rate_divisor = round_up(self.people / between_s / peak_per_s)
        size = Size(seconds=seconds, rate_divisor=rate_divisor, time_factor=1.0)
        if self.people / rate_divisor < self.people_per_unit:
            raise InvalidRequest("scale", "leaves less than one unit")
        return size

    def opens_s(self, size: Size) -> float:
        """When the room opens, in seconds of the run."""
        return size.seconds * self.opens_after

    def at_most_s(self, size: Size) -> float:
        """When a run gives up whoever still waits."""
        return size.seconds + self.turns_max * self.turn_ttl_ms / 1000

    @property
    def poll_cap_ms(self) -> int:
        """The longest time between two polls that anybody may be told."""
        return min(self.poll_max_ms, max(1, self.turn_ttl_ms // 4))

    def units_of(self, size: Size) -> int:
        """The stock of a run."""
        return max(1, round(self.units / size.rate_divisor))

    def sale_for(self, size: Size, sale_id: str) -> Sale:
        """The sale of a run: only who was admitted may hold."""
        skus = [Sku(SKU, self.units_of(size), limit=1)]
        return Sale(sale_id, skus, hold_ttl_ms=self.hold_ttl_ms, admission=True)

    def room_for(self, size: Size, *, opens_at_ms: int) -> WaitingRoom:
        """The waiting room of a run."""
        return WaitingRoom(
            rate_per_s=max(0.5, self.rate_per_unit_s * self.units_of(size)),
            opens_at_ms=opens_at_ms,
            turn_ttl_ms=self.turn_ttl_ms,
            conversion=self.conversion,
            margin=self.margin,
            key_places_max=self.key_places_max,
            poll_max_ms=self.poll_max_ms,
        )

    def plan(self, size: Size, *, seed: int | str) -> QueuePlan:
        """Everything the people of a run will do, from the seed alone."""
        people = max(1, round(self.units_of(size) * self.people_per_unit))
        return lay_out(
            self.habits, people, seconds=size.seconds, opens_s=self.opens_s(size), seed=seed
        )


WAITING_ROOM = QueueScenario(
    about="956 people a unit, as for a new-year train ticket, in a waiting room that draws lots",
    habits=Habits(),
)
