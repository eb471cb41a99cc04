"""One line for each audit record: what a person wants to see of it first."""

from __future__ import annotations

from typing import Any

from audit.record import Action, AuditRecord

DIGEST_DIGITS_SHOWN = 12
LISTED_ITEMS_LIMIT = 6


def summary(record: AuditRecord) -> str:
    """The record's payload in a line, the telling parts first."""
    payload = record.payload
    match record.action:
        case Action.QUESTION_ASKED:
            return f"“{_get(payload, 'question')}”"
        case Action.ANSWER_GIVEN:
            sourced = f"{_get(payload, 'figures_sourced')} of {_get(payload, 'figures')} figures sourced"
            return f"{sourced}: “{' '.join(_get(payload, 'answer').split())}”"
        case Action.TOOL_CALLED | Action.TOOL_INTENDED | Action.TOOL_REFUSED:
            return _tool(payload)
        case Action.SUGGESTION_CREATED:
            checks = _get(payload, "pre_trade").get("checks", []) if isinstance(payload.get("pre_trade"), dict) else []
            return f"digest {_digest(payload, 'digest')}, {_checks(checks)}"
        case Action.SUGGESTION_APPROVED:
            return (
                f"digest {_digest(payload, 'digest')} signed with {_get(payload, 'key_id')} ({_get(payload, 'method')})"
            )
        case Action.APPROVAL_REFUSED | Action.RUN_FAILED:
            return _get(payload, "message") if "message" in payload else _plain(payload)
        case Action.RISK_DECIDED:
            return f"{_get(payload, 'decision')}: {_checks(payload.get('checks', []))}"
        case Action.ORDER_INTENDED:
            return _order(payload.get("intent", {}))
        case Action.ORDER_ACCEPTED:
            return f"venue order {_get(payload, 'venue_order_id')}"
        case Action.ORDER_FILLED:
            filled = f"{_get(payload, 'side')} {_get(payload, 'quantity')} {_get(payload, 'symbol')}"
            fee = f"fee {_get(payload, 'fee')} {_get(payload, 'fee_asset')}"
            return f"{filled} at {_get(payload, 'price')}, {fee}, {_get(payload, 'status')}"
        case _:
            return _plain(payload) or record.resource


def _tool(payload: dict[str, Any]) -> str:
    arguments = payload.get("arguments")
    pairs = sorted(arguments.items(), key=_place) if isinstance(arguments, dict) else ()
    shown = " ".join(str(value) if name in _SPEAKS_FOR_ITSELF else f"{name}={value}" for name, value in pairs)
    scope = payload.get("data_scope")
    scope_text = f" on {', '.join(map(str, scope))}" if isinstance(scope, list) and scope else ""
    reason = f": {payload['message']}" if "message" in payload else ""
    return f"{_get(payload, 'tool')}({shown}){scope_text}{reason}"


_SPEAKS_FOR_ITSELF = ("side", "quantity", "symbol", "order_type")


def _place(argument: tuple[str, Any]) -> tuple[int, str]:
    """What an order is first, then the rest by name; its rationale, which is prose, at the end."""
    name = argument[0]
    if name in _SPEAKS_FOR_ITSELF:
        return _SPEAKS_FOR_ITSELF.index(name), name
    return len(_SPEAKS_FOR_ITSELF) + (name == "rationale"), name


def _order(intent: Any) -> str:
    if not isinstance(intent, dict):
        return ""
    price = f" at {intent['price']}" if intent.get("price") else ""
    order = f"{_get(intent, 'side')} {_get(intent, 'quantity')} {_get(intent, 'symbol')} {_get(intent, 'order_type')}"
    return f"{order}{price} {_get(intent, 'time_in_force')} as {_get(intent, 'client_order_id')}"


def _checks(checks: Any) -> str:
    if not isinstance(checks, list):
        return ""
    failed = [check for check in checks if isinstance(check, dict) and not check.get("passed")]
    if not failed:
        return f"{len(checks)} risk checks passed"
    named = "; ".join(
        f"{_get(item, 'name')} limit {_get(item, 'limit')} actual {_get(item, 'actual')}" for item in failed
    )
    return f"{len(failed)} of {len(checks)} risk checks failed: {named}"


def _plain(payload: dict[str, Any]) -> str:
    shown = [(name, value) for name, value in payload.items() if isinstance(value, str) and name not in _NOT_SHOWN]
    return ", ".join(f"{name} {value}" for name, value in shown[:LISTED_ITEMS_LIMIT])


_NOT_SHOWN = frozenset({"span_id", "policy_version"})


def _digest(payload: dict[str, Any], name: str) -> str:
    return f"{str(payload.get(name, '?'))[:DIGEST_DIGITS_SHOWN]}…"


def _get(payload: dict[str, Any], name: str) -> Any:
    return payload.get(name, "?")
