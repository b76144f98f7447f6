"""The command that rehearses a surge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, cast

import typer

from flashsale.cli.options import Debug
from flashsale.cli.picture import check_picture_path, save_svg
from flashsale.cli.reporting import Report, connect, reporting
from flashsale.errors import InvalidRequest

if TYPE_CHECKING:
    from flashsale.rehearsal import LiveRoom, QueueScenario, Scenario

    What: TypeAlias = LiveRoom | QueueScenario | Scenario


def rehearse(
    scenario: Annotated[
        str,
        typer.Argument(metavar="SCENARIO", help="double11, hot_sku, live_room or waiting_room."),
    ] = "double11",
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="A server for rehearsals. Default: one of its own, stopped at the end.",
            show_default=False,
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            metavar="N",
            help="How long buyers arrive. Default: 10; live_room: 6; waiting_room: 30.",
        ),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option("--scale", metavar="1/N", help="Divide the rate. Default: what fits."),
    ] = None,
    durability: Annotated[
        str, typer.Option("--durability", metavar="LEVEL", help="memory or fsync.")
    ] = "memory",
    sale: Annotated[
        Path | None,
        typer.Option("--sale", metavar="FILE.toml", help="A sale of your own, with its stock."),
    ] = None,
    curve: Annotated[
        Path | None,
        typer.Option(
            "--curve", metavar="FILE.csv", help="Arrivals of your own: second,rate_per_s."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="The same crowd once more.")
    ] = None,
    svg: Annotated[
        Path | None,
        typer.Option("--svg", metavar="FILE.svg", help="Save the report as a picture, too."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object, no tables.")] = False,
    debug: Debug = False,
) -> None:
    """Rehearse a surge and check that nothing was oversold or lost.

    live_room runs a live room, viewers who see each link 1 to 15 s late, with fairness windows and,
    beside it, first come, first served on the same taps: who wins, by lag, and whether the record
    of every draw verifies. About 25 s.

    waiting_room runs 956 people a unit through a waiting room that opens while they come: who is
    called, who in vain, whether what they were told was true, and when they were told that nothing
    is left. About two minutes.

    The load is real. FLASHSALE_URL is not read, so that nobody rehearses on a server in
    service by accident: only --url names one.

    Exit code 0 if it passed; 1 if anything was oversold, lost or does not add up, a record does
    not verify, lag decided who won or the waiting room broke a rule; 2 for an error; 3 if the run
    is void, because the load could not be sent as planned.
    """
    with reporting(json=json, debug=debug) as report:
        from flashsale import rehearsal

        if durability not in ("memory", "fsync"):
            raise InvalidRequest("--durability", f"must be memory or fsync, not {durability!r}")
        if svg is not None:
            check_picture_path(svg)
        if url is not None:
            connect(url).close()  # before the crowd is laid out, and with the plainer message
        what: What
        own = {one.name: one for one in (rehearsal.LIVE_ROOM, rehearsal.WAITING_ROOM)}
        if scenario in own:
            what = cast("What", own[scenario])
            for name, given in (("--sale", sale), ("--curve", curve)):
                if given is not None:
                    raise InvalidRequest(name, f"is not for {scenario}, which has its own")
        else:
            what = rehearsal.scenario_named(scenario)
            if sale is not None:
                what = what.with_sale(rehearsal.read_sale(sale))
            if curve is not None:
                what = what.with_curve(rehearsal.read_curve(curve))
        code = _run(
            report,
            what,
            svg,
            url=url,
            seconds=seconds,
            scale=None if scale is None else rehearsal.parse_scale(scale),
            durability=cast(Literal["memory", "fsync"], durability),
            seed=seed,
        )
        raise typer.Exit(code)


def _run(report: Report, what: What, svg: Path | None, **options: Any) -> int:
    """Run a scenario of any kind; show what came of it."""
    from flashsale import rehearsal

    run, render = _ways(what)
    with rehearsal.live_progress() as on_progress:
        told = run(what, on_progress=on_progress, **options)
    if svg is not None:
        save_svg(render(told), svg, title=f"flashsale rehearse {told.scenario}")
    report.give(told, render(told, ascii_only=report.ascii_only))
    return int(told.exit_code)


def _ways(what: What) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """How a scenario is run, and how its report is shown."""
    from flashsale import rehearsal

    if isinstance(what, rehearsal.LiveRoom):
        return rehearsal.run_room, rehearsal.render_room
    if isinstance(what, rehearsal.QueueScenario):
        return rehearsal.run_queue, rehearsal.render_queue
    return rehearsal.run, rehearsal.render
