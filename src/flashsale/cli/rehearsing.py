"""The command that rehearses a surge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from flashsale.cli.options import Debug
from flashsale.cli.picture import check_picture_path, save_svg
from flashsale.cli.reporting import connect, reporting
from flashsale.errors import InvalidRequest


def rehearse(
    scenario: Annotated[
        str, typer.Argument(metavar="SCENARIO", help="double11 or hot_sku.")
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
        typer.Option("--seconds", metavar="N", help="How long buyers arrive. Default: 10."),
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

    The load is real. FLASHSALE_URL is not read, so that nobody rehearses on a server in
    service by accident: only --url names one.

    Exit code 0 if it passed; 1 if anything was oversold, lost or does not add up; 2 for an
    error; 3 if the run is void, because the load could not be sent as planned.
    """
    with reporting(json=json, debug=debug) as report:
        from flashsale import rehearsal

        if durability not in ("memory", "fsync"):
            raise InvalidRequest("--durability", f"must be memory or fsync, not {durability!r}")
        if svg is not None:
            check_picture_path(svg)
        if url is not None:
            connect(url).close()  # before the crowd is laid out, and with the plainer message
        what = rehearsal.scenario_named(scenario)
        if sale is not None:
            what = what.with_sale(rehearsal.read_sale(sale))
        if curve is not None:
            what = what.with_curve(rehearsal.read_curve(curve))
        with rehearsal.live_progress() as on_progress:
            result = rehearsal.run(
                what,
                url=url,
                seconds=seconds,
                scale=None if scale is None else rehearsal.parse_scale(scale),
                durability=cast(Literal["memory", "fsync"], durability),
                seed=seed,
                on_progress=on_progress,
            )
        if svg is not None:
            save_svg(rehearsal.render(result), svg, title=f"flashsale rehearse {scenario}")
        report.give(result, rehearsal.render(result, ascii_only=report.ascii_only))
        raise typer.Exit(result.exit_code)
