"""A proposal in one line, from the fields that are digested: for lists and answers. What is signed is all of them."""

from __future__ import annotations

from collections.abc import Mapping

MANDATE_LIMITS = (
    "max_order_notional_quote",
    "max_position_notional_quote",
    "max_total_notional_quote",
    "max_open_orders",
)


def proposal_summary(fields: Mapping[str, str]) -> str:
    """What is proposed, of whatever kind; an unknown one is named by its schema."""
    kind = fields.get("schema", "").partition("/")[0].removeprefix("veloz.").removesuffix("-proposal")
    match kind:
        case "order":
            return _order(fields)
        case "close":
            return f"close {fields['position_quantity']} {fields['symbol']}: {_order(fields)}"
        case "hedge":
            exposure = f"{fields['exposure_quantity']} {fields['hedged_symbol']} at {fields['exposure_price']}"
            return f"hedge {fields['hedge_ratio_bps']} bps of {exposure}: {_order(fields)}"
        case "bracket":
            return _bracket(fields)
        case "cancel" if "orders" in fields:
            listed = fields["orders"].split("; ")
            of = fields["symbol"] or f"account {fields['account_id']}"
            return f"cancel {len(listed)} open order{'s' if len(listed) > 1 else ''} of {of}: {fields['orders']}"
        case "cancel":
            return f"cancel order {fields['client_order_id']}: {_terms(fields)}"
        case "amend":
            return f"amend order {fields['client_order_id']}: {fields['side']} {fields['symbol']}, " + ", ".join(
                _changes(fields, ("quantity", "price"))
            )
        case "kill-switch":
            whose = "the whole engine" if fields["scope"] == "engine" else f"account {fields['account_id']}"
            return f"set the kill switch of {whose} to {fields['state']}: {fields['reason']}"
        case "strategy-change":
            changes = _changes(fields, MANDATE_LIMITS)
            text = f"{fields['action']} mandate {fields['mandate_id']} of strategy {fields['strategy_id']}"
            return ": ".join([" to ".join([text, ", ".join(changes)] if changes else [text]), fields["reason"]])
        case _:
            return f"a proposal of {fields.get('schema', 'no kind')}"


def _bracket(fields: Mapping[str, str]) -> str:
    entry = f"{fields['side']} {fields['quantity']} {fields['symbol']}, {_leg(fields, 'entry')}"
    exits = [
        f"{words} {_leg(fields, leg)}"
        for leg, words in (("take_profit", "take-profit"), ("stop", "stop"))
        if fields[f"{leg}_type"]
    ]
    return f"{entry}, {fields['entry_time_in_force']}, with {' and '.join(exits)}"


def _leg(fields: Mapping[str, str], leg: str) -> str:
    names = {"price": "limit_price", "stop_price": "trigger_price", "trailing_offset_bps": "trailing_offset_bps"}
    own = {name: fields.get(f"{leg}_{of_leg}", "") for name, of_leg in names.items()}
    return fields[f"{leg}_type"] + _prices(own)


def _order(fields: Mapping[str, str]) -> str:
    flags = " post-only" if fields.get("post_only") == "true" else ""
    flags += " reduce-only" if fields.get("reduce_only") == "true" else ""
    return f"{_terms(fields)}, {fields['time_in_force']}{flags}"


def _terms(fields: Mapping[str, str]) -> str:
    return f"{fields['side']} {fields['quantity']} {fields['symbol']}, {fields['order_type']}{_prices(fields)}"


def _prices(fields: Mapping[str, str]) -> str:
    text = ""
    for name, words in (
        ("price", "at"),
        ("stop_price", "once the last trade reaches"),
        ("trailing_offset_bps", "trailing by bps"),
        ("activation_price", "from"),
    ):
        if fields.get(name):
            text += f" {words} {fields[name]}"
    return text


def _changes(fields: Mapping[str, str], names: tuple[str, ...]) -> list[str]:
    """Old to new, of what changes."""
    return [
        f"{name} {fields[name]} to {fields[f'new_{name}']}"
        for name in names
        if fields.get(f"new_{name}") and fields[f"new_{name}"] != fields[name]
    ]
