"""What a rehearsal of a waiting room found, as one value, ready for JSON."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from flashsale.rehearsal.measures import Percentiles
from flashsale.rehearsal.queue.forecasts import Calibration, EtaError


class Conversion(Struct, frozen=True):
    """Units a called place takes: assumed at first, measured by the room over turns that ended, and
    the crowd's own: who asked for a unit, of those whose place was called.
    """

    assumed: float
    measured: float
    crowd: float | None


class QueuePicture(Struct, frozen=True, kw_only=True):
    """The course of a run at moments `step_s` apart, from its begin to its end.

    waiting: not called, and not known to have gone; told: who heard that nothing is left; left: who
    said that they go before that, and were not passed over since.
    """

    step_s: float
    waiting: list[int]
    told: list[int]
    left: list[int]
    serving: list[int]
    outstanding: list[int]
    no_shows: list[int]
    available: list[int]
    held: list[int]
    sold: list[int]


class QueueReport(Struct, frozen=True, kw_only=True):
    """The result of a waiting room's rehearsal.

    people, bots: who came, and who of them only tried to cheat. places: numbers given. called:
        places that had a turn; vacated: places that had been left by then; heard: people who heard
        of their turn; admitted; no_shows: turns that ended without.
    in_vain: people who came when called and found nothing, in_vain_share: of the places called.
    ends: how visits ended. calibration: of forecasts that people were told 2 s before. eta: of the
        times they were told.
    said_after_ms: how long after nothing was left the shared state said so, told_after_ms: when the
        last who waited heard of it; None if something was left.
    polls, polls_per_s, polls_per_person: positions asked, over the whole run.
    latency_ms: by verb, from the intended time to the answer.
    void: why this run does not count; problems: why it failed.
    exit_code: 1 if any problem was found; else 3 if void; else 0.
    """

    scenario: str
    about: str
    server: str
    embedded: bool
    address: str
    durability: str
    cores: int
    seed: int | str
    sale: str
    scale: str
    rate_divisor: float
    seconds: float
    opens_s: float
    run_s: float
    total_s: float
    how: str
    people: int
    bots: int
    units: int
    turn_s: float
    places: int
    called: int
    vacated: int
    heard: int
    admitted: int
    no_shows: int
    in_vain: int
    in_vain_share: float
    ends: dict[str, int]
    conversion: Conversion
    calibration: dict[str, Calibration]
    eta: EtaError
    said_after_ms: int | None
    told_after_ms: int | None
    polls: int
    polls_per_s: float
    polls_per_person: float
    latency_ms: dict[str, Percentiles]
    schedule_lag_ms: Percentiles
    generator_cpu: float
    server_cpu: float | None
    memory_bytes_per_person: float | None
    outcomes: dict[str, dict[str, int]]
    errors: dict[str, int]
    offered: int
    completed: int
    dropped: int
    oversold: int
    lost: int
    conservation_ok: bool
    audit_ok: bool
    checked: int
    picture: QueuePicture
    problem_count: int
    problems: list[str]
    void: list[str]
    passed: bool
    exit_code: int
    notes: list[str]

    def to_json(self) -> str:
        """One JSON object on one line."""
        return msgspec.json.encode(self).decode()
