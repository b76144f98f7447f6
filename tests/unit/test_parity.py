"""The two shells offer the same, one with `await` and one without."""

from __future__ import annotations

import inspect
import re

import pytest

from flashsale import (
    AsyncCueEntry,
    AsyncCueHandle,
    AsyncFlashSale,
    AsyncQueueHandle,
    AsyncSaleHandle,
    CueEntry,
    CueHandle,
    FlashSale,
    QueueHandle,
    SaleHandle,
)
from flashsale.aio import AsyncLedgerHandle
from flashsale.sync import LedgerHandle

PAIRS = [
    (FlashSale, AsyncFlashSale),
    (SaleHandle, AsyncSaleHandle),
    (LedgerHandle, AsyncLedgerHandle),
    (CueHandle, AsyncCueHandle),
    (QueueHandle, AsyncQueueHandle),
]
RENAMED = {"close": "aclose"}
WITHOUT_AWAIT = {"sale", "cue_handle", "from_url", "embedded", "url"}

Members = dict[str, object]


def public(owner: type) -> Members:
    return {name: value for name, value in vars(owner).items() if not name.startswith("_")}


def plain(value: object) -> object:
    """The function behind a method, a class method or a property."""
    if isinstance(value, classmethod):
        return value.__func__
    return value.fget if isinstance(value, property) else value


def signature(value: object) -> list[tuple[str, object, object, str]]:
    function = plain(value)
    assert callable(function)
    found = inspect.signature(function)
    rows = [
        (name, parameter.kind, parameter.default, as_sync(parameter.annotation))
        for name, parameter in found.parameters.items()
    ]
    return [*rows, ("return", None, None, as_sync(found.return_annotation))]


def as_sync(annotation: object) -> str:
    """An annotation with the names of the synchronous shell."""
    text = re.sub(r"\bAsync(?=[A-Z])", "", str(annotation))
    return "Redis" if text == "redis.Redis" else text


@pytest.mark.parametrize(("sync", "aio"), PAIRS, ids=lambda owner: owner.__name__)
def test_both_shells_have_the_same_methods(sync: type, aio: type) -> None:
    assert [RENAMED.get(name, name) for name in public(sync)] == list(public(aio))


@pytest.mark.parametrize(("sync", "aio"), PAIRS, ids=lambda owner: owner.__name__)
def test_both_shells_have_the_same_signatures(sync: type, aio: type) -> None:
    for name, value in public(sync).items():
        other = public(aio)[RENAMED.get(name, name)]
        assert signature(value) == signature(other), name
        assert type(value) is type(other), name
    assert signature(vars(sync)["__init__"]) == signature(vars(aio)["__init__"])


@pytest.mark.parametrize(("sync", "aio"), PAIRS, ids=lambda owner: owner.__name__)
def test_whatever_does_io_is_awaited_in_the_one_and_not_in_the_other(sync: type, aio: type) -> None:
    for name, value in public(sync).items():
        other = plain(public(aio)[RENAMED.get(name, name)])
        assert not inspect.iscoroutinefunction(plain(value)), name
        assert inspect.iscoroutinefunction(other) is (name not in WITHOUT_AWAIT), name


@pytest.mark.parametrize(("sync", "aio"), PAIRS, ids=lambda owner: owner.__name__)
def test_both_shells_say_the_same_of_what_they_do(sync: type, aio: type) -> None:
    for name, value in public(sync).items():
        other = public(aio)[RENAMED.get(name, name)]
        ours = (inspect.getdoc(value) or "").replace("`close`", "`aclose`")
        assert ours == inspect.getdoc(other), name


def test_each_shell_is_a_context_manager_of_its_own_kind() -> None:
    assert hasattr(FlashSale, "__enter__")
    assert hasattr(FlashSale, "__exit__")
    assert hasattr(AsyncFlashSale, "__aenter__")
    assert hasattr(AsyncFlashSale, "__aexit__")
    assert not hasattr(AsyncFlashSale, "__enter__")


def test_every_verb_takes_a_time_out_by_name() -> None:
    for sync, aio in PAIRS[1:]:
        for owner in (sync, aio):
            for name, value in public(owner).items():
                function = plain(value)
                assert callable(function)
                if name in WITHOUT_AWAIT:
                    continue
                bound = "wait_ms" if name == "result" else "timeout_ms"
                parameter = inspect.signature(function).parameters[bound]
                assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, name


def test_the_entries_of_both_shells_wait_alike() -> None:
    ours, theirs = CueEntry.result, AsyncCueEntry.result
    assert signature(ours) == signature(theirs)
    assert (inspect.getdoc(ours) or "").replace("CueHandle", "AsyncCueHandle") == inspect.getdoc(
        theirs
    )
    assert inspect.iscoroutinefunction(theirs)
