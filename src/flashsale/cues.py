"""What a cue is, and what its entries and its draw are answered: values, checked when made.

Positions are milliseconds on the stream's media timeline, times are milliseconds since the Unix
epoch by the server's clock; the two are never compared, only differences of each.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from enum import Enum
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import force_setattr

from flashsale import limits
from flashsale.errors import InvalidRequest
from flashsale.models import Outcome

Keep: TypeAlias = Literal["all", "best"]
KEEP: tuple[Keep, ...] = ("all", "best")

FAIR_WINDOW_MS = 2_000
"""Below this fast hands, or a false claim of lag, gain more than 1 % (`flashsale.window`)."""

LAG_BUCKET_MS = 250
"""The width of a bucket of reported lags."""

PLAUSIBLE_LAG_MS = 60_000
"""From here on a reported lag says more of the player, or of who reports, than of the stream."""

HOLD_PREFIX = limits.HOLD_PREFIX
"""A winner's hold has the id `cue~` and the cue's."""


class UnfairWindowWarning(UserWarning):
    """A window so short that reaction time decides: the draw is still right, but it is not fair."""


class ImplausibleLagWarning(UserWarning):
    """Some reports of lag were left out, since no live stream is so late: nobody checks reports."""


class CueState(Enum):
    """Where a cue is in its life."""

    OPEN = "open"
    FROZEN = "frozen"
    REVEALED = "revealed"
    VOID = "void"


class Cue(Struct, frozen=True):
    """A cue as it was fixed when it was opened; all of it may be published, once it has aired.

    stock: units set aside by sku. position_ms: where on the stream the link goes up, and
    cue_time_ms: when that was (or will be) by the server's clock. ahead_ms: how far ahead of
    live a position may be (it is cut down to that), and how long before the cue a tap: as long as
    lag_cap_ms. The windows are `windows` times
    `window_ms` long. lag_cap_ms: the lag that is granted in full; grace_ms: time for sending;
    spread_ms: how long players may delay their sending. reserve_ms: how long, from the end of the
    winners' time to pay, places that fall free go to the next in order before they are on open
    sale; 0: never. keep "all" or "best": of all entries or only of those that can still win, `kept`
    of them. entropy: name, round and time of the public seed's source, or None. nonce: 16 bytes in
    hexadecimal, shown inside the stream; with `proof` an entry must show that its player saw it. A
    CueView's cue has "" for it: whoever only looks on could enter without having watched. key: id
    of the draw key; the commitment fixes the seed beforehand. closes_at_ms = cue_time_ms +
    lag_cap_ms + windows · window_ms + grace_ms + spread_ms; entries are taken until then, and the
    result is announced for reveals_at_ms. entropy_margin_ms: the public seed comes so much later
    than the close, at least. publish: the place where the digest of the frozen entrants is
    published, or None; publish_wait_ms: the result is told so much later, at least.
    """

    sale: str
    id: str
    stock: dict[str, int]
    position_ms: int
    cue_time_ms: int
    ahead_ms: int
    window_ms: int
    windows: int
    lag_cap_ms: int
    grace_ms: int
    spread_ms: int
    reserve_ms: int
    keep: Keep
    kept: int | None
    entropy_source: str | None
    entropy_round: int | None
    entropy_at_ms: int | None
    proof: bool
    nonce: str
    key: str
    seed_commitment: str
    closes_at_ms: int
    reveals_at_ms: int
    entropy_margin_ms: int = 60_000
    publish: str | None = None
    publish_wait_ms: int = 0

    @property
    def freeze_by_ms(self) -> int | None:
        """Before this time the entries of a public draw must be frozen and their digest published.

        Otherwise the cue is void, because somebody may have known the seed. None: a committed draw.
        """
        return self.entropy_at_ms

    @property
    def hold_id(self) -> str:
        """The id of a winner's hold."""
        return HOLD_PREFIX + self.id


class CueView(Struct, frozen=True):
    """A cue at one moment.

    entries: how many are kept. freed: how often places fell free and came back to the reserve, as
    long as it runs. awarded: how many winners have been judged. set_aside: what is
    left of the stock set aside. digest and entrants: what was frozen. reserve_until_ms: when
    what is left goes on open sale (None: it is not revealed yet). reason: why it is void.
    server_seed and entropy: in hexadecimal, once revealed (a signature follows entropy's value
    after a dot). published_at_ms: when the digest had been published; voided_at_ms: since when it
    is void. cut: how many taps that count, repeated ones too, showed what the cue's clock believed
    not to be live yet: if many, that clock is late.
    """

    cue: Cue
    state: CueState
    at_ms: int
    entries: int
    awarded: int
    set_aside: dict[str, int]
    frozen_at_ms: int | None
    digest: str
    entrants: int
    revealed_at_ms: int | None
    reserve_until_ms: int | None
    reason: str
    server_seed: str
    entropy: str
    freed: int = 0
    cut: int = 0
    published_at_ms: int | None = None
    voided_at_ms: int | None = None


class EntryAnswer(Struct, frozen=True):
    """What became of a tap.

    outcome: ENTERED, or why it does not count. receipt: the opening with which the buyer finds
    themselves in the published record ("" unless ENTERED; `flashsale verify --buyer --receipt`).
    reveals_at_ms: when the result is announced for.
    replayed: the buyer had an entry; what counts is the smallest of all, so repeating gains and
    costs nothing. Never told with keep="best": only those who may still win are remembered there,
    and no answer may tell who they are. window (from 0), basket and minimum: what counts of the
    buyer now, which may be another tap's and is what the record will have; None and empty unless
    ENTERED, and with keep="best", where nobody is told.
    """

    outcome: Outcome
    sale: str
    cue: str
    buyer: str
    receipt: str
    reveals_at_ms: int
    replayed: bool
    at_ms: int
    window: int | None = None
    basket: dict[str, int] = {}
    minimum: dict[str, int] = {}


class Freeze(Struct, frozen=True):
    """A cue's entries, frozen.

    outcome: FROZEN, NOT_CLOSED, VOID (frozen too late for the public seed, or made void), SETTLED
    (the result is revealed), or CLOCK_JUMP (freeze again). digest: over the cue's parameters and
    all entrants, the same whoever freezes; "" before. entrants: how many. published_at_ms: when
    `settle` was told that the digest is published. freeze_by_ms: a public draw must be frozen, and
    its digest published, before this time.
    """

    outcome: Outcome
    sale: str
    cue: str
    digest: str
    entrants: int
    frozen_at_ms: int | None
    published_at_ms: int | None
    freeze_by_ms: int | None
    at_ms: int


class Settlement(Struct, frozen=True):
    """How far a cue's settlement has come.

    outcome: SETTLED (the result is revealed), NOT_CLOSED, FROZEN (the public seed has not come),
    VOID, or CLOCK_JUMP (what is due is not known: settle again). NOT_CLOSED is also said before the
    announced time. entrants: how many were frozen.
    drawn: how many the draw gave something, awarded: how many of those got their holds, promoted:
    how many took places that fell free.
    reserve_until_ms: until then places that fall free go to the next, so settle again; None: no
    reserve is kept (any more). freeze_by_ms: a public draw must be frozen, and its digest
    published, before this time, or it is void.
    """

    outcome: Outcome
    sale: str
    cue: str
    entrants: int = 0
    drawn: int = 0
    awarded: int = 0
    promoted: int = 0
    reserve_until_ms: int | None = None
    at_ms: int = 0
    freeze_by_ms: int | None = None


class LagHistogram(Struct, frozen=True):
    """Lags that players reported: how many in each 250 ms; the last bucket is 120 s and more."""

    counts: tuple[int, ...]

    @property
    def reports(self) -> int:
        """How many there are."""
        return sum(self.counts)

    def cap_for(self, share: float) -> int:
        """The least `lag_cap_ms` that grants such a share of the viewers all of their lag.

        share: between 0 and 1; the cap is 250 to 60,000, a multiple of 250. Reports are not signed:
        those of 60 s and more are not counted, and warned of. Below that, whoever makes a part of
        the reports moves the cap by making up theirs: look at the histogram, and set a bound of
        your own. What is granted in full costs everybody that much waiting, so 0.99 or less is
        wise. InvalidRequest without any plausible report.
        """
        if not isinstance(share, float) or not 0 < share < 1:
            raise InvalidRequest("share", f"must be between 0 and 1, not {limits.shown(share)}")
        plausible = self.counts[: PLAUSIBLE_LAG_MS // LAG_BUCKET_MS]
        reports = sum(plausible)
        if reports < self.reports:
            told = (
                f"{self.reports - reports:,} of {self.reports:,} reported lags are of 60 s or more"
            )
            warnings.warn(f"{told}: they are not counted", ImplausibleLagWarning, stacklevel=2)
        if not reports:
            raise InvalidRequest("lags", "must have a plausible report, and there is none yet")
        within, bucket = 0, 0
        while within < share * reports:
            within += plausible[bucket]
            bucket += 1
        return bucket * LAG_BUCKET_MS


class CueRequest(Struct, frozen=True, kw_only=True):
    """What is asked for when a cue is opened; the bounds of each value are checked here.

    stock: units to set aside, by sku; None: all that is available of the sku named like the cue.
    window_ms 100 to 600,000; windows 1 to 100; lag_cap_ms 0 to 120,000; grace_ms 0 to 60,000;
    spread_ms 0 to 60,000; reserve_ms 0 to 30 days, or None: the sale's hold_ttl_ms; keep "best"
    only for one sku and a committed draw, with `reserve` places beyond the stock (default: as many
    as the stock; at most 10^6 kept); entries_max 1 to 10^7; entropy_margin_ms 5,000 to one day: the
    public seed comes so much later than the close, at least, so there is that much time to freeze
    and publish. publish: the one place where the digest is published, 1 to 256 bytes, or None;
    publish_wait_ms 0 to one day: how long after that winners are given their holds, at the
    earliest. stock_of: a void cue from whose stock this one takes its own; without `stock` all that
    it still keeps.
    """

    id: str
    position_ms: int
    stock: Mapping[str, int] | None = None
    window_ms: int = 3_000
    windows: int = 1
    lag_cap_ms: int = 12_000
    grace_ms: int = 1_000
    spread_ms: int = 0
    reserve_ms: int | None = None
    keep: Keep = "all"
    reserve: int | None = None
    entropy: str | None = None
    proof: bool = True
    entries_max: int = 10_000_000
    stock_of: str | None = None
    entropy_margin_ms: int = 60_000
    publish: str | None = None
    publish_wait_ms: int = 0

    def __post_init__(self) -> None:
        force_setattr(self, "id", check_cue_id(self.id))
        position_ms = limits.check_int("at", self.position_ms, 0, limits.TIME_MAX_MS)
        force_setattr(self, "position_ms", position_ms)
        if self.stock is not None:
            force_setattr(self, "stock", _checked_stock(self.stock))
        if self.stock_of is not None:
            force_setattr(self, "stock_of", check_cue_id(self.stock_of, "stock_of"))
            if self.stock_of == self.id:
                raise InvalidRequest("stock_of", "must be another cue")
        force_setattr(self, "keep", limits.check_choice("keep", self.keep, KEEP))
        if not isinstance(self.proof, bool):
            raise InvalidRequest("proof", f"must be True or False, not {limits.shown(self.proof)}")
        if self.entropy is not None:
            force_setattr(self, "entropy", limits.check_id("name of entropy", self.entropy))
        if self.publish is not None:
            force_setattr(self, "publish", limits.check_note("publish", self.publish))
            if not self.publish:
                raise InvalidRequest("publish", "must name a place, or be None")
        elif self.publish_wait_ms != 0:
            raise InvalidRequest("publish_wait_ms", "must be 0 without publish")
        if self.reserve is not None and self.keep != "best":
            raise InvalidRequest("reserve", 'is for keep="best": otherwise all are kept')
        limits.check_fields(self, _BOUNDS, optional=("reserve", "reserve_ms"))
        if self.keep == "best" and self.entropy is not None:
            rule = 'must not be given with keep="best", which needs the seed before the close'
            raise InvalidRequest("entropy", rule)
        if self.keep == "best" and self.stock is not None and len(self.stock) != 1:
            raise InvalidRequest("stock", 'must name one sku with keep="best"')


_DAY_MS = 86_400_000

_BOUNDS = {
    "window_ms": (100, 600_000),
    "windows": (1, 100),
    "lag_cap_ms": (0, 120_000),
    "grace_ms": (0, 60_000),
    "spread_ms": (0, 60_000),
    "reserve_ms": (0, limits.DURATION_MAX_MS),
    "reserve": (0, 1_000_000),
    "entries_max": (1, limits.BUYERS_MAX),
    "entropy_margin_ms": (5_000, _DAY_MS),
    "publish_wait_ms": (0, _DAY_MS),
}


def check_cue_id(value: object, field: str = "cue") -> str:
    """An identifier of at most 60 characters: a winner's hold is named after it."""
    name = limits.check_id(field, value)
    if len(name) > limits.ID_MAX - len(HOLD_PREFIX):
        raise InvalidRequest(field, f"must have at most 60 characters, not {len(name)}")
    return name


def _checked_stock(stock: object) -> dict[str, int]:
    if not isinstance(stock, Mapping):
        raise InvalidRequest("stock", "must be a mapping of sku to units, or None")
    if not 1 <= len(stock) <= limits.LINES_MAX:
        raise InvalidRequest("stock", f"must name 1 to {limits.LINES_MAX} skus")
    return limits.check_units("stock", stock.items(), "stock of {!r}", 1, limits.STOCK_MAX)
