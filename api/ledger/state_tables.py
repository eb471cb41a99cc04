"""What the engine holds besides orders, in SQL: money, sessions, mandates, rules, switches, reconciliations."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any, assert_never

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from api.ledger.authority import installing_authority, tightening_authority
from api.ledger.statements import insert, json_list, json_text, upsert, utc
from core.types.events import (
    AccountEvent,
    ApprovalVoided,
    BalancesObserved,
    EngineStarted,
    EquityObserved,
    FreezeChanged,
    FundingSettled,
    InstrumentsLoaded,
    JournalEntry,
    KillSwitchChanged,
    MandateInstalled,
    MandateRevoked,
    MandateTightened,
    Reconciled,
    RiskLimitsInstalled,
    RiskRulesInstalled,
    RosterInstalled,
    SessionClosed,
    SessionOpened,
    SettingEvent,
)

_UPSERT_BALANCE = upsert("balances", "account_id venue asset", "total engine_id sequence as_of")
# An asset that the venue no longer shows is spent.
_EMPTY_OTHER_BALANCES = text(
    """
    UPDATE balances SET total = 0, sequence = :sequence, engine_id = :engine_id, as_of = :as_of
    WHERE account_id = :account_id AND venue = :venue AND total <> 0 AND NOT asset = ANY (:assets)
      AND (sequence < :sequence OR engine_id <> :engine_id)
    """
)
_UPSERT_EQUITY = upsert("equity", "account_id day", "day_start_equity peak_equity equity engine_id sequence updated_at")
_INSERT_FUNDING = insert("funding", "account_id venue symbol transaction_id amount asset engine_id sequence settled_at")
_INSERT_SESSION = insert(
    "trading_sessions",
    "session_id user_id account_ids engine_id sequence opened_at expires_at",
    "session_grant signature",
)
_CLOSE_SESSION = text(
    "UPDATE trading_sessions SET closed_at = :at, closed_by = :by, close_reason = :reason "
    "WHERE session_id = :id AND closed_at IS NULL"
)
_INSERT_MANDATE = insert(
    "mandates",
    "mandate_id account_id strategy_id digest engine_id sequence installed_at expires_at",
    "mandate signatures",
)
_REVOKE_MANDATE = text(
    "UPDATE mandates SET revoked_at = :at, revoked_by = :by, revoke_reason = :reason "
    "WHERE mandate_id = :id AND revoked_at IS NULL"
)
_TIGHTEN_MANDATE = text("UPDATE mandates SET mandate = mandate || CAST(:limits AS jsonb) WHERE mandate_id = :id")
_INSERT_RULES = insert(
    "risk_rules",
    "engine_id version digest document authority authority_id rolled_back_to sequence installed_at",
    "authority_record",
)
_INSERT_KILL_SWITCH = insert(
    "kill_switch_changes",
    "engine_id sequence account_id state requested_by reason authority authority_id changed_at",
)
_INSERT_FREEZE = insert(
    "freeze_changes", "engine_id sequence account_id frozen reason authority authority_id changed_at"
)
_INSERT_RECONCILIATION = insert(
    "reconciliations", "engine_id sequence account_id venue cause reconciled_at", "differences"
)


async def project_setting(connection: AsyncConnection, entry: JournalEntry, event: SettingEvent | AccountEvent) -> None:
    """What isn't about one order."""
    stamp = {"engine_id": entry.engine_id, "sequence": entry.sequence}
    at = utc(event.ts_ns)
    match event:
        case EngineStarted() | InstrumentsLoaded() | RosterInstalled() | ApprovalVoided():
            pass  # the audit trail has them; nothing in SQL is looked up there
        case RiskLimitsInstalled():
            await _project_rules(connection, stamp, event, at, document=json_text(event.limits) or "")
        case RiskRulesInstalled():
            await _project_rules(connection, stamp, event, at, document=event.document)
        case FreezeChanged():
            kind, authority_id = installing_authority(event.authority) if event.authority else ("safety", "engine")
            values = {"account_id": event.account_id, "frozen": event.frozen, "reason": event.reason}
            by = {"authority": kind, "authority_id": authority_id, "changed_at": at}
            await connection.execute(_INSERT_FREEZE, stamp | values | by)
        case SessionOpened() | SessionClosed():
            await _project_session(connection, stamp, event)
        case MandateInstalled() | MandateRevoked() | MandateTightened():
            await _project_mandate(connection, stamp, event)
        case BalancesObserved():
            await _project_balances(connection, stamp, event)
        case FundingSettled():
            values = {
                "account_id": event.account_id,
                "venue": event.venue,
                "symbol": event.symbol,
                "transaction_id": event.transaction_id,
                "amount": Decimal(event.amount),
                "asset": event.asset,
                "settled_at": utc(event.venue_ts_ns),
            }
            await connection.execute(_INSERT_FUNDING, stamp | values)
        case EquityObserved():
            values = {
                "account_id": event.account_id,
                "day": date.fromisoformat(event.day),
                "day_start_equity": Decimal(event.day_start_equity),
                "peak_equity": Decimal(event.peak_equity),
                "equity": Decimal(event.equity),
                "updated_at": at,
            }
            await connection.execute(_UPSERT_EQUITY, stamp | values)
        case _:
            assert_never(event)


async def project_kill_switch(connection: AsyncConnection, entry: JournalEntry, event: KillSwitchChanged) -> None:
    kind, authority_id = tightening_authority(event.authority, event.requested_by)
    await connection.execute(
        _INSERT_KILL_SWITCH,
        {
            "engine_id": entry.engine_id,
            "sequence": entry.sequence,
            "account_id": event.account_id,
            "state": event.state,
            "requested_by": event.requested_by,
            "reason": event.reason,
            "authority": kind,
            "authority_id": authority_id,
            "changed_at": utc(event.ts_ns),
        },
    )


async def project_reconciliation(connection: AsyncConnection, entry: JournalEntry, event: Reconciled) -> None:
    await connection.execute(
        _INSERT_RECONCILIATION,
        {
            "engine_id": entry.engine_id,
            "sequence": entry.sequence,
            "account_id": event.account_id,
            "venue": event.venue,
            "cause": event.cause,
            "reconciled_at": utc(event.ts_ns),
            "differences": json_list(event.differences),
        },
    )


async def _project_rules(
    connection: AsyncConnection,
    stamp: dict[str, Any],
    event: RiskLimitsInstalled | RiskRulesInstalled,
    at: Any,
    *,
    document: str,
) -> None:
    authority = event.authority if isinstance(event, RiskRulesInstalled) else None
    kind, authority_id = installing_authority(authority)
    await connection.execute(
        _INSERT_RULES,
        stamp
        | {
            "version": event.version,
            "digest": event.digest_hex,
            "document": document,
            "authority": kind,
            "authority_id": authority_id,
            "authority_record": json_text(authority),
            "rolled_back_to": event.rolled_back_to if isinstance(event, RiskRulesInstalled) else None,
            "installed_at": at,
        },
    )


async def _project_session(
    connection: AsyncConnection, stamp: dict[str, Any], event: SessionOpened | SessionClosed
) -> None:
    if isinstance(event, SessionClosed):
        values = {"id": event.session_id, "at": utc(event.ts_ns), "by": event.requested_by, "reason": event.reason}
        await connection.execute(_CLOSE_SESSION, values)
        return
    grant = event.grant
    await connection.execute(
        _INSERT_SESSION,
        stamp
        | {
            "session_id": grant.session_id,
            "user_id": grant.user_id,
            "account_ids": list(grant.account_ids),
            "opened_at": utc(event.ts_ns),
            "expires_at": utc(int(grant.expires_at_ns)),
            "session_grant": json_text(grant),
            "signature": json_text(event.signature),
        },
    )


async def _project_mandate(
    connection: AsyncConnection, stamp: dict[str, Any], event: MandateInstalled | MandateRevoked | MandateTightened
) -> None:
    if isinstance(event, MandateRevoked):
        values = {"id": event.mandate_id, "at": utc(event.ts_ns), "by": event.requested_by, "reason": event.reason}
        await connection.execute(_REVOKE_MANDATE, values)
        return
    if isinstance(event, MandateTightened):
        limits = {
            "max_order_notional_quote": event.max_order_notional_quote,
            "max_position_notional_quote": event.max_position_notional_quote,
            "max_total_notional_quote": event.max_total_notional_quote,
            "max_open_orders": event.max_open_orders,
        }
        await connection.execute(_TIGHTEN_MANDATE, {"id": event.mandate_id, "limits": json.dumps(limits)})
        return
    mandate = event.mandate
    await connection.execute(
        _INSERT_MANDATE,
        stamp
        | {
            "mandate_id": mandate.mandate_id,
            "account_id": mandate.account_id,
            "strategy_id": mandate.strategy_id,
            "digest": event.digest_hex,
            "installed_at": utc(event.ts_ns),
            "expires_at": utc(int(mandate.expires_at_ns)),
            "mandate": json_text(mandate),
            "signatures": json_list(event.signatures),
        },
    )


async def _project_balances(connection: AsyncConnection, stamp: dict[str, Any], event: BalancesObserved) -> None:
    owner = {"account_id": event.account_id, "venue": event.venue, "as_of": utc(event.as_of_ns)} | stamp
    rows = [owner | {"asset": asset, "total": Decimal(total)} for asset, total in sorted(event.totals.items())]
    if rows:
        await connection.execute(_UPSERT_BALANCE, rows)
    await connection.execute(_EMPTY_OTHER_BALANCES, owner | {"assets": list(event.totals)})
