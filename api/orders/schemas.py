"""What is asked for about orders."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

ID_LENGTH_LIMIT = 64
SIGNATURE_HEX_LENGTH = 128
TICKET_LENGTH_LIMIT = 16_384


class TicketRequest(BaseModel):
    """ticket is the RFC 8785 JSON of an order, a group or an amendment (`veloz.order-ticket/1`, `veloz.group-ticket/1`,
    `veloz.amend-ticket/1`), every number as text.
    signature_hex is Ed25519 by the session's key over `veloz/session-request/v1` NUL and the 32 bytes of SHA-256 over
    `veloz/session-request/v1` NUL and the ticket."""

    model_config = ConfigDict(extra="forbid")
    ticket: str = Field(min_length=1, max_length=TICKET_LENGTH_LIMIT)
    session_id: str = Field(min_length=1, max_length=ID_LENGTH_LIMIT)
    signature_hex: str = Field(min_length=SIGNATURE_HEX_LENGTH, max_length=SIGNATURE_HEX_LENGTH)


class CancelAllRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    account_id: str = Field(min_length=1, max_length=ID_LENGTH_LIMIT)
    symbol: str | None = Field(default=None, min_length=1, max_length=ID_LENGTH_LIMIT)
