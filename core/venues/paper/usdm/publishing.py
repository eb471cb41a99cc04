"""The market streams of USD-M futures
(https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams).

A depth stream's first pu is the last id before its first message, so a client that starts with a snapshot joins without
a gap at any pace. An aggTrade here is always one trade.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from core.venues.paper.events import BookTicker, DepthDiff, Level, Trade
from core.venues.paper.klines import INTERVAL_MS, Kline, flat_kline, interval_close_ms, interval_open_ms
from core.venues.paper.streams import Hub
from core.venues.paper.usdm.numbers import amount_text, fixed, ratio
from core.venues.paper.usdm.orders import OrderEvent
from core.venues.paper.usdm.rules import CONTRACTS, ContractRules
from core.venues.paper.usdm.user_stream import average_price

if TYPE_CHECKING:
    from core.venues.paper.usdm.exchange import ContractData, UsdmExchange

DEPTH_PACES_MS = {"": 250, "@0ms": 0, "@100ms": 100, "@250ms": 250, "@500ms": 500}
INTERVALS = tuple(interval for interval in INTERVAL_MS if interval != "1s")
"""Futures have no klines of a second."""
PARTIAL_LEVELS = (5, 10, 20)
MARK_PRICE_TICKS = 3
"""Seconds between markPrice messages where @1s isn't asked for."""
MARKET_STREAMS = (
    "!bookTicker",
    "!markPrice@arr",
    "!markPrice@arr@1s",
    "!miniTicker@arr",
    "!ticker@arr",
    "!forceOrder@arr",
    "!contractInfo",
)


class DepthChannel(msgspec.Struct):
    """One depth stream: diffs are merged until its pace lets a message out. levels 0 is the diff stream."""

    name: str
    pace_ms: int
    levels: int = 0
    last_id: int = 0
    sent_ms: int = 0
    first_id: int = 0
    pending_id: int = 0
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}

    def skip(self, last_id: int) -> None:
        """Nobody listens."""
        self.last_id = self.pending_id = last_id
        self.first_id = 0
        self.bids, self.asks = {}, {}

    def add(self, diff: DepthDiff) -> None:
        self.first_id = self.first_id or diff.first_id
        self.pending_id = diff.last_id
        if not self.levels:
            self.bids |= dict(diff.bids)
            self.asks |= dict(diff.asks)


class SymbolStreams:
    """One symbol's stream names and the state of its depth streams."""

    def __init__(self, symbol: str) -> None:
        name = symbol.lower()
        self.ticker = f"{name}@bookTicker"
        self.trade = f"{name}@trade"
        self.agg_trade = f"{name}@aggTrade"
        self.mark = (f"{name}@markPrice@1s", f"{name}@markPrice")
        self.mini_ticker = f"{name}@miniTicker"
        self.day_ticker = f"{name}@ticker"
        self.force_order = f"{name}@forceOrder"
        self.klines = {interval: f"{name}@kline_{interval}" for interval in INTERVALS}
        self.continuous_klines = {interval: f"{name}_perpetual@continuousKline_{interval}" for interval in INTERVALS}
        self.depths = [
            DepthChannel(f"{name}@depth{levels or ''}{suffix}", pace_ms, levels)
            for levels in (0, *PARTIAL_LEVELS)
            for suffix, pace_ms in DEPTH_PACES_MS.items()
        ]
        self.is_kline_changed = False

    def start(self, last_id: int) -> None:
        for channel in self.depths:
            channel.skip(last_id)

    def names(self) -> list[str]:
        single = [self.ticker, self.trade, self.agg_trade, self.mini_ticker, self.day_ticker, self.force_order]
        depths = [channel.name for channel in self.depths]
        return [*single, *self.mark, *self.klines.values(), *self.continuous_klines.values(), *depths]


class Publisher:
    def __init__(self, exchange: UsdmExchange) -> None:
        self._exchange = exchange
        self._hub: Hub = exchange.hub
        self._ticks = 0
        for data in exchange.contracts.values():
            for name in data.streams.names():
                self._hub.add_public(name)
        for name in MARKET_STREAMS:
            self._hub.add_public(name)

    def on_ticker(self, data: ContractData, ticker: BookTicker) -> None:
        names = [name for name in (data.streams.ticker, "!bookTicker") if self._hub.has(name)]
        if names:
            text = _ticker_text(data.rules, ticker, self._exchange.now_ms())
            for name in names:
                self._hub.publish(name, text)

    def on_trade(self, data: ContractData, trade: Trade, closed: Kline | None) -> None:
        streams, hub, rules = data.streams, self._hub, data.rules
        if hub.has(streams.trade):
            hub.publish(streams.trade, _trade_text(rules, trade))
        if hub.has(streams.agg_trade):
            hub.publish(streams.agg_trade, _agg_trade_text(rules, trade))
        if closed is not None:
            self._publish_closed_klines(data, closed.open_ms, trade.trade_ms)
        streams.is_kline_changed = True

    def on_depth(self, data: ContractData, diff: DepthDiff) -> None:
        now_ms = self._exchange.now_ms()
        for channel in data.streams.depths:
            if not self._hub.has(channel.name):
                channel.skip(diff.last_id)
                continue
            channel.add(diff)
            if now_ms - channel.sent_ms >= channel.pace_ms:
                self._send_depth(data, channel, diff.event_ms, now_ms)

    def _send_depth(self, data: ContractData, channel: DepthChannel, event_ms: int, now_ms: int) -> None:
        bids: Iterable[Level] = channel.bids.items()
        asks: Iterable[Level] = channel.asks.items()
        if channel.levels:
            bids, asks = data.view.book.top(channel.levels)
        rules = data.rules
        self._hub.publish(
            channel.name,
            f'{{"e":"depthUpdate","E":{event_ms},"T":{event_ms},"s":"{rules.symbol}","U":{channel.first_id},'
            f'"u":{channel.pending_id},"pu":{channel.last_id},"b":[{_levels_text(rules, bids)}],'
            f'"a":[{_levels_text(rules, asks)}]}}',
        )
        channel.sent_ms = now_ms
        channel.skip(channel.pending_id)

    def on_force_order(self, event: OrderEvent) -> None:
        names = (f"{event.order.symbol.lower()}@forceOrder", "!forceOrder@arr")
        for name in names:
            if self._hub.has(name):
                self._hub.publish(name, _encode(_force_order(event)))

    def on_tick(self) -> None:
        """Once a second: marks, tickers, klines, and depth that waited for its pace."""
        self._ticks += 1
        now_ms = self._exchange.now_ms()
        everything = list(self._exchange.contracts.values())
        for data in everything:
            streams = data.streams
            for channel in streams.depths:
                if channel.first_id and self._hub.has(channel.name):
                    self._send_depth(data, channel, now_ms, now_ms)
            for name in streams.mark[: 1 + (self._ticks % MARK_PRICE_TICKS == 0)]:
                self._publish_one(name, partial(mark_price, data, self._exchange.next_funding_ms, now_ms))
            self._publish_one(streams.mini_ticker, partial(mini_ticker, data, now_ms))
            self._publish_one(streams.day_ticker, partial(day_ticker_event, data, now_ms))
            if streams.is_kline_changed:
                streams.is_kline_changed = False
                self._publish_klines(data)
        next_ms = self._exchange.next_funding_ms
        marks = ["!markPrice@arr@1s", *(["!markPrice@arr"] if self._ticks % MARK_PRICE_TICKS == 0 else [])]
        for name in marks:
            self._publish_one(name, lambda: [mark_price(data, next_ms, now_ms) for data in everything])
        self._publish_one("!miniTicker@arr", lambda: [mini_ticker(data, now_ms) for data in everything])
        self._publish_one("!ticker@arr", lambda: [day_ticker_event(data, now_ms) for data in everything])

    def _publish_one(self, name: str, message: Callable[[], object]) -> None:
        if self._hub.has(name):
            self._hub.publish(name, _encode(message()))

    def _publish_klines(self, data: ContractData) -> None:
        """The running klines of all intervals that someone hears."""
        for interval in INTERVALS:
            if self._hears_klines(data, interval):
                for kline in data.klines.query(interval, None, None, 1):
                    self._publish_kline(data, interval, kline, is_closed=False)

    def _publish_closed_klines(self, data: ContractData, closed_minute_ms: int, now_ms: int) -> None:
        """The klines that ended between a closed minute and now."""
        for interval in INTERVALS:
            open_ms = interval_open_ms(interval, closed_minute_ms)
            if self._hears_klines(data, interval) and open_ms != interval_open_ms(interval, now_ms):
                for kline in data.klines.query(interval, open_ms, open_ms, 1):
                    self._publish_kline(data, interval, kline, is_closed=True)

    def _hears_klines(self, data: ContractData, interval: str) -> bool:
        streams = data.streams
        return self._hub.has(streams.klines[interval]) or self._hub.has(streams.continuous_klines[interval])

    def _publish_kline(self, data: ContractData, interval: str, kline: Kline, *, is_closed: bool) -> None:
        symbol, now_ms = data.rules.symbol, self._exchange.now_ms()
        body = _kline(data.rules, interval, kline, is_closed)
        name, continuous = data.streams.klines[interval], data.streams.continuous_klines[interval]
        self._publish_one(name, lambda: {"e": "kline", "E": now_ms, "s": symbol, "k": body})
        event = {"e": "continuous_kline", "E": now_ms, "ps": symbol, "ct": "PERPETUAL", "k": body}
        self._publish_one(continuous, lambda: event)


def _encode(message: object) -> str:
    return msgspec.json.encode(message).decode()


# The busy ones are written by hand.


def _levels_text(rules: ContractRules, levels: Iterable[Level]) -> str:
    price_text, quantity_text = rules.price_text, rules.quantity_text
    return ",".join([f'["{price_text(price)}","{quantity_text(quantity)}"]' for price, quantity in levels])


def _ticker_text(rules: ContractRules, ticker: BookTicker, now_ms: int) -> str:
    price, quantity = rules.price_text, rules.quantity_text
    return (
        f'{{"e":"bookTicker","u":{ticker.update_id},"s":"{ticker.symbol}","b":"{price(ticker.bid)}",'
        f'"B":"{quantity(ticker.bid_quantity)}","a":"{price(ticker.ask)}","A":"{quantity(ticker.ask_quantity)}",'
        f'"T":{now_ms},"E":{now_ms}}}'
    )


def _trade_text(rules: ContractRules, trade: Trade) -> str:
    is_maker = "true" if trade.buyer_is_maker else "false"
    return (
        f'{{"e":"trade","E":{trade.event_ms},"T":{trade.trade_ms},"s":"{trade.symbol}","t":{trade.trade_id},'
        f'"p":"{rules.price_text(trade.price)}","q":"{rules.quantity_text(trade.quantity)}","X":"MARKET","m":{is_maker}}}'
    )


def _agg_trade_text(rules: ContractRules, trade: Trade) -> str:
    is_maker = "true" if trade.buyer_is_maker else "false"
    quantity = rules.quantity_text(trade.quantity)
    return (
        f'{{"e":"aggTrade","E":{trade.event_ms},"s":"{trade.symbol}","a":{trade.trade_id},'
        f'"p":"{rules.price_text(trade.price)}","q":"{quantity}","nq":"{quantity}","f":{trade.trade_id},'
        f'"l":{trade.trade_id},"T":{trade.trade_ms},"m":{is_maker}}}'
    )


def _kline(rules: ContractRules, interval: str, kline: Kline, is_closed: bool) -> dict[str, Any]:
    price = rules.price_text
    return {
        "t": kline.open_ms,
        "T": interval_close_ms(interval, kline.open_ms),
        "s": rules.symbol,
        "i": interval,
        "f": kline.first_id,
        "L": kline.last_id,
        "o": price(kline.open),
        "c": price(kline.close),
        "h": price(kline.high),
        "l": price(kline.low),
        "v": rules.quantity_text(kline.volume),
        "n": kline.trades,
        "x": is_closed,
        "q": amount_text(kline.quote_volume),
        "V": rules.quantity_text(kline.taker_volume),
        "Q": amount_text(kline.taker_quote_volume),
        "B": "0",
    }


def mark_price(data: ContractData, next_funding_ms: int, now_ms: int) -> dict[str, Any]:
    price = data.price
    return {
        "e": "markPriceUpdate",
        "E": now_ms,
        "s": data.rules.symbol,
        "p": amount_text(price.mark),
        "ap": amount_text(price.mark),
        "P": amount_text(price.mark),
        "i": amount_text(price.index),
        "r": amount_text(price.rate()),
        "T": next_funding_ms,
    }


def last_day(data: ContractData, now_ms: int) -> Kline:
    return data.klines.last_day(now_ms) or flat_kline(now_ms, data.middle(), -1)


def mini_ticker(data: ContractData, now_ms: int) -> dict[str, Any]:
    day, rules = last_day(data, now_ms), data.rules
    return {
        "e": "24hrMiniTicker",
        "E": now_ms,
        "s": rules.symbol,
        "c": rules.price_text(day.close),
        "o": rules.price_text(day.open),
        "h": rules.price_text(day.high),
        "l": rules.price_text(day.low),
        "v": rules.quantity_text(day.volume),
        "q": amount_text(day.quote_volume),
    }


def day_numbers(day: Kline) -> tuple[int, int, int]:
    """Change of price, change in percent, volume-weighted average price."""
    change = day.close - day.open
    return change, ratio(change * 100, day.open), ratio(day.quote_volume, day.volume)


def day_ticker_event(data: ContractData, now_ms: int) -> dict[str, Any]:
    day, rules = last_day(data, now_ms), data.rules
    change, percent, average = day_numbers(day)
    return mini_ticker(data, now_ms) | {
        "e": "24hrTicker",
        "p": rules.price_text(change),
        "P": fixed(percent, 3),
        "w": rules.price_text(average),
        "Q": rules.quantity_text(day.last_quantity),
        "O": day.open_ms,
        "C": now_ms,
        "F": day.first_id,
        "L": day.last_id,
        "n": day.trades,
    }


def _force_order(event: OrderEvent) -> dict[str, Any]:
    order, fill, rules = event.order, event.fill, CONTRACTS[event.order.symbol]
    return {
        "e": "forceOrder",
        "E": event.time_ms,
        "o": {
            "s": order.symbol,
            "S": order.side.value,
            "o": "LIMIT",
            "f": "IOC",
            "q": rules.quantity_text(order.quantity),
            "p": rules.price_text(average_price(order)),
            "ap": rules.price_text(average_price(order)),
            "X": order.status.value,
            "l": rules.quantity_text(fill.quantity if fill else 0),
            "z": rules.quantity_text(order.executed),
            "T": event.time_ms,
        },
    }
