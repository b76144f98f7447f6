"""A public draw from its cue to a buyer who checks their own receipt.

With two beacons: one of a key that the test has, and the first round of drand's quicknet as it was,
which is to say again when the test needs it: a signature holds for a number, whatever the time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flashsale import Cue, CueHandle, Outcome, SaleHandle, verify
from flashsale.beacons import QUICKNET, Beacon
from flashsale.cli.app import app
from support.beacon import LocalBeacon, local_beacon
from support.cues import Tap, close, open_cue, tap
from support.draws import FIRST, PLACE
from support.lab import T0, Lab

BUYERS = [f"b{n}" for n in range(8)]
COMES = T0 + 100_000
"""When the first round of the beacon comes."""


class Draw:
    """A cue with public randomness that was settled; the digest is what was seen published."""

    def __init__(self, lab: Lab, beacon: Beacon, *, real: bool) -> None:
        self.lab, self.beacon, self.now = lab, beacon, T0
        assert FIRST.signature is not None
        told = {1: FIRST.signature} if real else None
        self.source = LocalBeacon(beacon, lambda: self.now, told)
        self.sale: SaleHandle = lab.open()
        self.handle: CueHandle = open_cue(
            lab, self.sale, entropy=self.source, publish=PLACE, publish_wait_ms=1_000
        )
        self.seen: list[str] = []

    def at(self, now_ms: int) -> None:
        self.now = now_ms
        self.lab.set_time(self.sale, now_ms)

    def publish(self, digest: str, cue: Cue) -> None:
        self.seen.append(digest)

    def settle(self) -> Any:
        return self.handle.settle(wait=False, entropy=self.source, publish=self.publish)

    def run(self) -> dict[str, str]:
        """Receipts by buyer, after all of it."""
        answers = [tap(self.handle, Tap(buyer)) for buyer in BUYERS]
        assert {answer.outcome for answer in answers} == {Outcome.ENTERED}
        close(self.lab, self.sale, self.handle)
        frozen = self.handle.freeze(wait=False, entropy=self.source)
        assert frozen.outcome is Outcome.FROZEN
        assert self.settle().outcome is Outcome.FROZEN  # published, and the round has not come
        assert self.seen == [frozen.digest]
        cue = self.handle.cue()
        assert cue.entropy_at_ms == self.beacon.time_of(cue.entropy_round or 0) == COMES
        self.at(cue.reveals_at_ms)
        assert self.settle().outcome is Outcome.SETTLED
        return {answer.buyer: answer.receipt for answer in answers}


@pytest.fixture(params=["local", "real"])
def drawn(lab: Lab, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Draw:
    real = request.param == "real"
    known = QUICKNET if real else local_beacon()
    beacon = known._replace(genesis_ms=COMES)
    monkeypatch.setitem(verify.BEACONS, beacon.name, beacon)  # type: ignore[arg-type]
    return Draw(lab, beacon, real=real)


def ask(path: Path, *options: str) -> tuple[int, str]:
    told = CliRunner().invoke(app, ["verify", str(path), *options], env={"COLUMNS": "120"})
    return told.exit_code, told.stdout


def alone(folder: Path, path: Path, beacon: Beacon) -> tuple[int, str]:
    """The one file by itself, which knows this beacon."""
    text = Path(str(verify.__file__)).read_text("utf-8")
    known = f"QUICKNET = {beacon!r}\nBEACONS = {{QUICKNET.name: QUICKNET}}\n"
    (folder / "verify.py").write_text(
        text.replace('\n_HEX = frozenset("', f'\n{known}\n_HEX = frozenset("', 1), "utf-8"
    )
    told = subprocess.run(
        [sys.executable, "-S", "-I", str(folder / "verify.py"), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.stderr == ""
    return told.returncode, told.stdout


def test_a_public_draw_is_checked_by_a_buyer_from_end_to_end(
    drawn: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipts = drawn.run()
    path = tmp_path / "record.json"
    path.write_text(json.dumps(drawn.handle.record()))
    (digest,) = drawn.seen

    code, out = ask(path, "--digest", digest)
    assert code == 0, out
    assert f"'{drawn.beacon.name}' signed round 1" in out
    assert f"the digest was published at '{PLACE}'" in out
    assert "could try keys" not in out

    won = {buyer for buyer in BUYERS if drawn.handle.result(buyer).outcome is Outcome.HELD}
    assert len(won) == 3
    for buyer in BUYERS:
        code, out = ask(path, "--buyer", buyer, "--receipt", receipts[buyer])
        assert code == 0
        assert ("held: 1 × red" in out) == (buyer in won)
        assert "independently of the seller" in out
    assert ask(path, "--buyer", "b0", "--receipt", receipts["b1"])[0] == 1

    code, out = alone(tmp_path, path, drawn.beacon)
    assert code == 3
    assert "verifies" not in out
    assert "unchecked: the beacon's signature" in out

    monkeypatch.setattr("flashsale.cli.verifying.can_check_signatures", lambda: False)
    assert ask(path)[0] == 3


def test_a_value_that_the_beacon_did_not_sign_is_seen(drawn: Draw, tmp_path: Path) -> None:
    """A source that does not check what it is told: nothing before the record finds out."""
    drawn.source._signatures = {1: bytes(47) + b"\1"}
    drawn.run()
    path = tmp_path / "record.json"
    path.write_text(json.dumps(drawn.handle.record()))
    code, out = ask(path)
    assert code == 1
    assert "did not sign this in round 1" in out


def test_a_value_that_is_not_the_hash_of_its_signature_is_not_drawn_by(
    drawn: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flashsale import InvalidRequest
    from flashsale.draw import Randomness

    [tap(drawn.handle, Tap(buyer)) for buyer in BUYERS]
    close(drawn.lab, drawn.sale, drawn.handle)
    drawn.settle()
    drawn.at(drawn.handle.cue().reveals_at_ms)
    for found in (Randomness(bytes(32)), Randomness(bytes(32), FIRST.signature)):
        monkeypatch.setattr(drawn.source, "fetch", lambda number, found=found: found)
        with pytest.raises(InvalidRequest, match="value of entropy: must be SHA-256"):
            drawn.settle()
    assert drawn.handle.view().awarded == 0
