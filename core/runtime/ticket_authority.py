"""By what authority a ticket came: whose key has signed it. The engine trusts no caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.authority.signatures import verify_bytes
from core.runtime._proto import engine_pb2 as pb
from core.runtime.tickets import ticket_digest, ticket_message
from core.types.authority import MandateAuthority, SessionAuthority
from core.types.codes import ReasonCode, refuse

if TYPE_CHECKING:
    from core.kernel.kernel import Kernel


def command_authority(
    kernel: Kernel, authority: pb.CommandAuthority, ticket: bytes
) -> SessionAuthority | MandateAuthority:
    """The authority to decide under. A session's signature is checked where its limits are; a mandate's here, because
    strategies inside the engine need none.

    Raises RefusalError with AUTHORITY_KIND_NOT_ACCEPTED, AUTHORITY_SESSION_UNKNOWN, AUTHORITY_MANDATE_UNKNOWN or
    AUTHORITY_SIGNATURE_INVALID.
    """
    match authority.WhichOneof("kind"):
        case "session":
            session_id = authority.session.session_id
            session = kernel.sessions.get(session_id)
            if session is None:
                raise refuse(
                    ReasonCode.AUTHORITY_SESSION_UNKNOWN,
                    f"There is no session {session_id[:64]}; sign one in with OpenSession.",
                )
            return SessionAuthority(
                session_id=session_id,
                user_id=session.grant.user_id,
                request_digest_hex=ticket_digest(ticket),
                signature_hex=authority.session.signature.hex(),
            )
        case "mandate":
            mandate_id = authority.mandate.mandate_id
            mandate = kernel.mandates.get(mandate_id)
            if mandate is None:
                raise refuse(
                    ReasonCode.AUTHORITY_MANDATE_UNKNOWN,
                    f"There is no mandate {mandate_id[:64]}; install one with InstallMandate.",
                )
            key = mandate.mandate.public_key_hex
            if not verify_bytes(key, ticket_message(ticket), authority.mandate.signature):
                raise refuse(
                    ReasonCode.AUTHORITY_SIGNATURE_INVALID,
                    f"The ticket isn't signed by the key of mandate {mandate_id[:64]}.",
                )
            return MandateAuthority(mandate_id, authority.mandate.strategy_id, ticket_digest(ticket))
        case _:
            raise refuse(
                ReasonCode.AUTHORITY_KIND_NOT_ACCEPTED,
                "An order needs a session's or a mandate's authority; an approval goes through ExecuteApproval.",
            )
