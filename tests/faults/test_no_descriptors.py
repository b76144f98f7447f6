"""A process that has no file descriptor left: every verb of a client that is connected works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flashsale.embedded import EmbeddedServer
from support.shells import SHELLS

TESTS = Path(__file__).parent.parent

EVERY_VERB = """
import asyncio, json, sys
sys.path[:0] = [sys.argv[1]]
from faults.test_time_outs import GROUPS, KEYS, SALE
from flashsale import AsyncFlashSale, FlashSale, FlashSaleError
from support.shells import Blocking, connect

told, opened = {}, []

with connect(sys.argv[2], sys.argv[3], timeout_ms=20_000, keys=KEYS) as shop:
    told["server"] = shop.server().name
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    sale = shop.open(SALE)
    for owner, verbs in GROUPS:
        for name, verb in verbs.items():
            try:
                verb(shop if owner is FlashSale else sale, 5_000)
                told[f"{owner.__name__}.{name}"] = "done"
            except FlashSaleError as error:
                told[f"{owner.__name__}.{name}"] = type(error).__name__
    before = list(opened)
print(json.dumps({"opened": before, "told": told}))
"""

NONE_LEFT = """
import json, os, resource, sys
sys.path[:0] = [sys.argv[1]]
from flashsale import FlashSale, FlashSaleError, Sale, Sku
from support.shells import connect

told = {}
with connect(sys.argv[2], sys.argv[3], timeout_ms=1_000) as shop:
    sale = shop.open(Sale("s", skus=[Sku("a", stock=9)]))
    sale.hold("ann", {"a": 2}, hold_id="h")
    fresh = connect(sys.argv[2], sys.argv[3], timeout_ms=300)
    with fresh as other:
        resource.setrlimit(resource.RLIMIT_NOFILE, (os.dup(0), 4096))
        told["confirm"] = sale.confirm("ann", "h").outcome.name
        told["refund"] = sale.refund("ann", "h", lines={"a": 1}, op_id="r").outcome.name
        told["find"] = sale.find("ann", "h").refunds
        told["audit"] = sale.audit().problems
        try:
            other.sale("s").hold("bob", {"a": 1}, hold_id="h")
        except FlashSaleError as error:
            told["without a connection"] = type(error).__name__
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        told["afterwards"] = other.sale("s").hold("bob", {"a": 1}, hold_id="h").outcome.name
print(json.dumps(told))
"""


def told_by(program: str, *args: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", program, str(TESTS), *args],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("shell", SHELLS)
def test_no_verb_opens_a_file(shell: str, own_server: EmbeddedServer) -> None:
    told = told_by(EVERY_VERB, shell, own_server.url)
    assert told["opened"] == []
    assert len(told["told"]) > 40
    assert not {"ProtocolError", "StoreUnavailable"} & set(told["told"].values()), told


@pytest.mark.parametrize("shell", SHELLS)
def test_without_a_descriptor_what_is_connected_works_and_the_rest_was_not_applied(
    shell: str, own_server: EmbeddedServer
) -> None:
    assert told_by(NONE_LEFT, shell, own_server.url) == {
        "confirm": "CONFIRMED",
        "refund": "REFUNDED",
        "find": {"r": {"a": 1}},
        "audit": [],
        "without a connection": "StoreUnavailable",
        "afterwards": "HELD",
    }
