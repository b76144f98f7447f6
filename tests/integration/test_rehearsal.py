"""Rehearsals on the real embedded server: one that is right, and engines that lie."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from flashsale import (
    Answer,
    AsyncFlashSale,
    AsyncSaleHandle,
    FlashSaleError,
    HoldRequest,
    InvalidRequest,
    Outcome,
    Sale,
    StoreError,
)
from flashsale.embedded import EmbeddedServer
from flashsale.keys import ShardKeys
from flashsale.rehearsal import (
    DOUBLE11,
    HOT_SKU,
    Progress,
    Report,
    Scenario,
    read_curve,
    read_sale,
    run,
)

SMALL = replace(
    DOUBLE11,
    name="small",
    span_s=100.0,
    crowd=replace(DOUBLE11.crowd, reply_lost=0.1, press_same=0.1, press_new=0.1),
)


def small_run(**options: Any) -> Report:
    """About 1,200 attempts in 1.5 s."""
    settings: dict[str, Any] = {"seconds": 1.5, "scale": 600, "seed": 4} | options
    return run(settings.pop("scenario", SMALL), **settings)


def check_right(report: Report) -> None:
    """What must hold of any run, however busy the machine is."""
    assert report.truth.problems == ()
    assert report.truth.ok
    assert report.exit_code in ((3,) if report.void else (0,))
    assert (report.oversold, report.lost, report.conservation_ok) == (0, 0, True)
    assert report.offered == report.completed + report.dropped + report.unanswered
    assert sum(report.outcomes.values()) == report.completed


def test_a_small_double_11_sells_no_unit_twice_and_loses_no_order() -> None:
    moments: list[Progress] = []
    report = small_run(on_progress=moments.append)
    check_right(report)
    assert report.offered > 800
    assert report.completed == report.offered
    assert report.outcomes["held"] > 300
    assert report.outcomes["sold_out"] > 50
    assert report.outcomes["limit_reached"] > 0
    assert report.later["confirm"]["confirmed"] > 100
    assert report.later["release"]["released"] > 5
    assert report.later["extend"]["extended"] > 5
    assert report.truth.replayed >= report.truth.resent > 30
    assert report.truth.checked > 300
    assert {moment.phase for moment in moments} >= {"start", "surge", "check"}
    told = json.loads(report.to_json())
    assert told["setup"]["server"]["embedded"] is True
    assert told["scale"] == "rate 1/600, time ×66.6667"


def test_everything_paid_is_sold_and_everything_else_is_back() -> None:
    report = small_run()
    check_right(report)
    bought = sum(view.sold for view in report.stock)
    assert sum(view.held for view in report.stock) == 0 or report.notes
    assert bought >= report.later["confirm"]["confirmed"]
    for view in report.stock:
        assert view.available + view.held + view.sold == view.allotment


def test_one_hot_sku_sells_out_to_the_last_unit() -> None:
    report = run(HOT_SKU, seconds=2.0, scale=200, seed=1)
    check_right(report)
    (view,) = report.stock
    assert view.sku == "lipstick"
    assert view.allotment * 500 < report.offered
    assert report.outcomes["sold_out"] > 0.9 * report.offered
    assert view.available + view.held + view.sold == view.allotment


def test_the_level_fsync_is_set_up_on_the_embedded_server() -> None:
    report = small_run(durability="fsync", seconds=1.0)
    check_right(report)
    assert report.durability == "fsync"


def test_a_sale_and_a_curve_of_ones_own_are_rehearsed(tmp_path: Path) -> None:
    (tmp_path / "sale.toml").write_text(
        'id = "1111"\nhold_ttl_ms = 30_000\n[[skus]]\nid = "lipstick"\nstock = 40\nlimit = 1\n'
    )
    (tmp_path / "curve.csv").write_text("second,rate_per_s\n0,0\n1,400\n2,100\n")
    scenario = HOT_SKU.with_curve(read_curve(tmp_path / "curve.csv"))
    scenario = scenario.with_sale(read_sale(tmp_path / "sale.toml"))
    report = run(scenario, seconds=2.0, seed=3)
    check_right(report)
    assert report.scale == "rate 1/1, time ×1"
    assert report.offered == pytest.approx(450, abs=120)
    (view,) = report.stock
    assert (view.sku, view.allotment) == ("lipstick", 40)
    assert report.setup.sale.startswith("1111.")
    assert report.setup.curve == "the file curve.csv"


def test_a_server_that_is_given_is_left_without_the_sale() -> None:
    with EmbeddedServer.start() as server:
        scenario = replace(SMALL, crowd=replace(SMALL.crowd, think_s=1.0, pay_slowly=0, pay=0.79))
        report = small_run(scenario=scenario, url=server.url, seconds=1.0)
        check_right(report)
        assert report.setup.server.embedded is False
        assert report.setup.server.address == f"127.0.0.1:{server.port}"
        assert any("purged" in note for note in report.notes)
        with redis.Redis.from_url(server.url) as client:
            keys = ShardKeys.of(report.setup.sale)
            assert [key.decode() for key in client.keys("*")] == [keys.sale]
            assert client.hget(keys.sale, "state") == b"purged"


def test_a_password_in_the_url_is_not_told() -> None:
    with EmbeddedServer.start(config={"requirepass": "very-secret"}) as server:
        report = small_run(url=server.url, seconds=0.5)
    assert "very-secret" not in report.to_json()


def test_a_server_that_is_not_there_is_an_error_and_not_a_report() -> None:
    with EmbeddedServer.start() as server:
        url = server.url
    with pytest.raises(StoreError):
        small_run(url=url)


def test_a_scenario_that_there_is_not_is_refused_before_anything_is_started() -> None:
    with pytest.raises(InvalidRequest, match="scenario: must be one of"):
        run("triple12")


# --- engines that lie -----------------------------------------------------------------------


class Handle(AsyncSaleHandle):
    """A handle whose lies are written below; `raw` reaches the server directly."""

    raw: redis.Redis
    lied = 0


class SellsWhatIsGone(Handle):
    """Tells some of those who came too late that they hold their units."""

    async def hold_many(
        self, requests: Sequence[HoldRequest], **options: Any
    ) -> list[Answer | FlashSaleError]:
        answers = await super().hold_many(requests, **options)
        for n, answer in enumerate(answers):
            if isinstance(answer, Answer) and answer.outcome is Outcome.SOLD_OUT:
                self.lied += 1
                deadline = answer.at_ms + 60_000
                answers[n] = replace(answer, outcome=Outcome.HELD, deadline_ms=deadline)
        return answers


class TakesTwice(Handle):
    """Forgets that an id was seen: every attempt takes units anew, under an id of its own."""

    async def hold_many(
        self, requests: Sequence[HoldRequest], **options: Any
    ) -> list[Answer | FlashSaleError]:
        renamed = []
        for request in requests:
            self.lied += 1
            renamed.append(replace(request, hold_id=f"{request.hold_id}-{self.lied}"))
        answers = await super().hold_many(renamed, **options)
        return [
            replace(answer, hold_id=request.hold_id) if isinstance(answer, Answer) else answer
            for answer, request in zip(answers, requests, strict=True)
        ]


class ForgetsPayments(Handle):
    """Acknowledges a payment in a hundred without having told the server."""

    async def confirm_many(self, holds: Any, **options: Any) -> list[Answer | FlashSaleError]:
        answers = await super().release_many(holds[:1]) if self.lied < 3 else []
        self.lied += len(answers)
        forged = [
            replace(answer, outcome=Outcome.CONFIRMED) if isinstance(answer, Answer) else answer
            for answer in answers
        ]
        return [*forged, *await super().confirm_many(holds[len(forged) :], **options)]


class LosesOrders(Handle):
    """The server forgets some buyers, as after a failover."""

    async def expire(self, max_holds: int = 1_024, **options: Any) -> int:
        buyers = ShardKeys.of(self.id).buyers
        if self.lied < 3 and (names := self.raw.hrandfield(buyers, 1)):
            self.lied += self.raw.hdel(buyers, *names)
        return await super().expire(max_holds, **options)


class GrowsStock(Handle):
    """The server's counters drift: a unit more is available than there is."""

    async def expire(self, max_holds: int = 1_024, **options: Any) -> int:
        if not self.lied:
            self.lied = 1
            self.raw.hincrby(ShardKeys.of(self.id).stock, "0a", 1)
        return await super().expire(max_holds, **options)


def lying(kind: type[Handle], made: list[Handle]) -> type[AsyncFlashSale]:
    class Lying(AsyncFlashSale):
        async def open(self, sale: Sale, **options: Any) -> AsyncSaleHandle:
            await super().open(sale, **options)
            made.append(kind(self, sale.id))
            return made[-1]

    return Lying


def rehearse_with(
    kind: type[Handle], monkeypatch: pytest.MonkeyPatch, scenario: Scenario = SMALL
) -> tuple[Report, Handle]:
    made: list[Handle] = []
    monkeypatch.setattr("flashsale.rehearsal.runner.AsyncFlashSale", lying(kind, made))
    with EmbeddedServer.start() as server, redis.Redis.from_url(server.url) as kind.raw:
        report = small_run(scenario=scenario, url=server.url, seconds=1.0)
    (handle,) = made
    assert handle.lied
    assert (report.exit_code, report.passed, report.truth.ok) == (1, False, False)
    assert any("left on the server, to be looked at" in note for note in report.notes)
    return report, handle


def test_selling_what_is_gone_fails_with_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    report, _ = rehearse_with(SellsWhatIsGone, monkeypatch)
    assert report.oversold > 0
    assert report.lost > 0


def test_taking_units_twice_for_one_id_fails_with_exit_code_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report, _ = rehearse_with(TakesTwice, monkeypatch)
    assert any("was taken 2 times" in text for text in report.truth.problems) or report.lost


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (ForgetsPayments, "acknowledged confirmed"),
        (LosesOrders, "is lost: the server does not know it"),
    ],
)
def test_lost_orders_fail_with_exit_code_1(
    kind: type[Handle], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Everybody pays and presses once, so that nothing lost is made up for by another attempt.
    crowd = replace(SMALL.crowd, pay=1.0, pay_slowly=0, cancel=0, abandon=0)
    crowd = replace(crowd, reply_lost=0, press_same=0, press_new=0)
    report, handle = rehearse_with(kind, monkeypatch, replace(SMALL, crowd=crowd))
    assert report.lost == handle.lied
    assert any(what in text for text in report.truth.problems)


def test_drifting_counters_fail_with_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    report, _ = rehearse_with(GrowsStock, monkeypatch)
    assert not report.conservation_ok
    assert report.lost == 0
