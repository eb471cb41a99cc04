"""Somebody else's clientOrderId that comes again: venues hold an id unique among open orders only, the kernel for ever.

The engine's own ids are functions of what was decided and never come again. An order that another client places under
an id which an earlier order of theirs had is known here by that id and the venue's own, also when the earlier one has
left memory; the venue is asked by the id that it knows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec

from core.kernel.kernel import Kernel
from core.kernel.records import SEPARATOR
from core.orders.machine import Order
from core.types.authority import ExternalAuthority
from core.types.instruments import Instrument
from core.types.orders import OrderIntent, OrderStatus
from core.types.venues import VenueCapabilities
from core.venues.ports import (
    AmendResult,
    ExecutionReport,
    SubmitResult,
    UserEvent,
    VenueFunding,
    VenueOrder,
    VenuePort,
    VenuePosition,
    VenueTrade,
)


class ReusedIds:
    """A VenuePort in front of another, whose answers name each order by one id and each id one order."""

    def __init__(self, venue: VenuePort, kernel: Kernel) -> None:
        self._venue = venue
        self._kernel = kernel

    @property
    def capabilities(self) -> VenueCapabilities:
        return self._venue.capabilities

    def now_ns(self) -> int | None:
        return self._venue.now_ns()

    async def instruments(self) -> tuple[Instrument, ...]:
        return await self._venue.instruments()

    async def submit(self, intent: OrderIntent) -> SubmitResult:
        return await self._venue.submit(intent)

    async def amend(self, intent: OrderIntent, quantity: int, price: int | None) -> AmendResult:
        there = msgspec.structs.replace(intent, client_order_id=_there(intent.client_order_id))
        return await self._venue.amend(there, quantity, price)

    async def cancel(self, symbol: str, client_order_id: str) -> None:
        await self._venue.cancel(symbol, _there(client_order_id))

    async def cancel_all(self, symbol: str) -> None:
        await self._venue.cancel_all(symbol)

    async def order(self, symbol: str, client_order_id: str) -> VenueOrder | None:
        """When the venue tells of a later order under that id, the one that is meant has ended: what its fills say."""
        seen = await self._venue.order(symbol, _there(client_order_id))
        known = self._kernel.orders.get(client_order_id)
        if seen is None:
            return None if known is None else await self._by_number(known)
        if self._here(seen.client_order_id, seen.venue_order_id) == client_order_id:
            return msgspec.structs.replace(seen, client_order_id=client_order_id)
        if known is None or not _is_later(seen, known):
            return None
        return await self._ended(known, seen)

    async def _by_number(self, known: Order) -> VenueOrder | None:
        """Somebody else's order by the venue's own id; of ours the clientOrderId is all that is asked by (I4)."""
        if not isinstance(known.authority, ExternalAuthority) or not known.venue_order_id:
            return None
        told = await self._venue.order_by_venue_id(known.intent.symbol, known.venue_order_id)
        return None if told is None else msgspec.structs.replace(told, client_order_id=known.intent.client_order_id)

    async def _ended(self, known: Order, later: VenueOrder) -> VenueOrder:
        """Ids are unique among open orders, so a later one of the same id proves the end of the one before it. Where
        the venue doesn't tell of it by its own id either, nobody says whether it was cancelled or expired."""
        intent, venue_order_id = known.intent, known.venue_order_id or ""
        told = await self._by_number(known)
        if told is not None and told.status.is_final:
            return told
        trades = await self._venue.trades_of(intent.symbol, venue_order_id)
        filled = sum(trade.quantity for trade in trades)
        return VenueOrder(
            symbol=intent.symbol,
            client_order_id=intent.client_order_id,
            venue_order_id=venue_order_id,
            status=OrderStatus.FILLED if filled >= intent.quantity else OrderStatus.CANCELED,
            filled_quantity=filled,
            ts_event_ns=later.ts_event_ns,
            side=intent.side,
            order_type=intent.order_type,
            time_in_force=intent.time_in_force,
            quantity=intent.quantity,
            price=intent.price,
        )

    async def order_by_venue_id(self, symbol: str, venue_order_id: str) -> VenueOrder | None:
        seen = await self._venue.order_by_venue_id(symbol, venue_order_id)
        return None if seen is None else self._named(seen)

    async def open_orders(self, symbol: str) -> list[VenueOrder]:
        return [self._named(order) for order in await self._venue.open_orders(symbol)]

    async def all_open_orders(self) -> list[VenueOrder]:
        return [self._named(order) for order in await self._venue.all_open_orders()]

    async def trades_of(self, symbol: str, venue_order_id: str) -> list[VenueTrade]:
        return [self._named_trade(trade) for trade in await self._venue.trades_of(symbol, venue_order_id)]

    async def trades_since(self, symbol: str, since_ns: int) -> list[VenueTrade]:
        return [self._named_trade(trade) for trade in await self._venue.trades_since(symbol, since_ns)]

    async def balances(self) -> dict[str, Decimal]:
        return await self._venue.balances()

    async def positions(self) -> list[VenuePosition]:
        return await self._venue.positions()

    async def funding_since(self, since_ns: int) -> list[VenueFunding]:
        return await self._venue.funding_since(since_ns)

    async def user_events(self) -> AsyncIterator[UserEvent]:
        async for event in self._venue.user_events():
            if isinstance(event, ExecutionReport):
                trade = None if event.trade is None else self._named_trade(event.trade)
                yield msgspec.structs.replace(event, order=self._named(event.order), trade=trade)
            else:
                yield event

    def _named(self, order: VenueOrder) -> VenueOrder:
        name = self._here(order.client_order_id, order.venue_order_id)
        return order if name == order.client_order_id else msgspec.structs.replace(order, client_order_id=name)

    def _named_trade(self, trade: VenueTrade) -> VenueTrade:
        name = self._here(trade.client_order_id, trade.venue_order_id)
        return trade if name == trade.client_order_id else msgspec.structs.replace(trade, client_order_id=name)

    def _here(self, client_order_id: str, venue_order_id: str) -> str:
        return name_here(self._kernel, client_order_id, venue_order_id)


def name_here(kernel: Kernel, client_order_id: str, venue_order_id: str) -> str:
    """The id that an order of the venue has in this kernel, also when client_order_id is that id already."""
    known, other_id = kernel.orders.get(client_order_id), f"{client_order_id}{SEPARATOR}{venue_order_id}"
    if known is None:
        if other_id in kernel.orders:
            return other_id
        # The first order of this id has left memory; of somebody else's the venue's own id is kept.
        is_another = kernel.knows_order(f"{client_order_id}{SEPARATOR}") and not kernel.knows_order(other_id)
        return other_id if is_another else client_order_id
    if known.venue_order_id in {None, venue_order_id}:
        return client_order_id
    if not isinstance(known.authority, ExternalAuthority):
        # One of ours under another venue id is a contradiction, and told as one.
        return client_order_id
    return other_id


def is_reused(client_order_id: str) -> bool:
    """Whether a later order may have the id at the venue by now."""
    return SEPARATOR in client_order_id


def _is_later(seen: VenueOrder, known: Order) -> bool:
    """Whether the venue numbered it after the one that is known: a query that lags may show an earlier one."""
    ours, theirs = known.venue_order_id or "", seen.venue_order_id
    if not isinstance(known.authority, ExternalAuthority) or not (ours.isdecimal() and theirs.isdecimal()):
        return False
    return int(theirs) > int(ours)


def _there(client_order_id: str) -> str:
    return client_order_id.partition(SEPARATOR)[0]
