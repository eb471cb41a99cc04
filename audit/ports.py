"""How everyone else writes to the audit trail."""

from __future__ import annotations

from typing import Protocol

from audit._inserts import SealedResult
from audit.record import AuditRecord


class AuditSink(Protocol):
    """MUST return only after the record is durable. MUST raise RefusalError(SERVICE_AUDIT_UNAVAILABLE) when it can't
    be made so within its deadline; the caller MUST then refuse its action (I7). MUST NOT retry after an unknown
    outcome under another record_id. A result that comes with its record MUST be durable with it, or neither."""

    async def append(self, record: AuditRecord, result: SealedResult | None = None) -> None: ...
