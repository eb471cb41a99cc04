"""The gateway's policy in force."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from api.dependencies import CurrentPrincipal, CurrentServices
from core.types.clock import format_utc_us
from tools.contracts import Role

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
