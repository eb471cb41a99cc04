"""The audit trail for compliance."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from api.audit_trail.service import IDENTIFIER_LENGTH_LIMIT
from api.dependencies import CurrentPrincipal, CurrentServices, require_role
from tools.contracts import Role

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])


@router.get("/traces/{identifier}")
async def get_trace(
    identifier: Annotated[str, Path(max_length=IDENTIFIER_LENGTH_LIMIT)],
    principal: CurrentPrincipal,
    services: CurrentServices,
) -> dict[str, Any]:
    """Everything that one question led to, in order; each record's bytes are checked against its leaf hash. Takes a
    trace, run or suggestion id. Reading is recorded."""
    require_role(principal, Role.COMPLIANCE)
    return await services.audit.trace(principal, identifier)
