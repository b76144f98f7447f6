"""The measurement of fairness runs, and says of every figure what it may be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--drops", "2", "--viewers", "1500", "--entrants", "2000", "--quick")


def test_a_small_run_has_every_figure_and_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "rates.svg"
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.fairness", "--json", "--png", str(picture), *SMALL],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    figures = {figure["name"]: figure for figure in printed["figures"]}
    assert figures["oversold, won twice, records that do not verify"]["value"] == 0
    assert figures["different lists of winners over permutations of the arrivals"]["value"] == 1
    parity = figures["win rate of the slowest cohort ÷ the fastest's, pooled"]
    assert parity["peers"][0]["value"] < 0.2 < parity["value"]
    assert len([f for f in figures.values() if f["bound"] is not None]) == 9
    assert all(f["verdict"] in ("PASS", "MISS") for f in figures.values() if f["bound"] is not None)
    assert picture.read_text().lstrip().startswith("<?xml")
    assert (printed["setup"]["drops"], printed["setup"]["viewers"]) == (2, 1500)
