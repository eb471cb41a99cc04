"""Our futures orders against the perpetual's book, with price-time priority. Pure: requests, market events and the time
come in, events for the user go out.

As on the spot side the market doesn't know us: a taker sweeps what the book displays; a resting order waits behind the
quantity displayed at its price and fills as maker when public trades reach it or the other side's quote comes to it.
A reduce-only order fills up to the position it reduces; once nothing is left to reduce it expires.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from itertools import islice

import msgspec

from core.types.orders import Side
from core.venues.paper import errors as common
from core.venues.paper.book import MarketView
from core.venues.paper.errors import VenueError
from core.venues.paper.events import BookTicker, DepthDiff, Level, MarketEvent, Trade
from core.venues.paper.usdm import errors
from core.venues.paper.usdm.ledger import Ledger, PositionKey
from core.venues.paper.usdm.numbers import product
from core.venues.paper.usdm.orders import (
    AccountEvent,
    Event,
    Execution,
    Fill,
    Order,
    PositionSide,
    PriceMatch,
    SelfTrade,
    Status,
    Terms,
    TimeInForce,
    Type,
)
from core.venues.paper.usdm.orders import OrderEvent as Told
from core.venues.paper.usdm.rules import MAKER_FEE, MAX_OPEN_ORDERS_PER_SYMBOL, TAKER_FEE, ContractRules

MIN_GOOD_TILL_MS = 600_000
MAX_GOOD_TILL_MS = 253_402_300_799_000
MAX_MODIFICATIONS = 10_000
_TERMS = tuple(field.name for field in msgspec.structs.fields(Terms))


class Engine:
    """Open orders of one account. Requests raise VenueError and have then changed nothing."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.rules = ledger.rules
        self.views = {symbol: MarketView(symbol) for symbol in self.rules}
        self.last_prices: dict[str, int] = {}
        self.events: list[Event] = []
        self.changed_orders: dict[int, Order] = {}
        self.fills: list[Fill] = []
        self._by_client_id: dict[str, Order] = {}
        self._resting: dict[tuple[str, Side], list[Order]] = {
            (symbol, side): [] for symbol in self.rules for side in (Side.BUY, Side.SELL)
        }
        self.now_ms = 0

    @property
    def open(self) -> dict[int, Order]:
        return self.ledger.orders

    def restore(self, orders: Iterable[Order]) -> None:
        """Take back the orders that rested before a restart, after the books are loaded: time priority among our own
        is kept, the queue at the market is joined at its end. Orders of contracts that aren't played now wait."""
        for order in sorted(orders, key=lambda one: one.order_id):
            if order.symbol in self.rules:
                self._rest(order)
            else:
                self.open[order.order_id] = order
                self._by_client_id[order.client_id] = order

    # Requests

    def place(self, terms: Terms, *, algo_id: int = 0, original_type: Type | None = None) -> Order:
        """A LIMIT or MARKET order."""
        order, sweep = self._accept(terms, algo_id, original_type or terms.order_type)
        self.ledger.state.order_id += 1
        self._tell(Execution.NEW, order)
        self._take(order, sweep)
        return order

    def preview(self, terms: Terms) -> Order:
        """All that `place` checks; nothing is placed."""
        return self._accept(terms, 0, terms.order_type)[0]

    def cancel(self, order: Order) -> None:
        self._end(order, Status.CANCELED, Execution.CANCELED)

    def modify(self, order: Order, price: int, quantity: int) -> None:
        """New price and quantity of a resting LIMIT order. It keeps its place only when nothing but its quantity
        shrinks; with nothing left to fill it is canceled."""
        rules = self.rules[order.symbol]
        if (price, quantity) == (order.price, order.quantity):
            raise errors.same_order()
        if order.modifications >= MAX_MODIFICATIONS:
            raise VenueError(-5026, "Exceed maximum modify order limit.")
        if quantity <= order.executed:
            rules.check_quantity(quantity, is_market=False)
            self._end(order, Status.CANCELED, Execution.CANCELED)
            return
        wanted = msgspec.structs.replace(order, price=price, quantity=quantity)
        self._check_filters(rules, wanted, is_new=False)
        sweep = self._plan(rules, wanted)
        self._check_time_in_force(wanted, sweep)
        self._check_margin(wanted, sweep)
        keeps_place = price == order.price and quantity < order.quantity
        self._unlist(order)
        order.price, order.quantity = price, quantity
        order.modifications += 1
        order.updated_ms = self.now_ms
        self._tell(Execution.AMENDMENT, order)
        if keeps_place:
            self._rest(order, ahead=order.ahead)
        else:
            self._take(order, sweep)

    def liquidate(self, key: PositionKey, client_id: str) -> Order | None:
        """Close a position by what the book displays; None while it displays nothing."""
        position = self.ledger.positions[key]
        side = Side.SELL if position.amount > 0 else Side.BUY
        terms = Terms(
            client_id=client_id,
            symbol=key[0],
            side=side,
            position_side=key[1],
            order_type=Type.LIQUIDATION,
            time_in_force=TimeInForce.IOC,
            quantity=abs(position.amount),
            is_reduce_only=True,
        )
        order = self._new_order(terms, 0, Type.LIQUIDATION)
        sweep = self._plan(self.rules[key[0]], order)
        if not sweep:
            return None
        self.ledger.state.order_id += 1
        self._tell(Execution.NEW, order)
        self._take(order, sweep)
        return order

    def find_open(self, symbol: str, order_id: int | None, client_id: str | None) -> Order | None:
        """orderId wins when both are given, as at Binance."""
        order = self.open.get(order_id) if order_id is not None else self._by_client_id.get(client_id or "")
        return order if order is not None and order.symbol == symbol else None

    def expire(self, order: Order) -> None:
        self._end(order, Status.EXPIRED, Execution.EXPIRED)

    # Market

    def on_market(self, event: MarketEvent) -> None:
        """Apply one market event to the book, then to our resting orders."""
        if isinstance(event, Trade):
            self.last_prices[event.symbol] = event.price
            self._on_trade(event)
            return
        view = self.views[event.symbol]
        if isinstance(event, BookTicker):
            view.apply_ticker(event)
        else:
            view.apply_depth(event)
        for side in (Side.BUY, Side.SELL):
            if self._resting[(event.symbol, side)]:
                self._shrink_queues(view, side, event)
                self._match_quotes(view, side)

    def match_all(self, symbol: str) -> None:
        """Match resting orders against a book that was just loaded."""
        for side in (Side.BUY, Side.SELL):
            self._match_quotes(self.views[symbol], side)

    def _on_trade(self, trade: Trade) -> None:
        side = Side.BUY if trade.buyer_is_maker else Side.SELL
        budget, queue_consumed = trade.quantity, 0
        for order in list(self._resting[(trade.symbol, side)]):
            if _is_beyond(order.price, trade.price, side):
                break
            if order.price != trade.price:
                order.ahead = 0
            else:
                step = min(budget, max(0, order.ahead - queue_consumed))
                queue_consumed += step
                budget -= step
                order.ahead = max(0, order.ahead - queue_consumed)
            lots = _floor(min(budget, self._fillable(order)), self.rules[trade.symbol].step)
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
        touched = {price for price, _ in (event.bids if side is Side.BUY else event.asks)}
        for order in self._resting[(view.symbol, side)]:
            if order.price in touched:
                order.ahead = min(order.ahead, view.displayed(side, order.price))

    def _match_quotes(self, view: MarketView, side: Side) -> None:
        """The other side's quote came to our price: it trades with us, at our price, up to what it displays."""
        step, other = self.rules[view.symbol].step, opposite(side)
        for order in list(self._resting[(view.symbol, side)]):
            for price, available in list(_until(view, other, order.price)):
                lots = _floor(min(available, self._fillable(order)), step)
                if lots:
                    view.take(other, price, lots)
                    self._fill(order, order.price, lots, is_maker=True)
                if not order.status.is_open:
                    break
            if order.status.is_open:
                break

    # Checks

    def _accept(self, terms: Terms, algo_id: int, original_type: Type) -> tuple[Order, list[Level]]:
        rules = self.rules.get(terms.symbol)
        if rules is None:
            raise common.invalid_symbol()
        if terms.client_id in self._by_client_id:
            raise errors.duplicate_client_id()
        order = self._new_order(self._with_matched_price(terms), algo_id, original_type)
        self._check_position_side(order)
        self._check_filters(rules, order)
        sweep = self._plan(rules, order)
        self._check_time_in_force(order, sweep)
        self._check_margin(order, sweep)
        return order, sweep

    def _new_order(self, terms: Terms, algo_id: int, original_type: Type) -> Order:
        return Order(
            **{name: getattr(terms, name) for name in _TERMS},
            order_id=self.ledger.state.order_id,
            original_type=original_type,
            created_ms=self.now_ms,
            updated_ms=self.now_ms,
            algo_id=algo_id,
        )

    def _with_matched_price(self, terms: Terms) -> Terms:
        """priceMatch: the price of the n-th level of the other side (OPPONENT) or of our own (QUEUE)."""
        if terms.price_match is PriceMatch.NONE:
            return terms
        is_opponent = terms.price_match.value.startswith("OPPONENT")
        side = opposite(terms.side) if is_opponent else terms.side
        levels = list(islice(self.views[terms.symbol].levels(side), terms.price_match.level))
        if not levels:
            raise VenueError(-4131, "The counterparty's best price does not meet the PERCENT_PRICE filter limit.")
        return msgspec.structs.replace(terms, price=levels[-1][0])

    def _check_position_side(self, order: Order) -> None:
        """Raises -4061 when the side doesn't fit the mode, -2022 when there is nothing to reduce."""
        is_dual = self.ledger.state.is_dual_side
        if is_dual == (order.position_side is PositionSide.BOTH):
            raise errors.side_mismatch()
        if is_dual and order.is_reduce_only:
            raise VenueError(-1106, "Parameter 'reduceonly' sent when not required.")
        if order.is_closing and not self.reducible(order):
            raise errors.reduce_only_rejected()

    def _check_filters(self, rules: ContractRules, order: Order, is_new: bool = True) -> None:
        is_market, is_buy = order.order_type is Type.MARKET, order.side is Side.BUY
        rules.check_quantity(order.quantity, is_market)
        best = self.views[order.symbol].best(opposite(order.side))
        reference = best if is_market else order.price
        if not is_market:
            rules.check_price(order.price)
        mark = self.ledger.marks[order.symbol]
        if reference is not None:
            if mark:
                rules.check_percent_price(reference, mark, is_buy, is_market)
            if product(reference, order.quantity) < rules.min_notional and not order.is_closing:
                raise errors.notional_too_small(rules.min_notional)
        if is_new:
            check_good_till(order, self.now_ms)
            if sum(one.symbol == order.symbol for one in self.open.values()) >= MAX_OPEN_ORDERS_PER_SYMBOL:
                raise errors.too_many_orders()

    def _check_time_in_force(self, order: Order, sweep: list[Level]) -> None:
        if order.time_in_force is TimeInForce.GTX:
            own = self._resting[(order.symbol, opposite(order.side))]
            if sweep or (own and _crosses(order.side, order.price, own[0].price)):
                raise errors.gtx_rejected()
        if order.time_in_force is TimeInForce.FOK and sum(lots for _, lots in sweep) < self._fillable(order):
            raise errors.fok_rejected()

    def _check_margin(self, order: Order, sweep: list[Level]) -> None:
        """The account must afford the margin of the worst outcome, and the loss that a price off the mark is at once.

        An order that may only reduce needs nothing. Raises -2027 and -2019.
        """
        if order.is_closing:
            return
        ledger, key = self.ledger, (order.symbol, order.position_side)
        rules, leverage = self.rules[order.symbol], self.ledger.of(order.symbol).leverage
        swept = sum(lots for _, lots in sweep)
        notional = sum(product(price, lots) for price, lots in sweep)
        # The whole quantity must be affordable, also what the book can't fill now.
        price = order.price or (sweep[-1][0] if sweep else ledger.marks[order.symbol])
        notional += product(price, order.remaining - swept)
        bids, asks = ledger.order_notionals(key, without=order.order_id)
        before = ledger.margin(key)
        if order.side is Side.BUY:
            bids += notional
        else:
            asks += notional
        after = ledger.margin(key, bids, asks)
        worst = ledger.worst_notional(key[1], after.notional, bids, asks)
        extra = after.initial - before.initial
        if extra <= 0:
            return
        if worst > rules.max_notional(leverage):
            raise errors.position_too_large()
        fair = product(ledger.marks[order.symbol], order.remaining)
        loss = max(0, notional - fair if order.side is Side.BUY else fair - notional)
        if extra + loss > ledger.available():
            raise errors.margin_insufficient()

    def reducible(self, order: Order) -> int:
        """How much of the position an order on this side can close."""
        position = self.ledger.positions.get((order.symbol, order.position_side))
        amount = position.amount if position else 0
        return max(0, amount if order.side is Side.SELL else -amount)

    def _fillable(self, order: Order) -> int:
        return min(order.remaining, self.reducible(order)) if order.is_closing else order.remaining

    # One order's life

    def _plan(self, rules: ContractRules, order: Order) -> list[Level]:
        """The displayed levels that the order would take now, best first."""
        limit = order.price if order.order_type is Type.LIMIT else None
        remaining, sweep = self._fillable(order), []
        for price, available in _until(self.views[order.symbol], opposite(order.side), limit):
            lots = _floor(min(available, remaining), rules.step)
            if lots:
                sweep.append((price, lots))
                remaining -= lots
            if not remaining:
                break
        return sweep

    def _take(self, order: Order, sweep: list[Level]) -> None:
        """Take what was planned; what remains rests or expires."""
        own_price = self._prevent_self_trades(order, sweep)
        for price, lots in sweep:
            if own_price is not None and _is_beyond(price, own_price, opposite(order.side)):
                break
            self.views[order.symbol].take(opposite(order.side), price, lots)
            self._fill(order, price, lots, is_maker=False)
        if own_price is not None and order.status.is_open:
            self._end(order, Status.EXPIRED_IN_MATCH, Execution.EXPIRED)
        if not order.status.is_open:
            return
        if order.order_type is Type.LIMIT and order.time_in_force.may_rest and self._fillable(order):
            self._rest(order)
        else:
            self._end(order, Status.EXPIRED, Execution.EXPIRED)

    def _prevent_self_trades(self, taker: Order, sweep: list[Level]) -> int | None:
        """Our own resting orders that the taker would reach before it is done expire; or the taker itself does, once
        it has taken what the market offers up to the price that this gives."""
        is_filled = bool(sweep) and sum(lots for _, lots in sweep) == self._fillable(taker)
        reached: list[Order] = []
        for order in self._resting[(taker.symbol, opposite(taker.side))]:
            if is_filled and not _is_beyond(sweep[-1][0], order.price, order.side):
                break
            if taker.order_type is Type.LIMIT and not _crosses(taker.side, taker.price, order.price):
                break
            reached.append(order)
        mode = SelfTrade.EXPIRE_MAKER if taker.order_type is Type.LIQUIDATION else taker.self_trade
        if mode is not SelfTrade.EXPIRE_TAKER:
            for order in reached:
                self._end(order, Status.EXPIRED_IN_MATCH, Execution.EXPIRED)
        is_taker_ended = bool(reached) and mode in {SelfTrade.EXPIRE_TAKER, SelfTrade.EXPIRE_BOTH}
        return reached[0].price if is_taker_ended else None

    def _rest(self, order: Order, ahead: int | None = None) -> None:
        order.ahead = self.views[order.symbol].available(order.side, order.price) if ahead is None else ahead
        self.open[order.order_id] = order
        self._by_client_id[order.client_id] = order
        sign = -1 if order.side is Side.BUY else 1
        insort(self._resting[(order.symbol, order.side)], order, key=lambda one: (sign * one.price, one.order_id))

    def _fill(self, order: Order, price: int, quantity: int, *, is_maker: bool) -> None:
        assert 0 < quantity <= self._fillable(order)
        ledger = self.ledger
        rate = MAKER_FEE if is_maker else TAKER_FEE
        fill = ledger.apply_fill(order, price, quantity, rate, is_maker, self.now_ms)
        self.fills.append(fill)
        order.executed += quantity
        order.cumulative_quote += fill.quote_quantity
        order.updated_ms = self.now_ms
        order.status = Status.PARTIALLY_FILLED if order.remaining else Status.FILLED
        if not order.remaining:
            self._unlist(order)
        self.tell_account("ORDER", [(order.symbol, order.position_side)])
        self._tell(Execution.CALCULATED if order.order_type is Type.LIQUIDATION else Execution.TRADE, order, fill)
        for resting in [one for one in self.open.values() if one.symbol == order.symbol and one.is_closing]:
            if resting.status.is_open and not self.reducible(resting):
                self._end(resting, Status.EXPIRED, Execution.EXPIRED)

    def _end(self, order: Order, status: Status, execution: Execution) -> None:
        order.status = status
        order.updated_ms = self.now_ms
        self._unlist(order)
        self._tell(execution, order)

    def _unlist(self, order: Order) -> None:
        if self.open.pop(order.order_id, None) is not None:
            del self._by_client_id[order.client_id]
            if order.symbol in self.rules:
                self._resting[(order.symbol, order.side)].remove(order)

    # What is told

    def _tell(self, execution: Execution, order: Order, fill: Fill | None = None) -> None:
        copy = msgspec.structs.replace(order)
        self.changed_orders[order.order_id] = order
        self.events.append(Told(execution, copy, fill, self.now_ms))

    def tell_account(
        self, reason: str, keys: Iterable[PositionKey], change: int = 0, *, has_balance: bool = True
    ) -> None:
        ledger = self.ledger
        positions = tuple(ledger.view(ledger.position(*key)) for key in keys)
        self.events.append(
            AccountEvent(reason, ledger.state.wallet, ledger.cross_wallet, change, positions, self.now_ms, has_balance)
        )


def check_good_till(terms: Terms, now_ms: int) -> None:
    """Raises VenueError -5040."""
    if terms.time_in_force is TimeInForce.GTD and not now_ms + MIN_GOOD_TILL_MS < terms.good_till_ms < MAX_GOOD_TILL_MS:
        raise errors.good_till_date()


def opposite(side: Side) -> Side:
    return Side.SELL if side is Side.BUY else Side.BUY


def _is_beyond(price: int, limit: int, side: Side) -> bool:
    """Whether a price of that side of the book is worse (for its taker) than the limit."""
    return price < limit if side is Side.BUY else price > limit


def _crosses(side: Side, price: int, opposite_price: int) -> bool:
    return price >= opposite_price if side is Side.BUY else price <= opposite_price


def _until(view: MarketView, side: Side, limit: int | None) -> Iterable[Level]:
    """Available levels of one side, best first, down to the limit price."""
    for price, available in view.levels(side):
        if limit is not None and _is_beyond(price, limit, side):
            return
        yield price, available


def _floor(quantity: int, step: int) -> int:
    return quantity - quantity % step
