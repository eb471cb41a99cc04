"""The risk rules, what an order met of them, and the kill switch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import CurrentPrincipal, CurrentServices, ReducingPrincipal, require_account, require_role
from core.runtime.messages import plain
from core.types.codes import ReasonCode, RefusalError, refuse
from core.types.ids import SystemIdSource, new_trace
from tools.contracts import Role

ID_LENGTH_LIMIT = 64
REASON_LENGTH_LIMIT = 512
DOCUMENT_LENGTH_LIMIT = 1_000_000

router = APIRouter(prefix="/api/v1", tags=["risk"])
_ids = SystemIdSource()


class KillSwitchRequest(BaseModel):
    """account_id narrows it to one account; without it the whole engine stops."""

    model_config = ConfigDict(extra="forbid")
    state: Literal["HALTED", "CANCEL_ONLY", "REDUCE_ONLY"] = "HALTED"
    reason: str = Field(min_length=1, max_length=REASON_LENGTH_LIMIT)
    account_id: str | None = Field(default=None, min_length=1, max_length=ID_LENGTH_LIMIT)


class RulesDocument(BaseModel):
    """The whole risk.toml."""

    model_config = ConfigDict(extra="forbid")
    document: str = Field(min_length=1, max_length=DOCUMENT_LENGTH_LIMIT)


class ReconcileRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    dry_run: bool = True


@router.get("/risk/rules")
async def get_rules(_principal: CurrentPrincipal, services: CurrentServices) -> dict[str, Any]:
    """The rules in force, and the versions that the engine can go back to."""
    rules: dict[str, Any] = plain(await services.engine.rules())
    return rules


@router.get("/risk/state")
async def get_state(
    account_id: Annotated[str, Query(max_length=ID_LENGTH_LIMIT)],
    principal: CurrentPrincipal,
    services: CurrentServices,
) -> dict[str, Any]:
    """The kill switch, the freeze, the dead man's timer and the limits of an account."""
    require_account(principal, account_id)
    state: dict[str, Any] = plain(await services.engine.risk_state(account_id))
    return state


@router.post("/risk/rules/check")
async def check_rules(body: RulesDocument, _principal: CurrentPrincipal, services: CurrentServices) -> dict[str, Any]:
    """Whether the engine would take these rules, and if not the line and the cure. Changes nothing; putting rules in
    force takes a document signed by an administrator, at /api/v1/administration."""
    refusal = await services.engine.check_rules(body.document)
    if refusal is not None:
        raise RefusalError(refusal)
    return {"valid": True}


@router.post("/reconcile")
async def reconcile(body: ReconcileRequest, principal: CurrentPrincipal, services: CurrentServices) -> dict[str, Any]:
    """Compare the engine's orders, fills and balances with the venue's; unless it is a dry run, apply what follows."""
    require_role(principal, Role.TRADER, Role.APPROVER)
    view = await services.engine.reconcile(body.dry_run, principal.user_id)
    require_account(principal, view.account_id)
    found: dict[str, Any] = plain(view)
    return found | {"dry_run": body.dry_run}


@router.post("/dead-mans-timer")
async def renew_dead_mans_timer(principal: CurrentPrincipal, services: CurrentServices) -> dict[str, Any]:
    """Somebody is there: the engine halts when nobody says so for as long as the rules allow."""
    require_role(principal, Role.TRADER, Role.APPROVER)
    refusal = await services.engine.renew_dead_mans_timer(principal.user_id)
    if refusal is not None:
        raise RefusalError(refusal)
    return {"renewed": True}


@router.get("/risk/explain/{client_order_id}")
async def explain(
    client_order_id: Annotated[str, Path(max_length=ID_LENGTH_LIMIT)],
    principal: CurrentPrincipal,
    services: CurrentServices,
) -> dict[str, Any]:
    """Which rules an order met when it was decided on, and how near each limit was."""
    view = await services.engine.explain_risk(client_order_id)
    if view.account_id not in principal.account_ids:
        raise refuse(ReasonCode.RESOURCE_NOT_FOUND, f"There is no order {client_order_id} in your accounts.")
    explained: dict[str, Any] = plain(view)
    return explained


@router.post("/kill-switch")
async def set_kill_switch(
    body: KillSwitchRequest, principal: ReducingPrincipal, services: CurrentServices
) -> dict[str, Any]:
    """Tighten the kill switch, now. Loosening takes a document signed by an administrator, on the engine's host."""
    require_role(principal, Role.TRADER, Role.APPROVER)
    if body.account_id is not None and body.account_id not in principal.account_ids:
        raise refuse(ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE, f"Account {body.account_id} isn't one of yours.")
    trace = new_trace(_ids)
    status = await services.engine.set_kill_switch(
        body.state, principal.user_id, body.reason, trace, body.account_id or ""
    )
    return {
        "engine_id": status.engine_id,
        "state": body.state,
        "account_id": body.account_id,
        "kill_switch": status.kill_switch,
        "trace_id": trace.trace_id,
    }
