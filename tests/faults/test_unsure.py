"""A refusal after a lost reply says nothing about the attempt whose answer was lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from flashsale import (
    Answer,
    ConfigurationError,
    FlashSale,
    HoldRequest,
    HoldState,
    OutcomeUnknown,
    Sale,
    Sku,
)
from support.proxy import FaultProxy

SALE = Sale("unsure", [Sku("red", 1_000)])


def test_a_refusal_after_a_lost_reply_is_never_told_as_not_applied(
    connect: Callable[..., FlashSale], proxy: FaultProxy, operator: FlashSale, admin: redis.Redis
) -> None:
    looked_at = operator.open(SALE)
    sale = connect(proxy.url, timeout_ms=3_000).sale(SALE.id)
    sale.snapshot()

    def lose_and_fill(words: Any) -> bool:
        if words[0].upper() not in (b"EVALSHA", "EVALSHA"):
            return False
        # The hold is taken, as by an attempt whose reply is lost, before memory is full.
        looked_at.hold("ann", {"red": 1}, hold_id="h")
        admin.config_set("maxmemory", 1)
        return True

    proxy.drop_replies(times=1, only=lose_and_fill)
    try:
        with pytest.raises(OutcomeUnknown, match="earlier attempt may have been applied.*OOM"):
            sale.hold("ann", {"red": 1}, hold_id="h")
    finally:
        admin.config_set("maxmemory", 0)
    found = looked_at.find("ann", "h")
    assert found is not None
    assert found.state is HoldState.HELD


def test_what_a_bulk_call_was_answered_is_not_lost_by_what_fails_later(
    connect: Callable[..., FlashSale], own_server: Any, operator: FlashSale, admin: redis.Redis
) -> None:
    operator.open(SALE)
    admin.execute_command("ACL", "SETUSER", "bulk", "on", ">secret", "~*", "+@all")
    shop = connect(f"redis://bulk:secret@127.0.0.1:{own_server.port}", timeout_ms=3_000)
    sale = shop.sale(SALE.id)
    requests = [HoldRequest(f"b{n}", {"red": 1}, "h") for n in range(300)]
    first = sale.hold_many(requests[:1])
    assert isinstance(first[0], Answer)
    admin.execute_command("ACL", "SETUSER", "bulk", "-evalsha")
    results = sale.hold_many(requests)
    assert len(results) == len(requests)
    assert all(isinstance(result, ConfigurationError) for result in results)


def test_a_closed_client_says_so(connect: Callable[..., FlashSale], own_server: Any) -> None:
    shop = connect(own_server.url)
    sale = shop.sale("any")
    close = shop.close if hasattr(shop, "close") else shop.aclose
    close()
    with pytest.raises(ConfigurationError, match="is closed"):
        sale.find("ann", "h")
    close()
