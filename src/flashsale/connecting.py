"""Where a client's connections come from, the same for both shells."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import parse_url

from flashsale.calls import Call
from flashsale.errors import ConfigurationError

URL_VARIABLE = "FLASHSALE_URL"

MAX_CONNECTIONS = 100
"""Connections of a client to one server, unless it is given others."""

_OWN_BOOKKEEPING = ("maint_", "orig_", "himport", "event_dispatcher", "response_callbacks")
"""Settings that tie redis-py's pools and cluster nodes to themselves."""

_NOT_OURS = {"max_connections", "connection_class", "redis_connect_func"}


class _Forks:
    """How often this process came out of a fork: `os.getpid` is a system call, for every call."""

    count = 0

    def note(self) -> None:
        self.count += 1


FORKS = _Forks()
os.register_at_fork(after_in_child=FORKS.note)


def now_ms() -> int:
    """This process's clock."""
    return time.time_ns() // 1_000_000


def url_or_environment(url: str | None) -> str:
    """The URL given, or FLASHSALE_URL; never a server of our own by accident."""
    url = url or os.environ.get(URL_VARIABLE)
    if not url:
        raise ConfigurationError(
            f"no server: pass a URL, set {URL_VARIABLE}, or ask for one with .embedded()"
        )
    try:
        parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:  # not told further: its text may have a part of the password in it
        rule = "must look like redis://user:password@host:port/db (or rediss://, unix://)"
        raise ConfigurationError(f"the server's URL {rule}, special characters as %XX") from None
    return url


def connection_options(kwargs: Mapping[str, Any], retry_class: Any) -> dict[str, Any]:
    """A given client's connection settings, for a pool that does not retry by itself.

    redis-py would retry ten times with growing pauses while connecting, past any time-out of
    ours.
    """
    kept = {
        key: value
        for key, value in kwargs.items()
        if not key.startswith(_OWN_BOOKKEEPING) and key not in _NOT_OURS
    }
    return kept | {"retry": retry_class(NoBackoff(), 0), "retry_on_error": []}


def commands_of(call: Call) -> list[tuple[Any, ...]]:
    """What to send for a call: by its digest, and with its text if that is not known yet."""
    command = ("EVALSHA", call.script.sha, len(call.keys), *call.keys, now_ms(), *call.args)
    return [command, ("EVAL", call.script.source, *command[2:])]
