"""Orders and positions, and what cancels them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from api.dependencies import CurrentPrincipal, CurrentServices, require_role
from api.orders.repository import ORDERS_SHOWN_LIMIT, OrdersRepository
from core.runtime.messages import plain
from core.types.codes import ReasonCode, RefusalError, refuse
from tools.contracts import Principal, Role

ID_LENGTH_LIMIT = 64

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


@router.post("/orders/{client_order_id}/cancel", status_code=202)
async def cancel_order(
    client_order_id: OrderId, principal: CurrentPrincipal, services: CurrentServices
) -> dict[str, Any]:
    """Ask for a cancel. A safety command: it needs no approval."""
    require_role(principal, Role.TRADER, Role.APPROVER)
    await _order(client_order_id, principal, services)
    refusal = await services.engine.cancel_order(client_order_id, principal.user_id)
    if refusal is not None:
        raise RefusalError(refusal)
    return {"client_order_id": client_order_id, "requested": True}


@router.get("/positions")
async def list_positions(principal: CurrentPrincipal, services: CurrentServices) -> dict[str, Any]:
    """Positions in your accounts: as the engine has them now, and by strategy as the ledger has projected them."""
    positions = [
        plain(view) for account_id in principal.account_ids for view in await services.engine.positions(account_id)
    ]
    by_strategy = await OrdersRepository(services.transactions).strategy_positions(principal.account_ids)
    return {"positions": positions, "by_strategy": by_strategy}


async def _order(client_order_id: str, principal: Principal, services: Any) -> dict[str, Any]:
    order = await OrdersRepository(services.transactions).get(principal.account_ids, client_order_id)
    if order is None:
        raise refuse(ReasonCode.RESOURCE_NOT_FOUND, f"There is no order {client_order_id} in your accounts.")
    return order
