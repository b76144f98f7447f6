"""`flashsale rehearse`: what it takes, where it goes, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from typer.testing import CliRunner

from flashsale import rehearsal
from flashsale.cli.app import app
from flashsale.embedded import EmbeddedServer
from support import command

SMALL = ("hot_sku", "--seconds", "0.5", "--scale", "1/2000")
COUNTED = (rehearsal.PASSED, rehearsal.VOID)
"""A busy machine may make a run void; its books are right all the same."""

NAMES = (
    "scenario offered completed dropped decisions_per_s outcomes oversold conservation_ok "
    "latency_ms server durability"
)

SALE = """
id = "evening"
hold_ttl_ms = 2_000
[[skus]]
id = "red"
stock = 40
[[skus]]
id = "blue"
stock = 20
"""

CURVE = "second,rate_per_s\n0,0\n1,400\n2,100\n"


@pytest.fixture(scope="module")
def report() -> rehearsal.Report:
    """A real run."""
    return rehearsal.run("hot_sku", seconds=0.3, scale=5_000)


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    """One of its own: a rehearsal chooses its sale's id itself."""
    with EmbeddedServer.start() as started:
        yield started


def test_it_runs_on_a_server_of_its_own_and_leaves_the_environments_alone(
    server: EmbeddedServer,
) -> None:
    code, out, err = command.run("rehearse", *SMALL, "--json", FLASHSALE_URL=server.url)
    assert err == ""
    assert out.count("\n") == 1
    value = json.loads(out)
    assert code == value["exit_code"]
    assert code in COUNTED
    assert set(NAMES.split()) <= set(value)
    assert (value["oversold"], value["conservation_ok"]) == (0, True)
    assert value["offered"] > 0
    assert value["setup"]["server"]["embedded"] is True
    with redis.Redis.from_url(server.url) as client:
        assert client.dbsize() == 0
        assert "cmdstat_evalsha" not in client.info("commandstats")


def test_people_get_tables_and_the_verdict(
    report: rehearsal.Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "run", lambda *args, **kwargs: report)
    out = CliRunner().invoke(app, ["rehearse"], catch_exceptions=False).stdout
    for text in ("Rehearsal of hot_sku", "offered", "p99.9", "lipstick", "0 units oversold"):
        assert text in out


def test_a_sale_and_a_curve_of_ones_own_on_a_server_of_ones_own(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    (tmp_path / "sale.toml").write_text(SALE)
    (tmp_path / "curve.csv").write_text(CURVE)
    files = ("--sale", str(tmp_path / "sale.toml"), "--curve", str(tmp_path / "curve.csv"))
    code, out, err = command.run(
        "rehearse", "hot_sku", *files, "--seconds", "1", "--url", server.url, "--json"
    )
    assert (code in COUNTED, err) == (True, "")
    value = json.loads(out)
    assert [sku["sku"] for sku in value["stock"]] == ["red", "blue"]
    assert value["setup"]["sale"].startswith("evening.")
    assert value["setup"]["curve"] == "the file curve.csv"
    assert value["setup"]["server"]["address"] == f"127.0.0.1:{server.port}"
    assert value["setup"]["server"]["embedded"] is False


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({"exit_code": 0}, 0),
        ({"oversold": 1, "exit_code": 1, "passed": False}, 1),
        ({"lost": 1, "exit_code": 1, "passed": False}, 1),
        ({"void": ["the generator was late"], "exit_code": 3, "passed": False}, 3),
    ],
)
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_the_exit_code_is_the_reports(
    report: rehearsal.Report,
    monkeypatch: pytest.MonkeyPatch,
    found: dict[str, Any],
    code: int,
    form: tuple[str, ...],
) -> None:
    changed = msgspec.structs.replace(report, **found)
    monkeypatch.setattr(rehearsal, "run", lambda *args, **kwargs: changed)
    result = CliRunner().invoke(app, ["rehearse", *form], catch_exceptions=False)
    assert result.exit_code == code
    assert result.stdout


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("double12",), "hot_sku, live_room, waiting_room, not 'double12'"),
        (("--scale", "2"), "scale: must be 1/N"),
        (("--scale", "1/0"), "scale: must be 1/N"),
        (("--seconds", "0"), "seconds: must be above 0"),
        (("--seconds", "nan"), "seconds: must be above 0"),
        (("--durability", "replica"), "--durability: must be memory or fsync, not 'replica'"),
        (("--sale", "nothing.toml"), "nothing.toml: cannot be read"),
        (("--curve", "nothing.csv"), "nothing.csv: cannot be read"),
        (("--url", "redis://127.0.0.1:1"), "no server answers at redis://127.0.0.1:1"),
        (("--url", ""), "--url is empty"),
    ],
)
def test_a_wrong_option_is_an_error_before_anything_starts(
    args: tuple[str, ...], told: str
) -> None:
    for form in ((), ("--json",)):
        result = CliRunner().invoke(app, ["rehearse", *args, *form], catch_exceptions=False)
        assert result.exit_code == 2
        assert told in result.stderr
        assert result.stderr.count("\n") == 1
        assert told in json.loads(result.stdout)["message"] if form else not result.stdout


def test_a_level_that_the_server_does_not_give_is_refused(server: EmbeddedServer) -> None:
    code, out, err = command.run("rehearse", *SMALL, "--url", server.url, "--durability", "fsync")
    assert (code, out) == (2, "")
    assert "appendonly" in err


def test_without_the_extra_it_says_what_to_install() -> None:
    code, out, err = command.run("rehearse", before="import sys; sys.modules['hdrh'] = None")
    assert (code, out) == (2, "")
    assert "pip install 'flashsale[cli]'" in err


def test_ctrl_c_ends_it_and_its_server(tmp_path: Path) -> None:
    args = ("rehearse", "--scale", "1/2000", "--seconds", "60")
    with command.in_terminal(*args, TMPDIR=str(tmp_path)) as terminal:
        terminal.wait_for("answered")
        assert list(tmp_path.iterdir())
        terminal.type("\x03")
        assert terminal.exit_code() == 130
    assert "Traceback" not in terminal.seen
    assert not list(tmp_path.iterdir()), "the server's folder goes when the server is stopped"
