"""Invariants over arbitrary calls:

- call() never raises; what comes out is a result or a refusal with a code;
- whatever reached the engine or made a suggestion has a record;
- nothing ever reaches execution.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.record import Action
from core.types.codes import ReasonCode
from tests.tools.doubles import House, call
from tests.tools.people import APPROVER, COMPLIANCE, TRADER
from tools.catalogue import build_registry
from tools.contracts import Principal, Role, ToolResult

REGISTRY = build_registry()
TOOLS = {tool.name: tool for tool in REGISTRY}
NOBODY = Principal("user-nobody", "nobody", Role.TRADER, ())
text = st.text(st.characters(), max_size=40) | st.sampled_from(
    ["BTCUSDT", "buy", "\x00", "\ud800", "A" * 5_000, "1e999"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text | st.sampled_from(["0.5", 1, "59000", "bid"])
odd = st.sampled_from([object(), b"bytes", {1, 2}, 10**400])
values = st.recursive(
    scalars | odd, lambda part: st.lists(part, max_size=4) | st.dictionaries(text, part, max_size=4), max_leaves=12
)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Any, Any]:
    name = draw(st.sampled_from(sorted(TOOLS)) | text | st.none() | st.integers())
    if isinstance(name, str) and name in TOOLS:
        fields = st.sampled_from(sorted(TOOLS[name].input_model.model_fields) or ["none"])
        arguments = draw(st.dictionaries(fields | text, values, max_size=8) | values)
    else:
        arguments = draw(values)
    return name, arguments


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One loop for all examples: a loop each would take most of the time."""
    with asyncio.Runner() as runner:
        yield runner


@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(wanted=calls(), principal=st.sampled_from([TRADER, APPROVER, COMPLIANCE, NOBODY]))
def test_a_malformed_call_gives_a_typed_refusal_and_never_an_unrecorded_execution(
    runner: asyncio.Runner, wanted: tuple[Any, Any], principal: Principal
) -> None:
    name, arguments = wanted
    house = House(registry=REGISTRY)
    result = runner.run(house.gateway.call(call(name, arguments, principal)))
    assert isinstance(result, ToolResult)
    actions = house.trail.actions()
    if result.refusal is None:
        assert Action.TOOL_CALLED in actions
    else:
        assert isinstance(result.refusal.code, ReasonCode)
        assert result.refusal.code is not ReasonCode.TOOL_FAILED
        assert result.data == {}
        assert actions[-1] is Action.TOOL_REFUSED
    if house.engine.calls:
        assert actions
    if house.suggestions.rows:
        assert actions[:2] == [Action.TOOL_INTENDED, Action.SUGGESTION_CREATED]
    assert house.engine.executed == []
