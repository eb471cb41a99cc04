"""The venue's truth: its book of our account's orders, its trades, what it holds for us, and what it was asked for.

It decides at the moment a request arrives, as a venue does, and tells its streams afterwards. It is the oracle of the
simulation: nothing in it is taken from the engine. Its ids are unique among open orders only, as Binance's are.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from random import Random

import msgspec

from core.types.instruments import Instrument
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from core.venues.ports import ExecutionReport, VenueOrder, VenueTrade

FEE_RATE = Decimal("0.001")
LEVELS = 4
LEVEL_QUANTITY = 60
"""What each of the other participants' levels shows, in lots."""


class Terms(msgspec.Struct, frozen=True):
    """An order as it is asked of the venue."""

    symbol: str
    client_order_id: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    quantity: int
    price: int | None
    post_only: bool = False


class Held(msgspec.Struct):
    """An order at the venue."""

    terms: Terms
    venue_order_id: str
    status: OrderStatus
    accepted_ns: int
    changed_ns: int
    filled: int = 0
    trades: list[VenueTrade] = msgspec.field(default_factory=list)
    views: list[VenueOrder] = msgspec.field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return not self.status.is_final

    @property
    def rest(self) -> int:
        return self.terms.quantity - self.filled


class Quote(msgspec.Struct):
    """The best prices of the other participants, in ticks of the instrument's price scale."""

    bid: int
    ask: int
    update_id: int = 1


class VenueRefusalError(Exception):
    """The venue says no: nothing was done."""


def terms_of(intent: OrderIntent) -> Terms:
    return Terms(
        intent.symbol,
        intent.client_order_id,
        intent.side,
        intent.order_type,
        intent.time_in_force,
        intent.quantity,
        intent.price,
        intent.post_only,
    )


class Exchange:
    """One account at one spot venue. on_report hears of every change of an order, in the order it happened."""

    def __init__(
        self,
        instruments: tuple[Instrument, ...],
        quotes: dict[str, Quote],
        totals: dict[str, Decimal],
        random: Random,
        now_ns: Callable[[], int],
        *,
        amends_prices: bool,
    ) -> None:
        self.amends_prices = amends_prices
        self.instruments = {item.symbol: item for item in instruments}
        self.quotes = quotes
        self.totals = totals
        self.orders: dict[str, Held] = {}
        self.history: list[Held] = []
        self.trades: list[VenueTrade] = []
        self.arrivals: dict[str, int] = {}
        self.on_report: Callable[[ExecutionReport], None] = lambda _report: None
        self._random = random
        self.now_ns = now_ns
        self._last_id = 1_000
        self._last_trade = 0

    # what is asked of it

    def place(self, terms: Terms) -> Held:
        """Raises VenueRefusalError."""
        self.arrivals[terms.client_order_id] = self.arrivals.get(terms.client_order_id, 0) + 1
        known = self.orders.get(terms.client_order_id)
        if known is not None and known.is_open:
            raise VenueRefusalError("-2010 Duplicate order sent.")
        if self._free(terms) < self._needed(terms):
            raise VenueRefusalError("-2010 Account has insufficient balance for requested action.")
        if terms.post_only and self._crosses(terms):
            raise VenueRefusalError("-2010 Order would immediately match and take.")
        self._last_id += 1
        now_ns = self.now_ns()
        held = Held(terms, str(self._last_id), OrderStatus.ACCEPTED, now_ns, now_ns)
        self.orders[terms.client_order_id] = held
        self.history.append(held)
        self._report(held, None, "NEW")
        self._take(held)
        return held

    def cancel(self, client_order_id: str) -> Held:
        """Raises VenueRefusalError when there is no such open order."""
        held = self.orders.get(client_order_id)
        if held is None or not held.is_open:
            raise VenueRefusalError("-2011 Unknown order sent.")
        self._end(held, OrderStatus.CANCELED, "CANCELED")
        return held

    def amend(self, client_order_id: str, quantity: int, price: int | None) -> Held:
        """Change an order in place: its total quantity down, where prices can be amended also up. Raises
        VenueRefusalError."""
        held = self.orders.get(client_order_id)
        if held is None or not held.is_open:
            raise VenueRefusalError("-2013 Order does not exist.")
        terms = held.terms
        changed = msgspec.structs.replace(terms, quantity=quantity, price=terms.price if price is None else price)
        if quantity <= held.filled or changed == terms:
            raise VenueRefusalError("-2038 The order can't be amended so.")
        if not self.amends_prices and (changed.price != terms.price or quantity > terms.quantity):
            raise VenueRefusalError("-2038 Only the quantity can be amended, and only lowered.")
        more = self._needed(changed) - self._needed(terms)
        if self._free(terms) < more:
            raise VenueRefusalError("-2010 Account has insufficient balance for requested action.")
        held.terms, held.changed_ns = changed, self.now_ns()
        self._report(held, None, "REPLACED")
        self._take(held)
        return held

    def move(self, symbol: str, ticks: int) -> None:
        """The market moves; what of ours it passes is filled, wholly or in part."""
        quote = self.quotes[symbol]
        if quote.bid + ticks < 100:
            return
        quote.bid, quote.ask, quote.update_id = quote.bid + ticks, quote.ask + ticks, quote.update_id + 1
        for held in [item for item in self.orders.values() if item.is_open and item.terms.symbol == symbol]:
            self._meet(held, quote)

    # how it is seen

    def view_at(self, held: Held, at_ns: int) -> VenueOrder | None:
        """The order as it was at a moment; None before it was there."""
        return next((view for view in reversed(held.views) if view.ts_event_ns <= at_ns), None)

    def held_as(self, client_order_id: str, venue_order_id: str | None) -> Held | None:
        """By the venue's own id where that is known: the other may have come again."""
        if venue_order_id is None:
            return self.orders.get(client_order_id)
        return next((held for held in self.history if held.venue_order_id == venue_order_id), None)

    def open_orders(self) -> list[Held]:
        return [held for held in self.orders.values() if held.is_open]

    def balances(self) -> dict[str, Decimal]:
        return dict(self.totals)

    def levels(self, symbol: str) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
        """The other participants' bids and asks, best first."""
        item, quote = self.instruments[symbol], self.quotes[symbol]
        quantity = LEVEL_QUANTITY * item.lot_size
        bids = tuple((quote.bid - step * item.tick_size, quantity) for step in range(LEVELS))
        asks = tuple((quote.ask + step * item.tick_size, quantity) for step in range(LEVELS))
        return bids, asks

    # matching

    def _crosses(self, terms: Terms) -> bool:
        quote = self.quotes[terms.symbol]
        if terms.price is None:
            return True
        return terms.price >= quote.ask if terms.side is Side.BUY else terms.price <= quote.bid

    def _take(self, held: Held) -> None:
        """What the order finds on its arrival."""
        terms, quote = held.terms, self.quotes[held.terms.symbol]
        price = quote.ask if terms.side is Side.BUY else quote.bid
        depth = LEVEL_QUANTITY * self.instruments[terms.symbol].lot_size
        if self._crosses(terms):
            if terms.time_in_force is TimeInForce.FOK and depth < held.rest:
                self._end(held, OrderStatus.EXPIRED, "EXPIRED")
                return
            left = min(held.rest, depth)
            while left > 0:
                part = self._part(terms.symbol, left)
                self._fill(held, price, part, is_maker=False)
                left -= part
        if held.is_open and (
            terms.time_in_force in {TimeInForce.IOC, TimeInForce.FOK} or terms.order_type is OrderType.MARKET
        ):
            self._end(held, OrderStatus.EXPIRED, "EXPIRED")

    def _meet(self, held: Held, quote: Quote) -> None:
        """The market has moved to or through a resting order."""
        terms = held.terms
        assert terms.price is not None, "what has no price doesn't rest"
        met = quote.ask <= terms.price if terms.side is Side.BUY else quote.bid >= terms.price
        if met:
            self._fill(held, terms.price, self._part(terms.symbol, held.rest), is_maker=True)

    def _part(self, symbol: str, quantity: int) -> int:
        lots = quantity // self.instruments[symbol].lot_size
        if lots <= 1 or self._random.random() < 0.5:
            return quantity
        return self._random.randint(1, lots - 1) * self.instruments[symbol].lot_size

    def _fill(self, held: Held, price: int, quantity: int, *, is_maker: bool) -> None:
        terms, item = held.terms, self.instruments[held.terms.symbol]
        self._last_trade += 1
        amount = Decimal(quantity).scaleb(-item.quantity_scale)
        worth = Decimal(price * quantity).scaleb(-item.notional_scale)
        buys = terms.side is Side.BUY
        fee, fee_asset = (amount, item.base_asset) if buys else (worth, item.quote_asset)
        fee = (fee * FEE_RATE).normalize()
        trade = VenueTrade(
            terms.symbol,
            self._last_trade,
            held.venue_order_id,
            terms.client_order_id,
            terms.side,
            price,
            quantity,
            fee,
            fee_asset,
            is_maker,
            self.now_ns(),
        )
        self.totals[item.base_asset] += amount if buys else -amount
        self.totals[item.quote_asset] += -worth if buys else worth
        self.totals[fee_asset] -= fee
        held.filled += quantity
        held.changed_ns = self.now_ns()
        held.status = OrderStatus.FILLED if held.rest == 0 else OrderStatus.PARTIALLY_FILLED
        held.trades.append(trade)
        self.trades.append(trade)
        self._report(held, trade, "TRADE")

    def _end(self, held: Held, status: OrderStatus, reason: str) -> None:
        held.status, held.changed_ns = status, self.now_ns()
        self._report(held, None, reason)

    def _report(self, held: Held, trade: VenueTrade | None, reason: str) -> None:
        view = order_view(held)
        held.views.append(view)
        self.on_report(ExecutionReport(view, trade, reason))

    # balances

    def _needed(self, terms: Terms) -> Decimal:
        item = self.instruments[terms.symbol]
        if terms.side is Side.SELL:
            return Decimal(terms.quantity).scaleb(-item.quantity_scale)
        price = self.quotes[terms.symbol].ask if terms.price is None else terms.price
        return Decimal(price * terms.quantity).scaleb(-item.notional_scale)

    def _free(self, terms: Terms) -> Decimal:
        item = self.instruments[terms.symbol]
        asset = item.base_asset if terms.side is Side.SELL else item.quote_asset
        locked = sum((self._locked(held, asset) for held in self.open_orders()), Decimal(0))
        return self.totals[asset] - locked

    def _locked(self, held: Held, asset: str) -> Decimal:
        terms, item = held.terms, self.instruments[held.terms.symbol]
        if terms.side is Side.SELL:
            return Decimal(held.rest).scaleb(-item.quantity_scale) if asset == item.base_asset else Decimal(0)
        if asset != item.quote_asset or terms.price is None:
            return Decimal(0)
        return Decimal(terms.price * held.rest).scaleb(-item.notional_scale)


def order_view(held: Held) -> VenueOrder:
    """The order as a message of the venue's tells it."""
    terms = held.terms
    return VenueOrder(
        terms.symbol,
        terms.client_order_id,
        held.venue_order_id,
        held.status,
        held.filled,
        held.changed_ns,
        terms.side,
        terms.order_type,
        terms.time_in_force,
        terms.quantity,
        terms.price,
        post_only=terms.post_only,
    )
