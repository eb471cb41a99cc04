"""Is the engine of one mind with the venue? Compares open orders, fills and positions, and mends what differs.

What the venue confirms is never dropped, and no fill is invented: orders that the engine doesn't know are adopted,
fills are asked for, orders that the venue no longer shows are looked up one by one. What still differs after that
freezes the account until a comparison is clean.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import structlog

from core.kernel.kernel import Kernel
from core.orders.machine import Order
from core.portfolio.positions import EXACT
from core.runtime.service import EngineService
from core.types.authority import ExternalAuthority
from core.types.codes import ReasonCode, refuse
from core.types.events import Difference, FreezeChanged, JournalEvent, OrderAdopted, Reconciled
from core.types.instruments import Product
from core.types.money import decimal_text, from_scaled
from core.types.orders import OrderIntent, OrderStatus, OrderType, TimeInForce
from core.types.views import DifferenceView, ReconciliationView
from core.venues.ports import VenueOrder, VenuePosition

FREEZE_REASON = "reconciliation: "
FOUND_BY = "reconciliation"
DIFFERENCES_KEPT = 1_000

ORDER_MISSING = "order.missing_at_venue"
ORDER_UNKNOWN_HERE = "order.unknown_here"
ORDER_FILLED = "order.filled"
ORDER_TERMS = "order.terms"
ORDER_UNRESOLVED = "order.unresolved"
POSITION = "position"

_log = structlog.get_logger("engine.reconcile")


class VenueTruth(msgspec.Struct, frozen=True):
    """What the venue said, and when it was asked."""

    asked_ns: int
    orders: list[VenueOrder]
    positions: list[VenuePosition]


class Reconciler:
    """Compares one account with its venue. look_up asks the venue about one order and records what it says."""

    def __init__(self, service: EngineService, look_up: Callable[[str], Awaitable[None]]) -> None:
        self._service = service
        self._look_up = look_up

    async def run(self, *, dry_run: bool, requested_by: str) -> ReconciliationView:
        """Compare, and unless it is a dry run mend. The answer tells what was found first.

        Raises VenueUnavailableError, JournalUnavailableError.
        """
        service = self._service
        found = await self._differences()
        if not dry_run:
            await self._mend(found, requested_by)
        return ReconciliationView(
            account_id=service.surroundings.account_id,
            venue=self._venue(),
            differences=tuple(DifferenceView(d.kind, d.subject, d.engine, d.venue, d.action) for d in found),
            applied=bool(found) and not dry_run,
            as_of_ns=service.clock.now_ns(),
        )

    async def _mend(self, found: tuple[Difference, ...], requested_by: str) -> None:
        service, account_id = self._service, self._service.surroundings.account_id
        left: tuple[Difference, ...] = ()
        if found:
            _log.warning("differs_from_venue", differences=[msgspec.to_builtins(item) for item in found[:10]])
            await self._apply(found)
            left = tuple(d for d in await self._differences() if d.kind != ORDER_UNRESOLVED)
            await service.record(
                lambda now_ns: (
                    Reconciled(
                        ts_ns=now_ns,
                        account_id=account_id,
                        venue=self._venue(),
                        differences=found[:DIFFERENCES_KEPT],
                        cause=requested_by,
                    ),
                )
            )
        await service.record(lambda now_ns: self._freeze(account_id, left, now_ns))

    def _freeze(self, account_id: str, left: tuple[Difference, ...], now_ns: int) -> tuple[JournalEvent, ...]:
        reason = self._service.kernel.frozen.get(account_id)
        if left and reason is None:
            first = left[0]
            told = f"{FREEZE_REASON}{first.kind} {first.subject}: here {first.engine}, at the venue {first.venue}"
            _log.error("account_frozen", account_id=account_id, reason=told)
            return (FreezeChanged(ts_ns=now_ns, account_id=account_id, frozen=True, reason=told[:512]),)
        if not left and reason is not None and reason.startswith(FREEZE_REASON):
            _log.info("account_resumed", account_id=account_id)
            return (FreezeChanged(ts_ns=now_ns, account_id=account_id, frozen=False, reason="in agreement again"),)
        return ()

    async def _apply(self, found: tuple[Difference, ...]) -> None:
        for order in (await self._ask()).orders:
            if not self._service.kernel.knows_order(order.client_order_id):
                await self.adopt(order)
        for difference in found:
            if difference.kind.startswith("order.") and difference.subject in self._service.kernel.orders:
                await self._look_up(difference.subject)

    async def adopt(self, seen: VenueOrder) -> bool:
        """Take an order that somebody placed at the venue into account; whether its terms could be read."""
        service = self._service
        if None in (seen.side, seen.order_type, seen.quantity):
            full = await service.venue.order(seen.symbol, seen.client_order_id)
            if full is None or None in (full.side, full.order_type, full.quantity):
                _log.error("order_not_adopted", client_order_id=seen.client_order_id, symbol=seen.symbol)
                return False
            seen = full

        def decision(now_ns: int) -> tuple[JournalEvent, ...]:
            if service.kernel.knows_order(seen.client_order_id):
                return ()
            event = adopted(service.kernel, seen, service.surroundings.account_id, self._venue(), now_ns)
            return () if event is None else (event,)

        await service.record(decision)
        _log.warning("order_adopted", client_order_id=seen.client_order_id, symbol=seen.symbol)
        return True

    async def _ask(self) -> VenueTruth:
        venue, asked_ns = self._service.venue, self._service.clock.now_ns()
        return VenueTruth(asked_ns, await venue.all_open_orders(), await venue.positions())

    async def _differences(self) -> tuple[Difference, ...]:
        return compare(self._service.kernel, await self._ask(), self._service.surroundings.account_id, self._venue())

    def _venue(self) -> str:
        listed = self._service.kernel.listed
        if not listed:
            raise refuse(ReasonCode.MARKET_NO_DATA, "The venue hasn't told its instruments yet; ask again in a moment.")
        return listed[0][0]


def compare(kernel: Kernel, truth: VenueTruth, account_id: str, venue: str) -> tuple[Difference, ...]:
    """Where engine and venue differ. What changed here after the venue was asked isn't a difference."""
    shown = {order.client_order_id: order for order in truth.orders}
    found: list[Difference] = []
    for order in kernel.open_orders():
        if order.status is OrderStatus.HELD or order.updated_ns >= truth.asked_ns:
            continue
        difference = _order_difference(order, shown.get(order.intent.client_order_id))
        if difference is not None:
            found.append(difference)
    for order_id, seen in shown.items():
        known = kernel.orders.get(order_id)
        if known is None and not kernel.knows_order(order_id) and (venue, seen.symbol) in kernel.listed_keys:
            found.append(Difference(ORDER_UNKNOWN_HERE, order_id, "unknown", seen.status, "adopt the order"))
        elif known is not None and known.status.is_final and known.updated_ns < truth.asked_ns:
            found.append(Difference(ORDER_TERMS, order_id, known.status, seen.status, "ask the venue for the order"))
    for position in truth.positions:
        found.extend(_position_difference(kernel, position, account_id, venue, truth.asked_ns))
    return tuple(found)


def adopted(kernel: Kernel, seen: VenueOrder, account_id: str, venue: str, now_ns: int) -> OrderAdopted | None:
    """None for an instrument that isn't traded here."""
    instrument = kernel.instruments.get((venue, seen.symbol))
    if instrument is None or seen.side is None or seen.order_type is None or seen.quantity is None:
        return None
    intent = OrderIntent(
        account_id=account_id,
        venue=venue,
        symbol=seen.symbol,
        side=seen.side,
        order_type=seen.order_type,
        time_in_force=seen.time_in_force or TimeInForce.GTC,
        quantity=seen.quantity,
        price=seen.price if seen.order_type.has_limit_price else None,
        price_scale=instrument.price_scale,
        quantity_scale=instrument.quantity_scale,
        client_order_id=seen.client_order_id,
        post_only=seen.post_only,
        reduce_only=seen.reduce_only,
        stop_price=seen.stop_price if seen.order_type is not OrderType.TRAILING_STOP else None,
    )
    worth = seen.price or seen.stop_price or 0
    notional = EXACT.multiply(
        from_scaled(seen.quantity, instrument.quantity_scale), from_scaled(worth, instrument.price_scale)
    )
    return OrderAdopted(
        ts_ns=now_ns,
        intent=intent,
        venue_order_id=seen.venue_order_id,
        authority=ExternalAuthority(FOUND_BY),
        notional_quote=decimal_text(notional),
    )


def _order_difference(order: Order, seen: VenueOrder | None) -> Difference | None:
    order_id = order.intent.client_order_id
    if order.status in {OrderStatus.INTENDED, OrderStatus.UNKNOWN}:
        shown = "not shown" if seen is None else str(seen.status)
        return Difference(ORDER_UNRESOLVED, order_id, order.status, shown, "ask the venue for the order")
    if seen is None:
        return Difference(ORDER_MISSING, order_id, order.status, "not open", "ask the venue for the order")
    if seen.filled_quantity != order.filled_quantity:
        scale = order.intent.quantity_scale
        return Difference(
            ORDER_FILLED,
            order_id,
            decimal_text(from_scaled(order.filled_quantity, scale)),
            decimal_text(from_scaled(seen.filled_quantity, scale)),
            "ask the venue for its fills",
        )
    if seen.quantity is not None and seen.quantity != order.intent.quantity and order.pending_amend is None:
        scale = order.intent.quantity_scale
        return Difference(
            ORDER_TERMS,
            order_id,
            decimal_text(from_scaled(order.intent.quantity, scale)),
            decimal_text(from_scaled(seen.quantity, scale)),
            "take over the venue's terms",
        )
    return None


def _position_difference(
    kernel: Kernel, seen: VenuePosition, account_id: str, venue: str, asked_ns: int
) -> tuple[Difference, ...]:
    instrument = kernel.instruments.get((venue, seen.symbol))
    if instrument is None or instrument.product is Product.SPOT:
        return ()
    known = kernel.positions.get((account_id, venue, seen.symbol))
    quantity = 0 if known is None else known.quantity
    if quantity == seen.quantity or (known is not None and known.updated_ns >= asked_ns):
        return ()
    here, there = (decimal_text(from_scaled(value, instrument.quantity_scale)) for value in (quantity, seen.quantity))
    return (Difference(POSITION, seen.symbol, here, there, "freeze the account until they agree"),)
