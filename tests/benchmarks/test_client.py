"""What the Python side of a call consists of, part by part, and as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from flashsale import Answer, AsyncFlashSale, AsyncSaleHandle, FlashSale, Outcome, Sale, Sku
from flashsale.baskets import check_basket
from flashsale.batches import Item, Kind, read_answers
from flashsale.inventory import confirm_kind, hold_item, hold_kind, release_kind
from flashsale.limits import check_id
from flashsale.models import Line

BATCH = 256
BASKET = {"lipstick": 1}
MANY_LINES = [Line(f"sku-{number:02d}", 2) for number in range(32)]
NUMBERS = count()


@pytest.fixture
def items() -> list[Item]:
    return [hold_item(f"buyer-{n:09d}", BASKET, f"ord{n:04d}", "", "") for n in range(BATCH)]


def test_check_an_id(benchmark: BenchmarkFixture) -> None:
    assert benchmark(check_id, "buyer", "buyer-000000042") == "buyer-000000042"


@pytest.mark.parametrize(
    ("basket", "values"), [(BASKET, 2), (MANY_LINES, 64)], ids=["one line", "32 lines"]
)
def test_check_a_basket(
    benchmark: BenchmarkFixture, basket: dict[str, int] | list[Line], values: int
) -> None:
    assert len(benchmark(check_basket, "basket", basket)) == values


def test_check_a_hold(benchmark: BenchmarkFixture) -> None:
    item = benchmark(hold_item, "buyer-000000042", BASKET, "ord0042", "", "")
    assert item.hold_id == "ord0042"


@pytest.mark.parametrize(
    "kind", [hold_kind("1111"), confirm_kind("1111", "refuse"), release_kind("1111")]
)
def test_encode_a_batch_into_its_call(
    benchmark: BenchmarkFixture, items: list[Item], kind: Kind
) -> None:
    call = benchmark(kind.call, items)
    assert call.script.name == f"inventory/{kind.name}"


@pytest.mark.parametrize("codes", [b"H", b"H" * 200 + b"s" * 56], ids=["alike", "mixed"])
def test_decode_a_reply(benchmark: BenchmarkFixture, items: list[Item], codes: bytes) -> None:
    reply = [1, 1_700_000_000_000, 1_700_000_900_000, codes, b""]
    answers: list[Answer] = benchmark(read_answers, Kind("hold", "1111"), items, reply)
    assert answers[0].outcome is Outcome.HELD
    assert len(answers) == BATCH


# --- whole calls --------------------------------------------------------------------------


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def sale(
    runner: asyncio.Runner, server_url: str, new_sale_id: Callable[[], str]
) -> Iterator[AsyncSaleHandle]:
    async def opened() -> tuple[AsyncFlashSale, AsyncSaleHandle]:
        shop = AsyncFlashSale.from_url(server_url, timeout_ms=20_000)
        return shop, await shop.open(Sale(new_sale_id(), [Sku("lipstick", 10**9, limit=2)]))

    shop, handle = runner.run(opened())
    yield handle
    runner.run(shop.aclose())


def test_one_awaited_hold(
    benchmark: BenchmarkFixture, runner: asyncio.Runner, sale: AsyncSaleHandle
) -> None:
    async def one() -> Answer:
        return await sale.hold(f"buyer-{next(NUMBERS):09d}", BASKET, hold_id="ord0001")

    answer = benchmark(lambda: runner.run(one()))
    assert answer.outcome is Outcome.HELD


def test_256_gathered_holds(
    benchmark: BenchmarkFixture, runner: asyncio.Runner, sale: AsyncSaleHandle
) -> None:
    async def together() -> list[Answer]:
        names = (f"buyer-{next(NUMBERS):09d}" for _ in range(BATCH))
        return await asyncio.gather(*(sale.hold(n, BASKET, hold_id="ord0001") for n in names))

    answers = benchmark(lambda: runner.run(together()))
    assert {answer.outcome for answer in answers} == {Outcome.HELD}


def test_one_hold_of_the_sync_client(
    benchmark: BenchmarkFixture, server_url: str, new_sale_id: Callable[[], str]
) -> None:
    with FlashSale.from_url(server_url, timeout_ms=20_000) as shop:
        sale = shop.open(Sale(new_sale_id(), [Sku("lipstick", 10**9, limit=2)]))
        answer = benchmark(
            lambda: sale.hold(f"buyer-{next(NUMBERS):09d}", BASKET, hold_id="ord0001")
        )
    assert answer.outcome is Outcome.HELD
