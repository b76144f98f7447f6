"""What cannot work says what to do instead."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from flashsale import AsyncFlashSale, ConfigurationError, FlashSale
from flashsale.embedded import EmbeddedServer

NOWHERE = "redis://127.0.0.1:1"
SOURCE = Path(__file__).resolve().parents[2] / "src"


@contextmanager
def sync_shop() -> Iterator[Any]:
    with FlashSale.from_url(NOWHERE) as shop:
        yield shop


@contextmanager
def async_shop() -> Iterator[Any]:
    yield AsyncFlashSale.from_url(NOWHERE)


@pytest.mark.parametrize("shop_of", [sync_shop, async_shop])
@pytest.mark.parametrize(
    ("part", "instead"),
    [
        (lambda shop: shop, "make one in each process, from the URL"),
        (lambda shop: shop.sale("1"), r"attach there with shop\.sale\(id\)"),
        (lambda shop: shop.sale("1").ledger, r"attach there with shop\.sale\(id\)"),
        (lambda shop: shop.sale("1").queue, r"attach there with shop\.sale\(id\)"),
        (lambda shop: shop.sale("1").cue_handle("red"), r"attach with .*cue_handle\(id\)"),
        (lambda shop: {"deep": [shop.sale("1")]}, r"SaleHandle belongs to its process"),
    ],
)
def test_a_client_or_handle_that_is_pickled_or_copied_says_so(
    shop_of: Callable[[], Any], part: Callable[[Any], Any], instead: str
) -> None:
    with shop_of() as shop:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(ConfigurationError, match=instead):
                pickle.dumps(part(shop), protocol)
        with pytest.raises(ConfigurationError, match=instead):
            copy.deepcopy(part(shop))


def test_an_embedded_server_that_is_pickled_says_so() -> None:
    rule = "send its url, and connect with from_url"
    with EmbeddedServer.start() as server, pytest.raises(ConfigurationError, match=rule):
        pickle.dumps(server)


@pytest.mark.parametrize(
    ("client", "module"), [(FlashSale, redis), (AsyncFlashSale, redis.asyncio)]
)
def test_a_fake_server_as_client_says_what_to_use_instead(client: Any, module: Any) -> None:
    """As fakeredis makes them: a redis-py client over connections of its own."""
    name = {"__module__": "fakeredis._connection"}
    fake = type("FakeConnection", (module.connection.Connection,), name)
    pool = module.ConnectionPool(connection_class=fake)
    with pytest.raises(ConfigurationError, match=r"a fake server cannot .*FlashSale\.embedded\(\)"):
        client(module.Redis(connection_pool=pool))


def test_from_a_zip_archive_the_error_says_what_to_do(tmp_path: Path) -> None:
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in (SOURCE / "flashsale").rglob("*.py"):
            packed.write(path, path.relative_to(SOURCE))
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import flashsale; assert 'app.zip' in flashsale.__file__, flashsale.__file__\n"
        "try: flashsale.FlashSale.from_url('redis://127.0.0.1:1').sale('1').snapshot()\n"
        "except flashsale.ConfigurationError as error: print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(archive)], check=True, capture_output=True, text=True
    ).stdout
    assert "cannot run from within an archive" in said
    assert "Install it unpacked" in said
