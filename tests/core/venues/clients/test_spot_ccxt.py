"""ccxt, pointed at the paper venue by its URLs alone, trades on its spot side: REST, streams and the WebSocket API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import ccxt
import ccxt.pro
import pytest

from tests.core.venues.clients.spot_support import TIMEOUT_S, Floor, until
from tests.core.venues.paper.support import CREDENTIALS, d

S = "BTC/USDT"


def client(floor: Floor, key: str, secret: str) -> Any:
    exchange = ccxt.pro.binance(
        {
            "apiKey": key,
            "secret": secret,
            "enableRateLimit": False,
            "options": {"fetchMarkets": {"types": ["spot"]}},
        }
    )
    exchange.urls["api"]["public"] = exchange.urls["api"]["private"] = f"{floor.rest}/api/v3"
    exchange.urls["api"]["sapi"] = f"{floor.rest}/sapi/v1"
    exchange.urls["api"]["ws"]["spot"] = f"{floor.streams}/ws"
    exchange.urls["api"]["ws"]["ws-api"]["spot"] = floor.websocket_api
    return exchange


@pytest.fixture(params=["hmac", "ed25519"])
async def exchange(floor: Floor, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    is_hmac = request.param == "hmac"
    key, secret = (CREDENTIALS.key, CREDENTIALS.secret) if is_hmac else (floor.ed25519.key, floor.ed25519.private_pem)
    made = client(floor, key, secret)
    yield made
    await made.close()


async def test_a_trading_session(floor: Floor, exchange: Any) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        await check_market_data(exchange)
        orders = asyncio.create_task(exchange.watch_orders())
        balances = asyncio.create_task(exchange.watch_balance())
        await until(lambda: len(floor.venue.exchange.account.listeners) > 0)
        resting = await exchange.create_order(S, "limit", "buy", 1, 99)
        assert (resting["status"], resting["price"], resting["filled"]) == ("open", 99.0, 0.0)
        assert [one["id"] for one in await orders] == [resting["id"]]
        assert (await balances)["USDT"] == {"free": 999_901.0, "used": 99.0, "total": 1_000_000.0}
        assert (await exchange.fetch_order(resting["id"], S))["status"] == "open"
        assert [one["id"] for one in await exchange.fetch_open_orders(S)] == [resting["id"]]
        assert (await exchange.cancel_order(resting["id"], S))["status"] == "canceled"

        bought = await exchange.create_order(S, "market", "buy", 0.5)
        assert (bought["status"], bought["average"], bought["cost"]) == ("closed", 100.0, 50.0)
        assert bought["fees"] == [{"currency": "BTC", "cost": 0.0005}]
        await check_stops(floor, exchange)
        await check_lists(floor, exchange)
        await check_replacing(exchange)
        mine = await exchange.fetch_my_trades(S)
        assert [(one["side"], one["amount"], one["price"]) for one in mine] == [
            ("buy", 0.5, 100.0),
            ("sell", 0.25, 99.99),
        ]
        assert floor.balance("USDT") == (d("1000000") - d("50") + d("24.9975") - d("0.0249975"), 0)
        assert floor.balance("BTC") == (d("20") + d("0.4995") - d("0.25"), 0)


async def check_market_data(exchange: Any) -> None:
    markets = await exchange.load_markets()
    market = markets[S]
    assert (market["precision"]["price"], market["precision"]["amount"]) == (0.01, 1e-05)
    assert (market["limits"]["cost"]["min"], market["limits"]["amount"]["max"]) == (5.0, 9_000.0)
    book = await exchange.fetch_order_book(S)
    assert (book["bids"][0], book["asks"][0]) == ([99.99, 2.0], [100.0, 1.0])
    assert (await exchange.fetch_balance())["BTC"]["free"] == 20.0
    assert (await exchange.fetch_ticker(S))["bid"] == 99.99
    assert (await exchange.fetch_trading_fee(S))["maker"] == 0.001
    assert abs(await exchange.fetch_time() - exchange.milliseconds()) < TIMEOUT_S * 1_000


async def check_stops(floor: Floor, exchange: Any) -> None:
    stop = await exchange.create_order(S, "limit", "sell", 0.25, 97.9, {"stopPrice": 98})
    assert (await exchange.fetch_order(stop["id"], S))["stopPrice"] == 98.0
    floor.trade("98.50")
    assert (await exchange.fetch_order(stop["id"], S))["status"] == "open"
    floor.trade("97.95")
    triggered = await exchange.fetch_order(stop["id"], S)
    assert (triggered["status"], triggered["average"]) == ("closed", 99.99)
    with pytest.raises(ccxt.OrderImmediatelyFillable):
        await exchange.create_order(S, "limit", "buy", 1, 100.5, {"postOnly": True})
    with pytest.raises(ccxt.InvalidOrder, match="trigger immediately"):
        await exchange.create_order(S, "limit", "sell", 0.25, 97.9, {"stopPrice": 98})


async def check_lists(floor: Floor, exchange: Any) -> None:
    sell = {"symbol": "BTCUSDT", "side": "SELL", "quantity": "1"}
    old = await exchange.private_post_order_oco(
        sell | {"price": "105", "stopPrice": "95", "stopLimitPrice": "94.5", "stopLimitTimeInForce": "GTC"}
    )
    assert (old["contingencyType"], old["listOrderStatus"], len(old["orderReports"])) == ("OCO", "EXECUTING", 2)
    assert floor.balance("BTC")[1] == d("1"), "a pair holds the money of one order"
    found = await exchange.private_get_orderlist({"orderListId": old["orderListId"]})
    assert found["orders"] == old["orders"]
    gone = await exchange.private_delete_orderlist({"symbol": "BTCUSDT", "orderListId": old["orderListId"]})
    assert [row["status"] for row in gone["orderReports"]] == ["CANCELED", "CANCELED"]
    assert await exchange.fetch_open_orders(S) == []


async def check_replacing(exchange: Any) -> None:
    first = await exchange.create_order(S, "limit", "buy", 1, 90)
    second = await exchange.edit_order(first["id"], S, "limit", "buy", 1, 91)
    assert second["id"] != first["id"]
    assert (await exchange.fetch_order(first["id"], S))["status"] == "canceled"
    assert [(one["id"], one["price"]) for one in await exchange.fetch_open_orders(S)] == [(second["id"], 91.0)]
    await exchange.cancel_all_orders(S)
    with pytest.raises(ccxt.OrderNotFound):
        await exchange.cancel_order(first["id"], S)


async def test_refusals_are_what_ccxt_takes_them_for(floor: Floor, exchange: Any) -> None:
    await exchange.load_markets()
    with pytest.raises(ccxt.InsufficientFunds):
        await exchange.create_order(S, "limit", "sell", 21, 101)
    with pytest.raises(ccxt.BadRequest, match="Filter failure: NOTIONAL"):
        await exchange.create_order(S, "limit", "buy", 0.00001, 99)
    with pytest.raises(ccxt.InvalidOrder, match="Filter failure: PERCENT_PRICE_BY_SIDE"):
        await exchange.create_order(S, "limit", "buy", 1, 10)
    with pytest.raises(ccxt.OrderNotFound):
        await exchange.fetch_order("99", S)
    with pytest.raises(ccxt.BadSymbol):
        await exchange.public_get_depth({"symbol": "NOPE"})
    stranger = client(floor, "who", "knows")
    with pytest.raises(ccxt.AuthenticationError):
        await stranger.fetch_balance()
    await stranger.close()


async def test_the_order_book_and_trades_are_followed_by_stream(floor: Floor, exchange: Any) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        await exchange.load_markets()
        watching = asyncio.create_task(exchange.watch_order_book(S))
        while not watching.done():
            floor.depth(bids=(("99.99", "2.5"),))
            await asyncio.sleep(0.02)
        floor.depth(bids=(("99.99", "0"), ("99.97", "7")), asks=(("100.00", "3"),))
        book = await exchange.watch_order_book(S)
        while book["bids"][0] != [99.98, 3.0]:
            book = await exchange.watch_order_book(S)
        assert (book["bids"][1], book["asks"][0]) == ([99.97, 7.0], [100.0, 3.0])
        trades = asyncio.create_task(exchange.watch_trades(S))
        await until(lambda: floor.venue.exchange.hub.has("btcusdt@trade"))
        floor.trade("99.98", "0.3")
        assert [(one["price"], one["amount"], one["side"]) for one in await trades] == [(99.98, 0.3, "sell")]
        assert (await exchange.fetch_trades(S))[-1]["price"] == 99.98
        # The minute may have turned since: its bar is the last with a trade.
        traded = [bar for bar in await exchange.fetch_ohlcv(S) if bar[5]]
        assert traded[-1][1:] == [99.98, 99.98, 99.98, 99.98, 0.3]


async def test_orders_go_over_the_websocket_api_too(floor: Floor, exchange: Any) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        await exchange.load_markets()
        placed = await exchange.create_order_ws(S, "limit", "buy", 1, 99)
        assert (await exchange.fetch_order_ws(placed["id"], S))["status"] == "open"
        assert {"asset": "USDT", "free": "999901.00000000", "locked": "99.00000000"} in (
            await exchange.fetch_balance_ws()
        )["info"]["balances"]
        edited = await exchange.edit_order_ws(placed["id"], S, "limit", "buy", 1, 98)
        assert [one["id"] for one in await exchange.fetch_open_orders_ws(S)] == [edited["id"]]
        assert (await exchange.cancel_order_ws(edited["id"], S))["status"] == "canceled"
        with pytest.raises(ccxt.InsufficientFunds):
            await exchange.create_order_ws(S, "limit", "sell", 21, 101)
        assert await exchange.fetch_my_trades_ws(S) == []
