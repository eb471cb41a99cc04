"""A dry run: what a policy would have made of calls that are in the audit trail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from core.types.codes import ReasonCode
from tools.contracts import Principal, Role
from tools.policy import CallFacts, Policy
from tools.registry import DataScope, Registry, ToolDefinition

POLICY_CODES = frozenset(
    {
        *(ReasonCode.TOOL_NOT_PERMITTED, ReasonCode.POLICY_MODEL_NOT_PERMITTED),
        *(ReasonCode.POLICY_QUIET_HOURS, ReasonCode.POLICY_CONDITION_DENIED),
    }
)
CHANGES_SHOWN_LIMIT = 1_000
ALLOWED = "allowed"


class RecordedCall(msgspec.Struct, frozen=True):
    """What a record of a call says that a policy asks about. outcome is ok, or the code of the refusal."""

    call_id: str
    occurred_at_ns: int
    actor: str
    tool: str
    outcome: str
    role: str | None
    principal_kind: str
    on_behalf_of: str | None
    account_id: str
    arguments: Any
    mode: str
    model: str
    provider: str
    policy_version: str | None


class Change(msgspec.Struct, frozen=True):
    """A call that the policy would decide otherwise."""

    call_id: str
    tool: str
    role: str
    actor: str
    account_id: str
    before: str
    after: str
    why: str


class DryRun(msgspec.Struct, frozen=True):
    """undecided are calls whose record says too little: of an earlier release, of tools that there aren't any more, or
    refused before the policy was asked."""

    calls: int
    same: int
    undecided: int
    newly_denied: int
    newly_allowed: int
    otherwise_denied: int
    changes: tuple[Change, ...]


def recorded_call(record: Mapping[str, Any]) -> RecordedCall | None:
    """From an audit record as JSON; None for what is no call, or the first half of one."""
    if record.get("action") not in {"tool.called", "tool.refused"}:
        return None
    payload = record.get("payload", {})
    return RecordedCall(
        call_id=str(payload.get("call_id", "")),
        occurred_at_ns=int(record["occurred_at_ns"]),
        actor=str(record["actor"]),
        tool=str(payload.get("tool", "")),
        outcome=str(record["outcome"]),
        role=payload.get("role"),
        principal_kind=str(payload.get("principal_kind", "human")),
        on_behalf_of=record.get("on_behalf_of"),
        account_id=record.get("account_id") or "",
        arguments=payload.get("arguments"),
        mode=str(payload.get("mode", "")),
        model=str(payload.get("model", "")),
        provider=str(payload.get("provider", "")),
        policy_version=payload.get("policy_version"),
    )


def replay(policy: Policy, registry: Registry, calls: Iterable[RecordedCall]) -> DryRun:
    """Ask the policy about each call as it was recorded: its arguments are the redacted ones."""
    tools = {tool.name: tool for tool in registry}
    counts = {"calls": 0, "same": 0, "undecided": 0, "newly_denied": 0, "newly_allowed": 0, "otherwise_denied": 0}
    changes: list[Change] = []
    for call in calls:
        counts["calls"] += 1
        definition = tools.get(call.tool)
        before = _before(call)
        if definition is None or before is None or not _is_decidable(definition, call):
            counts["undecided"] += 1
            continue
        after, why = _decide(policy, definition, call)
        if after == before:
            counts["same"] += 1
            continue
        kind = "newly_denied" if before == ALLOWED else "newly_allowed" if after == ALLOWED else "otherwise_denied"
        counts[kind] += 1
        if len(changes) < CHANGES_SHOWN_LIMIT:
            changes.append(
                Change(call.call_id, call.tool, call.role or "", call.actor, call.account_id, before, after, why)
            )
    return DryRun(**counts, changes=tuple(changes))


def _before(call: RecordedCall) -> str | None:
    """What was decided then; None where the call never came to the policy, or wasn't decided by its file."""
    if call.outcome in {code.value for code in POLICY_CODES}:
        return call.outcome
    if call.outcome in {ReasonCode.SERVICE_POLICY_INVALID.value, ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE.value}:
        return None
    return ALLOWED


def _is_decidable(definition: ToolDefinition, call: RecordedCall) -> bool:
    known = call.role in {role.value for role in Role} and isinstance(call.arguments, dict)
    # An agent's own list of tools isn't in the record: a refusal may have been that list's.
    own_list = call.principal_kind == "agent" and call.outcome == ReasonCode.TOOL_NOT_PERMITTED.value
    needs_account = definition.scope not in {DataScope.MARKET, DataScope.SYSTEM}
    refused = call.outcome in {code.value for code in POLICY_CODES}
    return known and not own_list and (bool(call.account_id) or not needs_account or refused)


def _decide(policy: Policy, definition: ToolDefinition, call: RecordedCall) -> tuple[str, str]:
    principal = Principal(
        call.actor,
        call.actor,
        Role(call.role or ""),
        (call.account_id,) if call.account_id else (),
        "agent" if call.principal_kind == "agent" else "human",
        call.on_behalf_of,
    )
    facts = CallFacts(
        principal=principal,
        tool=call.tool,
        kind=definition.kind,
        account_id=call.account_id,
        arguments=call.arguments,
        now_ns=call.occurred_at_ns,
        mode=call.mode,
        model=call.model,
        provider=call.provider,
    )
    refusal = policy.decide(principal, definition, call.account_id or None) or policy.restrict(facts)
    return (ALLOWED, "") if refusal is None else (refusal.code.value, refusal.message)
