"""A machine that holds its sale's time: deadlines are met to the millisecond, failures repeat."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from flashsale.keys import ShardKeys
from stateful.comparing import ComparingMachine
from stateful.drawing import definitions
from support.lab import T0


class HeldTime(ComparingMachine):
    """The sale's time is far in the future and stands still until the machine moves it."""

    def start_ms(self) -> int:
        return T0

    @initialize(definition=definitions())
    def open(self, definition: dict[str, Any]) -> None:
        super().open(definition)
        self.move_to(T0)

    def move_to(self, at_ms: int) -> None:
        self.raw.hset(ShardKeys.of(self.sale.id).sale, "now", at_ms)
        self.at_ms = at_ms

    @rule(milliseconds=st.sampled_from([1, 10, 29, 30, 100, 70_000]))
    def move(self, milliseconds: int) -> None:
        if not self.model.purged:
            self.move_to(self.at_ms + milliseconds)

    @rule(before=st.sampled_from([0, 0, 1]))
    def move_to_next_deadline(self, before: int) -> None:
        if not self.model.purged:
            due_ms = self.model.snapshot(now_ms=self.at_ms).due_at_ms
            self.move_to(max(self.at_ms, (due_ms or 0) - before))
