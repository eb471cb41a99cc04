"""The recordings, and instruments to read them with."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.types.instruments import Instrument
from tests.recordings import recordings_folder


@pytest.fixture(scope="session")
def recordings() -> Path:
    return recordings_folder()


@pytest.fixture(scope="session")
def btcusdt() -> Instrument:
    return Instrument(
        venue="paper",
        symbol="BTCUSDT",
        base_asset="BTC",
        quote_asset="USDT",
        price_scale=2,
        quantity_scale=5,
        tick_size=1,
        lot_size=1,
        min_quantity=1,
        max_quantity=900_000_000,
        min_notional=50_000_000,
    )
