"""What differs between the releases of redis-py that we take, in one place."""

from __future__ import annotations

from typing import Any


async def has_unread(connection: Any) -> bool:
    """Whether something has come on an asyncio connection that nobody has read."""
    if hasattr(connection, "can_read"):
        return bool(await connection.can_read())
    # Before redis-py 8 its only way to tell was to read for no time at all, which takes a turn of
    # the loop and a cancellation: for every call.
    parsed = getattr(connection._parser, "_reader", None)
    return bool(connection._reader._buffer) or (parsed is not None and parsed.has_data())
