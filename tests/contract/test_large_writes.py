"""However much one call has to write, it writes all of it: Lua's unpack takes less than 8,000."""

from __future__ import annotations

import msgspec
import pytest

from flashsale import HoldRequest, SaleHandle
from flashsale.keys import CueKeys
from support.cues import open_cue
from support.lab import T0, Lab


def swept(lab: Lab, sale: SaleHandle) -> None:
    """Sweep until nothing is due; the books are right."""
    while sale.expire():
        pass
    assert sale.snapshot().sequence == len(lab.raw.xrange(lab.keys(sale).ledger))
    report = sale.audit()
    assert report.ok, report.problems[:3]


def test_a_call_that_changes_every_counter_of_the_largest_sale_writes_them_all(lab: Lab) -> None:
    # With a cue in the same call four counters a sku are written: 8,000 values.
    sale = lab.open({f"k{n}": 100 for n in range(1_000)}, holds_max=64)
    for n in range(32):
        basket = {f"k{k}": 1 for k in range(32 * n, min(1_000, 32 * n + 32))}
        sale.hold("ann", basket, hold_id=f"h{n}").unwrap()
    lab.set_time(sale, T0 + 1_000)
    open_cue(lab, sale, stock={"k0": 5})
    sale.hold("bob", {"k1": 1}, hold_id="h").unwrap()
    swept(lab, sale)
    view = sale.snapshot().skus
    assert {sku for sku, units in view.items() if units.held} == {"k1"}
    assert view["k0"].set_aside == 5


@pytest.mark.parametrize("verb", ["expire", "hold", "pause"])
def test_the_reserves_of_any_number_of_cues_may_end_at_once(lab: Lab, verb: str) -> None:
    # Each has 32 skus: 300 of them are 10,200 fields to remove.
    skus, cues = [f"k{n}" for n in range(32)], [f"c{n}" for n in range(300)]
    sale = lab.open(dict.fromkeys(skus, 1_000))
    keys, indexes = lab.keys(sale), ",".join(map(str, range(32)))
    moves = [[cue, *(value for n in range(32) for value in (n, 1))] for cue in cues]
    lab.raw.xadd(keys.ledger, {"t": T0, "v": msgspec.msgpack.encode(moves)}, id="1-2")
    for n in range(32):
        lab.raw.hset(keys.stock, mapping={f"{n}a": 700, f"{n}x": 300})
    for cue in cues:
        lab.raw.hset(keys.stock, mapping={f"{n}x:{cue}": 1 for n in range(32)})
        lab.raw.hset(keys.stock, f"x:{cue}", indexes)
        lab.raw.hset(CueKeys.of(sale.id, cue).cue, "format", "1")
    lab.raw.hset(keys.cues, mapping=dict.fromkeys(cues, 2))
    lab.raw.zadd(keys.deadlines, {f"|{cue}": T0 + 500 for cue in cues})
    lab.raw.hset(keys.sale, mapping={"sequence": 2, "due": T0 + 500, "seats": 32 * 300})
    assert sale.audit().ok
    lab.set_time(sale, T0 + 500)
    if verb == "hold":
        sale.hold("ann", {"k0": 1}, hold_id="h").unwrap()
        sale.release("ann", "h").unwrap()
    elif verb == "pause":
        sale.pause()
    swept(lab, sale)
    assert {(units.available, units.set_aside) for units in sale.snapshot().skus.values()} == {
        (1_000, 0)
    }
    assert lab.raw.zcard(keys.deadlines) == 0


def test_any_number_of_moved_deadlines_may_pass_at_once(lab: Lab) -> None:
    # 130 buyers with 64 holds each, all of them extended: 8,320 members to remove in one call.
    sale = lab.open({"red": 10_000}, holds_max=64)
    buyers = [f"b{n}" for n in range(130)]
    for at in range(64):
        answers = sale.hold_many([HoldRequest(b, {"red": 1}, f"h{at}") for b in buyers])
        assert all(getattr(answer, "is_held", True) for answer in answers)
    keys = lab.keys(sale)
    for buyer in buyers:  # as 8,320 extends would have left it
        record = lab.raw.hget(keys.buyers, buyer).decode()
        holds = [f"h{T0 + 2_000}h{at}||o{T0 + 1_000}" for at in range(64)]
        assert len(record.split(";")) == 64
        lab.raw.hset(keys.buyers, buyer, "1" + ";".join(holds))
        lab.raw.zadd(keys.deadlines, {f"{buyer}|h{at}": T0 + 2_000 for at in range(64)})
    names = [[b for b in buyers for _ in range(64)], [f"h{at}" for _ in buyers for at in range(64)]]
    fields = {"t": T0, "xd": msgspec.msgpack.encode([T0 + 2_000] * 8_320)}
    fields |= {f"x{k}": msgspec.msgpack.encode(v) for k, v in zip("bi", names, strict=True)}
    sequence = sale.snapshot().sequence + 1
    lab.raw.xadd(keys.ledger, fields, id=f"1-{sequence}")
    lab.raw.hset(keys.sale, "sequence", sequence)
    assert sale.audit().ok
    lab.set_time(sale, T0 + 2_000)
    answers = sale.release_many([hold for b in buyers for hold in sale.holds_of(b)[:1]])
    assert len(answers) == 130
    swept(lab, sale)
    assert sale.snapshot().skus["red"].available == 10_000
    assert lab.raw.zcard(keys.deadlines) == 0
