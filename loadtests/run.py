"""A surge under Locust: ``python -m loadtests.run [SCENARIO] [--json]``; ``--help`` has the rest.

Starts a server, a Locust master and its workers on this machine, shows how it goes, ends by
itself, and leaves no process behind.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast

import msgspec
import typer

from flashsale.cli.reporting import connect, reporting
from flashsale.embedded import EmbeddedServer
from flashsale.errors import ConfigurationError, InvalidRequest, StoreUnavailable
from flashsale.rehearsal import (
    LIVE_ROOM,
    WAITING_ROOM,
    LiveRoom,
    OnProgress,
    Progress,
    QueueScenario,
    Size,
    live_progress,
    parse_scale,
    render,
    render_queue,
    render_room,
    scenario_named,
)
from flashsale.rehearsal.describing import settle_s
from flashsale.rehearsal.measures import require_extra
from loadtests.surge.processes import Locusts
from loadtests.surge.telling import peak_per_s
from loadtests.surge.verdict import QueueSurgeReport, RoomSurgeReport, SurgeReport

WORKERS = 2
WORKERS_MAX = 64

OVERHEAD_MAX_S = 240.0
"""What a run may take beside its arrivals and their settling: starting, laying out, checking."""

AnyReport: TypeAlias = SurgeReport | RoomSurgeReport | QueueSurgeReport


def main(
    scenario: Annotated[
        str,
        typer.Argument(metavar="SCENARIO", help="double11, hot_sku, live_room or waiting_room."),
    ] = "double11",
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", help="Worker processes.")
    ] = WORKERS,
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
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Locust's own report.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="A server for load tests. Default: one of its own, stopped at the end.",
            show_default=False,
        ),
    ] = None,
    durability: Annotated[
        str, typer.Option("--durability", metavar="LEVEL", help="memory or fsync.")
    ] = "memory",
    objective_p99_ms: Annotated[
        float | None,
        typer.Option("--objective-p99-ms", metavar="MS", help="Fail if latency p99 is above."),
    ] = None,
    in_flight: Annotated[
        int,
        typer.Option("--in-flight", metavar="N", help="Most unanswered attempts per worker."),
    ] = 1_000,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="The same crowd once more.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object, no tables.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error as well.")
    ] = False,
) -> None:
    """Run a surge under Locust and check that nothing was oversold or lost.

    Exit code 0 if it passed; 1 if anything was oversold, lost or does not add up, a draw's record
    does not verify, lag decided who won, or the objective was missed; 2 for an error; 3 if the run
    is void, because the load could not be sent as planned.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with reporting(json=json, debug=debug) as report:
        require_extra()
        _check(workers, in_flight, durability)
        own: dict[str, Any] = {LIVE_ROOM.name: LIVE_ROOM, WAITING_ROOM.name: WAITING_ROOM}
        what: Any = own[scenario] if scenario in own else scenario_named(scenario)
        size = what.sized(
            seconds=seconds,
            rate_divisor=None if scale is None else parse_scale(scale),
            peak_per_s=peak_per_s(scenario),
        )
        options = [
            "--scenario", scenario, "--seconds", str(size.seconds), "--durability", durability,
            "--rate-divisor", str(size.rate_divisor), "--in-flight", str(in_flight),
        ]  # fmt: skip
        if seed is not None:
            options += ["--seed", str(seed)]
        if objective_p99_ms is not None:
            options += ["--objective-p99-ms", str(objective_p99_ms)]
        if html is not None:
            options += ["--html", str(_writable(html))]
        if url is not None:
            connect(url).close()  # before anything is started, and with the plainer message
        kind, shown_by = _kind_of(what)
        at_most_s = size.seconds + _after_s(what, size) + OVERHEAD_MAX_S
        with live_progress() as on_progress:
            result = surge(
                options,
                workers=workers,
                url=url,
                durability=durability,
                at_most_s=at_most_s,
                on_progress=on_progress,
                kind=kind,
            )
        shown = shown_by(result, ascii_only=report.ascii_only, title="Locust run")
        report.give(result, shown, generator_lines(result))
        raise typer.Exit(result.exit_code)


def _kind_of(what: Any) -> tuple[type[AnyReport], Callable[..., Any]]:
    """What a run of a scenario reports, and how that is shown."""
    if isinstance(what, LiveRoom):
        return RoomSurgeReport, render_room
    if isinstance(what, QueueScenario):
        return QueueSurgeReport, render_queue
    return SurgeReport, render


def _after_s(what: Any, size: Size) -> float:
    """How long a run may take after the last arrival."""
    if isinstance(what, LiveRoom):
        return what.closes_after_s()
    if isinstance(what, QueueScenario):
        return what.at_most_s(size) - size.seconds
    return settle_s(what, size)


def surge(
    options: Sequence[str],
    *,
    workers: int,
    url: str | None,
    durability: str,
    at_most_s: float,
    on_progress: OnProgress | None,
    kind: type[AnyReport] = SurgeReport,
) -> AnyReport:
    """Start everything, wait for the report, end everything."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flashsale-load-")))
        own = [*options, "--folder", str(folder)]
        cores = None
        if url is None:
            level = cast("Literal['memory', 'fsync']", durability)
            server = stack.enter_context(EmbeddedServer.start(durability=level))
            url = server.url
            own.append("--own-server")
            if cores := _split_cores(server.pid):
                own += ["--server-core", str(SERVER_CORE)]
        locusts = Locusts(folder, own, url=url, workers=workers, cores=cores)
        stack.enter_context(locusts)
        until = time.monotonic() + at_most_s
        while locusts.exit_code is None:
            if time.monotonic() > until:
                raise StoreUnavailable(f"the run did not end within {at_most_s:.0f} s")
            time.sleep(0.1)
            if on_progress is not None:
                _show(folder / "progress.json", on_progress)
        found = folder / "report.json"
        if not found.exists():
            raise ConfigurationError(locusts.why())
        report = msgspec.json.decode(found.read_bytes(), type=kind)
        if report.exit_code != locusts.exit_code:
            raise ConfigurationError(f"Locust ended with {locusts.exit_code}: {locusts.why()}")
        return report


SERVER_CORE = 0
"""The embedded server has this core to itself; the generator shares the others."""


def _split_cores(server: int) -> list[int] | None:
    """Bind the server to a core of its own; the cores left, None where that cannot be."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = os.sched_getaffinity(0)
    if SERVER_CORE not in cores or len(cores) < 2:
        return None
    os.sched_setaffinity(server, {SERVER_CORE})
    return sorted(cores - {SERVER_CORE})


def generator_lines(report: AnyReport) -> Any:
    """What several processes add to a rehearsal's report, for people."""
    from rich.text import Text

    by = report.generator
    cpus = ", ".join(f"{cpu:.0%}" for cpu in by.cpus)
    where = "anywhere"
    if by.pinned:
        where = f"on {by.cores} core(s), the server on its own"
    batch = "unknown" if report.batch_mean is None else f"{report.batch_mean:.1f}"
    text = Text(
        f"Locust {by.locust}, {by.workers} workers ({cpus} of a core) {where}; "
        f"{'loopback' if report.loopback else 'over a network'}; decisions per script call {batch}"
    )
    for missed in report.missed:
        text.append(f"\nMissed: {missed}", style="bold red")
    return text


def _check(workers: int, in_flight: int, durability: str) -> None:
    if not 1 <= workers <= WORKERS_MAX:
        raise InvalidRequest("--workers", f"must be 1 to {WORKERS_MAX}")
    if not 1 <= in_flight <= 10_000:
        raise InvalidRequest("--in-flight", "must be 1 to 10,000")
    if durability not in ("memory", "fsync"):
        raise InvalidRequest("--durability", f"must be memory or fsync, not {durability!r}")
    if find_spec("locust") is None:  # not imported: that would patch this process
        raise ConfigurationError("a Locust run needs locust: pip install 'flashsale[loadtest]'")


def _writable(path: Path) -> Path:
    if not path.absolute().parent.is_dir():
        raise InvalidRequest("--html", f"must be in a folder that exists, not {path}")
    return path.absolute()


def _show(path: Path, on_progress: OnProgress) -> None:
    if path.exists():
        on_progress(msgspec.json.decode(path.read_bytes(), type=Progress))


if __name__ == "__main__":
    typer.run(main)
