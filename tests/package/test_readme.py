"""The README's code runs, its commands are real, and its figures are those of the code."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from flashsale import AsyncFlashSale, Outcome, Sale, Sku, WaitingRoom, limits
from flashsale.draw import proof_of

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def block_after(heading: str, language: str) -> str:
    part = README.split(heading, 1)[1]
    return part.split(f"```{language}\n", 1)[1].split("```", 1)[0]


def test_the_ten_line_example_sells_one_lipstick(tmp_path: Path) -> None:
    example = tmp_path / "example.py"
    code = block_after("## Ten lines", "python")
    assert len(list(filter(str.strip, code.splitlines()))) == 10
    example.write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Outcome.CONFIRMED" in done.stdout
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
        "NOT_ENDED", "HOLDS_OUTSTANDING", "READERS_BEHIND", "MALFORMED", "MEMORY_FULL",
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


def test_the_first_picture_is_a_live_room_that_passed_with_every_record_verified() -> None:
    first = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)[0]
    text = html.unescape((ROOT / first).read_text("utf-8")).replace("\xa0", " ")
    shown = " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", text))
    assert "flashsale rehearse live_room" in text
    assert re.search(r"Rehearsal of +live_room *: +passed", shown)
    assert "verified: 36 of 36 records" in shown
    assert "0 units oversold" in shown
    for label in ("first served", "with windows", "1.4 s", "3.5 s", "6.5 s", "10.5 s"):
        assert label in shown


async def test_the_live_room_example_draws_500_of_600() -> None:
    code = block_after("## Live rooms", "python")
    stock = 'stock={"lipstick": 500}'
    assert stock in code
    brief = f"{stock}, window_ms=2_000, lag_cap_ms=500, grace_ms=300"
    example: dict[str, Any] = {}
    exec(compile(code.replace(stock, brief), "README.md", "exec"), example)
    async with AsyncFlashSale.embedded() as shop:
        sale = await shop.open(Sale("1111", [Sku("lipstick", 500)]))
        now_ms = (await sale.snapshot()).at_ms
        nonce = await example["link_up"](sale, 90_000, now_ms)
        buyers = [f"b{n}" for n in range(600)]
        taps = [
            example["tap"](sale, one, 90_400, proof_of(nonce, "1111", "lipstick", one))
            for one in buyers
        ]
        outcomes = [outcome for outcome, _, _ in await asyncio.gather(*taps)]
        assert outcomes == [Outcome.ENTERED] * 600
        answers = await asyncio.gather(
            *(example["after_the_close"](sale, one) for one in buyers[:3])
        )
        assert {a.outcome for a in answers} <= {Outcome.HELD, Outcome.NOT_DRAWN}
        snapshot = await sale.snapshot()
        assert snapshot.skus["lipstick"].held == 500


async def test_the_waiting_room_example_queues_until_it_is_ones_turn() -> None:
    text = README.split("## Waiting rooms", 1)[1].split("## For operators", 1)[0]
    assert "WaitingRoom(rate_per_s=200, opens_at_ms=…)" in text
    example: dict[str, Any] = {"Outcome": Outcome}
    exec(compile(block_after("## Waiting rooms", "python"), "README.md", "exec"), example)
    async with AsyncFlashSale.embedded() as shop:
        sale = await shop.open(Sale("1111", [Sku("lipstick", 5)], admission=True))
        await sale.queue.open(WaitingRoom(rate_per_s=200))
        early = await sale.hold("b1", {"lipstick": 1}, hold_id="h")
        assert early.outcome is Outcome.NOT_ADMITTED
        outcome, ticket, poll_after_ms = await example["join"](sale, "b1", "phone-1")
        assert outcome is Outcome.JOINED
        assert poll_after_ms > 0
        async with asyncio.timeout(10):
            told = await example["poll"](sale, "b1", ticket)
            while told[0] is Outcome.WAITING:
                assert told[1] == 0
                await asyncio.sleep(told[4] / 1000)
                told = await example["poll"](sale, "b1", ticket)
        assert told[0] is Outcome.ADMITTED
        assert (await sale.hold("b1", {"lipstick": 1}, hold_id="h")).outcome is Outcome.HELD


def test_the_players_proof_is_made_of_parts_with_their_lengths() -> None:
    player = block_after("## Live rooms", "js")
    assert "[sale, cue, buyer].flatMap(part)" in player
    assert limits.ID_MAX < 256, "the player writes a length's last byte only"
    message = b"".join(bytes([0, 0, 0, len(p)]) + p for p in (b"1111", b"lipstick", b"b1"))
    nonce = "00ff" * 8
    told = hmac.new(bytes.fromhex(nonce), message, hashlib.sha256).hexdigest()
    assert told == proof_of(nonce, "1111", "lipstick", "b1")


def test_it_stays_short() -> None:
    assert len(README.splitlines()) <= 250
