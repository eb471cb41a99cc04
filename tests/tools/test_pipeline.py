"""The order of the pipeline's steps, and what comes out when one of them says no."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import msgspec
import pytest
import rfc8785

from audit.record import Action
from core.types.codes import ReasonCode, RefusalError, refuse
from tests.tools.doubles import House, call
from tests.tools.people import ACCOUNT, APPROVER, COMPLIANCE, TRADER
from tools.catalogue import build_registry
from tools.contracts import Principal, Role
from tools.limits import GatewayLimits, Limiter
from tools.pipeline import result_digest
from tools.registry import DataScope, Registry, ToolContext, ToolDefinition
from tools.values import ToolInput, ToolOutput


class Nothing(ToolInput):
    pass


class Note(ToolOutput):
    note: str


def tool(run: Any, **changes: Any) -> Registry:
    """A registry whose get_ticker is another function; the policy knows that name."""
    values: dict[str, Any] = {
        "name": "get_ticker",
        "version": "1",
        "kind": "read",
        "description": "A test's.",
        "input_model": Nothing,
        "output_model": Note,
        "run": run,
        "roles": frozenset(Role),
        "scope": DataScope.MARKET,
        "timeout_ms": 1_000,
    }
    return Registry([ToolDefinition(**(values | changes))])


def saying(text: str) -> Any:
    async def run(context: ToolContext, arguments: Nothing) -> Note:
        return Note(as_of_ns=context.ports.clock.now_ns(), note=text)

    return run


@pytest.mark.parametrize("name", ["get_tickers", "", None, 7])
def test_a_tool_that_there_is_not_is_refused_with_those_there_are(name: object) -> None:
    registry = tool(saying("hello"))
    with pytest.raises(RefusalError, match=r"The tools are: get_ticker\.") as caught:
        registry.get(name)
    assert caught.value.refusal.code is ReasonCode.TOOL_UNKNOWN
    assert registry.get("get_ticker").name == "get_ticker"


async def test_a_read_is_recorded_then_stored_then_released() -> None:
    house = House()
    result = await house.ask("get_ticker", symbol="BTCUSDT")
    assert result.refusal is None
    assert house.trail.log == ["tool.called", "store"]
    record = house.trail.records[0]
    assert record.payload["result_digest"] == result.digest_hex == result_digest(result.data)
    assert record.payload["tool"] == "get_ticker"
    assert record.payload["schema_digest"] == build_registry().get("get_ticker").schema_digest_hex
    assert record.payload["arguments"] == {"symbol": "BTCUSDT"}
    assert record.payload["data_scope"] == ["market"]
    assert {"as_of_ns", "data_age_ms", "duration_ms"} <= record.payload.keys()
    stored = house.results.stored[result.call_id]
    assert stored.canonical == rfc8785.dumps(result.data)
    assert stored.account_id is None


async def test_a_suggestion_is_intended_durably_before_it_executes() -> None:
    house = House()
    await house.suggest()
    assert house.trail.log == ["tool.intended", "suggestion.created", "tool.called", "store"]


async def test_a_suggestion_whose_intent_cannot_be_recorded_never_executes() -> None:
    house = House()
    house.trail.failing_on = {Action.TOOL_INTENDED}
    result = await house.ask("suggest_order", symbol="BTCUSDT", side="buy", quantity="1", price="59000")
    assert result.refusal.code is ReasonCode.SERVICE_AUDIT_UNAVAILABLE
    assert house.engine.calls == []
    assert house.suggestions.rows == {}


async def test_a_result_that_cannot_be_recorded_is_withheld() -> None:
    house = House()
    house.trail.failing_on = {Action.TOOL_CALLED}
    result = await house.ask("get_ticker", symbol="BTCUSDT")
    assert result.refusal.code is ReasonCode.SERVICE_AUDIT_UNAVAILABLE
    assert result.data == {}
    assert house.results.stored == {}
    house.trail.failing_on = set()
    assert (await house.ask("get_ticker", symbol="BTCUSDT")).refusal is None


async def test_a_trail_that_breaks_in_an_unknown_way_counts_as_unavailable() -> None:
    house = House()
    house.trail.breaking_on = {Action.TOOL_CALLED, Action.TOOL_REFUSED}
    result = await house.ask("get_ticker", symbol="BTCUSDT")
    assert result.refusal.code is ReasonCode.SERVICE_AUDIT_UNAVAILABLE
    assert "hunter2" not in result.refusal.message


async def test_a_refusal_that_cannot_be_recorded_says_so() -> None:
    house = House()
    house.trail.failing_on = {Action.TOOL_REFUSED}
    result = await house.ask("get_ticker", symbol="NOPE")
    assert result.refusal.code is ReasonCode.SERVICE_AUDIT_UNAVAILABLE


async def test_a_result_that_cannot_be_stored_is_withheld_and_no_record_claims_it() -> None:
    house = House()
    house.results.failing = refuse(ReasonCode.SERVICE_AUDIT_UNAVAILABLE, "The audit trail can't be written.")
    result = await house.ask("get_ticker", symbol="BTCUSDT")
    assert result.refusal.code is ReasonCode.SERVICE_AUDIT_UNAVAILABLE
    assert result.data == {}
    assert house.trail.log == []
    house.results.failing = None
    assert (await house.ask("get_ticker", symbol="BTCUSDT")).refusal is None


async def test_a_call_id_that_was_used_is_refused_which_is_recorded_and_changes_nothing() -> None:
    house = House()
    sent = call("get_ticker", {"symbol": "BTCUSDT"})
    first = await house.gateway.call(sent)
    again = await house.gateway.call(sent)
    assert again.refusal is not None
    assert again.refusal.code is ReasonCode.REQUEST_INVALID
    assert house.trail.log == ["tool.called", "store", "tool.refused"]
    assert house.results.stored[sent.call_id].digest_hex == first.digest_hex


@pytest.mark.parametrize("principal", [APPROVER, COMPLIANCE])
async def test_authorisation_comes_before_validation(principal: Principal) -> None:
    house = House()
    result = await house.ask("suggest_order", principal, nonsense=1)
    assert result.refusal.code is ReasonCode.TOOL_NOT_PERMITTED
    assert result.refusal.actual == principal.role.value
    assert house.trail.actions() == [Action.TOOL_REFUSED]


async def test_a_tool_over_a_foreign_account_is_refused_before_anything_is_read() -> None:
    house = House()
    result = await house.ask("get_positions", account_id="acct-other")
    assert result.refusal.code is ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE
    assert result.scope == ()
    assert house.engine.calls == []
    assert house.trail.records[0].account_id is None


async def test_the_only_account_is_the_default_and_several_must_be_named() -> None:
    house = House()
    assert (await house.ask("get_positions")).data["account_id"] == ACCOUNT
    two = msgspec.structs.replace(TRADER, account_ids=(ACCOUNT, "acct-2"))
    assert (await house.ask("get_positions", two)).refusal.code is ReasonCode.TOOL_ARGUMENTS_INVALID
    assert (await house.ask("get_positions", two, account_id="acct-2")).scope == ("account:acct-2",)
    none = msgspec.structs.replace(TRADER, account_ids=())
    assert (await house.ask("get_positions", none)).refusal.code is ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE


async def test_validation_comes_before_rate_and_budget() -> None:
    house = House(max_calls_per_run=1)
    for _ in range(3):
        refused = await house.ask("get_ticker", run_id="run-1", symbol="BTCUSDT", depth=3)
        assert refused.refusal.code is ReasonCode.TOOL_ARGUMENTS_INVALID
    assert (await house.ask("get_ticker", run_id="run-1", symbol="BTCUSDT")).refusal is None


async def test_a_run_has_a_budget_of_calls() -> None:
    house = House(max_calls_per_run=6)
    for _ in range(6):
        assert (await house.ask("get_ticker", run_id="run-1", symbol="BTCUSDT")).refusal is None
    calls_so_far = len(house.engine.calls)
    refused = await house.ask("get_ticker", run_id="run-1", symbol="BTCUSDT")
    assert refused.refusal.code is ReasonCode.TOOL_BUDGET_EXCEEDED
    assert (refused.refusal.limit, refused.refusal.actual) == ("6", "7")
    assert len(house.engine.calls) == calls_so_far
    assert (await house.ask("get_ticker", run_id="run-2", symbol="BTCUSDT")).refusal is None


async def test_a_principal_has_a_rate_for_each_tool_that_refills() -> None:
    house = House()
    codes = [(await house.ask("get_ticker", symbol="BTCUSDT")).refusal for _ in range(41)]
    assert codes[:40] == [None] * 40
    assert codes[40] is not None
    assert codes[40].code is ReasonCode.TOOL_RATE_EXCEEDED
    assert (await house.ask("get_ticker", APPROVER, symbol="BTCUSDT")).refusal is None
    assert (await house.ask("list_instruments")).refusal is None
    house.clock.advance_ns(100_000_000)
    assert (await house.ask("get_ticker", symbol="BTCUSDT")).refusal is None


async def test_a_stepped_back_clock_refills_no_rate() -> None:
    house = House()
    for _ in range(40):
        await house.ask("get_ticker", symbol="BTCUSDT")
    house.clock.advance_ns(-3_600_000_000_000)
    assert (await house.ask("get_ticker", symbol="BTCUSDT")).refusal.code is ReasonCode.TOOL_RATE_EXCEEDED


async def test_calls_beyond_places_and_queue_are_turned_away_and_cost_no_budget() -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def waiting(context: ToolContext, arguments: Nothing) -> Note:
        inside.set()
        await go_on.wait()
        return Note(as_of_ns=context.ports.clock.now_ns(), note="done")

    house = House()
    limits = GatewayLimits(max_calls_per_run=4, in_flight_calls=1, queued_calls=0)
    house = House(registry=tool(waiting), limiter=Limiter(limits, house.clock))
    first = asyncio.create_task(house.ask("get_ticker", run_id="run-1"))
    await inside.wait()
    turned_away = await house.ask("get_ticker", run_id="run-1")
    assert turned_away.refusal.code is ReasonCode.TOOL_RATE_EXCEEDED
    assert turned_away.refusal.unit == "calls waiting"
    go_on.set()
    assert (await first).refusal is None
    for _ in range(3):
        assert (await house.ask("get_ticker", run_id="run-1")).refusal is None


async def test_a_tool_past_its_deadline_is_stopped() -> None:
    stopped = asyncio.Event()

    async def endless(context: ToolContext, arguments: Nothing) -> Note:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError

    house = House(registry=tool(endless, timeout_ms=10))
    result = await house.ask("get_ticker")
    assert result.refusal.code is ReasonCode.TOOL_DEADLINE_EXCEEDED
    assert (result.refusal.limit, result.refusal.unit) == ("10", "ms")
    assert stopped.is_set()
    assert house.trail.actions() == [Action.TOOL_REFUSED]


async def test_what_breaks_inside_is_told_by_trace_id_only() -> None:
    house = House()
    house.engine.failing = RuntimeError("secret internals at /home/someone")
    sent = call("get_ticker", {"symbol": "BTCUSDT"})
    result = await house.gateway.call(sent)
    assert result.refusal is not None
    assert result.refusal.code is ReasonCode.TOOL_FAILED
    assert sent.trace.trace_id in result.refusal.message
    assert "internals" not in result.refusal.message
    assert house.trail.actions() == [Action.TOOL_REFUSED]


async def test_a_job_writes_its_durable_intent_before_it_executes() -> None:
    order: list[str] = []

    async def run(context: ToolContext, arguments: Nothing) -> Note:
        order.extend(house.trail.log)
        return Note(as_of_ns=context.ports.clock.now_ns(), note="begun")

    house = House(registry=tool(run, kind="compute", is_job=True))
    assert (await house.ask("get_ticker")).refusal is None
    assert order == [Action.TOOL_INTENDED.value]
    house.trail.failing_on = {Action.TOOL_INTENDED}
    assert (await house.ask("get_ticker")).refusal.code is ReasonCode.SERVICE_AUDIT_UNAVAILABLE
    assert len(order) == 1


async def test_an_engine_refusal_passes_with_its_own_code() -> None:
    house = House()
    house.engine.failing = refuse(ReasonCode.SERVICE_ENGINE_UNAVAILABLE, "The engine is down.")
    result = await house.ask("get_ticker", symbol="BTCUSDT")
    assert result.refusal.code is ReasonCode.SERVICE_ENGINE_UNAVAILABLE
    assert house.trail.records[0].outcome == "SERVICE_ENGINE_UNAVAILABLE"


async def test_results_are_stamped_with_time_mode_and_scope() -> None:
    house = House()
    result = await house.ask("get_positions")
    assert (result.as_of_ns, result.mode, result.scope) == (house.clock.now_ns(), "PAPER", (f"account:{ACCOUNT}",))
    assert house.trail.records[0].payload["mode"] == "PAPER"
    assert house.results.stored[result.call_id].account_id == ACCOUNT


@pytest.mark.parametrize(
    ("name", "arguments", "source"),
    [
        ("get_ticker", {"symbol": "BTCUSDT"}, ("engine:market", "venue:paper")),
        ("get_positions", {}, ("engine:portfolio", "venue:paper")),
        ("search_reviews", {"query": "losses"}, ("sql:reviews",)),
    ],
)
async def test_a_result_and_its_record_say_where_the_data_came_from(
    name: str, arguments: dict[str, Any], source: tuple[str, ...]
) -> None:
    house = House()
    result = await house.ask(name, **arguments)
    assert result.source == source
    assert house.trail.records[0].payload["source"] == list(source)


async def test_a_refusal_came_from_nowhere() -> None:
    house = House()
    result = await house.ask("get_ticker", symbol="DOGEUSDT")
    assert (result.source, "source" in house.trail.records[0].payload) == ((), False)


async def test_the_schema_of_the_result_is_recorded_by_its_digest() -> None:
    house = House()
    await house.ask("get_ticker", symbol="BTCUSDT")
    tool = build_registry().get("get_ticker")
    digest = hashlib.sha256(rfc8785.dumps(tool.output_schema)).hexdigest()
    assert house.trail.records[0].payload["output_schema_digest"] == tool.output_digest_hex == digest


async def test_secrets_in_results_and_arguments_are_redacted_before_they_leave() -> None:
    key = "AKIAIOSFODNN7EXAMPLE someone@example.com"
    house = House(registry=tool(saying(key)))
    result = await house.ask("get_ticker")
    assert "someone@example.com" not in result.data["note"]
    assert b"someone@example.com" not in house.results.stored[result.call_id].canonical
    reviews = House()
    await reviews.ask("search_reviews", query="mails of someone@example.com")
    assert "someone@example.com" not in str(reviews.trail.records[0].payload)


async def test_cancelling_a_call_releases_nothing() -> None:
    inside = asyncio.Event()

    async def endless(context: ToolContext, arguments: Nothing) -> Note:
        inside.set()
        await asyncio.Event().wait()
        raise AssertionError

    house = House(registry=tool(endless))
    task = asyncio.create_task(house.ask("get_ticker"))
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert house.results.stored == {}
