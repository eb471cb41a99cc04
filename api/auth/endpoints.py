"""Login endpoints."""

from __future__ import annotations

from fastapi import APIRouter

from api.auth.schemas import LoginRequest, MeResponse, RefreshRequest, TokenResponse
from api.dependencies import Caller, CurrentServices

router = APIRouter(prefix="/api/v1", tags=["auth"])


@router.post("/auth/login")
async def login(body: LoginRequest, services: CurrentServices) -> TokenResponse:
    """Swap a user name and password for a short access token and a refresh token."""
    return await services.auth.login(body.username, body.password)


@router.post("/auth/refresh")
async def refresh(body: RefreshRequest, services: CurrentServices) -> TokenResponse:
    """Swap a refresh token for a new pair. Each works once; using one twice revokes all of its session."""
    return await services.auth.refresh(body.refresh_token)


@router.post("/auth/logout", status_code=204)
async def logout(body: RefreshRequest, services: CurrentServices) -> None:
    """End the session that the refresh token belongs to."""
    await services.auth.logout(body.refresh_token)


@router.get("/me")
async def me(principal: Caller) -> MeResponse:
    """Who the access token speaks for."""
    return MeResponse(
        user_id=principal.user_id,
        username=principal.username,
        role=principal.role.value,
        account_ids=list(principal.account_ids),
        kind=principal.kind,
        on_behalf_of=principal.on_behalf_of,
    )
