"""Is the engine of one mind with the venue? Compares open orders, fills and positions, and mends what differs.

What the venue confirms is never dropped, and no fill is invented: orders that the engine doesn't know are adopted,
fills are asked for, also those of orders that came and went unseen, and orders that the venue no longer shows are
looked up one by one. What still differs after that freezes the account until a comparison is clean; what differs
DRIFT_TURNS_LIMIT times in a row tightens its kill switch, because it doesn't come right by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal

import msgspec
import structlog

from core.kernel.kernel import Kernel
from core.orders.machine import Order
from core.portfolio.positions import EXACT
from core.risk.kill_switch import KillSwitch
from core.runtime.dispatch import SUBMIT_TIMEOUT_S
from core.runtime.reused_ids import is_reused, name_here
from core.runtime.service import EngineService
from core.runtime.venue_truth import VenueReader, VenueTruth
from core.types.authority import ExternalAuthority
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode, refuse
from core.types.events import (
    BalancesObserved,
    Difference,
    FreezeChanged,
    JournalEvent,
    OrderAdopted,
    Reconciled,
)
from core.types.instruments import Product
from core.types.money import decimal_text, from_scaled
from core.types.orders import OrderIntent, OrderStatus, OrderType, TimeInForce
from core.types.views import DifferenceView, ReconciliationView
from core.venues.ports import VenueOrder, VenuePosition, VenueTrade

FREEZE_REASON = "reconciliation: "
FOUND_BY = "reconciliation"
DIFFERENCES_KEPT = 1_000
IN_FLIGHT_S = int(SUBMIT_TIMEOUT_S + 5)
"""An order or an amendment that is younger waits for its answer, which is no difference."""
OBSERVED_AT_LEAST_NS = 300 * NS_PER_S
"""Until when fills were asked for goes to the journal so often, when nothing else changes."""
ORDERS_OF_FILLS_LIMIT = 1_000
ORDER_TOLD_WITHIN_S = 4.0
"""A venue may tell of an order later than of its fills: one that it hasn't told of by then is made of them."""
DRIFT_TURNS_LIMIT = 3
OWN_CAUSE = "engine:"
SWEEP_CAUSE = "engine:sweep"

ORDER_MISSING = "order.missing_at_venue"
ORDER_UNKNOWN_HERE = "order.unknown_here"
ORDER_FILLED = "order.filled"
ORDER_TERMS = "order.terms"
ORDER_UNRESOLVED = "order.unresolved"
ORDER_IN_FLIGHT = "order.in_flight"
FILL_MISSING = "fill.missing"
POSITION = "position"
BALANCE = "balance"

NOT_DRIFT = frozenset({ORDER_UNRESOLVED, ORDER_IN_FLIGHT, BALANCE})
"""No reason to freeze: an order's own state says that it isn't known, and money may come and go without an order."""
SETTLED_NS = 5 * NS_PER_S
"""Balances that are told so long after a fill hold it."""

_log = structlog.get_logger("engine.reconcile")


class Reconciler:
    """Compares one account with its venue. look_up asks the venue about one order and records what it says,
    record_fill one fill of an order that is known."""

    def __init__(
        self,
        service: EngineService,
        look_up: Callable[[str], Awaitable[None]],
        record_fill: Callable[[VenueTrade, str], Awaitable[None]],
    ) -> None:
        self._service = service
        self._record_fill = record_fill
        self._look_up = look_up
        self._drift_turns = 0
        self._untold_since_s: dict[tuple[str, str], float] = {}
        self._reader = VenueReader(service.kernel, service.venue, service.clock, service.surroundings.account_id)

    async def run(self, *, dry_run: bool, requested_by: str) -> ReconciliationView:
        """Compare, and unless it is a dry run mend. The answer tells what was found first.

        Raises VenueUnavailableError, JournalUnavailableError, ImpossibleTransitionError.
        """
        service = self._service
        truth = await self._reader.ask(self._venue(), is_whole=requested_by != SWEEP_CAUSE)
        found = self._compare(truth)
        if not dry_run:
            await self._mend(truth, found, requested_by)
        told = _told(found)
        return ReconciliationView(
            account_id=service.surroundings.account_id,
            venue=self._venue(),
            differences=tuple(DifferenceView(d.kind, d.subject, d.engine, d.venue, d.action) for d in told),
            applied=bool(told) and not dry_run,
            as_of_ns=service.clock.now_ns(),
        )

    async def _mend(self, truth: VenueTruth, found: tuple[Difference, ...], requested_by: str) -> None:
        service, account_id = self._service, self._service.surroundings.account_id
        left: tuple[Difference, ...] = ()
        if found:
            told = _told(found)
            if told:
                _log.warning("differs_from_venue", differences=[msgspec.to_builtins(item) for item in told[:10]])
            await self._apply(truth, found)
            truth = await self._reader.ask(self._venue(), symbols=truth.asked)
            # What is new by now is on its way here, as in every moment of an account that trades.
            before = {(item.kind, item.subject, item.engine) for item in found}
            left = tuple(
                item
                for item in self._compare(truth)
                if item.kind not in NOT_DRIFT and (item.kind, item.subject, item.engine) in before
            )
            if told:
                await service.record(
                    lambda now_ns: (
                        Reconciled(
                            ts_ns=now_ns,
                            account_id=account_id,
                            venue=self._venue(),
                            differences=told[:DIFFERENCES_KEPT],
                            cause=requested_by,
                        ),
                    )
                )
        if not any(difference.kind == FILL_MISSING for difference in left):
            self._reader.settled(truth)
        await service.record(
            lambda now_ns: (*self._freeze(account_id, left, now_ns), *self._observed(account_id, truth, now_ns))
        )
        if requested_by.startswith(OWN_CAUSE):
            await self._tighten_on_drift(left)

    def _observed(self, account_id: str, truth: VenueTruth, now_ns: int) -> tuple[JournalEvent, ...]:
        """What the account holds, when that or the time until which fills are here has moved."""
        venue, through_ns = self._venue(), self._reader.fills_through_ns(self._venue())
        told = {asset: decimal_text(amount) for asset, amount in sorted(truth.balances.items()) if amount}
        before = self._service.kernel.balances.get((account_id, venue))
        if before is not None and before.totals == told and through_ns < before.fills_through_ns + OBSERVED_AT_LEAST_NS:
            return ()
        return (
            BalancesObserved(
                ts_ns=now_ns,
                account_id=account_id,
                venue=venue,
                totals=told,
                as_of_ns=truth.asked_ns,
                fills_through_ns=through_ns,
            ),
        )

    async def _tighten_on_drift(self, left: tuple[Difference, ...]) -> None:
        """Counts the engine's own turns only: somebody who asks again and again isn't more drift."""
        self._drift_turns = self._drift_turns + 1 if left else 0
        service, account_id = self._service, self._service.surroundings.account_id
        current = service.kernel.effective_kill_switch(account_id)
        if self._drift_turns >= DRIFT_TURNS_LIMIT and current.tightness < KillSwitch.CANCEL_ONLY.tightness:
            reason = f"differs from its venue for {self._drift_turns} comparisons: {left[0].kind} {left[0].subject}"
            await service.set_kill_switch(
                KillSwitch.CANCEL_ONLY, f"{OWN_CAUSE}{service.kernel.engine_id}", reason[:512], account_id=account_id
            )

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

    async def _apply(self, truth: VenueTruth, found: tuple[Difference, ...]) -> None:
        kernel = self._service.kernel
        for order in truth.orders:
            if not kernel.knows_order(order.client_order_id):
                await self.adopt(order)
        await self._take_missing_fills(truth)
        for difference in found:
            if difference.kind.startswith("order.") and difference.subject in kernel.orders:
                await self._look_up(difference.subject)

    async def _take_missing_fills(self, truth: VenueTruth) -> None:
        """By way of their orders, which know more; what came and went unseen is adopted first."""
        kernel, now_s = self._service.kernel, asyncio.get_running_loop().time()
        orders: dict[tuple[str, str], list[VenueTrade]] = {}
        for trade in missing_trades(kernel, truth.trades):
            orders.setdefault((trade.symbol, trade.venue_order_id), []).append(trade)
        # Kept here too: another comparison may begin while this one waits for the venue.
        untold_since_s = self._untold_since_s = {key: self._untold_since_s.get(key, now_s) for key in orders}
        # The next turn finds those beyond the limit.
        for key, trades in list(orders.items())[:ORDERS_OF_FILLS_LIMIT]:
            await self._take_fills(trades, untold_since_s[key])

    async def _take_fills(self, trades: Sequence[VenueTrade], untold_since_s: float) -> None:
        """Of one order at the venue, which is adopted first when it isn't known here."""
        kernel, first = self._service.kernel, trades[0]
        # What was adopted before it in this turn may have taken its id.
        order_id = name_here(kernel, first.client_order_id, first.venue_order_id)
        is_over = is_reused(order_id)
        if order_id and order_id not in kernel.orders:
            seen = await self._service.venue.order(first.symbol, order_id)
            if seen is not None and seen.venue_order_id == first.venue_order_id:
                await self.adopt(seen)
            is_over = is_over or seen is not None
        if order_id and order_id in kernel.orders:
            await self._look_up(order_id)
        elif not order_id or is_over or asyncio.get_running_loop().time() >= untold_since_s + ORDER_TOLD_WITHIN_S:
            order_id = order_id or order_id_of(first)
            # A later order may answer to its id by now, and none to the venue's own.
            seen = await self._service.venue.order_by_venue_id(first.symbol, first.venue_order_id)
            is_told = seen is not None and None not in (seen.side, seen.order_type, seen.quantity)
            told = msgspec.structs.replace(seen, client_order_id=order_id) if seen is not None and is_told else None
            await self.adopt(told or _made_of(trades, order_id))
        if order_id in kernel.orders:
            for trade in trades:
                # An order says at most so many of its fills, and an old one none.
                await self._record_fill(trade, order_id)

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

    def _compare(self, truth: VenueTruth) -> tuple[Difference, ...]:
        return compare(self._service.kernel, truth, self._service.surroundings.account_id, self._venue())

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
        order_id = order.intent.client_order_id
        if order.status is OrderStatus.HELD or order is not truth.known_orders.get(order_id):
            continue
        difference = _order_difference(order, shown.get(order_id), truth.asked_ns)
        if difference is not None:
            found.append(difference)
    for order_id, seen in shown.items():
        known = kernel.orders.get(order_id)
        if known is None and not kernel.knows_order(order_id) and (venue, seen.symbol) in kernel.listed_keys:
            found.append(Difference(ORDER_UNKNOWN_HERE, order_id, "unknown", seen.status, "adopt the order"))
        elif known is not None and known.status.is_final and known is truth.known_orders.get(order_id):
            found.append(Difference(ORDER_TERMS, order_id, known.status, seen.status, "ask the venue for the order"))
    found.extend(_fill_difference(kernel, trade, venue) for trade in missing_trades(kernel, truth.trades))
    held = {position.symbol: position for position in truth.positions}
    # A venue names open positions only: what it doesn't name is flat there.
    for owner, name, symbol in kernel.positions:
        if (owner, name) == (account_id, venue):
            held.setdefault(symbol, VenuePosition(symbol, 0, Decimal(0), 1, truth.asked_ns))
    for position in held.values():
        found.extend(_position_difference(kernel, position, account_id, venue, truth))
    found.extend(_balance_differences(kernel, truth, account_id, venue))
    return tuple(found)


def _made_of(trades: Sequence[VenueTrade], order_id: str) -> VenueOrder:
    """The venue tells of the fills and not of their order any more: it was what they add up to."""
    first, quantity = trades[0], sum(trade.quantity for trade in trades)
    return VenueOrder(
        symbol=first.symbol,
        client_order_id=order_id,
        venue_order_id=first.venue_order_id,
        status=OrderStatus.FILLED,
        filled_quantity=quantity,
        ts_event_ns=first.ts_event_ns,
        side=first.side,
        order_type=OrderType.MARKET,
        time_in_force=TimeInForce.IOC,
        quantity=quantity,
    )


def order_id_of(trade: VenueTrade) -> str:
    """Under which id the order of a fill is known here, also when the venue tells of the order no more."""
    return trade.client_order_id or f"venue-{trade.venue_order_id}"


def missing_trades(kernel: Kernel, trades: Sequence[VenueTrade]) -> list[VenueTrade]:
    """Fills at the venue that the journal doesn't hold. Of an order that has left memory everything was said."""
    missing = []
    for trade in trades:
        order = kernel.orders.get(order_id_of(trade))
        if order is None:
            if not kernel.knows_order(order_id_of(trade)):
                missing.append(trade)
        elif trade.trade_id not in order.trade_ids:
            missing.append(trade)
    return missing


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


def _told(found: tuple[Difference, ...]) -> tuple[Difference, ...]:
    return tuple(difference for difference in found if difference.kind != ORDER_IN_FLIGHT)


def _fill_difference(kernel: Kernel, trade: VenueTrade, venue: str) -> Difference:
    instrument = kernel.instruments[venue, trade.symbol]
    quantity, price = (
        decimal_text(from_scaled(value, scale))
        for value, scale in ((trade.quantity, instrument.quantity_scale), (trade.price, instrument.price_scale))
    )
    shown = f"{trade.side} {quantity} at {price}, order {trade.client_order_id or trade.venue_order_id}"
    return Difference(FILL_MISSING, f"{trade.symbol}/{trade.trade_id}", "not here", shown, "take the fill over")


def _balance_differences(kernel: Kernel, truth: VenueTruth, account_id: str, venue: str) -> list[Difference]:
    """Money that moved without an order (a deposit, a withdrawal, a conversion), on a spot account that is quiet: while
    it trades, fills explain what changes."""
    observed = kernel.balances.get((account_id, venue))
    if observed is None or missing_trades(kernel, truth.trades):
        return []
    if any(kernel.instruments[key].product is not Product.SPOT for key in kernel.listed):
        return []
    last_fill_ns = max((item.updated_ns for key, item in kernel.positions.items() if key[0] == account_id), default=0)
    if last_fill_ns + SETTLED_NS > observed.as_of_ns:
        return []
    now = {asset: decimal_text(amount) for asset, amount in truth.balances.items() if amount}
    return [
        Difference(BALANCE, asset, before, after, "take over what the venue holds")
        for asset in sorted({*observed.totals, *now})
        if (before := observed.totals.get(asset, "0")) != (after := now.get(asset, "0"))
    ]


def _order_difference(order: Order, seen: VenueOrder | None, asked_ns: int) -> Difference | None:
    order_id = order.intent.client_order_id
    if order.status in {OrderStatus.INTENDED, OrderStatus.UNKNOWN}:
        is_answered_soon = order.status is OrderStatus.INTENDED and asked_ns < order.updated_ns + IN_FLIGHT_S * NS_PER_S
        shown = "not shown" if seen is None else str(seen.status)
        kind = ORDER_IN_FLIGHT if is_answered_soon else ORDER_UNRESOLVED
        return Difference(kind, order_id, order.status, shown, "ask the venue for the order")
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
    if order.pending_amend is not None:
        return Difference(ORDER_IN_FLIGHT, order_id, "amending", seen.status, "ask the venue for the order")
    if seen.quantity is not None and seen.quantity != order.intent.quantity:
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
    kernel: Kernel, seen: VenuePosition, account_id: str, venue: str, truth: VenueTruth
) -> tuple[Difference, ...]:
    instrument = kernel.instruments.get((venue, seen.symbol))
    if instrument is None or instrument.product is Product.SPOT:
        return ()
    key = (account_id, venue, seen.symbol)
    known = kernel.positions.get(key)
    quantity = 0 if known is None else known.quantity
    if quantity == seen.quantity or known is not truth.known_positions.get(key):
        return ()
    here, there = (decimal_text(from_scaled(value, instrument.quantity_scale)) for value in (quantity, seen.quantity))
    return (Difference(POSITION, seen.symbol, here, there, "freeze the account until they agree"),)
