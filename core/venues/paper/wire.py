"""Binance's JSON for market data: what goes out on REST and on the streams
(https://developers.binance.com/docs/binance-spot-api-docs)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core.venues.paper.decimals import UNIT, quote_amount, text8
from core.venues.paper.events import BookTicker, DepthDiff, Level, Trade
from core.venues.paper.klines import AggregateTrade, Kline, interval_close_ms
from core.venues.paper.rules import AVERAGE_PRICE_MINUTES

# Streams. The busy ones are written by hand: a recording at fifty times its pace is 8,000 frames a second.


def depth_text(diff: DepthDiff) -> str:
    return (
        f'{{"e":"depthUpdate","E":{diff.event_ms},"s":"{diff.symbol}","U":{diff.first_id},"u":{diff.last_id},'
        f'"b":[{_levels_text(diff.bids)}],"a":[{_levels_text(diff.asks)}]}}'
    )


def _levels_text(levels: Iterable[Level]) -> str:
    return ",".join([f'["{text8(price)}","{text8(quantity)}"]' for price, quantity in levels])


def book_ticker_text(ticker: BookTicker) -> str:
    return (
        f'{{"u":{ticker.update_id},"s":"{ticker.symbol}","b":"{text8(ticker.bid)}","B":"{text8(ticker.bid_quantity)}",'
        f'"a":"{text8(ticker.ask)}","A":"{text8(ticker.ask_quantity)}"}}'
    )


def trade_text(trade: Trade) -> str:
    is_maker = "true" if trade.buyer_is_maker else "false"
    return (
        f'{{"e":"trade","E":{trade.event_ms},"s":"{trade.symbol}","t":{trade.trade_id},"p":"{text8(trade.price)}",'
        f'"q":"{text8(trade.quantity)}","T":{trade.trade_ms},"m":{is_maker},"M":true}}'
    )


def agg_trade_text(trade: AggregateTrade) -> str:
    is_maker = "true" if trade.buyer_is_maker else "false"
    return (
        f'{{"e":"aggTrade","E":{trade.event_ms},"s":"{trade.symbol}","a":{trade.first_id},"p":"{text8(trade.price)}",'
        f'"q":"{text8(trade.quantity)}","f":{trade.first_id},"l":{trade.last_id},"T":{trade.trade_ms},'
        f'"m":{is_maker},"M":true}}'
    )


def partial_depth_text(last_id: int, bids: Iterable[Level], asks: Iterable[Level]) -> str:
    return f'{{"lastUpdateId":{last_id},"bids":[{_levels_text(bids)}],"asks":[{_levels_text(asks)}]}}'


def kline_event(
    symbol: str, interval: str, kline: Kline, now_ms: int, is_closed: bool, offset_ms: int
) -> dict[str, Any]:
    return {
        "e": "kline",
        "E": now_ms,
        "s": symbol,
        "k": {
            "t": kline.open_ms,
            "T": interval_close_ms(interval, kline.open_ms, offset_ms),
            "s": symbol,
            "i": interval,
            "f": kline.first_id,
            "L": kline.last_id,
            "o": text8(kline.open),
            "c": text8(kline.close),
            "h": text8(kline.high),
            "l": text8(kline.low),
            "v": text8(kline.volume),
            "n": kline.trades,
            "x": is_closed,
            "q": text8(kline.quote_volume),
            "V": text8(kline.taker_volume),
            "Q": text8(kline.taker_quote_volume),
            "B": "0",
        },
    }


def average_price_event(symbol: str, price: int, last_trade_ms: int, now_ms: int) -> dict[str, Any]:
    return {
        "e": "avgPrice",
        "E": now_ms,
        "s": symbol,
        "i": f"{AVERAGE_PRICE_MINUTES}m",
        "w": text8(price),
        "T": last_trade_ms,
    }


def mini_ticker_event(symbol: str, day: Kline, now_ms: int) -> dict[str, Any]:
    return {
        "e": "24hrMiniTicker",
        "E": now_ms,
        "s": symbol,
        "c": text8(day.close),
        "o": text8(day.open),
        "h": text8(day.high),
        "l": text8(day.low),
        "v": text8(day.volume),
        "q": text8(day.quote_volume),
    }


def ticker_event(symbol: str, day: Kline, best: tuple[Level, Level], now_ms: int) -> dict[str, Any]:
    row = day_ticker(symbol, day, best, now_ms)
    return {
        "e": "24hrTicker",
        "E": now_ms,
        "s": symbol,
        "p": row["priceChange"],
        "P": row["priceChangePercent"],
        "w": row["weightedAvgPrice"],
        "x": row["prevClosePrice"],
        "c": row["lastPrice"],
        "Q": row["lastQty"],
        "b": row["bidPrice"],
        "B": row["bidQty"],
        "a": row["askPrice"],
        "A": row["askQty"],
        "o": row["openPrice"],
        "h": row["highPrice"],
        "l": row["lowPrice"],
        "v": row["volume"],
        "q": row["quoteVolume"],
        "O": row["openTime"],
        "C": row["closeTime"],
        "F": row["firstId"],
        "L": row["lastId"],
        "n": row["count"],
    }


def window_ticker_event(symbol: str, size: str, window: Kline, now_ms: int) -> dict[str, Any]:
    row = window_ticker(symbol, window, now_ms)
    return {
        "e": f"{size}Ticker",
        "E": now_ms,
        "s": symbol,
        "p": row["priceChange"],
        "P": row["priceChangePercent"],
        "o": row["openPrice"],
        "h": row["highPrice"],
        "l": row["lowPrice"],
        "c": row["lastPrice"],
        "w": row["weightedAvgPrice"],
        "v": row["volume"],
        "q": row["quoteVolume"],
        "O": row["openTime"],
        "C": row["closeTime"],
        "F": row["firstId"],
        "L": row["lastId"],
        "n": row["count"],
    }


# REST


def kline_row(interval: str, kline: Kline, offset_ms: int) -> list[Any]:
    return [
        kline.open_ms,
        text8(kline.open),
        text8(kline.high),
        text8(kline.low),
        text8(kline.close),
        text8(kline.volume),
        interval_close_ms(interval, kline.open_ms, offset_ms),
        text8(kline.quote_volume),
        kline.trades,
        text8(kline.taker_volume),
        text8(kline.taker_quote_volume),
        "0",
    ]


def public_trade(trade: Trade) -> dict[str, Any]:
    return {
        "id": trade.trade_id,
        "price": text8(trade.price),
        "qty": text8(trade.quantity),
        "quoteQty": text8(quote_amount(trade.price, trade.quantity)),
        "time": trade.trade_ms,
        "isBuyerMaker": trade.buyer_is_maker,
        "isBestMatch": True,
    }


def aggregate_trade(trade: AggregateTrade) -> dict[str, Any]:
    return {
        "a": trade.first_id,
        "p": text8(trade.price),
        "q": text8(trade.quantity),
        "f": trade.first_id,
        "l": trade.last_id,
        "T": trade.trade_ms,
        "m": trade.buyer_is_maker,
        "M": True,
    }


def mini_ticker(symbol: str, window: Kline, now_ms: int) -> dict[str, Any]:
    """What all tickers have: type MINI."""
    return {
        "symbol": symbol,
        "openPrice": text8(window.open),
        "highPrice": text8(window.high),
        "lowPrice": text8(window.low),
        "lastPrice": text8(window.close),
        "volume": text8(window.volume),
        "quoteVolume": text8(window.quote_volume),
        "openTime": window.open_ms,
        "closeTime": now_ms,
        "firstId": window.first_id,
        "lastId": window.last_id,
        "count": window.trades,
    }


def window_ticker(symbol: str, window: Kline, now_ms: int) -> dict[str, Any]:
    """Type FULL."""
    change = window.close - window.open
    percent = change * 100 * UNIT // window.open if window.open else 0
    return mini_ticker(symbol, window, now_ms) | {
        "priceChange": _signed(change, 8),
        "priceChangePercent": _signed(percent, 3),
        "weightedAvgPrice": text8(window.quote_volume * UNIT // window.volume if window.volume else 0),
    }


def day_ticker(symbol: str, day: Kline, best: tuple[Level, Level], now_ms: int) -> dict[str, Any]:
    """ticker/24hr, type FULL."""
    (bid, bid_quantity), (ask, ask_quantity) = best
    return window_ticker(symbol, day, now_ms) | {
        "prevClosePrice": text8(day.open),
        "lastQty": text8(day.last_quantity),
        "bidPrice": text8(bid),
        "bidQty": text8(bid_quantity),
        "askPrice": text8(ask),
        "askQty": text8(ask_quantity),
    }


def _signed(value: int, places: int) -> str:
    text = text8(abs(value))
    return ("-" if value < 0 else "") + text[: len(text) - 8 + places]
