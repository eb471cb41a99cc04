"""Who may call what, by a policy that was read from a file: roles, tools, accounts, models, hours, conditions.

What no section allows is denied. A policy can be stricter than the engine's own roster, never looser: the engine
decides again. A Policy is frozen: a reload makes another one, and a call keeps the one that it began with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from typing import Any, Protocol

import msgspec

from core.types.codes import ReasonCode, Refusal
from core.types.money import decimal_text
from tools.contracts import Principal, Role
from tools.instruments import normalise_symbol
from tools.limits import limits_of
from tools.policy_conditions import (
    DENY,
    REQUIRE_TWO,
    ConditionError,
    Expression,
    amount_cell,
    compile_expression,
    moment_cells,
)
from tools.policy_document import (
    ALWAYS_OPEN_KINDS,
    ANY,
    Approver,
    Condition,
    PolicyDocument,
    QuietHours,
    ToolFacts,
    document_digest,
    expand,
    parse_amount,
    parse_policy,
)
from tools.quiet_hours import DAYS, QuietWindow, parse_clock_time
from tools.registry import ToolDefinition
from tools.values import ToolInput

DEFAULT_POLICY_NAME = "default_policy.toml"
UNNAMED_MODEL = "unnamed"
"""What the policy calls the model of an agent that doesn't say which it is."""
MODEL_CACHE_LIMIT = 4_096


class CallFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What hours, models and conditions are asked about. arguments are those that were validated (they become plain
    values only where a condition asks); amount_quote is what a suggestion is worth, None until it was made."""

    principal: Principal
    tool: str
    kind: str
    account_id: str
    arguments: ToolInput | Mapping[str, Any]
    now_ns: int
    mode: str
    model: str = ""
    provider: str = ""
    amount_quote: Decimal | None = None


class ApprovalSubject(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to approve. kind is one of SUGGESTION_KINDS."""

    kind: str
    account_id: str
    amount_quote: Decimal
    now_ns: int


class ApprovalsDue(msgspec.Struct, frozen=True):
    """How many people have to approve, and the sections that say so (none: one person, as always)."""

    count: int
    sections: tuple[str, ...] = ()

    def stricter(self, engine_due: int) -> ApprovalsDue:
        """What holds beside the engine's own count: the policy adds, and never takes away."""
        return ApprovalsDue(max(self.count, engine_due), self.sections)


class PolicySource(Protocol):
    """Gives the policy in force."""

    def current(self) -> Policy:
        """Raises RefusalError(SERVICE_POLICY_INVALID) while there is none that may be decided by."""
        ...


class _Grant(msgspec.Struct, frozen=True):
    """What the allow sections give one role, kind of principal and tool."""

    sections: tuple[str, ...]
    any_granted: bool
    accounts: frozenset[str]


class _Quiet(msgspec.Struct, frozen=True):
    section: QuietHours
    window: QuietWindow
    tools: frozenset[str]


class _Rule(msgspec.Struct, frozen=True):
    section: Condition
    expression: Expression


class Policy:
    """Decides by one document. version and digest_hex are named in every audit record of a call."""

    def __init__(self, document: PolicyDocument, digest_hex: str, tools: Mapping[str, ToolFacts]) -> None:
        self.document = document
        self.version = str(document.version)
        self.digest_hex = digest_hex
        self.limits = limits_of(document)
        self._tools = tools
        self._grants = _grants(document)
        self._quiet = tuple(_quiet(document, hours, tools) for hours in document.quiet_hours)
        conditions = [_Rule(section, compile_expression(section.when)) for section in document.condition]
        self._conditions = {
            tool: tuple(rule for rule in conditions if tool in expand(document, rule.section.tools, tools))
            for tool in tools
        }
        self._models: dict[tuple[str, str, str], bool] = {}

    def current(self) -> Policy:
        """See PolicySource: a policy by itself is in force for ever."""
        return self

    # --- calls -------------------------------------------------------------------------------------------------------

    def decide(self, principal: Principal, definition: ToolDefinition, account: str | None) -> Refusal | None:
        """None when role and account allow the call.

        account is the account that the call is about; None asks whether any account would do (for describing).
        """
        if not principal.may_use(definition.name):
            return Refusal(
                ReasonCode.TOOL_NOT_PERMITTED,
                f"{definition.name} isn't among the tools of this agent. Its owner may make one that has it.",
                limit=", ".join(sorted(principal.tools or ())) or "no tool",
                actual=definition.name,
                unit="tool",
            )
        grant = self._grants.get((principal.role, principal.kind, definition.name))
        if grant is None or principal.role not in definition.roles:
            needed = sorted({role.value for role, _, tool in self._grants if tool == definition.name})
            return Refusal(
                ReasonCode.TOOL_NOT_PERMITTED,
                f"The role {principal.role.value} may not call {definition.name}. Ask someone who may.",
                limit=" or ".join(needed) or "no role",
                actual=principal.role.value,
                unit="role",
            )
        if not definition.scope.needs_account:
            return None
        usable = principal.account_ids
        if not grant.any_granted:
            usable = tuple(name for name in usable if name in grant.accounts)
        if account in usable or (account is None and usable):
            return None
        return Refusal(
            ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE,
            "This account isn't granted to you, or doesn't exist. Use one of yours.",
            limit=", ".join(usable) or "no account",
            unit="account",
        )

    def allow_sections(self, principal: Principal, tool: str) -> tuple[str, ...]:
        """The sections that open the tool to the principal's role."""
        grant = self._grants.get((principal.role, principal.kind, tool))
        return () if grant is None else grant.sections

    def restrict(self, facts: CallFacts) -> Refusal | None:
        """Whether model, hours and conditions leave the call open, once role and account allow it."""
        return self.restrict_model(facts) or self.restrict_hours(facts) or self.restrict_conditions(facts)

    def restrict_model(self, facts: CallFacts) -> Refusal | None:
        """A person who asks without a model is bound by no model's list."""
        model, provider = facts.model, facts.provider
        if not model and not provider:
            if facts.principal.kind == "human":
                return None
            model = provider = UNNAMED_MODEL
        key = (provider, model, facts.tool)
        allowed = self._models.get(key)
        if allowed is None:
            if len(self._models) >= MODEL_CACHE_LIMIT:
                self._models.clear()
            allowed = self._models[key] = self.model_section(provider, model, facts.tool) is not None
        if allowed:
            return None
        return Refusal(
            ReasonCode.POLICY_MODEL_NOT_PERMITTED,
            f"The policy doesn't let the model {model[:80]} call {facts.tool}. Ask yourself, or with another model.",
            limit="a [[model]] section that names both",
            actual=f"{provider[:80]}/{model[:80]}",
            unit="model",
        )

    def model_section(self, provider: str, model: str, tool: str) -> str | None:
        """The section that lets the model call the tool."""
        for section in self.document.model:
            if (
                _among(provider, section.providers)
                and _among(model, section.models)
                and tool in expand(self.document, section.tools, self._tools)
            ):
                return section.name
        return None

    def restrict_hours(self, facts: CallFacts) -> Refusal | None:
        """Quiet hours hold up what suggests."""
        if facts.kind != "suggest":
            return None
        for quiet in self._quiet:
            section = quiet.section
            if (
                "suggest" in section.denies
                and facts.tool in quiet.tools
                and facts.principal.role in section.roles
                and _of_account(facts.account_id, section.accounts)
                and quiet.window.covers(facts.now_ns)
            ):
                return _quiet_refusal(section)
        return None

    def restrict_conditions(self, facts: CallFacts) -> Refusal | None:
        """Conditions that deny: those that speak of the amount once it is known, the others before the call."""
        with_amount = facts.amount_quote is not None
        for rule in self._conditions.get(facts.tool, ()):
            if rule.section.action != DENY or rule.expression.needs_amount != with_amount:
                continue
            if not _concerns(rule.section, facts):
                continue
            try:
                met = rule.expression.is_met(_variables(facts))
            except ConditionError as error:
                return _condition_refusal(rule.section, f"It can't be told, which denies: {error}")
            if met:
                return _condition_refusal(rule.section, rule.section.message)
        return None

    # --- approvals ---------------------------------------------------------------------------------------------------

    def decide_approval(self, principal: Principal, subject: ApprovalSubject | None = None) -> Refusal | None:
        """Whether the principal may approve and reject: that subject, or anything at all. The engine's roster decides
        again."""
        mine = [section for section in self.document.approver if _names(section, principal)]
        if not mine or principal.kind != "human":
            needed = " or ".join(sorted({role.value for section in self.document.approver for role in section.roles}))
            return Refusal(
                ReasonCode.AUTH_ROLE_NOT_PERMITTED,
                f"Suggestions are decided on by a human with the role {needed}.",
                limit=needed,
                actual=principal.role.value if principal.kind == "human" else principal.kind,
                unit="role",
            )
        return None if subject is None else self._decide_subject(principal, mine, subject)

    def approver_sections(self, subject: ApprovalSubject) -> list[tuple[str, Decimal | None, bool]]:
        """The sections that cover the subject: name, up to which amount, and whether no quiet hours hold up all of its
        roles now."""
        found = []
        for section in self.document.approver:
            bound = parse_amount(section.up_to_quote)
            if self._covers(section, subject) and (bound is None or subject.amount_quote <= bound):
                closed = [role for role in section.roles if self._approval_hours(role, subject) is not None]
                found.append((section.name, bound, not section.roles or len(closed) < len(section.roles)))
        return found

    def _covers(self, section: Approver, subject: ApprovalSubject) -> bool:
        return _among(subject.kind, section.kinds) and _of_account(subject.account_id, section.accounts)

    def _decide_subject(
        self, principal: Principal, mine: Iterable[Approver], subject: ApprovalSubject
    ) -> Refusal | None:
        bounds = [parse_amount(section.up_to_quote) for section in mine if self._covers(section, subject)]
        if not any(bound is None or subject.amount_quote <= bound for bound in bounds):
            most = max((bound for bound in bounds if bound is not None), default=None)
            what = f"suggestions of kind {subject.kind}" if most is None else "that much"
            return Refusal(
                ReasonCode.POLICY_APPROVER_NOT_PERMITTED,
                f"The policy doesn't let you approve {what} for this account. Ask an approver who may.",
                limit=subject.kind if most is None else decimal_text(most),
                actual=decimal_text(subject.amount_quote),
                unit="quote",
            )
        return self._approval_hours(principal.role, subject)

    def _approval_hours(self, role: Role, subject: ApprovalSubject) -> Refusal | None:
        if subject.kind in ALWAYS_OPEN_KINDS:
            return None
        for quiet in self._quiet:
            section = quiet.section
            if (
                "approve" in section.denies
                and role in section.roles
                and f"suggest_{subject.kind}" in quiet.tools
                and _of_account(subject.account_id, section.accounts)
                and quiet.window.covers(subject.now_ns)
            ):
                return _quiet_refusal(section)
        return None

    def approvals_due(self, kind: str, account_id: str, amount_quote: Decimal) -> ApprovalsDue:
        """By the thresholds alone. The stricter of this and the engine's roster holds: there is no way to ask for
        less than the engine does."""
        sections = tuple(
            section.name
            for section in self.document.threshold
            if _among(kind, section.kinds)
            and _of_account(account_id, section.accounts)
            and (bound := parse_amount(section.two_above_quote)) is not None
            and amount_quote > bound
        )
        return ApprovalsDue(2 if sections else 1, sections)

    def weigh(self, facts: CallFacts, suggestion_kind: str) -> ApprovalsDue:
        """How many have to approve a suggestion of that amount, thresholds and conditions together. A condition that
        can't tell asks for two."""
        assert facts.amount_quote is not None, "a suggestion is weighed when its amount is known"
        by_amount = self.approvals_due(suggestion_kind, facts.account_id, facts.amount_quote)
        sections = list(by_amount.sections)
        for rule in self._conditions.get(facts.tool, ()):
            if rule.section.action != REQUIRE_TWO or not _concerns(rule.section, facts):
                continue
            try:
                met = rule.expression.is_met(_variables(facts))
            except ConditionError:
                met = True
            if met:
                sections.append(rule.section.name)
        return ApprovalsDue(2 if sections else 1, tuple(sections))


# --- making one ------------------------------------------------------------------------------------------------------


def tool_facts(definitions: Iterable[ToolDefinition]) -> dict[str, ToolFacts]:
    """What a policy is read and made with."""
    return {tool.name: ToolFacts(tool.kind, tool.scope.needs_account) for tool in definitions}


def load_policy(document: str, file_name: str, tools: Mapping[str, ToolFacts]) -> Policy:
    """Raises PolicyFileError."""
    return Policy(parse_policy(document, file_name, tools), document_digest(document), tools)


def default_document() -> str:
    """The policy that VeloZ comes with, as text."""
    return files("tools").joinpath(DEFAULT_POLICY_NAME).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def default_policy() -> Policy:
    """The policy that VeloZ comes with, over all of its tools."""
    from tools.catalogue import build_registry

    return load_policy(default_document(), DEFAULT_POLICY_NAME, tool_facts(build_registry()))


def _grants(document: PolicyDocument) -> dict[tuple[Role, str, str], _Grant]:
    grants: dict[tuple[Role, str, str], _Grant] = {}
    for section in document.allow:
        listed = frozenset(section.accounts) if isinstance(section.accounts, tuple) else frozenset()
        for tool in expand(document, section.tools, ()):
            for role in section.roles:
                for kind in section.principals:
                    known = grants.get((role, kind, tool), _Grant((), False, frozenset()))
                    grants[role, kind, tool] = _Grant(
                        (*known.sections, section.name),
                        known.any_granted or section.accounts == "granted",
                        known.accounts | listed,
                    )
    return grants


def _quiet(document: PolicyDocument, hours: QuietHours, tools: Mapping[str, ToolFacts]) -> _Quiet:
    window = QuietWindow(
        frozenset(DAYS.index(day) for day in hours.days),
        parse_clock_time(hours.start),
        parse_clock_time(hours.end),
        hours.time_zone,
    )
    suggest = {name for name, facts in tools.items() if facts.kind == "suggest"}
    always_open = {f"suggest_{kind}" for kind in ALWAYS_OPEN_KINDS}
    return _Quiet(hours, window, (expand(document, hours.tools, suggest) & suggest) - always_open)


# --- parts of decisions ----------------------------------------------------------------------------------------------


def _among(value: str, names: Iterable[str]) -> bool:
    return any(name in {ANY, value} for name in names)


def _of_account(account_id: str, accounts: str | tuple[str, ...]) -> bool:
    """accounts is a list, or a word that stands for every account that got this far."""
    return account_id in accounts if isinstance(accounts, tuple) else True


def _names(section: Approver, principal: Principal) -> bool:
    return principal.role in section.roles or principal.user_id in section.users or principal.username in section.users


def _concerns(section: Condition, facts: CallFacts) -> bool:
    if facts.principal.role not in section.roles:
        return False
    if section.accounts == "none":
        return not facts.account_id
    return _of_account(facts.account_id, section.accounts)


def _variables(facts: CallFacts) -> dict[str, Any]:
    principal = facts.principal
    given = facts.arguments
    arguments = given.model_dump(mode="json", exclude_none=True) if isinstance(given, ToolInput) else dict(given)
    if isinstance(symbol := arguments.get("symbol"), str):
        arguments["symbol"] = normalise_symbol(symbol)
    cells: dict[str, Any] = {
        "principal": {
            "user_id": principal.user_id,
            "role": principal.role.value,
            "kind": principal.kind,
            "on_behalf_of": principal.on_behalf_of or "",
        },
        "tool": {"name": facts.tool, "kind": facts.kind},
        "arguments": arguments,
        "account": facts.account_id,
        "now": moment_cells(facts.now_ns),
        "mode": facts.mode,
        "model": {"name": facts.model, "provider": facts.provider},
    }
    if facts.amount_quote is not None:
        cells["amount_quote"] = amount_cell(facts.amount_quote)
    return cells


def _quiet_refusal(section: QuietHours) -> Refusal:
    return Refusal(
        ReasonCode.POLICY_QUIET_HOURS,
        f"These are quiet hours ({section.name}): from {section.start} to {section.end}, {section.time_zone}. "
        "Nothing new is suggested or approved meanwhile; cancels and the kill switch always are.",
        limit=f"{section.start}-{section.end}",
        actual=section.name,
        unit=section.time_zone,
    )


def _condition_refusal(section: Condition, message: str) -> Refusal:
    return Refusal(
        ReasonCode.POLICY_CONDITION_DENIED,
        f"The policy says no ({section.name}): {message}",
        limit=section.name,
        unit="condition",
    )
