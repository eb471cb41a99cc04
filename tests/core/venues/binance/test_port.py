"""The rest of the venue port: fills since a time, order types, amendments, and answers of a venue that can't be
believed."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from core.types.clock import NS_PER_MS, SystemClock
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from core.venues.binance import account
from core.venues.binance.adapter import BinanceSpot
from core.venues.binance.usdm import BinanceUsdm
from core.venues.binance.wire_orders import SPOT_CAPABILITIES, spot_parameters, usdm_parameters
from core.venues.paper.events import Trade
from core.venues.paper.server import PaperVenue
from core.venues.ports import (
    Amended,
    AmendRefused,
    ExecutionReport,
    SubmitRefused,
    Submitted,
    UserStreamConnected,
    UserStreamLost,
    VenueUnavailableError,
)
from tests.core.venues.binance.support import HttpRequest, Listener, answer, scripted_http
from tests.core.venues.binance.test_paper_usdm import TwoMarkets
from tests.core.venues.binance.test_paper_venue import order, paper, spot
from tests.core.venues.paper.support import CREDENTIALS, d

DAY_MS = 86_400_000
NOW_MS = 1_700_000_000_000
EXCHANGE_INFO = {
    "symbols": [
        {
            "symbol": symbol, "status": "TRADING", "baseAsset": symbol[:3], "quoteAsset": "USDT",
            "filters": [
                {"filterType": "PRICE_FILTER", "tickSize": "0.01"},
                {"filterType": "LOT_SIZE", "stepSize": "0.00001", "minQty": "0.00001", "maxQty": "9000"},
                {"filterType": "NOTIONAL", "minNotional": "5"},
            ],
        }
        for symbol in ("BTCUSDT", "ETHUSDT")
    ]
}  # fmt: skip
ORDER = {
    "symbol": "BTCUSDT", "orderId": 5, "clientOrderId": "mine", "executedQty": "0.1", "status": "PARTIALLY_FILLED",
    "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "origQty": "0.5", "price": "90", "stopPrice": "0", "time": 1,
}  # fmt: skip
TRADE = {
    "symbol": "BTCUSDT", "id": 9, "orderId": 5, "price": "90", "qty": "0.1", "commission": "0.001",
    "commissionAsset": "BTC", "time": NOW_MS, "isBuyer": True, "isMaker": True,
}  # fmt: skip


def adapter_at(url: str) -> BinanceSpot:
    return BinanceSpot(url, "key", "secret", SystemClock(), venue="paper", websocket_url="", random=Random(1))


class History:
    """A venue's own trades, given as Binance gives them: by window of at most a day, or from an id on."""

    def __init__(self, times_ms: list[int]) -> None:
        self.trades: list[dict[str, Any]] = [
            TRADE | {"id": index + 1, "orderId": index + 1, "time": at} for index, at in enumerate(times_ms)
        ]
        self.asked: list[dict[str, str]] = []

    def __call__(self, request: HttpRequest) -> bytes:
        if request.path.endswith("exchangeInfo"):
            return answer(200, EXCHANGE_INFO)
        if request.path.endswith("/order"):
            order_id = int(request.parameters["orderId"])
            return answer(200, ORDER | {"orderId": order_id, "clientOrderId": f"n{order_id}"})
        given = {name: request.parameters.get(name) for name in ("fromId", "startTime", "endTime", "limit")}
        self.asked.append(request.parameters)
        limit = int(given["limit"] or 0)
        if given["fromId"] is not None:
            assert given["startTime"] is None
            return answer(200, [item for item in self.trades if item["id"] >= int(given["fromId"])][:limit])
        start_ms, end_ms = int(given["startTime"] or 0), int(given["endTime"] or 0)
        if end_ms - start_ms >= DAY_MS:
            return answer(400, {"code": -1127, "msg": "More than 24 hours between startTime and endTime."})
        # The newest of a window come first to mind: which end is cut isn't promised.
        return answer(200, [item for item in self.trades if start_ms <= item["time"] <= end_ms][-limit:])


@pytest.mark.parametrize(
    ("times_ms", "since_ms", "expected"),
    [
        ([], NOW_MS - DAY_MS, []),
        ([NOW_MS - 5], NOW_MS - DAY_MS, [1]),
        ([NOW_MS - 5], NOW_MS - 5, [1]),
        ([NOW_MS - 5], NOW_MS - 4, []),
        ([NOW_MS - 3 * DAY_MS, NOW_MS - 9], NOW_MS - 2 * DAY_MS, [2]),
        ([NOW_MS - 9 * DAY_MS + index for index in range(11)], NOW_MS - 10 * DAY_MS, list(range(1, 12))),
        ([NOW_MS - 5] * 3 + [NOW_MS - 2] * 9, NOW_MS - DAY_MS, list(range(1, 13))),
        ([NOW_MS - 400 * DAY_MS, NOW_MS - 1], 0, [1, 2]),
    ],
)
async def test_fills_since_a_time_are_whole_and_oldest_first(
    monkeypatch: pytest.MonkeyPatch, times_ms: list[int], since_ms: int, expected: list[int]
) -> None:
    monkeypatch.setattr(account, "TRADES_LIMIT", 4)
    history = History(times_ms)
    async with scripted_http(history) as script:
        script.server_ms = lambda: NOW_MS
        adapter = adapter_at(script.url)
        trades = await adapter.trades_since("BTCUSDT", since_ms * NS_PER_MS)
        assert [trade.trade_id for trade in trades] == expected
        assert [trade.client_order_id for trade in trades] == [f"n{index}" for index in expected]
        looked_up = len([item for item in script.requests if item.path.endswith("/order")])
        await adapter.trades_since("BTCUSDT", since_ms * NS_PER_MS)
        assert len([item for item in script.requests if item.path.endswith("/order")]) == looked_up
        await adapter.aclose()


async def test_a_history_without_end_is_an_error_and_not_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "TRADES_LIMIT", 2)
    monkeypatch.setattr(account, "TRADE_PAGES_LIMIT", 3)
    async with scripted_http(History([NOW_MS - 50 + index for index in range(40)])) as script:
        script.server_ms = lambda: NOW_MS
        adapter = adapter_at(script.url)
        with pytest.raises(VenueUnavailableError, match="more than 6 fills"):
            await adapter.trades_since("BTCUSDT", (NOW_MS - 60) * NS_PER_MS)
        await adapter.aclose()


async def test_an_order_that_the_venue_has_archived_keeps_no_fill_back() -> None:
    history = History([NOW_MS - 5])

    def respond(request: HttpRequest) -> bytes:
        gone = request.path.endswith("/order")
        return answer(400, {"code": -2026, "msg": "Order was archived."}) if gone else history(request)

    async with scripted_http(respond) as script:
        script.server_ms = lambda: NOW_MS
        adapter = adapter_at(script.url)
        (trade,) = await adapter.trades_since("BTCUSDT", (NOW_MS - 60) * NS_PER_MS)
        assert trade.client_order_id == ""
        await adapter.aclose()


HOSTILE_ORDERS: list[dict[str, Any]] = [
    {"symbol": "ETHUSDT"},
    {"clientOrderId": "another"},
    {"orderId": "5"},
    {"orderId": 5.5},
    {"executedQty": "-0.1"},
    {"executedQty": "NaN"},
    {"executedQty": "1e400"},
    {"executedQty": "0.6"},
    {"executedQty": 0.1},
    {"executedQty": None},
    {"origQty": "-1"},
    {"price": "-90"},
    {"price": "Infinity"},
    {"price": "90.001"},
    {"price": "9" * 40},
    {"side": "HOLD"},
    {"status": "GONE"},
    {"status": None},
    {"time": "soon"},
    {"clientOrderId": 7},
    {"time": 10**15},
    {"time": -1},
    {"orderId": -1},
]


@pytest.mark.parametrize("change", HOSTILE_ORDERS)
async def test_an_order_that_makes_no_sense_is_an_error_and_not_a_state(change: dict[str, Any]) -> None:
    def respond(request: HttpRequest) -> bytes:
        if request.path.endswith("exchangeInfo"):
            return answer(200, EXCHANGE_INFO)
        return answer(200, [ORDER | change] if request.path.endswith("openOrders") else ORDER | change)

    async with scripted_http(respond) as script:
        adapter = adapter_at(script.url)
        with pytest.raises(VenueUnavailableError):
            await adapter.order("BTCUSDT", "mine")
        if "clientOrderId" not in change:
            with pytest.raises(VenueUnavailableError):
                await adapter.open_orders("BTCUSDT")
        await adapter.aclose()


@pytest.mark.parametrize(
    "change",
    [
        {"symbol": "ETHUSDT"}, {"orderId": 6}, {"qty": "0"}, {"qty": "-1"}, {"price": "0"}, {"price": "NaN"},
        {"id": -1}, {"commission": "NaN"}, {"commission": "Infinity"}, {"commission": "free"},
        {"time": None}, {"time": 10**16}, {"isBuyer": "yes"},
        {"commission": "1e999999999"}, {"commission": "1e-999999999"},
        {"commissionAsset": "B" * 65},
    ],
)  # fmt: skip
async def test_a_trade_that_makes_no_sense_is_an_error_and_not_a_fill(change: dict[str, Any]) -> None:
    def respond(request: HttpRequest) -> bytes:
        if request.path.endswith("exchangeInfo"):
            return answer(200, EXCHANGE_INFO)
        return answer(200, [TRADE | change] if request.path.endswith("myTrades") else ORDER)

    async with scripted_http(respond) as script:
        adapter = adapter_at(script.url)
        with pytest.raises(VenueUnavailableError):
            await adapter.trades_of("BTCUSDT", "5")
        await adapter.aclose()


@pytest.mark.parametrize(
    "body",
    [
        {"balances": [{"asset": "BTC", "free": "NaN", "locked": "0"}]},
        {"balances": [{"asset": "BTC", "free": "1", "locked": "Infinity"}]},
        {"balances": [{"asset": "BTC", "free": "1", "locked": "-"}]},
        {"balances": [{"asset": "BTC", "free": "1e999999999", "locked": "0"}]},
        {"balances": {}},
        {},
        [],
        b"[" * 200_000,
        b'{"balances":',
        b"\xff\xfe",
    ],
)
async def test_balances_that_make_no_sense_are_an_error(body: object) -> None:
    async with scripted_http(lambda _: answer(200, body)) as script:
        adapter = adapter_at(script.url)
        with pytest.raises(VenueUnavailableError):
            await adapter.balances()
        await adapter.aclose()


STOP_SELL = {"side": Side.SELL, "time_in_force": TimeInForce.GTC}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"order_type": OrderType.STOP, "price": None, "stop_price": 9_500}, {"type": "STOP_LOSS", "stopPrice": "95"}),
        ({"order_type": OrderType.STOP_LIMIT, "price": 9_400, "stop_price": 9_500},
         {"type": "STOP_LOSS_LIMIT", "price": "94", "stopPrice": "95", "timeInForce": "GTC"}),
        ({"order_type": OrderType.TAKE_PROFIT, "price": None, "stop_price": 11_000}, {"type": "TAKE_PROFIT"}),
        ({"order_type": OrderType.TAKE_PROFIT_LIMIT, "price": 11_100, "stop_price": 11_000},
         {"type": "TAKE_PROFIT_LIMIT", "price": "111"}),
        ({"order_type": OrderType.TRAILING_STOP, "price": None, "trailing_offset_bps": 100},
         {"type": "STOP_LOSS", "trailingDelta": "100"}),
        ({"order_type": OrderType.TRAILING_STOP, "price": None, "trailing_offset_bps": 100, "activation_price": 10_500},
         {"type": "TAKE_PROFIT", "trailingDelta": "100", "stopPrice": "105"}),
        ({"price": 11_000, "post_only": True}, {"type": "LIMIT_MAKER"}),
    ],
)  # fmt: skip
async def test_every_order_type_is_taken_by_the_venue_and_told_back_as_it_was_meant(
    tmp_path: Path, changes: dict[str, Any], expected: dict[str, str]
) -> None:
    async with paper(tmp_path) as venue, spot(venue) as adapter:
        now_ms = venue.exchange.now_ms()
        venue.exchange.on_market(Trade("BTCUSDT", now_ms, now_ms, 1, d("100"), d("0.1"), True))
        intent = msgspec.structs.replace(order("mine", "90", "0.5"), **{**STOP_SELL, **changes})
        assert spot_parameters(intent).items() >= expected.items()
        assert isinstance(await adapter.submit(intent), Submitted)
        (seen,) = await adapter.all_open_orders()
        assert (seen.order_type, seen.side, seen.quantity) == (intent.order_type, Side.SELL, 50_000)
        assert (seen.price, seen.post_only) == (intent.price, intent.post_only)
        assert seen.stop_price == (intent.activation_price if intent.trailing_offset_bps else intent.stop_price)
        assert intent.order_type in adapter.capabilities.order_types
        await adapter.cancel_all("BTCUSDT")
        await adapter.cancel_all("BTCUSDT")
        assert await adapter.all_open_orders() == []


async def test_a_stop_that_triggers_and_an_amendment_are_told_on_the_stream(tmp_path: Path) -> None:
    async with paper(tmp_path) as venue, spot(venue) as adapter, Listener(adapter) as listener:
        now_ms = venue.exchange.now_ms()
        venue.exchange.on_market(Trade("BTCUSDT", now_ms, now_ms, 1, d("100"), d("0.1"), True))
        stop = msgspec.structs.replace(
            order("stop", "1"), side=Side.SELL, order_type=OrderType.STOP, price=None, stop_price=9_500
        )
        assert isinstance(await adapter.submit(stop), Submitted)
        told = (await listener.until(OrderStatus.ACCEPTED))[-1].order
        assert (told.order_type, told.stop_price, told.price, told.quantity) == (OrderType.STOP, 9_500, None, 50_000)
        venue.exchange.on_market(Trade("BTCUSDT", now_ms, now_ms, 2, d("94"), d("0.1"), True))
        reports = await listener.until(OrderStatus.FILLED)
        assert sum(item.trade.quantity for item in reports if item.trade is not None) == 50_000

        resting = order("resting", "90", "0.5")
        assert isinstance(await adapter.submit(resting), Submitted)
        await listener.until(OrderStatus.ACCEPTED)
        assert await adapter.amend(resting, 30_000, None) == Amended(30_000, 9_000)
        amended = (await listener.until(OrderStatus.ACCEPTED))[-1].order
        assert (amended.client_order_id, amended.quantity) == ("resting", 30_000)
        assert isinstance(await adapter.amend(order("never", "90"), 30_000, None), AmendRefused)


@pytest.mark.parametrize(
    "changes",
    [
        {"time_in_force": TimeInForce.GTD}, {"price": None},
        {"order_type": OrderType.STOP, "price": None}, {"order_type": OrderType.TRAILING_STOP, "price": None},
        {"order_type": OrderType.TRAILING_STOP, "price": None, "trailing_offset_bps": -1},
        {"order_type": OrderType.MARKET, "post_only": True, "price": None},
        {"order_type": OrderType.STOP_LIMIT, "stop_price": 1, "post_only": True},
    ],
)  # fmt: skip
async def test_what_spot_cant_say_is_refused_and_never_sent(changes: dict[str, Any]) -> None:
    async with scripted_http(lambda _: answer(200, {"orderId": 1})) as script:
        adapter = adapter_at(script.url)
        assert isinstance(await adapter.submit(msgspec.structs.replace(order("one", "90"), **changes)), SubmitRefused)
        assert script.requests == []
        assert TimeInForce.GTD not in SPOT_CAPABILITIES.times_in_force
        await adapter.aclose()


REPORT = {
    "e": "executionReport", "E": 1, "s": "BTCUSDT", "c": "mine", "S": "BUY", "x": "TRADE", "X": "PARTIALLY_FILLED",
    "r": "NONE", "i": 5, "l": "0.1", "z": "0.1", "L": "90", "T": 1, "t": 9, "m": False, "n": "0", "N": "BTC",
    "o": "LIMIT", "f": "GTC", "q": "0.5", "p": "90", "P": "0",
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"c": "x" * 65}, {"C": "x" * 65}, {"T": 10**18},
        {"l": "-0.1"}, {"l": "0"}, {"l": "NaN"}, {"l": "0.2"}, {"z": "-0.1"}, {"z": "0.6", "l": "0.1"}, {"L": "0"},
        {"q": "-1"}, {"X": "LOST"}, {"n": "NaN"}, {"t": -1}, {"i": "five"}, {"s": "NOPEUSDT"}, {"s": 5}, {"T": None},
    ],
)  # fmt: skip
async def test_a_report_that_makes_no_sense_is_a_gap_in_the_stream_and_not_a_fill(change: dict[str, Any]) -> None:
    async with scripted_http(lambda _: answer(200, EXCHANGE_INFO)) as script:
        adapter = adapter_at(script.url)
        sound = await adapter._user_stream._read(msgspec.json.encode(REPORT))
        assert isinstance(sound[0], ExecutionReport)
        assert sound[0].trade is not None
        events = await adapter._user_stream._read(msgspec.json.encode(REPORT | change))
        assert [type(event) for event in events] == [UserStreamLost, UserStreamConnected]
        await adapter.aclose()


async def test_a_perpetual_is_amended_in_price_expires_by_itself_and_its_funding_is_told(tmp_path: Path) -> None:
    async with PaperVenue(TwoMarkets(), tmp_path / "venue.sqlite3", CREDENTIALS) as venue:
        for api_url in ("", f"{venue.websocket_url}/usdm/ws-fapi/v1"):
            adapter = BinanceUsdm(
                venue.base_url, CREDENTIALS.key, CREDENTIALS.secret, SystemClock(), venue="paper",
                websocket_url=f"{venue.usdm_websocket_url}/private", websocket_api_url=api_url, random=Random(1),
            )  # fmt: skip
            if adapter.order_socket is not None:
                adapter.order_socket.start()
                await adapter.order_socket.ready.wait()
            (instrument,) = await adapter.instruments()
            scales = instrument.price_scale, instrument.quantity_scale
            intent = OrderIntent(
                "acct", "paper", "BTCUSDT", Side.BUY, OrderType.LIMIT, TimeInForce.GTC,
                int(Decimal("0.1").scaleb(scales[1])), int(Decimal("50000").scaleb(scales[0])), *scales,
                f"n{len(api_url)}",
            )  # fmt: skip
            assert isinstance(await adapter.submit(intent), Submitted)
            price = int(Decimal("51000").scaleb(scales[0]))
            assert await adapter.amend(intent, intent.quantity // 2, price) == Amended(intent.quantity // 2, price)
            (seen,) = await adapter.all_open_orders()
            assert (seen.price, seen.quantity, seen.reduce_only) == (price, intent.quantity // 2, False)
            if adapter.order_socket is not None:
                assert adapter.order_socket._next_id == 2
            assert await adapter.funding_since(0) == []
            assert await adapter.trades_since("BTCUSDT", SystemClock().now_ns() - 10 * DAY_MS * NS_PER_MS) == []
            await adapter.cancel_all("BTCUSDT")
            assert await adapter.all_open_orders() == []
            expires_ns = SystemClock().now_ns() + 3_600 * 10**9
            expiring = msgspec.structs.replace(
                intent, time_in_force=TimeInForce.GTD, expires_ns=expires_ns, client_order_id=f"gtd{len(api_url)}"
            )
            assert isinstance(await adapter.submit(expiring), Submitted)
            (seen,) = await adapter.open_orders("BTCUSDT")
            assert seen.time_in_force is TimeInForce.GTD
            await adapter.cancel_all("BTCUSDT")
            assert int(usdm_parameters(expiring)["goodTillDate"]) <= expires_ns // NS_PER_MS
            await adapter.aclose()


def funding_rows(count: int) -> Callable[[HttpRequest], bytes]:
    def respond(request: HttpRequest) -> bytes:
        start_ms, end_ms = int(request.parameters["startTime"]), int(request.parameters["endTime"])
        assert end_ms - start_ms < 7 * DAY_MS
        rows: list[dict[str, Any]] = [
            {"symbol": "BTCUSDT", "incomeType": "FUNDING_FEE", "income": "-0.5", "asset": "USDT",
             "time": NOW_MS - (index + 1) * 1_000, "tranId": index}
            for index in range(count)
        ]  # fmt: skip
        return answer(200, [row for row in rows if start_ms <= row["time"] <= end_ms][:1_000])

    return respond


@pytest.mark.parametrize("count", [0, 3, 2_500])
async def test_funding_is_whole_and_oldest_first(count: int) -> None:
    async with scripted_http(funding_rows(count)) as script:
        script.server_ms = lambda: NOW_MS
        adapter = BinanceUsdm(script.url, "key", "secret", SystemClock(), venue="usdm", websocket_url="")
        funding = await adapter.funding_since((NOW_MS - 8 * DAY_MS) * NS_PER_MS)
        assert len(funding) == count
        assert [item.ts_event_ns for item in funding] == sorted(item.ts_event_ns for item in funding)
        assert all(item.amount == Decimal("-0.5") for item in funding)
        await adapter.aclose()


@pytest.mark.parametrize("status", [400, 500])
async def test_a_venue_that_talks_without_end_is_cut_short_in_what_is_kept(status: int) -> None:
    async with scripted_http(lambda _: answer(status, {"code": -2010, "msg": "no " * 1_000_000})) as script:
        adapter = adapter_at(script.url)
        told = await adapter.submit(order("one", "90"))
        text = told.refusal.message if isinstance(told, SubmitRefused) else told.detail  # type: ignore[union-attr]
        assert len(text) < 1_000
        assert len(script.requests) == 1
        await adapter.aclose()


async def test_a_symbol_whose_limits_nobody_could_count_is_left_out_in_no_time() -> None:
    symbols = msgspec.json.decode(msgspec.json.encode(EXCHANGE_INFO))["symbols"]
    symbols[0]["filters"][1]["maxQty"] = "1e999999999"
    async with scripted_http(lambda _: answer(200, {"symbols": symbols})) as script:
        adapter = adapter_at(script.url)
        assert [item.symbol for item in await adapter.instruments()] == ["ETHUSDT"]
        await adapter.aclose()


async def test_an_open_order_in_a_market_that_pauses_is_seen_and_the_market_is_not_traded() -> None:
    symbols = msgspec.json.decode(msgspec.json.encode(EXCHANGE_INFO))["symbols"]
    symbols[1]["status"] = "BREAK"

    def respond(request: HttpRequest) -> bytes:
        if request.path.endswith("exchangeInfo"):
            return answer(200, {"symbols": symbols})
        return answer(200, [ORDER, ORDER | {"symbol": "ETHUSDT", "clientOrderId": "paused"}])

    async with scripted_http(respond) as script:
        adapter = adapter_at(script.url)
        assert [item.symbol for item in await adapter.instruments()] == ["BTCUSDT"]
        assert [item.client_order_id for item in await adapter.all_open_orders()] == ["mine", "paused"]
        events = await adapter._user_stream._read(msgspec.json.encode(REPORT | {"s": "ETHUSDT"}))
        assert [type(event) for event in events] == [ExecutionReport]
        assert len([item for item in script.requests if item.path.endswith("exchangeInfo")]) == 1
        await adapter.aclose()
