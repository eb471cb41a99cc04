"""Binance's REST endpoints (https://developers.binance.com/docs/binance-spot-api-docs/rest-api)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any

import msgspec
import structlog
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from core.types.ids import IdSource
from core.venues.paper import parameters as read
from core.venues.paper import signing, wire
from core.venues.paper.decimals import text8
from core.venues.paper.errors import VenueError, invalid_symbol, missing_parameter
from core.venues.paper.exchange import Exchange, SymbolData
from core.venues.paper.klines import INTERVAL_MINUTES, MINUTE_MS, flat_kline
from core.venues.paper.limits import RATE_LIMITS, Limits
from core.venues.paper.parameters import Parameters
from core.venues.paper.rules import RULES
from core.venues.paper.storage import MAX_ROWS_PER_QUERY

log = structlog.get_logger("venue.rest")

MAX_BODY_BYTES = 64 * 1024
MAX_DEPTH = 5_000
MAX_KLINES_PER_QUERY = 1_000
RESPONSE_TYPES = frozenset({"ACK", "RESULT", "FULL"})
MAKER_COMMISSION_BPS = 10


class Security(Enum):
    """What a caller must show: nothing, its key, or its key and a signature."""

    NONE = 0
    KEY = 1
    SIGNED = 2


Answer = dict[str, Any] | list[Any]
Handler = Callable[[Parameters], Answer]
Weight = int | Callable[[Parameters], int]


class Rest:
    """All endpoints over one exchange."""

    def __init__(self, exchange: Exchange, credentials: signing.Credentials, ids: IdSource) -> None:
        self._exchange = exchange
        self._credentials = credentials
        self._ids = ids
        self.limits = Limits()

    def routes(self) -> list[Route]:
        none, key, signed = Security.NONE, Security.KEY, Security.SIGNED
        return [
            self._route("GET", "/api/v3/ping", none, 1, lambda _: {}),
            self._route("GET", "/api/v3/time", none, 1, lambda _: {"serverTime": self._exchange.now_ms()}),
            self._route("GET", "/api/v3/exchangeInfo", none, 20, self._exchange_info),
            self._route("GET", "/api/v3/depth", none, _depth_weight, self._depth),
            self._route("GET", "/api/v3/trades", none, 25, self._trades),
            self._route("GET", "/api/v3/klines", none, 2, self._klines),
            self._route("GET", "/api/v3/ticker/bookTicker", none, _by_symbol(2, 4), self._book_ticker),
            self._route("GET", "/api/v3/ticker/price", none, _by_symbol(2, 4), self._price),
            self._route("GET", "/api/v3/ticker/24hr", none, _by_symbol(2, 80), self._day),
            self._route("GET", "/api/v3/account", signed, 20, self._account),
            self._route("GET", "/api/v3/openOrders", signed, _by_symbol(6, 80), self._open_orders),
            self._route("DELETE", "/api/v3/openOrders", signed, 1, self._cancel_all),
            self._route("GET", "/api/v3/allOrders", signed, 20, self._all_orders),
            self._route("GET", "/api/v3/myTrades", signed, _trades_weight, self._my_trades),
            self._route("GET", "/api/v3/order", signed, 4, self._order),
            self._route("POST", "/api/v3/order", signed, 1, self._place, counts_orders=True),
            self._route("POST", "/api/v3/order/test", signed, 1, self._test_order),
            self._route("DELETE", "/api/v3/order", signed, 1, self._cancel),
            self._route("POST", "/api/v3/userDataStream", key, 2, self._create_listen_key),
            self._route("PUT", "/api/v3/userDataStream", key, 2, self._renew_listen_key),
            self._route("DELETE", "/api/v3/userDataStream", key, 2, self._close_listen_key),
            self._route("GET", "/paper/v1/market", none, 1, lambda _: self._exchange.describe_market()),
        ]

    def _route(
        self, method: str, path: str, security: Security, weight: Weight, handler: Handler, counts_orders: bool = False
    ) -> Route:
        async def endpoint(http: HttpRequest) -> Response:
            return await self._answer(http, security, weight, handler, counts_orders)

        call: Callable[[HttpRequest], Awaitable[Response]] = endpoint
        return Route(path, call, methods=[method])

    async def _answer(
        self, http: HttpRequest, security: Security, weight: Weight, handler: Handler, counts_orders: bool
    ) -> Response:
        headers: dict[str, str] = {}
        try:
            now_ms = self._exchange.now_ms()
            request = signing.Request.of(http.scope["query_string"].decode("latin-1"), await _body(http))
            cost = weight if isinstance(weight, int) else weight(request.parameters)
            address = http.client.host if http.client else "unknown"
            headers["X-MBX-USED-WEIGHT-1M"] = str(self.limits.charge(address, cost, now_ms))
            headers["X-MBX-USED-WEIGHT"] = headers["X-MBX-USED-WEIGHT-1M"]
            if security is not Security.NONE:
                signing.check_key(self._credentials, http.headers.get("X-MBX-APIKEY"))
            if security is Security.SIGNED:
                signing.check_signature(self._credentials, request, now_ms)
            if counts_orders:
                self.limits.check_order(now_ms)
            answer = handler(request.parameters)
            if counts_orders:
                self.limits.count_order(now_ms)
                headers |= self.limits.order_headers(now_ms)
            return _json(answer, 200, headers)
        except VenueError as refusal:
            if counts_orders:
                headers |= self.limits.order_headers(self._exchange.now_ms())
            return _json({"code": refusal.code, "msg": refusal.message}, refusal.status, headers | refusal.headers)

    # Market data

    def _exchange_info(self, parameters: Parameters) -> Answer:
        wanted = list(self._exchange.symbols)
        if parameters.get("symbol"):
            wanted = [read.symbol_of(parameters, self._exchange.symbols)]
        elif parameters.get("symbols"):
            wanted = self._symbol_list(parameters["symbols"])
        return {
            "timezone": "UTC",
            "serverTime": self._exchange.now_ms(),
            "rateLimits": RATE_LIMITS,
            "exchangeFilters": [],
            "symbols": [RULES[symbol].exchange_info() for symbol in wanted],
        }

    def _symbol_list(self, text: str) -> list[str]:
        try:
            names = msgspec.json.decode(text, type=list[str])
        except msgspec.DecodeError as error:
            raise VenueError(-1100, "Illegal characters found in parameter 'symbols'.") from error
        if not all(name in self._exchange.symbols for name in names):
            raise invalid_symbol()
        return names

    def _data(self, parameters: Parameters) -> SymbolData:
        return self._exchange.symbols[read.symbol_of(parameters, self._exchange.symbols)]

    def _one_or_all(self, parameters: Parameters, row: Callable[[SymbolData], dict[str, Any]]) -> Answer:
        if parameters.get("symbol"):
            return row(self._data(parameters))
        if parameters.get("symbols"):
            return [row(self._exchange.symbols[name]) for name in self._symbol_list(parameters["symbols"])]
        return [row(data) for data in self._exchange.symbols.values()]

    def _depth(self, parameters: Parameters) -> Answer:
        book = self._data(parameters).view.book
        bids, asks = book.top(read.limit_of(parameters, 100, MAX_DEPTH))
        return {
            "lastUpdateId": book.last_id,
            "bids": [[text8(price), text8(quantity)] for price, quantity in bids],
            "asks": [[text8(price), text8(quantity)] for price, quantity in asks],
        }

    def _trades(self, parameters: Parameters) -> Answer:
        trades = self._data(parameters).trades
        limit = read.limit_of(parameters, 500, 1_000)
        return [wire.public_trade(trade) for trade in list(trades)[-limit:]]

    def _klines(self, parameters: Parameters) -> Answer:
        data = self._data(parameters)
        interval = read.required(parameters, "interval")
        if interval not in INTERVAL_MINUTES:
            raise VenueError(-1120, "Invalid interval.")
        klines = data.klines.query(
            interval,
            read.integer(parameters, "startTime"),
            read.integer(parameters, "endTime"),
            read.limit_of(parameters, 500, MAX_KLINES_PER_QUERY),
        )
        return [wire.kline_row(kline, INTERVAL_MINUTES[interval] * MINUTE_MS) for kline in klines]

    def _book_ticker(self, parameters: Parameters) -> Answer:
        def row(data: SymbolData) -> dict[str, Any]:
            (bid, bid_quantity), (ask, ask_quantity) = data.best()
            return {
                "symbol": data.view.symbol,
                "bidPrice": text8(bid),
                "bidQty": text8(bid_quantity),
                "askPrice": text8(ask),
                "askQty": text8(ask_quantity),
            }

        return self._one_or_all(parameters, row)

    def _price(self, parameters: Parameters) -> Answer:
        def row(data: SymbolData) -> dict[str, Any]:
            # Before the first trade since the start the best bid stands in.
            last = data.trades[-1].price if data.trades else data.best()[0][0]
            return {"symbol": data.view.symbol, "price": text8(last)}

        return self._one_or_all(parameters, row)

    def _day(self, parameters: Parameters) -> Answer:
        now_ms = self._exchange.now_ms()

        def row(data: SymbolData) -> dict[str, Any]:
            day = data.klines.last_day(now_ms) or flat_kline(now_ms, data.best()[0][0], -1)
            return wire.day_ticker(data.view.symbol, day, data.best(), now_ms)

        return self._one_or_all(parameters, row)

    # Account

    def _account(self, _: Parameters) -> Answer:
        balances = self._exchange.account.matching.balances.all()
        return {
            "makerCommission": MAKER_COMMISSION_BPS,
            "takerCommission": MAKER_COMMISSION_BPS,
            "buyerCommission": 0,
            "sellerCommission": 0,
            "commissionRates": {
                "maker": "0.00100000",
                "taker": "0.00100000",
                "buyer": "0.00000000",
                "seller": "0.00000000",
            },
            "canTrade": True,
            "canWithdraw": False,
            "canDeposit": False,
            "brokered": False,
            "requireSelfTradePrevention": False,
            "preventSor": False,
            "updateTime": self._exchange.now_ms(),
            "accountType": "SPOT",
            "balances": [
                {"asset": asset, "free": text8(balance.free), "locked": text8(balance.locked)}
                for asset, balance in sorted(balances.items())
            ],
            "permissions": ["SPOT"],
            "uid": 1,
        }

    def _place(self, parameters: Parameters) -> Answer:
        response_type = parameters.get("newOrderRespType") or "FULL"
        if response_type not in RESPONSE_TYPES:
            raise VenueError(-1117, "Invalid newOrderRespType.")
        request = read.new_order(parameters, self._exchange.symbols, self._ids)
        order, fills = self._exchange.account.place(request)
        return wire.placed(order, fills, response_type)

    def _test_order(self, parameters: Parameters) -> Answer:
        """Checks parameters; nothing is placed."""
        read.new_order(parameters, self._exchange.symbols, self._ids)
        return {}

    def _cancel(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, RULES)
        order_id, client_order_id = read.order_reference(parameters)
        canceled_as = read.new_client_id(parameters, self._ids)
        order = self._exchange.account.cancel(symbol, order_id, client_order_id, canceled_as)
        return wire.canceled(order, canceled_as)

    def _cancel_all(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, RULES)
        canceled = self._exchange.account.cancel_all(symbol, lambda: read.new_client_id({}, self._ids))
        return [wire.canceled(order, canceled_as) for order, canceled_as in canceled]

    def _order(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, RULES)
        return wire.order_row(self._exchange.account.order(symbol, *read.order_reference(parameters)))

    def _open_orders(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, RULES) if parameters.get("symbol") else None
        return [wire.order_row(order) for order in self._exchange.account.open_orders(symbol)]

    def _all_orders(self, parameters: Parameters) -> Answer:
        orders = self._exchange.storage.orders(
            read.symbol_of(parameters, RULES),
            read.integer(parameters, "orderId"),
            read.integer(parameters, "startTime"),
            read.integer(parameters, "endTime"),
            read.limit_of(parameters, 500, MAX_ROWS_PER_QUERY),
        )
        return [wire.order_row(order) for order in orders]

    def _my_trades(self, parameters: Parameters) -> Answer:
        fills = self._exchange.storage.trades(
            read.symbol_of(parameters, RULES),
            read.integer(parameters, "orderId"),
            read.integer(parameters, "fromId"),
            read.integer(parameters, "startTime"),
            read.integer(parameters, "endTime"),
            read.limit_of(parameters, 500, MAX_ROWS_PER_QUERY),
        )
        return [wire.own_trade(fill) for fill in fills]

    # User data stream

    def _create_listen_key(self, _: Parameters) -> Answer:
        return {"listenKey": self._exchange.account.create_listen_key()}

    def _renew_listen_key(self, parameters: Parameters) -> Answer:
        self._exchange.account.renew_listen_key(_listen_key(parameters))
        return {}

    def _close_listen_key(self, parameters: Parameters) -> Answer:
        self._exchange.account.close_listen_key(_listen_key(parameters))
        return {}


def _listen_key(parameters: Parameters) -> str:
    key = parameters.get("listenKey")
    if not key:
        raise missing_parameter("listenKey")
    return key


async def _body(http: HttpRequest) -> str:
    """Raises VenueError when it is too long or no text."""
    body = b""
    async for part in http.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise VenueError(-1101, "Too many parameters sent for this endpoint.", 413)
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise VenueError(-1100, "Illegal characters found in a parameter.") from error


def _json(content: Answer, status: int, headers: dict[str, str]) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json;charset=UTF-8")


def _depth_weight(parameters: Parameters) -> int:
    text = parameters.get("limit", "")
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 100
    return next((weight for most, weight in ((100, 5), (500, 25), (1_000, 50)) if limit <= most), 250)


def _trades_weight(parameters: Parameters) -> int:
    return 5 if parameters.get("orderId") else 20


def _by_symbol(one: int, every: int) -> Callable[[Parameters], int]:
    return lambda parameters: one if parameters.get("symbol") else every
