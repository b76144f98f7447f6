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

from loadtests.targets.bench import BATCH, Machine, Packed
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
PIPELINED = 500
"""Small commands in flight at a time."""

NOTHING = "#!lua\nreturn 1\n"

STOCK, BUYERS, ORDERS, PAID = "{c}stock", "{c}buyers", "{c}orders", "{c}paid"
KEYS = {HOLD: (STOCK, BUYERS, ORDERS), PAY: (PAID, ORDERS), GIVE_BACK: (STOCK, BUYERS, ORDERS)}


def load(machine: Machine, script: str) -> str:
    return str(machine.client.script_load(script))


def pack(machine: Machine, script: str, who: Sequence[Order], batch: int) -> Packed:
    """The classic way, `batch` orders a call, pipelined."""
    sha, keys = load(machine, script), KEYS[script]
    commands = [
        ("EVALSHA", sha, len(keys), *keys, *flat(who[at : at + batch]))
        for at in range(0, len(who), batch)
    ]
    return machine.pack(commands, 8 if batch > 1 else PIPELINED)


def flat(who: Sequence[Order]) -> list[str]:
    return [value for order in who for value in order]


def cost(machine: Machine, packed: Packed, wins: int) -> float:
    """µs of server CPU; `wins` orders must come through."""
    spent, replies = machine.send(packed)
    if sum(replies) != wins:
        raise RuntimeError(f"the classic script did {sum(replies)} orders, not {wins}")
    return spent


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


def async_client(machine: Machine, connections: int) -> redis.asyncio.Redis:
    """For as many callers at the same time as it has connections."""
    pool = redis.asyncio.ConnectionPool.from_url(machine.server.url, max_connections=connections)
    return redis.asyncio.Redis.from_pool(pool)
