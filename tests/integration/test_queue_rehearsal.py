"""A waiting room's rehearsal on real servers: it passes, and every engine that breaks is caught."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from faults.test_mutations import MUTANTS, Mutant, mutate
from flashsale import Outcome, places, rehearsal, scripts, tokens
from flashsale.cli.app import app
from flashsale.embedded import EmbeddedServer
from flashsale.rehearsal import QueueReport
from flashsale.rehearsal.queue.building import Ran, build_queue_report
from flashsale.rehearsal.queue.record import Act
from flashsale.rooms import RoomView
from support.queue_runs import SHORT, run_short


@pytest.fixture(scope="module")
def short() -> tuple[QueueReport, Ran]:
    return run_short()


@pytest.fixture
def lua(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the Lua files, which the library uses during the test."""
    folder = tmp_path / "lua"
    shutil.copytree(scripts.lua_folder(), folder)
    monkeypatch.setattr(scripts, "lua_folder", lambda: folder)
    scripts.load_script.cache_clear()
    yield folder
    scripts.load_script.cache_clear()


# --- an engine that is right --------------------------------------------------------------------


def test_a_short_queue_sells_everything_and_tells_everybody_the_truth(
    short: tuple[QueueReport, Ran],
) -> None:
    report, _ = short
    assert report.problems == []
    assert report.exit_code == (3 if report.void else 0)
    assert (report.oversold, report.lost, report.conservation_ok, report.audit_ok) == (0, 0, 1, 1)
    assert (report.people, report.units, report.outcomes["pay"]["confirmed"]) == (600, 12, 12)
    assert report.picture.sold[-1] == 12
    assert report.said_after_ms is not None
    assert report.said_after_ms <= 1_000
    assert report.outcomes["forge"] == {"wrong_ticket": 3 * report.bots}
    assert report.outcomes["grab"] == {"not_admitted": 3 * report.bots}
    assert report.outcomes["join"]["key_limit"] > 0
    assert report.outcomes["tab"]["joined"] > 50
    assert report.calibration["unlikely"].told > 300
    assert report.polls > 300
    assert report.ends["told that nothing is left"] > 300


def test_the_command_prints_one_object_and_leaves_a_given_server_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rehearsal, "WAITING_ROOM", SHORT)
    with EmbeddedServer.start() as server:
        args = ["rehearse", "waiting_room", "--url", server.url, "--scale", "1/3", "--json"]
        done = CliRunner().invoke(app, args, catch_exceptions=False)
    value = json.loads(done.stdout)
    assert done.exit_code == value["exit_code"]
    assert value["problems"] == []
    assert (value["scenario"], value["units"], value["people"]) == ("waiting_room", 4, 200)
    assert any("is purged from the server" in note for note in value["notes"])


# --- engines that break -------------------------------------------------------------------------


def has(report: QueueReport, text: str) -> bool:
    assert report.exit_code == 1
    return any(text in problem for problem in report.problems)


def broken(lua: Path, file: str, text: str, without: str) -> QueueReport:
    mutate(lua, Mutant(text, file, text, without))
    return run_short()[0]


def test_a_hold_script_without_the_admission_check(lua: Path) -> None:
    turns = "local turns = shard.admission and read_turns(keys, buyers, shard.now)"
    report = broken(lua, "inventory/hold", turns, "local turns = false")
    assert has(report, "held without a turn")


def test_an_admission_that_does_not_wait_for_the_call(
    lua: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(
        lua, Mutant("call", "waiting_room/admit", "if place > room.serving then", "if false then")
    )
    turn = "if place > room.over and place <= row.s then"
    mutate(lua, Mutant("turn", "lib/turn_of", turn, "if place > room.over then"))
    # People are told that they are called while they are not: they come, and are let in.
    honest = places.place_in

    def hasty(view: RoomView, *args: Any) -> Any:
        told = honest(view, *args)
        if told.outcome is Outcome.WAITING and view.serving:
            return msgspec.structs.replace(told, outcome=Outcome.CALLED)
        return told

    monkeypatch.setattr(places, "place_in", hasty)
    report, _ = run_short()
    assert has(report, "was let in before their place was called")


def test_a_room_that_calls_beyond_its_bound(lua: Path) -> None:
    report = broken(lua, "lib/advance_room", "room.bound - outstanding)", "room.joined)")
    assert has(report, "turns were outstanding")
    assert report.in_vain > 0


def test_a_room_that_gives_a_second_tab_a_second_place(lua: Path) -> None:
    text = "if before and (given[buyer] or not is_over(number, before < 0)) then"
    mutate(lua, Mutant("place", "waiting_room/join", text, "if false then"))
    assert has(run_short(turns_max=2)[0], "has two places")


def test_an_engine_without_its_stock_check(lua: Path) -> None:
    for mutant in MUTANTS:
        if mutant.safeguard.startswith("stock"):
            mutate(lua, mutant)
    text = "room.bound - outstanding)"  # else few are called for what is not there
    mutate(lua, Mutant("bound", "lib/advance_room", text, "room.joined)"))
    report, _ = run_short(turns_max=2)
    assert has(report, "units oversold")


def test_a_view_that_says_hopeless_while_units_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RoomView, "gone", property(lambda view: view.available < 6))
    report, _ = run_short()
    assert has(report, "hopeless was said to")


def test_tickets_that_work_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens.hmac, "compare_digest", lambda *_: True)
    report, _ = run_short()
    assert has(report, "tickets of others, changed or invented, were not refused as such")


# --- and what is falsified afterwards -----------------------------------------------------------


def falsified(ran: Ran, **changes: Any) -> QueueReport:
    return build_queue_report(msgspec.structs.replace(ran, **changes))


def test_a_paid_order_that_the_server_does_not_have_is_lost(short: tuple[QueueReport, Ran]) -> None:
    ran = short[1]
    (paid, *_) = (deed.person for deed in ran.record.deeds if deed.act is Act.PAY)
    records = {k: v for k, v in ran.told.records.items() if k != f"buyer-{paid:06d}"}
    report = falsified(ran, told=msgspec.structs.replace(ran.told, records=records))
    assert report.lost == 1
    assert has(report, "is lost: the server does not know it")


def test_an_audit_that_finds_something_fails_the_run(short: tuple[QueueReport, Ran]) -> None:
    ran = short[1]
    audit = msgspec.structs.replace(ran.told.audit, problems=["the books are wrong"])
    report = falsified(ran, told=msgspec.structs.replace(ran.told, audit=audit))
    assert has(report, "audit: the books are wrong")


def test_a_shared_state_that_never_says_that_nothing_is_left(
    short: tuple[QueueReport, Ran],
) -> None:
    ran = short[1]
    record = deepcopy(ran.record)
    for visit in record.visits.values():
        if visit.gone_ms:
            visit.hope_ms, visit.gone_ms, visit.end = visit.gone_ms + 1_500, 0, None
    samples = [s for s in ran.samples if not s.gone]
    report = falsified(ran, record=record, samples=samples)
    assert has(report, "the shared state said never that nothing is left")
    assert has(report, "people were not told that nothing is left")


def test_stock_that_is_left_while_people_wait(short: tuple[QueueReport, Ran]) -> None:
    ran = short[1]
    record = deepcopy(ran.record)
    record.unserved = 7
    samples = [*ran.samples[:-1], msgspec.structs.replace(ran.samples[-1], sold=11)]
    assert has(falsified(ran, record=record, samples=samples), "1 units were left unsold, though")


@pytest.mark.parametrize("option", ["--sale", "--curve"])
def test_it_has_its_own_sale_and_crowd(option: str) -> None:
    done = CliRunner().invoke(app, ["rehearse", "waiting_room", option, "mine"])
    assert done.exit_code == 2
    assert f"{option}: is not for waiting_room, which has its own" in done.stderr
