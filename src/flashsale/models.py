"""The values that go in and come out: sales, baskets, outcomes, answers, views.

Every model is a frozen `msgspec.Struct`; one that a caller makes is checked when made.
Field names end in their unit. Times are milliseconds since the Unix epoch, by the
server's clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import force_setattr

from flashsale import limits
from flashsale.errors import InvalidRequest, Rejected
from flashsale.refs import make_ref, make_short_ref

Late: TypeAlias = Literal["refuse", "retake"]
LATE: tuple[Late, ...] = ("refuse", "retake")
Basket: TypeAlias = "Mapping[str, int] | Sequence[Line]"


class Outcome(Enum):
    """A decision of the engine.

    `code` is its letter in the scripts' replies, `meaning` a sentence for people, and
    `again` whether the same call may succeed later without anything being changed in it.

    CLOCK_JUMP: the server's clock is more than a minute ahead of both the sale's last time and the
    caller's clock, so one of them is wrong. New holds, and whatever a deadline between the two
    times decides (a confirm, an extend, a freeze), are refused until the wrong clock is put right.
    """

    code: str
    meaning: str
    again: bool

    def __new__(cls, value: str, code: str, meaning: str, again: bool) -> Outcome:
        """A member whose value is its name in words."""
        member = object.__new__(cls)
        member._value_ = value
        member.code, member.meaning, member.again = code, meaning, again
        return member

    # A hold and its later life.
    HELD = ("held", "H", "the stock is the buyer's until the deadline", False)
    CONFIRMED = ("confirmed", "C", "paid: the units are sold", False)
    RELEASED = ("released", "R", "given up: the units are available again", False)
    EXTENDED = ("extended", "X", "the deadline is now the one in the answer", False)
    REFUNDED = ("refunded", "F", "paid units came back and are available again", False)
    EXPIRED = ("expired", "E", "the deadline passed; the units are available again", False)
    # Why a hold is refused.
    SOLD_OUT = ("sold_out", "S", "not enough units are available", True)
    LIMIT_REACHED = ("limit_reached", "L", "the buyer would exceed a limit", True)
    TOO_MANY_HOLDS = ("too_many_holds", "M", "the buyer used up the hold ids of this sale", False)
    NOT_OPEN = ("not_open", "N", "the sale has not opened yet", True)
    CLOSED = ("closed", "K", "the sale's closing time has passed", False)
    PAUSED = ("paused", "P", "the sale is paused", True)
    ENDED = ("ended", "Z", "the sale has ended", False)
    SKU_UNKNOWN = ("sku_unknown", "U", "the sale has no such sku", False)
    SHARD_FULL = ("shard_full", "B", "the sale has as many buyers as it may remember", False)
    CLOCK_JUMP = ("clock_jump", "J", "the clocks disagree: the server's is far ahead", True)
    TRY_AGAIN = ("try_again", "T", "expired holds are still being swept back to stock", True)
    # A cue, its entries and its draw.
    CUED = ("cued", "c", "the cue exists with this definition", False)
    ENTERED = ("entered", "G", "the entry counts in the draw", False)
    TOO_EARLY = ("too_early", "e", "the tap lies before the cue", True)
    TOO_LATE = ("too_late", "y", "the cue's windows are over", False)
    AHEAD_OF_LIVE = (
        "ahead_of_live",
        "a",
        "the tap's position lies far ahead of what is live",
        True,
    )
    NO_PROOF = ("no_proof", "W", "the entry does not prove that its buyer saw the cue", True)
    WRONG_PROOF = ("wrong_proof", "w", "the proof is not this buyer's for this cue", False)
    ENTRIES_FULL = ("entries_full", "q", "the cue has as many entries as it may keep", False)
    NOT_CLOSED = ("not_closed", "j", "the cue takes entries, or its time has not come", True)
    FROZEN = ("frozen", "f", "the entries are frozen, the result is not revealed yet", True)
    SETTLED = ("settled", "g", "the result is revealed", False)
    VOID = ("void", "x", "the cue does not count", False)
    NOT_DRAWN = ("not_drawn", "z", "the draw gave this entry nothing", False)
    NOT_ENTERED = ("not_entered", "Y", "the buyer has no entry in this cue", False)
    CUE_UNKNOWN = ("cue_unknown", "m", "the sale has no such cue", False)
    TOO_MANY_CUES = ("too_many_cues", "i", "the sale has as many cues as it may have", False)
    GIVEN_BACK = ("given_back", "=", "nothing of what the void cue kept is set aside", False)
    CUE_OPEN = ("cue_open", "t", "a cue still keeps stock: settle it, or void and give back", True)
    # The waiting room.
    JOINED = ("joined", "1", "the buyer has a place in the waiting room", False)
    WAITING = ("waiting", "2", "the place has not been called yet", True)
    CALLED = ("called", "3", "it is the buyer's turn: let them in", False)
    ADMITTED = ("admitted", "4", "the buyer may hold until the turn ends", False)
    TURN_OVER = ("turn_over", "5", "the turn has ended; joining again gives a new place", False)
    NOT_ADMITTED = ("not_admitted", "6", "it is not the buyer's turn: this sale has a queue", True)
    NOT_JOINED = ("not_joined", "7", "the buyer has no place in the waiting room", False)
    LEFT = ("left", "8", "the buyer's place is given up", False)
    ROOM_UNKNOWN = ("room_unknown", "9", "the sale has no waiting room", False)
    ROOM_FULL = ("room_full", "0", "the waiting room has given all its places", False)
    KEY_LIMIT = ("key_limit", "+", "as many as one key may have", False)
    WRONG_TICKET = ("wrong_ticket", "-", "the ticket is not this buyer's for this sale", False)
    TICKET_EXPIRED = ("ticket_expired", "<", "the ticket is too old: join again", False)
    # Why a verb on a hold is refused.
    CONFLICT = ("conflict", "Q", "this id was used before with another content", False)
    UNKNOWN_HOLD = ("unknown_hold", "?", "the buyer has no hold of this id", False)
    ALREADY_CONFIRMED = ("already_confirmed", "A", "the hold is paid: refund it instead", False)
    NOT_CONFIRMED = ("not_confirmed", "O", "only a confirmed hold can be refunded", False)
    NOT_IN_HOLD = ("not_in_hold", "I", "a line names more than the hold still has of it", False)
    DEADLINE_TOO_FAR = ("deadline_too_far", "D", "the deadline is beyond the sale's bound", False)
    TOO_MANY_EXTENDS = ("too_many_extends", ">", "the deadline was moved as often as it may", False)
    TOO_MANY_REFUNDS = ("too_many_refunds", "V", "the hold has as many refunds as it may", False)
    # The operator's verbs.
    OPENED = ("opened", "o", "the sale exists with this definition", False)
    RESUMED = ("resumed", "r", "the sale takes holds again", False)
    RESTOCKED = ("restocked", "k", "the allotments are changed", False)
    BELOW_COMMITTED = ("below_committed", "b", "units set aside, held or sold cannot go", True)
    TOO_MANY_RESTOCKS = ("too_many_restocks", "v", "no more op_ids fit into this sale", False)
    STOCK_TOO_LARGE = ("stock_too_large", "l", "the allotment would pass its bound", False)
    PURGED = ("purged", "p", "the sale's data are gone; its id stays used", False)
    NOT_ENDED = ("not_ended", "n", "only an ended sale can be purged", False)
    HOLDS_OUTSTANDING = ("holds_outstanding", "h", "unpaid holds are left", True)
    READERS_BEHIND = ("readers_behind", "d", "a registered reader has not read all", True)
    SALE_UNKNOWN = ("sale_unknown", "u", "there is no such sale on this server", False)
    # Answers of the scripts that clients turn into errors: StoreUnavailable, and ProtocolError for
    # what they were sent (by a client that skips its own checks).
    MEMORY_FULL = ("memory_full", "*", "the server's memory is full: not applied", True)
    MALFORMED = ("malformed", "!", "the request breaks the format", False)


OUTCOME_BY_CODE: dict[str, Outcome] = {outcome.code: outcome for outcome in Outcome}


class HoldState(Enum):
    """Where a hold is in its life. `code` is its letter in a buyer's record."""

    code: str

    def __new__(cls, value: str, code: str) -> HoldState:
        """A member whose value is its name in words."""
        member = object.__new__(cls)
        member._value_ = value
        member.code = code
        return member

    HELD = ("held", "h")
    CONFIRMED = ("confirmed", "c")
    RELEASED = ("released", "r")
    EXPIRED = ("expired", "e")
    REFUNDED = ("refunded", "f")


class SaleState(Enum):
    """Whether the operator lets a sale take holds."""

    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"


class Sku(Struct, frozen=True):
    """A thing with stock.

    `stock` is its first allotment, 0 to 10^12 units. `limit` is the most units of it one
    buyer may have held plus sold (None: no limit).
    """

    id: str
    stock: int
    limit: int | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "id", limits.check_id("sku", self.id))
        stock = limits.check_int(f"stock of {self.id!r}", self.stock, 0, limits.STOCK_MAX)
        force_setattr(self, "stock", stock)
        if self.limit is not None:
            limit = limits.check_int(f"limit of {self.id!r}", self.limit, 1, limits.STOCK_MAX)
            force_setattr(self, "limit", limit)


class Sale(Struct, frozen=True):
    """One event: its skus, times and rules. Its id is never used twice.

    skus: 1 to 1,000 of them, each id once.
    hold_ttl_ms: how long a hold lives, 1 ms to 30 days.
    limit: the most units of the whole sale one buyer may have held plus sold.
    opens_at_ms, closes_at_ms: holds are taken in [opens, closes); None: from now, for ever. Before
        September 2001 (10^12) there are no times here: what was given in seconds is refused.
    holds_max: how many hold ids one buyer may ever use in this sale, 1 to 64.
    extend_max_ms: how far past a hold's original deadline `extend` may go, 0 to 30 days.
    buyers_max: how many buyers one shard remembers (a bound on its memory and its
        largest key), 1 to 10^7. An open cue keeps one for each unit it set aside, so that no
        winner is refused; only those who take over a winner's place may exceed it.
    admission: only who was admitted from the sale's waiting room may hold (`SaleHandle.queue`);
        winners of a cue, and payments, need no turn.
    key_holds_max: how many holds may ever be taken under one `key=` of `hold`, 1 to 10^12
        (None: keys are not counted).
    """

    id: str
    skus: Sequence[Sku]
    hold_ttl_ms: int = 900_000
    limit: int | None = None
    opens_at_ms: int | None = None
    closes_at_ms: int | None = None
    holds_max: int = 16
    extend_max_ms: int = 3_600_000
    buyers_max: int = 2_000_000
    admission: bool = False
    key_holds_max: int | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "id", limits.check_id("sale", self.id))
        force_setattr(self, "skus", _checked_skus(self.skus))
        limits.check_fields(self, _SALE_BOUNDS, optional=("limit", "key_holds_max"))
        for field in ("opens_at_ms", "closes_at_ms"):
            if (at := getattr(self, field)) is not None:
                force_setattr(self, field, limits.check_time(field, at))
        opens, closes = self.opens_at_ms, self.closes_at_ms
        if opens is not None and closes is not None and opens >= closes:
            raise InvalidRequest("closes_at_ms", "must be later than opens_at_ms")
        if type(self.admission) is not bool:
            raise InvalidRequest("admission", "must be True or False")


_SALE_BOUNDS = {
    "hold_ttl_ms": (1, limits.DURATION_MAX_MS),
    "limit": (1, limits.STOCK_MAX),
    "holds_max": (1, limits.HOLDS_MAX),
    "extend_max_ms": (0, limits.DURATION_MAX_MS),
    "buyers_max": (1, limits.BUYERS_MAX),
    "key_holds_max": (1, limits.STOCK_MAX),
}


def _checked_skus(skus: Sequence[Sku]) -> tuple[Sku, ...]:
    if isinstance(skus, str) or not isinstance(skus, Sequence):
        raise InvalidRequest("skus", f"must be a sequence of Sku, not {type(skus).__name__}")
    if not 1 <= len(skus) <= limits.SKUS_MAX:
        raise InvalidRequest("skus", f"must be 1 to {limits.SKUS_MAX} skus, not {len(skus)}")
    found: dict[str, Sku] = {}
    for sku in skus:
        if not isinstance(sku, Sku):
            raise InvalidRequest("skus", f"must be a sequence of Sku, not of {type(sku).__name__}")
        if sku.id in found:
            raise InvalidRequest("skus", f"{sku.id!r} appears twice")
        # A subclass may have fields more, which would make another definition of the same sale.
        found[sku.id] = sku if type(sku) is Sku else Sku(sku.id, sku.stock, sku.limit)
    return tuple(found.values())


class Line(Struct, frozen=True, order=True):
    """`qty` units of one sku, 1 to 1,000,000."""

    sku: str
    qty: int = 1

    def __post_init__(self) -> None:
        force_setattr(self, "sku", limits.check_id("sku", self.sku))
        qty = limits.check_int(f"qty of {self.sku!r}", self.qty, 1, limits.QTY_MAX)
        force_setattr(self, "qty", qty)


class HoldRequest(Struct, frozen=True):
    """One hold of a bulk call. The fields are those of `hold`."""

    buyer: str
    basket: Basket
    hold_id: str
    channel: str = ""
    note: str = ""
    key: str = ""


class Answer(Struct, frozen=True, gc=False):
    """What the engine decided about one operation.

    outcome: the decision.
    sale, buyer, hold_id: what it is about (buyer and hold_id are "" for the sale itself).
    state: the hold's state now, None where there is no hold.
    deadline_ms: when the hold falls due (from then on it cannot be confirmed). For a
        replayed hold it is the original deadline; None where there is no hold.
    replayed: True if this very operation had been done before and nothing changed now.
    may_return: with SOLD_OUT, True while unpaid holds could still come back to stock.
    sku: with SOLD_OUT, LIMIT_REACHED and SKU_UNKNOWN, the first line of the basket that could not
        be had; "" where it is the sale's own limit that several lines pass together.
    at_ms: the shard's time of the decision.
    """

    outcome: Outcome
    sale: str
    buyer: str = ""
    hold_id: str = ""
    state: HoldState | None = None
    deadline_ms: int | None = None
    replayed: bool = False
    may_return: bool = False
    at_ms: int = 0
    sku: str = ""

    @property
    def ref(self) -> str:
        """One string for sale, buyer and hold id, fit for a payment provider's order field.

        Letters, digits, "_" and "-" only, at most 580 of them. Every verb takes it in place of
        the buyer.
        """
        return make_ref(self.sale, self.buyer, self.hold_id)

    @property
    def short_ref(self) -> str:
        """`ref` for a field of 32 characters; InvalidRequest if these ids are too long for that.

        Then give the provider an order number of your own (`flashsale.refs` shows how).
        """
        return make_short_ref(self.sale, self.buyer, self.hold_id)

    def unwrap(self) -> Answer:
        """Return this answer if the verb did what it was asked; raise `Rejected` if not.

        Not for `pause` and `end`: their PAUSED and ENDED are refusals when a hold gets them.
        """
        if self.outcome in SUCCESSES:
            return self
        raise Rejected(self.outcome, self._subject())

    def _subject(self) -> str:
        if not self.buyer:
            return f"sale {self.sale!r}"
        return f"hold {self.hold_id!r} of buyer {self.buyer!r} in sale {self.sale!r}"


SUCCESSES = frozenset(
    {
        Outcome.HELD,
        Outcome.CONFIRMED,
        Outcome.RELEASED,
        Outcome.EXTENDED,
        Outcome.REFUNDED,
        Outcome.OPENED,
        Outcome.RESUMED,
        Outcome.RESTOCKED,
        Outcome.PURGED,
        Outcome.CUED,
        Outcome.ENTERED,
        Outcome.SETTLED,
        Outcome.GIVEN_BACK,
        Outcome.JOINED,
        Outcome.CALLED,
        Outcome.ADMITTED,
        Outcome.LEFT,
    }
)


class Hold(Struct, frozen=True):
    """A hold as the server remembers it (`find`, `holds_of`).

    lines: what was held at first. sold: what of it is paid and not refunded.
    deadline_ms: the current deadline; original_deadline_ms: the one first given (an
    extension moves the current one). A tombstone, left by releasing an id
    before its hold arrived, has no lines and no deadlines.
    refunds: per op_id the lines that came back.
    """

    sale: str
    buyer: str
    hold_id: str
    state: HoldState
    lines: dict[str, int]
    sold: dict[str, int]
    deadline_ms: int | None
    original_deadline_ms: int | None
    refunds: dict[str, dict[str, int]]

    @property
    def ref(self) -> str:
        """As `Answer.ref`."""
        return make_ref(self.sale, self.buyer, self.hold_id)

    @property
    def short_ref(self) -> str:
        """As `Answer.short_ref`."""
        return make_short_ref(self.sale, self.buyer, self.hold_id)


class SkuView(Struct, frozen=True):
    """One sku's units. `allotment = available + set_aside + held + sold` always."""

    sku: str
    allotment: int
    available: int
    set_aside: int
    held: int
    sold: int
    limit: int | None = None

    @property
    def held_share(self) -> float:
        """How much of what is neither sold nor set aside is held and unpaid, from 0 to 1."""
        open_to_all = self.available + self.held
        return self.held / open_to_all if open_to_all else 0.0


class Snapshot(Struct, frozen=True):
    """A sale at one moment, read in one step.

    epoch, sequence: the last ledger entry that is reflected in the figures.
    due_at_ms: no hold falls due before this time (None: nothing can fall due).
    stale: it was read from a replica, so the primary may know more.
    """

    sale: Sale
    state: SaleState
    at_ms: int
    epoch: int
    sequence: int
    buyers: int
    due_at_ms: int | None
    skus: dict[str, SkuView]
    stale: bool = False

    def held_alarms(self, share: float = 0.8, sold_below: float = 0.5) -> tuple[str, ...]:
        """A sentence for each sku that buyers may be denying to others: held, and not paid for.

        That is, at least `share` of what is neither sold nor set aside is held, and less than
        `sold_below` of the allotment is sold, both from 0 to 1. In the first minutes of a sale this
        is as it should be; once the first holds have fallen due it is not: look at who holds
        (`holds_of`, `channel=`), and bound it with `key=` and the sale's `key_holds_max`.
        """
        share = limits.check_share("share", share)
        sold_below = limits.check_share("sold_below", sold_below)
        return tuple(
            f"sku {sku.sku!r}: {sku.held_share:.0%} of what is not sold is held and unpaid "
            f"({sku.held} of {sku.available + sku.held}), "
            f"and {sku.sold} of {sku.allotment} are sold"
            for sku in self.skus.values()
            if sku.held and sku.held_share >= share and sku.sold < sold_below * sku.allotment
        )


class RepairReport(Struct, frozen=True):
    """What became of a torn ledger entry.

    entry: its "epoch-sequence", "" if there was none. problems: one sentence for each thing that
    could not be told; then nothing was changed. given_back: cues that were never opened and whose
    set-aside is available again; open them anew.
    """

    sale: str
    entry: str = ""
    problems: tuple[str, ...] = ()
    given_back: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True if no entry is torn any more."""
        return not self.problems


class AuditReport(Struct, frozen=True):
    """The ledger replayed against the state.

    problems: one sentence per disagreement, empty if the books are right; `truncated`
    says that there were more than are listed. checkpoint: the sequence up to which the
    ledger is trimmed (0: nothing is) and whose balances the audit started from.
    """

    sale: str
    epoch: int
    sequence: int
    checkpoint: int
    entries: int
    events: int
    buyers: int
    holds: int
    problems: tuple[str, ...]
    truncated: bool = False

    @property
    def ok(self) -> bool:
        """True if nothing disagrees."""
        return not self.problems
