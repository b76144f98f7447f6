"""A call that is torn between two of its writes: named, and mended to what it would have been."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from flashsale import (
    AsyncFlashSale,
    CueState,
    FlashSale,
    FlashSaleError,
    HoldRequest,
    Outcome,
    SaleHandle,
)
from flashsale.embedded import EmbeddedServer
from support import proven
from support.cues import KEY, Tap, Tower, drawn_by, enter_all, open_cue, settled, verified
from support.lab import T0, Lab


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


class Stage:
    """Sales of one kind, each as it is before the call that is torn."""

    def __init__(self, shop: FlashSale, raw: Any) -> None:
        self.number = 0
        self.lab = Lab(shop, raw, self._new_id)

    def _new_id(self) -> str:
        self.number += 1
        return f"torn-{self.number}"

    def sale(self) -> SaleHandle:
        lab = self.lab
        sale = lab.open({"red": 100, "blue": 100, "green": 100}, holds_max=8)
        sale.restock({"red": 1}, op_id="before").unwrap()
        open_cue(lab, sale, "old", stock={"red": 3, "blue": 2})
        open_cue(lab, sale, "void", stock={"green": 2}, cue_time_ms=T0 + 10_000).void("gone")
        for n in range(3):
            sale.hold(f"due-{n}", {"red": 1, "blue": n + 1}, hold_id="h").unwrap()
        sale.hold("two", {"red": 1}, hold_id="due").unwrap()
        sale.hold("moved", {"green": 2}, hold_id="h").unwrap()
        sale.extend("moved", "h", deadline_ms=T0 + 1_200).unwrap()
        lab.set_time(sale, T0 + 500)
        sale.hold("two", {"blue": 1}, hold_id="live").unwrap()
        sale.hold("live", {"red": 2, "green": 1}, hold_id="h").unwrap()
        sale.hold("paid", {"red": 2, "blue": 2}, hold_id="h").unwrap()
        sale.confirm("paid", "h").unwrap()
        lab.set_time(sale, T0 + 1_000)
        return sale


VERBS: dict[str, tuple[str, Callable[[Lab, SaleHandle], object]]] = {
    "expire": ("inventory/expire", lambda _, s: s.expire()),
    "hold of one": ("inventory/hold", lambda _, s: s.hold("new", {"red": 1}, hold_id="h")),
    "holds of many": ("inventory/hold", lambda _, s: s.hold_many(
        [HoldRequest(b, {"red": 1, "green": n + 1}, "n") for n, b in enumerate(
            ("new", "two", "live"))])),
    "confirm": ("inventory/confirm", lambda _, s: s.confirm("live", "h")),
    "confirm in part": ("inventory/confirm", lambda _, s: s.confirm("live", "h", lines={"red": 1})),
    "confirm late": ("inventory/confirm", lambda _, s: s.confirm("two", "due", late="retake")),
    "confirm late in part": ("inventory/confirm", lambda _, s: s.confirm(
        "due-1", "h", lines={"blue": 1}, late="retake")),
    "release": ("inventory/release", lambda _, s: s.release("live", "h")),
    "release of nothing": ("inventory/release", lambda _, s: s.release("new", "h")),
    "release of what was moved": ("inventory/release", lambda _, s: s.release("moved", "h")),
    "extend": ("inventory/extend", lambda _, s: s.extend("live", "h", deadline_ms=T0 + 1_900)),
    "extend again": ("inventory/extend", lambda _, s: s.extend(
        "moved", "h", deadline_ms=T0 + 1_500)),
    "refund": ("inventory/refund", lambda _, s: s.refund("paid", "h", lines={"red": 1}, op_id="r")),
    "refund of all": ("inventory/refund", lambda _, s: s.refund(
        "paid", "h", lines={"red": 2, "blue": 2}, op_id="r")),
    "restock": ("inventory/restock", lambda _, s: s.restock({"red": 5, "blue": -1}, op_id="o")),
    "pause": ("inventory/set_state", lambda _, s: s.pause()),
    "end": ("inventory/set_state", lambda _, s: s.end()),
    "cue": ("window/cue", lambda lab, s: open_cue(
        lab, s, stock={"red": 3, "green": 1}, cue_time_ms=T0 + 1_000)),
    "void": ("window/void", lambda _, s: s.cue_handle("old").void("rain")),
    "give back": ("window/give_back", lambda _, s: s.cue_handle("void").give_back()),
    "cue of another's stock": ("window/cue", lambda lab, s: open_cue(
        lab, s, stock={"green": 2}, stock_of="void", cue_time_ms=T0 + 1_000)),
}  # fmt: skip


def told(sale: SaleHandle, dump: dict[str, Any]) -> dict[str, Any]:
    """A sale's dump without its own id, its times and what only paces its sweeps."""
    text = {name.partition("}")[2]: value for name, value in dump.items()}
    own = {field: value for field, value in text[":sale"].items()
           if field not in (b"due", b"cursor", b"now", b"definition")}  # fmt: skip
    stock = {f: v for f, v in text[":stock"].items() if not f.startswith(b"y:")}
    ledger = [fields for _, fields in text[":ledger"][1:]]
    return text | {":sale": own, ":stock": stock, ":ledger": ledger}


@pytest.mark.parametrize("swept", [False, True], ids=["swept before", "sweeping"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_call_torn_at_any_write_is_named_and_mended_to_what_it_would_have_been(
    shop: FlashSale, raw: Any, verb: str, swept: bool
) -> None:
    stage = Stage(shop, raw)
    script, act = VERBS[verb]

    def prepared() -> SaleHandle:
        sale = stage.sale()
        if not swept:
            sale.expire()
        return sale

    whole = prepared()
    act(stage.lab, whole)
    assert whole.audit().ok
    expected = told(whole, stage.lab.dump(whole))
    number = 1
    while True:
        number += 1
        sale = prepared()
        raw.set(proven.TEAR, f"{script}:{number}")
        try:
            result = act(stage.lab, sale)
            torn = isinstance(result, list) and isinstance(result[0], FlashSaleError)
        except FlashSaleError as error:
            torn = "torn" in str(error)
        raw.delete(proven.TEAR)
        if not torn:
            break  # it has no write of this number
        before = sale.audit()
        name = f"1-{before.sequence + 1}"
        if f"ledger: entry {name} is torn" in " ".join(before.problems):
            mended = sale.repair()
            assert (mended.problems, mended.entry) == ((), name)
        assert sale.audit().problems == (), (verb, number)
        if verb == "cue of another's stock":
            parts = [sale.cue_handle(cue).view().set_aside["green"] for cue in sale.cues()[1:]]
            assert sum(parts) == sale.snapshot().skus["green"].set_aside == 2
        if verb == "cue":
            assert sale.snapshot().skus["red"].set_aside in (3, 6)
        act(stage.lab, sale)  # the caller asks again
        assert sale.audit().problems == ()
        if verb not in ("cue", "cue of another's stock", "expire"):
            left = told(sale, stage.lab.dump(sale))
            assert left == expected, (verb, number)
    assert number > 2 or (verb == "expire" and not swept)


def test_a_settlement_torn_at_any_write_is_mended_and_goes_on(shop: FlashSale, raw: Any) -> None:
    stage = Stage(shop, raw)
    lab, number, torn = stage.lab, 1, True
    while torn:
        number += 1
        sale = lab.open({"red": 10})
        cue = open_cue(lab, sale, stock={"red": 4}, reserve_ms=60_000)
        enter_all(lab, cue.cue(), [Tap(f"b{n}") for n in range(6)])
        raw.set(proven.TEAR, f"window/award:{number}")
        try:
            settled(lab, sale, cue)
            torn = False
        except FlashSaleError:
            raw.delete(proven.TEAR)
            assert "is torn" in " ".join(sale.audit().problems)
            assert sale.repair().problems == ()
            assert sale.audit().problems == (), number
            settled(lab, sale, cue)
        raw.delete(proven.TEAR)
        assert sale.audit().problems == (), number
        verified(cue)
        winners = {buyer for buyer, _ in drawn_by(cue, [f"b{n}" for n in range(6)])}
        assert len(winners) == 4
        assert {b for b in map("b{}".format, range(6)) if sale.holds_of(b)} == winners
        assert {cue.result(buyer).outcome for buyer in winners} == {Outcome.HELD}
    assert number > 4


@pytest.mark.parametrize("script", ["freeze", "publish"])
def test_a_void_by_the_scripts_themselves_torn_at_any_write_is_mended(
    shop: FlashSale, raw: Any, script: str
) -> None:
    """Whoever comes too late for the public seed."""
    lab, number, torn = Stage(shop, raw).lab, 1, True
    while torn:
        number += 1
        sale, tower = lab.open({"red": 10}), Tower()
        cue = open_cue(lab, sale, stock={"red": 4}, entropy=tower, publish="the board")
        enter_all(lab, cue.cue(), [Tap("ann")])
        lab.set_time(sale, cue.cue().closes_at_ms)
        if script == "publish":
            cue.freeze(entropy=tower)
        tower.say(cue.cue())
        raw.set(proven.TEAR, f"window/{script}:{number}")
        try:
            cue.settle(wait=False, entropy=tower, publish=lambda digest, cue: None)
            torn = False
        except FlashSaleError:
            raw.delete(proven.TEAR)
            assert cue.view().state is not CueState.VOID or number > 2
            assert sale.repair().problems == ()
        raw.delete(proven.TEAR)
        view = cue.view()
        assert (view.state, view.set_aside) == (CueState.VOID, {"red": 4}), number
        assert view.reason.endswith("after the public seed was known")
        assert view.frozen_at_ms == view.voided_at_ms == cue.cue().closes_at_ms
        assert sale.audit().problems == (), number
        assert verified(cue)["void"]
    assert number > 3


def test_a_repair_that_is_itself_torn_goes_on_where_it_was(shop: FlashSale, raw: Any) -> None:
    stage = Stage(shop, raw)
    for number in range(1, 8):
        sale = stage.sale()
        raw.set(proven.TEAR, "inventory/confirm:2")
        with pytest.raises(FlashSaleError):
            sale.confirm("due-1", "h", lines={"blue": 1}, late="retake")
        raw.set(proven.TEAR, f"ledger/repair:{number}")
        try:
            sale.repair()
        except FlashSaleError:
            raw.delete(proven.TEAR)
            assert sale.repair().ok
        raw.delete(proven.TEAR)
        assert sale.audit().problems == ()


FIRST: dict[str, list[HoldRequest]] = {
    "one hold": [HoldRequest("a", {"red": 1}, "h")],
    "alike": [HoldRequest(buyer, {"red": 2}, "h") for buyer in "abc"],
    "of several skus": [HoldRequest(buyer, {"red": 1, "blue": 2}, "h") for buyer in "abc"],
    "not all served": [HoldRequest(buyer, {"red": 40}, "h") for buyer in "abc"],
}


@pytest.mark.parametrize("first", FIRST)
def test_a_sales_first_holds_torn_at_any_write_are_mended(
    shop: FlashSale, raw: Any, first: str
) -> None:
    """The first records make a table of their hash; nothing else is ever stored on the way."""
    lab, number, is_torn = Stage(shop, raw).lab, 1, True
    whole = lab.open({"red": 100, "blue": 100})
    whole.hold_many(FIRST[first])
    while is_torn:
        number += 1
        sale = lab.open({"red": 100, "blue": 100})
        raw.set(proven.TEAR, f"inventory/hold:{number}")
        is_torn = isinstance(sale.hold_many(FIRST[first])[0], FlashSaleError)
        raw.delete(proven.TEAR)
        if is_torn:
            assert "is torn" in " ".join(sale.audit().problems)
            assert sale.repair().problems == ()
            sale.hold_many(FIRST[first])  # the caller asks again
        assert sale.audit().problems == (), number
        assert told(sale, lab.dump(sale)) == told(whole, lab.dump(whole)), number
    assert number == 5  # the fifth is one too many: ledger, buyers, stock and sale


def torn_hold(stage: Stage, raw: Any) -> SaleHandle:
    sale = stage.sale()
    sale.expire()
    raw.set(proven.TEAR, "inventory/hold:3")
    with pytest.raises(FlashSaleError):
        sale.hold("live", {"red": 1}, hold_id="second")
    raw.delete(proven.TEAR)
    return sale


@pytest.mark.parametrize("what", ["record", "counter"])
def test_what_is_neither_before_nor_after_is_named_and_nothing_is_changed(
    shop: FlashSale, raw: Any, what: str
) -> None:
    stage = Stage(shop, raw)
    sale = torn_hold(stage, raw)
    keys, record = stage.lab.keys(sale), b"1h4000000001500second|1"
    if what == "record":
        raw.hset(keys.buyers, "live", record)
    else:
        raw.hincrby(keys.stock, "0a", -5)
    before = stage.lab.dump(sale)
    report = sale.repair()
    assert not report.ok
    assert all(report.entry in problem for problem in report.problems)
    named = "hold 'second' of buyer 'live'" if what == "record" else "sku 'red': available is"
    assert any(named in problem for problem in report.problems), report.problems
    assert stage.lab.dump(sale) == before


def test_a_trim_torn_after_its_checkpoint_has_lost_nothing(shop: FlashSale, raw: Any) -> None:
    sale = Stage(shop, raw).sale()
    sale.expire()
    raw.set(proven.TEAR, "ledger/trim:2")
    with pytest.raises(FlashSaleError):
        sale.ledger.trim()
    raw.delete(proven.TEAR)
    assert sale.audit().problems == ()
    sale.hold("new", {"red": 1}, hold_id="h").unwrap()
    assert sale.ledger.trim() > 0
    assert sale.audit().problems == ()


def test_a_sale_without_a_torn_entry_is_left_alone(shop: FlashSale, raw: Any) -> None:
    stage = Stage(shop, raw)
    sale = stage.sale()
    before = stage.lab.dump(sale)
    assert (sale.repair().entry, sale.repair().ok) == ("", True)
    assert stage.lab.dump(sale) == before


def test_the_asynchronous_client_repairs_as_well(
    shop: FlashSale, raw: Any, server: EmbeddedServer
) -> None:
    sale = torn_hold(Stage(shop, raw), raw)

    async def mend() -> bool:
        async with AsyncFlashSale.from_url(server.url) as other:
            report = await other.sale(sale.id).repair()
            return report.entry != "" and report.ok and (await other.sale(sale.id).audit()).ok

    assert asyncio.run(mend())
