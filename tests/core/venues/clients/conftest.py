"""Fixtures of the tests in which clients that others wrote trade on the paper venue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.venues.paper.server import PaperVenue
from tests.core.venues.clients.spot_support import Ed25519, Floor
from tests.core.venues.paper.support import CREDENTIALS, ScriptedMarket


@pytest.fixture
async def floor(tmp_path: Path) -> AsyncIterator[Floor]:
    ed25519 = Ed25519("ed25519-key")
    async with PaperVenue(
        ScriptedMarket(), tmp_path / "venue.sqlite3", CREDENTIALS, more_credentials=[ed25519.credentials]
    ) as venue:
        yield Floor(venue, ed25519)
