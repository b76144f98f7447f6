"""The measuring program measures every target, and its verdicts follow from its figures."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

BOUNDS = {
    "server CPU per winning hold": 1.2,
    "server CPU per winning hold ÷ classic script, one an order": 0.25,
    "server CPU per attempt, 1000 a unit": 0.4,
    "server CPU per confirm": 1.6,
    "server CPU per release": 1.6,
    "server CPU per expired hold": 1.6,
    "memory per held order, ledger included": 120,
    "wire bytes per order, both directions": 48,
    "wire bytes ÷ classic script, one an order": 0.5,
    "awaited hold, uvloop": 400_000,
    "awaited hold ÷ classic script, one an order": 15,
    "hold_many, 4,096 a call": 700_000,
    "FlashSale, 8 threads ÷ classic script, one an order": 8,
    "fsync level ÷ memory level": 0.5,
    "single call, server CPU ÷ bare EVALSHA": 1.6,
    "single call, round trip ÷ bare EVALSHA, FlashSale": 1.3,
    "single call, round trip ÷ bare EVALSHA, AsyncFlashSale, uvloop": 1.3,
    "open load at half of capacity, p99, memory": 5,
    "open load at half of capacity, p99, fsync": 15,
    "growth from 2,048 to 4,096 attempts, less a bare HSET's": 10,
    "growth from 16 to 32 sales, less a bare HSET's": 10,
}
AT_LEAST = {
    "awaited hold, uvloop",
    "awaited hold ÷ classic script, one an order",
    "hold_many, 4,096 a call",
    "FlashSale, 8 threads ÷ classic script, one an order",
    "fsync level ÷ memory level",
}


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loadtests.targets", "--quick", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def verdict(name: str, figure: Mapping[str, Any]) -> str:
    kept = figure["value"] <= BOUNDS[name]
    if name in AT_LEAST:
        kept = figure["value"] >= BOUNDS[name]
    return "PASS" if kept else "MISS"


def test_a_quick_run_has_every_target_with_a_figure_a_bound_a_verdict_and_its_setup() -> None:
    done = run("--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    setup = printed["setup"]
    assert setup["server"].split()[0] in ("valkey", "redis")
    assert setup["batch"] == 256
    assert {"machine", "cores", "pinned", "python", "redis", "durability"} <= setup.keys()
    figures = {figure["name"]: figure for figure in printed["figures"]}
    assert {name for name, figure in figures.items() if figure["bound"] is not None} == set(BOUNDS)
    for name, figure in figures.items():
        assert math.isfinite(figure["value"]), name
        assert figure["value"] > 0 or name.startswith("growth"), name
        assert all(math.isfinite(peer["value"]) for peer in figure["peers"]), name
    for name, bound in BOUNDS.items():
        assert figures[name]["bound"] == bound
        assert figures[name]["at_least"] is (name in AT_LEAST)
        assert figures[name]["verdict"] == verdict(name, figures[name])


def test_one_subject_can_be_measured_alone_and_printed_for_a_readme() -> None:
    done = run("--only", "size", "--markdown")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows[1:]] == [
        "memory per held order, ledger included",
        "wire bytes per order, both directions",
        "wire bytes ÷ classic script, one an order",
    ]
    assert all("PASS" in row or "MISS" in row for row in rows[1:])


def test_an_unknown_subject_is_an_error() -> None:
    assert run("--only", "nonsense").returncode != 0
