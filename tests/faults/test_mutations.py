"""The checks have teeth: with any one safeguard taken out of the Lua, they fail."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from msgspec import Struct

from faults.battery import Battery
from faults.room_battery import RoomBattery
from flashsale import FlashSale, FlashSaleError, scripts
from flashsale.embedded import EmbeddedServer
from support.cues import KEY


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
        "basket.code, index = refuse_units(book, shard, keys, basket.lines, nothing, 0)\n",
        "refuse_units(book, shard, keys, basket.lines, nothing, 0)\n",
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
        "known, lines = known or record,",
        "records[i], lines = false,",
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
        "if not shard.due or shard.now < shard.due or book.expired[buyer] then",
        "if true then",
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
        "holds that a sweep has to take apart",
        "lib/expire_due",
        "or string.sub(record, 2, 1 + #text) == text\n"
        "      or string.find(record, ';' .. text, 1, true)\n",
        "\n",
    ),
    Mutant(
        "how far a sweep got in a ledger entry",
        "lib/expire_due",
        "shard.cursor = own .. ':' .. looked",
        "shard.cursor = own + 1 .. ''",
    ),
    Mutant("units added up anew once they changed", "lib/touch", "book.units[buyer] = nil\n", "\n"),
    Mutant(
        "what due holds may give back",
        "lib/refuse_units",
        "if shard.due and shard.now >= shard.due then",
        "if false then",
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
    # The callers' clocks.
    Mutant(
        "deadline in doubt of a plain confirmation",
        "inventory/confirm",
        "local pending = shard.due and shard.latest >= shard.due",
        "local pending = shard.due and shard.now >= shard.due",
    ),
    Mutant(
        "deadline in doubt of a confirmation",
        "inventory/confirm",
        "if hold.state == 'h' and is_doubtful(shard, tonumber(hold.stamp)) then",
        "if false then",
    ),
    Mutant(
        "deadline in doubt of an extension",
        "inventory/extend",
        "if is_doubtful(shard, tonumber(hold.stamp)) then",
        "if false then",
    ),
    # A full memory.
    Mutant(
        "no retake with memory full",
        "inventory/confirm",
        "elseif is_full then",
        "elseif false then",
    ),
    Mutant(
        "no tombstone with memory full",
        "inventory/release",
        "elseif is_full then",
        "elseif false then",
    ),
    Mutant(
        "no new reader with memory full",
        "ledger/reader",
        "if is_full and not before then",
        "if false then",
    ),
    Mutant(
        "no resuming with memory full",
        "inventory/set_state",
        "elseif is_full and state == 'running' then",
        "elseif false then",
    ),
]


ROOM_MUTANTS = [
    Mutant("what a slow rate gathers", "lib/advance_room", "'%.9f'", "'%.6f'"),
    Mutant(
        "one place a buyer",
        "waiting_room/join",
        "if before and (given[buyer] or not is_over(number, before < 0)) then",
        "if false then",
    ),
    Mutant(
        "a new place after a turn", "waiting_room/join", "not is_over(number, before < 0)", "true"
    ),
    Mutant(
        "a new place after it was passed over",
        "waiting_room/join",
        "(was_left or not turn_of(room, place, shard.now))",
        "not turn_of(room, place, shard.now)",
    ),
    Mutant(
        "turns that may be over before it is said that none is",
        "waiting_room/join",
        "if room.none_over and not was_left then",
        "if not was_left then",
    ),
    Mutant(
        "no mark where somebody came back",
        "waiting_room/join",
        "redis.call('SETBIT', k_vacant, number, 0)",
        "",
    ),
    Mutant(
        "no vacant place where somebody came back",
        "waiting_room/join",
        ", 'vacant', room.vacant - #back)",
        ")",
    ),
    Mutant(
        "the mark of a place that was left",
        "waiting_room/leave",
        "redis.call('SETBIT', k_vacant, number, 1)",
        "",
    ),
    Mutant(
        "the count of vacant places",
        "waiting_room/leave",
        "room.vacant + #vacated",
        "room.vacant",
    ),
    Mutant(
        "a place that was left and is had again",
        "waiting_room/join",
        "buyer, number, number",
        "buyer, before, number",
    ),
    Mutant(
        "the count of those who came back",
        "waiting_room/join",
        "'left', room.left - #back, ",
        "",
    ),
    Mutant("coming back is no replay", "waiting_room/join", "before > 0 and 1 or 0", "1"),
    Mutant("no admission of who left", "waiting_room/admit", "if not own or own < 0", "if not own"),
    Mutant(
        "a number that stays its buyer's", "waiting_room/leave", "if place then", "if true then"
    ),
    Mutant(
        "a place not left twice",
        "waiting_room/leave",
        "if number and number > 0 and",
        "if number and",
    ),
    Mutant(
        "places of a room",
        "waiting_room/join",
        "elseif joined >= room.places_max then",
        "elseif false then",
    ),
    Mutant(
        "places of a key",
        "waiting_room/join",
        "elseif count and count >= room.key_max then",
        "elseif false then",
    ),
    Mutant(
        "the end before joining",
        "waiting_room/join",
        "elseif shard.state == 'ended' then",
        "elseif false then",
    ),
    Mutant(
        "the close before joining",
        "waiting_room/join",
        "elseif shard.closes and shard.now >= shard.closes then",
        "elseif false then",
    ),
    Mutant("numbers fixed by a join", "waiting_room/join", "if fixed then", "if false then"),
    Mutant(
        "expiry of a ticket",
        "waiting_room/admit",
        "if number > 0 and shard.now >= expires[i] then",
        "if false then",
    ),
    Mutant(
        "issue of a ticket",
        "waiting_room/admit",
        "elseif number > 0 and shard.now < issued[i] then",
        "elseif false then",
    ),
    Mutant(
        "number of a ticket",
        "waiting_room/admit",
        "elseif number > 0 and number ~= own then",
        "elseif false then",
    ),
    Mutant(
        "a number that was given",
        "waiting_room/admit",
        "elseif number < 1 or number > room.joined then",
        "elseif false then",
    ),
    Mutant(
        "replay of an admission",
        "waiting_room/admit",
        "if before and before.number == number then",
        "if false then",
    ),
    Mutant(
        "the end of an admission",
        "waiting_room/admit",
        "if shard.now < before.ends then",
        "if true then",
    ),
    Mutant(
        "the call before an admission",
        "waiting_room/admit",
        "if place > room.serving then",
        "if false then",
    ),
    Mutant(
        "a buyer twice in a batch of admissions",
        "waiting_room/admit",
        "parse_turn(given[names[i]] or admitted[i])",
        "parse_turn(admitted[i])",
    ),
    Mutant(
        "a number's arrival", "waiting_room/admit", "if not room.one_place then", "if false then"
    ),
    Mutant("the sale before an admission", "waiting_room/admit", "if closed then", "if false then"),
    Mutant(
        "the sweep before an admission",
        "waiting_room/admit",
        "expire_due(book, shard, keys, SWEEP_PER_CALL)\n",
        "\n",
    ),
    Mutant("the end of a turn", "lib/turn_of", "if now < ends then", "if true then"),
    Mutant("a turn that is over", "lib/turn_of", "place > room.over and ", ""),
    Mutant(
        "a turn that was done with",
        "waiting_room/leave",
        "if turn and turn.number == number and turn.used == '1' then",
        "if false then",
    ),
    Mutant(
        "a turn given back",
        "waiting_room/leave",
        "row.d, row.changed = row.d + 1, true",
        "row.changed = true",
    ),
    Mutant("the place of who left a turn", "waiting_room/leave", "if place then", "if false then"),
    Mutant(
        "the admission of who left", "waiting_room/leave", "if admitted[i] then", "if false then"
    ),
    Mutant(
        "the turn before a hold",
        "inventory/hold",
        "if closed or (turns and not turns.live[buyer]) then",
        "if closed then",
    ),
    Mutant(
        "the turn before a plain hold",
        "inventory/hold",
        "local is_short = not shard.admission and (",
        "local is_short = (",
    ),
    Mutant(
        "the count of a plain hold's key",
        "inventory/hold",
        "(cap_keys_blob == '' or not shard.key_holds_max)",
        "true",
    ),
    Mutant(
        "the count of a hold's key",
        "inventory/hold",
        "elseif caps and caps.is_used_up(i) then",
        "elseif false then",
    ),
    Mutant("a key's holds being kept", "inventory/hold", "  caps.write(book)\n", ""),
    Mutant("what a turn took", "inventory/hold", "    turns.take(buyer, basket.lines)\n", ""),
    Mutant(
        "what a turn wanted",
        "inventory/hold",
        "        turns.want(buyer, basket.lines, book.rows)\n",
        "",
    ),
    Mutant("a turn's use being kept", "inventory/hold", "  turns.write(book)\n", ""),
    Mutant(
        "the end of a turn before a hold",
        "lib/read_turns",
        "if turn and now < turn.ends then",
        "if turn then",
    ),
    Mutant("what a turn takes once", "lib/read_turns", "if turn.used == '0' then", "if true then"),
    Mutant(
        "wanted before it was taken",
        "lib/read_turns",
        "if turn.used == '0' then",
        "if turn.used ~= '1' then",
    ),
    Mutant("the most a turn counts", "lib/read_turns", "math.min(units, most)", "units"),
    Mutant("what a sale had", "lib/read_turns", " and had(lines, rows) then", " then"),
    Mutant("done once", "lib/read_turns", "if turn.used ~= '1' then", "if true then"),
    Mutant(
        "wanted once",
        "lib/read_turns",
        "if turn.used == '0' and had",
        "if turn.used ~= '1' and had",
    ),
    Mutant(
        "the bound of turns outstanding", "lib/advance_room", "room.bound - outstanding)", "1e9)"
    ),
    Mutant(
        "the rate of calls", "lib/advance_room", "math.min(math.floor(tokens),", "math.min(1e9,"
    ),
    Mutant(
        "those who joined", "lib/advance_room", "limit - step, room.joined - place", "limit - step"
    ),
    Mutant(
        "the last who joined", "lib/advance_room", "limit and place < room.joined and", "limit and"
    ),
    Mutant("so many looks", "lib/advance_room", "step + passed < LOOKS_MAX", "true"),
    Mutant(
        "no turn of a place that was left",
        "lib/advance_room",
        "if is_vacant(place) then",
        "if false then",
    ),
    Mutant(
        "no token for a place that was left",
        "lib/advance_room",
        "tokens - step, place",
        "tokens - place, place",
    ),
    Mutant("a place that was left is not outstanding", "lib/advance_room", " - row.p\n", "\n"),
    Mutant("nor counted in what turns take", "lib/advance_room", " - room.passed)", ")"),
    Mutant("nor again and again", "lib/advance_room", "room.passed + row.p", "room.passed"),
    Mutant("nor vacant any more", "lib/advance_room", "room.vacant - passed", "room.vacant"),
    Mutant(
        "the place of a number that was left",
        "lib/move_on",
        "number_of(room.seed, room.present, place)",
        "place",
    ),
    Mutant(
        "who is done is not outstanding",
        "lib/advance_room",
        "outstanding - row.d - row.p",
        "outstanding - row.p",
    ),
    Mutant(
        "no calls for a sale that takes no holds",
        "lib/advance_room",
        "if not drawn or closed or",
        "if not drawn or",
    ),
    Mutant("no calls of a paused room", "lib/advance_room", "room.state ~= 'running'", "false"),
    Mutant("no calls without stock", "lib/advance_room", "if available > 0 then", "if true then"),
    Mutant(
        "turns that end",
        "lib/advance_room",
        "if now >= (row.slot + 1) * room.slot + room.ttl then",
        "if false then",
    ),
    Mutant(
        "the moment of the opening",
        "lib/fix_present",
        "if room.present or now < room.opens then",
        "if room.present then",
    ),
    Mutant("the first seed", "waiting_room/reveal", "if not room.seed then", "if true then"),
    Mutant(
        "no seed before the opening",
        "waiting_room/reveal",
        "if not room.present then",
        "if false then",
    ),
    Mutant("a room's definition", "waiting_room/open", "if known then", "if false then"),
    Mutant(
        "remains of a room",
        "waiting_room/open",
        "if redis.call('EXISTS', k_admitted, k_vacant, unpack(k_places)) > 0 then",
        "if false then",
    ),
    Mutant(
        "the sweep before a view",
        "waiting_room/show",
        "expire_due(book, shard, keys, SWEEP_PER_CALL)\n",
        "\n",
    ),
    Mutant(
        "the bucket of a room that was steered",
        "waiting_room/steer",
        "string.format('%.9f', math.min(1, tokens))",
        "string.format('%.9f', tokens)",
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
    scripts.load_script.cache_clear()  # a client has loaded every script when it was made


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
def either(server: EmbeddedServer, lua: Path) -> Iterator[Callable[[type], Callable[[], None]]]:
    with (
        FlashSale.from_url(server.url, timeout_ms=10_000, keys=[KEY]) as shop,
        redis.Redis.from_url(server.url) as raw,
    ):
        raw.flushall()
        yield lambda kind: kind(shop, raw).run


@pytest.fixture
def battery(either: Callable[[type], Callable[[], None]]) -> Callable[[], None]:
    return either(Battery)


@pytest.fixture
def room_battery(either: Callable[[type], Callable[[], None]]) -> Callable[[], None]:
    return either(RoomBattery)


def test_the_batteries_pass_on_the_lua_as_it_is(
    battery: Callable[[], None], room_battery: Callable[[], None]
) -> None:
    battery()
    room_battery()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.safeguard)
def test_the_battery_fails_without_one_safeguard(
    mutant: Mutant, lua: Path, battery: Callable[[], None]
) -> None:
    fails_with(mutant, lua, battery)


@pytest.mark.parametrize("mutant", ROOM_MUTANTS, ids=lambda mutant: mutant.safeguard)
def test_the_rooms_battery_fails_without_one_safeguard(
    mutant: Mutant, lua: Path, room_battery: Callable[[], None]
) -> None:
    fails_with(mutant, lua, room_battery)


def fails_with(mutant: Mutant, lua: Path, battery: Callable[[], None]) -> None:
    mutate(lua, mutant)
    failures = AssertionError, FlashSaleError, redis.ResponseError, pytest.fail.Exception
    with pytest.raises(failures) as failure:
        battery()
    assert "compil" not in str(failure.value), "the mutant is not even Lua"


def test_the_copy_is_what_runs(lua: Path, battery: Callable[[], None]) -> None:
    (lua / "inventory/hold.lua").write_text("#!lua\nreturn {1, 1, 1, '!', ''}\n")
    with pytest.raises(FlashSaleError, match="hold refused"):
        battery()


def test_a_mutant_whose_text_is_gone_is_an_error_and_not_a_pass(lua: Path) -> None:
    with pytest.raises(AssertionError, match="has the text of the mutant 'any' 0 times"):
        mutate(lua, Mutant("any", "lib/refuse_units", "no such text", ""))
