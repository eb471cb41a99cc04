"""Binance's JSON for orders: the user data stream's events and the answers of the trading endpoints
(https://developers.binance.com/docs/binance-spot-api-docs)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core.types.orders import Side
from core.venues.paper.balances import Balance
from core.venues.paper.decimals import ZERO, text8
from core.venues.paper.orders import (
    Amendment,
    Execution,
    Fill,
    ListReport,
    Order,
    OrderList,
    Placed,
    PreventedMatch,
    Report,
    Status,
    TimeInForce,
)


def execution_report(report: Report) -> dict[str, Any]:
    order, fill = report.order, report.fill
    is_request = report.canceled_as is not None
    original = report.amendment.old_client_order_id if report.amendment else order.client_order_id
    event = {
        "e": "executionReport",
        "E": report.time_ms,
        "s": order.symbol,
        "c": report.canceled_as if is_request else order.client_order_id,
        "S": order.side.value,
        "o": order.order_type.value,
        "f": order.time_in_force.value,
        "q": text8(order.quantity),
        "p": text8(order.price),
        "P": text8(order.stop_price),
        "F": text8(order.iceberg_quantity),
        "g": order.list_id,
        "C": original if is_request else "",
        "x": report.execution.value,
        "X": order.status.value,
        "r": report.reason,
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
        "V": order.self_trade_prevention.value,
    }
    return event | _conditional(report)


def _conditional(report: Report) -> dict[str, Any]:
    """The fields that executionReport has only then."""
    order = report.order
    fields: dict[str, Any] = {}
    if order.working_ms >= 0:
        fields["W"] = order.working_ms
    if order.trailing_delta:
        fields["d"] = order.trailing_delta
        if order.trailing_ms:
            fields["D"] = order.trailing_ms
    if order.strategy_id is not None:
        fields["j"] = order.strategy_id
    if order.strategy_type is not None:
        fields["J"] = order.strategy_type
    match = report.prevented
    if match is not None:
        is_taker = order.order_id == match.taker_order_id
        fields["v"] = match.match_id
        fields["A"] = text8(order.prevented)
        fields["B"] = text8(match.taker_quantity if is_taker else match.maker_quantity)
        fields["U"] = match.maker_order_id if is_taker else match.taker_order_id
    return fields


def list_status(report: ListReport) -> dict[str, Any]:
    orders = report.orders
    return {
        "e": "listStatus",
        "E": report.time_ms,
        "s": orders.symbol,
        "g": orders.list_id,
        "c": orders.contingency.value,
        "l": orders.status_type.value,
        "L": orders.order_status.value,
        "r": "NONE",
        "C": orders.client_list_id,
        "T": orders.updated_ms,
        "O": [
            {"s": orders.symbol, "i": order_id, "c": name}
            for order_id, name in zip(orders.order_ids, orders.client_ids, strict=True)
        ],
    }


def _is_on_book(report: Report) -> bool:
    order = report.order
    return (
        order.status.is_open
        and order.is_working
        and order.time_in_force is TimeInForce.GTC
        and report.execution in {Execution.NEW, Execution.TRADE, Execution.REPLACED}
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


def order_row(order: Order) -> dict[str, Any]:
    """An order as GET /api/v3/order gives it."""
    return {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "clientOrderId": order.client_order_id,
        **_amounts(order),
        "stopPrice": text8(order.stop_price),
        "icebergQty": text8(order.iceberg_quantity),
        "time": order.created_ms,
        "updateTime": order.updated_ms,
        "isWorking": order.is_working,
        "workingTime": order.working_ms,
        "origQuoteOrderQty": text8(order.quote_quantity),
        "selfTradePreventionMode": order.self_trade_prevention.value,
        **_options(order),
    }


def _amounts(order: Order) -> dict[str, Any]:
    return {
        "price": text8(order.price),
        "origQty": text8(order.quantity),
        "executedQty": text8(order.executed),
        "cummulativeQuoteQty": text8(order.cumulative_quote),
        "status": order.status.value,
        "timeInForce": order.time_in_force.value,
        "type": order.order_type.value,
        "side": order.side.value,
    }


def _options(order: Order) -> dict[str, Any]:
    """What only orders that were given it have."""
    fields: dict[str, Any] = {}
    if order.trailing_delta:
        fields["trailingDelta"] = order.trailing_delta
        fields["trailingTime"] = order.trailing_ms or -1
    if order.strategy_id is not None:
        fields["strategyId"] = order.strategy_id
    if order.strategy_type is not None:
        fields["strategyType"] = order.strategy_type
    if order.prevented_match_id is not None:
        fields["preventedMatchId"] = order.prevented_match_id
        fields["preventedQuantity"] = text8(order.prevented)
    return fields


def acknowledged(order: Order) -> dict[str, Any]:
    return {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "clientOrderId": order.client_order_id,
        "transactTime": order.updated_ms,
    }


def order_result(order: Order) -> dict[str, Any]:
    """An order's state in an answer that changed it: newOrderRespType RESULT."""
    answer = acknowledged(order) | _amounts(order)
    answer["origQuoteOrderQty"] = text8(order.quote_quantity)
    if order.stop_price:
        answer["stopPrice"] = text8(order.stop_price)
    if order.iceberg_quantity:
        answer["icebergQty"] = text8(order.iceberg_quantity)
    answer["workingTime"] = order.working_ms
    answer["selfTradePreventionMode"] = order.self_trade_prevention.value
    return answer | _options(order)


def placed(outcome: Placed, response_type: str) -> dict[str, Any]:
    """The answer to POST /api/v3/order: ACK, RESULT or FULL."""
    if response_type == "ACK":
        return acknowledged(outcome.order)
    answer = order_result(outcome.order)
    if response_type == "FULL":
        answer["fills"] = [
            {
                "price": text8(fill.price),
                "qty": text8(fill.quantity),
                "commission": text8(fill.commission),
                "commissionAsset": fill.commission_asset,
                "tradeId": fill.trade_id,
            }
            for fill in outcome.fills
        ]
    if outcome.prevented:
        answer["preventedMatches"] = [_prevented_in_answer(match) for match in outcome.prevented]
    return answer


def _prevented_in_answer(match: PreventedMatch) -> dict[str, Any]:
    row = {"preventedMatchId": match.match_id, "makerOrderId": match.maker_order_id, "price": text8(match.price)}
    return row | _prevented_quantities(match)


def _prevented_quantities(match: PreventedMatch) -> dict[str, Any]:
    row = {}
    if match.taker_quantity:
        row["takerPreventedQuantity"] = text8(match.taker_quantity)
    if match.maker_quantity:
        row["makerPreventedQuantity"] = text8(match.maker_quantity)
    return row


def prevented_match(match: PreventedMatch) -> dict[str, Any]:
    return {
        "symbol": match.symbol,
        "preventedMatchId": match.match_id,
        "takerOrderId": match.taker_order_id,
        "makerSymbol": match.symbol,
        "makerOrderId": match.maker_order_id,
        "tradeGroupId": -1,
        "selfTradePreventionMode": match.prevention.value,
        "price": text8(match.price),
        **_prevented_quantities(match),
        "transactTime": match.time_ms,
    }


def canceled(order: Order, canceled_as: str) -> dict[str, Any]:
    """The answer to DELETE /api/v3/order."""
    assert order.status is Status.CANCELED
    answer = {"symbol": order.symbol, "origClientOrderId": order.client_order_id} | order_result(order)
    answer["clientOrderId"] = canceled_as
    return answer


def list_row(orders: OrderList) -> dict[str, Any]:
    """An order list as GET /api/v3/orderList gives it."""
    return {
        "orderListId": orders.list_id,
        "contingencyType": orders.contingency.value,
        "listStatusType": orders.status_type.value,
        "listOrderStatus": orders.order_status.value,
        "listClientOrderId": orders.client_list_id,
        "transactionTime": orders.updated_ms,
        "symbol": orders.symbol,
        "orders": [
            {"symbol": orders.symbol, "orderId": order_id, "clientOrderId": name}
            for order_id, name in zip(orders.order_ids, orders.client_ids, strict=True)
        ],
    }


def placed_list(orders: OrderList, outcomes: list[Placed], response_type: str) -> dict[str, Any]:
    answer = list_row(orders)
    if response_type != "ACK":
        answer["orderReports"] = [placed(outcome, "RESULT") for outcome in outcomes]
    return answer


def canceled_list(orders: OrderList, canceled_orders: list[Order], canceled_as: str) -> dict[str, Any]:
    reports = sorted(canceled_orders, key=lambda order: order.order_id)
    return list_row(orders) | {"orderReports": [canceled(order, canceled_as) for order in reports]}


def amended(order: Order, orders: OrderList | None, execution_id: int, old_client_id: str) -> dict[str, Any]:
    """The answer to PUT /api/v3/order/amend/keepPriority."""
    row = {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "origClientOrderId": old_client_id,
        "clientOrderId": order.client_order_id,
        "price": text8(order.price),
        "qty": text8(order.quantity),
        "executedQty": text8(order.executed),
        "preventedQty": text8(order.prevented),
        "quoteOrderQty": text8(order.quote_quantity),
        "cumulativeQuoteQty": text8(order.cumulative_quote),
        "status": order.status.value,
        "timeInForce": order.time_in_force.value,
        "type": order.order_type.value,
        "side": order.side.value,
        "workingTime": order.working_ms,
        "selfTradePreventionMode": order.self_trade_prevention.value,
    }
    answer: dict[str, Any] = {"transactTime": order.updated_ms, "executionId": execution_id, "amendedOrder": row}
    if orders is not None:
        listed = list_row(orders)
        names = ("orderListId", "contingencyType", "listOrderStatus", "listClientOrderId", "symbol", "orders")
        answer["listStatus"] = {name: listed[name] for name in names}
    return answer


def amendment(change: Amendment) -> dict[str, Any]:
    return {
        "symbol": change.symbol,
        "orderId": change.order_id,
        "executionId": change.execution_id,
        "origClientOrderId": change.old_client_order_id,
        "newClientOrderId": change.new_client_order_id,
        "origQty": text8(change.old_quantity),
        "newQty": text8(change.new_quantity),
        "time": change.time_ms,
    }


def own_trade(fill: Fill) -> dict[str, Any]:
    return {
        "symbol": fill.symbol,
        "id": fill.trade_id,
        "orderId": fill.order_id,
        "orderListId": fill.list_id,
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
