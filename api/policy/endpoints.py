"""The gateway's policy in force."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query

from api.dependencies import CurrentPrincipal, CurrentServices, require_role
from api.policy.repository import recorded_calls
from core.types.clock import format_utc_us
from tools.contracts import Role
from tools.policy_replay import recorded_call

CALLS_SHOWN_LIMIT = 1_000

router = APIRouter(prefix="/api/v1/policy", tags=["policy"])


@router.get("")
async def get_policy(principal: CurrentPrincipal, services: CurrentServices) -> dict[str, Any]:
    """Version and digest of the policy that this process decides by, and since when. `problem` says why nothing is
    allowed now, where that is so. Compliance sees the document as well."""
    view = services.policy.view()
    shown: dict[str, Any] = {
        "version": view.version,
        "digest": view.digest_hex,
        "source": view.source,
        "in_force_since": format_utc_us(view.in_force_since_ns),
        "problem": view.problem,
    }
    if principal.role is Role.COMPLIANCE:
        shown["document"] = view.document
    return shown


@router.get("/calls")
async def get_calls(
    principal: CurrentPrincipal,
    services: CurrentServices,
    before: Annotated[int | None, Query(ge=1, description="Those that arrived before this one.")] = None,
    limit: Annotated[int, Query(ge=1, le=CALLS_SHOWN_LIMIT)] = CALLS_SHOWN_LIMIT,
) -> dict[str, Any]:
    """What records of calls say that a policy asks about, newest first. Compliance only, and recorded."""
    require_role(principal, Role.COMPLIANCE)
    rows = await recorded_calls(services.transactions, principal.account_ids, before, limit)
    await services.audit.note_read(principal, "calls", len(rows))
    calls = [call for _, record in rows if (call := recorded_call(record)) is not None]
    return {"calls": [msgspec.to_builtins(call) for call in calls], "next": rows[-1][0] if len(rows) == limit else None}
