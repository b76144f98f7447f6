"""The measuring program runs, and says what it measured and with what."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_small_run_prints_every_bounded_figure_with_its_verdict() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.costs", "--orders", "2560", "--rounds", "1", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert {"server", "durability", "batch", "cores", "pinned"} <= printed["setup"].keys()
    figures = {figure["name"]: figure for figure in printed["figures"]}
    bounded = {
        "hold",
        "refusal, sold out",
        "confirm",
        "release",
        "expire",
        "memory per held order",
        "single hold ÷ bare EVALSHA",
        "hold ÷ classic, one EVALSHA an order",
    }
    for name in bounded:
        figure = figures[name]
        assert figure["value"] > 0
        assert figure["verdict"] == ("PASS" if figure["value"] <= figure["bound"] else "MISS")
