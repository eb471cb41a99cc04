"""What accounts hold, what they are exposed to, and what would become of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import CurrentPrincipal, CurrentServices, require_account
from api.orders.repository import OrdersRepository
from core.runtime.messages import plain
from core.types.orders import Side

ID_LENGTH_LIMIT = 64
DIGITS_LIMIT = 40
MOVE_LIMIT_BPS = 10_000

router = APIRouter(prefix="/api/v1", tags=["portfolio"])
Amount = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]*)(\.[0-9]+)?$", max_length=DIGITS_LIMIT)]


class WhatIfRequest(BaseModel):
    """An order (side and quantity, with price a limit order), a move of the symbol's price, or both. Amounts are
    decimals as text."""

    model_config = ConfigDict(extra="forbid")
    account_id: str = Field(min_length=1, max_length=ID_LENGTH_LIMIT)
    symbol: str = Field(min_length=1, max_length=ID_LENGTH_LIMIT)
    side: Literal["BUY", "SELL"] | None = None
    quantity: Amount | None = None
    price: Amount | None = None
    price_move_bps: int | None = Field(default=None, gt=-MOVE_LIMIT_BPS, le=MOVE_LIMIT_BPS)


@router.get("/positions")
async def list_positions(principal: CurrentPrincipal, services: CurrentServices) -> dict[str, Any]:
    """Positions in your accounts: as the engine has them now, and by strategy as the ledger has projected them."""
    positions = [
        plain(view) for account_id in principal.account_ids for view in await services.engine.positions(account_id)
    ]
    by_strategy = await OrdersRepository(services.transactions).strategy_positions(principal.account_ids)
    return {"positions": positions, "by_strategy": by_strategy}


@router.get("/exposure")
async def get_exposure(
    principal: CurrentPrincipal,
    services: CurrentServices,
    account_id: Annotated[str | None, Query(max_length=ID_LENGTH_LIMIT, description="By default all of yours.")] = None,
) -> list[dict[str, Any]]:
    """Equity, gross and net exposure, leverage, margin and balances of accounts, in the reporting currency."""
    if account_id is not None:
        require_account(principal, account_id)
    wanted = principal.account_ids if account_id is None else (account_id,)
    return [plain(await services.engine.exposure(one)) for one in wanted]


@router.post("/what-if")
async def what_if(body: WhatIfRequest, principal: CurrentPrincipal, services: CurrentServices) -> dict[str, Any]:
    """An account as it is and as it would be, with what risk would say of the order at this moment. Sends nothing."""
    require_account(principal, body.account_id)
    view = await services.engine.what_if(
        body.account_id,
        body.symbol,
        side=None if body.side is None else Side(body.side),
        quantity=None if body.quantity is None else Decimal(body.quantity),
        price=None if body.price is None else Decimal(body.price),
        price_move_bps=body.price_move_bps,
    )
    imagined: dict[str, Any] = plain(view)
    return imagined
