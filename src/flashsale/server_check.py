"""What a server must be: asked by a client's first call, and again every LOOK_AGAIN_S."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal, TypeAlias

import redis
from msgspec import Struct

from flashsale import limits
from flashsale.errors import ConfigurationError, InvalidRequest

Durability: TypeAlias = Literal["memory", "fsync"]
DURABILITIES: tuple[Durability, ...] = ("memory", "fsync")

INFO_SECTIONS = ("server", "memory", "persistence", "replication", "cluster")
MINIMUM_VERSION = (7, 0)

LOOK_AGAIN_S = 10.0
"""Seconds after which a server's settings are looked at again, by the next call."""


class ServerInfo(Struct, frozen=True):
    """The server a client talks to.

    replica: it follows another one, as it said when it was looked at, at most ten seconds ago:
    what is read from it (`find`, `holds_of`, the views and the ledger) may be older than what the
    primary has, a `Snapshot` is marked `stale`, and whatever writes is refused.
    """

    name: str
    version: str
    replica: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def check_options(timeout_ms: int, durability: str) -> tuple[int, Durability]:
    """The options of a client."""
    timeout_ms = limits.check_int("timeout_ms", timeout_ms, 1, 600_000)
    try:
        return timeout_ms, limits.check_choice("durability", durability, DURABILITIES)
    except InvalidRequest as error:
        raise ConfigurationError(str(error)) from None


def parse_info(raw: object) -> dict[str, str]:
    """INFO's lines as a mapping."""
    if not isinstance(raw, bytes):
        raise ConfigurationError("what answers there is no Redis: INFO gives no text")
    lines = raw.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and line[0] != "#")


def is_due(looked_at: float, known_at: float) -> bool:
    """Whether a call has to look at a server itself, before it is sent there.

    looked_at: when the last look began; while it lasts, other calls go on with what is known.
    known_at: when the look began that found what is known; nobody goes on with what is twice as
    old as a look should be. Both are times of `time.monotonic`.
    """
    now = time.monotonic()
    return now - looked_at >= LOOK_AGAIN_S or now - known_at >= 2 * LOOK_AGAIN_S


def check_ready(info: Mapping[str, str]) -> None:
    """A server that still reads its data answers INFO, but not with what will hold then."""
    if info.get("loading", "0") != "0":
        raise redis.exceptions.BusyLoadingError("the server is still loading its data")
    # -1: the link to its primary was never up, so whatever it has is not that one's data.
    never = info.get("master_link_down_since_seconds") == "-1"
    if info.get("role") == "slave" and (never or info.get("master_sync_in_progress", "0") != "0"):
        raise redis.exceptions.BusyLoadingError("the replica has no copy of its primary's data yet")


def check_server(info: Mapping[str, str]) -> ServerInfo:
    """Kind, version, eviction policy; ConfigurationError that says what to change."""
    if "sentinel" in (info.get("redis_mode"), info.get("server_mode")):
        raise ConfigurationError(
            "a Sentinel answers there, which keeps no data: give the client of its primary, "
            "Sentinel([(host, port)]).master_for(name)"
        )
    if "redis_version" not in info:
        raise ConfigurationError("what answers there is no Redis: its INFO has no redis_version")
    version = info["redis_version"]
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < MINIMUM_VERSION:
        wanted = ".".join(map(str, MINIMUM_VERSION))
        raise ConfigurationError(
            f"the server is Redis {version}; flashsale needs Redis {wanted} or later, or Valkey"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":  # also without a bound, which CONFIG SET may set at any time
        raise ConfigurationError(
            f"the server may evict orders: maxmemory-policy is {policy}, it must be noeviction"
        )
    replica = info.get("role") == "slave"
    if "valkey_version" in info:
        return ServerInfo("Valkey", info["valkey_version"], replica)
    return ServerInfo("Redis", version, replica)


def check_fsync(info: Mapping[str, str], appendfsync: str | None) -> None:
    """For durability="fsync": every acknowledged write must be on disk."""
    if info.get("aof_enabled") != "1" or appendfsync != "always":
        raise ConfigurationError(
            'durability="fsync" needs appendonly yes and appendfsync always on the server; it has '
            f"appendonly {'yes' if info.get('aof_enabled') == '1' else 'no'}, "
            f"appendfsync {appendfsync or 'unknown'}"
        )


def config_value(reply: object) -> str | None:
    """The value in a CONFIG GET reply of one setting, in either protocol version."""
    values = list(reply.values()) if isinstance(reply, dict) else reply
    if isinstance(values, list) and values and isinstance(values[-1], bytes):
        return values[-1].decode()
    return None
