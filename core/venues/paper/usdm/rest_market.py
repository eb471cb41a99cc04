"""Market data endpoints of USD-M futures
(https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.venues.paper.errors import VenueError
from core.venues.paper.events import Trade
from core.venues.paper.klines import Kline, Klines, interval_close_ms
from core.venues.paper.usdm import parameters as read
from core.venues.paper.usdm.endpoints import Answer, Endpoint, Security, Weight
from core.venues.paper.usdm.exchange import ContractData, UsdmExchange
from core.venues.paper.usdm.limits import RATE_LIMITS
from core.venues.paper.usdm.marks import FUNDING_CAP, INTEREST_RATE
from core.venues.paper.usdm.numbers import amount_text, fixed, product
from core.venues.paper.usdm.parameters import Parameters
from core.venues.paper.usdm.publishing import INTERVALS, day_numbers, last_day
from core.venues.paper.usdm.rules import MARGIN_ASSET

MAX_DEPTH = 1_000
DEPTH_LIMITS = frozenset({5, 10, 20, 50, 100, 500, 1_000})
MAX_KLINES_PER_QUERY = 1_500
HOUR_MS = 3_600_000


class MarketEndpoints:
    def __init__(self, exchange: UsdmExchange) -> None:
        self._exchange = exchange

    def endpoints(self) -> list[Endpoint]:
        def get(path: str, weight: Weight, handler: Callable[[Parameters], Answer]) -> Endpoint:
            return Endpoint("GET", f"/fapi/{path}", Security.NONE, weight, handler)

        return [
            get("v1/ping", 1, lambda _: {}),
            get("v1/time", 1, lambda _: {"serverTime": self._exchange.now_ms()}),
            get("v1/exchangeInfo", 1, self._exchange_info),
            get("v1/depth", _depth_weight, self._depth),
            get("v1/rpiDepth", 20, self._depth),
            get("v1/trades", 5, self._trades),
            get("v1/historicalTrades", 20, self._trades),
            get("v1/aggTrades", 20, self._agg_trades),
            get("v1/klines", _kline_weight, lambda p: self._klines(p, lambda data: data.klines)),
            get("v1/continuousKlines", _kline_weight, self._continuous_klines),
            get("v1/markPriceKlines", _kline_weight, lambda p: self._klines(p, lambda data: data.mark_klines)),
            get("v1/indexPriceKlines", _kline_weight, self._index_klines),
            get("v1/premiumIndex", _by_symbol(1, 10), self._premium_index),
            get("v1/fundingRate", 1, self._funding_rate),
            get("v1/fundingInfo", 1, self._funding_info),
            get("v1/ticker/24hr", _by_symbol(1, 40), self._day),
            get("v1/ticker/price", _by_symbol(1, 2), self._price),
            get("v2/ticker/price", _by_symbol(1, 2), self._price),
            get("v1/ticker/bookTicker", _by_symbol(2, 5), self._book_ticker),
            get("v1/openInterest", 1, self._open_interest),
            get("v1/constituents", 2, self._constituents),
        ]

    def _data(self, parameters: Parameters) -> ContractData:
        return self._exchange.contracts[read.symbol_of(parameters, self._exchange.contracts)]

    def _one_or_all(self, parameters: Parameters, row: Callable[[ContractData], dict[str, Any]]) -> Answer:
        if parameters.get("symbol"):
            return row(self._data(parameters))
        return [row(data) for data in self._exchange.contracts.values()]

    def _exchange_info(self, _: Parameters) -> Answer:
        return {
            "timezone": "UTC",
            "serverTime": self._exchange.now_ms(),
            "futuresType": "U_MARGINED",
            "rateLimits": RATE_LIMITS,
            "exchangeFilters": [],
            "assets": [{"asset": MARGIN_ASSET, "marginAvailable": True, "autoAssetExchange": "0"}],
            "symbols": [data.rules.exchange_info() for data in self._exchange.contracts.values()],
        }

    def _depth(self, parameters: Parameters) -> Answer:
        data = self._data(parameters)
        limit = read.limit_of(parameters, 500, MAX_DEPTH)
        if limit not in DEPTH_LIMITS:
            raise VenueError(-4021, f"{limit} is not valid depth limit")
        book, rules, now_ms = data.view.book, data.rules, self._exchange.now_ms()
        bids, asks = book.top(limit)
        return {
            "lastUpdateId": book.last_id,
            "E": now_ms,
            "T": now_ms,
            "bids": [[rules.price_text(price), rules.quantity_text(quantity)] for price, quantity in bids],
            "asks": [[rules.price_text(price), rules.quantity_text(quantity)] for price, quantity in asks],
        }

    def _trades(self, parameters: Parameters) -> Answer:
        data = self._data(parameters)
        limit, from_id = read.limit_of(parameters, 500, 1_000), read.integer(parameters, "fromId")
        trades = [trade for trade in data.trades if from_id is None or trade.trade_id >= from_id]
        return [_trade(data, trade) for trade in (trades[-limit:] if from_id is None else trades[:limit])]

    def _agg_trades(self, parameters: Parameters) -> Answer:
        data = self._data(parameters)
        from_id, limit = read.integer(parameters, "fromId"), read.limit_of(parameters, 500, 1_000)
        start_ms, end_ms = read.integer(parameters, "startTime"), read.integer(parameters, "endTime")
        trades = [
            trade
            for trade in data.trades
            if (from_id is None or trade.trade_id >= from_id)
            and (start_ms is None or trade.trade_ms >= start_ms)
            and (end_ms is None or trade.trade_ms <= end_ms)
        ]
        is_newest = from_id is None and start_ms is None
        return [
            {
                "a": trade.trade_id,
                "p": data.rules.price_text(trade.price),
                "q": data.rules.quantity_text(trade.quantity),
                "nq": data.rules.quantity_text(trade.quantity),
                "f": trade.trade_id,
                "l": trade.trade_id,
                "T": trade.trade_ms,
                "m": trade.buyer_is_maker,
            }
            for trade in (trades[-limit:] if is_newest else trades[:limit])
        ]

    def _klines(self, parameters: Parameters, of: Callable[[ContractData], Klines]) -> Answer:
        data = self._data(parameters)
        interval = read.required(parameters, "interval")
        if interval not in INTERVALS:
            raise VenueError(-1120, "Invalid interval.")
        found = of(data).query(
            interval,
            read.integer(parameters, "startTime"),
            read.integer(parameters, "endTime"),
            read.limit_of(parameters, 500, MAX_KLINES_PER_QUERY),
        )
        return [_kline_row(data, kline, interval) for kline in found]

    def _continuous_klines(self, parameters: Parameters) -> Answer:
        if read.required(parameters, "contractType") != "PERPETUAL":
            raise VenueError(-4104, "Invalid contract type.")
        symbol = read.required(parameters, "pair")
        return self._klines(parameters | {"symbol": symbol}, lambda data: data.klines)

    def _index_klines(self, parameters: Parameters) -> Answer:
        symbol = read.required(parameters, "pair")
        return self._klines(parameters | {"symbol": symbol}, lambda data: data.index_klines)

    def _premium_index(self, parameters: Parameters) -> Answer:
        now_ms = self._exchange.now_ms()

        def row(data: ContractData) -> dict[str, Any]:
            price = data.price
            return {
                "symbol": data.rules.symbol,
                "markPrice": amount_text(price.mark),
                "indexPrice": amount_text(price.index),
                "estimatedSettlePrice": amount_text(price.index),
                "lastFundingRate": amount_text(price.rate()),
                "interestRate": amount_text(INTEREST_RATE),
                "nextFundingTime": self._exchange.next_funding_ms,
                "time": now_ms,
            }

        return self._one_or_all(parameters, row)

    def _funding_rate(self, parameters: Parameters) -> Answer:
        symbol = read.optional_symbol(parameters, self._exchange.contracts)
        start_ms, end_ms = read.integer(parameters, "startTime"), read.integer(parameters, "endTime")
        limit = read.limit_of(parameters, 100, 1_000)
        found = [
            funding
            for data in self._exchange.contracts.values()
            for funding in data.price.history
            if symbol in {None, funding.symbol}
            and (start_ms is None or funding.time_ms >= start_ms)
            and (end_ms is None or funding.time_ms <= end_ms)
        ]
        found.sort(key=lambda funding: funding.time_ms)
        return [
            {
                "symbol": funding.symbol,
                "fundingTime": funding.time_ms,
                "fundingRate": amount_text(funding.rate),
                "markPrice": amount_text(funding.mark),
            }
            for funding in (found[-limit:] if start_ms is None else found[:limit])
        ]

    def _funding_info(self, _: Parameters) -> Answer:
        return [
            {
                "symbol": symbol,
                "adjustedFundingRateCap": amount_text(FUNDING_CAP),
                "adjustedFundingRateFloor": amount_text(-FUNDING_CAP),
                "fundingIntervalHours": max(1, self._exchange.funding.interval_ms // HOUR_MS),
                "disclaimer": False,
            }
            for symbol in self._exchange.contracts
        ]

    def _day(self, parameters: Parameters) -> Answer:
        now_ms = self._exchange.now_ms()

        def row(data: ContractData) -> dict[str, Any]:
            day, rules = last_day(data, now_ms), data.rules
            change, percent, average = day_numbers(day)
            return {
                "symbol": rules.symbol,
                "priceChange": rules.price_text(change),
                "priceChangePercent": fixed(percent, 3),
                "weightedAvgPrice": rules.price_text(average),
                "lastPrice": rules.price_text(day.close),
                "lastQty": rules.quantity_text(day.last_quantity),
                "openPrice": rules.price_text(day.open),
                "highPrice": rules.price_text(day.high),
                "lowPrice": rules.price_text(day.low),
                "volume": rules.quantity_text(day.volume),
                "quoteVolume": amount_text(day.quote_volume),
                "openTime": day.open_ms,
                "closeTime": now_ms,
                "firstId": day.first_id,
                "lastId": day.last_id,
                "count": day.trades,
            }

        return self._one_or_all(parameters, row)

    def _price(self, parameters: Parameters) -> Answer:
        def row(data: ContractData) -> dict[str, Any]:
            # Before the first trade since the start the middle stands in.
            price = data.rules.price_text(data.last() or data.middle())
            return {"symbol": data.rules.symbol, "price": price, "time": self._exchange.now_ms()}

        return self._one_or_all(parameters, row)

    def _book_ticker(self, parameters: Parameters) -> Answer:
        def row(data: ContractData) -> dict[str, Any]:
            (bid, bid_quantity), (ask, ask_quantity) = data.best()
            ticker = data.view.ticker
            return {
                "lastUpdateId": max(data.view.book.last_id, ticker.update_id if ticker else 0),
                "symbol": data.rules.symbol,
                "bidPrice": data.rules.price_text(bid),
                "bidQty": data.rules.quantity_text(bid_quantity),
                "askPrice": data.rules.price_text(ask),
                "askQty": data.rules.quantity_text(ask_quantity),
                "time": self._exchange.now_ms(),
            }

        return self._one_or_all(parameters, row)

    def _open_interest(self, parameters: Parameters) -> Answer:
        """The positions that this venue knows: the account's own."""
        data = self._data(parameters)
        amount = sum(
            abs(position.amount)
            for position in self._exchange.account.ledger.open_positions()
            if position.symbol == data.rules.symbol
        )
        return {
            "symbol": data.rules.symbol,
            "openInterest": data.rules.quantity_text(amount),
            "time": self._exchange.now_ms(),
        }

    def _constituents(self, parameters: Parameters) -> Answer:
        symbol = self._data(parameters).rules.symbol
        only = {"exchange": "veloz-paper", "symbol": symbol, "weight": "1.00000000"}
        return {"symbol": symbol, "time": self._exchange.now_ms(), "constituents": [only]}


def _trade(data: ContractData, trade: Trade) -> dict[str, Any]:
    return {
        "id": trade.trade_id,
        "price": data.rules.price_text(trade.price),
        "qty": data.rules.quantity_text(trade.quantity),
        "quoteQty": amount_text(product(trade.price, trade.quantity)),
        "time": trade.trade_ms,
        "isBuyerMaker": trade.buyer_is_maker,
        "isRPITrade": False,
    }


def _kline_row(data: ContractData, kline: Kline, interval: str) -> list[Any]:
    price, quantity = data.rules.price_text, data.rules.quantity_text
    return [
        kline.open_ms,
        price(kline.open),
        price(kline.high),
        price(kline.low),
        price(kline.close),
        quantity(kline.volume),
        interval_close_ms(interval, kline.open_ms),
        amount_text(kline.quote_volume),
        kline.trades,
        quantity(kline.taker_volume),
        amount_text(kline.taker_quote_volume),
        "0",
    ]


def _asked(parameters: Parameters, default: int) -> int:
    text = parameters.get("limit", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default


def _depth_weight(parameters: Parameters) -> int:
    limit = _asked(parameters, 500)
    return next((weight for most, weight in ((50, 2), (100, 5), (500, 10)) if limit <= most), 20)


def _kline_weight(parameters: Parameters) -> int:
    limit = _asked(parameters, 500)
    return next((weight for below, weight in ((100, 1), (500, 2), (1_001, 5)) if limit < below), 10)


def _by_symbol(one: int, every: int) -> Callable[[Parameters], int]:
    return lambda parameters: one if parameters.get("symbol") else every
