"""The specification at work, as on one server: see `stateful.test_sale_machine`."""

from __future__ import annotations

import pytest
from hypothesis import settings

from stateful import test_sale_machine as machine
from stateful.running import SHORT

FEWER = settings(SHORT, max_examples=4)


@pytest.mark.timeout(3_600)
class TestHeldTimeThroughTheSyncShell(machine.TestHeldTimeThroughTheSyncShell):
    short = FEWER


@pytest.mark.timeout(3_600)
class TestHeldTimeThroughTheAsyncShell(machine.TestHeldTimeThroughTheAsyncShell):
    short = FEWER


@pytest.mark.timeout(3_600)
class TestRealTimeThroughTheSyncShell(machine.TestRealTimeThroughTheSyncShell):
    short = FEWER


@pytest.mark.timeout(3_600)
class TestRealTimeThroughTheAsyncShell(machine.TestRealTimeThroughTheAsyncShell):
    short = FEWER
