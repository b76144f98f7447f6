"""A surge under Locust: the engine's synchronous client, open arrivals, several processes.

``python -m loadtests.run`` starts the server and all processes and is the way to use it; by
hand, from the top of the repository::

    python -m locust -f loadtests/locustfile.py --headless --processes 2 \
        --url redis://127.0.0.1:6379 --scenario hot_sku --html report.html

Locust sets a number of users, about once a second, and not arrivals. So there is one user a
worker, the pump, which sends whatever its share of the plan says is due; the shape starts the
pumps, and stops them when all have reported to the end. Latency counts from the intended time.

Exit code 0 if the run passed, 1 if anything was oversold, lost or does not add up, a draw's record
does not verify or a stated objective was missed, 2 for an error, 3 if the run is void.
"""

from __future__ import annotations

import os
import sys
from typing import Any, cast

import locust.runners
import locust.stats
from gevent import monkey
from locust import LoadTestShape, User, events, task
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from flashsale import FlashSaleError
from flashsale.rehearsal import LIVE_ROOM, WAITING_ROOM
from loadtests.surge.master import Master
from loadtests.surge.processes import LIFELINE, URL
from loadtests.surge.queue_master import QueueMaster
from loadtests.surge.room_master import RoomMaster
from loadtests.surge.worker import Worker

locust.runners.WORKER_REPORT_INTERVAL = 0.5
locust.stats.HISTORY_STATS_INTERVAL_SEC = 1  # a run is short: the report's charts need points

_parts: dict[str, Any] = {}
"""This process's part in the run, "master" or "worker"."""


@events.init_command_line_parser.add_listener
def _options(parser: Any) -> None:
    def add(name: str, **settings: Any) -> None:
        parser.add_argument(name, include_in_web_ui=False, **settings)

    add("--url", env_var=URL, help="A server for load tests. Required")
    add("--scenario", default="double11", help="double11, hot_sku, live_room or waiting_room")
    add("--seconds", type=float, help="How long buyers arrive. Default: 10")
    add("--rate-divisor", type=float, help="N of the rate 1/N. Default: what fits")
    add("--durability", default="memory", help="memory or fsync")
    add("--seed", type=int, help="The same crowd once more")
    add("--in-flight", type=int, default=1_000, help="Most unanswered attempts per worker")
    add("--objective-p99-ms", type=float, help="Fail the run if latency p99 is above")
    add("--folder", help="Where to leave report.json")
    add("--own-server", action="store_true", help="The server ends with the run: leave the sale")
    add("--server-core", type=int, help="The core that the server was bound to, for the report")


@events.init.add_listener
def _begin(environment: Environment, **_: Any) -> None:
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        _parts["worker"] = Worker(environment)
    elif isinstance(runner, MasterRunner):
        try:
            kinds = {LIVE_ROOM.name: RoomMaster, WAITING_ROOM.name: QueueMaster}
            kind = kinds.get(environment.parsed_options.scenario, Master)
            _parts["master"] = kind(environment)
        except FlashSaleError as error:
            _fail(f"{type(error).__name__}: {error}")
    else:
        _fail("start it with --processes N, or as --master with workers")


@events.quitting.add_listener
def _end(environment: Environment, **_: Any) -> None:
    master = _parts.pop("master", None)
    if master is not None:
        environment.process_exit_code = master.finish()
        if master.error:
            sys.stderr.write(f"flashsale: error: {master.error}\n")


class PumpUser(User):
    """The one user of a worker: it sends everything that is due."""

    @task
    def pump(self) -> None:
        """Returns never: Locust stops it."""
        _parts["worker"].run()


class StartAndStop(LoadTestShape):
    """Starts the pumps, and stops them when the run is over; the load is none of its business."""

    def tick(self) -> tuple[int, float] | None:
        """How many pumps there should be, and how fast they start."""
        users = cast("Master", _parts["master"]).users()
        return None if users is None else (users, float(users))


def _fail(message: str) -> None:
    sys.stderr.write(f"flashsale: error: {message}\n")
    sys.exit(2)


def _end_with(descriptor: int) -> None:
    """Wait, in a thread of the system, until the other end of the pipe is closed."""
    while os.read(descriptor, 1):
        pass
    os._exit(2)


if LIFELINE in os.environ:
    monkey.get_original("_thread", "start_new_thread")(_end_with, (int(os.environ[LIFELINE]),))
