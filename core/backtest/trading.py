"""The live engine's kernel under a simulated clock: what a strategy wishes for passes authority and risk as anywhere.

The mandate is given by a key that exists in this run alone, for an engine of its own name: nothing that is signed here
means anything to another engine. Its bounds are wide, so that risk's rules are what binds.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from core.authority.mandate import MANDATE_LONGEST_NS, MANDATE_SCHEMA, mandate_bytes, sign_mandate
from core.authority.roster import sign_roster
from core.authority.signatures import public_key_hex
from core.backtest.bars import Bar, BarSeries
from core.backtest.fills import BarVenue, Execution, Terms, affordable, worse
from core.backtest.strategies import Holding, Wish
from core.kernel.decide import (
    FillReport,
    decide_accepted,
    decide_closed,
    decide_fill,
    decide_instruments,
    decide_kill_switch,
    decide_roster,
    decide_started,
)
from core.kernel.decide_authority import decide_mandate
from core.kernel.decide_groups import decide_group
from core.kernel.decide_held import is_due, review
from core.kernel.decide_orders import decide_cancel_all, decide_expiry, decide_order
from core.kernel.decide_risk import decide_rules
from core.kernel.effects import CancelOrder, Effect, ReviewGroup, SubmitOrder
from core.kernel.inputs import Balances, DecisionInputs
from core.kernel.kernel import Kernel
from core.portfolio.performance import account_day
from core.portfolio.positions import Position
from core.risk.kill_switch import KillSwitch
from core.risk.losses import loss_reason
from core.types.authority import Mandate, MandateAuthority
from core.types.clock import NS_PER_MS, NS_PER_S
from core.types.codes import Refusal
from core.types.events import (
    ClosedPosition,
    EquityObserved,
    JournalEvent,
    MarketInputs,
    OrderFilled,
    OrderRefused,
    Roster,
    RosterEntry,
)
from core.types.money import from_scaled, scaled_text
from core.types.orders import (
    GroupKind,
    GroupRequest,
    Mode,
    OrderIntent,
    OrderRequest,
    OrderRole,
    OrderStatus,
    OrderType,
    Side,
    TimeInForce,
)
from core.types.venues import VenueCapabilities

ENGINE_ID = "backtest"
ENVIRONMENT = "backtest"
ACCOUNT_ID = "backtest"
REQUESTED_BY = "strategy:backtest"
MANDATE_BOUND_QUOTE = "1000000000000000"
MANDATE_OPEN_ORDERS = "100"
ORDERS_LIMIT = 50_000
"""Asked for in one run, refused ones included: a strategy that wants more trades on noise."""
STEPS_LIMIT = 10_000
"""Of effects that follow from each other, at one moment: more would be a loop."""
BPS = 10_000
DAY_LOOK_NS = 900 * NS_PER_S
"""How often it is asked whether the account's day has changed: time zones differ by quarters of an hour."""
CAPABILITIES = VenueCapabilities(
    frozenset({OrderType.MARKET, OrderType.LIMIT}),
    frozenset({TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK}),
)
_SEED_HEX = hashlib.sha256(b"veloz/backtest/approver").hexdigest()
_ROOT_HEX = hashlib.sha256(b"veloz/backtest/root").hexdigest()


class TooManyOrdersError(Exception):
    """The strategy asked for more than ORDERS_LIMIT orders."""


class TradingDesk:
    """One account with one strategy: kernel, simulated venue and balances, moved on by the runner bar by bar."""

    def __init__(
        self, series: BarSeries, terms: Terms, capital: int, rules_document: str, strategy_id: str, digest_hex: str
    ) -> None:
        instrument = self.instrument = series.instrument
        self.kernel = Kernel()
        self.terms = terms
        self.quote = capital
        self.base = 0
        self.traded = 0
        self.fees = 0
        self.orders_asked = 0
        self.refusals: Counter[str] = Counter()
        self.too_small = 0
        self.fills: list[OrderFilled] = []
        self.closed: list[ClosedPosition] = []
        self.stopped_by_risk: tuple[int, str] | None = None
        self._venue = BarVenue(terms, instrument.tick_size, instrument.lot_size)
        self._width_ns = series.width_ns
        self._strategy_id = strategy_id
        self._digest_hex = digest_hex
        self._now_ns = series.from_ns
        self._number = -1
        self._price = 0
        self._volume = 0
        self._from_bar = 0
        self._pending: deque[Effect] = deque()
        self._is_following = False
        self._day = ""
        self._day_start = self._peak = self._observed = capital
        self._mandates = 0
        self._mandate_until_ns = 0
        self._key = (ACCOUNT_ID, instrument.venue, instrument.symbol)
        self._begin(rules_document)

    # what the runner asks for

    def equity(self, price: int) -> int:
        """At notional scale."""
        return self.quote + self.base * price

    def holding(self) -> Holding:
        return Holding(self.base, bool(self.kernel.open_order_ids) and not self._only_exits())

    def play(self, bar: Bar) -> None:
        """What the market of this bar does to the orders that were there before it."""
        self._number += 1
        self._from_bar = self._number
        self._venue.begin(bar)
        self._now_ns = max(self._now_ns, bar.opens_ns)
        if not self.kernel.open_order_ids:
            return
        self._price = bar.open
        self._observe(bar.opens_ns)
        self._apply(decide_expiry(self.kernel, self._tick()))
        self._look_again()
        self._market(bar.open)
        self._stops(bar)
        self._from_bar = self._number + 1
        while (done := self._venue.through(bar, self._number, self.quote)) is not None:
            self._price = done.price
            self._fill(done)
        self._end_unpaid()
        self._stops(bar)

    def close(self, bar: Bar) -> None:
        """The bar is over: its close is the price that all is valued at, and losses are looked at."""
        self._now_ns = max(self._now_ns, bar.closes_ns)
        self._price, self._volume = bar.close, bar.volume
        self._from_bar = self._number + 1
        if self.kernel.open_order_ids:
            self._apply(decide_expiry(self.kernel, self._tick()))
        self._look_at_losses(bar)

    def ask(self, wish: Wish, bar: Bar) -> None:
        """Ask the kernel, at the close of this bar. Raises TooManyOrdersError."""
        self.orders_asked += 1
        if self.orders_asked > ORDERS_LIMIT:
            raise TooManyOrdersError
        if wish.side is Side.SELL:
            # What rests reserves what is to be sold.
            self._apply(decide_cancel_all(self.kernel, ACCOUNT_ID, self.instrument.symbol, REQUESTED_BY, self._tick()))
        quantity = self._quantity(wish)
        if quantity <= 0:
            self.too_small += 1
            return
        self._observe(bar.closes_ns)
        self._renew_mandate(bar.closes_ns)
        request = self._request(wish, quantity, bar)
        inputs = self._inputs(wish.side)
        authority = MandateAuthority(f"mandate-{self._mandates}", self._strategy_id)
        if wish.side is Side.SELL or (wish.stop_loss_bps is None and wish.take_profit_bps is None):
            decided = decide_order(self.kernel, request, authority, inputs, CAPABILITIES, self._tick())
        else:
            group = self._bracket(request, wish)
            decided = decide_group(self.kernel, group, authority, inputs, CAPABILITIES, self._tick())
        if isinstance(decided, Refusal):
            self.refusals[decided.code] += 1
        else:
            self._apply(decided)

    def position(self) -> Position:
        return self.kernel.positions.get(self._key, Position())

    # the beginning

    def _begin(self, rules_document: str) -> None:
        kernel, now_ns = self.kernel, self._now_ns
        entry = RosterEntry("approver", "user-backtest", public_key_hex(_SEED_HEX), (ACCOUNT_ID,), paper_only=True)
        roster = sign_roster(_ROOT_HEX, Roster(1, (entry,), MANDATE_BOUND_QUOTE))
        started = decide_started(
            engine_id=ENGINE_ID,
            epoch=1,
            environment=ENVIRONMENT,
            mode=Mode.PAPER,
            software_version=ENGINE_ID,
            now_ns=now_ns,
        )
        self._apply((started,))
        self._apply(decide_roster(kernel, roster, now_ns))
        self._apply(decide_instruments(kernel, (self.instrument,), now_ns))
        rules = decide_rules(kernel, rules_document, None, now_ns)
        assert not isinstance(rules, Refusal), "the runner gives rules that were validated"
        self._apply(rules)
        assert kernel.rules is not None
        limits = kernel.rules.limits_for(ACCOUNT_ID, "", "")
        self._max_loss = int(limits["max_daily_loss_quote"].value.scaleb(self.instrument.notional_scale))
        self._max_drawdown = int(limits["max_drawdown_bps"].value)

    def _renew_mandate(self, now_ns: int) -> None:
        """A mandate lasts 90 days at most, a backtest a year."""
        if now_ns + NS_PER_S < self._mandate_until_ns:
            return
        self._mandates += 1
        self._mandate_until_ns = now_ns + MANDATE_LONGEST_NS
        mandate = Mandate(
            schema=MANDATE_SCHEMA,
            mandate_id=f"mandate-{self._mandates}",
            engine_id=ENGINE_ID,
            environment=ENVIRONMENT,
            mode=Mode.PAPER,
            account_id=ACCOUNT_ID,
            strategy_id=self._strategy_id,
            strategy_digest_hex=self._digest_hex,
            public_key_hex="",
            venue=self.instrument.venue,
            symbols=(self.instrument.symbol,),
            max_order_notional_quote=MANDATE_BOUND_QUOTE,
            max_position_notional_quote=MANDATE_BOUND_QUOTE,
            max_total_notional_quote=MANDATE_BOUND_QUOTE,
            max_open_orders=MANDATE_OPEN_ORDERS,
            issued_at_ns=str(now_ns),
            expires_at_ns=str(self._mandate_until_ns),
            asker_id="user-backtest",
        )
        signature = sign_mandate(_SEED_HEX, mandate)
        decided = decide_mandate(self.kernel, mandate_bytes(mandate), [("approver", signature)], now_ns)
        assert not isinstance(decided, Refusal), decided
        self._apply(decided)

    # what is asked for

    def _quantity(self, wish: Wish) -> int:
        lot = self.instrument.lot_size
        if wish.side is Side.SELL:
            quantity = self.base * wish.share_bps // BPS
            return quantity - quantity % lot
        price, fee_bps = wish.limit_price, self.terms.taker_fee_bps
        if price is None:
            price = self._worst(Side.BUY)
        else:
            price -= price % self.instrument.tick_size
        return affordable(self.quote * wish.share_bps // BPS, price, fee_bps, lot) if price > 0 else 0

    def _request(self, wish: Wish, quantity: int, bar: Bar) -> OrderRequest:
        is_limit = wish.limit_price is not None
        price = None if wish.limit_price is None else wish.limit_price - wish.limit_price % self.instrument.tick_size
        return OrderRequest(
            request_id=f"{self._number}-{self.orders_asked}",
            account_id=ACCOUNT_ID,
            venue=self.instrument.venue,
            symbol=self.instrument.symbol,
            side=wish.side,
            order_type=OrderType.LIMIT if is_limit else OrderType.MARKET,
            time_in_force=TimeInForce.GTD if is_limit else TimeInForce.GTC,
            quantity=quantity,
            price=price,
            expires_ns=bar.closes_ns + wish.good_for_bars * self._width_ns if is_limit else None,
            strategy_id=self._strategy_id,
        )

    def _bracket(self, entry: OrderRequest, wish: Wish) -> GroupRequest:
        """Exits are at fixed distances from the price that the entry is asked for at."""
        reference, tick = entry.price or self._price, self.instrument.tick_size
        orders = {OrderRole.ENTRY: entry}
        if wish.take_profit_bps is not None:
            target = -(-reference * (BPS + wish.take_profit_bps) // (BPS * tick)) * tick
            orders[OrderRole.TAKE_PROFIT] = _exit(entry, OrderType.LIMIT, price=target)
        if wish.stop_loss_bps is not None:
            stop = max(tick, reference * (BPS - wish.stop_loss_bps) // (BPS * tick) * tick)
            orders[OrderRole.STOP] = _exit(entry, OrderType.STOP, stop_price=stop)
        return GroupRequest(entry.request_id, GroupKind.BRACKET, orders)

    def _worst(self, side: Side) -> int:
        return worse(self._price, side, self.terms.slippage_bps, self.instrument.tick_size)

    def _inputs(self, side: Side) -> DecisionInputs:
        """The last price stands for the whole book; what may be taken from it is what the bar before traded."""
        instrument, price = self.instrument, self._price
        text = scaled_text(price, instrument.price_scale)
        volume = from_scaled(self._volume, instrument.quantity_scale)
        total = {
            instrument.quote_asset: from_scaled(self.quote, instrument.notional_scale),
            instrument.base_asset: from_scaled(self.base, instrument.quantity_scale),
        }
        return DecisionInputs(
            MarketInputs(text, text, text, "LIVE", max(0, self._number), 0, text),
            venue_connected=True,
            worst_price=from_scaled(self._worst(side), instrument.price_scale),
            depth_quantity=volume,
            # As of a moment after all that is known.
            balances=Balances(total, self._tick()),
            visible_quantity=volume,
            marks={(instrument.venue, instrument.symbol): price},
            rates={instrument.quote_asset: Decimal(1)},
            account_id=ACCOUNT_ID,
        )

    # what the market does

    def _market(self, price: int) -> None:
        while (done := self._venue.at_price(price, self._moment_ns(), self.quote)) is not None:
            self._fill(done)
        self._end_unpaid()

    def _stops(self, bar: Bar) -> None:
        """Held stops that this bar reaches, at the open where it opens beyond them."""
        for order_id in tuple(self.kernel.open_order_ids):
            order = self.kernel.orders.get(order_id)
            if order is None or order.status is not OrderStatus.HELD or order.intent.stop_price is None:
                continue
            stop = order.intent.stop_price
            price = min(bar.open, stop)
            if bar.low > stop or not is_due(order, price):
                continue
            self._price = price
            self._review(order_id, price)
            self._market(price)

    def _look_again(self) -> None:
        """Held orders that couldn't go when they were looked at last: a target beyond the collar, say."""
        for order_id in tuple(self.kernel.open_order_ids):
            order = self.kernel.orders.get(order_id)
            if order is not None and order.status is OrderStatus.HELD and order.active_quantity:
                self._review(order_id)

    def _review(self, order_id: str, price: int | None = None) -> None:
        def inputs_of(intent: OrderIntent) -> DecisionInputs:
            return self._inputs(intent.side)

        for _ in range(STEPS_LIMIT):
            events = review(self.kernel, order_id, inputs_of, self._tick(), price)
            if not events:
                return
            self._apply(events)
        raise AssertionError("a group of orders doesn't come to rest")

    def _fill(self, done: Execution) -> None:
        instrument = self.instrument
        order = self.kernel.orders[done.client_order_id]
        notional = done.price * done.quantity
        if order.intent.side is Side.BUY:
            self.quote -= notional + done.fee
            self.base += done.quantity
        else:
            self.quote += notional - done.fee
            self.base -= done.quantity
        self.traded += notional
        self.fees += done.fee
        assert self.quote >= 0 <= self.base, "a fill beyond what the account has"
        now_ns = self._tick()
        report = FillReport(
            client_order_id=done.client_order_id,
            venue_order_id=done.client_order_id,
            trade_id=len(self.fills) + 1,
            price=done.price,
            quantity=done.quantity,
            fee=from_scaled(done.fee, instrument.notional_scale),
            fee_asset=instrument.quote_asset,
            is_maker=done.is_maker,
            venue_ts_ns=now_ns,
        )
        self._apply(decide_fill(self.kernel, report, now_ns))

    def _end_unpaid(self) -> None:
        for order_id in self._venue.unpaid():
            self._venue.cancel(order_id)
            reason = "the account couldn't pay for the rest"
            self._apply(decide_closed(self.kernel, order_id, OrderStatus.EXPIRED, reason, self._tick()))

    # events and what follows from them

    def _tick(self) -> int:
        """Each event has a time of its own, nanoseconds after the moment of the bar."""
        self._now_ns += 1
        return self._now_ns

    def _apply(self, events: Sequence[JournalEvent]) -> None:
        """All of a decision first, as one record of a journal, then what it asks for in its order."""
        for event in events:
            self._pending.extend(self.kernel.apply(event))
            if isinstance(event, OrderFilled):
                self.fills.append(event)
                if event.closed is not None:
                    self.closed.append(event.closed)
            elif isinstance(event, OrderRefused):
                self.refusals[event.refusal.code] += 1
        if self._is_following:
            return
        self._is_following = True
        for _ in range(STEPS_LIMIT):
            if not self._pending:
                self._is_following = False
                return
            self._follow(self._pending.popleft())
        raise AssertionError("what follows from an order doesn't come to rest")

    def _follow(self, effect: Effect) -> None:
        match effect:
            case SubmitOrder():
                self._submit(effect.intent)
            case CancelOrder():
                if self._venue.cancel(effect.client_order_id):
                    self._close(effect.client_order_id)
            case ReviewGroup():
                self._review(effect.client_order_id)
            case _:
                pass

    def _submit(self, intent: OrderIntent) -> None:
        is_stop = self.kernel.orders[intent.client_order_id].role == OrderRole.STOP
        # What the engine triggers itself goes at the price that triggered it.
        delay_ns = 0 if is_stop else self.terms.latency_ms * NS_PER_MS
        self._venue.submit(intent, self._moment_ns() + delay_ns, self._from_bar)
        self._apply(decide_accepted(self.kernel, intent.client_order_id, intent.client_order_id, self._tick()))

    def _moment_ns(self) -> int:
        """The nominal time: that of the bar, without the nanoseconds that tell events apart."""
        return self._now_ns - self._now_ns % self._width_ns

    def _close(self, order_id: str) -> None:
        self._apply(decide_closed(self.kernel, order_id, OrderStatus.CANCELED, "cancelled", self._tick()))

    def _only_exits(self) -> bool:
        """Whether all that is open waits to close what is held already."""
        return bool(self.base) and all(order.parent_id is not None for order in self.kernel.open_orders())

    # losses

    def _look_at_losses(self, bar: Bar) -> None:
        """As the engine's guard does: an account that has lost too much may only reduce from here on."""
        equity = self.equity(bar.close)
        if bar.closes_ns % DAY_LOOK_NS < self._width_ns:
            self._observe(bar.closes_ns)
        self._peak = max(self._peak, equity)
        lost, below = self._day_start - equity, self._peak - equity
        if self.stopped_by_risk is not None or (
            lost < self._max_loss and below * BPS < self._max_drawdown * self._peak
        ):
            return
        self._observe(bar.closes_ns)
        rules = self.kernel.rules
        assert rules is not None, "installed at the beginning"
        reason = loss_reason(self.kernel.equity[ACCOUNT_ID], rules.limits_for(ACCOUNT_ID, "", ""))
        if reason is None:
            return
        self.stopped_by_risk = (bar.closes_ns, reason)
        decided = decide_kill_switch(
            self.kernel,
            KillSwitch.REDUCE_ONLY,
            f"engine:{ENGINE_ID}",
            reason,
            None,
            self._tick(),
            account_id=ACCOUNT_ID,
        )
        assert not isinstance(decided, Refusal), "it is tightened once"
        self._apply(decided)

    def _observe(self, at_ns: int) -> None:
        """Tell the kernel what the account is worth at the last price, where that or the day has changed."""
        equity, rules = self.equity(self._price), self.kernel.rules
        assert rules is not None, "installed at the beginning"
        day = account_day(at_ns, rules.time_zone)
        if (day, equity) == (self._day, self._observed):
            return
        if day != self._day:
            self._day, self._day_start = day, equity
        self._observed, self._peak = equity, max(self._peak, equity)
        scale = self.instrument.notional_scale
        self._apply(
            (
                EquityObserved(
                    ts_ns=self._tick(),
                    account_id=ACCOUNT_ID,
                    day=day,
                    day_start_equity=scaled_text(self._day_start, scale),
                    peak_equity=scaled_text(self._peak, scale),
                    equity=scaled_text(equity, scale),
                ),
            )
        )


def _exit(
    entry: OrderRequest, kind: OrderType, *, price: int | None = None, stop_price: int | None = None
) -> OrderRequest:
    return msgspec.structs.replace(
        entry,
        side=Side.SELL,
        order_type=kind,
        time_in_force=TimeInForce.GTC,
        price=price,
        stop_price=stop_price,
        expires_ns=None,
    )
