"""A rolling upgrade from its beginning to its end, with many processes ordering all the time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

from faults import race_worker
from faults.checks import books_are_right, events_of
from faults.told import SecondHand, what_callers_were_told_is_true
from flashsale import FlashSale, ProtocolError, Sale, Sku
from flashsale.embedded import EmbeddedServer
from flashsale.keys import ShardKeys
from support.next_release import records_of, tell, write_next_release
from support.releases import Fleet, clients_of, environment

CALLER = """
import sys
from faults import race_worker
from support import releases
if folder := sys.argv.pop(1):
    releases.use(folder)
race_worker.main(*sys.argv[1:])
"""
PATIENCE_S = 60


class Release:
    """The callers of one release: a process of each shell, started and stopped together."""

    def __init__(self, url: str, sale: Sale, folder: Path, lua_folder: Path | None) -> None:
        self._url, self._sale, self._folder = url, sale, folder
        self._lua = str(lua_folder or "")

    @contextmanager
    def running(self, seed: int) -> Iterator[None]:
        """Callers that order until the end of the block, and complain of nothing."""
        folder = self._folder / f"callers-{seed}"
        folder.mkdir()
        with ExitStack() as stack:
            processes = [self._start(folder, seed, "sync"), self._start(folder, seed + 1, "async")]
            for process in processes:
                stack.callback(process.kill)
            yield
            (folder / "stop").touch()
            for process in processes:
                process.wait(timeout=PATIENCE_S)
        complaints = (folder / "complaints").read_text("utf-8")
        assert complaints == "", complaints

    def _start(self, folder: Path, seed: int, kind: str) -> subprocess.Popen[bytes]:
        log = folder / f"{seed}.jsonl"
        skus = [sku.id for sku in self._sale.skus]
        command = [sys.executable, "-c", CALLER, self._lua, self._url, self._sale.id, str(log)]
        with (folder / "complaints").open("ab") as complaints:
            return subprocess.Popen(
                [*command, str(seed), kind, *skus], env=environment(), stderr=complaints
            )


class Watch:
    """Waits until each release has written so many further ledger entries."""

    def __init__(self, raw: redis.Redis, sale: Sale) -> None:
        self._raw, self._ledger, self._seen = raw, ShardKeys.of(sale.id).ledger, 1

    def entries(self) -> tuple[int, int]:
        """How many entries the older release wrote, and the newer, since the last look."""
        new = self._raw.xrange(self._ledger, f"1-{self._seen + 1}")
        by_newer = sum(b"zz" in fields for _, fields in new)
        return len(new) - by_newer, by_newer

    def wait(self, older: int, newer: int) -> None:
        """And that a release which is to write nothing has written nothing."""
        end = time.monotonic() + PATIENCE_S
        while (written := self.entries())[0] < older or written[1] < newer:
            assert time.monotonic() < end, written
            time.sleep(0.02)
        assert older or not written[0], written
        assert newer or not written[1], written

    def begin(self) -> None:
        """Count from now on."""
        self._seen += sum(self.entries())


@pytest.mark.timeout(300)
def test_an_upgrade_with_a_step_back_on_the_way_goes_unnoticed(
    own_server: EmbeddedServer, operator: FlashSale, tmp_path: Path
) -> None:
    lua_folder = write_next_release(tmp_path / "lua")
    stock = [Sku("red", stock=400, limit=4), Sku("blue", stock=400, limit=4)]
    definition = Sale("upgrade", stock, hold_ttl_ms=250, limit=6, holds_max=16)
    operator.open(definition)
    older = Release(own_server.url, definition, tmp_path, None)
    newer = Release(own_server.url, definition, tmp_path, lua_folder)
    with (
        redis.Redis.from_url(own_server.url) as raw,
        clients_of(own_server.url, lua_folder) as clients,
    ):
        sale = Fleet(clients).sale(definition.id)
        watch = Watch(raw, definition)
        with older.running(seed=10):
            watch.wait(older=40, newer=0)
            with newer.running(seed=20):  # phase one
                watch.begin()
                watch.wait(older=40, newer=40)
            watch.begin()
            watch.wait(older=40, newer=0)  # and back
            with newer.running(seed=30):
                watch.begin()
                watch.wait(older=40, newer=40)
        books_are_right(operator.sale(definition.id))
        formats = {record[0] for record in records_of(raw, definition.id).values()}
        assert formats == {"1"}

        with newer.running(seed=40):  # no older client is left
            tell(raw, definition.id, 2)
            watch.begin()
            watch.wait(older=0, newer=80)
        formats = {record[0] for record in records_of(raw, definition.id).values()}
        assert formats == {"1", "2"}
        with pytest.raises(ProtocolError, match="FLASHSALE_FORMAT the sale is in format 2"):
            operator.sale(definition.id).snapshot()

        books_are_right(sale)
        events = events_of(sale)
        SecondHand(definition).replay(events)
        holds = {
            (hold.buyer, hold.hold_id): hold
            for number in range(race_worker.BUYERS)
            for hold in sale.holds_of(f"buyer-{number}")
        }
        logs = [path.read_text("utf-8") for path in tmp_path.glob("callers-*/*.jsonl")]
        notes = [json.loads(line) for log in logs for line in log.splitlines()]
        assert len(notes) > 400
        what_callers_were_told_is_true(notes, events, holds)
