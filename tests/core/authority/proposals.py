"""One valid proposal of each kind, and the shortest way to change it."""

from __future__ import annotations

from typing import Any

from core.authority.proposal import (
    AMEND_PROPOSAL_SCHEMA,
    BRACKET_PROPOSAL_SCHEMA,
    CANCEL_LISTED_PROPOSAL_SCHEMA,
    CANCEL_PROPOSAL_SCHEMA,
    CLOSE_PROPOSAL_SCHEMA,
    HEDGE_PROPOSAL_SCHEMA,
    KILL_SWITCH_PROPOSAL_SCHEMA,
    ORDER_PROPOSAL_SCHEMA,
    PROPOSAL_KINDS,
    STRATEGY_CHANGE_PROPOSAL_SCHEMA,
    Proposed,
)
from tests.core.approvals import proposal

ORDER_CONDITIONS = {"stop_price": "", "trailing_offset_bps": "", "activation_price": "", "order_expires_at_ns": ""}

LIMITS = {
    "max_order_notional_quote": "1000000",
    "max_position_notional_quote": "1000000",
    "max_total_notional_quote": "100000000",
    "max_open_orders": "1000000",
}

TERMS: dict[str, dict[str, str]] = {
    ORDER_PROPOSAL_SCHEMA: ORDER_CONDITIONS,
    CLOSE_PROPOSAL_SCHEMA: ORDER_CONDITIONS | {"side": "SELL", "reduce_only": "true", "position_quantity": "0.5"},
    HEDGE_PROPOSAL_SCHEMA: ORDER_CONDITIONS
    | {
        "side": "SELL",
        "hedged_symbol": "BTCUSDT",
        "exposure_quantity": "0.2",
        "exposure_price": "60000",
        "hedge_ratio_bps": "5000",
    },
    BRACKET_PROPOSAL_SCHEMA: {
        "entry_type": "LIMIT",
        "entry_time_in_force": "GTC",
        "entry_limit_price": "60000",
        "entry_trigger_price": "",
        "entry_post_only": "false",
        "take_profit_type": "LIMIT",
        "take_profit_limit_price": "62000",
        "take_profit_trigger_price": "",
        "stop_type": "STOP",
        "stop_limit_price": "",
        "stop_trigger_price": "59000",
        "stop_trailing_offset_bps": "",
    },
    CANCEL_PROPOSAL_SCHEMA: {"client_order_id": "vz-1", "stop_price": ""},
    CANCEL_LISTED_PROPOSAL_SCHEMA: {
        "orders": "vz-1 BUY 0.1 BTCUSDT LIMIT at 60000; vz-2 SELL 0.2 BTCUSDT STOP once 59000"
    },
    AMEND_PROPOSAL_SCHEMA: {
        "client_order_id": "vz-1",
        "filled_quantity": "0",
        "new_quantity": "0.1",
        "new_price": "59000",
        "notional_quote": "5900",
    },
    KILL_SWITCH_PROPOSAL_SCHEMA: {"scope": "account", "state": "HALTED", "reason": "a test"},
    STRATEGY_CHANGE_PROPOSAL_SCHEMA: {
        "mandate_id": "man-1",
        "strategy_id": "maker",
        "action": "revoke",
        **LIMITS,
        **{f"new_{name}": "" for name in LIMITS},
        "reason": "a test",
    },
}
"""What each kind has beside the fields of the first."""


def example(schema: str, /, **changes: Any) -> Proposed:
    """A valid proposal of this schema."""
    kind = PROPOSAL_KINDS[schema]
    first = proposal()
    values = {name: getattr(first, name) for name in kind.__struct_fields__ if hasattr(first, name)}
    return kind(**{**values, **TERMS.get(schema, {}), "schema": schema, **changes})


def order_proposal(**changes: Any) -> Proposed:
    """An order of the second schema: a LIMIT BUY of 0.1 BTC at 60000, unless it is changed."""
    return example(ORDER_PROPOSAL_SCHEMA, **changes)
