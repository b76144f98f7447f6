"""What sentinels say of a primary, read the same way in both shells; no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import redis
from redis.sentinel import MasterNotFoundError

from flashsale.errors import ConfigurationError

Address: TypeAlias = tuple[str, int]

UNREACHABLE = (redis.ConnectionError, redis.TimeoutError, OSError)
"""After these, another sentinel is asked first."""


class UnknownPrimary(MasterNotFoundError):
    """A sentinel answered, and watches over no primary of this name."""


def primary_in(masters: Mapping[str, Any], manager: Any, name: str) -> Address:
    """The primary's address in a reply to SENTINEL MASTERS; MasterNotFoundError without one."""
    state = masters.get(name)
    if state is None:
        raise UnknownPrimary(f"a sentinel knows no primary {name!r}")
    if not manager.check_master_state(state, name):
        raise MasterNotFoundError(f"a sentinel finds the primary {name!r} not well")
    forced = manager._force_master_ip
    return (state["ip"] if forced is None else forced), state["port"]


def why_none(name: str, failures: Sequence[Exception]) -> Exception:
    """What to raise when no sentinel named a primary, from what each of them said."""
    for error in failures:
        if isinstance(error, redis.AuthenticationError):
            return ConfigurationError(
                f"a sentinel refuses this client's user or password (sentinel_kwargs): {error}"
            )
    if failures and all(isinstance(error, UnknownPrimary) for error in failures):
        return ConfigurationError(f"no sentinel watches over a primary {name!r}")
    return failures[-1] if failures else MasterNotFoundError("there is no sentinel")


def refuse_other_servers(error: redis.ResponseError) -> None:
    """Raise ConfigurationError if what answers at a sentinel's address is none."""
    if "unknown command" in str(error):
        rule = "what answers at a sentinel's address is no sentinel"
        raise ConfigurationError(rule) from error
