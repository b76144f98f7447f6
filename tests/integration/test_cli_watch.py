"""`flashsale watch` while it runs: frames, rates, silence, and how it ends; and its arithmetic."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from flashsale import FlashSale, Sale, SaleHandle, SaleState, Sku, SkuView, Snapshot
from flashsale.cli import watching, words
from flashsale.cli.rates import rates_between
from flashsale.cli.stock_bar import cells
from flashsale.embedded import EmbeddedServer
from support import command


@pytest.fixture
def client(server_url: str) -> Iterator[FlashSale]:
    with FlashSale.from_url(server_url) as shop:
        yield shop


@pytest.fixture
def sale(client: FlashSale, sale_id: str) -> SaleHandle:
    return client.open(Sale(sale_id, [Sku("red", 100), Sku("blue", 50)], hold_ttl_ms=600_000))


def buy(sale: SaleHandle, buyer: str, units: int) -> None:
    sale.hold(buyer, {"red": units}, hold_id="one").unwrap()
    sale.confirm(buyer, "one").unwrap()


def frames(process: Any) -> Iterator[Any]:
    for line in process.stdout:
        yield json.loads(line)


def test_stock_that_is_held_and_not_paid_for_is_named(sale: SaleHandle, server_url: str) -> None:
    args = ("watch", sale.id, "--url", server_url, "--once")
    assert "unpaid" not in command.run(*args)[1]
    sale.hold("ann", {"red": 90}, hold_id="one").unwrap()
    told = " ".join(command.run(*args)[1].split())
    assert "sku 'red': 90% of what is not sold is held and unpaid (90 of 100)" in told
    (alarm,) = json.loads(command.run(*args, "--json")[1])["alarms"]
    assert alarm.startswith("sku 'red'")


def test_nobody_is_alarmed_while_the_first_holds_may_still_be_paid(server_url: str) -> None:
    opened = Sale("1111", [Sku("red", 1)], opens_at_ms=10**12, hold_ttl_ms=500)
    sku = SkuView("red", 1, 0, 0, 1, 0)
    for late_ms, alarmed in ((499, False), (500, True)):
        seen = Snapshot(opened, SaleState.RUNNING, 10**12 + late_ms, 1, 1, 1, None, {"red": sku})
        assert bool(watching.alarms_of(seen)) is alarmed


# --- as a process with pipes --------------------------------------------------------------


def test_each_frame_is_one_object_and_tells_the_rates(sale: SaleHandle, server_url: str) -> None:
    args = ("watch", sale.id, "--url", server_url, "--json", "--interval", "0.1")
    with command.start(*args) as process:
        seen = frames(process)
        assert next(seen)["rates"] is None
        buy(sale, "ann", 7)
        frame = next(frame for frame in seen if frame["skus"]["red"]["sold"])
        rates = frame["rates"]
        assert rates["sold_per_s"] == pytest.approx(7_000 / rates["over_ms"], abs=0.1)
        assert rates["taken_per_s"] == rates["sold_per_s"]
        assert rates["taken_per_s_by_sku"] == {"red": rates["taken_per_s"], "blue": 0}
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_a_reader_that_goes_away_ends_it_with_one_line_and_exit_code_2(
    sale: SaleHandle, server_url: str
) -> None:
    for form in (["--json"], []):
        args = ("watch", sale.id, "--url", server_url, "--interval", "0.1", *form)
        with command.start(*args) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.wait(timeout=60) == 2
            told = process.stderr.read()
            assert told == "flashsale: error: standard output cannot be written: Broken pipe\n"


def test_it_outlives_a_server_that_is_away_for_a_while() -> None:
    with EmbeddedServer.start(durability="fsync") as server:
        with FlashSale.from_url(server.url) as shop:
            sale = shop.open(Sale("1111", [Sku("red", 100)]))
            buy(sale, "ann", 3)
        args = ("watch", "1111", "--url", server.url, "--json", "--interval", "0.1")
        with command.start(*args) as process:
            assert process.stderr is not None
            seen = frames(process)
            next(seen)
            server.kill()
            assert process.stderr.readline().startswith("flashsale: no answer for ")
            server.restart()
            restarted_ms = time.time_ns() // 1_000_000
            frame = next(frame for frame in seen if frame["at_ms"] >= restarted_ms)
            assert frame["skus"]["red"]["sold"] == 3
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        assert process.returncode == 0


def test_it_ends_when_the_sale_is_purged(sale: SaleHandle, server_url: str) -> None:
    args = ("watch", sale.id, "--url", server_url, "--json", "--interval", "0.1")
    with command.start(*args) as process:
        seen = frames(process)
        next(seen)
        sale.end()
        assert next(frame for frame in seen if frame["state"] == "ended")
        sale.purge()
        *_, last = seen
        assert last["outcome"] == "purged"
        assert process.wait(timeout=60) == 1


# --- in a terminal ------------------------------------------------------------------------


def test_on_a_terminal_it_redraws_until_ctrl_c(sale: SaleHandle, server_url: str) -> None:
    args = ("watch", sale.id, "--interval", "0.1")
    with command.in_terminal(*args, FLASHSALE_URL=server_url) as terminal:
        terminal.wait_for("Ctrl-C ends")
        buy(sale, "ann", 9)
        terminal.wait_for("a second: ")
        terminal.wait_for("91.0 %")
        terminal.type("\x03")
        assert terminal.exit_code() == 0
    assert "\x1b[?25h" in terminal.seen, "the cursor must be back"
    assert "Traceback" not in terminal.seen
    assert "Aborted" not in terminal.seen


def test_on_a_small_terminal_the_skus_with_the_least_left_are_shown(
    client: FlashSale, sale_id: str, server_url: str
) -> None:
    skus = [Sku(f"sku-{n:02d}", 100) for n in range(40)]
    sale = client.open(Sale(sale_id, skus))
    sale.hold("ann", {"sku-33": 60, "sku-17": 50}, hold_id="one").unwrap()
    args = ("watch", sale.id)
    with command.in_terminal(*args, columns=80, rows=16, FLASHSALE_URL=server_url) as terminal:
        terminal.wait_for("Ctrl-C ends")
        terminal.type("\x03")
        assert terminal.exit_code() == 0
    first = terminal.seen.split("Ctrl-C ends")[0]
    assert first.index("sku-33") < first.index("sku-17")
    assert "37 more" in first
    assert first.count("\n") < 16


@pytest.mark.parametrize(
    ("answer", "state"), [("n", "running"), ("y", "ended"), ("\x03", "running")]
)
def test_end_asks_and_does_as_it_is_told(
    sale: SaleHandle, server_url: str, answer: str, state: str
) -> None:
    buy(sale, "ann", 4)
    with command.in_terminal("end", sale.id, FLASHSALE_URL=server_url) as terminal:
        terminal.wait_for("[y/N]")
        assert "146 units available, 0 held, 4 sold" in terminal.seen.replace("\r\n", " ")
        time.sleep(0.5)  # it says so before it reads; a signal in between would find nobody reading
        terminal.type(answer if answer == "\x03" else f"{answer}\n")
        code = terminal.exit_code()
    assert (code == 0) is (state == "ended")
    assert sale.snapshot().state is SaleState(state)


def test_a_large_audit_says_that_it_is_under_way_on_a_terminal_alone(
    sale: SaleHandle, server_url: str
) -> None:
    with command.in_terminal("audit", sale.id, FLASHSALE_URL=server_url) as terminal:
        assert terminal.exit_code() == 0
    assert "the books are right" in terminal.seen
    code, _, err = command.run("audit", sale.id, FLASHSALE_URL=server_url)
    assert (code, err) == (0, "")


# --- arithmetic ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((0, 0, 0, 100), [0, 0, 0, 10]),
        ((1, 0, 0, 99_999), [1, 0, 0, 9]),
        ((99_999, 0, 0, 1), [9, 0, 0, 1]),
        ((50, 25, 0, 25), [5, 3, 0, 2]),
        ((1, 1, 1, 9_997), [1, 1, 1, 7]),
        ((0, 0, 0, 0), [0, 0, 0, 10]),
    ],
)
def test_a_bar_fills_its_width_and_hides_nothing(
    parts: tuple[int, ...], expected: list[int]
) -> None:
    assert cells(parts, 10) == expected


@pytest.mark.parametrize("width", range(4, 25))
def test_a_bar_of_any_width_is_exactly_that_wide(width: int) -> None:
    for parts in ((1, 1, 1, 1), (7, 5, 3, 1), (10**12, 1, 0, 1), (3, 0, 0, 10**12)):
        drawn = cells(parts, width)
        assert sum(drawn) == width
        assert all((part > 0) is (cell > 0) for part, cell in zip(parts, drawn, strict=True))


def test_rates_are_by_the_shard_clock_and_only_within_an_epoch(sale: SaleHandle) -> None:
    before = sale.snapshot()
    buy(sale, "ann", 5)
    sale.restock({"blue": 10}, op_id="one")
    now = sale.snapshot()

    now = msgspec.structs.replace(now, at_ms=before.at_ms + 500)
    rates = rates_between(before, now)
    assert rates is not None
    assert (rates.taken_per_s, rates.sold_per_s, rates.entries_per_s) == (10.0, 10.0, 6.0)
    assert rates_between(None, now) is None
    assert rates_between(now, now) is None
    assert rates_between(msgspec.structs.replace(before, epoch=7), now) is None


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (12_345, "12 s"),
        (184_000, "3 min 4 s"),
        (180_000, "3 min"),
        (7_500_000, "2 h 5 min"),
        (190_800_000, "2 d 5 h"),
        (86_400_000 + 5_000, "1 d"),
    ],
)
def test_durations_name_their_two_largest_units(milliseconds: int, text: str) -> None:
    assert words.duration(milliseconds) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 5, "0 %"),
        (5, 5, "100 %"),
        (1, 100_000, "<0.1 %"),
        (99_999, 100_000, ">99.9 %"),
        (1, 3, "33.3 %"),
        (0, 0, "–"),
    ],
)
def test_a_share_is_0_or_100_only_where_it_is_exact(part: int, whole: int, text: str) -> None:
    assert words.share(part, whole) == text
