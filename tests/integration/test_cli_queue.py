"""`flashsale queue …`, and the waiting room in `flashsale watch`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from typer.testing import CliRunner

from flashsale import FlashSale, Key, Outcome, Rejected, Sale, SaleHandle, Sku
from flashsale.cli.app import app
from flashsale.rooms import RoomState, WaitingRoom

KEY = Key("main", b"s" * 32)


class Told(Struct):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on standard output."""
        assert self.out.count("\n") == 1
        return json.loads(self.out)


@pytest.fixture
def cli(server_url: str) -> Callable[..., Told]:
    def ask(*args: str) -> Told:
        env = {"FLASHSALE_URL": server_url, "COLUMNS": None}  # as wide as where it is piped
        result = CliRunner().invoke(app, args, env=env, catch_exceptions=False)
        return Told(result.exit_code, result.stdout, result.stderr)

    return ask


@pytest.fixture
def client(server_url: str) -> Iterator[FlashSale]:
    with FlashSale.from_url(server_url, keys=[KEY]) as shop:
        yield shop


@pytest.fixture
def sale(client: FlashSale, sale_id: str) -> SaleHandle:
    return client.open(Sale(sale_id, [Sku("red", 10)], hold_ttl_ms=600_000, admission=True))


@pytest.fixture
def room(sale: SaleHandle) -> SaleHandle:
    sale.queue.open(WaitingRoom(rate_per_s=1_000, turn_ttl_ms=60_000, conversion=1.0, margin=0.0))
    for number in range(30):
        assert sale.queue.join(f"b{number}").outcome in (Outcome.JOINED, Outcome.CALLED)
    while sale.queue.view().serving < 10:
        time.sleep(0.01)
    assert sale.queue.admit("b0").outcome is Outcome.ADMITTED
    assert sale.hold("b0", {"red": 1}, hold_id="one").outcome is Outcome.HELD
    return sale


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "room.toml").write_text("rate_per_s = 50\nturn_ttl_ms = 90_000\n")
    (tmp_path / "secret").write_bytes(KEY.secret)
    return str(tmp_path / "room.toml"), f"main={tmp_path / 'secret'}"


# --- opening ------------------------------------------------------------------------------------


def test_a_room_is_opened_from_a_file_with_the_services_key(
    sale: SaleHandle, cli: Callable[..., Told], files: tuple[str, str]
) -> None:
    file, key = files
    for _ in range(2):  # the same again changes nothing
        told = cli("queue", "open", sale.id, file, "--key", key, "--json")
        assert (told.code, told.json["rate_per_s"], told.json["waiting"]) == (0, 50.0, 0)
    assert sale.queue.view().room == WaitingRoom(rate_per_s=50, turn_ttl_ms=90_000)
    assert sale.queue.view().key == "main"
    Path(file).write_text("rate_per_s = 51\n")
    told = cli("queue", "open", sale.id, file, "--key", key)
    assert (told.code, "refused" in told.err) == (1, True)


def test_a_file_and_a_program_that_say_the_same_open_the_same_room(
    sale: SaleHandle, cli: Callable[..., Told], files: tuple[str, str]
) -> None:
    file, key = files
    Path(file).write_text("rate_per_s = 200\nconversion = 1\nmargin = 0\n")
    sale.queue.open(WaitingRoom(rate_per_s=200, conversion=1, margin=0))
    assert cli("queue", "open", sale.id, file, "--key", key).code == 0
    sale.queue.open(WaitingRoom(rate_per_s=200.0, conversion=1.0, margin=0.0))
    with pytest.raises(Rejected):
        sale.queue.open(WaitingRoom(rate_per_s=200, conversion=1, margin=0.5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate = 5", "room.toml: rate: is not a field; the fields are rate_per_s"),
        ("rate_per_s = 0", "rate_per_s: must be a number from 0.000001"),
        ("turn_ttl_ms = 5", "rate_per_s: is missing"),
        ("rate_per_s = ", "must be TOML"),
    ],
)
def test_what_is_wrong_with_a_room_file_is_named(
    text: str, message: str, sale: SaleHandle, cli: Callable[..., Told], files: tuple[str, str]
) -> None:
    file, key = files
    Path(file).write_text(text)
    told = cli("queue", "open", sale.id, file, "--key", key)
    assert told.code == 2
    assert message in told.err


def test_what_is_wrong_with_a_key_is_named_and_never_shown(
    sale: SaleHandle, cli: Callable[..., Told], files: tuple[str, str], tmp_path: Path
) -> None:
    file, _ = files
    (tmp_path / "short").write_bytes(b"hush")
    for key, message in (
        ("main", "--key: must be ID=FILE"),
        (f"main={tmp_path / 'none'}", "none cannot be read: No such file"),
        (f"main={tmp_path / 'short'}", "must be 32 to 1,024 bytes"),
    ):
        told = cli("queue", "open", sale.id, file, "--key", key)
        assert told.code == 2
        assert message in told.err
        assert "hush" not in told.err


# --- showing and steering -----------------------------------------------------------------------


def test_show_tells_the_operators_numbers_without_any_key(
    room: SaleHandle, cli: Callable[..., Told]
) -> None:
    told = cli("queue", "show", room.id, "--json").json
    assert (told["state"], told["waiting"], told["called"]) == ("running", 20, 10)
    assert (told["arrived"], told["no_shows"], told["outstanding"], told["bound"]) == (1, 0, 9, 9)
    assert told["eta_last"]["expected_ms"] > 0
    assert told["room"]["turn_ttl_ms"] == 60_000
    shown = " ".join(cli("queue", "show", room.id).out.split())
    for text in (room.id, "waiting", "9/9", "no-shows", "conversion", "last called in"):
        assert text in shown


def test_pause_resume_and_rate_steer_the_room(room: SaleHandle, cli: Callable[..., Told]) -> None:
    assert cli("queue", "pause", room.id, "--json").json["state"] == "paused"
    assert room.queue.view().state is RoomState.PAUSED
    assert "paused" in cli("queue", "show", room.id).out
    assert cli("queue", "resume", room.id, "--json").json["state"] == "running"
    assert cli("queue", "rate", room.id, "25", "--json").json["rate_per_s"] == 25.0
    assert room.queue.view().rate_per_s == 25.0


def test_a_rate_that_cannot_be_is_an_error(room: SaleHandle, cli: Callable[..., Told]) -> None:
    told = cli("queue", "rate", room.id, "0")
    assert (told.code, "rate_per_s: must be a number from 0.000001" in told.err) == (2, True)


@pytest.mark.parametrize("verb", ["show", "pause", "resume", "rate"])
def test_a_sale_without_a_waiting_room_is_refused(
    verb: str, sale: SaleHandle, cli: Callable[..., Told]
) -> None:
    more = ["5"] if verb == "rate" else []
    told = cli("queue", verb, sale.id, *more, "--json")
    assert (told.code, told.json["outcome"]) == (1, "room_unknown")
    told = cli("queue", verb, "nosuch", *more, "--json")
    assert (told.code, told.json["outcome"]) == (1, "sale_unknown")


def test_before_the_opening_it_says_when(sale: SaleHandle, cli: Callable[..., Told]) -> None:
    opens_at_ms = int(time.time() * 1000) + 90_000
    sale.queue.open(WaitingRoom(rate_per_s=5, opens_at_ms=opens_at_ms))
    assert cli("queue", "show", sale.id, "--json").json["opens_at_ms"] == opens_at_ms
    assert "opens in 1 min" in cli("queue", "show", sale.id).out


def test_showing_and_steering_need_no_key_even_while_the_lot_is_not_drawn(
    sale: SaleHandle, cli: Callable[..., Told]
) -> None:
    now_ms = sale.snapshot().at_ms
    sale.queue.open(WaitingRoom(rate_per_s=5, opens_at_ms=now_ms + 400))
    assert sale.queue.join("ann").outcome is Outcome.JOINED
    time.sleep(0.6)
    assert cli("queue", "show", sale.id, "--json").json["waiting"] == 1
    assert cli("queue", "pause", sale.id, "--json").json["state"] == "paused"
    assert sale.queue.view().seed, "whoever has the key reveals it"


# --- watch --------------------------------------------------------------------------------------


def test_watch_has_the_queue_if_there_is_one(room: SaleHandle, cli: Callable[..., Told]) -> None:
    frame = cli("watch", room.id, "--once", "--json").json
    assert (frame["queue"]["waiting"], frame["queue"]["arrived"]) == (20, 1)
    shown = cli("watch", room.id, "--once").out
    assert "outstanding" in shown
    assert "9/9" in shown


def test_watch_has_none_without(sale: SaleHandle, cli: Callable[..., Told]) -> None:
    assert cli("watch", sale.id, "--once", "--json").json["queue"] is None
    assert "outstanding" not in cli("watch", sale.id, "--once").out


@pytest.mark.parametrize("verb", ["open", "show", "pause", "resume", "rate"])
def test_every_verb_has_help_with_an_example(verb: str, cli: Callable[..., Told]) -> None:
    told = cli("queue", verb, "--help")
    assert told.code == 0
    assert f"$ flashsale queue {verb}" in told.out
