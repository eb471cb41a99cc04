"""I1: nothing a model can reach places an order.

For every registered tool: its ports hold no way to execution, its source names none, and calling it with every role
never reaches execution at the engine.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys

import pytest

from core.types.ids import new_trace
from tests.tools.doubles import House
from tests.tools.people import APPROVER, COMPLIANCE, IDS, TRADER
from tools.approvals import ExecutionPort
from tools.catalogue import build_registry
from tools.contracts import Principal, ToolCall
from tools.ports import EngineReads, ReadOnlyEngine
from tools.registry import ToolDefinition, ToolPorts

TOOLS = list(build_registry())
ACTS = {"execute_approval", "submit", "cancel", "amend", "cancel_order", "set_kill_switch", "place_order"}
READS_CHANGING_NOTHING = {
    *("status", "instruments", "ticker", "order_book", "klines", "feed_health", "estimate_execution"),
    *("positions", "open_orders", "risk_state", "check_proposal", "trades", "order", "exposure", "what_if"),
    *("mandates", "limit_use", "explain_risk"),
}


def test_the_engine_that_tools_hold_has_read_methods_only() -> None:
    shown = {name for name in dir(ReadOnlyEngine) if not name.startswith("_")}
    assert shown == {name for name in vars(EngineReads) if not name.startswith("_")} == READS_CHANGING_NOTHING
    assert "execute_approval" in vars(ExecutionPort)
    assert "execute_approval" not in shown


def test_no_port_of_a_tool_holds_an_act() -> None:
    house = House()
    ports = house.gateway._ports
    assert isinstance(ports, ToolPorts)
    for field in dataclasses.fields(ports):
        port = getattr(ports, field.name)
        public = {name for name in dir(port) if not name.startswith("_")}
        assert not public & ACTS, field.name
    assert not hasattr(ports.engine, "__dict__")
    with pytest.raises(AttributeError):
        ports.engine.execute_approval  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_no_tools_source_names_an_act_or_imports_the_approval_flow(tool: ToolDefinition) -> None:
    module = sys.modules[tool.run.__module__]
    seen, pending = set(), [module]
    while pending:
        current = pending.pop()
        if current.__name__ in seen or not current.__name__.startswith("tools"):
            continue
        seen.add(current.__name__)
        assert current.__name__ != "tools.approvals"
        for node in ast.walk(ast.parse(inspect.getsource(current))):
            if isinstance(node, ast.Attribute):
                assert node.attr not in ACTS, (current.__name__, node.attr)
            if isinstance(node, ast.ImportFrom) and node.module in sys.modules:
                pending.append(sys.modules[node.module])


@pytest.mark.parametrize("principal", [TRADER, APPROVER, COMPLIANCE], ids=lambda principal: principal.role.value)
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
async def test_no_tool_reaches_execution_whoever_calls_it(tool: ToolDefinition, principal: Principal) -> None:
    house = House()
    result = await house.gateway.call(
        ToolCall(IDS.new_ulid(), tool.name, dict(tool.example), principal, new_trace(IDS))
    )
    assert house.engine.executed == []
    assert set(house.engine.calls) <= READS_CHANGING_NOTHING
    if tool.kind == "suggest" and principal is TRADER:
        assert result.refusal is None
        [row] = house.suggestions.rows.values()
        assert row.status.value == "pending"
