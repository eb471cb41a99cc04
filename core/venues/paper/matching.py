"""Our orders against the market's book, with price-time priority. Pure: events and the time come in, reports go out.

The market doesn't know us: published data stay as they are. A taker sweeps what the book displays, level by level; a
resting order waits behind the quantity displayed at its price when it was placed, and fills as maker when public
trades reach it or the other side's quote comes to its price. Contingent orders look at the price of the last public
trade. All arithmetic is on ints at scale 8.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from core.types.orders import Side
from core.venues.paper import errors, filters, lists, triggers
from core.venues.paper.balances import Balances
from core.venues.paper.book import MarketView
from core.venues.paper.errors import VenueError
from core.venues.paper.events import BookTicker, DepthDiff, MarketEvent, Trade
from core.venues.paper.klines import AveragePrice
from core.venues.paper.orders import (
    NO_LIST,
    Amendment,
    Contingency,
    Execution,
    ListStatusType,
    NewList,
    NewOrder,
    Order,
    OrderList,
    Prevention,
    Report,
    Status,
    TimeInForce,
    Type,
)
from core.venues.paper.planning import Plan, crosses, floor_to, is_beyond, opposite, plan, until
from core.venues.paper.rules import AVERAGE_PRICE_MINUTES, MAX_ORDER_AMENDS, MAX_ORDER_LISTS_PER_SYMBOL, SymbolRules
from core.venues.paper.working import FEE_DENOMINATOR, Counters, Working

__all__ = ["FEE_DENOMINATOR", "Counters", "Matching"]

INSUFFICIENT_BALANCES = "INSUFFICIENT_BALANCES"
STOP_PRICE_WOULD_TRIGGER_IMMEDIATELY = "STOP_PRICE_WOULD_TRIGGER_IMMEDIATELY"
WOULD_MATCH_IMMEDIATELY = "WOULD_MATCH_IMMEDIATELY"


class Matching(Working):
    """The matching core of one account. Each call gives the reports of what happened, in order."""

    def __init__(self, rules: dict[str, SymbolRules], balances: Balances, counters: Counters) -> None:
        super().__init__(rules, balances, counters)
        self.last_prices: dict[str, int] = {}
        self.averages = {symbol: AveragePrice(AVERAGE_PRICE_MINUTES) for symbol in rules}

    # Requests

    def place(self, request: NewOrder, now_ms: int) -> list[Report]:
        """Raises VenueError with Binance's code when the order is refused; then nothing has changed."""
        self._begin(now_ms)
        request, sweep = self.check(request)
        cost = self._cost(request, sweep)
        asset = self._asset(request)
        if not self.balances.can_lock(asset, cost):
            raise errors.insufficient_balance()
        order = self._make(request)
        self._hold(order, cost)
        self._report(Execution.NEW, order)
        self._start(order, sweep)
        return self._finish()

    def check(self, request: NewOrder, more: int = 0) -> tuple[NewOrder, Plan | None]:
        """All but the money: the request with its quantity known, and what it would trade with at once.

        Raises VenueError.
        """
        rules = self.rules.get(request.symbol)
        if rules is None:
            raise errors.invalid_symbol()
        if request.client_order_id in self._by_client_id:
            raise errors.duplicate_order()
        sweep = None if request.order_type.is_contingent else self._plan(request)
        if request.quote_quantity and sweep is not None:
            if not sweep.quantity:
                raise VenueError(-2010, "Order book liquidity is less than LOT_SIZE filter minimum quantity.")
            request = msgspec.structs.replace(request, quantity=sweep.quantity + sweep.wanted_lots)
        filters.check(rules, request, self._prices(request))
        filters.check_counts(request, self.open.values(), more)
        if self._would_take(request):
            raise errors.would_take()
        if self._would_trigger(request):
            raise errors.would_trigger()
        return request, sweep

    def place_list(self, request: NewList, now_ms: int) -> tuple[OrderList, list[Report]]:
        """Raises VenueError when any of the orders is refused; then nothing has changed."""
        self._begin(now_ms)
        first = request.orders[0]
        lists.check_composition(request)
        self._check_list(request)
        is_pair = request.contingency is Contingency.OCO
        if is_pair and not lists.has_right_prices(request.orders, self.reference_price(first.symbol)):
            raise errors.wrong_pair_prices()
        working = request.orders if is_pair else request.orders[:1]
        sweeps = [self.check(one, more)[1] for more, one in enumerate(working)]
        for more, one in enumerate(request.orders[len(working) :], len(working)):
            rules = self.rules[one.symbol]
            filters.check(rules, one, self._prices(one))
            filters.check_counts(one, self.open.values(), more)
        costs = [self._cost(one, sweep) for one, sweep in zip(working, sweeps, strict=True)]
        if not self.balances.can_lock(self._asset(first), max(costs)):
            raise errors.insufficient_balance()
        orders = self._open_list(request, len(working))
        made = [self.open[order_id] for order_id in orders.order_ids]
        # The costlier leg holds the money of both: only one of them can trade.
        self._hold(made[costs.index(max(costs))], max(costs))
        for order in made:
            self._report(Execution.NEW, order)
        self._update_list(orders, ListStatusType.EXEC_STARTED)
        for order, sweep in zip(made[: len(working)], sweeps, strict=True):
            self._start(order, sweep)
        return orders, self._finish()

    def cancel(self, order: Order, canceled_as: str, now_ms: int) -> list[Report]:
        """Cancel one open order, and with it the list that it is part of; its own report comes first."""
        self._begin(now_ms)
        orders = self.lists.get(order.list_id)
        others = [self.open[one] for one in orders.order_ids if one in self.open] if orders else []
        for one in [order, *(other for other in others if other is not order)]:
            if one.status.is_open:
                self._close(one, Status.CANCELED, Execution.CANCELED, canceled_as)
        return self._finish()

    def amend(self, order: Order, quantity: int, client_order_id: str, now_ms: int) -> list[Report]:
        """Reduce an open order's quantity; it keeps its place. Of a pair both legs are reduced.

        Raises VenueError -2038, -2010 or -1013.
        """
        self._begin(now_ms)
        if client_order_id != order.client_order_id and client_order_id in self._by_client_id:
            raise errors.duplicate_order()
        if quantity == order.quantity:
            raise VenueError(-2038, "The requested action would change no state; rejecting.")
        if quantity > order.quantity:
            raise VenueError(-2038, "Order amend (quantity increase) is not supported.")
        if order.amendments >= MAX_ORDER_AMENDS:
            raise VenueError(-2038, "Filter failure: MAX_NUM_ORDER_AMENDS")
        if quantity <= order.executed:
            raise errors.filter_failure("LOT_SIZE")
        changed = msgspec.structs.replace(order.as_request(), quantity=quantity)
        filters.check(self.rules[order.symbol], changed, self._prices(changed))
        for rival in self.rivals_of(order):
            self._reduce(rival, quantity, rival.client_order_id)
        self._reduce(order, quantity, client_order_id)
        self._move_pair_money(order)
        return self._finish()

    # Market

    def on_market(self, event: MarketEvent, now_ms: int) -> list[Report]:
        """Apply one market event to the book, then to our orders."""
        self._begin(now_ms)
        if isinstance(event, Trade):
            self._on_trade(event)
            return self._finish()
        view = self.views[event.symbol]
        if isinstance(event, BookTicker):
            view.apply_ticker(event)
        else:
            view.apply_depth(event)
        for side in (Side.BUY, Side.SELL):
            if self._resting[(event.symbol, side)]:
                self._shrink_queues(view, side, event)
                self._match_quotes(view, side)
        return self._finish()

    def load_books_changed(self, symbol: str, now_ms: int) -> list[Report]:
        """Match resting orders against a book that was just loaded, and start what was due when the venue stopped."""
        self._begin(now_ms)
        for side in (Side.BUY, Side.SELL):
            self._match_quotes(self.views[symbol], side)
        return self._finish()

    def reference_price(self, symbol: str) -> int:
        """The last public trade's price; the best bid (or ask) before the first one, 0 in an empty market."""
        view = self.views[symbol]
        best = view.best_displayed(Side.BUY) or view.best_displayed(Side.SELL)
        return self.last_prices.get(symbol) or (best[0] if best else 0)

    def average_price(self, symbol: str) -> int:
        """The volume-weighted price of the last minutes, or the reference price when nothing traded."""
        return self.averages[symbol].price(self._now_ms) or self.reference_price(symbol)

    def _on_trade(self, trade: Trade) -> None:
        """A public trade reaches our orders at its price behind their queues, and those at better prices at once;
        then it triggers what waited for its price."""
        side = Side.BUY if trade.buyer_is_maker else Side.SELL
        step = self.rules[trade.symbol].step
        budget = trade.quantity
        queue_consumed = 0
        for order in list(self._resting[(trade.symbol, side)]):
            if is_beyond(order.price, trade.price, side):
                break
            if order.price != trade.price:
                order.ahead = 0
            else:
                eaten = min(budget, max(0, order.ahead - queue_consumed))
                queue_consumed += eaten
                budget -= eaten
                order.ahead = max(0, order.ahead - queue_consumed)
            lots = floor_to(min(budget, order.visible), step)
            if lots and order.ahead == 0 and order.status.is_open:
                budget -= lots
                self._fill(order, order.price, lots, is_maker=True)
        self.last_prices[trade.symbol] = trade.price
        self.averages[trade.symbol].add(trade)
        self._run_triggers(trade.symbol, trade.price)

    def _run_triggers(self, symbol: str, price: int) -> None:
        waiting = self._contingent[symbol]
        for order in list(waiting.values()):
            if order.order_id not in waiting:
                continue
            before = order.extreme, order.trailing_ms
            if triggers.triggers(order, price, self._now_ms):
                self._trigger(order)
            elif (order.extreme, order.trailing_ms) != before:
                self._touched[order.order_id] = order

    def _shrink_queues(self, view: MarketView, side: Side, event: BookTicker | DepthDiff) -> None:
        """No more can stand ahead of us at a price than the market displays there."""
        if isinstance(event, BookTicker):
            best = event.bid if side is Side.BUY else event.ask
            for order in self._resting[(view.symbol, side)]:
                if is_beyond(order.price, best, side):
                    break
                order.ahead = min(order.ahead, view.displayed(side, order.price))
            return
        touched = dict(event.bids if side is Side.BUY else event.asks)
        for order in self._resting[(view.symbol, side)]:
            if order.price in touched:
                order.ahead = min(order.ahead, view.displayed(side, order.price))

    def _match_quotes(self, view: MarketView, side: Side) -> None:
        """The other side's quote came to our price: it trades with us, at our price, up to what it displays."""
        step = self.rules[view.symbol].step
        other = opposite(side)
        for order in list(self._resting[(view.symbol, side)]):
            for price, available in list(until(view, other, order.price)):
                lots = floor_to(min(available, order.remaining), step)
                if lots and order.status.is_open:
                    view.take(other, price, lots)
                    self._fill(order, order.price, lots, is_maker=True)
                if not order.remaining:
                    break
            if order.remaining:
                break

    # Checks

    def _prices(self, request: NewOrder) -> filters.Prices:
        return filters.Prices(
            last=self.reference_price(request.symbol),
            average=self.average_price(request.symbol),
            opposite_best=self.views[request.symbol].best(opposite(request.side)),
        )

    def _would_take(self, request: NewOrder) -> bool:
        """Whether a LIMIT_MAKER would trade at once."""
        if request.order_type is not Type.LIMIT_MAKER:
            return False
        own = self._opposite_resting(request.symbol, request.side)
        market = self.views[request.symbol].best(opposite(request.side))
        bests = (market, own[0].price if own else None)
        return any(best is not None and crosses(request.side, request.price, best) for best in bests)

    def _would_trigger(self, request: NewOrder) -> bool:
        if not request.order_type.is_contingent or request.trailing_delta:
            return False
        return triggers.reaches_stop(request, self.reference_price(request.symbol))

    def _check_list(self, request: NewList) -> None:
        symbol = request.orders[0].symbol
        if symbol not in self.rules:
            raise errors.invalid_symbol()
        names = [one.client_order_id for one in request.orders]
        is_taken = any(name in self._by_client_id for name in names)
        is_list_taken = any(one.client_list_id == request.client_list_id for one in self.lists.values())
        if is_taken or is_list_taken or len(set(names)) < len(names):
            raise errors.duplicate_order()
        if sum(one.symbol == symbol for one in self.lists.values()) >= MAX_ORDER_LISTS_PER_SYMBOL:
            raise errors.filter_failure("MAX_NUM_ORDER_LISTS")

    def _asset(self, request: NewOrder) -> str:
        rules = self.rules[request.symbol]
        return rules.quote if request.side is Side.BUY else rules.base

    def _plan(self, request: NewOrder, quantity: int | None = None) -> Plan:
        if request.order_type is Type.LIMIT_MAKER:
            return Plan([])
        return plan(
            self.views[request.symbol],
            self._opposite_resting(request.symbol, request.side),
            request.side,
            None if request.order_type.is_market else request.price,
            self.rules[request.symbol].step,
            request.self_trade_prevention,
            quantity=request.quantity if quantity is None else quantity,
            budget=request.quote_quantity,
        )

    def _cost(self, request: NewOrder, sweep: Plan | None) -> int:
        """What the order must hold when it begins."""
        if sweep is None or not request.order_type.is_market:
            return self._need(request, request.quantity)
        if request.side is Side.BUY:
            return sweep.cost
        return sweep.quantity if request.quote_quantity else request.quantity

    # Running

    def _finish(self) -> list[Report]:
        """Start what became due, then give the reports."""
        while self._due:
            self._start_pending(self._due.pop(0))
        return self._end()

    def _start(self, order: Order, sweep: Plan | None) -> None:
        """Begin an order that has its money: wait for the trigger, or trade and rest."""
        if sweep is not None:
            self._run(order, sweep)
            return
        if order.trailing_delta:
            triggers.triggers(order, self.reference_price(order.symbol), self._now_ms)
            self._touched[order.order_id] = order
        self._contingent[order.symbol][order.order_id] = order

    def _trigger(self, order: Order) -> None:
        """A contingent order begins to work. It expires when what it holds, and what is free, don't pay for it."""
        del self._contingent[order.symbol][order.order_id]
        self._expire_rivals(order)
        order.is_working = True
        order.working_ms = order.updated_ms = self._now_ms
        self._report(Execution.NEW, order)
        self._let_go(order, order.locked)
        request = order.as_request()
        sweep = self._plan(request)
        cost = self._cost(request, sweep)
        if not self.balances.can_lock(self._asset(request), cost):
            self._close(order, Status.EXPIRED, Execution.EXPIRED, reason=INSUFFICIENT_BALANCES)
            return
        self._hold(order, cost)
        self._run(order, sweep)

    def _run(self, order: Order, sweep: Plan) -> None:
        if order.time_in_force is TimeInForce.FOK and sweep.quantity < order.quantity:
            self._close(order, Status.EXPIRED, Execution.EXPIRED)
            return
        for step in sweep.steps:
            if step.is_prevented:
                self._expire_maker(order, step.own, step.price)
            elif step.own is None:
                self.views[order.symbol].take(opposite(order.side), step.price, step.quantity)
                self._fill(order, step.price, step.quantity, is_maker=False)
            elif step.own.status.is_open:
                self._fill(step.own, step.price, step.quantity, is_maker=True)
                self._fill(order, step.price, step.quantity, is_maker=False)
        if sweep.ended_by is not None:
            # With EXPIRE_BOTH the match was recorded as its maker expired.
            is_recorded = order.self_trade_prevention is Prevention.EXPIRE_BOTH
            match = None if is_recorded else self._prevent(order, sweep.ended_by, sweep.ended_by.price)
            self._close(order, Status.EXPIRED_IN_MATCH, Execution.TRADE_PREVENTION, prevented=match)
        if not order.status.is_open:
            return
        if order.time_in_force is TimeInForce.GTC and not order.order_type.is_market:
            self._rest(order)
        else:
            self._close(order, Status.EXPIRED, Execution.EXPIRED)

    def _expire_maker(self, taker: Order, maker: Order | None, price: int) -> None:
        assert maker is not None
        if maker.status.is_open:
            match = self._prevent(taker, maker, price)
            self._close(maker, Status.EXPIRED_IN_MATCH, Execution.TRADE_PREVENTION, prevented=match)

    # Order lists

    def _open_list(self, request: NewList, working: int) -> OrderList:
        list_id = self.counters.list_id
        self.counters.list_id += 1
        made = [
            self._make(one, list_id=list_id, status=Status.NEW if number < working else Status.PENDING_NEW)
            for number, one in enumerate(request.orders)
        ]
        orders = self.lists[list_id] = OrderList(
            list_id=list_id,
            contingency=request.contingency,
            client_list_id=request.client_list_id,
            symbol=request.orders[0].symbol,
            order_ids=tuple(one.order_id for one in made),
            client_ids=tuple(one.client_order_id for one in made),
            created_ms=self._now_ms,
            updated_ms=self._now_ms,
        )
        return orders

    def _start_pending(self, orders: OrderList) -> None:
        """The working order has filled: its pending ones get their money and begin, or all are rejected."""
        pending = [self.open[one] for one in orders.order_ids[1:] if one in self.open]
        if not pending:
            return
        requests = [order.as_request() for order in pending]
        sweeps = [None if one.order_type.is_contingent else self._plan(one) for one in requests]
        costs = [self._cost(one, sweep) for one, sweep in zip(requests, sweeps, strict=True)]
        reason = self._refusal(requests, max(costs))
        for order in pending:
            if reason:
                self._close(order, Status.REJECTED, Execution.REJECTED, reason=reason)
                continue
            order.status = Status.NEW
            order.updated_ms = self._now_ms
            if not order.order_type.is_contingent:
                order.is_working, order.working_ms = True, self._now_ms
        if reason:
            return
        self._hold(pending[costs.index(max(costs))], max(costs))
        for order in pending:
            self._report(Execution.NEW, order)
        self._update_list(orders, ListStatusType.EXEC_STARTED)
        for order, sweep in zip(pending, sweeps, strict=True):
            if order.status.is_open:
                self._start(order, sweep)

    def _refusal(self, requests: Sequence[NewOrder], cost: int) -> str:
        """Why pending orders can't begin now; empty when they can."""
        if any(self._would_trigger(one) for one in requests):
            return STOP_PRICE_WOULD_TRIGGER_IMMEDIATELY
        if any(self._would_take(one) for one in requests):
            return WOULD_MATCH_IMMEDIATELY
        if not self.balances.can_lock(self._asset(requests[0]), cost):
            return INSUFFICIENT_BALANCES
        return ""

    # Amending

    def _reduce(self, order: Order, quantity: int, client_order_id: str) -> None:
        before = order.client_order_id, order.quantity
        order.quantity = quantity
        if order.iceberg_quantity > quantity:
            order.iceberg_quantity = 0
        order.visible = min(order.visible, order.remaining)
        order.updated_ms = self._now_ms
        order.amendments += 1
        self._rename(order, client_order_id)
        if order.list_id == NO_LIST:
            is_estimate = order.order_type.is_market and order.side is Side.BUY
            part = order.locked * quantity // before[1]
            self._let_go(
                order, order.locked - (part if is_estimate else self._need(order.as_request(), order.remaining))
            )
        change = Amendment(
            execution_id=self.counters.execution_id,
            order_id=order.order_id,
            symbol=order.symbol,
            old_client_order_id=before[0],
            new_client_order_id=client_order_id,
            old_quantity=before[1],
            new_quantity=quantity,
            time_ms=self._now_ms,
        )
        self._report(Execution.REPLACED, order, canceled_as=client_order_id, amendment=change)

    def _rename(self, order: Order, client_order_id: str) -> None:
        if client_order_id == order.client_order_id:
            return
        del self._by_client_id[order.client_order_id]
        self._by_client_id[client_order_id] = order
        orders = self.lists.get(order.list_id)
        if orders is not None:
            names = zip(orders.client_ids, orders.order_ids, strict=True)
            orders.client_ids = tuple(client_order_id if one == order.order_id else name for name, one in names)
            self._update_list(orders, ListStatusType.UPDATED)
        order.client_order_id = client_order_id

    def _move_pair_money(self, order: Order) -> None:
        """After a list's order was reduced: it, or the pair it is part of, holds no more than it needs."""
        if order.list_id == NO_LIST or order.status is Status.PENDING_NEW:
            return
        legs = [order, *self.rivals_of(order)]
        held = sum(leg.locked for leg in legs)
        needed = max(self._need(leg.as_request(), leg.remaining) for leg in legs)
        holder = max(legs, key=lambda leg: leg.locked)
        self._let_go(holder, max(0, held - needed))
