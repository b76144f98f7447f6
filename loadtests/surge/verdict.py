"""What a Locust run found: the report of a rehearsal, and what several processes add to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from flashsale.rehearsal import FAILED, PASSED, VOID, QueueReport, Report, RoomReport
from flashsale.rehearsal.measures import Percentiles
from flashsale.rehearsal.report import CPU_MAX

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


class Generator(Struct, frozen=True, kw_only=True):
    """What sent the load.

    workers, cpus: how many processes, and each one's CPU time as a share of one core while
        buyers arrived. lost: workers of which some report is missing.
    cores: how many cores the workers shared, 0 if they may run anywhere. server_core: where
        the server ran, None if anywhere.
    in_flight: most unanswered attempts per worker. locust: the version.
    """

    workers: int
    cpus: list[float]
    lost: list[int]
    cores: int
    server_core: int | None
    in_flight: int
    locust: str

    @property
    def pinned(self) -> bool:
        """Whether server and generator kept to their cores."""
        return self.server_core is not None


class SurgeReport(Report, frozen=True, kw_only=True):
    """A rehearsal's report; `latency_ms` and the like come from the workers' histograms.

    generator_cpu: the largest share of a core that a worker used, or that all of them used of
        the cores they shared, if that is more.
    batch_mean: decisions per script call, by the server's own count of calls; `batch` is not
        known here and 0. None if the server does not tell.
    loopback: whether the server was reached over it.
    objective_p99_ms: the latency objective stated beforehand, None if none was.
    missed: objectives that were stated and missed: the run failed, unless it is void.
    """

    generator: Generator
    batch_mean: float | None
    loopback: bool
    objective_p99_ms: float | None
    missed: list[str]


class RoomSurgeReport(RoomReport, frozen=True, kw_only=True):
    """A live room's report, and what `SurgeReport` adds to a rehearsal's.

    latency_ms: of taps, both ways, from the moment they arrive. schedule_lag_ms may be higher than
    elsewhere before a run is void: the draws do not depend on it.
    """

    latency_ms: Percentiles
    generator: Generator
    batch_mean: float | None
    loopback: bool
    objective_p99_ms: float | None
    missed: list[str]


def add_to_room(
    report: RoomReport,
    generator: Generator,
    *,
    latency: Percentiles,
    batch_mean: float | None,
    objective_p99_ms: float | None,
) -> RoomSurgeReport:
    """As `add_generator`."""
    void = [*report.void, *void_of(generator)]
    missed = missed_of(latency.p99, objective_p99_ms)
    code = _code(books_right=report.exit_code != FAILED, void=void, missed=missed)
    own: dict[str, Any] = {
        "latency_ms": latency,
        "generator": generator,
        "generator_cpu": max(report.generator_cpu, shared_cpu(generator)),
        "batch_mean": batch_mean,
        "loopback": is_loopback(report.address),
        "objective_p99_ms": objective_p99_ms,
        "missed": missed,
        "void": void,
        "passed": code == PASSED,
        "exit_code": code,
    }
    return RoomSurgeReport(**(msgspec.structs.asdict(report) | own))


class QueueSurgeReport(QueueReport, frozen=True, kw_only=True):
    """A waiting room's report, and what `SurgeReport` adds; the objective is of every verb."""

    generator: Generator
    batch_mean: float | None
    loopback: bool
    objective_p99_ms: float | None
    missed: list[str]


def add_to_queue(
    report: QueueReport,
    generator: Generator,
    *,
    batch_mean: float | None,
    objective_p99_ms: float | None,
) -> QueueSurgeReport:
    """As `add_generator`."""
    void = [*report.void, *void_of(generator)]
    slowest = max(told.p99 for told in report.latency_ms.values())
    missed = missed_of(slowest, objective_p99_ms)
    code = _code(books_right=report.exit_code != FAILED, void=void, missed=missed)
    own: dict[str, Any] = {
        "generator": generator,
        "generator_cpu": max(report.generator_cpu, shared_cpu(generator)),
        "batch_mean": batch_mean,
        "loopback": is_loopback(report.address),
        "objective_p99_ms": objective_p99_ms,
        "missed": missed,
        "void": void,
        "passed": code == PASSED,
        "exit_code": code,
    }
    return QueueSurgeReport(**(msgspec.structs.asdict(report) | own))


def is_loopback(address: str) -> bool:
    """Whether a server's address is on this machine."""
    return address.startswith("/") or address.rpartition(":")[0] in LOOPBACK


def add_generator(
    report: Report,
    generator: Generator,
    *,
    batch_mean: float | None,
    objective_p99_ms: float | None,
) -> SurgeReport:
    """The verdict: wrong books fail a run, then the generator's faults void it, then objectives."""
    void = [*report.void, *void_of(generator)]
    missed = missed_of(report.latency_ms.p99, objective_p99_ms)
    code = _code(books_right=report.truth.ok, void=void, missed=missed)
    own: dict[str, Any] = {
        "generator": generator,
        "generator_cpu": max(report.generator_cpu, shared_cpu(generator)),
        "batch_mean": batch_mean,
        "loopback": is_loopback(report.setup.server.address),
        "objective_p99_ms": objective_p99_ms,
        "missed": missed,
        "void": void,
        "passed": code == PASSED,
        "exit_code": code,
    }
    return SurgeReport(**(msgspec.structs.asdict(report) | own))


def void_of(generator: Generator) -> list[str]:
    """Why a run does not count that several processes made."""
    reasons = []
    if generator.lost:
        reasons.append(
            f"{len(generator.lost)} of {generator.workers} workers were lost: what they were "
            "told last is not known"
        )
    used = shared_cpu(generator)
    if used > CPU_MAX:
        reasons.append(
            f"the workers used {used:.0%} of the {generator.cores} core(s) they share, above "
            f"{CPU_MAX:.0%}"
        )
    return reasons


def shared_cpu(generator: Generator) -> float:
    """The workers' CPU time as a share of the cores they are bound to; 0 if to none."""
    return round(sum(generator.cpus) / generator.cores, 3) if generator.cores else 0.0


def missed_of(p99_ms: float, objective_p99_ms: float | None) -> list[str]:
    """The stated objectives that were missed."""
    if objective_p99_ms is None or p99_ms <= objective_p99_ms:
        return []
    return [f"latency p99 {p99_ms:.1f} ms is above the objective of {objective_p99_ms:g} ms"]


def _code(*, books_right: bool, void: Sequence[str], missed: Sequence[str]) -> int:
    if not books_right:
        return FAILED
    if void:
        return VOID
    return FAILED if missed else PASSED
