"""What a service would run otherwise: the classic flash-sale script, and the bare floor.

The classic script is a set of buyers, a stock counter and a stream: no deadline, no replay, no
limit but one unit a buyer. It takes any number of orders, so the same text is one EVALSHA an
order and, batched by hand, 256 of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import redis
import redis.asyncio

from loadtests.targets.bench import BATCH, Command, Machine
from loadtests.targets.traffic import Order

ONE = "classic script, one an order"
BY_HAND = "classic script, 256 by hand"
BARE = "bare EVALSHA an order"
BARE_DECR = "bare DECR"

HOLD = """#!lua
-- KEYS stock buyers orders; ARGV buyer, order, buyer, order ...
local sold = 0
for k = 1, #ARGV, 2 do
  if tonumber(redis.call('GET', KEYS[1])) > 0 and redis.call('SADD', KEYS[2], ARGV[k]) == 1 then
    redis.call('DECR', KEYS[1])
    redis.call('XADD', KEYS[3], '*', 'buyer', ARGV[k], 'order', ARGV[k + 1])
    sold = sold + 1
  end
end
return sold
"""
PAY = """#!lua
-- KEYS paid orders; ARGV as above
local paid = 0
for k = 1, #ARGV, 2 do
  paid = paid + redis.call('SADD', KEYS[1], ARGV[k])
  redis.call('XADD', KEYS[2], '*', 'paid', ARGV[k], 'order', ARGV[k + 1])
end
return paid
"""
GIVE_BACK = """#!lua
-- KEYS stock buyers orders; ARGV as above
local back = 0
for k = 1, #ARGV, 2 do
  if redis.call('SREM', KEYS[2], ARGV[k]) == 1 then
    redis.call('INCR', KEYS[1])
    redis.call('XADD', KEYS[3], '*', 'back', ARGV[k], 'order', ARGV[k + 1])
    back = back + 1
  end
end
return back
"""
NOTHING = "#!lua\nreturn 1\n"

STOCK, BUYERS, ORDERS, PAID = "{c}stock", "{c}buyers", "{c}orders", "{c}paid"
KEYS = {HOLD: (STOCK, BUYERS, ORDERS), PAY: (PAID, ORDERS), GIVE_BACK: (STOCK, BUYERS, ORDERS)}


def load(machine: Machine, script: str) -> str:
    return str(machine.client.script_load(script))


def commands(machine: Machine, script: str, who: Sequence[Order], batch: int) -> list[Command]:
    """The classic way, `batch` orders a call."""
    sha, keys = load(machine, script), KEYS[script]
    return [
        ("EVALSHA", sha, len(keys), *keys, *flat(who[at : at + batch]))
        for at in range(0, len(who), batch)
    ]


def flat(who: Sequence[Order]) -> list[str]:
    return [value for order in who for value in order]


def cost(
    machine: Machine, script: str, who: Sequence[Order], batch: int, *, wins: int | None = None
) -> float:
    """µs of server CPU per order, pipelined; `wins` of them must come through, or all."""
    depth = 8 if batch > 1 else 500
    spent, replies = machine.send(commands(machine, script, who, batch), depth)
    if sum(replies) != (len(who) if wins is None else wins):
        raise RuntimeError(f"the classic script did {sum(replies)} of {len(who)} orders")
    return spent / len(who)


def stock_up(machine: Machine, stock: int) -> None:
    machine.client.set(STOCK, stock)


# --- through clients ----------------------------------------------------------------------

CONNECTIONS = 50
HANDS = 8
"""Callers that batch by hand; more gain nothing against one server."""


async def one_by_one(client: redis.asyncio.Redis, sha: str, order: Order) -> None:
    """An order the ordinary way: one awaited EVALSHA."""
    sold = await client.evalsha(sha, 3, STOCK, BUYERS, ORDERS, *order)
    assert sold == 1


async def by_hand(client: redis.asyncio.Redis, sha: str, who: Sequence[Order]) -> None:
    """Each caller takes 256 orders at a time."""
    parts = iter([who[at : at + BATCH] for at in range(0, len(who), BATCH)])

    async def caller() -> None:
        for part in parts:
            sold = await client.evalsha(sha, 3, STOCK, BUYERS, ORDERS, *flat(part))
            assert sold == len(part)

    await together(HANDS, caller)


async def connect(client: redis.asyncio.Redis) -> None:
    """Open every connection of the pool before the clock starts."""
    pool: Any = client.connection_pool
    taken = [await pool.get_connection() for _ in range(pool.max_connections)]
    for connection in taken:
        await pool.release(connection)


async def together(count: int, caller: Callable[[], Any]) -> None:
    """So many callers at the same time, until each has come to its end."""
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(caller())


def async_client(machine: Machine, connections: int, *, queue: bool = False) -> redis.asyncio.Redis:
    """For as many callers as connections; with `queue`, for any number that wait their turn."""
    url = machine.server.url
    pool: Any
    if queue:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url, max_connections=connections, timeout=None
        )
    else:
        pool = redis.asyncio.ConnectionPool.from_url(url, max_connections=connections)
    return redis.asyncio.Redis.from_pool(pool)
