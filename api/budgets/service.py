"""What is used of the policy's budgets, for people to see."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from api.budgets.repository import BudgetUse, SqlBudgetLedger
from core.types.money import decimal_text
from tools.budgets import FIRM, Bounds, Budgets, Measure, Scope
from tools.contracts import Principal
from tools.limits import MICRO_USD_PER_USD, MS_PER_S
from tools.policy import PolicySource

USERS_SHOWN_LIMIT = 1_000
_TOLD_AS = {
    Measure.CALLS: ("calls", 1),
    Measure.TOKENS: ("tokens", 1),
    Measure.MICRO_USD: ("money_usd", MICRO_USD_PER_USD),
    Measure.MS: ("seconds", MS_PER_S),
}


class BudgetUseReader:
    """Reads the shared count beside the limits of the policy in force."""

    def __init__(self, ledger: SqlBudgetLedger, budgets: Budgets, policies: PolicySource) -> None:
        self._ledger = ledger
        self._budgets = budgets
        self._policies = policies

    async def today(self, principal: Principal, *, everyone: bool) -> dict[str, Any]:
        """One row for each bounded budget that anything was used of, and each of the principal's own.

        Raises RefusalError: SERVICE_POLICY_INVALID, SERVICE_DATABASE_UNAVAILABLE.
        """
        policy = self._policies.current()
        limits = policy.limits.budgets()
        # What this process has used and not yet told the others belongs to it.
        await self._budgets.flush()
        day = self._budgets.day(limits.time_zone)
        users = [principal.person_id]
        if everyone:
            users = sorted({*users, *await self._ledger.users(day, USERS_SHOWN_LIMIT)})
        found = {(use.scope, use.owner, Measure(use.measure)): use for use in await self._ledger.use(day, users)}
        rows = [
            row
            for scope, owners, bounds in (
                (Scope.USER_DAY, users, limits.user_day),
                (Scope.FIRM_DAY, [FIRM], limits.firm_day),
            )
            for owner in owners
            for row in _rows(scope, owner, bounds, found)
        ]
        return {"day": day, "time_zone": limits.time_zone, "policy_version": policy.version, "budgets": rows}


def _rows(
    scope: Scope, owner: str, bounds: Bounds, found: dict[tuple[Scope, str, Measure], BudgetUse]
) -> list[dict[str, Any]]:
    rows = []
    for measure, (name, divisor) in _TOLD_AS.items():
        use = found.get((scope, owner, measure))
        limit = bounds.of(measure)
        used, held = (0, 0) if use is None else (use.used, use.held)
        rows.append(
            {
                "scope": scope.value,
                "owner": owner,
                "measure": name,
                "used": _amount(used, divisor),
                "held": _amount(held, divisor),
                "limit": None if limit is None else _amount(limit, divisor),
            }
        )
    return rows


def _amount(whole: int, divisor: int) -> str:
    return decimal_text(Decimal(whole) / divisor)
