"""The demo account: its orders, balances and user data stream, each change durable before anyone hears of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from core.types.clock import NS_PER_MS, Clock
from core.venues.paper.decimals import UNIT
from core.venues.paper.errors import VenueError, no_such_order, restricted_cancel, unknown_order, wrong_client_id
from core.venues.paper.events import MarketEvent, StartBook
from core.venues.paper.matching import Matching
from core.venues.paper.orders import NewList, NewOrder, Order, OrderList, Placed, Report, Status
from core.venues.paper.rules import RULES
from core.venues.paper.storage import Storage
from core.venues.paper.streams import Hub
from core.venues.paper.wire_orders import account_position, execution_report, list_status

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
        self.listeners: set[Callable[[str], None]] = set()
        """Who else hears the user data stream, each event as JSON text."""
        self.matching = Matching(
            {symbol: RULES[symbol] for symbol in symbols}, storage.load_balances(), storage.load_counters()
        )

    def start(self, books: Sequence[StartBook]) -> None:
        """Load the books, then take back the orders that were open before the restart."""
        for book in books:
            self.matching.views[book.symbol].load(book)
        self.matching.restore(self._storage.open_orders(), self._storage.open_lists())
        for book in books:
            self._settle(partial(self.matching.load_books_changed, book.symbol, self.now_ms()))

    def now_ms(self) -> int:
        return self._clock.now_ns() // NS_PER_MS

    # Orders

    def place(self, request: NewOrder) -> Placed:
        """Raises VenueError."""
        reports = self._settle(lambda: self.matching.place(request, self.now_ms()))
        return _outcome(reports[0].order.order_id, reports)

    def place_list(self, request: NewList) -> tuple[OrderList, list[Placed]]:
        """Raises VenueError."""
        made: list[OrderList] = []

        def change() -> list[Report]:
            orders, reports = self.matching.place_list(request, self.now_ms())
            made.append(orders)
            return reports

        reports = self._settle(change)
        return made[0], [_outcome(order_id, reports) for order_id in made[0].order_ids]

    def check(self, request: NewOrder) -> None:
        """All that `place` checks but the balance. Raises VenueError."""
        self.matching.check(request)

    def cancel(
        self,
        symbol: str,
        order_id: int | None,
        client_order_id: str | None,
        canceled_as: str,
        only: Status | None = None,
    ) -> list[Order]:
        """The canceled order, followed by the others of its list. `only`: the one status in which it may be canceled.

        Raises VenueError -2011 or -2039.
        """
        order = self._find_open(symbol, order_id, client_order_id)
        if order is None:
            raise unknown_order()
        if only is not None and order.status is not only:
            raise restricted_cancel()
        reports = self._settle(lambda: self.matching.cancel(order, canceled_as, self.now_ms()))
        return [report.order for report in reports]

    def cancel_all(self, symbol: str, name: Callable[[], str]) -> list[tuple[OrderList | None, list[Order], str]]:
        """Each open order, with its list if it has one, and the cancel's id. Raises VenueError -2011 when none is
        open."""
        if not self.open_orders(symbol):
            raise unknown_order()
        canceled = []
        while orders := self.open_orders(symbol):
            order_list = self.matching.lists.get(orders[0].list_id)
            canceled_as = name()
            canceled.append((order_list, self.cancel(symbol, orders[0].order_id, None, canceled_as), canceled_as))
        return canceled

    def amend(
        self, symbol: str, order_id: int | None, client_order_id: str | None, quantity: int, new_client_id: str
    ) -> tuple[Order, OrderList | None, int, str]:
        """The order, its list, the id of the change, and its client id before. Raises VenueError."""
        order = self._find_open(symbol, order_id, client_order_id)
        if order is None:
            raise VenueError(-2038, "Unknown order sent.")
        old_client_id = order.client_order_id
        reports = self._settle(lambda: self.matching.amend(order, quantity, new_client_id, self.now_ms()))
        own = next(report for report in reports if report.order.order_id == order.order_id)
        return own.order, self.matching.lists.get(order.list_id), own.execution_id, old_client_id

    def order(self, symbol: str, order_id: int | None, client_order_id: str | None) -> Order:
        """Raises VenueError -2013 or -2039."""
        found = self._find_open(symbol, order_id, client_order_id) or self._storage.order(
            symbol, order_id, None if order_id is not None else client_order_id
        )
        if found is None:
            raise no_such_order()
        if client_order_id is not None and found.client_order_id != client_order_id:
            raise wrong_client_id()
        return found

    def open_orders(self, symbol: str | None) -> list[Order]:
        return [order for order in self.matching.open.values() if symbol is None or order.symbol == symbol]

    def order_list(self, list_id: int | None, client_list_id: str | None) -> OrderList:
        """Raises VenueError -2018."""
        found = self._storage.order_list(list_id, client_list_id)
        if found is None:
            raise VenueError(-2018, "Order list does not exist.")
        return found

    def cancel_list(
        self, symbol: str, list_id: int | None, client_list_id: str | None, canceled_as: str
    ) -> tuple[OrderList, list[Order]]:
        """Raises VenueError -2011."""
        for orders in self.matching.lists.values():
            is_asked = orders.list_id == list_id if list_id is not None else orders.client_list_id == client_list_id
            if is_asked and orders.symbol == symbol:
                first = next(one for one in orders.order_ids if one in self.matching.open)
                return orders, self.cancel(symbol, first, None, canceled_as)
        raise unknown_order()

    def on_market(self, event: MarketEvent) -> None:
        """Market events reach our open orders."""
        self._settle(lambda: self.matching.on_market(event, self.now_ms()))

    def _find_open(self, symbol: str, order_id: int | None, client_order_id: str | None) -> Order | None:
        found = self.matching.find_open(symbol, order_id, client_order_id)
        if found is None and order_id is not None and self.matching.find_open(symbol, order_id, None) is not None:
            raise wrong_client_id()
        return found

    def _check_alive(self) -> None:
        if self._failed is not None:
            raise VenueError(-1001, "Internal error; unable to process your request. Please try again.", 503)

    def _settle(self, change: Callable[[], list[Report]]) -> list[Report]:
        """Change, make durable, then tell. When that breaks off halfway memory can't be trusted any more: fatal."""
        self._check_alive()
        matching = self.matching
        try:
            reports = change()
            lists, touched = matching.take_list_reports(), matching.take_touched()
            if not reports and not lists and not touched:
                return reports
            self._storage.commit(reports, matching.balances, matching.counters, lists, touched)
        except VenueError:
            raise
        except Exception as error:
            self._failed = error
            self._on_fatal(error)
            raise
        changed, matching.balances.changed = matching.balances.changed, set()
        if self._is_heard():
            for report in reports:
                self._tell(execution_report(report))
            for list_report in lists:
                self._tell(list_status(list_report))
            if changed:
                self._tell(account_position(changed, matching.balances.all(), self.now_ms()))
        return reports

    # User data stream

    def _is_heard(self) -> bool:
        return bool(self.listeners) or (self._listen_key is not None and self._hub.has(self._listen_key))

    def _tell(self, event: dict[str, object]) -> None:
        payload = msgspec.json.encode(event).decode()
        if self._listen_key is not None:
            self._hub.publish(self._listen_key, payload)
        for listener in tuple(self.listeners):
            listener(payload)

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


def _outcome(order_id: int, reports: list[Report]) -> Placed:
    mine = [report for report in reports if report.order.order_id == order_id]
    return Placed(
        order=mine[-1].order,
        fills=[report.fill for report in mine if report.fill is not None],
        prevented=[
            report.prevented
            for report in reports
            if report.prevented is not None
            and order_id in {report.prevented.taker_order_id, report.prevented.maker_order_id}
        ],
    )
