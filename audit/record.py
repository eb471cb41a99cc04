"""The audit record in its final format: canonical bytes, and the RFC 6962 leaf hash over them.

A record's bytes are RFC 8785 JSON with every number as text. Columns beside them are only an index, which the
verifier compares. Fields that identify a person are encrypted under a key of that person's own before the record is
built, so erasing the key erases the person and no proof breaks.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from operator import attrgetter
from typing import Any

import msgspec

from core.text.canonical import canonical_json, encode_sorted, is_text_only

RECORD_SCHEMA = "veloz.audit-record/1"
LEAF_PREFIX = b"\x00"
RECORD_SIZE_LIMIT_BYTES = 262_144


class Action(StrEnum):
    """What was done. The trail of one question is read in this vocabulary."""

    LOGIN = "auth.login"
    LOGIN_REFUSED = "auth.login_refused"
    TOKEN_REFRESHED = "auth.token_refreshed"  # noqa: S105
    TOKEN_REUSE_DETECTED = "auth.token_reuse_detected"  # noqa: S105
    LOGOUT = "auth.logout"
    AGENT_CREATED = "auth.agent_created"
    AGENT_REVOKED = "auth.agent_revoked"
    AGENT_TOKEN_ISSUED = "auth.agent_token_issued"  # noqa: S105
    QUESTION_ASKED = "copilot.question_asked"
    MODEL_CALLED = "copilot.model_called"
    ANSWER_GIVEN = "copilot.answer_given"
    RUN_FAILED = "copilot.run_failed"
    RUN_CANCELLED = "copilot.run_cancelled"
    POLICY_INSTALLED = "gateway.policy_installed"
    POLICY_REFUSED = "gateway.policy_refused"
    TOOL_INTENDED = "tool.intended"
    TOOL_CALLED = "tool.called"
    TOOL_REFUSED = "tool.refused"
    SUGGESTION_CREATED = "suggestion.created"
    SUGGESTION_VIEWED = "suggestion.viewed"
    SUGGESTION_APPROVED = "suggestion.approved"
    SUGGESTION_REJECTED = "suggestion.rejected"
    SUGGESTION_EXPIRED = "suggestion.expired"
    SUGGESTION_EDITED = "suggestion.edited"
    SUGGESTION_WITHDRAWN = "suggestion.withdrawn"
    APPROVAL_VOIDED = "authority.approval_voided"
    APPROVAL_REFUSED = "suggestion.approval_refused"
    RISK_DECIDED = "risk.decided"
    ORDER_INTENDED = "order.intended"
    ORDER_ACCEPTED = "order.accepted"
    ORDER_REJECTED = "order.rejected"
    ORDER_UNKNOWN = "order.unknown"
    ORDER_FILLED = "order.filled"
    ORDER_CLOSED = "order.closed"
    ORDER_REFUSED = "order.refused"
    ORDER_TRIGGERED = "order.triggered"
    ORDER_AMEND_REQUESTED = "order.amend_requested"
    ORDER_AMENDED = "order.amended"
    ORDER_AMEND_REFUSED = "order.amend_refused"
    ORDER_ADOPTED = "order.adopted"
    CANCEL_REQUESTED = "order.cancel_requested"
    KILL_SWITCH_CHANGED = "engine.kill_switch_changed"
    ENGINE_STARTED = "engine.started"
    ROSTER_INSTALLED = "engine.roster_installed"
    RISK_LIMITS_INSTALLED = "engine.risk_limits_installed"
    RISK_RULES_INSTALLED = "engine.risk_rules_installed"
    FREEZE_CHANGED = "engine.freeze_changed"
    RECONCILED = "engine.reconciled"
    SESSION_OPENED = "authority.session_opened"
    SESSION_CLOSED = "authority.session_closed"
    MANDATE_INSTALLED = "authority.mandate_installed"
    MANDATE_REVOKED = "authority.mandate_revoked"
    MANDATE_TIGHTENED = "authority.mandate_tightened"
    REVIEW_STORED = "knowledge.review_stored"
    AUDIT_READ = "audit.read"


class PersonField(msgspec.Struct, frozen=True):
    """A value that identifies a person, sealed: AES-256-GCM under the person's own key, both parts in hex."""

    person: str
    nonce: str
    ciphertext: str
    algorithm: str = "AES-256-GCM"


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what, for whom, on what, when. Payload holds text, lists and objects of text only.

    actor is the person's or process's stable pseudonym (user id, ``engine:<id>``, ``ledger``); actor_identity is the
    sealed name behind it. occurred_at is UTC with six digits, from clock_source; occurred_at_ns is the same moment for
    ordering. payload_digest covers the payload before redaction, where the writer has it.
    """

    record_id: str
    occurred_at: str
    occurred_at_ns: str
    clock_source: str
    actor: str
    action: Action
    resource: str
    outcome: str
    trace_id: str
    schema: str = RECORD_SCHEMA
    actor_identity: PersonField | None = None
    on_behalf_of: str | None = None
    account_id: str | None = None
    run_id: str | None = None
    suggestion_id: str | None = None
    payload: dict[str, Any] = {}
    payload_digest: str | None = None


_OF_OTHER_KINDS = {"action", "actor_identity", "payload"}
_texts_of = attrgetter(*(name for name in AuditRecord.__struct_fields__ if name not in _OF_OTHER_KINDS))
_sealed_of = attrgetter(*PersonField.__struct_fields__)


def record_bytes(record: AuditRecord, payload_json: bytes | None = None) -> bytes:
    """The canonical bytes. payload_json are those of the payload, where somebody has them: then it isn't looked at.

    Raises TypeError when the payload holds a number, and ValueError when the record is larger than
    RECORD_SIZE_LIMIT_BYTES.
    """
    canonical = _text_bytes(record, payload_json)
    if canonical is None:
        plain = msgspec.to_builtins(record)
        _refuse_numbers(plain["payload"], "payload")
        canonical = canonical_json(plain)
    if len(canonical) > RECORD_SIZE_LIMIT_BYTES:
        raise ValueError(f"audit record of {len(canonical)} bytes exceeds {RECORD_SIZE_LIMIT_BYTES}")
    return canonical


def _text_bytes(record: AuditRecord, payload_json: bytes | None) -> bytes | None:
    """The canonical bytes of a record that holds text alone; None for any other. As canonical_text writes a dict, whose
    names the fields' names are: only without making that dict."""
    action, sealed = record.action, record.actor_identity
    if type(action) is not Action or not (sealed is None or type(sealed) is PersonField):
        return None
    if not is_text_only((_texts_of(record), None if sealed is None else _sealed_of(sealed))):
        return None
    if payload_json is not None:
        return encode_sorted(msgspec.structs.replace(record, payload=msgspec.Raw(payload_json)))
    return encode_sorted(record) if type(record.payload) is dict and is_text_only(record.payload) else None


def leaf_hash(canonical: bytes) -> bytes:
    """SHA-256(0x00 || bytes), RFC 6962 section 2.1."""
    return hashlib.sha256(LEAF_PREFIX + canonical).digest()


def parse_record(canonical: bytes) -> AuditRecord:
    """Read a record back. Raises msgspec.ValidationError when it isn't one."""
    return msgspec.json.decode(canonical, type=AuditRecord)


def _refuse_numbers(value: Any, path: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_numbers(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_numbers(item, f"{path}[{index}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        raise TypeError(f"{path} is the number {value!r}; audit payloads hold numbers as text")
