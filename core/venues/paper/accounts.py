"""The demo account: its orders, balances and user data stream, each change durable before anyone hears of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from core.types.clock import NS_PER_MS, Clock
from core.venues.paper.decimals import UNIT
from core.venues.paper.errors import VenueError, no_such_order, unknown_order
from core.venues.paper.events import MarketEvent, StartBook
from core.venues.paper.matching import Matching
from core.venues.paper.orders import Fill, NewOrder, Order, Report
from core.venues.paper.rules import RULES
from core.venues.paper.storage import Storage
from core.venues.paper.streams import Hub
from core.venues.paper.wire import account_position, execution_report

STARTING_BALANCES = {"USDT": 1_000_000 * UNIT, "BTC": 20 * UNIT, "ETH": 200 * UNIT, "SOL": 5_000 * UNIT}
LISTEN_KEY_LIFE_MS = 60 * 60_000
LISTEN_KEY_BYTES = 32


class Account:
    """The one account of this venue. A storage failure is fatal: `on_fatal` is told and nothing more is accepted."""

    def __init__(
        self, storage: Storage, hub: Hub, clock: Clock, symbols: Sequence[str], on_fatal: Callable[[Exception], None]
    ) -> None:
        self._storage = storage
        self._hub = hub
        self._clock = clock
        self._on_fatal = on_fatal
        self._failed: Exception | None = None
        self._listen_key: str | None = None
        self._listen_key_until_ms = 0
        self.matching = Matching(
            {symbol: RULES[symbol] for symbol in symbols}, storage.load_balances(), storage.load_counters()
        )

    def start(self, books: Sequence[StartBook]) -> None:
        """Load the books, then take back the orders that rested before the restart."""
        for book in books:
            self.matching.views[book.symbol].load(book)
        self.matching.restore(self._storage.open_orders())
        for book in books:
            self._settle(partial(self.matching.load_books_changed, book.symbol, self.now_ms()))

    def now_ms(self) -> int:
        return self._clock.now_ns() // NS_PER_MS

    # Orders

    def place(self, request: NewOrder) -> tuple[Order, list[Fill]]:
        """Raises VenueError."""
        self._check_alive()
        reports = self._settle(lambda: self.matching.place(request, self.now_ms()))
        own_id = reports[0].order.order_id
        mine = [report for report in reports if report.order.order_id == own_id]
        return mine[-1].order, [report.fill for report in mine if report.fill is not None]

    def cancel(self, symbol: str, order_id: int | None, client_order_id: str | None, canceled_as: str) -> Order:
        """Raises VenueError -2011."""
        self._check_alive()
        order = self.matching.find_open(symbol, order_id, client_order_id)
        if order is None:
            raise unknown_order()
        reports = self._settle(lambda: self.matching.cancel(order, canceled_as, self.now_ms()))
        return reports[-1].order

    def cancel_all(self, symbol: str, name: Callable[[], str]) -> list[tuple[Order, str]]:
        """Raises VenueError -2011 when none is open."""
        orders = self.open_orders(symbol)
        if not orders:
            raise unknown_order()
        cancels = [(order, name()) for order in orders]
        return [(self.cancel(symbol, order.order_id, None, as_id), as_id) for order, as_id in cancels]

    def order(self, symbol: str, order_id: int | None, client_order_id: str | None) -> Order:
        """Raises VenueError -2013."""
        found = self.matching.find_open(symbol, order_id, client_order_id) or self._storage.order(
            symbol, order_id, client_order_id
        )
        if found is None:
            raise no_such_order()
        return found

    def open_orders(self, symbol: str | None) -> list[Order]:
        return [order for order in self.matching.open.values() if symbol is None or order.symbol == symbol]

    def on_market(self, event: MarketEvent) -> None:
        """Market events reach our resting orders."""
        self._settle(lambda: self.matching.on_market(event, self.now_ms()))

    def _check_alive(self) -> None:
        if self._failed is not None:
            raise VenueError(-1001, "Internal error; unable to process your request. Please try again.", 503)

    def _settle(self, change: Callable[[], list[Report]]) -> list[Report]:
        """Change, make durable, then tell. When that breaks off halfway memory can't be trusted any more: fatal."""
        balances = self.matching.balances
        try:
            reports = change()
            if not reports:
                return reports
            self._storage.commit(reports, balances, self.matching.counters)
        except VenueError:
            raise
        except Exception as error:
            self._failed = error
            self._on_fatal(error)
            raise
        changed, balances.changed = balances.changed, set()
        key = self._listen_key
        if key is None or not self._hub.has(key):
            return reports
        for report in reports:
            self._hub.publish(key, msgspec.json.encode(execution_report(report)).decode())
        position = account_position(changed, balances.all(), self.now_ms())
        self._hub.publish(key, msgspec.json.encode(position).decode())
        return reports

    # User data stream

    def create_listen_key(self) -> str:
        """A valid key is given again, with its life renewed, as Binance does."""
        self.expire_listen_key()
        if self._listen_key is None:
            self._listen_key = secrets.token_urlsafe(LISTEN_KEY_BYTES)
            self._hub.set_private({self._listen_key})
        self._listen_key_until_ms = self.now_ms() + LISTEN_KEY_LIFE_MS
        return self._listen_key

    def renew_listen_key(self, key: str) -> None:
        """Raises VenueError -1125."""
        self._known_listen_key(key)
        self._listen_key_until_ms = self.now_ms() + LISTEN_KEY_LIFE_MS

    def close_listen_key(self, key: str) -> None:
        """Raises VenueError -1125."""
        self._known_listen_key(key)
        self._forget_listen_key()

    def expire_listen_key(self) -> None:
        """Called now and then: an expired key is announced on its own stream and forgotten."""
        key = self._listen_key
        if key is not None and self.now_ms() >= self._listen_key_until_ms:
            expired = {"e": "listenKeyExpired", "E": self.now_ms(), "listenKey": key}
            self._hub.publish(key, msgspec.json.encode(expired).decode())
            self._forget_listen_key()

    def _known_listen_key(self, key: str) -> None:
        self.expire_listen_key()
        if self._listen_key is None or not secrets.compare_digest(self._listen_key.encode(), key.encode()):
            raise VenueError(-1125, "This listenKey does not exist.")

    def _forget_listen_key(self) -> None:
        self._listen_key = None
        self._hub.set_private(set())
