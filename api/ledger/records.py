"""The engine's journal in the audit trail's words. Pure: equal entries give equal records with equal ids."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from ulid import ULID

from audit.record import Action, AuditRecord
from audit.trail import as_text
from core.types.clock import NS_PER_MS, format_utc_us
from core.types.events import (
    ApprovalDecided,
    CancelRequested,
    EngineStarted,
    InstrumentsLoaded,
    JournalEntry,
    JournalEvent,
    KillSwitchChanged,
    OrderAccepted,
    OrderBecameUnknown,
    OrderClosed,
    OrderFilled,
    OrderRejected,
    RiskLimitsInstalled,
    RosterInstalled,
)
from core.types.money import from_scaled
from core.types.orders import OrderIntent

TIMESTAMP_BYTES = 6
OUTCOME_OK = "ok"
OUTCOME_UNKNOWN = "unknown"


class OrderContext(msgspec.Struct, frozen=True):
    """What an order belongs to: from the approval that it came from."""

    account_id: str | None = None
    suggestion_id: str | None = None
    run_id: str | None = None
    trace_id: str | None = None


NO_ORDER = OrderContext()


def records_of(entry: JournalEntry, event: JournalEvent, order: OrderContext) -> list[AuditRecord]:
    """The audit records of one journal entry, in order. order is what an order event's order belongs to."""
    match event:
        case EngineStarted():
            return [_record(entry, event, Action.ENGINE_STARTED, f"engine:{event.engine_id}", _started(event))]
        case InstrumentsLoaded():
            return []  # market reference data; decisions carry the version that they used
        case RosterInstalled():
            payload = {"roster": event.roster, "signature_hex": event.signature_hex}
            return [_record(entry, event, Action.ROSTER_INSTALLED, f"roster:{event.roster.version}", payload)]
        case RiskLimitsInstalled():
            payload = {"digest_hex": event.digest_hex, "limits": event.limits}
            return [_record(entry, event, Action.RISK_LIMITS_INSTALLED, f"risk-limits:{event.version}", payload)]
        case ApprovalDecided():
            return _approval_records(entry, event)
        case KillSwitchChanged():
            payload = {"state": event.state, "reason": event.reason}
            action, resource = Action.KILL_SWITCH_CHANGED, "kill-switch"
            return [_record(entry, event, action, resource, payload, on_behalf_of=event.requested_by or None)]
        case _:
            return [_order_record(entry, event, order)]


def own_trace_id(entry: JournalEntry, timestamp_ns: int) -> str:
    """A trace id for what the engine did by itself: a ULID that is a pure function of the entry."""
    digest = hashlib.sha256(f"veloz/engine-trace/v1/{entry.engine_id}/{entry.sequence}".encode()).digest()
    milliseconds = (timestamp_ns // NS_PER_MS).to_bytes(TIMESTAMP_BYTES, "big")
    return str(ULID.from_bytes(milliseconds + digest[: 16 - TIMESTAMP_BYTES]))


def _approval_records(entry: JournalEntry, event: ApprovalDecided) -> list[AuditRecord]:
    order = OrderContext(event.account_id, event.suggestion_id, event.run_id or None, event.trace_id)
    about = {"suggestion_id": event.suggestion_id, "version": event.version, "digest_hex": event.digest_hex}
    risk = _record(
        entry,
        event,
        Action.RISK_DECIDED,
        f"suggestion:{event.suggestion_id}",
        {
            **about,
            "decision": "passed" if event.refusal is None else "refused",
            "refusal": event.refusal,
            "checks": event.checks,
            "market": event.market,
            "rules_version": event.rules_version,
            "roster_version": event.roster_version,
            "approvals": event.signatures,
            "proposal": event.proposal,
        },
        outcome=event.refusal.code.value if event.refusal else OUTCOME_OK,
        order=order,
        on_behalf_of=event.asker_id,
    )
    if event.intent is None:
        return [risk]
    intended = _record(
        entry,
        event,
        Action.ORDER_INTENDED,
        f"order:{event.intent.client_order_id}",
        {**about, "intent": _intent(event.intent)},
        order=order,
        on_behalf_of=event.asker_id,
    )
    return [risk, intended]


def _order_record(
    entry: JournalEntry,
    event: OrderAccepted | OrderRejected | OrderBecameUnknown | OrderFilled | OrderClosed | CancelRequested,
    order: OrderContext,
) -> AuditRecord:
    outcome, on_behalf_of = OUTCOME_OK, None
    payload: dict[str, Any]
    match event:
        case OrderAccepted():
            action, payload = Action.ORDER_ACCEPTED, {"venue_order_id": event.venue_order_id}
        case OrderRejected():
            action, payload, outcome = Action.ORDER_REJECTED, {"refusal": event.refusal}, event.refusal.code.value
        case OrderBecameUnknown():
            action, payload, outcome = Action.ORDER_UNKNOWN, {"detail": event.detail}, OUTCOME_UNKNOWN
        case OrderFilled():
            action, payload = Action.ORDER_FILLED, _fill(event)
            order = msgspec.structs.replace(order, account_id=event.account_id)
        case OrderClosed():
            action, payload = Action.ORDER_CLOSED, {"status": event.status, "reason": event.reason}
        case CancelRequested():
            action, payload, on_behalf_of = Action.CANCEL_REQUESTED, {}, event.requested_by or None
    resource = f"order:{event.client_order_id}"
    return _record(entry, event, action, resource, payload, outcome=outcome, order=order, on_behalf_of=on_behalf_of)


def _record(
    entry: JournalEntry,
    event: JournalEvent,
    action: Action,
    resource: str,
    payload: dict[str, Any],
    *,
    outcome: str = OUTCOME_OK,
    order: OrderContext = NO_ORDER,
    on_behalf_of: str | None = None,
) -> AuditRecord:
    journal = {
        "engine_id": entry.engine_id,
        "epoch": entry.epoch,
        "sequence": entry.sequence,
        "hash_hex": entry.hash_hex,
    }
    return AuditRecord(
        record_id=f"{entry.engine_id}:{entry.sequence}:{action.value}",
        occurred_at=format_utc_us(event.ts_ns),
        occurred_at_ns=str(event.ts_ns),
        clock_source=f"engine:{entry.engine_id}",
        actor=f"engine:{entry.engine_id}",
        on_behalf_of=on_behalf_of,
        action=action,
        resource=resource,
        outcome=outcome,
        trace_id=event.trace_id or order.trace_id or own_trace_id(entry, event.ts_ns),
        account_id=order.account_id,
        run_id=order.run_id,
        suggestion_id=order.suggestion_id,
        payload=as_text({**payload, "journal": journal}),
    )


def _started(event: EngineStarted) -> dict[str, Any]:
    return {
        "epoch": event.epoch,
        "environment": event.environment,
        "mode": event.mode,
        "software_version": event.software_version,
    }


def _intent(intent: OrderIntent) -> dict[str, Any]:
    return {
        "client_order_id": intent.client_order_id,
        "venue": intent.venue,
        "symbol": intent.symbol,
        "side": intent.side,
        "order_type": intent.order_type,
        "time_in_force": intent.time_in_force,
        "quantity": from_scaled(intent.quantity, intent.quantity_scale),
        "price": None if intent.price is None else from_scaled(intent.price, intent.price_scale),
        "post_only": intent.post_only,
        "reduce_only": intent.reduce_only,
    }


def _fill(event: OrderFilled) -> dict[str, Any]:
    notional_scale = event.price_scale + event.quantity_scale
    payload: dict[str, Any] = {
        "venue": event.venue,
        "symbol": event.symbol,
        "trade_id": event.trade_id,
        "venue_order_id": event.venue_order_id,
        "side": event.side,
        "price": from_scaled(event.price, event.price_scale),
        "quantity": from_scaled(event.quantity, event.quantity_scale),
        "fee": event.fee,
        "fee_asset": event.fee_asset,
        "fee_quote": from_scaled(event.fee_quote, notional_scale),
        "is_maker": event.is_maker,
        "inferred": event.inferred,
        "traded_at": format_utc_us(event.venue_ts_ns),
        "status": event.status,
        "position": {
            "quantity": from_scaled(event.position.quantity, event.quantity_scale),
            "average_price": from_scaled(event.position.average_price, event.price_scale),
            "realised_pnl_quote": from_scaled(event.position.realised_pnl, notional_scale),
            "fees_quote": from_scaled(event.position.fees, notional_scale),
        },
    }
    if event.closed is not None:
        payload["closed_position"] = {
            "position_id": event.closed.position_id,
            "realised_pnl_quote": from_scaled(event.closed.realised_pnl, notional_scale),
            "fees_quote": from_scaled(event.closed.fees, notional_scale),
        }
    return payload
