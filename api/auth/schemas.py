"""Bodies of the login endpoints."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

CREDENTIAL_LENGTH_LIMIT = 256


class LoginRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    username: str = Field(min_length=1, max_length=CREDENTIAL_LENGTH_LIMIT)
    password: str = Field(min_length=1, max_length=CREDENTIAL_LENGTH_LIMIT)


class RefreshRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    refresh_token: str = Field(min_length=1, max_length=CREDENTIAL_LENGTH_LIMIT)


class TokenResponse(BaseModel):
    """expires_in is in seconds and of the access token. A refresh token works once."""

    access_token: str
    refresh_token: str
    token_type: str = "Bearer"  # noqa: S105 (the scheme's name)
    expires_in: int


class MeResponse(BaseModel):
    """kind is human or agent; an agent acts on behalf of its owner."""

    user_id: str
    username: str
    role: str
    account_ids: list[str]
    kind: str
    on_behalf_of: str | None
