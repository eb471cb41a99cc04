"""Who may do what: sessions, mandates, the roster, and documents that administrators sign. The engine verifies them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query

from api.dependencies import CurrentPrincipal, CurrentServices, ReducingPrincipal, require_account, require_role
from api.signed import SignedDocumentRequest, document_of
from core.authority.reading import UNREADABLE
from core.runtime.messages import plain
from core.types.codes import ReasonCode, Refusal, RefusalError, refuse
from tools.contracts import Principal, Role

ID_LENGTH_LIMIT = 128

router = APIRouter(prefix="/api/v1", tags=["authority"])
GrantId = Annotated[str, Path(max_length=ID_LENGTH_LIMIT)]
Ended = Annotated[bool, Query(alias="all", description="Also those that are over.")]


class _OfAccounts(msgspec.Struct):
    """What scope needs of a grant; the engine reads all of it."""

    account_ids: tuple[str, ...] = ()
    account_id: str = ""


@router.get("/sessions")
async def list_sessions(
    principal: CurrentPrincipal, services: CurrentServices, include_ended: Ended = False
) -> list[dict[str, Any]]:
    """Sessions for your accounts, with what is used of their limits."""
    views = await services.engine.sessions(include_ended=include_ended)
    return [plain(view) for view in views if set(view.account_ids) <= set(principal.account_ids)]


@router.post("/sessions", status_code=201)
async def open_session(
    body: SignedDocumentRequest, principal: CurrentPrincipal, services: CurrentServices
) -> dict[str, Any]:
    """Sign a session in: a `veloz.session-grant/1` and the signature of its user's enrolled key."""
    require_role(principal, Role.TRADER, Role.APPROVER)
    document, signatures = document_of(body)
    _require_scope(principal, document)
    if len(signatures) != 1:
        raise refuse(ReasonCode.REQUEST_INVALID, "A session is signed in by one key, that of its user.")
    ((key_id, signature),) = signatures
    _raise(await services.engine.open_session(document, key_id, signature))
    return {"opened": True}


@router.post("/sessions/{session_id}/close")
async def close_session(session_id: GrantId, principal: ReducingPrincipal, services: CurrentServices) -> dict[str, Any]:
    """End a session: nothing more can be asked for under it. A safety command."""
    require_role(principal, Role.TRADER, Role.APPROVER)
    known = {view.session_id: view.account_ids for view in await services.engine.sessions(include_ended=True)}
    if session_id not in known or not set(known[session_id]) & set(principal.account_ids):
        raise refuse(ReasonCode.RESOURCE_NOT_FOUND, f"There is no session {session_id} for your accounts.")
    _raise(await services.engine.close_session(session_id, principal.user_id))
    return {"session_id": session_id, "closed": True}


@router.get("/mandates")
async def list_mandates(
    principal: CurrentPrincipal, services: CurrentServices, include_ended: Ended = False
) -> list[dict[str, Any]]:
    """What strategies may do in your accounts, with what is used of it."""
    views = await services.engine.mandates(include_ended=include_ended)
    return [plain(view) for view in views if view.account_id in principal.account_ids]


@router.post("/mandates", status_code=201)
async def install_mandate(
    body: SignedDocumentRequest, principal: CurrentPrincipal, services: CurrentServices
) -> dict[str, Any]:
    """Put a `veloz.mandate/1` in force that its approvers have signed."""
    require_role(principal, Role.TRADER, Role.APPROVER)
    document, signatures = document_of(body)
    _require_scope(principal, document)
    _raise(await services.engine.install_mandate(document, signatures))
    return {"installed": True}


@router.post("/mandates/{mandate_id}/revoke")
async def revoke_mandate(
    mandate_id: GrantId, principal: ReducingPrincipal, services: CurrentServices
) -> dict[str, Any]:
    """Take a strategy's mandate away. A safety command."""
    require_role(principal, Role.TRADER, Role.APPROVER)
    known = {view.mandate_id: view.account_id for view in await services.engine.mandates(include_ended=True)}
    if known.get(mandate_id) not in principal.account_ids:
        raise refuse(ReasonCode.RESOURCE_NOT_FOUND, f"There is no mandate {mandate_id} in your accounts.")
    _raise(await services.engine.revoke_mandate(mandate_id, principal.user_id))
    return {"mandate_id": mandate_id, "revoked": True}


@router.get("/roster")
async def get_roster(_principal: CurrentPrincipal, services: CurrentServices) -> dict[str, Any]:
    """The keys that the engine knows, and what each may sign."""
    roster: dict[str, Any] = plain(await services.engine.roster())
    return roster


@router.post("/administration")
async def administer(
    body: SignedDocumentRequest, _principal: CurrentPrincipal, services: CurrentServices
) -> dict[str, Any]:
    """Carry out a `veloz.administration/1` (rules, thaws, revocations, rosters) that administrators of the roster or
    the root key have signed. Their signatures decide, not who hands it in."""
    document, signatures = document_of(body)
    _raise(await services.engine.administer(document, signatures))
    return {"done": True}


def _require_scope(principal: Principal, document: bytes) -> None:
    try:
        scope = msgspec.json.decode(document, type=_OfAccounts)
    except UNREADABLE as error:
        raise refuse(
            ReasonCode.AUTHORITY_DOCUMENT_MALFORMED, f"The document can't be read: {str(error)[:200]}."
        ) from error
    for account_id in scope.account_ids or (scope.account_id,):
        require_account(principal, account_id)


def _raise(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise RefusalError(refusal)
