"""Signed documents and tickets as HTTP carries them: text, and signatures in hex. The engine verifies them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from api.orders.schemas import SIGNATURE_HEX_LENGTH, TicketRequest
from core.types.codes import ReasonCode, refuse

DOCUMENT_LENGTH_LIMIT = 1_048_576
KEY_ID_LENGTH_LIMIT = 64
SIGNATURES_LIMIT = 16


class SignatureBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    key_id: str = Field(min_length=1, max_length=KEY_ID_LENGTH_LIMIT)
    signature_hex: str = Field(min_length=SIGNATURE_HEX_LENGTH, max_length=SIGNATURE_HEX_LENGTH)


class SignedDocumentRequest(BaseModel):
    """document is RFC 8785 JSON, every number as text, exactly as it was signed."""

    model_config = ConfigDict(extra="forbid")
    document: str = Field(min_length=1, max_length=DOCUMENT_LENGTH_LIMIT)
    signatures: list[SignatureBody] = Field(min_length=1, max_length=SIGNATURES_LIMIT)


def ticket_of(body: TicketRequest) -> tuple[bytes, bytes]:
    """The ticket's bytes and its signature. Raises REQUEST_INVALID."""
    return body.ticket.encode(), _signature(body.signature_hex)


def document_of(body: SignedDocumentRequest) -> tuple[bytes, list[tuple[str, bytes]]]:
    """The document's bytes and its signatures. Raises REQUEST_INVALID."""
    return body.document.encode(), [(item.key_id, _signature(item.signature_hex)) for item in body.signatures]


def _signature(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise refuse(ReasonCode.REQUEST_INVALID, "signature_hex must be hex.") from error
