"""What is to be run, the bars aside."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from core.backtest.fills import Terms

CAPITAL_LEAST_QUOTE = Decimal(10)
CAPITAL_LIMIT_QUOTE = Decimal(1_000_000_000)


class Specification(msgspec.Struct, frozen=True):
    """What is to be run, the bars aside. parameters are the strategy's, as parse_parameters takes them."""

    strategy: str
    parameters: Mapping[str, int | None]
    capital_quote: str
    terms: Terms
