"""Orders and rules of the kernel as the control plane shows them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from core.portfolio.positions import divide_half_even
from core.types.authority import (
    AdministrationAuthority,
    ApprovalAuthority,
    Authority,
    DerivedAuthority,
    ExternalAuthority,
    MandateAuthority,
    SafetyAuthority,
    SessionAuthority,
)
from core.types.codes import ReasonCode, refuse
from core.types.money import from_scaled
from core.types.views import OrderView, RiskRulesVersionView, RiskRulesView

if TYPE_CHECKING:
    from core.kernel.kernel import Kernel
    from core.orders.machine import Order


def list_orders(
    kernel: Kernel, account_id: str, symbol: str | None, *, include_final: bool, limit: int, now_ns: int
) -> list[OrderView]:
    """An account's orders, newest first: open ones, with include_final also those that are over and still in memory."""
    orders = kernel.orders.values() if include_final else kernel.open_orders()
    found = [
        order for order in orders if order.intent.account_id == account_id and symbol in {None, order.intent.symbol}
    ]
    found.sort(key=lambda order: order.created_ns, reverse=True)
    return [order_view(order, now_ns) for order in found[:limit]]


def find_order(kernel: Kernel, client_order_id: str, now_ns: int) -> OrderView:
    """Raises RefusalError(ORDER_UNKNOWN)."""
    order = kernel.orders.get(client_order_id)
    if order is None:
        known = kernel.knows_order(client_order_id)
        raise refuse(
            ReasonCode.ORDER_UNKNOWN,
            f"Order {client_order_id[:64]} "
            + ("is over and has left the engine's memory; SQL has it." if known else "is unknown to this engine."),
        )
    return order_view(order, now_ns)


def order_view(order: Order, now_ns: int) -> OrderView:
    """Everything that can be known of an order, by what authority it is there included."""
    intent = order.intent
    average = divide_half_even(order.filled_notional, order.filled_quantity) if order.filled_quantity else None
    kind, authority_id = _authority(order.authority, order.suggestion_id)

    def price(value: int | None) -> Decimal | None:
        return None if value is None else from_scaled(value, intent.price_scale)

    return OrderView(
        account_id=intent.account_id,
        symbol=intent.symbol,
        client_order_id=intent.client_order_id,
        venue_order_id=order.venue_order_id,
        side=intent.side,
        order_type=intent.order_type,
        time_in_force=intent.time_in_force,
        quantity=from_scaled(intent.quantity, intent.quantity_scale),
        price=price(intent.price),
        filled_quantity=from_scaled(order.filled_quantity, intent.quantity_scale),
        average_fill_price=price(average),
        status=order.status,
        suggestion_id=order.suggestion_id,
        created_ns=order.created_ns,
        as_of_ns=now_ns,
        venue=intent.venue,
        stop_price=price(intent.stop_price),
        activation_price=price(intent.activation_price),
        trailing_offset_bps=intent.trailing_offset_bps,
        expires_ns=intent.expires_ns,
        post_only=intent.post_only,
        reduce_only=intent.reduce_only,
        strategy_id=intent.strategy_id,
        authority=kind,
        authority_id=authority_id,
        group_id=order.group_id,
        role=order.role,
        parent_id=order.parent_id,
        replaces=order.replaces,
        cancel_requested=order.cancel_requested,
        notional_quote=Decimal(order.notional_quote) if order.notional_quote else None,
        refusal=order.refusal,
    )


def rules_view(kernel: Kernel, now_ns: int) -> RiskRulesView:
    """The rules in force and the versions before them."""
    history = tuple(RiskRulesVersionView(item.version, item.digest_hex, item.document) for item in kernel.rules_history)
    return RiskRulesView(kernel.rules_version, kernel.rules_digest_hex, history, now_ns)


_ID_FIELDS: dict[type[msgspec.Struct], str] = {
    ApprovalAuthority: "suggestion_id",
    SessionAuthority: "session_id",
    MandateAuthority: "mandate_id",
    DerivedAuthority: "parent_id",
    AdministrationAuthority: "document_id",
    SafetyAuthority: "requested_by",
    ExternalAuthority: "found_by",
}


def _authority(authority: Authority | None, suggestion_id: str | None) -> tuple[str, str]:
    if authority is None:
        # Of journals of earlier releases, which knew approvals only.
        return "approval", suggestion_id or ""
    tag = type(authority).__struct_config__.tag
    return str(tag), getattr(authority, _ID_FIELDS[type(authority)])
