"""What the copilot would propose and the approver signs, one builder a kind: the simulated house's own."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from core.authority.proposal import (
    AMEND_PROPOSAL_SCHEMA,
    BRACKET_PROPOSAL_SCHEMA,
    CANCEL_PROPOSAL_SCHEMA,
    KILL_SWITCH_PROPOSAL_SCHEMA,
    ORDER_PROPOSAL_SCHEMA,
    PROPOSAL_KINDS,
    STRATEGY_CHANGE_PROPOSAL_SCHEMA,
    Proposed,
    proposal_bytes,
    proposal_digest,
)
from core.authority.proposal_values import MANDATE_LIMITS
from core.authority.signatures import sign_digest
from core.types.clock import NS_PER_S
from core.types.instruments import Instrument
from core.types.money import decimal_text, from_scaled
from core.types.orders import OrderRequest, OrderRole
from tests.simulation import documents
from tests.simulation.model import Known

HOLDS_S = 120
MAX_DEVIATION_BPS = "50"


class Signed(msgspec.Struct, frozen=True):
    """A proposal with the approver's signature, as it is handed to the engine, and edited by whoever wants another."""

    proposal: Proposed
    content: bytes
    digest: str
    signatures: tuple[tuple[str, bytes], ...]

    @property
    def suggestion_id(self) -> str:
        return self.proposal.suggestion_id

    @property
    def version(self) -> int:
        return int(self.proposal.version)


def signed(proposal: Proposed) -> Signed:
    content = proposal_bytes(proposal)
    digest = proposal_digest(content)
    return Signed(proposal, content, digest, (("approver", sign_digest(documents.APPROVER_SEED, digest)),))


def edited(before: Signed, now_ns: int) -> Signed:
    """The next version of the same, by somebody else."""
    changes = {"version": str(before.version + 1), "edited_by": documents.APPROVER, **_times(now_ns)}
    return signed(msgspec.structs.replace(before.proposal, **changes))


def order(suggestion_id: str, request: OrderRequest, mid: Decimal, item: Instrument, now_ns: int) -> Signed:
    """An order of any type, in the second schema."""
    quantity = from_scaled(request.quantity, item.quantity_scale)
    named = [from_scaled(price, item.price_scale) for price in (request.price, request.stop_price) if price]
    return _of(
        ORDER_PROPOSAL_SCHEMA,
        suggestion_id,
        now_ns,
        **_market(item, mid, quantity * max([mid, *named])),
        side=request.side,
        order_type=request.order_type,
        time_in_force=request.time_in_force,
        quantity=decimal_text(quantity),
        price=_price(request.price, item),
        post_only=_flag(request.post_only),
        reduce_only=_flag(request.reduce_only),
        stop_price=_price(request.stop_price, item),
        trailing_offset_bps=_whole(request.trailing_offset_bps),
        activation_price="",
        order_expires_at_ns=_whole(request.expires_ns),
    )


def bracket(
    suggestion_id: str, legs: dict[OrderRole, OrderRequest], mid: Decimal, item: Instrument, now_ns: int
) -> Signed:
    entry, profit, stop = legs[OrderRole.ENTRY], legs[OrderRole.TAKE_PROFIT], legs[OrderRole.STOP]
    quantity = from_scaled(entry.quantity, item.quantity_scale)
    price = mid if entry.price is None else from_scaled(entry.price, item.price_scale)
    return _of(
        BRACKET_PROPOSAL_SCHEMA,
        suggestion_id,
        now_ns,
        **_market(item, mid, quantity * max(mid, price)),
        side=entry.side,
        quantity=decimal_text(quantity),
        entry_type=entry.order_type,
        entry_time_in_force=entry.time_in_force,
        entry_limit_price=_price(entry.price, item),
        entry_trigger_price=_price(entry.stop_price, item),
        entry_post_only=_flag(entry.post_only),
        take_profit_type=profit.order_type,
        take_profit_limit_price=_price(profit.price, item),
        take_profit_trigger_price=_price(profit.stop_price, item),
        stop_type=stop.order_type,
        stop_limit_price=_price(stop.price, item),
        stop_trigger_price=_price(stop.stop_price, item),
        stop_trailing_offset_bps=_whole(stop.trailing_offset_bps),
    )


def cancel(suggestion_id: str, known: Known, item: Instrument, now_ns: int) -> Signed:
    return _of(
        CANCEL_PROPOSAL_SCHEMA,
        suggestion_id,
        now_ns,
        **_shown(known, item),
        stop_price=_price(known.intent.stop_price, item),
    )


def amend(
    suggestion_id: str, known: Known, quantity: int, price: int, mid: Decimal, item: Instrument, now_ns: int
) -> Signed:
    new_quantity, new_price = from_scaled(quantity, item.quantity_scale), from_scaled(price, item.price_scale)
    return _of(
        AMEND_PROPOSAL_SCHEMA,
        suggestion_id,
        now_ns,
        **(_market(item, mid, new_quantity * new_price) | _shown(known, item)),
        filled_quantity=decimal_text(from_scaled(known.filled, item.quantity_scale)),
        new_quantity=decimal_text(new_quantity),
        new_price=decimal_text(new_price),
    )


def kill_switch(suggestion_id: str, scope: str, state: str, now_ns: int) -> Signed:
    return _of(KILL_SWITCH_PROPOSAL_SCHEMA, suggestion_id, now_ns, scope=scope, state=state, reason="simulated")


def strategy_change(
    suggestion_id: str, mandate_id: str, strategy: str, shown: dict[str, str], wanted: dict[str, str], now_ns: int
) -> Signed:
    """Tighter limits of a mandate; its end without any."""
    return _of(
        STRATEGY_CHANGE_PROPOSAL_SCHEMA,
        suggestion_id,
        now_ns,
        mandate_id=mandate_id,
        strategy_id=strategy,
        action="tighten" if wanted else "revoke",
        reason="simulated",
        **shown,
        **{f"new_{name}": wanted.get(name, "") for name in MANDATE_LIMITS},
    )


def _of(schema: str, suggestion_id: str, now_ns: int, **terms: str) -> Signed:
    kind: Any = PROPOSAL_KINDS[schema]
    return signed(
        kind(
            schema=schema,
            suggestion_id=suggestion_id,
            version="1",
            environment=documents.ENVIRONMENT,
            mode=documents.MODE,
            engine_id=documents.ENGINE_ID,
            account_id=documents.ACCOUNT,
            asker_id=documents.TRADER,
            run_id="run-sim",
            trace_id="",
            **_times(now_ns),
            **terms,
        )
    )


def _times(now_ns: int) -> dict[str, str]:
    return {"created_at_ns": str(now_ns), "expires_at_ns": str(now_ns + HOLDS_S * NS_PER_S)}


def _market(item: Instrument, mid: Decimal, notional: Decimal) -> dict[str, str]:
    return {
        "venue": item.venue,
        "symbol": item.symbol,
        "instrument_version": "1",
        "notional_quote": decimal_text(notional),
        "reference_price": decimal_text(mid),
        "max_deviation_bps": MAX_DEVIATION_BPS,
    }


def _shown(known: Known, item: Instrument) -> dict[str, str]:
    return {
        "venue": item.venue,
        "symbol": item.symbol,
        "client_order_id": known.intent.client_order_id,
        "side": known.intent.side,
        "order_type": known.intent.order_type,
        "quantity": decimal_text(from_scaled(known.quantity, item.quantity_scale)),
        "price": _price(known.price, item),
    }


def _price(price: int | None, item: Instrument) -> str:
    return "" if price is None else decimal_text(from_scaled(price, item.price_scale))


def _whole(value: int | None) -> str:
    return "" if value is None else str(value)


def _flag(value: bool) -> str:
    return "true" if value else "false"
