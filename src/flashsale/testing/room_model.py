"""A waiting room as the oracle keeps it: who has which number, and a turn for every called place.

The engine keeps sums over slots of time and folds them when it is asked; here every place that
was called has a turn of its own, and every sum is counted anew.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from flashsale import limits, shuffle
from flashsale.keyring import Key
from flashsale.rooms import RoomState, Turns, WaitingRoom


@dataclass
class Turn:
    """The time of one called place, and what came of it.

    arrivals: how often somebody was let in by it. done: its buyer holds, or left. wanted: there
    was nothing left when its buyer asked. units: what it took first, or wanted in vain before.
    passed: the place had been left, so nobody had this turn.
    """

    slot: int
    ends_ms: int
    arrivals: int = 0
    done: bool = False
    wanted: bool = False
    units: int = 0
    passed: bool = False

    def take(self, units: int) -> None:
        """A new hold: the first is counted, unless what was wanted in vain before it was."""
        if not self.done and not self.wanted:
            self.units = units
        self.done = True

    def want(self, units: int) -> None:
        """A basket that was sold out: once a turn, unless its buyer holds."""
        if not self.done and not self.wanted:
            self.units = units
            self.wanted = True


@dataclass
class RoomModel:
    """One waiting room. `measured`: whether holds are counted, as in a sale with admission.

    numbers: of the places that buyers have; put_by: of those that they left before they were
    called, and may have again until then. turns: of the places 1, 2, 3 … that were called.
    over: how many of those are known to have ended. behind: whether the last call looked at as many
    places as it may. admitted: by which number and for which turn
    a buyer was let in last; where only tickets are given it is kept by number, ":7".
    """

    room: WaitingRoom
    key: Key
    own_seed: str
    measured: bool
    state: RoomState = RoomState.RUNNING
    rate_per_s: float = 0.0
    joined: int = 0
    present: int | None = None
    seed: str = ""
    over: int = 0
    left: int = 0
    behind: bool = False
    tokens: float = 1.0
    tokens_at_ms: int | None = None
    numbers: dict[str, int] = field(default_factory=dict)
    put_by: dict[str, int] = field(default_factory=dict)
    key_places: Counter[str] = field(default_factory=Counter)
    turns: list[Turn] = field(default_factory=list)
    admitted: dict[str, tuple[int, Turn]] = field(default_factory=dict)

    # --- places -----------------------------------------------------------------------

    def fix_present(self, now_ms: int) -> bool:
        """At the opening those who are there are counted, once; whether that was now."""
        if self.present is not None or now_ms < (self.room.opens_at_ms or 0):
            return False
        self.present = self.joined
        return True

    @property
    def is_drawn(self) -> bool:
        """Whether every number has its place."""
        return self.present == 0 or (self.present is not None and self.seed != "")

    def turn_of(self, number: int) -> Turn | None:
        """The turn of a number whose place was called, be it over or not."""
        if not self.is_drawn:
            return None
        place = shuffle.place_of(self.seed, self.present or 0, number)
        return self.turns[place - 1] if place <= len(self.turns) else None

    @property
    def vacant(self) -> set[int]:
        """The places that were left and are not called; their numbers until they are drawn."""
        if not self.is_drawn:
            return set(self.put_by.values())
        present = self.present or 0
        places = {shuffle.place_of(self.seed, present, number) for number in self.put_by.values()}
        return {place for place in places if place > len(self.turns)}

    def is_over(self, number: int, now_ms: int) -> bool:
        """Whether the turn of a number has ended."""
        turn = self.turn_of(number)
        return turn is not None and now_ms >= turn.ends_ms

    def give_number(self, buyer: str, key: str) -> int:
        """The next number, to a buyer who has no place."""
        self.joined += 1
        self.put_by.pop(buyer, None)
        if self.room.one_place:
            self.numbers[buyer] = self.joined
        if key and self.room.key_places_max is not None:
            self.key_places[key] += 1
        return self.joined

    def take_back(self, buyer: str) -> int | None:
        """The number that a buyer left, unless it was called since."""
        number = self.put_by.get(buyer)
        if number is None or self.turn_of(number) is not None:
            return None
        self.numbers[buyer] = self.put_by.pop(buyer)
        self.left -= 1
        return number

    def give_up(self, buyer: str, now_ms: int) -> bool:
        """Leave the place there is, and a turn that runs; whether there was one."""
        number = self.numbers.pop(buyer, None)
        if number is None:
            return False
        turn = self.turn_of(number)
        if turn is None:
            self.put_by[buyer] = number
        elif now_ms < turn.ends_ms:
            turn.done = True
        self.admitted.pop(buyer, None)
        self.left += 1
        return True

    def running(self, buyer: str, now_ms: int) -> Turn | None:
        """The turn for which a buyer was let in, while it runs."""
        _, turn = self.admitted.get(buyer, (0, None))
        return turn if turn is not None and now_ms < turn.ends_ms else None

    # --- moving on --------------------------------------------------------------------

    def move_on(self, now_ms: int, available: int, *, may_call: bool) -> bool:
        """End turns and call places; whether the engine writes anything for it."""
        self.behind = False
        wrote = self.fix_present(now_ms)
        while self.over < len(self.turns) and now_ms >= self.turns[self.over].ends_ms:
            self.over += 1
            wrote = True
        if may_call and self.is_drawn and self.state is RoomState.RUNNING:
            self._call(now_ms, available)
            return True
        return wrote

    def _call(self, now_ms: int, available: int) -> None:
        since_ms = max(0, now_ms - (now_ms if self.tokens_at_ms is None else self.tokens_at_ms))
        gathered = self.tokens + since_ms * self.rate_per_s / 1000
        tokens = min(max(1.0, limits.BURST_S * self.rate_per_s), gathered)
        limit = min(math.floor(tokens), self.bound(available) - self.outstanding)
        slot = now_ms // self.room.slot_ms
        ends_ms = (slot + 1) * self.room.slot_ms + self.room.turn_ttl_ms
        vacant, step, looks = self.vacant, 0, 0
        while (
            step < limit
            and len(self.turns) < self.joined
            and (not vacant or looks < limits.LOOKS_MAX)
        ):
            looks += bool(vacant)
            passed = len(self.turns) + 1 in vacant
            vacant -= {len(self.turns) + 1}
            self.turns.append(Turn(slot, ends_ms, passed=passed))
            step += not passed
        self.behind = step < limit and len(self.turns) < self.joined
        self.tokens, self.tokens_at_ms = float(f"{tokens - step:.9f}"), now_ms

    def forget_tokens(self, now_ms: int) -> None:
        """Of what gathered at the rate so far no more than one is called at another."""
        if self.tokens_at_ms is None:
            return  # calling has not begun
        if self.state is RoomState.RUNNING:
            self.tokens += max(0, now_ms - self.tokens_at_ms) * self.rate_per_s / 1000
        self.tokens, self.tokens_at_ms = float(f"{min(1.0, self.tokens):.9f}"), now_ms

    @property
    def outstanding(self) -> int:
        """Turns that are neither over nor done with."""
        return sum(not (turn.done or turn.passed) for turn in self.turns[self.over :])

    @property
    def passed(self) -> int:
        """Of the places whose time is over those that nobody had."""
        return sum(turn.passed for turn in self.turns[: self.over])

    @property
    def conversion(self) -> float:
        """Units a turn takes: measured on those that have ended, from what is assumed of 20."""
        if not self.measured:
            return self.room.conversion
        assumed = self.room.conversion * limits.PRIOR_TURNS
        return (assumed + self.units) / (limits.PRIOR_TURNS + self.over - self.passed)

    def counted(self, units: int) -> int:
        """What a turn counts for so many units: there is a most for all turns."""
        return min(units, math.floor(limits.TURN_UNITS * max(1, self.room.conversion)))

    @property
    def units(self) -> int:
        """What the turns that have ended took, or wanted."""
        return sum(turn.units for turn in self.turns[: self.over])

    def bound(self, available: int) -> int:
        """How many turns may be outstanding."""
        if available <= 0:
            return 0
        turns = math.floor(available / (self.conversion * (1 + self.room.margin)))
        return min(limits.PLACES_MAX, max(1, turns))

    def measured_rate(self, now_ms: int) -> tuple[float | None, float]:
        """Turns that began in a second since the end of the first slot whose turns run.

        And two standard errors of that, at least those of a Poisson process.
        """
        live, slot_ms = self.turns[self.over :], self.room.slot_ms
        since = live[0].slot + 1 if live else 0
        slots = (now_ms + 1 - since * slot_ms) / slot_ms
        if not live or slots < 1:
            return None, 0.0
        counts = [
            sum(turn.slot == slot and not turn.passed for turn in live)
            for slot in range(since, now_ms // slot_ms + 1)
        ]
        mean = sum(counts) / slots
        spread = sum((count - mean) ** 2 for count in counts) / max(1.0, slots - 1)
        error = 2 * math.sqrt(max(spread, mean) / slots)
        return mean * (1000 / slot_ms), error * (1000 / slot_ms)

    def rows(self) -> tuple[Turns, ...]:
        """The turns that are not known to have ended, summed up slot by slot."""
        live = self.turns[self.over :]
        return tuple(
            Turns(
                slot=slot,
                serving=max(n for n, turn in enumerate(self.turns, 1) if turn.slot == slot),
                arrived=sum(turn.arrivals for turn in live if turn.slot == slot),
                done=sum(turn.done for turn in live if turn.slot == slot),
                units=sum(turn.units for turn in live if turn.slot == slot),
                passed=sum(turn.passed for turn in live if turn.slot == slot),
            )
            for slot in sorted({turn.slot for turn in live})
        )
