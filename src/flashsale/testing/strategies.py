"""Hypothesis strategies for what callers send, good and hostile."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hypothesis import strategies as st

from flashsale import limits
from flashsale.models import Line, Sale, Sku

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import SearchStrategy

_ALPHABET = "ABCXYZabcxyz0189._~@+=/-"
_ALLOWED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~@+=/-")

_HOSTILE_IDENTIFIERS: Sequence[object] = (
    "",
    " ",
    "a" * (limits.ID_MAX + 1),
    "nul\0byte",
    "line\n",
    "\r\n$4\r\nEVIL\r\n",
    "*1\r\n$8\r\nFLUSHALL\r\n",
    "}{",
    "{other}",
    "a:b",
    "a#0",
    "a|b",
    "a;b",
    "a,b",
    "*",
    "a b",
    "%00",
    "\ud800",
    "caf\u00e9",
    "cafe\u0301",
    "zero\u200bwidth",
    "right\u200fto-left",
    "\u202egnp.exe",
    "\u0663",
    "return redis.call('FLUSHALL')",
    "\"] = nil; redis.call('FLUSHALL') --",
    b"bytes",
    bytearray(b"bytes"),
    None,
    True,
    7,
    1.5,
    ("a", "b:c"),
    ["a"],
)

_HOSTILE_QUANTITIES: Sequence[object] = (
    0,
    -1,
    limits.QTY_MAX + 1,
    2**31,
    2**53 + 1,
    2**63,
    -(2**63),
    1.0,
    1.5,
    "1",
    "1e3",
    "0x10",
    " 7 ",
    "\u0663",
    "",
    b"1",
    float("nan"),
    float("inf"),
    float("-inf"),
    True,
    False,
    None,
    [1],
)


def identifiers(*, max_size: int = limits.ID_MAX) -> SearchStrategy[str]:
    """Any valid identifier: sale, sku, buyer, hold id, op_id."""
    return st.text(_ALPHABET, min_size=1, max_size=max_size)


def quantities(*, max_value: int = limits.QTY_MAX) -> SearchStrategy[int]:
    """Units of a line that are within its bounds."""
    return st.integers(1, max_value)


def baskets(
    skus: Sequence[str], *, max_lines: int = limits.LINES_MAX, max_qty: int = limits.QTY_MAX
) -> SearchStrategy[dict[str, int] | list[Line]]:
    """A valid basket of these skus, as a mapping or as a list of lines."""
    most = min(max_lines, len(skus))
    mapping = st.dictionaries(
        st.sampled_from(skus), quantities(max_value=max_qty), min_size=1, max_size=most
    )
    as_lines = mapping.map(lambda basket: [Line(sku, qty) for sku, qty in basket.items()])
    return st.one_of(mapping, as_lines)


@st.composite
def sales(
    draw: st.DrawFn,
    *,
    ids: SearchStrategy[str] | None = None,
    max_skus: int = 5,
    max_stock: int = 100,
    around_ms: int | None = None,
) -> Sale:
    """A valid sale.

    ids: where its id comes from. around_ms: opening and closing times are within a minute
    of this time; without it the sale is always open.
    """
    names = draw(st.lists(identifiers(max_size=8), min_size=1, max_size=max_skus, unique=True))
    limit = st.none() | st.integers(1, 10)
    opens = closes = None
    if around_ms is not None:
        opens = draw(st.none() | st.integers(around_ms - 60_000, around_ms + 59_999))
        earliest = around_ms - 59_999 if opens is None else opens + 1
        closes = draw(st.none() | st.integers(earliest, around_ms + 60_000))
    return Sale(
        draw(identifiers() if ids is None else ids),
        skus=[Sku(name, draw(st.integers(0, max_stock)), draw(limit)) for name in names],
        hold_ttl_ms=draw(st.integers(1, limits.DURATION_MAX_MS)),
        limit=draw(limit),
        opens_at_ms=opens,
        closes_at_ms=closes,
        holds_max=draw(st.integers(1, limits.HOLDS_MAX)),
        extend_max_ms=draw(st.integers(0, limits.DURATION_MAX_MS)),
        buyers_max=draw(st.integers(1, limits.BUYERS_MAX)),
    )


def hostile_identifiers() -> SearchStrategy[object]:
    """Everything that must not pass for an identifier: each gets `InvalidRequest`.

    Wrong types, empty and far too long ones, protocol text, separators, braces, control
    characters, lone surrogates, look-alikes, Lua source, and any text with a character out
    of the alphabet.
    """
    text = st.text(max_size=limits.ID_MAX).filter(lambda text: not _ALLOWED.issuperset(text))
    mebibyte = st.just("a").map(lambda letter: letter * (1 << 20))
    return st.one_of(st.sampled_from(_HOSTILE_IDENTIFIERS), text, st.binary(max_size=8), mebibyte)


def hostile_quantities() -> SearchStrategy[object]:
    """Everything that must not pass for a line's units: each gets `InvalidRequest`."""
    return st.one_of(
        st.sampled_from(_HOSTILE_QUANTITIES),
        st.integers(max_value=0),
        st.integers(min_value=limits.QTY_MAX + 1),
        st.floats(),
        st.text(max_size=8),
    )


def hostile_baskets(sku: str = "sku") -> SearchStrategy[object]:
    """Everything that must not pass for a basket: each gets `InvalidRequest`."""
    shapes = cast(
        "Sequence[object]",
        (
            {},
            [],
            (),
            None,
            "",
            sku,
            b"sku",
            7,
            {sku},
            [sku],
            [(sku, 1)],
            [{sku: 1}],
            [None],
            [Line(sku), Line(sku)],
            [Line(sku, 1), Line(sku, 2)],
        ),
    )
    return st.one_of(
        st.sampled_from(shapes),
        st.sampled_from([limits.LINES_MAX + 1, 10_000]).map(
            lambda lines: {f"{sku}{n}": 1 for n in range(lines)}
        ),
        st.builds(lambda qty: {sku: qty}, hostile_quantities()),
        st.builds(
            lambda name: {name: 1},
            hostile_identifiers().filter(lambda name: getattr(name, "__hash__", None) is not None),
        ),
    )
