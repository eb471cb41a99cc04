"""Views to Protobuf messages and back. Their fields have the same names, so one walk serves all.

Decimals travel as text in plain notation, None as an absent optional field.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import Message

from core.types.money import decimal_text

REFUSAL_KEY = "veloz-refusal"
TRACEPARENT_KEY = "traceparent"
AUTHORIZATION_KEY = "authorization"

M = TypeVar("M", bound=Message)
V = TypeVar("V", bound=msgspec.Struct)


def to_message(view: msgspec.Struct, message_type: type[M]) -> M:
    """Raises ValueError or TypeError when the view has a field that the message lacks: a fault of ours."""
    return message_type(**plain(view))


def from_message(message: Message, view_type: type[V]) -> V:
    """Raises msgspec.ValidationError when the message doesn't hold what the view needs."""
    return msgspec.convert(_fields(message), view_type)


def plain(value: Any) -> Any:
    """A view as plain values: structs as dicts without their None fields, Decimals as text."""
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
        return {name: plain(getattr(value, name)) for name in names if getattr(value, name) is not None}
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return value


def _fields(message: Message) -> dict[str, Any]:
    return {field.name: _value(message, field) for field in message.DESCRIPTOR.fields}


def _value(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_fields(item) if field.message_type is not None else item for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _fields(value) if field.message_type is not None else value
