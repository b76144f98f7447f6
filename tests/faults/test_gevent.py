"""Under gevent the blocking client gathers the calls of greenlets, as it does those of threads."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from flashsale.embedded import EmbeddedServer

PROGRAM = """
from gevent import monkey; monkey.patch_all()
import json, sys
import gevent, redis
from flashsale import FlashSale, Sale, Sku

raw = redis.Redis.from_url(sys.argv[1])

def calls():
    return raw.info("commandstats")["cmdstat_evalsha"]["calls"]

with FlashSale.from_url(sys.argv[1], timeout_ms=20_000) as shop:
    sale = shop.open(Sale("gevent", skus=[Sku("red", stock=1_000)]))
    sale.snapshot()
    before = calls()
    greens = [
        gevent.spawn(sale.hold, f"b{n}", {"red": 1 + n % 2}, hold_id=f"h{n}") for n in range(400)
    ]
    gevent.sleep(0)  # all of them have asked, and somebody carries the first batch
    killed = greens[0], greens[7], greens[399]
    gevent.killall(killed)
    gevent.joinall(greens, raise_error=False)
    answers = [green.value for green in greens if green not in killed]
    after = calls()
    print(json.dumps({
        "mixed up": [n for n, green in enumerate(greens) if green not in killed and (
            green.value.buyer, green.value.hold_id, green.value.outcome.name
        ) != (f"b{n}", f"h{n}", "HELD")],
        "calls": after - before,
        "held": sale.snapshot().skus["red"].held,
        "of the killed": [
            sum(hold.lines["red"] for hold in sale.holds_of(f"b{n}")) for n in (0, 7, 399)
        ],
        "problems": sale.audit().problems,
        "idle": shop._gatherer.policy.idle,
    }))
"""


FEW_CONNECTIONS = """
from gevent import monkey; monkey.patch_all()
import json, sys
import gevent
from flashsale import FlashSale, HoldRequest, Sale, Sku

def many(n):
    return [HoldRequest(f"b{n}-{m}", {"red": 1}, "h") for m in range(2_000)]

with FlashSale.from_url(sys.argv[1], timeout_ms=20_000, max_connections=1) as shop:
    sale = shop.open(Sale("gevent", skus=[Sku("red", stock=100_000)]))
    greens = [gevent.spawn(sale.hold_many, many(n)) for n in range(8)]
    (node,) = shop._connections._nodes.values()
    while len(node.pool._waiting) < 7:
        gevent.sleep(0)
    gevent.killall(greens[2:7])  # at least four of them wait for the connection
    gevent.joinall(greens, raise_error=False)
    ends = [end for n in (0, 1, 7) for end in greens[n].value]
    print(json.dumps({
        "outcomes": sorted({getattr(end, "outcome", end).name for end in ends}),
        "single": sale.hold("ann", {"red": 1}, hold_id="h").outcome.name,
        "problems": sale.audit().problems,
        "free": not node.pool._lent,
    }))
"""


A_ROOM = """
from gevent import monkey; monkey.patch_all()
import json, sys
from collections import Counter
import gevent, redis
from flashsale import FlashSale, Key, Sale, Sku, WaitingRoom

shop = FlashSale.from_url(sys.argv[1], timeout_ms=20_000, keys=[Key("test", bytes(32))])
sale = shop.open(Sale("room", skus=[Sku("red", stock=100)], admission=True))
queue = sale.queue
queue.open(WaitingRoom(rate_per_s=100_000, conversion=1, margin=0))
greens = [gevent.spawn(queue.join, f"b{n}") for n in range(300)]
gevent.joinall(greens, raise_error=False)
tickets = [green.value.ticket for green in greens]
numbers = sorted(green.value.number for green in greens)

queue.view()
shop._rooms.clear()
redis.Redis.from_url(sys.argv[1]).client_pause(300)
greens = [gevent.spawn(queue.position, f"b{n}", tickets[n]) for n in range(300)]
gevent.sleep(0.1)  # the first one reads, and the others wait for it
assert len(shop._readings) == 2  # the view for all, and the call
gevent.kill(greens[0])
gevent.joinall(greens, raise_error=False)
told = Counter(getattr(green.value, "outcome", green.value).name for green in greens[1:])
let_in = [gevent.spawn(queue.admit, f"b{n}", tickets[n]) for n in range(300)]
gevent.joinall(let_in, raise_error=False)
print(json.dumps({
    "numbers": numbers == list(range(1, 301)),
    "killed": type(greens[0].value).__name__,
    "told": told,
    "let in": Counter(green.value.outcome.name for green in let_in),
    "joined": queue.view().joined,
}))
shop.close()
"""


OWN_ERRORS = """
from gevent import monkey; monkey.patch_all()
import json, sys
from collections import Counter
import gevent, redis
from flashsale import FlashSale, Sale, Sku

class Own(Exception):
    pass

Mine = KIND

def call(n):
    if n % 2:
        return sale.hold(f"b{n}", {"red": 1}, hold_id="h").outcome.name
    try:
        with gevent.Timeout(0.2, Mine(n)):
            return sale.hold(f"b{n}", {"red": 1}, hold_id="h").outcome.name
    except Mine as error:
        return f"its own {error.args == (n,)}"

with FlashSale.from_url(sys.argv[1], timeout_ms=20_000, max_connections=2) as shop:
    sale = shop.open(Sale("gevent", skus=[Sku("red", stock=1_000)]))
    sale.hold("first", {"red": 1}, hold_id="h")
    redis.Redis.from_url(sys.argv[1]).client_pause(1_000)
    greens = [gevent.spawn(call, n) for n in range(60)]
    gevent.joinall(greens)
    print(json.dumps({
        "told": Counter(green.value for green in greens),
        "again": sorted({
            sale.hold(f"b{n}", {"red": 1}, hold_id="h").outcome.name for n in range(60)
        }),
        "held": sale.snapshot().skus["red"].held,
        "problems": sale.audit().problems,
        "idle": shop._gatherer.policy.idle,
    }))
"""


def told_by(program: str, server: EmbeddedServer) -> dict[str, Any]:
    """What a program tells that has gevent for itself."""
    done = subprocess.run(
        [sys.executable, "-c", program, server.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_greenlets_share_script_calls_and_a_killed_one_takes_nobody_along(
    own_server: EmbeddedServer,
) -> None:
    told = told_by(PROGRAM, own_server)
    assert told["mixed up"] == []
    assert told["problems"] == []
    assert told["idle"] is True
    assert told["calls"] <= 100  # 400 greenlets; some calls are those of the looking
    others = sum(1 + n % 2 for n in range(400) if n not in (0, 7, 399))
    assert told["held"] == others + sum(told["of the killed"])


def test_a_greenlet_killed_while_it_waits_for_a_connection_takes_none_along(
    own_server: EmbeddedServer,
) -> None:
    told = told_by(FEW_CONNECTIONS, own_server)
    assert told == {"outcomes": ["HELD"], "single": "HELD", "problems": [], "free": True}


def test_the_greenlets_of_a_waiting_room_share_its_view_and_a_killed_reader_takes_none_along(
    own_server: EmbeddedServer,
) -> None:
    told = told_by(A_ROOM, own_server)
    assert told == {
        "numbers": True,
        "killed": "GreenletExit",
        "told": {"CALLED": 99, "WAITING": 200},
        "let in": {"ADMITTED": 100, "WAITING": 200},
        "joined": 300,
    }


@pytest.mark.parametrize("kind", ["Own", "ValueError", "RuntimeError", "AttributeError"])
def test_an_error_of_the_callers_own_ends_that_callers_call_and_no_other(
    kind: str, own_server: EmbeddedServer
) -> None:
    """gevent raises it in whoever waits, the greenlet that carries the others' calls included."""
    told = told_by(OWN_ERRORS.replace("KIND", kind), own_server)
    assert told == {
        "told": {"its own True": 30, "HELD": 30},
        "again": ["HELD"],
        "held": 61,
        "problems": [],
        "idle": True,
    }
