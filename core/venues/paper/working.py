"""Our open orders with the money they hold, and the reports of what happens to them. Pure.

What is locked is always the sum of what open orders hold. Of a pair of which only one can trade, the costlier leg
holds the money of both.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable

import msgspec

from core.types.orders import Side
from core.venues.paper.balances import Balances
from core.venues.paper.book import MarketView
from core.venues.paper.decimals import quote_amount
from core.venues.paper.orders import (
    NO_LIST,
    Amendment,
    Execution,
    Fill,
    ListOrderStatus,
    ListReport,
    ListStatusType,
    NewOrder,
    Order,
    OrderList,
    PreventedMatch,
    Report,
    Status,
)
from core.venues.paper.planning import opposite
from core.venues.paper.rules import RULES, SymbolRules

FEE_DENOMINATOR = 1_000
"""One thousandth, 0.1 %, for makers and takers, in the asset received."""


class Counters(msgspec.Struct):
    """The next ids; they never go back."""

    order_id: int = 1
    trade_id: int = 1
    execution_id: int = 1
    list_id: int = 1
    match_id: int = 1


class Working:
    """Open orders by id, by price and by trigger; balances; reports. Base of the matching core."""

    def __init__(self, rules: dict[str, SymbolRules], balances: Balances, counters: Counters) -> None:
        self.rules = rules
        self.balances = balances
        self.counters = counters
        self.views = {symbol: MarketView(symbol) for symbol in rules}
        self.open: dict[int, Order] = {}
        self.lists: dict[int, OrderList] = {}
        self._by_client_id: dict[str, Order] = {}
        self._resting: dict[tuple[str, Side], list[Order]] = {
            (symbol, side): [] for symbol in rules for side in (Side.BUY, Side.SELL)
        }
        self._contingent: dict[str, dict[int, Order]] = {symbol: {} for symbol in rules}
        self._due: list[OrderList] = []
        self._reports: list[Report] = []
        self._list_reports: list[ListReport] = []
        self._touched: dict[int, Order] = {}
        self._now_ms = 0

    def restore(self, orders: Iterable[Order], lists: Iterable[OrderList] = ()) -> None:
        """Take back the orders that were open before a restart; call it after the start books are loaded. Time
        priority among our own is kept; the queue at the market is joined at its end."""
        self.lists = {one.list_id: one for one in lists}
        for order in sorted(orders, key=lambda one: one.order_id):
            self._open(order)
            if order.symbol not in self.rules or order.status is Status.PENDING_NEW:
                continue
            if not order.is_working:
                self._contingent[order.symbol][order.order_id] = order
            else:
                self._rest(order)

    def find_open(self, symbol: str, order_id: int | None, client_order_id: str | None) -> Order | None:
        """When both ids are given, both must name the same order."""
        order = self.open.get(order_id) if order_id is not None else self._by_client_id.get(client_order_id or "")
        if order is None or order.symbol != symbol:
            return None
        return order if client_order_id is None or order.client_order_id == client_order_id else None

    def take_list_reports(self) -> list[ListReport]:
        """What happened to order lists since the last call."""
        reports, self._list_reports = self._list_reports, []
        return reports

    def take_touched(self) -> list[Order]:
        """Orders that may have changed after their last report (the money they hold, a trailing order's extreme) since
        the last call."""
        touched, self._touched = self._touched, {}
        return list(touched.values())

    # One order's life

    def _make(self, request: NewOrder, *, list_id: int = NO_LIST, status: Status = Status.NEW) -> Order:
        """Give a request an id and open it; it holds no money yet."""
        is_working = not request.order_type.is_contingent and status is Status.NEW
        order = Order(
            order_id=self.counters.order_id,
            client_order_id=request.client_order_id,
            symbol=request.symbol,
            side=request.side,
            order_type=request.order_type,
            time_in_force=request.time_in_force,
            price=request.price,
            quantity=request.quantity,
            quote_quantity=request.quote_quantity,
            status=status,
            created_ms=self._now_ms,
            updated_ms=self._now_ms,
            stop_price=request.stop_price,
            trailing_delta=request.trailing_delta,
            iceberg_quantity=request.iceberg_quantity,
            self_trade_prevention=request.self_trade_prevention,
            strategy_id=request.strategy_id,
            strategy_type=request.strategy_type,
            list_id=list_id,
            is_working=is_working,
            working_ms=self._now_ms if is_working else -1,
        )
        self.counters.order_id += 1
        self._open(order)
        return order

    def _open(self, order: Order) -> None:
        self.open[order.order_id] = order
        self._by_client_id[order.client_order_id] = order

    def _held_asset(self, order: Order) -> str:
        rules = RULES[order.symbol]
        return rules.quote if order.side is Side.BUY else rules.base

    def _hold(self, order: Order, amount: int) -> None:
        self.balances.lock(self._held_asset(order), amount)
        order.locked += amount
        self._touched[order.order_id] = order

    def _let_go(self, order: Order, amount: int) -> None:
        if amount:
            self.balances.unlock(self._held_asset(order), amount)
            order.locked -= amount
            self._touched[order.order_id] = order

    def _rest(self, order: Order) -> None:
        order.ahead = self.views[order.symbol].available(order.side, order.price)
        order.visible = min(order.iceberg_quantity or order.remaining, order.remaining)
        sign = -1 if order.side is Side.BUY else 1
        insort(self._resting[(order.symbol, order.side)], order, key=lambda one: (sign * one.price, one.order_id))

    def _fill(self, order: Order, price: int, quantity: int, *, is_maker: bool) -> None:
        rules = self.rules[order.symbol]
        notional = quote_amount(price, quantity)
        assert 0 < quantity <= order.remaining
        self._expire_rivals(order)
        if order.side is Side.BUY:
            reserved = notional if order.order_type.is_market else quote_amount(order.price, quantity)
            self.balances.spend_locked(rules.quote, notional)
            self.balances.unlock(rules.quote, reserved - notional)
            order.locked -= reserved
            received, asset = quantity, rules.base
        else:
            self.balances.spend_locked(rules.base, quantity)
            order.locked -= quantity
            received, asset = notional, rules.quote
        commission = received // FEE_DENOMINATOR
        self.balances.credit(asset, received - commission)
        order.executed += quantity
        order.cumulative_quote += notional
        order.updated_ms = self._now_ms
        order.status = Status.PARTIALLY_FILLED if order.remaining else Status.FILLED
        if is_maker:
            self._shrink_visible(order, quantity)
        fill = Fill(
            trade_id=self.counters.trade_id,
            order_id=order.order_id,
            symbol=order.symbol,
            side=order.side,
            price=price,
            quantity=quantity,
            quote_quantity=notional,
            commission=commission,
            commission_asset=asset,
            is_maker=is_maker,
            time_ms=self._now_ms,
            list_id=order.list_id,
        )
        self.counters.trade_id += 1
        if not order.remaining:
            self._release(order)
        self._report(Execution.TRADE, order, fill)
        if not order.remaining:
            self._after_close(order)

    def _shrink_visible(self, order: Order, quantity: int) -> None:
        """An iceberg whose visible part has traded shows the next one, behind what is displayed there now."""
        order.visible -= quantity
        if order.visible <= 0 and order.remaining:
            order.visible = min(order.iceberg_quantity or order.remaining, order.remaining)
            order.ahead = self.views[order.symbol].available(order.side, order.price)

    def _close(
        self,
        order: Order,
        status: Status,
        execution: Execution,
        canceled_as: str | None = None,
        *,
        prevented: PreventedMatch | None = None,
        reason: str = "NONE",
    ) -> None:
        order.status = status
        order.updated_ms = self._now_ms
        self._release(order)
        self._report(execution, order, canceled_as=canceled_as, prevented=prevented, reason=reason)
        self._after_close(order)

    def _release(self, order: Order) -> None:
        """Give back what is still locked and forget the order: it is no longer open."""
        self._let_go(order, order.locked)
        if self.open.pop(order.order_id, None) is None:
            return
        if self._by_client_id.get(order.client_order_id) is order:
            del self._by_client_id[order.client_order_id]
        if order.symbol in self.rules:
            self._contingent[order.symbol].pop(order.order_id, None)
            resting = self._resting[(order.symbol, order.side)]
            if any(one is order for one in resting):
                resting.remove(order)

    def _prevent(self, taker: Order, maker: Order, price: int) -> PreventedMatch:
        mode = taker.self_trade_prevention
        match = PreventedMatch(
            match_id=self.counters.match_id,
            symbol=taker.symbol,
            taker_order_id=taker.order_id,
            maker_order_id=maker.order_id,
            price=price,
            prevention=mode,
            taker_quantity=taker.remaining if mode.ends_taker else 0,
            maker_quantity=maker.remaining if mode.ends_maker else 0,
            time_ms=self._now_ms,
        )
        self.counters.match_id += 1
        for order, quantity in ((taker, match.taker_quantity), (maker, match.maker_quantity)):
            if quantity:
                order.prevented += quantity
                order.prevented_match_id = match.match_id
        return match

    # Order lists

    def rivals_of(self, order: Order) -> list[Order]:
        """The open legs of which only this one or another may trade."""
        orders = self.lists.get(order.list_id)
        if orders is None:
            return []
        return [self.open[other] for other in orders.rivals(order.order_id) if other in self.open]

    def _expire_rivals(self, order: Order) -> None:
        """This leg trades or is triggered: the other one goes, and its money is this one's, as far as it needs it."""
        rivals = self.rivals_of(order)
        for rival in rivals:
            order.locked, rival.locked = order.locked + rival.locked, 0
        for rival in rivals:
            self._close(rival, Status.EXPIRED, Execution.EXPIRED)
        if rivals:
            self._let_go(order, max(0, order.locked - self._need(order.as_request(), order.remaining)))

    def _need(self, request: NewOrder, quantity: int) -> int:
        """What an order that doesn't trade at once must hold."""
        if request.side is Side.SELL:
            return quantity
        if not request.order_type.is_market:
            return quote_amount(request.price, quantity)
        return quote_amount(request.stop_price or self.reference_price(request.symbol), quantity)

    def reference_price(self, symbol: str) -> int:
        """The price that stops and filters look at: the last trade's."""
        raise NotImplementedError

    def _after_close(self, order: Order) -> None:
        """What an order's end means for its list. Who cancels or rejects one does so with the whole list."""
        orders = self.lists.get(order.list_id)
        if orders is None:
            return
        waiting = [self.open[one] for one in orders.pending(order.order_id) if one in self.open]
        if waiting and order.status is Status.FILLED:
            self._due.append(orders)
        elif order.status in {Status.EXPIRED, Status.EXPIRED_IN_MATCH}:
            # A leg that is EXPIRED has lost against its rival, which goes on.
            rivals = self.rivals_of(order) if order.status is Status.EXPIRED_IN_MATCH else []
            for other in [*waiting, *rivals]:
                if other.status.is_open:
                    self._close(other, Status.EXPIRED, Execution.EXPIRED)
        if orders.is_open and not any(one in self.open for one in orders.order_ids):
            self._update_list(orders, ListStatusType.ALL_DONE)
            del self.lists[orders.list_id]

    def _update_list(self, orders: OrderList, status_type: ListStatusType) -> None:
        orders.status_type = status_type
        is_done = status_type is ListStatusType.ALL_DONE
        orders.order_status = ListOrderStatus.ALL_DONE if is_done else ListOrderStatus.EXECUTING
        orders.updated_ms = self._now_ms
        self._list_reports.append(ListReport(msgspec.structs.replace(orders), self._now_ms))

    # Reports

    def _begin(self, now_ms: int) -> None:
        self._now_ms = max(now_ms, self._now_ms)
        self._reports = []

    def _end(self) -> list[Report]:
        reports, self._reports = self._reports, []
        return reports

    def _report(
        self,
        execution: Execution,
        order: Order,
        fill: Fill | None = None,
        *,
        canceled_as: str | None = None,
        prevented: PreventedMatch | None = None,
        reason: str = "NONE",
        amendment: Amendment | None = None,
    ) -> None:
        copy = msgspec.structs.replace(order)
        execution_id = self.counters.execution_id
        self._reports.append(
            Report(execution_id, execution, copy, fill, self._now_ms, canceled_as, prevented, reason, amendment)
        )
        self.counters.execution_id += 1

    def _opposite_resting(self, symbol: str, side: Side) -> list[Order]:
        return self._resting[(symbol, opposite(side))]
