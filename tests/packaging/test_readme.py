"""The README's code runs, its commands are real, and its figures are those of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from flashsale import Outcome, limits

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def block_after(heading: str, language: str) -> str:
    part = README.split(heading, 1)[1]
    return part.split(f"```{language}\n", 1)[1].split("```", 1)[0]


def test_the_ten_line_example_sells_one_lipstick(tmp_path: Path) -> None:
    example = tmp_path / "example.py"
    example.write_text(block_after("## Ten lines", "python"), "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "sold=1" in done.stdout
    assert done.stdout.strip().endswith("True")


def test_both_commands_are_one_line_each_and_set_up_everything() -> None:
    for marker in ("<!-- the run -->", "<!-- the tests -->"):
        command = block_after(marker, "sh").strip()
        assert "\n" not in command
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install")


def test_the_table_of_answers_names_every_outcome_of_an_order() -> None:
    table = README.split("### What to answer", 1)[1].split("## For operators", 1)[0]
    named = {name for name in re.findall(r"\b[A-Z][A-Z_]+\b", table) if name in Outcome.__members__}
    operators_only = {
        "OPENED", "RESUMED", "RESTOCKED", "BELOW_COMMITTED", "TOO_MANY_RESTOCKS", "STOCK_TOO_LARGE",
        "NOT_ENDED", "HOLDS_OUTSTANDING", "READERS_BEHIND", "MALFORMED",
    }  # fmt: skip
    assert named | operators_only == set(Outcome.__members__)


def test_the_bounds_are_those_of_the_code() -> None:
    assert f"{limits.ID_MAX} characters" in README
    assert f"{limits.LINES_MAX} lines" in README
    assert f"{limits.BATCH_MAX:,} operations" in README
    assert f"{limits.SKUS_MAX:,} skus" in README
    assert f"{limits.HOLDS_MAX} hold ids" in README
    assert f"{limits.CLOCK_JUMP_MAX_MS // 1000} s ahead" in README


def test_every_path_it_names_exists() -> None:
    table = README.split("## The map", 1)[1]
    for cell in re.findall(r"`((?:lua|src|tests|loadtests)/[^`]*)`", table):
        assert (ROOT / cell).exists(), cell
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / picture).is_file(), picture


def test_it_stays_short() -> None:
    assert len(README.splitlines()) <= 250
