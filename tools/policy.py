"""Who may call what: role x tool x account scope as data. What no rule allows is denied."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from core.types.codes import ReasonCode, Refusal
from tools.contracts import Principal, Role
from tools.registry import ToolDefinition


class AccountScope(StrEnum):
    """NONE: the tool touches no account. GRANTED: one of the accounts granted to the principal."""

    NONE = "none"
    GRANTED = "granted"


class PolicyRule(msgspec.Struct, frozen=True):
    """A role may call these tools within this account scope."""

    role: Role
    accounts: AccountScope
    tools: frozenset[str]


class PolicyTable(msgspec.Struct, frozen=True):
    """version is named in every audit record of a call."""

    version: str
    rules: tuple[PolicyRule, ...]
    approval_roles: frozenset[Role]


MARKET_READS = frozenset(
    {
        *("list_instruments", "get_ticker", "get_order_book", "get_klines", "get_indicators"),
        *("get_feed_health", "estimate_execution", "get_trades", "get_system_health"),
    }
)
ACCOUNT_READS = frozenset(
    {
        *("get_positions", "get_open_orders", "get_risk_state", "get_suggestion", "search_reviews"),
        *("get_balances", "get_exposure", "what_if", "get_risk_limits", "list_strategies"),
    }
)
SUGGESTIONS = frozenset({"suggest_order"})

FIRST_POLICY = PolicyTable(
    version="4",
    rules=(
        PolicyRule(Role.TRADER, AccountScope.NONE, MARKET_READS),
        PolicyRule(Role.TRADER, AccountScope.GRANTED, ACCOUNT_READS | SUGGESTIONS),
        PolicyRule(Role.APPROVER, AccountScope.NONE, MARKET_READS),
        PolicyRule(Role.APPROVER, AccountScope.GRANTED, ACCOUNT_READS),
        PolicyRule(Role.COMPLIANCE, AccountScope.NONE, MARKET_READS),
        PolicyRule(Role.COMPLIANCE, AccountScope.GRANTED, ACCOUNT_READS),
    ),
    approval_roles=frozenset({Role.APPROVER}),
)


class Policy:
    """Decides by a table. It can be stricter than the engine's own roster, never looser."""

    def __init__(self, table: PolicyTable = FIRST_POLICY) -> None:
        self.version = table.version
        self._approval_roles = table.approval_roles
        self._allowed = frozenset((rule.role, tool, rule.accounts) for rule in table.rules for tool in rule.tools)

    def decide(self, principal: Principal, definition: ToolDefinition, account: str | None) -> Refusal | None:
        """None when the call may go ahead.

        account is the account that the call is about; None asks whether any account would do (for describing).
        """
        accounts = AccountScope.GRANTED if definition.scope.needs_account else AccountScope.NONE
        if not principal.may_use(definition.name):
            return Refusal(
                ReasonCode.TOOL_NOT_PERMITTED,
                f"{definition.name} isn't among the tools of this agent. Its owner may make one that has it.",
                limit=", ".join(sorted(principal.tools or ())) or "no tool",
                actual=definition.name,
                unit="tool",
            )
        if (principal.role, definition.name, accounts) not in self._allowed or principal.role not in definition.roles:
            needed = sorted(role.value for role, tool, _ in self._allowed if tool == definition.name)
            return Refusal(
                ReasonCode.TOOL_NOT_PERMITTED,
                f"The role {principal.role.value} may not call {definition.name}. Ask someone who may.",
                limit=" or ".join(needed) or "no role",
                actual=principal.role.value,
                unit="role",
            )
        if accounts is AccountScope.NONE:
            return None
        if account in principal.account_ids or (account is None and principal.account_ids):
            return None
        return Refusal(
            ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE,
            "This account isn't granted to you, or doesn't exist. Use one of yours.",
            limit=", ".join(principal.account_ids) or "no account",
            unit="account",
        )

    def decide_approval(self, principal: Principal) -> Refusal | None:
        """Whether the principal may approve and reject suggestions. The engine's roster decides again."""
        if principal.role in self._approval_roles and principal.kind == "human":
            return None
        needed = " or ".join(sorted(role.value for role in self._approval_roles))
        return Refusal(
            ReasonCode.AUTH_ROLE_NOT_PERMITTED,
            f"Suggestions are decided on by a human with the role {needed}.",
            limit=needed,
            actual=principal.role.value if principal.kind == "human" else principal.kind,
            unit="role",
        )
