"""Who comes to a waiting room and what each of them will do, laid out from a seed."""

from __future__ import annotations

import random
from array import array
from enum import IntEnum
from math import exp, inf

from msgspec import Struct

from flashsale.errors import InvalidRequest


class Fate(IntEnum):
    """What somebody does whose turn comes."""

    PAY = 0
    CANCEL = 1
    ABANDON = 2
    LOOK = 3
    NO_SHOW = 4
    BOT = 5


class Habits(Struct, frozen=True, kw_only=True):
    """The habits of a crowd: an assumed, typical shape. Shares are of 1, times are seconds.

    early: who comes before the opening, ever more as it draws near. two_tabs: who joins again from
    a second tab, up to `tab_gap_s` later. shared: who shares a device with `device_people` in all.
    bots: who does not join, but comes three times with a ticket that is not theirs, and tries to
    hold. no_show: who does not come when called; of the others `look` only look and give their turn
    back, and of those who hold `cancel` and `abandon` do not pay. A reaction to being called is
    log-normal around `react_s`, choosing takes `choose_s` on average and paying `pay_s`, both
    exponential. realists: who leaves as soon as their place is known to be unlikely. Patience is
    exponential with the mean `patience_s`. silent: who goes without saying so.
    """

    early: float = 0.8
    two_tabs: float = 0.05
    tab_gap_s: float = 2.0
    shared: float = 0.04
    device_people: int = 8
    bots: float = 0.01
    no_show: float = 0.15
    look: float = 0.1
    cancel: float = 0.05
    abandon: float = 0.15
    react_s: float = 2.0
    react_sigma: float = 0.6
    choose_s: float = 1.0
    pay_s: float = 3.0
    realists: float = 0.15
    patience_s: float = 600.0
    silent: float = 0.25

    def __post_init__(self) -> None:
        for name in ("early", "two_tabs", "shared", "bots", "no_show", "look", "cancel", "abandon",
                     "realists", "silent"):  # fmt: skip
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidRequest(name, "must be a share from 0 to 1")
        if self.cancel + self.abandon > 1:
            raise InvalidRequest("abandon", "must be at most 1 with cancel")

    @property
    def conversion(self) -> float:
        """Of those who are called and have not gone, who wants a unit."""
        return (1 - self.no_show) * (1 - self.look)


class QueuePlan(Struct, frozen=True, kw_only=True, gc=False):
    """What the people of a run will do, each a row of these columns; times are of the run.

    join_s: when they come, rising. tab_s: when they join again (infinite: never). device: number of
    the device they share (0: their own). react_s, choose_s, pay_s: how long after being called,
    admitted and held. patience_s: how long after joining they still wait.
    """

    opens_s: float
    join_s: array[float]
    tab_s: array[float]
    device: array[int]
    fate: bytes
    react_s: array[float]
    choose_s: array[float]
    pay_s: array[float]
    patience_s: array[float]
    realist: bytes
    silent: bytes

    @property
    def people(self) -> int:
        """How many there are."""
        return len(self.join_s)

    @property
    def bots(self) -> int:
        """Those among them who only try to cheat."""
        return self.fate.count(Fate.BOT)

    def key(self, person: int) -> str:
        """What the service passes as `key=`."""
        device = self.device[person]
        return f"device-{device}" if device else ""


def buyer_of(person: int) -> str:
    """A person's name as a buyer."""
    return f"buyer-{person:06d}"


def lay_out(
    habits: Habits, people: int, *, seconds: float, opens_s: float, seed: int | str
) -> QueuePlan:
    """Decide everything beforehand. Arrivals are a Poisson process, given how many there are."""
    source = random.Random(f"{seed}:queue")
    draw = source.random
    early = round(habits.early * people) if opens_s > 0 else 0
    arrivals = [opens_s * draw() ** 0.7 for _ in range(early)]
    arrivals += [opens_s + (seconds - opens_s) * draw() for _ in range(people - early)]
    plan = QueuePlan(
        opens_s=opens_s,
        join_s=array("d", sorted(arrivals)),
        tab_s=array("d"),
        device=array("l"),
        fate=bytes(_fate(habits, source) for _ in range(people)),
        react_s=array("d"),
        choose_s=array("d"),
        pay_s=array("d"),
        patience_s=array("d"),
        realist=bytes(draw() < habits.realists for _ in range(people)),
        silent=bytes(draw() < habits.silent for _ in range(people)),
    )
    sharing = 0
    for at in plan.join_s:
        plan.tab_s.append(at + habits.tab_gap_s * draw() if draw() < habits.two_tabs else inf)
        shares = draw() < habits.shared
        sharing += shares
        plan.device.append(1 + (sharing - 1) // habits.device_people if shares else 0)
        plan.react_s.append(habits.react_s * exp(source.gauss(0.0, habits.react_sigma)))
        plan.choose_s.append(habits.choose_s * source.expovariate(1.0))
        plan.pay_s.append(habits.pay_s * min(4.0, source.expovariate(1.0)))
        plan.patience_s.append(habits.patience_s * source.expovariate(1.0))
    return plan


def _fate(habits: Habits, source: random.Random) -> Fate:
    draw = source.random
    if draw() < habits.bots:
        return Fate.BOT
    if draw() < habits.no_show:
        return Fate.NO_SHOW
    if draw() < habits.look:
        return Fate.LOOK
    chance = draw()
    if chance < habits.cancel:
        return Fate.CANCEL
    return Fate.ABANDON if chance < habits.cancel + habits.abandon else Fate.PAY
