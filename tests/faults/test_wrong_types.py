"""A key of the wrong type, put there by somebody else, stops a verb before it writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from faults.checks import everything
from faults.verbs import VERBS, Verb
from flashsale import Answer, FlashSale, FlashSaleError
from flashsale.embedded import EmbeddedServer
from flashsale.keys import ShardKeys


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_a_key_of_the_wrong_type_stops_a_verb_before_it_writes_or_does_not_concern_it(
    verb: Verb, connect: Callable[..., FlashSale], own_server: EmbeddedServer, admin: Any
) -> None:
    shop = connect(own_server.url, timeout_ms=20_000)
    for name in ShardKeys.__struct_fields__:
        sale = shop.open(verb.sale(f"{verb.name}-{name}"))
        verb.prepare(sale)
        key = getattr(ShardKeys.of(sale.id), name)
        saved = admin.dump(key)
        admin.delete(key)
        admin.set(key, "not one of ours")
        before = everything(admin)
        told = outcome(lambda: verb.call(sale))  # noqa: B023
        if isinstance(told, FlashSaleError):
            assert "WRONGTYPE" in str(told) or name == "sale", told
            assert everything(admin) == before, name
            admin.delete(key)
            if saved is not None:
                admin.restore(key, 0, saved)
            told = outcome(lambda: verb.call(sale))  # noqa: B023
            assert not isinstance(told, FlashSaleError), told
        admin.delete(*admin.keys("*"))


def outcome(call: Callable[[], Any]) -> Any:
    try:
        result = call()
    except FlashSaleError as error:
        return error
    if isinstance(result, list):
        errors = [item for item in result if not isinstance(item, Answer)]
        return errors[0] if errors else result
    return result


def test_every_key_of_the_shard_is_tried(own_server: EmbeddedServer) -> None:
    assert set(msgspec.structs.asdict(ShardKeys.of("x"))) == {
        "sale", "skus", "stock", "buyers", "ledger", "deadlines", "restocks", "readers",
        "cues", "lags", "room", "admitted", "vacant", "caps",
    }  # fmt: skip
