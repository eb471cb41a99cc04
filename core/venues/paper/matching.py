"""Our orders against the market's book, with price-time priority. Pure: events and the time come in, reports go out.

The market doesn't know us: published data stay as they are. A taker sweeps what the book displays, level by level; a
resting order waits behind the quantity displayed at its price when it was placed, and fills as maker when public
trades reach it or the other side's quote comes to its price. All arithmetic is on ints at scale 8.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable

import msgspec

from core.types.orders import Side
from core.venues.paper import errors
from core.venues.paper.balances import Balances
from core.venues.paper.book import MarketView
from core.venues.paper.decimals import UNIT, quote_amount
from core.venues.paper.events import BookTicker, DepthDiff, Level, MarketEvent, Trade
from core.venues.paper.orders import Execution, Fill, NewOrder, Order, Report, Status, TimeInForce, Type
from core.venues.paper.rules import MAX_OPEN_ORDERS_PER_SYMBOL, RULES, SymbolRules

FEE_DENOMINATOR = 1_000
"""One thousandth, 0.1 %, for makers and takers, in the asset received."""


class Counters(msgspec.Struct):
    """The next ids; they never go back."""

    order_id: int = 1
    trade_id: int = 1
    execution_id: int = 1


class Matching:
    """The matching core of one account. Each call gives the reports of what happened, in order."""

    def __init__(self, rules: dict[str, SymbolRules], balances: Balances, counters: Counters) -> None:
        self.rules = rules
        self.balances = balances
        self.counters = counters
        self.views = {symbol: MarketView(symbol) for symbol in rules}
        self.open: dict[int, Order] = {}
        self._by_client_id: dict[str, Order] = {}
        self._resting: dict[tuple[str, Side], list[Order]] = {
            (symbol, side): [] for symbol in rules for side in (Side.BUY, Side.SELL)
        }
        self._reports: list[Report] = []
        self._now_ms = 0

    def restore(self, orders: Iterable[Order]) -> None:
        """Take back the orders that rested before a restart; call it after the start books are loaded. Time priority
        among our own is kept; the queue at the market is joined at its end."""
        for order in sorted(orders, key=lambda one: one.order_id):
            if order.symbol in self.rules:
                self._rest(order)
            else:
                self.open[order.order_id] = order
                self._by_client_id[order.client_order_id] = order

    # Requests

    def place(self, request: NewOrder, now_ms: int) -> list[Report]:
        """Raises VenueError with Binance's code when the order is refused; then nothing has changed."""
        self._begin(now_ms)
        rules = self.rules.get(request.symbol)
        if rules is None:
            raise errors.invalid_symbol()
        if request.client_order_id in self._by_client_id:
            raise errors.duplicate_order()
        request = self._with_quantity(rules, request)
        self._check(rules, request)
        sweep = self._plan(rules, request)
        order = self._accept(rules, request, sweep)
        is_kill = request.time_in_force is TimeInForce.FOK and sum(taken for _, taken in sweep) < order.quantity
        if not is_kill:
            self._prevent_self_trades(order, sweep)
            for price, quantity in sweep:
                self.views[order.symbol].take(_opposite(order.side), price, quantity)
                self._fill(order, price, quantity, is_maker=False)
        if not order.status.is_open:
            return self._end()
        if request.time_in_force is TimeInForce.GTC and request.order_type is not Type.MARKET:
            self._rest(order)
        else:
            self._close(order, Status.EXPIRED, Execution.EXPIRED)
        return self._end()

    def cancel(self, order: Order, canceled_as: str, now_ms: int) -> list[Report]:
        """Cancel one open order."""
        self._begin(now_ms)
        self._close(order, Status.CANCELED, Execution.CANCELED, canceled_as)
        return self._end()

    def find_open(self, symbol: str, order_id: int | None, client_order_id: str | None) -> Order | None:
        """When both ids are given, both must name the same order."""
        order = self.open.get(order_id) if order_id is not None else self._by_client_id.get(client_order_id or "")
        if order is None or order.symbol != symbol:
            return None
        return order if client_order_id is None or order.client_order_id == client_order_id else None

    # Market

    def on_market(self, event: MarketEvent, now_ms: int) -> list[Report]:
        """Apply one market event to the book, then to our resting orders."""
        self._begin(now_ms)
        if isinstance(event, Trade):
            self._on_trade(event)
            return self._end()
        view = self.views[event.symbol]
        if isinstance(event, BookTicker):
            view.apply_ticker(event)
        else:
            view.apply_depth(event)
        for side in (Side.BUY, Side.SELL):
            if self._resting[(event.symbol, side)]:
                self._shrink_queues(view, side, event)
                self._match_quotes(view, side)
        return self._end()

    def load_books_changed(self, symbol: str, now_ms: int) -> list[Report]:
        """Match resting orders against a book that was just loaded."""
        self._begin(now_ms)
        for side in (Side.BUY, Side.SELL):
            self._match_quotes(self.views[symbol], side)
        return self._end()

    def _on_trade(self, trade: Trade) -> None:
        """A public trade reaches our orders at its price behind their queues, and those at better prices at once."""
        side = Side.BUY if trade.buyer_is_maker else Side.SELL
        orders = self._resting[(trade.symbol, side)]
        budget = trade.quantity
        queue_consumed = 0
        for order in list(orders):
            if _is_beyond(order.price, trade.price, side):
                break
            if order.price != trade.price:
                order.ahead = 0
            else:
                step = min(budget, max(0, order.ahead - queue_consumed))
                queue_consumed += step
                budget -= step
                order.ahead = max(0, order.ahead - queue_consumed)
            lots = _floor(min(budget, order.remaining), self.rules[trade.symbol].step)
            if lots and order.ahead == 0:
                budget -= lots
                self._fill(order, order.price, lots, is_maker=True)

    def _shrink_queues(self, view: MarketView, side: Side, event: BookTicker | DepthDiff) -> None:
        """No more can stand ahead of us at a price than the market displays there."""
        if isinstance(event, BookTicker):
            best = event.bid if side is Side.BUY else event.ask
            for order in self._resting[(view.symbol, side)]:
                if _is_beyond(order.price, best, side):
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
        other = _opposite(side)
        for order in list(self._resting[(view.symbol, side)]):
            for price, available in list(_until(view, other, order.price)):
                lots = _floor(min(available, order.remaining), step)
                if lots:
                    view.take(other, price, lots)
                    self._fill(order, order.price, lots, is_maker=True)
                if not order.remaining:
                    break
            if order.remaining:
                break

    # One order's life

    def _with_quantity(self, rules: SymbolRules, request: NewOrder) -> NewOrder:
        """A MARKET order by quoteOrderQty becomes one by quantity: as much as the money buys of the displayed book."""
        if not request.quote_quantity:
            return request
        budget, quantity = request.quote_quantity, 0
        for price, available in self.views[request.symbol].levels(_opposite(request.side)):
            lots = _floor(min(available, budget * UNIT // price), rules.step)
            quantity += lots
            budget -= quote_amount(price, lots)
            if lots < _floor(available, rules.step):
                break
        return msgspec.structs.replace(request, quantity=quantity)

    def _check(self, rules: SymbolRules, request: NewOrder) -> None:
        is_market = request.order_type is Type.MARKET
        view = self.views[request.symbol]
        opposite_best = view.best(_opposite(request.side))
        if not is_market:
            rules.check_price(request.price)
        rules.check_quantity(request.quantity, is_market)
        reference = opposite_best if is_market else request.price
        if reference is not None:
            rules.check_notional(reference, request.quantity, is_market)
        ours = len(self._resting[(request.symbol, Side.BUY)]) + len(self._resting[(request.symbol, Side.SELL)])
        if ours >= MAX_OPEN_ORDERS_PER_SYMBOL:
            raise errors.filter_failure("MAX_NUM_ORDERS")
        if request.order_type is Type.LIMIT_MAKER:
            own = self._resting[(request.symbol, _opposite(request.side))]
            for best in (opposite_best, own[0].price if own else None):
                if best is not None and _crosses(request.side, request.price, best):
                    raise errors.would_take()

    def _plan(self, rules: SymbolRules, request: NewOrder) -> list[Level]:
        """The displayed levels that the order would take now, best first."""
        if request.order_type is Type.LIMIT_MAKER:
            return []
        view = self.views[request.symbol]
        limit = None if request.order_type is Type.MARKET else request.price
        remaining, sweep = request.quantity, []
        for price, available in _until(view, _opposite(request.side), limit):
            lots = _floor(min(available, remaining), rules.step)
            if lots:
                sweep.append((price, lots))
                remaining -= lots
            if not remaining:
                break
        return sweep

    def _accept(self, rules: SymbolRules, request: NewOrder, sweep: list[Level]) -> Order:
        """Lock what the order can cost and give it an id."""
        if request.side is Side.SELL:
            asset, cost = rules.base, request.quantity
        elif request.order_type is Type.MARKET:
            asset, cost = rules.quote, sum(quote_amount(price, lots) for price, lots in sweep)
        else:
            asset, cost = rules.quote, quote_amount(request.price, request.quantity)
        if not self.balances.can_lock(asset, cost):
            raise errors.insufficient_balance()
        self.balances.lock(asset, cost)
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
            created_ms=self._now_ms,
            updated_ms=self._now_ms,
            locked=cost,
        )
        self.counters.order_id += 1
        self._report(Execution.NEW, order)
        return order

    def _prevent_self_trades(self, taker: Order, sweep: list[Level]) -> None:
        """EXPIRE_MAKER: our own resting orders that the taker would reach before it is done expire."""
        is_filled = sum(lots for _, lots in sweep) == taker.quantity
        for order in list(self._resting[(taker.symbol, _opposite(taker.side))]):
            if is_filled and not _is_beyond(sweep[-1][0], order.price, order.side):
                break
            if taker.order_type is not Type.MARKET and not _crosses(taker.side, taker.price, order.price):
                break
            self._close(order, Status.EXPIRED_IN_MATCH, Execution.TRADE_PREVENTION)

    def _rest(self, order: Order) -> None:
        order.ahead = self.views[order.symbol].available(order.side, order.price)
        self.open[order.order_id] = order
        self._by_client_id[order.client_order_id] = order
        sign = -1 if order.side is Side.BUY else 1
        insort(self._resting[(order.symbol, order.side)], order, key=lambda one: (sign * one.price, one.order_id))

    def _fill(self, order: Order, price: int, quantity: int, *, is_maker: bool) -> None:
        rules = self.rules[order.symbol]
        notional = quote_amount(price, quantity)
        assert 0 < quantity <= order.remaining
        if order.side is Side.BUY:
            reserved = notional if order.order_type is Type.MARKET else quote_amount(order.price, quantity)
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
        )
        self.counters.trade_id += 1
        if not order.remaining:
            self._release(order)
        self._report(Execution.TRADE, order, fill)

    def _close(self, order: Order, status: Status, execution: Execution, canceled_as: str | None = None) -> None:
        order.status = status
        order.updated_ms = self._now_ms
        self._release(order)
        self._report(execution, order, canceled_as=canceled_as)

    def _release(self, order: Order) -> None:
        """Give back what is still locked and forget the order: it is no longer open."""
        if order.locked:
            listed = RULES[order.symbol]
            asset = listed.quote if order.side is Side.BUY else listed.base
            self.balances.unlock(asset, order.locked)
            order.locked = 0
        if self.open.pop(order.order_id, None) is not None:
            del self._by_client_id[order.client_order_id]
            if order.symbol in self.rules:
                self._resting[(order.symbol, order.side)].remove(order)

    # Reports

    def _begin(self, now_ms: int) -> None:
        self._now_ms = max(now_ms, self._now_ms)
        self._reports = []

    def _end(self) -> list[Report]:
        reports, self._reports = self._reports, []
        return reports

    def _report(
        self, execution: Execution, order: Order, fill: Fill | None = None, canceled_as: str | None = None
    ) -> None:
        copy = msgspec.structs.replace(order)
        self._reports.append(Report(self.counters.execution_id, execution, copy, fill, self._now_ms, canceled_as))
        self.counters.execution_id += 1


def _opposite(side: Side) -> Side:
    return Side.SELL if side is Side.BUY else Side.BUY


def _is_beyond(price: int, limit: int, side: Side) -> bool:
    """Whether a price of that side of the book is worse (for its taker) than the limit."""
    return price < limit if side is Side.BUY else price > limit


def _crosses(side: Side, price: int, opposite_price: int) -> bool:
    """Whether an order at `price` would trade with a quote at `opposite_price`."""
    return price >= opposite_price if side is Side.BUY else price <= opposite_price


def _until(view: MarketView, side: Side, limit: int | None) -> Iterable[Level]:
    """Available levels of one side, best first, down to the limit price."""
    for price, available in view.levels(side):
        if limit is not None and _is_beyond(price, limit, side):
            return
        yield price, available


def _floor(quantity: int, step: int) -> int:
    return quantity - quantity % step
