"""Lua has no rollback: no command that follows a script's first write can fail by its arguments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from faults.battery import Battery
from faults.room_battery import RoomBattery
from flashsale import FlashSale, Sale, Sku, inventory, waiting_room, window
from flashsale.batches import Item, Kind, Target
from flashsale.embedded import EmbeddedServer
from flashsale.keys import CueKeys, ShardKeys
from flashsale.limits import BATCH_MAX, SKUS_MAX
from support import proven
from support.cues import KEY, POSITION, open_cue
from support.lab import T0, Lab
from support.queues import Hall

CUES = 300
"""Reserves that end together: three values each for their 32 skus would be too many at once."""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start() as server:
        yield server


@pytest.fixture(scope="module")
def shop(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlashSale]:
    folder: Path = tmp_path_factory.mktemp("proven") / "lua"
    with (
        proven.proven(folder),
        FlashSale.from_url(server.url, timeout_ms=20_000, keys=[KEY]) as shop,
    ):
        yield shop


@pytest.fixture
def raw(server: EmbeddedServer) -> Iterator[Any]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        yield client


@pytest.mark.parametrize("battery", [Battery, RoomBattery])
def test_the_batteries_keep_to_the_rule(shop: FlashSale, raw: Any, battery: type) -> None:
    battery(shop, raw).run()
    assert any(name.endswith(" after") for name in proven.most_values(raw))


# --- at the bounds ------------------------------------------------------------------------


class Largest:
    """The largest sale with all that may end in one call due: buyers with many holds, whole ledger
    entries, moved deadlines, the reserves of cues; and something to pay, to give up, to refund."""

    def __init__(self, shop: FlashSale, raw: Any, name: str) -> None:
        self.raw, self.buyers = raw, [f"b{n}" for n in range(BATCH_MAX)]
        skus = [Sku(f"k{n}", 1_000_000) for n in range(SKUS_MAX)]
        self.sale = shop.open(Sale(name, skus, hold_ttl_ms=1_000, holds_max=64))
        self.keys = ShardKeys.of(name)
        self.set_time(T0)
        self.call(inventory.hold_kind(name), [self._hold(n, "due") for n in range(BATCH_MAX)])
        for at in range(4):  # not of the plain kind, and moved
            self.call(inventory.hold_kind(name), [self._hold(n, f"m{at}") for n in range(64)])
            later = [self._target(n, f"m{at}") for n in range(64)]
            items = [inventory.extend_item(target, T0 + 1_001) for target in later]
            self.call(inventory.extend_kind(name), items)
        self._reserves(CUES)
        self.set_time(T0 + 500)
        for hold_id in ("paid", "live"):
            items = [self._hold(n, hold_id) for n in range(BATCH_MAX)]
            self.call(inventory.hold_kind(name), items)
        items = [inventory.confirm_item(self._target(n, "paid"), None) for n in range(BATCH_MAX)]
        self.call(inventory.confirm_kind(name, "refuse"), items)
        assert self.sale.audit().ok

    def set_time(self, at_ms: int) -> None:
        self.now = at_ms
        self.raw.hset(self.keys.sale, "now", at_ms)

    def call(self, kind: Kind, items: list[Item]) -> list[Any]:
        """One script call that carries the whole batch, as no client cuts it."""
        call = kind.call(items)
        source = call.script.source
        reply = self.raw.eval(source, len(call.keys), *call.keys, self.now, *call.args)
        assert isinstance(reply, list)
        return reply

    def _target(self, n: int, hold_id: str) -> Target:
        return Target(self.buyers[n], hold_id)

    def lines(self, n: int) -> dict[str, int]:
        return {f"k{(31 * n + k) % SKUS_MAX}": 1 + k % 2 for k in range(32)}

    def _hold(self, n: int, hold_id: str, buyer: str = "") -> Item:
        return inventory.hold_item(buyer or self.buyers[n], self.lines(n), hold_id, "app", "note")

    def _reserves(self, cues: int) -> None:
        """The reserves of so many cues with 32 skus each, which end together with the holds."""
        moves = [[f"c{c}", *(v for n in range(32) for v in (n, 1))] for c in range(cues)]
        sequence = self.sale.snapshot().sequence + 1
        fields: dict[Any, Any] = {"t": self.now, "v": msgspec.msgpack.encode(moves)}
        self.raw.xadd(self.keys.ledger, fields, id=f"1-{sequence}")
        for n in range(32):
            self.raw.hincrby(self.keys.stock, f"{n}a", -cues)
            self.raw.hincrby(self.keys.stock, f"{n}x", cues)
        indexes = ",".join(map(str, range(32)))
        for c in range(cues):
            parts = {f"{n}x:c{c}": 1 for n in range(32)} | {f"x:c{c}": indexes}
            self.raw.hset(self.keys.stock, mapping=parts)
            self.raw.hset(self.keys.cues, f"c{c}", sequence)
            self.raw.hset(CueKeys.of(self.sale.id, f"c{c}").cue, "format", "1")
        self.raw.zadd(self.keys.deadlines, {f"|c{c}": T0 + 1_000 for c in range(cues)})
        rest = {"sequence": sequence, "due": T0 + 1_000, "seats": 32 * cues}
        self.raw.hset(self.keys.sale, mapping=rest)

    def act(self, verb: str) -> object:
        every, name = range(BATCH_MAX), self.sale.id
        match verb.partition(" ")[0]:
            case "hold":
                new = [f"n{n}" for n in every] if "new" in verb else self.buyers
                items = [self._hold(n, "again", new[n]) for n in every]
                return self.call(inventory.hold_kind(name), items)
            case "confirm":
                whole = "part" not in verb
                hold_id, late = ("due", "retake") if "late" in verb else ("live", "refuse")
                parts = [None if whole else dict([*self.lines(n).items()][:9]) for n in every]
                targets = [self._target(n, hold_id) for n in every]
                items = list(map(inventory.confirm_item, targets, parts))
                return self.call(inventory.confirm_kind(name, late), items)
            case "release":
                hold_id = "unknown" if "unknown" in verb else "live"
                items = [inventory.release_item(self._target(n, hold_id)) for n in every]
                return self.call(inventory.release_kind(name), items)
            case "extend":
                targets = [self._target(n, "live") for n in every]
                items = [inventory.extend_item(target, T0 + 1_900) for target in targets]
                return self.call(inventory.extend_kind(name), items)
            case "refund":
                targets = [self._target(n, "paid") for n in every]
                items = [
                    inventory.refund_item(t, self.lines(n), "r") for n, t in enumerate(targets)
                ]
                return self.call(inventory.refund_kind(name), items)
            case "restock":
                return self.sale.restock({f"k{n}": 1 for n in range(SKUS_MAX)}, op_id="o").unwrap()
            case "cue":
                stock = {f"k{n}": 5 for n in range(32)}
                return self.sale.cue("new", at=1, cue_time_ms=self.now, stock=stock, proof=False)
            case "expire":
                return self.sale.expire()
        return getattr(self.sale, verb)()


VERBS = [
    *("hold new", "hold known", "confirm", "confirm part", "confirm late", "release"),
    *("release unknown", "extend", "refund", "restock", "cue", "expire", "pause", "end"),
]


@pytest.mark.parametrize("due", [False, True], ids=["nothing due", "all due"])
@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_fails_in_its_writes_at_the_bounds_of_a_sale(
    shop: FlashSale, raw: Any, verb: str, due: bool
) -> None:
    largest = Largest(shop, raw, f"{verb.replace(' ', '-')}-{due:d}")
    largest.set_time(T0 + (1_001 if due else 600))
    largest.act(verb)
    report = largest.sale.audit()
    assert report.ok, report.problems[:3]
    assert max(proven.most_values(raw).values()) <= proven.VALUES_MAX
    largest.set_time(T0 + 10_000)
    while largest.sale.expire():
        pass
    assert largest.sale.audit().ok


@pytest.mark.parametrize("key", ["", "device"])
def test_no_verb_of_a_waiting_room_fails_in_its_writes_at_the_bounds(
    shop: FlashSale, raw: Any, key: str
) -> None:
    lab = Lab(shop, raw, lambda: f"room-{key}")
    most = BATCH_MAX if key else None
    hall = Hall(lab, {"red": 1_000_000}, places_max=100_000, key_places_max=most)
    view, buyers = hall.look(), [f"b{n}" for n in range(BATCH_MAX)]

    def call(kind: Kind, items: list[Item]) -> Any:
        made = kind.call(items)
        return raw.eval(made.script.source, len(made.keys), *made.keys, T0, *made.args)

    for _ in range(2):
        call(waiting_room.join_kind(view), [waiting_room.join_item(b, key) for b in buyers])
        hall.look(T0 + 1_000)
        call(waiting_room.admit_kind(view), [waiting_room.admit_item(b, None) for b in buyers])
        call(waiting_room.leave_kind(view), [waiting_room.leave_item(b, None) for b in buyers])
    assert hall.look().joined >= BATCH_MAX
    seen = proven.most_values(raw)
    assert seen["waiting_room/admit HMGET"] >= BATCH_MAX
    assert max(seen.values()) <= proven.VALUES_MAX


def test_no_entering_fails_in_its_writes_at_the_bounds(shop: FlashSale, raw: Any) -> None:
    lab = Lab(shop, raw, lambda: "entering")
    sale = lab.open({"red": 1_000})
    for cue_id, keep in (("every", "all"), ("best", "best")):
        cue = open_cue(lab, sale, cue_id, keep=keep)
        known = shop.perform(window.know(sale.id, cue_id))
        items = [
            window.enter_item(known, f"b{n}", {"red": 1}, POSITION + 500, None, KEY)
            for n in range(BATCH_MAX)
        ]
        lab.set_time(sale, T0 + 500)
        made = window.enter_kind(sale.id, known).call(items)
        raw.eval(made.script.source, len(made.keys), *made.keys, T0, *made.args)
        assert cue.view().entries > 0
    assert max(proven.most_values(raw).values()) <= proven.VALUES_MAX
