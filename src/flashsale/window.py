"""Fairness windows: everybody who watches has the same chance, however late their stream runs.

When a host says "link up", viewers see it 1 to 10 seconds after it is said. First come, first
served gives the whole stock to those with the fastest path. Here the stream's own timeline places
a tap: `elapsed = position of the tap - position of the cue`, both on the media timeline, so that
lag and constant clock offsets cancel; the width of the window makes it fair, because within it
nothing about time counts any more.

A lag beyond the cap counts as reaction. Viewers with *less* lag than the source of the cue's clock
(WebRTC beside HLS, or a clock fed from late playlists) show what that clock believes not to be live
yet. Their position is cut down to live = position of the cue + arrival - time of the cue, never
below the cue's own: within one window a later position gains nothing, and whoever lies would claim
the cue's position anyway. Taps count from `lag_cap_ms` before the cue's time on, earlier ones are
TOO_EARLY; a position more than `lag_cap_ms` ahead of live is AHEAD_OF_LIVE: a broken player (with a
cap of 0 whoever is ahead by a millisecond, so give the cap at least the clock's own doubt).
`CueView.cut` counts what was cut: many mean that the clock is late.

The guarantee. The list of winners is a pure function of who entered and of a seed that was fixed
beforehand: whoever enters within the same window has exactly the same chance, whatever their
network, their stream's delay (up to the lag cap), the order of arrival or their reaction time; and
order, repetition and batching of taps, crashes of the settlement, and whatever else is sold
meanwhile change nothing. With several windows the first goes first, and there is a race at each
edge.

Its limits. With one window (`windows=1`) a perfect bot, or a false claim of lag within the cap,
gains at most 1/F(W), F being the distribution of human reactions and W the window: for a median of
0.65 s, Normal(0.40, 0.08) + Exponential(0.35), that is 1.23 at 1 s, 1.011 at 2 s, 1.0006 at 3 s.
Players of one cohort whose positions are late by a constant bias lose as those with slow hands do:
with a bias of 0.3 s against the others their chance is 0.693 / 0.985 / 0.999 of theirs at W = 1 / 2
/ 3 s, with 1 s it is 0 / 0.824 / 0.990. So a window below 2 s warns that it is not fair.

With several windows none of this holds: a false claim of lag, up to the cap, decides in which
window a tap counts, and so may decide everything; viewers with less lag than the clock's reference
gain the difference; reaction times count at each edge. One window, unless you mean a race.

Where the sale has `key_holds_max`, `enter` takes a `key=` (a device, a card, an address). Of one
key's entrants so many take part in the draw, those with the smallest names in the record, decided
at the freeze: not those who came first, or a copied key would shut its owner out. Their awards are
counted by key, too. With keep="best" there are no keys, so nothing is capped by them.

A cue takes `entries_max` buyers, and of ids, baskets and keys together 128 bytes for each of those
(64 KiB at least): beyond either new entries are ENTRIES_FULL, and so is a tap that would make a
buyer's entry longer; what counted before counts.

Not preventable: several accounts of one person; watching on a fast device and tapping on a slow
one, which claims the slow one's lag (within a window that gains nothing; at the edge of two it
counts, and it would decide everything if reaction times were ordered, which is why nothing here
orders them); lag above the cap; viewers who are in an inserted ad, rewound or seeking. Of any draw
a seller can add names with nobody behind them, or several of one buyer, leave entries out, or call
a winner refused, which moves units down the order to a friend's turn; the record counts the
refused. Who knows the seed before the freeze can also choose names by their luck, which a public
draw prevents (`flashsale.draw` says what each kind proves).

With keep="best" and limits, what somebody holds or has bought at the moment of the tap decides
whether the tap is entered: an entrant's own direct hold may keep it out, or let it in once it has
ended, whereas with keep="all" the limit is judged at the award. Nobody else's holds matter.

Sources of the idea: the latency floor of currency markets (EP3186769A1), delivery-based ordering
(DBO, SIGCOMM 2023, arXiv 2303.16139), frequent batch auctions (Budish, Cramton, Shim, QJE 2015),
event-time windows with allowed lateness of stream processors. lua/window/ decides; this module puts
calls together and reads what comes back; `flashsale.verify` checks a draw without either.
"""

from __future__ import annotations

import random
import secrets
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec
from msgspec import Struct

from flashsale import draw, limits, verify, views
from flashsale.baskets import Lines, check_basket, encode, pack_baskets
from flashsale.batches import (
    Item,
    Kind,
    check_sequence,
    perform_once,
    read_answers,
    shard_call,
)
from flashsale.calls import Call, Operation, Reply, expect, outcome_of
from flashsale.cues import (
    FAIR_WINDOW_MS,
    HOLD_PREFIX,
    LAG_BUCKET_MS,
    Cue,
    CueRequest,
    CueState,
    CueView,
    EntryAnswer,
    LagHistogram,
    UnfairWindowWarning,
    check_cue_id,
)
from flashsale.errors import ConfigurationError, InvalidRequest, ProtocolError, Rejected
from flashsale.keyring import Key
from flashsale.keys import CueKeys, ShardKeys
from flashsale.models import Answer, Basket, Outcome
from flashsale.scripts import load_script

SETTLING_MS = 2_000
"""From the close and the wait for its digest (or the public seed) to the announced time."""

LAGS_MAX = 100_000
"""Reports of lag that one call takes."""

NOT_YET = (Outcome.NOT_CLOSED, Outcome.FROZEN)
"""What a result is answered before it is revealed."""

random_bytes = secrets.token_bytes
"""What makes a cue's secrets; a simulation with fixed seeds puts another in its place."""

CUES_MAX = 1_000
"""Cues of which a process remembers what never changes."""


class Known(Struct, frozen=True):
    """What a process remembers of a cue: it never changes.

    fresh: random bytes of which, with the draw key, the seed is made. The salt names the entrants.
    lines: of each sku the index in the sale. share: how many entrants of one `key=` take part in
    the draw, the sale's key_holds_max; None where keys are not counted.
    """

    cue: Cue
    fresh: bytes
    salt: bytes
    lines: tuple[tuple[str, int], ...]
    share: int | None = None


class _Entered(Answer, frozen=True, gc=False):
    """counts: the entry that counts, as the server keeps it, if it is not the one that was sent."""

    counts: str = ""


class Position(Protocol):
    """A position that knows more than its milliseconds (`flashsale.streamtime.Position`)."""

    @property
    def ms(self) -> int:
        """On the media timeline."""


class _Moment(Protocol):
    @property
    def server_ms(self) -> int: ...


class Clock(Protocol):
    """What maps a position to server time: `flashsale.streamtime.StreamClock`."""

    def server_time(self, position: Any, *, now_ms: int) -> _Moment:
        """When the stream is there; InvalidRequest if it cannot be known."""


# --- opening ------------------------------------------------------------------------------


def position_of(at: int | Position) -> int:
    """The milliseconds of a position."""
    ms = getattr(at, "ms", at)
    return limits.check_int("at", ms, 0, limits.TIME_MAX_MS)


def _moment_of(
    sale: str, cue: str, at: int | Position, clock: Clock | None, cue_time_ms: int | None
) -> Operation[int]:
    """The server's time of the cue.

    A clock that cannot tell opens no cue. But one that was opened before has its time, and the
    same cue again is a no-op whatever the clock has become: the script compares what was asked.
    """
    if (clock is None) == (cue_time_ms is None):
        raise InvalidRequest("clock", "must be given, or cue_time_ms instead of it")
    if clock is None:
        return limits.check_time("cue_time_ms", cue_time_ms)
    now = yield from views.snapshot(sale)  # by the server's clock, not by this machine's
    try:
        mapped = clock.server_time(at, now_ms=now.at_ms)
    except InvalidRequest as refusal:
        try:
            known = yield from know(sale, cue)
        except Rejected:
            raise refusal from None
        return known.cue.cue_time_ms
    return limits.check_time("clock", mapped.server_ms)


def open_cue(
    sale: str,
    request: CueRequest,
    *,
    key: Key,
    at: int | Position,
    clock: Clock | None,
    cue_time_ms: int | None,
    entropy: draw.EntropySource | None,
) -> Operation[Known]:
    """Set the stock aside and fix the times; Rejected if the cue is refused."""
    cue_time_ms = yield from _moment_of(sale, request.id, at, clock, cue_time_ms)
    position_ms = limits.check_position("at", request.position_ms, cue_time_ms)
    if request.window_ms < FAIR_WINDOW_MS:
        warnings.warn(
            f"window_ms={request.window_ms}: below {FAIR_WINDOW_MS} ms reaction time decides who "
            "is in the window, so this draw is not fair to slower hands",
            UnfairWindowWarning,
            stacklevel=2,
        )
    width_ms = request.windows * request.window_ms
    credit_ms = request.lag_cap_ms + request.spread_ms + request.grace_ms
    closes_ms = cue_time_ms + width_ms + credit_ms
    round_number, entropy_at = _round_after(entropy, closes_ms, request.entropy_margin_ms)
    reveals_ms = _reveals_at(max(closes_ms + request.publish_wait_ms, entropy_at or 0))
    stock = _stock_of(request)
    kept = _kept(request, stock)
    times = (
        position_ms,
        cue_time_ms,
        request.lag_cap_ms,
        request.window_ms,
        request.windows,
        credit_ms,
        closes_ms,
        False if entropy_at is None else entropy_at,
        False if request.reserve_ms is None else request.reserve_ms,
        False if kept is None else kept,
        request.entries_max,
        reveals_ms,
        False if request.publish is None else request.publish_wait_ms,
    )
    fixed = {
        "request": msgspec.to_builtins(request),
        "kept": kept,
        "entropy_round": round_number,
        "key": key.id,
    }
    call = _cue_call(sale, request, stock, times, fixed, key)
    answer = yield from perform_once(sale, call, "cue")
    if answer.outcome is not Outcome.CUED:
        raise Rejected(answer.outcome, f"cue {request.id!r} of sale {sale!r}")
    return (yield from know(sale, request.id))


def _cue_call(
    sale: str,
    request: CueRequest,
    stock: Mapping[str, int],
    times: Sequence[int],
    fixed: Mapping[str, object],
    key: Key,
) -> Call:
    """The call of lua/window/cue, with secrets of this cue's own: the first that come are kept."""
    fresh, salt, nonce = random_bytes(32), random_bytes(32), random_bytes(16)
    seed = draw.server_seed(key, sale, request.id, fresh)
    committed = {**fixed, "seed_commitment": draw.seed_commitment(seed, sale, request.id)}
    fields = ("fixed", msgspec.json.encode(committed).decode())
    sealed = ("fresh", fresh.hex(), "salt", salt.hex(), "nonce", nonce.hex())
    flat = [value for line in sorted(stock.items()) for value in line]
    keys, own = ShardKeys.of(sale), CueKeys.of(sale, request.id)
    base = shard_call("expire", keys)
    source = CueKeys.of(sale, request.stock_of or request.id).cue
    return Call(
        load_script("window/cue"),
        (*base.keys, keys.cues, own.cue, own.secrets, source),
        (
            request.id,
            msgspec.json.encode(request, order="deterministic"),
            request.stock_of or "",
            encode(flat),
            encode(times),
            encode(fields),
            encode(sealed),
        ),
    )


def _kept(request: CueRequest, stock: Mapping[str, int]) -> int | None:
    """How many entries a cue with keep="best" remembers; None: all."""
    if request.keep != "best":
        return None
    units = next(iter(stock.values()), 0)
    if units == 0:
        raise InvalidRequest("stock", 'must be given with keep="best", which keeps as many')
    kept = units + (units if request.reserve is None else request.reserve)
    return limits.check_int('kept with keep="best" (stock + reserve)', kept, 1, 1_000_000)


def _stock_of(request: CueRequest) -> dict[str, int]:
    """The units to set aside by sku; 0: all that there is, empty: all that the void cue keeps."""
    if request.stock is not None:
        return dict(request.stock)
    return {} if request.stock_of else {request.id: 0}


def _reveals_at(ready_ms: int) -> int:
    """When the result is announced; the winners' deadlines and the reserve's end come after that.

    They are at most twice 30 days later, and must still be times of 13 digits.
    """
    latest = limits.TIME_MAX_MS - 2 * limits.DURATION_MAX_MS
    if ready_ms + SETTLING_MS > latest:
        rule = f"must be earlier: the result would be announced after {latest}"
        raise InvalidRequest("cue_time_ms", rule)
    return ready_ms + SETTLING_MS


def _round_after(
    entropy: draw.EntropySource | None, closes_ms: int, margin_ms: int
) -> tuple[int | None, int | None]:
    """The round of a public draw and when it comes; what a source says is not just believed."""
    if entropy is None:
        return None, None
    at_ms = closes_ms + margin_ms
    number, round_at = entropy.round_after(at_ms)
    number = limits.check_int("round of entropy", number, 0, 2**53)
    round_at = limits.check_time("time of entropy's round", round_at)
    if round_at <= at_ms:
        rule = f"must be later than {at_ms}, the close and {margin_ms} ms"
        raise InvalidRequest("time of entropy's round", f"{rule}, not {round_at}")
    return number, round_at


# --- looking ------------------------------------------------------------------------------


def know(sale: str, cue: str) -> Operation[Known]:
    """What never changes of a cue, its secrets too: for who enters buyers or settles."""
    known, _ = yield from show(sale, cue)
    return known


def view(sale: str, cue: str) -> Operation[CueView]:
    """A cue at this moment, as anybody may see it who looks on: without its nonce."""
    seen, _, _ = yield from _look(sale, cue)
    return seen


def show(sale: str, cue: str) -> Operation[tuple[Known, CueView]]:
    """Both."""
    seen, lines, share = yield from _look(sale, cue)
    fresh, salt, nonce = yield from _secrets(sale, seen.cue.id)
    whole = msgspec.structs.replace(seen.cue, nonce=nonce)
    return Known(whole, bytes.fromhex(fresh), bytes.fromhex(salt), lines, share), seen


def _secrets(sale: str, cue: str) -> Operation[tuple[str, str, str]]:
    """A cue's fresh bytes, salt and nonce, in hexadecimal."""
    own = CueKeys.of(sale, cue)
    used = (ShardKeys.of(sale).sale, own.cue, own.secrets)
    reply = yield Call(load_script("window/secrets"), used, (), shared=True)
    _, _, code, fresh, salt, nonce = expect(reply, 6, "secrets")
    reject(sale, cue, code)
    return fresh.decode(), salt.decode(), nonce.decode()


_Seen: TypeAlias = tuple[CueView, tuple[tuple[str, int], ...], int | None]
"""A view, and what `Known` has of the cue that is no secret."""


def _look(sale: str, cue: str) -> Operation[_Seen]:
    cue = check_cue_id(cue)
    keys = ShardKeys.of(sale)
    used = (keys.sale, keys.stock, CueKeys.of(sale, cue).cue)
    reply = yield Call(load_script("window/show"), used, (), shared=True)
    _, now, code, raw, units = expect(reply, 5, "show")
    reject(sale, cue, code)
    try:
        return _read_cue(sale, cue, now, raw, units)
    except (KeyError, ValueError, TypeError, msgspec.MsgspecError) as error:
        raise ProtocolError(f"cue {cue!r} cannot be read: {error!r}") from error


def _read_cue(sale: str, cue: str, now: int, raw: Reply, units: Reply) -> _Seen:
    fields = {raw[at].decode(): raw[at + 1] for at in range(0, len(raw), 2)}
    fixed = msgspec.json.decode(fields["fixed"])
    asked = msgspec.convert(fixed["request"], CueRequest)
    rules = msgspec.msgpack.decode(fields["rules"])
    lines = msgspec.msgpack.decode(fields["lines"])
    closes_ms, entropy_at = rules[6], rules[7] or None
    found = Cue(
        sale=sale,
        id=cue,
        stock={units[at].decode(): units[at + 1] for at in range(0, len(units), 3)},
        position_ms=rules[0],
        cue_time_ms=rules[1],
        ahead_ms=rules[2],
        window_ms=asked.window_ms,
        windows=asked.windows,
        lag_cap_ms=asked.lag_cap_ms,
        grace_ms=asked.grace_ms,
        spread_ms=asked.spread_ms,
        reserve_ms=rules[8],
        keep=asked.keep,
        kept=fixed["kept"],
        entropy_source=asked.entropy,
        entropy_round=fixed["entropy_round"],
        entropy_at_ms=entropy_at,
        proof=asked.proof,
        nonce="",
        key=fixed["key"],
        seed_commitment=fixed["seed_commitment"],
        closes_at_ms=closes_ms,
        reveals_at_ms=rules[12],
        entropy_margin_ms=asked.entropy_margin_ms,
        publish=asked.publish,
        publish_wait_ms=asked.publish_wait_ms,
    )
    names = tuple((lines[at], lines[at + 1]) for at in range(0, len(lines), 4))

    def number(name: str) -> int | None:
        return int(fields[name]) if int(fields.get(name, b"0")) else None

    seen = CueView(
        cue=found,
        state=CueState(fields["state"].decode()),
        at_ms=now,
        entries=int(fields["entered"]),
        awarded=int(fields["judged"]),
        set_aside={units[at].decode(): units[at + 2] for at in range(0, len(units), 3)},
        frozen_at_ms=number("frozen_at"),
        digest=fields.get("digest", b"").decode(),
        entrants=number("entrants") or 0,
        revealed_at_ms=number("revealed_at"),
        reserve_until_ms=number("reserve_until"),
        reason=fields.get("reason", b"").decode(),
        server_seed=fields.get("server_seed", b"").decode(),
        entropy=fields.get("entropy", b"").decode(),
        freed=int(fields["freed"]),
        cut=int(fields.get("cut", b"0")),
        published_at_ms=number("published_at"),
        voided_at_ms=number("voided_at"),
    )
    return seen, names, rules[14] or None


def reject(sale: str, cue: str, code: bytes) -> None:
    """Raise the refusal of a script that returns no answer, if there is one."""
    if code:
        outcome = outcome_of(code.decode(), "cue")
        whole = outcome in (Outcome.SALE_UNKNOWN, Outcome.PURGED)
        raise Rejected(outcome, f"sale {sale!r}" if whole else f"cue {cue!r} of sale {sale!r}")


# --- entries ------------------------------------------------------------------------------


def enter_kind(sale: str, known: Known) -> Kind:
    """Enter buyers into a cue's draw."""
    return Kind("enter", sale, (known.cue.id, known.cue.keep), _enter_call, _read_entered)


def _enter_call(kind: Kind, items: Sequence[Item]) -> Call:
    keys, (cue, keep) = ShardKeys.of(kind.sale), kind.extra
    own = CueKeys.of(kind.sale, cue)
    buyers, positions = encode([item.buyer for item in items]), [item.first for item in items]
    ranks = bytes.fromhex("".join(item.second for item in items)) if keep == "best" else b""
    baskets = pack_baskets([item.lines for item in items])
    used = (keys.sale, keys.buyers, own.cue, own.entries, own.best)
    cap_keys = encode([item.key for item in items]) if any(item.key for item in items) else b""
    args = (buyers, encode(positions), baskets, ranks, cap_keys)
    return Call(load_script("window/enter"), used, args)


def _read_entered(kind: Kind, items: Sequence[Item], reply: object) -> list[Answer]:
    answers = read_answers(kind, items, reply)
    details = expect(reply, 5, "enter")[4]
    flat = msgspec.msgpack.decode(details) if details else ()
    for at in range(0, len(flat), 4):
        number, counts = flat[at : at + 2]
        told = msgspec.structs.asdict(answers[number - 1])
        answers[number - 1] = _Entered(**told, counts=counts)
    return answers


def enter_item(
    known: Known,
    buyer: str,
    basket: Basket,
    position_ms: int,
    minimum: Mapping[str, int] | None,
    key: Key | None,
    fingerprint: str = "",
) -> Item:
    """One tap, checked. key: the draw key; fingerprint: the `key=` by which a sale counts holds."""
    cue, fingerprint = known.cue, limits.check_optional_id("key", fingerprint)
    if cue.keep == "best" and fingerprint:
        raise InvalidRequest("key", 'must not be given with keep="best", which cannot count by it')
    if cue.keep == "all" and known.share is not None and not fingerprint:
        raise InvalidRequest("key", "must be given: the sale has key_holds_max, and counts by keys")
    buyer = limits.check_id("buyer", buyer)
    position_ms = limits.check_position("position_ms", position_ms, cue.position_ms)
    lines = _with_least(check_basket("basket", basket), minimum)
    rank = b""
    if cue.keep == "best":
        if any(least != 1 for least in lines[2::3]):
            rule = 'must be 1 for every line with keep="best", which promises places for units'
            raise InvalidRequest("minimum", rule)
        who = draw.entrant_of(known.salt, cue.sale, cue.id, buyer)
        seed = seed_of(known, key)
        rank = verify.rank_of(seed, cue.sale, cue.id, who)
    counted = fingerprint if known.share is not None else ""
    return Item(buyer, HOLD_PREFIX + cue.id, lines, position_ms, rank.hex(), counted)


def seed_of(known: Known, key: Key | None) -> bytes:
    """The cue's seed; ConfigurationError if the key is not the one that it was opened with.

    Whoever ranks by another seed changes who wins, and nobody would notice.
    """
    cue = known.cue
    if key is None:
        raise ConfigurationError(f"draw_keys: the key {cue.key!r} is needed for this")
    seed = draw.server_seed(key, cue.sale, cue.id, known.fresh)
    if draw.seed_commitment(seed, cue.sale, cue.id) != cue.seed_commitment:
        rule = f"is not the key that the cue {cue.id!r} was opened with: it has another secret"
        raise ConfigurationError(f"draw_keys: {key.id!r} {rule}")
    return seed


def _with_least(lines: Lines, minimum: Mapping[str, int] | None) -> Lines:
    """A basket's lines as sku, qty, least; without a minimum it is all or nothing."""
    if minimum is None:
        pairs = zip(lines[::2], lines[1::2], strict=True)
        return tuple(value for sku, qty in pairs for value in (sku, qty, qty))
    if not isinstance(minimum, Mapping):
        raise InvalidRequest("minimum", "must be a mapping of sku to units, or None")
    wanted = dict(zip(lines[::2], lines[1::2], strict=True))
    least: dict[str, int] = {}
    for sku, units in ((limits.plain_text(name), units) for name, units in minimum.items()):
        if sku not in wanted or sku in least:
            told = "twice" if sku in least else "which the basket does not"
            raise InvalidRequest("minimum", f"names {limits.shown(sku)}, {told}")
        least[sku] = limits.check_int(f"minimum of {sku!r}", units, 1, int(wanted[sku]))
    return tuple(v for sku, qty in wanted.items() for v in (sku, qty, least.get(str(sku), qty)))


def check_proof(known: Known, buyer: str, proof: str | None) -> Outcome | None:
    """Why a tap proves nothing, or None if it does or need not."""
    if not known.cue.proof:
        return None
    if proof is None or proof == "":
        return Outcome.NO_PROOF
    cue = known.cue
    right = isinstance(proof, str) and draw.check_proof(cue.nonce, cue.sale, cue.id, buyer, proof)
    return None if right else Outcome.WRONG_PROOF


def read_entry(known: Known, text: str) -> tuple[int, verify.Wish, str]:
    """An entry as the server keeps it: "window", "|index*qty~least,…" if need be, "#key" if any."""
    text, _, key = text.partition("#")
    window, _, basket = text.partition("|")
    if not basket:
        return int(window), ((known.lines[0][0], 1, 1),), key
    names = {index: sku for sku, index in known.lines}
    lines = []
    for line in basket.split(","):
        wanted, _, least = line.partition("~")
        index, _, qty = wanted.partition("*")
        units = int(qty or 1)
        lines.append((names[int(index)], units, int(least or units)))
    return int(window), tuple(sorted(lines)), key


def _what_counts(known: Known, lines: Lines, answer: Answer) -> tuple[int, verify.Wish]:
    if isinstance(answer, _Entered) and answer.counts:
        return read_entry(known, answer.counts)[:2]
    sent = [iter(lines)] * 3
    return 0, tuple((str(sku), int(qty), int(least)) for sku, qty, least in zip(*sent, strict=True))


def entry_answer(known: Known, answer: Answer, lines: Lines = ()) -> EntryAnswer:
    """What the buyer is told: never a rank, and never early who won. lines: of the tap."""
    cue, receipt = known.cue, ""
    window: int | None = None
    wish: verify.Wish = ()
    if answer.outcome is Outcome.ENTERED:
        receipt = draw.opening_of(known.salt, cue.sale, cue.id, answer.buyer).hex()
        if cue.keep == "all":
            window, wish = _what_counts(known, lines, answer)
    return EntryAnswer(
        answer.outcome,
        cue.sale,
        cue.id,
        answer.buyer,
        receipt,
        cue.reveals_at_ms,
        answer.replayed,
        answer.at_ms,
        window,
        {sku: units for sku, units, _ in wish},
        {sku: least for sku, units, least in wish if least < units},
    )


def result_kind(sale: str, cue: str) -> Kind:
    """What the draw gave to buyers."""
    return Kind("result", sale, (cue,), _result_call)


def _result_call(kind: Kind, items: Sequence[Item]) -> Call:
    keys, own = ShardKeys.of(kind.sale), CueKeys.of(kind.sale, kind.extra[0])
    buyers = encode([item.buyer for item in items])
    used = (keys.sale, own.cue, own.entries, own.awarded)
    return Call(load_script("window/result"), used, (buyers,))


def result_item(cue: str, buyer: str) -> Item:
    """One buyer who asks."""
    return Item(limits.check_id("buyer", buyer), HOLD_PREFIX + cue)


def check_wait(wait_ms: int) -> int:
    """How long somebody waits for a result."""
    return limits.check_int("wait_ms", wait_ms, 0, 3_600_000)


def pauses(cue: Cue, answer: Answer) -> Iterator[float]:
    """Seconds between the questions of a client that waits: first until the announced time.

    Spread out, so that all processes do not ask at once.
    """
    yield max(0.0, (cue.reveals_at_ms - answer.at_ms) / 1000) + random.uniform(0.05, 0.3)
    pause = 0.2
    while True:
        yield pause * random.uniform(0.8, 1.2)
        pause = min(2.0, pause * 1.5)


# --- how far viewers lag ------------------------------------------------------------------


def lags(sale: str, reported_ms: Sequence[int]) -> Operation[LagHistogram]:
    """Add reports to the sale's histogram, and read it."""
    reported_ms = check_sequence("lags_ms", reported_ms)
    if len(reported_ms) > LAGS_MAX:
        raise InvalidRequest("lags_ms", f"must be at most {LAGS_MAX:,} at a time")
    added: Counter[int] = Counter()
    for lag_ms in reported_ms:
        lag_ms = limits.check_int("lag in lags_ms", lag_ms, 0, limits.TIME_MAX_MS)
        added[min(lag_ms // LAG_BUCKET_MS, limits.LAG_BUCKETS - 1)] += 1
    keys = ShardKeys.of(sale)
    flat = [value for pair in sorted(added.items()) for value in pair]
    call = Call(load_script("window/lags"), (keys.sale, keys.lags), (encode(flat),))
    _, _, code, shown = expect((yield call), 4, "lags")
    if code:
        raise Rejected(outcome_of(code.decode(), "lags"), f"sale {sale!r}")
    counts = [0] * limits.LAG_BUCKETS
    for at in range(0, len(shown), 2):
        counts[int(shown[at])] = int(shown[at + 1])
    return LagHistogram(tuple(counts))
