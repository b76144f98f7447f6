"""What belongs to one process and says so, where pickle would name a lock inside it."""

from __future__ import annotations

from typing import ClassVar, NoReturn, SupportsIndex

from flashsale.errors import ConfigurationError


class NotPickled:
    """Base of clients and handles; `_instead` says what to send to another process."""

    _instead: ClassVar[str]

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        raise ConfigurationError(
            f"{type(self).__name__} belongs to its process and cannot be pickled or copied: "
            f"{self._instead}"
        )
