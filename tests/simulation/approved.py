"""Whether what an approval led to is what was approved: the second opinion on ApprovalDecided, from the signed text and
the model alone."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import msgspec

from core.types.events import (
    ApprovalDecided,
    CancelRequested,
    KillSwitchChanged,
    MandateRevoked,
    MandateTightened,
    OrderAmendRequested,
    OrderClosed,
    OrderIntended,
)
from core.types.orders import OrderIntent
from tests.simulation.model import ITEMS, MANDATE_LIMITS, TIGHTNESS, Known, Model

Said = dict[str, str]


def approval_problem(event: ApprovalDecided, model: Model) -> str | None:
    """Why this isn't what the signed text says; None when it is."""
    said: Said = msgspec.json.decode(event.proposal)
    if (said["suggestion_id"], said["version"]) != (event.suggestion_id, str(event.version)):
        return f"{event.suggestion_id} version {event.version} was decided on with the text of another"
    if event.refusal is not None:
        return "it was refused and led to something" if event.intent or event.caused else None
    kind = said["schema"].partition("/")[0].removeprefix("veloz.").removesuffix("-proposal")
    if event.intent is not None and (kind != "order" or event.caused):
        return f"a {kind} led to an order that goes out at once beside {len(event.caused)} events"
    match kind:
        case "order":
            return _order(event, said)
        case "bracket":
            return _bracket(event.caused, said)
        case "cancel":
            return _shown(said, model) or _cancel(event.caused, said, model)
        case "amend":
            return _shown(said, model) or _amend(event.caused, said)
        case "kill-switch":
            return _kill_switch(event.caused, said, model)
        case "strategy-change":
            return _strategy_change(event.caused, said, model)
        case _:
            return f"nobody here proposes a {kind}"


def _order(event: ApprovalDecided, said: Said) -> str | None:
    if event.intent is not None:
        return _differs(event.intent, _terms(said, ""))
    if len(event.caused) != 1 or not isinstance(event.caused[0], OrderIntended) or not event.caused[0].is_held:
        return f"an order led to {_kinds(event.caused)}"
    return _differs(event.caused[0].intent, _terms(said, ""))


def _terms(said: Said, prefix: str) -> dict[str, Any]:
    item = ITEMS[said["symbol"]]
    return {
        "symbol": said["symbol"],
        "side": said["side"],
        "order_type": said[f"{prefix}order_type"],
        "quantity": _scaled(said["quantity"], item.quantity_scale),
        "price": _scaled(said[f"{prefix}price"], item.price_scale),
        "stop_price": _scaled(said.get(f"{prefix}stop_price", ""), item.price_scale),
        "trailing_offset_bps": int(said.get(f"{prefix}trailing_offset_bps") or 0) or None,
        "expires_ns": int(said.get("order_expires_at_ns") or 0) or None,
        "post_only": said["post_only"] == "true",
        "reduce_only": said["reduce_only"] == "true",
        "strategy_id": "",
    }


def _bracket(caused: Sequence[object], said: Said) -> str | None:
    legs = {event.role: event for event in caused if isinstance(event, OrderIntended)}
    wanted = {"entry", *(role for role in ("take_profit", "stop") if said[f"{role}_type"])}
    if set(legs) != wanted or len(caused) != len(wanted):
        return f"a bracket of {sorted(wanted)} led to {_kinds(caused)}"
    item, other = ITEMS[said["symbol"]], "SELL" if said["side"] == "BUY" else "BUY"
    for role, leg in legs.items():
        problem = _differs(
            leg.intent,
            {
                "symbol": said["symbol"],
                "side": said["side"] if role == "entry" else other,
                "order_type": said[f"{role}_type"],
                "quantity": _scaled(said["quantity"], item.quantity_scale),
                "price": _scaled(said[f"{role}_limit_price"], item.price_scale),
                "stop_price": _scaled(said[f"{role}_trigger_price"], item.price_scale),
                "trailing_offset_bps": int(said.get(f"{role}_trailing_offset_bps") or 0) or None,
                "reduce_only": role != "entry",
            },
        )
        if problem is not None or (role != "entry" and not leg.is_held):
            return problem or f"the {role} goes out before its entry is filled"
    return None


def _shown(said: Said, model: Model) -> str | None:
    """The order has to be as it was shown."""
    known = model.orders.get(said["client_order_id"])
    if known is None:
        return f"{said['client_order_id']} isn't an order"
    item = ITEMS[known.intent.symbol]
    found: tuple[object, ...] = (known.intent.symbol, known.intent.side, known.quantity, known.price)
    shown: tuple[object, ...] = (
        said["symbol"],
        said["side"],
        _scaled(said["quantity"], item.quantity_scale),
        _scaled(said["price"], item.price_scale),
    )
    if "filled_quantity" in said:
        found, shown = (*found, known.filled), (*shown, _scaled(said["filled_quantity"], item.quantity_scale))
    return None if found == shown else f"{said['client_order_id']} was shown as {shown} and is {found}"


def _cancel(caused: Sequence[object], said: Said, model: Model) -> str | None:
    order_id = said["client_order_id"]
    return None if _ends(caused, [model.orders[order_id]]) else f"a cancel of {order_id} led to {_kinds(caused)}"


def _amend(caused: Sequence[object], said: Said) -> str | None:
    item, order_id = ITEMS[said["symbol"]], said["client_order_id"]
    quantity, price = _scaled(said["new_quantity"], item.quantity_scale), _scaled(said["new_price"], item.price_scale)
    match list(caused):
        case [OrderAmendRequested() as asked]:
            is_so = (asked.client_order_id, asked.quantity, asked.price) == (order_id, quantity, price)
        case [OrderIntended(is_held=True) as other, CancelRequested() as end]:
            terms = (other.intent.symbol, other.intent.side, other.intent.quantity, other.intent.price)
            is_so = terms == (said["symbol"], said["side"], quantity, price)
            is_so = is_so and other.replaces == end.client_order_id == order_id
        case _:
            is_so = False
    return None if is_so else f"an amendment of {order_id} to {quantity}@{price} led to {_kinds(caused)}"


def _kill_switch(caused: Sequence[object], said: Said, model: Model) -> str | None:
    is_own = said["scope"] == "account"
    before, wanted = model.account_switch if is_own else model.switch, said["state"]
    if TIGHTNESS[wanted] < TIGHTNESS[before]:
        return f"the switch went from {before} to {wanted}"
    if wanted == before:
        return f"nothing was to change, and it led to {_kinds(caused)}" if caused else None
    first = caused[0] if caused else None
    account_id = said["account_id"] if is_own else ""
    if not isinstance(first, KillSwitchChanged) or (first.state, first.account_id) != (wanted, account_id):
        return f"the switch was to be {wanted}, and it led to {_kinds(caused)}"
    held = [known for known in model.open_orders() if known.is_held] if wanted == "HALTED" else []
    return None if _ends(caused[1:], held) else f"HALTED was to end {len(held)} held orders: {_kinds(caused)}"


def _ends(caused: Sequence[object], orders: list[Known]) -> bool:
    """Whether these are the ends of these orders and nothing else: a held one is over with its cancel."""
    wanted: set[tuple[type, str]] = {(CancelRequested, known.intent.client_order_id) for known in orders}
    wanted |= {(OrderClosed, known.intent.client_order_id) for known in orders if known.is_held}
    found = [(type(event), getattr(event, "client_order_id", None)) for event in caused]
    return len(found) == len(wanted) and set(found) == wanted


def _strategy_change(caused: Sequence[object], said: Said, model: Model) -> str | None:
    mandate = model.mandates.get(said["mandate_id"])
    if mandate is None or mandate.is_over:
        return f"{said['mandate_id']} isn't in force"
    if any(getattr(mandate.terms, name) != said[name] for name in MANDATE_LIMITS):
        return f"{said['mandate_id']} has other limits than were shown"
    match list(caused):
        case [MandateRevoked(mandate_id=name)] if said["action"] == "revoke":
            return None if name == said["mandate_id"] else f"{name} was revoked for {said['mandate_id']}"
        case [MandateTightened() as event] if said["action"] == "tighten":
            wanted = [said[f"new_{name}"] for name in MANDATE_LIMITS]
            found = [getattr(event, name) for name in MANDATE_LIMITS]
            loosens = any(Fraction(getattr(event, name)) > Fraction(said[name]) for name in MANDATE_LIMITS)
            is_so = found == wanted and not loosens and event.mandate_id == said["mandate_id"]
            return None if is_so else f"{said['mandate_id']} was to have {wanted}, and has {found}"
        case _:
            return f"to {said['action']} {said['mandate_id']} led to {_kinds(caused)}"


def _differs(intent: OrderIntent, wanted: dict[str, Any]) -> str | None:
    for name, value in wanted.items():
        if getattr(intent, name) != value:
            return f"{intent.client_order_id} has {name} {getattr(intent, name)}, and {value} was approved"
    return None


def _scaled(text: str, scale: int) -> int | None:
    if not text:
        return None
    value = Fraction(text) * 10**scale
    assert value.denominator == 1, f"{text} has more than {scale} places"
    return int(value)


def _kinds(caused: Sequence[object]) -> str:
    return ", ".join(type(event).__name__ for event in caused) or "nothing"
