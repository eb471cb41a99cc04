"""Watches over the orders that the engine holds: every trade of their markets, and what happens to their like."""

from __future__ import annotations

import asyncio
from collections import Counter

import structlog

from core.kernel.decide_held import concerned, is_due
from core.orders.machine import ImpossibleTransitionError
from core.runtime.service import EngineService
from core.storage.journal import JournalUnavailableError

LOOK_INTERVAL_S = 0.25
"""What was missed (a disk that was full, a stale book, a restart) is looked at again so often."""
LOOKS_AT_ONCE = 32
"""Then others have their turn: an order to send doesn't wait for a look at hundreds that are held."""
REVIEWS_WAITING_LIMIT = 64
"""Of one order; what comes beyond is left to the next look."""

_log = structlog.get_logger("engine.held")


class HeldOrders:
    """updated is called for every trade of a symbol, changed for every event of an order with others beside it."""

    def __init__(self, service: EngineService, venue: str) -> None:
        self._service = service
        self._venue = venue
        self._waiting: Counter[str] = Counter()
        self._seen: dict[str, int] = {}
        service.dispatcher.on_group_changed = self.changed

    def updated(self, symbol: str) -> None:
        """Holds the last trade against every held order of its market, each trade once."""
        kernel = self._service.kernel
        held = kernel.index.held_in((self._venue, symbol))
        if not held:
            return
        trade = self._service.hub.last_trade(symbol)
        if trade is None or self._seen.get(symbol) == trade.trade_id:
            return
        self._seen[symbol] = trade.trade_id
        for order_id in held:
            if is_due(kernel.orders[order_id], trade.price):
                self._begin(order_id, trade.price)

    def changed(self, order_id: str) -> None:
        self._begin(order_id, None)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            for number, order_id in enumerate(tuple(self._service.kernel.index.dependent), start=1):
                if not number % LOOKS_AT_ONCE:
                    await asyncio.sleep(0)
                if order_id not in self._waiting and self._service.has_next_step(order_id):
                    self._begin(order_id, None)

    def _begin(self, order_id: str, price: int | None) -> None:
        if self._waiting[order_id] < REVIEWS_WAITING_LIMIT and concerned(self._service.kernel, order_id):
            self._waiting[order_id] += 1
            self._service.dispatcher.spawn(self._review(order_id, price), "review", order_id)

    async def _review(self, order_id: str, price: int | None) -> None:
        try:
            await self._service.review_order(order_id, price)
        except JournalUnavailableError as error:
            _log.warning("held_order_not_reviewed", client_order_id=order_id, error=str(error))
        except ImpossibleTransitionError as error:
            _log.error("held_order_contradicts", client_order_id=order_id, error=str(error))
        finally:
            self._waiting[order_id] -= 1
            if not self._waiting[order_id]:
                del self._waiting[order_id]
