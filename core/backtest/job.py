"""What a worker is given, and what it answers."""

from __future__ import annotations

import msgspec

from core.backtest.bars import Row
from core.backtest.recorded import Recorded
from core.backtest.report import Report
from core.backtest.specification import Specification
from core.types.codes import ReasonCode, Refusal
from core.types.instruments import Instrument


class Stored(msgspec.Struct, frozen=True):
    """Recorded trades to make the bars of."""

    root: str
    recorded: Recorded
    from_ns: int
    until_ns: int


class Job(msgspec.Struct, frozen=True):
    """rows are the bars themselves, where stored doesn't tell where they are."""

    instrument: Instrument
    interval: str
    source: str
    specification: Specification
    rows: list[Row] = []
    stored: Stored | None = None


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the answer."""

    progress: int | None = None
    report: Report | None = None
    digest: str = ""
    refusal: Refusal | None = None


def too_few(needed: int, there: int) -> Refusal:
    """Says where more comes from."""
    return Refusal(
        ReasonCode.MARKET_NO_DATA,
        "There are too few whole bars for this strategy. Choose a shorter interval or smaller parameters, wait, or get "
        "more data: `veloz record` records a market, `veloz data import` and `veloz data import-klines` take files in.",
        limit=str(needed),
        actual=str(there),
        unit="bars",
    )
