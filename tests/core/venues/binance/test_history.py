"""The venue's own bars for a start in the past, and where the venue is."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from core.market.klines import Kline
from core.types.clock import NS_PER_MS, NS_PER_S, SystemClock
from core.types.instruments import Product
from core.venues.binance import account as account_module
from core.venues.binance.adapter import BinanceSpot
from core.venues.binance.environments import DEMO, ENVIRONMENTS, MAINNET, TESTNET, environment_of
from core.venues.ports import VenueUnavailableError
from tests.core.venues.binance.support import HttpRequest, answer, scripted_http

MINUTE_MS = 60_000
FIRST_MS = 1_699_999_980_000
FILTERS = [
    {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"},
    {"filterType": "LOT_SIZE", "stepSize": "0.00001000", "minQty": "0.00001000", "maxQty": "9000.00000000"},
    {"filterType": "NOTIONAL", "minNotional": "5.00000000"},
]
LISTED = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "filters": FILTERS}


def row(open_ms: int) -> list[Any]:
    prices = ["35000.10000000", "35010.00000000", "34990.00000000", "35000.20000000"]
    close_ms = open_ms + MINUTE_MS - 1
    return [open_ms, *prices, "1.23456000", close_ms, "43210.98765432", 77, "0.5", "17500.0", "0"]


class KlineVenue:
    """Bars of a minute from FIRST_MS on, the last of `count` still forming."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[tuple[int, int]] = []

    def server_ms(self) -> int:
        return FIRST_MS + self.count * MINUTE_MS - 1_000

    def respond(self, request: HttpRequest) -> bytes:
        if request.path.endswith("exchangeInfo"):
            return answer(200, {"symbols": [LISTED]})
        start_ms, limit = int(request.parameters["startTime"]), int(request.parameters["limit"])
        assert (request.parameters["symbol"], request.parameters["interval"]) == ("BTCUSDT", "1m")
        self.asked.append((start_ms, limit))
        opens = [FIRST_MS + index * MINUTE_MS for index in range(self.count)]
        return answer(200, [row(open_ms) for open_ms in opens if open_ms >= start_ms][:limit])


async def klines(venue: KlineVenue, start_ms: int, limit: int, symbol: str = "BTCUSDT") -> list[Kline]:
    async with scripted_http(venue.respond) as script:
        script.server_ms = venue.server_ms
        adapter = BinanceSpot(script.url, "k", "s", SystemClock(), venue="binance", websocket_url="")
        try:
            return await adapter.klines(symbol, "1m", start_ms * NS_PER_MS, limit)
        finally:
            await adapter.aclose()


async def test_bars_are_exact_at_the_instruments_scales_and_the_forming_one_says_so() -> None:
    bars = await klines(KlineVenue(3), FIRST_MS, 10)
    assert [bar.closed for bar in bars] == [True, True, False]
    assert bars[0] == Kline(
        open_time_ns=FIRST_MS * NS_PER_MS,
        close_time_ns=FIRST_MS * NS_PER_MS + 60 * NS_PER_S - 1,
        open=3_500_010,
        high=3_501_000,
        low=3_499_000,
        close=3_500_020,
        volume=123_456,
        quote_volume=432_109_876_543,
        trades=77,
        closed=True,
        taker_buy_volume=50_000,
        taker_buy_quote_volume=175_000_000_000,
    )


async def test_more_than_one_request_holds_are_read_in_pages_without_a_gap_or_a_repeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(account_module, "KLINES_PER_REQUEST", 4)
    venue = KlineVenue(20)
    bars = await klines(venue, FIRST_MS + 1, 10)
    assert [bar.open_time_ns for bar in bars] == [(FIRST_MS + index * MINUTE_MS) * NS_PER_MS for index in range(1, 11)]
    assert [limit for _, limit in venue.asked] == [4, 4, 2]


async def test_a_wrong_symbol_or_limit_is_an_error_that_names_it() -> None:
    with pytest.raises(VenueUnavailableError, match="'NOPEUSDT'"):
        await klines(KlineVenue(1), FIRST_MS, 1, "NOPEUSDT")
    for limit in (0, account_module.KLINES_LIMIT + 1):
        with pytest.raises(ValueError, match=str(limit)):
            await klines(KlineVenue(1), FIRST_MS, limit)


async def test_a_symbol_that_was_asked_for_and_is_not_listed_is_named() -> None:
    async with scripted_http(KlineVenue(1).respond) as script:
        adapter = BinanceSpot(
            script.url, "k", "s", SystemClock(), venue="binance", websocket_url="", symbols=("BTCUSDT", "NOPEUSDT")
        )
        with structlog.testing.capture_logs() as events:
            assert [instrument.symbol for instrument in await adapter.instruments()] == ["BTCUSDT"]
        assert [event["symbols"] for event in events] == [["NOPEUSDT"]]
        await adapter.aclose()


@pytest.mark.parametrize(("product", "name"), list(ENVIRONMENTS))
def test_every_environment_is_reached_encrypted_and_only_mainnet_by_mainnets_hosts(product: Product, name: str) -> None:
    found = environment_of(product, name)
    urls = [found.rest_url, found.public_stream_url, found.market_stream_url, found.user_stream_url]
    assert found.rest_url.startswith("https://")
    assert all(url.startswith("wss://") for url in urls[1:])
    assert not any(url.endswith("/") for url in urls)
    mainnet = environment_of(product, MAINNET)
    assert (found.rest_url == mainnet.rest_url) is (name == MAINNET)
    assert (found.user_stream_url == mainnet.user_stream_url) is (name == MAINNET)
    assert bool(found.websocket_api_url) is (product is Product.SPOT)


def test_any_base_url_overrides_and_an_unknown_name_says_what_there_is() -> None:
    own = environment_of(Product.SPOT, TESTNET).overridden(rest_url="http://127.0.0.1:1/", websocket_url="ws://h:2/")
    assert (own.rest_url, own.public_stream_url, own.user_stream_url) == ("http://127.0.0.1:1", "ws://h:2", "ws://h:2")
    assert own.websocket_api_url == environment_of(Product.SPOT, TESTNET).websocket_api_url
    assert own.overridden(websocket_api_url="").websocket_api_url == ""
    with pytest.raises(ValueError, match=f"{DEMO}, {MAINNET}, {TESTNET}"):
        environment_of(Product.USDM, "nowhere")
