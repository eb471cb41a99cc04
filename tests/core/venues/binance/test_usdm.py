"""USD-M futures on the venue's own words: rules, orders, fills, positions, and the user data stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve

from core.types.clock import NS_PER_MS, SystemClock
from core.types.instruments import Product
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from core.venues.binance.usdm import BinanceUsdm
from core.venues.binance.wire_usdm import AccountUpdate
from core.venues.ports import (
    ExecutionReport,
    Submitted,
    UserStreamConnected,
    UserStreamLost,
    VenuePort,
    VenueTrade,
    VenueUnavailableError,
)
from tests.core.venues.binance.support import DEADLINE_S, HttpRequest, Signal, answer, scripted_http

FILTERS = [
    {"filterType": "PRICE_FILTER", "tickSize": "0.10", "minPrice": "556.80", "maxPrice": "4529764"},
    {"filterType": "LOT_SIZE", "stepSize": "0.001", "minQty": "0.001", "maxQty": "1000"},
    {"filterType": "MARKET_LOT_SIZE", "stepSize": "0.001", "minQty": "0.001", "maxQty": "120"},
    {"filterType": "MIN_NOTIONAL", "notional": "100"},
    {"filterType": "MAX_NUM_ORDERS", "limit": 200},
]


def listed(symbol: str, contract_type: str) -> dict[str, object]:
    names = {"symbol": symbol, "baseAsset": "BTC", "quoteAsset": "USDT", "marginAsset": "USDT"}
    return {**names, "status": "TRADING", "contractType": contract_type, "filters": FILTERS, "pricePrecision": 2}


EXCHANGE_INFO = {
    "rateLimits": [{"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 7}],
    "symbols": [listed("BTCUSDT", "PERPETUAL"), listed("BTCUSDT_261225", "CURRENT_QUARTER")],
}
ORDER = {
    "symbol": "BTCUSDT",
    "orderId": 22542179,
    "clientOrderId": "mine",
    "executedQty": "0.004",
    "origQty": "0.010",
    "status": "PARTIALLY_FILLED",
    "time": 1_579_276_756_075,
    "updateTime": 1_579_276_756_175,
}
TRADE = {
    "symbol": "BTCUSDT",
    "id": 698759,
    "orderId": 22542179,
    "side": "SELL",
    "price": "7819.1",
    "qty": "0.002",
    "quoteQty": "15.63802",
    "realizedPnl": "-0.91539999",
    "positionSide": "BOTH",
    "commission": "-0.07819010",
    "commissionAsset": "USDT",
    "time": 1_569_514_978_020,
    "buyer": False,
    "maker": True,
}
POSITION = {
    "symbol": "BTCUSDT",
    "positionSide": "BOTH",
    "positionAmt": "-0.010",
    "entryPrice": "6563.66500",
    "markPrice": "6679.50671178",
    "unRealizedProfit": "-1.15841711",
    "liquidationPrice": "5930.78",
    "updateTime": 1_720_736_417_660,
}
ANSWERS: dict[tuple[str, str], object] = {
    ("GET", "/fapi/v1/exchangeInfo"): EXCHANGE_INFO,
    ("POST", "/fapi/v1/order"): {"orderId": 22542179},
    ("DELETE", "/fapi/v1/order"): {**ORDER, "status": "CANCELED"},
    ("GET", "/fapi/v1/order"): ORDER,
    ("GET", "/fapi/v1/openOrders"): [ORDER],
    ("GET", "/fapi/v1/userTrades"): [TRADE, {**TRADE, "id": 698758, "qty": "0.001"}],
    ("GET", "/fapi/v3/balance"): [{"asset": "USDT", "balance": "122607.35137903", "availableBalance": "23.7"}],
    ("GET", "/fapi/v3/positionRisk"): [POSITION, {**POSITION, "positionAmt": "0.000", "entryPrice": "0.0"}],
    ("GET", "/fapi/v1/leverageBracket"): [
        {
            "symbol": "BTCUSDT",
            "brackets": [
                {
                    "bracket": number,
                    "initialLeverage": leverage,
                    "notionalFloor": floor,
                    "notionalCap": cap,
                    "maintMarginRatio": ratio,
                    "cum": cum,
                }
                for number, leverage, floor, cap, ratio, cum in (
                    (2, 100, 50_000, 250_000, 0.005, 50.0),
                    (1, 125, 0, 50_000, 0.004, 0.0),
                )
            ],
        }
    ],
    ("POST", "/fapi/v1/listenKey"): {"listenKey": "the-key"},
    ("PUT", "/fapi/v1/listenKey"): {"listenKey": "the-key"},
}


def respond(request: HttpRequest) -> bytes:
    return answer(200, ANSWERS[request.method, request.path])


@asynccontextmanager
async def usdm(rest_url: str, websocket_url: str = "ws://127.0.0.1:9", **options: Any) -> AsyncIterator[BinanceUsdm]:
    adapter = BinanceUsdm(
        rest_url, "key", "secret", SystemClock(), venue="usdm", websocket_url=websocket_url, random=Random(1), **options
    )
    try:
        yield adapter
    finally:
        await adapter.aclose()


def test_the_adapter_is_a_venue_port() -> None:
    port: VenuePort = BinanceUsdm("http://127.0.0.1:9", "k", "s", SystemClock(), venue="usdm", websocket_url="")
    assert port.user_events() is not None


async def test_perpetuals_carry_their_rules_and_the_venue_its_limits() -> None:
    async with scripted_http(respond) as script, usdm(script.url) as adapter:
        (instrument,) = await adapter.instruments()
        assert (instrument.symbol, instrument.product, instrument.venue) == ("BTCUSDT", Product.USDM, "usdm")
        assert (instrument.price_scale, instrument.tick_size) == (1, 1)
        assert (instrument.quantity_scale, instrument.lot_size) == (3, 1)
        assert (instrument.min_quantity, instrument.max_quantity) == (1, 1_000_000)
        assert Decimal(instrument.min_notional).scaleb(-instrument.notional_scale) == 100
        limits = {(item.kind, item.window_s): item.limit for item in adapter.rest.limiter.state().buckets}
        assert limits["ORDERS", 10] == 7
        assert limits["REQUEST_WEIGHT", 60] == 2_400


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"type": "LIMIT", "timeInForce": "GTC", "price": "7819.1"}),
        ({"post_only": True}, {"type": "LIMIT", "timeInForce": "GTX", "price": "7819.1"}),
        ({"reduce_only": True}, {"type": "LIMIT", "timeInForce": "GTC", "price": "7819.1", "reduceOnly": "true"}),
        (
            {"order_type": OrderType.MARKET, "price": None, "reduce_only": True},
            {"type": "MARKET", "reduceOnly": "true"},
        ),
        ({"time_in_force": TimeInForce.IOC}, {"type": "LIMIT", "timeInForce": "IOC", "price": "7819.1"}),
    ],
)
async def test_an_intent_is_written_in_the_venues_words(changes: dict[str, object], expected: dict[str, str]) -> None:
    limit, gtc = OrderType.LIMIT, TimeInForce.GTC
    intent = OrderIntent("acct", "usdm", "BTCUSDT", Side.SELL, limit, gtc, 10, 78_191, 1, 3, "mine")
    async with scripted_http(respond) as script, usdm(script.url) as adapter:
        assert await adapter.submit(msgspec.structs.replace(intent, **changes)) == Submitted("22542179")
        (request,) = script.requests
        sent = {name: value for name, value in request.parameters.items() if name not in {"signature", "timestamp"}}
        common = {"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.01", "newClientOrderId": "mine"}
        assert sent == {**common, "newOrderRespType": "ACK", "recvWindow": "5000", **expected}


async def test_orders_fills_and_balances_are_read_at_the_instruments_scales() -> None:
    async with scripted_http(respond) as script, usdm(script.url) as adapter:
        seen = await adapter.order("BTCUSDT", "mine")
        assert seen is not None
        assert (seen.status, seen.filled_quantity) == (OrderStatus.PARTIALLY_FILLED, 4)
        assert seen.ts_event_ns == 1_579_276_756_175 * NS_PER_MS
        assert await adapter.open_orders("BTCUSDT") == [seen]
        fills = await adapter.trades_of("BTCUSDT", "22542179")
        assert [fill.trade_id for fill in fills] == [698758, 698759]
        assert fills[1] == VenueTrade(
            "BTCUSDT",
            698759,
            "22542179",
            "mine",
            Side.SELL,
            78_191,
            2,
            Decimal("-0.07819010"),
            "USDT",
            True,
            1_569_514_978_020 * NS_PER_MS,
        )
        assert await adapter.balances() == {"USDT": Decimal("122607.35137903")}
        await adapter.cancel("BTCUSDT", "mine")
        assert script.requests[-1].parameters["origClientOrderId"] == "mine"


async def test_positions_and_brackets() -> None:
    async with scripted_http(respond) as script, usdm(script.url) as adapter:
        (position,) = await adapter.position_details("BTCUSDT")
        assert (position.quantity, position.entry_price) == (-10, Decimal("6563.66500"))
        assert (position.mark_price, position.unrealised_pnl) == (Decimal("6679.50671178"), Decimal("-1.15841711"))
        assert position.liquidation_price == Decimal("5930.78")
        brackets = await adapter.leverage_brackets("BTCUSDT")
        assert [(item.initial_leverage, item.maint_margin_ratio, item.cum) for item in brackets] == [
            (125, Decimal("0.004"), 0),
            (100, Decimal("0.005"), 50),
        ]
        with pytest.raises(VenueUnavailableError, match="'ETHUSDT'"):
            await adapter.leverage_brackets("ETHUSDT")


async def test_an_account_in_hedge_mode_is_an_error_and_not_half_a_position() -> None:
    def hedged(request: HttpRequest) -> bytes:
        if request.path == "/fapi/v3/positionRisk":
            return answer(200, [{**POSITION, "positionSide": "SHORT"}])
        return respond(request)

    async with scripted_http(hedged) as script, usdm(script.url) as adapter:
        with pytest.raises(VenueUnavailableError, match="hedge mode"):
            await adapter.position_details()


def order_update(**changes: object) -> dict[str, object]:
    fields = {
        "s": "BTCUSDT", "c": "mine", "S": "SELL", "o": "LIMIT", "f": "GTC", "q": "0.010", "p": "7819.1", "ap": "0",
        "sp": "0", "x": "NEW", "X": "NEW", "i": 22542179, "l": "0", "z": "0", "L": "0", "T": 1_568_879_465_650, "t": 0,
        "b": "0", "a": "9.91", "m": False, "R": False, "ps": "BOTH", "rp": "0", "er": "0",
    }  # fmt: skip
    return {"e": "ORDER_TRADE_UPDATE", "E": 1_568_879_465_651, "T": 1_568_879_465_650, "o": {**fields, **changes}}


ACCOUNT_UPDATE = {
    "e": "ACCOUNT_UPDATE",
    "E": 1_564_745_798_939,
    "T": 1_564_745_798_938,
    "a": {
        "m": "ORDER",
        "B": [{"a": "USDT", "wb": "122624.12345678", "cw": "100.12345678", "bc": "50.12345678"}],
        "P": [
            {"s": "BTCUSDT", "pa": "-0.002", "ep": "7819.1", "bep": "0", "cr": "200", "up": "-1.5", "mt": "cross",
             "iw": "0", "ps": "BOTH"}
        ],
    },
}  # fmt: skip


@asynccontextmanager
async def stream_of(*messages: object) -> AsyncIterator[tuple[str, list[str]]]:
    """A user data stream that plays these messages to each client and then waits; gives its URL and asked paths."""
    paths: list[str] = []

    async def play(connection: ServerConnection) -> None:
        assert connection.request is not None
        paths.append(connection.request.path)
        for message in messages:
            await connection.send(msgspec.json.encode(message), text=True)
        await connection.wait_closed()

    async with serve(play, "127.0.0.1", 0, close_timeout=1) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/private", paths


async def events_until(adapter: BinanceUsdm, is_last: Callable[[Any], bool]) -> list[Any]:
    stream = adapter.user_events()
    seen = []
    async with asyncio.timeout(DEADLINE_S):
        async for event in stream:
            seen.append(event)
            if is_last(event):
                break
    await stream.aclose()  # type: ignore[attr-defined]
    return seen


async def test_order_updates_arrive_as_reports_and_account_updates_beside_them() -> None:
    filled = order_update(
        x="TRADE", X="PARTIALLY_FILLED", l="0.004", z="0.004", L="7819.2", t=9, m=True, n="0.01", N="USDT"
    )
    expired = order_update(x="EXPIRED", X="EXPIRED", z="0.004", er="4")
    updates: list[AccountUpdate] = []
    messages = (
        order_update(),
        {"e": "TRADE_LITE", "E": 1, "s": "BTCUSDT"},
        ACCOUNT_UPDATE,
        {"stream": "the-key", "data": filled},
        expired,
    )
    async with scripted_http(respond) as script, stream_of(*messages) as (url, paths), usdm(script.url, url) as adapter:
        adapter.on_account_update = updates.append
        seen = await events_until(
            adapter, lambda event: isinstance(event, ExecutionReport) and event.order.status is OrderStatus.EXPIRED
        )
        assert paths == ["/private/ws/the-key"]
        assert isinstance(seen[0], UserStreamConnected)
        accepted, fill, last = seen[1:]
        assert (accepted.order.status, accepted.trade, accepted.reason) == (OrderStatus.ACCEPTED, None, "")
        assert (fill.order.filled_quantity, fill.trade.price, fill.trade.quantity) == (4, 78_192, 4)
        assert (fill.trade.fee, fill.trade.is_maker, fill.trade.client_order_id) == (Decimal("0.01"), True, "mine")
        assert (last.trade, last.reason) == (None, "4")
        (update,) = updates
        assert (update.reason, update.balances) == ("ORDER", {"USDT": Decimal("122624.12345678")})
        assert [(item.symbol, item.quantity, item.entry_price) for item in update.positions] == [
            ("BTCUSDT", -2, Decimal("7819.1"))
        ]


@pytest.mark.parametrize(
    "ending", [{"e": "listenKeyExpired", "E": 1, "listenKey": "the-key"}, order_update(X="NEW_ADL")]
)
async def test_an_ended_stream_and_an_unreadable_report_are_losses(ending: dict[str, object]) -> None:
    async with scripted_http(respond) as script, stream_of(ending) as (url, _), usdm(script.url, url) as adapter:
        seen = await events_until(adapter, lambda event: isinstance(event, UserStreamLost))
        assert [type(event) for event in seen] == [UserStreamConnected, UserStreamLost]


async def test_the_listen_key_is_kept_alive_without_being_named() -> None:
    signal = Signal()

    def watched(request: HttpRequest) -> bytes:
        signal.ring()
        return respond(request)

    async with (
        scripted_http(watched) as script,
        stream_of() as (url, _),
        usdm(script.url, url, keepalive_s=0.02) as adapter,
    ):
        listening = asyncio.create_task(events_until(adapter, lambda _: False))
        await signal.until(lambda: [request.method for request in script.requests].count("PUT") >= 2)
        listening.cancel()
        assert all(request.parameters == {} for request in script.requests if request.path == "/fapi/v1/listenKey")
