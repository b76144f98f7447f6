"""What a waiting room is, and what those who wait in it are told: values, checked when made.

A number is what joining gives; a place is where it stands in the order; serving is the highest
place called. Times are milliseconds since the Unix epoch, by the server's clock.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct
from msgspec.structs import force_setattr

from flashsale import limits
from flashsale.errors import InvalidRequest
from flashsale.models import Outcome

POLL_MIN_MS = 1_000
"""Nobody is asked to poll more often than this, or than a quarter of a shorter turn."""

_BOUNDS = {
    "turn_ttl_ms": (1, limits.DURATION_MAX_MS),
    "places_max": (1, limits.PLACES_MAX),
    "key_places_max": (1, limits.PLACES_MAX),
    "ticket_ttl_ms": (1, limits.DURATION_MAX_MS),
    "poll_max_ms": (POLL_MIN_MS, 3_600_000),
}


class WaitingRoom(Struct, frozen=True, kw_only=True):
    """How a sale's waiting room works, fixed when it is opened.

    The key it is opened with places those who join before `opens_at_ms`: if that key is lost before
    then, nobody of them can be placed and nobody is called, so keep it. Whoever has it could work
    out when to join: the operator is trusted with that.

    rate_per_s: places called a second, 0.000001 to 1,000,000; `set_rate` changes it. opens_at_ms:
    whoever joins before gets a place by lot, whoever joins later stands behind them in the order of
    coming (None: open at once). turn_ttl_ms: how long a called buyer may act, at least (up to 1/32
    longer), 1 ms to 30 days. conversion: how many units a called place takes on average, as it is
    assumed before turns have ended (it counts for 20 of them), 0.000001 to 1,000. margin: by how
    much the measured conversion is taken for higher, 0 to 1, so that fewer are called for stock
    that is gone: nobody is called beyond available ÷ (conversion · (1 + margin)) turns
    outstanding, but for a single one (in a sale without `admission` holds are not told apart by
    their turns, so nothing is measured). places_max: numbers given in all, 1 to 10^8. one_place: a
    buyer has one place, however often they join; without it only tickets are given, which costs the
    server nothing per buyer, and is refused for a sale with `admission`. key_places_max: places
    that may ever be given under one `key=` of `join` (None: keys are not counted). ticket_ttl_ms:
    how long a ticket is good, 1 ms to 30 days. poll_max_ms: the longest time between two polls, 1 s
    to an hour; never more than a quarter of a turn.
    """

    rate_per_s: float
    opens_at_ms: int | None = None
    turn_ttl_ms: int = 120_000
    conversion: float = 0.5
    margin: float = 0.1
    places_max: int = 10_000_000
    one_place: bool = True
    key_places_max: int | None = None
    ticket_ttl_ms: int = 86_400_000
    poll_max_ms: int = 30_000

    def __post_init__(self) -> None:
        # Floats, also if ints were given: what is equal must be written alike.
        force_setattr(self, "rate_per_s", check_rate(self.rate_per_s))
        force_setattr(self, "conversion", _check_conversion(self.conversion))
        force_setattr(self, "margin", limits.check_share("margin", self.margin))
        if self.opens_at_ms is not None:
            force_setattr(self, "opens_at_ms", limits.check_time("opens_at_ms", self.opens_at_ms))
        if type(self.one_place) is not bool:
            raise InvalidRequest("one_place", "must be True or False")
        if self.key_places_max is not None and not self.one_place:
            raise InvalidRequest("key_places_max", "needs one_place: tickets are not counted")
        limits.check_fields(self, _BOUNDS, optional=("key_places_max",))

    @property
    def slot_ms(self) -> int:
        """Turns that begin in the same slot of this length end together."""
        return -(-self.turn_ttl_ms // limits.TURN_SLOTS)

    @property
    def hashes(self) -> int:
        """Over how many hashes the buyers are spread."""
        return -(-self.places_max // limits.PLACES_PER_HASH)


def check_rate(value: object) -> float:
    """Places called a second."""
    return limits.check_number("rate_per_s", value, limits.NUMBER_MIN, limits.RATE_MAX)


def _check_conversion(value: object) -> float:
    return limits.check_number("conversion", value, limits.NUMBER_MIN, limits.CONVERSION_MAX)


class RoomState(Enum):
    """Whether the operator lets a waiting room call places."""

    RUNNING = "running"
    PAUSED = "paused"


class Outlook(Enum):
    """What somebody who waits may expect.

    HOPELESS is a fact, as long as it is told: nothing is available, set aside or held that could
    come back by itself. The other two are forecasts (`flashsale.forecast`): whether more likely
    than not some unit will be available when the place is called.
    """

    LIKELY = "likely"
    UNLIKELY = "unlikely"
    HOPELESS = "hopeless"


class Eta(Struct, frozen=True):
    """How long until a place is called, by the measured rate, give or take two standard errors.

    latest_ms is None if the rate is too uncertain to say, or the stock may decide and not the rate.
    """

    expected_ms: int
    earliest_ms: int
    latest_ms: int | None


class Turns(Struct, frozen=True):
    """The turns that began in one slot of time and have not ended.

    slot: its number (time ÷ slot length). serving: the highest place called by its end. arrived:
    how many were let in, done: how many are done with their turn (they hold, or left), units: what
    they took, or wanted and did not find; passed: how many of the places had been left, and had
    none.
    """

    slot: int
    serving: int
    arrived: int
    done: int
    units: int
    passed: int = 0


class RoomView(Struct, frozen=True):
    """A waiting room at one moment: what every position is worked out from.

    closed: why nobody may hold or be let in now (NOT_OPEN, CLOSED, PAUSED, ENDED, CLOCK_JUMP), or
    None. joined: the last number given. present: how many numbers were given before the opening
    (None: it is not open yet). seed: orders their places ("" until revealed), commitment: what was
    published of it beforehand. serving: the highest place called; over: the highest whose turn has
    ended. turns: the others. outstanding: called, and neither over nor done; bound: how many that
    may be now. conversion: units a turn takes, as it is reckoned with. arrived: let in, in all;
    no_shows: turns that ended without; left: places given up; vacant: those of them that are still
    to be passed over; passed: those that were. units: taken first, or wanted and not found, in
    turns that have ended. available, set_aside, held, sold: of the whole sale.
    measured_per_s: places called a second, of late (None: it cannot be said), and
    measured_error_per_s: two standard errors of that. starts_at_ms: nobody is called before, the
    opening of the room or the sale, whichever is later (0: neither has one).
    """

    sale: str
    room: WaitingRoom
    state: RoomState
    at_ms: int
    rate_per_s: float
    closed: Outcome | None
    joined: int
    present: int | None
    seed: str
    commitment: str
    key: str
    serving: int
    over: int
    turns: tuple[Turns, ...]
    outstanding: int
    bound: int
    conversion: float
    arrived: int
    no_shows: int
    left: int
    vacant: int
    passed: int
    units: int
    available: int
    set_aside: int
    held: int
    sold: int
    measured_per_s: float | None = None
    measured_error_per_s: float = 0.0
    starts_at_ms: int = 0

    @property
    def waiting(self) -> int:
        """Those who have a place that was not called."""
        return self.joined - self.serving - self.vacant

    @property
    def drawn(self) -> bool:
        """Whether every number has its place."""
        return self.present is not None and (self.present == 0 or self.seed != "")

    @property
    def gone(self) -> bool:
        """Nothing is left that could be held, or come back by itself."""
        return self.available + self.set_aside + self.held == 0


class JoinRequest(Struct, frozen=True):
    """One buyer of a bulk call. The fields are those of `join`."""

    buyer: str
    key: str = ""


class PlaceAnswer(Struct, frozen=True, gc=False):
    """What somebody who waits is told.

    outcome: JOINED; WAITING, CALLED (let them in), TURN_OVER; ADMITTED; or why not. ticket: what
    the buyer keeps, and shows when asking again ("" if there is none). number: what joining gave.
    place: None until the room has opened. ahead: how many stand before them at most. eta: None if
    nothing can be said. poll_after_ms: when to ask again, jittered; None if that changes nothing:
    let who was CALLED in at once, and tell whoever is out of it why. turn_ends_ms: with
    CALLED and ADMITTED. replayed: the place, or the admission, was there before.
    rule: what a refused ticket breaks. at_ms: the server's time.
    """

    outcome: Outcome
    sale: str
    buyer: str
    ticket: str = ""
    number: int | None = None
    place: int | None = None
    ahead: int | None = None
    eta: Eta | None = None
    outlook: Outlook | None = None
    poll_after_ms: int | None = None
    turn_ends_ms: int | None = None
    replayed: bool = False
    rule: str = ""
    at_ms: int = 0
