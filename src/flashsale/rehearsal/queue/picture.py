"""Three panels over time: how many wait, who was called, and where the stock is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct

from flashsale.rehearsal.queue.report import QueuePicture

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

ROWS = 8
LABEL = 12


class Part(Struct, frozen=True):
    """One layer of a panel: its name, colour, letter where there are no colours, and heights."""

    name: str
    colour: str
    letter: str
    values: Sequence[int]


class Panel:
    """Layers on top of each other, the first one at the bottom, up to `top`.

    see_all: what is not 0 takes a cell at least.
    """

    def __init__(
        self, title: str, parts: Sequence[Part], top: int, *, see_all: bool = True
    ) -> None:
        self.title = title
        self.see_all = see_all
        self.parts = parts
        self.top = max(1, top)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        plain = options.ascii_only or console.color_system is None
        legend = Text.assemble((f"{self.title:>{LABEL - 2}}", "bold"), "  ")
        for part in self.parts:
            legend.append("  " if not plain else part.letter, "" if plain else f"on {part.colour}")
            legend.append(f" {part.name}   ")
        legend.rstrip()
        yield legend
        columns = self.columns()
        for row in reversed(range(ROWS)):
            scale = {ROWS - 1: f"{self.top:,}", 0: "0"}.get(row, "")
            line = Text(f"{scale:>{LABEL - 2}}  ", no_wrap=True, overflow="crop")
            for column in columns:
                shown = self.parts[column[row]] if row < len(column) else None
                if shown is None or plain:
                    line.append(" " if shown is None else shown.letter)
                else:
                    line.append(" ", f"on {shown.colour}")
            yield line

    def columns(self) -> list[list[int]]:
        """Per column the layer in each of its cells, from the bottom up."""
        return [
            [layer for layer, size in enumerate(self.cells(values)) for _ in range(size)]
            for values in zip(*(part.values for part in self.parts), strict=True)
        ]

    def cells(self, values: Sequence[int]) -> list[int]:
        """Whole cells for layers, to be seen if need be at the cost of the largest."""
        edges = [round(sum(values[: n + 1]) / self.top * ROWS) for n in range(len(values))]
        sizes = [min(ROWS, edge) - min(ROWS, before) for before, edge in pairwise([0, *edges])]
        for layer, value in enumerate(values if self.see_all else ()):
            if value > 0 and not sizes[layer]:
                largest = sizes.index(max(sizes))
                sizes[largest] -= sum(sizes) == ROWS or sizes[largest] > 1
                sizes[layer] = 1
        return sizes


def panels_of(picture: QueuePicture, units: int) -> list[Panel]:
    """The three panels of a run."""
    turns = zip(picture.serving, picture.outstanding, picture.no_shows, strict=True)
    over = [max(0, serving - waits - missed) for serving, waits, missed in turns]
    return [
        Panel(
            "queue",
            [
                Part("waiting, or gone without a word", "#3a7ca5", "#", picture.waiting),
                Part("told that nothing is left", "#8a8f98", "o", picture.told),
                Part("left before", "#4b4f57", ".", picture.left),
            ],
            max(map(sum, zip(picture.waiting, picture.told, picture.left, strict=True)), default=1),
            see_all=False,
        ),
        Panel(
            "called",
            [
                Part("had their turn, or left", "#6a8f3a", "#", over),
                Part("no-shows", "#b5524a", "x", picture.no_shows),
                Part("turns outstanding", "#e0b040", "o", picture.outstanding),
            ],
            max(picture.serving, default=1),
        ),
        Panel(
            "stock",
            [
                Part("sold", "#6a8f3a", "#", picture.sold),
                Part("held", "#e0b040", "o", picture.held),
                Part("available", "#3a7ca5", ".", picture.available),
            ],
            units,
        ),
    ]


def time_axis(picture: QueuePicture, opens_s: float) -> str:
    """Seconds below the panels, and where the room opened."""
    width = len(picture.waiting)
    line = list(" " * width)
    end_s = width * picture.step_s

    def write(text: str, at_s: float) -> None:
        at = round(at_s / picture.step_s)
        first = max(0, min(width - len(text), at - len(text) // 2))
        line[first : first + len(text)] = text

    for quarter in range(5):
        write(f"{end_s * quarter / 4:.0f} s", end_s * quarter / 4)
    write(" opens ", opens_s)
    return " " * LABEL + "".join(line)
