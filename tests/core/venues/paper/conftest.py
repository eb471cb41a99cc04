"""Fixtures of the paper venue's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.venues.paper.server import PaperVenue
from tests.core.venues.paper.support import CREDENTIALS, Client, ScriptedMarket, still_clock


@pytest.fixture
async def scripted(tmp_path: Path) -> AsyncIterator[tuple[PaperVenue, ScriptedMarket, Client]]:
    market = ScriptedMarket()
    clock = still_clock()
    async with PaperVenue(market, tmp_path / "venue.sqlite3", CREDENTIALS, clock=clock) as venue:
        client = Client(venue.base_url, clock=clock)
        yield venue, market, client
        await client.http.aclose()
