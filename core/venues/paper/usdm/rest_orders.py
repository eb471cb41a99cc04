"""Trade endpoints of USD-M futures: orders, conditional orders, trades
(https://developers.binance.com/docs/derivatives/usds-margined-futures/trade/rest-api)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from core.types.ids import IdSource
from core.types.orders import Side
from core.venues.paper.errors import VenueError, no_such_order
from core.venues.paper.usdm import parameters as read
from core.venues.paper.usdm.endpoints import Answer, Count, Endpoint, Security, Weight
from core.venues.paper.usdm.exchange import UsdmExchange
from core.venues.paper.usdm.numbers import amount_text, fixed
from core.venues.paper.usdm.orders import Algo, Fill, Order, Type
from core.venues.paper.usdm.parameters import Parameters
from core.venues.paper.usdm.rules import CONTRACTS, MARGIN_ASSET
from core.venues.paper.usdm.storage import MAX_ROWS_PER_QUERY
from core.venues.paper.usdm.user_stream import average_price

RESPONSE_TYPES = frozenset({"ACK", "RESULT"})
ALL_CANCELED = {"code": 200, "msg": "The operation of cancel all open order is done."}


class OrderEndpoints:
    def __init__(self, exchange: UsdmExchange, ids: IdSource) -> None:
        self._exchange = exchange
        self._account = exchange.account
        self._ids = ids

    def endpoints(self) -> list[Endpoint]:
        def at(
            method: str, path: str, weight: Weight, handler: Callable[[Parameters], Answer], orders: Count = 0
        ) -> Endpoint:
            return Endpoint(method, f"/fapi/v1/{path}", Security.SIGNED, weight, handler, orders)

        return [
            at("POST", "order", 0, self._place, 1),
            at("POST", "order/test", 1, self._test),
            at("GET", "order", 1, self._order),
            at("PUT", "order", 1, self._modify, 1),
            at("DELETE", "order", 1, self._cancel),
            at("POST", "batchOrders", 5, self._place_batch, _batch_size),
            at("PUT", "batchOrders", 5, self._modify_batch, _batch_size),
            at("DELETE", "batchOrders", 1, self._cancel_batch),
            at("DELETE", "allOpenOrders", 1, self._cancel_all),
            at("POST", "countdownCancelAll", 10, self._countdown),
            at("GET", "openOrder", 1, self._open_order),
            at("GET", "openOrders", _by_symbol(1, 40), self._open_orders),
            at("GET", "allOrders", 5, self._all_orders),
            at("GET", "userTrades", 5, self._user_trades),
            at("GET", "forceOrders", _by_symbol(20, 50), self._force_orders),
            at("POST", "algoOrder", 0, self._place_algo, 1),
            at("GET", "algoOrder", 1, self._algo),
            at("DELETE", "algoOrder", 1, self._cancel_algo),
            at("GET", "openAlgoOrders", _by_symbol(1, 40), self._open_algos),
            at("GET", "allAlgoOrders", 5, self._all_algos),
            at("DELETE", "algoOpenOrders", 1, self._cancel_all_algos),
        ]

    @property
    def _listed(self) -> dict[str, Any]:
        return dict(self._exchange.contracts)

    # Orders

    def _place(self, parameters: Parameters) -> Answer:
        response_type = parameters.get("newOrderRespType") or "ACK"
        if response_type not in RESPONSE_TYPES:
            raise VenueError(-1136, "Invalid newOrderRespType")
        order = self._account.place(read.new_order(parameters, self._listed, self._ids))
        if response_type == "ACK" and order.executed:
            # ACK is sent before the match: the order as it was accepted.
            order = msgspec.structs.replace(order, executed=0, cumulative_quote=0, status=type(order.status).NEW)
        return placed(order)

    def _test(self, parameters: Parameters) -> Answer:
        """All checks; nothing is placed."""
        return placed(self._account.check(read.new_order(parameters, self._listed, self._ids)))

    def _order(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, self._listed)
        return order_row(self._account.order(symbol, *read.order_reference(parameters)))

    def _modify(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, self._listed)
        order_id, name = read.order_reference(parameters)
        side = read.choice(parameters, "side", Side, -1117, "Invalid side.")
        order = self._account.order(symbol, order_id, name)
        if order.order_type is not Type.LIMIT:
            raise VenueError(-5025, "Only limit order is supported.")
        if order.side is not side:
            raise VenueError(-1117, "Invalid side.")
        price, quantity = read.decimal8(parameters, "price"), read.decimal8(parameters, "quantity")
        return placed(self._account.modify(symbol, order_id, name, price, quantity))

    def _cancel(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, self._listed)
        return placed(self._account.cancel(symbol, *read.order_reference(parameters)))

    def _each(self, parameters: Parameters, one: Callable[[Parameters], Answer]) -> Answer:
        """A batch: each of its orders succeeds or is refused by itself."""
        rows: list[Any] = []
        for content in read.json_list(parameters, "batchOrders", read.MAX_BATCH_ORDERS):
            try:
                rows.append(one(read.of_json(content)))
            except VenueError as refusal:
                rows.append({"code": refusal.code, "msg": refusal.message})
        return rows

    def _place_batch(self, parameters: Parameters) -> Answer:
        return self._each(parameters, lambda one: self._place({"newOrderRespType": "RESULT"} | one))

    def _modify_batch(self, parameters: Parameters) -> Answer:
        return self._each(parameters, self._modify)

    def _cancel_batch(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, self._listed)
        name, key = ("orderIdList", "orderId") if parameters.get("orderIdList") else ("origClientOrderIdList", "")
        # python-binance's own spelling of the two.
        spelled = {text.lower(): value for text, value in parameters.items()}
        if not parameters.get(name):
            name, key = ("orderIdList", "orderId") if spelled.get("orderidlist") else ("origClientOrderIdList", "")
        references = read.json_list({name: spelled.get(name.lower(), "")}, name, read.MAX_BATCH_CANCELS)
        rows: list[Any] = []
        for reference in references:
            one = {"symbol": symbol, key or "origClientOrderId": read.as_text(reference)}
            try:
                rows.append(self._cancel(one))
            except VenueError as refusal:
                rows.append({"code": refusal.code, "msg": refusal.message})
        return rows

    def _cancel_all(self, parameters: Parameters) -> Answer:
        self._account.cancel_all(read.symbol_of(parameters, self._listed))
        return dict(ALL_CANCELED)

    def _countdown(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, self._listed)
        countdown_ms = read.required_integer(parameters, "countdownTime")
        self._account.set_countdown(symbol, countdown_ms)
        return {"symbol": symbol, "countdownTime": str(countdown_ms)}

    def _open_order(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, self._listed)
        order = self._account.engine.find_open(symbol, *read.order_reference(parameters))
        if order is None:
            raise no_such_order()
        return order_row(order)

    def _open_orders(self, parameters: Parameters) -> Answer:
        symbol = read.optional_symbol(parameters, self._listed)
        return [order_row(order) for order in self._account.open_orders(symbol)]

    def _all_orders(self, parameters: Parameters) -> Answer:
        rows = self._exchange.storage.orders(
            read.optional_symbol(parameters, self._listed),
            read.integer(parameters, "orderId"),
            read.integer(parameters, "startTime"),
            read.integer(parameters, "endTime"),
            read.limit_of(parameters, 500, MAX_ROWS_PER_QUERY),
        )
        return [order_row(order) for order in rows]

    def _user_trades(self, parameters: Parameters) -> Answer:
        rows = self._exchange.storage.trades(
            read.optional_symbol(parameters, self._listed),
            read.integer(parameters, "orderId"),
            read.integer(parameters, "fromId"),
            read.integer(parameters, "startTime"),
            read.integer(parameters, "endTime"),
            read.limit_of(parameters, 500, MAX_ROWS_PER_QUERY),
        )
        return [own_trade(fill) for fill in rows]

    def _force_orders(self, parameters: Parameters) -> Answer:
        """Liquidations since the start."""
        symbol = read.optional_symbol(parameters, self._listed)
        return [order_row(order) for order in self._exchange.force_orders if symbol in {None, order.symbol}]

    # Conditional orders

    def _place_algo(self, parameters: Parameters) -> Answer:
        return algo_row(self._account.place_algo(read.new_algo(parameters, self._listed, self._ids)))

    def _algo(self, parameters: Parameters) -> Answer:
        return self._full_algo(self._account.algo(*read.algo_reference(parameters)))

    def _full_algo(self, algo: Algo) -> dict[str, Any]:
        """With what became of the order that it placed."""
        row = algo_row(algo)
        order = self._account.order(algo.symbol, algo.order_id, None) if algo.order_id else None
        rules = CONTRACTS[algo.symbol]
        return row | {
            "actualOrderId": str(order.order_id) if order else "",
            "actualPrice": rules.price_text(average_price(order)) if order else rules.price_text(0),
            "actualType": order.order_type.value if order else "",
            "actualQty": rules.quantity_text(order.executed) if order else rules.quantity_text(0),
            "tpOrderType": "",
        }

    def _cancel_algo(self, parameters: Parameters) -> Answer:
        algo = self._account.cancel_algo(*read.algo_reference(parameters))
        return {"algoId": algo.algo_id, "clientAlgoId": algo.client_id, "code": "200", "msg": "success"}

    def _open_algos(self, parameters: Parameters) -> Answer:
        symbol, algo_id = read.optional_symbol(parameters, self._listed), read.integer(parameters, "algoId")
        found = self._account.open_algos(symbol)
        return [self._full_algo(algo) for algo in found if algo_id in {None, algo.algo_id}]

    def _all_algos(self, parameters: Parameters) -> Answer:
        rows = self._exchange.storage.algos(
            read.symbol_of(parameters, self._listed),
            read.integer(parameters, "algoId"),
            read.integer(parameters, "startTime"),
            read.integer(parameters, "endTime"),
            read.limit_of(parameters, 500, MAX_ROWS_PER_QUERY),
        )
        return [self._full_algo(algo) for algo in rows]

    def _cancel_all_algos(self, parameters: Parameters) -> Answer:
        self._account.cancel_all_algos(read.symbol_of(parameters, self._listed))
        return dict(ALL_CANCELED)


def placed(order: Order) -> dict[str, Any]:
    """The answer to POST, PUT and DELETE /fapi/v1/order."""
    rules = CONTRACTS[order.symbol]
    return {
        "orderId": order.order_id,
        "symbol": order.symbol,
        "pair": order.symbol,
        "status": order.status.value,
        "clientOrderId": order.client_id,
        "price": rules.price_text(order.price),
        "avgPrice": rules.price_text(average_price(order)),
        "origQty": rules.quantity_text(order.quantity),
        "executedQty": rules.quantity_text(order.executed),
        "cumQty": rules.quantity_text(order.executed),
        "cumQuote": amount_text(order.cumulative_quote),
        "timeInForce": order.time_in_force.value,
        "type": order.order_type.value,
        "reduceOnly": order.is_reduce_only,
        "closePosition": order.is_close_position,
        "side": order.side.value,
        "positionSide": order.position_side.value,
        "stopPrice": rules.price_text(order.trigger_price),
        "workingType": order.working_type.value,
        "priceProtect": order.is_price_protected,
        "origType": order.original_type.value,
        "priceMatch": order.price_match.value,
        "selfTradePreventionMode": order.self_trade.value,
        "goodTillDate": order.good_till_ms,
        "updateTime": order.updated_ms,
    }


def order_row(order: Order) -> dict[str, Any]:
    """An order as the queries give it."""
    return placed(order) | {"time": order.created_ms}


def own_trade(fill: Fill) -> dict[str, Any]:
    rules = CONTRACTS[fill.symbol]
    return {
        "symbol": fill.symbol,
        "id": fill.trade_id,
        "orderId": fill.order_id,
        "side": fill.side.value,
        "price": rules.price_text(fill.price),
        "qty": rules.quantity_text(fill.quantity),
        "realizedPnl": amount_text(fill.realised),
        "marginAsset": MARGIN_ASSET,
        "quoteQty": amount_text(fill.quote_quantity),
        "commission": amount_text(fill.commission),
        "commissionAsset": MARGIN_ASSET,
        "time": fill.time_ms,
        "positionSide": fill.position_side.value,
        "maker": fill.is_maker,
        "buyer": fill.side is Side.BUY,
    }


def algo_row(algo: Algo) -> dict[str, Any]:
    rules = CONTRACTS[algo.symbol]
    row: dict[str, Any] = {
        "algoId": algo.algo_id,
        "clientAlgoId": algo.client_id,
        "algoType": "CONDITIONAL",
        "orderType": algo.order_type.value,
        "symbol": algo.symbol,
        "side": algo.side.value,
        "positionSide": algo.position_side.value,
        "timeInForce": algo.time_in_force.value,
        "quantity": rules.quantity_text(algo.quantity),
        "algoStatus": algo.status.value,
        "triggerPrice": rules.price_text(algo.trigger_price),
        "price": rules.price_text(algo.price),
        "icebergQuantity": None,
        "selfTradePreventionMode": algo.self_trade.value,
        "workingType": algo.working_type.value,
        "priceMatch": algo.price_match.value,
        "closePosition": algo.is_close_position,
        "priceProtect": algo.is_price_protected,
        "reduceOnly": algo.is_reduce_only,
        "createTime": algo.created_ms,
        "updateTime": algo.updated_ms,
        "triggerTime": algo.triggered_ms,
        "goodTillDate": algo.good_till_ms,
    }
    if algo.order_type is Type.TRAILING_STOP_MARKET:
        row |= {"activatePrice": rules.price_text(algo.activate_price), "callbackRate": fixed(algo.callback_rate, 1)}
    return row


def _batch_size(parameters: Parameters) -> int:
    """How many orders a batch counts as; what is wrong with it is told by its handler."""
    try:
        return len(read.json_list(parameters, "batchOrders", read.MAX_BATCH_ORDERS))
    except VenueError:
        return 1


def _by_symbol(one: int, every: int) -> Callable[[Parameters], int]:
    return lambda parameters: one if parameters.get("symbol") else every
