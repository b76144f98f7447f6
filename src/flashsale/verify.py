"""Check the record of a draw, with nothing but this file and Python's standard library.

::

    python verify.py RECORD.json [--buyer BUYER --receipt RECEIPT] [--digest PUBLISHED]

Exit code 0: the record verifies; 1: it does not, or does not have the buyer; 2: there is nothing to
check; 3: nothing is wrong, but something was left unchecked.

The draw
--------
Everybody who taps within one window of a cue has the same chance. Before the cue, the seller
publishes the cue's parameters with a commitment to a secret seed. After the close the entrants are
frozen and their digest is published. Then they are ordered by window and, within one window, by a
hash keyed with the seed; the stock goes to them in that order. Whoever has the record can repeat
all of it. `verify` does, and says under `limits` what no record can prove.

What a draw proves
------------------
*Committed* (no public randomness): given these entrants, neither the network nor the order of
arrival nor the code changed who won. It proves nothing against those who knew the seed before the
freeze: the seller, and with "best" every process that took entries. Until then they can try keys,
random bytes and names, and enter the one that wins.
*Public* (a beacon that this file knows, and a digest that was seen in public before the round
came): nobody at all could know, while somebody could still enter, who would win. With another
source it proves no more than a committed draw.
*No draw* proves that there is somebody behind each name, and somebody else; that nobody's entry was
left out; or that a winner who was called refused was one, which moves units down the order until
somebody's turn. With "best" the others are not in the record, which then proves that much less.
*A receipt* proves to its own buyer that they are in, with which window and basket. It proves
nothing to others, and nothing if it is not found: anybody can make up a receipt for anybody, as
nothing commits the seller to them. It takes an ID that the buyer knows independently of the seller
(a login, not an internal number): a seller who may choose IDs can give two buyers the same one.

The record, format 1
--------------------
A JSON object in UTF-8, with exactly these fields. Times are whole milliseconds since the epoch by
the server's clock; positions are milliseconds on the stream's own timeline; HEX is lower case. An
ID is 1 to 64 characters out of ``A-Z a-z 0-9 . _ ~ @ + = / -``.

``format``      1
``cue``         what was published with the cue:

                ``sale``, ``id``       IDs, never used twice
                ``stock``              {sku: units set aside}, 1 to 32 skus
                ``position_ms``        the cue on the stream's timeline
                ``cue_time_ms``        the same moment by the server's clock
                ``ahead_ms``           how far ahead of live a tap's position may be before it is
                                       refused and not cut down to live; as long as lag_cap_ms
                ``window_ms``          W, the width of a window
                ``windows``            K, how many windows there are
                ``lag_cap_ms``         L, how much of a viewer's lag is granted
                ``grace_ms``           g, granted for sending
                ``spread_ms``          j, over which clients spread their sending
                ``reserve_ms``         from the end of the winners' time to pay on: how long places
                                       that fall free go to the next; 0: never
                ``keep``, ``kept``     "all" entrants and null; or the "best" and how many of them
                ``entropy_source``,    null (a committed draw), or whose public randomness, which
                ``entropy_round``,     one, and
                ``entropy_at_ms``      when it comes
                ``entropy_margin_ms``  so much later than the close, at least
                ``publish``            null, or the one place where the digest is published, as TEXT
                                       of 1 to 256 characters
                ``publish_wait_ms``    the result is told so much later than that, at least
                ``proof``              whether a tap must prove that its player saw the nonce
                ``nonce``              HEX of 16 bytes, sent inside the stream
                ``key``                ID of the draw key
                ``seed_commitment``    HEX of 32 bytes
                ``closes_at_ms``       cue_time_ms + L + K·W + g + j
                ``reveals_at_ms``      when the result is to be told, not before it can be

``frozen``      {``at_ms``, ``entrants``: how many, ``digest``: HEX of 32 bytes,
                ``published_at_ms``: when it had been published, null if the cue names no place}
``server_seed`` HEX of 32 bytes, told after the draw
``entropy``     null, or {``source``, ``round``, ``value``: HEX of 1 to 1,024 bytes, ``signature``:
                the source's, null or HEX of 1 to 1,024 bytes}
``entrants``    groups of those in one window who wish the same, none empty, ascending by window,
                then by the TEXT of the wish:

                ``window``             from 0
                ``wish``               [[sku, units, least], …], 1 to 32 lines ascending by sku;
                                       units 1 to 1,000,000; least: fewer are of no use, 1 to units
                ``who``                [entrant, …], ascending; an entrant is HEX of 32 bytes, a
                                       hash of the buyer and of the opening that this buyer has as
                                       a receipt: nobody else can tell whose name it is

``capped``      [entrant, …], ascending: left out at the freeze, because those with smaller names
                had used up what the fingerprint of a device, a card or an address may have
``entrants_complete``  true if nobody who counted is left out: always with "all"; with "best" only
                if fewer than ``kept`` entered
``drawn``       [[entrant, [[sku, units], …]], …] in the order of the draw
``awarded``     [[entrant, outcome, [[sku, units], …]], …]: first the drawn, in that order, then
                those who moved up, in the order of the draw. The outcome is "held", or why the
                engine refused (no lines then): "limit_reached", "too_many_holds", "key_limit" (of
                the fingerprint), "conflict"
``returned``    {sku: units} that winners gave up or did not pay, and that went to the next
``final_at_ms`` until then what winners give up goes to the next, and the record may grow: at least
                reserve_ms after reveals_at_ms, unless nobody is left to whom it could go
``told_at_ms``  when the record was made, at most final_at_ms: a final record stays the same
``void``        null, or {``reason``: why the cue does not count, 1 to 256 characters, ``at_ms``:
                since when; final_at_ms and told_at_ms are the same}. Then ``frozen`` is null if the
                cue's time had not come, and ``server_seed`` may be null; ``entropy`` is null, all
                else is empty or false
``seal``        HEX of 32 bytes over all the rest (over the entrants by their digest), so that
                copies are compared by one line

The hashes
----------
All are BLAKE2b (RFC 7693), unkeyed unless said otherwise, 32 bytes unless said otherwise, with the
purpose as personalisation, over parts: each is preceded by its length in bytes as 4 bytes, big
endian. HEX stands for its bytes, numbers are decimal text, text is UTF-8. "JSON" is compact, in
ASCII, keys sorted. The TEXT of a wish is its lines as ``sku*units:least``, joined by commas.

===============  ====================  ===========================================================
seed             flashsale.public      server_seed itself, or of server_seed, value of the entropy
seed_commitment  flashsale.commit      sale, cue id, server_seed
opening          flashsale.open        keyed with a salt that is never told: sale, cue id, buyer
entrant          flashsale.who         opening, sale, cue id, buyer
digest           flashsale.freeze      sale, cue id, JSON of the cue, frozen.at_ms, then of each
                                       group, in the record's order: window, TEXT of the wish, and
                                       in one part all its entrants, nothing between them; last, in
                                       one part, all of capped
rank             flashsale.draw        keyed with the seed: sale, cue id, entrant
seal             flashsale.record      JSON of the record without ``seal`` and ``entrants``
===============  ====================  ===========================================================

Order: by (window, rank). Walk: in that order each entrant gets, of every line, what is left up to
its units; if that is less than its least of any line, it is passed over whole; the walk ends when
nothing is left. Moving up: what refused winners leave goes to the next before anything is told,
what others give up until final_at_ms; in the order of the draw, too, and nobody is passed over for
a basket that would have covered all their own least.

A beacon that this file knows (`BEACONS`) is drand's quicknet: round r comes 3,000 · (r - 1) ms
after 1692803367000, and its value is SHA-256 of its signature. The signature itself takes more than
the standard library: alone, this file leaves it unchecked and says so.

The digest covers the cue's parameters and the time of the freeze, so whoever noted the published
digest can hold it against the record (`published_digest`) and need trust no other field.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import blake2b, sha256
from itertools import pairwise
from typing import Any, Literal, NamedTuple, NoReturn, TypeAlias

__all__ = [
    "BEACONS",
    "QUICKNET",
    "RECEIPT_LIMITS",
    "Beacon",
    "Check",
    "Group",
    "InvalidRecord",
    "Place",
    "Verification",
    "find",
    "load",
    "verify",
]

FORMAT = 1
FAIR_WINDOW_MS = 2_000
"""Below this, people's reaction times decide who is in the window at all."""
REFUSALS = frozenset({"limit_reached", "too_many_holds", "key_limit", "conflict"})
"""Why the engine may refuse somebody who was drawn."""

SKUS_MAX = LINES_MAX = 32
QTY_MAX, STOCK_MAX, COUNT_MAX = 10**6, 10**12, 10**9
TIME_MAX_MS, DURATION_MAX_MS = 9_999_999_999_999, 30 * 24 * 3600 * 1000
NUMBER_CHARACTERS_MAX = 40
COMPARISONS = 100
"""Lines compared for each entrant, at most, to find somebody who was passed over: see `verify`."""

Line: TypeAlias = tuple[str, int, int]
"""A sku, how many units are wanted, and the least that is of use."""
Wish: TypeAlias = tuple[Line, ...]
"""A basket wished for: lines ascending by sku."""
Lot: TypeAlias = tuple[tuple[str, int], ...]
"""What somebody got: skus and units."""
Awarded: TypeAlias = tuple[str, str, Lot]
"""An entrant, the outcome, and what it got."""


class Group(NamedTuple):
    """The entrants of one window who wish the same, ascending."""

    window: int
    wish: Wish
    who: list[str]


class Beacon(NamedTuple):
    """A public source of randomness whose rounds anybody can date and check.

    `name` is how cues call it. Round r comes at genesis_ms + period_ms · (r - 1); its value is
    SHA-256 of its signature, which the holder of `public_key` (HEX) made over the round's number.
    """

    name: str
    chain_hash: str
    public_key: str
    genesis_ms: int
    period_ms: int

    def time_of(self, round_number: int) -> int:
        """When a round comes, in milliseconds since the epoch; rounds count from 1."""
        return self.genesis_ms + self.period_ms * (round_number - 1)

    def round_after(self, at_ms: int) -> int:
        """The first round that comes strictly later than a time."""
        return max(1, (at_ms - self.genesis_ms) // self.period_ms + 2)


QUICKNET = Beacon(
    name="drand-quicknet",
    chain_hash="52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971",
    public_key=(
        "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c"
        "8c4b450b6a0a6c3ac6a5776a2d1064510d1fec758c921cc22b0e17e63aaf4bcb"
        "5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a"
    ),
    genesis_ms=1_692_803_367_000,
    period_ms=3_000,
)
"""drand's quicknet, of the League of Entropy; scheme bls-unchained-g1-rfc9380."""

BEACONS: Mapping[str, Beacon] = {QUICKNET.name: QUICKNET}
"""The beacons that this file knows. Of any other source it can check nothing."""

_HEX = frozenset("0123456789abcdef")
_ID = re.compile(r"[A-Za-z0-9._~@+=/-]{1,64}")


class InvalidRecord(ValueError):
    """What was given is not a record. `field` names the place, `rule` what must be there."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} {rule}")
        self.field = field
        self.rule = rule


@dataclass(frozen=True)
class Check:
    """One thing that was checked: its name, whether it holds, and a sentence.

    `ok` is None if that could not be checked here.
    """

    name: str
    ok: bool | None
    message: str


@dataclass(frozen=True)
class Verification:
    """What came of the checks. `limits` are what a record cannot prove, one sentence each.

    After a failed "format" or "structure" there are no other checks. `final`: nobody moves up any
    more, by what the record says.
    """

    checks: tuple[Check, ...]
    limits: tuple[str, ...]
    final: bool = False

    @property
    def verdict(self) -> Literal["verifies", "unchecked", "wrong"]:
        """ "unchecked": nothing is wrong, but some check could not be made."""
        found = {check.ok for check in self.checks}
        return "wrong" if False in found else "unchecked" if None in found else "verifies"

    @property
    def ok(self) -> bool:
        """Whether every check was made and holds."""
        return self.verdict == "verifies"


@dataclass(frozen=True)
class Place:
    """What became of one entrant.

    `place` counts from 1 and is among the `of` entrants of the record. `outcome` is "held", a
    refusal, "not_drawn", or "capped" (place 0, and neither window nor wish are told): left out for
    its fingerprint. `drawn` is what the draw gave, `lines` what was held in the end: the
    same, or nothing if refused, or what those who moved up got.
    """

    entrant: str
    window: int
    wish: Wish
    place: int
    of: int
    outcome: str
    drawn: Lot
    lines: Lot


# --- the draw itself ----------------------------------------------------------------------------


def part(value: str | bytes) -> bytes:
    """A part of a hashed message: its length in 4 bytes, big-endian, and its bytes."""
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(4, "big") + raw


def hash_of(purpose: bytes, *parts: str | bytes, key: bytes = b"", size: int = 32) -> bytes:
    """BLAKE2b of parts, personalised by its purpose; a key of more than 64 bytes is hashed first.

    The hash of a long key is BLAKE2b of 64 bytes, personalised with "flashsale.key".
    """
    short = blake2b(key, person=b"flashsale.key").digest() if len(key) > 64 else key
    return blake2b(b"".join(map(part, parts)), key=short, digest_size=size, person=purpose).digest()


def seed_commitment(server_seed: bytes, sale: str, cue: str) -> str:
    """What fixes the seed before anybody enters, in hexadecimal."""
    return hash_of(b"flashsale.commit", sale, cue, server_seed).hex()


def public_seed(server_seed: bytes, entropy: bytes) -> bytes:
    """The seed of a draw with a public source: nobody knew it before the source's value came."""
    return hash_of(b"flashsale.public", server_seed, entropy)


def entrant_of(opening: bytes, sale: str, cue: str, buyer: str) -> bytes:
    """32 bytes that stand for a buyer: without the opening nobody can tell, or guess, for whom."""
    return hash_of(b"flashsale.who", opening, sale, cue, buyer)


def rank_of(seed: bytes, sale: str, cue: str, entrant: bytes) -> bytes:
    """32 bytes by which the entrants of one window are ordered."""
    return hash_of(b"flashsale.draw", sale, cue, entrant, key=seed)


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def text_of(wish: Wish) -> str:
    """A wish as the digest has it: "lipstick*2:1,mug*1:1"."""
    return ",".join([f"{sku}*{units}:{least}" for sku, units, least in wish])


def digest_of(
    cue: Mapping[str, object],
    frozen_at_ms: int,
    groups: Iterable[Group],
    capped: Iterable[str] = (),
) -> str:
    """The digest of frozen entrants: cue, groups and capped are as in the record, in its order."""
    state = blake2b(digest_size=32, person=b"flashsale.freeze")
    for text in (str(cue["sale"]), str(cue["id"]), _json(cue), str(frozen_at_ms)):
        state.update(part(text))
    for window, wish, who in groups:
        state.update(part(str(window)) + part(text_of(wish)))
        state.update(part(bytes.fromhex("".join(who))))
    state.update(part(bytes.fromhex("".join(capped))))
    return state.hexdigest()


def order_of(seed: bytes, sale: str, cue: str, groups: Iterable[Group]) -> list[str]:
    """The entrants in the order of the draw: by window, then by rank."""
    base = blake2b(
        part(sale) + part(cue) + (32).to_bytes(4, "big"),
        key=seed,
        digest_size=32,
        person=b"flashsale.draw",
    )

    def rank(entrant: str) -> bytes:  # `rank_of`, a million times
        state = base.copy()
        state.update(bytes.fromhex(entrant))
        return state.digest()

    windows: dict[int, list[str]] = {}
    for window, _, who in groups:
        windows.setdefault(window, []).extend(who)
    ordered: list[str] = []
    for _, everybody in sorted(windows.items()):
        everybody.sort(key=rank)
        ordered += everybody
    return ordered


def wishes_of(groups: Iterable[Group]) -> dict[str, Wish]:
    """What each entrant wishes."""
    wishes: dict[str, Wish] = {}
    for _, wish, who in groups:
        wishes |= dict.fromkeys(who, wish)
    return wishes


def walk(
    ordered: Iterable[str], wishes: dict[str, Wish], stock: Mapping[str, int]
) -> list[tuple[str, Lot]]:
    """Who gets what of the stock, in that order: (entrant, lot)."""
    left = dict(stock)
    units = sum(left.values())
    drawn: list[tuple[str, Lot]] = []
    hopeless: set[int] = set()  # wishes, by identity: what did not fit once never will
    for entrant in ordered:
        if units <= 0:
            break
        wish = wishes[entrant]
        if id(wish) in hopeless:
            continue
        lot = []
        for sku, wanted, least in wish:
            got = min(wanted, left.get(sku, 0))
            if got < least:
                hopeless.add(id(wish))
                break
            lot.append((sku, got))
        else:
            for sku, got in lot:
                left[sku] -= got
                units -= got
            drawn.append((entrant, tuple(lot)))
    return drawn


def seal_of(record: Mapping[str, object]) -> str:
    """The seal of a record: with that and the digest right, the same seal is the same record."""
    sealed = {name: record[name] for name in record if name not in ("seal", "entrants")}
    return hash_of(b"flashsale.record", _json(sealed)).hex()


# --- reading a record ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Record:
    raw: dict[str, Any]
    cue: dict[str, Any]
    stock: dict[str, int]
    frozen: dict[str, Any] | None
    server_seed: str | None
    entropy: dict[str, Any] | None
    groups: list[Group]
    capped: list[str]
    complete: bool
    drawn: list[tuple[str, Lot]]
    awarded: list[Awarded]
    returned: dict[str, int]
    final_at_ms: int
    told_at_ms: int
    void: dict[str, Any] | None
    seal: str

    @property
    def final(self) -> bool:
        return self.told_at_ms >= self.final_at_ms

    @property
    def sale(self) -> str:
        return str(self.cue["sale"])

    @property
    def id(self) -> str:
        return str(self.cue["id"])

    @property
    def count(self) -> int:
        return sum(len(group.who) for group in self.groups)

    @cached_property
    def wishes(self) -> dict[str, Wish]:
        return wishes_of(self.groups)

    def order(self) -> list[str]:
        seed = bytes.fromhex(self.server_seed or "")
        if self.entropy:
            seed = public_seed(seed, bytes.fromhex(self.entropy["value"]))
        return order_of(seed, self.sale, self.id, self.groups)


def load(data: bytes | str) -> object:
    """Read a record's JSON. Raises InvalidRecord; a field that comes twice is an error, too."""
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=_broken,
            parse_constant=_no_constant,
        )
    except InvalidRecord:
        raise
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        rule = f"must be UTF-8: byte {error.start}, in line {line}, is not"
        raise InvalidRecord("the file", rule) from None
    except RecursionError:
        raise InvalidRecord("the file", "is nested too deep") from None
    except ValueError as error:
        raise InvalidRecord("the file", f"must be JSON: {str(error)[:200]}") from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, value in pairs:
        if name in fields:
            raise InvalidRecord(f"field {_shown(name)}", "comes twice in one object")
        fields[name] = value
    return fields


def _whole(text: str) -> int:
    return int(_short(text))


def _broken(text: str) -> float:
    return float(_short(text))


def _short(text: str) -> str:
    """A number's text: reading a long one takes time that grows with the square of its length."""
    if len(text) > NUMBER_CHARACTERS_MAX:
        rule = f"must be JSON with numbers of at most {NUMBER_CHARACTERS_MAX} characters"
        raise InvalidRecord("the file", rule)
    return text


def _no_constant(text: str) -> NoReturn:
    raise InvalidRecord("the file", f"must be JSON: it says {text}, which is no number there")


def _shown(value: object) -> str:
    """A value in an error: short and printable, whatever it is."""
    if value is None or type(value) is bool:
        return {None: "null", True: "true", False: "false"}[value]
    if type(value) is str:
        return repr(value) if len(value) <= 40 else f"{value[:40]!r}…"
    if type(value) is int:
        return str(value) if value.bit_length() <= 64 else "a number far too large"
    return repr(value) if type(value) is float else f"a {type(value).__name__}"


def _fields(value: object, path: str, names: Sequence[str]) -> dict[str, Any]:
    if type(value) is not dict:
        raise InvalidRecord(path, f"must be an object, not {_shown(value)}")
    for name in names:
        if name not in value:
            raise InvalidRecord(f"{path}.{name}", "is missing")
    for name in value:
        if name not in names:
            raise InvalidRecord(path, f"has a field that is unknown: {_shown(name)}")
    return value


def _int(value: object, path: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        rule = f"must be a whole number from {low} to {high}"
        raise InvalidRecord(path, f"{rule}, not {_shown(value)}")
    return value


def _id(value: object, path: str) -> str:
    if type(value) is not str or not _ID.fullmatch(value):
        rule = "must be 1 to 64 characters out of A-Z a-z 0-9 . _ ~ @ + = / -"
        raise InvalidRecord(path, f"{rule}, not {_shown(value)}")
    return value


def _hex(value: object, path: str, size: int, most: int | None = None) -> str:
    sizes = f"{size} bytes" if most is None else f"{size} to {most} bytes"
    if (
        type(value) is not str
        or not 2 * size <= len(value) <= 2 * (most or size)
        or len(value) % 2
        or not _HEX.issuperset(value)
    ):
        raise InvalidRecord(path, f"must be {sizes} in lower-case hex, not {_shown(value)}")
    return value


def _str(value: object, path: str) -> str:
    if type(value) is not str or not 1 <= len(value) <= 256:
        raise InvalidRecord(path, f"must be text of 1 to 256 characters, not {_shown(value)}")
    return value


def _list(value: object, path: str, size: int | None = None) -> list[Any]:
    if type(value) is not list:
        raise InvalidRecord(path, f"must be a list, not {_shown(value)}")
    if size is not None and len(value) != size:
        raise InvalidRecord(path, f"must be a list of {size}, not of {len(value)}")
    return value


_TOP = (
    *("format", "cue", "frozen", "server_seed", "entropy", "entrants", "capped"),
    *("entrants_complete", "drawn", "awarded", "returned", "final_at_ms", "told_at_ms", "void"),
    "seal",
)
_CUE = (
    *("sale", "id", "stock", "position_ms", "cue_time_ms", "ahead_ms", "window_ms", "windows"),
    *("lag_cap_ms", "grace_ms", "spread_ms", "reserve_ms", "keep", "kept", "entropy_source"),
    *("entropy_round", "entropy_at_ms", "entropy_margin_ms", "publish", "publish_wait_ms"),
    *("proof", "nonce", "key", "seed_commitment", "closes_at_ms", "reveals_at_ms"),
)
_CUE_NUMBERS = {
    "position_ms": (-TIME_MAX_MS, TIME_MAX_MS),
    "cue_time_ms": (0, TIME_MAX_MS),
    "ahead_ms": (0, DURATION_MAX_MS),
    "window_ms": (1, DURATION_MAX_MS),
    "windows": (1, 1_000_000),
    "lag_cap_ms": (0, DURATION_MAX_MS),
    "grace_ms": (0, DURATION_MAX_MS),
    "spread_ms": (0, DURATION_MAX_MS),
    "reserve_ms": (0, DURATION_MAX_MS),
    "entropy_margin_ms": (0, DURATION_MAX_MS),
    "publish_wait_ms": (0, DURATION_MAX_MS),
    "closes_at_ms": (0, TIME_MAX_MS),
    "reveals_at_ms": (0, TIME_MAX_MS),
}


def _read_format(value: object) -> None:
    if type(value) is not int or value != FORMAT:
        raise InvalidRecord("format", f"is {_shown(value)}; this program reads {FORMAT}")


def _read_cue(value: object) -> dict[str, Any]:
    cue = _fields(value, "cue", _CUE)
    _id(cue["sale"], "cue.sale")
    _id(cue["id"], "cue.id")
    _id(cue["key"], "cue.key")
    if not _read_units(cue["stock"], "cue.stock"):
        raise InvalidRecord("cue.stock", "must not be empty")
    for name, (low, high) in _CUE_NUMBERS.items():
        _int(cue[name], f"cue.{name}", low, high)
    if type(cue["keep"]) is not str or cue["keep"] not in ("all", "best"):
        raise InvalidRecord("cue.keep", f'must be "all" or "best", not {_shown(cue["keep"])}')
    if cue["kept"] is not None or cue["keep"] == "best":
        _int(cue["kept"], "cue.kept", 1, STOCK_MAX)
    if cue["entropy_source"] is not None:
        _str(cue["entropy_source"], "cue.entropy_source")
        _int(cue["entropy_round"], "cue.entropy_round", 0, 2**53)
        _int(cue["entropy_at_ms"], "cue.entropy_at_ms", 0, TIME_MAX_MS)
    elif cue["entropy_round"] is not None or cue["entropy_at_ms"] is not None:
        raise InvalidRecord("cue.entropy_source", "must not be null: there is a round or its time")
    if cue["publish"] is not None:
        _str(cue["publish"], "cue.publish")
    if type(cue["proof"]) is not bool:
        raise InvalidRecord("cue.proof", f"must be true or false, not {_shown(cue['proof'])}")
    _hex(cue["nonce"], "cue.nonce", 16)
    _hex(cue["seed_commitment"], "cue.seed_commitment", 32)
    return cue


def _read_units(value: object, path: str) -> dict[str, int]:
    if type(value) is not dict or len(value) > SKUS_MAX:
        raise InvalidRecord(path, f"must be an object of at most {SKUS_MAX} skus")
    for sku, units in value.items():
        _id(sku, f"a sku of {path}")
        _int(units, f"{path}.{sku}", 1, STOCK_MAX)
    return value


def _read_groups(value: object) -> list[Group]:
    groups = []
    for at, item in enumerate(_list(value, "entrants")):
        path = f"entrants[{at}]"
        group = _fields(item, path, ("window", "wish", "who"))
        window = _int(group["window"], f"{path}.window", 0, COUNT_MAX)
        wish = _read_wish(group["wish"], f"{path}.wish")
        who = _list(group["who"], f"{path}.who")
        if not who:
            raise InvalidRecord(f"{path}.who", "must not be empty")
        groups.append(Group(window, wish, _read_names(who, f"{path}.who")))
    return groups


def _read_names(value: object, path: str) -> list[str]:
    names = _list(value, path)
    # One look at all of them; a closer one only to name the first that is wrong.
    if names and (
        set(map(type, names)) != {str}
        or set(map(len, names)) != {64}
        or not _HEX.issuperset("".join(names))
    ):
        for place, entrant in enumerate(names):
            _hex(entrant, f"{path}[{place}]", 32)
    return names


def _read_wish(value: object, path: str) -> Wish:
    wish = []
    for at, line in enumerate(_list(value, path)):
        sku, units, least = _list(line, f"{path}[{at}]", 3)
        _id(sku, f"{path}[{at}][0]")
        _int(units, f"{path}[{at}][1]", 1, QTY_MAX)
        wish.append((sku, units, _int(least, f"{path}[{at}][2]", 1, units)))
    if not 1 <= len(wish) <= LINES_MAX:
        raise InvalidRecord(path, f"must be 1 to {LINES_MAX} lines, not {len(wish)}")
    _ascending(wish, path)
    return tuple(wish)


def _ascending(lines: Sequence[tuple[Any, ...]], path: str) -> None:
    if any(line[0] >= after[0] for line, after in pairwise(lines)):
        raise InvalidRecord(path, "must be ascending by sku, each sku once")


def _read_lot(value: object, path: str) -> Lot:
    lot = []
    for at, line in enumerate(_list(value, path)):
        sku, units = _list(line, f"{path}[{at}]", 2)
        lot.append((_id(sku, f"{path}[{at}][0]"), _int(units, f"{path}[{at}][1]", 1, QTY_MAX)))
    _ascending(lot, path)
    return tuple(lot)


def _read_drawn(value: object) -> list[tuple[str, Lot]]:
    drawn = []
    for at, item in enumerate(_list(value, "drawn")):
        entrant, lines = _list(item, f"drawn[{at}]", 2)
        lot = _read_lot(lines, f"drawn[{at}][1]")
        drawn.append((_hex(entrant, f"drawn[{at}][0]", 32), lot))
    return drawn


def _read_awarded(value: object) -> list[Awarded]:
    awarded = []
    for at, item in enumerate(_list(value, "awarded")):
        path = f"awarded[{at}]"
        entrant, outcome, lines = _list(item, path, 3)
        _hex(entrant, f"{path}[0]", 32)
        if type(outcome) is not str or (outcome != "held" and outcome not in REFUSALS):
            told = ", ".join(["held", *sorted(REFUSALS)])
            raise InvalidRecord(f"{path}[1]", f"must be one of {told}, not {_shown(outcome)}")
        awarded.append((entrant, outcome, _read_lot(lines, f"{path}[2]")))
    return awarded


def _read_frozen(value: object) -> dict[str, Any]:
    frozen = _fields(value, "frozen", ("at_ms", "entrants", "digest", "published_at_ms"))
    _int(frozen["at_ms"], "frozen.at_ms", 0, TIME_MAX_MS)
    _int(frozen["entrants"], "frozen.entrants", 0, COUNT_MAX)
    _hex(frozen["digest"], "frozen.digest", 32)
    if frozen["published_at_ms"] is not None:
        _int(frozen["published_at_ms"], "frozen.published_at_ms", 0, TIME_MAX_MS)
    return frozen


def _read_entropy(value: object) -> dict[str, Any]:
    entropy = _fields(value, "entropy", ("source", "round", "value", "signature"))
    _str(entropy["source"], "entropy.source")
    _int(entropy["round"], "entropy.round", 0, 2**53)
    _hex(entropy["value"], "entropy.value", 1, 1024)
    if entropy["signature"] is not None:
        _hex(entropy["signature"], "entropy.signature", 1, 1024)
    return entropy


def _read_void(value: object) -> dict[str, Any]:
    void = _fields(value, "void", ("reason", "at_ms"))
    _str(void["reason"], "void.reason")
    _int(void["at_ms"], "void.at_ms", 0, TIME_MAX_MS)
    return void


def _read(value: object) -> _Record:
    """The record, every field of it of the right kind; raises InvalidRecord naming the first."""
    raw = _fields(value, "the record", _TOP)
    _read_format(raw["format"])
    cue = _read_cue(raw["cue"])
    void = None if raw["void"] is None else _read_void(raw["void"])
    frozen, seed = raw["frozen"], raw["server_seed"]
    if frozen is not None or void is None:
        _read_frozen(frozen)
    if seed is not None or void is None:
        _hex(seed, "server_seed", 32)
    if type(raw["entrants_complete"]) is not bool:
        raise InvalidRecord("entrants_complete", "must be true or false")
    return _Record(
        raw=raw,
        cue=cue,
        stock=cue["stock"],
        frozen=frozen,
        server_seed=seed,
        entropy=None if raw["entropy"] is None else _read_entropy(raw["entropy"]),
        groups=_read_groups(raw["entrants"]),
        capped=_read_names(raw["capped"], "capped"),
        complete=raw["entrants_complete"],
        drawn=_read_drawn(raw["drawn"]),
        awarded=_read_awarded(raw["awarded"]),
        returned=_read_units(raw["returned"], "returned"),
        final_at_ms=_int(raw["final_at_ms"], "final_at_ms", 0, TIME_MAX_MS),
        told_at_ms=_int(raw["told_at_ms"], "told_at_ms", 0, TIME_MAX_MS),
        void=void,
        seal=_hex(raw["seal"], "seal", 32),
    )


# --- the checks ---------------------------------------------------------------------------------


class _Wrong(Exception):
    """A check that does not hold; the message says how."""


class _Unchecked(Exception):
    """A check that could not be made; the message says why."""


CheckSignature: TypeAlias = Callable[[bytes, int, bytes], bool]
"""Whether the holder of a public key made a signature in a round: key, round, signature."""


def verify(
    record: object,
    *,
    published_digest: str | None = None,
    check_signature: CheckSignature | None = None,
    beacons: Mapping[str, Beacon] = BEACONS,
) -> Verification:
    """Check a record, as `load` or any JSON reader gives it. Raises nothing.

    published_digest: the digest that was seen in public before the result was told. With it the
    cue's parameters, the entrants and the time of the freeze are proven to be those of then.
    check_signature: `flashsale.beacons.check_signature`; without it the signature of a beacon is
    left unchecked. beacons: those of which anything is known.
    The time it takes grows with the record's size (but for sorting), whatever the record says:
    where many different baskets of several skus moved up, it stops comparing after 100 lines an
    entrant, and tells so.
    """
    checks: list[Check] = []
    try:
        if type(record) is dict and "format" in record:
            _read_format(record["format"])
            checks.append(Check("format", True, f"a record in format {FORMAT}"))
        read = _read(record)
    except InvalidRecord as error:
        name = "format" if error.field == "format" else "structure"
        checks.append(Check(name, False, str(error)))
        return Verification(tuple(checks), ())
    except RecursionError:
        checks.append(Check("structure", False, "the record is nested too deep"))
        return Verification(tuple(checks), ())
    checks.append(Check("structure", True, "every field is there, and of its kind"))
    beacon = beacons.get(read.cue["entropy_source"])
    for name, check in _checks_of(read, published_digest, beacon, check_signature):
        try:
            checks.append(Check(name, True, check()))
        except _Wrong as wrong:
            checks.append(Check(name, False, str(wrong)))
        except _Unchecked as reason:
            checks.append(Check(name, None, f"unchecked: {reason}"))
    limits = tuple(_limits_of(read, published_digest, beacon))
    return Verification(tuple(checks), limits, read.final)


def _checks_of(
    read: _Record,
    published_digest: str | None,
    beacon: Beacon | None,
    check_signature: CheckSignature | None,
) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "times", lambda: _check_times(read)
    yield "rules", lambda: _check_rules(read)
    if read.void is not None:
        yield "void", lambda: _check_void(read)
    if read.server_seed is not None:
        yield "seed", lambda: _check_seed(read)
    if read.void is None:
        yield "entropy", lambda: _check_entropy(read, beacon)
        if beacon:
            yield "beacon", lambda: _check_beacon(read, beacon, check_signature)
    if read.frozen is not None:
        yield "freeze", lambda: _check_freeze(read)
        yield "publish", lambda: _check_publish(read)
        if published_digest is not None:
            yield "published", lambda: _check_published(read, published_digest)
    if read.void is None:
        yield from _checks_of_draw(read)
    yield "seal", lambda: _check_seal(read)


def _checks_of_draw(read: _Record) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "entrants", lambda: _check_entrants(read)
    yield "capped", lambda: _check_capped(read)
    yield "count", lambda: _check_count(read)
    yield "digest", lambda: _check_digest(read)
    ordered = read.order()
    yield "drawn", lambda: _check_drawn(read, ordered)
    yield "awarded", lambda: _check_awarded(read)
    yield "promoted", lambda: _check_promoted(read, ordered)
    yield "stock", lambda: _check_stock(read)
    yield "left", lambda: _check_left(read, ordered)
    yield "told", lambda: _check_told(read)


def _check_times(read: _Record) -> str:
    cue = read.cue
    length = cue["lag_cap_ms"] + cue["windows"] * cue["window_ms"]
    closes = cue["cue_time_ms"] + length + cue["grace_ms"] + cue["spread_ms"]
    if cue["closes_at_ms"] != closes:
        told = f"the cue closes at {cue['closes_at_ms']}"
        raise _Wrong(f"{told}, but its windows, lag cap, grace and spread end at {closes}")
    reveals, wait = cue["reveals_at_ms"], cue["publish_wait_ms"]
    if reveals < closes:
        raise _Wrong(f"the result was to be told at {reveals}, before the close")
    if reveals < closes + wait:
        told = f"the result was to be told at {reveals}"
        raise _Wrong(f"{told}, not {wait} ms after the digest, which comes after the close")
    entropy_at, margin = cue["entropy_at_ms"], cue["entropy_margin_ms"]
    if entropy_at is not None and entropy_at <= closes + margin:
        told = f"the public randomness comes at {entropy_at}"
        raise _Wrong(f"{told}, not later than {margin} ms after the close at {closes}")
    if entropy_at is not None and reveals < entropy_at:
        told = f"the result was to be told at {reveals}"
        raise _Wrong(f"{told}, before the public randomness comes at {entropy_at}")
    return "the close follows from the windows, the lag cap, the grace and the spread"


def _check_rules(read: _Record) -> str:
    cue, kept = read.cue, read.cue["kept"]
    if cue["keep"] == "all":
        if kept is not None:
            raise _Wrong(f"the cue keeps all entrants, but also only {kept:,}")
        if not read.complete and read.void is None:
            raise _Wrong("the cue keeps all entrants, but the record calls them incomplete")
        return "the cue keeps all entrants"
    if len(read.stock) != 1:
        raise _Wrong(f"a cue that keeps the best has one sku, not {len(read.stock)}")
    if cue["entropy_source"]:
        raise _Wrong("a cue that keeps the best must know the seed, so it cannot be public")
    if kept < sum(read.stock.values()):
        raise _Wrong(f"the cue keeps the best {kept:,}, fewer than could win")
    if read.count > kept:
        raise _Wrong(f"the cue keeps the best {kept:,}, but the record has {read.count:,} entrants")
    if read.void is None and read.complete != (read.count < kept):
        told = "complete" if read.complete else "incomplete"
        raise _Wrong(f"the record calls its {read.count:,} entrants {told}: {kept:,} are kept")
    if any(line[2] != 1 for group in read.groups for line in group.wish):
        raise _Wrong("a cue that keeps the best takes no least above 1")
    return f"the cue keeps the best {kept:,} entrants"


def _check_void(read: _Record) -> str:
    void, frozen = read.void or {}, read.frozen
    if read.entropy is not None:
        raise _Wrong("the cue is void, so entropy must be null")
    for name in ("entrants", "capped", "drawn", "awarded", "returned"):
        if read.raw[name]:
            raise _Wrong(f"the cue is void, so {name} must be empty")
    if read.complete:
        raise _Wrong("the cue is void, so entrants_complete must be false")
    at = void["at_ms"]
    if {read.final_at_ms, read.told_at_ms} != {at}:
        raise _Wrong("the cue is void, so its record must be final since then, and told then")
    if frozen is None and at >= read.cue["cue_time_ms"]:
        raise _Wrong("the cue's time had come when it was made void, but no digest is told")
    if frozen is None and read.server_seed is not None:
        raise _Wrong("a seed is told of a cue that was never frozen")
    if frozen is not None and frozen["at_ms"] > at:
        raise _Wrong("the entrants were frozen after the cue was made void")
    when = "before its time" if frozen is None else f"{at - frozen['at_ms']} ms after the freeze"
    told = f"the cue does not count, and nobody was awarded anything: {void['reason']!r}"
    return f"{told}, {when}"


def _check_seed(read: _Record) -> str:
    seed = bytes.fromhex(read.server_seed or "")
    if seed_commitment(seed, read.sale, read.id) != read.cue["seed_commitment"]:
        raise _Wrong("the server seed is not the one that was committed to with the cue")
    return "the server seed is the one that was committed to with the cue"


def _check_entropy(read: _Record, beacon: Beacon | None) -> str:
    source, number, used = read.cue["entropy_source"], read.cue["entropy_round"], read.entropy
    if source is None:
        if used is not None:
            raise _Wrong("public randomness was used, but the cue announced none")
        return "the seed was fixed before the cue; no public randomness was announced"
    if used is None:
        raise _Wrong("the cue announced public randomness, but the record has none")
    if (used["source"], used["round"]) != (source, number):
        told = f"round {used['round']} of {used['source']!r} was used"
        raise _Wrong(f"{told}, but the cue announced round {number} of {source!r}")
    if beacon is None:
        return f"unknown beacon {source!r}: this proves no more than a committed draw"
    comes = beacon.time_of(number)
    if number < 1 or comes != read.cue["entropy_at_ms"]:
        told = f"round {number} of {source!r} came at {comes}"
        raise _Wrong(f"{told}, not at {read.cue['entropy_at_ms']}, as the cue says")
    return f"the seed is of the server's and of round {number} of {source!r}, {_time(comes)}"


def _check_beacon(read: _Record, beacon: Beacon, check_signature: CheckSignature | None) -> str:
    used = read.entropy or {}
    if not used or used["signature"] is None:
        raise _Wrong(f"the record has no signature of {beacon.name!r}")
    signature = bytes.fromhex(used["signature"])
    if sha256(signature).hexdigest() != used["value"]:
        raise _Wrong("the value is not SHA-256 of the beacon's signature")
    if check_signature is None:
        raise _Unchecked("the beacon's signature")
    if not check_signature(bytes.fromhex(beacon.public_key), used["round"], signature):
        raise _Wrong(f"{beacon.name!r} did not sign this in round {used['round']}")
    return f"{beacon.name!r} signed round {used['round']}, and the value is the signature's hash"


def _check_freeze(read: _Record) -> str:
    at, closes = (read.frozen or {})["at_ms"], read.cue["closes_at_ms"]
    if read.void is not None and at == read.void["at_ms"]:
        return "the entrants were frozen when the cue was made void"
    if at < closes:
        raise _Wrong(f"the entrants were frozen {closes - at} ms before the close")
    entropy_at = read.cue["entropy_at_ms"]
    if entropy_at is not None and at >= entropy_at:
        raise _Wrong("the entrants were frozen when the public randomness was known already")
    return f"the entrants were frozen {at - closes} ms after the close"


def _check_publish(read: _Record) -> str:
    cue, frozen = read.cue, read.frozen or {}
    at, place, entropy_at = frozen["published_at_ms"], cue["publish"], cue["entropy_at_ms"]
    if place is None:
        if at is not None:
            raise _Wrong("the digest was published, but the cue names no place for that")
        return "the cue names no place where the digest is published"
    if at is None:
        if read.void is None:
            raise _Wrong(f"the digest was to be published at {place!r}, and was not")
        return f"the digest was not yet published at {place!r}"
    if at < frozen["at_ms"]:
        raise _Wrong("the digest was published before the entrants were frozen")
    if read.void is None and entropy_at is not None and at >= entropy_at:
        raise _Wrong("the digest was published when the public randomness was known already")
    return f"the digest was published at {place!r}, {at - frozen['at_ms']} ms after the freeze"


def _check_entrants(read: _Record) -> str:
    for group in read.groups:
        if group.window >= read.cue["windows"]:
            told = f"{group.who[0]} and others are in window {group.window}"
            raise _Wrong(f"{told}, but there are {read.cue['windows']}")
        for sku, _, _ in group.wish:
            if sku not in read.stock:
                raise _Wrong(f"{group.who[0]} and others wish {sku!r}, which the cue has not")
        for entrant, after in pairwise(group.who):
            if entrant >= after:
                wrong = "is there twice" if entrant == after else "is not in ascending order"
                raise _Wrong(f"entrant {after} {wrong}")
    keys = [(group.window, text_of(group.wish)) for group in read.groups]
    if keys != sorted(set(keys)):
        raise _Wrong("the groups of entrants are not ascending by window and wish, each once")
    if len(read.groups) > 1 and read.count != len(read.wishes):
        seen: set[str] = set()
        for group in read.groups:
            if twice := seen.intersection(group.who):
                raise _Wrong(f"entrant {min(twice)} is there twice, in different groups")
            seen.update(group.who)
    return "each entrant is there once, in order, in a window and with skus of the cue"


def _check_capped(read: _Record) -> str:
    for entrant, after in pairwise(read.capped):
        if entrant >= after:
            raise _Wrong(f"{after}, left out for its fingerprint, is there twice or out of order")
    both = read.wishes.keys() & read.capped if read.capped else ()
    if both:
        raise _Wrong(f"{min(both)} was left out for its fingerprint, and is among the entrants")
    if read.capped and read.cue["keep"] == "best":
        raise _Wrong(
            "entrants were left out for their fingerprints, which a cue of the best has not"
        )
    return f"{len(read.capped):,} were left out because of their fingerprint"


def _check_count(read: _Record) -> str:
    told, count = (read.frozen or {})["entrants"], read.count
    if told != count:
        raise _Wrong(f"{told:,} entrants were frozen, but the record has {count:,}")
    return f"there are as many entrants as were frozen: {count:,}"


def _check_digest(read: _Record) -> str:
    frozen = read.frozen or {}
    if digest_of(read.cue, frozen["at_ms"], read.groups, read.capped) != frozen["digest"]:
        raise _Wrong("cue, entrants and time of the freeze do not give the digest")
    return f"cue, entrants and time of the freeze give {frozen['digest']}"


def _check_published(read: _Record, digest: str) -> str:
    if (read.frozen or {})["digest"] != str(digest).strip().lower():
        raise _Wrong("the record's digest is not the one that was published")
    return "the record's digest is the one that was published"


def _check_drawn(read: _Record, ordered: list[str]) -> str:
    expected = walk(ordered, read.wishes, read.stock)
    for at, (told, right) in enumerate(zip(read.drawn, expected, strict=False), 1):
        if told[0] != right[0]:
            raise _Wrong(f"place {at} of the drawn is {told[0]}; the draw gives {right[0]}")
        if told[1] != right[1]:
            got, due = _told(told[1]), _told(right[1])
            raise _Wrong(f"{told[0]}, place {at} of the drawn, has {got}; the draw gives {due}")
    if len(read.drawn) != len(expected):
        raise _Wrong(f"the draw gives {len(expected):,} winners, the record {len(read.drawn):,}")
    return f"the draw, repeated, gives the same {len(expected):,} winners and baskets"


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _told(lot: Lot) -> str:
    return ", ".join(f"{units} × {sku}" for sku, units in lot) or "nothing"


def _check_awarded(read: _Record) -> str:
    seen: set[str] = set()
    for entrant, outcome, lot in read.awarded:
        if entrant in seen:
            raise _Wrong(f"{entrant} was awarded twice")
        seen.add(entrant)
        if outcome == "held" and not lot:
            raise _Wrong(f"{entrant} is said to hold something, but has nothing")
        if outcome != "held" and lot:
            raise _Wrong(f"{entrant} was refused ({outcome}), but has {_told(lot)}")
    for at, (entrant, due) in enumerate(read.drawn):
        if at >= len(read.awarded) or read.awarded[at][0] != entrant:
            told = "awarded in the order of the draw" if entrant in seen else "among the awarded"
            raise _Wrong(f"{entrant} was drawn, but is not {told}")
        _, outcome, lot = read.awarded[at]
        if outcome == "held" and lot != due:
            raise _Wrong(f"{entrant} was awarded {_told(lot)}, but drew {_told(due)}")
    held = sum(outcome == "held" for _, outcome, _ in read.awarded[: len(read.drawn)])
    refused = len(read.drawn) - held
    return f"each winner got what they drew ({held:,}), or was refused with a reason ({refused:,})"


def _check_promoted(read: _Record, ordered: list[str]) -> str:
    promoted = read.awarded[len(read.drawn) :]
    if not promoted:
        if read.returned:
            raise _Wrong("units are said to have gone to the next, but nobody moved up")
        return "nobody moved up"
    refused = any(outcome != "held" for _, outcome, _ in read.awarded[: len(read.drawn)])
    gained = next((entrant for entrant, outcome, _ in promoted if outcome == "held"), None)
    if gained and not refused and not read.returned:
        raise _Wrong(f"{gained} moved up, but no winner was refused and nothing came back")
    for entrant, outcome, lot in promoted:
        if entrant not in read.wishes:
            raise _Wrong(f"{entrant} moved up, but is not among the entrants")
        if outcome == "held" and not _is_within(read.wishes[entrant], lot):
            raise _Wrong(f"{entrant} moved up with {_told(lot)}, which is not what they wished")
    _check_turns(read, ordered, promoted)
    return f"{len(promoted):,} moved up, in the order of the draw"


def _is_within(wish: Wish, lot: Lot) -> bool:
    return len(wish) == len(lot) and all(
        sku == given and least <= units <= wanted
        for (sku, wanted, least), (given, units) in zip(wish, lot, strict=True)
    )


def _check_turns(read: _Record, ordered: list[str], promoted: list[Awarded]) -> None:
    """From the last to the first: who stands before a basket that would have been theirs?"""
    drawn = {entrant for entrant, _ in read.drawn}
    lots = {entrant: lot for entrant, _, lot in promoted}
    turn = [entrant for entrant, _, _ in promoted]
    later = _Baskets(COMPARISONS * (read.count + len(read.awarded)))
    for entrant in reversed(ordered):
        if entrant in lots:
            if not turn or turn.pop() != entrant:
                raise _Wrong(f"{entrant} did not move up in the order of the draw")
            later.add(lots[entrant])
        elif entrant not in drawn and later.have_for(read.wishes[entrant]):
            raise _Wrong(f"{entrant} was passed over for somebody later in the order")


class _Baskets:
    """The different baskets that somebody got, and whether one of them would have done for a wish.

    No wish is compared with a basket twice, and no more than `lines` lines in all.
    """

    def __init__(self, lines: int) -> None:
        self._lines = lines
        self._seen: set[Lot] = set()
        self._listed: list[dict[str, int]] = []
        self._most: dict[str, int] = {}
        self._compared: dict[int, int] = {}  # by wish (its identity): with how many baskets

    def add(self, lot: Lot) -> None:
        if not lot or lot in self._seen:
            return
        self._seen.add(lot)
        self._listed.append(dict(lot))
        for sku, units in lot:
            self._most[sku] = max(units, self._most.get(sku, 0))

    def have_for(self, wish: Wish) -> bool:
        start = self._compared.get(id(wish), 0)
        if start == len(self._listed):
            return False
        if any(least > self._most.get(sku, 0) for sku, _, least in wish):
            return False
        if len(wish) == 1:
            return True
        self._compared[id(wish)] = len(self._listed)
        self._lines -= len(wish) * (len(self._listed) - start)
        if self._lines < 0:
            raise _Unchecked(
                "who was passed over: too many different baskets were wished and given"
            )
        return any(
            all(least <= basket.get(sku, 0) for sku, _, least in wish)
            for basket in self._listed[start:]
        )


def _check_stock(read: _Record) -> str:
    given: dict[str, int] = {}
    for _, _, lot in read.awarded:
        for sku, units in lot:
            given[sku] = given.get(sku, 0) + units
    for sku, back in read.returned.items():
        if back > given.get(sku, 0):
            raise _Wrong(f"{back} × {sku} came back, but only {given.get(sku, 0)} were given")
    for sku, units in given.items():
        stock, back = read.stock.get(sku, 0), read.returned.get(sku, 0)
        if units > stock + back:
            told = f"{units} × {sku} were given"
            raise _Wrong(f"{told}, but {stock} were set aside and {back} came back")
    total = sum(given.values()) - sum(read.returned.values())
    return f"no more was given than there was: {total:,} of {sum(read.stock.values()):,} units"


def _check_left(read: _Record, ordered: list[str]) -> str:
    """What refused winners leave goes to the next, so nobody waits whom all that is left would do.

    It counts no units that came back: nobody can tell when.
    """
    left = dict(read.stock)
    for _, _, lot in read.awarded:
        for sku, units in lot:
            left[sku] = left.get(sku, 0) - units
    judged = {entrant for entrant, _, _ in read.awarded}
    fits: dict[int, bool] = {}  # by wish, its identity
    for entrant in ordered:
        wish = read.wishes[entrant]
        if id(wish) not in fits:
            fits[id(wish)] = all(least <= left.get(sku, 0) for sku, _, least in wish)
        if fits[id(wish)] and entrant not in judged:
            raise _Wrong(
                f"{entrant} is next in the order, and what is left was not offered to them"
            )
    total = sum(units for units in left.values() if units > 0)
    return f"{total:,} units are left, and nobody next in the order for whom they would do"


def _check_told(read: _Record) -> str:
    reveals, reserve = read.cue["reveals_at_ms"], read.cue["reserve_ms"]
    published, wait = (read.frozen or {})["published_at_ms"], read.cue["publish_wait_ms"]
    if read.told_at_ms < reveals:
        raise _Wrong(f"the record was told at {read.told_at_ms}, before its time, {reveals}")
    if published is not None and read.told_at_ms < published + wait:
        raise _Wrong(f"the record was told less than {wait} ms after the digest was published")
    if read.told_at_ms > read.final_at_ms:
        raise _Wrong("the record was told later than when it was final")
    if read.final_at_ms < reveals + reserve and len(read.awarded) < read.count:
        raise _Wrong(f"the record is final before places went to the next for {reserve} ms")
    if not read.final:
        ends = _time(read.final_at_ms)
        return f"NOT FINAL YET: until {ends} what winners give up goes to the next"
    return "the record is final"


def _check_seal(read: _Record) -> str:
    if seal_of(read.raw) != read.seal:
        raise _Wrong("the record was altered: its fields do not give the seal")
    return f"all fields give the seal {read.seal}"


def _limits_of(read: _Record, published_digest: str | None, beacon: Beacon | None) -> Iterator[str]:
    """What this record cannot prove, in sentences for everybody."""
    if read.void is not None:
        yield from _limits_of_void(read, beacon)
        return
    cue = read.cue
    if not read.final:
        yield f"How it ends: it is not final before {_time(read.final_at_ms)}."
    yield from _limits_of_seed(read, published_digest, beacon)
    yield (
        "That there is somebody behind each name, and somebody else behind each: a seller can add"
        " names with nobody behind them, and people can have several accounts."
    )
    yield (
        "That nobody's entry was left out. A receipt tells its own buyer that they are in; nobody"
        " can show others that they are not."
    )
    refused = sum(outcome != "held" for _, outcome, _ in read.awarded)
    if refused or read.returned:
        yield (
            f"That the {refused:,} who were refused were refused rightly, and that units came back:"
            " a false refusal moves units down the order, to whose turn the seller likes. Only the"
            " buyer concerned can tell that a reason is false."
        )
    if read.capped:
        yield (
            f"That the {len(read.capped):,} left out for their fingerprint shared it with others:"
            " that is the seller's word."
        )
    if cue["keep"] == "best" and not read.complete:
        yield (
            "Anything of the entrants who were not among the best kept: they are not in the record,"
            " their receipts find nothing, and the digest does not cover them. So this record"
            " proves less than one of all entrants."
        )
    if cue["windows"] > 1:
        yield "Equal chances across windows: the earlier window goes first: a race at its edge."
    if cue["window_ms"] < FAIR_WINDOW_MS:
        yield (
            f"Equal chances for everybody watching: a window of {cue['window_ms']} ms is shorter"
            f" than many people's reaction; {FAIR_WINDOW_MS} ms are the least to be called fair."
        )


def _limits_of_seed(
    read: _Record, published_digest: str | None, beacon: Beacon | None
) -> Iterator[str]:
    """What depends on who knew the seed, and when."""
    cue = read.cue
    place = f" (at {cue['publish']!r}, it says)" if cue["publish"] else ""
    if published_digest is not None:
        yield "That the parameters were published before the cue: compare them with what you noted."
    else:
        comes = _time(cue["entropy_at_ms"] or 0)
        before = f"the public randomness, {comes}" if beacon else "the result"
        yield (
            "That the parameters were published before the cue, and the digest before"
            f" {before}{place}: compare both with what you noted then."
        )
    yield "That the seller voided no other cue because of who would have won."
    if beacon:
        yield (
            "That nobody knew the seed before the freeze, unless the digest was seen in public"
            " before the public randomness came: times in the record are the seller's word."
        )
        return
    if cue["entropy_source"]:
        yield (
            f"Anything of {cue['entropy_source']!r}, a beacon that this program does not know."
            " Whoever knew its value beforehand knew the seed, so this proves no more than a"
            " committed draw."
        )
    takers = ", and every process that took entries" if cue["keep"] == "best" else ""
    yield (
        f"Anything against those who knew the seed before the freeze: the seller{takers}. Until"
        " then they could try keys, random bytes and names until one wins, and enter it. A"
        " committed draw proves that, given these entrants, neither the network nor the order of"
        " arrival nor the code changed who won."
    )


def _limits_of_void(read: _Record, beacon: Beacon | None) -> Iterator[str]:
    cue, void, frozen = read.cue, read.void or {}, read.frozen
    yield "That the cue had to be void is the seller's word."
    if frozen is None:
        return
    entropy_at = cue["entropy_at_ms"]
    if beacon and void["at_ms"] < entropy_at:
        yield "That it was void before the public randomness came is the seller's word, too."
    elif cue["entropy_source"]:
        yield (
            "That the seller did not look at who would win, and made the cue void because of that:"
            " the randomness was known by then, or is of a source that this program does not know."
        )
    else:
        yield (
            "That the seller, who knew the seed, did not look at who would win, and made the cue"
            f" void because of that, {void['at_ms'] - frozen['at_ms']} ms after the freeze. Count"
            " how often cues are void after a freeze: their digests stay."
        )
    if read.server_seed is None:
        yield (
            "That the seed was lost: it is not told. Without it nobody can ever tell who would have"
            " won, which may be why."
        )


RECEIPT_LIMITS = (
    "It is yours only if you know the ID independently of the seller (your login, not a number that"
    " the seller told you): whoever may choose IDs can give two buyers the same one.",
    "It tells you that you are in, with this window and basket. A receipt that finds nothing tells"
    " others nothing: anybody can make up a receipt for anybody.",
)
"""What a receipt does not prove, whatever it finds."""


def find(record: object, buyer: str, receipt: str) -> Place | None:
    """What became of the buyer who was given this receipt; None if the record has no such name.

    The name is worked out of both, so a receipt finds nobody but its buyer. It takes the record at
    its word: `verify` it first. Raises InvalidRecord if it is not a record, the receipt is not one
    or the buyer's id is not one. `RECEIPT_LIMITS` says what a receipt does not prove.
    """
    opening = bytes.fromhex(_hex(str(receipt).strip().lower(), "the receipt", 32))
    _id(buyer, "the buyer")
    try:
        read = _read(record)
    except RecursionError:
        raise InvalidRecord("the record", "is nested too deep") from None
    if read.void is not None:
        return None
    name = entrant_of(opening, read.sale, read.id, buyer).hex()
    ours = next((group for group in read.groups if name in group.who), None)
    if ours is None:
        there = name in read.capped
        return Place(name, 0, (), 0, read.count, "capped", (), ()) if there else None
    place = read.order().index(name) + 1
    drawn = dict(read.drawn).get(name, ())
    awarded = next((item for item in read.awarded if item[0] == name), None)
    _, outcome, lines = awarded or (name, "not_drawn", ())
    count = read.count
    return Place(name, ours.window, ours.wish, place, count, outcome, drawn, lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit codes are at the top."""
    parser = argparse.ArgumentParser(prog="verify.py", description="Check the record of a draw.")
    parser.add_argument("record", metavar="RECORD.json")
    parser.add_argument("--buyer", metavar="ID", help="tell what became of this buyer")
    parser.add_argument("--receipt", metavar="HEX", help="which this buyer was given")
    parser.add_argument("--digest", help="the digest that was published")
    told = parser.parse_args(arguments)
    if (told.buyer is None) != (told.receipt is None):
        parser.error("--buyer and --receipt go together")
    try:
        with open(told.record, "rb") as file:
            record = load(file.read())
        result = verify(record, published_digest=told.digest)
        sought = told.receipt and result.verdict != "wrong"
        place = find(record, told.buyer, told.receipt) if sought else None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        sys.stderr.write(f"verify.py: {told.record}: {why}\n")
        return 2
    marks = {True: "ok   ", False: "WRONG", None: "?    "}
    lines = [f"{marks[check.ok]} {check.name:<10} {check.message}" for check in result.checks]
    if result.limits:
        lines += ["", "What this record cannot prove:", *(f"- {text}" for text in result.limits)]
    if sought:
        lines += ["", _told_place(place), *(f"- {text}" for text in RECEIPT_LIMITS)]
    lines += ["", _told_verdict(result)]
    code = 1 if sought and place is None else _EXIT_CODES[result.verdict]
    return _print("\n".join(lines)) or code


_EXIT_CODES = {"verifies": 0, "wrong": 1, "unchecked": 3}


def _told_verdict(result: Verification) -> str:
    if result.verdict == "wrong":
        return "The record does NOT verify."
    unfinished = "" if result.final else " It is NOT FINAL YET."
    if result.verdict == "verifies":
        return f"The record verifies.{unfinished}"
    unchecked = "; ".join(check.message for check in result.checks if check.ok is None)
    return f"Nothing is wrong, but something is {unchecked}.{unfinished}"


def _print(text: str) -> int:
    """Print; 2 if standard output (closed, full, nobody reads it) does not take all of it."""
    try:
        if sys.stdout is None:
            raise OSError("it is closed")
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        if sys.stderr is not None:
            sys.stderr.write(f"verify.py: standard output cannot be written: {error}\n")
        sys.stdout = None  # nothing tries again when Python ends
        return 2
    return 0


def _told_place(place: Place | None) -> str:
    if place is None:
        return "The record has no entrant of this buyer with this receipt."
    if place.outcome == "capped":
        return "Left out at the freeze: others had used up what the fingerprint may have."
    wish = ", ".join(f"{units} × {sku}" for sku, units, _ in place.wish)
    told = f"Place {place.place:,} of {place.of:,}, window {place.window}, wished {wish}"
    return f"{told}: {place.outcome.replace('_', ' ')}, {_told(place.lines)}"


if __name__ == "__main__":
    sys.exit(main())
