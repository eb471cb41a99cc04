"""What endpoints are given: the services, and who is asking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from core.types.codes import ReasonCode, refuse
from tools.contracts import Principal, Role

if TYPE_CHECKING:
    from api.services import Services

_bearer = HTTPBearer(auto_error=False, description="The access token from /api/v1/auth/login, or an agent's.")


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


CurrentServices = Annotated["Services", Depends(_services)]


async def _principal(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    if credentials is None:
        raise refuse(ReasonCode.AUTH_TOKEN_INVALID, "This address needs an access token: log in at /api/v1/auth/login.")
    return await _services(request).identity.of_token(credentials.credentials)


Caller = Annotated[Principal, Depends(_principal)]
"""Whoever the access token speaks for, an agent too: for routes that reach nothing but the tool gateway."""


async def _human(principal: Caller) -> Principal:
    if principal.kind != "human":
        raise refuse(
            ReasonCode.AUTH_ROLE_NOT_PERMITTED,
            "An agent may call its tools and nothing else. Its owner has to do this.",
            limit="human",
            actual=principal.kind,
        )
    return principal


CurrentPrincipal = Annotated[Principal, Depends(_human)]


async def _reducing(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    if credentials is None:
        return await _principal(request, credentials)
    return await _human(await _services(request).identity.of_token_to_reduce(credentials.credentials))


ReducingPrincipal = Annotated[Principal, Depends(_reducing)]
"""A human, for routes that can only reduce: a stop mustn't wait for a database that is away."""


def require_role(principal: Principal, *roles: Role) -> None:
    """Raises AUTH_ROLE_NOT_PERMITTED when the principal has none of the roles."""
    if principal.role not in roles:
        needed = " or ".join(role.value for role in roles)
        raise refuse(
            ReasonCode.AUTH_ROLE_NOT_PERMITTED,
            f"The role {principal.role.value} may not do this; it takes {needed}.",
            limit=needed,
            actual=principal.role.value,
        )


def require_account(principal: Principal, account_id: str) -> None:
    """Raises AUTH_ACCOUNT_OUT_OF_SCOPE for an account that isn't one of the principal's."""
    if account_id not in principal.account_ids:
        raise refuse(ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE, f"Account {account_id[:64]} isn't one of yours.")
