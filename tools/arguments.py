"""Arguments as they came in: bounded and turned to text before anything else sees them.

A caller may send anything. What goes on from here to validation and to the audit trail is finite, valid Unicode and
of known depth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from core._native import is_text_only
from core.types.codes import ReasonCode, RefusalError, refuse
from tools.registry import ToolDefinition
from tools.values import ToolInput

ARGUMENTS_LIMIT = 64
TEXT_LIMIT_CHARS = 4_000
ITEMS_LIMIT = 64
DEPTH_LIMIT = 6
NODES_LIMIT = 500
PROBLEMS_SHOWN_LIMIT = 5
PROBLEM_LIMIT_CHARS = 300
FLAT = 1
PATH_LIMIT_CHARS = 200


def validate(definition: ToolDefinition, arguments: object) -> ToolInput:
    """Raises RefusalError(TOOL_ARGUMENTS_INVALID) that names each argument and what is wrong with it."""
    if type(arguments) is dict and _is_flat_and_bounded(arguments):
        bounded: Mapping[str, Any] = arguments
    else:
        bounded = _bounded(definition, arguments)
    try:
        return definition.input_model.model_validate(dict(bounded))
    except ValidationError as error:
        raise refuse(
            ReasonCode.TOOL_ARGUMENTS_INVALID, f"The arguments of {definition.name} are wrong: {_problems(error)}."
        ) from error


def _bounded(definition: ToolDefinition, arguments: object) -> Mapping[str, Any]:
    if not isinstance(arguments, Mapping) or not all(isinstance(name, str) for name in arguments):
        raise refuse(
            ReasonCode.TOOL_ARGUMENTS_INVALID,
            f"The arguments of {definition.name} must be one JSON object.",
            actual=type(arguments).__name__,
        )
    if not is_bounded(arguments):
        where = invalid_text_path(arguments)
        if where is not None:
            raise refuse_invalid_text(definition.name, where)
        raise refuse(
            ReasonCode.TOOL_ARGUMENTS_INVALID,
            f"The arguments of {definition.name} are too large or too deep. Send less.",
            limit=str(TEXT_LIMIT_CHARS),
            unit="characters an argument",
        )
    return arguments


def refuse_invalid_text(tool: str, where: str) -> RefusalError:
    return refuse(
        ReasonCode.TOOL_ARGUMENTS_INVALID,
        f"The arguments of {tool} hold at {where} what is no valid text: half of a surrogate pair, or the character "
        "NUL. Send whole Unicode characters.",
        actual=where,
        unit="argument",
    )


def is_bounded(value: object) -> bool:
    """Whether value is JSON-like, within the limits above, and valid Unicode throughout."""
    if type(value) is dict and _is_flat_and_bounded(value):
        return True
    left = NODES_LIMIT
    pending: list[tuple[object, int]] = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        left -= 1
        if left < 0 or depth > DEPTH_LIMIT:
            return False
        if isinstance(item, str):
            if len(item) > TEXT_LIMIT_CHARS or not _is_valid_text(item):
                return False
        elif isinstance(item, Mapping):
            if len(item) > ARGUMENTS_LIMIT:
                return False
            pending.extend((part, depth + 1) for pair in item.items() for part in pair)
        elif isinstance(item, list | tuple):
            if len(item) > ITEMS_LIMIT:
                return False
            pending.extend((part, depth + 1) for part in item)
        elif isinstance(item, int) and not isinstance(item, bool):
            if abs(item) >= 1 << 64:
                return False
        elif not isinstance(item, float | bool | None):
            return False
    return True


def invalid_text_path(value: object) -> str | None:
    """Where the first text is that isn't valid Unicode or holds a NUL, as `$.levels[0].note`; None where there is none
    within NODES_LIMIT parts. A name that isn't valid is told as its place's `?`."""
    pending: list[tuple[object, str]] = [(value, "$")]
    for _ in range(NODES_LIMIT):
        if not pending:
            return None
        item, path = pending.pop()
        if isinstance(item, str) and not _is_valid_text(item):
            return plain_text(path, PATH_LIMIT_CHARS)
        if isinstance(item, Mapping):
            for name, part in reversed(list(item.items())[:ARGUMENTS_LIMIT]):
                if isinstance(name, str) and not _is_valid_text(name):
                    pending.append((name, f"{path}.?"))
                else:
                    pending.append((part, f"{path}.{name}"))
        elif isinstance(item, list | tuple):
            pending.extend((part, f"{path}[{index}]") for index, part in reversed(list(enumerate(item[:ITEMS_LIMIT]))))
    return None


def _is_flat_and_bounded(arguments: dict[Any, Any]) -> bool:
    """What most calls have: a few names with a short plain text each. False says nothing."""
    if len(arguments) > ARGUMENTS_LIMIT:
        return False
    for pair in arguments.items():
        for text in pair:
            if type(text) is not str or len(text) > TEXT_LIMIT_CHARS or not text.isascii() or "\x00" in text:
                return False
    return True


def as_record(arguments: object) -> Any:
    """Arguments for the audit record: as text, or a word that says why they aren't there."""
    if not isinstance(arguments, Mapping):
        return f"<not an object: {type(arguments).__name__}>"
    if not is_bounded(arguments):
        where = invalid_text_path(arguments)
        return "<too large or too deep>" if where is None else f"<not valid text at {where}>"
    return bounded_as_record(arguments)


def bounded_as_record(arguments: Mapping[str, Any]) -> Any:
    """The same for arguments that validate has let through."""
    if type(arguments) is dict and is_text_only(arguments, FLAT):
        return dict(arguments)
    return _as_text(arguments)


def plain_text(value: object, limit_chars: int) -> str:
    """Any value as bounded, valid text; for names that come from outside."""
    text = value if isinstance(value, str) else f"<{type(value).__name__}>"
    if type(text) is str and len(text) <= limit_chars and text.isascii() and "\x00" not in text:
        return text
    return text[:limit_chars].encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def _as_text(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return {str(name): _as_text(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_text(item) for item in value]
    return str(value)


def _is_valid_text(text: str) -> bool:
    if "\x00" in text:
        return False  # PostgreSQL can't hold it
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _problems(error: ValidationError) -> str:
    shown = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False)[:PROBLEMS_SHOWN_LIMIT]:
        where = ".".join(str(part) for part in problem["loc"])
        what = problem["msg"].removeprefix("Value error, ")
        shown.append(f"{where}: {what}" if where else what)
    return plain_text("; ".join(shown), PROBLEM_LIMIT_CHARS)
