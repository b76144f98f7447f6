"""The measurement of fairness runs, and says of every figure what it may be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flashsale import FlashSale
from loadtests.fairness import __main__ as fairness
from loadtests.fairness import extras, spreading
from loadtests.fairness.crowd import make_crowd
from loadtests.targets.figures import Figure

ROOT = Path(__file__).resolve().parents[2]
ORDERS = "different lists of winners over permutations of the arrivals"
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
    assert figures[ORDERS]["value"] == 1
    parity = figures["win rate of the slowest cohort ÷ the fastest's, pooled"]
    assert parity["peers"][0]["value"] < 0.2 < parity["value"]
    assert len([f for f in figures.values() if f["bound"] is not None]) == 11
    must = {name for name, figure in figures.items() if figure["must"]}
    assert must == {
        "oversold, won twice, records that do not verify",
        "different lists of winners over permutations of the arrivals",
        "winners that differ, sending delayed by up to 2,000 ms",
    }
    assert {figures[name]["verdict"] for name in must} == {"PASS"}
    assert "50 orders through the server" in figures[ORDERS]["note"]
    for whose in ("the fastest cohort", "all viewers"):
        peaks = [
            figures[f"peak arrivals of {whose}, spread_ms={ms} ÷ none"]["value"]
            for ms in ("2,000", "4,000", "5,000")
        ]
        assert max(peaks) < 0.7
    assert all(f["verdict"] in ("PASS", "MISS") for f in figures.values() if f["bound"] is not None)
    assert picture.read_text().lstrip().startswith("<?xml")
    assert (printed["setup"]["drops"], printed["setup"]["viewers"]) == (2, 1500)


def test_what_is_promised_and_broken_is_said_and_ends_the_command_with_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A share may miss its bound by chance; a second list of winners is a defect."""
    small = ["--drops", "2", "--viewers", "300", "--quick", "--json"]

    def two_lists(shop: FlashSale, by_server: int, pure: int) -> Figure:
        return Figure(subject="fairness", name=ORDERS, value=2, unit="", bound=1, must=True)

    monkeypatch.setattr(extras, "permutations", two_lists)
    assert fairness.main(small) == 1
    told = capsys.readouterr()
    assert f"broken: {ORDERS} is 2, not 1" in told.err
    verdicts = {figure["verdict"] for figure in json.loads(told.out)["figures"]}
    assert "MISS" in verdicts


CROWD = make_crowd(3, 5_000, bias_ms=0)


@pytest.mark.parametrize("spread_ms", [500, 2_000, 5_000])
def test_no_way_of_delaying_has_a_lower_peak_than_the_bound_that_is_printed(spread_ms: int) -> None:
    arrival, chance = CROWD.arrival_ms, np.random.default_rng(1)
    least = spreading.least_of_any(arrival, spread_ms)
    ways = [
        chance.random(5_000),
        chance.beta(0.4, 0.4, 5_000),
        np.linspace(1, 0, 5_000)[np.argsort(np.argsort(arrival))],
    ]
    for way in ways:
        assert least <= spreading.busiest(arrival + spread_ms * way)
    even = spreading.least_even(arrival, spread_ms)
    assert least <= even


def test_those_whose_lag_is_within_the_cap_are_compared_and_no_others() -> None:
    within = CROWD.only(CROWD.lag_ms <= 12_000)
    assert 0 < within.size < CROWD.size
    assert len(within.arrival_ms) == len(within.again) == within.size
    assert within.lag_ms.max() <= 12_000
