"""What the engine decides: pure functions (state, command, market inputs, now) -> events or a refusal.

Each returns the events to make durable and then apply. What is already so gives no event, so that reports may arrive
twice and in any order; nor does what is said of an order that has ended and left memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from core.authority.roster import RosterError, SignedRoster, roster_digest
from core.authority.thaw import SignedThaw, verify_thaw
from core.kernel.decide_authority import ended_by_roster
from core.kernel.kernel import Kernel
from core.orders.machine import Order, status_after_fill
from core.portfolio.positions import Fill, Position, apply_fill, fee_in_quote
from core.risk.kill_switch import KillSwitch
from core.types.authority import ExternalAuthority, SafetyAuthority
from core.types.codes import ReasonCode, Refusal
from core.types.events import (
    CancelRequested,
    EngineStarted,
    InstrumentsLoaded,
    JournalEvent,
    KillSwitchChanged,
    OrderAccepted,
    OrderAmended,
    OrderAmendRefused,
    OrderBecameUnknown,
    OrderClosed,
    OrderFilled,
    OrderRejected,
    RosterInstalled,
)
from core.types.instruments import Instrument
from core.types.money import from_scaled
from core.types.orders import OrderStatus

THAW_CURE = (
    "This call can only tighten the kill switch. Thawing is administration: on the engine's host, with the root key, "
    "run `python -m core.runtime.thaw`."
)


class FillReport(msgspec.Struct, frozen=True):
    """A fill as the venue reports it; price and quantity are ints at the instrument's scales."""

    client_order_id: str
    venue_order_id: str
    trade_id: int
    price: int
    quantity: int
    fee: Decimal
    fee_asset: str
    is_maker: bool
    venue_ts_ns: int
    inferred: bool = False


class InstrumentScaleChangedError(Exception):
    """The venue changed an instrument's decimal scale while it is traded here."""


def decide_started(
    *, engine_id: str, epoch: int, environment: str, mode: str, software_version: str, now_ns: int
) -> EngineStarted:
    return EngineStarted(
        ts_ns=now_ns,
        engine_id=engine_id,
        epoch=epoch,
        environment=environment,
        mode=mode,
        software_version=software_version,
    )


def decide_roster(kernel: Kernel, signed: SignedRoster, now_ns: int) -> tuple[JournalEvent, ...]:
    """Install a roster whose root signature was verified, when it is newer than the one in force, and end what those
    who are no longer in it had given. An older one changes nothing: what replaced it stays.

    Raises RosterError for another roster under the version in force.
    """
    if roster_digest(signed.roster) == roster_digest(kernel.roster) or signed.roster.version < kernel.roster.version:
        return ()
    if signed.roster.version == kernel.roster.version:
        raise RosterError(
            f"roster version {signed.roster.version} can't replace version {kernel.roster.version}, which the engine's "
            "journal holds. Give the new roster a higher version and have the root key sign it."
        )
    installed = RosterInstalled(ts_ns=now_ns, roster=signed.roster, signature_hex=signed.signature_hex)
    return (installed, *ended_by_roster(kernel, signed.roster, now_ns))


def decide_instruments(kernel: Kernel, loaded: Sequence[Instrument], now_ns: int) -> tuple[InstrumentsLoaded, ...]:
    """Take over the venue's instruments. A changed rule raises the instrument's version.

    Raises InstrumentScaleChangedError when a scale changed under an order or a position.
    """
    versioned = tuple(_next_version(kernel, item) for item in loaded)
    keys = tuple((item.venue, item.symbol) for item in versioned)
    if keys == kernel.listed and all(
        kernel.instruments[key] == item for key, item in zip(keys, versioned, strict=True)
    ):
        return ()
    return (InstrumentsLoaded(ts_ns=now_ns, instruments=versioned),)


def decide_accepted(kernel: Kernel, order_id: str, venue_order_id: str, now_ns: int) -> tuple[OrderAccepted, ...]:
    order = kernel.orders.get(order_id)
    if order is None:
        return ()
    waiting = order.status in {OrderStatus.INTENDED, OrderStatus.UNKNOWN, OrderStatus.REJECTED}
    if not waiting and order.venue_order_id == venue_order_id:
        return ()
    return (
        OrderAccepted(ts_ns=now_ns, trace_id=order.trace_id, client_order_id=order_id, venue_order_id=venue_order_id),
    )


def decide_rejected(kernel: Kernel, order_id: str, refusal: Refusal, now_ns: int) -> tuple[OrderRejected, ...]:
    """The venue said no, or it is proved that the order never arrived. What it showed meanwhile is stronger."""
    order = kernel.orders.get(order_id)
    if order is None or order.status not in {OrderStatus.INTENDED, OrderStatus.UNKNOWN}:
        return ()
    return (OrderRejected(ts_ns=now_ns, trace_id=order.trace_id, client_order_id=order_id, refusal=refusal),)


def decide_unknown(kernel: Kernel, order_id: str, detail: str, now_ns: int) -> tuple[OrderBecameUnknown, ...]:
    """A submit ended without an answer (I5); unless the user data stream has told us meanwhile."""
    order = kernel.orders.get(order_id)
    if order is None or order.status is not OrderStatus.INTENDED:
        return ()
    return (OrderBecameUnknown(ts_ns=now_ns, trace_id=order.trace_id, client_order_id=order_id, detail=detail),)


def decide_fill(kernel: Kernel, report: FillReport, now_ns: int) -> tuple[OrderFilled, ...]:
    """A fill, once. Both sides of a trade with ourselves have one trade id, so it is the order's own that counts. What
    filled another order of somebody else's id isn't this one's: it is asked for again by its own.

    Raises OverFillError.
    """
    order = kernel.orders.get(report.client_order_id)
    if order is None or report.trade_id in order.trade_ids or _is_anothers(order, report.venue_order_id):
        return ()
    intent = order.intent
    instrument = kernel.instruments[intent.venue, intent.symbol]
    status = status_after_fill(order, report.quantity)
    fee_quote = fee_in_quote(
        report.fee,
        report.fee_asset,
        instrument.base_asset,
        instrument.quote_asset,
        from_scaled(report.price, intent.price_scale),
        intent.price_scale + intent.quantity_scale,
    )
    key = (intent.account_id, intent.venue, intent.symbol)
    fill = Fill(
        report.client_order_id,
        report.trade_id,
        intent.side,
        report.price,
        report.quantity,
        fee_quote or 0,
        report.venue_ts_ns,
        report.fee,
        report.fee_asset,
    )
    position, closed = apply_fill(kernel.positions.get(key, Position()), fill, "/".join(key))
    return (
        OrderFilled(
            ts_ns=now_ns,
            trace_id=order.trace_id,
            account_id=intent.account_id,
            venue=intent.venue,
            symbol=intent.symbol,
            client_order_id=report.client_order_id,
            venue_order_id=report.venue_order_id,
            trade_id=report.trade_id,
            side=intent.side,
            price=report.price,
            quantity=report.quantity,
            price_scale=intent.price_scale,
            quantity_scale=intent.quantity_scale,
            fee=format(report.fee, "f"),
            fee_asset=report.fee_asset,
            fee_quote=fee_quote or 0,
            is_maker=report.is_maker,
            venue_ts_ns=report.venue_ts_ns,
            status=status,
            position=position.snapshot(),
            closed=closed,
            inferred=report.inferred,
        ),
    )


def _is_anothers(order: Order, venue_order_id: str) -> bool:
    known = order.venue_order_id
    return isinstance(order.authority, ExternalAuthority) and bool(known and venue_order_id) and known != venue_order_id


def decide_closed(
    kernel: Kernel, order_id: str, status: OrderStatus, reason: str, now_ns: int
) -> tuple[OrderClosed, ...]:
    """The venue says that an order is off its book."""
    order = kernel.orders.get(order_id)
    if order is None or order.status.is_final:
        return ()
    return (OrderClosed(ts_ns=now_ns, trace_id=order.trace_id, client_order_id=order_id, status=status, reason=reason),)


def decide_amended(
    kernel: Kernel, order_id: str, quantity: int, price: int | None, now_ns: int
) -> tuple[OrderAmended, ...]:
    """The venue shows the order with this total quantity and limit price."""
    order = kernel.orders.get(order_id)
    if (
        order is None
        or order.status.is_final
        or (
            order.pending_amend is None
            and (quantity, price or order.intent.price) == (order.intent.quantity, order.intent.price)
        )
    ):
        return ()
    return (
        OrderAmended(ts_ns=now_ns, trace_id=order.trace_id, client_order_id=order_id, quantity=quantity, price=price),
    )


def decide_amend_refused(kernel: Kernel, order_id: str, refusal: Refusal, now_ns: int) -> tuple[OrderAmendRefused, ...]:
    """The order stands as it was."""
    order = kernel.orders.get(order_id)
    if order is None or order.pending_amend is None:
        return ()
    return (OrderAmendRefused(ts_ns=now_ns, trace_id=order.trace_id, client_order_id=order_id, refusal=refusal),)


def unknown_order(order_id: str) -> Refusal:
    return Refusal(ReasonCode.ORDER_UNKNOWN, f"This engine knows no order {order_id[:64]!r}. Check its id.")


def cancel_events(
    order: Order, requested_by: str, trace_id: str | None, now_ns: int
) -> tuple[CancelRequested | OrderClosed, ...]:
    """What a cancel makes true: asked of the venue, or, for what is held here, done."""
    requested = CancelRequested(
        ts_ns=now_ns,
        trace_id=trace_id or order.trace_id,
        client_order_id=order.intent.client_order_id,
        requested_by=requested_by,
    )
    if order.status is not OrderStatus.HELD:
        return (requested,)
    closed = OrderClosed(
        ts_ns=now_ns,
        trace_id=requested.trace_id,
        client_order_id=requested.client_order_id,
        status=OrderStatus.CANCELED,
        reason=f"cancelled by {requested_by} while it was held here",
    )
    return (requested, closed)


def decide_cancel(
    kernel: Kernel, order_id: str, requested_by: str, trace_id: str | None, now_ns: int
) -> Refusal | tuple[CancelRequested | OrderClosed, ...]:
    """A held order ends at once: the venue knows nothing of it."""
    order = kernel.orders.get(order_id)
    if order is None:
        return unknown_order(order_id)
    if order.status.is_final:
        return Refusal(
            ReasonCode.ORDER_ALREADY_FINAL,
            f"Order {order_id} is {order.status}; there is nothing left to cancel.",
            actual=order.status,
        )
    return cancel_events(order, requested_by, trace_id, now_ns)


def decide_kill_switch(
    kernel: Kernel,
    state: KillSwitch,
    requested_by: str,
    reason: str,
    trace_id: str | None,
    now_ns: int,
    *,
    account_id: str = "",
) -> Refusal | tuple[KillSwitchChanged | CancelRequested | OrderClosed, ...]:
    """Tighten, for one account or (empty) the whole engine. Loosening is refused; the state it is in already gives no
    event. HALTED also ends what is held here; what is at the venue is cancelled there."""
    current = kernel.account_kill_switches.get(account_id, KillSwitch.NORMAL) if account_id else kernel.kill_switch
    if state.tightness < current.tightness:
        return Refusal(ReasonCode.AUTHORITY_KIND_NOT_ACCEPTED, THAW_CURE, limit=current, actual=state)
    if state is current:
        return ()
    changed = KillSwitchChanged(
        ts_ns=now_ns,
        trace_id=trace_id,
        state=state,
        requested_by=requested_by,
        reason=reason,
        account_id=account_id,
        authority=SafetyAuthority(requested_by),
    )
    if state is not KillSwitch.HALTED:
        return (changed,)
    held = [
        event
        for order in kernel.open_orders()
        if order.status is OrderStatus.HELD and account_id in {"", order.intent.account_id}
        for event in cancel_events(order, requested_by, trace_id, now_ns)
    ]
    return (changed, *held)


def decide_thaw(
    kernel: Kernel, signed: SignedThaw, root_public_key_hex: str, now_ns: int
) -> Refusal | KillSwitchChanged:
    """Loosen the kill switch under the root key: once, soon after it was signed, and not what was thrown later."""
    refusal = verify_thaw(
        signed,
        root_public_key_hex,
        engine_id=kernel.engine_id,
        kill_switch_changed_ns=kernel.kill_switch_changed_ns,
        now_ns=now_ns,
    )
    if refusal is not None:
        return refusal
    thaw = signed.thaw
    return KillSwitchChanged(
        ts_ns=now_ns, state=KillSwitch(thaw.state), requested_by=f"root:{thaw.requested_by}", reason=thaw.reason
    )


def open_intents_after_restart(kernel: Kernel, now_ns: int) -> tuple[OrderBecameUnknown, ...]:
    """Intents that were durable when the engine stopped: whether they reached the venue isn't known."""
    return tuple(
        event
        for order in kernel.open_orders()
        for event in decide_unknown(kernel, order.intent.client_order_id, "the engine restarted meanwhile", now_ns)
    )


def _next_version(kernel: Kernel, item: Instrument) -> Instrument:
    known = kernel.instruments.get((item.venue, item.symbol))
    if known is None:
        return msgspec.structs.replace(item, version=1)
    same = msgspec.structs.replace(item, version=known.version)
    if same == known:
        return known
    if (item.price_scale, item.quantity_scale) != (known.price_scale, known.quantity_scale):
        _refuse_scale_change_in_use(kernel, known, item)
    return msgspec.structs.replace(item, version=known.version + 1)


def _refuse_scale_change_in_use(kernel: Kernel, known: Instrument, item: Instrument) -> None:
    in_use = any((venue, symbol) == (known.venue, known.symbol) for _, venue, symbol in kernel.positions) or any(
        order.intent.symbol == known.symbol for order in kernel.open_orders()
    )
    if in_use:
        raise InstrumentScaleChangedError(
            f"{item.venue}/{item.symbol}: the venue's decimal places changed from {known.price_scale}/"
            f"{known.quantity_scale} to {item.price_scale}/{item.quantity_scale} while this engine holds positions or "
            "orders in it. Start the engine with the former market, or with a new VELOZ_HOME."
        )
