"""What a service would queue with otherwise: a sorted set, or a counter and a signed token.

ZADD NX + ZRANK: a score in the order of coming, the rank is the position, asked of the server.
INCR + JWT: a number from a counter, in a token of HMAC-SHA256 (PyJWT) that the client keeps; a
buyer may have any number of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jwt
import redis.asyncio

from loadtests.targets import peers
from loadtests.targets.bench import BATCH, Machine, Packed
from loadtests.waiting.people import HOUR_MS, KEY, Spent, parts

ZSET = "ZADD NX + ZRANK"
INCR = "INCR"
JWT = "INCR + HS256 JWT"
QUEUE, COUNTER = "queue", "counter"


def token(sale: str, buyer: str, number: int, now_s: int) -> str:
    """What `flashsale.tokens` says, as a JWT: whose, for what, which number, until when."""
    said = {"sub": buyer, "aud": sale, "n": number, "iat": now_s, "exp": now_s + HOUR_MS // 1000}
    return jwt.encode(said, KEY.secret, "HS256", headers={"kid": KEY.id})


def check(sale: str, buyer: str, text: str) -> int:
    """The number in a JWT that is this buyer's for this sale."""
    said = jwt.decode(text, KEY.secret, ["HS256"], audience=sale, subject=buyer)
    return int(said["n"])


def zset_joins(who: Sequence[str], first: int) -> Packed:
    """Both commands a person, 256 people in flight; by hand, which packing millions asks for."""
    both = (_zadd(buyer, n) + _zrank(buyer) for n, buyer in enumerate(who, first))
    return _grouped(both, len(who), 2)


def _zadd(buyer: str, score: int) -> bytes:
    return _packed("ZADD", QUEUE, "NX", str(score), buyer)


def _zrank(buyer: str) -> bytes:
    return _packed("ZRANK", QUEUE, buyer)


def _packed(*words: str) -> bytes:
    told = "".join([f"${len(word)}\r\n{word}\r\n" for word in words])
    return f"*{len(words)}\r\n{told}".encode()


def _grouped(commands: Iterable[bytes], count: int, each: int) -> Packed:
    listed = list(commands)
    groups = (listed[at : at + BATCH] for at in range(0, count, BATCH))
    return [(b"".join(group), each * len(group)) for group in groups]


def zset_ranks(who: Sequence[str]) -> Packed:
    return _grouped(map(_zrank, who), len(who), 1)


def counts(count: int) -> Packed:
    return _grouped([_packed("INCR", COUNTER)] * count, count, 1)


def cost(machine: Machine, count: int, build: Callable[[Sequence[str], int], Packed]) -> Spent:
    """As `Hall.send_parts`, of commands that are packed already."""
    spent, seconds, before, first = 0.0, 0.0, machine.memory(), 0
    for who in parts(count):
        packed = build(who, first)
        first += len(who)
        begun = time.perf_counter()
        spent += machine.send(packed)[0]
        seconds += time.perf_counter() - begun
    return Spent(spent / count, (machine.memory() - before) / count, count / seconds)


# --- one call at a time -------------------------------------------------------------------


async def awaited(
    machine: Machine, who: Sequence[str], one: Callable[[redis.asyncio.Redis, str, int], Any]
) -> float:
    """Seconds for all, a connection for each of 50 callers."""
    async with peers.async_client(machine, peers.CONNECTIONS) as client:
        await peers.connect(client)
        waiting = iter(enumerate(who))

        async def caller() -> None:
            for number, buyer in waiting:
                await one(client, buyer, number)

        begun = time.perf_counter()
        await peers.together(peers.CONNECTIONS, caller)
        return time.perf_counter() - begun


async def join_zset(client: redis.asyncio.Redis, buyer: str, number: int) -> None:
    """Two commands in one pipeline, one round trip."""
    async with client.pipeline(transaction=False) as pipe:
        pipe.zadd(QUEUE, {buyer: number}, nx=True)
        pipe.zrank(QUEUE, buyer)
        await pipe.execute()


async def join_jwt(client: redis.asyncio.Redis, buyer: str, number: int) -> None:
    token("sale-000001", buyer, await client.incr(COUNTER), int(time.time()))


async def rank(client: redis.asyncio.Redis, buyer: str, number: int) -> None:
    assert await client.zrank(QUEUE, buyer) is not None
