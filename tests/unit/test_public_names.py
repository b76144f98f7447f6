"""The public names, and the tree of errors as its module draws it."""

from __future__ import annotations

import importlib
import importlib.resources
import inspect
import re
import types

import pytest

import flashsale
from flashsale import FlashSaleError, errors


def public_names(module: types.ModuleType) -> list[str]:
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    )


def test_all_is_sorted_and_is_exactly_the_public_names() -> None:
    assert flashsale.__all__ == sorted(flashsale.__all__)
    assert flashsale.__all__ == public_names(flashsale)


@pytest.mark.parametrize("package", ["flashsale.embedded", "flashsale.testing"])
def test_the_packages_meant_for_users_list_their_names_too(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__ == sorted(module.__all__)
    assert all(getattr(module, name) is not None for name in module.__all__)


@pytest.mark.parametrize("name", flashsale.__all__)
def test_every_public_name_has_a_docstring_of_its_own(name: str) -> None:
    value = getattr(flashsale, name)
    text = inspect.getdoc(value)
    assert text
    assert text.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize(
    "owner",
    [
        flashsale.FlashSale,
        flashsale.AsyncFlashSale,
        flashsale.SaleHandle,
        flashsale.AsyncSaleHandle,
        flashsale.CueHandle,
        flashsale.AsyncCueHandle,
        flashsale.QueueHandle,
        flashsale.AsyncQueueHandle,
    ],
    ids=lambda owner: owner.__name__,
)
def test_every_public_method_has_a_docstring(owner: type) -> None:
    for name, value in vars(owner).items():
        if not name.startswith("_"):
            assert inspect.getdoc(value), name


def test_the_package_says_that_it_is_typed() -> None:
    assert importlib.resources.files("flashsale").joinpath("py.typed").is_file()


# --- errors -------------------------------------------------------------------------------

DRAWN = re.compile(r"^ {4}(?P<branch>[│ ├└─]*)(?P<name>[A-Z]\w+)")


def drawn_tree() -> dict[str, str]:
    """Each error of the drawing and its parent, "" for the root."""
    parents: dict[str, str] = {}
    path: list[str] = []
    assert errors.__doc__
    for line in errors.__doc__.splitlines():
        if match := DRAWN.match(line):
            depth = len(match["branch"]) // 4
            del path[depth:]
            parents[match["name"]] = path[-1] if path else ""
            path.append(match["name"])
    return parents


def real_tree() -> dict[str, str]:
    classes = [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, Exception)
    ]
    return {
        kind.__name__: "" if kind is FlashSaleError else kind.__bases__[0].__name__
        for kind in classes
    }


def test_the_tree_that_is_drawn_is_the_tree_that_is() -> None:
    assert drawn_tree() == real_tree()
    assert len(real_tree()) == 9


def test_every_error_is_public_and_has_one_root() -> None:
    for name in real_tree():
        assert name in flashsale.__all__
        assert issubclass(getattr(flashsale, name), FlashSaleError)


def test_an_invalid_request_is_a_value_error_too() -> None:
    assert issubclass(flashsale.InvalidRequest, ValueError)
