"""Under gevent the blocking client gathers the calls of greenlets, as it does those of threads."""

from __future__ import annotations

import json
import subprocess
import sys

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


def test_greenlets_share_script_calls_and_a_killed_one_takes_nobody_along(
    own_server: EmbeddedServer,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, own_server.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["mixed up"] == []
    assert told["problems"] == []
    assert told["idle"] is True
    assert told["calls"] <= 100  # 400 greenlets; some calls are those of the looking
    others = sum(1 + n % 2 for n in range(400) if n not in (0, 7, 399))
    assert told["held"] == others + sum(told["of the killed"])
