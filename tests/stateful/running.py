"""How a machine is run: through one shell, against the tests' server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, ClassVar

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings

from stateful.held_time import HeldTime
from support.cues import KEY
from support.shells import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stateful.comparing import ComparingMachine

SHORT = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    phases=[Phase.generate],  # looking for a smaller example takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
LONG = settings(SHORT, max_examples=2_000, stateful_step_count=60)
LONG_AND_SHRINK = settings(LONG, phases=tuple(Phase))


class Runs:
    """A machine's run through one shell, with the settings asked for."""

    machine: ClassVar[type[ComparingMachine]]
    shell: ClassVar[str]
    short: ClassVar[settings] = SHORT

    @pytest.fixture(autouse=True)
    def _connected(
        self,
        request: pytest.FixtureRequest,
        server_url: str,
        raw: redis.Redis,
        new_sale_id: Callable[[], str],
    ) -> Iterator[None]:
        type(self).settings = self.short
        if request.config.getoption("--long"):
            held = issubclass(self.machine, HeldTime)
            type(self).settings = LONG_AND_SHRINK if held else LONG
        self.machine.raw, self.machine.new_sale_id = raw, staticmethod(new_sale_id)
        with connect(self.shell, server_url, keys=[KEY]) as self.machine.shop:
            yield
        if self.machine.disagreement:
            sys.stderr.write(f"the last disagreement, in sale {self.machine.disagreement}\n")
