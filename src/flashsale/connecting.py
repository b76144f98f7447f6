"""Where a client's connections come from, the same for both shells."""

from __future__ import annotations

import os
import time
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import parse_url

from flashsale.errors import ConfigurationError

URL_VARIABLE = "FLASHSALE_URL"

ATTEMPTS = 3
"""A call's time is divided among so many attempts: a lost reply must leave time to ask again."""


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


def connection_options(pool: Any, retry_class: Any) -> dict[str, Any]:
    """A given client's connection settings, for a pool that does not retry by itself.

    redis-py would retry ten times with growing pauses while connecting, past any time-out of
    ours. Keys that tie a pool to its own bookkeeping stay behind.
    """
    kwargs = {
        key: value
        for key, value in pool.connection_kwargs.items()
        if not key.startswith(("maint_", "orig_", "himport", "event_dispatcher"))
    }
    kwargs["retry"] = retry_class(NoBackoff(), 0)
    kwargs["retry_on_error"] = []
    return kwargs
