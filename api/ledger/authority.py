"""By what authority something happened, in the words of projections and of the audit trail. Pure."""

from __future__ import annotations

from typing import assert_never

from core.types.authority import (
    AdministrationAuthority,
    ApprovalAuthority,
    Authority,
    DerivedAuthority,
    ExternalAuthority,
    MandateAuthority,
    SafetyAuthority,
    SessionAuthority,
)

NO_DOCUMENT = "start"
"""The authority of what the engine's own files held at its start."""


def authority_of(authority: Authority) -> tuple[str, str]:
    """Its kind, and the id of what it rests on."""
    match authority:
        case ApprovalAuthority():
            return "approval", authority.suggestion_id
        case SessionAuthority():
            return "session", authority.session_id
        case MandateAuthority():
            return "mandate", authority.mandate_id
        case DerivedAuthority():
            return "derived", authority.parent_id
        case AdministrationAuthority():
            return "administration", authority.document_id
        case SafetyAuthority():
            return "safety", authority.requested_by
        case ExternalAuthority():
            return "external", authority.found_by
        case _:
            assert_never(authority)


def installing_authority(authority: AdministrationAuthority | None) -> tuple[str, str]:
    """Of a setting that a document changes, or the engine's own file at its start."""
    return (NO_DOCUMENT, "") if authority is None else authority_of(authority)


def tightening_authority(
    authority: AdministrationAuthority | SafetyAuthority | None, requested_by: str
) -> tuple[str, str]:
    """Of a kill switch: loosening needs a document, tightening is a safety command."""
    return authority_of(SafetyAuthority(requested_by) if authority is None else authority)


def acting_for(authority: Authority) -> str | None:
    """The person, or the strategy, on whose behalf the engine acted; None when it was its own doing."""
    match authority:
        case SessionAuthority():
            return authority.user_id
        case MandateAuthority():
            return f"strategy:{authority.strategy_id}"
        case AdministrationAuthority():
            return authority.signatures[0].user_id if authority.signatures else None
        case SafetyAuthority():
            return authority.requested_by or None
        case _:
            return None
