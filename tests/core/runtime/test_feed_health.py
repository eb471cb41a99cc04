"""The health of the feeds as a running engine tells it."""

from __future__ import annotations

import pytest

from core.types.codes import ReasonCode, RefusalError
from tests.core.engine_support import RunningEngine


async def test_feed_health_is_told_over_grpc_of_one_symbol_and_of_all(engine: RunningEngine) -> None:
    everything = await engine.client.feed_health()
    assert {feed.symbol for feed in everything} == set((await engine.client.status()).books)
    (btc,) = await engine.client.feed_health("BTCUSDT")
    assert btc.book_state == "LIVE"
    assert btc.messages > 0
    assert btc.book_age_ms is not None
    assert (btc.gaps, btc.ticker_mismatches) == (0, 0)


async def test_the_feed_of_an_unknown_symbol_is_refused(engine: RunningEngine) -> None:
    for symbol in ("NOPEUSDT", ""):
        with pytest.raises(RefusalError) as caught:
            await engine.client.feed_health(symbol)
        assert caught.value.refusal.code is ReasonCode.MARKET_INSTRUMENT_UNKNOWN
