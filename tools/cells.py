"""A tool's output as cells: what model_dump(mode="json") makes of it, where every number is text.

Our outputs are built of a few kinds of fields, and a native walk takes half of the time for those. A model that holds
anything else is pydantic's to serialise, which is the oracle as well.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, PlainSerializer, WithJsonSchema

from core._native import cells as cells_natively
from core.types.money import decimal_text
from tools.values import ToolOutput

DEPTH_LIMIT = 16
Shapes = dict[type, tuple[tuple[str, ...], tuple[str, ...]]]
"""Of each model the names of its fields, and of what it computes from them."""

_KNOWN_SETTINGS = {"extra", "frozen"}
_WITHOUT_EFFECT = (WithJsonSchema, BeforeValidator, AfterValidator)
_UNIONS = (Union, types.UnionType)


def as_cells(output: ToolOutput, shapes: Shapes) -> dict[str, Any]:
    """shapes are those of its model: shapes_of."""
    cells: dict[str, Any] = cells_natively(output, shapes, Decimal, decimal_text, DEPTH_LIMIT)
    return output.model_dump(mode="json") if cells is NotImplemented else cells


def shapes_of(model: type[BaseModel]) -> Shapes:
    """Of the model and of all that it holds; empty where any of it may be serialised in another way than it is here."""
    shapes: Shapes = {}
    return shapes if _is_known_model(model, shapes) else {}


def _is_known_model(model: type[BaseModel], shapes: Shapes) -> bool:
    if model in shapes:
        return True
    decorators = model.__pydantic_decorators__
    if decorators.field_serializers or decorators.model_serializers or set(model.model_config) - _KNOWN_SETTINGS:
        return False
    shapes[model] = (tuple(model.model_fields), tuple(model.model_computed_fields))
    return all(
        not field.exclude and _is_known(field.annotation, field.metadata, shapes)
        for field in model.model_fields.values()
    ) and all(
        computed.return_type is str and computed.alias is None for computed in model.model_computed_fields.values()
    )


def _is_known(annotation: Any, metadata: Iterable[Any], shapes: Shapes) -> bool:
    serializers = [each for each in metadata if not _has_no_effect(each)]
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation is int or annotation is Decimal:
        wanted = str if annotation is int else decimal_text
        return len(serializers) == 1 and _serialises_by(serializers[0], wanted)
    if serializers:
        return False
    if annotation in {str, bool, type(None)}:
        return True
    if origin is Annotated:
        return _is_known(parts[0], parts[1:], shapes)
    if origin is Literal:
        return all(type(part) is str for part in parts)
    if origin in _UNIONS:
        return len(parts) == 2 and type(None) in parts and all(_is_known(part, (), shapes) for part in parts)
    if origin is list:
        return _is_known(parts[0], (), shapes)
    if origin is dict:
        return parts[0] is str and _is_known(parts[1], (), shapes)
    return isinstance(annotation, type) and issubclass(annotation, BaseModel) and _is_known_model(annotation, shapes)


def _has_no_effect(metadata: Any) -> bool:
    """On what a value is serialised as."""
    return isinstance(metadata, _WITHOUT_EFFECT) or type(metadata).__module__ == "annotated_types"


def _serialises_by(metadata: Any, function: Any) -> bool:
    return isinstance(metadata, PlainSerializer) and metadata.func is function and metadata.when_used == "always"
