"""The longest script call of every verb: the worst that can be asked of it, alone on a server.

    python -m loadtests.longest_calls [--only VERB]

Server CPU (INFO's, user and system, of the main thread) around one call, the least of several runs;
a call must stay below 20 ms on a slow core, whoever asks and whatever for. What a sale consists of
is written behind the library, so that a case is made in a moment; the calls are the library's own,
and of those that no client of ours would send the largest that the scripts take.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence

import msgspec

from flashsale import (
    RoomView,
    WaitingRoom,
    freezing,
    inventory,
    limits,
    waiting_room,
    window,
)
from flashsale.baskets import WHOLE
from flashsale.batches import Item, Kind, shard_call
from flashsale.calls import Call
from flashsale.embedded import EmbeddedServer
from flashsale.keys import CueKeys, ShardKeys, places_key
from flashsale.scripts import load_script
from flashsale.window import Known
from loadtests import longest_others
from loadtests.longest_ground import (
    KEY,
    SKUS,
    T0,
    TTL,
    Case,
    Ground,
    basket,
    buyers,
    encode,
    heavy,
    id_of_h,
    long_id,
    stamp,
    wish,
)

BOUND_MS = 20.0
RUNS = 3

# --- the cases ----------------------------------------------------------------------------


def hold_fresh(count: int, lines: int) -> Callable[[Ground], Call]:
    def make(ground: Ground) -> Call:
        ground.open()
        items = [Item(b, long_id(1), wish(n, lines)) for n, b in enumerate(buyers(count))]
        return inventory.hold_kind(ground.sale).call(items)

    return make


def hold_heavy(count: int, lines: int, due: bool = False) -> Callable[[Ground], Call]:
    """Buyers whose records are as long as can be; `due`: all their holds have to be expired."""

    def make(ground: Ground) -> Call:
        ground.open()
        at = T0 if due else T0 + TTL
        ground.records(dict.fromkeys(buyers(count), heavy(at)))
        if due:
            ground.unswept()
        items = [Item(b, "new", wish(n, lines)) for n, b in enumerate(buyers(count))]
        return inventory.hold_kind(ground.sale).call(items)

    return make


def hold_one_buyer(ground: Ground) -> Call:
    ground.open(holds_max=64)
    (one,) = buyers(1)
    ground.records({one: heavy(T0 + TTL, holds=1)})
    items = [Item(one, f"new-{n}", wish(n, 4)) for n in range(256)]
    return inventory.hold_kind(ground.sale).call(items)


def on_heavy(verb: str, state: str, due: bool = False) -> Callable[[Ground], Call]:
    """256 buyers with the longest records end, extend or refund one hold of 32 lines each."""

    def make(ground: Ground) -> Call:
        ground.open()
        ground.records(dict.fromkeys(buyers(256), heavy(T0 if due else T0 + TTL, state)))
        if due:
            ground.unswept()
        return KINDS[verb](ground.sale).call(
            [item_of(verb, b, long_id(62), 434) for b in buyers(256)]
        )

    return make


KINDS: dict[str, Callable[[str], Kind]] = {
    "confirm": lambda sale: inventory.confirm_kind(sale, "retake"),
    "release": inventory.release_kind,
    "extend": inventory.extend_kind,
    "refund": inventory.refund_kind,
}


def item_of(verb: str, buyer: str, hold_id: str, start: int) -> Item:
    if verb == "extend":
        return Item(buyer, hold_id, WHOLE, T0 + TTL + 1)
    if verb == "refund":
        return Item(buyer, hold_id, (SKUS[start], 1), "refund")
    return Item(buyer, hold_id)


def on_plain(verb: str, count: int, lines: int) -> Callable[[Ground], Call]:
    """Buyers with one hold each, which confirm and release settle as a whole batch."""

    def make(ground: Ground) -> Call:
        ground.open()
        some = buyers(count)
        ground.records(
            {b: f"1h{stamp(T0 + TTL)}{long_id(1)}|{basket(n, lines)}" for n, b in enumerate(some)}
        )
        return KINDS[verb](ground.sale).call([item_of(verb, b, long_id(1), 0) for b in some])

    return make


def swept(
    script: str,
    state: str,
    size: int,
    holds: int,
    lines: int,
    name: Callable[[int], str] = long_id,
) -> Callable[[Ground], Call]:
    """Every hold of 32,768 is due (or paid) when a verb comes by; buyers have `holds` each."""

    def make(ground: Ground) -> Call:
        ground.open(now=T0 + TTL)
        crowd = buyers(32_768 // holds)
        records = {}
        for n, b in enumerate(crowd):
            texts = (
                f"{state}{stamp(T0 + TTL)}{name(k)}|{basket(n + k, lines)}" for k in range(holds)
            )
            records[b] = "1" + ";".join(texts)
        ground.records(records)
        ground.entries([(b, name(k)) for k in range(holds) for b in crowd], T0, size)
        args = {"expire": (limits.SWEEP_MAX,), "set_state": ("running",)}[script]
        return shard_call(script, ShardKeys.of(ground.sale), *args)

    return make


def moved(ground: Ground) -> Call:
    """1,024 extended holds of buyers with the longest records are due."""
    keys = ground.open(now=T0 + TTL)
    crowd = buyers(200)
    ground.records(dict.fromkeys(crowd, heavy(T0, extra=f"|o{stamp(T0 - 1)}")))
    ground.raw.zadd(keys.deadlines, {f"{b}|{long_id(k)}": T0 for b in crowd for k in range(5)})
    ground.raw.hset(keys.sale, mapping={"due": T0, "cursor": 2})
    return shard_call("expire", keys, limits.SWEEP_MAX)


def restock(ground: Ground) -> Call:
    make = swept("set_state", "h", 256, 2, 4)
    make(ground)
    keys = ShardKeys.of(ground.sale)
    flat = [value for sku in SKUS for value in (sku, -1)]
    base = shard_call("restock", keys, "op", encode(flat))
    return Call(base.script, (*base.keys, keys.restocks), base.args)


def snapshot(ground: Ground) -> Call:
    keys = ground.open()
    own = (keys.sale, keys.skus, keys.stock, keys.buyers)
    return Call(load_script("inventory/snapshot"), own, ())


def find(ground: Ground) -> Call:
    keys = ground.open()
    ground.records({"one": heavy(T0, "c")})
    own = (keys.sale, keys.stock, keys.buyers)
    return Call(load_script("inventory/find"), own, (encode(["one"]),))


def hostile(ground: Ground) -> Call:
    """1,024 baskets of 32 lines, which no client of ours sends in one call."""
    ground.open()
    items = [Item(b, long_id(1), wish(n, 32)) for n, b in enumerate(buyers(1_024))]
    return inventory.hold_kind(ground.sale).call(items)


def refund_record() -> str:
    """A record as long as refunds make it: 32 KiB and then one a hold."""
    texts: list[str] = []
    size = 0
    for n in range(limits.HOLDS_MAX - 1):  # each hold has refunds of a unit of all its skus
        lines = basket(7 * n)
        units = ",".join(line.partition("*")[0] for line in lines.split(","))
        times = 8 if size < limits.RECORD_MAX else 1
        refunds = "".join(f"|f{k}:{units}" for k in range(times))
        texts.append(f"c{stamp(T0)}{n}|{lines}{refunds}")
        size += len(texts[-1])
    return "1" + ";".join(texts)


def refunded(script: str) -> Callable[[Ground], Call]:
    """The longest record of refunds is read, or a page of such."""

    def make(ground: Ground) -> Call:
        keys = ground.open()
        ground.records(dict.fromkeys(["one", *buyers(4)], refund_record()))
        own = (keys.sale, keys.stock, keys.buyers)
        if script == "find":
            return Call(load_script("inventory/find"), own, (encode(["one"]),))
        if script == "scan":
            return Call(load_script("inventory/scan"), own, ("0", 500))
        items = [Item("one", f"new-{n}", wish(n, 1)) for n in range(256)]
        return inventory.hold_kind(ground.sale).call(items)

    return make


def hold_in_turn(ground: Ground) -> Call:
    """256 buyers from the waiting room, each with a key and a hold before."""
    ground.open(admission=True, key_holds_max=10)
    keys, some = ShardKeys.of(ground.sale), buyers(256)
    ground.records({b: f"1h{stamp(T0 + TTL)}{long_id(0)}" for b in some})
    ground.raw.hset(keys.admitted, mapping=dict.fromkeys(some, f"1:{T0 + TTL}:{T0 // 1000}:0"))
    items = [Item(b, long_id(1), (SKUS[0], 1), key=long_id(n)) for n, b in enumerate(some)]
    return inventory.hold_kind(ground.sale).call(items)


# --- pages, and what operators ask for ------------------------------------------------------


def page(script: str) -> Callable[[Ground], Call]:
    """A page of the largest buyers' records, or of the largest ledger entries."""

    def make(ground: Ground) -> Call:
        keys = ground.open(now=T0 + TTL)
        if script == "scan":
            ground.records(dict.fromkeys(buyers(200), heavy(T0)))
            own, args = (keys.sale, keys.stock, keys.buyers), ("0", 500)
            return Call(load_script("inventory/scan"), own, args)
        many(ground, keys, 300)
        own = (keys.sale, keys.ledger, keys.readers)
        if script == "read":
            return Call(load_script("ledger/read"), own, (1, 1_000))
        ground.raw.hset(keys.sale, "cursor", 301)
        return Call(load_script("ledger/trim"), own, (0, 300, "{}"))

    return make


def many(ground: Ground, keys: ShardKeys, count: int) -> None:
    """Ledger entries of 1,024 holds of long names with notes of 256 bytes each."""
    some = buyers(1_024)
    fields = {"t": T0, "hb": encode(some), "hi": encode([long_id(n) for n in range(1_024)])}
    fields["hm"] = encode([["c"] * 1_024, ["n" * limits.NOTE_MAX] * 1_024])
    with ground.raw.pipeline(transaction=False) as pipe:
        for n in range(2, count + 2):
            pipe.xadd(keys.ledger, fields, id=f"1-{n}")  # type: ignore[arg-type]
        pipe.hset(keys.sale, "sequence", count + 1)
        pipe.execute()


def parts(ground: Ground) -> Call:
    """1,000 cues have set 32 skus aside each."""
    keys = ground.open()
    for cue in range(limits.CUES_MAX):
        indexes = range(limits.LINES_MAX)
        own = {f"{index}x:cue-{cue:060}": 5 for index in indexes}
        ground.raw.hset(keys.stock, mapping=own | {f"x:cue-{cue:060}": ",".join(map(str, indexes))})
    return Call(load_script("window/parts"), (keys.sale, keys.stock), ("0",))


def reserves(ground: Ground) -> Call:
    """The reserves of 1,000 cues end, of 32 skus each."""
    parts(ground)
    keys = ShardKeys.of(ground.sale)
    ground.raw.zadd(keys.deadlines, {f"|cue-{cue:060}": T0 for cue in range(limits.CUES_MAX)})
    ground.raw.hset(keys.sale, mapping={"due": T0, "cursor": 2})
    return shard_call("expire", keys, limits.SWEEP_MAX)


def purge(ground: Ground) -> Call:
    """A sale of 1,000 cues and 250 hashes of places, ended."""
    keys = ground.open()
    ground.raw.hset(keys.sale, "state", "ended")
    ids = [f"cue-{cue:060}" for cue in range(limits.CUES_MAX)]
    ground.raw.hset(keys.cues, mapping=dict.fromkeys(ids, 1))
    names = [key for cue in ids for key in msgspec.structs.astuple(CueKeys.of(ground.sale, cue))]
    with ground.raw.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hset(name, mapping={f"field-{n}": "x" * 60 for n in range(20)})
        pipe.execute()
    ground.records({buyer: heavy(T0, "c") for buyer in buyers(200)})
    own = (*msgspec.structs.astuple(keys), *names)
    return Call(load_script("inventory/purge"), own, (len(ids), 0))


# --- cues and the waiting room --------------------------------------------------------------


def cue(ground: Ground, keep: str = "all") -> Known:
    """An open cue of 32 skus."""
    ground.open()
    handle = ground.shop.sale(ground.sale)
    skus = SKUS[: limits.LINES_MAX] if keep == "all" else SKUS[:1]
    handle.cue(
        "cue", at=0, cue_time_ms=T0, stock=dict.fromkeys(skus, 1_000), window_ms=2_000,
        lag_cap_ms=2_000, reserve_ms=60_000, proof=False, keep=keep,
    )  # fmt: skip
    return ground.do(window.know(ground.sale, "cue"))


def enter(count: int, lines: int, keep: str = "all") -> Callable[[Ground], Call]:
    def make(ground: Ground) -> Call:
        known = cue(ground, keep)
        if keep == "best":
            ground.records(dict.fromkeys(buyers(count), heavy(T0 + TTL, "c")))
        items = []
        for n, buyer in enumerate(buyers(count)):
            wanted = dict.fromkeys(SKUS[:lines], 1 + n % 999) if keep == "all" else {SKUS[0]: 1}
            items.append(window.enter_item(known, buyer, wanted, 0, None, KEY))
        return window.enter_kind(ground.sale, known).call(items)

    return make


def award(lines: int, weight: int) -> Callable[[Ground], Call]:
    """256 winners; `weight` holds of 32 lines in their records."""

    def make(ground: Ground) -> Call:
        known = cue(ground)
        keys, own = ShardKeys.of(ground.sale), CueKeys.of(ground.sale, "cue")
        ground.raw.hset(keys.sale, "now", known.cue.reveals_at_ms)
        ground.raw.hset(own.cue, mapping={"state": "frozen", "digest": "00"})
        if weight:
            ground.records(dict.fromkeys(buyers(256), heavy(T0 + TTL, "c", weight)))
        wishes = [[v for k in range(lines) for v in (k, 1 + n % 3, 1)] for n in range(256)]
        base = shard_call("expire", keys)
        baskets = encode([wishes, list(range(1, 257))])
        args = ("drawn", encode(buyers(256)), baskets, 0, 256, "ab", "")
        used = (*base.keys, own.cue, own.secrets, own.entries, own.awarded, keys.caps)
        return Call(load_script("window/award"), used, args)

    return make


def entries(ground: Ground) -> Call:
    cue(ground)
    own = CueKeys.of(ground.sale, "cue")
    ground.raw.hset(own.cue, "state", "frozen")
    text = "0|" + ",".join(f"{k}*999983~999983" for k in range(limits.LINES_MAX))
    ground.raw.hset(own.entries, mapping=dict.fromkeys(buyers(8_000), text))
    keys = ShardKeys.of(ground.sale)
    return Call(
        load_script("window/entries"), (keys.sale, own.cue, own.entries), ("0", freezing.PAGE)
    )


def room(ground: Ground, present: int) -> RoomView:
    """An open room in which everybody has a place by lot, and half of them are called."""
    ground.open(admission=True)
    queue = ground.shop.sale(ground.sale).queue
    queue.open(WaitingRoom(rate_per_s=1_000_000, turn_ttl_ms=32_000, conversion=1, margin=0))
    keys = ShardKeys.of(ground.sale)
    seen = ground.do(waiting_room.glance(ground.sale)).view
    named = {name: n + 1 for n, name in enumerate(buyers(present))}
    hashes = seen.room.hashes
    for name, number in named.items():
        place = places_key(ground.sale, zlib.crc32(name.encode()) % hashes)
        ground.raw.hset(place, name, number)
    slot = T0 // 1_000
    ground.raw.hset(
        keys.room,
        mapping={
            "joined": present, "present": present, "seed": "ab" * 32, "serving": present // 2,
            f"{slot}s": present // 2, f"{slot}a": 0, f"{slot}d": 0, f"{slot}u": 0, f"{slot}p": 0,
        },
    )  # fmt: skip
    return seen


def of_room(verb: str, count: int, *, new: bool = False) -> Callable[[Ground], Call]:
    def make(ground: Ground) -> Call:
        view = room(ground, 1 if new else count)
        some = buyers(count)
        if verb == "join":
            return waiting_room.join_kind(view).call([waiting_room.join_item(b, "") for b in some])
        if verb == "admit":
            return waiting_room.admit_kind(view).call(
                [waiting_room.admit_item(b, None) for b in some]
            )
        return waiting_room.leave_kind(view).call([waiting_room.leave_item(b, None) for b in some])

    return make


CASES: list[Case] = [
    ("hold", "1,024 new buyers, a line each", hold_fresh(1_024, 1)),
    ("hold", "256 new buyers, 4 lines each, 1,000 skus", hold_fresh(256, 4)),
    ("hold", "32 new buyers, 32 lines each", hold_fresh(32, 32)),
    ("hold", "256 buyers with 63 holds of 32 lines, 4 lines each", hold_heavy(256, 4)),
    ("hold", "the same, all of their holds due", hold_heavy(256, 4, due=True)),
    ("hold", "one buyer 256 times", hold_one_buyer),
    ("hold", "1,024 baskets of 32 lines (no client of ours)", hostile),
    *(
        (verb, "256 buyers with 63 holds of 32 lines", on_heavy(verb, "h"))
        for verb in ("confirm", "release", "extend")
    ),
    ("refund", "256 buyers with 63 paid holds of 32 lines", on_heavy("refund", "c")),
    *(
        (verb, "the same, all of their holds due", on_heavy(verb, "h", due=True))
        for verb in ("confirm", "release", "extend")
    ),
    *(
        (verb, "1,024 buyers, a hold of one line each", on_plain(verb, 1_024, 1))
        for verb in ("confirm", "release")
    ),
    *(
        (verb, "256 buyers, a hold of 32 lines each", on_plain(verb, 256, 32))
        for verb in ("confirm", "release")
    ),
    ("expire", "32,768 paid", swept("expire", "c", 256, 1, 1)),
    ("expire", "32,768 due, 1,024 an entry", swept("expire", "h", 1_024, 1, 1)),
    ("expire", "32,768 due, two a buyer, 4 lines", swept("expire", "h", 1_024, 2, 4)),
    ("expire", "32,768 due, 32 a buyer, 32 lines", swept("expire", "h", 1_024, 32, 32)),
    ("expire", "1,024 extended holds, the longest records", moved),
    ("pause", "32,768 paid", swept("set_state", "c", 256, 1, 1)),
    ("pause", "32,768 due, 32 a buyer, 32 lines", swept("set_state", "h", 1_024, 32, 32)),
    *(
        (
            verb,
            f"32,768 paid, {holds} a buyer, {lines} {'lines' if lines > 1 else 'line'}, {what}",
            swept(script, "c", 1_024 if verb == "expire" else 256, holds, lines, name),
        )
        for verb, script in (("expire", "expire"), ("pause", "set_state"))
        for holds in (8, 64)
        for lines in (1, 32)
        for what, name in (("long ids", long_id), ("ids of h", id_of_h))
    ),
    ("restock", "1,000 skus, 32,768 due, two a buyer", restock),
    ("snapshot", "1,000 skus", snapshot),
    ("find", "63 holds of 32 lines", find),
    ("find", "a record of refunds, 32 KiB and more", refunded("find")),
    ("hold", "one buyer 256 times, such a record of refunds", refunded("hold")),
    ("hold", "256 known buyers with turns and keys", hold_in_turn),
    ("scan", "a page of buyers with 63 holds of 32 lines", page("scan")),
    ("scan", "a page of records of refunds, 32 KiB and more", refunded("scan")),
    ("read", "a page of entries of 1,024 holds with notes", page("read")),
    ("trim", "300 of these entries", page("trim")),
    ("parts", "1,000 cues of 32 skus", parts),
    ("expire", "the reserves of 1,000 cues of 32 skus", reserves),
    ("purge", "1,000 cues", purge),
    ("enter", "1,024 buyers, one line", enter(1_024, 1)),
    ("enter", "1,024 buyers, 32 lines (no client of ours)", enter(1_024, 32)),
    ("enter", 'keep="best", 256 buyers with 63 paid holds of 32 lines', enter(256, 1, "best")),
    ("award", "256 winners, 32 lines", award(32, 0)),
    ("award", "256 winners with 63 paid holds of 32 lines", award(1, 63)),
    ("entries", "a page of entries of 32 lines", entries),
    ("join", "1,024 new buyers", of_room("join", 1_024, new=True)),
    ("join", "1,024 buyers who have a place by lot", of_room("join", 1_024)),
    ("admit", "1,024 buyers with a place by lot", of_room("admit", 1_024)),
    ("leave", "1,024 buyers with a place by lot", of_room("leave", 1_024)),
]

CASES += longest_others.CASES

_FOLDERS = {
    "inventory": "hold confirm release extend refund expire restock snapshot find scan purge open"
    " key_states",
    "ledger": "read reader repair trim",
    "window": "parts enter award entries cue freeze publish reveal void give_back lags list show"
    " secrets result",
    "waiting_room": "join admit leave",
}
SCRIPTS = {
    **{verb: f"{folder}/{verb}" for folder, verbs in _FOLDERS.items() for verb in verbs.split()},
    "pause": "inventory/set_state",
    **{
        f"room {verb}": f"waiting_room/{verb}"
        for verb in ("open", "show", "steer", "reveal", "definition")
    },
}
"""Which script a case's verb is; a test holds them against the files of lua/."""


def prepared(ground: Ground, case: Case) -> Call:
    """A case's call, on a new sale."""
    verb, _, make = case
    call = make(ground)
    assert call.script.name == SCRIPTS[verb], (verb, call.script.name)
    return call


def measure(ground: Ground, cases: Sequence[Case]) -> Iterator[tuple[str, str, float]]:
    """Each case's least server CPU of several runs, each on a sale of its own."""
    for case in cases:
        costs = []
        for _ in range(RUNS):
            costs.append(ground.cost(prepared(ground, case))[0])
            ground.raw.flushall()
            ground.raw.script_flush()
        yield *case[:2], min(costs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a verb")
    only = parser.parse_args().only
    cases = [case for case in CASES if case[0] == only or not only]
    missed = False
    with EmbeddedServer.start() as server:
        for verb, what, ms in measure(Ground(server), cases):
            missed = missed or ms > BOUND_MS
            print(
                f"{verb:10} {what:55} {ms:7.1f} ms  {'MISS' if ms > BOUND_MS else 'PASS'}",
                flush=True,
            )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
