"""Market data requests (https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from core.venues.paper import parameters as read
from core.venues.paper import wire
from core.venues.paper.decimals import text8
from core.venues.paper.endpoints import Answer, Endpoint, Security
from core.venues.paper.errors import VenueError, illegal_characters
from core.venues.paper.exchange import Exchange
from core.venues.paper.klines import DAY_MS, INTERVAL_MS, MINUTE_MS
from core.venues.paper.limits import RATE_LIMITS
from core.venues.paper.parameters import Parameters
from core.venues.paper.rules import AVERAGE_PRICE_MINUTES, RULES
from core.venues.paper.streams_market import SymbolData

MAX_DEPTH = 5_000
MAX_ROWS = 1_000
PERMISSION = "SPOT"
WINDOW_LEGAL = "^(([1-9]|[1-5][0-9])m)|(([1-9]|1[0-9]|2[0-3])h)|([1-7]d)$"
_WINDOW = re.compile("(([1-9]|[1-5][0-9])m)|(([1-9]|1[0-9]|2[0-3])h)|([1-7]d)")
_TIME_ZONE = re.compile(r"([+-]?)([0-9]{1,2})(?::([0-9]{2}))?")
_WINDOW_UNITS_MS = {"m": MINUTE_MS, "h": 60 * MINUTE_MS, "d": DAY_MS}
MIN_ZONE_MS, MAX_ZONE_MS = -12 * 60 * MINUTE_MS, 14 * 60 * MINUTE_MS


class MarketApi:
    """Everything that needs no key."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def endpoints(self) -> list[Endpoint]:
        def public(path: str, method: str, weight: Any, handler: Any, *, is_klines: bool = False) -> Endpoint:
            return Endpoint("GET", path, (method,), Security.NONE, weight, handler, is_klines=is_klines)

        api = "/api/v3"
        return [
            public(f"{api}/ping", "ping", 1, lambda _: {}),
            public(f"{api}/time", "time", 1, lambda _: {"serverTime": self._exchange.now_ms()}),
            public(f"{api}/exchangeInfo", "exchangeInfo", 20, self._exchange_info),
            public(f"{api}/depth", "depth", _depth_weight, self._depth),
            public(f"{api}/trades", "trades.recent", 25, self._trades),
            public(f"{api}/historicalTrades", "trades.historical", 25, self._historical_trades),
            public(f"{api}/aggTrades", "trades.aggregate", 4, self._aggregate_trades),
            public(f"{api}/klines", "klines", 2, self._klines, is_klines=True),
            public(f"{api}/uiKlines", "uiKlines", 2, self._klines, is_klines=True),
            public(f"{api}/avgPrice", "avgPrice", 2, self._average_price),
            public(f"{api}/ticker/24hr", "ticker.24hr", _day_weight, self._day),
            public(f"{api}/ticker/tradingDay", "ticker.tradingDay", _window_weight, self._trading_day),
            public(f"{api}/ticker", "ticker", _window_weight, self._window),
            public(f"{api}/ticker/price", "ticker.price", _by_symbol(2, 4), self._price),
            public(f"{api}/ticker/bookTicker", "ticker.book", _by_symbol(2, 4), self._book_ticker),
        ]

    def _exchange_info(self, parameters: Parameters) -> Answer:
        listed = self._exchange.symbols
        symbol = read.optional_symbol(parameters, listed)
        names = read.symbols_of(parameters, listed)
        permissions = _permissions(parameters)
        status = _status(parameters)
        show_sets = read.boolean(parameters, "showPermissionSets", default=True)
        is_named = symbol is not None or names is not None
        if is_named and (permissions is not None or status is not None):
            raise read.bad_combination()
        wanted = [symbol] if symbol is not None else names or list(listed)
        if (permissions is not None and PERMISSION not in permissions) or status not in {None, "TRADING"}:
            wanted = []
        rows = [RULES[name].exchange_info() for name in wanted]
        if not show_sets:
            for row in rows:
                row["permissionSets"] = []
        return {
            "timezone": "UTC",
            "serverTime": self._exchange.now_ms(),
            "rateLimits": RATE_LIMITS,
            "exchangeFilters": [],
            "symbols": rows,
        }

    def _data(self, parameters: Parameters) -> SymbolData:
        return self._exchange.symbols[read.symbol_of(parameters, self._exchange.symbols)]

    def _one_or_more(
        self, parameters: Parameters, row: Callable[[SymbolData], dict[str, Any]], *, all_by_default: bool = True
    ) -> Answer:
        """By symbol one row, by symbols a list; without either all symbols, or a refusal."""
        listed = self._exchange.symbols
        names = read.symbols_of(parameters, listed)
        _status(parameters)
        if names is not None:
            return [row(listed[name]) for name in names]
        symbol = read.optional_symbol(parameters, listed)
        if symbol is not None:
            return row(listed[symbol])
        if not all_by_default:
            raise VenueError(-1102, "Param 'symbol' or 'symbols' must be sent, but both were empty/null!")
        return [row(data) for data in listed.values()]

    def _depth(self, parameters: Parameters) -> Answer:
        book = self._data(parameters).view.book
        bids, asks = book.top(read.limit_of(parameters, 100, MAX_DEPTH))
        _status(parameters)
        return {
            "lastUpdateId": book.last_id,
            "bids": [[text8(price), text8(quantity)] for price, quantity in bids],
            "asks": [[text8(price), text8(quantity)] for price, quantity in asks],
        }

    def _trades(self, parameters: Parameters) -> Answer:
        trades = self._data(parameters).trades
        limit = read.limit_of(parameters, 500, MAX_ROWS)
        return [wire.public_trade(trade) for trade in list(trades)[-limit:]]

    def _historical_trades(self, parameters: Parameters) -> Answer:
        trades = list(self._data(parameters).trades)
        limit = read.limit_of(parameters, 500, MAX_ROWS)
        from_id = read.integer(parameters, "fromId")
        if from_id is None:
            return [wire.public_trade(trade) for trade in trades[-limit:]]
        return [wire.public_trade(trade) for trade in trades if trade.trade_id >= from_id][:limit]

    def _aggregate_trades(self, parameters: Parameters) -> Answer:
        rows = list(self._data(parameters).aggregates)
        from_id = read.integer(parameters, "fromId")
        start_ms, end_ms = read.time_range(parameters)
        limit = read.limit_of(parameters, 500, MAX_ROWS)
        if from_id is not None and (start_ms is not None or end_ms is not None):
            raise read.bad_combination()
        found = [
            trade
            for trade in rows
            if trade.first_id >= (from_id or 0) and (start_ms or 0) <= trade.trade_ms <= (end_ms or 2**62)
        ]
        is_newest = from_id is None and start_ms is None
        return [wire.aggregate_trade(trade) for trade in (found[-limit:] if is_newest else found[:limit])]

    def _klines(self, parameters: Parameters) -> Answer:
        data = self._data(parameters)
        interval = read.required(parameters, "interval")
        if interval not in INTERVAL_MS:
            raise VenueError(-1120, "Invalid interval.")
        start_ms, end_ms = read.time_range(parameters)
        offset_ms = _time_zone_ms(parameters)
        limit = read.limit_of(parameters, 500, MAX_ROWS)
        klines = data.klines.query(interval, start_ms, end_ms, limit, offset_ms)
        return [wire.kline_row(interval, kline, offset_ms) for kline in klines]

    def _average_price(self, parameters: Parameters) -> Answer:
        data = self._data(parameters)
        return {
            "mins": AVERAGE_PRICE_MINUTES,
            "price": text8(self._exchange.account.matching.average_price(data.view.symbol)),
            "closeTime": data.average.last_trade_ms,
        }

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

        return self._one_or_more(parameters, row)

    def _price(self, parameters: Parameters) -> Answer:
        return self._one_or_more(
            parameters, lambda data: {"symbol": data.view.symbol, "price": text8(data.last_price())}
        )

    def _day(self, parameters: Parameters) -> Answer:
        now_ms = self._exchange.now_ms()
        is_mini = _is_mini(parameters)

        def row(data: SymbolData) -> dict[str, Any]:
            day = data.window(now_ms - DAY_MS + 1, now_ms)
            if is_mini:
                return wire.mini_ticker(data.view.symbol, day, now_ms)
            return wire.day_ticker(data.view.symbol, day, data.best(), now_ms)

        return self._one_or_more(parameters, row)

    def _trading_day(self, parameters: Parameters) -> Answer:
        offset_ms = _time_zone_ms(parameters)
        now_ms = self._exchange.now_ms()
        start_ms = now_ms - (now_ms + offset_ms) % DAY_MS
        return self._windows(parameters, start_ms, start_ms + DAY_MS - 1)

    def _window(self, parameters: Parameters) -> Answer:
        size = read.optional(parameters, "windowSize") or "1d"
        if not _WINDOW.fullmatch(size):
            raise illegal_characters("windowSize", WINDOW_LEGAL)
        now_ms = self._exchange.now_ms()
        length_ms = int(size[:-1]) * _WINDOW_UNITS_MS[size[-1]]
        # Binance's windows begin at a whole minute, so they may be up to a minute longer.
        return self._windows(parameters, (now_ms - length_ms) // MINUTE_MS * MINUTE_MS, now_ms)

    def _windows(self, parameters: Parameters, start_ms: int, close_ms: int) -> Answer:
        row = wire.mini_ticker if _is_mini(parameters) else wire.window_ticker

        def build(data: SymbolData) -> dict[str, Any]:
            window = data.window(start_ms, self._exchange.now_ms())
            return row(data.view.symbol, window, close_ms) | {"openTime": start_ms}

        return self._one_or_more(parameters, build, all_by_default=False)


def _permissions(parameters: Parameters) -> list[str] | None:
    """One name, or a JSON list of names."""
    text = read.optional(parameters, "permissions")
    if text is None:
        return None
    return [name.strip(' "') for name in text.strip("[]").split(",")]


def _status(parameters: Parameters) -> str | None:
    status = read.optional(parameters, "symbolStatus")
    if status not in {None, "TRADING", "HALT", "BREAK"}:
        raise VenueError(-1122, "Invalid symbolStatus.")
    return status


def _is_mini(parameters: Parameters) -> bool:
    kind = read.optional(parameters, "type") or "FULL"
    if kind not in {"FULL", "MINI"}:
        raise VenueError(-1139, "Invalid ticker type.")
    return kind == "MINI"


def _time_zone_ms(parameters: Parameters) -> int:
    """timeZone: hours, or hours and minutes: `0`, `-1:00`, `05:45`."""
    text = read.optional(parameters, "timeZone")
    if text is None:
        return 0
    match = _TIME_ZONE.fullmatch(text)
    if match is None:
        raise VenueError(-1130, "Data sent for parameter 'timeZone' is not valid.")
    sign, hours, minutes = match.groups()
    offset_ms = (int(hours) * 60 + int(minutes or 0)) * MINUTE_MS * (-1 if sign == "-" else 1)
    if not MIN_ZONE_MS <= offset_ms <= MAX_ZONE_MS:
        raise VenueError(-1130, "Data sent for parameter 'timeZone' is not valid.")
    return offset_ms


def _depth_weight(parameters: Parameters) -> int:
    text = parameters.get("limit", "")
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 100
    return next((weight for most, weight in ((100, 5), (500, 25), (1_000, 50)) if limit <= most), 250)


def _by_symbol(one: int, every: int) -> Callable[[Parameters], int]:
    return lambda parameters: one if parameters.get("symbol") else every


def _count(parameters: Parameters) -> int:
    """How many symbols are asked for; 0 for all."""
    if parameters.get("symbol"):
        return 1
    return parameters.get("symbols", "").count(",") + 1 if parameters.get("symbols") else 0


def _day_weight(parameters: Parameters) -> int:
    count = _count(parameters)
    if not count or count > 100:
        return 80
    return 2 if count <= 20 else 40


def _window_weight(parameters: Parameters) -> int:
    return min(200, 4 * max(1, _count(parameters)))
