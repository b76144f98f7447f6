"""A user's own sale and waiting room (TOML) and arrival curve (CSV).

Every error names the file, the field or line, and the rule.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from flashsale.errors import InvalidRequest
from flashsale.limits import shown
from flashsale.models import Sale, Sku
from flashsale.rehearsal.curves import TableCurve, check_order, check_point
from flashsale.rooms import WaitingRoom

FILE_MAX_BYTES = 10_000_000
"""The largest file that is read."""

SECOND_COLUMNS = ("second", "seconds", "second_of_sale", "time_s", "t")
RATE_COLUMNS = ("rate_per_s", "rate", "attempts_per_s", "arrivals_per_s", "per_s")

_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?")


def read_sale(path: str | Path) -> Sale:
    """Read a sale: the fields of `Sale`, and a table ``[[skus]]`` with those of `Sku`.

    Example::

        id = "1111"
        hold_ttl_ms = 900_000
        [[skus]]
        id = "lipstick"
        stock = 10_000
        limit = 2

    Raises InvalidRequest, also for a field that does not exist (a misspelt limit must not
    become no limit).
    """
    path = Path(path)
    data = _read_toml(path)
    _known_fields(path, "", data, Sale)
    skus = data.get("skus")
    for number, sku in enumerate(skus if isinstance(skus, list) else ()):
        if isinstance(sku, dict):
            _known_fields(path, f"skus[{number}].", sku, Sku)
    try:
        return msgspec.convert(data, Sale)
    except msgspec.ValidationError as error:
        raise _explained(path, error) from None


def read_room(path: str | Path) -> WaitingRoom:
    """Read a waiting room: the fields of `WaitingRoom`. Raises InvalidRequest, as `read_sale`.

    Example::

        rate_per_s = 50
        opens_at_ms = 1_763_900_000_000
        turn_ttl_ms = 120_000
    """
    path = Path(path)
    data = _read_toml(path)
    _known_fields(path, "", data, WaitingRoom)
    try:
        return msgspec.convert(data, WaitingRoom)
    except msgspec.ValidationError as error:
        raise _explained(path, error) from None


def read_curve(path: str | Path) -> TableCurve:
    """Read a curve: a header with the columns ``second,rate_per_s``, then two or more points.

    Seconds rise, rates are attempts a second, straight lines join the points, further
    columns are ignored. Raises InvalidRequest.
    """
    path = Path(path)
    rows = _rows(path, _read(path))
    header = [name.strip().lower() for name in next(rows, ("", []))[1]]
    columns = [
        _column(path, header, names, what)
        for names, what in ((SECOND_COLUMNS, "second"), (RATE_COLUMNS, "rate_per_s"))
    ]
    lines: list[str] = []
    points: list[tuple[float, float]] = []
    for line, row in rows:
        if any(cell.strip() for cell in row):
            second, rate = (_cell(line, row, at, header[at]) for at in columns)
            check_point(line, second, rate)
            lines.append(line)
            points.append((second, rate))
    for line, (before, after) in zip(lines[1:], pairwise(points), strict=True):
        check_order(line, before[0], after[0])
    try:
        return TableCurve(points=tuple(points), source=f"the file {path.name}")
    except InvalidRequest as error:
        raise InvalidRequest(str(path), f"its {error.field} {error.rule}") from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_MAX_BYTES + 1)  # a device or a pipe has no size to look at
    except (OSError, ValueError) as error:  # ValueError: a name with NUL
        why = getattr(error, "strerror", None) or error
        raise InvalidRequest(str(path), f"cannot be read: {why}") from None
    if len(raw) > FILE_MAX_BYTES:
        raise InvalidRequest(str(path), f"must be at most {FILE_MAX_BYTES:,} bytes")
    wrong = raw.find(b"\0")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = error.start
    if wrong >= 0:
        rule = "must be text in UTF-8, without NUL"
        if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            rule += ": this is UTF-16"
        raise InvalidRequest(f"{path}, line {_line_of(raw, wrong)}", rule)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _line_of(raw: bytes, at: int) -> int:
    return len(re.findall(rb"\r\n?|\n", raw[:at])) + 1


def _rows(path: Path, text: str) -> Iterator[tuple[str, list[str]]]:
    """The rows of a CSV file, each with its place."""
    rows = csv.reader(io.StringIO(text), strict=True)
    try:
        for row in rows:
            yield f"{path}, line {rows.line_num}", row
    except csv.Error as error:
        raise InvalidRequest(f"{path}, line {rows.line_num}", f"must be CSV: {error}") from None


def _read_toml(path: Path) -> dict[str, Any]:
    text = _read(path)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(str(path), f"must be TOML: {error}") from None
    except RecursionError:
        raise InvalidRequest(str(path), "is nested too deep") from None
    except ValueError as error:  # a number of more digits than Python reads
        long = re.search(r"[0-9_]{4000}", text)
        line = text.count("\n", 0, long.start() if long else 0) + 1
        raise InvalidRequest(f"{path}, line {line}", f"must be TOML: {error}") from None


def _known_fields(
    path: Path, prefix: str, data: dict[str, Any], model: type[Sale | Sku | WaitingRoom]
) -> None:
    for name in data:
        if name not in model.__struct_fields__:
            rule = f"is not a field; the fields are {', '.join(model.__struct_fields__)}"
            told = name if name.isascii() and name.isidentifier() else shown(name)
            raise InvalidRequest(f"{path}: {prefix}{told}", rule)


def _explained(path: Path, error: msgspec.ValidationError) -> InvalidRequest:
    """Msgspec says "rule - at `$.skus[0].stock`"; a refusal by the model itself is its cause."""
    rule, _, place = str(error).partition(" - at `$")
    place = place.rstrip("`").lstrip(".")
    if isinstance(error.__cause__, InvalidRequest):
        return InvalidRequest(
            ": ".join(filter(None, (str(path), place, error.__cause__.field))), error.__cause__.rule
        )
    missing = re.search(r"required field `(\w+)`", rule)
    if missing:
        place = ".".join(filter(None, (place, missing[1])))
        rule = "is missing"
    return InvalidRequest(f"{path}: {place}" if place else str(path), rule[0].lower() + rule[1:])


def _column(path: Path, header: list[str], names: tuple[str, ...], what: str) -> int:
    found = [at for at, name in enumerate(header) if name in names]
    if len(found) != 1:
        rule = f"must name one column {what!r} (or {', '.join(names[1:])})"
        raise InvalidRequest(f"{path}, line 1", f"{rule}, not {len(found)} of them")
    return found[0]


def _cell(line: str, row: list[str], at: int, name: str) -> float:
    text = row[at].strip() if at < len(row) else ""
    if not _NUMBER.fullmatch(text):
        raise InvalidRequest(f"{line}, {name}", f"must be a number from 0, not {ascii(text)[:40]}")
    return float(text)
