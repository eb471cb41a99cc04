"""The futures account: requests, market events and the passing of time go in, each change is durable before anyone
hears of it.

Liquidation, simply: when the margin balance of the cross positions (cross wallet + their unrealised profit) is below
their maintenance margin, all open orders on cross symbols are canceled and the positions are closed one by one, the
largest loss first, by a market order whose client id begins with `autoclose-`, until the margin balance suffices again.
An isolated position is closed alone, against its own margin. What a liquidation loses beyond that margin is made up by
an INSURANCE_CLEAR income, so that no wallet ends below zero. There is no liquidation fee but the taker's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from core.types.clock import NS_PER_MS, Clock
from core.venues.paper.decimals import UNIT
from core.venues.paper.errors import VenueError, no_such_order, unknown_order
from core.venues.paper.events import MarketEvent, StartBook
from core.venues.paper.usdm import errors
from core.venues.paper.usdm.conditionals import Conditionals
from core.venues.paper.usdm.engine import Engine
from core.venues.paper.usdm.ledger import Ledger, PositionKey, State
from core.venues.paper.usdm.marks import Funding, FundingTerms
from core.venues.paper.usdm.numbers import product
from core.venues.paper.usdm.orders import (
    Algo,
    Event,
    LeverageEvent,
    MarginCallEvent,
    MarginType,
    Order,
    PositionSide,
    Terms,
    TimeInForce,
)
from core.venues.paper.usdm.rules import CONTRACTS
from core.venues.paper.usdm.storage import Changes, Storage

STARTING_WALLET = 100_000 * UNIT
"""USDT."""
MARGIN_CALL_PERCENT = 80
"""MARGIN_CALL is sent when the maintenance margin reaches this share of the margin balance."""

Result = TypeVar("Result")


class FuturesAccount:
    """The one account. A storage failure is fatal: `on_fatal` is told and nothing more is accepted."""

    def __init__(
        self,
        storage: Storage,
        clock: Clock,
        symbols: Sequence[str],
        funding: FundingTerms,
        publish: Callable[[Sequence[Event]], None],
        on_fatal: Callable[[Exception], None],
        starting_wallet: int = STARTING_WALLET,
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._funding = funding
        self._publish = publish
        self._on_fatal = on_fatal
        self._failed: Exception | None = None
        self._is_state_changed = False
        self._is_margin_called = False
        self._countdowns: dict[str, int] = {}
        stored = storage.load_state()
        self.ledger = Ledger({symbol: CONTRACTS[symbol] for symbol in symbols}, stored or State())
        self.ledger.positions = {(one.symbol, one.side): one for one in storage.load_positions()}
        for one in self.ledger.positions.values():
            self.ledger.marks.setdefault(one.symbol, 0)
        self.ledger.settings = {one.symbol: one for one in storage.load_settings()}
        self.engine = Engine(self.ledger)
        self.conditionals = Conditionals(self.engine)
        if stored is None:
            self._settle(lambda: self.ledger.book_income("TRANSFER", "", starting_wallet, self.now_ms()))

    def start(self, books: Sequence[StartBook]) -> None:
        """Load the books, then take back what rested before the restart. Funding times that passed while the venue was
        down are skipped."""
        for book in books:
            self.engine.views[book.symbol].load(book)
        self.engine.now_ms = self.now_ms()
        self.engine.restore(self._storage.open_orders())
        self.conditionals.restore(self._storage.open_algos())
        if self.ledger.state.next_funding_ms <= self.now_ms():
            self.ledger.state.next_funding_ms = self._funding.next_after(self.now_ms())
            self._is_state_changed = True

    def match_start(self) -> None:
        """Resting orders meet the start books; the marks are known by now."""
        for symbol in self.engine.rules:
            self._settle(lambda symbol=symbol: self.engine.match_all(symbol))  # type: ignore[misc]

    def now_ms(self) -> int:
        return self._clock.now_ns() // NS_PER_MS

    # Orders

    def place(self, terms: Terms) -> Order:
        """Raises VenueError."""
        return self._settle(lambda: self.engine.place(terms))

    def check(self, terms: Terms) -> Order:
        """What `place` would check, without placing: POST /fapi/v1/order/test. Raises VenueError."""
        return self.engine.preview(terms)

    def modify(self, symbol: str, order_id: int | None, client_id: str | None, price: int, quantity: int) -> Order:
        """Raises VenueError -2013 and those of the filters."""
        order = self.engine.find_open(symbol, order_id, client_id)
        if order is None:
            raise no_such_order()
        self._settle(lambda: self.engine.modify(order, price, quantity))
        return order

    def cancel(self, symbol: str, order_id: int | None, client_id: str | None) -> Order:
        """Raises VenueError -2011."""
        order = self.engine.find_open(symbol, order_id, client_id)
        if order is None:
            raise unknown_order()
        self._settle(lambda: self.engine.cancel(order))
        return order

    def cancel_all(self, symbol: str) -> None:
        """Only what stands at the matching core; conditional orders have their own."""

        def change() -> None:
            for order in self.open_orders(symbol):
                self.engine.cancel(order)

        self._settle(change)

    def order(self, symbol: str, order_id: int | None, client_id: str | None) -> Order:
        """Raises VenueError -2013."""
        found = self.engine.find_open(symbol, order_id, client_id) or self._storage.order(symbol, order_id, client_id)
        if found is None:
            raise no_such_order()
        return found

    def open_orders(self, symbol: str | None) -> list[Order]:
        return [order for order in self.engine.open.values() if symbol in {None, order.symbol}]

    def set_countdown(self, symbol: str, countdown_ms: int) -> None:
        """Cancel all open orders of the symbol that much later, unless renewed; 0 stops it."""
        self._countdowns.pop(symbol, None)
        if countdown_ms:
            self._countdowns[symbol] = self.now_ms() + countdown_ms

    # Conditional orders

    def place_algo(self, terms: Terms) -> Algo:
        """Raises VenueError."""
        return self._settle(lambda: self.conditionals.place(terms))

    def cancel_algo(self, algo_id: int | None, client_id: str | None) -> Algo:
        """Raises VenueError -2011."""
        algo = self.conditionals.find_open(algo_id, client_id)
        if algo is None:
            raise unknown_order()
        self._settle(lambda: self.conditionals.cancel(algo))
        return algo

    def cancel_all_algos(self, symbol: str) -> None:
        def change() -> None:
            for algo in self.open_algos(symbol):
                self.conditionals.cancel(algo)

        self._settle(change)

    def algo(self, algo_id: int | None, client_id: str | None) -> Algo:
        """Raises VenueError -2013."""
        found = self.conditionals.find_open(algo_id, client_id) or self._storage.algo(algo_id, client_id)
        if found is None:
            raise no_such_order()
        return found

    def open_algos(self, symbol: str | None) -> list[Algo]:
        return [algo for algo in self.conditionals.open.values() if symbol in {None, algo.symbol}]

    # Settings

    def set_leverage(self, symbol: str, leverage: int) -> int:
        """Gives the largest position notional. Raises VenueError -4028, -4161, -2027 or -2028."""
        rules, settings = self.engine.rules[symbol], self.ledger.of(symbol)
        if not 1 <= leverage <= rules.max_leverage:
            raise VenueError(-4028, f"Leverage {leverage} is not valid")
        margins = [self.ledger.margin(key) for key in self.ledger.position_keys(symbol)]
        is_open = any(margin.notional for margin in margins)
        if self.ledger.is_isolated(symbol) and is_open and leverage < settings.leverage:
            raise VenueError(-4161, "Leverage reduction is not supported in Isolated Margin Mode with open positions.")
        if any(abs(margin.notional) > rules.max_notional(leverage) for margin in margins):
            raise errors.position_too_large()
        before, available = settings.leverage, self.ledger.available()
        settings.leverage = leverage
        if self.ledger.available() < 0 <= available:
            settings.leverage = before
            raise errors.leverage_too_small()

        def change() -> None:
            self.ledger.changed_settings.add(symbol)
            self.engine.events.append(LeverageEvent(symbol, leverage, self.engine.now_ms))

        self._settle(change)
        return rules.max_notional(leverage)

    def set_margin_type(self, symbol: str, margin_type: MarginType) -> None:
        """Raises VenueError -4046, -4047 or -4048."""
        settings = self.ledger.of(symbol)
        if settings.margin_type is margin_type:
            raise VenueError(-4046, "No need to change margin type.")
        if self.open_orders(symbol) or self.open_algos(symbol):
            raise VenueError(-4047, "Margin type cannot be changed if there exists open orders.")
        if any(position.symbol == symbol for position in self.ledger.open_positions()):
            raise VenueError(-4048, "Margin type cannot be changed if there exists position.")

        def change() -> None:
            settings.margin_type = margin_type
            self.ledger.changed_settings.add(symbol)

        self._settle(change)

    def set_dual_side(self, is_dual_side: bool) -> None:
        """Raises VenueError -4059, -4067 or -4068."""
        if self.ledger.state.is_dual_side == is_dual_side:
            raise VenueError(-4059, "No need to change position side.")
        if self.engine.open or self.conditionals.open:
            raise VenueError(-4067, "Position side cannot be changed if there exists open orders.")
        if self.ledger.open_positions():
            raise VenueError(-4068, "Position side cannot be changed if there exists position.")

        def change() -> None:
            self.ledger.state.is_dual_side = is_dual_side
            self._is_state_changed = True

        self._settle(change)

    def add_isolated_margin(self, symbol: str, side: PositionSide, amount: int) -> None:
        """Move between the cross wallet and an isolated position's own; negative takes out. Raises VenueError."""
        key = (symbol, side)
        position = self.ledger.positions.get(key)
        if not self.ledger.is_isolated(symbol):
            raise VenueError(-4049, "Add margin only support for isolated position.")
        if position is None or not position.amount:
            raise VenueError(-4054, "Cannot add position margin: position is 0.")
        if amount > max(0, self.ledger.available()):
            raise VenueError(-4050, "Cross balance insufficient.")
        margin = self.ledger.margin(key)
        if amount < 0 and position.isolated + amount + min(0, margin.unrealised) < margin.position_initial:
            raise VenueError(-4051, "Isolated balance insufficient.")

        def change() -> None:
            position.isolated += amount
            position.updated_ms = self.engine.now_ms
            self.ledger.changed_positions.add(key)
            self.engine.tell_account("MARGIN_TRANSFER", [key], has_balance=True)

        self._settle(change)

    def transfer(self, amount: int) -> None:
        """Paper money into the wallet, or out of it. Raises VenueError -2018."""
        if amount < 0 and -amount > self.ledger.available():
            raise VenueError(-2018, "Balance is insufficient.")

        def change() -> None:
            self.ledger.book_income("TRANSFER", "", amount, self.engine.now_ms, info="DEPOSIT")
            self.engine.tell_account("DEPOSIT" if amount > 0 else "WITHDRAW", [], amount)

        self._settle(change)

    # Market and time

    def on_market(self, event: MarketEvent, mark: Callable[[], int]) -> None:
        """One market event reaches the book, the mark price that `mark` works out after it, then all orders."""

        def change() -> None:
            self.engine.on_market(event)
            self.ledger.marks[event.symbol] = mark()
            self._on_prices(event.symbol)

        self._settle(change)

    def on_tick(self, mark: Callable[[str], int]) -> None:
        """Each second: marks, times of orders, countdowns."""

        def change() -> None:
            now_ms = self.engine.now_ms
            for symbol, due_ms in list(self._countdowns.items()):
                if now_ms >= due_ms:
                    del self._countdowns[symbol]
                    for order in self.open_orders(symbol):
                        self.engine.cancel(order)
            for order in list(self.engine.open.values()):
                if order.time_in_force is TimeInForce.GTD and now_ms >= order.good_till_ms:
                    self.engine.expire(order)
            for algo in list(self.conditionals.open.values()):
                if algo.time_in_force is TimeInForce.GTD and now_ms >= algo.good_till_ms:
                    self.conditionals.expire(algo)
            for symbol in self.engine.rules:
                self.ledger.marks[symbol] = mark(symbol)
                self._on_prices(symbol)

        self._settle(change)

    def is_funding_due(self) -> bool:
        return self.now_ms() >= self.ledger.state.next_funding_ms

    def fund(self, fundings: Sequence[Funding]) -> None:
        """Longs pay a positive rate of their notional at the mark price to shorts, and shorts a negative one."""

        def change() -> None:
            state, now_ms = self.ledger.state, self.engine.now_ms
            for funding in fundings:
                for key in self.ledger.position_keys(funding.symbol):
                    position = self.ledger.positions.get(key)
                    if position is None or not position.amount:
                        continue
                    paid = product(product(funding.mark, position.amount), funding.rate)
                    if paid:
                        self.ledger.book_income("FUNDING_FEE", funding.symbol, -paid, now_ms)
                    if self.ledger.is_isolated(funding.symbol):
                        position.isolated -= paid
                        self.ledger.changed_positions.add(key)
                        self.engine.tell_account("FUNDING_FEE", [key], -paid)
                    else:
                        self.engine.tell_account("FUNDING_FEE", [], -paid)
            state.next_funding_ms = self._funding.next_after(now_ms)
            self._is_state_changed = True

        self._settle(change)

    def _on_prices(self, symbol: str) -> None:
        if self.conditionals.open:
            self.conditionals.on_prices(symbol)
        if any(position.symbol == symbol and position.amount for position in self.ledger.positions.values()):
            self._check_liquidation(symbol)

    # Liquidation

    def _check_liquidation(self, symbol: str) -> None:
        ledger = self.ledger
        if ledger.is_isolated(symbol):
            for key in ledger.position_keys(symbol):
                if key in ledger.positions and ledger.positions[key].amount and ledger.is_liquidated(key):
                    self._cancel_orders([symbol])
                    self._liquidate(key)
            return
        cross = ledger.cross()
        balance = ledger.cross_wallet + cross.unrealised
        if cross.maintenance * 100 < balance * MARGIN_CALL_PERCENT:
            self._is_margin_called = False
        elif not self._is_margin_called:
            self._is_margin_called = True
            views = tuple(
                ledger.view(position) for position in ledger.open_positions() if not ledger.is_isolated(position.symbol)
            )
            self.engine.events.append(MarginCallEvent(ledger.cross_wallet, views, self.engine.now_ms))
        if not ledger.is_cross_liquidated():
            return
        positions = [one for one in ledger.open_positions() if not ledger.is_isolated(one.symbol)]
        self._cancel_orders([one for one in self.engine.rules if not ledger.is_isolated(one)])
        for position in sorted(positions, key=ledger.unrealised):
            if ledger.is_cross_liquidated():
                self._liquidate((position.symbol, position.side))

    def _cancel_orders(self, symbols: Sequence[str]) -> None:
        for order in list(self.engine.open.values()):
            if order.symbol in symbols:
                self.engine.cancel(order)

    def _liquidate(self, key: PositionKey) -> None:
        ledger = self.ledger
        is_isolated, isolated, wallet = ledger.is_isolated(key[0]), ledger.positions[key].isolated, ledger.state.wallet
        if self.engine.liquidate(key, f"autoclose-{self.engine.now_ms}{ledger.state.order_id}") is None:
            return
        if is_isolated:
            own = isolated - ledger.positions[key].isolated
            shortfall = -(own + ledger.state.wallet - wallet)
        else:
            is_left = any(not ledger.is_isolated(one.symbol) for one in ledger.open_positions())
            shortfall = 0 if is_left else -ledger.cross_wallet
        if shortfall > 0:
            ledger.book_income("INSURANCE_CLEAR", key[0], shortfall, self.engine.now_ms)
            self.engine.tell_account("INSURANCE_CLEAR", [], shortfall)

    # Durable, then told

    def _settle(self, change: Callable[[], Result]) -> Result:
        """Change, make durable, then tell. When that breaks off halfway memory can't be trusted any more: fatal."""
        if self._failed is not None:
            raise VenueError(-1001, "Internal error; unable to process your request. Please try again.", 503)
        self.engine.now_ms = max(self.engine.now_ms, self.now_ms())
        try:
            result = change()
            self.conditionals.finish()
            events = self._commit()
        except VenueError:
            raise
        except Exception as error:
            self._failed = error
            self._on_fatal(error)
            raise
        if events:
            self._publish(events)
        return result

    def _commit(self) -> list[Event]:
        engine, ledger, conditionals = self.engine, self.ledger, self.conditionals
        events, engine.events = engine.events, []
        is_changed = (
            events
            or engine.changed_orders
            or conditionals.changed
            or ledger.incomes
            or ledger.changed_positions
            or ledger.changed_settings
            or self._is_state_changed
        )
        if not is_changed:
            return events
        self._storage.commit(
            Changes(
                state=ledger.state,
                orders=list(engine.changed_orders.values()),
                algos=list(conditionals.changed.values()),
                fills=engine.fills,
                incomes=ledger.incomes,
                positions=[ledger.positions[key] for key in ledger.changed_positions],
                settings=[ledger.settings[symbol] for symbol in ledger.changed_settings],
            )
        )
        engine.changed_orders, engine.fills, conditionals.changed = {}, [], {}
        ledger.incomes, ledger.changed_positions, ledger.changed_settings = [], set(), set()
        self._is_state_changed = False
        return events
