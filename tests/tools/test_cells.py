"""The native walk over an output gives what pydantic gives, in the same order, for every tool there is.

Invariants: of each tool's output the walk knows all kinds of fields; what it makes of any output of that shape equals
model_dump(mode="json") in value, type and order; a shape or a value that it doesn't know is left to pydantic.
"""

from __future__ import annotations

import types
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, computed_field, field_serializer

from core._native import cells as cells_natively
from core.types.money import decimal_text
from tools.catalogue import build_registry
from tools.cells import DEPTH_LIMIT, as_cells, shapes_of
from tools.registry import ToolDefinition
from tools.values import Cells, DecimalText, ToolOutput, WholeText

TOOLS = list(build_registry())
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [Decimal(text) for text in ("0", "-0", "-0.00", "100", "1.500", "1E+3", "1E-9", "-1.20E+2", "0.000", "5E-324")]
)
TIMES_NS = st.integers(0, 4_102_444_800_000_000_000)


def values_of(annotation: Any, name: str) -> st.SearchStrategy[Any]:
    origin, parts = get_origin(annotation), get_args(annotation)
    simple = {str: st.text(max_size=8), bool: st.booleans(), Decimal: DECIMALS, type(None): st.none()}
    if name == "as_of_ns":
        return TIMES_NS
    if annotation in simple:
        return simple[annotation]
    if annotation is int:
        return st.integers(0, 90)
    if origin is Annotated:
        return values_of(parts[0], "")
    if origin is Literal:
        return st.sampled_from(parts)
    if origin in (Union, types.UnionType):
        return st.one_of(*(values_of(part, "") for part in parts))
    if origin is list:
        return st.lists(values_of(parts[0], ""), max_size=2)
    if origin is dict:
        return st.dictionaries(st.text(max_size=4), values_of(parts[1], ""), max_size=2)
    return outputs_of(annotation)


def outputs_of(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    return st.builds(model, **{name: values_of(field.annotation, name) for name, field in model.model_fields.items()})


def natively(output: BaseModel, model: type[BaseModel] | None = None) -> Any:
    return cells_natively(output, shapes_of(model or type(output)), Decimal, decimal_text, DEPTH_LIMIT)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_every_tools_output_becomes_what_pydantic_makes_of_it(tool: ToolDefinition, data: st.DataObject) -> None:
    output = data.draw(outputs_of(tool.output_model))
    assert repr(natively(output)) == repr(output.model_dump(mode="json"))


class Amounts(Cells):
    exact: DecimalText
    count: WholeText


class Report(ToolOutput):
    amounts: list[Amounts]
    best: Amounts | None = None
    names: dict[str, str] = {}


@settings(deadline=None)
@given(DECIMALS, st.integers(-(10**40), 10**40))
@example(Decimal("-0.0"), 0)
@example(Decimal("1E+30"), -1)
@example(Decimal("1234567890123456789.123456789000"), 1)
def test_numbers_are_told_as_everywhere(exact: Decimal, count: int) -> None:
    assert natively(Amounts(exact=exact, count=count)) == {"exact": decimal_text(exact), "count": str(count)}


class Word(StrEnum):
    ONE = "one"


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "output",
    [
        Report.model_construct(as_of_ns=1, amounts=[], names={"a": Word.ONE}),
        Report.model_construct(as_of_ns=1, amounts=[], names={"a": Text("b")}),
        Report.model_construct(as_of_ns=1, amounts=[], names={Text("b"): "a"}),
        Report.model_construct(as_of_ns=1, amounts=(), names={}),
        Report.model_construct(as_of_ns=1, amounts=[], best=Report(as_of_ns=1, amounts=[]), names={}).model_copy(
            update={"more": "x"}
        ),
    ],
    ids=["an enum", "a kind of text", "a name that is a kind of text", "a tuple", "a field more"],
)
def test_a_value_that_isnt_known_is_left_to_pydantic(output: Report) -> None:
    assert natively(output) is NotImplemented


def test_what_is_left_to_pydantic_comes_out_all_the_same() -> None:
    class Wider(Report):
        more: str = "x"

    output = Wider(as_of_ns=1, amounts=[Amounts(exact=Decimal("1.50"), count=2)])
    assert natively(output, Report) is NotImplemented
    assert as_cells(output, shapes_of(Report)) == output.model_dump(mode="json")
    assert as_cells(output, {}) == output.model_dump(mode="json")


class Plain(Cells):
    count: int


class Float(Cells):
    ratio: float


class When(Cells):
    at: datetime


class OtherText(Cells):
    exact: Annotated[Decimal, PlainSerializer(str, return_type=str)]


class Sometimes(Cells):
    exact: Annotated[Decimal, PlainSerializer(decimal_text, return_type=str, when_used="unless-none")]


class TextByAFunction(Cells):
    name: Annotated[str, PlainSerializer(str.upper, return_type=str)]


class Several(Cells):
    name: str | bool


class Pair(Cells):
    names: tuple[str, str]


class Numbered(Cells):
    choice: Literal[1, 2]


class ByMethod(Cells):
    name: str

    @field_serializer("name")
    def shout(self, name: str) -> str:
        return name.upper()


class Configured(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_enum_values=True)
    name: str


class Hidden(Cells):
    name: str = Field(exclude=True)


class Counted(Cells):
    name: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def length(self) -> int:
        return len(self.name)


class Deep(Cells):
    inner: list[Plain]


@pytest.mark.parametrize(
    "model",
    [
        *(Plain, Float, When, OtherText, Sometimes, TextByAFunction, Several, Pair, Numbered, ByMethod, Configured),
        *(Hidden, Counted, Deep),
    ],
    ids=lambda model: model.__name__,
)
def test_a_shape_that_isnt_known_is_left_to_pydantic(model: type[BaseModel]) -> None:
    assert shapes_of(model) == {}


def test_an_output_is_copied_and_never_changed() -> None:
    output = Report(as_of_ns=1, amounts=[Amounts(exact=Decimal(1), count=2)], names={"a": "b"})
    before = output.model_dump_json()
    cells = as_cells(output, shapes_of(Report))
    cells["names"]["a"] = "changed"
    cells["amounts"].append("changed")
    assert output.model_dump_json() == before
