"""Patience for the adapter's tests: their venue is in the same process, so a machine that stalls isn't a dead venue."""

from __future__ import annotations

import pytest

from core.types.clock import NS_PER_S
from core.venues.binance import rest, user_stream, ws_orders
from tests.core.venues.binance.support import DEADLINE_S

WAITS = (
    (rest, "CONNECT_TIMEOUT_S"),
    (rest, "REQUEST_DEADLINE_S"),
    (rest, "READ_DEADLINE_S"),
    (user_stream, "OPEN_TIMEOUT_S"),
    (user_stream, "SUBSCRIBE_TIMEOUT_S"),
)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that is about such a wait sets it itself."""
    for module, name in WAITS:
        monkeypatch.setattr(module, name, DEADLINE_S)
    monkeypatch.setattr(ws_orders, "PREPARED_FOR_NS", int(DEADLINE_S) * NS_PER_S)
