"""PostgreSQL with orders batched by hand: a peer for whoever names a server with --postgres."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from loadtests.targets.traffic import Order

_TABLES = """
DROP TABLE IF EXISTS flashsale_peer_orders, flashsale_peer_stock;
CREATE TABLE flashsale_peer_stock (sku text PRIMARY KEY, units bigint NOT NULL CHECK (units >= 0));
CREATE TABLE flashsale_peer_orders (buyer text, hold_id text, PRIMARY KEY (buyer, hold_id));
INSERT INTO flashsale_peer_stock VALUES ('lipstick', 1000000000);
"""
_HOLD = """
WITH wanted AS (
  INSERT INTO flashsale_peer_orders SELECT * FROM unnest(%s::text[], %s::text[])
  ON CONFLICT DO NOTHING RETURNING 1)
UPDATE flashsale_peer_stock SET units = units - (SELECT count(*) FROM wanted)
WHERE sku = 'lipstick'
"""
_DROP = "DROP TABLE flashsale_peer_orders, flashsale_peer_stock"
_A_STATEMENT = 100
_CONNECTIONS = 8


def postgres_rate(dsn: str, who: Sequence[Order]) -> float:
    """Orders a second, 100 a statement and a transaction, eight connections taking turns.

    The server must flush before it acknowledges (fsync and synchronous_commit on). It makes two
    tables and drops them.
    """
    import psycopg

    parts = [who[at : at + _A_STATEMENT] for at in range(0, len(who), _A_STATEMENT)]
    with psycopg.connect(dsn, autocommit=True) as owner:
        for setting in ("fsync", "synchronous_commit"):
            row = owner.execute(f"SHOW {setting}").fetchone()
            if row != ("on",):
                raise RuntimeError(f"PostgreSQL's {setting} must be on, it is {row}")
        owner.execute(_TABLES)
        try:
            seconds = _run(psycopg, dsn, parts)
            row = owner.execute("SELECT count(*) FROM flashsale_peer_orders").fetchone()
            if row != (len(who),):
                raise RuntimeError(f"PostgreSQL has {row} orders of {len(who)}")
        finally:
            owner.execute(_DROP)
    return len(who) / seconds


def _run(psycopg: Any, dsn: str, parts: Sequence[Sequence[Order]]) -> float:
    import asyncio

    async def work() -> float:
        waiting = iter(parts)

        async def caller(connection: Any) -> None:
            for part in waiting:
                buyers, ids = zip(*part, strict=True)
                await connection.execute(_HOLD, (list(buyers), list(ids)))

        connections = [
            await psycopg.AsyncConnection.connect(dsn, autocommit=True) for _ in range(_CONNECTIONS)
        ]
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for connection in connections:
                group.create_task(caller(connection))
        seconds = time.perf_counter() - begun
        for connection in connections:
            await connection.close()
        return seconds

    return asyncio.run(work())
