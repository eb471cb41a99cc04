"""Reading the audit trail, which is itself recorded."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from api.audit_trail.summaries import summary
from audit.keys import PersonKeys
from audit.read import TraceRecord, find_trace
from audit.record import Action
from audit.trail import AuditTrail
from core.storage.database import scoped_session
from core.types.codes import ReasonCode, refuse
from core.types.ids import IdSource, new_trace
from tools.contracts import Principal

IDENTIFIER_LENGTH_LIMIT = 64
_TRACE_OF_ORDER = text("SELECT trace_id FROM orders WHERE client_order_id = :id")
IDENTIFIER = re.compile(r"[A-Za-z0-9_-]+")


class AuditReader:
    """What one question led to, in order, inside the reader's accounts."""

    def __init__(self, database: AsyncEngine, person_keys: PersonKeys, trail: AuditTrail, ids: IdSource) -> None:
        self._database = database
        self._person_keys = person_keys
        self._trail = trail
        self._ids = ids

    async def trace(self, principal: Principal, identifier: str) -> dict[str, Any]:
        """identifier is a trace (ULID or hex), run, suggestion or order id. Raises RESOURCE_NOT_FOUND."""
        if not IDENTIFIER.fullmatch(identifier):
            raise refuse(
                ReasonCode.REQUEST_INVALID,
                "A trace, run, suggestion or order id has letters, digits, dashes and underscores.",
            )
        found = await find_trace(self._database, identifier, principal.account_ids)
        if not found.records:
            trace_id = await self._trace_of_order(principal, identifier)
            if trace_id is not None:
                found = await find_trace(self._database, trace_id, principal.account_ids)
        if not found.records:
            raise refuse(ReasonCode.RESOURCE_NOT_FOUND, f"The trail holds nothing of {identifier} in your accounts.")
        await self.note_read(principal, f"trace:{identifier}", len(found.records))
        records = [await self._shown(item) for item in found.records]
        trace_ids = [item.record.trace_id for item in found.records if item.record is not None]
        return {
            "trace_id": trace_ids[0] if trace_ids else identifier,
            "intact": all(item.verified for item in found.records),
            "truncated": found.truncated,
            "records": records,
        }

    async def note_read(self, principal: Principal, what: str, records: int) -> None:
        """Reading the trail is in the trail. Raises RefusalError(SERVICE_AUDIT_UNAVAILABLE)."""
        await self._trail.record(
            action=Action.AUDIT_READ,
            actor=principal.user_id,
            actor_identity=principal.username,
            resource=what,
            outcome="ok",
            trace_id=new_trace(self._ids).trace_id,
            payload={"records": str(records)},
        )

    async def _trace_of_order(self, principal: Principal, client_order_id: str) -> str | None:
        async with scoped_session(self._database, principal.account_ids) as connection:
            found: str | None = await connection.scalar(_TRACE_OF_ORDER, {"id": client_order_id})
        return found

    async def _shown(self, item: TraceRecord) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "record_id": item.record_id,
            "sequence": item.sequence,
            "leaf_hash": item.leaf_hash_hex,
            "problems": list(item.problems),
        }
        record = item.record
        if record is None:
            return shown | {"action": "?", "actor": "?", "outcome": "unreadable", "occurred_at": "", "summary": ""}
        identity = await self._person_keys.open(record.actor_identity) if record.actor_identity else None
        plain = {name: value for name, value in msgspec.to_builtins(record).items() if name != "actor_identity"}
        return shown | plain | {"identity": identity, "summary": summary(record)}
