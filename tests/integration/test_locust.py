"""Locust runs on real servers: one that is right, engines that break, generators that fail."""

from __future__ import annotations

import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import redis

from faults.test_mutations import MUTANTS, Mutant, mutate
from flashsale.embedded import EmbeddedServer
from flashsale.rehearsal import QueueReport, Report, RoomReport
from loadtests.surge.verdict import QueueSurgeReport, RoomSurgeReport, SurgeReport
from support.locusts import ROOT, started

SMALL = ("double11", "--seconds", "1.5", "--scale", "1/2000", "--seed", "4")


SHORTER = {
    "lag_cap_ms: int = 12_000": "lag_cap_ms: int = 1_500",
    "Cohort(1.4,": "Cohort(0.14,",
    "Cohort(3.5,": "Cohort(0.95,",
    "Cohort(6.5,": "Cohort(1.1,",
    "Cohort(10.5,": "Cohort(1.3,",
}


QUICKER = {
    "scenario": {
        "people: int = 95_600": "people: int = 5_000",
        "rate_per_unit_s: float = 0.1": "rate_per_unit_s: float = 1.0",
        "turn_ttl_ms: int = 20_000": "turn_ttl_ms: int = 3_000",
        "poll_max_ms: int = 5_000": "poll_max_ms: int = 1_000",
        "hold_ttl_ms: int = 12_000": "hold_ttl_ms: int = 1_000",
    },
    "crowd": {
        "react_s: float = 2.0": "react_s: float = 0.15",
        "choose_s: float = 1.0": "choose_s: float = 0.05",
        "pay_s: float = 3.0": "pay_s: float = 0.2",
    },
}


def check_right(code: int, told: dict[str, Any]) -> None:
    """What must hold of any run, however busy the machine is."""
    assert told["truth"]["problems"] == []
    assert (told["oversold"], told["lost"], told["conservation_ok"]) == (0, 0, True)
    assert code == told["exit_code"] == (3 if told["void"] else 0)
    assert told["offered"] == told["completed"] + told["dropped"] + told["unanswered"]


def test_a_small_double_11_ends_with_right_books_and_both_reports(tmp_path: Path) -> None:
    html = tmp_path / "report.html"
    with started(tmp_path, *SMALL, "--html", str(html), "--objective-p99-ms", "60000") as run:
        code, told = run.result()
    check_right(code, told)
    assert told["offered"] > 200
    assert told["completed"] == told["offered"]
    assert told["outcomes"]["held"] > 50
    assert told["later"]["confirm"]["confirmed"] > 20
    assert told["truth"]["checked"] > 50
    assert set(Report.__struct_fields__) <= set(told) == set(SurgeReport.__struct_fields__)
    assert told["scale"] == "rate 1/2000, time ×200"
    assert (told["loopback"], told["setup"]["server"]["embedded"]) == (True, True)
    assert told["generator"]["workers"] == len(told["generator"]["cpus"]) == 2
    assert told["latency_ms"]["p50"] >= told["schedule_lag_ms"]["p50"] > 0
    assert told["batch_mean"] >= 1
    assert counted_by_locust(html) == {"hold": told["outcomes"], **told["later"]}


def counted_by_locust(html: Path) -> dict[str, dict[str, int]]:
    """Requests by verb and outcome, out of Locust's own report."""
    row = r'"method": "(\w+)"[^{}]*"name": "(\w+)", "num_failures": 0, "num_requests": (\d+)'
    found: dict[str, dict[str, int]] = {}
    for verb, outcome, count in re.findall(row, html.read_text("utf-8")):
        found.setdefault(verb, {})[outcome] = int(count)
    return found


def test_an_engine_without_its_stock_check_fails_the_run_and_the_oversale_is_named(
    tmp_path: Path,
) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=ignored)
    shutil.copytree(ROOT / "lua", tmp_path / "lua")
    for mutant in MUTANTS:
        if mutant.safeguard.startswith("stock"):
            mutate(tmp_path / "lua", mutant)
    hot = ("hot_sku", "--seconds", "1.5", "--scale", "1/1000", "--seed", "1")
    with started(tmp_path, *hot, PYTHONPATH=str(tmp_path / "src")) as run:
        code, told = run.result()
    assert (code, told["exit_code"], told["passed"]) == (1, 1, False)
    assert told["oversold"] > 50
    assert f"sku 'lipstick': {told['oversold']} units oversold" in told["truth"]["problems"]


def test_orders_that_vanish_behind_the_engines_back_fail_the_run_as_lost(tmp_path: Path) -> None:
    with (
        EmbeddedServer.start() as server,
        redis.Redis.from_url(server.url) as raw,
        started(tmp_path, *SMALL, "--url", server.url) as run,
    ):
        run.wait_until_it_sends()
        (buyers,) = raw.keys("flashsale:*:buyers")
        names: list[bytes] = []
        while len(names) < 20:
            names = raw.hrandfield(buyers, 20)
        assert raw.hdel(buyers, *names) == 20
        code, told = run.result()
        assert raw.exists(buyers), "it is left to be looked at"
    assert (code, told["exit_code"]) == (1, 1)
    assert 0 < told["lost"] <= 40  # a buyer may have two orders
    assert any("is lost: the server does not know it" in text for text in told["truth"]["problems"])
    assert any("left on the server, to be looked at" in note for note in told["notes"])


def test_a_generator_that_is_starved_makes_the_run_void(tmp_path: Path) -> None:
    with started(tmp_path, *SMALL) as run:
        run.wait_until_it_sends()
        worker, _ = run.processes("--worker")
        worker.suspend()
        time.sleep(0.5)
        worker.resume()
        code, told = run.result()
    assert (code, told["exit_code"], told["passed"]) == (3, 3, False)
    assert any("schedule lag p99" in reason for reason in told["void"])
    assert told["truth"]["problems"] == []


def test_arrivals_that_find_no_room_are_dropped_counted_and_make_the_run_void(
    tmp_path: Path,
) -> None:
    crowded = ("hot_sku", "--seconds", "1", "--scale", "1/100", "--in-flight", "1")
    with started(tmp_path, *crowded) as run:
        code, told = run.result()
    assert (code, told["exit_code"]) == (3, 3)
    assert told["dropped"] > 0
    assert any("attempts were dropped" in reason for reason in told["void"])
    assert told["offered"] == told["completed"] + told["dropped"] + told["unanswered"]
    assert told["truth"]["problems"] == []


def test_a_killed_worker_makes_the_run_void_and_accuses_nobody(tmp_path: Path) -> None:
    with started(tmp_path, *SMALL) as run:
        run.wait_until_it_sends()
        run.processes("--worker")[0].kill()
        code, told = run.result()
    assert (code, told["exit_code"]) == (3, 3)
    assert len(told["generator"]["lost"]) == 1
    assert any("1 of 2 workers were lost" in reason for reason in told["void"])
    assert told["truth"]["problems"] == []


def test_ctrl_c_ends_every_process(tmp_path: Path) -> None:
    with started(tmp_path, *SMALL) as run:
        run.wait_until_it_sends()
        assert len(run.processes()) >= 5
        run.process.send_signal(signal.SIGINT)
        assert run.result() == (130, {})


def test_no_process_outlives_a_run_that_is_killed(tmp_path: Path) -> None:
    with started(tmp_path, *SMALL) as run:
        run.wait_until_it_sends()
        run.process.kill()
        run.process.wait()
        run.check_nothing_is_left(within_s=10)


def test_wrong_options_are_errors_with_exit_code_2(tmp_path: Path) -> None:
    with started(tmp_path, "hot_sku", "--workers", "0") as run:
        code, told = run.result()
    assert (code, told["error"]) == (2, "InvalidRequest")
    assert told["message"] == "--workers: must be 1 to 64"


def test_a_server_that_is_not_there_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    with started(tmp_path, "--url", "redis://127.0.0.1:1") as run:
        code, told = run.result()
    assert (code, told["error"]) == (2, "StoreUnavailable")


def test_a_live_room_ends_with_right_books_and_every_record_verified(tmp_path: Path) -> None:
    source = tmp_path / "src" / "flashsale" / "rehearsal" / "room" / "scenario.py"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=ignored)
    shutil.copytree(ROOT / "lua", tmp_path / "lua")
    text = source.read_text("utf-8")  # the same room with shorter lags, and a shorter cap
    for long, short in SHORTER.items():
        assert long in text
        text = text.replace(long, short)
    source.write_text(text, "utf-8")
    small = ("live_room", "--seconds", "1", "--scale", "1/2000", "--seed", "4")
    with started(tmp_path, *small, PYTHONPATH=str(tmp_path / "src")) as run:
        code, told = run.result()
    assert told["problems"] == []
    assert (told["oversold"], told["lost"], told["conservation_ok"]) == (0, 0, True)
    assert code == told["exit_code"] == (3 if told["void"] else 0)
    assert set(RoomReport.__struct_fields__) <= set(told) == set(RoomSurgeReport.__struct_fields__)
    assert (told["scenario"], told["verified"], told["cues"]) == ("live_room", 36, 36)
    assert told["checked"] == 2 * 36 * 5
    unheard = told["dropped"] + sum(told["errors"].values())
    assert told["outcomes"]["enter"]["entered"] + unheard > 1_750
    assert told["cohorts"][-1]["first"]["wins"] == 0 < told["cohorts"][-1]["windows"]["wins"]
    assert told["batch_mean"] >= 1


def quicker(folder: Path) -> str:
    """A copy of the library whose waiting room is smaller and over sooner; where it is."""
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "lua", folder / "lua")
    for name, changes in QUICKER.items():
        source = folder / "src" / "flashsale" / "rehearsal" / "queue" / f"{name}.py"
        text = source.read_text("utf-8")
        for long, short in changes.items():
            assert long in text
            text = text.replace(long, short)
        source.write_text(text, "utf-8")
    return str(folder / "src")


QUEUE = ("waiting_room", "--seconds", "3", "--scale", "1/10", "--seed", "4")


def test_a_waiting_room_ends_with_everything_sold_and_everybody_told(tmp_path: Path) -> None:
    html = tmp_path / "report.html"
    with started(tmp_path, *QUEUE, "--html", str(html), PYTHONPATH=quicker(tmp_path)) as run:
        code, told = run.result()
    assert told["problems"] == []
    assert (told["oversold"], told["lost"], told["conservation_ok"]) == (0, 0, True)
    assert code == told["exit_code"] == (3 if told["void"] else 0)
    names = set(QueueSurgeReport.__struct_fields__)
    assert set(QueueReport.__struct_fields__) <= set(told) == names
    assert (told["scenario"], told["people"], told["units"]) == ("waiting_room", 500, 10)
    assert told["outcomes"]["pay"]["confirmed"] == told["picture"]["sold"][-1] == 10
    assert told["outcomes"]["grab"] == {"not_admitted": 3 * told["bots"]}
    assert told["offered"] == told["completed"] + told["dropped"]
    assert counted_by_locust(html) == told["outcomes"]
    # A call decides one thing or more, but for the looks at the room: one a second and process.
    asked = told["completed"] - sum(told["outcomes"]["ask"].values())
    looks = told["generator"]["workers"] * (told["total_s"] + 1)
    assert asked >= asked / told["batch_mean"] - looks


def test_a_waiting_room_without_enforcement_fails_the_run(tmp_path: Path) -> None:
    path = quicker(tmp_path)
    turns = "local turns = shard.admission and read_turns(keys, buyers, shard.now)"
    mutate(tmp_path / "lua", Mutant("turns", "inventory/hold", turns, "local turns = false"))
    with started(tmp_path, *QUEUE, PYTHONPATH=path) as run:
        code, told = run.result()
    assert (code, told["exit_code"]) == (1, 1)
    assert any("held without a turn" in text for text in told["problems"])
