"""A fairness window on a cluster: the cue and its sale live together, on any node."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from faults.checks import books_are_right
from flashsale import FlashSale, Key, Outcome, Sale, Sku, verify
from flashsale.draw import proof_of
from support.cluster import PRIMARIES, Cluster

KEY = Key("test", bytes(range(32)))


@pytest.mark.parametrize("owner", range(PRIMARIES))
def test_a_cue_is_entered_settled_and_verified_on_every_node(
    owner: int, cluster: Cluster, connect: Callable[..., FlashSale], id_on: Callable[..., str]
) -> None:
    shop = connect(cluster.url, timeout_ms=20_000, keys=[KEY])
    sale = shop.open(Sale(id_on(cluster, cluster.nodes[owner]), [Sku("red", 3), Sku("blue", 5)]))
    begun = time.time_ns() // 1_000_000 - 1_500  # the window is nearly over
    cue = sale.cue("red", at=60_000, cue_time_ms=begun, window_ms=2_000, lag_cap_ms=0, grace_ms=0)
    nonce = cue.cue().nonce
    for n in range(8):
        buyer = f"buyer-{n}"
        proof = proof_of(nonce, sale.id, "red", buyer)
        entry = cue.enter(buyer, {"red": 1}, position_ms=60_000, proof=proof)
        assert entry.outcome is Outcome.ENTERED
    assert sale.cues() == ["red"]
    settled = cue.settle()
    assert (settled.entrants, settled.drawn, settled.awarded) == (8, 3, 3)
    results: list[Any] = [cue.result(f"buyer-{n}") for n in range(8)]
    winners = [answer for answer in results if answer.outcome is Outcome.HELD]
    assert len(winners) == 3
    for answer in winners:
        sale.confirm(answer).unwrap()
    assert verify.verify(cue.record()).ok
    assert books_are_right(sale).skus["red"].sold == 3
    sale.end()
    assert sale.purge().outcome is Outcome.PURGED
