"""The library runs under the README's least permissions, and needs every one of them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from flashsale import (
    ConfigurationError,
    CueState,
    FlashSale,
    FlashSaleError,
    HoldRequest,
    JoinRequest,
    Outcome,
    Sale,
    Sku,
    WaitingRoom,
    draw,
    freezing,
    settling,
)
from flashsale import window as window_module
from flashsale.embedded import EmbeddedServer
from flashsale.keys import CueKeys, ShardKeys
from flashsale.scripts import load_script
from support.cues import KEY
from support.lab import dump_key

ORDERS = (
    "+info +evalsha +eval +time +exists +unlink +hget +hgetall +hmget +hset +hdel +hlen +hscan "
    "+hvals +hexists +xadd +xrange +xtrim +zadd +zcard +zrangebyscore +zrem +zrange +zpopmax "
    "+strlen +getbit +setbit"
)
"""For a user that may call every verb."""

FSYNC = "+config|get"
"""In addition, with durability="fsync"."""

EVERY_KEY = ("~flashsale:*", "~flashsale-sealed:*")
NOT_SEALED = EVERY_KEY[:1]
"""What a user may reach who only looks on."""

VIEWER = "+info +evalsha +eval +time +hget +hgetall +hmget +hlen +hscan +xrange"
"""For a user that may look (snapshot, find, holds_of, ledger.read, audit) and change nothing."""

_number = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start(durability="fsync") as server:
        yield server


@pytest.fixture
def admin(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        client.script_flush()
        yield client


@pytest.fixture
def login(server: EmbeddedServer, admin: Any) -> Callable[..., str]:
    """Makes a user with these permissions; the URL to connect with."""

    def make(commands: str, patterns: tuple[str, ...] = EVERY_KEY) -> str:
        user = f"user-{next(_number)}"
        admin.execute_command("ACL", "SETUSER", user, "on", ">secret", *patterns, *commands.split())
        return f"redis://{user}:secret@127.0.0.1:{server.port}"

    return make


def without(commands: str, one: str) -> str:
    return " ".join(word for word in commands.split() if word != one)


def whole_life(shop: Any) -> None:
    """Every verb of a sale, from its opening to its purge."""
    sale = shop.open(Sale(f"life-{next(_number)}", [Sku("red", 50, limit=9)]))
    late = sale.hold("late", {"red": 2}, hold_id="h").unwrap()
    sale.extend(late, deadline_ms=late.deadline_ms + 60_000).unwrap()
    sale.hold_many([HoldRequest(f"buyer-{n}", {"red": 1}, "h") for n in range(3)])
    sale.hold("ann", {"red": 2}, hold_id="h", channel="app", note="19.90").unwrap()
    sale.confirm("ann", "h", lines={"red": 1}).unwrap()
    sale.refund("ann", "h", lines={"red": 1}, op_id="r").unwrap()
    sale.confirm("buyer-0", "h").unwrap()
    sale.release("buyer-1", "h").unwrap()
    sale.release("never", "h").unwrap()
    sale.restock({"red": 5}, op_id="t").unwrap()
    assert sale.pause().outcome is Outcome.PAUSED
    sale.resume().unwrap()
    look(sale)
    sale.release(late).unwrap()
    brief_life(shop)
    window(shop)
    waiting_room(shop)


def waiting_room(shop: Any) -> None:
    """Everything that can be done in a waiting room, and holds with a turn and a key."""
    skus = [Sku("red", 50)]
    sale = shop.open(Sale(f"life-{next(_number)}", skus, admission=True, key_holds_max=5))
    room = WaitingRoom(rate_per_s=1_000_000, key_places_max=5, opens_at_ms=soon(0.05))
    sale.queue.open(room)
    ann = sale.queue.join("ann", key="phone")
    sale.queue.join_many([JoinRequest("bob"), JoinRequest("cyd", "phone"), JoinRequest("dan")])
    sale.queue.leave("dan")
    assert sale.queue.join("dan").number == 4
    sale.queue.leave("dan")
    time.sleep(0.06)
    sale.queue.view()
    sale.queue.set_rate(500_000)
    time.sleep(0.005)
    view = sale.queue.view()
    assert (view.serving, view.passed) == (4, 1)
    assert sale.queue.position("ann", ann.ticket).outcome in (Outcome.CALLED, Outcome.WAITING)
    assert sale.queue.admit("ann", ann.ticket).outcome is Outcome.ADMITTED
    assert sale.queue.admit("bob").outcome is Outcome.ADMITTED
    held = sale.hold("ann", {"red": 1}, hold_id="h", key="phone").unwrap()
    assert sale.queue.leave("bob").outcome is Outcome.LEFT
    sale.queue.pause()
    assert sale.queue.resume().left == 2
    sale.confirm(held).unwrap()
    assert sale.end().outcome is Outcome.ENDED
    sale.purge().unwrap()


def soon(seconds: float) -> int:
    return time.time_ns() // 1_000_000 + int(seconds * 1_000)


def window(shop: Any) -> None:
    """Fairness windows: one of which only the best entry is kept, one that closes at once."""
    sale = shop.open(Sale(f"life-{next(_number)}", [Sku("red", 50)]))
    now = time.time_ns() // 1_000_000
    rules: dict[str, Any] = {"at": 0, "stock": {"red": 1}, "window_ms": 2_000, "proof": False}
    long: dict[str, Any] = {"cue_time_ms": now - 3_000, "windows": 2, "lag_cap_ms": 60_000}
    best = sale.cue("best", keep="best", reserve=0, **rules | long)
    for position_ms in (2_500, 500):
        best.enter(f"buyer-{position_ms}", {"red": 1}, position_ms=position_ms)
    assert best.view().entries == 1
    best.void("it rains")
    cue = sale.cue("red", cue_time_ms=now - 1_700, lag_cap_ms=0, grace_ms=0, **rules)
    assert cue.enter("ann", {"red": 1}, position_ms=0).outcome is Outcome.ENTERED
    assert cue.settle().awarded == 1
    assert cue.result("ann").outcome is Outcome.HELD
    assert cue.record()["void"] is None
    assert sale.cues() == ["best", "red"]


def brief_life(shop: Any) -> None:
    """What comes after a deadline: it has passed at once in this sale."""
    sale = shop.open(Sale(f"life-{next(_number)}", [Sku("red", 50)], hold_ttl_ms=1))
    late = sale.hold("late", {"red": 2}, hold_id="h").unwrap()
    time.sleep(0.005)
    assert sale.expire() == 1
    sale.confirm(late, late="retake").unwrap()
    assert sale.ledger.register("sink") == 0
    last = sale.snapshot().sequence
    assert sale.ledger.ack("sink", last) == last
    assert sale.ledger.trim() > 0
    assert sale.ledger.forget("sink") == last
    assert sale.audit().ok
    assert sale.end().outcome is Outcome.ENDED
    sale.purge().unwrap()


def look(sale: Any) -> None:
    """Everything that only reads."""
    sale.snapshot()
    assert sale.find("late", "h") is not None
    assert sale.holds_of("late")
    assert sale.ledger.read().entries
    assert sale.audit().ok


def test_every_verb_runs_under_the_least_permissions(
    login: Callable[..., str], admin: Any, connect: Callable[..., FlashSale]
) -> None:
    admin.acl_log_reset()
    whole_life(connect(login(ORDERS), timeout_ms=10_000, keys=[KEY]))
    # What redis-py tells the server about itself is refused, and it does not mind.
    denied = {entry["object"] for entry in admin.acl_log()}
    assert denied <= {"client|setinfo"}


@pytest.mark.parametrize("command", ORDERS.split())
def test_no_permission_of_an_order_service_can_be_left_out(
    command: str, login: Callable[..., str]
) -> None:
    with (
        FlashSale.from_url(login(without(ORDERS, command)), timeout_ms=10_000, keys=[KEY]) as shop,
        pytest.raises(ConfigurationError, match="refuses this user"),
    ):
        whole_life(shop)


def test_fsync_needs_one_permission_more(
    login: Callable[..., str], connect: Callable[..., FlashSale]
) -> None:
    whole_life(
        connect(login(f"{ORDERS} {FSYNC}"), timeout_ms=10_000, durability="fsync", keys=[KEY])
    )
    shop = connect(login(ORDERS), timeout_ms=10_000, durability="fsync")
    with pytest.raises(ConfigurationError, match=r"refuses this user.*config\|get"):
        shop.server()


def test_a_viewer_sees_everything_and_changes_nothing(
    login: Callable[..., str], server: EmbeddedServer, connect: Callable[..., FlashSale], admin: Any
) -> None:
    seen = a_sale_to_look_at(server)
    sale = connect(login(VIEWER, NOT_SEALED), timeout_ms=10_000).sale(seen)
    look(sale)
    before = {key: admin.dump(key) for key in admin.scan_iter()}
    for change in (
        lambda: sale.hold("ann", {"red": 1}, hold_id="h"),
        lambda: sale.confirm("late", "h"),
        lambda: sale.release("late", "h"),
        lambda: sale.restock({"red": 1}, op_id="t"),
        lambda: sale.pause(),
        lambda: sale.ledger.register("sink"),
    ):
        with pytest.raises(ConfigurationError, match="refuses this user"):
            change()
    assert {key: admin.dump(key) for key in admin.scan_iter()} == before


@pytest.mark.parametrize("command", VIEWER.split())
def test_no_permission_of_a_viewer_can_be_left_out(
    command: str, login: Callable[..., str], server: EmbeddedServer, admin: redis.Redis
) -> None:
    seen = a_sale_to_look_at(server)
    admin.script_flush()
    with (
        FlashSale.from_url(login(without(VIEWER, command), NOT_SEALED), timeout_ms=10_000) as shop,
        pytest.raises(ConfigurationError, match="refuses this user"),
    ):
        look(shop.sale(seen))


@pytest.fixture(params=["open", "begun"])
def drawn(request: pytest.FixtureRequest, server: EmbeddedServer, admin: Any) -> Iterator[Any]:
    """A cue with entrants: still open, or some of its winners awarded and nothing revealed."""
    with FlashSale.from_url(server.url, timeout_ms=10_000, keys=[KEY]) as shop:
        sale = shop.open(Sale(f"drawn-{next(_number)}", [Sku("red", 5)]))
        cue = sale.cue("drop", at=0, stock={"red": 1}, cue_time_ms=soon(0), proof=False)
        for buyer in ("entrant-a", "entrant-b"):
            assert cue.enter(buyer, {"red": 1}, position_ms=0).outcome is Outcome.ENTERED
        if request.param == "begun":
            admin.hset(ShardKeys.of(sale.id).sale, "now", cue.cue().reveals_at_ms)
            begin_to_award(shop, cue)
        yield cue


def begin_to_award(shop: FlashSale, cue: Any) -> None:
    """Settle it to the first award, and no further."""
    known = shop.perform(window_module.know(cue.sale, cue.id))
    frozen = shop.perform(freezing.freeze(cue.sale, cue.id))
    assert frozen.entrants is not None
    result = draw.draw(frozen.entrants, window_module.seed_of(known, KEY))
    assert shop.perform(settling._award(known, result)) is None
    assert cue.view().state is CueState.FROZEN


def test_a_viewer_sees_a_cue_and_none_of_its_secrets(
    drawn: Any, login: Callable[..., str], connect: Callable[..., FlashSale], admin: Any
) -> None:
    known = drawn._shop.perform(window_module.know(drawn.sale, drawn.id))
    view = drawn.view()
    secrets = [known.cue.nonce, known.salt.hex(), known.fresh.hex()]
    secrets += [window_module.seed_of(known, KEY).hex(), "entrant-a", "entrant-b"]

    sale = connect(login(VIEWER, NOT_SEALED), timeout_ms=10_000).sale(drawn.sale)
    handle = sale.cue_handle("drop")
    assert msgspec.structs.replace(handle.view(), at_ms=view.at_ms) == view
    assert view.cue.nonce == ""
    assert (view.entries, sale.cues()) == (2, ["drop"])
    for ask in (
        handle.cue,
        handle.record,
        lambda: handle.enter("ann", {"red": 1}, position_ms=0),
        lambda: handle.result("entrant-a", wait_ms=0),
        handle.settle,
    ):
        with pytest.raises(FlashSaleError):
            ask()
    assert not any(secret in str(handle.view()) for secret in secrets)
    if view.state is CueState.OPEN:  # a winner's hold is a hold, and may be seen
        for key in admin.scan_iter(match="flashsale:*"):
            content = str(dump_key(admin, key.decode()))
            assert not [secret for secret in secrets if secret in content], key


def test_a_viewer_reads_no_sealed_key_by_any_command_or_script(
    drawn: Any, login: Callable[..., str], admin: Any
) -> None:
    sealed = [key.decode() for key in admin.scan_iter(match="flashsale-sealed:*")]
    own = msgspec.structs.astuple(CueKeys.of(drawn.sale, drawn.id))
    assert {own[1], own[2]} <= set(sealed) <= set(own[1:])
    assert own[0].startswith("flashsale:")
    key = own[1]
    with redis.Redis.from_url(login(VIEWER, NOT_SEALED)) as client:
        for command in (
            ("HGET", key, "nonce"),
            ("HGETALL", key),
            ("HMGET", key, "salt"),
            ("HLEN", own[2]),
            ("HSCAN", own[2], 0),
            ("XRANGE", key, "-", "+"),
            ("EVAL", "return redis.call('HGETALL', KEYS[1])", 1, key),
            ("EVAL", "return redis.call('HGETALL', ARGV[1])", 0, key),
            ("EVAL", "return redis.call('HGETALL', ARGV[1] .. ':entries')", 1, *own[:1], key[:-8]),
        ):
            with pytest.raises(redis.ResponseError, match=r"(?i)no permissions|NOPERM|ACL failure"):
                client.execute_command(*command)
        script = load_script("window/secrets").source
        with pytest.raises(redis.ResponseError, match="(?i)no permissions"):
            client.eval(script, 3, ShardKeys.of(drawn.sale).sale, *own[:2], 0)


def a_sale_to_look_at(server: EmbeddedServer) -> str:
    with FlashSale.from_url(server.url, timeout_ms=10_000) as shop:
        sale = shop.open(Sale(f"seen-{next(_number)}", [Sku("red", 5)]))
        sale.hold("late", {"red": 2}, hold_id="h").unwrap()
        return sale.id


def test_the_keys_of_others_are_out_of_reach(
    login: Callable[..., str], admin: Any, server: EmbeddedServer
) -> None:
    url = login(ORDERS)
    with redis.Redis.from_url(url) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.hget("somebody-elses", "field")


def test_the_readme_has_these_very_permissions() -> None:
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")
    for commands in (ORDERS, VIEWER, FSYNC):
        assert commands in " ".join(text.split())
