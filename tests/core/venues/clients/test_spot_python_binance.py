"""python-binance, pointed at the paper venue by its URLs alone: its blocking client, its asynchronous one with the
WebSocket API, its sockets and its depth cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest
from binance import AsyncClient, BinanceSocketManager, Client, DepthCacheManager
from binance.exceptions import BinanceAPIException
from binance.ws.reconnecting_websocket import ReconnectingWebsocket

from tests.core.venues.clients.spot_support import SYMBOL, TIMEOUT_S, Floor
from tests.core.venues.paper.support import CREDENTIALS, d

READ_TIMEOUT_S = 1.0
LIMIT = {"symbol": SYMBOL, "timeInForce": "GTC"}


@pytest.fixture
def blocking(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(Client, "API_URL", f"{floor.rest}/api")
    made = Client(CREDENTIALS.key, CREDENTIALS.secret, ping=False)
    yield made
    made.close_connection()


@pytest.fixture
async def client(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncClient]:
    monkeypatch.setattr(AsyncClient, "API_URL", f"{floor.rest}/api")
    monkeypatch.setattr(AsyncClient, "WS_API_URL", floor.websocket_api)
    monkeypatch.setattr(BinanceSocketManager, "STREAM_URL", f"{floor.streams}/")
    # Its sockets close only once a read has timed out.
    monkeypatch.setattr(ReconnectingWebsocket, "TIMEOUT", READ_TIMEOUT_S)
    made = await AsyncClient.create(CREDENTIALS.key, CREDENTIALS.secret)
    yield made
    await made.close_connection()


async def test_a_trading_session_with_the_blocking_client(floor: Floor, blocking: Client) -> None:
    await asyncio.to_thread(check_market_and_limits, blocking)
    await asyncio.to_thread(check_market_order_and_stop, blocking)
    floor.trade("97.95")
    await asyncio.to_thread(check_lists_and_replacing, blocking)
    assert floor.balance("USDT") == (d("1000000") - d("50") + d("24.9975") - d("0.0249975"), 0)
    assert floor.balance("BTC") == (d("20") + d("0.4995") - d("0.25"), 0)


def check_market_and_limits(client: Client) -> None:
    client.ping()
    info = client.get_symbol_info(SYMBOL)
    filters = {one["filterType"]: one for one in info["filters"]}
    assert filters["LOT_SIZE"]["stepSize"] == "0.00001000"
    assert client.get_order_book(symbol=SYMBOL)["asks"][0] == ["100.00000000", "1.00000000"]
    assert client.get_orderbook_ticker(symbol=SYMBOL)["bidPrice"] == "99.99000000"
    assert client.get_asset_balance("BTC") == {"asset": "BTC", "free": "20.00000000", "locked": "0.00000000"}
    assert client.get_avg_price(symbol=SYMBOL)["mins"] == 5
    placed = client.order_limit_buy(symbol=SYMBOL, quantity=1, price="99.00")
    assert (placed["status"], placed["fills"]) == ("NEW", [])
    found = client.get_order(symbol=SYMBOL, orderId=placed["orderId"])
    assert (found["status"], found["price"], found["isWorking"]) == ("NEW", "99.00000000", True)
    assert [one["orderId"] for one in client.get_open_orders(symbol=SYMBOL)] == [placed["orderId"]]
    assert client.get_asset_balance("USDT")["locked"] == "99.00000000"
    assert client.cancel_order(symbol=SYMBOL, orderId=placed["orderId"])["status"] == "CANCELED"
    assert client.create_test_order(symbol=SYMBOL, side="BUY", type="MARKET", quantity=1) == {}


def check_market_order_and_stop(client: Client) -> None:
    bought = client.order_market_buy(symbol=SYMBOL, quantity="0.5")
    assert (bought["status"], bought["cummulativeQuoteQty"]) == ("FILLED", "50.00000000")
    assert bought["fills"][0]["commission"] == "0.00050000"
    stop = client.create_order(
        **LIMIT, side="SELL", type="STOP_LOSS_LIMIT", quantity="0.25", price="97.90", stopPrice="98.00"
    )
    assert set(stop) == {"symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}
    waiting = client.get_order(symbol=SYMBOL, orderId=stop["orderId"])
    assert (waiting["status"], waiting["isWorking"], waiting["stopPrice"]) == ("NEW", False, "98.00000000")


def check_lists_and_replacing(client: Client) -> None:
    stop = client.get_all_orders(symbol=SYMBOL)[-1]
    assert (stop["type"], stop["status"], stop["cummulativeQuoteQty"]) == ("STOP_LOSS_LIMIT", "FILLED", "24.99750000")
    pair = client.create_oco_order(
        symbol=SYMBOL,
        side="SELL",
        quantity="1",
        aboveType="LIMIT_MAKER",
        abovePrice="105",
        belowType="STOP_LOSS_LIMIT",
        belowStopPrice="95",
        belowPrice="94.50",
        belowTimeInForce="GTC",
    )
    assert [one["type"] for one in pair["orderReports"]] == ["LIMIT_MAKER", "STOP_LOSS_LIMIT"]
    leg = pair["orders"][0]["orderId"]
    assert client.cancel_order(symbol=SYMBOL, orderId=leg)["listOrderStatus"] == "ALL_DONE"
    first = client.order_limit_buy(symbol=SYMBOL, quantity=1, price="90.00")
    replaced = client.cancel_replace_order(
        **LIMIT,
        side="BUY",
        type="LIMIT",
        cancelReplaceMode="STOP_ON_FAILURE",
        cancelOrderId=first["orderId"],
        quantity="1",
        price="91.00",
    )
    assert (replaced["cancelResult"], replaced["newOrderResult"]) == ("SUCCESS", "SUCCESS")
    assert replaced["newOrderResponse"]["status"] == "NEW"
    client.cancel_all_open_orders(symbol=SYMBOL)
    assert client.get_open_orders() == []
    trades = [(one["isBuyer"], one["qty"], one["price"]) for one in client.get_my_trades(symbol=SYMBOL)]
    assert trades == [(True, "0.50000000", "100.00000000"), (False, "0.25000000", "99.99000000")]
    with pytest.raises(BinanceAPIException, match="insufficient balance") as refusal:
        client.order_limit_sell(symbol=SYMBOL, quantity=25, price="101.00")
    assert (refusal.value.code, refusal.value.status_code) == (-2010, 400)


async def test_orders_over_the_websocket_api_are_heard_on_the_user_socket(floor: Floor, client: AsyncClient) -> None:
    events: list[dict[str, Any]] = []
    async with asyncio.timeout(TIMEOUT_S), BinanceSocketManager(client).user_socket() as user:

        async def next_events(count: int) -> list[tuple[Any, ...]]:
            fresh = [await user.recv() for _ in range(count)]
            events.extend(fresh)
            return [(event["e"], event.get("x"), event.get("X")) for event in fresh]

        placed = await client.ws_order_limit_buy(symbol=SYMBOL, quantity="1", price="99.00")
        assert placed["status"] == "NEW"
        assert await next_events(2) == [("executionReport", "NEW", "NEW"), ("outboundAccountPosition", None, None)]
        assert {row["a"]: row["l"] for row in events[1]["B"]} == {"USDT": "99.00000000"}
        floor.trade("98.50", "0.4")
        assert (await next_events(2))[0] == ("executionReport", "TRADE", "PARTIALLY_FILLED")
        assert (events[2]["l"], events[2]["L"], events[2]["m"]) == ("0.40000000", "99.00000000", True)
        canceled = await client.ws_cancel_order(symbol=SYMBOL, orderId=placed["orderId"])
        assert (canceled["status"], canceled["executedQty"]) == ("CANCELED", "0.40000000")
        assert (await next_events(2))[0] == ("executionReport", "CANCELED", "CANCELED")
        assert (events[4]["C"], events[4]["c"]) == (placed["clientOrderId"], canceled["clientOrderId"])
        await client.ws_create_oco_order(
            symbol=SYMBOL,
            side="SELL",
            quantity="1",
            aboveType="LIMIT_MAKER",
            abovePrice="105",
            belowType="STOP_LOSS",
            belowStopPrice="95",
        )
        kinds = await next_events(4)
        assert [kind[0] for kind in kinds] == [
            "executionReport",
            "executionReport",
            "listStatus",
            "outboundAccountPosition",
        ]
        floor.trade("94.90")
        # The leg above goes, the one below works and trades, the list is done.
        assert await next_events(5) == [
            ("executionReport", "EXPIRED", "EXPIRED"),
            ("executionReport", "NEW", "NEW"),
            ("executionReport", "TRADE", "FILLED"),
            ("listStatus", None, None),
            ("outboundAccountPosition", None, None),
        ]
        assert (events[-2]["l"], events[-2]["L"]) == ("ALL_DONE", "ALL_DONE")
        account = await client.ws_get_account()
        free = {row["asset"]: Decimal(row["free"]) for row in account["balances"]}
        assert free["USDT"] == Decimal(1_000_000) - Decimal("39.6") + Decimal("99.99") * Decimal("0.999")
        with pytest.raises(BinanceAPIException, match="Unknown order sent"):
            await client.ws_cancel_order(symbol=SYMBOL, orderId=placed["orderId"])


async def test_its_depth_cache_follows_the_book(floor: Floor, client: AsyncClient) -> None:
    async with (
        asyncio.timeout(TIMEOUT_S),
        DepthCacheManager(client, symbol=SYMBOL, limit=100, ws_interval=100) as depth,
    ):
        floor.depth(bids=(("99.99", "0"), ("99.97", "7")), asks=(("100.00", "3"),))
        cache = await depth.recv()
        assert (cache.get_bids(), cache.get_asks()) == (
            [[99.98, 3.0], [99.97, 7.0]],
            [[100.0, 3.0], [100.01, 2.0]],
        )


async def test_its_market_sockets_hear_every_kind(floor: Floor, client: AsyncClient) -> None:
    manager = BinanceSocketManager(client)
    sockets = {
        "trade": manager.trade_socket(SYMBOL),
        "aggTrade": manager.aggtrade_socket(SYMBOL),
        "24hrTicker": manager.symbol_ticker_socket(SYMBOL),
        "24hrMiniTicker": manager.symbol_miniticker_socket(SYMBOL),
        "kline": manager.kline_socket(SYMBOL, interval="1m"),
        "depthUpdate": manager.depth_socket(SYMBOL, interval=100),
    }
    async with asyncio.timeout(TIMEOUT_S):
        for socket in sockets.values():
            await socket.__aenter__()
        floor.trade("99.98", "0.3", "0.1")
        floor.depth(bids=(("99.97", "7"),))
        heard = {kind: await socket.recv() for kind, socket in sockets.items()}
        await asyncio.gather(*(socket.__aexit__(None, None, None) for socket in sockets.values()))
    assert {kind: event["e"] for kind, event in heard.items()} == {kind: kind for kind in sockets}
    assert (heard["aggTrade"]["q"], heard["aggTrade"]["f"], heard["aggTrade"]["l"]) == ("0.40000000", 1, 2)
    assert (heard["24hrTicker"]["c"], heard["kline"]["k"]["v"]) == ("99.98000000", "0.40000000")
