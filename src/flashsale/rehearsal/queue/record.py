"""What a run through a waiting room saw. Filled as it goes, judged afterwards.

Plain values: the processes of a run send each other the same ones.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import Any

from msgspec import Struct, field

from flashsale.errors import FlashSaleError, OutcomeUnknown
from flashsale.models import OUTCOME_BY_CODE, Answer
from flashsale.rehearsal.measures import Percentiles, new_histogram, percentiles_of
from flashsale.rooms import PlaceAnswer

Result = Answer | PlaceAnswer | FlashSaleError


class Act(Enum):
    """What somebody asks for: two are joins, `ask` is a position, `come` an admission."""

    JOIN = "join"
    TAB = "tab"
    ASK = "ask"
    COME = "come"
    HOLD = "hold"
    PAY = "pay"
    CANCEL = "cancel"
    LEAVE = "leave"
    FORGE = "forge"
    GRAB = "grab"


class End(Enum):
    """How somebody's visit ended."""

    SERVED = "paid"
    CANCELLED = "held, then cancelled"
    ABANDONED = "held, never paid"
    EXPIRED = "held, paid too late"
    IN_VAIN = "came when called, found nothing"
    LOOKED = "came when called, only looked"
    NO_SHOW = "did not come when called"
    MISSED = "turn was over"
    GONE = "told that nothing is left"
    LEFT = "left the queue"
    WALKED = "went without a word"
    REFUSED = "got no place"
    BOT = "tried to cheat"
    LOST = "got no answers"


class Visit(Struct, gc=False, array_like=True):
    """One person's visit. Times are the server's milliseconds; 0 is never.

    number, tab_number: what joining gave, and joining again. polls: positions asked. outlooks: each
    change of what they were told (likely, unlikely), as [when, word, …]. etas: of those near the
    front, [when, expected, earliest, latest or -1, …], as times after `when`. hope_ms: when they
    were last told anything but hopeless, gone_ms: when hopeless. called_ms: when they heard that
    they are called, vain: it was hopeless then. admitted_ms, turn_ends_ms, held_ms: of the answers.
    impatient: they went because it took too long.
    """

    person: int
    number: int = 0
    tab_number: int = 0
    place: int = 0
    joined_ms: int = 0
    polls: int = 0
    outlooks: list[Any] = field(default_factory=list)
    etas: list[int] = field(default_factory=list)
    hope_ms: int = 0
    gone_ms: int = 0
    called_ms: int = 0
    vain: bool = False
    admitted_ms: int = 0
    turn_ends_ms: int = 0
    held_ms: int = 0
    impatient: bool = False
    end: End | None = None


class Deed(Struct, gc=False, array_like=True):
    """One answer that the verdict needs whole. code: the outcome's letter, "" for an error."""

    act: Act
    person: int
    due_s: float
    answered_s: float
    code: str
    error: str = ""
    deadline_ms: int = 0
    at_ms: int = 0
    replayed: bool = False

    @classmethod
    def of(cls, act: Act, person: int, due_s: float, answered_s: float, result: Result) -> Deed:
        """What is kept of an answer."""
        deed = cls(act, person, due_s, answered_s, "")
        if isinstance(result, FlashSaleError):
            deed.error = type(result).__name__
            return deed
        ends = result.turn_ends_ms if isinstance(result, PlaceAnswer) else result.deadline_ms
        deed.code, deed.deadline_ms = result.outcome.code, ends or 0
        deed.at_ms, deed.replayed = result.at_ms, result.replayed
        return deed

    def result(self, sale: str, buyer: str, hold_id: str) -> Answer | FlashSaleError:
        """The answer again."""
        if not self.code:
            return OutcomeUnknown(f"no answer: {self.error}")
        return Answer(
            OUTCOME_BY_CODE[self.code],
            sale,
            buyer,
            hold_id,
            deadline_ms=self.deadline_ms or None,
            at_ms=self.at_ms,
            replayed=self.replayed,
        )


class Record(Struct, kw_only=True):
    """A whole run. outcomes: what each act was answered; longest_poll_ms: the longest time that
    anybody was told to wait until they ask again; generator_cpu: a share of one core, while people
    came.
    """

    visits: dict[int, Visit] = field(default_factory=dict)
    deeds: list[Deed] = field(default_factory=list)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    longest_poll_ms: int = 0
    offered: int = 0
    completed: int = 0
    dropped: int = 0
    unserved: int = 0
    generator_cpu: float = 0.0

    def count(self, act: Act, result: Result) -> None:
        """Note what an act was answered."""
        self.completed += 1
        if isinstance(result, FlashSaleError):
            self.errors[type(result).__name__] += 1
        else:
            self.outcomes.setdefault(act.value, Counter())[result.outcome.value] += 1


TIMED = {
    Act.JOIN: "join",
    Act.TAB: "join",
    Act.ASK: "position",
    Act.COME: "admit",
    Act.HOLD: "hold",
}
"""The acts whose latency is told, each by the verb that it calls."""


class Meters:
    """Histograms: of every verb, from the intended time to the answer, and of the generator."""

    def __init__(self) -> None:
        self.verbs: dict[str, Any] = {verb: new_histogram() for verb in set(TIMED.values())}
        self.lag: Any = new_histogram()

    def latency_ms(self) -> dict[str, Percentiles]:
        """Percentiles by verb, in the order in which people meet them."""
        return {
            verb: percentiles_of(self.verbs[verb]) for verb in ("join", "position", "admit", "hold")
        }
