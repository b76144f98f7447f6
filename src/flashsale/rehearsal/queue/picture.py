"""Three panels over time: how many wait, who was called, and where the stock is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from flashsale.rehearsal.queue.report import QueuePicture

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

ROWS = 6
LABEL = 12
BLOCKS = " ▁▂▃▄▅▆▇█"
STEPS = len(BLOCKS) - 1


class Part(Struct, frozen=True):
    """One layer of a panel: its name, colour, letter where there are no colours, and heights."""

    name: str
    colour: str
    letter: str
    values: Sequence[int]


class Panel:
    """Layers on top of each other, the first one at the bottom, up to `top`."""

    def __init__(self, title: str, parts: Sequence[Part], top: int) -> None:
        self.title = title
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
        edges = self.edges()
        for row in reversed(range(ROWS)):
            scale = {ROWS - 1: f"{self.top:,}", 0: "0"}.get(row, "")
            line = Text(f"{scale:>{LABEL - 2}}  ", no_wrap=True, overflow="crop")
            for column in edges:
                _draw(line, self.parts, column, row, plain=plain)
            yield line

    def edges(self) -> list[list[int]]:
        """Per column the upper edges of all layers, in steps of an eighth of a row."""
        whole = ROWS * STEPS
        columns = []
        for values in zip(*(part.values for part in self.parts), strict=True):
            sums = [sum(values[: n + 1]) for n in range(len(values))]
            columns.append([min(whole, _height(value, self.top, whole)) for value in sums])
        return columns


def _height(value: int, top: int, whole: int) -> int:
    """Steps for a value; what is not 0 is seen."""
    return max(1, round(value / top * whole)) if value > 0 else 0


def _draw(
    line: object, parts: Sequence[Part], edges: Sequence[int], row: int, *, plain: bool
) -> None:
    """One cell: the layer at its bottom, and above that layer's edge the next one."""
    from rich.text import Text

    assert isinstance(line, Text)
    floor, ceiling = row * STEPS, (row + 1) * STEPS
    inside = [n for n, edge in enumerate(edges) if edge > floor]
    if not inside:
        line.append(" ")
        return
    lowest = inside[0]
    if plain:
        middle = [n for n, edge in enumerate(edges) if edge > floor + STEPS // 2]
        line.append(parts[middle[0]].letter if middle else " ")
    elif edges[lowest] >= ceiling:
        line.append(" ", f"on {parts[lowest].colour}")
    else:
        above = [n for n in inside if edges[n] > edges[lowest]]
        style = parts[lowest].colour + (f" on {parts[above[0]].colour}" if above else "")
        line.append(BLOCKS[edges[lowest] - floor], style)


def panels_of(picture: QueuePicture, units: int) -> list[Panel]:
    """The three panels of a run."""
    turns = zip(picture.serving, picture.outstanding, picture.no_shows, strict=True)
    over = [max(0, serving - waits - missed) for serving, waits, missed in turns]
    return [
        Panel(
            "in the queue",
            [Part("people whose place was not called yet", "#3a7ca5", "#", picture.waiting)],
            max(picture.waiting, default=1),
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
