"""For your own tests: a model of a sale, and strategies for Hypothesis.

`OracleSale` says what the engine must answer, and its `queue`, an `OracleRoom`, what the waiting
room must. The strategies make identifiers, baskets, sales and hostile input; they need Hypothesis
(``pip install hypothesis``), the oracle needs nothing. `LocalEntropy` stands for public randomness
where a test draws.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from flashsale.errors import ConfigurationError
from flashsale.testing.entropy import LocalEntropy
from flashsale.testing.oracle import OracleSale
from flashsale.testing.room_verbs import OracleRoom

if TYPE_CHECKING:
    from flashsale.testing.strategies import (
        baskets,
        hostile_baskets,
        hostile_identifiers,
        hostile_quantities,
        identifiers,
        quantities,
        sales,
    )

__all__ = [
    "LocalEntropy",
    "OracleRoom",
    "OracleSale",
    "baskets",
    "hostile_baskets",
    "hostile_identifiers",
    "hostile_quantities",
    "identifiers",
    "quantities",
    "sales",
]


def __getattr__(name: str) -> object:
    # Only the strategies come this way, so that the oracle works without Hypothesis.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        strategies = importlib.import_module("flashsale.testing.strategies")
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        raise ConfigurationError(
            f"flashsale.testing.{name} needs Hypothesis: pip install hypothesis"
        ) from error
    return getattr(strategies, name)


def __dir__() -> list[str]:
    return __all__
