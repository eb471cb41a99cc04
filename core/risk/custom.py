"""Custom rules in CEL (https://cel.dev): when the expression is true, the rule rejects, warns, or wants two approvals.

Variables, all read only (numbers are doubles: a custom rule is a judgement, the built-in limits are exact):
order.side, order.type, order.time_in_force, order.quantity, order.price (0.0 without one), order.notional_quote,
order.reduce_only, order.post_only, order.symbol, order.venue, order.strategy, order.approvals (int);
account.id, account.desk, account.open_orders (int), account.gross_exposure_quote, account.net_exposure_quote;
position.quantity, position.notional_quote; market.bid, market.ask, market.mid, market.last (0.0 when unknown),
market.book_age_ms (int); time.hour_utc, time.weekday (int, Monday is 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cel
import msgspec

REJECT, WARN, REQUIRE_TWO_APPROVALS = "reject", "warn", "require_two_approvals"
CUSTOM_ACTIONS = (REJECT, WARN, REQUIRE_TWO_APPROVALS)
EXPRESSION_LIMIT_CHARS = 1_000
MESSAGE_LIMIT_CHARS = 500
ERROR_SHOWN_CHARS = 300
# Those that go through lists could be made to take for ever.
FORBIDDEN_FUNCTIONS = frozenset({"map", "filter", "all", "exists", "exists_one", "matches"})

EXAMPLE: Mapping[str, Mapping[str, Any]] = {
    "order": {
        "side": "BUY",
        "type": "LIMIT",
        "time_in_force": "GTC",
        "quantity": 1.0,
        "price": 1.0,
        "notional_quote": 1.0,
        "reduce_only": False,
        "post_only": False,
        "symbol": "BTCUSDT",
        "venue": "paper",
        "strategy": "",
        "approvals": 1,
    },
    "account": {
        "id": "acct",
        "desk": "",
        "open_orders": 0,
        "gross_exposure_quote": 0.0,
        "net_exposure_quote": 0.0,
    },
    "position": {"quantity": 0.0, "notional_quote": 0.0},
    "market": {"bid": 1.0, "ask": 1.0, "mid": 1.0, "last": 1.0, "book_age_ms": 0},
    "time": {"hour_utc": 12, "weekday": 1},
}
"""One of each variable: what compiles is tried on it."""


class CustomRuleError(Exception):
    """A rule that doesn't start: the message says what CEL said, or what is wrong."""


class CustomRule(msgspec.Struct, frozen=True):
    name: str
    when: str
    action: str
    message: str
    program: Any

    def is_met(self, variables: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether the rule applies. Raises CustomRuleError when it can't tell: the caller then refuses."""
        try:
            result = self.program.execute(dict(variables))
        except Exception as error:
            raise CustomRuleError(f"rule {self.name!r} failed: {str(error)[:ERROR_SHOWN_CHARS]}") from error
        if not isinstance(result, bool):
            raise CustomRuleError(f"rule {self.name!r} is {type(result).__name__}, not true or false")
        return result


def compile_rule(name: str, when: str, action: str, message: str) -> CustomRule:
    """Compile, and try on an example. Raises CustomRuleError."""
    if len(when) > EXPRESSION_LIMIT_CHARS or len(message) > MESSAGE_LIMIT_CHARS:
        raise CustomRuleError(
            f"an expression has at most {EXPRESSION_LIMIT_CHARS} characters, a message {MESSAGE_LIMIT_CHARS}"
        )
    try:
        program = cel.compile(when)
    except ValueError as error:
        raise CustomRuleError(f"isn't CEL: {str(error)[:ERROR_SHOWN_CHARS]}") from error
    unknown = [variable for variable in program.variables() if variable not in EXAMPLE]
    if unknown:
        raise CustomRuleError(f"knows no variable {unknown[0]!r}; known are {', '.join(EXAMPLE)}")
    forbidden = FORBIDDEN_FUNCTIONS.intersection(program.functions())
    if forbidden:
        raise CustomRuleError(f"can't use {sorted(forbidden)[0]!r}")
    rule = CustomRule(name, when, action, message, program)
    try:
        rule.is_met(EXAMPLE)
    except CustomRuleError as error:
        raise CustomRuleError(f"{error}; every variable is listed in docs/risk.md") from error
    return rule
