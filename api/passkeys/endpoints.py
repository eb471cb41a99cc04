"""Passkeys of approvers: making one, and what has to be signed for a suggestion."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from api.dependencies import CurrentPrincipal, CurrentServices, require_role
from core.authority.enrolment import fingerprint
from core.types.codes import ReasonCode, refuse
from tools.contracts import Principal, Role

VERSION_LIMIT = (1 << 31) - 1

router = APIRouter(prefix="/api/v1", tags=["passkeys"])


class RegistrationRequest(BaseModel):
    """credential is what `navigator.credentials.create()` gave, as JSON."""

    model_config = ConfigDict(extra="forbid")
    credential: dict[str, Any]


@router.post("/passkeys/options")
async def registration_options(principal: CurrentPrincipal, services: CurrentServices) -> dict[str, Any]:
    """What to call `navigator.credentials.create()` with."""
    _require_approver(principal)
    return await services.passkeys.registration_options(principal)


@router.post("/passkeys")
async def register(body: RegistrationRequest, principal: CurrentPrincipal, services: CurrentServices) -> dict[str, Any]:
    """A request to enrol a passkey that was made. It counts for nothing until the root key has signed it into the
    roster: `veloz roster add`. Read the fingerprint to whoever does that."""
    _require_approver(principal)
    request = services.passkeys.enrolment_request(principal, body.credential)
    content: dict[str, Any] = msgspec.to_builtins(request)
    return {"request": content, "fingerprint": fingerprint(request.entry.public_key_hex)}


@router.post("/suggestions/{suggestion_id}/passkey-options")
async def approval_options(
    suggestion_id: str,
    principal: CurrentPrincipal,
    services: CurrentServices,
    version: Annotated[int | None, Query(ge=1, le=VERSION_LIMIT)] = None,
) -> dict[str, Any]:
    """What to call `navigator.credentials.get()` with to approve this version: its digest makes the challenge."""
    _require_approver(principal)
    suggestion = await services.approvals.view(principal, suggestion_id, version)
    return await services.passkeys.approval_options(principal, suggestion)


def _require_approver(principal: Principal) -> None:
    require_role(principal, Role.APPROVER)
    if principal.kind != "human":
        raise refuse(ReasonCode.AUTH_ROLE_NOT_PERMITTED, "Passkeys are people's.", actual=principal.kind, unit="role")
