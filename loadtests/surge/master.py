"""The master's part: opens the sale, seats the pumps, starts them together, judges at the end.

It decides nothing about the load. Locust's shape asks `users` once a second, which only starts
the pumps and, when all of them have reported to the end, stops them.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from pathlib import Path
from typing import Any, cast

import gevent
import locust
import msgspec
import redis
from locust.env import Environment

from flashsale import FlashSale, FlashSaleError, Key
from flashsale.rehearsal import Report, Size, scenario_named
from flashsale.rehearsal.aftermath import CHECK_TIMEOUT_MS, clear_away, quiet, read_server
from flashsale.rehearsal.claims import claims_of
from flashsale.rehearsal.describing import SETTLE_S, address_of, notes_of, settle_s, setup_of
from flashsale.rehearsal.facts import Facts
from flashsale.rehearsal.measures import cpu_spent
from flashsale.rehearsal.report import Server, build_report
from flashsale.rehearsal.scenarios import fresh_id
from flashsale.rehearsal.truth import Truth, judge
from loadtests.surge.desk import Desk
from loadtests.surge.telling import Order, pack, peak_per_s
from loadtests.surge.verdict import (
    Generator,
    QueueSurgeReport,
    RoomSurgeReport,
    SurgeReport,
    add_generator,
)

READY_MAX_S = 90.0
"""How long the pumps may take to lay out their shares."""

LATE_MAX_S = 10.0
"""How long after the end of the plan a pump is waited for: calls are bounded by two seconds."""

LEAD_S = 0.3

PROGRESS, REPORT = "progress.json", "report.json"
"""The files that a run leaves in its folder."""


class Master:
    """One run, seen from Locust's master process."""

    lead_s = LEAD_S
    """From the moment when all pumps are ready to the first attempt that can be due."""

    def __init__(self, environment: Environment) -> None:
        self._started = time.perf_counter()
        options = cast("Any", environment.parsed_options)
        self._runner = cast("Any", environment.runner)
        self._folder = Path(options.folder) if options.folder else None
        self._options = options
        self._scenario = self._scenario_of(options.scenario)
        size = self._scenario.sized(
            seconds=options.seconds,
            rate_divisor=options.rate_divisor,
            peak_per_s=peak_per_s(options.scenario),
        )
        seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
        self._key = self._key_of(seed)
        self._shop = FlashSale.from_url(
            options.url, durability=options.durability, keys=[self._key]
        )
        self._info = redis.Redis.from_url(options.url)
        self._server = self._shop.server()
        sale_id = fresh_id(self._scenario.name, secrets.token_hex(4))
        self._sale = self._scenario.sale_for(size, sale_id)
        self._order = self._first_order(size, seed)
        self._plan = self._lay_out()
        self._desk = self._new_desk()
        self._shop.open(self._sale)
        self._seats: dict[str, int] = {}
        self._ready: set[str] = set()
        self._begin: float | None = None
        self._cpu: float | None = None
        self._calls = 0
        self.error = ""
        self._listen(environment)

    def _first_order(self, size: Size, seed: int) -> Order:
        options = self._options
        return Order(
            scenario=self._scenario.name,
            size=size,
            seed=seed,
            sale=self._sale.id,
            url=options.url,
            durability=options.durability,
            index=0,
            workers=options.expect_workers,
            in_flight=options.in_flight,
            settle_s=self._settle_s(size),
        )

    def _key_of(self, seed: int) -> Key:
        return Key.random("loadtest")

    def _lay_out(self) -> Any:
        return self._order.plan()

    def _new_desk(self) -> Any:
        return Desk(self._order, self._plan)

    def _scenario_of(self, name: str) -> Any:
        return scenario_named(name)

    def _settle_s(self, size: Size) -> float:
        return settle_s(self._scenario, size)

    def _prepare(self, begin: float) -> None:
        """What is to be done before the pumps begin, at that moment of `time.monotonic`."""

    def _listen(self, environment: Environment) -> None:
        runner = self._runner
        runner.register_message("pump", self._seat)
        runner.register_message("ready", self._is_ready)
        runner.register_message("failed", self._has_failed)
        environment.events.worker_report.add_listener(self._take)
        if self._folder is not None:
            runner.greenlet.spawn(self._tell_progress)

    # --- the run --------------------------------------------------------------------------

    def users(self) -> int | None:
        """How many pumps there should be; None once the run is over."""
        now = time.monotonic()
        if self.error:
            return None
        if self._begin is None:
            if time.perf_counter() - self._started > READY_MAX_S or self._gone():
                self.error = "the workers were not ready in time, or ended before the run began"
                return None
            return self._order.workers
        awaited = set(self._seats.values()) - self._gone()
        size, order = self._order.size, self._order
        over = now > self._begin + size.seconds + order.settle_s + LATE_MAX_S
        return None if over or awaited <= self._desk.done else order.workers

    def _gone(self) -> set[int]:
        """The seats whose worker is not there any more."""
        nodes = self._runner.clients
        alive = {node.id for node in nodes.all} - {node.id for node in nodes.missing}
        return {seat for node, seat in self._seats.items() if node not in alive}

    def _seat(self, environment: Environment, msg: Any, **_: Any) -> None:
        """A pump has started and asks what to do."""
        if msg.node_id in self._seats or len(self._seats) == self._order.workers:
            return  # a pump that Locust started in place of a lost one: it has nothing to do
        self._seats[msg.node_id] = index = len(self._seats)
        order = msgspec.structs.replace(self._order, index=index)
        self._runner.send_message("order", pack(order), client_id=msg.node_id)

    def _is_ready(self, environment: Environment, msg: Any, **_: Any) -> None:
        self._ready.add(msg.node_id)
        if len(self._ready) == self._order.workers:
            self._calls = self._script_calls()
            begin = time.monotonic() + self.lead_s
            try:
                self._prepare(begin)
            except FlashSaleError as error:
                self.error = f"{type(error).__name__}: {error}"
                return
            self._begin = begin
            self._runner.greenlet.spawn(self._watch_cpu, self._begin)
            for node in self._seats:
                self._runner.send_message("begin", self._begin, client_id=node)

    def _has_failed(self, environment: Environment, msg: Any, **_: Any) -> None:
        self.error = self.error or str(msg.data)

    def _take(self, client_id: str, data: dict[str, Any]) -> None:
        if tally := data.pop("tally", None):
            self._desk.take(tally)

    def _watch_cpu(self, begin: float) -> None:
        """The server's CPU time while buyers arrive, as a share of one core."""
        try:
            gevent.sleep(max(0.0, begin - time.monotonic()))
            before, began = self._info.info("cpu"), time.monotonic()
            gevent.sleep(self._order.size.seconds)
            after, wall = self._info.info("cpu"), time.monotonic() - began
        except redis.RedisError:
            return  # not told: the report says None
        spent = cpu_spent(cast("Any", before), cast("Any", after))
        self._cpu = round(spent / wall, 3)

    def _script_calls(self) -> int:
        """How many script calls the server has counted; 0 if it does not tell."""
        try:
            told = cast("Any", self._info.info("commandstats"))
        except redis.RedisError:
            return 0
        names = ("cmdstat_evalsha", "cmdstat_eval")
        return sum(int(told[name]["calls"]) for name in names if name in told)

    def _tell_progress(self) -> None:
        while True:
            gevent.sleep(0.25)
            if self._begin is not None:
                moment = self._desk.progress(max(0.0, time.monotonic() - self._begin))
                self._write(PROGRESS, msgspec.json.encode(moment))

    # --- the end --------------------------------------------------------------------------

    def finish(self) -> int:
        """Judge the run, leave the report in its folder, and return the exit code."""
        try:
            if not self.error and self._begin is not None:
                report = self._judge()
                self._write(REPORT, msgspec.json.encode(report))
                return report.exit_code
            self.error = self.error or "the run was stopped before it began"
        except FlashSaleError as error:
            self.error = f"{type(error).__name__}: {error}"
        finally:
            self._shop.close()
            self._info.close()
        return 2

    def _judge(self) -> SurgeReport | RoomSurgeReport | QueueSurgeReport:
        desk, order, sale = self._desk, self._order, self._sale
        calls = self._script_calls()
        facts = desk.facts()
        wait_s = order.size.seconds + SETTLE_S[0] - facts.ended_s
        snapshot = self._shop.perform(quiet(sale.id, wait_s=wait_s), CHECK_TIMEOUT_MS)
        told = self._shop.perform(read_server(sale.id, snapshot), CHECK_TIMEOUT_MS)
        claims = claims_of(self._plan, facts, sale.hold_ttl_ms)
        truth = judge(self._plan, sale, claims, told)
        notes = notes_of(self._scenario, sale, snapshot, facts.left_over)
        if not self._options.own_server:
            notes.append(self._shop.perform(clear_away(sale.id, keep=not truth.ok)))
        report = self._report(facts, truth, list(snapshot.skus.values()), notes)
        return add_generator(
            report,
            self._generator(),
            batch_mean=self._batch_mean(calls, facts),
            objective_p99_ms=self._options.objective_p99_ms,
        )

    def _batch_mean(self, calls: int, facts: Facts) -> float | None:
        """Decisions per script call, of so many calls that the server has counted by now."""
        calls -= self._calls + self._desk.sweeps
        decisions = len(facts.follow_ups) + sum(result is not None for result in facts.results)
        return round(decisions / calls, 2) if calls > 0 else None

    def _report(self, facts: Facts, truth: Truth, stock: list[Any], notes: list[str]) -> Report:
        order = self._order
        return build_report(
            setup=setup_of(
                self._scenario,
                order.size,
                self._sale,
                self._where(),
                order.durability,
                order.seed,
            ),
            plan=self._plan,
            facts=facts,
            truth=truth,
            stock=stock,
            total_s=time.perf_counter() - self._started,
            notes=notes,
            timed=self._desk.timed(),
        )

    def _where(self) -> Server:
        return Server(
            name=self._server.name,
            version=self._server.version,
            embedded=self._options.own_server,
            address=address_of(self._order.url),
            cpu=self._cpu,
        )

    def _generator(self) -> Generator:
        core = self._options.server_core
        return Generator(
            workers=self._order.workers,
            cpus=self._desk.cpus,
            lost=self._desk.lost,
            cores=0 if core is None else len(os.sched_getaffinity(0)),
            server_core=core,
            in_flight=self._order.in_flight,
            locust=locust.__version__,
        )

    def _write(self, name: str, data: bytes) -> None:
        """Whole or not at all: another process reads it at any moment."""
        if self._folder is not None:
            part = self._folder / f"{name}.part"
            part.write_bytes(data)
            part.replace(self._folder / name)
