"""Orders and order lists (https://developers.binance.com/docs/binance-spot-api-docs/rest-api/trading-endpoints)."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from core.types.ids import IdSource
from core.venues.paper import parameters as read
from core.venues.paper import parameters_orders as read_orders
from core.venues.paper import wire_orders as wire
from core.venues.paper.endpoints import Answer, Endpoint, Security
from core.venues.paper.errors import VenueError, unsupported_combination
from core.venues.paper.exchange import Exchange
from core.venues.paper.limits import Limits
from core.venues.paper.orders import NewList, NewOrder
from core.venues.paper.parameters import Parameters
from core.venues.paper.rules import RULES
from core.venues.paper.storage import MAX_ROWS_PER_QUERY

FEE_RATES = {"maker": "0.00100000", "taker": "0.00100000"}
NO_RATES = {"maker": "0.00000000", "taker": "0.00000000"}
DISCOUNT = {
    "enabledForAccount": False,
    "enabledForSymbol": False,
    "discountAsset": "BNB",
    "discount": "0.00000000",
}

ListReader = Callable[[Parameters, Container[str], IdSource], NewList]


class TradingApi:
    """What places, changes, cancels and finds orders."""

    def __init__(self, exchange: Exchange, ids: IdSource, limits: Limits) -> None:
        self._exchange = exchange
        self._account = exchange.account
        self._ids = ids
        self._limits = limits

    def endpoints(self) -> list[Endpoint]:
        def signed(
            verb: str, path: str, methods: tuple[str, ...], weight: Any, handler: Any, *, orders: int = 0
        ) -> Endpoint:
            return Endpoint(verb, f"/api/v3/{path}", methods, Security.SIGNED, weight, handler, orders)

        def lists(path: str, methods: tuple[str, ...], reader: ListReader, orders: int) -> Endpoint:
            return signed("POST", path, methods, 1, lambda given: self._place_list(given, reader), orders=orders)

        return [
            signed("POST", "order", ("order.place",), 1, self._place, orders=1),
            signed("POST", "order/test", ("order.test",), _test_weight, self._test),
            signed("GET", "order", ("order.status",), 4, self._order),
            signed("DELETE", "order", ("order.cancel",), 1, self._cancel),
            signed("POST", "order/cancelReplace", ("order.cancelReplace",), 1, self._cancel_replace),
            signed("PUT", "order/amend/keepPriority", ("order.amend.keepPriority",), 4, self._amend),
            signed("GET", "order/amendments", ("order.amendments",), 4, self._amendments),
            signed("GET", "openOrders", ("openOrders.status",), _open_weight, self._open_orders),
            signed("DELETE", "openOrders", ("openOrders.cancelAll",), 1, self._cancel_all),
            signed("GET", "allOrders", ("allOrders",), 20, self._all_orders),
            lists("orderList/oco", ("orderList.place.oco",), read_orders.new_oco, 2),
            lists("order/oco", ("orderList.place",), read_orders.old_oco, 2),
            lists("orderList/oto", ("orderList.place.oto",), read_orders.new_oto, 2),
            lists("orderList/otoco", ("orderList.place.otoco",), read_orders.new_otoco, 3),
            signed("GET", "orderList", ("orderList.status",), 4, self._order_list),
            signed("DELETE", "orderList", ("orderList.cancel",), 1, self._cancel_list),
            signed("GET", "openOrderList", ("openOrderLists.status",), 6, self._open_lists),
            signed("GET", "allOrderList", ("allOrderLists",), 20, self._all_lists),
        ]

    # Placing

    def _place(self, parameters: Parameters) -> Answer:
        request = read_orders.new_order(parameters, self._exchange.symbols, self._ids)
        kind = read_orders.response_type(parameters, read_orders.default_response_type(request.order_type))
        parameters.all_read()
        return wire.placed(self._account.place(request), kind)

    def _test(self, parameters: Parameters) -> Answer:
        """Checks all but the balance; nothing is placed."""
        request = read_orders.new_order(parameters, self._exchange.symbols, self._ids)
        read_orders.response_type(parameters, "FULL")
        wants_rates = read.boolean(parameters, "computeCommissionRates", default=False)
        parameters.all_read()
        self._account.check(request)
        if not wants_rates:
            return {}
        return {
            "standardCommissionForOrder": FEE_RATES,
            "specialCommissionForOrder": NO_RATES,
            "taxCommissionForOrder": NO_RATES,
            "discount": DISCOUNT,
        }

    def _place_list(self, parameters: Parameters, reader: ListReader) -> Answer:
        request = reader(parameters, self._exchange.symbols, self._ids)
        kind = read_orders.response_type(parameters, "RESULT")
        parameters.all_read()
        return wire.placed_list(*self._account.place_list(request), kind)

    # Cancelling

    def _cancel(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, RULES)
        order_id, client_order_id = read.order_reference(parameters)
        canceled_as = read.new_client_id(parameters, self._ids)
        only = read_orders.cancel_restriction(parameters)
        parameters.all_read()
        lists = dict(self._account.matching.lists)
        orders = self._account.cancel(symbol, order_id, client_order_id, canceled_as, only)
        if orders[0].list_id in lists:
            return wire.canceled_list(lists[orders[0].list_id], orders, canceled_as)
        return wire.canceled(orders[0], canceled_as)

    def _cancel_all(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, RULES)
        parameters.all_read()
        rows = []
        for order_list, orders, canceled_as in self._account.cancel_all(symbol, self._new_id):
            if order_list is not None:
                rows.append(wire.canceled_list(order_list, orders, canceled_as))
            else:
                rows.append(wire.canceled(orders[0], canceled_as))
        return rows

    def _new_id(self) -> str:
        return read.new_client_id(Parameters(), self._ids)

    # Changing

    def _cancel_replace(self, parameters: Parameters) -> Answer:
        """The new order is checked first; then the cancellation, then the placement, each with its own outcome."""
        mode = read.required(parameters, "cancelReplaceMode")
        if mode not in {"STOP_ON_FAILURE", "ALLOW_FAILURE"}:
            raise VenueError(-1130, "Data sent for parameter 'cancelReplaceMode' is not valid.")
        request = read_orders.new_order(parameters, self._exchange.symbols, self._ids)
        kind = read_orders.response_type(parameters, read_orders.default_response_type(request.order_type))
        reference = read.order_reference(parameters, "cancelOrderId", "cancelOrigClientOrderId")
        canceled_as = read.new_client_id(parameters, self._ids, "cancelNewClientOrderId")
        only = read_orders.cancel_restriction(parameters)
        is_over = self._is_over_order_limit(parameters)
        parameters.all_read()
        result: dict[str, Any] = {
            "cancelResult": "SUCCESS",
            "newOrderResult": "NOT_ATTEMPTED",
            "cancelResponse": None,
            "newOrderResponse": None,
        }
        try:
            orders = self._account.cancel(request.symbol, *reference, canceled_as, only)
            result["cancelResponse"] = wire.canceled(orders[0], canceled_as)
        except VenueError as refusal:
            result["cancelResult"], result["cancelResponse"] = "FAILURE", refusal.body()
            if mode == "STOP_ON_FAILURE":
                raise VenueError(-2022, "Order cancel-replace failed.", data=result) from refusal
        self._replace(request, kind, result, is_over)
        outcome = result["cancelResult"], result["newOrderResult"]
        if outcome == ("SUCCESS", "SUCCESS"):
            return result
        if outcome == ("FAILURE", "FAILURE"):
            raise VenueError(-2022, "Order cancel-replace failed.", data=result)
        raise VenueError(-2021, "Order cancel-replace partially failed.", 409, data=result)

    def _replace(self, request: NewOrder, kind: str, result: dict[str, Any], over: VenueError | None) -> None:
        try:
            if over is not None:
                raise over
            result["newOrderResponse"] = wire.placed(self._account.place(request), kind)
            result["newOrderResult"] = "SUCCESS"
            self._limits.count_order(self._exchange.now_ms())
        except VenueError as refusal:
            result["newOrderResult"], result["newOrderResponse"] = "FAILURE", refusal.body()

    def _is_over_order_limit(self, parameters: Parameters) -> VenueError | None:
        """Raises VenueError -1015, unless orderRateLimitExceededMode is CANCEL_ONLY: then it is given back."""
        mode = read.optional(parameters, "orderRateLimitExceededMode") or "DO_NOTHING"
        if mode not in {"DO_NOTHING", "CANCEL_ONLY"}:
            raise VenueError(-1130, "Data sent for parameter 'orderRateLimitExceededMode' is not valid.")
        try:
            self._limits.check_order(self._exchange.now_ms())
        except VenueError as refusal:
            if mode == "DO_NOTHING":
                raise
            return refusal
        return None

    def _amend(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, RULES)
        reference = read.order_reference(parameters)
        quantity = read.decimal8(parameters, "newQty")
        new_id = read.new_client_id(parameters, self._ids)
        parameters.all_read()
        order, orders, execution_id, old_id = self._account.amend(symbol, *reference, quantity, new_id)
        return wire.amended(order, orders, execution_id, old_id)

    def _amendments(self, parameters: Parameters) -> Answer:
        read.symbol_of(parameters, RULES)
        order_id = read.integer(parameters, "orderId")
        if order_id is None:
            raise unsupported_combination()
        rows = self._exchange.storage.amendments(
            order_id,
            read.integer(parameters, "fromExecutionId") or 0,
            read.limit_of(parameters, 500, MAX_ROWS_PER_QUERY),
        )
        return [wire.amendment(row) for row in rows]

    # Finding

    def _order(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, RULES)
        return wire.order_row(self._account.order(symbol, *read.order_reference(parameters)))

    def _open_orders(self, parameters: Parameters) -> Answer:
        symbol = read.optional_symbol(parameters, RULES)
        return [wire.order_row(order) for order in self._account.open_orders(symbol)]

    def _all_orders(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, RULES)
        order_id = read.integer(parameters, "orderId")
        start_ms, end_ms = read.time_range(parameters)
        limit = read.limit_of(parameters, 500, MAX_ROWS_PER_QUERY)
        orders = self._exchange.storage.orders(symbol, order_id, start_ms, end_ms, limit)
        return [wire.order_row(order) for order in orders]

    def _order_list(self, parameters: Parameters) -> Answer:
        list_id, client_id = _list_reference(parameters, "origClientOrderId")
        return wire.list_row(self._account.order_list(list_id, client_id))

    def _cancel_list(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, RULES)
        list_id, client_id = _list_reference(parameters, "listClientOrderId")
        canceled_as = read.new_client_id(parameters, self._ids)
        parameters.all_read()
        orders, canceled = self._account.cancel_list(symbol, list_id, client_id, canceled_as)
        return wire.canceled_list(orders, canceled, canceled_as)

    def _open_lists(self, _: Parameters) -> Answer:
        return [wire.list_row(orders) for orders in self._account.matching.lists.values()]

    def _all_lists(self, parameters: Parameters) -> Answer:
        from_id = read.integer(parameters, "fromId")
        start_ms, end_ms = read.time_range(parameters)
        if from_id is not None and (start_ms is not None or end_ms is not None):
            raise read.bad_combination()
        limit = read.limit_of(parameters, 500, MAX_ROWS_PER_QUERY)
        return [wire.list_row(one) for one in self._exchange.storage.order_lists(from_id, start_ms, end_ms, limit)]


def _list_reference(parameters: Parameters, client_name: str) -> tuple[int | None, str | None]:
    list_id, client_id = read.integer(parameters, "orderListId"), read.client_id(parameters, client_name)
    if list_id is None and client_id is None:
        raise VenueError(-1102, f"Param '{client_name}' or 'orderListId' must be sent, but both were empty/null!")
    return list_id, None if list_id is not None else client_id


def _open_weight(parameters: Parameters) -> int:
    return 6 if parameters.get("symbol") else 80


def _test_weight(parameters: Parameters) -> int:
    return 20 if parameters.get("computeCommissionRates", "").lower() == "true" else 1
