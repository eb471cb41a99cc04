"""Binance's own SDK, pointed at the paper venue by its configuration alone: REST, WebSocket API and streams. Its models
are strict: what they read, a field of the wrong type or name would have broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from binance_common.configuration import (
    ConfigurationRestAPI,
    ConfigurationWebSocketAPI,
    ConfigurationWebSocketStreams,
)
from binance_common.errors import BadRequestError, UnauthorizedError
from binance_sdk_spot import Spot

from tests.core.venues.clients.spot_support import SYMBOL, TIMEOUT_S, Floor, until
from tests.core.venues.paper.support import CREDENTIALS, d


def sdk(floor: Floor, **keys: Any) -> Any:
    """Any: its signatures name its own enums where it takes plain words."""
    return Spot(
        ConfigurationRestAPI(base_path=floor.rest, retries=0, **keys),
        ConfigurationWebSocketAPI(stream_url=floor.websocket_api, **keys),
        ConfigurationWebSocketStreams(stream_url=floor.streams),
    )


@pytest.fixture
def hmac(floor: Floor) -> Any:
    return sdk(floor, api_key=CREDENTIALS.key, api_secret=CREDENTIALS.secret)


@pytest.fixture
def ed25519(floor: Floor) -> Any:
    return sdk(floor, api_key=floor.ed25519.key, private_key=floor.ed25519.private_pem)


@pytest.fixture(params=["hmac", "ed25519"])
def client(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


async def test_a_trading_session_over_rest(floor: Floor, client: Any) -> None:
    await asyncio.to_thread(check_market_and_limits, client)
    await asyncio.to_thread(check_market_order_and_stop, client)
    floor.trade("97.95")
    await asyncio.to_thread(check_lists_and_replacing, client)
    assert floor.balance("USDT") == (d("1000000") - d("50") + d("24.9975") - d("0.0249975"), 0)
    assert floor.balance("BTC") == (d("20") + d("0.4995") - d("0.25"), 0)


def check_market_and_limits(client: Any) -> None:
    rest = client.rest_api
    (listed,) = rest.exchange_info(symbol=SYMBOL).data().symbols
    assert (listed.base_asset, listed.amend_allowed, "STOP_LOSS_LIMIT" in listed.order_types) == ("BTC", True, True)
    assert rest.depth(SYMBOL, limit=5).data().bids[0] == ["99.99000000", "2.00000000"]
    balances = {one.asset: one.free for one in rest.get_account(omit_zero_balances=True).data().balances}
    assert (balances["BTC"], balances["USDT"]) == ("20.00000000", "1000000.00000000")
    assert rest.account_commission(SYMBOL).data().standard_commission.taker == "0.00100000"
    placed = rest.new_order(SYMBOL, "BUY", "LIMIT", time_in_force="GTC", quantity=1.0, price=99.0).data()
    assert (placed.status, placed.price) == ("NEW", "99.00000000")
    assert rest.get_order(SYMBOL, order_id=placed.order_id).data().status == "NEW"
    smaller = rest.order_amend_keep_priority(SYMBOL, new_qty=0.4, order_id=placed.order_id).data()
    assert (smaller.amended_order.qty, smaller.amended_order.status) == ("0.40000000", "NEW")
    (change,) = rest.order_amendments(SYMBOL, order_id=placed.order_id).data()
    assert (change.orig_qty, change.new_qty) == ("1.00000000", "0.40000000")
    assert rest.delete_order(SYMBOL, order_id=placed.order_id).data().status == "CANCELED"


def check_market_order_and_stop(client: Any) -> None:
    rest = client.rest_api
    bought = rest.new_order(SYMBOL, "BUY", "MARKET", quote_order_qty=50.0)
    assert [(one.price, one.qty, one.commission_asset) for one in bought.data().fills] == [
        ("100.00000000", "0.50000000", "BTC")
    ]
    counts = {limit.intervalNum: limit.count for limit in bought.rate_limits if limit.rateLimitType == "ORDERS"}
    assert counts[10] >= 1
    stop = rest.new_order(
        SYMBOL, "SELL", "STOP_LOSS_LIMIT", time_in_force="GTC", quantity=0.25, price=97.9, stop_price=98.0
    ).data()
    assert rest.get_order(SYMBOL, order_id=stop.order_id).data().is_working is False


def check_lists_and_replacing(client: Any) -> None:
    rest = client.rest_api
    assert rest.all_orders(SYMBOL).data()[-1].status == "FILLED"
    pair = rest.order_list_oco(
        SYMBOL,
        "SELL",
        1.0,
        "LIMIT_MAKER",
        "STOP_LOSS_LIMIT",
        above_price=105.0,
        below_stop_price=95.0,
        below_price=94.5,
        below_time_in_force="GTC",
    ).data()
    assert (pair.contingency_type, pair.list_order_status, len(pair.order_reports)) == ("OCO", "EXECUTING", 2)
    assert rest.get_order_list(order_list_id=pair.order_list_id).data().list_status_type == "EXEC_STARTED"
    assert [one.order_list_id for one in rest.open_order_list().data()] == [pair.order_list_id]
    gone = rest.delete_order_list(SYMBOL, order_list_id=pair.order_list_id).data()
    assert (gone.list_order_status, [one.status for one in gone.order_reports]) == ("ALL_DONE", ["CANCELED"] * 2)
    first = rest.new_order(SYMBOL, "BUY", "LIMIT", time_in_force="GTC", quantity=1.0, price=90.0).data()
    replaced = rest.order_cancel_replace(
        SYMBOL,
        "BUY",
        "LIMIT",
        "STOP_ON_FAILURE",
        time_in_force="GTC",
        quantity=1.0,
        price=91.0,
        cancel_order_id=first.order_id,
    ).data()
    assert (replaced.cancel_result, replaced.new_order_result) == ("SUCCESS", "SUCCESS")
    rest.delete_open_orders(SYMBOL)
    assert [(one.is_buyer, one.price) for one in rest.my_trades(SYMBOL).data()] == [
        (True, "100.00000000"),
        (False, "99.99000000"),
    ]
    with pytest.raises(BadRequestError, match="insufficient balance"):
        rest.new_order(SYMBOL, "SELL", "LIMIT", time_in_force="GTC", quantity=25.0, price=101.0)


async def test_a_wrong_key_is_unauthorized(floor: Floor) -> None:
    stranger = sdk(floor, api_key="who", api_secret="knows")
    with pytest.raises(UnauthorizedError, match="Invalid API-key"):
        await asyncio.to_thread(stranger.rest_api.get_account)


@pytest.fixture
async def session(ed25519: Any) -> AsyncIterator[Any]:
    connection = await ed25519.websocket_api.create_connection()
    yield connection
    await connection.close_connection(close_session=True)


async def test_a_session_with_orders_and_events_over_the_websocket_api(floor: Floor, session: Any) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        logged_on = (await session.session_logon()).data().result
        assert logged_on.api_key == floor.ed25519.key
        events: asyncio.Queue[Any] = asyncio.Queue()
        subscription = await session.user_data_stream_subscribe()
        subscription.stream.on("message", events.put_nowait)
        placed = (
            (await session.order_place(SYMBOL, "BUY", "LIMIT", time_in_force="GTC", quantity=1.0, price=99.0))
            .data()
            .result
        )
        report = (await events.get()).actual_instance
        assert (type(report).__name__, report.X, report.i) == ("ExecutionReport", "NEW", placed.order_id)
        assert type((await events.get()).actual_instance).__name__ == "OutboundAccountPosition"
        state = (await session.order_status(SYMBOL, order_id=placed.order_id)).data().result
        assert state.status == "NEW"
        replaced = (
            (
                await session.order_cancel_replace(
                    SYMBOL,
                    "STOP_ON_FAILURE",
                    "BUY",
                    "LIMIT",
                    cancel_order_id=placed.order_id,
                    time_in_force="GTC",
                    quantity=1.0,
                    price=98.0,
                )
            )
            .data()
            .result
        )
        assert replaced.new_order_result == "SUCCESS"
        await session.open_orders_cancel_all(SYMBOL)
        assert (await session.open_orders_status(symbol=SYMBOL)).data().result == []
        bought = await session.order_place(SYMBOL, "BUY", "MARKET", quantity=0.5)
        assert bought.data().result.status == "FILLED"
        assert {limit.rateLimitType for limit in bought.rate_limits} == {"ORDERS", "REQUEST_WEIGHT"}
        trades = (await session.my_trades(SYMBOL)).data().result
        assert [(one.price, one.qty) for one in trades] == [("100.00000000", "0.50000000")]
        book = (await session.depth(SYMBOL, limit=5)).data().result
        assert book.bids[0] == ["99.99000000", "2.00000000"]
        assert (await session.session_logout()).data().result.api_key is None


async def test_streams_reach_its_models(floor: Floor, hmac: Any) -> None:
    heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    async with asyncio.timeout(TIMEOUT_S):
        connection = await hmac.websocket_streams.create_connection()
        try:
            for name, stream in {
                "trade": await connection.trade(symbol="btcusdt"),
                "bookTicker": await connection.book_ticker(symbol="btcusdt"),
                "depth": await connection.diff_book_depth(symbol="btcusdt"),
                "partial": await connection.partial_book_depth(symbol="btcusdt", levels="5"),
            }.items():
                stream.on("message", lambda event, kind=name: heard.put_nowait((kind, event)))
            names = ("trade", "bookTicker", "depth", "depth5")
            await until(lambda: all(floor.venue.exchange.hub.has(f"btcusdt@{name}") for name in names))
            floor.trade("99.98", "0.3")
            floor.ticker("99.99", "100.00")
            floor.depth(bids=(("99.97", "7"),))
            events = dict([await heard.get() for _ in range(4)])
        finally:
            await connection.close_connection(close_session=True)
    assert (events["trade"].p, events["bookTicker"].b) == ("99.98000000", "99.99000000")
    assert [list(one) for one in events["depth"].b] == [["99.97000000", "7.00000000"]]
    assert len(events["partial"].bids) == 3
