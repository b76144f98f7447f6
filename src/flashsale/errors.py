"""Everything this library raises.

::

    FlashSaleError
    ├── ConfigurationError    the client or the server is set up wrongly; nothing was sent
    ├── InvalidRequest        the request breaks a rule; nothing was sent (also a ValueError)
    ├── ProtocolError         the server's reply is not one of ours
    ├── StoreError            the store did not answer as it should
    │   ├── StoreUnavailable  the operation was certainly not applied
    │   └── OutcomeUnknown    the operation may have been applied: ask again with the same id
    ├── Overloaded            the process's queue is full; nothing was sent
    └── Rejected              an outcome raised on request, by ``Answer.unwrap()`` or by a
                              method that returns no answer

An outcome such as "sold out" is a value (`flashsale.Outcome`), never an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flashsale.models import Outcome


class FlashSaleError(Exception):
    """Base of everything this library raises."""


class ConfigurationError(FlashSaleError):
    """The client, the process or the server is set up in a way that cannot be right."""


class InvalidRequest(FlashSaleError, ValueError):
    """A request breaks a stated rule. Nothing was sent and nothing was written.

    `field` names what is wrong ("qty of 'lipstick'"), `rule` says what it must be.
    """

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule

    def __reduce__(self) -> tuple[type[InvalidRequest], tuple[str, str]]:
        return (type(self), (self.field, self.rule))


class ProtocolError(FlashSaleError):
    """A reply cannot be read: another program's data, or a newer release's format."""


class StoreError(FlashSaleError):
    """The store could not be reached or refused the command."""


class StoreUnavailable(StoreError):
    """The operation was certainly not applied; the same call may be made again."""


class OutcomeUnknown(StoreError):
    """The operation may have been applied, and its answer was lost.

    Retry with the same ids, at any time and from any process: the engine gives the
    original answer if it was applied and decides anew if it was not.
    """


class Overloaded(FlashSaleError):
    """More work is waiting in this process than it may hold. Nothing was sent."""


class Rejected(FlashSaleError):
    """An outcome other than the one asked for, raised because the caller wanted that."""

    def __init__(self, outcome: Outcome, subject: str) -> None:
        super().__init__(f"{subject}: {outcome.value} ({outcome.meaning})")
        self.outcome = outcome
        self.subject = subject

    def __reduce__(self) -> tuple[type[Rejected], tuple[Outcome, str]]:
        return (type(self), (self.outcome, self.subject))
