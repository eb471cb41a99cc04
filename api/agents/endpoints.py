"""Agents: programs that act for you, within less than you may do yourself."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from api.agents.schemas import (
    ID_LENGTH_LIMIT,
    AgentRequest,
    AgentResponse,
    AgentTokenRequest,
    AgentTokenResponse,
    NewAgentResponse,
)
from api.dependencies import CurrentPrincipal, CurrentServices

router = APIRouter(prefix="/api/v1/agents", tags=["agents"])
AgentId = Annotated[str, Path(max_length=ID_LENGTH_LIMIT)]


@router.post("", status_code=201)
async def create_agent(body: AgentRequest, principal: CurrentPrincipal, services: CurrentServices) -> NewAgentResponse:
    """Make an agent of your own. Its secret is in this answer and nowhere else."""
    return await services.agents.create(principal, body)


@router.get("")
async def list_agents(principal: CurrentPrincipal, services: CurrentServices) -> list[AgentResponse]:
    """Your agents; for compliance those of the firm."""
    return await services.agents.listed(principal)


@router.post("/token")
async def agent_token(body: AgentTokenRequest, services: CurrentServices) -> AgentTokenResponse:
    """Swap an agent's id and secret for an access token of five minutes."""
    return await services.agents.token_for_secret(body.agent_id, body.secret)


@router.post("/{agent_id}/token")
async def owner_token(agent_id: AgentId, principal: CurrentPrincipal, services: CurrentServices) -> AgentTokenResponse:
    """An access token for an agent of yours, on your own login."""
    return await services.agents.token_for_owner(principal, agent_id)


@router.post("/{agent_id}/revoke")
async def revoke_agent(agent_id: AgentId, principal: CurrentPrincipal, services: CurrentServices) -> AgentResponse:
    """End an agent, now: its tokens hold no longer. Its owner may, and compliance."""
    return await services.agents.revoke(principal, agent_id)
