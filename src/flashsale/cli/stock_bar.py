"""A sku's units as a bar: sold, held, set aside, available."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

_PARTS = (("█", "#", "green"), ("▓", "+", "yellow"), ("▒", ":", "magenta"), ("░", ".", "dim"))
"""Sold, held, set aside, available: each legible without colour, and in ASCII."""


_NARROWEST, _WIDEST = 8, 24

_NAMES = ("sold", "held", "set aside", "available")


class StockBar:
    """Shares of an allotment in 8 to 24 cells; a part that is not empty is never unseen."""

    def __init__(self, sold: int, held: int, set_aside: int, available: int) -> None:
        self.parts = (sold, held, set_aside, available)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        bar = Text(no_wrap=True)
        widths = cells(self.parts, min(options.max_width, _WIDEST))
        for count, (drawn, plain, style) in zip(widths, _PARTS, strict=True):
            bar.append(count * (plain if options.ascii_only else drawn), style)
        yield bar

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(_NARROWEST, _WIDEST)


class Legend:
    """What the bar's parts mean."""

    def __init__(self, *, set_aside: bool) -> None:
        self.set_aside = set_aside

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = Text()
        for name, (drawn, plain, style) in zip(_NAMES, _PARTS, strict=True):
            if self.set_aside or name != "set aside":
                text.append(plain if options.ascii_only else drawn, style).append(f" {name}  ")
        text.rstrip()
        yield text


def cells(parts: Sequence[int], width: int) -> list[int]:
    """Whole cells for parts, by largest remainder, and at least one for what is not 0."""
    total = sum(parts)
    if total <= 0:
        return [0] * (len(parts) - 1) + [width]
    exact = [width * max(0, part) / total for part in parts]
    whole = [int(size) for size in exact]
    for at in sorted(range(len(parts)), key=lambda at: whole[at] - exact[at]):
        if sum(whole) < width:
            whole[at] += 1
    for at, part in enumerate(parts):
        if part > 0 and not whole[at]:
            whole[whole.index(max(whole))] -= 1
            whole[at] = 1
    return whole
