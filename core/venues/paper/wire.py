"""Binance's JSON: what goes out on REST and on the streams
(https://developers.binance.com/docs/binance-spot-api-docs)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core.types.orders import Side
from core.venues.paper.balances import Balance
from core.venues.paper.decimals import UNIT, ZERO, text8
from core.venues.paper.events import BookTicker, DepthDiff, Level, Trade
from core.venues.paper.klines import Kline
from core.venues.paper.orders import Execution, Fill, Order, Report, Status, TimeInForce

SELF_TRADE_PREVENTION = "EXPIRE_MAKER"


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


def kline_event(
    symbol: str, interval: str, length_ms: int, kline: Kline, now_ms: int, is_closed: bool
) -> dict[str, Any]:
    return {
        "e": "kline",
        "E": now_ms,
        "s": symbol,
        "k": {
            "t": kline.open_ms,
            "T": kline.open_ms + length_ms - 1,
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


def execution_report(report: Report) -> dict[str, Any]:
    order, fill = report.order, report.fill
    is_request = report.canceled_as is not None
    return {
        "e": "executionReport",
        "E": report.time_ms,
        "s": order.symbol,
        "c": report.canceled_as if is_request else order.client_order_id,
        "S": order.side.value,
        "o": order.order_type.value,
        "f": order.time_in_force.value,
        "q": text8(order.quantity),
        "p": text8(order.price),
        "P": ZERO,
        "F": ZERO,
        "g": -1,
        "C": order.client_order_id if is_request else "",
        "x": report.execution.value,
        "X": order.status.value,
        "r": "NONE",
        "i": order.order_id,
        "l": text8(fill.quantity) if fill else ZERO,
        "z": text8(order.executed),
        "L": text8(fill.price) if fill else ZERO,
        "n": text8(fill.commission) if fill else "0",
        "N": fill.commission_asset if fill else None,
        "T": report.time_ms,
        "t": fill.trade_id if fill else -1,
        "I": report.execution_id,
        "w": _is_on_book(report),
        "m": fill.is_maker if fill else False,
        "M": fill is not None,
        "O": order.created_ms,
        "Z": text8(order.cumulative_quote),
        "Y": text8(fill.quote_quantity) if fill else ZERO,
        "Q": text8(order.quote_quantity),
        "W": order.created_ms,
        "V": SELF_TRADE_PREVENTION,
    }


def _is_on_book(report: Report) -> bool:
    order = report.order
    return (
        order.status.is_open
        and order.time_in_force is TimeInForce.GTC
        and report.execution in {Execution.NEW, Execution.TRADE}
        and order.price > 0
    )


def account_position(assets: Iterable[str], balances: dict[str, Balance], now_ms: int) -> dict[str, Any]:
    return {
        "e": "outboundAccountPosition",
        "E": now_ms,
        "u": now_ms,
        "B": [
            {"a": asset, "f": text8(balances[asset].free), "l": text8(balances[asset].locked)}
            for asset in sorted(assets)
        ],
    }


# REST


def kline_row(kline: Kline, length_ms: int) -> list[Any]:
    return [
        kline.open_ms,
        text8(kline.open),
        text8(kline.high),
        text8(kline.low),
        text8(kline.close),
        text8(kline.volume),
        kline.open_ms + length_ms - 1,
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
        "quoteQty": text8(trade.price * trade.quantity // UNIT),
        "time": trade.trade_ms,
        "isBuyerMaker": trade.buyer_is_maker,
        "isBestMatch": True,
    }


def day_ticker(symbol: str, day: Kline, best: tuple[Level, Level], now_ms: int) -> dict[str, Any]:
    (bid, bid_quantity), (ask, ask_quantity) = best
    change = day.close - day.open
    percent = _signed(change * 100 * UNIT // day.open if day.open else 0, 3)
    return {
        "symbol": symbol,
        "priceChange": _signed(change, 8),
        "priceChangePercent": percent,
        "weightedAvgPrice": text8(day.quote_volume * UNIT // day.volume if day.volume else 0),
        "prevClosePrice": text8(day.open),
        "lastPrice": text8(day.close),
        "lastQty": text8(day.last_quantity),
        "bidPrice": text8(bid),
        "bidQty": text8(bid_quantity),
        "askPrice": text8(ask),
        "askQty": text8(ask_quantity),
        "openPrice": text8(day.open),
        "highPrice": text8(day.high),
        "lowPrice": text8(day.low),
        "volume": text8(day.volume),
        "quoteVolume": text8(day.quote_volume),
        "openTime": day.open_ms,
        "closeTime": now_ms,
        "firstId": day.first_id,
        "lastId": day.last_id,
        "count": day.trades,
    }


def _signed(value: int, places: int) -> str:
    text = text8(abs(value))
    return ("-" if value < 0 else "") + text[: len(text) - 8 + places]


def order_row(order: Order) -> dict[str, Any]:
    """An order as GET /api/v3/order gives it."""
    return {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_order_id,
        "price": text8(order.price),
        "origQty": text8(order.quantity),
        "executedQty": text8(order.executed),
        "cummulativeQuoteQty": text8(order.cumulative_quote),
        "status": order.status.value,
        "timeInForce": order.time_in_force.value,
        "type": order.order_type.value,
        "side": order.side.value,
        "stopPrice": ZERO,
        "icebergQty": ZERO,
        "time": order.created_ms,
        "updateTime": order.updated_ms,
        "isWorking": True,
        "workingTime": order.created_ms,
        "origQuoteOrderQty": text8(order.quote_quantity),
        "selfTradePreventionMode": SELF_TRADE_PREVENTION,
    }


def placed(order: Order, fills: list[Fill], response_type: str) -> dict[str, Any]:
    """The answer to POST /api/v3/order: ACK, RESULT or FULL."""
    answer: dict[str, Any] = {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_order_id,
        "transactTime": order.updated_ms,
    }
    if response_type == "ACK":
        return answer
    answer |= {
        "price": text8(order.price),
        "origQty": text8(order.quantity),
        "executedQty": text8(order.executed),
        "origQuoteOrderQty": text8(order.quote_quantity),
        "cummulativeQuoteQty": text8(order.cumulative_quote),
        "status": order.status.value,
        "timeInForce": order.time_in_force.value,
        "type": order.order_type.value,
        "side": order.side.value,
        "workingTime": order.created_ms,
        "selfTradePreventionMode": SELF_TRADE_PREVENTION,
    }
    if response_type == "FULL":
        answer["fills"] = [
            {
                "price": text8(fill.price),
                "qty": text8(fill.quantity),
                "commission": text8(fill.commission),
                "commissionAsset": fill.commission_asset,
                "tradeId": fill.trade_id,
            }
            for fill in fills
        ]
    return answer


def canceled(order: Order, canceled_as: str) -> dict[str, Any]:
    """The answer to DELETE /api/v3/order."""
    assert order.status is Status.CANCELED
    answer = placed(order, [], "RESULT")
    answer["origClientOrderId"] = order.client_order_id
    answer["clientOrderId"] = canceled_as
    return answer


def own_trade(fill: Fill) -> dict[str, Any]:
    return {
        "symbol": fill.symbol,
        "id": fill.trade_id,
        "orderId": fill.order_id,
        "orderListId": -1,
        "price": text8(fill.price),
        "qty": text8(fill.quantity),
        "quoteQty": text8(fill.quote_quantity),
        "commission": text8(fill.commission),
        "commissionAsset": fill.commission_asset,
        "time": fill.time_ms,
        "isBuyer": fill.side is Side.BUY,
        "isMaker": fill.is_maker,
        "isBestMatch": True,
    }
