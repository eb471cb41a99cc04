"""One valid proposal of each kind, and the shortest way to change it."""

from __future__ import annotations

from typing import Any

from core.authority.proposal import ORDER_PROPOSAL_SCHEMA, PROPOSAL_KINDS, Proposed
from tests.core.approvals import proposal

ORDER_CONDITIONS = {"stop_price": "", "trailing_offset_bps": "", "activation_price": "", "order_expires_at_ns": ""}

TERMS: dict[str, dict[str, str]] = {
    ORDER_PROPOSAL_SCHEMA: ORDER_CONDITIONS,
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
