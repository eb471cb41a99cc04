"""Conditional orders: stops, take-profits and trailing stops wait here, outside of the matching core, as Binance's Algo
Service has them since 2025-12
(https://developers.binance.com/docs/derivatives/usds-margined-futures/trade/rest-api/New-Algo-Order).

When its price is reached, an order goes NEW -> TRIGGERING -> TRIGGERED and a LIMIT or MARKET order with the same client
id stands at the matching core; once that is done the conditional order is FINISHED. When the core refuses it, it is
REJECTED with the reason; a close-position order without a position to close is EXPIRED.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from core.types.orders import Side
from core.venues.paper import errors as common
from core.venues.paper.decimals import UNIT
from core.venues.paper.errors import VenueError
from core.venues.paper.usdm import errors
from core.venues.paper.usdm.engine import Engine, check_good_till
from core.venues.paper.usdm.numbers import product
from core.venues.paper.usdm.orders import (
    Algo,
    AlgoEvent,
    AlgoStatus,
    Order,
    OrderEvent,
    PositionSide,
    PriceMatch,
    Status,
    Terms,
    TimeInForce,
    Type,
    WorkingType,
)
from core.venues.paper.usdm.rules import MAX_ALGO_ORDERS

MIN_CALLBACK_RATE = UNIT // 10
MAX_CALLBACK_RATE = 20 * UNIT
"""In percent; 20 since 2026-10-23."""
_TERMS = tuple(field.name for field in msgspec.structs.fields(Terms))


class Conditionals:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ledger = engine.ledger
        self.open: dict[int, Algo] = {}
        self.working: dict[int, Algo] = {}
        """Triggered ones by the id of the order that they placed, until that is done."""
        self.changed: dict[int, Algo] = {}

    def restore(self, algos: Iterable[Algo]) -> None:
        for algo in algos:
            if algo.status is AlgoStatus.TRIGGERED:
                self.working[algo.order_id] = algo
            else:
                self.open[algo.algo_id] = algo

    # Requests

    def place(self, terms: Terms) -> Algo:
        """Raises VenueError."""
        reference = self._check(terms)
        state = self._ledger.state
        algo = Algo(
            **{name: getattr(terms, name) for name in _TERMS},
            algo_id=state.algo_id,
            created_ms=self._engine.now_ms,
            updated_ms=self._engine.now_ms,
        )
        if algo.order_type is Type.TRAILING_STOP_MARKET and reference:
            self._follow(algo, reference)
        state.algo_id += 1
        self.open[algo.algo_id] = algo
        self._tell(algo)
        return algo

    def _check(self, terms: Terms) -> int:
        """Gives the price that the trigger is held against now."""
        rules = self._engine.rules.get(terms.symbol)
        if rules is None:
            raise common.invalid_symbol()
        if any(algo.client_id == terms.client_id for algo in self.open.values()):
            raise errors.duplicate_client_id()
        if len(self.open) >= MAX_ALGO_ORDERS:
            raise errors.too_many_algo_orders()
        self._check_sides(terms)
        if not terms.is_close_position:
            rules.check_quantity(terms.quantity, terms.order_type.is_market)
        if not terms.order_type.is_market and terms.price_match is PriceMatch.NONE:
            rules.check_price(terms.price)
        check_good_till(terms, self._engine.now_ms)
        reference = self._price(terms.symbol, terms.working_type)
        if terms.order_type is Type.TRAILING_STOP_MARKET:
            if not MIN_CALLBACK_RATE <= terms.callback_rate <= MAX_CALLBACK_RATE:
                raise VenueError(-2007, "Invalid callBack rate.")
            if terms.activate_price:
                rules.check_price(terms.activate_price)
        else:
            if terms.trigger_price <= 0:
                raise errors.trigger_price_not_positive()
            rules.check_price(terms.trigger_price)
            if reference and _is_reached(terms, reference):
                raise errors.would_trigger()
        return reference

    def _check_sides(self, terms: Terms) -> None:
        is_dual = self._ledger.state.is_dual_side
        if is_dual == (terms.position_side is PositionSide.BOTH):
            raise errors.side_mismatch()
        if is_dual and terms.is_reduce_only:
            raise VenueError(-1106, "Parameter 'reduceonly' sent when not required.")
        if terms.is_close_position and any(
            algo.is_close_position
            and (algo.symbol, algo.side, algo.position_side, algo.order_type)
            == (terms.symbol, terms.side, terms.position_side, terms.order_type)
            for algo in self.open.values()
        ):
            raise VenueError(
                -4130, "An open stop or take profit order with GTE and closePosition in the direction is existing."
            )

    def cancel(self, algo: Algo) -> None:
        self._end(algo, AlgoStatus.CANCELED)

    def expire(self, algo: Algo) -> None:
        self._end(algo, AlgoStatus.EXPIRED)

    def find_open(self, algo_id: int | None, client_id: str | None) -> Algo | None:
        if algo_id is not None:
            return self.open.get(algo_id)
        return next((algo for algo in self.open.values() if algo.client_id == client_id), None)

    # Market

    def on_prices(self, symbol: str) -> None:
        """The last trade or the mark of a symbol may have changed."""
        for algo in [one for one in self.open.values() if one.symbol == symbol]:
            price = self._price(symbol, algo.working_type)
            if not price or not algo.status.is_open:
                continue
            if algo.order_type is Type.TRAILING_STOP_MARKET:
                is_due = self._follow(algo, price)
            else:
                is_due = _is_reached(algo, price)
            if is_due:
                self._trigger(algo)

    def _price(self, symbol: str, working_type: WorkingType) -> int:
        if working_type is WorkingType.MARK_PRICE:
            return self._ledger.marks[symbol]
        return self._engine.last_prices.get(symbol, 0)

    def _follow(self, algo: Algo, price: int) -> bool:
        """A trailing stop: activated at its price (or at once), then it follows the best price; True once the price
        has come back by the callback rate."""
        is_sell = algo.side is Side.SELL
        if not algo.peak:
            if algo.activate_price and (price < algo.activate_price if is_sell else price > algo.activate_price):
                return False
            algo.peak = price
            self.changed[algo.algo_id] = algo
        if price > algo.peak if is_sell else price < algo.peak:
            algo.peak = price
            self.changed[algo.algo_id] = algo
        distance = product(algo.peak, algo.callback_rate // 100)
        return price <= algo.peak - distance if is_sell else price >= algo.peak + distance

    def _trigger(self, algo: Algo) -> None:
        now_ms = self._engine.now_ms
        algo.status, algo.triggered_ms, algo.updated_ms = AlgoStatus.TRIGGERING, now_ms, now_ms
        del self.open[algo.algo_id]
        self._tell(algo)
        terms = self._terms(algo)
        if terms is None:
            self._end(algo, AlgoStatus.EXPIRED)
            return
        # The order's own events come after TRIGGERED, so its place in the list is kept free.
        at = len(self._engine.events)
        try:
            order = self._engine.place(terms, algo_id=algo.algo_id, original_type=algo.order_type)
        except VenueError as refusal:
            algo.reason = refusal.message
            self._end(algo, AlgoStatus.REJECTED)
            return
        algo.status, algo.order_id = AlgoStatus.TRIGGERED, order.order_id
        self.changed[algo.algo_id] = algo
        own = self._engine.events[at:]
        del self._engine.events[at:]
        self._tell(algo, msgspec.structs.replace(order, executed=0, cumulative_quote=0, status=Status.NEW))
        self._engine.events.extend(own)
        self.working[order.order_id] = algo

    def _terms(self, algo: Algo) -> Terms | None:
        """The order to place; None when there is no position left to close."""
        quantity = algo.quantity
        if algo.is_close_position:
            position = self._ledger.positions.get((algo.symbol, algo.position_side))
            amount = position.amount if position else 0
            quantity = max(0, amount if algo.side is Side.SELL else -amount)
            if not quantity:
                return None
        return Terms(
            client_id=algo.client_id,
            symbol=algo.symbol,
            side=algo.side,
            position_side=algo.position_side,
            order_type=Type.MARKET if algo.order_type.is_market else Type.LIMIT,
            time_in_force=TimeInForce.GTC if algo.time_in_force is TimeInForce.GTE_GTC else algo.time_in_force,
            quantity=quantity,
            price=algo.price,
            is_reduce_only=algo.position_side is PositionSide.BOTH and (algo.is_reduce_only or algo.is_close_position),
            is_close_position=algo.is_close_position,
            is_price_protected=algo.is_price_protected,
            trigger_price=algo.trigger_price,
            working_type=algo.working_type,
            price_match=algo.price_match,
            self_trade=algo.self_trade,
            good_till_ms=algo.good_till_ms,
            activate_price=algo.activate_price,
            callback_rate=algo.callback_rate,
        )

    def finish(self) -> None:
        """After each change: conditional orders whose order is done are FINISHED, those bound to a position that is
        closed (GTE_GTC) expire."""
        for event in list(self._engine.events):
            if isinstance(event, OrderEvent) and not event.order.status.is_open:
                algo = self.working.pop(event.order.order_id, None)
                if algo is not None:
                    algo.status, algo.updated_ms = AlgoStatus.FINISHED, self._engine.now_ms
                    self._tell(algo, event.order)
        for algo in list(self.open.values()):
            if algo.time_in_force is TimeInForce.GTE_GTC and algo.symbol in self._engine.rules:
                position = self._ledger.positions.get((algo.symbol, algo.position_side))
                if position is not None and not position.amount and position.updated_ms == self._engine.now_ms:
                    self._end(algo, AlgoStatus.EXPIRED)

    def _end(self, algo: Algo, status: AlgoStatus) -> None:
        algo.status, algo.updated_ms = status, self._engine.now_ms
        self.open.pop(algo.algo_id, None)
        self._tell(algo)

    def _tell(self, algo: Algo, order: Order | None = None) -> None:
        self.changed[algo.algo_id] = algo
        copy = msgspec.structs.replace(algo)
        self._engine.events.append(AlgoEvent(copy, order, self._engine.now_ms))


def _is_reached(terms: Terms, price: int) -> bool:
    """A stop buys at or above its trigger and sells at or below it; a take-profit the other way round."""
    is_upwards = (terms.side is Side.BUY) == terms.order_type.is_stop
    return price >= terms.trigger_price if is_upwards else price <= terms.trigger_price
