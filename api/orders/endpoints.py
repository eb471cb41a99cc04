"""Orders: asked for, amended, cancelled, looked at."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from api.dependencies import CurrentPrincipal, CurrentServices, ReducingPrincipal, require_account, require_role
from api.orders.repository import ORDERS_SHOWN_LIMIT, OrdersRepository
from api.orders.schemas import CancelAllRequest, TicketRequest
from api.problems import problem
from api.signed import ticket_of
from core.runtime.client import SignedRequest
from core.runtime.messages import plain
from core.runtime.tickets import AmendTicket, GroupTicket, OrderTicket, parse_ticket
from core.types.codes import ReasonCode, RefusalError, refuse
from core.types.ids import SystemIdSource, new_trace
from core.types.views import ExecutionOutcomeView
from tools.contracts import Principal, Role

ID_LENGTH_LIMIT = 64
_ids = SystemIdSource()

router = APIRouter(prefix="/api/v1", tags=["orders"])
OrderId = Annotated[str, Path(max_length=ID_LENGTH_LIMIT)]


@router.get("/orders")
async def list_orders(
    principal: CurrentPrincipal,
    services: CurrentServices,
    account_id: Annotated[str | None, Query(max_length=ID_LENGTH_LIMIT)] = None,
    symbol: Annotated[str | None, Query(max_length=ID_LENGTH_LIMIT)] = None,
    only_open: Annotated[bool, Query(alias="open", description="Only those that are not over.")] = False,
    limit: Annotated[int, Query(ge=1, le=ORDERS_SHOWN_LIMIT)] = 50,
) -> list[dict[str, Any]]:
    """The newest orders in your accounts, with all terms and by what authority they are there."""
    repository = OrdersRepository(services.transactions)
    return await repository.listed(
        principal.account_ids, account_id=account_id, symbol=symbol, only_open=only_open, limit=limit
    )


@router.get("/orders/{client_order_id}")
async def get_order(client_order_id: OrderId, principal: CurrentPrincipal, services: CurrentServices) -> dict[str, Any]:
    """One order with its risk checks, the market they were made on, its authority and its fills."""
    return await _order(client_order_id, principal, services)


@router.post("/orders", status_code=202, response_model=None)
async def place_order(
    body: TicketRequest, principal: CurrentPrincipal, services: CurrentServices
) -> dict[str, Any] | Response:
    """Place an order under a session: its key has signed the ticket's exact bytes, and the engine checks that.

    Asking again with the same ticket places nothing new. A refusal by risk is recorded, with its checks.
    """
    require_role(principal, Role.TRADER, Role.APPROVER)
    signed, signature = ticket_of(body)
    require_account(principal, parse_ticket(signed, OrderTicket).account_id)
    trace = new_trace(_ids)
    outcome = await services.engine.submit_order(signed, SignedRequest(signature, session_id=body.session_id), trace)
    return _placed(outcome, trace.trace_id)


@router.post("/order-groups", status_code=202, response_model=None)
async def place_group(
    body: TicketRequest, principal: CurrentPrincipal, services: CurrentServices
) -> dict[str, Any] | Response:
    """Place an OCO or a bracket under a session: the ticket is a `veloz.group-ticket/1`. The answer names its first
    order."""
    require_role(principal, Role.TRADER, Role.APPROVER)
    signed, signature = ticket_of(body)
    for order in parse_ticket(signed, GroupTicket).orders:
        require_account(principal, order.account_id)
    trace = new_trace(_ids)
    outcome = await services.engine.submit_group(signed, SignedRequest(signature, session_id=body.session_id), trace)
    return _placed(outcome, trace.trace_id)


@router.post("/orders/cancel-all", status_code=202)
async def cancel_all(body: CancelAllRequest, principal: ReducingPrincipal, services: CurrentServices) -> dict[str, Any]:
    """Ask for the cancel of every open order of an account, or of one of its symbols. A safety command."""
    require_role(principal, Role.TRADER, Role.APPROVER)
    require_account(principal, body.account_id)
    trace = new_trace(_ids)
    requested = await services.engine.cancel_all(body.account_id, body.symbol, principal.user_id, trace)
    return {
        "account_id": body.account_id,
        "symbol": body.symbol,
        "requested": requested,
        "trace_id": trace.trace_id,
    }


@router.post("/orders/{client_order_id}/amend", status_code=202)
async def amend_order(
    client_order_id: OrderId, body: TicketRequest, principal: CurrentPrincipal, services: CurrentServices
) -> dict[str, Any]:
    """Change a resting order's total quantity or limit price, under a session."""
    require_role(principal, Role.TRADER, Role.APPROVER)
    signed, signature = ticket_of(body)
    if parse_ticket(signed, AmendTicket).client_order_id != client_order_id:
        raise refuse(ReasonCode.REQUEST_INVALID, "The ticket is about another order than the address.")
    await _in_scope(client_order_id, principal, services)
    trace = new_trace(_ids)
    refusal = await services.engine.amend_order(signed, SignedRequest(signature, session_id=body.session_id), trace)
    if refusal is not None:
        raise RefusalError(refusal)
    return {"client_order_id": client_order_id, "requested": True, "trace_id": trace.trace_id}


@router.post("/orders/{client_order_id}/cancel", status_code=202)
async def cancel_order(
    client_order_id: OrderId, principal: ReducingPrincipal, services: CurrentServices
) -> dict[str, Any]:
    """Ask for a cancel. A safety command: it needs no approval, and of the service only the engine."""
    require_role(principal, Role.TRADER, Role.APPROVER)
    await _in_scope(client_order_id, principal, services)
    refusal = await services.engine.cancel_order(client_order_id, principal.user_id)
    if refusal is not None:
        raise RefusalError(refusal)
    return {"client_order_id": client_order_id, "requested": True}


def _placed(outcome: ExecutionOutcomeView, trace_id: str) -> dict[str, Any] | Response:
    if outcome.refusal is not None:
        return problem(outcome.refusal, checks=plain(list(outcome.checks)), trace_id=trace_id)
    answer: dict[str, Any] = plain(outcome)
    return answer | {"trace_id": trace_id}


async def _in_scope(client_order_id: str, principal: Principal, services: Any) -> None:
    """Asked of the engine, which knows an order before SQL does. Raises RESOURCE_NOT_FOUND."""
    try:
        account_id = (await services.engine.order(client_order_id)).account_id
    except RefusalError as error:
        if error.refusal.code is not ReasonCode.ORDER_UNKNOWN:
            raise
        await _order(client_order_id, principal, services)
        return
    if account_id not in principal.account_ids:
        raise refuse(ReasonCode.RESOURCE_NOT_FOUND, f"There is no order {client_order_id} in your accounts.")


async def _order(client_order_id: str, principal: Principal, services: Any) -> dict[str, Any]:
    order = await OrdersRepository(services.transactions).get(principal.account_ids, client_order_id)
    if order is None:
        raise refuse(ReasonCode.RESOURCE_NOT_FOUND, f"There is no order {client_order_id} in your accounts.")
    return order
