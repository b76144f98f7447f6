"""The operator's commands: what they print, what they refuse, and their exit codes."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from msgspec import Struct
from typer.testing import CliRunner

from flashsale import FlashSale, Key, Outcome, Sale, SaleHandle, SaleState, Sku
from flashsale.cli.app import app
from flashsale.keys import ShardKeys
from support import command

MANY_COMMANDS = (
    ("watch", "1111", "--once"),
    ("snapshot", "1111"),
    ("find", "1111", "buyer-42"),
    ("audit", "1111"),
    ("cues", "1111"),
    ("record", "1111", "lipstick"),
    ("pause", "1111"),
    ("resume", "1111"),
    ("restock", "1111", "red=+1", "--op-id", "one"),
    ("repair", "1111"),
    ("end", "1111", "--yes"),
    ("purge", "1111", "--yes"),
)


class Told(Struct):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on standard output."""
        assert self.out.endswith("\n")
        assert self.out.count("\n") == 1
        return json.loads(self.out)


def ask(*args: str, url: str | None = None) -> Told:
    env = {"FLASHSALE_URL": url, "COLUMNS": None}  # as wide as where it is piped
    result = CliRunner().invoke(app, args, env=env, catch_exceptions=False)
    return Told(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def cli(server_url: str) -> Callable[..., Told]:
    """The command line, with the test server's URL in the environment."""
    return lambda *args: ask(*args, url=server_url)


@pytest.fixture
def client(server_url: str) -> Iterator[FlashSale]:
    with FlashSale.from_url(server_url) as shop:
        yield shop


@pytest.fixture
def sale(client: FlashSale, sale_id: str) -> SaleHandle:
    skus = [Sku("red", 100, limit=5), Sku("blue", 1_000), Sku("green", 0)]
    handle = client.open(Sale(sale_id, skus, hold_ttl_ms=600_000))
    assert handle.hold("ann", {"red": 2, "blue": 3}, hold_id="one").outcome is Outcome.HELD
    assert handle.confirm("ann", "one").outcome is Outcome.CONFIRMED
    assert handle.hold("bob", {"red": 4}, hold_id="two").outcome is Outcome.HELD
    return handle


# --- looking ------------------------------------------------------------------------------


def test_snapshot_shows_every_sku_and_the_total(sale: SaleHandle, cli: Callable[..., Told]) -> None:
    told = cli("snapshot", sale.id)
    assert (told.code, told.err) == (0, "")
    rows = {line.split()[0]: line.split() for line in told.out.splitlines() if line.split()}
    assert rows[sale.id][1] == "running"
    assert rows["red"][2:] == ["94", "94.0", "%", "4", "2", "100"]
    assert rows["blue"][2:] == ["997", "99.7", "%", "0", "3", "1,000"]
    assert rows["green"][2:] == ["0", "–", "0", "0", "0"]
    assert rows["total"][2:] == ["1,091", "99.2", "%", "4", "5", "1,100"]
    assert "4 units held; the first deadline is in 9 min" in told.out


def test_snapshot_as_json_has_the_definition(sale: SaleHandle, cli: Callable[..., Told]) -> None:
    value = cli("snapshot", sale.id, "--json").json
    assert value["sale"]["skus"][0] == {"id": "red", "stock": 100, "limit": 5}
    assert (value["state"], value["skus"]["red"]["held"]) == ("running", 4)


def test_watch_once_is_one_frame(sale: SaleHandle, cli: Callable[..., Told]) -> None:
    told = cli("watch", sale.id, "--once")
    assert told.code == 0
    assert told.out.count("total") == 1
    value = cli("watch", sale.id, "--once", "--json").json
    expected = {"allotment": 1_100, "available": 1_091, "set_aside": 0, "held": 4, "sold": 5}
    assert (value["total"], value["rates"], value["sale"]) == (expected, None, sale.id)


def test_find_shows_one_hold_by_its_ids_and_by_its_ref(
    sale: SaleHandle, cli: Callable[..., Told]
) -> None:
    hold = sale.find("bob", "two")
    assert hold is not None
    by_ids, by_ref = cli("find", sale.id, "bob", "two"), cli("find", hold.ref)
    assert by_ids.code == by_ref.code == 0
    assert "4 × red" in by_ids.out
    assert "(in 9 min" in by_ids.out
    for told in (cli("find", sale.id, "bob", "two", "--json"), cli("find", hold.ref, "--json")):
        assert told.json["holds"][0]["lines"] == {"red": 4}
        assert told.json["holds"][0]["state"] == "held"
        assert told.json["holds"][0]["ref"] == hold.ref


def test_find_shows_every_hold_of_a_buyer(sale: SaleHandle, cli: Callable[..., Told]) -> None:
    sale.hold("ann", {"red": 1}, hold_id="three")
    sale.release("ann", "never-arrived")
    sale.refund("ann", "one", lines={"blue": 1}, op_id="back")
    told = cli("find", sale.id, "ann")
    assert told.code == 0
    states = ["confirmed", "held", "released before it arrived"]
    assert [state for state in states if state in told.out] == states
    holds = cli("find", sale.id, "ann", "--json").json["holds"]
    assert [hold["hold_id"] for hold in holds] == ["one", "three", "never-arrived"]
    assert holds[0]["refunds"] == {"back": {"blue": 1}}
    assert "1 × blue (op id back)" in cli("find", sale.id, "ann", "one").out


@pytest.mark.parametrize("hold_id", [(), ("nothing",)])
def test_find_says_that_there_is_none_with_exit_code_1(
    sale: SaleHandle, cli: Callable[..., Told], hold_id: tuple[str, ...]
) -> None:
    told = cli("find", sale.id, "nobody", *hold_id)
    assert told.code == 1
    assert told.out.strip() == ""
    assert told.err.startswith("flashsale: buyer 'nobody' has no hold")
    told = cli("find", sale.id, "nobody", *hold_id, "--json")
    assert (told.code, told.json["holds"]) == (1, [])


def test_a_ref_that_is_not_ours_is_an_error(cli: Callable[..., Told]) -> None:
    told = cli("find", "not-a-ref")
    assert (told.code, told.out) == (2, "")
    assert told.err == (
        "flashsale: error: ref: must be the `ref` of an answer (sale__buyer__hold-id); "
        "with a buyer, pass hold_id too\n"
    )


def test_audit_says_that_the_books_are_right(sale: SaleHandle, cli: Callable[..., Told]) -> None:
    told = cli("audit", sale.id)
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith(f"{sale.id}  the books are right\n")
    value = cli("audit", sale.id, "--json").json
    assert (value["ok"], value["problems"], value["holds"]) == (True, [], 2)


def test_repair_applies_a_torn_entry_or_says_that_there_is_none(
    sale: SaleHandle, cli: Callable[..., Told], raw: redis.Redis
) -> None:
    told = cli("repair", sale.id)
    assert (told.code, "nothing is torn" in told.out) == (0, True)
    now = sale.snapshot()
    sequence, fields = now.sequence + 1, {"t": str(now.at_ms), "s": "paused"}
    raw.xadd(ShardKeys.of(sale.id).ledger, dict(fields), id=f"1-{sequence}")
    value = cli("repair", sale.id, "--json").json
    assert (value["ok"], value["entry"]) == (True, f"1-{sequence}")
    assert sale.snapshot().state.value == "paused"


def test_repair_that_cannot_tell_changes_nothing_with_exit_code_1(
    sale: SaleHandle, cli: Callable[..., Told], raw: redis.Redis
) -> None:
    sequence = sale.snapshot().sequence + 1
    fields: dict[Any, Any] = {"t": "1", "rb": b"\x91\xa6nobody", "ri": b"\x91\xa1h"}
    raw.xadd(ShardKeys.of(sale.id).ledger, fields, id=f"1-{sequence}")
    told = cli("repair", sale.id)
    assert (told.code, "hold 'h' of buyer 'nobody'" in told.out) == (1, True)


def test_audit_names_what_is_wrong_with_exit_code_1(
    sale: SaleHandle, cli: Callable[..., Told], raw: redis.Redis
) -> None:
    raw.hincrby(ShardKeys.of(sale.id).stock, "0a", 7)
    told = cli("audit", sale.id)
    assert told.code == 1
    assert "problems" in told.out.splitlines()[0]
    assert "'red'" in told.out
    told = cli("audit", sale.id, "--json")
    assert (told.code, told.json["ok"]) == (1, False)
    assert "'red'" in told.json["problems"][0]


# --- steering -----------------------------------------------------------------------------

SALE_FILE = """
id = "{id}"
[[skus]]
id = "red"
stock = 10
[[skus]]
id = "blue"
stock = {blue}
"""


def test_cues_and_their_records(
    sale: SaleHandle, cli: Callable[..., Told], server_url: str, tmp_path: Path
) -> None:
    at = time.time_ns() // 1_000_000 - 1_800
    with FlashSale.from_url(server_url, keys=[Key("k", bytes(32))]) as shop:
        own = shop.sale(sale.id)
        short: dict[str, Any] = {"window_ms": 2_000, "lag_cap_ms": 0, "grace_ms": 0, "proof": False}
        cue = own.cue("first", at=1, cue_time_ms=at, stock={"blue": 7}, **short)
        cue.enter("ann", {"blue": 2}, position_ms=1)
        own.cue("later", at=1, cue_time_ms=at + 60_000, stock={"blue": 10})
        early = cli("record", sale.id, "first")
        assert (early.code, early.out) == (1, "")
        assert "the cue takes entries" in early.err
        cue.freeze()
        frozen = cli("cue", "freeze", sale.id, "first", "--json").json
        assert (frozen["digest"], frozen["entrants"]) == (cue.view().digest, 1)
        assert cli("cue", "freeze", sale.id, "later").code == 1
        cue.settle()
        early = cli("cue", "give-back", sale.id, "later")
        assert (early.code, early.out) == (1, "")
        assert cli("cue", "void", sale.id, "later", "rain", "--yes").code == 0
        assert own.snapshot().skus["blue"].set_aside == 10
        given = cli("cue", "give-back", sale.id, "later", "--json").json
        assert (given["outcome"], given["cue"]) == ("given_back", "later")
        own.cue("open", at=1, cue_time_ms=at + 60_000, stock={"blue": 10})
    told = cli("cues", sale.id)
    assert told.code == 0
    for word in ("first", "revealed", "void: rain", "open"):
        assert word in told.out
    shown = {cue["id"]: cue for cue in cli("cues", sale.id, "--json").json["cues"]}
    assert "nonce" not in shown["open"]["cue"]
    assert shown["first"]["entries"] == shown["first"]["awarded"] == 1
    file = tmp_path / "record.json"
    assert cli("record", sale.id, "first", "--out", str(file)).code == 0
    again, kept = cli("record", sale.id, "first").json, json.loads(file.read_text())
    of_the_telling = {"told_at_ms": again["told_at_ms"], "seal": again["seal"]}
    assert kept | of_the_telling == again
    assert cli("verify", str(file)).code == 0
    unknown = cli("record", sale.id, "none")
    assert (unknown.code, unknown.out) == (1, "")
    assert "no such cue" in unknown.err


def test_open_creates_the_sale_of_a_file_once(
    sale_id: str, cli: Callable[..., Told], client: FlashSale, tmp_path: Path
) -> None:
    file = tmp_path / "sale.toml"
    file.write_text(SALE_FILE.format(id=sale_id, blue=90))
    told = cli("open", str(file))
    assert (told.code, told.out) == (0, f"{sale_id} opened: 100 units of 2 skus\n")
    assert client.sale(sale_id).snapshot().skus["blue"].available == 90
    again = cli("open", str(file), "--json")
    assert (again.code, again.json["outcome"], again.json["replayed"]) == (0, "opened", True)
    file.write_text(SALE_FILE.format(id=sale_id, blue=91))
    other = cli("open", str(file))
    assert (other.code, other.out) == (1, "")
    assert other.err.startswith(f"flashsale: refused: sale '{sale_id}': conflict (")


def test_open_names_the_field_that_is_wrong(cli: Callable[..., Told], tmp_path: Path) -> None:
    file = tmp_path / "sale.toml"
    file.write_text(SALE_FILE.format(id="1111", blue=-1))
    told = cli("open", str(file))
    assert told.code == 2
    assert "stock of 'blue'" in told.err
    assert told.err.count("\n") == 1
    missing = cli("open", str(tmp_path / "nothing.toml"))
    assert (missing.code, "cannot be read" in missing.err) == (2, True)


def test_pause_and_resume(sale: SaleHandle, cli: Callable[..., Told]) -> None:
    assert cli("pause", sale.id).out == f"{sale.id} paused: the sale is paused\n"
    assert sale.snapshot().state is SaleState.PAUSED
    assert "done before" in cli("pause", sale.id).out
    told = cli("resume", sale.id, "--json")
    assert (told.code, told.json["outcome"], told.json["replayed"]) == (0, "resumed", False)
    assert sale.snapshot().state is SaleState.RUNNING


def test_restock_changes_allotments_once(sale: SaleHandle, cli: Callable[..., Told]) -> None:
    args = ("restock", sale.id, "red=+500", "blue=-7", "--op-id", "truck-3")
    told = cli(*args)
    assert (told.code, told.out) == (0, f"{sale.id} restocked: red +500, blue -7\n")
    again = cli(*args, "--json").json
    assert (again["replayed"], again["changes"]) == (True, {"red": 500, "blue": -7})
    units = sale.snapshot().skus
    assert (units["red"].allotment, units["blue"].allotment) == (600, 993)


@pytest.mark.parametrize(
    ("change", "outcome"), [("red=-95", "below_committed"), ("mauve=+1", "sku_unknown")]
)
def test_a_refused_restock_says_why_with_exit_code_1(
    sale: SaleHandle, cli: Callable[..., Told], change: str, outcome: str
) -> None:
    args = ("restock", sale.id, change, "--op-id", "truck-3")
    told = cli(*args)
    assert (told.code, told.out) == (1, "")
    meaning = Outcome[outcome.upper()].meaning
    assert told.err.startswith(f"flashsale: refused: sale '{sale.id}': {outcome} ({meaning})")
    told = cli(*args, "--json")
    assert (told.code, told.json["outcome"], told.json["meaning"]) == (1, outcome, meaning)
    assert sale.snapshot().skus["red"].allotment == 100


@pytest.mark.parametrize(
    "change", ["red", "red=5", "red=+", "=+5", "red=+5.5", "red=++5", "red=+٣"]
)
def test_a_change_without_a_sku_and_a_sign_is_an_error(
    sale: SaleHandle, cli: Callable[..., Told], change: str
) -> None:
    told = cli("restock", sale.id, change, "--op-id", "truck-3")
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("flashsale: error: ")
    assert sale.snapshot().skus["red"].allotment == 100


def test_a_sku_named_twice_is_an_error(sale: SaleHandle, cli: Callable[..., Told]) -> None:
    told = cli("restock", sale.id, "red=+1", "red=+2", "--op-id", "truck-3")
    assert (told.code, "named twice" in told.err) == (2, True)


def test_restock_takes_a_sku_with_an_equals_sign(
    client: FlashSale, sale_id: str, cli: Callable[..., Told]
) -> None:
    handle = client.open(Sale(sale_id, [Sku("size=xl", 1)]))
    assert cli("restock", sale_id, "size=xl=+4", "--op-id", "one").code == 0
    assert handle.snapshot().skus["size=xl"].allotment == 5


def test_end_and_purge_with_yes(sale: SaleHandle, cli: Callable[..., Told]) -> None:
    assert cli("purge", sale.id, "--yes").err.startswith(
        f"flashsale: refused: sale '{sale.id}': not_ended"
    )
    assert cli("end", sale.id, "--yes").out == f"{sale.id} ended: the sale has ended\n"
    assert cli("pause", sale.id).code == 1
    refused = cli("purge", sale.id, "--yes", "--json")
    assert (refused.code, refused.json["outcome"]) == (1, "holds_outstanding")
    sale.release("bob", "two")
    assert cli("purge", sale.id, "-y", "--json").json["outcome"] == "purged"
    gone = cli("snapshot", sale.id)
    assert (gone.code, "purged" in gone.err) == (1, True)


@pytest.mark.parametrize("verb", ["end", "purge"])
def test_what_cannot_be_taken_back_needs_yes_where_nobody_can_be_asked(
    sale: SaleHandle, cli: Callable[..., Told], verb: str
) -> None:
    told = cli(verb, sale.id)
    assert (told.code, told.out) == (2, "")
    assert "--yes" in told.err
    assert sale.snapshot().state is SaleState.RUNNING


# --- errors -------------------------------------------------------------------------------


@pytest.mark.parametrize("args", MANY_COMMANDS, ids=lambda args: args[0])
def test_no_command_starts_a_server_of_its_own(args: tuple[str, ...]) -> None:
    told = ask(*args)
    assert (told.code, told.out) == (2, "")
    expected = "no server: pass --url redis://HOST:PORT or set FLASHSALE_URL"
    assert told.err == f"flashsale: error: {expected}\n"
    assert ask(*args, "--json").json == {"error": "ConfigurationError", "message": expected}


@pytest.mark.parametrize("args", MANY_COMMANDS, ids=lambda args: args[0])
def test_a_sale_that_is_not_there_is_refused(
    cli: Callable[..., Told], sale_id: str, args: tuple[str, ...]
) -> None:
    told = cli(args[0], sale_id, *args[2:], "--json")
    assert (told.code, told.json["outcome"]) == (1, "sale_unknown")
    assert told.err.startswith(f"flashsale: refused: sale '{sale_id}': sale_unknown (")


@pytest.mark.parametrize("args", [("audit", "1111"), ("watch", "1111"), ("pause", "1111")])
def test_a_silent_server_is_given_up_in_time(args: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://someone:s3cret@127.0.0.1:{silent.getsockname()[1]}?protocol=2"
        began = time.monotonic()
        told = ask(*args, "--url", url)
        assert time.monotonic() - began < 60
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("flashsale: error: no server answers at redis://127.0.0.1:")
    assert "s3cret" not in told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://localhost", "redis://h:port"])
def test_a_url_that_is_none_is_a_configuration_error(url: str) -> None:
    told = ask("snapshot", "1111", "--url", url, "--json")
    assert (told.code, told.json["error"]) == (2, "ConfigurationError")
    assert "url" in told.err.lower()


def test_the_traceback_is_shown_only_with_debug() -> None:
    assert "Traceback" not in ask("snapshot", "1111").err
    told = ask("snapshot", "1111", "--debug")
    assert "Traceback" in told.err
    assert told.err.splitlines()[-1].startswith("flashsale: error: no server")


def test_a_bad_sale_id_names_the_rule(cli: Callable[..., Told]) -> None:
    told = cli("snapshot", "no{braces}")
    assert (told.code, "sale: must be 1 to 64 characters" in told.err) == (2, True)


@pytest.mark.parametrize("args", [("wacth",), ("watch",), ("restock", "1111", "red=+1")])
def test_wrong_usage_has_exit_code_2(args: tuple[str, ...]) -> None:
    told = ask(*args)
    assert (told.code, told.out) == (2, "")
    assert "Usage" in told.err


# --- the program itself -------------------------------------------------------------------


def test_the_program_says_its_version() -> None:
    code, out, err = command.run("--version")
    assert (code, err) == (0, "")
    assert out.startswith("flashsale ")
    assert out.strip().removeprefix("flashsale ").count(".") == 2


@pytest.mark.parametrize("name", ["", *(args[0] for args in MANY_COMMANDS), "open", "rehearse"])
def test_every_command_has_help(name: str) -> None:
    told = ask(*filter(None, [name, "--help"]))
    assert told.code == 0
    assert told.out.count("$ flashsale") >= (1 if name else 0)


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_the_extra_the_program_says_what_to_install(package: str) -> None:
    blocked = f"import sys; sys.modules[{package!r}] = None"
    for args in (("--help",), ("watch", "1111")):
        code, out, err = command.run(*args, before=blocked)
        assert (code, out) == (2, "")
        assert "pip install 'flashsale[cli]'" in err
        assert "Traceback" not in err


def test_the_library_imports_without_the_extra() -> None:
    blocked = "import sys; sys.modules['typer'] = sys.modules['rich'] = None; import flashsale"
    code, _, err = command.run(before=f"{blocked}; sys.exit(0)")
    assert (code, err) == (0, "")


def test_output_is_legible_where_only_ascii_is(sale: SaleHandle, server_url: str) -> None:
    code, out, err = command.run(
        "snapshot", sale.id, PYTHONIOENCODING="ascii", FLASHSALE_URL=server_url
    )
    assert (code, err) == (0, "")
    assert out.isascii()
    assert "# sold  + held  . available" in out
