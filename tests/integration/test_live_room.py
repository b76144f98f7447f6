"""A live room on a real server: it passes, and whatever is falsified afterwards fails it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from flashsale import Answer, Outcome, OutcomeUnknown, rehearsal
from flashsale.cli.app import app
from flashsale.embedded import EmbeddedServer
from flashsale.rehearsal import RoomReport, render_room
from flashsale.rehearsal.measures import percentiles
from flashsale.rehearsal.room.report import build_room_report
from flashsale.rehearsal.room.scenario import is_entry
from loadtests.surge.verdict import Generator, add_to_room
from support.rooms import SHORT, Ran

NAMES = "scenario cohorts parity verified oversold conservation_ok server durability seconds"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start() as started:
        yield started


@pytest.fixture(scope="module")
def ran() -> Ran:
    return Ran()


def test_a_room_gives_every_cohort_its_share_and_first_come_first_served_does_not(
    ran: Ran,
) -> None:
    report = ran.report
    assert report.problems == []
    assert report.exit_code == (3 if report.void else 0)
    assert (report.oversold, report.lost, report.conservation_ok) == (0, 0, True)
    assert (report.verified, report.cues, report.audit_ok) == (6, 6, True)
    fast, slow = report.cohorts
    assert (fast.taps, slow.taps, fast.first.wins, slow.first.wins) == (240, 240, 144, 0)
    assert fast.windows.wins + slow.windows.wins == 144
    assert report.parity_ok
    assert report.parity_first == 0.0
    assert report.outcomes["enter"]["entered"] > 470
    assert report.outcomes["enter"]["too_early"] > 40
    assert report.outcomes["hold"] == {"sold_out": 336, "held": 144}
    assert report.checked == 288


def broken(ran: Ran, **changes: Any) -> RoomReport:
    return build_room_report(**(ran.parts() | changes))


def winner_of(settled: Any, outcome: Outcome = Outcome.HELD) -> int:
    return next(o for o, answer in settled.results.items() if answer.outcome is outcome)


def test_a_record_that_was_changed_fails_the_run(ran: Ran) -> None:
    settled = ran.parts()["settled"]
    settled.records[2] = settled.records[2] | {"server_seed": "00" * 32}
    report = broken(ran, settled=settled)
    assert (report.exit_code, report.verified) == (1, 5)
    assert any("the record of cue 3 does not verify: seed" in text for text in report.problems)


def test_a_record_that_could_not_be_had_fails_the_run(ran: Ran) -> None:
    settled = ran.parts()["settled"]
    settled.records[0] = None
    report = broken(ran, settled=settled)
    assert (report.exit_code, report.verified) == (1, 5)
    assert "cue 1 has no record" in report.problems


def test_a_win_that_the_viewer_was_not_told_is_lost(ran: Ran) -> None:
    settled = ran.parts()["settled"]
    order = winner_of(settled)
    settled.results[order] = msgspec.structs.replace(
        settled.results[order], outcome=Outcome.NOT_DRAWN, deadline_ms=None
    )
    report = broken(ran, settled=settled)
    assert (report.exit_code, report.lost) == (1, 1)
    assert any("was answered not_drawn, which is not what the record" in p for p in report.problems)
    assert any("was never acknowledged" in text for text in report.problems)


def test_a_win_that_is_in_no_record_is_lost_and_a_unit_too_many_is_oversold(ran: Ran) -> None:
    settled = ran.parts()["settled"]
    winner = settled.results[winner_of(settled)]
    order = winner_of(settled, Outcome.NOT_DRAWN)
    told = settled.results[order]
    settled.results[order] = Answer(
        Outcome.HELD,
        told.sale,
        told.buyer,
        told.hold_id,
        deadline_ms=winner.deadline_ms,
        at_ms=told.at_ms,
    )
    report = broken(ran, settled=settled)
    assert (report.exit_code, report.oversold, report.lost) == (1, 1, 2)


def test_an_entry_that_counts_and_is_in_no_record_is_lost(ran: Ran) -> None:
    settled = ran.parts()["settled"]
    order = winner_of(settled)
    settled.receipts[order] = "ab" * 32
    report = broken(ran, settled=settled)
    assert (report.exit_code, report.lost) == (1, 1)
    assert any("is not in the record" in text for text in report.problems)


def test_an_answer_that_never_came_accuses_nobody(ran: Ran) -> None:
    parts = ran.parts()
    facts, settled = parts["facts"], parts["settled"]
    order = winner_of(settled)
    for attempt, other in enumerate(parts["plan"].plan.order):
        if other == order:
            facts.results[attempt] = OutcomeUnknown("the reply was lost")
    del settled.results[order], settled.receipts[order]
    report = broken(ran, facts=facts, settled=settled)
    assert report.problems == []
    assert report.exit_code == (3 if report.void else 0)


def test_if_only_the_fastest_win_with_windows_too_parity_is_beyond_noise(ran: Ran) -> None:
    parts = ran.parts()
    plan, facts = parts["plan"], parts["facts"]
    settled = parts["settled"]
    settled.results = {
        order: answer
        for order, answer in settled.results.items()
        if plan.cohort_of(order) == 0 or answer.outcome is not Outcome.HELD
    }
    report = broken(ran, facts=facts, settled=settled)
    assert (report.exit_code, report.parity, report.parity_ok) == (1, 0.0, False)
    assert any("lag decides who wins: parity 0.000" in text for text in report.problems)


def test_a_late_generator_and_dropped_taps_make_a_run_void(ran: Ran) -> None:
    facts = msgspec.structs.replace(ran.parts()["facts"], dropped=3)
    report = broken(ran, facts=facts, schedule_lag=percentiles([500.0]))
    assert report.exit_code == 3
    assert any("schedule lag p99 500 ms" in text for text in report.void)
    assert any("3 taps were dropped" in text for text in report.void)


def test_under_locust_wrong_books_fail_a_run_that_the_generator_would_make_void(ran: Ran) -> None:
    def code(report: RoomReport, *, lost: int = 0, p99_ms: float = 1.0) -> int:
        generator = Generator(
            workers=2,
            cpus=[0.1, 0.1],
            lost=[0] * lost,
            cores=1,
            server_core=0,
            in_flight=9,
            locust="2",
        )
        judged = add_to_room(
            msgspec.structs.replace(report, void=[]),
            generator,
            latency=percentiles([p99_ms]),
            batch_mean=1.0,
            objective_p99_ms=50,
        )
        assert judged.passed == (judged.exit_code == 0)
        assert (judged.loopback, judged.generator_cpu >= 0.2) == (True, True)
        return judged.exit_code

    right = msgspec.structs.replace(ran.report, exit_code=0)
    wrong = msgspec.structs.replace(ran.report, exit_code=1)
    assert [code(right), code(right, p99_ms=99), code(right, lost=1), code(wrong, lost=1)] == [
        0,
        1,
        3,
        1,
    ]


def test_the_screen_shows_two_rows_of_bars_and_what_was_verified(ran: Ran) -> None:
    for ascii_only in (False, True):
        console = Console(width=100, file=io.StringIO())
        console.print(render_room(ran.report, ascii_only=ascii_only))
        shown = console.file.getvalue()
        for text in ("first served", "with windows", "60.0%", "0.0%", "verified: 6 of 6 records"):
            assert text in shown
        assert ascii_only != any(sign in shown for sign in "█±")


def test_the_command_prints_one_object_and_leaves_a_given_server_empty(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "LIVE_ROOM", SHORT)
    args = ["rehearse", "live_room", "--url", server.url, "--scale", "1/100", "--json"]
    done = CliRunner().invoke(app, args, catch_exceptions=False)
    value = json.loads(done.stdout)
    assert done.exit_code == value["exit_code"]
    assert value["problems"] == []
    assert set(NAMES.split()) <= set(value)
    assert (value["scenario"], value["verified"]) == ("live_room", 6)
    assert {"entrants", "first", "windows"} <= set(value["cohorts"][0])
    assert any("is purged from the server" in note for note in value["notes"])


@pytest.mark.parametrize("option", ["--sale", "--curve"])
def test_a_room_has_its_own_sale_and_crowd(option: str) -> None:
    done = CliRunner().invoke(app, ["rehearse", "live_room", option, "mine"])
    assert done.exit_code == 2
    assert f"{option}: is not for live_room, which has its own" in done.stderr


def test_entries_and_holds_are_told_apart() -> None:
    assert [is_entry(order) for order in range(4)] == [True, False, True, False]
