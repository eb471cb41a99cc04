"""One valid proposal of each kind, and the shortest way to change it."""

from __future__ import annotations

from typing import Any

from core.authority.proposal import (
    AMEND_PROPOSAL_SCHEMA,
    CANCEL_PROPOSAL_SCHEMA,
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
    CANCEL_PROPOSAL_SCHEMA: {"client_order_id": "vz-1", "stop_price": ""},
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
