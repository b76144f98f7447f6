"""What cannot be printed ends a command with exit code 2 and one line; 1 would be "refused"."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

import flashsale
from flashsale import FlashSale, Key, Sale, SaleHandle, Sku, WaitingRoom
from support.command import environment
from support.draws import GOOD

VERIFIER = str(Path(flashsale.__file__).with_name("verify.py"))


@pytest.fixture
def sale(server_url: str, sale_id: str) -> Iterator[SaleHandle]:
    with FlashSale.from_url(server_url, keys=[Key("k", bytes(32))]) as shop:
        handle = shop.open(Sale(sale_id, [Sku("red", 100)]))
        handle.hold("ann", {"red": 2}, hold_id="one").unwrap()
        handle.queue.open(WaitingRoom(rate_per_s=1))
        yield handle


@pytest.fixture
def record(tmp_path: Path) -> Path:
    file = tmp_path / "record.json"
    file.write_text(json.dumps(next(iter(GOOD.values()))()))
    return file


COMMANDS: dict[str, Callable[[str, Path], list[str]]] = {
    "--version": lambda sale, record: ["--version"],
    "--help": lambda sale, record: ["--help"],
    "help of a command": lambda sale, record: ["rehearse", "--help"],
    "snapshot": lambda sale, record: ["snapshot", sale],
    "snapshot --json": lambda sale, record: ["snapshot", sale, "--json"],
    "watch": lambda sale, record: ["watch", sale],
    "watch --json": lambda sale, record: ["watch", sale, "--json"],
    "find": lambda sale, record: ["find", sale, "ann"],
    "find nobody --json": lambda sale, record: ["find", sale, "nobody", "--json"],
    "audit": lambda sale, record: ["audit", sale],
    "cues": lambda sale, record: ["cues", sale],
    "pause": lambda sale, record: ["pause", sale],
    "a refusal --json": lambda sale, record: ["purge", sale, "--yes", "--json"],
    "queue show": lambda sale, record: ["queue", "show", sale],
    "verify": lambda sale, record: ["verify", str(record)],
    "verify --json": lambda sale, record: ["verify", str(record), "--json"],
    "rehearse --json": lambda sale, record: [
        "rehearse", "hot_sku", "--seconds", "0.1", "--scale", "1/1000", "--json",
    ],
    "rehearse": lambda sale, record: [
        "rehearse", "hot_sku", "--seconds", "0.1", "--scale", "1/1000",
    ],
}  # fmt: skip


@contextmanager
def full() -> Iterator[dict[str, object]]:
    with open("/dev/full", "wb") as device:
        yield {"stdout": device}


@contextmanager
def unread() -> Iterator[dict[str, object]]:
    """A pipe whose reader has gone before the command begins."""
    read, write = os.pipe()
    os.close(read)
    try:
        yield {"stdout": write}
    finally:
        os.close(write)


@contextmanager
def closed() -> Iterator[dict[str, object]]:
    yield {"preexec_fn": lambda: os.close(1)}


LOST = {"full": full, "unread": unread, "closed": closed}


def told(command: list[str], how: str, **variables: str) -> tuple[int, str]:
    with LOST[how]() as options:
        done = subprocess.run(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**variables),
            timeout=100,
            check=False,
            **options,  # type: ignore[call-overload]
        )
    return done.returncode, done.stderr


@pytest.mark.parametrize("how", LOST)
@pytest.mark.parametrize("command", COMMANDS)
def test_output_that_cannot_be_written_is_one_line_and_exit_code_2(
    server_url: str, sale: SaleHandle, record: Path, command: str, how: str
) -> None:
    args = ["-m", "flashsale", *COMMANDS[command](sale.id, record)]
    buffered = "" if how == "full" else "1"
    code, err = told(args, how, FLASHSALE_URL=server_url, PYTHONUNBUFFERED=buffered)
    *notes, last = err.splitlines() or [""]
    assert code == 2, err
    assert last.startswith("flashsale: error: standard output cannot be written: "), err
    assert all(line.startswith("flashsale: ") for line in notes), err


@pytest.mark.parametrize("how", LOST)
@pytest.mark.parametrize("arguments", [[], ["--buyer", "ann", "--receipt", "00" * 32]])
def test_the_verifier_alone_says_so_too(record: Path, arguments: list[str], how: str) -> None:
    code, err = told([VERIFIER, str(record), *arguments], how)
    assert code == 2
    assert err.startswith("verify.py: standard output cannot be written: ")
    assert err.count("\n") == 1


def run(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flashsale", *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment(**variables),
        timeout=60,
        check=False,
    )


def test_a_file_that_cannot_be_written_is_one_line_and_exit_code_2(
    server_url: str, sale: SaleHandle
) -> None:
    at = sale.snapshot().at_ms - 1_000
    short = {"window_ms": 2_000, "lag_cap_ms": 0, "grace_ms": 0, "stock": {"red": 1}}
    sale.cue("drop", at=1, cue_time_ms=at, **short).settle()  # type: ignore[arg-type]
    for out in ("/dev/full", "/nowhere/record.json", "/"):
        done = run("record", sale.id, "drop", "--out", out, "--url", server_url)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert done.stderr.startswith("flashsale: error: ")


def test_a_closed_standard_error_changes_no_exit_code(server_url: str, sale: SaleHandle) -> None:
    for args, code in ((["snapshot", sale.id], 0), (["find", sale.id, "nobody"], 1)):
        for close in (lambda: os.close(2), lambda: os.dup2(os.open("/dev/full", os.O_WRONLY), 2)):
            done = subprocess.run(
                [sys.executable, "-m", "flashsale", *args, "--url", server_url],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                preexec_fn=close,
                env=environment(),
                timeout=60,
                check=False,
            )
            assert done.returncode == code


@pytest.mark.parametrize("size", ["0", "-1", "wide", "", "1e3", "99999999999999999999", "\u0663"])
def test_a_size_of_the_terminal_that_is_none_is_not_known(
    server_url: str, sale: SaleHandle, size: str
) -> None:
    plain = run("snapshot", sale.id, "--url", server_url).stdout
    odd = run(
        "snapshot", sale.id, "--url", server_url, COLUMNS=size, LINES=size, TERMINAL_WIDTH=size
    )
    assert (odd.returncode, odd.stderr) == (0, "")
    assert len(odd.stdout.splitlines()) == len(plain.splitlines())
    assert run("--help", TERMINAL_WIDTH=size, COLUMNS=size).stdout == run("--help").stdout


def test_the_module_is_the_command() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"flashsale {version('flashsale')}\n")
    assert "Usage: flashsale [OPTIONS]" in run("--help").stdout


def test_a_record_is_not_read_from_a_closed_standard_input() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flashsale", "verify", "-"],
        preexec_fn=lambda: os.close(0),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "flashsale: error: -: standard input is closed\n"
