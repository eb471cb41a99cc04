"""Suggestions: what waits for a human, and the human's answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, ConfigDict, Field
from sse_starlette import EventSourceResponse
from starlette.responses import Response

from api.dependencies import CurrentPrincipal, CurrentServices
from api.problems import problem
from api.suggestions.watch import SuggestionState
from core.types.clock import format_utc_us
from core.types.codes import ReasonCode, RefusalError, refuse
from tools.approvals import ApprovalMethod
from tools.contracts import Principal
from tools.suggestions import Suggestion, SuggestionStatus

if TYPE_CHECKING:
    from api.services import Services

SUGGESTIONS_SHOWN_LIMIT = 200
KEEPALIVE_S = 15
SEND_TIMEOUT_S = 30
EVENT_ID_LENGTH_LIMIT = 256
SIGNATURE_HEX_LENGTH_LIMIT = 256
REASON_LENGTH_LIMIT = 1_000
VALUE_LENGTH_LIMIT = 64
VERSION_LIMIT = (1 << 31) - 1

router = APIRouter(prefix="/api/v1/suggestions", tags=["suggestions"])


class ApproveRequest(BaseModel):
    """signature is Ed25519 over `veloz/approval/v1` NUL and the digest's 32 bytes, in hex, by the key key_id. Or
    passkey is what `navigator.credentials.get()` gave, as JSON."""

    model_config = ConfigDict(extra="forbid")
    version: int = Field(ge=1)
    digest: str = Field(max_length=128)
    key_id: str = Field(default="", max_length=64)
    signature: str = Field(default="", max_length=SIGNATURE_HEX_LENGTH_LIMIT)
    passkey: dict[str, Any] | None = None


class RejectRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: int = Field(ge=1)
    reason: str = Field(min_length=1, max_length=REASON_LENGTH_LIMIT)


class EditRequest(BaseModel):
    """changes are terms of the proposal by name, each as text; all others stay as they are."""

    model_config = ConfigDict(extra="forbid")
    version: int = Field(ge=1)
    changes: dict[str, Annotated[str, Field(max_length=VALUE_LENGTH_LIMIT)]] = Field(min_length=1, max_length=16)
    reason: str = Field(default="", max_length=REASON_LENGTH_LIMIT)


class WithdrawRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: int = Field(ge=1)
    reason: str = Field(default="", max_length=REASON_LENGTH_LIMIT)


@router.get("")
async def list_suggestions(
    principal: CurrentPrincipal,
    services: CurrentServices,
    status: SuggestionStatus | None = None,
    before: Annotated[str | None, Query(max_length=26, description="Show those older than this id.")] = None,
    limit: Annotated[int, Query(ge=1, le=SUGGESTIONS_SHOWN_LIMIT)] = 50,
) -> list[dict[str, Any]]:
    """The latest suggestions in your accounts."""
    rows = await services.suggestions.list(principal.account_ids, status=status, before_id=before, limit=limit)
    return [_shown(row) for row in rows]


@router.get("/{suggestion_id}")
async def get_suggestion(
    suggestion_id: str,
    principal: CurrentPrincipal,
    services: CurrentServices,
    version: Annotated[int | None, Query(ge=1, le=VERSION_LIMIT, description="The newest when none is given.")] = None,
) -> dict[str, Any]:
    """One suggestion with exactly the fields that its digest covers. `proposal_text` is what was digested, to the byte.
    An approver's first look is recorded."""
    return _shown(await services.approvals.view(principal, suggestion_id, version))


@router.get("/{suggestion_id}/status")
async def get_status(suggestion_id: str, principal: CurrentPrincipal, services: CurrentServices) -> dict[str, Any]:
    """What has become of it, without its content."""
    state: dict[str, Any] = msgspec.to_builtins(await services.watch.state(principal.account_ids, suggestion_id))
    return state


@router.get("/{suggestion_id}/events", response_class=EventSourceResponse)
async def follow(
    suggestion_id: str,
    principal: CurrentPrincipal,
    services: CurrentServices,
    last_event_id: Annotated[str | None, Header(max_length=EVENT_ID_LENGTH_LIMIT)] = None,
) -> Response:
    """What becomes of it, as events: its status as it is now, then each change, until nothing more can happen. After
    the one named by Last-Event-ID only what is new; 204 when that was the last."""
    state = await services.watch.state(principal.account_ids, suggestion_id)
    if state.is_settled and last_event_id == _event_id(state):
        return Response(status_code=204)
    services.watch.check_room()
    return EventSourceResponse(
        _changes(services, principal, state, last_event_id),
        sep="\n",
        ping=KEEPALIVE_S,
        send_timeout=SEND_TIMEOUT_S,
        headers={"X-Accel-Buffering": "no"},
    )


async def _changes(
    services: Services, principal: Principal, state: SuggestionState, last_event_id: str | None
) -> AsyncIterator[dict[str, str]]:
    row = await services.suggestions.get(principal.account_ids, state.id)
    assert row is not None, "its state was there a moment ago, and rows stay"
    try:
        async with services.watch.waiting(row.account_id, state):
            if last_event_id != _event_id(state):
                yield _event(state)
            while not state.is_settled:
                newer = await services.watch.next(state)
                if row.account_id not in (await services.users.cut(principal)).account_ids:
                    return
                if newer is not None:
                    state = newer
                    yield _event(state)
    except RefusalError as error:
        # The status line is gone: the stream itself says what failed, without an id, so that a resume asks again.
        problem = {"code": error.refusal.code.value, "message": error.refusal.message}
        yield {"event": "error", "data": msgspec.json.encode(problem).decode()}


def _event(state: SuggestionState) -> dict[str, str]:
    return {"id": _event_id(state), "event": "suggestion", "data": msgspec.json.encode(state).decode()}


def _event_id(state: SuggestionState) -> str:
    return f"{state.id}:{state.mark}"


@router.post("/{suggestion_id}/approve", response_model=None)
async def approve(
    suggestion_id: str, body: ApproveRequest, principal: CurrentPrincipal, services: CurrentServices
) -> dict[str, Any] | Response:
    """Hand a signed approval to the engine. It is consumed once; a refusal by risk at send consumes it too.

    202 when it is one of several that are due: it is kept, and `approvals_given` of `approvals_due` are there.
    """
    key_id, signature = body.key_id, _signature(body.signature)
    method: ApprovalMethod = "ed25519"
    if body.passkey is not None:
        key_id, signature = await services.passkeys.signature(principal, body.passkey)
        method = "webauthn"
    outcome = await services.approvals.approve(
        principal, suggestion_id, body.version, body.digest, key_id, signature, method=method
    )
    if outcome.refusal is not None:
        status = outcome.status.value if outcome.status else None
        return problem(
            outcome.refusal,
            consumed=outcome.consumed,
            suggestion_status=status,
            newer_version=outcome.newer_version,
            trace_id=outcome.trace_id,
        )
    if not outcome.consumed:
        return Response(msgspec.json.encode(outcome), status_code=202, media_type="application/json")
    approved: dict[str, Any] = msgspec.to_builtins(outcome)
    return approved


@router.post("/{suggestion_id}/reject")
async def reject(
    suggestion_id: str, body: RejectRequest, principal: CurrentPrincipal, services: CurrentServices
) -> dict[str, Any]:
    """Decline a suggestion, with a reason."""
    return _shown(await services.approvals.reject(principal, suggestion_id, body.version, body.reason))


@router.post("/{suggestion_id}/edit")
async def edit(
    suggestion_id: str, body: EditRequest, principal: CurrentPrincipal, services: CurrentServices
) -> dict[str, Any]:
    """Change its terms: a new version with its own digest, checked by risk now. Signatures given so far are void."""
    return _shown(
        await services.approvals.revisions.edit(principal, suggestion_id, body.version, body.changes, body.reason)
    )


@router.post("/{suggestion_id}/withdraw")
async def withdraw(
    suggestion_id: str, body: WithdrawRequest, principal: CurrentPrincipal, services: CurrentServices
) -> dict[str, Any]:
    """Take back what you asked for."""
    return _shown(await services.approvals.revisions.withdraw(principal, suggestion_id, body.version, body.reason))


def _shown(row: Suggestion) -> dict[str, Any]:
    return {
        "id": row.suggestion_id,
        "version": row.version,
        "account_id": row.account_id,
        "asker_id": row.asker_id,
        "run_id": row.run_id,
        "trace_id": row.trace_id,
        "status": row.status.value,
        "proposal": msgspec.to_builtins(row.order),
        "proposal_text": row.proposal.decode(),
        "digest": row.digest_hex,
        "pre_trade": row.pre_trade,
        "rationale": row.rationale,
        "expires_at": format_utc_us(row.expires_at_ns),
        "created_at": format_utc_us(row.created_at_ns),
        "edited_by": row.edited_by or None,
        "approvals": {
            "due": row.approvals_due,
            "given": [
                {
                    "user_id": given.user_id,
                    "key_id": given.key_id,
                    "method": given.method,
                    "viewed_at": _moment(given.viewed_at_ns),
                    "signed_at": _moment(given.signed_at_ns),
                }
                for given in row.signatures
            ],
        },
        "views": {user_id: _moment(at_ns) for user_id, at_ns in row.views.items()},
        "viewed_at": _moment(row.viewed_at_ns),
        "decided_at": _moment(row.decided_at_ns),
        "decided_by": row.decided_by,
        "decision_reason": row.decision_reason,
        "refusal_code": row.refusal_code,
        "client_order_id": row.client_order_id,
        "legs": [msgspec.to_builtins(leg) for leg in row.legs],
    }


def _moment(timestamp_ns: int | None) -> str | None:
    return None if timestamp_ns is None else format_utc_us(timestamp_ns)


def _signature(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise refuse(ReasonCode.REQUEST_INVALID, "signature must be hex.") from error
