"""What is used of today's budgets."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from api.dependencies import CurrentPrincipal, CurrentServices
from tools.contracts import Role

router = APIRouter(prefix="/api/v1/budget", tags=["policy"])


@router.get("")
async def get_budget(principal: CurrentPrincipal, services: CurrentServices) -> dict[str, Any]:
    """Your own use of today's budgets and everybody's; compliance sees each user's. `held` is set aside for what is
    under way, and for what processes have leased; `limit` is null where the policy says unlimited."""
    return await services.budget_use.today(principal, everyone=principal.role is Role.COMPLIANCE)
