"""The engine's journal in the audit trail's words. Pure: equal entries give equal records with equal ids."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any, assert_never

import msgspec
from ulid import ULID

from api.ledger.authority import acting_for, authority_of, installing_authority, tightening_authority
from audit.record import Action, AuditRecord
from audit.trail import as_text
from core.types.authority import AdministrationAuthority, Authority, SafetyAuthority
from core.types.clock import NS_PER_MS, format_utc_us
from core.types.events import (
    ApprovalDecided,
    ApprovalVoided,
    BalancesObserved,
    CancelRequested,
    EngineStarted,
    EquityObserved,
    FreezeChanged,
    FundingSettled,
    GrantEvent,
    InstrumentsLoaded,
    JournalEntry,
    JournalEvent,
    KillSwitchChanged,
    MandateInstalled,
    MandateRevoked,
    MandateTightened,
    OrderAccepted,
    OrderAdopted,
    OrderAmended,
    OrderAmendRefused,
    OrderAmendRequested,
    OrderArmed,
    OrderBecameUnknown,
    OrderClosed,
    OrderFilled,
    OrderIntended,
    OrderRefused,
    OrderRejected,
    OrderTrailed,
    OrderTriggered,
    Reconciled,
    RiskLimitsInstalled,
    RiskRulesInstalled,
    RosterInstalled,
    SessionClosed,
    SessionOpened,
    TriggerReached,
    checks_by_name,
)
from core.types.money import from_scaled
from core.types.orders import OrderIntent

TIMESTAMP_BYTES = 6
OUTCOME_OK = "ok"
OUTCOME_UNKNOWN = "unknown"


class OrderContext(msgspec.Struct, frozen=True):
    """What an order belongs to: whose it is, the approval that it came from, and the kind and id of its authority."""

    account_id: str | None = None
    suggestion_id: str | None = None
    run_id: str | None = None
    trace_id: str | None = None
    authority: str | None = None
    authority_id: str | None = None


NO_ORDER = OrderContext()


def records_of(entry: JournalEntry, event: JournalEvent, order: OrderContext) -> list[AuditRecord]:
    """The audit records of one journal entry, in order. order is what an order event's order belongs to."""
    match event:
        case InstrumentsLoaded() | BalancesObserved() | FundingSettled() | EquityObserved():
            return []  # reference data and what the venue said; decisions carry what of it they used
        case TriggerReached() | OrderTrailed() | OrderArmed():
            return []  # follow from the market and from fills; the decision is recorded when the order triggers
        case EngineStarted() | RosterInstalled() | RiskLimitsInstalled() | RiskRulesInstalled():
            return [_setting_record(entry, event)]
        case SessionOpened() | SessionClosed() | MandateInstalled() | MandateRevoked() | MandateTightened():
            return [_grant_record(entry, event)]
        case KillSwitchChanged() | FreezeChanged() | Reconciled():
            return [_safety_record(entry, event)]
        case ApprovalDecided():
            return _approval_records(entry, event)
        case ApprovalVoided():
            return [_voided_record(entry, event)]
        case OrderIntended():
            return _intended_records(entry, event)
        case OrderRefused():
            return [_refused_record(entry, event)]
        case OrderAdopted():
            payload = {
                "intent": _intent(event.intent),
                "venue_order_id": event.venue_order_id,
                **_authority(event.authority),
            }
            order = OrderContext(event.intent.account_id, trace_id=event.trace_id)
            resource = f"order:{event.intent.client_order_id}"
            return [_record(entry, event, Action.ORDER_ADOPTED, resource, payload, order=order)]
        case (
            OrderTriggered()
            | OrderAmendRequested()
            | OrderAmended()
            | OrderAmendRefused()
            | OrderAccepted()
            | OrderRejected()
            | OrderBecameUnknown()
            | OrderFilled()
            | OrderClosed()
            | CancelRequested()
        ):
            return [_order_record(entry, event, order)]
        case _:
            assert_never(event)


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
            "authority": {"kind": "approval", "id": event.suggestion_id},
            "decision": "passed" if event.refusal is None else "refused",
            "refusal": event.refusal,
            "checks": checks_by_name(event.checks),
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
        {
            **about,
            "authority": {"kind": "approval", "id": event.suggestion_id},
            "intent": _intent(event.intent),
        },
        order=order,
        on_behalf_of=event.asker_id,
    )
    return [risk, intended]


def caused_records(
    entry: JournalEntry, approval: ApprovalDecided, position: int, order: OrderContext
) -> list[AuditRecord]:
    """Of what an approval led to, as records of its suggestion. order is what that is about, where it is known."""
    caused = approval.caused[position]
    records = records_of(entry, caused, msgspec.structs.replace(order, trace_id=order.trace_id or approval.trace_id))
    return [
        msgspec.structs.replace(
            record,
            # One journal record may cause several of a kind.
            record_id=f"{record.record_id}:{position + 1}",
            account_id=approval.account_id,
            run_id=approval.run_id or None,
            suggestion_id=approval.suggestion_id,
            on_behalf_of=approval.asker_id,
        )
        for record in records
    ]


def _voided_record(entry: JournalEntry, event: ApprovalVoided) -> AuditRecord:
    payload = {"version": event.version, "reason": event.reason, **_authority(SafetyAuthority(event.requested_by))}
    order = OrderContext(event.account_id or None, event.suggestion_id, None, event.trace_id)
    resource = f"suggestion:{event.suggestion_id}"
    by = event.requested_by or None
    return _record(entry, event, Action.APPROVAL_VOIDED, resource, payload, order=order, on_behalf_of=by)


def _intended_records(entry: JournalEntry, event: OrderIntended) -> list[AuditRecord]:
    intent = event.intent
    order = OrderContext(intent.account_id, trace_id=event.trace_id)
    resource = f"order:{intent.client_order_id}"
    on_behalf_of = acting_for(event.authority)
    risk = {
        **_authority(event.authority),
        "decision": "passed",
        "checks": checks_by_name(event.checks),
        "market": event.market,
        "rules_version": event.rules_version,
        "notional_quote": event.notional_quote,
    }
    relations = {
        "is_held": event.is_held,
        "group_id": event.group_id,
        "role": event.role,
        "parent_id": event.parent_id,
        "replaces": event.replaces,
    }
    intended = {**_authority(event.authority), "intent": _intent(intent), **relations}
    return [
        _record(entry, event, Action.RISK_DECIDED, resource, risk, order=order, on_behalf_of=on_behalf_of),
        _record(entry, event, Action.ORDER_INTENDED, resource, intended, order=order, on_behalf_of=on_behalf_of),
    ]


def _refused_record(entry: JournalEntry, event: OrderRefused) -> AuditRecord:
    payload = {
        **_authority(event.authority),
        "request": event.request,
        "refusal": event.refusal,
        "checks": checks_by_name(event.checks),
        "market": event.market,
        "rules_version": event.rules_version,
    }
    return _record(
        entry,
        event,
        Action.ORDER_REFUSED,
        f"market:{event.venue}:{event.symbol}",
        payload,
        outcome=event.refusal.code.value,
        order=OrderContext(event.account_id, trace_id=event.trace_id),
        on_behalf_of=acting_for(event.authority),
    )


def _order_record(
    entry: JournalEntry,
    event: OrderTriggered
    | OrderAmendRequested
    | OrderAmended
    | OrderAmendRefused
    | OrderAccepted
    | OrderRejected
    | OrderBecameUnknown
    | OrderFilled
    | OrderClosed
    | CancelRequested,
    order: OrderContext,
) -> AuditRecord:
    outcome, on_behalf_of = OUTCOME_OK, None
    payload: dict[str, Any]
    match event:
        case OrderTriggered():
            action = Action.ORDER_TRIGGERED
            payload = {
                "trigger_price_scaled": event.trigger_price,
                "checks": checks_by_name(event.checks),
                "market": event.market,
            }
        case OrderAmendRequested():
            action, on_behalf_of = Action.ORDER_AMEND_REQUESTED, acting_for(event.authority)
            payload = {
                **_authority(event.authority),
                "quantity_scaled": event.quantity,
                "price_scaled": event.price,
                "checks": checks_by_name(event.checks),
                "market": event.market,
                "rules_version": event.rules_version,
            }
        case OrderAmended():
            action = Action.ORDER_AMENDED
            payload = {"quantity_scaled": event.quantity, "price_scaled": event.price}
        case OrderAmendRefused():
            action, payload, outcome = Action.ORDER_AMEND_REFUSED, {"refusal": event.refusal}, event.refusal.code.value
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
            action, on_behalf_of = Action.CANCEL_REQUESTED, event.requested_by or None
            payload = _authority(SafetyAuthority(event.requested_by))
    if order.authority is not None:
        payload = {**payload, "order_authority": {"kind": order.authority, "id": order.authority_id}}
    resource = f"order:{event.client_order_id}"
    return _record(entry, event, action, resource, payload, outcome=outcome, order=order, on_behalf_of=on_behalf_of)


def _setting_record(
    entry: JournalEntry, event: EngineStarted | RosterInstalled | RiskLimitsInstalled | RiskRulesInstalled
) -> AuditRecord:
    match event:
        case EngineStarted():
            return _record(entry, event, Action.ENGINE_STARTED, f"engine:{event.engine_id}", _started(event))
        case RosterInstalled():
            payload = {
                "roster": event.roster,
                "signature_hex": event.signature_hex,
                **_administration(event.authority),
            }
            return _record(entry, event, Action.ROSTER_INSTALLED, f"roster:{event.roster.version}", payload)
        case RiskLimitsInstalled():
            payload = {"digest_hex": event.digest_hex, "limits": event.limits}
            return _record(entry, event, Action.RISK_LIMITS_INSTALLED, f"risk-limits:{event.version}", payload)
        case RiskRulesInstalled():
            payload = {
                "digest_hex": event.digest_hex,
                "document": event.document,
                "rolled_back_to": event.rolled_back_to,
                **_administration(event.authority),
            }
            on_behalf_of = None if event.authority is None else acting_for(event.authority)
            resource = f"risk-rules:{event.version}"
            return _record(entry, event, Action.RISK_RULES_INSTALLED, resource, payload, on_behalf_of=on_behalf_of)
        case _:
            assert_never(event)


def _grant_record(entry: JournalEntry, event: GrantEvent) -> AuditRecord:
    match event:
        case SessionOpened(grant=grant):
            payload: dict[str, Any] = {"grant": grant, "signature": event.signature}
            action, resource, on_behalf_of = Action.SESSION_OPENED, f"session:{grant.session_id}", grant.user_id
            account_id = grant.account_ids[0] if len(grant.account_ids) == 1 else None
        case SessionClosed():
            payload = {"reason": event.reason, **_authority(SafetyAuthority(event.requested_by))}
            action, resource = Action.SESSION_CLOSED, f"session:{event.session_id}"
            on_behalf_of, account_id = event.requested_by, None
        case MandateInstalled(mandate=mandate):
            payload = {"mandate": mandate, "digest_hex": event.digest_hex, "signatures": event.signatures}
            action, resource = Action.MANDATE_INSTALLED, f"mandate:{mandate.mandate_id}"
            on_behalf_of, account_id = mandate.asker_id, mandate.account_id
        case MandateRevoked():
            payload = {"reason": event.reason, **_authority(event.authority or SafetyAuthority(event.requested_by))}
            action, resource = Action.MANDATE_REVOKED, f"mandate:{event.mandate_id}"
            on_behalf_of, account_id = event.requested_by, None
        case MandateTightened():
            payload = {
                "max_order_notional_quote": event.max_order_notional_quote,
                "max_position_notional_quote": event.max_position_notional_quote,
                "max_total_notional_quote": event.max_total_notional_quote,
                "max_open_orders": event.max_open_orders,
                "reason": event.reason,
                **_authority(SafetyAuthority(event.requested_by)),
            }
            action, resource = Action.MANDATE_TIGHTENED, f"mandate:{event.mandate_id}"
            on_behalf_of, account_id = event.requested_by, None
        case _:
            assert_never(event)
    order = OrderContext(account_id)
    return _record(entry, event, action, resource, payload, order=order, on_behalf_of=on_behalf_of or None)


def _safety_record(entry: JournalEntry, event: KillSwitchChanged | FreezeChanged | Reconciled) -> AuditRecord:
    order = OrderContext(event.account_id or None)
    payload: dict[str, Any]
    match event:
        case KillSwitchChanged():
            kind, authority_id = tightening_authority(event.authority, event.requested_by)
            payload = {
                "state": event.state,
                "reason": event.reason,
                "scope": f"account {event.account_id}" if event.account_id else "engine",
                "authority": {"kind": kind, "id": authority_id},
            }
            resource = f"kill-switch:{event.account_id}" if event.account_id else "kill-switch"
            by = event.requested_by or None
            return _record(entry, event, Action.KILL_SWITCH_CHANGED, resource, payload, order=order, on_behalf_of=by)
        case FreezeChanged():
            payload = {"frozen": event.frozen, "reason": event.reason}
            if event.authority is not None:
                payload |= _authority(event.authority)
            resource = f"account:{event.account_id}"
            return _record(entry, event, Action.FREEZE_CHANGED, resource, payload, order=order)
        case Reconciled():
            payload = {"venue": event.venue, "cause": event.cause, "differences": event.differences}
            return _record(entry, event, Action.RECONCILED, f"account:{event.account_id}", payload, order=order)
        case _:
            assert_never(event)


def _authority(authority: Authority) -> dict[str, Any]:
    kind, authority_id = authority_of(authority)
    return {"authority": {"kind": kind, "id": authority_id, "record": authority}}


def _administration(authority: AdministrationAuthority | None) -> dict[str, Any]:
    kind, authority_id = installing_authority(authority)
    return {"authority": {"kind": kind, "id": authority_id, "record": authority}}


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
        "price": _price(intent.price, intent),
        "post_only": intent.post_only,
        "reduce_only": intent.reduce_only,
        "stop_price": _price(intent.stop_price, intent),
        "activation_price": _price(intent.activation_price, intent),
        "trailing_offset_bps": intent.trailing_offset_bps,
        "expires_at": None if intent.expires_ns is None else format_utc_us(intent.expires_ns),
        "strategy_id": intent.strategy_id or None,
    }


def _price(value: int | None, intent: OrderIntent) -> Decimal | None:
    return None if value is None else from_scaled(value, intent.price_scale)


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
