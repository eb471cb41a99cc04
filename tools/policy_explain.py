"""Why the policy decides as it does: every step that a call takes, with the section that speaks."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Literal

import msgspec

from core.types.codes import Refusal
from core.types.money import decimal_text
from tools.contracts import Role
from tools.policy import ApprovalSubject, CallFacts, Policy
from tools.policy_document import ALWAYS_OPEN_KINDS
from tools.registry import ToolDefinition

Verdict = Literal["allow", "deny", "nothing to say"]


class Step(msgspec.Struct, frozen=True):
    """What one part of the policy says of a call."""

    part: str
    verdict: Verdict
    why: str
    section: str | None = None


class Explanation(msgspec.Struct, frozen=True):
    """All steps; the first that denies decides. approvals_due is of a suggestion whose amount is given."""

    version: str
    digest_hex: str
    decision: Literal["allow", "deny"]
    code: str | None
    steps: tuple[Step, ...]
    approvals_due: int | None = None
    approval_sections: tuple[str, ...] = ()
    approvers: tuple[str, ...] = ()


def explain(policy: Policy, definition: ToolDefinition, facts: CallFacts) -> Explanation:
    """What the policy makes of a call, and of the suggestion that comes of it where facts say its amount."""
    refusals: list[Refusal] = []
    steps = tuple(_steps(policy, definition, facts, refusals))
    due: int | None = None
    sections: tuple[str, ...] = ()
    approvers: tuple[str, ...] = ()
    if facts.amount_quote is not None and definition.kind == "suggest":
        kind = definition.name.removeprefix("suggest_")
        weighed = policy.weigh(facts, kind)
        due, sections = weighed.count, weighed.sections
        approvers = tuple(_approvers(policy, kind, facts.account_id, facts.amount_quote, facts.now_ns))
    return Explanation(
        policy.version,
        policy.digest_hex,
        "deny" if refusals else "allow",
        refusals[0].code.value if refusals else None,
        steps,
        due,
        sections,
        approvers,
    )


def _steps(policy: Policy, definition: ToolDefinition, facts: CallFacts, refusals: list[Refusal]) -> Iterator[Step]:
    principal = facts.principal
    account = facts.account_id or None
    allowing = policy.allow_sections(principal, definition.name)
    yield _step("role, tool and account", policy.decide(principal, definition, account), refusals, allowing)
    section = policy.model_section(facts.provider, facts.model, facts.tool)
    if facts.model or facts.provider or principal.kind == "agent":
        yield _step("model", policy.restrict_model(facts), refusals, (section,) if section else ())
    else:
        yield Step("model", "nothing to say", "no model asks")
    yield _step("quiet hours", policy.restrict_hours(facts), refusals)
    before = policy.restrict_conditions(msgspec.structs.replace(facts, amount_quote=None))
    yield _step("conditions", before, refusals)
    if facts.amount_quote is not None:
        yield _step("conditions on the amount", policy.restrict_conditions(facts), refusals)


def _step(part: str, refusal: Refusal | None, refusals: list[Refusal], sections: tuple[str, ...] = ()) -> Step:
    if refusal is not None:
        refusals.append(refusal)
        section = refusal.limit if refusal.unit == "condition" else refusal.actual if refusal.unit != "role" else None
        return Step(part, "deny", f"{refusal.code.value}: {refusal.message}", section)
    if sections:
        return Step(part, "allow", f"allowed by {', '.join(repr(name) for name in sections)}", sections[0])
    return Step(part, "nothing to say", "no section denies it")


def _approvers(policy: Policy, kind: str, account_id: str, amount_quote: Decimal, now_ns: int) -> Iterator[str]:
    """The approver sections that cover it, and whether hours hold them up."""
    subject = ApprovalSubject(kind=kind, account_id=account_id, amount_quote=amount_quote, now_ns=now_ns)
    for name, bound, is_open in policy.approver_sections(subject):
        up_to = "any amount" if bound is None else f"up to {decimal_text(bound)} quote"
        held = "" if is_open or kind in ALWAYS_OPEN_KINDS else ", but these are quiet hours"
        yield f"{name} ({up_to}{held})"


def roles_of(text: str) -> Role:
    """Raises ValueError that names the roles there are."""
    try:
        return Role(text)
    except ValueError:
        raise ValueError(f"there is no role {text!r}; there are {', '.join(role.value for role in Role)}") from None
