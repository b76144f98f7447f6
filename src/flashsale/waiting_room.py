"""The waiting room: queueing that costs almost nothing per waiting person.

lua/waiting_room/ decides. A ticket is a number from a counter, signed, and kept by the client; the
server keeps the counters, the highest place called and one small field a buyer, so that a buyer has
one place; how many places a `key=` has had is counted in the same hashes, one more field a key: up
to one more a buyer. A position is a subtraction: every process works it out from a view of the room
that it reads once a second, so polling costs the server next to nothing.

Guarantees. Before the opening the order of coming counts nothing (`flashsale.shuffle`), after it
first come, first served; a buyer has at most one place (but in a room without `one_place`, which
only gives tickets); nobody is called beyond the turns that the available stock is expected to be
for; a place that its buyer left takes nobody's turn; nobody holds without a turn in a sale with
`admission`, through any client, because the script that takes the stock looks; a room moves on
whenever anybody asks, so no background job is needed. "Hopeless" is said while nothing is left that
could come back by itself, and only then.

Limits. A position is an upper bound: those who left are not subtracted. What a process tells may be
a second old. So `position` may say CALLED for a place that was left, and `admit` then NOT_JOINED. A
turn goes on while a sale is paused. While somebody who left has not been passed over, one call of a
script calls `limits.LOOKS_MAX` places at most and one look at the room `limits.GLANCES_MAX` times
that, whatever the rate. The units of all skus of a sale are summed: a hot sku that is
gone does not stop the calling while others are left, so give it a sale of its own. Several accounts
of one person have several places: `key=` bounds how many share a device, or whatever the service
can tell them by.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from zlib import crc32

import msgspec
from msgspec import Struct

from flashsale import forecast, limits, shuffle, views
from flashsale.baskets import encode
from flashsale.batches import Item, Kind, check_sequence, perform_once, reject, run_all, shard_call
from flashsale.calls import Call, Operation, Reply, expect, outcome_of
from flashsale.errors import (
    ConfigurationError,
    FlashSaleError,
    InvalidRequest,
    ProtocolError,
    Rejected,
)
from flashsale.guards import Guard
from flashsale.keyring import Key, Keyring
from flashsale.keys import ShardKeys, places_key
from flashsale.models import Answer, Outcome
from flashsale.rooms import (
    JoinRequest,
    RoomState,
    RoomView,
    Turns,
    WaitingRoom,
    check_rate,
)
from flashsale.scripts import load_script
from flashsale.tokens import Ticket

VIEW_MS = 1_000
"""How old the view of a room may be from which a process tells positions."""

ROOMS_MAX = 1_000
"""Rooms of which a process keeps a view."""


class Seen(Struct, frozen=True):
    """A view of a room, and when it was asked for by this process's own clock."""

    view: RoomView
    asked_at: float

    def is_older(self, other: Seen) -> bool:
        """Whether another view of the same room is the newer one: answers overtake each other."""
        if abs(self.asked_at - other.asked_at) * 1000 >= VIEW_MS:
            # One of them is of no use any more, and a server that took over may have another clock.
            return self.asked_at < other.asked_at
        # Of the same millisecond is also what steering found before and after.
        return (self.view.at_ms, self.asked_at) < (other.view.at_ms, other.asked_at)

    def is_fresh(self, now: float) -> bool:
        """Whether positions may still be told from it."""
        return (now - self.asked_at) * 1000 < VIEW_MS

    def server_ms(self, now: float) -> int:
        """The server's time by now: never later than it is."""
        return self.view.at_ms + max(0, int((now - self.asked_at) * 1000) - 1)


class Rooms(dict[str, Seen]):
    """A process's views, by sale: the newest of each, for the callers of the next second."""

    def __init__(self) -> None:
        super().__init__()
        self._guard = Guard()  # of two threads the one with the older view may be the later one

    def remember(self, seen: Seen) -> None:
        """Keep a view, unless a newer one is here."""
        self._guard.run(self._remember, seen)

    def _remember(self, seen: Seen) -> None:
        sale = seen.view.sale
        kept = self.get(sale)
        if kept is not None and seen.is_older(kept):
            return
        if len(self) >= ROOMS_MAX:
            self.clear()
        self[sale] = seen


# --- opening, looking, steering ---------------------------------------------------------------


def open_room(sale: str, room: WaitingRoom, key: Key) -> Operation[None]:
    """Open a sale's waiting room, once; Rejected if it is refused."""
    if not isinstance(room, WaitingRoom):
        raise InvalidRequest("room", f"must be a WaitingRoom, not {type(room).__name__}")
    view = yield from views.snapshot(sale)
    if view.sale.admission and not room.one_place:
        rule = "must be True: a sale with admission=True knows its buyers' places"
        raise InvalidRequest("one_place", rule)
    yield from _open(sale, room, key)


def _open(sale: str, room: WaitingRoom, key: Key) -> Operation[None]:
    seed = shuffle.make_seed(key.secret, sale)
    fixed = {"key": key.id, "commitment": shuffle.commitment_of(seed, sale)}
    rules = (
        room.opens_at_ms or 0,
        room.turn_ttl_ms,
        room.slot_ms,
        room.conversion,
        room.margin,
        room.places_max,
        room.one_place,
        room.key_places_max or False,
        room.hashes,
    )
    keys = ShardKeys.of(sale)
    places = (places_key(sale, number) for number in range(room.hashes if room.one_place else 0))
    call = Call(
        load_script("waiting_room/open"),
        (keys.sale, keys.room, keys.admitted, keys.vacant, *places),
        (
            msgspec.json.encode(room, order="deterministic"),
            encode(rules),
            f"{room.rate_per_s:.6f}",
            msgspec.json.encode(fixed),
        ),
    )
    answer = yield from perform_once(sale, call, "open")
    if answer.outcome is not Outcome.OPENED:
        raise Rejected(answer.outcome, f"waiting room of sale {sale!r}")


def look(sale: str, keyring: Keyring) -> Operation[Seen]:
    """Move a room on and see it; reveal its seed if it has opened. Rejected without a room.

    Without the key that the room was opened with it stays undrawn until somebody who has it looks.
    """
    seen = yield from glance(sale)
    key = keyring.find(seen.view.key)
    if key is None or not seen.view.present or seen.view.drawn:
        return seen
    seed = shuffle.make_seed(key.secret, sale)
    if not shuffle.check_seed(seed, seen.view.commitment, sale):
        raise ConfigurationError(f"keys: {key.id!r} is not the key that this room began with")
    yield from _told(sale, "reveal", seed)
    return (yield from glance(sale))


def steer(
    sale: str, keyring: Keyring, state: RoomState | None, rate_per_s: float | None
) -> Operation[Seen]:
    """Pause or resume a room's calling, or change its rate; then look, with the keys there are."""
    rate = "" if rate_per_s is None else f"{check_rate(rate_per_s):.6f}"
    word = "" if state is None else state.value
    yield from _told(sale, "steer", word, rate)
    try:
        return (yield from look(sale, keyring))
    except ConfigurationError:
        # It is done, and needed no key: that a key is wrong must not look like a failure of it.
        return (yield from glance(sale))


def _told(sale: str, name: str, *args: str) -> Operation[None]:
    keys = ShardKeys.of(limits.check_id("sale", sale))
    reply = yield Call(load_script(f"waiting_room/{name}"), (keys.sale, keys.room), args)
    _, _, code = expect(reply, 3, name)
    _reject(sale, code)


def _reject(sale: str, code: bytes) -> None:
    if code and outcome_of(code.decode(), "waiting_room") is Outcome.ROOM_UNKNOWN:
        raise Rejected(Outcome.ROOM_UNKNOWN, f"sale {sale!r}")
    reject(sale, code)


def glance(sale: str) -> Operation[Seen]:
    """As `look`, without any key, and so without revealing the seed: for whoever only watches.

    One call passes over so many places that were left and no more: while there is more to do it is
    made again, a few times.
    """
    keys = ShardKeys.of(limits.check_id("sale", sale))
    base = shard_call("expire", keys)
    own = (*base.keys, keys.room, keys.vacant)
    call = Call(load_script("waiting_room/show"), own, (), shared=True)
    for _ in range(limits.GLANCES_MAX):
        asked_at = time.monotonic()
        reply = yield call
        _, now, code, closed, raw, units, state = expect(reply, 7, "show")
        _reject(sale, code)
        if state[-1] == 0:
            break
    try:
        return Seen(_read_room(sale, now, closed.decode(), raw, units, state), asked_at)
    except (KeyError, ValueError, TypeError, msgspec.MsgspecError) as error:
        raise ProtocolError(f"the waiting room cannot be read: {error!r}") from error


def _read_room(
    sale: str, now: int, closed: str, raw: Reply, units: list[int], state: Reply
) -> RoomView:
    fields = {raw[at].decode(): raw[at + 1] for at in range(0, len(raw), 2)}
    fixed = msgspec.json.decode(fields["fixed"])

    def number(name: str) -> int:
        return int(fields.get(name, b"0"))

    slots = sorted(int(name[:-1]) for name in fields if name[:-1].isdigit() and name[-1] == "s")
    turns = tuple(Turns(slot, *(number(f"{slot}{letter}") for letter in "sadup")) for slot in slots)
    over, arrived, passed = number("over"), number("arrived"), number("passed")
    outstanding, bound, conversion, starts_at_ms, _ = state
    view = RoomView(
        sale=sale,
        room=msgspec.json.decode(fields["definition"], type=WaitingRoom),
        state=RoomState(fields["state"].decode()),
        at_ms=now,
        rate_per_s=float(fields["rate"]),
        closed=outcome_of(closed, "show") if closed else None,
        joined=number("joined"),
        present=int(fields["present"]) if fields["present"] else None,
        seed=fields["seed"].decode(),
        commitment=fixed["commitment"],
        key=fixed["key"],
        serving=number("serving"),
        over=over,
        turns=turns,
        outstanding=outstanding,
        bound=bound,
        conversion=float(conversion),
        arrived=arrived + sum(row.arrived for row in turns),
        no_shows=max(0, over - arrived - passed),
        left=number("left"),
        vacant=number("vacant"),
        passed=passed + sum(row.passed for row in turns),
        units=number("units"),
        available=units[0],
        set_aside=units[1],
        held=units[2],
        sold=units[3],
        starts_at_ms=starts_at_ms,
    )
    return forecast.with_rate(view)


# --- joining, being let in, leaving ------------------------------------------------------------


class Placed(Answer, frozen=True):
    """The answer to a join, with the number that it gave."""

    number: int = 0


def join_kind(view: RoomView) -> Kind:
    """Give buyers a number."""
    return Kind("join", view.sale, _extra(view.room), _join_call, _read_numbers)


def join_item(buyer: str, key: str) -> Item:
    """One buyer who joins."""
    key = limits.check_optional_id("key", key)
    return Item(limits.check_id("buyer", buyer), "", key=key)


def join_many(
    view: RoomView, requests: Sequence[JoinRequest]
) -> Operation[list[Answer | FlashSaleError]]:
    """Give many buyers a number, item by item."""
    requests = check_sequence("requests", requests)
    return (yield from run_all(join_kind(view), requests, _request_item))


def _request_item(request: JoinRequest) -> Item:
    if not isinstance(request, JoinRequest):
        raise InvalidRequest("requests", f"must be JoinRequests, not {type(request).__name__}")
    return join_item(request.buyer, request.key)


def admit_kind(view: RoomView) -> Kind:
    """Let called buyers in."""
    return Kind("admit", view.sale, _extra(view.room), _admit_call)


def admit_item(buyer: str, ticket: Ticket | None) -> Item:
    """One buyer who is to be let in, with what their ticket says."""
    buyer = limits.check_id("buyer", buyer)
    if ticket is None:
        return Item(buyer, "", (0, 0, 0))
    return Item(buyer, "", (ticket.number, ticket.issued_ms, ticket.expires_ms))


def leave_kind(view: RoomView) -> Kind:
    """Give places up."""
    if not view.room.one_place:
        raise InvalidRequest("leave", "needs a room with one_place: a ticket cannot be given up")
    return Kind("leave", view.sale, _extra(view.room), _leave_call)


def leave_item(buyer: str, ticket: Ticket | None) -> Item:
    """One buyer who leaves, and the ticket of the place they give up."""
    number = 0 if ticket is None else ticket.number
    return Item(limits.check_id("buyer", buyer), "", (number,))


def _extra(room: WaitingRoom) -> tuple[str, str]:
    return str(room.hashes if room.one_place else 0), "keys" if room.key_places_max else ""


def _join_call(kind: Kind, items: Sequence[Item]) -> Call:
    keys, hashes = ShardKeys.of(kind.sale), int(kind.extra[0])
    buyers, cap_keys = [item.buyer for item in items], [item.key for item in items]
    numbers: list[int] = []
    order: list[list[int]] = []
    marks = b""
    if hashes:
        groups = _group(hashes, buyers)
        numbers, spots = list(groups), [spot for group in groups.values() for spot in group]
        order = [[len(group) for group in groups.values()], spots]
        buyers = [buyers[spot - 1] for spot in spots]
        if kind.extra[1] and any(cap_keys):
            numbers, (_, of_keys) = _spread(hashes, [], cap_keys, numbers)
            marks = encode([cap_keys, of_keys])
    places = (places_key(kind.sale, number) for number in numbers)
    used = (keys.sale, keys.room, keys.vacant, *places)
    return Call(load_script("waiting_room/join"), used, (encode(buyers), encode(order), marks))


def _admit_call(kind: Kind, items: Sequence[Item]) -> Call:
    keys, buyers = ShardKeys.of(kind.sale), [item.buyer for item in items]
    numbers, (where, _) = _spread(int(kind.extra[0]), buyers, [])
    tickets = encode([[item.lines[at] for item in items] for at in range(3)])
    base = shard_call("expire", keys)
    places = (places_key(kind.sale, number) for number in numbers)
    used = (*base.keys, keys.room, keys.admitted, keys.vacant, *places)
    args = (encode(buyers), encode(where), tickets)
    return Call(load_script("waiting_room/admit"), used, args)


def _leave_call(kind: Kind, items: Sequence[Item]) -> Call:
    keys, buyers = ShardKeys.of(kind.sale), [item.buyer for item in items]
    numbers, (where, _) = _spread(int(kind.extra[0]), buyers, [])
    places = (places_key(kind.sale, number) for number in numbers)
    used = (keys.sale, keys.room, keys.admitted, keys.vacant, *places)
    args = (encode(buyers), encode(where), encode([item.lines[0] for item in items]))
    return Call(load_script("waiting_room/leave"), used, args)


def _group(hashes: int, buyers: Sequence[str]) -> dict[int, list[int]]:
    """Which of a batch's buyers, counted from 1, each hash has."""
    groups: dict[int, list[int]] = {}
    for spot, buyer in enumerate(buyers, 1):
        groups.setdefault(crc32(buyer.encode()) % hashes, []).append(spot)
    return groups


def _spread(
    hashes: int, buyers: Sequence[str], cap_keys: Sequence[str], known: Sequence[int] = ()
) -> tuple[list[int], tuple[list[int], list[int]]]:
    """The hashes that a batch needs, and for each buyer and key which of them, counted from 1.

    known: hashes that it needs anyway.
    """
    if hashes == 0:
        return [], ([], [])
    found = {number: at for at, number in enumerate(known, 1)}

    def where(name: str) -> int:
        return found.setdefault(crc32(name.encode()) % hashes, len(found) + 1)

    places = [where(buyer) for buyer in buyers]
    counts = [where(f":{key}") if key else 0 for key in cap_keys]
    return list(found), (places, counts)


def _read_numbers(kind: Kind, items: Sequence[Item], reply: object) -> list[Placed]:
    _, now, following, raw_codes, raw_details = expect(reply, 5, kind.name)
    codes = raw_codes.decode()
    codes = codes * len(items) if len(codes) == 1 else codes
    if len(codes) != len(items):
        raise ProtocolError(f"join answered {len(codes)} outcomes to {len(items)} operations")
    before: dict[int, tuple[int, bool]] = {}
    if raw_details:
        flat = msgspec.msgpack.decode(raw_details)
        before = {flat[at] - 1: (flat[at + 2], flat[at + 3] == 1) for at in range(0, len(flat), 4)}
    answers = []
    for n, (item, code) in enumerate(zip(items, codes, strict=True)):
        outcome = outcome_of(code, "join")
        number, replayed = before.get(n, (0, False))
        if outcome is Outcome.JOINED and n not in before:
            number, following = following, following + 1
        answers.append(
            Placed(outcome, kind.sale, item.buyer, replayed=replayed, at_ms=now, number=number)
        )
    return answers
