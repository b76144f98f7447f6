"""`flashsale verify`: what it prints, what it refuses, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from typer.testing import CliRunner

from flashsale.cli.app import app
from support import command
from support.draws import (
    GOOD,
    Record,
    crowd,
    cue_of,
    drawn_of,
    frozen_of,
    quicknet_cue,
    receipt_of,
    record_of,
    sealed,
)

WIDE = {"COLUMNS": "120"}


class Told(Struct):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.out.count("\n") == 1
        return json.loads(self.out)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record.json"


def ask(path: Path, record: Record | None, *options: str) -> Told:
    if record is not None:
        path.write_text(json.dumps(record))
    arguments = ["verify", str(path), *options]
    result = CliRunner().invoke(app, arguments, env=WIDE, catch_exceptions=False)
    return Told(result.exit_code, result.stdout, result.stderr)


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_a_good_record_verifies_and_its_limits_are_told(path: Path, kind: str) -> None:
    told = ask(path, GOOD[kind]())
    assert told.code == 0
    assert told.out.startswith("cue lipstick of sale 1111  verifies")
    assert "✓  seal" in told.out
    assert "✗" not in told.out
    assert "What the record cannot prove" in told.out


def test_the_figures_of_the_draw_are_told(path: Path) -> None:
    cue = cue_of(stock={"lipstick": 10}, windows=2)
    told = ask(path, record_of(drawn_of(cue, [*crowd(8), *crowd(20, 1)])))
    assert "28 entrants for 10 × lipstick: 10 drawn, 10 of them awarded, 0 moved up" in told.out
    rows = [line.split() for line in told.out.splitlines()]
    assert ["0", "0", "ms", "8", "8", "100", "%"] in rows
    assert ["1", "3", "s", "20", "2", "10.0", "%"] in rows


def test_of_the_best_no_share_is_told_because_nobody_knows_it(path: Path) -> None:
    told = ask(path, GOOD["best"]())
    assert "8 entrants kept (the best of more)" in told.out
    assert " %" not in told.out


def test_a_forged_record_does_not_verify_and_says_which_check_fails(path: Path) -> None:
    record = GOOD["committed"]()
    record["drawn"].reverse()
    told = ask(path, sealed(record))
    assert told.code == 1
    assert "does not verify" in told.out
    assert "✗  drawn" in told.out
    assert "✓  digest" in told.out
    assert "entrants for" not in told.out  # figures of a forgery are worth nothing


def test_what_is_json_and_no_record_does_not_verify(path: Path) -> None:
    for record in ({"format": 2}, {"hello": 1}, GOOD["committed"]() | {"cue": None}):
        told = ask(path, record)
        assert told.code == 1
        assert told.out.startswith("the record  does not verify")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        (b"{", "is no record: the file must be JSON"),
        (b"\xff", "is no record: the file must be UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(
    path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        path.write_bytes(content)
    told = ask(path, None)
    assert told.code == 2
    assert told.out == ""
    assert str(path) in told.err
    assert message in told.err


def test_a_folder_is_no_record(tmp_path: Path) -> None:
    told = ask(tmp_path, None)
    assert told.code == 2
    assert "Is a directory" in told.err


def test_a_receipt_tells_what_became_of_it(path: Path) -> None:
    record, buyers = GOOD["committed"](), frozen_of(cue_of(), crowd(20)).buyers
    winner = buyers[record["drawn"][0][0]]
    loser = next(buyers[who] for who in buyers if who not in str(record["drawn"]))
    told = ask(path, record, "--buyer", winner, "--receipt", receipt_of(winner))
    assert told.code == 0
    assert "your entry  place 1 of 20, window 0, held: 1 × lipstick" in told.out
    told = ask(path, record, "--buyer", loser, "--receipt", receipt_of(loser))
    assert told.code == 0
    assert "not drawn" in told.out


def test_a_receipt_that_is_not_there_is_a_finding_and_no_receipt_is_an_error(path: Path) -> None:
    told = ask(path, GOOD["committed"](), "--buyer", "ann", "--receipt", "0" * 64)
    assert told.code == 1
    assert "no entrant 'ann' with the receipt" in told.err
    told = ask(path, GOOD["committed"](), "--buyer", "ann", "--receipt", "nonsense")
    assert told.code == 2
    assert "--receipt: must be 32 bytes" in told.err


@pytest.mark.parametrize("one", [("--buyer", "ann"), ("--receipt", "0" * 64)])
def test_buyer_and_receipt_go_together(path: Path, one: tuple[str, str]) -> None:
    told = ask(path, GOOD["committed"](), *one)
    assert told.code == 2
    assert "--buyer and --receipt go together" in told.err


def test_the_published_digest_is_held_against_the_record(path: Path) -> None:
    record = GOOD["committed"]()
    assert ask(path, record, "--digest", record["frozen"]["digest"]).code == 0
    told = ask(path, record, "--digest", "0" * 64)
    assert told.code == 1
    assert "✗  published" in told.out


def test_json_is_one_object_on_one_line(path: Path) -> None:
    record = GOOD["committed"]()
    winner = frozen_of(cue_of(), crowd(20)).buyers[record["drawn"][0][0]]
    told = ask(path, record, "--json", "--buyer", winner, "--receipt", receipt_of(winner)).json
    assert told["ok"] is True
    assert told["void"] is False
    assert (told["sale"], told["cue"]) == ("1111", "lipstick")
    assert all(check["ok"] for check in told["checks"])
    assert told["figures"]["windows"] == {"0": {"entrants": 20, "winners": 5}}
    assert told["receipt"]["outcome"] == "held"
    wrong = ask(path, {"format": 1}, "--json")
    assert wrong.code == 1
    assert wrong.json["ok"] is False
    assert wrong.json["figures"] == {}
    assert [check["name"] for check in wrong.json["checks"]] == ["format", "structure"]


def test_a_void_cue_is_said_to_be_void(path: Path) -> None:
    told = ask(path, GOOD["void"]())
    assert told.code == 0
    assert "verifies: the cue is void" in told.out
    assert "the host dropped it 😀" in told.out
    assert ask(path, GOOD["void"](), "--json").json["void"] is True


def test_a_hostile_record_cannot_write_to_the_terminal(path: Path) -> None:
    void = GOOD["void"]()
    record = sealed(void | {"void": {**void["void"], "reason": "\x1b[2J[bold]gone"}})
    told = ask(path, record)
    assert told.code == 0
    assert "\x1b" not in told.out
    assert "[bold]gone" in told.out


def test_it_reads_standard_input_and_needs_no_server(path: Path) -> None:
    path.write_text(json.dumps(GOOD["public"]()))
    with path.open("rb") as file:
        told = subprocess.run(
            [sys.executable, "-c", command.RUN, "verify", "-", "--json"],
            stdin=file,
            capture_output=True,
            text=True,
            env=command.environment(FLASHSALE_URL="redis://127.0.0.1:1"),
            timeout=60,
            check=False,
        )
    assert (told.returncode, told.stderr) == (0, "")
    draw = json.loads(told.stdout)["figures"]["draw"]
    assert draw == "round 77 of local, an unknown beacon: no more than a committed draw"


def test_where_only_ascii_can_be_shown_the_marks_are_words(path: Path) -> None:
    path.write_text(json.dumps(GOOD["void"]()))
    code, out, _ = command.run("verify", str(path), PYTHONIOENCODING="ascii")
    assert code == 0
    assert "ok  seal" in out
    assert out.isascii()


def test_what_a_receipt_does_not_prove_is_told_with_it(path: Path) -> None:
    options = ("--buyer", "buyer-0-7", "--receipt", receipt_of("buyer-0-7"))
    told = " ".join(ask(path, GOOD["committed"](), *options).out.split())
    assert "It is yours only if you know the ID independently of the seller" in told
    assert "anybody can make up a receipt for anybody" in told
    assert "independently" not in ask(path, GOOD["committed"]()).out


def test_who_was_left_out_for_a_fingerprint_is_told_so(path: Path) -> None:
    record, entries = GOOD["capped"](), [f"buyer-0-{at}" for at in range(7)]
    told = [ask(path, record, "--buyer", who, "--receipt", receipt_of(who)) for who in entries]
    left_out = [one for one in told if "your entry  left out at the freeze" in one.out]
    assert len(left_out) == 5
    assert {one.code for one in told} == {0}
    assert "5 left out for their fingerprint" in told[0].out


def test_a_record_that_is_not_final_says_so_at_the_top(path: Path) -> None:
    record = GOOD["promoted"]()
    early = sealed(record | {"told_at_ms": record["final_at_ms"] - 1})
    told = ask(path, early)
    assert told.code == 0
    assert told.out.startswith("cue lipstick of sale 1111  verifies: not final yet")
    assert ask(path, early, "--json").json["final"] is False
    assert ask(path, record, "--json").json["final"] is True


def quicknet() -> Record:
    return record_of(drawn_of(quicknet_cue(), crowd(20)))


def test_without_the_extra_a_beacons_signature_is_left_unchecked_and_that_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flashsale.cli.verifying.can_check_signatures", lambda: False)
    told = ask(path, quicknet())
    assert told.code == 3
    assert "nothing wrong, but not all was checked" in told.out
    assert "verifies" not in told.out
    assert "?  beacon     unchecked: the beacon's signature" in told.out
    assert "install flashsale[drand]" in told.err
    assert ask(path, quicknet(), "--json").json["verdict"] == "unchecked"


def test_with_the_extra_a_real_round_of_quicknet_verifies(path: Path) -> None:
    told = ask(path, quicknet())
    assert told.code == 0
    assert told.out.startswith("cue lipstick of sale 1111  verifies")
    assert "'drand-quicknet' signed round 1" in told.out
    assert "the draw: round 1 of drand-quicknet" in told.out
