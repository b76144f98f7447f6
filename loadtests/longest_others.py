"""The longest calls of the verbs of cues, waiting rooms and the ledger, and of what opens them.

What sweeps on its way finds holds due that are as much work as any: 32 of 32 lines a buyer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flashsale import Sale, Sku, WaitingRoom, inventory, ledger, limits, repair, views, window
from flashsale.baskets import encode
from flashsale.calls import Call
from flashsale.keys import CueKeys, ShardKeys
from flashsale.scripts import load_script
from loadtests.longest_ground import (
    SKUS,
    T0,
    TTL,
    Case,
    Ground,
    basket,
    buyers,
    heavy,
    long_id,
    stamp,
)

LATER = T0 + 10 * TTL
"""After the close of a cue that was opened at T0, and of all that was held by then."""


def all_due(ground: Ground) -> None:
    """16,384 holds of 32 lines are due, 32 a buyer; the shard's time is LATER."""
    crowd = buyers(512)
    texts = [f"h{stamp(T0 + TTL)}{long_id(k)}|{basket(k)}" for k in range(32)]
    ground.records(dict.fromkeys(crowd, "1" + ";".join(texts)))
    ground.entries([(b, long_id(k)) for k in range(32) for b in crowd], T0, 1_024)
    ground.raw.hset(ShardKeys.of(ground.sale).sale, "now", LATER)


def open_cue(ground: Ground, **more: Any) -> object:
    """Open a cue of 32 skus."""
    stock = dict.fromkeys(SKUS[: limits.LINES_MAX], 1_000)  # each unit keeps a seat
    given = {"window_ms": 2_000, "lag_cap_ms": 2_000, "reserve_ms": 60_000, "proof": False}
    handle = ground.shop.sale(ground.sale)
    return handle.cue("cue", at=0, cue_time_ms=T0, stock=stock, **given, **more)


def of_cue(script: str, *args: str | int, state: str = "") -> Callable[[Ground], Call]:
    """A script that changes a cue of 32 skus while all is due."""

    def make(ground: Ground) -> Call:
        ground.open()
        open_cue(ground, **({"publish": "https://e.example/"} if script == "publish" else {}))
        own, base = (
            CueKeys.of(ground.sale, "cue"),
            inventory.shard_call("expire", ShardKeys.of(ground.sale)),
        )
        if state:
            frozen = {
                "state": state,
                "digest": "00",
                "digest_at": T0,
                "frozen_at": T0,
                "entrants": 1,
            }
            ground.raw.hset(own.cue, mapping=frozen)  # type: ignore[arg-type]
        all_due(ground)
        more = {
            "freeze": (own.cue, own.secrets),
            "publish": (own.cue,),
            "reveal": (own.cue, own.secrets, own.awarded),
            "void": (own.cue, own.awarded),
            "give_back": (own.cue,),
        }[script]
        return Call(load_script(f"window/{script}"), (*base.keys, *more), args)

    return make


def new_cue(ground: Ground) -> Call:
    ground.open()
    all_due(ground)
    ground.raw.hset(ShardKeys.of(ground.sale).sale, "now", T0 + TTL)
    return ground.call_by("window/cue", lambda: open_cue(ground))


def of_known_cue(script: str) -> Callable[[Ground], Call]:
    """What only reads a cue; 1,024 buyers ask for their results."""

    def make(ground: Ground) -> Call:
        ground.open()
        open_cue(ground)
        own = CueKeys.of(ground.sale, "cue")
        if script != "result":
            return ground.call_of(f"window/{script}", window.know(ground.sale, "cue"))
        some = buyers(1_024)
        ground.raw.hset(own.cue, "state", "revealed")
        ground.raw.hset(own.awarded, mapping=dict.fromkeys(some, f"Hd{T0} {basket(3)}"))
        items = [window.result_item("cue", buyer) for buyer in some]
        return window.result_kind(ground.sale, "cue").call(items)

    return make


def cues(ground: Ground) -> list[str]:
    ids = [f"cue-{cue:060}" for cue in range(limits.CUES_MAX)]
    keys = ground.open()
    ground.raw.hset(keys.cues, mapping=dict.fromkeys(ids, 1))
    return ids


def all_cues(ground: Ground) -> Call:
    cues(ground)
    return ground.call_of("window/list", views.cue_ids(ground.sale))


def key_states(ground: Ground) -> Call:
    ids = cues(ground)
    return ground.call_of("inventory/key_states", views.key_states(ground.sale, ids))


def lags(ground: Ground) -> Call:
    ground.open()
    every = [window.LAG_BUCKET_MS * n for n in range(limits.LAG_BUCKETS)]
    ground.do(window.lags(ground.sale, every))
    return ground.call_of("window/lags", window.lags(ground.sale, every))


def new_sale(ground: Ground) -> Call:
    sale = Sale("x" * limits.ID_MAX, [Sku(sku + "-" * 56, 10**9, 10**8) for sku in SKUS])
    return ground.call_of("inventory/open", inventory.open_sale(sale))


def reader(ground: Ground) -> Call:
    ground.open()
    for n in range(64):
        ground.do(ledger.register(ground.sale, long_id(n)))
    return ground.call_of("ledger/reader", ledger.acknowledge(ground.sale, long_id(0), 1))


def torn(verb: str) -> Callable[[Ground], Call]:
    """An entry of 1,024 paid holds of 32 lines is torn, of buyers with 63 of them."""

    def make(ground: Ground) -> Call:
        keys, some, count = ground.open(), buyers(1_024), limits.HOLDS_MAX - 2
        lines = [basket(7 * count)] * len(some)
        ground.records(dict.fromkeys(some, heavy(T0 + TTL, holds=count)))
        names = {"hb": encode(some), "hi": encode([long_id(count)] * len(some))}
        texts = encode([[lines[0]], [1] * len(some)])
        fields = {"t": T0, **names, "hl": texts}
        sequence = int(ground.raw.hget(keys.sale, "sequence") or 0)  # type: ignore[arg-type]
        ground.raw.xadd(keys.ledger, fields, id=f"1-{sequence + 1}")  # type: ignore[arg-type]
        return ground.call_of("ledger/repair", repair.repair(ground.sale), verb)

    return make


def of_room(verb: str) -> Callable[[Ground], Call]:
    """A room of 100,000,000 places that calls as many as there are; others' holds are due."""

    def make(ground: Ground) -> Call:
        ground.open(admission=True)
        queue, keys = ground.shop.sale(ground.sale).queue, ShardKeys.of(ground.sale)
        wished = WaitingRoom(
            rate_per_s=1_000_000, turn_ttl_ms=32_000, conversion=1, margin=0, places_max=10**8
        )
        if verb == "open":
            return ground.call_by("waiting_room/open", lambda: queue.open(wished))
        queue.open(wished)
        shown = {"joined": 10**7, "present": 10**7, "vacant": 128, "seed": "ab" * 32}
        if verb == "reveal":
            shown["seed"] = ""
        ground.raw.hset(keys.room, mapping=shown)
        ground.raw.setbit(keys.vacant, 10**7, 1)
        all_due(ground)
        base = inventory.shard_call("expire", keys)
        small = (keys.sale, keys.room)
        used, args = {
            "show": ((*base.keys, keys.room, keys.vacant), ()),
            "steer": (small, ("paused", "1.5")),
            "reveal": (small, ("ab" * 32,)),
            "definition": (small, ()),
        }[verb]
        return Call(load_script(f"waiting_room/{verb}"), used, args)

    return make


CASES: list[Case] = [
    ("open", "a sale of 1,000 skus", new_sale),
    ("key_states", "1,000 cues", key_states),
    ("cue", "32 skus, 16,384 due, 32 a buyer, 32 lines", new_cue),
    ("freeze", "the same", of_cue("freeze", "", 0, "")),
    ("publish", "the same", of_cue("publish", "", state="frozen")),
    (
        "reveal",
        "the same, of a cue without a reserve",
        of_cue("reveal", 0, 0, "ab", "", state="frozen"),
    ),
    ("void", "the same", of_cue("void", "a reason")),
    ("give_back", "the same", of_cue("give_back", state="void")),
    ("lags", "every bucket", lags),
    ("list", "1,000 cues", all_cues),
    ("show", "a cue of 32 skus", of_known_cue("show")),
    ("secrets", "a cue's", of_known_cue("secrets")),
    ("result", "1,024 winners of 32 lines", of_known_cue("result")),
    ("reader", "one of 64", reader),
    *(
        ("repair", f"{verb}, 1,024 buyers with 63 holds of 32 lines", torn(verb))
        for verb in ("check", "apply", "finish")
    ),
    ("room open", "250 hashes of places", of_room("open")),
    ("room show", "10,000,000 present, 16,384 due, 32 a buyer, 32 lines", of_room("show")),
    *((f"room {verb}", "the same", of_room(verb)) for verb in ("steer", "reveal", "definition")),
]
