"""What holds of every tool that there is: it explains itself, its example works, and its result is what it promised."""

from __future__ import annotations

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from core.text.figures import leaves
from tests.tools.doubles import House
from tests.tools.people import TRADER
from tests.tools.test_history_tools import order
from tools.catalogue import build_registry
from tools.registry import ToolDefinition

TOOLS = [pytest.param(tool, id=tool.name) for tool in build_registry()]


async def example(house: House, tool: ToolDefinition) -> dict[str, Any]:
    """The tool's own, about something that is there."""
    arguments = dict(tool.example)
    if "suggestion_id" in arguments:
        arguments["suggestion_id"] = (await house.suggest()).suggestion_id
    if "client_order_id" in arguments:
        house.engine.known_orders = [order(arguments["client_order_id"])]
    return arguments


def undescribed(schema: Any, path: str = "$") -> list[str]:
    if isinstance(schema, list):
        return [found for item in schema for found in undescribed(item, path)]
    if not isinstance(schema, dict):
        return []
    found = [f"{path}.{name}" for name, item in schema.get("properties", {}).items() if not item.get("description")]
    return found + [gap for name, item in schema.items() for gap in undescribed(item, f"{path}.{name}")]


@pytest.mark.parametrize("tool", TOOLS)
def test_both_schemas_are_json_schema_and_describe_every_field(tool: ToolDefinition) -> None:
    """A field without a description: give it one in its model, or its name a meaning in tools/glossary.py."""
    for schema in (tool.input_schema, tool.output_schema):
        Draft202012Validator.check_schema(schema)
        assert undescribed(schema) == []
    assert tool.input_schema["additionalProperties"] is False
    assert tool.output_schema["additionalProperties"] is False


@pytest.mark.parametrize("tool", TOOLS)
def test_its_description_says_when_to_use_it_and_shows_an_example_that_fits(tool: ToolDefinition) -> None:
    Draft202012Validator(tool.input_schema).validate(dict(tool.example))
    assert "Use it" in tool.description
    assert len(tool.description) > 100
    (described,) = [item for item in House().gateway.describe(TRADER) if item.name == tool.name]
    assert described.description.startswith(tool.description)
    assert "Example: {" in described.description


@pytest.mark.parametrize("tool", TOOLS)
async def test_its_result_is_stamped_fits_its_schema_and_holds_every_number_as_text(tool: ToolDefinition) -> None:
    house = House()
    result = await house.ask(tool.name, **await example(house, tool))
    assert result.refusal is None, result.refusal
    Draft202012Validator(tool.output_schema).validate(result.data)
    assert all(value is None or isinstance(value, str | bool) for _, value in leaves(result.data))
    assert (result.mode, result.as_of_ns) == ("PAPER", house.clock.now_ns())
    assert result.data["as_of_ns"] == str(result.as_of_ns)
    assert result.source
    (scope,) = result.scope
    assert scope.split(":")[0] == tool.scope.value
    assert (":" in scope) == tool.scope.needs_account


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_that_its_description_names_is_there(tool: ToolDefinition) -> None:
    named = set(
        re.findall(r"\b(?:get|list|compute|explain|suggest|search|estimate)_[a-z_]+|\bwhat_if\b", tool.description)
    )
    known = {name for definition in build_registry() for name in (definition.name, *fields_of(definition))}
    assert named - known == set()


def fields_of(tool: ToolDefinition) -> set[str]:
    return set(tool.input_model.model_fields) | set(tool.output_model.model_fields)


SUGGESTING = [pytest.param(tool, id=tool.name) for tool in build_registry() if tool.kind == "suggest"]


@pytest.mark.parametrize("tool", SUGGESTING)
async def test_a_suggestion_of_each_kind_can_be_looked_up_and_is_listed(tool: ToolDefinition) -> None:
    house = House()
    made = await house.ask(tool.name, **await example(house, tool))
    if made.refusal is not None:
        pytest.fail(f"{tool.name}'s example leaves no suggestion: {made.refusal}")
    suggestion_id = made.data["suggestion_id"]
    looked_up = await house.ask("get_suggestion", suggestion_id=suggestion_id)
    assert looked_up.refusal is None, looked_up.refusal
    (row,) = [
        row
        for row in (await house.ask("list_suggestions")).data["suggestions"]
        if row["suggestion_id"] == suggestion_id
    ]
    assert (row["status"], row["kind"]) == ("pending", tool.name.removeprefix("suggest_"))
