"""The measurement of a waiting room runs, and says of every figure what stands beside it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BOUNDS = {
    "join of 1,280, server CPU": 1.5,
    "join of 1,280 (all), server CPU": 1.5,
    "join, memory": 60,
    "growth from 1,024 to 2,048 people, less a bare HSET's": 10,
}
PEERS = {
    "joins, packed, one connection": ["ZADD NX + ZRANK", "INCR"],
    "join_many, 4,096 a call, tickets signed": [
        "the same without tickets",
        "INCR + HS256 JWT, 256 in flight",
    ],
    "signing a ticket": ["HS256 JWT"],
    "hold in a sale with admission, server CPU": ["without"],
}


def test_a_small_run_has_every_figure_with_its_verdict_and_its_peers() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.waiting", "--json", "--people", "1300"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["setup"]["people"] == 1_280  # whole batches
    assert {"machine", "pinned", "server", "redis", "pyjwt", "seconds"} <= printed["setup"].keys()
    figures = {figure["name"]: figure for figure in printed["figures"]}
    assert len(figures) == len(printed["figures"])
    assert {name: f["bound"] for name, f in figures.items() if f["bound"] is not None} == BOUNDS
    for name in BOUNDS:
        kept = figures[name]["value"] <= BOUNDS[name]
        assert figures[name]["verdict"] == ("PASS" if kept else "MISS")
    assert all(math.isfinite(figure["value"]) for figure in figures.values())
    for name, peers in PEERS.items():
        assert [peer["name"] for peer in figures[name]["peers"]] == peers
    subjects = {figure["subject"] for figure in figures.values()}
    assert subjects == {"join", "growth", "client", "position", "admission"}
