"""The tools of backtests: what they hand to the job, which bars they choose, and what they refuse."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from audit.record import Action
from core.types.codes import ReasonCode
from tests.tools.backtest_doubles import DONE_BACKTEST, done_report
from tests.tools.doubles import House, call
from tests.tools.people import NOW_NS, TRADER

MINUTE_NS = 60_000_000_000


async def run(house: House, **arguments: Any) -> Any:
    return await house.ask("run_backtest", **{"symbol": "BTCUSDT", "strategy": "buy_and_hold"} | arguments)


async def test_the_engines_bars_go_into_the_job_exactly() -> None:
    house = House()
    result = await run(house, source="engine", capital_quote="2500.5", latency_ms=5, parameters={"share_bps": 4_000})
    assert result.refusal is None, result.refusal
    (job,) = house.backtests.jobs
    assert job.rows == [
        (NOW_NS - 3 * MINUTE_NS, 10_000, 11_000, 9_500, 10_500, 150_000),
        (NOW_NS - 2 * MINUTE_NS, 10_500, 12_000, 10_400, 11_800, 150_000),
        (NOW_NS - 1 * MINUTE_NS, 11_800, 11_900, 9_000, 9_900, 150_000),
    ]
    assert (job.source, job.stored, job.interval) == ("engine", None, "1m")
    assert (job.specification.capital_quote, job.specification.terms.latency_ms) == ("2500.5", 5)
    assert job.specification.parameters == {"share_bps": 4_000}
    assert (job.instrument.tick_size, job.instrument.min_notional) == (1, 5 * 10**7)
    assert (result.data["source_of_bars"], result.data["bars_known"]) == ("engine", "3")
    assert (result.data["backtest"]["status"], result.data["backtest"]["tries"]) == ("queued", "1")


async def test_an_agents_backtest_is_its_owners_to_answer_for() -> None:
    house = House()
    agent = msgspec.structs.replace(TRADER, user_id="agent-1", kind="agent", on_behalf_of="user-owner")
    asked = call("run_backtest", {"symbol": "BTCUSDT", "strategy": "buy_and_hold"}, agent)
    assert (await house.gateway.call(asked)).refusal is None
    assert house.backtests.people == [("agent-1", "user-owner")]


async def test_a_recording_is_taken_where_it_reaches_farther() -> None:
    house = House()
    (ended_yesterday,) = house.backtests.recordings
    last_ns = NOW_NS - 1_440 * MINUTE_NS
    house.backtests.recordings = [msgspec.structs.replace(ended_yesterday, last_ns=last_ns)]
    result = await run(house, days=3)
    (job,) = house.backtests.jobs
    assert job.stored is not None
    assert (job.rows, job.stored.recorded, job.stored.from_ns) == (
        [],
        house.backtests.recordings[0],
        NOW_NS - (3 + 1) * 1_440 * MINUTE_NS,
    ), "three days of what there is, which ends a day ago"
    assert (result.data["source_of_bars"], result.data["bars_known"]) == ("recorded:binance:trade", None)
    house.backtests.recordings = [
        msgspec.structs.replace(house.backtests.recordings[0], first_ns=NOW_NS - MINUTE_NS, last_ns=NOW_NS)
    ]
    assert (await run(house)).data["source_of_bars"] == "engine"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ({"source": "recorded"}, ReasonCode.MARKET_NO_DATA, "veloz record"),
        ({"strategy": "sma_cross"}, ReasonCode.MARKET_NO_DATA, "veloz data import"),
        ({"symbol": "DOGEUSDT"}, ReasonCode.MARKET_INSTRUMENT_UNKNOWN, "DOGEUSDT"),
        ({"strategy": "momentum"}, ReasonCode.TOOL_ARGUMENTS_INVALID, "sma_cross"),
        ({"parameters": {"fast": 3}}, ReasonCode.TOOL_ARGUMENTS_INVALID, "fast"),
        ({"strategy": "sma_cross", "parameters": {"fast": 9, "slow": 9}}, ReasonCode.TOOL_ARGUMENTS_INVALID, "below"),
        ({"interval": "2m"}, ReasonCode.TOOL_ARGUMENTS_INVALID, "interval"),
        ({"days": 367}, ReasonCode.TOOL_ARGUMENTS_INVALID, "days"),
        ({"capital_quote": "9"}, ReasonCode.TOOL_ARGUMENTS_INVALID, "capital_quote"),
        ({"account_id": "acct-other"}, ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE, ""),
    ],
    ids=str,
)
async def test_what_cannot_be_run_is_refused_before_anything_is_queued(
    arguments: dict[str, Any], code: ReasonCode, says: str
) -> None:
    house = House()
    house.backtests.recordings = []
    result = await run(house, **arguments)
    assert result.refusal is not None
    assert result.refusal.code is code
    assert says in result.refusal.message
    assert house.backtests.jobs == []


async def test_too_few_bars_say_how_many_are_needed() -> None:
    house = House()
    house.backtests.recordings = []
    refusal = (await run(house, strategy="sma_cross", parameters={"fast": 1, "slow": 2})).refusal
    assert (refusal.limit, refusal.actual, refusal.unit) == ("4", "3", "bars")


async def test_the_intent_is_recorded_before_the_job_is_queued() -> None:
    house = House()
    house.trail.failing_on.add(Action.TOOL_INTENDED)
    refused = await run(house)
    assert refused.refusal.code is ReasonCode.SERVICE_AUDIT_UNAVAILABLE
    assert house.backtests.jobs == []


async def test_a_done_one_shows_its_report_to_the_cell() -> None:
    house = House()
    data = (await house.ask("get_backtest", backtest_id=DONE_BACKTEST)).data
    report, shown = msgspec.to_builtins(done_report()), data["report"]
    assert data["backtest"]["status"] == "done"
    assert shown["metrics"] == report["metrics"]
    assert shown["data"] == report["data"]
    assert shown["warnings"] == report["warnings"]
    assert len(shown["curve"]) == len(report["curve"])
    assert (shown["mode"], shown["kernel_digest"]) == ("BACKTEST", report["kernel_digest"])


async def test_a_queued_one_has_no_report_and_can_be_stopped() -> None:
    house = House()
    backtest_id = (await run(house)).data["backtest"]["backtest_id"]
    assert (await house.ask("get_backtest", backtest_id=backtest_id)).data["report"] is None
    assert (await house.ask("stop_backtest", backtest_id=backtest_id)).data["backtest"]["status"] == "stopped"
    assert (await house.ask("stop_backtest", backtest_id=DONE_BACKTEST)).data["backtest"]["status"] == "done"


async def test_lists_go_on() -> None:
    house = House()
    for _ in range(2):
        await run(house)
    page = (await house.ask("list_backtests", limit=2)).data
    assert (page["count"], page["next_before"]) == ("2", page["backtests"][-1]["backtest_id"])
    rest = (await house.ask("list_backtests", limit=2, before=page["next_before"])).data
    assert ([row["backtest_id"] for row in rest["backtests"]], rest["next_before"]) == ([DONE_BACKTEST], None)


@pytest.mark.parametrize("tool", ["get_backtest", "stop_backtest"])
async def test_one_that_there_is_not_is_refused(tool: str) -> None:
    refused = await House().ask(tool, TRADER, backtest_id="01NONE")
    assert refused.refusal.code is ReasonCode.RESOURCE_NOT_FOUND
