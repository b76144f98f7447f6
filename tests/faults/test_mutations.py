"""The checks have teeth: with any one safeguard taken out of the Lua, they fail."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from msgspec import Struct

from faults.battery import Battery
from flashsale import FlashSale, FlashSaleError, scripts
from flashsale.embedded import EmbeddedServer


class Mutant(Struct, frozen=True):
    """A safeguard, the file it is in, its text, and the text without it."""

    safeguard: str
    file: str
    text: str
    without: str


MUTANTS = [
    # The stock check.
    Mutant("stock", "lib/refuse_units", "if not lacking then", "if true then"),
    Mutant(
        "stock of a whole batch",
        "lib/share_out",
        "plenty = plenty and need[index] <= book.rows[index].a\n",
        "\n",
    ),
    Mutant("stock of a whole plain batch", "lib/hold_plain", "if row.a < n * qty or", "if"),
    Mutant("stock of each in a batch", "lib/share_out", "if row.a < qty then", "if false then"),
    Mutant(
        "stock and limits of new buyers",
        "lib/judge_baskets",
        "or refuse_units(book, shard, keys, basket.lines, nothing, 0)\n",
        "or (refuse_units(book, shard, keys, basket.lines, nothing, 0) and nil)\n",
    ),
    Mutant(
        "stock that a restock takes away",
        "inventory/restock",
        "if row.a + change < 0 then",
        "if false then",
    ),
    # The limit check.
    Mutant(
        "limit of a sku",
        "lib/refuse_units",
        "if row.limit and (per_sku[lines[k]] or 0) + qty > row.limit then",
        "if false then",
    ),
    Mutant(
        "limit of the sale",
        "lib/refuse_units",
        "if shard.limit and total > shard.limit then",
        "if false then",
    ),
    Mutant(
        "stock and limits of a plain batch",
        "lib/hold_plain",
        "code = refuse_units(book, shard, keys, { 1, qty }, {}, 0)\n",
        "refuse_units(book, shard, keys, { 1, qty }, {}, 0)\n",
    ),
    Mutant(
        "limits of a buyer who comes twice in a plain batch",
        "lib/hold_plain",
        "if seen[buyer] then",
        "if false then",
    ),
    Mutant(
        "limits of a buyer who comes twice in a batch",
        "lib/hold_fresh",
        "elseif seen[buyer] then",
        "elseif false then",
    ),
    # The replay lookup.
    Mutant(
        "replay of a hold",
        "inventory/hold",
        "hold = find_hold(book, buyer, id)\n",
        "hold = nil\n",
    ),
    Mutant(
        "replay of a new buyer's hold in a plain batch",
        "lib/hold_plain",
        "if records[i] then",
        "if false then",
    ),
    Mutant(
        "replay of a new buyer's hold",
        "lib/hold_fresh",
        "known = known or records[i]\n",
        "records[i] = false\n",
    ),
    Mutant(
        "basket of a plain replay",
        "lib/plain_replay",
        "sub(record, 16) ~= id .. tail or",
        "sub(record, 16, 15 + #id) ~= id or",
    ),
    Mutant(
        "replay of a plain confirmation",
        "lib/settle_plain",
        "if sub(head, 1, 2) ~= '1h' or (",
        "if (",
    ),
    Mutant(
        "an id that reads like a record",
        "lib/settle_plain",
        "local head, text, tail, successor = '|', ",
        "local head, text, tail, successor = '', ",
    ),
    Mutant(
        "a hold that comes twice in a batch of plain confirmations",
        "lib/settle_plain",
        "if not record or seen[buyer] or",
        "if not record or",
    ),
    Mutant(
        "replay of any confirmation",
        "inventory/confirm",
        "if hold.state == 'c' or hold.state == 'f' then",
        "if false then",
    ),
    Mutant(
        "replay of a refund", "inventory/refund", "if refunds[k] == op_id then", "if false then"
    ),
    Mutant("replay of a restock", "inventory/restock", "  if before then\n", "  if false then\n"),
    # The ledger write.
    Mutant(
        "ledger entry of plain holds",
        "lib/hold_plain",
        "redis.call('XADD', keys.ledger, shard.epoch .. '-' .. sequence, unpack(entry))\n",
        "\n",
    ),
    Mutant(
        "ledger entry of new buyers' holds",
        "lib/write_fresh",
        "redis.call('XADD', keys.ledger, shard.epoch .. '-' .. sequence, unpack(entry))\n",
        "\n",
    ),
    Mutant(
        "ledger entry of plain holds that end",
        "lib/settle_plain",
        "redis.call('XADD', keys.ledger, shard.epoch .. '-' .. shard.sequence, unpack(entry))\n",
        "\n",
    ),
    Mutant(
        "ledger entry of everything else",
        "lib/close_book",
        "redis.call('XADD', keys.ledger, shard.epoch .. '-' .. shard.sequence, unpack(entry))\n",
        "\n",
    ),
    # The deadline check.
    Mutant(
        "deadline of a plain confirmation",
        "inventory/confirm",
        "if baskets_blob == '' and not pending then",
        "if baskets_blob == '' then",
    ),
    Mutant(
        "deadlines of the buyer",
        "lib/expire_buyer",
        "if shard.due and shard.now >= shard.due then",
        "if false then",
    ),
    Mutant(
        "deadlines of everybody",
        "lib/expire_due",
        "if not shard.due or shard.now < shard.due then",
        "if true then",
    ),
    Mutant(
        "deadline of a hold that was extended",
        "lib/expire_due",
        "if hold and hold.state == 'h' and tonumber(hold.stamp) <= shard.now then",
        "if hold and hold.state == 'h' then",
    ),
    Mutant(
        "holds that are due before a plain batch is sold out",
        "lib/hold_plain",
        "(shard.due and shard.now >= shard.due)",
        "false",
    ),
    Mutant(
        "holds that are due before sold out is said",
        "lib/hold_fresh",
        "(shard.due and shard.now >= shard.due)",
        "false",
    ),
]


def mutate(folder: Path, mutant: Mutant) -> None:
    """Take the safeguard out; an AssertionError if its text is not there exactly once."""
    path = folder / f"{mutant.file}.lua"
    source = path.read_text("utf-8")
    found = source.count(mutant.text)
    assert found == 1, (
        f"lua/{mutant.file}.lua has the text of the mutant {mutant.safeguard!r} {found} times: "
        f"write the mutant anew for what the file says now\n{mutant.text}"
    )
    path.write_text(source.replace(mutant.text, mutant.without), "utf-8")


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start() as server:
        yield server


@pytest.fixture
def lua(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the Lua files, which the library uses during the test."""
    folder = tmp_path / "lua"
    shutil.copytree(scripts.lua_folder(), folder)
    monkeypatch.setattr(scripts, "lua_folder", lambda: folder)
    scripts.load_script.cache_clear()
    yield folder
    scripts.load_script.cache_clear()


@pytest.fixture
def battery(server: EmbeddedServer, lua: Path) -> Iterator[Callable[[], None]]:
    with (
        FlashSale.from_url(server.url, timeout_ms=10_000) as shop,
        redis.Redis.from_url(server.url) as raw,
    ):
        raw.flushall()
        yield Battery(shop, raw).run


def test_the_battery_passes_on_the_lua_as_it_is(battery: Callable[[], None]) -> None:
    battery()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.safeguard)
def test_the_battery_fails_without_one_safeguard(
    mutant: Mutant, lua: Path, battery: Callable[[], None]
) -> None:
    mutate(lua, mutant)
    with pytest.raises((AssertionError, FlashSaleError)) as failure:
        battery()
    assert "compil" not in str(failure.value), "the mutant is not even Lua"


def test_the_copy_is_what_runs(lua: Path, battery: Callable[[], None]) -> None:
    (lua / "inventory/hold.lua").write_text("#!lua\nreturn {1, 1, 1, '!', ''}\n")
    with pytest.raises(FlashSaleError, match="hold refused"):
        battery()


def test_a_mutant_whose_text_is_gone_is_an_error_and_not_a_pass(lua: Path) -> None:
    with pytest.raises(AssertionError, match="has the text of the mutant 'any' 0 times"):
        mutate(lua, Mutant("any", "lib/refuse_units", "no such text", ""))
