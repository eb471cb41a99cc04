"""One line for each audit record: what a person wants to see of it first."""

from __future__ import annotations

from typing import Any

from audit.record import Action, AuditRecord

LISTED_ITEMS_LIMIT = 4


def summary(record: AuditRecord) -> str:
    """The record's payload in a line, the telling parts first."""
    payload = record.payload
    match record.action:
        case Action.QUESTION_ASKED:
            return f"“{_text(payload, 'question')}”"
        case Action.ANSWER_GIVEN:
            sourced = f"{_text(payload, 'figures_sourced')}/{_text(payload, 'figures')} figures sourced"
            return f"“{_text(payload, 'answer')}” ({sourced}, {_text(payload, 'model')})"
        case Action.TOOL_CALLED | Action.TOOL_INTENDED | Action.TOOL_REFUSED:
            return _tool(payload)
        case _:
            return _plain(payload) or record.resource


def _tool(payload: dict[str, Any]) -> str:
    arguments = payload.get("arguments") or {}
    shown = ", ".join(f"{name}={value}" for name, value in arguments.items()) if isinstance(arguments, dict) else ""
    scope = payload.get("scope") or payload.get("data_scope") or ""
    scope_text = "/".join(map(str, scope)) if isinstance(scope, list) else str(scope)
    parts = [f"{_text(payload, 'tool')}({shown})"]
    if scope_text:
        parts.append(f"scope {scope_text}")
    if payload.get("reason") or payload.get("message"):
        parts.append(str(payload.get("reason") or payload.get("message")))
    return " · ".join(parts)


def _plain(payload: dict[str, Any]) -> str:
    return " · ".join(f"{name} {_value(value)}" for name, value in payload.items() if value not in (None, "", [], {}))


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={item}" for name, item in list(value.items())[:LISTED_ITEMS_LIMIT])
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value[:LISTED_ITEMS_LIMIT])
    return str(value)


def _text(payload: dict[str, Any], name: str) -> str:
    return str(payload.get(name, "?"))
