"""Where a client's connections come from, the same for both shells."""

from __future__ import annotations

import codecs
import os
import re
import time
from collections.abc import Mapping
from ssl import TLSVersion
from typing import Any

import redis
from redis import RedisError
from redis.backoff import NoBackoff

from flashsale.attempts import Attempts
from flashsale.calls import Call
from flashsale.errors import ConfigurationError
from flashsale.scripts import load_all
from flashsale.server_url import checked_url, host_rule, label

# For each connection redis-py would read its own version from the disk: a millisecond, and a
# descriptor when perhaps none is left. (Its release 7.0 has no such thing.)
_DRIVER = {"driver_info": redis.DriverInfo()} if hasattr(redis, "DriverInfo") else {}

URL_VARIABLE = "FLASHSALE_URL"

MAX_CONNECTIONS = 100
"""Connections of a client to one server, unless it is given others."""

UNCHECKED = "a connection was lost, and the server is looked at again"
"""Why a call's first try ends unsent; a later one goes on: each came after a look of its own."""

_OWN_BOOKKEEPING = ("maint_", "orig_", "himport", "event_dispatcher", "response_callbacks")
"""Settings that tie redis-py's pools and cluster nodes to themselves."""

_FAKES = {"birdisle", "fakeredis", "mockredis"}
"""Packages that play a server inside the process, for tests."""

_OUR_BYTES = {"decode_responses": False, "encoding": "utf-8", "encoding_errors": "strict"}

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


def load_everything() -> None:
    """Open now whatever a call would open at its first use: later no descriptor may be left."""
    load_all()
    codecs.lookup("idna")  # a module of Python's own, read when the first address is looked up


def url_or_environment(url: str | None) -> str:
    """The URL given, or FLASHSALE_URL; never a server of our own by accident."""
    url = url or os.environ.get(URL_VARIABLE)
    if not url:
        raise ConfigurationError(
            f"no server: pass a URL, set {URL_VARIABLE}, or ask for one with .embedded()"
        )
    return checked_url(url)


def connection_options(kwargs: Mapping[str, Any], retry_class: Any) -> dict[str, Any]:
    """A given client's connection settings, for a pool that does not retry by itself.

    redis-py would retry ten times with growing pauses while connecting, past any time-out of
    ours. What we send and read are bytes, whatever the given client's encoding.
    """
    kept = {
        key: value
        for key, value in kwargs.items()
        if not key.startswith(_OWN_BOOKKEEPING) and key not in _NOT_OURS
    }
    if not kept.keys() & {"driver_info", "lib_name", "lib_version"}:
        kept |= _DRIVER
    return kept | _OUR_BYTES | {"retry": retry_class(NoBackoff(), 0), "retry_on_error": []}


def check_settings(kind: type[Any], options: Mapping[str, Any]) -> None:
    """Make one connection, without I/O, so that settings which it does not take are told now."""
    if any(base.__module__.partition(".")[0] in _FAKES for base in kind.__mro__):
        raise ConfigurationError(
            "client: a fake server cannot run the scripts (#!lua, cmsgpack, the ledger's streams): "
            "FlashSale.embedded() and flashsale.embedded.EmbeddedServer start a real one"
        )
    if wrong := _misfit(kind, options):
        raise ConfigurationError(f"client: {wrong}")


def _misfit(kind: type[Any], options: Mapping[str, Any]) -> str | None:
    host = options.get("host")
    if isinstance(host, str) and (rule := host_rule(host)):
        return f"setting host {rule}"
    try:
        if version := options.get("ssl_min_version"):
            TLSVersion(version)
        kind(**options)
    except TypeError as error:
        name = re.search(r"keyword argument '(\w+)'", str(error))
        setting = f"setting {label(name[1], options)}" if name else "one of its settings"
        return f"{setting} is not for connections of this kind"
    except (ValueError, RedisError) as error:
        return str(error)
    return None


def commands_of(call: Call, attempts: Attempts) -> list[tuple[Any, ...]]:
    """What to send for a call: by its digest, and with its text if that is not known yet.

    Numbers are sent as text: hiredis 3.5 crashes where a signal handler raises while it packs one.
    """
    script = (attempts.is_full and call.script.when_full) or call.script
    args = [str(arg) if isinstance(arg, int) else arg for arg in call.args]
    command = ("EVALSHA", script.sha, str(len(call.keys)), *call.keys, str(now_ms()), *args)
    return [command, ("EVAL", script.source, *command[2:])]
