"""A dry run: what a policy would have made of calls that are in the audit trail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
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
    amount_quote: str | None = None
    suggestion_kind: str | None = None
    approvals_due: str | None = None


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
    refused before the policy was asked. other_approvals are suggestions that would take another number of approvals.
    unweighed are suggestions whose record, of an earlier release, doesn't say what they were worth: what the policy has
    to say of amounts and approvals isn't asked of those."""

    calls: int
    same: int
    undecided: int
    newly_denied: int
    newly_allowed: int
    otherwise_denied: int
    other_approvals: int
    unweighed: int
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
        amount_quote=payload.get("amount_quote"),
        suggestion_kind=payload.get("suggestion_kind"),
        approvals_due=payload.get("approvals_due"),
    )


def replay(policy: Policy, registry: Registry, calls: Iterable[RecordedCall]) -> DryRun:
    """Ask the policy about each call as it was recorded: its arguments are the redacted ones."""
    tools = {tool.name: tool for tool in registry}
    counts = dict.fromkeys((name for name in DryRun.__struct_fields__ if name != "changes"), 0)
    changes: list[Change] = []
    for call in calls:
        counts["calls"] += 1
        definition = tools.get(call.tool)
        before = _before(call)
        if definition is None or before is None or not _is_decidable(definition, call):
            counts["undecided"] += 1
            continue
        after, why = _decide(policy, definition, call)
        counts["unweighed"] += definition.kind == "suggest" and call.outcome == "ok" and call.amount_quote is None
        if after == before:
            counts["same"] += 1
            continue
        kind = _kind_of_change(before, after)
        counts[kind] += 1
        if kind != "other_approvals":
            before, after = before.partition(",")[0], after.partition(",")[0]
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
    return _allowed(call.approvals_due)


def _allowed(approvals_due: str | None) -> str:
    return ALLOWED if approvals_due is None else f"{ALLOWED}, {approvals_due} to approve"


def _kind_of_change(before: str, after: str) -> str:
    match before.startswith(ALLOWED), after.startswith(ALLOWED):
        case True, True:
            return "other_approvals"
        case True, False:
            return "newly_denied"
        case False, True:
            return "newly_allowed"
    return "otherwise_denied"


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
    approvals_due = None
    if refusal is None and call.amount_quote is not None and call.suggestion_kind is not None:
        known = msgspec.structs.replace(facts, amount_quote=Decimal(call.amount_quote))
        refusal = policy.restrict_conditions(known)
        # How many it took isn't recorded of one that was refused.
        if call.approvals_due is not None:
            approvals_due = str(policy.weigh(known, call.suggestion_kind).count)
    return (_allowed(approvals_due), "") if refusal is None else (refusal.code.value, refusal.message)
