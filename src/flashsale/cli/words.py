"""Numbers, times and durations as people read them."""

from __future__ import annotations

from datetime import datetime

_STEPS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000))


def duration(milliseconds: int) -> str:
    """The two largest units: "850 ms", "12 s", "3 min 4 s", "2 d 5 h"."""
    if milliseconds < 1_000:
        return f"{milliseconds} ms"
    parts: list[str] = []
    for unit, size in _STEPS:
        count, milliseconds = divmod(milliseconds, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(filter(None, parts))


def clock(at_ms: int) -> str:
    """The time of day here, such as 20:00:01."""
    return f"{datetime.fromtimestamp(at_ms / 1000):%H:%M:%S}"


def moment(at_ms: int | None) -> str:
    """Date and time here, with the zone; "–" for none."""
    if at_ms is None:
        return "–"
    return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(" ", "milliseconds")


def share(part: int, whole: int) -> str:
    """A percentage that says 0 and 100 only where it is exact."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "<0.1 %"
    if 99.9 < percent < 100:
        return ">99.9 %"
    return f"{percent:.1f} %" if percent % 100 else f"{percent:.0f} %"


def lines(basket: dict[str, int]) -> str:
    """A basket: "2 × lipstick, 1 × mug"; "–" for an empty one."""
    return ", ".join(f"{qty:,} × {sku}" for sku, qty in basket.items()) or "–"
