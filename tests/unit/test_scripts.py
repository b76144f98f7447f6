"""The Lua files keep their own rules, and agree with the Python side."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flashsale import (
    Cue,
    Key,
    Outcome,
    RoomState,
    Sale,
    SaleState,
    Sku,
    WaitingRoom,
    audit,
    draw,
    freezing,
    inventory,
    ledger,
    limits,
    repair,
    settling,
    shuffle,
    views,
    waiting_room,
    window,
)
from flashsale.batches import Item, Kind, Target, run_batch
from flashsale.calls import Call, Operation, Send
from flashsale.cues import CueRequest, CueState, CueView
from flashsale.keyring import Keyring
from flashsale.keys import PREFIX, SEALED, CueKeys, ShardKeys
from flashsale.ledger import Entry, Names, Page
from flashsale.scripts import load_script, lua_folder, script_names, write_flat
from flashsale.window import Known

SCRIPTS = script_names()
LIBS = sorted(path.stem for path in (lua_folder() / "lib").glob("*.lua"))
KEY_NAMES = (*ShardKeys.__struct_fields__, "places", *CueKeys.__struct_fields__)
PAIR = re.compile(r"(\S) ([A-Z_]{3,})")


def text_of(name: str) -> str:
    return (lua_folder() / f"{name}.lua").read_text("utf-8")


def header(name: str) -> list[str]:
    """The comment block at the top, without its dashes."""
    lines = text_of(name).splitlines()[1:]
    end = next(n for n, line in enumerate(lines) if not line.startswith("--"))
    return [line[2:].removeprefix(" ") for line in lines[:end]]


def section(name: str, title: str) -> str:
    """What stands after a title of the header, its continuation lines joined."""
    found: list[str] = []
    for line in header(name):
        if line.startswith(f"{title} "):
            found.append(line[len(title) :].strip())
        elif found and line.startswith(" "):
            found.append(line.strip())
        elif found:
            break
    return " ".join(found)


def arguments(name: str) -> list[str]:
    """The names of the arguments that the header lists, one a line."""
    names: list[str] = []
    inside = False
    for line in header(name):
        inside = line.startswith("ARGV ") or (inside and line.startswith("     "))
        if inside and (match := re.match(r"(?:ARGV  | {6})([a-z_]+) {2,}\S", line)):
            names.append(match[1])
    return names


def outcomes_of(source: str) -> dict[str, str]:
    """Each name and letter of the lines that are marked as outcomes."""
    found: dict[str, str] = {}
    for line in source.splitlines():
        if match := re.match(r" *local ([A-Z_, ]+) = (.*) -- outcomes$", line):
            names = match[1].replace(" ", "").split(",")
            values = [value.strip() for value in match[2].split(",")]
            assert len(names) == len(values), line
            found |= {
                name: value[1:-1]
                for name, value in zip(names, values, strict=True)
                if value.startswith("'")
            }
    return found


# --- each file ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_the_shebang_and_a_header_with_purpose_keys_and_codes(name: str) -> None:
    first = text_of(name).splitlines()[0]
    assert first in ("#!lua", "#!lua flags=no-writes")
    purpose = header(name)[0]
    assert len(purpose) > 20
    assert purpose[0].isupper()
    assert section(name, "KEYS")
    assert arguments(name)[0] == "caller_ms"
    assert section(name, "CODES")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_that_only_reads_says_so_and_no_other_does(name: str) -> None:
    writes = re.search(
        r"redis\.call\('(HSET|HDEL|XADD|XTRIM|ZADD|ZREM|UNLINK|DEL|SET)'", load_script(name).source
    )
    assert text_of(name).startswith("#!lua flags=no-writes") is (writes is None)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_binds_the_keys_and_arguments_of_its_header_first(name: str) -> None:
    keys = section(name, "KEYS").split()
    assert set(keys) <= {*KEY_NAMES, "source"}
    source = text_of(name)
    used = sorted({int(number) for number in re.findall(r"KEYS\[(\d+)\]", source)})
    if used:
        bound = re.findall(r"([a-z]+) = KEYS\[(\d+)\]", source)
        assert [key for key, _ in bound] == [key for key in keys if key != "places"]
        assert used == list(range(1, len(bound) + 1))
    else:
        match = re.search(r"^local ([a-z_,\s]+?) =\s+unpack\(KEYS\)", source, re.MULTILINE)
        assert match
        assert re.findall(r"k_([a-z]+)", match[1]) == [key for key in keys if key != "places"]
    if "places" in keys:  # any number of them, and they come last
        assert keys[-1] == "places"
        assert f"local k_places = {{ unpack(KEYS, {len(keys)}) }}" in source
    if "unpack(ARGV)" in source:
        match = re.search(r"^local ([a-z_,\s]+?) =\s+unpack\(ARGV\)", source, re.MULTILINE)
        assert match
        names = [re.sub(r"_(blob|text)$", "", part.strip()) for part in match[1].split(",")]
    else:
        assert "local caller_ms = ARGV[1]" in source
        names = ["caller_ms"]
    assert len(names) == len(arguments(name)), (names, arguments(name))
    after = source[source.index("-- include") :]
    assert "KEYS" not in after
    assert "ARGV" not in after


@pytest.mark.parametrize("name", [*SCRIPTS, *(f"lib/{lib}" for lib in LIBS)])
def test_no_lua_builds_a_key_or_leaks_a_global(name: str) -> None:
    source = re.sub(r"--.*", "", text_of(name))
    assert "flashsale:" not in source
    assert "#0}" not in source
    assert not re.search(r"^function ", source, re.MULTILINE)
    assert max(len(line) for line in source.splitlines()) <= 100
    # What is written in pieces is named where that is asked for.
    named_there = {"lib/in_pieces": {"command"}, "lib/close_book": {"write.command"}}
    asked = r"(?:redis\.call|(?<!function )in_pieces|(?<!function )also_write)\((?:book, )?([^,)]+)"
    for called in re.findall(asked, source):
        literal = re.fullmatch(r"'[A-Z]+'", called.strip())
        assert literal or called in named_there.get(name, ()), called


@pytest.mark.parametrize("lib", LIBS)
def test_a_shared_file_defines_the_function_of_its_name_and_says_what_it_does(lib: str) -> None:
    text = text_of(f"lib/{lib}")
    assert f"local function {lib}(" in text
    described = [
        line
        for line in text.splitlines()
        if line.startswith("-- ") and not line.startswith("-- include")
    ]
    assert described
    assert len(re.findall(r"^local function ", text, re.MULTILINE)) == 1


@pytest.mark.parametrize("lib", LIBS)
def test_every_shared_function_is_used_wherever_it_is_included(lib: str) -> None:
    include = f"-- include lib/{lib}\n"
    files = [*SCRIPTS, *(f"lib/{other}" for other in LIBS)]
    includers = [name for name in files if include in text_of(name)]
    assert includers
    for name in SCRIPTS:
        source = load_script(name).source
        defined = source.count(f"local function {lib}(")
        assert defined <= 1
        if defined:
            uses = len(re.findall(rf"(?<![\w.]){lib}\(", source)) - defined
            assert uses > 0, f"{name} includes {lib} and never calls it"


@pytest.mark.parametrize("lib", LIBS)
def test_a_shared_file_includes_what_it_calls(lib: str) -> None:
    text = text_of(f"lib/{lib}")
    code = re.sub(r"--.*", "", text)
    for other in LIBS:
        if other != lib and re.search(rf"(?<![\w.]){other}\(", code):
            assert f"-- include lib/{other}\n" in text, other


# --- putting scripts together -------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_scripts_version_is_the_digest_of_its_whole_text(name: str) -> None:
    script = load_script(name)
    assert script.name == name
    assert script.sha == hashlib.sha1(script.source.encode()).hexdigest()
    assert "-- include" not in script.source
    assert script.source.startswith("#!lua")
    assert load_script(name) is script


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_twin_is_its_script_but_for_the_flag_and_the_constant(name: str) -> None:
    script = load_script(name)
    if not section(name, "FULL"):
        assert script.when_full is None
        assert "is_full" not in script.source
        return
    twin = script.when_full
    assert twin is not None
    assert (twin.name, twin.when_full) == (name, None)
    assert twin.sha == hashlib.sha1(twin.source.encode()).hexdigest() != script.sha
    changed = [
        (before, after)
        for before, after in zip(script.source.splitlines(), twin.source.splitlines(), strict=True)
        if before != after
    ]
    assert changed[0] == ("#!lua", "#!lua flags=allow-oom")
    refuses = "all but" in section(name, "FULL") or "calls nobody" in section(name, "FULL")
    assert len(changed) == 1 + refuses
    assert all(after.startswith("local is_full = true ") for _, after in changed[1:])


def test_the_scripts_written_for_a_linter_are_those_that_are_sent(tmp_path: Path) -> None:
    written = write_flat(tmp_path)
    assert [path.name for path in written] == [f"{name.replace('/', '_')}.lua" for name in SCRIPTS]
    for name, path in zip(SCRIPTS, written, strict=True):
        assert path.read_text("utf-8") == load_script(name).source


# --- outcomes -----------------------------------------------------------------------------


def codes(name: str) -> dict[str, str]:
    """{name: letter} after CODES."""
    text = section(name, "CODES")
    found = {match[2]: match[1] for match in PAIR.finditer(text)}
    assert len(found) == len(text.split(","))
    return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_codes_of_a_header_are_outcomes_under_their_own_letters(name: str) -> None:
    for outcome, letter in codes(name).items():
        assert Outcome[outcome].code == letter


@pytest.mark.parametrize("name", [*SCRIPTS, *(f"lib/{lib}" for lib in LIBS)])
def test_letters_in_the_code_have_the_names_that_python_gives_them(name: str) -> None:
    source = text_of(name)
    named = outcomes_of(source)
    for outcome, letter in named.items():
        if outcome == "SOLD_OUT_MAY_RETURN":
            assert letter == "s"
        else:
            assert Outcome[outcome].code == letter
    # A name in capitals that is an outcome is bound by such a line, or by none at all.
    bound = re.findall(r"^ *local ([A-Z_]{3,}[A-Z_, ]*) = [^\n]*'.'[^\n]*$", source, re.MULTILINE)
    others = {"STATE_OF", "CODES", "UNJUDGED", *LIMITS}
    assert {part.strip() for line in bound for part in line.split(",")} <= set(named) | others


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_answers_no_outcome_that_its_header_leaves_out(name: str) -> None:
    own = outcomes_of(text_of(name))
    anywhere = outcomes_of(load_script(name).source)
    header_codes = codes(name)
    assert set(own) <= set(header_codes) | {"SOLD_OUT_MAY_RETURN"}
    assert set(header_codes) <= set(anywhere)


def test_every_outcome_is_some_scripts_answer() -> None:
    told = {outcome for name in SCRIPTS for outcome in codes(name)}
    # What proves nothing is not even sent; that it is a buyer's turn is worked out from a view.
    assert told == set(Outcome.__members__) - {"NO_PROOF", "WRONG_PROOF", "CALLED"}


# --- limits -------------------------------------------------------------------------------

LIMITS: dict[str, int] = {
    "BATCH_MAX": limits.BATCH_MAX,
    "SWEEP_PER_CALL": limits.SWEEP_PER_CALL,
    "READ_MAX": limits.READ_MAX,
    "SHORT_READ_MAX": limits.SHORT_READ_MAX,
    "WALK_MAX": limits.WALK_MAX,
    "WORK_MAX": limits.WORK_MAX,
    "LOOP_MAX": limits.LOOP_MAX,
    "CALL_LINES_MAX": limits.CALL_LINES_MAX,
    "FRESH_LINES_MAX": 8_192,
    "PLAIN_MAX": 512,
    "TRIM_MAX": ledger.TRIM_MAX,
    "SHOW_MAX": 65_536,
    "PAGE_BYTES": 1_048_576,
    "STEP": 32,
    "RECORD_MAX": limits.RECORD_MAX,
    "BASKETS_MAX": 8_192,
    "CLOCK_JUMP_MAX": limits.CLOCK_JUMP_MAX_MS,
    "LINES_MAX": limits.LINES_MAX,
    "EXTENDS_MAX": limits.EXTENDS_MAX,
    "REFUNDS_MAX": limits.REFUNDS_MAX,
    "RESTOCKS_MAX": limits.RESTOCKS_MAX,
    "STOCK_MAX": limits.STOCK_MAX,
    "SKUS_MAX": limits.SKUS_MAX,
    "TIME_MAX": limits.TIME_MAX_MS,
    "DURATION_MAX": limits.DURATION_MAX_MS,
    "HOLDS_MAX": limits.HOLDS_MAX,
    "BUYERS_MAX": limits.BUYERS_MAX,
    "CUES_MAX": limits.CUES_MAX,
    "ENTRY_BYTES": limits.ENTRY_BYTES,
    "ENTRIES_BYTES_LEAST": limits.ENTRIES_BYTES_LEAST,
    "LAG_BUCKETS": limits.LAG_BUCKETS,
    "REPORTS_MAX": limits.STOCK_MAX,
    "READERS_MAX": 64,
    "PLACES_MAX": limits.PLACES_MAX,
    "HASHES_MAX": limits.HASHES_MAX,
    "RATE_MAX": limits.RATE_MAX,
    "CONVERSION_MAX": limits.CONVERSION_MAX,
    "TURN_SLOTS": limits.TURN_SLOTS,
    "PRIOR_TURNS": limits.PRIOR_TURNS,
    "TURN_UNITS": limits.TURN_UNITS,
    "BURST_S": limits.BURST_S,
    "LOOKS_MAX": limits.LOOKS_MAX,
    "ROUNDS": shuffle.ROUNDS,
}


def bounds_of(source: str) -> Iterator[tuple[str, float]]:
    for names, values in re.findall(r"^ *local ([A-Z_, ]+) = ([^{\n]+?)(?: --.*)?$", source, re.M):
        for name, value in zip(names.split(","), values.split(","), strict=True):
            if re.fullmatch(r"[\d.e]+", value.strip()):
                yield name.strip(), float(value)


def test_every_bound_in_lua_is_that_of_python() -> None:
    found: dict[str, set[float]] = {}
    for name in [*SCRIPTS, *(f"lib/{lib}" for lib in LIBS)]:
        for bound, value in bounds_of(text_of(name)):
            found.setdefault(bound, set()).add(value)
    assert found == {name: {float(value)} for name, value in LIMITS.items()}


def test_the_bounds_that_lua_has_no_name_for_are_those_of_python_too() -> None:
    assert f"#value <= {limits.ID_MAX} " in text_of("lib/is_id")
    assert f"#id > {limits.ID_MAX} " in text_of("lib/are_ids")
    assert f"value <= {limits.QTY_MAX} " in text_of("lib/is_quantity")
    assert f"budget > {limits.SWEEP_MAX} " in text_of("inventory/expire")
    assert f"at most {LIMITS['READERS_MAX']} readers" in Path(ledger.__file__).read_text("utf-8")


def test_identifiers_are_made_of_the_same_characters_on_both_sides() -> None:
    match = re.search(r"'\^\[([^']+)\]\+\$'", text_of("lib/is_id"))
    assert match
    lua = {chr(n) for n in range(48, 123) if chr(n).isalnum()} | set(match[1].replace("%w", ""))
    assert lua == {chr(n) for n in range(128) if limits._ID.fullmatch(chr(n))}


# --- what Python sends --------------------------------------------------------------------

SALE, TARGET = "1111", Target("ann", "h")
NAMES = Names(("red",), 1_000)
KNOWN = Known(
    Cue(
        SALE, "cue", {"red": 1}, 1, 1, 0, 3_000, 1, 0, 0, 0, 0, "all", None, None, None, None, True,
        "", "k", "", 3_001, 5_001, 60_000,
    ),
    bytes(32),
    bytes(32),
    (("red", 0),),
)  # fmt: skip
VIEW = CueView(
    KNOWN.cue, CueState.FROZEN, 1, 0, 0, {}, 1, "00", 0, None, None, "", "", "",
)  # fmt: skip
FROZEN = freezing.Frozen(Outcome.FROZEN, KNOWN, VIEW)
DRAWN = draw.Drawn(draw.Frozen(KNOWN.cue, 1, [], "", {}, {"00": "ann"}, []), b"", None, [], [])
PAGE = Page(1, 9, 0, "", 5, {}, ())
REQUEST = ("ann", {"red": 1}, "h", "", "")
ROOM = waiting_room._read_room(
    SALE,
    1,
    "",
    [
        *(b"definition", msgspec.json.encode(WaitingRoom(rate_per_s=1))),
        *(b"state", b"running", b"rate", b"1", b"present", b"", b"seed", b""),
        *(b"fixed", b'{"key":"k","commitment":""}'),
    ],
    [1, 0, 0, 0],
    [0, 1, b"0.5", 0, 0],
)


def batch(kind: Kind, item: Item) -> Operation[Any]:
    return run_batch(kind, [item], lambda numbers, results: None)


OPERATIONS = {
    "inventory/open": inventory.open_sale(Sale(SALE, [Sku("red", 1)])),
    "inventory/hold": batch(inventory.hold_kind(SALE), inventory.hold_item(*REQUEST)),
    "inventory/confirm": batch(
        inventory.confirm_kind(SALE, "refuse"), inventory.confirm_item(TARGET, None)
    ),
    "inventory/release": batch(inventory.release_kind(SALE), inventory.release_item(TARGET)),
    "inventory/extend": batch(inventory.extend_kind(SALE), inventory.extend_item(TARGET, 10**12)),
    "inventory/refund": batch(
        inventory.refund_kind(SALE), inventory.refund_item(TARGET, {"red": 1}, "r")
    ),
    "inventory/expire": inventory.expire(SALE, 1),
    "inventory/restock": inventory.restock(SALE, {"red": 1}, "o"),
    "inventory/set_state": inventory.set_state(SALE, SaleState.PAUSED),
    "inventory/purge": inventory.purge(SALE),
    "inventory/find": views.find(SALE, TARGET),
    "inventory/snapshot": views.snapshot(SALE),
    "inventory/scan": views.scan(SALE, "0", 10),
    "inventory/key_states": views.key_states(SALE),
    "window/cue": window.open_cue(
        SALE,
        CueRequest(id="cue", position_ms=1, stock={"red": 1}),
        key=Key("k", bytes(32)),
        at=1,
        clock=None,
        cue_time_ms=10**12,
        entropy=None,
    ),
    "window/enter": batch(
        window.enter_kind(SALE, KNOWN),
        window.enter_item(KNOWN, "ann", {"red": 1}, 1, None, None),
    ),
    "window/list": views.cue_ids(SALE),
    "window/parts": views.parts(SALE, ("red",), "0"),
    "window/lags": window.lags(SALE, [1]),
    "window/secrets": window._secrets(SALE, "cue"),
    "window/show": window.know(SALE, "cue"),
    "window/freeze": freezing._freeze(SALE, "cue", "", 0),
    "window/entries": freezing.pages(KNOWN, CueKeys.of(SALE, "cue").entries),
    "window/award": settling._award_some(KNOWN, DRAWN, "drawn", [("00", [("red", 1, 1)])]),
    "window/reveal": settling._reveal(KNOWN.cue, DRAWN, 0),
    "window/publish": freezing.published(FROZEN, None),
    "window/void": freezing.void(SALE, "cue", "rain"),
    "window/give_back": freezing.give_back(SALE, "cue"),
    "window/result": batch(window.result_kind(SALE, "cue"), window.result_item("cue", "ann")),
    "waiting_room/open": waiting_room._open(
        SALE, WaitingRoom(rate_per_s=1, places_max=1), Key("k", bytes(32))
    ),
    "waiting_room/join": batch(waiting_room.join_kind(ROOM), waiting_room.join_item("ann", "")),
    "waiting_room/admit": batch(
        waiting_room.admit_kind(ROOM), waiting_room.admit_item("ann", None)
    ),
    "waiting_room/leave": batch(
        waiting_room.leave_kind(ROOM), waiting_room.leave_item("ann", None)
    ),
    "waiting_room/show": waiting_room.look(SALE, Keyring(())),
    "waiting_room/reveal": waiting_room._told(SALE, "reveal", "00"),
    "waiting_room/definition": views.place_hashes(SALE),
    "waiting_room/steer": waiting_room.steer(SALE, Keyring(()), RoomState.PAUSED, None),
    "ledger/read": ledger.read(SALE, NAMES, 0, 10),
    "ledger/reader": ledger.register(SALE, "sink"),
    "ledger/repair": repair._step(SALE, Entry(1, 2, 3, (), (), "cue"), "check", 1),
    "ledger/trim": ledger.trim_to(SALE, PAGE.checkpoint_sequence, 4, "{}"),
}


def test_every_script_is_sent_by_some_operation() -> None:
    assert sorted(OPERATIONS) == SCRIPTS


@pytest.mark.parametrize("name", SCRIPTS)
def test_python_sends_the_keys_and_as_many_arguments_as_the_header_lists(name: str) -> None:
    call = CALLS[name]
    assert call.script.name == name
    tag = rf"^flashsale(-sealed)?:{{{SALE}#0}}:"
    names = [re.sub(r"^cue:cue:|:\d+$", "", re.sub(tag, "", key)) for key in call.keys]
    expected = section(name, "KEYS").replace("source", "cue").split()  # of another cue
    assert [name.partition(":")[0] for name in names] == expected
    assert 1 + len(call.args) == len(arguments(name))


ASKED_BEFORE: dict[str, list[list[object]]] = {
    "inventory/purge": [[1, 1, b"", []], [1, 1, b"9", b""]]
}
"""The replies to calls that come before the one that is meant."""


def first_call(name: str) -> Call:
    operation = OPERATIONS[name]
    try:
        call = next(operation)
        for reply in ASKED_BEFORE.get(name, []):
            call = operation.send(reply)
    finally:
        operation.close()
    return call.call if isinstance(call, Send) else call


CALLS = {name: first_call(name) for name in SCRIPTS}


def test_the_subjects_are_the_folders() -> None:
    folders = {name.partition("/")[0] for name in SCRIPTS}
    assert folders == {"inventory", "ledger", "waiting_room", "window"}
    assert audit.__doc__
    for folder in folders:
        assert (Path(inventory.__file__).parent / f"{folder}.py").is_file()


# --- the README ---------------------------------------------------------------------------

README = (lua_folder() / "README.md").read_text("utf-8")


def test_the_readme_lists_every_key_and_every_event() -> None:
    table = README[README.index("| NAME | type | holds |") : README.index("The `sale` hash:")]
    assert tuple(re.findall(r"^\| `([a-z]+)` \|", table, re.MULTILINE)) == KEY_NAMES
    events = README[README.index("| field | event |") : README.index("`holds` are three fields")]
    found = dict(re.findall(r"^\| `([a-z])` \| ([a-z_]+)", events, re.MULTILINE))
    assert found == {kind.letter: kind.value for kind in ledger.EventKind}


def test_the_readme_names_every_outcome() -> None:
    for outcome in Outcome:
        assert re.search(rf"\b{outcome.name}\b", README), outcome.name


SEES_SECRETS = {
    *("window/cue", "window/secrets", "window/enter", "window/entries", "window/freeze"),
    *("window/award", "window/reveal", "window/result", "window/void"),
    *("inventory/purge", "ledger/repair"),
}
"""Scripts that are given sealed keys; all others may be run by whoever only looks on."""


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_that_only_looks_on_is_given_a_sealed_key(name: str) -> None:
    sealed = [key for key in CALLS[name].keys if key.startswith(SEALED)]
    public = [key for key in CALLS[name].keys if not key.startswith(f"{SEALED}:")]
    assert all(key.startswith(f"{PREFIX}:") for key in public)
    assert not sealed or name in SEES_SECRETS
