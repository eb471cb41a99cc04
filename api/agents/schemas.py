"""Bodies of the agent endpoints."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.agents.repository import AgentRow
from core.types.clock import format_utc_us

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,31}$"
ID_PATTERN = r"^[A-Za-z0-9-]{1,64}$"
ID_LENGTH_LIMIT = 64
TOOLS_LIMIT = 200
ACCOUNTS_LIMIT = 100
MODEL_PATTERN = r"^[!-~]{1,80}$"
SECRET_LENGTH_LIMIT = 256
DAYS_LIMIT = 365


class AgentRequest(BaseModel):
    """Without `tools` the agent gets all that look and compute, and none that suggests: those are named one by one.
    Without `account_ids` it gets all of your accounts of now. `provider` and `model` say what it runs on: the policy's
    `[[model]]` sections go by them, and records show them. An agent without them is `unnamed` there."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(pattern=NAME_PATTERN)
    account_ids: list[str] | None = Field(default=None, max_length=ACCOUNTS_LIMIT)
    tools: list[str] | None = Field(default=None, min_length=1, max_length=TOOLS_LIMIT)
    valid_days: int = Field(default=90, ge=1, le=DAYS_LIMIT)
    provider: str = Field(default="", pattern=f"^$|{MODEL_PATTERN}")
    model: str = Field(default="", pattern=f"^$|{MODEL_PATTERN}")

    @model_validator(mode="after")
    def _a_model_has_a_provider(self) -> Self:
        if bool(self.provider) != bool(self.model):
            raise ValueError("provider and model go together: give both or neither")
        return self


class AgentResponse(BaseModel):
    """An agent: its own bounds, within which its owner's role and accounts decide again at each call."""

    agent_id: str
    name: str
    owner_id: str
    account_ids: list[str]
    tools: list[str]
    provider: str
    model: str
    state: str
    created_at: str
    expires_at: str
    last_token_at: str | None

    @classmethod
    def of(cls, row: AgentRow) -> AgentResponse:
        return cls(
            agent_id=row.agent_id,
            name=row.name,
            owner_id=row.owner.user_id,
            account_ids=list(row.account_ids),
            tools=list(row.tools),
            provider=row.provider,
            model=row.model,
            state="revoked" if row.revoked_at_ns is not None else "expired" if row.is_expired else "active",
            created_at=format_utc_us(row.created_at_ns),
            expires_at=format_utc_us(row.expires_at_ns),
            last_token_at=None if row.last_token_at_ns is None else format_utc_us(row.last_token_at_ns),
        )


class NewAgentResponse(AgentResponse):
    """`secret` is shown this once; only its hash is kept."""

    secret: str


class AgentTokenRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    agent_id: str = Field(pattern=ID_PATTERN)
    secret: str = Field(min_length=1, max_length=SECRET_LENGTH_LIMIT)


class AgentTokenResponse(BaseModel):
    """expires_in is in seconds. There is no refresh token: the secret gets the next one."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 (the scheme's name)
    expires_in: int
