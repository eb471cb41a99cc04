"""Conditions of the policy in CEL (https://cel.dev): what is true denies, or wants one or two approvals.

Variables, all read only: principal.user_id, principal.role, principal.kind, principal.on_behalf_of; tool.name,
tool.kind; arguments (those of the call as they were validated, decimals as text: double(arguments.quantity), and
has(arguments.price) before what may be absent; symbol in the engine's spelling); account (its id, "" without one);
amount_quote (double, what a suggestion is worth, known once it was made); now.hour_utc, now.weekday (Monday is 1),
now.unix_s; mode; model.name, model.provider ("" where no model asked).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import cel
import msgspec

from core.types.clock import NS_PER_S

DENY, REQUIRE_ONE, REQUIRE_TWO = "deny", "require_one", "require_two"
AMOUNT = "amount_quote"
ERROR_SHOWN_CHARS = 300
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
# Those that go through lists could be made to take for ever.
FORBIDDEN_FUNCTIONS = frozenset({"map", "filter", "all", "exists", "exists_one", "matches"})
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "principal": ("user_id", "role", "kind", "on_behalf_of"),
    "tool": ("name", "kind"),
    "arguments": (),
    "account": (),
    AMOUNT: (),
    "now": ("hour_utc", "weekday", "unix_s"),
    "mode": (),
    "model": ("name", "provider"),
}


class ConditionError(Exception):
    """A condition that doesn't compile, or can't tell: the message says what CEL said."""


class Expression(msgspec.Struct, frozen=True):
    """A compiled expression. needs_amount: it speaks of what a suggestion is worth."""

    text: str
    program: Any
    needs_amount: bool

    def is_met(self, variables: Mapping[str, Any]) -> bool:
        """Raises ConditionError when it can't tell: the caller then denies."""
        try:
            result = self.program.execute(dict(variables))
        except Exception as error:
            raise ConditionError(str(error)[:ERROR_SHOWN_CHARS]) from error
        if not isinstance(result, bool):
            raise ConditionError(f"it gives {type(result).__name__}, not true or false")
        return result


def compile_expression(text: str) -> Expression:
    """Raises ConditionError that says what is wrong."""
    try:
        program = cel.compile(text)
    except ValueError as error:
        raise ConditionError(f"isn't CEL: {str(error)[:ERROR_SHOWN_CHARS]}") from error
    unknown = [name for name in program.variables() if name not in VARIABLES]
    if unknown:
        raise ConditionError(f"knows no variable {unknown[0]!r}; known are {', '.join(VARIABLES)}")
    forbidden = FORBIDDEN_FUNCTIONS.intersection(program.functions())
    if forbidden:
        raise ConditionError(f"can't use {sorted(forbidden)[0]!r}")
    bare = _QUOTED.sub("''", text)
    for part, fields in VARIABLES.items():
        for field in re.findall(rf"(?<![\w.]){part}\s*\.\s*(\w+)", bare):
            if part != "arguments" and field not in fields:
                known = f"it has {', '.join(fields)}" if fields else "it has no parts"
                raise ConditionError(f"knows no {part}.{field}; {known}")
    return Expression(text, program, AMOUNT in program.variables())


def moment_cells(at_ns: int) -> dict[str, int]:
    """The variable now."""
    moment = datetime.fromtimestamp(at_ns // NS_PER_S, UTC)
    return {"hour_utc": moment.hour, "weekday": moment.isoweekday(), "unix_s": at_ns // NS_PER_S}


def amount_cell(amount_quote: Decimal) -> float:
    """A condition is a judgement, so a double will do; thresholds are compared exactly, elsewhere."""
    return float(amount_quote)
